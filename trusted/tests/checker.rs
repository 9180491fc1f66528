//! The checker accepts what is proven and names the offence of everything else.

mod common;
use common::*;
use std::sync::Arc;
use vinet_prover::prove;
use vinet_trusted::addr::{Addr, Prefix, Principal};
use vinet_trusted::check::{Ceiling, Checked, Reject, note};
use vinet_trusted::gate::{self, Action, Cell};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::Fault;
use vinet_trusted::meaning::{self, Event};
use vinet_trusted::packet::{Field, Number, Packet, Ranges, Test};
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::{AddrTerm, Cond, Instr, Program, ProgramError};
use vinet_trusted::proof::{ProofFault, rule};
use vinet_trusted::term::Op;
use vinet_trusted::walk::Duty;
use vinet_trusted::wire::WireError;

fn proven(program: &Program, owner: Principal, policy: &Arc<Policy>) -> Result<(Vec<u8>, Checked), String> {
    let store = LemmaStore::default();
    let proof = prove(program, &owner, policy, &store, &[]).map_err(|e| format!("{e:?}"))?;
    let checked = vinet_trusted::check::check(&program.encode(), &proof, owner, policy, &store);
    checked.map(|checked| (proof, checked)).map_err(|e| e.to_string())
}

fn fault(program: &Program, proof: &[u8], policy: &Arc<Policy>) -> ProofFault {
    match check(program, proof, policy) {
        Err(Reject::NotProven(place)) => place.fault,
        other => panic!("expected NotProven, got {other:?}"),
    }
}

/// A branch establishes ownership, a loop counts, and something is sent.
fn of_every_kind() -> Program {
    windowed(
        3,
        &["w"],
        vec![
            Instr::Partition { out: 1, arg: 0, field: Field::Dst },
            Instr::Foreach {
                groups: 1,
                packets: 2,
                key: 3,
                body: vec![Instr::If {
                    cond: Cond::AddrIn { addr: 3, addrs: this_ip() },
                    then: vec![
                        Instr::Count { out: 4, arg: 2, word: 0 },
                        Instr::If {
                            cond: at_most(int(2), held(4)),
                            then: vec![Instr::Discard { arg: 2 }],
                            otherwise: vec![],
                        },
                    ],
                    otherwise: vec![],
                }],
            },
            select(5, 0, Field::Dst, this_ip()),
            Instr::Content { dests: 6, contents: 7, arg: 5 },
            Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::ThisIp, data: 7 },
            Instr::Let { out: 8, expr: int(0) },
            Instr::While {
                cond: at_most(held(8), int(1)),
                max: 2,
                body: vec![Instr::Let { out: 8, expr: plus(held(8), int(1)) }, Instr::Discard { arg: 5 }],
            },
            Instr::Minus { out: 9, a: 5, b: 0 },
            Instr::Discard { arg: 9 },
        ],
    )
}

#[test]
fn the_papers_programs_are_proven_in_a_few_bytes() {
    let (proof, checked) = proven(&firewall(OTHER.into()), me(), &end_user()).expect("a lawful firewall");
    assert!(proof.len() <= 64, "the firewall's proof has {} bytes", proof.len());
    assert_eq!(checked.complexity(), 30 + 5 + 5 + 10);
    assert_eq!(checked.cost(), 50 * 3600);
    assert_eq!(checked.state_bytes(), 0);
    assert_eq!(checked.window(), 1);
    let (proof, checked) = proven(&spam_filter(), me(), &end_user()).expect("a lawful spam filter");
    assert!(proof.len() <= 200, "the spam filter's proof has {} bytes", proof.len());
    // Program, stream, select, partition, foreach; three tests, two searches of 24 blocks; discard.
    assert_eq!(checked.complexity(), 30 + 120 + 5 + 11 + 13 + 3 * 4 + 2 * (50 + 24 * 20) + 10);
    assert_eq!(checked.state_bytes(), 256 * (96 + 8 * (24 + 2 * 6 + 8 * 2)) + 4096);
}

#[test]
fn an_edge_router_programs_its_prefix_and_no_more() {
    let owner = Principal::edge_router(ME, 24).expect("a prefix");
    let lawful = program(&[], vec![select(1, 0, Field::Dst, this_subnet()), Instr::Discard { arg: 1 }]);
    proven(&lawful, owner, &edge_router()).expect("its own prefix");
    let host = program(&[], vec![select(1, 0, Field::Dst, this_ip()), Instr::Discard { arg: 1 }]);
    proven(&host, owner, &edge_router()).expect("a host of its prefix");
    let wider = program(&[], vec![select(1, 0, Field::Dst, prefixes(&[(ME, 23)])), Instr::Discard { arg: 1 }]);
    assert!(proven(&wider, owner, &edge_router()).is_err());
    let nameless = Principal::edge_router(Addr::V4(0xc000_0200), 24).expect("a prefix");
    let unset = vinet_trusted::check::check(&host.encode(), &[0], nameless, &edge_router(), &none());
    assert!(matches!(unset, Err(Reject::Unset(Some(0), _))), "{unset:?}");
    assert!(matches!(check(&lawful, &[0], &end_user()), Err(Reject::Unset(Some(0), _))));
}

