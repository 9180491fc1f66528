//! What a packet meets on its way through a router over memory ports, held against etherparse where bytes matter.

mod core_support;

use core_support::*;
use etherparse::{Icmpv4Type, Icmpv6Type, SlicedPacket, TransportSlice};
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::fib::Target;
use vinet_fastpath::hold::ResolveRequest;
use vinet_fastpath::settings::{HoldLimits, IcmpLimits, PortSettings, Settings};
use vinet_trusted::addr::Addr;

fn lab() -> Lab {
    Lab::new(Settings::default(), vec![port(0), port(1)])
}

#[test]
fn both_families_are_forwarded_in_order_with_one_hop_counted() {
    let mut lab = lab();
    let frames: Vec<Vec<u8>> = (0..200u8)
        .map(|i| {
            let (src, dst) = if i % 2 == 0 { ("10.0.0.2", "10.0.1.2") } else { ("2001:db8::2", "2001:db8:1::2") };
            udp(0, src, dst, 64 - i % 3, &[i; 30])
        })
        .collect();
    lab.send(0, &frames);
    let out = lab.expect(1, frames.len());
    for (before, after) in frames.iter().zip(&out) {
        assert_eq!(after[..12], [host_mac(1), router_mac(1)].concat());
        let (src, dst, ttl) = read_ip(before);
        assert_eq!(read_ip(after), (src, dst, ttl - 1));
        assert_eq!(before[before.len() - 38..], after[after.len() - 38..]);
    }
    let counts = lab.stop();
    let bytes: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
    assert_eq!((counts.ports[0].rx_packets, counts.ports[1].tx_packets, counts.dropped()), (200, 200, 0));
    assert_eq!((counts.ports[0].rx_bytes, counts.ports[1].tx_bytes), (bytes, bytes));
}

#[test]
fn a_worker_is_busy_while_there_is_something_to_do() {
    let mut lab = lab();
    let start = std::time::Instant::now();
    lab.wait_for("an idle worker has made turns", |counts| counts.turns > 0);
    assert_eq!(lab.counters.snapshot().busy_ns, 0);
    let frames = vec![udp(0, "10.0.0.2", "10.0.1.2", 64, &[1; 30]); 32];
    lab.send(0, &frames);
    lab.expect(1, frames.len());
    lab.wait_for("the time of the busy turns", |counts| counts.busy_ns > 0);
    let counts = lab.stop();
    assert!(u128::from(counts.busy_ns) < start.elapsed().as_nanos());
}

#[test]
fn what_is_for_the_router_goes_to_its_twin_and_comes_back_from_it() {
    let mut lab = lab();
    let arp = [&[0xff; 6], &host_mac(0)[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[0; 40]].concat();
    let mut discovery = udp(0, "fe80::2", "ff02::1:ff00:1", 255, &[1; 20]);
    discovery[..6].copy_from_slice(&[0x33, 0x33, 0xff, 0, 0, 1]);
    let mut dhcp = udp(0, "0.0.0.0", "255.255.255.255", 64, &[2; 40]);
    dhcp[..6].fill(0xff);
    let mut ospf = udp(0, "10.0.0.2", "224.0.0.5", 1, &[3; 40]);
    ospf[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 5]);
    let local = udp(0, "10.0.0.2", "10.0.0.1", 1, &[4; 40]);
    let far_local = udp(0, "2001:db8::2", "2001:db8:1::1", 64, &[5; 40]);
    let frames = [arp, discovery, dhcp, ospf, local, far_local];
    lab.send(0, &frames);
    lab.wait_for("six to TAP", |counts| counts.to_tap == 6);
    let mut seen = Vec::new();
    lab.slow_path.to_tap(100, |port, frame| seen.push((port, frame.to_vec())));
    assert_eq!(seen, frames.map(|frame| (0, frame)));

    let answer = udp(1, "10.0.1.1", "10.0.1.2", 64, &[6; 40]);
    lab.slow_path.from_tap(1, &answer).expect("room");
    assert_eq!(lab.expect(1, 1), [answer]);
    let counts = lab.stop();
    assert_eq!((counts.from_tap, counts.dropped()), (1, 0));
}

