//! `vinet-perf calibrate`: what each routine of the cost model takes on this machine, and the file of costs that follows.
//!
//! One unit is one cycle of the time-stamp counter. Each pass measures every routine in a process of its own, because
//! where code and tables happen to lie in memory stays the same for a process and differs between two; what counts is
//! the median of the passes, and their spread is told. Declared is half as much again.

mod costs_file;
mod routines;
pub mod sampler;

use crate::calibrate::sampler::Sampler;
use crate::machine;
use crate::run::{self, PerfError};
use crate::table::Spread;
use crate::verify::report::{Report, short};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// How often every routine is measured, each time in a process of its own.
    #[arg(long, default_value_t = 5)]
    passes: usize,
    /// What chance follows from: addresses and noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The core to measure on.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The file that is written, or held against the machine.
    #[arg(long, default_value = "configs/costs.toml")]
    costs: PathBuf,
    /// Write nothing: compare the file with this machine, and fail where a routine takes more than it declares.
    #[arg(long)]
    check: bool,
    /// Write nothing: only print.
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,
    /// Print one JSON object a line instead of the table.
    #[arg(long)]
    json: bool,
    /// Measure once, in this process.
    #[arg(long, hide = true)]
    one_pass: bool,
}

/// What is declared of what is measured.
const MARGIN: f64 = 1.5;
/// The longest that one pass may take.
const PASS_MAX: Duration = Duration::from_secs(300);

/// One routine.
pub struct Routine {
    /// Its key in the file.
    pub key: String,
    /// Cycles of the passes: the 99th percentile of each.
    pub cycles: Spread,
}

impl Routine {
    /// The cycles to declare.
    fn declared(&self) -> u32 {
        (self.cycles.median * MARGIN).ceil().clamp(1.0, f64::from(u32::MAX)) as u32
    }
    /// By how much of the median the passes differ, to either side.
    fn scatter(&self) -> f64 {
        let away = (self.cycles.max - self.cycles.median).max(self.cycles.median - self.cycles.min);
        if self.cycles.median > 0.0 { away / self.cycles.median } else { 0.0 }
    }
}

/// Measures; then prints, writes or compares.
pub fn run(options: &Options) -> Result<(), PerfError> {
    if options.passes == 0 {
        return Err(PerfError::Option("--passes is at least 1".to_owned()));
    }
    if options.one_pass {
        vinet_fastpath::pinning::pin_current_thread(options.core).map_err(|e| PerfError::Option(e.to_string()))?;
        let measured = routines::measure(options.seed, Sampler::default());
        let cycles: serde_json::Map<String, Value> =
            measured.cycles.into_iter().map(|(key, cycles)| (key.to_owned(), json!(cycles))).collect();
        println!(
            "{}",
            json!({"cycles": cycles, "batches": measured.tally.batches, "disturbed": measured.tally.disturbed})
        );
        return Ok(());
    }
    // Read first: a file that is wrong is told before minutes are spent.
    let present = if options.check { Some(costs_file::read(&options.costs)?) } else { None };
    let (routines, tally) = passes(options)?;
    if tally.share() > sampler::DISTURBED_SHARE_MAX {
        let why = format!("{} of {} samples were disturbed; let nothing else run", tally.disturbed, tally.batches);
        return Err(PerfError::Void { what: "calibrate".to_owned(), why });
    }

    let report = Report::new(options.json);
    report.say(&format!(
        "{}; {} passes, seed {}; {} of {} samples disturbed and left out.\n",
        machine::describe(),
        options.passes,
        options.seed,
        short(tally.disturbed as f64),
        short(tally.batches as f64)
    ));
    let last = if present.is_some() { "in the file" } else { "to declare" };
    let mut rows = vec![["routine", "cycles, p99", "passes differ by", last, ""].map(str::to_owned).to_vec()];
    let mut dearer = Vec::new();
    for routine in &routines {
        let figure = present.as_ref().map(|costs| costs_file::figure(costs, &routine.key));
        let declared = figure.unwrap_or(routine.declared());
        let is_dearer = routine.cycles.median > f64::from(declared);
        let verdict = if is_dearer { "DEARER" } else { "" };
        report.object(
            "routine",
            json!({
                "key": routine.key, "p99_cycles": routine.cycles.median, "least": routine.cycles.min,
                "most": routine.cycles.max, "declared": declared, "dearer": is_dearer,
            }),
        );
        rows.push(vec![
            routine.key.clone(),
            format!("{:.1} [{:.1} … {:.1}]", routine.cycles.median, routine.cycles.min, routine.cycles.max),
            format!("{:.0} %", routine.scatter() * 100.0),
            short(f64::from(declared)),
            verdict.to_owned(),
        ]);
        if is_dearer {
            dearer.push(format!(
                "{}: {:.1} cycles, {declared} in {}",
                routine.key,
                routine.cycles.median,
                options.costs.display()
            ));
        }
    }
    report.table(&rows);
    if present.is_some() {
        return if dearer.is_empty() { Ok(()) } else { Err(PerfError::Missed(dearer)) };
    }
    if !options.dry_run {
        let declared = |key: &str| routines.iter().find(|r| r.key == key).map(Routine::declared);
        let head = costs_file::Head {
            machine: machine::describe(),
            command: format!("vinet-perf calibrate --passes {} --seed {}", options.passes, options.seed),
            passes: options.passes,
        };
        costs_file::write(&options.costs, &head, declared)?;
        report.say(&format!("{} is written.", options.costs.display()));
    }
    Ok(())
}

