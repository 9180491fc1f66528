//! What is known of packets that were judged together.

use crate::port::BURST_LEN_MAX;

/// Packets that are judged together.
pub(super) const GROUP: usize = 8;

/// What is known of the plain packets of a burst, an array for each thing. Only what stands at the numbers of packets that
/// were found plain counts.
pub(crate) struct Plain {
    pub(super) hops: [[u32; GROUP]; BURST_LEN_MAX / GROUP],
    pub(super) ports: [[u32; GROUP]; BURST_LEN_MAX / GROUP],
    pub(super) lifetimes: [[u32; GROUP]; BURST_LEN_MAX / GROUP],
}

impl Plain {
    pub(super) const EMPTY: Plain = Plain {
        hops: [[0; GROUP]; BURST_LEN_MAX / GROUP],
        ports: [[0; GROUP]; BURST_LEN_MAX / GROUP],
        lifetimes: [[0; GROUP]; BURST_LEN_MAX / GROUP],
    };
    /// The numbers of the hops in the table that was asked; each has a station.
    #[inline(always)]
    pub(crate) fn hops(&self) -> &[u32; BURST_LEN_MAX] {
        flat(self.hops.as_flattened())
    }
    /// The ports of those stations.
    #[inline(always)]
    pub(crate) fn ports(&self) -> &[u32; BURST_LEN_MAX] {
        flat(self.ports.as_flattened())
    }
    /// Says that the packet of this number leaves by a port, for one that was judged alone.
    #[inline]
    pub(crate) fn set_port(&mut self, number: usize, port: u16) {
        self.ports[number / GROUP][number % GROUP] = u32::from(port);
    }
    /// The four bytes from the TTL on (little-endian), with one hop counted: TTL, protocol and checksum.
    #[inline(always)]
    pub(crate) fn lifetimes(&self) -> &[u32; BURST_LEN_MAX] {
        flat(self.lifetimes.as_flattened())
    }
}

/// All that there is, as an array.
#[inline(always)]
fn flat<T>(all: &[T]) -> &[T; BURST_LEN_MAX] {
    const { assert!(BURST_LEN_MAX.is_multiple_of(GROUP)) };
    match all.first_chunk() {
        Some(all) => all,
        None => unreachable!("there are as many"),
    }
}
