//! The router that is soaked, with all that happens to it and the questions at a quiet point.

use crate::pairs::Pairs;
use crate::soak::wires::{self, Hanging, HostCounts, Hosts, NARROW, Orders, PORTS, addr, host_mac, router_mac};
use crate::verify::chance::Chance;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vinet_fastpath::counters::{Counters, Snapshot};
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::fib::{FibBuilder, FibWriter, Target};
use vinet_fastpath::flow_table::{Batch, Install, InstallError, InstallId, TableWriter};
use vinet_fastpath::hold::ResolveReceiver;
use vinet_fastpath::port::Port;
use vinet_fastpath::port::fault::{FaultCounters, Faults, FaultyPort, FaultyTx};
use vinet_fastpath::port::memory::{MemoryConfig, MemoryPool, MemoryPort, MemoryTx};
use vinet_fastpath::router::{self, PortQueues, Workers};
use vinet_fastpath::settings::{Discipline, HoldLimits, Idle, PortSettings, Settings, TableLimits};
use vinet_fastpath::slow_path::SlowPath;
use vinet_pktops::Executable;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::policy::OverBudget;

/// Buffers of the router's pool, and of the hosts'.
const BUFFERS: usize = 16_000;
/// Bytes of the longest frame.
const FRAME_LEN_MAX: usize = 1600;
/// Programs that are installed at once, at most.
const PROGRAMS_MAX: usize = 4_000;
/// Firewalls of a large batch, at most.
const LARGE_BATCH: usize = 1_000;
/// The longest that anything is waited for: other work may keep every thread from its core.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that a link of [`NARROW`] takes.
const NARROW_MTU: u16 = 700;

/// What is installed.
pub struct Programs {
    /// The shipped ones.
    pub shipped: Vec<Arc<Executable>>,
    /// The words that they look for.
    pub words: Vec<Vec<u8>>,
    /// Makes firewalls.
    pub pairs: Pairs,
}

/// How often what was done.
#[derive(Default)]
pub struct Done {
    /// Programs installed; all are withdrawn.
    pub installs: u64,
    /// Programs that came back after their withdrawal.
    pub withdrawals: u64,
    /// Batches.
    pub batches: u64,
    /// Batches and tables that were refused because workers lagged.
    pub refused: u64,
    /// Forwarding tables published.
    pub routes: u64,
    /// Quiet points.
    pub quiet_points: u64,
    /// Snapshots that were held to the equation.
    pub snapshots: u64,
    /// Packets whose pattern the hosts looked at.
    pub verified: u64,
}

type Tx = FaultyTx<MemoryTx, MemoryPool>;

/// The router under load.
pub struct Soaked {
    done: Done,
    table: TableWriter,
    fib: FibWriter,
    slow_path: SlowPath,
    resolve: ResolveReceiver,
    counters: Counters,
    workers: Workers<Hanging, Tx, MemoryPool>,
    hangs: Vec<Arc<AtomicBool>>,
    /// The counts of the wires: received and sent, by port.
    faults: Vec<(Vec<FaultCounters>, Vec<FaultCounters>)>,
    hosts: JoinHandle<Vec<Hosts>>,
    orders: Arc<Orders>,
    host_counts: Arc<HostCounts>,
    pools: [MemoryPool; 2],
    programs: Programs,
    installed: Vec<InstallId>,
    next: u64,
    /// Packets that programs discarded which are gone.
    discarded: u64,
    /// Frames of the kernel that the slow path took.
    from_kernel: u64,
}

