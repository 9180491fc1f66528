//! Faults on purpose: queues that drop, duplicate, reorder, corrupt and delay packets, by a seed and exactly counted.
//!
//! At any quiet moment, for each queue: taken + duplicated = delivered + dropped + held ([`FaultCounts::difference`] is 0).
//! Each packet meets the faults in the order drop, corrupt, duplicate (the copy is as corrupt), delay, reorder; a packet may
//! meet several. The same seed and the same calls give the same faults. All memory is taken at the start.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{BURST_LEN_MAX, Burst, PacketBuf, PacketPool, Port, RxQueue, TxQueue};

/// Packets that are ready to go on and wait for the next call: a burst, doubled by duplication, behind another burst.
const READY_LEN_MAX: usize = 4 * BURST_LEN_MAX;

/// The most packets that a queue delays at once; one more passes undelayed.
pub const DELAYED_LEN_MAX: usize = 4 * BURST_LEN_MAX;

/// How often each fault happens, in parts of a million of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Packets lost.
    pub drop_ppm: u32,
    /// Packets followed by a copy.
    pub duplicate_ppm: u32,
    /// Packets that overtake the one before them.
    pub reorder_ppm: u32,
    /// Packets with one bit flipped.
    pub corrupt_ppm: u32,
    /// Packets held back for 1 to `delay_polls_max` calls.
    pub delay_ppm: u32,
    /// The longest delay, in calls of the queue.
    pub delay_polls_max: u32,
}

impl Faults {
    /// Each fault to one packet in `one_in` (at least 1), delays of up to 8 calls.
    #[must_use]
    pub fn all(one_in: u32) -> Self {
        let ppm = 1_000_000 / one_in.max(1);
        Faults {
            drop_ppm: ppm,
            duplicate_ppm: ppm,
            reorder_ppm: ppm,
            corrupt_ppm: ppm,
            delay_ppm: ppm,
            delay_polls_max: 8,
        }
    }
}

/// What happened on one queue so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Packets that came in.
    pub taken: u64,
    /// Packets that went out.
    pub delivered: u64,
    /// Packets lost.
    pub dropped: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Copies not made because the pool was empty.
    pub duplicates_failed: u64,
    /// Packets that overtook another.
    pub reordered: u64,
    /// Packets with a flipped bit.
    pub corrupted: u64,
    /// Packets held back.
    pub delayed: u64,
    /// Packets inside now.
    pub held: u64,
}

impl FaultCounts {
    /// What came in or was made, less what went out, was lost, or is inside: 0 at any quiet moment.
    #[must_use]
    pub fn difference(&self) -> i128 {
        i128::from(self.taken) + i128::from(self.duplicated)
            - i128::from(self.delivered)
            - i128::from(self.dropped)
            - i128::from(self.held)
    }

    /// The sums of two queues.
    #[must_use]
    pub fn plus(&self, other: &FaultCounts) -> FaultCounts {
        FaultCounts {
            taken: self.taken + other.taken,
            delivered: self.delivered + other.delivered,
            dropped: self.dropped + other.dropped,
            duplicated: self.duplicated + other.duplicated,
            duplicates_failed: self.duplicates_failed + other.duplicates_failed,
            reordered: self.reordered + other.reordered,
            corrupted: self.corrupted + other.corrupted,
            delayed: self.delayed + other.delayed,
            held: self.held + other.held,
        }
    }
}

/// The counters of one queue, readable while another thread has the queue.
#[derive(Clone, Debug, Default)]
pub struct FaultCounters {
    cells: Arc<[AtomicU64; 9]>,
}

impl FaultCounters {
    /// The counts as of the end of some recent call: exact at a quiet moment.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        let [taken, delivered, dropped, duplicated, duplicates_failed, reordered, corrupted, delayed, held] =
            std::array::from_fn(|index| self.cells[index].load(Ordering::Relaxed));
        FaultCounts { taken, delivered, dropped, duplicated, duplicates_failed, reordered, corrupted, delayed, held }
    }

    fn publish(&self, counts: &FaultCounts) {
        let values = [
            counts.taken,
            counts.delivered,
            counts.dropped,
            counts.duplicated,
            counts.duplicates_failed,
            counts.reordered,
            counts.corrupted,
            counts.delayed,
            counts.held,
        ];
        for (cell, value) in self.cells.iter().zip(values) {
            // Each cell is read by itself; a reader that needs the equation waits for quiet.
            cell.store(value, Ordering::Relaxed);
        }
    }
}

/// A stretch of line with faults: packets go in at one end and come out, or not, at the other.
struct Line<P: PacketPool> {
    faults: Faults,
    pool: P,
    random: Random,
    polls: u64,
    ready: VecDeque<P::Buf>,
    delayed: Vec<(u64, P::Buf)>,
    counts: FaultCounts,
    counters: FaultCounters,
}

