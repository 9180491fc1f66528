//! A few words at once: three bytes of each, looked for with vector instructions.
//!
//! Of every word three bytes are chosen that are rare in mail and stand fixed distances apart, the same for all words
//! of a program (its *trio*). A pass over the bytes compares each byte, and the two those distances behind it, with the
//! trios of up to [`FEW_MAX`] words together, a block of several vectors between two branches; where a trio is, the word
//! is compared. The instructions are chosen once, when a program is lowered, from what the processor has.
//!
//! A sender who knows the words could put their trios everywhere. So a pass gives up when more places were compared
//! than ordinary bytes have, and says where; the caller goes on in a way whose pace does not depend on the bytes
//! ([`crate::count_string`]).

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
/// The bytes that are read between two branches: several vectors of any processor.
const BLOCK: usize = 4 * VECTOR_MAX;
/// Places that may be compared in any pass, and one more for every so many bytes. Where bytes are ordinary and there are
/// more, the word is short or of common letters, and the steady way costs no more.
const PLACES_FREE: usize = 2;
const PLACES_PER_BYTES: usize = 128;

/// Who is told occurrences: which word, a place, and a bit for each of it and those behind it, whether the word starts
/// there. It says which words are wanted from there on.
pub(crate) type Hit<'h> = &'h mut dyn FnMut(usize, usize, u64) -> WordMask;

/// The words of a program, for passes over some of them.
#[derive(Clone, Debug)]
pub(crate) struct FewWords {
    level: Level,
    /// From the first byte of a trio to each; rising.
    distances: [usize; TRIO],
    trios: Vec<Trio>,
    /// A pass over all of them; over none where they are more than a few.
    all: Choice,
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

/// The words of one pass, and their trios in one cache line.
#[derive(Clone, Copy, Debug, Default)]
struct Choice {
    wanted: WordMask,
    count: usize,
    folds: bool,
    /// Places that are left over have the first word again.
    numbers: [u8; FEW_MAX],
    bytes: [[u8; FEW_MAX]; TRIO],
    counts: [[u8; FEW_MAX]; TRIO],
}

impl Choice {
    /// Of `trios`, those of the words in `wanted`.
    fn new(trios: &[Trio], wanted: WordMask) -> Choice {
        let mut choice = Choice { wanted, ..Choice::default() };
        let mut rest = wanted;
        for place in 0..FEW_MAX {
            let number = if rest == 0 { usize::from(choice.numbers[0]) } else { rest.trailing_zeros() as usize };
            choice.count += usize::from(rest != 0);
            rest &= rest.wrapping_sub(1);
            let Some(trio) = trios.get(number) else { break };
            choice.numbers[place] = number as u8;
            choice.folds |= trio.word.fold;
            for i in 0..TRIO {
                choice.bytes[i][place] = trio.bytes[i];
                choice.counts[i][place] = trio.counts[i];
            }
        }
        debug_assert!(rest == 0, "a pass is for a few words");
        choice
    }
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
        let trios: Vec<Trio> = words.iter().map(trio).collect();
        let all = if trios.len() > FEW_MAX { 0 } else { (1 << trios.len()) - 1 };
        FewWords { level: Level::new(), distances, all: Choice::new(&trios, all), trios }
    }

    /// The same for every kind of instruction that this processor has.
    #[cfg(test)]
    pub(crate) fn of_each_level(words: &[Word]) -> Vec<FewWords> {
        levels().into_iter().map(|level| FewWords { level, ..FewWords::new(words) }).collect()
    }

    /// What the processor has.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Where the first occurrence of a word may start that a pass did not tell, which gave up at `place`.
    pub(crate) fn resume(&self, word: usize, place: usize) -> usize {
        place.saturating_sub(self.trios[word].at)
    }

    /// Tells `hit` every occurrence of the words in `wanted`, at most [`FEW_MAX`], in any order.
    ///
    /// Mostly all are wanted. That is a branch, which is foretold, and so the pass need not wait for what is known of a
    /// flow to come from memory.
    #[inline]
    pub(crate) fn pass(&self, bytes: &[u8], wanted: WordMask, hit: Hit<'_>) -> Pass {
        if wanted == self.all.wanted {
            self.pass_over(bytes, &self.all, hit)
        } else {
            self.pass_over(bytes, &Choice::new(&self.trios, wanted), hit)
        }
    }

    #[inline(never)]
    fn pass_over(&self, bytes: &[u8], choice: &Choice, hit: Hit<'_>) -> Pass {
        let places_left = PLACES_FREE + bytes.len() / PLACES_PER_BYTES;
        let mut search = Search { few: self, bytes, choice, places_left, wanted: choice.wanted, hit };
        match (choice.count, choice.folds) {
            (0, _) => Pass::Done,
            (1, false) => dispatch!(self.level, simd => search.run::<_, 1, false>(simd)),
            (1, true) => dispatch!(self.level, simd => search.run::<_, 1, true>(simd)),
            (2, false) => dispatch!(self.level, simd => search.run::<_, 2, false>(simd)),
            (2, true) => dispatch!(self.level, simd => search.run::<_, 2, true>(simd)),
            (_, false) => dispatch!(self.level, simd => search.run::<_, FEW_MAX, false>(simd)),
            (_, true) => dispatch!(self.level, simd => search.run::<_, FEW_MAX, true>(simd)),
        }
    }
}