#[test]
fn client_cannot_discard_anothers_packets() {
    let foreign = [
        program(&[], vec![Instr::Discard { arg: 0 }]),
        program(&[], vec![select(1, 0, Field::Dst, OTHER.into()), Instr::Discard { arg: 1 }]),
        program(&[], vec![select(1, 0, Field::Src, this_ip()), Instr::Discard { arg: 1 }]),
        program(&["x"], vec![Instr::If { cond: contains(0, 0), then: vec![], otherwise: vec![] }]),
        program(&["x"], vec![Instr::Count { out: 1, arg: 0, word: 0 }]),
        program(&[], vec![Instr::Partition { out: 1, arg: 0, field: Field::Dst }]),
        program(&[], vec![Instr::Content { dests: 1, contents: 2, arg: 0 }]),
        program(
            &[],
            vec![select(1, 0, Field::Dst, this_ip()), Instr::Union { out: 1, a: 1, b: 0 }, Instr::Discard { arg: 1 }],
        ),
        program(
            &[],
            vec![select(1, 0, Field::Dst, this_ip()), Instr::Minus { out: 2, a: 0, b: 1 }, Instr::Discard { arg: 2 }],
        ),
        program(
            &[],
            vec![
                select(1, 0, Field::Dst, this_ip()),
                Instr::Content { dests: 2, contents: 3, arg: 1 },
                Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::Const { addr: OTHER }, data: 3 },
            ],
        ),
    ];
    let (lawful_proof, _) = proven(&firewall(OTHER.into()), me(), &end_user()).expect("lawful");
    for program in &foreign {
        assert!(prove(program, &me(), &end_user(), &none(), &[]).is_err(), "{program:?}");
        assert!(check(program, &lawful_proof, &end_user()).is_err());
    }
}

#[test]
fn what_a_loop_changes_is_known_by_nothing() {
    // In the second turn slot 1 holds what the first turn left: packets from the owner to anyone.
    let policy = Arc::new(anyone_looks());
    let creep = vec![Instr::Discard { arg: 1 }, select(1, 0, Field::Src, this_ip())];
    let own = select(1, 0, Field::Dst, this_ip());
    let foreach = Instr::Foreach { groups: 2, packets: 3, key: 4, body: creep.clone() };
    let by_groups = vec![own.clone(), Instr::Partition { out: 2, arg: 1, field: Field::Src }, foreach];
    let count = Instr::Let { out: 2, expr: plus(held(2), int(1)) };
    let turn = Instr::While { cond: at_most(held(2), int(1)), max: 2, body: [creep, vec![count]].concat() };
    let by_turns = vec![own, Instr::Let { out: 2, expr: int(0) }, turn];
    for body in [by_groups, by_turns] {
        let creeping = windowed(2, &[], body);
        assert!(prove(&creeping, &me(), &policy, &none(), &[]).is_err());
    }
}

#[test]
fn where_two_branches_meet_both_count() {
    let policy = Arc::new(anyone_looks());
    let meeting = |then: vinet_trusted::addr::AddrExpr, otherwise: vinet_trusted::addr::AddrExpr| {
        let branches = Instr::If {
            cond: contains(0, 0),
            then: vec![select(1, 0, Field::Dst, then)],
            otherwise: vec![select(1, 0, Field::Dst, otherwise)],
        };
        program(&["x"], vec![branches, Instr::Discard { arg: 1 }])
    };
    proven(&meeting(this_ip(), ME.into()), me(), &policy).expect("lawful on both ways");
    assert!(prove(&meeting(this_ip(), OTHER.into()), &me(), &policy, &none(), &[]).is_err());
    assert!(prove(&meeting(OTHER.into(), this_ip()), &me(), &policy, &none(), &[]).is_err());
}

