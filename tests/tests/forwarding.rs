//! `vinetd` as a router: what the hosts at its ends see of it when they use everybody's programs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use vinet_tests::frame::{Ipv4Udp, ethernet};
use vinet_tests::lab::{ATTACKER, ATTACKER6, LAWFUL, LAWFUL6, Lab, VICTIM, VICTIM6, both};
use vinet_tests::process::eventually;
use vinet_tests::router::{Config, Driver, Router};
use vinet_tests::story;
use vinet_tests::traffic::{FrameSender, Sink, WebServer, iperf3, iperf3_server, ping, reaches, send_datagrams};

/// How long the first packet may wait for routes and neighbours to be learnt.
const LEARN_LIMIT: Duration = Duration::from_secs(5);

/// Nothing of the packets that entered is missing once traffic has stopped.
#[track_caller]
fn conserved(router: &Router) {
    let counters = router.counters();
    assert_eq!(counters.unaccounted(), 0, "{:#}", counters.value());
}

fn everybodys_programs_cross(driver: Driver) {
    let lab = Lab::new();
    let router = Router::start(&lab, &Config { driver, ..Config::default() });
    for victim in both(VICTIM, VICTIM6) {
        for sender in [&lab.lawful, &lab.attacker] {
            assert!(reaches(sender, victim, LEARN_LIMIT), "{} does not reach {victim}", sender.name());
            assert_eq!(ping(sender, victim, 20, ""), 20);
        }
        let web = WebServer::start(&lab.victim, SocketAddr::new(victim, 80), vec![b'x'; 300_000]);
        let url = format!("http://{}/", SocketAddr::new(victim, 80));
        let body = lab.lawful.ok(&format!("curl -sS --max-time 20 {url}"));
        assert_eq!(body.len(), 300_000);
        drop(web);
        let _server = iperf3_server(&lab.victim);
        let tcp = iperf3(&lab.lawful, victim, "");
        let tcp_back = iperf3(&lab.lawful, victim, "--reverse");
        let udp = iperf3(&lab.lawful, victim, "-u -b 10M");
        assert!(tcp > 5e6, "iperf3 over TCP: {tcp} bits/s");
        assert!(tcp_back > 5e6, "iperf3 over TCP, reversed: {tcp_back} bits/s");
        assert!(udp > 9e6, "iperf3 -u of 10 Mbit/s: {udp} bits/s");
    }
    conserved(&router);
}

#[test]
fn everybodys_programs_cross_over_af_packet() {
    let Some(_story) = story::begin("everybodys_programs_cross_over_af_packet") else { return };
    everybodys_programs_cross(Driver::AfPacket);
}

#[test]
fn everybodys_programs_cross_over_af_xdp() {
    let Some(_story) = story::begin("everybodys_programs_cross_over_af_xdp") else { return };
    everybodys_programs_cross(Driver::AfXdp);
}

#[test]
fn two_workers_with_codel_queues_share_every_port() {
    let Some(_story) = story::begin("two_workers_with_codel_queues_share_every_port") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config { workers: 2, queue: "codel", ..Config::default() });
    for victim in both(VICTIM, VICTIM6) {
        for sender in [&lab.lawful, &lab.attacker] {
            assert!(reaches(sender, victim, LEARN_LIMIT), "{} does not reach {victim}", sender.name());
            assert_eq!(ping(sender, victim, 20, ""), 20);
        }
        let _server = iperf3_server(&lab.victim);
        let tcp = iperf3(&lab.lawful, victim, "");
        assert!(tcp > 5e6, "iperf3 over TCP: {tcp} bits/s");
    }
    conserved(&router);
    let counters = router.counters();
    assert!(counters.get(&["handed_over"]) > 0, "{:#}", counters.value());
    // Where others use the cores too, a worker may be kept from its ring for so long that TCP fills it. Such packets end
    // by name; all the others arrive.
    assert_eq!(counters.get(&["handed_over"]), counters.get(&["taken_over"]), "{:#}", counters.value());
}

