//! The daemon: everything of a router, started and ended in the right order.
//!
//! Start: the lock of the name, the devices beneath, DPDK, the ports, the twins, the dump of the kernel's routes, the
//! workers, the sockets. A port's device is opened before its twin, because the twin has the device's address; packets
//! that come meanwhile wait in the device's ring until the workers start, which is after the first forwarding table is
//! there. The end goes backwards, and puts the devices beneath back as they were found. Whatever fails on the way, what
//! was changed by then is undone.

use std::fmt;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use vinet_fastpath::eal::{Eal, EalError, EalSettings, Memory, free_hugepages_mib};
use vinet_fastpath::port::dpdk::{DpdkConfig, DpdkHandle, DpdkPort, PortError};
use vinet_fastpath::port::mbuf::{Mempool, MempoolError, MempoolSettings};
use vinet_fastpath::port::{PacketPool, Port, PortHandle};
use vinet_fastpath::router::{self, PortQueues, Running, StartError, Workers};
use vinet_fastpath::settings::{self, CoDelLimits, Discipline, ExpandRule, PortSettings, Settings, TableLimits};
use vinet_session::identity::{Authority, Identity, IdentityError};
use vinet_session::tag_key;
use vinet_trusted::addr::{PrefixSet, Principal};
use vinet_trusted::policy::Policy;

use crate::config::{Config, ConfigError, Idle, MemoryKind, QueueKind, cores_online};
use crate::core::{Core, CoreError, Parts, Remains, TOKENS_PLANE, mac_text};
use crate::kernel::beneath::{Beneath, BeneathError};
use crate::kernel::netlink::{NetlinkError, Rtnl};
use crate::lock::{Lock, LockError};
use crate::log;
use crate::notify::Notifier;
use crate::office::{OpenError, Papers};
use crate::plane::{Plane, PlaneError};
use crate::policies::{Policies, PoliciesError};

