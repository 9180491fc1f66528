//! CONTAINS_STRING: searching bytes for the words of a program.
//!
//! The searchers are built once, when a program is lowered, and read each byte once for all the words that are asked
//! about together: up to [`FEW_MAX`] with vector comparisons ([`crate::few_words`]), more with vector look-ups and an
//! automaton ([`crate::many_words`]). A [`Words`] answers with a mask, one bit for each word in the order of the
//! program's list; it holds at most [`vinet_trusted::program::WORDS_MAX`] words, the width of the mask.
//!
//! Which way is taken follows from measurements (`cargo bench -p vinet-pktops --bench matchers`). However bytes are
//! made, the pace is bounded: a way that meets too many places to compare is left for one whose pace is always the same.

use crate::count_string::Counted;
use crate::few_words::{FEW_MAX, FewWords, Hit, Pass};
use crate::many_words::ManyWords;
use vinet_trusted::program::{COUNT_MAX, Word};

/// A set of words: bit k stands for word k of the program.
pub type WordMask = u64;

/// The words of a program, ready to be searched for and counted.
#[derive(Clone, Debug)]
pub struct Words {
    words: Vec<Word>,
    starts: Vec<Start>,
    few: FewWords,
    /// Where there are more than a few.
    many: Option<ManyWords>,
    /// For hostile bytes.
    steady: Vec<Counted>,
    /// Those that are counted.
    counted: WordMask,
    longest: usize,
}

impl Words {
    /// Prepares the searchers of `words`, of which those in `counted` can be counted.
    ///
    /// # Panics
    /// Where there are more than 64 words, or an empty one, which no program has.
    #[must_use]
    pub fn new(words: &[Word], counted: WordMask) -> Words {
        assert!(words.len() <= WordMask::BITS as usize, "a program has at most {} words", WordMask::BITS);
        assert!(words.iter().all(|word| !word.bytes.is_empty()), "a word has a byte");
        let few = FewWords::new(words);
        Words {
            many: (words.len() > FEW_MAX).then(|| ManyWords::new(words)),
            steady: words.iter().map(|word| Counted::new(few.level(), word)).collect(),
            few,
            counted,
            starts: words.iter().map(Start::new).collect(),
            longest: words.iter().map(|word| word.bytes.len()).max().unwrap_or(0),
            words: words.to_vec(),
        }
    }
    /// The length of the longest word, in bytes; 0 where there are none.
    #[must_use]
    pub const fn longest(&self) -> usize {
        self.longest
    }
    /// The length of a word, in bytes.
    ///
    /// # Panics
    /// Where there is no such word.
    #[must_use]
    pub fn word_len(&self, word: usize) -> usize {
        self.words[word].bytes.len()
    }
    /// All of the words.
    #[must_use]
    pub fn all(&self) -> WordMask {
        WordMask::MAX.checked_shr(WordMask::BITS - self.words.len() as u32).unwrap_or(0)
    }
    /// Those that can be counted.
    #[must_use]
    pub const fn counted(&self) -> WordMask {
        self.counted
    }
    /// The memory that it holds, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let few = self.words.len() * (2 * size_of::<Word>() + size_of::<Start>() + 2 * self.longest);
        let steady: usize = self.steady.iter().map(|word| size_of::<Counted>() + word.memory_bytes()).sum();
        size_of::<Words>() + few + steady + self.many.as_ref().map_or(0, ManyWords::memory_bytes)
    }
    /// Tells `hit` where the words in `wanted` are in `bytes`, in any order: which word, a place, and a bit for each of
    /// it and the 63 behind it, whether the word starts there. `hit` says which are wanted from there on; one that cannot
    /// be counted is wanted once at most.
    #[inline]
    pub fn occurrences(&self, bytes: &[u8], wanted: WordMask, hit: Hit<'_>) {
        let wanted = wanted & self.all();
        if bytes.is_empty() || wanted == 0 {
            return;
        }
        let mut left = wanted;
        let mut told = |word, at, found| {
            left = hit(word, at, found);
            left
        };
        match &self.many {
            Some(many) if wanted.count_ones() as usize > FEW_MAX => {
                let Pass::GaveUp(place) = many.pass(bytes, wanted, &mut told) else { return };
                // There may be a counted word at every place, so those are told many at a time; of others, each once.
                let mut left = left & wanted;
                let once = left & !self.counted;
                if once.count_ones() as usize > FEW_MAX {
                    many.walk(bytes, place, once, hit);
                    left &= self.counted;
                }
                self.one_by_one(bytes, |word| many.resume(word, place), left, hit);
            }
            _ => {
                if let Pass::GaveUp(place) = self.few.pass(bytes, wanted, &mut told) {
                    self.one_by_one(bytes, |word| self.few.resume(word, place), left & wanted, hit);
                }
            }
        }
    }
    /// Goes on where a pass gave up, for each word from the place that `resume` says: a pass for each, whose pace does not
    /// depend on the bytes.
    #[inline(never)]
    fn one_by_one(&self, bytes: &[u8], resume: impl Fn(usize) -> usize, mut wanted: WordMask, hit: Hit<'_>) {
        for (word, steady) in self.steady.iter().enumerate() {
            if wanted >> word & 1 == 0 {
                continue;
            }
            let start = resume(word).min(bytes.len());
            steady.each(&bytes[start..], &mut |at, found| {
                wanted &= hit(word, start + at, found);
                wanted >> word & 1 != 0
            });
        }
    }
    /// Which of the words in `wanted` are in `bytes`.
    #[must_use]
    #[inline]
    pub fn search(&self, bytes: &[u8], wanted: WordMask) -> WordMask {
        let mut found = 0;
        self.occurrences(bytes, wanted, &mut |word, _, _| {
            found |= 1 << word;
            wanted & !found
        });
        found
    }
    /// Whether one word is in `bytes`.
    #[must_use]
    #[inline]
    pub fn contains(&self, bytes: &[u8], word: u8) -> bool {
        self.search(bytes, 1 << word) != 0
    }
    /// How often a word that can be counted is in `bytes`, [`COUNT_MAX`] at most; occurrences that overlap count each.
    #[must_use]
    pub fn count(&self, bytes: &[u8], word: u8) -> u16 {
        let (mut count, mask) = (0u16, 1 << word & self.counted);
        self.occurrences(bytes, mask, &mut |_, _, found| {
            count = count.saturating_add(found.count_ones() as u16);
            mask
        });
        count
    }
    /// Whether one of the words in `wanted` could go on behind `bytes`: its first bytes, not all, are the last there.
    /// It may say so of one that could not, because it compares a few bytes only, and case roughly.
    #[must_use]
    #[inline]
    pub fn goes_on(&self, bytes: &[u8], wanted: WordMask) -> bool {
        let Some(last) = bytes.last() else { return false };
        if self.many.is_some() && wanted.count_ones() as usize > FEW_MAX {
            return true;
        }
        // Of fewer bytes the first stands for those before it, which no word asks about that they could be of.
        let end = |behind: usize| EACH * u64::from(bytes[bytes.len().saturating_sub(behind)]);
        let ends = [EACH * u64::from(*last), end(2), end(3)];
        let (mut rest, mut goes_on) = (wanted & self.all(), false);
        while rest != 0 {
            let number = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let word = &self.words[number];
            goes_on |= self.starts[number].is_begun(ends);
            if word.bytes.len() > START {
                goes_on |= is_long_begun(word, bytes);
            }
        }
        goes_on
    }
}

