//! What the tests of the trusted base build their programs, policies, packets and proofs from.
#![allow(dead_code)] // Each test binary uses its own part.

pub mod build;
pub mod calculus;
pub mod model;
pub mod nasty;

use std::sync::Arc;
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, PrefixSet, Principal};
use vinet_trusted::check::{Checked, Reject};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::meaning::{self, Answers, Event, Run};
use vinet_trusted::packet::{Field, Packet, Test};
use vinet_trusted::policy::{Costs, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{Cond, Expr, Instr, Program, Slot, Word};

pub const ME: Addr = Addr::V4(0xc000_0201); // 192.0.2.1
pub const OTHER: Addr = Addr::V4(0xcb00_7107); // 203.0.113.7

/// Marsaglia's xorshift64*: enough for choosing.
pub struct Random(pub u64);

impl Random {
    /// The seed is `VINET_SEED` where that is set; it is printed.
    pub fn seeded(seed: u64) -> Random {
        let seed = std::env::var("VINET_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(seed);
        println!("VINET_SEED={seed}");
        Random(seed)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    pub fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

/// Prices that differ, so that one step counted for another is seen.
pub fn costs() -> Costs {
    Costs {
        program: 30,
        select: 5,
        select_many: 40,
        partition: 11,
        foreach: 13,
        test: 4,
        set: 7,
        arithmetic: 3,
        turn: 9,
        discard: 10,
        contains: 50,
        contains_per_64_bytes: 20,
        stream: 120,
        content: 60,
        content_per_64_bytes: 21,
        generate: 70,
        generate_per_64_bytes: 22,
    }
}

pub fn limits() -> Limits {
    Limits {
        program_bytes_max: 65_536,
        proof_bytes_max: 65_536,
        lifetime_max_s: 30 * 86_400,
        complexity_max: u64::MAX,
        cost_max: u64::MAX,
        packet_bytes_max: 1500,
        window_packets_max: 8,
        window_us_max: 200,
        generate_port: 7401,
        generate_rate_max: 1000,
        stream_flows_max: 256,
        stream_islands_max: 8,
        packet_rate_default: 10_000,
        packet_rate_max: 1_000_000,
        over_budget: OverBudget::Forward,
    }
}

pub fn owns(field: Field) -> Test {
    Test::Owns { field }
}

/// The same formula for discarding, grouping and scanning; generated packets go to the owner.
pub fn policy(principals: PrincipalKind, allow: Test) -> Policy {
    Policy {
        name: "test".into(),
        principals,
        discard: allow.clone(),
        group: allow.clone(),
        scan: allow,
        generate: owns(Field::Dst),
        costs: costs(),
        limits: limits(),
    }
}

/// The policy of end users: only packets to the owner.
pub fn end_user() -> Arc<Policy> {
    Arc::new(policy(PrincipalKind::EndUser, owns(Field::Dst)))
}

/// The policy of edge routers: only packets to the owner's prefix.
pub fn edge_router() -> Arc<Policy> {
    Arc::new(policy(PrincipalKind::EdgeRouter, owns(Field::Dst)))
}

/// A policy under which anybody may group and look, so that only what is done is at stake.
pub fn anyone_looks() -> Policy {
    Policy { group: Test::True, scan: Test::True, ..policy(PrincipalKind::EndUser, owns(Field::Dst)) }
}

pub fn me() -> Principal {
    Principal::EndUser(ME)
}

pub fn none() -> LemmaStore {
    LemmaStore::default()
}

pub fn this_ip() -> AddrExpr {
    AddrExpr { this_ip: true, ..AddrExpr::default() }
}

pub fn this_subnet() -> AddrExpr {
    AddrExpr { this_subnet: true, ..AddrExpr::default() }
}

pub fn prefixes(list: &[(Addr, u8)]) -> AddrExpr {
    let list = list.iter().map(|&(addr, len)| Prefix::of(addr, len).expect("a length of the family")).collect();
    AddrExpr { prefixes: PrefixSet::new(list), ..AddrExpr::default() }
}

pub fn select(out: Slot, arg: Slot, field: Field, addrs: AddrExpr) -> Instr {
    Instr::Select { out, arg, test: Test::In { field, addrs } }
}

pub fn contains(arg: Slot, word: u8) -> Cond {
    Cond::Contains { arg, word }
}

pub fn and(a: Cond, b: Cond) -> Cond {
    Cond::And { a: Box::new(a), b: Box::new(b) }
}

pub fn or(a: Cond, b: Cond) -> Cond {
    Cond::Or { a: Box::new(a), b: Box::new(b) }
}

pub fn not(cond: Cond) -> Cond {
    Cond::Not { cond: Box::new(cond) }
}

pub fn int(value: i64) -> Expr {
    Expr::Const { value }
}

pub fn held(slot: Slot) -> Expr {
    Expr::Slot { slot }
}

pub fn plus(a: Expr, b: Expr) -> Expr {
    Expr::Add { a: Box::new(a), b: Box::new(b) }
}

pub fn at_most(a: Expr, b: Expr) -> Cond {
    Cond::AtMost { a, b }
}

pub fn word(text: &str) -> Word {
    Word { fold: false, bytes: text.as_bytes().to_vec() }
}

pub fn windowed(window: u16, words: &[&str], body: Vec<Instr>) -> Program {
    let words = words.iter().map(|text| word(text)).collect();
    Program::new(3600, window, words, body).expect("a well-formed program")
}

pub fn program(words: &[&str], body: Vec<Instr>) -> Program {
    windowed(1, words, body)
}

/// The paper's virtual firewall.
pub fn firewall(src: AddrExpr) -> Program {
    program(&[], vec![select(1, 0, Field::Dst, this_ip()), select(2, 1, Field::Src, src), Instr::Discard { arg: 2 }])
}

/// The paper's virtual spam filter.
pub fn spam_filter() -> Program {
    program(
        &["casino", "lottery"],
        vec![
            select(1, 0, Field::Dst, this_ip()),
            Instr::Partition { out: 2, arg: 1, field: Field::Src },
            Instr::Foreach {
                groups: 2,
                packets: 3,
                key: 4,
                body: vec![Instr::If {
                    cond: and(contains(3, 0), contains(3, 1)),
                    then: vec![Instr::Discard { arg: 3 }],
                    otherwise: vec![],
                }],
            },
        ],
    )
}

pub fn check(program: &Program, proof: &[u8], policy: &Arc<Policy>) -> Result<Checked, Reject> {
    vinet_trusted::check::check(&program.encode(), proof, me(), policy, &none())
}

/// Answers from two functions.
pub struct Oracle<C, N>(pub C, pub N);

impl<C: FnMut(&[usize], &Word) -> bool, N: FnMut(&[usize], &Word) -> u64> Answers for Oracle<C, N> {
    fn contains(&mut self, packets: &[usize], word: &Word) -> bool {
        !packets.is_empty() && (self.0)(packets, word)
    }
    fn count(&mut self, packets: &[usize], word: &Word) -> u64 {
        if packets.is_empty() { 0 } else { (self.1)(packets, word) }
    }
}

/// The first event of a run that `policy` does not allow to `owner`.
pub fn forbidden<'r>(run: &'r Run, window: &[Packet], owner: &Principal, policy: &Policy) -> Option<&'r Event> {
    run.events.iter().find(|event| {
        let (packet, test) = match event {
            Event::Discard(p) => (window[*p], &policy.discard),
            Event::Group(p) => (window[*p], &policy.group),
            Event::Scan(p) => (window[*p], &policy.scan),
            Event::Generate { src, dst, .. } => (Packet::between(*src, *dst), &policy.generate),
        };
        test.eval(owner, &packet, &|_| packet.dst) != Ok(true)
    })
}

/// A run with answers at random.
pub fn random_run(r: &mut Random, checked: &Checked, window: &[Packet]) -> Run {
    let seed = std::cell::Cell::new(r.next() | 1);
    let draw = |bound: usize| {
        let mut r = Random(seed.get());
        let drawn = r.below(bound);
        seed.set(r.0);
        drawn
    };
    let mut answers =
        Oracle(|_: &[usize], _: &Word| draw(2) == 0, |_: &[usize], _: &Word| [0, 1, 2, 3, 65_535, 1 << 40][draw(6)]);
    let turns = |instr| checked.turns(instr);
    meaning::run(checked.program(), checked.owner(), checked.policy(), window, &mut answers, &turns)
        .expect("a checked program's names have values")
}

/// What a program that was accepted must never do.
pub fn assert_lawful(r: &mut Random, checked: &Checked, window: &[Packet]) -> Run {
    let run = random_run(r, checked, window);
    let foul = forbidden(&run, window, checked.owner(), checked.policy());
    assert_eq!(foul, None, "{window:?} by {:?}", checked.program());
    let most = checked.complexity().saturating_mul(window.len() as u64);
    let cost = run.cost;
    assert!(window.is_empty() || cost <= most, "{cost} > {most} on {window:?} by {:?}", checked.program());
    run
}

/// A packet between two of the addresses that tests use.
pub fn random_packet(r: &mut Random) -> Packet {
    let addresses = [ME, OTHER, Addr::V4(0xc000_0202), Addr::V6(1)];
    let mut packet = Packet::between(r.of(&addresses), if r.one_in(2) { ME } else { r.of(&addresses) });
    packet.numbers[0] = r.of(&[6, 17, 1]);
    packet.numbers[2] = r.of(&[22, 80, 443, Packet::ABSENT]);
    packet.content = r.below(3) as u64;
    packet
}