/// Why the daemon did not start. Nearly always the operator can do something about it, and the text says what.
#[derive(Debug)]
pub enum StartupError {
    /// The configuration file.
    Config(ConfigError),
    /// The policies.
    Policies(PoliciesError),
    /// A port carries longer packets than a policy has priced programs for.
    MtuAbovePolicy {
        /// The configuration file.
        file: PathBuf,
        /// The port.
        port: String,
        /// Its MTU.
        mtu: u16,
        /// The policy.
        policy: String,
        /// The longest packet that its costs hold for, in bytes from the IP header on.
        packet_bytes_max: u32,
    },
    /// The router's key or the authority's.
    Identity {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        reason: IdentityError,
    },
    /// The router's certificate is not valid for a router, or not from this authority, or not now.
    Certificate {
        /// The identity's file.
        file: PathBuf,
        /// What is wrong with it.
        reason: vinet_session::identity::CertificateFault,
    },
    /// A file that the office goes by: the bank, the directory, the revoked keys.
    Papers(OpenError),
    /// An `[[expand]]` cannot be served.
    Expand {
        /// The identity's file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Not root.
    NotRoot,
    /// The name is taken.
    Lock(LockError),
    /// The signals cannot be caught.
    Signals(std::io::Error),
    /// The kernel cannot be asked.
    Netlink(NetlinkError),
    /// A device beneath a port.
    Beneath {
        /// The port.
        port: String,
        /// What is wrong with its device.
        reason: BeneathError,
    },
    /// DPDK.
    Eal(EalError),
    /// The packet buffers.
    Mempool(MempoolError),
    /// A port.
    Port {
        /// The port.
        port: String,
        /// What is wrong with it.
        reason: PortError,
    },
    /// The workers.
    Workers(StartError),
    /// The control core.
    Core(CoreError),
    /// The file that says that the router is ready.
    ReadyFile {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartupError::Config(error) => write!(f, "{error}"),
            StartupError::Policies(error) => write!(f, "{error}"),
            StartupError::MtuAbovePolicy { file, port, mtu, policy, packet_bytes_max } => write!(
                f,
                "{}: [[port]] `{port}` mtu: {mtu} is above the {packet_bytes_max} bytes of packet_bytes_max in the policy \
                 `{policy}`, and a program's Complexity holds for packets up to that; lower the mtu, or raise \
                 packet_bytes_max (programs then cost more)",
                file.display()
            ),
            StartupError::Identity { file, reason } => write!(f, "{}: {reason}", file.display()),
            StartupError::Certificate { file, reason } => write!(
                f,
                "{}: this is no identity that the authority vouches for as a router's: {reason}; make one with `vinet \
                 ca router`",
                file.display()
            ),
            StartupError::Expand { file, what } => write!(f, "[[expand]] identity {}: {what}", file.display()),
            StartupError::Papers(error) => write!(f, "{error}"),
            StartupError::NotRoot => {
                f.write_str("a router opens devices and changes interfaces: run vinetd as root (--check needs no root)")
            }
            StartupError::Lock(error) => write!(f, "{error}"),
            StartupError::Signals(reason) => write!(f, "cannot catch signals: {reason}"),
            StartupError::Netlink(error) => write!(f, "{error}"),
            StartupError::Beneath { port, reason } => write!(f, "port {port}: {reason}"),
            StartupError::Eal(error) => write!(f, "{error}"),
            StartupError::Mempool(error) => write!(f, "{error}; see [mempool] and [eal] memory_mb"),
            StartupError::Port { port, reason } => {
                write!(f, "port {port}: {reason}")?;
                if let PortError::Queues { .. } = reason {
                    f.write_str("; each of the [workers] cores needs a queue of its own, so name fewer")?;
                }
                Ok(())
            }
            StartupError::Workers(error) => write!(f, "{error}"),
            StartupError::Core(error) => write!(f, "{error}"),
            StartupError::ReadyFile { path, reason } => {
                write!(f, "{}: cannot write the ready file: {reason}", path.display())
            }
        }
    }
}
impl std::error::Error for StartupError {}

/// What a configuration file names, read and checked; nothing is opened or changed by then.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration.
    pub config: Config,
    /// The router's key.
    pub identity: Identity,
    /// The testbed's authority.
    pub authority: Authority,
    /// The policies.
    pub policies: Vec<Policy>,
    /// Whose generated packets are expanded.
    pub expand: Vec<ExpandRule>,
}

impl Prepared {
    /// Reads and checks `config_file` and every file that it names.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(config_file: &Path) -> Result<Prepared, StartupError> {
        let config = Config::load(config_file).map_err(StartupError::Config)?;
        config.check_machine().map_err(StartupError::Config)?;
        let in_file = |file: &Path| {
            let file = file.to_owned();
            move |reason| StartupError::Identity { file, reason }
        };
        let identity = Identity::load(&config.router.identity).map_err(in_file(&config.router.identity))?;
        let authority = Authority::load(&config.router.authority).map_err(in_file(&config.router.authority))?;
        let wall_s = vinet_session::Now::read(std::time::Instant::now()).wall_s;
        authority
            .router(identity.certificate(), wall_s)
            .map_err(|reason| StartupError::Certificate { file: config.router.identity.clone(), reason })?;
        let policies = Policies::read(&config.router.policies).map_err(StartupError::Policies)?;
        check_mtus(&config, &policies)?;
        let expand = expand_rules(&config)?;
        Papers::read(&config, &Arc::new(authority.clone())).map_err(StartupError::Papers)?;
        Ok(Prepared { config, identity, authority, policies, expand })
    }
}

