//! DISCARD: what becomes of a packet, and the leave that dropping it takes.

use vinet_trusted::check::Checked;
use vinet_trusted::gate::{self, DiscardPermit};
use vinet_trusted::packet::Packet;

/// What a program decides about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on, unchanged.
    Forward,
    /// It is dropped, with leave.
    Discard(DiscardPermit),
}

/// Asks for leave to drop `packet` on behalf of `checked`. Without leave it goes on.
#[must_use]
#[inline]
pub fn discard(checked: &Checked, packet: &Packet) -> Verdict {
    gate::discard(checked, packet).map_or(Verdict::Forward, Verdict::Discard)
}
