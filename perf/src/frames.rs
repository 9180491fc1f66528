//! Frames made by hand: Ethernet, IPv4 or IPv6, UDP or TCP, with sound lengths and header checksums.

use vinet_pktops::checksum;
use vinet_trusted::addr::Addr;

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = 14;

/// What is above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Above {
    /// A datagram.
    Udp,
    /// An echo request.
    Icmp,
    /// A segment.
    Tcp {
        /// The number of its first byte.
        seq: u32,
        /// The byte of its flags, FIN the lowest bit.
        flags: u8,
    },
}

/// A frame to be made.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// To whom and from whom, in Ethernet.
    pub macs: [[u8; 6]; 2],
    /// The source.
    pub src: Addr,
    /// The destination, of the same family.
    pub dst: Addr,
    /// Source and destination port.
    pub ports: [u16; 2],
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Whether a router may cut it (IPv4).
    pub may_be_cut: bool,
    /// What is above IP.
    pub above: Above,
    /// The content.
    pub payload: &'a [u8],
}

/// Where the transport header of a frame of this module begins.
pub const fn transport_at(dst: Addr) -> usize {
    match dst {
        Addr::V4(_) => ETHERNET_LEN + 20,
        Addr::V6(_) => ETHERNET_LEN + 40,
    }
}

/// Bytes of the headers above IP.
pub const fn transport_len(above: Above) -> usize {
    match above {
        Above::Udp | Above::Icmp => 8,
        Above::Tcp { .. } => 20,
    }
}

/// The frame.
pub fn frame(spec: &Spec<'_>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(transport_at(spec.dst) + transport_len(spec.above) + spec.payload.len());
    frame.extend(spec.macs.concat());
    let len = (transport_len(spec.above) + spec.payload.len()) as u16;
    let protocol = match (spec.above, spec.dst) {
        (Above::Udp, _) => 17,
        (Above::Tcp { .. }, _) => 6,
        (Above::Icmp, Addr::V4(_)) => 1,
        (Above::Icmp, Addr::V6(_)) => 58,
    };
    match (spec.src, spec.dst) {
        (Addr::V4(src), Addr::V4(dst)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + len).to_be_bytes());
            frame.extend([0, 0, if spec.may_be_cut { 0 } else { 0x40 }, 0, spec.ttl, protocol, 0, 0]);
            frame.extend(src.to_be_bytes());
            frame.extend(dst.to_be_bytes());
            let sum = checksum::of(&frame[ETHERNET_LEN..]);
            frame[ETHERNET_LEN + 10..ETHERNET_LEN + 12].copy_from_slice(&sum.to_be_bytes());
        }
        (Addr::V6(src), Addr::V6(dst)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([protocol, spec.ttl]);
            frame.extend(src.to_be_bytes());
            frame.extend(dst.to_be_bytes());
        }
        _ => panic!("a packet has one family"),
    }
    if spec.above != Above::Icmp {
        frame.extend(spec.ports[0].to_be_bytes());
        frame.extend(spec.ports[1].to_be_bytes());
    }
    match spec.above {
        // Type and code (RFC 792, RFC 4443), and an identifier and a number of zero.
        Above::Icmp => frame.extend([if protocol == 1 { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 0]),
        Above::Udp => {
            frame.extend(len.to_be_bytes());
            frame.extend([0; 2]);
        }
        Above::Tcp { seq, flags } => {
            frame.extend(seq.to_be_bytes());
            frame.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
    }
    frame.extend(spec.payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    #[test]
    fn an_independent_parser_reads_what_was_meant() {
        let pairs = [(Addr::V4(0xc000_0201), Addr::V4(7)), (Addr::V6(0x2001_0db8 << 96), Addr::V6(9))];
        for (src, dst) in pairs {
            for above in [Above::Udp, Above::Icmp, Above::Tcp { seq: 77, flags: 0x12 }] {
                let spec = Spec {
                    macs: [[2; 6], [4; 6]],
                    src,
                    dst,
                    ports: [1000, 25],
                    ttl: 9,
                    may_be_cut: false,
                    above,
                    payload: b"content",
                };
                let frame = frame(&spec);
                assert_eq!(frame.len(), transport_at(dst) + transport_len(above) + 7);
                let packet = SlicedPacket::from_ethernet(&frame).expect("sound");
                match packet.net.expect("IP") {
                    NetSlice::Ipv4(ip) => {
                        let header = ip.header().to_header();
                        assert_eq!(header.header_checksum, header.calc_header_checksum());
                        assert_eq!((Addr::V4(u32::from_be_bytes(header.destination)), header.time_to_live), (dst, 9));
                    }
                    NetSlice::Ipv6(ip) => {
                        assert_eq!(Addr::V6(u128::from_be_bytes(ip.header().destination())), dst);
                    }
                    other => panic!("{other:?}"),
                }
                match packet.transport.expect("a transport header") {
                    TransportSlice::Udp(udp) => {
                        assert_eq!((udp.destination_port(), udp.payload()), (25, &b"content"[..]))
                    }
                    TransportSlice::Tcp(tcp) => {
                        assert_eq!((tcp.sequence_number(), tcp.syn(), tcp.ack(), tcp.fin()), (77, true, true, false));
                        assert_eq!(tcp.payload(), b"content");
                    }
                    TransportSlice::Icmpv4(icmp) => assert_eq!((icmp.type_u8(), icmp.payload()), (8, &b"content"[..])),
                    TransportSlice::Icmpv6(icmp) => {
                        assert_eq!((icmp.type_u8(), icmp.payload()), (128, &b"content"[..]))
                    }
                    other @ TransportSlice::Igmp(_) => panic!("{other:?}"),
                }
            }
        }
    }
}
