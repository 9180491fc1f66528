//! The file as it is written, and the way from it to a [`Config`].

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use vinet_fastpath::expander::RULES_MAX;
use vinet_session::identity::PublicKey;
use vinet_trusted::addr::{Addr, Prefix};

use super::money::{self, RawPayment, RawStore};
use super::schedule::{self, RawSchedule};
use super::sources::{self, RawSources};
use crate::reload::Keys;

use super::{
    Access, AddrLen, Capacity, Cidr, Config, ConfigError, Control, Eal, Expand, Idle, Limits, LogFormat, MemoryKind,
    Mempool, Metrics, PORTS_MAX, Port, QueueKind, Reach, Route, Router, Verify, WORKERS_MAX, Workers,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    router: RawRouter,
    #[serde(default)]
    eal: RawEal,
    workers: RawWorkers,
    control: RawControl,
    port: Spanned<Vec<RawPort>>,
    #[serde(default)]
    route: Vec<RawRoute>,
    capacity: RawCapacity,
    #[serde(default)]
    mempool: RawMempool,
    #[serde(default)]
    expand: Vec<RawExpand>,
    #[serde(default)]
    store: RawStore,
    #[serde(default)]
    payment: RawPayment,
    #[serde(default)]
    schedule: RawSchedule,
    #[serde(default)]
    sources: RawSources,
    #[serde(default)]
    metrics: RawMetrics,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRouter {
    name: Spanned<String>,
    identity: PathBuf,
    authority: PathBuf,
    policies: Spanned<Vec<PathBuf>>,
    revocations: Option<PathBuf>,
    directory: Option<PathBuf>,
    #[serde(default)]
    verify: Verify,
    run_dir: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawEal {
    #[serde(default)]
    memory: MemoryKind,
    memory_mb: Option<Spanned<u32>>,
    #[serde(default)]
    args: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWorkers {
    cores: Spanned<Vec<usize>>,
    #[serde(default)]
    idle: Idle,
    burst: Option<Spanned<usize>>,
    window_packets: Option<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawControl {
    core: Option<Spanned<usize>>,
    listen: Spanned<Vec<SocketAddr>>,
    admin_socket: Option<PathBuf>,
    admin_mode: Option<Spanned<String>>,
    admin_group: Option<Spanned<String>>,
    #[serde(default)]
    log_format: LogFormat,
    #[serde(default)]
    reach: Reach,
    reach_time_s: Option<Spanned<u32>>,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    sessions: Option<Spanned<usize>>,
    half_open: Option<Spanned<usize>>,
    sessions_per_peer: Option<Spanned<usize>>,
    handshake_timeout_s: Option<Spanned<u32>>,
    idle_timeout_s: Option<Spanned<u32>>,
    checks_queued: Option<Spanned<usize>>,
    programs: Option<Spanned<usize>>,
    programs_per_owner: Option<Spanned<usize>>,
    lemmas: Option<Spanned<usize>>,
    lemmas_per_owner: Option<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPort {
    name: Spanned<String>,
    device: Spanned<String>,
    tap: Option<Spanned<String>>,
    addresses: Vec<Spanned<AddrLen>>,
    mtu: Option<Spanned<u16>>,
    rx_ring: Option<Spanned<u16>>,
    tx_ring: Option<Spanned<u16>>,
    #[serde(default)]
    queue: QueueKind,
    queue_depth: Option<Spanned<u16>>,
    codel_target_us: Option<Spanned<u32>>,
    codel_interval_ms: Option<Spanned<u32>>,
    controlled: Option<Spanned<Vec<Spanned<Cidr>>>>,
    #[serde(default)]
    vlan: Vec<Spanned<u16>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    to: Spanned<Cidr>,
    via: Option<Spanned<IpAddr>>,
    port: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCapacity {
    cycles_per_second: Spanned<u64>,
    memory_bytes: Spanned<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawMempool {
    buffers: Option<Spanned<u32>>,
    cache: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpand {
    identity: PathBuf,
    router: Spanned<String>,
    program: Spanned<String>,
    port: Option<Spanned<u16>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawMetrics {
    listen: Option<SocketAddr>,
}

/// The file's name and text, to say where something is.
pub(super) struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|&&b| b == b'\n').count()
    }
    pub(super) fn invalid(&self, span: &Range<usize>, key: impl Display, what: impl Into<String>) -> ConfigError {
        ConfigError::Invalid {
            file: self.file.to_owned(),
            line: self.line(span.start),
            key: key.to_string(),
            what: what.into(),
        }
    }
    /// The value of an optional number, or `default`, within `range`.
    pub(super) fn number<T: Copy + PartialOrd + Display>(
        &self,
        value: Option<Spanned<T>>,
        key: impl Display,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<T, ConfigError> {
        let Some(value) = value else { return Ok(default) };
        if range.contains(value.get_ref()) {
            return Ok(*value.get_ref());
        }
        let what = format!("{} is not in {} to {}", value.get_ref(), range.start(), range.end());
        Err(self.invalid(&value.span(), key, what))
    }
    pub(super) fn in_folder(&self, path: PathBuf) -> PathBuf {
        if path.is_absolute() { path } else { self.file.parent().unwrap_or(Path::new("")).join(path) }
    }
}

/// Turns serde's refusal into an error that names the line and the nearest known key.
fn malformed(source: &Source<'_>, error: &toml::de::Error) -> ConfigError {
    let message = error.message();
    let line = error.span().map(|span| source.line(span.start));
    if let (Some(rest), Some(line)) = (message.strip_prefix("unknown field `"), line) {
        let mut quoted = rest.split('`').step_by(2).map(str::to_owned);
        let key = quoted.next().unwrap_or_default();
        let known: Vec<String> = quoted.filter(|name| !name.is_empty()).collect();
        let nearest = known
            .iter()
            .map(|name| (strsim::damerau_levenshtein(&key, name), name))
            .min()
            .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
            .map(|(_, name)| name.clone());
        return ConfigError::UnknownKey { file: source.file.to_owned(), line, key, nearest, known };
    }
    ConfigError::Malformed { file: source.file.to_owned(), line, what: message.replace('\n', "; ") }
}

pub(super) fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
    let source = Source { file, text };
    let raw: RawConfig = toml::from_str(text).map_err(|error| malformed(&source, &error))?;
    let router = router(&source, raw.router)?;
    let workers = workers(&source, raw.workers)?;
    let control = control(&source, raw.control, &router, &workers)?;
    let ports = ports(&source, raw.port)?;
    let routes = routes(&source, raw.route, &ports)?;
    let mempool = mempool(&source, raw.mempool, &ports, &workers)?;
    let expand = expand(&source, raw.expand)?;
    let (store, payment) = (money::store(&source, raw.store)?, money::payment(&source, raw.payment)?);
    let schedule = schedule::schedule(&source, raw.schedule, &control.limits)?;
    let sources = sources::rules(&source, raw.sources)?;
    Ok(Config {
        file: file.to_owned(),
        keys: Keys::of(text),
        eal: eal(&source, raw.eal)?,
        capacity: Capacity {
            cycles_per_second: source.number(
                Some(raw.capacity.cycles_per_second),
                "[capacity] cycles_per_second",
                0,
                1..=1 << 50,
            )?,
            memory_bytes: source.number(Some(raw.capacity.memory_bytes), "[capacity] memory_bytes", 0, 1..=1 << 50)?,
        },
        router,
        workers,
        control,
        ports,
        routes,
        mempool,
        expand,
        store,
        payment,
        schedule,
        sources,
        metrics: Metrics { listen: raw.metrics.listen },
    })
}

fn router(source: &Source<'_>, raw: RawRouter) -> Result<Router, ConfigError> {
    let name = raw.name.get_ref();
    let lawful = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 32 || !name.chars().all(lawful) || name.starts_with('-') {
        let what = format!("`{name}` must be 1 to 32 letters, digits, - and _, since files are named after it");
        return Err(source.invalid(&raw.name.span(), "[router] name", what));
    }
    if raw.policies.get_ref().is_empty() {
        let what = "name at least one policy file, or nobody can upload anything";
        return Err(source.invalid(&raw.policies.span(), "[router] policies", what));
    }
    Ok(Router {
        name: raw.name.into_inner(),
        identity: source.in_folder(raw.identity),
        authority: source.in_folder(raw.authority),
        policies: raw.policies.into_inner().into_iter().map(|path| source.in_folder(path)).collect(),
        revocations: raw.revocations.map(|path| source.in_folder(path)),
        directory: raw.directory.map(|path| source.in_folder(path)),
        verify: raw.verify,
        run_dir: raw.run_dir.unwrap_or_else(|| PathBuf::from("/run/vinet")),
    })
}

/// EAL arguments that vinetd sets itself, from other keys.
const EAL_ARGS_OURS: [(&str, &str); 10] = [
    ("-l", "[workers] cores"),
    ("-c", "[workers] cores"),
    ("--lcores", "[workers] cores"),
    ("--main-lcore", "[control] core"),
    ("--file-prefix", "[router] name"),
    ("-m", "[eal] memory_mb"),
    ("--socket-mem", "[eal] memory_mb"),
    ("--no-huge", "[eal] memory"),
    ("--vdev", "[[port]] device"),
    ("-a", "[[port]] device"),
];

fn eal(source: &Source<'_>, raw: RawEal) -> Result<Eal, ConfigError> {
    for arg in &raw.args {
        let text = arg.get_ref();
        if text.contains('\0') {
            return Err(source.invalid(&arg.span(), "[eal] args", "an argument cannot hold a zero byte"));
        }
        let ours = EAL_ARGS_OURS.iter().find(|(name, _)| text == name || text.starts_with(&format!("{name}=")));
        if let Some((name, key)) = ours {
            return Err(source.invalid(&arg.span(), "[eal] args", format!("`{name}` is set by `{key}`; use that")));
        }
    }
    Ok(Eal {
        memory: raw.memory,
        memory_mb: source.number(raw.memory_mb, "[eal] memory_mb", 256, 32..=1 << 20)?,
        args: raw.args.into_iter().map(Spanned::into_inner).collect(),
    })
}

fn workers(source: &Source<'_>, raw: RawWorkers) -> Result<Workers, ConfigError> {
    let cores = raw.cores.get_ref();
    let refuse = |what: String| Err(source.invalid(&raw.cores.span(), "[workers] cores", what));
    if cores.is_empty() {
        return refuse("at least one worker is needed".to_owned());
    }
    if cores.len() > WORKERS_MAX {
        return refuse(format!("{} workers are more than {WORKERS_MAX}", cores.len()));
    }
    if let Some(core) = cores.iter().enumerate().find_map(|(i, core)| cores[..i].contains(core).then_some(core)) {
        return refuse(format!("core {core} is named twice; a core polls for one worker only"));
    }
    Ok(Workers {
        idle: raw.idle,
        burst: source.number(raw.burst, "[workers] burst", 64, 1..=vinet_fastpath::port::BURST_LEN_MAX)?,
        // The longest window that any policy allows fits whole.
        window_packets: source.number(
            raw.window_packets,
            "[workers] window_packets",
            1024,
            usize::from(vinet_trusted::program::WINDOW_MAX)..=65_536,
        )?,
        cores: raw.cores.into_inner(),
    })
}

fn control(source: &Source<'_>, raw: RawControl, router: &Router, workers: &Workers) -> Result<Control, ConfigError> {
    if let Some(core) = &raw.core
        && workers.cores.contains(core.get_ref())
    {
        let what = format!("core {} already polls for a worker; the control thread needs another", core.get_ref());
        return Err(source.invalid(&core.span(), "[control] core", what));
    }
    let listen = raw.listen.get_ref();
    if listen.is_empty() || listen.len() > 16 {
        let what = "name 1 to 16 addresses with a port, like 192.0.2.1:7400";
        return Err(source.invalid(&raw.listen.span(), "[control] listen", what));
    }
    if let Some(twice) = listen.iter().enumerate().find_map(|(i, a)| listen[..i].contains(a).then_some(a)) {
        return Err(source.invalid(&raw.listen.span(), "[control] listen", format!("{twice} is named twice")));
    }
    let l = raw.limits;
    let half_open_span = l.half_open.as_ref().map(Spanned::span);
    let limits = Limits {
        sessions: source.number(l.sessions, "[control.limits] sessions", 256, 1..=65_536)?,
        half_open: source.number(l.half_open, "[control.limits] half_open", 64, 1..=65_536)?,
        sessions_per_peer: source.number(l.sessions_per_peer, "[control.limits] sessions_per_peer", 16, 1..=65_536)?,
        handshake_timeout_s: source.number(
            l.handshake_timeout_s,
            "[control.limits] handshake_timeout_s",
            5,
            1..=600,
        )?,
        idle_timeout_s: source.number(l.idle_timeout_s, "[control.limits] idle_timeout_s", 60, 1..=86_400)?,
        checks_queued: source.number(l.checks_queued, "[control.limits] checks_queued", 4096, 1..=65_536)?,
        programs: source.number(l.programs, "[control.limits] programs", 1_000_000, 1..=16_777_216)?,
        programs_per_owner: source.number(
            l.programs_per_owner,
            "[control.limits] programs_per_owner",
            1024,
            1..=vinet_session::limits::LIST_LEN_MAX,
        )?,
        lemmas: source.number(l.lemmas, "[control.limits] lemmas", 1024, 0..=65_536)?,
        lemmas_per_owner: source.number(
            l.lemmas_per_owner,
            "[control.limits] lemmas_per_owner",
            64,
            0..=vinet_trusted::lemma::LEMMAS_MAX,
        )?,
    };
    if let Some(span) = half_open_span.filter(|_| limits.half_open > limits.sessions) {
        let what = format!("{} is more than the {} sessions", limits.half_open, limits.sessions);
        return Err(source.invalid(&span, "[control.limits] half_open", what));
    }
    Ok(Control {
        core: raw.core.map(Spanned::into_inner),
        listen: raw.listen.into_inner(),
        admin_socket: raw.admin_socket.unwrap_or_else(|| router.run_dir.join(format!("{}.sock", router.name))),
        admin_access: admin_access(source, raw.admin_mode, raw.admin_group)?,
        log_format: raw.log_format,
        reach: raw.reach,
        reach_time_s: source.number(raw.reach_time_s, "[control] reach_time_s", 3_600, 1..=31_536_000)?,
        limits: Limits { half_open: limits.half_open.min(limits.sessions), ..limits },
    })
}

/// Who may open the admin socket. Connecting to a socket takes the right to write to its file.
fn admin_access(
    source: &Source<'_>,
    mode: Option<Spanned<String>>,
    group: Option<Spanned<String>>,
) -> Result<Access, ConfigError> {
    let group = group.filter(|name| !name.get_ref().is_empty());
    let mut access = Access { mode: if group.is_some() { 0o660 } else { 0o600 }, group: None };
    if let Some(text) = mode {
        let refuse = |what: String| Err(source.invalid(&text.span(), "[control] admin_mode", what));
        access.mode = match u32::from_str_radix(text.get_ref(), 8) {
            Ok(mode) if mode & 0o600 != 0o600 || mode > 0o777 => {
                return refuse(format!("`{}` must let the owner read and write, as 0600 or 0660", text.get_ref()));
            }
            Ok(mode) if mode & 0o007 != 0 => {
                let what = "lets everybody on this machine command the router; use a group";
                return refuse(format!("`{}` {what}: admin_group, and 0660", text.get_ref()));
            }
            Ok(mode) => mode,
            Err(_) => return refuse(format!("`{}` is no mode: three octal digits, as 0660", text.get_ref())),
        };
    }
    if let Some(name) = group {
        if access.mode & 0o060 != 0o060 {
            let what = "admin_mode does not let the group in; leave it out, or make it \"0660\"";
            return Err(source.invalid(&name.span(), "[control] admin_group", what));
        }
        access.group = Some(name.into_inner());
    }
    Ok(access)
}

fn ports(source: &Source<'_>, raw: Spanned<Vec<RawPort>>) -> Result<Vec<Port>, ConfigError> {
    if raw.get_ref().is_empty() || raw.get_ref().len() > PORTS_MAX {
        let what = format!("1 to {PORTS_MAX} ports are needed, each under its own [[port]]");
        return Err(source.invalid(&raw.span(), "[[port]]", what));
    }
    let mut unique = Unique::default();
    let mut links: Vec<(Prefix, String)> = Vec::new();
    let mut controlled_by: Vec<(Prefix, String)> = Vec::new();
    let mut ports = Vec::new();
    for raw in raw.into_inner() {
        ports.push(port(source, raw, &mut unique, &mut links, &mut controlled_by)?);
    }
    Ok(ports)
}

/// Refuses a name that was seen before under the same key.
#[derive(Default)]
struct Unique(HashMap<(&'static str, String), usize>);

impl Unique {
    fn claim(
        &mut self,
        source: &Source<'_>,
        key: &'static str,
        name: &str,
        at: Range<usize>,
    ) -> Result<(), ConfigError> {
        match self.0.insert((key, name.to_owned()), source.line(at.start)) {
            None => Ok(()),
            Some(line) => {
                let what = format!("`{name}` is already used in line {line}; each needs its own");
                Err(source.invalid(&at, format!("[[port]] {key}"), what))
            }
        }
    }
}

fn port(
    source: &Source<'_>,
    raw: RawPort,
    unique: &mut Unique,
    links: &mut Vec<(Prefix, String)>,
    controlled_by: &mut Vec<(Prefix, String)>,
) -> Result<Port, ConfigError> {
    let name = raw.name.get_ref().clone();
    let printable = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    if !printable(&name) || name.len() > 32 {
        let what = format!("`{name}` must be 1 to 32 visible characters without spaces");
        return Err(source.invalid(&raw.name.span(), "[[port]] name", what));
    }
    unique.claim(source, "name", &name, raw.name.span())?;
    let key = |key: &str| format!("[[port]] `{name}` {key}");
    let device = raw.device.get_ref();
    let pci =
        device.split(['.', ':']).count() >= 3 && device.chars().all(|c| c.is_ascii_hexdigit() || ".:".contains(c));
    if !(pci || device.starts_with("net_") && printable(device)) {
        let what = format!(
            "`{device}` is neither a PCI address (0000:03:00.0) nor a virtual device (net_af_packet0,iface=eth1)"
        );
        return Err(source.invalid(&raw.device.span(), key("device"), what));
    }
    let device_name = device.split(',').next().unwrap_or(device);
    unique.claim(source, "device", device_name, raw.device.span())?;
    let (tap, tap_span) = match raw.tap {
        Some(tap) => (tap.get_ref().clone(), tap.span()),
        None => (format!("vi-{name}"), raw.name.span()),
    };
    // The kernel's limit is 15 bytes, and it refuses slashes, colons and spaces.
    if !printable(&tap) || tap.len() > 15 || tap.contains(['/', ':', '%']) || tap.starts_with('.') {
        let what = format!("`{tap}` cannot name a network interface: 1 to 15 visible characters without / : %");
        return Err(source.invalid(&tap_span, key("tap"), what));
    }
    unique.claim(source, "tap", &tap, tap_span)?;

    let mtu_span = raw.mtu.as_ref().map_or(raw.name.span(), Spanned::span);
    let mtu = source.number(raw.mtu, key("mtu"), 1500, 576..=9600)?;
    let mut addresses: Vec<AddrLen> = Vec::new();
    for spanned in &raw.addresses {
        let address = *spanned.get_ref();
        check_address(address).map_err(|what| source.invalid(&spanned.span(), key("addresses"), what))?;
        unique.claim(source, "addresses", &address.addr.to_string(), spanned.span())?;
        // RFC 8200 section 5: a link below 1280 bytes cannot carry IPv6.
        if address.addr.is_ipv6() && mtu < 1280 {
            let what = format!("{mtu} is below 1280, the least that IPv6 ({address}) needs");
            return Err(source.invalid(&mtu_span, key("mtu"), what));
        }
        if let Some((other, port)) = links.iter().find(|(p, port)| *port != name && p.overlaps(address.prefix())) {
            let what = format!("{address} is in the same network as {other} of port `{port}`");
            return Err(source.invalid(&spanned.span(), key("addresses"), what));
        }
        links.push((address.prefix(), name.clone()));
        addresses.push(address);
    }
    let controlled = match raw.controlled {
        None => None,
        Some(list) if list.get_ref().is_empty() => {
            let what = "controls nothing, so every source would be refused; leave the key out for an uplink";
            return Err(source.invalid(&list.span(), key("controlled"), what));
        }
        Some(list) => {
            let mut prefixes = Vec::new();
            for spanned in list.into_inner() {
                let Cidr(prefix) = *spanned.get_ref();
                if let Some((other, port)) = controlled_by.iter().find(|(p, _)| p.overlaps(prefix)) {
                    let what = format!("{prefix} overlaps {other} of port `{port}`; a source is behind one port");
                    return Err(source.invalid(&spanned.span(), key("controlled"), what));
                }
                controlled_by.push((prefix, name.clone()));
                prefixes.push(prefix);
            }
            Some(prefixes)
        }
    };
    if raw.vlan.len() > 2 {
        return Err(source.invalid(&raw.vlan[2].span(), key("vlan"), "at most two tags, the outer one first"));
    }
    let mut vlan = Vec::new();
    for tag in raw.vlan {
        vlan.push(source.number(Some(tag), key("vlan"), 0, 1..=4094)?);
    }
    let target_span = raw.codel_target_us.as_ref().map_or(raw.name.span(), Spanned::span);
    let codel_target_us = source.number(raw.codel_target_us, key("codel_target_us"), 5000, 10..=10_000_000)?;
    let codel_interval_ms = source.number(raw.codel_interval_ms, key("codel_interval_ms"), 100, 1..=100_000)?;
    if codel_target_us >= 1000 * codel_interval_ms {
        let what = format!(
            "{codel_target_us} µs is not less than codel_interval_ms, {codel_interval_ms} ms; RFC 8289 advises 5 to \
             10 % of it"
        );
        return Err(source.invalid(&target_span, key("codel_target_us"), what));
    }
    Ok(Port {
        rx_ring: source.number(raw.rx_ring, key("rx_ring"), 1024, 32..=16_384)?,
        tx_ring: source.number(raw.tx_ring, key("tx_ring"), 1024, 32..=16_384)?,
        queue: raw.queue,
        queue_depth: source.number(raw.queue_depth, key("queue_depth"), 1024, 64..=16_384)?,
        codel_target_us,
        codel_interval_ms,
        device: raw.device.into_inner(),
        name,
        tap,
        addresses,
        mtu,
        controlled,
        vlan,
    })
}

/// Whether a router can have the address on a link.
fn check_address(address: AddrLen) -> Result<(), String> {
    let ip = address.addr;
    let prefix = address.prefix();
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || address.len == 0 {
        return Err(format!("{address} cannot be a router's address on a link"));
    }
    if let IpAddr::V4(v4) = ip
        && address.len < 31
    {
        if Addr::from(ip) == prefix.addr() {
            return Err(format!("{address} is the address of the network itself; take one inside it"));
        }
        if v4.is_broadcast() || Addr::from(ip) == prefix.last() {
            return Err(format!("{address} is the broadcast address of its network; take another"));
        }
    }
    Ok(())
}

fn routes(source: &Source<'_>, raw: Vec<RawRoute>, ports: &[Port]) -> Result<Vec<Route>, ConfigError> {
    let mut routes: Vec<Route> = Vec::new();
    for raw in raw {
        let Cidr(to) = *raw.to.get_ref();
        let via = raw.via.as_ref().map(|via| *via.get_ref());
        if let Some(span) = raw.via.as_ref().map(Spanned::span)
            && via.is_some_and(|via| Addr::from(via).width() != to.addr().width())
        {
            return Err(source.invalid(&span, "[[route]] via", "the next hop is of another family than `to`"));
        }
        let port = match (&raw.port, via) {
            (Some(name), _) => ports.iter().position(|port| port.name == *name.get_ref()).ok_or_else(|| {
                let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
                let what = format!("there is no port `{}`; there are: {}", name.get_ref(), names.join(", "));
                source.invalid(&name.span(), "[[route]] port", what)
            })?,
            (None, Some(via)) => ports.iter().position(|port| on_link(port, via)).ok_or_else(|| {
                let what = format!("{via} is in the network of no port; give the port's addresses that prefix");
                source.invalid(&raw.to.span(), "[[route]] via", what)
            })?,
            (None, None) => {
                let what = format!("{to} needs `via`, the next hop, or `port`, where it is on the link");
                return Err(source.invalid(&raw.to.span(), "[[route]] to", what));
            }
        };
        if let (Some(via), Some(span)) = (via, raw.via.as_ref().map(Spanned::span)) {
            let link_local = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if !link_local && !on_link(&ports[port], via) {
                let what = format!("{via} is not in a network of port `{}`, so it cannot be reached", ports[port].name);
                return Err(source.invalid(&span, "[[route]] via", what));
            }
            if ports.iter().flat_map(|port| &port.addresses).any(|address| address.addr == via) {
                return Err(source.invalid(&span, "[[route]] via", format!("{via} is this router itself")));
            }
        }
        if routes.iter().any(|route| route.to == to) {
            return Err(source.invalid(&raw.to.span(), "[[route]] to", format!("there is already a route to {to}")));
        }
        routes.push(Route { to, via, port });
    }
    Ok(routes)
}

fn expand(source: &Source<'_>, raw: Vec<RawExpand>) -> Result<Vec<Expand>, ConfigError> {
    let mut all: Vec<Expand> = Vec::new();
    for raw in raw {
        let digits = |text: &Spanned<String>, key, what: &str| -> Result<PublicKey, ConfigError> {
            let parsed = text.get_ref().parse();
            parsed.map_err(|_| source.invalid(&text.span(), key, format!("{what}: 64 hexadecimal digits")))
        };
        let expand = Expand {
            identity: source.in_folder(raw.identity),
            router: digits(&raw.router, "[[expand]] router", "the public key of a router")?,
            program: digits(&raw.program, "[[expand]] program", "the name of a program")?.0,
            port: source.number(raw.port, "[[expand]] port", 7401, 1..=u16::MAX)?,
        };
        if all.contains(&expand) {
            let what = "this program on this router is named twice";
            return Err(source.invalid(&raw.program.span(), "[[expand]] program", what));
        }
        if all.len() == RULES_MAX {
            let what = format!("more than {RULES_MAX} programs");
            return Err(source.invalid(&raw.program.span(), "[[expand]] program", what));
        }
        all.push(expand);
    }
    Ok(all)
}

fn on_link(port: &Port, addr: IpAddr) -> bool {
    port.addresses.iter().any(|address| address.prefix().contains(addr.into()))
}

fn mempool(source: &Source<'_>, raw: RawMempool, ports: &[Port], workers: &Workers) -> Result<Mempool, ConfigError> {
    // Every descriptor, every queue behind a ring, every window and every burst can hold a buffer at the same time.
    let rings: usize =
        ports.iter().map(|p| usize::from(p.rx_ring) + usize::from(p.tx_ring) + usize::from(p.queue_depth)).sum();
    let cache = source.number(raw.cache, "[mempool] cache", 256, 0..=512)?;
    let count = workers.cores.len();
    // So can every ring between two workers, in either direction.
    let between = count * (count - 1) * vinet_fastpath::settings::HANDOVER_LEN_DEFAULT;
    let of_one = rings + workers.window_packets + 2 * workers.burst + cache as usize;
    let held = u32::try_from(count * of_one + between).unwrap_or(u32::MAX);
    let span = raw.buffers.as_ref().map(Spanned::span);
    let default = held.saturating_add(2048).next_power_of_two().saturating_sub(1);
    let buffers = source.number(raw.buffers, "[mempool] buffers", default, 512..=16_777_215)?;
    if let Some(span) = span.filter(|_| buffers < held) {
        let what = format!("{buffers} is less than the {held} that rings, queues, windows and caches can hold at once");
        return Err(source.invalid(&span, "[mempool] buffers", what));
    }
    Ok(Mempool { buffers, cache })
}
