//! Packets for the router itself: the datagrams that its expander waits for, and those for the kernel.

use vinet_pktops::parse::{self, Transport};
use vinet_pktops::rebuild::rebuild;

use super::originate::OWN_PACKET_LEN_MAX;
use super::{Context, Exit};
use crate::drop_reason::DropReason;
use crate::expander::{Expanded, Refused};
use crate::judge::Lane;
use crate::port::{PacketBuf, PacketPool, TxQueue};

impl<T, P> Exit<T, P>
where
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
{
    /// Gives a packet to the expander, if that waits for it, else to the kernel.
    #[inline(never)]
    pub(super) fn give_to_router(&mut self, packet: T::Buf, lane: &Lane, context: &Context<'_>) {
        if self.expander.is_some() {
            self.expand_or_give_to_kernel(packet, lane, context);
        } else {
            self.give_to_kernel(packet, lane.l3_offset, context.input);
        }
    }

    #[inline(never)]
    fn expand_or_give_to_kernel(&mut self, packet: T::Buf, lane: &Lane, context: &Context<'_>) {
        let frame = packet.bytes();
        let datagram = parse::headers(frame).ok().and_then(|headers| match parse::transport(frame, &headers) {
            Transport::Udp(udp) => Some((headers, udp)),
            _ => None,
        });
        let datagram = datagram.filter(|(headers, udp)| {
            self.expander.as_ref().is_some_and(|expander| expander.is_for(headers.dst, udp.dst_port))
        });
        let Some((headers, udp)) = datagram else {
            return self.give_to_kernel(packet, lane.l3_offset, context.input);
        };
        // It is there: it was asked just now.
        let Some(mut expander) = self.expander.take() else { return };
        let taken = expander.take((headers.src, headers.dst), &frame[udp.payload], context.now_ns, &mut |expanded| {
            self.send_expanded(expanded, context);
        });
        (self.tally.totals.batches, self.tally.totals.batches_incomplete) =
            (expander.counts().batches, expander.counts().incomplete);
        self.expander = Some(expander);
        match taken {
            Ok(()) => {
                self.tally.totals.consumed += 1;
                self.discard_buffer(packet);
            }
            Err(refused) => self.drop(packet, reason(refused)),
        }
    }

    /// Has the expander give up what has waited too long.
    pub(super) fn attend_to_expander(&mut self, context: &Context<'_>) {
        let Some(mut expander) = self.expander.take() else { return };
        expander.expire(context.now_ns, &mut |expanded| self.send_expanded(expanded, context));
        self.tally.totals.batches_incomplete = expander.counts().incomplete;
        self.expander = Some(expander);
        self.free_dropped();
    }

    /// Makes and sends a packet of a batch, or counts why not.
    fn send_expanded(&mut self, expanded: Expanded<'_>, context: &Context<'_>) {
        self.tally.totals.expanded += 1;
        let Expanded::Packet { src, dst, content } = expanded else {
            return self.tally.drop_packet(DropReason::ExpandNotOwned);
        };
        let Ok(len) = rebuild(src, dst, &content, self.room.draft.room()) else {
            return self.tally.drop_packet(DropReason::ExpandNotRebuilt);
        };
        debug_assert!(len <= OWN_PACKET_LEN_MAX, "the room is no larger");
        match self.room.draft.packet(len, &mut self.pool) {
            Some(packet) => self.originate(packet, context),
            None => self.tally.drop_packet(DropReason::ExpandNoBuffer),
        }
    }
}

fn reason(refused: Refused) -> DropReason {
    match refused {
        Refused::Malformed => DropReason::ExpandMalformed,
        Refused::UnknownProgram => DropReason::ExpandUnknownProgram,
        Refused::BadTag => DropReason::ExpandBadTag,
        Refused::Replayed => DropReason::ExpandReplayed,
    }
}
