//! The bounds that are known for one machine, on which one program runs at a time and pays for its length.
//!
//! * Not preempted: the greedy algorithm starts any program that can still start whenever nothing runs. With a slack of κ
//!   lengths the optimum is at most 2 + 1/κ times as much, and no deterministic algorithm guarantees less: M. Goldwasser,
//!   "Patience is a virtue: the effect of slack on competitiveness for admission control" (J. Scheduling 6, 2003). It is
//!   run here as the router runs it, as [`Rule::Greedy`].
//! * Preempted, with immediate commitment: a program is accepted when it comes if all that are accepted can still meet
//!   their deadlines, the earliest first. With a slack of ε lengths the optimum is at most (1 + ε)/ε times as much:
//!   B. DasGupta, M. Palis, "Online real-time preemptive scheduling of jobs with deadlines on multiple machines" (J.
//!   Scheduling 4, 2001); C. and U. Schwiegelshohn, "The power of migration for online slack scheduling" (ESA 2016). The
//!   router does not preempt; this is what it would gain.

use super::instance::Asked;
use super::simulate;
use crate::verify::chance::Chance;
use vinet_control::lookahead::{Load, Rule, Settings};

/// A slack, as a fraction, so that instances are exact.
#[derive(Clone, Copy, Debug)]
pub struct Slack {
    over: u64,
    under: u64,
}

/// The slacks that are tried: 1/4, 1/2, 1 and 2 lengths.
pub const SLACKS: [Slack; 4] = [
    Slack { over: 1, under: 4 },
    Slack { over: 1, under: 2 },
    Slack { over: 1, under: 1 },
    Slack { over: 2, under: 1 },
];

impl Slack {
    /// As a number.
    pub fn value(self) -> f64 {
        self.over as f64 / self.under as f64
    }
    /// 2 + 1/κ.
    pub fn greedy_bound(self) -> f64 {
        2.0 + 1.0 / self.value()
    }
    /// (1 + ε)/ε.
    pub fn committed_bound(self) -> f64 {
        (1.0 + self.value()) / self.value()
    }
    /// The least slack of a length.
    fn of(self, length: u64) -> u64 {
        (length * self.over).div_ceil(self.under)
    }
    /// The greatest length with a slack of at most this.
    fn length_within(self, slack: u64) -> u64 {
        slack * self.under / self.over
    }
}

/// A program for the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Task {
    release: u64,
    length: u64,
    deadline: u64,
}

impl Task {
    fn with_slack(release: u64, length: u64, slack: u64) -> Task {
        Task { release, length, deadline: release + length + slack }
    }
}

/// The worst ratios of the optimum to what an algorithm gets.
#[derive(Clone, Copy, Debug)]
pub struct Worst {
    /// Over instances by chance.
    pub by_chance: f64,
    /// On the adversary's instance.
    pub by_adversary: f64,
}

/// Tasks by chance, some with more slack than they need, some that crowd one moment.
fn by_chance(slack: Slack, chance: &mut Chance) -> Vec<Task> {
    let count = 3 + chance.below(6);
    let span = 1 + chance.below(120);
    let mut tasks: Vec<Task> = (0..count)
        .map(|_| {
            let most = if chance.one_in(3) { 100 } else { 12 };
            let length = 1 + chance.below(most) as u64;
            let more = if chance.one_in(3) { chance.below(60) as u64 } else { 0 };
            Task::with_slack(chance.below(span) as u64, length, slack.of(length) + more)
        })
        .collect();
    tasks.sort_by_key(|task| task.release);
    tasks
}

/// The greedy algorithm, as the router runs it.
fn greedy(tasks: &[Task]) -> u64 {
    let load = Load { cycles_per_second: 1, memory_bytes: 0 };
    let jobs: Vec<Asked> = tasks
        .iter()
        .map(|task| Asked {
            at_s: task.release,
            load,
            value: task.length,
            lifetime_s: task.length,
            patience_s: task.deadline - task.length - task.release,
        })
        .collect();
    let count = jobs.len();
    let settings =
        Settings { rule: Rule::Greedy, window: count, waiting_max: count, whole: load, floor: 0.0, range: 1.0 };
    simulate::admitted(&jobs, settings).into_iter().map(|(number, _)| jobs[number].value).sum()
}

/// The most that can be had without preemption: for each set of tasks the earliest moment at which all can be done.
fn optimum(tasks: &[Task]) -> u64 {
    let mut done = vec![Some(0u64)];
    let mut best = 0;
    for set in 1usize..1 << tasks.len() {
        let last = (0..tasks.len()).filter(|number| set >> number & 1 == 1).filter_map(|number| {
            let end = done[set & !(1 << number)]?.max(tasks[number].release) + tasks[number].length;
            (end <= tasks[number].deadline).then_some(end)
        });
        let first = last.min();
        done.push(first);
        if first.is_some() {
            best = best.max(length_of(tasks, set));
        }
    }
    best
}

fn length_of(tasks: &[Task], set: usize) -> u64 {
    tasks.iter().enumerate().filter(|(number, _)| set >> number & 1 == 1).map(|(_, task)| task.length).sum()
}

