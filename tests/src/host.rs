//! A host: a network namespace of its own, in which programs run, sockets open and interfaces live.
//!
//! The namespace has no name in the file system. It exists while its holder process does, and that ends with the pipe to it, so
//! a test that is killed leaves no namespace, no veth and no TAP behind.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::process::{Daemon, Finished, run};

/// How long a program at a host may take where the story does not say.
pub const RUN_LIMIT: Duration = Duration::from_secs(30);

/// A host with loopback up and no other interface.
pub struct Host {
    name: String,
    holder: Child,
}

impl Host {
    /// Makes the namespace. The name is for messages only.
    pub fn new(name: &str) -> Host {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo up; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare(1) of util-linux");
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().expect("stdout is piped"))
            .read_line(&mut line)
            .expect("the holder speaks");
        assert_eq!(line, "up\n", "the kernel gave no network namespace to {name}");
        let host = Host { name: name.to_string(), holder };
        // Addresses are set by hand; duplicate detection would only make every test wait a second.
        for (key, value) in [
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
        ] {
            host.sysctl(key, value);
        }
        host.ok("ip link set lo up");
        host
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process that holds the namespace; `ip link … netns PID` takes it.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.pid())
    }

    /// A command that will run at this host, and that the kernel kills when the thread that starts it ends.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]).arg(format!("--net={}", self.namespace()));
        command.arg("--").arg(program.as_ref());
        command
    }

    /// The command line, split at blanks, as a command at this host.
    pub fn command_line(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().expect("a command line has a first word"));
        command.args(words);
        command
    }

    /// Runs a command line at this host, for at most [`RUN_LIMIT`].
    pub fn run(&self, line: &str) -> Finished {
        run(self.command_line(line), RUN_LIMIT)
    }

    /// Runs a command line that must succeed, and returns what it wrote.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let finished = self.run(line);
        assert!(finished.ok(), "at {}: {finished}", self.name);
        finished.stdout
    }

    /// Starts a command line in the background.
    pub fn start(&self, line: &str) -> Daemon {
        Daemon::start(self.command_line(line))
    }

    /// Calls the function on a thread that stands in this namespace. A socket opened there stays there wherever it is used.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(self.namespace()).expect("a host's namespace can be opened");
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace");
                    f()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sets a key below `/proc/sys` in this namespace; a key that this kernel does not have is passed over.
    pub fn sysctl(&self, key: &str, value: &str) {
        self.inside(|| match std::fs::write(format!("/proc/sys/{key}"), value) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            other => other.unwrap_or_else(|e| panic!("sysctl {key} = {value}: {e}")),
        });
    }

    /// A UDP socket at this host.
    pub fn udp(&self, local: SocketAddr) -> UdpSocket {
        self.inside(|| UdpSocket::bind(local)).unwrap_or_else(|e| panic!("UDP at {local} of {}: {e}", self.name))
    }

    /// A TCP listener at this host.
    pub fn listen(&self, local: SocketAddr) -> TcpListener {
        self.inside(|| TcpListener::bind(local)).unwrap_or_else(|e| panic!("TCP at {local} of {}: {e}", self.name))
    }

    /// A TCP connection from this host.
    pub fn connect(&self, to: SocketAddr, limit: Duration) -> std::io::Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&to, limit))
    }

    /// Joins an interface of this host with one of another by a veth pair, both up.
    pub fn join(&self, interface: &str, other: &Host, other_interface: &str) {
        self.ok(&format!("ip link add {interface} type veth peer name {other_interface} netns {}", other.pid()));
        for (host, interface) in [(self, interface), (other, other_interface)] {
            // Checksums and segments left to a device that is not there would reach the poller unfinished.
            host.ok(&format!("ethtool -K {interface} tx off tso off gso off gro off"));
            host.ok(&format!("ip link set {interface} up"));
        }
    }

    /// Adds an address with its prefix length to an interface.
    pub fn address(&self, interface: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ok(&format!("ip address add {address} dev {interface}{nodad}"));
    }

    /// The interface's hardware address.
    pub fn mac(&self, interface: &str) -> [u8; 6] {
        let shown = self.ok(&format!("ip -brief link show {interface}"));
        let word = shown.split_whitespace().nth(2).expect("ip -brief link: name, state, address");
        let mut mac = [0; 6];
        for (byte, text) in mac.iter_mut().zip(word.split(':')) {
            *byte = u8::from_str_radix(text, 16).expect("a hardware address is six hexadecimal numbers");
        }
        mac
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
