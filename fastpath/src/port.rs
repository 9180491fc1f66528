//! A port: what the worker receives packets from and sends them to.
//!
//! `Port` is the one trait under the worker, statically dispatched. A port is configured once, then split into owned
//! receive and transmit queues; a queue can be moved to the one thread that polls it and cannot be cloned, so two
//! threads can never race on one ring. Implementations: `dpdk` (every poll-mode driver of DPDK 22.11),
//! `memory` (tests and replay, with a fault injector over it), and with the feature of that name `capsule` (for comparison).

mod burst;
#[cfg(feature = "capsule")]
pub mod capsule;
pub mod dpdk;
pub mod fault;
pub mod mbuf;
pub mod memory;

pub use burst::Burst;
pub(crate) use burst::{Hand, numbers};

/// The most packets that one call to [`RxQueue::receive`] or [`TxQueue::send`] moves.
pub const BURST_LEN_MAX: usize = 64;

/// A packet in a buffer that one owner holds: the bytes from the Ethernet header on, without FCS, in one segment.
///
/// Dropping it gives the buffer back to its pool.
pub trait PacketBuf: Send + Sized {
    /// The frame.
    fn bytes(&self) -> &[u8];
    /// The frame, writable.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Makes `len` more bytes (of any value: write them) before the frame and returns the whole frame, or `None` where the headroom is too small.
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]>;
    /// Makes `len` more bytes (of any value: write them) behind the frame and returns the whole frame, or `None` where the buffer is too small.
    fn append(&mut self, len: usize) -> Option<&mut [u8]>;
    /// Takes `len` bytes off the front. `false` (and no change) where the frame is shorter.
    fn trim_front(&mut self, len: usize) -> bool;
    /// Cuts the frame to its first `len` bytes; longer ones change nothing.
    fn truncate(&mut self, len: usize);
    /// A hint that the front of the frame is read soon.
    fn prefetch(&self) {}
    /// Drops all packets of a burst, in one go where the pool can take them so: the cheap way for discarded packets.
    fn drop_all(burst: &mut Burst<Self>) {
        burst.packets_vec().clear();
    }
}

/// Where new packets are written: own ICMP, packets from the slow path. One handle for each worker.
pub trait PacketPool: Send {
    /// Its packets.
    type Buf: PacketBuf;
    /// A buffer that holds a copy of `frame`, or `None` where the pool is empty or the frame is longer than a buffer.
    fn allocate(&mut self, frame: &[u8]) -> Option<Self::Buf>;
}

/// One receive queue of a port.
pub trait RxQueue: Send {
    /// Its packets.
    type Buf: PacketBuf;
    /// Appends up to `BURST_LEN_MAX - burst.len()` received packets to `burst` and returns how many. Never waits.
    fn receive(&mut self, burst: &mut Burst<Self::Buf>) -> usize;
    /// Packets received in a form the worker cannot take (several segments) and dropped here, since the start.
    fn unusable(&self) -> u64;
    /// Whether the port's queues are filled by source address alone, so that a source is always on the same one. A
    /// port with a single queue has no choice.
    fn is_filled_by_source(&self) -> bool {
        true
    }
}

/// One transmit queue of a port.
pub trait TxQueue: Send {
    /// Its packets.
    type Buf: PacketBuf;
    /// Takes packets off the front of `burst` for sending, as many as the ring has room for, and returns how many.
    /// Those not taken stay in `burst`, in order. Never waits.
    fn send(&mut self, burst: &mut Burst<Self::Buf>) -> usize;
}

/// A port, configured and started, with its queues not yet handed out.
pub trait Port: Sized {
    /// The buffers of its queues. All ports of one router share the type, so that a packet moves from one to another.
    type Buf: PacketBuf;
    /// Its receive queues.
    type Rx: RxQueue<Buf = Self::Buf>;
    /// Its transmit queues.
    type Tx: TxQueue<Buf = Self::Buf>;
    /// What is left when the queues are gone: statistics, link, address; for the control core.
    type Handle: PortHandle;

    /// Splits the port into its handle and its queues, numbered from 0: a transmit queue for each worker, and one to as many
    /// receive queues.
    fn split(self) -> (Self::Handle, Vec<Self::Rx>, Vec<Self::Tx>);
}

/// The control core's side of a running port.
pub trait PortHandle: Send {
    /// The port's name, as in the configuration.
    fn name(&self) -> &str;
    /// The Ethernet address.
    fn mac(&self) -> [u8; 6];
    /// The largest IP packet, in bytes.
    fn mtu(&self) -> u16;
    /// The link, as the device tells it now.
    fn link(&self) -> Link;
    /// The device's own counters.
    fn stats(&self) -> PortStats;
    /// The device's extended counters by name; empty where it has none.
    fn extended_stats(&self) -> Vec<(String, u64)>;
    /// The number of the kernel's interface beneath the port, where there is one (af_packet, af_xdp, tap, pcap).
    fn kernel_interface(&self) -> Option<u32> {
        None
    }
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether there is a carrier.
    pub up: bool,
    /// Megabits a second; `None` where the device does not know.
    pub speed_mbps: Option<u32>,
}

/// What a device counted since it was started: packets, bytes and losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets that the device dropped because the receive ring was full.
    pub rx_missed: u64,
    /// Packets received with an error.
    pub rx_errors: u64,
    /// Receptions that failed for want of a buffer.
    pub rx_no_buffer: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
}
