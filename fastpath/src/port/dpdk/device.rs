//! A started device: found or plugged in, configured, and at the end stopped, closed and unplugged.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use vinet_dpdk_sys as sys;

use super::{Direction, DpdkConfig, Granted, PortError};
use crate::eal::{Eal, LogMark};
use crate::port::mbuf::{FRAME_OVERHEAD_LEN, HEADROOM_LEN, Mempool};
use crate::port::{Link, PortStats};

/// The longest device string, in bytes.
const DEVICE_LEN_MAX: usize = 512;

/// The least MTU of Ethernet that DPDK accepts (RFC 791's 68).
const MTU_MIN: u16 = 68;

/// How often an AF_XDP device is tried: the kernel gives an interface's queue back some time after its last user ended, so
/// that a router which is started again at once finds it busy. A try that fails costs buffers, which the driver loses.
const XDP_TRIES_MAX: u32 = 4;

/// What such a try fails in.
const RX_QUEUE_STEP: &str = "set up a receive queue";

/// The time between two of these tries.
const XDP_PAUSE: Duration = Duration::from_millis(100);

/// DPDK finds, configures and removes devices by one thread at a time.
static CONTROL: Mutex<()> = Mutex::new(());

fn control() -> MutexGuard<'static, ()> {
    CONTROL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A device of DPDK that is ours: configured, and started once `start` has returned it.
pub(super) struct Device {
    id: u16,
    /// Its name in DPDK.
    name: String,
    owner: u64,
    /// The device as plugged in by us, to be unplugged; `None` where EAL's arguments brought it.
    plugged: Option<*mut sys::rte_device>,
    started: bool,
    /// For asking the kernel about the interface beneath: its name, and a socket in the namespace it was opened in.
    beneath: Option<(OwnedFd, [c_char; libc::IFNAMSIZ])>,
    /// One counter for each receive queue.
    pub(super) unusable: Vec<Arc<AtomicU64>>,
    /// The driver takes buffers from it until the device is closed.
    _pool: Mempool,
    _eal: Eal,
}