/// What the `[[expand]]` tables say, with keys.
fn expand_rules(config: &Config) -> Result<Vec<ExpandRule>, StartupError> {
    let own = config.own_addresses();
    let rule = |expand: &crate::config::Expand| {
        let file = &expand.identity;
        let refuse = |what: String| StartupError::Expand { file: file.clone(), what };
        let identity = Identity::load(file).map_err(|reason| StartupError::Identity { file: file.clone(), reason })?;
        let Some(principal @ Principal::EdgeRouter(_)) = identity.principal() else {
            let what =
                "it is not an edge router's as an owner; make one with `vinet ca issue --principal ADDRESS/LENGTH`";
            return Err(refuse(what.to_owned()));
        };
        let Some(address) = principal.this_ip().filter(|address| own.contains(address)) else {
            return Err(refuse(format!("{principal} has no address of this router, so nothing comes here for it")));
        };
        let key = tag_key::at_owner(&identity, &expand.router, &expand.program)
            .ok_or_else(|| refuse(format!("{} is not the key of a router", expand.router)))?;
        Ok(ExpandRule { own: address, port: expand.port, prefix: principal.owned(), program: expand.program, key })
    };
    config.expand.iter().map(rule).collect()
}

/// Whether every port's packets are within what every policy has priced programs for.
pub(crate) fn check_mtus(config: &Config, policies: &[Policy]) -> Result<(), StartupError> {
    for port in &config.ports {
        if let Some(policy) = policies.iter().find(|policy| u32::from(port.mtu) > policy.limits.packet_bytes_max) {
            return Err(StartupError::MtuAbovePolicy {
                file: config.file.clone(),
                port: port.name.clone(),
                mtu: port.mtu,
                policy: policy.name.clone(),
                packet_bytes_max: policy.limits.packet_bytes_max,
            });
        }
    }
    Ok(())
}

/// The signals that have come: a byte in the pipe for each, and why.
struct Signals {
    pipe: UnixStream,
    end: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

/// Catches SIGTERM and SIGINT: the first ends the router, the second the process at once. SIGHUP has the configuration
/// read again, as daemons do; in a router that somebody runs by hand it means that the terminal is gone, and ends it too.
fn catch_signals() -> std::io::Result<Signals> {
    let (pipe, handlers) = UnixStream::pair()?;
    let (end, reload) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let by_hand = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let ends = [SIGTERM, SIGINT].into_iter().chain(by_hand.then_some(SIGHUP));
    for signal in ends {
        // In this order: the first signal finds the flag down and lifts it, the second finds it up.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&end))?;
        signal_hook::flag::register(signal, Arc::clone(&end))?;
        signal_hook::low_level::pipe::register(signal, handlers.try_clone()?)?;
    }
    if !by_hand {
        signal_hook::flag::register(SIGHUP, Arc::clone(&reload))?;
        signal_hook::low_level::pipe::register(SIGHUP, handlers)?;
    }
    Ok(Signals { pipe, end, reload })
}

/// Raises the limit of open files where the sessions need more.
pub(crate) fn allow_sessions(sessions: usize) {
    /// Files that are not sessions: devices, twins, sockets, logs.
    const OTHER_FILES: u64 = 256;
    let needed = sessions as u64 + OTHER_FILES;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft >= needed { Ok(()) } else { setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)) }
    });
    if let Err(error) = raised {
        log::warn(
            "session",
            format_args!("{needed} open files cannot be had for {sessions} sessions ({error}); some will be refused"),
        );
    }
}

