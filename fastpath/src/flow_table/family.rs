//! The writer's work on the cells of one family.
//!
//! Every cell that a batch touches gets a new version; the one before is retired with the batch's epoch. Where the
//! slots are too few or a shape is new, a new index is made first, which says the same as the one before.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use vinet_trusted::addr::Prefix;

use super::cells::{Act, Cells, Chain, Entry, Index, NONE, ProgramRef, SHAPES_MAX, Secret, Shape, Slots};
use super::key::{self, Key};
use super::program::{InstallId, Installed, ProgramCell};
use super::writer::{CHAIN_LEN_MAX, InstallError, RetiredEntry};
use crate::publication::{Passed, Publish, Retired};
use crate::region::NoMemory;

/// Stale cells that no rebuild is made for.
const STALE_MIN: usize = 4096;

/// What the writer of one family keeps.
pub(super) struct FamilyWriter<K: Key> {
    /// The shapes in use, each with its count of linked cells.
    shapes: Vec<Shape<K>>,
    slots: Arc<Slots>,
    /// Entries that can be written again.
    free: Vec<u32>,
    /// The first entry that was never used.
    next: u32,
    cells_max: u32,
    /// Cells linked, tombstones included.
    linked: usize,
    /// Cells unlinked since the front was made: their bits may still be set.
    stale: usize,
    /// Replaced indexes.
    indexes: VecDeque<Retired<Index<K>>>,
}

/// What a batch makes of one cell.
pub(super) struct Pending<K> {
    key: K,
    src: Prefix,
    dst: Prefix,
    chain: Chain,
}

pub(super) type PendingCells<K> = HashMap<(K, u8, u8), Pending<K>>;

/// A new version of a cell, linked, and the version before.
pub(super) struct Done {
    index: u32,
    previous: u32,
}

impl<K: Key> FamilyWriter<K> {
    pub(super) fn new(cells: &Cells<K>, cells_max: u32, publish: &Publish<'_>) -> FamilyWriter<K> {
        let slots = cells.index().current(publish).slots().clone();
        FamilyWriter {
            shapes: Vec::new(),
            slots,
            free: Vec::new(),
            next: NONE + 1,
            cells_max,
            linked: 0,
            stale: 0,
            indexes: VecDeque::new(),
        }
    }

    fn shape(&self, src_len: u8, dst_len: u8) -> Option<&Shape<K>> {
        self.shapes.iter().find(|shape| shape.src_len == src_len && shape.dst_len == dst_len)
    }

    /// The newest entry of a cell.
    fn find(&self, cells: &Cells<K>, shape: &Shape<K>, key: K) -> Option<u32> {
        cells.find(&self.slots, shape.hash(key), key, shape.id)
    }

    /// The programs of a cell as they are now.
    fn chain(
        &self,
        cells: &Cells<K>,
        programs: &HashMap<InstallId, Arc<Installed>>,
        shape: &Shape<K>,
        key: K,
    ) -> Chain {
        let mut chain = Chain { verdicts: Vec::new(), runs: Vec::new() };
        let Some(entry) = self.find(cells, shape, key) else { return chain };
        match cells.entry(entry).act {
            Act::Nothing => {}
            Act::Discard { permit, id, .. } => {
                if let Some(program) = programs.get(&id) {
                    chain.verdicts.push((ProgramRef { id, installed: Arc::as_ptr(program) }, permit));
                }
            }
            Act::Chain(current) => {
                // SAFETY: the newest version of a linked cell is not retired, so its chain is not freed.
                let current = unsafe { &*current };
                chain.verdicts.extend_from_slice(&current.verdicts);
                chain.runs.extend_from_slice(&current.runs);
            }
        }
        chain
    }

