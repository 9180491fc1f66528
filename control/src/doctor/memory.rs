//! Memory: hugepages, what the packet buffers take of them, and how much may be locked.

use vinet_fastpath::port::mbuf::MempoolSettings;

use super::cores::node_of;
use super::devices::Device;
use super::machine::Machine;
use super::node::{CAP_IPC_LOCK, capabilities};
use super::{Remedy, Report, to_do, to_type};
use crate::config::{Config, MemoryKind};
use crate::daemon::packet_len_max;

const SIZES: &str = "/sys/kernel/mm/hugepages";

/// Bytes of a packet buffer beside its data: `struct rte_mbuf` (128), the pool's header (64), padding to memory channels
/// (up to 64).
const BUFFER_OVERHEAD_LEN: u64 = 128 + 64 + 64;

/// Hugepages of one size.
#[derive(Clone, Copy, Debug)]
struct Pages {
    kib: u64,
    reserved: u64,
    free: u64,
}

fn pages_in(machine: &Machine, folder: &str) -> Vec<Pages> {
    let sizes = machine.names(folder).into_iter().filter_map(|name| {
        let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let number = |file: &str| machine.number(format!("{folder}/{name}/{file}"));
        Some(Pages { kib, reserved: number("nr_hugepages")?, free: number("free_hugepages")? })
    });
    sizes.collect()
}

fn free_mib(pages: &[Pages]) -> u64 {
    pages.iter().map(|size| size.kib * size.free / 1024).sum()
}

fn told(pages: &[Pages]) -> String {
    let there: Vec<String> = pages
        .iter()
        .filter(|size| size.reserved > 0)
        .map(|size| format!("{} of {} MiB, {} free", size.reserved, size.kib / 1024, size.free))
        .collect();
    if there.is_empty() { "none are reserved".to_owned() } else { there.join("; ") }
}

/// What is reserved, for no configuration in particular.
pub(super) fn hugepages_there(machine: &Machine, report: &mut Report) {
    let pages = pages_in(machine, SIZES);
    if pages.iter().any(|size| size.reserved > 0) {
        return report.ok("hugepages", "", told(&pages));
    }
    let words = "a real NIC needs them; `vinetd doctor --config FILE` says how many";
    report.warn("hugepages", "", told(&pages), to_do(words));
}

/// Whether the configured memory can be had.
pub(super) fn hugepages(machine: &Machine, config: &Config, running: bool, report: &mut Report) {
    let wanted = u64::from(config.eal.memory_mb);
    let pages = pages_in(machine, SIZES);
    let free = free_mib(&pages);
    // Without an IOMMU a device writes to physical addresses, which only hugepages have for good.
    let devices: Vec<Device> = config.ports.iter().map(|port| Device::of(&port.device)).collect();
    let physical = devices.iter().any(|device| match device {
        Device::Pci(address) => {
            let folder = format!("/sys/bus/pci/devices/{address}");
            machine.exists(&folder) && !machine.exists(format!("{folder}/iommu_group"))
        }
        _ => false,
    });
    let found = format!("{}; {wanted} MiB are configured", told(&pages));
    if config.eal.memory == MemoryKind::NoHuge {
        if physical {
            let words = "set [eal] memory = \"huge\": without an IOMMU a NIC needs memory that stays where it is";
            return report.fail("hugepages", "", "memory = \"no-huge\" with a NIC and no IOMMU", to_do(words));
        }
        return report.ok("hugepages", "", "not wanted: memory = \"no-huge\"");
    }
    if free >= wanted || running {
        report.ok(
            "hugepages",
            "",
            if free >= wanted { found } else { format!("{found}, and the router that runs has them") },
        );
        return on_the_workers_nodes(machine, config, wanted, running, report);
    }
    let remedy = reserve(machine, &pages, wanted - free);
    if config.eal.memory == MemoryKind::Huge || physical {
        report.fail("hugepages", "", found, remedy);
    } else {
        report.warn(
            "hugepages",
            "",
            format!("{found}; without them ordinary pages are taken, which is slower"),
            remedy,
        );
    }
}

