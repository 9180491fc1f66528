//! What an attacker might try, each attempt under its name.

mod common;
use common::*;
use std::sync::Arc;
use vinet_trusted::addr::{Addr, Prefix, Principal};
use vinet_trusted::check::{Ceiling, Checked, Reject, note};
use vinet_trusted::gate::{self, Action, Cell};
use vinet_trusted::lemma::{LEMMA_BYTES_MAX, LEMMA_PROOF_BYTES_MAX, LemmaError, LemmaStore};
use vinet_trusted::logic::Fault;
use vinet_trusted::packet::{Field, Packet, Test};
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::{AddrTerm, Cond, Expr, Instr, Program};
use vinet_trusted::proof::{ProofFault, refer, rule};
use vinet_trusted::term::{Op, TermFault, sort};

const SHOWN: [u8; 5] = [rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::DONE];

fn own() -> Instr {
    select(1, 0, Field::Dst, this_ip())
}

fn one_select() -> Program {
    program(&[], vec![own()])
}

fn fault(program: &Program, proof: &[u8], policy: &Arc<Policy>) -> ProofFault {
    match check(program, proof, policy) {
        Err(Reject::NotProven(place)) => place.fault,
        other => panic!("expected NotProven, got {other:?}"),
    }
}

/// What the first obligation of a program fails with, where the proof says nothing of the program.
fn fails(steps: &[u8]) -> ProofFault {
    fault(&one_select(), &[&[note::NONE][..], steps].concat(), &end_user())
}

fn term(fault: TermFault) -> ProofFault {
    ProofFault::Step(Fault::Term(fault))
}

// ---- Size and time ----

#[test]
fn a_sharing_bomb_is_worked_through_no_further_than_its_bytes_allow() {
    // A formula of 2^60 leaves in 190 bytes; every rule that has to look through it gives up.
    let doubled = [rule::COPY, 0, rule::BOTH].repeat(60);
    let bomb = [&[rule::PICK, sort::PACKET, rule::REFLEXIVITY, Op::Const as u8, 3][..], &doubled].concat();
    let generalised = [&bomb[..], &[rule::GENERALISE, 3]].concat();
    assert_eq!(fails(&generalised), term(TermFault::TooMuchWork));
    let equation = [rule::REFLEXIVITY, Op::Const as u8, 3];
    let moved = [&equation[..], &bomb, &[rule::CONGRUENCE]].concat();
    assert_eq!(fails(&[&[rule::PICK, sort::PACKET][..], &moved].concat()), term(TermFault::TooMuchWork));
    // The same of a program's numbers.
    let mut body = vec![own(), Instr::Let { out: 2, expr: int(1) }];
    body.extend((0..60).map(|_| Instr::Let { out: 2, expr: plus(held(2), held(2)) }));
    body.push(Instr::While { cond: at_most(held(2), int(0)), max: 1, body: vec![] });
    let invariant = [note::INVARIANT, Op::Le as u8, Op::Slot as u8, 2, sort::INT, Op::Int as u8, 0];
    let steps = [rule::EVALUATE, refer::GOAL];
    let proof = [&[note::NONE][..], &SHOWN, &invariant, &steps].concat();
    assert_eq!(fault(&program(&[], body), &proof, &end_user()), term(TermFault::TooMuchWork));
}

#[test]
fn deep_terms_end_at_their_limits() {
    let deep = [&[rule::ASSUME][..], &[Op::Not as u8].repeat(2000)].concat();
    assert_eq!(fails(&deep), ProofFault::TooDeep);
    let parts = [&[rule::ASSUME][..], &[refer::PART, 0].repeat(2000)].concat();
    assert_eq!(fails(&parts), ProofFault::TooDeep);
    let high = [&[rule::CLAIM, 0][..], &[rule::COPY, 0, rule::BOTH].repeat(250)].concat();
    assert_eq!(fails(&high), term(TermFault::TooHigh));
    // A program whose own terms are too high is refused whatever the proof.
    let mut body = vec![own(), Instr::Let { out: 2, expr: int(1) }];
    body.extend((0..240).map(|_| Instr::Let { out: 2, expr: plus(held(2), int(1)) }));
    let proof = [&[note::NONE][..], &SHOWN].concat();
    let refused = check(&program(&[], body), &proof, &end_user());
    assert_eq!(refused.err(), Some(Reject::TooLarge(TermFault::TooHigh)));
}

