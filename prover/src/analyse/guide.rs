//! The maker of the certificate: says of loops and branches what the data-flow analysis found, and shows each
//! obligation that it judged to be allowed.

use super::build::{Builder, Citable};
use super::flow::Flow;
use super::proof;
use super::spans::Spans;
use super::state::{self, Int, Packets, State, Sum, Value};
use super::{AnalysisFailed, Lacking};
use crate::write;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use vinet_trusted::addr::AddrExpr;
use vinet_trusted::check::note;
use vinet_trusted::logic::Kernel;
use vinet_trusted::packet::{Field, Test};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Cond, Expr, Instr, Slot};
use vinet_trusted::proof::Steps;
use vinet_trusted::term::{Id, Op, SetValue, Terms, sort};
use vinet_trusted::walk::{BranchNote, Duty, Guide, LoopNote, Obligation, Site};
use vinet_trusted::wire::{Reader, Wire, Writer};

/// A part of an invariant: the loop, and its number among what could be said there.
pub(super) type Part = (usize, usize);

/// Why the walk ends early.
pub(super) enum Stop {
    Failed(AnalysisFailed),
    /// These parts of invariants cannot be shown: once more, without them.
    Drop(Vec<Part>),
}

/// An obligation about packets that was shown.
struct Done {
    what: Citable,
    block: Option<(usize, usize)>,
    path: Vec<Id>,
}

