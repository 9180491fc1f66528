//! What is asked of the kernel about one interface: its link, its addresses, the routes and rules over it.
//!
//! Every request is idempotent, because twins outlive the daemon: what is there already is left as it is. Addresses and
//! routes that come from the configuration carry a protocol number of our own ([`OWN_PROTOCOL`]), so that a changed
//! configuration takes back exactly what an earlier one put there, and never what an operator or a routing daemon did.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc::{EAFNOSUPPORT, EEXIST, ENODEV, ENOENT, ESRCH};
use vinet_trusted::addr::{Addr, Prefix};

use super::netlink::{NetlinkError, Rtnl};

/// The `proto` of addresses and routes that come from our configuration, as `ip route` shows it.
/// Free in /etc/iproute2/rt_protos and in linux/rtnetlink.h.
pub const OWN_PROTOCOL: u8 = 86;

/// The preference of the rules that keep transit out of the twins: right behind the local table, before all others.
const TRANSIT_RULE_PREFERENCE: u32 = 1;

/// A link, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it takes frames for other stations too.
    pub promiscuous: bool,
    /// Its Ethernet address; `None` for a link of another kind.
    pub mac: Option<[u8; 6]>,
    /// The largest IP packet in bytes.
    pub mtu: u32,
}

/// Changes to a link; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkChange {
    /// Administratively up or down.
    pub up: Option<bool>,
    /// Takes frames for other stations too.
    pub promiscuous: Option<bool>,
    /// The Ethernet address.
    pub mac: Option<[u8; 6]>,
    /// The largest IP packet in bytes.
    pub mtu: Option<u32>,
}

/// Where a route of the configuration leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaticTarget {
    /// Out of the interface of this index, to the next hop or, without one, to the destination itself.
    Link {
        /// The interface, a twin.
        index: u32,
        /// The next hop.
        via: Option<Addr>,
    },
    /// To a next hop that the kernel finds the interface for.
    Via(Addr),
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere, with an answer to the sender.
    Unreachable,
}

/// A route of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticRoute {
    /// The destinations.
    pub prefix: Prefix,
    /// Where they are.
    pub target: StaticTarget,
    /// Its metric; the lowest wins. `None` leaves it to the kernel (0 for IPv4, 1024 for IPv6).
    pub metric: Option<u32>,
}

