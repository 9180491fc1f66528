//! The worker's clock: nanoseconds since the process's first look at it, from the time-stamp counter where that is
//! constant.
//!
//! A worker reads it once per turn. `Instant` costs about 25 ns through the vDSO and is a system call where the
//! kernel distrusts its clock source; the counter costs about 8 ns and never is one. Workers and control share one
//! scale.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long the counter is compared with the kernel's clock, once per process.
const CALIBRATION: Duration = Duration::from_millis(10);

/// A clock that is read without a system call. Copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    /// The counter at `origin`, and nanoseconds per tick as a fraction of 2^32; `None` without a constant counter.
    counter: Option<(u64, u64)>,
}

impl Clock {
    /// The process's clock. The first call takes 10 ms.
    #[must_use]
    pub fn get() -> Clock {
        static CLOCK: OnceLock<Clock> = OnceLock::new();
        *CLOCK.get_or_init(Clock::calibrate)
    }

    fn calibrate() -> Clock {
        let origin = Instant::now();
        let Some(start) = constant_counter() else { return Clock { origin, counter: None } };
        std::thread::sleep(CALIBRATION);
        let elapsed_ns = origin.elapsed().as_nanos();
        let ticks = constant_counter().map_or(0, |end| end.wrapping_sub(start));
        if ticks == 0 || ticks > 1 << 40 {
            return Clock { origin, counter: None };
        }
        let ns_per_tick = (elapsed_ns << 32) / u128::from(ticks);
        Clock { origin, counter: u64::try_from(ns_per_tick).ok().map(|n| (start, n)) }
    }

    /// Nanoseconds since the clock was made.
    #[inline]
    #[must_use]
    pub fn now_ns(self) -> u64 {
        match self.counter {
            Some((start, ns_per_tick)) => {
                let ticks = read_counter().wrapping_sub(start);
                ((u128::from(ticks) * u128::from(ns_per_tick)) >> 32) as u64
            }
            None => self.origin.elapsed().as_nanos() as u64,
        }
    }
}

/// The counter, where the processor says that it is constant (CPUID 0x8000_0007, EDX bit 8).
#[cfg(target_arch = "x86_64")]
fn constant_counter() -> Option<u64> {
    use std::arch::x86_64::__cpuid;
    (__cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0).then(read_counter)
}
#[cfg(target_arch = "x86_64")]
#[inline]
fn read_counter() -> u64 {
    // SAFETY: every x86_64 processor has the instruction, and Linux leaves it to user space.
    unsafe { std::arch::x86_64::_rdtsc() }
}
#[cfg(not(target_arch = "x86_64"))]
fn constant_counter() -> Option<u64> {
    None
}
#[cfg(not(target_arch = "x86_64"))]
fn read_counter() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_step_with_the_kernel() {
        let clock = Clock::get();
        let (before_ns, instant) = (clock.now_ns(), Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        let elapsed_ns = instant.elapsed().as_nanos() as u64;
        let ours_ns = clock.now_ns() - before_ns;
        assert!(ours_ns.abs_diff(elapsed_ns) < elapsed_ns / 20, "{ours_ns} ns against {elapsed_ns} ns");
    }
}
