//! This router in this process: its fast path over `net_pcap` and `net_null`, two routes, workers that spin.
//!
//! Port 0 repeats a capture without end and is an edge port, so that every packet is looked up among the programs; port 1
//! is the uplink. Half of the capture's flows are routed to each. EAL can be started once in a process, so there is one
//! rig in one.

use crate::capture::Capture;
use crate::run::PerfError;
use crate::spam::segments::AdvancingPort;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vinet_fastpath::counters::{Counters, Snapshot};
use vinet_fastpath::eal::{Eal, EalSettings, Memory};
use vinet_fastpath::fib::{FibBuilder, FibWriter, Target};
use vinet_fastpath::flow_table::TableWriter;
use vinet_fastpath::port::dpdk::{DpdkConfig, DpdkPort};
use vinet_fastpath::port::mbuf::{MbufPool, Mempool, MempoolSettings};
use vinet_fastpath::port::{PacketPool, Port, PortHandle};
use vinet_fastpath::router::{self, PortQueues, Workers};
use vinet_fastpath::settings::{Discipline, Idle, PortSettings, Settings, TableLimits};
use vinet_session::policy_file;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::policy::Policy;

/// Those that a worker keeps for itself, as for DPDK's own ports.
#[cfg(feature = "capsule")]
const CACHE: u32 = 256;

/// What the commands that measure with a rig in their own process are told about the machine.
#[derive(Args)]
pub struct RigOptions {
    /// The core of everything else.
    #[arg(long, default_value_t = 0)]
    pub control_core: usize,
    /// Packet memory from ordinary pages, on a machine without hugepages.
    #[arg(long)]
    no_huge: bool,
    /// The policy that the programs are proven to keep to.
    #[arg(long, default_value = "configs/policy/end-user.toml")]
    policy: PathBuf,
    /// Where the capture is kept.
    #[arg(long, default_value = "target/perf")]
    dir: PathBuf,
}

impl RigOptions {
    /// Packet memory for the standard capture.
    pub fn memory(&self) -> Memory {
        const MIB: u32 = 128;
        if self.no_huge { Memory::Ordinary { mib: MIB } } else { Memory::Huge { mib: Some(MIB) } }
    }
    /// The policy, read.
    pub fn policy(&self) -> Result<Arc<Policy>, PerfError> {
        policy_file::load(&self.policy).map(Arc::new).map_err(|error| PerfError::Option(error.to_string()))
    }
    /// Where the capture of this name goes, in a folder that is there.
    pub fn capture(&self, name: &str) -> Result<PathBuf, PerfError> {
        std::fs::create_dir_all(&self.dir).map_err(|error| PerfError::File { path: self.dir.clone(), error })?;
        Ok(self.dir.join(format!("{name}.pcap")))
    }
}

/// What a rig is made of.
pub struct RigSettings<'a> {
    /// Names the process among those of DPDK.
    pub name: &'a str,
    /// A worker on each of these cores.
    pub cores: Vec<usize>,
    /// The core of the calling thread, as EAL sees it.
    pub control_core: usize,
    /// The capture that the device of port 0 repeats.
    pub capture: Capture,
    /// Packet memory.
    pub memory: Memory,
    /// The device of port 0, with a receive queue for each worker.
    pub receive: String,
    /// The device of port 1.
    pub send: String,
    /// Bounds of the flow table.
    pub table: TableLimits,
}

impl RigSettings<'_> {
    fn eal(&self) -> EalSettings {
        let mut eal = EalSettings::new(self.name);
        eal.main_core = Some(self.control_core);
        eal.memory = self.memory;
        eal.pci = false;
        eal
    }
}

/// A running router over ports of a kind, with pools of theirs. Dropping it stops the workers.
pub struct Rig<P: Port = DpdkPort, L = MbufPool> {
    /// Installs and withdraws programs.
    pub table: TableWriter,
    /// What the workers count.
    pub counters: Counters,
    workers: Workers<P::Rx, P::Tx, L>,
    /// Keeps the devices, and the routes that workers read.
    _held: (Vec<P::Handle>, FibWriter),
}

/// The device that repeats `capture` without end, on so many receive queues.
pub fn receive_device(capture: &Path, queues: usize) -> String {
    let capture = format!(",rx_pcap={}", capture.display()).repeat(queues);
    format!("net_pcap0{capture},infinite_rx=1")
}

/// The device that drops what it is given, and receives nothing.
pub fn send_device() -> String {
    "net_null0,no-rx=1".to_owned()
}

impl Rig {
    /// Starts it. `on_worker` is called on each worker's thread before it polls.
    pub fn start(
        settings: RigSettings<'_>,
        on_worker: impl Fn(usize) -> Result<(), String> + Send + Sync + 'static,
    ) -> Result<Rig, PerfError> {
        let (eal, ports, pools) = open(&settings)?;
        Rig::over(eal, ports, pools, settings, on_worker)
    }
}

impl Rig<AdvancingPort<DpdkPort>, MbufPool> {
    /// Starts it over ports that advance the sequence numbers of a capture of TCP segments.
    pub fn start_advancing(settings: RigSettings<'_>) -> Result<Self, PerfError> {
        let (eal, ports, pools) = open(&settings)?;
        Rig::over(eal, ports.into_iter().map(AdvancingPort).collect(), pools, settings, |_| Ok(()))
    }
}

