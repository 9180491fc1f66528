//! A packet in a few words, as tcpdump would have it: for people who watch packets go by.
//!
//! Total over any bytes: what is cut off or odd is told as far as it goes. No names are looked up.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// EtherTypes of tags, which stand before the packet's own.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// The letters of the TCP flags from the lowest bit on, as tcpdump writes them.
const FLAGS: [char; 6] = ['F', 'S', 'R', 'P', '.', 'U'];

/// An Ethernet frame, or its first bytes, in a few words.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a>(pub &'a [u8]);

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 12;
        while let Some(tag) = u16_at(self.0, at).filter(|kind| TAGS.contains(kind)) {
            let id = u16_at(self.0, at + 2).unwrap_or(0) & 0xfff;
            write!(f, "vlan {id} ")?;
            at += 4;
            if at > 24 {
                return write!(f, "more tags {tag:#06x}");
            }
        }
        let packet = self.0.get(at + 2..).unwrap_or_default();
        match u16_at(self.0, at) {
            Some(0x0800) => v4(packet, f),
            Some(0x86dd) => v6(packet, f),
            Some(0x0806) => f.write_str("ARP"),
            Some(kind) => write!(f, "ethertype {kind:#06x}"),
            None => f.write_str("cut before its type"),
        }
    }
}

fn v4(packet: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(header) = packet.first_chunk::<20>() else { return f.write_str("IP, cut in its header") };
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let payload = packet.get(4 * usize::from(header[0] & 15)..).filter(|_| fragment == 0).unwrap_or_default();
    f.write_str("IP ")?;
    transport(&address(12), &address(16), header[9], payload, f)?;
    if fragment > 0 { write!(f, " fragment at {}", 8 * u32::from(fragment)) } else { Ok(()) }
}

fn v6(packet: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(header) = packet.first_chunk::<40>() else { return f.write_str("IP6, cut in its header") };
    let address = |at: usize| {
        let bytes: [u8; 16] = std::array::from_fn(|i| header[at + i]);
        Ipv6Addr::from(bytes)
    };
    f.write_str("IP6 ")?;
    transport(&address(8), &address(24), header[6], &packet[40..], f)
}

fn transport(
    src: &dyn fmt::Display,
    dst: &dyn fmt::Display,
    protocol: u8,
    payload: &[u8],
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let ports = u16_at(payload, 0).zip(u16_at(payload, 2)).filter(|_| [6, 17].contains(&protocol));
    match ports {
        Some((from, to)) => write!(f, "{src}.{from} > {dst}.{to}:")?,
        None => write!(f, "{src} > {dst}:")?,
    }
    match (protocol, payload.get(13)) {
        (6, Some(bits)) => {
            let flags: String =
                (0..).zip(FLAGS).filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, flag)| flag).collect();
            write!(f, " tcp [{flags}]")
        }
        (6, None) => f.write_str(" tcp"),
        (17, _) => f.write_str(" udp"),
        (1 | 58, _) => write!(f, " icmp type {}", payload.first().copied().unwrap_or(0)),
        (other, _) => write!(f, " protocol {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u16, packet: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &kind.to_be_bytes(), packet].concat()
    }

    fn v4_packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 66, 198, 51, 100, 7];
        header.extend(payload);
        header
    }

    #[test]
    fn packets_are_told_as_far_as_they_go() {
        let told = |frame: &[u8]| Summary(frame).to_string();
        let syn = [&[0x30, 0x39, 0, 80][..], &[0; 9], &[0x12], &[0; 6]].concat();
        assert_eq!(told(&frame(0x0800, &v4_packet(6, &syn))), "IP 192.0.2.66.12345 > 198.51.100.7.80: tcp [S.]");
        assert_eq!(told(&frame(0x0800, &v4_packet(17, &[0, 53, 0, 54]))), "IP 192.0.2.66.53 > 198.51.100.7.54: udp");
        assert_eq!(told(&frame(0x0800, &v4_packet(1, &[8]))), "IP 192.0.2.66 > 198.51.100.7: icmp type 8");
        let mut fragment = v4_packet(17, &[0, 53, 0, 54]);
        fragment[7] = 3;
        assert_eq!(told(&frame(0x0800, &fragment)), "IP 192.0.2.66 > 198.51.100.7: udp fragment at 24");
        let mut v6 = [&[0x60, 0, 0, 0, 0, 0, 17, 64][..], &[0; 15], &[1], &[0; 15], &[2]].concat();
        v6.extend([0, 1, 0, 2]);
        assert_eq!(told(&frame(0x86dd, &v6)), "IP6 ::1.1 > ::2.2: udp");
        let tagged = frame(0x8100, &[&[0, 100, 0x08, 6][..], &[0; 28]].concat());
        assert_eq!(told(&tagged), "vlan 100 ARP");
        assert_eq!(told(&frame(0x88cc, &[])), "ethertype 0x88cc");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = frame(0x8100, &[&[0, 1, 0x08, 0][..], &v4_packet(6, &[0; 20])].concat());
        for len in 0..=whole.len() {
            let _ = Summary(&whole[..len]).to_string();
            for value in [0, 0x0f, 0x4f, 0x81, 0xff] {
                let mut odd = whole[..len].to_vec();
                if let Some(byte) = odd.last_mut() {
                    *byte = value;
                }
                let _ = Summary(&odd).to_string();
            }
        }
        let _ = Summary(&[0x81, 0x00].repeat(40)).to_string();
    }
}
