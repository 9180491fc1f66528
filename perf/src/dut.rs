//! This router as the device under test: its fast path over `net_pcap` and `net_null`, two routes, firewalls of which
//! none or half match, or a spam filter, one worker that spins.

use crate::capture::{self, Capture};
use crate::pairs::Pairs;
use crate::rig::{Rig, RigSettings, received};
use crate::run::PerfError;
use crate::spam::segments;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::eal::Memory;
use vinet_fastpath::flow_table::{Batch, Install, InstallId, TableWriter};
use vinet_fastpath::port::Port;
use vinet_fastpath::settings::TableLimits;
use vinet_pktops::Executable;
use vinet_session::policy_file;
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::check::check;
use vinet_trusted::packet::Test;
use vinet_trusted::policy::{OverBudget, Policy};
use vinet_trusted::program::{AddrExpr, Cond, Field, Instr, Program, Word};

/// The filter's name; firewalls are numbered from 1.
const FILTER: InstallId = InstallId(u64::MAX);
/// Firewalls that are installed at once.
const BATCH: usize = 10_000;

/// One run of this router.
#[derive(Args)]
pub struct Options {
    /// The core of the worker.
    #[arg(long)]
    core: usize,
    /// The core of this thread.
    #[arg(long)]
    control_core: usize,
    /// How long is measured, in seconds.
    #[arg(long)]
    seconds: u64,
    /// How many firewalls are installed that match no packet.
    #[arg(long, default_value_t = 0)]
    firewalls: u32,
    /// The flows of the capture by chance that the device of port 0 repeats: each has a firewall, half of which match.
    #[arg(long, conflicts_with_all = ["firewalls", "segments", "words"])]
    random_flows: Option<usize>,
    /// Whether the device of port 0 repeats the capture of TCP segments, whose sequence numbers are to go on.
    #[arg(long)]
    segments: bool,
    /// The words of a spam filter that is given every packet of that capture; none: no filter is installed.
    #[arg(long = "word")]
    words: Vec<String>,
    /// The policy that the programs are proven to keep to.
    #[arg(long)]
    policy: PathBuf,
    /// The device of port 0.
    #[arg(long)]
    receive: String,
    /// The device of port 1.
    #[arg(long)]
    send: String,
    /// What the ports are made of.
    #[arg(long, value_enum, default_value_t = Backend::Dpdk)]
    backend: Backend,
}

/// What the ports are made of.
#[derive(Clone, Copy, ValueEnum)]
enum Backend {
    /// DPDK's own calls.
    Dpdk,
    /// The crate capsule.
    #[cfg(feature = "capsule")]
    Capsule,
}

/// Measures, and prints one JSON object.
pub fn run(options: &Options) -> Result<(), PerfError> {
    let capture = match options.random_flows {
        Some(flows) => Capture::Random { flows },
        None => Capture::Standard,
    };
    let settings = RigSettings {
        name: "vinet-perf-dut",
        cores: vec![options.core],
        control_core: options.control_core,
        capture,
        memory: Memory::Huge { mib: Some(capture.memory_mib()) },
        receive: options.receive.clone(),
        send: options.send.clone(),
        table: TableLimits::default(),
    };
    match options.backend {
        Backend::Dpdk if options.segments => measure(options, Rig::start_advancing(settings)?),
        Backend::Dpdk => measure(options, Rig::start(settings, |_| Ok(()))?),
        #[cfg(feature = "capsule")]
        Backend::Capsule => measure(options, Rig::start_over_capsule(settings)?),
    }
}

