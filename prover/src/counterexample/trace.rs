//! A run of a program as the reference interpreter does it, with the instruction of each event and a limit of steps.
//!
//! What is found with it is asked of the reference again, so it has to be right only to be useful.

use super::{Answer, Answered};
use std::collections::{BTreeMap, BTreeSet};
use vinet_trusted::addr::{Addr, Principal, Unset};
use vinet_trusted::meaning::{Answers, Data, Event};
use vinet_trusted::packet::{Field, Packet};
use vinet_trusted::program::{ALL_PACKETS, AddrTerm, COUNT_MAX, Cond, Expr, Instr, Program, Slot, Word};

/// The most addresses that are kept of those that a run computes.
const COMPUTED_MAX: usize = 16;

/// Answers as they are laid down; behind that the first of the possible ones. The same question has the same answer.
pub(super) struct Script<'a> {
    counts: &'a [u64],
    /// Which of the possible answers each new question gets.
    choices: &'a [usize],
    pub(super) asked: Vec<Answered>,
    /// How many answers each question had.
    pub(super) options: Vec<usize>,
}

impl<'a> Script<'a> {
    pub(super) const fn new(counts: &'a [u64], choices: &'a [usize]) -> Self {
        Script { counts, choices, asked: Vec::new(), options: Vec::new() }
    }

    fn answer(&mut self, packets: &[usize], word: &Word, possible: &[Answer]) -> Answer {
        let kind = |answer: &Answer| matches!(answer, Answer::Count(_));
        let same = |a: &&Answered| a.packets == packets && a.word == *word && kind(&a.answer) == kind(&possible[0]);
        if let Some(known) = self.asked.iter().find(same) {
            return known.answer;
        }
        // Nothing is in no packet.
        let options = if packets.is_empty() { 1 } else { possible.len() };
        let answer = possible[self.choices.get(self.asked.len()).copied().unwrap_or(0).min(options - 1)];
        self.options.push(options);
        self.asked.push(Answered { packets: packets.to_vec(), word: word.clone(), answer });
        answer
    }
}

impl Answers for Script<'_> {
    fn contains(&mut self, packets: &[usize], word: &Word) -> bool {
        self.answer(packets, word, &[Answer::Contains(false), Answer::Contains(true)]) == Answer::Contains(true)
    }
    fn count(&mut self, packets: &[usize], word: &Word) -> u64 {
        let possible: Vec<Answer> = self.counts.iter().map(|n| Answer::Count(*n)).collect();
        match self.answer(packets, word, &possible) {
            Answer::Count(n) => n,
            Answer::Contains(_) => 0,
        }
    }
}

/// An event and where it comes from.
pub(super) struct Done {
    pub(super) event: Event,
    /// The number of the instruction.
    pub(super) instr: usize,
    /// How many questions were asked before.
    pub(super) asked: usize,
}

/// What a run did.
#[derive(Default)]
pub(super) struct Trace {
    pub(super) events: Vec<Done>,
    pub(super) steps: u64,
    /// Whether the limit of steps ended it.
    pub(super) is_cut: bool,
    /// The most turns that each while had.
    pub(super) turns: BTreeMap<usize, u32>,
    /// Addresses that were counted from others.
    pub(super) computed: BTreeSet<Addr>,
}

impl Trace {
    /// Runs `program` on `window`.
    pub(super) fn of(
        program: &Program,
        owner: &Principal,
        window: &[Packet],
        script: &mut Script<'_>,
        steps_max: u64,
    ) -> Result<Trace, Unset> {
        let mut slots = vec![Value::Unassigned; program.slots().len()];
        slots[usize::from(ALL_PACKETS)] = Value::Packets((0..window.len()).collect());
        let mut tracer = Tracer { program, owner, window, script, slots, steps_max, trace: Trace::default() };
        match tracer.block(program.body(), 0) {
            Err(Stop::Unset(name)) => Err(name),
            Ok(()) | Err(Stop::End) => Ok(tracer.trace),
        }
    }
}

#[derive(Clone)]
enum Value {
    Unassigned,
    Packets(Vec<usize>),
    Groups(Vec<(Addr, Vec<usize>)>),
    Addr(Addr),
    Int(i64),
    Data(Data),
}

enum Stop {
    /// An overflow, no turns left, no steps left.
    End,
    Unset(Unset),
}

