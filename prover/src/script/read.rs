//! The bytes of a certificate read step by step, on the real rules, for those who tell what it says.

use super::rules::{self, Arg, RULES, Takes};
use vinet_trusted::check::note;
use vinet_trusted::logic::{Fault, Kernel, Theorem};
use vinet_trusted::proof::{ProofFault, STACK_MAX, WRITTEN_DEPTH_MAX, refer, rule};
use vinet_trusted::term::{Id, Node, Op, Sort};
use vinet_trusted::walk::{BranchNote, LoopNote};
use vinet_trusted::wire::{Reader, Wire, WireError};

/// One step of a proof.
pub(crate) enum Read {
    Done,
    /// A new assumption.
    Assume(Id),
    /// A new constant.
    Pick(Id),
    /// A theorem that was there, so far below the top.
    Copy(usize),
    /// A rule, how many theorems it takes, and what else.
    Rule {
        byte: u8,
        premises: usize,
        args: Vec<Arg>,
    },
}

/// A certificate's bytes.
pub(crate) struct Certificate<'p> {
    reader: Reader<'p>,
    binders: Vec<Sort>,
}

impl<'p> Certificate<'p> {
    pub fn new(bytes: &'p [u8]) -> Self {
        Certificate { reader: Reader::new(bytes, usize::MAX, usize::MAX), binders: Vec::new() }
    }
    pub fn position(&self) -> usize {
        self.reader.position()
    }
    pub fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    fn flags(&mut self, all: u8) -> Result<u8, ProofFault> {
        let flags = self.reader.byte()?;
        if flags & !all == 0 { Ok(flags) } else { Err(WireError::UnknownTag(flags).into()) }
    }
    /// What is said of the program.
    pub fn program(&mut self) -> Result<Option<u64>, ProofFault> {
        let is_said = self.flags(note::COST)? & note::COST != 0;
        Ok(if is_said { Some(u64::read(&mut self.reader)?) } else { None })
    }
    /// What is said of an if.
    pub fn branch(&mut self) -> Result<BranchNote, ProofFault> {
        match self.reader.byte()? {
            note::LIVE => Ok(BranchNote::Live),
            note::THEN_DEAD => Ok(BranchNote::ThenDead),
            note::ELSE_DEAD => Ok(BranchNote::ElseDead),
            tag => Err(WireError::UnknownTag(tag).into()),
        }
    }
    /// What is said of a loop.
    pub fn turn(&mut self, kernel: &mut Kernel<'_>) -> Result<LoopNote, ProofFault> {
        let flags = self.flags(note::INVARIANT | note::VARIANT | note::COST)?;
        let mut said = LoopNote::default();
        if flags & note::INVARIANT != 0 {
            said.invariant = Some(self.node(kernel, None)?);
        }
        if flags & note::VARIANT != 0 {
            said.variant = Some((self.node(kernel, None)?, u32::read(&mut self.reader)?));
        }
        if flags & note::COST != 0 {
            said.cost = Some(u64::read(&mut self.reader)?);
        }
        Ok(said)
    }

