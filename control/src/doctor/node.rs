//! What a router needs of the system around it: rights, DPDK, kernel features, files, addresses, the time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use nix::unistd::{AccessFlags, access};
use vinet_fastpath::eal::{dpdk_version, drivers_folder};
use vinet_session::identity::{Authority, Identity};

use super::devices::Device;
use super::drivers::{Drivers, doubles};
use super::machine::{Machine, Module};
use super::{Report, to_do, to_type};
use crate::config::Config;
use crate::daemon::check_mtus;
use crate::policies::Policies;

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
pub(super) const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_RAWIO: u32 = 17;
const CAP_SYS_ADMIN: u32 = 21;

/// Debian's packages of DPDK's network drivers, of the buses that they sit on, and of packet pools.
const INSTALL_DRIVERS: &str =
    "apt-get install --no-install-recommends librte-meta-net librte-meta-bus librte-meta-mempool";

/// Room for the lock, the admin socket and logs beside them.
const RUN_DIR_MIB_MIN: u64 = 16;

/// Drift between the machine's two clocks that is still no surprise, in seconds.
const CLOCK_DRIFT_S_MAX: u64 = 120;

/// Files that time daemons leave while they keep the clock right: systemd-timesyncd, chrony, ntpd, OpenNTPD.
const TIME_DAEMONS: [&str; 6] = [
    "/run/systemd/timesync/synchronized",
    "/run/chrony/chronyd.pid",
    "/run/chrony.pid",
    "/run/ntpd.pid",
    "/run/ntpsec/ntpd.pid",
    "/run/openntpd.sock",
];

/// The effective capabilities of this process.
pub(super) fn capabilities(machine: &Machine) -> Option<u64> {
    u64::from_str_radix(status_field(machine, "CapEff:")?.first()?, 16).ok()
}

