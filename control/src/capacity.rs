//! The capacity that programs are promised: cycles a second and bytes of state.
//!
//! Holding a [`Hold`] proves that its share was free and is now taken from a [`Budget`]. A hold cannot be copied and is
//! given back whole, by [`Budget::release`] alone, so that capacity comes back exactly.

use std::fmt;

/// A share of the budget that is taken. Give it back with [`Budget::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a hold that is dropped is capacity that never comes back"]
pub struct Hold {
    cycles_per_second: u64,
    memory_bytes: u64,
}

impl Hold {
    /// Its cycles a second.
    #[must_use]
    pub fn cycles_per_second(&self) -> u64 {
        self.cycles_per_second
    }
    /// Its bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
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
}

impl Budget {
    /// A budget of which nothing is taken.
    #[must_use]
    pub fn new(cycles_per_second_max: u64, memory_bytes_max: u64) -> Budget {
        Budget { cycles_per_second_max, memory_bytes_max, cycles_per_second: 0, memory_bytes: 0 }
    }

    /// Takes the load of a program of `complexity` cycles a packet at `packet_rate` packets a second, with
    /// `state_bytes` on each of `workers` workers.
    ///
    /// # Errors
    /// What is short; then nothing is taken.
    pub fn take(
        &mut self,
        complexity: u64,
        packet_rate: u32,
        state_bytes: u64,
        workers: usize,
    ) -> Result<Hold, NoCapacity> {
        // A product that does not fit is above any budget.
        let cycles = complexity.saturating_mul(u64::from(packet_rate));
        let memory = state_bytes.saturating_mul(workers as u64);
        let free = self.cycles_per_second_max.saturating_sub(self.cycles_per_second);
        if cycles > free {
            return Err(NoCapacity::Cycles { needed: cycles, free });
        }
        let free = self.memory_bytes_max.saturating_sub(self.memory_bytes);
        if memory > free {
            return Err(NoCapacity::Memory { needed: memory, free });
        }
        self.cycles_per_second += cycles;
        self.memory_bytes += memory;
        Ok(Hold { cycles_per_second: cycles, memory_bytes: memory })
    }

    /// Gives a share back.
    pub fn release(&mut self, hold: Hold) {
        assert!(hold.cycles_per_second <= self.cycles_per_second && hold.memory_bytes <= self.memory_bytes);
        self.cycles_per_second -= hold.cycles_per_second;
        self.memory_bytes -= hold.memory_bytes;
    }

    /// Changes what there is in all. What is taken stays taken, also where it is more.
    pub fn resize(&mut self, cycles_per_second_max: u64, memory_bytes_max: u64) {
        self.cycles_per_second_max = cycles_per_second_max;
        self.memory_bytes_max = memory_bytes_max;
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

    #[test]
    fn what_is_taken_comes_back() {
        let mut budget = Budget::new(1_000, 64);
        let a = budget.take(10, 50, 8, 2).unwrap();
        assert_eq!((budget.cycles_per_second(), budget.memory_bytes()), (500, 16));
        let b = budget.take(1, 500, 48, 1).unwrap();
        assert_eq!(budget.take(1, 1, 0, 1), Err(NoCapacity::Cycles { needed: 1, free: 0 }));
        budget.release(a);
        assert_eq!(budget.take(1, 1, 17, 1), Err(NoCapacity::Memory { needed: 17, free: 16 }));
        budget.release(b);
        assert_eq!((budget.cycles_per_second(), budget.memory_bytes()), (0, 0));
    }

    #[test]
    fn a_budget_can_shrink_below_what_is_taken_and_grow_again() {
        let mut budget = Budget::new(1_000, 64);
        let a = budget.take(10, 50, 8, 2).unwrap();
        budget.resize(100, 8);
        assert_eq!(budget.take(1, 1, 0, 1), Err(NoCapacity::Cycles { needed: 1, free: 0 }));
        budget.release(a);
        assert_eq!(budget.take(101, 1, 0, 1), Err(NoCapacity::Cycles { needed: 101, free: 100 }));
        budget.resize(101, 8);
        let b = budget.take(101, 1, 8, 1).unwrap();
        budget.release(b);
        assert_eq!((budget.cycles_per_second(), budget.memory_bytes()), (0, 0));
    }

    #[test]
    fn a_load_that_overflows_is_above_any_budget() {
        let mut budget = Budget::new(u64::MAX - 1, u64::MAX - 1);
        assert!(matches!(budget.take(u64::MAX, u32::MAX, 0, 1), Err(NoCapacity::Cycles { .. })));
        assert!(matches!(budget.take(0, 0, u64::MAX, 64), Err(NoCapacity::Memory { .. })));
        assert_eq!(budget.cycles_per_second(), 0);
    }
}
