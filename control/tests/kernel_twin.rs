//! The TAP twin against the real kernel, in network namespaces. Needs root.

mod netns;

use netns::{BROADCAST, arp, ethernet, eventually, icmp6, in_namespace, ip, parse_arp, ping4, try_ip, v6};
use vinet_control::kernel::netlink::Rtnl;
use vinet_control::kernel::tap::{Sent, TapError, Twin, TwinSettings};
use vinet_trusted::addr::Addr;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<std::net::IpAddr>().unwrap())
}

fn settings(name: &str, addresses: &[(&str, u8)]) -> TwinSettings {
    let addresses = addresses.iter().map(|(text, len)| (addr(text), *len)).collect();
    TwinSettings { name: name.into(), mac: MAC, mtu: 1400, addresses }
}

fn frames(twin: &mut Twin) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while twin.receive(8, |frame| frames.push(frame.to_vec())).unwrap() {}
    frames
}

#[test]
fn a_twin_has_the_address_and_mtu_of_the_port_and_outlives_the_daemon() {
    in_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let twin = Twin::open(&mut rtnl, &settings("vp0", &[("10.1.0.1", 24), ("2001:db8:1::1", 64)])).unwrap();
        let link = rtnl.link(twin.index()).unwrap();
        assert_eq!((link.mac, link.mtu, link.up), (Some(MAC), 1400, true));
        assert!(ip("-o link show vp0").contains("LOWER_UP"));
        let index = twin.index();
        ip("address add 10.77.0.1/24 dev vp0");
        ip("route add 10.5.0.0/16 via 10.1.0.9");
        drop(twin);

        // The next daemon: another configuration, the same interface. What an operator added stays.
        let twin = Twin::open(&mut rtnl, &settings("vp0", &[("10.1.0.1", 24), ("10.2.0.1", 24)])).unwrap();
        assert_eq!(twin.index(), index);
        let addresses = ip("-o address show dev vp0");
        for there in ["10.1.0.1/24", "10.2.0.1/24", "10.77.0.1/24", "fe80::"] {
            assert!(addresses.contains(there), "{there} in {addresses}");
        }
        assert!(!addresses.contains("2001:db8:1::1"), "{addresses}");
        assert!(!addresses.contains("tentative"), "{addresses}");
        assert!(ip("route show").contains("10.5.0.0/16 via 10.1.0.9"));
        assert_eq!(ip("rule show").matches("iif vp0 blackhole").count(), 1);

        twin.remove(&mut rtnl).unwrap();
        // A process that another test starts at this very moment may hold a copy of the device's file until its exec.
        eventually("the interface goes", || (!try_ip("link show vp0").status.success()).then_some(()));
        assert!(!ip("rule show").contains("vp0"));
        assert!(!ip("-6 rule show").contains("vp0"));
    });
}

#[test]
fn the_carrier_follows_the_port() {
    in_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let mut twin = Twin::open(&mut rtnl, &settings("vp0", &[("10.1.0.1", 24)])).unwrap();
        twin.set_carrier(false).unwrap();
        assert!(ip("-o link show vp0").contains("NO-CARRIER"));
        twin.set_carrier(true).unwrap();
        eventually("the carrier is back", || ip("-o link show vp0").contains("LOWER_UP").then_some(()));
    });
}

#[test]
fn names_that_are_taken_are_refused_with_what_to_do() {
    in_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let _twin = Twin::open(&mut rtnl, &settings("vp0", &[])).unwrap();
        let error = Twin::open(&mut rtnl, &settings("vp0", &[])).unwrap_err();
        assert!(matches!(error, TapError::Open { .. }) && error.to_string().contains("another vinetd"), "{error}");
        ip("link add vp1 type veth peer name vp1-peer");
        let error = Twin::open(&mut rtnl, &settings("vp1", &[])).unwrap_err();
        assert!(matches!(error, TapError::Open { .. }) && error.to_string().contains("another `tap` name"), "{error}");
        let error = Twin::open(&mut rtnl, &settings("a-name-that-is-too-long", &[])).unwrap_err();
        assert!(matches!(error, TapError::Open { .. }), "{error}");
    });
}

