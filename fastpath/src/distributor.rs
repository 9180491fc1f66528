//! The software distributor: it brings every packet to the worker that its source address belongs to.
//!
//! What a program remembers of a source is one worker's, so all packets from one source have to reach the same one. A
//! device that hashes by source address alone sees to that. Where a device cannot, and several workers run, the worker
//! that polls reads each packet's source and hands what is another's over to it, in bursts, by a bounded ring with one
//! producer and one consumer for each pair of workers. The other handles it as if it had come from the port. Packets
//! of one source that come by one receive queue keep their order. A packet without a source stays where it is.
//!
//! The ring counts as part of the way in: a packet is counted as received by the worker that handles it, so each
//! worker's own counts are in balance at any time. One for which the ring has no room is received and dropped, by
//! name, where it was polled. Nobody waits and nobody is woken: a worker that sleeps drains its rings when it wakes.
//!
//! Which worker a source belongs to is the same for every port that is distributed, is drawn by lot at each start, and
//! cannot be foreseen by whoever chooses addresses. Left out: moving sources away from a worker that has too much.

use ahash::RandomState;
use rtrb::{Consumer, Producer, RingBuffer};
use vinet_pktops::parse::{
    ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, VLAN_TAG_LEN, VLAN_TAGS_MAX,
};

use crate::counters::{Snapshot, Tally};
use crate::drop_reason::DropReason;
use crate::port::{Burst, PacketBuf};

/// One worker's part in the distribution.
pub(crate) struct Distributor<B> {
    worker: usize,
    sources: RandomState,
    /// Whether the packets that are polled from a port are distributed.
    is_shared: Box<[bool]>,
    /// To each worker; this one's own has no ring, and what is put there stays.
    outlets: Vec<Outlet<B>>,
    /// From each other worker.
    inlets: Vec<Consumer<Handed<B>>>,
    /// The inlet that is drained next in this turn, and how many bursts it gave.
    next: (usize, usize),
}

/// The way to one worker.
struct Outlet<B> {
    leaving: Burst<B>,
    ring: Option<Producer<Handed<B>>>,
}

/// A packet on its way from one worker to another, and the port it came by.
struct Handed<B> {
    port: u16,
    packet: B,
}

/// The parts of all workers, in order. `is_shared` tells for each port whether its packets are distributed, `seeds` are
/// random, and each ring holds `ring_len` packets (at least one).
pub(crate) fn mesh<B>(workers: usize, is_shared: &[bool], seeds: [u64; 4], ring_len: usize) -> Vec<Distributor<B>> {
    let [a, b, c, d] = seeds;
    let mut parts: Vec<Distributor<B>> = (0..workers)
        .map(|worker| Distributor {
            worker,
            sources: RandomState::with_seeds(a, b, c, d),
            is_shared: is_shared.into(),
            outlets: (0..workers).map(|_| Outlet { leaving: Burst::new(), ring: None }).collect(),
            inlets: Vec::new(),
            next: (0, 0),
        })
        .collect();
    for from in 0..workers {
        for to in (0..workers).filter(|&to| to != from) {
            let (producer, consumer) = RingBuffer::new(ring_len.max(1));
            parts[from].outlets[to].ring = Some(producer);
            parts[to].inlets.push(consumer);
        }
    }
    parts
}

impl<B: PacketBuf> Distributor<B> {
    /// Hands over what is another worker's of a burst that was polled from `port`. What is this one's stays, in order.
    pub(crate) fn scatter(&mut self, port: usize, burst: &mut Burst<B>, tally: &mut Tally) {
        if !self.is_shared[port] {
            return;
        }
        for packet in burst.packets() {
            packet.prefetch();
        }
        for packet in burst.drain() {
            let owner = match source(packet.bytes()) {
                Some(source) => owner(&self.sources, source, self.outlets.len()),
                None => self.worker,
            };
            // A burst has as much room as the one that is drained.
            let _ = self.outlets[owner].leaving.push(packet);
        }
        for outlet in &mut self.outlets {
            match &mut outlet.ring {
                None => outlet.leaving.drain().for_each(|packet| drop(burst.push(packet))),
                Some(ring) if !outlet.leaving.is_empty() => hand_over(port, &mut outlet.leaving, ring, tally),
                Some(_) => {}
            }
        }
    }

    /// Takes over a burst from another worker, and tells the port it came by; `None` when this turn has had its share
    /// of every ring: what is there, in at most as many bursts as there are ports.
    pub(crate) fn take_over(&mut self, burst: &mut Burst<B>, tally: &mut Tally) -> Option<usize> {
        while let (number, bursts) = self.next
            && let Some(ring) = self.inlets.get_mut(number)
        {
            if bursts < self.is_shared.len()
                && let Some(port) = take_run(ring, burst)
            {
                self.next.1 += 1;
                tally.totals.taken_over += burst.len() as u64;
                return Some(usize::from(port));
            }
            self.next = (number + 1, 0);
        }
        self.next = (0, 0);
        None
    }

