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

    /// Reads `bytes` and returns how many occurrences end in them.
    fn read(&self, state: &mut u64, bytes: &[u8]) -> u64 {
        let mut count = 0;
        for byte in bytes {
            *state = self.step(*state, *byte);
            count += self.ends(*state);
        }
        count
    }

    /// How often the word is in `bytes`.
    #[must_use]
    pub fn count(&self, bytes: &[u8]) -> u64 {
        let Some(starts) = (bytes.len() + 1).checked_sub(self.len) else { return 0 };
        let part = starts / LANES;
        if part < LANE_LEN_MIN {
            return self.read(&mut 0, bytes);
        }
        // Each lane counts the occurrences that start in its part.
        let span = part + self.len - 1;
        let lanes: [&[u8]; LANES] = core::array::from_fn(|lane| &bytes[lane * part..lane * part + span]);
        let [a, b, c, d] = lanes;
        let (mut state_a, mut state_b, mut state_c, mut state_d, mut count) = (0, 0, 0, 0, 0);
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            state_a = self.step(state_a, *a);
            state_b = self.step(state_b, *b);
            state_c = self.step(state_c, *c);
            state_d = self.step(state_d, *d);
            count += self.ends(state_a) + self.ends(state_b) + self.ends(state_c) + self.ends(state_d);
        }
        count + self.read(&mut 0, &bytes[LANES * part..])
    }

    /// How many occurrences there are in `before`, `run` and `behind`, one behind the other, that have a byte of `run`.
    #[must_use]
    pub fn count_new(&self, before: &[u8], run: &[u8], behind: &[u8]) -> u64 {
        // Fewer bytes than the word has hold no occurrence of their own.
        let reach = self.len - 1;
        let before = &before[before.len().saturating_sub(reach)..];
        let behind = &behind[..behind.len().min(reach)];
        let mut state = 0;
        self.read(&mut state, before);
        if run.len() <= 2 * reach {
            return self.read(&mut state, run) + self.read(&mut state, behind);
        }
        let left = self.read(&mut state, &run[..reach]);
        let mut state = 0;
        self.read(&mut state, &run[run.len() - reach..]);
        left + self.count(run) + self.read(&mut state, behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Random, seed};

    fn slow(word: &Word, bytes: &[u8]) -> u64 {
        let equal = |window: &[u8]| match word.fold {
            true => window.eq_ignore_ascii_case(&word.bytes),
            false => window == word.bytes,
        };
        bytes.windows(word.bytes.len()).filter(|window| equal(window)).count() as u64
    }

    #[test]
    fn counts_what_is_there_however_it_is_cut() {
        let seed = seed("counts");
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
            assert_eq!(automaton.count(&text), slow(&word, &text), "seed {seed}, round {round}: {word:?}");
            let (a, b) = (random.below(text.len() + 1), random.below(text.len() + 1));
            let (a, b) = (a.min(b), a.max(b));
            let (before, run, behind) = (&text[..a], &text[a..b], &text[b..]);
            let old = slow(&word, before) + slow(&word, behind);
            // Without a run nothing is new, though the pieces would meet; streams never ask that.
            if a < b {
                let across = (0..(text.len() + 1).saturating_sub(word.bytes.len()))
                    .filter(|start| start + word.bytes.len() > a && *start < b)
                    .filter(|start| slow(&word, &text[*start..start + word.bytes.len()]) == 1)
                    .count() as u64;
                let found = automaton.count_new(before, run, behind);
                assert_eq!(found, across, "seed {seed}, round {round}: {word:?} with {a} and {b} in {text:?}");
                assert_eq!(found + old, slow(&word, &text));
            }
        }
    }
}
