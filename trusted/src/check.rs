//! The checker: from bytes, proof, owner and policy to a [`Checked`], or to the reason why not.
//!
//! Only [`check`] makes a `Checked`. Holding one proves: on every window of packets, every history and every answer
//! about content, each event of exactly this program is one that this policy allows to this owner; and its complexity,
//! cost, lifetime and state are within the policy's ceilings. Types, obligations, goals and costs are computed here
//! from the bytes; the proof holds rule applications and the propositions they need, nothing else.

use crate::addr::Principal;
use crate::cost::{self, CostOverflow};
use crate::logic::{Fault, Kernel, Prop, PropId, STACK_MAX, Shown, Term, Theorem};
use crate::obligations::{EventKind, Obligations, UnsetAt};
use crate::policy::{Policy, PrincipalKind};
use crate::program::{Field, Program, ProgramError, Slot, Unset};
use crate::wire::{Reader, WireError};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// The version of the rules: of the calculus, its encoding, and what the obligations are.
pub const RULES_VERSION: u32 = 1;
/// The deepest nesting of a proposition that a proof writes out.
pub const PROP_DEPTH_MAX: usize = 16;

/// A program that is proven to keep to a policy, for one owner.
#[derive(Debug)]
pub struct Checked {
    program: Program,
    program_id: [u8; 32],
    owner: Principal,
    policy: Arc<Policy>,
    policy_id: [u8; 32],
    complexity: u64,
    cost: u64,
    state_bytes: u64,
}

impl Checked {
    /// The program.
    #[must_use]
    pub const fn program(&self) -> &Program {
        &self.program
    }
    /// The BLAKE3 of its bytes.
    #[must_use]
    pub const fn program_id(&self) -> &[u8; 32] {
        &self.program_id
    }
    /// For whom it was checked.
    #[must_use]
    pub const fn owner(&self) -> &Principal {
        &self.owner
    }
    /// Under which policy.
    #[must_use]
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
    /// The BLAKE3 of the policy's bytes.
    #[must_use]
    pub const fn policy_id(&self) -> &[u8; 32] {
        &self.policy_id
    }
    /// By which rules.
    #[must_use]
    pub const fn rules_version(&self) -> u32 {
        RULES_VERSION
    }
    /// Complexity(P), in cycles per packet.
    #[must_use]
    pub const fn complexity(&self) -> u64 {
        self.complexity
    }
    /// Cost(P): complexity times lifetime, in cycles per packet times seconds.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        self.cost
    }
    /// The most bytes of state that one worker keeps for it.
    #[must_use]
    pub const fn state_bytes(&self) -> u64 {
        self.state_bytes
    }
    /// How long it asks to run, in seconds.
    #[must_use]
    pub const fn lifetime_s(&self) -> u32 {
        self.program.lifetime_s()
    }
}

/// Which obligation a proof failed at, in the terms of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The number of the obligation, from 0.
    pub obligation: usize,
    /// The number of the instruction.
    pub instr: usize,
    /// What the instruction does to packets.
    pub event: EventKind,
    /// The slot whose packets it does it to.
    pub slot: Slot,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "obligation {} (instruction {}): the policy allows every packet of slot {} to be {}",
            self.obligation, self.instr, self.slot, self.event
        )
    }
}

/// Why the proof of one obligation is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProofFault {
    /// The bytes are broken.
    Wire(WireError),
    /// A step does not follow.
    Step(Fault),
    /// A proposition is nested deeper than [`PROP_DEPTH_MAX`].
    PropTooDeep,
    /// A proposition speaks of something that is not in the program.
    PropOutOfRange,
    /// An obligation is cited that has not been shown yet.
    NotShownYet,
    /// What was shown is not what had to be.
    NotTheGoal,
}

