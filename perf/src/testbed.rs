//! What a generator is joined to: a system under test by its ports, this router beside it, or nothing but a wire.
//!
//! | `--under` | what is tested | needs |
//! |---|---|---|
//! | `memory` | this router in a thread of this process, over rings in ordinary memory | nothing |
//! | `child` | this router in a process of its own, over memif, or vhost and virtio-user | root; for vhost, hugepages |
//! | `wire` | nothing: the generator's own limit | nothing |
//! | `external` | whatever lies between two ports, e.g. NICs of a testbed | root, what the ports' drivers need |
//!
//! On one machine the generator takes a core of its own and copies every packet twice, and memory has no line rate: such a set-up
//! shows correctness, loss and latency at moderate rates. What it is bound by is the generator as a rule, not the router, and
//! the output says so.

mod child;
mod dpdk;
mod memory;

use crate::generate::engine::{self, Ends, Outcome, RingFull, Settings, Watch};
use crate::generate::packet::Link;
use crate::generate::plan::Plan;
use crate::progress::Interrupt;
use crate::router::Under;
use crate::run::PerfError;
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use vinet_fastpath::pinning;
use vinet_fastpath::port::{PacketPool, RxQueue, TxQueue};

/// What one-machine set-ups have to say of themselves.
const ONE_MACHINE: &str = "generator and router share this machine and are joined by memory: correctness, loss and latency, \
                           not the router's rate, which the generator bounds";

/// Between two looks at a trial that runs.
const TICK: Duration = Duration::from_millis(50);

/// What lies between the generator's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Between {
    /// This router in this process, over rings in memory.
    Memory,
    /// This router in a process of its own.
    Child,
    /// A wire in memory.
    Wire,
    /// A system between two ports.
    External,
}

/// How the generator and a child are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Joint {
    /// `net_memif` at both ends.
    Memif,
    /// `net_vhost` here, `net_virtio_user` there: the virtio driver that guests have.
    Vhost,
}

/// What is tested, and where.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Options {
    /// What lies between the generator's ports; without it, `external` where ports are named and `memory` otherwise.
    #[arg(long = "under", value_enum)]
    between: Option<Between>,
    /// The device that packets are sent by, as DPDK names it (a PCI address, or e.g. net_af_packet0,iface=eth1).
    #[arg(long)]
    send: Option<String>,
    /// The device that they come back to; the same as --send for one port.
    #[arg(long)]
    receive: Option<String>,
    /// The Ethernet address of the system under test, on the side of --send.
    #[arg(long, value_parser = mac)]
    dst_mac: Option<[u8; 6]>,
    /// The line's rate in Mbit/s, for rates in percent; without it the device is asked.
    #[arg(long)]
    line_mbps: Option<u32>,
    /// The core of the generator; without it the kernel chooses.
    #[arg(long)]
    core: Option<usize>,
    /// The core of the router's worker.
    #[arg(long)]
    router_core: Option<usize>,
    /// Let the router's worker poll without sleeping, for a core of its own.
    #[arg(long)]
    spin: bool,
    /// How a child is joined.
    #[arg(long, value_enum, default_value_t = Joint::Memif)]
    joint: Joint,
    /// What becomes of a packet that finds the transmit ring full; without it, `wait` for an external system and `lose` for
    /// rings in memory.
    #[arg(long, value_enum)]
    ring_full: Option<RingFull>,
    /// Packet memory of each process, in MiB.
    #[arg(long, default_value_t = 96)]
    memory_mib: u32,
    /// Ordinary pages instead of hugepages.
    #[arg(long)]
    no_huge: bool,
    #[command(flatten)]
    pub router: Under,
}

/// A generator at the ends of what is tested.
pub struct Testbed {
    tester: Box<dyn Tester>,
    /// The addresses of the first hop.
    pub link: Link,
    /// Of the device that sends.
    pub line_mbps: Option<u32>,
    /// See there.
    pub ring_full: RingFull,
    /// What is tested, in a few words.
    pub name: String,
    /// What a reader of the results ought to know.
    pub notes: Vec<String>,
}

