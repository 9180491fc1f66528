//! Well-formed programs at random, as inputs to damage.

use crate::random::Random;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::program::{ALL_PACKETS, AddrExpr, Cond, Field, Instr, Program, Slot, Type};

/// A program of a few instructions with everything that the bytecode has.
pub(crate) fn program(random: &mut Random) -> Program {
    make(random, Vec::new(), vec![Some(Type::Packets)])
}

/// The same, about packets to its owner only, so that it can be proven.
pub(crate) fn lawful_program(random: &mut Random) -> Program {
    let to_owner = AddrExpr { this_ip: true, ..AddrExpr::default() };
    let select = Instr::Select { out: 1, arg: ALL_PACKETS, field: Field::Dst, addrs: to_owner };
    make(random, vec![select], vec![None, Some(Type::Packets)])
}

fn make(random: &mut Random, mut body: Vec<Instr>, slots: Vec<Option<Type>>) -> Program {
    let mut maker = Maker { random, slots, words: Vec::new() };
    let len = 1 + maker.random.below(5);
    body.extend(maker.block(len, 3));
    let words = maker.words;
    let lifetime_s = 1 + (random.bits() % 200_000) as u32;
    Program::new(lifetime_s, words, body).expect("the maker of programs keeps to their rules")
}

struct Maker<'r> {
    random: &'r mut Random,
    /// The type of each slot, or `None` where it cannot be read any more.
    slots: Vec<Option<Type>>,
    words: Vec<Vec<u8>>,
}

impl Maker<'_> {
    fn block(&mut self, len: usize, depth: usize) -> Vec<Instr> {
        (0..len).map(|_| self.instr(depth)).collect()
    }

    /// A block whose slots nobody can read behind it.
    fn inner(&mut self, depth: usize) -> Vec<Instr> {
        let outer = self.slots.len();
        let len = self.random.below(3);
        let block = self.block(len, depth - 1);
        self.slots[outer..].fill(None);
        block
    }

    fn slot(&mut self, wanted: impl Fn(Type) -> bool) -> Option<Slot> {
        let fit: Vec<usize> = (0..self.slots.len()).filter(|&slot| self.slots[slot].is_some_and(&wanted)).collect();
        (!fit.is_empty()).then(|| *self.random.pick(&fit) as Slot)
    }

    fn packets(&mut self) -> Slot {
        self.slot(|ty| ty == Type::Packets).unwrap_or(0)
    }

    fn new_slot(&mut self, ty: Type) -> Slot {
        self.slots.push(Some(ty));
        (self.slots.len() - 1) as Slot
    }

    fn field(&mut self) -> Field {
        if self.random.one_in(2) { Field::Src } else { Field::Dst }
    }

    fn addrs(&mut self) -> AddrExpr {
        let count = self.random.below(4);
        let prefixes = (0..count).filter_map(|_| {
            let bits = self.random.bits();
            if self.random.one_in(3) {
                Prefix::of(Addr::V6(u128::from(bits) << 64), self.random.below(129) as u8)
            } else {
                Prefix::of(Addr::V4(bits as u32), self.random.below(33) as u8)
            }
        });
        let prefixes = PrefixSet::new(prefixes.collect());
        AddrExpr { this_ip: prefixes.is_empty() || self.random.one_in(3), this_subnet: self.random.one_in(8), prefixes }
    }

    fn instr(&mut self, depth: usize) -> Instr {
        let arg = self.packets();
        let room = self.slots.len() + 2 < vinet_trusted::program::SLOTS_MAX;
        match self.random.below(if depth == 0 { 3 } else { 5 }) {
            0 if room => {
                let (field, addrs) = (self.field(), self.addrs());
                Instr::Select { out: self.new_slot(Type::Packets), arg, field, addrs }
            }
            1 if room => {
                let field = self.field();
                Instr::Partition { out: self.new_slot(Type::Groups(field)), arg, field }
            }
            3 => {
                let cond = self.cond(3);
                let then = self.inner(depth);
                Instr::If { cond, then, otherwise: self.inner(depth) }
            }
            4 if room => match self.slot(|ty| matches!(ty, Type::Groups(_))) {
                Some(groups) => {
                    let Some(Type::Groups(field)) = self.slots[usize::from(groups)] else {
                        return Instr::Discard { arg };
                    };
                    let (packets, key) = (self.new_slot(Type::Packets), self.new_slot(Type::Key(field)));
                    let body = self.inner(depth);
                    self.slots[usize::from(packets)..].fill(None);
                    Instr::Foreach { groups, packets, key, body }
                }
                None => Instr::Discard { arg },
            },
            _ => Instr::Discard { arg },
        }
    }

    fn cond(&mut self, depth: usize) -> Cond {
        let key = self.slot(|ty| matches!(ty, Type::Key(_)));
        match self.random.below(if depth == 0 { 2 } else { 5 }) {
            1 if key.is_some() => Cond::KeyIn { key: key.unwrap_or(0), addrs: self.addrs() },
            2 => Cond::Not(Box::new(self.cond(depth - 1))),
            3 => Cond::And(Box::new(self.cond(depth - 1)), Box::new(self.cond(depth - 1))),
            4 => Cond::Or(Box::new(self.cond(depth - 1)), Box::new(self.cond(depth - 1))),
            _ => Cond::Contains { arg: self.packets(), word: self.word() },
        }
    }

    /// A word of the list, or the next new one.
    fn word(&mut self) -> u8 {
        let index = self.random.below(self.words.len() + 1);
        if index == self.words.len() {
            // The index makes the words differ.
            let mut word = vec![b'a' + index as u8];
            let len = self.random.below(8);
            word.extend(self.random.bytes(len));
            self.words.push(word);
        }
        index as u8
    }
}
