//! The one writer of the flow table: installs, withdrawals, batches of both, and the freeing of what they replaced.
//!
//! A batch is worked out completely before anything is published (what each touched cell will say, how many entries
//! and shapes that takes), so that every refusal comes before the first change. The cost of one install of one cell
//! is a hash look-up, one entry and one epoch.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use vinet_trusted::addr::{Addr, Prefix};
use vinet_trusted::policy::OverBudget;

use super::FlowTable;
use super::cells::{Cells, ProgramRef, SHAPES_MAX, Secret};
use super::family::{FamilyWriter, PendingCells};
use super::key::{self, Key};
use super::program::{Body, Install, InstallId, Installed, ProgramCounters, ProgramCounts};
use crate::clock::Clock;
use crate::publication::{Domain, Epoch, Watch};
use crate::region::NoMemory;
use crate::settings::TableLimits;

/// The most cells of one program.
pub const CELLS_PER_PROGRAM_MAX: usize = 1 << 16;
/// The most programs in one cell.
pub const CHAIN_LEN_MAX: usize = 64;

/// Changes that workers see all at once.
#[derive(Default)]
pub struct Batch {
    changes: Vec<Change>,
}

enum Change {
    Install { id: InstallId, body: Body, packet_rate: u32, over_budget: OverBudget },
    Withdraw(InstallId),
}

impl Batch {
    /// No change.
    #[must_use]
    pub fn new() -> Batch {
        Batch::default()
    }
    /// Adds an installation.
    pub fn install(&mut self, install: Install) -> &mut Self {
        let Install { id, executable, packet_rate, over_budget } = install;
        self.changes.push(Change::Install { id, body: Body::Accepted(executable), packet_rate, over_budget });
        self
    }
    /// Adds a withdrawal.
    pub fn withdraw(&mut self, id: InstallId) -> &mut Self {
        self.changes.push(Change::Withdraw(id));
        self
    }
    #[cfg(test)]
    pub(super) fn install_body(&mut self, id: InstallId, body: Body) -> &mut Self {
        self.changes.push(Change::Install { id, body, packet_rate: 0, over_budget: OverBudget::Forward });
        self
    }
}

/// A withdrawn program that is gone from every worker, with its last counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Which it was.
    pub id: InstallId,
    /// What it did.
    pub counts: ProgramCounts,
}

/// Why a batch was refused. Nothing is changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallError {
    /// The name is in use, or was used before and is not gone yet.
    DuplicateProgram(InstallId),
    /// There is no such program.
    UnknownProgram(InstallId),
    /// No program more can be installed.
    TooManyPrograms {
        /// The bound.
        programs_max: u32,
    },
    /// One program has too many cells.
    ProgramTooWide {
        /// Which.
        id: InstallId,
        /// Its cells.
        cells: usize,
    },
    /// There is no room for so many cells.
    TooManyCells {
        /// The bound, for each family.
        cells_max: u32,
    },
    /// Too many pairs of prefix lengths would be in use in one family.
    TooManyShapes {
        /// How many there would be.
        shapes: usize,
    },
    /// Too many programs would meet in one cell.
    ChainFull {
        /// Its sources.
        src: Prefix,
        /// Its destinations.
        dst: Prefix,
    },
    /// Too much waits for the workers to pass; they have reported lately. Try again in a moment.
    RetiredFull {
        /// What waits.
        retired: usize,
    },
    /// Workers have been silent for a second: nothing can be freed, so nothing more is changed.
    WorkerStuck {
        /// Which.
        workers: Vec<usize>,
    },
    /// The machine's memory does not hold the table.
    NoMemory(NoMemory),
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InstallError::DuplicateProgram(id) => write!(f, "program {id} is installed already, or not gone yet"),
            InstallError::UnknownProgram(id) => write!(f, "there is no program {id}"),
            InstallError::TooManyPrograms { programs_max } => {
                write!(f, "{programs_max} programs are installed, and the table holds no more")
            }
            InstallError::ProgramTooWide { id, cells } => {
                write!(f, "program {id} has {cells} pairs of prefixes, of at most {CELLS_PER_PROGRAM_MAX}")
            }
            InstallError::TooManyCells { cells_max } => {
                write!(
                    f,
                    "the flow table holds {cells_max} pairs of prefixes in each family, and there is no room for more"
                )
            }
            InstallError::TooManyShapes { shapes } => {
                write!(
                    f,
                    "{shapes} pairs of prefix lengths would be in use, of at most {SHAPES_MAX}; use fewer lengths"
                )
            }
            InstallError::ChainFull { src, dst } => {
                write!(f, "{CHAIN_LEN_MAX} programs act on packets from {src} to {dst}, and no more can")
            }
            InstallError::RetiredFull { retired } => {
                write!(f, "{retired} replaced things wait for the workers to pass; try again in a moment")
            }
            InstallError::WorkerStuck { workers } => write!(f, "workers {workers:?} have not reported for a second"),
            InstallError::NoMemory(error) => error.fmt(f),
        }
    }
}
impl std::error::Error for InstallError {}

