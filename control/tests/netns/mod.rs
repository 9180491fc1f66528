//! A network namespace for a test, gone with the test: nothing to clean up, whatever happens.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::libc;

/// Runs `story` on a thread in a network namespace of its own, with the loopback interface up. Commands that the thread
/// starts are in the namespace too. It goes when the thread has ended and what was opened in it is closed.
pub fn in_namespace(story: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests of the kernel side run as root");
        ip("link set lo up");
        story();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip ARGUMENTS` and expects success.
pub fn ip(arguments: &str) -> String {
    let output = try_ip(arguments);
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `ip ARGUMENTS`.
pub fn try_ip(arguments: &str) -> Output {
    Command::new("ip").args(arguments.split_whitespace()).output().expect("ip(8) of iproute2 is installed")
}

/// Runs the lines as one `ip -batch`, going on after errors.
pub fn ip_batch(lines: &str) {
    use std::io::Write;
    let mut child = Command::new("ip")
        .args(["-force", "-batch", "-"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait().unwrap();
}

/// Asks `check` again and again until it gives something; panics after 5 s.
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "did not happen within 5 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An AF_PACKET socket on one interface, for all protocols: what a net_af_packet port has.
pub struct Tap {
    socket: OwnedFd,
}

impl Tap {
    pub fn on(interface: &str) -> Tap {
        let index = nix::net::if_::if_nametoindex(interface).unwrap();
        // SAFETY: `socket` takes plain values; `bind` reads one `sockaddr_ll`, which is given with its length.
        unsafe {
            let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let protocol = (libc::ETH_P_ALL as u16).to_be();
            let socket = libc::socket(libc::AF_PACKET, flags, i32::from(protocol));
            assert!(socket >= 0, "AF_PACKET: {}", io::Error::last_os_error());
            let socket = OwnedFd::from_raw_fd(socket);
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = index.cast_signed();
            let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len), 0);
            Tap { socket }
        }
    }

    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the kernel reads `frame.len()` bytes of `frame`.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len().cast_signed(), "{}", io::Error::last_os_error());
    }

    /// The frames that came in since the last call, without those that this host sent.
    pub fn received(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut frame = [0u8; 2048];
        loop {
            // SAFETY: the kernel writes at most `frame.len()` bytes into `frame` and one `sockaddr_ll` into `from`.
            let (len, from) = unsafe {
                let mut from: libc::sockaddr_ll = std::mem::zeroed();
                let mut from_len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                let len = libc::recvfrom(
                    self.socket.as_raw_fd(),
                    frame.as_mut_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut from_len,
                );
                (len, from)
            };
            let Ok(len) = usize::try_from(len) else { return frames };
            if from.sll_pkttype != libc::PACKET_OUTGOING {
                frames.push(frame[..len].to_vec());
            }
        }
    }
}

pub const BROADCAST: [u8; 6] = [0xff; 6];

pub fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ethertype.to_be_bytes(), payload].concat()
}

/// RFC 826: request (1) or reply (2).
pub fn arp(operation: u16, mac: [u8; 6], from: [u8; 4], to_mac: [u8; 6], to: [u8; 4]) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4][..], &operation.to_be_bytes(), &mac, &from, &to_mac, &to].concat()
}

/// The operation, sender address and target address of an ARP frame.
pub fn parse_arp(frame: &[u8]) -> Option<(u16, [u8; 4], [u8; 4])> {
    (frame.len() >= 42 && frame[12..14] == [8, 6]).then(|| {
        (
            u16::from_be_bytes([frame[20], frame[21]]),
            frame[28..32].try_into().unwrap(),
            frame[38..42].try_into().unwrap(),
        )
    })
}

/// RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet with an ICMP echo request.
pub fn ping4(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0x56, 0x49, 0, 1, b'v', b'i', b'n', b'e', b't', b'!'];
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let len = 20 + icmp.len() as u16;
    let mut header = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, 1, 0, 0];
    header[2..4].copy_from_slice(&len.to_be_bytes());
    header.extend(from);
    header.extend(to);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, icmp].concat()
}

/// An IPv6 packet with an ICMPv6 message, whose checksum is filled in.
pub fn icmp6(from: [u8; 16], to: [u8; 16], mut message: Vec<u8>) -> Vec<u8> {
    let len = message.len() as u16;
    let pseudo = [&from[..], &to, &u32::from(len).to_be_bytes(), &[0, 0, 0, 58], &message].concat();
    let sum = checksum(&pseudo);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[58, 255], &from, &to, &message].concat()
}

pub fn v6(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().unwrap().octets()
}
