//! The table against a linear scan over random routes.

use proptest::prelude::*;

use super::*;

/// The answer by definition: of all prefixes that hold the address, the longest.
fn scan(routes: &[(Prefix, Target)], dst: Addr) -> Option<Target> {
    let mut best: Option<(u8, Target)> = None;
    for &(prefix, target) in routes {
        if prefix.contains(dst) && best.is_none_or(|(len, _)| prefix.len() >= len) {
            best = Some((prefix.len(), target));
        }
    }
    best.map(|(_, target)| target)
}

fn target_of(fib: &Fib, dst: Addr) -> Option<Target> {
    match fib.look_up(dst) {
        Hop::NoRoute => None,
        Hop::Local => Some(Target::Local),
        Hop::OnLink { port } => Some(Target::Via { port, gateway: None }),
        Hop::Gateway { port, gateway } => Some(Target::Via { port, gateway: fib.gateway(gateway) }),
        Hop::Blackhole => Some(Target::Blackhole),
        Hop::Unreachable => Some(Target::Unreachable),
        Hop::Prohibit => Some(Target::Prohibit),
        Hop::Forward { .. } => panic!("no neighbour is known"),
    }
}

/// Addresses that are near one another in every byte, so that prefixes nest and collide.
fn addr_v4() -> impl Strategy<Value = Addr> {
    proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 4)
        .prop_map(|b| Addr::V4(u32::from_be_bytes([b[0], b[1], b[2], b[3]])))
}
fn addr_v6() -> impl Strategy<Value = Addr> {
    proptest::collection::vec(prop_oneof![6 => Just(0u8), 2 => Just(1), 1 => any::<u8>()], 16).prop_map(|b| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&b);
        Addr::V6(u128::from_be_bytes(octets))
    })
}
fn prefix(addr: impl Strategy<Value = Addr>) -> impl Strategy<Value = Prefix> {
    (addr, any::<u8>())
        .prop_map(|(addr, len)| Prefix::of(addr, len % (addr.width() + 1)).expect("a length of the family"))
}
fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Local),
        Just(Target::Blackhole),
        Just(Target::Unreachable),
        Just(Target::Prohibit),
        any::<u16>().prop_map(|port| Target::Via { port, gateway: None }),
        (any::<u16>(), addr_v4()).prop_map(|(port, gateway)| Target::Via { port, gateway: Some(gateway) }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn agrees_with_a_linear_scan(
        v4 in proptest::collection::vec((prefix(addr_v4()), target()), 0..40),
        v6 in proptest::collection::vec((prefix(addr_v6()), target()), 0..40),
        probes_v4 in proptest::collection::vec(addr_v4(), 50),
        probes_v6 in proptest::collection::vec(addr_v6(), 50),
    ) {
        let routes: Vec<(Prefix, Target)> = v4.into_iter().chain(v6).collect();
        let mut builder = FibBuilder::new();
        for &(prefix, target) in &routes {
            builder.route(prefix, target);
        }
        let fib = builder.build().expect("few hops");
        let edges = routes.iter().flat_map(|(prefix, _)| [prefix.addr(), prefix.last()]);
        for dst in probes_v4.into_iter().chain(probes_v6).chain(edges) {
            prop_assert_eq!(target_of(&fib, dst), scan(&routes, dst), "to {}", dst);
        }
    }
}

fn v4(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().expect("an address").into()
}
fn net(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').expect("a prefix");
    Prefix::new(v4(addr), len.parse().expect("a length")).expect("no host bits")
}

#[test]
fn neighbours_resolve_gateways_and_hosts_of_their_own_link() {
    let mut builder = FibBuilder::new();
    builder
        .route(net("10.0.1.0/24"), Target::Via { port: 0, gateway: None })
        .route(net("10.0.2.0/24"), Target::Via { port: 1, gateway: None })
        .route(net("0.0.0.0/0"), Target::Via { port: 1, gateway: Some(v4("10.0.2.9")) })
        .route(net("10.0.1.1/32"), Target::Local)
        .route(net("2001:db8::/64"), Target::Via { port: 0, gateway: None })
        .route(net("::/0"), Target::Via { port: 0, gateway: Some(v4("fe80::1")) });
    let before = builder.build().expect("few hops");
    assert_eq!(before.look_up(v4("10.0.1.7")), Hop::OnLink { port: 0 });
    let Hop::Gateway { port: 1, gateway } = before.look_up(v4("8.8.8.8")) else { panic!("unresolved") };
    assert_eq!(before.gateway(gateway), Some(v4("10.0.2.9")));

    builder
        .neighbour(0, v4("10.0.1.7"), [7; 6])
        .neighbour(1, v4("10.0.2.9"), [9; 6])
        .neighbour(0, v4("fe80::1"), [6; 6])
        .neighbour(0, v4("2001:db8::5"), [5; 6])
        // Of the wrong link, and of the router itself: neither may become a route.
        .neighbour(1, v4("10.0.1.8"), [8; 6])
        .neighbour(0, v4("10.0.1.1"), [1; 6]);
    let fib = builder.build().expect("few hops");
    assert_eq!(fib.look_up(v4("10.0.1.7")), Hop::Forward { port: 0, mac: [7; 6] });
    assert_eq!(fib.look_up(v4("10.0.1.8")), Hop::OnLink { port: 0 });
    assert_eq!(fib.look_up(v4("10.0.1.1")), Hop::Local);
    assert_eq!(fib.look_up(v4("8.8.8.8")), Hop::Forward { port: 1, mac: [9; 6] });
    assert_eq!(fib.look_up(v4("2001:db8::5")), Hop::Forward { port: 0, mac: [5; 6] });
    assert_eq!(fib.look_up(v4("2001:db8::6")), Hop::OnLink { port: 0 });
    assert_eq!(fib.look_up(v4("2600::")), Hop::Forward { port: 0, mac: [6; 6] });
}

#[test]
fn a_worker_sees_a_table_until_it_reports_and_then_the_next() {
    let (domain, mut places) = Domain::new(1);
    let (mut writer, root) = FibWriter::new(domain, [].into());
    let mut reader = places.remove(0).join();
    let publish = |writer: &mut FibWriter, target| {
        let mut builder = FibBuilder::new();
        builder.route(net("0.0.0.0/0"), target);
        writer.publish(builder.build().expect("few hops"))
    };
    for _ in 0..RETIRED_FIBS_MAX {
        publish(&mut writer, Target::Blackhole).expect("within the bound");
    }
    // The worker has not reported: nothing is freed, and the bound holds.
    assert_eq!(publish(&mut writer, Target::Local), Err(TooManyRetired));
    reader.quiescent();
    assert_eq!(root.read(&reader).look_up(v4("1.1.1.1")), Hop::Blackhole);
    publish(&mut writer, Target::Local).expect("all have passed");
    assert_eq!(root.read(&reader).look_up(v4("1.1.1.1")), Hop::Local);
    assert_eq!(root.read(&reader).generation(), RETIRED_FIBS_MAX as u64 + 1);
}
