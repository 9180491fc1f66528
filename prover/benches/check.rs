//! How long a proof is and how long the checker takes, from bytes to `Checked`: `cargo bench -p vinet-prover`.
//!
//! One core, the minimum and the median over many repeats: the checker does the same work every time, so what is above
//! the minimum is the machine's.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use vinet_prover::corpus::{self, Kind};
use vinet_prover::{library, prove};
use vinet_trusted::addr::{Addr, Prefix, Principal};
use vinet_trusted::check::check;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::Program;

const REPEATS: usize = 20_000;

/// Program bytes, proof bytes, and the least and median nanoseconds of a check.
fn measure(program: &Program, proof: &[u8], owner: Principal, policy: &Arc<Policy>, repeats: usize) -> [usize; 4] {
    let (bytes, lemmas) = (program.encode(), library());
    let mut times: Vec<usize> = (0..repeats)
        .map(|_| {
            let started = Instant::now();
            black_box(check(black_box(&bytes), black_box(proof), owner, policy, &lemmas)).expect("proven");
            started.elapsed().as_nanos() as usize
        })
        .collect();
    times.sort_unstable();
    [bytes.len(), proof.len(), times[0], times[times.len() / 2]]
}

fn line(name: &str, [program, proof, least, median]: [usize; 4]) {
    println!("{name:<74} {program:>9} {proof:>7} {least:>11} {median:>11}");
}

fn main() {
    println!("{:<74} {:>9} {:>7} {:>11} {:>11}", "", "program B", "proof B", "minimum, ns", "median, ns");
    let many = (0..10_000).filter_map(|i| Prefix::of(Addr::V4(i << 17), 24)).collect();
    let papers = [
        ("firewall, one source", corpus::firewall(vec![Prefix::host(Addr::V4(0xcb00_7107))]), Kind::EndUser, REPEATS),
        ("firewall, 10,000 prefixes", corpus::firewall(many), Kind::EndUser, REPEATS / 100),
        ("spam filter, two words", corpus::spam_filter(), Kind::EndUser, REPEATS),
        ("multicast", corpus::multicast(), Kind::EdgeRouter, REPEATS),
    ];
    for (name, program, kind, repeats) in papers {
        let (owner, policy) = (corpus::owner(kind), Arc::new(corpus::policy(kind)));
        let proof = prove(&program, &owner, &policy, &library(), &[]).expect("lawful");
        line(name, measure(&program, &proof, owner, &policy, repeats));
    }
    let mut columns: [Vec<usize>; 4] = Default::default();
    for hard in corpus::hard() {
        let (owner, policy) = (hard.owner(), Arc::new(hard.policy()));
        let proof = prove(&hard.program, &owner, &policy, &library(), &hard.hints).expect("lawful");
        let measured = measure(&hard.program, &proof, owner, &policy, REPEATS / 10);
        line(hard.name, measured);
        columns.iter_mut().zip(measured).for_each(|(column, value)| column.push(value));
    }
    columns.iter_mut().for_each(|column| column.sort_unstable());
    line("hard corpus, median of each column", columns.map(|column| column[column.len() / 2]));
}
