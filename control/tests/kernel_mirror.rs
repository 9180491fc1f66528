//! The mirror of the kernel's routes and neighbours, and neighbours on demand, in network namespaces. Needs root.

mod netns;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Instant;

use netns::{arp, ethernet, eventually, icmp6, in_namespace, ip, ip_batch, parse_arp, v6};
use vinet_control::kernel::device::{StaticRoute, StaticTarget};
use vinet_control::kernel::mirror::{Change, Mirror, NeighbourState, Target};
use vinet_control::kernel::netlink::Rtnl;
use vinet_control::kernel::resolve::{Outcome, Resolver};
use vinet_control::kernel::tap::{Twin, TwinSettings};
use vinet_trusted::addr::{Addr, Prefix};

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().unwrap())
}

fn prefix(text: &str) -> Prefix {
    let (net, len) = text.split_once('/').unwrap();
    Prefix::new(addr(net), len.parse().unwrap()).unwrap()
}

fn via(port: u16, gateway: &str) -> Option<Target> {
    Some(Target::Via { port, gateway: (!gateway.is_empty()).then(|| addr(gateway)) })
}

/// Port `n` with the addresses 10.n.0.1/24 and 2001:db8:n::1/64.
fn twin(rtnl: &mut Rtnl, n: u8) -> Twin {
    let addresses = vec![(addr(&format!("10.{n}.0.1")), 24), (addr(&format!("2001:db8:{n}::1")), 64)];
    Twin::open(rtnl, &TwinSettings { name: format!("vp{n}"), mac: [2, 0, 0, 0, 0, n], mtu: 1500, addresses }).unwrap()
}

/// Ports 1 and 2, their mirror, and `mgmt`, an interface that is no port.
struct Router {
    rtnl: Rtnl,
    twins: [Twin; 2],
    mirror: Mirror,
    changes: Vec<Change>,
}

impl Router {
    fn new() -> Router {
        Router::with(|twins| Mirror::open(twins).unwrap())
    }

    fn with(open: impl FnOnce(&[(u16, u32)]) -> Mirror) -> Router {
        let mut rtnl = Rtnl::open().unwrap();
        let twins = [twin(&mut rtnl, 1), twin(&mut rtnl, 2)];
        ip("link add mgmt type veth peer name mgmt-peer");
        ip("link set mgmt up");
        ip("link set mgmt-peer up");
        ip("address add 192.168.7.1/24 dev mgmt");
        let mirror = open(&[(1, twins[0].index()), (2, twins[1].index())]);
        let mut router = Router { rtnl, twins, mirror, changes: Vec::new() };
        router.settle();
        router.changes.clear();
        router
    }

    fn poll(&mut self) {
        while self.mirror.poll(Instant::now(), &mut self.changes).unwrap() {}
    }

    /// Until all that the kernel has sent is read and no resync is due.
    fn settle(&mut self) {
        eventually("the mirror settles", || {
            self.poll();
            self.mirror.is_settled().then_some(())
        });
    }

    fn target(&mut self, to: &str) -> Option<Target> {
        let wanted = prefix(to);
        self.mirror.routes().find(|(prefix, _)| *prefix == wanted).map(|(_, target)| target)
    }

    fn expect(&mut self, to: &str, target: Option<Target>) {
        eventually(&format!("{to} -> {target:?}"), || {
            self.poll();
            (self.target(to) == target).then_some(())
        });
    }

    /// The mirror of one who starts now.
    fn fresh(&self) -> Mirror {
        Mirror::open(&[(1, self.twins[0].index()), (2, self.twins[1].index())]).unwrap()
    }

    fn expect_equal_to_fresh(&mut self) {
        // The kernel may still be at work on IPv6 addresses of its own.
        eventually("the mirror equals a fresh one", || {
            self.settle();
            let fresh = self.fresh();
            let equal = fresh.routes().eq(self.mirror.routes())
                && fresh.neighbours().eq(self.mirror.neighbours())
                && fresh.sources().eq(self.mirror.sources())
                && fresh.links().eq(self.mirror.links());
            equal.then_some(())
        });
    }
}

