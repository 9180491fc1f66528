//! The theory: what the operations on sets, groups and lists mean, and arithmetic.
//!
//! Every entry of [`definition`] is a definition, so it adds no theorem about what was there before it. The arithmetic
//! is that of the integers: sums are exact, and a value that leaves its machine representation is a fault, never
//! another value.

use crate::logic::Fault;
use crate::program::Field;
use crate::term::{Id, Node, Op, SetValue, Terms, sort};
use alloc::vec::Vec;

/// What a formula is equivalent to, or a term equal to, by the meaning of its outermost operation. None where it has no
/// definition.
pub(crate) fn definition(t: &mut Terms, defined: Id) -> Result<Option<Id>, Fault> {
    let Node { op, args: [a, b, ..] } = t.get(defined);
    let var = |t: &mut Terms, index: u32, sort: u8| t.node(Op::Var, index, u32::from(sort));
    Ok(Some(match op {
        // ∃! x φ: there is an x with φ, and whatever has φ is x. In the inner scope, φ speaks of y.
        Op::Unique => {
            let (y, x) = (var(t, 0, a as u8)?, var(t, 1, a as u8)?);
            let same = t.node(Op::Eq, y, x)?;
            let only = t.node(Op::Implies, b, same)?;
            let all = t.node(Op::Forall, a, only)?;
            let both = t.node(Op::And, b, all)?;
            t.node(Op::Exists, a, both)?
        }
        // Sets are what is in them.
        Op::Subset | Op::Eq if matches!(t.sort(a), sort::PACKETS | sort::ADDRS) => {
            let member = if t.sort(a) == sort::PACKETS { sort::PACKET } else { sort::ADDR };
            let x = var(t, 0, member)?;
            let (in_a, in_b) = (t.node(Op::In, x, a)?, t.node(Op::In, x, b)?);
            let body = t.node(if op == Op::Eq { Op::Iff } else { Op::Implies }, in_a, in_b)?;
            t.node(Op::Forall, u32::from(member), body)?
        }
        Op::Eq => match (t.get(a), t.get(b)) {
            (Node { op: Op::Nil, .. }, Node { op: Op::Cons, .. }) => t.node(Op::False, 0, 0)?,
            (Node { op: Op::Cons, args: [x, l, ..] }, Node { op: Op::Cons, args: [y, m, ..] }) => {
                let (heads, tails) = (t.node(Op::Eq, x, y)?, t.node(Op::Eq, l, m)?);
                t.node(Op::And, heads, tails)?
            }
            _ => return Ok(None),
        },
        Op::In => {
            let Node { op, args: [c, d, ..] } = t.get(b);
            match op {
                Op::Empty | Op::Nil => t.node(Op::False, 0, 0)?,
                Op::Union | Op::Inter | Op::Minus => {
                    let (left, right) = (t.node(Op::In, a, c)?, t.node(Op::In, a, d)?);
                    match op {
                        Op::Union => t.node(Op::Or, left, right)?,
                        Op::Inter => t.node(Op::And, left, right)?,
                        _ => {
                            let not = t.node(Op::Not, right, 0)?;
                            t.node(Op::And, left, not)?
                        }
                    }
                }
                Op::From | Op::To => {
                    let addr = t.node(if op == Op::From { Op::Src } else { Op::Dst }, a, 0)?;
                    let (left, right) = (t.node(Op::In, a, c)?, t.node(Op::In, addr, d)?);
                    t.node(Op::And, left, right)?
                }
                Op::Group => {
                    let (field, all) = match t.get(c) {
                        Node { op: Op::BySrc, args } => (Field::Src, args[0]),
                        Node { op: Op::ByDst, args } => (Field::Dst, args[0]),
                        _ => return Ok(None),
                    };
                    let addr = t.node(if field == Field::Src { Op::Src } else { Op::Dst }, a, 0)?;
                    let (left, right) = (t.node(Op::In, a, all)?, t.node(Op::Eq, addr, d)?);
                    t.node(Op::And, left, right)?
                }
                Op::Cons => {
                    let (first, rest) = (t.node(Op::Eq, a, c)?, t.node(Op::In, a, d)?);
                    t.node(Op::Or, first, rest)?
                }
                _ => return Ok(None),
            }
        }
        Op::Append => match t.get(a) {
            Node { op: Op::Nil, .. } => b,
            Node { op: Op::Cons, args: [x, l, ..] } => {
                let rest = t.node(Op::Append, l, b)?;
                t.node(Op::Cons, x, rest)?
            }
            _ => return Ok(None),
        },
        Op::Len => match t.get(a) {
            Node { op: Op::Nil, .. } => t.int(0)?,
            Node { op: Op::Cons, args: [_, l, ..] } => {
                let (rest, one) = (t.node(Op::Len, l, 0)?, t.int(1)?);
                t.node(Op::Add, rest, one)?
            }
            _ => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

/// Whether a ground formula is true: a comparison of integers, addresses or sets that are written out.
pub(crate) fn truth(t: &mut Terms, formula: Id) -> Result<bool, Fault> {
    let Node { op, args: [a, b, ..] } = t.get(formula);
    match op {
        Op::Le => Ok(integer(t, a)? <= integer(t, b)?),
        Op::Eq if t.sort(a) == sort::INT => Ok(integer(t, a)? == integer(t, b)?),
        Op::Eq => match (t.get(a), t.get(b)) {
            // Equal addresses have one literal.
            (Node { op: Op::Addr, .. }, Node { op: Op::Addr, .. }) => Ok(a == b),
            _ => Err(Fault::WrongForm),
        },
        Op::In if t.sort(a) == sort::INT => {
            let value = integer(t, a)?;
            let Some(SetValue::Numbers(set)) = t.as_set(b) else { return Err(Fault::WrongForm) };
            let (is_in, size) = (u32::try_from(value).is_ok_and(|n| set.contains(n)), set.ranges().len());
            t.work(size)?;
            Ok(is_in)
        }
        Op::In => match (t.get(a), t.as_set(b)) {
            (Node { op: Op::Addr, args }, Some(SetValue::Addrs(set))) => Ok(set.contains(t.addrs[args[0] as usize])),
            _ => Err(Fault::WrongForm),
        },
        _ => Err(Fault::WrongForm),
    }
}

/// The value of a ground integer.
fn integer(t: &mut Terms, id: Id) -> Result<i64, Fault> {
    t.work(1)?;
    if let Some(value) = t.as_int(id) {
        return Ok(value);
    }
    let Node { op, args: [a, b, ..] } = t.get(id);
    if !matches!(op, Op::Add | Op::Sub | Op::Mul) {
        return Err(Fault::WrongForm);
    }
    let (a, b) = (integer(t, a)?, integer(t, b)?);
    match op {
        Op::Add => a.checked_add(b),
        Op::Sub => a.checked_sub(b),
        _ => a.checked_mul(b),
    }
    .ok_or(Fault::Overflow)
}

/// A sum of multiples of terms that are no sums, and a constant.
#[derive(Default)]
pub(crate) struct Linear {
    /// Terms, rising, with how often each is in the sum.
    parts: Vec<(Id, i128)>,
    pub(crate) constant: i128,
}

impl Linear {
    /// Adds `times` the integer `id`. A product of two terms that are no literals is one term, whatever their order.
    pub(crate) fn add(&mut self, t: &mut Terms, id: Id, times: i128) -> Result<(), Fault> {
        t.work(1)?;
        let Node { op, args: [a, b, ..] } = t.get(id);
        let scaled = |value: i64| times.checked_mul(i128::from(value)).ok_or(Fault::Overflow);
        match (op, t.as_int(id)) {
            (_, Some(value)) => {
                self.constant = self.constant.checked_add(scaled(value)?).ok_or(Fault::Overflow)?;
                Ok(())
            }
            (Op::Add | Op::Sub, _) => {
                self.add(t, a, times)?;
                self.add(t, b, if op == Op::Add { times } else { times.checked_neg().ok_or(Fault::Overflow)? })
            }
            (Op::Mul, _) => match (t.as_int(a), t.as_int(b)) {
                (Some(value), _) => self.add(t, b, scaled(value)?),
                (_, Some(value)) => self.add(t, a, scaled(value)?),
                _ => {
                    let ordered = t.node(Op::Mul, a.min(b), a.max(b))?;
                    self.count(t, ordered, times)
                }
            },
            _ => self.count(t, id, times),
        }
    }
    fn count(&mut self, t: &mut Terms, id: Id, times: i128) -> Result<(), Fault> {
        match self.parts.binary_search_by_key(&id, |(part, _)| *part) {
            Ok(at) => {
                let part = &mut self.parts[at].1;
                *part = part.checked_add(times).ok_or(Fault::Overflow)?;
            }
            Err(at) => {
                t.work(self.parts.len() - at)?;
                self.parts.insert(at, (id, times));
            }
        }
        Ok(())
    }
    /// Whether nothing but a constant above 0 is left.
    pub(crate) fn is_positive_constant(&self) -> bool {
        self.constant > 0 && self.parts.iter().all(|(_, times)| *times == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_work_by_what_is_moved_in_it() {
        let mut t = Terms::new(usize::MAX);
        let constants: Vec<Id> = (0..10).map(|_| t.fresh(sort::INT).expect("room")).collect();
        let mut spent = |falling: bool| {
            let mut sum = Linear::default();
            let start = t.left();
            for i in 0..constants.len() {
                let at = if falling { constants.len() - 1 - i } else { i };
                sum.add(&mut t, constants[at], 1).expect("room");
            }
            let (first, all) = (sum.parts.first().map(|part| part.0), sum.parts.len());
            assert_eq!((first, all), (Some(constants[0]), 10), "they rise");
            start - t.left()
        };
        // A step for each; where each is put before all others, one more for each of them.
        assert_eq!((spent(false), spent(true)), (10, 10 + 45));
    }
}
