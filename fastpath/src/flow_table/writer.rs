//! The one writer of the flow table: installs, withdrawals, batches of both, and the freeing of what they replaced.
//!
//! A batch is worked out completely before anything is published (what each touched cell will say, how many entries
//! and shapes that takes), so that every refusal comes before the first change. The cost of one install of one cell
//! is a hash look-up, a slot, a version and one epoch; nothing is done for every cell or every program, however many
//! there are.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use vinet_trusted::addr::{Addr, Prefix};
use vinet_trusted::policy::OverBudget;

use super::FlowTable;
use super::act::ACT_INDEX_MAX;
use super::cells::{Cells, SHAPES_MAX};
use super::family::{FamilyWriter, PendingCells, Replaced};
use super::hash::Hasher;
use super::key::{self, Key};
use super::program::{Admitted, Body, Install, InstallId, Installed, ProgramCounters, ProgramCounts, Programs};
use crate::clock::Clock;
use crate::publication::{Domain, Epoch, Passed, Watch};
use crate::region::NoMemory;
use crate::settings::TableLimits;

/// The most cells of one program.
pub const CELLS_PER_PROGRAM_MAX: usize = 1 << 16;
/// The most programs in one cell.
pub const CHAIN_LEN_MAX: usize = 64;
/// Replaced things that one tick frees, at most: about a millisecond of work.
const FREED_PER_TICK: usize = 1 << 14;

/// Changes that workers see all at once.
#[derive(Default)]
pub struct Batch {
    changes: Vec<Change>,
}

