//! Sets of addresses and of numbers as spans: what the analysis computes with.
//!
//! Unlike the sets of programs, these can be cut and taken from each other. They are shared, so that a state is copied
//! for little.

use std::rc::Rc;
use vinet_trusted::addr::{Addr, PrefixSet};
use vinet_trusted::packet::{Packet, Ranges};

/// What spans are made of.
pub(super) trait Point: Copy + Ord + 'static {
    /// All there are.
    const ALL: &'static [(Self, Self)];
    /// The one behind it.
    fn next(self) -> Option<Self>;
    /// The one before it.
    fn prev(self) -> Option<Self>;
}

impl Point for Addr {
    const ALL: &'static [(Addr, Addr)] = &[(Addr::V4(0), Addr::V4(u32::MAX)), (Addr::V6(0), Addr::V6(u128::MAX))];
    fn next(self) -> Option<Addr> {
        self.offset(1)
    }
    fn prev(self) -> Option<Addr> {
        self.offset(-1)
    }
}

/// A number of a packet's headers; [`Packet::ABSENT`] is one like the others here.
impl Point for u32 {
    const ALL: &'static [(u32, u32)] = &[(0, Packet::ABSENT)];
    fn next(self) -> Option<u32> {
        self.checked_add(1)
    }
    fn prev(self) -> Option<u32> {
        self.checked_sub(1)
    }
}

/// The fewest spans, each a first and a last point, rising.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Spans<K>(Rc<Vec<(K, K)>>);

impl<K: Point> Spans<K> {
    pub(super) fn all() -> Self {
        Spans(Rc::new(K::ALL.to_vec()))
    }
    pub(super) fn none() -> Self {
        Spans(Rc::new(Vec::new()))
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub(super) fn of(mut spans: Vec<(K, K)>) -> Self {
        spans.sort_unstable();
        let mut merged: Vec<(K, K)> = Vec::with_capacity(spans.len());
        for (first, last) in spans {
            match merged.last_mut() {
                Some((_, end)) if first <= *end || end.next() == Some(first) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Spans(Rc::new(merged))
    }
    pub(super) fn spans(&self) -> &[(K, K)] {
        &self.0
    }
    pub(super) fn union(&self, other: &Self) -> Self {
        if Rc::ptr_eq(&self.0, &other.0) || other.is_empty() {
            return self.clone();
        }
        Spans::of(self.0.iter().chain(other.0.iter()).copied().collect())
    }
    pub(super) fn meet(&self, other: &Self) -> Self {
        if Rc::ptr_eq(&self.0, &other.0) {
            return self.clone();
        }
        let (mut i, mut j, mut met) = (0, 0, Vec::new());
        while let (Some(&(a, b)), Some(&(c, d))) = (self.0.get(i), other.0.get(j)) {
            if a.max(c) <= b.min(d) {
                met.push((a.max(c), b.min(d)));
            }
            if b <= d { i += 1 } else { j += 1 }
        }
        Spans(Rc::new(met))
    }
    fn complement(&self) -> Self {
        let mut left = Vec::new();
        let mut taken = self.0.iter().peekable();
        for &(first, last) in K::ALL {
            let mut from = Some(first);
            while let Some(&&(a, b)) = taken.peek()
                && a <= last
            {
                if let (Some(start), Some(end)) = (from, a.prev())
                    && start <= end
                    && start <= last
                    && a > first
                {
                    left.push((start, end));
                }
                from = b.next().filter(|_| b < last);
                taken.next();
            }
            if let Some(start) = from
                && start <= last
            {
                left.push((start, last));
            }
        }
        Spans(Rc::new(left))
    }
    pub(super) fn minus(&self, other: &Self) -> Self {
        self.meet(&other.complement())
    }
    pub(super) fn is_within(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0) || self.minus(other).is_empty()
    }
    pub(super) fn is_disjoint(&self, other: &Self) -> bool {
        self.meet(other).is_empty()
    }
}

impl From<&PrefixSet> for Spans<Addr> {
    fn from(set: &PrefixSet) -> Self {
        Spans::of(set.prefixes().iter().map(|p| (p.addr(), p.last())).collect())
    }
}

impl From<&Ranges> for Spans<u32> {
    fn from(set: &Ranges) -> Self {
        Spans::of(set.ranges().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_spans_are_sets() {
        let edge = [0, 1, 2, 5, 6, 7, 9, u32::MAX - 1, u32::MAX];
        let mut sets = vec![Spans::<u32>::none(), Spans::all()];
        for (i, &a) in edge.iter().enumerate() {
            for (j, &b) in edge.iter().enumerate().skip(i) {
                sets.push(Spans::of(vec![(a, b)]));
                sets.push(Spans::of(vec![(a, a), (b, b), (edge[(i + j) / 2], edge[(i + j) / 2])]));
            }
        }
        let has = |s: &Spans<u32>, n: u32| s.spans().iter().any(|&(a, b)| a <= n && n <= b);
        for a in &sets {
            for b in &sets {
                for &n in &edge {
                    assert_eq!(has(&a.union(b), n), has(a, n) || has(b, n));
                    assert_eq!(has(&a.meet(b), n), has(a, n) && has(b, n));
                    assert_eq!(has(&a.minus(b), n), has(a, n) && !has(b, n), "{a:?} {b:?} {n}");
                }
                assert_eq!(a.is_within(b), a.union(b) == *b, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn families_are_apart() {
        let v4 = Spans::of(vec![(Addr::V4(0), Addr::V4(u32::MAX))]);
        let v6 = Spans::<Addr>::all().minus(&v4);
        assert_eq!(v6.spans(), [(Addr::V6(0), Addr::V6(u128::MAX))]);
        let some = Spans::of(vec![(Addr::V4(5), Addr::V4(9)), (Addr::V6(0), Addr::V6(3))]);
        assert_eq!(
            Spans::all().minus(&some).spans(),
            [(Addr::V4(0), Addr::V4(4)), (Addr::V4(10), Addr::V4(u32::MAX)), (Addr::V6(4), Addr::V6(u128::MAX))]
        );
    }
}
