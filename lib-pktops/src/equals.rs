//! The packets of a window that are equal in something: in an address, a content, a flow.
//!
//! A packet's class is the number of the first packet that was equal to it when it was put in. Finding it is one look
//! into a hash table that is a part of the value, so nothing is allocated, and nobody without the hash's key can make
//! it slow.

use crate::packet_set::PacketSet;

/// Classes of at most `P` packets, in sets of `N` words.
#[derive(Clone, Debug)]
pub struct Equals<const N: usize, const P: usize> {
    /// For each hash, one more than the class that was found last; 0 where there is none.
    heads: [u16; P],
    /// For each class, one more than the next one of equal hash.
    next: [u16; P],
    class_of: [u8; P],
    members: [[u64; N]; P],
    known: PacketSet<N>,
}

/// No packets.
impl<const N: usize, const P: usize> Default for Equals<N, P> {
    fn default() -> Equals<N, P> {
        const { assert!(P <= 256 && P <= 64 * N, "classes are bytes, and packets have bits") }
        Equals { heads: [0; P], next: [0; P], class_of: [0; P], members: [[0; N]; P], known: PacketSet::EMPTY }
    }
}

impl<const N: usize, const P: usize> Equals<N, P> {
    /// The first `count` packets.
    #[must_use]
    pub fn of(count: usize, hash: impl Fn(usize) -> u64, equal: impl Fn(usize, usize) -> bool) -> Equals<N, P> {
        let mut classes = Equals::default();
        (0..count).for_each(|packet| classes.insert(packet, &hash, &equal));
        classes
    }
    /// Puts a packet in, unless it is. Equal packets have equal hashes.
    pub fn insert(&mut self, packet: usize, hash: impl Fn(usize) -> u64, equal: impl Fn(usize, usize) -> bool) {
        if self.known.contains(packet) {
            return;
        }
        self.known.insert(packet);
        // With one place there is one packet, and nothing to look for.
        let slot = if P == 1 { 0 } else { (hash(packet) % P as u64) as usize };
        let mut at = self.heads[slot];
        while at != 0 {
            let class = usize::from(at - 1);
            if equal(class, packet) {
                return self.put(packet, class);
            }
            at = self.next[class];
        }
        self.next[packet] = self.heads[slot];
        self.heads[slot] = packet as u16 + 1;
        self.put(packet, packet);
    }
    fn put(&mut self, packet: usize, class: usize) {
        self.class_of[packet] = class as u8;
        self.members[class][packet / 64] |= 1 << (packet % 64);
    }
    /// The class of a packet that was put in.
    #[must_use]
    pub fn class(&self, packet: usize) -> usize {
        usize::from(self.class_of[packet])
    }
    /// The packets of `set`, which were put in, that are equal to `packet`.
    #[must_use]
    pub fn equals(&self, packet: usize, set: &PacketSet<N>) -> PacketSet<N> {
        PacketSet::from_words(self.members[self.class(packet)]).and(set)
    }
    /// What [`Equals::equals`] would be asked of a set, for views that do not know `N`: the class of each packet, and
    /// the words of each class's members.
    pub(crate) fn parts(&self) -> (&[u8], &[u64]) {
        (&self.class_of, self.members.as_flattened())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Random, seed};

    fn holds<const N: usize, const P: usize>(random: &mut Random, kinds: usize) {
        let of: Vec<u64> = (0..P).map(|_| random.below(kinds) as u64).collect();
        let mut classes = Equals::<N, P>::default();
        let mut put = PacketSet::EMPTY;
        for _ in 0..P {
            let packet = random.below(P);
            // Every second kind has the same hash.
            classes.insert(packet, |p| of[p] / 2, |a, b| of[a] == of[b]);
            put.insert(packet);
            for other in put.iter() {
                assert_eq!(classes.class(packet) == classes.class(other), of[packet] == of[other]);
            }
            assert!(classes.equals(packet, &put).iter().eq(put.iter().filter(|&p| of[p] == of[packet])));
        }
    }

    #[test]
    fn packets_are_in_one_class_exactly_if_they_are_equal() {
        let mut random = Random::new(seed("equals"));
        for kinds in [1, 2, 3, 10, 1000] {
            holds::<1, 1>(&mut random, kinds);
            holds::<1, 64>(&mut random, kinds);
            holds::<4, 256>(&mut random, kinds);
        }
    }
}
