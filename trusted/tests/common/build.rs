//! Random programs of every construct, leaning towards the owner's address, so that a good part is lawful and the rest is
//! almost so.

use super::*;
use vinet_trusted::packet::{Number, Ranges};
use vinet_trusted::program::{AddrTerm, Type};

/// Makes a program's blocks at random.
struct Builder<'r> {
    r: &'r mut Random,
    slots: Vec<Type>,
    fixed: Vec<bool>,
    /// Assigned on every way to here.
    assigned: Vec<bool>,
    left: usize,
}

fn addresses() -> Vec<Addr> {
    vec![ME, OTHER, Addr::V4(0xc000_0202), Addr::V6(1)]
}

impl Builder<'_> {
    fn readable(&self, is: impl Fn(Type) -> bool) -> Vec<Slot> {
        (0..self.slots.len()).filter(|&s| self.assigned[s] && is(self.slots[s])).map(|s| s as Slot).collect()
    }

    fn some(&mut self, ty: Type) -> Option<Slot> {
        let all = self.readable(|t| t == ty);
        (!all.is_empty()).then(|| self.r.of(&all))
    }

    /// Not AllPackets, as a rule: almost nothing that is done with it is lawful, but for selecting.
    fn packets(&mut self) -> Slot {
        let all = self.readable(|t| t == Type::Packets);
        if all.len() > 1 && !self.r.one_in(12) { self.r.of(&all[1..]) } else { self.r.of(&all) }
    }

    fn target(&mut self, ty: Type) -> Slot {
        let again: Vec<usize> = (0..self.slots.len()).filter(|&s| !self.fixed[s] && self.slots[s] == ty).collect();
        if !again.is_empty() && (self.r.one_in(2) || self.slots.len() > 50) {
            let slot = self.r.of(&again);
            self.assigned[slot] = true;
            return slot as Slot;
        }
        self.bind(ty, false)
    }

    fn bind(&mut self, ty: Type, fixed: bool) -> Slot {
        self.slots.push(ty);
        self.fixed.push(fixed);
        self.assigned.push(true);
        (self.slots.len() - 1) as Slot
    }

    fn set(&mut self) -> AddrExpr {
        if !self.r.one_in(3) {
            return this_ip();
        }
        let list = (0..=self.r.below(2)).map(|_| {
            let addr = self.r.of(&addresses());
            Prefix::of(addr, if self.r.one_in(2) { addr.width() } else { addr.width() - 2 })
                .expect("a length of the family")
        });
        let prefixes = PrefixSet::new(list.collect());
        AddrExpr { prefixes, this_ip: self.r.one_in(4), ..AddrExpr::default() }
    }

    fn test(&mut self, depth: usize) -> Test {
        let field = if self.r.one_in(3) { Field::Src } else { Field::Dst };
        let pick = self.r.below(if depth < 2 { 12 } else { 8 });
        match pick {
            0 => Test::Owns { field },
            1 => match self.some(Type::Addr) {
                Some(slot) => Test::Is { field, slot },
                None => Test::True,
            },
            2 => {
                let number = self.r.of(&[Number::Protocol, Number::DstPort]);
                let ranges = self.r.of(&[vec![(6, 6)], vec![(0, 79), (443, 443)], vec![(17, 80)]]);
                Test::Number { number, ranges: Ranges::new(ranges).expect("ranges") }
            }
            3 if self.r.one_in(6) => Test::False,
            8 => Test::Not { a: Box::new(self.test(depth + 1)) },
            9 | 10 => Test::And { a: Box::new(self.test(depth + 1)), b: Box::new(self.test(depth + 1)) },
            11 => Test::Or { a: Box::new(self.test(depth + 1)), b: Box::new(self.test(depth + 1)) },
            _ => Test::In { field, addrs: self.set() },
        }
    }

    fn expr(&mut self, depth: usize) -> Expr {
        if depth < 2 && self.r.one_in(2) {
            let (a, b) = (Box::new(self.expr(depth + 1)), Box::new(self.expr(depth + 1)));
            return match self.r.below(4) {
                0 => Expr::Mul { a, b },
                1 => Expr::Sub { a, b },
                _ => Expr::Add { a, b },
            };
        }
        match self.some(Type::Int) {
            Some(slot) if !self.r.one_in(3) => held(slot),
            _ => {
                let far = if self.r.one_in(9) { i64::MAX } else { 3 };
                int(self.r.of(&[0, 1, 2, -1, 5, far]))
            }
        }
    }

    fn address(&mut self) -> AddrTerm {
        match self.some(Type::Addr) {
            Some(slot) if self.r.one_in(2) => AddrTerm::Slot { slot },
            _ if self.r.one_in(4) => AddrTerm::Const { addr: self.r.of(&addresses()) },
            _ => AddrTerm::ThisIp,
        }
    }

    fn cond(&mut self, depth: usize) -> Cond {
        let deeper = if depth < 3 { 10 } else { 7 };
        match self.r.below(deeper) {
            0 => Cond::Empty { arg: self.packets() },
            1 => Cond::AtMost { a: self.expr(1), b: self.expr(1) },
            2 => Cond::Equal { a: self.expr(1), b: self.expr(1) },
            3 | 4 => match self.some(Type::Addr) {
                Some(addr) if self.r.one_in(3) => Cond::AddrIs { addr, is: self.address() },
                Some(addr) => Cond::AddrIn { addr, addrs: self.set() },
                None => contains(self.packets(), 0),
            },
            7 => not(self.cond(depth + 1)),
            8 => and(self.cond(depth + 1), self.cond(depth + 1)),
            9 => or(self.cond(depth + 1), self.cond(depth + 1)),
            _ => contains(self.packets(), 0),
        }
    }

    fn block(&mut self, depth: usize) -> Vec<Instr> {
        let mut block = Vec::new();
        while self.left > 0 && !(depth > 0 && self.r.one_in(4)) {
            self.left -= 1;
            block.push(self.instr(depth));
        }
        block
    }

    fn inside<T>(&mut self, block: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.assigned.clone();
        let made = block(self);
        self.assigned = before;
        self.assigned.resize(self.slots.len(), false);
        made
    }

    fn instr(&mut self, depth: usize) -> Instr {
        let nests = depth < 4 && self.slots.len() < 50;
        match self.r.below(20) {
            0..=2 => Instr::Discard { arg: self.packets() },
            3 if nests => {
                let cond = self.cond(0);
                let before = self.assigned.clone();
                let then = self.block(depth + 1);
                let after_then = std::mem::replace(&mut self.assigned, before);
                self.assigned.resize(self.slots.len(), false);
                let otherwise = self.block(depth + 1);
                for (slot, assigned) in self.assigned.iter_mut().enumerate() {
                    *assigned &= after_then.get(slot).copied().unwrap_or(false);
                }
                Instr::If { cond, then, otherwise }
            }
            4..=7 if nests => {
                let all = self.readable(|ty| matches!(ty, Type::Groups(_)));
                if all.is_empty() {
                    return Instr::Discard { arg: self.packets() };
                }
                let groups = self.r.of(&all);
                self.inside(|b| {
                    let packets = b.bind(Type::Packets, true);
                    let key = b.bind(Type::Addr, true);
                    let body = b.block(depth + 1);
                    Instr::Foreach { groups, packets, key, body }
                })
            }
            8 if nests => {
                let (cond, max) = (self.cond(1), 1 + self.r.below(3) as u32);
                let body = self.inside(|b| b.block(depth + 1));
                Instr::While { cond, max, body }
            }
            9..=11 => {
                let (arg, field) = (self.packets(), if self.r.one_in(3) { Field::Dst } else { Field::Src });
                Instr::Partition { out: self.target(Type::Groups(field)), arg, field }
            }
            12 => {
                let (a, b) = (self.packets(), self.packets());
                let out = self.target(Type::Packets);
                if self.r.one_in(3) { Instr::Minus { out, a, b } } else { Instr::Union { out, a, b } }
            }
            13 => {
                let arg = self.packets();
                let out = self.target(Type::Int);
                if self.r.one_in(2) { Instr::Size { out, arg } } else { Instr::Count { out, arg, word: 0 } }
            }
            14 => {
                let expr = self.expr(0);
                Instr::Let { out: self.target(Type::Int), expr }
            }
            15 => {
                let (base, by) = (self.address(), self.expr(1));
                Instr::Offset { out: self.target(Type::Addr), base, by }
            }
            16 => {
                let data = self.readable(|ty| matches!(ty, Type::Dests | Type::Contents));
                if data.is_empty() {
                    let arg = self.packets();
                    let (dests, contents) = (self.target(Type::Dests), self.target(Type::Contents));
                    return Instr::Content { dests, contents, arg };
                }
                Instr::Generate { src: self.address(), dst: self.address(), data: self.r.of(&data) }
            }
            _ => {
                let arg = if self.r.one_in(3) { 0 } else { self.packets() };
                let test = self.test(0);
                Instr::Select { out: self.target(Type::Packets), arg, test }
            }
        }
    }
}

/// A program of up to sixteen instructions.
pub fn random_program(r: &mut Random, window: u16) -> Program {
    loop {
        let left = 2 + r.below(14);
        let mut builder = Builder { r, slots: vec![Type::Packets], fixed: vec![true], assigned: vec![true], left };
        // Most begin as the paper's do.
        let mut body = Vec::new();
        if !builder.r.one_in(4) {
            body.push(select(builder.bind(Type::Packets, false), 0, Field::Dst, this_ip()));
        }
        body.extend(builder.block(0));
        let made =
            Program::new(1, window, vec![word("w")], body.clone()).or_else(|_| Program::new(1, window, vec![], body));
        // Now and then one is nested too deeply, or a block that is never finished leaves slots out of order.
        if let Ok(program) = made {
            return program;
        }
    }
}
