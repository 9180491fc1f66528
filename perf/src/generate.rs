//! `vinet-perf generate`: traffic at a rate that is held, and what becomes of it.

pub mod engine;
pub mod flows;
pub mod packet;
pub mod payload;
pub mod plan;
pub mod rate;
pub mod sizes;
pub mod stamp;
pub mod tracker;

use crate::latency::Latencies;
use crate::plot::{Axis, Plot};
use crate::progress::{Bar, Interrupt};
use crate::record::Record;
use crate::run::PerfError;
use crate::table::markdown;
use crate::testbed::{self, Testbed};
use clap::Args;
use engine::{Outcome, Settings};
use flows::{FLOWS_MAX, Mix};
use packet::{Link, Transport};
use payload::Planted;
use plan::{Family, Plan, Recipe};
use rate::{Pace, Rate};
use serde_json::{Value, json};
use sizes::Sizes;
use std::path::PathBuf;
use std::time::Duration;
use vinet_trusted::addr::Prefix;

/// The longest trial, in seconds: a day.
const SECONDS_MAX: f64 = 86_400.0;
/// The longest frame that a port with an MTU of 1500 takes, without FCS.
const FRAME_LEN_MAX: usize = 1_514;

/// What the packets are.
#[derive(Args, Clone, Debug)]
pub struct Traffic {
    /// Frame sizes on the wire: one, `imix` (7:64, 4:594, 1:1518), or WEIGHT:SIZE,WEIGHT:SIZE,…
    #[arg(long, default_value = "imix")]
    sizes: Sizes,
    /// How many flows.
    #[arg(long, default_value_t = 1000)]
    flows: usize,
    /// How packets spread over flows: uniform, or zipf:S.
    #[arg(long, default_value = "uniform")]
    mix: Mix,
    /// The family of the flows.
    #[arg(long, value_enum, default_value_t = Family::V4)]
    family: Family,
    /// What carries the payload: udp or tcp.
    #[arg(long, default_value = "udp")]
    transport: Transport,
    /// IPv4 sources.
    #[arg(long, default_value = "10.0.0.0/8", value_parser = v4)]
    src: Prefix,
    /// IPv4 destinations.
    #[arg(long, default_value = "198.18.0.0/15", value_parser = v4)]
    dst: Prefix,
    /// IPv6 sources.
    #[arg(long, default_value = "2001:2::/64", value_parser = v6)]
    src6: Prefix,
    /// IPv6 destinations.
    #[arg(long, default_value = "2001:2:0:8000::/64", value_parser = v6)]
    dst6: Prefix,
    /// The destination port.
    #[arg(long, default_value_t = 9)]
    dst_port: u16,
    /// Mails to be carried: a folder with a file each, or an mbox.
    #[arg(long)]
    payload: Option<PathBuf>,
    /// A word and the share of packets to plant it into, e.g. lottery=0.05. May be given several times.
    #[arg(long)]
    plant: Vec<Planted>,
    /// What chance follows from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Traffic {
    /// The cycle of packets that is sent to `link`.
    pub fn plan(&self, link: Link) -> Result<Plan, PerfError> {
        if !(1..=FLOWS_MAX).contains(&self.flows) {
            return Err(PerfError::Option(format!("--flows: {} is not from 1 to {FLOWS_MAX}", self.flows)));
        }
        let recipe = Recipe {
            sizes: self.sizes.clone(),
            flows: self.flows,
            mix: self.mix,
            family: self.family,
            transport: self.transport,
            src: [self.src, self.src6],
            dst: [self.dst, self.dst6],
            dst_port: self.dst_port,
            payload: self.payload.clone(),
            plant: self.plant.clone(),
            seed: self.seed,
        };
        if self.sizes.largest() > FRAME_LEN_MAX + packet::FCS_LEN {
            let words =
                format!("--sizes: at most {} bytes, which an MTU of 1500 takes", FRAME_LEN_MAX + packet::FCS_LEN);
            return Err(PerfError::Option(words));
        }
        Plan::build(&recipe, link)
    }
    /// The options, for the record.
    pub fn describe(&self) -> Value {
        let words: Vec<String> =
            self.plant.iter().map(|p| format!("{}={}", String::from_utf8_lossy(&p.word), p.share)).collect();
        json!({
            "sizes": self.sizes.to_string(), "flows": self.flows, "mix": self.mix.to_string(),
            "family": format!("{:?}", self.family), "transport": format!("{:?}", self.transport),
            "src": [self.src.to_string(), self.src6.to_string()], "dst": [self.dst.to_string(), self.dst6.to_string()],
            "dst_port": self.dst_port, "payload": self.payload, "plant": words,
        })
    }
}

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// What is offered: e.g. 250kpps, 1.5Mpps, 500Mbit/s (of frames), 80% (of the line, with preamble and gap). A replayed
    /// capture without a rate keeps its own times.
    #[arg(long)]
    rate: Option<Rate>,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Replay this capture instead of making packets.
    #[arg(long)]
    pcap: Option<PathBuf>,
    /// How many times as fast a capture that keeps its times is replayed.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Write a stamp over the beginning of each replayed payload, so that latency, order and copies are told.
    #[arg(long)]
    stamp: bool,
    /// How long is waited for the last packets, in milliseconds.
    #[arg(long, default_value_t = 200)]
    drain_ms: u64,
    /// Between two samples, in milliseconds.
    #[arg(long, default_value_t = 100)]
    sample_ms: u64,
    /// The run's folder; without it one in target/perf/runs.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    traffic: Traffic,
    #[command(flatten)]
    testbed: testbed::Options,
}