#[test]
fn stack_and_assumptions_end_at_their_limits() {
    assert_eq!(fails(&[rule::TRUTH].repeat(200)), ProofFault::StackFull);
    let assume = [rule::ASSUME, Op::True as u8].repeat(100);
    assert_eq!(fails(&assume), ProofFault::Step(Fault::TooManyAssumptions));
}

#[test]
fn a_flood_of_the_table_of_nodes_is_work() {
    let collide = nasty::colliding(600);
    let step = |value: &i64| {
        let mut w = vinet_trusted::wire::Writer::new();
        vinet_trusted::wire::Wire::write(value, &mut w);
        [&[rule::REFLEXIVITY, Op::Int as u8][..], &w.finish(), &[rule::BOTH, rule::LEFT]].concat()
    };
    let flood: Vec<u8> = collide.iter().flat_map(step).collect();
    let flood = [&[rule::TRUTH][..], &flood].concat();
    assert_eq!(fails(&flood), term(TermFault::TooMuchWork));
    // As many integers that do not collide are no trouble.
    let calm: Vec<u8> = (0..600).flat_map(|v| step(&(v * 7919))).collect();
    let calm = [&[rule::TRUTH][..], &calm, &[rule::DONE]].concat();
    assert_eq!(fails(&calm), ProofFault::NotTheGoal);
}

#[test]
fn comparing_large_sets_is_work_before_it_is_done() {
    let large: Vec<(Addr, u8)> = (0..10_000).map(|i| (Addr::V4(i * 512), 24)).collect();
    let program = firewall(prefixes(&large));
    let large = [rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT];
    let widen = [&[note::NONE][..], &SHOWN, &large, &[rule::WIDEN, 1].repeat(1000)].concat();
    assert_eq!(fault(&program, &widen, &end_user()), term(TermFault::TooMuchWork));
    // Ten thousand prefixes against ten thousand.
    let zero = [rule::EVALUATE, Op::Le as u8, Op::Int as u8, 0, Op::Int as u8, 0];
    let offset = [rule::OFFSET, Op::Offset as u8, Op::Src as u8, Op::Const as u8, 0, Op::Int as u8, 0, 1];
    let counted = [&[note::NONE][..], &SHOWN, &large, &zero, &zero, &offset].concat();
    let started = std::time::Instant::now();
    assert_eq!(fault(&program, &counted, &end_user()), term(TermFault::TooMuchWork));
    assert!(started.elapsed().as_millis() < 250, "the work was done before it was counted: {:?}", started.elapsed());
}

#[test]
fn bytes_behind_the_end_are_refused() {
    let good = [&[note::NONE][..], &SHOWN].concat();
    check(&one_select(), &good, &end_user()).expect("the shortest proof");
    let longer = [&good[..], &[0]].concat();
    assert_eq!(fault(&one_select(), &longer, &end_user()), ProofFault::Trailing);
    let bytes = [&one_select().encode()[..], &[0]].concat();
    let refused = vinet_trusted::check::check(&bytes, &good, me(), &end_user(), &none());
    assert!(matches!(refused, Err(Reject::Program(_))));
}

// ---- The calculus ----

#[test]
fn the_packet_and_the_programs_values_are_not_the_proofs_to_generalise() {
    for constant in [0, 1, 2, 3, 100] {
        let steps = [rule::CLAIM, 0, rule::GENERALISE, constant];
        assert_eq!(fails(&steps), ProofFault::Step(Fault::NotArbitrary), "constant {constant}");
    }
    // "It is in the set, so everything is", through an assumption that speaks of the pick.
    let pick = [rule::PICK, sort::PACKET];
    let is_in = [Op::In as u8, Op::Const as u8, 3, Op::Const as u8, 2];
    let steps = [&pick[..], &[rule::ASSUME], &is_in, &[rule::CLAIM, 1, rule::GENERALISE, 3]].concat();
    assert_eq!(fails(&steps), ProofFault::Step(Fault::NotArbitrary));
}

