use super::*;
use crate::samples::{Carried, Random, Traffic, World, addr, frame, frame_with, seed};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

fn malformed(frame: &[u8]) -> Option<Malformed> {
    match headers(frame) {
        Err(NotForwardable::Malformed(cause)) => Some(cause),
        _ => None,
    }
}

fn tcp(payload: &[u8]) -> Carried {
    Carried::Tcp { ports: (1000, 25), seq: 77, flags: flags::ACK, payload: payload.to_vec() }
}

fn udp(payload: &[u8]) -> Carried {
    Carried::Udp { ports: (53, 5353), payload: payload.to_vec() }
}

fn v4(carried: &Carried) -> Vec<u8> {
    frame(addr("192.0.2.1"), addr("10.0.0.5"), carried)
}

fn v6(carried: &Carried) -> Vec<u8> {
    frame(addr("2001:db8::1"), addr("2001:db8::5"), carried)
}

/// Puts `value` at `offset` and makes the header of an untagged IPv4 frame sum up again.
fn patched(mut frame: Vec<u8>, offset: usize, value: &[u8]) -> Vec<u8> {
    frame[offset..offset + value.len()].copy_from_slice(value);
    mend(&mut frame, ETHERNET_LEN);
    frame
}

fn mend(frame: &mut [u8], l3_offset: usize) {
    let Some(first) = frame.get(l3_offset) else { return };
    let end = l3_offset + usize::from(first & 15) * 4;
    if first >> 4 == 4 && end >= l3_offset + 20 && end <= frame.len() {
        frame[l3_offset + 10..l3_offset + 12].fill(0);
        let sum = checksum::of(&frame[l3_offset..end]);
        frame[l3_offset + 10..l3_offset + 12].copy_from_slice(&sum.to_be_bytes());
    }
}

#[test]
fn reads_what_was_written() {
    for tags in [&[][..], &[5], &[7, 9]] {
        for options in [0, 3, 12] {
            for (src, dst) in [("192.0.2.1", "10.0.0.5"), ("2001:db8::1", "2001:db8::5")] {
                let (src, dst) = (addr(src), addr(dst));
                let mut frame = frame_with(src, dst, &tcp(b"hello"), tags, options, None);
                let unpadded = frame.len();
                frame.extend([0; 9]);
                let h = headers(&frame).unwrap();
                assert_eq!((h.src, h.dst, h.ttl, h.protocol), (src, dst, 64, protocol::TCP));
                assert_eq!(usize::from(h.l3_offset), 14 + 4 * tags.len());
                assert_eq!(h.end(), unpadded);
                assert_eq!(h.options, options > 0);
                assert_eq!(h.vlan.tags().iter().map(|tag| tag.id()).collect::<Vec<_>>(), tags);
                assert_eq!(h.link_cast, Cast::Unicast);
                assert!(!h.is_fragment() && !h.hop_by_hop && h.irregular.is_none());
                assert_eq!(h.dont_fragment, h.family() == Family::V6);
                let Transport::Tcp(segment) = transport(&frame, &h) else { panic!("it is TCP") };
                assert_eq!((segment.src_port, segment.dst_port, segment.seq), (1000, 25, 77));
                assert_eq!(&frame[segment.payload], b"hello");
                let frame = frame_with(src, dst, &udp(b"hello"), tags, options, None);
                let h = headers(&frame).unwrap();
                let Transport::Udp(datagram) = transport(&frame, &h) else { panic!("it is UDP") };
                assert_eq!((datagram.src_port, datagram.dst_port), (53, 5353));
                assert_eq!(&frame[datagram.payload], b"hello");
            }
        }
    }
}

