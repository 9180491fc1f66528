//! Bursts: the packets that are handled together.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;

use super::{BURST_LEN_MAX, PacketBuf};

/// Up to [`BURST_LEN_MAX`] packets, in order.
pub struct Burst<B> {
    packets: Vec<B>,
    len_max: usize,
}

impl<B> Burst<B> {
    /// An empty burst with room for [`BURST_LEN_MAX`] packets: the only time it allocates.
    #[must_use]
    pub fn new() -> Self {
        Burst::with_len_max(BURST_LEN_MAX)
    }
    /// An empty burst for at most `len_max` packets, of which [`BURST_LEN_MAX`] count.
    #[must_use]
    pub fn with_len_max(len_max: usize) -> Self {
        Burst { packets: Vec::with_capacity(BURST_LEN_MAX), len_max: len_max.min(BURST_LEN_MAX) }
    }
    /// Lets it hold at most `len_max` packets, of which [`BURST_LEN_MAX`] count; those it holds stay.
    pub fn set_len_max(&mut self, len_max: usize) {
        self.len_max = len_max.min(BURST_LEN_MAX);
    }
    /// How many packets it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }
    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
    /// How many more packets it takes.
    #[must_use]
    pub fn room(&self) -> usize {
        self.len_max.saturating_sub(self.packets.len())
    }
    /// Adds a packet at the end, or gives it back where the burst is full.
    ///
    /// # Errors
    /// The packet, where the burst holds [`BURST_LEN_MAX`] already.
    #[inline]
    pub fn push(&mut self, packet: B) -> Result<(), B> {
        if self.room() == 0 {
            return Err(packet);
        }
        self.packets.push(packet);
        Ok(())
    }
    /// The packets, oldest first.
    #[must_use]
    pub fn packets(&self) -> &[B] {
        &self.packets
    }
    /// The packets, oldest first, writable.
    #[must_use]
    pub fn packets_mut(&mut self) -> &mut [B] {
        &mut self.packets
    }
    /// Takes the oldest packet out.
    pub fn pop_front(&mut self) -> Option<B> {
        self.drain_front(1).next()
    }
    /// Takes the first `count` packets out (all, where there are fewer); the rest stays in order.
    pub fn drain_front(&mut self, count: usize) -> std::vec::Drain<'_, B> {
        let count = count.min(self.packets.len());
        self.packets.drain(..count)
    }
    /// Takes all packets out.
    pub fn drain(&mut self) -> std::vec::Drain<'_, B> {
        self.packets.drain(..)
    }
    /// Takes all packets out, in any order and by their numbers.
    #[inline]
    pub(crate) fn deal(&mut self) -> Hand<'_, B> {
        let count = self.packets.len();
        debug_assert!(count <= BURST_LEN_MAX, "a burst holds no more");
        let left = u64::MAX.checked_shr((BURST_LEN_MAX - count) as u32).unwrap_or(0);
        // SAFETY: none is no more than there are; the packets that were there are the hand's, which lives no longer than
        // the vector is borrowed.
        unsafe { self.packets.set_len(0) };
        Hand { packets: self.packets.as_mut_ptr(), left, burst: PhantomData }
    }
    /// The vector beneath, for a driver that fills it through a pointer. It must never exceed [`BURST_LEN_MAX`].
    pub(crate) fn packets_vec(&mut self) -> &mut Vec<B> {
        &mut self.packets
    }
}

/// The numbers of the bits that are set, rising.
#[inline(always)]
pub(crate) fn numbers(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let number = NonZeroU64::new(bits)?.trailing_zeros();
        bits &= bits - 1;
        Some(number as usize)
    })
}

/// The packets of a burst, by their numbers, each until it is taken. Those that nobody takes are dropped with it.
pub(crate) struct Hand<'b, B> {
    /// Where the packets stand: those whose bits are set in `left` are this value's, the others' places are empty.
    packets: *mut B,
    left: u64,
    burst: PhantomData<&'b mut Burst<B>>,
}

