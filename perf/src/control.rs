//! `vinet-perf control`: the control plane, each figure against its bar.
//!
//! A real `vinetd` in a network namespace of its own, with clients over loopback: how many programs it installs in a
//! second, how long one takes, how fast a router is back with a million of them, and what attacks on the control plane
//! leave of the rate of packets. What the clients themselves take is told apart.

pub mod attacked;
pub mod client;
pub mod daemon;
mod installs;
pub mod orders;
mod restart;

use crate::run::PerfError;
use crate::verify::report::{Bar, Report};
use crate::{capture, machine, rig};
use clap::{Args, ValueEnum};
use daemon::{Bed, Setup, TARIFF};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;
use orders::Orders;
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// Only these parts.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// The router's program; without it, the one beside this program.
    #[arg(long)]
    vinetd: Option<PathBuf>,
    /// The folder of policies and programs.
    #[arg(long, default_value = "configs")]
    configs: PathBuf,
    /// Rounds of installs.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Installs of one round.
    #[arg(long, default_value_t = 1_000)]
    installs: usize,
    /// Requests under way at once on the one session.
    #[arg(long, default_value_t = 256)]
    window: usize,
    /// Sessions that are opened at once, where each install has one of its own.
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Installs whose times are taken one by one.
    #[arg(long, default_value_t = 1_000)]
    singles: usize,
    /// Programs in the store that the router is started with.
    #[arg(long, default_value_t = 1_000_000)]
    programs: usize,
    /// Pairs of a window with an attack and one without.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// How long each window is, in milliseconds.
    #[arg(long, default_value_t = 400)]
    window_ms: u64,
    /// The worker's core.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The core of the control thread, and of attackers.
    #[arg(long, default_value_t = 0)]
    control_core: usize,
    /// What chance follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the capture is kept.
    #[arg(long, default_value = "target/perf")]
    dir: PathBuf,
    /// Print one JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
}

fn failed(words: impl std::fmt::Display) -> PerfError {
    PerfError::Failed { what: "a client".to_owned(), words: words.to_string() }
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Installs a second, and how long one takes.
    Installs,
    /// What an idle session takes, kept and sealed.
    Memory,
    /// How fast a router is back with all its programs.
    Restart,
    /// What attacks leave of the rate of packets.
    Attacks,
}

/// Measures, and prints each figure against its bar.
pub fn run(options: &Options) -> Result<(), PerfError> {
    if [
        options.rounds,
        options.installs,
        options.window,
        options.clients,
        options.singles,
        options.pairs,
        options.programs,
    ]
    .contains(&0)
    {
        let words = "--rounds, --installs, --window, --clients, --singles, --pairs and --programs are at least 1";
        return Err(PerfError::Option(words.to_owned()));
    }
    if cfg!(debug_assertions) {
        eprintln!("note: this is no release build: its times say nothing");
    }
    if machine::load() > 0.5 {
        eprintln!("note: the load average is {:.2}: other work makes these figures worse", machine::load());
    }
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("vinetd"));
    let vinetd = options.vinetd.clone().or(beside).filter(|path| path.exists()).ok_or_else(|| PerfError::Missing {
        what: "vinetd".to_owned(),
        remedy: "build it (`cargo build --release -p vinet-control`) or name it with --vinetd".to_owned(),
    })?;
    alone()?;
    let setup = Setup {
        vinetd,
        configs: options.configs.clone(),
        cores: [options.core, options.control_core],
        idle: "backoff",
        edge: "net_null0,no-rx=1".to_owned(),
        controlled: r#""10.0.0.0/8", "172.16.0.0/12""#,
        more: daemon::paid_and_kept(),
    };
    let has = |part| options.only.is_empty() || options.only.contains(&part);
    let bed = Bed::new()?;
    let orders = Orders::new(&bed, &options.configs, TARIFF)?;
    let mut report = Report::new(options.json);
    report.say(&format!("{}; loopback.\n", machine::describe()));
    report.object("machine", json!({"machine": machine::describe(), "load": machine::load(), "seed": options.seed}));
    if has(Part::Installs) {
        let daemon = bed.start(&setup, Duration::ZERO)?;
        // The worker has nothing to do, so its core is the clients'.
        stay_on(&[options.core])?;
        installs::measure(&mut report, &daemon, &bed, &orders, options)?;
        daemon.end()?;
        stay_on(&setup.cores)?;
    }
    if has(Part::Memory) {
        memory(&mut report)?;
    }
    if has(Part::Restart) {
        restart::measure(&mut report, &bed, &setup, options)?;
    }
    if has(Part::Attacks) {
        std::fs::create_dir_all(&options.dir).map_err(|error| PerfError::File { path: options.dir.clone(), error })?;
        let pcap = std::path::absolute(options.dir.join("control.pcap"))
            .map_err(|error| PerfError::File { path: options.dir.clone(), error })?;
        capture::write(&pcap, 64, capture::FLOWS)?;
        let setup = Setup { idle: "spin", edge: rig::receive_device(&pcap, 1), ..setup };
        let daemon = bed.start(&setup, Duration::ZERO)?;
        neighbours()?;
        stay_on(&[options.control_core])?;
        attacked::measure(&mut report, &daemon, &bed, &orders, options)?;
        daemon.end()?;
    }
    match report.missed() {
        [] => Ok(()),
        missed => Err(PerfError::Missed(missed.to_vec())),
    }
}

