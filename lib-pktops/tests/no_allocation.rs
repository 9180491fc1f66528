//! While packets are run nothing is allocated: all memory of a program is there when it is installed. And a further owner
//! of a program that is installed costs little.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use vinet_pktops::datagram::Sender;
use vinet_pktops::parse::headers;
use vinet_pktops::{Executable, Lowerings, Verdict};
use vinet_trusted::addr::{Addr, AddrExpr, Principal};
use vinet_trusted::check::{Checked, check};
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::policy::{Costs, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrTerm, Cond, Expr, Instr, Program, Word};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Counts the allocations of each thread, and the bytes that it has.
struct Counting;

// SAFETY: every call goes on to the system's allocator unchanged; the counters are plain cells of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE_BYTES.set(LIVE_BYTES.get() + layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.set(LIVE_BYTES.get() - layout.size() as i64);
        // SAFETY: the pointer came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const OWNER: Addr = Addr::V4(0x0a00_0005);

/// What the checker makes of a program of the owner.
fn accepted(program: &Program) -> Arc<Checked> {
    accepted_of(program, Principal::EndUser(OWNER), &policy())
}

fn accepted_of(program: &Program, owner: Principal, policy: &Arc<Policy>) -> Arc<Checked> {
    let lemmas = vinet_prover::library();
    let proof = vinet_prover::prove(program, &owner, policy, &lemmas, &[]).expect("a proof");
    Arc::new(check(&program.encode(), &proof, owner, policy, &lemmas).expect("what is proven checks"))
}

fn policy() -> Arc<Policy> {
    let owns = Test::Owns { field: Field::Dst };
    Arc::new(Policy {
        name: "test".into(),
        principals: PrincipalKind::EndUser,
        discard: owns.clone(),
        group: owns.clone(),
        scan: owns.clone(),
        generate: owns,
        costs: Costs {
            program: 1,
            select: 1,
            select_many: 1,
            partition: 1,
            foreach: 1,
            test: 1,
            set: 1,
            arithmetic: 1,
            turn: 1,
            discard: 1,
            contains: 1,
            contains_per_64_bytes: 1,
            stream: 1,
            content: 1,
            content_per_64_bytes: 1,
            generate: 1,
            generate_per_64_bytes: 1,
        },
        limits: Limits {
            program_bytes_max: 1 << 16,
            proof_bytes_max: 1 << 16,
            lifetime_max_s: 3600,
            complexity_max: 1 << 40,
            cost_max: 1 << 60,
            packet_bytes_max: 1500,
            window_packets_max: 256,
            window_us_max: 200,
            generate_port: 4789,
            generate_rate_max: 1,
            stream_flows_max: 32,
            stream_islands_max: 4,
            packet_rate_default: 1,
            packet_rate_max: 1,
            over_budget: OverBudget::Forward,
        },
    })
}

fn own_packets() -> Instr {
    let addrs = AddrExpr { this_ip: true, ..AddrExpr::default() };
    Instr::Select { out: 1, arg: 0, test: Test::In { field: Field::Dst, addrs } }
}

fn words(words: [&str; 2]) -> Vec<Word> {
    words.map(|word| Word { fold: word.starts_with('n'), bytes: word.into() }).to_vec()
}

/// What runs as a plan.
fn filter() -> Program {
    let contains = |word| Box::new(Cond::Contains { arg: 1, word });
    let body = vec![
        own_packets(),
        Instr::If {
            cond: Cond::And { a: contains(0), b: Box::new(Cond::Not { cond: contains(1) }) },
            then: vec![Instr::Discard { arg: 1 }],
            otherwise: vec![],
        },
    ];
    Program::new(60, 1, words(["needle", "a friend"]), body).unwrap()
}

/// Many words, of which one is in the packets.
fn many_words() -> Program {
    let word = |i: u32| Word { fold: i.is_multiple_of(2), bytes: format!("rare{i}").into_bytes() };
    let words = (0..9).map(word).chain([Word { fold: true, bytes: b"needle".to_vec() }]).collect();
    let contains = |word| Cond::Contains { arg: 1, word };
    let any = (1..10).fold(contains(0), |a, word| Cond::Or { a: Box::new(a), b: Box::new(contains(word)) });
    let found = Instr::If { cond: any, then: vec![Instr::Discard { arg: 1 }], otherwise: vec![] };
    Program::new(60, 1, words, vec![own_packets(), found]).unwrap()
}

