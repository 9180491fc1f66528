//! A worker allocates nothing while it polls: a counting allocator watches its thread under traffic of every kind.

mod core_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use core_support::*;
use vinet_fastpath::drop_reason::DropReason;
use vinet_fastpath::flow_table::{Batch, Install, InstallId};
use vinet_fastpath::settings::{CoDelLimits, Discipline, ExpandRule, HoldLimits, PortSettings, Settings};
use vinet_fastpath::trace::{TRACE_BYTES_MAX, TraceOrder};
use vinet_pktops::Executable;
use vinet_pktops::datagram::Sender;
use vinet_pktops::generate::{Data, Generated, Kind};
use vinet_trusted::addr::Principal;
use vinet_trusted::policy::OverBudget;

static CALLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

fn count() {
    // A thread that is going has no cell any more, and is no worker that polls.
    if IS_WORKER.try_with(Cell::get).unwrap_or(false) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(place, layout) }
    }
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(place, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A program of `owner` with windows that rarely fill.
fn crowd(owner: &str) -> Arc<Executable> {
    let owner = Principal::EndUser(addr(owner));
    accept_under(&generous(&owner, 0, 50_000), &crowd_filter(32, "xx", 20), owner)
}

#[test]
fn a_worker_that_polls_neither_allocates_nor_frees() {
    let hold = HoldLimits { wait_max_ns: 30_000_000, ..HoldLimits::default() };
    let discipline = Discipline::CoDel(CoDelLimits::default());
    let out = PortSettings { mtu: 700, discipline, ..port(1) };
    let ports = vec![edge(0, &["10.0.0.0/24", "2001:db8::/64"]), out];
    // A program of an edge router whose packets come back here, for the expander to take: by the test's own hand.
    let (program, owner) = (multicast(4, "10.0.0.9"), edge_router("10.0.1.1", 24));
    let expand = vec![ExpandRule {
        own: addr("10.0.1.1"),
        port: 7401,
        prefix: net("10.0.1.0/24"),
        program: program.id(),
        key: [0; 32],
    }];
    let settings = Settings { hold, expand, window_packets_max: 5, cores: vec![None; 2], ..Settings::default() };
    let watch = |_| {
        IS_WORKER.set(true);
        Ok(())
    };
    // Two workers that hand packets over to each other.
    let mut lab = Lab::with_rx_queues(settings, ports, watch, 1);
    let install = |id, executable| Install {
        id: InstallId(id),
        executable,
        packet_rate: 0,
        over_budget: OverBudget::Drop,
        generate_key: [0; 32],
        monitor: false,
    };
    let mut batch = Batch::new();
    batch
        .install(install(1, firewall("10.0.1.2", &[net("10.0.0.64/26")])))
        .install(install(2, word_filter("10.0.1.2", "xx")))
        .install(install(3, word_filter("2001:db8:1::2", "xx")))
        .install(install(4, accept_under(&generous(&owner, 1_000_000, 100), &program, owner)))
        .install(install(5, crowd("10.0.1.2")))
        .install(install(6, crowd("2001:db8:1::2")))
        .install(Install { monitor: true, ..install(7, word_filter("10.0.1.2", "o")) });
    lab.table.apply(batch).expect("within the bounds");
    let after_start = CALLS.load(Ordering::Relaxed);
    assert!(after_start > 0, "the worker's thread is watched");

    let mut frames = Vec::new();
    let mut sent = Vec::new();
    let sender = Sender { program: program.id(), key: [0; 32], port: 7401, first_batch: 7, mtu: 1500 };
    for i in 0..60u8 {
        let text = [i; 300];
        frames.push(udp(0, "10.0.0.9", &format!("10.0.1.{}", 2 + i % 3), 64, &text));
        let dests = [&[0, 2, 4][..], &[10, 0, 1, 2], &[4], &[10, 0, 1, 3]].concat();
        let content = [&[17, 1, 0, 5, 0, 6, 1, 44][..], &text].concat();
        for (item, kind, bytes) in [(0, Kind::Dests, &dests), (1, Kind::Contents, &content)] {
            // Some are lost, so that batches wait.
            if i % 3 == 0 && item == 1 {
                continue;
            }
            let (src, dst) = (addr("10.0.0.9"), addr("10.0.1.1"));
            let generated = Generated { src, dst, batch: i.into(), item, kind, data: Data::Bytes(bytes) };
            let mut each = |packet: &[u8]| {
                sent.push([&router_mac(0)[..], &host_mac(0), &[8, 0], packet].concat());
            };
            sender.send(&generated, &mut each).expect("it can be sent");
        }
    }
    frames.extend(sent);
    for i in 0..60u8 {
        let text = if i % 4 == 0 { &b"xx"[..] } else { b"oo" };
        frames.push(udp(0, &format!("10.0.0.{}", 2 + i), "10.0.1.2", 64, text));
        frames.push(udp(0, &format!("2001:db8::{:x}", 2 + i), "2001:db8:1::2", 64, text));
        frames.push(udp(0, "10.0.0.2", "10.0.1.2", 1, text));
        frames.push(udp(0, "10.0.0.2", &format!("10.0.1.{}", 50 + i), 64, text));
        frames.push(udp(0, "10.0.0.2", "10.0.0.1", 64, text));
        frames.push(udp(0, "192.0.2.1", "10.0.1.2", 64, text));
        let mut long = udp(0, "10.0.0.2", "10.0.1.2", 64, &[b'o'; 1300]);
        long[20] &= !0x40;
        long[24..26].fill(0);
        let sum = vinet_pktops::checksum::of(&long[14..34]);
        long[24..26].copy_from_slice(&sum.to_be_bytes());
        frames.push(long);
    }
    for round in 1..=3 {
        if round == 2 {
            // From here on all are traced; some records find no room, for nobody takes any.
            let order = TraceOrder { src: None, dst: None, one_in: 1, bytes: TRACE_BYTES_MAX };
            lab.tracer.start(order).expect("workers pass");
        }
        lab.send(0, &frames);
        for _ in 0..20 {
            lab.slow_path.from_tap(1, &udp(1, "10.0.1.1", "10.0.1.2", 64, &[1; 50])).expect("room");
        }
        let received = frames.len() as u64 * round;
        lab.wait_for("all done", |counts| {
            counts.ports[0].rx_packets == received && counts.held == 0 && counts.from_tap == 20 * round
        });
        lab.slow_path.to_tap(1000, |_, _| ());
        // A change of routes and programs is read by the worker and freed by the control side.
        lab.routes.neighbour(1, addr("10.0.1.200"), host_mac(1));
        lab.publish_routes();
        if round == 2 {
            lab.table.withdraw(InstallId(2)).expect("installed");
        }
        lab.table.reclaim();
        lab.hosts.iter_mut().for_each(|host| drop(host.received()));
    }
    let counts = lab.counters.snapshot();
    assert!(counts.handed_over > 0, "{counts:?}");
    assert!(counts.own_icmp > 0 && counts.fragments > 0 && counts.to_tap > 0 && counts.dropped() > 0, "{counts:?}");
    assert!(counts.generated > 0 && counts.expanded > 0 && counts.windows_cut > 0, "{counts:?}");
    assert!(counts.drop(DropReason::ExpandReplayed) > 0, "{counts:?}");
    assert_eq!(CALLS.load(Ordering::Relaxed), after_start, "a worker allocated or freed");
    lab.stop();
}