// SAFETY: DPDK's device functions may be called from any thread, one at a time: opening and closing hold CONTROL, the
// statistics are asked for by the one handle, and the pointer is used only by the closing.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    pub(super) fn start(eal: &Eal, pool: &Mempool, config: &DpdkConfig) -> Result<(Device, Granted), PortError> {
        let mut tries = 1;
        loop {
            let one_at_a_time = control();
            let mut device = Device::claim(eal, pool, config)?;
            let outcome = device.configure(pool, config);
            // Where it failed, the device is closed below, which takes the lock itself.
            drop(one_at_a_time);
            match outcome {
                Ok(granted) => return Ok((device, granted)),
                Err(PortError::Refused { step: RX_QUEUE_STEP, .. })
                    if tries < XDP_TRIES_MAX && config.device.starts_with("net_af_xdp") =>
                {
                    tries += 1;
                    drop(device);
                    thread::sleep(XDP_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// Finds the device, plugs it in where it is not there yet, and makes it ours.
    fn claim(eal: &Eal, pool: &Mempool, config: &DpdkConfig) -> Result<Device, PortError> {
        let text = config.device.trim();
        let bad = || PortError::BadDevice { device: config.device.clone() };
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if text.is_empty() || text.len() > DEVICE_LEN_MAX || !printable {
            return Err(bad());
        }
        let name = text.split(',').next().unwrap_or(text);
        let mark = LogMark::now();
        let mut plugged = false;
        let id = match find(name) {
            Some(id) => id,
            None => {
                let devargs = CString::new(text).map_err(|_| bad())?;
                // SAFETY: EAL runs; the string is copied.
                let outcome = unsafe { sys::rte_dev_probe(devargs.as_ptr()) };
                let failed = |errno| PortError::NoDevice { device: text.to_owned(), errno, log: mark.text() };
                if outcome != 0 {
                    return Err(failed(outcome));
                }
                plugged = true;
                find(name).ok_or_else(|| failed(libc::ENODEV))?
            }
        };
        let info =
            info(id).map_err(|errno| PortError::NoDevice { device: text.to_owned(), errno, log: mark.text() })?;
        let owner = own(id, &config.name).ok_or_else(|| PortError::Taken { device: text.to_owned() })?;
        Ok(Device {
            id,
            name: name.to_owned(),
            owner,
            plugged: plugged.then_some(info.device),
            started: false,
            beneath: beneath(info.if_index),
            unusable: Vec::new(),
            _pool: pool.clone(),
            _eal: eal.clone(),
        })
    }

    fn configure(&mut self, pool: &Mempool, config: &DpdkConfig) -> Result<Granted, PortError> {
        let name = || config.device.clone();
        let mark = LogMark::now();
        let refused = |step, errno: i32| PortError::Refused { device: name(), step, errno, log: mark.text() };
        let info = info(self.id).map_err(|errno| refused("tell about it", errno))?;
        let driver = text(info.driver_name);

        check_queues(config, Direction::Transmit, config.tx_queues, info.max_tx_queues)?;
        let (rx_queues, spread) = Self::spread(config, &info)?;
        check_mtu(config, &info)?;
        let settings = pool.settings();
        let needed = u32::from(config.mtu) + u32::from(HEADROOM_LEN + FRAME_OVERHEAD_LEN);
        if u32::from(settings.data_room_len) < needed {
            return Err(PortError::Buffers {
                device: name(),
                mtu: config.mtu,
                data_room_len: settings.data_room_len,
                needed,
            });
        }

        // SAFETY: all-zero is a valid value of these plain C structures and means no offload, no filter, no DCB.
        let mut conf: sys::rte_eth_conf = unsafe { MaybeUninit::zeroed().assume_init() };
        conf.rxmode.mtu = u32::from(config.mtu);
        if spread != 0 {
            conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = spread;
        }
        // SAFETY: the port is ours and stopped; the configuration is copied.
        let outcome = unsafe { sys::rte_eth_dev_configure(self.id, rx_queues, config.tx_queues, &raw const conf) };
        if outcome != 0 {
            return Err(refused("configure it", outcome));
        }

        // Several drivers take only powers of two without saying so in their limits.
        let mut rx_ring_len = ring_len(config.rx_ring_len);
        let mut tx_ring_len = ring_len(config.tx_ring_len);
        // SAFETY: the port is ours; both lengths are written back.
        let outcome =
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &raw mut rx_ring_len, &raw mut tx_ring_len) };
        if outcome != 0 {
            return Err(refused("fit the ring sizes", outcome));
        }
        let rings = u32::from(rx_ring_len) * u32::from(rx_queues);
        if rings > settings.buffers {
            return Err(PortError::PoolTooSmall { device: name(), buffers: settings.buffers, needed: rings });
        }

        // SAFETY: the port is ours.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.id) }.cast_unsigned();
        for queue in 0..rx_queues {
            let mut queue_conf = info.default_rxconf;
            queue_conf.offloads = 0;
            // SAFETY: the port is configured with this queue; the pool lives until EAL's clean-up.
            let outcome = unsafe {
                sys::rte_eth_rx_queue_setup(self.id, queue, rx_ring_len, socket, &raw const queue_conf, pool.as_ptr())
            };
            if outcome != 0 {
                return Err(refused(RX_QUEUE_STEP, outcome));
            }
        }
        for queue in 0..config.tx_queues {
            let mut queue_conf = info.default_txconf;
            queue_conf.offloads = 0;
            // SAFETY: the port is configured with this queue.
            let outcome =
                unsafe { sys::rte_eth_tx_queue_setup(self.id, queue, tx_ring_len, socket, &raw const queue_conf) };
            if outcome != 0 {
                return Err(refused("set up a transmit queue", outcome));
            }
        }

        // SAFETY: the port is ours and stopped.
        let mtu_set_on_device = match unsafe { sys::rte_eth_dev_set_mtu(self.id, config.mtu) } {
            0 => true,
            outcome if outcome == -libc::ENOTSUP => false,
            outcome => return Err(refused("set its MTU", outcome)),
        };
        // SAFETY: the port is ours and configured.
        let outcome = unsafe { sys::rte_eth_dev_start(self.id) };
        if outcome != 0 {
            return Err(refused("start it", outcome));
        }
        self.started = true;
        self.unusable = (0..rx_queues).map(|_| Arc::new(AtomicU64::new(0))).collect();

        // What a device cannot choose it does one way or the other; what it is then, is reported.
        // SAFETY: the port is ours and started.
        let (promiscuous, all_multicast) = unsafe {
            if config.promiscuous {
                sys::rte_eth_promiscuous_enable(self.id);
            }
            if config.all_multicast {
                sys::rte_eth_allmulticast_enable(self.id);
            }
            (sys::rte_eth_promiscuous_get(self.id) == 1, sys::rte_eth_allmulticast_get(self.id) == 1)
        };
        let mac = mac(self.id).map_err(|errno| refused("tell its address", errno))?;
        Ok(Granted {
            driver,
            mac,
            rx_ring_len,
            tx_ring_len,
            rx_queues,
            rx_by_source: rx_queues == 1 || spread != 0,
            tx_queues: config.tx_queues,
            mtu: config.mtu,
            mtu_set_on_device,
            promiscuous,
            all_multicast,
            kernel_interface: (info.if_index != 0).then_some(info.if_index),
        })
    }

    /// How many receive queues there are to be, and the hash functions that keep a source on one of them, or 0 where the
    /// device has none: it then fills them as it likes, or one of them.
    fn spread(config: &DpdkConfig, info: &sys::rte_eth_dev_info) -> Result<(u16, u64), PortError> {
        let queues = config.rx_queues.min(info.max_rx_queues);
        check_queues(config, Direction::Receive, queues, info.max_rx_queues)?;
        // SAFETY: the constants are initialised by the C compiler and never written.
        let (ip, source_only) = unsafe { (sys::vinet_RSS_IP, sys::vinet_RSS_L3_SRC_ONLY) };
        let can = info.flow_type_rss_offloads;
        let can_spread = can & source_only != 0 && can & ip == ip;
        Ok((queues, if queues > 1 && can_spread { ip | source_only } else { 0 }))
    }

    pub(super) fn link(&self) -> Link {
        let link = link(self.id);
        // af_packet and af_xdp call every link up; the interface beneath knows better.
        Link { up: link.up && self.beneath.as_ref().is_none_or(runs), ..link }
    }

    pub(super) fn stats(&self) -> PortStats {
        stats(self.id)
    }

    pub(super) fn extended_stats(&self) -> Vec<(String, u64)> {
        extended_stats(self.id)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _one_at_a_time = control();
        // SAFETY: the handle and all queues are gone, so nobody uses the port; closing gives it up, and the device that
        // we plugged in has no port left when it is unplugged.
        unsafe {
            if self.started {
                sys::rte_eth_dev_stop(self.id);
            }
            sys::rte_eth_dev_owner_unset(self.id, self.owner);
            if sys::rte_eth_dev_close(self.id) == 0
                && let Some(device) = self.plugged
            {
                sys::rte_dev_remove(device);
            }
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (port {})", self.name, self.id)
    }
}

/// The link of a started port, as its driver tells it.
pub(in crate::port) fn link(id: u16) -> Link {
    let mut link = MaybeUninit::<sys::rte_eth_link>::zeroed();
    // SAFETY: any number may be asked for; all-zero is a valid link, and what a failure leaves.
    let (outcome, link) = unsafe {
        let outcome = sys::rte_eth_link_get_nowait(id, link.as_mut_ptr());
        (outcome, link.assume_init())
    };
    let speed = link.link_speed;
    Link { up: outcome == 0 && link.link_status() == 1, speed_mbps: (speed != 0 && speed != u32::MAX).then_some(speed) }
}

/// What a started port counted.
pub(in crate::port) fn stats(id: u16) -> PortStats {
    let mut stats = MaybeUninit::<sys::rte_eth_stats>::zeroed();
    // SAFETY: any number may be asked for; all-zero is what a failure leaves.
    let stats = unsafe {
        sys::rte_eth_stats_get(id, stats.as_mut_ptr());
        stats.assume_init()
    };
    PortStats {
        rx_packets: stats.ipackets,
        rx_bytes: stats.ibytes,
        rx_missed: stats.imissed,
        rx_errors: stats.ierrors,
        rx_no_buffer: stats.rx_nombuf,
        tx_packets: stats.opackets,
        tx_bytes: stats.obytes,
        tx_errors: stats.oerrors,
    }
}

/// What a started port counted under names of its driver.
pub(in crate::port) fn extended_stats(id: u16) -> Vec<(String, u64)> {
    // SAFETY: asked without room, both calls only tell how many there are.
    let count = unsafe { sys::rte_eth_xstats_get_names(id, std::ptr::null_mut(), 0) };
    let Ok(room) = u32::try_from(count) else { return Vec::new() };
    let len = room as usize;
    let mut names = vec![sys::rte_eth_xstat_name { name: [0; sys::RTE_ETH_XSTATS_NAME_SIZE as usize] }; len];
    let mut values = vec![sys::rte_eth_xstat { id: 0, value: 0 }; len];
    // SAFETY: both arrays have room for `room` entries, which the calls do not exceed.
    let (named, valued) = unsafe {
        (
            sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), room),
            sys::rte_eth_xstats_get(id, values.as_mut_ptr(), room),
        )
    };
    // A count above the room means that it grew in between: the next call will have it.
    let (Ok(named), Ok(valued)) = (usize::try_from(named), usize::try_from(valued)) else { return Vec::new() };
    if named > len || valued > len {
        return Vec::new();
    }
    values[..valued]
        .iter()
        .filter_map(|stat| {
            let name = names[..named].get(usize::try_from(stat.id).ok()?)?;
            Some((text(name.name.as_ptr()), stat.value))
        })
        .collect()
}

