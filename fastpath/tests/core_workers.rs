//! Several workers over devices that do not keep sources apart: all packets from one source reach one worker, in order,
//! and none is lost without a name.
//!
//! A worker sends by transmit queues of its own, so the queue that a packet comes out of says who handled it.

mod core_support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use core_support::*;
use vinet_fastpath::counters::Snapshot;
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::port::{Burst, PacketBuf, RxQueue};
use vinet_fastpath::settings::{CoDelLimits, Discipline, Idle, PortSettings, Settings};

fn settings(workers: usize) -> Settings {
    Settings { cores: vec![None; workers], ..Settings::default() }
}

/// A router of `workers` workers over two ports with one receive queue each.
fn lab(settings: Settings, ports: Vec<PortSettings>) -> Lab {
    Lab::with_rx_queues(settings, ports, |_| Ok(()), 1)
}

/// Source number n of port 0, of either family.
fn source(n: u32) -> (String, &'static str) {
    if n.is_multiple_of(2) {
        (format!("10.0.0.{}", 2 + n), "10.0.1.2")
    } else {
        (format!("2001:db8::{:x}", 2 + n), "2001:db8:1::2")
    }
}

/// `rounds` packets from each of `sources` sources, each with its number as payload.
fn packets(sources: u32, rounds: u32) -> Vec<Vec<u8>> {
    let one = |round: u32, n| {
        let (src, dst) = source(n);
        udp(0, &src, dst, 64, &(round * sources + n).to_be_bytes())
    };
    (0..rounds).flat_map(|round| (0..sources).map(move |n| one(round, n))).collect()
}

/// What comes out of port 1 until `count` packets are there: for each source the numbers of its packets, and the queues
/// that they came by.
fn sent_by(lab: &mut Lab, count: usize) -> BTreeMap<String, (Vec<u32>, BTreeSet<usize>)> {
    let end = std::time::Instant::now() + PATIENCE;
    let mut seen: BTreeMap<String, (Vec<u32>, BTreeSet<usize>)> = BTreeMap::new();
    let (mut burst, mut received) = (Burst::new(), 0);
    while received < count {
        for (queue, rx) in lab.hosts[1].rx.iter_mut().enumerate() {
            received += rx.receive(&mut burst);
            for packet in burst.drain() {
                let (src, _, _) = read_ip(packet.bytes());
                let at = if packet.bytes()[12] == 8 { 42 } else { 62 };
                let number = u32::from_be_bytes(*packet.bytes()[at..].first_chunk().expect("a number"));
                let entry = seen.entry(src.to_string()).or_default();
                entry.0.push(number);
                entry.1.insert(queue);
            }
        }
        assert!(std::time::Instant::now() < end, "{received} of {count}: {:?}", lab.counters.snapshot());
        std::thread::yield_now();
    }
    seen
}

/// What each worker received on port 0.
fn shares(lab: &Lab) -> Vec<u64> {
    lab.counters.worker_snapshots().iter().map(|counts| counts.ports[0].rx_packets).collect()
}

fn is_even(counts: &Snapshot) {
    assert_eq!(counts.balance().difference, 0, "{counts:?}");
    assert_eq!(counts.handed_over, counts.taken_over);
}

#[test]
fn all_packets_from_one_source_reach_one_worker_in_order() {
    const SOURCES: u32 = 200;
    const ROUNDS: u32 = 60;
    for workers in [2, 3] {
        let mut lab = lab(settings(workers), vec![edge(0, &["10.0.0.0/24", "2001:db8::/64"]), port(1)]);
        let frames = packets(SOURCES, ROUNDS);
        let mut seen: BTreeMap<String, (Vec<u32>, BTreeSet<usize>)> = BTreeMap::new();
        for part in frames.chunks(1000) {
            lab.send(0, part);
            for (src, (numbers, queues)) in sent_by(&mut lab, part.len()) {
                let entry = seen.entry(src).or_default();
                entry.0.extend(numbers);
                entry.1.extend(queues);
            }
        }
        assert_eq!(seen.len(), SOURCES as usize);
        for n in 0..SOURCES {
            let (src, _) = source(n);
            let (numbers, queues) = &seen[&addr(&src).to_string()];
            assert_eq!(queues.len(), 1, "{src} was handled by workers {queues:?}");
            assert!(numbers.iter().copied().eq((0..ROUNDS).map(|round| round * SOURCES + n)), "{src}: {numbers:?}");
        }
        let shares = shares(&lab);
        let all = u64::from(SOURCES * ROUNDS);
        assert_eq!(shares.iter().sum::<u64>(), all);
        // Lots are even within five standard deviations.
        let even = u64::from(ROUNDS) * u64::from(SOURCES) / workers as u64;
        assert!(shares.iter().all(|share| share.abs_diff(even) < u64::from(ROUNDS) * 35), "{shares:?}");
        let counts = lab.stop();
        is_even(&counts);
        // What one worker polls is the others' but for one share.
        assert_eq!(counts.handed_over, all - shares[0], "{counts:?}");
        assert_eq!((counts.ports[0].rx_packets, counts.dropped()), (all, 0));
    }
}

