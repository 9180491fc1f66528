//! Ethernet and IP headers, read once for every packet, in place.
//!
//! [`headers`] is what a router must know before it may forward: RFC 1812 section 5.2.2 for IPv4, RFC 8200 for IPv6,
//! behind zero to two VLAN tags. Holding [`Headers`] proves that the frame it was read from holds the whole IP packet
//! that it declares, `l3_offset .. l3_offset + l3_len` (or held it, see [`headers_snapped`]), and that an IPv4 header
//! sums up. It holds offsets and addresses, no reference, so it can lie next to a buffer. [`transport`] looks behind
//! the IP header and is called only where someone wants ports or payload.
//!
//! Both are total: every byte string gives a value or a named cause, and nothing past the end of a frame is read.
//! Left out: 802.3 length frames, PPPoE, MPLS and jumbograms (RFC 2675), which are no packets of this router.

mod transport;

pub use transport::{Irregular, Other, Tcp, Transport, Udp, flags, transport};

use crate::checksum;
use core::fmt;
use vinet_trusted::addr::Addr;

/// The bytes of an Ethernet header without tags.
pub const ETHERNET_LEN: usize = 14;
/// The bytes of one VLAN tag.
pub const VLAN_TAG_LEN: usize = 4;
/// The most VLAN tags that are read.
pub const VLAN_TAGS_MAX: usize = 2;
/// The bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// The bytes of an IPv6 header without extension headers.
pub const IPV6_LEN: usize = 40;
/// The most IPv6 extension headers that are walked to find the transport header.
pub const EXTENSIONS_MAX: usize = 8;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of an 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of an 802.1ad service tag.
pub const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

/// IP protocol numbers that this crate looks at.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// One of the two families.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// To whom the Ethernet header is addressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cast {
    /// One station.
    Unicast,
    /// A group.
    Multicast,
    /// Every station.
    Broadcast,
}

/// The place of a packet among the fragments of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fragment {
    /// A whole datagram; an IPv6 atomic fragment (RFC 6946) is one.
    Whole,
    /// The first of several fragments: it starts with the transport header.
    First,
    /// A later fragment.
    Later,
}

/// The VLAN tags of a frame, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct VlanTags {
    tags: [VlanTag; VLAN_TAGS_MAX],
    count: u8,
}

/// One VLAN tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct VlanTag {
    /// [`ETHERTYPE_VLAN`] or [`ETHERTYPE_SERVICE_VLAN`].
    pub ethertype: u16,
    /// Priority (3 bits), drop eligibility (1), identifier (12).
    pub control: u16,
}

impl VlanTag {
    /// The VLAN identifier; 0 is a tag that carries a priority only.
    #[must_use]
    pub const fn id(self) -> u16 {
        self.control & 0x0fff
    }
}

impl VlanTags {
    /// The tags, outermost first.
    #[must_use]
    pub fn tags(&self) -> &[VlanTag] {
        &self.tags[..usize::from(self.count)]
    }
}

/// What the Ethernet and IP headers of a frame say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers {
    /// Where the IP header starts, in bytes from the start of the frame: 14, 18 or 22.
    pub l3_offset: u16,
    /// The length of the IP packet with its header, as it declares it. What the frame has behind it is padding.
    pub l3_len: u16,
    /// Where the bytes behind the IP header start, in bytes from the start of the frame: behind the options of IPv4,
    /// behind the extension headers of IPv6 as far as they could be walked.
    pub l4_offset: u16,
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// The protocol at `l4_offset`. An IPv6 extension header's number where the chain could not be walked to its end.
    pub protocol: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Whether and which fragment it is.
    pub fragment: Fragment,
    /// Whether a router must not fragment it: the flag of IPv4; always for IPv6.
    pub dont_fragment: bool,
    /// Whether there are IPv4 options, or IPv6 extension headers.
    pub options: bool,
    /// Whether there is an IPv6 hop-by-hop header.
    pub hop_by_hop: bool,
    /// Why the IPv6 extension headers could not be walked to their end. Such a packet may be forwarded: its
    /// addresses are sound, and RFC 8200 section 4 asks a router not to look further.
    pub irregular: Option<Irregular>,
    /// The VLAN tags.
    pub vlan: VlanTags,
    /// To whom the Ethernet header is addressed.
    pub link_cast: Cast,
}

