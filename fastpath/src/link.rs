//! The link side of a port, as workers see it: its address, tags, MTU and controlled sources; and the writing of link
//! headers and hop counts.
//!
//! Tags: a port has a list of VLAN identifiers, outer first. Frames must come with exactly those (a tag with
//! identifier 0 only carries a priority and counts as none) and leave with exactly those, the outer of two as a
//! service tag (802.1ad). A port without a list takes and sends untagged frames. Sub-interfaces are left out: one
//! port, one link.

use vinet_pktops::parse::{
    ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, Family, VLAN_TAG_LEN,
    VLAN_TAGS_MAX, VlanTags,
};
use vinet_trusted::addr::{Addr, PrefixSet};

use crate::port::PacketBuf;
use crate::settings::PortSettings;
use crate::station::MAC_BITS;

/// The bytes of the longest link header.
const LINK_LEN_MAX: usize = ETHERNET_LEN + VLAN_TAGS_MAX * VLAN_TAG_LEN;
/// An Ethernet header and the part of an IP header that a hop changes.
pub(crate) const PLAIN_LEN: usize = ETHERNET_LEN + 20;
/// Frames shorter than this are padded by whoever sends them; a frame is not cut below it.
pub(crate) const FRAME_LEN_MIN: usize = 60;

/// A port's link side.
#[derive(Clone, Debug)]
pub struct Face {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The largest IP packet it sends.
    pub mtu: u16,
    /// The sources that it controls; `None` for an uplink.
    pub controlled: Option<Ranges>,
    /// The ordinary IPv4 addresses that packets may come from: of those controlled, or all for an uplink.
    pub(crate) plain_sources: Ranges,
    vlan: Vec<u16>,
    /// The link header of what it sends, but for the destination and the last type.
    header: [u8; LINK_LEN_MAX],
    header_len: usize,
    /// What the first word of a plain frame to it begins with, in its low 48 bits; of a tagged port what none does.
    plain_front: u64,
}

impl Face {
    /// The link side of a port with these settings. Of more than two tags the first two count.
    #[must_use]
    pub fn new(settings: &PortSettings) -> Face {
        let vlan: Vec<u16> = settings.vlan.iter().copied().take(VLAN_TAGS_MAX).collect();
        let mut header = [0; LINK_LEN_MAX];
        header[6..12].copy_from_slice(&settings.mac);
        for (i, &id) in vlan.iter().enumerate() {
            let ethertype = if i + 1 < vlan.len() { ETHERTYPE_SERVICE_VLAN } else { ETHERTYPE_VLAN };
            let at = 12 + i * VLAN_TAG_LEN;
            header[at..at + 2].copy_from_slice(&ethertype.to_be_bytes());
            header[at + 2..at + 4].copy_from_slice(&(id & 0x0fff).to_be_bytes());
        }
        let controlled = settings.controlled.as_ref().filter(|set| !set.is_empty()).map(Ranges::new);
        let header_len = ETHERNET_LEN + vlan.len() * VLAN_TAG_LEN;
        let [a, b, c, d, e, f] = settings.mac;
        let plain_sources = controlled.as_ref().map_or_else(Ranges::ordinary, Ranges::ordinary_of);
        Face {
            mac: settings.mac,
            mtu: settings.mtu,
            controlled,
            plain_sources,
            plain_front: if vlan.is_empty() { u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) } else { u64::MAX },
            vlan,
            header,
            header_len,
        }
    }

    /// Whether a frame whose first word (little-endian) is `front` is addressed to this port, which is not tagged.
    #[inline]
    pub(crate) fn is_plain_front(&self, front: u64) -> bool {
        front & MAC_BITS == self.plain_front
    }

    /// What the first word and the low half of the second are (little-endian) in a plain frame to it; of a tagged port
    /// what no half is.
    #[inline]
    pub(crate) fn plain_front_words(&self) -> [u32; 2] {
        [self.plain_front as u32, (self.plain_front >> 32) as u32]
    }

    /// Whether frames by it have tags.
    pub(crate) fn is_tagged(&self) -> bool {
        !self.vlan.is_empty()
    }

    /// Whether a frame with these tags belongs to the port.
    #[inline]
    #[must_use]
    pub fn has_tags(&self, tags: &VlanTags) -> bool {
        let tags = tags.tags();
        if tags.is_empty() && self.vlan.is_empty() {
            return true;
        }
        tags.iter().map(|tag| tag.id()).filter(|&id| id != 0).eq(self.vlan.iter().copied().filter(|&id| id != 0))
    }

    /// Writes the link header before the IP packet that starts at `l3_offset`; `false` where the buffer has no room.
    #[inline]
    #[must_use]
    pub fn write_header<B: PacketBuf>(&self, packet: &mut B, l3_offset: usize, to: [u8; 6], family: Family) -> bool {
        let ethertype = match family {
            Family::V4 => ETHERTYPE_IPV4.to_be_bytes(),
            Family::V6 => ETHERTYPE_IPV6.to_be_bytes(),
        };
        if self.header_len == ETHERNET_LEN && l3_offset == ETHERNET_LEN {
            // The commonest case by far: in place, 14 bytes, no length to be told.
            let Some(header) = packet.bytes_mut().first_chunk_mut::<ETHERNET_LEN>() else { return false };
            // Piece by piece, each one store: byte by byte, as destructuring compiles to, costs 2 ns more.
            header[..6].copy_from_slice(&to);
            header[6..12].copy_from_slice(&self.mac);
            header[12..].copy_from_slice(&ethertype);
            return true;
        }
        self.write_other_header(packet, l3_offset, to, ethertype)
    }

    /// With tags, or behind tags.
    #[cold]
    fn write_other_header<B: PacketBuf>(
        &self,
        packet: &mut B,
        l3_offset: usize,
        to: [u8; 6],
        ethertype: [u8; 2],
    ) -> bool {
        let len = self.header_len;
        if l3_offset < len {
            if packet.prepend(len - l3_offset).is_none() {
                return false;
            }
        } else if l3_offset > len {
            packet.trim_front(l3_offset - len);
        }
        let Some(header) = packet.bytes_mut().get_mut(..len) else { return false };
        header.copy_from_slice(&self.header[..len]);
        header[..6].copy_from_slice(&to);
        header[len - 2..].copy_from_slice(&ethertype);
        true
    }

    /// Puts the port's tags into an untagged frame of the kernel; `false` where it is too short or the buffer has no
    /// room.
    #[must_use]
    pub fn add_tags<B: PacketBuf>(&self, packet: &mut B) -> bool {
        if packet.bytes().len() < ETHERNET_LEN {
            return false;
        }
        let tags_len = self.header_len - ETHERNET_LEN;
        if tags_len == 0 {
            return true;
        }
        let Some(frame) = packet.prepend(tags_len) else { return false };
        frame.copy_within(tags_len..tags_len + 12, 0);
        frame[12..12 + tags_len].copy_from_slice(&self.header[12..12 + tags_len]);
        true
    }
}