/// The Ethernet address of a port.
pub(in crate::port) fn mac(id: u16) -> Result<[u8; 6], i32> {
    let mut mac = sys::rte_ether_addr { addr_bytes: [0; 6] };
    // SAFETY: any number may be asked for; the address is written back.
    match unsafe { sys::rte_eth_macaddr_get(id, &raw mut mac) } {
        0 => Ok(mac.addr_bytes),
        outcome => Err(outcome),
    }
}

fn check_queues(config: &DpdkConfig, direction: Direction, wanted: u16, max: u16) -> Result<(), PortError> {
    if (1..=max).contains(&wanted) {
        return Ok(());
    }
    Err(PortError::Queues { device: config.device.clone(), direction, wanted, max })
}

fn check_mtu(config: &DpdkConfig, info: &sys::rte_eth_dev_info) -> Result<(), PortError> {
    let min = info.min_mtu.max(MTU_MIN);
    // A device that tells no largest MTU may still tell a largest frame.
    let overhead = if info.max_mtu != u16::MAX && info.max_rx_pktlen > u32::from(info.max_mtu) {
        info.max_rx_pktlen - u32::from(info.max_mtu)
    } else {
        14 + 4
    };
    let by_frame = u16::try_from(info.max_rx_pktlen.saturating_sub(overhead)).unwrap_or(u16::MAX);
    let max = info.max_mtu.min(by_frame);
    if (min..=max).contains(&config.mtu) {
        return Ok(());
    }
    Err(PortError::Mtu { device: config.device.clone(), mtu: config.mtu, min, max })
}

