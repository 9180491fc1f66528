//! The next table of a family, filled a little at a time beside the present one, so that no change has to wait until a
//! million cells are moved.
//!
//! Workers read the present table until the next one holds all that it holds; what changes meanwhile is changed in
//! both where it is copied already, and copied later elsewhere. So the next table is written from its beginning on, for
//! its buckets are in the same order: memory that nobody has touched yet, which a kernel clears 2 MiB at a time, is not
//! touched everywhere at once. The present table goes on filling while the next one is made: there is room in it for a
//! tenth more cells, and each change copies far more than it adds.

use super::key::Key;
use super::slots::Slots;
use super::tags::BUCKET_SLOTS;
use crate::region::NoMemory;

/// A table under construction.
pub(super) struct Growth<K: Key> {
    slots: Slots<K>,
    /// Buckets of the present table below this one are copied.
    copied: usize,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// There is more to copy.
    Copying,
    /// It holds all that the present one does.
    Complete,
    /// It is too small: a cell found no room.
    TooSmall,
}

/// What is needed of a cell to place it.
pub(super) struct Placed {
    pub(super) hash: u64,
    /// Its destination's hash and its bits in the front, for all but exact pairs.
    pub(super) mark: Option<(u64, u8)>,
}

impl<K: Key> Growth<K> {
    pub(super) fn begin(cells: usize) -> Result<Growth<K>, NoMemory> {
        Ok(Growth { slots: Slots::for_cells(cells)?, copied: 0 })
    }

    pub(super) fn slots(&self) -> &Slots<K> {
        &self.slots
    }

    /// Whether what this slot of the present table holds is copied, so that what changes there is to be changed here, too.
    pub(super) fn has_copied(&self, slot: usize) -> bool {
        slot / BUCKET_SLOTS < self.copied
    }

    /// The table, complete.
    pub(super) fn into_slots(self) -> Slots<K> {
        self.slots
    }

    /// Copies so many buckets of the present table; `place` tells where a cell of a shape goes.
    pub(super) fn step(
        &mut self,
        present: &Slots<K>,
        buckets: usize,
        place: impl Fn(K, u8) -> Option<Placed>,
    ) -> Progress {
        let end = present.buckets().min(self.copied.saturating_add(buckets));
        for bucket in self.copied..end {
            for slot in present.linked_in(bucket) {
                let (key, meta) = (present.key(slot), present.meta(slot));
                let Some(placed) = place(key, meta.shape()) else { continue };
                debug_assert!(self.slots.find(placed.hash, key, meta.shape()).is_none(), "nothing is copied twice");
                if self.slots.link(placed.hash, key, meta).is_none() {
                    return Progress::TooSmall;
                }
                if let Some((hash, bits)) = placed.mark {
                    self.slots.mark(hash, bits);
                }
            }
        }
        self.copied = end;
        if end == present.buckets() { Progress::Complete } else { Progress::Copying }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::flow_table::act::{Act, Meta, NO_VERSION};
    use crate::flow_table::key::V4;

    /// Any will do, if its high half is as good as its low one.
    fn hash(key: V4) -> u64 {
        let key = (key ^ key >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (key ^ key >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn keys_in(slots: &Slots<V4>) -> Vec<V4> {
        let mut keys: Vec<V4> =
            (0..slots.buckets()).flat_map(|bucket| slots.linked_in(bucket)).map(|slot| slots.key(slot)).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn what_comes_and_goes_while_it_is_copied_is_there_or_gone_in_the_end() {
        let word = Meta::new(Act::NOTHING, 0, NO_VERSION);
        for seed in 0..100u64 {
            let present = Slots::<V4>::for_cells(0).expect("memory");
            let mut growth = Growth::begin(1000).expect("memory");
            let mut there = HashSet::new();
            let mut next = seed << 32;
            let mut is_complete = false;
            while !is_complete {
                for _ in 0..if there.is_empty() { 200 } else { 6 } {
                    next += 1;
                    let slot = present.link(hash(next), next, word).expect("room");
                    if growth.has_copied(slot) {
                        growth.slots().link(hash(next), next, word).expect("room");
                    }
                    there.insert(next);
                }
                for gone in [next - 150, next - 3] {
                    let slot = present.find(hash(gone), gone, 0).filter(|_| there.remove(&gone));
                    let Some(slot) = slot else { continue };
                    present.unlink(hash(gone), slot);
                    let copy = growth.slots().find(hash(gone), gone, 0);
                    assert_eq!(copy.is_some(), growth.has_copied(slot), "seed {seed}");
                    copy.into_iter().for_each(|copy| growth.slots().unlink(hash(gone), copy));
                }
                let place = |key, _| Some(Placed { hash: hash(key), mark: None });
                is_complete = growth.step(&present, 3, place) == Progress::Complete;
            }
            let mut all: Vec<V4> = there.into_iter().collect();
            all.sort_unstable();
            assert_eq!(keys_in(&present), all, "seed {seed}");
            assert_eq!(keys_in(growth.slots()), all, "seed {seed}");
        }
    }
}
