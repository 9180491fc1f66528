//! The bytes of a proof: rules over a stack of theorems, each taking its premises off and putting its conclusion on.
//!
//! `docs/PROOF.md` has the table. Reading is total; how long it may take is bounded by the work that the kernel allows.

use crate::logic::{Fault, Kernel, Theorem};
use crate::term::{Id, Node, Op, Sort, TermFault, Terms, sort};
use crate::wire::{Reader, Wire, WireError};
use alloc::vec::Vec;
use core::fmt;

/// The most theorems on the stack at once.
pub const STACK_MAX: usize = 128;
/// The deepest nesting of a term or formula that a proof writes out.
pub const WRITTEN_DEPTH_MAX: usize = 64;

/// The bytes of the rules.
pub mod rule {
    #![allow(missing_docs)] // Each is the method of `Kernel` of the same name, or says what it is.
    /// The end of an obligation's proof.
    pub const DONE: u8 = 0x00;
    pub const CLAIM: u8 = 0x01;
    pub const UNFOLD: u8 = 0x02;
    pub const LEFT: u8 = 0x03;
    pub const RIGHT: u8 = 0x04;
    pub const WIDEN: u8 = 0x05;
    pub const CITE: u8 = 0x06;
    pub const MODUS_PONENS: u8 = 0x07;
    pub const BOTH: u8 = 0x08;
    pub const EITHER_LEFT: u8 = 0x09;
    pub const EITHER_RIGHT: u8 = 0x0a;
    pub const CASES: u8 = 0x0b;
    pub const ASSUME: u8 = 0x0c;
    pub const DISCHARGE: u8 = 0x0d;
    pub const ABSURD: u8 = 0x0e;
    pub const NEGATE: u8 = 0x0f;
    pub const DOUBLE_NEGATION: u8 = 0x10;
    pub const TRUTH: u8 = 0x11;
    pub const APART: u8 = 0x12;
    pub const SYMMETRY: u8 = 0x13;
    pub const CONGRUENCE: u8 = 0x14;
    pub const EQUIVALENCE: u8 = 0x15;
    pub const THERE: u8 = 0x16;
    pub const BACK: u8 = 0x17;
    pub const PICK: u8 = 0x18;
    pub const SPECIALISE: u8 = 0x19;
    pub const GENERALISE: u8 = 0x1a;
    pub const EXISTS: u8 = 0x1b;
    pub const WITNESS: u8 = 0x1c;
    pub const NATURALS: u8 = 0x1d;
    pub const LISTS: u8 = 0x1e;
    pub const REFLEXIVITY: u8 = 0x1f;
    pub const TRANSITIVITY: u8 = 0x20;
    pub const FOLD: u8 = 0x21;
    pub const FACT: u8 = 0x22;
    pub const DEFINE: u8 = 0x23;
    pub const LEMMA: u8 = 0x24;
    pub const EVALUATE: u8 = 0x25;
    pub const SPLIT: u8 = 0x26;
    pub const BOUNDS: u8 = 0x27;
    pub const ENCLOSE: u8 = 0x28;
    pub const OFFSET: u8 = 0x29;
    pub const LINEAR: u8 = 0x2a;
    /// Puts a theorem on the stack once more: the one so far below the top.
    pub const COPY: u8 = 0x2b;
}

/// The bytes that stand for a term or formula which is there already; every other is an operation ([`Op::ALL`]).
pub mod refer {
    /// The goal of the obligation.
    pub const GOAL: u8 = 0x40;
    /// What the claim with this number would say.
    pub const CLAIM: u8 = 0x41;
    /// A closed part of a node: which argument, then the node.
    pub const PART: u8 = 0x42;
}

/// Why a proof is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProofFault {
    /// The bytes are broken.
    Wire(WireError),
    /// A step does not follow.
    Step(Fault),
    /// A term or formula is nested deeper than [`WRITTEN_DEPTH_MAX`].
    TooDeep,
    /// A term or formula speaks of something that is not there.
    OutOfRange,
    /// A rule needs more theorems than there are.
    StackEmpty,
    /// More than [`STACK_MAX`] theorems.
    StackFull,
    /// What was shown is not what had to be.
    NotTheGoal,
    /// There are bytes behind the end.
    Trailing,
}

impl From<WireError> for ProofFault {
    fn from(error: WireError) -> Self {
        ProofFault::Wire(error)
    }
}

impl From<Fault> for ProofFault {
    fn from(fault: Fault) -> Self {
        ProofFault::Step(fault)
    }
}

impl From<TermFault> for ProofFault {
    fn from(fault: TermFault) -> Self {
        ProofFault::Step(Fault::Term(fault))
    }
}

