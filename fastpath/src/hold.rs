//! The hold queue: packets that wait until the Ethernet address of their next hop is known.
//!
//! It is bounded in packets, in packets for one next hop, and in time. A worker asks the control core once for each
//! next hop that packets begin to wait for; the answer is a new forwarding table. Packets keep their order. A held
//! packet holds a buffer and what was read from it, nothing of any table.

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

    /// Puts a packet that [`HoldQueue::pop`] gave back at the end, with its old deadline. Whoever looks at all
    /// packets once, oldest first, so keeps their order.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vinet_pktops::parse;

    use super::*;

    fn headers() -> Headers {
        let mut frame = [0; 34];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[17] = 20;
        let sum = vinet_pktops::checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        parse::headers(&frame).expect("a sound header")
    }

    proptest! {
        #[test]
        fn is_bounded_in_packets_hops_and_time(steps in proptest::collection::vec((0u32..6, 0u64..40), 1..200)) {
            let limits = HoldLimits { packets_max: 12, packets_per_hop_max: 3, wait_max_ns: 100, requests_max: 4 };
            let (headers, mut queue) = (headers(), HoldQueue::new(limits));
            let mut model: Vec<(u32, u32, u64)> = Vec::new();
            let mut now_ns = 0;
            for (number, (hop, step)) in steps.into_iter().enumerate() {
                now_ns += step;
                let number = number as u32;
                while let Some(held) = queue.expired(now_ns) {
                    let (packet, _, deadline) = model.remove(0);
                    prop_assert_eq!(held.packet, packet);
                    prop_assert!(deadline <= now_ns);
                }
                prop_assert!(model.iter().all(|&(_, _, deadline)| deadline > now_ns));
                let waiting = model.iter().filter(|&&(_, other, _)| other == hop).count();
                match queue.push(number, headers, Some(1), (0, Addr::V4(hop)), now_ns) {
                    Ok(is_first) => {
                        prop_assert!(waiting < 3 && model.len() < 12);
                        prop_assert_eq!(is_first, waiting == 0);
                        model.push((number, hop, now_ns + 100));
                    }
                    Err(HoldFull { packet }) => {
                        prop_assert_eq!(packet, number);
                        prop_assert!(waiting == 3 || model.len() == 12);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                // One hop is found: its packets leave in order, the others stay in theirs.
                if number.is_multiple_of(7) {
                    let mut left = Vec::new();
                    for _ in 0..queue.len() {
                        let Some(held) = queue.pop() else { break };
                        if held.hop() == (0, Addr::V4(hop)) {
                            left.push(held.packet);
                        } else {
                            queue.put_back(held);
                        }
                    }
                    let expected: Vec<u32> = model.iter().filter(|entry| entry.1 == hop).map(|entry| entry.0).collect();
                    prop_assert_eq!(left, expected);
                    model.retain(|entry| entry.1 != hop);
                }
            }
        }
    }

    #[test]
    fn questions_are_bounded() {
        let (sender, receiver) = resolve_ring(2);
        assert!(sender.ask(1, Addr::V4(5)) && sender.ask(2, Addr::V6(6)) && !sender.ask(3, Addr::V4(7)));
        assert_eq!(receiver.next(), Some(ResolveRequest { port: 1, addr: Addr::V4(5) }));
        assert_eq!(receiver.next(), Some(ResolveRequest { port: 2, addr: Addr::V6(6) }));
        assert_eq!(receiver.next(), None);
    }
}