impl<P: PacketPool> Line<P> {
    fn new(faults: Faults, pool: P, seed: u64) -> Self {
        Line {
            faults,
            pool,
            random: Random(seed),
            polls: 0,
            ready: VecDeque::with_capacity(READY_LEN_MAX),
            delayed: Vec::with_capacity(DELAYED_LEN_MAX),
            counts: FaultCounts::default(),
            counters: FaultCounters::default(),
        }
    }

    /// One call of the queue has begun: what is due moves on, as far as there is room.
    fn poll(&mut self) {
        self.polls += 1;
        let mut at = 0;
        while at < self.delayed.len() && self.ready.len() < READY_LEN_MAX {
            if self.delayed[at].0 <= self.polls {
                let (_, packet) = self.delayed.remove(at);
                self.ready.push_back(packet);
            } else {
                at += 1;
            }
        }
    }

    /// How many packets it takes now, each of which may become two.
    fn room(&self) -> usize {
        (READY_LEN_MAX - self.ready.len()) / 2
    }

    fn take(&mut self, mut packet: P::Buf) {
        self.counts.taken += 1;
        if self.random.hits(self.faults.drop_ppm) {
            self.counts.dropped += 1;
            return;
        }
        let bits = packet.bytes().len() * 8;
        if self.random.hits(self.faults.corrupt_ppm) && bits > 0 {
            let bit = self.random.below(bits);
            packet.bytes_mut()[bit / 8] ^= 1 << (bit % 8);
            self.counts.corrupted += 1;
        }
        let copy = if self.random.hits(self.faults.duplicate_ppm) {
            let copy = self.pool.allocate(packet.bytes());
            match copy {
                Some(_) => self.counts.duplicated += 1,
                None => self.counts.duplicates_failed += 1,
            }
            copy
        } else {
            None
        };
        self.pass(packet);
        if let Some(copy) = copy {
            self.pass(copy);
        }
    }

    fn pass(&mut self, packet: P::Buf) {
        let polls_max = self.faults.delay_polls_max as usize;
        if self.random.hits(self.faults.delay_ppm) && polls_max > 0 && self.delayed.len() < DELAYED_LEN_MAX {
            let due = self.polls + 1 + self.random.below(polls_max) as u64;
            self.delayed.push((due, packet));
            self.counts.delayed += 1;
            return;
        }
        self.ready.push_back(packet);
        let len = self.ready.len();
        if self.random.hits(self.faults.reorder_ppm) && len > 1 {
            self.ready.swap(len - 1, len - 2);
            self.counts.reordered += 1;
        }
    }

    /// Moves what is ready to `burst`, as far as it has room.
    fn deliver(&mut self, burst: &mut Burst<P::Buf>) -> usize {
        let count = burst.room().min(self.ready.len());
        for packet in self.ready.drain(..count) {
            let pushed = burst.push(packet);
            debug_assert!(pushed.is_ok(), "there was room");
        }
        count
    }

    /// One call of the queue ends: `waiting` more packets are held outside the line.
    fn publish(&mut self, waiting: usize) {
        self.counts.held = (self.ready.len() + self.delayed.len() + waiting) as u64;
        self.counters.publish(&self.counts);
    }
}

/// A receive queue with faults behind another.
pub struct FaultyRx<Q: RxQueue, P: PacketPool<Buf = Q::Buf>> {
    inner: Q,
    line: Line<P>,
    arrived: Burst<Q::Buf>,
}

impl<Q: RxQueue, P: PacketPool<Buf = Q::Buf>> FaultyRx<Q, P> {
    /// Faults behind `inner`; copies come from `pool`.
    pub fn new(inner: Q, pool: P, faults: Faults, seed: u64) -> Self {
        FaultyRx { inner, line: Line::new(faults, pool, seed), arrived: Burst::new() }
    }

    /// Its counters.
    pub fn counters(&self) -> FaultCounters {
        self.line.counters.clone()
    }
}

impl<Q: RxQueue, P: PacketPool<Buf = Q::Buf>> RxQueue for FaultyRx<Q, P> {
    type Buf = Q::Buf;

    fn receive(&mut self, burst: &mut Burst<Q::Buf>) -> usize {
        self.line.poll();
        if self.line.room() >= BURST_LEN_MAX {
            self.inner.receive(&mut self.arrived);
            for packet in self.arrived.drain() {
                self.line.take(packet);
            }
        }
        let delivered = self.line.deliver(burst);
        self.line.counts.delivered += delivered as u64;
        self.line.publish(0);
        delivered
    }

    fn unusable(&self) -> u64 {
        self.inner.unusable()
    }

    fn is_filled_by_source(&self) -> bool {
        self.inner.is_filled_by_source()
    }
}

