//! The slots of one family: an open-addressed hash table from keys to [`Meta`] words that one writer changes while
//! workers read, made of atomics alone.
//!
//! A bucket is a *tag word* ([`tags`]) and seven slots. A probe goes on to the next bucket only where the word says so,
//! which is rare. Tag words stand together, eight to a cache line and nearest buckets beside each other, so that they are
//! the compact filter: a packet that no cell wants is turned away by one word of them (2 bytes a cell; 1 in 60 is a
//! chance match and costs a look at a key), and a packet that a cell wants costs one line more. Slots are in place:
//! no pointer is followed from bucket to key.
//!
//! A slot may be used again for another cell as soon as every worker has passed the version that deleted the cell
//! before: whoever reads it in between reads a word of a version younger than what it has seen, which sends it to the
//! version before, which is nothing. So a mixture of two cells is read as the answer for both, which is none.
//!
//! The *front* is one byte for each hash of a masked destination, with a bit for every shape that some cell to such a
//! destination has; who has several shapes for one length of destination asks it first.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::act::Meta;
use super::key::Key;
use super::tags::{self, BUCKET_SLOTS, PASSED_SHIFT, passed_bit};
use crate::region::{NoMemory, Region, Zeroed};

/// Buckets that a probe looks at, at most. An entry that does not fit in so many makes the table grow; at the load
/// below that does not happen by chance.
pub(super) const PROBE_BUCKETS_MAX: usize = 32;
/// Buckets of the smallest table.
const BUCKETS_MIN: usize = 64;
/// Cells for two buckets in a new table, on average.
const LOAD_NEW: usize = 7;
/// Cells for two buckets from which on the table grows, a little with each change.
const LOAD_GROWING: usize = 10;
/// Cells for two buckets above which it grows at once.
const LOAD_MAX: usize = 11;
/// Bytes of the front for each bucket: at least two for each cell.
const FRONT_BYTES: usize = 12;

/// A key and what is done about it.
#[repr(C)]
struct Slot<K: Key> {
    key: K::Room,
    meta: AtomicU64,
}

// SAFETY: atomics of zero, which are numbers; `Room` is `Zeroed` itself.
unsafe impl<K: Key> Zeroed for Slot<K> {}

/// The buckets and the front.
pub(super) struct Slots<K: Key> {
    tags: Region<AtomicU64>,
    slots: Region<Slot<K>>,
    /// The writer's own: for each bucket and each of its bits the cells that were passed on, a byte each.
    passed: Region<AtomicU64>,
    front: Region<AtomicU8>,
}

/// `hash`'s place among `len` places.
#[inline(always)]
fn place(hash: u64, len: usize) -> usize {
    // The product is below `len << 32`, which fits: no region has 2^32 places.
    ((hash >> 32).wrapping_mul(len as u64) >> 32) as usize
}

#[inline(always)]
pub(super) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that a program could notice, and SSE is part of x86_64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// The tag words of all buckets.
#[derive(Clone, Copy)]
pub(super) struct TagWords<'s>(pub(super) &'s [AtomicU64]);

impl TagWords<'_> {
    /// The buckets.
    #[inline(always)]
    pub(super) fn len(self) -> usize {
        self.0.len()
    }
    /// The bucket of a hash, where its cell is unless there was no room.
    #[inline(always)]
    pub(super) fn home(self, hash: u64) -> usize {
        place(hash, self.0.len())
    }

    /// Fetches the tag word of a bucket.
    #[inline(always)]
    pub(super) fn prefetch(self, bucket: usize) {
        prefetch(&self.0[bucket]);
    }

    /// The tag word of a bucket. Acquire pairs with the release of `set_tag`: whoever sees a tag sees the slot.
    #[inline(always)]
    pub(super) fn word(self, bucket: usize) -> u64 {
        self.0[bucket].load(Ordering::Acquire)
    }
}

