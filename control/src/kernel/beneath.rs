//! The Linux interface beneath a port of the af_packet or af_xdp driver, kept from answering by itself.
//!
//! Such a port shares its interface with the kernel: without more, the kernel would answer ARP, pings and TCP on it a
//! second time, beside the router. Holding a [`Beneath`] proves that it does not: what arrives is dropped at the
//! netfilter ingress, behind the AF_PACKET socket and the XDP program that take it for the port; there is no address to
//! answer for (an interface with addresses is refused, its addresses belong on the port); `arp_ignore=8`; IPv6 is off. It
//! is also up and promiscuous, and hands over packets as they were on the wire: receive offloads that merge them are off.
//!
//! It is to be held before the driver opens the interface, and let go after the driver has closed it. [`Beneath::undo`],
//! or dropping it, puts everything back as it was found, except IPv6 link-local addresses, which the kernel makes anew.
//! After a crash the ingress drop is gone, as the kernel sees to; the other settings stay as they are here.
//!
//! What it cannot do: where the interface is one end of a veth pair, the other end hands over packets whose checksums are
//! not filled in and which are longer than the MTU. That is switched off there: `ethtool -K DEVICE tx off tso off gso
//! off`.

use std::fmt;
use std::io;

use nix::libc::{EBUSY, EOPNOTSUPP};
use vinet_tap_sys::Offload;
use vinet_trusted::addr::Addr;

use super::device::{LinkChange, LinkState};
use super::netlink::{NetlinkError, Rtnl};
use super::nft::IngressDrop;
use super::sysctl::{self, Ip, SysctlError};

const SETTINGS: [(Ip, &str, &str); 2] = [(Ip::V4, "arp_ignore", "8"), (Ip::V6, "disable_ipv6", "1")];
const OFFLOADS: [Offload; 2] = [Offload::Gro, Offload::Lro];

