//! What an optimising compiler would do to a program, before it is lowered: constants are folded, what cannot be reached
//! or is never asked for goes, and selections in a row become one.
//!
//! The meaning stays, to the packet: a step is only taken out where it could not have ended the run, because a run that
//! ends early leaves what comes behind undone. What a program costs by its policy follows from its bytes, not from what
//! is left of it here. A program that a plan can say ([`crate::lower`]) needs none of this: there everything that always
//! agrees is one already.

use crate::tree::{Check, Step, Term, Test};
use std::collections::HashMap;
use vinet_trusted::program::{Expr, Slot};

/// A block without what it does not need.
pub(crate) fn simplify(block: Vec<Step>) -> Vec<Step> {
    let mut block = fold_block(block);
    loop {
        let uses = Uses::of(&block);
        let before = count(&block);
        block = fuse(drop_unread(block, &uses), &uses);
        if count(&block) == before {
            return block;
        }
        block = fold_block(block);
    }
}

/// The steps of a block, with those of the blocks in it.
pub(crate) fn count(block: &[Step]) -> usize {
    let blocks = |step: &Step| match step {
        Step::If { then, otherwise, .. } => count(then) + count(otherwise),
        Step::Foreach { body, .. } | Step::While { body, .. } => count(body),
        _ => 0,
    };
    block.iter().map(|step| 1 + blocks(step)).sum()
}

/// Whether evaluating it never ends a run.
fn is_safe(expr: &Expr) -> bool {
    matches!(expr, Expr::Const { .. } | Expr::Slot { .. })
}

fn is_safe_check(check: &Check) -> bool {
    match check {
        Check::AtMost { a, b } | Check::Equal { a, b } => is_safe(a) && is_safe(b),
        Check::Not(a) => is_safe_check(a),
        Check::And(a, b) | Check::Or(a, b) => is_safe_check(a) && is_safe_check(b),
        _ => true,
    }
}

/// An expression whose constant parts are done, unless that would end the run: it does when it is reached.
fn fold_expr(expr: Expr) -> Expr {
    let both = |a: Box<Expr>, b: Box<Expr>| (fold_expr(*a), fold_expr(*b));
    let constant = |expr: &Expr| match expr {
        Expr::Const { value } => Some(*value),
        _ => None,
    };
    let done = |value: Option<i64>| value.map(|value| Expr::Const { value });
    match expr {
        Expr::Add { a, b } => {
            let (a, b) = both(a, b);
            match (constant(&a), constant(&b)) {
                (Some(0), _) => b,
                (_, Some(0)) => a,
                (Some(x), Some(y)) if x.checked_add(y).is_some() => done(x.checked_add(y)).unwrap_or(a),
                _ => Expr::Add { a: Box::new(a), b: Box::new(b) },
            }
        }
        Expr::Sub { a, b } => {
            let (a, b) = both(a, b);
            match (constant(&a), constant(&b)) {
                (_, Some(0)) => a,
                (Some(x), Some(y)) if x.checked_sub(y).is_some() => done(x.checked_sub(y)).unwrap_or(a),
                _ => Expr::Sub { a: Box::new(a), b: Box::new(b) },
            }
        }
        Expr::Mul { a, b } => {
            let (a, b) = both(a, b);
            match (constant(&a), constant(&b)) {
                (Some(1), _) => b,
                (_, Some(1)) => a,
                (Some(x), Some(y)) if x.checked_mul(y).is_some() => done(x.checked_mul(y)).unwrap_or(a),
                _ => Expr::Mul { a: Box::new(a), b: Box::new(b) },
            }
        }
        Expr::Const { .. } | Expr::Slot { .. } => expr,
    }
}

