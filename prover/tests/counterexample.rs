//! The search for counterexamples: it finds one for unlawful programs of every construct, and none for lawful ones.

mod analysis;

use analysis::*;
use vinet_prover::analyse;
use vinet_prover::counterexample::{Counterexample, Limits, NotFound, Offence, find};
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::packet::{Field, Number, Test};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{AddrTerm, Cond, Instr, Program};
use vinet_trusted::walk::EventKind;

fn unlawful() -> Vec<(&'static str, Program, Principal, Policy, usize)> {
    use Field::{Dst, Src};
    let bad = prefixes(&[(OTHER, 24)]);
    let mut all_of = Vec::new();
    let mut user = |name, words: &[&str], window, body, instr| {
        all_of.push((name, program(words, window, body), me(), end_user(), instr));
    };
    user("discards everything", &[], 1, vec![discard(0)], 0);
    user("selects others' packets", &[], 1, vec![select(1, 0, within(Src, bad.clone())), discard(1)], 0);
    user(
        "discards others' packets through a branch",
        &["x"],
        1,
        vec![
            select(1, 0, to_me()),
            branch(all(contains(1, 0), no(Cond::Empty { arg: 1 })), vec![discard(1)], vec![discard(0)]),
        ],
        3,
    );
    user("looks into everything", &["x"], 1, vec![branch(contains(0, 0), vec![], vec![])], 0);
    user("counts in everything", &["x"], 1, vec![Instr::Count { out: 1, arg: 0, word: 0 }], 0);
    user("groups everything", &[], 0, vec![partition(1, 0, Src)], 0);
    user("groups everything by content", &[], 0, vec![Instr::Content { dests: 1, contents: 2, arg: 0 }], 0);
    user(
        "joins its own and a foreign set",
        &[],
        0,
        vec![
            select(1, 0, to_me()),
            Instr::Minus { out: 2, a: 0, b: 1 },
            Instr::Union { out: 3, a: 1, b: 2 },
            discard(3),
        ],
        3,
    );
    user(
        "sends to others",
        &[],
        0,
        vec![
            select(1, 0, to_me()),
            Instr::Content { dests: 2, contents: 3, arg: 1 },
            Instr::Generate { src: AddrTerm::ThisIp, dst: constant(OTHER), data: 3 },
        ],
        2,
    );
    user(
        "a threshold",
        &["x"],
        0,
        vec![
            select(1, 0, to_me()),
            Instr::Count { out: 2, arg: 1, word: 0 },
            branch(at_most(int(17), get(2)), vec![branch(at_most(get(2), int(17)), vec![discard(0)], vec![])], vec![]),
        ],
        4,
    );
    user(
        "two packets",
        &[],
        0,
        vec![Instr::Size { out: 1, arg: 0 }, branch(equal(get(1), int(2)), vec![discard(0)], vec![])],
        2,
    );
    user(
        "two sources",
        &[],
        0,
        vec![
            select(1, 0, to_me()),
            partition(2, 1, Src),
            let_(3, int(0)),
            foreach(2, 4, 5, vec![let_(3, add(get(3), int(1)))]),
            branch(at_most(int(2), get(3)), vec![discard(0)], vec![]),
        ],
        6,
    );
    user(
        "a loop that goes one too far",
        &[],
        0,
        vec![
            let_(1, int(0)),
            while_(at_most(get(1), int(10)), 20, vec![let_(1, add(get(1), int(1)))]),
            branch(equal(get(1), int(11)), vec![discard(0)], vec![]),
        ],
        4,
    );
    let mut edge = |name, body, instr| {
        all_of.push((name, program(&[], 0, body), router(), edge_router(), instr));
    };
    edge(
        "a key test with the wrong prefix",
        vec![
            select(1, 0, owns(Dst)),
            partition(2, 1, Src),
            foreach(
                2,
                3,
                4,
                vec![
                    Instr::Content { dests: 5, contents: 6, arg: 3 },
                    branch(
                        is_in(4, prefixes(&[(NET, 23)])),
                        vec![Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::Slot { slot: 4 }, data: 6 }],
                        vec![],
                    ),
                ],
            ),
        ],
        5,
    );
    edge("a prefix one bit too short", vec![select(1, 0, within(Dst, prefixes(&[(NET, 23)]))), discard(1)], 0);
    edge(
        "an offset out of the subnet",
        vec![
            select(1, 0, owns(Dst)),
            Instr::Content { dests: 2, contents: 3, arg: 1 },
            Instr::Offset { out: 4, base: AddrTerm::ThisSubnet, by: int(256) },
            Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::Slot { slot: 4 }, data: 3 },
        ],
        3,
    );
    edge(
        "a selection by a computed address",
        vec![
            Instr::Offset { out: 1, base: constant(NET), by: int(70_000) },
            select(2, 0, Test::Is { field: Dst, slot: 1 }),
        ],
        1,
    );
    edge(
        "a loop over one host too many",
        vec![
            select(1, 0, owns(Dst)),
            Instr::Content { dests: 2, contents: 3, arg: 1 },
            let_(4, int(0)),
            while_(
                at_most(get(4), int(256)),
                1000,
                vec![
                    Instr::Offset { out: 5, base: AddrTerm::ThisSubnet, by: get(4) },
                    Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::Slot { slot: 5 }, data: 3 },
                    let_(4, add(get(4), int(1))),
                ],
            ),
        ],
        5,
    );
    let mut hard = |name, words: &[&str], body, instr| {
        all_of.push((name, program(words, 1, body), me(), strict(), instr));
    };
    hard("looks into TLS", &["x"], vec![select(1, 0, to_me()), branch(contains(1, 0), vec![], vec![])], 1);
    hard(
        "looks into one port of TLS",
        &["x"],
        vec![
            select(1, 0, and(to_me(), not(number(Number::DstPort, &[(443, 443), (465, 465), (853, 853), (993, 993)])))),
            branch(contains(1, 0), vec![], vec![]),
        ],
        1,
    );
    hard("discards ICMP", &[], vec![select(1, 0, to_me()), discard(1)], 1);
    let v6 = Addr::V6(0x2001_0db8 << 96 | 1);
    all_of.push((
        "the wrong host of the other family",
        program(&[], 1, vec![select(1, 0, within(Dst, prefixes(&[(v6, 127)]))), discard(1)]),
        Principal::EndUser(v6),
        end_user(),
        0,
    ));
    all_of
}

