//! A router over memory ports, with the test at the far end of every wire.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use etherparse::{PacketBuilder, SlicedPacket};
use vinet_fastpath::counters::{Counters, Snapshot};
use vinet_fastpath::fib::{FibBuilder, FibWriter, Target};
use vinet_fastpath::flow_table::TableWriter;
use vinet_fastpath::hold::ResolveReceiver;
use vinet_fastpath::port::memory::{MemoryConfig, MemoryPool, MemoryPort, MemoryRx, MemoryTx};
use vinet_fastpath::port::{Burst, PacketBuf, PacketPool, Port, RxQueue, TxQueue};
use vinet_fastpath::router::{self, PortQueues, Running, Stopped, Workers};
use vinet_fastpath::settings::{Discipline, PortSettings, Settings};
use vinet_fastpath::slow_path::SlowPath;
use vinet_fastpath::trace::Tracer;
use vinet_pktops::Executable;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Principal};
use vinet_trusted::check::check;
use vinet_trusted::packet::Test;
use vinet_trusted::policy::{Costs, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrExpr, AddrTerm, Cond, Expr, Field, Instr, Program, Word};

/// How long a test waits for something that should happen at once, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().expect("an address").into()
}
pub fn net(text: &str) -> Prefix {
    let (a, len) = text.split_once('/').expect("a prefix");
    Prefix::new(addr(a), len.parse().expect("a length")).expect("no host bits")
}
/// The Ethernet address of the router's port.
pub fn router_mac(port: u16) -> [u8; 6] {
    [2, 0, 0, 0, 0, 0x10 + port as u8]
}
/// The Ethernet address of the host at the far end of the port.
pub fn host_mac(port: u16) -> [u8; 6] {
    [2, 0, 0, 0, 0, 0x20 + port as u8]
}

/// The far end of a wire.
pub struct Host {
    pub rx: Vec<MemoryRx>,
    pub tx: Vec<MemoryTx>,
    burst: Burst<<MemoryPool as PacketPool>::Buf>,
}

impl Host {
    /// What has come by now.
    pub fn received(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for rx in &mut self.rx {
            while rx.receive(&mut self.burst) > 0 {
                frames.extend(self.burst.drain().map(|packet| packet.bytes().to_vec()));
            }
        }
        frames
    }
}

pub struct Lab {
    pub table: TableWriter,
    pub fib: FibWriter,
    pub routes: FibBuilder,
    pub slow_path: SlowPath,
    pub resolve: ResolveReceiver,
    pub counters: Counters,
    pub tracer: Tracer,
    pub hosts: Vec<Host>,
    pub pool: MemoryPool,
    pub workers: Workers<MemoryRx, MemoryTx, MemoryPool>,
    far_pool: MemoryPool,
}

/// A port of the lab as the tests mostly want it.
pub fn port(number: u16) -> PortSettings {
    PortSettings {
        name: format!("p{number}"),
        mac: router_mac(number),
        mtu: 1500,
        controlled: None,
        vlan: Vec::new(),
        queue_depth: 256,
        discipline: Discipline::Fifo,
    }
}
/// An edge port that controls `prefixes`.
pub fn edge(number: u16, prefixes: &[&str]) -> PortSettings {
    let controlled = PrefixSet::new(prefixes.iter().map(|text| net(text)).collect());
    PortSettings { controlled: Some(controlled), ..port(number) }
}

impl Lab {
    /// A router with these ports: port n is 10.0.n.1/24 and 2001:db8:n::1/64, and its host 10.0.n.2 and 2001:db8:n::2.
    pub fn new(settings: Settings, ports: Vec<PortSettings>) -> Lab {
        Lab::with_register(settings, ports, |_| Ok(()))
    }

    /// The same, with something to be done on each worker's thread.
    pub fn with_register(
        settings: Settings,
        ports: Vec<PortSettings>,
        register: fn(usize) -> Result<(), String>,
    ) -> Lab {
        let workers = settings.cores.len();
        Lab::with_rx_queues(settings, ports, register, workers)
    }

