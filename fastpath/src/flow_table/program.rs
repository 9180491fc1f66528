//! An installed program: what the workers run, with the state that each keeps for it, and what each counts.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use vinet_pktops::datagram::Sender;
use vinet_pktops::generate::Generated;
use vinet_pktops::parse::Headers;
use vinet_pktops::{Executable, State, Verdict};
use vinet_trusted::addr::Prefix;
use vinet_trusted::gate::{Action, Cell, DiscardPermit};
use vinet_trusted::policy::OverBudget;

use super::cells::ProgramRef;
use super::slots::prefetch;
use crate::publication::Reader;
use crate::region::{NoMemory, Region, Zeroed};
use crate::window::{WindowNumber, WindowTerms};

/// The control core's name for an installation. Never used twice; programs that meet in a cell run in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstallId(pub u64);

impl std::fmt::Display for InstallId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A program to be installed.
#[derive(Clone)]
pub struct Install {
    /// Its name.
    pub id: InstallId,
    /// What runs: lowered from checked bytes.
    pub executable: Arc<Executable>,
    /// The packets a second that it was admitted for, all workers together; 0 is no limit. A program that is no more
    /// than a table verdict is not metered.
    pub packet_rate: u32,
    /// What is done with its packets above that.
    pub over_budget: OverBudget,
    /// What the tags of the packets that it generates are made with. Who has it can have them expanded.
    pub generate_key: [u8; 32],
    /// Whether it is only watched: run and counted as it would be, but nothing is dropped for it and nothing sent, and
    /// above its rate packets go on without it. It meets what the verdicts of others have left, and is metered.
    pub monitor: bool,
}

/// What a program did, all workers together; of one that is only watched, what it would have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramCounts {
    /// Packets given to it.
    pub seen_packets: u64,
    /// Their bytes.
    pub seen_bytes: u64,
    /// Packets it discarded.
    pub discarded_packets: u64,
    /// Their bytes.
    pub discarded_bytes: u64,
    /// Packets not given to it because it was over its packet rate.
    pub over_budget_packets: u64,
    /// Packets that it generated.
    pub generated_packets: u64,
    /// Their bytes, from the IP header on.
    pub generated_bytes: u64,
    /// Packets that it would have generated above the policy's rate.
    pub generate_refused_packets: u64,
}

/// What a program was admitted for.
pub(super) struct Admitted {
    pub(super) packet_rate: u32,
    pub(super) over_budget: OverBudget,
    pub(super) generate_key: [u8; 32],
}

/// What the fast path runs. A private type, so that nothing but an [`Executable`] enters; the tests' model never
/// leaves.
pub(super) enum Body {
    Accepted(Arc<Executable>),
    /// Only watched: every cell is one that it is run in, and what it decides is counted and not done.
    Monitored(Arc<Executable>),
    #[cfg(test)]
    Model(super::tests::Model),
}