/// A transmit queue with faults before another. It takes packets that the inner queue has no room for yet, and passes them
/// on at later calls; a call with an empty burst does only that.
pub struct FaultyTx<Q: TxQueue, P: PacketPool<Buf = Q::Buf>> {
    inner: Q,
    line: Line<P>,
    leaving: Burst<Q::Buf>,
}

impl<Q: TxQueue, P: PacketPool<Buf = Q::Buf>> FaultyTx<Q, P> {
    /// Faults before `inner`; copies come from `pool`.
    pub fn new(inner: Q, pool: P, faults: Faults, seed: u64) -> Self {
        FaultyTx { inner, line: Line::new(faults, pool, seed), leaving: Burst::new() }
    }

    /// Its counters.
    pub fn counters(&self) -> FaultCounters {
        self.line.counters.clone()
    }
}

impl<Q: TxQueue, P: PacketPool<Buf = Q::Buf>> TxQueue for FaultyTx<Q, P> {
    type Buf = Q::Buf;

    fn send(&mut self, burst: &mut Burst<Q::Buf>) -> usize {
        self.line.poll();
        let count = self.line.room().min(burst.len());
        for packet in burst.drain_front(count) {
            self.line.take(packet);
        }
        loop {
            self.line.deliver(&mut self.leaving);
            let sent = self.inner.send(&mut self.leaving);
            self.line.counts.delivered += sent as u64;
            if sent == 0 {
                break;
            }
        }
        self.line.publish(self.leaving.len());
        count
    }
}

impl<Q: RxQueue, P: PacketPool<Buf = Q::Buf>> fmt::Debug for FaultyRx<Q, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyRx({:?})", self.line.counts)
    }
}

impl<Q: TxQueue, P: PacketPool<Buf = Q::Buf>> fmt::Debug for FaultyTx<Q, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyTx({:?})", self.line.counts)
    }
}

/// A port whose queues have faults.
pub struct FaultyPort<T: Port, P: PacketPool<Buf = T::Buf>> {
    handle: T::Handle,
    rx: Vec<FaultyRx<T::Rx, P>>,
    tx: Vec<FaultyTx<T::Tx, P>>,
}

impl<T: Port, P: PacketPool<Buf = T::Buf>> FaultyPort<T, P> {
    /// Faults on all queues of `port`, each with a generator of its own from `seed`; `pool` makes the handles that copies
    /// come from.
    pub fn new(port: T, mut pool: impl FnMut() -> P, on_receive: Faults, on_send: Faults, seed: u64) -> Self {
        let (handle, rx, tx) = port.split();
        let mut seeds = Random(seed);
        let rx = rx.into_iter().map(|queue| FaultyRx::new(queue, pool(), on_receive, seeds.next())).collect();
        let tx = tx.into_iter().map(|queue| FaultyTx::new(queue, pool(), on_send, seeds.next())).collect();
        FaultyPort { handle, rx, tx }
    }

    /// The counters of its receive queues.
    #[must_use]
    pub fn rx_counters(&self) -> Vec<FaultCounters> {
        self.rx.iter().map(FaultyRx::counters).collect()
    }

    /// The counters of its transmit queues.
    #[must_use]
    pub fn tx_counters(&self) -> Vec<FaultCounters> {
        self.tx.iter().map(FaultyTx::counters).collect()
    }
}

impl<T: Port, P: PacketPool<Buf = T::Buf>> Port for FaultyPort<T, P> {
    type Buf = T::Buf;
    type Rx = FaultyRx<T::Rx, P>;
    type Tx = FaultyTx<T::Tx, P>;
    type Handle = T::Handle;

    fn split(self) -> (Self::Handle, Vec<Self::Rx>, Vec<Self::Tx>) {
        (self.handle, self.rx, self.tx)
    }
}

