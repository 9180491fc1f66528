//! The router's configuration file, `router.toml`.
//!
//! Holding a [`Config`] proves that the file parsed, that it has no unknown key, and that its values agree with one
//! another: names are unique, ports exist for routes, next hops are in a port's prefix, cores do not overlap, limits
//! are in range. What depends on the machine (does the core exist, is there a hugepage, is the file readable) is
//! [`Config::check_machine`]. Relative file names are relative to the folder of the configuration file.

mod money;
mod raw;
mod schedule;
mod sources;
mod values;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use vinet_session::identity::RouterId;
use vinet_trusted::addr::{Addr, Prefix};

use crate::admin::Access;
use crate::reload::Keys;
pub use money::{PaymentRules, StoreRules};
pub use schedule::Schedule;
pub use sources::SourceRules;
pub use values::{AddrLen, Cidr, Idle, LogFormat, MemoryKind, QueueKind, Reach, Verify};

/// Most ports of one router.
pub const PORTS_MAX: usize = 32;
/// Most workers of one router.
pub const WORKERS_MAX: usize = 64;

/// A whole configuration, consistent in itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Its keys as they are written there.
    pub keys: Keys,
    /// `[router]`
    pub router: Router,
    /// `[eal]`
    pub eal: Eal,
    /// `[workers]`
    pub workers: Workers,
    /// `[control]`
    pub control: Control,
    /// `[[port]]`, in the order of the file; a port's index is its place here.
    pub ports: Vec<Port>,
    /// `[[route]]`
    pub routes: Vec<Route>,
    /// `[capacity]`
    pub capacity: Capacity,
    /// `[mempool]`
    pub mempool: Mempool,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[[expand]]`
    pub expand: Vec<Expand>,
    /// `[store]`
    pub store: StoreRules,
    /// `[payment]`
    pub payment: PaymentRules,
    /// `[schedule]`
    pub schedule: Schedule,
    /// `[sources]`
    pub sources: SourceRules,
}

/// Who the router is and by which rules it judges.
#[derive(Clone, Debug)]
pub struct Router {
    /// Its name: also the DPDK file prefix, the lock and the default admin socket.
    pub name: String,
    /// The file with its secret key.
    pub identity: PathBuf,
    /// The file with the public key of the testbed's authority.
    pub authority: PathBuf,
    /// The policy files, one or more.
    pub policies: Vec<PathBuf>,
    /// The file with the authority's signed list of revoked keys; absent, nothing is revoked at the start.
    pub revocations: Option<PathBuf>,
    /// The file with the authority's signed directory of routers, which clients may fetch here.
    pub directory: Option<PathBuf>,
    /// How uploads are verified.
    pub verify: Verify,
    /// The folder of the lock file and of the default admin socket.
    pub run_dir: PathBuf,
}

/// What DPDK's environment layer is started with.
#[derive(Clone, Debug)]
pub struct Eal {
    /// Hugepages, ordinary pages, or whichever is there.
    pub memory: MemoryKind,
    /// Memory for DPDK in MiB.
    pub memory_mb: u32,
    /// Further EAL arguments, passed through as they are.
    pub args: Vec<String>,
}

/// The polling workers.
#[derive(Clone, Debug)]
pub struct Workers {
    /// One worker on each of these cores.
    pub cores: Vec<usize>,
    /// What a worker does when there is nothing to do.
    pub idle: Idle,
    /// Packets taken from a queue at once.
    pub burst: usize,
    /// Packets that may wait in the windows of one worker, all programs together.
    pub window_packets: usize,
}

/// The control core.
#[derive(Clone, Debug)]
pub struct Control {
    /// The core of the control thread; absent leaves it to the kernel.
    pub core: Option<usize>,
    /// Where sessions are accepted.
    pub listen: Vec<SocketAddr>,
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// Who may open it.
    pub admin_access: Access,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// Whether owners have to show that packets to their addresses reach them.
    pub reach: Reach,
    /// For how long that is good, in seconds.
    pub reach_time_s: u32,
    /// The bounds on what strangers can hold.
    pub limits: Limits,
}

/// Bounds on what strangers can hold. Every state that a stranger can make has one of these, or a time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once, all peers together.
    pub sessions: usize,
    /// Sessions of those that have not finished the handshake; the oldest gives way to a newcomer.
    pub half_open: usize,
    /// Sessions at once from one address.
    pub sessions_per_peer: usize,
    /// Seconds until an unfinished handshake is closed.
    pub handshake_timeout_s: u32,
    /// Seconds without a whole request until a session is closed.
    pub idle_timeout_s: u32,
    /// Proof checks that wait at once; one more is answered `busy`.
    pub checks_queued: usize,
    /// Installed programs, all owners together.
    pub programs: usize,
    /// Installed programs of one owner.
    pub programs_per_owner: usize,
    /// Lemmas of owners, all together; beyond it the owner's that were unused for longest are forgotten.
    pub lemmas: usize,
    /// Lemmas of one owner.
    pub lemmas_per_owner: usize,
}

/// One port: a device, its twin in the kernel, and what is behind it.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name in logs and counters.
    pub name: String,
    /// A PCI address, or the name and arguments of a virtual device.
    pub device: String,
    /// The name of its twin, the kernel's interface for the slow path.
    pub tap: String,
    /// The router's addresses on it.
    pub addresses: Vec<AddrLen>,
    /// The largest IP packet in bytes.
    pub mtu: u16,
    /// Receive descriptors.
    pub rx_ring: u16,
    /// Transmit descriptors.
    pub tx_ring: u16,
    /// Packets that may wait for the transmit ring, beyond it.
    pub queue_depth: u16,
    /// How it is decided which of them are dropped.
    pub queue: QueueKind,
    /// With [`QueueKind::Codel`]: how long packets may wait on and on, in microseconds.
    pub codel_target_us: u32,
    /// With [`QueueKind::Codel`]: for how long all of them have to wait longer before some are dropped, in milliseconds.
    pub codel_interval_ms: u32,
    /// The sources behind the port that this router controls; `None` for an uplink.
    pub controlled: Option<Vec<Prefix>>,
    /// VLAN tags that its packets carry, outer first; empty for untagged.
    pub vlan: Vec<u16>,
}

/// A static route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destinations.
    pub to: Prefix,
    /// The next hop; absent where the destinations are on the link.
    pub via: Option<IpAddr>,
    /// The index of the port.
    pub port: usize,
}

/// A program of this edge router, as an owner, on another router: what it sends here is expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expand {
    /// The file with the identity that uploads the program: of an edge router, with an address of this router.
    pub identity: PathBuf,
    /// The router that it runs on.
    pub router: RouterId,
    /// The program's name.
    pub program: [u8; 32],
    /// The UDP port that it sends to, `generate_port` of the policy there.
    pub port: u16,
}

/// What may be promised to programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Processor cycles a second for programs, all workers together.
    pub cycles_per_second: u64,
    /// Bytes for programs' state, all workers together.
    pub memory_bytes: u64,
}

/// The packet buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mempool {
    /// How many buffers.
    pub buffers: u32,
    /// Buffers that each worker keeps at hand.
    pub cache: u32,
}

/// What Prometheus is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Where it can fetch `/metrics`; absent leaves it off.
    pub listen: Option<SocketAddr>,
}

/// Why a configuration was not accepted. The operator is at fault.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// A key that no section knows.
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The known key that is spelt most like it.
        nearest: Option<String>,
        /// All keys known there.
        known: Vec<String>,
    },
    /// Not TOML, a missing key, or a value of the wrong form.
    Malformed {
        /// The file.
        file: PathBuf,
        /// The line, from 1, where it is known.
        line: Option<usize>,
        /// What was found and what was expected.
        what: String,
    },
    /// A value that is of the right form and cannot be meant.
    Invalid {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, with its section.
        key: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// A value that this machine cannot serve.
    Machine {
        /// The file.
        file: PathBuf,
        /// The key, with its section.
        key: &'static str,
        /// What is missing and what to do.
        what: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { file, reason } => {
                write!(
                    f,
                    "{}: cannot read the configuration: {reason}; give the right file with --config",
                    file.display()
                )
            }
            ConfigError::UnknownKey { file, line, key, nearest, known } => {
                write!(f, "{}:{line}: unknown key `{key}`", file.display())?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
                    None => write!(f, "; known here: {}", known.join(", ")),
                }
            }
            ConfigError::Malformed { file, line: Some(line), what } => write!(f, "{}:{line}: {what}", file.display()),
            ConfigError::Malformed { file, line: None, what } => write!(f, "{}: {what}", file.display()),
            ConfigError::Invalid { file, line, key, what } => write!(f, "{}:{line}: {key}: {what}", file.display()),
            ConfigError::Machine { file, key, what } => write!(f, "{}: {key}: {what}", file.display()),
        }
    }
}
impl std::error::Error for ConfigError {}

impl Config {
    /// Reads and parses `file`.
    ///
    /// # Errors
    /// The file cannot be read, or what [`Config::parse`] says.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|reason| ConfigError::Unreadable { file: file.to_owned(), reason })?;
        Config::parse(file, &text)
    }

    /// Parses `text` as the content of `file`; touches nothing.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
        raw::parse(file, text)
    }

    /// The prefixes that this router controls, all ports together.
    #[must_use]
    pub fn controlled(&self) -> Vec<Prefix> {
        self.ports.iter().flat_map(|port| port.controlled.iter().flatten().copied()).collect()
    }

    /// The router's own addresses, which belong to no owner.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<Addr> {
        self.ports.iter().flat_map(|port| port.addresses.iter().map(|a| Addr::from(a.addr))).collect()
    }

    /// Checks what depends on this machine, without changing it: cores that exist, files that can be read.
    ///
    /// # Errors
    /// The first thing that this machine cannot serve.
    pub fn check_machine(&self) -> Result<(), ConfigError> {
        let online = cores_online();
        let cores = self.workers.cores.iter().map(|&core| ("[workers] cores", core));
        for (key, core) in cores.chain(self.control.core.map(|core| ("[control] core", core))) {
            if !online.is_empty() && !online.contains(&core) {
                return Err(self.machine(
                    key,
                    format!("core {core} does not exist or is off line; this machine has {}", list(&online)),
                ));
            }
        }
        if let Some(group) = &self.control.admin_access.group
            && !nix::unistd::Group::from_name(group).is_ok_and(|found| found.is_some())
        {
            let what = format!("there is no group `{group}`; make it with `groupadd --system {group}`");
            return Err(self.machine("[control] admin_group", what));
        }
        for (key, path) in
            [("[router] identity", &self.router.identity), ("[router] authority", &self.router.authority)]
                .into_iter()
                .chain(self.router.policies.iter().map(|p| ("[router] policies", p)))
        {
            if let Err(reason) = std::fs::File::open(path) {
                let help = match key {
                    "[router] identity" => "; make one with `vinet ca router`",
                    "[router] authority" => "; make one with `vinet ca init`",
                    _ => "",
                };
                return Err(self.machine(key, format!("{}: {reason}{help}", path.display())));
            }
        }
        Ok(())
    }

    fn machine(&self, key: &'static str, what: String) -> ConfigError {
        ConfigError::Machine { file: self.file.clone(), key, what }
    }
}

/// The cores that are on line, from the kernel's list; empty where it cannot be read.
#[must_use]
pub fn cores_online() -> Vec<usize> {
    std::fs::read_to_string("/sys/devices/system/cpu/online").map(|text| core_list(text.trim())).unwrap_or_default()
}

/// Parses the kernel's form of a list, `0-3,7`.
pub(crate) fn core_list(text: &str) -> Vec<usize> {
    text.split(',')
        .filter_map(|part| match part.split_once('-') {
            Some((low, high)) => Some(low.parse().ok()?..=high.parse().ok()?),
            None => part.parse().ok().map(|core: usize| core..=core),
        })
        .flatten()
        .collect()
}

fn list(cores: &[usize]) -> String {
    match (cores.first(), cores.last()) {
        (Some(low), Some(high)) if cores.len() > 1 && high - low + 1 == cores.len() => format!("cores {low} to {high}"),
        _ => format!("cores {}", cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests;
