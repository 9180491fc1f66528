//! What a program costs: cycles per packet, and bytes of state.
//!
//! A program of this version has windows of one packet, so Complexity(P) is its cost for one packet of maximal size:
//! the dearer of two branches, a foreach once. All sums are checked; one that overflows is an error, never a small
//! number.

use crate::policy::{Costs, Limits};
use crate::program::{AddrExpr, Cond, Instr, Program};

/// The cost is above what 64 bits hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CostOverflow;

/// Complexity(P), in cycles per packet.
///
/// # Errors
/// [`CostOverflow`].
pub fn complexity(program: &Program, costs: &Costs, limits: &Limits) -> Result<u64, CostOverflow> {
    let pricing = Pricing { costs, blocks_of_64: u64::from(limits.packet_bytes_max).div_ceil(64) };
    let stream = if program.words().is_empty() { 0 } else { costs.stream };
    sum([u64::from(costs.program), u64::from(stream), pricing.block(program.body())?])
}

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

/// The most bytes of state that one worker keeps for a program.
///
/// # Errors
/// [`CostOverflow`].
pub fn state_bytes(program: &Program, limits: &Limits) -> Result<u64, CostOverflow> {
    let Some(longest) = program.words().iter().map(|w| w.len() as u64).max() else {
        return Ok(0);
    };
    let ends = 2 * longest.saturating_sub(1);
    let flow = FLOW_BYTES + u64::from(limits.stream_islands_max) * (ISLAND_BYTES + ends);
    let flows = u64::from(limits.stream_flows_max).checked_mul(flow).ok_or(CostOverflow)?;
    flows.checked_add(STATE_FIXED_BYTES).ok_or(CostOverflow)
}

fn sum<const N: usize>(parts: [u64; N]) -> Result<u64, CostOverflow> {
    parts.into_iter().try_fold(0u64, |sum, part| sum.checked_add(part).ok_or(CostOverflow))
}

struct Pricing<'a> {
    costs: &'a Costs,
    blocks_of_64: u64,
}

impl Pricing<'_> {
    fn block(&self, block: &[Instr]) -> Result<u64, CostOverflow> {
        block.iter().try_fold(0, |so_far, instr| sum([so_far, self.instr(instr)?]))
    }

    fn many(&self, addrs: &AddrExpr) -> u64 {
        let parts = addrs.prefixes.prefixes().len() + usize::from(addrs.this_ip) + usize::from(addrs.this_subnet);
        if parts > 1 { u64::from(self.costs.select_many) } else { 0 }
    }

    fn instr(&self, instr: &Instr) -> Result<u64, CostOverflow> {
        match instr {
            Instr::Select { addrs, .. } => sum([u64::from(self.costs.select), self.many(addrs)]),
            Instr::Partition { .. } => Ok(u64::from(self.costs.partition)),
            Instr::Discard { .. } => Ok(u64::from(self.costs.discard)),
            Instr::If { cond, then, otherwise } => {
                sum([self.cond(cond)?, self.block(then)?.max(self.block(otherwise)?)])
            }
            Instr::Foreach { body, .. } => sum([u64::from(self.costs.foreach), self.block(body)?]),
        }
    }

    fn cond(&self, cond: &Cond) -> Result<u64, CostOverflow> {
        let below = match cond {
            Cond::Contains { .. } => {
                let bytes = u64::from(self.costs.contains_per_64_bytes).checked_mul(self.blocks_of_64);
                sum([u64::from(self.costs.contains), bytes.ok_or(CostOverflow)?])?
            }
            Cond::KeyIn { addrs, .. } => self.many(addrs),
            Cond::Not(c) => self.cond(c)?,
            Cond::And(a, b) | Cond::Or(a, b) => sum([self.cond(a)?, self.cond(b)?])?,
        };
        sum([u64::from(self.costs.test), below])
    }
}
