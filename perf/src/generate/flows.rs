//! Which flow each packet is of: all alike, or by Zipf's law.

use crate::verify::chance::Chance;
use std::fmt;
use std::str::FromStr;

/// The most flows.
pub const FLOWS_MAX: usize = 1 << 20;

/// How packets spread over flows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// Each flow as often as any other.
    Uniform,
    /// The flow of rank k as often as k to the power of minus this.
    Zipf(f64),
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let expected =
            || format!("`{text}` is no flow mix; expected uniform, zipf, or zipf:S with S above 0, at most 5");
        match text.split_once(':') {
            None if text == "uniform" => Ok(Mix::Uniform),
            None if text == "zipf" => Ok(Mix::Zipf(1.0)),
            Some(("zipf", s)) => {
                let s: f64 = s.parse().map_err(|_| expected())?;
                if s > 0.0 && s <= 5.0 { Ok(Mix::Zipf(s)) } else { Err(expected()) }
            }
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mix::Uniform => f.write_str("uniform"),
            Mix::Zipf(s) => write!(f, "zipf:{s}"),
        }
    }
}

impl Mix {
    /// The flow of each of `len` packets, among `flows` (at least one). Uniform: `len` rounded up to whole rounds over
    /// all flows, each round in an order of its own.
    pub fn draw(self, flows: usize, len: usize, chance: &mut Chance) -> Vec<u32> {
        match self {
            Mix::Uniform => {
                let mut drawn = Vec::with_capacity(len.next_multiple_of(flows));
                while drawn.len() < len {
                    let start = drawn.len();
                    drawn.extend(0..flows as u32);
                    shuffle(&mut drawn[start..], chance);
                }
                drawn
            }
            Mix::Zipf(s) => {
                let mut sum = 0.0;
                let sums: Vec<f64> = (1..=flows)
                    .map(|rank| {
                        sum += (rank as f64).powf(-s);
                        sum
                    })
                    .collect();
                let draw = |chance: &mut Chance| {
                    let at = unit(chance) * sum;
                    sums.partition_point(|&s| s <= at).min(flows - 1) as u32
                };
                (0..len).map(|_| draw(chance)).collect()
            }
        }
    }
}

/// From 0 to below 1.
pub fn unit(chance: &mut Chance) -> f64 {
    (chance.bits() >> 11) as f64 / (1u64 << 53) as f64
}

/// An order by chance (Fisher and Yates).
pub fn shuffle<T>(items: &mut [T], chance: &mut Chance) {
    for last in (1..items.len()).rev() {
        items.swap(last, chance.below(last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(mix: Mix, flows: usize, len: usize, seed: u64) -> Vec<u64> {
        let mut counts = vec![0; flows];
        for flow in mix.draw(flows, len, &mut Chance::new(seed)) {
            counts[flow as usize] += 1;
        }
        counts
    }

    #[test]
    fn uniform_flows_come_equally_often_in_changing_order() {
        assert_eq!(counts(Mix::Uniform, 100, 1000, 1), vec![10; 100]);
        let drawn = Mix::Uniform.draw(50, 100, &mut Chance::new(1));
        assert_ne!(drawn[..50], drawn[50..]);
        assert_eq!(drawn, Mix::Uniform.draw(50, 100, &mut Chance::new(1)), "a seed decides");
        assert_ne!(drawn, Mix::Uniform.draw(50, 100, &mut Chance::new(2)));
    }

    #[test]
    fn zipf_flows_come_as_often_as_the_law_says() {
        for (s, seed) in [(0.5, 1), (1.0, 2), (1.5, 3)] {
            let (flows, len) = (100, 200_000);
            let counts = counts(Mix::Zipf(s), flows, len, seed);
            let whole: f64 = (1..=flows).map(|rank| (rank as f64).powf(-s)).sum();
            // Pearson's statistic has mean 99 and standard deviation 14 where the law holds: 180 is beyond any luck.
            let statistic: f64 = counts
                .iter()
                .enumerate()
                .map(|(i, &count)| {
                    let expected = len as f64 * ((i + 1) as f64).powf(-s) / whole;
                    (count as f64 - expected).powi(2) / expected
                })
                .sum();
            assert!(statistic < 180.0, "s {s}, seed {seed}: {statistic}");
            assert!(statistic > 45.0, "s {s}, seed {seed}: {statistic} is too good to be chance");
        }
    }

    #[test]
    fn mixes_are_read_and_wrong_ones_are_told() {
        assert_eq!("zipf:1.2".parse(), Ok(Mix::Zipf(1.2)));
        assert_eq!("zipf".parse(), Ok(Mix::Zipf(1.0)));
        assert_eq!("uniform".parse(), Ok(Mix::Uniform));
        for wrong in ["", "Zipf", "zipf:", "zipf:0", "zipf:-1", "zipf:9", "zipf:nan", "uniform:2"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong}");
        }
    }
}
