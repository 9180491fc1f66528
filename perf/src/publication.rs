//! `vinet-perf publication`: what it takes to change what workers do, with a million programs installed and every worker
//! at full load.
//!
//! One install is timed from the call until its last use: until every worker has taken over the table that holds it, and
//! the worker has dropped a packet for it that was there all the time, whichever is later. The flow that it drops is in
//! every burst. A batch is timed from making it of ready programs until every worker has taken it over. The rate of
//! packets while programs come and go is held against that of quiet windows in between.

use crate::pairs::Pairs;
use crate::rig::{self, Rig, RigOptions, RigSettings};
use crate::run::PerfError;
use crate::table::Spread;
use crate::verify::chance::Chance;
use crate::verify::report::{Bar, Report, short};
use crate::{capture, machine};
use clap::Args;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vinet_fastpath::flow_table::{Batch, Install, InstallId};
use vinet_fastpath::settings::TableLimits;
use vinet_pktops::Executable;
use vinet_trusted::addr::Addr;
use vinet_trusted::policy::OverBudget;

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// Programs that are installed before anything is measured, each of an owner of its own.
    #[arg(long, default_value_t = 1_000_000)]
    programs: u32,
    /// Installs that are timed one by one.
    #[arg(long, default_value_t = 2_000)]
    installs: usize,
    /// Programs of one batch.
    #[arg(long, default_value_t = 10_000)]
    batch: u32,
    /// Batches that are timed.
    #[arg(long, default_value_t = 11)]
    batches: usize,
    /// Pairs of a quiet window and one in which programs come and go.
    #[arg(long, default_value_t = 15)]
    pairs: usize,
    /// How long each window is, in milliseconds.
    #[arg(long, default_value_t = 500)]
    window_ms: u64,
    /// Installs a second, and as many withdrawals, in the windows with changes.
    #[arg(long, default_value_t = 1_000)]
    churn: u32,
    /// The cores of the workers.
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    cores: Vec<usize>,
    /// What the waits between installs follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    rig: RigOptions,
    /// Print one JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
}

/// The packets of the capture: the flow that is dropped is every [`HOT_EVERY`]th, the others take turns.
const CAPTURE_PACKETS: usize = 2048;
/// A burst is of 32 packets.
const HOT_EVERY: usize = 16;
/// The owners of the programs that are there from the start, beside the destinations of the capture.
const OWNERS: u32 = 0x0b00_0000;
/// The owners of the programs of a batch.
const BATCH_OWNERS: u32 = 0x0d00_0000;
/// The source that sends nothing.
const SILENT: Addr = Addr::V4(0xac10_0000);
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest wait between two installs: they shall not keep step with anything.
const GAP_MAX_US: usize = 300;
/// Programs that are there at once while programs come and go.
const CHURN_LIVE: usize = 16;

/// What is known about a rig whose table is filled.
struct Bench<'a> {
    rig: Rig,
    silent: Pairs,
    next: u64,
    options: &'a Options,
}

/// Microseconds of one install.
struct Timed {
    /// Until the call returns.
    call_us: f64,
    /// Until every worker has taken the table over.
    passed_us: f64,
    /// Until a packet was dropped for it, and every worker has taken the table over.
    used_us: f64,
}