#[test]
fn what_no_router_may_forward_is_dropped_by_name() {
    let mut lab = lab();
    let mut elsewhere = udp(0, "10.0.0.2", "10.0.1.2", 64, &[0; 30]);
    elsewhere[5] = 0x99;
    let mut broadcast = udp(0, "10.0.0.2", "10.0.1.2", 64, &[0; 30]);
    broadcast[..6].fill(0xff);
    let mut lldp = udp(0, "10.0.0.2", "10.0.1.2", 64, &[0; 30]);
    lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
    let mut broken = udp(0, "10.0.0.2", "10.0.1.2", 64, &[0; 30]);
    broken[24] ^= 1;
    let mut group = udp(0, "10.0.0.2", "239.1.1.1", 64, &[0; 30]);
    group[..6].copy_from_slice(&[1, 0, 0x5e, 1, 1, 1]);
    let tagged = [&udp(0, "10.0.0.2", "10.0.1.2", 64, &[0; 30])[..12], &[0x81, 0, 0, 5, 8, 0], &[0; 60]].concat();
    let cases = [
        (elsewhere, DropReason::NotForUs),
        (broadcast, DropReason::LinkBroadcast),
        (lldp, DropReason::EtherTypeUnknown),
        (broken, DropReason::Ipv4BadChecksum),
        (group, DropReason::MulticastNotRouted),
        (udp(0, "127.0.0.1", "10.0.1.2", 64, &[0; 30]), DropReason::SourceMartian),
        (udp(0, "10.0.0.2", "127.0.0.1", 64, &[0; 30]), DropReason::DestinationMartian),
        (udp(0, "10.0.0.2", "240.0.0.1", 64, &[0; 30]), DropReason::DestinationMartian),
        (udp(0, "169.254.1.1", "10.0.1.2", 64, &[0; 30]), DropReason::LinkLocalScope),
        (udp(0, "fe80::1", "2001:db8:1::2", 64, &[0; 30]), DropReason::LinkLocalScope),
        (tagged, DropReason::Ipv4BadVersion),
        (vec![0; 10], DropReason::EthernetTruncated),
    ];
    for (i, (frame, reason)) in cases.into_iter().enumerate() {
        lab.send(0, &[frame]);
        lab.wait_for("one more drop", |counts| counts.dropped() == i as u64 + 1);
        assert!(lab.counters.snapshot().drop(reason) > 0, "case {i}: {reason:?}");
    }
    let counts = lab.stop();
    assert_eq!((counts.own_icmp, counts.to_tap, counts.ports[1].tx_packets), (0, 0, 0));
}

