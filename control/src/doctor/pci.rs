//! NICs on PCI: which driver has them, which should, and the line that makes it so.
//!
//! A device is given to DPDK by `vfio-pci`, where an IOMMU keeps it to the router's memory; without an IOMMU by
//! `uio_pci_generic`, or by Intel's `igb_uio` where that was built. A device whose driver shares it with the kernel (mlx4,
//! mlx5) stays where it is.

use super::cores::node_of;
use super::drivers::{Driver, Drivers};
use super::machine::{Machine, Module};
use super::{Remedy, Report, to_do, to_type};
use crate::config::Config;

const DEVICES: &str = "/sys/bus/pci/devices";
/// The base class of network controllers.
const CLASS_NETWORK: &str = "0x02";
/// Drivers that hand a device to user space, the safest first.
const FOR_USER_SPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
const NO_IOMMU: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
const UNSAFE_INTERRUPTS: &str = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";

/// What `/sys` says about one PCI device.
struct Nic<'a> {
    machine: &'a Machine,
    address: &'a str,
    folder: String,
    /// The driver that it is bound to.
    bound: Option<String>,
    /// Its interface in the kernel.
    interface: Option<String>,
    /// The number of its IOMMU group.
    group: Option<String>,
}

impl<'a> Nic<'a> {
    fn find(machine: &'a Machine, address: &'a str) -> Option<Nic<'a>> {
        let folder = format!("{DEVICES}/{address}");
        if !machine.exists(&folder) {
            return None;
        }
        // A virtio NIC has a device of its own kind in between.
        let between = machine.names(&folder).into_iter().filter(|name| name.starts_with("virtio"));
        let interface = std::iter::once(folder.clone())
            .chain(between.map(|name| format!("{folder}/{name}")))
            .find_map(|folder| machine.names(format!("{folder}/net")).into_iter().next());
        Some(Nic {
            bound: machine.link_name(format!("{folder}/driver")),
            group: machine.link_name(format!("{folder}/iommu_group")),
            machine,
            address,
            interface,
            folder,
        })
    }

    fn hex(&self, file: &str) -> u32 {
        let text = self.machine.text(format!("{}/{file}", self.folder)).unwrap_or_default();
        u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0)
    }

    fn ids(&self) -> [u32; 4] {
        ["vendor", "device", "subsystem_vendor", "subsystem_device"].map(|file| self.hex(file))
    }

    fn is_network(&self) -> bool {
        self.machine.text(format!("{}/class", self.folder)).is_some_and(|class| class.starts_with(CLASS_NETWORK))
    }

    /// What the node would lose with it.
    fn used_for(&self) -> Option<String> {
        let interface = self.interface.as_ref()?;
        let addresses: Vec<String> = self.machine.addresses_of(interface).iter().map(ToString::to_string).collect();
        let route = self.machine.has_default_route(interface);
        match (addresses.is_empty(), route) {
            (true, false) => None,
            (false, false) => Some(format!("{interface} has {}", addresses.join(", "))),
            (true, true) => Some(format!("{interface} carries the default route")),
            (false, true) => Some(format!("{interface} has {} and carries the default route", addresses.join(", "))),
        }
    }

    /// The driver for user space that this node can give it.
    fn best_driver(&self) -> Option<&'static str> {
        let no_iommu = self.machine.text(NO_IOMMU).as_deref() == Some("Y");
        FOR_USER_SPACE.into_iter().find(|driver| {
            let has = self.machine.module(driver) != Module::Absent;
            has && (*driver != "vfio-pci" || self.group.is_some() || no_iommu)
        })
    }

    /// The line that binds it.
    fn bind(&self) -> Remedy {
        let Some(driver) = self.best_driver() else {
            return to_do(
                "this kernel has neither vfio-pci with an IOMMU nor uio_pci_generic: switch the IOMMU on (intel_iommu=on or \
                 amd_iommu=on on the kernel's command line, VT-d or AMD-Vi in the firmware), or take a kernel that has them",
            );
        };
        let mut steps = Vec::new();
        if self.machine.module(driver) == Module::Loadable {
            steps.push(format!("modprobe {driver}"));
        }
        // vfio-pci asks for this one by itself only where modprobe follows soft dependencies.
        if driver == "vfio-pci" && self.machine.module("vfio_iommu_type1") == Module::Loadable {
            steps.push("modprobe vfio_iommu_type1".to_owned());
        }
        let address = self.address;
        let tool = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"]
            .into_iter()
            .find(|folder| self.machine.exists(format!("{folder}/dpdk-devbind.py")));
        if tool.is_some() {
            steps.push(format!("dpdk-devbind.py --bind={driver} {address}"));
        } else {
            steps.push(format!("echo {driver} > {DEVICES}/{address}/driver_override"));
            if self.bound.is_some() {
                steps.push(format!("echo {address} > {DEVICES}/{address}/driver/unbind"));
            }
            steps.push(format!("echo {address} > /sys/bus/pci/drivers_probe"));
        }
        to_type(steps.join(" && "))
    }
}

