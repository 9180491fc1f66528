//! Conservation under load and faults: no packet is lost or made without a name, whatever the wires and the owners
//! do.
//!
//! Several workers that hand packets over to one another, wires that drop, double, reorder, corrupt and delay, traffic of every kind, while programs come
//! and go, routes change and the kernel sends. The equation is held at every snapshot and, to the packet, at the end
//! against the wires' own counts.

mod core_support;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use core_support::*;
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::fib::{FibBuilder, Target};
use vinet_fastpath::flow_table::{Batch, Install, InstallError, InstallId};
use vinet_fastpath::port::fault::{Faults, FaultyPort};
use vinet_fastpath::port::memory::{MemoryConfig, MemoryPool, MemoryPort};
use vinet_fastpath::port::{Burst, PacketPool, Port, RxQueue, TxQueue};
use vinet_fastpath::router::{self, PortQueues, Running};
use vinet_fastpath::settings::{CoDelLimits, Discipline, ExpandLimits, ExpandRule, HoldLimits, Idle, Settings};
use vinet_fastpath::trace::TraceOrder;
use vinet_pktops::datagram::Sender;
use vinet_pktops::generate::{Data, Generated, Kind};
use vinet_trusted::addr::Principal;
use vinet_trusted::policy::OverBudget;

const WORKERS: usize = 3;
const PORTS: u16 = 3;
const LOAD: Duration = Duration::from_millis(1500);

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }
}