    /// The same, where each port has only so many receive queues: hosts are heard on the first ones alone.
    pub fn with_rx_queues(
        settings: Settings,
        ports: Vec<PortSettings>,
        register: fn(usize) -> Result<(), String>,
        rx_queues: usize,
    ) -> Lab {
        let workers = settings.cores.len();
        let pool = MemoryPool::new(20_000, 2048);
        let mut queues = Vec::new();
        let mut hosts = Vec::new();
        let mut routes = FibBuilder::new();
        for (number, settings) in ports.into_iter().enumerate() {
            let config = MemoryConfig { rx_ring_len: 4096, ..MemoryConfig::new(&settings.name, number as u8) };
            let (ours, theirs) = MemoryPort::wire(&config, &config, workers);
            let (_, mut rx, tx) = ours.split();
            rx.truncate(rx_queues);
            let (_, far_rx, far_tx) = theirs.split();
            queues.push(PortQueues { settings, rx, tx });
            hosts.push(Host { rx: far_rx, tx: far_tx, burst: Burst::new() });
            let n = number as u16;
            routes
                .route(net(&format!("10.0.{n}.0/24")), Target::Via { port: n, gateway: None })
                .route(net(&format!("10.0.{n}.1/32")), Target::Local)
                .route(net(&format!("2001:db8:{n}::/64")), Target::Via { port: n, gateway: None })
                .route(net(&format!("2001:db8:{n}::1/128")), Target::Local)
                .neighbour(n, addr(&format!("10.0.{n}.2")), host_mac(n))
                .neighbour(n, addr(&format!("2001:db8:{n}::2")), host_mac(n))
                .source(n, Some(addr(&format!("10.0.{n}.1"))), Some(addr(&format!("2001:db8:{n}::1"))));
        }
        let pools = vec![pool.clone(); workers];
        let running = router::start(settings, queues, pools, register).expect("the router starts");
        let Running { table, mut fib, slow_path, resolve, counters, tracer, workers } = running;
        fib.publish(routes.build().expect("few hops")).expect("the first table");
        let far_pool = MemoryPool::new(20_000, 2048);
        Lab { table, fib, routes, slow_path, resolve, counters, tracer, hosts, pool, workers, far_pool }
    }

    pub fn publish_routes(&mut self) {
        self.fib.publish(self.routes.build().expect("few hops")).expect("workers pass");
    }

    /// Sends frames into a port, by queue 0, once every worker has taken over what was published.
    pub fn send(&mut self, port: u16, frames: &[Vec<u8>]) {
        let end = Instant::now() + PATIENCE;
        while !self.table.is_taken_over() && Instant::now() < end {
            std::thread::yield_now();
        }
        let mut burst = Burst::new();
        for frame in frames {
            let packet = self.far_pool.allocate(frame).expect("a buffer");
            assert!(burst.push(packet).is_ok());
            if burst.room() == 0 {
                self.drain(port, &mut burst);
            }
        }
        self.drain(port, &mut burst);
    }
    fn drain(&mut self, port: u16, burst: &mut Burst<<MemoryPool as PacketPool>::Buf>) {
        let end = Instant::now() + PATIENCE;
        while !burst.is_empty() {
            self.hosts[usize::from(port)].tx[0].send(burst);
            assert!(Instant::now() < end, "the router does not receive");
        }
    }

    /// Waits until so many frames have come out of a port.
    pub fn expect(&mut self, port: u16, count: usize) -> Vec<Vec<u8>> {
        let end = Instant::now() + PATIENCE;
        let mut frames = Vec::new();
        while frames.len() < count {
            frames.extend(self.hosts[usize::from(port)].received());
            assert!(Instant::now() < end, "{} of {count} frames came: {:?}", frames.len(), self.counters.snapshot());
            std::thread::yield_now();
        }
        assert_eq!(frames.len(), count);
        frames
    }

