//! A few words at once: three bytes of each, looked for with vector instructions.
//!
//! Of every word three bytes are chosen that are rare in mail and stand fixed distances apart, the same for all words
//! of a program (its *trio*). A pass over the bytes compares each byte, and the two those distances behind it, with the
//! trios of up to [`FEW_MAX`] words together; where a trio is, the word is compared. The instructions are chosen once,
//! when a program is lowered, from what the processor has.
//!
//! A sender who knows the words could put their trios everywhere. So a pass gives up when more places were compared
//! than ordinary bytes have, and says where; the caller goes on in a way whose pace does not depend on the bytes.

use crate::contains_string::WordMask;
use fearless_simd::{Level, dispatch, prelude::*};
use vinet_trusted::program::Word;

/// The most words of one pass.
pub(crate) const FEW_MAX: usize = 4;
/// The bytes of a trio.
const TRIO: usize = 3;
/// The most bytes from the first of a trio to the last.
const DISTANCE_MAX: usize = 7;
/// The longest vector of any processor, in bytes.
const VECTOR_MAX: usize = 64;
/// Places that may be compared in any pass, and one more for every so many bytes.
const PLACES_FREE: usize = 16;
const PLACES_PER_BYTES: usize = 32;

/// Who is told occurrences: which word, and where it starts. It says which words are wanted from there on.
pub(crate) type Hit<'h> = &'h mut dyn FnMut(usize, usize) -> WordMask;

/// The words of a program, for passes over some of them.
#[derive(Clone, Debug)]
pub(crate) struct FewWords {
    level: Level,
    /// From the first byte of a trio to each; rising.
    distances: [usize; TRIO],
    trios: Vec<Trio>,
}

/// A word and its trio.
#[derive(Clone, Debug)]
struct Trio {
    word: Word,
    /// Where the trio's first byte stands in the word.
    at: usize,
    bytes: [u8; TRIO],
    /// The bits that count: not that of the case, where upper and lower case are the same.
    counts: [u8; TRIO],
}

/// How a pass ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pass {
    /// All of the bytes were read, or nothing was wanted any more.
    Done,
    /// There were too many places to compare. What is told is every occurrence whose trio is before this byte.
    GaveUp(usize),
}

/// How often a byte is in mail, in a thousandth; what is not here, seldom.
const COMMON: [(u8, u16); 28] = [
    (b' ', 160),
    (b'e', 90),
    (b't', 65),
    (b'a', 60),
    (b'o', 60),
    (b'i', 52),
    (b'n', 52),
    (b's', 48),
    (b'r', 48),
    (b'l', 30),
    (b'h', 30),
    (b'd', 28),
    (b'c', 24),
    (b'u', 22),
    (b'm', 20),
    (b'p', 18),
    (b'f', 15),
    (b'g', 14),
    (b'.', 14),
    (b'w', 13),
    (b'y', 12),
    (b'b', 11),
    (b'\n', 20),
    (b'\r', 20),
    (b'v', 8),
    (b'k', 6),
    (b'-', 8),
    (0, 30),
];
const SELDOM: u16 = 4;

pub(crate) fn frequency(byte: u8) -> u64 {
    u64::from(COMMON.iter().find(|(common, _)| *common == byte).map_or(SELDOM, |(_, often)| *often))
}

