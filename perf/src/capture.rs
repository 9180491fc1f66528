//! The captures of the standard benchmark: UDP flows in a classic pcap file.
//!
//! [`Capture`] says which one, and with it what a router needs to be under it: two routes, and packet buffers.

pub mod random;

use crate::run::PerfError;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use vinet_pktops::checksum;
use vinet_trusted::addr::Addr;

/// The Ethernet address that `net_pcap0` gives itself: the frames are to it.
pub const PORT_0_MAC: [u8; 6] = [0x02, 0x70, 0x63, 0x61, 0x70, 0x00];
/// The flows of the standard capture.
pub const FLOWS: usize = 2048;
/// The destinations of the standard capture.
const DESTINATIONS: u32 = 508;
/// The seed of the sources: the same capture every time.
const SEED: u64 = 0x0076_696e_6574_0001;

/// Ethernet, IPv4 and UDP headers.
const HEADERS_LEN: usize = 14 + 20 + 8;
/// A frame on the wire has four bytes of check sequence that no capture holds.
const FCS_LEN: usize = 4;

/// Packet buffers of a router beside those that hold the capture.
const BUFFERS: u32 = 16_384;
/// Packet memory of a router under the standard capture, in MiB.
const MEMORY_MIB: u32 = 512;
/// A packet buffer with all that the pool adds to it, in bytes, rounded up.
const BUFFER_BYTES: usize = 2432;

/// Which capture a router is under. `net_pcap` holds each packet of one that is repeated without end in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// The standard one, of [`FLOWS`] flows, or another of a few packets over the same destinations.
    Standard,
    /// That of [`random`], with so many flows.
    Random {
        /// One packet each.
        flows: usize,
    },
}

impl Capture {
    /// The networks of its destinations: half leave by port 0 and half by port 1.
    pub fn networks(self) -> [(u32, u8); 2] {
        match self {
            Capture::Standard => [(0xc612_0000, 24), (0xc612_0100, 24)],
            Capture::Random { .. } => random::NETWORKS.map(|network| (network, random::NETWORK_LEN)),
        }
    }
    /// Packet buffers that a router needs under it.
    pub fn buffers(self) -> u32 {
        BUFFERS + self.held()
    }
    /// Packet memory that a router needs under it, in MiB.
    pub fn memory_mib(self) -> u32 {
        MEMORY_MIB + (self.held() as usize * BUFFER_BYTES).div_ceil(1 << 20) as u32
    }
    /// Packets that it holds, beyond those that every router has room for.
    fn held(self) -> u32 {
        match self {
            Capture::Standard => 0,
            Capture::Random { flows } => u32::try_from(flows).unwrap_or(u32::MAX),
        }
    }
}

/// Writes `flows` packets whose frames have `frame_len` bytes on the wire: sources random in 10/8, destinations half in
/// 198.18.0.0/24 and half in 198.18.1.0/24.
pub fn write(path: &Path, frame_len: usize, flows: usize) -> Result<(), PerfError> {
    write_in_order(path, frame_len, flows, 0..flows)
}

/// Writes packets of the first `flows` flows, in the order given.
pub fn write_in_order(
    path: &Path,
    frame_len: usize,
    flows: usize,
    order: impl IntoIterator<Item = usize>,
) -> Result<(), PerfError> {
    let mut random = SEED;
    let frames: Vec<Vec<u8>> = (0..flows).map(|flow| standard_frame(flow, &mut random, frame_len)).collect();
    write_frames(path, order.into_iter().map(|flow| &frames[flow]))
}

/// Writes a capture of these frames.
fn write_frames<F: AsRef<[u8]>>(path: &Path, frames: impl IntoIterator<Item = F>) -> Result<(), PerfError> {
    let file = |error| PerfError::File { path: path.to_owned(), error };
    let mut out = BufWriter::new(File::create(path).map_err(file)?);
    let write = || -> std::io::Result<()> {
        out.write_all(&0xa1b2_c3d4u32.to_le_bytes())?;
        out.write_all(&[2, 0, 4, 0])?;
        out.write_all(&[0; 8])?;
        out.write_all(&65_535u32.to_le_bytes())?;
        out.write_all(&1u32.to_le_bytes())?;
        for frame in frames {
            let frame = frame.as_ref();
            out.write_all(&[0; 8])?;
            for _ in 0..2 {
                out.write_all(&(frame.len() as u32).to_le_bytes())?;
            }
            out.write_all(frame)?;
        }
        out.flush()
    };
    write().map_err(file)
}