/// All passes, by routine.
fn passes(options: &Options) -> Result<(Vec<Routine>, sampler::Tally), PerfError> {
    let own = std::env::current_exe().map_err(|error| PerfError::File { path: "vinet-perf".into(), error })?;
    let mut tally = sampler::Tally::default();
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); costs_file::KEYS.len()];
    for pass in 1..=options.passes {
        let mut command = Command::new(&own);
        command.args(["calibrate", "--one-pass", "--seed", &options.seed.to_string()]);
        command.args(["--core", &options.core.to_string()]);
        let text = run::output("calibrate", command, PASS_MAX)?;
        let failed = || PerfError::Failed { what: "calibrate".to_owned(), words: run::last_lines(&text) };
        let line = text.lines().find(|line| line.starts_with('{')).ok_or_else(failed)?;
        let measured: Value = serde_json::from_str(line).map_err(|_| failed())?;
        for ((key, _), figures) in costs_file::KEYS.iter().zip(&mut figures) {
            figures.push(measured["cycles"][key].as_f64().ok_or_else(failed)?);
        }
        tally.batches += measured["batches"].as_u64().ok_or_else(failed)?;
        tally.disturbed += measured["disturbed"].as_u64().ok_or_else(failed)?;
        eprintln!("pass {pass}/{} is done", options.passes);
    }
    let keys = costs_file::KEYS.iter().map(|(key, _)| (*key).to_owned());
    Ok((keys.zip(figures).map(|(key, figures)| Routine { key, cycles: Spread::of(figures) }).collect(), tally))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_as_much_again_is_declared_and_never_nothing() {
        let declared = |figures: [f64; 3]| Routine { key: "x".into(), cycles: Spread::of(figures) }.declared();
        assert_eq!(declared([1.0, 100.0, 7.1]), 11);
        assert_eq!(declared([0.0, 0.0, 0.0]), 1);
    }

    #[test]
    fn the_scatter_is_of_the_pass_furthest_from_the_median() {
        let scatter = |figures: [f64; 3]| Routine { key: "x".into(), cycles: Spread::of(figures) }.scatter();
        assert_eq!(scatter([80.0, 100.0, 110.0]), 0.2);
        assert_eq!(scatter([0.0, 0.0, 0.0]), 0.0);
    }
}
