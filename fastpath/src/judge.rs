//! The judging of frames: where a packet goes, as far as its own headers and the port it came by tell.
//!
//! A [`Lane`] holds what forwarding needs to know of one packet of a burst. Plain packets, nearly all, are read here
//! without the detour of the whole parser, and plain IPv4 packets eight at a time where the processor can ([`Together`]);
//! tests hold that all say the same.

mod plain;
#[cfg(target_arch = "x86_64")]
mod together;

use vinet_pktops::parse::{
    self, Cast, ETHERNET_LEN, ETHERTYPE_ARP, Family, Headers, IPV4_LEN, IPV6_LEN, NotForwardable, VlanTags,
    is_limited_broadcast, is_link_local, is_multicast, is_unspecified, protocol,
};
use vinet_trusted::addr::Addr;

use crate::drop_reason::DropReason;
use crate::fib::{Fib, Hop};
use crate::flow_table::TableScratch;
use crate::link::{FRAME_LEN_MIN, Face, PLAIN_LEN};
use crate::port::BURST_LEN_MAX;
use crate::station::Station;

pub(crate) use plain::Plain;
#[cfg(target_arch = "x86_64")]
pub(crate) use together::Together;

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

/// What is known of one packet of the burst: the little that forwarding needs, written at once and half a cache line
/// long. (Moving the parser's whole answer about costs 20 ns a packet in failed store forwarding; who needs more of it
/// parses again.)
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(crate) struct Lane {
    /// Where its route leads, if to a station that is known.
    pub(crate) station: Station,
    /// The addresses of an IPv4 packet; those of an IPv6 packet are [`Wide`].
    src: u32,
    dst: u32,
    pub(crate) l3_offset: u16,
    pub(crate) l3_len: u16,
    pub(crate) ttl: u8,
    is_v6: bool,
    /// Whether it leaves at once, if no program wants it: to a station that is known, with the untagged header that it
    /// has, written anew, and nothing to be cut off. Its way is [`Way::Transit`] then.
    pub(crate) passes: bool,
    pub(crate) way: Way,
}

/// The addresses of an IPv6 packet, beside its lane.
#[derive(Clone, Copy)]
pub(crate) struct Wide {
    src: u128,
    dst: u128,
}

/// The lanes of a burst.
pub(crate) struct Lanes {
    pub(crate) lanes: [Lane; BURST_LEN_MAX],
    pub(crate) wide: [Wide; BURST_LEN_MAX],
    /// Of the packets that were judged together, which have no lane.
    pub(crate) plain: Plain,
}

impl Lanes {
    pub(crate) const EMPTY: Lanes = Lanes {
        lanes: [Lane::EMPTY; BURST_LEN_MAX],
        wide: [Wide { src: 0, dst: 0 }; BURST_LEN_MAX],
        plain: Plain::EMPTY,
    };
}

/// No processor but that of x86-64 judges packets together.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
pub(crate) enum Together {}

#[cfg(not(target_arch = "x86_64"))]
impl Together {
    pub(crate) fn get() -> Option<Together> {
        None
    }
    pub(crate) fn judge<B>(self, _: &[B], _: (&Face, &Fib), _: &mut Plain, _: &mut [u64; BURST_LEN_MAX]) -> u64 {
        match self {}
    }
    pub(crate) fn places_of(self, _: u32, _: &[u32; BURST_LEN_MAX], _: usize) -> u64 {
        match self {}
    }
}

