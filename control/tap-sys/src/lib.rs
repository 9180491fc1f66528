//! The few ioctls of Linux that have no safe wrapper: TAP devices, and the on/off switches of old-style ethtool.
//!
//! Every function takes plain values and gives an `io::Error` with the kernel's own number; nothing is kept here. It is
//! a crate of its own so that the daemon can forbid unsafe code.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// The longest interface name, in bytes.
pub const NAME_LEN_MAX: usize = libc::IFNAMSIZ - 1;

/// Opens the TAP device `name`, making it where there is none, in the network namespace of the calling thread.
///
/// Frames carry no packet information header; reads and writes never wait. The device goes when the descriptor is
/// closed, unless it is made persistent.
///
/// # Errors
/// `EINVAL` where a device of another kind has the name or the name is no interface name, `EBUSY` where another process
/// holds the device, `EPERM` without CAP_NET_ADMIN, and what opening `/dev/net/tun` gives.
pub fn open_tap(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    let mut request = interface_request(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open for the whole call, and TUNSETIFF reads and writes exactly one `ifreq`, which
    // `request` is.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    result(status)?;
    Ok(file)
}

/// Whether the TAP device behind `tap` stays when the descriptor is closed.
///
/// # Errors
/// What the kernel gives; none is expected on a descriptor of [`open_tap`].
pub fn set_persistent(tap: BorrowedFd<'_>, persistent: bool) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call, and TUNSETPERSIST takes its argument by value.
    let status = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETPERSIST, libc::c_ulong::from(persistent)) };
    result(status)
}

/// Switches the carrier of the TAP device behind `tap`.
///
/// # Errors
/// `EINVAL` before Linux 5.0.
pub fn set_carrier(tap: BorrowedFd<'_>, up: bool) -> io::Result<()> {
    let carrier = libc::c_int::from(up);
    // SAFETY: the descriptor is borrowed for the call, and TUNSETCARRIER reads one `int`, which `carrier` is.
    let status = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETCARRIER, &raw const carrier) };
    result(status)
}

/// The switches of old-style ethtool that are of use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Generic receive offload: the kernel merges received packets of one TCP flow.
    Gro,
    /// Large receive offload: the device merges them.
    Lro,
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_SGRO: u32 = 0x2c;
const ETH_FLAG_LRO: u32 = 1 << 15;

/// Whether `offload` is on at the interface `name`.
///
/// # Errors
/// `ENODEV` where there is no such interface, `EOPNOTSUPP` where it has no such switch.
pub fn offload(name: &str, offload: Offload) -> io::Result<bool> {
    let value = match offload {
        Offload::Gro => ethtool(name, ETHTOOL_GGRO, 0)?,
        Offload::Lro => ethtool(name, ETHTOOL_GFLAGS, 0)? & ETH_FLAG_LRO,
    };
    Ok(value != 0)
}

/// Switches `offload` at the interface `name`.
///
/// # Errors
/// As [`offload`], and `EPERM` without CAP_NET_ADMIN.
pub fn set_offload(name: &str, offload: Offload, on: bool) -> io::Result<()> {
    match offload {
        Offload::Gro => ethtool(name, ETHTOOL_SGRO, u32::from(on))?,
        Offload::Lro => {
            let others = ethtool(name, ETHTOOL_GFLAGS, 0)? & !ETH_FLAG_LRO;
            ethtool(name, ETHTOOL_SFLAGS, others | if on { ETH_FLAG_LRO } else { 0 })?
        }
    };
    Ok(())
}

/// One command with one word, in and out.
fn ethtool(name: &str, cmd: u32, data: u32) -> io::Result<u32> {
    // SAFETY: `socket` takes plain values.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    result(socket)?;
    // SAFETY: `socket` is an open descriptor (checked just above) and nothing else owns it.
    let socket = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket) };
    let mut value = EthtoolValue { cmd, data };
    let mut request = interface_request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the kernel reads one `ifreq` and, through its data pointer, reads and writes one `ethtool_value` (all
    // commands used here take that structure); both live on this frame until after the call.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    result(status)?;
    Ok(value.data)
}

/// A zeroed `ifreq` with `name` in it.
fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    if name.is_empty() || name.len() > NAME_LEN_MAX || name.contains(['\0', '%', '/']) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `ifreq` is a C structure of integers, and a union of integers and raw pointers: all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn result(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_interface_names_are_refused() {
        // `%` would make the kernel choose a number.
        for name in ["", "a-name-of-16-byte", "vi%d", "a/b", "a\0b"] {
            assert_eq!(open_tap(name).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{name:?}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_has_no_offloads() {
        assert_eq!(offload("vinet-nowhere", Offload::Gro).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
