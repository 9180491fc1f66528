//! The flow table beside other structures for the same job: which pairs of a source and a destination have a program.
//!
//! Every structure is asked the same questions in bursts of 32, as a worker asks: of pairs that are there, of pairs that
//! are not although both of their addresses are in use, half of each, and of pairs that are there by Zipf's law. The
//! structures run in turn, in rounds, on one core; what is printed are medians over the rounds. The flow table is the
//! one that runs in the router, filled with real programs, proven and checked, and its figures include the fetching of
//! the counts that a hit needs next; the others hold the pairs alone.

mod cuckoo;
mod flow_table;
mod nested;
mod prefetch;
mod rte_hash;
mod workload;

use crate::run::PerfError;
use crate::table::{Spread, markdown};
use crate::{machine, peers};
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;
use workload::{Pair, Workload};

/// Pairs that are looked up together.
const BURST: usize = 32;

/// How the structures are compared.
#[derive(Args)]
pub struct Options {
    /// Numbers of pairs with a program.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    pairs: Vec<usize>,
    /// Rounds: each asks every structure every kind of question once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Pairs asked for in each round and kind.
    #[arg(long, default_value_t = 1 << 22)]
    questions: usize,
    /// Pairs that are withdrawn and installed again in each round, one by one.
    #[arg(long, default_value_t = 2_000)]
    updates: usize,
    /// What chance follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The policy that the programs are proven to keep to.
    #[arg(long, default_value = "configs/policy/end-user.toml")]
    policy: PathBuf,
    /// The core that all of it runs on.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// Where the peer over rte_hash is built.
    #[arg(long, default_value = "target/perf")]
    dir: PathBuf,
    /// Leave out the peer over rte_hash, which needs DPDK's headers and huge pages.
    #[arg(long)]
    without_rte_hash: bool,
    /// Print one JSON object for each number of pairs instead of tables.
    #[arg(long)]
    json: bool,
}

/// A structure under comparison.
trait Structure {
    fn name(&self) -> &'static str;
    /// How many of the pairs it has.
    fn count_hits(&mut self, pairs: &[Pair]) -> usize;
    /// Takes a pair out and puts it in again.
    fn update(&mut self, number: usize, pair: Pair);
    /// Bytes that it holds its pairs with.
    fn memory_bytes(&self) -> usize;
}

/// What was measured of one structure: nanoseconds, a figure for each round.
struct Measured {
    name: &'static str,
    /// For each kind of question.
    look_up_ns: Vec<Vec<f64>>,
    update_ns: Vec<f64>,
    /// Every single update, where each was timed.
    each_update_ns: Vec<f64>,
    memory_bytes: usize,
}

/// Pairs of one batch, at most.
const BATCH: usize = 10_000;

/// Compares, and prints a table for each number of pairs.
pub fn run(options: &Options) -> Result<(), PerfError> {
    if options.rounds == 0 || options.questions < BURST || options.pairs.contains(&0) {
        return Err(PerfError::Option("--rounds and --pairs are at least 1, --questions at least 32".to_owned()));
    }
    std::fs::create_dir_all(&options.dir).map_err(|error| PerfError::File { path: options.dir.clone(), error })?;
    // Before this thread is pinned, and sees one core.
    let machine = machine::describe();
    vinet_fastpath::pinning::pin_current_thread(options.core).map_err(|e| PerfError::Option(e.to_string()))?;
    let peer = if options.without_rte_hash { None } else { Some(peers::rte_hash::build(&options.dir)?) };
    for &count in &options.pairs {
        let workload = Workload::new(count, options.questions, options.seed);
        let (measured, beside) = compare(options, &workload, peer.as_deref())?;
        if options.json {
            println!("{}", as_json(&machine, options, count, &measured, beside));
        } else {
            println!("{}", as_table(&machine, options, &workload, &measured, beside));
        }
    }
    Ok(())
}

/// What is measured of the flow table alone.
#[derive(Clone, Copy)]
struct Beside {
    /// What a program costs beside its cells, in bytes of resident memory: the executable, and its being installed.
    executable: usize,
    installed: usize,
    /// Milliseconds of withdrawing many programs in one batch, and of installing as many in one.
    batch_ms: [f64; 2],
}

/// The figure that 99 in 100 are not above, and the most.
fn tail(figures: &[f64]) -> (f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.last() {
        Some(&most) => (sorted[(sorted.len() * 99 / 100).min(sorted.len() - 1)], most),
        None => (0.0, 0.0),
    }
}

