//! Packets in DPDK's memory, and the pools they come from.
//!
//! Holding an [`Mbuf`] proves sole ownership of one packet of one segment: nobody else reads or writes its bytes until
//! it is dropped or sent. It is a pointer wide, so a burst of them is the array that DPDK's drivers fill and take. Pools live
//! until EAL is cleaned up, which waits for all packets (see `eal`), so an `Mbuf` never outlives its memory. Left out:
//! packets of several segments, clones, external buffers of our own, and all offloads.

use std::ffi::{CString, c_uint};
use std::fmt;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vinet_dpdk_sys as sys;

use super::{Burst, PacketBuf, PacketPool};
use crate::eal::{Eal, LogMark, errno, error_text};

/// Bytes before each received frame.
pub const HEADROOM_LEN: u16 = sys::RTE_PKTMBUF_HEADROOM as u16;

/// Ethernet header, two VLAN tags and FCS: what a frame may have over its MTU, in bytes.
pub const FRAME_OVERHEAD_LEN: u16 = 14 + 2 * 4 + 4;

/// The least data room that all drivers take, in bytes, headroom included.
pub const DATA_ROOM_LEN_MIN: u16 = 2048 + HEADROOM_LEN;

/// The most buffers that a thread keeps for itself.
pub const CACHE_LEN_MAX: u32 = sys::RTE_MEMPOOL_CACHE_MAX_SIZE;

/// One packet in DPDK's memory, in one segment, owned.
#[repr(transparent)]
pub struct Mbuf {
    mbuf: NonNull<sys::rte_mbuf>,
}

// SAFETY: the packet has one owner, and DPDK's pools take buffers back from any thread, registered or not.
unsafe impl Send for Mbuf {}
// SAFETY: through a shared reference the bytes are only read.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    #[inline]
    fn header(&self) -> &sys::rte_mbuf {
        // SAFETY: the pointer is to a live mbuf that only this value refers to.
        unsafe { self.mbuf.as_ref() }
    }

    #[inline]
    fn header_mut(&mut self) -> &mut sys::rte_mbuf {
        // SAFETY: as for `header`; `self` is borrowed for writing.
        unsafe { self.mbuf.as_mut() }
    }

    #[inline]
    fn data(&self) -> *mut u8 {
        let header = self.header();
        // SAFETY: the data offset lies in the buffer: drivers and the methods below keep offset + length <= buf_len.
        unsafe { header.buf_addr.cast::<u8>().add(usize::from(header.data_off)) }
    }

    /// What is unusual about a driver's mbuf, as one number: 0 for a packet in one segment that nobody else refers to
    /// and that asks for no offload.
    #[inline]
    fn oddity(&self) -> u64 {
        const FIRST: usize = mem::offset_of!(sys::rte_mbuf, data_off);
        const _: () = assert!(mem::offset_of!(sys::rte_mbuf, refcnt) == FIRST + 2);
        const _: () = assert!(mem::offset_of!(sys::rte_mbuf, nb_segs) == FIRST + 4);
        // SAFETY: the constants are initialised by the C compiler and never written.
        let odd_flags = unsafe { sys::vinet_TX_OFFLOAD_FLAGS | sys::vinet_MBUF_INDIRECT };
        const { assert!(cfg!(target_endian = "little"), "the second half word has the bits from 16 on") };
        // Both counts in one load.
        // SAFETY: the eight bytes are those of the four half words from `data_off` on, of a live mbuf that is ours.
        let halves = unsafe { self.mbuf.as_ptr().byte_add(FIRST).cast::<u64>().read_unaligned() };
        (self.header().ol_flags & odd_flags) | ((halves ^ 0x0001_0001_0000) & 0xffff_ffff_0000)
    }

    /// Whether a driver's mbuf is a packet in one segment that nobody else refers to. Offload requests that another
    /// sender left in it are cleared, because our frames go out as they are.
    #[cold]
    fn settle(&mut self) -> bool {
        // SAFETY: the constants are initialised by the C compiler and never written.
        let (request, indirect) = unsafe { (sys::vinet_TX_OFFLOAD_FLAGS, sys::vinet_MBUF_INDIRECT) };
        let header = self.header_mut();
        if header.ol_flags & (request | indirect) != 0 {
            header.ol_flags &= !request;
            if header.ol_flags & indirect != 0 {
                return false;
            }
        }
        header.nb_segs == 1 && header.refcnt == 1
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the packet is ours and not used again; its pool lives until EAL's clean-up.
        unsafe { sys::vinet_pktmbuf_free(self.mbuf.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mbuf({} bytes)", self.header().data_len)
    }
}

impl PacketBuf for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: offset + length <= buf_len, the memory came from the kernel initialised, and it is ours.
        unsafe { std::slice::from_raw_parts(self.data(), usize::from(self.header().data_len)) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`; `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.data(), usize::from(self.header().data_len)) }
    }

    #[inline]
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        let header = self.header_mut();
        let more = u16::try_from(len).ok()?;
        let data_off = header.data_off.checked_sub(more)?;
        header.data_len = header.data_len.checked_add(more)?;
        header.data_off = data_off;
        header.pkt_len = u32::from(header.data_len);
        Some(self.bytes_mut())
    }

    #[inline]
    fn append(&mut self, len: usize) -> Option<&mut [u8]> {
        let header = self.header_mut();
        let tailroom = header.buf_len.checked_sub(header.data_off)?.checked_sub(header.data_len)?;
        let more = u16::try_from(len).ok().filter(|more| *more <= tailroom)?;
        header.data_len += more;
        header.pkt_len = u32::from(header.data_len);
        Some(self.bytes_mut())
    }

    #[inline]
    fn trim_front(&mut self, len: usize) -> bool {
        let header = self.header_mut();
        let Some(less) = u16::try_from(len).ok().filter(|less| *less <= header.data_len) else { return false };
        header.data_off += less;
        header.data_len -= less;
        header.pkt_len = u32::from(header.data_len);
        true
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        let header = self.header_mut();
        if len < usize::from(header.data_len) {
            header.data_len = len as u16;
            header.pkt_len = u32::from(header.data_len);
        }
    }

    #[inline]
    fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch has no effect on memory and cannot fault; SSE is part of x86_64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.data().cast::<i8>()) };
        }
    }

    #[inline]
    fn drop_all(burst: &mut Burst<Self>) {
        let packets = burst.packets_vec();
        // At most BURST_LEN_MAX, so the count fits.
        let count = packets.len() as c_uint;
        let mbufs = packets.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
        // SAFETY: an Mbuf is a transparent non-null pointer; emptying the vector first leaves DPDK the only owner of the
        // `count` packets that stand in its memory.
        unsafe {
            packets.set_len(0);
            sys::rte_pktmbuf_free_bulk(mbufs, count);
        }
    }
}

