//! Two workers on real queues of DPDK's drivers, over devices that cannot keep a source on one receive queue: virtio with
//! two queues and with one, and af_packet, whose sockets the kernel fills by flow. Needs root. Each scenario runs in a
//! child process.

// Each test file uses its part of what they share.
#[allow(dead_code)]
mod ports_support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ports_support::{ARRIVAL_TIME_MAX, RawSocket, eal, in_children, own_namespace, pool, veth, wait_until};
use vinet_fastpath::counters::Snapshot;
use vinet_fastpath::eal::Eal;
use vinet_fastpath::fib::{FibBuilder, Target};
use vinet_fastpath::port::dpdk::{DpdkConfig, DpdkHandle, DpdkPort, DpdkRx, DpdkTx};
use vinet_fastpath::port::mbuf::{Mbuf, MbufPool, Mempool};
use vinet_fastpath::port::{Burst, PacketBuf, PacketPool, Port, PortHandle, RxQueue, TxQueue};
use vinet_fastpath::router::{self, PortQueues, Running, Workers};
use vinet_fastpath::settings::{Discipline, PortSettings, Settings};
use vinet_trusted::addr::{Addr, Prefix};

const WORKERS: u16 = 2;
const SOURCES: u32 = 40;
const ROUNDS: u32 = 100;

/// A UDP datagram with a number, from a source by one of its ports to 10.0.1.2.
fn datagram(to: [u8; 6], source: u32, udp_port: u16, number: u32) -> Vec<u8> {
    let mut frame = [&to[..], &[2, 0, 0, 0, 0, 9, 8, 0]].concat();
    let mut ip = [0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 0, 10, 0, 1, 2];
    ip[15] = 10 + source as u8;
    let sum = vinet_pktops::checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend(udp_port.to_be_bytes());
    frame.extend([0x1b, 0x58, 0, 26, 0, 0]);
    frame.extend(number.to_be_bytes());
    frame.resize(60, 0);
    frame
}

fn open(eal: &Eal, pool: &Mempool, device: &str, rx_queues: u16) -> DpdkPort {
    let config = DpdkConfig { rx_queues, tx_queues: WORKERS, ..DpdkConfig::new("p", device) };
    DpdkPort::open(eal, pool, &config).unwrap_or_else(|error| panic!("{error}"))
}

struct Router {
    running: Running<DpdkRx, DpdkTx, MbufPool>,
    handles: Vec<DpdkHandle>,
}

impl Router {
    /// A router of two workers: 10.0.n.0/24 is behind port n, and 10.0.1.2 there has the address 02:00:00:00:00:22.
    fn start(eal: &Eal, pool: &Mempool, ports: Vec<DpdkPort>) -> Router {
        let mut routes = FibBuilder::new();
        let (mut handles, mut queues) = (Vec::new(), Vec::new());
        for (number, port) in ports.into_iter().enumerate() {
            let (handle, rx, tx) = port.split();
            let settings = PortSettings {
                name: format!("p{number}"),
                mac: handle.mac(),
                mtu: 1500,
                controlled: None,
                vlan: Vec::new(),
                queue_depth: 1024,
                discipline: Discipline::Fifo,
            };
            let prefix = Prefix::of(Addr::V4(0x0a00_0000 + (number as u32) * 256), 24).expect("a length");
            routes.route(prefix, Target::Via { port: number as u16, gateway: None });
            queues.push(PortQueues { settings, rx, tx });
            handles.push(handle);
        }
        routes.neighbour(1, Addr::V4(0x0a00_0102), [2, 0, 0, 0, 0, 0x22]);
        let settings = Settings { cores: vec![None; usize::from(WORKERS)], ..Settings::default() };
        let pools = (0..WORKERS).map(|_| pool.handle()).collect();
        let register = {
            let eal = eal.clone();
            move |_| eal.register_worker_thread().map_err(|error| error.to_string())
        };
        let mut running = router::start(settings, queues, pools, register).unwrap_or_else(|error| panic!("{error}"));
        running.fib.publish(routes.build().expect("few hops")).expect("the first table");
        Router { running, handles }
    }

