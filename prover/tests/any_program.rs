//! Whatever program it is given, the prover ends, says the same each time, and makes only certificates that the
//! checker takes. Programs are drawn at random; what they do is not compared with what they may do here.

use std::sync::Arc;
use std::time::{Duration, Instant};
use vinet_prover::corpus::{self, Kind};
use vinet_prover::hint::{Hint, Invariant};
use vinet_prover::{NotProven, library, prove};
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, PrefixSet};
use vinet_trusted::check::check;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::program::{AddrTerm, Cond, Expr, Instr, Program, Slot, Type, Word};

const SEED: u64 = 0x5eed_0001;
const PROGRAMS: usize = 400;
const KINDS: [Kind; 6] =
    [Kind::EndUser, Kind::EdgeRouter, Kind::Grouping, Kind::UserGrouping, Kind::Strict, Kind::Quarantine];

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Draws programs; those that are not well-formed are drawn again.
struct Draw<'c> {
    chance: &'c mut Chance,
    /// The type of each slot, and whether it can be assigned.
    slots: Vec<(Type, bool)>,
    is_user: bool,
}

impl Draw<'_> {
    fn one(&mut self, ty: Type) -> Option<Slot> {
        let all: Vec<Slot> = (0..self.slots.len() as Slot).filter(|s| self.slots[usize::from(*s)].0 == ty).collect();
        if all.is_empty() { None } else { Some(all[self.chance.below(all.len())]) }
    }
    fn packets(&mut self) -> Slot {
        self.one(Type::Packets).unwrap_or(0)
    }
    fn out(&mut self, ty: Type) -> Slot {
        let all: Vec<Slot> =
            (0..self.slots.len() as Slot).filter(|s| self.slots[usize::from(*s)] == (ty, true)).collect();
        if !all.is_empty() && self.chance.below(2) == 0 {
            return all[self.chance.below(all.len())];
        }
        self.slots.push((ty, true));
        self.slots.len() as Slot - 1
    }
    fn addrs(&mut self) -> AddrExpr {
        let nets = [(0xc000_0200, 24), (0xc000_0200, 25), (0xc000_0202, 32), (0x0a00_0000, 8), (0xc000_0200, 23)];
        let of = |(addr, len): (u32, u8)| Prefix::of(Addr::V4(addr), len).into_iter();
        match self.chance.below(4) {
            0 => AddrExpr { this_ip: true, ..AddrExpr::default() },
            1 if !self.is_user => AddrExpr { this_subnet: true, ..AddrExpr::default() },
            n => {
                let prefixes = (0..n).flat_map(|_| of(nets[self.chance.below(nets.len())])).collect();
                AddrExpr { prefixes: PrefixSet::new(prefixes), ..AddrExpr::default() }
            }
        }
    }
    fn field(&mut self) -> Field {
        if self.chance.below(3) == 0 { Field::Src } else { Field::Dst }
    }
    fn test(&mut self, depth: usize) -> Test {
        match self.chance.below(if depth == 0 { 4 } else { 7 }) {
            0 => Test::Owns { field: self.field() },
            1 => Test::In { field: self.field(), addrs: self.addrs() },
            2 => Test::Number {
                number: Number::ALL[self.chance.below(4)],
                ranges: Ranges::new(vec![(6, 6), (17, 400)]).expect("fits"),
            },
            3 => match self.one(Type::Addr) {
                Some(slot) => Test::Is { field: self.field(), slot },
                None => Test::True,
            },
            4 => Test::Not { a: Box::new(self.test(depth - 1)) },
            n => {
                let (a, b) = (Box::new(self.test(depth - 1)), Box::new(self.test(depth - 1)));
                if n == 5 { Test::And { a, b } } else { Test::Or { a, b } }
            }
        }
    }
    fn expr(&mut self, depth: usize) -> Expr {
        let n = self.chance.below(if depth == 0 { 3 } else { 6 });
        if n < 3 {
            return match self.one(Type::Int) {
                Some(slot) if n > 0 => Expr::Slot { slot },
                _ => Expr::Const { value: self.chance.below(40) as i64 - 8 },
            };
        }
        let (a, b) = (Box::new(self.expr(depth - 1)), Box::new(self.expr(depth - 1)));
        match n {
            3 => Expr::Add { a, b },
            4 => Expr::Sub { a, b },
            _ => Expr::Mul { a, b },
        }
    }
    fn address(&mut self) -> AddrTerm {
        match (self.chance.below(3), self.one(Type::Addr)) {
            (0, Some(slot)) => AddrTerm::Slot { slot },
            (1, _) if !self.is_user => AddrTerm::ThisSubnet,
            _ => AddrTerm::ThisIp,
        }
    }
    fn cond(&mut self, depth: usize) -> Cond {
        match self.chance.below(if depth == 0 { 5 } else { 8 }) {
            0 => Cond::Contains { arg: self.packets(), word: 0 },
            1 => Cond::Empty { arg: self.packets() },
            2 => match self.one(Type::Addr) {
                Some(addr) if self.chance.below(4) == 0 => Cond::AddrIs { addr, is: self.address() },
                Some(addr) => Cond::AddrIn { addr, addrs: self.addrs() },
                None => Cond::Empty { arg: 0 },
            },
            3 => Cond::Equal { a: self.expr(1), b: self.expr(1) },
            4 => Cond::AtMost { a: self.expr(1), b: self.expr(1) },
            5 => Cond::Not { cond: Box::new(self.cond(depth - 1)) },
            n => {
                let (a, b) = (Box::new(self.cond(depth - 1)), Box::new(self.cond(depth - 1)));
                if n == 6 { Cond::And { a, b } } else { Cond::Or { a, b } }
            }
        }
    }
    fn block(&mut self, depth: usize, len: usize) -> Vec<Instr> {
        (0..len).map(|_| self.instr(depth)).collect()
    }
    fn instr(&mut self, depth: usize) -> Instr {
        match self.chance.below(if depth == 0 { 11 } else { 17 }) {
            0 | 1 => {
                let (arg, test) = (self.packets(), self.test(2));
                Instr::Select { out: self.out(Type::Packets), arg, test }
            }
            2 => {
                let (arg, field) = (self.packets(), self.field());
                Instr::Partition { out: self.out(Type::Groups(field)), arg, field }
            }
            3 => {
                let arg = self.packets();
                let dests = self.out(Type::Dests);
                Instr::Content { dests, contents: self.out(Type::Contents), arg }
            }
            4 | 5 => {
                let (a, b) = (self.packets(), self.packets());
                let out = self.out(Type::Packets);
                if self.chance.below(2) == 0 { Instr::Union { out, a, b } } else { Instr::Minus { out, a, b } }
            }
            6 => {
                let arg = self.packets();
                Instr::Size { out: self.out(Type::Int), arg }
            }
            7 => {
                let expr = self.expr(2);
                Instr::Let { out: self.out(Type::Int), expr }
            }
            8 => {
                let (base, by) = (self.address(), self.expr(1));
                Instr::Offset { out: self.out(Type::Addr), base, by }
            }
            9 => match self.one(Type::Contents) {
                Some(data) => Instr::Generate { src: self.address(), dst: self.address(), data },
                None => Instr::Discard { arg: self.packets() },
            },
            10 => Instr::Discard { arg: self.packets() },
            11..=13 => {
                let cond = self.cond(2);
                let known = self.slots.len();
                let then = self.block(depth - 1, 2);
                // What one branch alone assigns is not there behind it.
                self.slots[known..].iter_mut().for_each(|slot| *slot = (Type::Groups(Field::Src), false));
                Instr::If { cond, then, otherwise: Vec::new() }
            }
            14 | 15 => {
                let groups = self.one(Type::Groups(Field::Dst)).or_else(|| self.one(Type::Groups(Field::Src)));
                let Some(groups) = groups else { return Instr::Discard { arg: self.packets() } };
                let packets = self.slots.len() as Slot;
                self.slots.extend([(Type::Packets, false), (Type::Addr, false)]);
                let body = self.block(depth - 1, 2);
                self.slots[usize::from(packets)..].iter_mut().for_each(|slot| *slot = (Type::Contents, false));
                Instr::Foreach { groups, packets, key: packets + 1, body }
            }
            _ => {
                let cond = self.cond(1);
                let known = self.slots.len();
                let body = self.block(depth - 1, 3);
                self.slots[known..].iter_mut().for_each(|slot| *slot = (Type::Contents, false));
                Instr::While { cond, max: 1 + self.chance.below(20) as u32, body }
            }
        }
    }
}

