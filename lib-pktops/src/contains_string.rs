//! CONTAINS_STRING: searching bytes for the words of a program.
//!
//! The searchers are built once, when a program is lowered, and read each byte once for all the words that are asked
//! about together: up to [`FEW_MAX`] with vector comparisons ([`crate::few_words`]), more with vector look-ups and an
//! automaton ([`crate::many_words`]). A [`Words`] answers with a mask, one bit for each word in the order of the
//! program's list; it holds at most [`vinet_trusted::program::WORDS_MAX`] words, the width of the mask.
//!
//! Which way is taken follows from measurements (`cargo bench -p vinet-pktops --bench matchers`). However bytes are
//! made, the pace is bounded: a way that meets too many places to compare is left for one that compares none.

use crate::count_string::Automaton;
use crate::few_words::{FEW_MAX, FewWords, Hit, Pass};
use crate::many_words::ManyWords;
use memchr::memmem::Finder;
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
    /// For hostile bytes: those that are neither folded nor counted.
    finders: Vec<Option<Finder<'static>>>,
    /// The others.
    automata: Vec<Option<Automaton>>,
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
        let is_plain = |i: usize, word: &Word| !word.fold && counted >> i & 1 == 0;
        let finder = |(i, word): (usize, &Word)| is_plain(i, word).then(|| Finder::new(&word.bytes).into_owned());
        let automaton = |(i, word): (usize, &Word)| (!is_plain(i, word)).then(|| Automaton::new(word));
        Words {
            few: FewWords::new(words),
            many: (words.len() > FEW_MAX).then(|| ManyWords::new(words)),
            finders: words.iter().enumerate().map(finder).collect(),
            automata: words.iter().enumerate().map(automaton).collect(),
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
        let few = self.words.len()
            * (2 * size_of::<Word>() + size_of::<Start>() + size_of::<Finder<'_>>() + 2 * self.longest);
        let automata = self.automata.iter().flatten().map(|_| Automaton::MEMORY_BYTES).sum::<usize>();
        size_of::<Words>() + few + automata + self.many.as_ref().map_or(0, ManyWords::memory_bytes)
    }
    /// Tells `hit` where the words in `wanted` are in `bytes`, in any order: which word, and where it starts. `hit` says
    /// which are wanted from there on; one that cannot be counted is wanted once at most.
    #[inline]
    pub fn occurrences(&self, bytes: &[u8], wanted: WordMask, hit: Hit<'_>) {
        let wanted = wanted & self.all();
        if bytes.is_empty() || wanted == 0 {
            return;
        }
        match &self.many {
            Some(many) if wanted.count_ones() as usize > FEW_MAX => many.each(bytes, wanted, hit),
            _ => {
                let mut left = wanted;
                let pass = self.few.pass(bytes, wanted, &mut |word, at| {
                    left = hit(word, at);
                    left
                });
                if let Pass::GaveUp(place) = pass {
                    self.one_by_one(bytes, place, left & wanted, hit);
                }
            }
        }
    }
    /// Goes on where a pass over a few words gave up: a pass for each, whose pace does not depend on the bytes.
    #[inline(never)]
    fn one_by_one(&self, bytes: &[u8], place: usize, mut wanted: WordMask, hit: Hit<'_>) {
        for word in 0..self.words.len() {
            if wanted >> word & 1 == 0 {
                continue;
            }
            let start = self.few.resume(word, place);
            let rest = &bytes[start.min(bytes.len())..];
            if let Some(finder) = &self.finders[word] {
                if let Some(at) = finder.find(rest) {
                    wanted = hit(word, start + at);
                }
            } else if let Some(automaton) = &self.automata[word] {
                automaton.each(rest, &mut |at| {
                    if wanted >> word & 1 != 0 {
                        wanted = hit(word, start + at);
                    }
                });
            }
        }
    }
    /// Which of the words in `wanted` are in `bytes`.
    #[must_use]
    #[inline]
    pub fn search(&self, bytes: &[u8], wanted: WordMask) -> WordMask {
        let mut found = 0;
        self.occurrences(bytes, wanted, &mut |word, _| {
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
        self.occurrences(bytes, mask, &mut |_, _| {
            count = count.saturating_add(1);
            mask
        });
        count
    }
    /// Whether one of the words in `wanted` could go on behind `bytes`: its first bytes, not all, are the last there.
    /// It may say so of one that could not; it compares the last eight bytes at most, and their case roughly.
    #[must_use]
    #[inline]
    pub fn goes_on(&self, bytes: &[u8], wanted: WordMask) -> bool {
        let mut rest = wanted & self.all();
        if bytes.is_empty() || rest.count_ones() as usize > FEW_MAX {
            return !bytes.is_empty();
        }
        let last = match bytes.last_chunk() {
            Some(last) => u64::from_le_bytes(*last),
            None => bytes.iter().fold(0, |last, byte| last >> 8 | u64::from(*byte) << 56),
        };
        let mut goes_on = false;
        while rest != 0 {
            let number = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            goes_on |= self.starts[number].is_begun(last, &self.words[number]);
        }
        goes_on
    }
}

/// The first bytes of a word.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Eight, the first one lowest; 0 where the word has fewer.
    first: u64,
    /// The bits that need not be equal.
    case: u64,
    len: usize,
}

impl Start {
    fn new(word: &Word) -> Start {
        let case = if word.fold { u64::from_le_bytes([0x20; 8]) } else { 0 };
        let first = word.bytes.iter().take(8).rev().fold(0, |first, byte| first << 8 | u64::from(*byte));
        Start { first: first | case, case, len: word.bytes.len() }
    }
    /// Whether first bytes of the word, not all, may be the last of those that end with `last`. All lengths are compared
    /// without a branch: text ends in any letter, and none could be foretold.
    #[inline]
    fn is_begun(&self, last: u64, word: &Word) -> bool {
        let last = last | self.case;
        let mut is_begun = false;
        for len in 1..self.len.min(8) {
            let beside = 64 - 8 * len;
            is_begun |= (last >> beside ^ self.first) << beside == 0;
        }
        if self.len > 8 {
            for eight in word.bytes[..self.len - 1].array_windows() {
                is_begun |= u64::from_le_bytes(*eight) | self.case == last;
            }
        }
        is_begun
    }
}

const _: () = assert!(COUNT_MAX == u16::MAX as i64, "a count fits 16 bits");

#[cfg(test)]
mod tests;
