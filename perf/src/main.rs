//! `vinet-perf`: the router measured, each figure against its bar or beside its peers. docs/BENCHMARKS.md tells of every
//! subcommand what it measures, what was expected and what came out.
//!
//! `vinet-perf fastpath` runs the standard benchmark of docs/BENCHMARKS.md: every router under test in a process of its
//! own on one core, from `net_pcap` that repeats a capture without end to `net_null`; testpmd (which only moves packets:
//! the harness's own cost), DPDK's l3fwd, and this router with and without programs, in alternation, in rounds; what is
//! reported are medians of the ratios within a round.
//!
//! For a testbed: `generate` offers traffic at a rate and tells what becomes of it, `search` finds the rates that a system
//! carries, and `capacity` how this router's rate depends on its programs.
#![deny(unsafe_code)]

mod admission;
mod attack;
mod calibrate;
mod capacity;
mod capture;
mod control;
mod cost;
mod dut;
mod fastpath;
mod frames;
mod generate;
mod heap;
mod latency;
mod machine;
mod pairs;
mod peers;
mod plot;
mod progress;
mod publication;
mod quiet;
mod record;
mod report;
mod rig;
mod router;
mod run;
mod search;
mod session_cost;
mod soak;
mod spam;
mod structures;
mod table;
mod testbed;
mod verify;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Benchmarks of VInet beside its peers.
#[derive(Parser)]
#[command(name = "vinet-perf", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The standard benchmark of the fast path, beside testpmd and l3fwd (root; see docs/BENCHMARKS.md).
    Fastpath(fastpath::Options),
    /// The flow table beside other structures for its job (see docs/BENCHMARKS.md).
    Table(structures::Options),
    /// What proofs cost and what they buy, each figure against its bar (see docs/BENCHMARKS.md).
    Verify(verify::Options),
    /// What each routine of the cost model takes on this machine, and the file of costs (see docs/BENCHMARKS.md).
    Calibrate(calibrate::Options),
    /// What every shipped program takes, held against what it declares (see docs/BENCHMARKS.md).
    Cost(cost::Options),
    /// How long a change of programs takes to reach the workers, with a million installed (root; see docs/BENCHMARKS.md).
    Publication(publication::Options),
    /// The system calls and allocations of a polling worker: none (root; see docs/BENCHMARKS.md).
    Quiet(quiet::Options),
    /// The fast path under load while everything changes, for as long as you like (see docs/BENCHMARKS.md).
    Soak(soak::Options),
    /// How much of the optimum the rules for scarce capacity get, and the known bounds (see docs/BENCHMARKS.md).
    Admission(admission::Options),
    /// The control plane: installs, restarts, attacks, each figure against its bar (root; see docs/BENCHMARKS.md).
    Control(control::Options),
    /// Sessions that the router keeps beside sessions that their clients carry: memory and processor time (see docs/BENCHMARKS.md).
    Session(session_cost::Options),
    /// Measures the measured parts of docs/BENCHMARKS.md again.
    Report(report::Options),
    /// Traffic at a rate that is held, and what becomes of it: loss, order, latency.
    Generate(generate::Options),
    /// The rates that a system carries without loss and with a little, and its latency below them.
    Search(search::Options),
    /// The rate of this router over number and kind of its programs.
    Capacity(capacity::Options),
    /// This router between two devices: what `generate`, `search` and `capacity` start.
    #[command(hide = true)]
    Router(router::Options),
    /// What a spam filter costs beside Hyperscan's search alone (root; see docs/BENCHMARKS.md).
    Spam(spam::Options),
    /// One router under test, in this process: what `fastpath` and `spam` start.
    #[command(hide = true)]
    Dut(dut::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Fastpath(options) => fastpath::run(&options),
        Command::Table(options) => structures::run(&options),
        Command::Spam(options) => spam::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::Calibrate(options) => calibrate::run(&options),
        Command::Cost(options) => cost::run(&options),
        Command::Publication(options) => publication::run(&options),
        Command::Quiet(options) => quiet::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Admission(options) => admission::run(&options),
        Command::Control(options) => control::run(&options),
        Command::Session(options) => session_cost::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Generate(options) => generate::run(&options),
        Command::Search(options) => search::run(&options),
        Command::Capacity(options) => capacity::run(&options),
        Command::Router(options) => router::run(&options),
        Command::Dut(options) => dut::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vinet-perf: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