#[test]
fn the_first_state_has_the_addresses_and_links_of_the_router() {
    in_namespace(|| {
        let mut router = Router::new();
        for own in ["10.1.0.1/32", "10.2.0.1/32", "2001:db8:1::1/128", "192.168.7.1/32", "10.1.0.255/32"] {
            router.expect(own, Some(Target::Local));
        }
        // The subnet-router anycast address (RFC 4291 section 2.6.1).
        router.expect("2001:db8:1::/128", Some(Target::Local));
        router.expect("10.1.0.0/24", via(1, ""));
        router.expect("2001:db8:2::/64", via(2, ""));
        router.expect("192.168.7.0/24", Some(Target::Unreachable));
        assert!(router.mirror.links().eq([(1, true), (2, true)]) || router.mirror.links().count() == 2);
        let sources: Vec<_> = router.mirror.sources().collect();
        assert_eq!(sources[0], (1, Some(addr("10.1.0.1")), Some(addr("2001:db8:1::1"))));
        assert_eq!(sources[1], (2, Some(addr("10.2.0.1")), Some(addr("2001:db8:2::1"))));
        for (prefix, _) in router.mirror.routes() {
            let text = prefix.to_string();
            assert!(!["127.", "fe80:", "ff", "224.", "::1"].iter().any(|local| text.starts_with(local)), "{text}");
        }
    });
}

#[test]
fn ip_route_just_works() {
    in_namespace(|| {
        let mut router = Router::new();
        for (command, to, target) in [
            ("route add 203.0.113.0/24 via 10.1.0.9", "203.0.113.0/24", via(1, "10.1.0.9")),
            ("route replace 203.0.113.0/24 via 10.2.0.9", "203.0.113.0/24", via(2, "10.2.0.9")),
            ("route add 203.0.113.0/24 via 10.1.0.7 metric 50", "203.0.113.0/24", via(2, "10.2.0.9")),
            ("route del 203.0.113.0/24 metric 0", "203.0.113.0/24", via(1, "10.1.0.7")),
            ("route del 203.0.113.0/24", "203.0.113.0/24", None),
            ("route add default via 10.1.0.9", "0.0.0.0/0", via(1, "10.1.0.9")),
            ("route add 198.51.100.0/24 dev vp2", "198.51.100.0/24", via(2, "")),
            ("route add 198.51.101.0/24 via 172.16.0.1 dev vp2 onlink", "198.51.101.0/24", via(2, "172.16.0.1")),
            ("route add blackhole 198.18.0.0/15", "198.18.0.0/15", Some(Target::Blackhole)),
            ("route add unreachable 198.20.0.0/15", "198.20.0.0/15", Some(Target::Unreachable)),
            ("route add prohibit 198.22.0.0/15", "198.22.0.0/15", Some(Target::Prohibit)),
            ("route add 10.200.0.0/16 via 192.168.7.9", "10.200.0.0/16", Some(Target::Unreachable)),
            ("route add 10.201.0.0/16 nexthop via 10.2.0.9 nexthop via 10.1.0.9", "10.201.0.0/16", via(2, "10.2.0.9")),
            ("route add 10.202.0.0/16 via inet6 fe80::9 dev vp1", "10.202.0.0/16", via(1, "fe80::9")),
            ("-6 route add 2001:db8:f::/48 via 2001:db8:1::9", "2001:db8:f::/48", via(1, "2001:db8:1::9")),
            ("-6 route replace 2001:db8:f::/48 via fe80::9 dev vp2", "2001:db8:f::/48", via(2, "fe80::9")),
            ("-6 route append 2001:db8:f::/48 via 2001:db8:1::7", "2001:db8:f::/48", via(2, "fe80::9")),
            ("-6 route del 2001:db8:f::/48 via fe80::9 dev vp2", "2001:db8:f::/48", via(1, "2001:db8:1::7")),
            ("-6 route del 2001:db8:f::/48", "2001:db8:f::/48", None),
            ("-6 route add default via fe80::1 dev vp1", "::/0", via(1, "fe80::1")),
            ("-6 route add blackhole 2001:db8:e::/48", "2001:db8:e::/48", Some(Target::Blackhole)),
            ("nexthop add id 7 via 10.1.0.9 dev vp1", "10.203.0.0/16", None),
            ("route add 10.203.0.0/16 nhid 7", "10.203.0.0/16", via(1, "10.1.0.9")),
            ("nexthop replace id 7 via 10.2.0.9 dev vp2", "10.203.0.0/16", via(2, "10.2.0.9")),
            ("nexthop del id 7", "10.203.0.0/16", None),
            ("address add 10.7.0.1/24 dev vp1", "10.7.0.1/32", Some(Target::Local)),
            ("route add 203.0.113.0/24 via 10.2.0.9 src 10.7.0.1", "203.0.113.0/24", via(2, "10.2.0.9")),
            // The kernel takes the route away with its source; before Linux 6.7 without a word.
            ("address del 10.7.0.1/24 dev vp1", "203.0.113.0/24", None),
            ("route add 203.0.114.0/24 via 10.1.0.9 table 99", "203.0.114.0/24", None),
        ] {
            ip(command);
            router.expect(to, target);
        }
        router.expect_equal_to_fresh();
        assert_eq!(router.mirror.stats().unread, 0);
        assert_eq!(router.mirror.stats().losses, 0);
    });
}