fn status_field(machine: &Machine, key: &str) -> Option<Vec<String>> {
    let text = machine.text("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

/// Whether this process may do what a router must.
pub(super) fn privileges(machine: &Machine, config: Option<&Config>, report: &mut Report) {
    // Uid: real, effective, saved, file system.
    let effective = status_field(machine, "Uid:").and_then(|uids| uids.into_iter().nth(1));
    if effective.is_some_and(|uid| uid != "0") {
        let words = "run vinetd, and this, as root; much of what follows cannot be seen otherwise";
        return report.fail("privileges", "", "not root", to_do(words));
    }
    let Some(set) = capabilities(machine) else { return };
    let devices = |wanted: fn(&Device) -> bool| {
        config.is_none_or(|config| config.ports.iter().any(|port| wanted(&Device::of(&port.device))))
    };
    let needed = [
        (CAP_NET_ADMIN, "CAP_NET_ADMIN", true),
        (CAP_NET_RAW, "CAP_NET_RAW", devices(|d| matches!(d, Device::AfPacket(_) | Device::AfXdp(_)))),
        (CAP_SYS_ADMIN, "CAP_SYS_ADMIN", devices(|d| matches!(d, Device::Pci(_) | Device::AfXdp(_)))),
        (CAP_IPC_LOCK, "CAP_IPC_LOCK", devices(|d| matches!(d, Device::Pci(_) | Device::AfXdp(_)))),
        (CAP_SYS_RAWIO, "CAP_SYS_RAWIO", devices(|d| matches!(d, Device::Pci(_)))),
    ];
    let missing: Vec<&str> =
        needed.iter().filter(|(bit, _, wanted)| *wanted && set & (1 << bit) == 0).map(|(_, name, _)| *name).collect();
    if missing.is_empty() {
        return report.ok("privileges", "", "root, with the capabilities that the ports need");
    }
    let words = "this is root of a container or a restricted service: give it these capabilities, or start it outside";
    report.fail("privileges", "", format!("root without {}", missing.join(", ")), to_do(words));
}

/// DPDK and its drivers.
pub(super) fn dpdk(machine: &Machine, report: &mut Report) -> Drivers {
    let version = dpdk_version();
    let Some(folder) = drivers_folder().and_then(Path::to_str) else {
        report.fail("dpdk", "", format!("{version}, built without a folder of drivers"), to_type(INSTALL_DRIVERS));
        return Drivers::default();
    };
    let drivers = Drivers::read(machine, folder);
    if drivers.len() == 0 {
        report.fail("dpdk", "", format!("{version}, and no network drivers in {folder}"), to_type(INSTALL_DRIVERS));
    } else if let Some(double) = doubles(machine, folder).into_iter().next() {
        report.fail(
            "dpdk",
            "",
            format!("{version}, whose {double} is there as several files, which ends the program that loads them"),
            to_do(format!("leave one, with its other names as links to it (ls -lL {folder}/{double}.so*), or install its package anew")),
        );
    } else {
        report.ok("dpdk", "", format!("{version}, {} network drivers in {folder}", drivers.len()));
    }
    drivers
}

/// Twins are TAP devices.
pub(super) fn tun(machine: &Machine, report: &mut Report) {
    if machine.exists("/dev/net/tun") {
        return report.ok("tun", "", "/dev/net/tun is there, for the ports' twins");
    }
    match machine.module("tun") {
        Module::Loadable => report.fail("tun", "", "the module is not loaded", to_type("modprobe tun")),
        Module::There => report.fail(
            "tun",
            "",
            "the kernel has it, and /dev/net/tun is missing",
            to_type("mkdir -p /dev/net && mknod -m 0666 /dev/net/tun c 10 200"),
        ),
        Module::Absent => report.fail("tun", "", "this kernel has no TUN/TAP", to_do("take a kernel with CONFIG_TUN")),
    }
}

/// What the slow path uses beside TAP, where the configuration calls for it.
pub(super) fn kernel_features(machine: &Machine, config: &Config, report: &mut Report) {
    let shared =
        config.ports.iter().any(|port| matches!(Device::of(&port.device), Device::AfPacket(_) | Device::AfXdp(_)));
    if shared {
        match machine.module("nf_tables") {
            Module::There => report.ok("nf_tables", "", "in the kernel"),
            Module::Loadable => report.ok("nf_tables", "", "a module, which the kernel loads when it is asked for"),
            Module::Absent if machine.has_kernel_symbol("nf_tables_newtable") => {
                report.ok("nf_tables", "", "in the kernel")
            }
            Module::Absent => report.fail(
                "nf_tables",
                "",
                "this kernel shows none, and it keeps the kernel off an interface beneath a port",
                to_do("take a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_NETDEV"),
            ),
        }
    }
    let six = config.ports.iter().flat_map(|port| &port.addresses).any(|address| address.addr.is_ipv6());
    if six {
        if machine.exists("/proc/sys/net/ipv6") {
            report.ok("ipv6", "", "in the kernel");
        } else {
            report.fail(
                "ipv6",
                "",
                "not in this kernel, and ports have IPv6 addresses",
                to_do("start the kernel without ipv6.disable=1, or take the IPv6 addresses out of the configuration"),
            );
        }
    }
}

/// Whether a router of this name runs already; says so if it does.
pub(super) fn instance(machine: &Machine, config: &Config, report: &mut Report) -> bool {
    let name = &config.router.name;
    let lock = machine.path(config.router.run_dir.join(format!("{name}.lock")));
    let holder = std::fs::metadata(lock).ok().and_then(|lock| {
        // A line: number, FLOCK, ADVISORY, WRITE, process, major:minor:inode, start, end.
        let text = machine.text("/proc/locks")?;
        let inode = lock.ino().to_string();
        text.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let held = words.get(1) == Some(&"FLOCK") && words.get(3) == Some(&"WRITE");
            let same = words.get(5).and_then(|id| id.rsplit(':').next()) == Some(inode.as_str());
            (held && same).then(|| words[4].to_owned())
        })
    });
    match &holder {
        Some(process) => report.fail(
            "instance",
            "",
            format!("a router named `{name}` runs already, as process {process}"),
            to_do("stop it before you start another, or give that one a [router] name of its own"),
        ),
        None => report.ok("instance", "", format!("no router named `{name}` runs")),
    }
    holder.is_some()
}

