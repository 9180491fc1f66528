use super::*;
use crate::lower::CELLS_MAX;
use crate::parse::headers;
use crate::parse::headers_snapped;
use crate::parse::tests::{captures, frames};
use crate::reference::Reference;
use crate::samples::{Carried, Random, Traffic, World, addr, frame, prefix, seed};
use std::collections::BTreeSet;
use vinet_trusted::addr::{PrefixSet, Principal};
use vinet_trusted::check::check;
use vinet_trusted::policy::{Costs, Formula, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrExpr, Cond, Field, Instr, Program};

fn policy(owner: &Principal) -> Arc<Policy> {
    let owns = Formula::Owns(Field::Dst);
    let costs = Costs {
        program: 10,
        select: 1,
        select_many: 1,
        partition: 1,
        foreach: 1,
        test: 1,
        discard: 1,
        contains: 10,
        contains_per_64_bytes: 10,
        stream: 10,
    };
    let limits = Limits {
        program_bytes_max: 1 << 18,
        proof_bytes_max: 1 << 16,
        lifetime_max_s: 3600,
        complexity_max: 1 << 40,
        cost_max: 1 << 50,
        packet_bytes_max: 1500,
        stream_flows_max: 4096,
        stream_islands_max: 64,
        packet_rate_default: 1000,
        packet_rate_max: 1_000_000,
        over_budget: OverBudget::Forward,
    };
    Arc::new(Policy {
        name: "test".into(),
        principals: PrincipalKind::of(owner),
        discard: owns.clone(),
        group: owns.clone(),
        scan: owns,
        costs,
        limits,
    })
}

fn accepted(program: &Program, owner: &Principal) -> Option<Arc<Checked>> {
    let policy = policy(owner);
    let proof = vinet_prover::prove(program, owner, &policy).ok()?;
    Some(Arc::new(check(&program.encode(), &proof, *owner, &policy).expect("what is proven checks")))
}

fn set(prefixes: &[&str]) -> AddrExpr {
    AddrExpr { prefixes: PrefixSet::new(prefixes.iter().map(|p| prefix(p)).collect()), ..AddrExpr::default() }
}

fn this_ip() -> AddrExpr {
    AddrExpr { this_ip: true, ..AddrExpr::default() }
}

/// `mine = GROUP_BY_DESTINATION(AllPackets, THIS_IP); chosen = GROUP_BY_SOURCE(mine, from);` then `last`.
fn on_packets_from(from: AddrExpr, words: &[&[u8]], last: Instr) -> Program {
    let body = vec![
        Instr::Select { out: 1, arg: 0, field: Field::Dst, addrs: this_ip() },
        Instr::Select { out: 2, arg: 1, field: Field::Src, addrs: from },
        last,
    ];
    Program::new(60, words.iter().map(|w| w.to_vec()).collect(), body).unwrap()
}

fn discard_if(cond: Cond) -> Instr {
    Instr::If { cond, then: vec![Instr::Discard { arg: 2 }], otherwise: vec![] }
}

fn contains(word: u8) -> Cond {
    Cond::Contains { arg: 2, word }
}

/// Every IPv4 address.
const ANYONE: &[&str] = &["0.0.0.0/0"];

fn v4_owner() -> Principal {
    Principal::EndUser(addr("10.0.0.5"))
}

fn runner(program: &Program, owner: &Principal) -> Runner {
    Runner::new(Plan::new(program, owner).unwrap(), program.words())
}

fn is_at(places: &[Place], headers: &Headers) -> usize {
    places.iter().filter(|place| place.src.contains(headers.src) && place.dst.contains(headers.dst)).count()
}

