//! This router as a process of its own: its fast path over two devices, with routes and programs, for the subcommands that put
//! it under test.
//!
//! It prints one JSON line when it polls (`"ready": true`, the ports' addresses, what the programs took), and another with its
//! counters at the end: after `--seconds`, or when its standard input ends, which it does when whoever started it ends.

pub mod programs;

use crate::run::PerfError;
use clap::Args;
use programs::{Kind, Placed};
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vinet_fastpath::counters::{Counters, Snapshot};
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::eal::{Eal, EalSettings, Memory};
use vinet_fastpath::fib::{FibBuilder, FibWriter, Target};
use vinet_fastpath::flow_table::TableWriter;
use vinet_fastpath::port::dpdk::{DpdkConfig, DpdkPort};
use vinet_fastpath::port::mbuf::{Mempool, MempoolSettings};
use vinet_fastpath::port::{Port, PortHandle};
use vinet_fastpath::router::{self, PortQueues};
use vinet_fastpath::settings::{Discipline, Idle, PortSettings, Settings};
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};

/// What a router under test is made of, whoever runs it.
#[derive(Args, Clone, Debug)]
pub struct Under {
    /// How many programs are installed.
    #[arg(long, default_value_t = 0)]
    pub programs: u32,
    /// Of which kind.
    #[arg(long, value_enum, default_value_t = Kind::Firewall)]
    pub kind: Kind,
    /// The policy that they are proven to keep to.
    #[arg(long, default_value = "configs/policy/end-user.toml")]
    pub policy: PathBuf,
}

/// One router.
#[derive(Args)]
pub struct Options {
    /// The device of port 0, the edge port.
    #[arg(long)]
    edge: String,
    /// The device of port 1, the uplink.
    #[arg(long)]
    uplink: String,
    /// The core of the worker; none: wherever the kernel likes.
    #[arg(long)]
    core: Option<usize>,
    /// The core of this thread.
    #[arg(long)]
    control_core: Option<usize>,
    /// Sleep when there is nothing to do.
    #[arg(long)]
    backoff: bool,
    /// Packet memory, in MiB.
    #[arg(long, default_value_t = 128)]
    memory_mib: u32,
    /// Ordinary pages instead of hugepages.
    #[arg(long)]
    no_huge: bool,
    /// Names the process among those of DPDK.
    #[arg(long, default_value = "vinet-perf-router")]
    file_prefix: String,
    /// Measure for so long and end; otherwise run until standard input ends.
    #[arg(long)]
    seconds: Option<u64>,
    /// A capture whose flows matching firewalls are for.
    #[arg(long)]
    flows_of: Option<PathBuf>,
    /// Packets that wait for a transmit ring.
    #[arg(long, default_value_t = 512)]
    queue_depth: usize,
    #[command(flatten)]
    under: Under,
}

/// Runs it.
pub fn run(options: &Options) -> Result<(), PerfError> {
    let failed = |words: String| PerfError::Failed { what: "the router under test".to_owned(), words };
    let mut eal_settings = EalSettings::new(&options.file_prefix);
    eal_settings.main_core = options.control_core;
    let mib = options.memory_mib;
    eal_settings.memory = if options.no_huge { Memory::Ordinary { mib } } else { Memory::Huge { mib: Some(mib) } };
    eal_settings.pci = false;
    let eal = Eal::start(&eal_settings).map_err(|e| failed(e.to_string()))?;
    let buffers = (mib * 1024 / 5).min(16_384);
    let pool = Mempool::new(&eal, MempoolSettings::for_mtu(buffers, 1500)).map_err(|e| failed(e.to_string()))?;
    let (mut handles, mut ports) = (Vec::new(), Vec::new());
    for (name, device) in [("edge", &options.edge), ("uplink", &options.uplink)] {
        let port = DpdkPort::open(&eal, &pool, &DpdkConfig::new(name, device)).map_err(|e| failed(e.to_string()))?;
        let (handle, rx, tx) = port.split();
        ports.push(PortQueues { settings: port_settings(name, handle.mac(), options.queue_depth), rx, tx });
        handles.push(handle);
    }
    let idle = if options.backoff { Idle::Backoff } else { Idle::Spin };
    let settings = Settings { cores: vec![options.core], idle, ..Settings::default() };
    let register = {
        let eal = eal.clone();
        move |_: usize| eal.register_worker_thread().map_err(|e| e.to_string())
    };
    let running = router::start(settings, ports, vec![pool.handle()], register).map_err(|e| failed(e.to_string()))?;
    let router::Running { mut table, mut fib, counters, workers, .. } = running;
    routes(&mut fib).map_err(failed)?;
    let placed = install(&mut table, &options.under, options.flows_of.as_deref())?;
    let macs: Vec<[u8; 6]> = handles.iter().map(PortHandle::mac).collect();
    println!("{}", json!({"ready": true, "macs": macs, "programs": placed}));
    match options.seconds {
        Some(seconds) => {
            std::thread::sleep(Duration::from_millis(500));
            println!("{}", measure(&counters, Duration::from_secs(seconds)));
        }
        None => {
            // Whatever is read: the end is what is waited for.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let last = workers.stop().counters;
            println!("{}", counts(&last));
            return Ok(());
        }
    }
    drop(workers.stop());
    Ok(())
}

