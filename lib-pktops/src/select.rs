//! SELECT: the packets that pass a test of their headers.

use crate::tree::{Own, Test, Tree};
use crate::{group_by_destination, group_by_source};
use vinet_trusted::addr::Addr;
use vinet_trusted::packet::{Field, Number, Packet, Ranges};

/// Whether the packet has the number, and has it in one of the ranges. One binary search, where
/// [`Ranges::contains`] looks at up to 256 of them.
#[must_use]
#[inline]
pub fn in_ranges(packet: &Packet, number: Number, ranges: &Ranges) -> bool {
    let Some(n) = packet.number(number) else { return false };
    let ranges = ranges.ranges();
    let behind = ranges.partition_point(|(first, _)| *first <= n);
    behind.checked_sub(1).is_some_and(|i| n <= ranges[i].1)
}

/// Whether a packet passes a test of `tree`, whose names stand for `own` and whose slots hold the addresses `held`.
pub(crate) fn passes(tree: &Tree, own: &Own, test: &Test, packet: &Packet, held: &[Addr]) -> bool {
    let holds = |test: &Test| passes(tree, own, test, packet, held);
    match test {
        Test::True => true,
        Test::False => false,
        Test::In(test) => match tree.tests[usize::from(*test)].0 {
            Field::Src => group_by_source::select(packet, own.set(tree, *test)),
            Field::Dst => group_by_destination::select(packet, own.set(tree, *test)),
        },
        Test::Is { field, slot, .. } => packet.field(*field) == held[usize::from(*slot)],
        Test::Number(test) => {
            let (number, ranges) = &tree.numbers[usize::from(*test)];
            in_ranges(packet, *number, ranges)
        }
        Test::Not(a) => !holds(a),
        Test::And(a, b) => holds(a) && holds(b),
        Test::Or(a, b) => holds(a) || holds(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::addr;

    #[test]
    fn a_search_of_ranges_finds_what_they_contain() {
        let mut packet = Packet::between(addr("192.0.2.1"), addr("10.0.0.5"));
        let many = (0..100).map(|i| (i * 10, i * 10 + i % 7)).collect();
        for ranges in [vec![(0, 0)], vec![(5, 9), (20, Packet::ABSENT - 1)], many] {
            let ranges = Ranges::new(ranges).unwrap();
            for n in (0..1100).chain([Packet::ABSENT - 1, Packet::ABSENT]) {
                packet.numbers[Number::Length as usize] = n;
                let expected = n != Packet::ABSENT && ranges.contains(n);
                assert_eq!(in_ranges(&packet, Number::Length, &ranges), expected, "{n} in {ranges:?}");
            }
        }
    }
}
