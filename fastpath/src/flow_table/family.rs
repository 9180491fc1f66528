//! The writer's work on the cells of one family.
//!
//! Every cell that a batch touches gets a new word, and a version that leads to the word before; when all workers have
//! passed the batch's epoch the word is settled (it leads to no version any more), and the slot of a deleted cell is
//! emptied. New cells are linked first, as cells that do nothing, so that whatever can fail fails before anything is
//! said. Where the slots are too few, the next table is made beside them ([`Growth`]).

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use vinet_trusted::addr::Prefix;

use super::act::{Act, ActKind, Meta, NO_VERSION, VERSION_INDEX_MAX};
use super::cells::{Cells, Chain, Index, ProgramRef, SHAPES_MAX, Shape};
use super::growth::{Growth, Placed, Progress};
use super::key::{self, Key};
use super::program::{InstallId, ProgramCell, Programs};
use super::slots::Slots;
use super::writer::{CHAIN_LEN_MAX, InstallError};
use crate::publication::{Passed, Publish, Retired};
use crate::region::NoMemory;

/// Cells whose marks may be stale in the front before it is made anew, however few are there.
const STALE_MIN: usize = 4096;
/// Buckets that a change copies to the next table, beyond two for each cell that it touches.
const COPIED_PER_CHANGE: usize = 32;
/// Buckets that a tick copies to the next table: about 100 µs.
const COPIED_PER_TICK: usize = 1024;
/// Tables of fewer buckets are not made smaller.
const SHRUNK_BUCKETS_MIN: usize = 1024;

/// What the writer of one family keeps.
pub(super) struct FamilyWriter<K: Key> {
    /// The shapes in use, by number, each with its count of linked cells.
    shapes: Vec<Option<Shape<K>>>,
    /// What workers read.
    slots: Arc<Slots<K>>,
    growth: Option<Growth<K>>,
    /// Whether what workers find cells with must be made anew: shapes or slots are others.
    is_index_old: bool,
    free_versions: Vec<u32>,
    /// Versions from here on were never used.
    next_version: u32,
    free_chains: Vec<u32>,
    next_chain: u32,
    cells_max: u32,
    /// Cells linked, deleted ones included that workers may still see.
    linked: usize,
    /// Those of them that are marked in the front.
    marked: usize,
    /// Marked cells unlinked since the front was made: their bits may still be set.
    stale: usize,
    /// Replaced indexes.
    indexes: VecDeque<Retired<Index<K>>>,
    /// Tables that were filled in one change.
    #[cfg(test)]
    pub(super) grown_at_once: usize,
}

/// What a batch makes of one cell.
pub(super) struct Pending<K> {
    key: K,
    src: Prefix,
    dst: Prefix,
    /// Whether it is linked already.
    is_linked: bool,
    chain: Chain,
}

pub(super) type PendingCells<K> = HashMap<(K, u8, u8), Pending<K>>;

/// Something replaced that waits for the workers to pass.
#[derive(Clone, Copy)]
pub(super) enum Replaced {
    /// The word of a cell of this hash that leads to this version can be settled.
    Word { hash: u64, version: u32 },
    /// A version that no word leads to any more.
    Version(u32),
    /// A chain that was the act before.
    Chain(u32),
}