impl fmt::Display for ProofFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProofFault::Wire(e) => e.fmt(f),
            ProofFault::Step(e) => write!(f, "the step does not follow ({e:?})"),
            ProofFault::TooDeep => write!(f, "a formula is nested deeper than {WRITTEN_DEPTH_MAX}"),
            ProofFault::OutOfRange => write!(f, "a formula speaks of what is not there"),
            ProofFault::StackEmpty => write!(f, "a rule needs more theorems than there are"),
            ProofFault::StackFull => write!(f, "there are more than {STACK_MAX} theorems"),
            ProofFault::NotTheGoal => write!(f, "something else is shown"),
            ProofFault::Trailing => write!(f, "it goes on behind the end"),
        }
    }
}

/// Reads proofs, one behind the other.
pub struct Steps<'p> {
    pub(crate) reader: Reader<'p>,
    stack: Vec<Theorem>,
    /// The sorts of the variables that are bound around what is read.
    binders: Vec<Sort>,
}

/// What terms and formulas are read in.
enum Around<'k, 'l> {
    /// A proof, with the goal of its obligation.
    Proof(&'k mut Kernel<'l>, Option<Id>),
    /// A lemma, with the number of its first symbol.
    Lemma(&'k mut Terms, usize),
}

impl Around<'_, '_> {
    fn terms(&mut self) -> &mut Terms {
        match self {
            Around::Proof(kernel, _) => &mut kernel.terms,
            Around::Lemma(terms, _) => terms,
        }
    }
}

impl<'p> Steps<'p> {
    /// Starts where `reader` is.
    #[must_use]
    pub const fn new(reader: Reader<'p>) -> Self {
        Steps { reader, stack: Vec::new(), binders: Vec::new() }
    }
    /// How many bytes have been read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.reader.position()
    }
    /// That nothing follows.
    ///
    /// # Errors
    /// [`ProofFault::Trailing`].
    pub fn end(&self) -> Result<(), ProofFault> {
        if self.reader.is_done() { Ok(()) } else { Err(ProofFault::Trailing) }
    }

    /// Reads the proof of one obligation: of `goal`, for a packet that `member` says to be in a set.
    ///
    /// # Errors
    /// [`ProofFault`].
    pub fn show(&mut self, kernel: &mut Kernel<'_>, member: Option<Id>, goal: Id) -> Result<(), ProofFault> {
        self.stack.clear();
        kernel.begin(member);
        loop {
            match self.reader.byte()? {
                rule::DONE => {
                    let theorem = self.pop()?;
                    let shown = self.stack.is_empty() && kernel.finish(theorem, goal);
                    return if shown { Ok(()) } else { Err(ProofFault::NotTheGoal) };
                }
                rule::ASSUME => {
                    let formula = self.node(kernel, goal)?;
                    kernel.assume(formula)?;
                }
                rule::PICK => {
                    kernel.pick(self.reader.byte()?)?;
                }
                rule => {
                    let theorem = self.step(kernel, goal, rule)?;
                    if self.stack.len() == STACK_MAX {
                        return Err(ProofFault::StackFull);
                    }
                    self.stack.push(theorem);
                }
            }
        }
    }

