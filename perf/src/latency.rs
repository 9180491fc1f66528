//! Latencies in a histogram: from a nanosecond to a minute, to three digits.

use crate::run::PerfError;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The longest that is told apart; what takes longer counts as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// The percentiles that are reported.
pub const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// Latencies of one trial.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub fn new() -> Result<Latencies, PerfError> {
        let made = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3);
        made.map(Latencies).map_err(|e| PerfError::Failed { what: "the histogram".to_owned(), words: e.to_string() })
    }
    /// Adds one.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }
    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len()
    }
    /// The latency that this share of them, in percent, does not exceed.
    pub fn percentile(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }
    /// The histogram, to be written.
    pub const fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
    /// Count, mean and percentiles, in nanoseconds; null where there is nothing.
    pub fn summary(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        let mut summary = json!({"count": self.0.len(), "mean_ns": self.0.mean().round(), "min_ns": self.0.min()});
        for percent in PERCENTILES {
            let name = if percent == 100.0 { "max_ns".to_owned() } else { format!("p{percent}_ns") };
            summary[name] = json!(self.percentile(percent));
        }
        summary
    }
    /// The curve of percentiles for a plot: how many nines, and microseconds.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let mut points = Vec::new();
        let nines_max = (self.0.len().max(1) as f64).log10();
        for step in 0..=(nines_max * 10.0) as u32 {
            let nines = f64::from(step) / 10.0;
            let percent = 100.0 * (1.0 - 10f64.powf(-nines));
            points.push((nines, self.percentile(percent) as f64 / 1e3));
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_three_digits_and_nothing_is_lost_at_the_ends() {
        let mut latencies = Latencies::new().expect("the bounds are in order");
        assert_eq!(latencies.summary(), Value::Null);
        for ns in 1..=100_000 {
            latencies.record(ns);
        }
        for percent in [50.0, 90.0, 99.0, 99.9] {
            let (found, exact) = (latencies.percentile(percent) as f64, 1000.0 * percent);
            assert!((found - exact).abs() <= exact / 1000.0, "{percent}: {found}");
        }
        latencies.record(0);
        latencies.record(u64::MAX);
        assert_eq!(latencies.count(), 100_002);
        assert_eq!(latencies.summary()["count"], 100_002);
        assert!(latencies.percentile(100.0) >= LATENCY_MAX_NS);
        let curve = latencies.curve();
        assert_eq!(curve[0].0, 0.0);
        assert!(curve.windows(2).all(|pair| pair[0].1 <= pair[1].1), "a curve of percentiles only rises");
    }
}
