//! What a burst's look-up found, by lane.

use std::marker::PhantomData;

use super::act::Act;
use crate::port::BURST_LEN_MAX;
use crate::publication::Reader;

/// What runs on the packet of one lane.
#[derive(Clone, Copy)]
struct Runs {
    /// What runs, of one cell.
    run: Act,
    /// Whether something runs in other cells too.
    more: bool,
}

/// Room for what is found for each lane. Only lanes whose bits are set say anything, so that a burst that no program wants
/// writes nothing.
pub(super) struct Finds {
    /// Lanes whose packets a verdict drops.
    discarded: u64,
    /// Lanes on whose packets something runs.
    running: u64,
    /// Of the former, the slot of the program whose verdict it is, and the rank of the verdict's cell.
    discards: [u32; BURST_LEN_MAX],
    ranks: [u8; BURST_LEN_MAX],
    /// Of the latter.
    runs: [Runs; BURST_LEN_MAX],
}

impl Finds {
    pub(super) fn new() -> Finds {
        Finds {
            discarded: 0,
            running: 0,
            discards: [0; BURST_LEN_MAX],
            ranks: [0; BURST_LEN_MAX],
            runs: [Runs { run: Act::NOTHING, more: false }; BURST_LEN_MAX],
        }
    }
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        (self.discarded, self.running) = (0, 0);
    }
    /// A bit for each lane whose packet some program wants, so far.
    #[inline(always)]
    pub(super) fn lanes(&self) -> u64 {
        self.discarded | self.running
    }
    /// A cell of this rank drops the packet: the most specific one is the one that counts.
    #[inline(always)]
    pub(super) fn discard(&mut self, lane: u8, rank: u8, program: u32) {
        let number = usize::from(lane) % BURST_LEN_MAX;
        if self.discarded >> number & 1 == 0 || rank < self.ranks[number] {
            (self.discards[number], self.ranks[number]) = (program, rank);
        }
        self.discarded |= 1 << number;
    }
    /// Something runs on the packet.
    #[inline(always)]
    pub(super) fn run(&mut self, lane: u8, act: Act) {
        let number = usize::from(lane) % BURST_LEN_MAX;
        if self.running >> number & 1 == 0 {
            self.running |= 1 << number;
            self.runs[number] = Runs { run: act, more: false };
        } else {
            self.runs[number].more = true;
        }
    }
}

/// What was found for a burst. It borrows the reader, so it is gone before the next report.
#[derive(Clone, Copy)]
pub(crate) struct Findings<'f, 'r> {
    finds: &'f Finds,
    of: PhantomData<&'r Reader>,
}

impl<'f, 'r> Findings<'f, 'r> {
    pub(super) fn new(finds: &'f Finds, _reader: &'r Reader) -> Findings<'f, 'r> {
        Findings { finds, of: PhantomData }
    }
    /// A bit for each lane whose packet some program wants.
    #[inline]
    pub(crate) fn lanes(&self) -> u64 {
        self.finds.lanes()
    }
    /// A bit for each lane whose packet a verdict drops; and, for those lanes, the slot of the program whose it is.
    #[inline]
    pub(crate) fn discards(&self) -> (u64, &'f [u32; BURST_LEN_MAX]) {
        (self.finds.discarded, &self.finds.discards)
    }
    /// What was found for the packet of a lane; `None` where no program wants it.
    #[inline]
    pub(crate) fn get(&self, lane: usize) -> Option<Found<'r>> {
        let is_in = |lanes: u64| lane < BURST_LEN_MAX && lanes >> lane & 1 != 0;
        let (is_discarded, runs) = (is_in(self.finds.discarded), is_in(self.finds.running));
        if !is_discarded && !runs {
            return None;
        }
        let Runs { run, more } = if runs { self.finds.runs[lane] } else { Runs { run: Act::NOTHING, more: false } };
        Some(Found { discard: is_discarded.then(|| self.finds.discards[lane]), run, more, of: PhantomData })
    }
}

/// What was found for a packet that some program wants.
#[derive(Clone, Copy)]
pub(crate) struct Found<'r> {
    /// The slot of the program that drops it: of the most specific cell that does.
    pub(crate) discard: Option<u32>,
    /// What runs, of one cell, and whether there is more in others.
    pub(super) run: Act,
    pub(super) more: bool,
    of: PhantomData<&'r Reader>,
}