impl Lane {
    const EMPTY: Lane = Lane {
        station: Station::NONE,
        src: 0,
        dst: 0,
        l3_offset: 0,
        l3_len: 0,
        ttl: 0,
        is_v6: false,
        passes: false,
        way: Way::Drop(DropReason::EthernetTruncated),
    };
    /// What is known of a frame that was judged together with others, by its number among them.
    #[inline]
    pub(crate) fn of_plain(plain: &Plain, number: usize, frame: &[u8], fib: &Fib) -> Lane {
        let Some(front) = frame.first_chunk::<PLAIN_LEN>() else { return Lane::EMPTY };
        Lane {
            station: *fib.station(plain.hops()[number]),
            src: u32::from_be(half_at(front, ETHERNET_LEN + 12)),
            dst: u32::from_be(half_at(front, ETHERNET_LEN + 16)),
            l3_offset: ETHERNET_LEN as u16,
            l3_len: u16::from_be_bytes([front[16], front[17]]),
            ttl: front[22],
            is_v6: false,
            passes: true,
            way: Way::Transit,
        }
    }
    /// Source and destination.
    #[inline]
    pub(crate) fn pair(&self, wide: &Wide) -> (Addr, Addr) {
        if self.is_v6 { (Addr::V6(wide.src), Addr::V6(wide.dst)) } else { (Addr::V4(self.src), Addr::V4(self.dst)) }
    }
    /// Whether it is an IP packet that could be read, and so has addresses.
    pub(crate) fn is_ip(&self) -> bool {
        self.l3_len > 0
    }
    /// Whether it goes on, and so meets programs.
    #[inline]
    pub(crate) fn goes_on(&self) -> bool {
        self.way == Way::Transit
    }
    /// Looks up its route again, for a packet that goes on but had to wait: it may now be for the router itself.
    pub(crate) fn route_again(&mut self, fib: &Fib, dst: Addr, frame_len: usize) {
        let (hop, station) = fib.look_up_both(dst);
        self.station = station;
        self.way = match hop {
            Hop::Local => Way::Kernel,
            _ => Way::Transit,
        };
        self.passes = self.way == Way::Transit && self.can_pass(frame_len);
    }
    /// Adds it to the look-ups of the burst in which it has this number.
    #[inline]
    pub(crate) fn look_up_in(&self, scratch: &mut TableScratch, number: u8, wide: &Wide) {
        if self.is_v6 {
            scratch.push_v6(number, wide.src, wide.dst);
        } else {
            scratch.push_v4(number, self.src, self.dst);
        }
    }
    /// Its family.
    #[inline]
    pub(crate) fn family(&self) -> Family {
        if self.is_v6 { Family::V6 } else { Family::V4 }
    }

    /// Reads a frame and judges it by its own headers, the port it came by, and its route. Inlined by force: as a call it
    /// costs 2 ns a packet.
    #[inline(always)]
    pub(crate) fn judge(&mut self, wide: &mut Wide, frame: &[u8], face: &Face, fib: &Fib) {
        if !self.judge_plain_v4(frame, face, fib) && !self.judge_plain_v6(wide, frame, face, fib) {
            self.judge_any(wide, frame, face, fib);
        }
    }

    /// The commonest case: an untagged IPv4 frame to this station, sound, without options, from and to ordinary
    /// addresses, that may pass. `false`, and nothing said, for every other; what it says is what [`Lane::judge_any`]
    /// would say.
    #[inline(always)]
    fn judge_plain_v4(&mut self, frame: &[u8], face: &Face, fib: &Fib) -> bool {
        let Some(front) = frame.first_chunk::<PLAIN_LEN>() else { return false };
        let (word, half) = (|at| word_at(front, at), |at| half_at(front, at));
        let l3_len = u16::from_be_bytes([front[16], front[17]]);
        // The type, the version and the header's length are looked at as one number.
        if !face.is_plain_front(word(0))
            || half(12) & 0x00ff_ffff != 0x0045_0008
            || !is_whole(ETHERNET_LEN + usize::from(l3_len), frame.len())
            || usize::from(l3_len) < IPV4_LEN
            || !sums_up(word(14), word(22), half(30))
        {
            return false;
        }
        let (src, dst) = (u32::from_be(half(26)), u32::from_be(half(30)));
        let (station, ttl) = (*fib.station(fib.hop_v4(dst)), front[22]);
        if !face.plain_sources.contains_v4(src) || !station.is_known() || ttl <= 1 {
            return false;
        }
        let l3_offset = ETHERNET_LEN as u16;
        let way = Way::Transit;
        let passes = station.takes(usize::from(l3_len));
        *self = Lane { station, src, dst, l3_offset, l3_len, ttl, is_v6: false, passes, way };
        true
    }

    /// The same for IPv6: without extension headers, between global addresses.
    #[inline(never)]
    fn judge_plain_v6(&mut self, wide: &mut Wide, frame: &[u8], face: &Face, fib: &Fib) -> bool {
        let Some(front) = frame.first_chunk::<{ ETHERNET_LEN + IPV6_LEN }>() else { return false };
        let l3_len = IPV6_LEN + usize::from(u16::from_be_bytes([front[18], front[19]]));
        // The type and the version are looked at as one number.
        if !face.is_plain_front(word_at(front, 0))
            || half_at(front, 12) & 0x00f0_ffff != 0x0060_dd86
            || l3_len > usize::from(u16::MAX)
            || !is_whole(ETHERNET_LEN + l3_len, frame.len())
            || !matches!(front[20], protocol::TCP | protocol::UDP | protocol::ICMPV6)
        {
            return false;
        }
        let addr =
            |at| u128::from(word_at(front, at).swap_bytes()) << 64 | u128::from(word_at(front, at + 8).swap_bytes());
        let (src, dst) = (addr(22), addr(38));
        // 2000::/3 and fc00::/7: neither unspecified, loopback, link-local nor multicast.
        let is_ordinary = |addr: u128| addr >> 125 == 1 || addr >> 121 == 0x7e;
        let (station, ttl) = (*fib.station(fib.hop_v6(dst)), front[21]);
        let is_controlled = face.controlled.as_ref().is_none_or(|controlled| controlled.contains_v6(src));
        if !is_ordinary(src) || !is_ordinary(dst) || !is_controlled || !station.is_known() || ttl <= 1 {
            return false;
        }
        *wide = Wide { src, dst };
        let (l3_offset, l3_len) = (ETHERNET_LEN as u16, l3_len as u16);
        let way = Way::Transit;
        let passes = station.takes(usize::from(l3_len));
        *self = Lane { station, src: 0, dst: 0, l3_offset, l3_len, ttl, is_v6: true, passes, way };
        true
    }