/// The settings of port 0 ("edge": it controls the sources of all benchmarks, so every packet is looked up among the
/// programs) or of another.
pub fn port_settings(name: &str, mac: [u8; 6], queue_depth: usize) -> PortSettings {
    let v4 = [(0x0a00_0000, 8), (0xac10_0000, 12)].map(|(addr, len)| Prefix::of(Addr::V4(addr), len));
    let v6 = Prefix::of(Addr::V6(0x2001_0002 << 96), 64);
    let controlled = PrefixSet::new(v4.into_iter().chain([v6]).flatten().collect());
    PortSettings {
        name: name.to_owned(),
        mac,
        mtu: 1500,
        controlled: (name == "edge").then_some(controlled),
        vlan: Vec::new(),
        queue_depth,
        discipline: Discipline::Fifo,
    }
}

/// Everything out of port 1, by a neighbour that is known: 198.18.0.0/15 (RFC 2544) and 2001:2::/48 (RFC 5180).
pub fn routes(fib: &mut FibWriter) -> Result<(), String> {
    let mut routes = FibBuilder::new();
    for (net, len, gateway, link_len) in [
        (Addr::V4(0xc612_0000), 15, Addr::V4(0xc0a8_0102), 24),
        (Addr::V6(0x2001_0002 << 96), 48, Addr::V6((0x2001_0db8 << 96) + 2), 64),
    ] {
        let (Some(to), Some(link)) = (Prefix::of(net, len), Prefix::of(gateway, link_len)) else { continue };
        routes.route(to, Target::Via { port: 1, gateway: Some(gateway) });
        routes.route(link, Target::Via { port: 1, gateway: None });
        routes.neighbour(1, gateway, [0x02, 0, 0, 0, 1, 1]);
    }
    let routes = routes.build().map_err(|e| e.to_string())?;
    fib.publish(routes).map_err(|e| e.to_string())
}

/// Installs the programs and says what they took.
pub fn install(
    table: &mut TableWriter,
    under: &Under,
    flows_of: Option<&std::path::Path>,
) -> Result<Placed, PerfError> {
    programs::install(table, under.kind, under.programs, &under.policy, flows_of)
}

/// What the worker counts in so long, a second.
fn measure(counters: &Counters, time: Duration) -> Value {
    let (before, started) = (counters.snapshot(), Instant::now());
    std::thread::sleep(time);
    let (after, elapsed) = (counters.snapshot(), started.elapsed().as_secs_f64());
    let rate = |a: u64, b: u64| (b - a) as f64 / elapsed;
    let sum = |snapshot: &Snapshot| snapshot.ports.iter().map(|port| port.rx_packets).sum::<u64>();
    let sent: Vec<f64> = before.ports.iter().zip(&after.ports).map(|(a, b)| rate(a.tx_packets, b.tx_packets)).collect();
    // What was dropped before the routes were there is of no measurement.
    let mut span = after.clone();
    for (count, before) in span.drops.iter_mut().zip(&before.drops) {
        *count -= before;
    }
    let mut value = counts(&span);
    value["difference"] = json!(after.balance().difference as i64);
    value["received_pps"] = json!(rate(sum(&before), sum(&after)));
    value["sent_pps"] = json!(sent);
    value["dropped_pps"] = json!(rate(before.dropped(), after.dropped()));
    value
}

/// All that a snapshot counts.
pub fn counts(snapshot: &Snapshot) -> Value {
    let ports: Vec<Value> =
        snapshot.ports.iter().map(|port| json!({"received": port.rx_packets, "sent": port.tx_packets})).collect();
    let drops: serde_json::Map<String, Value> = DropReason::ALL
        .into_iter()
        .filter(|&reason| snapshot.drop(reason) > 0)
        .map(|reason| (format!("{reason:?}"), json!(snapshot.drop(reason))))
        .collect();
    json!({"ports": ports, "drops": drops, "difference": snapshot.balance().difference as i64})
}
