//! Abstract values: what the analysis knows of a slot at a place, whatever way was taken to it.
//!
//! A set of packets has, for each address and number of the header on its own, where all of its packets have it; which
//! addresses of slots they share; and which tests they have all passed (available expressions). An integer has an
//! interval, an address a set. No value knows of another one, but for shared addresses. What was lost on the way is
//! remembered, so that a failure can name the domain that would be needed.

use super::spans::Spans;
use std::collections::BTreeSet;
use vinet_trusted::addr::{Addr, AddrExpr, PrefixSet, Principal, Unset};
use vinet_trusted::packet::{Field, Test};
use vinet_trusted::program::{AddrTerm, COUNT_MAX, Cond, Expr, Program, Slot};

/// What a value lost: bits, the later ones the more telling.
pub(super) type Lost = u8;
/// Two ways met, and the value was another one on each.
pub(super) const JOIN: Lost = 1;
/// It changed in a loop.
pub(super) const LOOP: Lost = 2;
/// Packets were taken out of a set because they are in another one.
pub(super) const SETS: Lost = 4;
/// Two integers were found to be different.
pub(super) const DIFFERENT: Lost = 8;
/// Several numbers or addresses of a header were tested together.
pub(super) const HEADERS: Lost = 16;
/// Two variables were compared.
pub(super) const RELATION: Lost = 32;
/// Two variables were multiplied.
pub(super) const PRODUCT: Lost = 64;

/// What is known of a set of packets, or of the packets of groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Packets {
    pub(super) fields: [Spans<Addr>; 2],
    pub(super) numbers: [Spans<u32>; 10],
    /// The address of all of them is the one that the slot holds.
    shared: BTreeSet<(Field, Slot)>,
    /// Tests that all of them pass, or fail; by their numbers in [`Tests`].
    passed: BTreeSet<(usize, bool)>,
    pub(super) lost: Lost,
}

impl Packets {
    fn all() -> Packets {
        Packets {
            fields: [Spans::all(), Spans::all()],
            numbers: std::array::from_fn(|_| Spans::all()),
            shared: BTreeSet::new(),
            passed: BTreeSet::new(),
            lost: 0,
        }
    }
    fn is_empty(&self) -> bool {
        self.fields.iter().any(Spans::is_empty) || self.numbers.iter().any(Spans::is_empty)
    }
    pub(super) fn join(&self, other: &Packets) -> Packets {
        if self.is_empty() || other.is_empty() {
            let mut more = if self.is_empty() { other.clone() } else { self.clone() };
            more.lost |= self.lost | other.lost;
            return more;
        }
        Packets {
            fields: std::array::from_fn(|i| self.fields[i].union(&other.fields[i])),
            numbers: std::array::from_fn(|i| self.numbers[i].union(&other.numbers[i])),
            shared: self.shared.intersection(&other.shared).copied().collect(),
            passed: self.passed.intersection(&other.passed).copied().collect(),
            lost: self.lost | other.lost | if self.says_the_same(other) { 0 } else { JOIN },
        }
    }
    fn says_the_same(&self, other: &Packets) -> bool {
        self.fields == other.fields
            && self.numbers == other.numbers
            && self.shared == other.shared
            && self.passed == other.passed
    }
    fn widen(&self, newer: Packets, stops: &[Spans<Addr>]) -> Packets {
        if self.says_the_same(&newer) {
            return newer;
        }
        let fields = std::array::from_fn(|i| widened(&self.fields[i], &newer.fields[i], stops));
        let numbers = std::array::from_fn(|i| widened(&self.numbers[i], &newer.numbers[i], &[]));
        Packets { fields, numbers, lost: newer.lost | LOOP, ..newer }
    }
}

/// Where widening stops.
pub(super) struct Stops {
    /// The integers of the program and their neighbours, rising.
    pub(super) integers: Vec<i64>,
    /// The sets of addresses of program, owner and policy.
    pub(super) sets: Vec<Spans<Addr>>,
}

