//! What may hold at the head of a loop, and what may fall in each turn: guesses from the shape of the program, and what
//! its author says.

use super::formula::Invariant;
use super::{assigned, conjuncts, loops};
use crate::hint::{self, Hint};
use crate::search::Search;
use std::collections::BTreeSet;
use vinet_trusted::addr::{AddrExpr, PrefixSet, Principal};
use vinet_trusted::packet::Field;
use vinet_trusted::program::{Cond, Expr, Instr, Program, Slot, Type};
use vinet_trusted::term::Id;
use vinet_trusted::walk::EventKind;

/// The most candidates for one loop.
const CANDIDATES_MAX: usize = 48;

/// A loop, and where it is.
pub struct Place<'a> {
    program: &'a Program,
    instr: usize,
    slots: &'a [Option<Id>],
    body: &'a [Instr],
    max: u32,
    /// The conditions that hold where a turn of it begins, and one of those around it.
    conds: Vec<&'a Cond>,
    /// Its own alone.
    own: Vec<&'a Cond>,
}

impl<'a> Place<'a> {
    /// The loop with this number.
    pub fn of(program: &'a Program, instr: usize, slots: &'a [Option<Id>]) -> Place<'a> {
        let all = loops(program);
        let of = |number: usize| match all.get(&number) {
            Some((Instr::While { cond, .. }, _)) => conjuncts(cond),
            _ => Vec::new(),
        };
        let (body, max, around): (&[Instr], u32, &[usize]) = match all.get(&instr) {
            Some((Instr::While { body, max, .. }, around)) => (body, *max, around),
            Some((Instr::Foreach { body, .. }, around)) => (body, 1, around),
            _ => (&[], 1, &[]),
        };
        let own = of(instr);
        let conds = own.iter().copied().chain(around.iter().flat_map(|number| of(*number))).collect();
        Place { program, instr, slots, body, max, conds, own }
    }

    /// The most turns that it says it has.
    pub const fn turns_max(&self) -> u32 {
        self.max
    }

    fn is_there(&self, slot: Slot) -> bool {
        self.slots.get(usize::from(slot)).is_some_and(Option::is_some)
    }

    fn ty(&self, slot: Slot) -> Type {
        self.program.slots()[usize::from(slot)]
    }
}

fn slot(slot: Slot) -> Expr {
    Expr::Slot { slot }
}

fn int(value: i64) -> Expr {
    Expr::Const { value }
}

fn times(factor: i64, expr: Expr) -> Expr {
    if factor == 1 { expr } else { Expr::Mul { a: Box::new(int(factor)), b: Box::new(expr) } }
}

fn plus(a: Expr, more: i64) -> Expr {
    match (a, more) {
        (a, 0) => a,
        (Expr::Const { value }, _) => int(value.saturating_add(more)),
        (a, _) => Expr::Add { a: Box::new(a), b: Box::new(int(more)) },
    }
}

fn minus(a: Expr, b: Expr) -> Expr {
    match (&a, &b) {
        (_, Expr::Const { value: 0 }) => a,
        _ => Expr::Sub { a: Box::new(a), b: Box::new(b) },
    }
}

fn at_most(a: Expr, b: Expr) -> Cond {
    Cond::AtMost { a, b }
}

/// The step by which an instruction makes its own slot greater.
fn step(instr: &Instr) -> Option<(Slot, i64)> {
    let Instr::Let { out, expr } = instr else { return None };
    match expr {
        Expr::Add { a, b } | Expr::Sub { a, b } => match (&**a, &**b) {
            (Expr::Slot { slot }, Expr::Const { value }) if slot == out => {
                Some((*out, if matches!(expr, Expr::Add { .. }) { *value } else { value.checked_neg()? }))
            }
            (Expr::Const { value }, Expr::Slot { slot }) if slot == out && matches!(expr, Expr::Add { .. }) => {
                Some((*out, *value))
            }
            _ => None,
        },
        _ => None,
    }
}

fn all_instrs<'p>(block: &'p [Instr], all: &mut Vec<&'p Instr>) {
    for instr in block {
        all.push(instr);
        instr.blocks().for_each(|block| all_instrs(block, all));
    }
}

