//! Ports in ordinary memory, joined in pairs by a wire: for tests and replay, without DPDK.
//!
//! What one end sends the other receives, in order and unchanged, while both links are up. All buffers and rings are made at the
//! start; polling allocates nothing. Left out: rates, and delays or losses, which `fault` adds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use super::{Burst, Link, PacketBuf, PacketPool, Port, PortHandle, PortStats, RxQueue, TxQueue};

/// Bytes before each new frame.
pub const HEADROOM_LEN: usize = 128;

/// Bytes behind the longest new frame.
pub const TAILROOM_LEN: usize = 64;

/// A pool of buffers of one size; clones are handles to the same one.
#[derive(Clone)]
pub struct MemoryPool {
    shared: Arc<PoolShared>,
}

struct PoolShared {
    free: ArrayQueue<Box<[u8]>>,
    frame_len_max: usize,
}

impl MemoryPool {
    /// Makes `buffers` buffers (at least one) for frames of up to `frame_len_max` bytes.
    #[must_use]
    pub fn new(buffers: usize, frame_len_max: usize) -> Self {
        let free = ArrayQueue::new(buffers.max(1));
        while free.push(vec![0; HEADROOM_LEN + frame_len_max + TAILROOM_LEN].into_boxed_slice()).is_ok() {}
        MemoryPool { shared: Arc::new(PoolShared { free, frame_len_max }) }
    }

    /// Buffers that are free now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.shared.free.len()
    }

    /// Buffers in all.
    #[must_use]
    pub fn buffers(&self) -> usize {
        self.shared.free.capacity()
    }
}

impl PacketPool for MemoryPool {
    type Buf = MemoryBuf;

    fn allocate(&mut self, frame: &[u8]) -> Option<MemoryBuf> {
        if frame.len() > self.shared.frame_len_max {
            return None;
        }
        let mut storage = self.shared.free.pop()?;
        let end = HEADROOM_LEN + frame.len();
        storage[HEADROOM_LEN..end].copy_from_slice(frame);
        Some(MemoryBuf { storage, start: HEADROOM_LEN, end, pool: Arc::clone(&self.shared) })
    }
}

impl fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryPool({} of {} free)", self.free(), self.buffers())
    }
}

/// A packet in a buffer of a [`MemoryPool`], which gets it back.
pub struct MemoryBuf {
    storage: Box<[u8]>,
    start: usize,
    end: usize,
    pool: Arc<PoolShared>,
}

impl PacketBuf for MemoryBuf {
    fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.end]
    }
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(len)?;
        Some(self.bytes_mut())
    }
    fn append(&mut self, len: usize) -> Option<&mut [u8]> {
        self.end = self.end.checked_add(len).filter(|end| *end <= self.storage.len())?;
        Some(self.bytes_mut())
    }
    fn trim_front(&mut self, len: usize) -> bool {
        let fits = len <= self.end - self.start;
        if fits {
            self.start += len;
        }
        fits
    }
    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start.saturating_add(len));
    }
}

impl Drop for MemoryBuf {
    fn drop(&mut self) {
        // The pool made as many buffers as its queue holds, so there is room; an empty box needs no memory.
        let _ = self.pool.free.push(std::mem::take(&mut self.storage));
    }
}

impl fmt::Debug for MemoryBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryBuf({} bytes)", self.end - self.start)
    }
}

/// How one end of a wire is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// The port's name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// Packets that each receive ring holds, at least one.
    pub rx_ring_len: usize,
}

impl MemoryConfig {
    /// Rings of 1024 packets, an MTU of 1500, and a locally administered address that ends with `number`.
    #[must_use]
    pub fn new(name: &str, number: u8) -> Self {
        MemoryConfig { name: name.to_owned(), mac: [2, 0, 0, 0, 0, number], mtu: 1500, rx_ring_len: 1024 }
    }
}

/// One end of a wire.
#[derive(Debug)]
pub struct MemoryPort {
    handle: MemoryHandle,
    rx: Vec<MemoryRx>,
    tx: Vec<MemoryTx>,
}

struct End {
    rings: Vec<ArrayQueue<MemoryBuf>>,
    link_up: AtomicBool,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    tx_errors: AtomicU64,
}

impl End {
    fn new(config: &MemoryConfig, queues: usize) -> Arc<End> {
        Arc::new(End {
            rings: (0..queues.max(1)).map(|_| ArrayQueue::new(config.rx_ring_len.max(1))).collect(),
            link_up: AtomicBool::new(true),
            counters: Counters::default(),
        })
    }
}

