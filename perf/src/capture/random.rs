//! The capture of many flows by chance, one packet each, and the firewalls of their destinations.
//!
//! Every flow goes to a destination of its own, whose owner has one firewall: against the flow's source for every other
//! flow, and against a source that sends nothing for the rest. So half of the packets that leave by each port match. What
//! chance decides follows from a fixed seed, and the order of the packets is by chance too: the next packet's entry in a
//! table lies nowhere near this one's.

use super::{SEED, frame, idle_source, next, source, write_frames};
use crate::run::PerfError;
use std::path::Path;

/// The networks of the destinations, for port 0 and port 1.
pub const NETWORKS: [u32; 2] = [0x6440_0000, 0x6460_0000];
/// Their prefix length.
pub const NETWORK_LEN: u8 = 11;
/// Flows at most: every address of the networks.
pub const FLOWS_MAX: usize = 2 << (32 - NETWORK_LEN);

/// One flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Where its packet comes from.
    pub src: u32,
    /// Where it goes; no other flow's does.
    pub dst: u32,
    /// The source that the destination's owner has a firewall against.
    pub firewall: u32,
}

/// The flows in the order of the capture: a multiple of four, [`FLOWS_MAX`] at most.
pub fn flows(count: usize) -> Vec<Flow> {
    assert!(count.is_multiple_of(4) && count <= FLOWS_MAX, "{count} flows cannot be halved twice, or are too many");
    let mut random = SEED;
    let mut flows = Vec::with_capacity(count);
    for network in NETWORKS {
        let mut hosts: Vec<u32> = (0..1 << (32 - NETWORK_LEN)).collect();
        shuffle(&mut hosts, &mut random);
        for (number, host) in hosts.into_iter().take(count / 2).enumerate() {
            next(&mut random);
            let (src, idle) = (source(random), idle_source(flows.len() as u32));
            flows.push(Flow { src, dst: network + host, firewall: if number % 2 == 0 { src } else { idle } });
        }
    }
    shuffle(&mut flows, &mut random);
    flows
}

/// Writes their packets, whose frames have `frame_len` bytes on the wire.
pub fn write(path: &Path, frame_len: usize, flows: &[Flow]) -> Result<(), PerfError> {
    write_frames(path, flows.iter().map(|flow| frame((flow.src, flow.dst), 1024, frame_len)))
}

/// Fisher and Yates' shuffle.
fn shuffle<T>(items: &mut [T], random: &mut u64) {
    for end in (1..items.len()).rev() {
        next(random);
        let other = ((*random >> 32) * (end as u64 + 1)) >> 32;
        items.swap(end, other as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Whether its packet is dropped.
    fn is_matched(flow: &Flow) -> bool {
        flow.firewall == flow.src
    }

    #[test]
    fn destinations_differ_and_half_of_each_ports_packets_match() {
        let flows = flows(20_000);
        let owners: HashSet<u32> = flows.iter().map(|flow| flow.dst).collect();
        assert_eq!(owners.len(), 20_000);
        for network in NETWORKS {
            let mine = || flows.iter().filter(|flow| flow.dst >> 21 == network >> 21);
            assert_eq!(mine().count(), 10_000);
            assert_eq!(mine().filter(|flow| is_matched(flow)).count(), 5_000);
        }
        for flow in &flows {
            assert_eq!(flow.src >> 24, 10);
            assert!(is_matched(flow) || flow.firewall >> 20 == 0xac1, "{flow:?}");
        }
    }

    #[test]
    fn the_order_is_by_chance_and_the_same_every_time() {
        let flows = flows(20_000);
        assert_eq!(flows, super::flows(20_000));
        // By chance a step goes up, to the other port, or to the other fate half of the time; 10,000 each, give or take 71.
        let steps =
            |changes: fn(&Flow, &Flow) -> bool| flows.windows(2).filter(|pair| changes(&pair[0], &pair[1])).count();
        for changes in [
            steps(|a, b| a.dst < b.dst),
            steps(|a, b| a.src < b.src),
            steps(|a, b| a.dst >> 21 != b.dst >> 21),
            steps(|a, b| is_matched(a) != is_matched(b)),
        ] {
            assert!((9_500..10_500).contains(&changes), "{changes}");
        }
    }

    #[test]
    fn the_file_holds_each_flows_packet_in_order() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("random.pcap");
        let flows = flows(400);
        write(&path, 64, &flows).expect("a capture");
        let bytes = std::fs::read(&path).expect("it is there");
        let packets: Vec<&[u8]> = bytes[24..].chunks(16 + 60).collect();
        assert_eq!(packets.len(), 400);
        for (packet, flow) in packets.iter().zip(&flows) {
            assert_eq!(packet[16 + 26..16 + 30], flow.src.to_be_bytes());
            assert_eq!(packet[16 + 30..16 + 34], flow.dst.to_be_bytes());
            assert!(vinet_pktops::parse::headers(&packet[16..]).is_ok());
        }
    }
}