impl From<NoMemory> for InstallError {
    fn from(error: NoMemory) -> Self {
        InstallError::NoMemory(error)
    }
}

/// Why there is no table. The operator or the machine is at fault.
#[derive(Debug)]
pub enum StartError {
    /// The bounds are beyond the machine's memory.
    NoMemory(NoMemory),
    /// The system gave no random numbers for the secret.
    NoRandom(getrandom::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoMemory(error) => error.fmt(f),
            StartError::NoRandom(error) => write!(f, "no random numbers for the flow table's secret: {error}"),
        }
    }
}
impl std::error::Error for StartError {}

/// An entry that was replaced, or a tombstone that waits to be unlinked.
pub(super) struct RetiredEntry {
    pub(super) target: Epoch,
    pub(super) v6: bool,
    pub(super) index: u32,
    pub(super) tombstone: bool,
}

/// What is left when the writer goes before the workers: freed with the table.
#[derive(Default)]
pub(super) struct Left {
    pub(super) entries: Vec<(bool, u32)>,
    #[allow(dead_code, reason = "kept alive for the workers, freed by being dropped")]
    programs: Vec<Arc<Installed>>,
}

/// The one who changes the flow table. Not `Clone`.
pub struct TableWriter {
    domain: Domain,
    table: Arc<FlowTable>,
    limits: TableLimits,
    secret: Secret,
    watch: Watch,
    clock: Clock,
    v4: FamilyWriter<key::V4>,
    v6: FamilyWriter<key::V6>,
    programs: HashMap<InstallId, Arc<Installed>>,
    free_slots: Vec<u32>,
    next_slot: u32,
    entries: VecDeque<RetiredEntry>,
    leaving: VecDeque<(Epoch, Arc<Installed>)>,
    leaving_ids: HashSet<InstallId>,
    /// Programs that are gone and that nobody has asked for yet.
    finished: Vec<Finished>,
}