#[test]
fn with_one_worker_or_devices_that_keep_sources_nothing_is_handed_over() {
    let alone = lab(settings(1), vec![port(0), port(1)]);
    let spread = Lab::new(settings(2), vec![port(0), port(1)]);
    for mut lab in [alone, spread] {
        lab.send(0, &packets(50, 10));
        sent_by(&mut lab, 500);
        let counts = lab.stop();
        assert_eq!((counts.handed_over, counts.taken_over, counts.ports[1].tx_packets), (0, 0, 500));
    }
}

#[test]
fn workers_that_sleep_find_what_was_handed_over_when_they_wake() {
    let mut lab = lab(Settings { idle: Idle::Backoff, ..settings(2) }, vec![port(0), port(1)]);
    let frames = packets(10, 20);
    for part in frames.chunks(10) {
        // Long enough for both to fall asleep.
        std::thread::sleep(Duration::from_millis(5));
        lab.send(0, part);
        assert_eq!(sent_by(&mut lab, part.len()).len(), 10);
    }
    let counts = lab.stop();
    is_even(&counts);
    assert!(counts.handed_over > 0);
}

#[test]
fn a_ring_between_workers_that_is_full_costs_packets_by_name() {
    let mut lab = lab(Settings { handover_len: 1, ..settings(2) }, vec![port(0), port(1)]);
    let frames = packets(100, 50);
    lab.send(0, &frames);
    let counts = lab.wait_for("an end of each", |counts| {
        counts.ports[0].rx_packets == 5000 && counts.ports[1].tx_packets + counts.dropped() == 5000
    });
    let full = counts.drop(DropReason::HandoverFull);
    assert!(full > 500, "{counts:?}");
    assert_eq!(counts.dropped(), full);
    sent_by(&mut lab, 5000 - full as usize);
    is_even(&lab.stop());
}

#[test]
fn a_stop_under_load_ends_what_is_on_its_way() {
    for _ in 0..5 {
        let mut lab = lab(Settings { idle: Idle::Spin, ..settings(3) }, vec![port(0), port(1)]);
        lab.send(0, &packets(200, 10));
        // Buffers and counts are held to be complete.
        is_even(&lab.stop());
    }
}

#[test]
fn a_packet_for_the_router_reaches_the_kernel_whoever_handles_it() {
    let mut lab = lab(settings(2), vec![port(0), port(1)]);
    let frames: Vec<_> = (0..40).map(|n| udp(0, &format!("10.0.0.{}", 2 + n), "10.0.0.1", 64, &[1; 20])).collect();
    lab.send(0, &frames);
    let counts = lab.wait_for("all", |counts| counts.to_tap == 40);
    assert!(counts.handed_over > 0, "{counts:?}");
    let mut ports = Vec::new();
    lab.slow_path.to_tap(100, |port, frame| ports.push((port, frame.len())));
    assert_eq!(ports, [(0, frames[0].len()); 40]);
    lab.stop();
}

#[test]
fn a_codel_queue_that_stands_is_dropped_from_and_the_count_is_exact() {
    let discipline = Discipline::CoDel(CoDelLimits { target_ns: 1_000_000, interval_ns: 5_000_000 });
    let slow = PortSettings { queue_depth: 3000, discipline, ..port(1) };
    let mut lab = Lab::new(Settings::default(), vec![port(0), slow]);
    // The far end's ring of 4096 is filled, and then emptied so slowly that the queue before it stands.
    lab.send(0, &packets(200, 35));
    let full = lab.wait_for("all received", |counts| counts.ports[0].rx_packets == 7000);
    assert_eq!((full.queued, full.drop(DropReason::QueueDelay)), (2904, 0));
    let mut received = 0;
    let mut burst = Burst::with_len_max(4);
    for _ in 0..300 {
        received += lab.hosts[1].rx[0].receive(&mut burst);
        burst.drain();
        std::thread::sleep(Duration::from_micros(500));
        let counts = lab.counters.snapshot();
        assert_eq!(counts.balance().difference, 0, "{counts:?}");
    }
    let counts = lab.counters.snapshot();
    let delayed = counts.drop(DropReason::QueueDelay);
    assert!(delayed > 10, "{counts:?}");
    assert_eq!(counts.dropped(), delayed);
    let end = std::time::Instant::now() + PATIENCE;
    while lab.counters.snapshot().queued > 0 {
        received += lab.hosts[1].received().len();
        assert!(std::time::Instant::now() < end);
    }
    received += lab.hosts[1].received().len();
    let counts = lab.stop();
    assert_eq!(received as u64 + counts.drop(DropReason::QueueDelay), 7000);
}