#[test]
fn each_offence_has_its_cause() {
    let good = v4(&tcp(b"data"));
    assert!(headers(&good).is_ok());
    assert_eq!(malformed(&good[..13]), Some(Malformed::EthernetTruncated));
    assert_eq!(malformed(&[]), Some(Malformed::EthernetTruncated));
    assert_eq!(malformed(&good[..33]), Some(Malformed::Ipv4Truncated));
    assert_eq!(malformed(&good[..40]), Some(Malformed::Ipv4TotalLenAboveFrame));
    assert_eq!(malformed(&patched(good.clone(), 14, &[0x55])), Some(Malformed::Ipv4BadVersion));
    assert_eq!(malformed(&patched(good.clone(), 14, &[0x44])), Some(Malformed::Ipv4BadHeaderLen));
    assert_eq!(malformed(&patched(good.clone(), 16, &[0, 19])), Some(Malformed::Ipv4BadTotalLen));
    assert_eq!(malformed(&patched(good.clone(), 16, &[1, 0])), Some(Malformed::Ipv4TotalLenAboveFrame));
    // A header of 60 bytes in a packet of 44.
    assert_eq!(malformed(&patched(good.clone(), 14, &[0x4f])), Some(Malformed::Ipv4BadTotalLen));
    let mut bad_sum = good.clone();
    bad_sum[22] ^= 1;
    assert_eq!(malformed(&bad_sum), Some(Malformed::Ipv4BadChecksum));
    let with_options = frame_with(addr("192.0.2.1"), addr("10.0.0.5"), &tcp(b""), &[], 8, None);
    let mut bad_option = with_options.clone();
    bad_option[36] ^= 1;
    assert_eq!(malformed(&bad_option), Some(Malformed::Ipv4BadChecksum), "options are summed too");

    let good = v6(&udp(b"data"));
    assert!(headers(&good).is_ok());
    assert_eq!(malformed(&good[..53]), Some(Malformed::Ipv6Truncated));
    assert_eq!(malformed(&good[..60]), Some(Malformed::Ipv6PayloadLenAboveFrame));
    assert_eq!(malformed(&patched(good.clone(), 14, &[0x40])), Some(Malformed::Ipv6BadVersion));
    assert_eq!(malformed(&patched(good.clone(), 18, &[0, 0, 0])), Some(Malformed::Ipv6Jumbogram));
    assert_eq!(malformed(&patched(good.clone(), 18, &[0xff, 0xff])), Some(Malformed::Ipv6TooLong));

    let tagged = frame_with(addr("192.0.2.1"), addr("10.0.0.5"), &tcp(b""), &[1, 2, 3], 0, None);
    assert_eq!(malformed(&tagged), Some(Malformed::VlanTagsAboveMax));
    assert_eq!(malformed(&tagged[..17]), Some(Malformed::EthernetTruncated));
    for (i, cause) in Malformed::ALL.iter().enumerate() {
        assert_eq!(cause.index(), i);
    }
}

#[test]
fn others_than_ip_are_named() {
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 1, 0x81, 0, 0, 5, 0x08, 0x06]);
    let Err(NotForwardable::NotIp { ethertype, l3_offset, vlan, link_cast }) = headers(&arp) else {
        panic!("it is ARP")
    };
    assert_eq!((ethertype, l3_offset, link_cast), (ETHERTYPE_ARP, 18, Cast::Broadcast));
    assert_eq!(vlan.tags(), [VlanTag { ethertype: ETHERTYPE_VLAN, control: 5 }]);
}

#[test]
fn lying_transport_headers_leave_the_ip_payload() {
    let cases = [
        (patched(v4(&tcp(b"data")), 14 + 20 + 12, &[0x40]), Irregular::TcpBadHeaderLen),
        (patched(v4(&tcp(b"data")), 14 + 20 + 12, &[0xf0]), Irregular::TcpTruncated),
        (v4(&Carried::Other { protocol: 6, payload: vec![1; 19] }), Irregular::TcpTruncated),
        (v4(&Carried::Other { protocol: 17, payload: vec![1; 7] }), Irregular::UdpTruncated),
        (patched(v4(&udp(b"data")), 14 + 20 + 4, &[0, 7]), Irregular::UdpBadLen),
        (patched(v4(&udp(b"data")), 14 + 20 + 4, &[0, 13]), Irregular::UdpBadLen),
    ];
    for (frame, cause) in cases {
        let h = headers(&frame).unwrap();
        let expected = Other { protocol: h.protocol, payload: 34..frame.len(), irregular: Some(cause) };
        assert_eq!(transport(&frame, &h), Transport::Other(expected));
    }
    // A UDP length below what the packet holds is lawful: the rest is not payload.
    let short = patched(v4(&udp(b"data")), 14 + 20 + 4, &[0, 10]);
    assert_eq!(transport(&short, &headers(&short).unwrap()).payload(), 42..44);
}