impl<T: Port, P: PacketPool<Buf = T::Buf>> fmt::Debug for FaultyPort<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyPort({} queues)", self.rx.len())
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): small, and good enough to choose packets.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One of 0 to `count` - 1; `count` is not 0.
    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn hits(&mut self, ppm: u32) -> bool {
        self.next() % 1_000_000 < u64::from(ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{MemoryBuf, MemoryConfig, MemoryPool, MemoryPort};
    use super::*;

    fn number(packet: &MemoryBuf) -> u64 {
        u64::from_be_bytes(packet.bytes()[..8].try_into().unwrap())
    }

    /// Sends `count` numbered packets through faults on both sides; returns what arrived and the counts.
    fn run(count: u64, on_send: Faults, on_receive: Faults, seed: u64) -> (Vec<u64>, FaultCounts, FaultCounts) {
        println!("seed {seed}");
        let mut pool = MemoryPool::new(1024, 64);
        let (near, far) = MemoryPort::wire(&MemoryConfig::new("near", 1), &MemoryConfig::new("far", 2), 1);
        let none = Faults::default();
        let near = FaultyPort::new(near, || pool.clone(), none, on_send, seed);
        let far = FaultyPort::new(far, || pool.clone(), on_receive, none, seed + 1);
        let (sent, received) = (near.tx_counters().remove(0), far.rx_counters().remove(0));
        let (_, near_rx, mut tx) = near.split();
        let (_, mut rx, far_tx) = far.split();
        let mut burst = Burst::new();
        let mut arrivals = Burst::new();
        let mut arrived = Vec::new();
        let mut next = 0;
        while next < count || sent.counts().held > 0 || received.counts().delivered < sent.counts().delivered / 2 {
            while next < count && burst.room() > 0 {
                burst.push(pool.allocate(&next.to_be_bytes()).unwrap()).unwrap();
                next += 1;
            }
            tx[0].send(&mut burst);
            rx[0].receive(&mut arrivals);
            arrived.extend(arrivals.drain().map(|packet| number(&packet)));
            assert_eq!(sent.counts().difference(), 0);
            assert_eq!(received.counts().difference(), 0);
        }
        for _ in 0..64 {
            tx[0].send(&mut burst);
            rx[0].receive(&mut arrivals);
            arrived.extend(arrivals.drain().map(|packet| number(&packet)));
        }
        drop((tx, rx, near_rx, far_tx));
        assert_eq!(pool.free(), pool.buffers(), "every buffer is back");
        (arrived, sent.counts(), received.counts())
    }

    #[test]
    fn without_faults_nothing_changes() {
        let (arrived, sent, received) = run(5_000, Faults::default(), Faults::default(), 1);
        assert_eq!(arrived, (0..5_000).collect::<Vec<_>>());
        assert_eq!((sent.taken, sent.delivered, received.delivered), (5_000, 5_000, 5_000));
    }

    #[test]
    fn every_fault_happens_and_the_counts_balance() {
        let (arrived, sent, received) = run(20_000, Faults::all(20), Faults::all(10), 2);
        for counts in [sent, received] {
            assert!(
                [counts.dropped, counts.duplicated, counts.reordered, counts.corrupted, counts.delayed]
                    .iter()
                    .all(|count| *count > 100),
                "{counts:?}"
            );
            assert_eq!(counts.held, 0);
        }
        assert_eq!(received.taken, sent.delivered);
        assert_eq!(arrived.len() as u64, received.delivered);
        assert_eq!(
            received.delivered,
            20_000 + sent.duplicated + received.duplicated - sent.dropped - received.dropped
        );
    }

    #[test]
    fn each_fault_alone_does_what_it_says_and_no_more() {
        let one_in_ten = 100_000;
        let none = Faults::default();
        let (arrived, sent, _) = run(3_000, Faults { drop_ppm: one_in_ten, ..none }, none, 3);
        assert_eq!(arrived.len() as u64, 3_000 - sent.dropped);
        assert!(arrived.is_sorted());

        let (mut arrived, sent, _) = run(3_000, Faults { duplicate_ppm: one_in_ten, ..none }, none, 4);
        assert_eq!(arrived.len() as u64, 3_000 + sent.duplicated);
        assert!(arrived.is_sorted());
        arrived.dedup();
        assert_eq!(arrived.len(), 3_000);

        let (mut arrived, sent, _) = run(3_000, Faults { reorder_ppm: one_in_ten, ..none }, none, 5);
        assert!(sent.reordered > 0 && !arrived.is_sorted());
        arrived.sort_unstable();
        assert_eq!(arrived, (0..3_000).collect::<Vec<_>>());

        let (mut arrived, sent, _) = run(3_000, Faults { delay_ppm: one_in_ten, delay_polls_max: 5, ..none }, none, 6);
        assert!(sent.delayed > 0 && !arrived.is_sorted());
        arrived.sort_unstable();
        assert_eq!(arrived, (0..3_000).collect::<Vec<_>>());

        let (arrived, sent, _) = run(3_000, Faults { corrupt_ppm: one_in_ten, ..none }, none, 7);
        let changed = arrived.iter().zip(0..).filter(|(got, wanted)| *got != wanted).count() as u64;
        assert_eq!(changed, sent.corrupted);
        assert!(changed > 0);
        assert!(arrived.iter().zip(0..).all(|(got, wanted): (&u64, u64)| (got ^ wanted).count_ones() <= 1));
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let once = run(2_000, Faults::all(10), Faults::all(10), 8);
        assert_eq!(once, run(2_000, Faults::all(10), Faults::all(10), 8));
        assert_ne!(once.0, run(2_000, Faults::all(10), Faults::all(10), 9).0);
    }
}
