//! What cells are keyed by: a source prefix and a destination prefix of one family, as masked addresses.

use std::sync::atomic::{AtomicU64, Ordering};

use vinet_trusted::addr::{Addr, Prefix};

use super::hash::{Mix, Tweak};
use crate::region::Zeroed;

/// A (source, destination) pair of one family.
pub(super) trait Key: Copy + Eq + std::hash::Hash + Default + Send + Sync + 'static {
    /// Room for a key that one thread writes while others read it. Who reads while it is written may see a mixture of
    /// the two.
    type Room: Zeroed + Send + Sync;

    /// The pair of these addresses, or `None` where they are not of this family.
    fn of(src: Addr, dst: Addr) -> Option<Self>;
    /// The mask that keeps so many bits of each.
    fn mask(src_len: u8, dst_len: u8) -> Self;
    /// The bits that `mask` keeps.
    fn masked(self, mask: Self) -> Self;
    /// A keyed hash of the pair.
    fn hash(self, mix: impl Mix, tweak: Tweak) -> u64;
    /// What stands in the room. What was stored before it is seen with it.
    fn load(room: &Self::Room) -> Self;
    /// Puts it in the room, after all that was stored before.
    fn store(self, room: &Self::Room);
    /// The bits of an address of this family.
    const WIDTH: u8;
}

/// An IPv4 pair: the source in the high half. A bare word, because packets are judged into words.
pub(super) type V4 = u64;

/// The IPv4 pair of these addresses.
#[inline]
pub(super) fn v4(src: u32, dst: u32) -> V4 {
    u64::from(src) << 32 | u64::from(dst)
}

/// An IPv6 pair: the source, then the destination, the low half of each first.
#[derive(Clone, Copy, Eq, Hash, Debug, Default)]
#[allow(clippy::derived_hash_with_manual_eq, reason = "it is the same equality")]
pub(super) struct V6([u64; 4]);

impl PartialEq for V6 {
    /// Word by word: as an array it is compared in vectors, for which words that were just masked have not left for memory.
    #[inline(always)]
    fn eq(&self, other: &V6) -> bool {
        let [a, b, c, d] = self.0;
        let [e, f, g, h] = other.0;
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }
}

impl V6 {
    #[inline]
    pub(super) fn new(src: u128, dst: u128) -> V6 {
        V6([src as u64, (src >> 64) as u64, dst as u64, (dst >> 64) as u64])
    }
}

impl Key for V4 {
    type Room = AtomicU64;
    const WIDTH: u8 = 32;

    #[inline]
    fn of(src: Addr, dst: Addr) -> Option<V4> {
        match (src, dst) {
            (Addr::V4(src), Addr::V4(dst)) => Some(v4(src, dst)),
            _ => None,
        }
    }
    fn mask(src_len: u8, dst_len: u8) -> V4 {
        let ones = |len: u8| if len == 0 { 0 } else { u32::MAX << (32 - len) };
        v4(ones(src_len), ones(dst_len))
    }
    #[inline(always)]
    fn masked(self, mask: V4) -> V4 {
        self & mask
    }
    #[inline(always)]
    fn hash(self, mix: impl Mix, tweak: Tweak) -> u64 {
        mix.of_word(self, tweak)
    }
    #[inline(always)]
    fn load(room: &AtomicU64) -> V4 {
        room.load(Ordering::Acquire)
    }
    fn store(self, room: &AtomicU64) {
        room.store(self, Ordering::Release);
    }
}

impl Key for V6 {
    type Room = [AtomicU64; 4];
    const WIDTH: u8 = 128;

    #[inline]
    fn of(src: Addr, dst: Addr) -> Option<V6> {
        match (src, dst) {
            (Addr::V6(src), Addr::V6(dst)) => Some(V6::new(src, dst)),
            _ => None,
        }
    }
    fn mask(src_len: u8, dst_len: u8) -> V6 {
        let ones = |len: u8| if len == 0 { 0 } else { u128::MAX << (128 - len) };
        V6::new(ones(src_len), ones(dst_len))
    }
    #[inline(always)]
    fn masked(self, mask: V6) -> V6 {
        V6(std::array::from_fn(|i| self.0[i] & mask.0[i]))
    }
    #[inline(always)]
    fn hash(self, mix: impl Mix, tweak: Tweak) -> u64 {
        mix.of_words(self.0, tweak)
    }
    #[inline(always)]
    fn load(room: &[AtomicU64; 4]) -> V6 {
        V6(std::array::from_fn(|i| room[i].load(Ordering::Acquire)))
    }
    fn store(self, room: &[AtomicU64; 4]) {
        for (word, value) in room.iter().zip(self.0) {
            word.store(value, Ordering::Release);
        }
    }
}

/// The key of a cell, or `None` where its prefixes are not of this family.
pub(super) fn of_cell<K: Key>(src: Prefix, dst: Prefix) -> Option<K> {
    K::of(src.addr(), dst.addr())
}
