//! The three ways of judging against each other, over frames that are nearly plain.

use std::sync::LazyLock;

use proptest::prelude::*;
use vinet_pktops::checksum;
use vinet_trusted::addr::{Prefix, PrefixSet};

use super::*;
use crate::fib::{FibBuilder, Target};
use crate::port::PacketBuf;
use crate::settings::{Discipline, PortSettings};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Small ones, so that some frames are too long.
fn mtu_of(port: u16) -> u16 {
    if port.is_multiple_of(4) { 100 } else { 46 }
}

fn face(controlled: bool, vlan: Vec<u16>) -> Face {
    face_of(u8::from(controlled), vlan)
}

/// An uplink; or a port that controls one prefix of IPv4 addresses, two, or many.
fn face_of(controlled: u8, vlan: Vec<u16>) -> Face {
    let prefixes = [
        Prefix::of(Addr::V4(0x0a00_0000), 9),
        Prefix::of(Addr::V6(0x2001 << 112), 17),
        Prefix::of(Addr::V4(0xc000_0000), 3),
    ];
    let many = (0..8u32).map(|i| Prefix::of(Addr::V4(0x0a00_0000 | i << 17), 16));
    let controlled = match controlled {
        0 => None,
        1 => Some(PrefixSet::new(prefixes[..2].iter().copied().flatten().collect())),
        2 => Some(PrefixSet::new(prefixes.into_iter().flatten().collect())),
        _ => Some(PrefixSet::new(prefixes.into_iter().chain(many).flatten().collect())),
    };
    let (queue_depth, discipline) = (1, Discipline::Fifo);
    Face::new(&PortSettings { name: "p".into(), mac: MAC, mtu: 1500, controlled, vlan, queue_depth, discipline })
}

/// A frame as a packet that is only read.
struct Frame(Vec<u8>);

impl PacketBuf for Frame {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
    fn prepend(&mut self, _: usize) -> Option<&mut [u8]> {
        None
    }
    fn append(&mut self, _: usize) -> Option<&mut [u8]> {
        None
    }
    fn trim_front(&mut self, _: usize) -> bool {
        false
    }
    fn truncate(&mut self, _: usize) {}
}

/// Half of the addresses have a route, by length: to a station that is known (10/8 and 2000::/6 among them), to the
/// router, or to a link.
fn fib() -> &'static Fib {
    static FIB: LazyLock<Fib> = LazyLock::new(build_fib);
    &FIB
}

fn build_fib() -> Fib {
    let mut routes = FibBuilder::new();
    for first in 0..64u32 {
        let v4 = (Prefix::of(Addr::V4((first << 26) | (1 << 25)), 7), Addr::V4(0x0a00_0001));
        let v6 = (Prefix::of(Addr::V6(u128::from(first) << 122), 7), Addr::V6(0x2001 << 112 | 1));
        let port = first as u16;
        for (prefix, gateway) in [v4, v6] {
            let target = match first % 4 {
                0 | 2 => Target::Via { port, gateway: Some(gateway) },
                1 => Target::Local,
                _ => Target::Via { port, gateway: None },
            };
            if let Some(prefix) = prefix {
                routes.route(prefix, target);
            }
            routes.neighbour(port, gateway, MAC);
        }
    }
    // Some of the ports that are routed to have tags.
    let vlan = |port: u16| if port % 8 == 6 { vec![7] } else { vec![] };
    let mut faces: Vec<Face> = (0..64).map(|port| face(false, vlan(port))).collect();
    for (port, face) in (0..).zip(&mut faces) {
        face.mtu = mtu_of(port);
    }
    let mut fib = routes.build().expect("a table");
    fib.reach_by(&faces);
    fib
}

