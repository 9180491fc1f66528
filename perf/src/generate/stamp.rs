//! The stamp: what the first 18 bytes of a payload say, so that the receiver knows the packet again.
//!
//! A marker of two bytes, a word of eight with the tag of the trial (16 bits) and the packet's number (48), and the time at
//! which the packet was to be sent, in nanoseconds of the generator's clock; all big-endian. A packet of an earlier trial
//! that comes late has another tag and counts as foreign.

use std::ops::Range;

/// The bytes of a stamp.
pub const STAMP_LEN: usize = 18;
/// What it begins with.
const MARKER: [u8; 2] = *b"\xb7V";
/// Bits of a packet's number.
const NUMBER_BITS: u32 = 48;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What a stamp says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which trial.
    pub tag: u16,
    /// Which packet of it, from 0.
    pub number: u64,
    /// When it was to be sent.
    pub intended_ns: u64,
}

impl Stamp {
    /// Its bytes.
    #[inline]
    pub fn bytes(self) -> [u8; STAMP_LEN] {
        let mut bytes = [0; STAMP_LEN];
        bytes[..2].copy_from_slice(&MARKER);
        let word = u64::from(self.tag) << NUMBER_BITS | self.number & ((1 << NUMBER_BITS) - 1);
        bytes[2..10].copy_from_slice(&word.to_be_bytes());
        bytes[10..].copy_from_slice(&self.intended_ns.to_be_bytes());
        bytes
    }
    /// The sum of its 16-bit words, for a checksum.
    #[inline]
    pub fn sum(bytes: &[u8; STAMP_LEN]) -> u64 {
        bytes.chunks_exact(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
    }
    /// What the frame's stamp says, if it has one.
    #[inline]
    pub fn read(frame: &[u8]) -> Option<Stamp> {
        let at = place(frame)?.start;
        let bytes = frame.get(at..)?.first_chunk::<STAMP_LEN>()?;
        if bytes[..2] != MARKER {
            return None;
        }
        let word = u64::from_be_bytes(*bytes[2..].first_chunk()?);
        let intended_ns = u64::from_be_bytes(*bytes[10..].first_chunk()?);
        Some(Stamp { tag: (word >> NUMBER_BITS) as u16, number: word & ((1 << NUMBER_BITS) - 1), intended_ns })
    }
}

/// The place of a TCP or UDP payload, behind Ethernet with up to two tags and IP without extension headers or fragments.
pub fn place(frame: &[u8]) -> Option<Range<usize>> {
    let half = |at: usize| frame.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b));
    let mut at = 12;
    for _ in 0..2 {
        if matches!(half(at)?, 0x8100 | 0x88a8) {
            at += 4;
        }
    }
    let ip = at + 2;
    let (l4, protocol, end) = match half(at)? {
        ETHERTYPE_IPV4 => {
            let header = usize::from(*frame.get(ip)? & 0x0f) * 4;
            if half(ip + 6)? & 0x3fff != 0 {
                return None;
            }
            (ip + header, *frame.get(ip + 9)?, ip + usize::from(half(ip + 2)?))
        }
        ETHERTYPE_IPV6 => (ip + 40, *frame.get(ip + 6)?, ip + 40 + usize::from(half(ip + 4)?)),
        _ => return None,
    };
    let payload = match protocol {
        UDP => l4 + 8,
        TCP => l4 + usize::from(*frame.get(l4 + 12)? >> 4) * 4,
        _ => return None,
    };
    (payload <= end && end <= frame.len()).then_some(payload..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_its_numbers_wrap_at_48_bits() {
        let stamp = Stamp { tag: 0xfffe, number: (1 << 48) - 1, intended_ns: u64::MAX - 1 };
        let mut frame = vec![0u8; 14 + 20 + 8];
        frame[12..14].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
        frame[14] = 0x45;
        frame[17] = 20 + 8 + STAMP_LEN as u8;
        frame[23] = UDP;
        frame.extend(stamp.bytes());
        assert_eq!(Stamp::read(&frame), Some(stamp));
        for len in 0..frame.len() {
            assert_eq!(Stamp::read(&frame[..len]), None, "{len}");
        }
        frame[42] ^= 1;
        assert_eq!(Stamp::read(&frame), None, "another marker");
    }

    #[test]
    fn any_bytes_have_a_stamp_or_none() {
        let mut chance = crate::verify::chance::Chance::new(7);
        for _ in 0..20_000 {
            let mut frame: Vec<u8> = (0..chance.below(120)).map(|_| chance.bits() as u8).collect();
            if frame.len() > 14 {
                let kind: [u8; 2] = *chance.pick(&[[8, 0], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8]]);
                frame[12..14].copy_from_slice(&kind);
            }
            let _ = Stamp::read(&frame);
        }
    }
}
