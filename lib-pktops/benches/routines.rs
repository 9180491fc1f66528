//! What the routines cost, one by one, and the `[costs]` of a policy that follows from it: the 99th percentile of the
//! worst case tried, in cycles, half as much again, rounded up.
//!
//! `cargo bench -p vinet-pktops --bench routines`, on a machine that does nothing else. A sample is the mean of one
//! batch of 64 packets, because a clock read costs as much as a routine. What a step costs is the difference between
//! programs that have it often and programs that have it once, and these programs are kept from becoming table
//! verdicts and from being folded: the price is that of the slow way, which no lowering exceeds.

use hdrhistogram::Histogram;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use vinet_pktops::contains_string::Words;
use vinet_pktops::parse::{Headers, Transport, headers, transport};
use vinet_pktops::stream::{FlowKey, Streams};
use vinet_pktops::{Executable, State};
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Principal};
use vinet_trusted::check::check;
use vinet_trusted::policy::{Costs, Formula, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrExpr, Cond, Field, Instr, PREFIXES_MAX, Program, Slot};

const BATCH: usize = 64;
const SAMPLES: usize = 4000;
/// How often a step stands in a program whose price is measured.
const REPEATS: usize = 24;
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
        discard: 0,
        contains: 0,
        contains_per_64_bytes: 0,
        stream: 0,
    };
    let limits = Limits {
        program_bytes_max: 1 << 18,
        proof_bytes_max: 1 << 18,
        lifetime_max_s: 3600,
        complexity_max: 1,
        cost_max: 3600,
        packet_bytes_max: 1500,
        stream_flows_max: 65_536,
        stream_islands_max: 8,
        packet_rate_default: 1,
        packet_rate_max: 1,
        over_budget: OverBudget::Forward,
    };
    let owns = Formula::Owns(Field::Dst);
    Arc::new(Policy {
        name: "bench".into(),
        principals: PrincipalKind::EndUser,
        discard: owns.clone(),
        group: owns.clone(),
        scan: owns,
        costs,
        limits,
    })
}

/// An executable for the owner's packets whose steps cannot be folded away: it tells 8,192 classes of sources apart, too
/// many for a table of decisions, so it runs as it is written. What tells them apart is in a loop over no groups, and
/// costs nothing.
fn unfolded(steps: &[Instr]) -> Executable {
    let hosts_with_bit = |bit: u32| -> AddrExpr {
        let hosts = (0..1u32 << 13).filter(|host| host >> bit & 1 != 0);
        of(&hosts.map(|host| Prefix::host(Addr::V4(0x0b00_0000 + host))).collect::<Vec<_>>())
    };
    let never = (0..13).map(|bit| Instr::Select { out: 7, arg: 2, field: Field::Src, addrs: hosts_with_bit(bit) });
    let mut body = vec![
        Instr::Select { out: 1, arg: 0, field: Field::Dst, addrs: this_ip() },
        // Nobody of the benchmark's sources.
        Instr::Select { out: 2, arg: 1, field: Field::Src, addrs: of(&[Prefix::host(Addr::V4(7))]) },
        Instr::Partition { out: 3, arg: 2, field: Field::Src },
        Instr::Partition { out: 4, arg: 1, field: Field::Src },
        Instr::Foreach { groups: 3, packets: 5, key: 6, body: never.collect() },
    ];
    body.extend_from_slice(steps);
    lowered(Program::new(60, vec![], body).expect("a program"))
}

fn lowered(program: Program) -> Executable {
    let (owner, policy) = (Principal::EndUser(OWNER), policy());
    let proof = vinet_prover::prove(&program, &owner, &policy).expect("a proof");
    Executable::lower(Arc::new(check(&program.encode(), &proof, owner, &policy).expect("accepted"))).expect("lowered")
}

fn this_ip() -> AddrExpr {
    AddrExpr { this_ip: true, ..AddrExpr::default() }
}

fn of(prefixes: &[Prefix]) -> AddrExpr {
    AddrExpr { prefixes: PrefixSet::new(prefixes.to_vec()), ..AddrExpr::default() }
}

/// Packets of many sources, parsed.
fn packets(payload: &[u8]) -> Vec<(Vec<u8>, Headers)> {
    let frames = (0..BATCH as u32).map(|i| segment(i.wrapping_mul(0x9e37_79b1) >> 8, 1, payload));
    frames.map(|frame| (headers(&frame).expect("a sound packet"), frame)).map(|(h, frame)| (frame, h)).collect()
}

fn run(executable: &Executable, state: &mut State, packets: &[(Vec<u8>, Headers)]) -> f64 {
    p99_ns(|| {
        for (frame, headers) in packets {
            let _ = black_box(executable.run(state, black_box(frame), black_box(headers), 0));
        }
    })
}

