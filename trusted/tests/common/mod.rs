//! What the tests of the trusted base build their programs, policies and packets from.
#![allow(dead_code)] // Each test binary uses its own part.

use std::sync::Arc;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Principal};
use vinet_trusted::policy::{Costs, Formula, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrExpr, Cond, Field, Instr, Program, Slot};

pub const ME: Addr = Addr::V4(0xc000_0201); // 192.0.2.1
pub const OTHER: Addr = Addr::V4(0xcb00_7107); // 203.0.113.7

/// Marsaglia's xorshift64*: enough for choosing.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % bound
    }
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    pub fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

pub fn costs() -> Costs {
    Costs {
        program: 30,
        select: 5,
        select_many: 40,
        partition: 10,
        foreach: 10,
        test: 4,
        discard: 10,
        contains: 50,
        contains_per_64_bytes: 20,
        stream: 120,
    }
}

pub fn limits() -> Limits {
    Limits {
        program_bytes_max: 65_536,
        proof_bytes_max: 65_536,
        lifetime_max_s: 30 * 86_400,
        complexity_max: 100_000,
        cost_max: 1 << 50,
        packet_bytes_max: 1500,
        stream_flows_max: 256,
        stream_islands_max: 8,
        packet_rate_default: 10_000,
        packet_rate_max: 1_000_000,
        over_budget: OverBudget::Forward,
    }
}

pub fn policy(principals: PrincipalKind, allow: Formula) -> Policy {
    Policy {
        name: "test".into(),
        principals,
        discard: allow.clone(),
        group: allow.clone(),
        scan: allow,
        costs: costs(),
        limits: limits(),
    }
}

/// The policy of end users: only packets to the owner.
pub fn end_user() -> Arc<Policy> {
    Arc::new(policy(PrincipalKind::EndUser, Formula::Owns(Field::Dst)))
}

/// The policy of edge routers: only packets to the owner's prefix.
pub fn edge_router() -> Arc<Policy> {
    Arc::new(policy(PrincipalKind::EdgeRouter, Formula::Owns(Field::Dst)))
}

pub fn me() -> Principal {
    Principal::EndUser(ME)
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
    Instr::Select { out, arg, field, addrs }
}

pub fn contains(arg: Slot, word: u8) -> Cond {
    Cond::Contains { arg, word }
}

pub fn and(a: Cond, b: Cond) -> Cond {
    Cond::And(Box::new(a), Box::new(b))
}

pub fn or(a: Cond, b: Cond) -> Cond {
    Cond::Or(Box::new(a), Box::new(b))
}

pub fn not(a: Cond) -> Cond {
    Cond::Not(Box::new(a))
}

pub fn program(words: &[&str], body: Vec<Instr>) -> Program {
    let words = words.iter().map(|w| w.as_bytes().to_vec()).collect();
    Program::new(3600, words, body).expect("a well-formed program")
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
