//! Proofs of what the analysis knows, built from templates: along the definitions of the values, by cases where they
//! join, with intervals for integers.
//!
//! This is no search for theorems: it is asked only for what the analysis has found to hold, and follows the terms
//! down. How much it may do for one obligation is bounded by [`CASES_MAX`] and [`STEPS_MAX`]. This file has the
//! single steps and what follows from what is given; its modules go back from the goals.

mod contradiction;
mod goal;
mod integer;
mod member;

use super::proof::{Proof, Shown, Step};
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Node, Op, PACKET, Terms, sort};

/// The most distinctions of cases in one proof.
const CASES_MAX: u32 = 24;
/// The most attempts for one proof.
const STEPS_MAX: u32 = 20_000;
/// How many equations an address may be followed along.
const ALIAS_DEPTH: u32 = 6;

/// An obligation about the packets of a set that was shown before and can be cited here: its goal and its number.
#[derive(Clone, Copy)]
pub(super) struct Citable {
    pub(super) goal: Id,
    pub(super) number: u32,
}

/// Builds the proof of one obligation.
pub(super) struct Builder<'b> {
    t: &'b mut Terms,
    citable: &'b dyn Fn(Id) -> Vec<Citable>,
    left: &'b Cell<u32>,
    labels: u32,
    cases: u32,
    steps: u32,
    /// How many it may take for one goal.
    steps_max: u32,
    /// How many packets the proof has to pick first.
    pub(super) picked: usize,
    constants: usize,
}

/// What is known at a place in a proof.
#[derive(Clone, Default)]
struct Scope {
    facts: Vec<Proof>,
    by_formula: HashMap<Id, usize>,
    /// Memberships in sets of packets that are not unfolded yet.
    todo: VecDeque<Proof>,
    /// What can be distinguished by cases.
    splits: VecDeque<Proof>,
    /// Constants whose facts are known.
    looked_up: BTreeSet<u32>,
}

impl Scope {
    fn get(&self, formula: Id) -> Option<Proof> {
        self.by_formula.get(&formula).map(|i| Rc::clone(&self.facts[*i]))
    }
    /// The scope without these formulas.
    fn without(&self, formulas: [Id; 2]) -> Scope {
        let mut scope = self.clone();
        scope.facts.retain(|fact| !formulas.contains(&fact.says));
        scope.by_formula = scope.facts.iter().enumerate().map(|(i, fact)| (fact.says, i)).collect();
        scope
    }
}

fn shown(says: Id, step: Step) -> Proof {
    Rc::new(Shown { says, step })
}

impl<'b> Builder<'b> {
    /// `citable` tells what can be cited about a set; `left` is how many steps the whole analysis may take yet.
    pub(super) fn new(t: &'b mut Terms, citable: &'b dyn Fn(Id) -> Vec<Citable>, left: &'b Cell<u32>) -> Self {
        let constants = t.constants.len();
        Builder { t, citable, left, labels: 0, cases: 0, steps: 0, steps_max: 0, picked: 0, constants }
    }

    /// A proof of `goal`, for a packet of which `member` is given, where `path` is known.
    pub(super) fn prove(&mut self, member: Option<Id>, path: &[Id], goal: Id) -> Option<Proof> {
        self.picked = 0;
        (self.cases, self.steps, self.steps_max) = (0, 0, self.left.get().min(STEPS_MAX));
        let mut scope = Scope::default();
        if let Some(member) = member {
            self.learn(&mut scope, shown(member, Step::Given(0)));
        }
        for (i, fact) in path.iter().enumerate().rev() {
            self.learn(&mut scope, shown(*fact, Step::Given(i as u32 + 1)));
        }
        let proof = self.each(&scope, goal);
        // The numbers of constants are the checker's, not the attempt's.
        self.t.constants.truncate(self.constants);
        self.left.set(self.left.get().saturating_sub(self.steps));
        proof
    }

    /// What of a conjunction can be shown: for each of the `count` conjuncts, which were joined from the left.
    pub(super) fn provable(&mut self, path: &[Id], goal: Id, count: usize) -> Vec<bool> {
        let mut parts = Vec::new();
        let mut rest = goal;
        for _ in 1..count {
            let Node { args: [left, right, ..], .. } = self.t.get(rest);
            parts.push(right);
            rest = left;
        }
        parts.push(rest);
        parts.reverse();
        parts.into_iter().map(|part| self.prove(None, path, part).is_some()).collect()
    }

    // ---- Steps ----