/// What changes goes on to the smallest of `stops` that it is in.
fn widened<K: super::spans::Point>(old: &Spans<K>, new: &Spans<K>, stops: &[Spans<K>]) -> Spans<K> {
    if old == new {
        return new.clone();
    }
    let wider = stops.iter().filter(|stop| new.is_within(stop));
    wider.fold(Spans::all(), |least, stop| if stop.is_within(&least) { stop.clone() } else { least })
}

/// An interval; no bound where nothing is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Int {
    pub(super) low: Option<i64>,
    pub(super) high: Option<i64>,
    /// It is this very literal on every way.
    pub(super) literal: Option<i64>,
    pub(super) lost: Lost,
}

impl Int {
    const ANY: Int = Int { low: None, high: None, literal: None, lost: 0 };
    fn literal(value: i64) -> Int {
        Int { low: Some(value), high: Some(value), literal: Some(value), lost: 0 }
    }
    fn between(low: Option<i128>, high: Option<i128>, lost: Lost) -> Int {
        let fits = |bound: Option<i128>| bound.and_then(|b| i64::try_from(b).ok());
        Int { low: fits(low), high: fits(high), literal: None, lost }
    }
    fn wide(self) -> (Option<i128>, Option<i128>) {
        (self.low.map(i128::from), self.high.map(i128::from))
    }
    fn join(self, other: Int) -> Int {
        let same = (self.low, self.high) == (other.low, other.high);
        Int {
            low: self.low.zip(other.low).map(|(a, b)| a.min(b)),
            high: self.high.zip(other.high).map(|(a, b)| a.max(b)),
            literal: self.literal.filter(|_| self.literal == other.literal),
            lost: self.lost | other.lost | if same { 0 } else { JOIN },
        }
    }
    /// A bound that moved goes on to the next of `stops`.
    fn widen(self, newer: Int, stops: &[i64]) -> Int {
        if (self.low, self.high) == (newer.low, newer.high) {
            return newer;
        }
        let low = newer.low.and_then(|new| {
            if self.low.is_some_and(|old| old <= new) {
                self.low
            } else {
                stops.iter().rev().copied().find(|s| *s <= new)
            }
        });
        let high = newer.high.and_then(|new| {
            if self.high.is_some_and(|old| old >= new) { self.high } else { stops.iter().copied().find(|s| *s >= new) }
        });
        Int { low, high, literal: newer.literal, lost: newer.lost | LOOP }
    }
}

/// What a slot holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Packets(Packets),
    Addr(Spans<Addr>, Lost),
    Int(Int),
    /// What GENERATE sends; nothing is known of it.
    Data,
}

/// What is known at a place. Slots that are not assigned on every way hold nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct State {
    pub(super) slots: Vec<Option<Value>>,
}

/// The tests of policy and program that say more than where one address or number is, for one owner.
#[derive(Default)]
pub(super) struct Tests {
    known: Vec<Test>,
}

impl Tests {
    fn number(&mut self, test: &Test) -> usize {
        self.known.iter().position(|known| known == test).unwrap_or_else(|| {
            self.known.push(test.clone());
            self.known.len() - 1
        })
    }
    fn find(&self, test: &Test) -> Option<usize> {
        self.known.iter().position(|known| known == test)
    }
}

/// `test` for one owner: with sets in the place of names, so that tests that say the same are the same.
pub(super) fn resolved(test: &Test, owner: &Principal) -> Result<Test, Unset> {
    let within = |field, set| Test::In { field, addrs: AddrExpr { prefixes: set, ..AddrExpr::default() } };
    Ok(match test {
        Test::Owns { field } => within(*field, PrefixSet::new(vec![owner.owned()])),
        Test::In { field, addrs } => within(*field, addrs.resolve(owner)?),
        Test::Not { a } => Test::Not { a: Box::new(resolved(a, owner)?) },
        Test::And { a, b } => Test::And { a: Box::new(resolved(a, owner)?), b: Box::new(resolved(b, owner)?) },
        Test::Or { a, b } => Test::Or { a: Box::new(resolved(a, owner)?), b: Box::new(resolved(b, owner)?) },
        other => other.clone(),
    })
}

