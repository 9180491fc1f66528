//! What the workers count, and the conservation of packets.
//!
//! Each worker counts in a [`Tally`] of its own, plain numbers that no other thread reads, and shows a copy once per
//! turn on a board under a sequence lock. So a [`Snapshot`] of one worker is that of the end of one turn, never
//! of the middle, and since a packet is received by the worker that handles it, whoever polled it, the equation
//!
//! > received + from TAP + own ICMP + fragments + generated + expanded = sent + every named drop + to TAP + consumed +
//! > held + queued
//!
//! holds in every snapshot, under load too ([`Snapshot::balance`]). *Held* are packets that wait for a next hop or
//! in a window, *queued* those that wait for a transmit ring. *Fragments* are those of a packet beyond the first.
//! *Generated* are the packets that programs send, *expanded* those that an expander sends, both with those that could
//! not be made and are drops at once; what an expander takes in is *consumed*. An ICMP error that is made in the buffer of
//! a dropped packet counts as that drop and as one of our own packets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::drop_reason::{DROP_REASONS, DropReason};

/// Packets and bytes that a port received and sent. Bytes are those of frames, without check sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounts {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets given to the transmit ring.
    pub tx_packets: u64,
    /// Bytes given to the transmit ring.
    pub tx_bytes: u64,
}

const PORT_WORDS: usize = 4;

macro_rules! totals {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// Counts that are no port's and no drop.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals { $($(#[doc = $doc])+ pub $field: u64,)+ }
        const TOTAL_WORDS: usize = [$(stringify!($field)),+].len();
        impl Totals {
            /// Each count with its name.
            #[must_use]
            pub fn named(&self) -> [(&'static str, u64); TOTAL_WORDS] {
                [$((stringify!($field), self.$field)),+]
            }
            fn words(&self) -> [u64; TOTAL_WORDS] {
                [$(self.$field),+]
            }
            fn from_words(words: [u64; TOTAL_WORDS]) -> Totals {
                let [$($field),+] = words;
                Totals { $($field),+ }
            }
            fn add(&mut self, other: &Totals) {
                $(self.$field += other.$field;)+
            }
        }
    };
}

totals! {
    /// Packets given to the slow path, for the kernel.
    to_tap,
    /// Packets of the kernel, taken from the slow path.
    from_tap,
    /// ICMP errors of our own.
    own_icmp,
    /// Fragments made beyond the first of each packet.
    fragments,
    /// Packets that programs generated, those that could not be made or sent included.
    generated,
    /// Packets that the expander made, those that could not be made or sent included.
    expanded,
    /// Packets that were taken up into something else and do not leave as themselves: the expander's datagrams.
    consumed,
    /// Packets that wait for a next hop or in a window now.
    held,
    /// Windows that were run before they were full or their time was up, because all windows together were full.
    windows_cut,
    /// Batches that the expander has begun.
    batches,
    /// Batches of which something was still missing when the expander gave them up.
    batches_incomplete,
    /// Packets that wait for a transmit ring now.
    queued,
    /// Packets polled here and handed over to the worker that their source belongs to.
    handed_over,
    /// Packets taken over from the workers that polled them. What was handed over and not yet taken over is on its way
    /// and not yet received.
    taken_over,
    /// Packets of owners over their packet rate that were forwarded without their programs.
    over_budget_forwarded,
    /// ICMP errors not sent because of the rate.
    icmp_rate_limited,
    /// ICMP errors not sent because the port has no address of the family, or the buffer no room.
    icmp_unsendable,
    /// Resolve requests that the control core was too slow to take.
    resolve_lost,
    /// Turns of the worker's loop.
    turns,
    /// Turns in which nothing was received.
    turns_empty,
    /// Nanoseconds of the turns in which there was something to do.
    busy_ns,
}

/// What one worker counts, in plain numbers.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Each port's.
    pub ports: Vec<PortCounts>,
    /// By [`DropReason`].
    pub drops: [u64; DROP_REASONS],
    /// The rest.
    pub totals: Totals,
    /// Whether `drops` changed since they were last shown.
    drops_changed: bool,
}

