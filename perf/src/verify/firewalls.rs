//! How many firewalls a core verifies in a second: different programs of different owners, one after the other, as a
//! router does when many ask at once. Signatures and the network are not part of it.

use crate::table::Spread;
use crate::verify::clock::nanoseconds;
use crate::verify::inputs::{Sent, Subject};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use vinet_trusted::addr::{Addr, AddrExpr, Principal};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::packet::{Field, Test};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{ALL_PACKETS, Instr, Program};

/// How many there are.
pub const FIREWALLS: u32 = 10_000;

/// The firewalls with their proofs: each of an owner of its own, against a source of its own.
pub fn make(policy: &Arc<Policy>, lemmas: &LemmaStore) -> Result<Vec<Sent>, String> {
    (0..FIREWALLS)
        .map(|number| {
            let owner = Principal::EndUser(Addr::V4(0x0a00_0000 + number * 7));
            // A lifetime of its own as well, so that no two programs have the same bytes.
            let program = firewall(Addr::V4(0xac10_0000 + number * 13), 60 + number);
            let (name, policy) = (format!("firewall {number}"), Arc::clone(policy));
            Subject { name, program, hints: Vec::new(), owner, policy }.proven(lemmas).map_err(|why| why.to_string())
        })
        .collect()
}

fn firewall(source: Addr, lifetime_s: u32) -> Program {
    let this_ip = AddrExpr { this_ip: true, ..AddrExpr::default() };
    let body = vec![
        Instr::Select { out: 1, arg: ALL_PACKETS, test: Test::In { field: Field::Dst, addrs: this_ip } },
        Instr::Select { out: 2, arg: 1, test: Test::In { field: Field::Src, addrs: source.into() } },
        Instr::Discard { arg: 2 },
    ];
    Program::new(lifetime_s, 1, Vec::new(), body).expect("the paper's firewall is well-formed")
}

/// How many a second, of so many rounds over all of them. They have to be different, and all be accepted.
pub fn rate(firewalls: &[Sent], lemmas: &LemmaStore, rounds: usize) -> Result<Spread, String> {
    let different: BTreeSet<(&[u8], Principal)> = firewalls.iter().map(|f| (f.program.as_slice(), f.owner)).collect();
    let owners: BTreeSet<Principal> = firewalls.iter().map(|f| f.owner).collect();
    if different.len() != firewalls.len() || owners.len() != firewalls.len() {
        return Err("two firewalls are the same, or of one owner".to_owned());
    }
    let mut rates = Vec::new();
    for _ in 0..rounds.max(1) {
        let mut accepted = 0;
        let ns = nanoseconds(|| {
            for firewall in firewalls {
                accepted += usize::from(black_box(firewall.check(lemmas)).is_ok());
            }
        });
        if accepted != firewalls.len() {
            return Err(format!("{} of {} were refused", firewalls.len() - accepted, firewalls.len()));
        }
        rates.push(firewalls.len() as f64 * 1e9 / ns);
    }
    Ok(Spread::of(rates))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_prover::corpus::{Kind, policy};

    fn sent(number: u32, proof: Vec<u8>) -> Sent {
        let program = firewall(Addr::V4(number), 60).encode();
        Sent {
            program,
            proof,
            owner: Principal::EndUser(Addr::V4(7 + number)),
            policy: Arc::new(policy(Kind::EndUser)),
        }
    }

    #[test]
    fn a_round_with_a_refusal_or_with_the_same_firewall_twice_is_no_figure() {
        let lemmas = LemmaStore::default();
        let same = rate(&[sent(1, vec![]), sent(1, vec![])], &lemmas, 1);
        assert_eq!(same, Err("two firewalls are the same, or of one owner".to_owned()));
        let refused = rate(&[sent(1, vec![]), sent(2, vec![0xff])], &lemmas, 1);
        assert_eq!(refused, Err("2 of 2 were refused".to_owned()));
    }
}
