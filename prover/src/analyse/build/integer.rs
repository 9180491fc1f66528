//! Integers: the bounds of sums from the comparisons that are known, and what the bounds rule out.
//!
//! A bound is derived one term at a time, from inequalities in which the term stands once; so it is found fast, and not
//! every bound is found.

use super::{Builder, Scope, shown};
use crate::analyse::proof::{Proof, Step};
use std::collections::BTreeMap;
use std::rc::Rc;
use vinet_trusted::term::{Id, Node, Op, sort};

/// How many inequalities a bound may be derived from, one from the other.
const BOUND_DEPTH: u32 = 4;

/// A sum of terms, each so many times, and a constant.
#[derive(Clone, Default, Debug)]
pub(super) struct Form {
    parts: BTreeMap<Id, i128>,
    more: i128,
}

impl Form {
    fn add(&mut self, other: &Form, times: i128) -> Option<()> {
        for (part, n) in &other.parts {
            let sum = self.parts.entry(*part).or_default();
            *sum = sum.checked_add(n.checked_mul(times)?)?;
        }
        self.parts.retain(|_, n| *n != 0);
        self.more = self.more.checked_add(other.more.checked_mul(times)?)?;
        Some(())
    }
}

type Sum = Vec<(Proof, i64)>;

impl Builder<'_> {
    pub(super) fn form(&self, id: Id) -> Option<Form> {
        let Node { op, args: [a, b, ..] } = self.t.get(id);
        let mut form = Form::default();
        match (op, self.t.as_int(id)) {
            (_, Some(value)) => form.more = i128::from(value),
            (Op::Add | Op::Sub, _) => {
                form.add(&self.form(a)?, 1)?;
                form.add(&self.form(b)?, if op == Op::Add { 1 } else { -1 })?;
            }
            (Op::Mul, _) => match (self.t.as_int(a), self.t.as_int(b)) {
                (Some(n), _) => form.add(&self.form(b)?, i128::from(n))?,
                (_, Some(n)) => form.add(&self.form(a)?, i128::from(n))?,
                _ => {
                    form.parts.insert(id, 1);
                }
            },
            _ => {
                form.parts.insert(id, 1);
            }
        }
        Some(form)
    }

    /// What a comparison says: that a sum is at most 0, or that it is 0.
    fn says(&self, fact: Id) -> Option<(Form, bool)> {
        let Node { op, args: [a, b, ..] } = self.t.get(fact);
        let (a, b, more, is_equation) = match op {
            Op::Le => (a, b, 0, false),
            Op::Eq if self.t.sort(a) == sort::INT => (a, b, 0, true),
            Op::Not => {
                let [c, d] = self.parts(a, Op::Le)?;
                (d, c, 1, false)
            }
            _ => return None,
        };
        let mut form = self.form(a)?;
        form.add(&self.form(b)?, -1)?;
        form.more = form.more.checked_add(more)?;
        Some((form, is_equation))
    }

    /// The least or greatest value of a term, and what shows it.
    fn bound(&mut self, scope: &Scope, term: Id, high: bool, depth: u32, without: &mut Vec<Id>) -> Option<(i128, Sum)> {
        self.steps += 1;
        if depth == 0 || self.steps > self.steps_max {
            return None;
        }
        let mut best: Option<(i128, Sum)> = None;
        for fact in &scope.facts {
            if without.contains(&fact.says) {
                continue;
            }
            let Some((form, is_equation)) = self.says(fact.says) else { continue };
            // For an upper bound the term has to be there once, for a lower one once less than nothing.
            let wanted = if high { 1 } else { -1 };
            let times = match form.parts.get(&term) {
                Some(n) if *n == wanted => 1,
                Some(n) if *n == -wanted && is_equation => -1,
                _ => continue,
            };
            let mut sum = vec![(Rc::clone(fact), times)];
            let mut value = form.more.checked_mul(i128::from(times))?;
            without.push(fact.says);
            let mut whole = true;
            for (part, n) in form.parts.iter().filter(|(part, _)| **part != term) {
                let n = n * i128::from(times);
                match self.bound(scope, *part, n < 0, depth - 1, without) {
                    Some((bound, why)) if n.abs() <= 1 << 31 => {
                        value += bound * n;
                        let scale = n.unsigned_abs() as i64;
                        sum.extend(why.into_iter().map(|(proof, k)| (proof, k * scale)));
                    }
                    _ => {
                        whole = false;
                        break;
                    }
                }
            }
            without.pop();
            if !whole {
                continue;
            }
            let value = if high { -value } else { value };
            if best.as_ref().is_none_or(|(old, _)| if high { value < *old } else { value > *old }) {
                best = Some((value, sum));
            }
        }
        best
    }

    /// The least or greatest value of a sum.
    pub(super) fn extreme(&mut self, scope: &Scope, form: &Form, high: bool) -> Option<i128> {
        let mut value = form.more;
        for (part, n) in &form.parts {
            let (bound, _) = self.bound(scope, *part, high == (*n > 0), BOUND_DEPTH, &mut Vec::new())?;
            value = value.checked_add(bound.checked_mul(*n)?)?;
        }
        Some(value)
    }

    /// What has to be added to a sum that is at most 0 for it to be above 0.
    fn excess(&mut self, scope: &Scope, form: &Form, without: Id) -> Option<Sum> {
        if form.parts.is_empty() {
            return (form.more > 0).then(Vec::new);
        }
        for fact in &scope.facts {
            if fact.says == without {
                continue;
            }
            let Some((says, is_equation)) = self.says(fact.says) else { continue };
            for times in [1, -1] {
                let mut sum = form.clone();
                if (times > 0 || is_equation) && sum.add(&says, times).is_some() && sum.parts.is_empty() && sum.more > 0
                {
                    return Some(vec![(Rc::clone(fact), times as i64)]);
                }
            }
        }
        let (mut least, mut sum) = (form.more, Vec::new());
        for (part, n) in &form.parts {
            let (bound, why) = self.bound(scope, *part, *n < 0, BOUND_DEPTH, &mut vec![without])?;
            least = least.checked_add(bound.checked_mul(*n)?)?;
            let scale = i64::try_from(n.unsigned_abs()).ok()?;
            sum.extend(why.into_iter().map(|(proof, k)| (proof, k.saturating_mul(scale))));
        }
        (least > 0).then_some(sum)
    }

    /// A comparison that cannot be, given the others.
    pub(super) fn impossible(&mut self, scope: &Scope, fact: &Proof) -> Option<Proof> {
        let (form, is_equation) = self.says(fact.says)?;
        for times in [1, -1] {
            if times < 0 && !is_equation {
                continue;
            }
            let mut taken = Form::default();
            taken.add(&form, times)?;
            if let Some(mut sum) = self.excess(scope, &taken, fact.says) {
                sum.insert(0, (Rc::clone(fact), times as i64));
                return Some(shown(self.falsity()?, Step::Linear(sum)));
            }
        }
        None
    }

    pub(super) fn at_most(&mut self, scope: &Scope, goal: Id, a: Id, b: Id) -> Option<Proof> {
        if let (Some(low), Some(high)) = (self.t.as_int(a), self.t.as_int(b)) {
            return (low <= high).then(|| shown(goal, Step::Evaluate(goal)));
        }
        let not = self.not(goal)?;
        let (form, _) = self.says(not)?;
        let sum = self.excess(scope, &form, not)?;
        let refuted = self.suppose(&Scope::default(), not, |builder, _, supposed| {
            let mut sum = sum;
            sum.insert(0, (Rc::clone(supposed), 1));
            Some(shown(builder.falsity()?, Step::Linear(sum)))
        })?;
        self.denied(refuted)
    }
}