    /// Ends what is still on its way to this worker, after all workers have stopped: received and dropped.
    pub(crate) fn end(mut self, counts: &mut Snapshot) {
        for ring in &mut self.inlets {
            while let Ok(Handed { port, packet }) = ring.pop() {
                counts.totals.taken_over += 1;
                counts.ports[usize::from(port)].rx_packets += 1;
                counts.ports[usize::from(port)].rx_bytes += packet.bytes().len() as u64;
                counts.drops[DropReason::Stopped as usize] += 1;
            }
        }
    }
}

/// Puts packets on a ring, oldest first, and drops those that it has no room for.
fn hand_over<B: PacketBuf>(port: usize, leaving: &mut Burst<B>, ring: &mut Producer<Handed<B>>, tally: &mut Tally) {
    let room = ring.slots().min(leaving.len());
    if let Ok(chunk) = ring.write_chunk_uninit(room) {
        let port = port as u16;
        chunk.fill_from_iter(leaving.drain_front(room).map(|packet| Handed { port, packet }));
        tally.totals.handed_over += room as u64;
    }
    if !leaving.is_empty() {
        let counts = &mut tally.ports[port];
        counts.rx_packets += leaving.len() as u64;
        counts.rx_bytes += leaving.packets().iter().map(|packet| packet.bytes().len() as u64).sum::<u64>();
        tally.drop_packets(DropReason::HandoverFull, leaving.len() as u64);
        B::drop_all(leaving);
    }
}

/// Moves the oldest packets of a ring to `burst`, as many as it has room for and came by the same port; tells which.
fn take_run<B>(ring: &mut Consumer<Handed<B>>, burst: &mut Burst<B>) -> Option<u16> {
    let count = ring.slots().min(burst.room());
    let chunk = ring.read_chunk(count).ok()?;
    let (first, second) = chunk.as_slices();
    let port = first.first()?.port;
    let run = first.iter().chain(second).take_while(|handed| handed.port == port).count();
    for handed in chunk.into_iter().take(run) {
        // There is room for all of the chunk.
        let _ = burst.push(handed.packet);
    }
    Some(port)
}

/// The worker that a source belongs to.
#[inline]
fn owner(sources: &RandomState, source: u128, workers: usize) -> usize {
    // The upper half of the hash, scaled to the workers: no division.
    (((sources.hash_one(source) >> 32) * workers as u64) >> 32) as usize
}