#[test]
fn fragments_are_told_apart() {
    for (src, dst, l4) in [("192.0.2.1", "10.0.0.5", 34), ("2001:db8::1", "2001:db8::5", 62)] {
        let make = |offset, more| frame_with(addr(src), addr(dst), &tcp(b"data"), &[], 0, Some((offset, more)));
        let (whole, first, later) = (make(0, false), make(0, true), make(3, true));
        let h = headers(&whole).unwrap();
        assert_eq!(h.fragment, Fragment::Whole);
        assert!(matches!(transport(&whole, &h), Transport::Tcp(_)));
        let h = headers(&first).unwrap();
        assert_eq!((h.fragment, usize::from(h.l4_offset)), (Fragment::First, l4));
        assert_eq!(transport(&first, &h).payload(), l4 + 20..l4 + 24, "its own transport payload");
        assert!(matches!(transport(&first, &h), Transport::Other(Other { irregular: None, .. })));
        let h = headers(&later).unwrap();
        assert_eq!(h.fragment, Fragment::Later);
        assert_eq!(transport(&later, &h).payload(), l4..l4 + 24, "it has no transport header");
        assert_eq!(headers(&make(3, false)).unwrap().fragment, Fragment::Later);
        // The first fragment of a datagram, too short for its transport header.
        let tiny = Carried::Other { protocol: 6, payload: vec![7; 8] };
        let tiny = frame_with(addr(src), addr(dst), &tiny, &[], 0, Some((0, true)));
        let Transport::Other(other) = transport(&tiny, &headers(&tiny).unwrap()) else { panic!("it is no TCP") };
        assert_eq!((other.payload, other.irregular), (l4..l4 + 8, Some(Irregular::TcpTruncated)));
    }
}

/// An IPv6 frame whose payload is `chain` followed by UDP, starting with header `first`.
fn chained(first: u8, chain: &[u8]) -> Vec<u8> {
    let mut payload = chain.to_vec();
    payload.extend([0, 53, 0, 53, 0, 9, 0, 0, b'x']);
    v6(&Carried::Other { protocol: first, payload })
}

