//! How often an owner may ask for what costs the router more than a look.
//!
//! A token bucket for each owner, by its addresses, so that many keys of one owner share one. Owners whose buckets are
//! full again are forgotten, so memory is bounded by what was asked in the last seconds.

use ahash::AHashMap;
use vinet_session::Now;
use vinet_trusted::addr::{Prefix, Principal};

use crate::bucket::{Bucket, Rate};

/// The buckets of all owners.
#[derive(Debug)]
pub struct Rates {
    rate: Rate,
    buckets: AHashMap<Prefix, Bucket>,
}

impl Rates {
    /// Everybody has a full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> Rates {
        Rates { rate, buckets: AHashMap::new() }
    }

    fn bucket(&self, owner: &Prefix, now: Now) -> Bucket {
        let mut bucket = self.buckets.get(owner).copied().unwrap_or(Bucket::full(self.rate, now));
        bucket.refill(self.rate, now);
        bucket
    }

    /// Whether `owner` has a token.
    #[must_use]
    pub fn has_one(&self, owner: &Principal, now: Now) -> bool {
        self.bucket(&owner.owned(), now).has_one()
    }

    /// Takes a token of `owner`, where it has one.
    pub fn take(&mut self, owner: &Principal, now: Now) -> bool {
        let mut bucket = self.bucket(&owner.owned(), now);
        let taken = bucket.take();
        self.buckets.insert(owner.owned(), bucket);
        taken
    }

    /// Forgets full buckets: to be called about once a second.
    pub fn tick(&mut self, now: Now) {
        let rate = self.rate;
        self.buckets.retain(|_, bucket| !bucket.is_full(rate, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_trusted::addr::Addr;

    #[test]
    fn an_owner_has_a_burst_and_then_its_rate_and_is_forgotten_when_it_rests() {
        let at = |mono_ms| Now { wall_s: 0, mono_ms };
        let mut rates = Rates::new(Rate { burst: 3, per_second: 2 });
        let owner = |host: u32| Principal::edge_router(Addr::V4(0x0a00_0000 | host), 24).unwrap();
        for _ in 0..3 {
            assert!(rates.take(&owner(1), at(1_000)));
        }
        // Another address of the same network is the same owner.
        assert!(!rates.take(&owner(2), at(1_000)) && !rates.has_one(&owner(1), at(1_499)));
        assert!(rates.take(&Principal::EndUser(Addr::V4(1)), at(1_000)));
        assert!(rates.take(&owner(1), at(1_500)) && !rates.take(&owner(1), at(1_999)));
        rates.tick(at(2_000));
        assert_eq!(rates.buckets.len(), 1);
        rates.tick(at(3_000));
        assert!(rates.buckets.is_empty() && rates.has_one(&owner(1), at(3_000)));
    }
}