impl MemoryPort {
    /// A wire and its two ends, with `queues` queues each way (at least one). Transmit queue n of one end leads to receive
    /// queue n of the other.
    #[must_use]
    pub fn wire(one: &MemoryConfig, other: &MemoryConfig, queues: usize) -> (MemoryPort, MemoryPort) {
        let (one_end, other_end) = (End::new(one, queues), End::new(other, queues));
        (MemoryPort::new(one, &one_end, &other_end), MemoryPort::new(other, &other_end, &one_end))
    }

    fn new(config: &MemoryConfig, own: &Arc<End>, peer: &Arc<End>) -> MemoryPort {
        let rx = (0..own.rings.len()).map(|queue| MemoryRx { queue, own: Arc::clone(own) }).collect();
        let tx = (0..own.rings.len())
            .map(|queue| MemoryTx { queue, own: Arc::clone(own), peer: Arc::clone(peer) })
            .collect();
        let handle = MemoryHandle { name: config.name.clone(), mac: config.mac, mtu: config.mtu, own: Arc::clone(own) };
        MemoryPort { handle, rx, tx }
    }
}

impl Port for MemoryPort {
    type Buf = MemoryBuf;
    type Rx = MemoryRx;
    type Tx = MemoryTx;
    type Handle = MemoryHandle;

    fn split(self) -> (MemoryHandle, Vec<MemoryRx>, Vec<MemoryTx>) {
        (self.handle, self.rx, self.tx)
    }
}

/// A receive queue of a [`MemoryPort`].
pub struct MemoryRx {
    queue: usize,
    own: Arc<End>,
}

impl RxQueue for MemoryRx {
    type Buf = MemoryBuf;

    fn receive(&mut self, burst: &mut Burst<MemoryBuf>) -> usize {
        let (mut packets, mut bytes) = (0, 0);
        while burst.room() > 0
            && let Some(packet) = self.own.rings[self.queue].pop()
        {
            bytes += packet.bytes().len() as u64;
            packets += 1;
            let pushed = burst.push(packet);
            debug_assert!(pushed.is_ok(), "there was room");
        }
        if packets > 0 {
            self.own.counters.rx_packets.fetch_add(packets as u64, Ordering::Relaxed);
            self.own.counters.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        packets
    }

    fn unusable(&self) -> u64 {
        0
    }
}

impl fmt::Debug for MemoryRx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryRx(queue {}, {} packets wait)", self.queue, self.own.rings[self.queue].len())
    }
}

/// A transmit queue of a [`MemoryPort`].
pub struct MemoryTx {
    queue: usize,
    own: Arc<End>,
    peer: Arc<End>,
}

impl TxQueue for MemoryTx {
    type Buf = MemoryBuf;

    fn send(&mut self, burst: &mut Burst<MemoryBuf>) -> usize {
        let counters = &self.own.counters;
        let wire_up = self.own.link_up.load(Ordering::Relaxed) && self.peer.link_up.load(Ordering::Relaxed);
        if !wire_up {
            let lost = burst.len();
            MemoryBuf::drop_all(burst);
            counters.tx_errors.fetch_add(lost as u64, Ordering::Relaxed);
            return lost;
        }
        let ring = &self.peer.rings[self.queue];
        // This value is the ring's only producer: room that is there now stays until it is used here.
        let count = burst.len().min(ring.capacity() - ring.len());
        let mut bytes = 0;
        for packet in burst.drain_front(count) {
            bytes += packet.bytes().len() as u64;
            let pushed = ring.push(packet);
            debug_assert!(pushed.is_ok(), "there was room");
        }
        counters.tx_packets.fetch_add(count as u64, Ordering::Relaxed);
        counters.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
        count
    }
}

impl fmt::Debug for MemoryTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryTx(queue {}, {} packets wait)", self.queue, self.peer.rings[self.queue].len())
    }
}

/// The control side of a [`MemoryPort`].
pub struct MemoryHandle {
    name: String,
    mac: [u8; 6],
    mtu: u16,
    own: Arc<End>,
}

impl MemoryHandle {
    /// Plugs the cable in or out at this end. While it is out, what either end sends is lost and counted as its `tx_errors`.
    pub fn set_link(&self, up: bool) {
        self.own.link_up.store(up, Ordering::Relaxed);
    }
}

