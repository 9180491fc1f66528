//! Our own ICMP and ICMPv6 errors (RFC 792, RFC 1812 section 4.3, RFC 4443), written in the buffer of the packet that
//! they are about: nothing is allocated, and the quoted packet stays where it is.
//!
//! Never about an ICMP error, a later fragment, or a packet to or from more than one station (RFC 1122 section 3.2.2,
//! RFC 4443 section 2.4 (e)). The rate is kept by the worker. An IPv4 error is at most 576 bytes long and an IPv6 one
//! 1280. What is quoted is the packet as this router would have sent it on: its hop may be counted already.

use vinet_pktops::checksum;
use vinet_pktops::parse::{
    Cast, ETHERNET_LEN, Fragment, Headers, IPV4_LEN, IPV6_LEN, VlanTags, is_limited_broadcast, is_multicast, protocol,
};
use vinet_trusted::addr::Addr;

use crate::port::PacketBuf;

/// The bytes of an ICMP error's own header, in both families.
const ICMP_LEN: usize = 8;
/// The most bytes of an IPv4 error (RFC 1812 section 4.3.2.3).
const V4_LEN_MAX: usize = 576;
/// The most bytes of an IPv6 error (RFC 4443 section 2.4 (c)).
const V6_LEN_MAX: usize = 1280;
/// The TTL or hop limit of an error.
const TTL: u8 = 64;
/// Internetwork control, as RFC 1812 section 4.3.2.5 asks.
const TOS: u8 = 0xc0;

/// What a sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The TTL or hop limit ran out.
    TtlExpired,
    /// There is no route.
    NoRoute,
    /// The host does not answer, or the route says that it cannot be reached.
    HostUnreachable,
    /// The route says that it is forbidden.
    Prohibited,
    /// The packet is larger than this, the MTU of the next link.
    TooBig {
        /// The MTU in bytes.
        mtu: u16,
    },
}

impl Problem {
    /// Type, code and the second word of the header.
    const fn v4(self) -> (u8, u8, u32) {
        match self {
            Problem::TtlExpired => (11, 0, 0),
            Problem::NoRoute => (3, 0, 0),
            Problem::HostUnreachable => (3, 1, 0),
            Problem::Prohibited => (3, 13, 0),
            // RFC 1191: the next link's MTU in the low half.
            Problem::TooBig { mtu } => (3, 4, mtu as u32),
        }
    }
    /// Type, code and the second word of the header.
    const fn v6(self) -> (u8, u8, u32) {
        match self {
            Problem::TtlExpired => (3, 0, 0),
            Problem::NoRoute => (1, 0, 0),
            Problem::HostUnreachable => (1, 3, 0),
            Problem::Prohibited => (1, 1, 0),
            Problem::TooBig { mtu } => (2, 0, mtu as u32),
        }
    }
}

/// Whether an error may be sent about a packet.
#[must_use]
pub fn may_answer(frame: &[u8], headers: &Headers) -> bool {
    let one_station = |addr: Addr| !is_multicast(addr) && !is_limited_broadcast(addr);
    if headers.link_cast != Cast::Unicast
        || headers.fragment == Fragment::Later
        || headers.irregular.is_some()
        || headers.src_is_martian()
        || !one_station(headers.dst)
    {
        return false;
    }
    let kind = frame.get(usize::from(headers.l4_offset)..headers.end()).and_then(|icmp| icmp.first().copied());
    match (headers.protocol, headers.src) {
        // Requests and replies may be answered; errors, redirects and what is unknown may not.
        (protocol::ICMP, Addr::V4(_)) => matches!(kind, Some(0 | 8..=10 | 13..=18)),
        (protocol::ICMPV6, Addr::V6(_)) => matches!(kind, Some(128..=136 | 138..)),
        _ => true,
    }
}

/// Makes the packet the error about itself, from `source`, untagged, its link header not yet written; gives back what
/// its headers say, or `None` where the buffer has no room or `source` is of the other family. The packet is then to
/// be dropped.
pub fn write_error<B: PacketBuf>(packet: &mut B, headers: &Headers, problem: Problem, source: Addr) -> Option<Headers> {
    let (ip_len, len_max) = match (headers.src, source) {
        (Addr::V4(_), Addr::V4(_)) => (IPV4_LEN, V4_LEN_MAX),
        (Addr::V6(_), Addr::V6(_)) => (IPV6_LEN, V6_LEN_MAX),
        _ => return None,
    };
    let quoted_len = usize::from(headers.l3_len).min(len_max - ip_len - ICMP_LEN);
    packet.truncate(usize::from(headers.l3_offset) + quoted_len);
    packet.trim_front(usize::from(headers.l3_offset));
    let frame = packet.prepend(ETHERNET_LEN + ip_len + ICMP_LEN)?;
    frame[..ETHERNET_LEN].fill(0);
    let (ip, icmp) = frame[ETHERNET_LEN..].split_at_mut(ip_len);
    let icmp_len = ICMP_LEN + quoted_len;
    let icmp = icmp.get_mut(..icmp_len)?;
    ip.fill(0);
    icmp[..ICMP_LEN].fill(0);
    let protocol = match (headers.src, source) {
        (Addr::V4(to), Addr::V4(from)) => {
            let (kind, code, word) = problem.v4();
            (icmp[0], icmp[1]) = (kind, code);
            icmp[4..8].copy_from_slice(&word.to_be_bytes());
            let sum = checksum::of(icmp);
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            ip[0] = 0x45;
            ip[1] = TOS;
            ip[2..4].copy_from_slice(&((ip_len + icmp_len) as u16).to_be_bytes());
            // Not to be fragmented, so that the identification may repeat (RFC 6864).
            ip[6] = 0x40;
            ip[8] = TTL;
            ip[9] = protocol::ICMP;
            ip[12..16].copy_from_slice(&from.to_be_bytes());
            ip[16..20].copy_from_slice(&to.to_be_bytes());
            let sum = checksum::of(ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            protocol::ICMP
        }
        (Addr::V6(to), Addr::V6(from)) => {
            let (kind, code, word) = problem.v6();
            (icmp[0], icmp[1]) = (kind, code);
            icmp[4..8].copy_from_slice(&word.to_be_bytes());
            let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
            let pseudo = checksum::pseudo_header(&from, &to, icmp_len as u32, protocol::ICMPV6);
            let sum = checksum::finish(checksum::sum(pseudo, icmp));
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&(icmp_len as u16).to_be_bytes());
            ip[6] = protocol::ICMPV6;
            ip[7] = TTL;
            ip[8..24].copy_from_slice(&from);
            ip[24..40].copy_from_slice(&to);
            protocol::ICMPV6
        }
        _ => return None,
    };
    Some(Headers {
        l3_offset: ETHERNET_LEN as u16,
        l3_len: (ip_len + icmp_len) as u16,
        l4_offset: (ETHERNET_LEN + ip_len) as u16,
        src: source,
        dst: headers.src,
        ttl: TTL,
        protocol,
        tos: 0,
        fragment: Fragment::Whole,
        dont_fragment: true,
        options: false,
        hop_by_hop: false,
        irregular: None,
        vlan: VlanTags::default(),
        link_cast: Cast::Unicast,
    })
}