/// A sum of slots, each so many times, and a constant.
pub(super) struct Sum {
    pub(super) parts: Vec<(Slot, i128)>,
    pub(super) more: i128,
}

impl Sum {
    fn add(&mut self, state: &State, expr: &Expr, times: i128) -> Option<()> {
        match expr {
            Expr::Const { value } => self.more = self.more.checked_add(times.checked_mul(i128::from(*value))?)?,
            Expr::Slot { slot } => match self.parts.iter_mut().find(|(s, _)| s == slot) {
                Some((_, n)) => *n = n.checked_add(times)?,
                None => self.parts.push((*slot, times)),
            },
            Expr::Add { a, b } => {
                self.add(state, a, times)?;
                self.add(state, b, times)?;
            }
            Expr::Sub { a, b } => {
                self.add(state, a, times)?;
                self.add(state, b, times.checked_neg()?)?;
            }
            Expr::Mul { a, b } => match (state.literal(a), state.literal(b)) {
                (Some(n), _) => self.add(state, b, times.checked_mul(i128::from(n))?)?,
                (_, Some(n)) => self.add(state, a, times.checked_mul(i128::from(n))?)?,
                _ => return None,
            },
        }
        Some(())
    }
    /// a − b, if it is such a sum.
    pub(super) fn difference(state: &State, a: &Expr, b: &Expr) -> Option<Sum> {
        let mut sum = Sum { parts: Vec::new(), more: 0 };
        sum.add(state, a, 1)?;
        sum.add(state, b, -1)?;
        sum.parts.retain(|(_, n)| *n != 0);
        Some(sum)
    }
}

impl State {
    pub(super) fn at_start(program: &Program) -> State {
        let mut slots = vec![None; program.slots().len()];
        slots[0] = Some(Value::Packets(Packets::all()));
        State { slots }
    }

    pub(super) fn packets(&self, slot: Slot) -> Packets {
        match &self.slots[usize::from(slot)] {
            Some(Value::Packets(packets)) => {
                let mut packets = packets.clone();
                for (field, key) in packets.shared.clone() {
                    packets.fields[field as usize] = packets.fields[field as usize].meet(&self.addrs(key).0);
                }
                packets
            }
            _ => Packets::all(),
        }
    }
    pub(super) fn addrs(&self, slot: Slot) -> (Spans<Addr>, Lost) {
        match &self.slots[usize::from(slot)] {
            Some(Value::Addr(set, lost)) => (set.clone(), *lost),
            _ => (Spans::all(), 0),
        }
    }
    pub(super) fn int(&self, slot: Slot) -> Int {
        match self.slots[usize::from(slot)] {
            Some(Value::Int(int)) => int,
            _ => Int::ANY,
        }
    }
    /// What an address is, and what it lost.
    pub(super) fn address(&self, term: &AddrTerm, owner: &Principal) -> Result<(Spans<Addr>, Lost), Unset> {
        let addr = match term {
            AddrTerm::Slot { slot } => return Ok(self.addrs(*slot)),
            AddrTerm::Const { addr } => *addr,
            AddrTerm::ThisIp => owner.this_ip().ok_or(Unset::ThisIp)?,
            AddrTerm::ThisSubnet => owner.this_subnet().ok_or(Unset::ThisSubnet)?.addr(),
        };
        Ok((Spans::of(vec![(addr, addr)]), 0))
    }

