//! The queue before a transmit ring: first in, first out, and full is full (tail drop).
//!
//! Its depth is set for each port, apart from the ring's size. A packet that is pushed is counted as sent when the
//! ring takes it, or refused at once; a ring without room is asked again in the next turn, never waited for.

use std::collections::VecDeque;

use crate::port::{BURST_LEN_MAX, Burst, PacketBuf, TxQueue};

/// The packets that wait for one transmit ring, oldest first: those in `front`, then those in `back`.
pub struct OutputQueue<B> {
    /// What the ring is offered next.
    front: Burst<B>,
    back: VecDeque<B>,
    depth: usize,
    front_bytes: u64,
}

/// What a transmit ring took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl<B: PacketBuf> OutputQueue<B> {
    /// An empty queue for at most `depth` packets (at least one).
    #[must_use]
    pub fn new(depth: usize) -> Self {
        let depth = depth.max(1);
        let back = VecDeque::with_capacity(depth.saturating_sub(BURST_LEN_MAX));
        OutputQueue { front: Burst::with_len_max(depth), back, depth, front_bytes: 0 }
    }

    /// Packets in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.front.len() + self.back.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.front.is_empty()
    }

    /// Adds a packet to the burst that the ring is offered next.
    ///
    /// # Errors
    /// The packet, where that burst is whole: offer it to the ring, then [`OutputQueue::push`].
    #[inline]
    pub fn push_to_burst(&mut self, packet: B) -> Result<(), B> {
        // While `back` holds any, `front` is full, so that packets keep their order.
        let bytes = packet.bytes().len() as u64;
        self.front.push(packet)?;
        self.front_bytes += bytes;
        Ok(())
    }

    /// Adds a packet at the end.
    ///
    /// # Errors
    /// The packet, where the queue is full.
    #[inline]
    pub fn push(&mut self, packet: B) -> Result<(), B> {
        let Err(packet) = self.push_to_burst(packet) else { return Ok(()) };
        if self.len() >= self.depth {
            return Err(packet);
        }
        self.back.push_back(packet);
        Ok(())
    }

    /// Offers the ring what there is, until it takes no more.
    #[inline]
    pub fn flush<T: TxQueue<Buf = B>>(&mut self, ring: &mut T) -> Sent {
        let mut sent = Sent::default();
        while !self.front.is_empty() {
            let taken = ring.send(&mut self.front);
            let left_bytes = self.front.packets().iter().map(|packet| packet.bytes().len() as u64).sum();
            sent.packets += taken as u64;
            sent.bytes += self.front_bytes - left_bytes;
            self.front_bytes = left_bytes;
            let ring_is_full = !self.front.is_empty();
            while self.front.room() > 0 {
                let Some(packet) = self.back.pop_front() else { break };
                self.front_bytes += packet.bytes().len() as u64;
                // There is room: the loop's condition.
                let _ = self.front.push(packet);
            }
            if ring_is_full {
                break;
            }
        }
        sent
    }

    /// Drops all packets and tells how many there were.
    pub fn clear(&mut self) -> usize {
        let count = self.len();
        self.front.drain();
        self.back.clear();
        self.front_bytes = 0;
        count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::port::PacketPool;
    use crate::port::memory::{MemoryBuf, MemoryPool};

    /// A ring that takes as many as it is told, and keeps their first bytes.
    struct Ring {
        room: usize,
        taken: Vec<u8>,
    }

    impl TxQueue for Ring {
        type Buf = MemoryBuf;
        fn send(&mut self, burst: &mut Burst<MemoryBuf>) -> usize {
            let count = burst.len().min(self.room);
            self.room -= count;
            self.taken.extend(burst.drain_front(count).map(|packet| packet.bytes()[0]));
            count
        }
    }

    proptest! {
        #[test]
        fn is_a_bounded_queue(depth in 1usize..200, steps in proptest::collection::vec((0usize..90, 0usize..90), 1..40)) {
            let mut pool = MemoryPool::new(400, 100);
            let mut queue = OutputQueue::new(depth);
            let mut ring = Ring { room: 0, taken: Vec::new() };
            let mut model = VecDeque::new();
            let mut expected = Vec::new();
            let mut next = 0u8;
            let mut sent = Sent::default();
            for (pushes, room) in steps {
                for _ in 0..pushes {
                    next = next.wrapping_add(1);
                    let packet = pool.allocate(&vec![next; 20 + usize::from(next % 50)]).expect("a buffer");
                    let pushed = queue.push(packet).is_ok();
                    prop_assert_eq!(pushed, model.len() < depth);
                    if pushed {
                        model.push_back(next);
                    }
                }
                ring.room = room;
                let now = queue.flush(&mut ring);
                sent.packets += now.packets;
                sent.bytes += now.bytes;
                expected.extend(model.drain(..room.min(model.len())));
                prop_assert_eq!(&ring.taken, &expected);
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
            prop_assert_eq!(sent.packets as usize, expected.len());
            prop_assert_eq!(sent.bytes, expected.iter().map(|&first| 20 + u64::from(first % 50)).sum::<u64>());
            prop_assert_eq!(queue.clear(), model.len());
            prop_assert_eq!(pool.free(), pool.buffers());
        }
    }
}
