//! Not covered here: the drivers of DPDK, several workers, and time: nothing waits long enough to expire.
//!
//! An input is a burst of frames behind a byte that chooses the port they come by. They take the whole way of a packet through
//! a running worker: parsed, judged, looked up, given to programs, cut, held, answered, given to the kernel, sent. No
//! worker panics, every packet has an end, and what leaves is sound and fits its link.

use crate::frames;
use crate::packet::{burst, executables};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use vinet_client::pcap::Capture;
use vinet_fastpath::counters::{Counters, Snapshot};
use vinet_fastpath::fib::{FibBuilder, FibWriter, Target};
use vinet_fastpath::flow_table::{Install, InstallId, TableWriter};
use vinet_fastpath::hold::ResolveReceiver;
use vinet_fastpath::port::memory::{MemoryBuf, MemoryConfig, MemoryPool, MemoryPort, MemoryRx, MemoryTx};
use vinet_fastpath::port::{Burst, PacketBuf, PacketPool, Port, RxQueue, TxQueue};
use vinet_fastpath::router::{self, PortQueues, Running, Workers};
use vinet_fastpath::settings::{Discipline, IcmpLimits, PortSettings, Settings};
use vinet_fastpath::slow_path::SlowPath;
use vinet_pktops::parse;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::policy::OverBudget;

/// The most frames of one input.
const FRAMES_MAX: usize = 256;
/// How long the worker may take to receive them; a worker that panicked never does.
const TIME_MAX: Duration = Duration::from_secs(4);
/// The longest frame; the fuzzer's own are shorter, but captures hold what a kernel had joined.
const FRAME_LEN_MAX: usize = 66_000;
/// The Ethernet address of all ports: that of the corpus.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The station at the far end of each port.
const STATION: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A router of one worker over memory ports, and the far ends of its wires.
struct Lab {
    counters: Counters,
    slow_path: SlowPath,
    resolve: ResolveReceiver,
    hosts: Vec<(MemoryRx, MemoryTx)>,
    mtus: Vec<u16>,
    pool: MemoryPool,
    burst: Burst<MemoryBuf>,
    received: u64,
    _table: TableWriter,
    _fib: FibWriter,
    _workers: Workers<MemoryRx, MemoryTx, MemoryPool>,
}

fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').expect("a prefix");
    let addr: std::net::IpAddr = addr.parse().expect("an address");
    Prefix::of(addr.into(), len.parse().expect("a length")).expect("a length of the family")
}

fn port(number: usize, mtu: u16) -> PortSettings {
    PortSettings {
        name: format!("p{number}"),
        mac: MAC,
        mtu,
        controlled: None,
        vlan: Vec::new(),
        queue_depth: 512,
        discipline: Discipline::Fifo,
    }
}

impl Lab {
    /// A router whose port n has the prefixes of the nth list behind its station.
    fn new(ports: Vec<PortSettings>, behind: &[&[&str]]) -> Lab {
        let icmp = IcmpLimits { rate_pps: 1_000_000, burst: 1_000_000 };
        let mut routes = FibBuilder::new();
        let (mut queues, mut hosts, mut mtus) = (Vec::new(), Vec::new(), Vec::new());
        for (number, settings) in ports.into_iter().enumerate() {
            let config = MemoryConfig { rx_ring_len: 1024, ..MemoryConfig::new(&settings.name, number as u8) };
            let (ours, theirs) = MemoryPort::wire(&config, &config, 1);
            let (_, rx, tx) = ours.split();
            let (_, mut far_rx, mut far_tx) = theirs.split();
            mtus.push(settings.mtu);
            queues.push(PortQueues { settings, rx, tx });
            hosts.push((far_rx.remove(0), far_tx.remove(0)));
            let n = number as u16;
            let (v4, v6) = (Addr::V4(0xc612_0001 + (u32::from(n) << 8)), Addr::V6((0xfd00 << 112) + u128::from(n)));
            routes.source(n, Some(v4), Some(v6)).neighbour(n, v4, STATION).neighbour(n, v6, STATION);
            for to in behind[number].iter().map(|text| prefix(text)) {
                let gateway = if matches!(to.addr(), Addr::V4(_)) { v4 } else { v6 };
                routes.route(to, Target::Via { port: n, gateway: Some(gateway) });
            }
        }
        // Whose stations nobody knows, and the router's own.
        routes.route(prefix("192.0.2.128/25"), Target::Via { port: 1, gateway: None });
        routes.route(prefix("192.0.2.64/26"), Target::Local).route(prefix("2001:db8::40/122"), Target::Local);
        let pool = MemoryPool::new(8192, FRAME_LEN_MAX);
        let settings = Settings { icmp, ..Settings::default() };
        let running = router::start(settings, queues, vec![pool.clone()], |_| Ok(())).expect("the router starts");
        let Running { mut table, mut fib, slow_path, resolve, counters, workers, .. } = running;
        fib.publish(routes.build().expect("few hops")).expect("the first table");
        for (number, executable) in executables().iter().enumerate() {
            let id = InstallId(number as u64 + 1);
            let executable = executable.clone();
            let install = Install {
                id,
                executable,
                packet_rate: 0,
                over_budget: OverBudget::Forward,
                generate_key: [0; 32],
                monitor: false,
            };
            table.install(install).expect("within the bounds");
        }
        Lab {
            counters,
            slow_path,
            resolve,
            hosts,
            mtus,
            pool,
            burst: Burst::new(),
            received: 0,
            _table: table,
            _fib: fib,
            _workers: workers,
        }
    }