    /// The next step of a proof of `goal`.
    pub fn step(&mut self, kernel: &mut Kernel<'_>, goal: Id) -> Result<Read, ProofFault> {
        let byte = self.reader.byte()?;
        let goal = Some(goal);
        let mut args = Vec::new();
        let premises = match byte {
            rule::DONE => return Ok(Read::Done),
            rule::ASSUME => return Ok(Read::Assume(self.node(kernel, goal)?)),
            rule::PICK => return Ok(Read::Pick(kernel.pick(self.reader.byte()?)?)),
            rule::COPY => return Ok(Read::Copy(u32::read(&mut self.reader)? as usize)),
            rule::CITE => {
                let number = u32::read(&mut self.reader)?;
                args.push(Arg::Number(number));
                usize::from(kernel.is_about_packets(number as usize))
            }
            rule::LEMMA => {
                let number = u32::read(&mut self.reader)?;
                args.push(Arg::Number(number));
                let lemmas = kernel.lemmas();
                let (Some(premises), Some(open)) = (lemmas.premises(number as usize), lemmas.open(number as usize))
                else {
                    return Err(Fault::NoSuchLemma.into());
                };
                for _ in 0..open {
                    args.push(Arg::Node(self.node(kernel, goal)?));
                }
                premises
            }
            rule::OFFSET => {
                let address = self.node(kernel, goal)?;
                args.extend([Arg::Node(address), Arg::Set(u32::read(&mut self.reader)?)]);
                let Node { op: Op::Offset, args: [base, ..] } = kernel.terms.get(address) else {
                    return Err(Fault::WrongForm.into());
                };
                if kernel.terms.get(base).op == Op::Addr { 2 } else { 3 }
            }
            rule::LINEAR => {
                let count = self.reader.integer(STACK_MAX as u64)? as usize;
                for _ in 0..count {
                    args.push(Arg::Times(i64::read(&mut self.reader)?));
                }
                count
            }
            _ => {
                let rule = RULES.iter().find(|rule| rule.byte == byte).ok_or(WireError::UnknownTag(byte))?;
                for takes in rule.takes {
                    args.push(match takes {
                        Takes::Formula | Takes::Term | Takes::Node => Arg::Node(self.node(kernel, goal)?),
                        Takes::Set => Arg::Set(u32::read(&mut self.reader)?),
                        Takes::Claim => Arg::Claim(u32::read(&mut self.reader)?),
                        Takes::Constant => Arg::Constant(u32::read(&mut self.reader)?),
                    });
                }
                rule.premises
            }
        };
        Ok(Read::Rule { byte, premises, args })
    }

    /// The theorem that a rule makes.
    pub fn apply(kernel: &mut Kernel<'_>, byte: u8, premises: &[Theorem], args: &[Arg]) -> Result<Theorem, ProofFault> {
        Ok(rules::apply(kernel, byte, premises, args)?)
    }

    /// A term or formula; of a note where there is no goal.
    fn node(&mut self, kernel: &mut Kernel<'_>, goal: Option<Id>) -> Result<Id, ProofFault> {
        self.binders.clear();
        self.read(kernel, goal, 0)
    }

    fn read(&mut self, kernel: &mut Kernel<'_>, goal: Option<Id>, depth: usize) -> Result<Id, ProofFault> {
        if depth > WRITTEN_DEPTH_MAX {
            return Err(ProofFault::TooDeep);
        }
        let byte = self.reader.byte()?;
        match (byte, goal) {
            (refer::GOAL, Some(goal)) => return Ok(goal),
            (refer::CLAIM, Some(_)) => return Ok(kernel.claim(u32::read(&mut self.reader)? as usize)?.conclusion()),
            (refer::PART, _) => {
                let which = usize::from(self.reader.byte()?);
                let whole = self.read(kernel, goal, depth + 1)?;
                let node = kernel.terms.get(whole);
                let part = kernel.terms.children(node).contains(&which).then(|| node.args[which]);
                return part.filter(|part| kernel.terms.is_closed(*part)).ok_or(ProofFault::OutOfRange);
            }
            _ => {}
        }
        let op = *Op::ALL.get(usize::from(byte)).ok_or(WireError::UnknownTag(byte))?;
        let mut args = [0; 4];
        match op {
            Op::Var => {
                let index = u32::read(&mut self.reader)?;
                let outer = self.binders.len().checked_sub(1 + index as usize).ok_or(ProofFault::OutOfRange)?;
                args = [index, u32::from(self.binders[outer]), 0, 0];
            }
            Op::Const => return Ok(kernel.terms.constant(u32::read(&mut self.reader)?)?),
            Op::Slot => args = [u32::from(self.reader.byte()?), u32::from(self.reader.byte()?), 0, 0],
            Op::Int => return Ok(kernel.terms.int(i64::read(&mut self.reader)?)?),
            Op::Addr | Op::Set | Op::Symbol => args[0] = u32::read(&mut self.reader)?,
            Op::Empty => args[0] = u32::from(self.reader.byte()?),
            Op::Forall | Op::Exists | Op::Unique => {
                args[0] = u32::from(self.reader.byte()?);
                self.binders.push(args[0] as Sort);
            }
            _ => {}
        }
        for i in kernel.terms.children(Node { op, args }) {
            args[i] = self.read(kernel, goal, depth + 1)?;
        }
        match op {
            Op::Num => args[1] = u32::from(self.reader.byte()?),
            Op::Forall | Op::Exists | Op::Unique => {
                self.binders.pop();
            }
            _ => {}
        }
        Ok(kernel.terms.make(op, args)?)
    }
}
