//! TCP flows that never end: a capture of a few segments of each flow, and a receive queue that repeats it with sequence
//! numbers that go on.
//!
//! `net_pcap` repeats a capture as it is, so every flow would send the same bytes again and again: retransmissions, which
//! a stream follows without a look at them. [`Advancing`] adds to each sequence number what the flow has sent in the
//! passes before. So each flow is one stream of new bytes in order, whose numbers wrap after 4 GiB. Left out: TCP
//! checksums, which no router looks at; acknowledgements; losses.

use crate::capture::PORT_0_MAC;
use crate::run::PerfError;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use vinet_fastpath::port::{Burst, PacketBuf, Port, RxQueue};
use vinet_pktops::checksum;

/// The flows of the capture.
pub const FLOWS: usize = 1000;
/// The segments of each flow that the capture holds: first one of each flow, then the next one of each.
pub const SEGMENTS: usize = 4;
/// The bytes of a segment's payload.
pub const PAYLOAD_LEN: usize = 1400;
/// Ethernet, IPv4 and TCP headers.
pub const HEADERS_LEN: usize = 14 + 20 + 20;
/// To whom all flows go: a host behind port 1.
pub const OWNER: u32 = 0xc612_0101;

/// Where a sequence number stands in a frame.
const SEQ: std::ops::Range<usize> = 38..42;

/// What payloads are made of: words of everyday mail, none of them one that a spam filter looks for.
const WORDS: [&str; 48] = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "you",
    "that",
    "for",
    "with",
    "this",
    "have",
    "from",
    "your",
    "are",
    "will",
    "not",
    "can",
    "all",
    "please",
    "meeting",
    "report",
    "letter",
    "window",
    "winter",
    "lots",
    "when",
    "which",
    "would",
    "about",
    "there",
    "their",
    "other",
    "could",
    "first",
    "after",
    "week",
    "work",
    "mail",
    "list",
    "time",
    "people",
    "send",
    "received",
    "Subject:",
    "From:",
    "Thanks,\r\n",
    "\r\n",
    "2002",
];

/// Writes the capture: [`SEGMENTS`] segments of each of [`FLOWS`] flows to [`OWNER`], sources random in 10/8.
pub fn write(path: &Path) -> Result<(), PerfError> {
    let file = |error| PerfError::File { path: path.to_owned(), error };
    let mut out = BufWriter::new(File::create(path).map_err(file)?);
    let mut write = || -> std::io::Result<()> {
        out.write_all(&0xa1b2_c3d4u32.to_le_bytes())?;
        out.write_all(&[2, 0, 4, 0])?;
        out.write_all(&[0; 8])?;
        out.write_all(&65_535u32.to_le_bytes())?;
        out.write_all(&1u32.to_le_bytes())?;
        for number in 0..FLOWS * SEGMENTS {
            let frame = frame(number % FLOWS, number / FLOWS);
            out.write_all(&[0; 8])?;
            for _ in 0..2 {
                out.write_all(&(frame.len() as u32).to_le_bytes())?;
            }
            out.write_all(&frame)?;
        }
        out.flush()
    };
    write().map_err(file)
}

/// Numbers that follow from `seed` alone.
fn random(seed: &mut u64) -> u32 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as u32
}

