//! Multiple Loss Ratio search (RFC 9971): which loads a system carries with no more than some loss, for several goals at once.
//!
//! A [`Search`] is told what trials measured and says which trial is to be made next; it has no clock, no traffic and no chance.
//! How loads are classified and what the conditional throughput is are the RFC's (its appendices A and B); which load is
//! measured next is left to the implementation, and here it is this:
//!
//! - The first trial is at the largest load; what came through is where the search for a bound begins.
//! - Each goal goes through phases whose trials grow from the goal's initial duration to its final one while the width halves
//!   at each; an early phase needs one trial a load and only says where the later one begins. All goals share all trials.
//! - Where one bound is missing, the search steps away from the other, each step twice as wide as the one before; with
//!   both bounds it halves the distance between them, as a ratio. A load that was begun is measured until it is decided.
//!
//! Trials and the time that they take are bounded, and a goal says how it ended.

use std::collections::BTreeMap;

/// Packets a second.
pub type Load = u64;

/// The most phases of a goal, the final one included.
const PHASES_MAX: u32 = 3;
/// What is taken off an offered load that the generator did not hold, before it is tried again: a fiftieth.
const OFFERED_MARGIN: f64 = 0.98;

/// What is searched for (RFC 9971, search goal).
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// Its name, e.g. PDR.
    pub name: String,
    /// The most loss of a good trial, as a share of the packets.
    pub loss_ratio: f64,
    /// The share of the trials' time that may be bad at a lower bound; below 1.
    pub exceed_ratio: f64,
    /// The duration of a full-length trial.
    pub final_trial_s: f64,
    /// The duration of the first trials; at most the final one.
    pub initial_trial_s: f64,
    /// How long full-length trials at one load take together before it counts as known.
    pub duration_sum_s: f64,
    /// How far the bounds may lie apart, as a share of the upper one.
    pub width: f64,
}

/// Between which loads is searched, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The least load.
    pub load_min: Load,
    /// The largest.
    pub load_max: Load,
    /// Trials in all.
    pub trials_max: u32,
    /// Seconds of trials in all.
    pub seconds_max: f64,
}

/// What one trial measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The intended load.
    pub load: Load,
    /// How long it was offered.
    pub duration_s: f64,
    /// What was lost, as a share of what was offered.
    pub loss_ratio: f64,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// A trial.
    Measure {
        /// Its load.
        load: Load,
        /// Its duration.
        duration_s: f64,
    },
    /// Nothing: ask for the outcomes.
    Done,
}

/// How the search for a goal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both bounds, no further apart than the goal's width: a regular result.
    Reached,
    /// The largest load is a lower bound: the system carries more than can be offered.
    MaxLoad,
    /// The least load is an upper bound: the system carries less.
    MinLoad,
    /// Trials or time were used up, or the search was ended, before the bounds were close enough.
    Unfinished,
}

/// What was found for a goal.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The relevant lower bound: the largest load below the upper bound that is known to meet the goal.
    pub lower: Option<Load>,
    /// The relevant upper bound: the least load that is known not to meet it.
    pub upper: Option<Load>,
    /// Packets a second that come through at the lower bound (RFC 9971, conditional throughput).
    pub conditional_throughput: Option<f64>,
    /// How it ended.
    pub end: End,
}

/// What a load is for a goal (RFC 9971, appendix A).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The goal is met, whatever further trials may say.
    Lower,
    /// It is not.
    Upper,
    /// More trials are needed.
    Undecided,
}

/// What a phase of a goal asks of loads.
#[derive(Clone, Debug)]
struct Phase {
    trial_s: f64,
    duration_sum_s: f64,
    width: f64,
    /// The load that is being measured.
    current: Option<Load>,
    /// Steps away from the lower and from the upper bound so far.
    steps: [u32; 2],
}

/// A search that is under way.
#[derive(Clone, Debug)]
pub struct Search {
    goals: Vec<Goal>,
    phases: Vec<Vec<Phase>>,
    limits: Limits,
    /// Trials by their load.
    trials: BTreeMap<Load, Vec<Trial>>,
    made: u32,
    seconds: f64,
    /// The load that the generator has just not held, once.
    doubted: Option<Load>,
    is_generator_bound: bool,
}