    pub(super) fn literal(&self, expr: &Expr) -> Option<i64> {
        match expr {
            Expr::Const { value } => Some(*value),
            Expr::Slot { slot } => self.int(*slot).literal,
            _ => None,
        }
    }
    pub(super) fn value(&self, expr: &Expr) -> Int {
        match expr {
            Expr::Const { value } => Int::literal(*value),
            Expr::Slot { slot } => self.int(*slot),
            Expr::Add { a, b } | Expr::Sub { a, b } => {
                let (a, mut b) = (self.value(a), self.value(b));
                if matches!(expr, Expr::Sub { .. }) {
                    let (low, high) = b.wide();
                    b = Int::between(high.map(|n| -n), low.map(|n| -n), b.lost);
                }
                let ((a_low, a_high), (b_low, b_high)) = (a.wide(), b.wide());
                let sum = |x: Option<i128>, y: Option<i128>| x.zip(y).map(|(x, y)| x + y);
                let mut slots = Vec::new();
                read_by(expr, &mut slots);
                let relation = if slots.len() > 1 { RELATION } else { 0 };
                Int::between(sum(a_low, b_low), sum(a_high, b_high), a.lost | b.lost | relation)
            }
            Expr::Mul { a, b } => {
                let (x, y) = (self.value(a), self.value(b));
                let (times, value) = match (self.literal(a), self.literal(b)) {
                    (Some(n), _) => (i128::from(n), y),
                    (_, Some(n)) => (i128::from(n), x),
                    _ => return Int { lost: x.lost | y.lost | PRODUCT, ..Int::ANY },
                };
                let (low, high) = value.wide();
                let (low, high) = (low.map(|n| n * times), high.map(|n| n * times));
                if times < 0 { Int::between(high, low, value.lost) } else { Int::between(low, high, value.lost) }
            }
        }
    }

    /// Assigns a slot. What shared the address that it held keeps what was known of it.
    pub(super) fn assign(&mut self, slot: Slot, value: Option<Value>) {
        let (old, _) = self.addrs(slot);
        for held in self.slots.iter_mut().flatten() {
            if let Value::Packets(packets) = held {
                for field in [Field::Src, Field::Dst] {
                    if packets.shared.remove(&(field, slot)) {
                        packets.fields[field as usize] = packets.fields[field as usize].meet(&old);
                    }
                }
            }
        }
        self.slots[usize::from(slot)] = value;
    }

    /// The state of a foreach's block with one of the groups.
    pub(super) fn enter(&mut self, groups: Slot, field: Field, packets: Slot, key: Slot) {
        let mut members = self.packets(groups);
        let common = Value::Addr(members.fields[field as usize].clone(), members.lost);
        self.assign(packets, None);
        self.assign(key, Some(common));
        members.shared.insert((field, key));
        self.slots[usize::from(packets)] = Some(Value::Packets(members));
    }

    /// What holds whichever of the two is the case.
    pub(super) fn join(&self, other: &State) -> State {
        let slots = (0..self.slots.len()).map(|slot| {
            Some(match (self.slots[slot].as_ref()?, other.slots[slot].as_ref()?) {
                (Value::Packets(a), Value::Packets(b)) => {
                    if a.shared == b.shared {
                        Value::Packets(a.join(b))
                    } else {
                        Value::Packets(self.packets(slot as Slot).join(&other.packets(slot as Slot)))
                    }
                }
                (Value::Addr(a, x), Value::Addr(b, y)) => {
                    Value::Addr(a.union(b), x | y | if a == b { 0 } else { JOIN })
                }
                (Value::Int(a), Value::Int(b)) => Value::Int(a.join(*b)),
                _ => Value::Data,
            })
        });
        State { slots: slots.collect() }
    }

    /// A state that is no less than `newer`, and in which every chain of such steps ends.
    pub(super) fn widen(&self, newer: State, stops: &Stops) -> State {
        let slots = self.slots.iter().zip(newer.slots).map(|(old, new)| {
            Some(match (old.as_ref()?, new?) {
                (Value::Packets(a), Value::Packets(b)) => Value::Packets(a.widen(b, &stops.sets)),
                (Value::Addr(a, _), Value::Addr(b, lost)) => {
                    Value::Addr(widened(a, &b, &stops.sets), lost | if *a == b { 0 } else { LOOP })
                }
                (Value::Int(a), Value::Int(b)) => Value::Int(a.widen(b, &stops.integers)),
                (_, new) => new,
            })
        });
        State { slots: slots.collect() }
    }
}