impl Soaked {
    /// Starts workers and hosts.
    pub fn start(workers: usize, programs: Programs, chance: &mut Chance) -> Result<Soaked, String> {
        let pools = [(); 2].map(|()| MemoryPool::new(BUFFERS, FRAME_LEN_MAX));
        let hangs: Vec<Arc<AtomicBool>> = (0..workers).map(|_| Arc::default()).collect();
        let (mut ports, mut faults, mut hosts) = (Vec::new(), Vec::new(), Vec::new());
        for port in 0..PORTS {
            let config = MemoryConfig { rx_ring_len: 512, ..MemoryConfig::new("p", port as u8) };
            let (ours, theirs) = MemoryPort::wire(&config, &config, workers);
            // Nothing is corrupted, so that a changed byte is the router's doing.
            let wire = Faults { corrupt_ppm: 0, ..Faults::all(100) };
            let faulty = FaultyPort::new(ours, || pools[0].clone(), wire, wire, chance.bits());
            faults.push((faulty.rx_counters(), faulty.tx_counters()));
            let (_, rx, tx) = faulty.split();
            // Queue `i` of a port is polled by this worker.
            let hanging = |(i, rx)| Hanging::new(rx, Arc::clone(&hangs[(port + i) % workers]));
            let rx = rx.into_iter().enumerate().map(hanging).collect();
            ports.push(PortQueues { settings: settings_of(port), rx, tx });
            let (_, rx, tx) = theirs.split();
            hosts.push(Hosts::new(port, rx, tx, &programs.words, chance));
        }
        let settings = Settings {
            cores: vec![None; workers],
            idle: Idle::Backoff,
            hold: HoldLimits { wait_max_ns: 20_000_000, ..HoldLimits::default() },
            table: TableLimits { programs_max: 1 << 14, cells_max: 1 << 16, ..TableLimits::default() },
            ..Settings::default()
        };
        let running = router::start(settings, ports, vec![pools[0].clone(); workers], |_| Ok(()));
        let router::Running { table, mut fib, slow_path, resolve, counters, workers, .. } =
            running.map_err(|e| e.to_string())?;
        fib.publish(routes(chance)?).map_err(|e| e.to_string())?;
        let (orders, host_counts) = (Arc::<Orders>::default(), Arc::<HostCounts>::default());
        let hosts = {
            let (orders, counts, pool) = (Arc::clone(&orders), Arc::clone(&host_counts), pools[1].clone());
            std::thread::spawn(move || {
                wires::drive(&mut hosts, pool, &counts, &orders);
                hosts
            })
        };
        Ok(Soaked {
            done: Done::default(),
            table,
            fib,
            slow_path,
            resolve,
            counters,
            workers,
            hangs,
            faults,
            hosts,
            orders,
            host_counts,
            pools,
            programs,
            installed: Vec::new(),
            next: 0,
            discarded: 0,
            from_kernel: 0,
        })
    }

    /// Bytes of the flow table's cells.
    pub fn table_bytes(&self) -> u64 {
        self.table.memory_bytes()
    }

    /// Where it stands.
    pub fn words(&self) -> String {
        let counts = self.counters.snapshot();
        let received: u64 = counts.ports.iter().map(|port| port.rx_packets).sum();
        format!("{received} packets, {} installs, {} quiet points", self.done.installs, self.done.quiet_points)
    }

    /// As many programs as there ever are.
    pub fn fill(&mut self) -> Result<(), String> {
        let mut batch = Batch::new();
        for number in 0..PROGRAMS_MAX {
            let executable = match self.programs.shipped.get(number) {
                Some(shipped) => Arc::clone(shipped),
                None => self.firewall(number)?,
            };
            let install = self.named(executable, number);
            self.installed.push(install.id);
            batch.install(install);
        }
        self.apply(batch).map(|_| ())
    }

    /// Sends and changes for so long.
    pub fn round(&mut self, length: Duration, chance: &mut Chance) -> Result<(), String> {
        self.orders.pause.store(false, Ordering::Relaxed);
        let end = Instant::now() + length;
        while Instant::now() < end {
            self.change(chance)?;
            if chance.one_in(8) {
                match self.fib.publish(routes(chance)?) {
                    Ok(()) => self.done.routes += 1,
                    Err(_) => self.done.refused += 1,
                }
            }
            while self.resolve.next().is_some() {}
            self.slow_path.to_tap(64, |_, _| ());
            let (port, is_v4) = (chance.below(PORTS), chance.one_in(2));
            let frame = from_kernel(port, is_v4);
            self.from_kernel += u64::from(self.slow_path.from_tap(port as u16, &frame).is_ok());
            self.hold_to_the_equation()?;
            std::thread::sleep(Duration::from_micros(chance.below(2_000) as u64));
        }
        Ok(())
    }