impl Rtnl {
    /// The link of this index.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] with `ENODEV` where there is none.
    pub fn link(&mut self, index: u32) -> Result<LinkState, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let request = || format!("show interface {index}");
        let Some(RouteNetlinkMessage::NewLink(link)) = self.get(RouteNetlinkMessage::GetLink(message), &request)?
        else {
            return Err(NetlinkError::Garbled { request: request(), reason: "no link in it".into() });
        };
        let mut state = LinkState {
            up: link.header.flags.contains(LinkFlags::Up),
            promiscuous: link.header.flags.contains(LinkFlags::Promisc),
            mac: None,
            mtu: 0,
        };
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::Address(mac) => state.mac = mac.try_into().ok(),
                LinkAttribute::Mtu(mtu) => state.mtu = mtu,
                _ => {}
            }
        }
        Ok(state)
    }

    /// Changes the link of this index.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`], for one where the device cannot take the MTU or the address.
    pub fn change_link(&mut self, index: u32, change: LinkChange) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        for (flag, value) in [(LinkFlags::Up, change.up), (LinkFlags::Promisc, change.promiscuous)] {
            if let Some(value) = value {
                message.header.change_mask |= flag;
                message.header.flags.set(flag, value);
            }
        }
        message.attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        message.attributes.extend(change.mtu.map(LinkAttribute::Mtu));
        self.change(RouteNetlinkMessage::SetLink(message), 0, &|| format!("change interface {index}: {change:?}"))
    }

    /// Deletes the link of this index; done already where there is none.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`], for one where the device is not one that can be deleted.
    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        unless(self.change(RouteNetlinkMessage::DelLink(message), 0, &|| format!("delete interface {index}")), ENODEV)
    }

    /// The addresses of the interface of this index with their prefix lengths, and whether each is ours.
    ///
    /// # Errors
    /// [`NetlinkError`], none of which is expected.
    pub(super) fn addresses(&mut self, index: u32) -> Result<Vec<(Addr, u8, bool)>, NetlinkError> {
        let dump = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let objects = self.dump(dump, &|| "list addresses".into())?;
        let mut addresses = Vec::new();
        for object in objects {
            let RouteNetlinkMessage::NewAddress(message) = object else { continue };
            if message.header.index != index {
                continue;
            }
            let own = message.attributes.contains(&AddressAttribute::Protocol(AddressProtocol::Other(OWN_PROTOCOL)));
            if let Some(addr) = interface_address(&message) {
                addresses.push((addr, message.header.prefix_len, own));
            }
        }
        Ok(addresses)
    }

    /// Makes `wanted` (an address and its prefix length each) the addresses of ours on the interface of this index.
    /// Addresses that others put there stay.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] with what the kernel does not take.
    pub(super) fn set_addresses(&mut self, index: u32, wanted: &[(Addr, u8)]) -> Result<(), NetlinkError> {
        for (addr, len, own) in self.addresses(index)? {
            if own && !wanted.contains(&(addr, len)) {
                let message = address_message(index, addr, len);
                let request = || format!("remove address {addr}/{len} from interface {index}");
                self.change(RouteNetlinkMessage::DelAddress(message), 0, &request)?;
            }
        }
        for &(addr, len) in wanted {
            let request = || format!("add address {addr}/{len} to interface {index}");
            let message = RouteNetlinkMessage::NewAddress(address_message(index, addr, len));
            unless(self.change(message, NLM_F_CREATE | NLM_F_EXCL, &request), EEXIST)?;
        }
        Ok(())
    }

    /// Makes `wanted` the routes of ours in the main table; routes that others put there stay.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] with the route that the kernel does not take: most often because its next hop is not on
    /// the link of any interface.
    pub fn set_static_routes(&mut self, wanted: &[StaticRoute]) -> Result<(), NetlinkError> {
        let dump = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        let objects = self.dump(dump, &|| "list routes".into())?;
        for route in wanted {
            self.change(RouteNetlinkMessage::NewRoute(route.message()), NLM_F_CREATE | NLM_F_REPLACE, &|| {
                format!("install the static route to {}: {:?}", route.prefix, route.target)
            })?;
        }
        for object in objects {
            let RouteNetlinkMessage::NewRoute(old) = object else { continue };
            let Some(prefix) = route_prefix(&old) else { continue };
            let own = old.header.protocol == RouteProtocol::Other(OWN_PROTOCOL)
                && old.header.table == RouteHeader::RT_TABLE_MAIN;
            // One prefix with one metric is one route: `replace` above has put the wanted one over the old one.
            if own && !wanted.iter().any(|new| new.prefix == prefix && new.kernel_metric() == route_metric(&old)) {
                let mut message = RouteMessage::default();
                message.header = old.header;
                let kept = |attribute: &RouteAttribute| {
                    matches!(
                        attribute,
                        RouteAttribute::Destination(_) | RouteAttribute::Priority(_) | RouteAttribute::Oif(_)
                    )
                };
                message.attributes = old.attributes.into_iter().filter(kept).collect();
                let request = || format!("remove the static route to {prefix}");
                unless(self.change(RouteNetlinkMessage::DelRoute(message), 0, &request), ESRCH)?;
            }
        }
        Ok(())
    }

    /// Keeps transit out of the kernel: what comes in on the interface `name` and is not for this host dies there.
    ///
    /// The worker never writes transit to a twin. But an address may go while a packet to it is on the way to the twin,
    /// and the kernel would then forward that packet, past every program. The rule stands behind the local table and
    /// before all others, so it matches exactly that.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`]: this needs policy routing in the kernel (CONFIG_IP_MULTIPLE_TABLES, and its IPv6 twin).
    pub(super) fn forbid_transit(&mut self, name: &str) -> Result<(), NetlinkError> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let message = RouteNetlinkMessage::NewRule(transit_rule(family, name));
            let request = || format!("add the rule that nothing from {name} is forwarded");
            match unless(self.change(message, NLM_F_CREATE | NLM_F_EXCL, &request), EEXIST) {
                // A kernel without IPv6 forwards none.
                Err(error) if family == AddressFamily::Inet6 && error.refusal() == Some(EAFNOSUPPORT) => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Takes back [`Rtnl::forbid_transit`].
    ///
    /// # Errors
    /// [`NetlinkError`], none of which is expected.
    pub(super) fn allow_transit(&mut self, name: &str) -> Result<(), NetlinkError> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let message = RouteNetlinkMessage::DelRule(transit_rule(family, name));
            match unless(self.change(message, 0, &|| format!("remove the rule for {name}")), ENOENT) {
                Err(error) if family == AddressFamily::Inet6 && error.refusal() == Some(EAFNOSUPPORT) => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Makes the kernel find out or confirm the Ethernet address of `addr`, as if a packet to it had been sent.
    ///
    /// A new or failed neighbour is solicited by broadcast or multicast, a stale one is asked by unicast after a delay of
    /// 5 s (RFC 4861 section 7.3.3; `neigh_event_send` of the kernel for both families). Not for permanent neighbours:
    /// the kernel would make them ordinary ones.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] with `ENOBUFS` where the kernel's neighbour table is full, `ENODEV` where the interface
    /// is gone.
    pub(super) fn use_neighbour(&mut self, index: u32, addr: Addr) -> Result<(), NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(addr);
        message.header.ifindex = index;
        message.header.flags = NeighbourFlags::Use;
        message.attributes.push(NeighbourAttribute::Destination(match IpAddr::from(addr) {
            IpAddr::V4(addr) => NeighbourAddress::Inet(addr),
            IpAddr::V6(addr) => NeighbourAddress::Inet6(addr),
        }));
        self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE, &|| {
            format!("look for the neighbour {addr} on interface {index}")
        })
    }
}