#[test]
fn a_link_that_goes_down_takes_its_routes_and_comes_back() {
    in_namespace(|| {
        let mut router = Router::new();
        ip("route add 203.0.113.0/24 via 10.1.0.9 metric 10");
        ip("route add 203.0.113.0/24 via 10.2.0.9 metric 20");
        router.expect("203.0.113.0/24", via(1, "10.1.0.9"));
        // Without a carrier the kernel keeps the route; the mirror passes over it.
        router.twins[0].set_carrier(false).unwrap();
        router.expect("203.0.113.0/24", via(2, "10.2.0.9"));
        router.expect("10.1.0.0/24", None);
        assert!(router.changes.contains(&Change::Link { port: 1, up: false }));
        router.twins[0].set_carrier(true).unwrap();
        router.expect("203.0.113.0/24", via(1, "10.1.0.9"));
        // Down: the kernel drops them, IPv4 ones without a word.
        ip("link set vp1 down");
        router.expect("203.0.113.0/24", via(2, "10.2.0.9"));
        router.expect("10.1.0.0/24", None);
        ip("link set vp1 up");
        router.expect("10.1.0.0/24", via(1, ""));
        router.expect_equal_to_fresh();
        // Gone altogether.
        ip("link del vp2");
        router.expect("203.0.113.0/24", None);
        assert!(router.changes.contains(&Change::Link { port: 2, up: false }));
    });
}

#[test]
fn neighbours_are_told_as_they_come_and_go() {
    in_namespace(|| {
        let mut router = Router::new();
        let wait = |router: &mut Router, text: &str, state: Option<NeighbourState>| {
            let change = Change::Neighbour { port: 1, addr: addr(text), state };
            eventually(&format!("{change:?}"), || {
                router.poll();
                router.changes.contains(&change).then_some(())
            });
            router.changes.clear();
        };
        for host in ["10.1.0.9", "2001:db8:1::9"] {
            ip(&format!("neighbour add {host} lladdr 02:00:00:00:00:09 dev vp1"));
            wait(&mut router, host, Some(NeighbourState::Usable([2, 0, 0, 0, 0, 9])));
            ip(&format!("neighbour replace {host} lladdr 02:00:00:00:00:0a dev vp1 nud stale"));
            wait(&mut router, host, Some(NeighbourState::Usable([2, 0, 0, 0, 0, 10])));
            ip(&format!("neighbour del {host} dev vp1"));
            // The kernel first marks it as failed, then forgets it.
            eventually("gone", || {
                router.poll();
                (router.mirror.neighbours().all(|(_, there, _)| there != addr(host))).then_some(())
            });
            router.changes.clear();
        }
        ip("neighbour add 192.168.7.9 lladdr 02:00:00:00:00:09 dev mgmt");
        ip("neighbour add 10.1.0.10 lladdr 02:00:00:00:00:09 dev vp1");
        wait(&mut router, "10.1.0.10", Some(NeighbourState::Usable([2, 0, 0, 0, 0, 9])));
        assert!(router.mirror.neighbours().all(|(_, there, _)| there != addr("192.168.7.9")), "of no port");
    });
}

