//! GROUP_BY_DESTINATION: packets by where they go to.

use crate::equals::Equals;
use ahash::RandomState;
use vinet_trusted::addr::PrefixSet;
use vinet_trusted::packet::Packet;

/// The form with an address: whether a packet of the argument is among those to `addrs`.
#[must_use]
#[inline]
pub fn select(packet: &Packet, addrs: &PrefixSet) -> bool {
    addrs.contains(packet.dst)
}

/// The form without: the packets of a window that go to the same address.
#[must_use]
pub fn partition<const N: usize, const P: usize>(packets: &[Packet], hasher: &RandomState) -> Equals<N, P> {
    Equals::of(packets.len(), |p| hasher.hash_one(packets[p].dst), |a, b| packets[a].dst == packets[b].dst)
}
