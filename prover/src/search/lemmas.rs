//! Lemmas, applied to what is known, and to what is to be shown.

use super::step::{Operand, Proof, Step};
use super::{Known, Search};
use std::collections::BTreeMap;
use std::rc::Rc;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Node, Op, Terms, sort};

/// The most conclusions that lemmas add at one time.
const APPLIED_MAX: usize = 64;
/// The most premises of a lemma that is tried.
const PREMISES_MAX: usize = 5;
/// The most pairs of premise and fact that one lemma is tried on.
const TRIES_MAX: usize = 400;

/// The most nodes of a formula that are counted.
const SIZE_MAX: usize = 1000;

/// What the symbols of a lemma stand for, as far as it is known.
type Bound = BTreeMap<u32, Id>;

#[derive(Debug)]
struct Usable {
    number: u32,
    premises: Vec<Id>,
    /// The premises by how much they tell, those that tell most first.
    order: Vec<usize>,
    conclusion: Id,
    /// The symbols that only the conclusion has.
    open: Vec<u32>,
    /// Whether what it concludes from known things is worth knowing.
    forward: bool,
}

/// The lemmas of a store that the search can use.
#[derive(Debug, Default)]
pub struct Index {
    all: Vec<Usable>,
    /// From P and ¬P follows Q.
    contradiction: Option<u32>,
}

impl Index {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    /// Of all that have no functions or predicates.
    #[must_use]
    pub fn of(store: &LemmaStore) -> Index {
        let mut index = Index::default();
        let terms = store.terms();
        for number in 0..store.len() {
            let Some((symbols, premises, conclusion)) = store.statement(number) else { break };
            let plain = symbols.clone().all(|symbol| terms.symbols[symbol].args.is_empty());
            if !plain || premises.is_empty() || premises.len() > PREMISES_MAX {
                continue;
            }
            let mut seen = Vec::new();
            premises.iter().for_each(|premise| symbols_of(terms, *premise, &mut seen));
            let open: Vec<u32> = symbols.map(|symbol| symbol as u32).filter(|symbol| !seen.contains(symbol)).collect();
            let mut order: Vec<usize> = (0..premises.len()).collect();
            order.sort_by_key(|at| std::cmp::Reverse(size(terms, premises[*at])));
            let says = terms.get(conclusion).op;
            if says == Op::Symbol && !open.is_empty() {
                let denied = |a: Id, b: Id| terms.get(b) == Node { op: Op::Not, args: [a, 0, 0, 0] };
                if let [a, b] = premises
                    && terms.get(*a).op == Op::Symbol
                    && denied(*a, *b)
                {
                    index.contradiction.get_or_insert(number as u32);
                }
                continue;
            }
            let puts_together = matches!(says, Op::And | Op::Implies | Op::Iff | Op::Forall | Op::Exists);
            // What inequalities imply together is found by their sums, without each sum being known.
            let arithmetic = premises.iter().chain([&conclusion]).all(|part| is_inequality(terms, *part));
            index.all.push(Usable {
                number: number as u32,
                premises: premises.to_vec(),
                order,
                conclusion,
                forward: open.is_empty() && !puts_together && !arithmetic,
                open,
            });
        }
        index
    }
}

fn is_inequality(terms: &Terms, id: Id) -> bool {
    let Node { op, args: [a, ..] } = terms.get(id);
    match op {
        Op::Le => true,
        Op::Eq => terms.sort(a) == sort::INT,
        Op::Not => is_inequality(terms, a),
        _ => false,
    }
}

fn symbols_of(terms: &Terms, id: Id, all: &mut Vec<u32>) {
    let node = terms.get(id);
    if node.op == Op::Symbol && !all.contains(&node.args[0]) {
        all.push(node.args[0]);
    }
    terms.children(node).for_each(|child| symbols_of(terms, node.args[child], all));
}

/// Whether `id` is of the form of `pattern`; what its symbols then stand for is added.
fn fit(store: &LemmaStore, pattern: Id, terms: &Terms, id: Id, bound: &mut Bound) -> bool {
    let (wanted, node) = (store.terms().get(pattern), terms.get(id));
    if wanted.op == Op::Symbol {
        let symbol = &store.terms().symbols[wanted.args[0] as usize];
        let fits = symbol.result == terms.sort(id) && terms.is_closed(id);
        return fits && *bound.entry(wanted.args[0]).or_insert(id) == id;
    }
    let children = store.terms().children(wanted);
    let mut numbers = (0..4).filter(|i| !children.contains(i));
    wanted.op == node.op
        && numbers.all(|i| wanted.args[i] == node.args[i])
        && children.clone().all(|i| fit(store, wanted.args[i], terms, node.args[i], bound))
}

/// How many nodes a formula has, as far as [`SIZE_MAX`]: what is shared counts each time.
fn size(terms: &Terms, id: Id) -> usize {
    let (mut todo, mut count) = (vec![id], 0);
    while let Some(id) = todo.pop() {
        count += 1;
        if count == SIZE_MAX {
            break;
        }
        let node = terms.get(id);
        todo.extend(terms.children(node).map(|child| node.args[child]));
    }
    count
}

/// One lemma being fitted to what is known.
struct Fitting<'f> {
    usable: &'f Usable,
    known: &'f Known,
    /// What is known, by its outermost operation.
    by_op: &'f BTreeMap<Op, Vec<Proof>>,
    /// Whether what is not known may be looked for.
    deep: bool,
    held: Vec<Option<Proof>>,
    tries: usize,
    found: Vec<(Vec<Proof>, Bound)>,
}

