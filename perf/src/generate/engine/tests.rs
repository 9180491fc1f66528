//! The generator over wires in memory: with nothing between, with faults that are counted, and with a system that stalls.

use super::*;
use crate::generate::flows::Mix;
use crate::generate::packet::{Link, Transport};
use crate::generate::plan::{Family, Recipe};
use std::net::IpAddr;
use vinet_fastpath::port::Port;
use vinet_fastpath::port::fault::{FaultCounts, Faults, FaultyTx};
use vinet_fastpath::port::memory::{MemoryConfig, MemoryPool, MemoryPort, MemoryRx, MemoryTx};
use vinet_trusted::addr::Prefix;

fn plan() -> Plan {
    let prefix =
        |addr: &str, len| Prefix::new(addr.parse::<IpAddr>().expect("an address").into(), len).expect("a prefix");
    let recipe = Recipe {
        sizes: "imix".parse().expect("sizes"),
        flows: 10,
        mix: Mix::Uniform,
        family: Family::V4,
        transport: Transport::Udp,
        src: [prefix("10.0.0.0", 8), prefix("2001:2::", 64)],
        dst: [prefix("198.18.0.0", 15), prefix("2001:2:0:8000::", 64)],
        dst_port: 9,
        payload: None,
        plant: Vec::new(),
        seed: 1,
    };
    Plan::build(&recipe, Link { dst: [2; 6], src: [4; 6] }).expect("a plan")
}

fn settings(pps: f64, duration_ms: u64) -> Settings {
    Settings {
        pace: Pace::packets(pps),
        duration_ns: duration_ms * 1_000_000,
        drain_ns: 20_000_000,
        ring_full: RingFull::Wait,
        sample_ns: 10_000_000,
        tag: 3,
    }
}

fn wire(ring_len: usize) -> (Ends<MemoryRx, MemoryTx, MemoryPool>, MemoryPool) {
    let mut end = MemoryConfig::new("b", 2);
    end.rx_ring_len = ring_len;
    let (a, b) = MemoryPort::wire(&MemoryConfig::new("a", 1), &end, 1);
    let ((_, _, mut tx), (_, mut rx, _)) = (a.split(), b.split());
    let pool = MemoryPool::new(4096, 1600);
    (Ends { rx: rx.remove(0), tx: tx.remove(0), pool: pool.clone() }, pool)
}

/// A trial in which everything was offered: on a machine that others use, the generator may be kept from its core at the end of
/// one, which is then void, as it should be.
fn offered(mut trial: impl FnMut() -> Outcome) -> Outcome {
    (0..20).map(|_| trial()).find(|outcome| outcome.sent == outcome.intended).expect("a trial that was offered whole")
}

#[test]
fn over_a_wire_all_packets_come_back_in_order_at_the_intended_rate() {
    let (plan, (mut ends, pool)) = (plan(), wire(1024));
    let outcome = offered(|| run(&mut ends, &plan, &settings(20_000.0, 100), &Watch::default()).expect("a trial"));
    assert_eq!((outcome.intended, outcome.sent, outcome.lost(), outcome.foreign), (2_000, 2_000, 0, 0));
    assert_eq!(outcome.arrivals, Arrivals { received: 2_000, ..Arrivals::default() });
    assert_eq!((outcome.void(), outcome.latencies.count()), (None, 2_000));
    assert_eq!(outcome.offered_pps(), 20_000.0);
    let mean = outcome.sent_bytes as f64 / 2_000.0;
    assert!((mean - plan.wire_len_mean()).abs() < 10.0, "{mean}");
    assert!(outcome.samples.len() >= 2 && outcome.samples.windows(2).all(|pair| pair[0].sent <= pair[1].sent));
    assert_eq!(pool.free(), pool.buffers());
}

#[test]
fn faults_on_the_way_are_counted_one_by_one() {
    let plan = plan();
    let faults = Faults { drop_ppm: 50_000, duplicate_ppm: 30_000, reorder_ppm: 20_000, ..Faults::default() };
    let mut made = FaultCounts::default();
    let outcome = offered(|| {
        let (ends, pool) = wire(1024);
        let tx = FaultyTx::new(ends.tx, pool, faults, 11);
        let counters = tx.counters();
        let mut ends = Ends { rx: ends.rx, tx, pool: ends.pool };
        let outcome = run(&mut ends, &plan, &settings(50_000.0, 100), &Watch::default()).expect("a trial");
        made = counters.counts();
        outcome
    });
    assert!(made.dropped > 100 && made.duplicated > 50 && made.reordered > 0, "{made:?}");
    assert_eq!(outcome.sent, 5_000);
    // The last packets may wait in the line of faults for a call that never comes.
    assert_eq!(outcome.lost(), made.dropped + made.held, "{made:?}");
    assert_eq!(outcome.arrivals.duplicates, made.duplicated);
    // One that overtakes the one before makes that one reordered; a copy of the same that is overtaken counts as a copy, and
    // one that overtakes a lost one nothing. Packets overtake within a burst only, so how many do is the machine's affair.
    let reordered = outcome.arrivals.reordered;
    assert!(reordered <= made.reordered, "{reordered} of {made:?}");
    assert!(reordered > 0 || made.reordered < 20, "none of {made:?}");
    assert!((outcome.loss_ratio() - outcome.lost() as f64 / 5_000.0).abs() < 1e-12);
}

