//! Which packets of a burst some cell of a shape may want: their pairs are hashed and held against the tag words of their
//! buckets.
//!
//! Where the processor can, this is done for four packets at a time, so that only the rounds of a hash and the reading of a
//! word are done one by one. All words of a burst are asked for before the first is read, which does nothing for a table in
//! the second-level cache and spares 5 ns a packet where its words come from beyond. Expected cost of an IPv4 packet: 25
//! instructions, 2 ns.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_castsi256_pd, _mm256_cmpeq_epi8, _mm256_cmpeq_epi64, _mm256_extract_epi64,
    _mm256_max_epu8, _mm256_movemask_pd, _mm256_mul_epu32, _mm256_or_si256, _mm256_set_epi64x, _mm256_set1_epi8,
    _mm256_set1_epi64x, _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sllv_epi64,
    _mm256_srli_epi64, _mm256_storeu_si256,
};

use super::hash::{Mix, Tweak};
use super::key::Key;
use super::slots::TagWords;
use super::tags;
#[cfg(target_arch = "x86_64")]
use super::tags::{PASSED_SHIFT, TAG_MIN, TAGS};
use crate::port::BURST_LEN_MAX;

/// A bit for each of at most [`BURST_LEN_MAX`] pairs for which some slot may hold the key that is left of it by the mask; and the hashes of
/// those keys, in their places.
#[inline(always)]
pub(super) fn one_by_one<K: Key>(
    mix: impl Mix,
    tags: TagWords<'_>,
    pairs: &[K],
    (mask, tweak): (K, Tweak),
    hashes: &mut [u64],
) -> u64 {
    let mut wanted = 0;
    for (number, (&pair, hash)) in pairs.iter().zip(hashes).enumerate() {
        *hash = pair.masked(mask).hash(mix, tweak);
        // Without a branch, because it cannot be foretold.
        wanted |= u64::from(tags::may_hold(tags.word(tags.home(*hash)), *hash)) << (number % BURST_LEN_MAX);
    }
    wanted
}

/// Pairs that are looked at together.
#[cfg(target_arch = "x86_64")]
const GROUP: usize = 4;

/// The same, four at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "aes,avx2,bmi1,bmi2")]
pub(super) fn together<K: Key>(
    mix: impl Mix,
    tags: TagWords<'_>,
    pairs: &[K],
    (mask, tweak): (K, Tweak),
    hashes: &mut [u64],
) -> u64 {
    let (groups, pairs_left) = pairs.as_chunks::<GROUP>();
    let (hash_groups, hashes_left) = hashes.split_at_mut(groups.len() * GROUP);
    let hash_groups = hash_groups.as_chunks_mut::<GROUP>().0;
    let mut homes = [[0; GROUP]; BURST_LEN_MAX / GROUP];
    for ((pairs, homes), hashes) in groups.iter().zip(&mut homes).zip(&mut *hash_groups) {
        let mut each = [0; GROUP];
        for (hash, pair) in each.iter_mut().zip(pairs) {
            *hash = pair.masked(mask).hash(mix, tweak);
        }
        let hash = from_words(each);
        store(hashes, hash);
        *homes = homes_of(hash, tags.len());
        for &mut home in homes {
            tags.prefetch(home);
        }
    }
    let mut wanted = 0;
    for (number, (&hashes, homes)) in hash_groups.iter().zip(&homes).enumerate() {
        let mut words = [0; GROUP];
        for (word, &home) in words.iter_mut().zip(homes) {
            *word = tags.word(home);
        }
        wanted |= may_hold(from_words(words), from_words(hashes)) << (number * GROUP % BURST_LEN_MAX);
    }
    let left = one_by_one(mix, tags, pairs_left, (mask, tweak), hashes_left);
    wanted | left.checked_shl((groups.len() * GROUP) as u32).unwrap_or(0)
}

/// What [`TagWords::home`] says, of four hashes among so many buckets.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn homes_of(hash: __m256i, buckets: usize) -> [usize; GROUP] {
    let high = _mm256_srli_epi64::<32>(hash);
    let home = _mm256_srli_epi64::<32>(_mm256_mul_epu32(high, all(buckets as u64)));
    [
        _mm256_extract_epi64::<0>(home) as usize,
        _mm256_extract_epi64::<1>(home) as usize,
        _mm256_extract_epi64::<2>(home) as usize,
        _mm256_extract_epi64::<3>(home) as usize,
    ]
}

