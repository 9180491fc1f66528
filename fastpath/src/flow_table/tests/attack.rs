//! An attacker picks the addresses of the cells: whatever family they are of, probes stay as long as for addresses by
//! chance, under the hash of this machine and under the one that every machine has.
//!
//! What is not covered: an attacker who measures hashes, by the time that single packets take.

use std::collections::HashSet;

use super::super::act::{Act, Meta};
use super::super::hash::Hasher;
use super::super::key::{Key, V4, V6};
use super::super::slots::Slots;

/// Cells of each family.
const CELLS: usize = 6000;
/// Cells for a bucket, on average, that the tables of this test are filled to: more than a growing one has.
const LOAD: usize = 5;

fn hashers() -> [(&'static str, Hasher); 2] {
    [
        ("of this machine", Hasher::draw().expect("random numbers")),
        ("of every machine", Hasher::draw_portable().expect("random numbers")),
    ]
}

/// Words by chance, the same in every run (SplitMix64).
fn chance(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::from_fn(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(word ^ word >> 31)
    })
}

/// The mean of the buckets that a look-up of each key looks at, in a full table of them, and the share of the keys for
/// which it looks at more than eight.
fn probes<K: Key>(hasher: &Hasher, keys: &[K]) -> (f64, f64) {
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), CELLS, "a family of different keys");
    let tweak = hasher.tweak(1);
    // `for_cells` makes room for twice seven cells in every four buckets.
    let slots = Slots::<K>::for_cells(CELLS * 7 / (2 * LOAD)).expect("memory");
    for &key in keys {
        slots.link(key.hash(hasher, tweak), key, Meta::new(Act::run(1), 0, 0)).expect("a table that holds its load");
    }
    let lens: Vec<usize> = keys.iter().map(|&key| slots.probe_len(key.hash(hasher, tweak))).collect();
    let share = |count: usize| count as f64 / CELLS as f64;
    (share(lens.iter().sum()), share(lens.iter().filter(|&&len| len > 8).count()))
}

fn assert_no_worse_than_chance<K: Key>(families: &[(&str, Vec<K>)], by_chance: impl Fn(u64) -> K) {
    for (name, hasher) in hashers() {
        let random: Vec<(f64, f64)> = (0..5)
            .map(|seed| probes(&hasher, &chance(seed + 100).take(CELLS).map(&by_chance).collect::<Vec<_>>()))
            .collect();
        let mean = random.iter().map(|(mean, _)| mean).sum::<f64>() / 5.0;
        let long = random.iter().map(|&(_, long)| long).fold(0.0, f64::max);
        println!("hash {name}: by chance {mean:.3} buckets in the mean, {long:.3} of them long");
        for (family, keys) in families {
            let (family_mean, family_long) = probes(&hasher, keys);
            println!("  {family}: {family_mean:.3}, {family_long:.3}");
            // A table of 6,000 cells varies by some tenths (one in 300 by a quarter), and in its longest probe by more, which is
            // why that is not looked at.
            assert!(family_mean < mean + 0.6, "{family} under the hash {name}: {family_mean}, not {mean}");
            assert!(family_long < long + 0.1, "{family} under the hash {name}: {family_long}, not {long}");
        }
    }
}