#[test]
fn ownership_by_a_branch_on_the_groups_address_is_proven() {
    let policy = Arc::new(anyone_looks());
    let branch = |cond, then, otherwise| {
        let body = vec![Instr::If { cond, then, otherwise }];
        program(
            &[],
            vec![
                Instr::Partition { out: 1, arg: 0, field: Field::Dst },
                Instr::Foreach { groups: 1, packets: 2, key: 3, body },
            ],
        )
    };
    let mine = || Cond::AddrIn { addr: 3, addrs: this_ip() };
    let theirs = || Cond::AddrIn { addr: 3, addrs: OTHER.into() };
    let discard = || vec![Instr::Discard { arg: 2 }];
    proven(&branch(mine(), discard(), vec![]), me(), &policy).expect("the branch shows it");
    proven(&branch(not(mine()), vec![], discard()), me(), &policy).expect("so does the other branch of its opposite");
    proven(&branch(or(not(mine()), theirs()), vec![], discard()), me(), &policy).expect("and neither of two");
    proven(&branch(or(mine(), and(mine(), theirs())), discard(), vec![]), me(), &policy).expect("and two cases");
    assert!(prove(&branch(mine(), vec![], discard()), &me(), &policy, &none(), &[]).is_err());
    assert!(prove(&branch(or(mine(), theirs()), discard(), vec![]), &me(), &policy, &none(), &[]).is_err());
}

#[test]
fn every_step_of_a_good_proof_is_needed() {
    let policy = Arc::new(anyone_looks());
    for program in [firewall(OTHER.into()), spam_filter(), of_every_kind()] {
        let (proof, _) = proven(&program, me(), &policy).expect("lawful");
        let mut r = Random(7);
        for at in 0..proof.len() {
            assert!(check(&program, &proof[..at], &policy).is_err(), "cut at {at}");
            // A byte may stand for a step that is not needed (the prover is not trusted to be terse): then what is left is
            // a proof of the same program, and the program keeps to the policy as before.
            let mut cut = proof.clone();
            cut.remove(at);
            if let Ok(checked) = check(&program, &cut, &policy) {
                keeps(&mut r, &checked);
            }
        }
        let longer = [&proof[..], &[rule::DONE]].concat();
        let Err(Reject::NotProven(place)) = check(&program, &longer, &policy) else { panic!("a byte too many") };
        assert_eq!((place.fault, place.at, place.duty), (ProofFault::Trailing, proof.len(), None));
    }
    let (proof, _) = proven(&firewall(OTHER.into()), me(), &end_user()).expect("lawful");
    for at in 0..proof.len() {
        let mut cut = proof.clone();
        cut.remove(at);
        assert!(check(&firewall(OTHER.into()), &cut, &end_user()).is_err(), "without byte {at} of {proof:02x?}");
    }
}

fn keeps(r: &mut Random, checked: &Checked) {
    for _ in 0..12 {
        let len = 1 + r.below(usize::from(checked.window()));
        let window: Vec<Packet> = (0..len).map(|_| random_packet(r)).collect();
        assert_lawful(r, checked, &window);
    }
}

/// What is made of bytes by a change at random.
fn mutated(r: &mut Random, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = r.below(bytes.len());
    match r.below(8) {
        0 => bytes[at] ^= 1 << r.below(8),
        1 => bytes[at] = r.next() as u8,
        2 => bytes.swap(at, (at + 1) % other.len().min(at + 1).max(1)),
        3 => bytes.truncate(at),
        4 => bytes.insert(at, r.next() as u8),
        5 => drop(bytes.remove(at)),
        6 => {
            let from = r.below(other.len());
            let len = r.below(6).min(other.len() - from);
            bytes.splice(at..(at + len).min(bytes.len()), other[from..from + len].iter().copied());
        }
        _ => {
            let len = (1 + r.below(5)).min(bytes.len() - at);
            let again = bytes[at..at + len].to_vec();
            bytes.splice(at..at, again);
        }
    }
    bytes
}

#[test]
fn what_is_changed_is_accepted_only_where_it_is_lawful_still() {
    let mut r = Random::seeded(0x5eed_0003);
    let policy = Arc::new(anyone_looks());
    let programs = [firewall(OTHER.into()), spam_filter(), of_every_kind()];
    let policies: Vec<Arc<Policy>> = vec![end_user(), policy.clone(), edge_router()];
    let proofs: Vec<Vec<u8>> = programs.iter().map(|p| proven(p, me(), &policy).expect("lawful").0).collect();
    let mut accepted = [0usize; 4];
    for _ in 0..60_000 {
        let (i, j) = (r.below(programs.len()), r.below(programs.len()));
        let (mut bytes, mut proof, mut rules, mut owner) =
            (programs[i].encode(), proofs[i].clone(), policy.clone(), me());
        let what = r.below(4);
        match what {
            0 => proof = mutated(&mut r, &proof, &proofs[j]),
            1 => bytes = mutated(&mut r, &bytes, &programs[j].encode()),
            2 => {
                let other = r.of(&policies);
                let changed = mutated(&mut r, &rules.encode(), &other.encode());
                let Ok(changed) = Policy::decode(&changed) else { continue };
                assert_eq!(Policy::decode(&changed.encode()).as_ref(), Ok(&changed));
                rules = Arc::new(changed);
            }
            _ => {
                let addr = r.of(&[ME, OTHER, Addr::V4(0xc000_0200), Addr::V6(1)]);
                owner = if r.one_in(2) {
                    Principal::EndUser(addr)
                } else {
                    Principal::edge_router(addr, 24).expect("fits")
                };
                rules = r.of(&policies);
            }
        }
        if let Ok(checked) = vinet_trusted::check::check(&bytes, &proof, owner, &rules, &none()) {
            accepted[what] += 1;
            assert_eq!(checked.program().encode(), bytes);
            assert_eq!((checked.owner(), checked.policy_id()), (&owner, rules.id()));
            let limits = rules.limits;
            assert!(checked.complexity() <= limits.complexity_max && checked.cost() <= limits.cost_max);
            assert!(checked.window() <= limits.window_packets_max && checked.lifetime_s() <= limits.lifetime_max_s);
            keeps(&mut r, &checked);
        }
    }
    println!("accepted with a changed proof, program, policy, owner: {accepted:?}");
    assert!(accepted[1] > 50 && accepted[2] > 50, "no change is lawful: the test would be about nothing");
}