impl Headers {
    /// The family of both addresses.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self.dst {
            Addr::V4(_) => Family::V4,
            Addr::V6(_) => Family::V6,
        }
    }
    /// Where the IP packet ends, in bytes from the start of the frame.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.l3_offset as usize + self.l3_len as usize
    }
    /// Whether it is a fragment of a larger datagram.
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        !matches!(self.fragment, Fragment::Whole)
    }
    /// Whether the source address can be nobody's: unspecified, loopback, multicast or limited broadcast
    /// (RFC 1812 section 5.3.7, RFC 4291 section 2). A router forwards no such packet.
    #[must_use]
    pub const fn src_is_martian(&self) -> bool {
        is_unspecified(self.src) || is_loopback(self.src) || is_multicast(self.src) || is_reserved_v4(self.src)
    }
    /// Whether the destination address can be no host's: unspecified, loopback, or reserved. Multicast and limited
    /// broadcast are told by [`is_multicast`] and [`is_limited_broadcast`].
    #[must_use]
    pub const fn dst_is_martian(&self) -> bool {
        is_unspecified(self.dst)
            || is_loopback(self.dst)
            || (is_reserved_v4(self.dst) && !is_limited_broadcast(self.dst))
    }
    /// Whether either address is of link-local scope: such a packet stays on its link (RFC 3927, RFC 4291).
    #[must_use]
    pub const fn is_link_local(&self) -> bool {
        is_link_local(self.src) || is_link_local(self.dst)
    }
}

/// Whether `addr` is a multicast group.
#[must_use]
pub const fn is_multicast(addr: Addr) -> bool {
    match addr {
        Addr::V4(a) => a >> 28 == 0xe,
        Addr::V6(a) => a >> 120 == 0xff,
    }
}
/// Whether `addr` is 255.255.255.255.
#[must_use]
pub const fn is_limited_broadcast(addr: Addr) -> bool {
    matches!(addr, Addr::V4(u32::MAX))
}
/// Whether `addr` is 0/8 ("this network") or `::`.
#[must_use]
pub const fn is_unspecified(addr: Addr) -> bool {
    match addr {
        Addr::V4(a) => a >> 24 == 0,
        Addr::V6(a) => a == 0,
    }
}
/// Whether `addr` is 127/8 or `::1`.
#[must_use]
pub const fn is_loopback(addr: Addr) -> bool {
    match addr {
        Addr::V4(a) => a >> 24 == 127,
        Addr::V6(a) => a == 1,
    }
}
/// Whether `addr` is of link-local scope: 169.254/16 or `fe80::/10`.
#[must_use]
pub const fn is_link_local(addr: Addr) -> bool {
    match addr {
        Addr::V4(a) => a >> 16 == 0xa9fe,
        Addr::V6(a) => a >> 118 == 0x3fa,
    }
}
/// Whether `addr` is in 240/4.
const fn is_reserved_v4(addr: Addr) -> bool {
    matches!(addr, Addr::V4(a) if a >> 28 == 0xf)
}

/// Why a frame is not one to forward by its IP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotForwardable {
    /// It carries something else: ARP, LLDP, an 802.3 frame. The kernel may want it.
    NotIp {
        /// The type behind the tags; below 1536 it is the length of an 802.3 frame.
        ethertype: u16,
        /// Where the bytes behind the Ethernet header start.
        l3_offset: u16,
        /// The VLAN tags.
        vlan: VlanTags,
        /// To whom the Ethernet header is addressed.
        link_cast: Cast,
    },
    /// It is broken and is dropped.
    Malformed(Malformed),
}

impl fmt::Display for NotForwardable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotForwardable::NotIp { ethertype, .. } => write!(f, "not IP: EtherType {ethertype:#06x}"),
            NotForwardable::Malformed(cause) => cause.fmt(f),
        }
    }
}

impl From<Malformed> for NotForwardable {
    fn from(cause: Malformed) -> Self {
        NotForwardable::Malformed(cause)
    }
}

/// What is wrong with a frame. Each is a counter of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Malformed {
    /// Shorter than an Ethernet header with its tags.
    EthernetTruncated,
    /// More than [`VLAN_TAGS_MAX`] VLAN tags.
    VlanTagsAboveMax,
    /// Shorter than an IPv4 header (RFC 1812 section 5.2.2, test 1).
    Ipv4Truncated,
    /// EtherType IPv4 with another version (test 3).
    Ipv4BadVersion,
    /// A header length below 20 bytes (test 4).
    Ipv4BadHeaderLen,
    /// A total length below the header length (test 5).
    Ipv4BadTotalLen,
    /// A total length above what the frame holds.
    Ipv4TotalLenAboveFrame,
    /// The header checksum is wrong (test 2).
    Ipv4BadChecksum,
    /// Shorter than an IPv6 header.
    Ipv6Truncated,
    /// EtherType IPv6 with another version.
    Ipv6BadVersion,
    /// A payload length above what the frame holds.
    Ipv6PayloadLenAboveFrame,
    /// A payload length of zero with a hop-by-hop header: a jumbogram (RFC 2675), or nothing.
    Ipv6Jumbogram,
    /// Header and payload together above 65,535 bytes, which no port takes.
    Ipv6TooLong,
}

