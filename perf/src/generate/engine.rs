//! One trial: packets are sent at their times, whatever becomes of them, and those that come back are counted.
//!
//! The loop is open. Each packet has a time at which it ought to be sent, which nothing moves; a packet that is sent late,
//! because the generator or the device before it was slow, carries the time at which it ought to have been sent, and its
//! latency counts from there. So a stall is seen by all packets that it delays, not by one (no coordinated omission).
//! What cannot be sent by the end of the trial, and a grace behind it, is a shortfall of the offered load, which the report
//! tells; a trial with more of it than [`SHORTFALL_MAX`] is void.
//!
//! One thread sends and receives, so that times of both are of one clock on one core, and nothing is allocated between the
//! first packet and the last.

use super::plan::Plan;
use super::rate::{Pace, Schedule};
use super::stamp::Stamp;
use super::tracker::{Arrivals, Tracker};
use crate::latency::Latencies;
use crate::run::PerfError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use vinet_fastpath::clock::Clock;
use vinet_fastpath::port::{Burst, PacketBuf, PacketPool, RxQueue, TxQueue};

/// The most that may lack of the intended load in a trial that counts: a thousandth.
pub const SHORTFALL_MAX: f64 = 0.001;
/// Packets of a burst.
const BURST_LEN: usize = 32;
/// How long behind the last intended send time packets may still be sent: a thousandth of the trial, this at least.
const GRACE_NS_MIN: u64 = 2_000_000;
/// From the setting of the clock to the first packet.
const LEAD_NS: u64 = 1_000_000;
/// Bursts that are thrown away before a trial, at most: more than any ring holds.
const STALE_BURSTS_MAX: usize = 1 << 14;
/// The most samples of one trial.
const SAMPLES_MAX: usize = 100_000;

/// What happens to a packet that the transmit ring has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RingFull {
    /// It waits: for devices that send at the line's rate whatever the receiver does, as NICs do.
    Wait,
    /// It counts as sent and lost: for links in memory, whose ring is full because the system under test is slow.
    Lose,
}

/// How a trial is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The times.
    pub pace: Pace,
    /// How long packets are sent.
    pub duration_ns: u64,
    /// How long is waited behind that for the last ones, at most.
    pub drain_ns: u64,
    /// See there.
    pub ring_full: RingFull,
    /// Between samples.
    pub sample_ns: u64,
    /// Which trial this is; packets of others are foreign.
    pub tag: u16,
}

/// The generator's ends of the testbed.
pub struct Ends<R, T, P> {
    /// Where packets come back.
    pub rx: R,
    /// Where they go out.
    pub tx: T,
    /// Buffers.
    pub pool: P,
}

/// What other threads see of a trial while it runs, and tell it.
#[derive(Debug, Default)]
pub struct Watch {
    /// End the trial now.
    pub stop: AtomicBool,
    /// Packets sent so far.
    pub sent: AtomicU64,
    /// Packets back so far.
    pub received: AtomicU64,
}

/// Counts up to some time of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Nanoseconds from the start.
    pub at_ns: u64,
    /// Packets handed to the device, those without room included.
    pub sent: u64,
    /// Packets that the ring had no room for.
    pub refused: u64,
    /// Packets back.
    pub received: u64,
}

/// What a trial gave.
#[derive(Debug)]
pub struct Outcome {
    /// Packets that ought to have been sent.
    pub intended: u64,
    /// Packets that were: handed to the device, those without room included.
    pub sent: u64,
    /// Bytes of those on the wire.
    pub sent_bytes: u64,
    /// Packets that the ring had no room for, and that count as lost.
    pub refused: u64,
    /// What the numbers of those that came back say; for packets without a stamp the count alone.
    pub arrivals: Arrivals,
    /// Packets that came back without a stamp where all have one, or with the stamp of another trial.
    pub foreign: u64,
    /// Turns in which there was no buffer for a packet that was due.
    pub no_buffer: u64,
    /// From the intended send time to the arrival.
    pub latencies: Latencies,
    /// How late packets were sent; one figure for each burst, its oldest packet's.
    pub lateness: Latencies,
    /// How long packets were to be sent.
    pub duration_ns: u64,
    /// Counts over the time.
    pub samples: Vec<Sample>,
    /// Whether it was ended before its time.
    pub is_stopped: bool,
}

