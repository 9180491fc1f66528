//! What the kernel has told so far: links, addresses, routes, neighbours.
//!
//! A [`State`] takes one netlink message after another and says what each touched. It knows nothing of sockets: the
//! mirror feeds it, from a dump or from announcements.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_REPLACE, NetlinkBuffer, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState as KernelState,
};
use netlink_packet_route::route::RouteMessage;
use vinet_trusted::addr::{Addr, Prefix};

use super::device::interface_address;
use super::routes::{Certainty, Route, RouteTable};

/// Message types of linux/rtnetlink.h.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// Flags of a link, linux/if.h.
const IFF_UP: u32 = 1 << 0;
const IFF_LOWER_UP: u32 = 1 << 16;

/// What is known of the Ethernet address of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// It has this Ethernet address.
    Usable([u8; 6]),
    /// The kernel is asking.
    Incomplete,
    /// It did not answer.
    Failed,
}

/// A neighbour with what only the resolver asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) state: NeighbourState,
    /// Usable, but not confirmed for some time: to be asked again, else the kernel may forget it.
    pub(super) stale: bool,
    /// Set by hand: not to be asked.
    pub(super) permanent: bool,
}

/// An address of this host that can be the source of its own packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnAddress {
    /// Whether hosts on other links can answer to it.
    global: bool,
    secondary: bool,
}

/// What a message touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touched {
    /// Nothing that counts.
    Nothing,
    /// The routes to one prefix.
    Route(Prefix, Certainty),
    /// One neighbour, by interface and address.
    Neighbour(u32, Addr),
    /// The addresses of this host. Unsure after an IPv4 one went: before Linux 6.7 the kernel drops the routes that prefer
    /// it as their source without a message for each (`fib_sync_down_addr`).
    Addresses(Certainty),
    /// A link came, went, or changed. Unsure after one went down, since the kernel drops the IPv4 routes over it without
    /// a message for each (`fib_flush`).
    Link(Certainty),
    /// A next hop object changed: which routes use it, the message does not say.
    NextHop,
}

/// What the kernel has told so far.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Whether each interface is up and has a carrier.
    links: HashMap<u32, bool>,
    addresses: BTreeMap<(u32, Addr), OwnAddress>,
    pub(super) routes: RouteTable,
    neighbours: HashMap<(u32, Addr), Neighbour>,
}

impl State {
    /// Takes up one message; `dumped` where it is part of a dump and not an announcement.
    ///
    /// # Errors
    /// What is wrong with a message that cannot be read. The state is as before.
    pub(super) fn take(&mut self, message: &NetlinkBuffer<&[u8]>, dumped: bool) -> Result<Touched, String> {
        let payload = message.payload();
        match message.message_type() {
            kind @ (RTM_NEWLINK | RTM_DELLINK) => self.take_link(payload, kind == RTM_NEWLINK),
            kind @ (RTM_NEWADDR | RTM_DELADDR) => {
                let message = AddressMessage::parse(payload).map_err(|error| error.to_string())?;
                Ok(self.take_address(&message, kind == RTM_NEWADDR))
            }
            kind @ (RTM_NEWROUTE | RTM_DELROUTE) => {
                // Byte 0 is the family; others (bridges, MPLS) have attributes of their own.
                if !payload.first().is_some_and(|family| is_ip(AddressFamily::from(*family))) {
                    return Ok(Touched::Nothing);
                }
                let parsed = RouteMessage::parse(payload).map_err(|error| error.to_string())?;
                let Some(route) = Route::of(&parsed) else { return Ok(Touched::Nothing) };
                let prefix = route.prefix;
                let certainty = match (kind, dumped) {
                    (RTM_DELROUTE, _) => self.routes.withdrawn(&route),
                    (_, true) => {
                        self.routes.dumped(route);
                        Certainty::Sure
                    }
                    (_, false) => self.routes.announced(route, message.flags() & NLM_F_REPLACE != 0),
                };
                Ok(Touched::Route(prefix, certainty))
            }
            kind @ (RTM_NEWNEIGH | RTM_DELNEIGH) => {
                if !payload.first().is_some_and(|family| is_ip(AddressFamily::from(*family))) {
                    return Ok(Touched::Nothing);
                }
                let message = NeighbourMessage::parse(payload).map_err(|error| error.to_string())?;
                Ok(self.take_neighbour(&message, kind == RTM_NEWNEIGH))
            }
            RTM_NEWNEXTHOP | RTM_DELNEXTHOP => Ok(Touched::NextHop),
            _ => Ok(Touched::Nothing),
        }
    }

    /// Reads `struct ifinfomsg` alone: the attributes of a link grow with every kernel, and none is needed here.
    fn take_link(&mut self, payload: &[u8], there: bool) -> Result<Touched, String> {
        let word = |at: usize| payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        let (Some(index), Some(flags)) = (word(4), word(8)) else {
            return Err(format!("a link message of {} bytes", payload.len()));
        };
        // Bridges announce their ports with a family of their own, and take them away without the link going.
        if payload[0] != 0 {
            return Ok(Touched::Nothing);
        }
        let up = flags & IFF_UP != 0 && flags & IFF_LOWER_UP != 0;
        let before = if there { self.links.insert(index, up) } else { self.links.remove(&index) };
        if there && before == Some(up) {
            return Ok(Touched::Nothing);
        }
        Ok(Touched::Link(if there && before.is_none() { Certainty::Sure } else { Certainty::Unsure }))
    }