#[test]
fn a_witness_cannot_escape() {
    // ∃x x ∈ all, and ∀x (x ∈ all → x ∈ own): nothing follows of an x.
    let packet = sort::PACKET;
    let x_in = |set| [Op::In as u8, Op::Var as u8, 0, Op::Const as u8, set];
    let exists = [&[Op::Exists as u8, packet][..], &x_in(1)].concat();
    let all = [&[Op::Forall as u8, packet, Op::Implies as u8][..], &x_in(1), &x_in(2)].concat();
    let steps = [&[rule::ASSUME][..], &exists, &[rule::ASSUME], &all, &[rule::CLAIM, 1, rule::CLAIM, 2, rule::WITNESS]]
        .concat();
    assert_eq!(fails(&steps), ProofFault::Step(Fault::WrongForm));
}

#[test]
fn a_part_of_a_formula_that_is_not_closed_is_no_formula() {
    let x_in = [Op::In as u8, Op::Var as u8, 0, Op::Const as u8, 1];
    let all = [&[Op::Forall as u8, sort::PACKET][..], &x_in].concat();
    let part = [&[rule::ASSUME, refer::PART, 1][..], &all].concat();
    assert_eq!(fails(&part), ProofFault::OutOfRange);
    // Nor under another binder, where it would speak of another variable.
    let under = [&[rule::ASSUME, Op::Exists as u8, sort::PACKET, refer::PART, 1][..], &all].concat();
    assert_eq!(fails(&under), ProofFault::OutOfRange);
    // The sort of a binder is no part, and a part that is not there is none.
    let sort_of = [&[rule::ASSUME, refer::PART, 0][..], &all].concat();
    assert_eq!(fails(&sort_of), ProofFault::OutOfRange);
    assert_eq!(fails(&[rule::ASSUME, refer::PART, 2, refer::GOAL]), ProofFault::OutOfRange);
}

#[test]
fn what_is_ill_sorted_is_no_term() {
    let packet = [Op::Const as u8, 0];
    for formula in [
        [&[Op::Le as u8][..], &packet, &packet].concat(),
        [&[Op::In as u8][..], &packet, &packet].concat(),
        [&[Op::Eq as u8][..], &packet, &[Op::Const as u8, 1]].concat(),
        [&[Op::Eq as u8][..], &[refer::GOAL, refer::GOAL]].concat(),
        [&[Op::Src as u8][..], &[Op::Const as u8, 1]].concat(),
        vec![Op::Forall as u8, sort::BOOL, Op::True as u8],
        vec![Op::Forall as u8, sort::LAST + 1, Op::True as u8],
        vec![Op::Exists as u8, sort::INT, Op::Int as u8, 0],
        vec![Op::Const as u8, 99],
        vec![Op::Set as u8, 99],
        vec![Op::Addr as u8, 0],
        vec![Op::Symbol as u8, 0],
        vec![Op::Empty as u8, sort::LIST],
        vec![Op::Num as u8, Op::Const as u8, 0, 10],
        // A variable of packets where an integer has to be.
        vec![Op::Forall as u8, sort::PACKET, Op::Le as u8, Op::Var as u8, 0, Op::Var as u8, 0],
    ] {
        let fault = fails(&[&[rule::ASSUME][..], &formula].concat());
        assert_eq!(fault, term(TermFault::IllSorted), "{formula:02x?}");
    }
    assert_eq!(fails(&[rule::ASSUME, Op::Var as u8, 0]), ProofFault::OutOfRange);
    let outer = [rule::ASSUME, Op::Forall as u8, sort::INT, Op::Le as u8, Op::Var as u8, 1, Op::Var as u8, 0];
    assert_eq!(fails(&outer), ProofFault::OutOfRange);
    assert_eq!(
        fails(&[rule::ASSUME, Op::Const as u8, 0]),
        ProofFault::Step(Fault::WrongForm),
        "a packet is no formula"
    );
}

