//! Sets of the packets of a window: one bit for each, in the order of arrival.

/// A set of packets of a window of at most `64 * N`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketSet<const N: usize>([u64; N]);

impl<const N: usize> PacketSet<N> {
    /// No packet.
    pub const EMPTY: PacketSet<N> = PacketSet([0; N]);

    /// The first `count` packets, or all that there is room for.
    #[must_use]
    pub fn first(count: usize) -> PacketSet<N> {
        PacketSet(core::array::from_fn(|i| match count.saturating_sub(64 * i) {
            0 => 0,
            left @ 1..64 => (1 << left) - 1,
            _ => u64::MAX,
        }))
    }
    /// The set of these bits, 64 packets a word.
    #[must_use]
    pub const fn from_words(words: [u64; N]) -> PacketSet<N> {
        PacketSet(words)
    }
    /// Its bits, 64 packets a word.
    #[must_use]
    pub const fn words(&self) -> &[u64; N] {
        &self.0
    }
    /// Puts a packet in.
    pub const fn insert(&mut self, packet: usize) {
        self.0[packet / 64] |= 1 << (packet % 64);
    }
    /// Whether the packet is in it.
    #[must_use]
    pub const fn contains(&self, packet: usize) -> bool {
        self.0[packet / 64] >> (packet % 64) & 1 != 0
    }
    /// Whether no packet is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
    /// How many packets are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
    /// The packets that are in both.
    #[must_use]
    pub fn and(&self, other: &PacketSet<N>) -> PacketSet<N> {
        PacketSet(core::array::from_fn(|i| self.0[i] & other.0[i]))
    }
    /// Its packets, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = usize> + use<N> {
        packets(self.0.into_iter())
    }
    /// Its packet that came first.
    #[must_use]
    pub fn earliest(&self) -> Option<usize> {
        self.iter().next()
    }
}

/// UNION: the packets that are in either.
#[must_use]
pub fn union<const N: usize>(a: &PacketSet<N>, b: &PacketSet<N>) -> PacketSet<N> {
    PacketSet(core::array::from_fn(|i| a.0[i] | b.0[i]))
}

/// MINUS: the packets of `a` that are not in `b`.
#[must_use]
pub fn minus<const N: usize>(a: &PacketSet<N>, b: &PacketSet<N>) -> PacketSet<N> {
    PacketSet(core::array::from_fn(|i| a.0[i] & !b.0[i]))
}

/// The numbers of the bits that are set in `words`, rising.
pub(crate) fn packets(words: impl Iterator<Item = u64>) -> impl Iterator<Item = usize> {
    words.enumerate().flat_map(|(i, word)| {
        let mut rest = word;
        core::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(64 * i + bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Random, seed};
    use std::collections::BTreeSet;

    #[test]
    fn sets_are_sets() {
        let mut random = Random::new(seed("sets"));
        for _ in 0..200 {
            let draw = |random: &mut Random| -> BTreeSet<usize> {
                let count = random.below(300);
                (0..count).map(|_| random.below(256)).collect()
            };
            let of = |set: &BTreeSet<usize>| {
                let mut bits = PacketSet::<4>::EMPTY;
                set.iter().for_each(|p| bits.insert(*p));
                bits
            };
            let (a, b) = (draw(&mut random), draw(&mut random));
            let (x, y) = (of(&a), of(&b));
            assert!(x.iter().eq(a.iter().copied()));
            assert!(union(&x, &y).iter().eq(a.union(&b).copied()));
            assert!(minus(&x, &y).iter().eq(a.difference(&b).copied()));
            assert!(x.and(&y).iter().eq(a.intersection(&b).copied()));
            assert_eq!((x.len(), x.is_empty(), x.earliest()), (a.len(), a.is_empty(), a.first().copied()));
            assert!((0..256).all(|p| x.contains(p) == a.contains(&p)));
        }
    }

    #[test]
    fn the_first_packets_are_as_many_as_asked_for() {
        for count in 0..=256 {
            assert!(PacketSet::<4>::first(count).iter().eq(0..count));
        }
        assert_eq!(PacketSet::<1>::first(64).len(), 64);
        assert!(PacketSet::<1>::first(0).is_empty());
    }
}
