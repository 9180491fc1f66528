//! Programs larger than the small scope: whatever is accepted never does what is forbidden, and never costs more than its
//! complexity says.
//!
//! Random programs of up to sixteen instructions, of every construct and nested, with slots assigned again in branches
//! and loops; windows of one packet and of several; random packets and random answers. A seed is printed;
//! `VINET_SEED` sets it.

mod common;
use common::build::random_program;
use common::*;
use std::sync::Arc;
use vinet_prover::prove;
use vinet_trusted::check::check;
use vinet_trusted::meaning::End;
use vinet_trusted::packet::{Field, Packet, Test};
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::{Instr, Program};

const PROGRAMS: usize = 2_000;
const RUNS: usize = 24;

fn policies() -> Vec<Arc<Policy>> {
    // Anyone may do anything, so that costs alone are at stake; grouping by anyone, so that ownership comes from branches;
    // and sources that nobody may discard.
    let mut anything = policy(PrincipalKind::EndUser, Test::True);
    anything.generate = Test::True;
    let mut guarded = anyone_looks();
    let source = Test::Not { a: Box::new(Test::In { field: Field::Src, addrs: OTHER.into() }) };
    guarded.discard = Test::And { a: Box::new(owns(Field::Dst)), b: Box::new(source) };
    [end_user(), Arc::new(anything), Arc::new(anyone_looks()), Arc::new(guarded)].into()
}

#[test]
fn what_is_accepted_keeps_to_the_policy_and_to_its_cost() {
    let mut r = Random::seeded(0x5eed_0001);
    let policies = policies();
    let (mut accepted, mut with_events, mut stopped, mut dear) = (0usize, 0usize, 0usize, 0u64);
    for number in 0..PROGRAMS {
        let window = [1, 1, 2, 3, 0][number % 5];
        let program = random_program(&mut r, window);
        let bytes = program.encode();
        assert_eq!(Program::decode(&bytes).as_ref(), Ok(&program));
        for policy in &policies {
            let Ok(proof) = prove(&program, &me(), policy, &none(), &[]) else { continue };
            let checked = check(&bytes, &proof, me(), policy, &none()).expect("what the prover makes is accepted");
            accepted += 1;
            let mut any = false;
            for _ in 0..RUNS {
                let most = usize::from(checked.window());
                let len = if r.one_in(3) { most } else { 1 + r.below(most) };
                let packets: Vec<Packet> = (0..len).map(|_| random_packet(&mut r)).collect();
                let run = assert_lawful(&mut r, &checked, &packets);
                any |= !run.events.is_empty();
                stopped += usize::from(run.end != End::Done);
                dear =
                    dear.max(run.cost.saturating_mul(100) / (checked.complexity().saturating_mul(len as u64)).max(1));
            }
            with_events += usize::from(any);
        }
    }
    println!("{PROGRAMS} programs, {accepted} acceptances, {with_events} with events, {stopped} runs stopped early");
    println!("the dearest run came to {dear} % of what was declared");
    assert!(with_events > PROGRAMS / 2, "too few lawful programs do anything: the test would be about nothing");
    assert!(stopped > 100 && dear >= 95, "no run comes near what was declared, or none is stopped");
}

#[test]
fn packets_of_two_groups_cost_as_those_of_both() {
    // Each group of the one partition with each of the other: together they are more than either has.
    let each = |groups, packets, body| Instr::Foreach { groups, packets, key: packets + 1, body };
    let discard = |arg| Instr::Discard { arg };
    let both = vec![Instr::Union { out: 6, a: 2, b: 4 }, discard(6)];
    let body = vec![Instr::Partition { out: 1, arg: 0, field: Field::Src }, each(1, 2, vec![each(1, 4, both)])];
    let mut dearest = policy(PrincipalKind::EndUser, Test::True);
    dearest.costs.discard = 1_000_000;
    let policy = Arc::new(dearest);
    for window in [2, 3, 8] {
        let program = windowed(window, &[], body.clone());
        let proof = prove(&program, &me(), &policy, &none(), &[]).expect("anything goes");
        let checked = common::check(&program, &proof, &policy).expect("what the prover makes");
        let packets: Vec<Packet> =
            (0..window).map(|i| Packet::between(vinet_trusted::addr::Addr::V4(i.into()), ME)).collect();
        assert_lawful(&mut Random(1), &checked, &packets);
    }
}
