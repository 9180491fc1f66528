//! Packets made of contents: what an expander sends to each destination.
//!
//! A packet has the source and the destination that it is told, the protocol, ports and payload of the content, no
//! options, a time to live of [`HOPS`], and right checksums. It is made of contents that say all that there was to say:
//! UDP datagrams, and packets of protocols without ports. A TCP segment is more than ports and payload, and a fragment
//! more than its bytes, so of these none is made.

use crate::checksum;
use crate::group_by_content::Content;
use crate::parse::{IPV4_LEN, IPV6_LEN, protocol};
use core::fmt;
use vinet_trusted::addr::Addr;

/// The time to live and hop limit of packets of our own.
pub const HOPS: u8 = 64;
/// The bytes of a UDP header.
pub(crate) const UDP_LEN: usize = 8;

/// Why no packet is made of a content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotRebuilt {
    /// It is that of a TCP segment or of another packet whose header says more than ports.
    HeaderLost {
        /// Its protocol.
        protocol: u8,
    },
    /// It is that of a fragment, or of a packet whose transport header is broken.
    NotWhole,
    /// Source and destination are of different families.
    MixedFamilies,
    /// The packet is longer than the room for it.
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
}

impl fmt::Display for NotRebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotRebuilt::HeaderLost { protocol } => {
                write!(f, "a packet of protocol {protocol} is more than its ports and payload")
            }
            NotRebuilt::NotWhole => write!(f, "the content is that of a fragment or of a broken packet"),
            NotRebuilt::MixedFamilies => write!(f, "source and destination are of different families"),
            NotRebuilt::TooLong { len } => write!(f, "there is no room for a packet of {len} bytes"),
        }
    }
}

impl std::error::Error for NotRebuilt {}

/// Writes the IP packet from `src` to `dst` that has this content to the front of `room`, and returns its length. Never
/// allocates.
///
/// # Errors
/// [`NotRebuilt`]; then `room` may hold anything.
pub fn rebuild(src: Addr, dst: Addr, content: &Content<'_>, room: &mut [u8]) -> Result<usize, NotRebuilt> {
    if !content.whole {
        return Err(NotRebuilt::NotWhole);
    }
    let ports = match (content.protocol, content.ports) {
        (protocol::UDP, Some(ports)) => Some(ports),
        (protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::SCTP | protocol::DCCP, _) | (_, Some(_)) => {
            return Err(NotRebuilt::HeaderLost { protocol: content.protocol });
        }
        (_, None) => None,
    };
    let ip_len = match (src, dst) {
        (Addr::V4(_), Addr::V4(_)) => IPV4_LEN,
        (Addr::V6(_), Addr::V6(_)) => IPV6_LEN,
        _ => return Err(NotRebuilt::MixedFamilies),
    };
    let l4_len = if ports.is_some() { UDP_LEN } else { 0 };
    let len = ip_len + l4_len + content.payload.len();
    let too_long = NotRebuilt::TooLong { len };
    let packet = room.get_mut(..len).filter(|_| len <= usize::from(u16::MAX)).ok_or(too_long)?;
    packet[ip_len + l4_len..].copy_from_slice(content.payload);
    match ports {
        Some(ports) => write_udp(packet, src, dst, ports),
        None => write_ip(packet, src, dst, content.protocol),
    }
    Ok(len)
}

