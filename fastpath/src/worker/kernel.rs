//! A worker's way to the kernel and back, through the twins of its ports.

use vinet_pktops::parse;

use super::Exit;
use crate::drop_reason::DropReason;
use crate::link;
use crate::port::{PacketBuf, PacketPool, TxQueue};
use crate::slow_path::SlowPathError;

/// Frames of the kernel taken in one turn.
const FROM_TAP_MAX: usize = 32;

impl<T, P> Exit<T, P>
where
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
{
    /// Gives a packet to the kernel, through the twin of the port it came by.
    #[inline(never)]
    pub(super) fn give_to_kernel(&mut self, packet: T::Buf, l3_offset: u16, port: u16) {
        match self.slow_path.to_tap(port, link::untagged(packet.bytes(), usize::from(l3_offset))) {
            Ok(()) => {
                self.tally.totals.to_tap += 1;
                self.discard_buffer(packet);
            }
            Err(SlowPathError::FrameTooLong { .. }) => self.drop(packet, DropReason::SlowPathTooLong),
            Err(SlowPathError::RingFull | SlowPathError::UnknownPort { .. }) => {
                self.drop(packet, DropReason::SlowPathFull);
            }
        }
    }

    /// Sends what the kernel wants sent; tells whether there was any.
    pub(super) fn take_from_kernel(&mut self) -> bool {
        if !self.slow_path.is_waiting() {
            return false;
        }
        for _ in 0..FROM_TAP_MAX {
            let pool = &mut self.pool;
            let taken = self.slow_path.from_tap(|frame| (frame.port(), pool.allocate(frame.bytes())));
            let Some((port, packet)) = taken else { break };
            self.tally.totals.from_tap += 1;
            let Some(mut packet) = packet else {
                self.tally.drop_packet(DropReason::FromTapNoBuffer);
                continue;
            };
            if packet.bytes().len() < parse::ETHERNET_LEN {
                self.drop(packet, DropReason::EthernetTruncated);
            } else if self.faces[usize::from(port)].add_tags(&mut packet) {
                self.send(packet, port);
            } else {
                self.drop(packet, DropReason::NoHeadroom);
            }
        }
        self.free_dropped();
        true
    }
}
