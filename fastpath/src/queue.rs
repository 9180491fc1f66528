//! The queue before a transmit ring: what waits there, and what is dropped instead.
//!
//! Its discipline and depth are set for each port, apart from the ring's size. The ring holds packets too, first in,
//! first out, so a discipline rules only as much of the delay as the ring is short. Either discipline refuses what
//! comes when the queue is full; CoDel also drops packets at the front of a line that has stood for too long
//! ([`codel`]).
//!
//! A packet that is pushed is counted as sent when the ring takes it, as dropped, or refused at once. A ring without
//! room is never waited for: it is asked again at the end of the turn, once, and until then packets line up. While
//! nothing waits, packets pass from the worker to the ring in whole bursts and no discipline looks at them: their delay
//! is none.

pub mod codel;

use std::collections::VecDeque;

use crate::port::{BURST_LEN_MAX, Burst, Hand, PacketBuf, TxQueue};
use crate::settings::{Discipline, PortSettings};

use codel::CoDel;

/// Packets that CoDel takes out of the line at once, at least: what a slow ring may refuse after they were judged.
const OFFER_LEN_MIN: usize = 4;
/// Bytes of a frame beside its IP packet: the Ethernet header and two tags.
const LINK_LEN_MAX: u64 = 14 + 2 * 4;

/// The packets that wait for one transmit ring, oldest first: those in `offer`, those in `line`, then `arrivals`.
pub struct OutputQueue<B> {
    /// What the ring was offered out of the line and refused.
    offer: Burst<B>,
    line: Line<B>,
    /// What came since the ring was last asked. Its room is never more than what the queue's depth leaves.
    arrivals: Burst<B>,
    depth: usize,
    rule: Rule,
    /// Whether the ring had no room when it was last asked.
    ring_is_full: bool,
}

/// What happened to packets of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Packets that the ring took.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that CoDel dropped.
    pub delayed: u64,
}

/// How the next packet is taken out of the line.
enum Rule {
    /// As it comes.
    Fifo,
    /// As CoDel says. So many packets are offered at once: as many as the ring took when it last refused some, and more
    /// as long as it takes all. What it refuses is judged already, so there should be little of it.
    CoDel { codel: CoDel, offer_len: usize },
}

/// Packets, oldest first, with the time at which they came.
#[derive(Debug)]
pub struct Line<B> {
    waiting: VecDeque<(B, u64)>,
    bytes: u64,
}

impl<B: PacketBuf> OutputQueue<B> {
    /// An empty queue with the port's discipline and depth (at least one packet).
    #[must_use]
    pub fn new(settings: &PortSettings) -> Self {
        let depth = settings.queue_depth.max(1);
        let rule = match settings.discipline {
            Discipline::Fifo => Rule::Fifo,
            Discipline::CoDel(limits) => {
                let codel = CoDel::new(limits, u64::from(settings.mtu) + LINK_LEN_MAX);
                Rule::CoDel { codel, offer_len: OFFER_LEN_MIN }
            }
        };
        OutputQueue {
            offer: Burst::new(),
            line: Line::with_capacity(depth),
            arrivals: Burst::with_len_max(depth),
            depth,
            rule,
            ring_is_full: false,
        }
    }

