//! Bad input: whatever bytes come, each packet ends in the one way that its table says, and nothing else is counted.
//!
//! The shapes run through a whole worker over memory ports: what is truncated, what lies about its length, options and chains of
//! extension headers, fragments, jumbograms, stacks of tags, wrong sums. Then samples of all kinds, cut at every byte and with
//! every byte changed to every value: no panic, exact conservation, and what leaves is sound. A worker that panicked would not
//! stop well, and the lab asserts that.

mod core_support;

use std::sync::Arc;

use core_support::*;
use vinet_fastpath::counters::Snapshot;
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::fib::Target;
use vinet_fastpath::flow_table::{Install, InstallId};
use vinet_fastpath::settings::{HoldLimits, IcmpLimits, PortSettings, Settings};
use vinet_pktops::checksum;
use vinet_pktops::parse;
use vinet_trusted::policy::OverBudget;

const IPV4: &[u8] = &[0x08, 0x00];
const IPV6: &[u8] = &[0x86, 0xdd];
const UDP: u8 = 17;

/// A frame of these types (tags and EtherType) from port 0's host to the router.
fn ethernet(types: &[u8], packet: &[u8]) -> Vec<u8> {
    [&router_mac(0)[..], &host_mac(0), types, packet].concat()
}

/// From 10.0.0.2 to 10.0.1.2, UDP, with these options and this payload, after `change` of the header, which then sums up.
fn v4(options: &[u8], payload: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let header_len = 20 + options.len();
    let len = ((header_len + payload.len()) as u16).to_be_bytes();
    let mut header = vec![0x40 | (header_len / 4) as u8, 0, len[0], len[1], 0x12, 0x34, 0, 0, 64, UDP, 0, 0];
    header.extend([10, 0, 0, 2, 10, 0, 1, 2]);
    header.extend(options);
    change(&mut header);
    let sum = checksum::of(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    ethernet(IPV4, &[&header, payload].concat())
}

/// From 2001:db8::2 to 2001:db8:1::2, with this next header and payload, after `change` of the header.
fn v6(next: u8, payload: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let mut header = vec![0x60, 0, 0, 0, len[0], len[1], next, 64];
    header.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    header.extend([0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    change(&mut header);
    ethernet(IPV6, &[&header, payload].concat())
}

/// A UDP datagram with this content and no checksum.
fn datagram(content: &[u8]) -> Vec<u8> {
    let len = (8 + content.len() as u16).to_be_bytes();
    [&[0x30, 0x39, 0, 53, len[0], len[1], 0, 0], content].concat()
}

/// A TCP segment with these flags.
fn segment(flags: u8, data_offset: u8, content: &[u8]) -> Vec<u8> {
    let head = [0x30, 0x39, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, data_offset << 4, flags, 0x20, 0, 0, 0, 0, 0];
    [&head[..], content].concat()
}

/// An extension header of `words` times eight bytes.
fn extension(next: u8, words: u8) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(words) * 8];
    (bytes[0], bytes[1]) = (next, words - 1);
    // One option that fills it: PadN.
    (bytes[2], bytes[3]) = (1, words * 8 - 4);
    bytes
}

/// An IPv6 fragment header.
fn fragment_header(next: u8, offset: u16, more: bool) -> Vec<u8> {
    let place = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![next, 0, place[0], place[1], 0, 0, 0, 7]
}

/// An edge port, a plain port, one with an MTU of 576 and one with two tags; programs that look into what port 0 sends.
fn lab(icmp: IcmpLimits) -> Lab {
    let tagged = PortSettings { vlan: vec![5, 6], ..port(3) };
    let narrow = PortSettings { mtu: 576, ..port(2) };
    let edge = edge(0, &["10.0.0.0/24", "2001:db8::/64"]);
    // What waits for a next hop waits longer than a test on a loaded machine.
    let hold = HoldLimits { wait_max_ns: 60_000_000_000, ..HoldLimits::default() };
    let mut lab = Lab::new(Settings { icmp, hold, ..Settings::default() }, vec![edge, port(1), narrow, tagged]);
    for (id, executable) in [word_filter("10.0.1.2", "forbidden"), word_filter("2001:db8:1::2", "forbidden")]
        .into_iter()
        .chain([firewall("10.0.2.2", &[net("10.0.0.66/32")])])
        .enumerate()
    {
        let id = InstallId(id as u64 + 1);
        let install = Install {
            id,
            executable: Arc::clone(&executable),
            packet_rate: 0,
            over_budget: OverBudget::Drop,
            generate_key: [0; 32],
            monitor: false,
        };
        lab.table.install(install).expect("within the bounds");
    }
    lab.routes.route(net("203.0.113.0/24"), Target::Blackhole);
    lab.publish_routes();
    lab
}

/// All that was counted between two snapshots but the reception itself, in words: `ttl_expired own_icmp p0.tx`.
fn counted(before: &Snapshot, after: &Snapshot) -> String {
    let mut words = Vec::new();
    let mut add = |name: String, before: u64, after: u64| match after as i64 - before as i64 {
        0 => {}
        1 => words.push(name),
        n => words.push(format!("{name}*{n}")),
    };
    for reason in DropReason::ALL {
        add(reason.name().to_owned(), before.drop(reason), after.drop(reason));
    }
    for ((name, before), (_, after)) in before.named().into_iter().zip(after.named()) {
        if !name.starts_with("turns") && name != "busy_ns" {
            add(name.to_owned(), before, after);
        }
    }
    for (number, (before, after)) in before.ports.iter().zip(&after.ports).enumerate() {
        add(format!("p{number}.tx"), before.tx_packets, after.tx_packets);
    }
    words.join(" ")
}

/// Sends one frame at a time into `port` and holds each to what its line says.
fn hold(lab: &mut Lab, port: u16, table: Vec<(&str, Vec<u8>, &str)>) {
    for (what, frame, expected) in table {
        let before = lab.counters.snapshot();
        lab.send(port, std::slice::from_ref(&frame));
        let received = before.ports[usize::from(port)].rx_packets + 1;
        let after = lab.wait_for(what, |counts| counts.ports[usize::from(port)].rx_packets == received);
        assert_eq!(counted(&before, &after), expected, "{what}: {frame:02x?}");
        lab.slow_path.to_tap(64, |_, _| ());
        for host in &mut lab.hosts {
            for frame in host.received() {
                assert_sound(&frame, &|| what.to_owned());
            }
        }
    }
}

/// What the router sends is whole, without padding beyond the shortest frame, and sums up.
fn assert_sound(frame: &[u8], what: &dyn Fn() -> String) {
    let headers = parse::headers(frame).unwrap_or_else(|error| panic!("{}: {error}: {frame:02x?}", what()));
    assert!(headers.ttl > 0, "{}: {frame:02x?}", what());
    // Tags come on top of the shortest frame.
    let len_min = 60 - parse::ETHERNET_LEN + usize::from(headers.l3_offset);
    assert!(frame.len() <= headers.end().max(len_min), "{}: padding is left: {frame:02x?}", what());
}

#[test]
fn every_malformed_shape_is_dropped_under_its_own_name() {
    let udp = datagram(b"content");
    let plain = v4(&[], &udp, |_| ());
    let six = v6(UDP, &udp, |_| ());
    let broken_sum = |mut frame: Vec<u8>, at: usize| {
        frame[at] ^= 0x10;
        frame
    };
    let tags = |tags: &[[u8; 4]], packet: &[u8]| ethernet(&[&tags.concat(), IPV4].concat(), packet);
    let (service, customer) = ([0x88, 0xa8, 0, 5], [0x81, 0, 0, 6]);
    let mut lab = lab(IcmpLimits::default());
    let table = vec![
        ("nothing", vec![], "ethernet_truncated"),
        ("an address", plain[..6].to_vec(), "ethernet_truncated"),
        ("a byte less than an Ethernet header", plain[..13].to_vec(), "ethernet_truncated"),
        ("a tag cut off", [&plain[..12], &[0x81, 0, 0]].concat(), "ethernet_truncated"),
        ("a second tag cut off", [&plain[..12], &service, &[0x81, 0, 0]].concat(), "ethernet_truncated"),
        ("a tag and no type", [&plain[..12], &[0x81, 0, 0, 5]].concat(), "ethernet_truncated"),
        ("three tags", tags(&[service, customer, customer], &plain[14..]), "vlan_tags_above_max"),
        ("nine tags", tags(&[customer; 9], &plain[14..]), "vlan_tags_above_max"),
        ("an Ethernet header of IPv4 alone", plain[..14].to_vec(), "ipv4_truncated"),
        ("19 bytes of IPv4", plain[..33].to_vec(), "ipv4_truncated"),
        ("version 6 as IPv4", v4(&[], &udp, |h| h[0] = 0x65), "ipv4_bad_version"),
        ("version 0", v4(&[], &udp, |h| h[0] = 0x05), "ipv4_bad_version"),
        ("a header of 0 words", v4(&[], &udp, |h| h[0] = 0x40), "ipv4_bad_header_len"),
        ("a header of 4 words", v4(&[], &udp, |h| h[0] = 0x44), "ipv4_bad_header_len"),
        ("a header longer than the packet", v4(&[], &[], |h| h[0] = 0x4f), "ipv4_bad_total_len"),
        ("a total length of 0", v4(&[], &udp, |h| h[2..4].fill(0)), "ipv4_bad_total_len"),
        ("a total length of 19", v4(&[], &udp, |h| h[3] = 19), "ipv4_bad_total_len"),
        ("a total length within the options", v4(&[1; 8], &udp, |h| h[3] = 27), "ipv4_bad_total_len"),
        ("a total length one too long", v4(&[], &udp, |h| h[3] += 1), "ipv4_total_len_above_frame"),
        ("a total length of 65535", v4(&[], &udp, |h| h[2..4].fill(0xff)), "ipv4_total_len_above_frame"),
        ("a byte less than it declares", plain[..plain.len() - 1].to_vec(), "ipv4_total_len_above_frame"),
        ("a wrong sum", broken_sum(plain.clone(), 24), "ipv4_bad_checksum"),
        ("a sum over options wrong", broken_sum(v4(&[1; 4], &udp, |_| ()), 35), "ipv4_bad_checksum"),
        ("a sum of zero", [&plain[..24], &[0, 0], &plain[26..]].concat(), "ipv4_bad_checksum"),
        ("an Ethernet header of IPv6 alone", six[..14].to_vec(), "ipv6_truncated"),
        ("39 bytes of IPv6", six[..53].to_vec(), "ipv6_truncated"),
        ("version 4 as IPv6", v6(UDP, &udp, |h| h[0] = 0x45), "ipv6_bad_version"),
        ("version 15", v6(UDP, &udp, |h| h[0] = 0xf0), "ipv6_bad_version"),
        ("a payload one too long", v6(UDP, &udp, |h| h[5] += 1), "ipv6_payload_len_above_frame"),
        ("a byte less of IPv6", six[..six.len() - 1].to_vec(), "ipv6_payload_len_above_frame"),
        (
            "a payload of 65495",
            v6(UDP, &udp, |h| h[4..6].copy_from_slice(&[0xff, 0xd7])),
            "ipv6_payload_len_above_frame",
        ),
        ("a payload of 65496", v6(UDP, &udp, |h| h[4..6].copy_from_slice(&[0xff, 0xd8])), "ipv6_too_long"),
        ("a payload of 65535", v6(UDP, &udp, |h| h[4..6].fill(0xff)), "ipv6_too_long"),
        ("a jumbogram", v6(0, &[UDP, 0, 0xc2, 4, 0, 1, 0, 0, 9], |h| h[4..6].fill(0)), "ipv6_jumbogram"),
        ("a hop-by-hop header of no length", v6(0, &[], |_| ()), "ipv6_jumbogram"),
        ("an 802.3 frame", ethernet(&[0, 46], &[0xaa; 46]), "ether_type_unknown"),
        ("LLDP", ethernet(&[0x88, 0xcc], &[2; 46]), "ether_type_unknown"),
        ("MPLS", ethernet(&[0x88, 0x47], &plain[14..]), "ether_type_unknown"),
        ("the router's own tag on another's port", tags(&[customer], &plain[14..]), "vlan_mismatch"),
        ("another's address", [&[2, 9, 9, 9, 9, 9], &plain[6..]].concat(), "not_for_us"),
        ("a broadcast frame", [&[0xff; 6], &plain[6..]].concat(), "link_broadcast"),
        ("a multicast frame", [&[1, 0, 0x5e, 0, 0, 1], &plain[6..]].concat(), "link_broadcast"),
    ];
    hold(&mut lab, 0, table);
    let counts = lab.stop();
    for cause in parse::Malformed::ALL {
        assert!(counts.drop(cause.into()) > 0, "{cause:?} has no shape");
    }
}

#[test]
fn every_address_of_no_host_is_dropped_under_its_own_name() {
    let udp = datagram(b"content");
    let from = |src: [u8; 4]| v4(&[], &udp, |h| h[12..16].copy_from_slice(&src));
    let to = |dst: [u8; 4]| v4(&[], &udp, |h| h[16..20].copy_from_slice(&dst));
    let six = |at: usize, start: &[u8], last: u8| {
        v6(UDP, &udp, |h| {
            h[at..at + 16].fill(0);
            h[at..at + start.len()].copy_from_slice(start);
            h[at + 15] = last;
        })
    };
    let mut lab = lab(IcmpLimits::default());
    let table = vec![
        ("a source of this network", from([0, 1, 2, 3]), "source_martian"),
        ("a loopback source", from([127, 0, 0, 1]), "source_martian"),
        ("a multicast source", from([224, 0, 0, 1]), "source_martian"),
        ("a reserved source", from([250, 0, 0, 1]), "source_martian"),
        ("a broadcast source", from([255; 4]), "source_martian"),
        ("a link-local source", from([169, 254, 0, 1]), "link_local_scope"),
        ("another's source", from([10, 0, 1, 9]), "source_not_controlled"),
        ("to this network", to([0, 0, 0, 0]), "destination_martian"),
        ("to loopback", to([127, 255, 255, 254]), "destination_martian"),
        ("to a reserved address", to([240, 0, 0, 1]), "destination_martian"),
        ("to a link-local address", to([169, 254, 9, 9]), "link_local_scope"),
        ("to a group", to([239, 1, 1, 1]), "multicast_not_routed"),
        ("to a group of the link", to([224, 0, 0, 5]), "to_tap"),
        ("to everyone", to([255; 4]), "to_tap"),
        ("into a black hole", to([203, 0, 113, 1]), "blackhole"),
        ("to nowhere", to([198, 18, 0, 1]), "no_route own_icmp p0.tx"),
        ("an unspecified source of IPv6", six(8, &[], 0), "source_martian"),
        ("a loopback source of IPv6", six(8, &[], 1), "source_martian"),
        ("a multicast source of IPv6", six(8, &[0xff, 2], 1), "source_martian"),
        ("a link-local source of IPv6", six(8, &[0xfe, 0x80], 1), "link_local_scope"),
        ("another's source of IPv6", six(8, &[0x20, 0x01, 0x0d, 0xb8, 0, 1], 9), "source_not_controlled"),
        ("to ::", six(24, &[], 0), "destination_martian"),
        ("to ::1", six(24, &[], 1), "destination_martian"),
        ("to a wider group of IPv6", six(24, &[0xff, 5], 1), "multicast_not_routed"),
        ("to a group of the link of IPv6", six(24, &[0xff, 2], 1), "to_tap"),
        ("to nowhere in IPv6", six(24, &[0x20, 0x02], 1), "no_route own_icmp p0.tx"),
    ];
    hold(&mut lab, 0, table);
    lab.stop();
}

#[test]
fn options_chains_and_lying_transports_are_forwarded_as_they_are() {
    let udp = datagram(b"content");
    let chain = |parts: &[Vec<u8>]| parts.concat();
    let many = |count: u8| {
        let mut bytes: Vec<u8> = (0..count).flat_map(|i| extension(if i + 1 == count { UDP } else { 60 }, 1)).collect();
        bytes.extend(&udp);
        bytes
    };
    let lying = |len: u16| [&[0x30, 0x39, 0, 53][..], &len.to_be_bytes(), &[0, 0], b"content"].concat();
    let tcp = |data_offset: u8, content: &[u8]| v4(&[], &segment(0x18, data_offset, content), |h| h[9] = 6);
    let mut lab = lab(IcmpLimits::default());
    let table = vec![
        ("an ordinary packet", v4(&[], &udp, |_| ()), "p1.tx"),
        ("an ordinary packet of IPv6", v6(UDP, &udp, |_| ()), "p1.tx"),
        ("an IPv4 header alone", v4(&[], &[], |_| ()), "p1.tx"),
        ("an IPv6 header alone", v6(59, &[], |_| ()), "p1.tx"),
        ("padding", [&v4(&[], &udp, |_| ())[..], &[0xee; 100]].concat(), "p1.tx"),
        ("padding behind IPv6", [&v6(UDP, &udp, |_| ())[..], &[0xee; 100]].concat(), "p1.tx"),
        // RFC 791's options: a router that knows none of them leaves them alone.
        ("no operation ten words long", v4(&[1; 40], &udp, |_| ()), "p1.tx"),
        ("an option of no length", v4(&[7, 0, 0, 0], &udp, |_| ()), "p1.tx"),
        ("an option of length one", v4(&[0x83, 1, 0, 0], &udp, |_| ()), "p1.tx"),
        ("an option longer than the header", v4(&[0x83, 255, 4, 0], &udp, |_| ()), "p1.tx"),
        ("an option without its length", v4(&[1, 1, 1, 0x83], &udp, |_| ()), "p1.tx"),
        ("a source route", v4(&[0x83, 7, 4, 10, 0, 2, 2, 0], &udp, |_| ()), "p1.tx"),
        ("options up to the end of the packet", v4(&[1; 8], &[], |_| ()), "p1.tx"),
        // RFC 8200, section 4: what is behind the IPv6 header is the destination's business.
        ("a hop-by-hop header", v6(0, &chain(&[extension(UDP, 1), udp.clone()]), |_| ()), "p1.tx"),
        ("eight headers", v6(60, &many(8), |_| ()), "p1.tx"),
        ("nine headers, more than are walked", v6(60, &many(9), |_| ()), "p1.tx"),
        ("a hundred headers", v6(60, &many(100), |_| ()), "p1.tx"),
        ("the longest header", v6(60, &extension_of_2048_cut_to(1400), |_| ()), "p1.tx"),
        ("a header cut off", v6(60, &extension(UDP, 1)[..5], |_| ()), "p1.tx"),
        ("a header and no more", v6(60, &extension(60, 1), |_| ()), "p1.tx"),
        (
            "hop-by-hop behind another",
            v6(60, &chain(&[extension(0, 1), extension(UDP, 1), udp.clone()]), |_| ()),
            "p1.tx",
        ),
        ("a routing header of type 0", v6(43, &[&[UDP, 2, 0, 1][..], &[0; 20], &udp].concat(), |_| ()), "p1.tx"),
        ("an authentication header of no length", v6(51, &[UDP, 0, 0, 0, 0, 0, 0, 1], |_| ()), "p1.tx"),
        ("an authentication header too long", v6(51, &[UDP, 255, 0, 0, 0, 0, 0, 1], |_| ()), "p1.tx"),
        ("an unknown next header", v6(253, &udp, |_| ()), "p1.tx"),
        ("a payload length of 0 and no hop-by-hop header", v6(UDP, &udp, |h| h[5] = 0), "p1.tx"),
        // The transport's own lengths.
        ("a UDP length of 0", v4(&[], &lying(0), |_| ()), "p1.tx"),
        ("a UDP length of 7", v4(&[], &lying(7), |_| ()), "p1.tx"),
        ("a UDP length of 65535", v4(&[], &lying(65535), |_| ()), "p1.tx"),
        ("half a UDP header", v4(&[], &udp[..4], |_| ()), "p1.tx"),
        ("a TCP header of 4 words", tcp(4, b"content"), "p1.tx"),
        ("a TCP header longer than the packet", tcp(15, b"content"), "p1.tx"),
        ("half a TCP header", v4(&[], &segment(0x18, 5, b"")[..11], |h| h[9] = 6), "p1.tx"),
        ("every TCP flag", v4(&[], &segment(0xff, 5, b"content"), |h| h[9] = 6), "p1.tx"),
        ("no TCP flag", v4(&[], &segment(0, 5, b"content"), |h| h[9] = 6), "p1.tx"),
        ("an unknown protocol", v4(&[], &udp, |h| h[9] = 254), "p1.tx"),
        ("every bit of the flags", v4(&[], &udp, |h| h[6] = 0xe0), "p1.tx"),
        // The programs see through all of it.
        ("a word in a datagram", v4(&[], &datagram(b"a forbidden word"), |_| ()), "program"),
        ("a word behind options", v4(&[1; 40], &datagram(b"a forbidden word"), |_| ()), "program"),
        ("a word behind a chain", v6(60, &chain(&[extension(UDP, 3), datagram(b"forbidden")]), |_| ()), "program"),
        ("a word behind a lying UDP length", v4(&[], &[&lying(3)[..], b"forbidden"].concat(), |_| ()), "program"),
        (
            "a word behind more headers than are walked",
            v6(60, &[many(9), b"forbidden".to_vec()].concat(), |_| ()),
            "program",
        ),
        ("a word in the padding", [&v4(&[], &udp, |_| ())[..], b"forbidden"].concat(), "p1.tx"),
    ];
    hold(&mut lab, 0, table);
    lab.stop();
}

/// A destination options header that says 2,048 bytes and has fewer.
fn extension_of_2048_cut_to(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    (bytes[0], bytes[1]) = (UDP, 255);
    bytes
}

#[test]
fn fragments_end_by_name_and_nothing_waits_for_those_that_never_come() {
    let place = |value: u16, payload: &[u8]| v4(&[], payload, move |h| h[6..8].copy_from_slice(&value.to_be_bytes()));
    let narrow = |value: u16, payload: &[u8]| {
        v4(&[], payload, move |h| {
            h[6..8].copy_from_slice(&value.to_be_bytes());
            h[18] = 2;
        })
    };
    let six = |offset: u16, more: bool, payload: &[u8]| {
        v6(44, &[&fragment_header(UDP, offset, more)[..], payload].concat(), |_| ())
    };
    let udp = datagram(&[b'x'; 40]);
    let expired = |value: u16| {
        v4(&[], &[0; 24], move |h| {
            h[6..8].copy_from_slice(&value.to_be_bytes());
            h[8] = 1;
        })
    };
    let mut lab = lab(IcmpLimits::default());
    let table = vec![
        ("a first fragment whose others never come", place(0x2000, &udp), "p1.tx"),
        ("the same again", place(0x2000, &udp), "p1.tx"),
        ("one that overlaps it", place(0x2001, &udp), "p1.tx"),
        ("one that lies over it wholly", place(0x0001, &[0; 8]), "p1.tx"),
        ("a tiny first one", place(0x2000, &udp[..8]), "p1.tx"),
        ("one of no byte", place(0x2000, &[]), "p1.tx"),
        ("a middle one not a multiple of 8", place(0x2002, &[0; 13]), "p1.tx"),
        ("one that ends beyond any datagram", place(0x1fff, &[0; 100]), "p1.tx"),
        ("a first one of IPv6", six(0, true, &udp), "p1.tx"),
        ("a later one of IPv6", six(5, false, &udp), "p1.tx"),
        ("an atomic one", six(0, false, &udp), "p1.tx"),
        ("one of IPv6 beyond any datagram", six(0x1fff, true, &[0; 100]), "p1.tx"),
        ("a fragment header cut off", v6(44, &fragment_header(UDP, 0, true)[..7], |_| ()), "p1.tx"),
        ("a fragment of a chain", v6(44, &[fragment_header(60, 0, true), extension(UDP, 1)].concat(), |_| ()), "p1.tx"),
        ("a word in a first fragment", place(0x2000, &datagram(b"forbidden")), "program"),
        ("a word in a later fragment", place(0x0009, b"forbidden"), "program"),
        // RFC 1122, section 3.2.2: about a later fragment nobody is told.
        ("an expired first fragment", expired(0x2000), "ttl_expired own_icmp p0.tx"),
        ("an expired later fragment", expired(0x0003), "ttl_expired"),
        // To the port with the MTU of 576, where a fragment is cut further.
        ("one to be cut to three", narrow(0, &[0; 1400]), "fragments*2 p2.tx*3"),
        ("a fragment to be cut", narrow(0x2010, &[0; 1000]), "fragments p2.tx*2"),
        ("the last that ends within a datagram", narrow(0x1f20, &[0; 1771]), "fragments*3 p2.tx*4"),
        ("one to be cut whose pieces end beyond any datagram", narrow(0x1f20, &[0; 1772]), "fragment_beyond_datagram"),
        ("the same at the last offset", narrow(0x3fff, &[0; 700]), "fragment_beyond_datagram"),
        ("one that must not be cut", narrow(0x4000, &[0; 1000]), "too_big own_icmp p0.tx"),
    ];
    hold(&mut lab, 0, table);
    let counts = lab.stop();
    assert_eq!(counts.held, 0);
}

#[test]
fn nobody_is_told_about_what_may_not_be_answered() {
    let icmp = |kind: u8| v4(&[], &[kind, 0, 0, 0, 0, 0, 0, 0], |h| (h[8], h[9]) = (1, 1));
    let icmp6 = |kind: u8| v6(58, &[kind, 0, 0, 0, 0, 0, 0, 0], |h| h[7] = 1);
    let ended = |next: u8, payload: &[u8]| v6(next, payload, |h| h[7] = 1);
    let mut lab = lab(IcmpLimits::default());
    let table = vec![
        ("an expired request", icmp(8), "ttl_expired own_icmp p0.tx"),
        ("an expired error", icmp(3), "ttl_expired"),
        ("an expired redirect", icmp(5), "ttl_expired"),
        ("an expired ICMP of no byte", v4(&[], &[], |h| (h[8], h[9]) = (1, 1)), "ttl_expired"),
        ("a TTL of 0", v4(&[], &datagram(b"x"), |h| h[8] = 0), "ttl_expired own_icmp p0.tx"),
        ("an expired request of IPv6", icmp6(128), "ttl_expired own_icmp p0.tx"),
        ("an expired error of IPv6", icmp6(1), "ttl_expired"),
        ("an expired redirect of IPv6", icmp6(137), "ttl_expired"),
        ("an expired ICMPv6 of no byte", v6(58, &[], |h| h[7] = 1), "ttl_expired"),
        ("an expired error behind a chain", ended(60, &[extension(58, 1), vec![1; 8]].concat()), "ttl_expired"),
        (
            "an expired request behind a chain",
            ended(60, &[extension(58, 1), vec![128; 8]].concat()),
            "ttl_expired own_icmp p0.tx",
        ),
        ("an expired packet with a broken chain", ended(60, &extension(UDP, 1)[..5]), "ttl_expired"),
    ];
    hold(&mut lab, 0, table);

    // An error of our own that is longer than the MTU of the way back ends there, under its name.
    let mut long = ended(UDP, &[0; 1300]);
    long[..12].copy_from_slice(&[router_mac(2), host_mac(2)].concat());
    long[14 + 8..14 + 24].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    hold(&mut lab, 2, vec![("an error longer than the way back takes", long, "ttl_expired too_big own_icmp")]);

    // Whose next hop nobody knows waits, as many as may.
    let unknown = v4(&[], &datagram(b"x"), |h| h[19] = 77);
    for number in 0..8 {
        hold(&mut lab, 0, vec![("one whose next hop is unknown", unknown.clone(), "held")]);
        assert_eq!(lab.counters.snapshot().held, number + 1);
    }
    hold(&mut lab, 0, vec![("one too many", unknown, "hold_full")]);
    let counts = lab.stop();
    assert_eq!(counts.drop(DropReason::Stopped), 8);
}

#[test]
fn tags_of_a_tagged_port_are_checked_at_every_depth() {
    let with = |types: &[u8], packet: &[u8]| [&router_mac(3)[..], &host_mac(3), types, packet].concat();
    let ip = v4(&[], &datagram(b"content"), |h| h[12..16].copy_from_slice(&[10, 0, 3, 2]))[14..].to_vec();
    let right = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6];
    let types = |tags: &[u8], last: &[u8]| [tags, last].concat();
    let mut lab = lab(IcmpLimits::default());
    let table = vec![
        ("its tags", with(&types(&right, IPV4), &ip), "p1.tx"),
        ("its identifiers under other types", with(&types(&[0x81, 0, 0, 5, 0x81, 0, 0, 6], IPV4), &ip), "p1.tx"),
        ("its tags with priorities", with(&types(&[0x88, 0xa8, 0xf0, 5, 0x81, 0, 0xe0, 6], IPV4), &ip), "p1.tx"),
        ("no tags", with(IPV4, &ip), "vlan_mismatch"),
        ("one of two", with(&types(&right[..4], IPV4), &ip), "vlan_mismatch"),
        ("two in the wrong order", with(&types(&[0x88, 0xa8, 0, 6, 0x81, 0, 0, 5], IPV4), &ip), "vlan_mismatch"),
        ("a third", with(&types(&[&right[..], &[0x81, 0, 0, 7]].concat(), IPV4), &ip), "vlan_tags_above_max"),
        ("its tags and a broken packet", with(&types(&right, IPV4), &ip[..19]), "ipv4_truncated"),
        ("its tags and nothing", with(&types(&right, IPV6), &[]), "ipv6_truncated"),
        ("its tags and another protocol", with(&types(&right, &[0x88, 0xcc]), &[0; 40]), "ether_type_unknown"),
        ("ARP under its tags", with(&types(&right, &[8, 6]), &[0; 28]), "to_tap"),
        ("ARP of no byte", with(&types(&right, &[8, 6]), &[]), "to_tap"),
        ("ARP under other tags", with(&types(&right[..4], &[8, 6]), &[0; 28]), "vlan_mismatch"),
    ];
    hold(&mut lab, 3, table);
    lab.stop();
}