    /// Stops one worker for a moment, and tells how long it took to be named.
    pub fn hang(&mut self, chance: &mut Chance) -> Result<Duration, String> {
        self.orders.pause.store(false, Ordering::Relaxed);
        let (worker, start) = (chance.below(self.hangs.len()), Instant::now());
        self.hangs[worker].store(true, Ordering::Relaxed);
        let others = |counts: &[Snapshot]| {
            let others = counts.iter().enumerate().filter(|(number, _)| *number != worker);
            others.map(|(_, counts)| counts.ports.iter().map(|port| port.rx_packets).sum::<u64>()).sum::<u64>()
        };
        let before = others(&self.counters.worker_snapshots());
        self.wait_for("the worker that hangs to be named", |soaked| soaked.table.stuck_workers() == [worker])?;
        let named = start.elapsed();
        let refused = self.firewall(0)?;
        let refused = self.named(refused, 0);
        let refused = self.table.install(refused);
        if !matches!(&refused, Err(InstallError::WorkerStuck { workers }) if workers.contains(&worker)) {
            return Err(format!("worker {worker} hangs, and an install says {refused:?}"));
        }
        let counts = self.counters.worker_snapshots();
        if self.hangs.len() > 1 && others(&counts) == before {
            return Err(format!("worker {worker} hangs, and the others received nothing"));
        }
        self.hold_to_the_equation()?;
        self.hangs[worker].store(false, Ordering::Relaxed);
        self.wait_for("the worker to go on", |soaked| soaked.table.stuck_workers().is_empty())?;
        let install = self.named(self.firewall(0)?, 0);
        self.installed.push(install.id);
        let mut batch = Batch::new();
        batch.install(install);
        self.apply(batch)?;
        Ok(named)
    }

    /// Lets everything come to rest, and holds all counts against each other.
    pub fn quiet_point(&mut self) -> Result<(), String> {
        self.orders.pause.store(true, Ordering::Relaxed);
        self.wait_for("quiet", |soaked| {
            while soaked.resolve.next().is_some() {}
            soaked.slow_path.to_tap(64, |_, _| ());
            let counts = soaked.counters.snapshot();
            let wires = soaked.faults.iter().enumerate().all(|(port, (rx, tx))| {
                let (rx, tx) = (wires::sum(rx), wires::sum(tx));
                rx.held == 0
                    && rx.taken == soaked.host_counts.sent[port].load(Ordering::Acquire)
                    && rx.delivered == counts.ports[port].rx_packets
                    && tx.taken == counts.ports[port].tx_packets
                    && tx.delivered == soaked.host_counts.received[port].load(Ordering::Acquire)
            });
            wires && counts.held == 0 && counts.queued == 0 && counts.from_tap == soaked.from_kernel
        })?;
        self.forget_the_gone();
        self.hold_to_the_equation()?;
        let counts = self.counters.snapshot();
        let mut held = 0;
        for (port, (rx, tx)) in self.faults.iter().enumerate() {
            let (rx, tx) = (wires::sum(rx), wires::sum(tx));
            if (rx.difference(), tx.difference()) != (0, 0) {
                return Err(format!("port {port}: a wire lost count: {rx:?} {tx:?}"));
            }
            held += tx.held;
        }
        let (balance, corrupt) = (counts.balance(), self.host_counts.corrupt.load(Ordering::Acquire));
        if balance.entered != balance.left || corrupt > 0 {
            return Err(format!("{balance:?} at rest, and {corrupt} packets came back changed"));
        }
        let installed: u64 =
            self.installed.iter().filter_map(|&id| self.table.program_counts(id)).map(|c| c.discarded_packets).sum();
        if self.discarded + installed != counts.drop(DropReason::Program) {
            return Err(format!(
                "programs that are gone discarded {}, those installed {installed}, and the router dropped {} for them",
                self.discarded,
                counts.drop(DropReason::Program)
            ));
        }
        // What waits in a wire may be in a buffer of either pool.
        let free = self.pools.iter().map(|pool| pool.free() as u64).sum::<u64>() + held;
        let buffers = 2 * BUFFERS as u64;
        if free != buffers {
            return Err(format!("{} of {buffers} buffers are lost", buffers - free));
        }
        self.done.quiet_points += 1;
        Ok(())
    }

