//! Fragmentation of IPv4 packets that are larger than the next link's MTU and may be cut (RFC 791, RFC 1812 section
//! 4.2.2.7).
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
    /// It is itself a fragment that reaches over the end of any datagram: the offsets of its pieces could not be told,
    /// and would come to lie over the datagram's beginning.
    BeyondDatagram,
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

/// Cuts `packet`, whose headers are `headers`, to fragments of at most `mtu` bytes: the first stays in `packet`, the
/// others are added to `rest`, which must be empty, each behind a link header's room of 14 bytes. All have the
/// returned headers' offset.
///
/// # Errors [`NotCut`]; `rest` is then empty.
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
    if header_len + usize::from(flags & OFFSET) * 8 + payload.len() > usize::from(u16::MAX) {
        return Err(NotCut::BeyondDatagram);
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vinet_pktops::parse;

    use super::*;
    use crate::port::memory::MemoryPool;

    /// A sound packet with these options and this payload, itself perhaps a fragment.
    fn frame(options: &[u8], payload: &[u8], place: u16) -> Vec<u8> {
        let header_len = IPV4_LEN + options.len();
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x40 | (header_len / 4) as u8, 0]);
        frame.extend(((header_len + payload.len()) as u16).to_be_bytes());
        frame.extend([0x12, 0x34]);
        frame.extend(place.to_be_bytes());
        frame.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(options);
        let sum = checksum::of(&frame[14..14 + header_len]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend(payload);
        frame
    }

    proptest! {
        #[test]
        fn fragments_join_to_the_packet(
            words in 0usize..=10,
            noise in proptest::collection::vec(any::<u8>(), 40),
            payload in proptest::collection::vec(any::<u8>(), 700..1900),
            mtu in 68u16..700,
            (first, more) in (prop_oneof![0u16..1000, 7900u16..=OFFSET], any::<bool>()),
        ) {
            let place = first | if more { MORE } else { 0 };
            let original = frame(&noise[..words * 4], &payload, place);
            let mut pool = MemoryPool::new(100, 2048);
            let mut packet = pool.allocate(&original).expect("a buffer");
            let headers = parse::headers(&original).expect("sound");
            let mut rest = Burst::new();
            let cut = cut(&mut packet, &headers, mtu, &mut pool, &mut FragmentScratch::new(), &mut rest);
            let is_beyond = original.len() - 14 + usize::from(first) * 8 > usize::from(u16::MAX);
            if cut.is_err() {
                prop_assert_eq!(cut == Err(NotCut::BeyondDatagram), is_beyond && cut != Err(NotCut::TooMany));
                prop_assert!(rest.is_empty());
                prop_assert_eq!(packet.bytes(), &original[..]);
                return Ok(());
            }
            prop_assert!(!is_beyond);
            let mut joined = Vec::new();
            let count = rest.len() + 1;
            for (number, fragment) in std::iter::once(&packet).chain(rest.packets()).enumerate() {
                // The link header is not this function's to write.
                let mut bytes = fragment.bytes().to_vec();
                bytes[12..14].copy_from_slice(&[8, 0]);
                let bytes = &bytes[..];
                let read = parse::headers(bytes).expect("a sound fragment");
                prop_assert!(read.l3_len <= mtu && read.end() == bytes.len());
                prop_assert_eq!((read.src, read.dst, read.ttl), (headers.src, headers.dst, headers.ttl));
                let place = u16::from_be_bytes([bytes[20], bytes[21]]);
                prop_assert_eq!(usize::from(place & OFFSET), usize::from(first) + joined.len() / 8);
                prop_assert_eq!(place & MORE != 0, number + 1 < count || more);
                joined.extend_from_slice(&bytes[usize::from(read.l4_offset)..]);
            }
            prop_assert_eq!(joined, payload);
        }
    }

    #[test]
    fn only_options_with_the_copied_flag_are_repeated() {
        // No operation, record route (not copied), router alert (copied), the end.
        let options = [1, 7, 4, 4, 0, 0x94, 4, 0, 0, 0, 0, 0];
        let original = frame(&options, &[5; 1000], 0);
        let mut pool = MemoryPool::new(10, 2048);
        let mut packet = pool.allocate(&original).expect("a buffer");
        let headers = parse::headers(&original).expect("sound");
        let mut rest = Burst::new();
        cut(&mut packet, &headers, 600, &mut pool, &mut FragmentScratch::new(), &mut rest).expect("two fragments");
        assert_eq!(packet.bytes()[34..46], options);
        assert_eq!(rest.packets()[0].bytes()[34..38], [0x94, 4, 0, 0]);
        assert_eq!(rest.packets()[0].bytes()[38], 5);
    }

    #[test]
    fn without_buffers_nothing_is_cut_and_nothing_is_lost() {
        let original = frame(&[], &[5; 1400], 0);
        let mut pool = MemoryPool::new(3, 2048);
        let mut packet = pool.allocate(&original).expect("a buffer");
        let headers = parse::headers(&original).expect("sound");
        let mut rest = Burst::new();
        let cut = cut(&mut packet, &headers, 300, &mut pool, &mut FragmentScratch::new(), &mut rest);
        assert_eq!(cut, Err(NotCut::NoBuffer));
        assert_eq!((packet.bytes(), rest.len(), pool.free()), (&original[..], 0, 2));
    }
}
