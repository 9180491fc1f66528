//! The kernel's routes, as far as a router forwards by them, and the one target that each prefix comes to.
//!
//! What counts: the tables local and main, unicast destinations, routes without a type of service. What does not: other
//! tables and VRFs, routes by source, cached routes; multicast, link-local and loopback destinations, which a router
//! does not forward (RFC 4291 section 2.5.6, RFC 1122 section 3.2.1.3) and the worker knows by itself.
//!
//! Of the routes to one prefix: an address of this host before all else; then the lowest metric, among those over a port
//! with a carrier and those that say "nowhere". A route of several next hops leads to the first that is on such a port.
//! Where all that is left leads to interfaces that are no ports (a management network), the target is
//! [`Target::Unreachable`]: transit leaves by ports only, and must not slip to a shorter prefix either.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType, RouteVia,
};
use vinet_trusted::addr::{Addr, Prefix};

use super::PortIndex;
use super::device::{route_metric, route_prefix};

/// RT_TABLE_LOCAL of linux/rtnetlink.h.
const TABLE_LOCAL: u32 = 255;
const TABLE_MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// Where packets to a prefix go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the router itself: through the twin of the port where they came in.
    Local,
    /// Out of a port.
    Via {
        /// The port.
        port: PortIndex,
        /// The next hop; `None` where the destination itself is on the link.
        gateway: Option<Addr>,
    },
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere, and the sender is told: no route, or one over an interface that is no port.
    Unreachable,
    /// Nowhere, and the sender is told that it is forbidden.
    Prohibit,
}

/// What the choice of a route asks about an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A port, with a carrier.
    Port(PortIndex),
    /// A port that is down or without a carrier.
    PortDown,
    /// No port.
    Elsewhere,
}

/// One next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hop {
    interface: u32,
    gateway: Option<Addr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Local,
    Unicast(Vec<Hop>),
    Blackhole,
    Unreachable,
    Prohibit,
}

/// A route that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destinations.
    pub prefix: Prefix,
    main: bool,
    metric: u32,
    kind: Kind,
}

impl Route {
    /// The route of a message, or `None` where it does not count (see the head of this file).
    #[must_use]
    pub fn of(message: &RouteMessage) -> Option<Route> {
        let header = &message.header;
        let table = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
        let main = match table.unwrap_or(u32::from(header.table)) {
            TABLE_MAIN => true,
            TABLE_LOCAL => false,
            _ => return None,
        };
        if header.tos != 0 || header.source_prefix_length != 0 || header.flags.contains(RouteFlags::Cloned) {
            return None;
        }
        let prefix = route_prefix(message).filter(|prefix| !never_forwarded(*prefix))?;
        let kind = match header.kind {
            RouteType::Local | RouteType::Broadcast | RouteType::Anycast => Kind::Local,
            RouteType::Unicast => Kind::Unicast(hops(message)),
            RouteType::BlackHole => Kind::Blackhole,
            // `throw` ends the search of a table, and nothing is behind the main table.
            RouteType::Unreachable | RouteType::Throw => Kind::Unreachable,
            RouteType::Prohibit => Kind::Prohibit,
            _ => return None,
        };
        Some(Route { prefix, main, metric: route_metric(message), kind })
    }
}

/// Link-local, multicast and loopback: not for forwarding.
fn never_forwarded(prefix: Prefix) -> bool {
    let within = |addr: Addr, len: u8| Prefix::of(addr, len).is_some_and(|range| range.covers(prefix));
    within(Addr::V6(0xfe80 << 112), 10)
        || within(Addr::V6(0xff00 << 112), 8)
        || within(Addr::V6(1), 128)
        || within(Addr::V4(0xe000_0000), 4)
        || within(Addr::V4(0x7f00_0000), 8)
        || prefix == Prefix::host(Addr::V4(u32::MAX))
}

fn hops(message: &RouteMessage) -> Vec<Hop> {
    let mut hop = Hop { interface: 0, gateway: None };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(interface) => hop.interface = *interface,
            RouteAttribute::MultiPath(hops) => {
                let hop_of = |hop: &netlink_packet_route::route::RouteNextHop| Hop {
                    interface: hop.interface_index,
                    gateway: hop.attributes.iter().find_map(gateway),
                };
                return hops.iter().map(hop_of).collect();
            }
            other => hop.gateway = gateway(other).or(hop.gateway),
        }
    }
    vec![hop]
}

