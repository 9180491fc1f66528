//! CONTAINS_STRING: searching bytes for the words of a program.
//!
//! The searchers are built once, when a program is lowered. A [`Words`] answers for many words at once with a mask,
//! one bit for each word in the order of the program's list; it holds at most
//! [`vinet_trusted::program::WORDS_MAX`] words, the width of the mask.

use crate::count_string::Automaton;
use memchr::memmem::Finder;
use vinet_trusted::program::{COUNT_MAX, Word};

/// A set of words: bit k stands for word k of the program.
pub type WordMask = u64;

/// The words of a program, ready to be searched for and counted.
#[derive(Clone, Debug)]
pub struct Words {
    finders: Vec<Finder<'static>>,
    /// Those that are the same in upper and lower case, which an automaton looks for.
    folded: WordMask,
    /// Those that are counted.
    counted: WordMask,
    /// For each word that is folded or counted.
    automata: Vec<Option<Automaton>>,
    longest: usize,
}

impl Words {
    /// Prepares the searchers of `words`, of which those in `counted` can be counted.
    ///
    /// # Panics
    /// Where there are more than 64 words, which no program has.
    #[must_use]
    pub fn new(words: &[Word], counted: WordMask) -> Words {
        assert!(words.len() <= WordMask::BITS as usize, "a program has at most {} words", WordMask::BITS);
        let folded = (0..).zip(words).fold(0, |mask, (i, word)| mask | u64::from(word.fold) << i);
        let automaton = |(i, word): (u32, &Word)| ((folded | counted) >> i & 1 != 0).then(|| Automaton::new(word));
        Words {
            finders: words.iter().map(|word| Finder::new(&word.bytes).into_owned()).collect(),
            folded,
            counted,
            automata: (0..).zip(words).map(automaton).collect(),
            longest: words.iter().map(|word| word.bytes.len()).max().unwrap_or(0),
        }
    }
    /// The length of the longest word, in bytes; 0 where there are none.
    #[must_use]
    pub const fn longest(&self) -> usize {
        self.longest
    }
    /// All of the words.
    #[must_use]
    pub fn all(&self) -> WordMask {
        (0..self.finders.len()).fold(0, |mask, word| mask | 1 << word)
    }
    /// Those that can be counted.
    #[must_use]
    pub const fn counted(&self) -> WordMask {
        self.counted
    }
    /// Which of the words in `wanted` are in `bytes`.
    #[must_use]
    #[inline]
    pub fn search(&self, bytes: &[u8], wanted: WordMask) -> WordMask {
        let mut found = 0;
        let mut rest = wanted & !self.folded;
        while rest != 0 {
            let word = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            if self.finders.get(word).is_some_and(|finder| finder.find(bytes).is_some()) {
                found |= 1 << word;
            }
        }
        if wanted & self.folded != 0 {
            found |= self.search_folded(bytes, wanted & self.folded);
        }
        found
    }
    #[inline(never)]
    fn search_folded(&self, bytes: &[u8], wanted: WordMask) -> WordMask {
        (0..).zip(&self.automata).fold(0, |found, (word, automaton)| match automaton {
            Some(automaton) if wanted >> word & 1 != 0 => found | u64::from(automaton.count(bytes) != 0) << word,
            _ => found,
        })
    }
    /// Whether one word is in `bytes`.
    #[must_use]
    #[inline]
    pub fn contains(&self, bytes: &[u8], word: u8) -> bool {
        self.search(bytes, 1 << word) != 0
    }
    /// How often a word that can be counted is in `bytes`, [`COUNT_MAX`] at most.
    #[must_use]
    pub fn count(&self, bytes: &[u8], word: u8) -> u16 {
        let Some(Some(automaton)) = self.automata.get(usize::from(word)) else { return 0 };
        saturated(automaton.count(bytes))
    }
    /// How many occurrences of a word that can be counted have a byte of `run`, between `before` and `behind`,
    /// [`COUNT_MAX`] at most.
    #[must_use]
    pub fn count_new(&self, before: &[u8], run: &[u8], behind: &[u8], word: u8) -> u16 {
        let Some(Some(automaton)) = self.automata.get(usize::from(word)) else { return 0 };
        saturated(automaton.count_new(before, run, behind))
    }
}

const _: () = assert!(COUNT_MAX == u16::MAX as i64, "a count fits 16 bits");

fn saturated(count: u64) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(fold: bool, text: &str) -> Word {
        Word { fold, bytes: text.into() }
    }

    #[test]
    fn a_mask_tells_each_word_apart_and_only_those_wanted() {
        let words = Words::new(&[word(false, "one"), word(false, "w"), word(true, "three")], 0);
        assert_eq!(words.longest(), 5);
        assert_eq!(words.search(b"two and one", 0b111), 0b011);
        assert_eq!(words.search(b"two and one", 0b110), 0b010);
        assert_eq!(words.search(b"on", 0b111), 0);
        assert_eq!(words.search(b"", 0b111), 0);
        assert_eq!(words.search(b"ThReE", WordMask::MAX), 0b100);
        assert_eq!(words.search(b"ThReE", 0b011), 0);
        assert_eq!(words.search(b"ONE TWO THREE", 0b111), 0b100);
    }

    #[test]
    fn counts_are_of_the_words_that_are_counted_and_saturate() {
        let words = Words::new(&[word(false, "aa"), word(true, "b"), word(false, "c")], 0b011);
        assert_eq!(words.count(b"aaaa", 0), 3);
        assert_eq!(words.count(b"bBxB", 1), 3);
        assert_eq!(words.count(b"c", 2), 0);
        assert_eq!(words.count(&[b'a'; 70_000], 0), u16::MAX);
        assert_eq!(words.count_new(b"a", b"a", b"a", 0), 2);
    }
}
