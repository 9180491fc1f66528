//! The checker: from bytes, proof, owner and policy to a [`Checked`], or to the reason why not.
//!
//! Only [`check`] makes a `Checked`. Holding one proves: on every window of packets, every history and every answer
//! about content, each event of exactly this program is one that this policy allows to this owner; and its complexity,
//! cost, lifetime and state are within the policy's ceilings. Types, obligations, goals and costs are computed here
//! from the bytes; the proof holds rule applications, what is said of loops and branches, and the formulas they need.

use crate::addr::{Principal, Unset};
use crate::cost::{self, CostOverflow};
use crate::lemma::LemmaStore;
use crate::logic::Kernel;
use crate::policy::{Policy, PrincipalKind};
use crate::program::{Program, ProgramError};
use crate::proof::{ProofFault, Steps};
use crate::term::{TermFault, Terms};
use crate::walk::{self, BranchNote, Duty, Guide, LoopNote, Obligation, Site, WalkFault};
use crate::wire::{Reader, Wire, WireError};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// The version of the rules: of the calculus, its encoding, and what has to be shown.
pub const RULES_VERSION: u32 = 2;

/// The steps that any check may take, and those more that it may take for each byte of program and proof. A step is a
/// node of a formula that is looked at, or a prefix of a set.
pub const WORK_BASE: usize = 8192;
/// See [`WORK_BASE`].
pub const WORK_PER_BYTE: usize = 8;

/// The steps that a check of so many bytes may take.
#[must_use]
pub const fn work_for(bytes: usize) -> usize {
    WORK_BASE + WORK_PER_BYTE * bytes
}

/// The bytes of what a certificate says besides proofs: of the program first, of each if, and of each loop.
pub mod note {
    #![allow(missing_docs)]
    /// A program's or a loop's: nothing is said.
    pub const NONE: u8 = 0;
    /// A loop's: an invariant follows.
    pub const INVARIANT: u8 = 1;
    /// A loop's: a variant follows, and the most that it is at first.
    pub const VARIANT: u8 = 2;
    /// A program's or a loop's: a cost follows.
    pub const COST: u8 = 4;
    pub const LIVE: u8 = 0;
    pub const THEN_DEAD: u8 = 1;
    pub const ELSE_DEAD: u8 = 2;
}

/// A program that is proven to keep to a policy, for one owner.
#[derive(Debug)]
pub struct Checked {
    program: Program,
    owner: Principal,
    policy: Arc<Policy>,
    lemma_root: [u8; 32],
    window: u16,
    turns: Vec<(usize, u32)>,
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
    pub fn program_id(&self) -> [u8; 32] {
        self.program.id()
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
    pub fn policy_id(&self) -> [u8; 32] {
        self.policy.id()
    }
    /// The root of the lemmas that its proof could cite.
    #[must_use]
    pub const fn lemma_root(&self) -> &[u8; 32] {
        &self.lemma_root
    }
    /// By which rules.
    #[must_use]
    pub const fn rules_version(&self) -> u32 {
        RULES_VERSION
    }
    /// How many packets it looks at together, at most.
    #[must_use]
    pub const fn window(&self) -> u16 {
        self.window
    }
    /// The most turns of the while with this instruction number: a turn more ends the run. None where the number is not
    /// that of a while.
    #[must_use]
    pub fn turns(&self, instr: usize) -> Option<u32> {
        self.turns.iter().find(|(number, _)| *number == instr).map(|(_, turns)| *turns)
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

/// What a proof failed at, in the terms of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The number of the instruction.
    pub instr: usize,
    /// What had to be shown; none where what the certificate says of the instruction itself is broken.
    pub duty: Option<Duty>,
    /// How many obligations were shown before.
    pub shown: usize,
    /// The position in the proof, in bytes.
    pub at: usize,
    /// Why.
    pub fault: ProofFault,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { instr, duty, shown, at, fault } = self;
        match duty {
            Some(duty) => write!(f, "obligation {shown} (instruction {instr}): {duty}: not shown, because")?,
            None => write!(f, "what the proof says of instruction {instr} is broken:")?,
        }
        write!(f, " at byte {at} of the proof {fault}")
    }
}

/// Why a program is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reject {
    /// The bytes are no program.
    Program(ProgramError),
    /// The policy is not for this kind of principal.
    WrongPrincipal {
        /// Whom the policy is for.
        policy: PrincipalKind,
    },
    /// The program or the policy uses a name that this owner has not; the instruction, where it is the program.
    Unset(Option<usize>, Unset),
    /// Something is above the policy's ceiling.
    AboveCeiling {
        /// What.
        what: Ceiling,
        /// How much of it.
        value: u64,
        /// How much is allowed.
        ceiling: u64,
    },
    /// A cost is above what 64 bits hold.
    CostOverflow,
    /// The program's facts are too many to be written down.
    TooLarge(TermFault),
    /// The proof says a cost of a program whose windows have more than one packet.
    CostOfWindow,
    /// An obligation is not shown.
    NotProven(Place),
}

