//! Proofs of a program's obligations: those that a text gives, and for the rest whoever else can.

use super::derivation::Frame;
use super::elaborate::{Elaborator, LemmaNames, Slots};
use super::error::{Cause, ScriptError};
use super::print::{Names, constant_name, print};
use super::syntax::{self, Expr, Place, Text};
use super::{MethodText, methods_with};
use crate::write;
use core::fmt;
use std::collections::HashMap;
use vinet_trusted::addr::{Principal, Unset};
use vinet_trusted::check::note;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::Kernel;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Program, Type};
use vinet_trusted::proof::{ProofFault, Steps};
use vinet_trusted::term::{Id, Node, Op, PACKET, Sort, TermFault, Terms, sort};
use vinet_trusted::walk::{self, BranchNote, Duty, Guide, LoopNote, Obligation, Site, WalkFault};
use vinet_trusted::wire::{Reader, Wire, Writer};

/// Who proves what a text leaves open, and says of loops and branches what it does not say.
pub trait Fallback {
    /// The bytes of a proof of the obligation, DONE at their end. The kernel is where the walk is; rules may be tried
    /// on it, and its terms are put back afterwards.
    fn show(&mut self, kernel: &mut Kernel<'_>, obligation: &Obligation) -> Option<Vec<u8>>;
    /// Told of every obligation that was shown, by whomever.
    fn shown(&mut self, _: &Obligation) {}
    /// What is said of the program's cost.
    fn program(&mut self, _: &Kernel<'_>) -> Option<u64> {
        None
    }
    /// What is said of an if.
    fn branch(&mut self, _: &mut Kernel<'_>, _: &Site<'_>) -> BranchNote {
        BranchNote::Live
    }
    /// What is said of a loop. It may make terms, but no constants, addresses or sets.
    fn turn(&mut self, _: &mut Kernel<'_>, _: &Site<'_>) -> LoopNote {
        LoopNote::default()
    }
}

impl<F: FnMut(&mut Kernel<'_>, &Obligation) -> Option<Vec<u8>>> Fallback for F {
    fn show(&mut self, kernel: &mut Kernel<'_>, obligation: &Obligation) -> Option<Vec<u8>> {
        self(kernel, obligation)
    }
}

/// One thing that is known, with the name that a proof calls it by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// What it says.
    pub says: String,
}

/// What has to be shown of a program, in the text form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObligationText {
    /// Its number, from 0 in the order in which they are shown.
    pub number: usize,
    /// The number of the instruction that it is about.
    pub instr: usize,
    /// Why it has to be shown.
    pub duty: Duty,
    /// What is given.
    pub given: Vec<Claim>,
    /// What the program says of the values that all this speaks of.
    pub facts: Vec<String>,
    /// What has to be shown.
    pub goal: String,
}

impl fmt::Display for ObligationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "obligation {} (instruction {}): {}", self.number, self.instr, self.duty)?;
        self.given.iter().try_for_each(|claim| writeln!(f, "  {}: {}", claim.name, claim.says))?;
        self.facts.iter().try_for_each(|fact| writeln!(f, "  where {fact}"))?;
        writeln!(f, "  to show: {}", self.goal)
    }
}

/// Why a program's obligations are not listed or not proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProgramFault {
    /// Something is wrong in the text.
    Script(ScriptError),
    /// Neither the text nor the fallback proves this.
    NotShown(Box<ObligationText>),
    /// The fallback's proof is none.
    BadProof {
        /// Of the obligation with this number.
        number: usize,
        /// Why.
        fault: ProofFault,
    },
    /// The program or the policy uses a name that this owner has not.
    Unset(Option<usize>, Unset),
    /// A cost is above what 64 bits hold.
    CostOverflow,
    /// The program is too large for its facts to be written down.
    TooLarge(TermFault),
    /// A cost is said of a program whose windows have more than one packet.
    CostOfWindow,
}

impl From<ScriptError> for ProgramFault {
    fn from(error: ScriptError) -> Self {
        ProgramFault::Script(error)
    }
}

impl std::error::Error for ProgramFault {}