fn gateway(attribute: &RouteAttribute) -> Option<Addr> {
    let ip: IpAddr = match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(addr)) | RouteAttribute::Via(RouteVia::Inet(addr)) => (*addr).into(),
        RouteAttribute::Gateway(RouteAddress::Inet6(addr)) | RouteAttribute::Via(RouteVia::Inet6(addr)) => {
            (*addr).into()
        }
        _ => return None,
    };
    Some(Addr::from(ip)).filter(|addr| !matches!(addr, Addr::V4(0) | Addr::V6(0)))
}

/// Whether the table is sure to be the kernel's after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Certainty {
    /// It is.
    Sure,
    /// The message does not say enough: several routes share its prefix and metric, and which of them is meant, or in
    /// which order they stand, only a dump tells.
    Unsure,
}

/// The routes that count, by prefix.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: BTreeMap<Prefix, Vec<Route>>,
}

impl RouteTable {
    /// Takes up a route of a dump: in the order in which the kernel prefers those of equal metric.
    pub fn dumped(&mut self, route: Route) {
        let routes = self.routes.entry(route.prefix).or_default();
        if !routes.contains(&route) {
            routes.push(route);
        }
    }

    /// Takes up an announced route; `replaces` where the announcement says that it replaces the one of its prefix and
    /// metric (NLM_F_REPLACE).
    pub fn announced(&mut self, route: Route, replaces: bool) -> Certainty {
        let routes = self.routes.entry(route.prefix).or_default();
        let equal = |old: &Route| old.main == route.main && old.metric == route.metric;
        let rivals = routes.iter().filter(|old| equal(old)).count();
        if routes.contains(&route) {
            return if replaces && rivals > 1 { Certainty::Unsure } else { Certainty::Sure };
        }
        if replaces && rivals == 1 {
            routes.retain(|old| !equal(old));
        }
        routes.push(route);
        if rivals == 0 || (replaces && rivals == 1) { Certainty::Sure } else { Certainty::Unsure }
    }

    /// Forgets a route.
    pub fn withdrawn(&mut self, route: &Route) -> Certainty {
        let Entry::Occupied(mut entry) = self.routes.entry(route.prefix) else {
            return Certainty::Sure;
        };
        let routes = entry.get_mut();
        let certainty = match routes.iter().position(|old| old == route) {
            Some(i) => {
                routes.remove(i);
                Certainty::Sure
            }
            // One next hop of several went, or the message leaves them out.
            None if routes.iter().any(|old| old.main == route.main && old.metric == route.metric) => Certainty::Unsure,
            None => Certainty::Sure,
        };
        if routes.is_empty() {
            entry.remove();
        }
        certainty
    }

