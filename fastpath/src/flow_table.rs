//! The flow table: which programs a packet meets, by its source, then its destination.
//!
//! A program claims *cells*, pairs of a source and a destination prefix (length 0: any source), with either a verdict
//! for every packet of the cell or the wish to be run on each. A packet meets every cell that holds it. The order is:
//! verdicts first, the most specific cell's before the others'; then the programs to be run, by [`InstallId`], each
//! once, on what the ones before left. A discard is final. The most specific cell is the one with the most prefix
//! bits, then the most source bits.
//!
//! Holding the [`TableWriter`] makes one the only writer. What it changes becomes visible to each worker at its next
//! turn, a [`Batch`] all at once; what it replaced is freed by [`TableWriter::reclaim`] when every worker has passed.
//! Only an [`Executable`](vinet_pktops::Executable) can be installed, whose cells come from the gate of the trusted
//! base.
//!
//! The parts: `slots` is the hash table of one family, `tags` what tells of a bucket, `act` what a slot says, `hash` and
//! `key` what it is found by; `cells` is how workers look a burst up, `wanted` how most of it is turned away, `found` what
//! they find; `program` is what is installed and counted;
//! `writer` makes the changes, `family` those of one family, `growth` the next larger table beside the present one.

mod act;
mod cells;
mod family;
mod found;
mod growth;
mod hash;
mod key;
mod program;
mod slots;
mod tags;
mod wanted;
mod writer;

use std::ops::ControlFlow;

use vinet_trusted::addr::Addr;

pub use cells::SHAPES_MAX;
pub use program::{Install, InstallId, ProgramCounts};
pub use writer::{Batch, CELLS_PER_PROGRAM_MAX, CHAIN_LEN_MAX, Finished, InstallError, StartError, TableWriter};

pub(crate) use found::{Findings, Found};
pub(crate) use program::{BATCH_WORKER_SHIFT, Generator, Installed, Meter, NotSent, Outcome, ProgramCounters};

use crate::port::BURST_LEN_MAX;
use crate::publication::Reader;
use act::{Act, ActKind};
use cells::{Cells, Index, Scratch};
use found::Finds;
use key::Key;
use program::{Programs, WorkerCounts};

/// What workers read. Changed by the one [`TableWriter`].
pub struct FlowTable {
    v4: Cells<key::V4>,
    v6: Cells<key::V6>,
    programs: Programs,
    counters: ProgramCounters,
}

/// Room for the look-ups of one burst, made once for each worker.
pub struct TableScratch {
    v4: Scratch<key::V4>,
    v6: Scratch<key::V6>,
    finds: Finds,
}

impl TableScratch {
    /// Room for a burst.
    #[must_use]
    pub fn new() -> TableScratch {
        TableScratch { v4: Scratch::new(), v6: Scratch::new(), finds: Finds::new() }
    }
    /// Adds the packet of `lane` to the burst that is looked up next.
    pub(crate) fn push(&mut self, lane: u8, src: Addr, dst: Addr) {
        match (src, dst) {
            (Addr::V4(src), Addr::V4(dst)) => self.push_v4(lane, src, dst),
            (Addr::V6(src), Addr::V6(dst)) => self.push_v6(lane, src, dst),
            // A packet's addresses are of one family.
            _ => {}
        }
    }
    /// Adds the IPv4 packet of `lane`, below [`BURST_LEN_MAX`](crate::port::BURST_LEN_MAX), to the burst that is looked
    /// up next. One that is not below is not looked up; of several of one lane and family, the last is.
    #[inline(always)]
    pub fn push_v4(&mut self, lane: u8, src: u32, dst: u32) {
        self.v4.push(lane, key::v4(src, dst));
    }
    /// Where the addresses of IPv4 packets stand, by their lanes: sources in the high halves.
    #[inline(always)]
    pub(crate) fn pairs_v4(&mut self) -> &mut [u64; BURST_LEN_MAX] {
        self.v4.pairs_mut()
    }
    /// The same as [`TableScratch::push_v4`] for packets whose addresses stand in their places: those whose bits are set.
    #[inline(always)]
    pub(crate) fn push_those_v4(&mut self, which: u64) {
        self.v4.push_those(which);
    }
    /// The same for an IPv6 packet.
    #[inline(always)]
    pub fn push_v6(&mut self, lane: u8, src: u128, dst: u128) {
        self.v6.push(lane, key::V6::new(src, dst));
    }
}

/// A look-up that is begun. It borrows the reader, so it is ended before the next report.
pub(crate) struct Sought<'r> {
    v4: Option<&'r Index<key::V4>>,
    v6: Option<&'r Index<key::V6>>,
    lanes: u64,
}

impl Sought<'_> {
    /// A bit for each lane whose packet some program may want: no program wants the others.
    #[inline]
    pub(crate) fn lanes(&self) -> u64 {
        self.lanes
    }
}

impl Default for TableScratch {
    fn default() -> Self {
        TableScratch::new()
    }
}

impl FlowTable {
    /// Whether no program claims anything, as this reader sees it.
    #[inline]
    pub fn is_empty_for(&self, reader: &Reader) -> bool {
        self.v4.is_empty_for(reader) && self.v6.is_empty_for(reader)
    }