/// Frames of both families that are nearly sound: a few bytes are then changed, the checksum mostly kept right.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let octet = || prop_oneof![Just(0u8), Just(10), Just(127), Just(169), Just(224), Just(255), any::<u8>()];
    let addr = || {
        let first = prop_oneof![Just(0x20u8), Just(0xfc), Just(0xfe), Just(0xff), Just(0), any::<u8>()];
        (first, prop_oneof![Just(1u8), Just(0x80), Just(254), any::<u8>()], proptest::collection::vec(octet(), 14))
            .prop_map(|(a, b, rest)| [vec![a, b], rest].concat())
    };
    let changes = proptest::collection::vec((0usize..60, any::<u8>()), 0..3);
    (any::<bool>(), addr(), addr(), octet(), octet(), changes, 0usize..4, any::<bool>()).prop_map(
        |(v6, src, dst, src_first, dst_first, changes, cut, sum)| {
            let mut frame = [&MAC[..], &[2, 0, 0, 0, 0, 2]].concat();
            if v6 {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 17, 64]);
                frame.extend(&src);
                frame.extend(&dst);
                frame.extend([0; 20]);
            } else {
                frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0]);
                frame.extend([src_first, src[1], src[2], src[3], dst_first, dst[1], dst[2], dst[3]]);
                frame.extend([0; 20]);
            }
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if !v6 && sum {
                frame[24..26].fill(0);
                let sum = checksum::of(&frame[14..34]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            frame.truncate(frame.len() - cut * cut);
            frame
        },
    )
}

