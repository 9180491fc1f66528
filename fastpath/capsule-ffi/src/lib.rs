//! What the crate `capsule` 0.1.5 wants of DPDK, over DPDK 22.11: the old names, the old constants, the old EAL options.
//!
//! Capsule was written for DPDK 19.11 and trusts its caller in several places. Where the boundary to C allows it, that trust
//! is made good here, so that the safe code of `vinet_fastpath::port::capsule` stays sound:
//!
//! - `Mbuf::new` on a thread that capsule did not start passes a null pool: the process's pool takes its place, or none is there.
//! - Packets of several segments, which capsule cannot hold, are freed where they are received, and counted ([`take_unusable`]).
//! - Capsule frees, uncounted, what a transmit ring has no room for: between [`keep_unsent`] and [`Unsent::end`] such packets
//!   are kept instead, and the thread's next receptions from any queue return them.
//! - Pools and EAL stay until the process ends, because a packet may outlive capsule's runtime, which would free them.
//!
//! Left out: the kernel NIC interface (gone from Debian's DPDK; every call fails), and capture to pcap files.

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
mod kni;

pub use bindings::*;
pub use kni::*;

use core::cell::{Cell, RefCell};
use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::marker::PhantomData;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};
use std::ffi::CString;

use bindings::capsule_constants as constants;

/// The most packets that one transmission keeps.
pub const UNSENT_MAX: usize = 64;

/// The hash over addresses, under its old name.
pub const ETH_RSS_IP: u64 = constants::CAPSULE_RSS_IP as u64;
/// The hash over TCP's ports, under its old name.
pub const ETH_RSS_TCP: u64 = constants::CAPSULE_RSS_TCP as u64;
/// The hash over UDP's ports, under its old name.
pub const ETH_RSS_UDP: u64 = constants::CAPSULE_RSS_UDP as u64;
/// The hash over SCTP's ports, under its old name.
pub const ETH_RSS_SCTP: u64 = constants::CAPSULE_RSS_SCTP as u64;
/// Sent packets go back to their one pool unlooked at, under its old name.
pub const DEV_TX_OFFLOAD_MBUF_FAST_FREE: u64 = constants::CAPSULE_TX_OFFLOAD_MBUF_FAST_FREE as u64;
/// Bytes of a packet buffer, headroom included.
pub const RTE_MBUF_DEFAULT_BUF_SIZE: u32 = constants::CAPSULE_MBUF_DEFAULT_BUF_SIZE as u32;

/// How a device spreads packets over its receive queues.
#[allow(non_camel_case_types)]
pub mod rte_eth_rx_mq_mode {
    pub use crate::bindings::rte_eth_rx_mq_mode::*;
    /// By a hash, under its old name.
    pub const ETH_MQ_RX_RSS: Type = crate::constants::CAPSULE_MQ_RX_RSS as Type;
}

/// The one pool of the process, once it is made. It is never freed.
static POOL: AtomicPtr<rte_mempool> = AtomicPtr::new(null_mut());

thread_local! {
    /// Packets received in several segments, and freed, since they were last asked for.
    static UNUSABLE: Cell<u64> = const { Cell::new(0) };
    /// Whether a transmission keeps what the ring does not take.
    static KEEPING: Cell<bool> = const { Cell::new(false) };
    /// What it did not take, oldest first.
    static UNSENT: RefCell<Vec<*mut rte_mbuf>> = const { RefCell::new(Vec::new()) };
}

/// The pool that capsule made first, or null before that.
#[must_use]
pub fn pool() -> *mut rte_mempool {
    // Pairs with the exchange that stores the pool.
    POOL.load(Ordering::Acquire)
}

/// How many packets this thread received and freed because they had several segments, since it last asked.
#[must_use]
pub fn take_unusable() -> u64 {
    UNUSABLE.take()
}

/// A transmission of this thread that keeps what the ring does not take.
#[must_use]
pub struct Unsent(PhantomData<*mut ()>);

/// From now on, what a ring has no room for is kept: at most [`UNSENT_MAX`] packets, the rest goes capsule's way.
pub fn keep_unsent() -> Unsent {
    KEEPING.set(true);
    Unsent(PhantomData)
}