/// How to reserve that many MiB more, in pages of the kernel's usual size.
fn reserve(machine: &Machine, pages: &[Pages], mib: u64) -> Remedy {
    let usual_kib = machine.meminfo("Hugepagesize").unwrap_or(2048).max(1);
    let reserved = pages.iter().find(|size| size.kib == usual_kib).map_or(0, |size| size.reserved);
    let more = (mib * 1024).div_ceil(usual_kib);
    let available_mib = machine.meminfo("MemAvailable").unwrap_or(u64::MAX) / 1024;
    if available_mib < mib {
        return to_do(format!(
            "{mib} MiB more are needed and {available_mib} MiB of memory are available: lower [eal] memory_mb, or end what \
             takes the memory"
        ));
    }
    to_type(format!("echo {} > /proc/sys/vm/nr_hugepages", reserved + more))
}

/// Whether the pages are where the workers are: a worker far from its buffers pays for every packet.
fn on_the_workers_nodes(machine: &Machine, config: &Config, wanted: u64, running: bool, report: &mut Report) {
    let nodes = machine.names("/sys/devices/system/node").iter().filter(|name| node_number(name).is_some()).count();
    if nodes < 2 || running {
        return;
    }
    let mut seen = Vec::new();
    for core in &config.workers.cores {
        let Some(node) = node_of(machine, *core).filter(|node| !seen.contains(node)) else { continue };
        seen.push(node);
        let folder = format!("/sys/devices/system/node/node{node}/hugepages");
        let pages = pages_in(machine, &folder);
        let free = free_mib(&pages);
        if free >= wanted {
            continue;
        }
        let Some(size) = pages.iter().min_by_key(|size| size.kib) else { continue };
        let more = ((wanted - free) * 1024).div_ceil(size.kib.max(1));
        report.warn(
            "hugepages",
            &format!("node {node}"),
            format!("{free} MiB are free on the memory node of core {core}; {wanted} MiB are configured"),
            to_type(format!("echo {} > {folder}/hugepages-{}kB/nr_hugepages", size.reserved + more, size.kib)),
        );
    }
}

fn node_number(name: &str) -> Option<u32> {
    name.strip_prefix("node")?.parse().ok()
}

/// Whether the packet buffers fit into the configured memory.
pub(super) fn buffers(config: &Config, report: &mut Report) {
    let longest = config.ports.iter().map(packet_len_max).max().unwrap_or(1500);
    let settings = MempoolSettings::for_mtu(config.mempool.buffers, longest);
    let bytes = u64::from(settings.buffers) * (u64::from(settings.data_room_len) + BUFFER_OVERHEAD_LEN);
    let mib = bytes.div_ceil(1 << 20);
    let found =
        format!("{} of {} bytes take {mib} of {} MiB", settings.buffers, settings.data_room_len, config.eal.memory_mb);
    if mib < u64::from(config.eal.memory_mb) {
        return report.ok("packet buffers", "", found);
    }
    let words = format!(
        "raise [eal] memory_mb to {}, or make [mempool] buffers, the rings or queue_depth smaller",
        mib * 5 / 4
    );
    report.fail("packet buffers", "", found, to_do(words));
}

/// Whether the packet memory may be locked, as vfio and XDP sockets do.
pub(super) fn locked(machine: &Machine, config: &Config, report: &mut Report) {
    let locks = config.ports.iter().any(|port| matches!(Device::of(&port.device), Device::Pci(_) | Device::AfXdp(_)));
    let limits = machine.text("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let Some(soft) = line.and_then(|line| line.split_whitespace().next()) else { return };
    if !locks {
        return;
    }
    if capabilities(machine).is_some_and(|set| set & (1 << CAP_IPC_LOCK) != 0) {
        return report.ok("locked memory", "", "CAP_IPC_LOCK lifts the limit");
    }
    match soft.parse::<u64>() {
        Ok(bytes) if bytes >> 20 < u64::from(config.eal.memory_mb) => report.fail(
            "locked memory",
            "",
            format!("at most {} MiB; {} MiB are configured", bytes >> 20, config.eal.memory_mb),
            to_type("ulimit -l unlimited"),
        ),
        Ok(bytes) => report.ok("locked memory", "", format!("up to {} MiB", bytes >> 20)),
        Err(_) => report.ok("locked memory", "", "without limit"),
    }
}