    fn received_by_each(&self) -> Vec<u64> {
        self.running.counters.worker_snapshots().iter().map(|counts| counts.ports[0].rx_packets).collect()
    }

    fn stop(self) -> Snapshot {
        let workers: Workers<_, _, _> = self.running.workers;
        let stopped = workers.stop();
        assert_eq!(stopped.panicked, []);
        assert_eq!(stopped.counters.balance().difference, 0);
        assert_eq!(stopped.counters.handed_over, stopped.counters.taken_over);
        drop((stopped.ports, self.handles));
        stopped.counters
    }
}

/// Packets on their way at once.
const UNDERWAY_MAX: usize = 512;

/// The far end of a virtio device: what it sends by queue n comes in by queue n.
struct Far {
    handle: DpdkHandle,
    rx: Vec<DpdkRx>,
    tx: Vec<DpdkTx>,
}

/// A virtio device with two queue pairs, of which `rx_queues` are to be received from, and its far end.
fn virtio(eal: &Eal, pool: &Mempool, folder: &Path, number: u8, rx_queues: u16) -> (DpdkPort, Far) {
    let socket = folder.join(format!("{number}.sock"));
    let far = open(eal, pool, &format!("net_vhost{number},iface={},queues=2", socket.display()), WORKERS);
    let near = format!("net_virtio_user{number},path={},queues=2,mac=02:00:00:00:00:1{number}", socket.display());
    let near = open(eal, pool, &near, rx_queues);
    let (handle, rx, tx) = far.split();
    (near, Far { handle, rx, tx })
}

/// Sends `ROUNDS` packets of each source into port 0, each by the queue that `queue` says for its round, and holds that
/// all come out of port 1, in order for each source and queue, those of one source by one worker.
fn all_of_a_source_at_one_worker(eal: &Eal, pool: &Mempool, ports: [(DpdkPort, Far); 2], queue: fn(u32) -> usize) {
    let [(near_in, mut far_in), (near_out, mut far_out)] = ports;
    let mac = near_in.handle().mac();
    let router = Router::start(eal, pool, vec![near_in, near_out]);
    wait_until("both links come up", || far_in.handle.link().up && far_out.handle.link().up);
    let mut buffers = pool.handle();
    let mut seen: BTreeMap<(u8, usize), Vec<u32>> = BTreeMap::new();
    let mut workers: BTreeMap<u8, BTreeSet<usize>> = BTreeMap::new();
    let (mut burst, mut received) = (Burst::new(), 0);
    let mut receive = |received: &mut usize| {
        for (worker, rx) in far_out.rx.iter_mut().enumerate() {
            let mut burst = Burst::new();
            rx.receive(&mut burst);
            for packet in burst.packets() {
                let number = u32::from_be_bytes(*packet.bytes()[42..].first_chunk().expect("a number"));
                let source = packet.bytes()[29] - 10;
                seen.entry((source, queue(number / SOURCES))).or_default().push(number);
                workers.entry(source).or_default().insert(worker);
                *received += 1;
            }
            Mbuf::drop_all(&mut burst);
        }
    };
    let deadline = Instant::now() + 2 * ARRIVAL_TIME_MAX;
    for round in 0..ROUNDS {
        for n in 0..SOURCES {
            let frame = datagram(mac, n, 1000, round * SOURCES + n);
            assert!(burst.push(buffers.allocate(&frame).expect("a buffer")).is_ok());
        }
        // No more are on their way than any ring between workers holds, however long one of them is kept from its core.
        while !burst.is_empty() || (round * SOURCES) as usize > received + UNDERWAY_MAX {
            far_in.tx[queue(round)].send(&mut burst);
            receive(&mut received);
            assert!(Instant::now() < deadline, "{:?}", router.running.counters.snapshot());
        }
    }
    while received < (SOURCES * ROUNDS) as usize {
        receive(&mut received);
        assert!(Instant::now() < deadline, "{received}: {:?}", router.running.counters.snapshot());
        thread::sleep(Duration::from_micros(100));
    }
    assert_eq!(workers.len(), SOURCES as usize);
    assert!(workers.values().all(|workers| workers.len() == 1), "{workers:?}");
    for ((source, by), numbers) in seen {
        let all = (0..ROUNDS).filter(|&round| queue(round) == by).map(|round| round * SOURCES + u32::from(source));
        assert!(numbers.iter().copied().eq(all), "source {source}: {numbers:?}");
    }
    let shares = router.received_by_each();
    assert!(shares.iter().all(|&share| share > 0), "{shares:?}");
    let counts = router.stop();
    assert_eq!((counts.ports[0].rx_packets, counts.dropped()), (u64::from(SOURCES * ROUNDS), 0), "{counts:?}");
    assert!(counts.handed_over > 0);
}