impl<K: Key> FamilyWriter<K> {
    pub(super) fn new(cells: &Cells<K>, cells_max: u32, publish: &Publish<'_>) -> FamilyWriter<K> {
        FamilyWriter {
            shapes: vec![None; SHAPES_MAX],
            slots: cells.index().current(publish).slots().clone(),
            growth: None,
            is_index_old: false,
            free_versions: Vec::new(),
            next_version: NO_VERSION + 1,
            free_chains: Vec::new(),
            next_chain: 0,
            cells_max,
            linked: 0,
            marked: 0,
            stale: 0,
            indexes: VecDeque::new(),
            #[cfg(test)]
            grown_at_once: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn buckets(&self) -> usize {
        self.slots.buckets()
    }

    fn shape(&self, src_len: u8, dst_len: u8) -> Option<&Shape<K>> {
        self.shapes.iter().flatten().find(|shape| shape.src_len == src_len && shape.dst_len == dst_len)
    }

    /// The slot of a cell.
    fn find(&self, cells: &Cells<K>, shape: &Shape<K>, key: K) -> Option<usize> {
        self.slots.find(shape.hash(key, cells.hasher()), key, shape.id)
    }

    /// An act as the programs it stands for.
    fn chain(cells: &Cells<K>, programs: &Programs, act: Act) -> Chain {
        match act.kind() {
            ActKind::Nothing => Chain::default(),
            ActKind::Discard(slot) => Chain { verdicts: vec![(programs.reference(slot), act)], runs: Vec::new() },
            ActKind::Run(slot) => Chain { verdicts: Vec::new(), runs: vec![programs.reference(slot)] },
            ActKind::Chain(index) => cells.chain(index).clone(),
        }
    }

    /// What the batch makes of a cell, starting from what it is.
    fn pending<'p>(
        &self,
        cells: &Cells<K>,
        programs: &Programs,
        pending: &'p mut PendingCells<K>,
        cell: ProgramCell,
    ) -> Option<&'p mut Pending<K>> {
        let key = key::of_cell::<K>(cell.src, cell.dst)?;
        Some(match pending.entry((key, cell.src.len(), cell.dst.len())) {
            MapEntry::Occupied(occupied) => occupied.into_mut(),
            MapEntry::Vacant(vacant) => {
                let slot = self.shape(cell.src.len(), cell.dst.len()).and_then(|shape| self.find(cells, shape, key));
                let chain =
                    slot.map_or(Chain::default(), |slot| Self::chain(cells, programs, self.slots.meta(slot).act()));
                vacant.insert(Pending { key, src: cell.src, dst: cell.dst, is_linked: slot.is_some(), chain })
            }
        })
    }