impl FewWords {
    /// Prepares the trios of `words`, none of which is empty.
    pub(crate) fn new(words: &[Word]) -> FewWords {
        let reach = words.iter().map(|word| word.bytes.len() - 1).min().unwrap_or(0).min(DISTANCE_MAX);
        // The best trio of a word for some distances, and how often it is there by chance.
        let best = |word: &Word, distances: [usize; TRIO]| {
            let often = |at: usize| distances.map(|by| frequency(word.bytes[at + by])).iter().product::<u64>();
            (0..word.bytes.len() - distances[TRIO - 1]).map(|at| (often(at), at)).min().unwrap_or((0, 0))
        };
        // Words of one byte and of two have that byte, or the second, several times.
        let distances = (reach.min(2)..=reach)
            .flat_map(|last| {
                (last.min(1)..=last.saturating_sub(1).max(last.min(1))).map(move |middle| [0, middle, last])
            })
            .min_by_key(|distances| words.iter().map(|word| best(word, *distances).0).sum::<u64>())
            .unwrap_or([0; TRIO]);
        let trio = |word: &Word| {
            let (_, at) = best(word, distances);
            let bytes = distances.map(|by| word.bytes[at + by]);
            let counts = bytes.map(|byte| if word.fold && byte.is_ascii_lowercase() { !0x20 } else { !0 });
            Trio { word: word.clone(), at, bytes, counts }
        };
        FewWords { level: Level::new(), distances, trios: words.iter().map(trio).collect() }
    }

    /// Where the first occurrence of a word may start that a pass did not tell, which gave up at `place`.
    pub(crate) fn resume(&self, word: usize, place: usize) -> usize {
        place.saturating_sub(self.trios[word].at)
    }

    /// Tells `hit` every occurrence of the words in `wanted`, at most [`FEW_MAX`], in any order.
    #[inline]
    pub(crate) fn pass(&self, bytes: &[u8], wanted: WordMask, hit: Hit<'_>) -> Pass {
        let first = wanted.trailing_zeros() as usize;
        // Places that are left over have the first word again.
        let (mut numbers, mut rest, mut count) = ([first; FEW_MAX], wanted, 0);
        while rest != 0 && count < FEW_MAX {
            numbers[count] = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            count += 1;
        }
        debug_assert!(rest == 0, "a pass is for a few words");
        let of = |number: usize| &self.trios[number];
        let folds = numbers.iter().any(|number| of(*number).word.fold);
        let places_max = PLACES_FREE + bytes.len() / PLACES_PER_BYTES;
        let mut search = Search { few: self, bytes, numbers: &numbers[..count], places_left: places_max, wanted, hit };
        let (level, [a, b, c, d]) = (self.level, numbers.map(of));
        match (count, folds) {
            (0, _) => Pass::Done,
            (1, false) => dispatch!(level, simd => search.run::<_, 1, false>(simd, [a])),
            (1, true) => dispatch!(level, simd => search.run::<_, 1, true>(simd, [a])),
            (2, false) => dispatch!(level, simd => search.run::<_, 2, false>(simd, [a, b])),
            (2, true) => dispatch!(level, simd => search.run::<_, 2, true>(simd, [a, b])),
            (_, false) => dispatch!(level, simd => search.run::<_, 4, false>(simd, [a, b, c, d])),
            (_, true) => dispatch!(level, simd => search.run::<_, 4, true>(simd, [a, b, c, d])),
        }
    }
}

/// One pass.
struct Search<'a, 'h> {
    few: &'a FewWords,
    bytes: &'a [u8],
    /// The words of the pass.
    numbers: &'a [usize],
    places_left: usize,
    wanted: WordMask,
    hit: Hit<'h>,
}

/// The trios of `K` words in vectors; `FOLD` says whether there are bits that do not count.
///
/// Its functions are loops without closures, and are inlined: only what is inlined into the caller, whom
/// [`dispatch`] compiled for the processor's instructions, is compiled for them too.
#[derive(Clone, Copy)]
struct Vectors<S: Simd, const K: usize, const FOLD: bool> {
    simd: S,
    is: [[S::u8s; K]; TRIO],
    counts: [[S::u8s; K]; TRIO],
    distances: [usize; TRIO],
}