/// Leave to drop the packets of a cell: the gate's, asked once when the cell is installed.
#[derive(Clone, Copy)]
pub(super) enum Permit {
    Gate(#[allow(dead_code, reason = "holding it is the proof; nothing reads it")] DiscardPermit),
    #[cfg(test)]
    Model,
}

/// A cell of a program, as the table keeps it.
#[derive(Clone, Copy)]
pub(super) struct ProgramCell {
    pub(super) src: Prefix,
    pub(super) dst: Prefix,
    /// Leave to drop all its packets; `None` where the program is run.
    pub(super) verdict: Option<Permit>,
}

impl Body {
    /// What is run, and is not the tests' model.
    fn executable(&self) -> Option<&Executable> {
        match self {
            Body::Accepted(executable) | Body::Monitored(executable) => Some(executable),
            #[cfg(test)]
            Body::Model(_) => None,
        }
    }
    fn is_monitored(&self) -> bool {
        matches!(self, Body::Monitored(_))
    }
    pub(super) fn cell_count(&self) -> usize {
        match self {
            Body::Accepted(executable) | Body::Monitored(executable) => executable.cells().len(),
            #[cfg(test)]
            Body::Model(model) => model.cells.len(),
        }
    }
    /// Gives its cells to `visit`, which may refuse one.
    pub(super) fn each_cell<E>(&self, mut visit: impl FnMut(ProgramCell) -> Result<(), E>) -> Result<(), E> {
        match self {
            Body::Accepted(executable) => executable.cells().iter().try_for_each(|cell| {
                let verdict = match cell.action() {
                    Action::Discard => cell.permit().map(Permit::Gate),
                    Action::Run => None,
                };
                visit(ProgramCell { src: cell.src(), dst: cell.dst(), verdict })
            }),
            Body::Monitored(executable) => {
                let run = |cell: &Cell| ProgramCell { src: cell.src(), dst: cell.dst(), verdict: None };
                executable.cells().iter().map(run).try_for_each(visit)
            }
            #[cfg(test)]
            Body::Model(model) => model.cells.iter().try_for_each(|&cell| visit(cell)),
        }
    }
    fn runs(&self) -> bool {
        match self {
            Body::Accepted(executable) => !executable.is_verdict(),
            Body::Monitored(_) => true,
            #[cfg(test)]
            Body::Model(model) => model.cells.iter().any(|cell| cell.verdict.is_none()),
        }
    }
    fn state(&self) -> Option<State> {
        self.executable().map(Executable::state)
    }
    /// The terms of its windows; none where it is run on each packet at once, and sends nothing.
    fn window(&self) -> Option<WindowTerms> {
        let executable = self.executable().filter(|executable| !executable.is_verdict())?;
        let packets_max = executable.checked().window();
        let wait_max_ns = u64::from(executable.checked().policy().limits.window_us_max) * 1000;
        (packets_max != 1 || executable.generates()).then_some(WindowTerms { packets_max, wait_max_ns })
    }
    /// What `worker` sends with what it generates.
    fn generator(&self, key: [u8; 32], worker: usize, workers: usize) -> Option<Generator> {
        let checked = self.executable().filter(|executable| executable.generates())?.checked();
        let limits = &checked.policy().limits;
        let sender = Sender {
            program: checked.program_id(),
            key,
            port: limits.generate_port,
            first_batch: first_batch(worker),
            mtu: 0,
        };
        let rate = limits.generate_rate_max;
        let meter = (rate > 0).then(|| Meter::new(rate, workers));
        Some(Generator { sender, meter })
    }
    #[inline]
    fn discards(&self, state: &mut Option<State>, frame: &[u8], headers: &Headers, now_ns: u64) -> bool {
        match (self, state) {
            (Body::Accepted(executable) | Body::Monitored(executable), Some(state)) => {
                match executable.run(state, frame, headers, now_ns) {
                    Verdict::Forward => false,
                    // Only the gate makes a permit, and only with one is the packet dropped.
                    Verdict::Discard(_permit) => true,
                }
            }
            (Body::Accepted(_) | Body::Monitored(_), None) => false,
            #[cfg(test)]
            (Body::Model(model), _) => model.discards,
        }
    }
}

/// Batches are numbered from here on worker `worker`: its number in the highest byte, and below the microseconds of now.
/// So the batches of two workers differ, and those of a later installation are above those of an earlier one, as long as
/// neither made more than a million a second.
fn first_batch(worker: usize) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (worker as u64) << BATCH_WORKER_SHIFT | now.as_micros() as u64 & ((1 << BATCH_WORKER_SHIFT) - 1)
}

/// The bits of a batch's number below the worker's.
pub(crate) const BATCH_WORKER_SHIFT: u32 = 56;

/// What one worker sends with what one program generates.
pub(crate) struct Generator {
    sender: Sender,
    /// None where the policy lets it send nothing.
    meter: Option<Meter>,
}

/// Why nothing of a GENERATE was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The program is above the policy's rate.
    OverRate {
        /// The packets that would have been sent.
        packets: u16,
    },
    /// No packets can carry it: addresses of two families, an MTU below the least, or too many packets.
    Unsendable,
}

