//! DPDK ports without a kernel interface: net_ring, net_null and net_pcap, with and without hugepages; and what all ports do
//! alike: errors, ownership, buffers that come back. Needs root. Each scenario runs in a child process.

// Each test file uses its part of what they share.
#[allow(dead_code)]
mod ports_support;

use std::ffi::OsStr;
use std::path::Path;
use std::{env, fs};

use ports_support::scenarios::{
    buffers_come_back_from_threads, buffers_grow_and_shrink, pcap_in_pcap_out_keeps_contents,
    pcap_into_null_keeps_counts, ring_returns_what_was_sent,
};
use ports_support::{
    FILE_PREFIX, eal, finish, frame, frames, in_children, pool, read_pcap, receive, send_all, spawn, wait_until,
    write_pcap,
};
use vinet_fastpath::eal::{Eal, EalError, EalSettings, Memory};
use vinet_fastpath::port::dpdk::{Direction, DpdkConfig, DpdkPort, PortError};
use vinet_fastpath::port::mbuf::{HEADROOM_LEN, Mempool, MempoolError, MempoolSettings};
use vinet_fastpath::port::{PacketBuf, PacketPool, Port};

#[test]
fn ring_returns_what_was_sent_and_drops_what_does_not_fit() {
    in_children("ring_returns_what_was_sent_and_drops_what_does_not_fit", |memory| {
        let eal = eal(memory);
        assert_eq!(eal.has_hugepages(), matches!(memory, Memory::Huge { .. }));
        let pool = pool(&eal);
        let mut buffers = pool.handle();
        let mut config = DpdkConfig::new("loop", "net_ring0");
        config.rx_ring_len = 100;
        config.tx_ring_len = 300;
        let port = DpdkPort::open(&eal, &pool, &config).unwrap();
        let granted = port.granted().clone();
        assert_eq!((granted.rx_ring_len, granted.tx_ring_len), (128, 512));
        assert_eq!((granted.driver.as_str(), granted.kernel_interface), ("net_ring", None));
        let sent = frames(10);
        let all = pool.settings().buffers;
        let (handle, mut rx, mut tx) = ring_returns_what_was_sent(port, &mut buffers, &|| pool.free(), all);

        // Queues keep the device running, whatever is dropped first; then it can be opened again.
        drop((handle, pool));
        send_all(&mut tx[0], &mut buffers, &sent);
        drop(tx);
        assert_eq!(receive(&mut rx[0], sent.len()), sent);
        drop(rx);
        let pool = Mempool::new(&eal, MempoolSettings::for_mtu(4096, 1500)).unwrap();
        let (_, mut rx, mut tx) = DpdkPort::open(&eal, &pool, &config).unwrap().split();
        send_all(&mut tx[0], &mut buffers, &sent);
        assert_eq!(receive(&mut rx[0], sent.len()), sent);
    });
}

#[test]
fn pcap_in_pcap_out_and_null_keep_counts_and_contents() {
    in_children("pcap_in_pcap_out_and_null_keep_counts_and_contents", |memory| {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in.pcap"), folder.path().join("out.pcap"));
        let mut sent = frames(300);
        sent.insert(100, frame(1_000_000, 9_000));
        write_pcap(&input, &sent);
        sent.remove(100);

        let eal = eal(memory);
        let pool = pool(&eal);
        let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
        let port = DpdkPort::open(&eal, &pool, &DpdkConfig::new("file", &device)).unwrap();
        pcap_in_pcap_out_keeps_contents(port, &sent);
        assert_eq!(read_pcap(&output), sent);

        // For ever from a file into nothing.
        write_pcap(&input, &sent[..100]);
        let device = format!("net_pcap1,rx_pcap={},infinite_rx=1", input.display());
        let source = DpdkPort::open(&eal, &pool, &DpdkConfig::new("source", &device)).unwrap();
        let sink = DpdkPort::open(&eal, &pool, &DpdkConfig::new("sink", "net_null0")).unwrap();
        pcap_into_null_keeps_counts(source, sink, &sent[..100]);
    });
}