    /// Waits until the counts are as wanted.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let end = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.counters.snapshot();
            assert_eq!(snapshot.balance().difference, 0, "{snapshot:?}");
            if wanted(&snapshot) {
                return snapshot;
            }
            assert!(Instant::now() < end, "no {what}: {snapshot:?}");
            std::thread::yield_now();
        }
    }

    /// Stops it, and holds that every packet has an end and every buffer is back.
    pub fn stop(self) -> Snapshot {
        let Lab { workers, hosts, pool, far_pool, .. } = self;
        let Stopped { counters, ports, pools, panicked } = workers.stop();
        assert_eq!(panicked, []);
        assert_eq!(counters.balance().difference, 0, "{counters:?}");
        assert_eq!((counters.held, counters.queued), (0, 0));
        assert_eq!(pools.len(), ports[0].tx.len());
        drop((ports, hosts, pools));
        assert_eq!((pool.free(), far_pool.free()), (pool.buffers(), far_pool.buffers()), "buffers are lost");
        counters
    }
}

/// A UDP datagram from a host behind `port` to anywhere, through the router.
pub fn udp(port: u16, src: &str, dst: &str, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(host_mac(port), router_mac(port));
    let mut frame = Vec::new();
    match (addr(src), addr(dst)) {
        (Addr::V4(src), Addr::V4(dst)) => {
            link.ipv4(src.to_be_bytes(), dst.to_be_bytes(), ttl).udp(1000, 2000).write(&mut frame, payload)
        }
        (Addr::V6(src), Addr::V6(dst)) => {
            link.ipv6(src.to_be_bytes(), dst.to_be_bytes(), ttl).udp(1000, 2000).write(&mut frame, payload)
        }
        _ => panic!("one family"),
    }
    .expect("it fits");
    frame
}

/// What an independent parser reads: addresses, TTL or hop limit, and that the IPv4 checksum is right.
pub fn read_ip(frame: &[u8]) -> (Addr, Addr, u8) {
    let packet = SlicedPacket::from_ethernet(frame).expect("a sound packet");
    match packet.net.expect("IP") {
        etherparse::NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            (
                Addr::V4(u32::from_be_bytes(header.source)),
                Addr::V4(u32::from_be_bytes(header.destination)),
                header.time_to_live,
            )
        }
        etherparse::NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                Addr::V6(u128::from_be_bytes(header.source())),
                Addr::V6(u128::from_be_bytes(header.destination())),
                header.hop_limit(),
            )
        }
        other => panic!("not IP: {other:?}"),
    }
}

/// A policy that lets owners drop and look into what is sent to them.
pub fn policy(owner: &Principal) -> Arc<Policy> {
    let owns = Test::Owns { field: Field::Dst };
    let costs = Costs {
        program: 10,
        select: 1,
        select_many: 1,
        partition: 1,
        foreach: 1,
        test: 1,
        set: 1,
        arithmetic: 1,
        turn: 1,
        discard: 1,
        contains: 10,
        contains_per_64_bytes: 10,
        stream: 10,
        content: 10,
        content_per_64_bytes: 10,
        generate: 10,
        generate_per_64_bytes: 10,
    };
    let limits = Limits {
        program_bytes_max: 1 << 18,
        proof_bytes_max: 1 << 16,
        lifetime_max_s: 3600,
        complexity_max: 1 << 40,
        cost_max: 1 << 50,
        packet_bytes_max: 1500,
        window_packets_max: 32,
        window_us_max: 200,
        generate_port: 7401,
        generate_rate_max: 0,
        stream_flows_max: 256,
        stream_islands_max: 4,
        packet_rate_default: 1000,
        packet_rate_max: 1_000_000,
        over_budget: OverBudget::Forward,
    };
    Arc::new(Policy {
        name: "test".into(),
        principals: PrincipalKind::of(owner),
        discard: owns.clone(),
        group: owns.clone(),
        scan: owns,
        generate: Test::False,
        costs,
        limits,
    })
}

/// Proves, checks and lowers a program as the router would.
pub fn accept(program: &Program, owner: Principal) -> Arc<Executable> {
    accept_under(&policy(&owner), program, owner)
}

/// The same, under any policy.
pub fn accept_under(policy: &Arc<Policy>, program: &Program, owner: Principal) -> Arc<Executable> {
    let lemmas = vinet_prover::library();
    let proof = vinet_prover::prove(program, &owner, policy, &lemmas, &[]).expect("a lawful program");
    let checked = check(&program.encode(), &proof, owner, policy, &lemmas).expect("its proof holds");
    Arc::new(Executable::lower(Arc::new(checked)).expect("it can be lowered"))
}