/// What tests and conditions are understood with.
pub(super) struct Sense<'a> {
    pub(super) owner: &'a Principal,
    pub(super) tests: Tests,
}

impl Sense<'_> {
    /// The packets of `packets` that pass `test`, or fail it.
    pub(super) fn pass(
        &mut self,
        state: &State,
        packets: &Packets,
        test: &Test,
        passes: bool,
    ) -> Result<Packets, Unset> {
        let mut out = packets.clone();
        let cut = |spans: &mut Spans<Addr>, set: &Spans<Addr>| {
            *spans = if passes { spans.meet(set) } else { spans.minus(set) };
        };
        match test {
            Test::True | Test::False => {
                if matches!(test, Test::True) != passes {
                    out.fields = [Spans::none(), Spans::none()];
                }
            }
            Test::Owns { field } => {
                let owned = PrefixSet::new(vec![self.owner.owned()]);
                cut(&mut out.fields[*field as usize], &(&owned).into());
            }
            Test::In { field, addrs } => {
                cut(&mut out.fields[*field as usize], &(&addrs.resolve(self.owner)?).into());
            }
            Test::Is { field, slot } => {
                let (held, lost) = state.addrs(*slot);
                if passes {
                    cut(&mut out.fields[*field as usize], &held);
                    out.shared.insert((*field, *slot));
                    out.lost |= lost;
                }
            }
            Test::Number { number, ranges } => {
                let (spans, set) = (&mut out.numbers[*number as usize], Spans::from(ranges));
                *spans = if passes { spans.meet(&set) } else { spans.minus(&set) };
            }
            Test::Not { a } => return self.pass(state, packets, a, !passes),
            Test::And { a, b } | Test::Or { a, b } => {
                if matches!(test, Test::And { .. }) == passes {
                    let first = self.pass(state, packets, a, passes)?;
                    out = self.pass(state, &first, b, passes)?;
                } else {
                    let one = self.pass(state, packets, a, passes)?;
                    let other = self.pass(state, packets, b, passes)?;
                    out = one.join(&other);
                    out.lost = packets.lost | HEADERS;
                }
            }
        }
        if matches!(test, Test::And { .. } | Test::Or { .. }) && test.slots(&mut |_| Err(())).is_ok() {
            let number = self.tests.number(&resolved(test, self.owner)?);
            out.passed.insert((number, passes));
        }
        Ok(out)
    }

    /// Whether all of `packets` are known to pass `test`, or to fail it.
    pub(super) fn all_pass(&self, packets: &Packets, test: &Test, passes: bool) -> Result<bool, Unset> {
        if packets.is_empty() {
            return Ok(true);
        }
        let lies = |field: Field, set: &Spans<Addr>| {
            let spans = &packets.fields[field as usize];
            if passes { spans.is_within(set) } else { spans.is_disjoint(set) }
        };
        Ok(match test {
            Test::True => passes,
            Test::False => !passes,
            Test::Owns { field } => lies(*field, &(&PrefixSet::new(vec![self.owner.owned()])).into()),
            Test::In { field, addrs } => lies(*field, &(&addrs.resolve(self.owner)?).into()),
            Test::Is { .. } => false,
            Test::Number { number, ranges } => {
                let (spans, set) = (&packets.numbers[*number as usize], Spans::from(ranges));
                if passes { spans.is_within(&set) } else { spans.is_disjoint(&set) }
            }
            Test::Not { a } => self.all_pass(packets, a, !passes)?,
            Test::And { a, b } | Test::Or { a, b } => {
                let known = self.tests.find(&resolved(test, self.owner)?);
                let (a, b) = (self.all_pass(packets, a, passes)?, self.all_pass(packets, b, passes)?);
                let both = matches!(test, Test::And { .. }) == passes;
                known.is_some_and(|n| packets.passed.contains(&(n, passes))) || if both { a && b } else { a || b }
            }
        })
    }

    /// Whether `test`, which is of addresses alone, holds of what goes from `src` to `dst`.
    pub(super) fn all_pass_between(&self, src: Spans<Addr>, dst: Spans<Addr>, test: &Test) -> Result<bool, Unset> {
        self.all_pass(&Packets { fields: [src, dst], ..Packets::all() }, test, true)
    }

    /// The states where `cond` holds and where it does not. `scan` is told of each set that is looked into, and where.
    pub(super) fn ask(
        &mut self,
        state: &State,
        cond: &Cond,
        scan: &mut dyn FnMut(&mut Self, &State, Slot) -> Result<(), Unset>,
    ) -> Result<[Option<State>; 2], Unset> {
        let both = [Some(state.clone()), Some(state.clone())];
        Ok(match cond {
            Cond::Contains { arg, word: _ } => {
                scan(self, state, *arg)?;
                both
            }
            Cond::Empty { arg } => {
                let mut empty = state.clone();
                if let Some(Value::Packets(packets)) = &mut empty.slots[usize::from(*arg)] {
                    packets.fields = [Spans::none(), Spans::none()];
                }
                [Some(empty), Some(state.clone())]
            }
            Cond::AddrIn { addr, addrs } => {
                let set = Spans::from(&addrs.resolve(self.owner)?);
                let (held, lost) = state.addrs(*addr);
                let with = |spans: Spans<Addr>| {
                    let mut state = state.clone();
                    let is_some = !spans.is_empty();
                    state.slots[usize::from(*addr)] = Some(Value::Addr(spans, lost));
                    is_some.then_some(state)
                };
                [with(held.meet(&set)), with(held.minus(&set))]
            }
            Cond::AddrIs { addr, is } => {
                let ((held, lost), (other, more)) = (state.addrs(*addr), state.address(is, self.owner)?);
                let (same, mut yes) = (held.meet(&other), state.clone());
                let relation = if matches!(is, AddrTerm::Slot { .. }) { RELATION } else { 0 };
                yes.slots[usize::from(*addr)] = Some(Value::Addr(same.clone(), lost | more | relation));
                if let AddrTerm::Slot { slot } = is {
                    yes.slots[usize::from(*slot)] = Some(Value::Addr(same.clone(), lost | more | relation));
                }
                [(!same.is_empty()).then_some(yes), Some(state.clone())]
            }
            Cond::AtMost { a, b } => [compared(state, a, b, 0), compared(state, b, a, 1)],
            Cond::Equal { a, b } => {
                let low = compared(state, a, b, 0);
                let same = low.and_then(|state| compared(&state, b, a, 0));
                let mut other = Some(state.clone());
                match (state.literal(a), state.literal(b)) {
                    (Some(a), Some(b)) if a == b => other = None,
                    (Some(_), Some(_)) => {}
                    _ => other.iter_mut().for_each(|state| lose(state, [a, b], DIFFERENT)),
                }
                [same, other]
            }
            Cond::Not { cond } => {
                let [yes, no] = self.ask(state, cond, scan)?;
                [no, yes]
            }
            Cond::And { a, b } | Cond::Or { a, b } => {
                let is_and = matches!(cond, Cond::And { .. });
                let [yes, no] = self.ask(state, a, scan)?;
                let (open, settled) = if is_and { (yes, no) } else { (no, yes) };
                let Some(open) = open else {
                    // The right side is never looked at, but what has to be shown of it has to be shown.
                    let mut nowhere = state.clone();
                    nowhere.slots.iter_mut().flatten().for_each(|value| {
                        if let Value::Packets(packets) = value {
                            packets.fields = [Spans::none(), Spans::none()];
                        }
                    });
                    self.ask(&nowhere, b, scan)?;
                    return Ok(if is_and { [None, settled] } else { [settled, None] });
                };
                let [yes, no] = self.ask(&open, b, scan)?;
                let meet = |a: Option<State>, b: Option<State>| match (a, b) {
                    (Some(a), Some(b)) => Some(a.join(&b)),
                    (a, b) => a.or(b),
                };
                if is_and { [yes, meet(settled, no)] } else { [meet(settled, yes), no] }
            }
        })
    }
}

