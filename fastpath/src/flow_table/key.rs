//! What cells are keyed by: a source prefix and a destination prefix of one family, as masked addresses.

use ahash::RandomState;
use vinet_trusted::addr::{Addr, Prefix};

/// A (source, destination) pair of one family.
pub(super) trait Key: Copy + Eq + std::hash::Hash + Send + Sync + 'static {
    /// The pair of these addresses, or `None` where they are not of this family.
    fn of(src: Addr, dst: Addr) -> Option<Self>;
    /// The mask that keeps so many bits of each.
    fn mask(src_len: u8, dst_len: u8) -> Self;
    /// The bits that `mask` keeps.
    fn masked(self, mask: Self) -> Self;
    /// A keyed hash of the pair.
    fn keyed_hash(self, state: &RandomState) -> u64;
}

/// An IPv4 pair: the source in the high half.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct V4(u64);

/// An IPv6 pair.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct V6 {
    src: u128,
    dst: u128,
}

impl Key for V4 {
    #[inline]
    fn of(src: Addr, dst: Addr) -> Option<V4> {
        match (src, dst) {
            (Addr::V4(src), Addr::V4(dst)) => Some(V4(u64::from(src) << 32 | u64::from(dst))),
            _ => None,
        }
    }
    fn mask(src_len: u8, dst_len: u8) -> V4 {
        let ones = |len: u8| if len == 0 { 0 } else { u32::MAX << (32 - len) };
        V4(u64::from(ones(src_len)) << 32 | u64::from(ones(dst_len)))
    }
    #[inline]
    fn masked(self, mask: V4) -> V4 {
        V4(self.0 & mask.0)
    }
    #[inline]
    fn keyed_hash(self, state: &RandomState) -> u64 {
        state.hash_one(self.0)
    }
}

impl Key for V6 {
    #[inline]
    fn of(src: Addr, dst: Addr) -> Option<V6> {
        match (src, dst) {
            (Addr::V6(src), Addr::V6(dst)) => Some(V6 { src, dst }),
            _ => None,
        }
    }
    fn mask(src_len: u8, dst_len: u8) -> V6 {
        let ones = |len: u8| if len == 0 { 0 } else { u128::MAX << (128 - len) };
        V6 { src: ones(src_len), dst: ones(dst_len) }
    }
    #[inline]
    fn masked(self, mask: V6) -> V6 {
        V6 { src: self.src & mask.src, dst: self.dst & mask.dst }
    }
    #[inline]
    fn keyed_hash(self, state: &RandomState) -> u64 {
        state.hash_one((self.src, self.dst))
    }
}

/// The key of a cell, or `None` where its prefixes are not of this family.
pub(super) fn of_cell<K: Key>(src: Prefix, dst: Prefix) -> Option<K> {
    K::of(src.addr(), dst.addr())
}