    /// Withdraws every program and waits until all of them are gone.
    pub fn withdraw_all(&mut self) -> Result<(), String> {
        let mut batch = Batch::new();
        for id in self.installed.drain(..) {
            batch.withdraw(id);
        }
        self.apply(batch)?;
        self.wait_for("every program to be gone", |soaked| {
            soaked.forget_the_gone();
            soaked.fib.reclaim();
            soaked.table.retired() == 0
        })?;
        if self.done.installs != self.done.withdrawals || !self.table.is_empty() {
            return Err(format!("{} came, {} came back", self.done.installs, self.done.withdrawals));
        }
        Ok(())
    }

    /// Stops it at rest, and gives the last counts and what was done.
    pub fn stop(mut self) -> Result<(Snapshot, Done), String> {
        self.withdraw_all()?;
        self.quiet_point()?;
        self.orders.end.store(true, Ordering::Relaxed);
        let hosts = self.hosts.join().map_err(|_| "the hosts panicked".to_owned())?;
        let stopped = self.workers.stop();
        if !stopped.panicked.is_empty() {
            return Err(format!("workers {:?} panicked", stopped.panicked));
        }
        drop((hosts, stopped.ports, stopped.pools));
        for pool in &self.pools {
            if pool.free() != pool.buffers() {
                return Err(format!("{} buffers are lost", pool.buffers() - pool.free()));
            }
        }
        Ok((stopped.counters, self.done))
    }

    /// A batch by chance: programs come and go, now and then many at once.
    fn change(&mut self, chance: &mut Chance) -> Result<(), String> {
        let mut batch = Batch::new();
        let room = PROGRAMS_MAX - self.installed.len();
        let (mut coming, mut leaving) = (Vec::new(), Vec::new());
        if chance.one_in(50) {
            for number in 0..room.min(1 + chance.below(LARGE_BATCH)) {
                let install = self.named(self.firewall(number)?, number);
                coming.push(install.id);
                batch.install(install);
            }
        } else {
            for number in 0..room.min(chance.below(4)) {
                let executable = Arc::clone(chance.pick(&self.programs.shipped));
                let install = self.named(executable, number);
                coming.push(install.id);
                batch.install(install);
            }
        }
        let going = if chance.one_in(50) { self.installed.len() } else { chance.below(4).min(self.installed.len()) };
        for _ in 0..going {
            leaving.push(self.installed.swap_remove(chance.below(self.installed.len())));
        }
        leaving.iter().for_each(|&id| _ = batch.withdraw(id));
        let applied = match self.table.apply(batch) {
            Ok(()) => true,
            // Other work may keep a worker from its core for a while; the same cell takes only so many programs.
            Err(
                InstallError::RetiredFull { .. } | InstallError::WorkerStuck { .. } | InstallError::ChainFull { .. },
            ) => false,
            Err(error) => return Err(error.to_string()),
        };
        if applied {
            self.done.installs += coming.len() as u64;
            self.done.batches += 1;
            self.installed.extend(coming);
        } else {
            self.done.refused += 1;
            self.installed.extend(leaving);
        }
        self.forget_the_gone();
        Ok(())
    }

    /// Applies what cannot be put off.
    fn apply(&mut self, batch: Batch) -> Result<(), String> {
        self.wait_for("workers to report", |soaked| soaked.table.stuck_workers().is_empty())?;
        let before = self.table.len();
        self.table.apply(batch).map_err(|e| e.to_string())?;
        self.done.installs += self.table.len().saturating_sub(before) as u64;
        self.done.batches += 1;
        Ok(())
    }

    fn named(&mut self, executable: Arc<Executable>, number: usize) -> Install {
        self.next += 1;
        let over_budget = if number.is_multiple_of(2) { OverBudget::Forward } else { OverBudget::Drop };
        Install {
            id: InstallId(self.next),
            executable,
            packet_rate: if number.is_multiple_of(3) { 20_000 } else { 0 },
            over_budget,
            generate_key: [0; 32],
            monitor: false,
        }
    }

    /// One against a source that sends, some of them of owners that receive.
    fn firewall(&self, number: usize) -> Result<Arc<Executable>, String> {
        self.programs.pairs.of(Addr::V4(0xc000_0200 + number as u32))
    }

    fn forget_the_gone(&mut self) {
        for gone in self.table.reclaim() {
            self.discarded += gone.counts.discarded_packets;
            self.done.withdrawals += 1;
        }
        self.done.verified = self.host_counts.verified.load(Ordering::Relaxed);
    }