    fn step(&mut self, kernel: &mut Kernel<'_>, goal: Id, rule: u8) -> Result<Theorem, ProofFault> {
        let theorem = match rule {
            rule::CLAIM => kernel.claim(self.number()?),
            rule::UNFOLD => kernel.unfold(self.pop()?),
            rule::LEFT => kernel.left(self.pop()?),
            rule::RIGHT => kernel.right(self.pop()?),
            rule::WIDEN => {
                let set = self.set(kernel)?;
                kernel.widen(self.pop()?, set)
            }
            rule::CITE => {
                let number = self.number()?;
                let premise = if kernel.is_about_packets(number) { Some(self.pop()?) } else { None };
                kernel.cite(number, premise)
            }
            rule::MODUS_PONENS => {
                let [implication, premise] = self.pops()?;
                kernel.modus_ponens(implication, premise)
            }
            rule::BOTH => {
                let [a, b] = self.pops()?;
                kernel.both(a, b)
            }
            rule::EITHER_LEFT => {
                let other = self.node(kernel, goal)?;
                kernel.either_left(self.pop()?, other)
            }
            rule::EITHER_RIGHT => {
                let other = self.node(kernel, goal)?;
                kernel.either_right(other, self.pop()?)
            }
            rule::CASES => {
                let [either, first, second] = self.pops()?;
                kernel.cases(either, first, second)
            }
            rule::DISCHARGE => {
                let number = self.number()?;
                kernel.discharge(number, self.pop()?)
            }
            rule::ABSURD => {
                let [theorem, denial] = self.pops()?;
                kernel.absurd(theorem, denial)
            }
            rule::NEGATE => kernel.negate(self.pop()?),
            rule::DOUBLE_NEGATION => kernel.double_negation(self.pop()?),
            rule::TRUTH => kernel.truth(),
            rule::APART => {
                let [a, b] = self.pops()?;
                kernel.apart(a, b)
            }
            rule::SYMMETRY => kernel.symmetry(self.pop()?),
            rule::CONGRUENCE => {
                let [same, theorem] = self.pops()?;
                kernel.congruence(same, theorem)
            }
            rule::EQUIVALENCE => {
                let [there, back] = self.pops()?;
                kernel.equivalence(there, back)
            }
            rule::THERE => kernel.there(self.pop()?),
            rule::BACK => kernel.back(self.pop()?),
            rule::SPECIALISE => {
                let term = self.node(kernel, goal)?;
                kernel.specialise(self.pop()?, term)
            }
            rule::GENERALISE => {
                let constant = u32::read(&mut self.reader)?;
                kernel.generalise(self.pop()?, constant)
            }
            rule::EXISTS => {
                let (formula, term) = (self.node(kernel, goal)?, self.node(kernel, goal)?);
                kernel.exists(self.pop()?, formula, term)
            }
            rule::WITNESS => {
                let [exists, all] = self.pops()?;
                kernel.witness(exists, all)
            }
            rule::NATURALS | rule::LISTS => {
                let formula = self.node(kernel, goal)?;
                let [start, step] = self.pops()?;
                if rule == rule::NATURALS {
                    kernel.naturals(start, step, formula)
                } else {
                    kernel.lists(start, step, formula)
                }
            }
            rule::REFLEXIVITY => {
                let term = self.node(kernel, goal)?;
                kernel.reflexivity(term)
            }
            rule::TRANSITIVITY => {
                let [first, second] = self.pops()?;
                kernel.transitivity(first, second)
            }
            rule::FOLD => {
                let (packet, set) = (self.node(kernel, goal)?, self.node(kernel, goal)?);
                kernel.fold(self.pop()?, packet, set)
            }
            rule::FACT => kernel.fact(u32::read(&mut self.reader)?),
            rule::DEFINE => {
                let defined = self.node(kernel, goal)?;
                kernel.define(defined)
            }
            rule::LEMMA => {
                let number = self.number()?;
                let lemmas = kernel.lemmas();
                let (Some(premises), Some(open)) = (lemmas.premises(number), lemmas.open(number)) else {
                    return Err(Fault::NoSuchLemma.into());
                };
                let more = (0..open).map(|_| self.node(kernel, goal)).collect::<Result<Vec<_>, _>>()?;
                let premises = self.stack.len().checked_sub(premises).map(|at| self.stack.split_off(at));
                kernel.lemma(number, &premises.ok_or(ProofFault::StackEmpty)?, &more)
            }
            rule::EVALUATE => {
                let formula = self.node(kernel, goal)?;
                kernel.evaluate(formula)
            }
            rule::SPLIT => {
                let (first, second) = (self.set(kernel)?, self.set(kernel)?);
                kernel.split(self.pop()?, first, second)
            }
            rule::BOUNDS => kernel.bounds(self.pop()?),
            rule::ENCLOSE => {
                let set = self.set(kernel)?;
                let [low, high] = self.pops()?;
                kernel.enclose(low, high, set)
            }
            rule::OFFSET => {
                let (address, set) = (self.node(kernel, goal)?, self.set(kernel)?);
                let [low, high] = self.pops()?;
                let Node { op: Op::Offset, args } = kernel.terms.get(address) else {
                    return Err(Fault::WrongForm.into());
                };
                let written = kernel.terms.get(args[0]).op == Op::Addr;
                let base = if written { None } else { Some(self.pop()?) };
                kernel.offset(low, high, base, address, set)
            }
            rule::LINEAR => {
                let count = self.reader.integer(STACK_MAX as u64)? as usize;
                let at = self.stack.len().checked_sub(count).ok_or(ProofFault::StackEmpty)?;
                let theorems = self.stack.split_off(at);
                let taken = theorems.into_iter().map(|theorem| Ok((theorem, i64::read(&mut self.reader)?)));
                let taken = taken.collect::<Result<Vec<_>, WireError>>()?;
                kernel.linear(&taken)
            }
            rule::COPY => {
                let below = self.number()?;
                let at = self.stack.len().checked_sub(below.saturating_add(1)).ok_or(ProofFault::StackEmpty)?;
                Ok(self.stack[at])
            }
            tag => return Err(WireError::UnknownTag(tag).into()),
        };
        theorem.map_err(ProofFault::Step)
    }

    fn pop(&mut self) -> Result<Theorem, ProofFault> {
        self.stack.pop().ok_or(ProofFault::StackEmpty)
    }

