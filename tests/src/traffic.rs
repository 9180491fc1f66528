//! Traffic of the stories: everybody's programs where they do, sockets of our own where a story counts datagrams one by one.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, send, socket};

use crate::host::Host;
use crate::process::{Daemon, Finished, POLL_INTERVAL, eventually};

/// Sends echo requests 10 ms apart and returns how many were answered.
pub fn ping(from: &Host, to: IpAddr, count: u32, more: &str) -> u32 {
    let finished = from.run(&format!("ping -n -q -i 0.01 -W 1 -c {count} {more} {to}"));
    let received = finished.stdout.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|w| w.starts_with("received"))?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    });
    received.unwrap_or_else(|| panic!("ping has no summary: {finished}"))
}

/// True as soon as one echo request is answered; the first of all may wait for neighbours to be learnt.
pub fn reaches(from: &Host, to: IpAddr, limit: Duration) -> bool {
    eventually(limit, || ping(from, to, 1, "") == 1)
}

/// A small web server at a host: every request is answered with the same body, each on a thread of its own, so that a connection
/// which a program has silenced holds up no other.
pub struct WebServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WebServer {
    /// Listens at the address of the host.
    pub fn start(host: &Host, local: SocketAddr, body: Vec<u8>) -> WebServer {
        let listener = host.listen(local);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || serve(&listener, &Arc::new(body), &stop)
        });
        WebServer { stop, thread: Some(thread) }
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, body: &Arc<Vec<u8>>, stop: &AtomicBool) {
    listener.set_nonblocking(true).expect("a listener can be made non-blocking");
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let body = Arc::clone(body);
                std::thread::spawn(move || answer(stream, &body));
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(POLL_INTERVAL),
            Err(_) => {}
        }
    }
}

fn answer(mut stream: TcpStream, body: &[u8]) {
    let limit = Some(Duration::from_secs(5));
    let _ = stream.set_nonblocking(false).and(stream.set_read_timeout(limit)).and(stream.set_write_timeout(limit));
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < 65_536 {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(n) => request.extend_from_slice(&chunk[..n]),
        }
    }
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// Counts the datagrams that arrive at a UDP port, by source address.
pub struct Sink {
    counted: Arc<Vec<(IpAddr, AtomicU64)>>,
    others: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listens at the address of the host, and counts each of these sources by itself and all others together.
    pub fn start(host: &Host, local: SocketAddr, sources: &[IpAddr]) -> Sink {
        let socket = host.udp(local);
        socket.set_read_timeout(Some(POLL_INTERVAL)).expect("a socket takes a time limit");
        let counted: Arc<Vec<_>> = Arc::new(sources.iter().map(|s| (*s, AtomicU64::new(0))).collect());
        let others = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (counted, others, stop) = (Arc::clone(&counted), Arc::clone(&others), Arc::clone(&stop));
            move || {
                let mut buffer = [0; 65_536];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                        let cell = counted.iter().find(|(s, _)| *s == from.ip()).map_or(&*others, |(_, n)| n);
                        cell.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Sink { counted, others, stop, thread: Some(thread) }
    }

    /// How many came from that source, or from all unlisted ones if it is not listed.
    pub fn count(&self, source: IpAddr) -> u64 {
        let cell = self.counted.iter().find(|(s, _)| *s == source).map_or(&*self.others, |(_, n)| n);
        cell.load(Ordering::Relaxed)
    }

    /// Waits until no datagram has come for 300 ms: what is still on its way has arrived by then.
    pub fn settle(&self) {
        let total = || {
            self.counted.iter().map(|(_, n)| n.load(Ordering::Relaxed)).sum::<u64>()
                + self.others.load(Ordering::Relaxed)
        };
        loop {
            let before = total();
            std::thread::sleep(Duration::from_millis(300));
            if total() == before {
                return;
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends that many datagrams of 100 bytes, in groups of eight a millisecond apart, slowly enough that no queue on the way fills.
pub fn send_datagrams(socket: &UdpSocket, to: SocketAddr, count: u64) {
    for i in 0..count {
        socket.send_to(&[0x5a; 100], to).unwrap_or_else(|e| panic!("a datagram to {to}: {e}"));
        if i % 8 == 7 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// `iperf3 -s` at a host, for as long as it is held.
pub fn iperf3_server(host: &Host) -> Daemon {
    let mut server = host.start("iperf3 --server --forceflush");
    server.wait_for("Server listening", Duration::from_secs(5));
    server
}

/// Runs `iperf3 -c` and returns the bits per second that the receiver saw.
pub fn iperf3(from: &Host, to: IpAddr, more: &str) -> f64 {
    let finished: Finished = from.run(&format!("iperf3 --json --client {to} --time 2 {more}"));
    let report: serde_json::Value =
        serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("iperf3: {e}: {finished}"));
    let end = &report["end"];
    let rate = end["sum_received"]["bits_per_second"].as_f64().or(end["sum"]["bits_per_second"].as_f64());
    rate.unwrap_or_else(|| panic!("iperf3 reports no rate: {finished}"))
}

/// Sends whole Ethernet frames out of an interface: what no honest stack would send.
pub struct FrameSender {
    socket: OwnedFd,
}

impl FrameSender {
    /// Opens a packet socket on the interface of the host.
    pub fn open(host: &Host, interface: &str) -> FrameSender {
        let socket = host.inside(|| {
            let socket =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).expect("a packet socket");
            let link = getifaddrs()
                .expect("the interfaces can be listed")
                .filter(|i| i.interface_name == interface)
                .find_map(|i| i.address?.as_link_addr().copied())
                .unwrap_or_else(|| panic!("there is no interface {interface}"));
            debug_assert_eq!(link.family(), Some(AddressFamily::Packet));
            nix::sys::socket::bind(socket.as_raw_fd(), &link).expect("a packet socket can be bound to an interface");
            socket
        });
        FrameSender { socket }
    }

    /// Sends one frame, from the destination's hardware address on.
    pub fn send(&self, frame: &[u8]) {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).expect("a frame can be sent");
        assert_eq!(sent, frame.len());
    }
}