impl StaticRoute {
    fn kernel_metric(&self) -> u32 {
        match (self.metric, self.prefix.addr()) {
            (Some(metric), Addr::V4(_)) => metric,
            (None, Addr::V4(_)) => 0,
            (Some(0) | None, Addr::V6(_)) => 1024,
            (Some(metric), Addr::V6(_)) => metric,
        }
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(self.prefix.addr());
        message.header.destination_prefix_length = self.prefix.len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Other(OWN_PROTOCOL);
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Destination(IpAddr::from(self.prefix.addr()).into()));
        message.attributes.extend(self.metric.map(RouteAttribute::Priority));
        let gateway = match self.target {
            StaticTarget::Link { index, via } => {
                message.attributes.push(RouteAttribute::Oif(index));
                if via.is_none() {
                    message.header.scope = RouteScope::Link;
                }
                via
            }
            StaticTarget::Via(via) => Some(via),
            StaticTarget::Blackhole => {
                message.header.kind = RouteType::BlackHole;
                None
            }
            StaticTarget::Unreachable => {
                message.header.kind = RouteType::Unreachable;
                None
            }
        };
        message.attributes.extend(gateway.map(|via| RouteAttribute::Gateway(RouteAddress::from(IpAddr::from(via)))));
        message
    }
}

/// Done where the request succeeded or the kernel said that it was done already.
fn unless(result: Result<(), NetlinkError>, done: i32) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.refusal() == Some(done) => Ok(()),
        result => result,
    }
}

pub(super) fn family(addr: Addr) -> AddressFamily {
    match addr {
        Addr::V4(_) => AddressFamily::Inet,
        Addr::V6(_) => AddressFamily::Inet6,
    }
}

/// The interface's own address: `IFA_LOCAL` where the link is point-to-point, then `IFA_ADDRESS` is the peer's.
pub(super) fn interface_address(message: &AddressMessage) -> Option<Addr> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(addr) => return Some(Addr::from(*addr)),
            AddressAttribute::Address(addr) => found = Some(Addr::from(*addr)),
            _ => {}
        }
    }
    found
}

/// The destinations of a route, or `None` where they are of another family.
pub(super) fn route_prefix(message: &RouteMessage) -> Option<Prefix> {
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => Addr::V4(0),
        AddressFamily::Inet6 => Addr::V6(0),
        _ => return None,
    };
    let addr = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(addr)) => Some(Addr::V4(addr.to_bits())),
        RouteAttribute::Destination(RouteAddress::Inet6(addr)) => Some(Addr::V6(addr.to_bits())),
        _ => None,
    });
    Prefix::new(addr.unwrap_or(unspecified), message.header.destination_prefix_length)
}

/// The metric of a route; the lowest wins.
pub(super) fn route_metric(message: &RouteMessage) -> u32 {
    let metric = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    };
    message.attributes.iter().find_map(metric).unwrap_or(0)
}

fn address_message(index: u32, addr: Addr, len: u8) -> AddressMessage {
    let ip = IpAddr::from(addr);
    let mut message = AddressMessage::default();
    message.header.family = family(addr);
    message.header.prefix_len = len;
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    match (addr, Prefix::of(addr, len)) {
        (Addr::V4(_), Some(prefix)) if len < 31 => {
            if let IpAddr::V4(broadcast) = IpAddr::from(prefix.last()) {
                message.attributes.push(AddressAttribute::Broadcast(broadcast));
            }
        }
        (Addr::V6(_), _) => {
            // See `tap`: nobody would read the probes of duplicate address detection at the start.
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        _ => {}
    }
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(OWN_PROTOCOL)));
    message
}

fn transit_rule(family: AddressFamily, name: &str) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.action = RuleAction::Blackhole;
    message.attributes = vec![
        RuleAttribute::Iifname(name.into()),
        RuleAttribute::Priority(TRANSIT_RULE_PREFERENCE),
        RuleAttribute::Protocol(RouteProtocol::Other(OWN_PROTOCOL)),
    ];
    message
}