impl Tally {
    /// Zeros, for `ports` ports.
    #[must_use]
    pub fn new(ports: usize) -> Tally {
        Tally {
            ports: vec![PortCounts::default(); ports],
            drops: [0; DROP_REASONS],
            totals: Totals::default(),
            drops_changed: true,
        }
    }
    /// Counts so many packets dropped.
    pub fn drop_packets(&mut self, reason: DropReason, count: u64) {
        self.drops[reason as usize] += count;
        self.drops_changed = true;
    }
    /// Counts one packet dropped.
    #[inline]
    pub fn drop_packet(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
        self.drops_changed = true;
    }
}

/// Where one worker shows its tally: a sequence lock over words that only it writes.
#[repr(align(128))]
struct Board {
    /// Odd while the worker writes.
    sequence: AtomicU64,
    words: Box<[AtomicU64]>,
}

impl Board {
    fn new(ports: usize) -> Board {
        let words = (0..TOTAL_WORDS + DROP_REASONS + ports * PORT_WORDS).map(|_| AtomicU64::new(0)).collect();
        Board { sequence: AtomicU64::new(0), words }
    }

    fn show(&self, tally: &mut Tally) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        // Pairs with the reader's acquire fence: a reader that saw a word of this turn sees the odd sequence too.
        fence(Ordering::Release);
        let (totals, rest) = self.words.split_at(TOTAL_WORDS);
        let (drops, ports) = rest.split_at(DROP_REASONS);
        for (shown, word) in totals.iter().zip(tally.totals.words()) {
            shown.store(word, Ordering::Relaxed);
        }
        if tally.drops_changed {
            for (shown, &word) in drops.iter().zip(&tally.drops) {
                shown.store(word, Ordering::Relaxed);
            }
            tally.drops_changed = false;
        }
        for (shown, port) in ports.as_chunks::<PORT_WORDS>().0.iter().zip(&tally.ports) {
            for (shown, word) in shown.iter().zip([port.rx_packets, port.rx_bytes, port.tx_packets, port.tx_bytes]) {
                shown.store(word, Ordering::Relaxed);
            }
        }
        // Pairs with the reader's first load of the sequence.
        self.sequence.store(sequence + 2, Ordering::Release);
    }

    /// The words of one turn. Waits while the worker writes them: nanoseconds, unless its core was taken from it.
    fn read(&self) -> Vec<u64> {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let words = self.words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
                // Pairs with the worker's release fence.
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return words;
                }
            }
            std::thread::yield_now();
        }
    }
}

/// The control core's view of what the workers count. Clones show the same.
#[derive(Clone)]
pub struct Counters {
    boards: Arc<[Board]>,
    ports: usize,
}

/// A worker's end: shows its tally.
pub struct CounterBoard {
    boards: Arc<[Board]>,
    worker: usize,
}

impl CounterBoard {
    /// Shows `tally`: once per turn.
    #[inline]
    pub fn show(&self, tally: &mut Tally) {
        self.boards[self.worker].show(tally);
    }
}

impl Counters {
    /// Boards for `workers` workers over `ports` ports, and the workers' ends in order.
    #[must_use]
    pub fn new(workers: usize, ports: usize) -> (Counters, Vec<CounterBoard>) {
        let boards: Arc<[Board]> = (0..workers).map(|_| Board::new(ports)).collect();
        let ends = (0..workers).map(|worker| CounterBoard { boards: boards.clone(), worker }).collect();
        (Counters { boards, ports }, ends)
    }

    /// Each worker's counts, each of the end of one of its turns.
    #[must_use]
    pub fn worker_snapshots(&self) -> Vec<Snapshot> {
        self.boards.iter().map(|board| Snapshot::from_words(&board.read(), self.ports)).collect()
    }

    /// The sum over all workers.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot::zero(self.ports);
        for snapshot in self.worker_snapshots() {
            sum.add(&snapshot);
        }
        sum
    }
}

/// Counts at the end of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Each port's.
    pub ports: Vec<PortCounts>,
    /// By [`DropReason`].
    pub drops: [u64; DROP_REASONS],
    /// The rest.
    pub totals: Totals,
}

impl std::ops::Deref for Snapshot {
    type Target = Totals;
    fn deref(&self) -> &Totals {
        &self.totals
    }
}

