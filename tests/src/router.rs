//! The real `vinetd` in the laboratory's router namespace: its configuration, its start, and what its operator may ask it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::host::Host;
use crate::lab::{Lab, NETWORKS};
use crate::process::{Daemon, Finished, binary, run};

/// How long a router may take from its start to its first accepted session.
pub const START_LIMIT: Duration = Duration::from_secs(30);

/// How long a router may take from SIGTERM to its end.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The poll-mode driver over the legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `net_af_packet`: rings shared with the kernel's packet sockets.
    AfPacket,
    /// `net_af_xdp`: XDP sockets.
    AfXdp,
}

impl Driver {
    fn device(self, index: usize, leg: &str) -> String {
        match self {
            Driver::AfPacket => format!("net_af_packet{index},iface={leg}"),
            Driver::AfXdp => format!("net_af_xdp{index},iface={leg}"),
        }
    }
}

/// What a story sets of `router.toml`; the rest is the same for all.
pub struct Config {
    /// The driver of every port.
    pub driver: Driver,
    /// `memory` of the configuration: "auto", "huge" or "no-huge".
    pub memory: &'static str,
    /// `verify` of the configuration.
    pub verify: &'static str,
    /// The MTU of each port, in the order of the networks.
    pub mtu: [u16; 3],
    /// The VLAN tags of each port, outer first, as the configuration writes them.
    pub vlan: [&'static str; 3],
    /// How many workers poll, on the last cores.
    pub workers: usize,
    /// The discipline of every port's output queue: "fifo" or "codel".
    pub queue: &'static str,
    /// `reach` of the configuration: whether owners have to show that packets to their addresses reach them. Off, because
    /// edge routers of most stories are hosts in the network that they speak for, to which nobody routes it.
    pub reach: &'static str,
    /// Where sessions are accepted beside the router's addresses, each `ADDRESS:PORT`.
    pub listen: Vec<String>,
    /// Tables appended at the end, for example routes.
    pub more: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            driver: Driver::AfPacket,
            memory: "auto",
            verify: "proof",
            mtu: [1500; 3],
            vlan: ["[]"; 3],
            workers: 1,
            queue: "fifo",
            reach: "off",
            listen: Vec::new(),
            more: String::new(),
        }
    }
}

impl Config {
    /// The text of the file.
    pub fn to_toml(&self, dir: &Path) -> String {
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy");
        let hosts: Vec<&str> = NETWORKS.iter().map(|n| address(n.router)).collect();
        let mut listen: Vec<String> = hosts.iter().map(|a| format!("\"{a}:7400\"")).collect();
        listen.extend(NETWORKS.iter().map(|n| format!("\"[{}]:7400\"", address(n.router6))));
        listen.extend(self.listen.iter().map(|address| format!("\"{address}\"")));
        let mut text = format!(
            "[router]\nname = \"lab\"\nidentity = \"router.key\"\nauthority = \"authority.pub\"\n\
             policies = [\"{0}/end-user.toml\", \"{0}/edge-router.toml\"]\nverify = \"{1}\"\nrun_dir = \"{2}\"\n\n\
             [eal]\nmemory = \"{5}\"\nmemory_mb = 256\n\n[workers]\ncores = [{4}]\nidle = \"backoff\"\n\n\
             [control]\nlisten = [{3}]\nreach = \"{6}\"\n\n",
            policies.display(),
            self.verify,
            dir.display(),
            listen.join(", "),
            (cores() - self.workers..cores()).map(|core| core.to_string()).collect::<Vec<_>>().join(", "),
            self.memory,
            self.reach,
        );
        for (i, network) in NETWORKS.iter().enumerate() {
            let name = ["lawful", "attacker", "uplink"][i];
            writeln!(
                text,
                "[[port]]\nname = \"{name}\"\ndevice = \"{}\"\naddresses = [\"{}\", \"{}\"]\nmtu = {}\nvlan = {}\n\
                 queue = \"{}\"",
                self.driver.device(i, network.leg),
                network.router,
                network.router6,
                self.mtu[i],
                self.vlan[i],
                self.queue,
            )
            .expect("a string takes text");
            // The senders' networks are the edge; the victim lies behind the uplink.
            if i < 2 {
                writeln!(text, "controlled = [\"{}\", \"{}\"]", network.prefix, network.prefix6)
                    .expect("a string takes text");
            }
            text.push('\n');
        }
        text.push_str("[capacity]\ncycles_per_second = 1_000_000_000\nmemory_bytes = 268_435_456\n\n");
        text.push_str(&self.more);
        text
    }
}

