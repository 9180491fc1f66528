//! From goals back to what is known: by the form of the goal first, then by cases.
//!
//! [`Builder::solve`] takes turns: it looks for the goal, unfolds one set of packets, looks for a contradiction, settles
//! what is no case any more, and only then distinguishes two cases.

use super::{ALIAS_DEPTH, Builder, CASES_MAX, Scope, shown};
use crate::analyse::proof::{Proof, Step};
use std::rc::Rc;
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Node, Op, sort};

impl Builder<'_> {
    /// A goal; a conjunction part by part where no packet is given.
    pub(super) fn each(&mut self, scope: &Scope, goal: Id) -> Option<Proof> {
        if let Some([a, b]) = self.parts(goal, Op::And)
            && scope.todo.is_empty()
        {
            let (a, b) = (self.each(scope, a)?, self.each(scope, b)?);
            return self.both(a, b);
        }
        if let Some([sort, body]) = self.parts(goal, Op::Forall) {
            return self.for_all(scope, goal, sort, body);
        }
        let mut inner = scope.clone();
        self.look_up(&mut inner, goal);
        if let Some(proof) = self.solve(inner.clone(), goal) {
            return Some(proof);
        }
        // Perhaps this place is never come to, for reasons that have nothing to do with the goal.
        (self.cases, self.steps) = (0, 0);
        let known: Vec<Id> = inner.facts.iter().map(|fact| fact.says).collect();
        known.into_iter().for_each(|fact| self.look_up(&mut inner, fact));
        self.solve(inner, goal)
    }

    fn for_all(&mut self, scope: &Scope, goal: Id, sort: u32, body: Id) -> Option<Proof> {
        if sort != u32::from(sort::PACKET) {
            return None;
        }
        let (packet, number) = self.pick()?;
        let opened = self.t.open(body, packet).ok()?;
        let [premise, conclusion] = self.parts(opened, Op::Implies)?;
        let implied = self.suppose(scope, premise, |b, inner, _| b.solve(inner.clone(), conclusion))?;
        Some(shown(goal, Step::ForAll(number, implied)))
    }

    pub(super) fn pick(&mut self) -> Option<(Id, u32)> {
        let packet = self.t.fresh(sort::PACKET).ok()?;
        self.picked += 1;
        Some((packet, self.t.get(packet).args[0]))
    }

    pub(super) fn solve(&mut self, mut scope: Scope, goal: Id) -> Option<Proof> {
        loop {
            self.steps += 1;
            if self.steps > self.steps_max {
                return None;
            }
            if let Some(proof) = self.direct(&scope, goal) {
                return Some(proof);
            }
            if let Some(member) = scope.todo.pop_front() {
                self.unfold(&mut scope, &member);
                continue;
            }
            if let Some(never) = self.contradiction(&scope) {
                return self.whatever(never, goal);
            }
            if self.settle(&mut scope) {
                continue;
            }
            let split = scope.splits.pop_back()?;
            if self.cases == CASES_MAX {
                return None;
            }
            self.cases += 1;
            if let Some(proof) = self.split(&scope, &split, goal) {
                return Some(proof);
            }
        }
    }

    /// By the two cases of A ∨ B or ¬(A ∧ B).
    fn split(&mut self, scope: &Scope, split: &Proof, goal: Id) -> Option<Proof> {
        let case = |b: &mut Self, formula| {
            b.suppose(scope, formula, |b, inner, _| {
                b.look_up(inner, formula);
                b.solve(inner.clone(), goal)
            })
        };
        if let Some([a, b]) = self.parts(split.says, Op::Or) {
            let (first, second) = (case(self, a)?, case(self, b)?);
            return self.cases(Rc::clone(split), first, second);
        }
        let [both, _] = self.parts(split.says, Op::Not)?;
        let [a, b] = self.parts(both, Op::And)?;
        let (not_a, not_b, not_goal) = (self.not(a)?, self.not(b)?, self.not(goal)?);
        let (first, second) = (case(self, not_a)?, case(self, not_b)?);
        // Were the goal false, both would hold.
        let refuted = self.suppose(&Scope::default(), not_goal, |builder, _, denial| {
            let part = |builder: &mut Self, not, implied: Proof| {
                let refuted = builder.suppose(&Scope::default(), not, |builder, _, supposed| {
                    let says = goal;
                    let rule = Step::Rule(rule::MODUS_PONENS, vec![implied, Rc::clone(supposed)]);
                    builder.absurd(shown(says, rule), Rc::clone(denial))
                })?;
                builder.denied(refuted)
            };
            let (a, b) = (part(builder, not_a, first)?, part(builder, not_b, second)?);
            let all = builder.both(a, b)?;
            builder.absurd(all, Rc::clone(split))
        })?;
        self.denied(refuted)
    }

    /// Learns the other side of an A ∨ B one of whose sides is denied.
    fn settle(&mut self, scope: &mut Scope) -> bool {
        for i in 0..scope.splits.len() {
            let split = Rc::clone(&scope.splits[i]);
            let Some(sides) = self.parts(split.says, Op::Or) else { continue };
            for (side, other) in [(sides[0], sides[1]), (sides[1], sides[0])] {
                let outer: &Scope = scope;
                let this_case = self.suppose(&Scope::default(), side, |b, _, supposed| {
                    let never = b.denied_conjunct(outer, supposed)?;
                    b.whatever(never, other)
                });
                let Some(this_case) = this_case else { continue };
                scope.splits.remove(i);
                let Some(other_case) = self.suppose(&Scope::default(), other, |_, _, s| Some(Rc::clone(s))) else {
                    return true;
                };
                let (first, second) = if side == sides[0] { (this_case, other_case) } else { (other_case, this_case) };
                if let Some(proof) = self.cases(split, first, second) {
                    self.learn(scope, proof);
                    self.look_up(scope, other);
                }
                return true;
            }
        }
        false
    }

    /// A contradiction from a conjunction, if one of its parts is known to be false.
    fn denied_conjunct(&mut self, scope: &Scope, proof: &Proof) -> Option<Proof> {
        let Node { op, args: [a, ..] } = self.t.get(proof.says);
        if op == Op::And {
            let left = self.left(proof)?;
            if let Some(never) = self.denied_conjunct(scope, &left) {
                return Some(never);
            }
            let right = self.right(proof)?;
            return self.denied_conjunct(scope, &right);
        }
        if op == Op::Not
            && let Some(holds) = scope.get(a)
        {
            return self.absurd(holds, Rc::clone(proof));
        }
        let not = self.not(proof.says)?;
        let denial = scope.get(not)?;
        self.absurd(Rc::clone(proof), denial)
    }

    /// A proof without further cases.
    pub(super) fn direct(&mut self, scope: &Scope, goal: Id) -> Option<Proof> {
        if let Some(proof) = scope.get(goal) {
            return Some(proof);
        }
        let Node { op, args: [a, b, ..] } = self.t.get(goal);
        match op {
            Op::True => Some(shown(goal, Step::Rule(rule::TRUTH, vec![]))),
            Op::False => self.contradiction(scope),
            Op::And => {
                let (a, b) = (self.direct(scope, a)?, self.direct(scope, b)?);
                self.both(a, b)
            }
            Op::Or => match self.direct(scope, a) {
                Some(a) => Some(shown(goal, Step::With(rule::EITHER_LEFT, a, b))),
                None => self.direct(scope, b).map(|b| shown(goal, Step::With(rule::EITHER_RIGHT, b, a))),
            },
            Op::Not => {
                let refuted = self.refute(scope, a)?;
                let says = goal;
                Some(shown(says, Step::Rule(rule::NEGATE, vec![refuted])))
            }
            Op::In if self.t.sort(a) == sort::ADDR => self.address_in(scope, a, b, ALIAS_DEPTH),
            Op::In if self.t.sort(a) == sort::INT => self.number_in(scope, a, b),
            Op::Le => self.at_most(scope, goal, a, b),
            Op::Eq if self.t.sort(a) == sort::INT => {
                (self.t.as_int(a).is_some() && a == b).then(|| shown(goal, Step::Evaluate(goal)))
            }
            _ => None,
        }
    }

    /// A → False.
    fn refute(&mut self, scope: &Scope, formula: Id) -> Option<Proof> {
        let Node { op, args: [a, b, ..] } = self.t.get(formula);
        match op {
            Op::Or => {
                let (first, second) = (self.refute(scope, a)?, self.refute(scope, b)?);
                self.suppose(&Scope::default(), formula, |builder, _, supposed| {
                    builder.cases(Rc::clone(supposed), first, second)
                })
            }
            Op::Not => {
                let holds = self.direct(scope, a)?;
                self.suppose(&Scope::default(), formula, |builder, _, supposed| {
                    builder.absurd(holds, Rc::clone(supposed))
                })
            }
            // One of the two is enough.
            Op::And => {
                let (part, rule) = match self.refute(scope, a) {
                    Some(refuted) => (refuted, rule::LEFT),
                    None => (self.refute(scope, b)?, rule::RIGHT),
                };
                let says = if rule == rule::LEFT { a } else { b };
                self.suppose(&Scope::default(), formula, |builder, _, supposed| {
                    let premise = shown(says, Step::Rule(rule, vec![Rc::clone(supposed)]));
                    Some(shown(builder.falsity()?, Step::Rule(rule::MODUS_PONENS, vec![part, premise])))
                })
            }
            _ => self.suppose(scope, formula, |builder, inner, supposed| {
                if let Some(not) = builder.not(formula).and_then(|not| inner.get(not)) {
                    return builder.absurd(Rc::clone(supposed), not);
                }
                builder.clash(inner, supposed)
            }),
        }
    }
}