    fn take_address(&mut self, message: &AddressMessage, there: bool) -> Touched {
        let Some(addr) = interface_address(message) else { return Touched::Nothing };
        let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
        for attribute in &message.attributes {
            if let AddressAttribute::Flags(all) = attribute {
                flags = *all;
            }
        }
        let key = (message.header.index, addr);
        let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
        if there && !flags.intersects(unusable) {
            let global = message.header.scope == AddressScope::Universe && !is_local(addr);
            let own = OwnAddress { global, secondary: flags.contains(AddressFlags::Secondary) };
            if self.addresses.insert(key, own) == Some(own) {
                return Touched::Nothing;
            }
            Touched::Addresses(Certainty::Sure)
        } else {
            self.addresses.remove(&key);
            Touched::Addresses(if matches!(addr, Addr::V4(_)) { Certainty::Unsure } else { Certainty::Sure })
        }
    }

    fn take_neighbour(&mut self, message: &NeighbourMessage, there: bool) -> Touched {
        let mut destination = None;
        let mut mac = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) => {
                    destination = Some(Addr::from(IpAddr::from(*addr)));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)) => {
                    destination = Some(Addr::from(IpAddr::from(*addr)));
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
                _ => {}
            }
        }
        let Some(addr) = destination.filter(|addr| !is_multicast(*addr)) else { return Touched::Nothing };
        let key = (message.header.ifindex, addr);
        let kernel = message.header.state;
        let state = match (kernel, mac) {
            (
                KernelState::Reachable
                | KernelState::Stale
                | KernelState::Delay
                | KernelState::Probe
                | KernelState::Permanent
                | KernelState::Noarp,
                Some(mac),
            ) => Some(NeighbourState::Usable(mac)),
            (KernelState::Incomplete, _) => Some(NeighbourState::Incomplete),
            (KernelState::Failed, _) => Some(NeighbourState::Failed),
            _ => None,
        };
        let neighbour = state.filter(|_| there).map(|state| Neighbour {
            state,
            stale: kernel == KernelState::Stale,
            permanent: matches!(kernel, KernelState::Permanent | KernelState::Noarp),
        });
        let before = match neighbour {
            Some(neighbour) => self.neighbours.insert(key, neighbour),
            None => self.neighbours.remove(&key),
        };
        if before == neighbour { Touched::Nothing } else { Touched::Neighbour(key.0, addr) }
    }

    /// Whether the interface is up and has a carrier.
    pub(super) fn is_up(&self, interface: u32) -> bool {
        self.links.get(&interface).copied().unwrap_or(false)
    }

    /// The kernel was made to look for this neighbour. `false` where its address is known: then it stays so.
    pub(super) fn asked(&mut self, interface: u32, addr: Addr) -> bool {
        let known = self.neighbour(interface, addr).map(|neighbour| neighbour.state);
        let unknown = !matches!(known, Some(NeighbourState::Usable(_)));
        if unknown {
            let neighbour = Neighbour { state: NeighbourState::Incomplete, stale: false, permanent: false };
            self.neighbours.insert((interface, addr), neighbour);
        }
        unknown
    }

    pub(super) fn neighbour(&self, interface: u32, addr: Addr) -> Option<Neighbour> {
        self.neighbours.get(&(interface, addr)).copied()
    }

    pub(super) fn neighbours(&self) -> impl Iterator<Item = (u32, Addr, Neighbour)> {
        self.neighbours.iter().map(|(&(interface, addr), &neighbour)| (interface, addr, neighbour))
    }

    /// The source of packets that this host sends out of `interface` by itself: a global address of the interface, else
    /// one of the host (RFC 1812 section 4.3.2.4); of several the lowest, primary ones first, so that it is always the
    /// same.
    pub(super) fn source(&self, interface: u32, v4: bool) -> Option<Addr> {
        self.addresses
            .iter()
            .filter(|((_, addr), own)| own.global && matches!(addr, Addr::V4(_)) == v4)
            .min_by_key(|((index, addr), own)| (*index != interface, own.secondary, *addr))
            .map(|((_, addr), _)| *addr)
    }
}

fn is_ip(family: AddressFamily) -> bool {
    matches!(family, AddressFamily::Inet | AddressFamily::Inet6)
}

fn is_multicast(addr: Addr) -> bool {
    match IpAddr::from(addr) {
        IpAddr::V4(addr) => addr.is_multicast() || addr.is_broadcast(),
        IpAddr::V6(addr) => addr.is_multicast(),
    }
}

/// Loopback and link-local: not to be seen from another link.
fn is_local(addr: Addr) -> bool {
    match IpAddr::from(addr) {
        IpAddr::V4(addr) => addr.is_loopback() || addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_loopback() || addr.is_unicast_link_local(),
    }
}
