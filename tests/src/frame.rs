//! Frames built byte by byte, for what no honest stack would send.

use std::net::Ipv4Addr;

/// An IPv4 UDP packet without a UDP checksum, from the first byte of its IP header on.
pub struct Ipv4Udp {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// Destination port; the source port is 12345.
    pub port: u16,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Ipv4Udp {
    /// Its bytes, with a right header checksum.
    pub fn bytes(&self) -> Vec<u8> {
        let udp_len = u16::try_from(8 + self.payload.len()).expect("a datagram fits its length field");
        let mut ip = vec![0x45, 0];
        ip.extend_from_slice(&(20 + udp_len).to_be_bytes());
        ip.extend_from_slice(&[0, 1, 0, 0, self.ttl, 17, 0, 0]);
        ip.extend_from_slice(&self.src.octets());
        ip.extend_from_slice(&self.dst.octets());
        let checksum = checksum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        ip.extend_from_slice(&12345u16.to_be_bytes());
        ip.extend_from_slice(&self.port.to_be_bytes());
        ip.extend_from_slice(&udp_len.to_be_bytes());
        ip.extend_from_slice(&[0, 0]);
        ip.extend_from_slice(&self.payload);
        ip
    }
}

/// The Internet checksum of whole 16-bit words.
pub fn checksum(words: &[u8]) -> u16 {
    let mut sum: u32 = words.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("a folded sum has 16 bits")
}

/// An Ethernet frame around an IPv4 packet, with that many VLAN tags.
pub fn ethernet(to: [u8; 6], from: [u8; 6], vlan: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + 4 * vlan.len() + packet.len());
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&from);
    for (i, id) in vlan.iter().enumerate() {
        // IEEE 802.1ad for the outer of two tags, IEEE 802.1Q for the inner one and for a single one.
        let tag: u16 = if i + 1 < vlan.len() { 0x88a8 } else { 0x8100 };
        frame.extend_from_slice(&tag.to_be_bytes());
        frame.extend_from_slice(&id.to_be_bytes());
    }
    frame.extend_from_slice(&0x0800u16.to_be_bytes());
    frame.extend_from_slice(packet);
    frame
}
