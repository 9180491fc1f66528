//! A bucketed cuckoo table: every pair is in one of two buckets of four. Made for comparison: it holds the pairs alone
//! and has one thread.

use super::nested::hash;
use super::prefetch::prefetch;
use super::workload::{Chance, Pair};
use super::{BURST, Structure};

/// Pairs of one bucket.
const SLOTS: usize = 4;
/// Pairs that are moved to make room for one, at most.
const MOVES_MAX: usize = 500;

/// Half a cache line. Zero is no pair: no source is 0.0.0.0.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
struct Bucket([u64; SLOTS]);

pub struct Cuckoo {
    buckets: Vec<Bucket>,
    secret: [u64; 4],
    chance: Chance,
}

fn key((src, dst): Pair) -> u64 {
    u64::from(src) << 32 | u64::from(dst)
}

impl Cuckoo {
    pub fn new(pairs: &[Pair], seed: u64) -> Cuckoo {
        let mut chance = Chance(!seed);
        let secret = std::array::from_fn(|_| chance.word());
        let buckets = (pairs.len() * 5 / 4 / SLOTS + 1).next_power_of_two().max(2);
        let mut cuckoo = Cuckoo { buckets: vec![Bucket::default(); buckets], secret, chance };
        for &pair in pairs {
            cuckoo.insert(key(pair));
        }
        cuckoo
    }

    /// The two buckets of a hash.
    #[inline(always)]
    fn homes(&self, hash: u64) -> [usize; 2] {
        let mask = self.buckets.len() - 1;
        [hash as usize & mask, (hash >> 32) as usize & mask]
    }

    fn insert(&mut self, mut key: u64) {
        for _ in 0..MOVES_MAX {
            let homes = self.homes(hash(key, &self.secret));
            for home in homes {
                if self.buckets[home].0.contains(&key) {
                    return;
                }
                if let Some(slot) = self.buckets[home].0.iter_mut().find(|slot| **slot == 0) {
                    *slot = key;
                    return;
                }
            }
            let chance = self.chance.word() as usize;
            std::mem::swap(&mut self.buckets[homes[chance & 1]].0[chance >> 1 & (SLOTS - 1)], &mut key);
        }
        // Too full: twice as many buckets, and all pairs anew.
        let twice = vec![Bucket::default(); self.buckets.len() * 2];
        let before = std::mem::replace(&mut self.buckets, twice);
        for key in before.iter().flat_map(|bucket| bucket.0).filter(|&key| key != 0).chain([key]) {
            self.insert(key);
        }
    }
}

impl Structure for Cuckoo {
    fn name(&self) -> &'static str {
        "cuckoo, 2 buckets of 4"
    }
    fn count_hits(&mut self, pairs: &[Pair]) -> usize {
        let mut hits = 0;
        let mut places = [[0; 2]; BURST];
        for burst in pairs.chunks(BURST) {
            for (&pair, to) in burst.iter().zip(&mut places) {
                *to = self.homes(hash(key(pair), &self.secret));
                prefetch(&self.buckets, to[0]);
                prefetch(&self.buckets, to[1]);
            }
            for (&pair, places) in burst.iter().zip(&places) {
                let key = key(pair);
                hits += usize::from(places.iter().any(|&place| self.buckets[place].0.contains(&key)));
            }
        }
        hits
    }
    fn update(&mut self, _number: usize, pair: Pair) {
        let key = key(pair);
        for home in self.homes(hash(key, &self.secret)) {
            for slot in &mut self.buckets[home].0 {
                if *slot == key {
                    *slot = 0;
                }
            }
        }
        self.insert(key);
    }
    fn memory_bytes(&self) -> usize {
        size_of_val(&self.buckets[..])
    }
}