/// Whether the machine has an IOMMU, for ports on PCI.
pub(super) fn iommu(machine: &Machine, report: &mut Report) {
    let groups = machine.names("/sys/kernel/iommu_groups").len();
    if groups > 0 {
        return report.ok("iommu", "", format!("on, {groups} groups: vfio-pci keeps NICs to the router's memory"));
    }
    report.ok("iommu", "", "none is on: NICs reach all of the memory, by uio_pci_generic or igb_uio");
}

/// One NIC that a port names.
pub(super) fn device(machine: &Machine, config: &Config, address: &str, drivers: &Drivers, report: &mut Report) {
    let Some(nic) = Nic::find(machine, address) else {
        let nics: Vec<String> = network_devices(machine);
        let there = if nics.is_empty() { "none".to_owned() } else { nics.join(", ") };
        return report.fail(
            "device",
            address,
            "no PCI device has this address",
            to_do(format!("network devices are: {there}")),
        );
    };
    if !nic.is_network() {
        let words = format!("network devices are: {}", network_devices(machine).join(", "));
        return report.fail("device", address, "is no network device", to_do(words));
    }
    let ids = nic.ids();
    let Some(driver) = drivers.of_pci(ids) else {
        let words = format!(
            "take another NIC (https://core.dpdk.org/supported has the list), or poll it through the kernel: device = \
             \"net_af_xdp0,iface={}\"",
            nic.interface.as_deref().unwrap_or("NAME")
        );
        return report.fail(
            "device",
            address,
            format!("no driver of this DPDK knows {:04x}:{:04x}", ids[0], ids[1]),
            to_do(words),
        );
    };
    if driver.is_bifurcated() {
        shared_with_the_kernel(&nic, driver, report);
    } else {
        for_user_space(&nic, driver, report);
    }
    memory_node(&nic, config, report);
}

fn shared_with_the_kernel(nic: &Nic<'_>, driver: &Driver, report: &mut Report) {
    let missing: Vec<&str> =
        driver.modules().into_iter().filter(|module| nic.machine.module(module) != Module::There).collect();
    let bound = nic.bound.as_deref().unwrap_or("nothing");
    if missing.is_empty() && !FOR_USER_SPACE.contains(&bound) && nic.bound.is_some() {
        return report.ok(
            "device",
            nic.address,
            format!("bound to {bound}, which shares it with DPDK's {}", driver.name),
        );
    }
    let found =
        format!("bound to {bound}; DPDK's {} works over the kernel's {}", driver.name, driver.modules().join(", "));
    let mut steps: Vec<String> = missing.iter().map(|module| format!("modprobe {module}")).collect();
    if FOR_USER_SPACE.contains(&bound) {
        steps.push(format!("echo > {DEVICES}/{0}/driver_override", nic.address));
        steps.push(format!("echo {0} > {DEVICES}/{0}/driver/unbind", nic.address));
        steps.push(format!("echo {} > /sys/bus/pci/drivers_probe", nic.address));
    } else if missing.is_empty() {
        steps.push(format!("echo {} > /sys/bus/pci/drivers_probe", nic.address));
    }
    report.fail("device", nic.address, found, to_type(steps.join(" && ")));
}

fn for_user_space(nic: &Nic<'_>, driver: &Driver, report: &mut Report) {
    let name = &driver.name;
    match nic.bound.as_deref() {
        Some("vfio-pci") => vfio(nic, name, report),
        Some(uio @ ("uio_pci_generic" | "igb_uio")) => self::uio(nic, name, uio, report),
        other => {
            let bound = other.map_or("bound to nothing".to_owned(), |other| format!("bound to the kernel's {other}"));
            match nic.used_for() {
                Some(used) => {
                    let words = format!(
                        "whoever works over it is cut off: take another NIC, or `ip address flush dev {}` first, from a console",
                        nic.interface.as_deref().unwrap_or_default()
                    );
                    report.fail("device", nic.address, format!("{bound}, and in use: {used}"), to_do(words));
                }
                None => report.fail("device", nic.address, format!("{bound}; DPDK's {name} needs it"), nic.bind()),
            }
        }
    }
}

