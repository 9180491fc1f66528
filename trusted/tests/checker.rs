//! The checker accepts what is proven and names the offence of everything else.

mod common;
use common::*;
use std::sync::Arc;
use vinet_prover::{NotProven, prove};
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::check::{Checked, ProofFault, Reject, check, prop_tag, rule};
use vinet_trusted::gate::{self, Action, Cell};
use vinet_trusted::logic::Fault;
use vinet_trusted::policy::{Formula, Policy, PrincipalKind};
use vinet_trusted::program::{Field, Instr, Program, ProgramError};

fn proven(program: &Program, owner: Principal, policy: &Arc<Policy>) -> Result<(Vec<u8>, Checked), String> {
    let proof = prove(program, &owner, policy).map_err(|e| e.to_string())?;
    let checked = check(&program.encode(), &proof, owner, policy).map_err(|e| e.to_string())?;
    Ok((proof, checked))
}

fn fault(program: &Program, proof: &[u8], policy: &Arc<Policy>) -> ProofFault {
    match check(&program.encode(), proof, me(), policy) {
        Err(Reject::NotProven { fault, .. }) => fault,
        other => panic!("expected NotProven, got {other:?}"),
    }
}

#[test]
fn the_papers_programs_are_proven_in_a_few_bytes() {
    let (proof, checked) = proven(&firewall(OTHER.into()), me(), &end_user()).expect("a lawful firewall");
    assert!(proof.len() <= 64, "the firewall's proof has {} bytes", proof.len());
    assert_eq!(checked.complexity(), 30 + 5 + 5 + 10);
    assert_eq!(checked.cost(), 50 * 3600);
    assert_eq!(checked.state_bytes(), 0);
    let (proof, checked) = proven(&spam_filter(), me(), &end_user()).expect("a lawful spam filter");
    assert!(proof.len() <= 200, "the spam filter's proof has {} bytes", proof.len());
    // Program, stream, select, partition, foreach; three tests, two searches of 24 blocks; discard.
    assert_eq!(checked.complexity(), 30 + 120 + 5 + 10 + 10 + 3 * 4 + 2 * (50 + 24 * 20) + 10);
    assert_eq!(checked.state_bytes(), 256 * (96 + 8 * (24 + 2 * 6)) + 4096);
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
    assert!(matches!(prove(&host, &nameless, &edge_router()), Err(NotProven::Rejected(Reject::Unset(_)))));
    assert!(matches!(check(&lawful.encode(), &[], me(), &end_user()), Err(Reject::Unset(_))));
}

#[test]
fn client_cannot_discard_anothers_packets() {
    let foreign = [
        program(&[], vec![Instr::Discard { arg: 0 }]),
        program(&[], vec![select(1, 0, Field::Dst, OTHER.into()), Instr::Discard { arg: 1 }]),
        program(&[], vec![select(1, 0, Field::Src, this_ip()), Instr::Discard { arg: 1 }]),
        program(&["x"], vec![Instr::If { cond: contains(0, 0), then: vec![], otherwise: vec![] }]),
        program(&[], vec![Instr::Partition { out: 1, arg: 0, field: Field::Dst }]),
        // Lawful on one way, everything on the other.
        program(
            &["x"],
            vec![
                select(1, 0, Field::Dst, this_ip()),
                select(2, 1, Field::Src, OTHER.into()),
                Instr::If {
                    cond: contains(1, 0),
                    then: vec![select(2, 1, Field::Dst, this_ip())],
                    otherwise: vec![select(2, 0, Field::Src, OTHER.into())],
                },
                Instr::Discard { arg: 2 },
            ],
        ),
    ];
    let (lawful_proof, _) = proven(&firewall(OTHER.into()), me(), &end_user()).expect("lawful");
    for program in &foreign {
        let NotProven::NoProofFound { .. } = prove(program, &me(), &end_user()).expect_err("must not be proven") else {
            panic!("the search must come to its end");
        };
        assert!(check(&program.encode(), &lawful_proof, me(), &end_user()).is_err());
    }
}

