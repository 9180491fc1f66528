//! pcapng: blocks with a type, a length before and the same length behind. Sections, interfaces and packets are read;
//! every other block is passed over. Written are packets with comments, for captures that say what became of each.

use super::{Capture, CaptureError, ETHERNET, Form, PACKET_BYTES_MAX, Packet, take};
use std::io::{self, Write};

/// The type of a section header block, the same in both byte orders.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_INTERFACE_NAME: u16 = 2;
const OPTION_APPLICATION: u16 = 4;
const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;
/// The least length of a block: type, length, and length again.
const BLOCK_LEN_MIN: usize = 12;

/// What a packet needs to know of its interface.
struct Interface {
    snap_len: u32,
    /// Units of its clock in a second.
    units: u128,
    /// Seconds to add to its times.
    offset_s: i64,
}

pub(super) fn read(bytes: &[u8]) -> Result<Capture<'_>, CaptureError> {
    let mut packets = Vec::new();
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut big_endian = false;
    let mut snap_len = 0;
    let mut at = 0;
    while at < bytes.len() {
        let kind: [u8; 4] = take(bytes, at, "a block")?;
        if kind == MAGIC {
            let mark: [u8; 4] = take(bytes, at + 8, "a section header")?;
            big_endian = match mark {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => return Err(CaptureError::NotACapture { found: mark.to_vec() }),
            };
        }
        let block = Block::at(bytes, at, big_endian)?;
        match block.u32(0) {
            Ok(SECTION) => {
                let (major, minor) = (block.u16(12)?, block.u16(14)?);
                if major != 1 {
                    return Err(CaptureError::Version { offset: at + 12, major, minor });
                }
                interfaces.clear();
            }
            Ok(INTERFACE) => {
                let link_type = block.u16(8)?;
                if link_type != ETHERNET {
                    return Err(CaptureError::LinkType { offset: at + 8, found: link_type });
                }
                let interface = interface(&block)?;
                snap_len = snap_len.max(interface.snap_len);
                interfaces.push(interface);
            }
            Ok(ENHANCED_PACKET) => {
                let number = block.u32(8)?;
                let unknown = CaptureError::Interface { offset: at + 8, found: number };
                let interface = interfaces.get(number as usize).ok_or(unknown)?;
                let units = u64::from(block.u32(12)?) << 32 | u64::from(block.u32(16)?);
                let (len, wire_len) = (block.u32(20)?, block.u32(24)?);
                let bytes = block.packet(28, 20, len)?;
                let (seconds, nanoseconds) = time(units, interface);
                packets.push(Packet { seconds, nanoseconds, wire_len: wire_len.max(len), bytes });
            }
            Ok(SIMPLE_PACKET) => {
                let unknown = CaptureError::Interface { offset: at, found: 0 };
                let interface = interfaces.first().ok_or(unknown)?;
                let wire_len = block.u32(8)?;
                let limit = if interface.snap_len == 0 { u32::MAX } else { interface.snap_len };
                let bytes = block.packet(12, 8, wire_len.min(limit))?;
                packets.push(Packet { seconds: 0, nanoseconds: 0, wire_len, bytes });
            }
            _ => {}
        }
        at += block.bytes.len();
    }
    let snap_len = if snap_len == 0 { PACKET_BYTES_MAX as u32 } else { snap_len };
    let form = Form { big_endian: false, nanoseconds: true, zone: [0; 8], snap_len };
    Ok(Capture { form, packets })
}

/// One block, with both lengths checked.
struct Block<'a> {
    /// Where it begins in the file.
    offset: usize,
    bytes: &'a [u8],
    big_endian: bool,
}

