//! Ports over DPDK: every poll-mode driver, from a real NIC over virtio, af_xdp and af_packet to pcap, ring and null.
//!
//! Holding a [`DpdkPort`] proves that its device is configured, started and owned by this value alone; the same holds for
//! the handle and the queues it splits into, each of which keeps the device running. The last of them stops and closes it.
//! A queue cannot be cloned, so only the thread that has it polls its ring. A closed device can be opened again, but for
//! net_af_xdp, whose driver keeps the interface's queue until the process ends. Left out: offloads of any kind, packets of
//! several segments (dropped and counted), changes of a running port, and interrupts.

mod config;
pub(super) mod device;
mod error;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vinet_dpdk_sys as sys;

use super::mbuf::{Mbuf, Mempool, adopt_received, forget_sent};
use super::{Burst, Link, Port, PortHandle, PortStats, RxQueue, TxQueue};
use crate::eal::Eal;

pub use config::{DpdkConfig, Granted, RING_LEN_DEFAULT};
pub use error::{Direction, PortError};

use device::Device;

/// A port over DPDK, started.
#[derive(Debug)]
pub struct DpdkPort {
    handle: DpdkHandle,
    rx: Vec<DpdkRx>,
    tx: Vec<DpdkTx>,
}

impl DpdkPort {
    /// Finds or plugs in the device, configures it and starts it. Received packets come from `pool`.
    ///
    /// # Errors
    /// Where the device is missing, taken, or cannot do what the configuration says; nothing stays behind then.
    pub fn open(eal: &Eal, pool: &Mempool, config: &DpdkConfig) -> Result<DpdkPort, PortError> {
        let (device, granted) = Device::start(eal, pool, config)?;
        let device = Arc::new(device);
        let rx = (0..granted.rx_queues)
            .map(|queue| {
                let unusable = Arc::clone(&device.unusable[usize::from(queue)]);
                DpdkRx {
                    port: device.id(),
                    queue,
                    by_source: granted.rx_by_source,
                    unusable,
                    device: Arc::clone(&device),
                }
            })
            .collect();
        let tx = (0..granted.tx_queues)
            .map(|queue| DpdkTx { port: device.id(), queue, device: Arc::clone(&device) })
            .collect();
        let handle = DpdkHandle { name: config.name.clone(), granted, device, _not_sync: PhantomData };
        Ok(DpdkPort { handle, rx, tx })
    }

    /// What the device gave, where that can differ from what was asked.
    #[must_use]
    pub fn granted(&self) -> &Granted {
        &self.handle.granted
    }

    /// The handle, before the port is split.
    #[must_use]
    pub fn handle(&self) -> &DpdkHandle {
        &self.handle
    }
}

impl Port for DpdkPort {
    type Buf = Mbuf;
    type Rx = DpdkRx;
    type Tx = DpdkTx;
    type Handle = DpdkHandle;

    fn split(self) -> (DpdkHandle, Vec<DpdkRx>, Vec<DpdkTx>) {
        (self.handle, self.rx, self.tx)
    }
}

/// A receive queue of a DPDK port: one ring, one owner.
pub struct DpdkRx {
    port: u16,
    queue: u16,
    by_source: bool,
    unusable: Arc<AtomicU64>,
    device: Arc<Device>,
}

impl RxQueue for DpdkRx {
    type Buf = Mbuf;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let room = burst.room();
        let packets = burst.packets_vec();
        // A burst has its whole capacity from the start; taking the lesser of the two keeps this sound by itself.
        let room = room.min(packets.capacity() - packets.len());
        if room == 0 {
            return 0;
        }
        // SAFETY: the device runs while `self.device` lives, this value is the queue's only owner and is borrowed for
        // writing, and the vector has room for `room` pointers, which is at most BURST_LEN_MAX.
        let received = unsafe {
            let mbufs = packets.spare_capacity_mut().as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            usize::from(sys::rx_burst(self.port, self.queue, mbufs, room as u16))
        };
        // SAFETY: a driver writes as many packets as it says, and never more than it was asked for.
        let usable = unsafe { adopt_received(packets, received) };
        if usable != received {
            // Only this queue writes the counter; others only read it, and nothing hangs on the order.
            self.unusable.fetch_add((received - usable) as u64, Ordering::Relaxed);
        }
        usable
    }

    fn unusable(&self) -> u64 {
        self.unusable.load(Ordering::Relaxed)
    }

    fn is_filled_by_source(&self) -> bool {
        self.by_source
    }
}

impl fmt::Debug for DpdkRx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DpdkRx({:?}, queue {})", self.device, self.queue)
    }
}

/// A transmit queue of a DPDK port: one ring, one owner.
pub struct DpdkTx {
    port: u16,
    queue: u16,
    device: Arc<Device>,
}

impl TxQueue for DpdkTx {
    type Buf = Mbuf;

    #[inline]
    fn send(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let packets = burst.packets_vec();
        let mbufs = packets.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
        // SAFETY: the device runs while `self.device` lives, this value is the queue's only owner and is borrowed for
        // writing, and the vector holds that many packets (at most BURST_LEN_MAX), each a non-null mbuf of ours.
        let sent = unsafe { usize::from(sys::tx_burst(self.port, self.queue, mbufs, packets.len() as u16)) };
        // SAFETY: the driver took the first `sent` of them, and not more than there are.
        unsafe { forget_sent(packets, sent) };
        sent
    }
}

impl fmt::Debug for DpdkTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DpdkTx({:?}, queue {})", self.device, self.queue)
    }
}

/// The control core's side of a DPDK port. One thread at a time may ask a device for its state, so this is not `Sync`.
pub struct DpdkHandle {
    name: String,
    granted: Granted,
    device: Arc<Device>,
    _not_sync: PhantomData<std::cell::Cell<()>>,
}

impl DpdkHandle {
    /// What the device gave, where that can differ from what was asked.
    #[must_use]
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Packets dropped on all receive queues because they came in a form the worker cannot take.
    #[must_use]
    pub fn unusable(&self) -> u64 {
        self.device.unusable.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl PortHandle for DpdkHandle {
    fn name(&self) -> &str {
        &self.name
    }
    fn mac(&self) -> [u8; 6] {
        self.granted.mac
    }
    fn mtu(&self) -> u16 {
        self.granted.mtu
    }
    fn link(&self) -> Link {
        self.device.link()
    }
    fn stats(&self) -> PortStats {
        self.device.stats()
    }
    fn extended_stats(&self) -> Vec<(String, u64)> {
        self.device.extended_stats()
    }
    fn kernel_interface(&self) -> Option<u32> {
        self.granted.kernel_interface
    }
}

impl fmt::Debug for DpdkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DpdkHandle({:?}, {:?})", self.name, self.device)
    }
}