fn sets_of(cond: &Cond, all: &mut Vec<AddrExpr>) {
    match cond {
        Cond::AddrIn { addrs, .. } => all.push(addrs.clone()),
        Cond::Not { cond } => sets_of(cond, all),
        Cond::And { a, b } | Cond::Or { a, b } => {
            sets_of(a, all);
            sets_of(b, all);
        }
        _ => {}
    }
}

/// What may hold each time the loop is reached, what its author says first.
pub fn invariants(place: &Place<'_>, owner: &Principal, hints: &[Hint], search: &mut Search<'_>) -> Vec<Invariant> {
    let mut all: Vec<Invariant> = Vec::new();
    for hint in hints.iter().filter(|hint| hint.instr == place.instr) {
        all.extend(hint.invariants.iter().map(|said| match said {
            hint::Invariant::Cond(cond) => Invariant::Cond(cond.clone()),
            hint::Invariant::Within { slot, field, addrs } => Invariant::Within(*slot, *field, addrs.clone()),
        }));
    }
    let changes: Vec<Slot> = assigned(place.body).into_iter().filter(|slot| place.is_there(*slot)).collect();
    let mut instrs = Vec::new();
    all_instrs(place.body, &mut instrs);
    let mut own: Vec<Invariant> = Vec::new();
    own.extend(about_sets(place, owner, &changes));
    let flags: Vec<Slot> = changes.iter().copied().filter(|slot| is_flag(*slot, &instrs)).collect();
    let guarded: Vec<Invariant> = flags
        .iter()
        .flat_map(|flag| own.iter().map(|inner| Invariant::Unless(*flag, Box::new(inner.clone()))))
        .collect();
    own.extend(guarded);
    own.extend(about_integers(place, &changes, &instrs, search));
    for invariant in own {
        if !all.contains(&invariant) {
            all.push(invariant);
        }
    }
    all.truncate(CANDIDATES_MAX);
    all
}

/// Whether a slot is assigned nothing but literals.
fn is_flag(slot: Slot, instrs: &[&Instr]) -> bool {
    let mut assigned = instrs.iter().filter(|instr| instr.targets().any(|out| out == slot)).peekable();
    assigned.peek().is_some()
        && assigned.all(|instr| matches!(instr, Instr::Let { expr: Expr::Const { value: 0 | 1 }, .. }))
}

fn about_sets(place: &Place<'_>, owner: &Principal, changes: &[Slot]) -> Vec<Invariant> {
    let mut all = Vec::new();
    let mut sets = vec![AddrExpr { prefixes: PrefixSet::new(vec![owner.owned()]), ..AddrExpr::default() }];
    let mut instrs = Vec::new();
    all_instrs(place.program.body(), &mut instrs);
    for instr in &instrs {
        if let Instr::If { cond, .. } | Instr::While { cond, .. } = instr {
            sets_of(cond, &mut sets);
        }
    }
    let there = 1..place.program.slots().len() as Slot;
    for &slot in changes {
        match place.ty(slot) {
            Type::Packets => {
                for other in there.clone() {
                    if place.ty(other) == Type::Packets && place.is_there(other) && !changes.contains(&other) {
                        all.push(Invariant::Subset(slot, other));
                    }
                }
                let events = [EventKind::Discard, EventKind::Scan, EventKind::Group];
                all.extend(events.map(|event| Invariant::Allowed(slot, event)));
                all.extend([Field::Dst, Field::Src].map(|field| Invariant::Within(slot, field, sets[0].clone())));
            }
            Type::Addr => {
                let is_in = |addrs: &AddrExpr| Invariant::Cond(Cond::AddrIn { addr: slot, addrs: addrs.clone() });
                all.extend(sets.iter().map(is_in));
            }
            _ => {}
        }
    }
    all
}

