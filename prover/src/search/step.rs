//! Pieces of a proof before it is bytes, and the writer that puts them behind one another in few of them.
//!
//! A [`Proof`] is a graph: what is used twice is there once. The writer refers to formulas that the obligation holds
//! instead of spelling them out, numbers assumptions and picked constants in the order in which it opens them, and puts
//! what is dear and used often on the stack once, to be copied from there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vinet_trusted::logic::ASSUMPTIONS_MAX;
use vinet_trusted::proof::{STACK_MAX, WRITTEN_DEPTH_MAX, refer, rule};
use vinet_trusted::term::{Id, Node, Op, Sort, Terms};
use vinet_trusted::wire::{Wire, Writer};

/// An assumption, by a name that stays when steps are put together in another order. The first names are those of what
/// the obligation gives.
pub type Name = usize;

/// What puts one theorem on the stack.
pub type Proof = Rc<Step>;

/// The longest reference to a part of a formula that is worth looking at, in bytes.
const REFERENCE_BYTES_MAX: usize = 12;
/// The most that is kept on the stack at one time.
const KEPT_MAX: usize = STACK_MAX - 32;
/// The fewest bytes of a proof that is worth sharing.
const SHARED_BYTES_MIN: usize = 4;

/// One step, with those that it needs.
#[derive(Debug)]
pub struct Step {
    /// What it shows.
    pub says: Id,
    /// About how many bytes it takes, when nothing is shared.
    pub bytes: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Claim(Name),
    Rule { rule: u8, premises: Vec<Proof>, operands: Vec<Operand> },
    Suppose { name: Name, formula: Id, body: Proof },
    Arbitrary { constant: u32, sort: Sort, body: Proof },
}

/// What stands behind the byte of a rule.
#[derive(Clone, Copy, Debug)]
pub enum Operand {
    /// A term or formula.
    Term(Id),
    /// A number.
    Number(u32),
    /// A signed one.
    Signed(i64),
}

impl Step {
    /// What is given, or assumed around it.
    pub fn claim(name: Name, says: Id) -> Proof {
        Rc::new(Step { says, bytes: 2, kind: Kind::Claim(name) })
    }
    /// A rule, on what is shown by `premises`.
    pub fn rule(terms: &Terms, says: Id, rule: u8, premises: Vec<Proof>, operands: Vec<Operand>) -> Proof {
        let written: usize = operands.iter().map(|operand| guess(terms, operand)).sum();
        let bytes = premises.iter().fold(1 + written, |all, premise| all.saturating_add(premise.bytes));
        Rc::new(Step { says, bytes, kind: Kind::Rule { rule, premises, operands } })
    }
    /// What it is that is and is not, where this step is that both are shown.
    pub fn absurd(&self) -> Option<(&Proof, &Proof)> {
        match &self.kind {
            Kind::Rule { rule: rule::ABSURD, premises, .. } => Some((premises.first()?, premises.get(1)?)),
            _ => None,
        }
    }
    /// That `formula` implies what `body` shows when it is assumed by this name; `says` is that implication.
    pub fn suppose(terms: &Terms, says: Id, name: Name, formula: Id, body: Proof) -> Proof {
        let bytes = body.bytes.saturating_add(3 + guess(terms, &Operand::Term(formula)));
        Rc::new(Step { says, bytes, kind: Kind::Suppose { name, formula, body } })
    }
    /// That what `body` shows of the constant holds of everything; `says` is that.
    pub fn arbitrary(says: Id, constant: u32, sort: Sort, body: Proof) -> Proof {
        Rc::new(Step { says, bytes: body.bytes.saturating_add(4), kind: Kind::Arbitrary { constant, sort, body } })
    }
}

/// About how many bytes an operand takes: formulas are mostly parts of what is there.
fn guess(terms: &Terms, operand: &Operand) -> usize {
    match operand {
        Operand::Term(id) if terms.children(terms.get(*id)).is_empty() => 2,
        Operand::Term(_) => 4,
        Operand::Number(_) | Operand::Signed(_) => 1,
    }
}

