//! Runs a target on damaged inputs of its corpus, and shows the input of a failure.

use crate::random::Random;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// The longest input that is made, in bytes.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// The longest that one input may take. It is far above what any takes, so that a busy machine does not fail a run, and
/// far below what a bomb does.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);

/// Feeds `target` with every input of `corpus` and then with `runs` damaged ones, times `VINET_FUZZ_RUNS`. The target
/// says whether an input got past its reader; damage that never does is too coarse to mean anything.
///
/// # Panics
/// Where the target does, after printing the seed and the input; where one input takes longer than five seconds; and
/// where no damaged input got past the reader.
pub fn run(name: &str, corpus: &[Vec<u8>], runs: usize, target: impl Fn(&[u8]) -> bool) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("VINET_FUZZ_SEED").unwrap_or_else(|| std::hash::RandomState::new().hash_one(name));
    let runs = runs * number("VINET_FUZZ_RUNS").unwrap_or(1) as usize;
    println!("{name}: VINET_FUZZ_SEED={seed}, {} corpus inputs, {runs} runs", corpus.len());
    let mut random = Random::new(seed);
    for input in corpus {
        attempt(name, seed, input, &target);
    }
    let mut read = 0;
    for _ in 0..runs {
        let input = damaged(&mut random, corpus);
        read += usize::from(!corpus.contains(&input) && attempt(name, seed, &input, &target));
    }
    println!("{name}: {read} of the damaged inputs got past the reader");
    assert!(read > 0, "{name}: no damaged input got past the reader: the damage is too coarse to mean anything");
}

fn attempt(name: &str, seed: u64, input: &[u8], target: &impl Fn(&[u8]) -> bool) -> bool {
    let start = Instant::now();
    let read = catch_unwind(AssertUnwindSafe(|| target(input))).unwrap_or_else(|panic| {
        let hex: String = input.iter().map(|b| format!("{b:02x}")).collect();
        println!("{name}: failed with VINET_FUZZ_SEED={seed} on these {} bytes:\n{hex}", input.len());
        resume_unwind(panic)
    });
    let taken = start.elapsed();
    assert!(taken < INPUT_TIME_MAX, "{name}: {taken:?} for {} bytes, VINET_FUZZ_SEED={seed}", input.len());
    read
}

/// One input of the corpus with some damage, or bytes of no origin.
fn damaged(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    if corpus.is_empty() || random.one_in(16) {
        let magnitude = random.below(11);
        let len = random.below(1 + (1 << magnitude));
        return random.bytes(len);
    }
    let mut input = random.pick(corpus).clone();
    let magnitude = random.below(5);
    for _ in 0..1 + random.below(1 << magnitude) {
        damage(random, &mut input, corpus);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// One piece of damage: bits, bytes, numbers at their edges, pieces cut, repeated, moved, and taken from other inputs.
fn damage(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    if input.is_empty() {
        let len = 1 + random.below(16);
        *input = random.bytes(len);
        return;
    }
    let at = random.below(input.len());
    let rest = input.len() - at;
    let len = 1 + random.below(rest.min(64));
    match random.below(11) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.bits() as u8,
        2 => input[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xfe, 0xff]),
        3 => input[at] = input[at].wrapping_add_signed(*random.pick(&[-1, 1])),
        4 => input.insert(at, random.bits() as u8),
        5 => drop(input.remove(at)),
        6 => input.truncate(at),
        7 => drop(input.drain(at..at + len)),
        8 => {
            let piece = input[at..at + len].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        9 => {
            let other = random.pick(corpus);
            if !other.is_empty() {
                let from = random.below(other.len());
                let piece = &other[from..other.len().min(from + 1 + random.below(64))];
                input.splice(at..at + len, piece.iter().copied());
            }
        }
        _ => {
            // Two, four or eight bytes at an edge of what they can hold.
            let width = *random.pick(&[2, 4, 8]);
            let edge: u64 = *random.pick(&[0, 1, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX]);
            let bytes = if random.one_in(2) { edge.to_le_bytes() } else { edge.to_be_bytes() };
            let bytes = if random.one_in(2) { &bytes[..width] } else { &bytes[8 - width..] };
            for (byte, &new) in input[at..].iter_mut().zip(bytes) {
                *byte = new;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defect_is_found_and_its_input_shown() {
        let found = catch_unwind(|| {
            let corpus = [b"a well-formed input".to_vec()];
            run("planted", &corpus, 2000, |bytes| {
                assert!(bytes.first() != Some(&0xff), "planted");
                true
            });
        });
        assert!(found.is_err());
        let vacuous = catch_unwind(|| run("vacuous", &[], 100, |_| false));
        assert!(vacuous.is_err());
    }

    #[test]
    fn a_seed_gives_the_same_inputs() {
        let inputs = |seed| {
            let mut random = Random::new(seed);
            (0..200).map(|_| damaged(&mut random, &[vec![1, 2, 3], vec![4; 100]])).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }
}