    fn hold_to_the_equation(&mut self) -> Result<(), String> {
        let counts = self.counters.snapshot();
        self.done.snapshots += 1;
        match counts.balance().difference {
            0 => Ok(()),
            difference => Err(format!("{difference} packets have no end: {counts:?}")),
        }
    }

    fn wait_for(&mut self, what: &str, mut holds: impl FnMut(&mut Soaked) -> bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            if Instant::now() > end {
                return Err(format!("no {what} within {} s: {:?}", PATIENCE.as_secs(), self.counters.snapshot()));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }
}

/// What a port is: two edges and a narrow uplink.
fn settings_of(port: usize) -> PortSettings {
    let edges = [Some(["203.0.113.0/24", "2001:db8:f::/64"]), Some(["192.0.2.0/24", "2001:db8:1::/64"]), None];
    let controlled = edges[port].map(|prefixes| PrefixSet::new(prefixes.map(net).to_vec()));
    PortSettings {
        name: format!("p{port}"),
        mac: router_mac(port),
        mtu: if port == NARROW { NARROW_MTU } else { 1500 },
        controlled,
        vlan: Vec::new(),
        queue_depth: 128,
        discipline: Discipline::Fifo,
    }
}

fn net(text: &str) -> Prefix {
    let (of, len) = text.split_once('/').expect("a prefix");
    Prefix::of(addr(of), len.parse().expect("a length")).expect("a prefix")
}

/// Routes to all hosts, and more by chance: neighbours that are there or not, prefixes that lead here or there.
fn routes(chance: &mut Chance) -> Result<vinet_fastpath::fib::Fib, String> {
    let mut routes = FibBuilder::new();
    let links = [
        ["203.0.113.0/24", "2001:db8:f::/64"],
        ["192.0.2.0/24", "2001:db8:1::/64"],
        ["10.9.0.0/16", "2001:db8:9::/64"],
    ];
    for (port, link) in links.into_iter().enumerate() {
        let n = port as u16;
        routes.source(n, Some(wires::own(port, true)), Some(wires::own(port, false)));
        for (prefix, is_v4) in link.into_iter().zip([true, false]) {
            routes.route(net(prefix), Target::Via { port: n, gateway: None });
            let own = wires::own(port, is_v4);
            routes.route(Prefix::host(own), Target::Local);
            for number in (1..100).chain([100 + chance.below(20) as i64]) {
                let host = net(prefix).addr().offset(number).ok_or("an address")?;
                routes.neighbour(n, host, host_mac(port));
            }
            let absent = net(prefix).addr().offset(100 + chance.below(20) as i64).ok_or("an address")?;
            routes.failed_neighbour(n, absent);
        }
    }
    routes.route(net("10.66.0.0/16"), Target::Prohibit);
    routes.route(net("2001:db8:66::/48"), Target::Prohibit);
    // A prefix that moves.
    let moving = chance.below(PORTS);
    let gateway = net(links[moving][0]).addr().offset(2);
    routes.route(net("10.77.0.0/16"), Target::Via { port: moving as u16, gateway });
    let gateway = net(links[moving][1]).addr().offset(2);
    routes.route(net("2001:db8:77::/48"), Target::Via { port: moving as u16, gateway });
    for _ in 0..chance.below(64) {
        let other = Prefix::of(Addr::V4(0x0a80_0000 + (chance.below(1 << 15) << 8) as u32), 24).ok_or("a prefix")?;
        routes.route(other, Target::Blackhole);
    }
    routes.build().map_err(|e| e.to_string())
}

/// A packet of the router's kernel to a host.
fn from_kernel(port: usize, is_v4: bool) -> Vec<u8> {
    let to = if is_v4 {
        ["203.0.113.2", "192.0.2.2", "10.9.0.2"]
    } else {
        ["2001:db8:f::2", "2001:db8:1::2", "2001:db8:9::2"]
    };
    crate::frames::frame(&crate::frames::Spec {
        macs: [host_mac(port), router_mac(port)],
        src: wires::own(port, is_v4),
        dst: addr(to[port]),
        ports: [179, 179],
        ttl: 64,
        may_be_cut: false,
        above: crate::frames::Above::Udp,
        payload: &[0; 100],
    })
}
