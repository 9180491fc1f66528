//! `vinet-perf spam`: what a spam filter costs a packet, stream tracking included, beside Hyperscan's search alone.
//!
//! In every round: Hyperscan over the payloads, this router without programs, and this router with one filter that is
//! given every packet. What counts is the median over rounds of (cost with the filter − cost without) / Hyperscan.

pub mod segments;

use crate::run::{self, PerfError};
use crate::table::{Spread, markdown};
use crate::{machine, peers};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The most that the filter may add to a packet, in searches of Hyperscan.
const RATIO_MAX: f64 = 1.8;

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// Rounds: each runs the peer, the router without programs and the router with the filter.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// The words of the filter, which no payload holds.
    #[arg(long, value_delimiter = ',', default_values_t = ["lottery".to_owned(), "winner".to_owned()])]
    words: Vec<String>,
    /// The core that is measured.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The core of everything else.
    #[arg(long, default_value_t = 0)]
    control_core: usize,
    /// The policy that the filter is proven to keep to.
    #[arg(long, default_value = "configs/policy/end-user.toml")]
    policy: PathBuf,
    /// Where the capture and the built peer are kept.
    #[arg(long, default_value = "target/perf")]
    dir: PathBuf,
    /// Print one JSON object with every figure instead of the table.
    #[arg(long)]
    json: bool,
}

/// One round, in nanoseconds a packet.
#[derive(Clone, Copy)]
struct Round {
    hyperscan: f64,
    without: f64,
    with: f64,
}

impl Round {
    fn added(&self) -> f64 {
        self.with - self.without
    }
    fn ratio(&self) -> f64 {
        self.added() / self.hyperscan
    }
}

/// Runs the benchmark and prints its table.
pub fn run(options: &Options) -> Result<(), PerfError> {
    if options.rounds == 0 || options.seconds < 2 || options.words.is_empty() {
        return Err(PerfError::Option("--rounds is at least 1, --seconds at least 2, --words names one".to_owned()));
    }
    let file = |path: &Path, error| PerfError::File { path: path.to_owned(), error };
    std::fs::create_dir_all(&options.dir).map_err(|e| file(&options.dir, e))?;
    let dir = options.dir.canonicalize().map_err(|e| file(&options.dir, e))?;
    let peer = peers::hyperscan::build(&dir)?;
    if machine::load() > 0.5 {
        eprintln!("note: the load average is {:.2}: other work makes these figures worse and unequal", machine::load());
    }
    let pcap = dir.join("segments.pcap");
    segments::write(&pcap)?;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let hyperscan = peers::hyperscan::scan_ns(
            &peer,
            options.core,
            options.seconds,
            &pcap,
            segments::HEADERS_LEN,
            &options.words,
        )?;
        let without = router(options, &pcap, &[])?;
        let with = router(options, &pcap, &options.words)?;
        let round = Round { hyperscan, without, with };
        eprintln!(
            "round {number}/{}: Hyperscan {hyperscan:.1} ns, without the filter {without:.1} ns, with it {with:.1} ns: {:.2}",
            options.rounds,
            round.ratio()
        );
        rounds.push(round);
    }
    let ratio = Spread::of(rounds.iter().map(Round::ratio));
    if options.json {
        println!("{}", as_json(options, &rounds, ratio));
    } else {
        println!("{}", as_table(options, &rounds, ratio));
    }
    if ratio.median > RATIO_MAX {
        let what = format!("the filter costs {:.2} of Hyperscan's search, the bar is {RATIO_MAX}", ratio.median);
        return Err(PerfError::Missed(vec![what]));
    }
    Ok(())
}

