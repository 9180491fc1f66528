//! The TAP twin of a port: the interface through which the kernel is the router's slow path.
//!
//! Holding a [`Twin`] proves that the interface exists, is up, carries the port's Ethernet address and MTU and the
//! configured addresses, and that no other process reads its frames. What the kernel sends out of it is to be sent out of
//! the port; what arrives at the port for the router itself is to be written to it. It is persistent: it stays, with its
//! addresses and routes, when the daemon ends, and is taken over by the next one.
//!
//! Settings, beyond what the operator has chosen for the host:
//! - no duplicate address detection: its probe goes out when the address is set, before the workers poll, so nobody would
//!   read it, and it would succeed after a second without having asked anyone. The addresses are the operator's choice;
//! - forwarding on in both versions: routing daemons expect it, and ND tells hosts that this is a router (RFC 4861, the
//!   R bit). No router advertisement or redirect is heeded, none is sent. Nothing that comes in is ever forwarded by the
//!   kernel all the same: a rule sees to that (`Rtnl::forbid_transit`), whatever the race between an address that goes
//!   and a packet to it;
//! - `arp_ignore=1`, `arp_announce=2`: ARP answers and asks with addresses of this very interface, since every port is a
//!   link of its own; `rp_filter=0`: sources were validated by the worker, and the answer to a packet may well leave by
//!   another port;
//! - routes over a twin without carrier are ignored, in the kernel as in the mirror.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::libc::{EBUSY, EINVAL, EIO, ENOBUFS};
use vinet_trusted::addr::Addr;

use super::device::LinkChange;
use super::netlink::{NetlinkError, Rtnl};
use super::sysctl::{self, Ip, SysctlError};

/// The longest frame that is read from a twin: the largest IP packet, two VLAN tags and the Ethernet header.
const FRAME_LEN_MAX: usize = 65_535 + 8 + 14;

/// The settings of a twin's interface, and why: see the head of this file.
const SETTINGS: [(Ip, &str, &str); 16] = [
    (Ip::V4, "forwarding", "1"),
    (Ip::V4, "rp_filter", "0"),
    (Ip::V4, "arp_ignore", "1"),
    (Ip::V4, "arp_announce", "2"),
    (Ip::V4, "accept_redirects", "0"),
    (Ip::V4, "send_redirects", "0"),
    (Ip::V4, "accept_source_route", "0"),
    (Ip::V4, "ignore_routes_with_linkdown", "1"),
    (Ip::V6, "disable_ipv6", "0"),
    (Ip::V6, "accept_dad", "0"),
    (Ip::V6, "dad_transmits", "0"),
    (Ip::V6, "forwarding", "1"),
    (Ip::V6, "accept_ra", "0"),
    (Ip::V6, "accept_redirects", "0"),
    (Ip::V6, "keep_addr_on_down", "1"),
    (Ip::V6, "ignore_routes_with_linkdown", "1"),
];

/// Why a twin cannot be made or used.
#[derive(Debug)]
pub enum TapError {
    /// The TAP device cannot be opened.
    Open {
        /// The interface.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The TAP device does not do what is asked.
    Device {
        /// The interface.
        name: String,
        /// What was asked.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused a change of the interface.
    Netlink {
        /// The interface.
        name: String,
        /// What it said.
        source: NetlinkError,
    },
    /// A setting of the interface cannot be made.
    Sysctl(SysctlError),
}

impl fmt::Display for TapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TapError::Open { name, source } => {
                write!(f, "TAP twin {name}: {source}")?;
                match source.raw_os_error() {
                    Some(EBUSY) => write!(f, " (another process holds it: is another vinetd running?)"),
                    Some(EINVAL) => {
                        write!(
                            f,
                            " (an interface of this name is there and is no TAP: give the port another `tap` name)"
                        )
                    }
                    _ if source.kind() == io::ErrorKind::NotFound => {
                        write!(f, " (/dev/net/tun is missing: `modprobe tun`)")
                    }
                    _ if source.kind() == io::ErrorKind::PermissionDenied => {
                        write!(f, " (run as root or with CAP_NET_ADMIN)")
                    }
                    _ => Ok(()),
                }
            }
            TapError::Device { name, doing, source } => write!(f, "TAP twin {name}: {doing}: {source}"),
            TapError::Netlink { name, source } => write!(f, "TAP twin {name}: {source}"),
            TapError::Sysctl(source) => write!(f, "TAP twin: {source}"),
        }
    }
}
impl std::error::Error for TapError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TapError::Open { source, .. } | TapError::Device { source, .. } => Some(source),
            TapError::Netlink { source, .. } => Some(source),
            TapError::Sysctl(source) => Some(source),
        }
    }
}

/// What a twin is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinSettings {
    /// The name of the interface, at most 15 bytes.
    pub name: String,
    /// The port's Ethernet address.
    pub mac: [u8; 6],
    /// The port's MTU: the largest IP packet in bytes.
    pub mtu: u16,
    /// The router's addresses on the port, each with its prefix length.
    pub addresses: Vec<(Addr, u8)>,
}

