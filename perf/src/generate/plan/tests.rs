//! Generated packets held against another parser, and replayed ones against what they were.

use super::*;
use crate::generate::rate::{Pace, Schedule};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use std::collections::HashMap;
use vinet_fastpath::port::PacketPool;
use vinet_fastpath::port::memory::MemoryPool;

const LINK: Link = Link { dst: [2, 0, 0, 0, 0, 1], src: [2, 0, 0, 0, 0, 2] };

fn prefix(addr: &str, len: u8) -> Prefix {
    Prefix::new(addr.parse::<IpAddr>().expect("an address").into(), len).expect("a prefix")
}

fn recipe(sizes: &str, family: Family, transport: Transport) -> Recipe {
    Recipe {
        sizes: sizes.parse().expect("sizes"),
        flows: 100,
        mix: Mix::Uniform,
        family,
        transport,
        src: [prefix("10.0.0.0", 8), prefix("2001:2::", 64)],
        dst: [prefix("198.18.0.0", 15), prefix("2001:2:0:8000::", 64)],
        dst_port: 9,
        payload: None,
        plant: Vec::new(),
        seed: 5,
    }
}

/// Every packet of the cycle as it is sent, with its number in the stamp.
fn sent(plan: &Plan) -> Vec<Vec<u8>> {
    let mut pool = MemoryPool::new(1, 9_100);
    (0..plan.len())
        .map(|place| {
            let mut packet = pool.allocate(plan.frame(place)).expect("a buffer");
            plan.finish(place, Stamp { tag: 7, number: place as u64, intended_ns: 1_000 * place as u64 }, &mut packet);
            packet.bytes().to_vec()
        })
        .collect()
}

/// The flow, after everything else has been checked by the other parser.
fn checked(frame: &[u8]) -> (IpAddr, IpAddr, u16, u16) {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a packet");
    let (src, dst): (IpAddr, IpAddr);
    match sliced.net.expect("IP") {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            (src, dst) = (ip.header().source_addr().into(), ip.header().destination_addr().into());
        }
        NetSlice::Ipv6(ip) => (src, dst) = (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Arp(_) => panic!("no IP"),
    }
    let (wrote, right, src_port, dst_port) = match (sliced.transport.expect("TCP or UDP"), src, dst) {
        (TransportSlice::Udp(udp), IpAddr::V4(src), IpAddr::V4(dst)) => {
            let right = udp.to_header().calc_checksum_ipv4_raw(src.octets(), dst.octets(), udp.payload());
            (udp.checksum(), right.expect("short"), udp.source_port(), udp.destination_port())
        }
        (TransportSlice::Udp(udp), IpAddr::V6(src), IpAddr::V6(dst)) => {
            let right = udp.to_header().calc_checksum_ipv6_raw(src.octets(), dst.octets(), udp.payload());
            (udp.checksum(), right.expect("short"), udp.source_port(), udp.destination_port())
        }
        (TransportSlice::Tcp(tcp), IpAddr::V4(src), IpAddr::V4(dst)) => {
            let right = tcp.to_header().calc_checksum_ipv4_raw(src.octets(), dst.octets(), tcp.payload());
            (tcp.checksum(), right.expect("short"), tcp.source_port(), tcp.destination_port())
        }
        (TransportSlice::Tcp(tcp), IpAddr::V6(src), IpAddr::V6(dst)) => {
            let right = tcp.to_header().calc_checksum_ipv6_raw(src.octets(), dst.octets(), tcp.payload());
            (tcp.checksum(), right.expect("short"), tcp.source_port(), tcp.destination_port())
        }
        (other, ..) => panic!("{other:?}"),
    };
    assert_eq!(wrote, right, "the transport's checksum");
    (src, dst, src_port, dst_port)
}

#[test]
fn every_packet_is_right_by_another_parser_and_its_stamp_is_read_back() {
    for family in [Family::V4, Family::V6, Family::Both] {
        for transport in [Transport::Udp, Transport::Tcp] {
            for sizes in ["imix", "128", "1:100,2:1518"] {
                let plan = Plan::build(&recipe(sizes, family, transport), LINK).expect("a plan");
                let mut flows = HashMap::new();
                for (place, frame) in sent(&plan).iter().enumerate() {
                    let (src, dst, src_port, dst_port) = checked(frame);
                    *flows.entry((src, dst, src_port, dst_port)).or_insert(0u32) += 1;
                    assert!(vinet_pktops::parse::headers(frame).is_ok());
                    assert_eq!(frame[..12], [LINK.dst, LINK.src].concat());
                    let stamp = Stamp { tag: 7, number: place as u64, intended_ns: 1_000 * place as u64 };
                    assert_eq!(Stamp::read(frame), Some(stamp));
                    assert_eq!(plan.wire_len(place) as usize, frame.len() + FCS_LEN);
                }
                assert_eq!(flows.len(), 100);
                assert!(flows.values().all(|&count| count == flows.values().copied().max().unwrap_or(0)));
                let v6 = flows.keys().filter(|flow| flow.0.is_ipv6()).count();
                assert_eq!(
                    v6,
                    match family {
                        Family::V4 => 0,
                        Family::V6 => 100,
                        Family::Both => 50,
                    }
                );
            }
        }
    }
}

