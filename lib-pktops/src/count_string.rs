//! COUNT_STRING: how often a word is in bytes.
//!
//! The word is an automaton in one 64-bit number (Baeza-Yates and Gonnet, "A New Approach to Text Searching", 1992):
//! bit k says that the last k + 1 bytes are the first k + 1 of the word. Its pace is that of the bytes, whatever they
//! are, so that no payload is dearer than another, and folding case costs nothing. Occurrences that overlap count each.

use vinet_trusted::program::{WORD_LEN_MAX, Word};

const _: () = assert!(WORD_LEN_MAX == u64::BITS as usize, "a word fits the automaton");

/// How many parts of a long payload are read in step: one at a time waits for each byte's result.
const LANES: usize = 4;
/// Below this many bytes for each lane, one lane is as fast.
const LANE_LEN_MIN: usize = 64;

/// A word, ready to be counted.
#[derive(Clone, Debug)]
pub struct Automaton {
    /// For each byte, the places of the word that it is at.
    places: Box<[u64; 256]>,
    len: usize,
}

impl Automaton {
    /// The memory of one, in bytes.
    pub(crate) const MEMORY_BYTES: usize = size_of::<Automaton>() + size_of::<[u64; 256]>();

    /// Prepares `word`, of at most [`WORD_LEN_MAX`] bytes and at least one.
    ///
    /// # Panics
    /// Where its length is another, which no program's is.
    #[must_use]
    pub fn new(word: &Word) -> Automaton {
        let len = word.bytes.len();
        assert!((1..=WORD_LEN_MAX).contains(&len), "a word of {len} bytes");
        let mut places = Box::new([0; 256]);
        for (place, byte) in word.bytes.iter().enumerate() {
            places[usize::from(*byte)] |= 1 << place;
            if word.fold {
                places[usize::from(byte.to_ascii_uppercase())] |= 1 << place;
            }
        }
        Automaton { places, len }
    }

    #[inline(always)]
    fn step(&self, state: u64, byte: u8) -> u64 {
        (state << 1 | 1) & self.places[usize::from(byte)]
    }

    #[inline(always)]
    fn ends(&self, state: u64) -> u64 {
        state >> (self.len - 1) & 1
    }

    /// Tells `each` where occurrences start that end in `bytes`, the first of which is number `from`.
    fn read(&self, bytes: &[u8], from: usize, each: &mut dyn FnMut(usize)) {
        let mut state = 0;
        for (end, byte) in (from + 1..).zip(bytes) {
            state = self.step(state, *byte);
            if self.ends(state) != 0 {
                each(end - self.len);
            }
        }
    }

    /// Tells `each` where the word starts in `bytes`, every occurrence, in any order.
    pub fn each(&self, bytes: &[u8], each: &mut dyn FnMut(usize)) {
        let Some(starts) = (bytes.len() + 1).checked_sub(self.len) else { return };
        let part = starts / LANES;
        if part < LANE_LEN_MIN {
            return self.read(bytes, 0, each);
        }
        // Each lane tells the occurrences that start in its part.
        let span = part + self.len - 1;
        let lanes: [&[u8]; LANES] = core::array::from_fn(|lane| &bytes[lane * part..lane * part + span]);
        let [a, b, c, d] = lanes;
        let mut states = [0; LANES];
        for (end, (((a, b), c), d)) in (1..).zip(a.iter().zip(b).zip(c).zip(d)) {
            let bytes = [a, b, c, d];
            states = core::array::from_fn(|lane| self.step(states[lane], *bytes[lane]));
            if states.iter().fold(0, |any, state| any | self.ends(*state)) != 0 {
                for lane in (0..LANES).filter(|lane| self.ends(states[*lane]) != 0) {
                    each(lane * part + end - self.len);
                }
            }
        }
        self.read(&bytes[LANES * part..], LANES * part, each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::few_words::is_at;
    use crate::samples::{Random, seed};
    use std::collections::BTreeSet;

    #[test]
    fn tells_each_occurrence_once() {
        let seed = seed("count string");
        let mut random = Random::new(seed);
        for round in 0..2000 {
            let len = *random.pick(&[1, 1, 2, 3, 4, 7, 64]);
            let fold = random.one_in(2);
            let alphabet = if random.one_in(2) { &b"a"[..] } else { b"ab" };
            let word = Word { fold, bytes: random.bytes(len, alphabet) };
            let automaton = Automaton::new(&word);
            let longest = if random.one_in(4) { 2000 } else { 100 };
            let len = random.below(longest);
            let alphabet = if random.one_in(3) { &b"a"[..] } else { b"abA" };
            let text = random.bytes(len, alphabet);
            let starts = (0..(text.len() + 1).saturating_sub(word.bytes.len()))
                .filter(|start| is_at(&word, &text, *start))
                .collect::<BTreeSet<_>>();
            let mut told = BTreeSet::new();
            automaton.each(&text, &mut |start| assert!(told.insert(start), "seed {seed}, round {round}: told twice"));
            assert_eq!(told, starts, "seed {seed}, round {round}: {word:?} in {text:?}");
        }
    }
}
