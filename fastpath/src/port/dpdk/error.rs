//! Why a DPDK port did not open.

use std::fmt;

use crate::eal::error_text;

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the wire.
    Receive,
    /// To the wire.
    Transmit,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Receive => "receive",
            Direction::Transmit => "transmit",
        })
    }
}

/// Why a port did not open. Each names the device as the configuration does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortError {
    /// The device's name is no text that DPDK takes.
    BadDevice {
        /// The device.
        device: String,
    },
    /// No such device, or its driver did not take it.
    NoDevice {
        /// The device.
        device: String,
        /// DPDK's error number.
        errno: i32,
        /// What DPDK said.
        log: String,
    },
    /// Another port uses it.
    Taken {
        /// The device.
        device: String,
    },
    /// No queues were asked for, or more than the device has.
    Queues {
        /// The device.
        device: String,
        /// Which ones.
        direction: Direction,
        /// How many were asked for.
        wanted: u16,
        /// How many it has.
        max: u16,
    },
    /// The MTU is out of the device's range.
    Mtu {
        /// The device.
        device: String,
        /// The MTU asked for.
        mtu: u16,
        /// The least.
        min: u16,
        /// The largest.
        max: u16,
    },
    /// The pool's buffers are too small for the MTU.
    Buffers {
        /// The device.
        device: String,
        /// The MTU asked for.
        mtu: u16,
        /// The pool's data room, headroom included.
        data_room_len: u16,
        /// What it must be.
        needed: u32,
    },
    /// The pool has too few buffers for the receive rings alone.
    PoolTooSmall {
        /// The device.
        device: String,
        /// The pool's buffers.
        buffers: u32,
        /// What the rings hold.
        needed: u32,
    },
    /// The device or DPDK refused a step.
    Refused {
        /// The device.
        device: String,
        /// What was tried.
        step: &'static str,
        /// The error number.
        errno: i32,
        /// What DPDK said.
        log: String,
    },
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortError::BadDevice { device } => write!(
                f,
                "{device:?} is no device: expected a virtual device such as `net_af_packet0,iface=eth1` or a PCI address \
                 such as `0000:03:00.0`"
            ),
            PortError::NoDevice { device, errno, log } => {
                write!(f, "device `{device}` does not come up ({})", error_text(*errno))?;
                let pci = device.contains(':') && !device.contains(',');
                if pci {
                    f.write_str(
                        ": see `dpdk-devbind.py --status` whether it is there and bound to vfio-pci or uio_pci_generic, \
                         and that EAL runs without `--no-pci`",
                    )?;
                } else if log.contains("failed to parse device") {
                    f.write_str(
                        ": no driver has this name; Debian's drivers are in the package libdpdk-dev (librte-net-…): \
                         net_af_packet, net_af_xdp, net_tap, net_pcap, net_ring, net_null, net_virtio_user, net_vhost",
                    )?;
                } else {
                    f.write_str(": see that its interface, file or socket exists and that the router runs as root")?;
                }
                if log.is_empty() { Ok(()) } else { write!(f, "; DPDK said: {log}") }
            }
            PortError::Taken { device } => write!(f, "device `{device}` is in use by another port"),
            PortError::Queues { device, direction, wanted, max } => {
                write!(f, "device `{device}` has {max} {direction} queues and {wanted} are wanted: expected 1 to {max}")
            }
            PortError::Mtu { device, mtu, min, max } => {
                write!(f, "device `{device}` cannot have an MTU of {mtu}: expected {min} to {max}")
            }
            PortError::Buffers { device, mtu, data_room_len, needed } => write!(
                f,
                "an MTU of {mtu} on device `{device}` needs buffers of {needed} bytes and the pool's have {data_room_len}: \
                 lower the MTU or enlarge the buffers"
            ),
            PortError::PoolTooSmall { device, buffers, needed } => write!(
                f,
                "the receive rings of device `{device}` alone hold {needed} packets and the pool has {buffers}: enlarge \
                 the pool or shorten the rings"
            ),
            PortError::Refused { device, step, errno, log } => {
                write!(f, "device `{device}`: DPDK cannot {step} ({})", error_text(*errno))?;
                if log.is_empty() { Ok(()) } else { write!(f, "; it said: {log}") }
            }
        }
    }
}

impl std::error::Error for PortError {}