impl<S: Simd, const K: usize, const FOLD: bool> Vectors<S, K, FOLD> {
    #[inline(always)]
    fn new(simd: S, trios: [&Trio; K], distances: [usize; TRIO]) -> Self {
        let mut is = [[S::u8s::splat(simd, 0); K]; TRIO];
        let mut counts = is;
        for i in 0..TRIO {
            for k in 0..K {
                is[i][k] = S::u8s::splat(simd, trios[k].bytes[i]);
                counts[i][k] = S::u8s::splat(simd, trios[k].counts[i]);
            }
        }
        Vectors { simd, is, counts, distances }
    }
    /// At which of the first bytes, a vector's length of them, a trio begins: bit k for byte k.
    #[inline(always)]
    fn found(&self, bytes: &[u8]) -> u64 {
        let zero = S::u8s::splat(self.simd, 0);
        let mut there = [zero; TRIO];
        for i in 0..TRIO {
            there[i] = S::u8s::from_slice(self.simd, &bytes[self.distances[i]..][..S::u8s::LEN]);
        }
        // How bytes differ from the nearest trio: fewer instructions than a comparison for each byte of each trio.
        let mut nearest = S::u8s::splat(self.simd, u8::MAX);
        for k in 0..K {
            let mut differs = zero;
            for (i, there) in there.iter().enumerate() {
                let byte = *there ^ self.is[i][k];
                differs |= if FOLD { byte & self.counts[i][k] } else { byte };
            }
            nearest = nearest.min(differs);
        }
        nearest.simd_eq(zero).to_bitmask()
    }
}

impl Search<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const K: usize, const FOLD: bool>(&mut self, simd: S, trios: [&Trio; K]) -> Pass {
        let vectors = Vectors::<S, K, FOLD>::new(simd, trios, self.few.distances);
        let last = self.few.distances[TRIO - 1];
        let (bytes, len) = (self.bytes, self.bytes.len());
        // Places where all bytes of a trio lie in the bytes.
        let Some(places) = len.checked_sub(last) else { return Pass::Done };
        if places < S::u8s::LEN {
            let mut padded = [0; 2 * VECTOR_MAX];
            padded[..len].copy_from_slice(bytes);
            return match vectors.found(&padded) & ((1 << places) - 1) {
                0 => Pass::Done,
                found => self.compare(found, 0).unwrap_or(Pass::Done),
            };
        }
        let mut start = 0;
        while start + S::u8s::LEN <= places {
            let found = vectors.found(&bytes[start..]);
            if found != 0
                && let Some(end) = self.compare(found, start)
            {
                return end;
            }
            start += S::u8s::LEN;
        }
        if start == places {
            return Pass::Done;
        }
        // The last vector overlaps the one before.
        let overlapping = places - S::u8s::LEN;
        match vectors.found(&bytes[overlapping..]) >> (start - overlapping) {
            0 => Pass::Done,
            found => self.compare(found, start).unwrap_or(Pass::Done),
        }
    }

    /// Compares the words at the places of `found`, the first of which is `start`; tells whether the pass ends.
    #[inline(never)]
    fn compare(&mut self, found: u64, start: usize) -> Option<Pass> {
        let mut rest = found;
        while rest != 0 {
            let place = start + rest.trailing_zeros() as usize;
            if self.places_left == 0 {
                return Some(Pass::GaveUp(place));
            }
            self.places_left -= 1;
            rest &= rest - 1;
            for word in self.numbers.iter().copied() {
                let trio = &self.few.trios[word];
                let Some(at) = place.checked_sub(trio.at) else { continue };
                if self.wanted >> word & 1 != 0 && is_at(&trio.word, self.bytes, at) {
                    self.wanted = (self.hit)(word, at);
                    if self.wanted == 0 {
                        return Some(Pass::Done);
                    }
                }
            }
        }
        None
    }
}

/// Whether the word starts at byte `at`.
pub(crate) fn is_at(word: &Word, bytes: &[u8], at: usize) -> bool {
    match bytes.get(at..at + word.bytes.len()) {
        Some(there) if word.fold => there.eq_ignore_ascii_case(&word.bytes),
        Some(there) => there == word.bytes,
        None => false,
    }
}
