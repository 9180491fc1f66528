//! Where things are in an array, by their hashes: open addressing with linear probing, at most half full.
//!
//! An entry is 32 bits: a place and as many bits of the hash as there is room for, so that the array itself is hardly
//! ever looked at for another thing. Nothing is allocated after the start. Hashes are expected to be keyed: nobody can
//! make things meet.

/// Places by hash.
#[derive(Debug)]
pub(crate) struct FlowIndex {
    /// 0 where there is none; otherwise one more than the place, with bits of the hash above [`FlowIndex::place_mask`].
    entries: Vec<u32>,
    place_mask: u32,
}

impl FlowIndex {
    /// Room for the places below `places`, of which there are fewer than 2^31.
    pub(crate) fn new(places: usize) -> FlowIndex {
        assert!(places < 1 << 31, "an entry is 32 bits");
        let len = if places == 0 { 0 } else { (2 * places).next_power_of_two() };
        FlowIndex { entries: vec![0; len], place_mask: (places as u32 + 1).next_power_of_two() - 1 }
    }
    /// The memory that it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }
    #[inline]
    const fn home(&self, hash: u64) -> usize {
        hash as usize & (self.entries.len() - 1)
    }
    #[inline]
    const fn tag(&self, hash: u64) -> u32 {
        (hash >> 32) as u32 & !self.place_mask
    }
    #[inline]
    const fn next(&self, at: usize) -> usize {
        (at + 1) & (self.entries.len() - 1)
    }
    /// The place with this hash that `is` holds of. There is room for a place.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(usize) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            let entry = self.entries[at];
            if entry == 0 {
                return None;
            }
            let place = (entry & self.place_mask) as usize - 1;
            if entry & !self.place_mask == self.tag(hash) && is(place) {
                return Some(place);
            }
            at = self.next(at);
        }
    }
    /// Adds a place that is not in it.
    pub(crate) fn insert(&mut self, hash: u64, place: usize) {
        let mut at = self.home(hash);
        while self.entries[at] != 0 {
            at = self.next(at);
        }
        self.entries[at] = (place as u32 + 1) | self.tag(hash);
    }
    /// Takes a place out that is in it, with this hash; `hash_of` tells those of the others.
    pub(crate) fn remove(&mut self, hash: u64, place: usize, hash_of: impl Fn(usize) -> u64) {
        let entry = (place as u32 + 1) | self.tag(hash);
        let mut hole = self.home(hash);
        while self.entries[hole] != entry {
            hole = self.next(hole);
        }
        // Those behind it move up, unless that is before their home.
        let mut at = self.next(hole);
        while self.entries[at] != 0 {
            let home = self.home(hash_of((self.entries[at] & self.place_mask) as usize - 1));
            let mask = self.entries.len() - 1;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.entries[hole] = self.entries[at];
                hole = at;
            }
            at = self.next(at);
        }
        self.entries[hole] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Random, seed};
    use std::collections::HashMap;

    #[test]
    fn it_is_a_map() {
        let seed = seed("flow index");
        let mut random = Random::new(seed);
        for places in [1, 2, 7, 8, 100] {
            let (mut index, mut hashes) = (FlowIndex::new(places), HashMap::new());
            for _ in 0..5000 {
                let place = random.below(places);
                // Few homes and fewer tags, so that places meet.
                let hash = random.next() & 0xf_0000_000f;
                match hashes.remove(&place) {
                    Some(old) => index.remove(old, place, |place| hashes[&place]),
                    None => {
                        index.insert(hash, place);
                        hashes.insert(place, hash);
                    }
                }
                for place in 0..places {
                    let hash = hashes.get(&place).copied();
                    let found = index.find(hash.unwrap_or(random.next() & 0xf_0000_000f), |at| at == place);
                    assert_eq!(found, hash.map(|_| place), "seed {seed}");
                }
            }
        }
    }
}
