//! The tag word of a bucket, which tells of seven slots whether they may hold a key of some hash.
//!
//! It has a byte of the hash for each slot (0: empty) and a byte for the cells that would be here had there been room:
//! three bits of a hash name one of its bits, and a probe goes on to the next bucket only where its bit is set.

/// Slots of a bucket.
pub(super) const BUCKET_SLOTS: usize = 7;
/// The tags of a word, without the bits above.
pub(super) const TAGS: u64 = 0x00ff_ffff_ffff_ffff;
/// Above its tags a word has eight bits for cells that were passed on.
pub(super) const PASSED_SHIFT: u32 = 56;
/// The least tag of a cell. 0 is an empty slot, whose old key must never be taken for one that is there, and [`equal`] may
/// take a tag for another that differs in the lowest bit alone.
pub(super) const TAG_MIN: u8 = 2;

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

/// Whether a slot of a bucket with this tag word, or of one behind it, may hold a key of this hash.
#[inline(always)]
pub(super) fn may_hold(word: u64, hash: u64) -> bool {
    equal(word, of(hash)) != 0 || goes_on(word, hash)
}
