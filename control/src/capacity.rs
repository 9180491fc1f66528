//! The capacity that programs are promised: cycles a second and bytes of state.
//!
//! Holding a [`Hold`] proves that its share was free and is now taken from a [`Budget`]. A hold cannot be copied and is
//! given back whole, by [`Budget::release`] alone, so that capacity comes back exactly.
//!
//! Programs that share an executable are a [`Group`]: of their cycles the most that one of them needs is counted, once
//! (the paper's Section II-D), and when that one ends, the most of those that are left. Their state is each one's own.

use std::collections::BTreeMap;
use std::fmt;

use ahash::AHashMap;

use crate::lookahead::Load;

/// Programs that share an executable. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(u64);

/// The load of a program of `complexity` cycles a packet at `packet_rate` packets a second, with `state_bytes` on each of
/// `workers` workers.
#[must_use]
pub fn load(complexity: u64, packet_rate: u32, state_bytes: u64, workers: usize) -> Load {
    // A product that does not fit is above any budget.
    Load {
        cycles_per_second: complexity.saturating_mul(u64::from(packet_rate)),
        memory_bytes: state_bytes.saturating_mul(workers as u64),
    }
}

/// A share of the budget that is taken. Give it back with [`Budget::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a hold that is dropped is capacity that never comes back"]
pub struct Hold {
    group: Group,
    load: Load,
}

impl Hold {
    /// Whom it shares its executable with.
    #[must_use]
    pub fn group(&self) -> Group {
        self.group
    }
    /// What its program needs; others of its group may need it too.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load
    }
}

/// The cycles of the programs of one group.
#[derive(Debug)]
enum Members {
    One(u64),
    /// How many programs need so many cycles a second.
    Many(BTreeMap<u64, usize>),
}

impl Members {
    /// What is counted of them.
    fn counted(&self) -> u64 {
        match self {
            Members::One(cycles) => *cycles,
            Members::Many(loads) => loads.last_key_value().map_or(0, |(cycles, _)| *cycles),
        }
    }
    fn add(&mut self, cycles: u64) {
        if let Members::One(first) = *self {
            *self = Members::Many(BTreeMap::from([(first, 1)]));
        }
        if let Members::Many(loads) = self {
            *loads.entry(cycles).or_default() += 1;
        }
    }
    /// Whether none is left.
    fn remove(&mut self, cycles: u64) -> bool {
        match self {
            Members::One(_) => true,
            Members::Many(loads) => {
                if let Some(count) = loads.get_mut(&cycles) {
                    *count -= 1;
                    if *count == 0 {
                        loads.remove(&cycles);
                    }
                }
                loads.is_empty()
            }
        }
    }
}

/// What a program needs is not free. The client may ask again later, or for less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCapacity {
    /// Cycles are short.
    Cycles {
        /// Cycles a second that the program needs: its Complexity times its packet rate.
        needed: u64,
        /// Cycles a second that are free.
        free: u64,
    },
    /// Memory is short.
    Memory {
        /// Bytes that the program needs, all workers together.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
}

impl NoCapacity {
    /// What of `needed` is short where so much is `free`.
    #[must_use]
    pub fn of(needed: &Load, free: &Load) -> NoCapacity {
        match needed.cycles_per_second > free.cycles_per_second {
            true => NoCapacity::Cycles { needed: needed.cycles_per_second, free: free.cycles_per_second },
            false => NoCapacity::Memory { needed: needed.memory_bytes, free: free.memory_bytes },
        }
    }
    /// A stable short name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            NoCapacity::Cycles { .. } => "no-capacity",
            NoCapacity::Memory { .. } => "no-memory",
        }
    }
}

impl fmt::Display for NoCapacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoCapacity::Cycles { needed, free } => write!(
                f,
                "the program's load is {needed} cycles a second (its Complexity times its packet rate) and only {free} \
                 are free here; ask for a lower packet rate, or later"
            ),
            NoCapacity::Memory { needed, free } => write!(
                f,
                "the program's state is {needed} bytes over all workers and only {free} are free here; ask again later"
            ),
        }
    }
}
impl std::error::Error for NoCapacity {}

/// The capacity of one router and how much of it is taken.
#[derive(Debug)]
pub struct Budget {
    cycles_per_second_max: u64,
    memory_bytes_max: u64,
    cycles_per_second: u64,
    memory_bytes: u64,
    groups: AHashMap<Group, Members>,
    next_group: u64,
}