impl Search {
    /// A search for these goals.
    ///
    /// # Errors
    /// What is wrong with a goal or a limit.
    pub fn new(goals: Vec<Goal>, limits: Limits) -> Result<Search, String> {
        if goals.is_empty() {
            return Err("a search needs a goal".to_owned());
        }
        if limits.load_min == 0 || limits.load_min > limits.load_max {
            let Limits { load_min, load_max, .. } = limits;
            return Err(format!("loads from {load_min} to {load_max} are no range: at least 1, and in this order"));
        }
        for goal in &goals {
            let fault = if !(0.0..1.0).contains(&goal.loss_ratio) {
                "a loss ratio is from 0 to below 1"
            } else if !(0.0..1.0).contains(&goal.exceed_ratio) {
                "an exceed ratio is from 0 to below 1"
            } else if !(goal.initial_trial_s > 0.0 && goal.initial_trial_s <= goal.final_trial_s) {
                "the initial trial's duration is above 0 and at most the final one's"
            } else if goal.duration_sum_s < goal.final_trial_s {
                "the duration sum is at least the final trial's duration"
            } else if !(goal.width > 0.0 && goal.width < 1.0) {
                "a width is above 0 and below 1"
            } else {
                continue;
            };
            return Err(format!("{}: {fault}", goal.name));
        }
        let phases = goals.iter().map(phases).collect();
        let trials = BTreeMap::new();
        Ok(Search { goals, phases, limits, trials, made: 0, seconds: 0.0, doubted: None, is_generator_bound: false })
    }

    /// What is to be done next.
    pub fn next(&mut self) -> Next {
        if self.made >= self.limits.trials_max || self.seconds >= self.limits.seconds_max {
            return Next::Done;
        }
        for level in 0..PHASES_MAX as usize {
            for goal in 0..self.goals.len() {
                if let Some((load, duration_s)) = self.step(goal, level) {
                    return Next::Measure { load, duration_s };
                }
            }
        }
        Next::Done
    }

    /// A trial was made.
    pub fn measured(&mut self, trial: Trial) {
        self.made += 1;
        self.seconds += trial.duration_s;
        self.trials.entry(trial.load).or_default().push(trial);
    }

    /// A trial was void because only `offered` packets a second could be offered. The second time in a row that this happens
    /// at a load, the largest load sinks below what was offered.
    pub fn not_offered(&mut self, load: Load, duration_s: f64, offered: f64) {
        self.made += 1;
        self.seconds += duration_s;
        if self.doubted.replace(load) != Some(load) {
            return;
        }
        self.doubted = None;
        self.is_generator_bound = true;
        let held = (offered * OFFERED_MARGIN).max(0.0) as Load;
        self.limits.load_max = held.min(load.saturating_sub(1)).max(self.limits.load_min);
        // What was once measured above is still true, but no bound can be searched there any more.
        self.trials.split_off(&(self.limits.load_max + 1));
    }

    /// Trials so far, void ones included.
    pub const fn trials(&self) -> u32 {
        self.made
    }
    /// The largest load, as far as it is known that it can be offered.
    pub const fn load_max(&self) -> Load {
        self.limits.load_max
    }
    /// Whether the largest load sank because the generator did not hold one.
    pub const fn is_generator_bound(&self) -> bool {
        self.is_generator_bound
    }

