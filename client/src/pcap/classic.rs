//! The classic format: a header of 24 bytes, then a header of 16 before each packet.

use super::{Capture, CaptureError, ETHERNET, Form, PACKET_BYTES_MAX, Packet, take};

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const HEADER_LEN: usize = 24;
const PACKET_HEADER_LEN: usize = 16;

pub(super) fn read<'a>(bytes: &'a [u8], magic: &[u8]) -> Result<Capture<'a>, CaptureError> {
    let magic_bytes: [u8; 4] = take(bytes, 0, "the magic number")?;
    let little = u32::from_le_bytes(magic_bytes);
    let big = u32::from_be_bytes(magic_bytes);
    let (big_endian, nanoseconds) = match (little, big) {
        (MICROSECONDS, _) => (false, false),
        (NANOSECONDS, _) => (false, true),
        (_, MICROSECONDS) => (true, false),
        (_, NANOSECONDS) => (true, true),
        _ => return Err(CaptureError::NotACapture { found: magic.to_vec() }),
    };
    let order = Order { bytes, big_endian };
    let header: [u8; HEADER_LEN] = take(bytes, 0, "the header of the file")?;
    let (major, minor) = (order.u16(4)?, order.u16(6)?);
    if (major, minor) != (2, 4) {
        return Err(CaptureError::Version { offset: 4, major, minor });
    }
    // The upper bits say how long a frame's checksum is; the link type is in the lower 16.
    let link_type = order.u32(20)? as u16;
    if link_type != ETHERNET {
        return Err(CaptureError::LinkType { offset: 20, found: link_type });
    }
    let mut zone = [0; 8];
    zone.copy_from_slice(&header[8..16]);
    let form = Form { big_endian, nanoseconds, zone, snap_len: order.u32(16)? };
    let mut packets = Vec::new();
    let mut at = HEADER_LEN;
    while at < bytes.len() {
        let _: [u8; PACKET_HEADER_LEN] = take(bytes, at, "the header of a packet")?;
        let (seconds, fraction) = (order.u32(at)?, order.u32(at + 4)?);
        let (len, wire_len) = (order.u32(at + 8)?, order.u32(at + 12)?);
        if len as usize > PACKET_BYTES_MAX {
            return Err(CaptureError::Length { offset: at + 8, what: "a captured packet", found: len.into() });
        }
        let start = at + PACKET_HEADER_LEN;
        let end = start + len as usize;
        let left = bytes.len() - start;
        let truncated = CaptureError::Truncated { offset: start, what: "a packet", needed: len as usize, left };
        let bytes = bytes.get(start..end).ok_or(truncated)?;
        let nanoseconds = if nanoseconds { fraction } else { fraction.saturating_mul(1000) };
        packets.push(Packet { seconds, nanoseconds, wire_len: wire_len.max(len), bytes });
        at = end;
    }
    Ok(Capture { form, packets })
}

/// The bytes of a file, read in its order.
struct Order<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Order<'_> {
    fn u16(&self, at: usize) -> Result<u16, CaptureError> {
        let bytes = take(self.bytes, at, "a header")?;
        Ok(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }
    fn u32(&self, at: usize) -> Result<u32, CaptureError> {
        let bytes = take(self.bytes, at, "a header")?;
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}

fn put(form: &Form, value: u32, out: &mut Vec<u8>) {
    out.extend(if form.big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
}

pub(super) fn header(form: &Form) -> Vec<u8> {
    let mut out = Vec::new();
    put(form, if form.nanoseconds { NANOSECONDS } else { MICROSECONDS }, &mut out);
    out.extend(if form.big_endian { [0, 2, 0, 4] } else { [2, 0, 4, 0] });
    out.extend(form.zone);
    put(form, form.snap_len, &mut out);
    put(form, ETHERNET.into(), &mut out);
    out
}

pub(super) fn write(form: &Form, packet: &Packet<'_>, out: &mut Vec<u8>) {
    put(form, packet.seconds, out);
    put(form, if form.nanoseconds { packet.nanoseconds } else { packet.nanoseconds / 1000 }, out);
    put(form, packet.bytes.len() as u32, out);
    put(form, packet.wire_len, out);
    out.extend(packet.bytes);
}