/// Plain IPv4 frames and such as are so but for one thing, at the edges of what is asked.
fn nearly_plain_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = || prop_oneof![4 => Just(10u8), 1 => any::<u8>(), 1 => prop_oneof![Just(0u8), Just(127), Just(224)]];
    let second = || prop_oneof![Just(0u8), Just(127), Just(128), Just(254), any::<u8>()];
    let ttl = prop_oneof![4 => Just(64u8), 1 => 0u8..4, 1 => Just(255)];
    let sum = prop_oneof![
        2 => any::<u16>(),
        1 => prop_oneof![Just(0u16), Just(1), Just(0xffff), Just(0xfffe), Just(0xfeff), Just(0xff00), Just(0x00ff)]
    ];
    let version = prop_oneof![9 => Just(0x45u8), 1 => any::<u8>(), 1 => any::<u8>().prop_map(|byte| byte & 0xf0 | 5)];
    let len = prop_oneof![2 => Just(40usize), 1 => 18usize..24, 2 => 43usize..49];
    let link = prop_oneof![3 => Just(0usize), 2 => Just(usize::MAX), 1 => 1usize..3, 1 => Just(47)];
    let change = prop_oneof![3 => Just(None), 1 => (0usize..40, any::<u8>()).prop_map(Some)];
    (first(), second(), first(), second(), ttl, (version, sum), len, link, change).prop_map(
        |(src, src_next, dst, dst_next, ttl, (version, sum), len, link, change)| {
            let mut frame =
                [&MAC[..], &[2, 0, 0, 0, 0, 2, 8, 0, version, 0, 0, len as u8, 0, 0, 0, 0, ttl, 17]].concat();
            frame.extend(sum.to_be_bytes());
            frame.extend([src, src_next, 3, 4, dst, dst_next, 5, 6]);
            // The identification is what makes the header sound with that checksum.
            let id = checksum::of(&frame[14..34]);
            frame[18..20].copy_from_slice(&id.to_be_bytes());
            // Padded by so many bytes, cut, or to the shortest frame and around it.
            let end = ETHERNET_LEN + len;
            frame.resize(
                match link {
                    usize::MAX => end.max(FRAME_LEN_MIN),
                    47 => 61,
                    more => end + more,
                },
                0,
            );
            if let Some((at, value)) = change
                && let Some(byte) = frame.get_mut(at)
            {
                *byte = value;
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn the_short_way_says_what_the_parser_says(frame in frame(), controlled: bool, tagged in 0u8..8) {
        let (face, fib) = (face(controlled, if tagged == 0 { vec![5] } else { vec![] }), fib());
        let (mut short, mut long) = (Lanes::EMPTY, Lanes::EMPTY);
        let (lane, wide) = (&mut short.lanes[0], &mut short.wide[0]);
        if lane.judge_plain_v4(&frame, &face, fib) || lane.judge_plain_v6(wide, &frame, &face, fib) {
            let (by_parser, wide_by_parser) = (&mut long.lanes[0], &mut long.wide[0]);
            by_parser.judge_any(wide_by_parser, &frame, &face, fib);
            prop_assert_eq!(lane.way, by_parser.way);
            prop_assert_eq!((lane.pair(wide), lane.is_v6), (by_parser.pair(wide_by_parser), by_parser.is_v6));
            let rest = |lane: &Lane| (lane.l3_offset, lane.l3_len, lane.ttl, lane.station, lane.passes);
            prop_assert_eq!(rest(lane), rest(by_parser));
        }
    }

    #[test]
    fn a_header_sums_up_where_its_sum_is_all_ones(mut header: [u8; 20], right: bool) {
        header[0] = 0x45;
        if right {
            header[10..12].fill(0);
            let sum = checksum::of(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let (a, b, c) = (word_at(&header, 0), word_at(&header, 8), half_at(&header, 16));
        prop_assert_eq!(sums_up(a, b, c), checksum::of(&header) == 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn together_they_are_judged_as_alone(
        frames in proptest::collection::vec(prop_oneof![3 => nearly_plain_frame(), 1 => frame()], 0..40),
        controlled in 0u8..4,
        tagged in 0u8..8,
    ) {
        let Some(together) = Together::get() else { return Ok(()) };
        let (face, fib) = (face_of(controlled, if tagged == 0 { vec![5] } else { vec![] }), fib());
        let (mut alone, mut plain) = (Lanes::EMPTY, Plain::EMPTY);
        let packets: Vec<Frame> = frames.iter().cloned().map(Frame).collect();
        let mut pairs = [0; BURST_LEN_MAX];
        let is_plain = together.judge(&packets, (&face, fib), &mut plain, &mut pairs);
        for (number, frame) in frames.iter().enumerate() {
            let lane = &mut alone.lanes[number];
            let says = lane.judge_plain_v4(frame, &face, fib) && lane.passes;
            // A frame that is padded beyond the port's MTU goes the long way for all that.
            let is_long = frame.len() - ETHERNET_LEN > usize::from(mtu_of(lane.station.port()));
            let is_in_group = number / 8 * 8 + 8 <= frames.len();
            prop_assert_eq!(is_plain >> number & 1 != 0, says && is_in_group && !is_long);
            if is_plain >> number & 1 == 0 {
                continue;
            }
            let of_plain = Lane::of_plain(&plain, number, frame, fib);
            let all = |lane: &Lane| {
                let Lane { station, src, dst, l3_offset, l3_len, ttl, is_v6, passes, way } = *lane;
                (station, (src, dst), (l3_offset, l3_len, ttl), is_v6, passes, way)
            };
            prop_assert_eq!(all(&of_plain), all(lane));
            prop_assert_eq!(pairs[number], u64::from(lane.src) << 32 | u64::from(lane.dst));
            prop_assert_eq!(plain.ports()[number], u32::from(lane.station.port()));
            let (mut by_lane, mut by_plain) = ([0; PLAIN_LEN], [0; PLAIN_LEN]);
            by_lane.copy_from_slice(&frame[..PLAIN_LEN]);
            by_plain.copy_from_slice(&frame[..PLAIN_LEN]);
            lane.station.pass_on(&mut by_lane, Family::V4);
            lane.station.pass_plain_on(&mut by_plain, plain.lifetimes()[number]);
            prop_assert_eq!(by_lane, by_plain);
            prop_assert_eq!(checksum::of(&by_plain[ETHERNET_LEN..]), 0);
        }
    }
}

#[test]
fn plain_packets_go_the_short_way() {
    let (mut lane, mut wide, fib) = (Lane::EMPTY, Lanes::EMPTY.wide[0], fib());
    let v4 =
        [&MAC[..], &[2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0x66, 0xd7, 10, 0, 0, 1, 10, 0, 0, 2]]
            .concat();
    assert!(lane.judge_plain_v4(&v4, &face(true, vec![]), fib));
    let mut v6 = [
        &MAC[..],
        &[2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64, 0x20, 1],
        &[0; 14],
        &[0x20, 1],
        &[0; 14],
    ]
    .concat();
    assert!(lane.judge_plain_v6(&mut wide, &v6, &face(true, vec![]), fib));
    v6[20] = 0;
    assert!(!lane.judge_plain_v6(&mut wide, &v6, &face(true, vec![]), fib), "extension headers go the long way");
}