#[test]
fn one_is_found_for_every_unlawful_program() {
    let mut missed = Vec::new();
    for (name, program, owner, policy, instr) in unlawful() {
        let start = std::time::Instant::now();
        match find(&program, &owner, &policy, &Limits::default()) {
            Ok(found) => {
                println!("{name} ({:?}):\n{found}\n", start.elapsed());
                assert_eq!(found.instr, Some(instr), "{name}");
                assert_eq!(find(&program, &owner, &policy, &Limits::default()), Ok(found), "{name}: another one");
            }
            Err(NotFound { runs }) => missed.push((name, runs)),
        }
        assert!(analyse(&program, &owner, &policy, &LemmaStore::default()).is_err(), "{name}");
    }
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn none_is_found_for_lawful_programs() {
    let beyond = beyond().into_iter().map(|(name, program, owner, policy, _)| (name, program, owner, policy));
    for (name, program, owner, policy) in simple().into_iter().chain(beyond) {
        let found = find(&program, &owner, &policy, &Limits::default());
        let none = found.expect_err(name);
        assert!((1..=Limits::default().runs_max).contains(&none.runs), "{name}: {none}");
    }
}

#[test]
fn it_says_what_happens_in_words() {
    let bad = prefixes(&[(OTHER, 32)]);
    let program = program(&[], 1, vec![select(1, 0, to_me()), select(2, 0, within(Field::Src, bad)), discard(2)]);
    let found = find(&program, &me(), &end_user(), &Limits::default()).expect("a counterexample");
    let text = found.to_string();
    assert!(text.contains("packet 1 from 203.0.113.7 to 192.0.2."), "{text}");
    let why = "is grouped by instruction 1; the policy allows that only where the destination is the owner's";
    assert!(text.ends_with(why), "{text}");
    assert_eq!(found.window.len(), 1);
    assert!(matches!(found.offence, Offence::Packet { event: EventKind::Group, packet: 0 }));
}

#[test]
fn what_a_policy_allows_is_said_in_english() {
    let said = |group: Test| {
        let mut policy = end_user();
        policy.group = group;
        let body = vec![select(1, 0, owns(Field::Src))];
        let found = find(&program(&[], 1, body), &me(), &policy, &Limits::default()).expect("a counterexample");
        found.to_string().rsplit_once("by instruction 0; the policy ").expect("what is allowed").1.to_owned()
    };
    let from_me = || owns(Field::Src);
    let web = || number(Number::DstPort, &[(80, 80), (8000, 8080)]);
    for (test, words) in [
        (Test::False, "never allows that"),
        (not(Test::True), "never allows that"),
        (and(from_me(), Test::False), "never allows that"),
        (not(from_me()), "allows that only where the source is not the owner's"),
        (and(Test::True, web()), "allows that only where the destination port is in {80, 8000..8080}"),
        (
            not(and(from_me(), web())),
            "allows that only where the source is not the owner's or the destination port is not in {80, 8000..8080}",
        ),
        (
            and(or(web(), not(from_me())), owns(Field::Dst)),
            "allows that only where (the destination port is in {80, 8000..8080} or the source is not the owner's) \
             and the destination is the owner's",
        ),
    ] {
        assert_eq!(said(test), words);
    }
}

#[test]
fn a_run_that_costs_too_much_is_one() {
    let program = program(
        &[],
        1,
        vec![let_(1, int(0)), while_(at_most(get(1), int(999)), 2000, vec![let_(1, add(get(1), int(1)))])],
    );
    let mut policy = end_user();
    policy.limits.complexity_max = 10_000;
    let found = find(&program, &me(), &policy, &Limits::default()).expect("a counterexample");
    let Counterexample { offence: Offence::Cost { cost, allowed }, .. } = found else { panic!("{found}") };
    assert!(cost > allowed && allowed == 10_000);
    assert!(found.to_string().ends_with(&format!("the run costs {cost} cycles; the policy allows at most 10000")));
    policy.limits.complexity_max = 100_000;
    assert!(find(&program, &me(), &policy, &Limits::default()).is_err());
}

#[test]
fn the_search_ends() {
    // Three loops in one another, of as many turns as there can be.
    let forever = |body| while_(Cond::Empty { arg: 1 }, 65_536, body);
    let program = program(
        &[],
        1,
        vec![
            select(1, 0, and(to_me(), number(Number::Protocol, &[(200, 200)]))),
            forever(vec![forever(vec![forever(vec![let_(2, int(1))])])]),
        ],
    );
    let start = std::time::Instant::now();
    let mut policy = end_user();
    policy.limits.complexity_max = u64::MAX;
    let none = find(&program, &me(), &policy, &Limits::default()).expect_err("nothing is forbidden");
    println!("{none} ({:?})", start.elapsed());
    assert!(none.runs < Limits::default().runs_max, "the steps end it before the runs: {none}");
    let few = Limits { runs_max: 1, ..Limits::default() };
    let unlawful = unlawful().into_iter().find(|(name, ..)| *name == "discards everything").expect("it is there");
    let none = find(&unlawful.1, &unlawful.2, &unlawful.3, &few).expect_err("the empty window is harmless");
    assert_eq!(none, NotFound { runs: 1 });
    assert_eq!(none.to_string(), "no counterexample found (1 run tried)");
    let none = find(&unlawful.1, &unlawful.2, &unlawful.3, &Limits { runs_max: 0, ..few });
    assert_eq!(none, Err(NotFound { runs: 0 }));
}

/// What the analyser accepts has no counterexample: two programs that share no code agree.
#[test]
fn what_the_analyser_accepts_has_none() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_127);
    println!("seed {seed}");
    let limits = Limits { runs_max: 1500, packets_max: 2, ..Limits::default() };
    let cases = [(me(), end_user()), (me(), strict()), (router(), edge_router())];
    let mut maker = Maker::new(seed);
    let (mut lawful, mut found) = (0, 0);
    for i in 0..1500 {
        let program = maker.program(1 + i % 12);
        let (owner, policy) = &cases[i % 3];
        let counter = find(&program, owner, policy, &limits);
        if analyse(&program, owner, policy, &LemmaStore::default()).is_ok() {
            lawful += 1;
            assert!(counter.is_err(), "{}\n{program:?}", counter.map(|c| c.to_string()).unwrap_or_default());
        } else {
            found += usize::from(counter.is_ok());
        }
    }
    println!("accepted {lawful}, counterexamples {found} of 1500");
    assert!(lawful > 100 && found > 400, "accepted {lawful}, counterexamples {found}");
}