#[test]
fn what_was_shown_on_one_way_is_not_cited_on_another() {
    // In the first branch the address is the owner's; the second cites what was shown there.
    let mine = Cond::AddrIn { addr: 3, addrs: this_ip() };
    let branch =
        Instr::If { cond: mine, then: vec![Instr::Discard { arg: 2 }], otherwise: vec![Instr::Discard { arg: 2 }] };
    let body = vec![
        Instr::Partition { out: 1, arg: 0, field: Field::Dst },
        Instr::Foreach { groups: 1, packets: 2, key: 3, body: vec![branch, Instr::Discard { arg: 2 }] },
    ];
    let program = program(&[], body);
    let policy = Arc::new(anyone_looks());
    // Grouping is free; no note of the loop; both branches live; dst(p) = key by the group, key ∈ own by the path.
    let shown =
        [rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::SYMMETRY, rule::CLAIM, 2, rule::CONGRUENCE, rule::DONE];
    let begin = [&[note::NONE, rule::TRUTH, rule::DONE, note::NONE, note::LIVE][..], &shown].concat();
    let at = |proof: &[u8]| match check(&program, proof, &policy) {
        Err(Reject::NotProven(place)) => (place.instr, place.fault),
        other => panic!("{other:?}"),
    };
    let cite = [rule::CLAIM, 0, rule::CITE, 1, rule::DONE];
    assert_eq!(at(&[&begin[..], &cite].concat()), (4, ProofFault::Step(Fault::NotShown)));
}

// ---- Costs ----

/// A cost is said of the program; its last obligation, that it is no more, is shown by a contradiction to what is known
/// behind a loop: that its condition has failed.
#[test]
fn a_run_that_is_out_of_turns_has_cost_what_it_cost() {
    let turn = Instr::While { cond: at_most(int(0), int(0)), max: 3, body: vec![Instr::Discard { arg: 1 }] };
    let program = program(&[], vec![own(), turn, Instr::Discard { arg: 1 }]);
    let absurd = [rule::EVALUATE, Op::Le as u8, Op::Int as u8, 0, Op::Int as u8, 0, rule::CLAIM, 1, rule::ABSURD];
    let denied = [rule::ASSUME, Op::Not as u8, refer::GOAL];
    let to_goal = [rule::DISCHARGE, 2, rule::NEGATE, rule::DOUBLE_NEGATION, rule::DONE];
    let cite = [rule::CLAIM, 0, rule::CITE, 0, rule::DONE];
    let events = [&SHOWN[..], &[note::NONE], &cite, &cite].concat();
    let proof = [&[note::COST, 0][..], &events, &denied, &absurd, &to_goal].concat();
    assert!(check(&program, &proof, &end_user()).is_err(), "three turns cost nothing");
    // Without a claim the loop's end is known, and the sum of the parts is what it is.
    let proof = [&[note::NONE][..], &events].concat();
    let checked = check(&program, &proof, &end_user()).expect("lawful");
    let window = [Packet::between(OTHER, ME)];
    let run = assert_lawful(&mut Random(1), &checked, &window);
    assert_eq!(run.end, vinet_trusted::meaning::End::Exhausted);
    // A claim that is true is shown by evaluation.
    let body = checked.complexity() - 30;
    let claim = |cost: u64| {
        assert!(cost < 128);
        let end = [rule::EVALUATE, refer::GOAL, rule::DONE];
        [&[note::COST, cost as u8][..], &events, &end].concat()
    };
    assert_eq!(check(&program, &claim(body), &end_user()).map(|c| c.complexity()), Ok(checked.complexity()));
    assert!(check(&program, &claim(body - 1), &end_user()).is_err());
}

#[test]
fn a_cost_above_64_bits_is_refused() {
    let mut dear = policy(PrincipalKind::EndUser, owns(Field::Dst));
    dear.costs.discard = u32::MAX;
    dear.costs.turn = u32::MAX;
    dear.costs.foreach = u32::MAX;
    let dear = Arc::new(dear);
    let mut body = vec![Instr::Discard { arg: 1 }];
    for _ in 0..4 {
        body = vec![Instr::While { cond: Cond::Empty { arg: 1 }, max: 65_536, body }];
    }
    let program = program(&[], [vec![own()], body].concat());
    let cite = [rule::CLAIM, 0, rule::CITE, 0, rule::DONE];
    let proof = [&[note::NONE][..], &SHOWN, &[note::NONE; 4], &cite].concat();
    assert_eq!(check(&program, &proof, &dear).err(), Some(Reject::CostOverflow));
    // Nor by the window, nor by the lifetime.
    let nest = |depth: usize| {
        (0..depth).rev().fold(vec![], |body, i| {
            vec![Instr::Foreach { groups: 2, packets: 3 + 2 * i as u8, key: 4 + 2 * i as u8, body }]
        })
    };
    let groups = Instr::Partition { out: 2, arg: 1, field: Field::Src };
    let deep = Program::new(1, 8, vec![], [vec![own(), groups], nest(20)].concat()).expect("well-formed");
    let proof = [&[note::NONE][..], &SHOWN, &cite, &[note::NONE; 20]].concat();
    assert_eq!(check(&deep, &proof, &dear).err(), Some(Reject::CostOverflow));
    let long = Program::new(vinet_trusted::program::LIFETIME_MAX_S, 1, vec![], vec![own()]).expect("well-formed");
    let proof = [&[note::NONE][..], &SHOWN].concat();
    let refused = check(&long, &proof, &dear);
    assert!(matches!(refused, Err(Reject::AboveCeiling { what: Ceiling::Lifetime, .. })), "{refused:?}");
}

