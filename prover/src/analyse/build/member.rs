//! Addresses and header numbers in sets: by wider sets, along equations, by offsets, and by what the packets of a group
//! have in common.

use super::{Builder, Scope, shown};
use crate::analyse::proof::{Proof, Step};
use std::rc::Rc;
use vinet_trusted::addr::{Addr, PrefixSet};
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Node, Op, SetValue, sort};

impl Builder<'_> {
    /// What is equal to a term: proofs of term = other.
    pub(super) fn same_as(&mut self, scope: &Scope, term: Id) -> Vec<(Proof, Id)> {
        let mut all = Vec::new();
        for fact in &scope.facts {
            match self.parts(fact.says, Op::Eq) {
                Some([a, b]) if a == term => all.push((Rc::clone(fact), b)),
                Some([a, b]) if b == term => {
                    if let Some(turned) = self.turned(Rc::clone(fact)) {
                        all.push((turned, a));
                    }
                }
                _ => {}
            }
        }
        all
    }

    fn addrs(&self, set: Id) -> Option<&PrefixSet> {
        match self.t.as_set(set) {
            Some(SetValue::Addrs(addrs)) => Some(addrs),
            _ => None,
        }
    }

    pub(super) fn address_in(&mut self, scope: &Scope, term: Id, set: Id, depth: u32) -> Option<Proof> {
        let goal = self.node(Op::In, term, set)?;
        if let Some(proof) = scope.get(goal) {
            return Some(proof);
        }
        self.steps += 1;
        if depth == 0 || self.steps > self.steps_max {
            return None;
        }
        let Node { op, args: [a, b, ..] } = self.t.get(term);
        if op == Op::Addr {
            let addr = self.t.addrs[a as usize];
            return self.addrs(set)?.contains(addr).then(|| shown(goal, Step::Evaluate(goal)));
        }
        for fact in &scope.facts {
            let Some([t, narrow]) = self.parts(fact.says, Op::In) else { continue };
            if t == term && self.addrs(set)?.includes(self.addrs(narrow)?) {
                return Some(shown(goal, Step::Widen(Rc::clone(fact), set)));
            }
        }
        if let Some(proof) = self.left_over(scope, term, set, goal) {
            return Some(proof);
        }
        if op == Op::Offset
            && let Some(proof) = self.offset_in(scope, term, [a, b], set, depth)
        {
            return Some(proof);
        }
        for (same, other) in self.same_as(scope, term) {
            if let Some(there) = self.address_in(scope, other, set, depth - 1)
                && let Some(back) = self.turned(same)
            {
                return self.congruent(back, there);
            }
        }
        self.common(scope, term, set, goal)
    }

    /// In a set, and not in a part of it: then in what is left.
    fn left_over(&mut self, scope: &Scope, term: Id, set: Id, goal: Id) -> Option<Proof> {
        for denial in &scope.facts {
            let Some([is_in, _]) = self.parts(denial.says, Op::Not) else { continue };
            let Some([t, without]) = self.parts(is_in, Op::In) else { continue };
            if t != term {
                continue;
            }
            for fact in &scope.facts {
                let Some([t, all]) = self.parts(fact.says, Op::In) else { continue };
                if t != term {
                    continue;
                }
                let mut together = self.addrs(set)?.prefixes().to_vec();
                together.extend(self.addrs(without)?.prefixes());
                if !PrefixSet::new(together).includes(self.addrs(all)?) {
                    continue;
                }
                let says = self.node(Op::Or, is_in, goal)?;
                let either = shown(says, Step::Split(Rc::clone(fact), without, set));
                let first = self.suppose(&Scope::default(), is_in, |b, _, supposed| {
                    let never = b.absurd(Rc::clone(supposed), Rc::clone(denial))?;
                    b.whatever(never, goal)
                })?;
                let second = self.suppose(&Scope::default(), goal, |_, _, s| Some(Rc::clone(s)))?;
                return self.cases(either, first, second);
            }
        }
        None
    }

    fn offset_in(&mut self, scope: &Scope, term: Id, [base, by]: [Id; 2], set: Id, depth: u32) -> Option<Proof> {
        let goal = self.node(Op::In, term, set)?;
        let form = self.form(by)?;
        let (low, high) = (self.extreme(scope, &form, false)?, self.extreme(scope, &form, true)?);
        let (low, high) = (i64::try_from(low).ok()?, i64::try_from(high).ok()?);
        let reaches = |target: &PrefixSet, first: Addr, last: Addr| {
            first.offset(low).zip(last.offset(high)).is_some_and(|(a, b)| a <= b && target.covers_range(a, b))
        };
        let from = if let Node { op: Op::Addr, args } = self.t.get(base) {
            let addr = self.t.addrs[args[0] as usize];
            if !reaches(self.addrs(set)?, addr, addr) {
                return None;
            }
            None
        } else {
            let mut found = None;
            for number in 0..self.t.sets.len() as u32 {
                let candidate = self.node(Op::Set, number, 0)?;
                let Some(addrs) = self.addrs(candidate) else { continue };
                if addrs.prefixes().iter().all(|p| reaches(self.addrs(set).unwrap_or(addrs), p.addr(), p.last()))
                    && let Some(proof) = self.address_in(scope, base, candidate, depth - 1)
                {
                    found = Some(proof);
                    break;
                }
            }
            Some(found?)
        };
        let (low, high) = (self.t.int(low).ok()?, self.t.int(high).ok()?);
        let (least, most) = (self.node(Op::Le, low, by)?, self.node(Op::Le, by, high)?);
        let (least, most) = (self.direct(scope, least)?, self.direct(scope, most)?);
        let premises = from.into_iter().chain([least, most]).collect();
        Some(shown(goal, Step::Offset(premises, term, set)))
    }

    /// The common address of a group, of which some packet is there.
    fn common(&mut self, scope: &Scope, term: Id, set: Id, goal: Id) -> Option<Proof> {
        if self.t.get(term).op != Op::Const {
            return None;
        }
        for some in &scope.facts {
            let Some([_, body]) = self.parts(some.says, Op::Exists) else { continue };
            let Some([_, group]) = self.parts(body, Op::In) else { continue };
            let Node { op: Op::Const, args: [number, ..] } = self.t.get(group) else { continue };
            let Some(fact) = self.t.constants[number as usize].fact else { continue };
            let Some([_, same]) = self.parts(fact, Op::And) else { continue };
            let Some([field, key]) = self.parts(same, Op::Eq) else { continue };
            if key != term || self.picked > 8 {
                continue;
            }
            let (packet, picked) = self.pick()?;
            let (is_in, field) = (self.node(Op::In, packet, group)?, self.about(field, packet)?);
            let implied = self.suppose(scope, is_in, |b, inner, _| {
                // What the group's packets have in common must come from where they come from.
                while let Some(member) = inner.todo.pop_front() {
                    b.unfold(inner, &member);
                }
                let same = b.node(Op::Eq, field, term)?;
                let without = inner.without([same, same]);
                let same = inner.get(same)?;
                let field_in = b.node(Op::In, field, set)?;
                let there = b.solve(without, field_in)?;
                b.congruent(same, there)
            })?;
            let body = self.t.close(implied.says, picked).ok()?;
            let all = self.node(Op::Forall, u32::from(sort::PACKET), body)?;
            let all = shown(all, Step::ForAll(picked, implied));
            return Some(shown(goal, Step::Rule(rule::WITNESS, vec![Rc::clone(some), all])));
        }
        None
    }

    pub(super) fn number_in(&mut self, scope: &Scope, term: Id, set: Id) -> Option<Proof> {
        let goal = self.node(Op::In, term, set)?;
        for fact in &scope.facts {
            let Some([t, narrow]) = self.parts(fact.says, Op::In) else { continue };
            if t != term {
                continue;
            }
            if let (Some(SetValue::Numbers(wide)), Some(SetValue::Numbers(narrow))) =
                (self.t.as_set(set), self.t.as_set(narrow))
                && wide.includes(narrow)
            {
                return Some(shown(goal, Step::Widen(Rc::clone(fact), set)));
            }
        }
        None
    }
}