impl Generator {
    /// Gives `each` the IP packets of at most `mtu` bytes that carry `generated`: all of them or, above the rate, none,
    /// since a part is of no use without the others. Never allocates.
    pub(crate) fn send(
        &mut self,
        generated: &Generated<'_>,
        mtu: u16,
        now_ns: u64,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), NotSent> {
        self.sender.mtu = mtu;
        let packets = self.sender.parts(generated).map_err(|_| NotSent::Unsendable)?;
        if !self.meter.as_mut().is_some_and(|meter| meter.admits_many(now_ns, packets)) {
            return Err(NotSent::OverRate { packets });
        }
        self.sender.send(generated, each).map(|_| ()).map_err(|_| NotSent::Unsendable)
    }
}

/// A token bucket as one number: the time at which the packets so far would all have been due (GCRA).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    /// Time between packets at the rate; 0 is no limit.
    interval_ns: u64,
    /// How far ahead of the rate packets may come.
    ahead_ns: u64,
    due_ns: u64,
}

/// Packets that may come at once, however low the rate.
const METER_BURST_MIN: u64 = 64;
/// The time for which a burst may be above the rate.
const METER_BURST_NS: u64 = 20_000_000;

impl Meter {
    /// A share of `1 / shares` of `rate_pps` packets a second; 0 is no limit.
    pub(crate) fn new(rate_pps: u32, shares: usize) -> Meter {
        let interval_ns = match rate_pps {
            0 => 0,
            rate => 1_000_000_000 * shares.max(1) as u64 / u64::from(rate),
        };
        Meter { interval_ns, ahead_ns: (interval_ns * METER_BURST_MIN).max(METER_BURST_NS), due_ns: 0 }
    }
    /// One with a burst of exactly so many packets.
    pub(crate) fn with_burst(rate_pps: u32, burst: u32) -> Meter {
        let interval_ns = 1_000_000_000 / u64::from(rate_pps.max(1));
        Meter { interval_ns, ahead_ns: interval_ns * u64::from(burst.max(1)), due_ns: 0 }
    }
    /// Whether a packet now is within the rate; if so it is counted.
    #[inline]
    pub(crate) fn admits(&mut self, now_ns: u64) -> bool {
        let due_ns = self.due_ns.max(now_ns);
        if self.interval_ns != 0 && due_ns - now_ns > self.ahead_ns.saturating_sub(self.interval_ns) {
            return false;
        }
        self.due_ns = due_ns + self.interval_ns;
        true
    }
    /// Whether packets that belong together are within the rate: if the first of them is, all are counted, so that the
    /// rate holds in the long run however many they are.
    pub(crate) fn admits_many(&mut self, now_ns: u64, packets: u16) -> bool {
        if packets == 0 {
            return true;
        }
        let admitted = self.admits(now_ns);
        if admitted {
            self.due_ns = self.due_ns.saturating_add(self.interval_ns * u64::from(packets - 1));
        }
        admitted
    }
}

/// What one worker keeps for a program that runs.
#[repr(align(64))]
struct WorkerPart(UnsafeCell<WorkerState>);

struct WorkerState {
    state: Option<State>,
    meter: Meter,
    /// The window that takes its next packet, if that still exists.
    window: Option<WindowNumber>,
    generator: Option<Generator>,
}

// SAFETY: part `i` is touched by the one reader of worker `i` only (`Installed::with_part`), and dropped with the whole
// when every reader has passed; `WorkerState` may move between threads.
unsafe impl Sync for WorkerPart where WorkerState: Send {}

/// An installed program.
pub(crate) struct Installed {
    pub(super) id: InstallId,
    /// Its place among the counters.
    pub(super) slot: u32,
    pub(super) body: Body,
    over_budget: OverBudget,
    window: Option<WindowTerms>,
    /// One for each worker; none where every cell is a verdict.
    parts: Box<[WorkerPart]>,
}

/// What came of running a program on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It goes on to the next program.
    Forward,
    /// The program discarded it.
    Discard,
    /// The program is only watched, and would have discarded it.
    WouldDiscard,
    /// The program is over its rate: forward without it.
    OverBudgetForward,
    /// The program is over its rate: drop.
    OverBudgetDrop,
}