#[test]
fn after_lost_announcements_the_mirror_equals_the_kernel_again() {
    in_namespace(|| {
        let mut router = Router::with(|twins| Mirror::open_with_buffer(twins, 4096).unwrap());
        let mut batch = String::new();
        for i in 0..1500 {
            writeln!(batch, "route add 172.{}.{}.0/24 via 10.{}.0.9", 16 + i / 256, i % 256, 1 + i % 2).unwrap();
        }
        for i in (0..1500).step_by(3) {
            writeln!(batch, "route del 172.{}.{}.0/24", 16 + i / 256, i % 256).unwrap();
        }
        ip_batch(&batch);
        // Nothing was read meanwhile: until the loss is noticed, what was told stands.
        assert_eq!(router.target("172.16.1.0/24"), None);
        router.poll();
        assert_eq!(router.mirror.stats().losses, 1);
        router.settle();
        router.expect("172.16.1.0/24", via(2, "10.2.0.9"));
        router.expect("172.16.0.0/24", None);
        let in_range = |prefix: &Prefix| super_prefix().covers(*prefix);
        assert_eq!(router.mirror.routes().filter(|(prefix, _)| in_range(prefix)).count(), 1000);
        // What was told, one after another, comes to the same.
        let mut told = BTreeMap::new();
        for change in &router.changes {
            match *change {
                Change::Route { prefix, target: Some(target) } => told.insert(prefix, target),
                Change::Route { prefix, target: None } => told.remove(&prefix),
                _ => None,
            };
        }
        assert!(told.into_iter().eq(router.mirror.routes().filter(|(prefix, _)| in_range(prefix))));
        router.expect_equal_to_fresh();
    });
}

fn super_prefix() -> Prefix {
    prefix("172.16.0.0/12")
}

/// Whatever is done with routes, addresses, links and neighbours, in bursts between which the mirror reads: in the end it
/// equals one that starts afresh.
#[test]
fn after_any_commands_the_mirror_equals_a_fresh_one() {
    in_namespace(|| {
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos().into();
        println!("seed {seed}");
        let mut state: u64 = seed;
        let mut dice = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut router = Router::new();
        for _ in 0..12 {
            for _ in 0..3 {
                let mut batch = String::new();
                for _ in 0..25 {
                    let port = 1 + dice(2);
                    let verb = ["add", "replace", "append", "prepend", "del", "del"][dice(6) as usize];
                    let metric = ["", "", "metric 10", "metric 20"][dice(4) as usize];
                    let (net, host) = (dice(6), 2 + dice(3));
                    match dice(12) {
                        0..4 => writeln!(batch, "route {verb} 172.16.{net}.0/24 via 10.{port}.0.{host} {metric}"),
                        4..7 => {
                            writeln!(batch, "-6 route {verb} 2001:db8:a{net}::/48 via 2001:db8:{port}::{host} {metric}")
                        }
                        7 => writeln!(
                            batch,
                            "route {verb} 172.16.{net}.0/24 {metric} nexthop via 10.1.0.{host} nexthop via 10.2.0.{host}"
                        ),
                        8 => writeln!(batch, "route {verb} blackhole 172.16.{net}.0/24 {metric}"),
                        9 => writeln!(
                            batch,
                            "neighbour {} 10.{port}.0.{host} lladdr 02:00:00:00:00:0{net} dev vp{port}",
                            if dice(3) == 0 { "del" } else { "replace" }
                        ),
                        10 => writeln!(
                            batch,
                            "address {} 10.{port}.{net}.77/24 dev vp{port}",
                            if dice(2) == 0 { "del" } else { "replace" }
                        ),
                        _ => writeln!(
                            batch,
                            "-6 route {verb} 2001:db8:a{net}::/48 {metric} nexthop via 2001:db8:1::{host} nexthop via 2001:db8:2::{host}"
                        ),
                    }
                    .unwrap();
                }
                if dice(6) == 0 {
                    writeln!(batch, "link set vp{0} down\nlink set vp{0} up", 1 + dice(2)).unwrap();
                }
                ip_batch(&batch);
                router.poll();
            }
            router.expect_equal_to_fresh();
        }
        assert_eq!(router.mirror.stats().unread, 0);
    });
}