impl PortHandle for MemoryHandle {
    fn name(&self) -> &str {
        &self.name
    }
    fn mac(&self) -> [u8; 6] {
        self.mac
    }
    fn mtu(&self) -> u16 {
        self.mtu
    }
    fn link(&self) -> Link {
        Link { up: self.own.link_up.load(Ordering::Relaxed), speed_mbps: None }
    }
    fn stats(&self) -> PortStats {
        let counters = &self.own.counters;
        PortStats {
            rx_packets: counters.rx_packets.load(Ordering::Relaxed),
            rx_bytes: counters.rx_bytes.load(Ordering::Relaxed),
            tx_packets: counters.tx_packets.load(Ordering::Relaxed),
            tx_bytes: counters.tx_bytes.load(Ordering::Relaxed),
            tx_errors: counters.tx_errors.load(Ordering::Relaxed),
            ..PortStats::default()
        }
    }
    fn extended_stats(&self) -> Vec<(String, u64)> {
        Vec::new()
    }
}

impl fmt::Debug for MemoryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryHandle({:?})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> (MemoryPort, MemoryPort) {
        let mut small = MemoryConfig::new("b", 2);
        small.rx_ring_len = 3;
        MemoryPort::wire(&MemoryConfig::new("a", 1), &small, 2)
    }

    fn burst_of(pool: &mut MemoryPool, frames: &[&[u8]]) -> Burst<MemoryBuf> {
        let mut burst = Burst::new();
        for frame in frames {
            burst.push(pool.allocate(frame).unwrap()).unwrap();
        }
        burst
    }

    #[test]
    fn frames_cross_the_wire_in_order_queue_by_queue() {
        let mut pool = MemoryPool::new(8, 1514);
        let (a, b) = wire();
        let (a, _, mut a_tx) = a.split();
        let (b, mut b_rx, _) = b.split();
        let mut burst = burst_of(&mut pool, &[b"one", b"two"]);
        assert_eq!(a_tx[1].send(&mut burst), 2);
        assert_eq!(b_rx[0].receive(&mut burst), 0);
        assert_eq!(b_rx[1].receive(&mut burst), 2);
        assert_eq!(burst.packets()[0].bytes(), b"one");
        assert_eq!(burst.packets()[1].bytes(), b"two");
        assert_eq!((a.stats().tx_packets, a.stats().tx_bytes), (2, 6));
        assert_eq!((b.stats().rx_packets, b.stats().rx_bytes), (2, 6));
    }

    #[test]
    fn a_full_ring_leaves_the_rest_with_the_sender() {
        let mut pool = MemoryPool::new(8, 1514);
        let (a, b) = wire();
        let (_, _, mut a_tx) = a.split();
        let mut burst = burst_of(&mut pool, &[b"1", b"2", b"3", b"4", b"5"]);
        assert_eq!(a_tx[0].send(&mut burst), 3);
        assert_eq!(a_tx[0].send(&mut burst), 0);
        assert_eq!(burst.packets().iter().map(|p| p.bytes()[0]).collect::<Vec<_>>(), b"45");
        drop((a_tx, b));
        assert_eq!(pool.free(), 6);
        drop(burst);
        assert_eq!(pool.free(), 8);
    }

    #[test]
    fn a_link_that_is_down_loses_what_either_end_sends() {
        let mut pool = MemoryPool::new(8, 1514);
        let (a, b) = wire();
        let (a, _, mut a_tx) = a.split();
        let (b, mut b_rx, _) = b.split();
        b.set_link(false);
        let mut burst = burst_of(&mut pool, &[b"lost"]);
        assert_eq!(a_tx[0].send(&mut burst), 1);
        b.set_link(true);
        assert_eq!(b_rx[0].receive(&mut burst), 0);
        assert_eq!((a.stats().tx_errors, pool.free()), (1, 8));
    }

    #[test]
    fn buffers_grow_and_shrink_within_their_room() {
        let mut pool = MemoryPool::new(1, 100);
        let mut packet = pool.allocate(b"payload").unwrap();
        assert!(pool.allocate(b"second").is_none(), "the pool is empty");
        packet.prepend(2).unwrap()[..2].copy_from_slice(b"> ");
        let len = packet.append(2).unwrap().len();
        packet.bytes_mut()[len - 2..].copy_from_slice(b" <");
        assert_eq!(packet.bytes(), b"> payload <");
        assert!(packet.prepend(HEADROOM_LEN).is_none());
        assert!(packet.append(100 + TAILROOM_LEN).is_none());
        assert!(packet.append(usize::MAX).is_none());
        assert_eq!(packet.bytes(), b"> payload <", "a refusal changes nothing");
        assert!(packet.trim_front(2) && !packet.trim_front(100));
        packet.truncate(7);
        packet.truncate(usize::MAX);
        assert_eq!(packet.bytes(), b"payload");
        drop(packet);
        assert!(pool.allocate(&[0; 101]).is_none() && pool.allocate(&[0; 100]).is_some());
    }
}
