//! `vinet-perf search`: the rates that a system carries without loss and with a little, and its latency below them.

pub mod mlr;

use crate::generate::engine::{Outcome as TrialOutcome, Settings};
use crate::generate::rate::{Pace, Rate};
use crate::generate::{Traffic, describe, latency_plot, nanoseconds};
use crate::latency::Latencies;
use crate::plot::{Axis, Plot};
use crate::progress::{Bar, Interrupt};
use crate::record::Record;
use crate::run::PerfError;
use crate::table::markdown;
use crate::testbed::{self, Testbed};
use clap::Args;
use mlr::{End, Goal, Limits, Next, Outcome, Search, Trial};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long is waited for the last packets of a trial.
const DRAIN_NS: u64 = 100_000_000;
/// The packets a second that show whether anything comes back at all.
const PROBE_PPS: f64 = 1_000.0;

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// Loss ratios to search for, in percent.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.5])]
    loss: Vec<f64>,
    /// The least load.
    #[arg(long, default_value = "1kpps")]
    from: Rate,
    /// The largest load; it sinks by itself to what the generator can offer.
    #[arg(long, default_value = "20Mpps")]
    to: Rate,
    /// How far the bounds may lie apart, in percent of the upper one.
    #[arg(long, default_value_t = 0.5)]
    width: f64,
    /// The duration of a full-length trial, in seconds.
    #[arg(long, default_value_t = 1.0)]
    trial: f64,
    /// The duration of the first trials, in seconds; without it that of the full-length ones.
    #[arg(long)]
    initial_trial: Option<f64>,
    /// How long full-length trials at one load take together, in seconds.
    #[arg(long, default_value_t = 21.0)]
    duration_sum: f64,
    /// The share of the trials' time that may be bad, in percent.
    #[arg(long, default_value_t = 50.0)]
    exceed: f64,
    /// Trials at the most.
    #[arg(long, default_value_t = 500)]
    trials_max: u32,
    /// Seconds of trials at the most.
    #[arg(long, default_value_t = 1800.0)]
    seconds_max: f64,
    /// At which parts of the rate with the most loss latency is measured, in percent.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 50, 90])]
    latency_at: Vec<u32>,
    /// For how long each, in seconds.
    #[arg(long, default_value_t = 5.0)]
    latency_seconds: f64,
    /// The run's folder; without it one in target/perf/runs.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print one JSON object instead of the tables.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    traffic: Traffic,
    #[command(flatten)]
    testbed: testbed::Options,
}

/// A loss of nothing is the no-drop rate; any other is a partial drop rate.
fn goal_name(loss_percent: f64) -> String {
    if loss_percent == 0.0 { "NDR".to_owned() } else { format!("PDR {loss_percent} %") }
}

fn goals(options: &Options) -> Vec<Goal> {
    let goal = |&loss: &f64| Goal {
        name: goal_name(loss),
        loss_ratio: loss / 100.0,
        exceed_ratio: options.exceed / 100.0,
        final_trial_s: options.trial,
        initial_trial_s: options.initial_trial.unwrap_or(options.trial),
        duration_sum_s: options.duration_sum,
        width: options.width / 100.0,
    };
    options.loss.iter().map(goal).collect()
}

/// A load in packets a second.
fn load(rate: Rate, option: &str) -> Result<u64, PerfError> {
    match rate {
        Rate::Packets(pps) if pps >= 1.0 => Ok(pps as u64),
        _ => Err(PerfError::Option(format!("{option}: loads are searched in packets a second; expected e.g. 1Mpps"))),
    }
}

