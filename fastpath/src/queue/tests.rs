use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::port::PacketPool;
use crate::port::memory::{MemoryBuf, MemoryPool};
use crate::settings::CoDelLimits;

const MS: u64 = 1_000_000;
const LIMITS: CoDelLimits = CoDelLimits { target_ns: 5 * MS, interval_ns: 100 * MS };
const MTU: u16 = 1500;

fn settings(queue_depth: usize, discipline: Discipline) -> PortSettings {
    PortSettings { name: "p".into(), mac: [0; 6], mtu: MTU, controlled: None, vlan: vec![], queue_depth, discipline }
}

/// A ring that takes as many as it is told, keeps the numbers of the packets, and counts how often it was asked.
#[derive(Default)]
struct Ring {
    room: usize,
    taken: Vec<u32>,
    asked: usize,
}

impl TxQueue for Ring {
    type Buf = MemoryBuf;
    fn send(&mut self, burst: &mut Burst<MemoryBuf>) -> usize {
        self.asked += 1;
        let count = burst.len().min(self.room);
        self.room -= count;
        self.taken.extend(burst.drain_front(count).map(|packet| number(&packet)));
        count
    }
}

fn packet(pool: &mut MemoryPool, number: u32, len: usize) -> MemoryBuf {
    let mut frame = vec![0; len.max(4)];
    frame[..4].copy_from_slice(&number.to_be_bytes());
    pool.allocate(&frame).expect("a buffer")
}

fn number(packet: &MemoryBuf) -> u32 {
    u32::from_be_bytes(*packet.bytes().first_chunk().expect("a number"))
}

/// A queue, its ring, and what a worker does with both.
struct Port {
    queue: OutputQueue<MemoryBuf>,
    ring: Ring,
    pool: MemoryPool,
    next: u32,
    total: Flushed,
    refused: Vec<u32>,
}

impl Port {
    fn new(depth: usize, discipline: Discipline) -> Port {
        let queue = OutputQueue::new(&settings(depth, discipline));
        let pool = MemoryPool::new(5000, 1600);
        Port { queue, ring: Ring::default(), pool, next: 0, total: Flushed::default(), refused: Vec::new() }
    }

    fn count(&mut self, flushed: Flushed) {
        self.total.packets += flushed.packets;
        self.total.bytes += flushed.bytes;
        self.total.delayed += flushed.delayed;
    }

    fn send(&mut self, len: usize, now_ns: u64) {
        let packet = packet(&mut self.pool, self.next, len);
        self.next += 1;
        if let Err(packet) = self.queue.push(packet) {
            let flushed = self.queue.make_room(&mut self.ring, now_ns);
            self.count(flushed);
            if let Err(packet) = self.queue.push(packet) {
                self.refused.push(number(&packet));
            }
        }
    }

    fn end_turn(&mut self, room: usize, now_ns: u64) {
        self.ring.room += room;
        let flushed = self.queue.flush(&mut self.ring, now_ns);
        self.count(flushed);
    }