fn fold_test(test: Test) -> Test {
    match test {
        Test::Not(a) => match fold_test(*a) {
            Test::True => Test::False,
            Test::False => Test::True,
            Test::Not(a) => *a,
            a => Test::Not(Box::new(a)),
        },
        Test::And(a, b) => match (fold_test(*a), fold_test(*b)) {
            (Test::False, _) | (_, Test::False) => Test::False,
            (Test::True, a) | (a, Test::True) => a,
            (a, b) if a == b => a,
            (a, b) => Test::And(Box::new(a), Box::new(b)),
        },
        Test::Or(a, b) => match (fold_test(*a), fold_test(*b)) {
            (Test::True, _) | (_, Test::True) => Test::True,
            (Test::False, a) | (a, Test::False) => a,
            (a, b) if a == b => a,
            (a, b) => Test::Or(Box::new(a), Box::new(b)),
        },
        _ => test,
    }
}

fn fold_check(check: Check) -> Check {
    let of = |value: bool| if value { Check::True } else { Check::False };
    match check {
        Check::AtMost { a, b } => match (fold_expr(a), fold_expr(b)) {
            (Expr::Const { value: a }, Expr::Const { value: b }) => of(a <= b),
            (a, b) => Check::AtMost { a, b },
        },
        Check::Equal { a, b } => match (fold_expr(a), fold_expr(b)) {
            (Expr::Const { value: a }, Expr::Const { value: b }) => of(a == b),
            (a, b) => Check::Equal { a, b },
        },
        Check::Not(a) => match fold_check(*a) {
            Check::True => Check::False,
            Check::False => Check::True,
            Check::Not(a) => *a,
            a => Check::Not(Box::new(a)),
        },
        // The right side is looked at only where the left one leaves it open.
        Check::And(a, b) => match (fold_check(*a), fold_check(*b)) {
            (Check::False, _) => Check::False,
            (Check::True, a) | (a, Check::True) => a,
            (a, Check::False) if is_safe_check(&a) => Check::False,
            (a, b) => Check::And(Box::new(a), Box::new(b)),
        },
        Check::Or(a, b) => match (fold_check(*a), fold_check(*b)) {
            (Check::True, _) => Check::True,
            (Check::False, a) | (a, Check::False) => a,
            (a, Check::True) if is_safe_check(&a) => Check::True,
            (a, b) => Check::Or(Box::new(a), Box::new(b)),
        },
        _ => check,
    }
}

fn fold_block(block: Vec<Step>) -> Vec<Step> {
    let mut folded = Vec::with_capacity(block.len());
    for step in block {
        match step {
            Step::Select { out, arg, test } => folded.push(Step::Select { out, arg, test: fold_test(test) }),
            Step::Let { out, expr } => folded.push(Step::Let { out, expr: fold_expr(expr) }),
            Step::Offset { out, base, by } => folded.push(Step::Offset { out, base, by: fold_expr(by) }),
            Step::If { cond, then, otherwise } => match (fold_check(cond), fold_block(then), fold_block(otherwise)) {
                (Check::True, then, _) => folded.extend(then),
                (Check::False, _, otherwise) => folded.extend(otherwise),
                (cond, then, otherwise) if then == otherwise && is_safe_check(&cond) => folded.extend(then),
                (cond, then, otherwise) => folded.push(Step::If { cond, then, otherwise }),
            },
            Step::Foreach { groups, field, packets, key, body } => match fold_block(body) {
                body if body.is_empty() => {}
                body => folded.push(Step::Foreach { groups, field, packets, key, body }),
            },
            Step::While { cond, turns, body } => match fold_check(cond) {
                Check::False => {}
                cond => folded.push(Step::While { cond, turns, body: fold_block(body) }),
            },
            step => folded.push(step),
        }
    }
    folded
}

/// How often slots are read and assigned.
#[derive(Default)]
struct Uses {
    read: HashMap<Slot, usize>,
    assigned: HashMap<Slot, usize>,
}

