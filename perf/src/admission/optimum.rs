//! The best that anybody could do who knows all that comes: exactly for a few programs, from above for many.

use super::instance::{Asked, WHOLE};
use vinet_control::lookahead::Load;

/// The most programs that brute force is used for.
pub const SMALL: usize = 7;
/// Rounds of the search for the least upper bound.
const ROUNDS: usize = 150;

/// The most value that can be had, starting each program at its coming or later within its patience.
///
/// Whatever can be run can be run by taking the programs in the order of their starts, each as early as those before it
/// allow; so all orders are tried.
pub fn brute_force(jobs: &[Asked]) -> u64 {
    let mut search = Search { jobs, best: 0, placed: Vec::new() };
    search.extend(0, 0, jobs.iter().map(|job| job.value).sum());
    search.best
}

struct Search<'a> {
    jobs: &'a [Asked],
    best: u64,
    placed: Vec<(Asked, u64)>,
}

impl Search<'_> {
    fn extend(&mut self, used: u32, value: u64, left: u64) {
        self.best = self.best.max(value);
        if value + left <= self.best {
            return;
        }
        for (number, job) in self.jobs.iter().enumerate().filter(|(number, _)| used & 1 << number == 0) {
            if let Some(start_s) = self.earliest(job) {
                self.placed.push((*job, start_s));
                self.extend(used | 1 << number, value + job.value, left - job.value);
                self.placed.pop();
            }
        }
    }

    /// The first second at which `job` fits beside those that are placed.
    fn earliest(&self, job: &Asked) -> Option<u64> {
        let ends = self.placed.iter().map(|(placed, start_s)| start_s + placed.lifetime_s);
        let allowed = job.at_s..=job.at_s + job.patience_s;
        let mut starts: Vec<u64> = ends.chain([job.at_s]).filter(|start_s| allowed.contains(start_s)).collect();
        starts.sort_unstable();
        starts.into_iter().find(|start_s| fits(&self.placed, job, *start_s))
    }
}

/// Whether `job` fits from `start_s` on.
fn fits(placed: &[(Asked, u64)], job: &Asked, start_s: u64) -> bool {
    let end_s = start_s + job.lifetime_s;
    let beside = placed.iter().filter(|(other, at_s)| *at_s < end_s && at_s + other.lifetime_s > start_s);
    let starts = beside.clone().map(|(_, at_s)| (*at_s).max(start_s)).chain([start_s]);
    starts.into_iter().all(|moment_s| {
        let running = beside.clone().filter(|(other, at_s)| (*at_s..at_s + other.lifetime_s).contains(&moment_s));
        let free = running.fold(WHOLE, |free, (other, _)| free.without(&other.load));
        free.holds(&job.load)
    })
}

/// Whether programs with these starts fit, each within its patience.
#[cfg(test)]
pub fn is_feasible(starts: &[(Asked, u64)]) -> bool {
    (0..starts.len()).all(|number| {
        let (job, start_s) = starts[number];
        (job.at_s..=job.at_s + job.patience_s).contains(&start_s) && fits(&starts[..number], &job, start_s)
    })
}

