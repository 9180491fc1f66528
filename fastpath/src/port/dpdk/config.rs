//! What a DPDK port is asked for, and what it gave.

/// Descriptors in a ring where the configuration does not say.
pub const RING_LEN_DEFAULT: u16 = 1024;

/// How a port is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpdkConfig {
    /// The port's name in the router's configuration.
    pub name: String,
    /// A virtual device with its arguments (`net_af_packet0,iface=veth0`), a PCI address (`0000:03:00.0`), or the name of
    /// a device that EAL's own arguments brought.
    pub device: String,
    /// Descriptors in each receive ring.
    pub rx_ring_len: u16,
    /// Descriptors in each transmit ring.
    pub tx_ring_len: u16,
    /// Receive queues; a device that has fewer gives what it has.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// Whether frames to any address are wanted, where the device can choose.
    pub promiscuous: bool,
    /// Whether frames to any group are wanted, where the device can choose.
    pub all_multicast: bool,
}

impl DpdkConfig {
    /// One queue each way, rings of [`RING_LEN_DEFAULT`], an MTU of 1500, promiscuous.
    #[must_use]
    pub fn new(name: &str, device: &str) -> Self {
        DpdkConfig {
            name: name.to_owned(),
            device: device.to_owned(),
            rx_ring_len: RING_LEN_DEFAULT,
            tx_ring_len: RING_LEN_DEFAULT,
            rx_queues: 1,
            tx_queues: 1,
            mtu: 1500,
            promiscuous: true,
            all_multicast: true,
        }
    }
}

/// What the device gave, where that can differ from what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The driver.
    pub driver: String,
    /// The Ethernet address.
    pub mac: [u8; 6],
    /// Descriptors in each receive ring: a power of two in the device's range.
    pub rx_ring_len: u16,
    /// Descriptors in each transmit ring.
    pub tx_ring_len: u16,
    /// Receive queues.
    pub rx_queues: u16,
    /// Whether they are filled by source address alone, so that a source is always on the same one: where the device
    /// can hash so, or there is one.
    pub rx_by_source: bool,
    /// Transmit queues.
    pub tx_queues: u16,
    /// The largest IP packet that the port is used for, in bytes.
    pub mtu: u16,
    /// Whether the device keeps to the MTU itself; otherwise only we do.
    pub mtu_set_on_device: bool,
    /// Whether the device is promiscuous.
    pub promiscuous: bool,
    /// Whether the device takes all groups.
    pub all_multicast: bool,
    /// The number of the kernel's interface beneath, where there is one.
    pub kernel_interface: Option<u32>,
}