    /// Every packet has an end, and those that are sent are in order.
    fn check(&self) {
        assert_eq!(self.ring.taken.len() as u64, self.total.packets);
        let ended = self.total.packets + self.total.delayed + self.refused.len() as u64 + self.queue.len() as u64;
        assert_eq!(ended, u64::from(self.next));
        assert!(self.ring.taken.is_sorted_by(|a, b| a < b));
        let held = self.pool.buffers() - self.pool.free();
        assert_eq!((held, held == 0), (self.queue.len(), self.queue.is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_fifo_queue_is_a_bounded_queue(
        depth in 1usize..200,
        turns in proptest::collection::vec((0usize..150, 0usize..150), 1..40),
    ) {
        let mut port = Port::new(depth, Discipline::Fifo);
        // What waits at the ends of turns, and what has left. Within a turn the ring is asked by bursts until it has no
        // room, so the model takes what it can whenever a packet comes.
        let mut model: VecDeque<u32> = VecDeque::new();
        let (mut left, mut refused, mut bytes) = (Vec::new(), Vec::new(), 0u64);
        let mut bytes_of = Vec::new();
        for (turn, (pushes, room)) in turns.into_iter().enumerate() {
            // A ring that is full stays so until the turn ends; it drains between turns.
            for i in 0..pushes {
                let len = 60 + (turn * 7 + i) % 1000;
                model.push_back(port.next);
                bytes_of.push(len as u64);
                port.send(len, 0);
                if model.len() > depth {
                    refused.push(model.pop_back().expect("the last one"));
                }
            }
            port.end_turn(room, 0);
            for number in model.drain(..room.min(model.len())) {
                bytes += bytes_of[number as usize];
                left.push(number);
            }
            port.ring.room = 0;
            prop_assert_eq!(&port.ring.taken, &left);
            prop_assert_eq!(&port.refused, &refused);
            prop_assert_eq!(port.queue.len(), model.len());
            prop_assert_eq!((port.total.bytes, port.total.delayed), (bytes, 0));
            port.check();
        }
        prop_assert_eq!(port.queue.clear(), model.len());
        prop_assert_eq!(port.pool.free(), port.pool.buffers());
    }

    #[test]
    fn codel_keeps_count_order_and_depth_and_drops_only_what_waited(
        depth in 1usize..300,
        turns in proptest::collection::vec((0usize..80, 0usize..80, 0u64..40), 1..200),
    ) {
        let mut port = Port::new(depth, Discipline::CoDel(LIMITS));
        let (mut now_ns, mut came_ns) = (0, Vec::new());
        for (pushes, room, wait_ms) in turns {
            now_ns += wait_ms * MS;
            let (delayed, len_before) = (port.total.delayed, port.queue.len());
            let oldest_ns = port.ring.taken.last().map_or(0, |&last| last as usize + 1);
            for _ in 0..pushes {
                came_ns.push(now_ns);
                port.send(1000, now_ns);
                prop_assert!(port.queue.len() <= depth);
            }
            port.end_turn(room, now_ns);
            if port.total.delayed > delayed {
                // Whatever was dropped, the oldest of all that waited had waited for an interval and the target.
                prop_assert!(len_before > 1);
                prop_assert!(now_ns - came_ns[oldest_ns] >= LIMITS.target_ns);
                prop_assert!(now_ns >= LIMITS.interval_ns + LIMITS.target_ns);
            }
            port.ring.room = 0;
            port.check();
        }
        // Whoever is patient gets the rest: a queue does not keep anything.
        while !port.queue.is_empty() {
            now_ns += MS;
            port.end_turn(1, now_ns);
        }
        port.check();
    }

    /// The control against one that is written otherwise: packet by packet, with what is to happen next as its state.
    #[test]
    fn the_control_says_what_the_rfc_says(
        // Mostly steps of a few milliseconds, some as long as the control remembers.
        steps in proptest::collection::vec(
            (0usize..12, 0usize..8, prop_oneof![20 => 0u64..60, 1 => 1500u64..1750], 100usize..1500),
            1..300,
        ),
    ) {
        let mut pool = MemoryPool::new(5000, 1600);
        let mut codel = CoDel::new(LIMITS, 1522);
        let mut model = Model::default();
        let (mut line, mut lens) = (Line::with_capacity(5000), VecDeque::new());
        let (mut now_ns, mut next, mut dropped) = (0, 0, 0);
        for (pushes, takes, wait_ms, len) in steps {
            now_ns += wait_ms * MS;
            for _ in 0..pushes {
                line.push(packet(&mut pool, next, len), now_ns);
                lens.push_back((next, now_ns, len as u64));
                next += 1;
            }
            for _ in 0..takes {
                let taken = codel.take(&mut line, now_ns, &mut dropped).map(|packet| number(&packet));
                prop_assert_eq!(taken, model.take(&mut lens, now_ns));
                prop_assert_eq!(dropped, model.dropped);
            }
        }
    }
}

/// What happens to the next packet that is looked at, by the pseudo-code of RFC 8289, section 5.
#[derive(Clone, Copy, Default, PartialEq)]
enum Next {
    #[default]
    Usual,
    /// It follows the packet with which dropping began, and is sent.
    Spared,
    /// It follows a dropped one: if it is late too, the time of the next drop moves on.
    AfterDrop,
}

#[derive(Default)]
struct Model {
    next: Next,
    dropping: bool,
    first_above: Option<u64>,
    drop_next: f64,
    count: u32,
    last_count: u32,
    dropped: u64,
}

impl Model {
    fn take(&mut self, line: &mut VecDeque<(u32, u64, u64)>, now: u64) -> Option<u32> {
        let interval = LIMITS.interval_ns;
        loop {
            let next = std::mem::take(&mut self.next);
            let Some((number, came, _)) = line.pop_front() else {
                self.first_above = None;
                self.dropping &= next == Next::Spared;
                return None;
            };
            let left: u64 = line.iter().map(|entry| entry.2).sum();
            let above = now - came >= LIMITS.target_ns && left > 1522;
            let late = above && self.first_above.is_some_and(|first| now >= first);
            self.first_above = above.then(|| self.first_above.unwrap_or(now + interval));
            if next == Next::Spared {
                return Some(number);
            }
            if !self.dropping {
                if !late {
                    return Some(number);
                }
                self.dropping = true;
                self.dropped += 1;
                let delta = self.count - self.last_count;
                let recent = (now as f64) - self.drop_next < (16 * interval) as f64;
                self.count = if delta > 1 && recent { delta } else { 1 };
                self.last_count = self.count;
                self.drop_next = now as f64 + (interval as f64 / f64::from(self.count).sqrt()).floor();
                self.next = Next::Spared;
                continue;
            }
            if !late {
                self.dropping = false;
                return Some(number);
            }
            if next == Next::AfterDrop {
                self.drop_next += (interval as f64 / f64::from(self.count).sqrt()).floor();
            }
            if (now as f64) < self.drop_next {
                return Some(number);
            }
            self.dropped += 1;
            self.count += 1;
            self.next = Next::AfterDrop;
        }
    }
}

/// Sends at a steady rate into a ring that takes 1 packet a millisecond, and tells when packets were dropped, in ms.
fn drop_times(depth: usize, duration_ms: u64, per_ms: impl Fn(u64) -> usize) -> (Vec<u64>, Port) {
    let mut port = Port::new(depth, Discipline::CoDel(LIMITS));
    let mut times = Vec::new();
    for ms in 0..duration_ms {
        for _ in 0..per_ms(ms) {
            port.send(1000, ms * MS);
        }
        let before = port.total.delayed;
        port.end_turn(1, ms * MS);
        port.ring.room = 0;
        times.extend((before..port.total.delayed).map(|_| ms));
        port.check();
    }
    (times, port)
}

#[test]
fn a_standing_queue_is_dropped_from_at_a_growing_rate() {
    // 20 packets at once, then as many as leave: the queue stands at about 20 ms and would for ever. Nobody heeds the
    // drops: what is dropped is replaced at once.
    let mut port = Port::new(1000, Discipline::CoDel(LIMITS));
    let mut times = Vec::new();
    for ms in 0..1000u64 {
        while port.queue.len() < 60 {
            port.send(1000, ms * MS);
        }
        let before = port.total.delayed;
        port.end_turn(1, ms * MS);
        port.ring.room = 0;
        times.extend((before..port.total.delayed).map(|_| ms));
    }
    port.check();
    // The first is dropped an interval after the first packet that waited as long as the target was looked at, then
    // the n-th 100/√n ms after the one before, on the millisecond after it.
    assert!((104..=110).contains(&times[0]), "{times:?}");
    let mut due = times[0] as f64;
    for (n, &time) in times.iter().enumerate().skip(1) {
        due += 100.0 / (n as f64).sqrt();
        assert!((time as f64) >= due - 1.0 && (time as f64) <= due + 2.0, "drop {n} at {time}, due {due}: {times:?}");
    }
    let in_half = |from: u64| times.iter().filter(|&&time| (from..from + 300).contains(&time)).count();
    assert!(in_half(700) > in_half(400) && in_half(400) > in_half(100), "{times:?}");
    assert_eq!(port.refused.len(), 0);
}

#[test]
fn a_burst_that_is_gone_within_an_interval_loses_nothing() {
    // 90 packets at once leave within 90 ms; each burst then has a pause to end in.
    let (times, port) = drop_times(1000, 2000, |ms| if ms % 200 == 0 { 90 } else { 0 });
    assert_eq!(times, [0u64; 0]);
    assert_eq!(port.ring.taken.len(), 900);
    // A queue that is full for longer than that is not spared.
    let (times, _) = drop_times(1000, 2000, |ms| if ms % 200 == 0 { 199 } else { 0 });
    assert!(!times.is_empty());
}

#[test]
fn dropping_goes_on_where_it_ended_when_the_queue_stands_again_soon() {
    // Overload for a second, 150 ms of silence that empties nothing but what waits, overload again.
    let overload = |ms: u64| if ms % 1400 < 1000 { 2 } else { 0 };
    let (times, _) = drop_times(400, 2800, overload);
    let first = times.iter().filter(|&&time| time < 1400).count();
    let again = times.iter().filter(|&&time| time >= 1400).count();
    assert!(again > first + 3, "{first} drops, then {again}: {times:?}");
}

#[test]
fn one_slow_frame_after_the_other_is_not_called_standing() {
    // A link so slow that each frame waits longer than the target behind the one before: at most one waits.
    let mut port = Port::new(1000, Discipline::CoDel(LIMITS));
    for i in 0..100 {
        port.send(1500, i * 150 * MS);
        port.end_turn(1, i * 150 * MS + 149 * MS);
        port.ring.room = 0;
    }
    assert_eq!(port.total.delayed, 0);
    port.check();
}

#[test]
fn a_ring_that_refuses_is_asked_once_a_turn_and_nothing_is_lost() {
    for discipline in [Discipline::Fifo, Discipline::CoDel(LIMITS)] {
        let mut port = Port::new(500, discipline);
        for turn in 0..10u64 {
            let asked = port.ring.asked;
            for _ in 0..100 {
                port.send(100, turn * 1000);
            }
            port.end_turn(0, turn * 1000);
            // In the first turn a whole burst was offered before the ring was known to be full.
            assert!(port.ring.asked - asked <= if turn == 0 { 2 } else { 1 }, "{discipline:?}, turn {turn}");
            port.check();
        }
        assert_eq!((port.queue.len(), port.refused.len()), (500, 500));
        assert_eq!(port.refused[0], 500, "the latest are refused");
        // The ring has room again: everything leaves in order, within one turn.
        port.end_turn(1000, 20_000);
        assert_eq!(port.ring.taken, (0..500).collect::<Vec<u32>>());
        assert!(port.queue.is_empty());
        port.check();
    }
}

#[test]
fn a_slow_ring_is_offered_little_more_than_it_takes() {
    let mut port = Port::new(1000, Discipline::CoDel(LIMITS));
    for ms in 0..50 {
        for _ in 0..3 {
            port.send(1000, ms * MS);
        }
        port.end_turn(1, ms * MS);
        port.ring.room = 0;
        if ms > 2 {
            assert!(port.queue.offer.len() <= OFFER_LEN_MIN, "{}", port.queue.offer.len());
        }
    }
    // A fast one is offered whole bursts.
    let asked = port.ring.asked;
    port.end_turn(1000, 51 * MS);
    assert!(port.queue.is_empty());
    assert!(port.ring.asked - asked <= 7, "{}", port.ring.asked - asked);
}
