//! The timer wheel: when which program ends.
//!
//! A hashed wheel of [`SLOTS`] slots of [`TICK_MS`] each. An entry lies in the slot of its tick modulo the number of
//! slots, with the tick itself, so that a lifetime longer than one turn is passed over until its turn comes. Setting
//! and expiring cost a constant time, cancelling the length of one slot. The wheel is bounded: a full one refuses.
//! It never fires early; it fires at most one tick late, plus the time between two calls of [`Wheel::expire`].

/// Slots of the wheel.
pub const SLOTS: usize = 4096;
/// Milliseconds of one tick.
pub const TICK_MS: u64 = 100;

/// A timer that was set; needed to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    tick: u64,
    key: u64,
}

/// The wheel was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Deadlines with a key each, on a clock that never goes back.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<Timer>>,
    /// The last tick that was expired.
    tick: u64,
    len: usize,
    capacity: usize,
}

impl Wheel {
    /// An empty wheel for at most `capacity` timers, at the time `now_ms`.
    #[must_use]
    pub fn new(capacity: usize, now_ms: u64) -> Wheel {
        Wheel { slots: vec![Vec::new(); SLOTS], tick: now_ms / TICK_MS, len: 0, capacity }
    }

    /// How many timers are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a timer for `key` at `deadline_ms`; one in the past fires at the next call of [`Wheel::expire`].
    ///
    /// # Errors
    /// The wheel holds its capacity already.
    pub fn set(&mut self, key: u64, deadline_ms: u64) -> Result<Timer, Full> {
        if self.len == self.capacity {
            return Err(Full);
        }
        // Rounded up, so that it never fires early, and after the tick that was expired last, so that it fires at all.
        let timer = Timer { tick: deadline_ms.div_ceil(TICK_MS).max(self.tick + 1), key };
        self.slots[slot(timer.tick)].push(timer);
        self.len += 1;
        Ok(timer)
    }

    /// Takes a timer back; `false` where it has fired already.
    pub fn cancel(&mut self, timer: Timer) -> bool {
        let slot = &mut self.slots[slot(timer.tick)];
        let Some(at) = slot.iter().position(|t| *t == timer) else { return false };
        slot.swap_remove(at);
        self.len -= 1;
        true
    }

    /// Appends to `fired` the keys of all timers whose deadline is not after `now_ms`, in the order of their ticks.
    pub fn expire(&mut self, now_ms: u64, fired: &mut Vec<u64>) {
        let now = now_ms / TICK_MS;
        if now <= self.tick {
            return;
        }
        let mut due: Vec<Timer> = Vec::new();
        // After a whole turn every slot has been seen once.
        let last = now.min(self.tick + SLOTS as u64);
        for tick in self.tick + 1..=last {
            due.extend(self.slots[slot(tick)].extract_if(.., |timer| timer.tick <= now));
        }
        self.tick = now;
        self.len -= due.len();
        due.sort_by_key(|timer| timer.tick);
        fired.extend(due.into_iter().map(|timer| timer.key));
    }
}

fn slot(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fired(wheel: &mut Wheel, now_ms: u64) -> Vec<u64> {
        let mut keys = Vec::new();
        wheel.expire(now_ms, &mut keys);
        keys
    }

    #[test]
    fn a_timer_fires_once_and_never_early() {
        let mut wheel = Wheel::new(4, 1_000);
        wheel.set(7, 1_250).unwrap();
        assert_eq!(fired(&mut wheel, 1_249), [0u64; 0]);
        assert_eq!(fired(&mut wheel, 1_299), [0u64; 0]);
        assert_eq!(fired(&mut wheel, 1_300), [7]);
        assert_eq!(fired(&mut wheel, 10_000), [0u64; 0]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_deadline_beyond_one_turn_waits_for_its_own() {
        let turn = SLOTS as u64 * TICK_MS;
        let mut wheel = Wheel::new(4, 0);
        wheel.set(1, 3 * turn + 500).unwrap();
        wheel.set(2, 500).unwrap();
        assert_eq!(fired(&mut wheel, 500), [2]);
        assert_eq!(fired(&mut wheel, turn + 500), [0u64; 0]);
        assert_eq!(fired(&mut wheel, 3 * turn + 499), [0u64; 0]);
        assert_eq!(fired(&mut wheel, 3 * turn + 500), [1]);
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_the_next_tick() {
        let mut wheel = Wheel::new(4, 5_000);
        wheel.set(1, 10).unwrap();
        assert_eq!(fired(&mut wheel, 5_100), [1]);
    }

    #[test]
    fn a_full_wheel_refuses_and_takes_again_after_a_cancel() {
        let mut wheel = Wheel::new(1, 0);
        let timer = wheel.set(1, 1_000).unwrap();
        assert_eq!(wheel.set(2, 1_000), Err(Full));
        assert!(wheel.cancel(timer));
        assert!(!wheel.cancel(timer));
        wheel.set(2, 1_000).unwrap();
        assert_eq!(fired(&mut wheel, 2_000), [2]);
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_sorted_list(steps in prop::collection::vec((0u8..4, 0u64..2_000_000), 1..200)) {
            let mut wheel = Wheel::new(64, 0);
            let mut model: Vec<(Timer, u64)> = Vec::new();
            let mut now = 0;
            for (key, (what, value)) in steps.into_iter().enumerate() {
                match what {
                    0 | 1 => match wheel.set(key as u64, now + value) {
                        Ok(timer) => model.push((timer, now + value)),
                        Err(Full) => prop_assert_eq!(model.len(), 64),
                    },
                    2 if !model.is_empty() => {
                        let (timer, _) = model.swap_remove(value as usize % model.len());
                        prop_assert!(wheel.cancel(timer));
                    }
                    _ => {
                        now += value;
                        let mut keys = fired(&mut wheel, now);
                        let (due, rest): (Vec<_>, Vec<_>) =
                            model.into_iter().partition(|(timer, _)| timer.tick <= now / TICK_MS);
                        prop_assert!(due.iter().all(|(_, deadline)| *deadline <= now));
                        prop_assert!(rest.iter().all(|(_, deadline)| *deadline + TICK_MS > now));
                        model = rest;
                        let mut expected: Vec<u64> = due.iter().map(|(timer, _)| timer.key).collect();
                        keys.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(keys, expected);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
