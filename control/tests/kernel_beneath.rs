//! The interface beneath an af_packet or af_xdp port against the real kernel, in network namespaces. Needs root.

mod netns;

use netns::{BROADCAST, Tap, arp, ethernet, eventually, in_namespace, ip, parse_arp, ping4};
use vinet_control::kernel::beneath::{Beneath, BeneathError};
use vinet_control::kernel::netlink::Rtnl;

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const PORT: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A host's end `host0` and the router's end `port0` of a wire, and an address of the router that the kernel would by
/// default answer for on any interface.
fn wire() {
    ip("link add host0 address 02:00:00:00:00:99 type veth peer name port0 address 02:00:00:00:00:01");
    // The host's end is a wire and no more: what comes out of it is looked at, not answered.
    std::fs::write("/proc/sys/net/ipv6/conf/host0/disable_ipv6", "1").unwrap();
    std::fs::write("/proc/sys/net/ipv4/conf/host0/arp_ignore", "8").unwrap();
    ip("link set host0 up");
    ip("address add 10.1.0.1/32 dev lo");
    ip("link set port0 up");
    // A neighbour entry, so that the kernel needs no question before it answers a ping.
    ip("route add 10.1.0.9/32 dev port0");
    ip("neighbour add 10.1.0.9 lladdr 02:00:00:00:00:99 dev port0");
}

fn ask(host: &Tap) {
    host.send(&ethernet(BROADCAST, HOST, 0x0806, &arp(1, HOST, [10, 1, 0, 9], [0; 6], [10, 1, 0, 1])));
    host.send(&ethernet(PORT, HOST, 0x0800, &ping4([10, 1, 0, 9], [10, 1, 0, 1])));
}

fn is_arp_reply(frame: &[u8]) -> bool {
    parse_arp(frame).is_some_and(|(operation, ..)| operation == 2)
}
fn is_echo_reply(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 0
}

#[test]
fn an_interface_beneath_a_port_does_not_answer_and_its_packets_are_seen() {
    in_namespace(|| {
        wire();
        let mut rtnl = Rtnl::open().unwrap();
        let host = Tap::on("host0");
        let beneath = Beneath::hold(&mut rtnl, "port0").unwrap();
        let port = Tap::on("port0");
        ask(&host);
        let mut seen = Vec::new();
        eventually("the port sees the question and the ping", || {
            seen.extend(port.received());
            (seen.iter().any(|frame| parse_arp(frame).is_some()) && seen.iter().any(|frame| frame[12..14] == [8, 0]))
                .then_some(())
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        let answers: Vec<_> = host.received().into_iter().filter(|f| is_arp_reply(f) || is_echo_reply(f)).collect();
        assert!(answers.is_empty(), "{answers:02x?}");
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv6/conf/port0/disable_ipv6").unwrap().trim(), "1");
        let link = rtnl.link(nix::net::if_::if_nametoindex("port0").unwrap()).unwrap();
        assert!(link.up && link.promiscuous);

        // And back: the kernel answers both again, so the test can fail.
        beneath.undo(&mut rtnl).unwrap();
        let mut answers = Vec::new();
        ask(&host);
        eventually("the kernel answers again", || {
            answers.extend(host.received());
            (answers.iter().any(|f| is_arp_reply(f)) && answers.iter().any(|f| is_echo_reply(f))).then_some(())
        });
    });
}

#[test]
fn everything_is_put_back_as_it_was_found() {
    in_namespace(|| {
        ip("link add host0 type veth peer name port0");
        std::fs::write("/proc/sys/net/ipv4/conf/port0/arp_ignore", "2").unwrap();
        vinet_tap_sys::set_offload("port0", vinet_tap_sys::Offload::Gro, true).unwrap();
        let state = || {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
            (
                read("ipv4/conf/port0/arp_ignore"),
                read("ipv6/conf/port0/disable_ipv6"),
                vinet_tap_sys::offload("port0", vinet_tap_sys::Offload::Gro).unwrap(),
                Rtnl::open().unwrap().link(nix::net::if_::if_nametoindex("port0").unwrap()).unwrap(),
            )
        };
        let mut rtnl = Rtnl::open().unwrap();
        let before = state();
        let beneath = Beneath::hold(&mut rtnl, "port0").unwrap();
        let (arp_ignore, disable_ipv6, gro, link) = state();
        assert_eq!(
            (arp_ignore.trim(), disable_ipv6.trim(), gro, link.up, link.promiscuous),
            ("8", "1", false, true, true)
        );
        beneath.undo(&mut rtnl).unwrap();
        assert_eq!(state(), before);
        // Dropping does the same.
        drop(Beneath::hold(&mut rtnl, "port0").unwrap());
        assert_eq!(state(), before);
    });
}

#[test]
fn an_interface_that_is_in_use_or_missing_is_refused_with_what_to_do() {
    in_namespace(|| {
        ip("link add host0 type veth peer name port0");
        let mut rtnl = Rtnl::open().unwrap();
        let error = Beneath::hold(&mut rtnl, "port7").unwrap_err();
        assert!(matches!(error, BeneathError::NoInterface { .. }), "{error}");

        ip("address add 10.1.0.1/24 dev port0");
        ip("address add 2001:db8::1/64 dev port0");
        let error = Beneath::hold(&mut rtnl, "port0").unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, BeneathError::HasAddresses { .. }), "{text}");
        for part in ["10.1.0.1/24", "2001:db8::1/64", "ip address flush dev port0"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        ip("address flush dev port0");

        let held = Beneath::hold(&mut rtnl, "port0").unwrap();
        let error = Beneath::hold(&mut rtnl, "port0").unwrap_err();
        assert!(matches!(error, BeneathError::Held { .. }), "{error}");
        // The refused one has not undone what the first one holds.
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/conf/port0/arp_ignore").unwrap().trim(), "8");
        drop(held);
        Beneath::hold(&mut rtnl, "port0").unwrap();
    });
}