#[test]
fn a_stricter_policy_refuses_the_proof_made_for_another() {
    let program = firewall(prefixes(&[(OTHER, 24)]));
    let (proof, _) = proven(&program, me(), &end_user()).expect("lawful");
    // The operator protects one source from being discarded by anyone.
    let protected = Test::Not { a: Box::new(Test::In { field: Field::Src, addrs: OTHER.into() }) };
    let mut strict = policy(PrincipalKind::EndUser, owns(Field::Dst));
    strict.discard = Test::And { a: Box::new(owns(Field::Dst)), b: Box::new(protected) };
    let strict = Arc::new(strict);
    assert!(check(&program, &proof, &strict).is_err());
    assert!(prove(&program, &me(), &strict, &none(), &[]).is_err());
    proven(&firewall(prefixes(&[(ME, 24)])), me(), &strict).expect("other sources can still be discarded");
}

#[test]
fn a_proof_does_not_pass_for_another_program_owner_or_kind() {
    let mine = firewall(OTHER.into());
    let (proof, _) = proven(&mine, me(), &end_user()).expect("lawful");
    let own =
        vec![select(1, 0, Field::Dst, ME.into()), select(2, 1, Field::Src, OTHER.into()), Instr::Discard { arg: 2 }];
    let foreign = program(&[], own);
    check(&foreign, &proof, &end_user()).expect("its constant is this owner's address");
    let policy = end_user();
    let checked = |owner| vinet_trusted::check::check(&foreign.encode(), &proof, owner, &policy, &none());
    assert!(matches!(checked(Principal::EndUser(OTHER)), Err(Reject::NotProven(_))));
    let router = Principal::edge_router(ME, 24).expect("a prefix");
    assert!(matches!(checked(router), Err(Reject::WrongPrincipal { .. })));
}

#[test]
fn the_ceilings_hold_to_the_unit() {
    let program = firewall(OTHER.into());
    let (proof, checked) = proven(&program, me(), &end_user()).expect("lawful");
    let with = |program: &Program, change: &dyn Fn(&mut Policy)| {
        let mut policy = policy(PrincipalKind::EndUser, owns(Field::Dst));
        change(&mut policy);
        check(program, &proof, &Arc::new(policy)).err()
    };
    let above = |what, value, ceiling| Some(Reject::AboveCeiling { what, value, ceiling });
    let (complexity, cost) = (checked.complexity(), checked.cost());
    assert_eq!((complexity, cost), (50, 180_000));
    assert_eq!(with(&program, &|p| p.limits.complexity_max = complexity), None);
    let refused = with(&program, &|p| p.limits.complexity_max = complexity - 1);
    assert_eq!(refused, above(Ceiling::Complexity, complexity, complexity - 1));
    assert_eq!(with(&program, &|p| p.limits.cost_max = cost), None);
    assert_eq!(with(&program, &|p| p.limits.cost_max = cost - 1), above(Ceiling::Cost, cost, cost - 1));
    assert_eq!(with(&program, &|p| p.limits.lifetime_max_s = 3600), None);
    assert_eq!(with(&program, &|p| p.limits.lifetime_max_s = 3599), above(Ceiling::Lifetime, 3600, 3599));
    let len = program.encode().len() as u64;
    assert_eq!(with(&program, &|p| p.limits.program_bytes_max = len as u32), None);
    let refused = with(&program, &|p| p.limits.program_bytes_max = len as u32 - 1);
    assert_eq!(refused, above(Ceiling::ProgramBytes, len, len - 1));
    let len = proof.len() as u64;
    assert_eq!(with(&program, &|p| p.limits.proof_bytes_max = len as u32), None);
    let refused = with(&program, &|p| p.limits.proof_bytes_max = len as u32 - 1);
    assert_eq!(refused, above(Ceiling::ProofBytes, len, len - 1));
    let wide = windowed(4, &[], program.body().to_vec());
    assert_eq!(with(&wide, &|p| p.limits.window_packets_max = 4), None);
    assert_eq!(with(&wide, &|p| p.limits.window_packets_max = 3), above(Ceiling::Window, 4, 3));
    // A window that is left open is as long as the policy has it.
    let open = windowed(0, &[], program.body().to_vec());
    let checked = check(&open, &proof, &end_user()).expect("the proof speaks of no window");
    assert_eq!(checked.window(), 8);
    assert_eq!(checked.state_bytes(), 8 * (128 + 1500));
}

