//! CoDel, controlled delay (RFC 8289): a queue may be long for a moment, but not stand.
//!
//! What a packet waited is looked at when it is taken out. Once every packet of a whole *interval* has waited longer
//! than the *target*, the queue stands: packets are dropped, the first at once and the n-th a time of
//! interval/√n after the one before, until one has waited less. So a source that fills the queue is told, more
//! urgently the longer it does not listen, and a burst that is gone within an interval loses nothing. A line of no
//! more bytes than one frame of the largest size is never called standing.
//!
//! The law is that of the RFC's section 5.4 to 5.6, packet for packet. Left out: marking instead of dropping (ECN),
//! and queues for each flow (RFC 8290).

use super::Line;
use crate::port::PacketBuf;
use crate::settings::CoDelLimits;

/// When dropping begins again within so many intervals, it goes on at nearly the rate at which it ended.
const MEMORY_INTERVALS: u64 = 16;

/// The state of one queue's control.
#[derive(Clone, Debug)]
pub struct CoDel {
    limits: CoDelLimits,
    /// A line of at most so many bytes does not stand.
    frame_len_max: u64,
    /// From when on the queue stands, if no packet waits less until then.
    stands_from_ns: Option<u64>,
    is_dropping: bool,
    /// While dropping: when the next one is dropped. Afterwards: when it would have been.
    next_drop_ns: u64,
    /// Packets dropped since dropping began, or as if.
    count: u32,
    /// The count with which dropping last began.
    count_at_start: u32,
}

impl CoDel {
    /// The control of an empty queue, of frames of at most `frame_len_max` bytes.
    #[must_use]
    pub fn new(limits: CoDelLimits, frame_len_max: u64) -> Self {
        CoDel {
            limits,
            frame_len_max,
            stands_from_ns: None,
            is_dropping: false,
            next_drop_ns: 0,
            count: 0,
            count_at_start: 0,
        }
    }

    /// Takes the next packet to be sent out of the line; those before it that are dropped are counted in `dropped`.
    /// Where there is none, the control is at rest: whoever takes all is to ask until then.
    pub fn take<B: PacketBuf>(&mut self, line: &mut Line<B>, now_ns: u64, dropped: &mut u64) -> Option<B> {
        let (mut packet, mut stands) = self.look(line, now_ns);
        if self.is_dropping {
            self.is_dropping = stands;
            while self.is_dropping && now_ns >= self.next_drop_ns {
                *dropped += 1;
                self.count = self.count.saturating_add(1);
                (packet, stands) = self.look(line, now_ns);
                self.is_dropping = stands;
                if stands {
                    self.next_drop_ns = self.after(self.next_drop_ns);
                }
            }
        } else if stands {
            *dropped += 1;
            // The next one is sent whatever it waited: the law says when another is dropped.
            (packet, _) = self.look(line, now_ns);
            self.is_dropping = true;
            let more = self.count - self.count_at_start;
            let is_soon = now_ns < self.next_drop_ns.saturating_add(MEMORY_INTERVALS * self.limits.interval_ns);
            self.count = if more > 1 && is_soon { more } else { 1 };
            self.next_drop_ns = self.after(now_ns);
            self.count_at_start = self.count;
        }
        packet
    }

    /// Takes a packet out of the line, and tells whether the queue stands by what it waited.
    fn look<B: PacketBuf>(&mut self, line: &mut Line<B>, now_ns: u64) -> (Option<B>, bool) {
        let Some((packet, since_ns)) = line.pop() else {
            self.stands_from_ns = None;
            return (None, false);
        };
        if now_ns.saturating_sub(since_ns) < self.limits.target_ns || line.bytes() <= self.frame_len_max {
            self.stands_from_ns = None;
            return (Some(packet), false);
        }
        match self.stands_from_ns {
            Some(from_ns) => (Some(packet), now_ns >= from_ns),
            None => {
                self.stands_from_ns = Some(now_ns.saturating_add(self.limits.interval_ns));
                (Some(packet), false)
            }
        }
    }

    /// The control law: when the next one is dropped after one at `at_ns`.
    fn after(&self, at_ns: u64) -> u64 {
        at_ns.saturating_add((self.limits.interval_ns as f64 / f64::from(self.count).sqrt()) as u64)
    }
}