    /// Packets in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offer.len() + self.line.len() + self.arrivals.len()
    }

    /// Whether it holds none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty() && self.offer.is_empty() && self.line.is_empty()
    }

    /// Adds a packet at the end.
    ///
    /// # Errors
    /// The packet, where a whole burst has come since the ring was last asked, or the queue is full: whoever gets it
    /// back calls [`OutputQueue::make_room`] and tries once more.
    #[inline]
    pub fn push(&mut self, packet: B) -> Result<(), B> {
        self.arrivals.push(packet)
    }

    /// Adds those packets of a burst at the end, in order, all of them or none. Tells whether there was room: where there
    /// was not, they are pushed one by one.
    #[inline]
    pub(crate) fn push_all(&mut self, hand: &mut Hand<'_, B>, which: u64) -> bool {
        hand.move_to(which, &mut self.arrivals)
    }

    /// Makes room for a packet that was refused, if it can: it offers the ring what there is, unless the ring had no
    /// room when it was last asked.
    pub fn make_room<T: TxQueue<Buf = B>>(&mut self, ring: &mut T, now_ns: u64) -> Flushed {
        if self.ring_is_full {
            self.line_up(now_ns);
            Flushed::default()
        } else {
            self.flush(ring, now_ns)
        }
    }

    /// Offers the ring what there is, until it takes no more: once per turn.
    #[inline]
    pub fn flush<T: TxQueue<Buf = B>>(&mut self, ring: &mut T, now_ns: u64) -> Flushed {
        let mut flushed = Flushed::default();
        if self.offer.is_empty() && self.line.is_empty() {
            // Nothing waits. (CoDel has seen the end of its line, so it is at rest.)
            send(&mut self.arrivals, ring, &mut flushed);
            self.ring_is_full = !self.arrivals.is_empty();
            if self.ring_is_full {
                self.line_up(now_ns);
            }
        } else {
            self.flush_line(ring, now_ns, &mut flushed);
        }
        flushed
    }

    /// Offers the ring the line, which what came last joins.
    #[inline(never)]
    fn flush_line<T: TxQueue<Buf = B>>(&mut self, ring: &mut T, now_ns: u64, flushed: &mut Flushed) {
        self.line_up(now_ns);
        loop {
            self.fill_offer(now_ns, flushed);
            if self.offer.is_empty() {
                self.ring_is_full = false;
                break;
            }
            let taken = send(&mut self.offer, ring, flushed);
            self.ring_is_full = !self.offer.is_empty();
            if let Rule::CoDel { offer_len, .. } = &mut self.rule {
                let next = if self.ring_is_full { taken } else { 2 * *offer_len };
                *offer_len = next.clamp(OFFER_LEN_MIN, BURST_LEN_MAX);
            }
            if self.ring_is_full {
                break;
            }
        }
        self.bound_arrivals();
    }

    /// Takes packets out of the line for the ring, by the queue's discipline.
    fn fill_offer(&mut self, now_ns: u64, flushed: &mut Flushed) {
        let len = match &self.rule {
            Rule::Fifo => BURST_LEN_MAX,
            Rule::CoDel { offer_len, .. } => *offer_len,
        };
        while self.offer.len() < len {
            let packet = match &mut self.rule {
                Rule::Fifo => self.line.pop().map(|(packet, _)| packet),
                Rule::CoDel { codel, .. } => codel.take(&mut self.line, now_ns, &mut flushed.delayed),
            };
            let Some(packet) = packet else { break };
            // There is room: the loop's condition.
            let _ = self.offer.push(packet);
        }
    }

    /// Moves what came last to the end of the line.
    fn line_up(&mut self, now_ns: u64) {
        for packet in self.arrivals.drain() {
            self.line.push(packet, now_ns);
        }
        self.bound_arrivals();
    }

    /// Keeps the room for what comes within the queue's depth.
    fn bound_arrivals(&mut self) {
        self.arrivals.set_len_max(self.depth - self.offer.len() - self.line.len());
    }

    /// Drops all packets and tells how many there were.
    pub fn clear(&mut self) -> usize {
        let count = self.len();
        self.line.clear();
        for burst in [&mut self.offer, &mut self.arrivals] {
            burst.drain();
        }
        self.bound_arrivals();
        count
    }
}

/// Offers the ring the packets of a burst; tells how many it took.
#[inline]
fn send<T: TxQueue>(burst: &mut Burst<T::Buf>, ring: &mut T, flushed: &mut Flushed) -> usize {
    if burst.is_empty() {
        return 0;
    }
    let bytes = burst.bytes();
    let taken = ring.send(burst);
    flushed.packets += taken as u64;
    flushed.bytes += bytes - burst.bytes();
    taken
}

impl<B: PacketBuf> Line<B> {
    /// An empty line with room for so many packets.
    #[must_use]
    pub fn with_capacity(packets: usize) -> Self {
        Line { waiting: VecDeque::with_capacity(packets), bytes: 0 }
    }
    /// Packets in it.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
    /// Whether it holds none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
    /// Bytes in it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Adds a packet at the end.
    pub fn push(&mut self, packet: B, now_ns: u64) {
        self.bytes += packet.bytes().len() as u64;
        self.waiting.push_back((packet, now_ns));
    }
    /// Takes the oldest packet, with the time at which it came.
    pub fn pop(&mut self) -> Option<(B, u64)> {
        let (packet, since_ns) = self.waiting.pop_front()?;
        self.bytes -= packet.bytes().len() as u64;
        Some((packet, since_ns))
    }
    fn clear(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests;