fn to_owner(out: u8, arg: u8) -> Instr {
    let addrs = AddrExpr { this_ip: true, ..AddrExpr::default() };
    Instr::Select { out, arg, test: Test::In { field: Field::Dst, addrs } }
}

/// A policy that also lets owners send `rate` packets a second to themselves, with windows that wait `wait_us`.
pub fn generous(owner: &Principal, rate: u32, wait_us: u32) -> Arc<Policy> {
    let mut policy = Policy::clone(&policy(owner));
    policy.generate = Test::In { field: Field::Dst, addrs: AddrExpr { this_ip: true, ..AddrExpr::default() } };
    (policy.limits.generate_rate_max, policy.limits.window_us_max) = (rate, wait_us);
    Arc::new(policy)
}

/// The owner of multicast programs: an edge router's address with its prefix.
pub fn edge_router(addr: &str, len: u8) -> Principal {
    Principal::edge_router(self::addr(addr), len).expect("a prefix")
}

/// The paper's multicast, with windows of `window` packets: of what `src` sends to the owner's prefix, one copy goes to
/// the owner, with the list of those it is for.
pub fn multicast(window: u16, src: &str) -> Program {
    let subnet = AddrExpr { this_subnet: true, ..AddrExpr::default() };
    let sender = AddrExpr { prefixes: PrefixSet::new(vec![Prefix::host(addr(src))]), ..AddrExpr::default() };
    let generate = |data| Instr::Generate { src: AddrTerm::Const { addr: addr(src) }, dst: AddrTerm::ThisIp, data };
    let body = vec![
        Instr::Select { out: 1, arg: 0, test: Test::In { field: Field::Dst, addrs: subnet } },
        Instr::Select { out: 2, arg: 1, test: Test::In { field: Field::Src, addrs: sender } },
        Instr::Content { dests: 3, contents: 4, arg: 2 },
        generate(3),
        generate(4),
        Instr::Discard { arg: 2 },
    ];
    Program::new(60, window, vec![], body).expect("well-formed")
}

/// A program with windows of `window` packets that drops its owner's packets where, together, they have `word` `least`
/// times.
pub fn crowd_filter(window: u16, word: &str, least: i64) -> Program {
    let body = vec![
        to_owner(1, 0),
        Instr::Count { out: 2, arg: 1, word: 0 },
        Instr::If {
            cond: Cond::AtMost { a: Expr::Const { value: least }, b: Expr::Slot { slot: 2 } },
            then: vec![Instr::Discard { arg: 1 }],
            otherwise: vec![],
        },
    ];
    Program::new(60, window, vec![Word { fold: false, bytes: word.as_bytes().to_vec() }], body).expect("well-formed")
}

/// The paper's firewall: what comes from `block` to the owner is dropped.
pub fn firewall(owner: &str, block: &[Prefix]) -> Arc<Executable> {
    let addrs = AddrExpr { prefixes: PrefixSet::new(block.to_vec()), ..AddrExpr::default() };
    let test = Test::In { field: Field::Src, addrs };
    let body = vec![to_owner(1, 0), Instr::Select { out: 2, arg: 1, test }, Instr::Discard { arg: 2 }];
    accept(&Program::new(60, 1, vec![], body).expect("well-formed"), Principal::EndUser(addr(owner)))
}

/// The paper's spam filter: what has the word in its content is dropped.
pub fn word_filter(owner: &str, word: &str) -> Arc<Executable> {
    let body = vec![
        to_owner(1, 0),
        Instr::If {
            cond: Cond::Contains { arg: 1, word: 0 },
            then: vec![Instr::Discard { arg: 1 }],
            otherwise: vec![],
        },
    ];
    let program =
        Program::new(60, 1, vec![Word { fold: false, bytes: word.as_bytes().to_vec() }], body).expect("well-formed");
    accept(&program, Principal::EndUser(addr(owner)))
}