#[test]
fn a_cost_is_said_only_of_single_packets() {
    let program = windowed(2, &[], vec![own()]);
    let proof = [&[note::COST, 5][..], &SHOWN, &[rule::EVALUATE, refer::GOAL, rule::DONE]].concat();
    assert_eq!(check(&program, &proof, &end_user()).err(), Some(Reject::CostOfWindow));
    let single = one_select();
    assert_eq!(check(&single, &proof, &end_user()).map(|c| c.complexity()), Ok(35));
    let low = [&[note::COST, 4][..], &SHOWN, &[rule::EVALUATE, refer::GOAL, rule::DONE]].concat();
    assert_eq!(fault(&single, &low, &end_user()), ProofFault::NotTheGoal);
}

// ---- Lemmas ----

/// A lemma of these symbols (none of which has arguments), premises and conclusion.
fn lemma(symbols: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![symbols.len() as u8];
    symbols.iter().for_each(|sort| bytes.extend([0, *sort]));
    bytes.push(parts.len() as u8 - 1);
    bytes.extend(parts.concat());
    bytes
}

const P: [u8; 2] = [Op::Symbol as u8, 0];
const Q: [u8; 2] = [Op::Symbol as u8, 1];

#[test]
fn a_lemma_is_taken_only_with_its_proof() {
    let mut store = none();
    let everything = lemma(&[sort::BOOL], &[&P]);
    for proof in [
        &[][..],
        &[rule::DONE],
        &[rule::TRUTH, rule::DONE],
        &[rule::CLAIM, 1, rule::DONE],
        &[rule::ASSUME, refer::GOAL, rule::CLAIM, 1, rule::DONE],
        &[rule::LEMMA, 0, refer::GOAL, rule::DONE],
    ] {
        assert!(matches!(store.add(&everything, proof), Err(LemmaError::NotShown { .. })), "{proof:02x?}");
    }
    assert_eq!((store.len(), store.root()), (0, [0; 32]), "the store is as before");
    let swap = lemma(
        &[sort::BOOL, sort::BOOL],
        &[&[&[Op::And as u8][..], &P, &Q].concat(), &[&[Op::And as u8][..], &Q, &P].concat()],
    );
    let proof = [rule::CLAIM, 1, rule::RIGHT, rule::CLAIM, 1, rule::LEFT, rule::BOTH, rule::DONE];
    assert_eq!(store.add(&swap, &proof), Ok(0));
    let root = store.root();
    assert_ne!(root, [0; 32]);
    // One that is there keeps its number, whatever comes with it; nothing can take its place.
    assert_eq!(store.add(&swap, &[]), Ok(0));
    assert_eq!((store.len(), store.root()), (1, root));
    assert_eq!(store.id(0), Some(&LemmaStore::id_of(&swap)));
    let longer = [&proof[..], &[rule::DONE]].concat();
    let other = lemma(
        &[sort::BOOL, sort::BOOL],
        &[&[&[Op::And as u8][..], &Q, &P].concat(), &[&[Op::And as u8][..], &P, &Q].concat()],
    );
    assert!(matches!(store.add(&other, &longer), Err(LemmaError::NotShown { fault: ProofFault::Trailing, .. })));
    assert_eq!(store.add(&other, &proof), Ok(1), "another statement is another lemma");
    assert_ne!(store.id(0), store.id(1));
    assert!(matches!(store.add(&vec![0; LEMMA_BYTES_MAX + 1], &proof), Err(LemmaError::TooLong)));
    assert!(matches!(store.add(&swap[..3], &vec![0; LEMMA_PROOF_BYTES_MAX + 1]), Err(LemmaError::TooLong)));
}

