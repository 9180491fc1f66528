//! `vinet-perf admission`: the rules by which a router gives out scarce capacity, held against the best that there is.
//!
//! Every rule is the one that the router runs (`vinet_control::lookahead`), over instances by chance: on small ones against
//! the offline optimum by brute force, on large ones against an upper bound of it; and the known bounds of on-line
//! scheduling on one machine, on instances by chance and on those of an adversary.

mod instance;
mod optimum;
mod simulate;
mod single;

use crate::machine;
use crate::run::PerfError;
use crate::table::Spread;
use crate::verify::chance::Chance;
use crate::verify::report::{Bar, Report};
use clap::Args;
use instance::Mix;
use serde_json::json;
use vinet_control::lookahead::Rule;

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// Small instances for each mix and load.
    #[arg(long, default_value_t = 60)]
    small: usize,
    /// Large instances for each mix and load.
    #[arg(long, default_value_t = 5)]
    large: usize,
    /// Programs of a large instance.
    #[arg(long, default_value_t = 2_000)]
    programs: usize,
    /// How many of those that wait the rules look at.
    #[arg(long, default_value_t = 16)]
    window: usize,
    /// Instances by chance for each bound on one machine.
    #[arg(long, default_value_t = 2_000)]
    single: usize,
    /// What chance follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
}

/// The rules, in the order of the columns.
const RULES: [Rule; 4] = [Rule::Greedy, Rule::Densest, Rule::Patient, Rule::Priced];
/// What is offered, as a multiple of what the capacity holds.
const LOADS: [f64; 4] = [0.5, 1.0, 2.0, 5.0];
/// The rule that a router follows where its file names none is at least this near to the best of all rules.
const DEFAULT_TO_BEST_MIN: f64 = 0.99;

/// Measures everything and prints it.
pub fn run(options: &Options) -> Result<(), PerfError> {
    if options.small == 0 || options.large == 0 || options.single == 0 || options.window == 0 {
        return Err(PerfError::Option("--small, --large, --single and --window are at least 1".to_owned()));
    }
    if options.programs < 2 {
        return Err(PerfError::Option("--programs is at least 2".to_owned()));
    }
    let mut report = Report::new(options.json);
    report.say(&format!("{}; seed {}; window {}\n", machine::describe(), options.seed, options.window));
    let mut shares = vec![Vec::new(); RULES.len()];
    report.heading(&format!("{} programs each, against the offline optimum", optimum::SMALL));
    compare(&mut report, options, optimum::SMALL, options.small, &mut shares);
    report.heading(&format!("{} programs each, against an upper bound of the optimum", options.programs));
    compare(&mut report, options, options.programs, options.large, &mut shares);

    let means: Vec<f64> = shares.iter().map(|shares| mean(shares)).collect();
    let best = means.iter().copied().fold(0.0, f64::max);
    let mut rows = vec![["rule", "mean of all shares"].map(str::to_owned).to_vec()];
    rows.extend(RULES.iter().zip(&means).map(|(rule, mean)| vec![rule.to_string(), format!("{mean:.3}")]));
    report.table(&rows);
    let default = RULES.iter().position(|rule| *rule == Rule::default()).map_or(0.0, |at| means[at]);
    report.bar(
        &format!("`{}`, the router's default, to the best rule", Rule::default()),
        default / best,
        "",
        Bar::AtLeast(DEFAULT_TO_BEST_MIN),
    );
    report.bars();
    known_bounds(&mut report, options);
    if report.missed().is_empty() { Ok(()) } else { Err(PerfError::Missed(report.missed().to_vec())) }
}

fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len().max(1) as f64
}

/// A row for each mix and load: what share of the optimum, or of its bound, each rule gets.
fn compare(report: &mut Report, options: &Options, programs: usize, count: usize, shares: &mut [Vec<f64>]) {
    let mut rows = vec![["mix", "offered"].map(str::to_owned).to_vec()];
    rows[0].extend(RULES.iter().map(|rule| format!("{rule}: mean (least)")));
    for mix in Mix::ALL {
        for load in LOADS {
            let mut row = vec![mix.to_string(), format!("{load} ×")];
            let mut of_rules = vec![Vec::new(); RULES.len()];
            for number in 0..count {
                let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
                let jobs = instance::make(mix, load, programs, &mut Chance::new(seed));
                let values: Vec<u64> = RULES.iter().map(|rule| simulate::value(&jobs, *rule, options.window)).collect();
                let most = values.iter().copied().max().unwrap_or(0);
                let best = match programs <= optimum::SMALL {
                    true => optimum::brute_force(&jobs) as f64,
                    false => optimum::upper_bound(&jobs, most as f64),
                };
                for (of_rule, value) in of_rules.iter_mut().zip(&values) {
                    of_rule.push(*value as f64 / best);
                }
                report.object(
                    "instance",
                    json!({
                        "mix": mix.to_string(), "load": load, "programs": programs, "seed": seed, "best": best,
                        "values": RULES.iter().zip(&values).map(|(r, v)| (r.to_string(), *v)).collect::<Vec<_>>(),
                    }),
                );
            }
            for (of_rule, all) in of_rules.iter().zip(shares.iter_mut()) {
                let mean = mean(of_rule);
                all.push(mean);
                row.push(format!("{mean:.3} ({:.3})", Spread::of(of_rule.iter().copied()).min));
            }
            rows.push(row);
        }
    }
    report.table(&rows);
}

/// The bounds that are known for one machine, and the worst that is found.
fn known_bounds(report: &mut Report, options: &Options) {
    report.heading("One machine: the optimum over what the rule gets, at most");
    for (number, slack) in single::SLACKS.into_iter().enumerate() {
        let mut chance = Chance::new(options.seed.wrapping_add(number as u64));
        for (name, bound, worst) in [
            ("greedy, not preempted", slack.greedy_bound(), single::worst_greedy(slack, options.single, &mut chance)),
            (
                "committed at once, preempted",
                slack.committed_bound(),
                single::worst_committed(slack, options.single, &mut chance),
            ),
        ] {
            let name = format!("{name}, slack {:.2}", slack.value());
            report.object(
                "bound",
                json!({"name": name, "bound": bound, "chance": worst.by_chance, "adversary": worst.by_adversary}),
            );
            report.bar(&format!("{name}: by chance"), worst.by_chance, "", Bar::AtMost(bound));
            report.bar(&format!("{name}: an adversary's"), worst.by_adversary, "", Bar::AtMost(bound));
        }
    }
    report.bars();
}