    /// Every prefix that has a route, rising.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        self.routes.keys().copied()
    }

    /// Where packets to exactly this prefix go; `None` where that is for a shorter prefix to say.
    pub fn target(&self, prefix: Prefix, way: &dyn Fn(u32) -> Way) -> Option<Target> {
        let routes = self.routes.get(&prefix)?;
        if routes.iter().any(|route| route.kind == Kind::Local) {
            return Some(Target::Local);
        }
        let mut elsewhere = false;
        // The sort is stable: equal metrics stay in the kernel's order.
        let mut by_metric: Vec<&Route> = routes.iter().collect();
        by_metric.sort_by_key(|route| (route.main, route.metric));
        for route in by_metric {
            match &route.kind {
                Kind::Local => return Some(Target::Local),
                Kind::Blackhole => return Some(Target::Blackhole),
                Kind::Unreachable => return Some(Target::Unreachable),
                Kind::Prohibit => return Some(Target::Prohibit),
                Kind::Unicast(hops) => {
                    for hop in hops {
                        match way(hop.interface) {
                            Way::Port(port) => return Some(Target::Via { port, gateway: hop.gateway }),
                            Way::PortDown => {}
                            Way::Elsewhere => elsewhere = true,
                        }
                    }
                }
            }
        }
        elsewhere.then_some(Target::Unreachable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (addr, len) = text.split_once('/').unwrap();
        Prefix::new(Addr::from(addr.parse::<IpAddr>().unwrap()), len.parse().unwrap()).unwrap()
    }

    fn unicast(to: &str, metric: u32, interfaces: &[u32]) -> Route {
        let hops = interfaces.iter().map(|&interface| Hop { interface, gateway: None }).collect();
        Route { prefix: prefix(to), main: true, metric, kind: Kind::Unicast(hops) }
    }

    /// Interfaces 1 to 9 are ports of that number, 10 to 19 ports without carrier, the others no ports.
    fn way(interface: u32) -> Way {
        match interface {
            1..10 => Way::Port(interface as PortIndex),
            10..20 => Way::PortDown,
            _ => Way::Elsewhere,
        }
    }

    fn target_of(routes: &[Route]) -> Option<Target> {
        let mut table = RouteTable::default();
        for route in routes {
            table.dumped(route.clone());
        }
        table.target(routes[0].prefix, &way)
    }

    fn via(port: PortIndex) -> Option<Target> {
        Some(Target::Via { port, gateway: None })
    }

    #[test]
    fn the_lowest_metric_with_a_carrier_wins() {
        let to = "10.0.0.0/8";
        assert_eq!(target_of(&[unicast(to, 20, &[2]), unicast(to, 10, &[1])]), via(1));
        assert_eq!(target_of(&[unicast(to, 20, &[2]), unicast(to, 10, &[11])]), via(2));
        assert_eq!(target_of(&[unicast(to, 10, &[11, 3])]), via(3), "the first next hop with a carrier");
        assert_eq!(target_of(&[unicast(to, 10, &[2]), unicast(to, 10, &[1])]), via(2), "the kernel's order");
        assert_eq!(target_of(&[unicast(to, 10, &[11])]), None, "a shorter prefix may still lead there");
    }

    #[test]
    fn routes_over_other_interfaces_give_way_to_ports_and_else_lead_nowhere() {
        let to = "0.0.0.0/0";
        assert_eq!(target_of(&[unicast(to, 0, &[99]), unicast(to, 100, &[1])]), via(1));
        assert_eq!(target_of(&[unicast(to, 0, &[99])]), Some(Target::Unreachable));
        assert_eq!(target_of(&[unicast(to, 0, &[99]), unicast(to, 100, &[11])]), Some(Target::Unreachable));
    }

    #[test]
    fn an_address_of_this_host_comes_first() {
        let own = Route { prefix: prefix("10.0.0.1/32"), main: false, metric: 0, kind: Kind::Local };
        assert_eq!(target_of(&[unicast("10.0.0.1/32", 0, &[1]), own]), Some(Target::Local));
    }

    #[test]
    fn a_replacement_takes_the_place_of_the_one_route_and_of_several_only_a_dump_tells() {
        let to = "10.0.0.0/8";
        let mut table = RouteTable::default();
        assert_eq!(table.announced(unicast(to, 10, &[1]), false), Certainty::Sure);
        assert_eq!(table.announced(unicast(to, 10, &[1]), false), Certainty::Sure, "told twice");
        assert_eq!(table.announced(unicast(to, 10, &[2]), true), Certainty::Sure);
        assert_eq!(table.target(prefix(to), &way), via(2));
        assert_eq!(table.announced(unicast(to, 20, &[3]), false), Certainty::Sure, "another metric is another route");
        assert_eq!(table.announced(unicast(to, 10, &[4]), false), Certainty::Unsure);
        assert_eq!(table.announced(unicast(to, 10, &[5]), true), Certainty::Unsure);
    }

    #[test]
    fn a_withdrawal_of_what_is_not_there_is_sure_only_without_rivals() {
        let to = "10.0.0.0/8";
        let mut table = RouteTable::default();
        assert_eq!(table.withdrawn(&unicast(to, 10, &[1])), Certainty::Sure);
        let _ = table.announced(unicast(to, 10, &[1, 2]), false);
        assert_eq!(table.withdrawn(&unicast(to, 20, &[1])), Certainty::Sure);
        assert_eq!(table.withdrawn(&unicast(to, 10, &[1])), Certainty::Unsure, "a part of a multipath route");
        assert_eq!(table.withdrawn(&unicast(to, 10, &[1, 2])), Certainty::Sure);
        assert_eq!(table.prefixes().count(), 0);
        assert_eq!(table.target(prefix(to), &way), None);
    }

    #[test]
    fn what_is_never_forwarded_does_not_count() {
        for to in [
            "fe80::/64",
            "fe80::1/128",
            "ff00::/8",
            "ff02::1/128",
            "::1/128",
            "127.0.0.0/8",
            "127.0.0.1/32",
            "224.0.0.0/4",
            "255.255.255.255/32",
        ] {
            assert!(never_forwarded(prefix(to)), "{to}");
        }
        for to in ["0.0.0.0/0", "::/0", "10.0.0.0/8", "2001:db8::/32", "fc00::/7"] {
            assert!(!never_forwarded(prefix(to)), "{to}");
        }
    }
}