#[test]
fn costs_are_the_sums_of_the_steps_on_every_way() {
    let mut anything = policy(PrincipalKind::EndUser, Test::True);
    anything.generate = Test::True;
    let anything = Arc::new(anything);
    let cost = |window, words: &[&str], body| {
        let program = windowed(window, words, body);
        proven(&program, me(), &anything).expect("anything goes").1.complexity()
    };
    let discard = |arg| Instr::Discard { arg };
    let ports = Ranges::new(vec![(1, 2), (4, 5)]).expect("ranges");
    let number = |ranges| Test::Number { number: Number::DstPort, ranges };
    let one = Ranges::new(vec![(1, 2)]).expect("a range");
    let both = Test::And { a: Box::new(number(ports)), b: Box::new(number(one)) };
    assert_eq!(cost(1, &[], vec![]), 30);
    assert_eq!(cost(1, &[], vec![Instr::Select { out: 1, arg: 0, test: both }]), 30 + 5 + 2 * 4 + 40);
    assert_eq!(cost(1, &[], vec![select(1, 0, Field::Src, prefixes(&[(ME, 32), (OTHER, 32)]))]), 30 + 5 + 40);
    assert_eq!(cost(1, &["w"], vec![Instr::Count { out: 1, arg: 0, word: 0 }]), 30 + 120 + 50 + 24 * 20);
    let content = Instr::Content { dests: 1, contents: 2, arg: 0 };
    let send = Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::ThisIp, data: 1 };
    assert_eq!(cost(1, &[], vec![content.clone()]), 30 + 60 + 24 * 21);
    assert_eq!(cost(1, &[], vec![content, send]), 30 + 60 + 24 * 21 + 70 + 24 * 22);
    let sets =
        vec![Instr::Union { out: 1, a: 0, b: 0 }, Instr::Minus { out: 2, a: 0, b: 1 }, Instr::Size { out: 3, arg: 1 }];
    assert_eq!(cost(1, &[], sets), 30 + 7 * 5);
    let expr = plus(int(1), int(2));
    let count = vec![
        Instr::Let { out: 1, expr: expr.clone() },
        Instr::Offset { out: 2, base: AddrTerm::ThisIp, by: expr.clone() },
    ];
    assert_eq!(cost(1, &[], count), 30 + 3 * 3 + 3 + 3 * 3);
    let branch = |then, otherwise| Instr::If { cond: at_most(int(0), int(1)), then, otherwise };
    let test = 4 + 2 * 3;
    assert_eq!(cost(1, &[], vec![branch(vec![discard(0)], vec![discard(0), discard(0)])]), 30 + test + 20);
    assert_eq!(cost(1, &[], vec![branch(vec![discard(0), discard(0)], vec![discard(0)])]), 30 + test + 20);
    let turn = Instr::While { cond: at_most(int(1), int(0)), max: 5, body: vec![discard(0)] };
    assert_eq!(cost(1, &[], vec![turn]), 30 + 5 * (test + 9 + 10) + test);
    // In a window of four: a group's block once for each packet, the whole window once for each group.
    let groups = Instr::Partition { out: 1, arg: 0, field: Field::Src };
    let each = |body| Instr::Foreach { groups: 1, packets: 2, key: 3, body };
    assert_eq!(cost(4, &[], vec![groups.clone(), each(vec![discard(2)])]), 30 + 11 + 13 + 10);
    assert_eq!(cost(4, &[], vec![groups.clone(), each(vec![discard(0)])]), 30 + 11 + 13 + 4 * 10);
    let inner = Instr::Foreach { groups: 1, packets: 4, key: 5, body: vec![discard(4), discard(2), discard(0)] };
    let nested = vec![groups.clone(), each(vec![inner])];
    assert_eq!(cost(4, &[], nested), 30 + 11 + 13 + 4 * 13 + 10 * (4 + 4 + 16));
    let split = vec![
        Instr::Partition { out: 4, arg: 2, field: Field::Dst },
        Instr::Foreach { groups: 4, packets: 5, key: 6, body: vec![discard(5), discard(2)] },
    ];
    assert_eq!(cost(4, &[], vec![groups.clone(), each(split)]), 30 + 11 + 13 + 11 + 13 + 10 * (1 + 4));
    let ways = each(vec![branch(vec![discard(2)], vec![discard(2), discard(2)])]);
    assert_eq!(
        cost(4, &[], vec![groups.clone(), ways.clone()]),
        30 + 11 + 13 + test + 30,
        "some go this way, some that"
    );
    assert_eq!(cost(1, &[], vec![groups, ways]), 30 + 11 + 13 + test + 20, "one packet goes one way");
}

