//! A rule of the router over an instance: time goes from event to event, and the rule sees only what has come.

use super::instance::{Asked, FLOOR, RANGE, WHOLE};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use vinet_control::lookahead::{Job, Load, Lookahead, Rule, Settings, Verdict};

const US: u64 = 1_000_000;

/// What the rule earns in all.
pub fn value(jobs: &[Asked], rule: Rule, window: usize) -> u64 {
    let settings = Settings { rule, window, waiting_max: jobs.len().max(1), whole: WHOLE, floor: FLOOR, range: RANGE };
    admitted(jobs, settings).into_iter().map(|(number, _)| jobs[number].value).sum()
}

/// Which of them are admitted, and at which second.
pub fn admitted(jobs: &[Asked], settings: Settings) -> Vec<(usize, u64)> {
    let mut waiting = Lookahead::new(settings);
    let mut free = settings.whole;
    let mut ends: BinaryHeap<Reverse<(u64, u64, u64)>> = BinaryHeap::new();
    let mut coming = jobs.iter().enumerate().peekable();
    let mut admitted = Vec::new();
    let mut settle = |waiting: &mut Lookahead<usize>, free: &mut Load, ends: &mut BinaryHeap<_>, now_s: u64| {
        while let Some((verdict, job, number)) = waiting.decide(now_s * US, free) {
            if verdict == Verdict::Admit {
                *free = free.without(&job.load);
                ends.push(Reverse((now_s + job.lifetime_s, job.load.cycles_per_second, job.load.memory_bytes)));
                admitted.push((number, now_s));
            }
        }
    };
    loop {
        let next = [
            coming.peek().map(|(_, asked)| asked.at_s),
            ends.peek().map(|Reverse((end_s, ..))| *end_s),
            waiting.next_us().map(|us| us / US),
        ];
        let Some(now_s) = next.into_iter().flatten().min() else { return admitted };
        while let Some(Reverse((end_s, cycles_per_second, memory_bytes))) = ends.peek().copied()
            && end_s <= now_s
        {
            ends.pop();
            free.cycles_per_second += cycles_per_second;
            free.memory_bytes += memory_bytes;
        }
        // What ended makes room for those that wait before the next one comes.
        settle(&mut waiting, &mut free, &mut ends, now_s);
        while let Some((number, asked)) = coming.next_if(|(_, asked)| asked.at_s <= now_s) {
            let job = Job {
                load: asked.load,
                value: asked.value,
                lifetime_s: asked.lifetime_s,
                until_us: (asked.at_s + asked.patience_s) * US,
            };
            if waiting.offer(job, number).is_err() {
                unreachable!("there is room for all");
            }
            settle(&mut waiting, &mut free, &mut ends, now_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::instance::{Mix, make};
    use super::super::optimum::{brute_force, is_feasible, upper_bound};
    use super::*;
    use crate::verify::chance::Chance;

    #[test]
    fn every_rule_keeps_to_the_capacity_and_no_rule_beats_the_optimum_nor_that_its_bound() {
        for mix in Mix::ALL {
            for (seed, load) in [(1, 1.0), (2, 3.0), (3, 5.0)] {
                let jobs = make(mix, load, 6, &mut Chance::new(seed));
                let best = brute_force(&jobs);
                let mut most = 0;
                for rule in [Rule::Greedy, Rule::Densest, Rule::Patient, Rule::Priced] {
                    let settings =
                        Settings { rule, window: 16, waiting_max: 6, whole: WHOLE, floor: FLOOR, range: RANGE };
                    let admitted = admitted(&jobs, settings);
                    let starts: Vec<(Asked, u64)> =
                        admitted.iter().map(|(at, start_s)| (jobs[*at], *start_s)).collect();
                    assert!(is_feasible(&starts), "{mix} {rule} {seed}");
                    most = most.max(value(&jobs, rule, 16));
                }
                assert!(most > 0 && most <= best, "{mix}: {most} of {best}");
                let bound = upper_bound(&jobs, most as f64);
                assert!(
                    bound >= best as f64 && bound <= jobs.iter().map(|job| job.value as f64).sum(),
                    "{mix}: {bound}"
                );
            }
        }
    }

    #[test]
    fn what_fits_together_is_all_admitted_but_by_price() {
        let jobs = make(Mix::Firewalls, 0.02, 200, &mut Chance::new(5));
        let all: u64 = jobs.iter().map(|job| job.value).sum();
        for rule in [Rule::Greedy, Rule::Densest, Rule::Patient] {
            assert_eq!(value(&jobs, rule, 16), all, "{rule}");
        }
    }
}
