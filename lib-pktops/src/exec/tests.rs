use super::*;
use crate::datagram::Sender;
use crate::generate::{Generated, Kind, read_contents, read_dests};
use crate::group_by_content::Content;
use crate::parse::headers;
use crate::parse::headers_snapped;
use crate::parse::tests::{captures, frames};
use crate::reference::{Reference, Sent};
use crate::samples::{Carried, Random, Style, Traffic, World, addr, frame, prefix, seed};
use std::collections::BTreeSet;
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, PrefixSet, Principal};
use vinet_trusted::check::check;
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::policy::{Costs, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrTerm, Cond, Expr, Instr, Program, Slot, Word};

const OWNS: Test = Test::Owns { field: Field::Dst };

/// A policy that allows what passes `allowed`.
fn policy(owner: &Principal, allowed: Test) -> Policy {
    let costs = Costs {
        program: 10,
        select: 1,
        select_many: 1,
        partition: 1,
        foreach: 1,
        test: 1,
        set: 1,
        arithmetic: 1,
        turn: 1,
        discard: 1,
        contains: 10,
        contains_per_64_bytes: 10,
        stream: 10,
        content: 10,
        content_per_64_bytes: 10,
        generate: 10,
        generate_per_64_bytes: 10,
    };
    let limits = Limits {
        program_bytes_max: 1 << 18,
        proof_bytes_max: 1 << 20,
        lifetime_max_s: 3600,
        complexity_max: u64::MAX,
        cost_max: u64::MAX,
        packet_bytes_max: 1500,
        window_packets_max: 256,
        window_us_max: 200,
        generate_port: 4789,
        generate_rate_max: 1000,
        stream_flows_max: 4096,
        stream_islands_max: 64,
        packet_rate_default: 1000,
        packet_rate_max: 1_000_000,
        over_budget: OverBudget::Forward,
    };
    Policy {
        name: "test".into(),
        principals: PrincipalKind::of(owner),
        discard: allowed.clone(),
        group: allowed.clone(),
        scan: allowed.clone(),
        generate: allowed,
        costs,
        limits,
    }
}

/// What the checker makes of a program, if it is proven.
fn accepted_under(program: &Program, owner: &Principal, policy: &Arc<Policy>) -> Option<Arc<Checked>> {
    let lemmas = vinet_prover::library();
    let proof = vinet_prover::prove(program, owner, policy, &lemmas, &[]).ok()?;
    Some(Arc::new(check(&program.encode(), &proof, *owner, policy, &lemmas).expect("what is proven checks")))
}

pub(crate) fn accepted(program: &Program, owner: &Principal) -> Arc<Checked> {
    accepted_under(program, owner, &Arc::new(policy(owner, OWNS))).expect("a proof")
}

fn lowered(program: &Program, owner: &Principal) -> Executable {
    Executable::lower(accepted(program, owner)).unwrap()
}

/// What runs if the lowering is wrong: another program than the checker accepted, as its plan or, with all its steps or
/// those that it needs, as its tree. The one that was accepted does no more than select the owner's packets, on windows
/// of the same size.
fn mislowered(program: &Program, owner: &Principal, policy: &Arc<Policy>, way: Lowering) -> Executable {
    let body = vec![Instr::Select { out: 1, arg: 0, test: OWNS }];
    let harmless = Program::new(60, program.window(), vec![], body).unwrap();
    let checked = accepted_under(&harmless, owner, policy).expect("a proof");
    let tree = match way {
        Lowering::AsWritten => Tree::as_written(program, &|_| None),
        Lowering::Tree | Lowering::Plan => Tree::new(program, &|_| None),
    };
    let own = Own::new(&tree, owner).unwrap();
    let plan = match way {
        Lowering::AsWritten | Lowering::Tree => Plan::of_tree(owner.owned()),
        Lowering::Plan => Plan::new(&tree, &own, owner.owned(), checked.window(), None),
    };
    let words = Words::new(program.words(), tree.counted);
    Executable::of(checked, Arc::new(Lowered { tree, words, plan: plan.clone() }), own, plan).unwrap()
}

/// What a program is lowered to.
#[derive(Clone, Copy)]
enum Lowering {
    Plan,
    Tree,
    AsWritten,
}

fn set(prefixes: &[&str]) -> AddrExpr {
    AddrExpr { prefixes: PrefixSet::new(prefixes.iter().map(|p| prefix(p)).collect()), ..AddrExpr::default() }
}

fn this_ip() -> AddrExpr {
    AddrExpr { this_ip: true, ..AddrExpr::default() }
}

fn select(out: Slot, arg: Slot, field: Field, addrs: AddrExpr) -> Instr {
    Instr::Select { out, arg, test: Test::In { field, addrs } }
}

fn plain(word: &[u8]) -> Word {
    Word { fold: false, bytes: word.to_vec() }
}