/// A running router. Dropping it ends it.
pub struct Router {
    daemon: Daemon,
    dir: PathBuf,
}

impl Router {
    /// Starts `vinetd` in the laboratory's router namespace and waits until it accepts sessions.
    #[track_caller]
    pub fn start(lab: &Lab, config: &Config) -> Router {
        let mut router = Router::spawn(lab, config);
        router.daemon.wait_for(" ready ", START_LIMIT);
        router
    }

    /// Starts `vinetd` and does not wait.
    pub fn spawn(lab: &Lab, config: &Config) -> Router {
        let dir = lab.dir().to_path_buf();
        let file = dir.join("router.toml");
        crate::keys::make(&dir);
        std::fs::write(&file, config.to_toml(&dir)).expect("the laboratory's folder can be written");
        Router { daemon: Daemon::start(vinetd(&lab.router, &file)), dir }
    }

    /// The daemon itself.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Sends SIGTERM, waits, and returns the exit status; panics when it does not end.
    #[track_caller]
    pub fn stop(&mut self, signal: Signal) -> Option<i32> {
        self.daemon.signal(signal);
        match self.daemon.wait(STOP_LIMIT) {
            Some(status) => status.code(),
            None => panic!("vinetd did not end in {STOP_LIMIT:?} after {signal}; its log:\n{}", self.daemon.log()),
        }
    }

    /// The counters now.
    #[track_caller]
    pub fn counters(&self) -> Counters {
        Counters(self.ctl("counters"))
    }

    /// Asks the operator's socket, and returns its JSON answer.
    #[track_caller]
    pub fn ctl(&self, what: &str) -> Value {
        ctl(&self.dir.join("lab.sock"), what)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if std::thread::panicking() && self.daemon.is_running() {
            let command = ask(&self.dir.join("lab.sock"), "counters");
            eprintln!("--- counters\n{}", run(command, Duration::from_secs(5)).stdout);
        }
    }
}

/// Asks the operator's socket of a router, and returns its JSON answer.
#[track_caller]
pub fn ctl(socket: &Path, what: &str) -> Value {
    let answer = run(ask(socket, what), Duration::from_secs(5)).expect();
    serde_json::from_str(&answer).unwrap_or_else(|e| panic!("vinetd ctl {what}: {e}: {answer}"))
}

fn ask(socket: &Path, what: &str) -> std::process::Command {
    let mut command = std::process::Command::new(binary("vinetd"));
    command.args(["ctl", "--socket"]).arg(socket).args(what.split_whitespace());
    command
}

/// A router's counters, as the operator reads them.
pub struct Counters(Value);

impl Counters {
    /// Those of the router with this operator's socket.
    #[track_caller]
    pub fn of(socket: &Path) -> Counters {
        Counters(ctl(socket, "counters"))
    }

    /// A counter by its place, for example `["drops", "ttl_expired"]`.
    #[track_caller]
    pub fn get(&self, place: &[&str]) -> u64 {
        let found = place.iter().try_fold(&self.0, |value, key| value.get(key));
        found.and_then(Value::as_u64).unwrap_or_else(|| panic!("no counter {place:?} in {:#}", self.0))
    }

    /// Packets dropped for that reason.
    #[track_caller]
    pub fn drops(&self, reason: &str) -> u64 {
        self.get(&["drops", reason])
    }

    /// What entered the router less what left it in every named way: zero by the law of conservation.
    #[track_caller]
    pub fn unaccounted(&self) -> i64 {
        self.0["balance"]["difference"].as_i64().unwrap_or_else(|| panic!("no balance in {:#}", self.0))
    }

    /// All of them, to look at.
    pub fn value(&self) -> &Value {
        &self.0
    }
}

/// `vinetd --config FILE` at a host.
pub fn vinetd(host: &Host, config: &Path) -> std::process::Command {
    let mut command = host.command(binary("vinetd"));
    command.arg("--config").arg(config);
    command
}

/// `vinetd --config FILE --check`.
pub fn check(config: &Path) -> Finished {
    let mut command = std::process::Command::new(binary("vinetd"));
    command.arg("--config").arg(config).arg("--check");
    run(command, Duration::from_secs(10))
}

/// How many cores this machine has; the workers take the last ones.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The address of `address/length`.
pub fn address(with_len: &str) -> &str {
    with_len.split('/').next().expect("a split has a first part")
}
