//! Tracing: the first bytes of some packets with what became of them, for an operator who asks why.
//!
//! Holding the [`Tracer`] makes one the only one who says what is traced, and who takes the records. An order is
//! published as everything that workers read: each follows it from its next turn on. A worker copies the packets that it
//! samples into a ring of its own as it is done with them; it never waits for room, and counts what found none. While
//! nothing is traced this costs a worker one branch a burst.
//!
//! What became of a packet is told by what the worker counted for it, so nothing on the packet's way knows of tracing. A
//! packet that waits in a program's window has a record then, and another when it leaves the window; of one that is held
//! for its next hop, or queued for a port, it is not told what comes later.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};
use vinet_trusted::addr::{Addr, Prefix};

use crate::drop_reason::DropReason;
use crate::flow_table::InstallId;
use crate::publication::{Domain, Published, Reader, Retired};

/// The most bytes of a packet that a record holds.
pub const TRACE_BYTES_MAX: usize = 128;
/// The most programs that a record names.
pub const ACTED_MAX: usize = 8;
/// Records that wait for the control side, for each worker.
pub const TRACE_RING_LEN: usize = 512;
/// Replaced orders that may wait for the workers; beyond it [`Tracer::start`] refuses.
pub const RETIRED_ORDERS_MAX: usize = 64;

/// Which packets are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceOrder {
    /// Only packets from these sources. `None`: from any; what is not IP is traced only where both are `None`.
    pub src: Option<Prefix>,
    /// Only packets to these destinations.
    pub dst: Option<Prefix>,
    /// One in so many of them, by chance. 0 is taken for 1: all.
    pub one_in: u32,
    /// The first bytes of each frame, at most [`TRACE_BYTES_MAX`].
    pub bytes: usize,
}

impl TraceOrder {
    fn is_about(&self, pair: Option<(Addr, Addr)>) -> bool {
        match pair {
            Some((src, dst)) => {
                self.src.is_none_or(|prefix| prefix.contains(src)) && self.dst.is_none_or(|prefix| prefix.contains(dst))
            }
            None => self.src.is_none() && self.dst.is_none(),
        }
    }
}

/// What a program decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It let it pass.
    Pass,
    /// It discarded it.
    Discard,
    /// It is only watched, and would have discarded it.
    WouldDiscard,
    /// It was over its packet rate, and not asked.
    OverBudget,
    /// It decides when its window is run.
    Wait,
}

impl Decision {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Decision::Pass => "pass",
            Decision::Discard => "discard",
            Decision::WouldDiscard => "would_discard",
            Decision::OverBudget => "over_budget",
            Decision::Wait => "wait",
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was put into the output queue of a port.
    Sent {
        /// Which.
        port: u16,
    },
    /// It was dropped.
    Dropped(DropReason),
    /// It was given to the kernel.
    Kernel,
    /// It waits for the address of its next hop.
    Held,
    /// It waits in the window of a program.
    Window(InstallId),
    /// The expander took it up.
    Expanded,
}

impl Fate {
    /// Its name; of a drop, the reason's is another.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fate::Sent { .. } => "sent",
            Fate::Dropped(_) => "dropped",
            Fate::Kernel => "kernel",
            Fate::Held => "held",
            Fate::Window(_) => "window",
            Fate::Expanded => "expanded",
        }
    }
}

/// One packet that was traced.
#[derive(Clone, Copy)]
pub struct Traced {
    /// The worker that had it.
    pub worker: u16,
    /// When, by [`crate::clock::Clock`].
    pub at_ns: u64,
    /// The port that it came by.
    pub input: u16,
    /// The bytes of its frame.
    pub len: u32,
    /// What became of it.
    pub fate: Fate,
    bytes: [u8; TRACE_BYTES_MAX],
    bytes_len: u8,
    acted: Acted,
}

impl Traced {
    /// The first bytes of its frame, as it came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.bytes_len)]
    }
    /// The programs that it met, in order, with what each decided: the first [`ACTED_MAX`].
    #[must_use]
    pub fn acted(&self) -> &[(InstallId, Decision)] {
        &self.acted.programs[..self.acted.count.min(ACTED_MAX)]
    }
    /// How many programs it met.
    #[must_use]
    pub fn acted_count(&self) -> usize {
        self.acted.count
    }
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traced")
            .field("worker", &self.worker)
            .field("input", &self.input)
            .field("len", &self.len)
            .field("fate", &self.fate)
            .field("acted", &self.acted())
            .finish_non_exhaustive()
    }
}

/// The programs that a packet met.
#[derive(Clone, Copy)]
pub(crate) struct Acted {
    programs: [(InstallId, Decision); ACTED_MAX],
    count: usize,
}

impl Acted {
    pub(crate) const NONE: Acted = Acted { programs: [(InstallId(0), Decision::Pass); ACTED_MAX], count: 0 };
    pub(crate) fn push(&mut self, program: InstallId, decision: Decision) {
        if let Some(place) = self.programs.get_mut(self.count) {
            *place = (program, decision);
        }
        self.count += 1;
    }
}

/// The workers' way to the order.
pub(crate) struct TraceRoot {
    root: Published<Option<TraceOrder>>,
}

impl TraceRoot {
    /// What is traced now, if anything.
    #[inline]
    pub(crate) fn order<'r>(&'r self, reader: &'r Reader) -> Option<&'r TraceOrder> {
        self.root.read(reader).as_ref()
    }
}

