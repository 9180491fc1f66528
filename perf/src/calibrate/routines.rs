//! The routines of the cost model, each measured in the worst case that was thought of.
//!
//! What a step costs is the difference between programs that have it often and programs that have it once or not, run
//! as they are written, with the steps too that nothing comes of, which a router would leave out, on windows of 1, 64 and
//! 256 packets, the worst of them: no lowering exceeds that. A step that is
//! paid for once in a run, and not for each packet, is measured for each run. Searches and the upkeep of streams are
//! measured as they are called.

use crate::calibrate::sampler::{Sampler, Tally, Work};
use crate::verify::chance::Chance;
use std::hint::black_box;
use std::sync::Arc;
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

/// Packets that a program is given at once.
const PACKETS: usize = 256;
/// How often a step stands in a program whose price is measured.
const REPEATS: usize = 24;
const WINDOWS: [u16; 3] = [1, 64, 256];
const OWNER: Addr = Addr::V4(0x0a00_0005);
const LONGEST_PAYLOAD: usize = 1448;
/// The blocks of 64 bytes by which the longest payload exceeds a short one.
const BLOCKS: f64 = (LONGEST_PAYLOAD - 64) as f64 / 64.0;

/// What each routine costs, in cycles, and what became of the samples.
pub struct Measured {
    /// By the key of the cost model.
    pub cycles: Vec<(&'static str, f64)>,
    /// Of all batches.
    pub tally: Tally,
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

/// The program with all its steps.
fn lowered(window: u16, words: &[Word], body: Vec<Instr>) -> Executable {
    let steps = count(&body);
    let program = Program::new(60, window, words.to_vec(), body).expect("a program");
    let (owner, policy) = (Principal::EndUser(OWNER), policy());
    let lemmas = vinet_prover::library();
    let proof = vinet_prover::prove(&program, &owner, &policy, &lemmas, &[]).expect("a proof");
    let checked = check(&program.encode(), &proof, owner, &policy, &lemmas).expect("accepted");
    let executable = Executable::lower_as_written(Arc::new(checked)).expect("lowered");
    assert_eq!(executable.steps(), steps, "what is measured has every step");
    executable
}

/// The instructions of a block, with those of the blocks in it.
fn count(block: &[Instr]) -> usize {
    let blocks = |instr: &Instr| match instr {
        Instr::If { then, otherwise, .. } => count(then) + count(otherwise),
        Instr::Foreach { body, .. } | Instr::While { body, .. } => count(body),
        _ => 0,
    };
    block.iter().map(|instr| 1 + blocks(instr)).sum()
}

fn select(out: Slot, arg: Slot, field: Field, addrs: AddrExpr) -> Instr {
    Instr::Select { out, arg, test: Test::In { field, addrs } }
}

fn of(prefixes: &[Prefix]) -> AddrExpr {
    AddrExpr { prefixes: PrefixSet::new(prefixes.to_vec()), ..AddrExpr::default() }
}

/// Packets of many sources, parsed, with their number at the start of each payload.
fn packets(seed: u64, len: usize, distinct: bool) -> Vec<(Vec<u8>, Headers)> {
    let payload = |i: u32| {
        let number = if distinct { i.to_be_bytes() } else { [0; 4] };
        number.into_iter().chain(std::iter::repeat(b'.')).take(len).collect::<Vec<u8>>()
    };
    let salt = seed as u32;
    let sources = (0..PACKETS as u32).map(|i| (i, (i ^ salt).wrapping_mul(0x9e37_79b1) >> 8));
    let frames = sources.map(|(i, source)| segment(source, 1, &payload(i)));
    frames.map(|frame| (headers(&frame).expect("a sound packet"), frame)).map(|(h, frame)| (frame, h)).collect()
}

/// Running a program on packets. What is generated is sent, into nothing.
fn run<'a>(executable: Executable, packets: &'a [(Vec<u8>, Headers)]) -> Work<'a> {
    let mut state = executable.state();
    let packets: Vec<(&[u8], &Headers)> = packets.iter().map(|(frame, headers)| (&frame[..], headers)).collect();
    let mut verdicts = Vec::with_capacity(packets.len());
    let sender = Sender { program: [1; 32], key: [2; 32], port: 4789, first_batch: 0, mtu: 1500 };
    Work::new(PACKETS, move || {
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

/// The bench of one run: its samples, and what chance follows from.
struct Bench {
    sampler: Sampler,
    seed: u64,
    /// Segments without content.
    empty: Vec<(Vec<u8>, Headers)>,
}

impl Bench {
    /// What `many` costs more than `few`, per packet, in a window.
    fn in_window(
        &mut self,
        window: u16,
        packets: &[(Vec<u8>, Headers)],
        words: [&[Word]; 2],
        steps: [&[Instr]; 2],
    ) -> f64 {
        let mut few = run(unfolded(window, words[0], steps[0]), packets);
        let mut many = run(unfolded(window, words[1], steps[1]), packets);
        self.sampler.difference(&mut few, &mut many)
    }

    /// What `many` costs more than `few`, per packet, in the worst of the windows.
    fn more(&mut self, packets: &[(Vec<u8>, Headers)], few: &[Instr], many: &[Instr]) -> f64 {
        WINDOWS.map(|window| self.in_window(window, packets, [&[], &[]], [few, many])).into_iter().fold(0.0, f64::max)
    }

    /// The same, of segments without content.
    fn more_of_empty(&mut self, few: &[Instr], many: &[Instr]) -> f64 {
        let empty = std::mem::take(&mut self.empty);
        let more = self.more(&empty, few, many);
        self.empty = empty;
        more
    }

    /// What one of the steps costs that is paid for each packet: many of them against none.
    fn step(&mut self, step: &Instr, repeats: usize) -> f64 {
        self.more_of_empty(&[], &vec![step.clone(); repeats]) / repeats as f64
    }

    /// What one of the steps costs that is paid for once in a run.
    fn once(&mut self, step: &[Instr]) -> f64 {
        let many: Vec<Instr> = step.iter().cycle().take(step.len() * REPEATS).cloned().collect();
        let empty = std::mem::take(&mut self.empty);
        let cycles = WINDOWS.map(|window| {
            let more = self.in_window(window, &empty, [&[], &[]], [&[], &many]);
            more * f64::from(window) / REPEATS as f64
        });
        self.empty = empty;
        cycles.into_iter().fold(0.0, f64::max)
    }

    /// The worst of a fixed cost and a cost for 64 bytes, of one search.
    fn contains(&mut self) -> (f64, f64) {
        let (mut fixed, mut per_block) = (0f64, 0f64);
        // As long as a word may be.
        let long = b"Content-Type: text/html; charset=us-ascii; format=flowed; de=no\n";
        for word in [&b"x"[..], b"ab", b"viagra", b"aaaaaaab", long] {
            let searched = Words::new(&[Word { fold: false, bytes: word.to_vec() }], 0);
            let folded = Words::new(&[Word { fold: true, bytes: word.to_ascii_lowercase() }], 1);
            let searches: [Search<'_>; 3] =
                [&|payload| searched.search(payload, 1), &|payload| folded.search(payload, 1), &|payload| {
                    u64::from(folded.count(payload, 0))
                }];
            for search in searches {
                let look = |payload: Vec<u8>| Work::new(1, move || _ = black_box(search(black_box(&payload))));
                for payload in hard_payloads(self.seed, word, LONGEST_PAYLOAD) {
                    let (mut short, mut long) = (look(payload[..64].to_vec()), look(payload));
                    fixed = fixed.max(self.sampler.cost(&mut short).p99);
                    per_block = per_block.max(self.sampler.difference(&mut short, &mut long) / BLOCKS);
                }
            }
        }
        (fixed, per_block)
    }

    /// The upkeep of streams without the search of the new bytes: the worst of segments in order, of segments that come
    /// out of order with all islands in use, and of one new flow after the other.
    fn stream(&mut self) -> f64 {
        // The longest word a program may have, so that the ends of islands are as long as they get.
        let words = Words::new(&[Word { fold: false, bytes: vec![0xff; 64] }], 1);
        let payload = [b'.'; 8];
        let frame = segment(0, 1, &payload);
        let parsed = headers(&frame).expect("a sound packet");
        let Transport::Tcp(tcp) = transport(&frame, &parsed) else { panic!("it is TCP") };
        let mut worst = 0f64;
        let traffic = [(1000u32, 8u32), (1000, 1_000), (1_000_000, 8)];
        for ((flows, stride), counted) in
            traffic.into_iter().flat_map(|traffic| [(traffic, 0), (traffic, 1 as WordMask)])
        {
            let (mut streams, mut packet) = (Streams::new(65_536, 8, 64, counted), 0u32);
            let mut tcp = tcp.clone();
            let mut kept = Work::new(PACKETS, || {
                for _ in 0..PACKETS {
                    let (flow, turn) = (packet % flows, packet / flows);
                    tcp.seq = if stride == 8 { turn * 8 } else { turn.wrapping_mul(0x9e37_79b1) % (stride * 1000) };
                    let key = FlowKey::new(Addr::V4(flow), OWNER, 7, 25);
                    black_box(streams.observe(&words, 1, key, &tcp, &payload));
                    packet = packet.wrapping_add(1);
                }
            });
            worst = worst.max(self.sampler.cost(&mut kept).p99);
        }
        worst
    }

    /// What joining the packets of a flow in a window costs each: the same program on windows of many and of one.
    fn join(&mut self) -> f64 {
        let word = Word { fold: false, bytes: vec![0xff; 64] };
        let cond = Cond::Contains { arg: NOBODY, word: 0 };
        let asked = [Instr::If { cond, then: vec![], otherwise: vec![] }];
        let empty = std::mem::take(&mut self.empty);
        let words = [&[][..], std::slice::from_ref(&word)];
        let cycles = WINDOWS.map(|window| self.in_window(window, &empty, words, [&[], &asked]));
        self.empty = empty;
        (cycles[1].max(cycles[2]) - cycles[0]).max(0.0)
    }

    /// Grouping by content and GENERATE, each a fixed cost and one for 64 bytes. Equal contents are compared byte by
    /// byte, others only hashed.
    fn contents(&mut self) -> [f64; 4] {
        let content = [Instr::Content { dests: FREE, contents: FREE + 1, arg: OWN }];
        let [mut content_fixed, mut content_block, mut generate_fixed, mut generate_block] = [0f64; 4];
        for distinct in [false, true] {
            let (short, long) = (packets(self.seed, 64, distinct), packets(self.seed, LONGEST_PAYLOAD, distinct));
            let (fixed, whole) = (self.more(&short, &[], &content), self.more(&long, &[], &content));
            content_fixed = content_fixed.max(fixed);
            content_block = content_block.max((whole - fixed) / BLOCKS);
            for data in [FREE, FREE + 1] {
                let this_ip = AddrTerm::ThisIp;
                let generate = Instr::Generate { src: this_ip.clone(), dst: this_ip, data };
                let sent = [&content[..], &vec![generate; 4]].concat();
                let mut sent_cycles = |packets| self.more(packets, &content, &sent) / 4.0;
                let (fixed, whole) = (sent_cycles(&short), sent_cycles(&long));
                generate_fixed = generate_fixed.max(fixed);
                generate_block = generate_block.max((whole - fixed) / BLOCKS);
            }
        }
        [content_fixed, content_block, generate_fixed, generate_block]
    }
}

/// Payloads that are hard for a search in different ways: noise, nearly the word everywhere, its letters everywhere.
fn hard_payloads(seed: u64, word: &[u8], len: usize) -> [Vec<u8>; 3] {
    let mut chance = Chance::new(seed);
    let random = (0..len).map(|_| (chance.bits() >> 56) as u8).collect();
    let mut nearly = word.to_vec();
    let last = nearly.len() - 1;
    nearly[last] ^= 1;
    let repeat = |piece: &[u8]| piece.iter().copied().cycle().take(len).collect();
    [random, repeat(&nearly), repeat(&word[..1])]
}

/// A way to look into a payload.
type Search<'a> = &'a dyn Fn(&[u8]) -> u64;

/// Measures all of them once.
pub fn measure(seed: u64, sampler: Sampler) -> Measured {
    let mut bench = Bench { sampler, seed, empty: packets(seed, 0, false) };
    let base = WINDOWS.map(|window| {
        let entered = vec![Instr::Let { out: 1, expr: Expr::Const { value: 0 } }];
        let empty = packets(seed, 0, false);
        bench.sampler.cost(&mut run(lowered(window, &[], entered), &empty)).p99
    });
    let many: Vec<Prefix> =
        (0..PREFIXES_MAX as u32 / 2).filter_map(|i| Prefix::of(Addr::V4(0xc000_0000 + i * 1024), 24)).collect();
    let one = || of(&[Prefix::host(Addr::V4(0xc000_0001))]);
    let select_one = bench.step(&select(FREE, OWN, Field::Src, one()), REPEATS);
    let select_many = bench.step(&select(FREE, OWN, Field::Src, of(&many)), 2) - select_one;
    let ranges = Ranges::new((0..256).map(|i| (i * 4, i * 4)).collect()).expect("ranges");
    let number = Instr::Select { out: FREE, arg: OWN, test: Test::Number { number: Number::SrcPort, ranges } };
    let number_many = bench.step(&number, REPEATS) - select_one;
    let not = |a| Test::Not { a: Box::new(a) };
    let deep = Instr::Select { out: FREE, arg: OWN, test: not(not(Test::In { field: Field::Src, addrs: one() })) };
    let deep = (bench.step(&deep, REPEATS) - select_one) / 2.0;

    let foreach_of =
        |i: Slot, body| Instr::Foreach { groups: GROUPS, packets: FREE + 2 * i, key: FREE + 2 * i + 1, body };
    let loops: Vec<Instr> = (0..REPEATS as Slot).map(|i| foreach_of(i, vec![])).collect();
    // The groups are found by the first that goes through them.
    let foreach = bench.more_of_empty(&loops[..1], &loops) / (REPEATS - 1) as f64;
    let first = bench.more_of_empty(&[], &loops[..1]);
    let partition = bench.step(&Instr::Partition { out: GROUPS, arg: OWN, field: Field::Src }, REPEATS);
    let check = |cond: Cond| Instr::If {
        cond: Cond::Not { cond: Box::new(Cond::Not { cond: Box::new(cond) }) },
        then: vec![],
        otherwise: vec![],
    };
    let key_checks = foreach_of(0, vec![check(Cond::AddrIn { addr: FREE + 1, addrs: one() }); REPEATS]);
    let key_check = bench.more_of_empty(&loops[..1], &[key_checks]) / (3 * REPEATS) as f64;
    let set_check = bench.once(&[check(Cond::Empty { arg: NOBODY })]) / 3.0;

    let set = [
        Instr::Union { out: FREE, a: OWN, b: NOBODY },
        Instr::Minus { out: FREE, a: OWN, b: NOBODY },
        Instr::Size { out: NUMBER, arg: OWN },
    ];
    let set = set.map(|step| bench.step(&step, REPEATS)).into_iter().fold(0.0, f64::max);
    let constant = |value| Box::new(Expr::Const { value });
    let slot = || Box::new(Expr::Slot { slot: NUMBER });
    let assigned = bench.once(&[Instr::Let { out: NUMBER, expr: Expr::Const { value: 3 } }]);
    let sum = Expr::Add { a: Box::new(Expr::Mul { a: slot(), b: constant(1) }), b: constant(1) };
    let sum = bench.once(&[Instr::Let { out: NUMBER, expr: sum }]) / 5.0;
    let offset = Instr::Offset { out: FREE, base: AddrTerm::Const { addr: OWNER }, by: Expr::Const { value: 1 } };
    let offset = bench.once(&[offset]) / 2.0;
    // With the condition and the counting, which are paid for too.
    let turns = Instr::While {
        cond: Cond::AtMost { a: Expr::Slot { slot: NUMBER }, b: Expr::Const { value: REPEATS as i64 } },
        max: 100,
        body: vec![Instr::Let { out: NUMBER, expr: Expr::Add { a: slot(), b: constant(1) } }],
    };
    let zero = Instr::Let { out: NUMBER, expr: Expr::Const { value: 0 } };
    let turn = bench.once(&[zero, turns]) / REPEATS as f64;

    // Leave to discard is asked for once, whatever the program does.
    let discard = Instr::Discard { arg: OWN };
    let discard = bench.step(&discard, REPEATS).max(bench.step(&discard, 1));
    let (contains, contains_block) = bench.contains();
    let stream = bench.stream() + bench.join();
    let [content, content_block, generate, generate_block] = bench.contents();

    let cycles = vec![
        ("program", base.into_iter().fold(0.0, f64::max)),
        ("select", select_one),
        ("select_many", select_many.max(number_many)),
        ("partition", partition.max(first - foreach)),
        ("foreach", foreach),
        ("test", key_check.max(set_check).max(deep)),
        ("discard", discard),
        ("contains", contains),
        ("contains_per_64_bytes", contains_block),
        ("stream", stream),
        ("set", set),
        ("arithmetic", assigned.max(sum).max(offset)),
        ("turn", turn),
        ("content", content),
        ("content_per_64_bytes", content_block),
        ("generate", generate),
        ("generate_per_64_bytes", generate_block),
    ];
    Measured { cycles, tally: bench.sampler.tally }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::costs_file;

    #[test]
    fn every_routine_is_measured_with_all_its_steps() {
        // That no step is missing is asserted where the programs are lowered; the figures of so few samples mean nothing.
        let measured = measure(1, Sampler::brief());
        let keys: Vec<&str> = measured.cycles.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, costs_file::KEYS.iter().map(|(key, _)| *key).collect::<Vec<_>>());
        assert!(measured.tally.batches > 0);
    }

    #[test]
    fn a_router_would_leave_out_what_is_measured() {
        // So the difference of programs with and without would be nothing if they were not run as they are written.
        let step = Instr::Union { out: FREE, a: OWN, b: NOBODY };
        let executable = unfolded(64, &[], &vec![step; REPEATS]);
        assert_eq!(executable.steps(), 4 + REPEATS);
        let as_a_router = Executable::lower(Arc::clone(executable.checked())).expect("lowered");
        assert_eq!(as_a_router.steps(), 0);
    }
}
