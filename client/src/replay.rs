//! Replay: a program over the packets of a capture, as a router would run it, or as the reference interpreter means it.
//!
//! The executor runs only what the checker accepted, through the cells that a router's table would hold. The reference
//! needs no proof, is slow, and says what is right. A capture may hold less of a packet than was on the wire; such a
//! packet is judged by its addresses as the whole one, and the bytes that are missing count as never seen. What no
//! program ever sees (frames that are not IP, or malformed) is forwarded.
//!
//! A program that looks at several packets together, or generates some, is given the packets that go to its owner in
//! windows that are full, but for the last: a capture's times are no measure of how long a router would wait. What a
//! window generates stands behind the window's last packet, with its time, and tagged with a key of zeros.

use crate::pcap::{Capture, Packet, Writer};
use std::fmt;
use std::sync::Arc;
use vinet_pktops::datagram::{PACKET_LEN_MAX, Sender};
use vinet_pktops::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Headers, headers_snapped};
use vinet_pktops::reference::Reference;
use vinet_pktops::{Executable, LowerError, State, Verdict};
use vinet_prover::hint::Hint;
use vinet_prover::{NotProven, library, prove};
use vinet_trusted::addr::Principal;
use vinet_trusted::check::{Checked, Reject, check};
use vinet_trusted::gate::Action;
use vinet_trusted::packet::Test;
use vinet_trusted::policy::{Costs, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrExpr, Field, Instr, Program, Unset};

/// The largest burst that a replay may be asked for.
pub const BURST_LEN_MAX: usize = 65_536;
/// The UDP port that generated packets go to under the built-in policy.
const GENERATE_PORT: u16 = 7401;
/// The streams that the built-in policy has room for: 40 MB at most.
const STREAM_FLOWS_MAX: u32 = 16_384;
const STREAM_ISLANDS_MAX: u8 = 16;

/// The policy that replay uses where the user names none: what the paper allows, with no ceiling on cost, and windows of
/// at most `window_packets_max` packets, which is what a program gets that leaves its window open.
#[must_use]
pub fn builtin_policy(principals: PrincipalKind, window_packets_max: u16) -> Policy {
    let owned = Test::Owns { field: Field::Dst };
    Policy {
        name: "replay".to_string(),
        principals,
        discard: owned.clone(),
        group: owned.clone(),
        scan: owned,
        generate: Test::In { field: Field::Dst, addrs: AddrExpr { this_ip: true, ..AddrExpr::default() } },
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
            program_bytes_max: u32::MAX,
            proof_bytes_max: u32::MAX,
            lifetime_max_s: u32::MAX,
            complexity_max: u64::MAX,
            cost_max: u64::MAX,
            packet_bytes_max: u32::from(u16::MAX),
            window_packets_max,
            window_us_max: 200,
            generate_port: GENERATE_PORT,
            generate_rate_max: u32::MAX,
            stream_flows_max: STREAM_FLOWS_MAX,
            stream_islands_max: STREAM_ISLANDS_MAX,
            packet_rate_default: u32::MAX,
            packet_rate_max: u32::MAX,
            over_budget: OverBudget::Forward,
        },
    }
}

/// Why there is no executor for a program.
#[derive(Debug)]
pub enum NotRunnable {
    /// No proof was found.
    NotProven(NotProven),
    /// The checker rejects the proof that was made: a defect of the prover.
    Rejected(Reject),
    /// It cannot be lowered.
    Lower(LowerError),
}

impl NotRunnable {
    /// The number of the instruction that it is about, where it is about one.
    #[must_use]
    pub fn instr(&self) -> Option<usize> {
        match self {
            NotRunnable::NotProven(error) => error.instr(),
            NotRunnable::Rejected(reject) => reject.instr(),
            NotRunnable::Lower(_) => None,
        }
    }
    /// A stable short name for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            NotRunnable::NotProven(error) => error.code(),
            NotRunnable::Rejected(reject) => reject.code(),
            NotRunnable::Lower(_) => "not-lowered",
        }
    }
}