fn draw(chance: &mut Chance, kind: Kind) -> Program {
    let is_user = matches!(kind, Kind::EndUser | Kind::UserGrouping);
    loop {
        let mut draw = Draw { chance, slots: vec![(Type::Packets, false)], is_user };
        let len = 3 + draw.chance.below(6);
        // Most packets of the window are not the owner's: with these it goes further.
        let mut body = vec![Instr::Select { out: 1, arg: 0, test: Test::Owns { field: Field::Dst } }];
        draw.slots.push((Type::Packets, true));
        body.extend(draw.block(3, len));
        let word = Word { fold: false, bytes: b"worm".to_vec() };
        let window = [0, 1, 4][chance.below(3)];
        let with_word = Program::new(60, window, vec![word], body.clone());
        if let Ok(program) = with_word.or_else(|_| Program::new(60, window, Vec::new(), body)) {
            return program;
        }
    }
}

#[test]
fn the_prover_ends_on_any_program_and_its_certificates_check() {
    println!("seed {SEED:#x}");
    let mut chance = Chance(SEED);
    let stores = [Arc::new(LemmaStore::default()), library()];
    let (mut proven, mut rejected, mut slowest) = (0, 0, Duration::ZERO);
    for number in 0..PROGRAMS {
        let kind = KINDS[chance.below(KINDS.len())];
        let program = draw(&mut chance, kind);
        let (owner, mut policy) = (corpus::owner(kind), corpus::policy(kind));
        if chance.below(3) == 0 {
            policy.limits.complexity_max = 400;
        }
        let hints: Vec<Hint> = (0..program.body().len())
            .map(|instr| Hint {
                instr,
                invariants: vec![
                    Invariant::Cond(Cond::AtMost { a: Expr::Slot { slot: 2 }, b: Expr::Const { value: 3 } }),
                    Invariant::Within { slot: 63, field: Field::Src, addrs: AddrExpr::default() },
                ],
                variant: Some(Expr::Slot { slot: 9 }),
            })
            .collect();
        let lemmas = &*stores[usize::from(chance.below(4) == 0)];
        let started = Instant::now();
        let made = prove(&program, &owner, &policy, lemmas, &hints);
        let took = started.elapsed();
        if took > slowest {
            slowest = took;
            println!("program {number}: {took:?}");
        }
        if number % 10 == 0 {
            assert_eq!(made, prove(&program, &owner, &policy, lemmas, &hints), "program {number}");
        }
        match made {
            Ok(proof) => {
                proven += 1;
                let checked = check(&program.encode(), &proof, owner, &Arc::new(policy), lemmas);
                assert!(checked.is_ok(), "program {number}: {:?}\n{program:?}", checked.err());
            }
            Err(NotProven::NoProofFound { goal, known, .. }) => {
                assert!(!goal.is_empty() && !known.is_empty());
            }
            Err(NotProven::Rejected(_)) => rejected += 1,
        }
    }
    println!("{proven} proven, {rejected} rejected, of {PROGRAMS}");
    assert!(proven >= PROGRAMS / 20 && proven + rejected < PROGRAMS, "the draw has lost its teeth");
}