impl Search<'_> {
    fn by_op(&self, known: &Known) -> BTreeMap<Op, Vec<Proof>> {
        let mut by_op: BTreeMap<Op, Vec<Proof>> = BTreeMap::new();
        for proof in known.facts.values() {
            by_op.entry(self.get(proof.says).op).or_default().push(Proof::clone(proof));
        }
        by_op
    }

    /// What lemmas conclude from what is known, where it is no longer than their premises together, and is not known or
    /// dearer to show.
    pub(super) fn by_lemmas(&mut self, known: &Known) -> Vec<Proof> {
        let index = Rc::clone(&self.index);
        let mut new: Vec<Proof> = Vec::new();
        if index.all.is_empty() {
            return new;
        }
        let by_op = self.by_op(known);
        for usable in index.all.iter().filter(|usable| usable.forward) {
            for (held, _) in self.fitted(usable, known, &by_op, Bound::new(), false) {
                let operands = vec![Operand::Number(usable.number)];
                let Some(says) = self.concluded(rule::LEMMA, &held, &operands) else { continue };
                let terms = &self.kernel.terms;
                let before: usize = held.iter().map(|premise| size(terms, premise.says)).sum();
                let step = Step::rule(terms, says, rule::LEMMA, held, operands);
                let dearer = known.facts.get(&says).is_none_or(|held| held.bytes > step.bytes);
                if dearer && size(terms, says) <= before {
                    new.push(step);
                }
            }
            if new.len() >= APPLIED_MAX || self.tired() {
                break;
            }
        }
        new
    }

    /// The cheapest way to show `goal` by one lemma, from what is known.
    pub(super) fn by_lemma_to(&mut self, known: &Known, goal: Id, deep: bool) -> Option<Proof> {
        let index = Rc::clone(&self.index);
        if index.all.is_empty() {
            return None;
        }
        let store = self.kernel.lemmas();
        let mut by_op = None;
        let mut best: Option<Proof> = None;
        for usable in &index.all {
            let mut bound = Bound::new();
            if !fit(store, usable.conclusion, &self.kernel.terms, goal, &mut bound) {
                continue;
            }
            let by_op = by_op.get_or_insert_with(|| self.by_op(known));
            for (held, bound) in self.fitted(usable, known, by_op, bound, deep) {
                let mut operands = vec![Operand::Number(usable.number)];
                operands.extend(usable.open.iter().filter_map(|symbol| bound.get(symbol).map(|id| Operand::Term(*id))));
                let held: Vec<&Proof> = held.iter().collect();
                let found = self.rule(rule::LEMMA, &held, operands).filter(|found| found.says == goal);
                if let Some(found) = found
                    && best.as_ref().is_none_or(|best| found.bytes < best.bytes)
                {
                    best = Some(found);
                }
            }
        }
        best
    }

    /// Anything, from a thing and its denial.
    pub(super) fn by_contradiction_lemma(&mut self, goal: Id, held: &Proof, denial: &Proof) -> Option<Proof> {
        let number = self.index.contradiction?;
        let operands = vec![Operand::Number(number), Operand::Term(goal)];
        self.rule(rule::LEMMA, &[held, denial], operands).filter(|found| found.says == goal)
    }

    fn fitted(
        &mut self,
        usable: &Usable,
        known: &Known,
        by_op: &BTreeMap<Op, Vec<Proof>>,
        bound: Bound,
        deep: bool,
    ) -> Vec<(Vec<Proof>, Bound)> {
        let held = vec![None; usable.premises.len()];
        let mut fitting = Fitting { usable, known, by_op, deep, held, tries: 0, found: Vec::new() };
        self.fit_premise(&mut fitting, 0, &bound);
        fitting.found
    }

    fn fit_premise(&mut self, fitting: &mut Fitting<'_>, at: usize, bound: &Bound) {
        let Some(&premise) = fitting.usable.order.get(at) else {
            if let Some(held) = fitting.held.iter().cloned().collect::<Option<Vec<Proof>>>() {
                fitting.found.push((held, bound.clone()));
            }
            return;
        };
        let store = self.kernel.lemmas();
        let pattern = fitting.usable.premises[premise];
        if let Some(wanted) = self.instance(store, pattern, bound) {
            let found = match fitting.known.get(wanted) {
                None if fitting.deep && self.kernel.terms.sort(wanted) == sort::BOOL => match self.get(wanted).op {
                    Op::Le => self.inequality(fitting.known, wanted),
                    _ => self.plainly(fitting.known, wanted),
                },
                found => found,
            };
            if found.is_some() {
                fitting.held[premise] = found;
                self.fit_premise(fitting, at + 1, bound);
                fitting.held[premise] = None;
            }
            return;
        }
        let head = store.terms().get(pattern).op;
        let candidates = fitting.by_op.get(&head).cloned().unwrap_or_default();
        for proof in candidates {
            fitting.tries += 1;
            if fitting.tries > TRIES_MAX || fitting.found.len() >= APPLIED_MAX {
                return;
            }
            let mut more = bound.clone();
            if fit(store, pattern, &self.kernel.terms, proof.says, &mut more) {
                fitting.held[premise] = Some(proof);
                self.fit_premise(fitting, at + 1, &more);
                fitting.held[premise] = None;
            }
        }
    }

    /// `pattern` with what its symbols stand for, where all do.
    fn instance(&mut self, store: &LemmaStore, pattern: Id, bound: &Bound) -> Option<Id> {
        let mut node = store.terms().get(pattern);
        if node.op == Op::Symbol {
            return bound.get(&node.args[0]).copied();
        }
        for child in store.terms().children(node) {
            node.args[child] = self.instance(store, node.args[child], bound)?;
        }
        self.kernel.terms.make(node.op, node.args).ok()
    }
}