/// The maker of one certificate.
pub(super) struct Maker<'a> {
    policy: &'a Policy,
    flow: &'a Flow<'a>,
    dropped: &'a BTreeSet<Part>,
    /// How many steps the whole analysis may take yet.
    left: &'a Cell<u32>,
    pub(super) out: Writer,
    /// By the set that they are about.
    done: HashMap<Id, Vec<Done>>,
    shown: u32,
    /// The verdicts that were used, by instruction.
    judged: Vec<usize>,
    /// The parts of each loop's invariant that were said.
    said: Vec<Vec<usize>>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        flow: &'a Flow<'a>,
        dropped: &'a BTreeSet<Part>,
        left: &'a Cell<u32>,
    ) -> Self {
        let count = flow.graph.instrs.len();
        Maker {
            policy,
            flow,
            dropped,
            left,
            out: Writer::new(),
            done: HashMap::new(),
            shown: 0,
            judged: vec![0; count],
            said: vec![Vec::new(); count],
        }
    }

    /// The block that an obligation of `instr` is in; what is asked before each turn is inside the loop.
    fn block(&self, instr: usize, duty: Duty) -> Option<(usize, usize)> {
        let is_turn = matches!(self.flow.graph.instrs[instr], Instr::While { .. } | Instr::Foreach { .. });
        if is_turn && !matches!(duty, Duty::InvariantHolds | Duty::VariantBounded) {
            Some((instr, 0))
        } else {
            self.flow.graph.inside[instr]
        }
    }

    /// What can be cited about a set, where all of `path` is known.
    fn citable(&self, set: Id, path: &[Id], instr: usize, duty: Duty) -> Vec<Citable> {
        let in_own_loop = self.block(instr, duty) == Some((instr, 0));
        let is_known = |done: &&Done| {
            let is_still_in = match done.block {
                Some((outer, _)) if outer == instr => in_own_loop,
                block => self.flow.graph.is_inside_block(instr, block),
            };
            is_still_in && path.starts_with(&done.path)
        };
        self.done.get(&set).into_iter().flatten().filter(is_known).map(|done| done.what).collect()
    }

    /// Proves an obligation on the real kernel; gives the bytes.
    fn prove(&self, kernel: &mut Kernel<'_>, obligation: &Obligation) -> Option<Vec<u8>> {
        let path: Vec<Id> = kernel.path().collect();
        let citable = |set| self.citable(set, &path, obligation.instr, obligation.duty);
        let constants = kernel.terms.constants.len();
        let mut given = vec![obligation.member];
        given.extend(path.iter().copied().map(Some));
        // What was shown where something else was known cannot be cited; where that was misjudged, nothing is.
        for citable in [&citable as &dyn Fn(Id) -> Vec<Citable>, &nothing] {
            let mut builder = Builder::new(&mut kernel.terms, citable, self.left);
            let Some(found) = builder.prove(obligation.member, &path, obligation.goal) else { continue };
            let picked = builder.picked;
            let mut w = Writer::new();
            proof::write(&kernel.terms, &found, obligation.goal, &given, picked, &mut w);
            let bytes = w.finish();
            let mut steps = Steps::new(Reader::new(&bytes, usize::MAX, usize::MAX));
            if steps.show(kernel, obligation.member, obligation.goal).is_ok() {
                return Some(bytes);
            }
            kernel.terms.constants.truncate(constants);
        }
        None
    }

    fn fail(&self, instr: usize, duty: Option<Duty>, why: Lacking) -> Stop {
        Stop::Failed(AnalysisFailed { instr, duty, why, definitions: self.definitions(instr, duty) })
    }

    /// Where what an event happens to was made.
    fn definitions(&self, instr: usize, duty: Option<Duty>) -> Vec<usize> {
        match (duty, self.flow.graph.instrs[instr]) {
            (Some(Duty::Event(..)), Instr::Select { arg, .. }) => self.flow.graph.definitions(instr, *arg).collect(),
            (Some(Duty::Event(_, slot)), _) => self.flow.graph.definitions(instr, slot).collect(),
            _ => Vec::new(),
        }
    }

    /// What the conditions around an instruction lost.
    fn lost_on_the_way(&self, instr: usize) -> state::Lost {
        let (mut lost, mut at) = (0, self.flow.graph.inside[instr]);
        while let Some((outer, _)) = at {
            if let (Instr::If { cond, .. } | Instr::While { cond, .. }, Some(state)) =
                (self.flow.graph.instrs[outer], &self.flow.states[outer])
            {
                lost |= state.lost_by(cond);
            }
            at = self.flow.graph.inside[outer];
        }
        lost
    }

    // ---- What is said of loops ----

    /// What the analysis knows at the head of a loop of the slots that the loop assigns.
    fn invariant(&self, terms: &mut Terms, instr: usize, slots: &[Option<Id>]) -> Vec<Id> {
        let Some(state) = &self.flow.states[instr] else { return Vec::new() };
        let nothing = terms.node(Op::True, 0, 0).ok();
        let mut parts = Vec::new();
        for slot in self.flow.graph.assigned_in(self.flow.graph.instrs[instr]) {
            let Some(held) = slots.get(usize::from(slot)).copied().flatten() else { continue };
            if Some(held) == nothing {
                continue;
            }
            // Without room for more terms less is said.
            let _ = match &state.slots[usize::from(slot)] {
                Some(Value::Int(int)) => int_parts(terms, slot, *int, &mut parts),
                Some(Value::Addr(set, _)) => addr_parts(terms, slot, set, &mut parts),
                Some(Value::Packets(_)) => self.packet_parts(terms, slot, &state.packets(slot), &mut parts),
                _ => Some(()),
            };
        }
        parts
    }

    /// Of each packet of a slot: what the policy asks, as far as it is known.
    fn packet_parts(&self, t: &mut Terms, slot: Slot, packets: &Packets, parts: &mut Vec<Id>) -> Option<()> {
        let packet = t.node(Op::Var, 0, u32::from(sort::PACKET)).ok()?;
        let held = t.node(Op::Slot, u32::from(slot), u32::from(sort::PACKETS)).ok()?;
        let is_in = t.node(Op::In, packet, held).ok()?;
        let mut known = Vec::new();
        for test in [&self.policy.discard, &self.policy.group, &self.policy.scan] {
            self.known(t, packet, packets, &state::resolved(test, self.flow.sense.owner).ok()?, true, &mut known);
        }
        for (field, op) in [(Field::Src, Op::Src), (Field::Dst, Op::Dst)] {
            let addr = t.node(op, packet, 0).ok()?;
            if let Some(set) = tightest(t, &packets.fields[field as usize]) {
                known.push(t.node(Op::In, addr, set).ok()?);
            }
        }
        let mut all: Option<Id> = None;
        for (i, formula) in known.iter().enumerate() {
            if known[..i].contains(formula) {
                continue;
            }
            all = Some(all.map_or(Some(*formula), |all| t.node(Op::And, all, *formula).ok())?);
        }
        let implied = t.node(Op::Implies, is_in, all?).ok()?;
        parts.push(t.node(Op::Forall, u32::from(sort::PACKET), implied).ok()?);
        Some(())
    }

    /// The largest parts of `test`, or of its denial, that all packets pass.
    fn known(&self, t: &mut Terms, packet: Id, packets: &Packets, test: &Test, passes: bool, out: &mut Vec<Id>) {
        if matches!(test, Test::True | Test::False) {
            return;
        }
        if self.flow.sense.all_pass(packets, test, passes) == Ok(true) {
            if let Some(formula) = formula(t, packet, test) {
                out.extend(if passes { Some(formula) } else { t.node(Op::Not, formula, 0).ok() });
            }
            return;
        }
        match test {
            Test::Not { a } => self.known(t, packet, packets, a, !passes, out),
            Test::And { a, b } | Test::Or { a, b } => {
                self.known(t, packet, packets, a, passes, out);
                self.known(t, packet, packets, b, passes, out);
            }
            _ => {}
        }
    }

    /// A variant of a counting loop, and the most that it is: the distance of what its condition compares, where each
    /// turn moves it by a constant.
    fn variant(&self, terms: &mut Terms, instr: usize) -> Option<(Id, u32)> {
        let (Instr::While { cond, max, .. }, Some(state)) = (self.flow.graph.instrs[instr], &self.flow.states[instr])
        else {
            return None;
        };
        let mut candidates = Vec::new();
        distances(cond, true, &mut candidates);
        let mut best: Option<(Id, u32)> = None;
        for (a, b, more) in candidates {
            let Some(sum) = Sum::difference(state, a, b) else { continue };
            let steps: Option<i128> = sum.parts.iter().map(|(slot, n)| Some(self.step_of(instr, *slot)? * n)).sum();
            if steps.is_none_or(|steps| steps >= 0) {
                continue;
            }
            let Some(high) = highest(state, &sum).map(|high| (high + more).max(0)) else { continue };
            let Ok(most) = u32::try_from(high) else { continue };
            if most >= best.map_or(*max, |(_, most)| most) {
                continue;
            }
            let term = term_of(terms, a).zip(term_of(terms, b)).and_then(|(a, b)| terms.node(Op::Sub, a, b).ok());
            let term = term.and_then(|term| match more {
                0 => Some(term),
                _ => terms.int(1).ok().and_then(|one| terms.node(Op::Add, term, one).ok()),
            });
            best = term.map(|term| (term, most)).or(best);
        }
        best
    }

    /// By how much each turn moves a slot: not at all, or by the one definition of it in the loop.
    fn step_of(&self, instr: usize, slot: Slot) -> Option<i128> {
        let graph = &self.flow.graph;
        let inside = (0..graph.instrs.len()).filter(|i| graph.is_inside(*i, instr));
        let mut assigns = inside.filter(|i| graph.instrs[*i].targets().any(|target| target == slot));
        let Some(definition) = assigns.next() else { return Some(0) };
        let reaches = graph.definitions(instr, slot).any(|at| at == definition);
        if assigns.next().is_some() || !reaches || graph.inside[definition] != Some((instr, 0)) {
            return None;
        }
        let same = |expr: &Expr| matches!(expr, Expr::Slot { slot: read } if *read == slot);
        match graph.instrs[definition] {
            Instr::Let { expr: Expr::Add { a, b }, .. } => match (&**a, &**b) {
                (old, Expr::Const { value }) | (Expr::Const { value }, old) if same(old) => Some(i128::from(*value)),
                _ => None,
            },
            Instr::Let { expr: Expr::Sub { a, b }, .. } => match (&**a, &**b) {
                (old, Expr::Const { value }) if same(old) => Some(-i128::from(*value)),
                _ => None,
            },
            _ => None,
        }
    }
}

