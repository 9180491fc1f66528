//! The next table of a family, filled a little at a time beside the present one, so that no change has to wait until a
//! million cells are moved.
//!
//! Workers read the present table until the next one holds all that it holds; what changes meanwhile is changed in
//! both. The present table goes on filling while the next one is made: there is room in it for a tenth more cells, and
//! each change copies far more than it adds.

use super::key::Key;
use super::slots::Slots;
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
                // What was changed since copying began may be there already.
                if self.slots.find(placed.hash, key, meta.shape()).is_none() {
                    if self.slots.link(placed.hash, key, meta).is_none() {
                        return Progress::TooSmall;
                    }
                    if let Some((hash, bits)) = placed.mark {
                        self.slots.mark(hash, bits);
                    }
                }
            }
        }
        self.copied = end;
        if end == present.buckets() { Progress::Complete } else { Progress::Copying }
    }
}