/// The first keys by chance whose hash under a key that the attacker knows falls into a 32nd of all buckets.
fn colliding<K: Key>(by_chance: impl Fn(u64) -> K, hash: impl Fn(K) -> u64) -> Vec<K> {
    chance(7).map(by_chance).filter(|&key| hash(key) >> 59 == 3).take(CELLS).collect()
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// An odd number that an attacker may think is the secret.
const GUESS: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number whose product with `GUESS` is 1: multiples of it are what multiplying by `GUESS` puts side by side.
fn inverse() -> u64 {
    (0..6).fold(GUESS, |inverse, _| inverse.wrapping_mul(2u64.wrapping_sub(GUESS.wrapping_mul(inverse))))
}

#[test]
fn chosen_ipv4_addresses_do_not_lengthen_probes() {
    let word = |word: u64| V4::new((word >> 32) as u32, word as u32);
    let family = |key: &dyn Fn(u64) -> V4| (0..CELLS as u64).map(key).collect::<Vec<V4>>();
    let few_bits = || {
        let pairs = (0..64).flat_map(|a| (0..a).flat_map(move |b| (0..=b).map(move |c| 1u64 << a | 1 << b | 1 << c)));
        pairs.take(CELLS).map(word).collect::<Vec<V4>>()
    };
    assert_eq!(inverse().wrapping_mul(GUESS), 1);
    let [(_, other), (_, other_portable)] = hashers();
    let tweak = other.tweak(1);
    let tweak_portable = other_portable.tweak(1);
    let families = [
        ("destinations in a row", family(&|i| V4::new(0x0a00_0001, 0xc612_0000 + i as u32))),
        ("sources in a row", family(&|i| V4::new(0x0a00_0000 + i as u32, 0xc612_0001))),
        ("both in a row", family(&|i| V4::new(0x0a00_0000 + i as u32, 0xc612_0000 + i as u32))),
        ("a source for each /24", family(&|i| V4::new((i as u32) << 8, 0xc612_0001))),
        ("equal low halves", family(&|i| V4::new((i as u32) << 16 | 0x1234, (i as u32) << 16 | 0x5678))),
        ("sources that are destinations", family(&|i| V4::new(0x0a00_0000 + i as u32, 0x0a00_0000 + i as u32))),
        ("a square of both", family(&|i| V4::new((i % 80) as u32, (i / 80) as u32))),
        ("two and three bits", few_bits()),
        ("bits in reverse order", family(&|i| word(i.reverse_bits()))),
        ("multiples of an inverse", family(&|i| word(i.wrapping_mul(inverse())))),
        ("equal under a fold without secret", colliding(word, |key| fold(key_word(key), GUESS))),
        ("equal under another secret", colliding(word, |key| key.hash(&other, tweak))),
        ("equal under another portable secret", colliding(word, |key| key.hash(&other_portable, tweak_portable))),
    ];
    assert_no_worse_than_chance(&families, word);
}

/// A pair as the word that a hash without secret would take.
fn key_word(key: V4) -> u64 {
    let room = std::sync::atomic::AtomicU64::new(0);
    key.store(&room);
    room.into_inner()
}

#[test]
fn chosen_ipv6_addresses_do_not_lengthen_probes() {
    const NET: u128 = 0x2001_0db8 << 96;
    let by_chance = |word: u64| V6::new(NET | u128::from(word), NET | u128::from(word.rotate_left(17)));
    let family = |key: &dyn Fn(u128) -> V6| (0..CELLS as u128).map(key).collect::<Vec<V6>>();
    let [(_, other), (_, other_portable)] = hashers();
    let tweak = other.tweak(1);
    let tweak_portable = other_portable.tweak(1);
    let families = [
        ("destinations in a row", family(&|i| V6::new(NET | 1, NET | i))),
        ("sources in a row", family(&|i| V6::new(NET | i, NET | 1))),
        ("a source for each /64", family(&|i| V6::new(NET | i << 64, NET | 1))),
        ("a source for each /48", family(&|i| V6::new(NET | i << 80, NET | 1))),
        ("sources that are destinations", family(&|i| V6::new(NET | i, NET | i))),
        ("halves that cancel", family(&|i| V6::new(NET | i << 64 | i, NET | i << 64 | i))),
        ("a sum that is always equal", family(&|i| V6::new(NET | i, NET | (u128::from(u64::MAX) - i)))),
        ("equal low halves", family(&|i| V6::new(NET | i << 64 | 0x1234, NET | 0x5678))),
        ("equal under another secret", colliding(by_chance, |key| key.hash(&other, tweak))),
        ("equal under another portable secret", colliding(by_chance, |key| key.hash(&other_portable, tweak_portable))),
    ];
    assert_no_worse_than_chance(&families, by_chance);
}