/// No less than the most value that can be had. `value` is one that can be had.
///
/// Lagrange's relaxation: with any prices, one for each resource and second, the optimum is at most what the capacity
/// would cost plus what each program pays above the cheapest start that it could have. The prices are improved by a
/// subgradient method with Polyak's steps; a bound that is not the least is a bound all the same.
pub fn upper_bound(jobs: &[Asked], value: f64) -> f64 {
    let end_s = jobs.iter().map(|job| job.at_s + job.patience_s + job.lifetime_s).max().unwrap_or(0) as usize;
    let mut prices = vec![[0.0f64; 2]; end_s];
    let mut best = f64::INFINITY;
    let mut pace = 1.0;
    let mut idle = 0;
    for _ in 0..ROUNDS {
        // sums[t] is the price of each whole resource from the first second to t.
        let mut sums = vec![[0.0f64; 2]; end_s + 1];
        for (second, price) in prices.iter().enumerate() {
            sums[second + 1] = [sums[second][0] + price[0], sums[second][1] + price[1]];
        }
        let mut bound = sums[end_s][0] + sums[end_s][1];
        // What is asked for above the capacity, by second.
        let mut changes = vec![[0.0f64; 2]; end_s + 1];
        for job in jobs {
            let share = shares(&job.load);
            let cost = |start_s: u64| {
                let (from, to) = (start_s as usize, (start_s + job.lifetime_s) as usize);
                share[0] * (sums[to][0] - sums[from][0]) + share[1] * (sums[to][1] - sums[from][1])
            };
            let starts = job.at_s..=job.at_s + job.patience_s;
            let Some((start_s, cost)) = starts.map(|s| (s, cost(s))).min_by(|a, b| a.1.total_cmp(&b.1)) else {
                continue;
            };
            if job.value as f64 > cost {
                bound += job.value as f64 - cost;
                for kind in 0..2 {
                    changes[start_s as usize][kind] += share[kind];
                    changes[(start_s + job.lifetime_s) as usize][kind] -= share[kind];
                }
            }
        }
        idle = if bound < best { 0 } else { idle + 1 };
        best = best.min(bound);
        if idle == 10 {
            (pace, idle) = (pace / 2.0, 0);
        }
        let mut asked = [-1.0f64; 2];
        let mut slopes = vec![[0.0f64; 2]; end_s];
        for (slope, change) in slopes.iter_mut().zip(&changes) {
            asked = [asked[0] + change[0], asked[1] + change[1]];
            *slope = asked;
        }
        // What is free at no price stays so: it is no direction.
        for (slope, price) in slopes.iter_mut().zip(&prices) {
            for kind in 0..2 {
                if price[kind] == 0.0 && slope[kind] < 0.0 {
                    slope[kind] = 0.0;
                }
            }
        }
        let length: f64 = slopes.iter().flatten().map(|slope| slope * slope).sum();
        if length < 1e-9 {
            break;
        }
        let step = pace * (bound - value).max(0.0) / length;
        for (price, slope) in prices.iter_mut().zip(&slopes) {
            for kind in 0..2 {
                price[kind] = (price[kind] + step * slope[kind]).max(0.0);
            }
        }
    }
    best
}

fn shares(load: &Load) -> [f64; 2] {
    let share = |part: u64, whole: u64| part as f64 / whole as f64;
    [share(load.cycles_per_second, WHOLE.cycles_per_second), share(load.memory_bytes, WHOLE.memory_bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(at_s: u64, thousandths: u64, value: u64, lifetime_s: u64, patience_s: u64) -> Asked {
        let load = Load { cycles_per_second: thousandths * 1_000, memory_bytes: 0 };
        Asked { at_s, load, value, lifetime_s, patience_s }
    }

    #[test]
    fn the_optimum_moves_starts_and_leaves_out_what_is_in_the_way() {
        // The large one is in the way of the two that pay more; the last can wait for both.
        let jobs = [asked(0, 900, 10, 10, 0), asked(1, 500, 8, 5, 1), asked(2, 500, 8, 5, 0), asked(3, 1_000, 9, 3, 4)];
        assert_eq!(brute_force(&jobs), 25);
        // One second less of patience, and the last is in the way too.
        let jobs = [jobs[0], jobs[1], jobs[2], asked(3, 1_000, 9, 3, 3)];
        assert_eq!(brute_force(&jobs), 17);
        assert!(upper_bound(&jobs, 17.0) >= 17.0);
    }

    #[test]
    fn the_upper_bound_is_near_where_shares_are_small() {
        // A hundred that want it all at once, a tenth each: ten fit, the dearest.
        let jobs: Vec<Asked> = (1..=100).map(|value| asked(0, 100, value, 10, 0)).collect();
        let bound = upper_bound(&jobs, 955.0);
        assert!((955.0..970.0).contains(&bound), "{bound}");
    }
}