#[test]
fn hugepages_are_not_needed() {
    let Some(_story) = story::begin("hugepages_are_not_needed") else { return };
    for driver in [Driver::AfPacket, Driver::AfXdp] {
        let lab = Lab::new();
        let router = Router::start(&lab, &Config { driver, memory: "no-huge", ..Config::default() });
        for victim in both(VICTIM, VICTIM6) {
            assert!(reaches(&lab.lawful, victim, LEARN_LIMIT), "{driver:?}");
            assert_eq!(ping(&lab.lawful, victim, 50, "-s 1400"), 50, "{driver:?}");
        }
        conserved(&router);
    }
}

#[test]
fn a_route_of_the_kernel_is_followed_and_forgotten() {
    let Some(_story) = story::begin("a_route_of_the_kernel_is_followed_and_forgotten") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &Config::default());
    for (behind, prefix, via) in [
        (IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1)), "10.99.0.0/24", IpAddr::from(VICTIM)),
        (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1)), "2001:db8:99::/64", IpAddr::from(VICTIM6)),
    ] {
        lab.victim.address("lo", &behind.to_string());
        assert_eq!(ping(&lab.lawful, behind, 1, ""), 0, "nothing leads to {behind} yet");
        lab.router.ok(&format!("ip route add {prefix} via {via}"));
        assert!(reaches(&lab.lawful, behind, LEARN_LIMIT), "`ip route add` leads to {behind}");
        lab.router.ok(&format!("ip route del {prefix} via {via}"));
        assert!(eventually(LEARN_LIMIT, || ping(&lab.lawful, behind, 1, "") == 0), "`ip route del` ends it");
    }
}

#[test]
fn a_static_route_of_the_configuration_is_followed() {
    let Some(_story) = story::begin("a_static_route_of_the_configuration_is_followed") else { return };
    let lab = Lab::new();
    let more = format!(
        "[[route]]\nto = \"10.98.0.0/16\"\nvia = \"{VICTIM}\"\n\n[[route]]\nto = \"2001:db8:98::/48\"\nvia = \"{VICTIM6}\"\n"
    );
    let _router = Router::start(&lab, &Config { more, ..Config::default() });
    for behind in ["10.98.7.1", "2001:db8:98::1"] {
        lab.victim.address("lo", behind);
        let behind: IpAddr = behind.parse().expect("an address");
        assert!(reaches(&lab.lawful, behind, LEARN_LIMIT), "the configuration leads to {behind}");
    }
}

#[test]
fn traceroute_shows_the_router() {
    let Some(_story) = story::begin("traceroute_shows_the_router") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &Config::default());
    for (victim, first_hop, family) in
        [(IpAddr::from(VICTIM), "203.0.113.1", "-4"), (VICTIM6.into(), "2001:db8:a::1", "-6")]
    {
        assert!(reaches(&lab.lawful, victim, LEARN_LIMIT));
        let shown = lab.lawful.ok(&format!("traceroute {family} -n -q 1 -w 2 -m 4 {victim}"));
        let hops: Vec<&str> = shown.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1)).collect();
        assert_eq!(hops, [first_hop, &victim.to_string()], "{shown}");
        let expired = lab.lawful.run(&format!("ping {family} -n -t 1 -c 1 -W 2 {victim}"));
        assert!(expired.stdout.contains("exceeded"), "{expired}");
    }
}

#[test]
fn what_leads_nowhere_is_said_to() {
    let Some(_story) = story::begin("what_leads_nowhere_is_said_to") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &Config::default());
    for (nobody, unrouted) in [("192.0.2.77", "10.1.2.3"), ("2001:db8:c::77", "2001:db8:ffff::1")] {
        for (to, count) in [(unrouted, 1), (nobody, 3)] {
            let finished = lab.lawful.run(&format!("ping -n -i 2 -W 6 -c {count} {to}"));
            assert_eq!(finished.code, Some(1), "{finished}");
            let said = finished.stdout.to_lowercase();
            assert!(said.contains("unreachable") || said.contains("no route"), "{finished}");
        }
    }
}