/// One packet of every kind that a reader distinguishes, short, so that all of it is soon changed.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let udp = datagram(b"forbidde?");
    let tagged = [&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6][..], IPV4].concat();
    let fragment = |value: u16| v4(&[], &udp, move |h| h[6..8].copy_from_slice(&value.to_be_bytes()));
    vec![
        ("UDP over IPv4", v4(&[], &udp, |_| ())),
        ("TCP over IPv4", v4(&[], &segment(0x18, 5, b"forbidde?"), |h| h[9] = 6)),
        ("ICMP", v4(&[], &[8, 0, 0xf7, 0xff, 0, 0, 0, 0], |h| h[9] = 1)),
        ("IPv4 with options", v4(&[0x94, 4, 0, 0, 7, 4, 4, 0], &udp, |_| ())),
        ("a first fragment", fragment(0x2000)),
        ("a later fragment", fragment(0x0010)),
        ("to the router", v4(&[], &udp, |h| h[19] = 1)),
        ("expired", v4(&[], &udp, |h| h[8] = 1)),
        ("under two tags", ethernet(&tagged, &v4(&[], &udp, |_| ())[14..])),
        ("UDP over IPv6", v6(UDP, &udp, |_| ())),
        ("TCP over IPv6", v6(6, &segment(0x18, 5, b"forbidde?"), |_| ())),
        ("ICMPv6", v6(58, &[128, 0, 0, 0, 0, 0, 0, 0], |_| ())),
        ("hop-by-hop and routing", v6(0, &[extension(43, 1), extension(UDP, 2), udp.clone()].concat(), |_| ())),
        ("authentication", v6(51, &[&[UDP, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0; 12], &udp].concat(), |_| ())),
        ("a fragment of IPv6", v6(44, &[fragment_header(UDP, 0, true), udp.clone()].concat(), |_| ())),
        ("to the router over IPv6", v6(UDP, &udp, |h| (h[29], h[39]) = (0, 1))),
        (
            "ARP",
            ethernet(
                &[8, 6],
                &[[0, 1, 8, 0, 6, 4, 0, 1].as_slice(), &host_mac(0), &[10, 0, 0, 2], &[0; 6], &[10, 0, 0, 1]].concat(),
            ),
        ),
    ]
}