#[test]
fn the_rules_refuse_what_does_not_follow() {
    // One obligation: slot 1 is grouped; it is the packets to the owner.
    let program = program(&[], vec![select(1, 0, Field::Dst, this_ip())]);
    let policy = end_user();
    let good = [note::NONE, rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::DONE];
    check(&program, &good, &policy).expect("the shortest proof");
    let step = ProofFault::Step;
    let (truth, no) = (Op::True as u8, Op::False as u8);
    let cases: &[(&[u8], ProofFault)] = &[
        (&[rule::DONE], ProofFault::StackEmpty),
        (&[rule::CLAIM, 1, rule::DONE], step(Fault::NoSuchAssumption)),
        (&[rule::CLAIM, 0, rule::DONE], ProofFault::NotTheGoal),
        (&[rule::CLAIM, 0, rule::LEFT, rule::DONE], step(Fault::WrongForm)),
        (&[rule::CLAIM, 0, rule::UNFOLD, rule::LEFT, rule::UNFOLD], step(Fault::NoFact)),
        (&[rule::CLAIM, 0, rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::DONE], ProofFault::NotTheGoal),
        (&[rule::CLAIM, 0, rule::DISCHARGE, 0], step(Fault::NoSuchAssumption)),
        (&[rule::DISCHARGE, 0], ProofFault::StackEmpty),
        // An assumption of the proof's own has to be discharged before the end.
        (&[rule::ASSUME, 0x40, rule::CLAIM, 1, rule::DONE], ProofFault::NotTheGoal),
        (&[rule::ASSUME, truth, rule::CLAIM, 1, rule::NEGATE], step(Fault::WrongForm)),
        (&[rule::ASSUME, no, rule::CLAIM, 1, rule::NEGATE], step(Fault::WrongForm)),
        (&[rule::CITE, 0], step(Fault::NotShown)),
        (&[rule::TRUTH, rule::DOUBLE_NEGATION], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::TRUTH, rule::MODUS_PONENS], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::TRUTH, rule::ABSURD], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::TRUTH, rule::TRUTH, rule::CASES], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::TRUTH, rule::APART], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::SYMMETRY], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::TRUTH, rule::CONGRUENCE], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::COPY, 1], ProofFault::StackEmpty),
        (&[rule::LINEAR, 0], step(Fault::NoContradiction)),
        (&[rule::LINEAR, 1, 0], ProofFault::StackEmpty),
        (&[rule::LEMMA, 0], step(Fault::NoSuchLemma)),
        (&[rule::FACT, 1], step(Fault::NoFact)),
        (&[rule::COPY + 1], ProofFault::Wire(WireError::UnknownTag(rule::COPY + 1))),
        (&[rule::ASSUME, 0x43], ProofFault::Wire(WireError::UnknownTag(0x43))),
    ];
    for (proof, expected) in cases {
        let proof = [&[note::NONE][..], proof].concat();
        assert_eq!(fault(&program, &proof, &policy), *expected, "{proof:02x?}");
        let Err(Reject::NotProven(place)) = check(&program, &proof, &policy) else { unreachable!("as before") };
        assert_eq!((place.instr, place.shown), (0, 0));
        assert!(matches!(place.duty, Some(Duty::Event(..))));
    }
    for flags in [1, 2, 8, 0x80] {
        assert_eq!(fault(&program, &[flags], &policy), ProofFault::Wire(WireError::UnknownTag(flags)));
    }
    // A set is apart from another only where they have no address in common.
    let own = [rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT];
    let proof = [&[note::NONE][..], &own, &own, &[rule::APART]].concat();
    assert_eq!(fault(&program, &proof, &policy), step(Fault::NotApart));
}

