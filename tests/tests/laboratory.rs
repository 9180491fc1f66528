//! The laboratory itself, with the kernel as the router: a story that fails elsewhere is then the router's fault.

use std::net::SocketAddr;
use std::time::Duration;

use vinet_tests::frame::{Ipv4Udp, ethernet};
use vinet_tests::lab::{ATTACKER, ATTACKER6, LAWFUL, LAWFUL6, Lab, VICTIM, VICTIM6, both};
use vinet_tests::story;
use vinet_tests::traffic::{FrameSender, Sink, WebServer, iperf3, iperf3_server, ping, send_datagrams};

#[test]
fn hosts_talk_across_a_router_that_is_the_kernel() {
    let Some(_story) = story::begin("hosts_talk_across_a_router_that_is_the_kernel") else { return };
    let lab = Lab::new();
    lab.forward_by_kernel();
    for victim in both(VICTIM, VICTIM6) {
        assert_eq!(ping(&lab.lawful, victim, 3, ""), 3);
        assert_eq!(ping(&lab.attacker, victim, 3, "-s 4000"), 3);
        let web = WebServer::start(&lab.victim, SocketAddr::new(victim, 80), b"the body".to_vec());
        let url = format!("http://{}/", SocketAddr::new(victim, 80));
        assert_eq!(lab.lawful.ok(&format!("curl -sS --max-time 5 {url}")), "the body");
        drop(web);
        let _server = iperf3_server(&lab.victim);
        assert!(iperf3(&lab.lawful, victim, "") > 1e6);
        assert!(iperf3(&lab.lawful, victim, "-u -b 5M") > 4e6);
    }
}

#[test]
fn sinks_count_by_source() {
    let Some(_story) = story::begin("sinks_count_by_source") else { return };
    let lab = Lab::new();
    lab.forward_by_kernel();
    for (lawful, attacker, victim) in
        [(LAWFUL.into(), ATTACKER.into(), VICTIM.into()), (LAWFUL6.into(), ATTACKER6.into(), VICTIM6.into())]
    {
        let sink = Sink::start(&lab.victim, SocketAddr::new(victim, 9000), &[lawful, attacker]);
        for (host, source, count) in [(&lab.lawful, lawful, 500), (&lab.attacker, attacker, 300)] {
            send_datagrams(&host.udp(SocketAddr::new(source, 0)), SocketAddr::new(victim, 9000), count);
        }
        sink.settle();
        assert_eq!((sink.count(lawful), sink.count(attacker)), (500, 300));
    }
}

#[test]
fn a_whole_frame_can_be_sent() {
    let Some(_story) = story::begin("a_whole_frame_can_be_sent") else { return };
    let lab = Lab::new();
    lab.forward_by_kernel();
    assert_eq!(ping(&lab.attacker, VICTIM.into(), 1, ""), 1);
    let socket = lab.victim.udp(SocketAddr::new(VICTIM.into(), 9));
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket takes a time limit");
    let packet = Ipv4Udp { src: ATTACKER, dst: VICTIM, ttl: 64, port: 9, payload: b"hi".to_vec() };
    let frame = ethernet(lab.router.mac("leg1"), lab.attacker.mac("eth0"), &[], &packet.bytes());
    FrameSender::open(&lab.attacker, "eth0").send(&frame);
    let mut buffer = [0; 16];
    let (len, from) = socket.recv_from(&mut buffer).expect("the datagram arrives");
    assert_eq!((&buffer[..len], from), (&b"hi"[..], SocketAddr::new(ATTACKER.into(), 12345)));
}