#[test]
fn fragments_cross_and_a_packet_too_big_is_answered() {
    let Some(_story) = story::begin("fragments_cross_and_a_packet_too_big_is_answered") else { return };
    let lab = Lab::new();
    // The lawful sender's link is the narrow one, so that what the victim's web server sends has to shrink.
    let router = Router::start(&lab, &Config { mtu: [1400, 1500, 1500], ..Config::default() });
    for (lawful, attacker, victim) in [
        (IpAddr::from(LAWFUL), IpAddr::from(ATTACKER), IpAddr::from(VICTIM)),
        (LAWFUL6.into(), ATTACKER6.into(), VICTIM6.into()),
    ] {
        assert!(reaches(&lab.attacker, victim, LEARN_LIMIT) && reaches(&lab.lawful, victim, LEARN_LIMIT));
        assert_eq!(ping(&lab.attacker, victim, 5, "-s 4000"), 5, "fragments from {attacker} to {victim}");
        let big = lab.victim.run(&format!("ping -n -M do -s 1440 -c 1 -W 2 {lawful}"));
        assert!(big.stdout.contains("mtu") && big.stdout.contains("1400"), "{big}");
        let _web = WebServer::start(&lab.victim, SocketAddr::new(victim, 80), vec![b'x'; 200_000]);
        let url = format!("http://{}/", SocketAddr::new(victim, 80));
        let body = lab.lawful.ok(&format!("curl -sS --max-time 20 {url}"));
        assert_eq!(body.len(), 200_000, "path MTU discovery lets a download through");
    }
    assert!(router.counters().drops("too_big") > 0);
    conserved(&router);
}

#[test]
fn time_exceeded_messages_are_rate_limited() {
    let Some(_story) = story::begin("time_exceeded_messages_are_rate_limited") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config::default());
    assert!(reaches(&lab.attacker, VICTIM.into(), LEARN_LIMIT));
    let to = lab.attacker_next_hop();
    let packet = Ipv4Udp { src: ATTACKER, dst: VICTIM, ttl: 1, port: 9, payload: vec![0; 18] };
    let frame = ethernet(to, lab.attacker.mac("eth0"), &[], &packet.bytes());
    let sender = FrameSender::open(&lab.attacker, "eth0");
    let before = router.counters();
    // A flood in portions, because the interface beneath holds hardly more than one while the worker is kept from its core.
    let mut sent = 0;
    assert!(eventually(LEARN_LIMIT, || {
        for _ in 0..500 {
            sender.send(&frame);
        }
        sent += 500;
        router.counters().drops("ttl_expired") > before.drops("ttl_expired") + 2000
    }));
    let after = router.counters();
    let answers = after.get(&["own_icmp"]) - before.get(&["own_icmp"]);
    assert!(answers < 2000, "{answers} answers to {sent} packets");
    assert!(after.get(&["icmp_rate_limited"]) > before.get(&["icmp_rate_limited"]));
    assert!(reaches(&lab.lawful, VICTIM.into(), LEARN_LIMIT), "the router still forwards");
    conserved(&router);
}

#[test]
fn a_spoofed_source_is_dropped_and_counted() {
    let Some(_story) = story::begin("a_spoofed_source_is_dropped_and_counted") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config::default());
    let victim = SocketAddr::new(VICTIM.into(), 9000);
    assert!(reaches(&lab.attacker, victim.ip(), LEARN_LIMIT) && reaches(&lab.lawful, victim.ip(), LEARN_LIMIT));
    let sink = Sink::start(&lab.victim, victim, &[LAWFUL.into(), ATTACKER.into()]);
    let before = router.counters().drops("source_not_controlled");
    // The attacker takes the lawful sender's address.
    lab.attacker.address("lo", &format!("{LAWFUL}/32"));
    send_datagrams(&lab.attacker.udp(SocketAddr::new(LAWFUL.into(), 0)), victim, 200);
    send_datagrams(&lab.attacker.udp(SocketAddr::new(ATTACKER.into(), 0)), victim, 100);
    sink.settle();
    assert_eq!((sink.count(LAWFUL.into()), sink.count(ATTACKER.into())), (0, 100));
    assert_eq!(router.counters().drops("source_not_controlled") - before, 200);
}

