//! Programs that ask for capacity, by chance.

use crate::verify::chance::Chance;
use std::fmt;
use vinet_control::lookahead::Load;

/// The capacity of the router in question: shares are in its millionths.
pub const WHOLE: Load = Load { cycles_per_second: 1_000_000, memory_bytes: 1_000_000 };
/// What the least that anyone pays buys: the whole capacity for a second, for so many credits.
pub const FLOOR: f64 = 1_000.0;
/// How many times the floor the dearest pays.
pub const RANGE: f64 = 100.0;

/// A program that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When, in seconds.
    pub at_s: u64,
    /// What it needs.
    pub load: Load,
    /// What it pays.
    pub value: u64,
    /// How long it runs, in seconds.
    pub lifetime_s: u64,
    /// How long it waits, in seconds.
    pub patience_s: u64,
}

/// What kind of programs ask, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// All alike: shares, lifetimes and what is paid, each by chance.
    Even,
    /// Nine firewalls, which are small and stay, for one spam filter, which is large.
    Firewalls,
    /// A few huge ones among many small ones, and the huge ones pay little.
    Huge,
    /// The longer it goes on, the more is paid: who comes first is who pays least.
    Rising,
}

impl Mix {
    /// All of them.
    pub const ALL: [Mix; 4] = [Mix::Even, Mix::Firewalls, Mix::Huge, Mix::Rising];
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mix::Even => "even",
            Mix::Firewalls => "9 firewalls : 1 filter",
            Mix::Huge => "huge and poor",
            Mix::Rising => "rising payments",
        })
    }
}

/// A number from `least` to `most`, whose logarithm is even.
fn spread(chance: &mut Chance, least: f64, most: f64) -> f64 {
    let part = chance.below(1 << 20) as f64 / f64::from(1 << 20);
    least * (most / least).powf(part)
}

/// `count` programs that ask for `offered` times what the capacity holds, in the order of their coming.
pub fn make(mix: Mix, offered: f64, count: usize, chance: &mut Chance) -> Vec<Asked> {
    // The fewer there are, the larger each is, so that they compete.
    let scale = if count <= 16 { 1.0 } else { 0.15 };
    let mut area = 0.0;
    let mut jobs = Vec::with_capacity(count);
    for number in 0..count {
        let (share, lifetime_s, density) = match mix {
            Mix::Even => (spread(chance, 0.1, 0.7), spread(chance, 5.0, 100.0), spread(chance, 1.0, RANGE)),
            Mix::Firewalls if chance.one_in(10) => {
                (spread(chance, 0.4, 0.9), spread(chance, 5.0, 60.0), spread(chance, 1.0, RANGE))
            }
            Mix::Firewalls => (spread(chance, 0.05, 0.2), spread(chance, 20.0, 100.0), spread(chance, 1.0, RANGE)),
            Mix::Huge if chance.one_in(4) => (spread(chance, 0.8, 1.0), spread(chance, 30.0, 100.0), 1.0),
            Mix::Huge => (spread(chance, 0.05, 0.3), spread(chance, 5.0, 30.0), spread(chance, 1.0, RANGE)),
            Mix::Rising => {
                let trend = RANGE.powf(number as f64 / count as f64 * 0.8);
                (spread(chance, 0.1, 0.5), spread(chance, 10.0, 100.0), trend * spread(chance, 1.0, 2.5))
            }
        };
        let lifetime_s = lifetime_s.round().max(1.0);
        let share = share * scale;
        // Memory is what is scarce for every fourth.
        let (cycles, memory) = if chance.one_in(4) { (share / 3.0, share) } else { (share, share / 3.0) };
        area += share * lifetime_s;
        let units = |share: f64| (share * 1e6).round().max(1.0) as u64;
        jobs.push(Asked {
            at_s: 0,
            load: Load { cycles_per_second: units(cycles), memory_bytes: units(memory) },
            value: (density * FLOOR * share * lifetime_s).ceil() as u64,
            lifetime_s: lifetime_s as u64,
            patience_s: spread(chance, 1.0, 15.0).round() as u64,
        });
    }
    let span_s = (area / offered).ceil().max(1.0) as usize;
    let mut times: Vec<u64> = (0..count).map(|_| chance.below(span_s) as u64).collect();
    times.sort_unstable();
    for (job, at_s) in jobs.iter_mut().zip(times) {
        job.at_s = at_s;
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_within_what_they_promise() {
        for mix in Mix::ALL {
            let jobs = make(mix, 2.0, 500, &mut Chance::new(7));
            assert!(jobs.is_sorted_by_key(|job| job.at_s));
            let area: f64 = jobs.iter().map(|job| job.load.share_of(&WHOLE) * job.lifetime_s as f64).sum();
            let span_s = jobs.last().expect("some").at_s as f64;
            assert!(span_s * 2.0 <= area * 1.01 && span_s * 2.0 > area * 0.9, "{mix}: {area} in {span_s}");
            for job in jobs {
                assert!(WHOLE.holds(&job.load));
                let density = job.value as f64 / (job.load.share_of(&WHOLE) * job.lifetime_s as f64 * FLOOR);
                assert!((0.98..=RANGE * 1.05).contains(&density), "{mix}: {density}");
            }
        }
    }
}
