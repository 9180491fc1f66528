//! One vinetd for one name.
//!
//! Holding a [`Lock`] proves that no other process on this machine runs under the same name; the kernel takes it back
//! when the process ends, however it ends.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The lock of one name.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not had. The operator is at fault.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it.
    Held {
        /// The router's name.
        name: String,
        /// The process, where it wrote its number.
        pid: Option<u32>,
    },
    /// The lock file cannot be made.
    Unusable {
        /// The file or its folder.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { name, pid } => {
                write!(f, "a router named `{name}` runs already")?;
                if let Some(pid) = pid {
                    write!(f, " (process {pid})")?;
                }
                f.write_str("; stop it, or give this one another [router] name")
            }
            LockError::Unusable { path, reason } => {
                write!(f, "{}: {reason}; run as root, or set [router] run_dir to a folder of yours", path.display())
            }
        }
    }
}
impl std::error::Error for LockError {}

impl Lock {
    /// Takes the lock of `name` in `dir`, which is made where it is missing.
    ///
    /// # Errors
    /// It is held, or the file cannot be made.
    pub fn take(dir: &Path, name: &str) -> Result<Lock, LockError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |reason| LockError::Unusable { path, reason }
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(unusable(dir))?;
        let path = dir.join(format!("{name}.lock"));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .map_err(unusable(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The number is only for the message.
                let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut pid);
                return Err(LockError::Held { name: name.to_owned(), pid: pid.trim().parse().ok() });
            }
            Err(TryLockError::Error(reason)) => return Err(unusable(&path)(reason)),
        }
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(unusable(&path))?;
        Ok(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_had_once_and_free_again_after_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path(), "edge1").unwrap();
        let text = Lock::take(dir.path(), "edge1").unwrap_err().to_string();
        assert!(text.contains(&format!("`edge1` runs already (process {})", std::process::id())), "{text}");
        Lock::take(dir.path(), "edge2").unwrap();
        drop(first);
        Lock::take(dir.path(), "edge1").unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let text = Lock::take(Path::new("/proc/nope"), "edge1").unwrap_err().to_string();
        assert!(text.contains("/proc/nope") && text.contains("run_dir"), "{text}");
    }
}
