//! Cycles of short pieces of work, steadily.
//!
//! A sample is a *batch*: the work repeated until it takes long enough that reading the counter does not matter. A batch
//! during which the kernel took the core away, or which took twice the median or more (an interrupt, or the machine
//! beneath a virtual one), is *disturbed*: it is counted and left out. What a step costs is the difference of two
//! programs, one with the step many times and one without. Their batches are taken in turn, in several passes, so that a
//! machine that becomes slower meets both, and it is medians that are subtracted, because a difference of two rare
//! moments is mostly chance. The 99th percentile of the step is the difference of the medians, times the 99th
//! percentile over the median of the program that has it: a step is taken to be as uneven as what it is part of.

#![allow(unsafe_code)]

use std::hint::black_box;

/// Passes over the two programs of a difference.
const PASSES: usize = 5;
/// Batches of each program in a pass.
const BATCHES: usize = 60;
/// A batch takes so many cycles at least: reading the counter takes some tens.
const BATCH_CYCLES_MIN: u64 = 40_000;
/// Of a batch that takes so many times the median something else took a part.
const DISTURBED: f64 = 2.0;
/// More disturbed batches than this share, and the machine does something else.
pub const DISTURBED_SHARE_MAX: f64 = 0.05;

/// How many batches there were, and how many of them were disturbed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// All.
    pub batches: u64,
    /// Left out.
    pub disturbed: u64,
}

impl Tally {
    /// The share of disturbed ones.
    pub fn share(&self) -> f64 {
        self.disturbed as f64 / self.batches.max(1) as f64
    }
}

/// Cycles of one unit of some work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cycles {
    /// Half of the batches take this or less.
    pub median: f64,
    /// 99 of 100 batches take this or less.
    pub p99: f64,
}

/// Takes samples and counts the disturbed ones.
pub struct Sampler {
    /// What became of the batches.
    pub tally: Tally,
    passes: usize,
    batches: usize,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { tally: Tally::default(), passes: PASSES, batches: BATCHES }
    }
}

/// Work, what it is called, and how many units (packets, searches) one call does.
pub struct Work<'a> {
    call: Box<dyn FnMut() + 'a>,
    units: f64,
    /// Calls in a batch.
    calls: u32,
}

impl<'a> Work<'a> {
    /// Work of so many units a call. It is called a few times, to see how long it takes.
    pub fn new(units: usize, mut call: impl FnMut() + 'a) -> Work<'a> {
        // The first calls find cold caches and make room.
        (0..3).for_each(|_| call());
        let once = (0..5).map(|_| timed(&mut call, 1)).min().unwrap_or(1).max(1);
        let calls = BATCH_CYCLES_MIN.div_ceil(once).clamp(1, 1 << 20) as u32;
        Work { call: Box::new(call), units: units as f64, calls }
    }
}

impl Sampler {
    /// One that takes a sample or two, for tests of what is measured.
    #[cfg(test)]
    pub fn brief() -> Sampler {
        Sampler { tally: Tally::default(), passes: 1, batches: 2 }
    }

    /// What the work costs a unit.
    pub fn cost(&mut self, work: &mut Work<'_>) -> Cycles {
        let mut all = Vec::new();
        for _ in 0..self.passes {
            all.extend(self.pass(work, self.batches));
        }
        cycles(&mut all)
    }

    /// A quick look: the median of a few batches.
    pub fn glance(&mut self, work: &mut Work<'_>) -> f64 {
        median(&mut self.pass(work, 5))
    }

    /// What a unit of `many` costs more than one of `few`, at the 99th percentile; 0 where it costs less.
    pub fn difference(&mut self, few: &mut Work<'_>, many: &mut Work<'_>) -> f64 {
        let (mut more, mut all) = (Vec::new(), Vec::new());
        for _ in 0..self.passes {
            let mut without = self.pass(few, self.batches);
            let mut with = self.pass(many, self.batches);
            more.push(median(&mut with) - median(&mut without));
            all.append(&mut with);
        }
        let with = cycles(&mut all);
        median(&mut more).max(0.0) * with.p99 / with.median
    }

