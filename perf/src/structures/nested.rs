//! A table of sources, each with a table of its destinations: both open-addressed with linear probing, the inner ones
//! laid out in one array. The letter of the design, made for comparison: it holds the pairs alone and has one thread.

use super::prefetch::prefetch;
use super::workload::{Chance, Pair};
use super::{BURST, Structure};
use std::collections::HashMap;

/// A source, and where its destinations are. An empty one has no room.
#[derive(Clone, Copy, Default)]
struct Source {
    src: u32,
    /// Places of its table less one: a power of two less one.
    mask: u32,
    start: u32,
    in_use: bool,
}

pub struct Nested {
    sources: Vec<Source>,
    /// A destination and whether it is in, for each place; 0 is an empty place.
    destinations: Vec<u64>,
    secret: [u64; 4],
}

/// A keyed hash of a word: two multiplications, folded.
#[inline(always)]
pub fn hash(word: u64, secret: &[u64; 4]) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    fold(fold(word ^ secret[0], secret[1] | 1) ^ secret[2], secret[3] | 1)
}

const IN_USE: u64 = 1 << 32;
const IS_IN: u64 = 1 << 33;

impl Nested {
    pub fn new(pairs: &[Pair], seed: u64) -> Nested {
        let mut chance = Chance(!seed);
        let secret = std::array::from_fn(|_| chance.word());
        let mut by_source: HashMap<u32, Vec<u32>> = HashMap::new();
        for &(src, dst) in pairs {
            by_source.entry(src).or_default().push(dst);
        }
        let places = (by_source.len() * 2).next_power_of_two();
        let mut nested = Nested { sources: vec![Source::default(); places], destinations: Vec::new(), secret };
        for (src, dsts) in by_source {
            let room = (dsts.len() * 3 / 2 + 1).next_power_of_two();
            let start = nested.destinations.len();
            nested.destinations.resize(start + room, 0);
            let source = Source { src, mask: room as u32 - 1, start: start as u32, in_use: true };
            let mut place = hash(u64::from(src), &secret) as usize & (places - 1);
            while nested.sources[place].in_use {
                place = (place + 1) & (places - 1);
            }
            nested.sources[place] = source;
            for dst in dsts {
                let place = nested.place(source, dst);
                nested.destinations[place] = IN_USE | IS_IN | u64::from(dst);
            }
        }
        nested
    }

    #[inline(always)]
    fn source(&self, hash: u64, src: u32) -> Option<Source> {
        let mut place = hash as usize & (self.sources.len() - 1);
        loop {
            let source = self.sources[place];
            if !source.in_use {
                return None;
            }
            if source.src == src {
                return Some(source);
            }
            place = (place + 1) & (self.sources.len() - 1);
        }
    }

    #[inline(always)]
    fn home(&self, source: Source, dst: u32) -> u32 {
        hash(u64::from(dst), &self.secret) as u32 & source.mask
    }

    /// Where a destination is, or would be.
    #[inline(always)]
    fn place(&self, source: Source, dst: u32) -> usize {
        let mut at = self.home(source, dst);
        loop {
            let place = (source.start + at) as usize;
            let word = self.destinations[place];
            if word & IN_USE == 0 || word as u32 == dst {
                return place;
            }
            at = (at + 1) & source.mask;
        }
    }
}

impl Structure for Nested {
    fn name(&self) -> &'static str {
        "source, then destination"
    }
    fn count_hits(&mut self, pairs: &[Pair]) -> usize {
        let mut hits = 0;
        let mut hashes = [0; BURST];
        let mut found: [Option<Source>; BURST] = [None; BURST];
        for burst in pairs.chunks(BURST) {
            for (&(src, _), to) in burst.iter().zip(&mut hashes) {
                *to = hash(u64::from(src), &self.secret);
                prefetch(&self.sources, *to as usize & (self.sources.len() - 1));
            }
            for ((&(src, dst), &hash), to) in burst.iter().zip(&hashes).zip(&mut found) {
                *to = self.source(hash, src);
                if let Some(source) = *to {
                    prefetch(&self.destinations, (source.start + self.home(source, dst)) as usize);
                }
            }
            for (&(_, dst), source) in burst.iter().zip(&found) {
                hits += usize::from(source.is_some_and(|s| self.destinations[self.place(s, dst)] & IS_IN != 0));
            }
        }
        hits
    }
    fn update(&mut self, _number: usize, (src, dst): Pair) {
        for is_in in [0, IS_IN] {
            if let Some(source) = self.source(hash(u64::from(src), &self.secret), src) {
                let place = self.place(source, dst);
                self.destinations[place] = IN_USE | is_in | u64::from(dst);
            }
        }
    }
    fn memory_bytes(&self) -> usize {
        size_of_val(&self.sources[..]) + size_of_val(&self.destinations[..])
    }
}