/// A frame of every kind: to a host, to nobody, to the router, expired, too long, broken.
fn frame(port: u16, queue: u64, random: &mut Random) -> Vec<u8> {
    let to = (u64::from(port) + random.below(u64::from(PORTS))) % u64::from(PORTS);
    let len = random.below(1400) as usize;
    let payload = vec![if random.below(8) == 0 { b'x' } else { b'o' }; len];
    let ttl = if random.below(10) == 0 { 1 } else { 64 };
    let host = if random.below(20) == 0 { 100 + random.below(20) } else { 1 + random.below(3) };
    // A source stays on one queue, as a device would keep it; some are not the port's.
    let from = 2 + random.below(10) * 3 + queue;
    let behind = if random.below(30) == 0 { 9 } else { port };
    let mut frame = if random.below(2) == 0 {
        udp(port, &format!("10.0.{behind}.{from}"), &format!("10.0.{to}.{host}"), ttl, &payload)
    } else {
        udp(port, &format!("2001:db8:{behind}::{from:x}"), &format!("2001:db8:{to}::{host:x}"), ttl, &payload)
    };
    if frame[12] == 8 && random.below(2) == 0 {
        // May be fragmented.
        frame[20] &= !0x40;
        frame[24..26].fill(0);
        let sum = vinet_pktops::checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    if random.below(50) == 0 {
        frame.truncate(random.below(60) as usize);
    }
    frame
}

const EXPANDED: [u8; 32] = [5; 32];
const EXPAND_KEY: [u8; 32] = [6; 32];

/// Port `n` is also that of an edge router whose program is elsewhere.
fn expand_rule(n: u16) -> ExpandRule {
    let own = addr(&format!("10.0.{n}.1"));
    ExpandRule { own, port: 7401, prefix: net(&format!("10.0.{n}.0/28")), program: EXPANDED, key: EXPAND_KEY }
}

/// The datagrams of a batch for the expander behind some port, from a host behind `port`: some missing, forged, or of a
/// batch that was sent before.
fn datagrams(port: u16, queue: u64, batches: &mut u64, random: &mut Random) -> Vec<Vec<u8>> {
    *batches += 1;
    let batch = if random.below(10) == 0 { 1 + random.below(*batches) } else { *batches };
    let to = random.below(u64::from(PORTS));
    let (src, dst) = (addr(&format!("10.0.{port}.{}", 2 + queue)), addr(&format!("10.0.{to}.1")));
    let first_batch = (u64::from(port) * WORKERS as u64 + queue) << 56;
    let key = if random.below(20) == 0 { [0; 32] } else { EXPAND_KEY };
    let sender = Sender { program: EXPANDED, key, port: 7401, first_batch, mtu: 576 };
    let len = 400 + random.below(600) as u16;
    let dests = [&[0, 2, 4, 10, 0, to as u8, 2, 4, 10, 0, to as u8, 77][..], &[0, 0]].concat();
    let protocol = if random.below(9) == 0 { 6 } else { 17 };
    let content = [&[protocol, 1, 0, 5, 0, 6][..], &len.to_be_bytes(), &vec![b'c'; usize::from(len)]].concat();
    let mut frames = Vec::new();
    for (item, kind, bytes) in [(0, Kind::Dests, dests), (1, Kind::Contents, content)] {
        let generated = Generated { src, dst, batch, item, kind, data: Data::Bytes(&bytes) };
        let mut each = |packet: &[u8]| {
            if random.below(20) != 0 {
                frames.push([&router_mac(port)[..], &host_mac(port), &[8, 0], packet].concat());
            }
        };
        sender.send(&generated, &mut each).expect("it can be sent");
    }
    frames
}

#[test]
fn every_packet_has_an_end_under_load_and_faults() {
    let given = std::env::var("VINET_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| std::hash::RandomState::new().hash_one("conservation") >> 16);
    println!("VINET_TEST_SEED={seed}");

    let pool = MemoryPool::new(30_000, 2048);
    let far_pool = MemoryPool::new(30_000, 2048);
    let mut queues = Vec::new();
    let mut faults = Vec::new();
    let mut far = Vec::new();
    let mut routes = FibBuilder::new();
    let codel = Discipline::CoDel(CoDelLimits { target_ns: 50_000, interval_ns: 500_000 });
    for n in 0..PORTS {
        let config = MemoryConfig { rx_ring_len: 512, ..MemoryConfig::new("p", n as u8) };
        let (ours, theirs) = MemoryPort::wire(&config, &config, WORKERS);
        let line = Faults { drop_ppm: 5000, ..Faults::all(100) };
        let faulty = FaultyPort::new(ours, || pool.clone(), Faults::all(50), line, seed + u64::from(n));
        faults.push((faulty.rx_counters(), faulty.tx_counters()));
        let (_, mut rx, tx) = faulty.split();
        if n == 1 {
            // This port's device cannot spread, so the workers distribute what comes by it.
            rx.truncate(1);
        }
        let settings = if n == 2 {
            vinet_fastpath::settings::PortSettings { mtu: 700, queue_depth: 64, discipline: codel, ..port(n) }
        } else {
            edge(n, &[&format!("10.0.{n}.0/24"), &format!("2001:db8:{n}::/64")])
        };
        queues.push(PortQueues { settings, rx, tx });
        far.push(theirs.split());
        for (prefix, host) in [
            (format!("10.0.{n}.0/24"), format!("10.0.{n}.")),
            (format!("2001:db8:{n}::/64"), format!("2001:db8:{n}::")),
        ] {
            routes
                .route(net(&prefix), Target::Via { port: n, gateway: None })
                .route(vinet_trusted::addr::Prefix::host(addr(&format!("{host}1"))), Target::Local)
                .neighbour(n, addr(&format!("{host}2")), host_mac(n));
        }
        routes.source(n, Some(addr(&format!("10.0.{n}.1"))), Some(addr(&format!("2001:db8:{n}::1"))));
    }
    let settings = Settings {
        cores: vec![None; WORKERS],
        idle: Idle::Backoff,
        hold: HoldLimits { wait_max_ns: 20_000_000, ..HoldLimits::default() },
        window_packets_max: 40,
        expand: (0..PORTS).map(expand_rule).collect(),
        expand_limits: ExpandLimits { batches_max: 8, datagrams_max: 32, wait_max_ns: 5_000_000 },
        ..Settings::default()
    };
    let running = router::start(settings, queues, vec![pool.clone(); WORKERS], |_| Ok(())).expect("the router starts");
    let Running { mut table, mut fib, mut slow_path, resolve, counters, mut tracer, workers } = running;
    // Some packets are traced, and nobody takes the records of many.
    let order = TraceOrder { src: None, dst: None, one_in: 5, bytes: 64 };
    tracer.start(order).expect("workers pass");
    fib.publish(routes.build().expect("few hops")).expect("the first table");

    let done = Arc::new(AtomicBool::new(false));
    let hosts: Vec<_> = far
        .into_iter()
        .enumerate()
        .map(|(n, (_, mut rx, mut tx))| {
            let (mut far_pool, done) = (far_pool.clone(), done.clone());
            std::thread::spawn(move || {
                let mut random = Random(seed ^ (n as u64) << 32);
                let mut batches = 0;
                let (mut sent, mut received) = (0u64, 0u64);
                let mut burst = Burst::new();
                let mut quiet = 0;
                while quiet < 50 {
                    let mut moved = 0;
                    for (queue, tx) in tx.iter_mut().enumerate() {
                        if !done.load(Ordering::Relaxed) && random.below(3) == 0 {
                            for _ in 0..random.below(40) {
                                let frames = match random.below(10) {
                                    0 => datagrams(n as u16, queue as u64, &mut batches, &mut random),
                                    _ => vec![frame(n as u16, queue as u64, &mut random)],
                                };
                                for packet in frames.iter().filter_map(|frame| far_pool.allocate(frame)) {
                                    let _ = burst.push(packet);
                                }
                            }
                            sent += tx.send(&mut burst) as u64;
                            burst.drain();
                        }
                    }
                    for rx in &mut rx {
                        moved += rx.receive(&mut burst);
                        received += burst.len() as u64;
                        burst.drain();
                    }
                    quiet = if done.load(Ordering::Relaxed) && moved == 0 { quiet + 1 } else { 0 };
                    std::thread::sleep(Duration::from_micros(if done.load(Ordering::Relaxed) { 2000 } else { 100 }));
                }
                (sent, received, rx, tx)
            })
        })
        .collect();

    // Meanwhile: programs come and go, neighbours appear and vanish, the kernel sends and receives.
    let programs: Vec<_> = (0..PORTS)
        .flat_map(|n| {
            let other = (n + 1) % PORTS;
            let crowd = |owner: String, least| {
                let owner = Principal::EndUser(addr(&owner));
                accept_under(&generous(&owner, 0, 300), &crowd_filter(8, "xx", least), owner)
            };
            // What it generates goes to a host, to an edge router whose address nobody has, or nowhere.
            let taken = |own: &str, len, from: String| {
                let owner = edge_router(own, len);
                accept_under(&generous(&owner, 2_000, 300), &multicast(4, &from), owner)
            };
            [
                crowd(format!("10.0.{n}.2"), 3),
                crowd(format!("2001:db8:{n}::2"), 2),
                taken(&format!("10.0.{n}.2"), 24, format!("10.0.{other}.5")),
                taken(&format!("10.0.{n}.77"), 24, format!("10.0.{other}.8")),
                taken(&format!("2001:db8:{n}::2"), 64, format!("2001:db8:{other}::5")),
                firewall(&format!("10.0.{n}.2"), &[net(&format!("10.0.{other}.0/28"))]),
                firewall(&format!("2001:db8:{n}::2"), &[net(&format!("2001:db8:{other}::4/126"))]),
                word_filter(&format!("10.0.{n}.2"), "xx"),
                word_filter(&format!("2001:db8:{n}::2"), "xx"),
            ]
        })
        .collect();
    let mut random = Random(seed);
    let mut installed = Vec::new();
    let (mut next, mut snapshots, mut finished, mut withdrawn) = (0, 0, 0, 0);
    let end = Instant::now() + LOAD;
    while Instant::now() < end {
        let mut batch = Batch::new();
        let mut coming = Vec::new();
        for _ in 0..random.below(4) {
            next += 1;
            let executable = programs[random.below(programs.len() as u64) as usize].clone();
            let over_budget = if next % 2 == 0 { OverBudget::Forward } else { OverBudget::Drop };
            batch.install(Install {
                id: InstallId(next),
                executable,
                packet_rate: 20_000,
                over_budget,
                generate_key: [0; 32],
                monitor: next % 3 == 0,
            });
            coming.push(next);
        }
        let going = if installed.len() > 20 {
            installed.len() / 2
        } else {
            random.below(2).min(installed.len() as u64) as usize
        };
        let leaving: Vec<u64> = installed.drain(..going).collect();
        for &id in &leaving {
            batch.withdraw(InstallId(id));
        }
        match table.apply(batch) {
            Ok(()) => {
                installed.extend(coming);
                withdrawn += leaving.len();
            }
            // A loaded machine may keep a worker from its core for a while.
            Err(InstallError::RetiredFull { .. } | InstallError::WorkerStuck { .. }) => installed.extend(leaving),
            Err(error) => panic!("{error}"),
        }
        finished += table.reclaim().len();
        let neighbour = addr(&format!("10.0.{}.{}", random.below(3), 100 + random.below(20)));
        match random.below(3) {
            0 => routes.neighbour(random.below(3) as u16, neighbour, [7; 6]),
            1 => routes.failed_neighbour(random.below(3) as u16, neighbour),
            _ => &mut routes,
        };
        if random.below(4) == 0 {
            // Refused only while workers lag; the next one carries the change too.
            let _ = fib.publish(routes.build().expect("few hops"));
        }
        while resolve.next().is_some() {}
        slow_path.to_tap(64, |_, _| ());
        for port in 0..PORTS {
            let _ = slow_path
                .from_tap(port, &udp(port, &format!("10.0.{port}.1"), &format!("10.0.{port}.2"), 64, &[0; 100]));
        }
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.balance().difference, 0, "{snapshot:?}");
        snapshots += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    done.store(true, Ordering::Relaxed);
    let hosts: Vec<_> = hosts.into_iter().map(|host| host.join().expect("a host")).collect();
    let stopped = workers.stop();
    let counts = stopped.counters;
    assert_eq!(stopped.panicked, []);
    assert_eq!(counts.balance().difference, 0, "{counts:?}");
    assert!(snapshots > 50, "{snapshots} snapshots");

    // The router's counts are the wires' counts.
    let wires = |side: &dyn Fn(usize) -> Vec<vinet_fastpath::port::fault::FaultCounts>, n: usize| {
        side(n)
            .into_iter()
            .fold(Default::default(), |sum: vinet_fastpath::port::fault::FaultCounts, counts| sum.plus(&counts))
    };
    let rx = |n: usize| faults[n].0.iter().map(|counters| counters.counts()).collect::<Vec<_>>();
    let tx = |n: usize| faults[n].1.iter().map(|counters| counters.counts()).collect::<Vec<_>>();
    for (n, port) in counts.ports.iter().enumerate() {
        let (rx, tx) = (wires(&rx, n), wires(&tx, n));
        assert_eq!(port.rx_packets, rx.delivered, "port {n}: {rx:?}");
        assert_eq!(port.tx_packets, tx.taken, "port {n}: {tx:?}");
        assert_eq!((rx.difference(), tx.difference()), (0, 0));
    }
    // What the load was meant to reach, it reached.
    for reason in [
        DropReason::Program,
        DropReason::TtlExpired,
        DropReason::NeighbourUnresolved,
        DropReason::TooBig,
        DropReason::EthernetTruncated,
        DropReason::Ipv4TotalLenAboveFrame,
        DropReason::SourceNotControlled,
        DropReason::ExpandBadTag,
        DropReason::ExpandReplayed,
        DropReason::ExpandNotOwned,
        DropReason::ExpandNotRebuilt,
    ] {
        assert!(counts.drop(reason) > 0, "no {reason:?}: {counts:?}");
    }
    assert!(counts.handed_over > 0, "{counts:?}");
    assert_eq!(counts.handed_over, counts.taken_over, "what was on its way at the end is counted too");
    assert!(counts.own_icmp > 0 && counts.fragments > 0 && counts.to_tap > 0 && counts.from_tap > 0, "{counts:?}");
    assert!(counts.generated > 0 && counts.expanded > 0 && counts.consumed > 0, "{counts:?}");
    assert!(counts.batches_incomplete > 0, "{counts:?}");
    // With the workers gone, everything withdrawn is freed.
    finished += table.reclaim().len();
    assert_eq!(finished, withdrawn);
    drop((hosts, stopped.ports, stopped.pools));
    assert_eq!(pool.free(), pool.buffers(), "buffers are lost");
    assert_eq!(far_pool.free(), far_pool.buffers(), "buffers are lost");
}