    /// Any frame, by the parser.
    #[inline(never)]
    fn judge_any(&mut self, wide: &mut Wide, frame: &[u8], face: &Face, fib: &Fib) {
        *self = Lane::EMPTY;
        self.way = match &parse::headers(frame) {
            Ok(headers) => {
                (self.l3_offset, self.l3_len, self.ttl) = (headers.l3_offset, headers.l3_len, headers.ttl);
                match (headers.src, headers.dst) {
                    (Addr::V4(src), Addr::V4(dst)) => (self.src, self.dst) = (src, dst),
                    (Addr::V6(src), Addr::V6(dst)) => (*wide, self.is_v6) = (Wide { src, dst }, true),
                    // The parser reads both addresses from one header.
                    _ => {}
                }
                match check_link(frame, face, &headers.vlan, headers.link_cast) {
                    Ok(()) => {
                        let (hop, station) = fib.look_up_both(headers.dst);
                        self.station = station;
                        let ways = judge_ip(headers, face);
                        if hop == Hop::Local { ways.local } else { ways.on }
                    }
                    Err(reason) => Way::Drop(reason),
                }
            }
            Err(NotForwardable::NotIp { ethertype: ETHERTYPE_ARP, l3_offset, vlan, link_cast }) => {
                self.l3_offset = *l3_offset;
                match check_link(frame, face, vlan, *link_cast) {
                    Ok(()) => Way::Kernel,
                    Err(reason) => Way::Drop(reason),
                }
            }
            Err(NotForwardable::NotIp { .. }) => Way::Drop(DropReason::EtherTypeUnknown),
            Err(NotForwardable::Malformed(cause)) => Way::Drop((*cause).into()),
        };
        self.passes = self.way == Way::Transit && self.can_pass(frame.len());
    }

    /// Whether it can leave with the header that it has, written anew, and nothing cut off.
    fn can_pass(&self, frame_len: usize) -> bool {
        let end = ETHERNET_LEN + usize::from(self.l3_len);
        usize::from(self.l3_offset) == ETHERNET_LEN
            && self.station.takes(usize::from(self.l3_len))
            && self.ttl > 1
            && frame_len <= end.max(FRAME_LEN_MIN)
    }
}

/// Whether a frame of so many bytes holds its IP packet, which ends at `end`, and no more than its link has to add.
#[inline(always)]
fn is_whole(end: usize, frame_len: usize) -> bool {
    frame_len == end || (frame_len > end && frame_len <= FRAME_LEN_MIN)
}

/// The little-endian word at a place of a frame's front that is known when this is compiled: one load.
#[inline(always)]
fn word_at<const N: usize>(front: &[u8; N], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&front[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The same for half a word.
#[inline(always)]
fn half_at<const N: usize>(front: &[u8; N], at: usize) -> u32 {
    let mut half = [0; 4];
    half.copy_from_slice(&front[at..at + 4]);
    u32::from_le_bytes(half)
}

/// Whether an IPv4 header without options, read as little-endian words, sums up (RFC 1071; by its section 2 (B) the byte
/// order does not matter): whether its five words of 32 bits add up to a multiple of 65,535, in which 2^16 counts as 1.
/// They are not all zero, since the version is not. To be a multiple of an odd number is to be small when multiplied by
/// its inverse modulo 2^64, so nothing is folded.
#[inline]
fn sums_up(a: u64, b: u64, c: u32) -> bool {
    /// 65,535 times this is 1, modulo 2^64.
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    const _: () = assert!(INVERSE.wrapping_mul(0xffff) == 1);
    let halves = |word: u64| (word & 0xffff_ffff) + (word >> 32);
    let sum = halves(a) + halves(b) + u64::from(c);
    sum.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
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
mod tests;