#[test]
fn terms_that_double_with_every_instruction_are_given_up_on() {
    let int = |slot: Slot| Box::new(Expr::Slot { slot });
    let doubled = |out: Slot| Instr::Let { out, expr: Expr::Add { a: int(out), b: int(out) } };
    let squared = |out: Slot| Instr::Let { out, expr: Expr::Mul { a: int(out), b: int(out) } };
    for double in [&doubled as &dyn Fn(Slot) -> Instr, &squared] {
        let mut body = vec![
            Instr::Select { out: 1, arg: 0, test: Test::Owns { field: Field::Dst } },
            Instr::Size { out: 2, arg: 1 },
        ];
        body.extend((0..80).map(|_| double(2)));
        let cond = Cond::AtMost { a: Expr::Slot { slot: 2 }, b: Expr::Const { value: 7 } };
        body.push(Instr::If {
            cond: cond.clone(),
            then: vec![Instr::Minus { out: 3, a: 1, b: 0 }],
            otherwise: vec![Instr::Minus { out: 3, a: 0, b: 1 }],
        });
        body.push(Instr::If {
            cond,
            then: vec![Instr::Discard { arg: 3 }],
            otherwise: vec![Instr::Discard { arg: 0 }],
        });
        let program = Program::new(60, 1, Vec::new(), body).expect("well-formed");
        let (owner, policy) = (corpus::owner(Kind::EdgeRouter), corpus::policy(Kind::EdgeRouter));
        let made = prove(&program, &owner, &policy, &LemmaStore::default(), &[]);
        assert!(matches!(made, Err(NotProven::NoProofFound { .. } | NotProven::Rejected(_))), "{made:?}");
    }
}