#[test]
fn buffers_grow_shrink_and_return_within_their_room() {
    in_children("buffers_grow_shrink_and_return_within_their_room", |memory| {
        let eal = eal(memory);
        let sizes = MempoolSettings { buffers: 64, data_room_len: 2048 + HEADROOM_LEN, cache: 0 };
        let pool = Mempool::new(&eal, sizes).unwrap();
        buffers_grow_and_shrink(pool.handle(), 2048, usize::from(HEADROOM_LEN), &|| pool.free());

        let large = MempoolSettings { buffers: 100_000_000, ..sizes };
        let error = Mempool::new(&eal, large).unwrap_err();
        assert!(matches!(error, MempoolError::NoMemory { .. }));
        assert!(error.to_string().contains("fewer buffers"), "{error}");
        let tight = MempoolSettings { buffers: 64, cache: 60, ..sizes };
        assert_eq!(Mempool::new(&eal, tight).unwrap_err(), MempoolError::CacheTooLarge { cache: 60, cache_max: 42 });
        let none = MempoolSettings { buffers: 0, ..sizes };
        assert_eq!(Mempool::new(&eal, none).unwrap_err(), MempoolError::NoBuffers);
    });
}

#[test]
fn errors_of_ports_say_what_and_leave_nothing_behind() {
    in_children("errors_of_ports_say_what_and_leave_nothing_behind", |memory| {
        let eal = eal(memory);
        let pool = pool(&eal);
        let open = |device: &str, change: &dyn Fn(&mut DpdkConfig)| {
            let mut config = DpdkConfig::new("p", device);
            change(&mut config);
            DpdkPort::open(&eal, &pool, &config)
        };
        let told = |device: &str, change: &dyn Fn(&mut DpdkConfig), words: &str| {
            let error = open(device, change).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            error
        };
        let as_is = |_: &mut DpdkConfig| {};
        for device in ["", " ", "net_ring0\0", "net_ring0\nx", &"x".repeat(513)] {
            assert!(matches!(told(device, &as_is, "is no device"), PortError::BadDevice { .. }));
        }
        assert!(matches!(told("net_nonesuch0", &as_is, "no driver has this name"), PortError::NoDevice { .. }));
        told("net_af_packet0,iface=nonesuch", &as_is, "interface");
        told("net_pcap0,rx_pcap=/nonesuch.pcap", &as_is, "nonesuch.pcap");
        told("0000:ff:1f.7", &as_is, "dpdk-devbind.py");
        told("net_null0,nonesuch=1", &as_is, "net_null0");

        let error = told("net_null0", &|c| c.mtu = 40, "expected 68 to");
        assert!(matches!(error, PortError::Mtu { mtu: 40, min: 68, .. }), "{error:?}");
        let error = told("net_null0", &|c| c.mtu = 9000, "enlarge the buffers");
        assert!(matches!(error, PortError::Buffers { needed: 9154, .. }), "{error:?}");
        let error = told("net_null0", &|c| c.tx_queues = 0, "expected 1 to");
        assert!(matches!(error, PortError::Queues { direction: Direction::Transmit, .. }), "{error:?}");
        let error = told("net_null0", &|c| c.rx_queues = 0, "expected 1 to");
        assert!(matches!(error, PortError::Queues { direction: Direction::Receive, .. }), "{error:?}");
        let error = told("net_null0", &|c| c.rx_ring_len = u16::MAX, "enlarge the pool");
        assert!(matches!(error, PortError::PoolTooSmall { needed: 32_768, .. }), "{error:?}");

        // After all these errors the device is free. A device that has fewer queues than are wanted gives what it has, and
        // it says that it does not fill them by source.
        let port = open("net_ring0", &|c| c.rx_queues = 20).unwrap();
        assert_eq!((port.granted().rx_queues, port.granted().rx_by_source), (16, false));
        let port = open("net_null0", &|c| (c.rx_queues, c.tx_queues) = (2, 2)).unwrap();
        let granted = port.granted();
        assert_eq!((granted.rx_queues, granted.tx_queues, granted.rx_by_source), (2, 2, false));
        assert!(matches!(told("net_null0", &as_is, "in use"), PortError::Taken { .. }));
        drop(port);
        open("net_null0", &as_is).unwrap();
    });
}

