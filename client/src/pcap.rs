//! Packet captures: reading the classic format (microseconds or nanoseconds, both byte orders) and pcapng, writing the
//! classic one, and pcapng where packets have comments.
//!
//! Reading is total. A [`Capture`] holds Ethernet packets only, in the order of the file, each with its time and its
//! length on the wire. Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

mod classic;
mod ng;

pub use ng::{Annotated, AnnotatedWriter};

use std::fmt;

/// The longest packet that a capture may hold, in bytes; what a reader of captures commonly allows.
pub const PACKET_BYTES_MAX: usize = 262_144;
/// The link type of Ethernet.
const ETHERNET: u16 = 1;

/// One packet of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// Whole seconds of its time.
    pub seconds: u32,
    /// The rest of its time, in nanoseconds.
    pub nanoseconds: u32,
    /// Its length on the wire; at least that of `bytes`.
    pub wire_len: u32,
    /// What was captured of it.
    pub bytes: &'a [u8],
}

/// How a capture in the classic format is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    big_endian: bool,
    nanoseconds: bool,
    /// The four bytes of the header for zone and accuracy, as they were found.
    zone: [u8; 8],
    snap_len: u32,
}

/// A capture in memory.
#[derive(Clone, Debug)]
pub struct Capture<'a> {
    form: Form,
    packets: Vec<Packet<'a>>,
}

/// Why bytes are no capture that can be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CaptureError {
    /// The first bytes are those of no capture format.
    NotACapture {
        /// The first four bytes, or fewer.
        found: Vec<u8>,
    },
    /// The file ends inside of something.
    Truncated {
        /// Where it begins, in bytes.
        offset: usize,
        /// What it is.
        what: &'static str,
        /// The bytes that it needs.
        needed: usize,
        /// The bytes that there are.
        left: usize,
    },
    /// The version of the format is unknown.
    Version {
        /// Where it stands.
        offset: usize,
        /// Major.
        major: u16,
        /// Minor.
        minor: u16,
    },
    /// The packets are not Ethernet frames.
    LinkType {
        /// Where it stands.
        offset: usize,
        /// The number found.
        found: u16,
    },
    /// A length makes no sense.
    Length {
        /// Where it stands.
        offset: usize,
        /// What it is the length of.
        what: &'static str,
        /// The number found.
        found: u64,
    },
    /// A packet names an interface that the file has not described.
    Interface {
        /// Where it stands.
        offset: usize,
        /// The number found.
        found: u32,
    },
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaptureError::NotACapture { found } => {
                write!(f, "at byte 0: no packet capture (pcap or pcapng); it begins with {found:02x?}")
            }
            CaptureError::Truncated { offset, what, needed, left } => {
                write!(
                    f,
                    "at byte {offset}: the file ends inside of {what}: {needed} bytes are needed, {left} are left"
                )
            }
            CaptureError::Version { offset, major, minor } => {
                write!(f, "at byte {offset}: version {major}.{minor} of the format is unknown")
            }
            CaptureError::LinkType { offset, found } => write!(
                f,
                "at byte {offset}: the packets are of link type {found}{}; Ethernet (1) is needed",
                link_name(*found)
            ),
            CaptureError::Length { offset, what, found } => {
                write!(f, "at byte {offset}: {found} is no length of {what}")
            }
            CaptureError::Interface { offset, found } => {
                write!(f, "at byte {offset}: the packet is of interface {found}, which was not described before")
            }
        }
    }
}

impl std::error::Error for CaptureError {}

/// The names of the link types that a user is likely to meet.
const fn link_name(link_type: u16) -> &'static str {
    match link_type {
        0 => " (BSD loopback)",
        101 => " (raw IP)",
        105 => " (802.11)",
        113 => " (Linux cooked)",
        127 => " (802.11 with radiotap)",
        276 => " (Linux cooked, version 2)",
        _ => "",
    }
}

