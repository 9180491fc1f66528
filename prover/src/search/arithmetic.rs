//! Integers and addresses counted from others: bounds, by the sums of what is known.

use super::linear::{self, Row, Sum};
use super::step::{Operand, Proof};
use super::{Known, Search};
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Node, Op, sort};

/// The most inequalities that are looked at together.
const INEQUALITIES_MAX: usize = 48;

impl Search<'_> {
    /// The inequality that a formula is, as a sum that is at most 0, or is 0.
    fn row(&mut self, proof: &Proof) -> Option<Row> {
        let Node { op, args: [a, b, ..] } = self.get(proof.says);
        let (left, right, more) = match (op, self.get(a)) {
            (Op::Le, _) => (a, b, 0),
            (Op::Not, Node { op: Op::Le, args: [a, b, ..] }) => (b, a, 1),
            (Op::Eq, _) if self.kernel.terms.sort(a) == sort::INT => (a, b, 0),
            _ => return None,
        };
        let mut sum = Sum { constant: more, ..Sum::default() };
        sum.add(&mut self.kernel.terms, left, 1)?;
        sum.add(&mut self.kernel.terms, right, -1)?;
        Some(Row { sum, is_equation: op == Op::Eq, price: proof.bytes })
    }

    /// The inequalities that are known.
    fn rows(&mut self, known: &Known, more: Option<&Proof>) -> (Vec<Proof>, Vec<Row>) {
        let mut all: Vec<Proof> = Vec::new();
        for proof in known.all().iter().chain(more) {
            let Node { op, args: [a, ..] } = self.get(proof.says);
            match op {
                Op::In if self.kernel.terms.sort(a) == sort::INT => {
                    if let Some(both) = self.rule(rule::BOUNDS, &[proof], Vec::new()) {
                        all.extend(self.rule(rule::LEFT, &[&both], Vec::new()));
                        all.extend(self.rule(rule::RIGHT, &[&both], Vec::new()));
                    }
                }
                Op::Le | Op::Eq | Op::Not => all.push(Proof::clone(proof)),
                _ => {}
            }
        }
        let mut both: Vec<(Proof, Row)> = Vec::new();
        for proof in all {
            if let Some(row) = self.row(&proof) {
                // An equation and its mirror image say the same.
                let mirrored =
                    |(_, known): &(Proof, Row)| known.is_equation && row.is_equation && known.sum.is_minus(&row.sum);
                if !both.iter().any(mirrored) {
                    both.push((proof, row));
                }
            }
        }
        both.sort_by_key(|(proof, _)| proof.bytes);
        both.truncate(INEQUALITIES_MAX);
        both.into_iter().unzip()
    }

    /// False, by a sum of inequalities that are known, and of `more`.
    pub(super) fn no_numbers(&mut self, known: &Known, more: Option<&Proof>) -> Option<Proof> {
        let (proofs, rows) = self.rows(known, more);
        if rows.is_empty() {
            return None;
        }
        self.steps += rows.len();
        let taken = linear::refute(&rows)?;
        let mut operands = vec![Operand::Number(taken.len() as u32)];
        operands.extend(taken.iter().map(|(_, times)| Operand::Signed(*times)));
        let premises: Vec<&Proof> = taken.iter().map(|(row, _)| &proofs[*row]).collect();
        self.rule(rule::LINEAR, &premises, operands)
    }

    /// An inequality, by the contradiction of its opposite with what is known.
    pub(super) fn inequality(&mut self, known: &Known, goal: Id) -> Option<Proof> {
        if let Some(found) = known.get(goal).or_else(|| self.evaluated(goal)) {
            return Some(found);
        }
        self.suppose_not(goal, |search, claim| search.no_numbers(known, Some(&claim)))
    }

    /// The least and the greatest that an integer can be.
    pub(super) fn range_of(&mut self, known: &Known, value: Id) -> (Option<i64>, Option<i64>) {
        if let Some(value) = self.kernel.terms.as_int(value) {
            return (Some(value), Some(value));
        }
        let (_, rows) = self.rows(known, None);
        let mut sum = Sum::default();
        if sum.add(&mut self.kernel.terms, value, 1).is_none() {
            return (None, None);
        }
        linear::range(&rows, &sum, Id::MAX)
    }

    /// That something is in a set that is written out.
    pub(super) fn member(&mut self, known: &Known, member: Id, set: Id) -> Option<Proof> {
        let found = match self.get(member).op {
            Op::Offset => self.counted(known, member, set),
            _ if self.kernel.terms.sort(member) == sort::INT => self.enclosed(known, member, set),
            _ => self.the_same(known, member, set),
        };
        found.or_else(|| self.other_part(known, member, set))
    }

    /// By something that it is equal to.
    fn the_same(&mut self, known: &Known, member: Id, set: Id) -> Option<Proof> {
        for proof in known.all() {
            let Node { op: Op::Eq, args: [other, same, ..] } = self.get(proof.says) else { continue };
            if same != member || !matches!(self.get(other).op, Op::Addr | Op::Offset) {
                continue;
            }
            let is_in = self.node(Op::In, other, set)?;
            let shown = self.plainly(known, is_in).or_else(|| self.counted(known, other, set));
            if let Some(shown) = shown {
                return self.rule(rule::CONGRUENCE, &[&proof, &shown], Vec::new());
            }
        }
        None
    }

    /// An integer in a set of integers, by its bounds.
    fn enclosed(&mut self, known: &Known, member: Id, set: Id) -> Option<Proof> {
        let number = self.set_number(set)?;
        let (low, high) = self.bounds(known, member)?;
        self.rule(rule::ENCLOSE, &[&low, &high], vec![Operand::Number(number)])
    }

    /// That an integer is at least and at most some literals, the closest that can be shown.
    fn bounds(&mut self, known: &Known, value: Id) -> Option<(Proof, Proof)> {
        let (Some(least), Some(greatest)) = self.range_of(known, value) else { return None };
        let (least, greatest) = (self.kernel.terms.int(least).ok()?, self.kernel.terms.int(greatest).ok()?);
        let (low, high) = (self.node(Op::Le, least, value)?, self.node(Op::Le, value, greatest)?);
        Some((self.inequality(known, low)?, self.inequality(known, high)?))
    }

    /// An address counted from another: by bounds at hand, or by the closest.
    fn counted(&mut self, known: &Known, address: Id, set: Id) -> Option<Proof> {
        let Node { op: Op::Offset, args: [base, by, ..] } = self.get(address) else { return None };
        let number = self.set_number(set)?;
        let mut bases: Vec<Option<Proof>> = vec![None];
        if self.get(base).op != Op::Addr {
            bases = known.all().into_iter().filter(|proof| self.is_in(proof.says, base)).map(Some).collect();
        }
        let mut pairs: Vec<(Proof, Proof)> = Vec::new();
        let (mut lows, mut highs): (Vec<Proof>, Vec<Proof>) = (Vec::new(), Vec::new());
        for proof in known.all() {
            let Node { op: Op::Le, args: [a, b, ..] } = self.get(proof.says) else { continue };
            if b == by && self.kernel.terms.as_int(a).is_some() {
                lows.push(proof);
            } else if a == by && self.kernel.terms.as_int(b).is_some() {
                highs.push(proof);
            }
        }
        for low in &lows {
            pairs.extend(highs.iter().map(|high| (Proof::clone(low), Proof::clone(high))));
        }
        pairs.extend(self.bounds(known, by));
        let mut best: Option<Proof> = None;
        for (low, high) in &pairs {
            for base in &bases {
                let premises: Vec<&Proof> = base.iter().chain([low, high]).collect();
                let operands = vec![Operand::Term(address), Operand::Number(number)];
                if let Some(found) = self.rule(rule::OFFSET, &premises, operands)
                    && best.as_ref().is_none_or(|best| found.bytes < best.bytes)
                {
                    best = Some(found);
                }
            }
        }
        best
    }

    /// By being in a set that is this one and another together, in which it is not.
    fn other_part(&mut self, known: &Known, member: Id, set: Id) -> Option<Proof> {
        let wanted = self.set_number(set)?;
        let all: Vec<Proof> = known.all().into_iter().filter(|proof| self.is_in(proof.says, member)).collect();
        for proof in all {
            for other in self.sets_like(set) {
                let operands = vec![Operand::Number(wanted), Operand::Number(other)];
                let Some(split) = self.rule(rule::SPLIT, &[&proof], operands) else { continue };
                let Node { args: [here, there, ..], .. } = self.get(split.says);
                let gone = self.under(there, |search, claim| {
                    let never = search.contradicts(known, &claim)?;
                    search.explode(here, never)
                });
                let Some(gone) = gone else { continue };
                let kept = self.under(here, |_, claim| Some(claim))?;
                return self.rule(rule::CASES, &[&split, &kept, &gone], Vec::new());
            }
        }
        None
    }
}
