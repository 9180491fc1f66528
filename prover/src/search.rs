//! The search for the proof of one obligation: close what is known under the rules that only take apart, then take the
//! goal apart, and split cases where nothing else helps, as few as suffice.
//!
//! It tries the rules on a kernel of its own, so it never says what a rule would conclude: it asks. What it finds is
//! short rather than shortest, and it is complete for nothing beyond propositional logic; every bound has a name here.

mod arithmetic;
mod close;
pub mod lemmas;
pub mod linear;
pub mod step;

use lemmas::Index;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use step::{Operand, Proof, Step};
use vinet_trusted::logic::{Fault, Kernel, Theorem};
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Node, Op, SetValue, Terms, sort};

/// The most case splits inside one another.
pub const SPLITS_MAX: usize = 10;
/// The case splits inside one another up to which every choice of what to split is tried.
const SPLITS_FREE: usize = 2;
/// The most things known at once.
pub const KNOWN_MAX: usize = 2048;
/// The most steps of the search for one obligation.
pub const STEPS_MAX: usize = 60_000;
/// The most sets that a packet may have come through which are looked at one by one.
const STAGES_MAX: usize = 256;
/// The fewest for which that is worth it.
const STAGES_MIN: usize = 2;
/// The length of a proof below which no lemma is looked for, in bytes.
const SHORT_BYTES: usize = 6;
/// The deepest that the search nests.
const NESTED_MAX: usize = 64;

/// What earlier obligations showed, where it can be cited.
#[derive(Clone, Copy, Debug)]
pub struct Cited {
    /// Its number among the obligations.
    pub number: u32,
    /// The set that it was about the packets of, where it was.
    pub set: Option<Id>,
    /// What was shown.
    pub goal: Id,
}

/// What has been derived, with the shortest steps found.
#[derive(Clone, Default)]
struct Known {
    facts: BTreeMap<Id, Proof>,
    /// What was taken a witness of, or split.
    used: BTreeSet<Id>,
}

impl Known {
    fn get(&self, id: Id) -> Option<Proof> {
        self.facts.get(&id).cloned()
    }
    fn has(&self, id: Id) -> bool {
        self.facts.contains_key(&id)
    }
    fn all(&self) -> Vec<Proof> {
        self.facts.values().cloned().collect()
    }
}

/// The shorter of two.
fn shorter(a: Option<Proof>, b: Option<Proof>) -> Option<Proof> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.bytes < a.bytes { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// The search for one obligation.
pub struct Search<'l> {
    /// Tries the rules; its terms are those of the search.
    kernel: Kernel<'l>,
    cited: Vec<Cited>,
    index: Rc<Index>,
    given: Vec<Option<Id>>,
    /// The number of the first constant that a proof picks.
    constants: u32,
    names: usize,
    steps: usize,
    steps_max: usize,
    nested: usize,
}

impl<'l> Search<'l> {
    /// A search where the walk has come to: over a copy of the terms of `kernel`, from its path and `member`, and from
    /// `more`, what is assumed besides.
    pub fn new(kernel: &Kernel<'l>, member: Option<Id>, more: Option<Id>, cited: Vec<Cited>) -> Self {
        Search::indexed(kernel, Rc::new(Index::of(kernel.lemmas())), member, more, cited)
    }

    /// The same, where the lemmas of the kernel have been looked through already.
    pub fn indexed(
        kernel: &Kernel<'l>,
        index: Rc<Index>,
        member: Option<Id>,
        more: Option<Id>,
        cited: Vec<Cited>,
    ) -> Self {
        let path = kernel.path().map(Some);
        let given: Vec<Option<Id>> = std::iter::once(member).chain(path).chain(more.map(Some)).collect();
        Search {
            constants: kernel.terms.constants.len() as u32,
            kernel: Kernel::new(kernel.terms.clone(), kernel.lemmas()),
            cited,
            index,
            names: given.len(),
            given,
            steps: 0,
            steps_max: STEPS_MAX,
            nested: 0,
        }
    }

    /// The same, with at most so many steps.
    #[must_use]
    pub const fn at_most(mut self, steps: usize) -> Self {
        self.steps_max = steps;
        self
    }

    /// The bytes of a proof of `goal`.
    pub fn written(&mut self, goal: Id) -> Option<Vec<u8>> {
        let proof = self.proof(goal)?;
        let frame = step::Frame { terms: &self.kernel.terms, given: &self.given, goal, constants: self.constants };
        step::write(frame, &proof)
    }

