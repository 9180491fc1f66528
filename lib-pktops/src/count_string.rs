//! COUNT_STRING: every place at which a word is in bytes, at a pace that does not depend on the bytes.
//!
//! All bytes of the word are compared at every place, [`BLOCK`] places at a time with vector instructions: two of them
//! for a vector of places and a byte of the word, whether case matters or not. So no payload is dearer than
//! another, and an occurrence at every place is told as cheaply as none. It takes longer the longer the word is, so
//! ordinary bytes are read by passes that compare three or four bytes of all words ([`crate::few_words`],
//! [`crate::many_words`]); they go on here with bytes that were made to be slow for them.

use fearless_simd::{Level, dispatch, prelude::*};
use vinet_trusted::program::{WORD_LEN_MAX, Word};

/// The places that are looked at together: a vector of any processor, or several.
const BLOCK: usize = u64::BITS as usize;
/// The vectors of a block, of the shortest of any processor.
const VECTORS_MAX: usize = BLOCK / 16;

/// Who is told occurrences: a place, and a bit for each of it and those behind it, whether the word starts there. It
/// says whether more are wanted.
pub(crate) type Starts<'h> = &'h mut dyn FnMut(usize, u64) -> bool;

/// A word, ready to be counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    level: Level,
    /// Its letters that may have either case, each with its place in the word.
    letters: Vec<(u8, u8)>,
    /// Its other bytes.
    others: Vec<(u8, u8)>,
}

/// The bit that is the case of a letter.
const CASE: u8 = 0x20;

impl Counted {
    /// Prepares `word`, of at most [`WORD_LEN_MAX`] bytes and at least one, for a processor that has `level`.
    pub(crate) fn new(level: Level, word: &Word) -> Counted {
        let len = word.bytes.len();
        assert!((1..=WORD_LEN_MAX).contains(&len), "a word of {len} bytes");
        let is_letter = |&(_, byte): &(u8, u8)| word.fold && byte.is_ascii_lowercase();
        let (letters, others) = (0..).zip(word.bytes.iter().copied()).partition(is_letter);
        Counted { level, letters, others }
    }
    fn len(&self) -> usize {
        self.letters.len() + self.others.len()
    }

    /// The memory that it holds besides itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.letters) + size_of_val(&*self.others)
    }

    /// Tells `starts` where the word starts in `bytes`, every occurrence, in order.
    #[inline(never)]
    pub(crate) fn each(&self, bytes: &[u8], starts: Starts<'_>) {
        dispatch!(self.level, simd => self.run(simd, bytes, starts));
    }

    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, bytes: &[u8], starts: Starts<'_>) {
        let behind = self.len() - 1;
        let Some(places) = bytes.len().checked_sub(behind) else { return };
        let mut start = 0;
        while start + BLOCK <= places {
            let found = self.block(simd, &bytes[start..start + BLOCK + behind]);
            if found != 0 && !starts(start, found) {
                return;
            }
            start += BLOCK;
        }
        if start == places {
            return;
        }
        let found = match places.checked_sub(BLOCK) {
            // The last block overlaps the one before.
            Some(at) => self.block(simd, &bytes[at..]) >> (start - at),
            None => {
                let mut room = [0; BLOCK + WORD_LEN_MAX - 1];
                room[..bytes.len()].copy_from_slice(bytes);
                self.block(simd, &room[..BLOCK + behind]) & ((1 << places) - 1)
            }
        };
        if found != 0 {
            starts(start, found);
        }
    }

    /// At which of the first [`BLOCK`] places the word starts. Behind the last of them the word has room.
    #[inline(always)]
    fn block<S: Simd>(&self, simd: S, bytes: &[u8]) -> u64 {
        let mut differs = [S::u8s::splat(simd, 0); VECTORS_MAX];
        for &letter in &self.letters {
            compare(simd, bytes, letter, &mut differs);
        }
        for differs in &mut differs {
            *differs &= S::u8s::splat(simd, !CASE);
        }
        for &other in &self.others {
            compare(simd, bytes, other, &mut differs);
        }
        let mut found = 0;
        for (vector, differs) in differs.iter().enumerate().take(BLOCK / S::u8s::LEN) {
            let same = differs.simd_eq(S::u8s::splat(simd, 0)).to_bitmask();
            found |= same << (vector * S::u8s::LEN);
        }
        found
    }
}

/// Adds how the bytes of a block differ from one byte of a word.
#[inline(always)]
fn compare<S: Simd>(simd: S, bytes: &[u8], (at, byte): (u8, u8), differs: &mut [S::u8s; VECTORS_MAX]) {
    let there = &bytes[usize::from(at)..usize::from(at) + BLOCK];
    let byte = S::u8s::splat(simd, byte);
    for (differs, there) in differs.iter_mut().zip(there.chunks_exact(S::u8s::LEN)) {
        *differs |= S::u8s::from_slice(simd, there) ^ byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::few_words::is_at;
    use crate::samples::{Random, seed};
    use std::collections::BTreeSet;

    #[test]
    fn tells_each_occurrence_once_with_all_instructions() {
        let seed = seed("count string");
        let mut random = Random::new(seed);
        for round in 0..2000 {
            let len = *random.pick(&[1, 1, 2, 3, 4, 7, 64]);
            let fold = random.one_in(2);
            let alphabet = if random.one_in(2) { &b"a"[..] } else { b"ab`{" };
            let word = Word { fold, bytes: random.bytes(len, alphabet) };
            let longest = if random.one_in(4) { 2000 } else { 140 };
            let len = random.below(longest);
            let alphabet = if random.one_in(3) { &b"a"[..] } else { b"abA@`{" };
            let text = random.bytes(len, alphabet);
            let starts = (0..(text.len() + 1).saturating_sub(word.bytes.len()))
                .filter(|start| is_at(&word, &text, *start))
                .collect::<BTreeSet<_>>();
            for level in crate::few_words::levels() {
                let mut told = BTreeSet::new();
                Counted::new(level, &word).each(&text, &mut |at, found| {
                    for k in (0..BLOCK).filter(|k| found >> k & 1 != 0) {
                        assert!(told.insert(at + k), "seed {seed}, round {round}: told twice");
                    }
                    true
                });
                assert_eq!(told, starts, "seed {seed}, round {round}, {level:?}: {word:?} in {text:?}");
            }
        }
    }

    #[test]
    fn ends_when_no_more_is_wanted() {
        let word = Word { fold: false, bytes: b"a".to_vec() };
        let mut told = 0;
        Counted::new(Level::new(), &word).each(&[b'a'; 500], &mut |_, found| {
            told += found.count_ones();
            told < 100
        });
        assert_eq!(told, 128);
    }
}