/// `mine = GROUP_BY_DESTINATION(AllPackets, THIS_IP); chosen = GROUP_BY_SOURCE(mine, from);` then `last`.
fn on_packets_from(from: AddrExpr, words: &[&[u8]], last: Instr) -> Program {
    let body = vec![select(1, 0, Field::Dst, this_ip()), select(2, 1, Field::Src, from), last];
    Program::new(60, 1, words.iter().map(|w| plain(w)).collect(), body).unwrap()
}

/// `mine = GROUP_BY_DESTINATION(AllPackets, THIS_IP);` then `rest`, on windows of `window` packets.
fn on_own_packets(window: u16, words: Vec<Word>, rest: Vec<Instr>) -> Program {
    let mut body = vec![select(1, 0, Field::Dst, this_ip())];
    body.extend(rest);
    Program::new(60, window, words, body).unwrap()
}

fn discard_if(cond: Cond) -> Instr {
    Instr::If { cond, then: vec![Instr::Discard { arg: 2 }], otherwise: vec![] }
}

fn contains(word: u8) -> Cond {
    Cond::Contains { arg: 2, word }
}

fn int(slot: Slot) -> Expr {
    Expr::Slot { slot }
}

fn constant(value: i64) -> Expr {
    Expr::Const { value }
}

/// Every IPv4 address.
const ANYONE: &[&str] = &["0.0.0.0/0"];

fn v4_owner() -> Principal {
    Principal::EndUser(addr("10.0.0.5"))
}

fn is_at(cells: &[Cell], headers: &Headers) -> usize {
    cells.iter().filter(|cell| cell.src().contains(headers.src) && cell.dst().contains(headers.dst)).count()
}

/// Runs one window.
fn run_all(executable: &Executable, state: &mut State, frames: &[Vec<u8>]) -> (Vec<bool>, Vec<Sent>) {
    let parsed: Vec<Headers> = frames.iter().map(|frame| headers(frame).unwrap()).collect();
    let packets: Vec<(&[u8], &Headers)> = frames.iter().map(Vec::as_slice).zip(&parsed).collect();
    let (mut verdicts, mut sent) = (Vec::new(), Vec::new());
    executable.run_window(state, &packets, 0, &mut verdicts, &mut |leave, generated| {
        assert_eq!((leave.src(), leave.dst()), (generated.src, generated.dst));
        sent.push(owned(&generated));
    });
    (verdicts.iter().map(|verdict| *verdict != Verdict::Forward).collect(), sent)
}

fn owned(generated: &Generated<'_>) -> Sent {
    let Generated { src, dst, batch, item, kind, .. } = *generated;
    let sent = Sent { src, dst, batch, item, kind, bytes: generated.bytes() };
    assert_eq!((sent.bytes.len(), sent.bytes.is_empty()), (generated.len(), generated.is_empty()));
    // Packets and their bytes become the same datagrams.
    let sender = Sender { program: [1; 32], key: [2; 32], port: 4789, first_batch: 0, mtu: 576 };
    let datagrams = |generated: &Generated<'_>| {
        let mut datagrams = Vec::new();
        sender.send(generated, &mut |packet| datagrams.push(packet.to_vec())).map(|_| datagrams)
    };
    assert_eq!(datagrams(generated), datagrams(&sent.generated()));
    sent
}

/// A segment to [`v4_owner`].
fn segment(port: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let tcp = Carried::Tcp { ports: (port, 25), seq, flags: 0x10, payload: payload.to_vec() };
    frame(addr("192.0.2.1"), v4_owner().addr(), &tcp)
}

/// A datagram to `dst`.
pub(crate) fn datagram(dst: &str, port: u16, payload: &[u8]) -> Vec<u8> {
    frame(addr("192.0.2.1"), addr(dst), &Carried::Udp { ports: (1, port), payload: payload.to_vec() })
}

pub(crate) fn discards(executable: &Executable, state: &mut State, frame: &[u8]) -> bool {
    executable.run(state, frame, &headers(frame).unwrap(), 0) != Verdict::Forward
}

/// What a comparison saw.
#[derive(Default, Debug)]
struct Seen {
    discarded: usize,
    forwarded: usize,
    generated: usize,
    generated_bytes: usize,
    overflowed: u64,
    exhausted: u64,
    plans: usize,
}