#[test]
fn a_slot_that_a_loop_changes_is_known_by_nothing() {
    // In the second turn slot 1 holds what the first turn left: packets from anywhere to anyone. The policy lets anyone
    // group, so that nothing but the discard is at stake.
    let mut policy = policy(PrincipalKind::EndUser, Formula::Owns(Field::Dst));
    policy.group = Formula::True;
    let creeping = program(
        &[],
        vec![
            select(1, 0, Field::Dst, this_ip()),
            Instr::Partition { out: 2, arg: 1, field: Field::Src },
            Instr::Foreach {
                groups: 2,
                packets: 3,
                key: 4,
                body: vec![Instr::Discard { arg: 1 }, select(1, 0, Field::Src, this_ip())],
            },
        ],
    );
    let error = prove(&creeping, &me(), &policy).expect_err("unlawful");
    assert_eq!(error.instr(), Some(3), "the discard is the offence: {error}");
}

#[test]
fn where_two_branches_meet_both_count() {
    let mut policy = policy(PrincipalKind::EndUser, Formula::Owns(Field::Dst));
    policy.group = Formula::True;
    policy.scan = Formula::True;
    let meeting = |then: vinet_trusted::program::AddrExpr, otherwise: vinet_trusted::program::AddrExpr| {
        let branches = Instr::If {
            cond: contains(0, 0),
            then: vec![select(1, 0, Field::Dst, then)],
            otherwise: vec![select(1, 0, Field::Dst, otherwise)],
        };
        program(&["x"], vec![branches, Instr::Discard { arg: 1 }])
    };
    let policy = Arc::new(policy);
    proven(&meeting(this_ip(), ME.into()), me(), &policy).expect("lawful on both ways");
    assert!(prove(&meeting(this_ip(), OTHER.into()), &me(), &policy).is_err());
    assert!(prove(&meeting(OTHER.into(), this_ip()), &me(), &policy).is_err());
}

#[test]
fn ownership_by_a_branch_on_the_groups_address_is_proven() {
    // A policy that lets anyone group, so that the branch is what makes the discard lawful.
    let mut policy = policy(PrincipalKind::EndUser, Formula::Owns(Field::Dst));
    policy.group = Formula::True;
    let policy = Arc::new(policy);
    let branch = |cond, then, otherwise| {
        program(
            &[],
            vec![
                Instr::Partition { out: 1, arg: 0, field: Field::Dst },
                Instr::Foreach { groups: 1, packets: 2, key: 3, body: vec![Instr::If { cond, then, otherwise }] },
            ],
        )
    };
    let mine = || vinet_trusted::program::Cond::KeyIn { key: 3, addrs: this_ip() };
    let theirs = || vinet_trusted::program::Cond::KeyIn { key: 3, addrs: OTHER.into() };
    let discard = || vec![Instr::Discard { arg: 2 }];
    proven(&branch(mine(), discard(), vec![]), me(), &policy).expect("the branch shows it");
    proven(&branch(not(mine()), vec![], discard()), me(), &policy).expect("so does the other branch of its opposite");
    proven(&branch(or(not(mine()), theirs()), vec![], discard()), me(), &policy).expect("and neither of two");
    proven(&branch(or(mine(), and(mine(), theirs())), discard(), vec![]), me(), &policy).expect("and two cases");
    assert!(prove(&branch(mine(), vec![], discard()), &me(), &policy).is_err());
    assert!(prove(&branch(or(mine(), theirs()), discard(), vec![]), &me(), &policy).is_err());
}

#[test]
fn a_stricter_policy_refuses_the_proof_made_for_another() {
    let program = firewall(prefixes(&[(OTHER, 24)]));
    let (proof, _) = proven(&program, me(), &end_user()).expect("lawful");
    // The operator protects one source from being discarded by anyone.
    let protected = Formula::Not(Box::new(Formula::In(Field::Src, OTHER.into())));
    let mut strict = policy(PrincipalKind::EndUser, Formula::Owns(Field::Dst));
    strict.discard = Formula::And(Box::new(Formula::Owns(Field::Dst)), Box::new(protected));
    let strict = Arc::new(strict);
    assert!(check(&program.encode(), &proof, me(), &strict).is_err());
    assert!(prove(&program, &me(), &strict).is_err());
    proven(&firewall(prefixes(&[(ME, 24)])), me(), &strict).expect("other sources can still be discarded");
}

#[test]
fn every_step_of_a_good_proof_is_needed() {
    let program = spam_filter();
    let (proof, _) = proven(&program, me(), &end_user()).expect("lawful");
    for at in 0..proof.len() {
        let mut cut = proof.clone();
        cut.remove(at);
        assert!(check(&program.encode(), &cut, me(), &end_user()).is_err(), "without byte {at} of {proof:02x?}");
        assert!(check(&program.encode(), &proof[..at], me(), &end_user()).is_err(), "cut at {at}");
    }
    let mut longer = proof.clone();
    longer.push(rule::DONE);
    let at = proof.len();
    assert_eq!(check(&program.encode(), &longer, me(), &end_user()).err(), Some(Reject::TrailingProof { at }));
}