fn nothing(_: Id) -> Vec<Citable> {
    Vec::new()
}

/// The differences a − b + more of which a condition says that they are 1 at least.
fn distances<'c>(cond: &'c Cond, holds: bool, all: &mut Vec<(&'c Expr, &'c Expr, i128)>) {
    match cond {
        Cond::AtMost { a, b } => all.push(if holds { (b, a, 1) } else { (a, b, 0) }),
        Cond::Not { cond } => distances(cond, !holds, all),
        Cond::And { a, b } if holds => {
            distances(a, true, all);
            distances(b, true, all);
        }
        Cond::Or { a, b } if !holds => {
            distances(a, false, all);
            distances(b, false, all);
        }
        _ => {}
    }
}

fn highest(state: &State, sum: &Sum) -> Option<i128> {
    let parts = sum.parts.iter().map(|(slot, n)| {
        let Int { low, high, .. } = state.int(*slot);
        Some(i128::from(if *n > 0 { high } else { low }?) * n)
    });
    parts.sum::<Option<i128>>()?.checked_add(sum.more)
}

/// An expression as a term of a note.
fn term_of(t: &mut Terms, expr: &Expr) -> Option<Id> {
    let (op, a, b) = match expr {
        Expr::Const { value } => return t.int(*value).ok(),
        Expr::Slot { slot } => return t.node(Op::Slot, u32::from(*slot), u32::from(sort::INT)).ok(),
        Expr::Add { a, b } => (Op::Add, a, b),
        Expr::Sub { a, b } => (Op::Sub, a, b),
        Expr::Mul { a, b } => (Op::Mul, a, b),
    };
    let (a, b) = (term_of(t, a)?, term_of(t, b)?);
    t.node(op, a, b).ok()
}

