//! A program in the making: its owner, its chance, and the slots and words that it has so far.

use crate::verify::chance::Chance;
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, PrefixSet, Principal};
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::program::{ALL_PACKETS, Cond, Expr, Instr, Program, Slot, Word};

/// The subnet of every owner: one of the documentation prefixes, of which an end user owns one address.
const SUBNET: u32 = 0xc633_6400;
/// The addresses of [`SUBNET`].
pub const SUBNET_SIZE: i64 = 256;

/// See the module.
pub struct Draft {
    /// What is drawn.
    pub chance: Chance,
    owner: Principal,
    /// Slots so far.
    slots: Slot,
    words: Vec<Word>,
    window: u16,
}

impl Draft {
    /// Nothing yet, for an edge router or an end user.
    pub fn new(mut chance: Chance, is_router: bool) -> Draft {
        let addr = Addr::V4(SUBNET + chance.between(2, SUBNET_SIZE - 2) as u32);
        let owner = match Principal::edge_router(addr, 24) {
            Some(router) if is_router => router,
            _ => Principal::EndUser(addr),
        };
        let window = if chance.one_in(2) { 1 } else { chance.between(2, 4) as u16 };
        Draft { chance, owner, slots: ALL_PACKETS + 1, words: Vec::new(), window }
    }
    /// The program with this body.
    pub fn finish(self, body: Vec<Instr>) -> (Principal, Program) {
        let program = Program::new(3600, self.window, self.words, body);
        (self.owner, program.expect("a draft numbers its slots and words in order"))
    }
    /// Looks at so many packets together.
    pub fn set_window(&mut self, packets: u16) {
        self.window = packets;
    }
    /// Heads or tails.
    pub fn flip(&mut self) -> bool {
        self.chance.one_in(2)
    }

    // ---- Addresses ----

    fn own(&self) -> u32 {
        match self.owner.addr() {
            Addr::V4(own) => own,
            Addr::V6(_) => unreachable!("owners of drafts have IPv4 addresses"),
        }
    }
    /// An address of the same subnet that an end user does not own.
    fn neighbour(&mut self) -> u32 {
        let own = self.own() - SUBNET;
        SUBNET + (own + self.chance.between(1, SUBNET_SIZE - 1) as u32) % SUBNET_SIZE as u32
    }
    /// An address that no owner owns.
    pub fn stranger(&mut self) -> Addr {
        Addr::V4(0xcb00_7100 + self.chance.below(256) as u32)
    }
    /// A set of a few addresses and prefixes, of anybody.
    pub fn anybody(&mut self) -> AddrExpr {
        let count = self.chance.between(1, 3);
        let prefixes = (0..count).filter_map(|_| {
            let addr = if self.chance.one_in(4) { Addr::V4(self.neighbour()) } else { self.stranger() };
            Prefix::of(addr, self.chance.between(20, 32) as u8)
        });
        AddrExpr { prefixes: PrefixSet::new(prefixes.collect()), ..AddrExpr::default() }
    }
    /// A set of addresses that the owner owns all of.
    pub fn owned(&mut self) -> AddrExpr {
        let own = Addr::V4(self.own());
        let is_router = matches!(self.owner, Principal::EdgeRouter(_));
        let prefix = Prefix::of(own, self.chance.between(25, 31) as u8);
        match (is_router, self.chance.below(4)) {
            (_, 0) | (false, 1 | 2) => AddrExpr { this_ip: true, ..AddrExpr::default() },
            (_, 3) | (true, 1) => {
                let host = if is_router { Addr::V4(self.neighbour()) } else { own };
                host.into()
            }
            (true, 2) if self.flip() => AddrExpr { this_subnet: true, ..AddrExpr::default() },
            _ => AddrExpr { prefixes: PrefixSet::new(prefix.into_iter().collect()), ..AddrExpr::default() },
        }
    }
    /// A set with addresses that the owner owns and others that it does not.
    pub fn too_wide(&mut self) -> AddrExpr {
        let own = Addr::V4(self.own());
        if self.flip() {
            let len = if matches!(self.owner, Principal::EndUser(_)) { 31 } else { 23 };
            let wide = Prefix::of(own, self.chance.between(16, len) as u8);
            AddrExpr { prefixes: PrefixSet::new(wide.into_iter().collect()), ..AddrExpr::default() }
        } else {
            let stranger = Prefix::host(self.stranger());
            AddrExpr { prefixes: PrefixSet::new(vec![Prefix::host(own), stranger]), ..AddrExpr::default() }
        }
    }
    /// All that the owner owns.
    pub fn all_owned(&mut self) -> AddrExpr {
        let this_ip = matches!(self.owner, Principal::EndUser(_));
        AddrExpr { this_ip, this_subnet: !this_ip, ..AddrExpr::default() }
    }

    // ---- Slots, words, tests ----