#[test]
fn static_routes_of_the_configuration_replace_those_of_the_last_one() {
    in_namespace(|| {
        let mut router = Router::new();
        ip("route add 203.0.113.0/24 via 10.1.0.9");
        let link = StaticTarget::Link { index: router.twins[1].index(), via: Some(addr("10.2.0.9")) };
        let route = |to: &str, target| StaticRoute { prefix: prefix(to), target, metric: None };
        let first = [
            route("0.0.0.0/0", link),
            route("198.51.100.0/24", StaticTarget::Via(addr("10.1.0.9"))),
            route("2001:db8:f::/48", StaticTarget::Via(addr("2001:db8:1::9"))),
            route("198.18.0.0/15", StaticTarget::Blackhole),
            route("2001:db8:e::/48", StaticTarget::Unreachable),
            route("198.51.101.0/24", StaticTarget::Link { index: router.twins[0].index(), via: None }),
        ];
        for _ in 0..2 {
            router.rtnl.set_static_routes(&first).unwrap();
            router.expect("0.0.0.0/0", via(2, "10.2.0.9"));
            router.expect("198.51.100.0/24", via(1, "10.1.0.9"));
            router.expect("2001:db8:f::/48", via(1, "2001:db8:1::9"));
            router.expect("198.18.0.0/15", Some(Target::Blackhole));
            router.expect("2001:db8:e::/48", Some(Target::Unreachable));
            router.expect("198.51.101.0/24", via(1, ""));
        }
        let second = [route("198.51.100.0/24", link)];
        router.rtnl.set_static_routes(&second).unwrap();
        router.expect("198.51.100.0/24", via(2, "10.2.0.9"));
        for gone in ["0.0.0.0/0", "2001:db8:f::/48", "198.18.0.0/15", "2001:db8:e::/48", "198.51.101.0/24"] {
            router.expect(gone, None);
        }
        router.expect("203.0.113.0/24", via(1, "10.1.0.9"));
        let error = router.rtnl.set_static_routes(&[route("198.51.100.0/24", StaticTarget::Via(addr("172.31.0.1")))]);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("198.51.100.0/24") && text.contains("unreachable"), "{text}");
    });
}

fn frames(twin: &mut Twin) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while twin.receive(8, |frame| frames.push(frame.to_vec())).unwrap() {}
    frames
}

/// The target of a neighbour solicitation.
fn solicited(frame: &[u8]) -> Option<[u8; 16]> {
    (frame.len() >= 78 && frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 135)
        .then(|| frame[62..78].try_into().unwrap())
}

