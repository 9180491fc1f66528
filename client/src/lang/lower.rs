//! Lowering: a tree with its names to the bytecode, the place of each instruction, and what is said of loops.
//!
//! The rules of well-formed programs are checked here with places, so that what comes out is accepted by
//! [`Program::new`]; an offence that is found only there is told at the LIFETIME.

mod conditions;
mod integers;
mod loops;
mod operands;
mod select;
mod statements;

use super::ast::Source;
use super::error::{Cause, Located};
use super::measure;
use super::names::Names;
use super::parameter::Parameters;
use super::token::Span;
use std::collections::{BTreeMap, BTreeSet};
use vinet_prover::hint::Hint;
use vinet_trusted::addr::Principal;
use vinet_trusted::program::{self, ALL_PACKETS, AddrExpr, Program, SLOTS_MAX, Slot};

/// What lowering makes.
pub(crate) struct Lowered {
    pub(crate) program: Program,
    /// The place of each instruction, in the order in which instructions are counted.
    pub(crate) places: Vec<Span>,
    pub(crate) hints: Vec<Hint>,
}

/// The program of a tree.
pub(crate) fn lower(
    source: &Source,
    names: &Names,
    errors: Vec<Located>,
    parameters: &mut Parameters<'_>,
    owner: &Principal,
) -> Result<Lowered, Vec<Located>> {
    let mut lowering = Lowering {
        names,
        parameters,
        owner,
        errors,
        slots: BTreeMap::new(),
        assigned: vec![true],
        running: Vec::new(),
        words: Vec::new(),
        places: Vec::new(),
        hints: Vec::new(),
        scratch: 0,
        in_clause: None,
        told: BTreeSet::new(),
    };
    let mut body = Vec::new();
    lowering.block(&source.body, &mut body);
    let Lowering { mut errors, mut words, places, hints, parameters, .. } = lowering;
    // A broken value of a parameter is told by the parameters; the body then has a gap.
    if errors.is_empty() && !parameters.is_broken() {
        errors.extend(measure::limits(&body, &places));
    }
    if errors.is_empty() && !parameters.is_broken() {
        measure::order_words(&mut words, &mut body);
        let window = source.window.unwrap_or(if measure::groups_by_content(&body) { 0 } else { 1 });
        let (lifetime_s, clause) = &source.lifetime_s;
        match Program::new(*lifetime_s, window, words, body) {
            Ok(program) => return Ok(Lowered { program, places, hints }),
            Err(error) => errors.push(Located::new(clause.clone(), Cause::Refused(error))),
        }
    }
    Err(errors)
}

/// What a slot is for: a variable by its name, the groups of an index, or an answer that a statement needs on its way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Var(String),
    Groups(String),
    Scratch(usize),
}

/// A foreach around the place at hand.
struct Running {
    index: String,
    packets: Slot,
    key: Slot,
}

/// A set of addresses: constants, and what slots hold.
struct AddrSet {
    constants: AddrExpr,
    slots: Vec<Slot>,
}

struct Lowering<'a, 'p> {
    names: &'a Names,
    parameters: &'a mut Parameters<'p>,
    owner: &'a Principal,
    errors: Vec<Located>,
    slots: BTreeMap<Held, Slot>,
    /// Whether each slot is assigned on every way to here.
    assigned: Vec<bool>,
    running: Vec<Running>,
    words: Vec<program::Word>,
    places: Vec<Span>,
    hints: Vec<Hint>,
    /// How many scratch slots the statement at hand uses.
    scratch: usize,
    /// The place at hand, where no instruction can go before it.
    in_clause: Option<&'static str>,
    /// Limits that were told: each is told once.
    told: BTreeSet<&'static str>,
}

impl Lowering<'_, '_> {
    fn error(&mut self, span: &Span, cause: Cause) {
        self.errors.push(Located::new(span.clone(), cause));
    }
    fn once(&mut self, limit: &'static str, span: &Span, cause: Cause) {
        if self.told.insert(limit) {
            self.error(span, cause);
        }
    }
    fn new_slot(&mut self, span: &Span) -> Slot {
        let slot = self.assigned.len();
        if slot >= SLOTS_MAX {
            self.once("slots", span, Cause::TooManyVariables);
            return ALL_PACKETS;
        }
        self.assigned.push(true);
        slot as Slot
    }
    fn assign(&mut self, held: Held, span: &Span) -> Slot {
        match self.slots.get(&held) {
            Some(&slot) => {
                self.assigned[usize::from(slot)] = true;
                slot
            }
            None => {
                let slot = self.new_slot(span);
                self.slots.insert(held, slot);
                slot
            }
        }
    }
    fn read(&self, held: &Held) -> Option<Slot> {
        self.slots.get(held).copied().filter(|&slot| self.assigned[usize::from(slot)])
    }
    fn scratch(&mut self, span: &Span) -> Slot {
        self.scratch += 1;
        self.assign(Held::Scratch(self.scratch), span)
    }
    /// Slots that are new since `before` may not be assigned behind it.
    fn restore(&mut self, before: Vec<bool>) {
        let slots = self.assigned.len();
        self.assigned = before;
        self.assigned.resize(slots, false);
    }
}

/// The parts joined as a balanced tree, so that a long chain stays within the depth of the bytecode. Order and short
/// circuits are those of the chain.
fn balanced<T>(mut parts: Vec<T>, join: &dyn Fn(T, T) -> T) -> Option<T> {
    if parts.len() < 2 {
        return parts.pop();
    }
    let right = parts.split_off(parts.len().div_ceil(2));
    Some(join(balanced(parts, join)?, balanced(right, join)?))
}
