//! The lowering of conditions: what `if`, `while` and an invariant ask.

use super::{Lowering, balanced};
use crate::lang::ast::{self, AddrTerm, Addrs, Cond, CondKind, ExprKind, Order, Var};
use crate::lang::error::{Cause, Kind};
use vinet_trusted::program::{self, Instr};

impl Lowering<'_, '_> {
    pub(super) fn cond(&mut self, cond: &Cond, out: &mut Vec<Instr>) -> Option<program::Cond> {
        match &cond.kind {
            CondKind::Contains { arg, word } => {
                let arg = self.packets(arg);
                let word = self.word(word);
                Some(program::Cond::Contains { arg: arg?, word: word? })
            }
            CondKind::Empty { arg } => Some(program::Cond::Empty { arg: self.packets(arg)? }),
            CondKind::Member { addr, addrs, negated } => self.member(addr, addrs, *negated),
            CondKind::Is { addr, other, negated } => {
                let (addr, is) = (self.key(addr), self.address(other));
                Some(negate(program::Cond::AddrIs { addr: addr?, is: is? }, *negated))
            }
            CondKind::Compare { a, order, b } => self.compare(a, *order, b, out),
            CondKind::Not(inner) => Some(negate(self.cond(inner, out)?, true)),
            CondKind::All(parts) => {
                let parts = self.conds(parts, out)?;
                balanced(parts, &|a, b| program::Cond::And { a: Box::new(a), b: Box::new(b) })
            }
            CondKind::Any(parts) => {
                let parts = self.conds(parts, out)?;
                balanced(parts, &|a, b| program::Cond::Or { a: Box::new(a), b: Box::new(b) })
            }
        }
    }

    /// All of the conditions; each is looked at, so that every error is told.
    fn conds(&mut self, parts: &[Cond], out: &mut Vec<Instr>) -> Option<Vec<program::Cond>> {
        let parts: Vec<_> = parts.iter().map(|part| self.cond(part, out)).collect();
        parts.into_iter().collect()
    }

    fn member(&mut self, addr: &Var, addrs: &Addrs, negated: bool) -> Option<program::Cond> {
        let (addr, set) = (self.key(addr), self.addrs(addrs));
        let (addr, set) = (addr?, set?);
        let mut parts = Vec::new();
        if set.constants.parts() > 0 {
            parts.push(program::Cond::AddrIn { addr, addrs: set.constants });
        }
        let is = |slot| program::Cond::AddrIs { addr, is: program::AddrTerm::Slot { slot } };
        parts.extend(set.slots.into_iter().map(is));
        let any = balanced(parts, &|a, b| program::Cond::Or { a: Box::new(a), b: Box::new(b) })?;
        Some(negate(any, negated))
    }

    fn compare(&mut self, a: &ast::Expr, order: Order, b: &ast::Expr, out: &mut Vec<Instr>) -> Option<program::Cond> {
        let sides = [a, b].map(|side| if let ExprKind::Var(var) = &side.kind { Some(var) } else { None });
        let kinds = sides.map(|side| side.and_then(|var| self.kind(var)));
        if kinds.contains(&Some(Kind::Addr)) {
            let span = a.span.start..b.span.end;
            return match (order, sides) {
                (Order::Equal | Order::NotEqual, [Some(left), Some(right)]) => {
                    let term = (AddrTerm::Name(right.clone()), right.span.clone());
                    let addrs = Addrs { span: right.span.clone(), terms: vec![term] };
                    self.member(left, &addrs, order == Order::NotEqual)
                }
                (Order::Equal | Order::NotEqual, _) => {
                    self.error(&span, Cause::IntegerWithAddress);
                    None
                }
                _ => {
                    self.error(&span, Cause::AddressOrder);
                    None
                }
            };
        }
        let (a, b) = (self.expr(a, out), self.expr(b, out));
        let (a, b) = (a?, b?);
        Some(match order {
            Order::Equal => program::Cond::Equal { a, b },
            Order::NotEqual => negate(program::Cond::Equal { a, b }, true),
            Order::AtMost => program::Cond::AtMost { a, b },
            Order::AtLeast => program::Cond::AtMost { a: b, b: a },
            Order::Less => negate(program::Cond::AtMost { a: b, b: a }, true),
            Order::More => negate(program::Cond::AtMost { a, b }, true),
        })
    }
}

fn negate(cond: program::Cond, negated: bool) -> program::Cond {
    if negated { program::Cond::Not { cond: Box::new(cond) } } else { cond }
}
