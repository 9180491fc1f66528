//! The station that a packet is sent to next, with all that a plain frame to it begins with.

use vinet_pktops::parse::{ETHERNET_LEN, Family};

use crate::link::{Face, PLAIN_LEN};

/// The bits of a frame's first word (little-endian) that are its destination.
pub(crate) const MAC_BITS: u64 = (1 << 48) - 1;

/// A station on a port's link. A quarter of a cache line, because every packet needs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Station {
    /// The first word of a frame to it (little-endian): its address, and of the port's own the first two bytes.
    front: u64,
    /// The rest of the port's own address.
    rest: u32,
    port: u16,
    /// The longest IP packet that leaves for it with the untagged header that it came with: the port's MTU, or 0 where
    /// the port has tags.
    plain_len_max: u16,
}

impl Station {
    /// No station. Its port is one that no router has.
    pub const NONE: Station = Station { front: 0, rest: 0, port: u16::MAX, plain_len_max: 0 };

    /// The station `mac` on `port`, of which nothing more is known yet ([`Station::by`]).
    #[must_use]
    pub fn new(port: u16, mac: [u8; 6]) -> Station {
        let [a, b, c, d, e, f] = mac;
        Station { front: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]), rest: 0, port, plain_len_max: 0 }
    }
    /// The same station, reached by its port's face.
    #[must_use]
    pub fn by(self, face: &Face) -> Station {
        let [a, b, c, d, e, f] = face.mac;
        let front = self.front & MAC_BITS | u64::from_le_bytes([0, 0, 0, 0, 0, 0, a, b]);
        let plain_len_max = if face.is_tagged() { 0 } else { face.mtu };
        Station { front, rest: u32::from_le_bytes([c, d, e, f]), port: self.port, plain_len_max }
    }
    /// Its port.
    #[inline]
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
    /// Its Ethernet address.
    #[inline]
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = self.front.to_le_bytes();
        [a, b, c, d, e, f]
    }
    /// Whether there is one.
    #[inline]
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.port != u16::MAX
    }
    /// Whether a frame with an untagged header and an IP packet of so many bytes can be sent to it as it is but for its
    /// header.
    #[inline]
    pub(crate) fn takes(&self, l3_len: usize) -> bool {
        l3_len <= usize::from(self.plain_len_max)
    }
    /// In one word, its port, and above that the longest IP packet that a frame to it takes as it is but for its header.
    #[inline(always)]
    pub(crate) fn port_and_len_max(&self) -> u32 {
        u32::from(self.port) | u32::from(self.plain_len_max) << 16
    }
    /// Readies a plain IPv4 frame for its way there, with one hop counted in `lifetime`, its bytes from the TTL on.
    #[inline(always)]
    pub(crate) fn pass_plain_on(&self, front: &mut [u8; PLAIN_LEN], lifetime: u32) {
        self.address(front);
        front[ETHERNET_LEN + 8..ETHERNET_LEN + 12].copy_from_slice(&lifetime.to_le_bytes());
    }
    /// Addresses a plain frame to it, in place. The type of the frame stays.
    #[inline(always)]
    fn address(&self, front: &mut [u8; PLAIN_LEN]) {
        front[..8].copy_from_slice(&self.front.to_le_bytes());
        front[8..12].copy_from_slice(&self.rest.to_le_bytes());
    }
    /// Readies a plain frame for its way there: addressed, and one hop counted, of which there must be one.
    #[inline]
    pub(crate) fn pass_on(&self, front: &mut [u8; PLAIN_LEN], family: Family) {
        self.address(front);
        match family {
            Family::V4 => {
                front[ETHERNET_LEN + 8] -= 1;
                // RFC 1624 for this one change, as one addition: the word that holds the TTL is 0x0100 less.
                let sum = u32::from(u16::from_be_bytes([front[ETHERNET_LEN + 10], front[ETHERNET_LEN + 11]])) + 0x0100;
                let sum = (sum + u32::from(sum >= 0xffff)) as u16;
                front[ETHERNET_LEN + 10..ETHERNET_LEN + 12].copy_from_slice(&sum.to_be_bytes());
            }
            Family::V6 => front[ETHERNET_LEN + 7] -= 1,
        }
    }
}
