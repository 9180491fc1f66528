//! An attacker picks the addresses of the cells: whatever family they are of, probes stay as long as for addresses by
//! chance, under the hash of this machine and under the one that every machine has.
//!
//! What is not covered: an attacker who measures hashes, by the time that single packets take.

use std::collections::HashSet;

use super::super::act::{Act, Meta};
use super::super::hash::Hasher;
use super::super::key::{Key, V4, V6, v4};
use super::super::slots::Slots;

/// Cells of each family.
const CELLS: usize = 6000;
/// Cells for a bucket, on average, that the tables of this test are filled to: more than a growing one has.
const LOAD: usize = 5;

/// Secrets that each family is tried under, always the same, so that a run says what the one before said. What counts are means over
/// them: with one secret in some tens even addresses by chance have a cluster twice as long as with the others.
const SECRETS: u64 = 24;
/// The secret that an attacker knows, which is no table's.
const KNOWN: u64 = 99;

/// Both ways of hashing, with the secret of a seed.
fn hashers(seed: u64) -> [(&'static str, Hasher); 2] {
    let mut words = chance(seed);
    let secret = std::array::from_fn(|_| words.next().unwrap_or_default());
    [("of this machine", Hasher::of_this_machine(&secret)), ("of every machine", Hasher::of_every_machine(&secret))]
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

/// The mean and the most buckets that a look-up of each key looks at, in a full table of them.
fn probes<K: Key>(hasher: &Hasher, keys: &[K]) -> (f64, usize) {
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), CELLS, "a family of different keys");
    let tweak = hasher.tweak(1);
    // `for_cells` makes room for twice seven cells in every four buckets.
    let slots = Slots::<K>::for_cells(CELLS * 7 / (2 * LOAD)).expect("memory");
    for &key in keys {
        slots.link(key.hash(hasher, tweak), key, Meta::new(Act::run(1), 0, 0)).expect("a table that holds its load");
    }
    let lens: Vec<usize> = keys.iter().map(|&key| slots.probe_len(key.hash(hasher, tweak))).collect();
    (lens.iter().sum::<usize>() as f64 / CELLS as f64, lens.into_iter().max().unwrap_or(0))
}

fn assert_no_worse_than_chance<K: Key>(families: &[(&str, Vec<K>)], by_chance: impl Fn(u64) -> K) {
    for way in 0..2 {
        let name = hashers(0)[way].0;
        // The mean and the longest probe, each in the mean over the secrets.
        let over_secrets = |keys: &dyn Fn(u64) -> Vec<K>| {
            let all = (0..SECRETS).map(|seed| probes(&hashers(seed)[way].1, &keys(seed)));
            let (mean, most) = all.fold((0.0, 0), |sum, (mean, most)| (sum.0 + mean, sum.1 + most));
            (mean / SECRETS as f64, most as f64 / SECRETS as f64)
        };
        let (mean, most) = over_secrets(&|seed| chance(seed + 100).take(CELLS).map(&by_chance).collect());
        println!("hash {name}: by chance {mean:.3} buckets in the mean, {most:.1} at most");
        for (family, keys) in families {
            let (family_mean, family_most) = over_secrets(&|_| keys.clone());
            println!("  {family}: {family_mean:.3}, {family_most:.1}");
            assert!(family_mean < mean + 0.05, "{family} under the hash {name}: {family_mean}, not {mean}");
            assert!(family_most < most + 4.0, "{family} under the hash {name}: {family_most}, not {most}");
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
    let itself = |word: u64| -> V4 { word };
    let family = |key: &dyn Fn(u64) -> V4| (0..CELLS as u64).map(key).collect::<Vec<V4>>();
    let few_bits = || {
        let pairs = (0..64).flat_map(|a| (0..a).flat_map(move |b| (0..=b).map(move |c| 1u64 << a | 1 << b | 1 << c)));
        pairs.take(CELLS).collect::<Vec<V4>>()
    };
    assert_eq!(inverse().wrapping_mul(GUESS), 1);
    let [(_, other), (_, other_portable)] = hashers(KNOWN);
    let tweak = other.tweak(1);
    let tweak_portable = other_portable.tweak(1);
    let families = [
        ("destinations in a row", family(&|i| v4(0x0a00_0001, 0xc612_0000 + i as u32))),
        ("sources in a row", family(&|i| v4(0x0a00_0000 + i as u32, 0xc612_0001))),
        ("both in a row", family(&|i| v4(0x0a00_0000 + i as u32, 0xc612_0000 + i as u32))),
        ("a source for each /24", family(&|i| v4((i as u32) << 8, 0xc612_0001))),
        ("equal low halves", family(&|i| v4((i as u32) << 16 | 0x1234, (i as u32) << 16 | 0x5678))),
        ("sources that are destinations", family(&|i| v4(0x0a00_0000 + i as u32, 0x0a00_0000 + i as u32))),
        ("a square of both", family(&|i| v4((i % 80) as u32, (i / 80) as u32))),
        ("two and three bits", few_bits()),
        ("bits in reverse order", family(&u64::reverse_bits)),
        ("multiples of an inverse", family(&|i| i.wrapping_mul(inverse()))),
        ("equal under a fold without secret", colliding(itself, |key| fold(key, GUESS))),
        ("equal under another secret", colliding(itself, |key| key.hash(&other, tweak))),
        ("equal under another portable secret", colliding(itself, |key| key.hash(&other_portable, tweak_portable))),
    ];
    assert_no_worse_than_chance(&families, itself);
}

#[test]
fn chosen_ipv6_addresses_do_not_lengthen_probes() {
    const NET: u128 = 0x2001_0db8 << 96;
    let by_chance = |word: u64| V6::new(NET | u128::from(word), NET | u128::from(word.rotate_left(17)));
    let family = |key: &dyn Fn(u128) -> V6| (0..CELLS as u128).map(key).collect::<Vec<V6>>();
    let [(_, other), (_, other_portable)] = hashers(KNOWN);
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
