//! What a program means: the reference interpreter. It is obvious and slow.
//!
//! [`run`] gives a program on one window of packets its trace of events. Answers about content are inputs, so that
//! what is shown of every trace holds whatever a scanner or a stream reassembler may answer.

use crate::addr::{Addr, Principal};
use crate::program::{ALL_PACKETS, Cond, Field, Instr, Program, Slot, Unset};
use alloc::vec::Vec;

/// A packet, as far as a program's meaning goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Where it comes from.
    pub src: Addr,
    /// Where it goes to.
    pub dst: Addr,
}

impl Packet {
    /// One of its two addresses.
    #[must_use]
    pub const fn field(&self, field: Field) -> Addr {
        match field {
            Field::Src => self.src,
            Field::Dst => self.dst,
        }
    }
}

/// Something that a program does to the packet with this index in the window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
    /// It is dropped.
    Discard(usize),
    /// It is put into a group or selection.
    Group(usize),
    /// Its content is looked at.
    Scan(usize),
}

/// Runs `program` for `owner` on `window` and returns its events, in order, each once for each time it happens.
///
/// `contains` answers CONTAINS_STRING: it is given the packets of the set (indices into the window, rising) and the
/// word. By the definition of the language it is asked about empty sets too, and has to say no.
///
/// # Errors
/// [`Unset`] where the program uses a name that `owner` has not, on a way that this window takes.
pub fn run(
    program: &Program,
    owner: &Principal,
    window: &[Packet],
    contains: &mut dyn FnMut(&[usize], &[u8]) -> bool,
) -> Result<Vec<Event>, Unset> {
    let mut slots = alloc::vec![Value::Unassigned; program.slots().len()];
    slots[usize::from(ALL_PACKETS)] = Value::Packets((0..window.len()).collect());
    let mut machine = Machine { program, owner, window, contains, slots, events: Vec::new() };
    machine.block(program.body())?;
    Ok(machine.events)
}

/// What a slot holds while the program runs.
#[derive(Clone)]
enum Value {
    Unassigned,
    Packets(Vec<usize>),
    Groups(Vec<(Addr, Vec<usize>)>),
    Key(Addr),
}

struct Machine<'a> {
    program: &'a Program,
    owner: &'a Principal,
    window: &'a [Packet],
    contains: &'a mut dyn FnMut(&[usize], &[u8]) -> bool,
    slots: Vec<Value>,
    events: Vec<Event>,
}

impl Machine<'_> {
    // A well-formed program reads only slots that are assigned and of the right type, so the other arms never run.
    fn packets(&self, slot: Slot) -> Vec<usize> {
        match &self.slots[usize::from(slot)] {
            Value::Packets(packets) => packets.clone(),
            _ => unreachable!("slot {slot} holds no packets in a well-formed program"),
        }
    }

    fn block(&mut self, block: &[Instr]) -> Result<(), Unset> {
        block.iter().try_for_each(|instr| self.instr(instr))
    }

    fn instr(&mut self, instr: &Instr) -> Result<(), Unset> {
        match instr {
            Instr::Select { out, arg, field, addrs } => {
                let addrs = addrs.resolve(self.owner)?;
                let mut chosen = self.packets(*arg);
                chosen.retain(|&p| addrs.contains(self.window[p].field(*field)));
                self.events.extend(chosen.iter().map(|&p| Event::Group(p)));
                self.slots[usize::from(*out)] = Value::Packets(chosen);
            }
            Instr::Partition { out, arg, field } => {
                let mut groups: Vec<(Addr, Vec<usize>)> = Vec::new();
                for p in self.packets(*arg) {
                    self.events.push(Event::Group(p));
                    let key = self.window[p].field(*field);
                    match groups.iter_mut().find(|(k, _)| *k == key) {
                        Some((_, packets)) => packets.push(p),
                        None => groups.push((key, alloc::vec![p])),
                    }
                }
                self.slots[usize::from(*out)] = Value::Groups(groups);
            }
            Instr::Discard { arg } => {
                let packets = self.packets(*arg);
                self.events.extend(packets.into_iter().map(Event::Discard));
            }
            Instr::If { cond, then, otherwise } => {
                let block = if self.cond(cond)? { then } else { otherwise };
                self.block(block)?;
            }
            Instr::Foreach { groups, packets, key, body } => {
                let Value::Groups(all) = self.slots[usize::from(*groups)].clone() else {
                    unreachable!("slot {groups} holds no groups in a well-formed program");
                };
                for (address, members) in all {
                    self.slots[usize::from(*packets)] = Value::Packets(members);
                    self.slots[usize::from(*key)] = Value::Key(address);
                    self.block(body)?;
                }
            }
        }
        Ok(())
    }

    fn cond(&mut self, cond: &Cond) -> Result<bool, Unset> {
        Ok(match cond {
            Cond::Contains { arg, word } => {
                let packets = self.packets(*arg);
                self.events.extend(packets.iter().map(|&p| Event::Scan(p)));
                (self.contains)(&packets, &self.program.words()[usize::from(*word)])
            }
            Cond::KeyIn { key, addrs } => {
                let Value::Key(address) = self.slots[usize::from(*key)] else {
                    unreachable!("slot {key} holds no key in a well-formed program");
                };
                addrs.resolve(self.owner)?.contains(address)
            }
            Cond::Not(c) => !self.cond(c)?,
            Cond::And(a, b) => self.cond(a)? && self.cond(b)?,
            Cond::Or(a, b) => self.cond(a)? || self.cond(b)?,
        })
    }
}