/// What became of a frame that was written to a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has it.
    Taken,
    /// The kernel would not have it: the interface is down, the frame is shorter than a header, memory is short.
    Refused,
}

/// The TAP twin of a port.
#[derive(Debug)]
pub struct Twin {
    name: String,
    index: u32,
    file: File,
    carrier: bool,
    frame: Vec<u8>,
}

impl Twin {
    /// Opens the twin, making it where there is none, in the network namespace of the calling thread. The carrier is on.
    ///
    /// # Errors
    /// [`TapError`] with the step that failed. What was made by then stays, and the next call goes on from there.
    pub fn open(rtnl: &mut Rtnl, settings: &TwinSettings) -> Result<Twin, TapError> {
        let name = settings.name.clone();
        let file = vinet_tap_sys::open_tap(&name).map_err(|source| TapError::Open { name: name.clone(), source })?;
        vinet_tap_sys::set_persistent(file.as_fd(), true).map_err(device_error(&name, "make it persistent"))?;
        let index = nix::net::if_::if_nametoindex(name.as_str())
            .map_err(|error| device_error(&name, "find its index")(error.into()))?;
        let netlink_error = |source| TapError::Netlink { name: name.clone(), source };

        // The rule comes first: from the moment the interface is up, nothing that comes in is forwarded.
        rtnl.forbid_transit(&name).map_err(netlink_error)?;
        let link = rtnl.link(index).map_err(netlink_error)?;
        let mtu = u32::from(settings.mtu);
        let mac = Some(settings.mac);
        if link.mac != mac || link.mtu != mtu {
            let change = LinkChange { mac, mtu: Some(mtu), ..LinkChange::default() };
            rtnl.change_link(index, change).map_err(netlink_error)?;
        }
        // Duplicate address detection has to be off before the interface comes up with its link-local address.
        for (ip, setting, value) in SETTINGS {
            sysctl::write(ip, &name, setting, value).map_err(TapError::Sysctl)?;
        }
        vinet_tap_sys::set_carrier(file.as_fd(), true).map_err(device_error(&name, "set its carrier"))?;
        let change = LinkChange { up: Some(true), ..LinkChange::default() };
        rtnl.change_link(index, change).map_err(netlink_error)?;
        rtnl.set_addresses(index, &settings.addresses).map_err(netlink_error)?;
        Ok(Twin { name, index, file, carrier: true, frame: vec![0; FRAME_LEN_MAX] })
    }

    /// The name of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the interface in its network namespace.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Takes at most `frames_max` frames that the kernel wants sent, in order, and gives each to `take`. `true` where
    /// there may be more: the next call need not wait for the interface to become readable.
    ///
    /// # Errors
    /// [`TapError::Device`], for one where the interface was deleted.
    pub fn receive(&mut self, frames_max: usize, mut take: impl FnMut(&[u8])) -> Result<bool, TapError> {
        for _ in 0..frames_max {
            match (&self.file).read(&mut self.frame) {
                Ok(len) => take(&self.frame[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(device_error(&self.name, "read a frame")(source)),
            }
        }
        Ok(true)
    }

    /// Gives the kernel a frame that arrived at the port, from the Ethernet header on.
    ///
    /// # Errors
    /// [`TapError::Device`] where the interface was deleted.
    pub fn send(&self, frame: &[u8]) -> Result<Sent, TapError> {
        match (&self.file).write(frame) {
            Ok(_) => Ok(Sent::Taken),
            // EIO: the interface is down (`tun_get_user`); EINVAL: the frame is too short or too long.
            Err(error) if matches!(error.raw_os_error(), Some(EIO | EINVAL | ENOBUFS)) => Ok(Sent::Refused),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Sent::Refused)
            }
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Ok(Sent::Refused),
            Err(source) => Err(device_error(&self.name, "write a frame")(source)),
        }
    }

    /// Makes the carrier of the interface follow the port's link.
    ///
    /// # Errors
    /// [`TapError::Device`].
    pub fn set_carrier(&mut self, up: bool) -> Result<(), TapError> {
        if self.carrier != up {
            vinet_tap_sys::set_carrier(self.file.as_fd(), up).map_err(device_error(&self.name, "set its carrier"))?;
            self.carrier = up;
        }
        Ok(())
    }

    /// Deletes the interface, with its addresses, routes and rule.
    ///
    /// # Errors
    /// [`TapError`].
    pub fn remove(self, rtnl: &mut Rtnl) -> Result<(), TapError> {
        vinet_tap_sys::set_persistent(self.file.as_fd(), false)
            .map_err(device_error(&self.name, "make it go with the daemon"))?;
        drop(self.file);
        rtnl.allow_transit(&self.name).map_err(|source| TapError::Netlink { name: self.name, source })
    }
}

fn device_error(name: &str, doing: &'static str) -> impl FnOnce(io::Error) -> TapError {
    let name = name.to_owned();
    move |source| TapError::Device { name, doing, source }
}

impl AsRawFd for Twin {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Source for Twin {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).register(registry, token, interests)
    }
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).reregister(registry, token, interests)
    }
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.as_raw_fd()).deregister(registry)
    }
}