/// One segment of one flow.
fn frame(flow: usize, segment: usize) -> Vec<u8> {
    let mut of_flow = flow as u64;
    let (src, first_seq) = (0x0a00_0000 | random(&mut of_flow) & 0x00ff_ffff, random(&mut of_flow));
    let mut frame = Vec::with_capacity(HEADERS_LEN + PAYLOAD_LEN);
    frame.extend(PORT_0_MAC);
    frame.extend([0x02, 0, 0, 0, 0, 0x99, 0x08, 0x00, 0x45, 0]);
    frame.extend(((HEADERS_LEN - 14 + PAYLOAD_LEN) as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(src.to_be_bytes());
    frame.extend(OWNER.to_be_bytes());
    let sum = checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend((1024 + flow as u16).to_be_bytes());
    frame.extend(25u16.to_be_bytes());
    frame.extend(first_seq.wrapping_add((segment * PAYLOAD_LEN) as u32).to_be_bytes());
    frame.extend([0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    let mut of_segment = (flow * SEGMENTS + segment + FLOWS) as u64;
    while frame.len() < HEADERS_LEN + PAYLOAD_LEN {
        frame.extend(WORDS[random(&mut of_segment) as usize % WORDS.len()].as_bytes());
        frame.push(b' ');
    }
    frame.truncate(HEADERS_LEN + PAYLOAD_LEN);
    frame
}

/// A port that repeats the capture of this module, by receive queues that are [`Advancing`].
pub struct AdvancingPort<P>(pub P);

impl<P: Port> Port for AdvancingPort<P> {
    type Buf = P::Buf;
    type Rx = Advancing<P::Rx>;
    type Tx = P::Tx;
    type Handle = P::Handle;

    fn split(self) -> (P::Handle, Vec<Advancing<P::Rx>>, Vec<P::Tx>) {
        let (handle, rx, tx) = self.0.split();
        (handle, rx.into_iter().map(Advancing::new).collect(), tx)
    }
}

/// A receive queue whose device repeats the capture of this module: every pass goes on where the one before ended.
pub struct Advancing<R> {
    queue: R,
    /// How many packets of this pass were received.
    received: usize,
    /// What every flow has sent in the passes before, modulo 2^32.
    sent: u32,
}

impl<R> Advancing<R> {
    /// At the first pass.
    pub const fn new(queue: R) -> Advancing<R> {
        Advancing { queue, received: 0, sent: 0 }
    }
}

impl<R: RxQueue> RxQueue for Advancing<R> {
    type Buf = R::Buf;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<R::Buf>) -> usize {
        let before = burst.len();
        let received = self.queue.receive(burst);
        for packet in &mut burst.packets_mut()[before..] {
            let seq = &mut packet.bytes_mut()[SEQ];
            let advanced = u32::from_be_bytes([seq[0], seq[1], seq[2], seq[3]]).wrapping_add(self.sent);
            seq.copy_from_slice(&advanced.to_be_bytes());
            self.received += 1;
            if self.received == FLOWS * SEGMENTS {
                self.received = 0;
                self.sent = self.sent.wrapping_add((SEGMENTS * PAYLOAD_LEN) as u32);
            }
        }
        received
    }
    fn unusable(&self) -> u64 {
        self.queue.unusable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use vinet_fastpath::port::PacketPool;
    use vinet_fastpath::port::memory::{MemoryBuf, MemoryPool};
    use vinet_pktops::parse::{Transport, headers, transport};

    /// Repeats the capture, as `net_pcap` does.
    struct Repeated(MemoryPool, usize);

    impl RxQueue for Repeated {
        type Buf = MemoryBuf;
        fn receive(&mut self, burst: &mut Burst<MemoryBuf>) -> usize {
            let (number, mut received) = (self.1, 0);
            while burst.room() > 0 {
                let at = (number + received) % (FLOWS * SEGMENTS);
                let packet = self.0.allocate(&frame(at % FLOWS, at / FLOWS)).expect("a buffer");
                assert!(burst.push(packet).is_ok());
                received += 1;
            }
            self.1 += received;
            received
        }
        fn unusable(&self) -> u64 {
            0
        }
    }

    #[test]
    fn every_flow_is_one_stream_in_order() {
        let mut queue = Advancing::new(Repeated(MemoryPool::new(64, 1500), 0));
        let mut next = HashMap::new();
        let mut burst = Burst::new();
        for _ in 0..3 * FLOWS * SEGMENTS / 64 {
            queue.receive(&mut burst);
            for packet in burst.drain() {
                let parsed = headers(packet.bytes()).expect("a sound packet");
                let Transport::Tcp(tcp) = transport(packet.bytes(), &parsed) else { panic!("a segment") };
                assert_eq!(tcp.payload.len(), PAYLOAD_LEN);
                let expected = next.insert((parsed.src, tcp.src_port), tcp.seq.wrapping_add(PAYLOAD_LEN as u32));
                assert!(expected.is_none_or(|seq| seq == tcp.seq));
            }
        }
        assert_eq!(next.len(), FLOWS);
    }
}
