//! The judging of frames: where a packet goes, as far as its own headers and the port it came by tell.
//!
//! A [`Lane`] holds what forwarding needs to know of one packet of a burst. Plain packets, nearly all, are read here
//! without the detour of the whole parser; a test holds that both say the same.

use vinet_pktops::parse::{
    self, Cast, ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Headers, IPV4_LEN, IPV6_LEN,
    NotForwardable, VlanTags, is_limited_broadcast, is_link_local, is_multicast, is_unspecified, protocol,
};
use vinet_trusted::addr::Addr;

use crate::drop_reason::DropReason;
use crate::fib::Hop;
use crate::link::Face;

/// Where a packet goes, as far as its own headers and its port tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// On, if a route leads on.
    Transit,
    /// To the kernel, through the twin of the port it came by.
    Kernel,
    /// Nowhere.
    Drop(DropReason),
}

/// What is known of one packet of the burst: the little that forwarding needs, written and read field by field.
/// (Moving the parser's whole answer about costs 20 ns a packet in failed store forwarding; who needs more of it
/// parses again.)
#[derive(Clone, Copy)]
pub(crate) struct Lane {
    /// Addresses as numbers; IPv4 in the low 32 bits.
    pub(crate) src: u128,
    pub(crate) dst: u128,
    pub(crate) hop: Hop,
    pub(crate) l3_offset: u16,
    pub(crate) l3_len: u16,
    pub(crate) is_v6: bool,
    pub(crate) ttl: u8,
    /// Where it goes if its destination is not the router, and if it is.
    pub(crate) way: Way,
    pub(crate) way_if_local: Way,
}

impl Lane {
    pub(crate) const EMPTY: Lane = Lane {
        src: 0,
        dst: 0,
        hop: Hop::NoRoute,
        l3_offset: 0,
        l3_len: 0,
        is_v6: false,
        ttl: 0,
        way: Way::Drop(DropReason::EthernetTruncated),
        way_if_local: Way::Drop(DropReason::EthernetTruncated),
    };
    /// Source and destination.
    #[inline]
    pub(crate) fn pair(&self) -> (Addr, Addr) {
        if self.is_v6 {
            (Addr::V6(self.src), Addr::V6(self.dst))
        } else {
            (Addr::V4(self.src as u32), Addr::V4(self.dst as u32))
        }
    }

    /// Reads a frame and judges it by its own headers and the port it came by.
    #[inline]
    pub(crate) fn judge(&mut self, frame: &[u8], face: &Face) {
        if !self.judge_plain_v4(frame, face) && !self.judge_plain_v6(frame, face) {
            self.judge_any(frame, face);
        }
    }

    /// The commonest case: an untagged IPv4 frame to this station, sound, without options, from and to ordinary
    /// addresses. `false`, and nothing said, for every other; what it says is what [`Lane::judge_any`] would say.
    #[inline]
    fn judge_plain_v4(&mut self, frame: &[u8], face: &Face) -> bool {
        let Some(front) = frame.first_chunk::<{ ETHERNET_LEN + IPV4_LEN }>() else { return false };
        let Some(ip) = front.last_chunk::<IPV4_LEN>() else { return false };
        let total_len = u16::from_be_bytes([ip[2], ip[3]]);
        if front.first_chunk() != Some(&face.mac)
            || front[12..14] != ETHERTYPE_IPV4.to_be_bytes()
            || ip[0] != 0x45
            || face.is_tagged()
            || usize::from(total_len) < IPV4_LEN
            || usize::from(total_len) > frame.len() - ETHERNET_LEN
            || !has_right_sum(ip)
        {
            return false;
        }
        let src = u32::from_be_bytes([ip[12], ip[13], ip[14], ip[15]]);
        let dst = u32::from_be_bytes([ip[16], ip[17], ip[18], ip[19]]);
        let is_ordinary = |addr: u32| !matches!(addr >> 24, 0 | 127 | 224..) && addr >> 16 != 0xa9fe;
        if !is_ordinary(src) || !is_ordinary(dst) {
            return false;
        }
        (self.src, self.dst, self.is_v6) = (u128::from(src), u128::from(dst), false);
        (self.l3_offset, self.l3_len, self.ttl) = (ETHERNET_LEN as u16, total_len, ip[8]);
        (self.way, self.way_if_local) = match &face.controlled {
            Some(controlled) if !controlled.contains_v4(src) => Self::NOT_CONTROLLED,
            _ => (Way::Transit, Way::Kernel),
        };
        true
    }