impl Unsent {
    /// How many packets were kept. The thread's next receptions return these, in order, before any others.
    #[must_use]
    pub fn end(self) -> usize {
        UNSENT.with_borrow(Vec::len)
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        KEEPING.set(false);
    }
}

/// `rte_eal_init`, with the options that DPDK 20.11 renamed under their new names.
///
/// # Safety
/// `argv` holds `argc` C strings, and no other thread starts EAL.
pub unsafe fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    let arguments: Vec<CString> = (0..count)
        .map(|index| {
            // SAFETY: the caller says that there are `argc` strings.
            let argument = unsafe { CStr::from_ptr(*argv.add(index)) };
            match argument.to_bytes() {
                b"--pci-whitelist" => c"-a".to_owned(),
                b"--master-lcore" => c"--main-lcore".to_owned(),
                _ => argument.to_owned(),
            }
        })
        .collect();
    let mut pointers: Vec<*mut c_char> = arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    pointers.push(null_mut());
    // SAFETY: as many strings and a null; EAL may reorder the pointers, and copies what it keeps.
    unsafe { bindings::rte_eal_init(argc, pointers.as_mut_ptr()) }
}

/// Does nothing: a packet that outlives capsule's runtime still lies in EAL's memory.
///
/// # Safety
/// Needs nothing.
#[must_use]
pub unsafe fn rte_eal_cleanup() -> c_int {
    0
}

/// `rte_pktmbuf_pool_create`; the first pool of the process is remembered.
///
/// # Safety
/// EAL runs, and `name` is a C string.
pub unsafe fn rte_pktmbuf_pool_create(
    name: *const c_char,
    n: c_uint,
    cache_size: c_uint,
    priv_size: u16,
    data_room_size: u16,
    socket_id: c_int,
) -> *mut rte_mempool {
    // SAFETY: the caller's promise.
    let pool = unsafe { bindings::rte_pktmbuf_pool_create(name, n, cache_size, priv_size, data_room_size, socket_id) };
    // Pairs with the load in `pool`, so that a thread that sees the pool sees it made.
    let _ = POOL.compare_exchange(null_mut(), pool, Ordering::Release, Ordering::Relaxed);
    pool
}

/// Does nothing: a packet may be out, and go back to its pool at any time until the process ends.
///
/// # Safety
/// Needs nothing.
pub unsafe fn rte_mempool_free(_pool: *mut rte_mempool) {}

/// DPDK's error number of the calling thread.
///
/// # Safety
/// Needs nothing.
#[must_use]
pub unsafe fn _rte_errno() -> c_int {
    // SAFETY: only reads a thread-local.
    unsafe { capsule_errno() }
}

/// The memory node of a processor, which capsule asks libnuma for.
///
/// # Safety
/// EAL runs.
#[must_use]
pub unsafe fn numa_node_of_cpu(cpu: c_int) -> c_int {
    // SAFETY: any number may be asked for once EAL runs.
    unsafe { capsule_node_of_cpu(cpu) }
}

/// One empty packet of `pool` (for null: of the process's pool), or null.
///
/// # Safety
/// `pool` is null or a pool of packets.
#[inline]
#[must_use]
pub unsafe fn _rte_pktmbuf_alloc(pool: *mut rte_mempool) -> *mut rte_mbuf {
    let pool = if pool.is_null() { self::pool() } else { pool };
    if pool.is_null() {
        return null_mut();
    }
    // SAFETY: a pool of packets, the caller's or the process's own, which is never freed.
    unsafe { capsule_pktmbuf_alloc(pool) }
}

/// `count` empty packets of `pool` (for null: of the process's pool), or none and an error.
///
/// # Safety
/// As for one; `mbufs` has room for `count`.
#[must_use]
pub unsafe fn _rte_pktmbuf_alloc_bulk(pool: *mut rte_mempool, mbufs: *mut *mut rte_mbuf, count: c_uint) -> c_int {
    const ENOENT: c_int = 2;
    let pool = if pool.is_null() { self::pool() } else { pool };
    if pool.is_null() {
        return -ENOENT;
    }
    // SAFETY: as for one; the room is the caller's promise.
    unsafe { capsule_pktmbuf_alloc_bulk(pool, mbufs, count) }
}