#[test]
fn a_proof_does_not_pass_for_another_program_owner_or_kind() {
    let mine = firewall(OTHER.into());
    let (proof, _) = proven(&mine, me(), &end_user()).expect("lawful");
    let foreign = program(
        &[],
        vec![select(1, 0, Field::Dst, ME.into()), select(2, 1, Field::Src, OTHER.into()), Instr::Discard { arg: 2 }],
    );
    check(&foreign.encode(), &proof, me(), &end_user()).expect("its constant is this owner's address");
    let other = Principal::EndUser(OTHER);
    assert!(matches!(check(&foreign.encode(), &proof, other, &end_user()), Err(Reject::NotProven { .. })));
    let router = Principal::edge_router(ME, 24).expect("a prefix");
    assert!(matches!(check(&mine.encode(), &proof, router, &end_user()), Err(Reject::WrongPrincipal { .. })));
}

#[test]
fn the_ceilings_hold_to_the_unit() {
    let program = firewall(OTHER.into());
    let bytes = program.encode();
    let with = |change: &dyn Fn(&mut Policy)| {
        let mut policy = policy(PrincipalKind::EndUser, Formula::Owns(Field::Dst));
        change(&mut policy);
        let proof = prove(&program, &me(), &policy).expect("the ceilings are no obligations");
        check(&bytes, &proof, me(), &Arc::new(policy)).err()
    };
    assert_eq!(with(&|p| p.limits.complexity_max = 50), None);
    let above = Reject::ComplexityAboveCeiling { complexity: 50, ceiling: 49 };
    assert_eq!(with(&|p| p.limits.complexity_max = 49), Some(above));
    assert_eq!(with(&|p| p.limits.cost_max = 180_000), None);
    let above = Reject::CostAboveCeiling { cost: 180_000, ceiling: 179_999 };
    assert_eq!(with(&|p| p.limits.cost_max = 179_999), Some(above));
    assert_eq!(with(&|p| p.limits.lifetime_max_s = 3600), None);
    let above = Reject::LifetimeAboveCeiling { lifetime_s: 3600, ceiling: 3599 };
    assert_eq!(with(&|p| p.limits.lifetime_max_s = 3599), Some(above));
    let len = bytes.len();
    assert_eq!(with(&|p| p.limits.program_bytes_max = len as u32), None);
    let ceiling = len as u32 - 1;
    assert_eq!(with(&|p| p.limits.program_bytes_max = ceiling), Some(Reject::ProgramTooLong { len, ceiling }));
    assert!(matches!(with(&|p| p.limits.proof_bytes_max = 3), Some(Reject::ProofTooLong { ceiling: 3, .. })));
}

