//! Derivations: steps that were made by the kernel's rules, each once, and how they are written as a proof's bytes.
//!
//! A proof is a list of rules over a stack. A theorem that is used more than once is either derived again at each use
//! or kept on the stack and copied; whichever makes the proof shorter. Assumptions and picked constants are numbered in
//! the order in which the bytes come to need them, so what is not needed is not written.

use super::rules::{self, Arg};
use std::collections::{HashMap, VecDeque};
use vinet_trusted::logic::{Fault, Kernel, Theorem};
use vinet_trusted::proof::{STACK_MAX, refer, rule};
use vinet_trusted::term::{Id, Node, Op, Terms};
use vinet_trusted::wire::{Wire, Writer};

/// The number of a step.
pub(crate) type Step = usize;

#[derive(Clone, Debug)]
struct Made {
    byte: u8,
    premises: Vec<Step>,
    args: Vec<Arg>,
    theorem: Theorem,
}

/// Steps, in the order in which they were made: premises before what follows from them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Derivation {
    steps: Vec<Made>,
    known: HashMap<(u8, Vec<Step>, Vec<Arg>), Step>,
    /// The claim of each assumption of the proof's own.
    assumed: HashMap<Id, u32>,
}

impl Derivation {
    pub fn theorem(&self, step: Step) -> Theorem {
        self.steps[step].theorem
    }
    /// What the step says.
    pub fn says(&self, step: Step) -> Id {
        self.steps[step].theorem.conclusion()
    }
    /// The step that this rule makes of these.
    pub fn step(&mut self, kernel: &mut Kernel<'_>, byte: u8, premises: &[Step], args: &[Arg]) -> Result<Step, Fault> {
        // What was put together is not taken apart again: macros do that.
        if let [premise] = premises {
            let Made { byte: before, premises: parts, .. } = &self.steps[*premise];
            match (byte, before, parts.as_slice()) {
                (rule::LEFT, &rule::BOTH, [part, _]) | (rule::RIGHT, &rule::BOTH, [_, part]) => return Ok(*part),
                (rule::THERE, &rule::EQUIVALENCE, [part, _]) | (rule::BACK, &rule::EQUIVALENCE, [_, part]) => {
                    return Ok(*part);
                }
                (rule::SYMMETRY, &rule::SYMMETRY, [part]) => return Ok(*part),
                _ => {}
            }
        }
        let key = (byte, premises.to_vec(), args.to_vec());
        if let Some(step) = self.known.get(&key) {
            return Ok(*step);
        }
        let theorems: Vec<Theorem> = premises.iter().map(|step| self.steps[*step].theorem).collect();
        let theorem = rules::apply(kernel, byte, &theorems, args)?;
        self.steps.push(Made { byte, premises: key.1.clone(), args: key.2.clone(), theorem });
        self.known.insert(key, self.steps.len() - 1);
        Ok(self.steps.len() - 1)
    }
    /// The number of the claim of `formula` as an assumption of the proof's own; `next` is the number that a new one
    /// has.
    pub fn assume(&mut self, kernel: &mut Kernel<'_>, formula: Id, next: &mut u32) -> Result<u32, Fault> {
        if let Some(number) = self.assumed.get(&formula) {
            return Ok(*number);
        }
        kernel.assume(formula)?;
        self.assumed.insert(formula, *next);
        *next += 1;
        Ok(*next - 1)
    }
}

/// What the bytes of a proof can refer to, and where its own numbers begin.
pub(crate) struct Frame {
    pub goal: Id,
    /// The claims that are given, by number; the first only where the obligation is about a packet.
    pub given: Vec<Option<Id>>,
    /// The number of the first constant that the proof picks.
    pub own: u32,
    /// The assumptions, as bits, that the kernel at hand counts though they are given.
    pub given_bits: u64,
}

/// Why a derivation cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unwritable {
    TooLong,
    StackFull,
}

/// The most theorems that it is tried to keep on the stack.
const KEPT_MAX: usize = 24;

impl Derivation {
    /// The bytes that derive `root`, without DONE; fewer than `most`.
    pub fn bytes(&self, root: Step, terms: &Terms, frame: &Frame, most: usize) -> Result<Vec<u8>, Unwritable> {
        let plan = self.plan(root, frame);
        // First all are kept that can be; then each is derived again where that is shorter.
        let mut chosen: Vec<bool> = vec![true; plan.len()];
        let at = |chosen: &[bool]| {
            let mut keep: HashMap<Step, Vec<Step>> = HashMap::new();
            plan.iter().zip(chosen).filter(|(_, chosen)| **chosen).for_each(|((place, step), _)| {
                keep.entry(*place).or_default().push(*step);
            });
            keep
        };
        let mut best = self.write(root, terms, frame, &at(&chosen), most);
        for i in (0..plan.len()).rev() {
            chosen[i] = false;
            let limit = best.as_ref().map_or(most, Vec::len);
            match self.write(root, terms, frame, &at(&chosen), limit) {
                Ok(bytes) if bytes.len() < limit || best.is_err() => best = Ok(bytes),
                _ => chosen[i] = true,
            }
        }
        best
    }