#[test]
fn the_executor_is_the_reference_on_random_programs_and_traffic() {
    let seed = seed("executor");
    let mut random = Random::new(seed);
    let (mut discarded, mut forwarded) = (0, 0);
    for round in 0..600 {
        let world = World::random(&mut random);
        let words_max = random.below(7);
        let program = world.program(&mut random, words_max);
        let plan = Plan::new(&program, &world.owner).unwrap();
        let tree = Runner::new(Plan::of_tree(&program, &world.owner).unwrap(), program.words());
        let cells = plan.cells();
        let fast = Runner::new(plan, program.words());
        let mut reference = Reference::new(&program, &world.owner);
        let (mut state, mut tree_state) = (fast.state(4096, 64), tree.state(4096, 64));
        let mut traffic = Traffic::new(&world, &mut random);
        for packet in 0..60 {
            let frame = traffic.frame(&mut random);
            let headers = headers(&frame).unwrap();
            let expected = reference.run(&frame, &headers).unwrap();
            let place = format!("seed {seed}, round {round}, packet {packet}: {program:?} of {}", world.owner);
            assert_eq!(tree.discards(&mut tree_state, &frame, &headers), expected, "tree: {place}");
            let at = is_at(&cells.1, &headers);
            match cells.0 {
                Action::Discard => assert_eq!(at > 0, expected, "table: {place}"),
                Action::Run => {
                    assert!(at <= 1, "given twice: {place}");
                    let got = at == 1 && fast.discards(&mut state, &frame, &headers);
                    assert_eq!(got, expected, "plan: {place}");
                }
            }
            *if expected { &mut discarded } else { &mut forwarded } += 1;
        }
        let lost = |state: &State| state.counters().flows_evicted + state.counters().islands_evicted;
        assert_eq!((lost(&state), lost(&tree_state)), (0, 0), "seed {seed}, round {round}: a limit was met");
    }
    assert!(discarded > 2000 && forwarded > 2000, "the samples are one-sided: {discarded} to {forwarded}");
}

#[test]
fn accepted_programs_run_as_the_reference_says_whoever_the_packets_are_for() {
    let seed = seed("accepted");
    let mut random = Random::new(seed);
    let (mut accepted_count, mut verdicts, mut discards) = (0, 0, 0);
    for round in 0..500 {
        let world = World::random(&mut random);
        let words_max = random.below(5);
        let program = match random.one_in(4) {
            true => world.program(&mut random, words_max),
            false => world.lawful_program(&mut random, words_max),
        };
        let Some(checked) = accepted(&program, &world.owner) else { continue };
        accepted_count += 1;
        let executable = Executable::lower(Arc::clone(&checked)).unwrap();
        let mut state = executable.state();
        assert!(state.memory_bytes() <= checked.state_bytes());
        verdicts += usize::from(executable.is_verdict());
        if program.words().is_empty() {
            assert!(executable.is_verdict(), "seed {seed}, round {round}: {program:?} is interpreted");
        }
        let mut reference = Reference::new(&program, &world.owner);
        // The packets of one world to another's owner too: nothing may happen to them.
        let mut other = World::random(&mut random);
        other.owned.extend(&world.owned);
        other.owned.retain(|a| a.width() == world.owned[0].width());
        other.sources = world.sources.clone();
        let mut traffic = Traffic::new(&other, &mut random);
        for _ in 0..40 {
            let frame = traffic.frame(&mut random);
            let headers = headers(&frame).unwrap();
            let expected = reference.run(&frame, &headers).unwrap();
            let cell = executable
                .cells()
                .iter()
                .find(|cell| cell.src().contains(headers.src) && cell.dst().contains(headers.dst));
            let got = match cell.map(|cell| (cell.permit(), cell.action())) {
                None => false,
                Some((permit, Action::Discard)) => permit.is_some(),
                Some((_, Action::Run)) => executable.run(&mut state, &frame, &headers, 0) != Verdict::Forward,
            };
            assert_eq!(got, expected, "seed {seed}, round {round}: {program:?}");
            discards += usize::from(got);
        }
    }
    println!("{accepted_count} programs accepted, {verdicts} of them verdicts, {discards} packets discarded");
    assert!(accepted_count > 100 && verdicts > 50 && verdicts < accepted_count - 20 && discards > 100);
}