/// The readers' side.
impl<K: Key> Slots<K> {
    /// What a look-up begins with.
    #[inline(always)]
    pub(super) fn tag_words(&self) -> TagWords<'_> {
        TagWords(&self.tags)
    }

    /// The first slot of a bucket with this tag word that may hold a key of this hash (any number where none may), whether
    /// there is one, and whether there may be others: then [`Slots::matches`] names all.
    #[inline(always)]
    pub(super) fn first_match(bucket: usize, word: u64, hash: u64) -> (usize, bool, bool) {
        let equal = tags::equal(word, tags::of(hash));
        let slot = bucket * BUCKET_SLOTS + equal.trailing_zeros() as usize / 8;
        (slot, equal != 0, (equal & equal.wrapping_sub(1) != 0) | tags::goes_on(word, hash))
    }

    /// Gives the numbers of all slots that may hold a key of this hash to `visit`.
    #[inline]
    pub(super) fn matches(&self, hash: u64, mut visit: impl FnMut(usize)) {
        let words = self.tag_words();
        let mut bucket = words.home(hash);
        for _ in 0..PROBE_BUCKETS_MAX {
            let word = words.word(bucket);
            let mut equal = tags::equal(word, tags::of(hash));
            while equal != 0 {
                visit(bucket * BUCKET_SLOTS + equal.trailing_zeros() as usize / 8);
                equal &= equal - 1;
            }
            if !tags::goes_on(word, hash) {
                return;
            }
            bucket = self.next(bucket);
        }
    }

    #[inline(always)]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.tags.len() { 0 } else { bucket + 1 }
    }

    /// Fetches a slot.
    #[inline(always)]
    pub(super) fn prefetch_slot(&self, slot: usize) {
        let slot = &self.slots[slot];
        prefetch(slot);
        if 64 % size_of::<Slot<K>>() != 0 {
            // It may lie across two lines.
            prefetch(&slot.meta);
        }
    }

    #[inline(always)]
    pub(super) fn key(&self, slot: usize) -> K {
        K::load(&self.slots[slot].key)
    }

    /// Acquire: the version that the word leads to is seen with it.
    #[inline(always)]
    pub(super) fn meta(&self, slot: usize) -> Meta {
        Meta::from_bits(self.slots[slot].meta.load(Ordering::Acquire))
    }

    /// Both at once: the key first, so that what the word leads to is of that key or a later one.
    #[inline(always)]
    pub(super) fn key_and_meta(&self, slot: usize) -> (K, Meta) {
        let Slot { key, meta } = &self.slots[slot];
        (K::load(key), Meta::from_bits(meta.load(Ordering::Acquire)))
    }

    /// The slot of a cell.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: K, shape: u8) -> Option<usize> {
        let mut found = None;
        self.matches(hash, |slot| {
            if self.key(slot) == key && self.meta(slot).shape() == shape {
                found = Some(slot);
            }
        });
        found
    }

    /// Fetches the front's byte for a destination's hash.
    #[inline(always)]
    pub(super) fn prefetch_front(&self, hash: u64) {
        prefetch(&self.front[place(hash, self.front.len())]);
    }

    /// The front's bits for a destination's hash.
    #[inline(always)]
    pub(super) fn front(&self, hash: u64) -> u8 {
        // Relaxed: a bit of a cell of an epoch that this worker sees was stored before the epoch was.
        self.front[place(hash, self.front.len())].load(Ordering::Relaxed)
    }
}

/// The writer's side: it is alone, so it reads what it wrote.
impl<K: Key> Slots<K> {
    /// Empty slots for so many cells.
    pub(super) fn for_cells(cells: usize) -> Result<Slots<K>, NoMemory> {
        let buckets = (cells * 2 / LOAD_NEW + 1).max(BUCKETS_MIN);
        if buckets > u32::MAX as usize / FRONT_BYTES {
            return Err(NoMemory { bytes: usize::MAX });
        }
        Ok(Slots {
            tags: Region::new(buckets)?,
            slots: Region::new(buckets * BUCKET_SLOTS)?,
            passed: Region::new(buckets)?,
            front: Region::new(buckets * FRONT_BYTES)?,
        })
    }

    pub(super) fn buckets(&self) -> usize {
        self.tags.len()
    }
    /// Whether so many cells are enough for a larger table to be begun.
    pub(super) fn is_crowded(&self, cells: usize) -> bool {
        cells * 2 > self.tags.len() * LOAD_GROWING
    }
    /// Whether so many cells are too many.
    pub(super) fn is_full(&self, cells: usize) -> bool {
        cells * 2 > self.tags.len() * LOAD_MAX
    }

    fn set_tag(&self, slot: usize, tag: u8) {
        let word = &self.tags[slot / BUCKET_SLOTS];
        let shift = slot % BUCKET_SLOTS * 8;
        // Only the writer stores tags, so this is no lost update. Release: whoever sees the tag sees the slot.
        let tags = word.load(Ordering::Relaxed) & !(0xff << shift) | u64::from(tag) << shift;
        word.store(tags, Ordering::Release);
    }