    /// Which steps can be kept on the stack, each with the step at whose derivation: the last one that all its uses are
    /// part of. Rising, so that what is kept first can be copied by what is kept next.
    fn plan(&self, root: Step, frame: &Frame) -> Vec<(Step, Step)> {
        let mut uses = vec![0usize; root + 1];
        let mut above: Vec<Option<Step>> = vec![None; root + 1];
        let mut size = vec![0usize; root + 1];
        for step in 0..=root {
            let made = &self.steps[step];
            let below = made.premises.iter().fold(0usize, |sum, premise| sum.saturating_add(size[*premise]));
            size[step] = below.saturating_add(1 + 2 * made.args.len());
        }
        above[root] = Some(root);
        for step in (0..=root).rev() {
            if above[step].is_none() {
                continue;
            }
            for &premise in &self.steps[step].premises {
                uses[premise] += 1;
                let (mut a, mut b) = (step, above[premise].unwrap_or(step));
                while a != b {
                    // A step's own place is above it.
                    if a < b { a = above[a].unwrap_or(root) } else { b = above[b].unwrap_or(root) }
                }
                above[premise] = Some(a);
            }
        }
        let open = |step: Step| self.steps[step].theorem.assumptions() & !frame.given_bits;
        let mut plan: Vec<(Step, Step)> = (0..root)
            .filter(|step| uses[*step] > 1 && size[*step] > 4)
            .filter_map(|step| Some((above[step]?, step)))
            .filter(|(place, step)| open(*step) & !open(*place) == 0)
            .collect();
        plan.sort_by_key(|(_, step)| std::cmp::Reverse(size[*step].saturating_mul(uses[*step] - 1)));
        plan.truncate(KEPT_MAX);
        plan.sort_by_key(|(_, step)| *step);
        plan
    }

    fn write(
        &self,
        root: Step,
        terms: &Terms,
        frame: &Frame,
        keep: &HashMap<Step, Vec<Step>>,
        most: usize,
    ) -> Result<Vec<u8>, Unwritable> {
        let mut pen = Pen {
            derivation: self,
            terms,
            frame,
            keep,
            most,
            out: Vec::new(),
            stack: Vec::new(),
            claims: HashMap::new(),
            picked: HashMap::new(),
            references: HashMap::new(),
        };
        pen.refer(frame.goal, vec![refer::GOAL]);
        for (number, formula) in frame.given.iter().enumerate() {
            if let Some(formula) = formula {
                pen.refer_claim(number as u32, *formula);
            }
        }
        pen.step(root)?;
        Ok(pen.out)
    }
}

/// Writes one derivation.
struct Pen<'a> {
    derivation: &'a Derivation,
    terms: &'a Terms,
    frame: &'a Frame,
    keep: &'a HashMap<Step, Vec<Step>>,
    most: usize,
    out: Vec<u8>,
    stack: Vec<Step>,
    /// For each assumption of the derivation the number that it has in the bytes.
    claims: HashMap<u32, u32>,
    /// The same for picked constants.
    picked: HashMap<u32, u32>,
    /// The shortest bytes by which a formula or term can be referred to.
    references: HashMap<Id, Vec<u8>>,
}

/// The longest reference that is looked for.
const REFERENCE_MAX: usize = 10;

fn integer(value: u32) -> Vec<u8> {
    let mut w = Writer::new();
    value.write(&mut w);
    w.finish()
}