fn int_parts(t: &mut Terms, slot: Slot, int: Int, parts: &mut Vec<Id>) -> Option<()> {
    let held = t.node(Op::Slot, u32::from(slot), u32::from(sort::INT)).ok()?;
    if let Some(low) = int.low {
        let low = t.int(low).ok()?;
        parts.push(t.node(Op::Le, low, held).ok()?);
    }
    if let Some(high) = int.high {
        let high = t.int(high).ok()?;
        parts.push(t.node(Op::Le, held, high).ok()?);
    }
    Some(())
}

fn addr_parts(t: &mut Terms, slot: Slot, set: &Spans<vinet_trusted::addr::Addr>, parts: &mut Vec<Id>) -> Option<()> {
    let held = t.node(Op::Slot, u32::from(slot), u32::from(sort::ADDR)).ok()?;
    let within = tightest(t, set)?;
    parts.push(t.node(Op::In, held, within).ok()?);
    Some(())
}

/// The smallest set of program and policy, as far as the walk has come, in which all of `spans` is.
fn tightest(t: &mut Terms, spans: &Spans<vinet_trusted::addr::Addr>) -> Option<Id> {
    let mut best: Option<(usize, Spans<_>)> = None;
    for (number, set) in t.sets.iter().enumerate() {
        let SetValue::Addrs(set) = set else { continue };
        let set = Spans::from(set);
        if spans.is_within(&set) && best.as_ref().is_none_or(|(_, old)| set.is_within(old)) {
            best = Some((number, set));
        }
    }
    t.node(Op::Set, best?.0 as u32, 0).ok()
}

/// What a resolved test says of a packet; nothing where it speaks of a set that the walk has not come to.
fn formula(t: &mut Terms, packet: Id, test: &Test) -> Option<Id> {
    let set = |t: &mut Terms, value: SetValue| {
        let number = t.sets.iter().position(|set| *set == value)?;
        t.node(Op::Set, number as u32, 0).ok()
    };
    match test {
        Test::True => t.node(Op::True, 0, 0).ok(),
        Test::False => t.node(Op::False, 0, 0).ok(),
        Test::In { field, addrs: AddrExpr { prefixes, .. } } => {
            let set = set(t, SetValue::Addrs(prefixes.clone()))?;
            let addr = t.node(if *field == Field::Src { Op::Src } else { Op::Dst }, packet, 0).ok()?;
            t.node(Op::In, addr, set).ok()
        }
        Test::Number { number, ranges } => {
            let set = set(t, SetValue::Numbers(ranges.clone()))?;
            let number = t.node(Op::Num, packet, *number as u32).ok()?;
            t.node(Op::In, number, set).ok()
        }
        Test::Not { a } => {
            let a = formula(t, packet, a)?;
            t.node(Op::Not, a, 0).ok()
        }
        Test::And { a, b } | Test::Or { a, b } => {
            let (a, b) = (formula(t, packet, a)?, formula(t, packet, b)?);
            t.node(if matches!(test, Test::And { .. }) { Op::And } else { Op::Or }, a, b).ok()
        }
        Test::Owns { .. } | Test::Is { .. } => None,
    }
}

