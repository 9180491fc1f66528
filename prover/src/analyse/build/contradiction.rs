//! Contradictions in what is known: a fact against its denial, against a set apart from its own, or against integers.

use super::{ALIAS_DEPTH, Builder, Scope, shown};
use crate::analyse::proof::{Proof, Step};
use std::rc::Rc;
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Node, Op, SetValue, sort};

impl Builder<'_> {
    pub(super) fn contradiction(&mut self, scope: &Scope) -> Option<Proof> {
        let never = self.falsity()?;
        if let Some(proof) = scope.get(never) {
            return Some(proof);
        }
        scope.facts.iter().find_map(|fact| self.clash(scope, fact))
    }

    /// A contradiction between one fact and the others.
    pub(super) fn clash(&mut self, scope: &Scope, fact: &Proof) -> Option<Proof> {
        self.steps += 1;
        if self.steps > self.steps_max {
            return None;
        }
        let Node { op, args: [a, b, ..] } = self.t.get(fact.says);
        match op {
            Op::Not => {
                let Node { op, args: [c, ..] } = self.t.get(a);
                let holds = match op {
                    Op::In | Op::And | Op::Or if self.t.sort(c) != sort::PACKET => self.atom(scope, a),
                    Op::Eq if self.t.as_int(c).is_some() => self.direct(scope, a),
                    _ => scope.get(a),
                };
                match holds {
                    Some(holds) => self.absurd(holds, Rc::clone(fact)),
                    None if op == Op::Le => self.impossible(scope, fact),
                    None => None,
                }
            }
            Op::Le => self.impossible(scope, fact),
            Op::Eq if self.t.sort(a) == sort::INT => self.impossible(scope, fact),
            Op::Eq if self.t.sort(a) == sort::ADDR && self.t.get(a).op == Op::Addr && self.t.get(b).op == Op::Addr => {
                if a == b {
                    return None;
                }
                let not = self.not(fact.says)?;
                self.absurd(Rc::clone(fact), shown(not, Step::Evaluate(fact.says)))
            }
            Op::In if self.t.sort(b) == sort::PACKETS => {
                // Nothing is in a set of which it is known that nothing is in it.
                let member = self.node(Op::Var, 0, u32::from(sort::PACKET))?;
                let is_in = self.node(Op::In, member, b)?;
                let some = self.node(Op::Exists, u32::from(sort::PACKET), is_in)?;
                let none = self.not(some)?;
                let denial = scope.get(none)?;
                self.absurd(shown(some, Step::Exists(Rc::clone(fact), some, a)), denial)
            }
            Op::In => self.apart(scope, fact, a, b),
            _ => None,
        }
    }

    /// Something without negation.
    fn atom(&mut self, scope: &Scope, formula: Id) -> Option<Proof> {
        let Node { op, args: [a, b, ..] } = self.t.get(formula);
        match op {
            Op::And => {
                let (a, b) = (self.atom(scope, a)?, self.atom(scope, b)?);
                self.both(a, b)
            }
            Op::Or => match self.atom(scope, a) {
                Some(a) => Some(shown(formula, Step::With(rule::EITHER_LEFT, a, b))),
                None => self.atom(scope, b).map(|b| shown(formula, Step::With(rule::EITHER_RIGHT, b, a))),
            },
            Op::In if self.t.sort(a) == sort::ADDR => {
                scope.get(formula).or_else(|| self.address_in(scope, a, b, ALIAS_DEPTH))
            }
            Op::In if self.t.sort(a) == sort::INT => scope.get(formula).or_else(|| self.number_in(scope, a, b)),
            _ => scope.get(formula),
        }
    }

    /// t ∈ S, and t, or what is the same, in a set that has nothing in common with S.
    fn apart(&mut self, scope: &Scope, fact: &Proof, term: Id, set: Id) -> Option<Proof> {
        for other in &scope.facts {
            let Some([t, with]) = self.parts(other.says, Op::In) else { continue };
            let is_apart = t == term
                && match (self.t.as_set(set), self.t.as_set(with)) {
                    (Some(SetValue::Addrs(a)), Some(SetValue::Addrs(b))) => a.disjoint(b),
                    (Some(SetValue::Numbers(a)), Some(SetValue::Numbers(b))) => a.disjoint(b),
                    _ => false,
                };
            if is_apart {
                let says = self.falsity()?;
                return Some(shown(says, Step::Rule(rule::APART, vec![Rc::clone(fact), Rc::clone(other)])));
            }
        }
        if self.t.sort(term) != sort::ADDR {
            return None;
        }
        if let Node { op: Op::Addr, args } = self.t.get(term) {
            let addr = self.t.addrs[args[0] as usize];
            let Some(SetValue::Addrs(addrs)) = self.t.as_set(set) else { return None };
            if addrs.contains(addr) {
                return None;
            }
            let not = self.not(fact.says)?;
            return self.absurd(Rc::clone(fact), shown(not, Step::Evaluate(fact.says)));
        }
        for (same, other) in self.same_as(scope, term) {
            // Only towards what the program fixed first, so that no chain is followed for ever.
            let is_fixed = self.t.get(other).op == Op::Addr
                || scope.facts.iter().any(|f| self.parts(f.says, Op::In).is_some_and(|[t, _]| t == other));
            if !is_fixed || self.steps > self.steps_max {
                continue;
            }
            let Some(moved) = self.congruent(same, Rc::clone(fact)) else { continue };
            let [t, s] = self.parts(moved.says, Op::In)?;
            if scope.get(moved.says).is_some() {
                continue;
            }
            // The fact that is moved must not come back.
            let equations = [self.node(Op::Eq, t, term)?, self.node(Op::Eq, term, t)?];
            let inner = scope.without(equations);
            if let Some(never) = self.apart(&inner, &moved, t, s) {
                return Some(never);
            }
        }
        None
    }
}