impl TableWriter {
    /// An empty table, its writer, and the workers' way to it.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn new(domain: Domain, limits: TableLimits) -> Result<(TableWriter, Arc<FlowTable>), StartError> {
        let secret = Secret::draw().map_err(StartError::NoRandom)?;
        let table = FlowTable {
            v4: Cells::new(&domain, limits.cells_max, &secret).map_err(StartError::NoMemory)?,
            v6: Cells::new(&domain, limits.cells_max, &secret).map_err(StartError::NoMemory)?,
            counters: ProgramCounters::new(domain.workers(), limits.programs_max).map_err(StartError::NoMemory)?,
            left: std::sync::Mutex::default(),
        };
        let table = Arc::new(table);
        let clock = Clock::get();
        let publish = domain.publish();
        let v4 = FamilyWriter::new(&table.v4, limits.cells_max, &publish);
        let v6 = FamilyWriter::new(&table.v6, limits.cells_max, &publish);
        drop(publish);
        let writer = TableWriter {
            watch: Watch::new(domain.clone(), clock.now_ns()),
            domain,
            table: table.clone(),
            limits,
            secret,
            clock,
            v4,
            v6,
            programs: HashMap::new(),
            free_slots: Vec::new(),
            next_slot: 0,
            entries: VecDeque::new(),
            leaving: VecDeque::new(),
            leaving_ids: HashSet::new(),
            finished: Vec::new(),
        };
        Ok((writer, table))
    }

    /// Installs one program: visible to each worker at its next turn.
    ///
    /// # Errors
    /// [`InstallError`]; nothing is changed then.
    pub fn install(&mut self, install: Install) -> Result<(), InstallError> {
        let mut batch = Batch::new();
        batch.install(install);
        self.apply(batch)
    }

    /// Withdraws one program. It comes back from [`TableWriter::reclaim`] when every worker has passed.
    ///
    /// # Errors
    /// [`InstallError`]; nothing is changed then.
    pub fn withdraw(&mut self, id: InstallId) -> Result<(), InstallError> {
        let mut batch = Batch::new();
        batch.withdraw(id);
        self.apply(batch)
    }

    /// Makes all changes of a batch, which every worker sees all at once.
    ///
    /// # Errors
    /// [`InstallError`]; nothing is changed then.
    pub fn apply(&mut self, batch: Batch) -> Result<(), InstallError> {
        let stuck = self.stuck_workers();
        if !stuck.is_empty() {
            return Err(InstallError::WorkerStuck { workers: stuck });
        }
        if self.retired() >= self.limits.retired_max {
            self.free_passed();
            if self.retired() >= self.limits.retired_max {
                return Err(InstallError::RetiredFull { retired: self.retired() });
            }
        }

        // Work out what every touched cell will say.
        let mut fresh: HashMap<InstallId, Arc<Installed>> = HashMap::new();
        let mut leaving: HashSet<InstallId> = HashSet::new();
        let mut v4: PendingCells<key::V4> = HashMap::new();
        let mut v6: PendingCells<key::V6> = HashMap::new();
        let mut taken_slots = 0;
        for change in batch.changes {
            match change {
                Change::Install { id, body, packet_rate, over_budget } => {
                    let is_known =
                        self.programs.contains_key(&id) || fresh.contains_key(&id) || self.leaving_ids.contains(&id);
                    if is_known {
                        return Err(InstallError::DuplicateProgram(id));
                    }
                    let slot = self
                        .slot(taken_slots)
                        .ok_or(InstallError::TooManyPrograms { programs_max: self.limits.programs_max })?;
                    taken_slots += 1;
                    let cells = body.cells();
                    if cells.len() > CELLS_PER_PROGRAM_MAX {
                        return Err(InstallError::ProgramTooWide { id, cells: cells.len() });
                    }
                    let workers = self.domain.workers();
                    let program = Arc::new(Installed::new(id, slot, body, packet_rate, over_budget, workers));
                    let reference = ProgramRef { id, installed: Arc::as_ptr(&program) };
                    for cell in cells {
                        match cell.dst.addr() {
                            Addr::V4(_) => self.v4.add(&self.table.v4, &self.programs, &mut v4, cell, reference)?,
                            Addr::V6(_) => self.v6.add(&self.table.v6, &self.programs, &mut v6, cell, reference)?,
                        }
                    }
                    fresh.insert(id, program);
                }
                Change::Withdraw(id) => {
                    let program = self.programs.get(&id).filter(|_| leaving.insert(id));
                    let program = program.ok_or(InstallError::UnknownProgram(id))?;
                    for cell in program.body.cells() {
                        match cell.dst.addr() {
                            Addr::V4(_) => self.v4.remove(&self.table.v4, &self.programs, &mut v4, cell, id),
                            Addr::V6(_) => self.v6.remove(&self.table.v6, &self.programs, &mut v6, cell, id),
                        }
                    }
                }
            }
        }
        self.v4.check(&v4)?;
        self.v6.check(&v6)?;

        // Publish: every new entry is born in the epoch that `commit` makes visible.
        let mut publish = self.domain.publish();
        let (done_v4, result_v4) = self.v4.change(&self.table.v4, v4, &mut publish, &self.secret);
        let (done_v6, result_v6) = self.v6.change(&self.table.v6, v6, &mut publish, &self.secret);
        let result = result_v4.and(result_v6);
        let epoch = publish.epoch();
        match result {
            Ok(()) => {
                self.v4.settle(&self.table.v4, done_v4, epoch, &mut self.entries, false);
                self.v6.settle(&self.table.v6, done_v6, epoch, &mut self.entries, true);
            }
            Err(_) => {
                self.v4.undo(&self.table.v4, done_v4, epoch, &mut self.entries, false);
                self.v6.undo(&self.table.v6, done_v6, epoch, &mut self.entries, true);
            }
        }
        publish.commit();
        result?;
        for _ in 0..taken_slots {
            if self.free_slots.pop().is_none() {
                self.next_slot += 1;
            }
        }
        self.programs.extend(fresh);
        for id in leaving {
            if let Some(program) = self.programs.remove(&id) {
                self.leaving.push_back((epoch, program));
                self.leaving_ids.insert(id);
            }
        }
        Ok(())
    }

    /// The counter slot of the next program but `taken`.
    fn slot(&self, taken: usize) -> Option<u32> {
        match self.free_slots.len().checked_sub(taken + 1) {
            Some(last) => Some(self.free_slots[last]),
            None => {
                let slot = self.next_slot + (taken - self.free_slots.len()) as u32;
                (slot < self.limits.programs_max).then_some(slot)
            }
        }
    }

    /// Frees what every worker has passed, and gives back the withdrawn programs that are gone. From a tick.
    pub fn reclaim(&mut self) -> Vec<Finished> {
        self.free_passed();
        std::mem::take(&mut self.finished)
    }

    fn free_passed(&mut self) {
        let passed = self.domain.passed();
        self.v4.free_indexes(passed);
        self.v6.free_indexes(passed);
        let mut unlinked = Vec::new();
        while let Some(entry) = self.entries.pop_front_if(|entry| passed.covers(entry.target)) {
            if entry.tombstone {
                // Nobody sees the cell any more, but somebody may be looking at the entry: it waits once more.
                let was_linked = if entry.v6 {
                    self.v6.unlink(&self.table.v6, entry.index)
                } else {
                    self.v4.unlink(&self.table.v4, entry.index)
                };
                // A tombstone with a version over it is retired by that version.
                if was_linked {
                    unlinked.push((entry.v6, entry.index));
                }
            } else if entry.v6 {
                self.v6.free_entry(&self.table.v6, entry.index);
            } else {
                self.v4.free_entry(&self.table.v4, entry.index);
            }
        }
        let is_wasteful = self.v4.is_wasteful() || self.v6.is_wasteful();
        if !unlinked.is_empty() || is_wasteful {
            let mut publish = self.domain.publish();
            let target = publish.epoch();
            self.entries.extend(unlinked.into_iter().map(|(v6, index)| RetiredEntry {
                target,
                v6,
                index,
                tombstone: false,
            }));
            self.v4.tidy(&self.table.v4, &mut publish, &self.secret);
            self.v6.tidy(&self.table.v6, &mut publish, &self.secret);
            publish.commit();
        }
        while let Some((_, program)) = self.leaving.pop_front_if(|(target, _)| passed.covers(*target)) {
            self.finished.push(Finished { id: program.id, counts: self.table.counters.sum(program.slot) });
            self.table.counters.clear(program.slot);
            self.free_slots.push(program.slot);
            self.leaving_ids.remove(&program.id);
        }
    }

    /// The workers that have been silent for a second.
    pub fn stuck_workers(&mut self) -> Vec<usize> {
        self.watch.stuck(self.clock.now_ns())
    }

    /// Whether every worker that polls has taken over all that was published.
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        self.domain.passed().covers(self.domain.epoch())
    }

    /// What a program did so far; `None` where it is not installed.
    #[must_use]
    pub fn program_counts(&self, id: InstallId) -> Option<ProgramCounts> {
        Some(self.table.counters.sum(self.programs.get(&id)?.slot))
    }

    #[cfg(test)]
    pub(super) fn slot_of(&self, id: InstallId) -> Option<u32> {
        Some(self.programs.get(&id)?.slot)
    }

    /// Programs installed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.programs.len()
    }

    /// Whether none is installed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// Things that wait for the workers to pass.
    #[must_use]
    pub fn retired(&self) -> usize {
        self.entries.len() + self.leaving.len() + self.v4.retired() + self.v6.retired()
    }

    /// Bytes of the cells, used or kept for use again; programs' own state not counted.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        (self.v4.bytes(&self.table.v4) + self.v6.bytes(&self.table.v6)) as u64
    }

    /// The programs that a packet would meet, in order. Those behind a verdict are named too.
    #[must_use]
    pub fn acting_on(&self, src: Addr, dst: Addr) -> Vec<InstallId> {
        let mut verdicts = Vec::new();
        let mut runs = Vec::new();
        if let Some(pair) = key::V4::of(src, dst) {
            self.v4.acting_on(&self.table.v4, pair, &mut verdicts, &mut runs);
        } else if let Some(pair) = key::V6::of(src, dst) {
            self.v6.acting_on(&self.table.v6, pair, &mut verdicts, &mut runs);
        }
        runs.sort_unstable();
        runs.dedup();
        let mut seen = HashSet::new();
        verdicts.into_iter().chain(runs).filter(|&id| seen.insert(id)).collect()
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        self.free_passed();
        let programs = std::mem::take(&mut self.programs).into_values();
        let leaving = std::mem::take(&mut self.leaving).into_iter().map(|(_, program)| program);
        // Workers may still run: what they can reach goes with the table. A tombstone leads to no chain.
        let left = Left {
            entries: self.entries.iter().map(|entry| (entry.v6, entry.index)).collect(),
            programs: programs.chain(leaving).collect(),
        };
        *self.table.left.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = left;
    }
}
