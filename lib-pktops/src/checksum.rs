//! The Internet checksum (RFC 1071), and its change in place (RFC 1624).

/// The checksum of `bytes`: the complement of the sum of their 16-bit words. Zero for bytes that hold their own right
/// checksum.
#[must_use]
pub fn of(bytes: &[u8]) -> u16 {
    finish(sum(0, bytes))
}

/// [`of`] for the commonest case, an IPv4 header without options.
#[must_use]
#[inline]
pub fn of_ipv4_header(header: &[u8; 20]) -> u16 {
    let (words, _) = header.as_chunks::<4>();
    finish(words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum())
}

/// Adds the 16-bit words of `bytes` to a running sum; a last odd byte counts as the high half of a word. Only the last
/// piece of what is summed may be odd.
#[must_use]
pub fn sum(start: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total = words.iter().fold(start, |total, word| total + u64::from(u32::from_be_bytes(*word)));
    total += match *rest {
        [a] => u64::from(a) << 24,
        [a, b] => u64::from(u16::from_be_bytes([a, b])) << 16,
        [a, b, c] => u64::from(u32::from_be_bytes([a, b, c, 0])),
        _ => 0,
    };
    total
}

/// Folds a running sum to 16 bits and complements it.
#[must_use]
#[inline]
pub const fn finish(sum: u64) -> u16 {
    // Words of 32 bits are congruent to the sum of their halves, because 2^16 = 1 modulo 2^16 - 1.
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// The checksum after one 16-bit word of what it covers changes from `old` to `new` (RFC 1624, equation 3).
#[must_use]
#[inline]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    finish(!checksum as u64 + !old as u64 + new as u64)
}

/// The running sum of the pseudo header of TCP, UDP and ICMPv6: addresses, upper-layer length, protocol.
#[must_use]
pub fn pseudo_header(src: &[u8], dst: &[u8], len: u32, protocol: u8) -> u64 {
    sum(sum(0, src), dst) + u64::from(len) + u64::from(protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The textbook loop.
    fn slow(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    }

    #[test]
    fn sums_as_the_textbook_does_for_every_length() {
        let bytes: Vec<u8> = (0..400u32).map(|i| (i * 151 + (i >> 3) * 77) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(of(&bytes[..len]), slow(&bytes[..len]), "length {len}");
        }
        assert_eq!(of(&[0xff; 1500]), slow(&[0xff; 1500]));
    }

    #[test]
    fn the_header_form_is_the_general_form() {
        let header: [u8; 20] = core::array::from_fn(|i| (i * 37 + 5) as u8);
        assert_eq!(of_ipv4_header(&header), of(&header));
    }

    #[test]
    fn an_update_gives_what_a_full_sum_gives() {
        for ttl in 0..=255u8 {
            let mut header: [u8; 20] = core::array::from_fn(|i| (i * 91 + 7) as u8);
            header[8] = ttl;
            header[10..12].fill(0);
            let before = of(&header);
            let old = u16::from_be_bytes([header[8], header[9]]);
            header[8] = ttl.wrapping_sub(1);
            let new = u16::from_be_bytes([header[8], header[9]]);
            let after = update(before, old, new);
            header[10..12].copy_from_slice(&after.to_be_bytes());
            assert_eq!(of(&header), 0, "TTL {ttl}");
        }
    }
}
