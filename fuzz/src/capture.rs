//! Not covered here: captures larger than the inputs that are made, and files that other tools write in rare forms.
//!
//! Reading a capture is total; each packet lies within its limits; and what is read and written again is read as the
//! same packets.

use crate::frames;
use vinet_client::pcap::{Capture, PACKET_BYTES_MAX, Writer};

/// A capture in the classic format, with the frames of the corpus of packets.
fn classic(big_endian: bool, nanoseconds: bool) -> Vec<u8> {
    let magic: u32 = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let four = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let two = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut out = Vec::new();
    out.extend(four(magic));
    out.extend(two(2));
    out.extend(two(4));
    out.extend([0; 8]);
    out.extend(four(65_535));
    out.extend(four(1));
    for (i, frame) in frames::frames().iter().take(6).enumerate() {
        out.extend(four(1_700_000_000 + i as u32));
        out.extend(four(i as u32));
        out.extend(four(frame.len() as u32));
        out.extend(four(frame.len() as u32));
        out.extend(frame);
    }
    out
}

/// A capture in the format pcapng, of one section and one interface.
fn next_generation() -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = (12 + body.len() as u32).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, &body, &len].concat()
    };
    let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &u64::MAX.to_le_bytes()].concat();
    let interface = [&[1, 0, 0, 0][..], &65_535_u32.to_le_bytes()].concat();
    let mut out = [block(0x0a0d_0d0a, &section), block(1, &interface)].concat();
    for frame in frames::frames().iter().take(4) {
        let len = (frame.len() as u32).to_le_bytes();
        out.extend(block(6, &[&[0; 12][..], &len, &len, frame].concat()));
        out.extend(block(3, &[&len[..], frame].concat()));
    }
    out
}

/// Captures in all forms, and the smaller traces of the shared data where they are.
#[must_use]
pub fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = vec![classic(false, false), classic(true, false), classic(false, true), next_generation()];
    corpus.extend(frames::traces().into_iter().filter(|trace| trace.len() < 50_000));
    corpus
}

/// Reads `data` as a capture.
///
/// # Panics
/// Where something misbehaves.
pub fn target(data: &[u8]) -> bool {
    let capture = match Capture::read(data) {
        Ok(capture) => capture,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let mut writer = Writer::new(capture.form());
    for packet in capture.packets() {
        assert!(packet.bytes.len() <= PACKET_BYTES_MAX && packet.wire_len as usize >= packet.bytes.len());
        writer.push(packet);
    }
    let written = writer.finish();
    let again = Capture::read(&written).expect("what is written can be read");
    assert_eq!(again.packets().len(), capture.packets().len());
    for (a, b) in again.packets().iter().zip(capture.packets()) {
        assert_eq!((a.bytes, a.wire_len, a.seconds), (b.bytes, b.wire_len, b.seconds));
    }
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn captures_are_read_or_refused() {
        let corpus = super::corpus();
        for input in &corpus[..4] {
            assert!(vinet_client::pcap::Capture::read(input).is_ok(), "the corpus holds captures");
        }
        crate::run("capture", &corpus, 6000, super::target);
    }
}