/// The source address of a frame, an IPv4 one in the lowest bits; `None` for what has none or breaks off before it.
///
/// Where the parser reads a source from a frame, it is this one.
#[inline]
fn source(frame: &[u8]) -> Option<u128> {
    let mut l3_offset = ETHERNET_LEN;
    loop {
        let ethertype = u16::from_be_bytes(*frame.get(l3_offset - 2..)?.first_chunk()?);
        match ethertype {
            ETHERTYPE_IPV4 => {
                let source = frame.get(l3_offset + 12..)?.first_chunk()?;
                return Some(u128::from(u32::from_be_bytes(*source)));
            }
            ETHERTYPE_IPV6 => return Some(u128::from_be_bytes(*frame.get(l3_offset + 8..)?.first_chunk()?)),
            ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN if l3_offset < ETHERNET_LEN + VLAN_TAGS_MAX * VLAN_TAG_LEN => {
                l3_offset += VLAN_TAG_LEN;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vinet_pktops::parse;
    use vinet_trusted::addr::Addr;

    use super::*;
    use crate::port::PacketPool;
    use crate::port::memory::{MemoryBuf, MemoryPool};

    /// A frame with so many tags, from a source, with a number behind its addresses.
    fn frame(tags: usize, source: Addr, number: u32) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for tag in 0..tags {
            frame.extend(if tag + 1 < tags { [0x88, 0xa8, 0, 100] } else { [0x81, 0, 0, 7] });
        }
        match source {
            Addr::V4(source) => {
                frame.extend([8, 0]);
                let mut ip = [&[0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0], &source.to_be_bytes()[..]].concat();
                ip.extend([10, 0, 1, 2]);
                let sum = vinet_pktops::checksum::of(&ip);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend(ip);
            }
            Addr::V6(source) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 4, 59, 64]);
                frame.extend(source.to_be_bytes());
                frame.extend([0x20; 16]);
            }
        }
        frame.extend(number.to_be_bytes());
        frame
    }

    fn number(packet: &MemoryBuf) -> u32 {
        u32::from_be_bytes(*packet.bytes().last_chunk().expect("a number"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_source_is_the_parsers(
            tags in 0usize..4,
            v4: bool,
            bits: u128,
            changes in proptest::collection::vec((0usize..60, any::<u8>()), 0..3),
            cut in 0usize..64,
        ) {
            let addr = if v4 { Addr::V4(bits as u32) } else { Addr::V6(bits) };
            let mut frame = frame(tags, addr, 7);
            prop_assert_eq!(source(&frame), (tags <= 2).then_some(if v4 { bits & 0xffff_ffff } else { bits }));
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            frame.truncate(frame.len() - cut.min(frame.len()) / 2);
            if let Ok(headers) = parse::headers(&frame) {
                let expected = match headers.src {
                    Addr::V4(addr) => u128::from(addr),
                    Addr::V6(addr) => addr,
                };
                prop_assert_eq!(source(&frame), Some(expected));
            }
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Against plain queues: nothing is lost, order is kept between two workers, and the owner is always the same.
        #[test]
        fn hands_over_in_order_and_drops_by_name(
            workers in 2usize..5,
            ring_len in 1usize..50,
            steps in proptest::collection::vec((any::<u8>(), 0u16..3, 0usize..40, any::<bool>()), 1..60),
        ) {
            let mut pool = MemoryPool::new(4000, 100);
            let mut parts = mesh::<MemoryBuf>(workers, &[true, false, true], [1, 2, 3, 4], ring_len);
            let mut tallies = vec![Tally::new(3); workers];
            let mut burst = Burst::with_len_max(32);
            let mut owner_of = std::collections::HashMap::new();
            let mut last_of = std::collections::HashMap::new();
            let (mut next, mut ended) = (0u32, 0u64);
            for (worker, port, count, takes) in steps {
                let worker = usize::from(worker) % workers;
                for i in 0..count.min(burst.room()) {
                    // One source for each polling worker and a few addresses, so that each comes by one way.
                    let source = Addr::V4((worker as u32) << 16 | u32::from(port) << 8 | (i % 5) as u32);
                    let packet = pool.allocate(&frame(i % 3, source, next)).expect("a buffer");
                    prop_assert!(burst.push(packet).is_ok());
                    next += 1;
                }
                let polled = burst.len() as u64;
                let (handed, full) = (tallies[worker].totals.handed_over, tallies[worker].drops);
                parts[worker].scatter(usize::from(port), &mut burst, &mut tallies[worker]);
                let handed = tallies[worker].totals.handed_over - handed;
                let full = tallies[worker].drops[DropReason::HandoverFull as usize] - full[DropReason::HandoverFull as usize];
                prop_assert_eq!(polled, burst.len() as u64 + handed + full);
                prop_assert!(port != 1 || polled == burst.len() as u64);
                ended += full;
                let mut handle = |worker: usize, port: usize, burst: &mut Burst<MemoryBuf>| {
                    for packet in burst.drain() {
                        let source = source(packet.bytes()).expect("a source");
                        if port != 1 {
                            assert_eq!(*owner_of.entry(source).or_insert(worker), worker);
                        }
                        assert_eq!(source as usize >> 8 & 0xff, port);
                        let last = last_of.insert(source, number(&packet));
                        assert!(last < Some(number(&packet)), "order");
                        ended += 1;
                    }
                };
                handle(worker, usize::from(port), &mut burst);
                if takes {
                    let taker = (worker + 1) % workers;
                    let mut bursts = 0;
                    while let Some(port) = parts[taker].take_over(&mut burst, &mut tallies[taker]) {
                        handle(taker, port, &mut burst);
                        bursts += 1;
                    }
                    prop_assert!(bursts <= 3 * (workers - 1));
                }
            }
            let mut counts = crate::counters::Counters::new(1, 3).0.snapshot();
            parts.into_iter().for_each(|part| part.end(&mut counts));
            prop_assert_eq!(counts.balance().difference, 0);
            prop_assert_eq!(ended + counts.drop(DropReason::Stopped), u64::from(next));
            let sum = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
            let taken_over = sum(|tally| tally.totals.taken_over) + counts.totals.taken_over;
            prop_assert_eq!(sum(|tally| tally.totals.handed_over), taken_over);
            prop_assert_eq!(pool.free(), pool.buffers());
        }
    }

    #[test]
    fn sources_are_spread_evenly_and_anew_at_each_start() {
        let owners = |seeds: [u64; 4]| {
            let [a, b, c, d] = seeds;
            let sources = RandomState::with_seeds(a, b, c, d);
            (0..30_000u128).map(|source| owner(&sources, 0x0a00_0000 + source, 3)).collect::<Vec<_>>()
        };
        let one = owners([1, 2, 3, 4]);
        for worker in 0..3 {
            let share = one.iter().filter(|&&owner| owner == worker).count();
            assert!((9_500..10_500).contains(&share), "{share} of 30000");
        }
        let other = owners([5, 6, 7, 8]);
        let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!((9_500..10_500).contains(&same), "{same} of 30000");
    }

    #[test]
    fn a_packet_without_a_source_stays() {
        let mut pool = MemoryPool::new(10, 100);
        let mut parts = mesh::<MemoryBuf>(2, &[true], [1, 2, 3, 4], 8);
        let mut burst = Burst::new();
        for part in &mut parts {
            for frame in [&[][..], &[0; 13], &[0xff; 60], &[&[2; 12][..], &[8, 6], &[0; 46]].concat()] {
                assert!(burst.push(pool.allocate(frame).expect("a buffer")).is_ok());
            }
            part.scatter(0, &mut burst, &mut Tally::new(1));
            assert_eq!(burst.drain().count(), 4);
        }
    }
}