/// Runs a router over DPDK until it is told to stop.
///
/// `ready_file` is made when sessions are accepted, and removed at the end.
///
/// # Errors
/// [`StartupError`]. A failure of a running router is `Ok(Err(…))`.
pub fn run(prepared: Prepared, ready_file: Option<&Path>) -> Result<Result<(), CoreError>, StartupError> {
    let Prepared { config, identity, authority, policies, expand } = prepared;
    // The owner of a process's folder in /proc is its effective user.
    if std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() != 0) {
        return Err(StartupError::NotRoot);
    }
    let _lock = Lock::take(&config.router.run_dir, &config.router.name).map_err(StartupError::Lock)?;
    let signals = catch_signals().map_err(StartupError::Signals)?;
    if let Some(path) = ready_file {
        // A router that was killed may have left it.
        let _ = std::fs::remove_file(path);
    }
    allow_sessions(config.control.limits.sessions);
    if config.controlled().is_empty() {
        log::warn("core", "no [[port]] has `controlled` prefixes, so no program can be about any source here");
    }
    let mut beneath = HeldDevices::hold(&config)?;
    let outcome = run_over_dpdk(config, identity, authority, policies, expand, signals, ready_file);
    beneath.undo();
    outcome
}

fn run_over_dpdk(
    config: Config,
    identity: Identity,
    authority: Authority,
    policies: Vec<Policy>,
    expand: Vec<ExpandRule>,
    signals: Signals,
    ready_file: Option<&Path>,
) -> Result<Result<(), CoreError>, StartupError> {
    let eal = start_eal(&config)?;
    let packet_len_max = config.ports.iter().map(packet_len_max).max().unwrap_or(1500);
    let pool_settings = MempoolSettings {
        cache: config.mempool.cache,
        ..MempoolSettings::for_mtu(config.mempool.buffers, packet_len_max)
    };
    let pool = Mempool::new(&eal, pool_settings).map_err(StartupError::Mempool)?;
    let mut ports = Vec::new();
    for port in &config.ports {
        ports.push(open_port(&eal, &pool, port, config.workers.cores.len())?);
    }
    let pools = config.workers.cores.iter().map(|_| pool.handle()).collect();
    let register = {
        let eal = eal.clone();
        move |_: usize| eal.register_worker_thread().map_err(|error| error.to_string())
    };
    let policies = Policies::sign(policies, vinet_prover::library().root(), config.payment.tariff, &identity);
    keep_off_the_workers(&config);
    let (mut core, workers) = assemble(
        config,
        Arc::new(identity),
        Arc::new(authority),
        policies,
        expand,
        ports,
        pools,
        register,
        |c, m, r, t| Plane::open(c, m, r, t).map(Some),
    )?;
    let outcome = serve(&mut core, signals, ready_file);
    end::<DpdkPort, _>(core, workers);
    log::info("core", "stopped");
    outcome
}

/// Announces the router and runs it.
fn serve(
    core: &mut Core<DpdkHandle>,
    signals: Signals,
    ready_file: Option<&Path>,
) -> Result<Result<(), CoreError>, StartupError> {
    core.heed_signals(signals.pipe, signals.end, signals.reload).map_err(StartupError::Core)?;
    core.notify_through(Notifier::from_environment());
    let listening = core.listen().map_err(StartupError::Core)?;
    let listening: Vec<String> = listening.iter().map(ToString::to_string).collect();
    let ports: Vec<String> = core
        .handles()
        .iter()
        .map(|handle| format!("{} ({}, mtu {})", handle.name(), mac_text(handle.mac()), handle.mtu()))
        .collect();
    let name = core.config().router.name.clone();
    log::info("core", format_args!("ready name={name} listen={} ports: {}", listening.join(","), ports.join(", ")));
    if let Some(path) = ready_file {
        std::fs::write(path, format!("{}\n", listening.join(" ")))
            .map_err(|reason| StartupError::ReadyFile { path: path.to_owned(), reason })?;
    }
    core.notifier().ready(&format!("{} ports, listening on {}", ports.len(), listening.join(", ")));
    let outcome = core.run();
    core.notifier().stopping();
    if let Some(path) = ready_file {
        // It may be gone already, which is as it should be.
        let _ = std::fs::remove_file(path);
    }
    log::info("core", "stopping");
    Ok(outcome)
}

/// The interfaces beneath ports, kept from the kernel.
struct HeldDevices {
    rtnl: Option<Rtnl>,
    held: Vec<Beneath>,
}