/// Why an interface cannot be kept beneath a port.
#[derive(Debug)]
pub enum BeneathError {
    /// There is no such interface.
    NoInterface {
        /// Its name.
        name: String,
    },
    /// The interface has addresses, so the host itself uses it.
    HasAddresses {
        /// Its name.
        name: String,
        /// Its addresses with their prefix lengths.
        addresses: Vec<(Addr, u8)>,
    },
    /// Another process keeps it beneath a port of its own.
    Held {
        /// Its name.
        name: String,
    },
    /// The kernel refused a change.
    Netlink {
        /// The interface.
        name: String,
        /// What it said.
        source: NetlinkError,
    },
    /// A setting of the interface cannot be made.
    Sysctl(SysctlError),
    /// An offload of the interface cannot be switched.
    Offload {
        /// The interface.
        name: String,
        /// The offload.
        offload: Offload,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for BeneathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BeneathError::NoInterface { name } => {
                write!(f, "interface {name}: there is none of this name in this network namespace (see `ip link`)")
            }
            BeneathError::HasAddresses { name, addresses } => {
                write!(f, "interface {name} has addresses of its own (")?;
                for (i, (addr, len)) in addresses.iter().enumerate() {
                    write!(f, "{}{addr}/{len}", if i == 0 { "" } else { ", " })?;
                }
                write!(
                    f,
                    "), but the router is to have it for itself: give them to the port, under `addresses`, and remove them \
                     with `ip address flush dev {name}`"
                )
            }
            BeneathError::Held { name } => {
                write!(f, "interface {name} is beneath a port of another process already: is another vinetd running?")
            }
            BeneathError::Netlink { name, source } => {
                write!(f, "interface {name}: {source}")?;
                if source.refusal() == Some(EOPNOTSUPP) {
                    write!(f, " (this needs a kernel with nf_tables for interfaces, CONFIG_NF_TABLES_NETDEV)")?;
                }
                Ok(())
            }
            BeneathError::Sysctl(source) => write!(f, "interface beneath a port: {source}"),
            BeneathError::Offload { name, offload, source } => {
                write!(f, "interface {name}: cannot switch {offload:?}: {source}")
            }
        }
    }
}
impl std::error::Error for BeneathError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BeneathError::Netlink { source, .. } => Some(source),
            BeneathError::Sysctl(source) => Some(source),
            BeneathError::Offload { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What is to be put back, in the order in which it was changed.
#[derive(Debug)]
enum Found {
    Sysctl { ip: Ip, setting: &'static str, value: String },
    Offload(Offload),
    Link(LinkState),
    Ingress(IngressDrop),
}

/// An interface beneath a port.
#[derive(Debug)]
pub struct Beneath {
    name: String,
    index: u32,
    found: Vec<Found>,
}

impl Beneath {
    /// Takes the interface `name` from the kernel, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`BeneathError`]; what was changed by then is put back.
    pub fn hold(rtnl: &mut Rtnl, name: &str) -> Result<Beneath, BeneathError> {
        let index =
            nix::net::if_::if_nametoindex(name).map_err(|_| BeneathError::NoInterface { name: name.to_owned() })?;
        let mut beneath = Beneath { name: name.to_owned(), index, found: Vec::new() };
        match beneath.take(rtnl) {
            Ok(()) => Ok(beneath),
            Err(error) => {
                // The first error says what is wrong; one in putting back would only follow from it.
                let _ = beneath.undo(rtnl);
                Err(error)
            }
        }
    }

    /// The name of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn take(&mut self, rtnl: &mut Rtnl) -> Result<(), BeneathError> {
        let name = self.name.clone();
        let netlink_error = |source| BeneathError::Netlink { name: name.clone(), source };
        let addresses = rtnl.addresses(self.index).map_err(netlink_error)?;
        let addresses: Vec<(Addr, u8)> =
            addresses.into_iter().map(|(addr, len, _)| (addr, len)).filter(|(addr, _)| !is_link_local(*addr)).collect();
        if !addresses.is_empty() {
            return Err(BeneathError::HasAddresses { name, addresses });
        }

        let held = IngressDrop::hold(&name).map_err(|source| match source.refusal() {
            Some(EBUSY) => BeneathError::Held { name: name.clone() },
            _ => BeneathError::Netlink { name: name.clone(), source },
        })?;
        self.found.push(Found::Ingress(held));

        for (ip, setting, value) in SETTINGS {
            let Some(before) = sysctl::read(ip, &name, setting).map_err(BeneathError::Sysctl)? else { continue };
            if before != value {
                sysctl::write(ip, &name, setting, value).map_err(BeneathError::Sysctl)?;
                self.found.push(Found::Sysctl { ip, setting, value: before });
            }
        }
        for offload in OFFLOADS {
            // A device without the switch does not merge packets.
            if vinet_tap_sys::offload(&name, offload).unwrap_or(false) {
                vinet_tap_sys::set_offload(&name, offload, false).map_err(|source| BeneathError::Offload {
                    name: name.clone(),
                    offload,
                    source,
                })?;
                self.found.push(Found::Offload(offload));
            }
        }
        let before = rtnl.link(self.index).map_err(netlink_error)?;
        if !before.up || !before.promiscuous {
            let change = LinkChange { up: Some(true), promiscuous: Some(true), ..LinkChange::default() };
            rtnl.change_link(self.index, change).map_err(netlink_error)?;
            self.found.push(Found::Link(before));
        }
        Ok(())
    }

    /// Puts everything back as it was found.
    ///
    /// # Errors
    /// The first [`BeneathError`]; what can be put back, is.
    pub fn undo(mut self, rtnl: &mut Rtnl) -> Result<(), BeneathError> {
        self.put_back(rtnl)
    }

    fn put_back(&mut self, rtnl: &mut Rtnl) -> Result<(), BeneathError> {
        let mut first = Ok(());
        // Backwards, so that the interface answers again only when all else is as it was.
        while let Some(found) = self.found.pop() {
            let name = &self.name;
            let done = match found {
                Found::Sysctl { ip, setting, value } => {
                    sysctl::write(ip, name, setting, &value).map(drop).map_err(BeneathError::Sysctl)
                }
                Found::Offload(offload) => vinet_tap_sys::set_offload(name, offload, true)
                    .map_err(|source| BeneathError::Offload { name: name.clone(), offload, source }),
                Found::Link(before) => {
                    let change = LinkChange {
                        up: Some(before.up),
                        promiscuous: Some(before.promiscuous),
                        ..LinkChange::default()
                    };
                    rtnl.change_link(self.index, change)
                        .map_err(|source| BeneathError::Netlink { name: name.clone(), source })
                }
                Found::Ingress(held) => {
                    held.release().map_err(|source| BeneathError::Netlink { name: name.clone(), source })
                }
            };
            first = first.and(done);
        }
        first
    }
}

impl Drop for Beneath {
    fn drop(&mut self) {
        if self.found.is_empty() {
            return;
        }
        // Nobody is left to tell; `undo` is for those who want to know.
        if let Ok(mut rtnl) = Rtnl::open() {
            let _ = self.put_back(&mut rtnl);
        }
    }
}

fn is_link_local(addr: Addr) -> bool {
    match std::net::IpAddr::from(addr) {
        std::net::IpAddr::V6(addr) => addr.is_unicast_link_local(),
        std::net::IpAddr::V4(_) => false,
    }
}
