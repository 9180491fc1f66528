//! Replay: a program over the packets of a capture, as a router would run it, or as the reference interpreter means it.
//!
//! The executor runs only what the checker accepted, through the cells that a router's table would hold. The reference
//! needs no proof, is slow, and says what is right. A capture may hold less of a packet than was on the wire; such a
//! packet is judged by its addresses as the whole one, and the bytes that are missing count as never seen. What no
//! program ever sees (frames that are not IP, or malformed) is forwarded.

use crate::pcap::{Capture, Packet, Writer};
use std::fmt;
use std::sync::Arc;
use vinet_pktops::parse::{Headers, headers_snapped};
use vinet_pktops::reference::Reference;
use vinet_pktops::{Executable, LowerError, State, Verdict};
use vinet_prover::{NotProven, prove};
use vinet_trusted::addr::Principal;
use vinet_trusted::check::{Checked, Reject, check};
use vinet_trusted::gate::Action;
use vinet_trusted::policy::{Costs, Formula, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{Field, Program, Unset};

/// The largest burst that a replay may use.
pub const BURST_LEN_MAX: usize = 65_536;
/// The streams that the built-in policy has room for: 40 MB at most.
const STREAM_FLOWS_MAX: u32 = 16_384;
const STREAM_ISLANDS_MAX: u8 = 16;

/// The policy that replay uses where the user names none: what the paper allows, with no ceiling on cost.
#[must_use]
pub fn builtin_policy(principals: PrincipalKind) -> Policy {
    let owned = Formula::Owns(Field::Dst);
    Policy {
        name: "replay".to_string(),
        principals,
        discard: owned.clone(),
        group: owned.clone(),
        scan: owned,
        costs: Costs {
            program: 1,
            select: 1,
            select_many: 1,
            partition: 1,
            foreach: 1,
            test: 1,
            discard: 1,
            contains: 1,
            contains_per_64_bytes: 1,
            stream: 1,
        },
        limits: Limits {
            program_bytes_max: u32::MAX,
            proof_bytes_max: u32::MAX,
            lifetime_max_s: u32::MAX,
            complexity_max: u64::MAX,
            cost_max: u64::MAX,
            packet_bytes_max: u32::from(u16::MAX),
            stream_flows_max: STREAM_FLOWS_MAX,
            stream_islands_max: STREAM_ISLANDS_MAX,
            packet_rate_default: u32::MAX,
            packet_rate_max: u32::MAX,
            over_budget: OverBudget::Forward,
        },
    }
}

/// Why there is no executor for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// A program, proven and checked for `owner` under `policy`.
///
/// # Errors
/// [`NotRunnable::NotProven`], [`NotRunnable::Rejected`].
pub fn checked(program: &Program, owner: &Principal, policy: &Arc<Policy>) -> Result<Arc<Checked>, NotRunnable> {
    let proof = prove(program, owner, policy).map_err(NotRunnable::NotProven)?;
    check(&program.encode(), &proof, *owner, policy).map(Arc::new).map_err(NotRunnable::Rejected)
}

/// What runs the program.
pub enum Engine {
    /// What a router runs.
    Executor(Box<Executor>),
    /// The reference interpreter.
    Reference(Box<Reference>),
}

/// An executable with its state.
pub struct Executor {
    executable: Executable,
    state: State,
}

impl Engine {
    /// What a router runs of an accepted program.
    ///
    /// # Errors
    /// [`NotRunnable::Lower`].
    pub fn executor(checked: Arc<Checked>) -> Result<Engine, NotRunnable> {
        let executable = Executable::lower(checked).map_err(NotRunnable::Lower)?;
        let state = executable.state();
        Ok(Engine::Executor(Box::new(Executor { executable, state })))
    }
    /// The reference interpreter.
    #[must_use]
    pub fn reference(program: &Program, owner: &Principal) -> Engine {
        Engine::Reference(Box::new(Reference::new(program, owner)))
    }
    /// The flows and the parts of flows that were forgotten at a limit of the policy; the reference forgets nothing.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        match self {
            Engine::Executor(executor) => {
                let counters = executor.state.counters();
                counters.flows_evicted + counters.islands_evicted
            }
            Engine::Reference(_) => 0,
        }
    }

    /// Adds to `out` whether each packet of a burst is discarded.
    fn run(&mut self, burst: &[(&[u8], Headers, u64)], out: &mut Vec<bool>) -> Result<(), Unset> {
        match self {
            Engine::Executor(executor) => {
                out.extend(burst.iter().map(|(frame, headers, now_ns)| executor.discards(frame, headers, *now_ns)));
            }
            Engine::Reference(reference) => {
                for (frame, headers, _) in burst {
                    out.push(reference.run(frame, headers)?);
                }
            }
        }
        Ok(())
    }
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
    /// Of the forwarded ones, those that no program sees.
    pub unseen: u64,
    /// Those that the capture holds less of than was on the wire.
    pub cut: u64,
}

/// Runs `engine` over `capture` in bursts, and returns the capture of what was forwarded.
///
/// # Errors
/// [`Unset`] where the program uses a name that its owner has not; the compiler and the checker refuse such programs.
pub fn replay(capture: &Capture<'_>, engine: &mut Engine, burst_len: usize) -> Result<(Vec<u8>, Counts), Unset> {
    let mut writer = Writer::new(capture.form());
    let mut counts = Counts::default();
    for packets in capture.packets().chunks(burst_len.clamp(1, BURST_LEN_MAX)) {
        let mut burst = Vec::new();
        let mut seen = Vec::new();
        for packet in packets {
            let wire_len = wire_len(packet);
            counts.cut += u64::from(wire_len > packet.bytes.len());
            let parsed = headers_snapped(packet.bytes, wire_len).ok();
            seen.push(parsed.is_some());
            let now_ns = u64::from(packet.seconds) * 1_000_000_000 + u64::from(packet.nanoseconds);
            burst.extend(parsed.map(|headers| (packet.bytes, headers, now_ns)));
        }
        let mut verdicts = Vec::with_capacity(burst.len());
        engine.run(&burst, &mut verdicts)?;
        let mut verdicts = verdicts.into_iter();
        for (packet, seen) in packets.iter().zip(seen) {
            counts.packets += 1;
            counts.unseen += u64::from(!seen);
            if seen && verdicts.next() == Some(true) {
                counts.discarded += 1;
            } else {
                counts.forwarded += 1;
                writer.push(packet);
            }
        }
    }
    Ok((writer.finish(), counts))
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