fn ip(words: &str) -> Result<(), PerfError> {
    let failed = |words: String| PerfError::Failed { what: "ip".to_owned(), words };
    let status = Command::new("ip").args(words.split(' ')).status().map_err(|e| failed(e.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(format!("`ip {words}` ended with {status}"))) }
}

/// What `vinet-perf session` measures of idle sessions.
fn memory(report: &mut Report) -> Result<(), PerfError> {
    const WORDS: &str = "session --json --clients 1000 --kept-max 1000 --questions 1000 --rounds 1";
    report.heading("Idle sessions");
    let own = std::env::current_exe().map_err(|error| PerfError::File { path: "vinet-perf".into(), error })?;
    let told = Command::new(own).args(WORDS.split(' ')).output().map_err(failed)?;
    let lines = String::from_utf8_lossy(&told.stdout).into_owned();
    let bars: Vec<serde_json::Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut found = 0;
    for bar in bars.iter().filter(|object| object["section"] == "bar") {
        if let (Some(name), Some(value), Some(most)) =
            (bar["name"].as_str(), bar["value"].as_f64(), bar["bar"].as_f64())
        {
            report.bar(name, value, "B", Bar::AtMost(most));
            found += 1;
        }
    }
    if found == 0 {
        return Err(failed(format!("`{WORDS}` tells nothing: {}", String::from_utf8_lossy(&told.stderr))));
    }
    report.bars();
    Ok(())
}

/// A network namespace for this process and those that it starts.
fn alone() -> Result<(), PerfError> {
    let failed = |error: nix::Error| PerfError::Missing {
        what: "the right to have a network namespace".to_owned(),
        remedy: format!("run as root ({error})"),
    };
    unshare(CloneFlags::CLONE_NEWNET).map_err(failed)?;
    ip("link set lo up")
}

/// Keeps this process, and what it starts from now on, to these cores.
fn stay_on(all: &[usize]) -> Result<(), PerfError> {
    let mut cores = CpuSet::new();
    all.iter()
        .try_for_each(|core| cores.set(*core))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores))
        .map_err(|error| PerfError::Option(format!("cores {all:?}: this machine does not have them ({error})")))
}

/// The next hops of the capture's packets, which nobody answers for.
fn neighbours() -> Result<(), PerfError> {
    ip("neigh replace 192.168.0.2 lladdr 02:00:00:00:01:00 dev vi-edge")?;
    ip("neigh replace 192.168.1.2 lladdr 02:00:00:00:01:01 dev vi-uplink")
}
