//! What the receiver makes of the numbers of the packets that arrive: lost, reordered, seen twice.
//!
//! A packet is reordered if one sent later has arrived before it (RFC 4737, section 3); how far is how many numbers it is
//! behind the highest. A window over the last [`WINDOW_LEN`] numbers tells what came twice; older ones cannot be told apart
//! and count as late, and as received.

/// Numbers behind the highest that are remembered.
pub const WINDOW_LEN: u64 = 1 << 20;
const WORDS: usize = (WINDOW_LEN / 64) as usize;

/// Counts of one trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Different packets that arrived.
    pub received: u64,
    /// Copies of packets that had arrived.
    pub duplicates: u64,
    /// Packets that arrived behind one that was sent later.
    pub reordered: u64,
    /// The most numbers that one was behind.
    pub reorder_extent_max: u64,
    /// Packets too far behind to know whether they came twice.
    pub late: u64,
}

/// Follows the numbers of one trial.
pub struct Tracker {
    /// One bit for each number of the window.
    seen: Box<[u64]>,
    /// The number above the highest that arrived.
    next: u64,
    arrivals: Arrivals,
}

impl Tracker {
    /// Nothing arrived yet.
    pub fn new() -> Tracker {
        Tracker { seen: vec![0; WORDS].into_boxed_slice(), next: 0, arrivals: Arrivals::default() }
    }
    /// A packet arrives. False for a copy.
    #[inline]
    pub fn arrive(&mut self, number: u64) -> bool {
        if number >= self.next {
            self.advance(number);
        } else {
            let behind = self.next - 1 - number;
            if behind >= WINDOW_LEN {
                self.arrivals.late += 1;
                self.reorder(behind);
                self.arrivals.received += 1;
                return true;
            }
            let (word, bit) = slot(number);
            if self.seen[word] & bit != 0 {
                self.arrivals.duplicates += 1;
                return false;
            }
            self.reorder(behind);
        }
        let (word, bit) = slot(number);
        self.seen[word] |= bit;
        self.arrivals.received += 1;
        true
    }
    /// A packet without a number arrives.
    #[inline]
    pub fn count(&mut self) {
        self.arrivals.received += 1;
    }
    /// The counts.
    pub const fn arrivals(&self) -> Arrivals {
        self.arrivals
    }
    fn reorder(&mut self, behind: u64) {
        self.arrivals.reordered += 1;
        self.arrivals.reorder_extent_max = self.arrivals.reorder_extent_max.max(behind);
    }
    /// The window's end moves to behind `number`; what it moves over is not seen yet.
    #[inline]
    fn advance(&mut self, number: u64) {
        if number - self.next >= WINDOW_LEN {
            self.seen.fill(0);
        } else {
            for passed in self.next..=number {
                let (word, bit) = slot(passed);
                self.seen[word] &= !bit;
            }
        }
        self.next = number + 1;
    }
}

fn slot(number: u64) -> (usize, u64) {
    let place = number % WINDOW_LEN;
    ((place / 64) as usize, 1 << (place % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::chance::Chance;
    use std::collections::HashSet;

    fn after(numbers: impl IntoIterator<Item = u64>) -> Arrivals {
        let mut tracker = Tracker::new();
        for number in numbers {
            tracker.arrive(number);
        }
        tracker.arrivals()
    }

    #[test]
    fn order_is_order_and_gaps_are_no_reordering() {
        assert_eq!(after(0..1000), Arrivals { received: 1000, ..Arrivals::default() });
        assert_eq!(after((0..1000).filter(|n| n % 7 != 0)).reordered, 0);
    }

    #[test]
    fn a_late_packet_is_reordered_and_a_copy_is_none() {
        let counts = after([0, 1, 4, 2, 3, 3, 5]);
        assert_eq!(counts, Arrivals { received: 6, duplicates: 1, reordered: 2, reorder_extent_max: 2, late: 0 });
    }

    #[test]
    fn what_is_beyond_the_window_is_late() {
        let counts = after([0, WINDOW_LEN + 5, 3, 5 * WINDOW_LEN, 4 * WINDOW_LEN + 1]);
        assert_eq!((counts.received, counts.late, counts.reordered), (5, 1, 2));
        // The slot of a number that was passed over is free for the next of the same slot.
        assert_eq!(after([7, 7 + WINDOW_LEN, 7 + WINDOW_LEN]).duplicates, 1);
    }

    #[test]
    fn chance_agrees_with_a_set_of_all_numbers() {
        for seed in 0..20 {
            let mut chance = Chance::new(seed);
            let (mut tracker, mut seen, mut highest) = (Tracker::new(), HashSet::new(), None);
            let (mut reordered, mut duplicates) = (0, 0);
            for base in 0..5_000u64 {
                let number = base + chance.below(64) as u64;
                if !seen.insert(number) {
                    duplicates += 1;
                } else if highest.is_some_and(|highest| number < highest) {
                    reordered += 1;
                }
                highest = highest.max(Some(number));
                tracker.arrive(number);
            }
            let counts = tracker.arrivals();
            let expected = (seen.len() as u64, duplicates, reordered, 0);
            assert_eq!((counts.received, counts.duplicates, counts.reordered, counts.late), expected, "seed {seed}");
        }
    }
}
