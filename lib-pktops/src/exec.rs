//! Executables: accepted programs, lowered, and the state that a worker keeps for one.
//!
//! Holding an [`Executable`] proves that the checker accepted the program for its owner: it is made from a `Checked`
//! alone. Its [`Executable::cells`] are what a flow table publishes; where their action is `Run`, every packet of the
//! cell is given to [`Executable::run`], or in windows of [`Executable::window`] packets to [`Executable::run_window`].
//! That packets of one flow come to one worker is the caller's part.
//!
//! Programs with equal bytes, whoever owns them, share what they were lowered to ([`crate::Lowerings`]): the tree, the searchers
//! for words, the decisions. An [`Executable`] is still one owner's: it is made of that owner's own `Checked`, holds its
//! own cells, and asks the gates for itself.
//!
//! Nothing is done to a packet, and nothing sent, without leave of the gates of `vinet_trusted`. Without leave to look
//! into it a packet is taken to have no content. Of an accepted program each leave that it asks for is given, so what
//! is refused is counted as a defect of this crate.

use crate::contains_string::{WordMask, Words};
use crate::decision::Decision;
use crate::discard::discard;
use crate::lower::{LowerError, Place, Plan, Question, Rules};
use crate::packet::packet;
use crate::parse::{Headers, Transport, transport};
use crate::stream::{FlowKey, Streams, random_hasher};
use crate::tree::{Own, Tree};
use crate::walk::{Outcome, Program, Walk};
use ahash::RandomState;
use std::sync::Arc;
use vinet_trusted::check::Checked;
use vinet_trusted::gate::{self, Action, Cell, NotAllowed, ScanPermit};
use vinet_trusted::meaning::End;
use vinet_trusted::packet::Packet;
use vinet_trusted::program::{SLOTS_MAX, WINDOW_MAX};

pub use crate::discard::Verdict;
pub use crate::walk::Sink;

/// The most packets of a window whose sets are one word.
const SMALL_WINDOW_MAX: usize = 64;
/// The most slots of a program that is run on one packet with little to clear.
const FEW_SLOTS: usize = 16;
/// [`WINDOW_MAX`], as a size.
const LARGE_WINDOW_MAX: usize = WINDOW_MAX as usize;

/// A program that can run. It never changes, and workers share it.
#[derive(Debug)]
pub struct Executable {
    checked: Arc<Checked>,
    cells: Vec<Cell>,
    lowered: Arc<Lowered>,
    own: Own,
    plan: Plan,
    hasher: RandomState,
    /// Leave to look into every packet of the cells.
    scan: Option<ScanPermit>,
    /// Whether the policy looks at no more than addresses where it is asked for leave to discard.
    discard_by_addresses: bool,
}

/// What a program was lowered to, as far as it is the same for all its owners.
#[derive(Debug)]
pub(crate) struct Lowered {
    tree: Tree,
    words: Words,
    /// The plan of the first owner, for its decisions.
    plan: Plan,
}

/// What one worker keeps for one program: the contents of TCP flows, in memory that is all allocated at the start.
#[derive(Debug)]
pub struct State {
    streams: Option<Streams>,
    /// The runs that generated something.
    batches: u64,
    counters: Counters,
}

/// What one worker counted for one program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// TCP flows whose content is kept.
    pub flows: u64,
    /// Flows that were forgotten for others.
    pub flows_evicted: u64,
    /// Runs of bytes that were forgotten for others of the same flow.
    pub islands_evicted: u64,
    /// Runs that ended because an integer would have left 64 bits, or an address its family.
    pub runs_overflowed: u64,
    /// Runs that ended because a while had had all its turns.
    pub runs_exhausted: u64,
    /// Packets whose content was to be looked at without leave.
    pub scans_refused: u64,
    /// Packets that were to be discarded without leave.
    pub discards_refused: u64,
    /// GENERATEs that had no leave.
    pub generates_refused: u64,
    /// GENERATEs of programs that were given their packets by [`Executable::run`], which sends nothing.
    pub generates_unsent: u64,
}

