//! Who holds how many of the places that share a bound.

use std::collections::{BTreeMap, BTreeSet};

use vinet_trusted::addr::Principal;

use super::Place;

/// The places under one bound, by owner.
#[derive(Debug, Default)]
pub(super) struct Pool {
    owners: BTreeMap<Principal, BTreeSet<Place>>,
    /// How many each owner holds; the last holds most.
    ranking: BTreeSet<(usize, Principal)>,
    len: usize,
}

impl Pool {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn of_owner(&self, owner: &Principal) -> usize {
        self.owners.get(owner).map_or(0, BTreeSet::len)
    }

    pub(super) fn holds(&self, owner: &Principal, place: Place) -> bool {
        self.owners.get(owner).is_some_and(|places| places.contains(&place))
    }

    /// The place that gives way to one more of `owner`: the newest of whoever has most, if that is at least two more.
    pub(super) fn victim(&self, owner: &Principal) -> Option<Place> {
        let (most, whose) = self.ranking.last()?;
        if *most < self.of_owner(owner) + 2 {
            return None;
        }
        self.owners.get(whose)?.last().copied()
    }

    pub(super) fn add(&mut self, owner: Principal, place: Place) {
        let places = self.owners.entry(owner).or_default();
        self.ranking.remove(&(places.len(), owner));
        if places.insert(place) {
            self.len += 1;
        }
        self.ranking.insert((places.len(), owner));
    }

    pub(super) fn remove(&mut self, owner: &Principal, place: Place) {
        let Some(places) = self.owners.get_mut(owner) else { return };
        self.ranking.remove(&(places.len(), *owner));
        if places.remove(&place) {
            self.len -= 1;
        }
        if places.is_empty() {
            self.owners.remove(owner);
        } else {
            self.ranking.insert((places.len(), *owner));
        }
    }
}