impl fmt::Display for ProgramFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramFault::Script(error) => error.fmt(f),
            ProgramFault::NotShown(obligation) => write!(f, "not proven: {obligation}"),
            ProgramFault::BadProof { number, fault } => {
                write!(f, "the proof found for obligation {number} is none: {fault}")
            }
            ProgramFault::Unset(Some(instr), name) => {
                write!(f, "instruction {instr} uses {name}, which this owner has not")
            }
            ProgramFault::Unset(None, name) => write!(f, "the policy uses {name}, which this owner has not"),
            ProgramFault::CostOverflow => write!(f, "the cost does not fit into 64 bits"),
            ProgramFault::TooLarge(fault) => {
                write!(f, "the program's facts cannot be written down: {}", super::rules::term_fault_words(*fault))
            }
            ProgramFault::CostOfWindow => write!(f, "a cost is said of a program that looks at several packets"),
        }
    }
}

/// What has to be shown of `program`, with the notes that `text` and `fallback` give.
///
/// # Errors
/// [`ProgramFault`].
pub fn obligations(
    program: &Program,
    owner: &Principal,
    policy: &Policy,
    lemmas: &LemmaStore,
    text: &str,
    fallback: &mut dyn Fallback,
) -> Result<Vec<ObligationText>, ProgramFault> {
    let names = LemmaNames::default();
    let (_, listed) = walk_with(program, owner, policy, lemmas, &names, text, fallback, true)?;
    Ok(listed)
}

/// A certificate: what `text` proves and says, and for the rest what `fallback` does. The lemmas of the text are those
/// that [`super::lemmas`] has put into the store before.
///
/// # Errors
/// [`ProgramFault`].
pub fn prove(
    program: &Program,
    owner: &Principal,
    policy: &Policy,
    (lemmas, names): (&LemmaStore, &LemmaNames),
    text: &str,
    fallback: &mut dyn Fallback,
) -> Result<Vec<u8>, ProgramFault> {
    Ok(walk_with(program, owner, policy, lemmas, names, text, fallback, false)?.0)
}

#[allow(clippy::too_many_arguments)] // Both callers name each of them.
fn walk_with(
    program: &Program,
    owner: &Principal,
    policy: &Policy,
    lemmas: &LemmaStore,
    names: &LemmaNames,
    text: &str,
    fallback: &mut dyn Fallback,
    is_listing: bool,
) -> Result<(Vec<u8>, Vec<ObligationText>), ProgramFault> {
    let said = syntax::parse(text)?;
    no_place_twice("loop", said.loops.iter().map(|said| &said.place))?;
    no_place_twice("branch", said.branches.iter().map(|(place, _)| place))?;
    no_place_twice("obligation", said.obligations.iter().map(|(place, _)| place))?;
    let methods = methods_with(&said.methods)?;
    let mut kernel = Kernel::new(Terms::new(usize::MAX), lemmas);
    let mut scripted = Scripted {
        program,
        names,
        methods: &methods,
        said: &said,
        fallback,
        is_listing,
        out: Writer::new(),
        listed: Vec::new(),
        number: 0,
        loops: Vec::new(),
        branches: Vec::new(),
    };
    walk::walk(program, owner, policy, &mut kernel, &mut scripted).map_err(|fault| match fault {
        WalkFault::Unset(instr, name) => ProgramFault::Unset(instr, name),
        WalkFault::CostOverflow => ProgramFault::CostOverflow,
        WalkFault::Term(fault) => ProgramFault::TooLarge(fault),
        WalkFault::CostOfWindow => ProgramFault::CostOfWindow,
        WalkFault::Guide(fault) => fault,
    })?;
    scripted.all_places_are_there()?;
    Ok((scripted.out.finish(), scripted.listed))
}

/// Only one thing is said of each place.
fn no_place_twice<'a>(what: &str, places: impl Iterator<Item = &'a Place>) -> Result<(), ScriptError> {
    let mut seen = Vec::new();
    for place in places {
        if seen.contains(&place.number) {
            return Err(ScriptError::new(place.span.clone(), Cause::NameTaken(format!("{what} {}", place.number))));
        }
        seen.push(place.number);
    }
    Ok(())
}

/// The guide that follows a text.
struct Scripted<'a> {
    program: &'a Program,
    names: &'a LemmaNames,
    methods: &'a HashMap<String, MethodText>,
    said: &'a Text,
    fallback: &'a mut dyn Fallback,
    /// Nothing is proven; what would have to be is listed.
    is_listing: bool,
    out: Writer,
    listed: Vec<ObligationText>,
    /// How many obligations have come.
    number: usize,
    /// The loops and ifs that have come.
    loops: Vec<usize>,
    branches: Vec<usize>,
}

