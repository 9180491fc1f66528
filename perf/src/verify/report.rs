//! What is printed: tables, and each bar with whether it is met; or the same as one JSON object a line.

use crate::table::markdown;
use serde_json::{Value, json};

/// What a figure has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Bar {
    fn is_met(self, value: f64) -> bool {
        match self {
            Bar::AtMost(most) => value <= most,
            Bar::AtLeast(least) => value >= least,
        }
    }
}

/// Prints, and remembers which bars are not met.
pub struct Report {
    is_json: bool,
    /// The rows of the table of bars that is being filled.
    rows: Vec<Vec<String>>,
    missed: Vec<String>,
}

impl Report {
    /// Nothing printed yet.
    pub const fn new(is_json: bool) -> Report {
        Report { is_json, rows: Vec::new(), missed: Vec::new() }
    }
    /// The names of the bars that are not met, so far.
    pub fn missed(&self) -> &[String] {
        &self.missed
    }
    /// The title of a section, for people.
    pub fn heading(&self, title: &str) {
        self.say(&format!("## {title}\n"));
    }
    /// A sentence, for people.
    pub fn say(&self, words: &str) {
        if !self.is_json {
            println!("{words}");
        }
    }
    /// A table with its heads, for people.
    pub fn table(&self, rows: &[Vec<String>]) {
        self.say(&markdown(rows));
    }
    /// An object of a section, for machines.
    pub fn object(&self, section: &str, mut object: Value) {
        if self.is_json {
            object["section"] = json!(section);
            println!("{object}");
        }
    }
    /// A figure against its bar.
    pub fn bar(&mut self, name: &str, value: f64, unit: &str, bar: Bar) {
        let is_met = bar.is_met(value);
        let (relation, limit) = match bar {
            Bar::AtMost(most) => ("≤", most),
            Bar::AtLeast(least) => ("≥", least),
        };
        self.object("bar", json!({"name": name, "value": value, "unit": unit, "bar": limit, "met": is_met}));
        let verdict = if is_met { "met" } else { "NOT MET" };
        let cells = [
            name.to_owned(),
            format!("{} {unit}", short(value)),
            format!("{relation} {}", short(limit)),
            verdict.to_owned(),
        ];
        self.rows.push(cells.to_vec());
        if !is_met {
            self.missed.push(name.to_owned());
        }
    }
    /// A bar that could not be held to, which counts as one that is not met.
    pub fn no_figure(&mut self, name: &str, why: &str) {
        self.object("bar", json!({"name": name, "value": null, "met": false, "why": why}));
        self.rows.push(vec![name.to_owned(), "—".to_owned(), why.to_owned(), "NOT MET".to_owned()]);
        self.missed.push(name.to_owned());
    }
    /// The table of the bars since the last one.
    pub fn bars(&mut self) {
        if !self.rows.is_empty() {
            let mut rows = vec![["what", "measured", "bar", ""].map(str::to_owned).to_vec()];
            rows.append(&mut self.rows);
            self.table(&rows);
        }
    }
}

/// A figure with three digits that count, or all those before the point.
pub fn short(value: f64) -> String {
    let digits = value.abs();
    if value.fract() == 0.0 || digits >= 100.0 {
        let whole = format!("{:.0}", digits);
        let groups: Vec<&str> =
            whole.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
        return format!("{}{}", if value < 0.0 { "-" } else { "" }, groups.join(","));
    }
    if digits >= 10.0 { format!("{value:.1}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let shown: Vec<String> = [0.0, 1.0, 0.123, 12.34, 1234.5, 250_000.0, -1_000.0].into_iter().map(short).collect();
        assert_eq!(shown, ["0", "1", "0.12", "12.3", "1,234", "250,000", "-1,000"]);
    }

    #[test]
    fn what_is_on_the_bar_meets_it_and_what_is_beyond_does_not() {
        let mut report = Report::new(true);
        report.bar("a", 64.0, "B", Bar::AtMost(64.0));
        report.bar("b", 250_000.0, "/s", Bar::AtLeast(250_000.0));
        assert!(report.missed().is_empty());
        report.bar("c", 65.0, "B", Bar::AtMost(64.0));
        report.bar("d", 249_999.0, "/s", Bar::AtLeast(250_000.0));
        report.no_figure("e", "it has no proof");
        assert_eq!(report.missed(), ["c", "d", "e"]);
    }
}
