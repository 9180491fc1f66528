//! Testbeds over DPDK: any two ports, or one.

use super::{Bench, Options, Testbed, Tester};
use crate::generate::engine::{Ends, Outcome, RingFull, Settings, Watch};
use crate::generate::packet::Link;
use crate::generate::plan::Plan;
use crate::run::PerfError;
use serde_json::Value;
use std::time::{Duration, Instant};
use vinet_fastpath::eal::{Eal, EalError, EalSettings, Memory, WorkerThread};
use vinet_fastpath::port::dpdk::{DpdkConfig, DpdkHandle, DpdkPort, DpdkRx, DpdkTx};
use vinet_fastpath::port::mbuf::{MbufPool, Mempool, MempoolSettings};
use vinet_fastpath::port::{Port, PortHandle};

/// Bytes of a buffer with all that DPDK keeps for it, about.
const BUFFER_BYTES: u32 = 2_600;
/// The most buffers.
const BUFFERS_MAX: u32 = 32_768;
/// How long a link may take to come up.
const LINK_TIME_MAX: Duration = Duration::from_secs(10);

/// The environment and the pool of a generator.
pub struct Environment {
    pub eal: Eal,
    pub pool: Mempool,
}

/// Starts DPDK.
pub fn environment(options: &Options, pci: bool) -> Result<Environment, PerfError> {
    let mib = options.memory_mib;
    let mut settings = EalSettings::new(&format!("vinet-perf-{}", std::process::id()));
    settings.memory = if options.no_huge { Memory::Ordinary { mib } } else { Memory::Huge { mib: Some(mib) } };
    settings.pci = pci;
    settings.main_core = vinet_fastpath::pinning::allowed_cores().first().copied();
    settings.args = vec!["--no-telemetry".to_owned()];
    let eal = Eal::start(&settings).map_err(|error| match error {
        EalError::NoHugepages { .. } => {
            PerfError::Missing { what: "packet memory".to_owned(), remedy: format!("{error}, or give --no-huge") }
        }
        EalError::NotPermitted { .. } => {
            PerfError::Missing { what: "the right to use DPDK".to_owned(), remedy: error.to_string() }
        }
        other => PerfError::Failed { what: "DPDK".to_owned(), words: other.to_string() },
    })?;
    let buffers = (mib * 1024 / BUFFER_BYTES * 1024 / 2).clamp(2048, BUFFERS_MAX);
    let pool = Mempool::new(&eal, MempoolSettings::for_mtu(buffers, 1500));
    let pool = pool.map_err(|e| PerfError::Failed { what: "DPDK".to_owned(), words: e.to_string() })?;
    Ok(Environment { eal, pool })
}

/// One end: the receive queue of a port, the transmit queue of the same or another.
pub struct Ports {
    pub handles: Vec<DpdkHandle>,
    pub rx: DpdkRx,
    pub tx: DpdkTx,
}

/// Opens both, or the one that is named twice.
pub fn open(environment: &Environment, send: &str, receive: &str) -> Result<Ports, PerfError> {
    let open = |name: &str, device: &str| {
        let port = DpdkPort::open(&environment.eal, &environment.pool, &DpdkConfig::new(name, device));
        port.map(Port::split).map_err(|e| PerfError::Option(e.to_string()))
    };
    let (near, mut near_rx, mut tx) = open("send", send)?;
    if send == receive {
        return Ok(Ports { handles: vec![near], rx: near_rx.remove(0), tx: tx.remove(0) });
    }
    let (far, mut rx, _) = open("receive", receive)?;
    Ok(Ports { handles: vec![near, far], rx: rx.remove(0), tx: tx.remove(0) })
}

/// Waits until all links are up.
pub fn wait_for_links(handles: &[DpdkHandle]) -> Result<(), PerfError> {
    let end = Instant::now() + LINK_TIME_MAX;
    while let Some(down) = handles.iter().find(|handle| !handle.link().up) {
        if Instant::now() >= end {
            let words = format!("the link of port `{}` is down after {} s", down.name(), LINK_TIME_MAX.as_secs());
            return Err(PerfError::Failed { what: "the testbed".to_owned(), words });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A bench over these ports.
pub fn bench(
    environment: &Environment,
    ports: (DpdkRx, DpdkTx),
    core: Option<usize>,
) -> Bench<DpdkRx, DpdkTx, MbufPool, impl Fn() -> Result<WorkerThread, String> + Sync + use<>> {
    let eal = environment.eal.clone();
    let register = move || eal.register_worker_thread().map_err(|e| e.to_string());
    Bench { ends: Ends { rx: ports.0, tx: ports.1, pool: environment.pool.handle() }, core, register }
}

struct External<F> {
    bench: Bench<DpdkRx, DpdkTx, MbufPool, F>,
    handles: Vec<DpdkHandle>,
}

impl<F: Fn() -> Result<WorkerThread, String> + Sync> Tester for External<F> {
    fn trial(
        &mut self,
        plan: &Plan,
        settings: &Settings,
        watch: &Watch,
        tick: &mut dyn FnMut(),
    ) -> Result<Outcome, PerfError> {
        self.bench.trial(plan, settings, watch, tick)
    }
    fn end(self: Box<Self>) -> Result<Value, PerfError> {
        let ports = self.handles.iter().map(|handle| {
            let (stats, extended) = (handle.stats(), handle.extended_stats());
            let extended: serde_json::Map<String, Value> = extended
                .into_iter()
                .filter(|&(_, count)| count > 0)
                .map(|(name, count)| (name, count.into()))
                .collect();
            serde_json::json!({
                "port": handle.name(), "rx_packets": stats.rx_packets, "tx_packets": stats.tx_packets,
                "rx_missed": stats.rx_missed, "rx_errors": stats.rx_errors, "tx_errors": stats.tx_errors,
                "extended": extended,
            })
        });
        Ok(Value::Array(ports.collect()))
    }
}

/// Whatever lies between the two named ports.
pub fn external(options: &Options) -> Result<Testbed, PerfError> {
    let Some(send) = &options.send else {
        return Err(PerfError::Option(
            "--under external needs --send, and --receive unless it is the same port".to_owned(),
        ));
    };
    let receive = options.receive.as_ref().unwrap_or(send);
    let environment = environment(options, true)?;
    let ports = open(&environment, send, receive)?;
    wait_for_links(&ports.handles)?;
    let (src, speed) = (ports.handles[0].mac(), ports.handles[0].link().speed_mbps);
    let mut notes = Vec::new();
    if options.dst_mac.is_none() {
        notes.push(
            "no --dst-mac: frames are sent to the receiving port's own address, as a switch or a cable needs it"
                .to_owned(),
        );
    }
    let dst = options.dst_mac.unwrap_or_else(|| ports.handles.last().map_or(src, PortHandle::mac));
    let bench = bench(&environment, (ports.rx, ports.tx), options.core);
    Ok(Testbed {
        tester: Box::new(External { bench, handles: ports.handles }),
        link: Link { dst, src },
        line_mbps: speed,
        ring_full: RingFull::Wait,
        name: format!("between {send} and {receive}"),
        notes,
    })
}