/// A figure of an install, with what it is called.
type Column = (&'static str, fn(&Timed) -> f64);

/// Measures, and prints each figure against its bar.
pub fn run(options: &Options) -> Result<(), PerfError> {
    if options.cores.is_empty() || options.installs < 100 || options.batches == 0 || options.pairs == 0 {
        let words = "--cores names at least one, --installs is at least 100, --batches and --pairs at least 1";
        return Err(PerfError::Option(words.to_owned()));
    }
    if machine::load() > 0.5 {
        eprintln!("note: the load average is {:.2}: other work makes these figures worse", machine::load());
    }
    let started = Instant::now();
    let mut bench = Bench::start(options)?;
    let setup_s = started.elapsed().as_secs_f64();
    let programs = bench.rig.table.len();
    let bytes = bench.rig.table.memory_bytes();
    eprintln!("{programs} programs are installed after {setup_s:.1} s");

    let singles = bench.singles()?;
    eprintln!("{} installs are timed", singles.len());
    let batches = bench.batches()?;
    eprintln!("{} batches are timed", batches.len());
    let rates = bench.rates()?;
    bench.rig.stop()?;

    let mut report = Report::new(options.json);
    report.say(&format!("{}; {} worker(s), 64 B.\n", machine::describe(), options.cores.len()));
    report.object("publication", json!({"machine": machine::describe(), "programs": programs, "setup_s": setup_s}));
    report.say(&format!(
        "{} programs of as many owners were checked, lowered and installed in {setup_s:.1} s.\n",
        short(programs as f64)
    ));
    let mut rows = vec![["one install, µs", "p50", "p99", "most"].map(str::to_owned).to_vec()];
    let mut p99_us = 0.0;
    let columns: [Column; 3] = [
        ("the call", |t| t.call_us),
        ("until every worker has taken it over", |t| t.passed_us),
        ("until its last use", |t| t.used_us),
    ];
    for (name, of) in columns {
        let mut figures: Vec<f64> = singles.iter().map(of).collect();
        figures.sort_by(f64::total_cmp);
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|q| quantile(&figures, q));
        rows.push(vec![name.to_owned(), format!("{p50:.1}"), format!("{p99:.1}"), format!("{most:.1}")]);
        report.object("install", json!({"until": name, "p50_us": p50, "p99_us": p99, "max_us": most}));
        p99_us = p99;
    }
    report.table(&rows);
    let batch = Spread::of(batches.iter().copied());
    let ratio = Spread::of(rates.iter().map(|(quiet, busy)| busy / quiet));
    let quiet = Spread::of(rates.iter().map(|(quiet, _)| quiet / 1e6));
    report.object("batch", json!({"programs": options.batch, "median_ms": batch.median, "max_ms": batch.max}));
    report.object("rates", json!({"pairs_pps": rates, "ratio": ratio.median, "min": ratio.min, "max": ratio.max}));
    report.say(&format!(
        "A batch of {} programs: {:.1} ms [{:.1} … {:.1}]. Packets: {:.1} Mpps [{:.1} … {:.1}] in quiet windows; with {} \
         installs and as many withdrawals a second {:.3} of that [{:.3} … {:.3}].\n",
        short(f64::from(options.batch)),
        batch.median,
        batch.min,
        batch.max,
        quiet.median,
        quiet.min,
        quiet.max,
        short(f64::from(options.churn)),
        ratio.median,
        ratio.min,
        ratio.max
    ));
    report.bar("one install, call to last use, p99", p99_us, "µs", Bar::AtMost(100.0));
    report.bar("the slowest atomic batch", batch.max, "ms", Bar::AtMost(20.0));
    report.bar("packet rate while programs come and go", ratio.median, "", Bar::AtLeast(0.97));
    report.bar("table memory of a program", bytes as f64 / programs as f64, "B", Bar::AtMost(96.0));
    report.bars();
    match report.missed() {
        [] => Ok(()),
        missed => Err(PerfError::Missed(missed.to_vec())),
    }
}

fn failed(words: impl std::fmt::Display) -> PerfError {
    PerfError::Failed { what: "vinet".to_owned(), words: words.to_string() }
}

/// The figure that a share of them does not exceed. They are sorted, and there is one.
fn quantile(figures: &[f64], share: f64) -> f64 {
    figures[((figures.len() as f64 * share).ceil() as usize).clamp(1, figures.len()) - 1]
}