#[test]
fn a_firewall_over_ten_thousand_prefixes_is_ten_thousand_verdicts() {
    let owner = v4_owner();
    let prefixes: Vec<_> = (0..10_000u32)
        .map(|i| vinet_trusted::addr::Prefix::of(vinet_trusted::addr::Addr::V4(0x0b00_0000 + i * 512), 24).unwrap())
        .collect();
    let from = AddrExpr { prefixes: PrefixSet::new(prefixes.clone()), ..AddrExpr::default() };
    let program = on_packets_from(from, &[], Instr::Discard { arg: 2 });
    let executable = Executable::lower(accepted(&program, &owner).expect("a proof")).unwrap();
    assert!(executable.is_verdict());
    let cells: BTreeSet<_> = executable.cells().iter().map(Cell::src).collect();
    assert_eq!(cells, prefixes.into_iter().collect());
    assert!(executable.cells().iter().all(|cell| cell.dst() == owner.owned()));
}

#[test]
fn a_program_without_effect_wants_no_cell() {
    let program = on_packets_from(set(&["192.0.2.0/24"]), &[], Instr::Partition { out: 3, arg: 2, field: Field::Src });
    let executable = Executable::lower(accepted(&program, &v4_owner()).expect("a proof")).unwrap();
    assert!(executable.cells().is_empty() && executable.is_verdict());
    assert_eq!(executable.state().memory_bytes(), 0);
}

#[test]
fn a_filter_is_given_only_the_sources_that_it_asks_about() {
    let owner = v4_owner();
    let program = on_packets_from(set(&["192.0.2.0/24", "203.0.113.9"]), &[b"spam"], discard_if(contains(0)));
    let executable = Executable::lower(accepted(&program, &owner).expect("a proof")).unwrap();
    let cells: Vec<_> = executable.cells().iter().map(|cell| (cell.src(), cell.dst(), cell.action())).collect();
    let own = owner.owned();
    assert_eq!(cells, [(prefix("192.0.2.0/24"), own, Action::Run), (prefix("203.0.113.9"), own, Action::Run)]);
}

#[test]
fn everyone_but_one_is_a_table_verdict_for_ipv4_and_runs_for_ipv6() {
    // The prefixes of the complement are of 32 lengths, or of 128.
    for (owner, friend, verdict) in [("10.0.0.5", "192.0.2.1", true), ("2001:db8::5", "2001:db8::1", false)] {
        let owner = Principal::EndUser(addr(owner));
        let body = vec![
            Instr::Select { out: 1, arg: 0, field: Field::Dst, addrs: this_ip() },
            Instr::Partition { out: 2, arg: 1, field: Field::Src },
            Instr::Foreach {
                groups: 2,
                packets: 3,
                key: 4,
                body: vec![Instr::If {
                    cond: Cond::KeyIn { key: 4, addrs: set(&[friend]) },
                    then: vec![],
                    otherwise: vec![Instr::Discard { arg: 3 }],
                }],
            },
        ];
        let program = Program::new(60, vec![], body).unwrap();
        let executable = Executable::lower(accepted(&program, &owner).expect("a proof")).unwrap();
        assert_eq!(executable.is_verdict(), verdict);
        assert_eq!(executable.cells().len(), if verdict { 32 } else { 1 });
        for (src, expected) in [(addr(friend), false), (owner.addr(), true)] {
            let udp = Carried::Udp { ports: (1, 2), payload: vec![] };
            let frame = frame(src, owner.addr(), &udp);
            let headers = headers(&frame).unwrap();
            let discarded = executable.run(&mut executable.state(), &frame, &headers, 0) != Verdict::Forward;
            assert_eq!(discarded, expected);
        }
    }
}