impl HeldDevices {
    fn hold(config: &Config) -> Result<HeldDevices, StartupError> {
        let mut devices = HeldDevices { rtnl: None, held: Vec::new() };
        for port in &config.ports {
            let Some(interface) = interface_beneath(&port.device) else { continue };
            let rtnl = match &mut devices.rtnl {
                Some(rtnl) => rtnl,
                none => none.insert(Rtnl::open().map_err(StartupError::Netlink)?),
            };
            // What is held by then is put back when `devices` is dropped.
            let held = Beneath::hold(rtnl, interface)
                .map_err(|reason| StartupError::Beneath { port: port.name.clone(), reason })?;
            devices.held.push(held);
        }
        Ok(devices)
    }

    fn undo(&mut self) {
        let Some(rtnl) = &mut self.rtnl else { return };
        for device in self.held.drain(..).rev() {
            let name = device.name().to_owned();
            if let Err(error) = device.undo(rtnl) {
                log::warn("port", format_args!("{name} could not be put back as it was: {error}"));
            }
        }
    }
}

/// The kernel's interface that the kernel must be kept from, for the drivers that share one with it.
pub(crate) fn interface_beneath(device: &str) -> Option<&str> {
    let shares = device.starts_with("net_af_packet") || device.starts_with("net_af_xdp");
    device.split(',').filter(|_| shares).find_map(|argument| argument.strip_prefix("iface="))
}

/// Pins the calling thread, and those that it starts, to the control core; without one, to all but the workers' cores.
fn keep_off_the_workers(config: &Config) {
    let kept_off = match config.control.core {
        Some(core) => core_affinity::set_for_current(core_affinity::CoreId { id: core }),
        None => {
            let this = nix::unistd::Pid::from_raw(0);
            let mut cores = CpuSet::new();
            let others = cores_online().into_iter().filter(|core| !config.workers.cores.contains(core));
            let added = others.filter(|core| cores.set(*core).is_ok()).count();
            // On a machine whose cores all poll, there is nowhere else to go.
            added == 0 || sched_setaffinity(this, &cores).is_ok()
        }
    };
    if !kept_off {
        log::warn("core", "the control thread cannot be kept off the workers' cores; it runs on any");
    }
}

fn start_eal(config: &Config) -> Result<Eal, StartupError> {
    let mib = config.eal.memory_mb;
    let huge = Memory::Huge { mib: Some(mib) };
    let memory = match config.eal.memory {
        MemoryKind::Huge => huge,
        MemoryKind::NoHuge => Memory::Ordinary { mib },
        MemoryKind::Auto => match free_hugepages_mib() {
            free if free >= u64::from(mib) => huge,
            free => {
                log::warn(
                    "eal",
                    format_args!(
                        "{free} MiB of hugepages are free and {mib} are wanted: ordinary pages are used, which is slower"
                    ),
                );
                Memory::Ordinary { mib }
            }
        },
    };
    let settings = EalSettings {
        main_core: config.control.core,
        memory,
        pci: config.ports.iter().any(|port| !port.device.starts_with("net_")),
        args: config.eal.args.clone(),
        ..EalSettings::new(&config.router.name)
    };
    let eal = Eal::start(&settings).map_err(StartupError::Eal)?;
    let pages = if eal.has_hugepages() { "hugepages" } else { "ordinary pages" };
    log::info("eal", format_args!("{} over {mib} MiB of {pages}", eal.version()));
    Ok(eal)
}

/// Bytes of a frame in an af_packet ring for an MTU below it.
///
/// DPDK's af_packet driver has the kernel put IPv4 fragments together before the ring (PACKET_FANOUT_FLAG_DEFRAG, always
/// set). A frame of the driver's default of 2048 bytes would cut such a packet; one of 8192 takes packets of up to 8 KB
/// whole, and the worker makes fragments of them again. A program is given such a packet once, as one: it costs no more
/// than its fragments would one by one, but a packet rate counts it as one packet.
const AF_PACKET_FRAME_LEN: u16 = 8192;

