//! The lowering of what is said of a loop: its bound, its invariants and its variant.
//!
//! Invariants and variants become hints for the prover; the program does not hold them.

use super::Lowering;
use crate::lang::ast::{self, AddrTerm, Bound, Clauses};
use crate::lang::error::Cause;
use crate::lang::measure;
use vinet_prover::hint::{Hint, Invariant};
use vinet_trusted::program::LOOP_MAX;

impl Lowering<'_, '_> {
    /// The most turns of a while; one that says only why it ends has all that there are.
    pub(super) fn bound(&mut self, clauses: &Clauses) -> Option<u32> {
        let Some((bound, span)) = &clauses.max else { return Some(LOOP_MAX) };
        let turns = match bound {
            Bound::Literal(turns) => i128::from(*turns),
            Bound::Name(name) => i128::from(self.number_parameter(name, span)?),
        };
        let max = u32::try_from(turns).ok().filter(|turns| (1..=LOOP_MAX).contains(turns));
        if max.is_none() {
            self.error(span, Cause::LoopRange(turns));
        }
        max
    }

    /// Notes what is said of the loop whose place comes next.
    pub(super) fn hint(&mut self, clauses: &Clauses) {
        let instr = self.places.len();
        let outer = self.in_clause.replace("an invariant");
        let invariants = clauses.invariants.iter().filter_map(|invariant| self.invariant(invariant)).collect();
        self.in_clause = Some("a variant");
        let variant = clauses.variant.as_ref().and_then(|variant| self.expr(variant, &mut Vec::new()));
        self.in_clause = outer;
        let hint = Hint { instr, invariants, variant };
        if !hint.invariants.is_empty() || hint.variant.is_some() {
            self.hints.push(hint);
        }
    }

    fn invariant(&mut self, invariant: &ast::Invariant) -> Option<Invariant> {
        match invariant {
            ast::Invariant::Cond(cond) => {
                let lowered = self.cond(cond, &mut Vec::new())?;
                if measure::looks_at_content(&lowered) {
                    self.error(&cond.span, Cause::InvariantOfContent);
                    return None;
                }
                Some(Invariant::Cond(lowered))
            }
            ast::Invariant::Within { arg, field, addrs } => {
                let (slot, set) = (self.packets(arg), self.addrs(addrs));
                let set = set?;
                if set.slots.is_empty() {
                    return Some(Invariant::Within { slot: slot?, field: *field, addrs: set.constants });
                }
                let variable = addrs.terms.iter().find_map(|(term, span)| match term {
                    AddrTerm::Name(var) if self.kind(var).is_some() => Some((span.clone(), var.text())),
                    _ => None,
                });
                if let Some((span, var)) = variable {
                    self.error(&span, Cause::InvariantOfVariable { var });
                }
                None
            }
        }
    }
}