impl<'a> Block<'a> {
    fn at(file: &'a [u8], offset: usize, big_endian: bool) -> Result<Block<'a>, CaptureError> {
        let head = Block { offset, bytes: &file[offset..], big_endian };
        let len = head.u32(4)?;
        let bad = CaptureError::Length { offset: offset + 4, what: "a block", found: len.into() };
        let len = usize::try_from(len).map_err(|_| bad.clone())?;
        if len < BLOCK_LEN_MIN || !len.is_multiple_of(4) {
            return Err(bad);
        }
        let left = file.len() - offset;
        let truncated = CaptureError::Truncated { offset, what: "a block", needed: len, left };
        let bytes = file.get(offset..).and_then(|rest| rest.get(..len)).ok_or(truncated)?;
        let block = Block { offset, bytes, big_endian };
        let behind = block.u32(len - 4)?;
        if behind as usize != len {
            let found = behind.into();
            return Err(CaptureError::Length { offset: offset + len - 4, what: "the block before it", found });
        }
        Ok(block)
    }

    fn field<const N: usize>(&self, at: usize) -> Result<[u8; N], CaptureError> {
        take(self.bytes, at, "a block").map_err(|error| match error {
            CaptureError::Truncated { offset, what, needed, left } => {
                CaptureError::Truncated { offset: offset + self.offset, what, needed, left }
            }
            other => other,
        })
    }
    fn u16(&self, at: usize) -> Result<u16, CaptureError> {
        let bytes = self.field(at)?;
        Ok(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }
    fn u32(&self, at: usize) -> Result<u32, CaptureError> {
        let bytes = self.field(at)?;
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// The `len` bytes at `at`; the length stands at `len_at`.
    fn packet(&self, at: usize, len_at: usize, len: u32) -> Result<&'a [u8], CaptureError> {
        let bad = CaptureError::Length { offset: self.offset + len_at, what: "a captured packet", found: len.into() };
        let len = len as usize;
        let body = &self.bytes[..self.bytes.len() - 4];
        body.get(at..).and_then(|rest| rest.get(..len)).filter(|_| len <= PACKET_BYTES_MAX).ok_or(bad)
    }
}

fn interface(block: &Block<'_>) -> Result<Interface, CaptureError> {
    let mut interface = Interface { snap_len: block.u32(12)?, units: 1_000_000, offset_s: 0 };
    let mut at = 16;
    while at + 4 <= block.bytes.len() - 4 {
        let (option, len) = (block.u16(at)?, usize::from(block.u16(at + 2)?));
        if at + 4 + len > block.bytes.len() - 4 {
            let offset = block.offset + at + 2;
            return Err(CaptureError::Length { offset, what: "an option", found: len as u64 });
        }
        match (option, len) {
            (OPTION_END, _) => break,
            (OPTION_TIME_RESOLUTION, 1) => {
                let [power] = block.field(at + 4)?;
                let base: u128 = if power & 0x80 == 0 { 10 } else { 2 };
                // A clock finer than 10^-38 s is none; its times are all at the same second.
                interface.units = base.checked_pow(u32::from(power & 0x7f)).unwrap_or(u128::MAX);
            }
            (OPTION_TIME_OFFSET, 8) => {
                let bytes = block.field(at + 4)?;
                let order = if block.big_endian { i64::from_be_bytes } else { i64::from_le_bytes };
                interface.offset_s = order(bytes);
            }
            _ => {}
        }
        at += 4 + len.next_multiple_of(4);
    }
    Ok(interface)
}

/// Seconds and nanoseconds of a time in the units of an interface, modulo 2^32 seconds as the classic format has it.
fn time(units: u64, interface: &Interface) -> (u32, u32) {
    let units = u128::from(units);
    let seconds = (units / interface.units) as i64;
    let rest = units % interface.units;
    // The rest is below 2^64, so the product fits.
    let nanoseconds = (rest * 1_000_000_000 / interface.units) as u32;
    (seconds.wrapping_add(interface.offset_s) as u32, nanoseconds)
}

/// A packet with a comment.
#[derive(Clone, Copy, Debug)]
pub struct Annotated<'a> {
    /// The interface that it came by, a place in those of the capture.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub at_ns: u64,
    /// Its length on the wire; at least that of `bytes`.
    pub wire_len: u32,
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// What is said about it.
    pub comment: &'a str,
}

/// A pcapng capture being written, each packet as a whole block: what is on disk can be read at any time.
#[derive(Debug)]
pub struct AnnotatedWriter<W> {
    out: W,
}

impl<W: Write> AnnotatedWriter<W> {
    /// A capture of Ethernet interfaces with these names, by `application`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(out: W, application: &str, interfaces: &[String]) -> io::Result<AnnotatedWriter<W>> {
        let mut writer = AnnotatedWriter { out };
        let mut body = vec![0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
        // The section's length is not known before its end.
        body.extend([0xff; 8]);
        put_option(&mut body, OPTION_APPLICATION, application.as_bytes());
        put_option(&mut body, OPTION_END, &[]);
        writer.block(SECTION, &body)?;
        for name in interfaces {
            let mut body = ETHERNET.to_le_bytes().to_vec();
            body.extend([0; 2]);
            body.extend((PACKET_BYTES_MAX as u32).to_le_bytes());
            put_option(&mut body, OPTION_INTERFACE_NAME, name.as_bytes());
            // Nanoseconds.
            put_option(&mut body, OPTION_TIME_RESOLUTION, &[9]);
            put_option(&mut body, OPTION_END, &[]);
            writer.block(INTERFACE, &body)?;
        }
        Ok(writer)
    }