fn v4(text: &str) -> Result<Prefix, String> {
    prefix(text).filter(|prefix| prefix.addr().width() == 32).ok_or_else(|| format!("`{text}` is no IPv4 prefix"))
}

fn v6(text: &str) -> Result<Prefix, String> {
    prefix(text).filter(|prefix| prefix.addr().width() == 128).ok_or_else(|| format!("`{text}` is no IPv6 prefix"))
}

fn prefix(text: &str) -> Option<Prefix> {
    vinet_client::lang::prefix(text).ok()
}

/// A duration in seconds that makes sense, in nanoseconds.
pub fn nanoseconds(option: &str, seconds: f64) -> Result<u64, PerfError> {
    if seconds > 0.0 && seconds <= SECONDS_MAX {
        return Ok((seconds * 1e9) as u64);
    }
    Err(PerfError::Option(format!(
        "{option}: {seconds} is no duration; expected above 0, at most {SECONDS_MAX} seconds"
    )))
}

/// Generates, and reports.
pub fn run(options: &Options) -> Result<(), PerfError> {
    let duration_ns = nanoseconds("--seconds", options.seconds)?;
    if options.rate.is_none() && options.pcap.is_none() {
        return Err(PerfError::Option("--rate: a rate is needed, e.g. --rate 100kpps".to_owned()));
    }
    if !(options.speed > 0.0 && options.speed <= 1e6) {
        return Err(PerfError::Option("--speed is above 0, at most a million".to_owned()));
    }
    if options.sample_ms == 0 || options.drain_ms > 60_000 {
        return Err(PerfError::Option("--sample-ms is at least 1, --drain-ms at most 60000".to_owned()));
    }
    let capture = options.pcap.as_deref().map(Plan::read_capture).transpose()?;
    let interrupt = Interrupt::listen()?;
    let mut testbed = Testbed::start(&options.testbed)?;
    let (plan, gaps) = match (&capture, &options.pcap) {
        (Some(bytes), Some(path)) => {
            let name = path.display().to_string();
            let (plan, gaps) = Plan::replay(bytes, &name, testbed.link, options.stamp, FRAME_LEN_MAX)?;
            (plan, Some(gaps))
        }
        _ => (options.traffic.plan(testbed.link)?, None),
    };
    let pace = match (options.rate, gaps) {
        (Some(rate), _) => rate.pace(testbed.line_mbps).map_err(PerfError::Option)?,
        (None, Some(gaps)) => Pace::recorded(gaps, options.speed),
        (None, None) => unreachable!("a rate or a capture was asked for above"),
    };
    let settings = Settings {
        pace,
        duration_ns,
        drain_ns: options.drain_ms * 1_000_000,
        ring_full: testbed.ring_full,
        sample_ns: options.sample_ms * 1_000_000,
        tag: 1,
    };
    let described = json!({
        "rate": options.rate.map(|rate| rate.to_string()), "seconds": options.seconds, "pcap": options.pcap,
        "speed": options.speed, "stamp": options.stamp, "traffic": options.traffic.describe(), "under": testbed.name,
        "packets_in_cycle": plan.len(), "mean_frame_bytes": plan.wire_len_mean(),
    });
    let mut record = Record::create(options.out.as_deref(), "generate", described, options.traffic.seed)?;
    let bar = Bar::new(duration_ns / 1_000_000);
    let started = std::time::Instant::now();
    let outcome = testbed.trial(&plan, &settings, &interrupt, |sent, received| {
        bar.show(started.elapsed().as_millis() as u64, format!("{sent} sent, {received} back"));
    })?;
    drop(bar);
    for sample in &outcome.samples {
        let at_s = sample.at_ns as f64 / 1e9;
        record.sample(&json!({
            "at_s": at_s, "sent": sample.sent, "received": sample.received, "refused": sample.refused,
        }))?;
    }
    let time = Duration::from_nanos(outcome.duration_ns);
    for (name, latencies) in [("latency", &outcome.latencies), ("lateness", &outcome.lateness)] {
        if latencies.count() > 0 {
            record.histogram(name, Duration::ZERO, time, latencies)?;
        }
    }
    if outcome.latencies.count() > 0 {
        record.plot("latency", &latency_plot(&[("all packets", &outcome.latencies)]))?;
    }
    record.plot("rate", &rate_plot(&outcome))?;
    let mut notes = testbed.notes.clone();
    notes.extend(plan.notes.clone());
    let mut results = describe(&outcome);
    results["notes"] = json!(notes);
    results["under"] = testbed.end()?;
    let dir = record.dir().display().to_string();
    let void = outcome.void();
    let why = if outcome.is_stopped { Some("it was interrupted") } else { None };
    record.finish(results.clone(), why)?;
    if options.json {
        println!("{results}");
    } else {
        notes.iter().for_each(|note| println!("note: {note}"));
        println!("{}\n{dir}", table(&outcome));
    }
    match void {
        Some(why) => Err(PerfError::Void { what: "the generator".to_owned(), why }),
        None if outcome.is_stopped => Err(PerfError::Interrupted(dir)),
        None => Ok(()),
    }
}

