//! The settings of one interface under `/proc/sys/net`.
//!
//! `/proc/sys/net` shows the network namespace of the thread that opens a file in it, so no path names a namespace.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// An IP version, as the folder names of `/proc/sys/net` have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// `ipv4`
    V4,
    /// `ipv6`
    V6,
}

/// A setting cannot be read or written.
#[derive(Debug)]
pub struct SysctlError {
    /// The file of the setting.
    pub path: PathBuf,
    /// The value that was to be written; `None` where it was read.
    pub value: Option<String>,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for SysctlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "cannot write {value} to {}: {}", self.path.display(), self.source),
            None => write!(f, "cannot read {}: {}", self.path.display(), self.source),
        }
    }
}
impl std::error::Error for SysctlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

fn path(ip: Ip, interface: &str, setting: &str) -> PathBuf {
    let version = match ip {
        Ip::V4 => "ipv4",
        Ip::V6 => "ipv6",
    };
    PathBuf::from(format!("/proc/sys/net/{version}/conf/{interface}/{setting}"))
}

/// The value of a setting, or `None` where this kernel has no such setting (IPv6 may be off altogether).
pub fn read(ip: Ip, interface: &str, setting: &str) -> Result<Option<String>, SysctlError> {
    let path = path(ip, interface, setting);
    match std::fs::read_to_string(&path) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SysctlError { path, value: None, source }),
    }
}

/// Writes a setting. `false` where this kernel has none of this name.
pub fn write(ip: Ip, interface: &str, setting: &str, value: &str) -> Result<bool, SysctlError> {
    let path = path(ip, interface, setting);
    match std::fs::write(&path, value) {
        Ok(()) => Ok(true),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(SysctlError { path, value: Some(value.to_owned()), source }),
    }
}