impl Uses {
    fn of(block: &[Step]) -> Uses {
        let mut uses = Uses::default();
        uses.block(block);
        uses
    }
    fn reads(&mut self, slots: impl IntoIterator<Item = Slot>) {
        slots.into_iter().for_each(|slot| *self.read.entry(slot).or_default() += 1);
    }
    fn assigns(&mut self, slots: impl IntoIterator<Item = Slot>) {
        slots.into_iter().for_each(|slot| *self.assigned.entry(slot).or_default() += 1);
    }
    fn is_unread(&self, slot: Slot) -> bool {
        !self.read.contains_key(&slot)
    }
    /// Whether it is assigned at one place and read at one.
    fn is_passing(&self, slot: Slot) -> bool {
        self.read.get(&slot) == Some(&1) && self.assigned.get(&slot) == Some(&1)
    }
    fn block(&mut self, block: &[Step]) {
        for step in block {
            self.step(step);
        }
    }
    fn step(&mut self, step: &Step) {
        match step {
            Step::Select { out, arg, test } => {
                self.assigns([*out]);
                self.reads([*arg]);
                self.test(test);
            }
            Step::Partition { out, arg, .. } | Step::Count { out, arg, .. } | Step::Size { out, arg } => {
                self.assigns([*out]);
                self.reads([*arg]);
            }
            Step::Content { dests, contents, arg } => {
                self.assigns([*dests, *contents]);
                self.reads([*arg]);
            }
            Step::Union { out, a, b } | Step::Minus { out, a, b } => {
                self.assigns([*out]);
                self.reads([*a, *b]);
            }
            Step::Let { out, expr } => {
                self.assigns([*out]);
                self.expr(expr);
            }
            Step::Offset { out, base, by } => {
                self.assigns([*out]);
                self.term(base);
                self.expr(by);
            }
            Step::Discard { arg } => self.reads([*arg]),
            Step::Generate { src, dst, data, .. } => {
                self.term(src);
                self.term(dst);
                self.reads([*data]);
            }
            Step::If { cond, then, otherwise } => {
                self.check(cond);
                self.block(then);
                self.block(otherwise);
            }
            Step::Foreach { groups, packets, key, body, .. } => {
                self.reads([*groups]);
                self.assigns([*packets, *key]);
                self.block(body);
            }
            Step::While { cond, body, .. } => {
                self.check(cond);
                self.block(body);
            }
        }
    }
    fn term(&mut self, term: &Term) {
        if let Term::Slot(slot) = term {
            self.reads([*slot]);
        }
    }
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Const { .. } => {}
            Expr::Slot { slot } => self.reads([*slot]),
            Expr::Add { a, b } | Expr::Sub { a, b } | Expr::Mul { a, b } => {
                self.expr(a);
                self.expr(b);
            }
        }
    }
    fn test(&mut self, test: &Test) {
        match test {
            Test::Is { slot, .. } => self.reads([*slot]),
            Test::Not(a) => self.test(a),
            Test::And(a, b) | Test::Or(a, b) => {
                self.test(a);
                self.test(b);
            }
            Test::True | Test::False | Test::In(_) | Test::Number(_) => {}
        }
    }
    fn check(&mut self, check: &Check) {
        match check {
            Check::Contains { arg, .. } | Check::Empty { arg } => self.reads([*arg]),
            Check::In { slot, .. } => self.reads([*slot]),
            Check::Is { slot, other } => self.reads([*slot, *other]),
            Check::AtMost { a, b } | Check::Equal { a, b } => {
                self.expr(a);
                self.expr(b);
            }
            Check::Not(a) => self.check(a),
            Check::And(a, b) | Check::Or(a, b) => {
                self.check(a);
                self.check(b);
            }
            Check::True | Check::False => {}
        }
    }
}

/// Takes out what nobody reads and what could not have ended the run.
fn drop_unread(block: Vec<Step>, uses: &Uses) -> Vec<Step> {
    let is_needed = |step: &Step| match step {
        Step::Select { out, .. }
        | Step::Partition { out, .. }
        | Step::Union { out, .. }
        | Step::Minus { out, .. }
        | Step::Count { out, .. }
        | Step::Size { out, .. } => !uses.is_unread(*out),
        Step::Content { dests, contents, .. } => !uses.is_unread(*dests) || !uses.is_unread(*contents),
        Step::Let { out, expr } => !uses.is_unread(*out) || !is_safe(expr),
        _ => true,
    };
    let inside = |step: Step| match step {
        Step::If { cond, then, otherwise } => {
            Step::If { cond, then: drop_unread(then, uses), otherwise: drop_unread(otherwise, uses) }
        }
        Step::Foreach { groups, field, packets, key, body } => {
            Step::Foreach { groups, field, packets, key, body: drop_unread(body, uses) }
        }
        Step::While { cond, turns, body } => Step::While { cond, turns, body: drop_unread(body, uses) },
        step => step,
    };
    block.into_iter().filter(is_needed).map(inside).collect()
}