#[test]
fn cells_stay_few_where_sources_and_destinations_cross() {
    // A × everything and B × one host: two cells, not the pieces of a complement.
    let owner = Principal::edge_router(addr("10.0.0.1"), 24).unwrap();
    let body = vec![
        Instr::Select {
            out: 1,
            arg: 0,
            field: Field::Dst,
            addrs: AddrExpr { this_subnet: true, ..AddrExpr::default() },
        },
        Instr::Select { out: 2, arg: 1, field: Field::Src, addrs: set(&["192.0.2.0/24"]) },
        Instr::Discard { arg: 2 },
        Instr::Select { out: 3, arg: 1, field: Field::Dst, addrs: set(&["10.0.0.77"]) },
        Instr::Select { out: 4, arg: 3, field: Field::Src, addrs: set(&["203.0.113.0/24"]) },
        Instr::Discard { arg: 4 },
    ];
    let program = Program::new(60, vec![], body).unwrap();
    let executable = Executable::lower(accepted(&program, &owner).expect("a proof")).unwrap();
    assert!(executable.is_verdict());
    assert_eq!(executable.cells().len(), 2);
}

#[test]
fn a_decision_too_large_for_a_diagram_runs_as_its_tree() {
    // Each word with a far partner: the diagram would need 2^32 nodes.
    let words: Vec<Vec<u8>> = (0..64u8).map(|i| vec![b'<', i, b'>']).collect();
    let pair = |i: u8| Cond::And(Box::new(contains(i)), Box::new(contains(i + 32)));
    let listed = (0..64).map(|i| Instr::If { cond: contains(i), then: vec![], otherwise: vec![] });
    let mut body = vec![
        Instr::Select { out: 1, arg: 0, field: Field::Dst, addrs: this_ip() },
        Instr::Select { out: 2, arg: 1, field: Field::Src, addrs: set(ANYONE) },
    ];
    body.extend(listed);
    body.extend((0..32).map(|i| discard_if(pair(i))));
    let program = Program::new(60, words.clone(), body).unwrap();
    let owner = v4_owner();
    let plan = Plan::new(&program, &owner).unwrap();
    assert!(plan.is_tree());
    let runner = Runner::new(plan, program.words());
    let mut state = runner.state(64, 4);
    for (a, b, expected) in [(0, 32, true), (31, 63, true), (0, 33, false), (5, 5, false)] {
        let payload = [words[a].clone(), words[b].clone()].concat();
        let frame = frame(addr("192.0.2.1"), owner.addr(), &Carried::Udp { ports: (1, 2), payload });
        assert_eq!(runner.discards(&mut state, &frame, &headers(&frame).unwrap()), expected, "words {a} and {b}");
    }
}

#[test]
fn too_many_classes_run_as_a_tree_with_one_wide_cell() {
    // 100 sets of sources and 100 of destinations that all differ.
    let owner = Principal::edge_router(addr("10.0.0.1"), 24).unwrap();
    let mut body = Vec::new();
    for i in 0..100u8 {
        let sources = set(&[&format!("192.0.2.{i}"), &format!("192.0.2.{}", i + 1)]);
        body.push(Instr::Select { out: 1, arg: 0, field: Field::Src, addrs: sources });
        body.push(Instr::Select { out: 2, arg: 1, field: Field::Dst, addrs: set(&[&format!("10.0.0.{i}")]) });
        body.push(Instr::Discard { arg: 2 });
    }
    let program = Program::new(60, vec![], body).unwrap();
    let plan = Plan::new(&program, &owner).unwrap();
    assert!(plan.is_tree());
    assert_eq!(plan.cells(), (Action::Run, vec![Place { src: prefix("0.0.0.0/0"), dst: owner.owned() }]));
    assert!(plan.cells().1.len() <= CELLS_MAX);
    let runner = Runner::new(plan, &[]);
    for (src, dst, expected) in [("192.0.2.8", "10.0.0.7", true), ("192.0.2.9", "10.0.0.7", false)] {
        let frame = frame(addr(src), addr(dst), &Carried::Udp { ports: (1, 2), payload: vec![] });
        assert_eq!(runner.discards(&mut runner.state(0, 1), &frame, &headers(&frame).unwrap()), expected);
    }
}

