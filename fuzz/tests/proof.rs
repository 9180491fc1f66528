//! The proof decoder and the checker behind it, with broken proofs and broken programs. Not covered: proofs that an adversary builds
//! with thought (trusted's small-scope test takes every short one), and policies other than the shipped one.

mod common;

use vinet_fuzz::{Random, attack};
use vinet_prover::prove;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::check::{Checked, check};
use vinet_trusted::meaning::{Event, Packet, run};
use vinet_trusted::program::{ALL_PACKETS, AddrExpr, Field, Instr, Program};

/// Runs an accepted program on random windows: whatever it does has to be allowed by the policy.
fn is_harmless(random: &mut Random, checked: &Checked) {
    let owner = *checked.owner();
    let pool: [Addr; 5] = ["192.0.2.2", "198.51.100.2", "203.0.113.2", "2001:db8::2", "192.0.2.3"]
        .map(|text| text.parse::<std::net::IpAddr>().expect("an address").into());
    for _ in 0..4 {
        let len = random.below(4);
        let window: Vec<Packet> = (0..len).map(|_| Packet { src: *random.of(&pool), dst: *random.of(&pool) }).collect();
        let answers = random.next();
        let mut asked = 0;
        let mut contains = |set: &[usize], _: &[u8]| {
            asked += 1;
            !set.is_empty() && answers >> (asked % 64) & 1 == 1
        };
        let events =
            run(checked.program(), &owner, &window, &mut contains).expect("an accepted program uses no unset name");
        for event in events {
            let (formula, at) = match event {
                Event::Discard(at) => (&checked.policy().discard, at),
                Event::Group(at) => (&checked.policy().group, at),
                Event::Scan(at) => (&checked.policy().scan, at),
            };
            let Packet { src, dst } = window[at];
            assert_eq!(
                formula.eval(&owner, src, dst),
                Ok(true),
                "{event:?} of {src} to {dst} by {:?}",
                checked.program()
            );
        }
    }
}

#[test]
fn whatever_is_accepted_is_harmless() {
    let mut random = Random::of_this_run();
    let (owner, policy) = (common::owner("192.0.2.2"), common::policy());
    let programs = common::programs(&owner);
    let proofs: Vec<Vec<u8>> =
        programs.iter().map(|p| prove(p, &owner, &policy).unwrap_or_else(|e| panic!("{e}"))).collect();
    let encoded: Vec<Vec<u8>> = programs.iter().map(Program::encode).collect();
    for (program, proof) in encoded.iter().zip(&proofs) {
        assert!(check(program, proof, owner, &policy).is_ok(), "the whole strings are accepted");
    }
    let mut accepted = 0u64;
    attack(&mut random, &encoded, |random, program| {
        let proof = if random.below(2) == 0 { random.of(&proofs).clone() } else { random.broken(&proofs) };
        if let Ok(checked) = check(program, &proof, owner, &policy) {
            accepted += 1;
            is_harmless(random, &checked);
        }
    });
    assert!(accepted > 0, "nothing broken was ever accepted: the attack is too coarse to mean anything");
}

/// Programs that touch what their owner does not own.
fn foul_programs() -> Vec<Program> {
    let select = |field, addrs| Instr::Select { out: 1, arg: ALL_PACKETS, field, addrs };
    let among = |prefix| AddrExpr { prefixes: PrefixSet::new(vec![prefix]), ..AddrExpr::default() };
    let own = || AddrExpr { this_ip: true, ..AddrExpr::default() };
    let another = Prefix::host(Addr::from(std::net::IpAddr::from([203, 0, 113, 2])));
    let everyone = Prefix::new(Addr::V4(0), 0).expect("the whole of IPv4");
    let discard = |arg| Instr::Discard { arg };
    let bodies = [
        vec![discard(ALL_PACKETS)],
        vec![select(Field::Dst, among(another)), discard(1)],
        vec![select(Field::Src, among(another)), discard(1)],
        vec![select(Field::Dst, among(everyone)), discard(1)],
        vec![select(Field::Src, own()), discard(1)],
        vec![select(Field::Dst, own()), discard(ALL_PACKETS)],
    ];
    bodies.into_iter().map(|body| Program::new(60, Vec::new(), body).expect("a well-formed program")).collect()
}

#[test]
fn no_proof_makes_a_foul_program_acceptable() {
    let mut random = Random::of_this_run();
    let (owner, policy) = (common::owner("192.0.2.2"), common::policy());
    let proofs: Vec<Vec<u8>> =
        common::programs(&owner).iter().map(|p| prove(p, &owner, &policy).unwrap_or_else(|e| panic!("{e}"))).collect();
    let foul: Vec<Vec<u8>> = foul_programs().iter().map(Program::encode).collect();
    attack(&mut random, &proofs, |random, proof| {
        let program = random.of(&foul);
        assert!(check(program, proof, owner, &policy).is_err(), "accepted: {:?}", Program::decode(program));
    });
}