/// Holds a program, as its plan and as its tree, against the reference on random traffic to its owner. The policy
/// allows everything, so that programs that no checker would accept are compared too.
fn compare(random: &mut Random, world: &World, program: &Program, place: &str, seen: &mut Seen) {
    let policy = Arc::new(policy(&world.owner, Test::True));
    let mut reference = Reference::new(program, &world.owner, &policy);
    let fast = mislowered(program, &world.owner, &policy, Lowering::Plan);
    let way = if random.one_in(2) { Lowering::Tree } else { Lowering::AsWritten };
    let tree = mislowered(program, &world.owner, &policy, way);
    assert_eq!(fast.window(), reference.window());
    seen.plans += usize::from(!fast.plan.is_tree());
    let (mut state, mut tree_state) = (fast.state(), tree.state());
    let mut traffic = Traffic::new(world, random);
    let (mut overflowed, mut exhausted) = (0, 0);
    let mut left = if fast.window() > 64 { 300 } else { 60 };
    while left > 0 {
        let count = (1 + random.below(fast.window())).min(left);
        left -= count;
        let frames: Vec<Vec<u8>> = (0..count).map(|_| traffic.frame(random)).collect();
        let parsed: Vec<Headers> = frames.iter().map(|frame| headers(frame).unwrap()).collect();
        let packets: Vec<(&[u8], &Headers)> = frames.iter().map(Vec::as_slice).zip(&parsed).collect();
        let expected = reference.run(&packets).unwrap();
        let place = || format!("{place}, {left} packets before the end: {program:?} of {}", world.owner);
        let (discarded, sent) = run_all(&tree, &mut tree_state, &frames);
        assert_eq!(discarded, expected.discarded, "tree: {}", place());
        assert_eq!(sent, expected.generated, "tree: {}", place());
        match fast.cells().first().map(Cell::action) {
            Some(Action::Run) => {
                let given: Vec<Vec<u8>> = frames
                    .iter()
                    .zip(&parsed)
                    .map(|(frame, headers)| {
                        assert!(is_at(fast.cells(), headers) <= 1, "given twice: {}", place());
                        (frame, is_at(fast.cells(), headers) == 1)
                    })
                    .filter(|(_, given)| *given)
                    .map(|(frame, _)| frame.clone())
                    .collect();
                assert!(given.len() == frames.len() || fast.window() == 1, "a part of a window: {}", place());
                let (mut discarded, sent) = run_all(&fast, &mut state, &given);
                if given.is_empty() {
                    discarded = vec![false; frames.len()];
                }
                assert_eq!(discarded, expected.discarded, "plan: {}", place());
                assert_eq!(sent, expected.generated, "plan: {}", place());
            }
            _ => {
                let at: Vec<bool> = parsed.iter().map(|headers| is_at(fast.cells(), headers) > 0).collect();
                assert_eq!(at, expected.discarded, "table: {}", place());
            }
        }
        overflowed += u64::from(expected.end == End::Overflow);
        exhausted += u64::from(expected.end == End::Exhausted);
        seen.discarded += expected.discarded.iter().filter(|discarded| **discarded).count();
        seen.forwarded += expected.discarded.iter().filter(|discarded| !**discarded).count();
        seen.generated += expected.generated.len();
        seen.generated_bytes += expected.generated.iter().map(|sent| sent.bytes.len()).sum::<usize>();
    }
    for state in [&state, &tree_state] {
        let counters = state.counters();
        let none = Counters {
            flows: counters.flows,
            runs_overflowed: overflowed,
            runs_exhausted: exhausted,
            ..Counters::default()
        };
        assert!(counters == none || fast.is_verdict(), "{place}: {counters:?} and {none:?}");
    }
    seen.overflowed += overflowed;
    seen.exhausted += exhausted;
}

#[test]
fn plans_and_trees_are_the_reference_on_random_programs_and_traffic() {
    let seed = seed("plans");
    let mut random = Random::new(seed);
    let mut seen = Seen::default();
    for round in 0..600 {
        let world = World::random(&mut random);
        let words_max = random.below(7);
        let program = world.program(&mut random, words_max, Style { lawful: false, whole: false, window: 1 });
        compare(&mut random, &world, &program, &format!("seed {seed}, round {round}"), &mut seen);
    }
    println!("{seen:?}");
    assert!(seen.discarded > 2000 && seen.forwarded > 2000 && seen.plans > 300, "one-sided: {seen:?}");
}

#[test]
fn trees_are_the_reference_on_windows_and_everything_that_bytecode_can_say() {
    let seed = seed("windows");
    let mut random = Random::new(seed);
    let mut seen = Seen::default();
    for round in 0..1500 {
        let world = World::random(&mut random);
        let words_max = random.below(5);
        let window = *random.pick(&[1, 1, 0, 2, 7, 64, 65, 256]);
        let program = world.program(&mut random, words_max, Style { lawful: false, whole: true, window });
        compare(&mut random, &world, &program, &format!("seed {seed}, round {round}"), &mut seen);
    }
    println!("{seen:?}");
    assert!(seen.discarded > 4000 && seen.forwarded > 4000 && seen.generated > 400, "one-sided: {seen:?}");
    assert!(seen.generated_bytes > 4000 && seen.overflowed > 50 && seen.exhausted > 50, "one-sided: {seen:?}");
}

