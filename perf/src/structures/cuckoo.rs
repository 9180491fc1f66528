//! A bucketed cuckoo table: every pair is in one of two buckets of four, with a word that says what is done with it.
//! Made for comparison: it has one thread, no versions and no prefixes.

use super::nested::hash;
use super::prefetch::prefetch;
use super::workload::{Chance, Pair};
use super::{BURST, Structure};

/// Pairs of one bucket.
const SLOTS: usize = 4;
/// Pairs that are moved to make room for one, at most.
const MOVES_MAX: usize = 500;

/// A cache line. Zero is no pair: no source is 0.0.0.0.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket {
    keys: [u64; SLOTS],
    words: [u64; SLOTS],
}

/// What is done with every pair.
const WORD: u64 = 1;

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
                let bucket = &mut self.buckets[home];
                if bucket.keys.contains(&key) {
                    return;
                }
                if let Some(slot) = bucket.keys.iter().position(|&slot| slot == 0) {
                    (bucket.keys[slot], bucket.words[slot]) = (key, WORD);
                    return;
                }
            }
            // Every pair has the same word, so that only keys move.
            let chance = self.chance.word() as usize;
            std::mem::swap(&mut self.buckets[homes[chance & 1]].keys[chance >> 1 & (SLOTS - 1)], &mut key);
        }
        // Too full: twice as many buckets, and all pairs anew.
        let twice = vec![Bucket::default(); self.buckets.len() * 2];
        let before = std::mem::replace(&mut self.buckets, twice);
        for key in before.iter().flat_map(|bucket| bucket.keys).filter(|&key| key != 0).chain([key]) {
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
                let word = places.iter().find_map(|&place| {
                    let bucket = &self.buckets[place];
                    bucket.keys.iter().position(|&other| other == key).map(|slot| bucket.words[slot])
                });
                hits += usize::from(word == Some(WORD));
            }
        }
        hits
    }
    fn update(&mut self, _number: usize, pair: Pair) {
        let key = key(pair);
        for home in self.homes(hash(key, &self.secret)) {
            for slot in &mut self.buckets[home].keys {
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