#[test]
fn an_edge_port_takes_only_the_sources_it_controls() {
    let mut lab = Lab::new(Settings::default(), vec![edge(0, &["10.0.0.0/24", "2001:db8::/64"]), port(1)]);
    let mut discovery = udp(0, "fe80::2", "ff02::1", 255, &[1; 20]);
    discovery[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    let mut dhcp = udp(0, "0.0.0.0", "255.255.255.255", 64, &[2; 40]);
    dhcp[..6].fill(0xff);
    lab.send(
        0,
        &[
            udp(0, "10.0.0.7", "10.0.1.2", 64, &[0; 30]),
            udp(0, "10.0.9.7", "10.0.1.2", 64, &[0; 30]),
            udp(0, "2001:db8:9::7", "2001:db8:1::2", 64, &[0; 30]),
            udp(0, "2001:db8::7", "2001:db8:1::2", 64, &[0; 30]),
            udp(0, "192.0.2.9", "10.0.0.1", 64, &[0; 30]),
            discovery,
            dhcp,
        ],
    );
    lab.expect(1, 2);
    let counts = lab.wait_for("all seven", |counts| counts.dropped() + counts.to_tap == 5);
    assert_eq!((counts.drop(DropReason::SourceNotControlled), counts.to_tap), (3, 2));
    // The uplink has no such rule.
    lab.send(1, &[udp(1, "192.0.2.9", "10.0.0.2", 64, &[0; 30])]);
    lab.expect(0, 1);
    lab.stop();
}

#[test]
fn an_expired_ttl_is_told_with_sound_icmp_of_both_families() {
    let mut lab = lab();
    let v4 = udp(0, "10.0.0.2", "10.0.1.2", 1, &[7; 900]);
    let v6 = udp(0, "2001:db8::2", "2001:db8:1::2", 1, &[7; 1300]);
    lab.send(0, &[v4.clone(), v6.clone()]);
    let out = lab.expect(0, 2);

    assert_eq!(read_ip(&out[0]), (addr("10.0.0.1"), addr("10.0.0.2"), 64));
    assert_eq!(out[0].len(), 14 + 576);
    let packet = SlicedPacket::from_ethernet(&out[0]).expect("sound");
    let Some(TransportSlice::Icmpv4(icmp)) = packet.transport else { panic!("not ICMP") };
    assert_eq!(icmp.icmp_type(), Icmpv4Type::TimeExceeded(etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit));
    assert_eq!(icmp.icmp_type().calc_checksum(icmp.payload()), icmp.checksum());
    assert_eq!(icmp.payload(), &v4[14..14 + icmp.payload().len()]);

    assert_eq!(read_ip(&out[1]), (addr("2001:db8::1"), addr("2001:db8::2"), 64));
    assert_eq!(out[1].len(), 14 + 1280);
    let packet = SlicedPacket::from_ethernet(&out[1]).expect("sound");
    let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else { panic!("not ICMPv6") };
    assert_eq!(icmp.icmp_type(), Icmpv6Type::TimeExceeded(etherparse::icmpv6::TimeExceededCode::HopLimitExceeded));
    let (Addr::V6(from), Addr::V6(to)) = (addr("2001:db8::1"), addr("2001:db8::2")) else { panic!("IPv6") };
    assert!(icmp.is_checksum_valid(from.to_be_bytes(), to.to_be_bytes()));
    assert_eq!(icmp.payload(), &v6[14..14 + icmp.payload().len()]);

    // About an ICMP error nothing is said, and about a later fragment neither.
    let mut error = out[0].clone();
    error[..12].copy_from_slice(&[router_mac(0), host_mac(0)].concat());
    let mut looped = udp(0, "10.0.0.2", "10.0.1.2", 1, &error[34..100]);
    looped[23] = 1;
    looped[34..42].copy_from_slice(&error[34..42]);
    let mut later = udp(0, "10.0.0.2", "10.0.1.2", 1, &[7; 40]);
    later[21] = 5;
    for frame in [&mut looped, &mut later] {
        frame[24..26].fill(0);
        let sum = vinet_pktops::checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    lab.send(0, &[looped, later]);
    let counts = lab.wait_for("four drops", |counts| counts.drop(DropReason::TtlExpired) == 4);
    assert_eq!(counts.own_icmp, 2);
    lab.stop();
}

#[test]
fn icmp_errors_keep_their_rate() {
    let icmp = IcmpLimits { rate_pps: 1, burst: 5 };
    let mut lab = Lab::new(Settings { icmp, ..Settings::default() }, vec![port(0), port(1)]);
    let frames = vec![udp(0, "10.0.0.2", "10.0.1.2", 1, &[7; 40]); 50];
    lab.send(0, &frames);
    let counts = lab.wait_for("all", |counts| counts.drop(DropReason::TtlExpired) == 50);
    assert_eq!((counts.own_icmp, counts.icmp_rate_limited), (5, 45));
    lab.stop();
}

#[test]
fn routes_that_lead_nowhere_are_told_or_silent() {
    let mut lab = lab();
    lab.routes
        .route(net("10.9.0.0/16"), Target::Blackhole)
        .route(net("10.8.0.0/16"), Target::Unreachable)
        .route(net("10.7.0.0/16"), Target::Prohibit)
        .route(net("2001:db8:8::/48"), Target::Unreachable)
        .route(net("2001:db8:7::/48"), Target::Prohibit);
    lab.publish_routes();
    let cases = [
        ("10.9.1.1", DropReason::Blackhole, None),
        ("10.8.1.1", DropReason::Unreachable, Some((3, 1))),
        ("10.7.1.1", DropReason::Prohibited, Some((3, 13))),
        ("10.6.1.1", DropReason::NoRoute, Some((3, 0))),
        ("2001:db8:8::1", DropReason::Unreachable, Some((1, 3))),
        ("2001:db8:7::1", DropReason::Prohibited, Some((1, 1))),
        ("2001:db8:6::1", DropReason::NoRoute, Some((1, 0))),
    ];
    for (dst, reason, told) in cases {
        let (src, at) = if dst.contains(':') { ("2001:db8::2", 54) } else { ("10.0.0.2", 34) };
        lab.send(0, &[udp(0, src, dst, 64, &[0; 40])]);
        lab.wait_for("a drop", |counts| counts.drop(reason) > 0);
        if let Some((kind, code)) = told {
            let out = lab.expect(0, 1);
            assert_eq!((out[0][at], out[0][at + 1]), (kind, code), "to {dst}");
            read_ip(&out[0]);
        }
    }
    lab.stop();
}

#[test]
fn a_packet_above_the_mtu_is_cut_or_its_sender_is_told() {
    let mut lab = Lab::new(Settings::default(), vec![port(0), PortSettings { mtu: 600, ..port(1) }]);
    let payload: Vec<u8> = (0..1400u32).map(|i| (i * 7) as u8).collect();
    let mut whole = udp(0, "10.0.0.2", "10.0.1.2", 64, &payload);
    let mut stubborn = whole.clone();
    whole[20] &= !0x40;
    stubborn[20] |= 0x40;
    for frame in [&mut whole, &mut stubborn] {
        frame[24..26].fill(0);
        let sum = vinet_pktops::checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    lab.send(0, &[whole.clone()]);
    let out = lab.expect(1, 3);
    let mut rejoined = Vec::new();
    for (i, fragment) in out.iter().enumerate() {
        assert!(fragment.len() <= 14 + 600);
        assert_eq!(read_ip(fragment), (addr("10.0.0.2"), addr("10.0.1.2"), 63));
        let place = u16::from_be_bytes([fragment[20], fragment[21]]);
        assert_eq!(usize::from(place & 0x1fff) * 8, rejoined.len());
        assert_eq!(place & 0x2000 != 0, i < 2);
        let total = usize::from(u16::from_be_bytes([fragment[16], fragment[17]]));
        rejoined.extend_from_slice(&fragment[34..14 + total]);
    }
    assert_eq!(rejoined, whole[34..]);

    lab.send(0, &[stubborn, udp(0, "2001:db8::2", "2001:db8:1::2", 64, &payload)]);
    let told = lab.expect(0, 2);
    assert_eq!((told[0][34], told[0][35], u16::from_be_bytes([told[0][40], told[0][41]])), (3, 4, 600));
    assert_eq!((told[1][54], told[1][55], u32::from_be_bytes(told[1][58..62].try_into().expect("four"))), (2, 0, 600));
    let counts = lab.stop();
    assert_eq!((counts.fragments, counts.drop(DropReason::TooBig)), (2, 2));
}

#[test]
fn packets_wait_for_a_neighbour_and_leave_in_order() {
    let mut lab = lab();
    let frames: Vec<Vec<u8>> = (0..5).map(|i| udp(0, "10.0.0.2", "10.0.1.9", 64, &[i; 30])).collect();
    lab.send(0, &frames);
    let counts = lab.wait_for("five held", |counts| counts.held == 5);
    assert_eq!(counts.ports[1].tx_packets, 0);
    assert_eq!(lab.resolve.next(), Some(ResolveRequest { port: 1, addr: addr("10.0.1.9") }));
    assert_eq!(lab.resolve.next(), None, "one question for one next hop");
    lab.routes.neighbour(1, addr("10.0.1.9"), [9; 6]);
    lab.publish_routes();
    let out = lab.expect(1, 5);
    for (i, frame) in out.iter().enumerate() {
        assert_eq!(frame[..6], [9; 6]);
        assert_eq!(read_ip(frame).2, 63);
        assert_eq!(frame[42], i as u8);
    }
    lab.stop();
}

#[test]
fn a_neighbour_that_never_answers_ends_the_wait_and_the_sender_is_told() {
    let hold = HoldLimits { wait_max_ns: 50_000_000, packets_max: 20, ..HoldLimits::default() };
    let mut lab = Lab::new(Settings { hold, ..Settings::default() }, vec![port(0), port(1)]);
    // More than eight to one, and more than twenty in all.
    let mut frames = vec![udp(0, "10.0.0.2", "10.0.1.9", 64, &[0; 30]); 10];
    frames.extend((20..40).map(|i| udp(0, "10.0.0.2", &format!("10.0.1.{i}"), 64, &[0; 30])));
    lab.send(0, &frames);
    let counts = lab.wait_for("all ended", |counts| counts.dropped() == 30);
    assert_eq!(counts.drop(DropReason::NeighbourUnresolved), 20);
    assert_eq!(counts.drop(DropReason::HoldFull), 10);
    assert_eq!(counts.own_icmp, 20);
    let told = lab.expect(0, 20);
    assert!(told.iter().all(|frame| (frame[34], frame[35]) == (3, 1)));

    // What is known not to answer is not waited for, but asked for again.
    while lab.resolve.next().is_some() {}
    lab.routes.failed_neighbour(1, addr("10.0.1.9"));
    lab.publish_routes();
    lab.send(0, &[udp(0, "10.0.0.2", "10.0.1.9", 64, &[0; 30])]);
    lab.expect(0, 1);
    assert_eq!(lab.resolve.next(), Some(ResolveRequest { port: 1, addr: addr("10.0.1.9") }));
    lab.stop();
}

#[test]
fn tags_are_a_ports_own() {
    let tagged = PortSettings { vlan: vec![100, 7], ..port(1) };
    let mut lab = Lab::new(Settings::default(), vec![port(0), tagged]);
    lab.send(0, &[udp(0, "10.0.0.2", "10.0.1.2", 64, &[1; 30])]);
    let out = lab.expect(1, 1);
    assert_eq!(out[0][12..22], [0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 8, 0]);
    assert_eq!(read_ip(&out[0]).2, 63);
    // Back again, and to the router itself: the kernel sees no tags. Untagged frames are of another link.
    let mut back = out[0].clone();
    back[..12].copy_from_slice(&[router_mac(1), host_mac(1)].concat());
    back[34..42].copy_from_slice(&[10, 0, 1, 2, 10, 0, 0, 2]);
    let mut local = back.clone();
    local[38..42].copy_from_slice(&[10, 0, 1, 1]);
    for frame in [&mut back, &mut local] {
        frame[32..34].fill(0);
        let sum = vinet_pktops::checksum::of(&frame[22..42]);
        frame[32..34].copy_from_slice(&sum.to_be_bytes());
    }
    lab.send(1, &[back, local.clone(), udp(1, "10.0.1.2", "10.0.0.2", 64, &[1; 30])]);
    let out = lab.expect(0, 1);
    assert_eq!(read_ip(&out[0]).2, 62);
    assert_eq!(out[0][12..14], [8, 0]);
    let counts = lab.wait_for("the other two", |counts| counts.dropped() + counts.to_tap == 2);
    assert_eq!(counts.drop(DropReason::VlanMismatch), 1);
    let mut seen = Vec::new();
    lab.slow_path.to_tap(10, |_, frame| seen.push(frame.to_vec()));
    assert_eq!(seen, [[&local[..12], &local[20..]].concat()]);
    lab.slow_path.from_tap(1, &seen[0]).expect("room");
    let out = lab.expect(1, 1);
    assert_eq!(out[0], local);
    lab.stop();
}

#[test]
fn a_stalled_ring_costs_what_the_queue_cannot_hold() {
    let shallow = PortSettings { queue_depth: 100, ..port(1) };
    let mut lab = Lab::new(Settings::default(), vec![port(0), shallow]);
    // The far end does not receive: its ring of 4096 fills, then the queue of 100, then packets are dropped.
    let frames: Vec<Vec<u8>> = (0..5000u32).map(|i| udp(0, "10.0.0.2", "10.0.1.2", 64, &i.to_be_bytes())).collect();
    lab.send(0, &frames);
    let counts = lab.wait_for("the overflow", |counts| counts.ports[0].rx_packets == 5000);
    assert_eq!((counts.ports[1].tx_packets, counts.queued), (4096, 100));
    assert_eq!(counts.drop(DropReason::QueueFull), 5000 - 4196);
    let out = lab.expect(1, 4196);
    for (i, frame) in out.iter().enumerate() {
        assert_eq!(frame[42..46], (i as u32).to_be_bytes(), "order is kept");
    }
    lab.stop();
}

#[test]
fn the_slow_path_is_bounded() {
    let mut settings = Settings::default();
    settings.slow_path.ring_len = 16;
    settings.slow_path.frame_len_max = 500;
    let mut lab = Lab::new(settings, vec![port(0), port(1)]);
    let mut frames = vec![udp(0, "10.0.0.2", "10.0.0.1", 64, &[1; 40]); 20];
    lab.send(0, &frames);
    let counts = lab.wait_for("all", |counts| counts.dropped() + counts.to_tap == 20);
    assert_eq!((counts.to_tap, counts.drop(DropReason::SlowPathFull)), (16, 4));
    assert_eq!(lab.slow_path.to_tap(100, |_, _| ()), 16);
    frames = vec![udp(0, "10.0.0.2", "10.0.0.1", 64, &[1; 600])];
    lab.send(0, &frames);
    lab.wait_for("a long one", |counts| counts.drop(DropReason::SlowPathTooLong) == 1);
    lab.stop();
}