/// A frame as the kernel wants it, without tags: the pieces to be joined.
#[must_use]
pub fn untagged(frame: &[u8], l3_offset: usize) -> [&[u8]; 2] {
    match (frame.get(..12), frame.get(l3_offset.saturating_sub(2)..)) {
        (Some(addresses), Some(rest)) if l3_offset > ETHERNET_LEN => [addresses, rest],
        _ => [frame, &[]],
    }
}

/// Cuts off what the frame has behind `end`, where its IP packet ends, down to the shortest frame.
#[inline]
pub fn cut_padding<B: PacketBuf>(packet: &mut B, end: usize) {
    let end = end.max(FRAME_LEN_MIN);
    if packet.bytes().len() > end {
        packet.truncate(end);
    }
}

/// Takes one off the TTL (with its checksum, RFC 1624) or hop limit, which must not be zero.
#[inline]
pub fn count_hop(frame: &mut [u8], l3_offset: usize, family: Family) {
    let Some(header) = frame.get_mut(l3_offset..).and_then(|ip| ip.first_chunk_mut::<20>()) else { return };
    match family {
        Family::V4 => {
            header[8] -= 1;
            // RFC 1624 for this one change, as one addition: the word that holds the TTL is 0x0100 less.
            let sum = u32::from(u16::from_be_bytes([header[10], header[11]])) + 0x0100;
            let sum = (sum + u32::from(sum >= 0xffff)) as u16;
            [header[10], header[11]] = sum.to_be_bytes();
        }
        Family::V6 => header[7] -= 1,
    }
}

/// A set of addresses as sorted ranges, for one question per packet.
#[derive(Clone, Debug)]
pub struct Ranges {
    /// First and last.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
    /// The IPv4 ranges where they are few.
    few_v4: Option<FewRanges>,
}

/// Some ranges: where each starts, and how far it goes beyond that. The last is repeated to fill the room.
#[derive(Clone, Copy, Debug)]
struct FewRanges {
    first: [u32; FEW],
    more: [u32; FEW],
}

/// The IPv4 addresses of hosts, of more than the link's scope: all but "this network", loopback, link-local, multicast and
/// reserved ones (RFC 6890).
const ORDINARY_V4: [(u32, u32); 3] =
    [(0x0100_0000, 0x7eff_ffff), (0x8000_0000, 0xa9fd_ffff), (0xa9ff_0000, 0xdfff_ffff)];

/// So many ranges are held against an address one and all, without a branch.
const FEW: usize = 4;

impl Ranges {
    fn new(set: &PrefixSet) -> Ranges {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for prefix in set.prefixes() {
            match (prefix.addr(), prefix.last()) {
                (Addr::V4(first), Addr::V4(last)) => v4.push((first, last)),
                (Addr::V6(first), Addr::V6(last)) => v6.push((first, last)),
                _ => {}
            }
        }
        Ranges::of(v4, v6)
    }

    /// Of disjoint, rising ranges.
    fn of(v4: Vec<(u32, u32)>, v6: Vec<(u128, u128)>) -> Ranges {
        let few_v4 = v4.last().filter(|_| v4.len() <= FEW).map(|&last| {
            let range = |i: usize| v4.get(i).copied().unwrap_or(last);
            FewRanges {
                first: std::array::from_fn(|i| range(i).0),
                more: std::array::from_fn(|i| range(i).1 - range(i).0),
            }
        });
        Ranges { v4: v4.into(), v6: v6.into(), few_v4 }
    }

