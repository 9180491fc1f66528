//! Not covered here: proofs that a clever author builds on purpose; the trusted base's own small-scope test tries all
//! short ones. Windows are small and random, so a forbidden event that needs a rare packet may be missed.
//!
//! The checker is total, and whatever it accepts, a damaged program with a damaged proof included, does nothing in the
//! reference interpreter that the policy forbids.

use crate::programs::{self, AnyAnswers};
use crate::random::Random;
use std::sync::Arc;
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::check::{Checked, check};
use vinet_trusted::meaning::{self, Event};
use vinet_trusted::packet::Packet;

const OWNER: Principal = Principal::EndUser(Addr::V4(0xc000_0201));

/// The input of [`target`]: the length of a program, the program, a proof.
fn pair(program: &[u8], proof: &[u8]) -> Vec<u8> {
    [&(program.len() as u16).to_be_bytes()[..], program, proof].concat()
}

/// Programs with their proofs, and programs without.
#[must_use]
pub fn corpus() -> Vec<Vec<u8>> {
    let policy = crate::policy::end_user();
    let mut random = Random::new(2);
    let lawful = (0..100).map(|_| programs::lawful_program(&mut random)).collect::<Vec<_>>();
    let others = (0..20).map(|_| programs::program(&mut random)).collect::<Vec<_>>();
    let proven = lawful.iter().filter_map(|program| {
        let proof = vinet_prover::prove(program, &OWNER, policy, &vinet_prover::library(), &[]).ok()?;
        Some(pair(&program.encode(), &proof))
    });
    proven.chain(others.iter().map(|program| pair(&program.encode(), &[]))).collect()
}

/// Checks the proof in `data`, and runs what is accepted.
///
/// # Panics
/// Where something misbehaves.
pub fn target(data: &[u8]) -> bool {
    let policy = crate::policy::end_user();
    let Some((len, rest)) = data.split_first_chunk::<2>() else { return false };
    let (bytes, proof) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*len))));
    let Ok(checked) = check(bytes, proof, OWNER, policy, &vinet_prover::library()) else { return false };
    assert_eq!(checked.program().encode(), bytes, "the program that was checked is another one");
    let mut random = Random::new(data.len() as u64);
    for _ in 0..4 {
        run(&checked, &mut random);
    }
    // What is accepted can be lowered, or is refused; an executable of other cells than the policy allows cannot be.
    let _ = vinet_pktops::Executable::lower(Arc::new(checked));
    true
}

fn run(checked: &Checked, random: &mut Random) {
    let (program, policy) = (checked.program(), crate::policy::end_user());
    let window = programs::window(random);
    let turns = |instr| checked.turns(instr);
    let run = meaning::run(program, &OWNER, policy, &window, &mut AnyAnswers(random), &turns);
    let run = run.expect("an accepted program uses no unset name");
    // Complexity is about every window that the program may be given; the empty one it is not given.
    if (1..=usize::from(checked.window())).contains(&window.len()) {
        let ceiling = checked.complexity().saturating_mul(window.len() as u64);
        assert!(run.cost <= ceiling, "a run costs {}, above {ceiling}", run.cost);
    }
    for event in run.events {
        let (formula, packet) = match event {
            Event::Discard(i) => (&policy.discard, window[i]),
            Event::Group(i) => (&policy.group, window[i]),
            Event::Scan(i) => (&policy.scan, window[i]),
            Event::Generate { src, dst, .. } => (&policy.generate, Packet::between(src, dst)),
        };
        let allowed = formula.eval(&OWNER, &packet, &|_| unreachable!("a policy has no slots"));
        assert_eq!(allowed, Ok(true), "{event:?} of {packet:?} is forbidden");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_trusted::addr::{Prefix, PrefixSet};
    use vinet_trusted::packet::Test;
    use vinet_trusted::program::{ALL_PACKETS, AddrExpr, Field, Instr, Program};

    /// Programs that touch what their owner does not own.
    fn foul_programs() -> Vec<Vec<u8>> {
        let select = |field, addrs| Instr::Select { out: 1, arg: ALL_PACKETS, test: Test::In { field, addrs } };
        let among = |prefix| AddrExpr { prefixes: PrefixSet::new(vec![prefix]), ..AddrExpr::default() };
        let own = || AddrExpr { this_ip: true, ..AddrExpr::default() };
        let another = Prefix::host(Addr::V4(0xcb00_7102));
        let around = Prefix::of(Addr::V4(0xc000_0201), 31).expect("a length within the family");
        let everyone = Prefix::new(Addr::V4(0), 0).expect("the whole of IPv4");
        let discard = |arg| Instr::Discard { arg };
        let bodies = [
            vec![discard(ALL_PACKETS)],
            vec![select(Field::Dst, among(another)), discard(1)],
            vec![select(Field::Src, among(another)), discard(1)],
            vec![select(Field::Dst, among(around)), discard(1)],
            vec![select(Field::Dst, among(everyone)), discard(1)],
            vec![select(Field::Src, own()), discard(1)],
            vec![select(Field::Dst, own()), discard(ALL_PACKETS)],
            vec![select(Field::Dst, own()), Instr::Union { out: 2, a: 1, b: ALL_PACKETS }, discard(2)],
            vec![Instr::Partition { out: 1, arg: ALL_PACKETS, field: Field::Src }],
        ];
        bodies.into_iter().map(|body| Program::new(60, 1, vec![], body).expect("a program").encode()).collect()
    }

    #[test]
    fn no_proof_makes_a_foul_program_acceptable() {
        let foul = foul_programs();
        let proofs: Vec<Vec<u8>> = corpus().iter().map(|pair| pair[2..].to_vec()).collect();
        let policy = crate::policy::end_user();
        crate::run("foul", &proofs, 4000, |proof| {
            for program in &foul {
                assert!(
                    check(program, proof, OWNER, policy, &vinet_prover::library()).is_err(),
                    "accepted: {:?}",
                    Program::decode(program)
                );
            }
            true
        });
    }

    #[test]
    fn what_is_accepted_does_nothing_forbidden() {
        let corpus = super::corpus();
        assert!(corpus.len() > 100, "of 100 lawful programs only {} were proven", corpus.len() - 20);
        crate::run("proof", &corpus, 40_000, super::target);
    }
}
