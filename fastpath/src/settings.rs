//! What a fast path is started with. Plain values; the control core makes them from the configuration file.

use vinet_trusted::addr::{Addr, Prefix, PrefixSet};

/// Settings of all workers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One worker for each, pinned to that core; `None` leaves it to the kernel (tests).
    pub cores: Vec<Option<usize>>,
    /// Packets taken from a queue at once, 1 to [`crate::port::BURST_LEN_MAX`].
    pub burst_len: usize,
    /// What a worker does when there is nothing to do.
    pub idle: Idle,
    /// Bounds of the flow table.
    pub table: TableLimits,
    /// Bounds of the hold queue.
    pub hold: HoldLimits,
    /// Packets that may wait in the windows of each worker, all programs together. One more has the window run that was
    /// begun first.
    pub window_packets_max: usize,
    /// Bounds of our own ICMP.
    pub icmp: IcmpLimits,
    /// Bounds of the slow path.
    pub slow_path: SlowPathLimits,
    /// Packets on their way from one worker to another, for each pair, where a device does not keep sources together.
    pub handover_len: usize,
    /// Whose generated packets are expanded here, at most [`crate::expander::RULES_MAX`].
    pub expand: Vec<ExpandRule>,
    /// Bounds of the expander.
    pub expand_limits: ExpandLimits,
}

/// [`Settings::handover_len`] where nothing else is said: what comes at 5 million packets a second while the other
/// worker sleeps for the longest time.
pub const HANDOVER_LEN_DEFAULT: usize = 1024;

impl Default for Settings {
    fn default() -> Self {
        Settings {
            cores: vec![None],
            burst_len: 64,
            idle: Idle::Backoff,
            table: TableLimits::default(),
            hold: HoldLimits::default(),
            window_packets_max: 1024,
            icmp: IcmpLimits::default(),
            slow_path: SlowPathLimits::default(),
            handover_len: HANDOVER_LEN_DEFAULT,
            expand: Vec::new(),
            expand_limits: ExpandLimits::default(),
        }
    }
}

/// One program whose generated packets are expanded: sent on as the packets that the program took together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ExpandRule {
    /// The address of this router that the program sends to.
    pub own: Addr,
    /// The UDP port that it sends to.
    pub port: u16,
    /// The destinations that expanded packets may have.
    pub prefix: Prefix,
    /// The program's name.
    pub program: [u8; 32],
    /// The key of its tags.
    pub key: [u8; 32],
}

impl std::fmt::Debug for ExpandRule {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExpandRule").field("own", &self.own).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Bounds of each worker's expander.
#[derive(Clone, Copy, Debug)]
pub struct ExpandLimits {
    /// Batches that are put together at once. One more has one of these given up: one that is finished, else the oldest.
    pub batches_max: usize,
    /// Datagrams that are kept at once. One more has the oldest batch given up.
    pub datagrams_max: usize,
    /// How long after its first datagram a batch is given up.
    pub wait_max_ns: u64,
}

impl Default for ExpandLimits {
    fn default() -> Self {
        ExpandLimits { batches_max: 64, datagrams_max: 1024, wait_max_ns: 100_000_000 }
    }
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: the least latency, a whole core.
    Spin,
    /// Sleeps 50 to 200 µs at a time after some empty polls: for shared cores.
    Backoff,
}

/// Settings of one port.
#[derive(Clone, Debug)]
pub struct PortSettings {
    /// Its name in counters.
    pub name: String,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The largest IP packet it sends, in bytes.
    pub mtu: u16,
    /// The sources behind it, which this router controls: only packets from these may enter (strict source
    /// validation), and only these are subject to programs. `None` or empty: an uplink, with neither.
    pub controlled: Option<PrefixSet>,
    /// The VLAN identifiers that its frames carry, outer first, at most two. Empty: untagged.
    pub vlan: Vec<u16>,
    /// Packets that may wait for the transmit ring, beyond it.
    pub queue_depth: usize,
    /// How it is decided which of them are dropped.
    pub discipline: Discipline,
}

/// The discipline of an output queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discipline {
    /// First in, first out; what comes when the queue is full is dropped.
    #[default]
    Fifo,
    /// The same, but a queue that stands for too long loses packets at its front (RFC 8289).
    CoDel(CoDelLimits),
}

/// What CoDel calls too long (RFC 8289, section 4.2 to 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoDelLimits {
    /// How long packets may wait on and on.
    pub target_ns: u64,
    /// For how long all of them have to wait longer: a round trip of the worst sender.
    pub interval_ns: u64,
}

impl Default for CoDelLimits {
    fn default() -> Self {
        CoDelLimits { target_ns: 5_000_000, interval_ns: 100_000_000 }
    }
}

/// Bounds of the flow table. Memory is reserved for the bounds and used as programs come.
#[derive(Clone, Copy, Debug)]
pub struct TableLimits {
    /// Programs installed at once.
    pub programs_max: u32,
    /// Cells of all programs, each family, replaced versions that are not yet free included.
    pub cells_max: u32,
    /// Replaced things that may wait for the workers to pass.
    pub retired_max: usize,
}

impl Default for TableLimits {
    fn default() -> Self {
        TableLimits { programs_max: 1 << 20, cells_max: 1 << 21, retired_max: 1 << 18 }
    }
}

/// Bounds of each worker's queue of packets that wait for a next hop's Ethernet address.
#[derive(Clone, Copy, Debug)]
pub struct HoldLimits {
    /// Packets in all.
    pub packets_max: usize,
    /// Packets for one next hop.
    pub packets_per_hop_max: usize,
    /// How long one may wait.
    pub wait_max_ns: u64,
    /// Resolve requests that the control core has not yet taken.
    pub requests_max: usize,
}

impl Default for HoldLimits {
    fn default() -> Self {
        HoldLimits { packets_max: 256, packets_per_hop_max: 8, wait_max_ns: 1_000_000_000, requests_max: 256 }
    }
}

/// The rate of our own ICMP errors, for each worker (RFC 1812, 4.3.2.8; RFC 4443, 2.4 (f)).
#[derive(Clone, Copy, Debug)]
pub struct IcmpLimits {
    /// Errors a second.
    pub rate_pps: u32,
    /// Errors at once.
    pub burst: u32,
}

impl Default for IcmpLimits {
    fn default() -> Self {
        IcmpLimits { rate_pps: 1000, burst: 100 }
    }
}

/// Bounds of the rings between each worker and the control side.
#[derive(Clone, Copy, Debug)]
pub struct SlowPathLimits {
    /// Frames in each direction, for each worker.
    pub ring_len: usize,
    /// Bytes of the longest frame.
    pub frame_len_max: usize,
}

impl Default for SlowPathLimits {
    fn default() -> Self {
        SlowPathLimits { ring_len: 512, frame_len_max: 9 * 1024 + 64 }
    }
}
