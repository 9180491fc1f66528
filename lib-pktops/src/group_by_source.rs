//! GROUP_BY_SOURCE, on a window of one packet.

use crate::parse::Headers;
use vinet_trusted::addr::PrefixSet;

/// The form with an address: whether the packet of `headers`, if it is `in_set`, is among those from `addrs`.
#[must_use]
#[inline]
pub fn select(in_set: bool, headers: &Headers, addrs: &PrefixSet) -> bool {
    in_set && addrs.contains(headers.src)
}

/// The form without: how many groups there are. A set of one packet has one, with the packet's source address as its
/// key; an empty set has none.
#[must_use]
#[inline]
pub const fn partition(in_set: bool) -> usize {
    in_set as usize
}
