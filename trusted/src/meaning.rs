//! What a program means: the reference interpreter. It is obvious and slow.
//!
//! [`run`] gives a program on one window of packets its trace of events and what it cost. Answers about content are
//! inputs, so that what is shown of every trace holds whatever a scanner or a stream reassembler may answer.

use crate::addr::{Addr, Principal, Unset};
use crate::cost::Prices;
use crate::packet::{Field, Packet};
use crate::policy::Policy;
use crate::program::{ALL_PACKETS, AddrTerm, COUNT_MAX, Cond, Expr, Instr, Program, Slot, Word};
use alloc::vec::Vec;

/// Something that a program does; packets are their indices in the window.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
    /// The packet is dropped.
    Discard(usize),
    /// The packet is put into a group or selection.
    Group(usize),
    /// The packet's content is looked at.
    Scan(usize),
    /// Packets are sent.
    Generate {
        /// From where.
        src: Addr,
        /// To where.
        dst: Addr,
        /// What is in them.
        data: Data,
    },
}

/// What generated packets hold.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Data {
    /// For each content the destinations that it was sent to.
    Dests(Vec<Vec<Addr>>),
    /// The contents, each as the number that stands for it in [`Packet::content`].
    Contents(Vec<u64>),
}

/// How a run ended. One that is stopped has had the events before; what is left of the window is forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With the last instruction.
    Done,
    /// An integer would have left 64 bits, or an address its family.
    Overflow,
    /// A while had had all its turns.
    Exhausted,
}

/// What a run did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// The events, in order, each once for each time it happens.
    pub events: Vec<Event>,
    /// How it ended.
    pub end: End,
    /// In cycles, by the policy's prices; [`u64::MAX`] where that is not enough.
    pub cost: u64,
}

/// Who answers questions about content.
pub trait Answers {
    /// Whether the content of the packets (indices into the window, rising) contains the word. By the definition of the
    /// language it is asked about empty sets too, and has to say no.
    fn contains(&mut self, packets: &[usize], word: &Word) -> bool;
    /// How often it does.
    fn count(&mut self, packets: &[usize], word: &Word) -> u64;
}

/// Runs `program` for `owner` on `window`, with the turns that each while has in `turns` (see
/// [`crate::check::Checked::turns`]); none there: as many as the program says.
///
/// # Errors
/// [`Unset`] where the program uses a name that `owner` has not, on a way that this window takes.
pub fn run(
    program: &Program,
    owner: &Principal,
    policy: &Policy,
    window: &[Packet],
    answers: &mut dyn Answers,
    turns: &dyn Fn(usize) -> Option<u32>,
) -> Result<Run, Unset> {
    let mut slots = alloc::vec![Value::Unassigned; program.slots().len()];
    slots[usize::from(ALL_PACKETS)] = Value::Packets((0..window.len()).collect());
    let prices = Prices::new(&policy.costs, &policy.limits);
    let cost = u64::try_from(window.len()).unwrap_or(u64::MAX).saturating_mul(prices.entry(program));
    let mut machine =
        Machine { program, owner, prices, window, answers, turns, slots, events: Vec::new(), cost, instr: 0 };
    let end = match machine.block(program.body()) {
        Ok(()) => End::Done,
        Err(Stop::End(end)) => end,
        Err(Stop::Unset(unset)) => return Err(unset),
    };
    Ok(Run { events: machine.events, end, cost: machine.cost })
}

/// What a slot holds while the program runs.
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
    End(End),
    Unset(Unset),
}

impl From<Unset> for Stop {
    fn from(unset: Unset) -> Self {
        Stop::Unset(unset)
    }
}

struct Machine<'a> {
    program: &'a Program,
    owner: &'a Principal,
    prices: Prices<'a>,
    window: &'a [Packet],
    answers: &'a mut dyn Answers,
    turns: &'a dyn Fn(usize) -> Option<u32>,
    slots: Vec<Value>,
    events: Vec<Event>,
    cost: u64,
    /// The number of the instruction at hand.
    instr: usize,
}

