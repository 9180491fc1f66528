//! Randomised attacks on everything that reads a stranger's bytes: the parts that the targets in `tests/` share.
//!
//! A target feeds a reader with strings that are mostly right: it starts from strings of the format and breaks them. The seed is
//! printed, and `VINET_FUZZ_SEED` repeats a run; `VINET_FUZZ_SECONDS` sets how long each attack lasts (2 by default: what
//! `make test` takes). When a reader panics, the string that did it is printed in hexadecimal. There is no coverage feedback: this
//! finds what a few million shallow mutations find, and no more.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// The longest string that an attack makes, in bytes.
pub const INPUT_BYTES_MAX: usize = 4096;

/// How long a reader may take over one string, on a machine that does other things as well.
pub const INPUT_TIME_MAX: Duration = Duration::from_secs(2);

/// A small generator (splitmix64); the same seed gives the same attack.
pub struct Random(u64);

impl Random {
    /// A generator with this seed.
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The seed of this run: `VINET_FUZZ_SEED`, or the time. It is printed.
    pub fn of_this_run() -> Random {
        let given = std::env::var("VINET_FUZZ_SEED").ok().and_then(|s| s.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let since = std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
            u64::from(since.subsec_nanos()) ^ since.as_secs().rotate_left(32)
        });
        println!("VINET_FUZZ_SEED={seed}");
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below the bound, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The modulus fits a usize, because the bound does.
        (self.next() % bound as u64) as usize
    }

    /// One of a choice that is not empty.
    pub fn of<'a, T>(&mut self, choice: &'a [T]) -> &'a T {
        &choice[self.below(choice.len())]
    }

    /// So many random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// A broken copy of one of the strings, or now and then a random string.
    pub fn broken(&mut self, whole: &[Vec<u8>]) -> Vec<u8> {
        if whole.is_empty() || self.below(16) == 0 {
            let len = self.below(257);
            return self.bytes(len);
        }
        let mut bytes = self.of(whole).clone();
        for _ in 0..=self.below(6) {
            self.break_once(&mut bytes, whole);
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }

    fn break_once(&mut self, bytes: &mut Vec<u8>, whole: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = *self.of(&[0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff]),
            2 if at < bytes.len() => bytes[at] = self.next().to_le_bytes()[0],
            3 => bytes.truncate(at),
            4 if at < bytes.len() => drop(bytes.remove(at)),
            5 => bytes.insert(at, self.next().to_le_bytes()[0]),
            6 => {
                // A piece of this or another string, once more.
                let other = self.of(whole).clone();
                let from = self.below(other.len() + 1);
                let to = from + self.below(other.len() - from + 1);
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            7 => {
                // A length or a count at its extreme.
                let extreme: &[u8] =
                    *self.of(&[&[0xff; 2][..], &[0xff; 4], &[0xff; 8], &[0x7f, 0xff, 0xff, 0xff], &[0, 0]]);
                let end = (at + extreme.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&extreme[..end - at]);
            }
            _ => {}
        }
    }
}

/// Prints the string that is being read if its reader panics.
struct Culprit<'a>(&'a [u8]);

impl Drop for Culprit<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.0.iter().map(|b| format!("{b:02x}")).collect();
            println!("the string: {hex}");
        }
    }
}

/// Feeds the reader with broken strings for the time of an attack. The reader gets the generator too, for choices of its own.
pub fn attack(random: &mut Random, whole: &[Vec<u8>], mut reader: impl FnMut(&mut Random, &[u8])) {
    let seconds = std::env::var("VINET_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let begun = Instant::now();
    let mut strings = 0u64;
    while begun.elapsed() < Duration::from_secs(seconds) {
        let bytes = random.broken(whole);
        let culprit = Culprit(&bytes);
        let at = Instant::now();
        reader(random, &bytes);
        assert!(at.elapsed() < INPUT_TIME_MAX, "a string of {} bytes took {:?}", bytes.len(), at.elapsed());
        drop(culprit);
        strings += 1;
    }
    println!("{strings} strings");
    assert!(strings >= 10, "the attack hardly ran: {strings} strings");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaking_changes_most_strings_and_keeps_the_limit() {
        let mut random = Random::new(1);
        let whole = vec![vec![7; 100], vec![9; INPUT_BYTES_MAX]];
        let mut changed = 0;
        for _ in 0..1000 {
            let broken = random.broken(&whole);
            assert!(broken.len() <= INPUT_BYTES_MAX);
            changed += usize::from(!whole.contains(&broken));
        }
        assert!(changed > 900, "{changed}");
    }
}