    /// Adds a packet.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn push(&mut self, packet: &Annotated<'_>) -> io::Result<()> {
        let bytes = &packet.bytes[..packet.bytes.len().min(PACKET_BYTES_MAX)];
        let mut body = packet.interface.to_le_bytes().to_vec();
        body.extend(((packet.at_ns >> 32) as u32).to_le_bytes());
        body.extend((packet.at_ns as u32).to_le_bytes());
        body.extend((bytes.len() as u32).to_le_bytes());
        body.extend(packet.wire_len.max(bytes.len() as u32).to_le_bytes());
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        put_option(&mut body, OPTION_COMMENT, packet.comment.as_bytes());
        put_option(&mut body, OPTION_END, &[]);
        self.block(ENHANCED_PACKET, &body)
    }

    /// Has what is buffered written.
    ///
    /// # Errors
    /// It cannot be.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Gives back what was written to.
    ///
    /// # Errors
    /// What is buffered cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    /// `body` is of a whole number of 32-bit words.
    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let len = (BLOCK_LEN_MIN + body.len()) as u32;
        let block = [&kind.to_le_bytes()[..], &len.to_le_bytes(), body, &len.to_le_bytes()].concat();
        self.out.write_all(&block)
    }
}

/// Puts an option behind `body`, which stays of whole words; what is longer than an option can be is cut.
fn put_option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let len = (12 + body.len().next_multiple_of(4)) as u32;
        let mut out = [kind.to_le_bytes(), len.to_le_bytes()].concat();
        out.extend(body);
        out.resize(len as usize - 4, 0);
        out.extend(len.to_le_bytes());
        out
    }

    fn file() -> Vec<u8> {
        let mut section = vec![0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
        section.extend([0xff; 8]);
        // Ethernet, 2,000 bytes, nanoseconds.
        let interface = [1, 0, 0, 0, 0xd0, 7, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let time = 5_000_000_007u64;
        let mut packet = vec![0; 4];
        packet.extend(((time >> 32) as u32).to_le_bytes());
        packet.extend((time as u32).to_le_bytes());
        packet.extend(5u32.to_le_bytes());
        packet.extend(90u32.to_le_bytes());
        packet.extend([1, 2, 3, 4, 5]);
        let unknown = block(0xbad, &[0; 7]);
        [block(SECTION, &section), block(INTERFACE, &interface), unknown, block(ENHANCED_PACKET, &packet)].concat()
    }

    #[test]
    fn packets_are_read_with_their_time_and_length() {
        let file = file();
        let capture = read(&file).expect("reads");
        let packet = Packet { seconds: 5, nanoseconds: 7, wire_len: 90, bytes: &[1, 2, 3, 4, 5] };
        assert_eq!(capture.packets(), [packet]);
        assert_eq!(capture.form().snap_len, 2000);
    }

    #[test]
    fn no_broken_file_makes_the_reader_panic() {
        let good = file();
        for at in 0..good.len() {
            let _ = read(&good[..at]);
            for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = read(&bad);
            }
        }
        let mut other_link = good;
        other_link[28 + 8] = 113;
        assert_eq!(read(&other_link).err(), Some(CaptureError::LinkType { offset: 36, found: 113 }));
    }

    #[test]
    fn what_is_written_with_comments_is_read_back() {
        let interfaces = ["edge".to_owned(), "uplink".to_owned()];
        let mut writer = AnnotatedWriter::new(Vec::new(), "vinet trace", &interfaces).unwrap();
        let comments = ["sent to uplink", "dropped: program 4 discarded it", ""];
        for (i, comment) in (0u8..).zip(comments) {
            let bytes = vec![i; 13 + usize::from(i)];
            let at_ns = 1_700_000_000_123_456_789 + u64::from(i);
            let interface = u32::from(i % 2);
            writer.push(&Annotated { interface, at_ns, wire_len: 1500, bytes: &bytes, comment }).unwrap();
        }
        let file = writer.finish().unwrap();
        assert!(file.len().is_multiple_of(4));
        let capture = read(&file).expect("reads");
        assert_eq!(capture.packets().len(), 3);
        let last = capture.packets()[2];
        assert_eq!(
            (last.seconds, last.nanoseconds, last.wire_len, last.bytes),
            (1_700_000_000, 123_456_791, 1500, &[2; 15][..])
        );
        for text in comments.iter().filter(|text| !text.is_empty()).chain(&["edge", "uplink", "vinet trace"]) {
            assert!(file.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
    }
}