    /// The same for IPv6: without extension headers, between global addresses.
    #[inline]
    fn judge_plain_v6(&mut self, frame: &[u8], face: &Face) -> bool {
        let Some(front) = frame.first_chunk::<{ ETHERNET_LEN + IPV6_LEN }>() else { return false };
        let Some(ip) = front.last_chunk::<IPV6_LEN>() else { return false };
        let l3_len = IPV6_LEN + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        if front.first_chunk() != Some(&face.mac)
            || front[12..14] != ETHERTYPE_IPV6.to_be_bytes()
            || ip[0] >> 4 != 6
            || face.is_tagged()
            || l3_len > usize::from(u16::MAX).min(frame.len() - ETHERNET_LEN)
            || !matches!(ip[6], protocol::TCP | protocol::UDP | protocol::ICMPV6)
        {
            return false;
        }
        let (mut src, mut dst) = ([0; 16], [0; 16]);
        src.copy_from_slice(&ip[8..24]);
        dst.copy_from_slice(&ip[24..40]);
        let (src, dst) = (u128::from_be_bytes(src), u128::from_be_bytes(dst));
        // 2000::/3 and fc00::/7: neither unspecified, loopback, link-local nor multicast.
        let is_ordinary = |addr: u128| addr >> 125 == 1 || addr >> 121 == 0x7e;
        if !is_ordinary(src) || !is_ordinary(dst) {
            return false;
        }
        (self.src, self.dst, self.is_v6) = (src, dst, true);
        (self.l3_offset, self.l3_len, self.ttl) = (ETHERNET_LEN as u16, l3_len as u16, ip[7]);
        (self.way, self.way_if_local) = match &face.controlled {
            Some(controlled) if !controlled.contains_v6(src) => Self::NOT_CONTROLLED,
            _ => (Way::Transit, Way::Kernel),
        };
        true
    }

    const NOT_CONTROLLED: (Way, Way) =
        (Way::Drop(DropReason::SourceNotControlled), Way::Drop(DropReason::SourceNotControlled));

    /// Any frame, by the parser.
    #[inline(never)]
    fn judge_any(&mut self, frame: &[u8], face: &Face) {
        let lane = self;
        let way = match &parse::headers(frame) {
            Ok(headers) => {
                (lane.l3_offset, lane.l3_len, lane.ttl) = (headers.l3_offset, headers.l3_len, headers.ttl);
                match (headers.src, headers.dst) {
                    (Addr::V4(src), Addr::V4(dst)) => {
                        (lane.src, lane.dst, lane.is_v6) = (u128::from(src), u128::from(dst), false);
                    }
                    (Addr::V6(src), Addr::V6(dst)) => (lane.src, lane.dst, lane.is_v6) = (src, dst, true),
                    // The parser reads both addresses from one header.
                    _ => {}
                }
                match check_link(frame, face, &headers.vlan, headers.link_cast) {
                    Ok(()) => judge_ip(headers, face),
                    Err(reason) => Ways::both(Way::Drop(reason)),
                }
            }
            Err(NotForwardable::NotIp { ethertype: ETHERTYPE_ARP, l3_offset, vlan, link_cast }) => {
                lane.l3_offset = *l3_offset;
                match check_link(frame, face, vlan, *link_cast) {
                    Ok(()) => Ways::both(Way::Kernel),
                    Err(reason) => Ways::both(Way::Drop(reason)),
                }
            }
            Err(NotForwardable::NotIp { .. }) => Ways::both(Way::Drop(DropReason::EtherTypeUnknown)),
            Err(NotForwardable::Malformed(cause)) => Ways::both(Way::Drop((*cause).into())),
        };
        (lane.way, lane.way_if_local) = (way.on, way.local);
    }
}

/// Whether an IPv4 header without options sums up. The sum of 16-bit words is the same in either byte order but for the
/// order of its own bytes (RFC 1071, section 2 (B)), and all ones in both, so nothing is swapped.
#[inline]
fn has_right_sum(header: &[u8; IPV4_LEN]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    // Five words of 32 bits carry at most three bits over; twice folded they fit 17 bits, thrice 16.
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum == 0xffff
}

/// Where a packet goes if its destination is not the router, and if it is.
struct Ways {
    on: Way,
    local: Way,
}

impl Ways {
    fn both(way: Way) -> Ways {
        Ways { on: way, local: way }
    }
}

/// Whether a frame is of the port's link and for this station.
#[inline]
fn check_link(frame: &[u8], face: &Face, vlan: &VlanTags, cast: Cast) -> Result<(), DropReason> {
    if !face.has_tags(vlan) {
        Err(DropReason::VlanMismatch)
    } else if cast == Cast::Unicast && frame.first_chunk() != Some(&face.mac) {
        Err(DropReason::NotForUs)
    } else {
        Ok(())
    }
}