/// The longest IP packet that the device can give for one of the port's MTU.
pub(crate) fn packet_len_max(port: &crate::config::Port) -> u16 {
    match af_packet_frame_len(port) {
        Some(frame_len) => frame_len,
        None => port.mtu,
    }
}

/// The frame of the port's ring, for an af_packet device whose frame the configuration leaves to us.
fn af_packet_frame_len(port: &crate::config::Port) -> Option<u16> {
    let ours = port.device.starts_with("net_af_packet") && !port.device.contains("framesz=");
    // A ring's frame also holds its own header (TPACKET2_HDRLEN, 52 bytes), Ethernet and two tags.
    ours.then(|| (port.mtu + 128).next_power_of_two().max(AF_PACKET_FRAME_LEN))
}

/// The device with the rings that its port needs, where the driver takes that only as an argument.
fn device_with_rings(port: &crate::config::Port, workers: u16) -> String {
    let mut device = port.device.clone();
    if let Some(len) = af_packet_frame_len(port) {
        // One frame in a block: the driver wants blocks of whole pages that hold whole frames.
        let count = port.rx_ring.max(port.tx_ring).next_power_of_two();
        device += &format!(",blocksz={len},framesz={len},framecnt={count}");
    }
    if workers > 1 && device.starts_with("net_af_packet") && !device.contains("qpairs=") {
        device += &format!(",qpairs={workers}");
    }
    device
}

fn open_port(eal: &Eal, pool: &Mempool, port: &crate::config::Port, workers: usize) -> Result<DpdkPort, StartupError> {
    let workers = u16::try_from(workers).unwrap_or(u16::MAX);
    let wanted = DpdkConfig {
        rx_ring_len: port.rx_ring,
        tx_ring_len: port.tx_ring,
        rx_queues: workers,
        tx_queues: workers,
        mtu: port.mtu,
        ..DpdkConfig::new(&port.name, &device_with_rings(port, workers))
    };
    let opened =
        DpdkPort::open(eal, pool, &wanted).map_err(|reason| StartupError::Port { port: port.name.clone(), reason })?;
    let granted = opened.granted();
    log::info(
        "port",
        format_args!(
            "{}: {} ({}), {} receive queues of {}{}, {} transmit queues of {}",
            port.name,
            port.device,
            granted.driver,
            granted.rx_queues,
            granted.rx_ring_len,
            match (workers, granted.rx_queues, granted.rx_by_source) {
                (1, ..) => "",
                (_, 2.., true) => " filled by source address",
                _ => ", distributed by source address to the workers",
            },
            granted.tx_queues,
            granted.tx_ring_len
        ),
    );
    Ok(opened)
}

/// The workers of a router over ports of the type `P`.
type WorkersOver<P, L> = Workers<<P as Port>::Rx, <P as Port>::Tx, L>;
/// A control core and the workers that it is for.
type Assembled<P, L> = (Core<<P as Port>::Handle>, WorkersOver<P, L>);

