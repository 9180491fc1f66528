//! The ports' devices: NICs on PCI, interfaces of the kernel, virtual devices of DPDK; and the names of the twins.

use super::drivers::Drivers;
use super::machine::Machine;
use super::{Report, pci, to_do, to_type};
use crate::config::{Config, Port};
use crate::daemon::interface_beneath;

/// What a port's `device` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Device {
    /// A PCI address, with its domain.
    Pci(String),
    /// An interface under `net_af_packet`.
    AfPacket(String),
    /// An interface under `net_af_xdp`.
    AfXdp(String),
    /// Any other virtual device, by its name.
    Virtual(String),
}

impl Device {
    pub(super) fn of(device: &str) -> Device {
        let name = device.split(',').next().unwrap_or(device);
        if !name.starts_with("net_") {
            let domain = if name.matches(':').count() == 1 { "0000:" } else { "" };
            return Device::Pci(format!("{domain}{}", name.to_ascii_lowercase()));
        }
        match interface_beneath(device) {
            Some(interface) if name.starts_with("net_af_xdp") => Device::AfXdp(interface.to_owned()),
            Some(interface) => Device::AfPacket(interface.to_owned()),
            None => Device::Virtual(name.to_owned()),
        }
    }
}

/// Looks at the device and the twin of every port.
pub(super) fn ports(machine: &Machine, config: &Config, drivers: &Drivers, report: &mut Report) {
    if config.ports.iter().any(|port| matches!(Device::of(&port.device), Device::Pci(_))) {
        pci::iommu(machine, report);
    }
    for port in &config.ports {
        match Device::of(&port.device) {
            Device::Pci(address) => pci::device(machine, config, &address, drivers, report),
            Device::AfPacket(name) => interface(machine, port, &name, false, report),
            Device::AfXdp(name) => interface(machine, port, &name, true, report),
            Device::Virtual(_) => {}
        }
        virtual_driver(port, drivers, report);
        twin(machine, port, report);
    }
}

/// Whether DPDK has the driver of a device that is no PCI device.
fn virtual_driver(port: &Port, drivers: &Drivers, report: &mut Report) {
    let name = port.device.split(',').next().unwrap_or(&port.device);
    if !name.starts_with("net_") {
        return;
    }
    match drivers.of_virtual(name) {
        Some(driver) => report.ok("driver", name, format!("{} is among DPDK's drivers", driver.name)),
        None => report.fail(
            "driver",
            name,
            "no driver of this DPDK makes such a device",
            to_do(format!(
                "see [[port]] `{}` device for a slip of the pen; known are net_af_packet, net_af_xdp and others",
                port.name
            )),
        ),
    }
}

/// An interface of the kernel beneath a port.
fn interface(machine: &Machine, port: &Port, name: &str, xdp: bool, report: &mut Report) {
    let folder = format!("/sys/class/net/{name}");
    if !machine.exists(&folder) {
        let there: Vec<String> = machine.names("/sys/class/net").into_iter().filter(|name| name != "lo").collect();
        let words = format!("there are: {}; name one in [[port]] `{}` device", there.join(", "), port.name);
        return report.fail("interface", name, "there is none of this name in this network namespace", to_do(words));
    }
    let addresses = machine.addresses_of(name);
    if !addresses.is_empty() {
        let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let found = format!("has addresses of its own: {}", shown.join(", "));
        return if machine.has_default_route(name) {
            let words = "it carries the node's default route, so the node would be cut off: take another interface";
            report.fail("interface", name, found, to_do(words));
        } else {
            report.fail("interface", name, found, to_type(format!("ip address flush dev {name}")));
        };
    }
    // A file of an interface that is down cannot be read.
    match (machine.text(format!("{folder}/operstate")).as_deref(), machine.number(format!("{folder}/carrier"))) {
        (Some("down"), Some(0)) => {
            report.warn("interface", name, "is up, without a carrier", to_do("see its cable and its other end"))
        }
        (_, None) => report.ok("interface", name, "is down; vinetd brings it up"),
        _ => report.ok("interface", name, "is up"),
    }
    mtu(machine, port, name, &folder, report);
    if xdp {
        queues(machine, port, name, &folder, report);
    }
}

fn mtu(machine: &Machine, port: &Port, name: &str, folder: &str, report: &mut Report) {
    let Some(mtu) = machine.number(format!("{folder}/mtu")) else { return };
    if mtu < u64::from(port.mtu) {
        report.warn(
            "interface",
            name,
            format!("its MTU is {mtu}, the port's {}; vinetd raises it where its driver can", port.mtu),
            to_type(format!("ip link set dev {name} mtu {}", port.mtu)),
        );
    } else {
        report.ok("interface", name, format!("its MTU of {mtu} holds the port's {}", port.mtu));
    }
}

/// An XDP socket sees one receive queue; what the NIC puts into queues without one is dropped with the kernel's share.
fn queues(machine: &Machine, port: &Port, name: &str, folder: &str, report: &mut Report) {
    let queues = machine.names(format!("{folder}/queues")).iter().filter(|queue| queue.starts_with("rx-")).count();
    let argument = port.device.split(',').find_map(|argument| argument.strip_prefix("queue_count="));
    let polled: usize = argument.and_then(|count| count.parse().ok()).unwrap_or(1);
    if queues <= polled {
        return report.ok("interface", name, format!("all of its {queues} receive queues are polled"));
    }
    report.warn(
        "interface",
        name,
        format!("has {queues} receive queues, and {polled} are polled: packets in the others are lost"),
        to_type(format!("ethtool -L {name} combined {polled}")),
    );
}

/// The twin's name: free, or a TAP device that an earlier start left.
fn twin(machine: &Machine, port: &Port, report: &mut Report) {
    let folder = format!("/sys/class/net/{}", port.tap);
    if machine.exists(&folder) && !machine.exists(format!("{folder}/tun_flags")) {
        report.fail(
            "twin",
            &port.tap,
            "an interface of this name is there, and is no TAP device",
            to_do(format!("set [[port]] `{}` tap to a name that is free", port.name)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_told_by_its_words() {
        assert_eq!(Device::of("03:00.0"), Device::Pci("0000:03:00.0".into()));
        assert_eq!(Device::of("0000:0A:00.1,x=1"), Device::Pci("0000:0a:00.1".into()));
        assert_eq!(Device::of("net_af_packet0,iface=eth1"), Device::AfPacket("eth1".into()));
        assert_eq!(Device::of("net_af_xdp1,start_queue=0,iface=eth2"), Device::AfXdp("eth2".into()));
        assert_eq!(Device::of("net_virtio_user0,path=/x"), Device::Virtual("net_virtio_user0".into()));
    }
}