    fn node(&mut self, op: Op, a: u32, b: u32) -> Option<Id> {
        self.t.node(op, a, b).ok()
    }
    fn parts(&self, id: Id, op: Op) -> Option<[Id; 2]> {
        let node = self.t.get(id);
        (node.op == op).then_some([node.args[0], node.args[1]])
    }
    fn not(&mut self, formula: Id) -> Option<Id> {
        self.node(Op::Not, formula, 0)
    }
    fn falsity(&mut self) -> Option<Id> {
        self.node(Op::False, 0, 0)
    }
    fn left(&self, proof: &Proof) -> Option<Proof> {
        Some(shown(self.parts(proof.says, Op::And)?[0], Step::Rule(rule::LEFT, vec![Rc::clone(proof)])))
    }
    fn right(&self, proof: &Proof) -> Option<Proof> {
        Some(shown(self.parts(proof.says, Op::And)?[1], Step::Rule(rule::RIGHT, vec![Rc::clone(proof)])))
    }
    fn both(&mut self, a: Proof, b: Proof) -> Option<Proof> {
        let says = self.node(Op::And, a.says, b.says)?;
        Some(shown(says, Step::Rule(rule::BOTH, vec![a, b])))
    }
    fn absurd(&mut self, theorem: Proof, denial: Proof) -> Option<Proof> {
        Some(shown(self.falsity()?, Step::Rule(rule::ABSURD, vec![theorem, denial])))
    }
    fn cases(&self, either: Proof, first: Proof, second: Proof) -> Option<Proof> {
        let says = self.parts(first.says, Op::Implies)?[1];
        Some(shown(says, Step::Rule(rule::CASES, vec![either, first, second])))
    }
    fn congruent(&mut self, same: Proof, theorem: Proof) -> Option<Proof> {
        let [a, b] = self.parts(same.says, Op::Eq)?;
        let says = self.t.replace(theorem.says, a, b).ok()?;
        Some(shown(says, Step::Rule(rule::CONGRUENCE, vec![same, theorem])))
    }
    fn turned(&mut self, same: Proof) -> Option<Proof> {
        let [a, b] = self.parts(same.says, Op::Eq)?;
        let says = self.node(Op::Eq, b, a)?;
        Some(shown(says, Step::Rule(rule::SYMMETRY, vec![same])))
    }
    /// From A → False: ¬A; from ¬A → False: A.
    fn denied(&mut self, refutation: Proof) -> Option<Proof> {
        let [formula, _] = self.parts(refutation.says, Op::Implies)?;
        let says = self.not(formula)?;
        let not = shown(says, Step::Rule(rule::NEGATE, vec![refutation]));
        Some(match self.t.get(formula) {
            Node { op: Op::Not, args } => shown(args[0], Step::Rule(rule::DOUBLE_NEGATION, vec![not])),
            _ => not,
        })
    }
    /// Shows something under a supposition: A → what `body` shows.
    fn suppose(
        &mut self,
        scope: &Scope,
        formula: Id,
        body: impl FnOnce(&mut Self, &mut Scope, &Proof) -> Option<Proof>,
    ) -> Option<Proof> {
        self.labels += 1;
        let label = self.labels;
        let supposed = shown(formula, Step::Supposed(label));
        let mut inner = scope.clone();
        self.learn(&mut inner, Rc::clone(&supposed));
        let proof = body(self, &mut inner, &supposed)?;
        let says = self.node(Op::Implies, formula, proof.says)?;
        Some(shown(says, Step::Suppose(label, formula, proof)))
    }
    /// Anything follows from what cannot be.
    fn whatever(&mut self, contradiction: Proof, goal: Id) -> Option<Proof> {
        if contradiction.says == goal {
            return Some(contradiction);
        }
        let not = self.not(goal)?;
        self.labels += 1;
        let says = self.node(Op::Implies, not, contradiction.says)?;
        let implied = shown(says, Step::Suppose(self.labels, not, contradiction));
        self.denied(implied)
    }

    // ---- What is known ----

    fn learn(&mut self, scope: &mut Scope, proof: Proof) {
        if scope.by_formula.contains_key(&proof.says) {
            return;
        }
        scope.by_formula.insert(proof.says, scope.facts.len());
        scope.facts.push(Rc::clone(&proof));
        // Without room for more terms less is known, and no more than that.
        let _ = self.follow(scope, &proof);
    }

