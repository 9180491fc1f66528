//! Ports over the crate capsule: what holds for every port holds for its ports too. `make test-capsule` runs this; it needs root.
//! Capsule starts once in a process and opens all its ports then, so each scenario runs in a child process, as for DPDK.

// Each test file uses its part of what they share.
#[allow(dead_code)]
mod ports_support;

use std::thread;

use ports_support::scenarios::{
    buffers_come_back_from_threads, buffers_grow_and_shrink, pcap_in_pcap_out_keeps_contents,
    pcap_into_null_keeps_counts, ring_returns_what_was_sent,
};
use ports_support::{
    FILE_PREFIX, RawSocket, frame, frames, in_children, own_namespace, read_pcap, receive, send_all, veth, write_pcap,
};
use vinet_fastpath::eal::{Eal, EalError, EalSettings, Memory};
use vinet_fastpath::port::capsule::{CapsuleConfig, CapsuleError, CapsulePort, CapsuleRuntime, FRAME_LEN_MAX};
use vinet_fastpath::port::{PacketBuf, PacketPool, Port, PortHandle};

fn settings(memory: Memory) -> EalSettings {
    let mut settings = EalSettings::new(FILE_PREFIX);
    settings.memory = memory;
    settings.pci = false;
    settings.args = vec!["--no-telemetry".to_owned()];
    settings
}

