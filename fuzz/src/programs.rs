//! Well-formed programs at random, with everything that the bytecode has, as inputs to damage; and windows for them.

use crate::random::Random;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::meaning::Answers;
use vinet_trusted::packet::{Number, Packet, Ranges, Test};
use vinet_trusted::program::{
    ALL_PACKETS, AddrExpr, AddrTerm, Cond, Expr, Field, Instr, Program, SLOTS_MAX, Slot, Type, Word,
};

/// A program of a few instructions with everything that the bytecode has.
pub(crate) fn program(random: &mut Random) -> Program {
    make(random, Vec::new(), vec![Some(Type::Packets)])
}

/// The same, about packets to its owner only, so that most can be proven.
pub(crate) fn lawful_program(random: &mut Random) -> Program {
    let addrs = AddrExpr { this_ip: true, ..AddrExpr::default() };
    let select = Instr::Select { out: 1, arg: ALL_PACKETS, test: Test::In { field: Field::Dst, addrs } };
    make(random, vec![select], vec![None, Some(Type::Packets)])
}

fn make(random: &mut Random, mut body: Vec<Instr>, slots: Vec<Option<Type>>) -> Program {
    let mut maker = Maker { random, fixed: slots.len(), slots, bound: Vec::new(), words: Vec::new() };
    let len = 1 + maker.random.below(6);
    body.extend(maker.block(len, 3));
    let words = maker.words;
    let lifetime_s = 1 + (random.bits() % 200_000) as u32;
    let window = *random.pick(&[1, 1, 1, 0, 8]);
    Program::new(lifetime_s, window, words, body).expect("the maker of programs keeps to their rules")
}

/// A few packets, mostly between addresses that programs at random speak of, some with ports and flags.
pub(crate) fn window(random: &mut Random) -> Vec<Packet> {
    let addrs = [Addr::V4(0xc000_0201), Addr::V4(0xc000_0202), Addr::V6(1), Addr::V4(random.bits() as u32)];
    let len = random.below(4);
    (0..len)
        .map(|_| {
            let mut packet = Packet::between(*random.pick(&addrs), *random.pick(&addrs));
            packet.content = random.bits() % 3;
            for number in &mut packet.numbers {
                if !random.one_in(4) {
                    *number = *random.pick(&[0, 1, 6, 17, 25, 443, 1500, Packet::ABSENT - 1]);
                }
            }
            packet
        })
        .collect()
}

/// Answers about content at random.
pub(crate) struct AnyAnswers<'r>(pub(crate) &'r mut Random);

impl Answers for AnyAnswers<'_> {
    fn contains(&mut self, packets: &[usize], _: &Word) -> bool {
        !packets.is_empty() && self.0.one_in(2)
    }
    fn count(&mut self, _: &[usize], _: &Word) -> u64 {
        *self.0.pick(&[0, 1, 2, 65_535, u64::MAX])
    }
}

struct Maker<'r> {
    random: &'r mut Random,
    /// The type of each slot, or `None` where it cannot be read any more.
    slots: Vec<Option<Type>>,
    /// The slots before this one cannot be assigned.
    fixed: usize,
    /// Nor can these, which a Foreach binds.
    bound: Vec<Slot>,
    words: Vec<Word>,
}