    pub(super) fn add(
        &self,
        cells: &Cells<K>,
        programs: &Programs,
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
                    chain.verdicts.insert(place, (program, Act::discard(program.slot, permit)));
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
        programs: &Programs,
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
    pub(super) fn check(&self, pending: &PendingCells<K>, retired: usize) -> Result<(), InstallError> {
        let fresh = pending.values().filter(|cell| !cell.is_linked && !cell.chain.is_empty());
        if self.linked + fresh.clone().count() > self.cells_max as usize {
            return Err(InstallError::TooManyCells { cells_max: self.cells_max });
        }
        let versions_max = self.cells_max.min(VERSION_INDEX_MAX);
        if pending.len() > self.free_versions.len() + (versions_max + 1 - self.next_version) as usize {
            return Err(InstallError::RetiredFull { retired });
        }
        let mut new: Vec<(u8, u8)> = fresh
            .map(|cell| (cell.src.len(), cell.dst.len()))
            .filter(|&(src_len, dst_len)| self.shape(src_len, dst_len).is_none())
            .collect();
        new.sort_unstable();
        new.dedup();
        let shapes = self.shapes.iter().flatten().count() + new.len();
        if shapes > SHAPES_MAX {
            return Err(InstallError::TooManyShapes { shapes });
        }
        Ok(())
    }

    /// Makes room for every cell of a batch that is not linked yet, and links it as one that does nothing. After an
    /// error comes [`FamilyWriter::abandon`], in the same publication.
    pub(super) fn prepare(&mut self, cells: &Cells<K>, pending: &PendingCells<K>) -> Result<(), NoMemory> {
        let fresh = || pending.values().filter(|cell| !cell.is_linked && !cell.chain.is_empty());
        for cell in fresh() {
            let (src_len, dst_len) = (cell.src.len(), cell.dst.len());
            // `check` saw that there are enough numbers.
            if self.shape(src_len, dst_len).is_none()
                && let Some(id) = self.shapes.iter().position(Option::is_none)
            {
                self.shapes[id] = Some(Shape::new(id as u8, src_len, dst_len, cells.hasher()));
                self.is_index_old = true;
            }
        }
        let count = self.linked + fresh().count();
        let mut result = Ok(());
        if self.slots.is_full(count) {
            result = self.grow_now(cells, count);
        } else if self.growth.is_none() && self.slots.is_crowded(count) {
            // Where there is no memory for it now, there may be later.
            self.growth = Growth::begin(count).ok();
        }
        for cell in fresh() {
            result = result.and_then(|()| self.link(cells, cell));
        }
        result
    }

    /// Takes back what [`FamilyWriter::prepare`] linked. Tables that it made stay.
    pub(super) fn abandon(&mut self, cells: &Cells<K>, pending: &PendingCells<K>, publish: &mut Publish<'_>) {
        for cell in pending.values().filter(|cell| !cell.is_linked) {
            if let Some(shape) = self.shape(cell.src.len(), cell.dst.len()) {
                let (id, hash) = (shape.id, shape.hash(cell.key, cells.hasher()));
                self.unlink(hash, cell.key, id);
            }
        }
        self.replace_index(cells, publish);
    }

    /// Links a cell that does nothing.
    fn link(&mut self, cells: &Cells<K>, cell: &Pending<K>) -> Result<(), NoMemory> {
        let Some(shape) = self.shape(cell.src.len(), cell.dst.len()) else { return Ok(()) };
        let (id, is_exact) = (usize::from(shape.id), shape.is_exact());
        let placed = placed(shape, cell.key, cells);
        let word = Meta::new(Act::NOTHING, shape.id, NO_VERSION);
        let slot = loop {
            match self.slots.link(placed.hash, cell.key, word) {
                Some(slot) => break slot,
                None => self.grow_now(cells, self.linked * 2 + 1)?,
            }
        };
        if let Some((hash, bits)) = placed.mark {
            self.slots.mark(hash, bits);
        }
        if let Some(growth) = &self.growth
            && growth.has_copied(slot)
        {
            // One that is too small is begun again, larger, when there are as many cells as that.
            if growth.slots().link(placed.hash, cell.key, word).is_none() {
                self.growth = None;
            } else if let Some((hash, bits)) = placed.mark {
                growth.slots().mark(hash, bits);
            }
        }
        self.linked += 1;
        self.marked += usize::from(!is_exact);
        if let Some(shape) = &mut self.shapes[id] {
            shape.cells += 1;
        }
        Ok(())
    }

    /// Empties the slot of a cell.
    fn unlink(&mut self, hash: u64, key: K, shape: u8) {
        let Some(slot) = self.slots.find(hash, key, shape) else { return };
        self.slots.unlink(hash, slot);
        self.count_unlinked(shape);
        if let Some(growth) = &self.growth
            && growth.has_copied(slot)
            && let Some(slot) = growth.slots().find(hash, key, shape)
        {
            growth.slots().unlink(hash, slot);
        }
    }

    fn count_unlinked(&mut self, shape: u8) {
        self.linked -= 1;
        if let Some(shape) = &mut self.shapes[usize::from(shape)] {
            shape.cells -= 1;
            if !shape.is_exact() {
                self.marked -= 1;
                self.stale += 1;
            }
        }
    }

    /// Says something new of every cell of a batch whose room is prepared, and gives what that replaces to `retire`.
    pub(super) fn change(
        &mut self,
        cells: &Cells<K>,
        pending: PendingCells<K>,
        publish: &mut Publish<'_>,
        mut retire: impl FnMut(Replaced),
    ) {
        let touched = pending.len();
        for cell in pending.into_values() {
            // No shape, no slot: a program's cell that is withdrawn and was never there. There is nothing to say.
            let Some(shape) = self.shape(cell.src.len(), cell.dst.len()) else { continue };
            let (id, hash) = (shape.id, shape.hash(cell.key, cells.hasher()));
            let Some(slot) = self.slots.find(hash, cell.key, id) else { continue };
            let before = self.slots.meta(slot);
            let act = match (&cell.chain.verdicts[..], &cell.chain.runs[..]) {
                ([], []) => Act::NOTHING,
                (&[(_, act)], []) => act,
                ([], [program]) => Act::run(program.slot),
                _ => {
                    let index = take(&mut self.free_chains, &mut self.next_chain);
                    cells.put_chain(index, cell.chain);
                    Act::chain(index)
                }
            };
            let version = take(&mut self.free_versions, &mut self.next_version);
            cells.put_version(version, publish.epoch(), before);
            let word = Meta::new(act, id, version);
            self.slots.set_meta(slot, word);
            if let Some(growth) = &self.growth
                && growth.has_copied(slot)
                && let Some(slot) = growth.slots().find(hash, cell.key, id)
            {
                growth.slots().set_meta(slot, word);
            }
            if let ActKind::Chain(index) = before.act().kind() {
                retire(Replaced::Chain(index));
            }
            retire(Replaced::Word { hash, version });
        }
        self.copy(cells, COPIED_PER_CHANGE + touched * 2);
        self.replace_index(cells, publish);
    }

    /// Ends what waited for the workers to pass; gives what waits once more to `retire`.
    pub(super) fn free(&mut self, cells: &Cells<K>, replaced: Replaced, mut retire: impl FnMut(Replaced)) {
        match replaced {
            Replaced::Word { hash, version } => {
                if let Some(shape) = settle(&self.slots, cells, hash, version) {
                    self.count_unlinked(shape);
                }
                if let Some(growth) = &self.growth {
                    settle(growth.slots(), cells, hash, version);
                }
                // Nobody needs it any more, but somebody may be looking at it.
                retire(Replaced::Version(version));
            }
            Replaced::Version(version) => self.free_versions.push(version),
            Replaced::Chain(index) => {
                cells.free_chain(index);
                self.free_chains.push(index);
            }
        }
    }

    /// Whether [`FamilyWriter::tidy`] has something to do.
    pub(super) fn is_untidy(&self) -> bool {
        self.is_index_old
            || self.growth.is_some()
            || self.is_wasteful()
            || self.shapes.iter().flatten().any(|shape| shape.cells == 0)
    }

    /// Whether the table is much too large, or its front has more bits for cells that are gone than for those there.
    fn is_wasteful(&self) -> bool {
        let buckets = self.slots.buckets();
        self.stale > 2 * self.marked + STALE_MIN || (buckets > SHRUNK_BUCKETS_MIN && self.linked < buckets)
    }

    /// Copies a little to the next table, begins one where the present one is wasteful, and takes shapes without cells
    /// out of the index.
    pub(super) fn tidy(&mut self, cells: &Cells<K>, publish: &mut Publish<'_>) {
        for shape in &mut self.shapes {
            if shape.as_ref().is_some_and(|shape| shape.cells == 0) {
                *shape = None;
                self.is_index_old = true;
            }
        }
        if self.growth.is_none() && self.is_wasteful() {
            self.growth = Growth::begin(self.linked).ok();
        }
        self.copy(cells, COPIED_PER_TICK);
        self.replace_index(cells, publish);
    }

    /// Copies so many buckets to the next table, if there is one under construction.
    fn copy(&mut self, cells: &Cells<K>, buckets: usize) {
        let Some(growth) = &mut self.growth else { return };
        let shapes = &self.shapes;
        let place = |key, id: u8| Some(placed(shapes[usize::from(id)].as_ref()?, key, cells));
        match growth.step(&self.slots, buckets, place) {
            Progress::Copying => {}
            Progress::TooSmall => self.growth = None,
            Progress::Complete => {
                if let Some(growth) = self.growth.take() {
                    self.take_slots(growth);
                }
            }
        }
    }

    fn take_slots(&mut self, complete: Growth<K>) {
        self.slots = Arc::new(complete.into_slots());
        self.stale = 0;
        self.is_index_old = true;
    }

    /// Makes a table for so many cells at once: the batch is so large that the present one does not hold it.
    fn grow_now(&mut self, cells: &Cells<K>, mut count: usize) -> Result<(), NoMemory> {
        let shapes = &self.shapes;
        let place = |key, id: u8| Some(placed(shapes[usize::from(id)].as_ref()?, key, cells));
        loop {
            let mut growth = Growth::begin(count)?;
            if growth.step(&self.slots, usize::MAX, place) == Progress::Complete {
                self.growth = None;
                self.take_slots(growth);
                #[cfg(test)]
                {
                    self.grown_at_once += 1;
                }
                return Ok(());
            }
            count *= 2;
        }
    }

    fn replace_index(&mut self, cells: &Cells<K>, publish: &mut Publish<'_>) {
        if std::mem::take(&mut self.is_index_old) {
            let shapes = self.shapes.iter().flatten().cloned().collect();
            let index = Index::new(shapes, self.slots.clone());
            self.indexes.push_back(cells.index().replace(Box::new(index), publish));
        }
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
        programs: &Programs,
        pair: K,
        verdicts: &mut Vec<InstallId>,
        runs: &mut Vec<InstallId>,
    ) {
        let mut shapes: Vec<&Shape<K>> = self.shapes.iter().flatten().collect();
        shapes.sort_by_key(|shape| shape.rank());
        for shape in shapes {
            if let Some(slot) = self.find(cells, shape, shape.key(pair)) {
                let chain = Self::chain(cells, programs, self.slots.meta(slot).act());
                verdicts.extend(chain.verdicts.iter().map(|(program, _)| program.id));
                runs.extend(chain.runs.iter().map(|program| program.id));
            }
        }
    }

    /// Replaced indexes that wait for the workers.
    pub(super) fn retired(&self) -> usize {
        self.indexes.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let growth = self.growth.as_ref().map_or(0, |growth| growth.slots().bytes(self.marked > 0));
        self.slots.bytes(self.marked > 0) + growth + Cells::<K>::beside_bytes(self.next_version, self.next_chain)
    }
}

/// Where a cell goes.
fn placed<K: Key>(shape: &Shape<K>, key: K, cells: &Cells<K>) -> Placed {
    let mark = (!shape.is_exact()).then(|| (shape.destination.hash(key, cells.hasher()), shape.front_bit()));
    Placed { hash: shape.hash(key, cells.hasher()), mark }
}

/// A number that is free.
fn take(free: &mut Vec<u32>, next: &mut u32) -> u32 {
    free.pop().unwrap_or_else(|| {
        *next += 1;
        *next - 1
    })
}

/// Makes the word that leads to a version, or the version that does, lead there no more. Where the version is the
/// newest and deleted the cell, its slot is emptied, and its shape is told.
fn settle<K: Key>(slots: &Slots<K>, cells: &Cells<K>, hash: u64, version: u32) -> Option<u8> {
    let mut found = None;
    slots.matches(hash, |slot| {
        let mut at = slots.meta(slot).version();
        let mut younger = NO_VERSION;
        while found.is_none() && at != NO_VERSION {
            if at == version {
                found = Some((slot, younger));
            }
            (younger, at) = (at, cells.before(at).version());
        }
    });
    let (slot, younger) = found?;
    let word = slots.meta(slot);
    if younger != NO_VERSION {
        cells.settle_before(younger);
    } else if word.act().is_nothing() {
        slots.unlink(hash, slot);
        return Some(word.shape());
    } else {
        slots.set_meta(slot, word.settled());
    }
    None
}