fn compare(
    options: &Options,
    workload: &Workload,
    peer: Option<&std::path::Path>,
) -> Result<(Vec<Measured>, Beside), PerfError> {
    let mut v4 = flow_table::InTable::new(&workload.pairs, false, &options.policy)?;
    let mut beside = v4.beside();
    let mut v6 = flow_table::InTable::new(&workload.pairs, true, &options.policy)?;
    let mut nested = nested::Nested::new(&workload.pairs, options.seed);
    let mut cuckoo = cuckoo::Cuckoo::new(&workload.pairs, options.seed);
    let mut structures: Vec<&mut dyn Structure> = vec![&mut v4, &mut v6, &mut nested, &mut cuckoo];
    let mut measured: Vec<Measured> = structures
        .iter()
        .map(|structure| Measured {
            name: structure.name(),
            look_up_ns: vec![Vec::new(); workload.questions.len()],
            update_ns: Vec::new(),
            each_update_ns: Vec::new(),
            memory_bytes: structure.memory_bytes(),
        })
        .collect();
    let mut of_peer = None;
    for round in 0..options.rounds {
        for (structure, measured) in structures.iter_mut().zip(&mut measured) {
            for (kind, of_kind) in workload.questions.iter().zip(&mut measured.look_up_ns) {
                let started = Instant::now();
                let hits = structure.count_hits(&kind.pairs);
                of_kind.push(started.elapsed().as_secs_f64() * 1e9 / kind.pairs.len() as f64);
                if hits != kind.hits {
                    let why = format!("{} of {} pairs found, not {}", hits, kind.pairs.len(), kind.hits);
                    return Err(PerfError::Void { what: structure.name().to_owned(), why });
                }
            }
            let before = measured.each_update_ns.len();
            for update in 0..options.updates {
                let number = workload.update(round * options.updates + update);
                let started = Instant::now();
                structure.update(number, workload.pairs[number]);
                measured.each_update_ns.push(started.elapsed().as_secs_f64() * 1e9);
            }
            let sum: f64 = measured.each_update_ns[before..].iter().sum();
            measured.update_ns.push(sum / options.updates.max(1) as f64);
        }
        if let Some(peer) = peer {
            let of_peer = of_peer.get_or_insert_with(|| Measured {
                name: "rte_hash, bulk",
                look_up_ns: vec![Vec::new(); workload.questions.len()],
                update_ns: Vec::new(),
                each_update_ns: Vec::new(),
                memory_bytes: 0,
            });
            rte_hash::round(peer, options, workload, round, of_peer)?;
        }
    }
    measured.extend(of_peer);
    let batches: Vec<(f64, f64)> = (0..options.rounds).map(|_| v4.batch_ms(BATCH)).collect();
    beside.batch_ms = [Spread::of(batches.iter().map(|b| b.0)).median, Spread::of(batches.iter().map(|b| b.1)).median];
    Ok((measured, beside))
}

fn as_table(machine: &str, options: &Options, workload: &Workload, measured: &[Measured], beside: Beside) -> String {
    let count = workload.pairs.len();
    let mut heads = vec![format!("{count} pairs, ns each")];
    heads.extend(workload.questions.iter().map(|kind| kind.name.to_owned()));
    heads.extend(["update", "its p99", "its most", "bytes a pair"].map(str::to_owned));
    let mut rows = vec![heads];
    for structure in measured {
        let mut row = vec![structure.name.to_owned()];
        row.extend(structure.look_up_ns.iter().chain([&structure.update_ns]).map(|figures| {
            let spread = Spread::of(figures.iter().copied());
            format!("{:.1} [{:.1} … {:.1}]", spread.median, spread.min, spread.max)
        }));
        let (p99, most) = tail(&structure.each_update_ns);
        let told = |ns: f64| if structure.each_update_ns.is_empty() { "-".to_owned() } else { format!("{ns:.0}") };
        row.extend([told(p99), told(most)]);
        row.push(format!("{:.1}", structure.memory_bytes as f64 / count as f64));
        rows.push(row);
    }
    format!(
        "{machine}; one core, bursts of {BURST}, {} rounds of {} questions of each kind; medians [least … most]\n\n{}\nBeside \
         its cells a program has {} bytes of executable and {} bytes of being installed, resident. A batch that \
         withdraws {} programs takes {:.2} ms, one that installs them again {:.2} ms.\n",
        options.rounds,
        options.questions,
        markdown(&rows),
        beside.executable,
        beside.installed,
        BATCH.min(count),
        beside.batch_ms[0],
        beside.batch_ms[1],
    )
}

fn as_json(machine: &str, options: &Options, count: usize, measured: &[Measured], beside: Beside) -> serde_json::Value {
    let structures = measured.iter().map(|structure| {
        serde_json::json!({
            "structure": structure.name,
            "look_up_ns": workload::KINDS.iter().zip(&structure.look_up_ns).map(|(kind, ns)| {
                serde_json::json!({"kind": kind, "rounds": ns})
            }).collect::<Vec<_>>(),
            "update_ns": structure.update_ns,
            "update_p99_ns": tail(&structure.each_update_ns).0,
            "update_most_ns": tail(&structure.each_update_ns).1,
            "memory_bytes": structure.memory_bytes,
        })
    });
    serde_json::json!({
        "machine": machine,
        "pairs": count,
        "rounds": options.rounds,
        "questions": options.questions,
        "structures": structures.collect::<Vec<_>>(),
        "executable_bytes": beside.executable,
        "installed_bytes": beside.installed,
        "batch": BATCH.min(count),
        "batch_withdraw_ms": beside.batch_ms[0],
        "batch_install_ms": beside.batch_ms[1],
    })
}