/// The next power of two, where there is one.
fn ring_len(wanted: u16) -> u16 {
    wanted.max(1).checked_next_power_of_two().unwrap_or(1 << 15)
}

/// The port of a device, by the name of the port or of the device (a PCI address may lack its domain).
pub(in crate::port) fn find(name: &str) -> Option<u16> {
    let c_name = CString::new(name).ok()?;
    let mut id = 0;
    // SAFETY: EAL runs; the string is read only during the call.
    if unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) } == 0 {
        return Some(id);
    }
    (0..sys::RTE_MAX_ETHPORTS as u16).find(|id| {
        // SAFETY: any number may be asked for.
        if unsafe { sys::rte_eth_dev_is_valid_port(*id) } == 0 {
            return false;
        }
        info(*id).is_ok_and(|info| {
            // SAFETY: the port is valid, so its device is there.
            let device = (!info.device.is_null()).then(|| text(unsafe { sys::rte_dev_name(info.device) }));
            device.is_some_and(|device| device == name || device.strip_prefix("0000:") == Some(name))
        })
    })
}

/// What a port's driver says about it.
pub(in crate::port) fn info(id: u16) -> Result<sys::rte_eth_dev_info, i32> {
    let mut info = MaybeUninit::<sys::rte_eth_dev_info>::zeroed();
    // SAFETY: any number may be asked for; all-zero is a valid value of this plain C structure.
    unsafe {
        match sys::rte_eth_dev_info_get(id, info.as_mut_ptr()) {
            0 => Ok(info.assume_init()),
            outcome => Err(outcome),
        }
    }
}

/// Makes the port ours; `None` where it is somebody's already.
fn own(id: u16, name: &str) -> Option<u64> {
    let mut owner = sys::rte_eth_dev_owner { id: 0, name: [0; sys::RTE_ETH_MAX_OWNER_NAME_LEN as usize] };
    for (to, from) in owner.name.iter_mut().zip(name.bytes().take(sys::RTE_ETH_MAX_OWNER_NAME_LEN as usize - 1)) {
        *to = from.cast_signed();
    }
    // SAFETY: EAL runs; the owner is copied.
    unsafe {
        (sys::rte_eth_dev_owner_new(&raw mut owner.id) == 0 && sys::rte_eth_dev_owner_set(id, &raw const owner) == 0)
            .then_some(owner.id)
    }
}

/// The name of the kernel's interface beneath a port, and a socket to ask about it.
fn beneath(index: u32) -> Option<(OwnedFd, [c_char; libc::IFNAMSIZ])> {
    if index == 0 {
        return None;
    }
    let mut name = [0; libc::IFNAMSIZ];
    // SAFETY: the array has the size that the call writes at most; a new descriptor is ours.
    unsafe {
        if libc::if_indextoname(index, name.as_mut_ptr()).is_null() {
            return None;
        }
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        (socket >= 0).then(|| (OwnedFd::from_raw_fd(socket), name))
    }
}

/// Whether the interface is up and has a carrier; one that is gone has none.
fn runs((socket, name): &(OwnedFd, [c_char; libc::IFNAMSIZ])) -> bool {
    // SAFETY: all-zero is a valid request; the call writes the flags, the union's field that is read then.
    unsafe {
        let mut request: libc::ifreq = MaybeUninit::zeroed().assume_init();
        request.ifr_name = *name;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) != 0 {
            return false;
        }
        let both = libc::IFF_UP | libc::IFF_RUNNING;
        i32::from(request.ifr_ifru.ifru_flags) & both == both
    }
}

/// A C string as text; empty for none.
fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: DPDK's names end with a zero byte and stay while the device is there; this copies.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}