/// The slots that an expression reads, each as often as it does.
fn read_by(expr: &Expr, all: &mut Vec<Slot>) {
    match expr {
        Expr::Const { .. } => {}
        Expr::Slot { slot } => all.push(*slot),
        Expr::Add { a, b } | Expr::Sub { a, b } | Expr::Mul { a, b } => {
            read_by(a, all);
            read_by(b, all);
        }
    }
}

fn lose(state: &mut State, exprs: [&Expr; 2], lost: Lost) {
    let mut all = Vec::new();
    exprs.iter().for_each(|expr| read_by(expr, &mut all));
    for slot in all {
        if let Some(Value::Int(int)) = &mut state.slots[usize::from(slot)] {
            int.lost |= lost;
        }
    }
}

/// The state where a + more ≤ b; none where that is impossible.
fn compared(state: &State, a: &Expr, b: &Expr, more: i128) -> Option<State> {
    let mut out = state.clone();
    let Some(mut sum) = Sum::difference(state, a, b) else {
        lose(&mut out, [a, b], PRODUCT);
        return Some(out);
    };
    sum.more += more;
    let least = |(slot, times): &(Slot, i128)| {
        let (low, high) = state.int(*slot).wide();
        if *times > 0 { low } else { high }.map(|bound| bound * times)
    };
    let all: Option<i128> = sum.parts.iter().map(least).sum();
    if all.is_some_and(|all| all + sum.more > 0) {
        return None;
    }
    for (i, (slot, times)) in sum.parts.iter().enumerate() {
        if times.abs() != 1 {
            continue;
        }
        let others: Option<i128> =
            sum.parts.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, part)| least(part)).sum();
        let Some(most) = others.map(|others| -sum.more - others).and_then(|m| i64::try_from(m).ok()) else { continue };
        if let Some(Value::Int(int)) = &mut out.slots[usize::from(*slot)] {
            if *times > 0 {
                int.high = Some(int.high.map_or(most, |high| high.min(most)));
            } else {
                int.low = Some(int.low.map_or(-most, |low| low.max(-most)));
            }
        }
    }
    if sum.parts.len() > 1 {
        lose(&mut out, [a, b], RELATION);
    }
    Some(out)
}