#[test]
fn the_gates_give_no_more_than_the_policy() {
    let (_, checked) = proven(&firewall(OTHER.into()), me(), &end_user()).expect("lawful");
    let checked = Arc::new(checked);
    let host = Prefix::host;
    let any = Prefix::of(ME, 0).expect("a prefix");
    let cell = Cell::new(&checked, host(OTHER), host(ME), Action::Discard).expect("its own address");
    assert!(cell.permit().is_some() && cell.scan_permit().is_some());
    assert!(Cell::new(&checked, any, host(ME), Action::Run).expect("any source").permit().is_none());
    for dst in [host(OTHER), any, Prefix::of(ME, 31).expect("a prefix")] {
        assert!(Cell::new(&checked, any, dst, Action::Discard).is_err(), "{dst}");
        assert!(Cell::new(&checked, any, dst, Action::Run).is_err(), "{dst}");
    }
    let between = Packet::between;
    assert!(gate::discard(&checked, &between(OTHER, ME)).is_some());
    assert!(gate::discard(&checked, &between(ME, OTHER)).is_none());
    assert!(gate::scan(&checked, &between(OTHER, ME)).is_some());
    assert!(gate::scan(&checked, &between(ME, OTHER)).is_none());
    let permit = gate::generate(&checked, OTHER, ME).expect("to the owner");
    assert_eq!((permit.src(), permit.dst()), (OTHER, ME));
    assert!(gate::generate(&checked, ME, OTHER).is_none());
}

#[test]
fn a_cell_is_refused_where_the_policy_protects_a_part_of_it() {
    let mut strict = policy(PrincipalKind::EndUser, owns(Field::Dst));
    let protected = Test::Not { a: Box::new(Test::In { field: Field::Src, addrs: OTHER.into() }) };
    strict.discard = Test::And { a: Box::new(owns(Field::Dst)), b: Box::new(protected) };
    strict.scan = Test::Not {
        a: Box::new(Test::Number { number: Number::DstPort, ranges: Ranges::new(vec![(443, 443)]).expect("a range") }),
    };
    let strict = Arc::new(strict);
    let lawful = program(
        &[],
        vec![
            select(1, 0, Field::Dst, this_ip()),
            select(2, 1, Field::Src, prefixes(&[(ME, 24)])),
            Instr::Discard { arg: 2 },
        ],
    );
    let checked = Arc::new(proven(&lawful, me(), &strict).expect("lawful").1);
    let of = |addr, len| Prefix::of(addr, len).expect("a prefix");
    let cell = Cell::new(&checked, of(ME, 24), Prefix::host(ME), Action::Discard).expect("no protected source");
    assert!(cell.scan_permit().is_none(), "whether a packet may be looked into depends on its port");
    assert!(Cell::new(&checked, of(OTHER, 24), Prefix::host(ME), Action::Discard).is_err());
    assert!(Cell::new(&checked, Prefix::host(OTHER), Prefix::host(ME), Action::Discard).is_err());
    let packet = |src, port| {
        let mut packet = Packet::between(src, ME);
        packet.numbers[Number::DstPort as usize] = port;
        packet
    };
    assert!(gate::discard(&checked, &packet(OTHER, 80)).is_none());
    assert!(gate::discard(&checked, &packet(Addr::V4(1), 80)).is_some());
    assert!(gate::scan(&checked, &packet(OTHER, 443)).is_none());
    assert!(gate::scan(&checked, &packet(OTHER, 80)).is_some());
}

#[test]
fn a_run_ends_where_its_turns_or_its_numbers_end() {
    let policy = anyone_looks();
    let window = [Packet::between(OTHER, ME)];
    let run = |body: Vec<Instr>, turns: &dyn Fn(usize) -> Option<u32>| {
        let program = program(&[], body);
        let mut answers = Oracle(|_: &[usize], _: &_| false, |_: &[usize], _: &_| 0);
        meaning::run(&program, &me(), &policy, &window, &mut answers, turns).expect("THIS_IP has a value")
    };
    let forever = |max| Instr::While { cond: at_most(int(0), int(0)), max, body: vec![Instr::Discard { arg: 0 }] };
    let stopped = run(vec![forever(3), Instr::Discard { arg: 0 }], &|_| None);
    assert_eq!((stopped.end, stopped.events), (meaning::End::Exhausted, vec![Event::Discard(0); 3]));
    let stopped = run(vec![Instr::Let { out: 1, expr: int(0) }, forever(3)], &|instr| (instr == 1).then_some(1));
    assert_eq!((stopped.end, stopped.events.len()), (meaning::End::Exhausted, 1));
    let over = vec![
        Instr::Discard { arg: 0 },
        Instr::Let { out: 1, expr: plus(int(i64::MAX), int(1)) },
        Instr::Discard { arg: 0 },
    ];
    let stopped = run(over, &|_| None);
    assert_eq!((stopped.end, stopped.events.len()), (meaning::End::Overflow, 1));
}