#[test]
fn contents_of_the_flows_of_a_window_are_the_reference() {
    let seed = seed("contents");
    let mut random = Random::new(seed);
    let mut seen = Seen::default();
    for round in 0..200 {
        let world = World::random(&mut random);
        let (searched, counted) = (random.bytes(5, b"ab"), random.bytes(2, b"ab"));
        let words =
            vec![Word { fold: random.one_in(2), bytes: searched }, Word { fold: random.one_in(2), bytes: counted }];
        // What decides about some of a flow's packets, the short ones, is the content of all of it.
        let short = Ranges::new(vec![(0, 40 + random.below(60) as u32)]).unwrap();
        let exactly = Cond::Equal { a: constant(1 + random.below(20) as i64), b: int(5) };
        let discard = |cond| Instr::If { cond, then: vec![Instr::Discard { arg: 4 }], otherwise: vec![] };
        let body = vec![
            Instr::Partition { out: 1, arg: 0, field: *random.pick(&[Field::Src, Field::Dst]) },
            Instr::Foreach {
                groups: 1,
                packets: 2,
                key: 3,
                body: vec![
                    Instr::Select { out: 4, arg: 2, test: Test::Number { number: Number::Length, ranges: short } },
                    discard(Cond::Contains { arg: 4, word: 0 }),
                    Instr::Count { out: 5, arg: 4, word: 1 },
                    discard(exactly),
                ],
            },
        ];
        let program = Program::new(60, *random.pick(&[1, 5, 64, 256]), words, body).unwrap();
        compare(&mut random, &world, &program, &format!("seed {seed}, round {round}"), &mut seen);
    }
    println!("{seen:?}");
    assert!(seen.discarded > 2000 && seen.forwarded > 2000, "one-sided: {seen:?}");
}

#[test]
fn lawful_programs_run_as_the_reference_says_whoever_the_packets_are_for() {
    let seed = seed("lawful");
    let mut random = Random::new(seed);
    let (mut verdicts, mut count, mut others) = (0, 0, 0);
    for round in 0..600 {
        let world = World::random(&mut random);
        let words_max = random.below(5);
        let (whole, window) = (random.one_in(2), *random.pick(&[1, 1, 1, 0, 3]));
        let program = world.program(&mut random, words_max, Style { lawful: true, whole, window });
        let policy = Arc::new(policy(&world.owner, OWNS));
        let Some(checked) = accepted_under(&program, &world.owner, &policy) else { continue };
        let executable = Executable::lower(Arc::clone(&checked)).unwrap();
        let mut state = executable.state();
        assert!(state.memory_bytes() <= checked.state_bytes());
        verdicts += usize::from(executable.is_verdict());
        let mut reference = Reference::new(&program, &world.owner, &policy);
        // The packets of one world to another's owner too: nothing may happen to them.
        let mut other = World::random(&mut random);
        other.owned.extend(&world.owned);
        other.owned.retain(|a| a.width() == world.owned[0].width());
        other.sources = world.sources.clone();
        let mut traffic = Traffic::new(&other, &mut random);
        for _ in 0..10 {
            let frames: Vec<Vec<u8>> = (0..executable.window().min(8)).map(|_| traffic.frame(&mut random)).collect();
            let parsed: Vec<Headers> = frames.iter().map(|frame| headers(frame).unwrap()).collect();
            let packets: Vec<(&[u8], &Headers)> = frames.iter().map(Vec::as_slice).zip(&parsed).collect();
            let expected = reference.run(&packets).unwrap();
            let got = match executable.is_verdict() {
                true => parsed.iter().map(|headers| is_at(executable.cells(), headers) > 0).collect(),
                false => {
                    let (discarded, sent) = run_all(&executable, &mut state, &frames);
                    assert_eq!(sent, expected.generated, "seed {seed}, round {round}: {program:?}");
                    discarded
                }
            };
            assert_eq!(got, expected.discarded, "seed {seed}, round {round}: {program:?}");
            count += got.iter().filter(|discarded| **discarded).count();
            others += parsed.iter().filter(|headers| !world.owner.owned().contains(headers.dst)).count();
        }
        assert_eq!(state.counters().discards_refused, 0);
    }
    println!("{verdicts} programs are verdicts, {count} packets discarded, {others} packets to others");
    assert!(verdicts > 50 && verdicts < 550 && count > 300 && others > 300);
}

#[test]
fn a_firewall_over_ten_thousand_prefixes_is_ten_thousand_verdicts() {
    let owner = v4_owner();
    let prefixes: Vec<_> = (0..10_000u32).map(|i| Prefix::of(Addr::V4(0x0b00_0000 + i * 512), 24).unwrap()).collect();
    let from = AddrExpr { prefixes: PrefixSet::new(prefixes.clone()), ..AddrExpr::default() };
    let program = on_packets_from(from, &[], Instr::Discard { arg: 2 });
    let executable = lowered(&program, &owner);
    assert!(executable.is_verdict());
    let cells: BTreeSet<_> = executable.cells().iter().map(Cell::src).collect();
    assert_eq!(cells, prefixes.into_iter().collect());
    assert!(executable.cells().iter().all(|cell| cell.dst() == owner.owned()));
}