/// Starts the workers over ports of any kind, and a control core for them that does not listen yet.
///
/// # Errors
/// [`StartupError::Workers`] or [`StartupError::Core`].
#[allow(clippy::too_many_arguments)]
pub fn assemble<P, L, G>(
    config: Config,
    identity: Arc<Identity>,
    authority: Arc<Authority>,
    policies: Policies,
    expand: Vec<ExpandRule>,
    ports: Vec<P>,
    pools: Vec<L>,
    register: impl Fn(usize) -> Result<G, String> + Send + Sync + 'static,
    open_plane: impl FnOnce(&Config, &[[u8; 6]], &mio::Registry, usize) -> Result<Option<Plane>, PlaneError>,
) -> Result<Assembled<P, L>, StartupError>
where
    P: Port,
    P::Rx: 'static,
    P::Tx: 'static,
    L: PacketPool<Buf = P::Buf> + 'static,
{
    let settings = Settings {
        cores: config.workers.cores.iter().map(|core| Some(*core)).collect(),
        burst_len: config.workers.burst,
        idle: match config.workers.idle {
            Idle::Spin => settings::Idle::Spin,
            Idle::Backoff => settings::Idle::Backoff,
        },
        table: TableLimits {
            // And the router's own, which shut sources off.
            programs_max: u32::try_from(config.control.limits.programs + config.sources.shut_off.sources_max)
                .unwrap_or(u32::MAX),
            ..TableLimits::default()
        },
        window_packets_max: config.workers.window_packets,
        expand,
        ..Settings::default()
    };
    let mut handles = Vec::new();
    let mut queues = Vec::new();
    for (port, config) in ports.into_iter().zip(&config.ports) {
        let (handle, rx, tx) = port.split();
        let port_settings = PortSettings {
            name: config.name.clone(),
            mac: handle.mac(),
            mtu: config.mtu,
            controlled: config.controlled.clone().map(PrefixSet::new),
            vlan: config.vlan.clone(),
            queue_depth: usize::from(config.queue_depth),
            discipline: match config.queue {
                QueueKind::Fifo => Discipline::Fifo,
                QueueKind::Codel => Discipline::CoDel(CoDelLimits {
                    target_ns: u64::from(config.codel_target_us) * 1000,
                    interval_ns: u64::from(config.codel_interval_ms) * 1_000_000,
                }),
            },
        };
        queues.push(PortQueues { settings: port_settings, rx, tx });
        handles.push(handle);
    }
    let macs: Vec<[u8; 6]> = handles.iter().map(PortHandle::mac).collect();
    let poll = mio::Poll::new().map_err(|error| StartupError::Core(CoreError::Loop(error)))?;
    let plane = open_plane(&config, &macs, poll.registry(), TOKENS_PLANE)
        .map_err(|error| StartupError::Core(CoreError::Plane(error)))?;
    let running = router::start(settings, queues, pools, register).map_err(StartupError::Workers)?;
    let Running { table, fib, slow_path, resolve, counters, tracer, workers } = running;
    let parts =
        Parts { config, identity, authority, policies, handles, table, fib, slow_path, resolve, counters, tracer };
    match Core::new(parts, poll, plane) {
        Ok(core) => Ok((core, workers)),
        Err(error) => {
            drop(workers.stop());
            Err(StartupError::Core(error))
        }
    }
}