    /// What was found, goal by goal, in their order.
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.goals.iter().zip(&self.phases).map(|(goal, phases)| self.outcome(goal, phases)).collect()
    }

    fn outcome(&self, goal: &Goal, phases: &[Phase]) -> Outcome {
        let Some(last) = phases.last() else { unreachable!("a goal has a final phase") };
        let (lower, upper) = self.bounds(goal, last);
        let end = match (lower, upper) {
            (Some(lower), Some(upper)) if is_close(lower, upper, goal.width) => End::Reached,
            (Some(lower), None) if lower == self.limits.load_max => End::MaxLoad,
            (None, Some(upper)) if upper == self.limits.load_min => End::MinLoad,
            _ => End::Unfinished,
        };
        let conditional_throughput = lower.map(|load| self.conditional_throughput(goal, load));
        Outcome { lower, upper, conditional_throughput, end }
    }

    /// The next trial of a phase, or nothing where the phase has what it can have.
    fn step(&mut self, goal: usize, level: usize) -> Option<(Load, f64)> {
        let phase = self.phases[goal].get(level)?;
        let (lower, upper) = self.bounds(&self.goals[goal], phase);
        let is_done = match (lower, upper) {
            (Some(lower), Some(upper)) => is_close(lower, upper, phase.width),
            (Some(lower), None) => lower == self.limits.load_max,
            (None, Some(upper)) => upper == self.limits.load_min,
            (None, None) => false,
        };
        if is_done {
            return None;
        }
        let is_between = |load: Load| lower.is_none_or(|l| l < load) && upper.is_none_or(|u| load < u);
        let begun = phase.current.filter(|&load| is_between(load) && load <= self.limits.load_max);
        let load = match begun {
            Some(load) => load,
            None => self.choose(goal, level, lower, upper),
        };
        let phase = &mut self.phases[goal][level];
        phase.current = Some(load);
        Some((load, phase.trial_s))
    }

    /// A load strictly between the bounds.
    fn choose(&mut self, goal: usize, level: usize, lower: Option<Load>, upper: Option<Load>) -> Load {
        let Limits { load_min, load_max, .. } = self.limits;
        let width = self.phases[goal][level].width;
        // What the phase before found, where that is still open.
        let (before_lower, before_upper) = match level.checked_sub(1) {
            Some(level) => self.bounds(&self.goals[goal], &self.phases[goal][level]),
            None => (None, None),
        };
        match (lower, upper) {
            (None, None) => match before_lower.or(before_upper).or_else(|| self.carried(goal)) {
                Some(load) => load.clamp(load_min, load_max),
                None => load_max,
            },
            (Some(lower), None) => {
                let load = before_upper.filter(|&load| load > lower).unwrap_or_else(|| {
                    let steps = &mut self.phases[goal][level].steps[0];
                    *steps += 1;
                    (lower as f64 * (1.0 + width * f64::from(1 << (*steps - 1).min(20)))) as Load
                });
                load.clamp(lower + 1, load_max)
            }
            (None, Some(upper)) => {
                // What came through is a good guess where a system carries what it can, and a bad one where loss only
                // grows with the load: it is tried once.
                let carried = if self.phases[goal][level].steps[1] == 0 { self.carried(goal) } else { None };
                let steps = &mut self.phases[goal][level].steps[1];
                *steps += 1;
                let away = upper as f64 / (1.0 + width * f64::from(1 << (*steps - 1).min(20)));
                let load = before_lower.or(carried).filter(|&load| load < upper).unwrap_or(away as Load);
                load.clamp(load_min, upper - 1)
            }
            (Some(lower), Some(upper)) => {
                // Bounds that are not close are at least two apart, so there is a load between them.
                let middle = (lower as f64 * upper as f64).sqrt().round() as Load;
                let before = [before_lower, before_upper].into_iter().flatten().find(|&l| lower < l && l < upper);
                before.unwrap_or(middle).clamp(lower + 1, upper - 1)
            }
        }
    }

    /// The least that came through at any load where the goal's loss was exceeded, and not yet measured itself.
    fn carried(&self, goal: usize) -> Option<Load> {
        let allowed = self.goals[goal].loss_ratio;
        let bad = self.trials.values().flatten().filter(|trial| trial.loss_ratio > allowed);
        // With some loss allowed, a load somewhat above what came through meets the goal.
        let carried =
            bad.map(|trial| (trial.load as f64 * (1.0 - trial.loss_ratio) / (1.0 - allowed)) as Load).min()?;
        let carried = carried.clamp(self.limits.load_min, self.limits.load_max);
        (!self.trials.contains_key(&carried)).then_some(carried)
    }

    /// The relevant bounds: the least upper bound, and the largest lower bound below it.
    fn bounds(&self, goal: &Goal, phase: &Phase) -> (Option<Load>, Option<Load>) {
        let class = |trials: &[Trial]| classify(trials, goal, phase.trial_s, phase.duration_sum_s);
        let upper = self.trials.iter().find(|(_, trials)| class(trials) == Class::Upper).map(|(&load, _)| load);
        let below = self.trials.range(..upper.unwrap_or(Load::MAX));
        let lower = below.rev().find(|(_, trials)| class(trials) == Class::Lower).map(|(&load, _)| load);
        (lower, upper)
    }

    /// RFC 9971, appendix B: the load, less the loss ratio that the goal's share of the full-length trials does not exceed.
    fn conditional_throughput(&self, goal: &Goal, load: Load) -> f64 {
        let trials = self.trials.get(&load).map_or(&[][..], Vec::as_slice);
        let mut long: Vec<&Trial> = trials.iter().filter(|trial| is_long(trial, goal.final_trial_s)).collect();
        long.sort_by(|a, b| a.loss_ratio.total_cmp(&b.loss_ratio));
        let sum: f64 = long.iter().map(|trial| trial.duration_s).sum();
        let mut remaining = goal.duration_sum_s.max(sum) * (1.0 - goal.exceed_ratio);
        let mut loss_ratio = None;
        for trial in long {
            if loss_ratio.is_some() && remaining <= 0.0 {
                break;
            }
            loss_ratio = Some(trial.loss_ratio);
            remaining -= trial.duration_s;
        }
        // Time that was not measured counts as if all had been lost in it.
        let loss_ratio = if remaining > TIME_SLACK_S { 1.0 } else { loss_ratio.unwrap_or(1.0) };
        load as f64 * (1.0 - loss_ratio)
    }
}