/// Runs trials at the ends of something.
trait Tester {
    /// Runs a trial in a thread of its own; `tick` is called while it runs.
    fn trial(
        &mut self,
        plan: &Plan,
        settings: &Settings,
        watch: &Watch,
        tick: &mut dyn FnMut(),
    ) -> Result<Outcome, PerfError>;
    /// Ends what was started, and tells what it counted; null for nothing.
    fn end(self: Box<Self>) -> Result<Value, PerfError>;
}

impl Testbed {
    /// Starts what is to be tested.
    pub fn start(options: &Options) -> Result<Testbed, PerfError> {
        let named = options.send.is_some() || options.receive.is_some();
        let between = options.between.unwrap_or(if named { Between::External } else { Between::Memory });
        if named && between != Between::External {
            return Err(PerfError::Option("--send and --receive are for --under external".to_owned()));
        }
        let mut testbed = match between {
            Between::Memory => memory::router(options)?,
            Between::Wire => memory::wire(options),
            Between::Child => child::start(options)?,
            Between::External => dpdk::external(options)?,
        };
        if let Some(ring_full) = options.ring_full {
            testbed.ring_full = ring_full;
        }
        testbed.line_mbps = options.line_mbps.or(testbed.line_mbps);
        Ok(testbed)
    }

    /// Runs a trial; an interrupt ends it early.
    pub fn trial(
        &mut self,
        plan: &Plan,
        settings: &Settings,
        interrupt: &Interrupt,
        mut show: impl FnMut(u64, u64),
    ) -> Result<Outcome, PerfError> {
        let watch = Watch::default();
        self.tester.trial(plan, settings, &watch, &mut || {
            if interrupt.is_wanted() {
                watch.stop.store(true, Relaxed);
            }
            show(watch.sent.load(Relaxed), watch.received.load(Relaxed));
        })
    }

    /// Ends what was started, and tells what it counted.
    pub fn end(self) -> Result<Value, PerfError> {
        self.tester.end()
    }
}

/// The generator's ends with the thread that they are polled on.
struct Bench<R, T, P, F> {
    ends: Ends<R, T, P>,
    core: Option<usize>,
    /// Prepares the thread.
    register: F,
}

impl<R, T, P, F, G> Bench<R, T, P, F>
where
    R: RxQueue<Buf = T::Buf>,
    T: TxQueue,
    P: PacketPool<Buf = T::Buf>,
    F: Fn() -> Result<G, String> + Sync,
{
    fn trial(
        &mut self,
        plan: &Plan,
        settings: &Settings,
        watch: &Watch,
        tick: &mut dyn FnMut(),
    ) -> Result<Outcome, PerfError> {
        let failed = |words: String| PerfError::Failed { what: "the generator".to_owned(), words };
        let Bench { ends, core, register } = self;
        let (core, register) = (*core, &*register);
        std::thread::scope(|scope| {
            let trial = scope.spawn(move || {
                if let Some(core) = core {
                    pinning::pin_current_thread(core).map_err(|e| PerfError::Option(format!("--core: {e}")))?;
                }
                let _guard = register().map_err(failed)?;
                engine::run(ends, plan, settings, watch)
            });
            while !trial.is_finished() {
                tick();
                std::thread::sleep(TICK.min(Duration::from_nanos(settings.duration_ns / 10)));
            }
            trial.join().unwrap_or_else(|_| Err(failed("its thread panicked".to_owned())))
        })
    }
}

/// An Ethernet address.
fn mac(text: &str) -> Result<[u8; 6], String> {
    let wrong = || format!("`{text}` is no Ethernet address; expected e.g. 02:00:00:00:00:01");
    let bytes: Vec<u8> = text
        .split(':')
        .map(|part| {
            if part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()) {
                u8::from_str_radix(part, 16).ok()
            } else {
                None
            }
        })
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    bytes.try_into().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_are_read() {
        assert_eq!(mac("02:00:00:00:00:fF"), Ok([2, 0, 0, 0, 0, 0xff]));
        for wrong in [
            "",
            "02",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "02:00:00:00:00:0g",
            "2:0:0:0:0:0",
            "+2:00:00:00:00:00",
        ] {
            assert!(mac(wrong).is_err(), "{wrong}");
        }
    }
}