/// What one of the steps costs: `repeats` of them against none.
fn step_ns(base_ns: f64, packets: &[(Vec<u8>, Headers)], step: &Instr, repeats: usize) -> f64 {
    let executable = unfolded(&vec![step.clone(); repeats]);
    let mut state = executable.state();
    (run(&executable, &mut state, packets) - base_ns).max(0.0) / repeats as f64
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

/// The worst of a fixed cost and a cost for 64 bytes, of one search.
fn contains_ns() -> (f64, f64) {
    let (mut fixed, mut per_block) = (0f64, 0f64);
    for word in [&b"x"[..], b"ab", b"viagra", b"aaaaaaab", b"Content-Type: text/html; charset=us-ascii; format=flowed"]
    {
        let words = Words::new(&[word.to_vec()]);
        let timed = |payload: &[u8]| {
            p99_ns(|| {
                for _ in 0..BATCH {
                    black_box(words.search(black_box(payload), 1));
                }
            })
        };
        for payload in hard_payloads(word, LONGEST_PAYLOAD) {
            let (short, long) = (timed(&payload[..64]), timed(&payload));
            fixed = fixed.max(short);
            per_block = per_block.max((long - short) / ((LONGEST_PAYLOAD - 64) as f64 / 64.0));
        }
    }
    (fixed, per_block)
}

/// The upkeep of streams without the search of the new bytes: the worst of segments in order, of segments that come
/// out of order with all islands in use, and of one new flow after the other.
fn stream_ns() -> f64 {
    // The longest word a program may have, so that the ends of islands are as long as they get.
    let words = Words::new(&[vec![0xff; 64]]);
    let mut worst = 0f64;
    for (flows, stride) in [(1000u32, 8u32), (1000, 1_000), (1_000_000, 8)] {
        let mut streams = Streams::new(65_536, 8, 64);
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
        eprintln!("stream, {flows} flows, stride {stride}: {ns:.1} ns");
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

fn main() {
    let mhz = mhz();
    let empty = packets(b"");
    let arg: Slot = 1;
    let base = unfolded(&[]);
    let mut state = base.state();
    let base_ns = run(&base, &mut state, &empty);
    let many: Vec<Prefix> =
        (0..PREFIXES_MAX as u32 / 2).filter_map(|i| Prefix::of(Addr::V4(0xc000_0000 + i * 1024), 24)).collect();
    let out: Slot = 8;
    let select = |addrs| Instr::Select { out, arg, field: Field::Src, addrs };
    let select_ns = step_ns(base_ns, &empty, &select(of(&[Prefix::host(Addr::V4(0xc000_0001))])), REPEATS);
    let select_many_ns = (step_ns(base_ns, &empty, &select(of(&many)), 2) - select_ns).max(0.0);
    let partition_ns = step_ns(base_ns, &empty, &Instr::Partition { out, arg, field: Field::Src }, REPEATS);
    let discard_ns = step_ns(base_ns, &empty, &Instr::Discard { arg }, REPEATS);
    let if_key = Instr::If {
        cond: Cond::Not(Box::new(Cond::Not(Box::new(Cond::KeyIn {
            key: 9,
            addrs: of(&[Prefix::host(Addr::V4(0xc000_0001))]),
        })))),
        then: vec![],
        otherwise: vec![],
    };
    let foreach = |body| Instr::Foreach { groups: 4, packets: 8, key: 9, body };
    let many_tests = unfolded(&[foreach(vec![if_key; REPEATS])]);
    let test_ns = (run(&many_tests, &mut many_tests.state(), &empty) - base_ns).max(0.0) / (3 * REPEATS) as f64;
    let groups: Vec<Instr> = (0..REPEATS as Slot)
        .map(|i| Instr::Foreach { groups: 4, packets: 8 + 2 * i, key: 9 + 2 * i, body: vec![] })
        .collect();
    let many_groups = unfolded(&groups);
    let foreach_ns = (run(&many_groups, &mut many_groups.state(), &empty) - base_ns).max(0.0) / REPEATS as f64;
    // Leave to discard is asked for once, whatever the program does.
    let gated = unfolded(&[Instr::Discard { arg }]);
    let gate_ns = (run(&gated, &mut gated.state(), &empty) - base_ns).max(0.0);
    let (contains_fixed_ns, contains_block_ns) = contains_ns();
    let stream_ns = stream_ns();

    println!(
        "# Measured by `cargo bench -p vinet-pktops --bench routines` at {mhz:.0} MHz: the 99th percentile of the"
    );
    println!("# worst case tried, in cycles, half as much again. The nanoseconds are what was measured.");
    println!("[costs]");
    let lines = [
        ("program", base_ns),
        ("select", select_ns),
        ("select_many", select_many_ns),
        ("partition", partition_ns),
        ("foreach", foreach_ns),
        ("test", test_ns),
        ("discard", discard_ns.max(gate_ns)),
        ("contains", contains_fixed_ns),
        ("contains_per_64_bytes", contains_block_ns),
        ("stream", stream_ns),
    ];
    for (key, ns) in lines {
        let cycles = (ns * mhz / 1000.0 * 1.5).ceil().max(1.0);
        println!("{:<30} # {ns:.2} ns", format!("{key} = {cycles:.0}"));
    }
}