    /// The next slot.
    pub fn slot(&mut self) -> Slot {
        self.slots += 1;
        self.slots - 1
    }
    /// A word that was not there before.
    pub fn word(&mut self) -> u8 {
        let number = self.words.len() as u8;
        let len = self.chance.between(2, 10);
        let mut bytes: Vec<u8> = (0..len).map(|_| b'a' + self.chance.below(26) as u8).collect();
        bytes.push(b'a' + number);
        let fold = self.flip();
        self.words.push(Word { fold, bytes });
        number
    }
    /// A test of the header that some packets pass and some do not.
    pub fn header(&mut self) -> Test {
        let (number, last) =
            *self.chance.pick(&[(Number::DstPort, 65_535), (Number::SrcPort, 65_535), (Number::Length, 1500)]);
        let first = self.chance.between(1, last - 1);
        let ranges = Ranges::new(vec![(first as u32, self.chance.between(first, last) as u32)]);
        Test::Number { number, ranges: ranges.expect("a range that does not end before it begins") }
    }
    /// A test that any packet may pass or not.
    pub fn some_test(&mut self) -> Test {
        match self.chance.below(4) {
            0 => self.header(),
            1 => Test::Not { a: Box::new(self.header()) },
            2 => Test::In { field: Field::Src, addrs: self.anybody() },
            _ => {
                let (a, b) = (self.header(), Test::In { field: Field::Src, addrs: self.anybody() });
                if self.flip() { and(a, b) } else { or(b, a) }
            }
        }
    }

    // ---- Instructions ----

    /// A selection into a new slot.
    pub fn select(&mut self, body: &mut Vec<Instr>, arg: Slot, test: Test) -> Slot {
        let out = self.slot();
        body.push(Instr::Select { out, arg, test });
        out
    }
    /// The packets that go to the owner, or to some addresses that it owns.
    pub fn mine(&mut self, body: &mut Vec<Instr>) -> Slot {
        let test = match self.chance.below(4) {
            0 => Test::Owns { field: Field::Dst },
            1 => and(Test::In { field: Field::Dst, addrs: self.owned() }, self.some_test()),
            2 => Test::In { field: Field::Dst, addrs: self.all_owned() },
            _ => Test::In { field: Field::Dst, addrs: self.owned() },
        };
        self.select(body, ALL_PACKETS, test)
    }
    /// All packets that go to the owner: whatever can be asked of a packet besides, one of them can answer.
    pub fn all_mine(&mut self, body: &mut Vec<Instr>) -> Slot {
        let addrs = self.all_owned();
        self.select(body, ALL_PACKETS, Test::In { field: Field::Dst, addrs })
    }
    /// Some of the packets of `arg`: none, one or two selections, unions and differences on.
    pub fn some_of(&mut self, body: &mut Vec<Instr>, arg: Slot) -> Slot {
        let mut from = arg;
        for _ in 0..self.chance.below(3) {
            let test = self.some_test();
            let chosen = self.select(body, from, test);
            from = match self.chance.below(4) {
                0 => {
                    let out = self.slot();
                    body.push(Instr::Minus { out, a: from, b: chosen });
                    out
                }
                1 => {
                    let out = self.slot();
                    body.push(Instr::Union { out, a: chosen, b: from });
                    out
                }
                _ => chosen,
            };
        }
        from
    }
    /// Instructions that do nothing to anybody.
    pub fn harmless(&mut self, body: &mut Vec<Instr>) {
        match self.chance.below(6) {
            0 => {
                let out = self.slot();
                body.push(Instr::Size { out, arg: ALL_PACKETS });
            }
            1 => {
                let value = self.chance.between(-9, 9);
                self.set_int(body, value);
            }
            2 => {
                let out = self.slot();
                body.push(Instr::Union { out, a: ALL_PACKETS, b: ALL_PACKETS });
            }
            _ => {}
        }
    }
    /// An integer in a new slot.
    pub fn set_int(&mut self, body: &mut Vec<Instr>, value: i64) -> Slot {
        let out = self.slot();
        body.push(Instr::Let { out, expr: int(value) });
        out
    }
    /// A condition that a window may meet or not.
    pub fn open_cond(&mut self, body: &mut Vec<Instr>, packets: Slot) -> Cond {
        if self.flip() {
            return Cond::Empty { arg: packets };
        }
        let out = self.slot();
        body.push(Instr::Size { out, arg: packets });
        at_most(slot(out), int(0))
    }
}

pub fn int(value: i64) -> Expr {
    Expr::Const { value }
}
pub fn slot(slot: Slot) -> Expr {
    Expr::Slot { slot }
}
pub fn plus(a: Expr, b: Expr) -> Expr {
    Expr::Add { a: Box::new(a), b: Box::new(b) }
}
pub fn minus(a: Expr, b: Expr) -> Expr {
    Expr::Sub { a: Box::new(a), b: Box::new(b) }
}
pub fn times(a: Expr, b: Expr) -> Expr {
    Expr::Mul { a: Box::new(a), b: Box::new(b) }
}
pub fn at_most(a: Expr, b: Expr) -> Cond {
    Cond::AtMost { a, b }
}
pub fn not(cond: Cond) -> Cond {
    Cond::Not { cond: Box::new(cond) }
}
pub fn and(a: Test, b: Test) -> Test {
    Test::And { a: Box::new(a), b: Box::new(b) }
}
pub fn or(a: Test, b: Test) -> Test {
    Test::Or { a: Box::new(a), b: Box::new(b) }
}
