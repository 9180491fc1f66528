//! The packet parser, and an accepted program that runs on what it read. Not covered: the drivers below and the forwarding above
//! (fastpath's own tests).

mod common;

use std::sync::Arc;

use vinet_fuzz::{Random, attack};
use vinet_pktops::parse::{Transport, headers, transport};
use vinet_pktops::{Executable, Verdict};
use vinet_prover::prove;
use vinet_trusted::check::check;
use vinet_trusted::gate;
use vinet_trusted::program::Program;

/// The Internet checksum of whole 16-bit words.
fn checksum(words: &[u8]) -> [u8; 2] {
    let mut sum: u32 = words.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).expect("a folded sum has 16 bits")).to_be_bytes()
}

fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).expect("a small packet").to_be_bytes();
    let [hi, lo] = fragment.to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 7, hi, lo, 64, protocol, 0, 0, 198, 51, 100, 2, 192, 0, 2, 2];
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend_from_slice(payload);
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("a small packet").to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], next, 64];
    for last in [1, 2] {
        packet.extend_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend_from_slice(payload);
    packet
}

fn tcp(payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0];
    segment.extend_from_slice(payload);
    segment
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).expect("a small datagram").to_be_bytes();
    let mut datagram = vec![0x30, 0x39, 0, 53, len[0], len[1], 0, 0];
    datagram.extend_from_slice(payload);
    datagram
}

fn frame(tags: &[u16], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (i, tag) in tags.iter().enumerate() {
        frame.extend_from_slice(if i + 1 < tags.len() { &[0x88, 0xa8] } else { &[0x81, 0x00] });
        frame.extend_from_slice(&tag.to_be_bytes());
    }
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(packet);
    frame
}

fn frames() -> Vec<Vec<u8>> {
    let spam = b"cheap and good pills";
    // Hop-by-hop options, a routing header, a fragment header, then UDP.
    let mut chain = vec![43, 0, 5, 2, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9];
    chain.extend_from_slice(&udp(spam));
    vec![
        frame(&[], 0x0800, &ipv4(6, 0x4000, &tcp(spam))),
        frame(&[100], 0x0800, &ipv4(17, 0, &udp(spam))),
        frame(&[200, 100], 0x0800, &ipv4(17, 0x2000, &udp(spam))),
        frame(&[], 0x0800, &ipv4(17, 0x0003, spam)),
        frame(&[], 0x86dd, &ipv6(6, &tcp(spam))),
        frame(&[], 0x86dd, &ipv6(0, &chain)),
        frame(&[], 0x0806, &[0, 1, 8, 0, 6, 4, 0, 1]),
    ]
}

#[test]
fn what_is_read_of_a_frame_lies_inside_it() {
    let mut random = Random::of_this_run();
    let mut packets = 0u64;
    attack(&mut random, &frames(), |_, bytes| {
        let Ok(read) = headers(bytes) else { return };
        packets += 1;
        assert!(read.end() <= bytes.len());
        assert!(
            usize::from(read.l3_offset) <= usize::from(read.l4_offset) && usize::from(read.l4_offset) <= read.end()
        );
        let payload = match transport(bytes, &read) {
            Transport::Tcp(tcp) => tcp.payload,
            Transport::Udp(udp) => udp.payload,
            Transport::Other(other) => other.payload,
        };
        assert!(payload.start <= payload.end && payload.end <= read.end(), "{payload:?} of {read:?}");
    });
    assert!(packets > 0, "no mutation was a packet: the attack is too coarse to mean anything");
}

#[test]
fn a_program_on_broken_packets_discards_only_its_owners() {
    let mut random = Random::of_this_run();
    let (owner, policy) = (common::owner("192.0.2.2"), common::policy());
    let executables: Vec<Executable> = common::programs(&owner)
        .iter()
        .map(|program| {
            let proof = prove(program, &owner, &policy).unwrap_or_else(|e| panic!("{e}"));
            let checked = check(&Program::encode(program), &proof, owner, &policy).unwrap_or_else(|e| panic!("{e}"));
            Executable::lower(Arc::new(checked)).unwrap_or_else(|e| panic!("{e}"))
        })
        .collect();
    let mut states: Vec<_> = executables.iter().map(Executable::state).collect();
    let mut now_ns = 0;
    let mut discards = 0u64;
    attack(&mut random, &frames(), |_, bytes| {
        let Ok(read) = headers(bytes) else { return };
        now_ns += 1000;
        for (executable, state) in executables.iter().zip(&mut states) {
            if executable.is_verdict() {
                continue;
            }
            if let Verdict::Discard(_) = executable.run(state, bytes, &read, now_ns) {
                discards += 1;
                assert!(gate::discard(executable.checked(), read.src, read.dst).is_some(), "{read:?}");
            }
        }
    });
    assert!(discards > 0, "no packet was ever discarded: the attack is too coarse to mean anything");
}