#[test]
fn extension_headers_are_walked_to_a_bound() {
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let chain = |count: usize| -> Vec<u8> {
        (0..count)
            .flat_map(|i| options(if i + 1 == count { protocol::UDP } else { protocol::DESTINATION_OPTIONS }))
            .collect()
    };
    let at_most = chained(protocol::DESTINATION_OPTIONS, &chain(EXTENSIONS_MAX));
    let h = headers(&at_most).unwrap();
    assert_eq!((h.protocol, h.irregular), (protocol::UDP, None));
    assert_eq!(transport(&at_most, &h).payload(), at_most.len() - 1..at_most.len());
    let above = chained(protocol::DESTINATION_OPTIONS, &chain(EXTENSIONS_MAX + 1));
    let h = headers(&above).unwrap();
    assert_eq!(h.irregular, Some(Irregular::ExtensionsAboveMax));
    assert_eq!(transport(&above, &h).payload(), 54 + 8 * EXTENSIONS_MAX..above.len());

    let late = chained(protocol::ROUTING, &[&options(protocol::HOP_BY_HOP)[..], &options(protocol::UDP)].concat());
    assert_eq!(headers(&late).unwrap().irregular, Some(Irregular::HopByHopNotFirst));
    let first = chained(protocol::HOP_BY_HOP, &options(protocol::UDP));
    assert!(headers(&first).is_ok_and(|h| h.hop_by_hop && h.irregular.is_none() && h.protocol == protocol::UDP));
    let lying = chained(protocol::HOP_BY_HOP, &[protocol::UDP, 2, 0, 0, 0, 0, 0, 0]);
    assert_eq!(headers(&lying).unwrap().irregular, Some(Irregular::ExtensionTruncated));
    // An authentication header counts its length in words of four bytes.
    let authenticated = chained(protocol::AUTHENTICATION, &[protocol::UDP, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
    let h = headers(&authenticated).unwrap();
    assert_eq!((h.protocol, h.l4_offset), (protocol::UDP, 54 + 12));
}

#[test]
fn addresses_of_no_host_are_told() {
    let with_src = |src: &str, dst: &str| headers(&frame(addr(src), addr(dst), &udp(b""))).unwrap();
    for src in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "240.1.2.3"] {
        assert!(with_src(src, "10.0.0.1").src_is_martian(), "{src}");
    }
    for src in ["::", "::1", "ff02::1"] {
        assert!(with_src(src, "2001:db8::1").src_is_martian(), "{src}");
    }
    assert!(!with_src("192.0.2.1", "10.0.0.1").src_is_martian());
    assert!(!with_src("fe80::1", "2001:db8::1").src_is_martian());
    assert!(with_src("fe80::1", "2001:db8::1").is_link_local());
    assert!(with_src("10.0.0.1", "169.254.7.7").is_link_local());
    assert!(with_src("10.0.0.1", "127.7.7.7").dst_is_martian());
    assert!(!with_src("10.0.0.1", "255.255.255.255").dst_is_martian());
    assert!(is_limited_broadcast(addr("255.255.255.255")) && is_multicast(addr("ff05::2")));
}

/// Holds what is read from a frame against what etherparse reads. Returns a name for what happened.
fn compare(frame: &[u8], place: &dyn Fn() -> String) -> &'static str {
    let ours = headers(frame);
    let theirs = SlicedPacket::from_ethernet(frame);
    let (h, theirs) = match (ours, theirs) {
        (Ok(h), Ok(theirs)) => (h, theirs),
        (Ok(h), Err(e)) => {
            // What etherparse reads beyond: headers behind IP, and an authentication header behind IPv4.
            let Transport::Other(other) = transport(frame, &h) else { panic!("{}: {e:?}", place()) };
            let beyond = [protocol::ICMP, protocol::ICMPV6, protocol::AUTHENTICATION, 2];
            let known = other.irregular.is_some() || beyond.contains(&other.protocol) || h.is_fragment();
            assert!(known, "{}: {e:?} and {h:?}", place());
            return "broken behind IP";
        }
        (Err(NotForwardable::NotIp { ethertype, .. }), Ok(theirs)) => {
            let is_ip = matches!(theirs.net, Some(NetSlice::Ipv4(_) | NetSlice::Ipv6(_)));
            // Etherparse also looks behind a MACsec header and the old EtherType of double tags.
            assert!(!is_ip || matches!(ethertype, 0x88e5 | 0x9100), "{}: EtherType {ethertype:#x} is IP", place());
            return "not IP";
        }
        (Err(NotForwardable::NotIp { .. }), Err(_)) => return "not IP",
        (Err(NotForwardable::Malformed(cause)), Ok(_)) => {
            // What etherparse does not judge.
            let lenient = [
                Malformed::Ipv4BadChecksum,
                Malformed::Ipv6Jumbogram,
                Malformed::Ipv6TooLong,
                Malformed::VlanTagsAboveMax,
            ];
            assert!(lenient.contains(&cause), "{}: {cause}", place());
            return cause.name();
        }
        (Err(NotForwardable::Malformed(cause)), Err(_)) => return cause.name(),
    };
    let (src, dst, ttl, fragmented) = match theirs.net.as_ref().expect("IP") {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let (src, dst) = (IpAddr::V4(header.source_addr()), IpAddr::V4(header.destination_addr()));
            assert_eq!(h.dont_fragment, header.dont_fragment(), "{}", place());
            (src, dst, header.ttl(), ip.is_payload_fragmented())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let (src, dst) = (IpAddr::V6(header.source_addr()), IpAddr::V6(header.destination_addr()));
            (src, dst, header.hop_limit(), ip.is_payload_fragmented())
        }
        NetSlice::Arp(_) => panic!("{}: ARP is not IP", place()),
    };
    assert_eq!((h.src, h.dst, h.ttl), (src.into(), dst.into(), ttl), "{}", place());
    if h.family() == Family::V6 && usize::from(h.l3_len) == IPV6_LEN {
        // Etherparse takes a payload length of zero for "all there is"; RFC 8200 does not.
        return "empty";
    }
    assert_eq!(h.is_fragment(), fragmented, "{}", place());
    let ids: Vec<u16> = h.vlan.tags().iter().map(|tag| tag.id()).collect();
    assert_eq!(ids, theirs.vlan_ids().iter().map(|id| id.value()).collect::<Vec<_>>(), "{}", place());
    let ours = transport(frame, &h);
    match (&ours, &theirs.transport) {
        (Transport::Tcp(tcp), Some(TransportSlice::Tcp(slice))) => {
            assert_eq!((tcp.src_port, tcp.dst_port), (slice.source_port(), slice.destination_port()), "{}", place());
            assert_eq!(tcp.seq, slice.sequence_number(), "{}", place());
            assert_eq!(tcp.flags & flags::SYN != 0, slice.syn(), "{}", place());
            assert_eq!(tcp.flags & flags::FIN != 0, slice.fin(), "{}", place());
            assert_eq!(&frame[tcp.payload.clone()], slice.payload(), "{}", place());
            "TCP"
        }
        (Transport::Udp(udp), Some(TransportSlice::Udp(slice))) => {
            assert_eq!((udp.src_port, udp.dst_port), (slice.source_port(), slice.destination_port()), "{}", place());
            assert_eq!(&frame[udp.payload.clone()], slice.payload(), "{}", place());
            "UDP"
        }
        (Transport::Other(_), Some(TransportSlice::Tcp(_) | TransportSlice::Udp(_)))
        | (Transport::Tcp(_) | Transport::Udp(_), _) => {
            // Etherparse takes a UDP length of zero for "all there is", and looks behind IPv4's authentication header.
            let udp_len_zero = matches!(ours, Transport::Other(Other { irregular: Some(Irregular::UdpBadLen), .. }));
            assert!(udp_len_zero || h.protocol == protocol::AUTHENTICATION, "{}: {ours:?}", place());
            "other"
        }
        (Transport::Other(other), _) => {
            assert!(other.payload.start <= other.payload.end && other.payload.end <= h.end());
            if fragmented { "fragment" } else { "other" }
        }
    }
}