/// Accepts what can be done with all that is accepted, the earliest deadline first.
fn committed(tasks: &[Task]) -> u64 {
    // What is left of each that is accepted, by deadline.
    let mut open: Vec<(u64, u64)> = Vec::new();
    let (mut now, mut accepted) = (0, 0);
    for task in tasks {
        let mut time = task.release - now;
        now = task.release;
        while time > 0 && !open.is_empty() {
            let done = open[0].1.min(time);
            open[0].1 -= done;
            time -= done;
            if open[0].1 == 0 {
                open.remove(0);
            }
        }
        let mut with = open.clone();
        with.push((task.deadline, task.length));
        with.sort_unstable();
        let mut end = now;
        let all_in_time = with.iter().all(|(deadline, left)| {
            end += left;
            end <= *deadline
        });
        if all_in_time {
            open = with;
            accepted += task.length;
        }
    }
    accepted
}

/// The most that can be had with preemption: a set can be done if what lies within any span of time fits into it.
fn optimum_preempted(tasks: &[Task]) -> u64 {
    let can_be_done = |set: usize| {
        let chosen =
            || tasks.iter().enumerate().filter(move |(number, _)| set >> number & 1 == 1).map(|(_, task)| task);
        chosen().all(|first| {
            chosen().all(|last| {
                let within = chosen().filter(|t| t.release >= first.release && t.deadline <= last.deadline);
                let work: u64 = within.map(|task| task.length).sum();
                first.release + work <= last.deadline || work == 0
            })
        })
    };
    (0..1 << tasks.len()).filter(|set| can_be_done(*set)).map(|set| length_of(tasks, set)).max().unwrap_or(0)
}

fn worst(count: usize, chance: &mut Chance, slack: Slack, ratio: impl Fn(&[Task]) -> f64, adversary: &[Task]) -> Worst {
    let by_chance = (0..count).map(|_| ratio(&by_chance(slack, chance))).fold(1.0, f64::max);
    Worst { by_chance, by_adversary: ratio(adversary) }
}

/// The greedy algorithm's worst.
pub fn worst_greedy(slack: Slack, count: usize, chance: &mut Chance) -> Worst {
    let ratio = |tasks: &[Task]| optimum(tasks) as f64 / greedy(tasks) as f64;
    worst(count, chance, slack, ratio, &against_greedy(slack))
}

/// The committed algorithm's worst.
pub fn worst_committed(slack: Slack, count: usize, chance: &mut Chance) -> Worst {
    let ratio = |tasks: &[Task]| optimum_preempted(tasks) as f64 / committed(tasks) as f64;
    worst(count, chance, slack, ratio, &against_committed(slack))
}

/// One task with all the time in the world is started; while it runs there come small ones that cannot wait for its end,
/// and one that is as long as its slack lets it be without outlasting the first.
fn against_greedy(slack: Slack) -> Vec<Task> {
    const LENGTH: u64 = 4_000;
    const SMALL: u64 = 8;
    let mut tasks = vec![Task::with_slack(0, LENGTH, 100 * LENGTH)];
    let small = LENGTH / (SMALL + slack.over.div_ceil(slack.under));
    tasks.extend((0..SMALL).map(|number| Task::with_slack(1 + number * small, small, slack.of(small))));
    tasks.retain(|task| task.length == LENGTH || task.deadline - task.length < LENGTH);
    let long = slack.length_within(LENGTH - 2);
    tasks.push(Task::with_slack(1, long, slack.of(long)));
    tasks.sort_by_key(|task| task.release);
    tasks
}

/// One task without time to spare is accepted; then one comes that has less slack than the first is long.
fn against_committed(slack: Slack) -> Vec<Task> {
    const LENGTH: u64 = 4_000;
    let long = slack.length_within(LENGTH - 1);
    vec![Task::with_slack(0, LENGTH, slack.of(LENGTH)), Task::with_slack(0, long, slack.of(long))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_without_preemption_keeps_to_two_and_the_inverse_of_the_slack() {
        for slack in SLACKS {
            let worst = worst_greedy(slack, 300, &mut Chance::new(11));
            let bound = slack.greedy_bound();
            println!("slack {}: {worst:?}, bound {bound}", slack.value());
            assert!(worst.by_chance <= bound && worst.by_adversary <= bound, "{worst:?} above {bound}");
            // The bound is nearly reached, so a worse algorithm would be found out.
            assert!(worst.by_adversary > 0.85 * bound, "{worst:?} of {bound}");
        }
    }

    #[test]
    fn commitment_with_preemption_keeps_to_one_and_the_inverse_of_the_slack() {
        for slack in SLACKS {
            let worst = worst_committed(slack, 150, &mut Chance::new(12));
            let bound = slack.committed_bound();
            println!("slack {}: {worst:?}, bound {bound}", slack.value());
            assert!(worst.by_chance <= bound && worst.by_adversary <= bound, "{worst:?} above {bound}");
            assert!(worst.by_adversary > 0.9 / slack.value() || slack.value() > 1.0, "{worst:?} of {bound}");
        }
    }

    #[test]
    fn optima_are_those_of_instances_that_are_plain() {
        let one = Task::with_slack(0, 10, 0);
        let two = Task::with_slack(5, 3, 1);
        assert_eq!((optimum(&[one, two]), optimum_preempted(&[one, two])), (10, 10));
        // With three to spare the long one can be interrupted, and not put off.
        let loose = Task::with_slack(0, 10, 3);
        assert_eq!((optimum(&[loose, two]), optimum_preempted(&[loose, two])), (10, 13));
        assert_eq!((greedy(&[loose, two]), committed(&[loose, two])), (10, 13));
    }
}