/// What a trial gave, as JSON.
pub fn describe(outcome: &Outcome) -> Value {
    json!({
        "seconds": outcome.duration_ns as f64 / 1e9, "intended": outcome.intended, "sent": outcome.sent,
        "shortfall": outcome.shortfall(), "void": outcome.void(), "refused": outcome.refused,
        "received": outcome.arrivals.received, "lost": outcome.lost(), "loss_ratio": outcome.loss_ratio(),
        "duplicates": outcome.arrivals.duplicates, "reordered": outcome.arrivals.reordered,
        "reorder_extent_max": outcome.arrivals.reorder_extent_max, "late": outcome.arrivals.late,
        "foreign": outcome.foreign, "no_buffer": outcome.no_buffer, "offered_pps": outcome.offered_pps(),
        "received_pps": outcome.received_pps(),
        "offered_bps": outcome.sent_bytes as f64 * 8e9 / outcome.duration_ns.max(1) as f64,
        "latency": outcome.latencies.summary(), "lateness": outcome.lateness.summary(),
        "interrupted": outcome.is_stopped,
    })
}

fn table(outcome: &Outcome) -> String {
    let us = |latencies: &Latencies, percent: f64| format!("{:.1}", latencies.percentile(percent) as f64 / 1e3);
    let percent = |share: f64| format!("{:.4} %", share * 100.0);
    let bps = outcome.sent_bytes as f64 * 8.0 / (outcome.duration_ns.max(1) as f64 / 1e9);
    let mut rows = vec![
        vec!["what".to_owned(), "figure".to_owned()],
        vec!["intended packets".to_owned(), outcome.intended.to_string()],
        vec!["offered packets".to_owned(), format!("{} ({} short)", outcome.sent, percent(outcome.shortfall()))],
        vec!["offered".to_owned(), format!("{:.0} pps, {:.3} Mbit/s of frames", outcome.offered_pps(), bps / 1e6)],
        vec!["received packets".to_owned(), outcome.arrivals.received.to_string()],
        vec!["lost".to_owned(), format!("{} ({})", outcome.lost(), percent(outcome.loss_ratio()))],
        vec!["of those refused by a full ring".to_owned(), outcome.refused.to_string()],
        vec!["duplicates".to_owned(), outcome.arrivals.duplicates.to_string()],
        vec![
            "reordered, and by how many at most".to_owned(),
            format!("{}, {}", outcome.arrivals.reordered, outcome.arrivals.reorder_extent_max),
        ],
    ];
    let percentiles = [("median", 50.0), ("90 %", 90.0), ("99 %", 99.0), ("99.9 %", 99.9), ("most", 100.0)];
    if outcome.latencies.count() > 0 {
        for (name, percent) in percentiles {
            rows.push(vec![format!("latency from the intended time, {name}, µs"), us(&outcome.latencies, percent)]);
        }
    }
    for (name, percent) in [percentiles[0], percentiles[4]] {
        rows.push(vec![format!("sent later than intended, {name}, µs"), us(&outcome.lateness, percent)]);
    }
    markdown(&rows)
}

/// Latencies by percentile.
pub fn latency_plot(curves: &[(&str, &Latencies)]) -> Plot {
    Plot {
        title: "Latency from the intended time of sending".to_owned(),
        x: ("nines: 1 is 90 %, 2 is 99 %, 3 is 99.9 %".to_owned(), Axis::Linear),
        y: ("µs".to_owned(), Axis::Log),
        lines: curves.iter().map(|(name, latencies)| ((*name).to_owned(), latencies.curve())).collect(),
        marks: Vec::new(),
    }
}

fn rate_plot(outcome: &Outcome) -> Plot {
    let rates = |count: fn(&engine::Sample) -> u64| {
        let pairs = outcome.samples.windows(2).filter(|pair| pair[1].at_ns > pair[0].at_ns);
        pairs
            .map(|pair| {
                let seconds = (pair[1].at_ns - pair[0].at_ns) as f64 / 1e9;
                (pair[1].at_ns as f64 / 1e9, (count(&pair[1]) - count(&pair[0])) as f64 / seconds)
            })
            .collect()
    };
    Plot {
        title: "Offered and received".to_owned(),
        x: ("seconds".to_owned(), Axis::Linear),
        y: ("packets a second".to_owned(), Axis::Linear),
        lines: vec![("offered".to_owned(), rates(|s| s.sent)), ("received".to_owned(), rates(|s| s.received))],
        marks: Vec::new(),
    }
}