/// Judges an IP packet by its headers, for either answer of the routes.
#[inline]
fn judge_ip(headers: &Headers, face: &Face) -> Ways {
    let dst = headers.dst;
    if is_multicast(dst) {
        let is_of_link = is_link_multicast(dst);
        return Ways::both(if is_of_link {
            kernel_if_allowed(headers, face)
        } else {
            Way::Drop(DropReason::MulticastNotRouted)
        });
    }
    if is_limited_broadcast(dst) {
        return Ways::both(kernel_if_allowed(headers, face));
    }
    if headers.dst_is_martian() {
        return Ways::both(Way::Drop(DropReason::DestinationMartian));
    }
    if matches!(dst, Addr::V6(_)) && is_link_local(dst) {
        // Every port has such addresses, and no route tells them apart: the kernel knows which are the router's.
        return Ways::both(kernel_if_allowed(headers, face));
    }
    Ways { on: judge_transit(headers, face), local: kernel_if_allowed(headers, face) }
}

/// Whether a packet that is not for the router may be forwarded.
#[inline]
fn judge_transit(headers: &Headers, face: &Face) -> Way {
    if headers.link_cast != Cast::Unicast {
        return Way::Drop(DropReason::LinkBroadcast);
    }
    if headers.src_is_martian() {
        return Way::Drop(DropReason::SourceMartian);
    }
    if headers.is_link_local() {
        return Way::Drop(DropReason::LinkLocalScope);
    }
    match &face.controlled {
        Some(controlled) if !controlled.contains(headers.src) => Way::Drop(DropReason::SourceNotControlled),
        _ => Way::Transit,
    }
}

/// Whether a packet to the router may reach the kernel: on an edge port only from a controlled source, or from one
/// that a host has before it has an address (unspecified: DHCP, duplicate address detection; link-local: neighbour
/// discovery).
fn kernel_if_allowed(headers: &Headers, face: &Face) -> Way {
    let src = headers.src;
    if is_unspecified(src) || is_link_local(src) {
        return Way::Kernel;
    }
    if headers.src_is_martian() {
        return Way::Drop(DropReason::SourceMartian);
    }
    match &face.controlled {
        Some(controlled) if !controlled.contains(src) => Way::Drop(DropReason::SourceNotControlled),
        _ => Way::Kernel,
    }
}

/// Whether a group is one of the link alone: 224.0.0.0/24, or `ff02::/16` with any flags.
fn is_link_multicast(group: Addr) -> bool {
    match group {
        Addr::V4(group) => group >> 8 == 0x00e0_0000,
        Addr::V6(group) => group >> 112 & 0xf == 2,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vinet_pktops::checksum;
    use vinet_trusted::addr::{Prefix, PrefixSet};

    use super::*;
    use crate::settings::PortSettings;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn face(controlled: bool, vlan: Vec<u16>) -> Face {
        let prefixes = [Prefix::of(Addr::V4(0x0a00_0000), 9), Prefix::of(Addr::V6(0x2001 << 112), 17)];
        let controlled = controlled.then(|| PrefixSet::new(prefixes.into_iter().flatten().collect()));
        Face::new(&PortSettings { name: "p".into(), mac: MAC, mtu: 1500, controlled, vlan, queue_depth: 1 })
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_short_way_says_what_the_parser_says(frame in frame(), controlled: bool, tagged in 0u8..8) {
            let face = face(controlled, if tagged == 0 { vec![5] } else { vec![] });
            let (mut short, mut long) = (Lane::EMPTY, Lane::EMPTY);
            if short.judge_plain_v4(&frame, &face) || short.judge_plain_v6(&frame, &face) {
                long.judge_any(&frame, &face);
                prop_assert_eq!((short.way, short.way_if_local), (long.way, long.way_if_local));
                prop_assert_eq!((short.src, short.dst, short.is_v6), (long.src, long.dst, long.is_v6));
                prop_assert_eq!((short.l3_offset, short.l3_len, short.ttl), (long.l3_offset, long.l3_len, long.ttl));
            }
        }
    }

    #[test]
    fn plain_packets_go_the_short_way() {
        let mut lane = Lane::EMPTY;
        let v4 = [
            &MAC[..],
            &[2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0x66, 0xd7, 10, 0, 0, 1, 10, 0, 0, 2],
        ]
        .concat();
        assert!(lane.judge_plain_v4(&v4, &face(true, vec![])));
        let mut v6 = [
            &MAC[..],
            &[2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64, 0x20, 1],
            &[0; 14],
            &[0x20, 1],
            &[0; 14],
        ]
        .concat();
        assert!(lane.judge_plain_v6(&v6, &face(true, vec![])));
        v6[20] = 0;
        assert!(!lane.judge_plain_v6(&v6, &face(true, vec![])), "extension headers go the long way");
    }
}
