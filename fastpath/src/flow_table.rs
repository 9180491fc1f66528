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
//! The parts: `cells` is the hash table of one family, `program` what is installed and counted, `writer` the changes,
//! `family` those of one family.

mod cells;
mod family;
mod key;
mod program;
mod writer;

use std::ops::ControlFlow;
use std::sync::Mutex;

use vinet_trusted::addr::Addr;

pub use cells::SHAPES_MAX;
pub use program::{Install, InstallId, ProgramCounts};
pub use writer::{Batch, CELLS_PER_PROGRAM_MAX, CHAIN_LEN_MAX, Finished, InstallError, StartError, TableWriter};

pub(crate) use cells::Found;
pub(crate) use program::{Installed, Meter, Outcome, ProgramCounters};

use crate::publication::Reader;
use cells::{Cells, Chain, Scratch};
use key::Key;

/// What workers read. Changed by the one [`TableWriter`].
pub struct FlowTable {
    v4: Cells<key::V4>,
    v6: Cells<key::V6>,
    counters: ProgramCounters,
    /// What the writer left when it was dropped, freed with the table: workers may still have been running.
    left: Mutex<writer::Left>,
}

/// Room for the look-ups of one burst, made once for each worker.
pub struct TableScratch {
    v4: Scratch<key::V4>,
    v6: Scratch<key::V6>,
}

impl TableScratch {
    /// Room for a burst.
    #[must_use]
    pub fn new() -> TableScratch {
        TableScratch { v4: Scratch::new(), v6: Scratch::new() }
    }
    /// Adds the packet of `lane` to the burst that is looked up next.
    #[inline]
    pub fn push(&mut self, lane: u8, src: Addr, dst: Addr) {
        if let Some(pair) = key::V4::of(src, dst) {
            self.v4.push(lane, pair);
        } else if let Some(pair) = key::V6::of(src, dst) {
            self.v6.push(lane, pair);
        }
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
    pub(crate) fn is_empty_for(&self, reader: &Reader) -> bool {
        self.v4.is_empty_for(reader) && self.v6.is_empty_for(reader)
    }

    /// Looks up the burst in `scratch`, which is then empty, and notes what it finds by lane.
    #[inline]
    pub(crate) fn look_up<'r>(&'r self, reader: &'r Reader, scratch: &mut TableScratch, found: &mut [Found<'r>]) {
        self.v4.look_up(reader, &mut scratch.v4, found);
        self.v6.look_up(reader, &mut scratch.v6, found);
        scratch.v4.clear();
        scratch.v6.clear();
    }

    /// Gives the programs to run on a packet to `run`, in order, until it breaks.
    #[inline]
    pub(crate) fn each_run<'r>(
        &'r self,
        reader: &'r Reader,
        (src, dst): (Addr, Addr),
        found: &Found<'r>,
        mut run: impl FnMut(&'r Installed) -> ControlFlow<()>,
    ) {
        let Some(chain) = found.chain else { return };
        if !found.more {
            for (_, program) in chain.runs() {
                if run(program).is_break() {
                    return;
                }
            }
            return;
        }
        let mut chains: [Option<&'r Chain>; SHAPES_MAX] = [None; SHAPES_MAX];
        let mut places = chains.iter_mut();
        let mut take = |chain| {
            // There is at most one chain for each shape.
            if let Some(place) = places.next() {
                *place = Some(chain);
            }
        };
        if let Some(pair) = key::V4::of(src, dst) {
            self.v4.each_chain(reader, pair, &mut take);
        } else if let Some(pair) = key::V6::of(src, dst) {
            self.v6.each_chain(reader, pair, &mut take);
        }
        let mut after = None;
        loop {
            let next = chains
                .iter()
                .map_while(|chain| *chain)
                .flat_map(Chain::runs)
                .filter(|&(id, _)| after.is_none_or(|after| id > after))
                .min_by_key(|&(id, _)| id);
            let Some((id, program)) = next else { return };
            if run(program).is_break() {
                return;
            }
            after = Some(id);
        }
    }

    /// The counts of programs.
    #[inline]
    pub(crate) fn counters(&self) -> &ProgramCounters {
        &self.counters
    }
}

impl Installed {
    /// Its place among the counters.
    #[inline]
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }
}

impl Drop for FlowTable {
    fn drop(&mut self) {
        let left = std::mem::take(self.left.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner));
        let retired = left
            .entries
            .iter()
            .filter_map(|&(v6, index)| if v6 { self.v6.chain_of(index) } else { self.v4.chain_of(index) });
        let mut chains: Vec<*const Chain> = retired.collect();
        chains.extend(self.v4.chains_mut());
        chains.extend(self.v6.chains_mut());
        // A retired tombstone may still be linked, but leads to no chain; every other retired entry is unlinked, so
        // no chain is listed twice.
        for chain in chains {
            // SAFETY: it came from `Box::into_raw`, is listed once, and the table has no other owner.
            drop(unsafe { Box::from_raw(chain.cast_mut()) });
        }
    }
}

#[cfg(test)]
mod tests;