#[test]
fn the_kernel_answers_arp_nd_and_pings_through_the_twin() {
    in_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let mut twin = Twin::open(&mut rtnl, &settings("vp0", &[("10.1.0.1", 24), ("2001:db8:1::1", 64)])).unwrap();
        frames(&mut twin);

        let request = ethernet(BROADCAST, HOST, 0x0806, &arp(1, HOST, [10, 1, 0, 9], [0; 6], [10, 1, 0, 1]));
        assert_eq!(twin.send(&request).unwrap(), Sent::Taken);
        let reply =
            eventually("an ARP reply", || frames(&mut twin).into_iter().find(|frame| parse_arp(frame).is_some()));
        assert_eq!(parse_arp(&reply), Some((2, [10, 1, 0, 1], [10, 1, 0, 9])));
        assert_eq!((&reply[..6], &reply[6..12]), (&HOST[..], &MAC[..]));

        // The kernel has learnt the host from its request, and answers without asking back.
        twin.send(&ethernet(MAC, HOST, 0x0800, &ping4([10, 1, 0, 9], [10, 1, 0, 1]))).unwrap();
        let is_echo = |frame: &Vec<u8>| frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 0;
        let reply = eventually("an echo reply", || frames(&mut twin).into_iter().find(is_echo));
        assert_eq!((&reply[26..30], &reply[30..34]), (&[10, 1, 0, 1][..], &[10, 1, 0, 9][..]));

        let (own, host) = (v6("2001:db8:1::1"), v6("2001:db8:1::9"));
        let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &own, &[1, 1], &HOST].concat();
        let multicast = v6("ff02::1:ff00:1");
        let frame = ethernet([0x33, 0x33, 0xff, 0, 0, 1], HOST, 0x86dd, &icmp6(host, multicast, solicitation));
        let is_advertisement = |frame: &Vec<u8>| frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 136;
        let reply = eventually("an advertisement", || {
            // The kernel joins the multicast group of a new address a moment later; a host asks again.
            twin.send(&frame).unwrap();
            frames(&mut twin).into_iter().find(is_advertisement)
        });
        assert_eq!(reply[62..78], own);
        assert_eq!(reply[58] & 0x80, 0x80, "it says that it is a router");

        let echo = ethernet(MAC, HOST, 0x86dd, &icmp6(host, own, vec![128, 0, 0, 0, 0x56, 0x49, 0, 1, 1, 2, 3, 4]));
        let is_echo = |frame: &Vec<u8>| frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 129;
        eventually("an ICMPv6 echo reply", || {
            twin.send(&echo).unwrap();
            frames(&mut twin).into_iter().find(is_echo)
        });
    });
}

#[test]
fn a_turn_reads_no_more_frames_than_it_may() {
    in_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let mut twin = Twin::open(&mut rtnl, &settings("vp0", &[("10.1.0.1", 24)])).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        frames(&mut twin);
        for host in 2..7 {
            let request = arp(1, HOST, [10, 1, 0, host], [0; 6], [10, 1, 0, 1]);
            twin.send(&ethernet(BROADCAST, HOST, 0x0806, &request)).unwrap();
        }
        let mut seen = 0;
        assert!(twin.receive(3, |_| seen += 1).unwrap(), "there may be more");
        assert_eq!(seen, 3);
        assert!(!twin.receive(8, |_| seen += 1).unwrap());
        assert!(seen >= 5);
    });
}

#[test]
fn what_the_twin_is_given_for_others_is_never_forwarded() {
    in_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let a = Twin::open(&mut rtnl, &settings("vp0", &[("10.1.0.1", 24), ("2001:db8:1::1", 64)])).unwrap();
        let mut b = Twin::open(&mut rtnl, &settings("vp1", &[("10.2.0.1", 24), ("2001:db8:2::1", 64)])).unwrap();
        // As a routing daemon would have it; without this the kernel forwards no IPv6 whatever the interface says.
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        ip("neighbour add 10.2.0.9 lladdr 02:00:00:00:00:09 dev vp1");
        ip("neighbour add 2001:db8:2::9 lladdr 02:00:00:00:00:09 dev vp1");
        let echo = vec![128, 0, 0, 0, 0x56, 0x49, 0, 1];
        let transit = [
            ethernet(MAC, HOST, 0x0800, &ping4([10, 1, 0, 9], [10, 2, 0, 9])),
            ethernet(MAC, HOST, 0x86dd, &icmp6(v6("2001:db8:1::9"), v6("2001:db8:2::9"), echo)),
        ];
        let forwarded = |b: &mut Twin| frames(b).iter().filter(|frame| frame[..6] == [2, 0, 0, 0, 0, 9]).count();
        for frame in &transit {
            assert_eq!(a.send(frame).unwrap(), Sent::Taken);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(forwarded(&mut b), 0);

        // The test can fail: without the rule the kernel does forward both.
        ip("rule del iif vp0 blackhole");
        ip("-6 rule del iif vp0 blackhole");
        for frame in &transit {
            a.send(frame).unwrap();
        }
        let mut count = 0;
        eventually("both are forwarded", || {
            count += forwarded(&mut b);
            (count == 2).then_some(())
        });
    });
}

#[test]
fn a_twin_that_is_down_refuses_frames_and_one_that_is_deleted_is_an_error() {
    in_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let mut twin = Twin::open(&mut rtnl, &settings("vp0", &[])).unwrap();
        assert_eq!(twin.send(&[1, 2, 3]).unwrap(), Sent::Refused, "shorter than an Ethernet header");
        ip("link set vp0 down");
        assert_eq!(twin.send(&[0; 60]).unwrap(), Sent::Refused);
        ip("link del vp0");
        assert!(twin.send(&[0; 60]).is_err());
        assert!(twin.receive(1, |_| {}).is_err());
    });
}