    /// The last theorems, in the order in which they were put.
    fn pops<const N: usize>(&mut self) -> Result<[Theorem; N], ProofFault> {
        let at = self.stack.len().checked_sub(N).ok_or(ProofFault::StackEmpty)?;
        let mut last = [self.stack[at]; N];
        last.copy_from_slice(&self.stack[at..]);
        self.stack.truncate(at);
        Ok(last)
    }

    fn number(&mut self) -> Result<usize, ProofFault> {
        Ok(u32::read(&mut self.reader)? as usize)
    }

    fn set(&mut self, kernel: &mut Kernel<'_>) -> Result<Id, ProofFault> {
        Ok(kernel.terms.node(Op::Set, u32::read(&mut self.reader)?, 0)?)
    }

    /// A term or formula of a proof.
    fn node(&mut self, kernel: &mut Kernel<'_>, goal: Id) -> Result<Id, ProofFault> {
        self.binders.clear();
        self.read(&mut Around::Proof(kernel, Some(goal)), 0)
    }

    /// A term or formula that speaks of slots, of a certificate outside its proofs.
    pub(crate) fn open(&mut self, kernel: &mut Kernel<'_>) -> Result<Id, ProofFault> {
        self.binders.clear();
        self.read(&mut Around::Proof(kernel, None), 0)
    }

    /// A formula of a lemma whose first symbol has this number among those of `terms`.
    pub(crate) fn statement(&mut self, terms: &mut Terms, first: usize) -> Result<Id, ProofFault> {
        let formula = self.read(&mut Around::Lemma(terms, first), 0)?;
        if terms.sort(formula) == sort::BOOL { Ok(formula) } else { Err(ProofFault::OutOfRange) }
    }

    fn read(&mut self, around: &mut Around<'_, '_>, depth: usize) -> Result<Id, ProofFault> {
        if depth > WRITTEN_DEPTH_MAX {
            return Err(ProofFault::TooDeep);
        }
        let byte = self.reader.byte()?;
        let Some(&op) = Op::ALL.get(usize::from(byte)) else { return self.referred(around, byte, depth) };
        let in_lemma = matches!(around, Around::Lemma(..));
        let mut args = [0; 4];
        match op {
            // A lemma speaks of nothing that a program or policy has.
            Op::Const | Op::Slot | Op::Addr | Op::Set if in_lemma => return Err(ProofFault::OutOfRange),
            Op::Var => {
                let index = u32::read(&mut self.reader)?;
                let outer = self.binders.len().checked_sub(1 + index as usize).ok_or(ProofFault::OutOfRange)?;
                args = [index, u32::from(self.binders[outer]), 0, 0];
            }
            Op::Const => return Ok(around.terms().constant(u32::read(&mut self.reader)?)?),
            Op::Slot => args = [u32::from(self.reader.byte()?), u32::from(self.reader.byte()?), 0, 0],
            Op::Int => return Ok(around.terms().int(i64::read(&mut self.reader)?)?),
            Op::Addr | Op::Set => args[0] = u32::read(&mut self.reader)?,
            Op::Empty => args[0] = u32::from(self.reader.byte()?),
            Op::Symbol => {
                let number = u32::read(&mut self.reader)?;
                let first = if let Around::Lemma(_, first) = around { *first } else { 0 };
                args[0] = number.checked_add(first as u32).ok_or(ProofFault::OutOfRange)?;
            }
            Op::Forall | Op::Exists | Op::Unique => {
                args[0] = u32::from(self.reader.byte()?);
                self.binders.push(args[0] as Sort);
            }
            _ => {}
        }
        for i in around.terms().children(Node { op, args }) {
            args[i] = self.read(around, depth + 1)?;
        }
        match op {
            Op::Num => args[1] = u32::from(self.reader.byte()?),
            Op::Forall | Op::Exists | Op::Unique => {
                self.binders.pop();
            }
            _ => {}
        }
        Ok(around.terms().make(op, args)?)
    }

    fn referred(&mut self, around: &mut Around<'_, '_>, byte: u8, depth: usize) -> Result<Id, ProofFault> {
        match (byte, &mut *around) {
            (refer::GOAL, Around::Proof(_, Some(goal))) => Ok(*goal),
            (refer::CLAIM, Around::Proof(kernel, Some(_))) => Ok(kernel.claim(self.number()?)?.conclusion()),
            (refer::PART, _) => {
                let which = usize::from(self.reader.byte()?);
                let whole = self.read(around, depth + 1)?;
                let terms = around.terms();
                let node = terms.get(whole);
                let part = terms.children(node).contains(&which).then(|| node.args[which]);
                part.filter(|part| terms.is_closed(*part)).ok_or(ProofFault::OutOfRange)
            }
            (tag, _) => Err(WireError::UnknownTag(tag).into()),
        }
    }
}
