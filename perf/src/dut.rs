//! This router as the device under test: its fast path over `net_pcap` and `net_null`, two routes, some programs that do
//! not match or a spam filter, one worker that spins.

use crate::rig::{Rig, RigSettings, received};
use crate::run::PerfError;
use crate::spam::segments;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use vinet_fastpath::eal::Memory;
use vinet_fastpath::flow_table::{Install, InstallId, TableWriter};
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
    #[arg(long)]
    firewalls: u32,
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
    let settings = RigSettings {
        name: "vinet-perf-dut",
        cores: vec![options.core],
        control_core: options.control_core,
        memory: Memory::Huge { mib: Some(512) },
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
    for number in 0..options.firewalls {
        let executable = firewall(number, &policy).map_err(failed)?;
        let id = InstallId(u64::from(number) + 1);
        rig.table.install(install(id, executable)).map_err(|e| failed(e.to_string()))?;
        if number % 1024 == 0 {
            rig.table.reclaim();
        }
    }

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
    let dropped: u64 = after.drops.iter().zip(&before.drops).map(|(b, a)| b - a).sum();
    println!(
        "{}",
        serde_json::json!({
            "sent_pps": sent, "received": received, "dropped": dropped, "programs": programs, "seen": seen,
        })
    );
    Ok(())
}

/// A firewall of one of the 508 destinations of the capture, against a source that sends nothing.
fn firewall(number: u32, policy: &Arc<Policy>) -> Result<Executable, String> {
    let owner = 0xc612_0000 + (number % 2) * 256 + 1 + number / 2 % 254;
    let owner = Principal::EndUser(Addr::V4(owner));
    let source = Addr::V4(0xac10_0000 + number / 508);
    let this_ip = AddrExpr { this_ip: true, ..AddrExpr::default() };
    let body = vec![
        Instr::Select { out: 1, arg: 0, test: Test::In { field: Field::Dst, addrs: this_ip } },
        Instr::Select { out: 2, arg: 1, test: Test::In { field: Field::Src, addrs: source.into() } },
        Instr::Discard { arg: 2 },
    ];
    accepted(&Program::new(3600, 1, Vec::new(), body).map_err(|e| e.to_string())?, owner, policy)
}

/// The paper's spam filter: it discards what holds all of the words.
fn filter(words: &[String], policy: &Arc<Policy>) -> Result<Executable, String> {
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

fn accepted(program: &Program, owner: Principal, policy: &Arc<Policy>) -> Result<Executable, String> {
    let lemmas = vinet_prover::library();
    let proof = vinet_prover::prove(program, &owner, policy, &lemmas, &[]).map_err(|e| e.to_string())?;
    let checked = check(&program.encode(), &proof, owner, policy, &lemmas).map_err(|e| e.to_string())?;
    Executable::lower(Arc::new(checked)).map_err(|e| e.to_string())
}

fn install(id: InstallId, executable: Executable) -> Install {
    let (executable, over_budget) = (Arc::new(executable), OverBudget::Forward);
    Install { id, executable, packet_rate: 0, over_budget, generate_key: [0; 32] }
}
