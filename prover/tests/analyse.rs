//! The static analyser: what it accepts, what it gives up on and why, and that the checker takes all its certificates.

mod analysis;

use analysis::*;
use std::sync::Arc;
use vinet_prover::analyse;
use vinet_prover::analyse::Lacking;
use vinet_trusted::check::{Reject, check};
use vinet_trusted::lemma::LemmaStore;

#[test]
fn the_simple_corpus_is_accepted() {
    let lemmas = LemmaStore::default();
    let mut failed = Vec::new();
    for (name, program, owner, policy) in simple() {
        match analyse(&program, &owner, &policy, &lemmas) {
            Ok(proof) => {
                println!("{name}: {} bytes of proof", proof.len());
                let checked = check(&program.encode(), &proof, owner, &Arc::new(policy), &lemmas);
                assert!(checked.is_ok(), "{name}: {checked:?}");
            }
            Err(why) => failed.push(format!("{name}: {why}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn beyond_its_domains_it_says_what_it_lacks() {
    for (name, program, owner, policy, lacking) in beyond() {
        let failed = analyse(&program, &owner, &policy, &LemmaStore::default()).expect_err(name);
        println!("{name}: {failed}");
        assert_eq!(failed.why, lacking, "{name}");
    }
}

/// Thousands of programs: whatever the analyser accepts the checker accepts, and whatever it makes of what it knows is a
/// proof. The seed is printed.
#[test]
fn the_checker_takes_every_certificate() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_126);
    println!("seed {seed}");
    let lemmas = LemmaStore::default();
    let policies = [(me(), Arc::new(end_user())), (me(), Arc::new(strict())), (router(), Arc::new(edge_router()))];
    let (mut accepted, mut steps, mut whys) = (0, 0, std::collections::BTreeMap::<String, usize>::new());
    let mut maker = Maker::new(seed);
    for i in 0..6000 {
        let program = maker.program(1 + i % 14);
        let (owner, policy) = &policies[i % 3];
        match analyse(&program, owner, policy, &lemmas) {
            Ok(proof) => {
                accepted += 1;
                let checked = check(&program.encode(), &proof, *owner, policy, &lemmas);
                assert!(checked.is_ok(), "{checked:?}\n{program:?}");
            }
            Err(failed) => {
                if let Lacking::Rejected(reject) = &failed.why {
                    assert!(matches!(reject, Reject::AboveCeiling { .. }), "{reject}\n{program:?}");
                }
                if failed.why == Lacking::Steps {
                    steps += 1;
                    if std::env::var("SHOW").is_ok() {
                        println!("{failed}\n{:#?}", program.body());
                    }
                }
                let why = format!("{:?}", failed.why);
                *whys.entry(why[..why.find('(').unwrap_or(why.len())].into()).or_default() += 1;
            }
        }
    }
    println!("accepted {accepted} of 6000; given up: {whys:?}");
    assert!(accepted > 600, "{accepted}");
    assert!(steps * 20 < accepted, "too many certificates fail: {steps}");
}