#[test]
fn a_lemma_speaks_of_no_program() {
    let mut store = none();
    let of_packet = [Op::Eq as u8, Op::Const as u8, 0, Op::Const as u8, 0];
    let of_slot = [Op::Eq as u8, Op::Slot as u8, 0, sort::INT, Op::Slot as u8, 0, sort::INT];
    let of_addr = [Op::Eq as u8, Op::Addr as u8, 0, Op::Addr as u8, 0];
    let of_set = [Op::Eq as u8, Op::Set as u8, 0, Op::Set as u8, 0];
    let of_goal = [refer::GOAL];
    let of_claim = [refer::CLAIM, 0];
    for formula in [&of_packet[..], &of_slot, &of_addr, &of_set, &of_goal, &of_claim, &[Op::Int as u8, 0], &P] {
        let refused = store.add(&lemma(&[], &[formula]), &[rule::REFLEXIVITY, Op::Int as u8, 0, rule::DONE]);
        assert!(matches!(refused, Err(LemmaError::Statement(_))), "{formula:02x?}: {refused:?}");
    }
    assert!(store.is_empty());
}

#[test]
fn a_lemma_is_used_only_as_it_was_shown() {
    // From p ∧ q follows q ∧ p; its symbols stand for formulas, for the same one wherever they are.
    let mut store = none();
    let proof = [rule::CLAIM, 1, rule::RIGHT, rule::CLAIM, 1, rule::LEFT, rule::BOTH, rule::DONE];
    let swap = lemma(
        &[sort::BOOL, sort::BOOL],
        &[&[&[Op::And as u8][..], &P, &Q].concat(), &[&[Op::And as u8][..], &Q, &P].concat()],
    );
    store.add(&swap, &proof).expect("a lemma");
    // From a = b, of integers, follows b = a.
    let turned = lemma(
        &[sort::INT, sort::INT],
        &[&[&[Op::Eq as u8][..], &P, &Q].concat(), &[&[Op::Eq as u8][..], &Q, &P].concat()],
    );
    store.add(&turned, &[rule::CLAIM, 1, rule::SYMMETRY, rule::DONE]).expect("a lemma");
    // p ∨ ¬p, where p is open.
    let either = [&[Op::Or as u8][..], &P, &[Op::Not as u8], &P].concat();
    let tertium = [
        &[rule::ASSUME, Op::Not as u8, refer::GOAL, rule::ASSUME][..],
        &P,
        &[rule::CLAIM, 2, rule::EITHER_LEFT, Op::Not as u8],
        &P,
        &[rule::CLAIM, 1, rule::ABSURD, rule::DISCHARGE, 2, rule::NEGATE, rule::EITHER_RIGHT],
        &P,
        &[rule::CLAIM, 1, rule::ABSURD, rule::DISCHARGE, 1, rule::NEGATE, rule::DOUBLE_NEGATION, rule::DONE],
    ]
    .concat();
    store.add(&lemma(&[sort::BOOL], &[&either]), &tertium).expect("a lemma");
    let with = |steps: &[u8]| {
        let proof = [&[note::NONE][..], steps].concat();
        match vinet_trusted::check::check(&one_select().encode(), &proof, me(), &end_user(), &store) {
            Err(Reject::NotProven(place)) => place.fault,
            other => panic!("{other:?}"),
        }
    };
    let refused = ProofFault::Step(Fault::LemmaDoesNotMatch);
    let fact = [rule::CLAIM, 0, rule::UNFOLD];
    assert_eq!(with(&[&fact[..], &[rule::LEMMA, 0, rule::DONE]].concat()), ProofFault::NotTheGoal, "it applies");
    assert_eq!(
        with(&[&fact[..], &[rule::LEMMA, 0, rule::LEFT, rule::RIGHT]].concat()),
        ProofFault::Step(Fault::WrongForm)
    );
    assert_eq!(with(&[rule::CLAIM, 0, rule::LEMMA, 0]), refused, "the premise is no conjunction");
    assert_eq!(with(&[rule::LEMMA, 0]), ProofFault::StackEmpty);
    assert_eq!(with(&[rule::REFLEXIVITY, Op::Const as u8, 0, rule::LEMMA, 1]), refused, "packets are no integers");
    assert_eq!(with(&[rule::LEMMA, 2, refer::GOAL, rule::DONE]), ProofFault::NotTheGoal, "it applies");
    assert_eq!(with(&[rule::LEMMA, 2, Op::Const as u8, 0]), refused, "a packet is no formula");
    assert_eq!(with(&[rule::LEMMA, 3]), ProofFault::Step(Fault::NoSuchLemma));
    // A symbol never stands for what a binder of the program's formula binds.
    let bound = [Op::Forall as u8, sort::INT, Op::Eq as u8, Op::Var as u8, 0, Op::Var as u8, 0];
    let mut other = none();
    let under = [&[Op::Forall as u8, sort::INT, Op::Eq as u8][..], &P, &P].concat();
    let all_same = [rule::PICK, sort::INT, rule::REFLEXIVITY, Op::Symbol as u8, 0, rule::DONE];
    other
        .add(&lemma(&[sort::INT], &[&under, &[&[Op::Eq as u8][..], &P, &P].concat()]), &all_same[2..])
        .expect("a lemma");
    let proof = [&[note::NONE, rule::ASSUME][..], &bound, &[rule::CLAIM, 1, rule::LEMMA, 0]].concat();
    let refused_there = vinet_trusted::check::check(&one_select().encode(), &proof, me(), &end_user(), &other);
    assert!(matches!(refused_there, Err(Reject::NotProven(place)) if place.fault == refused), "{refused_there:?}");
}