/// The source and the destination of a flow of the standard capture.
pub fn pair(flow: usize) -> (Addr, Addr) {
    let mut random = SEED;
    (0..flow).for_each(|_| next(&mut random));
    next(&mut random);
    (Addr::V4(source(random)), Addr::V4(destination(flow)))
}

/// A pair that a firewall can have without a packet of the standard capture matching it: the number's source sends
/// nothing, and its destination is one of the capture's. Different numbers up to half a thousand million have different
/// pairs.
pub fn idle_pair(number: u32) -> (Addr, Addr) {
    (Addr::V4(idle_source(number / DESTINATIONS)), Addr::V4(destination(number as usize)))
}

/// One of the 2^20 sources of 172.16/12, which are in no capture.
fn idle_source(number: u32) -> u32 {
    0xac10_0000 | number & 0x000f_ffff
}

fn next(random: &mut u64) {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
}

fn source(random: u64) -> u32 {
    0x0a00_0000 | ((random >> 33) as u32 & 0x00ff_ffff)
}

fn destination(flow: usize) -> u32 {
    0xc612_0001 + ((flow % 2) << 8) as u32 + (flow / 2 % 254) as u32
}

fn standard_frame(flow: usize, random: &mut u64, frame_len: usize) -> Vec<u8> {
    next(random);
    let src_port = 1024 + (*random >> 57) as u16;
    frame((source(*random), destination(flow)), src_port, frame_len)
}

/// A UDP datagram from a source to a destination, whose frame has so many bytes on the wire.
fn frame((src, dst): (u32, u32), src_port: u16, frame_len: usize) -> Vec<u8> {
    let mut frame = vec![0u8; (frame_len - FCS_LEN).max(HEADERS_LEN)];
    frame[..6].copy_from_slice(&PORT_0_MAC);
    frame[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 0x99]);
    frame[12..14].copy_from_slice(&0x0800u16.to_be_bytes());
    let ip_len = (frame.len() - 14) as u16;
    let ip = &mut frame[14..34];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&ip_len.to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&src.to_be_bytes());
    ip[16..20].copy_from_slice(&dst.to_be_bytes());
    let sum = checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let udp_len = ip_len - 20;
    frame[34..36].copy_from_slice(&src_port.to_be_bytes());
    frame[36..38].copy_from_slice(&9u16.to_be_bytes());
    frame[38..40].copy_from_slice(&udp_len.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_are_what_a_router_forwards() {
        let mut random = SEED;
        for flow in 0..FLOWS {
            let frame = standard_frame(flow, &mut random, 64);
            let parsed = etherparse::SlicedPacket::from_ethernet(&frame).expect("a packet");
            let Some(etherparse::NetSlice::Ipv4(ip)) = parsed.net else { panic!("IPv4") };
            let header = ip.header();
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            assert_eq!(header.source_addr().octets()[0], 10);
            assert_eq!(header.destination_addr().octets()[..3], [198, 18, (flow % 2) as u8]);
            let ends = [header.source_addr(), header.destination_addr()].map(|a| Addr::V4(a.to_bits()));
            assert_eq!(pair(flow), (ends[0], ends[1]));
            assert!(vinet_pktops::parse::headers(&frame).is_ok());
        }
    }

    #[test]
    fn idle_pairs_are_different_and_match_no_flow() {
        use std::collections::HashSet;
        let idle: HashSet<_> = (0..100_000).map(idle_pair).collect();
        assert_eq!(idle.len(), 100_000);
        let flows: Vec<_> = (0..FLOWS).map(pair).collect();
        let (sources, owners): (HashSet<_>, HashSet<_>) = flows.into_iter().unzip();
        assert_eq!(owners.len(), DESTINATIONS as usize);
        for (source, owner) in idle {
            assert!(!sources.contains(&source) && owners.contains(&owner));
        }
    }

    #[test]
    fn every_packet_of_the_random_capture_has_a_buffer() {
        let many = Capture::Random { flows: 1_000_000 };
        assert_eq!(many.buffers() - Capture::Standard.buffers(), 1_000_000);
        assert!(u64::from(many.memory_mib()) << 20 >= u64::from(many.buffers()) * BUFFER_BYTES as u64);
    }
}