fn vfio(nic: &Nic<'_>, name: &str, report: &mut Report) {
    let machine = nic.machine;
    let Some(group) = &nic.group else {
        return report.fail("device", nic.address, "bound to vfio-pci, and in no IOMMU group", nic.bind());
    };
    if machine.module("vfio_iommu_type1") != Module::There {
        return report.fail(
            "device",
            nic.address,
            "bound to vfio-pci, and vfio's module for IOMMUs is not loaded",
            to_type("modprobe vfio_iommu_type1"),
        );
    }
    if !interrupts_are_remapped(machine) && machine.text(UNSAFE_INTERRUPTS).as_deref() != Some("Y") {
        return report.fail(
            "device",
            nic.address,
            "bound to vfio-pci, and the IOMMU does not remap interrupts, which vfio asks for",
            to_do(format!(
                "switch interrupt remapping on (in the firmware; qemu: intel-iommu,intremap=on), or, where you trust the NIC \
                 and its firmware: echo Y > {UNSAFE_INTERRUPTS}"
            )),
        );
    }
    if !machine.exists(format!("/dev/vfio/{group}")) && !machine.exists(format!("/dev/vfio/noiommu-{group}")) {
        return report.fail(
            "device",
            nic.address,
            format!("bound to vfio-pci, and /dev/vfio/{group} is missing"),
            to_do("give the container its /dev/vfio, or start udev"),
        );
    }
    // The kernel gives a group away only whole.
    let others = machine.names(format!("/sys/kernel/iommu_groups/{group}/devices")).into_iter().filter(|other| {
        let bound = machine.link_name(format!("{DEVICES}/{other}/driver"));
        other != nic.address
            && bound.is_some_and(|bound| !["vfio-pci", "pci-stub", "pcieport"].contains(&bound.as_str()))
    });
    let others: Vec<String> = others.collect();
    if others.is_empty() {
        return report.ok("device", nic.address, format!("bound to vfio-pci, for DPDK's {name}"));
    }
    report.fail(
        "device",
        nic.address,
        format!(
            "bound to vfio-pci, but its IOMMU group {group} has devices that the kernel keeps: {}",
            others.join(", ")
        ),
        to_do("bind those to vfio-pci too, or move the NIC to another slot"),
    );
}

/// The kernel names the interrupt controllers that it remaps for `IR-…`; a machine that shows none at all is believed.
fn interrupts_are_remapped(machine: &Machine) -> bool {
    let text = machine.text("/proc/interrupts").unwrap_or_default();
    text.contains(" IR-") || !["IO-APIC", "PCI-MSI"].iter().any(|controller| text.contains(controller))
}

fn uio(nic: &Nic<'_>, name: &str, module: &str, report: &mut Report) {
    let machine = nic.machine;
    let uio = machine.names(format!("{}/uio", nic.folder)).into_iter().next();
    match uio {
        None => report.fail(
            "device",
            nic.address,
            format!("bound to {module}, which made no uio device for it"),
            nic.bind(),
        ),
        Some(uio) if !machine.exists(format!("/dev/{uio}")) => report.fail(
            "device",
            nic.address,
            format!("bound to {module}, and /dev/{uio} is missing"),
            to_do("start udev, or mount devtmpfs on /dev"),
        ),
        Some(uio) => {
            let kind =
                nic.group.as_ref().and_then(|group| machine.text(format!("/sys/kernel/iommu_groups/{group}/type")));
            if kind.as_deref().is_some_and(|kind| kind.starts_with("DMA")) {
                return report.fail(
                    "device",
                    nic.address,
                    format!(
                        "bound to {module}, and an IOMMU translates its addresses, which {module} knows nothing of"
                    ),
                    nic.bind(),
                );
            }
            report.ok("device", nic.address, format!("bound to {module} (/dev/{uio}), for DPDK's {name}"));
        }
    }
}

/// A NIC far from a worker makes every packet cross the processors' link.
fn memory_node(nic: &Nic<'_>, config: &Config, report: &mut Report) {
    let Some(node) = nic.machine.text(format!("{}/numa_node", nic.folder)).and_then(|text| text.parse::<u32>().ok())
    else {
        return;
    };
    let far: Vec<usize> = config
        .workers
        .cores
        .iter()
        .copied()
        .filter(|core| node_of(nic.machine, *core).is_some_and(|other| other != node))
        .collect();
    if far.is_empty() {
        return;
    }
    report.warn(
        "device",
        nic.address,
        format!("is on memory node {node}, and {} is not", super::cores::ranges(&far)),
        to_do(format!("name cores of node {node} in [workers] cores (lscpu shows them)")),
    );
}

fn network_devices(machine: &Machine) -> Vec<String> {
    let is_network = |address: &String| Nic::find(machine, address).is_some_and(|nic| nic.is_network());
    machine.names(DEVICES).into_iter().filter(is_network).collect()
}

/// All NICs of the node, for who is about to choose.
pub(super) fn list(machine: &Machine, drivers: &Drivers, report: &mut Report) {
    for address in network_devices(machine) {
        let Some(nic) = Nic::find(machine, &address) else { continue };
        let ids = nic.ids();
        let driver =
            drivers.of_pci(ids).map_or("no driver of DPDK".to_owned(), |driver| format!("DPDK's {}", driver.name));
        let bound = nic.bound.as_deref().unwrap_or("nothing");
        let used = match (nic.used_for(), &nic.interface) {
            (Some(used), _) => format!("; in use: {used}"),
            (None, Some(interface)) => format!("; {interface}, not in use"),
            (None, None) => String::new(),
        };
        report.ok("nic", &address, format!("{:04x}:{:04x}, {driver}, bound to {bound}{used}", ids[0], ids[1]));
    }
}