/// What [`tags::may_hold`] says, of four words and hashes.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn may_hold(word: __m256i, hash: __m256i) -> u64 {
    let lowest = _mm256_setr_epi8(
        0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8,
    );
    let tag = _mm256_max_epu8(_mm256_shuffle_epi8(hash, lowest), _mm256_set1_epi8(TAG_MIN.cast_signed()));
    let is_tag = _mm256_and_si256(_mm256_cmpeq_epi8(word, tag), all(TAGS));
    let bit = _mm256_and_si256(_mm256_srli_epi64::<8>(hash), all(7));
    let is_passed = _mm256_and_si256(word, _mm256_sllv_epi64(all(1 << PASSED_SHIFT), bit));
    let is_none = _mm256_cmpeq_epi64(_mm256_or_si256(is_tag, is_passed), _mm256_setzero_si256());
    _mm256_movemask_pd(_mm256_castsi256_pd(is_none)) as u64 ^ 0xf
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn all(word: u64) -> __m256i {
    _mm256_set1_epi64x(word.cast_signed())
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn from_words(words: [u64; GROUP]) -> __m256i {
    let [a, b, c, d] = words.map(u64::cast_signed);
    _mm256_set_epi64x(d, c, b, a)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn store(words: &mut [u64; GROUP], values: __m256i) {
    // SAFETY: four words are 32 bytes, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), values) };
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::flow_table::hash::Hasher;
    use crate::flow_table::key::V4;
    use crate::flow_table::tags::{BUCKET_SLOTS, goes_on, of, passed_bit};

    /// Says of every pair that its hash is the pair itself.
    #[derive(Clone, Copy)]
    struct Itself;

    impl Mix for Itself {
        fn of_word(self, word: u64, _: Tweak) -> u64 {
            word
        }
        fn of_words(self, [word, ..]: [u64; 4], _: Tweak) -> u64 {
            word
        }
    }

    /// A pair and the word of its bucket: of some the tag stands in the word, or their bit is set, or nothing but that.
    fn case() -> impl Strategy<Value = (u64, u64)> {
        (any::<u64>(), any::<u64>(), 0usize..12).prop_map(|(hash, word, what)| match what {
            place @ 0..7 => (hash, word & !(0xff << (place * 8)) | u64::from(of(hash)) << (place * 8)),
            7 => (hash, word | 1 << (PASSED_SHIFT + passed_bit(hash))),
            8 => (hash & !0xff, word & 0x0000_0101_0100_0100),
            9 => (hash, 0),
            _ => (hash, word),
        })
    }

    proptest! {
        #[test]
        fn together_they_say_what_they_say_one_by_one(
            all in proptest::collection::vec(case(), 0..=BURST_LEN_MAX),
            buckets in 1usize..300,
            (src_len, dst_len) in (0u8..=32, 0u8..=32),
        ) {
            let hasher = Hasher::of_this_machine(&[1; 20]);
            if !matches!(hasher, Hasher::Aes(_)) {
                return Ok(());
            }
            let shape = (V4::mask(src_len, dst_len), hasher.tweak(0));
            let words: Vec<AtomicU64> = std::iter::repeat_with(|| AtomicU64::new(0)).take(buckets).collect();
            let tags = TagWords(&words);
            let pairs: Vec<V4> = all.iter().map(|&(hash, _)| hash).collect();
            let hash_of = |pair: V4| pair.masked(shape.0).hash(Itself, shape.1);
            for (&pair, &(_, word)) in pairs.iter().zip(&all) {
                words[tags.home(hash_of(pair))].store(word, Ordering::Relaxed);
            }
            let (mut hashes, mut hashes_alone) = ([0; BURST_LEN_MAX], [0; BURST_LEN_MAX]);
            // SAFETY: the way of hashing of this machine is only that one where it has all that this is compiled for.
            let together = unsafe { together(Itself, tags, &pairs, shape, &mut hashes) };
            let alone = one_by_one(Itself, tags, &pairs, shape, &mut hashes_alone);
            prop_assert_eq!(together & !alone, 0, "only what one by one is named, too");
            prop_assert_eq!(hashes, hashes_alone);
            for (number, &pair) in pairs.iter().enumerate() {
                let hash = hash_of(pair);
                prop_assert_eq!(hashes[number], hash);
                let word = tags.word(((u128::from(hash >> 32) * buckets as u128) >> 32) as usize);
                let is_tag = word.to_le_bytes()[..BUCKET_SLOTS].contains(&of(hash));
                prop_assert_eq!(together >> number & 1 != 0, is_tag || goes_on(word, hash));
            }
            prop_assert_eq!(together.checked_shr(pairs.len() as u32).unwrap_or(0), 0);
        }
    }
}
