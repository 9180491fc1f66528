//! Which sealed requests have been seen: the memory that closes replays of them.
//!
//! A request is fresh for at most [`FRESH_MS`] before and after its own time, so one that was seen has to be remembered
//! for twice as long and no longer. Two generations do that: what is new goes into the current one, both are asked, and
//! every [`PERIOD_MS`] the older one is emptied and takes its turn. So the memory is fixed before the first request comes.
//! Where it is full, a request that cannot be remembered is refused, not taken unremembered; and nobody fills it alone:
//! owners fall by a secret hash into [`SHARES`] shares, none of which gets more than a sixteenth.

use crate::digest::{Digest, Domain};
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use vinet_trusted::addr::Principal;

/// How far the time of a sealed request may lie from the router's, either way, in milliseconds.
pub const FRESH_MS: u64 = 30_000;
/// How long a generation is the current one: as long as anything that was seen can be fresh.
const PERIOD_MS: u64 = 2 * FRESH_MS;
/// The most requests that one generation remembers; 15,000 a second. Seven eighths of a power of two: a table of them is full then.
pub const WINDOW_LEN_MAX: usize = 7 << 17;
/// Into how many shares owners fall.
const SHARES: usize = 256;
/// What part of a generation one share may have.
const SHARE_OF: usize = 16;

/// Why a request that is authentic and fresh is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Its number was used before.
    Replayed,
    /// It could not be remembered.
    Full,
}

/// Hashes what is a secret hash already.
#[derive(Default)]
struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole numbers are put in");
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

struct Generation {
    seen: HashSet<u64, BuildHasherDefault<Plain>>,
    taken: [u32; SHARES],
}

impl Generation {
    fn new(len_max: usize) -> Generation {
        Generation {
            seen: HashSet::with_capacity_and_hasher(len_max, BuildHasherDefault::default()),
            taken: [0; SHARES],
        }
    }
    fn clear(&mut self) {
        self.seen.clear();
        self.taken = [0; SHARES];
    }
}

/// The requests that were seen lately.
pub(crate) struct Window {
    /// Drawn at the start, so that nobody can make two requests look the same, or choose whom to share with.
    key: [u8; 32],
    len_max: usize,
    turned_ms: u64,
    current: Generation,
    previous: Generation,
}

impl Window {
    pub(crate) fn new(key: [u8; 32], len_max: usize, now_ms: u64) -> Window {
        let generation = || Generation::new(len_max);
        Window { key, len_max, turned_ms: now_ms, current: generation(), previous: generation() }
    }

    /// The share of an owner, which its tickets carry.
    pub(crate) fn share(&self, owner: &Principal) -> u8 {
        Digest::new(Domain::SealedWindow).field(&self.key).field(&crate::cbor::to_bytes(owner)).finish()[0]
    }

    /// Lets go what can be fresh no longer.
    pub(crate) fn turn(&mut self, now_ms: u64) {
        let periods = now_ms.saturating_sub(self.turned_ms) / PERIOD_MS;
        if periods == 0 {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.clear();
        if periods > 1 {
            self.previous.clear();
        }
        self.turned_ms += periods * PERIOD_MS;
    }

    /// Remembers a request of a session, if it is new and there is room.
    pub(crate) fn take(&mut self, session: &[u8; 16], number: u64, share: u8, now_ms: u64) -> Result<(), NotTaken> {
        self.turn(now_ms);
        let digest = Digest::new(Domain::SealedWindow).field(&self.key).field(session).number(number).finish();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        let name = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        if self.current.seen.contains(&name) || self.previous.seen.contains(&name) {
            return Err(NotTaken::Replayed);
        }
        let taken = &mut self.current.taken[usize::from(share)];
        if self.current.seen.len() >= self.len_max || *taken as usize >= (self.len_max / SHARE_OF).max(1) {
            return Err(NotTaken::Full);
        }
        *taken += 1;
        self.current.seen.insert(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, seed};

    #[test]
    fn what_was_seen_is_remembered_as_long_as_it_can_be_fresh() {
        let mut random = Random::new(seed());
        for _ in 0..200 {
            let mut window = Window::new([1; 32], 1 << 12, 0);
            let seen_ms = random.below(5 * PERIOD_MS);
            window.turn(random.below(seen_ms + 1));
            assert_eq!(window.take(&[7; 16], 3, 0, seen_ms), Ok(()));
            let again_ms = seen_ms + random.below(PERIOD_MS + 1);
            if random.below(2) == 0 {
                window.turn(seen_ms + (again_ms - seen_ms) / 2);
            }
            assert_eq!(window.take(&[7; 16], 3, 0, again_ms), Err(NotTaken::Replayed), "{seen_ms} {again_ms}");
            // Another number, and another session, are other requests.
            assert_eq!(window.take(&[7; 16], 4, 0, again_ms), Ok(()));
            assert_eq!(window.take(&[8; 16], 3, 0, again_ms), Ok(()));
            // And it is let go: two periods later nothing is left.
            window.turn(again_ms + 2 * PERIOD_MS);
            assert_eq!(window.current.seen.len() + window.previous.seen.len(), 0);
        }
    }

    #[test]
    fn a_full_window_refuses_and_forgets_nothing() {
        let mut window = Window::new([2; 32], 64, 0);
        let share = |number: u64| (number % 32) as u8;
        for number in 0..64 {
            assert_eq!(window.take(&[0; 16], number, share(number), 0), Ok(()));
        }
        assert_eq!(window.take(&[0; 16], 64, 99, 0), Err(NotTaken::Full));
        for number in 0..64 {
            assert_eq!(window.take(&[0; 16], number, share(number), PERIOD_MS), Err(NotTaken::Replayed));
        }
        // There is room again as soon as the period is over.
        assert_eq!(window.take(&[0; 16], 64, 99, PERIOD_MS), Ok(()));
        let bytes = window.current.seen.capacity() + window.previous.seen.capacity();
        assert!(bytes <= 2 * 128, "a generation never grows");
    }

    #[test]
    fn one_share_never_takes_more_than_a_sixteenth() {
        let mut window = Window::new([3; 32], 1600, 0);
        let taken = (0..1600).filter(|&number| window.take(&[0; 16], number, 5, 0).is_ok()).count();
        assert_eq!(taken, 100);
        assert_eq!(window.take(&[1; 16], 0, 6, 0), Ok(()), "the others have their room");
    }
}
