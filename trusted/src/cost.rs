//! What each step of a program costs, and what a program keeps.
//!
//! [`Prices`] gives the price of one step for one packet; how often steps happen is the business of [`crate::walk`].
//! A step on a set of packets costs its price once for each packet of the set; one on integers or addresses, and one
//! turn of a loop, once.

use crate::packet::Test;
use crate::policy::{Costs, Limits};
use crate::program::{AddrExpr, Cond, Expr, Instr, Program};

/// A cost is above what 64 bits hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CostOverflow;

/// Cost(P) = Complexity(P) × lifetime, in cycles per packet times seconds.
///
/// # Errors
/// [`CostOverflow`].
pub fn total(complexity: u64, lifetime_s: u32) -> Result<u64, CostOverflow> {
    complexity.checked_mul(u64::from(lifetime_s)).ok_or(CostOverflow)
}

/// Bytes that are always kept for a program with words: tables and the searchers.
const STATE_FIXED_BYTES: u64 = 4096;
/// Bytes kept of a flow besides its islands.
const FLOW_BYTES: u64 = 96;
/// Bytes kept of an island besides its two ends, each one byte shorter than the longest word.
const ISLAND_BYTES: u64 = 24;
/// Bytes kept of a packet of a window besides the packet.
const HELD_BYTES: u64 = 128;

/// The most bytes of state that one worker keeps for a program with windows of `window` packets.
///
/// # Errors
/// [`CostOverflow`].
pub fn state_bytes(program: &Program, window: u16, limits: &Limits) -> Result<u64, CostOverflow> {
    let held = if window == 1 { 0 } else { u64::from(window) * (HELD_BYTES + u64::from(limits.packet_bytes_max)) };
    let Some(longest) = program.words().iter().map(|w| w.bytes.len() as u64).max() else {
        return Ok(held);
    };
    let ends = 2 * longest.saturating_sub(1);
    let flow =
        FLOW_BYTES + u64::from(limits.stream_islands_max) * (ISLAND_BYTES + ends + 8 * program.words().len() as u64);
    let flows = u64::from(limits.stream_flows_max).checked_mul(flow).ok_or(CostOverflow)?;
    flows.checked_add(STATE_FIXED_BYTES + held).ok_or(CostOverflow)
}

/// The prices of one policy. None of them can overflow: each is a sum of fewer than 2^11 products of 32-bit numbers.
pub struct Prices<'a> {
    costs: &'a Costs,
    blocks_of_64: u64,
}

impl<'a> Prices<'a> {
    /// The prices under `limits`: packets have their greatest length.
    #[must_use]
    pub fn new(costs: &'a Costs, limits: &Limits) -> Self {
        Prices { costs, blocks_of_64: u64::from(limits.packet_bytes_max).div_ceil(64) }
    }
    /// What every packet costs that a program is given.
    #[must_use]
    pub fn entry(&self, program: &Program) -> u64 {
        u64::from(self.costs.program) + if program.words().is_empty() { 0 } else { u64::from(self.costs.stream) }
    }
    /// One search for a word in one packet.
    #[must_use]
    pub fn search(&self) -> u64 {
        u64::from(self.costs.contains) + self.blocks_of_64 * u64::from(self.costs.contains_per_64_bytes)
    }
    /// One instruction, without its condition and blocks.
    #[must_use]
    pub fn instr(&self, instr: &Instr) -> u64 {
        let c = self.costs;
        match instr {
            Instr::Select { test, .. } => u64::from(c.select) + self.test(test) - u64::from(c.test),
            Instr::Partition { .. } => u64::from(c.partition),
            Instr::Content { .. } => u64::from(c.content) + self.blocks_of_64 * u64::from(c.content_per_64_bytes),
            Instr::Union { .. } | Instr::Minus { .. } | Instr::Size { .. } => u64::from(c.set),
            Instr::Count { .. } => self.search(),
            Instr::Let { expr, .. } => self.expr(expr),
            Instr::Offset { base: _, by, .. } => u64::from(c.arithmetic) + self.expr(by),
            Instr::Discard { .. } => u64::from(c.discard),
            Instr::Generate { .. } => u64::from(c.generate) + self.blocks_of_64 * u64::from(c.generate_per_64_bytes),
            Instr::If { .. } => 0,
            Instr::Foreach { .. } => u64::from(c.foreach),
            Instr::While { .. } => u64::from(c.turn),
        }
    }
    /// One node of a condition, without those below it, nor the search.
    #[must_use]
    pub fn cond(&self, cond: &Cond) -> u64 {
        let below = match cond {
            Cond::AddrIn { addrs, .. } => self.many(addrs),
            Cond::AtMost { a, b } | Cond::Equal { a, b } => self.expr(a) + self.expr(b),
            _ => 0,
        };
        u64::from(self.costs.test) + below
    }

    fn many(&self, addrs: &AddrExpr) -> u64 {
        if addrs.parts() > 1 { u64::from(self.costs.select_many) } else { 0 }
    }

    fn test(&self, test: &Test) -> u64 {
        let below = match test {
            Test::In { addrs, .. } => self.many(addrs),
            Test::Number { ranges, .. } if ranges.ranges().len() > 1 => u64::from(self.costs.select_many),
            Test::Not { a } => self.test(a),
            Test::And { a, b } | Test::Or { a, b } => self.test(a) + self.test(b),
            _ => 0,
        };
        u64::from(self.costs.test) + below
    }

    fn expr(&self, expr: &Expr) -> u64 {
        let below = match expr {
            Expr::Const { .. } | Expr::Slot { .. } => 0,
            Expr::Add { a, b } | Expr::Sub { a, b } | Expr::Mul { a, b } => self.expr(a) + self.expr(b),
        };
        u64::from(self.costs.arithmetic) + below
    }
}