    fn follow(&mut self, scope: &mut Scope, proof: &Proof) -> Option<()> {
        let Node { op, args: [a, b, ..] } = self.t.get(proof.says);
        match op {
            Op::And => {
                let (left, right) = (self.left(proof)?, self.right(proof)?);
                self.learn(scope, right);
                self.learn(scope, left);
            }
            Op::Or => scope.splits.push_back(Rc::clone(proof)),
            Op::Not => {
                let Node { op, args: [c, d, ..] } = self.t.get(a);
                match op {
                    Op::Not => {
                        let says = shown(c, Step::Rule(rule::DOUBLE_NEGATION, vec![Rc::clone(proof)]));
                        self.learn(scope, says);
                    }
                    Op::Or => {
                        for (part, other, rule) in [(c, d, rule::EITHER_LEFT), (d, c, rule::EITHER_RIGHT)] {
                            self.labels += 1;
                            let supposed = shown(part, Step::Supposed(self.labels));
                            let either = shown(a, Step::With(rule, supposed, other));
                            let never = self.absurd(either, Rc::clone(proof))?;
                            let says = self.node(Op::Implies, part, never.says)?;
                            let not = self.denied(shown(says, Step::Suppose(self.labels, part, never)))?;
                            self.learn(scope, not);
                        }
                    }
                    Op::And => scope.splits.push_back(Rc::clone(proof)),
                    _ => {}
                }
            }
            Op::In if self.t.sort(b) == sort::PACKETS => {
                for Citable { goal, number } in (self.citable)(b) {
                    let says = self.about(goal, a)?;
                    self.learn(scope, shown(says, Step::Cite(number, Rc::clone(proof))));
                }
                for all in scope.facts.clone() {
                    self.specialise(scope, &all, proof);
                }
                scope.todo.push_back(Rc::clone(proof));
            }
            Op::Eq if self.t.sort(a) == sort::ADDR => self.look_up(scope, proof.says),
            Op::Forall => {
                for is_in in scope.facts.clone() {
                    self.specialise(scope, proof, &is_in);
                }
            }
            _ => {}
        }
        Some(())
    }

    /// `formula`, which is about the arbitrary packet, about `packet`.
    fn about(&mut self, formula: Id, packet: Id) -> Option<Id> {
        let arbitrary = self.t.constant(PACKET).ok()?;
        if packet == arbitrary { Some(formula) } else { self.t.replace(formula, arbitrary, packet).ok() }
    }

    /// From ∀x (x ∈ S → φ) and y ∈ S.
    fn specialise(&mut self, scope: &mut Scope, all: &Proof, is_in: &Proof) -> Option<()> {
        let [sort, body] = self.parts(all.says, Op::Forall)?;
        let [premise, _] = self.parts(body, Op::Implies)?;
        let ([packet, set], [_, of]) = (self.parts(is_in.says, Op::In)?, self.parts(premise, Op::In)?);
        if sort != u32::from(sort::PACKET) || of != set {
            return None;
        }
        let says = self.t.open(body, packet).ok()?;
        let [_, conclusion] = self.parts(says, Op::Implies)?;
        let implies = shown(says, Step::With(rule::SPECIALISE, Rc::clone(all), packet));
        let proof = shown(conclusion, Step::Rule(rule::MODUS_PONENS, vec![implies, Rc::clone(is_in)]));
        self.learn(scope, proof);
        Some(())
    }

    /// What it is to be in a set.
    fn unfold(&mut self, scope: &mut Scope, proof: &Proof) -> Option<()> {
        let [packet, set] = self.parts(proof.says, Op::In)?;
        let Node { op, args: [a, b, ..] } = self.t.get(set);
        let says = match op {
            Op::Const => {
                let fact = self.t.constants[a as usize].fact?;
                self.about(fact, packet)?
            }
            Op::Union | Op::Minus => {
                let (left, right) = (self.node(Op::In, packet, a)?, self.node(Op::In, packet, b)?);
                if op == Op::Union {
                    self.node(Op::Or, left, right)?
                } else {
                    let not = self.not(right)?;
                    self.node(Op::And, left, not)?
                }
            }
            _ => return None,
        };
        self.learn(scope, shown(says, Step::Rule(rule::UNFOLD, vec![Rc::clone(proof)])));
        Some(())
    }

    /// Learns what the program says of the integers and addresses in `formula`, and of those that they depend on.
    fn look_up(&mut self, scope: &mut Scope, formula: Id) {
        let mut todo = vec![formula];
        let mut seen = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if !seen.insert(id) || seen.len() > 512 {
                continue;
            }
            let node = self.t.get(id);
            if node.op == Op::Const && matches!(self.t.sort(id), sort::INT | sort::ADDR) {
                let number = node.args[0];
                if let Some(fact) = self.t.constants[number as usize].fact
                    && scope.looked_up.insert(number)
                {
                    self.learn(scope, shown(fact, Step::Fact(number)));
                    todo.push(fact);
                }
                // What else is known of it may compare it to others.
                let about: Vec<Id> = scope.facts.iter().map(|f| f.says).filter(|f| self.compares(*f, id)).collect();
                todo.extend(about);
            }
            todo.extend(self.t.children(node).map(|i| node.args[i]));
        }
    }

    /// Whether `fact` is a comparison in which the integer or address stands.
    fn compares(&self, fact: Id, constant: Id) -> bool {
        let node = self.t.get(fact);
        match node.op {
            Op::Not => self.compares(node.args[0], constant),
            Op::Le | Op::Eq => self.mentions(fact, constant),
            _ => false,
        }
    }
    fn mentions(&self, id: Id, part: Id) -> bool {
        let node = self.t.get(id);
        id == part || self.t.children(node).any(|i| self.mentions(node.args[i], part))
    }
}