impl Installed {
    pub(super) fn new(id: InstallId, slot: u32, body: Body, terms: &Admitted, workers: usize) -> Installed {
        let count = if body.runs() { workers } else { 0 };
        let part = |worker| WorkerState {
            state: body.state(),
            meter: Meter::new(terms.packet_rate, workers),
            window: None,
            generator: body.generator(terms.generate_key, worker, workers),
        };
        let parts = (0..count).map(|worker| WorkerPart(UnsafeCell::new(part(worker)))).collect();
        let over_budget = if body.is_monitored() { OverBudget::Forward } else { terms.over_budget };
        Installed { id, slot, window: body.window(), body, over_budget, parts }
    }

    /// Whether it is only watched: what it decides is counted and not done.
    #[inline]
    pub(crate) fn is_monitored(&self) -> bool {
        self.body.is_monitored()
    }

    /// The terms of its windows; none where it is run on each packet at once, by [`Installed::run`].
    #[inline]
    pub(crate) fn window(&self) -> Option<WindowTerms> {
        self.window
    }

    /// Lends the worker of `reader` its part. `f` must not come back to this program.
    #[inline]
    fn with_part<R>(&self, reader: &Reader, f: impl FnOnce(&mut WorkerState) -> R) -> Option<R> {
        let part = self.parts.get(reader.worker())?;
        // SAFETY: there is one `Reader` for each worker of a domain (`Domain::new` makes one place for each, and
        // joining consumes it), it is neither `Clone` nor `Sync`, and this reference ends before the call does;
        // nothing called below comes back here: `f` is one of the closures of this file, of which only that of
        // `run_window` calls out, to a worker that sends packets and touches no program. So no other reference to this
        // part exists.
        Some(f(unsafe { &mut *part.0.get() }))
    }

    /// Counts a packet against the program's rate; what becomes of it above that, where it is.
    #[inline]
    pub(crate) fn meter(&self, reader: &Reader, now_ns: u64) -> Option<OverBudget> {
        let admitted = self.with_part(reader, |part| part.meter.admits(now_ns));
        (admitted == Some(false)).then_some(self.over_budget)
    }

    /// The window that takes its next packet on the worker of `reader`, as it was told last.
    #[inline]
    pub(crate) fn open_window(&self, reader: &Reader) -> Option<WindowNumber> {
        self.with_part(reader, |part| part.window).flatten()
    }

    /// Takes note of the window that takes its next packet on the worker of `reader`.
    #[inline]
    pub(crate) fn set_open_window(&self, reader: &Reader, window: Option<WindowNumber>) {
        self.with_part(reader, |part| part.window = window);
    }

    /// Runs it on the packets of one window, in order, as the worker of `reader`, and adds a verdict for each to
    /// `verdicts`. `send` is given what it generates, and what it is sent with; it must not come back to this program.
    pub(crate) fn run_window(
        &self,
        reader: &Reader,
        packets: &[(&[u8], &Headers)],
        now_ns: u64,
        verdicts: &mut Vec<Verdict>,
        send: &mut dyn FnMut(&Generated<'_>, &mut Generator),
    ) {
        self.with_part(reader, |part| match (self.body.executable(), &mut part.state, &mut part.generator) {
            (Some(executable), Some(state), generator) => {
                executable.run_window(state, packets, now_ns, verdicts, &mut |_leave, generated| {
                    if let Some(generator) = generator {
                        send(&generated, generator);
                    }
                });
            }
            _ => verdicts.extend(packets.iter().map(|_| Verdict::Forward)),
        });
    }

    /// Runs it on one packet, as the worker of `reader`.
    #[inline]
    pub(crate) fn run(&self, reader: &Reader, frame: &[u8], headers: &Headers, now_ns: u64) -> Outcome {
        let ran = self.with_part(reader, |part| {
            if !part.meter.admits(now_ns) {
                return match self.over_budget {
                    OverBudget::Forward => Outcome::OverBudgetForward,
                    OverBudget::Drop => Outcome::OverBudgetDrop,
                };
            }
            match self.body.discards(&mut part.state, frame, headers, now_ns) {
                true if self.is_monitored() => Outcome::WouldDiscard,
                true => Outcome::Discard,
                false => Outcome::Forward,
            }
        });
        ran.unwrap_or(Outcome::Forward)
    }
}

/// The programs, by slot. They are owned here, so that workers may go after the writer.
pub(super) struct Programs {
    slots: Region<AtomicPtr<Installed>>,
    /// Slots from here on were never used.
    used: AtomicU32,
}

impl Programs {
    pub(super) fn new(slots: u32) -> Result<Programs, NoMemory> {
        Ok(Programs { slots: Region::new(slots as usize)?, used: AtomicU32::new(0) })
    }