/// Durations are sums of decimal fractions: what they may be off by.
const TIME_SLACK_S: f64 = 1e-9;

fn is_long(trial: &Trial, full_s: f64) -> bool {
    trial.duration_s >= full_s - TIME_SLACK_S
}

/// Whether the bounds lie no further apart than this share of the upper one, or nothing lies between them.
fn is_close(lower: Load, upper: Load, width: f64) -> bool {
    upper - lower <= 1 || (upper - lower) as f64 <= width * upper as f64
}

/// RFC 9971, appendix A: what the trials at one load say of it, with trials shorter than `full_s` counting only where they are
/// bad and not balanced by good ones.
pub fn classify(trials: &[Trial], goal: &Goal, full_s: f64, duration_sum_s: f64) -> Class {
    let sum = |is_wanted: &dyn Fn(&Trial) -> bool| -> f64 {
        trials.iter().filter(|trial| is_wanted(trial)).map(|trial| trial.duration_s).sum()
    };
    let is_good = |trial: &Trial| trial.loss_ratio <= goal.loss_ratio;
    let good_long = sum(&|t| is_long(t, full_s) && is_good(t));
    let bad_long = sum(&|t| is_long(t, full_s) && !is_good(t));
    let good_short = sum(&|t| !is_long(t, full_s) && is_good(t));
    let bad_short = sum(&|t| !is_long(t, full_s) && !is_good(t));
    let balancing = good_short * goal.exceed_ratio / (1.0 - goal.exceed_ratio);
    let effective_bad = bad_long + (bad_short - balancing).max(0.0);
    let effective_whole = (good_long + effective_bad).max(duration_sum_s);
    let allowed = effective_whole * goal.exceed_ratio + TIME_SLACK_S;
    let is_lower_at_best = effective_bad <= allowed;
    let is_lower_at_worst = effective_whole - good_long <= allowed;
    match (is_lower_at_best, is_lower_at_worst) {
        (true, true) => Class::Lower,
        (false, false) => Class::Upper,
        _ => Class::Undecided,
    }
}

/// From the initial trial's duration to the final one's, by equal ratios, each phase half as wide as the one before.
fn phases(goal: &Goal) -> Vec<Phase> {
    let ratio = goal.final_trial_s / goal.initial_trial_s;
    let early = if ratio > 1.0 + TIME_SLACK_S { PHASES_MAX - 1 } else { 1 };
    let phase = |trial_s, duration_sum_s, width: f64| {
        // Steps and halves need a width that is one.
        Phase { trial_s, duration_sum_s, width: width.min(0.5), current: None, steps: [0; 2] }
    };
    let mut phases: Vec<Phase> = (0..early)
        .map(|number| {
            let trial_s = goal.initial_trial_s * ratio.powf(f64::from(number) / f64::from(early));
            phase(trial_s, trial_s, goal.width * f64::from(1 << (early - number)))
        })
        .collect();
    phases.push(phase(goal.final_trial_s, goal.duration_sum_s, goal.width));
    phases
}

#[cfg(test)]
mod tests;