/// Frames sent together.
const TOGETHER: usize = 512;

#[test]
fn samples_cut_at_every_byte_and_changed_in_every_byte_end_by_name() {
    // Without a rate, so that errors about the changed samples are written too.
    let mut lab = lab(IcmpLimits { rate_pps: 1_000_000, burst: 1_000_000 });
    let (mut sent, mut passed) = (0, 0);
    let mut frames = Vec::with_capacity(TOGETHER);
    for (what, sample) in samples() {
        let before = sent;
        let truncated = (0..=sample.len()).map(|len| sample[..len].to_vec());
        let changed = (0..sample.len()).flat_map(|at| {
            let sample = &sample;
            (1..=255).map(move |change| {
                let mut frame = sample.clone();
                frame[at] ^= change;
                frame
            })
        });
        // With the sum mended the change is read, and not just refused.
        let mended = changed.clone().filter_map(|mut frame| {
            let is_v4 = frame[12..14] == *IPV4 && frame[14] == sample[14];
            is_v4.then(|| {
                let end = 14 + usize::from(frame[14] & 0xf) * 4;
                frame[24..26].fill(0);
                let sum = checksum::of(&frame[14..end]).to_be_bytes();
                frame[24..26].copy_from_slice(&sum);
                frame
            })
        });
        let mut all = truncated.chain(changed).chain(mended).peekable();
        while all.peek().is_some() {
            frames.clear();
            frames.extend(all.by_ref().take(TOGETHER));
            lab.send(0, &frames);
            sent += frames.len() as u64;
            lab.wait_for(what, |counts| counts.ports[0].rx_packets == sent);
            lab.slow_path.to_tap(TOGETHER, |_, _| ());
            for host in &mut lab.hosts {
                for frame in host.received() {
                    assert_sound(&frame, &|| what.to_owned());
                    passed += 1;
                }
            }
        }
        assert!(sent - before > 255 * sample.len() as u64, "{what}");
    }
    let counts = lab.stop();
    println!("{sent} damaged frames: {passed} went on, {} dropped, {} to the kernel", counts.dropped(), counts.to_tap);
    assert!(passed > sent / 10 && counts.dropped() > sent / 10, "{counts:?}");
    let unseen: Vec<&str> = parse::Malformed::ALL
        .into_iter()
        .filter(|cause| counts.drop((*cause).into()) == 0)
        .map(parse::Malformed::name)
        .collect();
    assert_eq!(unseen, ["ipv6_too_long"], "every other cause comes up: that one takes two changed bytes");
    assert!(counts.own_icmp > 0 && counts.drop(DropReason::Program) > 0, "{counts:?}");
}