/// The keys and policies that the configuration names.
pub(super) fn files(machine: &Machine, config: &Config, report: &mut Report) {
    let router = &config.router;
    let identity = Identity::load(&router.identity);
    let authority = Authority::load(&router.authority);
    match (&identity, &authority) {
        (Err(error), _) => report.fail(
            "identity",
            "",
            error.to_string(),
            to_do("make one where the authority's secret key is: vinet ca router --name NAME --address ADDRESS --out FILE"),
        ),
        (Ok(_), Err(error)) => report.fail(
            "authority",
            "",
            error.to_string(),
            to_do("copy authority.pub from where `vinet ca init` was run"),
        ),
        (Ok(identity), Ok(authority)) => match authority.router(identity.certificate(), machine.now_s) {
            Err(fault) => report.fail(
                "identity",
                "",
                format!("{}: {fault}", router.identity.display()),
                to_do("have the authority issue a new one: vinet ca router --name NAME --address ADDRESS --out FILE"),
            ),
            Ok(_) => {
                let left_s = identity.certificate().validity().not_after_s.saturating_sub(machine.now_s);
                report.ok("identity", "", format!("vouched for by the authority, for {} more days", left_s / 86_400));
            }
        },
    }
    match Policies::read(&router.policies) {
        Err(error) => report.fail("policies", "", error.to_string(), to_do("the files are [router] policies")),
        Ok(policies) => match check_mtus(config, &policies) {
            Err(error) => report.fail("policies", "", error.to_string(), to_do("lower the port's mtu")),
            Ok(()) => {
                let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
                report.ok("policies", "", names.join(", "));
            }
        },
    }
}

/// The folder of lock and admin socket: there or to be made, and with room.
pub(super) fn run_dir(machine: &Machine, config: &Config, report: &mut Report) {
    let wanted = &config.router.run_dir;
    let shown = wanted.display();
    let mut folder: PathBuf = machine.path(wanted);
    let there = folder.is_dir();
    while !folder.exists() && folder.pop() {}
    if !folder.is_dir() || access(&folder, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        let words = "run as root, or set [router] run_dir to a folder of yours";
        return report.fail("run_dir", "", format!("{shown} cannot be written in"), to_do(words));
    }
    let free_mib = nix::sys::statvfs::statvfs(&folder).map(|fs| (fs.blocks_available() * fs.fragment_size()) >> 20);
    match free_mib {
        Ok(free) if free < RUN_DIR_MIB_MIN => report.fail(
            "run_dir",
            "",
            format!("{shown} has {free} MiB free"),
            to_do(format!("make room there: at least {RUN_DIR_MIB_MIN} MiB (df {shown} shows the file system)")),
        ),
        Ok(free) => {
            let made = if there { "" } else { ", and is made at the start" };
            report.ok("run_dir", "", format!("{shown} can be written in, has {free} MiB free{made}"));
        }
        Err(error) => {
            report.warn("run_dir", "", format!("{shown}: {error}"), to_do("see whether its file system is well"))
        }
    }
}

/// Whether sessions can be accepted where the configuration says.
pub(super) fn listen(machine: &Machine, config: &Config, running: bool, report: &mut Report) {
    let mut taken = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        taken.extend(machine.text(file).unwrap_or_default().lines().filter_map(listener));
    }
    let ours: Vec<IpAddr> = config.ports.iter().flat_map(|port| port.addresses.iter().map(|a| a.addr)).collect();
    for wanted in &config.control.listen {
        let subject = wanted.to_string();
        let is_ours = ours.contains(&wanted.ip());
        let is_here = wanted.ip().is_loopback()
            || wanted.ip().is_unspecified()
            || machine.addresses.iter().any(|(_, ip)| *ip == wanted.ip());
        if taken.iter().any(|other| collide(*other, *wanted)) {
            if running {
                report.ok("listen", &subject, "taken, by the router that runs");
                continue;
            }
            report.fail(
                "listen",
                &subject,
                "another program listens there",
                to_do(format!("name another port in [control] listen; who it is: ss -ltnp sport = :{}", wanted.port())),
            );
        } else if is_ours {
            report.ok("listen", &subject, "free, reached in-band through its port");
        } else if is_here {
            report.ok("listen", &subject, "free, reached through the kernel");
        } else {
            report.fail(
                "listen",
                &subject,
                "no port and no interface has this address",
                to_do("give it to a port (addresses) or to an interface, or take it out of [control] listen"),
            );
        }
    }
}

