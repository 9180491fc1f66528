//! What a burst's look-up found, by lane.

use std::marker::PhantomData;

use super::act::Act;
use crate::port::BURST_LEN_MAX;
use crate::publication::Reader;

/// The slot of no program.
const NO_PROGRAM: u32 = u32::MAX;

/// What was found for one lane.
#[derive(Clone, Copy)]
struct Find {
    /// The program whose verdict drops the packet, or [`NO_PROGRAM`].
    program: u32,
    /// What runs, of one cell.
    run: Act,
    /// The rank of the verdict's cell.
    rank: u8,
    /// Whether something runs in other cells too.
    more: bool,
}

impl Find {
    const NOTHING: Find = Find { program: NO_PROGRAM, run: Act::NOTHING, rank: u8::MAX, more: false };
}

/// Room for what is found for each lane. Only lanes whose bit is set say anything, so that a burst that no program
/// wants writes nothing.
pub(super) struct Finds {
    lanes: u64,
    of_lane: [Find; BURST_LEN_MAX],
}

impl Finds {
    pub(super) fn new() -> Finds {
        Finds { lanes: 0, of_lane: [Find::NOTHING; BURST_LEN_MAX] }
    }
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.lanes = 0;
    }
    #[inline(always)]
    fn lane(&mut self, lane: u8) -> &mut Find {
        let number = usize::from(lane) % BURST_LEN_MAX;
        let find = &mut self.of_lane[number];
        if self.lanes >> number & 1 == 0 {
            self.lanes |= 1 << number;
            *find = Find::NOTHING;
        }
        find
    }
    /// A cell of this rank drops the packet: the most specific one is the one that counts.
    #[inline(always)]
    pub(super) fn discard(&mut self, lane: u8, rank: u8, program: u32) {
        let find = self.lane(lane);
        if find.program == NO_PROGRAM || rank < find.rank {
            (find.program, find.rank) = (program, rank);
        }
    }
    /// Something runs on the packet.
    #[inline(always)]
    pub(super) fn run(&mut self, lane: u8, act: Act) {
        let find = self.lane(lane);
        find.more = !find.run.is_nothing();
        if !find.more {
            find.run = act;
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
        self.finds.lanes
    }
    /// What was found for the packet of a lane; `None` where no program wants it.
    #[inline]
    pub(crate) fn get(&self, lane: usize) -> Option<Found<'r>> {
        if lane >= BURST_LEN_MAX || self.finds.lanes >> lane & 1 == 0 {
            return None;
        }
        let find = &self.finds.of_lane[lane];
        Some(Found {
            discard: (find.program != NO_PROGRAM).then_some(find.program),
            run: find.run,
            more: find.more,
            of: PhantomData,
        })
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