/// Makes one selection of two in a row, where the first is for the second alone: one pass over the packets.
fn fuse(block: Vec<Step>, uses: &Uses) -> Vec<Step> {
    let mut fused: Vec<Step> = Vec::with_capacity(block.len());
    for step in block {
        let step = match step {
            Step::If { cond, then, otherwise } => {
                Step::If { cond, then: fuse(then, uses), otherwise: fuse(otherwise, uses) }
            }
            Step::Foreach { groups, field, packets, key, body } => {
                Step::Foreach { groups, field, packets, key, body: fuse(body, uses) }
            }
            Step::While { cond, turns, body } => Step::While { cond, turns, body: fuse(body, uses) },
            step => step,
        };
        match (fused.pop(), step) {
            (Some(Step::Select { out: passing, arg: from, test: first }), Step::Select { out, arg, test })
                if passing == arg && uses.is_passing(passing) =>
            {
                fused.push(Step::Select { out, arg: from, test: Test::And(Box::new(first), Box::new(test)) });
            }
            (before, step) => {
                fused.extend(before);
                fused.push(step);
            }
        }
    }
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(value: i64) -> Expr {
        Expr::Const { value }
    }
    fn add(a: Expr, b: Expr) -> Expr {
        Expr::Add { a: Box::new(a), b: Box::new(b) }
    }
    fn select(out: Slot, arg: Slot, test: Test) -> Step {
        Step::Select { out, arg, test }
    }
    const DISCARD: Step = Step::Discard { arg: 3 };

    #[test]
    fn selections_in_a_row_are_one_pass() {
        let block = vec![select(1, 0, Test::In(0)), select(2, 1, Test::Number(0)), select(3, 2, Test::True), DISCARD];
        let both = Test::And(Box::new(Test::In(0)), Box::new(Test::Number(0)));
        assert_eq!(simplify(block), [select(3, 0, both), DISCARD]);
        let read_twice = vec![select(1, 0, Test::In(0)), select(3, 1, Test::In(1)), DISCARD, Step::Discard { arg: 1 }];
        assert_eq!(simplify(read_twice.clone()), read_twice);
    }

    #[test]
    fn what_is_never_reached_or_read_goes() {
        let never = Check::AtMost { a: add(constant(2), constant(3)), b: constant(4) };
        let block = vec![
            Step::Let { out: 5, expr: add(constant(1), Expr::Slot { slot: 6 }) },
            Step::Let { out: 7, expr: constant(1) },
            Step::Size { out: 8, arg: 0 },
            select(4, 0, Test::In(3)),
            Step::If { cond: never.clone(), then: vec![Step::Discard { arg: 4 }], otherwise: vec![DISCARD] },
            Step::While { cond: never, turns: 5, body: vec![Step::Discard { arg: 4 }] },
            Step::Foreach { groups: 9, field: vinet_trusted::packet::Field::Src, packets: 10, key: 11, body: vec![] },
        ];
        // The first sum may leave 64 bits, which ends the run.
        assert_eq!(simplify(block.clone()), [block[0].clone(), DISCARD]);
    }

    #[test]
    fn what_may_end_a_run_stays() {
        let overflow = add(constant(i64::MAX), constant(1));
        let risky = Check::Equal { a: overflow.clone(), b: constant(0) };
        let block = vec![
            Step::Let { out: 1, expr: overflow },
            Step::If { cond: Check::And(Box::new(risky), Box::new(Check::False)), then: vec![], otherwise: vec![] },
            Step::While { cond: Check::True, turns: 3, body: vec![] },
            DISCARD,
        ];
        assert_eq!(simplify(block.clone()), block);
    }
}