impl Malformed {
    /// Every cause, in the order of [`Malformed::index`].
    pub const ALL: [Malformed; 13] = [
        Malformed::EthernetTruncated,
        Malformed::VlanTagsAboveMax,
        Malformed::Ipv4Truncated,
        Malformed::Ipv4BadVersion,
        Malformed::Ipv4BadHeaderLen,
        Malformed::Ipv4BadTotalLen,
        Malformed::Ipv4TotalLenAboveFrame,
        Malformed::Ipv4BadChecksum,
        Malformed::Ipv6Truncated,
        Malformed::Ipv6BadVersion,
        Malformed::Ipv6PayloadLenAboveFrame,
        Malformed::Ipv6Jumbogram,
        Malformed::Ipv6TooLong,
    ];
    /// Its place in [`Malformed::ALL`], for an array of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
    /// Its stable name, for a counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Malformed::EthernetTruncated => "ethernet_truncated",
            Malformed::VlanTagsAboveMax => "vlan_tags_above_max",
            Malformed::Ipv4Truncated => "ipv4_truncated",
            Malformed::Ipv4BadVersion => "ipv4_bad_version",
            Malformed::Ipv4BadHeaderLen => "ipv4_bad_header_len",
            Malformed::Ipv4BadTotalLen => "ipv4_bad_total_len",
            Malformed::Ipv4TotalLenAboveFrame => "ipv4_total_len_above_frame",
            Malformed::Ipv4BadChecksum => "ipv4_bad_checksum",
            Malformed::Ipv6Truncated => "ipv6_truncated",
            Malformed::Ipv6BadVersion => "ipv6_bad_version",
            Malformed::Ipv6PayloadLenAboveFrame => "ipv6_payload_len_above_frame",
            Malformed::Ipv6Jumbogram => "ipv6_jumbogram",
            Malformed::Ipv6TooLong => "ipv6_too_long",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::EthernetTruncated => "the frame is shorter than its Ethernet header and tags",
            Malformed::VlanTagsAboveMax => "the frame has more than two VLAN tags",
            Malformed::Ipv4Truncated => "the frame is shorter than its IPv4 header",
            Malformed::Ipv4BadVersion => "the EtherType says IPv4 and the version is not 4",
            Malformed::Ipv4BadHeaderLen => "the IPv4 header length is below 20 bytes",
            Malformed::Ipv4BadTotalLen => "the IPv4 total length is below the header length",
            Malformed::Ipv4TotalLenAboveFrame => "the IPv4 total length is above what the frame holds",
            Malformed::Ipv4BadChecksum => "the IPv4 header checksum is wrong",
            Malformed::Ipv6Truncated => "the frame is shorter than its IPv6 header",
            Malformed::Ipv6BadVersion => "the EtherType says IPv6 and the version is not 6",
            Malformed::Ipv6PayloadLenAboveFrame => "the IPv6 payload length is above what the frame holds",
            Malformed::Ipv6Jumbogram => "the IPv6 packet is a jumbogram, which this router does not forward",
            Malformed::Ipv6TooLong => "the IPv6 packet is longer than 65,535 bytes",
        })
    }
}

pub(crate) const fn be16(bytes: [u8; 2]) -> u16 {
    u16::from_be_bytes(bytes)
}

/// The bytes of `frame` at `offset`, as many as an array has, or `None` where the frame ends before.
#[inline]
pub(crate) fn array<const N: usize>(frame: &[u8], offset: usize) -> Option<&[u8; N]> {
    frame.get(offset..)?.first_chunk::<N>()
}

/// Reads the Ethernet and IP headers of a frame, which starts at the destination address and has no check sequence.
///
/// # Errors
/// [`NotForwardable::NotIp`] for other protocols; [`NotForwardable::Malformed`] with the first cause found.
#[inline]
pub fn headers(frame: &[u8]) -> Result<Headers, NotForwardable> {
    headers_snapped(frame, frame.len())
}