/// Capsule with a pool that every driver finds large enough, and ports of these names over these devices.
fn start(memory: Memory, ports: &[(&str, &str)]) -> (CapsuleRuntime, Vec<CapsulePort>) {
    let ports: Vec<CapsuleConfig> = ports.iter().map(|(name, device)| CapsuleConfig::new(name, device)).collect();
    CapsuleRuntime::start(&settings(memory), 16 * 1024, 256, &ports).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn ring_returns_what_was_sent_and_drops_what_does_not_fit() {
    in_children("ring_returns_what_was_sent_and_drops_what_does_not_fit", |memory| {
        let (runtime, mut ports) = start(memory, &[("loop", "net_ring0")]);
        assert_eq!(runtime.eal().has_hugepages(), matches!(memory, Memory::Huge { .. }));
        let mut buffers = runtime.pool();
        let all = runtime.buffers();
        let port = ports.remove(0);
        let (handle, mut rx, mut tx) = ring_returns_what_was_sent(port, &mut buffers, &|| runtime.free(), all);

        // Queues keep capsule running, whatever is dropped first.
        let sent = frames(10);
        drop((handle, runtime));
        send_all(&mut tx[0], &mut buffers, &sent);
        drop((tx, buffers));
        assert_eq!(receive(&mut rx[0], sent.len()), sent);
    });
}

#[test]
fn pcap_in_pcap_out_and_null_keep_counts_and_contents() {
    in_children("pcap_in_pcap_out_and_null_keep_counts_and_contents", |memory| {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (input, output, endless) = (path("in.pcap"), path("out.pcap"), path("endless.pcap"));
        let mut sent = frames(300);
        sent.insert(100, frame(1_000_000, 9_000));
        write_pcap(&input, &sent);
        sent.remove(100);
        write_pcap(&endless, &sent[..100]);

        let file = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
        let source = format!("net_pcap1,rx_pcap={},infinite_rx=1", endless.display());
        let (runtime, ports) = start(memory, &[("file", &file), ("source", &source), ("sink", "net_null0")]);
        let mut ports = ports.into_iter();
        pcap_in_pcap_out_keeps_contents(ports.next().unwrap(), &sent);
        pcap_into_null_keeps_counts(ports.next().unwrap(), ports.next().unwrap(), &sent[..100]);
        // The file is whole when capsule has closed its ports, which it does when the last holder is gone.
        drop((runtime, ports));
        assert_eq!(read_pcap(&output), sent);
    });
}

#[test]
fn buffers_grow_shrink_and_return_within_their_room() {
    in_children("buffers_grow_shrink_and_return_within_their_room", |memory| {
        let ports = [CapsuleConfig::new("sink", "net_null0")];
        let (runtime, _ports) = CapsuleRuntime::start(&settings(memory), 64, 0, &ports).unwrap();
        // Capsule puts bytes before a frame by moving the frame, so all room is at its end.
        buffers_grow_and_shrink(runtime.pool(), FRAME_LEN_MAX, 0, &|| runtime.free());
    });
}

#[test]
fn buffers_come_back_from_threads_with_caches_of_their_own() {
    in_children("buffers_come_back_from_threads_with_caches_of_their_own", |memory| {
        let (runtime, mut ports) = start(memory, &[("loop", "net_ring0")]);
        buffers_come_back_from_threads(ports.remove(0), runtime.pool(), runtime.eal());
        assert_eq!(runtime.free(), runtime.buffers());
    });
}

#[test]
fn a_packet_outlives_everything_else() {
    in_children("a_packet_outlives_everything_else", |memory| {
        let (runtime, ports) = start(memory, &[("sink", "net_null0")]);
        let packet = runtime.pool().allocate(b"still here").unwrap();
        drop((runtime, ports));
        assert_eq!(packet.bytes(), b"still here", "its memory was not cleaned up");
        thread::spawn(move || drop(packet)).join().unwrap();
    });
}

#[test]
fn frames_cross_a_link_of_the_kernel() {
    in_children("frames_cross_a_link_of_the_kernel", |memory| {
        own_namespace();
        veth("near", "far");
        let far = RawSocket::open("far");
        let (runtime, mut ports) = start(memory, &[("wire", "net_af_packet0,iface=near")]);
        let (handle, mut rx, mut tx) = ports.remove(0).split();
        assert!(handle.kernel_interface().is_some() && handle.mac() != [0; 6]);
        let sent = frames(100);
        for frame in &sent {
            far.send(frame);
        }
        assert_eq!(receive(&mut rx[0], sent.len()), sent);
        send_all(&mut tx[0], &mut runtime.pool(), &sent);
        assert_eq!(far.receive(sent.len()), sent);
        assert_eq!(handle.stats().tx_packets, 100);
    });
}

#[test]
fn capsule_starts_once_and_says_what_it_refuses() {
    in_children("capsule_starts_once_and_says_what_it_refuses", |memory| {
        let sink = [CapsuleConfig::new("sink", "net_null0")];
        let mut spaced = settings(memory);
        spaced.args.push("--log-level=a b".to_owned());
        let error = CapsuleRuntime::start(&spaced, 64, 0, &sink).unwrap_err();
        assert!(matches!(error, CapsuleError::ArgumentWithSpace { .. }), "{error}");
        let (_runtime, ports) = match memory {
            Memory::Huge { .. } => CapsuleRuntime::start(&settings(memory), 64, 0, &sink).unwrap(),
            Memory::Ordinary { .. } => {
                let missing = [CapsuleConfig::new("file", "net_pcap0,rx_pcap=/nonesuch.pcap")];
                let error = CapsuleRuntime::start(&settings(memory), 64, 0, &missing).unwrap_err();
                let CapsuleError::Refused { words, log } = &error else { panic!("{error:?}") };
                assert!(!words.is_empty() && log.contains("nonesuch.pcap"), "{error}");
                let again = CapsuleRuntime::start(&settings(memory), 64, 0, &sink).unwrap_err();
                assert_eq!(again, CapsuleError::Eal(EalError::AlreadyStarted));
                return;
            }
        };
        assert!(matches!(Eal::start(&settings(memory)), Err(EalError::AlreadyStarted)));
        let again = CapsuleRuntime::start(&settings(memory), 64, 0, &sink).unwrap_err();
        assert_eq!(again, CapsuleError::Eal(EalError::AlreadyStarted));
        let handles: Vec<_> = ports.into_iter().map(|port| port.split().0).collect();
        assert_eq!((handles[0].name(), handles[0].link().up, handles[0].unusable()), ("sink", true, 0));
    });
}