/// What a policy has ceilings for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ceiling {
    /// The program's length.
    ProgramBytes,
    /// The proof's length.
    ProofBytes,
    /// The lifetime.
    Lifetime,
    /// The packets of a window.
    Window,
    /// Complexity(P).
    Complexity,
    /// Cost(P).
    Cost,
}

impl Ceiling {
    /// A stable name for machines, its name for people, and its unit.
    const fn names(self) -> [&'static str; 3] {
        match self {
            Ceiling::ProgramBytes => ["program-too-long", "the program's length", "bytes"],
            Ceiling::ProofBytes => ["proof-too-long", "the proof's length", "bytes"],
            Ceiling::Lifetime => ["lifetime-above-ceiling", "the lifetime", "s"],
            Ceiling::Window => ["window-above-ceiling", "the window", "packets"],
            Ceiling::Complexity => ["complexity-above-ceiling", "the complexity", "cycles per packet"],
            Ceiling::Cost => ["cost-above-ceiling", "the cost", "cycles per packet times seconds"],
        }
    }
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
            Reject::WrongPrincipal { .. } => "wrong-principal",
            Reject::Unset(..) => "unset-name",
            Reject::AboveCeiling { what, .. } => what.names()[0],
            Reject::CostOverflow => "cost-overflow",
            Reject::TooLarge(_) => "too-large",
            Reject::CostOfWindow => "cost-of-window",
            Reject::NotProven(Place { fault: ProofFault::Trailing, .. }) => "trailing-proof",
            Reject::NotProven(_) => "not-proven",
        }
    }
    /// The number of the instruction that it is about, where it is about one.
    #[must_use]
    pub const fn instr(&self) -> Option<usize> {
        match self {
            Reject::NotProven(place) => Some(place.instr),
            Reject::Unset(instr, _) => *instr,
            _ => None,
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reject::Program(e) => write!(f, "not a program: {e}"),
            Reject::WrongPrincipal { policy } => write!(f, "this policy is for {policy}"),
            Reject::Unset(Some(instr), name) => write!(f, "instruction {instr} uses {name}, which this owner has not"),
            Reject::Unset(None, name) => write!(f, "the policy uses {name}, which this owner has not"),
            Reject::AboveCeiling { what, value, ceiling } => {
                let [_, name, unit] = what.names();
                write!(f, "{name} is {value} {unit}; the policy allows {ceiling}")
            }
            Reject::CostOverflow => write!(f, "the cost does not fit into 64 bits"),
            Reject::TooLarge(fault) => write!(f, "the program's facts cannot be written down ({fault:?})"),
            Reject::CostOfWindow => write!(f, "the proof says a cost of a program that looks at several packets"),
            Reject::NotProven(place) => place.fmt(f),
        }
    }
}

/// Checks that `proof` shows of `program` what `policy` asks, for `owner`; it may cite the lemmas of `lemmas`.
///
/// # Errors
/// [`Reject`]: the first offence found. Nothing that the bytes hold makes it panic, and its time and memory are
/// bounded by their length and the limits of [`crate::program`], [`crate::term`] and [`work_for`].
pub fn check(
    program: &[u8],
    proof: &[u8],
    owner: Principal,
    policy: &Arc<Policy>,
    lemmas: &LemmaStore,
) -> Result<Checked, Reject> {
    let limits = &policy.limits;
    ceiling(Ceiling::ProgramBytes, program.len() as u64, limits.program_bytes_max)?;
    ceiling(Ceiling::ProofBytes, proof.len() as u64, limits.proof_bytes_max)?;
    if policy.principals != PrincipalKind::of(&owner) {
        return Err(Reject::WrongPrincipal { policy: policy.principals });
    }
    let work = work_for(program.len() + proof.len());
    let program = Program::decode(program).map_err(Reject::Program)?;
    let (lifetime_s, window) = (program.lifetime_s(), walk::window(&program, policy));
    ceiling(Ceiling::Lifetime, u64::from(lifetime_s), limits.lifetime_max_s)?;
    ceiling(Ceiling::Window, u64::from(window), limits.window_packets_max)?;
    let state_bytes = cost::state_bytes(&program, window, limits)?;
    let mut kernel = Kernel::new(Terms::new(work), lemmas);
    let mut certificate =
        Certificate { steps: Steps::new(Reader::new(proof, usize::MAX, usize::MAX)), shown: 0, last: 0 };
    let found = walk::walk(&program, &owner, policy, &mut kernel, &mut certificate);
    let walk::Outcome { complexity, turns } = found.map_err(|fault| match fault {
        WalkFault::Unset(instr, name) => Reject::Unset(instr, name),
        WalkFault::CostOverflow => Reject::CostOverflow,
        WalkFault::Term(fault) => Reject::TooLarge(fault),
        WalkFault::CostOfWindow => Reject::CostOfWindow,
        WalkFault::Guide(place) => Reject::NotProven(place),
    })?;
    certificate.steps.end().map_err(|fault| Reject::NotProven(certificate.place(certificate.last, None, fault)))?;
    ceiling(Ceiling::Complexity, complexity, limits.complexity_max)?;
    let cost = cost::total(complexity, lifetime_s)?;
    ceiling(Ceiling::Cost, cost, limits.cost_max)?;
    let (policy, lemma_root) = (Arc::clone(policy), lemmas.root());
    Ok(Checked { program, owner, policy, lemma_root, window, turns, complexity, cost, state_bytes })
}