/// Why a program is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reject {
    /// The bytes are no program.
    Program(ProgramError),
    /// The program is longer than the policy allows.
    ProgramTooLong {
        /// Its length, in bytes.
        len: usize,
        /// The policy's ceiling.
        ceiling: u32,
    },
    /// The proof is longer than the policy allows.
    ProofTooLong {
        /// Its length, in bytes.
        len: usize,
        /// The policy's ceiling.
        ceiling: u32,
    },
    /// The policy is not for this kind of principal.
    WrongPrincipal {
        /// Whom the policy is for.
        policy: PrincipalKind,
    },
    /// The program or the policy uses a name that this owner has not.
    Unset(UnsetAt),
    /// The lifetime is above the policy's.
    LifetimeAboveCeiling {
        /// What the program asks, in seconds.
        lifetime_s: u32,
        /// The policy's ceiling.
        ceiling: u32,
    },
    /// Complexity(P) is above Complexity^up.
    ComplexityAboveCeiling {
        /// In cycles per packet.
        complexity: u64,
        /// The policy's ceiling.
        ceiling: u64,
    },
    /// Cost(P) is above Cost^up.
    CostAboveCeiling {
        /// In cycles per packet times seconds.
        cost: u64,
        /// The policy's ceiling.
        ceiling: u64,
    },
    /// A cost is above what 64 bits hold.
    CostOverflow,
    /// An obligation is not shown.
    NotProven {
        /// Which.
        place: Place,
        /// The position in the proof, in bytes.
        at: usize,
        /// Why.
        fault: ProofFault,
    },
    /// There are bytes behind the proof of the last obligation.
    TrailingProof {
        /// The position of the first, in bytes.
        at: usize,
    },
}

impl From<CostOverflow> for Reject {
    fn from(_: CostOverflow) -> Self {
        Reject::CostOverflow
    }
}

impl Reject {
    /// A stable short name for machines.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Reject::Program(_) => "bad-program",
            Reject::ProgramTooLong { .. } => "program-too-long",
            Reject::ProofTooLong { .. } => "proof-too-long",
            Reject::WrongPrincipal { .. } => "wrong-principal",
            Reject::Unset(_) => "unset-name",
            Reject::LifetimeAboveCeiling { .. } => "lifetime-above-ceiling",
            Reject::ComplexityAboveCeiling { .. } => "complexity-above-ceiling",
            Reject::CostAboveCeiling { .. } => "cost-above-ceiling",
            Reject::CostOverflow => "cost-overflow",
            Reject::NotProven { .. } => "not-proven",
            Reject::TrailingProof { .. } => "trailing-proof",
        }
    }
    /// The number of the instruction that it is about, where it is about one.
    #[must_use]
    pub const fn instr(&self) -> Option<usize> {
        match self {
            Reject::NotProven { place, .. } => Some(place.instr),
            Reject::Unset(at) => at.instr,
            _ => None,
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reject::Program(e) => write!(f, "not a program: {e}"),
            Reject::ProgramTooLong { len, ceiling } => {
                write!(f, "the program has {len} bytes; the policy allows {ceiling}")
            }
            Reject::ProofTooLong { len, ceiling } => {
                write!(f, "the proof has {len} bytes; the policy allows {ceiling}")
            }
            Reject::WrongPrincipal { policy } => write!(f, "this policy is for {policy}"),
            Reject::Unset(UnsetAt { instr, name }) => {
                let name = match name {
                    Unset::ThisIp => "THIS_IP",
                    Unset::ThisSubnet => "THIS_SUBNET_IP",
                };
                match instr {
                    Some(instr) => write!(f, "instruction {instr} uses {name}, which this owner has not"),
                    None => write!(f, "the policy uses {name}, which this owner has not"),
                }
            }
            Reject::LifetimeAboveCeiling { lifetime_s, ceiling } => {
                write!(f, "a lifetime of {lifetime_s} s; the policy allows {ceiling} s")
            }
            Reject::ComplexityAboveCeiling { complexity, ceiling } => {
                write!(f, "a complexity of {complexity} cycles per packet; the policy allows {ceiling}")
            }
            Reject::CostAboveCeiling { cost, ceiling } => {
                write!(f, "a cost of {cost} (cycles per packet times seconds); the policy allows {ceiling}")
            }
            Reject::CostOverflow => write!(f, "the cost does not fit into 64 bits"),
            Reject::NotProven { place, at, fault } => {
                write!(f, "{place}: not shown, because ")?;
                match fault {
                    ProofFault::Wire(e) => write!(f, "at byte {at} of the proof {e}"),
                    ProofFault::Step(e) => write!(f, "the step at byte {at} of the proof does not follow ({e:?})"),
                    ProofFault::PropTooDeep => {
                        write!(f, "the proposition at byte {at} is nested deeper than {PROP_DEPTH_MAX}")
                    }
                    ProofFault::PropOutOfRange => {
                        write!(f, "the proposition at byte {at} speaks of what is not in the program")
                    }
                    ProofFault::NotShownYet => write!(f, "at byte {at} it cites what was not shown before"),
                    ProofFault::NotTheGoal => write!(f, "the proof that ends at byte {at} shows something else"),
                }
            }
            Reject::TrailingProof { at } => {
                write!(f, "the proof goes on at byte {at}, behind the last obligation")
            }
        }
    }
}