#[test]
fn a_function_of_a_lemma_stands_for_itself_alone() {
    // ∀x (f(x) = f(x)), which nobody can turn into a theorem about something else.
    let mut store = none();
    let f = [Op::Symbol as u8, 0, Op::Var as u8, 0];
    let all = [&[Op::Forall as u8, sort::INT, Op::Eq as u8][..], &f, &f].concat();
    let bytes = [&[1, 1, sort::INT, sort::INT, 0][..], &all].concat();
    let proof = [
        rule::PICK,
        sort::INT,
        rule::REFLEXIVITY,
        Op::Symbol as u8,
        0,
        Op::Const as u8,
        1,
        rule::GENERALISE,
        1,
        rule::DONE,
    ];
    store.add(&bytes, &proof).expect("a theorem");
    let proof = [note::NONE, rule::LEMMA, 0, Op::Int as u8, 0];
    let refused = vinet_trusted::check::check(&one_select().encode(), &proof, me(), &end_user(), &store);
    let Err(Reject::NotProven(place)) = refused else { panic!("{refused:?}") };
    assert_eq!(place.fault, ProofFault::Step(Fault::LemmaDoesNotMatch));
    // A symbol of sorts that there are not, or of formulas as arguments, or with too many of them.
    for symbol in [&[1, sort::BOOL, sort::INT][..], &[1, 99, sort::INT], &[0, 32], &[4, 3, 3, 3, 3, sort::INT]] {
        assert!(store.add(&[&[1][..], symbol, &[0, Op::True as u8]].concat(), &[rule::TRUTH, rule::DONE]).is_err());
    }
    assert_eq!(store.len(), 1);
}

// ---- Verdicts ----

fn lawful() -> (Vec<u8>, Vec<u8>) {
    let cite = [rule::CLAIM, 0, rule::UNFOLD, rule::LEFT, rule::CITE, 0, rule::DONE];
    let again = [rule::CLAIM, 0, rule::CITE, 1, rule::DONE];
    (firewall(OTHER.into()).encode(), [&[note::NONE][..], &SHOWN, &cite, &again].concat())
}

#[test]
fn a_swapped_program_or_policy_has_another_verdict() {
    let (program, proof) = lawful();
    let accept =
        |program: &[u8], policy: &Arc<Policy>| vinet_trusted::check::check(program, &proof, me(), policy, &none());
    let checked = accept(&program, &end_user()).expect("lawful");
    // A program like it, but for the destination: the same steps do not show it.
    let swapped = common::program(
        &[],
        vec![select(1, 0, Field::Dst, OTHER.into()), select(2, 1, Field::Src, OTHER.into()), Instr::Discard { arg: 2 }],
    );
    assert!(accept(&swapped.encode(), &end_user()).is_err());
    assert_eq!(checked.program_id(), Program::decode(&program).expect("a program").id());
    assert_ne!(checked.program_id(), swapped.id());
    let mut stricter = policy(PrincipalKind::EndUser, owns(Field::Dst));
    stricter.discard = Test::False;
    assert!(accept(&program, &Arc::new(stricter.clone())).is_err());
    assert_ne!(checked.policy_id(), stricter.id());
}