    /// A proof of `goal`, with the fewest case splits.
    pub fn proof(&mut self, goal: Id) -> Option<Proof> {
        let known = self.start(goal);
        (0..=SPLITS_FREE)
            .find_map(|splits| self.goal(&known, goal, splits))
            .or_else(|| self.by_stages(&known, goal))
            .or_else(|| (SPLITS_FREE + 1..=SPLITS_MAX).find_map(|splits| self.goal(&known, goal, splits)))
    }

    /// By what it takes to be in each of the sets that the packet may have come through, the first of them first: so a
    /// set that many ways lead to is looked at once.
    fn by_stages(&mut self, known: &Known, goal: Id) -> Option<Proof> {
        let mut found: BTreeSet<Id> = BTreeSet::new();
        let mut todo: Vec<Id> = known.facts.keys().copied().collect();
        let mut seen: BTreeSet<Id> = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if !seen.insert(id) || found.len() == STAGES_MAX {
                continue;
            }
            let node = self.get(id);
            match node.op {
                Op::In if self.kernel.terms.sort(node.args[0]) == sort::PACKET => {
                    found.insert(id);
                    todo.extend(self.concluded(rule::UNFOLD, &[Step::claim(0, id)], &[]));
                }
                Op::And | Op::Or => todo.extend([node.args[0], node.args[1]]),
                _ => {}
            }
        }
        // What a set is made of was there before it.
        let mut found: Vec<Id> = found.into_iter().filter(|id| !known.has(*id)).collect();
        if found.len() < STAGES_MIN {
            return None;
        }
        found.sort_by_key(|id| (self.newest(self.get(*id).args[1]), *id));
        let mut known = known.clone();
        for stage in found {
            if let Some(implies) = self.implication(&known, stage, goal, SPLITS_FREE) {
                known = self.close(&known, vec![implies]);
            }
        }
        (0..=SPLITS_FREE).find_map(|splits| self.goal(&known, goal, splits))
    }

    /// One more than the greatest number of a constant in a term.
    fn newest(&self, id: Id) -> u32 {
        let (mut low, mut high) = (0, self.kernel.terms.constants.len() as u32);
        while low < high {
            let middle = low + (high - low) / 2;
            (low, high) = if self.kernel.terms.is_below(id, middle) { (low, middle) } else { (middle + 1, high) };
        }
        low
    }

    /// The terms of the search: those of the kernel that it was made for, and more behind them.
    pub const fn terms(&self) -> &Terms {
        &self.kernel.terms
    }

    /// What is known from the start.
    pub fn what_is_known(&mut self, goal: Id) -> Vec<Id> {
        self.start(goal).facts.into_keys().collect()
    }

    /// The least and the greatest that an integer can be, by what is known from the start.
    pub fn range(&mut self, value: Id) -> (Option<i64>, Option<i64>) {
        let known = self.start(value);
        self.range_of(&known, value)
    }

    /// Whether it can be shown that an integer is at most `most`.
    pub fn shows_at_most(&mut self, value: Id, most: u64) -> bool {
        let Ok(most) = i64::try_from(most) else { return true };
        let goal = self.kernel.terms.int(most).ok().and_then(|most| self.node(Op::Le, value, most));
        goal.is_some_and(|goal| self.proof(goal).is_some())
    }

    fn start(&mut self, goal: Id) -> Known {
        let mut new: Vec<Proof> = Vec::new();
        for (name, given) in self.given.iter().enumerate() {
            new.extend(given.map(|given| Step::claim(name, given)));
        }
        for Cited { number, goal, .. } in self.cited.iter().filter(|cited| cited.set.is_none()) {
            new.push(Step::rule(&self.kernel.terms, *goal, rule::CITE, Vec::new(), vec![Operand::Number(*number)]));
        }
        new.extend(self.facts_of(goal));
        self.close(&Known::default(), new)
    }

    fn get(&self, id: Id) -> Node {
        self.kernel.terms.get(id)
    }

    fn node(&mut self, op: Op, a: u32, b: u32) -> Option<Id> {
        self.kernel.terms.node(op, a, b).ok()
    }

    fn tired(&self) -> bool {
        self.steps > self.steps_max
    }

    // ---- Steps ----

    /// What a rule shows from these premises. Nothing where it does not apply.
    fn rule(&mut self, rule: u8, premises: &[&Proof], operands: Vec<Operand>) -> Option<Proof> {
        self.steps += 1;
        let premises: Vec<Proof> = premises.iter().map(|premise| Proof::clone(premise)).collect();
        let says = self.concluded(rule, &premises, &operands)?;
        Some(Step::rule(&self.kernel.terms, says, rule, premises, operands))
    }

    fn concluded(&mut self, rule: u8, premises: &[Proof], operands: &[Operand]) -> Option<Id> {
        let k = &mut self.kernel;
        k.begin(None);
        let mut theorems: Vec<Theorem> = Vec::with_capacity(premises.len());
        for (number, premise) in premises.iter().enumerate() {
            k.assume(premise.says).ok()?;
            theorems.push(k.claim(1 + number).ok()?);
        }
        let term = |at: usize| match operands.get(at) {
            Some(Operand::Term(id)) => Some(*id),
            _ => None,
        };
        let number = |at: usize| match operands.get(at) {
            Some(Operand::Number(n)) => Some(*n),
            _ => None,
        };
        let theorem: Result<Theorem, Fault> = match (rule, &theorems[..]) {
            (rule::UNFOLD, [a]) => k.unfold(*a),
            (rule::LEFT, [a]) => k.left(*a),
            (rule::RIGHT, [a]) => k.right(*a),
            (rule::WIDEN, [a]) => {
                let set = k.terms.node(Op::Set, number(0)?, 0).ok()?;
                k.widen(*a, set)
            }
            (rule::MODUS_PONENS, [a, b]) => k.modus_ponens(*a, *b),
            (rule::BOTH, [a, b]) => k.both(*a, *b),
            (rule::EITHER_LEFT, [a]) => k.either_left(*a, term(0)?),
            (rule::EITHER_RIGHT, [a]) => k.either_right(term(0)?, *a),
            (rule::CASES, [a, b, c]) => k.cases(*a, *b, *c),
            (rule::ABSURD, [a, b]) => k.absurd(*a, *b),
            (rule::NEGATE, [a]) => k.negate(*a),
            (rule::DOUBLE_NEGATION, [a]) => k.double_negation(*a),
            (rule::TRUTH, []) => k.truth(),
            (rule::APART, [a, b]) => k.apart(*a, *b),
            (rule::SYMMETRY, [a]) => k.symmetry(*a),
            (rule::CONGRUENCE, [a, b]) => k.congruence(*a, *b),
            (rule::EQUIVALENCE, [a, b]) => k.equivalence(*a, *b),
            (rule::THERE, [a]) => k.there(*a),
            (rule::BACK, [a]) => k.back(*a),
            (rule::SPECIALISE, [a]) => k.specialise(*a, term(0)?),
            (rule::EXISTS, [a]) => k.exists(*a, term(0)?, term(1)?),
            (rule::WITNESS, [a, b]) => k.witness(*a, *b),
            (rule::REFLEXIVITY, []) => k.reflexivity(term(0)?),
            (rule::FOLD, [a]) => k.fold(*a, term(0)?, term(1)?),
            (rule::FACT, []) => k.fact(number(0)?),
            (rule::DEFINE, []) => k.define(term(0)?),
            (rule::EVALUATE, []) => k.evaluate(term(0)?),
            (rule::SPLIT, [a]) => {
                let first = k.terms.node(Op::Set, number(0)?, 0).ok()?;
                let second = k.terms.node(Op::Set, number(1)?, 0).ok()?;
                k.split(*a, first, second)
            }
            (rule::BOUNDS, [a]) => k.bounds(*a),
            (rule::ENCLOSE, [low, high]) => {
                let set = k.terms.node(Op::Set, number(0)?, 0).ok()?;
                k.enclose(*low, *high, set)
            }
            (rule::OFFSET, [base @ .., low, high]) => {
                let set = k.terms.node(Op::Set, number(1)?, 0).ok()?;
                k.offset(*low, *high, base.first().copied(), term(0)?, set)
            }
            (rule::LINEAR, all) => {
                let taken = all.iter().zip(&operands[1..]);
                let times = |(theorem, operand): (&Theorem, &Operand)| match operand {
                    Operand::Signed(times) => Some((*theorem, *times)),
                    _ => None,
                };
                let taken: Vec<(Theorem, i64)> = taken.filter_map(times).collect();
                k.linear(&taken)
            }
            (rule::LEMMA, all) => {
                let more: Vec<Id> = (1..operands.len()).filter_map(term).collect();
                k.lemma(number(0)? as usize, all, &more)
            }
            _ => return None,
        };
        theorem.ok().map(Theorem::conclusion)
    }

    fn name(&mut self) -> step::Name {
        self.names += 1;
        self.names - 1
    }

    /// That `formula` implies what `body` makes of its claim.
    fn under(&mut self, formula: Id, body: impl FnOnce(&mut Self, Proof) -> Option<Proof>) -> Option<Proof> {
        let name = self.name();
        self.nested += 1;
        let body = if self.nested > NESTED_MAX { None } else { body(self, Step::claim(name, formula)) };
        self.nested -= 1;
        let body = body?;
        let says = self.node(Op::Implies, formula, body.says)?;
        Some(Step::suppose(&self.kernel.terms, says, name, formula, body))
    }

    /// That `formula` is false, from the contradiction that `body` makes of its claim.
    fn deny(&mut self, formula: Id, body: impl FnOnce(&mut Self, Proof) -> Option<Proof>) -> Option<Proof> {
        let implies = self.under(formula, body)?;
        self.rule(rule::NEGATE, &[&implies], Vec::new())
    }

    /// Anything follows from a contradiction.
    fn explode(&mut self, goal: Id, never: Proof) -> Option<Proof> {
        if let Some((held, denial)) = never.absurd()
            && let Some(found) = self.by_contradiction_lemma(goal, held, denial)
        {
            return Some(found);
        }
        match self.get(goal) {
            Node { op: Op::False, .. } => Some(never),
            Node { op: Op::Not, args } => self.deny(args[0], |_, _| Some(never)),
            _ => {
                let opposite = self.node(Op::Not, goal, 0)?;
                let twice = self.deny(opposite, |_, _| Some(never))?;
                self.rule(rule::DOUBLE_NEGATION, &[&twice], Vec::new())
            }
        }
    }

    /// That `goal` holds, from the contradiction that `body` makes of its opposite.
    fn suppose_not(&mut self, goal: Id, body: impl FnOnce(&mut Self, Proof) -> Option<Proof>) -> Option<Proof> {
        let opposite = self.node(Op::Not, goal, 0)?;
        let twice = self.deny(opposite, body)?;
        self.rule(rule::DOUBLE_NEGATION, &[&twice], Vec::new())
    }

    fn set_number(&self, id: Id) -> Option<u32> {
        let Node { op: Op::Set, args } = self.get(id) else { return None };
        Some(args[0])
    }

    // ---- Goals ----

    /// Steps for `goal`, with so many case splits inside one another at most.
    fn goal(&mut self, known: &Known, goal: Id, splits: usize) -> Option<Proof> {
        self.steps += 1;
        if self.tired() || self.nested > NESTED_MAX {
            return None;
        }
        let found = self.directly(known, goal, splits);
        if found.as_ref().is_none_or(|found| found.bytes > SHORT_BYTES) {
            let by_lemma = self.by_lemma_to(known, goal, found.is_none());
            if let Some(found) = shorter(found, by_lemma) {
                return Some(found);
            }
        } else {
            return found;
        }
        if let Some(never) = self.contradiction(known) {
            return self.explode(goal, never);
        }
        if splits == 0 {
            return None;
        }
        self.by_witness(known, goal, splits)
            .or_else(|| self.by_cases(known, goal, splits))
            .or_else(|| self.classically(known, goal, splits))
    }

    /// By what is known, or by taking the goal apart.
    fn directly(&mut self, known: &Known, goal: Id, splits: usize) -> Option<Proof> {
        if let Some(found) = self.plainly(known, goal) {
            return Some(found);
        }
        let Node { op, args: [a, b, ..] } = self.get(goal);
        match op {
            Op::False => self.contradiction(known),
            Op::In => match self.get(b).op {
                Op::Set => self.member(known, a, b),
                _ => {
                    // What it is to be in the set: the conclusion of unfolding, had it been shown.
                    let fact = self.concluded(rule::UNFOLD, &[Step::claim(0, goal)], &[])?;
                    let shown = self.goal(known, fact, splits)?;
                    self.rule(rule::FOLD, &[&shown], vec![Operand::Term(a), Operand::Term(b)])
                }
            },
            Op::And => {
                let first = self.goal(known, a, splits)?;
                let second = self.goal(known, b, splits)?;
                self.rule(rule::BOTH, &[&first, &second], Vec::new())
            }
            Op::Or => {
                if let Some(first) = self.directly(known, a, 0) {
                    return self.rule(rule::EITHER_LEFT, &[&first], vec![Operand::Term(b)]);
                }
                let second = self.directly(known, b, 0)?;
                self.rule(rule::EITHER_RIGHT, &[&second], vec![Operand::Term(a)])
            }
            Op::Not => self.deny(a, |search, claim| {
                let more = search.close(known, vec![claim]);
                let never = search.node(Op::False, 0, 0)?;
                search.goal(&more, never, splits)
            }),
            Op::Implies => self.implication(known, a, b, splits),
            Op::Iff => {
                let there = self.implication(known, a, b, splits)?;
                let back = self.implication(known, b, a, splits)?;
                self.rule(rule::EQUIVALENCE, &[&there, &back], Vec::new())
            }
            Op::Forall => {
                let constant = self.kernel.terms.fresh(a as u8).ok()?;
                let body = self.kernel.terms.open(b, constant).ok()?;
                let shown = self.goal(known, body, splits)?;
                self.generalised(shown, constant)
            }
            Op::Le => self.inequality(known, goal),
            _ => None,
        }
    }

    fn implication(&mut self, known: &Known, a: Id, b: Id, splits: usize) -> Option<Proof> {
        self.under(a, |search, claim| {
            let more = search.close(known, vec![claim]);
            search.goal(&more, b, splits)
        })
    }

    fn generalised(&mut self, shown: Proof, constant: Id) -> Option<Proof> {
        let (number, sort) = (self.get(constant).args[0], self.kernel.terms.sort(constant));
        let body = self.kernel.terms.close(shown.says, number).ok()?;
        let says = self.node(Op::Forall, u32::from(sort), body)?;
        Some(Step::arbitrary(says, number, sort, shown))
    }

    /// Steps for something that follows without case splits and new constants: what is known, put together or widened.
    fn plainly(&mut self, known: &Known, goal: Id) -> Option<Proof> {
        if let Some(found) = known.get(goal) {
            return Some(found);
        }
        let Node { op, args: [a, b, ..] } = self.get(goal);
        match op {
            Op::True => self.rule(rule::TRUTH, &[], Vec::new()),
            Op::In if self.get(b).op == Op::Set => self.narrower(known, a, b).or_else(|| self.evaluated(goal)),
            Op::Le => self.evaluated(goal),
            Op::Eq if a == b => self.rule(rule::REFLEXIVITY, &[], vec![Operand::Term(a)]),
            Op::Eq => self.evaluated(goal),
            Op::And => {
                let first = self.plainly(known, a)?;
                let second = self.plainly(known, b)?;
                self.rule(rule::BOTH, &[&first, &second], Vec::new())
            }
            Op::Or => {
                if let Some(first) = self.plainly(known, a) {
                    return self.rule(rule::EITHER_LEFT, &[&first], vec![Operand::Term(b)]);
                }
                let second = self.plainly(known, b)?;
                self.rule(rule::EITHER_RIGHT, &[&second], vec![Operand::Term(a)])
            }
            Op::Not => {
                let is_atom = matches!(self.get(a).op, Op::In | Op::Le | Op::Eq);
                if is_atom && let Some(found) = self.evaluated_not(a) {
                    return Some(found);
                }
                if is_atom { self.refuted(known, a) } else { None }
            }
            Op::Exists => self.for_example(known, goal),
            _ => None,
        }
    }

    /// A ground formula that is true.
    fn evaluated(&mut self, goal: Id) -> Option<Proof> {
        self.rule(rule::EVALUATE, &[], vec![Operand::Term(goal)]).filter(|proof| proof.says == goal)
    }

    /// That a ground formula is false.
    fn evaluated_not(&mut self, formula: Id) -> Option<Proof> {
        self.rule(rule::EVALUATE, &[], vec![Operand::Term(formula)]).filter(|proof| proof.says != formula)
    }

    /// That something is in a set, from its being in a smaller one.
    fn narrower(&mut self, known: &Known, member: Id, set: Id) -> Option<Proof> {
        let number = self.set_number(set)?;
        let mut all: Vec<Proof> = known.all().into_iter().filter(|proof| self.is_in(proof.says, member)).collect();
        all.sort_by_key(|proof| proof.bytes);
        all.iter().find_map(|proof| self.rule(rule::WIDEN, &[proof], vec![Operand::Number(number)]))
    }

    /// Whether a formula says that `member` is in a set that is written out.
    fn is_in(&self, formula: Id, member: Id) -> bool {
        let Node { op, args } = self.get(formula);
        op == Op::In && args[0] == member && self.get(args[1]).op == Op::Set
    }

    /// That something is, from something known to be so.
    fn for_example(&mut self, known: &Known, goal: Id) -> Option<Proof> {
        let Node { args: [sort, body, ..], .. } = self.get(goal);
        for term in self.mentioned(known, sort as u8) {
            let instance = self.kernel.terms.open(body, term).ok()?;
            if let Some(shown) = known.get(instance) {
                return self.rule(rule::EXISTS, &[&shown], vec![Operand::Term(goal), Operand::Term(term)]);
            }
        }
        None
    }

    /// The terms of a sort that something known says to be in a set.
    fn mentioned(&self, known: &Known, wanted: u8) -> BTreeSet<Id> {
        let mut terms = BTreeSet::new();
        for id in known.facts.keys() {
            let Node { op, args } = self.get(*id);
            if op == Op::In && self.kernel.terms.sort(args[0]) == wanted {
                terms.insert(args[0]);
            }
        }
        terms
    }

    // ---- Contradictions ----

    /// Steps that leave False on the stack, by things known that exclude each other.
    fn contradiction(&mut self, known: &Known) -> Option<Proof> {
        let never = self.node(Op::False, 0, 0)?;
        if let Some(found) = known.get(never) {
            return Some(found);
        }
        let mut best: Option<Proof> = None;
        for proof in known.all() {
            let Node { op, args: [a, b, ..] } = self.get(proof.says);
            let found = match op {
                Op::Not => {
                    self.plainly(known, a).and_then(|held| self.rule(rule::ABSURD, &[&held, &proof], Vec::new()))
                }
                Op::In if self.get(b).op == Op::Set => self.elsewhere(known, &proof),
                Op::Eq => self.unequal(known, &proof),
                _ => None,
            };
            if let Some(found) = found
                && best.as_ref().is_none_or(|best| found.bytes < best.bytes)
            {
                best = Some(found);
            }
        }
        best.or_else(|| self.no_numbers(known, None))
    }

    /// What is said to be in one set is known to be in another that has nothing in common with it.
    fn elsewhere(&mut self, known: &Known, proof: &Proof) -> Option<Proof> {
        let Node { args: [member, ..], .. } = self.get(proof.says);
        for other in known.all() {
            if self.is_in(other.says, member)
                && other.says != proof.says
                && let Some(found) = self.rule(rule::APART, &[proof, &other], Vec::new())
            {
                return Some(found);
            }
        }
        if let Some(denied) = self.evaluated_not(proof.says) {
            return self.rule(rule::ABSURD, &[proof, &denied], Vec::new());
        }
        // It is in none of two sets that have all of it.
        let denied: Vec<Proof> = known
            .all()
            .into_iter()
            .filter(|other| {
                let Node { op, args } = self.get(other.says);
                op == Op::Not && self.is_in(args[0], member)
            })
            .collect();
        for (at, first) in denied.iter().enumerate() {
            for second in &denied[at + 1..] {
                let sets: Option<Vec<u32>> = [first, second]
                    .iter()
                    .map(|denied| self.set_number(self.get(self.get(denied.says).args[0]).args[1]))
                    .collect();
                let sets = sets?;
                let operands = vec![Operand::Number(sets[0]), Operand::Number(sets[1])];
                let Some(split) = self.rule(rule::SPLIT, &[proof], operands) else { continue };
                let Node { args: [a, b, ..], .. } = self.get(split.says);
                let case = |search: &mut Self, side: Id, denied: &Proof| {
                    search.under(side, |search, claim| search.rule(rule::ABSURD, &[&claim, denied], Vec::new()))
                };
                let (one, two) = (case(self, a, first)?, case(self, b, second)?);
                return self.rule(rule::CASES, &[&split, &one, &two], Vec::new());
            }
        }
        None
    }

    /// Two things are said to be equal that are not: the one is written out and is not where the other is.
    fn unequal(&mut self, known: &Known, proof: &Proof) -> Option<Proof> {
        let Node { args: [a, b, ..], .. } = self.get(proof.says);
        if self.get(b).op != Op::Addr {
            return None;
        }
        if let Some(denied) = self.evaluated_not(proof.says) {
            return self.rule(rule::ABSURD, &[proof, &denied], Vec::new());
        }
        for other in known.all() {
            if !self.is_in(other.says, a) {
                continue;
            }
            let carried = self.rule(rule::CONGRUENCE, &[proof, &other], Vec::new())?;
            if let Some(denied) = self.evaluated_not(carried.says) {
                return self.rule(rule::ABSURD, &[&carried, &denied], Vec::new());
            }
        }
        None
    }

    /// That `formula` is false, without case splits but its own.
    fn refuted(&mut self, known: &Known, formula: Id) -> Option<Proof> {
        let denial = self.node(Op::Not, formula, 0)?;
        if let Some(found) = known.get(denial) {
            return Some(found);
        }
        self.deny(formula, |search, claim| search.contradicts(known, &claim))
    }

    /// False, from what is known and what `claim` says.
    fn contradicts(&mut self, known: &Known, claim: &Proof) -> Option<Proof> {
        let denial = self.node(Op::Not, claim.says, 0)?;
        if let Some(denied) = known.get(denial) {
            return self.rule(rule::ABSURD, &[claim, &denied], Vec::new());
        }
        let Node { op, args: [a, b, ..] } = self.get(claim.says);
        match op {
            Op::False => Some(Proof::clone(claim)),
            Op::And => {
                let left = self.rule(rule::LEFT, &[claim], Vec::new())?;
                if let Some(found) = self.contradicts(known, &left) {
                    return Some(found);
                }
                let right = self.rule(rule::RIGHT, &[claim], Vec::new())?;
                self.contradicts(known, &right)
            }
            Op::Or => {
                let first = self.under(a, |search, claim| search.contradicts(known, &claim))?;
                let second = self.under(b, |search, claim| search.contradicts(known, &claim))?;
                self.rule(rule::CASES, &[claim, &first, &second], Vec::new())
            }
            Op::Not if self.get(a).op == Op::Le => self
                .plainly(known, a)
                .and_then(|held| self.rule(rule::ABSURD, &[&held, claim], Vec::new()))
                .or_else(|| self.no_numbers(known, Some(claim))),
            Op::Not => {
                let held = self.plainly(known, a)?;
                self.rule(rule::ABSURD, &[&held, claim], Vec::new())
            }
            Op::In if self.get(b).op == Op::Set => {
                let wider = known.all().into_iter().find_map(|other| {
                    let Node { op, args } = self.get(other.says);
                    if op != Op::Not || !self.is_in(args[0], a) {
                        return None;
                    }
                    let number = self.set_number(self.get(args[0]).args[1])?;
                    let wider = self.rule(rule::WIDEN, &[claim], vec![Operand::Number(number)])?;
                    self.rule(rule::ABSURD, &[&wider, &other], Vec::new())
                });
                wider.or_else(|| self.elsewhere(known, claim)).or_else(|| {
                    if self.kernel.terms.sort(a) == sort::INT { self.no_numbers(known, Some(claim)) } else { None }
                })
            }
            Op::Le => self.no_numbers(known, Some(claim)),
            Op::Eq if self.kernel.terms.sort(a) == sort::INT => self.no_numbers(known, Some(claim)),
            Op::Eq => self.unequal(known, claim),
            _ => None,
        }
    }

    // ---- Cases ----

    /// By a thing that is known to be.
    fn by_witness(&mut self, known: &Known, goal: Id, splits: usize) -> Option<Proof> {
        for proof in known.all() {
            let Node { op: Op::Exists, args: [sort, body, ..] } = self.get(proof.says) else { continue };
            if known.used.contains(&proof.says) {
                continue;
            }
            let constant = self.kernel.terms.fresh(sort as u8).ok()?;
            let is_so = self.kernel.terms.open(body, constant).ok()?;
            let case = self.under(is_so, |search, claim| {
                let mut more = search.close(known, vec![claim]);
                more.used.insert(proof.says);
                search.goal(&more, goal, splits - 1)
            });
            if let Some(case) = case {
                let all = self.generalised(case, constant)?;
                return self.rule(rule::WITNESS, &[&proof, &all], Vec::new());
            }
        }
        None
    }

    /// By the two cases of something known.
    fn by_cases(&mut self, known: &Known, goal: Id, splits: usize) -> Option<Proof> {
        let mut left: Vec<Proof> = Vec::new();
        for either in self.eithers(known) {
            let Node { args: [a, b, ..], .. } = self.get(either.says);
            if known.has(a) || known.has(b) || known.used.contains(&either.says) {
                continue;
            }
            // One that is settled on one side is no more of a choice on the other.
            let first = self.case(known, &either, a, goal, 0);
            let second = match &first {
                Some(_) => self.case(known, &either, b, goal, splits - 1),
                None => self.case(known, &either, b, goal, 0),
            };
            let first = match (&first, &second) {
                (None, Some(_)) => self.case(known, &either, a, goal, splits - 1),
                _ => first,
            };
            if let (Some(first), Some(second)) = (first, second) {
                return self.rule(rule::CASES, &[&either, &first, &second], Vec::new());
            }
            left.push(either);
        }
        if splits == 1 {
            return None;
        }
        let tried = if splits <= SPLITS_FREE { left.len() } else { 1 };
        for either in left.iter().take(tried) {
            let Node { args: [a, b, ..], .. } = self.get(either.says);
            let Some(first) = self.case(known, either, a, goal, splits - 1) else { continue };
            let Some(second) = self.case(known, either, b, goal, splits - 1) else { continue };
            return self.rule(rule::CASES, &[either, &first, &second], Vec::new());
        }
        None
    }

    fn case(&mut self, known: &Known, either: &Proof, side: Id, goal: Id, splits: usize) -> Option<Proof> {
        self.under(side, |search, claim| {
            let mut more = search.close(known, vec![claim]);
            more.used.insert(either.says);
            search.goal(&more, goal, splits)
        })
    }

    /// What is known to be one of two, the cheapest first: as such, or as the denial of two things at once.
    fn eithers(&mut self, known: &Known) -> Vec<Proof> {
        let mut all: Vec<Proof> = Vec::new();
        for proof in known.all() {
            let Node { op, args } = self.get(proof.says);
            match op {
                Op::Or => all.push(proof),
                Op::Not if self.get(args[0]).op == Op::And => all.extend(self.one_denied(&proof)),
                _ => {}
            }
        }
        all.sort_by_key(|proof| (proof.bytes, proof.says));
        all
    }

    /// From ¬(A ∧ B) follows ¬A ∨ ¬B.
    fn one_denied(&mut self, proof: &Proof) -> Option<Proof> {
        let Node { args: [both, ..], .. } = self.get(proof.says);
        let Node { args: [a, b, ..], .. } = self.get(both);
        let (not_a, not_b) = (self.node(Op::Not, a, 0)?, self.node(Op::Not, b, 0)?);
        let goal = self.node(Op::Or, not_a, not_b)?;
        self.suppose_not(goal, |search, neither| {
            let held = |search: &mut Self, not: Id, other: Id, rule: u8| {
                let twice = search.deny(not, |search, claim| {
                    let either = search.rule(rule, &[&claim], vec![Operand::Term(other)])?;
                    search.rule(rule::ABSURD, &[&either, &neither], Vec::new())
                })?;
                search.rule(rule::DOUBLE_NEGATION, &[&twice], Vec::new())
            };
            let first = held(search, not_a, not_b, rule::EITHER_LEFT)?;
            let second = held(search, not_b, not_a, rule::EITHER_RIGHT)?;
            let both = search.rule(rule::BOTH, &[&first, &second], Vec::new())?;
            search.rule(rule::ABSURD, &[&both, proof], Vec::new())
        })
    }

    /// By its opposite, for what no rule leads to directly: one of two things.
    fn classically(&mut self, known: &Known, goal: Id, splits: usize) -> Option<Proof> {
        let Node { op: Op::Or | Op::Exists | Op::In | Op::Le, args: [a, b, ..] } = self.get(goal) else { return None };
        if self.get(goal).op == Op::Or
            && let Some(found) = self.otherwise(known, goal, a, b, splits)
        {
            return Some(found);
        }
        let opposite = self.node(Op::Not, goal, 0)?;
        if known.has(opposite) {
            return None;
        }
        self.suppose_not(goal, |search, claim| {
            let more = search.close(known, vec![claim]);
            let never = search.node(Op::False, 0, 0)?;
            search.goal(&more, never, splits - 1)
        })
    }

    /// One of two things, by either where the other is not.
    fn otherwise(&mut self, known: &Known, goal: Id, a: Id, b: Id, splits: usize) -> Option<Proof> {
        for (side, rule, other) in [(a, rule::EITHER_LEFT, b), (b, rule::EITHER_RIGHT, a)] {
            if let Some(shown) = self.goal(known, side, splits - 1) {
                return self.rule(rule, &[&shown], vec![Operand::Term(other)]);
            }
        }
        self.suppose_not(goal, |search, claim| {
            let more = search.close(known, vec![Proof::clone(&claim)]);
            for (side, rule, other) in [(b, rule::EITHER_RIGHT, a), (a, rule::EITHER_LEFT, b)] {
                if let Some(shown) = search.goal(&more, side, splits - 1) {
                    let either = search.rule(rule, &[&shown], vec![Operand::Term(other)])?;
                    return search.rule(rule::ABSURD, &[&either, &claim], Vec::new());
                }
            }
            None
        })
    }

    /// The sets that are written out, of the kind that `like` is.
    fn sets_like(&self, like: Id) -> Vec<u32> {
        let is_addrs = matches!(self.kernel.terms.as_set(like), Some(SetValue::Addrs(_)));
        let sets = self.kernel.terms.sets.iter().enumerate();
        sets.filter(|(_, set)| matches!(set, SetValue::Addrs(_)) == is_addrs).map(|(at, _)| at as u32).collect()
    }
}