/// Writes the headers of a UDP datagram without options before its payload. `packet` is the IP packet, no longer than
/// 65535 bytes; both addresses are of one family.
pub(crate) fn write_udp(packet: &mut [u8], src: Addr, dst: Addr, (src_port, dst_port): (u16, u16)) {
    write_ip(packet, src, dst, protocol::UDP);
    let (ip_len, addrs) = if let Addr::V4(_) = dst { (IPV4_LEN, 12..20) } else { (IPV6_LEN, 8..40) };
    let (ip, udp) = packet.split_at_mut(ip_len);
    let (src, dst) = ip[addrs.clone()].split_at(addrs.len() / 2);
    let udp_len = udp.len() as u16;
    udp[..2].copy_from_slice(&src_port.to_be_bytes());
    udp[2..4].copy_from_slice(&dst_port.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    udp[6..8].fill(0);
    let pseudo = checksum::pseudo_header(src, dst, u32::from(udp_len), protocol::UDP);
    // Zero says that there is no checksum (RFC 768).
    let sum = match checksum::finish(checksum::sum(pseudo, udp)) {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
}

/// Writes the IP header without options of a packet whose length is that of `packet`.
fn write_ip(packet: &mut [u8], src: Addr, dst: Addr, protocol: u8) {
    let len = packet.len();
    match (src, dst) {
        (Addr::V4(src), Addr::V4(dst)) => {
            packet[..4].copy_from_slice(&[0x45, 0, (len >> 8) as u8, len as u8]);
            // Whole, and to be kept so.
            packet[4..12].copy_from_slice(&[0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
            packet[12..16].copy_from_slice(&src.to_be_bytes());
            packet[16..20].copy_from_slice(&dst.to_be_bytes());
            let sum = checksum::of(&packet[..IPV4_LEN]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (src, dst) => {
            packet[..4].copy_from_slice(&[0x60, 0, 0, 0]);
            packet[4..6].copy_from_slice(&((len - IPV6_LEN) as u16).to_be_bytes());
            packet[6..8].copy_from_slice(&[protocol, HOPS]);
            packet[8..24].copy_from_slice(&octets(src));
            packet[24..40].copy_from_slice(&octets(dst));
        }
    }
}

pub(crate) const fn octets(addr: Addr) -> [u8; 16] {
    match addr {
        Addr::V4(a) => (a as u128).to_be_bytes(),
        Addr::V6(a) => a.to_be_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::packet;
    use crate::parse::headers;
    use crate::samples::addr;
    use etherparse::PacketBuilder;

    #[test]
    fn a_datagram_comes_back_as_another_implementation_wrote_it() {
        for (len, v6) in (0..1452).flat_map(|len| [(len, false), (len, true)]) {
            let payload: Vec<u8> = (0..len).map(|i| (i * 31 + len) as u8).collect();
            let (src_port, dst_port) = (len as u16 * 45, u16::MAX - len as u16);
            let link = PacketBuilder::ethernet2([2; 6], [2; 6]);
            let mut frame = Vec::new();
            let (src, dst) = if v6 { ("2001:db8::7", "2001:db8::9") } else { ("192.0.2.7", "192.0.2.9") };
            match (addr(src), addr(dst)) {
                (Addr::V4(src), Addr::V4(dst)) => {
                    let made = link.ipv4(src.to_be_bytes(), dst.to_be_bytes(), HOPS).udp(src_port, dst_port);
                    made.write(&mut frame, &payload).unwrap();
                }
                (src, dst) => {
                    let made = link.ipv6(octets(src), octets(dst), HOPS).udp(src_port, dst_port);
                    made.write(&mut frame, &payload).unwrap();
                }
            }
            let h = headers(&frame).unwrap();
            let content = Content::of(&frame, &h, &packet(&frame, &h));
            let mut room = [0; 1500];
            let made = rebuild(addr(src), addr(dst), &content, &mut room).unwrap();
            assert_eq!(room[..made], frame[14..], "{len} bytes from {src}");
        }
    }

    #[test]
    fn what_a_content_does_not_tell_whole_is_not_made_up() {
        let (src, dst) = (addr("192.0.2.7"), addr("192.0.2.9"));
        let of = |protocol, ports, whole| {
            let content = Content { protocol, ports, whole, payload: b"payload" };
            rebuild(src, dst, &content, &mut [0; 100])
        };
        let lost = |protocol| Err(NotRebuilt::HeaderLost { protocol });
        assert_eq!(of(protocol::TCP, Some((1, 2)), true), lost(protocol::TCP));
        assert_eq!(of(protocol::SCTP, Some((1, 2)), true), lost(protocol::SCTP));
        assert_eq!(of(protocol::UDP_LITE, Some((1, 2)), true), lost(protocol::UDP_LITE));
        assert_eq!(of(protocol::UDP, None, true), lost(protocol::UDP));
        assert_eq!(of(99, Some((1, 2)), true), lost(99));
        assert_eq!(of(protocol::UDP, Some((1, 2)), false), Err(NotRebuilt::NotWhole));
        assert_eq!(of(protocol::UDP, Some((1, 2)), true), Ok(20 + 8 + 7));
        assert_eq!(of(47, None, true), Ok(20 + 7));
        let content = Content { protocol: 47, ports: None, whole: true, payload: &[0; 70_000] };
        assert_eq!(rebuild(src, dst, &content, &mut [0; 80_000]), Err(NotRebuilt::TooLong { len: 70_020 }));
        let content = Content { protocol: 47, ports: None, whole: true, payload: b"payload" };
        assert_eq!(rebuild(src, dst, &content, &mut [0; 26]), Err(NotRebuilt::TooLong { len: 27 }));
        assert_eq!(rebuild(src, addr("2001:db8::1"), &content, &mut [0; 100]), Err(NotRebuilt::MixedFamilies));
    }

    #[test]
    fn the_content_of_a_fragment_is_known_for_one() {
        let mut frame = Vec::new();
        let link = PacketBuilder::ethernet2([2; 6], [2; 6]);
        link.ipv4([192, 0, 2, 7], [192, 0, 2, 9], 9).udp(5, 6).write(&mut frame, b"payload").unwrap();
        // More fragments follow.
        frame[20] = 0x20;
        frame[24..26].fill(0);
        let sum = checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        let h = headers(&frame).unwrap();
        let content = Content::of(&frame, &h, &packet(&frame, &h));
        assert_eq!((content.ports, content.whole, content.payload), (Some((5, 6)), false, &b"payload"[..]));
    }
}
