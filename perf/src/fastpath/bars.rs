//! The bars of the standard benchmark, and whether figures meet them.
//!
//! A bar is held against the median over the rounds. Figures that have no bar (other frame sizes, other numbers of
//! programs) are told and count for nothing.

use super::Scenario;
use crate::table::{Spread, markdown};

/// One figure that counts, of this router in one case of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Which scenario. It decides what the figure is a figure of.
    pub scenario: Scenario,
    /// The frames, in bytes on the wire.
    pub frame_bytes: usize,
    /// The programs that are installed.
    pub programs: u32,
    /// Over the rounds.
    pub spread: Spread,
}

/// What a figure has to be.
#[derive(Debug)]
pub struct Bar {
    /// The case.
    case: (Scenario, usize, u32),
    /// The case in words.
    words: &'static str,
    /// What has to be reached.
    bar: f64,
    /// What is wanted.
    goal: f64,
}

/// All of them.
const BARS: [Bar; 6] = [
    Bar { case: (Scenario::Lpm, 64, 0), words: "64 B, no programs", bar: 0.80, goal: 1.0 },
    Bar { case: (Scenario::Lpm, 64, 100_000), words: "64 B, 100,000 programs, none matching", bar: 0.75, goal: 0.95 },
    Bar { case: (Scenario::Lpm, 512, 0), words: "512 B, no programs", bar: 0.95, goal: 1.0 },
    Bar { case: (Scenario::Lpm, 1500, 0), words: "1500 B, no programs", bar: 0.95, goal: 1.0 },
    Bar { case: (Scenario::Acl, 64, 10_000), words: "64 B, 10,000 programs, none matching", bar: 1.3, goal: 1.7 },
    Bar {
        case: (Scenario::Random, 64, 1_000_000),
        words: "64 B, 1,000,000 random flows and programs, half matching",
        bar: 35.0,
        goal: 15.0,
    },
];

/// A bar with what was measured.
#[derive(Debug)]
pub struct Held {
    bar: &'static Bar,
    spread: Spread,
}

/// The bars that there is a figure for, in their order.
pub fn held(figures: &[Figure]) -> Vec<Held> {
    let figure = |bar: &Bar| figures.iter().find(|f| (f.scenario, f.frame_bytes, f.programs) == bar.case);
    BARS.iter().filter_map(|bar| Some(Held { bar, spread: figure(bar)?.spread })).collect()
}

impl Held {
    /// Whether the median meets the bar.
    pub fn is_met(&self) -> bool {
        self.reaches(self.bar.bar)
    }

    /// Whether the median is where it is wanted.
    fn is_goal_met(&self) -> bool {
        self.reaches(self.bar.goal)
    }

    /// A cost is to be low, a ratio high.
    fn reaches(&self, limit: f64) -> bool {
        if self.is_cost() { self.spread.median <= limit } else { self.spread.median >= limit }
    }

    fn is_cost(&self) -> bool {
        self.bar.case.0 == Scenario::Random
    }

    /// The case and what is measured of it.
    fn name(&self) -> String {
        let quantity = match self.bar.case.0 {
            Scenario::Lpm => "ratio to l3fwd LPM",
            Scenario::Acl => "ratio to l3fwd ACL with 10,000 rules",
            Scenario::Random => "net cost, ns",
        };
        format!("{}: {quantity}", self.bar.words)
    }

    fn number(&self, number: f64) -> String {
        if self.is_cost() { format!("{number:.1}") } else { format!("{number:.2}") }
    }

    fn limit(&self, limit: f64) -> String {
        format!("{} {}", if self.is_cost() { "≤" } else { "≥" }, self.number(limit))
    }

    /// In a sentence, for one that is not met.
    pub fn missed(&self) -> String {
        format!("{}: {}, the bar is {}", self.name(), self.number(self.spread.median), self.limit(self.bar.bar))
    }

    /// As an object for machines.
    pub fn as_json(&self) -> serde_json::Value {
        let Spread { median, min, max } = self.spread;
        serde_json::json!({
            "figure": self.name(), "median": median, "least": min, "most": max,
            "bar": self.bar.bar, "goal": self.bar.goal, "met": self.is_met(), "goal_met": self.is_goal_met(),
        })
    }
}

/// A table of the bars.
pub fn as_table(held: &[Held]) -> String {
    let mut rows = vec![["figure", "measured", "bar", "goal", ""].map(str::to_owned).to_vec()];
    rows.extend(held.iter().map(|held| {
        let [median, min, max] = [held.spread.median, held.spread.min, held.spread.max].map(|n| held.number(n));
        let verdict = match (held.is_met(), held.is_goal_met()) {
            (true, true) => "met, the goal too",
            (true, false) => "met",
            (false, _) => "missed",
        };
        let measured = format!("{median} [{min} … {max}]");
        vec![held.name(), measured, held.limit(held.bar.bar), held.limit(held.bar.goal), verdict.to_owned()]
    }));
    markdown(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(case: (Scenario, usize, u32), median: f64) -> Figure {
        let spread = Spread { median, min: median - 0.01, max: median + 0.01 };
        Figure { scenario: case.0, frame_bytes: case.1, programs: case.2, spread }
    }

    #[test]
    fn a_ratio_is_to_be_high_and_a_cost_low() {
        for (case, below, above) in
            [((Scenario::Acl, 64, 10_000), false, true), ((Scenario::Random, 64, 1_000_000), true, false)]
        {
            let bar = BARS.iter().find(|bar| bar.case == case).expect("there is one").bar;
            for (median, met) in [(bar - 0.001, below), (bar, true), (bar + 0.001, above)] {
                let held = held(&[figure(case, median)]);
                assert_eq!((held.len(), held[0].is_met()), (1, met), "{case:?} {median}");
            }
        }
    }

    #[test]
    fn every_bar_finds_its_figure_and_goals_lie_behind_bars() {
        let figures: Vec<Figure> = BARS.iter().rev().map(|bar| figure(bar.case, bar.goal)).collect();
        let held = held(&figures);
        assert_eq!(held.len(), BARS.len());
        for held in &held {
            assert!(held.is_met() && held.is_goal_met(), "{}", held.name());
            assert!(!Held { bar: held.bar, spread: figure(held.bar.case, held.bar.bar).spread }.is_goal_met());
        }
    }

    #[test]
    fn figures_without_a_bar_count_for_nothing() {
        assert!(held(&[figure((Scenario::Lpm, 128, 0), 0.1), figure((Scenario::Random, 64, 1000), 99.0)]).is_empty());
    }

    #[test]
    fn the_table_tells_what_is_missed() {
        let cases = [
            ((Scenario::Lpm, 64, 0), 0.5),
            ((Scenario::Random, 64, 1_000_000), 20.0),
            ((Scenario::Acl, 64, 10_000), 2.0),
        ];
        let held = held(&cases.map(|(case, median)| figure(case, median)));
        let table = as_table(&held);
        let verdict = |row: usize| table.lines().nth(row).and_then(|line| line.split('|').nth(5)).map(str::trim);
        assert_eq!([2, 3, 4].map(verdict), [Some("missed"), Some("met, the goal too"), Some("met")]);
        assert_eq!(held[0].missed(), "64 B, no programs: ratio to l3fwd LPM: 0.50, the bar is ≥ 0.80");
        assert!(table.contains("| 20.0 [20.0 … 20.0] | ≤ 35.0 | ≤ 15.0 |"), "{table}");
        assert_eq!(held[0].as_json()["met"], false);
        assert_eq!(held[2].as_json()["bar"], 35.0);
    }
}