fn measure<P: Port, L>(options: &Options, mut rig: Rig<P, L>) -> Result<(), PerfError> {
    let failed = |words: String| PerfError::Failed { what: "vinet".to_owned(), words };
    let policy = policy_file::load(&options.policy).map_err(|e| PerfError::Option(e.to_string()))?;
    let policy = Arc::new(policy);
    let started = Instant::now();
    install_firewalls(&mut rig.table, &firewalls(options), &policy).map_err(failed)?;
    let setup_s = started.elapsed().as_secs_f64();

    if !options.words.is_empty() {
        let executable = filter(&options.words, &policy).map_err(failed)?;
        rig.table.install(install(FILTER, executable)).map_err(|e| failed(e.to_string()))?;
    }
    let seen = |table: &TableWriter| table.program_counts(FILTER).map_or(0, |counts| counts.seen_packets);

    std::thread::sleep(Duration::from_secs(1));
    let seen_before = seen(&rig.table);
    let (before, after, elapsed) = rig.window(Duration::from_secs(options.seconds));
    let (programs, seen) = (rig.table.len(), seen(&rig.table) - seen_before);
    rig.stop()?;

    let rate = |a: u64, b: u64| (b - a) as f64 / elapsed.as_secs_f64();
    let sent: Vec<f64> = before.ports.iter().zip(&after.ports).map(|(a, b)| rate(a.tx_packets, b.tx_packets)).collect();
    let received = received(&after) - received(&before);
    let drops: Vec<u64> = after.drops.iter().zip(&before.drops).map(|(b, a)| b - a).collect();
    let (dropped, discarded) = (drops.iter().sum::<u64>(), drops[DropReason::Program as usize]);
    println!(
        "{}",
        serde_json::json!({
            "sent_pps": sent, "received": received, "received_pps": received as f64 / elapsed.as_secs_f64(),
            "dropped": dropped, "discarded": discarded, "programs": programs, "seen": seen, "setup_s": setup_s,
        })
    );
    Ok(())
}

/// The source and the owner of each firewall.
fn firewalls(options: &Options) -> Vec<(Addr, Addr)> {
    let Some(count) = options.random_flows else { return (0..options.firewalls).map(capture::idle_pair).collect() };
    let mut flows = capture::random::flows(count);
    // Not in the order of the capture: a packet's counts are to lie nowhere near those of the one before.
    flows.sort_unstable_by_key(|flow| flow.dst);
    flows.iter().map(|flow| (Addr::V4(flow.firewall), Addr::V4(flow.dst))).collect()
}

/// Installs firewalls, each proven to keep to the policy, by one proof for all, and checked.
fn install_firewalls(table: &mut TableWriter, all: &[(Addr, Addr)], policy: &Arc<Policy>) -> Result<(), String> {
    let Some(&(source, _)) = all.first() else { return Ok(()) };
    let pairs = Pairs::against(source, policy)?;
    let mut id = 0;
    for some in all.chunks(BATCH) {
        let mut batch = Batch::new();
        for &(source, owner) in some {
            id += 1;
            batch.install(install(InstallId(id), pairs.between(source, owner)?));
        }
        table.apply(batch).map_err(|e| e.to_string())?;
        table.reclaim();
    }
    Ok(())
}

/// The paper's spam filter: it discards what holds all of the words.
fn filter(words: &[String], policy: &Arc<Policy>) -> Result<Arc<Executable>, String> {
    let this_ip = AddrExpr { this_ip: true, ..AddrExpr::default() };
    let contains = |word| Cond::Contains { arg: 3, word };
    let count = u8::try_from(words.len()).map_err(|e| e.to_string())?;
    let all = (1..count).fold(contains(0), |a, word| Cond::And { a: Box::new(a), b: Box::new(contains(word)) });
    let each = Instr::If { cond: all, then: vec![Instr::Discard { arg: 3 }], otherwise: vec![] };
    let body = vec![
        Instr::Select { out: 1, arg: 0, test: Test::In { field: Field::Dst, addrs: this_ip } },
        Instr::Partition { out: 2, arg: 1, field: Field::Src },
        Instr::Foreach { groups: 2, packets: 3, key: 4, body: vec![each] },
    ];
    let words = words.iter().map(|word| Word { fold: false, bytes: word.as_bytes().to_vec() }).collect();
    let owner = Principal::EndUser(Addr::V4(segments::OWNER));
    accepted(&Program::new(3600, 1, words, body).map_err(|e| e.to_string())?, owner, policy)
}

fn accepted(program: &Program, owner: Principal, policy: &Arc<Policy>) -> Result<Arc<Executable>, String> {
    let lemmas = vinet_prover::library();
    let proof = vinet_prover::prove(program, &owner, policy, &lemmas, &[]).map_err(|e| e.to_string())?;
    let checked = check(&program.encode(), &proof, owner, policy, &lemmas).map_err(|e| e.to_string())?;
    Executable::lower(Arc::new(checked)).map(Arc::new).map_err(|e| e.to_string())
}

fn install(id: InstallId, executable: Arc<Executable>) -> Install {
    Install { id, executable, packet_rate: 0, over_budget: OverBudget::Forward, generate_key: [0; 32], monitor: false }
}
