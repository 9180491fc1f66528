//! Packets as programs see them, from frames.
//!
//! A number is there where the fixed part of the header that holds it lies in the packet: 20 bytes of TCP with a sound
//! header length, 8 of UDP and UDP-Lite, 12 of SCTP and DCCP. So a capture that kept no more than headers, and a
//! datagram whose length is wrong, still have their ports.

use crate::parse::{Fragment, Headers, array, be16, protocol};
use vinet_trusted::packet::{Number, Packet};

/// The packet of `frame`, whose headers are `headers`. Its content is left at 0: what contents are equal is the
/// business of [`crate::group_by_content`].
#[must_use]
#[inline(never)]
pub fn packet(frame: &[u8], headers: &Headers) -> Packet {
    let mut packet = Packet::between(headers.src, headers.dst);
    packet.numbers[Number::Protocol as usize] = u32::from(headers.protocol);
    packet.numbers[Number::Length as usize] = u32::from(headers.l3_len);
    if headers.irregular.is_some() || headers.fragment == Fragment::Later {
        return packet;
    }
    let end = headers.end().min(frame.len());
    let start = usize::from(headers.l4_offset);
    let fixed_len = match headers.protocol {
        protocol::TCP => 20,
        protocol::UDP | protocol::UDP_LITE => 8,
        protocol::SCTP | protocol::DCCP => 12,
        _ => return packet,
    };
    if end < start + fixed_len {
        return packet;
    }
    let mut flags = None;
    if headers.protocol == protocol::TCP {
        let Some(fixed) = array::<20>(frame, start) else { return packet };
        // A header that says it is shorter than its fixed part is none.
        if fixed[12] >> 4 < 5 {
            return packet;
        }
        flags = Some(fixed[13]);
    }
    let Some(ports) = array::<4>(frame, start) else { return packet };
    packet.numbers[Number::SrcPort as usize] = u32::from(be16([ports[0], ports[1]]));
    packet.numbers[Number::DstPort as usize] = u32::from(be16([ports[2], ports[3]]));
    if let Some(flags) = flags {
        // The flags stand in the header as they do in `Number`: FIN in the lowest bit, then SYN, RST, PSH, ACK, URG.
        for (bit, number) in packet.numbers[Number::Fin as usize..=Number::Urg as usize].iter_mut().enumerate() {
            *number = u32::from(flags >> bit & 1);
        }
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::headers;
    use crate::samples::{Carried, addr, frame, frame_with};

    fn of(frame: &[u8]) -> Packet {
        packet(frame, &headers(frame).unwrap())
    }

    fn tcp(flags: u8) -> Carried {
        Carried::Tcp { ports: (1025, 25), seq: 1, flags, payload: b"data".to_vec() }
    }

    #[test]
    fn every_number_of_a_segment_is_there() {
        let packet = of(&frame(addr("192.0.2.1"), addr("10.0.0.5"), &tcp(0b01_0010)));
        let expected = [6, 1025, 25, 44, 0, 1, 0, 0, 1, 0];
        assert_eq!(Number::ALL.map(|number| packet.number(number)), expected.map(Some));
        for (bit, number) in Number::ALL[4..].iter().enumerate() {
            let packet = of(&frame(addr("2001:db8::1"), addr("2001:db8::5"), &tcp(1 << bit)));
            assert_eq!(packet.number(*number), Some(1));
            assert_eq!(packet.numbers[4..].iter().sum::<u32>(), 1);
        }
    }

    #[test]
    fn other_transports_have_what_they_have() {
        let of = |carried: &Carried| of(&frame(addr("192.0.2.1"), addr("10.0.0.5"), carried));
        let udp = of(&Carried::Udp { ports: (53, 54), payload: vec![] });
        assert_eq!((udp.number(Number::SrcPort), udp.number(Number::DstPort)), (Some(53), Some(54)));
        assert_eq!(udp.number(Number::Syn), None);
        for (protocol, len, there) in [(132, 12, true), (132, 11, false), (33, 12, true), (136, 8, true), (1, 8, false)]
        {
            let packet = of(&Carried::Other { protocol, payload: vec![1; len] });
            assert_eq!(packet.number(Number::SrcPort), there.then_some(0x0101), "protocol {protocol}");
            assert_eq!(packet.number(Number::Protocol), Some(u32::from(protocol)));
            assert_eq!(packet.number(Number::Length), Some(20 + len as u32));
        }
    }

    #[test]
    fn a_header_that_is_not_whole_is_not_there() {
        let whole = frame(addr("192.0.2.1"), addr("10.0.0.5"), &tcp(2));
        let h = headers(&whole).unwrap();
        let start = usize::from(h.l4_offset);
        assert_eq!(packet(&whole[..start + 20], &h).number(Number::DstPort), Some(25), "a capture of headers");
        assert_eq!(packet(&whole[..start + 19], &h).number(Number::DstPort), None);
        let mut short = whole.clone();
        short[start + 12] = 0x40;
        assert_eq!(packet(&short, &h).number(Number::DstPort), None, "a header of 16 bytes is no TCP header");
        let mut long = whole;
        long[start + 12] = 0xf0;
        assert_eq!(packet(&long, &h).number(Number::DstPort), Some(25), "its options are cut, its ports are not");
    }

    #[test]
    fn only_the_first_fragment_has_ports() {
        for (fragment, there) in [((0, true), true), ((4, true), false), ((4, false), false)] {
            for (src, dst) in [("192.0.2.1", "10.0.0.5"), ("2001:db8::1", "2001:db8::5")] {
                let packet = of(&frame_with(addr(src), addr(dst), &tcp(2), &[], 0, Some(fragment)));
                assert_eq!(packet.number(Number::DstPort), there.then_some(25));
                assert_eq!(packet.number(Number::Syn), there.then_some(1));
                assert_eq!(packet.number(Number::Protocol), Some(6));
            }
        }
    }
}