#[test]
fn the_rules_refuse_what_does_not_follow() {
    // One obligation: slot 1 is grouped; it is the packets to the owner.
    let program = program(&[], vec![select(1, 0, Field::Dst, this_ip())]);
    let policy = end_user();
    let good = [rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::DONE];
    check(&program.encode(), &good, me(), &policy).expect("the shortest proof");
    let step = ProofFault::Step;
    let cases: &[(&[u8], ProofFault)] = &[
        (&[rule::DONE], step(Fault::StackEmpty)),
        (&[rule::CLAIM, 1, rule::DONE], step(Fault::NoSuchAssumption)),
        (&[rule::CLAIM, 0, rule::DONE], ProofFault::NotTheGoal),
        (&[rule::CLAIM, 0, rule::LEFT, rule::DONE], step(Fault::WrongForm)),
        (&[rule::CLAIM, 0, rule::UNFOLD, rule::LEFT, rule::UNFOLD], step(Fault::NoFact)),
        (&[rule::CLAIM, 0, rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::DONE], ProofFault::NotTheGoal),
        (&[rule::CLAIM, 0, rule::DISCHARGE, 0], step(Fault::NotDischargeable)),
        (&[rule::DISCHARGE, 0], step(Fault::StackEmpty)),
        // An assumption of the proof's own has to be discharged before the end.
        (&[rule::ASSUME, prop_tag::IN, 1, 0, rule::CLAIM, 1, rule::DONE], ProofFault::NotTheGoal),
        (&[rule::ASSUME, prop_tag::FALSE, rule::CLAIM, 1, rule::NEGATE], step(Fault::WrongForm)),
        (&[rule::ASSUME, prop_tag::MEMBER, 9], ProofFault::PropOutOfRange),
        (&[rule::ASSUME, prop_tag::IN, 0, 9], ProofFault::PropOutOfRange),
        (&[rule::ASSUME, prop_tag::ANSWER, 0], ProofFault::PropOutOfRange),
        (&[rule::CITE, 0], ProofFault::NotShownYet),
        (&[rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::WIDEN, 7], step(Fault::NoSuchSet)),
        (&[rule::TRUTH, rule::DOUBLE_NEGATION], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::TRUTH, rule::MODUS_PONENS], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::TRUTH, rule::ABSURD], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::TRUTH, rule::TRUTH, rule::CASES], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::TRUTH, rule::APART], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::SYMMETRY], step(Fault::WrongForm)),
        (&[rule::TRUTH, rule::TRUTH, rule::CARRY], step(Fault::WrongForm)),
    ];
    for (proof, expected) in cases {
        assert_eq!(fault(&program, proof, &policy), *expected, "{proof:02x?}");
    }
    // A set is apart from another only where they have no address in common.
    let own = [rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT];
    assert_eq!(fault(&program, &[&own[..], &own, &[rule::APART]].concat(), &policy), step(Fault::NotApart));
}

#[test]
fn bombs_end_at_their_limits() {
    let program = program(&[], vec![select(1, 0, Field::Dst, this_ip())]);
    let policy = end_user();
    let many = |rules: &[u8], n: usize| rules.repeat(n);
    assert_eq!(fault(&program, &many(&[rule::TRUTH], 200), &policy), ProofFault::Step(Fault::StackFull));
    let assume = many(&[rule::ASSUME, prop_tag::TRUE], 100);
    assert_eq!(fault(&program, &assume, &policy), ProofFault::Step(Fault::TooManyAssumptions));
    let deep = [vec![rule::ASSUME], many(&[prop_tag::NOT], 1000)].concat();
    assert_eq!(fault(&program, &deep, &policy), ProofFault::PropTooDeep);
    // A program whose sets are large, and a proof that compares them again and again.
    let large: Vec<(Addr, u8)> = (0..10_000).map(|i| (Addr::V4(i * 512), 24)).collect();
    let program = firewall(prefixes(&large));
    let widen = [&[rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT][..], &many(&[rule::WIDEN, 0], 1000)].concat();
    let mut proof = vec![rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::DONE];
    proof.extend([rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT]);
    proof.extend(many(&[rule::WIDEN, 1], 1000));
    assert_eq!(fault(&program, &proof, &policy), ProofFault::Step(Fault::TooMuchWork));
    assert!(matches!(fault(&program, &widen, &policy), ProofFault::Wire(_)));
}

#[test]
fn the_gates_give_no_more_than_the_policy() {
    let (_, checked) = proven(&firewall(OTHER.into()), me(), &end_user()).expect("lawful");
    let checked = Arc::new(checked);
    let host = vinet_trusted::addr::Prefix::host;
    let any = vinet_trusted::addr::Prefix::of(ME, 0).expect("a prefix");
    let cell = Cell::new(&checked, host(OTHER), host(ME), Action::Discard).expect("its own address");
    assert!(cell.permit().is_some());
    assert!(Cell::new(&checked, any, host(ME), Action::Run).expect("any source").permit().is_none());
    for dst in [host(OTHER), any, vinet_trusted::addr::Prefix::of(ME, 31).expect("a prefix")] {
        assert!(Cell::new(&checked, any, dst, Action::Discard).is_err(), "{dst}");
        assert!(Cell::new(&checked, any, dst, Action::Run).is_err(), "{dst}");
    }
    assert!(gate::discard(&checked, OTHER, ME).is_some());
    assert!(gate::discard(&checked, ME, OTHER).is_none());
}