/// Searches, and reports.
pub fn run(options: &Options) -> Result<(), PerfError> {
    nanoseconds("--trial", options.trial)?;
    nanoseconds("--seconds-max", options.seconds_max)?;
    let latency_ns = nanoseconds("--latency-seconds", options.latency_seconds)?;
    if options.latency_at.iter().any(|part| !(1..=100).contains(part)) {
        return Err(PerfError::Option("--latency-at: parts are from 1 to 100 percent".to_owned()));
    }
    let limits = Limits {
        load_min: load(options.from, "--from")?,
        load_max: load(options.to, "--to")?,
        trials_max: options.trials_max,
        seconds_max: options.seconds_max,
    };
    let goals = goals(options);
    let search = Search::new(goals.clone(), limits).map_err(PerfError::Option)?;
    let interrupt = Interrupt::listen()?;
    let testbed = Testbed::start(&options.testbed)?;
    let plan = options.traffic.plan(testbed.link)?;
    let described = json!({
        "loss_percent": options.loss, "from_pps": limits.load_min, "to_pps": limits.load_max,
        "width_percent": options.width, "trial_s": options.trial, "initial_trial_s": options.initial_trial,
        "duration_sum_s": options.duration_sum, "exceed_percent": options.exceed, "trials_max": limits.trials_max,
        "seconds_max": limits.seconds_max, "traffic": options.traffic.describe(), "under": testbed.name,
    });
    let record = Record::create(options.out.as_deref(), "search", described, options.traffic.seed)?;
    let mut notes = testbed.notes.clone();
    notes.extend(plan.notes.clone());
    let mut session = Session { testbed, plan, record, interrupt, tag: 0, started: Instant::now() };
    session.probe()?;
    let (outcomes, search) = session.search(search, options.seconds_max)?;
    if search.is_generator_bound() {
        notes.push(format!(
            "more than {} pps could not be offered: the largest load is the generator's, not the system's",
            search.load_max()
        ));
    }
    let latencies = session.latencies(&outcomes, &options.latency_at, latency_ns)?;
    let Session { testbed, plan, record, interrupt, .. } = session;
    let is_stopped = interrupt.is_wanted();
    let frame_bits = plan.wire_len_mean() * 8.0;
    let goal_results: Vec<Value> = goals
        .iter()
        .zip(&outcomes)
        .map(|(goal, outcome)| {
            json!({
                "goal": goal.name, "loss_ratio": goal.loss_ratio, "lower_pps": outcome.lower, "upper_pps": outcome.upper,
                "conditional_throughput_pps": outcome.conditional_throughput, "end": format!("{:?}", outcome.end),
                "lower_bps_of_frames": outcome.lower.map(|load| load as f64 * frame_bits),
            })
        })
        .collect();
    let latency_results: Vec<Value> = latencies
        .iter()
        .map(|(name, pps, outcome)| json!({"at": name, "pps": pps, "trial": describe(outcome)}))
        .collect();
    let curves: Vec<(&str, &Latencies)> =
        latencies.iter().map(|(name, _, outcome)| (name.as_str(), &outcome.latencies)).collect();
    if !curves.is_empty() {
        record.plot("latency", &latency_plot(&curves))?;
    }
    let results = json!({
        "goals": goal_results, "latency": latency_results, "trials": search.trials(),
        "generator_bound": search.is_generator_bound(), "mean_frame_bytes": plan.wire_len_mean(), "notes": notes,
        "under": testbed.end()?,
    });
    let dir = record.dir().display().to_string();
    let incomplete = if is_stopped {
        Some("it was interrupted")
    } else if outcomes.iter().any(|outcome| outcome.end == End::Unfinished) {
        Some("trials or time were used up before the bounds were close enough")
    } else {
        None
    };
    record.finish(results.clone(), incomplete)?;
    if options.json {
        println!("{results}");
    } else {
        notes.iter().for_each(|note| println!("note: {note}"));
        println!("{}", goal_table(&goals, &outcomes, frame_bits));
        if !latencies.is_empty() {
            println!("{}", latency_table(&latencies));
        }
        println!("{} trials\n{dir}", search.trials());
    }
    match incomplete {
        Some(_) if is_stopped => Err(PerfError::Interrupted(dir)),
        Some(why) => Err(PerfError::Void { what: "the search".to_owned(), why: why.to_owned() }),
        None => Ok(()),
    }
}

/// What a search needs while it runs.
struct Session {
    testbed: Testbed,
    plan: crate::generate::plan::Plan,
    record: Record,
    interrupt: Interrupt,
    tag: u16,
    started: Instant,
}

impl Session {
    fn trial(&mut self, pps: f64, duration_ns: u64) -> Result<TrialOutcome, PerfError> {
        self.tag = self.tag.wrapping_add(1);
        let settings = Settings {
            pace: Pace::packets(pps),
            duration_ns,
            drain_ns: DRAIN_NS,
            ring_full: self.testbed.ring_full,
            sample_ns: duration_ns.div_ceil(4),
            tag: self.tag,
        };
        self.testbed.trial(&self.plan, &settings, &self.interrupt, |_, _| ())
    }

    /// Whether anything comes back: a search over a cut cable would tell of the least load.
    fn probe(&mut self) -> Result<(), PerfError> {
        let outcome = self.trial(PROBE_PPS, 200_000_000)?;
        if outcome.arrivals.received > 0 || outcome.is_stopped {
            return Ok(());
        }
        let why = format!(
            "of {} packets none came back ({} of others did): look at links, addresses (--dst-mac) and routes",
            outcome.sent, outcome.foreign
        );
        Err(PerfError::Void { what: self.testbed.name.clone(), why })
    }