/// Gives a packet back to its pool.
///
/// # Safety
/// The packet is the caller's, and is not used again.
#[inline]
pub unsafe fn _rte_pktmbuf_free(mbuf: *mut rte_mbuf) {
    // SAFETY: the caller's promise.
    unsafe { capsule_pktmbuf_free(mbuf) };
}

/// Gives packets back to `pool`.
///
/// # Safety
/// They are the caller's, of this pool, each in one segment, and are not used again.
pub unsafe fn _rte_mempool_put_bulk(pool: *mut rte_mempool, objects: *const *mut c_void, count: c_uint) {
    // SAFETY: the caller's promise.
    unsafe { capsule_mempool_put_bulk(pool, objects, count) };
}

/// Up to `count` packets: those that the thread's last transmission kept, or else received ones, each in one segment.
///
/// # Safety
/// The port is started, no other thread polls the queue, and `mbufs` has room for `count`.
#[inline]
pub unsafe fn _rte_eth_rx_burst(port: u16, queue: u16, mbufs: *mut *mut rte_mbuf, count: u16) -> u16 {
    let kept = UNSENT.with_borrow_mut(|unsent| {
        let kept = unsent.len().min(usize::from(count));
        for (index, mbuf) in unsent.drain(..kept).enumerate() {
            // SAFETY: index < count, which the caller has room for.
            unsafe { mbufs.add(index).write(mbuf) };
        }
        kept
    });
    if kept > 0 {
        // At most `count`, so it fits.
        return kept as u16;
    }
    // SAFETY: the caller's promise.
    let received = unsafe { capsule_rx_burst(port, queue, mbufs, count) };
    let mut usable = 0;
    for index in 0..usize::from(received) {
        // SAFETY: the driver wrote that many packets, ours alone; `usable` never runs ahead of `index`.
        unsafe {
            let mbuf = *mbufs.add(index);
            if settle(&mut *mbuf) {
                mbufs.add(usable).write(mbuf);
                usable += 1;
            } else {
                capsule_pktmbuf_free(mbuf);
                UNUSABLE.set(UNUSABLE.get() + 1);
            }
        }
    }
    // At most `received`, so it fits.
    usable as u16
}

/// Whether a driver's mbuf is a packet in one segment that nobody else refers to; offload requests in it are cleared.
#[inline]
fn settle(mbuf: &mut rte_mbuf) -> bool {
    mbuf.ol_flags &= !(constants::CAPSULE_TX_OFFLOAD_FLAGS as u64);
    // SAFETY: every value of the union is a reference count.
    let refcnt = mbuf.refcnt;
    mbuf.ol_flags & constants::CAPSULE_MBUF_INDIRECT as u64 == 0 && mbuf.nb_segs == 1 && refcnt == 1
}

/// Takes packets from the front of `mbufs` for sending, and returns how many the ring took or this thread keeps.
///
/// # Safety
/// The port is started, no other thread uses the queue, and `mbufs` holds `count` packets of the caller's.
#[inline]
pub unsafe fn _rte_eth_tx_burst(port: u16, queue: u16, mbufs: *mut *mut rte_mbuf, count: u16) -> u16 {
    // SAFETY: the caller's promise.
    let sent = unsafe { capsule_tx_burst(port, queue, mbufs, count) };
    if sent == count || !KEEPING.get() {
        return sent;
    }
    UNSENT.with_borrow_mut(|unsent| {
        let room = UNSENT_MAX.saturating_sub(unsent.len());
        let kept = usize::from(count - sent).min(room);
        // SAFETY: the driver left the packets from `sent` on to the caller, who gives them to us here.
        unsent.extend((0..kept).map(|index| unsafe { *mbufs.add(usize::from(sent) + index) }));
        // At most `count`, so it fits.
        sent + kept as u16
    })
}