    /// Undisturbed batches, in cycles a unit. At least half of them are there, whatever the machine does.
    fn pass(&mut self, work: &mut Work<'_>, batches: usize) -> Vec<f64> {
        let mut taken = Vec::with_capacity(batches);
        for _ in 0..batches {
            let before = switches();
            let cycles = timed(&mut work.call, work.calls);
            let switched = switches() != before;
            taken.push((cycles as f64 / (work.units * f64::from(work.calls)), switched));
        }
        let mut all: Vec<f64> = taken.iter().map(|&(cycles, _)| cycles).collect();
        let limit = median(&mut all) * DISTURBED;
        let mut kept: Vec<f64> = taken.iter().filter(|&&(c, s)| !s && c < limit).map(|&(c, _)| c).collect();
        self.tally.batches += batches as u64;
        self.tally.disturbed += (batches - kept.len()) as u64;
        if kept.len() < batches / 2 {
            // So busy a machine gives no figure, which the tally tells; the least ones stand for it.
            kept = all;
            kept.truncate(batches.div_ceil(2));
        }
        kept
    }
}

/// The middle one, or the upper of the two in the middle. They are sorted then.
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn cycles(figures: &mut [f64]) -> Cycles {
    let median = median(figures);
    Cycles { median, p99: figures[(figures.len() * 99).div_ceil(100) - 1] }
}

fn timed(call: &mut dyn FnMut(), calls: u32) -> u64 {
    let start = counter();
    for _ in 0..calls {
        call();
    }
    black_box(());
    counter().wrapping_sub(start)
}

/// The time-stamp counter, after all that came before.
#[cfg(target_arch = "x86_64")]
pub fn counter() -> u64 {
    use core::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: every x86-64 processor has both.
    unsafe {
        _mm_lfence();
        let now = _rdtsc();
        _mm_lfence();
        now
    }
}

/// Nanoseconds, where no counter of cycles can be read.
#[cfg(not(target_arch = "x86_64"))]
pub fn counter() -> u64 {
    static ORIGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    ORIGIN.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
}

/// How often this thread lost or gave up its core.
fn switches() -> i64 {
    // SAFETY: zeros are a value of this struct of numbers, which getrusage fills; it writes no more.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    usage.ru_nvcsw + usage.ru_nivcsw
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Work that a compiler cannot shorten.
    fn spin(turns: u32) -> impl FnMut() {
        let state = Cell::new(1u64);
        move || {
            for _ in 0..turns {
                state.set(black_box(state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)));
            }
        }
    }

    /// Tests share the cores with others, and what shares a core is disturbed: one measurement of a few has to hold.
    fn holds_once(mut measure: impl FnMut() -> Result<(), String>) {
        let mut told = Vec::new();
        for _ in 0..20 {
            match measure() {
                Ok(()) => return,
                Err(what) => told.push(what),
            }
        }
        panic!("{told:#?}");
    }

    #[test]
    fn twice_the_work_is_about_twice_the_cost_and_the_difference_is_the_rest() {
        holds_once(|| {
            let mut sampler = Sampler::default();
            let once = sampler.cost(&mut Work::new(1, spin(1_000)));
            let more = sampler.difference(&mut Work::new(1, spin(1_000)), &mut Work::new(1, spin(3_000)));
            assert!(once.median > 500.0 && once.p99 >= once.median, "{once:?}");
            assert!(sampler.tally.batches >= 3 * (PASSES * BATCHES) as u64);
            let ratio = more / once.median;
            (1.0..4.0).contains(&ratio).then_some(()).ok_or(format!("2,000 turns beside 1,000: {ratio}"))
        });
    }

    #[test]
    fn a_batch_in_which_the_core_is_given_up_is_left_out() {
        holds_once(|| {
            let mut sampler = Sampler::default();
            let mut turn = 0;
            let mut work = spin(20_000);
            let mut sleepy = Work::new(1, move || {
                turn += 1;
                work();
                if turn % 10 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
            let mut plain = Work::new(1, spin(20_000));
            let (with, without) = (sampler.cost(&mut sleepy), sampler.cost(&mut plain));
            assert!(sampler.tally.disturbed > 0, "{:?}", sampler.tally);
            (with.median < 3.0 * without.median).then_some(()).ok_or(format!("{with:?} beside {without:?}"))
        });
    }

    #[test]
    fn what_costs_less_costs_nothing_more() {
        holds_once(|| {
            let more = Sampler::default().difference(&mut Work::new(1, spin(4_000)), &mut Work::new(1, spin(400)));
            (more == 0.0).then_some(()).ok_or(format!("a tenth of the work costs {more} more"))
        });
    }
}