impl Guide for Maker<'_> {
    type Fault = Stop;

    fn program(&mut self, _: &mut Kernel<'_>) -> Result<Option<u64>, Stop> {
        self.out.byte(note::NONE);
        Ok(None)
    }

    fn branch(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> Result<BranchNote, Stop> {
        let dead = self.flow.dead[site.instr];
        let path: Vec<Id> = kernel.path().collect();
        let mut never = |fails: bool| {
            let cond = site.cond?;
            let last = if fails { kernel.terms.node(Op::Not, cond, 0).ok()? } else { cond };
            let goal = kernel.terms.node(Op::False, 0, 0).ok()?;
            let path: Vec<Id> = path.iter().copied().chain([last]).collect();
            let mut builder = Builder::new(&mut kernel.terms, &nothing, self.left);
            builder.prove(None, &path, goal).map(|_| ())
        };
        let said = if dead[0] && never(false).is_some() {
            BranchNote::ThenDead
        } else if dead[1] && never(true).is_some() {
            BranchNote::ElseDead
        } else {
            BranchNote::Live
        };
        self.out.byte(match said {
            BranchNote::Live => note::LIVE,
            BranchNote::ThenDead => note::THEN_DEAD,
            BranchNote::ElseDead => note::ELSE_DEAD,
        });
        Ok(said)
    }

    fn turn(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> Result<LoopNote, Stop> {
        let terms = &mut kernel.terms;
        let parts = self.invariant(terms, site.instr, site.slots);
        let mut said = LoopNote::default();
        self.said[site.instr].clear();
        for (i, part) in parts.into_iter().enumerate() {
            if !self.dropped.contains(&(site.instr, i)) {
                self.said[site.instr].push(i);
                said.invariant = match said.invariant {
                    None => Some(part),
                    Some(all) => Some(terms.node(Op::And, all, part).unwrap_or(all)),
                };
            }
        }
        said.variant = self.variant(terms, site.instr);
        let flags = if said.invariant.is_some() { note::INVARIANT } else { 0 }
            | if said.variant.is_some() { note::VARIANT } else { 0 };
        self.out.byte(flags);
        if let Some(invariant) = said.invariant {
            write::term(terms, invariant, &mut self.out);
        }
        if let Some((variant, most)) = said.variant {
            write::term(terms, variant, &mut self.out);
            most.write(&mut self.out);
        }
        Ok(said)
    }

    fn show(&mut self, kernel: &mut Kernel<'_>, _: &Site<'_>, obligation: &Obligation) -> Result<(), Stop> {
        let Obligation { instr, duty, member, goal } = *obligation;
        if matches!(duty, Duty::Event(..)) {
            let verdict = self.flow.verdicts[instr].get(self.judged[instr]).copied();
            self.judged[instr] += 1;
            if let Some(verdict) = verdict.filter(|v| !v.allowed) {
                // Where the set itself lost nothing, the way to here may be one that is never taken.
                let lost = if verdict.lost == 0 { self.lost_on_the_way(instr) } else { verdict.lost };
                return Err(self.fail(instr, Some(duty), Lacking::of(lost)));
            }
        }
        let Some(bytes) = self.prove(kernel, obligation) else {
            if matches!(duty, Duty::InvariantHolds | Duty::InvariantKept) {
                let said = self.said[instr].clone();
                let path: Vec<Id> = kernel.path().collect();
                let mut builder = Builder::new(&mut kernel.terms, &nothing, self.left);
                let provable = builder.provable(&path, goal, said.len());
                let lost = said.iter().zip(provable).filter(|(_, provable)| !provable).map(|(i, _)| (instr, *i));
                let lost: Vec<Part> = lost.collect();
                if !lost.is_empty() {
                    return Err(Stop::Drop(lost));
                }
            }
            return Err(self.fail(instr, Some(duty), Lacking::Steps));
        };
        self.out.bytes(&bytes);
        if let Some(member) = member {
            let set = kernel.terms.get(member).args[1];
            let path = kernel.path().collect();
            let block = self.block(instr, duty);
            let what = Citable { goal, number: self.shown };
            self.done.entry(set).or_default().push(Done { what, block, path });
        }
        self.shown += 1;
        Ok(())
    }
}