impl Budget {
    /// A budget of which nothing is taken.
    #[must_use]
    pub fn new(cycles_per_second_max: u64, memory_bytes_max: u64) -> Budget {
        Budget {
            cycles_per_second_max,
            memory_bytes_max,
            cycles_per_second: 0,
            memory_bytes: 0,
            groups: AHashMap::new(),
            next_group: 0,
        }
    }

    /// What of `load` would have to be free, for a program that shares its executable with those of `group`.
    #[must_use]
    pub fn needed(&self, load: &Load, group: Option<Group>) -> Load {
        let counted = group.and_then(|group| self.groups.get(&group)).map_or(0, Members::counted);
        Load { cycles_per_second: load.cycles_per_second.saturating_sub(counted), ..*load }
    }

    /// What is free.
    #[must_use]
    pub fn free(&self) -> Load {
        Load {
            cycles_per_second: self.cycles_per_second_max.saturating_sub(self.cycles_per_second),
            memory_bytes: self.memory_bytes_max.saturating_sub(self.memory_bytes),
        }
    }
    /// The whole.
    #[must_use]
    pub fn whole(&self) -> Load {
        Load { cycles_per_second: self.cycles_per_second_max, memory_bytes: self.memory_bytes_max }
    }

    /// Takes `load`, for a program that shares its executable with those of `group`, or with none yet.
    ///
    /// # Errors
    /// What is short; then nothing is taken.
    pub fn take(&mut self, load: Load, group: Option<Group>) -> Result<Hold, NoCapacity> {
        let (needed, free) = (self.needed(&load, group), self.free());
        if !free.holds(&needed) {
            return Err(NoCapacity::of(&needed, &free));
        }
        self.cycles_per_second += needed.cycles_per_second;
        self.memory_bytes += needed.memory_bytes;
        let members = group.and_then(|group| self.groups.get_mut(&group));
        let group = match (group, members) {
            (Some(group), Some(members)) => {
                members.add(load.cycles_per_second);
                group
            }
            _ => {
                let group = Group(self.next_group);
                self.next_group += 1;
                self.groups.insert(group, Members::One(load.cycles_per_second));
                group
            }
        };
        Ok(Hold { group, load })
    }

    /// Gives a share back; what others of its group need stays taken.
    ///
    /// # Panics
    /// The hold is another budget's.
    pub fn release(&mut self, hold: Hold) {
        let Hold { group, load } = hold;
        let members = self.groups.get_mut(&group).expect("a hold keeps its group");
        let before = members.counted();
        let after = if members.remove(load.cycles_per_second) {
            self.groups.remove(&group);
            0
        } else {
            members.counted()
        };
        assert!(before - after <= self.cycles_per_second && load.memory_bytes <= self.memory_bytes);
        self.cycles_per_second -= before - after;
        self.memory_bytes -= load.memory_bytes;
    }

    /// Changes what there is in all. What is taken stays taken, also where it is more.
    pub fn resize(&mut self, cycles_per_second_max: u64, memory_bytes_max: u64) {
        self.cycles_per_second_max = cycles_per_second_max;
        self.memory_bytes_max = memory_bytes_max;
    }