impl fmt::Display for NotRunnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotRunnable::NotProven(error) => error.fmt(f),
            NotRunnable::Rejected(reject) => reject.fmt(f),
            NotRunnable::Lower(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotRunnable {}

/// A program, proven and checked for `owner` under `policy`; `hints` are what its author says of its loops.
///
/// # Errors
/// [`NotRunnable::NotProven`], [`NotRunnable::Rejected`].
pub fn checked(
    program: &Program,
    owner: &Principal,
    policy: &Arc<Policy>,
    hints: &[Hint],
) -> Result<Arc<Checked>, NotRunnable> {
    let lemmas = library();
    let proof = prove(program, owner, policy, &lemmas, hints).map_err(NotRunnable::NotProven)?;
    check(&program.encode(), &proof, *owner, policy, &lemmas).map(Arc::new).map_err(NotRunnable::Rejected)
}

/// What runs the program.
pub struct Engine {
    kind: Kind,
    owner: Principal,
    /// Whether it has to be given whole windows: it looks at several packets together, or generates some.
    is_windowed: bool,
    sender: Sender,
}

enum Kind {
    Executor(Box<Executor>),
    Reference(Box<Reference>),
}

/// An executable with its state.
struct Executor {
    executable: Executable,
    state: State,
}

/// What became of a window.
#[derive(Default)]
struct Outcome {
    discarded: Vec<bool>,
    /// IP packets.
    generated: Vec<Vec<u8>>,
    /// GENERATEs that no packet can carry.
    unsent: u64,
}

impl Engine {
    /// What a router runs of an accepted program.
    ///
    /// # Errors
    /// [`NotRunnable::Lower`].
    pub fn executor(checked: Arc<Checked>) -> Result<Engine, NotRunnable> {
        let (owner, program) = (*checked.owner(), checked.program_id());
        let port = checked.policy().limits.generate_port;
        let executable = Executable::lower(checked).map_err(NotRunnable::Lower)?;
        let is_windowed = executable.window() != 1 || executable.generates();
        let state = executable.state();
        let kind = Kind::Executor(Box::new(Executor { executable, state }));
        Ok(Engine { kind, owner, is_windowed, sender: sender(program, port) })
    }
    /// The reference interpreter, with the windows and costs of `policy`.
    #[must_use]
    pub fn reference(program: &Program, owner: &Principal, policy: &Arc<Policy>) -> Engine {
        let reference = Reference::new(program, owner, policy);
        let is_windowed = reference.window() != 1 || generates(program.body());
        let sender = sender(program.id(), policy.limits.generate_port);
        Engine { kind: Kind::Reference(Box::new(reference)), owner: *owner, is_windowed, sender }
    }
    /// The flows and the parts of flows that were forgotten at a limit of the policy; the reference forgets nothing.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        match &self.kind {
            Kind::Executor(executor) => {
                let counters = executor.state.counters();
                counters.flows_evicted + counters.islands_evicted
            }
            Kind::Reference(_) => 0,
        }
    }

    /// The most packets that are run together, where the user asks for `asked`.
    fn window(&self, asked: usize) -> usize {
        let own = match &self.kind {
            Kind::Executor(executor) => executor.executable.window(),
            Kind::Reference(reference) => reference.window(),
        };
        if self.is_windowed { own.min(asked).max(1) } else { 1 }
    }

    /// Runs the program on one window.
    fn run(&mut self, window: &[(&[u8], &Headers)], now_ns: u64) -> Result<Outcome, Unset> {
        let (sender, mut outcome) = (&self.sender, Outcome::default());
        let (generated, unsent) = (&mut outcome.generated, &mut outcome.unsent);
        let mut send = |data: &vinet_pktops::generate::Generated<'_>| {
            *unsent += u64::from(sender.send(data, &mut |packet| generated.push(packet.to_vec())).is_err());
        };
        match &mut self.kind {
            Kind::Executor(executor) if self.is_windowed => {
                let mut verdicts = Vec::with_capacity(window.len());
                let Executor { executable, state } = &mut **executor;
                executable.run_window(state, window, now_ns, &mut verdicts, &mut |_, data| send(&data));
                outcome.discarded = verdicts.iter().map(|verdict| matches!(verdict, Verdict::Discard(_))).collect();
            }
            Kind::Executor(executor) => {
                outcome.discarded =
                    window.iter().map(|(frame, headers)| executor.discards(frame, headers, now_ns)).collect();
            }
            Kind::Reference(reference) => {
                let run = reference.run(window)?;
                run.generated.iter().for_each(|sent| send(&sent.generated()));
                outcome.discarded = run.discarded;
            }
        }
        Ok(outcome)
    }
}

/// How a replay sends: the key and the numbers of batches are a router's secret and history, of which it has none.
fn sender(program: [u8; 32], port: u16) -> Sender {
    Sender { program, key: [0; 32], port, first_batch: 0, mtu: PACKET_LEN_MAX as u16 }
}

fn generates(block: &[Instr]) -> bool {
    block.iter().any(|instr| matches!(instr, Instr::Generate { .. }) || instr.blocks().any(|block| generates(block)))
}