#[test]
fn random_frames_are_read_as_etherparse_reads_them() {
    let seed = seed("frames");
    let mut random = Random::new(seed);
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..300 {
        let world = World::random(&mut random);
        let mut traffic = Traffic::new(&world, &mut random);
        for packet in 0..100 {
            let mut frame = traffic.frame(&mut random);
            // Most of them broken in up to three places in the headers, half of these with a checksum that fits.
            for _ in 0..random.below(4) {
                let at = random.below(frame.len().min(80));
                frame[at] = if random.one_in(2) { random.next() as u8 } else { frame[at] ^ 1 << random.below(8) };
            }
            if random.one_in(3) {
                frame.truncate(random.below(frame.len()));
            }
            if random.one_in(2) {
                for l3_offset in [14, 18, 22] {
                    mend(&mut frame, l3_offset);
                }
            }
            let outcome = compare(&frame, &|| format!("seed {seed}, round {round}, packet {packet}: {frame:02x?}"));
            *seen.entry(outcome).or_default() += 1;
        }
    }
    println!("{seen:?}");
    for outcome in ["TCP", "UDP", "other", "fragment", "not IP", "broken behind IP"] {
        assert!(seen.get(outcome).is_some_and(|&count| count > 50), "seed {seed}: {outcome} is rare: {seen:?}");
    }
}

#[test]
fn a_capture_that_kept_the_headers_is_read() {
    for whole in [v4(&tcp(b"a long payload")), v6(&udp(b"a long payload")), v6(&tcp(b""))] {
        let h = headers(&whole).unwrap();
        for len in 0..whole.len() {
            match headers_snapped(&whole[..len], whole.len()) {
                Ok(snapped) => {
                    assert_eq!((snapped.src, snapped.dst, snapped.l3_len), (h.src, h.dst, h.l3_len));
                    assert!(transport(&whole[..len], &snapped).payload().end <= len);
                }
                Err(e) => assert!(len < usize::from(h.l4_offset), "{len} bytes: {e}"),
            }
        }
        assert!(headers_snapped(&whole, 0).is_ok(), "it had at least the bytes that are here");
    }
    let options = frame_with(addr("192.0.2.1"), addr("10.0.0.5"), &tcp(b""), &[], 8, None);
    assert_eq!(
        headers_snapped(&options[..36], options.len()),
        Err(NotForwardable::Malformed(Malformed::Ipv4Truncated))
    );
}

#[test]
fn noise_is_read_without_panic() {
    let seed = seed("noise");
    let mut random = Random::new(seed);
    for _ in 0..50_000 {
        let len = random.below(120);
        let mut frame: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        if let Some(ethertype) = frame.get_mut(12..14) {
            let of = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x88, 0xa8]];
            ethertype.copy_from_slice(&of[random.below(4)]);
        }
        if let Ok(h) = headers(&frame) {
            let payload = transport(&frame, &h).payload();
            assert!(payload.end <= frame.len(), "seed {seed}: {frame:02x?}");
        }
    }
}

/// The captures, where the machine has them.
pub(crate) fn captures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/traces");
    let Ok(entries) = fs::read_dir(&folder) else {
        println!("skipped: there are no captures in {}", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "pcap"));
    paths.sort();
    paths
}

/// The frames of a capture in the classic format, little-endian, of Ethernet, as all of the captures are.
pub(crate) fn frames(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (0xa1b2_c3d4, 1), "{}", path.display());
    let mut frames = Vec::new();
    let mut at = 24;
    while at + 16 <= bytes.len() {
        let len = word(at + 8) as usize;
        frames.push(bytes[at + 16..at + 16 + len].to_vec());
        at += 16 + len;
    }
    frames
}

#[test]
fn captures_are_read_as_etherparse_reads_them_whole_and_cut_at_every_byte() {
    for path in captures() {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, frame) in frames(&path).iter().enumerate() {
            *seen.entry(compare(frame, &|| format!("{}, packet {i}", path.display()))).or_default() += 1;
            for len in 0..frame.len() {
                // Beyond the headers a cut changes nothing but the length, so that a few of these cuts do.
                if len < 200 || len % 97 == 0 || len + 8 > frame.len() {
                    compare(&frame[..len], &|| format!("{}, packet {i} cut at {len}", path.display()));
                }
            }
        }
        println!("{}: {seen:?}", path.file_name().unwrap().display());
    }
}