impl Scripted<'_> {
    fn all_places_are_there(&self) -> Result<(), ScriptError> {
        let missing = |what, place: &Place| {
            let cause = Cause::NoSuchPlace { what, number: place.number };
            Err(ScriptError::new(place.span.clone(), cause))
        };
        for said in &self.said.loops {
            if !self.loops.contains(&said.place.number) {
                return missing("loop at instruction", &said.place);
            }
        }
        for (place, _) in &self.said.branches {
            if !self.branches.contains(&place.number) {
                return missing("if at instruction", place);
            }
        }
        for (place, _) in &self.said.obligations {
            if place.number >= self.number {
                return missing("obligation", place);
            }
        }
        Ok(())
    }

    fn by_text(
        &self,
        kernel: &mut Kernel<'_>,
        site: &Site<'_>,
        obligation: &Obligation,
        proof: &Expr,
    ) -> Result<Vec<u8>, ScriptError> {
        // What is tried here must not change what the checker will see: constants, addresses and sets have numbers.
        let terms = kernel.terms.clone();
        kernel.begin(obligation.member);
        let own = kernel.terms.constants.len() as u32;
        let given: Vec<Option<Id>> = std::iter::once(obligation.member).chain(kernel.path().map(Some)).collect();
        let claims: Vec<(String, u32)> = given
            .iter()
            .enumerate()
            .filter(|(_, formula)| formula.is_some())
            .map(|(number, _)| (claim_name(number), number as u32))
            .collect();
        let names = names_at(&kernel.terms, site);
        let mut elaborator = Elaborator::new(kernel, names, self.names, self.methods, Slots::Held(site.slots));
        let shown = (|| {
            let packet = elaborator.kernel.terms.constant(PACKET);
            if let Ok(packet) = packet {
                elaborator.name_term("p", packet);
            }
            elaborator.begin(Frame { goal: obligation.goal, given, own, given_bits: 0 }, &claims)?;
            elaborator.prove(proof, usize::MAX)
        })();
        kernel.terms = terms;
        shown
    }
}

/// How a proof calls a claim that is given.
fn claim_name(number: usize) -> String {
    if number == 0 { "member".into() } else { format!("given{number}") }
}

/// The names of constants where the walk is: a variable's value has the variable's.
pub(crate) fn names_at(terms: &Terms, site: &Site<'_>) -> Names {
    let mut names = Names::of_program();
    for (slot, value) in site.slots.iter().enumerate() {
        if let Some(value) = value
            && let Node { op: Op::Const, args } = terms.get(*value)
        {
            names.constants.entry(args[0]).or_insert_with(|| format!("${slot}"));
        }
    }
    names
}

/// What is given with an obligation, and what is known of the constants that it speaks of.
pub(crate) fn texts(kernel: &Kernel<'_>, names: &Names, obligation: &Obligation) -> (Vec<Claim>, Vec<String>) {
    let terms = &kernel.terms;
    let given: Vec<(usize, Id)> = obligation
        .member
        .map(|member| (0, member))
        .into_iter()
        .chain(kernel.path().enumerate().map(|(i, fact)| (1 + i, fact)))
        .collect();
    let mut constants = Vec::new();
    speaks_of(terms, obligation.goal, &mut constants);
    given.iter().for_each(|(_, formula)| speaks_of(terms, *formula, &mut constants));
    let mut facts = Vec::new();
    let mut at = 0;
    while let Some(&number) = constants.get(at) {
        at += 1;
        let constant = terms.constants[number as usize];
        let Some(fact) = constant.fact else { continue };
        speaks_of(terms, fact, &mut constants);
        let name = names.constants.get(&number).cloned().unwrap_or_else(|| constant_name(number, constant.sort));
        let says = print(terms, fact, names);
        facts.push(if constant.sort == sort::PACKETS {
            format!("p in {name} means: {says}")
        } else {
            format!("{name} has: {says}")
        });
    }
    let claims = given.into_iter();
    (claims.map(|(i, id)| Claim { name: claim_name(i), says: print(terms, id, names) }).collect(), facts)
}

fn speaks_of(terms: &Terms, id: Id, constants: &mut Vec<u32>) {
    let node = terms.get(id);
    if node.op == Op::Const && !constants.contains(&node.args[0]) {
        constants.push(node.args[0]);
    }
    terms.children(node).for_each(|i| speaks_of(terms, node.args[i], constants));
}