/// Checks that `proof` shows of `program` what `policy` asks, for `owner`.
///
/// # Errors
/// [`Reject`]: the first offence found. Nothing that the bytes hold makes it panic, and its time and memory are
/// bounded by their length and the limits of [`crate::program`] and [`crate::logic`].
pub fn check(program: &[u8], proof: &[u8], owner: Principal, policy: &Arc<Policy>) -> Result<Checked, Reject> {
    let limits = &policy.limits;
    if program.len() as u64 > u64::from(limits.program_bytes_max) {
        return Err(Reject::ProgramTooLong { len: program.len(), ceiling: limits.program_bytes_max });
    }
    if proof.len() as u64 > u64::from(limits.proof_bytes_max) {
        return Err(Reject::ProofTooLong { len: proof.len(), ceiling: limits.proof_bytes_max });
    }
    if policy.principals != PrincipalKind::of(&owner) {
        return Err(Reject::WrongPrincipal { policy: policy.principals });
    }
    let program_id = *blake3::hash(program).as_bytes();
    let program = Program::decode(program).map_err(Reject::Program)?;
    let lifetime_s = program.lifetime_s();
    if lifetime_s > limits.lifetime_max_s {
        return Err(Reject::LifetimeAboveCeiling { lifetime_s, ceiling: limits.lifetime_max_s });
    }
    let complexity = cost::complexity(&program, &policy.costs, limits)?;
    if complexity > limits.complexity_max {
        return Err(Reject::ComplexityAboveCeiling { complexity, ceiling: limits.complexity_max });
    }
    let cost = cost::total(complexity, lifetime_s)?;
    if cost > limits.cost_max {
        return Err(Reject::CostAboveCeiling { cost, ceiling: limits.cost_max });
    }
    let state_bytes = cost::state_bytes(&program, limits)?;
    let mut obligations = Obligations::of(&program, &owner, policy).map_err(Reject::Unset)?;
    check_proof(&mut obligations, proof)?;
    let policy_id = policy.id();
    Ok(Checked { program, program_id, owner, policy: Arc::clone(policy), policy_id, complexity, cost, state_bytes })
}