impl Pen<'_> {
    fn refer_claim(&mut self, number: u32, formula: Id) {
        let mut bytes = vec![refer::CLAIM];
        bytes.extend(integer(number));
        self.refer(formula, bytes);
    }

    /// Makes `id` and its closed parts known as what `bytes` refers to.
    fn refer(&mut self, id: Id, bytes: Vec<u8>) {
        let mut queue = VecDeque::from([(id, bytes)]);
        while let Some((id, bytes)) = queue.pop_front() {
            let shorter = self.references.get(&id).is_none_or(|known| bytes.len() < known.len());
            if !shorter || bytes.len() > REFERENCE_MAX || !self.terms.is_closed(id) {
                continue;
            }
            let node = self.terms.get(id);
            for child in self.terms.children(node) {
                let mut part = vec![refer::PART, child as u8];
                part.extend(&bytes);
                queue.push_back((node.args[child], part));
            }
            self.references.insert(id, bytes);
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Unwritable> {
        self.out.extend_from_slice(bytes);
        if self.out.len() < self.most { Ok(()) } else { Err(Unwritable::TooLong) }
    }

    fn put(&mut self, step: Step) -> Result<(), Unwritable> {
        if self.stack.len() == STACK_MAX {
            return Err(Unwritable::StackFull);
        }
        self.stack.push(step);
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), Unwritable> {
        let derivation = self.derivation;
        let made = &derivation.steps[step];
        let is_short = made.premises.is_empty() && matches!(made.byte, rule::CLAIM | rule::TRUTH | rule::FACT);
        if !is_short && let Some(at) = self.stack.iter().rposition(|there| *there == step) {
            let below = (self.stack.len() - 1 - at) as u32;
            self.push(&[rule::COPY])?;
            self.push(&integer(below))?;
            return self.put(step);
        }
        let kept: Vec<Step> = self.keep.get(&step).map_or(&[][..], Vec::as_slice).to_vec();
        let kept: Vec<Step> = kept.into_iter().filter(|step| !self.stack.contains(step)).collect();
        for early in &kept {
            self.step(*early)?;
        }
        let height = self.stack.len();
        for premise in &made.premises {
            self.step(*premise)?;
        }
        let mut bytes = vec![made.byte];
        if made.byte == rule::LINEAR {
            bytes.extend(integer(made.args.len() as u32));
        }
        for arg in &made.args {
            let written = self.arg(*arg)?;
            bytes.extend(written);
        }
        self.push(&bytes)?;
        self.stack.truncate(height);
        self.put(step)?;
        // What was kept lies below: joined to what follows, and left aside.
        for _ in &kept {
            self.push(&[rule::BOTH, rule::RIGHT])?;
            self.stack.truncate(self.stack.len() - 2);
            self.put(step)?;
        }
        Ok(())
    }

    fn arg(&mut self, arg: Arg) -> Result<Vec<u8>, Unwritable> {
        Ok(match arg {
            Arg::Node(id) => self.node(id)?,
            Arg::Set(number) | Arg::Number(number) => integer(number),
            Arg::Constant(number) => integer(self.constant(number)?),
            Arg::Claim(number) => integer(self.claim(number)?),
            Arg::Times(times) => {
                let mut w = Writer::new();
                times.write(&mut w);
                w.finish()
            }
        })
    }

    /// The number of a claim in the bytes; an assumption is made when it is needed first.
    fn claim(&mut self, number: u32) -> Result<u32, Unwritable> {
        let given = self.frame.given.len() as u32;
        if number < given {
            return Ok(number);
        }
        if let Some(known) = self.claims.get(&number) {
            return Ok(*known);
        }
        let assumed = self.derivation.assumed.iter().find(|(_, claim)| **claim == number);
        let formula = *assumed.expect("a claim is of what was assumed").0;
        let written = self.node(formula)?;
        self.push(&[rule::ASSUME])?;
        self.push(&written)?;
        let new = given + self.claims.len() as u32;
        self.claims.insert(number, new);
        self.refer_claim(new, formula);
        Ok(new)
    }

    /// The number of a constant in the bytes; it is picked when it is needed first.
    fn constant(&mut self, number: u32) -> Result<u32, Unwritable> {
        if number < self.frame.own {
            return Ok(number);
        }
        if let Some(known) = self.picked.get(&number) {
            return Ok(*known);
        }
        self.push(&[rule::PICK, self.terms.constants[number as usize].sort])?;
        let new = self.frame.own + self.picked.len() as u32;
        self.picked.insert(number, new);
        Ok(new)
    }

    fn node(&mut self, id: Id) -> Result<Vec<u8>, Unwritable> {
        let reference = self.references.get(&id).cloned();
        if let Some(reference) = &reference
            && reference.len() <= 2
        {
            return Ok(reference.clone());
        }
        let node = self.terms.get(id);
        let Node { op, args } = node;
        let mut w = Writer::new();
        w.byte(op as u8);
        match op {
            Op::Var | Op::Addr | Op::Set | Op::Symbol => args[0].write(&mut w),
            Op::Const => self.constant(args[0])?.write(&mut w),
            Op::Slot => {
                w.byte(args[0] as u8);
                w.byte(args[1] as u8);
            }
            Op::Int => self.terms.as_int(id).unwrap_or_default().write(&mut w),
            Op::Empty | Op::Forall | Op::Exists | Op::Unique => w.byte(args[0] as u8),
            _ => {}
        }
        for child in self.terms.children(node) {
            let written = self.node(args[child])?;
            w.bytes(&written);
        }
        if op == Op::Num {
            w.byte(args[1] as u8);
        }
        let direct = w.finish();
        Ok(match reference {
            Some(reference) if reference.len() < direct.len() => reference,
            _ => direct,
        })
    }
}