    /// What the batch makes of a cell, starting from what it is.
    fn pending<'p>(
        &self,
        cells: &Cells<K>,
        programs: &HashMap<InstallId, Arc<Installed>>,
        pending: &'p mut PendingCells<K>,
        cell: ProgramCell,
    ) -> Option<&'p mut Pending<K>> {
        let key = key::of_cell::<K>(cell.src, cell.dst)?;
        Some(match pending.entry((key, cell.src.len(), cell.dst.len())) {
            MapEntry::Occupied(occupied) => occupied.into_mut(),
            MapEntry::Vacant(vacant) => {
                let chain = match self.shape(cell.src.len(), cell.dst.len()) {
                    Some(shape) => self.chain(cells, programs, shape, key),
                    None => Chain { verdicts: Vec::new(), runs: Vec::new() },
                };
                vacant.insert(Pending { key, src: cell.src, dst: cell.dst, chain })
            }
        })
    }

    pub(super) fn add(
        &self,
        cells: &Cells<K>,
        programs: &HashMap<InstallId, Arc<Installed>>,
        pending: &mut PendingCells<K>,
        cell: ProgramCell,
        program: ProgramRef,
    ) -> Result<(), InstallError> {
        let Some(pending) = self.pending(cells, programs, pending, cell) else { return Ok(()) };
        let chain = &mut pending.chain;
        if chain.verdicts.len() + chain.runs.len() >= CHAIN_LEN_MAX {
            return Err(InstallError::ChainFull { src: cell.src, dst: cell.dst });
        }
        match cell.verdict {
            Some(permit) => {
                if let Err(place) = chain.verdicts.binary_search_by_key(&program.id, |(other, _)| other.id) {
                    chain.verdicts.insert(place, (program, permit));
                }
            }
            None => {
                if let Err(place) = chain.runs.binary_search_by_key(&program.id, |other| other.id) {
                    chain.runs.insert(place, program);
                }
            }
        }
        Ok(())
    }

    pub(super) fn remove(
        &self,
        cells: &Cells<K>,
        programs: &HashMap<InstallId, Arc<Installed>>,
        pending: &mut PendingCells<K>,
        cell: ProgramCell,
        id: InstallId,
    ) {
        if let Some(pending) = self.pending(cells, programs, pending, cell) {
            pending.chain.verdicts.retain(|(program, _)| program.id != id);
            pending.chain.runs.retain(|program| program.id != id);
        }
    }

    /// Whether a batch keeps the bounds.
    pub(super) fn check(&self, pending: &PendingCells<K>) -> Result<(), InstallError> {
        let room = self.free.len() + (self.cells_max - self.next.min(self.cells_max)) as usize;
        if pending.len() > room {
            return Err(InstallError::TooManyCells { cells_max: self.cells_max });
        }
        let fresh: HashSet<(u8, u8)> = pending
            .values()
            .filter(|cell| !cell.chain.is_empty())
            .map(|cell| (cell.src.len(), cell.dst.len()))
            .filter(|&(src_len, dst_len)| self.shape(src_len, dst_len).is_none())
            .collect();
        let shapes = self.shapes.len() + fresh.len();
        if shapes > SHAPES_MAX {
            return Err(InstallError::TooManyShapes { shapes });
        }
        Ok(())
    }

    /// Links a new version of every cell of a batch. What was done is told even where it could not all be done.
    pub(super) fn change(
        &mut self,
        cells: &Cells<K>,
        pending: PendingCells<K>,
        publish: &mut Publish<'_>,
        secret: &Secret,
    ) -> (Vec<Done>, Result<(), NoMemory>) {
        let mut done = Vec::with_capacity(pending.len());
        let shapes = self.shapes.len();
        for cell in pending.values().filter(|cell| !cell.chain.is_empty()) {
            let (src_len, dst_len) = (cell.src.len(), cell.dst.len());
            if self.shape(src_len, dst_len).is_none() {
                // `check` saw that there are enough numbers.
                let taken = |id: &u8| self.shapes.iter().any(|shape| shape.id == *id);
                if let Some(id) = (0..SHAPES_MAX as u8).find(|id| !taken(id)) {
                    self.shapes.push(Shape::new(id, src_len, dst_len, secret));
                }
            }
        }
        if self.slots.is_crowded(self.linked + pending.len()) {
            if let Err(error) = self.rebuild(cells, self.linked + pending.len(), publish, secret) {
                self.shapes.truncate(shapes);
                return (done, Err(error));
            }
        } else if self.shapes.len() > shapes {
            self.replace_index(cells, publish, secret);
        }
        for cell in pending.into_values() {
            if let Err(error) = self.change_cell(cells, cell, publish, secret, &mut done) {
                return (done, Err(error));
            }
        }
        (done, Ok(()))
    }

    fn change_cell(
        &mut self,
        cells: &Cells<K>,
        cell: Pending<K>,
        publish: &mut Publish<'_>,
        secret: &Secret,
        done: &mut Vec<Done>,
    ) -> Result<(), NoMemory> {
        // No shape: the batch both installed and withdrew its only program. Nothing is there, nothing is to be.
        let Some(shape) = self.shape(cell.src.len(), cell.dst.len()).cloned() else { return Ok(()) };
        let hash = shape.hash(cell.key);
        let previous = self.find(cells, &shape, cell.key).unwrap_or(NONE);
        if cell.chain.is_empty() && previous == NONE {
            return Ok(());
        }
        let act = match (&cell.chain.verdicts[..], &cell.chain.runs[..]) {
            ([], []) => Act::Nothing,
            (&[(program, permit)], []) => {
                // SAFETY: the program is installed, or about to be: the writer's `programs` or its batch owns it.
                Act::Discard { program: unsafe { (*program.installed).slot }, permit, id: program.id }
            }
            _ => Act::Chain(Box::into_raw(Box::new(cell.chain))),
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        let entry = Entry { key: cell.key, birth: publish.epoch(), act, previous, shape: shape.id };
        // SAFETY: this is the only writer, and the index is new or was freed after all workers passed.
        unsafe { cells.write(index, entry) };
        if previous != NONE {
            self.slots.relink(hash, previous, index);
        } else {
            while !self.slots.link(hash, index) {
                if let Err(error) = self.rebuild(cells, self.linked * 2 + 1, publish, secret) {
                    self.free_entry(cells, index);
                    return Err(error);
                }
            }
            self.slots.mark(&shape, cell.key, secret);
            self.linked += 1;
            self.count_shape(shape.id, 1);
        }
        done.push(Done { index, previous });
        Ok(())
    }

    fn count_shape(&mut self, id: u8, change: isize) {
        if let Some(shape) = self.shapes.iter_mut().find(|shape| shape.id == id) {
            shape.cells = shape.cells.saturating_add_signed(change);
        }
    }

    /// Retires the versions before, and names the tombstones.
    pub(super) fn settle(
        &mut self,
        cells: &Cells<K>,
        done: Vec<Done>,
        target: u64,
        retired: &mut VecDeque<RetiredEntry>,
        v6: bool,
    ) {
        for Done { index, previous } in done {
            if previous != NONE {
                retired.push_back(RetiredEntry { target, v6, index: previous, tombstone: false });
            }
            if matches!(cells.entry(index).act, Act::Nothing) {
                retired.push_back(RetiredEntry { target, v6, index, tombstone: true });
            }
        }
    }

    /// Takes back versions that nobody has seen, because their epoch is not committed yet; but workers may look at
    /// them.
    pub(super) fn undo(
        &mut self,
        cells: &Cells<K>,
        done: Vec<Done>,
        target: u64,
        retired: &mut VecDeque<RetiredEntry>,
        v6: bool,
    ) {
        for Done { index, previous } in done.into_iter().rev() {
            if previous == NONE {
                self.unlink(cells, index);
            } else if let Some(hash) = self.hash_of(cells, index) {
                self.slots.relink(hash, index, previous);
            }
            retired.push_back(RetiredEntry { target, v6, index, tombstone: false });
        }
    }

    fn hash_of(&self, cells: &Cells<K>, index: u32) -> Option<u64> {
        let entry = cells.entry(index);
        Some(self.shapes.iter().find(|shape| shape.id == entry.shape)?.hash(entry.key))
    }

    /// Empties the slot of an entry; `false` where a newer version stands there.
    pub(super) fn unlink(&mut self, cells: &Cells<K>, index: u32) -> bool {
        let Some(hash) = self.hash_of(cells, index) else { return false };
        let was_linked = self.slots.unlink(hash, index);
        if was_linked {
            self.linked -= 1;
            self.stale += 1;
            self.count_shape(cells.entry(index).shape, -1);
        }
        was_linked
    }

    /// Makes an entry that nobody can reach free to be written again, and frees its chain.
    pub(super) fn free_entry(&mut self, cells: &Cells<K>, index: u32) {
        if let Some(chain) = cells.chain_of(index) {
            // SAFETY: it came from `Box::into_raw` for this entry alone, and nobody can reach the entry any more:
            // every worker has passed the epoch in which it was unlinked, or it never was linked.
            drop(unsafe { Box::from_raw(chain.cast_mut()) });
        }
        self.free.push(index);
    }

    /// Whether there are shapes without cells, or more bits in the front for cells that are gone than for those there.
    pub(super) fn is_wasteful(&self) -> bool {
        self.shapes.iter().any(|shape| shape.cells == 0) || self.stale > 2 * self.linked + STALE_MIN
    }

    /// Takes unused shapes out of the index, and makes the front anew where it is mostly stale.
    pub(super) fn tidy(&mut self, cells: &Cells<K>, publish: &mut Publish<'_>, secret: &Secret) {
        if !self.is_wasteful() {
            return;
        }
        self.shapes.retain(|shape| shape.cells > 0);
        if self.stale <= 2 * self.linked + STALE_MIN || self.rebuild(cells, self.linked, publish, secret).is_err() {
            self.replace_index(cells, publish, secret);
        }
    }

    /// Makes slots for so many cells, with all that are linked.
    fn rebuild(
        &mut self,
        cells: &Cells<K>,
        mut count: usize,
        publish: &mut Publish<'_>,
        secret: &Secret,
    ) -> Result<(), NoMemory> {
        let slots = 'sized: loop {
            let slots = Slots::for_cells(count)?;
            for index in self.slots.linked() {
                let entry = cells.entry(index);
                let Some(shape) = self.shapes.iter().find(|shape| shape.id == entry.shape) else { continue };
                if !slots.link(shape.hash(entry.key), index) {
                    count *= 2;
                    continue 'sized;
                }
                slots.mark(shape, entry.key, secret);
            }
            break slots;
        };
        self.slots = Arc::new(slots);
        self.stale = 0;
        self.replace_index(cells, publish, secret);
        Ok(())
    }

    fn replace_index(&mut self, cells: &Cells<K>, publish: &mut Publish<'_>, secret: &Secret) {
        let index = Index::new(self.shapes.clone(), self.slots.clone(), secret);
        self.indexes.push_back(cells.index().replace(Box::new(index), publish));
    }

    pub(super) fn free_indexes(&mut self, passed: Passed) {
        while let Some(oldest) = self.indexes.pop_front() {
            if let Err(oldest) = oldest.free(passed) {
                self.indexes.push_front(oldest);
                break;
            }
        }
    }

    pub(super) fn acting_on(
        &self,
        cells: &Cells<K>,
        pair: K,
        verdicts: &mut Vec<InstallId>,
        runs: &mut Vec<InstallId>,
    ) {
        let mut shapes: Vec<&Shape<K>> = self.shapes.iter().collect();
        shapes.sort_by_key(|shape| shape.rank());
        for shape in shapes {
            let Some(entry) = self.find(cells, shape, shape.key(pair)) else { continue };
            match cells.entry(entry).act {
                Act::Nothing => {}
                Act::Discard { id, .. } => verdicts.push(id),
                Act::Chain(chain) => {
                    // SAFETY: the newest version of a linked cell is not retired, so its chain is not freed.
                    let chain = unsafe { &*chain };
                    verdicts.extend(chain.verdicts.iter().map(|(program, _)| program.id));
                    runs.extend(chain.runs.iter().map(|program| program.id));
                }
            }
        }
    }

    /// Replaced indexes that wait for the workers.
    pub(super) fn retired(&self) -> usize {
        self.indexes.len()
    }

    pub(super) fn bytes(&self, cells: &Cells<K>) -> usize {
        self.slots.bytes() + self.next as usize * cells.entry_bytes()
    }
}