#[test]
fn a_device_with_two_queues_that_knows_no_sources() {
    in_children("a_device_with_two_queues_that_knows_no_sources", |memory| {
        let folder = tempfile::tempdir().unwrap();
        let eal = eal(memory);
        let pool = pool(&eal);
        let ports = [0, 1].map(|number| virtio(&eal, &pool, folder.path(), number, WORKERS));
        assert_eq!((ports[0].0.granted().rx_queues, ports[0].0.granted().rx_by_source), (2, false));
        // Each source comes by both queues in turn, so by both workers.
        all_of_a_source_at_one_worker(&eal, &pool, ports, |round| round as usize % 2);
    });
}

#[test]
fn a_device_with_one_receive_queue() {
    in_children("a_device_with_one_receive_queue", |memory| {
        let folder = tempfile::tempdir().unwrap();
        let eal = eal(memory);
        let pool = pool(&eal);
        let ports = [0, 1].map(|number| virtio(&eal, &pool, folder.path(), number, 1));
        assert_eq!((ports[0].0.granted().rx_queues, ports[0].0.granted().rx_by_source), (1, true));
        all_of_a_source_at_one_worker(&eal, &pool, ports, |_| 0);
    });
}

#[test]
fn af_packet_whose_sockets_are_filled_by_flow() {
    in_children("af_packet_whose_sockets_are_filled_by_flow", |memory| {
        own_namespace();
        veth("in", "in-far");
        veth("out", "out-far");
        let eal = eal(memory);
        let pool = pool(&eal);
        let ports = ["in", "out"].iter().enumerate();
        let ports: Vec<_> = ports
            .map(|(n, name)| open(&eal, &pool, &format!("net_af_packet{n},iface={name},qpairs=2"), WORKERS))
            .collect();
        let mac = ports[0].handle().mac();
        let router = Router::start(&eal, &pool, ports);
        let (far_in, far_out) = (RawSocket::open("in-far"), RawSocket::open("out-far"));
        // One source after the other, each by 50 flows: whichever sockets they come by, one worker handles them all.
        let mut before = router.received_by_each();
        let mut owners = BTreeSet::new();
        for source in 0..SOURCES {
            for flow in 0..50 {
                far_in.send(&datagram(mac, source, 1000 + flow, u32::from(flow)));
            }
            let numbers: BTreeSet<u32> = far_out
                .receive_if(50, |frame| frame[..6] == [2, 0, 0, 0, 0, 0x22])
                .iter()
                .map(|frame| u32::from_be_bytes(*frame[42..].first_chunk().expect("a number")))
                .collect();
            assert_eq!(numbers.len(), 50);
            wait_until("the workers show their counts", || {
                router.received_by_each().iter().sum::<u64>() == before.iter().sum::<u64>() + 50
            });
            let after = router.received_by_each();
            let owner: Vec<usize> = (0..after.len()).filter(|&n| after[n] != before[n]).collect();
            assert_eq!(owner.len(), 1, "source {source}: {before:?}, then {after:?}");
            owners.insert(owner[0]);
            before = after;
        }
        assert_eq!(owners.len(), 2);
        let counts = router.stop();
        assert!(counts.handed_over > 0, "{counts:?}");
        assert_eq!(counts.dropped(), 0, "{counts:?}");
    });
}