impl State {
    /// What was lost to the limits of the policy, what was refused, and what there is.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let streams = self.streams.as_ref().map(Streams::counters).unwrap_or_default();
        Counters {
            flows: streams.flows,
            flows_evicted: streams.flows_evicted,
            islands_evicted: streams.islands_evicted,
            ..self.counters
        }
    }
    /// The memory that it holds, at most what `Checked::state_bytes` says.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.streams.as_ref().map_or(0, Streams::memory_bytes)
    }
}

impl Executable {
    /// Lowers an accepted program. It may take milliseconds: it is for the control core.
    ///
    /// # Errors
    /// [`LowerError`]; a program that the checker accepts under a policy that lets it see the packets it asks about
    /// always lowers.
    pub fn lower(checked: Arc<Checked>) -> Result<Executable, LowerError> {
        Executable::lower_like(checked, None)
    }
    /// Lowers it with all its steps, those too that nothing comes of: to measure what steps cost.
    ///
    /// # Errors
    /// [`LowerError`], as for [`Executable::lower`].
    pub fn lower_as_written(checked: Arc<Checked>) -> Result<Executable, LowerError> {
        let tree = Tree::as_written(checked.program(), &|instr| checked.turns(instr));
        Executable::of_tree(checked, tree, None)
    }
    /// Lowers it; what is the same in `known` is shared.
    pub(crate) fn lower_like(checked: Arc<Checked>, known: Option<Arc<Lowered>>) -> Result<Executable, LowerError> {
        let tree = Tree::new(checked.program(), &|instr| checked.turns(instr));
        Executable::of_tree(checked, tree, known)
    }
    fn of_tree(checked: Arc<Checked>, tree: Tree, known: Option<Arc<Lowered>>) -> Result<Executable, LowerError> {
        let own = Own::new(&tree, checked.owner())?;
        let (owned, window) = (checked.owner().owned(), checked.window());
        // Certificates may bound the same while differently, and then the trees differ.
        let known = known.filter(|known| known.tree == tree);
        let plan = Plan::new(&tree, &own, owned, window, known.as_ref().map(|known| &known.plan));
        let lowered = known.unwrap_or_else(|| {
            let words = Words::new(checked.program().words(), tree.counted);
            Arc::new(Lowered { tree, words, plan: plan.clone() })
        });
        Executable::of(checked, lowered, own, plan)
    }
    fn of(checked: Arc<Checked>, lowered: Arc<Lowered>, own: Own, plan: Plan) -> Result<Executable, LowerError> {
        let make = |action: Action, places: &[Place]| -> Result<Vec<Cell>, NotAllowed> {
            places.iter().map(|place| Cell::new(&checked, place.src, place.dst, action)).collect()
        };
        let (action, places) = plan.cells();
        let mut cells = match make(action, &places) {
            Ok(cells) => cells,
            // Where the policy cannot be told of a cell as a whole, it is asked packet by packet.
            Err(_) if action == Action::Discard => make(Action::Run, &plan.runs())?,
            Err(e) => return Err(e.into()),
        };
        cells.shrink_to_fit();
        // Leave for all cells is leave for each packet that the program is given.
        let scan = cells.iter().try_fold(None, |_, cell| cell.scan_permit().map(Some)).flatten();
        Ok(Executable {
            lowered,
            own,
            hasher: random_hasher(),
            discard_by_addresses: checked.policy().discard.is_of_addresses(),
            scan,
            checked,
            cells,
            plan,
        })
    }
    /// What the checker accepted.
    #[must_use]
    pub const fn checked(&self) -> &Arc<Checked> {
        &self.checked
    }
    /// What it shares with the other owners of its program.
    pub(crate) const fn lowered(&self) -> &Arc<Lowered> {
        &self.lowered
    }
    /// The steps that it was lowered to, with those of blocks.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.lowered.tree.steps()
    }
    /// Whether both run from the same memory: the same program, whoever its owners are.
    #[must_use]
    pub fn shares(&self, other: &Executable) -> bool {
        Arc::ptr_eq(&self.lowered, &other.lowered) && self.plan.shares(&other.plan)
    }
    /// The memory that it holds beside its `Checked` and what it shares, in bytes.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        let cells = self.cells.capacity() * size_of::<Cell>();
        size_of::<Executable>() + cells + self.own.memory_bytes() + self.plan.own_bytes()
    }
    /// The cells that the program wants, all with the same action. None, where it never does anything.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }
    /// Whether the table alone carries it out: nothing is to be run.
    #[must_use]
    pub fn is_verdict(&self) -> bool {
        self.cells.iter().all(|cell| cell.action() == Action::Discard)
    }
    /// How many packets it looks at together, at most. Where it is not 1, it has to be run by
    /// [`Executable::run_window`].
    #[must_use]
    pub fn window(&self) -> usize {
        usize::from(self.checked.window())
    }
    /// Whether it may generate packets. Then it has to be run by [`Executable::run_window`], whatever its window.
    #[must_use]
    pub fn generates(&self) -> bool {
        self.lowered.tree.generates
    }
    /// What one worker keeps for it. All its memory is allocated here.
    #[must_use]
    pub fn state(&self) -> State {
        let limits = &self.checked.policy().limits;
        let (flows, islands) = (limits.stream_flows_max as usize, usize::from(limits.stream_islands_max));
        let words = &self.lowered.words;
        let longest = words.longest();
        let has_streams = longest > 0 && !self.is_verdict();
        let streams = has_streams.then(|| Streams::new(flows, islands, longest, words.counted()));
        State { streams, batches: 0, counters: Counters::default() }
    }
    /// Runs it on a window of one packet. `state` is one of its own; `now_ns` is the worker's clock, which no routine
    /// of this version looks at.
    #[must_use]
    #[inline]
    pub fn run(&self, state: &mut State, frame: &[u8], headers: &Headers, now_ns: u64) -> Verdict {
        let _ = now_ns;
        let discards = match self.plan.question(headers) {
            Question::Answered(answer) => answer,
            Question::Open(wanted, rules, decision) => self.decide(state, frame, headers, wanted, rules, decision),
            Question::Tree => return self.run_unsent(state, frame, headers),
        };
        if discards { self.discard(state, frame, headers) } else { Verdict::Forward }
    }
    /// Runs it on packets, in order, and adds a verdict for each to `verdicts`: on one after the other where its
    /// windows hold one packet; otherwise on all of them together, or, where they are more than [`Executable::window`],
    /// on as many at a time. What it generates is given to `sink` before the next window is run. With room in
    /// `verdicts` it does not allocate.
    pub fn run_window(
        &self,
        state: &mut State,
        packets: &[(&[u8], &Headers)],
        now_ns: u64,
        verdicts: &mut Vec<Verdict>,
        sink: Sink<'_>,
    ) {
        if !self.plan.is_tree() {
            verdicts.extend(packets.iter().map(|(frame, headers)| self.run(state, frame, headers, now_ns)));
            return;
        }
        for window in packets.chunks(self.window().clamp(1, LARGE_WINDOW_MAX)) {
            match window.len() {
                1 => self.run_tree::<1, 1>(state, window, verdicts, sink),
                2..=SMALL_WINDOW_MAX => self.run_tree::<1, SMALL_WINDOW_MAX>(state, window, verdicts, sink),
                _ => self.run_tree::<4, LARGE_WINDOW_MAX>(state, window, verdicts, sink),
            }
        }
    }

    fn program(&self) -> Program<'_> {
        let Lowered { tree, words, .. } = &*self.lowered;
        Program { tree, own: &self.own, words, hasher: &self.hasher, checked: &self.checked, scan: self.scan }
    }

    /// Asks about the numbers and words that a decision is left open by.
    #[inline]
    fn decide(
        &self,
        state: &mut State,
        frame: &[u8],
        headers: &Headers,
        wanted: WordMask,
        rules: &Rules,
        decision: Decision,
    ) -> bool {
        let packet = || packet(frame, headers);
        let (Some(streams), true) = (&mut state.streams, wanted != 0) else {
            return rules.discards(decision, packet, |_| false);
        };
        let Some(_leave) = self.scan.or_else(|| self.leave_to_scan(frame, headers)) else {
            state.counters.scans_refused += 1;
            return rules.discards(decision, packet, |_| false);
        };
        match transport(frame, headers) {
            Transport::Tcp(tcp) => {
                // The history needs every packet, so it is kept before anything is decided.
                let key = FlowKey::new(headers.src, headers.dst, tcp.src_port, tcp.dst_port);
                let payload = &frame[tcp.payload.clone()];
                let found = streams.observe(&self.lowered.words, wanted, key, &tcp, payload);
                rules.discards(decision, packet, |word| found >> word & 1 != 0)
            }
            other => {
                let payload = &frame[other.payload()];
                rules.discards(decision, packet, |word| self.lowered.words.contains(payload, word))
            }
        }
    }

    /// Asks for leave to look into one packet, where the policy does not give it for all.
    #[cold]
    fn leave_to_scan(&self, frame: &[u8], headers: &Headers) -> Option<ScanPermit> {
        gate::scan(&self.checked, &packet(frame, headers))
    }

    /// Asks for leave to discard.
    #[inline]
    fn discard(&self, state: &mut State, frame: &[u8], headers: &Headers) -> Verdict {
        let packet = match self.discard_by_addresses {
            true => Packet::between(headers.src, headers.dst),
            false => packet(frame, headers),
        };
        let verdict = discard(&self.checked, &packet);
        state.counters.discards_refused += u64::from(verdict == Verdict::Forward);
        verdict
    }

    /// Runs the tree on one packet, and sends nothing.
    #[inline(never)]
    fn run_unsent(&self, state: &mut State, frame: &[u8], headers: &Headers) -> Verdict {
        let mut unsent = 0;
        let packets = [packet(frame, headers)];
        let discards = self.walk::<1, 1>(state, &[(frame, headers)], &packets, &mut |_, _| unsent += 1);
        state.counters.generates_unsent += unsent;
        if discards.discarded.is_empty() { Verdict::Forward } else { self.leave(state, &packets[0]) }
    }

    /// Runs the tree on one window.
    fn run_tree<const N: usize, const P: usize>(
        &self,
        state: &mut State,
        window: &[(&[u8], &Headers)],
        verdicts: &mut Vec<Verdict>,
        sink: Sink<'_>,
    ) {
        let mut packets = [Packet::between(window[0].1.src, window[0].1.dst); P];
        for (made, (frame, headers)) in packets.iter_mut().zip(window) {
            *made = packet(frame, headers);
        }
        let packets = &packets[..window.len()];
        let outcome = self.walk::<N, P>(state, window, packets, sink);
        verdicts.extend(packets.iter().enumerate().map(|(p, packet)| match outcome.discarded.contains(p) {
            true => self.leave(state, packet),
            false => Verdict::Forward,
        }));
    }

    fn leave(&self, state: &mut State, packet: &Packet) -> Verdict {
        let verdict = discard(&self.checked, packet);
        state.counters.discards_refused += u64::from(verdict == Verdict::Forward);
        verdict
    }

    fn walk<const N: usize, const P: usize>(
        &self,
        state: &mut State,
        frames: &[(&[u8], &Headers)],
        packets: &[Packet],
        sink: Sink<'_>,
    ) -> Outcome<N> {
        let (program, streams, batch) = (self.program(), state.streams.as_mut(), state.batches);
        let outcome = match self.lowered.tree.slots {
            0..=FEW_SLOTS => Walk::<N, P, FEW_SLOTS>::run(program, frames, packets, streams, batch, sink),
            _ => Walk::<N, P, SLOTS_MAX>::run(program, frames, packets, streams, batch, sink),
        };
        state.batches += u64::from(outcome.generated != 0);
        let counters = &mut state.counters;
        counters.runs_overflowed += u64::from(outcome.end == End::Overflow);
        counters.runs_exhausted += u64::from(outcome.end == End::Exhausted);
        counters.scans_refused += outcome.scans_refused;
        counters.generates_refused += outcome.generates_refused;
        outcome
    }
}

#[cfg(test)]
pub(crate) mod tests;