/// What a proof is written into: what the obligation has, by the ids of the terms that the search used.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// The terms of the search.
    pub terms: &'a Terms,
    /// What can be claimed: the member first, where there is one, then the path.
    pub given: &'a [Option<Id>],
    /// What is to be shown.
    pub goal: Id,
    /// The number that the first constant gets that the proof picks.
    pub constants: u32,
}

/// The bytes of a proof, with its end. Nothing where it is above a limit of the format.
pub fn write(frame: Frame<'_>, proof: &Proof) -> Option<Vec<u8>> {
    let plain = Writing::new(frame, false).whole(proof);
    let shared = Writing::new(frame, true).whole(proof);
    match (plain, shared) {
        (Some(a), Some(b)) => Some(if b.len() < a.len() { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Where a step's subproofs leave names and picked constants open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Free {
    Name(Name),
    Constant(u32),
}

type Key = *const Step;

struct Writing<'a> {
    frame: Frame<'a>,
    share: bool,
    out: Writer,
    written: usize,
    /// The shortest reference to each formula that there is one to.
    references: BTreeMap<Id, Vec<u8>>,
    names: BTreeMap<Name, usize>,
    constants: BTreeMap<u32, u32>,
    /// What is on the stack to be copied, and where.
    kept: BTreeMap<Key, usize>,
    on_stack: usize,
    opened: usize,
    picked: u32,
    free: BTreeMap<Key, Rc<BTreeSet<Free>>>,
    available: BTreeSet<Free>,
}

/// The most bytes of one obligation's proof that are written.
const PROOF_BYTES_MAX: usize = 64 * 1024;

impl<'a> Writing<'a> {
    fn new(frame: Frame<'a>, share: bool) -> Self {
        let mut writing = Writing {
            frame,
            share,
            out: Writer::new(),
            written: 0,
            references: BTreeMap::new(),
            names: (0..frame.given.len()).map(|name| (name, name)).collect(),
            constants: BTreeMap::new(),
            kept: BTreeMap::new(),
            on_stack: 0,
            opened: 0,
            picked: 0,
            free: BTreeMap::new(),
            available: (0..frame.given.len()).map(Free::Name).collect(),
        };
        writing.refer(frame.goal, vec![refer::GOAL]);
        for (number, given) in frame.given.iter().enumerate() {
            if let Some(given) = given {
                writing.refer(*given, claimed(number));
            }
        }
        writing
    }

    fn whole(mut self, proof: &Proof) -> Option<Vec<u8>> {
        self.scope(proof)?;
        self.out.byte(rule::DONE);
        Some(self.out.finish())
    }

    /// Takes `bytes` as a way to write `id`, and with them ways to write its closed parts.
    fn refer(&mut self, id: Id, bytes: Vec<u8>) {
        let known = self.references.get(&id);
        if bytes.len() > REFERENCE_BYTES_MAX || known.is_some_and(|known| known.len() <= bytes.len()) {
            return;
        }
        let node = self.frame.terms.get(id);
        for child in self.frame.terms.children(node) {
            if self.frame.terms.is_closed(node.args[child]) {
                self.refer(node.args[child], [&[refer::PART, child as u8], &bytes[..]].concat());
            }
        }
        self.references.insert(id, bytes);
    }

    /// A step and all that it needs, where more names are available than around it: what is used often comes first.
    fn scope(&mut self, proof: &Proof) -> Option<()> {
        let kept = if self.share { self.often(proof) } else { Vec::new() };
        let kept: Vec<Proof> = kept.into_iter().take(KEPT_MAX).collect();
        for step in &kept {
            self.step(step)?;
            self.kept.insert(Rc::as_ptr(step), self.on_stack - 1);
        }
        self.step(proof)?;
        for step in &kept {
            self.bytes(&[rule::BOTH, rule::RIGHT])?;
            self.on_stack -= 1;
            self.kept.remove(&Rc::as_ptr(step));
        }
        Some(())
    }

    /// The steps below `proof` that are worth keeping on the stack from here on, smaller ones first.
    fn often(&mut self, proof: &Proof) -> Vec<Proof> {
        let mut uses: BTreeMap<Key, (usize, Proof)> = BTreeMap::new();
        let mut todo = vec![Rc::clone(proof)];
        while let Some(step) = todo.pop() {
            for below in premises(&step) {
                let entry = uses.entry(Rc::as_ptr(below)).or_insert_with(|| (0, Rc::clone(below)));
                entry.0 += 1;
                if entry.0 == 1 && !self.kept.contains_key(&Rc::as_ptr(below)) {
                    todo.push(Rc::clone(below));
                }
            }
        }
        let mut often: Vec<Proof> = Vec::new();
        for (uses, step) in uses.into_values() {
            let pays = step.bytes >= SHARED_BYTES_MIN && uses * step.bytes > step.bytes + 2 * uses + 2;
            let is_open = !self.free(&step).is_subset(&self.available);
            if pays && !is_open && !self.kept.contains_key(&Rc::as_ptr(&step)) {
                often.push(step);
            }
        }
        // By what they say too, so that the order does not depend on where they lie in memory.
        often.sort_by_key(|step| (step.bytes, step.says));
        often
    }

    fn free(&mut self, step: &Proof) -> Rc<BTreeSet<Free>> {
        if let Some(known) = self.free.get(&Rc::as_ptr(step)) {
            return Rc::clone(known);
        }
        let mut free = BTreeSet::new();
        for below in premises(step) {
            free.extend(self.free(below).iter().copied());
        }
        self.constants_of(step.says, &mut free);
        match &step.kind {
            Kind::Claim(name) => {
                free.insert(Free::Name(*name));
            }
            Kind::Rule { operands, .. } => {
                for operand in operands {
                    if let Operand::Term(id) = operand {
                        self.constants_of(*id, &mut free);
                    }
                }
            }
            Kind::Suppose { name, .. } => {
                free.remove(&Free::Name(*name));
            }
            Kind::Arbitrary { constant, .. } => {
                free.remove(&Free::Constant(*constant));
            }
        }
        let free = Rc::new(free);
        self.free.insert(Rc::as_ptr(step), Rc::clone(&free));
        free
    }

    fn constants_of(&self, id: Id, all: &mut BTreeSet<Free>) {
        let terms = self.frame.terms;
        let (mut todo, mut seen) = (vec![id], BTreeSet::new());
        while let Some(id) = todo.pop() {
            if terms.is_below(id, self.frame.constants) || !seen.insert(id) {
                continue;
            }
            let node = terms.get(id);
            if node.op == Op::Const {
                all.insert(Free::Constant(node.args[0]));
            }
            todo.extend(terms.children(node).map(|child| node.args[child]));
        }
    }

    fn step(&mut self, proof: &Proof) -> Option<()> {
        if let Some(at) = self.kept.get(&Rc::as_ptr(proof)) {
            let below = self.on_stack - 1 - at;
            self.number(rule::COPY, below)?;
            return self.push();
        }
        match &proof.kind {
            Kind::Claim(name) => {
                let number = *self.names.get(name)?;
                self.number(rule::CLAIM, number)?;
                self.push()
            }
            Kind::Rule { rule, premises, operands } => {
                let before = self.on_stack;
                premises.iter().try_for_each(|premise| self.step(premise))?;
                self.bytes(&[*rule])?;
                for operand in operands {
                    match operand {
                        Operand::Term(id) => self.term(*id)?,
                        Operand::Number(n) => self.integer(|w| n.write(w))?,
                        Operand::Signed(n) => self.integer(|w| n.write(w))?,
                    }
                }
                self.on_stack = before;
                self.push()
            }
            Kind::Suppose { name, formula, body } => {
                if self.opened == ASSUMPTIONS_MAX {
                    return None;
                }
                self.bytes(&[rule::ASSUME])?;
                self.term(*formula)?;
                let number = self.frame.given.len() + self.opened;
                self.opened += 1;
                self.names.insert(*name, number);
                self.refer(*formula, claimed(number));
                self.available.insert(Free::Name(*name));
                self.scope(body)?;
                self.available.remove(&Free::Name(*name));
                self.number(rule::DISCHARGE, number)
            }
            Kind::Arbitrary { constant, sort, body } => {
                self.bytes(&[rule::PICK, *sort])?;
                let number = self.frame.constants + self.picked;
                self.picked += 1;
                self.constants.insert(*constant, number);
                self.available.insert(Free::Constant(*constant));
                self.scope(body)?;
                self.available.remove(&Free::Constant(*constant));
                self.number(rule::GENERALISE, number as usize)
            }
        }
    }

    fn push(&mut self) -> Option<()> {
        self.on_stack += 1;
        (self.on_stack <= STACK_MAX).then_some(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.out.bytes(bytes);
        self.written += bytes.len();
        (self.written <= PROOF_BYTES_MAX).then_some(())
    }

    fn integer(&mut self, write: impl FnOnce(&mut Writer)) -> Option<()> {
        let mut w = Writer::new();
        write(&mut w);
        self.bytes(&w.finish())
    }

    fn number(&mut self, rule: u8, number: usize) -> Option<()> {
        self.bytes(&[rule])?;
        self.integer(|w| w.integer(number as u64))
    }

    fn term(&mut self, id: Id) -> Option<()> {
        let (bytes, depth) = self.shortest(id, &mut BTreeMap::new())?;
        if depth > WRITTEN_DEPTH_MAX {
            return None;
        }
        self.bytes(&bytes)
    }

    /// The shortest way to write `id` that is known, and how deep it nests. Nothing where it is too long.
    fn shortest(&self, id: Id, done: &mut BTreeMap<Id, (Vec<u8>, usize)>) -> Option<(Vec<u8>, usize)> {
        if let Some(known) = done.get(&id) {
            return Some(known.clone());
        }
        if let Some(reference) = self.references.get(&id).filter(|reference| reference.len() <= 3) {
            return Some((reference.clone(), reference.len()));
        }
        let node = self.frame.terms.get(id);
        let Node { op, args } = node;
        let mut w = Writer::new();
        w.byte(op as u8);
        match op {
            Op::Const => self.constants.get(&args[0]).unwrap_or(&args[0]).write(&mut w),
            Op::Var | Op::Addr | Op::Set | Op::Symbol => args[0].write(&mut w),
            Op::Slot => w.bytes(&[args[0] as u8, args[1] as u8]),
            Op::Int => self.frame.terms.as_int(id).unwrap_or_default().write(&mut w),
            Op::Empty | Op::Forall | Op::Exists | Op::Unique => w.byte(args[0] as u8),
            _ => {}
        }
        let (mut depth, mut length) = (0, 0);
        for child in self.frame.terms.children(node) {
            let (bytes, below) = self.shortest(args[child], done)?;
            w.bytes(&bytes);
            depth = depth.max(below + 1);
            length += bytes.len();
            if length > PROOF_BYTES_MAX {
                return None;
            }
        }
        if op == Op::Num {
            w.byte(args[1] as u8);
        }
        let mut shortest = (w.finish(), depth);
        if let Some(reference) = self.references.get(&id)
            && reference.len() < shortest.0.len()
        {
            shortest = (reference.clone(), reference.len());
        }
        done.insert(id, shortest.clone());
        Some(shortest)
    }
}

fn claimed(number: usize) -> Vec<u8> {
    let mut w = Writer::new();
    w.byte(refer::CLAIM);
    w.integer(number as u64);
    w.finish()
}

fn premises(step: &Step) -> &[Proof] {
    match &step.kind {
        Kind::Claim(_) => &[],
        Kind::Rule { premises, .. } => premises,
        Kind::Suppose { body, .. } | Kind::Arbitrary { body, .. } => std::slice::from_ref(body),
    }
}