enum Change {
    Install { id: InstallId, body: Body, packet_rate: u32, over_budget: OverBudget, generate_key: [u8; 32] },
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
        let Install { id, executable, packet_rate, over_budget, generate_key, monitor } = install;
        let body = if monitor { Body::Monitored(executable) } else { Body::Accepted(executable) };
        self.changes.push(Change::Install { id, body, packet_rate, over_budget, generate_key });
        self
    }
    /// Adds a withdrawal.
    pub fn withdraw(&mut self, id: InstallId) -> &mut Self {
        self.changes.push(Change::Withdraw(id));
        self
    }
    #[cfg(test)]
    pub(super) fn install_body(&mut self, id: InstallId, body: Body) -> &mut Self {
        let over_budget = OverBudget::Forward;
        self.changes.push(Change::Install { id, body, packet_rate: 0, over_budget, generate_key: [0; 32] });
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

/// Something replaced, in which family, and the epoch that every worker must have passed.
struct Retired {
    target: Epoch,
    v6: bool,
    replaced: Replaced,
}

/// A program that has a name, and its slot.
#[derive(Clone, Copy)]
struct Named {
    slot: u32,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Of the batch that is worked out.
    Fresh,
    Installed,
    /// Of the batch that is worked out, or withdrawn and not gone from every worker.
    Leaving,
}

/// The one who changes the flow table. Not `Clone`. What workers can reach when it is dropped stays with the table.
pub struct TableWriter {
    domain: Domain,
    table: Arc<FlowTable>,
    limits: TableLimits,
    watch: Watch,
    clock: Clock,
    v4: FamilyWriter<key::V4>,
    v6: FamilyWriter<key::V6>,
    /// Ordered, because it never has to be made anew as a whole.
    programs: BTreeMap<InstallId, Named>,
    /// How many of them are installed.
    installed: usize,
    free_slots: Vec<u32>,
    next_slot: u32,
    retired: VecDeque<Retired>,
    leaving: VecDeque<(Epoch, u32)>,
    /// Programs that are gone and that nobody has asked for yet.
    finished: Vec<Finished>,
}

/// What a batch comes to, worked out before anything is published.
#[derive(Default)]
struct Plan {
    v4: PendingCells<key::V4>,
    v6: PendingCells<key::V6>,
    fresh: Vec<InstallId>,
    leaving: Vec<InstallId>,
}

impl TableWriter {
    /// An empty table, its writer, and the workers' way to it.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn new(domain: Domain, limits: TableLimits) -> Result<(TableWriter, Arc<FlowTable>), StartError> {
        let hasher = Hasher::draw().map_err(StartError::NoRandom)?;
        TableWriter::with_hasher(domain, limits, hasher)
    }

    pub(super) fn with_hasher(
        domain: Domain,
        mut limits: TableLimits,
        hasher: Hasher,
    ) -> Result<(TableWriter, Arc<FlowTable>), StartError> {
        limits.programs_max = limits.programs_max.min(ACT_INDEX_MAX);
        let table = FlowTable {
            v4: Cells::new(&domain, limits.cells_max, hasher).map_err(StartError::NoMemory)?,
            v6: Cells::new(&domain, limits.cells_max, hasher).map_err(StartError::NoMemory)?,
            programs: Programs::new(limits.programs_max).map_err(StartError::NoMemory)?,
            counters: ProgramCounters::new(domain.workers(), limits.programs_max).map_err(StartError::NoMemory)?,
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
            clock,
            v4,
            v6,
            programs: BTreeMap::new(),
            installed: 0,
            free_slots: Vec::new(),
            next_slot: 0,
            retired: VecDeque::new(),
            leaving: VecDeque::new(),
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

        let mut plan = Plan::default();
        let planned = self.plan(batch, &mut plan).and_then(|()| {
            self.v4.check(&plan.v4, self.retired())?;
            self.v6.check(&plan.v6, self.retired())
        });
        planned.and_then(|()| self.publish(&mut plan)).inspect_err(|_| self.forget(&plan))
    }

    /// Works out what every touched cell will say, and gives new programs their slots.
    fn plan(&mut self, batch: Batch, plan: &mut Plan) -> Result<(), InstallError> {
        let TableWriter { table, v4, v6, programs, .. } = self;
        let table = &**table;
        let changes = batch.changes.len();
        plan.v4.reserve(changes);
        for change in batch.changes {
            match change {
                Change::Install { id, body, packet_rate, over_budget, generate_key } => {
                    if programs.contains_key(&id) {
                        return Err(InstallError::DuplicateProgram(id));
                    }
                    let cells = body.cell_count();
                    if cells > CELLS_PER_PROGRAM_MAX {
                        return Err(InstallError::ProgramTooWide { id, cells });
                    }
                    let slot = match self.free_slots.pop() {
                        Some(slot) => slot,
                        None if self.next_slot < self.limits.programs_max => {
                            self.next_slot += 1;
                            self.next_slot - 1
                        }
                        None => return Err(InstallError::TooManyPrograms { programs_max: self.limits.programs_max }),
                    };
                    programs.insert(id, Named { slot, stage: Stage::Fresh });
                    plan.fresh.push(id);
                    let workers = self.domain.workers();
                    let terms = Admitted { packet_rate, over_budget, generate_key };
                    let program = Installed::new(id, slot, body, &terms, workers);
                    // No cell leads to it yet.
                    let reference = table.programs.put(slot, program);
                    table.programs.program(slot).body.each_cell(|cell| match cell.dst.addr() {
                        Addr::V4(_) => v4.add(&table.v4, &table.programs, &mut plan.v4, cell, reference),
                        Addr::V6(_) => v6.add(&table.v6, &table.programs, &mut plan.v6, cell, reference),
                    })?;
                }
                Change::Withdraw(id) => {
                    let named = programs.get_mut(&id).filter(|named| named.stage == Stage::Installed);
                    let named = named.ok_or(InstallError::UnknownProgram(id))?;
                    named.stage = Stage::Leaving;
                    plan.leaving.push(id);
                    table.programs.program(named.slot).body.each_cell(|cell| {
                        match cell.dst.addr() {
                            Addr::V4(_) => v4.remove(&table.v4, &table.programs, &mut plan.v4, cell, id),
                            Addr::V6(_) => v6.remove(&table.v6, &table.programs, &mut plan.v6, cell, id),
                        }
                        Ok::<(), InstallError>(())
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Publishes a plan: every new version is born in the epoch that `commit` makes visible.
    fn publish(&mut self, plan: &mut Plan) -> Result<(), InstallError> {
        let TableWriter { domain, table, v4, v6, retired, .. } = self;
        let mut publish = domain.publish();
        let prepared = v4.prepare(&table.v4, &plan.v4).and_then(|()| v6.prepare(&table.v6, &plan.v6));
        if let Err(error) = prepared {
            v4.abandon(&table.v4, &plan.v4, &mut publish);
            v6.abandon(&table.v6, &plan.v6, &mut publish);
            publish.commit();
            return Err(error.into());
        }
        let target = publish.epoch();
        v4.change(&table.v4, std::mem::take(&mut plan.v4), &mut publish, |replaced| {
            retired.push_back(Retired { target, v6: false, replaced });
        });
        v6.change(&table.v6, std::mem::take(&mut plan.v6), &mut publish, |replaced| {
            retired.push_back(Retired { target, v6: true, replaced });
        });
        publish.commit();
        for id in &plan.fresh {
            if let Some(named) = self.programs.get_mut(id) {
                named.stage = Stage::Installed;
            }
        }
        for id in &plan.leaving {
            if let Some(named) = self.programs.get(id) {
                self.leaving.push_back((target, named.slot));
            }
        }
        self.installed = self.installed + plan.fresh.len() - plan.leaving.len();
        Ok(())
    }

    /// Undoes the names and slots of a plan that is refused.
    fn forget(&mut self, plan: &Plan) {
        for id in &plan.leaving {
            if let Some(named) = self.programs.get_mut(id) {
                named.stage = Stage::Installed;
            }
        }
        for id in &plan.fresh {
            if let Some(named) = self.programs.remove(id) {
                self.table.programs.free(named.slot);
                self.free_slots.push(named.slot);
            }
        }
    }

    /// Frees what every worker has passed, as much as one tick may, and gives back the withdrawn programs that are
    /// gone. From a tick.
    pub fn reclaim(&mut self) -> Vec<Finished> {
        self.free_passed();
        std::mem::take(&mut self.finished)
    }

    fn free_passed(&mut self) {
        let passed = self.domain.passed();
        self.v4.free_indexes(passed);
        self.v6.free_indexes(passed);
        self.free_retired(passed);
        if self.v4.is_untidy() || self.v6.is_untidy() {
            let mut publish = self.domain.publish();
            self.v4.tidy(&self.table.v4, &mut publish);
            self.v6.tidy(&self.table.v6, &mut publish);
            publish.commit();
        }
        for _ in 0..FREED_PER_TICK {
            let Some((_, slot)) = self.leaving.pop_front_if(|(target, _)| passed.covers(*target)) else { break };
            let id = self.table.programs.program(slot).id;
            self.finished.push(Finished { id, counts: self.table.counters.sum(slot) });
            self.table.counters.clear(slot);
            self.table.programs.free(slot);
            self.free_slots.push(slot);
            self.programs.remove(&id);
        }
    }

    fn free_retired(&mut self, passed: Passed) {
        let is_due = |retired: &mut Retired| passed.covers(retired.target);
        if !self.retired.front_mut().is_some_and(is_due) {
            return;
        }
        // What is unlinked now is free when every worker has passed an epoch from now.
        let publish = self.domain.publish();
        let target = publish.epoch();
        for _ in 0..FREED_PER_TICK {
            let Some(Retired { v6, replaced, .. }) = self.retired.pop_front_if(is_due) else { break };
            let retired = &mut self.retired;
            let retire = |replaced| retired.push_back(Retired { target, v6, replaced });
            if v6 {
                self.v6.free(&self.table.v6, replaced, retire);
            } else {
                self.v4.free(&self.table.v4, replaced, retire);
            }
        }
        publish.commit();
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
        Some(self.table.counters.sum(self.slot_of(id)?))
    }

    pub(super) fn slot_of(&self, id: InstallId) -> Option<u32> {
        let named = self.programs.get(&id)?;
        (named.stage == Stage::Installed).then_some(named.slot)
    }

    #[cfg(test)]
    pub(super) fn buckets_v4(&self) -> usize {
        self.v4.buckets()
    }
    #[cfg(test)]
    pub(super) fn grown_at_once_v4(&self) -> usize {
        self.v4.grown_at_once
    }

    /// Programs installed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.installed
    }

    /// Whether none is installed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.installed == 0
    }

    /// Things that wait for the workers to pass.
    #[must_use]
    pub fn retired(&self) -> usize {
        self.retired.len() + self.leaving.len() + self.v4.retired() + self.v6.retired()
    }

    /// Bytes of the cells of all programs, with the room that is kept for more; programs' own state not counted.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        (self.v4.bytes() + self.v6.bytes()) as u64
    }

    /// The programs that a packet would meet, in order. Those behind a verdict are named too.
    #[must_use]
    pub fn acting_on(&self, src: Addr, dst: Addr) -> Vec<InstallId> {
        let mut verdicts = Vec::new();
        let mut runs = Vec::new();
        let programs = &self.table.programs;
        if let Some(pair) = key::V4::of(src, dst) {
            self.v4.acting_on(&self.table.v4, programs, pair, &mut verdicts, &mut runs);
        } else if let Some(pair) = key::V6::of(src, dst) {
            self.v6.acting_on(&self.table.v6, programs, pair, &mut verdicts, &mut runs);
        }
        runs.sort_unstable();
        runs.dedup();
        let mut seen = HashSet::new();
        verdicts.into_iter().chain(runs).filter(|&id| seen.insert(id)).collect()
    }
}