/// One pass.
struct Search<'a, 'h> {
    few: &'a FewWords,
    bytes: &'a [u8],
    choice: &'a Choice,
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
    fn new(simd: S, choice: &Choice, distances: [usize; TRIO]) -> Self {
        let mut is = [[S::u8s::splat(simd, 0); K]; TRIO];
        let mut counts = is;
        for i in 0..TRIO {
            for k in 0..K {
                is[i][k] = S::u8s::splat(simd, choice.bytes[i][k]);
                counts[i][k] = S::u8s::splat(simd, choice.counts[i][k]);
            }
        }
        Vectors { simd, is, counts, distances }
    }
    /// The bytes that stand at the distances of a trio from the first `S::u8s::LEN` of each view.
    #[inline(always)]
    fn load(&self, views: [&[u8]; TRIO]) -> [S::u8s; TRIO] {
        let mut there = [S::u8s::splat(self.simd, 0); TRIO];
        for i in 0..TRIO {
            there[i] = S::u8s::from_slice(self.simd, &views[i][..S::u8s::LEN]);
        }
        there
    }
    /// How bytes differ from the nearest trio: fewer instructions than a comparison for each byte of each trio.
    #[inline(always)]
    fn differs(&self, there: [S::u8s; TRIO]) -> S::u8s {
        let mut nearest = S::u8s::splat(self.simd, u8::MAX);
        for k in 0..K {
            let mut differs = S::u8s::splat(self.simd, 0);
            for (i, there) in there.iter().enumerate() {
                let byte = *there ^ self.is[i][k];
                differs |= if FOLD { byte & self.counts[i][k] } else { byte };
            }
            nearest = nearest.min(differs);
        }
        nearest
    }
    /// At which of the first bytes, a vector's length of them, a trio begins: bit k for byte k.
    #[inline(always)]
    fn found(&self, bytes: &[u8]) -> u64 {
        let [first, middle, last] = self.distances;
        let there = self.load([&bytes[first..], &bytes[middle..], &bytes[last..]]);
        self.differs(there).simd_eq(S::u8s::splat(self.simd, 0)).to_bitmask()
    }
    /// How many whole blocks from the first on have no trio. The views are the bytes from each distance on.
    ///
    /// Nothing is called and no bound checked in its loop, so all trios stay in registers; there is one branch a block.
    #[inline(always)]
    fn blocks_without(&self, views: [&[u8]; TRIO]) -> usize {
        let [(first, _), (middle, _), (last, _)] =
            [views[0].as_chunks::<BLOCK>(), views[1].as_chunks::<BLOCK>(), views[2].as_chunks::<BLOCK>()];
        let count = first.len().min(middle.len()).min(last.len());
        let (first, middle, last) = (&first[..count], &middle[..count], &last[..count]);
        for block in 0..count {
            let (first, middle, last) = (&first[block], &middle[block], &last[block]);
            let mut nearest = S::u8s::splat(self.simd, u8::MAX);
            for vector in 0..BLOCK / S::u8s::LEN {
                let at = vector * S::u8s::LEN;
                nearest = nearest.min(self.differs(self.load([&first[at..], &middle[at..], &last[at..]])));
            }
            if nearest.simd_eq(S::u8s::splat(self.simd, 0)).to_bitmask() != 0 {
                return block;
            }
        }
        count
    }
}

impl Search<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const K: usize, const FOLD: bool>(&mut self, simd: S) -> Pass {
        let vectors = Vectors::<S, K, FOLD>::new(simd, self.choice, self.few.distances);
        let [first, middle, last] = self.few.distances;
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
        while start < places {
            let rest = &bytes[start..];
            start += BLOCK * vectors.blocks_without([&rest[first..], &rest[middle..], &rest[last..]]);
            // The block that has a trio, or what is left and less than a block. The last vector overlaps the one before.
            let until = places.min(start + BLOCK);
            while start < until {
                let at = start.min(places - S::u8s::LEN);
                let found = vectors.found(&bytes[at..]) >> (start - at);
                if found != 0
                    && let Some(end) = self.compare(found, start)
                {
                    return end;
                }
                start = at + S::u8s::LEN;
            }
        }
        Pass::Done
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
            for word in self.choice.numbers[..self.choice.count].iter().map(|number| usize::from(*number)) {
                let trio = &self.few.trios[word];
                let Some(at) = place.checked_sub(trio.at) else { continue };
                if self.wanted >> word & 1 != 0 && is_at(&trio.word, self.bytes, at) {
                    self.wanted = (self.hit)(word, at, 1);
                    if self.wanted == 0 {
                        return Some(Pass::Done);
                    }
                }
            }
        }
        None
    }
}

/// Every kind of instruction that this processor has.
#[cfg(test)]
pub(crate) fn levels() -> Vec<Level> {
    let best = Level::new();
    #[cfg(target_arch = "x86_64")]
    let levels = [
        best.as_sse2().map(Level::Sse2),
        best.as_sse4_2().map(Level::Sse4_2),
        best.as_avx2().map(Level::Avx2),
        best.as_avx512().map(Level::Avx512),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let levels = [Some(best)];
    levels.into_iter().flatten().collect()
}

/// Whether the word starts at byte `at`.
pub(crate) fn is_at(word: &Word, bytes: &[u8], at: usize) -> bool {
    match bytes.get(at..at + word.bytes.len()) {
        Some(there) if word.fold => there.eq_ignore_ascii_case(&word.bytes),
        Some(there) => there == word.bytes,
        None => false,
    }
}