/// [`headers`] for a capture that kept only the first bytes of a frame, which had `wire_len` bytes on the wire: the
/// lengths are held against those, and the payload that [`transport`] finds ends where the capture does.
///
/// # Errors
/// As for [`headers`]. A capture that ends inside the headers is as bad as a frame that does.
#[inline]
pub fn headers_snapped(frame: &[u8], wire_len: usize) -> Result<Headers, NotForwardable> {
    let wire_len = wire_len.max(frame.len());
    let ethernet: &[u8; ETHERNET_LEN] = frame.first_chunk().ok_or(Malformed::EthernetTruncated)?;
    let link_cast = match ethernet {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ..] => Cast::Broadcast,
        [first, ..] if first & 1 != 0 => Cast::Multicast,
        _ => Cast::Unicast,
    };
    // A frame without tags is the common case, and goes the straight way.
    match be16([ethernet[12], ethernet[13]]) {
        ETHERTYPE_IPV4 => ipv4(frame, wire_len, ETHERNET_LEN, VlanTags::default(), link_cast),
        ETHERTYPE_IPV6 => ipv6(frame, wire_len, ETHERNET_LEN, VlanTags::default(), link_cast),
        ethertype => tagged(frame, wire_len, ethertype, link_cast),
    }
}

/// Reads a frame with VLAN tags, or of another protocol.
#[inline(never)]
fn tagged(frame: &[u8], wire_len: usize, ethertype: u16, link_cast: Cast) -> Result<Headers, NotForwardable> {
    let mut ethertype = ethertype;
    let mut l3_offset = ETHERNET_LEN;
    let mut vlan = VlanTags::default();
    while matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN) {
        let count = usize::from(vlan.count);
        if count == VLAN_TAGS_MAX {
            return Err(Malformed::VlanTagsAboveMax.into());
        }
        let tag: &[u8; VLAN_TAG_LEN] = array(frame, l3_offset).ok_or(Malformed::EthernetTruncated)?;
        vlan.tags[count] = VlanTag { ethertype, control: be16([tag[0], tag[1]]) };
        vlan.count += 1;
        ethertype = be16([tag[2], tag[3]]);
        l3_offset += VLAN_TAG_LEN;
    }
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, wire_len, l3_offset, vlan, link_cast),
        ETHERTYPE_IPV6 => ipv6(frame, wire_len, l3_offset, vlan, link_cast),
        _ => Err(NotForwardable::NotIp { ethertype, l3_offset: l3_offset as u16, vlan, link_cast }),
    }
}

#[inline]
fn ipv4(
    frame: &[u8],
    wire_len: usize,
    l3_offset: usize,
    vlan: VlanTags,
    link_cast: Cast,
) -> Result<Headers, NotForwardable> {
    let packet = &frame[l3_offset..];
    let h: &[u8; IPV4_LEN] = packet.first_chunk().ok_or(Malformed::Ipv4Truncated)?;
    if h[0] >> 4 != 4 {
        return Err(Malformed::Ipv4BadVersion.into());
    }
    let header_len = usize::from(h[0] & 0x0f) * 4;
    if header_len < IPV4_LEN {
        return Err(Malformed::Ipv4BadHeaderLen.into());
    }
    let total_len = be16([h[2], h[3]]);
    if usize::from(total_len) < header_len {
        return Err(Malformed::Ipv4BadTotalLen.into());
    }
    if usize::from(total_len) > wire_len - l3_offset {
        return Err(Malformed::Ipv4TotalLenAboveFrame.into());
    }
    let sum = if header_len == IPV4_LEN {
        checksum::of_ipv4_header(h)
    } else {
        checksum::of(packet.get(..header_len).ok_or(Malformed::Ipv4Truncated)?)
    };
    if sum != 0 {
        return Err(Malformed::Ipv4BadChecksum.into());
    }
    let flags = be16([h[6], h[7]]);
    let fragment = match (flags & 0x1fff, flags & 0x2000 != 0) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    };
    Ok(Headers {
        l3_offset: l3_offset as u16,
        l3_len: total_len,
        l4_offset: (l3_offset + header_len) as u16,
        src: Addr::V4(u32::from_be_bytes([h[12], h[13], h[14], h[15]])),
        dst: Addr::V4(u32::from_be_bytes([h[16], h[17], h[18], h[19]])),
        ttl: h[8],
        protocol: h[9],
        tos: h[1],
        fragment,
        dont_fragment: flags & 0x4000 != 0,
        options: header_len > IPV4_LEN,
        hop_by_hop: false,
        irregular: None,
        vlan,
        link_cast,
    })
}