#[test]
fn a_program_without_effect_wants_no_cell() {
    let program = on_packets_from(set(&["192.0.2.0/24"]), &[], Instr::Partition { out: 3, arg: 2, field: Field::Src });
    let executable = lowered(&program, &v4_owner());
    assert!(executable.cells().is_empty() && executable.is_verdict());
    assert_eq!(executable.state().memory_bytes(), 0);
}

#[test]
fn a_filter_is_given_only_the_sources_that_it_asks_about() {
    let owner = v4_owner();
    let program = on_packets_from(set(&["192.0.2.0/24", "203.0.113.9"]), &[b"spam"], discard_if(contains(0)));
    let executable = lowered(&program, &owner);
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
            select(1, 0, Field::Dst, this_ip()),
            Instr::Partition { out: 2, arg: 1, field: Field::Src },
            Instr::Foreach {
                groups: 2,
                packets: 3,
                key: 4,
                body: vec![Instr::If {
                    cond: Cond::AddrIn { addr: 4, addrs: set(&[friend]) },
                    then: vec![],
                    otherwise: vec![Instr::Discard { arg: 3 }],
                }],
            },
        ];
        let program = Program::new(60, 1, vec![], body).unwrap();
        let executable = lowered(&program, &owner);
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
        select(1, 0, Field::Dst, AddrExpr { this_subnet: true, ..AddrExpr::default() }),
        select(2, 1, Field::Src, set(&["192.0.2.0/24"])),
        Instr::Discard { arg: 2 },
        select(3, 1, Field::Dst, set(&["10.0.0.77"])),
        select(4, 3, Field::Src, set(&["203.0.113.0/24"])),
        Instr::Discard { arg: 4 },
    ];
    let program = Program::new(60, 1, vec![], body).unwrap();
    let executable = lowered(&program, &owner);
    assert!(executable.is_verdict());
    assert_eq!(executable.cells().len(), 2);
}

#[test]
fn a_decision_too_large_for_a_diagram_runs_as_its_tree() {
    // Each word with a far partner: the diagram would need 2^32 nodes.
    let words: Vec<Vec<u8>> = (0..64u8).map(|i| vec![b'<', i, b'>']).collect();
    let pair = |i: u8| Cond::And { a: Box::new(contains(i)), b: Box::new(contains(i + 32)) };
    let listed = (0..64).map(|i| Instr::If { cond: contains(i), then: vec![], otherwise: vec![] });
    let mut body = vec![select(1, 0, Field::Dst, this_ip()), select(2, 1, Field::Src, set(ANYONE))];
    body.extend(listed);
    body.extend((0..32).map(|i| discard_if(pair(i))));
    let program = Program::new(60, 1, words.iter().map(|word| plain(word)).collect(), body).unwrap();
    let owner = v4_owner();
    let executable = lowered(&program, &owner);
    assert!(executable.plan.is_tree());
    let mut state = executable.state();
    for (a, b, expected) in [(0, 32, true), (31, 63, true), (0, 33, false), (5, 5, false)] {
        let payload = [words[a].clone(), words[b].clone()].concat();
        let frame = frame(addr("192.0.2.1"), owner.addr(), &Carried::Udp { ports: (1, 2), payload });
        assert_eq!(discards(&executable, &mut state, &frame), expected, "words {a} and {b}");
    }
}

#[test]
fn too_many_classes_run_as_a_tree_with_one_wide_cell() {
    // 100 sets of sources and 100 of destinations that all differ.
    let owner = Principal::edge_router(addr("10.0.0.1"), 24).unwrap();
    let mut body = Vec::new();
    for i in 0..100u8 {
        let sources = set(&[&format!("192.0.2.{i}"), &format!("192.0.2.{}", i + 1)]);
        body.push(select(1, 0, Field::Src, sources));
        body.push(select(2, 1, Field::Dst, set(&[&format!("10.0.0.{i}")])));
        body.push(Instr::Discard { arg: 2 });
    }
    let program = Program::new(60, 1, vec![], body).unwrap();
    // It selects others' packets too, so that no checker would accept it.
    let executable = mislowered(&program, &owner, &Arc::new(policy(&owner, OWNS)), Lowering::Plan);
    assert!(executable.plan.is_tree());
    let cells: Vec<_> = executable.cells().iter().map(|cell| (cell.src(), cell.dst(), cell.action())).collect();
    assert_eq!(cells, [(prefix("0.0.0.0/0"), owner.owned(), Action::Run)]);
    for (src, dst, expected) in [("192.0.2.8", "10.0.0.7", true), ("192.0.2.9", "10.0.0.7", false)] {
        let frame = frame(addr(src), addr(dst), &Carried::Udp { ports: (1, 2), payload: vec![] });
        assert_eq!(discards(&executable, &mut executable.state(), &frame), expected);
    }
}