impl<B> Hand<'_, B> {
    /// A bit for each packet that is still there.
    #[inline(always)]
    pub(crate) fn left(&self) -> u64 {
        self.left
    }
    #[inline(always)]
    fn holds(&self, number: usize) -> bool {
        number < BURST_LEN_MAX && self.left >> number & 1 != 0
    }
    /// The packet of this number, if it is still there.
    #[inline(always)]
    pub(crate) fn get(&self, number: usize) -> Option<&B> {
        // SAFETY: its bit is set, so there is a packet, which is this value's; it is lent as this value is.
        self.holds(number).then(|| unsafe { &*self.packets.add(number) })
    }
    /// Those of these packets that are still there, in order and writable, with their numbers.
    #[inline(always)]
    pub(crate) fn each_mut(&mut self, which: u64) -> impl Iterator<Item = (usize, &mut B)> {
        let packets = self.packets;
        // SAFETY: as for `get`; no number comes twice, so no packet is lent twice.
        numbers(which & self.left).map(move |number| (number, unsafe { &mut *packets.add(number) }))
    }
    /// Takes the packet of this number, if it is still there.
    #[inline(always)]
    pub(crate) fn take(&mut self, number: usize) -> Option<B> {
        if !self.holds(number) {
            return None;
        }
        self.left &= !(1 << number);
        // SAFETY: its bit was set, so there is a packet; it is not any more, so nobody takes or drops it again.
        Some(unsafe { self.packets.add(number).read() })
    }
    /// Moves those of these packets that are still there to the end of a burst, in order: all of them, or, where it has
    /// not the room, none. Tells whether it had.
    #[inline(always)]
    pub(crate) fn move_to(&mut self, which: u64, to: &mut Burst<B>) -> bool {
        let mut which = which & self.left;
        let count = which.count_ones() as usize;
        let to = match to.room() {
            room if count <= room => &mut to.packets,
            _ => return false,
        };
        // A burst has its whole capacity from the start, so this reserves nothing; it keeps this sound by itself.
        to.reserve(count);
        self.left &= !which;
        let len = to.len();
        // SAFETY: there is room for as many. Each packet is read once: its bit was set, and is not any more.
        unsafe {
            let mut place = to.as_mut_ptr().add(len);
            while which != 0 {
                place.write(self.packets.add(which.trailing_zeros() as usize).read());
                place = place.add(1);
                which &= which - 1;
            }
            to.set_len(len + count);
        }
        true
    }
}

impl<B> Drop for Hand<'_, B> {
    #[inline]
    fn drop(&mut self) {
        while self.left != 0 {
            drop(self.take(self.left.trailing_zeros() as usize));
        }
    }
}

impl<B: PacketBuf> Burst<B> {
    /// The bytes of all its packets.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.packets.iter().map(|packet| packet.bytes().len() as u64).sum()
    }
}
impl<B> Default for Burst<B> {
    fn default() -> Self {
        Self::new()
    }
}
impl<B> fmt::Debug for Burst<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Burst({} packets)", self.packets.len())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn burst(of: &Rc<()>, count: usize) -> Burst<(usize, Rc<()>)> {
        let mut burst = Burst::new();
        for number in 0..count {
            assert!(burst.push((number, of.clone())).is_ok());
        }
        burst
    }
    fn numbers(burst: &Burst<(usize, Rc<()>)>) -> Vec<usize> {
        burst.packets().iter().map(|&(number, _)| number).collect()
    }

    #[test]
    fn a_hand_gives_each_packet_once_and_drops_the_rest() {
        let all = Rc::new(());
        let mut to = Burst::new();
        for count in [0, 1, 5, 63, 64] {
            let mut from = burst(&all, count);
            let mut hand = from.deal();
            assert_eq!(hand.left().count_ones() as usize, count);
            assert_eq!(hand.take(3).map(|(number, _)| number), (count > 3).then_some(3));
            assert!(hand.take(3).is_none() && hand.get(3).is_none() && hand.take(64).is_none());
            assert!(hand.move_to(0b1_1011, &mut to));
            let moved: Vec<usize> = [0, 1, 4].into_iter().filter(|&number| number < count).collect();
            assert_eq!(numbers(&to), moved);
            let left: Vec<(usize, usize)> =
                hand.each_mut(0b1_0110).map(|(number, packet)| (number, packet.0)).collect();
            assert_eq!(left, if count > 2 { vec![(2, 2)] } else { vec![] });
            drop(hand);
            assert!(from.is_empty());
            drop(to.drain());
            assert_eq!(Rc::strong_count(&all), 1, "of {count}");
        }
    }

    #[test]
    fn what_has_no_room_stays() {
        let all = Rc::new(());
        let (mut from, mut to) = (burst(&all, 8), Burst::with_len_max(3));
        let mut hand = from.deal();
        assert!(!hand.move_to(0b1111, &mut to));
        assert!(hand.move_to(0b1011, &mut to));
        assert!(!hand.move_to(0b1100, &mut to), "it is full");
        assert!(hand.move_to(0b1011, &mut to), "those are gone");
        assert_eq!((numbers(&to), hand.left()), (vec![0, 1, 3], 0b1111_0100));
    }
}
