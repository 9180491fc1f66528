//! The kernel NIC interface as capsule knows it. DPDK 22.11 deprecates it and Debian's has none, so there is never one:
//! the calls that would make one fail, and the others, which need one, cannot be reached.

use core::ffi::{c_char, c_int, c_uint};
use core::ptr::null_mut;

use crate::{rte_mbuf, rte_mempool};

/// `ENOTSUP` of Linux.
const ENOTSUP: c_int = 95;

/// An interface; there is no value of it.
#[allow(non_camel_case_types)]
pub enum rte_kni {}

/// How an interface would be made.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Default)]
pub struct rte_kni_conf {
    /// Its name.
    pub name: [c_char; 32],
    /// The port's number.
    pub group_id: u16,
    /// Its Ethernet address.
    pub mac_addr: [u8; 6],
    /// The length of its buffers.
    pub mbuf_size: u32,
}

/// What the kernel's requests would call.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Default)]
pub struct rte_kni_ops {
    /// The port.
    pub port_id: u16,
    /// For another MTU.
    pub change_mtu: Option<extern "C" fn(u16, c_uint) -> c_int>,
    /// For up and down.
    pub config_network_if: Option<extern "C" fn(u16, u8) -> c_int>,
    /// For another address.
    pub config_mac_address: Option<extern "C" fn(u16, *mut u8) -> c_int>,
    /// For promiscuous mode.
    pub config_promiscusity: Option<extern "C" fn(u16, u8) -> c_int>,
}

/// Fails.
///
/// # Safety
/// Needs nothing.
#[must_use]
pub unsafe fn rte_kni_init(_max: c_uint) -> c_int {
    -ENOTSUP
}

/// There is nothing to close.
///
/// # Safety
/// Needs nothing.
pub unsafe fn rte_kni_close() {}

/// Fails: null.
///
/// # Safety
/// Needs nothing.
#[must_use]
pub unsafe fn rte_kni_alloc(_: *mut rte_mempool, _: *const rte_kni_conf, _: *mut rte_kni_ops) -> *mut rte_kni {
    null_mut()
}

/// Cannot be reached: there is no interface.
///
/// # Safety
/// `kni` is null or an interface.
#[must_use]
pub unsafe fn rte_kni_release(_kni: *mut rte_kni) -> c_int {
    -ENOTSUP
}

/// Cannot be reached: there is no interface.
///
/// # Safety
/// `kni` is null or an interface.
#[must_use]
pub unsafe fn rte_kni_handle_request(_kni: *mut rte_kni) -> c_int {
    -ENOTSUP
}

/// Cannot be reached: there is no interface.
///
/// # Safety
/// `kni` is null or an interface.
#[must_use]
pub unsafe fn rte_kni_rx_burst(_kni: *mut rte_kni, _mbufs: *mut *mut rte_mbuf, _count: c_uint) -> c_uint {
    0
}

/// Cannot be reached: there is no interface.
///
/// # Safety
/// `kni` is null or an interface.
#[must_use]
pub unsafe fn rte_kni_tx_burst(_kni: *mut rte_kni, _mbufs: *mut *mut rte_mbuf, _count: c_uint) -> c_uint {
    0
}

/// Cannot be reached: there is no interface.
///
/// # Safety
/// `kni` is null or an interface.
#[must_use]
pub unsafe fn rte_kni_get_name(_kni: *const rte_kni) -> *const c_char {
    c"".as_ptr()
}