/// A worker's end: where its records go.
pub(crate) struct TraceEnd {
    worker: u16,
    records: Producer<Traced>,
    lost: Arc<[AtomicU64]>,
    /// The state of a generator of chance (xorshift, Marsaglia 2003): never 0.
    chance: u64,
    /// The bytes of each packet, by the newest order.
    bytes: usize,
}

impl TraceEnd {
    /// Whether a packet between these addresses, `None` where it has none, is one to trace.
    pub(crate) fn samples(&mut self, order: &TraceOrder, pair: Option<(Addr, Addr)>) -> bool {
        if !order.is_about(pair) {
            return false;
        }
        self.bytes = order.bytes.min(TRACE_BYTES_MAX);
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance.is_multiple_of(u64::from(order.one_in.max(1)))
    }

    /// The record of a packet that is whole and has not met a program yet; its fate is still to be told.
    pub(crate) fn begin(&self, frame: &[u8], input: u16, at_ns: u64) -> Traced {
        let len = frame.len().min(self.bytes);
        let mut bytes = [0; TRACE_BYTES_MAX];
        bytes[..len].copy_from_slice(&frame[..len]);
        let (worker, bytes_len) = (self.worker, len as u8);
        Traced { worker, at_ns, input, len: frame.len() as u32, fate: Fate::Held, bytes, bytes_len, acted: Acted::NONE }
    }

    /// Gives a record to the control side, if there is room.
    pub(crate) fn end(&mut self, record: Traced, fate: Fate, acted: Acted) {
        if self.records.push(Traced { fate, acted, ..record }).is_err()
            && let Some(lost) = self.lost.get(usize::from(self.worker))
        {
            // Only this worker writes it, and who reads it wants no more than the number.
            lost.store(lost.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }
}

/// Why an order was not published: workers have not passed the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceBusy;

impl fmt::Display for TraceBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{RETIRED_ORDERS_MAX} replaced trace orders wait for workers that do not report; try again later")
    }
}
impl std::error::Error for TraceBusy {}

/// The control side: says what is traced, and takes the records.
pub struct Tracer {
    domain: Domain,
    root: Arc<TraceRoot>,
    retired: VecDeque<Retired<Option<TraceOrder>>>,
    is_on: bool,
    records: Vec<Consumer<Traced>>,
    /// The worker that is asked first for the next record.
    turn: usize,
    lost: Arc<[AtomicU64]>,
}

impl Tracer {
    /// A tracer that traces nothing, the workers' way to its orders, and their ends, in order.
    pub(crate) fn new(domain: Domain) -> (Tracer, Arc<TraceRoot>, Vec<TraceEnd>) {
        let workers = domain.workers();
        let root = Arc::new(TraceRoot { root: Published::new(domain.clone(), Box::new(None)) });
        let lost: Arc<[AtomicU64]> = (0..workers).map(|_| AtomicU64::new(0)).collect();
        let (ends, records) = (0..workers as u16)
            .map(|worker| {
                let (producer, consumer) = RingBuffer::new(TRACE_RING_LEN);
                let chance = 0x9e37_79b9_7f4a_7c15 ^ u64::from(worker);
                (TraceEnd { worker, records: producer, lost: lost.clone(), chance, bytes: 0 }, consumer)
            })
            .unzip();
        let (retired, is_on) = (VecDeque::new(), false);
        (Tracer { domain, root: root.clone(), retired, is_on, records, turn: 0, lost }, root, ends)
    }

    /// Traces what `order` says, and nothing else, from the workers' next turns on.
    ///
    /// # Errors
    /// [`TraceBusy`]; nothing is changed then.
    pub fn start(&mut self, order: TraceOrder) -> Result<(), TraceBusy> {
        self.publish(Some(order))
    }

    /// Traces nothing any more. Records that wait may still be taken.
    ///
    /// # Errors
    /// [`TraceBusy`]; nothing is changed then.
    pub fn stop(&mut self) -> Result<(), TraceBusy> {
        self.publish(None)
    }

    fn publish(&mut self, order: Option<TraceOrder>) -> Result<(), TraceBusy> {
        let passed = self.domain.passed();
        while let Some(oldest) = self.retired.pop_front() {
            if let Err(oldest) = oldest.free(passed) {
                self.retired.push_front(oldest);
                break;
            }
        }
        if self.retired.len() >= RETIRED_ORDERS_MAX {
            return Err(TraceBusy);
        }
        self.is_on = order.is_some();
        let mut publish = self.domain.publish();
        let before = self.root.root.replace(Box::new(order), &mut publish);
        publish.commit();
        self.retired.push_back(before);
        Ok(())
    }

    /// Whether something is traced.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// The next record, of the workers in turn. It never waits.
    #[allow(clippy::should_implement_trait, reason = "there may be a next one after none")]
    pub fn next(&mut self) -> Option<Traced> {
        for _ in 0..self.records.len() {
            let worker = self.turn;
            self.turn = (worker + 1) % self.records.len();
            if let Ok(record) = self.records[worker].pop() {
                return Some(record);
            }
        }
        None
    }

    /// Packets that were sampled and whose records found no room, since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.iter().map(|lost| lost.load(Ordering::Relaxed)).sum()
    }
}
