//! So many of something a second, and no more than a burst at once.

use vinet_session::Now;

/// How many, in the long run and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once, from a full bucket.
    pub burst: u64,
    /// A second, in the long run. A thousand a second and one a millisecond are the same.
    pub per_second: u64,
}

/// A bucket of tokens. It is full at first, and each taking empties it by one.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// In thousandths, so that a millisecond gains as many as there are tokens in a second.
    thousandths: u64,
    at_ms: u64,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: Rate, now: Now) -> Bucket {
        Bucket { thousandths: rate.burst * 1_000, at_ms: now.mono_ms }
    }
    /// Adds what time brought since the last call.
    pub fn refill(&mut self, rate: Rate, now: Now) {
        let gained = now.mono_ms.saturating_sub(self.at_ms).saturating_mul(rate.per_second);
        self.thousandths = self.thousandths.saturating_add(gained).min(rate.burst * 1_000);
        self.at_ms = self.at_ms.max(now.mono_ms);
    }
    /// Whether a token is there.
    #[must_use]
    pub fn has_one(&self) -> bool {
        self.thousandths >= 1_000
    }
    /// Takes a token, if one is there.
    pub fn take(&mut self) -> bool {
        let has_one = self.has_one();
        if has_one {
            self.thousandths -= 1_000;
        }
        has_one
    }
    /// Whether it would be full at `now`: then nothing is lost by forgetting it.
    #[must_use]
    pub fn is_full(&self, rate: Rate, now: Now) -> bool {
        let mut then = *self;
        then.refill(rate, now);
        then.thousandths == rate.burst * 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_burst_and_then_what_time_brings() {
        let at = |ms| Now { wall_s: 0, mono_ms: ms };
        let rate = Rate { burst: 3, per_second: 2 };
        let mut bucket = Bucket::full(rate, at(100));
        assert!(bucket.take() && bucket.take() && bucket.take() && !bucket.take());
        bucket.refill(rate, at(599));
        assert!(!bucket.take() && !bucket.is_full(rate, at(1_000)));
        bucket.refill(rate, at(600));
        assert!(bucket.take() && !bucket.take());
        assert!(!bucket.is_full(rate, at(2_099)) && bucket.is_full(rate, at(2_100)));
        // A clock that stood still or went back brings nothing, and long times bring no more than the burst.
        bucket.refill(rate, at(10));
        assert!(!bucket.take());
        bucket.refill(rate, at(u64::MAX));
        assert!(bucket.take() && bucket.take() && bucket.take() && !bucket.take());
    }
}
