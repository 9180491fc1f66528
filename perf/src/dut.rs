//! This router as the device under test: its fast path over `net_pcap` and `net_null`, two routes, some programs that do
//! not match, one worker that spins.

use crate::run::PerfError;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vinet_fastpath::eal::{Eal, EalSettings, Memory};
use vinet_fastpath::fib::{FibBuilder, Target};
use vinet_fastpath::flow_table::{Install, InstallId};
use vinet_fastpath::port::dpdk::{DpdkConfig, DpdkPort};
use vinet_fastpath::port::mbuf::{Mempool, MempoolSettings};
use vinet_fastpath::port::{Port, PortHandle};
use vinet_fastpath::router::{self, PortQueues};
use vinet_fastpath::settings::{Idle, PortSettings, Settings};
use vinet_pktops::Executable;
use vinet_session::policy_file;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Principal};
use vinet_trusted::check::check;
use vinet_trusted::packet::Test;
use vinet_trusted::policy::{OverBudget, Policy};
use vinet_trusted::program::{AddrExpr, Field, Instr, Program};

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
    /// The policy that they are proven to keep to.
    #[arg(long)]
    policy: PathBuf,
    /// The device of port 0.
    #[arg(long)]
    receive: String,
    /// The device of port 1.
    #[arg(long)]
    send: String,
}

/// Measures, and prints one JSON object.
pub fn run(options: &Options) -> Result<(), PerfError> {
    let failed = |words: String| PerfError::Failed { what: "vinet".to_owned(), words };
    let mut settings = EalSettings::new("vinet-perf-dut");
    settings.main_core = Some(options.control_core);
    settings.memory = Memory::Huge { mib: Some(512) };
    settings.pci = false;
    let eal = Eal::start(&settings).map_err(|e| failed(e.to_string()))?;
    let pool = Mempool::new(&eal, MempoolSettings::for_mtu(16_384, 1500)).map_err(|e| failed(e.to_string()))?;

    let mut handles = Vec::new();
    let mut ports = Vec::new();
    for (name, device) in [("in", &options.receive), ("out", &options.send)] {
        let port = DpdkPort::open(&eal, &pool, &DpdkConfig::new(name, device)).map_err(|e| failed(e.to_string()))?;
        let (handle, rx, tx) = port.split();
        // Port 0 is an edge port, so that every packet is looked up among the programs; port 1 is the uplink.
        let sources = [(0x0a00_0000, 8), (0xac10_0000, 12)].map(|(addr, len)| Prefix::of(Addr::V4(addr), len));
        let controlled = PrefixSet::new(sources.into_iter().flatten().collect());
        let settings = PortSettings {
            name: name.to_owned(),
            mac: handle.mac(),
            mtu: 1500,
            controlled: (name == "in").then_some(controlled),
            vlan: Vec::new(),
            queue_depth: 512,
        };
        handles.push(handle);
        ports.push(PortQueues { settings, rx, tx });
    }
    let settings = Settings { cores: vec![Some(options.core)], idle: Idle::Spin, ..Settings::default() };
    let register = {
        let eal = eal.clone();
        move |_: usize| eal.register_worker_thread().map_err(|e| e.to_string())
    };
    let running = router::start(settings, ports, vec![pool.handle()], register).map_err(|e| failed(e.to_string()))?;
    let router::Running { mut table, mut fib, counters, workers, .. } = running;

    let mut routes = FibBuilder::new();
    for (port, net) in [(0u16, 0xc612_0000u32), (1, 0xc612_0100)] {
        let gateway = Addr::V4(0xc0a8_0002 + (u32::from(port) << 8));
        let (to, link) = (Prefix::of(Addr::V4(net), 24), Prefix::of(gateway, 24));
        routes.route(to.unwrap_or(Prefix::host(gateway)), Target::Via { port, gateway: Some(gateway) });
        routes.route(link.unwrap_or(Prefix::host(gateway)), Target::Via { port, gateway: None });
        routes.neighbour(port, gateway, [0x02, 0, 0, 0, 1, port as u8]);
    }
    let routes = routes.build().map_err(|e| failed(e.to_string()))?;
    fib.publish(routes).map_err(|e| failed(e.to_string()))?;

    let policy = policy_file::load(&options.policy).map_err(|e| PerfError::Option(e.to_string()))?;
    let policy = Arc::new(policy);
    for number in 0..options.firewalls {
        let executable = firewall(number, &policy).map_err(failed)?;
        let install = Install {
            id: InstallId(u64::from(number) + 1),
            executable: Arc::new(executable),
            packet_rate: 0,
            over_budget: OverBudget::Forward,
        };
        table.install(install).map_err(|e| failed(e.to_string()))?;
        if number % 1024 == 0 {
            table.reclaim();
        }
    }

    std::thread::sleep(Duration::from_secs(1));
    let (before, started) = (counters.snapshot(), Instant::now());
    std::thread::sleep(Duration::from_secs(options.seconds));
    let (after, elapsed) = (counters.snapshot(), started.elapsed().as_secs_f64());
    drop(workers.stop());
    drop(handles);

    let rate = |a: u64, b: u64| (b - a) as f64 / elapsed;
    let sent: Vec<f64> = before.ports.iter().zip(&after.ports).map(|(a, b)| rate(a.tx_packets, b.tx_packets)).collect();
    let received: u64 = after.ports.iter().zip(&before.ports).map(|(b, a)| b.rx_packets - a.rx_packets).sum();
    let dropped: u64 = after.drops.iter().zip(&before.drops).map(|(b, a)| b - a).sum();
    println!(
        "{}",
        serde_json::json!({ "sent_pps": sent, "received": received, "dropped": dropped, "programs": table.len() })
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
    let program = Program::new(3600, 1, Vec::new(), body).map_err(|e| e.to_string())?;
    let lemmas = vinet_prover::library();
    let proof = vinet_prover::prove(&program, &owner, policy, &lemmas, &[]).map_err(|e| e.to_string())?;
    let checked = check(&program.encode(), &proof, owner, policy, &lemmas).map_err(|e| e.to_string())?;
    Executable::lower(Arc::new(checked)).map_err(|e| e.to_string())
}