/// Checks the proof of every obligation, one after the other. Saying yes makes nothing that could have an effect.
///
/// # Errors
/// [`Reject::NotProven`] or [`Reject::TrailingProof`].
pub fn check_proof(obligations: &mut Obligations, proof: &[u8]) -> Result<(), Reject> {
    let (facts, props) = (&obligations.facts, &mut obligations.props);
    let mut steps = Steps {
        reader: Reader::new(proof),
        versions: facts.members.len() as u64,
        answers: u64::from(facts.answers),
        sets: facts.sets.len() as u64,
        kernel: Kernel::new(facts, props),
        stack: Vec::new(),
        shown: Vec::new(),
    };
    for (number, obligation) in obligations.list.iter().enumerate() {
        let given = core::iter::once(obligation.member).chain(obligation.path.iter().copied());
        steps.show(given, obligation.goal).map_err(|fault| Reject::NotProven {
            place: Place {
                obligation: number,
                instr: obligation.instr,
                event: obligation.event,
                slot: obligation.slot,
            },
            at: steps.reader.position(),
            fault,
        })?;
    }
    if steps.reader.is_done() { Ok(()) } else { Err(Reject::TrailingProof { at: steps.reader.position() }) }
}

/// The bytes of a proof, as its rules are written. `docs/PROOF.md` has the table.
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
    pub const CARRY: u8 = 0x14;
}

/// The bytes of a proposition in a proof.
pub mod prop_tag {
    #![allow(missing_docs)] // Each is the variant of `Prop` of the same name.
    pub const TRUE: u8 = 0x00;
    pub const FALSE: u8 = 0x01;
    pub const MEMBER: u8 = 0x02;
    pub const ANSWER: u8 = 0x03;
    pub const IN: u8 = 0x04;
    pub const SAME: u8 = 0x05;
    pub const NOT: u8 = 0x06;
    pub const AND: u8 = 0x07;
    pub const OR: u8 = 0x08;
    pub const IMPLIES: u8 = 0x09;
}

/// Runs the steps of a proof: a stack of theorems, each step taking its premises off and putting its conclusion on.
struct Steps<'p, 'f> {
    reader: Reader<'p>,
    versions: u64,
    answers: u64,
    sets: u64,
    kernel: Kernel<'f>,
    stack: Vec<Theorem>,
    shown: Vec<Shown>,
}

impl Steps<'_, '_> {
    fn show(&mut self, given: impl Iterator<Item = PropId>, goal: PropId) -> Result<(), ProofFault> {
        self.stack.clear();
        self.kernel.restart(given).map_err(ProofFault::Step)?;
        loop {
            let rule = self.byte()?;
            if rule == rule::DONE {
                let theorem = self.pop()?;
                let shown = self.kernel.finish(theorem, goal).filter(|_| self.stack.is_empty());
                self.shown.push(shown.ok_or(ProofFault::NotTheGoal)?);
                return Ok(());
            }
            if rule == rule::ASSUME {
                let prop = self.prop(0)?;
                self.kernel.assume(prop).map_err(ProofFault::Step)?;
                continue;
            }
            let theorem = self.step(rule)?;
            if self.stack.len() == STACK_MAX {
                return Err(ProofFault::Step(Fault::StackFull));
            }
            self.stack.push(theorem);
        }
    }

