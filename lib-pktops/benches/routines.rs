//! What the routines cost, one by one, and the `[costs]` of a policy that follows from it: the 99th percentile of the
//! worst case tried, in cycles, half as much again, rounded up.
//!
//! `cargo bench -p vinet-pktops --bench routines`, on a machine that does nothing else. A sample is the mean of one
//! batch of 256 packets, because a clock read costs as much as a routine. What a step costs is the difference between
//! programs that have it often and programs that have it once, run as they are written, on windows of 1, 64 and 256
//! packets, the worst of them: no lowering exceeds that. A step that is paid for once in a run, and not for each
//! packet, is measured for each run.

use hdrhistogram::Histogram;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use vinet_pktops::Executable;
use vinet_pktops::contains_string::{WordMask, Words};
use vinet_pktops::datagram::Sender;
use vinet_pktops::parse::{Headers, Transport, headers, transport};
use vinet_pktops::stream::{FlowKey, Streams};
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, PrefixSet, Principal};
use vinet_trusted::check::check;
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::policy::{Costs, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrTerm, Cond, Expr, Instr, PREFIXES_MAX, Program, Slot, Word};

const BATCH: usize = 256;
const SAMPLES: usize = 2000;
/// How often a step stands in a program whose price is measured.
const REPEATS: usize = 24;
const WINDOWS: [u16; 3] = [1, 64, 256];
const OWNER: Addr = Addr::V4(0x0a00_0005);
const LONGEST_PAYLOAD: usize = 1448;

/// The 99th percentile of the mean over a batch, in nanoseconds.
fn p99_ns(mut batch: impl FnMut()) -> f64 {
    // Picoseconds, so that small means are not rounded away.
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 1 << 40, 3).expect("sound bounds");
    for round in 0..SAMPLES + SAMPLES / 10 {
        let start = Instant::now();
        batch();
        let elapsed_ns = start.elapsed().as_nanos() as u64;
        if round >= SAMPLES / 10 {
            histogram.saturating_record(elapsed_ns * 1000 / BATCH as u64);
        }
    }
    histogram.value_at_quantile(0.99) as f64 / 1000.0
}