impl Bench<'_> {
    /// A router under load with all its programs.
    fn start(options: &Options) -> Result<Bench<'_>, PerfError> {
        let pcap = options.rig.capture("publication")?;
        let order = (0..CAPTURE_PACKETS).map(|i| if i % HOT_EVERY == 0 { 0 } else { i % capture::FLOWS });
        capture::write_in_order(&pcap, 64, capture::FLOWS, order)?;
        let policy = options.rig.policy()?;
        let silent = Pairs::against(SILENT, &policy).map_err(failed)?;
        let room = options.programs + 4 * options.batch + 1024;
        let settings = RigSettings {
            name: "vinet-perf-publication",
            cores: options.cores.clone(),
            control_core: options.rig.control_core,
            capture: capture::Capture::Standard,
            memory: options.rig.memory(),
            receive: rig::receive_device(&pcap, options.cores.len()),
            send: rig::send_device(),
            table: TableLimits { programs_max: room, cells_max: 2 * room, ..TableLimits::default() },
        };
        let rig = Rig::start(settings, |_| Ok(()))?;
        let mut bench = Bench { rig, silent, next: 0, options };
        // The destinations of the capture are among the owners: their packets are looked up beside a program of theirs.
        let hosts = 508u32.min(options.programs);
        let owners = (0..hosts).map(|host| 0xc612_0001 + (host % 2) * 256 + host / 2);
        let owners: Vec<u32> = owners.chain(OWNERS..OWNERS + options.programs - hosts).collect();
        for some in owners.chunks(10_000) {
            let mut batch = Batch::new();
            for &owner in some {
                let executable = bench.silent.of(Addr::V4(owner)).map_err(failed)?;
                batch.install(bench.named(executable));
            }
            bench.rig.table.apply(batch).map_err(failed)?;
            bench.rig.table.reclaim();
        }
        Ok(bench)
    }

    fn named(&mut self, executable: Arc<Executable>) -> Install {
        self.next += 1;
        Install {
            id: InstallId(self.next),
            executable,
            packet_rate: 0,
            over_budget: OverBudget::Forward,
            generate_key: [0; 32],
            monitor: false,
        }
    }

    /// Polls until something holds.
    fn until(&mut self, mut holds: impl FnMut(&mut Rig) -> bool) -> Result<(), PerfError> {
        let end = Instant::now() + PATIENCE;
        while !holds(&mut self.rig) {
            if Instant::now() > end {
                return Err(failed("a worker does not take over what is published"));
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Installs one by one, each of which drops the packets of the flow that is in every burst.
    fn singles(&mut self) -> Result<Vec<Timed>, PerfError> {
        let (src, dst) = capture::pair(0);
        let policy = self.options.rig.policy()?;
        let hot = Pairs::against(src, &policy).map_err(failed)?;
        let mut chance = Chance::new(self.options.seed);
        let mut timed = Vec::with_capacity(self.options.installs);
        for _ in 0..self.options.installs {
            // A program of its own each time, checked beforehand.
            let install = self.named(hot.of(dst).map_err(failed)?);
            let id = install.id;
            std::thread::sleep(Duration::from_micros(chance.below(GAP_MAX_US) as u64));
            let start = Instant::now();
            self.rig.table.install(install).map_err(failed)?;
            let call = start.elapsed();
            self.until(|rig| rig.table.is_taken_over())?;
            let passed = start.elapsed();
            self.until(|rig| rig.table.program_counts(id).is_some_and(|counts| counts.discarded_packets > 0))?;
            let us = |time: Duration| time.as_nanos() as f64 / 1000.0;
            timed.push(Timed { call_us: us(call), passed_us: us(passed), used_us: us(start.elapsed()) });
            self.rig.table.withdraw(id).map_err(failed)?;
            self.until(|rig| rig.table.is_taken_over())?;
            self.rig.table.reclaim();
        }
        Ok(timed)
    }

    /// Milliseconds of batches.
    fn batches(&mut self) -> Result<Vec<f64>, PerfError> {
        let mut times = Vec::new();
        for _ in 0..self.options.batches {
            let mut ready = Vec::new();
            for number in 0..self.options.batch {
                let executable = self.silent.of(Addr::V4(BATCH_OWNERS + number)).map_err(failed)?;
                ready.push(self.named(executable));
            }
            let ids: Vec<InstallId> = ready.iter().map(|install| install.id).collect();
            let start = Instant::now();
            let mut batch = Batch::new();
            for install in ready {
                batch.install(install);
            }
            self.rig.table.apply(batch).map_err(failed)?;
            self.until(|rig| rig.table.is_taken_over())?;
            times.push(start.elapsed().as_nanos() as f64 / 1e6);
            let mut batch = Batch::new();
            for id in ids {
                batch.withdraw(id);
            }
            self.rig.table.apply(batch).map_err(failed)?;
            self.until(|rig| {
                rig.table.reclaim();
                rig.table.retired() == 0
            })?;
        }
        Ok(times)
    }

    /// Packets a second in pairs of windows: quiet, and with programs that come and go. Which is first alternates.
    fn rates(&mut self) -> Result<Vec<(f64, f64)>, PerfError> {
        let mut rates = Vec::new();
        for pair in 0..self.options.pairs {
            let (quiet, busy) = if pair % 2 == 0 {
                let quiet = self.rate(0)?;
                (quiet, self.rate(self.options.churn)?)
            } else {
                let busy = self.rate(self.options.churn)?;
                (self.rate(0)?, busy)
            };
            rates.push((quiet, busy));
        }
        Ok(rates)
    }

    /// Packets a second of one window, with so many installs and withdrawals a second.
    fn rate(&mut self, churn: u32) -> Result<f64, PerfError> {
        let length = Duration::from_millis(self.options.window_ms);
        let changes = (u128::from(churn) * length.as_millis() / 1000) as u32;
        // Beside programs of these owners that match no packet, and with no packet that matches.
        let mut ready = Vec::new();
        for number in 0..changes + CHURN_LIVE as u32 {
            let executable = self.silent.of(Addr::V4(BATCH_OWNERS + number)).map_err(failed)?;
            ready.push(self.named(executable));
        }
        let mut live = std::collections::VecDeque::new();
        let mut ready = ready.into_iter();
        for install in ready.by_ref().take(if churn == 0 { 0 } else { CHURN_LIVE }) {
            live.push_back(install.id);
            self.rig.table.install(install).map_err(failed)?;
        }
        let (before, start) = (self.rig.counters.snapshot(), Instant::now());
        for number in 0..changes {
            let due = start + length * number / changes;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if let (Some(install), Some(id)) = (ready.next(), live.pop_front()) {
                live.push_back(install.id);
                self.rig.table.install(install).map_err(failed)?;
                self.rig.table.withdraw(id).map_err(failed)?;
            }
            if number % 10 == 0 {
                self.rig.table.reclaim();
            }
        }
        std::thread::sleep((start + length).saturating_duration_since(Instant::now()));
        let (after, elapsed) = (self.rig.counters.snapshot(), start.elapsed());
        if elapsed > length + length / 20 {
            let why = format!("{churn} changes a second took {elapsed:?} instead of {length:?}");
            return Err(PerfError::Void { what: "vinet".to_owned(), why });
        }
        for id in live {
            self.rig.table.withdraw(id).map_err(failed)?;
        }
        self.until(|rig| {
            rig.table.reclaim();
            rig.table.retired() == 0
        })?;
        Ok((rig::sent(&after) - rig::sent(&before)) as f64 / elapsed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_figures() {
        let figures: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|q| quantile(&figures, q)), [1.0, 100.0, 198.0, 200.0]);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
    }
}