/// What COUNT_STRING or the size of a set can be.
pub(super) fn counted(most: i64) -> Value {
    Value::Int(Int { low: Some(0), high: Some(most.min(COUNT_MAX)), literal: None, lost: 0 })
}

impl State {
    /// What the values that a condition asks about lost.
    pub(super) fn lost_by(&self, cond: &Cond) -> Lost {
        match cond {
            Cond::Contains { .. } | Cond::Empty { .. } => 0,
            Cond::AddrIn { addr, .. } => self.addrs(*addr).1,
            Cond::AddrIs { addr, is } => match is {
                AddrTerm::Slot { slot } => RELATION | self.addrs(*addr).1 | self.addrs(*slot).1,
                _ => self.addrs(*addr).1,
            },
            Cond::AtMost { a, b } | Cond::Equal { a, b } => {
                let mut slots = Vec::new();
                read_by(a, &mut slots);
                read_by(b, &mut slots);
                let lost = slots.iter().fold(0, |lost, slot| lost | self.int(*slot).lost);
                lost | if slots.len() > 1 { RELATION } else { 0 }
            }
            Cond::Not { cond } => self.lost_by(cond),
            Cond::And { a, b } | Cond::Or { a, b } => self.lost_by(a) | self.lost_by(b),
        }
    }

    /// Remembers what `older` lost, though the values are tighter now.
    pub(super) fn remember(&mut self, older: &State) {
        for (new, old) in self.slots.iter_mut().zip(&older.slots) {
            match (new, old) {
                (Some(Value::Packets(new)), Some(Value::Packets(old))) => new.lost |= old.lost,
                (Some(Value::Addr(_, new)), Some(Value::Addr(_, old))) => *new |= old,
                (Some(Value::Int(new)), Some(Value::Int(old))) => new.lost |= old.lost,
                _ => {}
            }
        }
    }
}
