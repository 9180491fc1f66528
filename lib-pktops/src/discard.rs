//! DISCARD: what becomes of a packet, and the leave that dropping it takes.

use crate::parse::Headers;
use vinet_trusted::check::Checked;
use vinet_trusted::gate::{self, DiscardPermit};

/// What a program decides about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on, unchanged.
    Forward,
    /// It is dropped, with leave.
    Discard(DiscardPermit),
}

/// Asks for leave to drop the packet of `headers` on behalf of `checked`. Without leave it goes on.
#[must_use]
#[inline]
pub fn discard(checked: &Checked, headers: &Headers) -> Verdict {
    gate::discard(checked, headers.src, headers.dst).map_or(Verdict::Forward, Verdict::Discard)
}