/// The address of a line of `/proc/net/tcp` or `tcp6`, where it listens.
fn listener(line: &str) -> Option<SocketAddr> {
    /// TCP_LISTEN
    const LISTEN: &str = "0A";
    let words: Vec<&str> = line.split_whitespace().collect();
    if *words.get(3)? != LISTEN {
        return None;
    }
    let (address, port) = words[1].split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of 32 bits, each printed in the machine's own order of bytes.
    let bytes: Vec<u8> = (0..address.len() / 8)
        .map(|i| u32::from_str_radix(address.get(8 * i..8 * i + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<Vec<_>>>()?
        .concat();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?),
    };
    Some(SocketAddr::new(ip, port))
}

/// Whether two sockets cannot listen at once. One on `::` takes IPv4 as well, as far as can be seen.
fn collide(there: SocketAddr, wanted: SocketAddr) -> bool {
    let any = |a: IpAddr, b: IpAddr| {
        a == IpAddr::from(Ipv6Addr::UNSPECIFIED) || a == IpAddr::from(Ipv4Addr::UNSPECIFIED) && b.is_ipv4()
    };
    let (a, b) = (there.ip().to_canonical(), wanted.ip());
    there.port() == wanted.port() && (a == b || any(a, b) || any(b, a))
}

/// Whether the clock can be believed: lifetimes and certificates end by it.
pub(super) fn time(machine: &Machine, config: Option<&Config>, report: &mut Report) {
    let now_s = machine.now_s;
    let newest = config.and_then(|config| {
        let router = &config.router;
        [&config.file, &router.identity, &router.authority]
            .into_iter()
            .filter_map(|file| {
                let modified = file.metadata().ok()?.modified().ok()?;
                Some((modified.duration_since(UNIX_EPOCH).ok()?.as_secs(), file))
            })
            .max()
    });
    if let Some((at_s, file)) = newest
        && at_s > now_s + CLOCK_DRIFT_S_MAX
    {
        return report.fail(
            "time",
            "",
            format!("the clock is {} s behind the last change of {}", at_s - now_s, file.display()),
            to_type("apt-get install --no-install-recommends chrony && chronyc -a makestep"),
        );
    }
    if let Some(rtc_s) = machine.number("/sys/class/rtc/rtc0/since_epoch")
        && rtc_s.abs_diff(now_s) > CLOCK_DRIFT_S_MAX
    {
        return report.warn(
            "time",
            "",
            format!("the system's clock and the hardware's are {} s apart", rtc_s.abs_diff(now_s)),
            to_do("see which is right; hwclock --systohc sets the hardware's to the system's"),
        );
    }
    if TIME_DAEMONS.iter().any(|file| machine.exists(file)) {
        return report.ok("time", "", "a time daemon keeps the clock");
    }
    report.warn(
        "time",
        "",
        "no time daemon is seen; lifetimes and certificates end by this clock",
        to_type("apt-get install --no-install-recommends chrony"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_read_as_the_kernel_prints_them() {
        let v4 = "   0: 0100007F:1CE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0";
        assert_eq!(listener(v4), Some("127.0.0.1:7400".parse().unwrap()));
        let v6 = "   1: B80D0120000000000000000001000000:1CE8 00000000000000000000000000000000:0000 0A 0 0";
        assert_eq!(listener(v6), Some("[2001:db8::1]:7400".parse().unwrap()));
        assert_eq!(listener(&v4.replace(" 0A ", " 01 ")), None);
        assert_eq!(listener("  sl  local_address rem_address   st tx_queue"), None);
        assert_eq!(listener("0: zz:1CE8 0 0A"), None);
    }

    #[test]
    fn a_socket_on_any_address_collides_with_all_of_its_family() {
        let hits = |there: &str, wanted: &str| collide(there.parse().unwrap(), wanted.parse().unwrap());
        assert!(hits("192.0.2.1:7400", "192.0.2.1:7400") && hits("0.0.0.0:7400", "192.0.2.1:7400"));
        assert!(hits("[::]:7400", "192.0.2.1:7400") && hits("192.0.2.1:7400", "0.0.0.0:7400"));
        assert!(!hits("192.0.2.2:7400", "192.0.2.1:7400") && !hits("0.0.0.0:7401", "192.0.2.1:7400"));
        assert!(!hits("0.0.0.0:7400", "[2001:db8::1]:7400"));
    }
}