impl Executor {
    /// As the flow table does it: the cell of the packet's addresses says what happens.
    fn discards(&mut self, frame: &[u8], headers: &Headers, now_ns: u64) -> bool {
        let covers =
            |cell: &&vinet_trusted::gate::Cell| cell.src().contains(headers.src) && cell.dst().contains(headers.dst);
        let Some(cell) = self.executable.cells().iter().find(covers) else { return false };
        match cell.action() {
            Action::Discard => true,
            Action::Run => {
                let verdict = self.executable.run(&mut self.state, frame, headers, now_ns);
                matches!(verdict, Verdict::Discard(_))
            }
        }
    }
}

/// What a replay counted. Every packet is forwarded or discarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// The packets of the capture.
    pub packets: u64,
    /// Those that the program let pass, or never saw.
    pub forwarded: u64,
    /// Those that it discarded.
    pub discarded: u64,
    /// The packets that it generated.
    pub generated: u64,
    /// The GENERATEs that no packet can carry: from one family of addresses to the other.
    pub unsent: u64,
    /// Of the forwarded ones, those that no program sees.
    pub unseen: u64,
    /// Those that the capture holds less of than was on the wire.
    pub cut: u64,
}

/// A packet of the capture, as far as it is IP.
struct Seen {
    index: usize,
    headers: Headers,
}

/// Runs `engine` over `capture`, and returns the capture of what was forwarded and generated. `window_len` is the size
/// of a window, at most, of a program that has one; others are given packets one by one, as bursts of any size are.
///
/// # Errors
/// [`Unset`] where the program uses a name that its owner has not; the compiler and the checker refuse such programs.
pub fn replay(capture: &Capture<'_>, engine: &mut Engine, window_len: usize) -> Result<(Vec<u8>, Counts), Unset> {
    let packets = capture.packets();
    let mut counts = Counts { packets: packets.len() as u64, ..Counts::default() };
    let mut seen = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        let wire_len = wire_len(packet);
        counts.cut += u64::from(wire_len > packet.bytes.len());
        match headers_snapped(packet.bytes, wire_len) {
            Ok(headers) => seen.push(Seen { index, headers }),
            Err(_) => counts.unseen += 1,
        }
    }
    let owned = engine.owner.owned();
    seen.retain(|seen| !engine.is_windowed || owned.contains(seen.headers.dst));
    let mut discarded = vec![false; packets.len()];
    // What was generated, with the packet that it stands behind.
    let mut generated: Vec<(usize, Vec<u8>)> = Vec::new();
    let window_len = engine.window(window_len.clamp(1, BURST_LEN_MAX));
    for window in seen.chunks(window_len) {
        let last = window.last().map_or(0, |seen| seen.index);
        let now_ns = u64::from(packets[last].seconds) * 1_000_000_000 + u64::from(packets[last].nanoseconds);
        let frames: Vec<(&[u8], &Headers)> =
            window.iter().map(|seen| (packets[seen.index].bytes, &seen.headers)).collect();
        let outcome = engine.run(&frames, now_ns)?;
        for (seen, is_discarded) in window.iter().zip(outcome.discarded) {
            discarded[seen.index] = is_discarded;
        }
        counts.unsent += outcome.unsent;
        generated.extend(outcome.generated.iter().map(|packet| (last, ethernet(packet))));
    }
    let mut writer = Writer::new(capture.form());
    let mut generated = generated.into_iter().peekable();
    for (index, (packet, is_discarded)) in packets.iter().zip(discarded).enumerate() {
        if is_discarded {
            counts.discarded += 1;
        } else {
            counts.forwarded += 1;
            writer.push(packet);
        }
        while let Some((_, frame)) = generated.next_if(|(last, _)| *last == index) {
            counts.generated += 1;
            writer.push(&Packet { wire_len: frame.len() as u32, bytes: &frame, ..*packet });
        }
    }
    Ok((writer.finish(), counts))
}

/// A frame between addresses of zeros, since a capture tells of no next hop.
fn ethernet(packet: &[u8]) -> Vec<u8> {
    let is_v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let kind = if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    [&[0; 12][..], &kind.to_be_bytes(), packet].concat()
}

/// The length of the frame on the wire, as the capture tells or the IP header states, whichever is more.
fn wire_len(packet: &Packet<'_>) -> usize {
    (packet.wire_len as usize).max(stated_len(packet.bytes).unwrap_or(0))
}

/// The length of the frame by its IP header, where there is one behind at most two VLAN tags.
fn stated_len(frame: &[u8]) -> Option<usize> {
    let word = |at: usize| frame.get(at..at + 2).map(|bytes| usize::from(bytes[0]) << 8 | usize::from(bytes[1]));
    let mut at = 12;
    for _ in 0..2 {
        if matches!(word(at)?, 0x8100 | 0x88a8) {
            at += 4;
        }
    }
    match word(at)? {
        0x0800 => Some(at + 2 + word(at + 4)?),
        0x86dd => Some(at + 42 + word(at + 6)?),
        _ => None,
    }
}