impl Outcome {
    /// Packets sent and not back.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.arrivals.received)
    }
    /// Of what was sent.
    pub fn loss_ratio(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.lost() as f64 / self.sent as f64 }
    }
    /// What lacks of the intended load.
    pub fn shortfall(&self) -> f64 {
        if self.intended == 0 { 0.0 } else { 1.0 - self.sent as f64 / self.intended as f64 }
    }
    /// Why this trial measured something else than it should have.
    pub fn void(&self) -> Option<String> {
        (!self.is_stopped && self.shortfall() > SHORTFALL_MAX).then(|| {
            format!(
                "{} of {} packets were offered, {:.2} % less than intended: the generator or the device cannot do this rate",
                self.sent,
                self.intended,
                self.shortfall() * 100.0
            )
        })
    }
    /// Packets offered, a second.
    pub fn offered_pps(&self) -> f64 {
        self.sent as f64 * 1e9 / self.duration_ns.max(1) as f64
    }
    /// Packets back, a second of the sending.
    pub fn received_pps(&self) -> f64 {
        self.arrivals.received as f64 * 1e9 / self.duration_ns.max(1) as f64
    }
}

/// Runs a trial on the calling thread.
pub fn run<R, T, P>(
    ends: &mut Ends<R, T, P>,
    plan: &Plan,
    settings: &Settings,
    watch: &Watch,
) -> Result<Outcome, PerfError>
where
    R: RxQueue<Buf = T::Buf>,
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
{
    let mut trial = Trial {
        plan,
        schedule: Schedule::new(settings.pace.clone()),
        place: 0,
        start_ns: 0,
        tracker: Tracker::new(),
        outcome: Outcome {
            intended: 0,
            sent: 0,
            sent_bytes: 0,
            refused: 0,
            arrivals: Arrivals::default(),
            foreign: 0,
            no_buffer: 0,
            latencies: Latencies::new()?,
            lateness: Latencies::new()?,
            duration_ns: settings.duration_ns,
            samples: Vec::with_capacity(
                ((settings.duration_ns / settings.sample_ns.max(1)) as usize).min(SAMPLES_MAX) + 2,
            ),
            is_stopped: false,
        },
        tag: settings.tag,
        counts_all: !plan.is_stamped(),
    };
    trial.go(ends, settings, watch);
    Ok(trial.outcome)
}

struct Trial<'a> {
    plan: &'a Plan,
    schedule: Schedule,
    /// The place of the next packet in the cycle.
    place: usize,
    start_ns: u64,
    tracker: Tracker,
    outcome: Outcome,
    tag: u16,
    /// Whether packets without a stamp count as ours.
    counts_all: bool,
}