/// How large a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MempoolSettings {
    /// Buffers in all: at least what all receive rings, the caches and the packets on their way hold together.
    pub buffers: u32,
    /// Bytes in each buffer, headroom included.
    pub data_room_len: u16,
    /// Buffers that each worker keeps for itself.
    pub cache: u32,
}

impl MempoolSettings {
    /// Buffers for frames of `mtu` bytes of IP, each with a cache of 256 where the pool is large enough.
    #[must_use]
    pub fn for_mtu(buffers: u32, mtu: u16) -> Self {
        let data_room_len = mtu.saturating_add(HEADROOM_LEN + FRAME_OVERHEAD_LEN).max(DATA_ROOM_LEN_MIN);
        MempoolSettings { buffers, data_room_len, cache: 256.min(buffers * 2 / 3) }
    }
}

/// A pool of packet buffers. It lives until EAL's clean-up, whatever happens to this value.
#[derive(Clone, Debug)]
pub struct Mempool {
    shared: Arc<PoolShared>,
}

#[derive(Debug)]
pub(super) struct PoolShared {
    pool: NonNull<sys::rte_mempool>,
    settings: MempoolSettings,
    /// Keeps DPDK's memory mapped.
    _eal: Eal,
}

// SAFETY: DPDK's pools are made for use from several threads at once.
unsafe impl Send for PoolShared {}
// SAFETY: as above.
unsafe impl Sync for PoolShared {}

/// Makes the names of pools different.
static POOLS: AtomicU32 = AtomicU32::new(0);

impl Mempool {
    /// Takes the memory for a pool, on the memory node of the calling thread.
    ///
    /// # Errors
    /// Where the sizes are out of their ranges or DPDK has not that much memory.
    pub fn new(eal: &Eal, settings: MempoolSettings) -> Result<Mempool, MempoolError> {
        if settings.buffers == 0 {
            return Err(MempoolError::NoBuffers);
        }
        if settings.data_room_len < DATA_ROOM_LEN_MIN {
            return Err(MempoolError::DataRoomTooSmall { len: settings.data_room_len });
        }
        // DPDK's own rule: 1.5 times the cache must not exceed the pool.
        let cache_max = CACHE_LEN_MAX.min(settings.buffers / 3 * 2);
        if settings.cache > cache_max {
            return Err(MempoolError::CacheTooLarge { cache: settings.cache, cache_max });
        }
        let name = CString::new(format!("vinet_packets_{}", POOLS.fetch_add(1, Ordering::Relaxed)))
            .expect("a name without zero bytes");
        let mark = LogMark::now();
        // SAFETY: EAL runs, which `eal` proves; the name is copied. -1 is SOCKET_ID_ANY.
        let pool = unsafe {
            sys::rte_pktmbuf_pool_create(name.as_ptr(), settings.buffers, settings.cache, 0, settings.data_room_len, -1)
        };
        let Some(pool) = NonNull::new(pool) else {
            return Err(MempoolError::NoMemory { settings, errno: errno(), log: mark.text() });
        };
        eal.adopt_pool(pool.as_ptr(), settings.buffers);
        Ok(Mempool { shared: Arc::new(PoolShared { pool, settings, _eal: eal.clone() }) })
    }