impl From<Unset> for Stop {
    fn from(name: Unset) -> Self {
        Stop::Unset(name)
    }
}

struct Tracer<'a, 's> {
    program: &'a Program,
    owner: &'a Principal,
    window: &'a [Packet],
    script: &'a mut Script<'s>,
    slots: Vec<Value>,
    steps_max: u64,
    trace: Trace,
}

impl Tracer<'_, '_> {
    fn step(&mut self, steps: usize) -> Result<(), Stop> {
        self.trace.steps += 1 + steps as u64;
        if self.trace.steps > self.steps_max {
            self.trace.is_cut = true;
            return Err(Stop::End);
        }
        Ok(())
    }
    fn did(&mut self, instr: usize, event: Event) {
        self.trace.events.push(Done { event, instr, asked: self.script.asked.len() });
    }
    fn each(&mut self, instr: usize, packets: &[usize], event: fn(usize) -> Event) {
        packets.iter().for_each(|p| self.did(instr, event(*p)));
    }
    fn packets(&mut self, slot: Slot) -> Result<Vec<usize>, Stop> {
        let packets = match &self.slots[usize::from(slot)] {
            Value::Packets(packets) => packets.clone(),
            _ => Vec::new(),
        };
        self.step(packets.len())?;
        Ok(packets)
    }
    fn held(&self, slot: Slot) -> Result<Addr, Stop> {
        if let Value::Addr(addr) = self.slots[usize::from(slot)] { Ok(addr) } else { Err(Stop::End) }
    }
    fn address(&self, term: &AddrTerm) -> Result<Addr, Stop> {
        Ok(match term {
            AddrTerm::ThisIp => self.owner.this_ip().ok_or(Unset::ThisIp)?,
            AddrTerm::ThisSubnet => self.owner.this_subnet().ok_or(Unset::ThisSubnet)?.addr(),
            AddrTerm::Const { addr } => *addr,
            AddrTerm::Slot { slot } => self.held(*slot)?,
        })
    }
    fn expr(&self, expr: &Expr) -> Result<i64, Stop> {
        let value = match expr {
            Expr::Const { value } => Some(*value),
            Expr::Slot { slot } => match self.slots[usize::from(*slot)] {
                Value::Int(value) => Some(value),
                _ => None,
            },
            Expr::Add { a, b } => self.expr(a)?.checked_add(self.expr(b)?),
            Expr::Sub { a, b } => self.expr(a)?.checked_sub(self.expr(b)?),
            Expr::Mul { a, b } => self.expr(a)?.checked_mul(self.expr(b)?),
        };
        value.ok_or(Stop::End)
    }
    fn set(&mut self, slot: Slot, value: Value) {
        self.slots[usize::from(slot)] = value;
    }

    fn block(&mut self, block: &[Instr], first: usize) -> Result<(), Stop> {
        let mut number = first;
        for instr in block {
            self.instr(instr, number)?;
            number += instr.count();
        }
        Ok(())
    }