#[test]
fn history_counts_what_the_program_did_not_ask_about_at_once() {
    // Short-circuiting passes over the second word while the first is missing; its packet counts all the same.
    let owner = v4_owner();
    let both = Cond::And(Box::new(contains(0)), Box::new(contains(1)));
    let program = on_packets_from(set(ANYONE), &[b"first", b"second"], discard_if(both));
    let runner = runner(&program, &owner);
    let mut state = runner.state(64, 4);
    let mut send = |seq: u32, payload: &[u8]| {
        let tcp = Carried::Tcp { ports: (1, 25), seq, flags: 0x10, payload: payload.to_vec() };
        let frame = frame(addr("192.0.2.1"), owner.addr(), &tcp);
        runner.discards(&mut state, &frame, &headers(&frame).unwrap())
    };
    assert!(!send(1000, b"sec"));
    assert!(!send(1003, b"ond"));
    assert!(!send(1006, b"fir"));
    assert!(send(1009, b"st"));
    assert!(send(1011, b""), "a packet of a flow whose content has both");
}

#[test]
fn a_burst_is_its_packets_one_by_one() {
    let owner = v4_owner();
    let program = on_packets_from(set(ANYONE), &[b"ab"], discard_if(contains(0)));
    let executable = Executable::lower(accepted(&program, &owner).expect("a proof")).unwrap();
    let seed = seed("burst");
    let mut random = Random::new(seed);
    let world = loop {
        let world = World::random(&mut random);
        if world.owner.owned().contains(owner.addr()) && world.owned.len() > 1 {
            break world;
        }
    };
    let mut traffic = Traffic::new(&world, &mut random);
    let frames: Vec<Vec<u8>> = (0..64).map(|_| traffic.frame(&mut random)).collect();
    let parsed: Vec<Headers> = frames.iter().map(|frame| headers(frame).unwrap()).collect();
    let (mut alone, mut together) = (executable.state(), executable.state());
    let one_by_one: Vec<Verdict> =
        frames.iter().zip(&parsed).map(|(frame, headers)| executable.run(&mut alone, frame, headers, 0)).collect();
    let mut verdicts = Vec::with_capacity(64);
    let packets = frames.iter().map(Vec::as_slice).zip(&parsed);
    executable.run_window(&mut together, packets, 0, &mut verdicts);
    assert_eq!(verdicts, one_by_one, "seed {seed}");
    assert!(verdicts.contains(&Verdict::Forward));
}

#[test]
fn filters_over_the_captures_are_the_reference() {
    // Words that are in the captures, cut by segments or not, and one that is in none.
    let words: &[&[u8]] = &[b"HTTP/1.1", b"Subject: ", b"SSH-2.0", b"RETR", b"no capture has this"];
    let mut discarded = 0;
    for path in captures() {
        let parsed: Vec<(Vec<u8>, Headers)> = frames(&path)
            .into_iter()
            .filter_map(|frame| headers_snapped(&frame, usize::from(u16::MAX)).ok().map(|headers| (frame, headers)))
            .collect();
        let owners: BTreeSet<_> = parsed.iter().map(|(_, headers)| headers.dst).collect();
        for owner in owners.into_iter().take(3).map(Principal::EndUser) {
            let either = |a, b| Cond::Or(Box::new(a), Box::new(b));
            let cond = either(either(contains(0), contains(1)), either(contains(2), either(contains(3), contains(4))));
            let program = on_packets_from(set(&["0.0.0.0/0", "::/0"]), words, discard_if(cond));
            let runner = runner(&program, &owner);
            let mut state = runner.state(4096, 16);
            let mut reference = Reference::new(&program, &owner);
            for (i, (frame, headers)) in parsed.iter().enumerate() {
                let expected = reference.run(frame, headers).unwrap();
                let got = runner.discards(&mut state, frame, headers);
                assert_eq!(got, expected, "{}, packet {i} to {owner}", path.display());
                discarded += usize::from(got);
            }
            assert_eq!((state.counters().flows_evicted, state.counters().islands_evicted), (0, 0));
        }
    }
    assert!(captures().is_empty() || discarded > 500, "{discarded}");
}