#[test]
fn a_request_makes_the_kernel_ask_and_the_answer_is_told() {
    in_namespace(|| {
        let mut router = Router::new();
        let mut resolver = Resolver::new(Instant::now());
        // The first solicitation of an address that the kernel is still setting up comes a second later.
        eventually("the IPv6 address is ready", || {
            ip("-6 route show table local").contains("2001:db8:1::1").then_some(())
        });
        frames(&mut router.twins[0]);

        let (host4, host6) = (addr("10.1.0.9"), addr("2001:db8:1::9"));
        let now = Instant::now();
        for host in [host4, host6] {
            let Router { rtnl, mirror, .. } = &mut router;
            assert_eq!(resolver.request(rtnl, mirror, 1, host, now).unwrap(), Outcome::Asked);
            assert_eq!(resolver.request(rtnl, mirror, 1, host, now).unwrap(), Outcome::Needless, "a moment ago");
            assert_eq!(resolver.request(rtnl, mirror, 5, host, now).unwrap(), Outcome::Unable, "no such port");
        }
        let mut seen = Vec::new();
        eventually("both questions", || {
            seen.extend(frames(&mut router.twins[0]));
            let asked4 = seen.iter().any(|frame| parse_arp(frame) == Some((1, [10, 1, 0, 1], [10, 1, 0, 9])));
            let asked6 = seen.iter().any(|frame| solicited(frame) == Some(v6("2001:db8:1::9")));
            (asked4 && asked6).then_some(())
        });
        router.poll();
        assert!(router.changes.contains(&Change::Neighbour {
            port: 1,
            addr: host4,
            state: Some(NeighbourState::Incomplete)
        }));

        let own_mac = [2, 0, 0, 0, 0, 1];
        let reply = ethernet(own_mac, HOST, 0x0806, &arp(2, HOST, [10, 1, 0, 9], own_mac, [10, 1, 0, 1]));
        router.twins[0].send(&reply).unwrap();
        let host = v6("2001:db8:1::9");
        let advertisement = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &host, &[2, 1], &HOST].concat();
        let packet = icmp6(host, v6("2001:db8:1::1"), advertisement);
        router.twins[0].send(&ethernet(own_mac, HOST, 0x86dd, &packet)).unwrap();
        for host in [host4, host6] {
            let change = Change::Neighbour { port: 1, addr: host, state: Some(NeighbourState::Usable(HOST)) };
            eventually(&format!("{change:?}"), || {
                router.poll();
                router.changes.contains(&change).then_some(())
            });
            let later = now + std::time::Duration::from_secs(60);
            let outcome = resolver.request(&mut router.rtnl, &mut router.mirror, 1, host, later).unwrap();
            assert_eq!(outcome, Outcome::Needless, "known");
        }
    });
}

#[test]
fn a_neighbour_that_does_not_answer_is_told_as_failed() {
    in_namespace(|| {
        let mut router = Router::new();
        std::fs::write("/proc/sys/net/ipv4/neigh/vp1/retrans_time_ms", "50").unwrap();
        let mut resolver = Resolver::new(Instant::now());
        let host = addr("10.1.0.9");
        resolver.request(&mut router.rtnl, &mut router.mirror, 1, host, Instant::now()).unwrap();
        let change = Change::Neighbour { port: 1, addr: host, state: Some(NeighbourState::Failed) };
        eventually("failed", || {
            router.poll();
            router.changes.contains(&change).then_some(())
        });
        // It can be asked for again, and its failing again is told again.
        router.changes.clear();
        let later = Instant::now() + std::time::Duration::from_secs(2);
        let outcome = resolver.request(&mut router.rtnl, &mut router.mirror, 1, host, later).unwrap();
        assert_eq!(outcome, Outcome::Asked);
        assert!(router.mirror.wake_at().is_some(), "there is something to tell");
        eventually("failed again", || {
            router.poll();
            router.changes.contains(&change).then_some(())
        });
        let asked = Change::Neighbour { port: 1, addr: host, state: Some(NeighbourState::Incomplete) };
        assert_eq!(router.changes, [asked, change]);
    });
}