    /// The program in a slot. The caller got the slot from something that leads to it (a cell, as a worker or as the
    /// writer, or the writer's own list), and what it got it from is not gone while it borrows.
    #[inline]
    pub(super) fn program(&self, slot: u32) -> &Installed {
        // SAFETY: the pointer was stored before any act that leads to it, and comes from a box. The writer takes it out
        // when every worker has passed the epoch in which the last such act was replaced; who got the slot from one
        // has not reported since.
        unsafe { &*self.slots[slot as usize].load(Ordering::Acquire) }
    }

    /// The program in a slot, for the writer to keep in a chain.
    pub(super) fn reference(&self, slot: u32) -> ProgramRef {
        let program = self.program(slot);
        ProgramRef { id: program.id, slot, installed: program }
    }

    /// Fetches the way to a program.
    #[inline(always)]
    pub(super) fn prefetch(&self, slot: u32) {
        prefetch(&self.slots[slot as usize]);
    }

    /// For the writer: puts a program into a slot that is free.
    pub(super) fn put(&self, slot: u32, program: Installed) -> ProgramRef {
        self.used.fetch_max(slot + 1, Ordering::Relaxed);
        let (id, installed) = (program.id, Box::into_raw(Box::new(program)));
        self.slots[slot as usize].store(installed, Ordering::Release);
        ProgramRef { id, slot, installed }
    }

    /// For the writer: frees a program that no worker can reach any more, or that none ever could.
    pub(super) fn free(&self, slot: u32) {
        let program = self.slots[slot as usize].swap(std::ptr::null_mut(), Ordering::Relaxed);
        if !program.is_null() {
            // SAFETY: it came from `Box::into_raw`, and is out of its place, so this is done once. Nobody can reach
            // it: the caller's promise, kept by retiring it with the epoch in which it was withdrawn.
            drop(unsafe { Box::from_raw(program) });
        }
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for slot in 0..self.used.load(Ordering::Relaxed) {
            self.free(slot);
        }
    }
}

/// One worker's counts of the packets of one program that it discarded, which is all that a verdict needs. Apart from the
/// others, so that those of four programs are in one cache line.
#[derive(Debug)]
#[repr(C, align(16))]
struct Discards {
    packets: AtomicU64,
    bytes: AtomicU64,
}

/// One worker's other counts of one program.
#[derive(Debug)]
#[repr(C, align(16))]
struct Counts {
    passed_packets: AtomicU64,
    passed_bytes: AtomicU64,
    over_budget_packets: AtomicU64,
    generated_packets: AtomicU64,
    generated_bytes: AtomicU64,
    generate_refused_packets: AtomicU64,
}

// SAFETY: an atomic has the layout of its number, and zero is a number.
unsafe impl Zeroed for Discards {}
// SAFETY: as above.
unsafe impl Zeroed for Counts {}

/// What one worker counts. Only that worker writes it.
pub(super) struct WorkerCounts {
    discards: Region<Discards>,
    counts: Region<Counts>,
}

impl WorkerCounts {
    /// Fetches what is counted where the program in `slot` discards a packet.
    #[inline(always)]
    pub(super) fn prefetch(&self, slot: u32) {
        prefetch(&self.discards[slot as usize]);
    }
}

/// The counts of all programs, for each worker: arrays over slots, used as far as slots are.
pub(crate) struct ProgramCounters {
    workers: Vec<WorkerCounts>,
}

/// Adds to a number that only this thread writes.
#[inline]
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

impl ProgramCounters {
    pub(super) fn new(workers: usize, slots: u32) -> Result<ProgramCounters, NoMemory> {
        let slots = slots as usize;
        let of_worker = |_| Ok(WorkerCounts { discards: Region::new(slots)?, counts: Region::new(slots)? });
        Ok(ProgramCounters { workers: (0..workers).map(of_worker).collect::<Result<_, _>>()? })
    }

