//! Executables: accepted programs, lowered, and the state that a worker keeps for one.
//!
//! Holding an [`Executable`] proves that the checker accepted the program for its owner: it is made from a `Checked`
//! alone. Its [`Executable::cells`] are what a flow table publishes; where their action is `Run`, every packet of the
//! cell is given to [`Executable::run`]. That packets of one flow come to one worker is the caller's part.

use crate::contains_string::Words;
use crate::discard::discard;
use crate::lower::{LowerError, Place, Plan, Question};
use crate::parse::{Headers, Transport, transport};
use crate::stream::{Counters, FlowKey, Streams};
use std::sync::Arc;
use vinet_trusted::check::Checked;
use vinet_trusted::gate::{Action, Cell, NotAllowed};

pub use crate::discard::Verdict;

/// A program that can run. It never changes, and workers share it.
#[derive(Debug)]
pub struct Executable {
    checked: Arc<Checked>,
    cells: Vec<Cell>,
    runner: Runner,
}

/// What one worker keeps for one program: the contents of TCP flows, in memory that is all allocated at the start.
#[derive(Debug)]
pub struct State {
    streams: Option<Streams>,
}

impl State {
    /// What was lost to the limits of the policy, and what there is.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.streams.as_ref().map(Streams::counters).unwrap_or_default()
    }
    /// The memory that it holds, at most what `Checked::state_bytes` says.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.streams.as_ref().map_or(0, Streams::memory_bytes)
    }
}

/// The decision without the leave: a plan and the searchers of its words.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) plan: Plan,
    words: Words,
}

impl Runner {
    pub(crate) fn new(plan: Plan, words: &[Vec<u8>]) -> Runner {
        Runner { plan, words: Words::new(words) }
    }

    pub(crate) fn state(&self, flows_max: usize, islands_max: usize) -> State {
        let longest = self.words.longest();
        State { streams: (longest > 0).then(|| Streams::new(flows_max, islands_max, longest)) }
    }

    /// Whether the program discards the packet.
    #[inline]
    pub(crate) fn discards(&self, state: &mut State, frame: &[u8], headers: &Headers) -> bool {
        let (wanted, remainder) = match self.plan.question(headers) {
            Question::Answered(answer) => return answer,
            Question::Words(wanted, remainder) => (wanted, remainder),
        };
        let (Some(streams), true) = (&mut state.streams, wanted != 0) else {
            return remainder.discards(headers, |_| false);
        };
        match transport(frame, headers) {
            Transport::Tcp(tcp) => {
                // The history needs every packet, so it is kept before anything is decided.
                let key = FlowKey::new(headers.src, headers.dst, tcp.src_port, tcp.dst_port);
                let payload = &frame[tcp.payload.clone()];
                let found = streams.observe(&self.words, wanted, key, &tcp, payload);
                remainder.discards(headers, |word| found >> word & 1 != 0)
            }
            other => {
                let payload = &frame[other.payload()];
                remainder.discards(headers, |word| self.words.contains(payload, word))
            }
        }
    }
}

impl Executable {
    /// Lowers an accepted program. It may take milliseconds: it is for the control core.
    ///
    /// # Errors
    /// [`LowerError`]; a program that the checker accepts under a policy that lets it see the packets it asks about
    /// always lowers.
    pub fn lower(checked: Arc<Checked>) -> Result<Executable, LowerError> {
        let program = checked.program();
        let plan = Plan::new(program, checked.owner())?;
        let make = |action: Action, places: &[Place]| -> Result<Vec<Cell>, NotAllowed> {
            places.iter().map(|place| Cell::new(&checked, place.src, place.dst, action)).collect()
        };
        let (action, places) = plan.cells();
        let cells = match make(action, &places) {
            Ok(cells) => cells,
            // Where the policy cannot be told of a cell as a whole, it is asked packet by packet.
            Err(_) if action == Action::Discard => make(Action::Run, &plan.runs())?,
            Err(e) => return Err(e.into()),
        };
        let runner = Runner::new(plan, program.words());
        Ok(Executable { checked, cells, runner })
    }
    /// What the checker accepted.
    #[must_use]
    pub const fn checked(&self) -> &Arc<Checked> {
        &self.checked
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
    /// What one worker keeps for it. All its memory is allocated here.
    #[must_use]
    pub fn state(&self) -> State {
        if self.is_verdict() {
            return State { streams: None };
        }
        let limits = &self.checked.policy().limits;
        self.runner.state(limits.stream_flows_max as usize, usize::from(limits.stream_islands_max))
    }
    /// Runs it on one packet. `state` is one of its own; `now_ns` is the worker's clock, which no routine of this
    /// version looks at.
    #[must_use]
    #[inline]
    pub fn run(&self, state: &mut State, frame: &[u8], headers: &Headers, now_ns: u64) -> Verdict {
        let _ = now_ns;
        if self.runner.discards(state, frame, headers) { discard(&self.checked, headers) } else { Verdict::Forward }
    }
    /// Runs it on the packets of a burst, in order, and adds a verdict for each to `verdicts`. Windows hold one packet,
    /// so this equals running them one by one. With room in `verdicts` it does not allocate.
    pub fn run_window<'f>(
        &self,
        state: &mut State,
        packets: impl IntoIterator<Item = (&'f [u8], &'f Headers)>,
        now_ns: u64,
        verdicts: &mut Vec<Verdict>,
    ) {
        verdicts.extend(packets.into_iter().map(|(frame, headers)| self.run(state, frame, headers, now_ns)));
    }
}

#[cfg(test)]
mod tests;
