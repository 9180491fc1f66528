//! Raw bindings to DPDK 22.11 and a shim for its inline functions.
//!
//! The bindings are generated from the installed headers at build time, so that no structure layout is copied by hand;
//! only what the fast path uses is in them. DPDK is linked shared: EAL then loads its drivers from its own folder.
//! Functions that DPDK's headers define inline are either in the C shim (`vinet_…`) or, for the two bursts, written
//! here over `rte_eth_fp_ops`, so that the compiler inlines them into the worker.
//!
//! Nothing here is safe; `vinet_fastpath::port::dpdk` is the safe side.

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    unnecessary_transmutes,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};

/// `rte_eth_rx_burst`: moves up to `count` received packets to `mbufs` and returns how many.
///
/// # Safety
/// `port` is a started port, `queue` one of its receive queues which no other thread polls now, and `mbufs` has room
/// for `count` pointers.
#[inline]
pub unsafe fn rx_burst(port: u16, queue: u16, mbufs: *mut *mut rte_mbuf, count: u16) -> u16 {
    // SAFETY: the caller gives a started port; ethdev fills its entry on start and leaves it until the port stops.
    unsafe {
        let ops = &*(&raw const rte_eth_fp_ops).cast::<rte_eth_fp_ops>().add(usize::from(port));
        let data = *ops.rxq.data.add(usize::from(queue));
        let receive = ops.rx_pkt_burst.unwrap_unchecked();
        let received = receive(data, mbufs, count);
        let callbacks = callbacks(ops.rxq.clbk, queue);
        if callbacks.is_null() {
            received
        } else {
            rte_eth_call_rx_callbacks(port, queue, mbufs, received, count, callbacks)
        }
    }
}

/// `rte_eth_tx_burst`: takes up to `count` packets of `mbufs` for sending and returns how many, from the front.
///
/// # Safety
/// `port` is a started port, `queue` one of its transmit queues which no other thread uses now, and `mbufs` holds
/// `count` packets; those that were taken belong to the driver afterwards.
#[inline]
pub unsafe fn tx_burst(port: u16, queue: u16, mbufs: *mut *mut rte_mbuf, count: u16) -> u16 {
    // SAFETY: as for `rx_burst`.
    unsafe {
        let ops = &*(&raw const rte_eth_fp_ops).cast::<rte_eth_fp_ops>().add(usize::from(port));
        let data = *ops.txq.data.add(usize::from(queue));
        let callbacks = callbacks(ops.txq.clbk, queue);
        let count =
            if callbacks.is_null() { count } else { rte_eth_call_tx_callbacks(port, queue, mbufs, count, callbacks) };
        let send = ops.tx_pkt_burst.unwrap_unchecked();
        send(data, mbufs, count)
    }
}

/// The callbacks that a capture (rte_pdump) put on a queue, or null.
///
/// # Safety
/// `list` is the list of a started port, and `queue` one of its queues.
#[inline]
unsafe fn callbacks(list: *mut *mut c_void, queue: u16) -> *mut c_void {
    // SAFETY: the list has an entry for every queue. Relaxed, as in DPDK's own inline function: the pointer carries the
    // dependency, and the entry is replaced with a release store.
    unsafe { AtomicPtr::from_ptr(list.add(usize::from(queue))).load(Ordering::Relaxed) }
}