#[test]
fn malformed_packets_are_counted_by_cause_and_the_rest_goes_on() {
    let Some(_story) = story::begin("malformed_packets_are_counted_by_cause_and_the_rest_goes_on") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config::default());
    let victim = SocketAddr::new(VICTIM.into(), 9000);
    assert!(reaches(&lab.attacker, victim.ip(), LEARN_LIMIT));
    let sink = Sink::start(&lab.victim, victim, &[ATTACKER.into()]);
    let (to, from) = (lab.attacker_next_hop(), lab.attacker.mac("eth0"));
    let good = Ipv4Udp { src: ATTACKER, dst: VICTIM, ttl: 64, port: 9000, payload: vec![7; 40] }.bytes();
    let sender = FrameSender::open(&lab.attacker, "eth0");
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        ethernet(to, from, &[], &packet)
    };
    let cases: [(&str, Vec<u8>); 5] = [
        ("ipv4_bad_checksum", broken(&|p| p[10] ^= 0xff)),
        ("ipv4_bad_version", broken(&|p| p[0] = 0x65)),
        ("ipv4_bad_header_len", broken(&|p| p[0] = 0x44)),
        ("ipv4_total_len_above_frame", broken(&|p| p[2..4].copy_from_slice(&2000u16.to_be_bytes()))),
        ("vlan_mismatch", ethernet(to, from, &[5], &good)),
    ];
    for (reason, frame) in &cases {
        let before = router.counters().drops(reason);
        for _ in 0..10 {
            sender.send(frame);
        }
        assert!(
            eventually(LEARN_LIMIT, || router.counters().drops(reason) == before + 10),
            "{reason}: {} before, and now {:#}",
            before,
            router.counters().value()
        );
    }
    sender.send(&ethernet(to, from, &[], &good));
    sink.settle();
    assert_eq!(sink.count(ATTACKER.into()), 1);
    conserved(&router);
}

#[test]
fn vlan_tags_are_taken_off_and_put_on() {
    let Some(_story) = story::begin("vlan_tags_are_taken_off_and_put_on") else { return };
    for (config, tags, filter) in
        [("[100]", &[100u16][..], "vlan 100"), ("[200, 100]", &[200, 100][..], "vlan 200 and vlan 100")]
    {
        let lab = Lab::new();
        let _router = Router::start(&lab, &Config { vlan: ["[]", config, "[]"], ..Config::default() });
        let (from, to) = (lab.attacker.mac("eth0"), lab.attacker_next_hop());
        // The host speaks no VLAN by itself, so its neighbour entry is made by hand and its frames are built here.
        let octets = from.map(|b| format!("{b:02x}")).join(":");
        lab.router.ok(&format!("ip neigh replace {ATTACKER} lladdr {octets} dev vi-attacker nud permanent"));
        let victim = lab.victim.udp(SocketAddr::new(VICTIM.into(), 9000));
        victim.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket takes a time limit");
        let packet = Ipv4Udp { src: ATTACKER, dst: VICTIM, ttl: 64, port: 9000, payload: b"tagged".to_vec() };
        let frame = ethernet(to, from, tags, &packet.bytes());
        let sender = FrameSender::open(&lab.attacker, "eth0");
        let mut buffer = [0; 64];
        let arrived = eventually(LEARN_LIMIT, || {
            sender.send(&frame);
            victim.recv_from(&mut buffer).is_ok_and(|(len, _)| &buffer[..len] == b"tagged")
        });
        assert!(arrived, "a packet with tags {config} arrives without them");
        let mut seen = lab.attacker.command("tcpdump");
        seen.args(["-i", "eth0", "-n", "-l", "-c", "1", "-Q", "in"]).args(filter.split(' ')).args(["and", "udp"]);
        let mut capture = vinet_tests::process::Daemon::start(seen);
        capture.wait_for("listening", Duration::from_secs(5));
        victim.send_to(b"back", SocketAddr::new(ATTACKER.into(), 12345)).expect("a datagram back");
        assert!(capture.wait(LEARN_LIMIT).is_some(), "the answer leaves with tags {config}: {}", capture.log());
    }
}

#[test]
fn the_router_answers_for_itself() {
    let Some(_story) = story::begin("the_router_answers_for_itself") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config::default());
    for own in ["203.0.113.1", "192.0.2.1", "2001:db8:a::1", "2001:db8:c::1"] {
        let own: IpAddr = own.parse().expect("an address");
        assert!(reaches(&lab.lawful, own, LEARN_LIMIT), "{own} answers");
        assert_eq!(ping(&lab.lawful, own, 10, ""), 10);
    }
    conserved(&router);
}
