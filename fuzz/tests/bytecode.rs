//! The bytecode decoder and the policy decoder. Not covered: what a program means (trusted's own tests), and its proof (`proof.rs`).

mod common;

use vinet_client::disasm;
use vinet_fuzz::{Random, attack};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{NODES_MAX, Program, SLOTS_MAX};

#[test]
fn a_string_is_refused_or_is_the_one_encoding_of_a_program() {
    let mut random = Random::of_this_run();
    let whole: Vec<Vec<u8>> = common::programs(&common::owner("192.0.2.2")).iter().map(Program::encode).collect();
    let mut programs = 0u64;
    attack(&mut random, &whole, |_, bytes| {
        if let Ok(program) = Program::decode(bytes) {
            programs += 1;
            assert_eq!(program.encode(), bytes, "canonical: a program has one encoding");
            assert!(program.slots().len() <= SLOTS_MAX);
            let listing = disasm::listing(&program);
            assert!(listing.lines().count() <= 8 * NODES_MAX, "a listing is bounded like its program");
        }
    });
    assert!(programs > 0, "no mutation was a program: the attack is too coarse to mean anything");
}

#[test]
fn a_string_is_refused_or_is_the_one_encoding_of_a_policy() {
    let mut random = Random::of_this_run();
    let mut policies = 0u64;
    attack(&mut random, &[common::policy().encode()], |_, bytes| {
        if let Ok(policy) = Policy::decode(bytes) {
            policies += 1;
            assert_eq!(policy.encode(), bytes, "canonical: a policy has one encoding");
        }
    });
    assert!(policies > 0, "no mutation was a policy: the attack is too coarse to mean anything");
}