#[inline]
fn ipv6(
    frame: &[u8],
    wire_len: usize,
    l3_offset: usize,
    vlan: VlanTags,
    link_cast: Cast,
) -> Result<Headers, NotForwardable> {
    let packet = &frame[l3_offset..];
    let h: &[u8; IPV6_LEN] = packet.first_chunk().ok_or(Malformed::Ipv6Truncated)?;
    if h[0] >> 4 != 6 {
        return Err(Malformed::Ipv6BadVersion.into());
    }
    let payload_len = usize::from(be16([h[4], h[5]]));
    let next = h[6];
    if payload_len == 0 && next == protocol::HOP_BY_HOP {
        return Err(Malformed::Ipv6Jumbogram.into());
    }
    let l3_len = u16::try_from(IPV6_LEN + payload_len).map_err(|_| Malformed::Ipv6TooLong)?;
    if usize::from(l3_len) > wire_len - l3_offset {
        return Err(Malformed::Ipv6PayloadLenAboveFrame.into());
    }
    let mut src = [0; 16];
    src.copy_from_slice(&h[8..24]);
    let mut dst = [0; 16];
    dst.copy_from_slice(&h[24..40]);
    let mut headers = Headers {
        l3_offset: l3_offset as u16,
        l3_len,
        l4_offset: (l3_offset + IPV6_LEN) as u16,
        src: Addr::V6(u128::from_be_bytes(src)),
        dst: Addr::V6(u128::from_be_bytes(dst)),
        ttl: h[7],
        protocol: next,
        tos: h[0] << 4 | h[1] >> 4,
        fragment: Fragment::Whole,
        dont_fragment: true,
        options: false,
        hop_by_hop: next == protocol::HOP_BY_HOP,
        irregular: None,
        vlan,
        link_cast,
    };
    if is_extension(next) {
        walk_extensions(&packet[..packet.len().min(usize::from(l3_len))], &mut headers);
    }
    Ok(headers)
}

/// Whether `next` is an IPv6 extension header that hosts walk (RFC 8200 section 4.1), without ESP, which hides what is
/// behind it. Behind the others of RFC 7045 (mobility, HIP, Shim6) no host looks for a transport header.
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
    )
}

/// Walks the extension headers of `packet`, an IPv6 packet without padding, up to the transport header, the end of
/// what this fragment has of them, or the first one that is irregular.
#[cold]
fn walk_extensions(packet: &[u8], headers: &mut Headers) {
    headers.options = true;
    let mut offset = IPV6_LEN;
    let mut walked = 0;
    while is_extension(headers.protocol) {
        if walked == EXTENSIONS_MAX {
            headers.irregular = Some(Irregular::ExtensionsAboveMax);
            break;
        }
        // Every extension header is at least eight bytes long.
        let Some(extension) = array::<8>(packet, offset) else {
            headers.irregular = Some(Irregular::ExtensionTruncated);
            break;
        };
        let len = match headers.protocol {
            protocol::FRAGMENT => 8,
            protocol::AUTHENTICATION => (usize::from(extension[1]) + 2) * 4,
            _ => (usize::from(extension[1]) + 1) * 8,
        };
        // An authentication header has a sequence number behind its first eight bytes (RFC 4302 section 2).
        let too_short = headers.protocol == protocol::AUTHENTICATION && len < 12;
        if too_short || packet.len() - offset < len {
            headers.irregular = Some(Irregular::ExtensionTruncated);
            break;
        }
        if headers.protocol == protocol::HOP_BY_HOP && walked > 0 {
            // RFC 8200 section 4.1: it comes first or not at all.
            headers.irregular = Some(Irregular::HopByHopNotFirst);
            break;
        }
        let is_fragment = headers.protocol == protocol::FRAGMENT;
        headers.protocol = extension[0];
        offset += len;
        walked += 1;
        if is_fragment {
            let field = be16([extension[2], extension[3]]);
            if field >> 3 != 0 {
                // What follows is the middle of the datagram, not a header.
                headers.fragment = Fragment::Later;
                break;
            }
            if field & 1 != 0 {
                headers.fragment = Fragment::First;
            }
        }
    }
    headers.l4_offset = headers.l3_offset + offset as u16;
}

#[cfg(test)]
pub(crate) mod tests;