impl Maker<'_> {
    fn block(&mut self, len: usize, depth: usize) -> Vec<Instr> {
        (0..len).map(|_| self.instr(depth)).collect()
    }

    /// A block whose new slots nobody can read behind it.
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
        self.slot(|ty| ty == Type::Packets).unwrap_or(ALL_PACKETS)
    }

    /// Where a result goes: a new slot, or now and then one that holds such a thing already.
    fn target(&mut self, ty: Type) -> Slot {
        let again: Vec<Slot> = (self.fixed..self.slots.len())
            .map(|slot| slot as Slot)
            .filter(|slot| self.slots[usize::from(*slot)] == Some(ty) && !self.bound.contains(slot))
            .collect();
        if !again.is_empty() && self.random.one_in(3) { *self.random.pick(&again) } else { self.new_slot(ty) }
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

    fn address(&mut self) -> AddrTerm {
        let held = self.slot(|ty| ty == Type::Addr);
        match (self.random.below(5), held) {
            (0, _) => AddrTerm::ThisSubnet,
            (1, _) => AddrTerm::Const { addr: Addr::V4(self.random.bits() as u32) },
            (2 | 3, Some(slot)) => AddrTerm::Slot { slot },
            _ => AddrTerm::ThisIp,
        }
    }

    fn test(&mut self, depth: usize) -> Test {
        match self.random.below(if depth == 0 { 6 } else { 9 }) {
            0 => Test::True,
            1 => Test::Owns { field: self.field() },
            2 => match self.slot(|ty| ty == Type::Addr) {
                Some(slot) => Test::Is { field: self.field(), slot },
                None => Test::False,
            },
            3 => {
                let number = *self.random.pick(&Number::ALL);
                let ranges = (0..1 + self.random.below(3)).map(|_| {
                    let first = self.random.below(2000) as u32;
                    (first, first + self.random.below(20) as u32)
                });
                let ranges = Ranges::new(ranges.collect()).expect("ranges that rise");
                Test::Number { number, ranges }
            }
            6 => Test::Not { a: Box::new(self.test(depth - 1)) },
            7 => Test::And { a: Box::new(self.test(depth - 1)), b: Box::new(self.test(depth - 1)) },
            8 => Test::Or { a: Box::new(self.test(depth - 1)), b: Box::new(self.test(depth - 1)) },
            _ => Test::In { field: self.field(), addrs: self.addrs() },
        }
    }

    fn expr(&mut self, depth: usize) -> Expr {
        let held = self.slot(|ty| ty == Type::Int);
        let below = |maker: &mut Self| Box::new(maker.expr(depth - 1));
        match (self.random.below(if depth == 0 { 2 } else { 5 }), held) {
            (1, Some(slot)) => Expr::Slot { slot },
            (2, _) => Expr::Add { a: below(self), b: below(self) },
            (3, _) => Expr::Sub { a: below(self), b: below(self) },
            (4, _) => Expr::Mul { a: below(self), b: below(self) },
            _ => Expr::Const { value: *self.random.pick(&[0, 1, -1, 2, 10, 1 << 31, i64::MIN, i64::MAX]) },
        }
    }

    fn instr(&mut self, depth: usize) -> Instr {
        let arg = self.packets();
        // The most that one instruction and what it binds add.
        if self.slots.len() + 2 >= SLOTS_MAX {
            return Instr::Discard { arg };
        }
        match self.random.below(if depth == 0 { 11 } else { 14 }) {
            0 => {
                let test = self.test(2);
                Instr::Select { out: self.target(Type::Packets), arg, test }
            }
            1 => {
                let field = self.field();
                Instr::Partition { out: self.target(Type::Groups(field)), arg, field }
            }
            2 => {
                let dests = self.target(Type::Dests);
                Instr::Content { dests, contents: self.target(Type::Contents), arg }
            }
            3 => {
                let b = self.packets();
                Instr::Union { out: self.target(Type::Packets), a: arg, b }
            }
            4 => {
                let b = self.packets();
                Instr::Minus { out: self.target(Type::Packets), a: arg, b }
            }
            5 => {
                let word = self.word();
                Instr::Count { out: self.target(Type::Int), arg, word }
            }
            6 => Instr::Size { out: self.target(Type::Int), arg },
            7 => {
                let expr = self.expr(2);
                Instr::Let { out: self.target(Type::Int), expr }
            }
            8 => {
                let (base, by) = (self.address(), self.expr(1));
                Instr::Offset { out: self.target(Type::Addr), base, by }
            }
            9 => match self.slot(|ty| matches!(ty, Type::Dests | Type::Contents)) {
                Some(data) => Instr::Generate { src: self.address(), dst: self.address(), data },
                None => Instr::Discard { arg },
            },
            11 => {
                let cond = self.cond(3);
                let then = self.inner(depth);
                Instr::If { cond, then, otherwise: self.inner(depth) }
            }
            12 => {
                let (cond, max) = (self.cond(2), *self.random.pick(&[1, 2, 7]));
                Instr::While { cond, max, body: self.inner(depth) }
            }
            13 => match self.slot(|ty| matches!(ty, Type::Groups(_))) {
                Some(groups) => {
                    let (packets, key) = (self.new_slot(Type::Packets), self.new_slot(Type::Addr));
                    self.bound.extend([packets, key]);
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
        let addr = self.slot(|ty| ty == Type::Addr);
        let below = |maker: &mut Self| Box::new(maker.cond(depth - 1));
        match (self.random.below(if depth == 0 { 6 } else { 9 }), addr) {
            (1, Some(addr)) => Cond::AddrIn { addr, addrs: self.addrs() },
            (2, Some(addr)) => Cond::AddrIs { addr, is: self.address() },
            (3, _) => Cond::AtMost { a: self.expr(1), b: self.expr(1) },
            (4, _) => Cond::Equal { a: self.expr(1), b: self.expr(1) },
            (5, _) => Cond::Empty { arg: self.packets() },
            (6, _) => Cond::Not { cond: below(self) },
            (7, _) => Cond::And { a: below(self), b: below(self) },
            (8, _) => Cond::Or { a: below(self), b: below(self) },
            _ => Cond::Contains { arg: self.packets(), word: self.word() },
        }
    }

    /// A word of the list, or the next new one.
    fn word(&mut self) -> u8 {
        let index = self.random.below(self.words.len() + 1);
        if index == self.words.len() {
            let fold = self.random.one_in(2);
            // The first byte makes the words differ, and is the letter that folding needs.
            let mut bytes = vec![b'a' + (index % 26) as u8, b'0' + (index / 26) as u8];
            let len = self.random.below(8);
            bytes.extend(self.random.bytes(len));
            if fold {
                bytes.make_ascii_lowercase();
            }
            self.words.push(Word { fold, bytes });
        }
        index as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_construct_comes_up() {
        let mut random = Random::new(7);
        let programs: Vec<String> = (0..400).map(|_| format!("{:?}", program(&mut random))).collect();
        let all = programs.concat();
        for construct in [
            "Select",
            "Partition",
            "Content {",
            "Union",
            "Minus",
            "Count",
            "Size",
            "Let",
            "Offset",
            "Discard",
            "Generate",
            "If",
            "Foreach",
            "While",
            "Contains",
            "Empty",
            "AddrIn",
            "AddrIs",
            "AtMost",
            "Equal",
            "Not",
            "And",
            "Or {",
            "ThisIp",
            "ThisSubnet",
            "Const",
            "Slot {",
            "Add {",
            "Sub {",
            "Mul {",
            "Owns",
            "In {",
            "Is {",
            "Number",
            "True",
            "False",
            "fold: true",
            "fold: false",
            "window: 0",
            "window: 8",
        ] {
            assert!(all.contains(construct), "no program at random has {construct}");
        }
    }
}
