//! Proofs as trees, and their bytes.

use crate::write;
use std::collections::HashMap;
use std::rc::Rc;
use vinet_trusted::proof::{refer, rule};
use vinet_trusted::term::{Id, Node, Op, Terms, sort};
use vinet_trusted::wire::{Wire, Writer};

/// A proof that can be a part of several.
pub(super) type Proof = Rc<Shown>;

/// What is shown, and how.
pub(super) struct Shown {
    pub(super) says: Id,
    pub(super) step: Step,
}

/// The last step of a proof.
pub(super) enum Step {
    /// What is given with the obligation, by its number.
    Given(u32),
    /// What a [`Step::Suppose`] around it supposes, by its label.
    Supposed(u32),
    /// A rule without operands, on these.
    Rule(u8, Vec<Proof>),
    /// A rule with one term or formula, on this.
    With(u8, Proof, Id),
    /// A wider set.
    Widen(Proof, Id),
    /// An obligation that was shown, about what the premise is about.
    Cite(u32, Proof),
    /// A → B, where B is shown under A.
    Suppose(u32, Id, Proof),
    /// A ground formula.
    Evaluate(Id),
    /// What the program says of a constant.
    Fact(u32),
    /// Membership in one of two sets.
    Split(Proof, Id, Id),
    /// From a term to ∃.
    Exists(Proof, Id, Id),
    /// ∀ over a constant that was picked.
    ForAll(u32, Proof),
    /// low, high, perhaps where the base is; the address and the set.
    Offset(Vec<Proof>, Id, Id),
    /// A sum that cannot be.
    Linear(Vec<(Proof, i64)>),
}

/// Writes a proof of `goal`, which picks so many packets first, where so many formulas are given.
pub(super) fn write(terms: &Terms, proof: &Proof, goal: Id, given: &[Option<Id>], picked: usize, w: &mut Writer) {
    (0..picked).for_each(|_| {
        w.byte(rule::PICK);
        w.byte(sort::PACKET);
    });
    let claims = given.iter().enumerate().filter_map(|(i, id)| Some(((*id)?, i as u32))).collect();
    let mut writing = Writing { terms, goal, claims, next: given.len() as u32, labels: HashMap::new() };
    writing.proof(proof, w);
    w.byte(rule::DONE);
}

struct Writing<'t> {
    terms: &'t Terms,
    goal: Id,
    /// What can be referred to by the number of its claim.
    claims: HashMap<Id, u32>,
    next: u32,
    labels: HashMap<u32, u32>,
}

impl Writing<'_> {
    fn proof(&mut self, proof: &Proof, w: &mut Writer) {
        match &proof.step {
            Step::Given(number) => {
                w.byte(rule::CLAIM);
                number.write(w);
            }
            Step::Supposed(label) => {
                w.byte(rule::CLAIM);
                self.labels[label].write(w);
            }
            Step::Rule(rule, on) => {
                on.iter().for_each(|proof| self.proof(proof, w));
                w.byte(*rule);
            }
            Step::With(rule, on, term) => {
                self.proof(on, w);
                w.byte(*rule);
                self.term(*term, w);
            }
            Step::Widen(on, set) => {
                self.proof(on, w);
                w.byte(rule::WIDEN);
                self.set(*set, w);
            }
            Step::Cite(number, on) => {
                self.proof(on, w);
                w.byte(rule::CITE);
                number.write(w);
            }
            Step::Suppose(label, formula, shown) => {
                w.byte(rule::ASSUME);
                self.term(*formula, w);
                let number = self.next;
                self.next += 1;
                self.labels.insert(*label, number);
                self.claims.entry(*formula).or_insert(number);
                self.proof(shown, w);
                w.byte(rule::DISCHARGE);
                number.write(w);
            }
            Step::Evaluate(formula) => {
                w.byte(rule::EVALUATE);
                self.term(*formula, w);
            }
            Step::Fact(number) => {
                w.byte(rule::FACT);
                number.write(w);
            }
            Step::Split(on, first, second) => {
                self.proof(on, w);
                w.byte(rule::SPLIT);
                self.set(*first, w);
                self.set(*second, w);
            }
            Step::Exists(on, formula, term) => {
                self.proof(on, w);
                w.byte(rule::EXISTS);
                self.term(*formula, w);
                self.term(*term, w);
            }
            Step::ForAll(constant, on) => {
                self.proof(on, w);
                w.byte(rule::GENERALISE);
                constant.write(w);
            }
            Step::Offset(on, address, set) => {
                on.iter().for_each(|proof| self.proof(proof, w));
                w.byte(rule::OFFSET);
                self.term(*address, w);
                self.set(*set, w);
            }
            Step::Linear(sum) => {
                sum.iter().for_each(|(proof, _)| self.proof(proof, w));
                w.byte(rule::LINEAR);
                w.integer(sum.len() as u64);
                sum.iter().for_each(|(_, times)| times.write(w));
            }
        }
    }

    fn set(&self, set: Id, w: &mut Writer) {
        self.terms.get(set).args[0].write(w);
    }

    /// A term, by what stands for it already where there is such.
    fn term(&self, id: Id, w: &mut Writer) {
        if id == self.goal {
            w.byte(refer::GOAL);
            return;
        }
        if let Some(number) = self.claims.get(&id) {
            w.byte(refer::CLAIM);
            number.write(w);
            return;
        }
        let node = self.terms.get(id);
        let Node { op, args } = node;
        // Inside a binder nothing closed is worth a reference.
        if !matches!(op, Op::Not | Op::And | Op::Or | Op::Implies | Op::Iff | Op::Eq | Op::In | Op::Le) {
            return write::term(self.terms, id, w);
        }
        w.byte(op as u8);
        for child in self.terms.children(node) {
            self.term(args[child], w);
        }
    }
}