#[test]
fn a_cell_is_refused_where_the_policy_protects_a_part_of_it() {
    let mut strict = policy(PrincipalKind::EndUser, Formula::Owns(Field::Dst));
    let protected = Formula::Not(Box::new(Formula::In(Field::Src, OTHER.into())));
    strict.discard = Formula::And(Box::new(Formula::Owns(Field::Dst)), Box::new(protected));
    let (_, checked) = proven(&firewall(prefixes(&[(ME, 24)])), me(), &Arc::new(strict)).expect("lawful");
    let checked = Arc::new(checked);
    let host = vinet_trusted::addr::Prefix::host;
    let of = |addr, len| vinet_trusted::addr::Prefix::of(addr, len).expect("a prefix");
    assert!(Cell::new(&checked, of(ME, 24), host(ME), Action::Discard).is_ok());
    assert!(Cell::new(&checked, of(OTHER, 24), host(ME), Action::Discard).is_err());
    assert!(Cell::new(&checked, host(OTHER), host(ME), Action::Discard).is_err());
    assert!(gate::discard(&checked, OTHER, ME).is_none());
    assert!(gate::discard(&checked, Addr::V4(1), ME).is_some());
}

#[test]
fn only_the_one_encoding_is_read() {
    let program = spam_filter();
    let bytes = program.encode();
    assert_eq!(Program::decode(&bytes), Ok(program));
    for end in 0..bytes.len() {
        assert!(Program::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Program::decode(&longer), Err(ProgramError::TrailingBytes));
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

#[test]
fn the_shape_of_a_program_is_checked() {
    let new = |words: &[&str], body| {
        Program::new(60, words.iter().map(|w| w.as_bytes().to_vec()).collect(), body).expect_err("ill-formed")
    };
    let discard = |arg| Instr::Discard { arg };
    assert_eq!(new(&[], vec![discard(1)]), ProgramError::Unassigned(1));
    assert_eq!(new(&[], vec![select(2, 0, Field::Src, this_ip())]), ProgramError::BadTarget(2));
    assert_eq!(new(&[], vec![select(0, 0, Field::Src, this_ip())]), ProgramError::BadTarget(0));
    let groups = Instr::Partition { out: 1, arg: 0, field: Field::Src };
    assert_eq!(new(&[], vec![groups.clone(), discard(1)]), ProgramError::WrongType(1));
    assert_eq!(new(&[], vec![groups.clone(), select(1, 0, Field::Src, this_ip())]), ProgramError::WrongType(1));
    let each = |body| Instr::Foreach { groups: 1, packets: 2, key: 3, body };
    assert_eq!(new(&[], vec![groups.clone(), each(vec![]), discard(2)]), ProgramError::Unassigned(2));
    let assigned_inside = each(vec![select(4, 2, Field::Src, this_ip())]);
    assert_eq!(new(&[], vec![groups.clone(), assigned_inside, discard(4)]), ProgramError::Unassigned(4));
    assert_eq!(new(&[], vec![groups, each(vec![select(2, 0, Field::Src, this_ip())])]), ProgramError::BadTarget(2));
    let one_way =
        Instr::If { cond: contains(0, 0), then: vec![select(1, 0, Field::Src, this_ip())], otherwise: vec![] };
    assert_eq!(new(&["x"], vec![one_way.clone(), discard(1)]), ProgramError::Unassigned(1));
    assert_eq!(new(&["x", "y"], vec![one_way.clone()]), ProgramError::WordsNotCanonical);
    assert_eq!(new(&["x", "x"], vec![one_way.clone()]), ProgramError::WordsNotCanonical);
    assert_eq!(new(&[""], vec![one_way]), ProgramError::BadWordLength(0));
    let mut nest = vec![];
    for _ in 0..20 {
        nest = vec![Instr::If { cond: contains(0, 0), then: nest, otherwise: vec![] }];
    }
    assert_eq!(new(&["x"], nest), ProgramError::TooDeep);
    assert_eq!(new(&[], vec![discard(0); 2000]), ProgramError::TooManyNodes);
    assert_eq!(new(&[], vec![select(1, 0, Field::Src, Default::default())]), ProgramError::BadAddrSet);
    assert_eq!(Program::new(0, vec![], vec![]).err(), Some(ProgramError::BadLifetime(0)));
}

#[test]
fn policies_have_one_encoding() {
    for policy in [end_user(), edge_router()] {
        let bytes = policy.encode();
        assert_eq!(Policy::decode(&bytes).as_ref(), Ok(&*policy));
        for end in 0..bytes.len() {
            assert!(Policy::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if let Ok(policy) = Policy::decode(&changed) {
                assert_eq!(policy.encode(), changed, "byte {at}");
            }
        }
    }
}
