//! A real `vinetd` under measurement: its files, its start, what its threads take, its end.

use crate::run::{PerfError, last_lines};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use vinet_control::admin::{self, Command as Ask};
use vinet_session::identity::{Authority, AuthorityKey, Identity, Subject, Validity};
use vinet_session::message::{Request, fresh_nonce};
use vinet_session::payment::{BankKey, Credit, CreditTerms, Tariff};
use vinet_trusted::addr::{Addr, Principal};

/// Where it listens, in a network namespace of its own.
pub const ADDRESS: &str = "127.0.0.1:7400";
/// How long it may take to start beside checking what it has stored, and to end.
const TIME_MAX: Duration = Duration::from_secs(30);
/// How long certificates are valid.
const VALID_S: u64 = 24 * 3600;

/// What each account is given.
const CREDITS: u64 = 1 << 50;
/// What the router asks for, where it asks for anything.
pub const TARIFF: Tariff = Tariff { install: 10, per_teracycle: 1, per_gibibyte_day: 1, check: 1 };

/// The part of a configuration that has programs paid for, and kept in a file.
pub fn paid_and_kept() -> String {
    let Tariff { install, per_teracycle, per_gibibyte_day, check } = TARIFF;
    format!(
        "[payment]\nbank = \"bank.pub\"\ninstall = {install}\nper_teracycle = {per_teracycle}\n\
         per_gibibyte_day = {per_gibibyte_day}\ncheck = {check}\n[store]\npath = \"router.redb\"\n"
    )
}

/// How a daemon is started.
#[derive(Clone)]
pub struct Setup {
    /// The program.
    pub vinetd: PathBuf,
    /// The folder of policies and programs.
    pub configs: PathBuf,
    /// The worker's core, and the control thread's.
    pub cores: [usize; 2],
    /// `spin` or `backoff`.
    pub idle: &'static str,
    /// The device of the edge port.
    pub edge: String,
    /// The sources that it controls, as its file lists them.
    pub controlled: &'static str,
    /// More of the configuration.
    pub more: String,
}

/// The testbed that a daemon belongs to: it outlives the daemon, for a restart.
pub struct Bed {
    /// The folder with its files.
    pub dir: TempDir,
    /// Issues certificates.
    pub key: AuthorityKey,
    /// Says who is who.
    pub authority: Arc<Authority>,
    /// The router's key.
    pub router: Identity,
    /// Issues credits.
    bank: BankKey,
}

pub fn wall_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn failed(words: impl std::fmt::Display) -> PerfError {
    PerfError::Failed { what: "vinetd".to_owned(), words: words.to_string() }
}

impl Bed {
    /// A new authority with a router.
    pub fn new() -> Result<Bed, PerfError> {
        let dir = tempfile::tempdir().map_err(failed)?;
        let key = AuthorityKey::generate("bench").map_err(failed)?;
        let subject = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
        let router = key.issue_identity(subject, Validity::starting(wall_s() - 60, VALID_S)).map_err(failed)?;
        router.save(&dir.path().join("router.key")).map_err(failed)?;
        key.authority().save(&dir.path().join("authority.pub")).map_err(failed)?;
        let bank = BankKey::generate("bench").map_err(failed)?;
        bank.bank().save(&dir.path().join("bank.pub")).map_err(failed)?;
        let authority = Arc::new(key.authority());
        Ok(Bed { dir, key, authority, router, bank })
    }

    /// Credits for an account at the router: enough for everything that is measured.
    pub fn credits(&self, account: &Identity) -> Result<Request, PerfError> {
        let serial = fresh_nonce().map_err(failed)?;
        let (router, account) = (self.router.public(), account.public());
        let terms = CreditTerms { serial, amount: CREDITS, router, account, expiry_s: wall_s() + VALID_S };
        Ok(Request::Deposit(Box::new(Credit::sign(terms, &self.bank))))
    }

    /// An end user of this address.
    pub fn user(&self, addr: u32) -> Result<Arc<Identity>, PerfError> {
        self.owner(Principal::EndUser(Addr::V4(addr))).map(Arc::new)
    }

    /// An owner.
    pub fn owner(&self, owner: Principal) -> Result<Identity, PerfError> {
        let validity = Validity::starting(wall_s() - 60, VALID_S);
        self.key.issue_identity(Subject::Owner(owner), validity).map_err(failed)
    }