    /// Counts a cell of this hash that is not in these buckets although it is at home there, or before. A count that
    /// reached its most stays there: probes then go on for nothing until the table is made anew.
    fn count_passed(&self, hash: u64, steps: usize, change: i8) {
        let mut bucket = self.tag_words().home(hash);
        let (bit, shift) = (1 << (PASSED_SHIFT + passed_bit(hash)), passed_bit(hash) * 8);
        for _ in 0..steps {
            let counts = self.passed[bucket].load(Ordering::Relaxed);
            let count = (counts >> shift) as u8;
            let count = if count == u8::MAX { count } else { count.saturating_add_signed(change) };
            self.passed[bucket].store(counts & !(0xff << shift) | u64::from(count) << shift, Ordering::Relaxed);
            let word = self.tags[bucket].load(Ordering::Relaxed);
            let word = if count == 0 { word & !bit } else { word | bit };
            // Release: it is set before the tag that it leads to.
            self.tags[bucket].store(word, Ordering::Release);
            bucket = self.next(bucket);
        }
    }

    /// Links a cell that is not there. `None` where its buckets are full and the table must grow.
    pub(super) fn link(&self, hash: u64, key: K, meta: Meta) -> Option<usize> {
        let mut bucket = self.tag_words().home(hash);
        for step in 0..PROBE_BUCKETS_MAX {
            let empty = tags::equal(self.tags[bucket].load(Ordering::Relaxed), 0);
            if empty != 0 {
                // The lowest is never named wrongly.
                let slot = bucket * BUCKET_SLOTS + empty.trailing_zeros() as usize / 8;
                self.count_passed(hash, step, 1);
                self.set_meta(slot, meta);
                key.store(&self.slots[slot].key);
                self.set_tag(slot, tags::of(hash));
                return Some(slot);
            }
            bucket = self.next(bucket);
        }
        None
    }

    /// Says something else of a cell. Release pairs with the acquire in `meta`.
    pub(super) fn set_meta(&self, slot: usize, meta: Meta) {
        self.slots[slot].meta.store(meta.bits(), Ordering::Release);
    }

    /// Empties a slot that holds a cell of this hash.
    pub(super) fn unlink(&self, hash: u64, slot: usize) {
        self.set_tag(slot, 0);
        self.set_meta(slot, Meta::from_bits(0));
        let home = self.tag_words().home(hash);
        let bucket = slot / BUCKET_SLOTS;
        let steps = if bucket >= home { bucket - home } else { bucket + self.tags.len() - home };
        self.count_passed(hash, steps, -1);
    }

    /// The slots of a bucket that hold something.
    pub(super) fn linked_in(&self, bucket: usize) -> impl Iterator<Item = usize> + '_ {
        let word = self.tags[bucket].load(Ordering::Relaxed);
        (0..BUCKET_SLOTS)
            .filter(move |slot| word >> (slot * 8) & 0xff != 0)
            .map(move |slot| bucket * BUCKET_SLOTS + slot)
    }

    /// Sets bits for a destination's hash in the front.
    pub(super) fn mark(&self, hash: u64, bits: u8) {
        self.front[place(hash, self.front.len())].fetch_or(bits, Ordering::Relaxed);
    }

    /// The bytes of buckets, and of the front where it is in use.
    pub(super) fn bytes(&self, is_front_in_use: bool) -> usize {
        self.tags.bytes()
            + self.slots.bytes()
            + self.passed.bytes()
            + if is_front_in_use { self.front.bytes() } else { 0 }
    }

    /// How many buckets a probe of this hash looks at.
    #[cfg(test)]
    pub(super) fn probe_len(&self, hash: u64) -> usize {
        let mut bucket = self.tag_words().home(hash);
        for step in 1..PROBE_BUCKETS_MAX {
            if !tags::goes_on(self.tags[bucket].load(Ordering::Relaxed), hash) {
                return step;
            }
            bucket = self.next(bucket);
        }
        PROBE_BUCKETS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_equal_tag_is_named_and_no_unequal_one_below_it() {
        for word in [0u64, 0x0101_0101_0101_0101, 0xff00_0102_0304_0506, 0x0501_0001_ff80_7f01] {
            for tag in 0..=255u8 {
                let equal = tags::equal(word, tag);
                let first = (0..BUCKET_SLOTS).find(|slot| (word >> (slot * 8)) as u8 == tag);
                assert_eq!((equal != 0).then(|| equal.trailing_zeros() as usize / 8), first, "{word:x} {tag}");
                for slot in (0..BUCKET_SLOTS).filter(|slot| (word >> (slot * 8)) as u8 == tag) {
                    assert_ne!(equal >> (slot * 8 + 7) & 1, 0, "{word:x} {tag}: every equal one is named");
                }
                for slot in (0..BUCKET_SLOTS).filter(|_| tag >= 2) {
                    let is_empty = (word >> (slot * 8)) as u8 == 0;
                    assert!(!is_empty || equal >> (slot * 8 + 7) & 1 == 0, "{word:x} {tag}: no empty one is named");
                }
            }
        }
    }
}
