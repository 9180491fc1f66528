//! The headers of a generated packet, and the part of its checksum that does not change.

use super::stamp::STAMP_LEN;
use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;
use vinet_pktops::checksum;

/// Frame check sequence: on the wire, in no buffer.
pub const FCS_LEN: usize = 4;
const ETHERNET_LEN: usize = 14;

/// What carries the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP segments with data, without a connection: ACK and PSH are set.
    Tcp,
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Transport, String> {
        match text {
            "udp" => Ok(Transport::Udp),
            "tcp" => Ok(Transport::Tcp),
            _ => Err(format!("`{text}` is no transport; expected udp or tcp")),
        }
    }
}

impl Transport {
    const fn header_len(self) -> usize {
        match self {
            Transport::Udp => 8,
            Transport::Tcp => 20,
        }
    }
    const fn protocol(self) -> u8 {
        match self {
            Transport::Udp => 17,
            Transport::Tcp => 6,
        }
    }
    /// Where the checksum stands in the header.
    pub const fn checksum_at(self) -> usize {
        match self {
            Transport::Udp => 6,
            Transport::Tcp => 16,
        }
    }
}

/// Between which ends a flow is. Both addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

/// Ethernet addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Destination: the system under test.
    pub dst: [u8; 6],
    /// Source.
    pub src: [u8; 6],
}

/// Headers up to the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Their bytes; the transport's checksum is zero.
    pub bytes: Vec<u8>,
    /// Where the transport's checksum belongs.
    pub checksum_at: usize,
    /// The sum of pseudo header and transport header, without the payload.
    pub sum: u64,
}

/// Bytes of the headers of such a packet.
pub const fn head_len(is_v6: bool, transport: Transport) -> usize {
    ETHERNET_LEN + if is_v6 { 40 } else { 20 } + transport.header_len()
}

/// The least frame on the wire that has room for the headers and a stamp.
pub const fn frame_len_min(is_v6: bool, transport: Transport) -> usize {
    let len = head_len(is_v6, transport) + STAMP_LEN + FCS_LEN;
    if len < super::sizes::FRAME_LEN_MIN { super::sizes::FRAME_LEN_MIN } else { len }
}

/// The headers of a packet of `flow` with `payload_len` bytes behind them.
pub fn head(link: Link, flow: &Flow, transport: Transport, payload_len: usize) -> Head {
    let l4_len = transport.header_len() + payload_len;
    let mut bytes = Vec::with_capacity(head_len(flow.src.is_ipv6(), transport));
    bytes.extend(link.dst);
    bytes.extend(link.src);
    let addresses: Range<usize> = match (flow.src, flow.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            bytes.extend([0x08, 0x00, 0x45, 0]);
            bytes.extend((20 + l4_len as u16).to_be_bytes());
            // Identification 0 and "do not fragment": nothing of these packets is ever put together again (RFC 6864).
            bytes.extend([0, 0, 0x40, 0, 64, transport.protocol(), 0, 0]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            let sum = checksum::of(&bytes[ETHERNET_LEN..]);
            bytes[ETHERNET_LEN + 10..ETHERNET_LEN + 12].copy_from_slice(&sum.to_be_bytes());
            ETHERNET_LEN + 12..ETHERNET_LEN + 20
        }
        (src, dst) => {
            let octets = |addr: IpAddr| match addr {
                IpAddr::V6(addr) => addr.octets(),
                IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
            };
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            bytes.extend((l4_len as u16).to_be_bytes());
            bytes.extend([transport.protocol(), 64]);
            bytes.extend(octets(src));
            bytes.extend(octets(dst));
            ETHERNET_LEN + 8..ETHERNET_LEN + 40
        }
    };
    let l4 = bytes.len();
    bytes.extend(flow.src_port.to_be_bytes());
    bytes.extend(flow.dst_port.to_be_bytes());
    match transport {
        Transport::Udp => {
            bytes.extend((l4_len as u16).to_be_bytes());
            bytes.extend([0, 0]);
        }
        Transport::Tcp => {
            // Sequence 1, acknowledging 1; ACK and PSH; a window of 65,535.
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        }
    }
    let half = addresses.len() / 2;
    let (src, dst) = bytes[addresses].split_at(half);
    let sum = checksum::sum(checksum::pseudo_header(src, dst, l4_len as u32, transport.protocol()), &bytes[l4..]);
    Head { checksum_at: l4 + transport.checksum_at(), bytes, sum }
}

/// The transport's checksum of all that was summed up. UDP sends all ones for zero, which would mean "none" (RFC 768).
#[inline]
pub fn transport_checksum(sum: u64, transport: Transport) -> [u8; 2] {
    match (checksum::finish(sum), transport) {
        (0, Transport::Udp) => [0xff, 0xff],
        (sum, _) => sum.to_be_bytes(),
    }
}
