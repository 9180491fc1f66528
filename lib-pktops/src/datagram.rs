//! Generated packets: UDP datagrams that carry what GENERATE sends, in parts that fit below an MTU, each with a tag.
//!
//! A datagram's payload is, in big-endian numbers: version (8 bits, [`VERSION`]), kind (8, [`Kind`]), item (16), part
//! (16) and number of parts (16), batch (64), program (the 32 bytes of its name), data, and [`TAG_LEN`] bytes of the
//! keyed BLAKE3 of the IP addresses and all before: the source (a byte that is 4 or 6, and the address), the destination
//! (likewise), the payload without the tag. So a datagram counts only between the addresses that it was made for: its
//! source is the source of the packets that an expander makes of it. The parts of one item, in order, are the bytes of
//! [`crate::generate`]. Holding a [`Datagram`] proves that whoever made it had the key; that it was not seen before is for
//! the holder to tell, by batch, item and part.

use crate::generate::{Generated, Kind};
use crate::parse::{IPV4_LEN, IPV6_LEN};
use crate::rebuild::{UDP_LEN, write_udp};
use core::fmt;
use vinet_trusted::addr::Addr;

/// The version of the format.
pub const VERSION: u8 = 2;
/// The bytes before the data.
pub const HEADER_LEN: usize = 48;
/// The bytes of the tag.
pub const TAG_LEN: usize = 16;
/// The longest generated packet, in bytes from the IP header on.
pub const PACKET_LEN_MAX: usize = 1500;
/// The smallest MTU that is served: what every IPv4 host takes (RFC 1122 section 3.3.2).
pub const MTU_MIN: u16 = 576;

/// How one program's generated packets are sent.
#[derive(Clone)]
pub struct Sender {
    /// The program's name.
    pub program: [u8; 32],
    /// What the tags are made with.
    pub key: [u8; 32],
    /// The UDP port, which is source and destination port.
    pub port: u16,
    /// Added to the batch of what is generated, so that batches of several workers and starts differ.
    pub first_batch: u64,
    /// The longest packet, in bytes from the IP header on; above [`PACKET_LEN_MAX`] that is.
    pub mtu: u16,
}

impl fmt::Debug for Sender {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("port", &self.port).field("mtu", &self.mtu).finish_non_exhaustive()
    }
}

/// Why nothing can be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendError {
    /// The program names a source of one family and a destination of the other.
    MixedFamilies {
        /// From where.
        src: Addr,
        /// To where.
        dst: Addr,
    },
    /// The MTU is below [`MTU_MIN`].
    MtuTooSmall(u16),
    /// There are more parts than 16 bits count.
    TooManyParts(usize),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::MixedFamilies { src, dst } => write!(f, "no packet goes from {src} to {dst}"),
            SendError::MtuTooSmall(mtu) => write!(f, "an MTU of {mtu} bytes is below {MTU_MIN}"),
            SendError::TooManyParts(parts) => write!(f, "{parts} packets are more than {}", u16::MAX),
        }
    }
}

impl std::error::Error for SendError {}

/// One IP packet while it is written.
struct Draft {
    bytes: [u8; PACKET_LEN_MAX],
    len: usize,
}

impl Draft {
    fn push(&mut self, piece: &[u8]) {
        self.bytes[self.len..self.len + piece.len()].copy_from_slice(piece);
        self.len += piece.len();
    }
}

/// The bytes before the data of a packet between these addresses, from the IP header on.
const fn data_start(src: Addr, dst: Addr) -> Result<usize, SendError> {
    match (src, dst) {
        (Addr::V4(_), Addr::V4(_)) => Ok(IPV4_LEN + UDP_LEN + HEADER_LEN),
        (Addr::V6(_), Addr::V6(_)) => Ok(IPV6_LEN + UDP_LEN + HEADER_LEN),
        _ => Err(SendError::MixedFamilies { src, dst }),
    }
}

/// The tag of what is sent between two addresses.
fn tag_of(key: &[u8; 32], src: Addr, dst: Addr, signed: &[u8]) -> [u8; TAG_LEN] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    let mut front = [0; 2 * 17];
    let mut len = 0;
    for addr in [src, dst] {
        let mut add = |bytes: &[u8]| {
            front[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        match addr {
            Addr::V4(a) => {
                add(&[4]);
                add(&a.to_be_bytes());
            }
            Addr::V6(a) => {
                add(&[6]);
                add(&a.to_be_bytes());
            }
        }
    }
    hasher.update(&front[..len]).update(signed);
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&hasher.finalize().as_bytes()[..TAG_LEN]);
    tag
}