    /// All ordinary IPv4 addresses.
    fn ordinary() -> Ranges {
        Ranges::of(ORDINARY_V4.to_vec(), Vec::new())
    }

    /// The ordinary IPv4 addresses of these.
    fn ordinary_of(ranges: &Ranges) -> Ranges {
        let meets = |&(first, last): &(u32, u32)| {
            ORDINARY_V4.iter().map(move |&(a, b)| (first.max(a), last.min(b))).filter(|(first, last)| first <= last)
        };
        Ranges::of(ranges.v4.iter().flat_map(meets).collect(), Vec::new())
    }

    /// Its IPv4 ranges, each by where it starts and how far it goes beyond that; `None` where they are many.
    #[inline]
    pub(crate) fn few_v4(&self) -> Option<impl Iterator<Item = (u32, u32)>> {
        (self.v4.len() <= FEW).then(|| self.v4.iter().map(|&(first, last)| (first, last - first)))
    }

    /// Whether `addr` is in the set.
    #[inline]
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        match addr {
            Addr::V4(addr) => self.contains_v4(addr),
            Addr::V6(addr) => self.contains_v6(addr),
        }
    }

    /// Whether the IPv4 address is in the set.
    #[inline]
    #[must_use]
    pub fn contains_v4(&self, addr: u32) -> bool {
        if let Some(few) = &self.few_v4 {
            return few
                .first
                .iter()
                .zip(few.more)
                .fold(false, |is_in, (first, more)| is_in | (addr.wrapping_sub(*first) <= more));
        }
        // The ranges are disjoint and rising, so only the last that starts at or before the address can hold it.
        let end = self.v4.partition_point(|&(first, _)| first <= addr);
        end > 0 && addr <= self.v4[end - 1].1
    }

    /// Whether the IPv6 address is in the set.
    #[inline]
    #[must_use]
    pub fn contains_v6(&self, addr: u128) -> bool {
        let end = self.v6.partition_point(|&(first, _)| first <= addr);
        end > 0 && addr <= self.v6[end - 1].1
    }
}

#[cfg(test)]
mod tests {
    use vinet_pktops::checksum;
    use vinet_trusted::addr::Prefix;

    use super::*;

    #[test]
    fn a_hop_changes_the_checksum_as_rfc_1624_says() {
        for ttl in [1u8, 2, 64, 255] {
            for sum in 0..=u16::MAX {
                let mut header = [0; 20];
                (header[8], header[9]) = (ttl, 17);
                [header[10], header[11]] = sum.to_be_bytes();
                let word = |ttl| u16::from_be_bytes([ttl, 17]);
                count_hop(&mut header, 0, Family::V4);
                let updated = u16::from_be_bytes([header[10], header[11]]);
                assert_eq!(updated, checksum::update(sum, word(ttl), word(ttl - 1)), "TTL {ttl}, sum {sum:#06x}");
                assert_eq!(header[8], ttl - 1);
            }
        }
    }

    #[test]
    fn ordinary_sources_are_those_of_hosts() {
        let any = Ranges::new(&PrefixSet::new(Prefix::of(Addr::V4(0), 0).into_iter().collect()));
        for ranges in [Ranges::ordinary(), Ranges::ordinary_of(&any)] {
            for (addr, is_ordinary) in [
                (0x00ff_ffff, false),
                (0x0100_0000, true),
                (0x7f00_0001, false),
                (0xa9fd_ffff, true),
                (0xa9fe_0000, false),
                (0xa9fe_ffff, false),
                (0xa9ff_0000, true),
                (0xdfff_ffff, true),
                (0xe000_0001, false),
                (u32::MAX, false),
            ] {
                assert_eq!(ranges.contains_v4(addr), is_ordinary, "{addr:#x}");
            }
        }
    }

    #[test]
    fn ranges_hold_what_their_prefixes_hold() {
        let of = |addr, len| Prefix::of(addr, len).expect("a length");
        let prefixes = vec![
            of(Addr::V4(0x0a00_0000), 24),
            of(Addr::V4(0x0a00_0200), 23),
            of(Addr::V4(0xffff_ffff), 32),
            of(Addr::V6(0x2001 << 112), 48),
            of(Addr::V6(u128::MAX), 128),
        ];
        let ranges = Ranges::new(&PrefixSet::new(prefixes.clone()));
        let probes = prefixes.iter().flat_map(|prefix| {
            [prefix.addr(), prefix.last()].into_iter().flat_map(|addr| match addr {
                Addr::V4(a) => [Addr::V4(a.wrapping_sub(1)), addr, Addr::V4(a.wrapping_add(1))],
                Addr::V6(a) => [Addr::V6(a.wrapping_sub(1)), addr, Addr::V6(a.wrapping_add(1))],
            })
        });
        for addr in probes {
            assert_eq!(ranges.contains(addr), prefixes.iter().any(|prefix| prefix.contains(addr)), "{addr}");
        }
    }
}