    fn step(&mut self, rule: u8) -> Result<Theorem, ProofFault> {
        let theorem = match rule {
            rule::CLAIM => {
                let number = self.integer()?;
                self.kernel.claim(number)
            }
            rule::UNFOLD => {
                let theorem = self.pop()?;
                self.kernel.unfold(theorem)
            }
            rule::LEFT => {
                let theorem = self.pop()?;
                self.kernel.left(theorem)
            }
            rule::RIGHT => {
                let theorem = self.pop()?;
                self.kernel.right(theorem)
            }
            rule::WIDEN => {
                let set = self.integer()?;
                let theorem = self.pop()?;
                self.kernel.widen(theorem, u32::try_from(set).unwrap_or(u32::MAX))
            }
            rule::CITE => {
                let number = self.integer()?;
                let shown = self.shown.get(number).ok_or(ProofFault::NotShownYet)?;
                self.kernel.cite(shown)
            }
            rule::MODUS_PONENS => {
                let premise = self.pop()?;
                let implication = self.pop()?;
                self.kernel.modus_ponens(implication, premise)
            }
            rule::BOTH => {
                let b = self.pop()?;
                let a = self.pop()?;
                Ok(self.kernel.both(a, b))
            }
            rule::EITHER_LEFT => {
                let other = self.prop(0)?;
                let theorem = self.pop()?;
                Ok(self.kernel.either_left(theorem, other))
            }
            rule::EITHER_RIGHT => {
                let other = self.prop(0)?;
                let theorem = self.pop()?;
                Ok(self.kernel.either_right(other, theorem))
            }
            rule::CASES => {
                let second = self.pop()?;
                let first = self.pop()?;
                let either = self.pop()?;
                self.kernel.cases(either, first, second)
            }
            rule::DISCHARGE => {
                let number = self.integer()?;
                let theorem = self.pop()?;
                self.kernel.discharge(number, theorem)
            }
            rule::ABSURD => {
                let denial = self.pop()?;
                let theorem = self.pop()?;
                self.kernel.absurd(theorem, denial)
            }
            rule::NEGATE => {
                let theorem = self.pop()?;
                self.kernel.negate(theorem)
            }
            rule::DOUBLE_NEGATION => {
                let theorem = self.pop()?;
                self.kernel.double_negation(theorem)
            }
            rule::TRUTH => Ok(self.kernel.truth()),
            rule::APART => {
                let b = self.pop()?;
                let a = self.pop()?;
                self.kernel.apart(a, b)
            }
            rule::SYMMETRY => {
                let theorem = self.pop()?;
                self.kernel.symmetry(theorem)
            }
            rule::CARRY => {
                let holds = self.pop()?;
                let same = self.pop()?;
                self.kernel.carry(same, holds)
            }
            tag => return Err(ProofFault::Wire(WireError::UnknownTag(tag))),
        };
        theorem.map_err(ProofFault::Step)
    }

    fn pop(&mut self) -> Result<Theorem, ProofFault> {
        self.stack.pop().ok_or(ProofFault::Step(Fault::StackEmpty))
    }

    fn byte(&mut self) -> Result<u8, ProofFault> {
        self.reader.byte().map_err(ProofFault::Wire)
    }

    fn integer(&mut self) -> Result<usize, ProofFault> {
        self.reader.integer(u64::from(u32::MAX)).map(|v| v as usize).map_err(ProofFault::Wire)
    }

    fn below(&mut self, bound: u64) -> Result<u32, ProofFault> {
        let value = self.integer()? as u64;
        if value < bound { Ok(value as u32) } else { Err(ProofFault::PropOutOfRange) }
    }

    fn term(&mut self) -> Result<Term, ProofFault> {
        Ok(match self.byte()? {
            0 => Term::Field(Field::Src),
            1 => Term::Field(Field::Dst),
            2 => Term::Key(self.below(self.versions)?),
            tag => return Err(ProofFault::Wire(WireError::UnknownTag(tag))),
        })
    }

    fn prop(&mut self, depth: usize) -> Result<PropId, ProofFault> {
        if depth > PROP_DEPTH_MAX {
            return Err(ProofFault::PropTooDeep);
        }
        let prop = match self.byte()? {
            prop_tag::TRUE => Prop::True,
            prop_tag::FALSE => Prop::False,
            prop_tag::MEMBER => Prop::Member(self.below(self.versions)?),
            prop_tag::ANSWER => Prop::Answer(self.below(self.answers)?),
            prop_tag::IN => Prop::In(self.term()?, self.below(self.sets)?),
            prop_tag::SAME => Prop::Same(self.term()?, self.term()?),
            prop_tag::NOT => Prop::Not(self.prop(depth + 1)?),
            prop_tag::AND => Prop::And(self.prop(depth + 1)?, self.prop(depth + 1)?),
            prop_tag::OR => Prop::Or(self.prop(depth + 1)?, self.prop(depth + 1)?),
            prop_tag::IMPLIES => Prop::Implies(self.prop(depth + 1)?, self.prop(depth + 1)?),
            tag => return Err(ProofFault::Wire(WireError::UnknownTag(tag))),
        };
        Ok(self.kernel.intern(prop))
    }
}