    /// Sends frames into a port, waits until the worker has received them, and gives what came out of each port meanwhile.
    fn pass<F: AsRef<[u8]>>(&mut self, port: usize, frames: &[F]) -> (Snapshot, Vec<Vec<Vec<u8>>>) {
        let end = Instant::now() + TIME_MAX;
        for frame in frames {
            let packet = self.pool.allocate(frame.as_ref()).expect("a buffer");
            assert!(self.burst.push(packet).is_ok());
            while self.burst.room() == 0 || !self.burst.is_empty() {
                self.hosts[port].1.send(&mut self.burst);
                assert!(Instant::now() < end, "the worker does not receive");
            }
        }
        self.received += frames.len() as u64;
        let snapshot = loop {
            let snapshot = self.counters.snapshot();
            if snapshot.ports.iter().map(|port| port.rx_packets).sum::<u64>() == self.received {
                break snapshot;
            }
            assert!(Instant::now() < end, "the worker does not receive");
            std::thread::yield_now();
        };
        assert_eq!(snapshot.balance().difference, 0, "{snapshot:?}");
        self.slow_path.to_tap(FRAMES_MAX, |_, _| ());
        while self.resolve.next().is_some() {}
        let burst = &mut self.burst;
        let out = self.hosts.iter_mut().map(|(rx, _)| {
            let mut frames = Vec::new();
            while rx.receive(burst) > 0 {
                frames.extend(burst.drain().map(|packet| packet.bytes().to_vec()));
            }
            frames
        });
        (snapshot, out.collect())
    }
}

/// An edge port whose sources meet programs, an uplink, and one with two tags and a small MTU, where all else leads.
fn lab() -> &'static Mutex<Lab> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    LAB.get_or_init(|| {
        let controlled = PrefixSet::new(vec![prefix("198.51.100.0/24"), prefix("2001:db8:1::/64")]);
        let edge = PortSettings { controlled: Some(controlled), ..port(0, 1500) };
        let narrow = PortSettings { vlan: vec![5, 6], ..port(2, 576) };
        let behind: [&[&str]; 3] =
            [&["198.51.100.0/24", "2001:db8:1::/64"], &["192.0.2.0/26", "2001:db8::/64"], &["0.0.0.0/0", "::/0"]];
        Mutex::new(Lab::new(vec![edge, port(1, 1500), narrow], &behind))
    })
}

/// The corpus of packets by each port, and pieces of the traces of the shared data, addressed to the router.
#[must_use]
pub fn corpus() -> Vec<Vec<u8>> {
    let mut frames = frames::frames();
    frames.extend(frames::frames().into_iter().map(|mut frame| {
        // Longer than the small MTU, and back where it came from: by the other ports.
        frame.resize(900, b'w');
        frame
    }));
    let mut corpus: Vec<Vec<u8>> = Vec::new();
    for port in 0..3 {
        corpus.extend(frames.iter().map(|frame| [&[port][..], &burst(&[frame])].concat()));
        corpus.push([&[port][..], &burst(&frames)].concat());
    }
    for trace in frames::traces() {
        if let Ok(capture) = Capture::read(&trace) {
            let packets: Vec<Vec<u8>> = capture.packets().iter().map(|packet| to_router(packet.bytes)).collect();
            let pieces = packets.chunks(8).step_by(1 + packets.len() / 64);
            corpus.extend(pieces.enumerate().map(|(i, piece)| [&[(i % 2) as u8][..], &burst(piece)].concat()));
        }
    }
    corpus
}

