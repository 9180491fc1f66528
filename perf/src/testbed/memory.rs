//! Testbeds of one process: this router, or nothing, between two wires in memory.

use super::{Bench, ONE_MACHINE, Options, Testbed, Tester};
use crate::generate::engine::{Ends, Outcome, RingFull, Settings, Watch};
use crate::generate::packet::Link;
use crate::generate::plan::Plan;
use crate::router::{self, counts};
use crate::run::PerfError;
use serde_json::Value;
use vinet_fastpath::port::Port;
use vinet_fastpath::port::memory::{MemoryConfig, MemoryPool, MemoryPort, MemoryRx, MemoryTx};
use vinet_fastpath::router::{PortQueues, Running, start};
use vinet_fastpath::settings;

/// Packets of each ring.
const RING_LEN: usize = 1024;
/// Buffers of each side: all rings, and what is on its way.
const BUFFERS: usize = 8 * 1024;
/// The longest frame.
const FRAME_LEN_MAX: usize = 9 * 1024 + 64;

type MemoryBench<F> = Bench<MemoryRx, MemoryTx, MemoryPool, F>;
type Router = Running<MemoryRx, MemoryTx, MemoryPool>;

struct InMemory<F> {
    bench: MemoryBench<F>,
    router: Option<Router>,
}

impl<F: Fn() -> Result<(), String> + Sync> Tester for InMemory<F> {
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
        let Some(router) = self.router else { return Ok(Value::Null) };
        let stopped = router.workers.stop();
        if !stopped.panicked.is_empty() {
            let words = "its worker panicked".to_owned();
            return Err(PerfError::Failed { what: "the router under test".to_owned(), words });
        }
        Ok(counts(&stopped.counters))
    }
}

fn config(name: &str, number: u8) -> MemoryConfig {
    MemoryConfig { rx_ring_len: RING_LEN, ..MemoryConfig::new(name, number) }
}

fn testbed(options: &Options, rx: MemoryRx, tx: MemoryTx, router: Option<Router>, link: Link) -> Testbed {
    let pool = MemoryPool::new(BUFFERS, FRAME_LEN_MAX);
    let is_router = router.is_some();
    let bench = Bench { ends: Ends { rx, tx, pool }, core: options.core, register: || Ok(()) };
    Testbed {
        tester: Box::new(InMemory { bench, router }),
        link,
        line_mbps: None,
        ring_full: if is_router { RingFull::Lose } else { RingFull::Wait },
        name: if is_router { "this router, in process, over memory" } else { "a wire in memory" }.to_owned(),
        notes: vec![
            if is_router { ONE_MACHINE } else { "there is no system under test: what is measured is the generator" }
                .to_owned(),
        ],
    }
}

/// A wire from the port that sends to the one that receives.
pub fn wire(options: &Options) -> Testbed {
    let (a, b) = MemoryPort::wire(&config("send", 1), &config("receive", 2), 1);
    let ((_, _, mut tx), (_, mut rx, _)) = (a.split(), b.split());
    let link = Link { dst: [2, 0, 0, 0, 0, 2], src: [2, 0, 0, 0, 0, 1] };
    testbed(options, rx.remove(0), tx.remove(0), None, link)
}

/// Two wires with this router between them.
pub fn router(options: &Options) -> Result<Testbed, PerfError> {
    let failed = |words: String| PerfError::Failed { what: "the router under test".to_owned(), words };
    let (near, edge) = MemoryPort::wire(&config("send", 1), &config("edge", 2), 1);
    let (uplink, far) = MemoryPort::wire(&config("uplink", 3), &config("receive", 4), 1);
    let ((_, _, mut tx), (_, mut rx, _)) = (near.split(), far.split());
    let ports = [("edge", edge, 2), ("uplink", uplink, 3)].map(|(name, port, number)| {
        let (_, rx, tx) = port.split();
        PortQueues { settings: router::port_settings(name, [2, 0, 0, 0, 0, number], RING_LEN), rx, tx }
    });
    let settings = settings::Settings {
        cores: vec![options.router_core],
        idle: if options.spin { settings::Idle::Spin } else { settings::Idle::Backoff },
        ..settings::Settings::default()
    };
    let pool = MemoryPool::new(64, FRAME_LEN_MAX);
    let mut running = start(settings, ports.into(), vec![pool], |_| Ok(())).map_err(|e| failed(e.to_string()))?;
    router::routes(&mut running.fib).map_err(failed)?;
    let placed = router::install(&mut running.table, &options.router, None)?;
    if let Some(why) = placed.refused {
        return Err(failed(why));
    }
    let link = Link { dst: [2, 0, 0, 0, 0, 2], src: [2, 0, 0, 0, 0, 1] };
    Ok(testbed(options, rx.remove(0), tx.remove(0), Some(running), link))
}