impl Sender {
    /// How many packets carry `generated`: none where there is nothing to tell.
    ///
    /// # Errors
    /// [`SendError`]
    pub fn parts(&self, generated: &Generated<'_>) -> Result<u16, SendError> {
        let data_start = data_start(generated.src, generated.dst)?;
        if self.mtu < MTU_MIN {
            return Err(SendError::MtuTooSmall(self.mtu));
        }
        let full = usize::from(self.mtu).min(PACKET_LEN_MAX) - TAG_LEN;
        let parts = generated.len().div_ceil(full - data_start);
        u16::try_from(parts).map_err(|_| SendError::TooManyParts(parts))
    }

    /// Gives `each` the IP packets that carry `generated`, in order, and returns how many they are: none where there is
    /// nothing to tell. Never allocates.
    ///
    /// # Errors
    /// [`SendError`]; then `each` was given nothing.
    pub fn send(&self, generated: &Generated<'_>, each: &mut dyn FnMut(&[u8])) -> Result<u16, SendError> {
        let parts = self.parts(generated)?;
        let data_start = data_start(generated.src, generated.dst)?;
        let ip_len = data_start - HEADER_LEN - UDP_LEN;
        let full = usize::from(self.mtu).min(PACKET_LEN_MAX) - TAG_LEN;
        let mut draft = Draft { bytes: [0; PACKET_LEN_MAX], len: data_start };
        let mut part = 0;
        generated.pieces(&mut |mut piece| {
            while !piece.is_empty() {
                let (now, later) = piece.split_at(piece.len().min(full - draft.len));
                draft.push(now);
                piece = later;
                if draft.len == full {
                    self.finish(&mut draft, generated, ip_len, part, parts);
                    each(&draft.bytes[..draft.len]);
                    draft.len = data_start;
                    part += 1;
                }
            }
        });
        if part < parts {
            self.finish(&mut draft, generated, ip_len, part, parts);
            each(&draft.bytes[..draft.len]);
        }
        Ok(parts)
    }

    /// Writes what is around the data of a draft.
    fn finish(&self, draft: &mut Draft, generated: &Generated<'_>, ip_len: usize, part: u16, parts: u16) {
        let (data_end, start) = (draft.len, ip_len + UDP_LEN);
        draft.len = start;
        draft.push(&[VERSION, generated.kind as u8]);
        [generated.item, part, parts].iter().for_each(|number| draft.push(&number.to_be_bytes()));
        draft.push(&self.first_batch.wrapping_add(generated.batch).to_be_bytes());
        draft.push(&self.program);
        draft.len = data_end;
        let tag = tag_of(&self.key, generated.src, generated.dst, &draft.bytes[start..data_end]);
        draft.push(&tag);
        let len = draft.len;
        // The draft is no longer than PACKET_LEN_MAX.
        write_udp(&mut draft.bytes[..len], generated.src, generated.dst, (self.port, self.port));
    }
}

/// A part of what a program had sent, from someone who has the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// The program's name.
    pub program: [u8; 32],
    /// Which run of it.
    pub batch: u64,
    /// Which GENERATE of the run.
    pub item: u16,
    /// What it tells.
    pub kind: Kind,
    /// Which part of it, below `parts`.
    pub part: u16,
    /// In how many parts.
    pub parts: u16,
    /// The part.
    pub data: &'a [u8],
}

/// Why a UDP payload is no part of what a program had sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DatagramError {
    /// Shorter than header and tag.
    Truncated,
    /// Not [`VERSION`].
    UnknownVersion(u8),
    /// The tag was not made with the key, or not for this.
    BadTag,
    /// A kind that there is not.
    UnknownKind(u8),
    /// A part at or above the number of parts.
    BadPart {
        /// Which part.
        part: u16,
        /// In how many.
        parts: u16,
    },
}

impl fmt::Display for DatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatagramError::Truncated => write!(f, "the payload is shorter than header and tag"),
            DatagramError::UnknownVersion(version) => write!(f, "version {version}; this program reads {VERSION}"),
            DatagramError::BadTag => write!(f, "the tag is not of this key and payload"),
            DatagramError::UnknownKind(kind) => write!(f, "the kind {kind} stands for nothing"),
            DatagramError::BadPart { part, parts } => write!(f, "part {part} of {parts}"),
        }
    }
}

impl std::error::Error for DatagramError {}