impl Trial<'_> {
    fn go<R, T, P>(&mut self, ends: &mut Ends<R, T, P>, settings: &Settings, watch: &Watch)
    where
        R: RxQueue<Buf = T::Buf>,
        T: TxQueue,
        P: PacketPool<Buf = T::Buf>,
    {
        let clock = Clock::get();
        let mut out = Burst::with_len_max(BURST_LEN);
        let mut back = Burst::with_len_max(BURST_LEN);
        // What an earlier trial left in the rings is not of this one.
        for _ in 0..STALE_BURSTS_MAX {
            if ends.rx.receive(&mut back) == 0 {
                break;
            }
            PacketBuf::drop_all(&mut back);
        }
        let grace_ns = (settings.duration_ns / 1000).max(GRACE_NS_MIN);
        let sample_ns = settings.sample_ns.max(1);
        let mut sample_at = sample_ns;
        // Packets made so far, those that still wait for the ring included.
        let mut made = 0u64;
        let mut end_ns = settings.duration_ns;
        self.start_ns = clock.now_ns() + LEAD_NS;
        loop {
            let now = clock.now_ns();
            let elapsed = now.saturating_sub(self.start_ns);
            if now < self.start_ns {
                std::hint::spin_loop();
                continue;
            }
            if !self.outcome.is_stopped && watch.stop.load(Relaxed) {
                self.outcome.is_stopped = true;
                end_ns = end_ns.min(elapsed);
                self.outcome.duration_ns = end_ns;
            }
            let may_send = elapsed < end_ns + grace_ns;
            if may_send && !self.outcome.is_stopped {
                made = self.make(&mut ends.pool, &mut out, made, elapsed.min(end_ns.saturating_sub(1)));
                self.send(&mut ends.tx, &mut out, settings.ring_full);
            } else if !out.is_empty() {
                // Too late for what still waits: a shortfall.
                PacketBuf::drop_all(&mut out);
            }
            let received = ends.rx.receive(&mut back);
            if received > 0 {
                // The arrival is known to have been before this; the reading stands after the receive.
                self.take(&mut back, clock.now_ns());
            }
            if elapsed >= sample_at && self.outcome.samples.len() < self.outcome.samples.capacity() {
                self.sample(elapsed);
                sample_at = elapsed + sample_ns;
                watch.sent.store(self.outcome.sent, Relaxed);
                watch.received.store(self.tracker.arrivals().received, Relaxed);
            }
            let all_sent = out.is_empty() && (self.schedule.due_ns() >= end_ns || !may_send || self.outcome.is_stopped);
            let all_back = self.tracker.arrivals().received + self.outcome.refused >= self.outcome.sent;
            if all_sent && elapsed >= end_ns && (all_back || elapsed >= end_ns + grace_ns + settings.drain_ns) {
                break;
            }
        }
        // What ought to have been sent and was not even made.
        self.outcome.intended = made;
        while self.schedule.due_ns() < end_ns {
            self.outcome.intended += 1;
            self.schedule.advance(self.plan.wire_len(self.place));
            self.place = (self.place + 1) % self.plan.len();
        }
        self.outcome.intended = self.outcome.intended.max(self.outcome.sent);
        self.outcome.arrivals = self.tracker.arrivals();
        let elapsed = clock.now_ns().saturating_sub(self.start_ns);
        self.sample(elapsed);
    }

    /// Fills the burst with the packets that are due.
    #[inline]
    fn make<P: PacketPool>(&mut self, pool: &mut P, out: &mut Burst<P::Buf>, mut made: u64, elapsed: u64) -> u64 {
        let mut is_first = true;
        while out.room() > 0 {
            let due = self.schedule.due_ns();
            if due > elapsed {
                break;
            }
            let Some(mut packet) = pool.allocate(self.plan.frame(self.place)) else {
                self.outcome.no_buffer += 1;
                break;
            };
            if is_first {
                self.outcome.lateness.record(elapsed - due);
                is_first = false;
            }
            let stamp = Stamp { tag: self.tag, number: made, intended_ns: self.start_ns + due };
            self.plan.finish(self.place, stamp, &mut packet);
            self.schedule.advance(self.plan.wire_len(self.place));
            self.place = if self.place + 1 == self.plan.len() { 0 } else { self.place + 1 };
            made += 1;
            // There is room: the loop says so.
            drop(out.push(packet));
        }
        made
    }

    #[inline]
    fn send<T: TxQueue>(&mut self, tx: &mut T, out: &mut Burst<T::Buf>, ring_full: RingFull) {
        if out.is_empty() {
            return;
        }
        let bytes = |packets: &[T::Buf]| packets.iter().map(|p| p.bytes().len() as u64 + 4).sum::<u64>();
        let all = bytes(out.packets());
        let taken = tx.send(out);
        self.outcome.sent += taken as u64;
        if out.is_empty() {
            self.outcome.sent_bytes += all;
        } else if ring_full == RingFull::Lose {
            self.outcome.sent += out.len() as u64;
            self.outcome.refused += out.len() as u64;
            self.outcome.sent_bytes += all;
            PacketBuf::drop_all(out);
        } else {
            self.outcome.sent_bytes += all - bytes(out.packets());
        }
    }

    #[inline]
    fn take<B: PacketBuf>(&mut self, back: &mut Burst<B>, now: u64) {
        for packet in back.packets() {
            packet.prefetch();
        }
        for packet in back.packets() {
            match Stamp::read(packet.bytes()) {
                Some(stamp) if stamp.tag == self.tag => {
                    if self.tracker.arrive(stamp.number) {
                        self.outcome.latencies.record(now.saturating_sub(stamp.intended_ns));
                    }
                }
                None if self.counts_all => self.tracker.count(),
                _ => self.outcome.foreign += 1,
            }
        }
        PacketBuf::drop_all(back);
    }

    fn sample(&mut self, at_ns: u64) {
        let received = self.tracker.arrivals().received;
        let Outcome { sent, refused, .. } = self.outcome;
        self.outcome.samples.push(Sample { at_ns, sent, refused, received });
    }
}

#[cfg(test)]
mod tests;
