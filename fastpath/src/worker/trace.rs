//! Acting on a burst while packets are traced.
//!
//! What became of a packet is read from what was counted for it, so that the packet's way is the same with and without
//! tracing.

use super::{Context, Exit};
use crate::counters::Tally;
use crate::drop_reason::{DROP_REASONS, DropReason};
use crate::flow_table::{Findings, InstallId};
use crate::judge::Lanes;
use crate::port::{Burst, PacketBuf, PacketPool, TxQueue};
use crate::trace::{Acted, Decision, Fate, TraceOrder};

/// What had been counted before a packet was acted on.
pub(super) struct Before {
    drops: [u64; DROP_REASONS],
    to_tap: u64,
    consumed: u64,
    held: usize,
}

impl<T, P> Exit<T, P>
where
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
{
    /// Does what is to be done with the packets of a burst, in order, and traces some.
    #[cold]
    #[inline(never)]
    pub(super) fn act_traced<'r>(
        &mut self,
        burst: &mut Burst<T::Buf>,
        lanes: &Lanes,
        found: Option<Findings<'_, 'r>>,
        order: &TraceOrder,
        context: &Context<'r>,
    ) {
        for (number, (packet, (lane, wide))) in burst.drain().zip(lanes.lanes.iter().zip(&lanes.wide)).enumerate() {
            let found = found.and_then(|found| found.get(number));
            let pair = lane.pair(wide);
            let is_traced = self.trace.samples(order, lane.is_ip().then_some(pair));
            if !is_traced {
                self.meet_programs(packet, lane, pair, found, context);
                continue;
            }
            let record = self.trace.begin(packet.bytes(), context.input, context.now_ns);
            let (before, mut acted) = (self.before(), Acted::NONE);
            let mut waits = None;
            match found {
                None => self.go_on(packet, lane, context),
                Some(found) => {
                    if let Some(slot) = found.discard {
                        acted.push(context.table.id_of(slot), Decision::Discard);
                    }
                    let mut act = |id, decision| acted.push(id, decision);
                    let ran = self.run_programs(packet.bytes(), pair, &found, None, context, &mut act);
                    waits = ran.waits();
                    self.follow(packet, (lane, pair), ran, true, context);
                }
            }
            let fate = self.fate(&before, lane.station.port(), waits);
            self.trace.end(record, fate, acted);
        }
    }

    /// What has been counted so far.
    pub(super) fn before(&self) -> Before {
        let Tally { drops, totals, .. } = &self.tally;
        Before { drops: *drops, to_tap: totals.to_tap, consumed: totals.consumed, held: self.hold.len() }
    }

    /// What became of the one packet that was acted on since, which leaves by `port` if it leaves. A packet that waits for
    /// a program may have made others leave their windows, so that is known beforehand.
    pub(super) fn fate(&self, before: &Before, port: u16, waits: Option<InstallId>) -> Fate {
        if let Some(program) = waits {
            return Fate::Window(program);
        }
        let Tally { drops, totals, .. } = &self.tally;
        if totals.consumed != before.consumed {
            return Fate::Expanded;
        }
        if totals.to_tap != before.to_tap {
            return Fate::Kernel;
        }
        // A packet for which an ICMP error was made, and that was dropped, has two: its own stands before the reasons for
        // which packets of our own are dropped. What leaves a queue late was dropped there for others.
        let dropped = DropReason::ALL
            .into_iter()
            .filter(|reason| *reason != DropReason::QueueDelay)
            .find(|reason| drops[*reason as usize] != before.drops[*reason as usize]);
        match dropped {
            Some(reason) => Fate::Dropped(reason),
            None if self.hold.len() > before.held => Fate::Held,
            None => Fate::Sent { port },
        }
    }
}