/// DPDK's ports, "in" and "out", and a pool for each worker.
fn open(settings: &RigSettings<'_>) -> Result<(Eal, Vec<DpdkPort>, Vec<MbufPool>), PerfError> {
    let failed = |words: String| PerfError::Failed { what: "vinet".to_owned(), words };
    let eal = Eal::start(&settings.eal()).map_err(|e| failed(e.to_string()))?;
    let pool = Mempool::new(&eal, MempoolSettings::for_mtu(settings.capture.buffers(), 1500));
    let pool = pool.map_err(|e| failed(e.to_string()))?;

    let queues = settings.cores.len() as u16;
    let mut ports = Vec::new();
    for (name, device) in [("in", &settings.receive), ("out", &settings.send)] {
        let config = DpdkConfig { tx_queues: queues, ..DpdkConfig::new(name, device) };
        let config = DpdkConfig { rx_queues: if name == "in" { queues } else { 1 }, ..config };
        ports.push(DpdkPort::open(&eal, &pool, &config).map_err(|e| failed(e.to_string()))?);
    }
    let pools = settings.cores.iter().map(|_| pool.handle()).collect();
    Ok((eal, ports, pools))
}

#[cfg(feature = "capsule")]
impl Rig<vinet_fastpath::port::capsule::CapsulePort, vinet_fastpath::port::capsule::CapsulePool> {
    /// Starts it over the ports of the crate capsule, which take one worker.
    pub fn start_over_capsule(settings: RigSettings<'_>) -> Result<Self, PerfError> {
        use vinet_fastpath::port::capsule::{CapsuleConfig, CapsuleRuntime};
        let failed = |words: String| PerfError::Failed { what: "vinet".to_owned(), words };
        let configs = [("in", &settings.receive), ("out", &settings.send)];
        let configs = configs.map(|(name, device)| CapsuleConfig::new(name, device));
        let (runtime, ports) = CapsuleRuntime::start(&settings.eal(), settings.capture.buffers(), CACHE, &configs)
            .map_err(|e| failed(e.to_string()))?;
        Rig::over(runtime.eal().clone(), ports, vec![runtime.pool()], settings, |_| Ok(()))
    }
}

impl<P: Port, L> Rig<P, L> {
    /// Starts it over these ports, "in" and "out", with a pool for each worker.
    fn over(
        eal: Eal,
        opened: Vec<P>,
        pools: Vec<L>,
        settings: RigSettings<'_>,
        on_worker: impl Fn(usize) -> Result<(), String> + Send + Sync + 'static,
    ) -> Result<Self, PerfError>
    where
        P: Port<Rx: 'static, Tx: 'static>,
        L: PacketPool<Buf = P::Buf> + 'static,
    {
        let failed = |words: String| PerfError::Failed { what: "vinet".to_owned(), words };
        let (mut handles, mut ports) = (Vec::new(), Vec::new());
        for port in opened {
            let (handle, rx, tx) = port.split();
            let name = handle.name();
            let sources = [(0x0a00_0000, 8), (0xac10_0000, 12)].map(|(addr, len)| Prefix::of(Addr::V4(addr), len));
            let controlled = PrefixSet::new(sources.into_iter().flatten().collect());
            let settings = PortSettings {
                name: name.to_owned(),
                mac: handle.mac(),
                mtu: 1500,
                controlled: (name == "in").then_some(controlled),
                vlan: Vec::new(),
                queue_depth: 512,
                discipline: Discipline::Fifo,
            };
            handles.push(handle);
            ports.push(PortQueues { settings, rx, tx });
        }
        let cores = settings.cores.into_iter().map(Some).collect();
        let workers = Settings { cores, idle: Idle::Spin, table: settings.table, ..Settings::default() };
        let register = move |worker: usize| {
            let guard = eal.register_worker_thread().map_err(|e| e.to_string())?;
            on_worker(worker)?;
            Ok(guard)
        };
        let running = router::start(workers, ports, pools, register).map_err(|e| failed(e.to_string()))?;
        let router::Running { table, mut fib, counters, workers, .. } = running;

        let mut routes = FibBuilder::new();
        for (port, (net, len)) in (0u16..).zip(settings.capture.networks()) {
            let gateway = Addr::V4(0xc0a8_0002 + (u32::from(port) << 8));
            let (to, link) = (Prefix::of(Addr::V4(net), len), Prefix::of(gateway, 24));
            routes.route(to.unwrap_or(Prefix::host(gateway)), Target::Via { port, gateway: Some(gateway) });
            routes.route(link.unwrap_or(Prefix::host(gateway)), Target::Via { port, gateway: None });
            routes.neighbour(port, gateway, [0x02, 0, 0, 0, 1, port as u8]);
        }
        let routes = routes.build().map_err(|e| failed(e.to_string()))?;
        fib.publish(routes).map_err(|e| failed(e.to_string()))?;
        Ok(Rig { table, counters, workers, _held: (handles, fib) })
    }

    /// The counts at the beginning and at the end of so long, and how long it was in truth.
    pub fn window(&self, length: Duration) -> (Snapshot, Snapshot, Duration) {
        let (before, started) = (self.counters.snapshot(), Instant::now());
        std::thread::sleep(length);
        (before, self.counters.snapshot(), started.elapsed())
    }

    /// Stops the workers, and says if one of them panicked or a packet has no end.
    pub fn stop(self) -> Result<Snapshot, PerfError> {
        let stopped = self.workers.stop();
        if !stopped.panicked.is_empty() || stopped.counters.balance().difference != 0 {
            let why = format!("workers {:?} panicked; {:?}", stopped.panicked, stopped.counters.balance());
            return Err(PerfError::Void { what: "vinet".to_owned(), why });
        }
        Ok(stopped.counters)
    }
}

/// Packets sent by all ports.
pub fn sent(snapshot: &Snapshot) -> u64 {
    snapshot.ports.iter().map(|port| port.tx_packets).sum()
}

/// Packets received by all ports.
pub fn received(snapshot: &Snapshot) -> u64 {
    snapshot.ports.iter().map(|port| port.rx_packets).sum()
}