impl<'a> Datagram<'a> {
    /// The name of the program that a UDP payload says it is of, before anything is proven: it tells which key to read
    /// it with.
    #[must_use]
    pub fn program_of(payload: &[u8]) -> Option<&[u8; 32]> {
        payload.first_chunk::<HEADER_LEN>()?.last_chunk()
    }

    /// Reads the payload of a UDP datagram between two addresses.
    ///
    /// # Errors
    /// The first offence found; nothing but the version is looked at before the tag.
    pub fn read(src: Addr, dst: Addr, payload: &'a [u8], key: &[u8; 32]) -> Result<Datagram<'a>, DatagramError> {
        let (signed, tag) = payload.split_last_chunk::<TAG_LEN>().ok_or(DatagramError::Truncated)?;
        let (header, data) = signed.split_first_chunk::<HEADER_LEN>().ok_or(DatagramError::Truncated)?;
        if header[0] != VERSION {
            return Err(DatagramError::UnknownVersion(header[0]));
        }
        let expected = tag_of(key, src, dst, signed);
        // In constant time: how many bytes of a forged tag are right is not to be told.
        let differing = expected.iter().zip(tag).fold(0, |differing, (a, b)| differing | (a ^ b));
        if differing != 0 {
            return Err(DatagramError::BadTag);
        }
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let kind = match header[1] {
            0 => Kind::Dests,
            1 => Kind::Contents,
            kind => return Err(DatagramError::UnknownKind(kind)),
        };
        let (part, parts) = (number(4), number(6));
        if part >= parts {
            return Err(DatagramError::BadPart { part, parts });
        }
        let (mut batch, mut program) = ([0; 8], [0; 32]);
        batch.copy_from_slice(&header[8..16]);
        program.copy_from_slice(&header[16..48]);
        Ok(Datagram { program, batch: u64::from_be_bytes(batch), item: number(2), kind, part, parts, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Data;
    use crate::parse::{Transport, headers, transport};
    use crate::rebuild::octets;
    use crate::samples::addr;
    use etherparse::{SlicedPacket, TransportSlice};

    const KEY: [u8; 32] = [7; 32];

    fn sender(mtu: u16) -> Sender {
        Sender { program: [3; 32], key: KEY, port: 4789, first_batch: 100, mtu }
    }

    fn generated<'a>(src: &str, dst: &str, bytes: &'a [u8]) -> Generated<'a> {
        Generated { src: addr(src), dst: addr(dst), batch: 5, item: 1, kind: Kind::Contents, data: Data::Bytes(bytes) }
    }

    fn sent(sender: &Sender, generated: &Generated<'_>) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let count = sender.send(generated, &mut |packet| packets.push(packet.to_vec())).unwrap();
        assert_eq!(usize::from(count), packets.len());
        packets
    }

    fn read<'a>(payload: &'a [u8], key: &[u8; 32]) -> Result<Datagram<'a>, DatagramError> {
        Datagram::read(addr("192.0.2.1"), addr("10.0.0.5"), payload, key)
    }

    fn in_frame(packet: &[u8]) -> Vec<u8> {
        let ethertype = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
        [&[2; 12][..], &ethertype, packet].concat()
    }

    #[test]
    fn what_is_sent_is_read_again_for_both_families_and_all_lengths() {
        for (src, dst) in [("192.0.2.1", "10.0.0.5"), ("2001:db8::1", "2001:db8::5")] {
            for len in [0, 1, 5, 455, 456, 457, 484, 485, 1407, 1408, 1409, 5000, 70_001] {
                let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
                for mtu in [576, 577, 1500, 9000] {
                    let packets = sent(&sender(mtu), &generated(src, dst, &bytes));
                    let mut read: Vec<u8> = Vec::new();
                    for (i, packet) in packets.iter().enumerate() {
                        assert!(packet.len() <= usize::from(mtu).min(PACKET_LEN_MAX));
                        assert!(i + 1 == packets.len() || packet.len() == usize::from(mtu).min(PACKET_LEN_MAX));
                        let frame = in_frame(packet);
                        let h = headers(&frame).unwrap();
                        assert_eq!((h.src, h.dst, h.end()), (addr(src), addr(dst), frame.len()));
                        let Transport::Udp(udp) = transport(&frame, &h) else { panic!("it is UDP") };
                        assert_eq!((udp.src_port, udp.dst_port), (4789, 4789));
                        let datagram = Datagram::read(addr(src), addr(dst), &frame[udp.payload], &KEY).unwrap();
                        assert_eq!((datagram.program, datagram.batch, datagram.item), ([3; 32], 105, 1));
                        assert_eq!((usize::from(datagram.part), usize::from(datagram.parts)), (i, packets.len()));
                        assert_eq!(datagram.kind, Kind::Contents);
                        read.extend(datagram.data);
                    }
                    assert_eq!(read, bytes, "{len} bytes below {mtu}");
                }
            }
        }
    }

