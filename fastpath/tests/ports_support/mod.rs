//! What the tests of DPDK ports share: a child process for each scenario (EAL starts once in a process), network namespaces
//! that end with their process, numbered frames, and the kernel's end of a link.

pub mod scenarios;

use std::env;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{Error, Read};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use vinet_fastpath::eal::{Eal, EalSettings, Memory};
use vinet_fastpath::port::mbuf::{Mempool, MempoolSettings};
use vinet_fastpath::port::{Burst, PacketBuf, PacketPool, RxQueue, TxQueue};

/// What the scenarios with hugepages need; a machine without so many free runs the others alone.
const HUGE_MIB_MIN: u64 = 128;

/// How long a scenario may take.
const SCENARIO_TIME_MAX: Duration = Duration::from_secs(30);

/// How long anything that was sent may take to arrive.
pub const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(5);

/// The scenarios share no files, so they can share the name of the folder that DPDK leaves in /var/run.
pub const FILE_PREFIX: &str = "vinet-test";

const CHILD: &str = "VINET_PORTS_CHILD";

/// Pollers are run one after another: there may be two processors only.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `body` in a child process for each kind of memory: with hugepages, and without. `test` is the test's own name.
pub fn in_children(test: &str, body: fn(Memory)) {
    if let Ok(role) = env::var(CHILD) {
        body(match role.as_str() {
            "huge" => Memory::Huge { mib: None },
            _ => Memory::Ordinary { mib: 128 },
        });
        return;
    }
    // SAFETY: has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    assert!(root, "the tests of DPDK ports need root (network namespaces, raw sockets): run them with sudo");
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let huge = vinet_fastpath::eal::free_hugepages_mib() >= HUGE_MIB_MIN;
    if !huge {
        eprintln!(
            "{test}: NOT TESTED with hugepages: fewer than {HUGE_MIB_MIN} MiB are free (/proc/sys/vm/nr_hugepages)"
        );
    }
    for role in ["huge", "ordinary"].into_iter().filter(|role| huge || *role != "huge") {
        let child = spawn(test, role, &[]);
        finish(child, &format!("{test} ({role})"));
    }
}

/// Starts this test binary again with one test in `role`, in the namespace of the calling thread.
pub fn spawn(test: &str, role: &str, more: &[(&str, &OsStr)]) -> Child {
    Command::new(env::current_exe().expect("the test's own file"))
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, role)
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child process")
}

/// Waits for a child and fails with its output where it failed or took too long.
pub fn finish(mut child: Child, what: &str) {
    let mut readers = Vec::new();
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    for mut pipe in [Box::new(stdout) as Box<dyn Read + Send>, Box::new(stderr)] {
        readers.push(thread::spawn(move || {
            let mut text = String::new();
            let _ = pipe.read_to_string(&mut text);
            text
        }));
    }
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break Some(status);
        }
        if began.elapsed() > SCENARIO_TIME_MAX {
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let output: String = readers.into_iter().map(|reader| reader.join().expect("a reader")).collect();
    println!("{what}: {:?}", began.elapsed());
    match status {
        Some(status) if status.success() && output.contains("1 passed") => {}
        Some(status) => panic!("{what}: {status}\n{output}"),
        None => panic!("{what}: not done after {SCENARIO_TIME_MAX:?}\n{output}"),
    }
}

/// EAL for virtual devices only.
pub fn eal(memory: Memory) -> Eal {
    let mut settings = EalSettings::new(FILE_PREFIX);
    settings.memory = memory;
    settings.pci = false;
    settings.args = vec!["--no-telemetry".to_owned()];
    Eal::start(&settings).unwrap_or_else(|error| panic!("{error}"))
}

/// A pool that every driver finds large enough.
pub fn pool(eal: &Eal) -> Mempool {
    Mempool::new(eal, MempoolSettings::for_mtu(16 * 1024, 1500)).unwrap_or_else(|error| panic!("{error}"))
}

/// Moves the calling thread, and what it starts, into a network namespace of its own, which ends with the process.
pub fn own_namespace() {
    // SAFETY: has no preconditions.
    let outcome = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(outcome, 0, "a network namespace needs root: {}", Error::last_os_error());
    ip("link set lo up");
}

/// Runs `ip` with these arguments.
pub fn ip(args: &str) {
    let output = Command::new("ip").args(args.split_whitespace()).output().expect("ip (iproute2) runs");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A pair of veth interfaces, up, that the kernel itself sends nothing on.
pub fn veth(one: &str, other: &str) {
    ip(&format!("link add {one} type veth peer name {other}"));
    for name in [one, other] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        ip(&format!("link set {name} up"));
    }
}

/// EtherType of local experiments (IEEE 802, 88B5), so that stray frames of the kernel are told apart.
const ETHER_TYPE: [u8; 2] = [0x88, 0xB5];