/// The sorts of a program's slots, where formulas can speak of them.
fn slot_sorts(program: &Program) -> Vec<Option<Sort>> {
    let sort = |ty: &Type| match ty {
        Type::Packets | Type::Groups(_) => Some(sort::PACKETS),
        Type::Addr => Some(sort::ADDR),
        Type::Int => Some(sort::INT),
        Type::Dests | Type::Contents => None,
    };
    program.slots().iter().map(sort).collect()
}

impl Guide for Scripted<'_> {
    type Fault = ProgramFault;

    fn program(&mut self, kernel: &mut Kernel<'_>) -> Result<Option<u64>, ProgramFault> {
        let cost = self.said.cost.or_else(|| self.fallback.program(kernel));
        self.out.byte(if cost.is_some() { note::COST } else { note::NONE });
        cost.into_iter().for_each(|cost| cost.write(&mut self.out));
        Ok(cost)
    }

    fn branch(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> Result<BranchNote, ProgramFault> {
        self.branches.push(site.instr);
        let said = self.said.branches.iter().find(|(place, _)| place.number == site.instr);
        let note = match said {
            Some((_, true)) => BranchNote::ThenDead,
            Some((_, false)) => BranchNote::ElseDead,
            None => self.fallback.branch(kernel, site),
        };
        self.out.byte(match note {
            BranchNote::Live => note::LIVE,
            BranchNote::ThenDead => note::THEN_DEAD,
            BranchNote::ElseDead => note::ELSE_DEAD,
        });
        Ok(note)
    }

    fn turn(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> Result<LoopNote, ProgramFault> {
        self.loops.push(site.instr);
        let note = match self.said.loops.iter().find(|said| said.place.number == site.instr) {
            Some(said) => {
                let sorts = slot_sorts(self.program);
                let names = names_at(&kernel.terms, site);
                let mut elaborator = Elaborator::new(kernel, names, self.names, self.methods, Slots::Open(&sorts));
                let invariant = said.invariant.as_ref().map(|formula| elaborator.formula(formula)).transpose()?;
                let variant =
                    said.variant.as_ref().map(|(term, most)| Ok::<_, ScriptError>((elaborator.term(term)?, *most)));
                LoopNote { invariant, variant: variant.transpose()?, cost: said.cost }
            }
            None => self.fallback.turn(kernel, site),
        };
        let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
        self.out.byte(
            flag(note.invariant.is_some(), note::INVARIANT)
                | flag(note.variant.is_some(), note::VARIANT)
                | flag(note.cost.is_some(), note::COST),
        );
        if let Some(invariant) = note.invariant {
            write::term(&kernel.terms, invariant, &mut self.out);
        }
        if let Some((variant, most)) = note.variant {
            write::term(&kernel.terms, variant, &mut self.out);
            most.write(&mut self.out);
        }
        note.cost.into_iter().for_each(|cost| cost.write(&mut self.out));
        Ok(note)
    }

    fn show(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>, obligation: &Obligation) -> Result<(), ProgramFault> {
        let number = self.number;
        self.number += 1;
        let text = |kernel: &Kernel<'_>| {
            let names = names_at(&kernel.terms, site);
            let (given, facts) = texts(kernel, &names, obligation);
            let goal = print(&kernel.terms, obligation.goal, &names);
            ObligationText { number, instr: obligation.instr, duty: obligation.duty, given, facts, goal }
        };
        if self.is_listing {
            self.listed.push(text(kernel));
            return Ok(());
        }
        let said = self.said.obligations.iter().find(|(place, _)| place.number == number);
        let bytes = match said {
            Some((_, proof)) => self.by_text(kernel, site, obligation, proof)?,
            None => {
                let terms = kernel.terms.clone();
                let found = self.fallback.show(kernel, obligation);
                kernel.terms = terms;
                found.ok_or_else(|| ProgramFault::NotShown(Box::new(text(kernel))))?
            }
        };
        // So that what comes later is proven where the checker will be.
        let mut steps = Steps::new(Reader::new(&bytes, usize::MAX, usize::MAX));
        let shown = steps.show(kernel, obligation.member, obligation.goal).and_then(|()| steps.end());
        shown.map_err(|fault| ProgramFault::BadProof { number, fault })?;
        self.out.bytes(&bytes);
        self.fallback.shown(obligation);
        Ok(())
    }
}
