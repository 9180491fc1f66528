//! The hold queue: packets that wait until the Ethernet address of their next hop is known.
//!
//! It is bounded in packets, in packets for one next hop, and in time. A worker asks the control core once for each next hop that packets
//! begin to wait for; the answer is a new forwarding table. Packets keep their order. A held packet holds a buffer and
//! what was read from it, nothing of any table.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use vinet_pktops::parse::Headers;
use vinet_trusted::addr::Addr;

use crate::settings::HoldLimits;

/// A packet that waits.
pub struct Held<B> {
    /// The packet, its hop counted.
    pub packet: B,
    /// What was read from it.
    pub headers: Headers,
    /// The port it came from; `None` for a packet of our own, about which nobody is told.
    pub input: Option<u16>,
    port: u16,
    addr: Addr,
    deadline_ns: u64,
}

/// Why a packet is not held: there are too many already.
pub struct HoldFull<B> {
    /// The packet.
    pub packet: B,
}

/// Packets that wait, oldest first.
pub struct HoldQueue<B> {
    held: VecDeque<Held<B>>,
    limits: HoldLimits,
}

impl<B> HoldQueue<B> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: HoldLimits) -> Self {
        HoldQueue { held: VecDeque::with_capacity(limits.packets_max), limits }
    }

    /// How many packets wait.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Holds a packet that waits for `addr` on `port`; tells whether it is the first to do so.
    ///
    /// # Errors
    /// [`HoldFull`] with the packet, at either bound.
    pub fn push(
        &mut self,
        packet: B,
        headers: Headers,
        input: Option<u16>,
        (port, addr): (u16, Addr),
        now_ns: u64,
    ) -> Result<bool, HoldFull<B>> {
        let waiting = self.held.iter().filter(|held| held.port == port && held.addr == addr).count();
        if self.held.len() >= self.limits.packets_max || waiting >= self.limits.packets_per_hop_max {
            return Err(HoldFull { packet });
        }
        let deadline_ns = now_ns + self.limits.wait_max_ns;
        self.held.push_back(Held { packet, headers, input, port, addr, deadline_ns });
        Ok(waiting == 0)
    }

    /// Takes the oldest packet if its time is up.
    pub fn expired(&mut self, now_ns: u64) -> Option<Held<B>> {
        // All wait equally long, so the oldest is the first whose time is up.
        self.held.pop_front_if(|held| held.deadline_ns <= now_ns)
    }

    /// Takes the oldest packet.
    pub fn pop(&mut self) -> Option<Held<B>> {
        self.held.pop_front()
    }

    /// Puts a packet that [`HoldQueue::pop`] gave back at the end, with its old deadline. Whoever looks at all packets once, oldest first, so
    /// keeps their order.
    pub fn put_back(&mut self, held: Held<B>) {
        self.held.push_back(held);
    }
}

impl<B> Held<B> {
    /// The next hop it waits for.
    #[must_use]
    pub fn hop(&self) -> (u16, Addr) {
        (self.port, self.addr)
    }
}

/// A question to the control core: which station is this address?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolveRequest {
    /// On which port.
    pub port: u16,
    /// Which address.
    pub addr: Addr,
}

/// A worker's end of the questions.
#[derive(Clone)]
pub struct ResolveSender {
    ring: Arc<ArrayQueue<ResolveRequest>>,
}

/// The control core's end of the questions, all workers' together.
pub struct ResolveReceiver {
    ring: Arc<ArrayQueue<ResolveRequest>>,
}

/// A bounded ring of questions.
#[must_use]
pub fn resolve_ring(requests_max: usize) -> (ResolveSender, ResolveReceiver) {
    let ring = Arc::new(ArrayQueue::new(requests_max.max(1)));
    (ResolveSender { ring: ring.clone() }, ResolveReceiver { ring })
}

impl ResolveSender {
    /// Asks; `false` where too many questions are open.
    #[must_use]
    pub fn ask(&self, port: u16, addr: Addr) -> bool {
        self.ring.push(ResolveRequest { port, addr }).is_ok()
    }
}

impl ResolveReceiver {
    /// The next question.
    #[must_use]
    pub fn next(&self) -> Option<ResolveRequest> {
        self.ring.pop()
    }
}