/// Ends a router: programs out, workers stopped, ports closed.
pub fn end<P, L>(core: Core<P::Handle>, workers: WorkersOver<P, L>)
where
    P: Port,
{
    let Remains { plane, handles } = core.shut_down();
    let stopped = workers.stop();
    for worker in &stopped.panicked {
        log::error(
            "core",
            format_args!("worker {worker} had failed; its packets and its share of the ports were lost"),
        );
    }
    let balance = stopped.counters.balance();
    if balance.difference != 0 && stopped.panicked.is_empty() {
        log::error("core", format_args!("packets are unaccounted for: {balance:?}"));
    }
    drop(stopped);
    drop(handles);
    drop(plane);
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_session::identity::{AuthorityKey, Subject, Validity, parse_principal};

    fn port(device: &str, mtu: u16) -> crate::config::Port {
        crate::config::Port {
            name: "edge".into(),
            device: device.into(),
            tap: "vi-edge".into(),
            addresses: Vec::new(),
            mtu,
            rx_ring: 1000,
            tx_ring: 512,
            queue: QueueKind::Fifo,
            queue_depth: 64,
            codel_target_us: 5000,
            codel_interval_ms: 100,
            controlled: None,
            vlan: Vec::new(),
        }
    }

    #[test]
    fn an_af_packet_ring_has_frames_for_reassembled_packets_unless_the_operator_says_otherwise() {
        let frames = |device: &str, mtu| device_with_rings(&port(device, mtu), 1);
        let ours = "net_af_packet0,iface=eth1";
        assert_eq!(frames(ours, 1500), format!("{ours},blocksz=8192,framesz=8192,framecnt=1024"));
        assert_eq!(frames(ours, 9000), format!("{ours},blocksz=16384,framesz=16384,framecnt=1024"));
        let said = "net_af_packet0,iface=eth1,framesz=2048";
        assert_eq!(frames(said, 1500), said);
        assert_eq!((packet_len_max(&port(ours, 1500)), packet_len_max(&port(said, 1500))), (8192, 1500));
        assert_eq!(frames("0000:03:00.0", 9000), "0000:03:00.0");
        assert_eq!(device_with_rings(&port(said, 1500), 3), format!("{said},qpairs=3"));
        let said = "net_af_packet0,iface=eth1,framesz=2048,qpairs=2";
        assert_eq!(device_with_rings(&port(said, 1500), 3), said);
    }

    #[test]
    fn what_is_expanded_is_of_an_edge_router_with_an_address_here() {
        let dir = tempfile::tempdir().unwrap();
        let authority = AuthorityKey::generate("bench").unwrap();
        let save = |name: &str, subject| {
            let identity = authority.issue_identity(subject, Validity::starting(0, 1 << 40)).unwrap();
            identity.save(&dir.path().join(name)).unwrap();
            identity
        };
        let owner = |text| Subject::Owner(parse_principal(text).unwrap());
        let ours = save("ours.key", owner("192.0.2.1/24"));
        save("elsewhere.key", owner("192.0.2.7/24"));
        save("nameless.key", owner("192.0.2.0/24"));
        save("user.key", owner("192.0.2.1"));
        let router = save("router.key", Subject::Router { name: "near".into(), addrs: Vec::new() });
        let rules = |identity: &str, router: &str| {
            let table = format!(
                "[[expand]]\nidentity = \"{identity}\"\nrouter = \"{router}\"\nprogram = \"{}\"\n\n[capacity]\n",
                "ab".repeat(32)
            );
            let text = include_str!("../../configs/router.toml").replacen("[capacity]\n", &table, 1);
            expand_rules(&Config::parse(&dir.path().join("router.toml"), &text).unwrap())
        };
        let near = router.public().to_string();
        let [rule] = rules("ours.key", &near).unwrap()[..] else { panic!("one rule") };
        let principal = ours.principal().unwrap();
        assert_eq!((Some(rule.own), rule.prefix, rule.port), (principal.this_ip(), principal.owned(), 7401));
        assert_eq!(Some(rule.key), tag_key::at_router(&router, &ours.public(), &[0xab; 32]));
        for (identity, router, expected) in [
            ("elsewhere.key", near.clone(), "192.0.2.7/24 has no address of this router"),
            ("nameless.key", near.clone(), "192.0.2.0/24 has no address of this router"),
            ("user.key", near.clone(), "it is not an edge router's as an owner"),
            ("router.key", near, "it is not an edge router's as an owner"),
            ("ours.key", "00".repeat(32), "is not the key of a router"),
        ] {
            let error = rules(identity, &router).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(identity), "{error}");
        }
        assert!(matches!(rules("absent.key", &"00".repeat(32)), Err(StartupError::Identity { .. })));
    }

    #[test]
    fn only_drivers_that_share_an_interface_with_the_kernel_need_it_held() {
        assert_eq!(interface_beneath("net_af_packet0,iface=eth1"), Some("eth1"));
        assert_eq!(interface_beneath("net_af_xdp1,start_queue=0,iface=eth2"), Some("eth2"));
        assert_eq!(interface_beneath("net_pcap0,iface=eth1"), None);
        assert_eq!(interface_beneath("0000:03:00.0"), None);
    }
}