fn to_router(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if let Some(to) = frame.first_chunk_mut() {
        *to = MAC;
    }
    frame
}

/// Sends the burst `data` through the worker; whether anything of it went on.
///
/// # Panics
/// Where something misbehaves.
pub fn target(data: &[u8]) -> bool {
    let Some((&port, mut data)) = data.split_first() else { return false };
    let mut frames = Vec::new();
    while let Some((len, rest)) = data.split_first_chunk::<2>()
        && frames.len() < FRAMES_MAX
    {
        let (frame, rest) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*len))));
        data = rest;
        frames.push(frame);
    }
    let mut lab = lab().lock().unwrap_or_else(PoisonError::into_inner);
    let (_, out) = lab.pass(usize::from(port) % 3, &frames);
    for (frames, mtu) in out.iter().zip(&lab.mtus) {
        for frame in frames {
            let headers = parse::headers(frame).unwrap_or_else(|error| panic!("sent: {error}: {frame:02x?}"));
            assert!(headers.l3_len <= *mtu && headers.ttl > 0, "sent: {headers:?}");
            // Tags come on top of the shortest frame.
            let len_min = 60 - parse::ETHERNET_LEN + usize::from(headers.l3_offset);
            assert!(frame.len() <= headers.end().max(len_min), "sent with padding: {headers:?}");
        }
    }
    out.iter().any(|frames| !frames.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_pktops::checksum;
    use vinet_pktops::parse::{Headers, NotForwardable};

    #[test]
    fn bursts_of_anything_end_by_name_in_a_whole_worker() {
        crate::run("worker", &super::corpus(), 6_000, super::target);
    }

    /// What the router makes of a frame: other stations, one hop less, the sum counted anew, no padding.
    fn forwarded(frame: &[u8], headers: &Headers) -> Vec<u8> {
        let mut out = frame[..headers.end().max(60).min(frame.len())].to_vec();
        let ip = usize::from(headers.l3_offset);
        out[..12].copy_from_slice(&[STATION, MAC].concat());
        match headers.src {
            Addr::V4(_) => {
                out[ip + 8] -= 1;
                let end = ip + usize::from(out[ip] & 0xf) * 4;
                out[ip + 10..ip + 12].fill(0);
                let sum = checksum::of(&out[ip..end]).to_be_bytes();
                out[ip + 10..ip + 12].copy_from_slice(&sum);
            }
            Addr::V6(_) => out[ip + 7] -= 1,
        }
        out
    }

    #[test]
    fn captures_leave_in_order_and_whole_with_one_hop_counted() {
        let traces = frames::traces();
        if traces.is_empty() {
            println!("skipped: there are no captures to send through a worker");
        }
        // The second port is the way to everywhere and takes any length.
        let mut lab = Lab::new(vec![port(0, 1500), port(1, u16::MAX)], &[&[], &["0.0.0.0/0", "::/0"]]);
        let (mut sent, mut before) = (0, lab.counters.snapshot());
        for trace in traces {
            let capture = Capture::read(&trace).expect("a capture");
            let frames: Vec<Vec<u8>> = capture.packets().iter().map(|packet| to_router(packet.bytes)).collect();
            for frames in frames.chunks(FRAMES_MAX) {
                let mut expected = Vec::new();
                let mut broken = 0;
                for frame in frames {
                    match parse::headers(frame) {
                        Ok(headers)
                            if headers.ttl > 1
                                && !headers.src_is_martian()
                                && !headers.dst_is_martian()
                                && !headers.is_link_local()
                                && !parse::is_multicast(headers.dst) =>
                        {
                            expected.push(forwarded(frame, &headers));
                        }
                        Err(NotForwardable::Malformed(_)) => broken += 1,
                        _ => {}
                    }
                }
                let (after, mut out) = lab.pass(0, frames);
                assert_eq!(out.remove(1), expected);
                let malformed =
                    |counts: &Snapshot| parse::Malformed::ALL.map(|why| counts.drop(why.into())).iter().sum::<u64>();
                assert_eq!(malformed(&after) - malformed(&before), broken);
                sent += frames.len();
                before = after;
            }
        }
        println!("{sent} frames of captures, {} forwarded, {} dropped", before.ports[1].tx_packets, before.dropped());
    }
}
