//! Who gets the capacity when it is short: on-line admission with a bounded look at those who wait.
//!
//! A [`Lookahead`] holds the programs that are proven, paid for, and not admitted yet. Each has a load, a value, a
//! lifetime and a patience: until when its answer may wait. [`Lookahead::decide`] is asked whenever something has
//! changed (one more waits, capacity came back, time passed) and says for one of them after the other: admit it, or
//! refuse it. A program that runs is never put out again for another's sake (no preemption), and no rule knows what
//! comes later; what it may look at are the [`Settings::window`] programs that have waited longest. What waits is
//! bounded, and nothing waits longer than its patience; what is more than the whole capacity does not wait at all.
//!
//! The rules, compared by `vinet-perf admission` with one another, with the offline optimum and with upper bounds of it:
//!
//! * [`Rule::Greedy`]: the first that fits, in the order of their coming. It is the greedy algorithm of M. Goldwasser,
//!   "Patience is a virtue: the effect of slack on competitiveness for admission control" (J. Scheduling 6, 2003): with
//!   one program at a time, values that are lifetimes, and patience of κ lifetimes, the optimum is at most 2 + 1/κ
//!   times as much. The proof there uses only that nothing waits that would fit, so it holds for the next rule too.
//! * [`Rule::Densest`]: of those in the window the one that pays most for its share of the capacity and its time, if it
//!   fits, then the next. Whatever fits is admitted at once, so nothing waits where there is room.
//! * [`Rule::Patient`]: as long as all in the window fit together, or no more than [`PATIENT_FROM`] of the capacity is
//!   taken, what fits is admitted, the densest first. Else nothing is admitted before its patience ends; then it is, if it
//!   is among those that fill the free capacity with the densest first. It waits on purpose, so the bound of the first two
//!   is not its; of the four it gets most in the comparison.
//! * [`Rule::Priced`]: the first that fits and pays the price, which rises exponentially with the share of the capacity
//!   that is taken: Y. Zhou, D. Chakrabarty, R. Lukose, "Budget constrained bidding in keyword auctions and online
//!   knapsack problems" (WINE 2008): for small programs that stay, with densities between L and U, the optimum is at most
//!   ln(U/L) + 1 times as much; on-line call admission after B. Awerbuch, Y. Azar, S. Plotkin, "Throughput-competitive
//!   on-line routing" (FOCS 1993) is of the same form.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;

use serde::Deserialize;

/// The share of the capacity up to which [`Rule::Patient`] admits what fits without waiting, whoever else waits: one huge
/// program that waits holds up nobody as long as there is room.
pub const PATIENT_FROM: f64 = 0.75;

/// How it is decided who is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The first that fits.
    Greedy,
    /// The densest in the window that fits.
    Densest,
    /// When capacity is short, nobody before his patience ends, and then the densest.
    #[default]
    Patient,
    /// The first that fits and pays a price that rises with the load.
    Priced,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Greedy => "greedy",
            Rule::Densest => "densest",
            Rule::Patient => "patient",
            Rule::Priced => "priced",
        })
    }
}

/// An amount of what a router has to give: what is there, what is free, or what somebody needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Cycles a second.
    pub cycles_per_second: u64,
    /// Bytes of state.
    pub memory_bytes: u64,
}

impl Load {
    /// Whether `other` is no more than this.
    #[must_use]
    pub fn holds(&self, other: &Load) -> bool {
        other.cycles_per_second <= self.cycles_per_second && other.memory_bytes <= self.memory_bytes
    }
    /// What is left of this without `other`; nothing where `other` is more.
    #[must_use]
    pub fn without(&self, other: &Load) -> Load {
        Load {
            cycles_per_second: self.cycles_per_second.saturating_sub(other.cycles_per_second),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }
    /// The share of `whole` that this is: of what is scarcer, from 0 to 1.
    #[must_use]
    pub fn share_of(&self, whole: &Load) -> f64 {
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        share(self.cycles_per_second, whole.cycles_per_second).max(share(self.memory_bytes, whole.memory_bytes))
    }
}

/// A program that waits to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// What it needs. One that shares an executable that runs already needs no cycles.
    pub load: Load,
    /// What its owner pays.
    pub value: u64,
    /// How long it will run, in seconds.
    pub lifetime_s: u64,
    /// The last microsecond at which it may be admitted.
    pub until_us: u64,
}

/// How a router decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The rule.
    pub rule: Rule,
    /// How many of those that wait are looked at, those first that have waited longest.
    pub window: usize,
    /// How many may wait.
    pub waiting_max: usize,
    /// The whole capacity.
    pub whole: Load,
    /// The least that anyone pays for the whole capacity for a second: the tariff's price.
    pub floor: f64,
    /// How many times the floor the price is when everything is taken, at least 1.
    pub range: f64,
}

/// What becomes of a program that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is admitted: take its capacity before the next question.
    Admit,
    /// Its patience has ended and there was no room for it, or it is more than the whole capacity.
    Full,
    /// Its patience has ended and it does not pay what room costs now.
    Price {
        /// What it would have to pay in all, at least.
        price: u64,
    },
}