#[test]
fn stale_neighbours_are_asked_again_and_permanent_ones_left_alone() {
    in_namespace(|| {
        let mut router = Router::new();
        for setting in ["ipv4/neigh/vp1", "ipv6/neigh/vp1"] {
            std::fs::write(format!("/proc/sys/net/{setting}/delay_first_probe_time"), "0").unwrap();
        }
        ip("neighbour add 10.1.0.8 lladdr 02:00:00:00:00:08 dev vp1 nud permanent");
        ip("neighbour add 10.1.0.9 lladdr 02:00:00:00:00:99 dev vp1 nud stale");
        ip("neighbour add 2001:db8:1::9 lladdr 02:00:00:00:00:99 dev vp1 nud stale");
        ip("neighbour add 192.168.7.9 lladdr 02:00:00:00:00:99 dev mgmt nud stale");
        router.settle();
        frames(&mut router.twins[0]);
        let mut resolver = Resolver::new(Instant::now());
        let now = Instant::now();
        resolver.tick(&mut router.rtnl, &router.mirror, now).unwrap();
        assert_eq!(
            resolver.request(&mut router.rtnl, &mut router.mirror, 1, addr("10.1.0.8"), now).unwrap(),
            Outcome::Needless
        );
        let mut seen = Vec::new();
        eventually("both are asked, by unicast", || {
            seen.extend(frames(&mut router.twins[0]));
            let asked4 =
                |frame: &Vec<u8>| frame[..6] == HOST && parse_arp(frame).is_some_and(|(.., to)| to == [10, 1, 0, 9]);
            let asked6 = |frame: &Vec<u8>| frame[..6] == HOST && solicited(frame) == Some(v6("2001:db8:1::9"));
            (seen.iter().any(asked4) && seen.iter().any(asked6)).then_some(())
        });
        assert!(ip("neighbour show 10.1.0.8 dev vp1").contains("PERMANENT"));
        assert!(ip("neighbour show 192.168.7.9 dev mgmt").contains("STALE"));
    });
}

#[test]
fn requests_are_bounded() {
    in_namespace(|| {
        let mut router = Router::new();
        let start = Instant::now();
        let mut resolver = Resolver::new(start);
        let mut asked = 0;
        for host in 0..400u32 {
            let addr = Addr::V4(0x0a01_0002 + host % 250 + (host / 250) * 65536);
            if resolver.request(&mut router.rtnl, &mut router.mirror, 1, addr, start).unwrap() == Outcome::Asked {
                asked += 1;
            }
        }
        assert_eq!(asked, 256);
        assert_eq!(resolver.dropped(), 144);
        // What the kernel refuses is dropped too.
        ip("link del vp2");
        let later = start + std::time::Duration::from_secs(2);
        let outcome = resolver.request(&mut router.rtnl, &mut router.mirror, 2, addr("10.2.0.9"), later).unwrap();
        assert_eq!(outcome, Outcome::Unable);
    });
}

#[test]
fn the_control_loop_is_woken_by_twins_and_by_the_mirror() {
    in_namespace(|| {
        let mut router = Router::new();
        frames(&mut router.twins[0]);
        let mut poll = mio::Poll::new().unwrap();
        poll.registry().register(&mut router.twins[0], mio::Token(1), mio::Interest::READABLE).unwrap();
        poll.registry().register(&mut router.mirror, mio::Token(2), mio::Interest::READABLE).unwrap();
        let mut events = mio::Events::with_capacity(8);
        let mut woken = |router: &mut Router, token: usize| {
            eventually("a wake-up", || {
                poll.poll(&mut events, Some(std::time::Duration::from_millis(10))).unwrap();
                let woken = events.iter().any(|event| event.token() == mio::Token(token));
                // Edge-triggered: all that is there has to be read before the next event.
                frames(&mut router.twins[0]);
                router.poll();
                woken.then_some(())
            });
        };
        for round in 0..3 {
            ip(&format!("route add 203.0.11{round}.0/24 via 10.1.0.9"));
            woken(&mut router, 2);
            assert_eq!(router.target(&format!("203.0.11{round}.0/24")), via(1, "10.1.0.9"));
            let request = arp(1, HOST, [10, 1, 0, 9], [0; 6], [10, 1, 0, 1]);
            router.twins[0].send(&ethernet(netns::BROADCAST, HOST, 0x0806, &request)).unwrap();
            woken(&mut router, 1);
        }
    });
}