impl<'a> Capture<'a> {
    /// Reads a capture.
    ///
    /// # Errors
    /// The first offence, with its place.
    pub fn read(bytes: &'a [u8]) -> Result<Capture<'a>, CaptureError> {
        match bytes.get(..4) {
            Some(magic) if magic == ng::MAGIC => ng::read(bytes),
            Some(magic) => classic::read(bytes, magic),
            None => Err(CaptureError::NotACapture { found: bytes.to_vec() }),
        }
    }
    /// The packets, in the order of the file.
    #[must_use]
    pub fn packets(&self) -> &[Packet<'a>] {
        &self.packets
    }
    /// How a file with packets of this capture is to be written: as it was, or with nanoseconds where it was pcapng.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }
}

/// A capture being made.
#[derive(Clone, Debug)]
pub struct Writer {
    form: Form,
    out: Vec<u8>,
}

impl Writer {
    /// An empty capture of Ethernet packets.
    #[must_use]
    pub fn new(form: Form) -> Writer {
        Writer { form, out: classic::header(&form) }
    }
    /// Adds a packet.
    pub fn push(&mut self, packet: &Packet<'_>) {
        classic::write(&self.form, packet, &mut self.out);
    }
    /// The bytes of the file.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// The `N` bytes at `offset`, which `what` needs.
fn take<const N: usize>(bytes: &[u8], offset: usize, what: &'static str) -> Result<[u8; N], CaptureError> {
    let left = bytes.len().saturating_sub(offset);
    let truncated = CaptureError::Truncated { offset, what, needed: N, left };
    bytes.get(offset..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(big_endian: bool, nanoseconds: bool) -> Form {
        Form { big_endian, nanoseconds, zone: [0, 0, 0, 7, 0, 0, 0, 0], snap_len: 2000 }
    }

    fn packets() -> [Packet<'static>; 3] {
        [
            Packet { seconds: 1, nanoseconds: 2000, wire_len: 14, bytes: &[7; 14] },
            Packet { seconds: u32::MAX, nanoseconds: 999_999_000, wire_len: 1514, bytes: &[9; 60] },
            Packet { seconds: 0, nanoseconds: 0, wire_len: 0, bytes: &[] },
        ]
    }

    #[test]
    fn what_was_written_is_read_back_in_every_form() {
        for (big_endian, nanoseconds) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut writer = Writer::new(form(big_endian, nanoseconds));
            packets().iter().for_each(|packet| writer.push(packet));
            let bytes = writer.finish();
            let capture = Capture::read(&bytes).expect("reads");
            assert_eq!(capture.packets(), packets());
            assert_eq!(capture.form(), form(big_endian, nanoseconds));
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_told_or_is_a_shorter_capture() {
        let mut writer = Writer::new(form(false, false));
        packets().iter().for_each(|packet| writer.push(packet));
        let bytes = writer.finish();
        let mut whole = 0;
        for len in 0..=bytes.len() {
            match Capture::read(&bytes[..len]) {
                Ok(capture) => {
                    assert_eq!(capture.packets(), &packets()[..capture.packets().len()]);
                    whole += 1;
                }
                Err(CaptureError::NotACapture { .. }) => assert!(len < 4),
                Err(CaptureError::Truncated { offset, left, .. }) => assert_eq!(offset + left, len),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(whole, 4);
    }

    #[test]
    fn foreign_and_broken_files_are_told_with_their_place() {
        let told = |bytes: &[u8]| Capture::read(bytes).expect_err("broken").to_string();
        assert!(told(b"LIFETIME = 2 days").starts_with("at byte 0: no packet capture"));
        let mut bytes = Writer::new(form(false, false)).finish();
        bytes[20] = 113;
        assert_eq!(told(&bytes), "at byte 20: the packets are of link type 113 (Linux cooked); Ethernet (1) is needed");
        bytes[20] = 1;
        bytes[4] = 9;
        assert_eq!(told(&bytes), "at byte 4: version 9.4 of the format is unknown");
        bytes[4] = 2;
        bytes.extend([0; 8]);
        bytes.extend(u32::MAX.to_le_bytes());
        bytes.extend(u32::MAX.to_le_bytes());
        assert_eq!(told(&bytes), "at byte 32: 4294967295 is no length of a captured packet");
    }
}