#[test]
fn history_counts_what_the_program_did_not_ask_about_at_once() {
    // Short-circuiting passes over the second word while the first is missing; its packet counts all the same.
    let owner = v4_owner();
    let both = Cond::And { a: Box::new(contains(0)), b: Box::new(contains(1)) };
    let program = on_packets_from(set(ANYONE), &[b"first", b"second"], discard_if(both));
    let executable = lowered(&program, &owner);
    assert!(!executable.plan.is_tree());
    let mut state = executable.state();
    let mut send = |seq: u32, payload: &[u8]| discards(&executable, &mut state, &segment(1, seq, payload));
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
    let executable = lowered(&program, &owner);
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
    let packets: Vec<(&[u8], &Headers)> = frames.iter().map(Vec::as_slice).zip(&parsed).collect();
    executable.run_window(&mut together, &packets, 0, &mut verdicts, &mut |_, _| panic!("it generates nothing"));
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
            let either = |a, b| Cond::Or { a: Box::new(a), b: Box::new(b) };
            let cond = either(either(contains(0), contains(1)), either(contains(2), either(contains(3), contains(4))));
            let program = on_packets_from(set(&["0.0.0.0/0", "::/0"]), words, discard_if(cond));
            let executable = lowered(&program, &owner);
            let mut state = executable.state();
            let mut reference = Reference::new(&program, &owner, &Arc::new(policy(&owner, OWNS)));
            for (i, (frame, headers)) in parsed.iter().enumerate() {
                let expected = reference.run(&[(frame, headers)]).unwrap().discarded[0];
                let got = executable.run(&mut state, frame, headers, 0) != Verdict::Forward;
                assert_eq!(got, expected, "{}, packet {i} to {owner}", path.display());
                discarded += usize::from(got);
            }
            assert_eq!((state.counters().flows_evicted, state.counters().islands_evicted), (0, 0));
        }
    }
    assert!(captures().is_empty() || discarded > 500, "{discarded}");
}

#[test]
fn a_test_of_headers_is_a_plan_with_narrow_cells() {
    let owner = v4_owner();
    let dns = Test::Number { number: Number::DstPort, ranges: Ranges::new(vec![(53, 53), (5353, 5353)]).unwrap() };
    let body = vec![
        select(1, 0, Field::Dst, this_ip()),
        select(2, 1, Field::Src, set(&["192.0.2.0/24"])),
        Instr::Select { out: 3, arg: 2, test: dns },
        Instr::Discard { arg: 3 },
    ];
    let executable = lowered(&Program::new(60, 1, vec![], body).unwrap(), &owner);
    assert!(!executable.plan.is_tree() && !executable.is_verdict());
    let cells: Vec<_> = executable.cells().iter().map(|cell| (cell.src(), cell.action())).collect();
    assert_eq!(cells, [(prefix("192.0.2.0/24"), Action::Run)]);
    let mut state = executable.state();
    assert_eq!(state.memory_bytes(), 0);
    for (port, expected) in [(53, true), (5353, true), (54, false)] {
        assert_eq!(discards(&executable, &mut state, &datagram("10.0.0.5", port, b"x")), expected);
        assert!(!discards(&executable, &mut state, &datagram("10.0.0.6", port, b"x")), "another's");
    }
}

/// Discards the owner's packets where the first word is `least` times in their content at least.
pub(crate) fn spam_filter(window: u16, word: Word, least: i64) -> Program {
    let cond = Cond::AtMost { a: constant(least), b: int(2) };
    let count = Instr::Count { out: 2, arg: 1, word: 0 };
    on_own_packets(
        window,
        vec![word],
        vec![count, Instr::If { cond, then: vec![Instr::Discard { arg: 1 }], otherwise: vec![] }],
    )
}

#[test]
fn occurrences_are_counted_over_segments_and_once() {
    let executable = lowered(&spam_filter(1, Word { fold: true, bytes: b"spam".to_vec() }, 3), &v4_owner());
    let mut state = executable.state();
    let mut send = |port, seq, payload: &[u8]| discards(&executable, &mut state, &segment(port, seq, payload));
    assert!(!send(1, 100, b"Spam and sp"));
    assert!(!send(1, 100, b"Spam and sp"), "a retransmission is not counted again");
    assert!(!send(1, 111, b"AM"));
    assert!(!send(1, 200, b"pam"), "an island without its first letter");
    assert!(!send(2, 113, b"spam"), "another flow");
    assert!(send(1, 199, b"S"), "that joins it");
    assert!(send(1, 300, b""), "and stays");
    assert!(!send(2, 117, b"spam"));
    assert!(send(2, 121, b"spam"));
}