    /// The configuration of such a router.
    pub fn config(&self, setup: &Setup) -> String {
        let policies = setup.configs.join("policy");
        let [worker, control] = setup.cores;
        format!(
            r#"
[router]
name = "edge1"
identity = "router.key"
authority = "authority.pub"
policies = ["{policies}/end-user.toml", "{policies}/edge-router.toml"]
run_dir = "{dir}/run"
[eal]
memory = "auto"
memory_mb = 128
[workers]
cores = [{worker}]
idle = "{idle}"
[control]
core = {control}
listen = ["{ADDRESS}"]
reach = "off"
[control.limits]
sessions = 16384
half_open = 256
sessions_per_peer = 4096
checks_queued = 1024
programs_per_owner = 4096
[schedule]
per_owner = 1024
[[port]]
name = "edge"
device = "{edge}"
tap = "vi-edge"
addresses = ["192.168.0.1/24"]
controlled = [{controlled}]
[[port]]
name = "uplink"
device = "net_null1,no-rx=1"
tap = "vi-uplink"
addresses = ["192.168.1.1/24"]
[[route]]
to = "198.18.0.0/24"
via = "192.168.0.2"
[[route]]
to = "198.18.1.0/24"
via = "192.168.1.2"
[capacity]
cycles_per_second = 1_000_000_000_000_000
memory_bytes = 1_000_000_000_000
{more}
"#,
            policies = std::path::absolute(&policies).unwrap_or(policies).display(),
            dir = self.dir.path().display(),
            idle = setup.idle,
            edge = setup.edge,
            controlled = setup.controlled,
            more = setup.more,
        )
    }

    /// Starts a daemon and waits until it accepts sessions, `extra` longer than usual at most. Its standard error goes to
    /// a file of the bed.
    pub fn start(&self, setup: &Setup, extra: Duration) -> Result<Daemon, PerfError> {
        let file = |path: &Path, error| PerfError::File { path: path.to_owned(), error };
        let (config, ready, log) =
            (self.dir.path().join("router.toml"), self.dir.path().join("ready"), self.dir.path().join("log"));
        std::fs::write(&config, self.config(setup)).map_err(|e| file(&config, e))?;
        let stderr = File::create(&log).map_err(|e| file(&log, e))?;
        let begin = Instant::now();
        let mut command = Command::new(&setup.vinetd);
        command.arg("--config").arg(&config).arg("--ready-file").arg(&ready);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(stderr));
        let child = command.spawn().map_err(|e| file(&setup.vinetd, e))?;
        let mut daemon = Daemon {
            child,
            socket: self.dir.path().join("run/edge1.sock"),
            log,
            start: Duration::ZERO,
            is_ended: false,
        };
        while !ready.exists() {
            if let Ok(Some(status)) = daemon.child.try_wait() {
                daemon.is_ended = true;
                return Err(failed(format!("{}\nit ended: {status}", daemon.last_words())));
            }
            if begin.elapsed() > TIME_MAX + extra {
                return Err(failed(format!("{}\nit does not get ready", daemon.last_words())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        daemon.start = begin.elapsed();
        Ok(daemon)
    }
}

/// A running daemon. Dropping it ends it.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    is_ended: bool,
    /// How long it took until it accepted sessions.
    pub start: Duration,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.is_ended {
            // It may have ended by itself; then there is nothing to kill.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Nanoseconds on a processor, by the name of the thread; several of one name together.
pub type Threads = BTreeMap<String, u64>;

impl Daemon {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7400))
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        last_lines(&std::fs::read_to_string(&self.log).unwrap_or_default())
    }

    /// Asks its admin socket.
    pub fn ask(&self, what: Ask) -> Result<Value, PerfError> {
        admin::ask(&self.socket, &what).map_err(|e| failed(format!("{}\nadmin socket: {e}", self.last_words())))
    }

    /// Packets that its ports have received so far, and when that was.
    pub fn packets(&self) -> Result<(u64, Instant), PerfError> {
        let before = Instant::now();
        let counters = self.ask(Ask::Counters)?;
        // The answer was made somewhere in between.
        let when = before + before.elapsed() / 2;
        let ports = counters["ports"].as_array().ok_or_else(|| failed("its counters have no ports"))?;
        Ok((ports.iter().filter_map(|port| port["rx_packets"].as_u64()).sum(), when))
    }

    /// What its threads have taken so far.
    pub fn threads(&self) -> Threads {
        let mut threads = Threads::new();
        let folder = format!("/proc/{}/task", self.child.id());
        for task in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let ran = read("schedstat").split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
            *threads.entry(read("comm").trim().to_owned()).or_default() += ran;
        }
        threads
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Ends it in good order.
    pub fn end(mut self) -> Result<(), PerfError> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).map_err(failed)?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).map_err(failed)?;
        let begin = Instant::now();
        while begin.elapsed() < TIME_MAX {
            if let Some(status) = self.child.try_wait().map_err(failed)? {
                self.is_ended = true;
                return if status.success() { Ok(()) } else { Err(failed(self.last_words())) };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(failed("it does not end"))
    }
}