/// The bytes of a [`Start`].
const START: usize = 8;
/// 1 in each byte.
const EACH: u64 = u64::from_le_bytes([1; START]);

/// The first bytes of a word, the first one lowest.
#[derive(Clone, Copy, Debug)]
struct Start {
    bytes: u64,
    /// The bits that need not be equal.
    case: u64,
    /// The highest bit of each byte that is there and not the last of the word.
    places: u64,
}

impl Start {
    fn new(word: &Word) -> Start {
        let case = if word.fold { EACH * 0x20 } else { 0 };
        let of = |from: usize, value: &dyn Fn(u8) -> u8| {
            let bytes = word.bytes[..word.bytes.len() - from].iter().take(START).rev();
            bytes.fold(0, |all, byte| all << 8 | u64::from(value(*byte)))
        };
        Start { bytes: of(0, &|byte| byte) | case, case, places: of(1, &|_| 0x80) }
    }
    /// Whether first bytes of the word, up to [`START`] and not all, may be the last of those that end with `ends`, each
    /// in all bytes of a number, the last one first. All lengths are compared at once and without a branch: text ends
    /// in any letter, and none could be foretold.
    #[inline]
    const fn is_begun(&self, ends: [u64; 3]) -> bool {
        /// The highest bit of each byte that is 0; maybe of others above one.
        const fn zeros(bytes: u64) -> u64 {
            bytes.wrapping_sub(EACH) & !bytes & EACH << 7
        }
        let [last, second, third] = ends;
        let last = zeros((last | self.case) ^ self.bytes);
        let second = zeros((second | self.case) ^ self.bytes) << 8 | 0x80;
        let third = zeros((third | self.case) ^ self.bytes) << 16 | 0x8080;
        last & second & third & self.places != 0
    }
}

/// Whether more than [`START`] first bytes of the word, not all, may be the last of `bytes`.
fn is_long_begun(word: &Word, bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<START>() else { return false };
    let is_last = |eight: &[u8; START]| if word.fold { eight.eq_ignore_ascii_case(last) } else { eight == last };
    word.bytes[1..word.bytes.len() - 1].array_windows().any(is_last)
}

const _: () = assert!(COUNT_MAX == u16::MAX as i64, "a count fits 16 bits");

#[cfg(test)]
mod tests;