#[test]
fn a_verdict_is_of_one_router() {
    // Another router's policy has another name though it says the same; its lemmas have another root.
    let (program, proof) = lawful();
    let mut renamed = policy(PrincipalKind::EndUser, owns(Field::Dst));
    renamed.name = "another".into();
    let mut store = none();
    let here = vinet_trusted::check::check(&program, &proof, me(), &end_user(), &store).expect("lawful");
    let there = vinet_trusted::check::check(&program, &proof, me(), &Arc::new(renamed), &store).expect("lawful");
    assert_ne!(here.policy_id(), there.policy_id());
    assert_eq!(here.lemma_root(), &store.root());
    store.add(&lemma(&[], &[&[Op::True as u8]]), &[rule::TRUTH, rule::DONE]).expect("a lemma");
    let later = vinet_trusted::check::check(&program, &proof, me(), &end_user(), &store).expect("lawful");
    assert_ne!(here.lemma_root(), later.lemma_root());
    // A proof that uses a lemma is none where the lemma is not known, or has another number.
    let lemma_used = [&[note::NONE, rule::LEMMA, 0, rule::LEFT][..], &SHOWN].concat();
    let refused = vinet_trusted::check::check(&program, &lemma_used, me(), &end_user(), &none());
    assert!(matches!(refused, Err(Reject::NotProven(place)) if place.fault == ProofFault::Step(Fault::NoSuchLemma)));
}

#[test]
fn a_verdict_for_one_owner_gives_nothing_on_anothers_packets() {
    let (program, proof) = lawful();
    let of = |owner| vinet_trusted::check::check(&program, &proof, owner, &end_user(), &none()).map(Arc::new);
    let checked: Arc<Checked> = of(me()).expect("lawful");
    let other = of(Principal::EndUser(OTHER)).expect("THIS_IP is the other's there");
    assert_eq!((checked.owner(), other.owner()), (&me(), &Principal::EndUser(OTHER)));
    let (mine, theirs) = (Packet::between(OTHER, ME), Packet::between(ME, OTHER));
    assert!(gate::discard(&checked, &mine).is_some() && gate::discard(&checked, &theirs).is_none());
    assert!(gate::discard(&other, &mine).is_none() && gate::discard(&other, &theirs).is_some());
    assert!(gate::scan(&checked, &theirs).is_none() && gate::generate(&checked, ME, OTHER).is_none());
    let any = Prefix::of(ME, 0).expect("a prefix");
    for action in [Action::Discard, Action::Run] {
        assert!(Cell::new(&checked, any, Prefix::host(OTHER), action).is_err());
        assert!(Cell::new(&other, any, Prefix::host(ME), action).is_err());
    }
}

#[test]
fn an_address_that_is_counted_leaves_no_family_and_no_policy() {
    // From the owner's address to the next: generating to it is not the owner's to do, whatever the number is called.
    let body = |by: Expr| {
        vec![
            own(),
            Instr::Content { dests: 2, contents: 3, arg: 1 },
            Instr::Offset { out: 4, base: AddrTerm::ThisIp, by },
            Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::Slot { slot: 4 }, data: 3 },
        ]
    };
    let cite = [rule::CLAIM, 0, rule::CITE, 0, rule::DONE];
    let both = |n: u8| {
        let le = [rule::EVALUATE, Op::Le as u8, Op::Int as u8, n, Op::Int as u8, n];
        let offset = [rule::OFFSET, refer::PART, 0, refer::GOAL, 0, rule::DONE];
        [&[note::NONE][..], &SHOWN, &cite, &cite, &le, &le, &offset].concat()
    };
    check(&program(&[], body(int(0))), &both(0), &end_user()).expect("the owner's own address");
    // 1 is written as 2: signed integers alternate.
    let refused = fault(&program(&[], body(int(1))), &both(2), &end_user());
    assert_eq!(refused, ProofFault::Step(Fault::NotWithin));
}