/// Every routine, on windows of `window` packets.
fn everything(window: u16) -> Program {
    let int = |slot| Box::new(Expr::Slot { slot });
    let one = Box::new(Expr::Const { value: 1 });
    let push = Test::Number { number: Number::Psh, ranges: Ranges::new(vec![(0, 0)]).unwrap() };
    let count_up = Instr::Let { out: 8, expr: Expr::Add { a: int(8), b: one } };
    let body = vec![
        own_packets(),
        Instr::Select { out: 2, arg: 1, test: push },
        Instr::Content { dests: 3, contents: 4, arg: 2 },
        Instr::Partition { out: 5, arg: 2, field: Field::Src },
        Instr::Foreach {
            groups: 5,
            packets: 6,
            key: 7,
            body: vec![
                Instr::Count { out: 8, arg: 6, word: 0 },
                Instr::Size { out: 9, arg: 6 },
                Instr::Offset { out: 10, base: AddrTerm::Slot { slot: 7 }, by: Expr::Slot { slot: 9 } },
                Instr::While {
                    cond: Cond::AtMost { a: Expr::Slot { slot: 8 }, b: Expr::Const { value: 3 } },
                    max: 4,
                    body: vec![count_up],
                },
                Instr::If {
                    cond: Cond::Contains { arg: 6, word: 1 },
                    then: vec![Instr::Union { out: 11, a: 6, b: 2 }, Instr::Minus { out: 11, a: 11, b: 6 }],
                    otherwise: vec![Instr::Discard { arg: 6 }],
                },
            ],
        },
        Instr::Partition { out: 12, arg: 1, field: Field::Dst },
        Instr::Foreach { groups: 12, packets: 13, key: 14, body: vec![Instr::Size { out: 15, arg: 13 }] },
        Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::ThisIp, data: 3 },
        Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::ThisIp, data: 4 },
    ];
    Program::new(60, window, words(["needle", "a friend"]), body).unwrap()
}

/// An IPv4 frame with a TCP segment.
fn segment(src: u32, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((40 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(src.to_be_bytes());
    let Addr::V4(dst) = OWNER else { unreachable!("the owner is an IPv4 address") };
    frame.extend(dst.to_be_bytes());
    let sum = vinet_pktops::checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0, 7, 0, 25]);
    frame.extend(seq.to_be_bytes());
    frame.extend([0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

#[test]
fn running_packets_allocates_nothing() {
    // More flows and more islands than there is room for, in and out of order, with and without the words.
    let frames: Vec<Vec<u8>> = (0..4000u32)
        .map(|i| {
            segment(
                0xc000_0200 + i / 100,
                (i * 7919) % 3000,
                [&b"some NEEDLE, needle or a friend "[..], b"some needle", b"no"][i as usize / 100 % 3],
            )
        })
        .collect();
    let parsed: Vec<_> = frames.iter().map(|frame| headers(frame).unwrap()).collect();
    let packets: Vec<_> = frames.iter().map(Vec::as_slice).zip(&parsed).collect();
    let sender = Sender { program: [1; 32], key: [2; 32], port: 4789, first_batch: 0, mtu: 1500 };
    for program in [filter(), many_words(), everything(1), everything(2), everything(32), everything(0)] {
        let executable = Executable::lower(accepted(&program)).unwrap();
        let mut state = executable.state();
        let mut verdicts = Vec::with_capacity(frames.len());
        let (mut sent, mut sent_bytes) = (0, 0);
        let before = ALLOCATIONS.get();
        executable.run_window(&mut state, &packets, 0, &mut verdicts, &mut |_leave, generated| {
            sent += sender.send(&generated, &mut |packet| sent_bytes += packet.len()).map_or(0, u64::from);
        });
        let by_run = frames.iter().zip(&parsed).filter(|(frame, headers)| match executable.window() {
            1 => executable.run(&mut state, frame, headers, 0) != Verdict::Forward,
            _ => false,
        });
        let by_run = by_run.count();
        assert_eq!(ALLOCATIONS.get() - before, 0, "{program:?}");
        let discarded = verdicts.iter().filter(|v| **v != Verdict::Forward).count();
        assert!(discarded > 500 && discarded < frames.len(), "{discarded} of {program:?}");
        assert!(by_run > 500 || executable.window() != 1);
        assert!(sent_bytes > 4000 && sent > 16 || !executable.generates(), "{sent} packets, {sent_bytes} bytes");
        let counters = state.counters();
        assert!(counters.flows_evicted > 0 && counters.islands_evicted > 0, "{counters:?}");
        assert!(state.memory_bytes() <= executable.checked().state_bytes());
    }
    let before = ALLOCATIONS.get();
    let boxed = Box::new(1);
    assert!(ALLOCATIONS.get() > before, "the counter counts: {boxed}");
}

#[test]
fn a_further_owner_of_a_program_costs_little() {
    const OWNERS: u32 = 100;
    let policy = policy();
    for program in [filter(), many_words(), everything(1)] {
        let checked: Vec<Arc<Checked>> = (0..OWNERS)
            .map(|i| accepted_of(&program, Principal::EndUser(Addr::V4(0x0a01_0000 + i)), &policy))
            .collect();
        let lowerings = Lowerings::default();
        let mut executables = Vec::with_capacity(checked.len());
        let start = LIVE_BYTES.get();
        executables.push(lowerings.lower(Arc::clone(&checked[0])).unwrap());
        let first = LIVE_BYTES.get() - start;
        executables.extend(checked[1..].iter().map(|checked| lowerings.lower(Arc::clone(checked)).unwrap()));
        let further = (LIVE_BYTES.get() - start - first) / i64::from(OWNERS - 1);
        println!("the first owner {first} B, each further one {further} B beside {} B", size_of::<Executable>());
        assert!(executables.iter().all(|executable| executable.shares(&executables[0])));
        assert!(further < 1024 && first > 2 * further, "{first} and {further}");
        // What an executable says of itself is what the allocator gave it, the executable itself aside.
        let said = executables[1].own_bytes() - size_of::<Executable>();
        assert!(said.abs_diff(further as usize) < 100, "{said} and {further}");
        drop(executables);
        assert!(lowerings.is_empty());
    }
}