#[test]
fn eal_starts_once_keeps_affinities_and_registers_threads() {
    in_children("eal_starts_once_keeps_affinities_and_registers_threads", |memory| {
        let allowed = || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with("Cpus_allowed:")).unwrap().to_owned()
        };
        let before = allowed();
        let mut settings = EalSettings::new("vinet/test");
        assert!(matches!(Eal::start(&settings), Err(EalError::BadFilePrefix { .. })), "does not count as a start");
        settings = EalSettings::new(FILE_PREFIX);
        settings.memory = memory;
        settings.pci = false;
        settings.main_core = Some(0);
        let eal = Eal::start(&settings).unwrap();
        assert_eq!(allowed(), before);
        for task in fs::read_dir("/proc/self/task").unwrap() {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            assert!(status.contains(&before), "{status}");
        }
        assert!(matches!(Eal::start(&settings), Err(EalError::AlreadyStarted)));
        assert!(eal.version().starts_with("DPDK 2"), "{}", eal.version());

        let worker = std::thread::spawn({
            let eal = eal.clone();
            move || {
                let guard = eal.register_worker_thread().unwrap();
                assert!(matches!(eal.register_worker_thread(), Err(EalError::ThreadRegistered)));
                let first = guard.lcore_id();
                drop(guard);
                let guard = eal.register_worker_thread().unwrap();
                assert_eq!(guard.lcore_id(), first, "the number is free again");
                assert_eq!(allowed(), before);
            }
        });
        worker.join().unwrap();

        // The clean-up waits for the last holder. (DPDK itself leaves hugepages in memory to the end of the process.)
        let pool = pool(&eal);
        let packet = pool.handle().allocate(b"still here").unwrap();
        let address = packet.bytes().as_ptr() as usize;
        let mapped = || {
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().any(|line| {
                let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
                let [start, end] = [start, end].map(|at| usize::from_str_radix(at, 16).unwrap());
                (start..end).contains(&address)
            })
        };
        drop(eal);
        assert_eq!(packet.bytes(), b"still here");
        drop(packet);
        assert!(mapped());
        drop(pool);
        assert_eq!(mapped(), matches!(memory, Memory::Huge { .. }));
        assert!(matches!(Eal::start(&settings), Err(EalError::AlreadyStarted)));
    });
}

/// Set for the process that holds a file prefix in the next test: where it says that it does.
const HOLDER_READY: &str = "VINET_PORTS_HOLDER_READY";
/// And the file prefix.
const HOLDER_PREFIX: &str = "VINET_PORTS_HOLDER_PREFIX";

#[test]
fn a_file_prefix_in_use_is_told() {
    const TEST: &str = "a_file_prefix_in_use_is_told";
    in_children(TEST, |_| {
        let prefix = env::var(HOLDER_PREFIX).unwrap_or_else(|_| format!("vinet-test-{}", std::process::id()));
        let mut settings = EalSettings::new(&prefix);
        settings.memory = Memory::Ordinary { mib: 32 };
        settings.in_memory = false;
        settings.pci = false;
        settings.args = vec!["--no-telemetry".to_owned()];
        if let Some(ready) = env::var_os(HOLDER_READY) {
            let _eal = Eal::start(&settings).unwrap();
            fs::write(&ready, "").unwrap();
            let asked_to_end = || !Path::new(&ready).exists();
            wait_until("the other process has seen us", asked_to_end);
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let holder =
            spawn(TEST, "ordinary", &[(HOLDER_READY, ready.as_os_str()), (HOLDER_PREFIX, OsStr::new(&prefix))]);
        wait_until("the holder has the prefix", || ready.exists());
        let error = Eal::start(&settings).unwrap_err();
        fs::remove_file(&ready).unwrap();
        finish(holder, "the holder");
        assert_eq!(error, EalError::PrefixInUse { prefix: prefix.clone() });
        assert!(error.to_string().contains(&prefix), "{error}");
        let _ = fs::remove_dir_all(format!("/var/run/dpdk/{prefix}"));
    });
}

#[test]
fn buffers_come_back_from_threads_with_caches_of_their_own() {
    in_children("buffers_come_back_from_threads_with_caches_of_their_own", |memory| {
        let eal = eal(memory);
        let pool = pool(&eal);
        let port = DpdkPort::open(&eal, &pool, &DpdkConfig::new("loop", "net_ring0")).unwrap();
        buffers_come_back_from_threads(port, pool.handle(), &eal);
        assert_eq!(pool.free(), pool.settings().buffers);
    });
}

#[test]
fn a_packet_outlives_everything_else() {
    in_children("a_packet_outlives_everything_else", |memory| {
        let eal = eal(memory);
        let pool = pool(&eal);
        let packet = pool.handle().allocate(b"still here").unwrap();
        drop((pool, eal));
        assert_eq!(packet.bytes(), b"still here", "its memory was not cleaned up");
    });
}

#[test]
fn a_wrong_core_or_argument_is_named() {
    in_children("a_wrong_core_or_argument_is_named", |memory| {
        let mut settings = EalSettings::new(FILE_PREFIX);
        settings.memory = memory;
        settings.pci = false;
        let error = match memory {
            Memory::Huge { .. } => {
                settings.main_core = Some(9999);
                Eal::start(&settings).unwrap_err()
            }
            Memory::Ordinary { .. } => {
                settings.args = vec!["--nonesuch".to_owned()];
                Eal::start(&settings).unwrap_err()
            }
        };
        let words = if settings.main_core.is_some() { "core 9999" } else { "--nonesuch" };
        assert!(error.to_string().contains(words), "{error:?}: {error}");
    });
}