/// A frame of `len` bytes (60 or more) with a number and a pattern that depends on it.
pub fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[..6].copy_from_slice(&[0xFF; 6]);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    bytes[12..14].copy_from_slice(&ETHER_TYPE);
    bytes[14..18].copy_from_slice(&number.to_be_bytes());
    for (index, byte) in bytes.iter_mut().enumerate().skip(18) {
        *byte = (index as u32 ^ number) as u8;
    }
    bytes
}

/// Frames with numbers from 0, of lengths from 60 to 1514 bytes.
pub fn frames(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|number| frame(number, 60 + (number as usize * 97) % 1455)).collect()
}

pub fn is_ours(bytes: &[u8]) -> bool {
    bytes.get(12..14) == Some(&ETHER_TYPE)
}

/// Sends all frames, waiting for room.
pub fn send_all<T: TxQueue>(tx: &mut T, pool: &mut impl PacketPool<Buf = T::Buf>, frames: &[Vec<u8>]) {
    let deadline = Instant::now() + ARRIVAL_TIME_MAX;
    let mut burst = Burst::new();
    let mut left = frames.iter();
    loop {
        while burst.room() > 0
            && let Some(frame) = left.next()
        {
            let packet = pool.allocate(frame).expect("a buffer");
            assert!(burst.push(packet).is_ok(), "there is room");
        }
        if burst.is_empty() {
            return;
        }
        if tx.send(&mut burst) == 0 {
            assert!(Instant::now() < deadline, "the transmit ring stays full");
            thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Receives until `count` of our frames are there, or fails.
pub fn receive<R: RxQueue>(rx: &mut R, count: usize) -> Vec<Vec<u8>> {
    let deadline = Instant::now() + ARRIVAL_TIME_MAX;
    let mut burst = Burst::new();
    let mut arrived = Vec::new();
    while arrived.len() < count {
        if rx.receive(&mut burst) == 0 {
            assert!(Instant::now() < deadline, "{} of {count} frames arrived", arrived.len());
            thread::sleep(Duration::from_micros(100));
        }
        arrived.extend(burst.packets().iter().map(|packet| packet.bytes().to_vec()).filter(|bytes| is_ours(bytes)));
        R::Buf::drop_all(&mut burst);
    }
    arrived
}

/// The kernel's end of a link: a raw socket on an interface.
pub struct RawSocket {
    socket: OwnedFd,
}

impl RawSocket {
    /// On the interface of this name in the thread's namespace.
    pub fn open(interface: &str) -> RawSocket {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let name = CString::new(interface).expect("a name");
        // SAFETY: plain system calls; an all-zero address is valid, and its size is given.
        let (socket, outcome) = unsafe {
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol));
            assert!(socket >= 0, "a raw socket needs root: {}", Error::last_os_error());
            let mut address: libc::sockaddr_ll = mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            let size = mem::size_of_val(&address) as u32;
            let outcome = libc::bind(socket, (&raw const address).cast(), size);
            (OwnedFd::from_raw_fd(socket), outcome)
        };
        assert_eq!(outcome, 0, "binding to {interface}: {}", Error::last_os_error());
        let time = libc::timeval { tv_sec: 0, tv_usec: 20_000 };
        let room: libc::c_int = 4 << 20;
        // SAFETY: the options have the types and sizes that the kernel expects.
        unsafe {
            let fd = socket.as_raw_fd();
            let size = mem::size_of_val(&time) as u32;
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const time).cast(), size);
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const room).cast(), 4);
        }
        RawSocket { socket }
    }

    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the buffer is as long as told.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", Error::last_os_error());
    }

    /// Receives until `count` of our frames are there, or fails. Frames that this socket sent do not count.
    pub fn receive(&self, count: usize) -> Vec<Vec<u8>> {
        self.receive_if(count, is_ours)
    }

    /// The same for frames of another kind.
    pub fn receive_if(&self, count: usize, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + ARRIVAL_TIME_MAX;
        let mut arrived = Vec::new();
        let mut buffer = [0; 10_000];
        while arrived.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} frames arrived", arrived.len());
            // SAFETY: the buffer is as long as told.
            let len = unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if let Ok(len) = usize::try_from(len)
                && is_wanted(&buffer[..len])
            {
                arrived.push(buffer[..len].to_vec());
            }
        }
        arrived
    }
}

/// Writes frames as a pcap file (Ethernet, microseconds).
pub fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for word in [0xA1B2_C3D4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for (number, frame) in frames.iter().enumerate() {
        let len = frame.len() as u32;
        for word in [1, number as u32, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    fs::write(path, bytes).expect("a pcap file");
}

/// The frames of a pcap file of this machine's byte order.
pub fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("a pcap file");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    let mut frames = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let len = word(at + 8);
        frames.push(bytes[at + 16..at + 16 + len].to_vec());
        at += 16 + len;
    }
    frames
}

/// Waits until `what` holds, or fails.
pub fn wait_until(words: &str, mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + ARRIVAL_TIME_MAX;
    while !what() {
        assert!(Instant::now() < deadline, "{words}: not within {ARRIVAL_TIME_MAX:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