fn segment(flow: u32, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((40 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend((0xc000_0000 + flow).to_be_bytes());
    frame.extend(0x0a00_0005_u32.to_be_bytes());
    let sum = vinet_pktops::checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0, 7, 0, 25]);
    frame.extend(seq.to_be_bytes());
    frame.extend([0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

fn policy() -> Arc<Policy> {
    let costs = Costs {
        program: 0,
        select: 0,
        select_many: 0,
        partition: 0,
        foreach: 0,
        test: 0,
        set: 0,
        arithmetic: 0,
        turn: 0,
        discard: 0,
        contains: 0,
        contains_per_64_bytes: 0,
        stream: 0,
        content: 0,
        content_per_64_bytes: 0,
        generate: 0,
        generate_per_64_bytes: 0,
    };
    let limits = Limits {
        program_bytes_max: 1 << 18,
        proof_bytes_max: 1 << 18,
        lifetime_max_s: 3600,
        complexity_max: 1,
        cost_max: 3600,
        packet_bytes_max: 1500,
        window_packets_max: 256,
        window_us_max: 200,
        generate_port: 4789,
        generate_rate_max: 1,
        stream_flows_max: 65_536,
        stream_islands_max: 8,
        packet_rate_default: 1,
        packet_rate_max: 1,
        over_budget: OverBudget::Forward,
    };
    let owns = Test::Owns { field: Field::Dst };
    Arc::new(Policy {
        name: "bench".into(),
        principals: PrincipalKind::EndUser,
        discard: owns.clone(),
        group: owns.clone(),
        scan: owns.clone(),
        generate: owns,
        costs,
        limits,
    })
}

/// The slots of [`unfolded`] and the first free one.
const OWN: Slot = 1;
const NOBODY: Slot = 2;
const GROUPS: Slot = 3;
const NUMBER: Slot = 4;
const FREE: Slot = 5;

/// An executable for the owner's packets that runs as it is written: its integer keeps it from being folded.
fn unfolded(window: u16, words: &[Word], steps: &[Instr]) -> Executable {
    let mut body = vec![
        select(OWN, 0, Field::Dst, AddrExpr { this_ip: true, ..AddrExpr::default() }),
        // Nobody of the benchmark's sources.
        select(NOBODY, OWN, Field::Src, of(&[Prefix::host(Addr::V4(7))])),
        Instr::Partition { out: GROUPS, arg: OWN, field: Field::Src },
        Instr::Let { out: NUMBER, expr: Expr::Const { value: 0 } },
    ];
    body.extend_from_slice(steps);
    lowered(window, words, body)
}

fn lowered(window: u16, words: &[Word], body: Vec<Instr>) -> Executable {
    let program = Program::new(60, window, words.to_vec(), body).expect("a program");
    let (owner, policy) = (Principal::EndUser(OWNER), policy());
    let lemmas = vinet_prover::library();
    let proof = vinet_prover::prove(&program, &owner, &policy, &lemmas, &[]).expect("a proof");
    let checked = check(&program.encode(), &proof, owner, &policy, &lemmas).expect("accepted");
    Executable::lower(Arc::new(checked)).expect("lowered")
}

fn select(out: Slot, arg: Slot, field: Field, addrs: AddrExpr) -> Instr {
    Instr::Select { out, arg, test: Test::In { field, addrs } }
}

fn of(prefixes: &[Prefix]) -> AddrExpr {
    AddrExpr { prefixes: PrefixSet::new(prefixes.to_vec()), ..AddrExpr::default() }
}

/// Packets of many sources, parsed, with their number at the start of each payload.
fn packets(len: usize, distinct: bool) -> Vec<(Vec<u8>, Headers)> {
    let payload = |i: u32| {
        let number = if distinct { i.to_be_bytes() } else { [0; 4] };
        number.into_iter().chain(std::iter::repeat(b'.')).take(len).collect::<Vec<u8>>()
    };
    let frames = (0..BATCH as u32).map(|i| segment(i.wrapping_mul(0x9e37_79b1) >> 8, 1, &payload(i)));
    frames.map(|frame| (headers(&frame).expect("a sound packet"), frame)).map(|(h, frame)| (frame, h)).collect()
}

/// What a packet costs. What is generated is sent, into nothing.
fn run(executable: &Executable, packets: &[(Vec<u8>, Headers)]) -> f64 {
    let mut state = executable.state();
    let packets: Vec<(&[u8], &Headers)> = packets.iter().map(|(frame, headers)| (&frame[..], headers)).collect();
    let mut verdicts = Vec::with_capacity(packets.len());
    let sender = Sender { program: [1; 32], key: [2; 32], port: 4789, first_batch: 0, mtu: 1500 };
    p99_ns(|| {
        verdicts.clear();
        executable.run_window(&mut state, black_box(&packets), 0, &mut verdicts, &mut |_leave, generated| {
            let sent = sender.send(&generated, &mut |packet| {
                black_box(packet);
            });
            sent.expect("it can be sent");
        });
        black_box(&verdicts);
    })
}

/// What `many` costs more than `few`, per packet, in the worst of the windows.
fn more_ns(packets: &[(Vec<u8>, Headers)], words: &[Word], few: &[Instr], many: &[Instr]) -> f64 {
    let ns = WINDOWS
        .map(|window| run(&unfolded(window, words, many), packets) - run(&unfolded(window, words, few), packets));
    ns.into_iter().fold(0.0, f64::max)
}

/// What one of the steps costs that is paid for each packet: many of them against none.
fn step_ns(packets: &[(Vec<u8>, Headers)], step: &Instr, repeats: usize) -> f64 {
    more_ns(packets, &[], &[], &vec![step.clone(); repeats]) / repeats as f64
}

/// What one of the steps costs that is paid for once in a run.
fn once_ns(packets: &[(Vec<u8>, Headers)], step: &[Instr]) -> f64 {
    let many: Vec<Instr> = step.iter().cycle().take(step.len() * REPEATS).cloned().collect();
    let of_window =
        |window: u16| run(&unfolded(window, &[], &many), packets) - run(&unfolded(window, &[], &[]), packets);
    let ns = WINDOWS.map(|window| of_window(window) * f64::from(window) / REPEATS as f64);
    ns.into_iter().fold(0.0, f64::max)
}

/// Payloads that are hard for a search in different ways: noise, nearly the word everywhere, its letters everywhere.
fn hard_payloads(word: &[u8], len: usize) -> [Vec<u8>; 3] {
    let mut noise = 1u64;
    let mut next = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (noise >> 56) as u8
    };
    let random = (0..len).map(|_| next()).collect();
    let mut nearly = word.to_vec();
    let last = nearly.len() - 1;
    nearly[last] ^= 1;
    let repeat = |piece: &[u8]| piece.iter().copied().cycle().take(len).collect();
    [random, repeat(&nearly), repeat(&word[..1])]
}

/// A way to look into a payload.
type Search<'a> = &'a dyn Fn(&[u8]) -> u64;

/// The worst of a fixed cost and a cost for 64 bytes, of one search.
fn contains_ns() -> (f64, f64) {
    let (mut fixed, mut per_block) = (0f64, 0f64);
    for word in [&b"x"[..], b"ab", b"viagra", b"aaaaaaab", b"Content-Type: text/html; charset=us-ascii; format=flowed"]
    {
        let searched = Words::new(&[Word { fold: false, bytes: word.to_vec() }], 0);
        let folded = Words::new(&[Word { fold: true, bytes: word.to_ascii_lowercase() }], 1);
        let searches: [(&str, Search<'_>); 3] = [
            ("search", &|payload| searched.search(payload, 1)),
            ("search in any case", &|payload| folded.search(payload, 1)),
            ("count", &|payload| u64::from(folded.count(payload, 0))),
        ];
        for (name, search) in searches {
            let timed = |payload: &[u8]| {
                p99_ns(|| {
                    for _ in 0..BATCH {
                        black_box(search(black_box(payload)));
                    }
                })
            };
            let (mut worst_fixed, mut worst_block) = (0f64, 0f64);
            for payload in hard_payloads(word, LONGEST_PAYLOAD) {
                let (short, long) = (timed(&payload[..64]), timed(&payload));
                worst_fixed = worst_fixed.max(short);
                worst_block = worst_block.max((long - short) / ((LONGEST_PAYLOAD - 64) as f64 / 64.0));
            }
            eprintln!("{name}, {} bytes: {worst_fixed:.1} ns, {worst_block:.2} ns for 64 bytes", word.len());
            fixed = fixed.max(worst_fixed);
            per_block = per_block.max(worst_block);
        }
    }
    (fixed, per_block)
}

/// The upkeep of streams without the search of the new bytes: the worst of segments in order, of segments that come
/// out of order with all islands in use, and of one new flow after the other.
fn stream_ns() -> f64 {
    // The longest word a program may have, so that the ends of islands are as long as they get.
    let words = Words::new(&[Word { fold: false, bytes: vec![0xff; 64] }], 1);
    let mut worst = 0f64;
    let traffic = [(1000u32, 8u32), (1000, 1_000), (1_000_000, 8)];
    for ((flows, stride), counted) in traffic.into_iter().flat_map(|traffic| [(traffic, 0), (traffic, 1 as WordMask)]) {
        let mut streams = Streams::new(65_536, 8, 64, counted);
        let mut packet = 0u32;
        let payload = [b'.'; 8];
        let frame = segment(0, 1, &payload);
        let parsed = headers(&frame).expect("a sound packet");
        let Transport::Tcp(mut tcp) = transport(&frame, &parsed) else { panic!("it is TCP") };
        let ns = p99_ns(|| {
            for _ in 0..BATCH {
                let (flow, turn) = (packet % flows, packet / flows);
                tcp.seq = if stride == 8 { turn * 8 } else { turn.wrapping_mul(0x9e37_79b1) % (stride * 1000) };
                let key = FlowKey::new(Addr::V4(flow), OWNER, 7, 25);
                black_box(streams.observe(&words, 1, key, &tcp, &payload));
                packet = packet.wrapping_add(1);
            }
        });
        eprintln!("stream, {flows} flows, stride {stride}, {counted} words counted: {ns:.1} ns");
        worst = worst.max(ns);
    }
    worst
}

/// The clock of the processor, as the kernel tells it.
fn mhz() -> f64 {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("cpu MHz"));
    line.and_then(|line| line.split(':').nth(1)).and_then(|mhz| mhz.trim().parse().ok()).unwrap_or(3000.0)
}

/// What joining the packets of a flow in a window costs each: the same program on windows of many and of one.
fn join_ns(packets: &[(Vec<u8>, Headers)]) -> f64 {
    let word = Word { fold: false, bytes: vec![0xff; 64] };
    let cond = Cond::Contains { arg: NOBODY, word: 0 };
    let asked = [Instr::If { cond, then: vec![], otherwise: vec![] }];
    let ns = WINDOWS.map(|window| {
        let without = run(&unfolded(window, &[], &[]), packets);
        run(&unfolded(window, std::slice::from_ref(&word), &asked), packets) - without
    });
    (ns[1].max(ns[2]) - ns[0]).max(0.0)
}

fn main() {
    let mhz = mhz();
    let empty = packets(0, false);
    let base_ns = WINDOWS.map(|window| {
        let entered = vec![Instr::Let { out: 1, expr: Expr::Const { value: 0 } }];
        let ns = run(&lowered(window, &[], entered), &empty);
        eprintln!("windows of {window}: {ns:.1} ns");
        ns
    });
    let base_ns = base_ns.into_iter().fold(0.0, f64::max);
    let many: Vec<Prefix> =
        (0..PREFIXES_MAX as u32 / 2).filter_map(|i| Prefix::of(Addr::V4(0xc000_0000 + i * 1024), 24)).collect();
    let one = || of(&[Prefix::host(Addr::V4(0xc000_0001))]);
    let select_ns = step_ns(&empty, &select(FREE, OWN, Field::Src, one()), REPEATS);
    let select_many_ns = (step_ns(&empty, &select(FREE, OWN, Field::Src, of(&many)), 2) - select_ns).max(0.0);
    let ranges = Ranges::new((0..256).map(|i| (i * 4, i * 4)).collect()).expect("ranges");
    let number = Instr::Select { out: FREE, arg: OWN, test: Test::Number { number: Number::SrcPort, ranges } };
    let number_many_ns = (step_ns(&empty, &number, REPEATS) - select_ns).max(0.0);
    let not = |a| Test::Not { a: Box::new(a) };
    let deep = Instr::Select { out: FREE, arg: OWN, test: not(not(Test::In { field: Field::Src, addrs: one() })) };
    let deep_ns = (step_ns(&empty, &deep, REPEATS) - select_ns).max(0.0) / 2.0;

    let foreach = |i: Slot, body| Instr::Foreach { groups: GROUPS, packets: FREE + 2 * i, key: FREE + 2 * i + 1, body };
    let loops: Vec<Instr> = (0..REPEATS as Slot).map(|i| foreach(i, vec![])).collect();
    // The groups are found by the first that goes through them.
    let foreach_ns = more_ns(&empty, &[], &loops[..1], &loops) / (REPEATS - 1) as f64;
    let first_ns = more_ns(&empty, &[], &[], &loops[..1]);
    let partition_ns = step_ns(&empty, &Instr::Partition { out: GROUPS, arg: OWN, field: Field::Src }, REPEATS);
    let partition_ns = partition_ns.max(first_ns - foreach_ns);
    let check = |cond: Cond| Instr::If {
        cond: Cond::Not { cond: Box::new(Cond::Not { cond: Box::new(cond) }) },
        then: vec![],
        otherwise: vec![],
    };
    let key_checks = foreach(0, vec![check(Cond::AddrIn { addr: FREE + 1, addrs: one() }); REPEATS]);
    let key_check_ns = more_ns(&empty, &[], &loops[..1], &[key_checks]) / (3 * REPEATS) as f64;
    let set_check_ns = once_ns(&empty, &[check(Cond::Empty { arg: NOBODY })]) / 3.0;

    let set_ns = [
        Instr::Union { out: FREE, a: OWN, b: NOBODY },
        Instr::Minus { out: FREE, a: OWN, b: NOBODY },
        Instr::Size { out: NUMBER, arg: OWN },
    ]
    .map(|step| step_ns(&empty, &step, REPEATS))
    .into_iter()
    .fold(0.0, f64::max);
    let constant = |value| Box::new(Expr::Const { value });
    let slot = || Box::new(Expr::Slot { slot: NUMBER });
    let let_ns = once_ns(&empty, &[Instr::Let { out: NUMBER, expr: Expr::Const { value: 3 } }]);
    let sum = Expr::Add { a: Box::new(Expr::Mul { a: slot(), b: constant(1) }), b: constant(1) };
    let sum_ns = once_ns(&empty, &[Instr::Let { out: NUMBER, expr: sum }]) / 5.0;
    let offset = Instr::Offset { out: FREE, base: AddrTerm::Const { addr: OWNER }, by: Expr::Const { value: 1 } };
    let offset_ns = once_ns(&empty, &[offset]) / 2.0;
    // With the condition and the counting, which are paid for too.
    let turns = Instr::While {
        cond: Cond::AtMost { a: Expr::Slot { slot: NUMBER }, b: Expr::Const { value: REPEATS as i64 } },
        max: 100,
        body: vec![Instr::Let { out: NUMBER, expr: Expr::Add { a: slot(), b: constant(1) } }],
    };
    let zero = Instr::Let { out: NUMBER, expr: Expr::Const { value: 0 } };
    let turn_ns = once_ns(&empty, &[zero, turns]) / REPEATS as f64;

    // Leave to discard is asked for once, whatever the program does.
    let discard = Instr::Discard { arg: OWN };
    let discard_ns = step_ns(&empty, &discard, REPEATS).max(step_ns(&empty, &discard, 1));
    let (contains_fixed_ns, contains_block_ns) = contains_ns();
    let stream_ns = stream_ns() + join_ns(&empty);

    // Equal contents are compared byte by byte, others only hashed.
    let blocks = (LONGEST_PAYLOAD - 64) as f64 / 64.0;
    let content = [Instr::Content { dests: FREE, contents: FREE + 1, arg: OWN }];
    let (mut content_ns, mut content_block_ns, mut generate_ns, mut generate_block_ns) = (0f64, 0f64, 0f64, 0f64);
    for distinct in [false, true] {
        let (short, long) = (packets(64, distinct), packets(LONGEST_PAYLOAD, distinct));
        let (fixed_ns, long_ns) = (more_ns(&short, &[], &[], &content), more_ns(&long, &[], &[], &content));
        content_ns = content_ns.max(fixed_ns);
        content_block_ns = content_block_ns.max((long_ns - fixed_ns) / blocks);
        for data in [FREE, FREE + 1] {
            let this_ip = AddrTerm::ThisIp;
            let generate = Instr::Generate { src: this_ip.clone(), dst: this_ip, data };
            let sent = [&content[..], &vec![generate; 4]].concat();
            let sent_ns = |packets| more_ns(packets, &[], &content, &sent) / 4.0;
            let (fixed_ns, long_ns) = (sent_ns(&short), sent_ns(&long));
            generate_ns = generate_ns.max(fixed_ns);
            generate_block_ns = generate_block_ns.max((long_ns - fixed_ns) / blocks);
        }
    }

    println!(
        "# Measured by `cargo bench -p vinet-pktops --bench routines` at {mhz:.0} MHz: the 99th percentile of the"
    );
    println!("# worst case tried, in cycles, half as much again. The nanoseconds are what was measured.");
    println!("[costs]");
    let lines = [
        ("program", base_ns),
        ("select", select_ns),
        ("select_many", select_many_ns.max(number_many_ns)),
        ("partition", partition_ns),
        ("foreach", foreach_ns),
        ("test", key_check_ns.max(set_check_ns).max(deep_ns)),
        ("set", set_ns),
        ("arithmetic", let_ns.max(sum_ns).max(offset_ns)),
        ("turn", turn_ns),
        ("discard", discard_ns),
        ("contains", contains_fixed_ns),
        ("contains_per_64_bytes", contains_block_ns),
        ("stream", stream_ns),
        ("content", content_ns),
        ("content_per_64_bytes", content_block_ns),
        ("generate", generate_ns),
        ("generate_per_64_bytes", generate_block_ns),
    ];
    for (key, ns) in lines {
        let cycles = (ns * mhz / 1000.0 * 1.5).ceil().max(1.0);
        println!("{:<30} # {ns:.2} ns", format!("{key} = {cycles:.0}"));
    }
}