    fn instr(&mut self, instr: &Instr, number: usize) -> Result<(), Stop> {
        self.step(0)?;
        match instr {
            Instr::Select { out, arg, test } => {
                let mut chosen = Vec::new();
                for p in self.packets(*arg)? {
                    let any = self.owner.addr();
                    if test.eval(self.owner, &self.window[p], &|slot| self.held(slot).unwrap_or(any))? {
                        chosen.push(p);
                    }
                }
                self.each(number, &chosen, Event::Group);
                self.set(*out, Value::Packets(chosen));
            }
            Instr::Partition { out, arg, field } => {
                let all = self.packets(*arg)?;
                self.each(number, &all, Event::Group);
                let groups = grouped(all, |p| self.window[p].field(*field));
                self.set(*out, Value::Groups(groups));
            }
            Instr::Content { dests, contents, arg } => {
                let all = self.packets(*arg)?;
                for &p in &all {
                    self.did(number, Event::Group(p));
                    self.did(number, Event::Scan(p));
                }
                let groups = grouped(all, |p| self.window[p].content);
                let to = |group: &Vec<usize>| group.iter().map(|&p| self.window[p].field(Field::Dst)).collect();
                let to_all = groups.iter().map(|(_, group)| to(group)).collect();
                self.set(*dests, Value::Data(Data::Dests(to_all)));
                self.set(*contents, Value::Data(Data::Contents(groups.into_iter().map(|(c, _)| c).collect())));
            }
            Instr::Union { out, a, b } | Instr::Minus { out, a, b } => {
                let (a, b) = (self.packets(*a)?, self.packets(*b)?);
                let is_union = matches!(instr, Instr::Union { .. });
                let is_in =
                    |p: &usize| if is_union { a.contains(p) || b.contains(p) } else { a.contains(p) && !b.contains(p) };
                let all = (0..self.window.len()).filter(is_in).collect();
                self.set(*out, Value::Packets(all));
            }
            Instr::Count { out, arg, word } => {
                let all = self.packets(*arg)?;
                self.each(number, &all, Event::Scan);
                let count = self.script.count(&all, &self.program.words()[usize::from(*word)]);
                self.set(*out, Value::Int(i64::try_from(count).unwrap_or(COUNT_MAX).min(COUNT_MAX)));
            }
            Instr::Size { out, arg } => {
                let size = self.packets(*arg)?.len() as i64;
                self.set(*out, Value::Int(size));
            }
            Instr::Let { out, expr } => {
                let value = self.expr(expr)?;
                self.set(*out, Value::Int(value));
            }
            Instr::Offset { out, base, by } => {
                let addr = self.address(base)?.offset(self.expr(by)?).ok_or(Stop::End)?;
                if self.trace.computed.len() < COMPUTED_MAX {
                    self.trace.computed.insert(addr);
                }
                self.set(*out, Value::Addr(addr));
            }
            Instr::Discard { arg } => {
                let all = self.packets(*arg)?;
                self.each(number, &all, Event::Discard);
            }
            Instr::Generate { src, dst, data } => {
                let (src, dst) = (self.address(src)?, self.address(dst)?);
                if let Value::Data(data) = self.slots[usize::from(*data)].clone() {
                    self.did(number, Event::Generate { src, dst, data });
                }
            }
            Instr::If { cond, then, otherwise } => {
                if self.cond(cond, number)? {
                    self.block(then, number + 1)?;
                } else {
                    self.block(otherwise, number + 1 + then.iter().map(Instr::count).sum::<usize>())?;
                }
            }
            Instr::Foreach { groups, packets, key, body } => {
                if let Value::Groups(all) = self.slots[usize::from(*groups)].clone() {
                    for (address, members) in all {
                        self.set(*packets, Value::Packets(members));
                        self.set(*key, Value::Addr(address));
                        self.block(body, number + 1)?;
                    }
                }
            }
            Instr::While { cond, max, body } => {
                let mut turns = 0;
                while self.cond(cond, number)? {
                    if turns == *max {
                        return Err(Stop::End);
                    }
                    turns += 1;
                    let most = self.trace.turns.entry(number).or_default();
                    *most = turns.max(*most);
                    self.block(body, number + 1)?;
                }
            }
        }
        Ok(())
    }

    fn cond(&mut self, cond: &Cond, number: usize) -> Result<bool, Stop> {
        self.step(0)?;
        Ok(match cond {
            Cond::Contains { arg, word } => {
                let all = self.packets(*arg)?;
                self.each(number, &all, Event::Scan);
                self.script.contains(&all, &self.program.words()[usize::from(*word)])
            }
            Cond::Empty { arg } => self.packets(*arg)?.is_empty(),
            Cond::AddrIn { addr, addrs } => addrs.contains(self.owner, self.held(*addr)?)?,
            Cond::AddrIs { addr, is } => self.held(*addr)? == self.address(is)?,
            Cond::AtMost { a, b } => self.expr(a)? <= self.expr(b)?,
            Cond::Equal { a, b } => self.expr(a)? == self.expr(b)?,
            Cond::Not { cond } => !self.cond(cond, number)?,
            Cond::And { a, b } => self.cond(a, number)? && self.cond(b, number)?,
            Cond::Or { a, b } => self.cond(a, number)? || self.cond(b, number)?,
        })
    }
}

/// The packets in groups of equal keys, in order of the groups' first packets.
fn grouped<K: PartialEq>(packets: Vec<usize>, key: impl Fn(usize) -> K) -> Vec<(K, Vec<usize>)> {
    let mut groups: Vec<(K, Vec<usize>)> = Vec::new();
    for p in packets {
        let key = key(p);
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, group)) => group.push(p),
            None => groups.push((key, vec![p])),
        }
    }
    groups
}