#[test]
fn only_the_one_encoding_is_read() {
    for program in [spam_filter(), of_every_kind()] {
        let bytes = program.encode();
        assert_eq!(Program::decode(&bytes).as_ref(), Ok(&program));
        for end in 0..bytes.len() {
            assert!(Program::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert_eq!(Program::decode(&[&bytes[..], &[0]].concat()), Err(ProgramError::TrailingBytes));
        for at in 0..bytes.len() {
            for byte in 0..=255u8 {
                let mut changed = bytes.clone();
                changed[at] = byte;
                if let Ok(program) = Program::decode(&changed) {
                    assert_eq!(program.encode(), changed, "byte {at} = {byte}");
                }
            }
        }
    }
}

#[test]
fn the_shape_of_a_program_is_checked() {
    let new = |words: &[&str], body| {
        Program::new(60, 1, words.iter().map(|w| word(w)).collect(), body).expect_err("ill-formed")
    };
    let own = |out| select(out, 0, Field::Src, this_ip());
    let discard = |arg| Instr::Discard { arg };
    assert_eq!(new(&[], vec![discard(1)]), ProgramError::Unassigned(1));
    assert_eq!(new(&[], vec![own(2)]), ProgramError::BadTarget(2));
    assert_eq!(new(&[], vec![own(0)]), ProgramError::BadTarget(0));
    let groups = Instr::Partition { out: 1, arg: 0, field: Field::Src };
    assert_eq!(new(&[], vec![groups.clone(), discard(1)]), ProgramError::WrongType(1));
    assert_eq!(new(&[], vec![groups.clone(), own(1)]), ProgramError::WrongType(1));
    let each = |body| Instr::Foreach { groups: 1, packets: 2, key: 3, body };
    assert_eq!(new(&[], vec![groups.clone(), each(vec![]), discard(2)]), ProgramError::Unassigned(2));
    assert_eq!(new(&[], vec![groups.clone(), each(vec![own(4)]), discard(4)]), ProgramError::Unassigned(4));
    assert_eq!(new(&[], vec![groups, each(vec![own(2)])]), ProgramError::BadTarget(2));
    let turn = |max, body| Instr::While { cond: Cond::Empty { arg: 0 }, max, body };
    assert_eq!(new(&[], vec![turn(1, vec![own(1)]), discard(1)]), ProgramError::Unassigned(1));
    assert_eq!(new(&[], vec![turn(0, vec![])]), ProgramError::BadLoop(0));
    assert_eq!(new(&[], vec![turn(65_537, vec![])]), ProgramError::BadLoop(65_537));
    let one_way = Instr::If { cond: contains(0, 0), then: vec![own(1)], otherwise: vec![] };
    assert_eq!(new(&["x"], vec![one_way.clone(), discard(1)]), ProgramError::Unassigned(1));
    assert_eq!(new(&["x", "y"], vec![one_way.clone()]), ProgramError::WordsNotCanonical);
    assert_eq!(new(&["x", "x"], vec![one_way.clone()]), ProgramError::WordsNotCanonical);
    assert_eq!(new(&[""], vec![one_way]), ProgramError::BadWordLength(0));
    let mut nest = vec![];
    for _ in 0..20 {
        nest = vec![Instr::If { cond: contains(0, 0), then: nest, otherwise: vec![] }];
    }
    assert!(Program::new(60, 1, vec![word("x")], nest.clone()).is_ok());
    for _ in 0..5 {
        nest = vec![Instr::If { cond: contains(0, 0), then: nest, otherwise: vec![] }];
    }
    assert_eq!(new(&["x"], nest), ProgramError::Wire(WireError::TooDeep));
    assert_eq!(new(&[], vec![discard(0); 2000]), ProgramError::Wire(WireError::TooManyNodes));
    assert_eq!(
        new(&[], vec![select(1, 0, Field::Src, Default::default())]),
        ProgramError::Wire(WireError::UnknownTag(0))
    );
    assert_eq!(Program::new(0, 1, vec![], vec![]).err(), Some(ProgramError::BadLifetime(0)));
    assert_eq!(Program::new(1, 257, vec![], vec![]).err(), Some(ProgramError::BadWindow(257)));
}

#[test]
fn policies_have_one_encoding() {
    for policy in [end_user(), edge_router(), Arc::new(anyone_looks())] {
        let bytes = policy.encode();
        assert_eq!(Policy::decode(&bytes).as_ref(), Ok(&*policy));
        for end in 0..bytes.len() {
            assert!(Policy::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for byte in 0..=255u8 {
                let mut changed = bytes.clone();
                changed[at] = byte;
                if let Ok(policy) = Policy::decode(&changed) {
                    assert_eq!(policy.encode(), changed, "byte {at}");
                }
            }
        }
    }
}
