//! Fragmentation of IPv4 packets that are larger than the next link's MTU and may be cut (RFC 791, RFC 1812 section 4.2.2.7).
//!
//! The packet itself becomes the first fragment; the others are new packets. Options are repeated only where their
//! copied flag says so.

use vinet_pktops::checksum;
use vinet_pktops::parse::{ETHERNET_LEN, Headers, IPV4_LEN};

use crate::port::{Burst, PacketBuf, PacketPool};

/// The bytes of the longest IPv4 header.
const HEADER_LEN_MAX: usize = 60;
/// More fragments.
const MORE: u16 = 0x2000;
/// The offset's bits.
const OFFSET: u16 = 0x1fff;

/// Why a packet was not cut. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCut {
    /// There were not enough packet buffers.
    NoBuffer,
    /// The MTU is too small for its header, or it would be more fragments than a burst.
    TooMany,
}

/// Room to write fragments in, made once for each worker.
pub struct FragmentScratch {
    frame: Vec<u8>,
}

impl FragmentScratch {
    /// Room for any fragment.
    #[must_use]
    pub fn new() -> FragmentScratch {
        FragmentScratch { frame: Vec::with_capacity(ETHERNET_LEN + usize::from(u16::MAX)) }
    }
}

impl Default for FragmentScratch {
    fn default() -> Self {
        FragmentScratch::new()
    }
}

/// Cuts `packet`, whose headers are `headers`, to fragments of at most `mtu` bytes: the first stays in `packet`, the others are
/// added to `rest`, which must be empty, each behind a link header's room of 14 bytes. All have the returned headers' offset.
///
/// # Errors
/// [`NotCut`]; `rest` is then empty.
pub fn cut<P: PacketPool>(
    packet: &mut P::Buf,
    headers: &Headers,
    mtu: u16,
    pool: &mut P,
    scratch: &mut FragmentScratch,
    rest: &mut Burst<P::Buf>,
) -> Result<(), NotCut> {
    let l3_offset = usize::from(headers.l3_offset);
    let frame = packet.bytes();
    let ip = frame.get(l3_offset..headers.end()).ok_or(NotCut::TooMany)?;
    let header_len = usize::from(headers.l4_offset - headers.l3_offset);
    let (header, payload) = ip.split_at(header_len);
    let mut later = [0; HEADER_LEN_MAX];
    let later_len = later_header(header, &mut later);
    let room = |header_len: usize| usize::from(mtu).saturating_sub(header_len) / 8 * 8;
    let (first_room, later_room) = (room(header_len), room(later_len));
    if first_room == 0 || later_room == 0 {
        return Err(NotCut::TooMany);
    }
    let flags = u16::from_be_bytes([header[6], header[7]]);
    let mut at = first_room;
    while at < payload.len() {
        let end = (at + later_room).min(payload.len());
        let more = if end < payload.len() { MORE } else { flags & MORE };
        let place = (flags & OFFSET) + (at / 8) as u16;
        write_place(&mut later[..later_len], later_len + end - at, more | place);
        scratch.frame.clear();
        scratch.frame.extend_from_slice(&[0; ETHERNET_LEN]);
        scratch.frame.extend_from_slice(&later[..later_len]);
        scratch.frame.extend_from_slice(&payload[at..end]);
        let pushed = match pool.allocate(&scratch.frame) {
            None => Err(NotCut::NoBuffer),
            Some(fragment) => rest.push(fragment).map_err(|_| NotCut::TooMany),
        };
        if let Err(why) = pushed {
            P::Buf::drop_all(rest);
            return Err(why);
        }
        at = end;
    }
    packet.truncate(l3_offset + header_len + first_room);
    let header = &mut packet.bytes_mut()[l3_offset..l3_offset + header_len];
    write_place(header, header_len + first_room, MORE | flags & OFFSET);
    Ok(())
}

/// Writes the header of the later fragments: the options that are to be copied, padded to words. Tells its length.
fn later_header(header: &[u8], later: &mut [u8; HEADER_LEN_MAX]) -> usize {
    later[..IPV4_LEN].copy_from_slice(&header[..IPV4_LEN]);
    let mut len = IPV4_LEN;
    let mut options = &header[IPV4_LEN..];
    while let [kind, ..] = *options {
        let option_len = match kind {
            // The end of the list.
            0 => break,
            // No operation.
            1 => 1,
            _ => options.get(1).map_or(0, |&len| usize::from(len)),
        };
        if option_len == 0 || option_len > options.len() || (kind > 1 && option_len < 2) {
            break;
        }
        let (option, others) = options.split_at(option_len);
        if kind & 0x80 != 0 {
            later[len..len + option_len].copy_from_slice(option);
            len += option_len;
        }
        options = others;
    }
    let padded = len.next_multiple_of(4);
    later[len..padded].fill(0);
    later[0] = 0x40 | (padded / 4) as u8;
    padded
}

/// Writes total length, flags with offset, and checksum.
fn write_place(header: &mut [u8], total_len: usize, place: u16) {
    header[2..4].copy_from_slice(&(total_len as u16).to_be_bytes());
    header[6..8].copy_from_slice(&place.to_be_bytes());
    header[10..12].fill(0);
    let sum = checksum::of(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}
