//! `vinet-perf soak`: the fast path for as long as one likes, under load, while everything changes that can.
//!
//! Three ports over faulty wires carry all that hosts send as fast as the wires take it: both families, fragments,
//! expired, broken and forbidden packets. Meanwhile shipped programs and firewalls come and go, alone and in large
//! batches; routes change; neighbours appear and vanish; the kernel sends and receives. Every few hundred milliseconds the
//! hosts pause, and at that quiet point the counts of wires, hosts, router and programs have to agree to the packet. Then
//! all programs are withdrawn, and the memory has to be what it was after the first round, which fills everything once.
//! In one round a worker hangs: it has to be named, changes have to be refused meanwhile, the other workers to go on,
//! and afterwards everything to agree as before.

mod router;
mod wires;

use crate::run::PerfError;
use crate::verify::chance::Chance;
use crate::verify::generate::Policies;
use crate::verify::inputs;
use crate::verify::report::{Report, short};
use crate::{heap, machine};
use clap::Args;
use router::{Programs, Soaked};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vinet_fastpath::drop_reason::DropReason;

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// How long, in minutes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// What chance follows from. Threads run as they like, so a seed repeats the choices and not the run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many workers. Two of them show that one that hangs does not hold the other.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// How long is changed and sent between two quiet points, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    round_ms: u64,
    /// The folder of policies and programs.
    #[arg(long, default_value = "configs")]
    configs: PathBuf,
    /// Print one JSON object instead of sentences.
    #[arg(long)]
    json: bool,
}

/// The round in which a worker hangs.
const HANGING_ROUND: u64 = 2;
/// What may be held more at the end than after the first round, in bytes: what hash tables keep of their largest size
/// depends on chance a little.
const GROWTH_MAX: usize = 256 * 1024;

/// Soaks, and says what happened. Whatever does not agree ends it.
pub fn run(options: &Options) -> Result<(), PerfError> {
    if options.minutes.is_nan() || options.minutes <= 0.0 || options.round_ms == 0 {
        return Err(PerfError::Option("--minutes and --round-ms are above 0".to_owned()));
    }
    if !(1..=vinet_fastpath::router::WORKERS_MAX).contains(&options.workers) {
        return Err(PerfError::Option("--workers is 1 to 64".to_owned()));
    }
    let programs = programs(options)?;
    let what = |words: String| PerfError::Failed { what: format!("soak (--seed {})", options.seed), words };
    heap::count_held();
    let mut chance = Chance::new(options.seed);
    let mut soaked = Soaked::start(options.workers, programs, &mut chance).map_err(what)?;

    // Fills everything once, so that what is kept for use again is there.
    soaked.fill().map_err(what)?;
    soaked.quiet_point().map_err(what)?;
    soaked.withdraw_all().map_err(what)?;
    let start = (heap::held(), soaked.table_bytes());
    let (end, mut round) = (Instant::now() + Duration::from_secs_f64(options.minutes * 60.0), 0);
    let (mut most, mut told) = (0, Instant::now());
    let mut hung = None;
    while Instant::now() < end || hung.is_none() {
        round += 1;
        soaked.round(Duration::from_millis(options.round_ms), &mut chance).map_err(what)?;
        if round == HANGING_ROUND {
            hung = Some(soaked.hang(&mut chance).map_err(what)?);
        }
        soaked.quiet_point().map_err(what)?;
        if round % 2 == 0 {
            soaked.withdraw_all().map_err(what)?;
            soaked.quiet_point().map_err(what)?;
            let table = soaked.table_bytes().saturating_sub(start.1) as usize;
            let growth = heap::held().saturating_sub(start.0) + table;
            most = most.max(growth);
            if growth > GROWTH_MAX {
                return Err(what(format!(
                    "{} bytes are held and {} by the table after round {round}, {} and {} after the first",
                    heap::held(),
                    soaked.table_bytes(),
                    start.0,
                    start.1
                )));
            }
        }
        if told.elapsed() > Duration::from_secs(10) {
            eprintln!("round {round}: {}", soaked.words());
            told = Instant::now();
        }
    }
    let (counts, done) = soaked.stop().map_err(what)?;
    let reached = [
        DropReason::Program,
        DropReason::TtlExpired,
        DropReason::NeighbourUnresolved,
        DropReason::TooBig,
        DropReason::Prohibited,
        DropReason::SourceNotControlled,
    ];
    for reason in reached {
        if counts.drop(reason) == 0 {
            return Err(what(format!("no packet was dropped as {reason:?}: this was not the load that was meant")));
        }
    }
    let hung = hung.unwrap_or_default();
    let received: u64 = counts.ports.iter().map(|port| port.rx_packets).sum();
    let report = Report::new(options.json);
    report.object(
        "soak",
        json!({
            "machine": machine::describe(), "seed": options.seed, "workers": options.workers, "rounds": round,
            "received": received, "dropped": counts.dropped(), "installs": done.installs,
            "withdrawals": done.withdrawals, "batches": done.batches, "refused": done.refused,
            "route_changes": done.routes, "quiet_points": done.quiet_points, "snapshots": done.snapshots,
            "verified_packets": done.verified, "hung_worker_named_after_ms": hung.as_millis() as u64,
            "growth_bytes_most": most,
        }),
    );
    report.say(&format!(
        "{}; {} workers, seed {}, {round} rounds.\n\n\
         {} packets were received, {} of them dropped by {} named reasons; {} came back with the pattern they were sent \
         with, none with another. {} programs were installed and withdrawn again, in {} batches ({} changes were refused \
         because workers lagged or a cell was full); {} forwarding tables were published. At {} quiet points the counts of wires, hosts, \
         router and programs agreed to the packet, and the equation held in all {} snapshots between. The worker that \
         hung was named after {} ms; changes were refused until it went on. Memory never was more than {} bytes above \
         the start.",
        machine::describe(),
        options.workers,
        options.seed,
        short(received as f64),
        short(counts.dropped() as f64),
        counts.drops.iter().filter(|&&count| count > 0).count(),
        short(done.verified as f64),
        short(done.installs as f64),
        short(done.batches as f64),
        short(done.refused as f64),
        short(done.routes as f64),
        short(done.quiet_points as f64),
        short(done.snapshots as f64),
        hung.as_millis(),
        short(most as f64)
    ));
    Ok(())
}

/// The shipped programs, proven and lowered, with what makes firewalls.
fn programs(options: &Options) -> Result<Programs, PerfError> {
    let policies = Policies::load(&options.configs.join("policy"))?;
    let lemmas = vinet_prover::library();
    let (mut shipped, mut words) = (Vec::new(), Vec::new());
    for subject in inputs::shipped(&options.configs.join("programs"), &policies)? {
        let failed = |words: String| PerfError::Failed { what: subject.name.clone(), words };
        let sent = subject.proven(&lemmas).map_err(|e| failed(e.to_string()))?;
        let checked = sent.check(&lemmas).map_err(|e| failed(e.to_string()))?;
        words.extend(subject.program.words().iter().map(|word| word.bytes.clone()));
        let executable = vinet_pktops::Executable::lower(Arc::new(checked)).map_err(|e| failed(e.to_string()))?;
        shipped.push(Arc::new(executable));
    }
    let failed = |words: String| PerfError::Failed { what: "a firewall".to_owned(), words };
    let pairs = crate::pairs::Pairs::against(wires::addr("203.0.113.9"), &policies.end_user).map_err(failed)?;
    Ok(Programs { shipped, words, pairs })
}