/// The programs that wait to be admitted. `T` is what they are about.
#[derive(Debug)]
pub struct Lookahead<T> {
    settings: Settings,
    waiting: VecDeque<(Job, T)>,
    /// Those that gave way to denser ones, to be refused.
    given_up: VecDeque<(Job, T)>,
}

impl<T> Lookahead<T> {
    /// Nothing waits.
    #[must_use]
    pub fn new(settings: Settings) -> Lookahead<T> {
        Lookahead { settings, waiting: VecDeque::new(), given_up: VecDeque::new() }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
    /// The microsecond at which the first patience ends.
    #[must_use]
    pub fn next_us(&self) -> Option<u64> {
        self.waiting.iter().map(|(job, _)| job.until_us).min()
    }

    /// Has a program wait for [`Lookahead::decide`]. Where as many wait as may, the one that pays least for what it takes
    /// gives way to one that pays more.
    ///
    /// # Errors
    /// The program, where it does not pay more than any of them.
    pub fn offer(&mut self, job: Job, item: T) -> Result<(), T> {
        if self.waiting.len() >= self.settings.waiting_max {
            let all = self.waiting.iter().enumerate();
            let least = all.min_by(|a, b| self.by_density(&a.1.0, &b.1.0)).map(|(at, (least, _))| (at, *least));
            let gives_way = least.filter(|(_, least)| self.by_density(least, &job).is_lt());
            let Some((at, _)) = gives_way.filter(|_| self.given_up.len() < self.settings.waiting_max) else {
                return Err(item);
            };
            self.given_up.extend(self.waiting.remove(at));
        }
        self.waiting.push_back((job, item));
        Ok(())
    }

    /// Decides about one program, where one can be decided about at `now_us` with `free` capacity. Ask again until there
    /// is none, with what is free then.
    pub fn decide(&mut self, now_us: u64, free: &Load) -> Option<(Verdict, Job, T)> {
        if let Some((job, item)) = self.given_up.pop_front() {
            return Some((Verdict::Full, job, item));
        }
        let (at, verdict) = self.next(now_us, free)?;
        let (job, item) = self.waiting.remove(at)?;
        Some((verdict, job, item))
    }

    fn next(&self, now_us: u64, free: &Load) -> Option<(usize, Verdict)> {
        let window = || self.waiting.iter().take(self.settings.window).map(|(job, _)| job).enumerate();
        let admitted = match self.settings.rule {
            Rule::Greedy => window().find(|(_, job)| free.holds(&job.load)),
            Rule::Priced => window().find(|(_, job)| free.holds(&job.load) && self.pays(job, free)),
            Rule::Densest => {
                let fits = window().filter(|(_, job)| free.holds(&job.load));
                // Of equals the last is the greatest, and the first is to be admitted.
                fits.max_by(|a, b| self.by_density(a.1, b.1).then(b.0.cmp(&a.0)))
            }
            Rule::Patient => {
                let mut densest: Vec<(usize, &Job)> = window().collect();
                densest.sort_by(|a, b| self.by_density(b.1, a.1).then(a.0.cmp(&b.0)));
                let mut left = *free;
                let before = densest.len();
                densest.retain(|(_, job)| {
                    let holds = left.holds(&job.load);
                    if holds {
                        left = left.without(&job.load);
                    }
                    holds
                });
                let is_short = densest.len() < before;
                let whole = &self.settings.whole;
                let is_roomy = |job: &Job| whole.without(&free.without(&job.load)).share_of(whole) <= PATIENT_FROM;
                densest.into_iter().find(|(_, job)| !is_short || job.until_us <= now_us || is_roomy(job))
            }
        };
        if let Some((at, _)) = admitted {
            return Some((at, Verdict::Admit));
        }
        let is_over = |job: &Job| job.until_us <= now_us || !self.settings.whole.holds(&job.load);
        let (at, (job, _)) = self.waiting.iter().enumerate().find(|(_, (job, _))| is_over(job))?;
        let verdict = match self.settings.rule {
            Rule::Priced if free.holds(&job.load) => Verdict::Price { price: self.price(job, free).ceil() as u64 },
            _ => Verdict::Full,
        };
        Some((at, verdict))
    }

    /// The order of what they pay for a share of the capacity and a second.
    fn by_density(&self, a: &Job, b: &Job) -> Ordering {
        self.density(a).total_cmp(&self.density(b))
    }

    fn density(&self, job: &Job) -> f64 {
        let area = self.area(job);
        // What takes nothing is as dense as can be.
        if area == 0.0 { f64::INFINITY } else { job.value as f64 / area }
    }

    /// Seconds of the whole capacity that a program takes.
    fn area(&self, job: &Job) -> f64 {
        job.load.share_of(&self.settings.whole) * job.lifetime_s as f64
    }

    /// What a program has to pay with so much free.
    fn price(&self, job: &Job, free: &Load) -> f64 {
        let Settings { whole, floor, range, .. } = &self.settings;
        let taken = whole.without(free).share_of(whole);
        let times = ((range.max(1.0).ln() + 1.0) * taken - 1.0).exp().max(1.0);
        self.area(job) * floor * times
    }

    fn pays(&self, job: &Job, free: &Load) -> bool {
        // The tariff rounds; what is within a credit of the price pays it.
        job.value as f64 + 1.0 >= self.price(job, free)
    }
}

#[cfg(test)]
mod tests;