    /// Those of the worker of `reader`.
    #[inline(always)]
    pub(super) fn of(&self, reader: &Reader) -> &WorkerCounts {
        &self.workers[reader.worker()]
    }

    #[inline(always)]
    fn counts(&self, reader: &Reader, slot: u32) -> &Counts {
        &self.of(reader).counts[slot as usize]
    }

    /// Counts a packet that the worker of `reader` gave to the program in `slot`, and that it let pass.
    #[inline]
    pub(crate) fn passed(&self, reader: &Reader, slot: u32, bytes: usize) {
        let counts = self.counts(reader, slot);
        add(&counts.passed_packets, 1);
        add(&counts.passed_bytes, bytes as u64);
    }
    /// Counts a packet that was given to the program, and that it discarded.
    #[inline]
    pub(crate) fn discarded(&self, reader: &Reader, slot: u32, bytes: usize) {
        let discards = &self.of(reader).discards[slot as usize];
        add(&discards.packets, 1);
        add(&discards.bytes, bytes as u64);
    }
    /// Counts a packet that was above the program's rate.
    #[inline]
    pub(crate) fn over_budget(&self, reader: &Reader, slot: u32) {
        add(&self.counts(reader, slot).over_budget_packets, 1);
    }

    /// Counts a packet that the program generated.
    pub(crate) fn generated(&self, reader: &Reader, slot: u32, bytes: usize) {
        let counts = self.counts(reader, slot);
        add(&counts.generated_packets, 1);
        add(&counts.generated_bytes, bytes as u64);
    }
    /// Counts packets that the program would have generated above the policy's rate.
    pub(crate) fn generate_refused(&self, reader: &Reader, slot: u32, packets: u16) {
        add(&self.counts(reader, slot).generate_refused_packets, u64::from(packets));
    }

    pub(super) fn sum(&self, slot: u32) -> ProgramCounts {
        let mut sum = ProgramCounts::default();
        for worker in &self.workers {
            let (discards, counts) = (&worker.discards[slot as usize], &worker.counts[slot as usize]);
            sum.discarded_packets += discards.packets.load(Ordering::Relaxed);
            sum.discarded_bytes += discards.bytes.load(Ordering::Relaxed);
            sum.seen_packets += counts.passed_packets.load(Ordering::Relaxed);
            sum.seen_bytes += counts.passed_bytes.load(Ordering::Relaxed);
            sum.over_budget_packets += counts.over_budget_packets.load(Ordering::Relaxed);
            sum.generated_packets += counts.generated_packets.load(Ordering::Relaxed);
            sum.generated_bytes += counts.generated_bytes.load(Ordering::Relaxed);
            sum.generate_refused_packets += counts.generate_refused_packets.load(Ordering::Relaxed);
        }
        sum.seen_packets += sum.discarded_packets;
        sum.seen_bytes += sum.discarded_bytes;
        sum
    }

    /// Zeros a slot that no worker reaches any more. What was never counted is not touched, so that it needs no memory.
    pub(super) fn clear(&self, slot: u32) {
        for worker in &self.workers {
            let (discards, counts) = (&worker.discards[slot as usize], &worker.counts[slot as usize]);
            for count in [
                &discards.packets,
                &discards.bytes,
                &counts.passed_packets,
                &counts.passed_bytes,
                &counts.over_budget_packets,
                &counts.generated_packets,
                &counts.generated_bytes,
                &counts.generate_refused_packets,
            ] {
                if count.load(Ordering::Relaxed) != 0 {
                    count.store(0, Ordering::Relaxed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_admits_its_burst_and_then_its_rate() {
        let mut meter = Meter::with_burst(1000, 10);
        assert_eq!((0..50).filter(|_| meter.admits(5)).count(), 10);
        assert!(!meter.admits(900_000));
        assert!(meter.admits(1_100_000));
        assert!(!meter.admits(1_200_000));
        let mut unlimited = Meter::new(0, 1);
        assert!((0..100_000).all(|_| unlimited.admits(5)));
        let mut share = Meter::new(1_000_000, 2);
        let admitted = (0..2_000_000u64).filter(|i| share.admits(i * 1000)).count();
        assert!((1_000_000..=1_020_001).contains(&admitted), "{admitted} of 2 s at half a million a second");
    }
}
