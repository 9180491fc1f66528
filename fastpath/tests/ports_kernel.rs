//! DPDK ports over interfaces of the kernel: net_af_packet, net_af_xdp and net_tap, and net_vhost with net_virtio_user, with
//! and without hugepages. Needs root: every scenario runs in a child process in a network namespace of its own.

// Each test file uses its part of what they share.
#[allow(dead_code)]
mod ports_support;

use std::time::Duration;
use std::{env, fs, thread};

use ports_support::{
    RawSocket, eal, finish, frames, in_children, ip, own_namespace, pool, receive, send_all, spawn, veth, wait_until,
};
use vinet_fastpath::eal::Memory;
use vinet_fastpath::port::dpdk::{DpdkConfig, DpdkPort};
use vinet_fastpath::port::{Port, PortHandle};

fn interface(name: &str, file: &str) -> String {
    // The file system shows the namespace of the thread that mounted it, so ask ip(8), which runs in ours.
    let output = std::process::Command::new("ip").args(["-o", "link", "show", "dev", name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != file);
    words.nth(1).unwrap_or_else(|| panic!("{file} of {name} in {text}")).to_owned()
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Frames both ways between a DPDK port and the kernel's end of its link; then what both sides say about the link.
fn crosses_both_ways(memory: Memory, driver: &str) {
    own_namespace();
    veth("near", "far");
    let eal = eal(memory);
    let pool = pool(&eal);
    let mut buffers = pool.handle();
    let mut config = DpdkConfig::new("uplink", &format!("{driver}0,iface=near"));
    config.mtu = 1400;
    config.rx_ring_len = 512;
    let port = DpdkPort::open(&eal, &pool, &config).unwrap_or_else(|error| panic!("{error}"));
    let granted = port.granted().clone();
    assert_eq!(granted.driver, driver);
    assert_eq!(granted.rx_ring_len, 512);
    assert!(granted.mtu_set_on_device);
    assert_eq!(interface("near", "mtu"), "1400");
    assert_eq!(mac_text(granted.mac), interface("near", "link/ether"));
    let (handle, mut rx, mut tx) = port.split();
    assert!(handle.kernel_interface().is_some());
    assert_eq!(handle.mtu(), 1400);

    let far = RawSocket::open("far");
    let mut sent = frames(1_000);
    sent.iter_mut().for_each(|frame| frame.truncate(1414));
    for group in sent.chunks(200) {
        group.iter().for_each(|frame| far.send(frame));
        assert!(receive(&mut rx[0], group.len()) == group, "what arrived differs");
    }
    let far = RawSocket::open("far");
    for group in sent.chunks(200) {
        send_all(&mut tx[0], &mut buffers, group);
        assert!(far.receive(group.len()) == group, "what arrived differs");
    }
    let stats = handle.stats();
    assert!(stats.rx_packets >= 1_000 && stats.tx_packets >= 1_000, "{stats:?}");
    let bytes: u64 = sent.iter().map(|frame| frame.len() as u64).sum();
    assert!(stats.rx_bytes >= bytes && stats.tx_bytes >= bytes, "{stats:?}, {bytes} bytes");
    assert!(handle.extended_stats().iter().any(|(name, count)| name == "rx_good_packets" && *count >= 1_000));
    assert_eq!(handle.unusable(), 0);

    assert!(handle.link().up);
    ip("link set far down");
    wait_until("the link goes down", || !handle.link().up);
    ip("link set far up");
    wait_until("the link comes up", || handle.link().up);

    if driver == "net_af_xdp" {
        // This driver keeps the interface until the process ends.
        return;
    }
    // Closed and opened again, the device works as before.
    drop((handle, rx, tx));
    config.mtu = 1500;
    let (_, mut rx, mut tx) = DpdkPort::open(&eal, &pool, &config).unwrap_or_else(|error| panic!("{error}")).split();
    assert_eq!(interface("near", "mtu"), "1500");
    let far = RawSocket::open("far");
    far.send(&sent[7]);
    assert_eq!(receive(&mut rx[0], 1), sent[7..8]);
    let far = RawSocket::open("far");
    send_all(&mut tx[0], &mut buffers, &sent[8..9]);
    assert_eq!(far.receive(1), sent[8..9]);
}

#[test]
fn af_packet_crosses_both_ways() {
    in_children("af_packet_crosses_both_ways", |memory| crosses_both_ways(memory, "net_af_packet"));
}

#[test]
fn af_xdp_crosses_both_ways() {
    in_children("af_xdp_crosses_both_ways", |memory| crosses_both_ways(memory, "net_af_xdp"));
}

/// Set for the process that holds an interface in the next test: where it says that it does.
const HOLDER_READY: &str = "VINET_PORTS_HOLDER_READY";

#[test]
fn af_xdp_waits_for_an_interface_whose_last_user_just_ends() {
    const TEST: &str = "af_xdp_waits_for_an_interface_whose_last_user_just_ends";
    in_children(TEST, |memory| {
        let config = DpdkConfig::new("uplink", "net_af_xdp0,iface=near");
        if let Some(ready) = env::var_os(HOLDER_READY) {
            let eal = eal(memory);
            let _port = DpdkPort::open(&eal, &pool(&eal), &config).unwrap_or_else(|error| panic!("{error}"));
            fs::write(ready, "").unwrap();
            thread::sleep(Duration::from_millis(150));
            return;
        }
        own_namespace();
        veth("near", "far");
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let eal = eal(memory);
        let pool = pool(&eal);
        let role = if eal.has_hugepages() { "huge" } else { "ordinary" };
        let holder = spawn(TEST, role, &[(HOLDER_READY, ready.as_os_str())]);
        wait_until("the holder has the interface", || ready.exists());
        let opened = DpdkPort::open(&eal, &pool, &config);
        finish(holder, "the holder");
        let (_, mut rx, mut tx) = opened.unwrap_or_else(|error| panic!("{error}")).split();
        let far = RawSocket::open("far");
        let sent = frames(10);
        sent.iter().for_each(|frame| far.send(frame));
        assert_eq!(receive(&mut rx[0], 10), sent);
        let far = RawSocket::open("far");
        send_all(&mut tx[0], &mut pool.handle(), &sent);
        assert_eq!(far.receive(10), sent);
    });
}

#[test]
fn tap_crosses_both_ways() {
    in_children("tap_crosses_both_ways", |memory| {
        own_namespace();
        let eal = eal(memory);
        let pool = pool(&eal);
        let mut buffers = pool.handle();
        let config = DpdkConfig::new("twin", "net_tap0,iface=vptap0");
        let port = DpdkPort::open(&eal, &pool, &config).unwrap_or_else(|error| panic!("{error}"));
        let (handle, mut rx, mut tx) = port.split();
        assert_eq!(handle.granted().driver, "net_tap");
        assert_eq!(interface("vptap0", "mtu"), "1500");
        assert_eq!(mac_text(handle.mac()), interface("vptap0", "link/ether"));
        let _ = fs::write("/proc/sys/net/ipv6/conf/vptap0/disable_ipv6", "1");
        ip("link set vptap0 up");
        wait_until("the link comes up", || handle.link().up);

        let kernel = RawSocket::open("vptap0");
        let sent = frames(500);
        for group in sent.chunks(100) {
            send_all(&mut tx[0], &mut buffers, group);
            assert!(kernel.receive(group.len()) == group, "what arrived differs");
        }
        for group in sent.chunks(100) {
            group.iter().for_each(|frame| kernel.send(frame));
            assert!(receive(&mut rx[0], group.len()) == group, "what arrived differs");
        }
        let stats = handle.stats();
        assert!(stats.rx_packets >= 500 && stats.tx_packets >= 500, "{stats:?}");
        assert_eq!(handle.unusable(), 0);
    });
}

#[test]
fn vhost_and_virtio_user_cross_both_ways() {
    in_children("vhost_and_virtio_user_cross_both_ways", |memory| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("vhost.sock");
        let eal = eal(memory);
        let pool = pool(&eal);
        let mut buffers = pool.handle();
        let host = DpdkConfig::new("host", &format!("net_vhost0,iface={}", socket.display()));
        let host = DpdkPort::open(&eal, &pool, &host).unwrap_or_else(|error| panic!("{error}"));
        let guest =
            DpdkConfig::new("guest", &format!("net_virtio_user0,path={},mac=02:00:00:00:00:07", socket.display()));
        let guest = DpdkPort::open(&eal, &pool, &guest).unwrap_or_else(|error| panic!("{error}"));
        let (host, mut host_rx, mut host_tx) = host.split();
        let (guest, mut guest_rx, mut guest_tx) = guest.split();
        assert_eq!(guest.mac(), [2, 0, 0, 0, 0, 7]);
        wait_until("both links come up", || host.link().up && guest.link().up);
        let sent = frames(1_000);
        for group in sent.chunks(100) {
            send_all(&mut guest_tx[0], &mut buffers, group);
            assert!(receive(&mut host_rx[0], group.len()) == group, "what arrived differs");
            send_all(&mut host_tx[0], &mut buffers, group);
            assert!(receive(&mut guest_rx[0], group.len()) == group, "what arrived differs");
        }
        assert_eq!((host.stats().rx_packets, host.stats().tx_packets), (1_000, 1_000));
        assert_eq!((guest.stats().rx_packets, guest.stats().tx_packets), (1_000, 1_000));
        assert_eq!((host.unusable(), guest.unusable()), (0, 0));
        drop((guest, guest_rx, guest_tx));
        wait_until("the host's link goes down with its guest", || !host.link().up);
    });
}