/// A system that takes nothing for a while: it hands packets on only after the pause.
struct Stalling {
    inner: MemoryRx,
    clock: Clock,
    from_ns: u64,
    until_ns: u64,
}

impl RxQueue for Stalling {
    type Buf = <MemoryRx as RxQueue>::Buf;
    fn receive(&mut self, burst: &mut Burst<Self::Buf>) -> usize {
        let now = self.clock.now_ns();
        if (self.from_ns..self.until_ns).contains(&now) { 0 } else { self.inner.receive(burst) }
    }
    fn unusable(&self) -> u64 {
        0
    }
}

#[test]
fn a_stall_is_seen_by_every_packet_that_was_to_be_sent_in_it() {
    // The ring holds 64 packets, so for most of the stall nothing can be sent: a closed loop would measure few late ones.
    let plan = plan();
    let outcome = offered(|| {
        let (ends, _) = wire(64);
        let clock = Clock::get();
        let from_ns = clock.now_ns() + 60_000_000;
        let stalling = Stalling { inner: ends.rx, clock, from_ns, until_ns: from_ns + 50_000_000 };
        let mut ends = Ends { rx: stalling, tx: ends.tx, pool: ends.pool };
        run(&mut ends, &plan, &settings(20_000.0, 200), &Watch::default()).expect("a trial")
    });
    assert_eq!((outcome.sent, outcome.lost()), (4_000, 0));
    // A quarter of all packets were to be sent within the stall; half of those waited 25 ms or more.
    let waited = outcome.latencies.histogram().count_between(25_000_000, 60_000_000_000);
    assert!((400..1_500).contains(&waited), "{waited}");
    assert!(outcome.lateness.percentile(100.0) > 25_000_000);
}

#[test]
fn what_cannot_be_offered_makes_the_trial_void_or_is_lost_as_asked() {
    let plan = plan();
    for ring_full in [RingFull::Wait, RingFull::Lose] {
        let settings = Settings { ring_full, ..settings(20_000.0, 50) };
        let mut left = 0;
        let mut trial = || {
            // Nobody empties the wire.
            let (ends, pool) = wire(64);
            let (_idle, none) = (ends.rx, wire(1).0.rx);
            let mut ends = Ends { rx: none, tx: ends.tx, pool: ends.pool };
            let outcome = run(&mut ends, &plan, &settings, &Watch::default()).expect("a trial");
            left = pool.buffers() - pool.free();
            outcome
        };
        let outcome = if ring_full == RingFull::Lose { offered(trial) } else { trial() };
        assert_eq!(outcome.intended, 1_000);
        match ring_full {
            RingFull::Wait => assert!(outcome.sent == 64 && outcome.void().is_some(), "{}", outcome.sent),
            RingFull::Lose => assert_eq!((outcome.sent, outcome.refused, outcome.void()), (1_000, 936, None)),
        }
        assert_eq!((outcome.loss_ratio(), outcome.latencies.count()), (1.0, 0));
        assert_eq!(left, 64, "what waited for the ring went back to its pool");
    }
}

#[test]
fn a_trial_that_is_told_to_stop_keeps_what_it_has() {
    let (plan, (mut ends, _)) = (plan(), wire(1024));
    let watch = Watch::default();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            watch.stop.store(true, Relaxed);
        });
        run(&mut ends, &plan, &settings(10_000.0, 60_000), &watch).expect("a trial")
    });
    assert!(outcome.is_stopped && outcome.sent > 0 && outcome.duration_ns < 10_000_000_000);
    assert!(outcome.void().is_none(), "{:?}", outcome.void());
}

#[test]
fn packets_of_another_trial_are_foreign() {
    let (plan, (mut ends, mut pool)) = (plan(), wire(1024));
    let watch = Watch::default();
    let (a, b) = MemoryPort::wire(&MemoryConfig::new("a", 1), &MemoryConfig::new("b", 2), 1);
    let ((_, _, mut stray), (_, mut rx, _)) = (a.split(), b.split());
    std::mem::swap(&mut ends.rx, &mut rx[0]);
    let mut burst = Burst::new();
    for tag in [3, 4] {
        let mut packet = pool.allocate(plan.frame(0)).expect("a buffer");
        plan.finish(0, Stamp { tag, number: 0, intended_ns: 0 }, &mut packet);
        burst.push(packet).expect("room");
    }
    burst.push(pool.allocate(&[0; 60]).expect("a buffer")).expect("room");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(30));
            assert_eq!(stray[0].send(&mut burst), 3);
        });
        let outcome = run(&mut ends, &plan, &settings(1_000.0, 60), &watch).expect("a trial");
        assert_eq!((outcome.arrivals.received, outcome.foreign), (1, 2));
    });
}