    /// Its sizes.
    #[must_use]
    pub fn settings(&self) -> MempoolSettings {
        self.shared.settings
    }

    /// Buffers that are free now: exact while nothing moves, otherwise a close guess.
    #[must_use]
    pub fn free(&self) -> u32 {
        // SAFETY: the pool lives; DPDK allows the count at any time.
        unsafe { sys::rte_mempool_avail_count(self.shared.pool.as_ptr()) }
    }

    /// A worker's handle.
    #[must_use]
    pub fn handle(&self) -> MbufPool {
        MbufPool { pool: self.clone() }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.shared.pool.as_ptr()
    }
}

/// A worker's handle to a pool.
#[derive(Debug)]
pub struct MbufPool {
    pool: Mempool,
}

impl PacketPool for MbufPool {
    type Buf = Mbuf;

    fn allocate(&mut self, frame: &[u8]) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as the handle; a non-null answer is a fresh mbuf of one segment, ours alone.
        let mbuf = NonNull::new(unsafe { sys::vinet_pktmbuf_alloc(self.pool.as_ptr()) })?;
        let mut packet = Mbuf { mbuf };
        packet.append(frame.len())?.copy_from_slice(frame);
        Some(packet)
    }
}

/// Takes ownership of what a driver wrote behind the packets of a burst, and drops those the worker cannot use.
/// Returns how many stay.
///
/// # Safety
/// The driver wrote `received` packets, ours alone, right behind the vector's end and within its capacity.
#[inline]
pub(super) unsafe fn adopt_received(packets: &mut Vec<Mbuf>, received: usize) -> usize {
    let first = packets.len();
    // SAFETY: the caller says that they are there.
    unsafe { packets.set_len(first + received) };
    let oddities = packets[first..].iter().fold(0, |oddities, packet| oddities | packet.oddity());
    if oddities != 0 {
        drop_unusable(packets, first);
    }
    packets.len() - first
}

#[cold]
fn drop_unusable(packets: &mut Vec<Mbuf>, first: usize) {
    let mut at = first;
    while at < packets.len() {
        if packets[at].settle() {
            at += 1;
        } else {
            packets.remove(at);
        }
    }
}

/// Forgets the first `sent` packets, which a driver took, and closes the gap.
///
/// # Safety
/// The driver owns the first `sent` packets, and there are as many.
#[inline]
pub(super) unsafe fn forget_sent(packets: &mut Vec<Mbuf>, sent: usize) {
    let left = packets.len() - sent;
    // SAFETY: both ranges lie in the vector; the pointers of the first `sent` are overwritten or cut off undropped.
    unsafe {
        packets.set_len(left);
        if left > 0 {
            let start = packets.as_mut_ptr();
            ptr::copy(start.add(sent), start, left);
        }
    }
}

const _: () = assert!(mem::size_of::<Mbuf>() == mem::size_of::<*mut sys::rte_mbuf>());

/// Why there is no pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MempoolError {
    /// Of no buffers.
    NoBuffers,
    /// Of buffers that some drivers refuse.
    DataRoomTooSmall {
        /// The length asked for.
        len: u16,
    },
    /// With caches larger than DPDK allows for the pool.
    CacheTooLarge {
        /// The cache asked for.
        cache: u32,
        /// The largest.
        cache_max: u32,
    },
    /// DPDK's memory does not suffice.
    NoMemory {
        /// What was asked for.
        settings: MempoolSettings,
        /// DPDK's error number.
        errno: i32,
        /// What DPDK said.
        log: String,
    },
}

impl fmt::Display for MempoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MempoolError::NoBuffers => f.write_str("a pool needs at least one buffer"),
            MempoolError::DataRoomTooSmall { len } => {
                write!(
                    f,
                    "buffers of {len} bytes are too small: expected at least {DATA_ROOM_LEN_MIN}, headroom included"
                )
            }
            MempoolError::CacheTooLarge { cache, cache_max } => {
                write!(f, "a cache of {cache} buffers is too large for the pool: expected at most {cache_max}")
            }
            MempoolError::NoMemory { settings, errno, log } => {
                let mib = u64::from(settings.buffers) * (u64::from(settings.data_room_len) + 256) / (1 << 20) + 1;
                write!(
                    f,
                    "no memory for a pool of {} buffers of {} bytes ({}): it needs about {mib} MiB; set more hugepages \
                     (/proc/sys/vm/nr_hugepages) or memory, or fewer buffers",
                    settings.buffers,
                    settings.data_room_len,
                    error_text(*errno)
                )?;
                if log.is_empty() { Ok(()) } else { write!(f, "; DPDK said: {log}") }
            }
        }
    }
}

impl std::error::Error for MempoolError {}