#[test]
fn a_window_has_each_flow_once_and_sees_all_of_it() {
    let filter = |least| lowered(&spam_filter(4, plain(b"ab"), least), &v4_owner());
    // Two flows with two and one, and a datagram with one; the first packet of a flow has none of it alone.
    let frames = [segment(1, 1, b"a"), segment(2, 1, b"ab"), segment(1, 2, b"bab"), datagram("10.0.0.5", 9, b"ab")];
    for (least, expected) in [(4, true), (5, false)] {
        let executable = filter(least);
        let (discarded, _) = run_all(&executable, &mut executable.state(), &frames);
        assert_eq!(discarded, [expected; 4], "{least}");
    }
    // More packets than a window has are several windows: the streams know the first of them.
    let executable = filter(5);
    let (discarded, _) =
        run_all(&executable, &mut executable.state(), &[&frames[..], &frames[3..], &frames[..1]].concat());
    assert_eq!(discarded, [false; 6], "three of the second window's flows");
}

/// GROUP_BY_CONTENT of the owner's packets, and both of what it gives generated.
fn deduplicator(dst: AddrTerm) -> Program {
    let subnet = AddrExpr { this_subnet: true, ..AddrExpr::default() };
    let body = vec![
        select(1, 0, Field::Dst, subnet),
        Instr::Content { dests: 2, contents: 3, arg: 1 },
        Instr::Discard { arg: 1 },
        Instr::Generate { src: AddrTerm::Const { addr: addr("192.0.2.1") }, dst: dst.clone(), data: 2 },
        Instr::Generate { src: AddrTerm::ThisIp, dst, data: 3 },
    ];
    Program::new(60, 0, vec![], body).unwrap()
}

#[test]
fn equal_contents_are_generated_once_with_their_destinations() {
    let owner = Principal::edge_router(addr("10.0.0.1"), 24).unwrap();
    let executable = lowered(&deduplicator(AddrTerm::ThisIp), &owner);
    assert!(executable.generates() && executable.window() == 256);
    let mut state = executable.state();
    let frames = [
        datagram("10.0.0.2", 9, b"film"),
        datagram("10.0.0.3", 9, b"news"),
        datagram("10.0.0.3", 9, b"film"),
        datagram("10.0.0.4", 8, b"film"),
        datagram("10.0.0.2", 9, b"film"),
    ];
    for batch in 0..2 {
        let (discarded, sent) = run_all(&executable, &mut state, &frames);
        assert_eq!(discarded, [true; 5]);
        let [dests, contents] = &sent[..] else { panic!("two GENERATEs: {sent:?}") };
        assert_eq!((dests.batch, dests.item, dests.kind), (batch, 0, Kind::Dests));
        assert_eq!((contents.batch, contents.item, contents.kind), (batch, 1, Kind::Contents));
        assert_eq!((dests.src, dests.dst), (addr("192.0.2.1"), addr("10.0.0.1")));
        let to = |hosts: &[&str]| hosts.iter().map(|host| addr(host)).collect::<Vec<_>>();
        let expected = vec![to(&["10.0.0.2", "10.0.0.3", "10.0.0.2"]), to(&["10.0.0.3"]), to(&["10.0.0.4"])];
        assert_eq!(read_dests(&dests.bytes), Ok(expected));
        let content = |port, payload| Content { protocol: 17, ports: Some((1, port)), whole: true, payload };
        let expected = vec![content(9, &b"film"[..]), content(9, b"news"), content(8, b"film")];
        assert_eq!(read_contents(&contents.bytes), Ok(expected));
    }
    // What `run` generates is not sent, and that is told.
    assert!(discards(&executable, &mut state, &frames[0]));
    assert_eq!(state.counters(), Counters { generates_unsent: 2, ..Counters::default() });
}

#[test]
fn nothing_is_generated_without_leave() {
    let owner = Principal::edge_router(addr("10.0.0.1"), 24).unwrap();
    let everything = policy(&owner, Test::True);
    let nothing = Policy { generate: Test::False, ..everything.clone() };
    let to_owner = Policy { generate: OWNS, ..everything.clone() };
    let own = deduplicator(AddrTerm::ThisIp);
    let another = deduplicator(AddrTerm::Const { addr: addr("192.0.2.9") });
    let cases = [
        (&own, nothing, false),
        (&another, to_owner.clone(), false),
        (&own, to_owner, true),
        (&another, everything, true),
    ];
    for (program, policy, allowed) in cases {
        let executable = mislowered(program, &owner, &Arc::new(policy), Lowering::Plan);
        let mut state = executable.state();
        let (discarded, sent) = run_all(&executable, &mut state, &[datagram("10.0.0.2", 9, b"film")]);
        assert_eq!((discarded, sent.len()), (vec![true], if allowed { 2 } else { 0 }));
        let refused = if allowed { 0 } else { 2 };
        assert_eq!(state.counters(), Counters { generates_refused: refused, ..Counters::default() });
    }
}