// A well-formed program reads only slots that are assigned and of the right type, so the other arms never run.
impl Machine<'_> {
    fn packets(&self, slot: Slot) -> Vec<usize> {
        match &self.slots[usize::from(slot)] {
            Value::Packets(packets) => packets.clone(),
            _ => unreachable!("slot {slot} holds no packets in a well-formed program"),
        }
    }

    fn address(&self, term: &AddrTerm) -> Result<Addr, Stop> {
        Ok(match term {
            AddrTerm::ThisIp => self.owner.this_ip().ok_or(Unset::ThisIp)?,
            AddrTerm::ThisSubnet => self.owner.this_subnet().ok_or(Unset::ThisSubnet)?.addr(),
            AddrTerm::Const { addr } => *addr,
            AddrTerm::Slot { slot } => held_addr(&self.slots, *slot),
        })
    }

    fn expr(&self, expr: &Expr) -> Result<i64, Stop> {
        let result = match expr {
            Expr::Const { value } => Some(*value),
            Expr::Slot { slot } => match self.slots[usize::from(*slot)] {
                Value::Int(value) => Some(value),
                _ => unreachable!("slot {slot} holds no integer in a well-formed program"),
            },
            Expr::Add { a, b } => self.expr(a)?.checked_add(self.expr(b)?),
            Expr::Sub { a, b } => self.expr(a)?.checked_sub(self.expr(b)?),
            Expr::Mul { a, b } => self.expr(a)?.checked_mul(self.expr(b)?),
        };
        result.ok_or(Stop::End(End::Overflow))
    }

    fn pay(&mut self, price: u64, times: usize) {
        self.cost = self.cost.saturating_add(price.saturating_mul(times as u64));
    }

    fn set(&mut self, slot: Slot, value: Value) {
        self.slots[usize::from(slot)] = value;
    }

    /// A block, of which `self.instr` is the number of the first instruction.
    fn block(&mut self, block: &[Instr]) -> Result<(), Stop> {
        let mut number = self.instr;
        for instr in block {
            self.instr = number;
            self.instr(instr)?;
            number += instr.count();
        }
        Ok(())
    }

    fn instr(&mut self, instr: &Instr) -> Result<(), Stop> {
        let price = self.prices.instr(instr);
        let number = self.instr;
        match instr {
            Instr::Select { out, arg, test } => {
                let (owner, slots) = (self.owner, &self.slots);
                let mut chosen = Vec::new();
                let all = self.packets(*arg);
                for &p in &all {
                    if test.eval(owner, &self.window[p], &|slot| held_addr(slots, slot))? {
                        chosen.push(p);
                    }
                }
                self.pay(price, all.len());
                self.events.extend(chosen.iter().map(|&p| Event::Group(p)));
                self.set(*out, Value::Packets(chosen));
            }
            Instr::Partition { out, arg, field } => {
                let all = self.packets(*arg);
                self.pay(price, all.len());
                self.events.extend(all.iter().map(|&p| Event::Group(p)));
                let groups = grouped(all, |p| self.window[p].field(*field));
                self.set(*out, Value::Groups(groups));
            }
            Instr::Content { dests, contents, arg } => {
                let all = self.packets(*arg);
                self.pay(price, all.len());
                self.events.extend(all.iter().flat_map(|&p| [Event::Group(p), Event::Scan(p)]));
                let groups = grouped(all, |p| self.window[p].content);
                let to = |group: &Vec<usize>| group.iter().map(|&p| self.window[p].field(Field::Dst)).collect();
                let all_dests = groups.iter().map(|(_, group)| to(group)).collect();
                self.set(*dests, Value::Data(Data::Dests(all_dests)));
                self.set(*contents, Value::Data(Data::Contents(groups.into_iter().map(|(c, _)| c).collect())));
            }
            Instr::Union { out, a, b } | Instr::Minus { out, a, b } => {
                let (a, b) = (self.packets(*a), self.packets(*b));
                self.pay(price, a.len() + b.len());
                let union = matches!(instr, Instr::Union { .. });
                let is_in =
                    |p: &usize| if union { a.contains(p) || b.contains(p) } else { a.contains(p) && !b.contains(p) };
                let all = (0..self.window.len()).filter(is_in).collect();
                self.set(*out, Value::Packets(all));
            }
            Instr::Count { out, arg, word } => {
                let packets = self.packets(*arg);
                self.pay(price, packets.len());
                self.events.extend(packets.iter().map(|&p| Event::Scan(p)));
                let count = self.answers.count(&packets, &self.program.words()[usize::from(*word)]);
                self.set(*out, Value::Int(i64::try_from(count).unwrap_or(COUNT_MAX).min(COUNT_MAX)));
            }
            Instr::Size { out, arg } => {
                let packets = self.packets(*arg);
                self.pay(price, packets.len());
                self.set(*out, Value::Int(packets.len() as i64));
            }
            Instr::Let { out, expr } => {
                self.pay(price, 1);
                let value = self.expr(expr)?;
                self.set(*out, Value::Int(value));
            }
            Instr::Offset { out, base, by } => {
                self.pay(price, 1);
                let addr = self.address(base)?.offset(self.expr(by)?).ok_or(Stop::End(End::Overflow))?;
                self.set(*out, Value::Addr(addr));
            }
            Instr::Discard { arg } => {
                let packets = self.packets(*arg);
                self.pay(price, packets.len());
                self.events.extend(packets.into_iter().map(Event::Discard));
            }
            Instr::Generate { src, dst, data } => {
                self.pay(price, self.window.len());
                let (src, dst) = (self.address(src)?, self.address(dst)?);
                let Value::Data(data) = self.slots[usize::from(*data)].clone() else {
                    unreachable!("slot {data} holds no data in a well-formed program");
                };
                self.events.push(Event::Generate { src, dst, data });
            }
            Instr::If { cond, then, otherwise } => {
                let holds = self.cond(cond)?;
                self.instr = number + 1 + if holds { 0 } else { then.iter().map(Instr::count).sum() };
                self.block(if holds { then } else { otherwise })?;
            }
            Instr::Foreach { groups, packets, key, body } => {
                let Value::Groups(all) = self.slots[usize::from(*groups)].clone() else {
                    unreachable!("slot {groups} holds no groups in a well-formed program");
                };
                for (address, members) in all {
                    self.pay(price, 1);
                    self.set(*packets, Value::Packets(members));
                    self.set(*key, Value::Addr(address));
                    self.instr = number + 1;
                    self.block(body)?;
                }
            }
            Instr::While { cond, max, body } => {
                let max = (self.turns)(number).unwrap_or(*max);
                let mut turns = 0;
                while self.cond(cond)? {
                    if turns == max {
                        return Err(Stop::End(End::Exhausted));
                    }
                    turns += 1;
                    self.pay(price, 1);
                    self.instr = number + 1;
                    self.block(body)?;
                }
            }
        }
        Ok(())
    }

    fn cond(&mut self, cond: &Cond) -> Result<bool, Stop> {
        let price = self.prices.cond(cond);
        self.pay(price, 1);
        Ok(match cond {
            Cond::Contains { arg, word } => {
                let packets = self.packets(*arg);
                self.pay(self.prices.search(), packets.len());
                self.events.extend(packets.iter().map(|&p| Event::Scan(p)));
                self.answers.contains(&packets, &self.program.words()[usize::from(*word)])
            }
            Cond::Empty { arg } => self.packets(*arg).is_empty(),
            Cond::AddrIn { addr, addrs } => addrs.contains(self.owner, held_addr(&self.slots, *addr))?,
            Cond::AddrIs { addr, is } => held_addr(&self.slots, *addr) == self.address(is)?,
            Cond::AtMost { a, b } => self.expr(a)? <= self.expr(b)?,
            Cond::Equal { a, b } => self.expr(a)? == self.expr(b)?,
            Cond::Not { cond } => !self.cond(cond)?,
            Cond::And { a, b } => self.cond(a)? && self.cond(b)?,
            Cond::Or { a, b } => self.cond(a)? || self.cond(b)?,
        })
    }
}

fn held_addr(slots: &[Value], slot: Slot) -> Addr {
    match slots[usize::from(slot)] {
        Value::Addr(addr) => addr,
        _ => unreachable!("slot {slot} holds no address in a well-formed program"),
    }
}

/// The packets in groups of equal keys, in order of the groups' first packets.
fn grouped<K: PartialEq>(packets: Vec<usize>, key: impl Fn(usize) -> K) -> Vec<(K, Vec<usize>)> {
    let mut groups: Vec<(K, Vec<usize>)> = Vec::new();
    for p in packets {
        let key = key(p);
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, group)) => group.push(p),
            None => groups.push((key, alloc::vec![p])),
        }
    }
    groups
}