    #[test]
    fn checksums_are_what_another_implementation_computes() {
        for (src, dst) in [("192.0.2.1", "10.0.0.5"), ("2001:db8::1", "2001:db8::5")] {
            for len in 1..300 {
                let bytes = vec![len as u8; len];
                let frame = in_frame(&sent(&sender(1500), &generated(src, dst, &bytes))[0]);
                let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
                let Some(TransportSlice::Udp(udp)) = sliced.transport else { panic!("it is UDP") };
                let header = udp.to_header();
                let expected = match (addr(src), addr(dst)) {
                    (Addr::V4(src), Addr::V4(dst)) => {
                        header.calc_checksum_ipv4_raw(src.to_be_bytes(), dst.to_be_bytes(), udp.payload())
                    }
                    (src, dst) => header.calc_checksum_ipv6_raw(octets(src), octets(dst), udp.payload()),
                };
                assert_eq!(udp.checksum(), expected.unwrap());
                assert_ne!(udp.checksum(), 0);
            }
        }
    }

    #[test]
    fn what_cannot_be_sent_is_told_before_anything_is() {
        let none = &mut |_: &[u8]| panic!("nothing is sent");
        let mixed = generated("192.0.2.1", "2001:db8::5", b"x");
        let error = SendError::MixedFamilies { src: mixed.src, dst: mixed.dst };
        assert_eq!(sender(1500).send(&mixed, none), Err(error));
        let sound = generated("192.0.2.1", "10.0.0.5", b"x");
        assert_eq!(sender(575).send(&sound, none), Err(SendError::MtuTooSmall(575)));
        let long = vec![0; 40_000_000];
        let parts = long.len().div_ceil(576 - 20 - 8 - HEADER_LEN - TAG_LEN);
        let endless = generated("192.0.2.1", "10.0.0.5", &long);
        assert_eq!(sender(576).send(&endless, none), Err(SendError::TooManyParts(parts)));
        assert_eq!(sender(1500).send(&generated("192.0.2.1", "10.0.0.5", b""), none), Ok(0));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let packet = sent(&sender(1500), &generated("192.0.2.1", "10.0.0.5", b"some data")).remove(0);
        let payload = &packet[IPV4_LEN + UDP_LEN..];
        assert_eq!(read(payload, &KEY).unwrap().data, b"some data");
        for bit in 0..payload.len() * 8 {
            let mut changed = payload.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            let error = if bit < 8 { DatagramError::UnknownVersion(changed[0]) } else { DatagramError::BadTag };
            assert_eq!(read(&changed, &KEY), Err(error), "bit {bit}");
        }
        assert_eq!(read(payload, &[8; 32]), Err(DatagramError::BadTag));
        for (src, dst) in [("192.0.2.2", "10.0.0.5"), ("192.0.2.1", "10.0.0.6"), ("2001:db8::1", "2001:db8::5")] {
            let moved = Datagram::read(addr(src), addr(dst), payload, &KEY);
            assert_eq!(moved, Err(DatagramError::BadTag), "between other addresses");
        }
        assert_eq!(Datagram::program_of(payload), Some(&[3; 32]));
        for len in 0..HEADER_LEN + TAG_LEN {
            assert_eq!(read(&payload[..len], &KEY), Err(DatagramError::Truncated));
        }
    }

    #[test]
    fn whoever_has_the_key_is_not_believed_everything() {
        let packet = sent(&sender(1500), &generated("192.0.2.1", "10.0.0.5", b"some data")).remove(0);
        let with = |change: &dyn Fn(&mut [u8])| {
            let payload = &packet[IPV4_LEN + UDP_LEN..];
            let mut signed = payload[..payload.len() - TAG_LEN].to_vec();
            change(&mut signed);
            let tag = tag_of(&KEY, addr("192.0.2.1"), addr("10.0.0.5"), &signed);
            signed.extend(tag);
            read(&signed, &KEY).map(|datagram| datagram.parts).unwrap_err()
        };
        assert_eq!(with(&|signed| signed[1] = 2), DatagramError::UnknownKind(2));
        assert_eq!(with(&|signed| signed[5] = 1), DatagramError::BadPart { part: 1, parts: 1 });
        assert_eq!(with(&|signed| signed[7] = 0), DatagramError::BadPart { part: 0, parts: 0 });
    }
}
