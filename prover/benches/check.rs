//! How long a proof is and how long the checker takes, from bytes to `Checked`: `cargo bench -p vinet-prover`.
//!
//! One core, the minimum and the median over many repeats: the checker does the same work every time, so what is above
//! the minimum is the machine's.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use vinet_prover::prove;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Principal};
use vinet_trusted::check::check;
use vinet_trusted::policy::{Costs, Formula, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrExpr, Cond, Field, Instr, Program};

const REPEATS: usize = 20_000;

fn policy() -> Policy {
    Policy {
        name: "bench".into(),
        principals: PrincipalKind::EndUser,
        discard: Formula::Owns(Field::Dst),
        group: Formula::Owns(Field::Dst),
        scan: Formula::Owns(Field::Dst),
        costs: Costs {
            program: 1,
            select: 1,
            select_many: 1,
            partition: 1,
            foreach: 1,
            test: 1,
            discard: 1,
            contains: 1,
            contains_per_64_bytes: 1,
            stream: 1,
        },
        limits: Limits {
            program_bytes_max: 1 << 18,
            proof_bytes_max: 1 << 16,
            lifetime_max_s: 1 << 24,
            complexity_max: 1 << 32,
            cost_max: 1 << 56,
            packet_bytes_max: 1514,
            stream_flows_max: 1024,
            stream_islands_max: 8,
            packet_rate_default: 1,
            packet_rate_max: 1,
            over_budget: OverBudget::Forward,
        },
    }
}

fn firewall(prefixes: Vec<Prefix>) -> Program {
    let addrs = AddrExpr { prefixes: PrefixSet::new(prefixes), ..AddrExpr::default() };
    let body = vec![mine(), Instr::Select { out: 2, arg: 1, field: Field::Src, addrs }, Instr::Discard { arg: 2 }];
    Program::new(172_800, vec![], body).expect("well-formed")
}

fn spam_filter() -> Program {
    let contains = |word| Box::new(Cond::Contains { arg: 3, word });
    let body = vec![
        mine(),
        Instr::Partition { out: 2, arg: 1, field: Field::Src },
        Instr::Foreach {
            groups: 2,
            packets: 3,
            key: 4,
            body: vec![Instr::If {
                cond: Cond::And(contains(0), contains(1)),
                then: vec![Instr::Discard { arg: 3 }],
                otherwise: vec![],
            }],
        },
    ];
    Program::new(432_000, vec![b"casino".to_vec(), b"lottery".to_vec()], body).expect("well-formed")
}

fn mine() -> Instr {
    let addrs = AddrExpr { this_ip: true, ..AddrExpr::default() };
    Instr::Select { out: 1, arg: 0, field: Field::Dst, addrs }
}

fn main() {
    let policy = Arc::new(policy());
    let owner = Principal::EndUser(Addr::V4(0xc000_0202));
    let many = (0..10_000).filter_map(|i| Prefix::of(Addr::V4(i << 17), 24)).collect();
    let programs = [
        ("firewall, one source", firewall(vec![Prefix::host(Addr::V4(0xcb00_7107))]), REPEATS),
        ("firewall, 10,000 prefixes", firewall(many), REPEATS / 100),
        ("spam filter, two words", spam_filter(), REPEATS),
    ];
    println!("{:<28} {:>14} {:>12} {:>14} {:>14}", "", "program bytes", "proof bytes", "minimum, ns", "median, ns");
    for (name, program, repeats) in programs {
        let bytes = program.encode();
        let proof = prove(&program, &owner, &policy).expect("lawful");
        let mut times: Vec<u128> = (0..repeats)
            .map(|_| {
                let started = Instant::now();
                black_box(check(black_box(&bytes), black_box(&proof), owner, &policy)).expect("proven");
                started.elapsed().as_nanos()
            })
            .collect();
        times.sort_unstable();
        println!("{name:<28} {:>14} {:>12} {:>14} {:>14}", bytes.len(), proof.len(), times[0], times[times.len() / 2]);
    }
}
