//! What a program's author says of its loops: untrusted help for the search.
//!
//! A compiler finds these in the source text (`invariant`, `variant`) and hands them over beside the bytecode. The
//! prover may use them or not; whatever it does with them, the checker checks.

use vinet_trusted::packet::Field;
use vinet_trusted::program::{AddrExpr, Cond, Expr, Slot};

/// What holds at the head of a loop, each time it is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Invariant {
    /// A condition on integers and addresses. It has no CONTAINS_STRING in it.
    Cond(Cond),
    /// Every packet of the slot has its address in the set.
    Within {
        /// Packets.
        slot: Slot,
        /// Which address.
        field: Field,
        /// Where it is.
        addrs: AddrExpr,
    },
}

/// What is said of one loop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hint {
    /// The number of the `While` or `Foreach` instruction.
    pub instr: usize,
    /// All of these hold.
    pub invariants: Vec<Invariant>,
    /// An integer that is positive whenever the block of a `While` is entered and falls in every turn.
    pub variant: Option<Expr>,
}
