//! CONTAINS_STRING: searching bytes for the words of a program.
//!
//! The searchers are built once, when a program is lowered. A [`Words`] answers for many words at once with a mask,
//! one bit for each word in the order of the program's list; it holds at most
//! [`vinet_trusted::program::WORDS_MAX`] words, the width of the mask.

use memchr::memmem::Finder;

/// A set of words: bit k stands for word k of the program.
pub type WordMask = u64;

/// The words of a program, ready to be searched for.
#[derive(Clone, Debug)]
pub struct Words {
    finders: Vec<Finder<'static>>,
    longest: usize,
}

impl Words {
    /// Prepares the searchers of `words`.
    ///
    /// # Panics
    /// Where there are more than 64 words, which no program has.
    #[must_use]
    pub fn new(words: &[Vec<u8>]) -> Words {
        assert!(words.len() <= WordMask::BITS as usize, "a program has at most {} words", WordMask::BITS);
        Words {
            finders: words.iter().map(|word| Finder::new(word).into_owned()).collect(),
            longest: words.iter().map(Vec::len).max().unwrap_or(0),
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
    /// Which of the words in `wanted` are in `bytes`.
    #[must_use]
    #[inline]
    pub fn search(&self, bytes: &[u8], wanted: WordMask) -> WordMask {
        let mut found = 0;
        let mut rest = wanted;
        while rest != 0 {
            let word = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            if self.finders.get(word).is_some_and(|finder| finder.find(bytes).is_some()) {
                found |= 1 << word;
            }
        }
        found
    }
    /// Whether one word is in `bytes`.
    #[must_use]
    #[inline]
    pub fn contains(&self, bytes: &[u8], word: u8) -> bool {
        self.search(bytes, 1 << word) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_tells_each_word_apart_and_only_those_wanted() {
        let words = Words::new(&[b"one".to_vec(), b"w".to_vec(), b"three".to_vec()]);
        assert_eq!(words.longest(), 5);
        assert_eq!(words.search(b"two and one", 0b111), 0b011);
        assert_eq!(words.search(b"two and one", 0b110), 0b010);
        assert_eq!(words.search(b"on", 0b111), 0);
        assert_eq!(words.search(b"", 0b111), 0);
        assert_eq!(words.search(b"three", WordMask::MAX), 0b100);
    }
}