fn ceiling(what: Ceiling, value: u64, ceiling: impl Into<u64>) -> Result<(), Reject> {
    let ceiling = ceiling.into();
    if value <= ceiling { Ok(()) } else { Err(Reject::AboveCeiling { what, value, ceiling }) }
}

/// The guide that reads a certificate: what it says and shows, in the order of the walk.
struct Certificate<'p> {
    steps: Steps<'p>,
    shown: usize,
    /// The last instruction that something was read for.
    last: usize,
}

impl Certificate<'_> {
    fn place(&self, instr: usize, duty: Option<Duty>, fault: ProofFault) -> Place {
        Place { instr, duty, shown: self.shown, at: self.steps.position(), fault }
    }

    fn read<T>(
        &mut self,
        instr: usize,
        item: impl FnOnce(&mut Steps<'_>) -> Result<T, ProofFault>,
    ) -> Result<T, Place> {
        self.last = instr;
        item(&mut self.steps).map_err(|fault| self.place(instr, None, fault))
    }
}

/// The byte of a note; it has none but these bits.
fn flags(steps: &mut Steps<'_>, all: u8) -> Result<u8, ProofFault> {
    let flags = steps.reader.byte()?;
    if flags & !all == 0 { Ok(flags) } else { Err(WireError::UnknownTag(flags).into()) }
}

impl Guide for Certificate<'_> {
    type Fault = Place;

    fn program(&mut self, _: &mut Kernel<'_>) -> Result<Option<u64>, Place> {
        self.read(0, |steps| {
            let is_said = flags(steps, note::COST)? & note::COST != 0;
            if is_said { Ok(Some(u64::read(&mut steps.reader)?)) } else { Ok(None) }
        })
    }

    fn branch(&mut self, _: &mut Kernel<'_>, site: &Site<'_>) -> Result<BranchNote, Place> {
        self.read(site.instr, |steps| match steps.reader.byte()? {
            note::LIVE => Ok(BranchNote::Live),
            note::THEN_DEAD => Ok(BranchNote::ThenDead),
            note::ELSE_DEAD => Ok(BranchNote::ElseDead),
            tag => Err(WireError::UnknownTag(tag).into()),
        })
    }

    fn turn(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> Result<LoopNote, Place> {
        self.read(site.instr, |steps| {
            let flags = flags(steps, note::INVARIANT | note::VARIANT | note::COST)?;
            let mut said = LoopNote::default();
            if flags & note::INVARIANT != 0 {
                said.invariant = Some(steps.open(kernel)?);
            }
            if flags & note::VARIANT != 0 {
                said.variant = Some((steps.open(kernel)?, u32::read(&mut steps.reader)?));
            }
            if flags & note::COST != 0 {
                said.cost = Some(u64::read(&mut steps.reader)?);
            }
            Ok(said)
        })
    }

    fn show(&mut self, kernel: &mut Kernel<'_>, _: &Site<'_>, obligation: &Obligation) -> Result<(), Place> {
        self.last = obligation.instr;
        let shown = self.steps.show(kernel, obligation.member, obligation.goal);
        shown.map_err(|fault| self.place(obligation.instr, Some(obligation.duty), fault))?;
        self.shown += 1;
        Ok(())
    }
}