    /// How many different executables the programs run.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }
    /// Cycles a second that are taken.
    #[must_use]
    pub fn cycles_per_second(&self) -> u64 {
        self.cycles_per_second
    }
    /// Cycles a second in all.
    #[must_use]
    pub fn cycles_per_second_max(&self) -> u64 {
        self.cycles_per_second_max
    }
    /// Bytes that are taken.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
    /// Bytes in all.
    #[must_use]
    pub fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cycles_per_second: u64, memory_bytes: u64) -> Load {
        Load { cycles_per_second, memory_bytes }
    }

    #[test]
    fn what_is_taken_comes_back() {
        let mut budget = Budget::new(1_000, 64);
        let a = budget.take(load(10, 50, 8, 2), None).unwrap();
        assert_eq!((budget.cycles_per_second(), budget.memory_bytes()), (500, 16));
        let b = budget.take(load(1, 500, 48, 1), None).unwrap();
        assert_eq!(budget.take(of(1, 0), None), Err(NoCapacity::Cycles { needed: 1, free: 0 }));
        budget.release(a);
        assert_eq!(budget.take(of(1, 17), None), Err(NoCapacity::Memory { needed: 17, free: 16 }));
        budget.release(b);
        assert_eq!((budget.cycles_per_second(), budget.memory_bytes(), budget.groups()), (0, 0, 0));
    }

    #[test]
    fn a_budget_can_shrink_below_what_is_taken_and_grow_again() {
        let mut budget = Budget::new(1_000, 64);
        let a = budget.take(load(10, 50, 8, 2), None).unwrap();
        budget.resize(100, 8);
        assert_eq!(budget.take(of(1, 0), None), Err(NoCapacity::Cycles { needed: 1, free: 0 }));
        budget.release(a);
        assert_eq!(budget.take(of(101, 0), None), Err(NoCapacity::Cycles { needed: 101, free: 100 }));
        budget.resize(101, 8);
        let b = budget.take(load(101, 1, 8, 1), None).unwrap();
        budget.release(b);
        assert_eq!((budget.cycles_per_second(), budget.memory_bytes()), (0, 0));
    }

    #[test]
    fn a_load_that_overflows_is_above_any_budget() {
        let mut budget = Budget::new(u64::MAX - 1, u64::MAX - 1);
        let too_fast = load(u64::MAX, u32::MAX, 0, 1);
        assert!(matches!(budget.take(too_fast, None), Err(NoCapacity::Cycles { .. })));
        assert!(matches!(budget.take(load(0, 0, u64::MAX, 64), None), Err(NoCapacity::Memory { .. })));
        assert_eq!((budget.cycles_per_second(), budget.groups()), (0, 0));
    }

    #[test]
    fn what_is_shared_is_counted_once_and_stays_until_the_last_one_ends() {
        let mut budget = Budget::new(1_000, 100);
        let first = budget.take(of(600, 10), None).unwrap();
        let group = Some(first.group());
        let second = budget.take(of(600, 10), group).unwrap();
        let smaller = budget.take(of(200, 10), group).unwrap();
        assert_eq!((budget.cycles_per_second(), budget.memory_bytes()), (600, 30));
        // Only what is more than the group's most has to be free.
        assert_eq!(budget.take(of(1_001, 0), group), Err(NoCapacity::Cycles { needed: 401, free: 400 }));
        let larger = budget.take(of(1_000, 10), group).unwrap();
        assert_eq!(budget.cycles_per_second(), 1_000);
        budget.release(larger);
        budget.release(first);
        assert_eq!(budget.cycles_per_second(), 600);
        budget.release(second);
        assert_eq!((budget.cycles_per_second(), budget.memory_bytes()), (200, 10));
        budget.release(smaller);
        assert_eq!((budget.cycles_per_second(), budget.memory_bytes(), budget.groups()), (0, 0, 0));
        // The group is gone with them, and who names it begins another.
        let late = budget.take(of(5, 0), group).unwrap();
        assert_ne!(Some(late.group()), group);
        budget.release(late);
    }

    #[test]
    fn a_million_random_steps_end_at_zero() {
        let mut budget = Budget::new(2_000_000, 500_000);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut held: Vec<Hold> = Vec::new();
        for step in 0..1_000_000 {
            if held.is_empty() || random(100) < 52 {
                let group =
                    (!held.is_empty() && random(3) > 0).then(|| held[random(held.len() as u64) as usize].group());
                if let Ok(hold) = budget.take(of(random(2_000), random(200)), group) {
                    held.push(hold);
                }
            } else {
                let at = random(held.len() as u64) as usize;
                budget.release(held.swap_remove(at));
            }
            if step % 10_007 == 0 {
                let mut most: BTreeMap<Group, u64> = BTreeMap::new();
                for hold in &held {
                    let counted = most.entry(hold.group()).or_default();
                    *counted = (*counted).max(hold.load().cycles_per_second);
                }
                assert_eq!(budget.cycles_per_second(), most.values().sum::<u64>(), "step {step}");
                assert_eq!(budget.memory_bytes(), held.iter().map(|hold| hold.load().memory_bytes).sum::<u64>());
                assert_eq!(budget.groups(), most.len());
            }
        }
        held.into_iter().for_each(|hold| budget.release(hold));
        assert_eq!((budget.cycles_per_second(), budget.memory_bytes(), budget.groups()), (0, 0, 0));
    }
}
