//! The static analyser: the alternative to a search for proofs (the paper, II-B).
//!
//! It is a classical one: a control-flow graph of the structured bytecode, reaching definitions, and a data-flow
//! analysis in which every variable is known by itself and ways that meet are joined. It takes time about linear in the
//! program's length. What it finds becomes a certificate, notes of loops and branches and a proof of each obligation
//! from templates, which the same checker checks: the analyser has to be right only to be useful. Where it gives up it
//! says what it lacks; a program on which it gives up may be lawful.

mod build;
mod flow;
mod graph;
mod guide;
mod proof;
mod spans;
mod state;

use guide::{Maker, Stop};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use vinet_trusted::addr::{Principal, Unset};
use vinet_trusted::check::{self, Reject};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::Kernel;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::Program;
use vinet_trusted::term::{TermFault, Terms};
use vinet_trusted::walk::{self, Duty, WalkFault};

/// How often the analysis starts anew with less said of loops.
const ATTEMPTS_MAX: usize = 32;
/// The most steps of all proofs of one analysis together: a router analyses what strangers send.
const STEPS_ALL_MAX: u32 = 200_000;

/// What the analysis would need, or what is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lacking {
    /// No test on the way says what the policy asks, as far as the analysis sees: perhaps the program is unlawful.
    Test,
    /// Values are joined where ways meet.
    WhichBranch,
    /// Values that change in a loop are known only by what fits into an interval or a set.
    LoopInvariant,
    /// What is left of a set when another one is taken out.
    SetDifference,
    /// Two integers that are not equal.
    Inequality,
    /// Several numbers or addresses of one header together.
    HeaderRelation,
    /// Two variables that depend on each other.
    Relation,
    /// A product of two variables.
    Product,
    /// It holds by intervals and sets, but not by the rules from the sets that program and policy write out.
    Steps,
    /// The owner, or the policy, has not got a name.
    Unset(Unset),
    /// The cost does not fit into 64 bits.
    CostOverflow,
    /// The program's facts cannot be written down.
    TooLarge(TermFault),
    /// The certificate is made, but the checker does not take program or certificate.
    Rejected(Reject),
}

impl Lacking {
    fn of(lost: state::Lost) -> Lacking {
        let told = [
            (state::PRODUCT, Lacking::Product),
            (state::RELATION, Lacking::Relation),
            (state::HEADERS, Lacking::HeaderRelation),
            (state::DIFFERENT, Lacking::Inequality),
            (state::SETS, Lacking::SetDifference),
            (state::JOIN, Lacking::WhichBranch),
            (state::LOOP, Lacking::LoopInvariant),
        ];
        told.into_iter().find(|(bit, _)| lost & bit != 0).map_or(Lacking::Test, |(_, why)| why)
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lacking::Test => "no test on the way says it",
            Lacking::WhichBranch => "the analysis does not know which branch was taken before",
            Lacking::LoopInvariant => "the analysis has no such invariant of a loop",
            Lacking::SetDifference => "the analysis does not know what is left of a set when another one is taken out",
            Lacking::Inequality => "the analysis does not use that two integers differ",
            Lacking::HeaderRelation => "the analysis knows each number and address of a header only by itself",
            Lacking::Relation => "the analysis has no relations between two variables",
            Lacking::Product => "the analysis does not multiply two variables",
            Lacking::Steps => "the sets that program and policy write out are not enough to show it",
            Lacking::Unset(name) => return write!(f, "it uses {name}, which this owner has not"),
            Lacking::CostOverflow => "the cost does not fit into 64 bits",
            Lacking::TooLarge(fault) => return write!(f, "the program's facts cannot be written down ({fault:?})"),
            Lacking::Rejected(reject) => return reject.fmt(f),
        })
    }
}

/// Why the analysis gives up on a program, which may be lawful.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnalysisFailed {
    /// The number of the instruction.
    pub instr: usize,
    /// What could not be shown of it; none where it is about the program or its certificate.
    pub duty: Option<Duty>,
    /// What would be needed.
    pub why: Lacking,
    /// The instructions that made what it is about: the definitions that reach it.
    pub definitions: Vec<usize>,
}

impl fmt::Display for AnalysisFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AnalysisFailed { instr, duty, why, definitions } = self;
        match duty {
            Some(duty) => write!(f, "instruction {instr}: cannot show that {duty}: {why}")?,
            None => write!(f, "instruction {instr}: {why}")?,
        }
        if let Some((last, others)) = definitions.split_last() {
            write!(f, " (what it is about is made by instruction ")?;
            others.iter().try_for_each(|other| write!(f, "{other}, "))?;
            write!(f, "{last})")?;
        }
        Ok(())
    }
}

impl std::error::Error for AnalysisFailed {}

/// A certificate for `program`, which [`vinet_trusted::check::check`] takes.
///
/// # Errors
/// [`AnalysisFailed`]: the first obligation that the analysis cannot meet.
pub fn analyse(
    program: &Program,
    owner: &Principal,
    policy: &Policy,
    lemmas: &LemmaStore,
) -> Result<Vec<u8>, AnalysisFailed> {
    let about_all =
        |instr: Option<usize>, why| AnalysisFailed { instr: instr.unwrap_or(0), duty: None, why, definitions: vec![] };
    let unset = |(instr, name): (Option<usize>, Unset)| about_all(instr, Lacking::Unset(name));
    let flow = flow::analyse(program, owner, policy).map_err(unset)?;
    let mut dropped = BTreeSet::new();
    let left = Cell::new(STEPS_ALL_MAX);
    for _ in 0..ATTEMPTS_MAX {
        let mut kernel = Kernel::new(Terms::new(usize::MAX), lemmas);
        let mut maker = Maker::new(policy, &flow, &dropped, &left);
        let fault = match walk::walk(program, owner, policy, &mut kernel, &mut maker) {
            Ok(_) => {
                let proof = maker.out.finish();
                let checked = check::check(&program.encode(), &proof, *owner, &Arc::new(policy.clone()), lemmas);
                let rejected = |reject: Reject| about_all(reject.instr(), Lacking::Rejected(reject));
                return checked.map(|_| proof).map_err(rejected);
            }
            Err(fault) => fault,
        };
        match fault {
            WalkFault::Guide(Stop::Drop(parts)) => dropped.extend(parts),
            WalkFault::Guide(Stop::Failed(failed)) => return Err(failed),
            WalkFault::Unset(instr, name) => return Err(about_all(instr, Lacking::Unset(name))),
            WalkFault::CostOverflow | WalkFault::CostOfWindow => return Err(about_all(None, Lacking::CostOverflow)),
            WalkFault::Term(fault) => return Err(about_all(None, Lacking::TooLarge(fault))),
        }
    }
    Err(about_all(None, Lacking::LoopInvariant))
}