/// One run of this router with a filter of `words`, or without: nanoseconds a packet.
fn router(options: &Options, pcap: &Path, words: &[String]) -> Result<f64, PerfError> {
    let what = if words.is_empty() { "vinet, no programs" } else { "vinet, a spam filter" };
    let own = std::env::current_exe().map_err(|error| PerfError::File { path: "vinet-perf".into(), error })?;
    let mut command = Command::new(own);
    command.args(["dut", "--firewalls", "0", "--segments"]);
    for (flag, value) in [
        ("--core", options.core.to_string()),
        ("--control-core", options.control_core.to_string()),
        ("--seconds", options.seconds.to_string()),
        ("--policy", options.policy.display().to_string()),
        ("--receive", format!("net_pcap0,rx_pcap={},infinite_rx=1", pcap.display())),
        ("--send", "net_null0,no-rx=1".to_owned()),
    ] {
        command.args([flag, &value]);
    }
    for word in words {
        command.args(["--word", word]);
    }
    let text = run::output(what, command, Duration::from_secs(options.seconds + 60))?;
    let failed = || PerfError::Failed { what: what.to_owned(), words: run::last_lines(&text) };
    let line = text.lines().find(|line| line.starts_with('{')).ok_or_else(failed)?;
    let figures: serde_json::Value = serde_json::from_str(line).map_err(|_| failed())?;
    let rates = [&figures["sent_pps"][0], &figures["sent_pps"][1]].map(serde_json::Value::as_f64);
    let (Some(back), Some(rate)) = (rates[0], rates[1]) else { return Err(failed()) };
    let seen = figures["seen"].as_u64().ok_or_else(failed)?;
    let received = figures["received"].as_u64().ok_or_else(failed)?;
    // A burst may lie between the two counts, at either end.
    let all = words.is_empty() && seen == 0 || !words.is_empty() && seen.abs_diff(received) <= 1000;
    if figures["dropped"] != 0 || back != 0.0 || rate == 0.0 || !all {
        let why = format!("not every packet left by port 1, or not every one met the filter: {figures}");
        return Err(PerfError::Void { what: what.to_owned(), why });
    }
    Ok(1e9 / rate)
}

fn as_table(options: &Options, rounds: &[Round], ratio: Spread) -> String {
    let mut rows = vec![["", "ns a packet", "in searches of Hyperscan"].map(str::to_owned).to_vec()];
    let mut row = |name: &str, ns: &dyn Fn(&Round) -> f64| {
        let ns_spread = Spread::of(rounds.iter().map(ns));
        let ratio = Spread::of(rounds.iter().map(|round| ns(round) / round.hyperscan));
        rows.push(vec![
            name.to_owned(),
            format!("{:.1} [{:.1} … {:.1}]", ns_spread.median, ns_spread.min, ns_spread.max),
            format!("{:.2} [{:.2} … {:.2}]", ratio.median, ratio.min, ratio.max),
        ]);
    };
    row("Hyperscan, block mode, alone", &|round| round.hyperscan);
    row("vinet, no programs", &|round| round.without);
    row("vinet, the filter given every packet", &|round| round.with);
    row("what the filter adds", &Round::added);
    let verdict = if ratio.median > RATIO_MAX { "NOT MET" } else { "met" };
    format!(
        "{}; one core, {} flows, segments of {} B in order, {} words, {} rounds of {} s; medians [least … most]\n\n{}\n\
         The filter adds {:.2} of Hyperscan's search; the bar is {RATIO_MAX}: {verdict}.",
        machine::describe(),
        segments::FLOWS,
        segments::PAYLOAD_LEN,
        options.words.len(),
        rounds.len(),
        options.seconds,
        markdown(&rows),
        ratio.median
    )
}

fn as_json(options: &Options, rounds: &[Round], ratio: Spread) -> serde_json::Value {
    let all = |ns: &dyn Fn(&Round) -> f64| rounds.iter().map(ns).collect::<Vec<_>>();
    serde_json::json!({
        "machine": machine::describe(),
        "flows": segments::FLOWS,
        "payload_bytes": segments::PAYLOAD_LEN,
        "words": options.words,
        "seconds": options.seconds,
        "hyperscan_ns": all(&|round| round.hyperscan),
        "without_ns": all(&|round| round.without),
        "with_ns": all(&|round| round.with),
        "ratio": ratio.median,
        "bar": RATIO_MAX,
        "met": ratio.median <= RATIO_MAX,
    })
}
