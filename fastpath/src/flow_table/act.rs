//! What is done with the packets of a cell, in the few bits that a slot has for it.

use super::program::Permit;

/// The most programs and chains that an [`Act`] can tell apart.
pub(super) const ACT_INDEX_MAX: u32 = (1 << 30) - 1;
/// The most versions that a [`Meta`] can lead to.
pub(super) const VERSION_INDEX_MAX: u32 = (1 << 26) - 1;
/// The index of no version.
pub(super) const NO_VERSION: u32 = 0;

/// What is done with the packets of a cell: two bits of kind over 30 of index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Act(u32);

/// An [`Act`] taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ActKind {
    /// Nothing: the cell is deleted, or not there yet.
    Nothing,
    /// They are dropped, and counted for the program in this slot.
    Discard(u32),
    /// The one program in this slot is run on each.
    Run(u32),
    /// See the chain with this index.
    Chain(u32),
}

impl Act {
    pub(super) const NOTHING: Act = Act(0);

    /// To drop, which takes a permit. An act of this kind is only made here, so holding one stands for the permit.
    pub(super) fn discard(program: u32, _permit: Permit) -> Act {
        Act(program << 2 | 1)
    }
    pub(super) fn run(program: u32) -> Act {
        Act(program << 2 | 2)
    }
    pub(super) fn chain(index: u32) -> Act {
        Act(index << 2 | 3)
    }
    #[inline(always)]
    pub(super) fn kind(self) -> ActKind {
        match self.0 & 3 {
            0 => ActKind::Nothing,
            1 => ActKind::Discard(self.0 >> 2),
            2 => ActKind::Run(self.0 >> 2),
            _ => ActKind::Chain(self.0 >> 2),
        }
    }
    /// The slot of the program for which the packets are dropped, where they are.
    #[inline(always)]
    pub(super) fn discards(self) -> Option<u32> {
        (self.0 & 3 == 1).then_some(self.0 >> 2)
    }
    #[inline(always)]
    pub(super) fn is_nothing(self) -> bool {
        self.0 & 3 == 0
    }
}

/// What a slot says beside its key: the newest act of the cell, the number of its shape, and where its versions are,
/// as long as some worker may want an older one. One word, so that it changes in one step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta(u64);

impl Meta {
    pub(super) fn new(act: Act, shape: u8, version: u32) -> Meta {
        debug_assert!(shape < 64 && version <= VERSION_INDEX_MAX);
        Meta(u64::from(act.0) | u64::from(shape & 63) << 32 | u64::from(version) << 38)
    }
    #[inline(always)]
    pub(super) fn from_bits(bits: u64) -> Meta {
        Meta(bits)
    }
    #[inline(always)]
    pub(super) fn bits(self) -> u64 {
        self.0
    }
    #[inline(always)]
    pub(super) fn act(self) -> Act {
        Act(self.0 as u32)
    }
    #[inline(always)]
    pub(super) fn shape(self) -> u8 {
        (self.0 >> 32) as u8 & 63
    }
    /// The version that made the act, or [`NO_VERSION`] where every worker has passed it.
    #[inline(always)]
    pub(super) fn version(self) -> u32 {
        (self.0 >> 38) as u32
    }
    /// The same without versions.
    pub(super) fn settled(self) -> Meta {
        Meta(self.0 & ((1 << 38) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_all_of_it() {
        for act in [Act::NOTHING, Act::discard(ACT_INDEX_MAX, Permit::Model), Act::run(5), Act::chain(ACT_INDEX_MAX)] {
            for (shape, version) in [(0, NO_VERSION), (63, VERSION_INDEX_MAX), (17, 1)] {
                let meta = Meta::from_bits(Meta::new(act, shape, version).bits());
                assert_eq!((meta.act(), meta.shape(), meta.version()), (act, shape, version));
                assert_eq!((meta.settled().act(), meta.settled().version()), (act, NO_VERSION));
            }
        }
        assert_eq!(Act::discard(7, Permit::Model).kind(), ActKind::Discard(7));
        assert_eq!(Act::run(7).kind(), ActKind::Run(7));
        assert_eq!(Act::chain(7).kind(), ActKind::Chain(7));
    }
}