    /// Begins to look up the burst in `scratch`: what [`FlowTable::settle`] needs is on its way from memory then, so
    /// that it pays to do something else in between.
    #[inline]
    pub(crate) fn seek<'r>(&'r self, reader: &'r Reader, scratch: &mut TableScratch) -> Sought<'r> {
        let TableScratch { v4, v6, finds } = scratch;
        finds.clear();
        let counts = self.counters.of(reader);
        let meet = |act| self.meet(counts, act);
        let v4_index = (!v4.is_empty()).then(|| self.v4.seek(reader, v4, finds, meet));
        let v6_index = (!v6.is_empty()).then(|| self.v6.seek(reader, v6, finds, meet));
        let of_v4 = if v4_index.is_some() { v4.candidate_lanes() } else { 0 };
        let of_v6 = if v6_index.is_some() { v6.candidate_lanes() } else { 0 };
        Sought { v4: v4_index, v6: v6_index, lanes: finds.lanes() | of_v4 | of_v6 }
    }

    /// Ends the look-up of the burst in `scratch`, which then holds no packets any more, and tells what it found.
    #[inline]
    pub(crate) fn settle<'f, 'r>(
        &'r self,
        reader: &'r Reader,
        scratch: &'f mut TableScratch,
        sought: &Sought<'r>,
    ) -> Findings<'f, 'r> {
        let TableScratch { v4, v6, finds } = scratch;
        let counts = self.counters.of(reader);
        if let Some(index) = sought.v4 {
            self.v4.settle(index, reader, v4, finds, |act| self.meet(counts, act));
        }
        if let Some(index) = sought.v6 {
            self.v6.settle(index, reader, v6, finds, |act| self.meet(counts, act));
        }
        Findings::new(finds, reader)
    }

    /// Both at once.
    #[inline]
    pub(crate) fn look_up<'f, 'r>(&'r self, reader: &'r Reader, scratch: &'f mut TableScratch) -> Findings<'f, 'r> {
        let sought = self.seek(reader, scratch);
        self.settle(reader, scratch, &sought)
    }

    /// Fetches what an act needs: what comes next is the counting of a verdict, or the running of a program.
    #[inline(always)]
    fn meet(&self, counts: &WorkerCounts, act: Act) {
        match act.discards() {
            Some(program) => counts.prefetch(program),
            None => {
                if let ActKind::Run(program) = act.kind() {
                    self.programs.prefetch(program);
                }
            }
        }
    }

    /// Looks up the burst in `scratch`, as a worker does, and gives a bit for each lane whose packet some program
    /// wants: for measurements.
    #[inline]
    pub fn wanted_lanes(&self, reader: &Reader, scratch: &mut TableScratch) -> u64 {
        self.look_up(reader, scratch).lanes()
    }

    /// Gives the programs to run on a packet to `run`, in order, from the one behind `after` on, until it breaks.
    #[inline]
    pub(crate) fn each_run<'r>(
        &'r self,
        reader: &'r Reader,
        (src, dst): (Addr, Addr),
        found: &Found<'r>,
        mut after: Option<InstallId>,
        mut run: impl FnMut(&'r Installed) -> ControlFlow<()>,
    ) {
        if !found.more {
            self.each_of((src, dst), found.run, |program| match after {
                Some(after) if program.id <= after => ControlFlow::Continue(()),
                _ => run(program),
            });
            return;
        }
        let mut acts = [Act::NOTHING; SHAPES_MAX];
        let mut places = acts.iter_mut();
        let take = |act| {
            // There is at most one cell for each shape.
            if let Some(place) = places.next() {
                *place = act;
            }
        };
        if let Some(pair) = key::V4::of(src, dst) {
            self.v4.each_act(reader, pair, take);
        } else if let Some(pair) = key::V6::of(src, dst) {
            self.v6.each_act(reader, pair, take);
        }
        loop {
            let mut next: Option<&Installed> = None;
            for &act in &acts {
                self.each_of((src, dst), act, |program| {
                    let is_next = after.is_none_or(|after| program.id > after);
                    if is_next && next.is_none_or(|next| program.id < next.id) {
                        next = Some(program);
                    }
                    ControlFlow::Continue(())
                });
            }
            let Some(program) = next else { return };
            if run(program).is_break() {
                return;
            }
            after = Some(program.id);
        }
    }

    /// Gives the programs of one act that are run to `visit`, in order, until it breaks.
    #[inline]
    fn each_of<'r>(
        &'r self,
        (_, dst): (Addr, Addr),
        act: Act,
        mut visit: impl FnMut(&'r Installed) -> ControlFlow<()>,
    ) {
        match act.kind() {
            ActKind::Nothing | ActKind::Discard(_) => {}
            // Nothing comes after it, whichever it says.
            ActKind::Run(program) => drop(visit(self.programs.program(program))),
            ActKind::Chain(index) => {
                let chain = match dst {
                    Addr::V4(_) => self.v4.chain(index),
                    Addr::V6(_) => self.v6.chain(index),
                };
                let _ = chain.runs().try_for_each(visit);
            }
        }
    }

    /// The name of the program in a slot, which a worker has just found.
    pub(crate) fn id_of(&self, slot: u32) -> InstallId {
        self.programs.program(slot).id
    }

    /// The counts of programs.
    #[inline]
    pub(crate) fn counters(&self) -> &ProgramCounters {
        &self.counters
    }
}

impl Installed {
    /// Its name.
    #[inline]
    pub(crate) fn id(&self) -> InstallId {
        self.id
    }
    /// Its place among the counters.
    #[inline]
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }
}

#[cfg(test)]
mod tests;
