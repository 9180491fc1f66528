//! What is behind the IP header: ports, sequence numbers, and where the payload lies.

use super::{Fragment, Headers, array, be16, protocol};
use core::fmt;
use core::ops::Range;

/// The flags of a TCP header.
pub mod flags {
    /// No more data from the sender; takes one sequence number behind the data.
    pub const FIN: u8 = 0x01;
    /// Synchronises sequence numbers; takes one sequence number before the data.
    pub const SYN: u8 = 0x02;
    /// Resets the connection.
    pub const RST: u8 = 0x04;
    /// Asks for delivery at once.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
}

/// What a packet carries. The payload is a range of the frame, inside the IP packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A TCP segment, whole.
    Tcp(Tcp),
    /// A UDP datagram, whole.
    Udp(Udp),
    /// Anything else, fragments included.
    Other(Other),
}

/// A TCP segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The sequence number of the first byte, or of the SYN before it.
    pub seq: u32,
    /// See [`flags`].
    pub flags: u8,
    /// The data.
    pub payload: Range<usize>,
}

/// A UDP datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The data.
    pub payload: Range<usize>,
}

/// What is neither a whole TCP segment nor a whole UDP datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Other {
    /// The protocol, as in [`Headers::protocol`].
    pub protocol: u8,
    /// The bytes behind the transport header where the first fragment of a TCP segment or a UDP datagram holds it
    /// whole; otherwise all that is behind the IP header.
    pub payload: Range<usize>,
    /// What is wrong with it, if anything.
    pub irregular: Option<Irregular>,
}

/// What can be wrong behind the IP header. It stops nobody from forwarding; it decides what the payload is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Irregular {
    /// An IPv6 extension header reaches over the end of the packet.
    ExtensionTruncated,
    /// More than [`super::EXTENSIONS_MAX`] IPv6 extension headers.
    ExtensionsAboveMax,
    /// An IPv6 hop-by-hop header behind another extension header.
    HopByHopNotFirst,
    /// The packet ends inside the TCP header.
    TcpTruncated,
    /// The TCP header says that it is shorter than 20 bytes.
    TcpBadHeaderLen,
    /// The packet ends inside the UDP header.
    UdpTruncated,
    /// The UDP length is below 8, or above what the packet holds.
    UdpBadLen,
}

impl Irregular {
    /// Its stable name, for a counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Irregular::ExtensionTruncated => "extension_truncated",
            Irregular::ExtensionsAboveMax => "extensions_above_max",
            Irregular::HopByHopNotFirst => "hop_by_hop_not_first",
            Irregular::TcpTruncated => "tcp_truncated",
            Irregular::TcpBadHeaderLen => "tcp_bad_header_len",
            Irregular::UdpTruncated => "udp_truncated",
            Irregular::UdpBadLen => "udp_bad_len",
        }
    }
}

impl fmt::Display for Irregular {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Irregular::ExtensionTruncated => "an extension header reaches over the end of the packet",
            Irregular::ExtensionsAboveMax => "there are more extension headers than are walked",
            Irregular::HopByHopNotFirst => "a hop-by-hop header is not the first extension header",
            Irregular::TcpTruncated => "the packet ends inside the TCP header",
            Irregular::TcpBadHeaderLen => "the TCP header length is below 20 bytes",
            Irregular::UdpTruncated => "the packet ends inside the UDP header",
            Irregular::UdpBadLen => "the UDP length is below 8 bytes or above what the packet holds",
        })
    }
}

impl Transport {
    /// The payload, as a range of the frame.
    #[must_use]
    pub fn payload(&self) -> Range<usize> {
        match self {
            Transport::Tcp(tcp) => tcp.payload.clone(),
            Transport::Udp(udp) => udp.payload.clone(),
            Transport::Other(other) => other.payload.clone(),
        }
    }
}

/// Looks behind the IP header of `frame`, whose [`Headers`] are `headers`.
///
/// Headers of another frame give a senseless answer, never a panic: every range lies within `frame`.
///
/// Inlined by force: as a call it writes two ports that are then read as one word, which costs 5 ns a packet.
#[must_use]
#[inline(always)]
pub fn transport(frame: &[u8], headers: &Headers) -> Transport {
    let end = headers.end().min(frame.len());
    let start = usize::from(headers.l4_offset).min(end);
    let packet = &frame[..end];
    let other = |payload, irregular| Transport::Other(Other { protocol: headers.protocol, payload, irregular });
    if headers.irregular.is_some() || headers.fragment == Fragment::Later {
        return other(start..end, headers.irregular);
    }
    let whole = headers.fragment == Fragment::Whole;
    match headers.protocol {
        protocol::TCP => {
            let Some(h) = array::<20>(packet, start) else {
                return other(start..end, Some(Irregular::TcpTruncated));
            };
            let header_len = usize::from(h[12] >> 4) * 4;
            if header_len < 20 {
                return other(start..end, Some(Irregular::TcpBadHeaderLen));
            }
            if end - start < header_len {
                return other(start..end, Some(Irregular::TcpTruncated));
            }
            let payload = start + header_len..end;
            if !whole {
                return other(payload, None);
            }
            Transport::Tcp(Tcp {
                src_port: be16([h[0], h[1]]),
                dst_port: be16([h[2], h[3]]),
                seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
                flags: h[13],
                payload,
            })
        }
        protocol::UDP => {
            let Some(h) = array::<8>(packet, start) else {
                return other(start..end, Some(Irregular::UdpTruncated));
            };
            if !whole {
                // Its length counts the fragments to come.
                return other(start + 8..end, None);
            }
            let len = usize::from(be16([h[4], h[5]]));
            if len < 8 || len > end - start {
                return other(start..end, Some(Irregular::UdpBadLen));
            }
            Transport::Udp(Udp {
                src_port: be16([h[0], h[1]]),
                dst_port: be16([h[2], h[3]]),
                payload: start + 8..start + len,
            })
        }
        _ => other(start..end, None),
    }
}
