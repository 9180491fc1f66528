//! The captures of the standard benchmark: UDP flows in a classic pcap file, one packet each.

use crate::run::PerfError;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use vinet_pktops::checksum;
use vinet_trusted::addr::Addr;

/// The Ethernet address that `net_pcap0` gives itself: the frames are to it.
pub const PORT_0_MAC: [u8; 6] = [0x02, 0x70, 0x63, 0x61, 0x70, 0x00];
/// The flows of the capture.
pub const FLOWS: usize = 2048;
/// The seed of the sources: the same capture every time.
const SEED: u64 = 0x0076_696e_6574_0001;

/// Ethernet, IPv4 and UDP headers.
const HEADERS_LEN: usize = 14 + 20 + 8;
/// A frame on the wire has four bytes of check sequence that no capture holds.
const FCS_LEN: usize = 4;

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
    let file = |error| PerfError::File { path: path.to_owned(), error };
    let mut out = BufWriter::new(File::create(path).map_err(file)?);
    let write = || -> std::io::Result<()> {
        out.write_all(&0xa1b2_c3d4u32.to_le_bytes())?;
        out.write_all(&[2, 0, 4, 0])?;
        out.write_all(&[0; 8])?;
        out.write_all(&65_535u32.to_le_bytes())?;
        out.write_all(&1u32.to_le_bytes())?;
        let mut random = SEED;
        let frames: Vec<Vec<u8>> = (0..flows).map(|flow| frame(flow, &mut random, frame_len - FCS_LEN)).collect();
        for flow in order {
            let frame = &frames[flow];
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

/// The source and the destination of a flow.
pub fn pair(flow: usize) -> (Addr, Addr) {
    let mut random = SEED;
    (0..flow).for_each(|_| next(&mut random));
    next(&mut random);
    (source(random), destination(flow))
}

fn next(random: &mut u64) {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
}

fn source(random: u64) -> Addr {
    Addr::V4(0x0a00_0000 | ((random >> 33) as u32 & 0x00ff_ffff))
}

fn destination(flow: usize) -> Addr {
    Addr::V4(0xc612_0001 + ((flow % 2) << 8) as u32 + (flow / 2 % 254) as u32)
}

fn frame(flow: usize, random: &mut u64, len: usize) -> Vec<u8> {
    next(random);
    let bits = (*random >> 33) as u32;
    let mut frame = vec![0u8; len.max(HEADERS_LEN)];
    frame[..6].copy_from_slice(&PORT_0_MAC);
    frame[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 0x99]);
    frame[12..14].copy_from_slice(&0x0800u16.to_be_bytes());
    let ip_len = (frame.len() - 14) as u16;
    let ip = &mut frame[14..34];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&ip_len.to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    for (place, addr) in [(12, source(*random)), (16, destination(flow))] {
        if let Addr::V4(addr) = addr {
            ip[place..place + 4].copy_from_slice(&addr.to_be_bytes());
        }
    }
    let sum = checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let udp_len = ip_len - 20;
    frame[34..36].copy_from_slice(&(1024 + (bits >> 24) as u16).to_be_bytes());
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
            let frame = frame(flow, &mut random, 60);
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
}