/// Both sides of the conservation equation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Received, from TAP, own ICMP, fragments, generated, expanded.
    pub entered: u64,
    /// Sent, dropped, to TAP, consumed.
    pub left: u64,
    /// Held and queued now.
    pub inside: u64,
    /// `entered - left - inside`: 0, or a packet was lost or made without a name.
    pub difference: i128,
}

impl Snapshot {
    fn zero(ports: usize) -> Snapshot {
        Snapshot { ports: vec![PortCounts::default(); ports], drops: [0; DROP_REASONS], totals: Totals::default() }
    }

    fn from_words(words: &[u64], ports: usize) -> Snapshot {
        let mut snapshot = Snapshot::zero(ports);
        let (totals, rest) = words.split_at(TOTAL_WORDS);
        let (drops, port_words) = rest.split_at(DROP_REASONS);
        let mut total_words = [0; TOTAL_WORDS];
        total_words.copy_from_slice(totals);
        snapshot.totals = Totals::from_words(total_words);
        snapshot.drops.copy_from_slice(drops);
        for (port, &[rx_packets, rx_bytes, tx_packets, tx_bytes]) in
            snapshot.ports.iter_mut().zip(port_words.as_chunks::<PORT_WORDS>().0)
        {
            *port = PortCounts { rx_packets, rx_bytes, tx_packets, tx_bytes };
        }
        snapshot
    }

    fn add(&mut self, other: &Snapshot) {
        for (sum, port) in self.ports.iter_mut().zip(&other.ports) {
            sum.rx_packets += port.rx_packets;
            sum.rx_bytes += port.rx_bytes;
            sum.tx_packets += port.tx_packets;
            sum.tx_bytes += port.tx_bytes;
        }
        for (sum, drops) in self.drops.iter_mut().zip(&other.drops) {
            *sum += drops;
        }
        self.totals.add(&other.totals);
    }

    /// Packets dropped for `reason`.
    #[must_use]
    pub fn drop(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Packets dropped for any reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Both sides of the conservation equation of the module.
    #[must_use]
    pub fn balance(&self) -> Balance {
        let received: u64 = self.ports.iter().map(|port| port.rx_packets).sum();
        let sent: u64 = self.ports.iter().map(|port| port.tx_packets).sum();
        let entered = received + self.from_tap + self.own_icmp + self.fragments + self.generated + self.expanded;
        let left = sent + self.dropped() + self.to_tap + self.consumed;
        let inside = self.held + self.queued;
        Balance { entered, left, inside, difference: i128::from(entered) - i128::from(left) - i128::from(inside) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_every_count_and_sums_the_workers() {
        let (counters, boards) = Counters::new(2, 2);
        for (i, board) in boards.iter().enumerate() {
            let mut tally = Tally::new(2);
            tally.ports[1].rx_packets = 10;
            tally.ports[0].tx_packets = 6;
            tally.totals.own_icmp = 1;
            tally.totals.held = 3;
            tally.drop_packet(DropReason::TtlExpired);
            tally.drop_packet(DropReason::ALL[i]);
            board.show(&mut tally);
        }
        let sum = counters.snapshot();
        assert_eq!((sum.ports[1].rx_packets, sum.ports[0].tx_packets, sum.own_icmp), (20, 12, 2));
        assert_eq!((sum.drop(DropReason::TtlExpired), sum.drop(DropReason::ALL[1]), sum.dropped()), (2, 1, 4));
        assert_eq!(sum.balance(), Balance { entered: 22, left: 16, inside: 6, difference: 0 });
    }

    #[test]
    fn a_snapshot_is_never_of_the_middle_of_a_turn() {
        let (counters, mut boards) = Counters::new(1, 1);
        let board = boards.remove(0);
        let writer = std::thread::spawn(move || {
            let mut tally = Tally::new(1);
            for turn in 0..200_000u64 {
                tally.ports[0].rx_packets += 2 + turn % 3;
                tally.ports[0].tx_packets += 1 + turn % 3;
                tally.drop_packet(DropReason::NoRoute);
                board.show(&mut tally);
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            let balance = counters.snapshot().balance();
            assert_eq!(balance.difference, 0);
            assert!(balance.entered >= seen);
            seen = balance.entered;
        }
        writer.join().expect("the writer does not panic");
        assert_eq!(counters.snapshot().drop(DropReason::NoRoute), 200_000);
    }
}