fn about_integers(place: &Place<'_>, changes: &[Slot], instrs: &[&Instr], search: &mut Search<'_>) -> Vec<Invariant> {
    let mut all: Vec<Cond> = Vec::new();
    let ints: Vec<Slot> = changes.iter().copied().filter(|slot| place.ty(*slot) == Type::Int).collect();
    let steps: Vec<(Slot, i64)> = instrs.iter().filter_map(|instr| step(instr)).collect();
    let ranges: Vec<(Option<i64>, Option<i64>)> = ints
        .iter()
        .map(|slot| place.slots[usize::from(*slot)].map_or((None, None), |value| search.range(value)))
        .collect();
    for (of, (least, greatest)) in ints.iter().zip(&ranges) {
        all.extend(least.map(|least| at_most(int(least), slot(*of))));
        all.extend(greatest.map(|greatest| at_most(slot(*of), int(greatest))));
    }
    // A condition that holds where a turn begins is passed by no more than a step.
    let passed: BTreeSet<i64> = steps.iter().map(|(_, by)| by.saturating_abs()).chain([1]).collect();
    for cond in &place.conds {
        for by in &passed {
            match cond {
                Cond::AtMost { a, b } => all.push(at_most(a.clone(), plus(b.clone(), *by))),
                Cond::Not { cond } => match &**cond {
                    Cond::AtMost { a, b } => all.push(at_most(b.clone(), plus(a.clone(), *by - 1))),
                    Cond::Equal { a, b } => {
                        all.push(at_most(a.clone(), b.clone()));
                        all.push(at_most(b.clone(), a.clone()));
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }
    for (at, &one) in ints.iter().enumerate() {
        for (behind, &two) in ints.iter().enumerate().skip(at + 1) {
            let by = |slot: Slot| steps.iter().find(|(of, _)| *of == slot).map_or(1, |(_, by)| *by);
            // Where both go on in step, by(two) × one − by(one) × two stays what it was.
            for (m, n) in [(by(two), by(one)), (1, 1), (1, -1)] {
                let start = |ranges: (Option<i64>, Option<i64>)| ranges.0.filter(|least| Some(*least) == ranges.1);
                let (Some(first), Some(second)) = (start(ranges[at]), start(ranges[behind])) else { continue };
                let Some(value) = m.checked_mul(first).zip(n.checked_mul(second)).and_then(|(a, b)| a.checked_sub(b))
                else {
                    continue;
                };
                let sum = if n < 0 {
                    let second = times(n.saturating_neg(), slot(two));
                    Expr::Add { a: Box::new(times(m, slot(one))), b: Box::new(second) }
                } else {
                    minus(times(m, slot(one)), times(n, slot(two)))
                };
                all.push(at_most(sum.clone(), int(value)));
                all.push(at_most(int(value), sum));
            }
        }
    }
    let mut once: Vec<Invariant> = Vec::with_capacity(all.len());
    for cond in all.into_iter().map(Invariant::Cond) {
        if !once.contains(&cond) {
            once.push(cond);
        }
    }
    once
}

/// What may fall in each turn, the best first: what the author says, then the distance that the condition speaks of.
pub fn variants(place: &Place<'_>, hints: &[Hint]) -> Vec<Expr> {
    let mut all: Vec<Expr> =
        hints.iter().filter(|hint| hint.instr == place.instr).filter_map(|hint| hint.variant.clone()).collect();
    for distance in place.own.iter().flat_map(|cond| distances(cond)) {
        // A constant in front is one with the 1 behind it.
        let distance = match distance {
            Expr::Add { a, b } => match (*a, *b) {
                (Expr::Sub { a, b }, Expr::Const { value }) if matches!(*a, Expr::Const { .. }) => {
                    minus(plus(*a, value), *b)
                }
                (a, b) => Expr::Add { a: Box::new(a), b: Box::new(b) },
            },
            other => other,
        };
        if !all.contains(&distance) {
            all.push(distance);
        }
    }
    all
}

/// What a condition that holds says to be positive, or may.
fn distances(cond: &Cond) -> Vec<Expr> {
    match cond {
        Cond::AtMost { a, b } => vec![plus(minus(b.clone(), a.clone()), 1)],
        Cond::Not { cond } => match &**cond {
            Cond::AtMost { a, b } => vec![minus(a.clone(), b.clone())],
            Cond::Equal { a, b } => vec![minus(b.clone(), a.clone()), minus(a.clone(), b.clone())],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}