#[test]
fn nothing_is_discarded_without_leave() {
    let owner = v4_owner();
    let mail = Test::Number { number: Number::DstPort, ranges: Ranges::new(vec![(25, 25)]).unwrap() };
    let policy = Arc::new(Policy { discard: mail, ..policy(&owner, OWNS) });
    let program = on_packets_from(set(ANYONE), &[], Instr::Discard { arg: 2 });
    for way in [Lowering::Plan, Lowering::Tree] {
        let executable = mislowered(&program, &owner, &policy, way);
        assert!(!executable.is_verdict(), "the policy cannot be told of all packets of a cell");
        let mut state = executable.state();
        let frames = [segment(1, 1, b""), datagram("10.0.0.5", 26, b""), datagram("10.0.0.5", 25, b"")];
        let (discarded, _) = run_all(&executable, &mut state, &frames);
        assert_eq!(discarded, [true, false, true]);
        assert_eq!(state.counters(), Counters { discards_refused: 1, ..Counters::default() });
    }
}

#[test]
fn a_packet_is_not_looked_into_without_leave() {
    let owner = v4_owner();
    let mail = Test::Number { number: Number::DstPort, ranges: Ranges::new(vec![(25, 25)]).unwrap() };
    let to_mail = Policy { scan: mail, ..policy(&owner, OWNS) };
    let nothing = Policy { scan: Test::False, ..policy(&owner, OWNS) };
    let search = on_packets_from(set(ANYONE), &[b"spam"], discard_if(contains(0)));
    let frames = [segment(1, 1, b"spam"), datagram("10.0.0.5", 25, b"spam"), datagram("10.0.0.5", 26, b"spam")];
    let cases = [(to_mail, [true, true, false], 1), (nothing, [false; 3], 3)];
    for (policy, expected, refused) in cases.map(|(policy, expected, refused)| (Arc::new(policy), expected, refused)) {
        let counting = spam_filter(1, plain(b"spam"), 1);
        let cases = [(&search, Lowering::Plan), (&search, Lowering::Tree), (&counting, Lowering::Tree)];
        for (program, way) in cases {
            let executable = mislowered(program, &owner, &policy, way);
            let mut state = executable.state();
            let (discarded, _) = run_all(&executable, &mut state, &frames);
            assert_eq!(discarded, expected, "{program:?}");
            assert_eq!(state.counters().scans_refused, refused);
        }
        // Together they have what the permitted ones of them have.
        let executable = mislowered(&spam_filter(3, plain(b"spam"), 3), &owner, &policy, Lowering::Tree);
        let (discarded, _) = run_all(&executable, &mut executable.state(), &frames);
        assert_eq!(discarded, [false; 3]);
    }
    let owner = Principal::edge_router(addr("10.0.0.1"), 24).unwrap();
    let blind = Arc::new(Policy { scan: Test::False, ..policy(&owner, Test::True) });
    let executable = mislowered(&deduplicator(AddrTerm::ThisIp), &owner, &blind, Lowering::Tree);
    let mut state = executable.state();
    let (_, sent) = run_all(&executable, &mut state, &frames);
    assert!(sent.len() == 2 && sent.iter().all(|sent| sent.bytes.is_empty()), "nothing of any packet is told");
    assert_eq!(state.counters().scans_refused, 3);
}

#[test]
fn a_run_that_ends_early_leaves_what_it_did_done() {
    let size = Instr::Size { out: 2, arg: 1 };
    let endless = Instr::While { cond: Cond::AtMost { a: constant(0), b: int(2) }, max: 5, body: vec![] };
    let overflow = Instr::Let { out: 2, expr: Expr::Add { a: Box::new(constant(i64::MAX)), b: Box::new(int(2)) } };
    let beyond = Instr::Offset { out: 3, base: AddrTerm::Const { addr: addr("255.255.255.255") }, by: int(2) };
    for (window, frames) in [(1, 1), (2, 2)] {
        for (last, exhausted) in [(&endless, true), (&overflow, false), (&beyond, false)] {
            let before = on_own_packets(window, vec![], vec![size.clone(), Instr::Discard { arg: 1 }, last.clone()]);
            let after = on_own_packets(window, vec![], vec![size.clone(), last.clone(), Instr::Discard { arg: 1 }]);
            for (program, expected) in [(before, true), (after, false)] {
                let executable = lowered(&program, &v4_owner());
                let mut state = executable.state();
                let (discarded, _) = run_all(&executable, &mut state, &vec![segment(1, 1, b""); frames]);
                assert_eq!(discarded, vec![expected; frames], "{program:?}");
                let counters = state.counters();
                let ended = (counters.runs_exhausted, counters.runs_overflowed);
                assert_eq!(ended, if exhausted { (1, 0) } else { (0, 1) });
            }
        }
    }
}