#[test]
fn a_64_byte_udp_packet_has_room_for_a_stamp_and_smaller_ones_are_told() {
    let plan = Plan::build(&recipe("64", Family::V4, Transport::Udp), LINK).expect("room for the stamp");
    assert!((0..plan.len()).all(|place| plan.frame(place).len() == 60 && plan.wire_len(place) == 64));
    assert!(plan.is_stamped() && plan.notes.is_empty());
    for (family, transport) in [(Family::V6, Transport::Udp), (Family::V4, Transport::Tcp)] {
        assert!(matches!(Plan::build(&recipe("64", family, transport), LINK), Err(PerfError::Option(_))));
        let raised = Plan::build(&recipe("imix", family, transport), LINK).expect("the named mix is raised");
        assert_eq!(raised.notes.len(), 1);
    }
}

#[test]
fn a_mix_is_exact_in_the_cycle() {
    let plan = Plan::build(&recipe("imix", Family::V4, Transport::Udp), LINK).expect("a plan");
    let mut counts = HashMap::new();
    (0..plan.len()).for_each(|place| *counts.entry(plan.wire_len(place)).or_insert(0u32) += 1);
    let whole = plan.len() as f64;
    for (len, share) in [(64, 7.0), (594, 4.0), (1518, 1.0)] {
        assert!((f64::from(counts[&len]) - whole * share / 12.0).abs() < 12.0, "{counts:?}");
    }
}

#[test]
fn mails_are_carried_and_words_are_planted() {
    let dir = tempfile::tempdir().expect("a folder");
    let mbox = dir.path().join("mbox");
    std::fs::write(&mbox, format!("From x\n{}", "All work and no play. ".repeat(100))).expect("a file");
    let mut recipe = recipe("512", Family::V4, Transport::Tcp);
    recipe.payload = Some(mbox);
    recipe.plant = vec!["lottery=0.25".parse().expect("a word")];
    let plan = Plan::build(&recipe, LINK).expect("a plan");
    let frames = sent(&plan);
    let with = |word: &[u8]| frames.iter().filter(|frame| frame.windows(word.len()).any(|w| w == word)).count();
    assert_eq!(with(b"no play."), frames.len());
    let share = with(b"lottery") as f64 / frames.len() as f64;
    assert!((share - 0.25).abs() < 0.02, "{share}");
    for frame in &frames {
        checked(frame);
    }
}

#[test]
fn a_seed_decides_all_and_nothing_else_does() {
    let mut one = recipe("imix", Family::Both, Transport::Udp);
    one.mix = Mix::Zipf(1.1);
    let frames = |recipe: &Recipe| sent(&Plan::build(recipe, LINK).expect("a plan"));
    let first = frames(&one);
    assert!(first == frames(&one));
    one.seed += 1;
    assert!(first != frames(&one));
}

fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for (number, frame) in frames.iter().enumerate() {
        for word in [7, number as u32 * 250, frame.len() as u32, frame.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    bytes
}

#[test]
fn a_capture_is_replayed_as_it_is_or_with_stamps() {
    let mut frames = sent(&Plan::build(&recipe("imix", Family::Both, Transport::Tcp), LINK).expect("a plan"));
    frames.truncate(40);
    // An ARP request, which has no place for a stamp, and a frame that is too long.
    frames.push([[0xff; 6].as_slice(), &[2; 6], &[8, 6], &[0; 46]].concat());
    frames.push(vec![0; 1600]);
    let bytes = capture(&frames);
    let link = Link { dst: [6; 6], src: [8; 6] };
    let (plain, gaps) = Plan::replay(&bytes, "c", link, false, 1514).expect("a capture");
    assert_eq!((plain.len(), plain.notes.len()), (41, 1));
    assert_eq!(gaps, vec![250_000; 41]);
    for (place, frame) in frames[..41].iter().enumerate() {
        assert_eq!(plain.frame(place)[..12], [[6; 6], [8; 6]].concat());
        assert_eq!(plain.frame(place)[12..], frame[12..]);
    }
    assert!(!plain.is_stamped());
    let (stamped, _) = Plan::replay(&bytes, "c", link, true, 1514).expect("a capture");
    for (place, frame) in sent(&stamped)[..40].iter().enumerate() {
        checked(frame);
        assert_eq!(Stamp::read(frame).map(|stamp| stamp.number), Some(place as u64));
    }
    assert!(stamped.notes.iter().any(|note| note.starts_with("1 packets")), "{:?}", stamped.notes);
    let mut schedule = Schedule::new(Pace::recorded(gaps, 1.0));
    (0..41).for_each(|_| schedule.advance(64));
    assert_eq!(schedule.due_ns(), 41 * 250_000);
    for wrong in [&b"no capture"[..], &bytes[..24]] {
        assert!(matches!(Plan::replay(wrong, "c", link, false, 1514), Err(PerfError::Option(_))));
    }
}