    fn search(&mut self, mut search: Search, seconds_max: f64) -> Result<(Vec<Outcome>, Search), PerfError> {
        let bar = Bar::new((seconds_max * 1000.0) as u64);
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut seconds = 0.0;
        while let Next::Measure { load, duration_s } = search.next() {
            bar.show((seconds * 1000.0) as u64, format!("trial {} at {load} pps", search.trials() + 1));
            let outcome = self.trial(load as f64, (duration_s * 1e9) as u64)?;
            if self.interrupt.is_wanted() {
                break;
            }
            seconds += duration_s;
            let mut sample = describe(&outcome);
            sample["load_pps"] = json!(load);
            sample["at_s"] = json!(self.started.elapsed().as_secs_f64());
            self.record.sample(&sample)?;
            if outcome.void().is_some() {
                search.not_offered(load, duration_s, outcome.offered_pps());
            } else {
                points.push((load as f64, outcome.loss_ratio() * 100.0));
                search.measured(Trial { load, duration_s, loss_ratio: outcome.loss_ratio() });
            }
        }
        drop(bar);
        let outcomes = search.outcomes();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let marks = outcomes.iter().filter_map(|outcome| outcome.lower).map(|load| (load as f64, String::new()));
        self.record.plot(
            "loss",
            &Plot {
                title: "Loss of each trial; lower bounds are marked".to_owned(),
                x: ("packets a second".to_owned(), Axis::Linear),
                y: ("percent lost".to_owned(), Axis::Linear),
                marks: marks.collect(),
                lines: vec![("trials".to_owned(), points)],
            },
        )?;
        Ok((outcomes, search))
    }

    /// A trial at each part of the last goal's lower bound.
    fn latencies(
        &mut self,
        outcomes: &[Outcome],
        parts: &[u32],
        duration_ns: u64,
    ) -> Result<Vec<(String, f64, TrialOutcome)>, PerfError> {
        let Some(whole) = outcomes.iter().filter_map(|outcome| outcome.lower).max() else { return Ok(Vec::new()) };
        let mut measured = Vec::new();
        for part in parts {
            if self.interrupt.is_wanted() {
                break;
            }
            let pps = whole as f64 * f64::from(*part) / 100.0;
            let start = self.started.elapsed();
            let outcome = self.trial(pps, duration_ns)?;
            let name = format!("{part} %");
            if outcome.latencies.count() > 0 {
                let time = Duration::from_nanos(outcome.duration_ns);
                self.record.histogram(&format!("latency-{part}"), start, time, &outcome.latencies)?;
            }
            let mut sample = describe(&outcome);
            sample["latency_at_percent"] = json!(part);
            self.record.sample(&sample)?;
            measured.push((name, pps, outcome));
        }
        Ok(measured)
    }
}

fn goal_table(goals: &[Goal], outcomes: &[Outcome], frame_bits: f64) -> String {
    let heads =
        ["goal", "lower bound, pps", "upper bound, pps", "conditional throughput, pps", "Gbit/s of frames", "end"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let cell = |value: Option<f64>, places: usize| value.map_or("—".to_owned(), |value| format!("{value:.places$}"));
    for (goal, outcome) in goals.iter().zip(outcomes) {
        let end = match outcome.end {
            End::Reached => "both bounds",
            End::MaxLoad => "carries the largest load that was offered",
            End::MinLoad => "loses more at the least load",
            End::Unfinished => "unfinished",
        };
        rows.push(vec![
            goal.name.clone(),
            cell(outcome.lower.map(|load| load as f64), 0),
            cell(outcome.upper.map(|load| load as f64), 0),
            cell(outcome.conditional_throughput, 0),
            cell(outcome.lower.map(|load| load as f64 * frame_bits / 1e9), 3),
            end.to_owned(),
        ]);
    }
    markdown(&rows)
}

fn latency_table(latencies: &[(String, f64, TrialOutcome)]) -> String {
    let heads = ["of the rate with the most loss", "pps", "lost", "median, µs", "90 %", "99 %", "99.9 %", "most"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (name, pps, outcome) in latencies {
        let mut row = vec![name.clone(), format!("{pps:.0}"), outcome.lost().to_string()];
        for percent in [50.0, 90.0, 99.0, 99.9, 100.0] {
            let count = outcome.latencies.count();
            let us = outcome.latencies.percentile(percent) as f64 / 1e3;
            row.push(if count == 0 { "—".to_owned() } else { format!("{us:.1}") });
        }
        rows.push(row);
    }
    markdown(&rows)
}
