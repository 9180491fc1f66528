//! The tag word of a bucket, which tells of seven slots whether they may hold a key of some hash.
//!
//! It has a byte of the hash for each slot (0: empty) and a byte for the cells that would be here had there been room:
//! three bits of a hash name one of its bits, and a probe goes on to the next bucket only where its bit is set.

/// Slots of a bucket.
pub(super) const BUCKET_SLOTS: usize = 7;
/// The tags of a word, without its count.
const TAGS: u64 = 0x00ff_ffff_ffff_ffff;
/// Above its tags a word has eight bits for cells that were passed on.
pub(super) const PASSED_SHIFT: u32 = 56;
/// The least tag of a cell. 0 is an empty slot, whose old key must never be taken for one that is there, and [`equal`] may
/// take a tag for another that differs in the lowest bit alone.
const TAG_MIN: u8 = 2;

/// Which of a word's bits for cells that were passed on a hash goes by.
#[inline(always)]
pub(super) fn passed_bit(hash: u64) -> u32 {
    (hash >> 8) as u32 & 7
}

/// Whether a probe of this hash goes on behind a bucket with this tag word.
#[inline(always)]
pub(super) fn goes_on(word: u64, hash: u64) -> bool {
    word >> (PASSED_SHIFT + passed_bit(hash)) & 1 != 0
}

/// The tag of a hash: its low byte. Buckets go by the high half.
#[inline(always)]
pub(super) fn of(hash: u64) -> u8 {
    (hash as u8).max(TAG_MIN)
}

/// The high bit of each of the seven tags of `word` that equals `tag`. A tag above a match that differs in the lowest bit
/// alone may be named too, which costs a look at a key and nothing else.
#[inline(always)]
pub(super) fn equal(word: u64, tag: u8) -> u64 {
    const ONES: u64 = 0x0001_0101_0101_0101;
    let difference = (word ^ (u64::from(tag) * ONES)) & TAGS;
    difference.wrapping_sub(ONES) & !difference & (ONES << 7)
}

/// A bit for each of a burst's hashes of which some slot may hold a key, by the tag words of their buckets.
#[inline(always)]
pub(super) fn wanted(hashes: &[u64], words: &[u64]) -> u64 {
    let may_hold = |(&hash, &word): (&u64, &u64)| equal(word, of(hash)) != 0 || goes_on(word, hash);
    let all = hashes.iter().zip(words).map(may_hold);
    // Without a branch, because it cannot be foretold.
    all.enumerate().fold(0, |wanted, (place, may_hold)| wanted | u64::from(may_hold) << (place % 64))
}

/// The same, four at a time.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn wanted_together(hashes: &[u64], words: &[u64]) -> u64 {
    use std::arch::x86_64::{
        __m256i, _mm256_and_si256, _mm256_castsi256_pd, _mm256_cmpeq_epi8, _mm256_cmpeq_epi64, _mm256_loadu_si256,
        _mm256_max_epu8, _mm256_movemask_pd, _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi64x, _mm256_setr_epi8,
        _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sllv_epi64, _mm256_srli_epi64,
    };
    /// Hashes that one vector holds.
    const GROUP: usize = 4;
    let load = |four: &[u64; GROUP]| -> __m256i {
        // SAFETY: four words are 32 bytes, and the load asks for no alignment.
        unsafe { _mm256_loadu_si256(four.as_ptr().cast()) }
    };
    let all = |word: u64| _mm256_set1_epi64x(word.cast_signed());
    let lowest = _mm256_setr_epi8(
        0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8,
    );
    let (hash_groups, hashes_left) = hashes.as_chunks::<GROUP>();
    let (word_groups, words_left) = words.as_chunks::<GROUP>();
    let mut found = 0;
    for (number, (hash, word)) in hash_groups.iter().zip(word_groups).enumerate() {
        let (hash, word) = (load(hash), load(word));
        let tag = _mm256_max_epu8(_mm256_shuffle_epi8(hash, lowest), _mm256_set1_epi8(TAG_MIN.cast_signed()));
        let is_tag = _mm256_and_si256(_mm256_cmpeq_epi8(word, tag), all(TAGS));
        let bit = _mm256_and_si256(_mm256_srli_epi64::<8>(hash), all(7));
        let is_passed = _mm256_and_si256(word, _mm256_sllv_epi64(all(1 << PASSED_SHIFT), bit));
        let is_none = _mm256_cmpeq_epi64(_mm256_or_si256(is_tag, is_passed), _mm256_setzero_si256());
        let none = _mm256_movemask_pd(_mm256_castsi256_pd(is_none)) as u64;
        found |= (none ^ 0xf) << (number * GROUP % 64);
    }
    found | wanted(hashes_left, words_left).checked_shl((hash_groups.len() * GROUP) as u32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[cfg(target_arch = "x86_64")]
    proptest! {
        #[test]
        fn together_they_say_what_they_say_one_by_one(
            all in proptest::collection::vec((any::<u64>(), any::<u64>(), 0usize..12), 0..64),
        ) {
            if !std::arch::is_x86_feature_detected!("avx2") {
                return Ok(());
            }
            // Of some the tag stands in the word, or their bit is set, or nothing but that.
            let pair = |(hash, word, what): (u64, u64, usize)| match what {
                place @ 0..7 => (hash, word & !(0xff << (place * 8)) | u64::from(of(hash)) << (place * 8)),
                7 => (hash, word | 1 << (PASSED_SHIFT + passed_bit(hash))),
                8 => (hash & !0xff, word & 0x0000_0101_0100_0100),
                9 => (hash, 0),
                _ => (hash, word),
            };
            let (hashes, words): (Vec<u64>, Vec<u64>) = all.into_iter().map(pair).unzip();
            // SAFETY: it was just asked whether the processor has it.
            let together = unsafe { wanted_together(&hashes, &words) };
            let alone = wanted(&hashes, &words);
            prop_assert_eq!(together & !alone, 0, "only what one by one is named, too");
            for (place, (&hash, &word)) in hashes.iter().zip(&words).enumerate() {
                let bytes = word.to_le_bytes();
                let is_tag = bytes[..BUCKET_SLOTS].contains(&of(hash));
                prop_assert_eq!(together >> place & 1 != 0, is_tag || goes_on(word, hash));
            }
        }
    }
}
