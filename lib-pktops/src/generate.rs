//! GENERATE: what a program has sent to its owner, and its form as bytes.
//!
//! The bytes of destinations: for each content the number of its destinations (16 bits), then each as a byte that is 4
//! or 6 and the address. The bytes of contents: for each its protocol (8 bits), a byte whose lowest bit tells whether it has
//! ports and whose next one whether it is of no whole packet (0 to 3), the ports (16 bits each) if so, the length of the
//! payload (16 bits), and the payload. Numbers are big-endian. How they are sent is in [`crate::datagram`], how packets are
//! made of them again in [`crate::rebuild`].

use crate::group_by_content::{Content, Grouping};
use core::fmt;
use vinet_trusted::addr::Addr;
use vinet_trusted::program::WINDOW_MAX;

/// What generated packets tell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// For each content the destinations that it was sent to.
    Dests = 0,
    /// The contents.
    Contents = 1,
}

/// One GENERATE of one run.
#[derive(Clone, Copy, Debug)]
pub struct Generated<'a> {
    /// The source address of what is sent.
    pub src: Addr,
    /// Where it is sent to.
    pub dst: Addr,
    /// Counts the runs of the program that generated something, from 0.
    pub batch: u64,
    /// Counts the GENERATEs of the run, from 0: the first contents of a batch belong to its first destinations.
    pub item: u16,
    /// What it tells.
    pub kind: Kind,
    /// It.
    pub data: Data<'a>,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// Of packets that are still there.
    Grouping(Grouping<'a>),
    /// Bytes that [`Generated::pieces`] gave.
    Bytes(&'a [u8]),
}

impl Generated<'_> {
    /// Gives the bytes piece by piece. Never allocates.
    pub fn pieces(&self, each: &mut dyn FnMut(&[u8])) {
        match (&self.data, self.kind) {
            (Data::Bytes(bytes), _) => each(bytes),
            (Data::Grouping(grouping), Kind::Dests) => {
                for (count, dests) in grouping.dests() {
                    // A window has 256 packets at most.
                    each(&(count as u16).to_be_bytes());
                    dests.for_each(|dest| write_addr(dest, each));
                }
            }
            (Data::Grouping(grouping), Kind::Contents) => {
                grouping.contents().for_each(|content| write_content(&content, each));
            }
        }
    }
    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut len = 0;
        self.pieces(&mut |piece| len += piece.len());
        len
    }
    /// Whether there are none: the program grouped no packets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.pieces(&mut |piece| bytes.extend_from_slice(piece));
        bytes
    }
}

fn write_addr(addr: Addr, each: &mut dyn FnMut(&[u8])) {
    match addr {
        Addr::V4(a) => {
            each(&[4]);
            each(&a.to_be_bytes());
        }
        Addr::V6(a) => {
            each(&[6]);
            each(&a.to_be_bytes());
        }
    }
}

fn write_content(content: &Content<'_>, each: &mut dyn FnMut(&[u8])) {
    each(&[content.protocol, u8::from(content.ports.is_some()) | u8::from(!content.whole) << 1]);
    if let Some((src, dst)) = content.ports {
        each(&src.to_be_bytes());
        each(&dst.to_be_bytes());
    }
    // A payload is a part of an IP packet, whose length has 16 bits.
    each(&(content.payload.len() as u16).to_be_bytes());
    each(content.payload);
}

/// Why bytes are not what GENERATE sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataError {
    /// They end inside an item.
    Truncated,
    /// More contents, or destinations of one, than a window has packets.
    TooMany,
    /// A byte that stands for nothing here.
    UnknownTag(u8),
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataError::Truncated => write!(f, "the data end inside an item"),
            DataError::TooMany => write!(f, "there are more items than {WINDOW_MAX}, the packets of a window"),
            DataError::UnknownTag(tag) => write!(f, "the byte {tag:#04x} stands for nothing here"),
        }
    }
}

impl std::error::Error for DataError {}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], DataError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or(DataError::Truncated)?;
    *bytes = rest;
    Ok(taken)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], DataError> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(DataError::Truncated)?;
    *bytes = rest;
    Ok(*taken)
}

/// The destinations of each content, one after the other, from the bytes of [`Kind::Dests`]. Never allocates; ends behind
/// the first error.
#[derive(Clone, Debug)]
pub struct Dests<'a>(Items<'a>);

/// The contents, one after the other, from the bytes of [`Kind::Contents`]. Never allocates; ends behind the first error.
#[derive(Clone, Debug)]
pub struct Contents<'a>(Items<'a>);

/// The destinations of one content.
#[derive(Clone, Debug)]
pub struct DestsOfOne<'a>(&'a [u8]);

#[derive(Clone, Debug)]
struct Items<'a> {
    bytes: &'a [u8],
    left: u16,
}

impl<'a> Items<'a> {
    fn next<T>(&mut self, read: impl FnOnce(&mut &'a [u8]) -> Result<T, DataError>) -> Option<Result<T, DataError>> {
        if self.bytes.is_empty() {
            return None;
        }
        let left = self.left.checked_sub(1).ok_or(DataError::TooMany);
        let read = left.and_then(|left| {
            self.left = left;
            read(&mut self.bytes)
        });
        if read.is_err() {
            self.bytes = &[];
        }
        Some(read)
    }
}

impl<'a> Dests<'a> {
    /// Those in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Dests<'a> {
        Dests(Items { bytes, left: WINDOW_MAX })
    }
}

impl<'a> Contents<'a> {
    /// Those in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Contents<'a> {
        Contents(Items { bytes, left: WINDOW_MAX })
    }
}

impl<'a> Iterator for Dests<'a> {
    type Item = Result<DestsOfOne<'a>, DataError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(|bytes| {
            let count = u16::from_be_bytes(take_array(bytes)?);
            if count > WINDOW_MAX {
                return Err(DataError::TooMany);
            }
            let all = *bytes;
            for _ in 0..count {
                take_addr(bytes)?;
            }
            Ok(DestsOfOne(&all[..all.len() - bytes.len()]))
        })
    }
}

impl Iterator for DestsOfOne<'_> {
    type Item = Addr;
    fn next(&mut self) -> Option<Addr> {
        // They were read before, so there is no error.
        take_addr(&mut self.0).ok()
    }
}

impl<'a> Iterator for Contents<'a> {
    type Item = Result<Content<'a>, DataError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(|bytes| {
            let [protocol, flags] = take_array(bytes)?;
            let ports = match flags {
                0 | 2 => None,
                1 | 3 => Some((u16::from_be_bytes(take_array(bytes)?), u16::from_be_bytes(take_array(bytes)?))),
                tag => return Err(DataError::UnknownTag(tag)),
            };
            let len = u16::from_be_bytes(take_array(bytes)?);
            Ok(Content { protocol, ports, whole: flags & 2 == 0, payload: take(bytes, usize::from(len))? })
        })
    }
}

fn take_addr(bytes: &mut &[u8]) -> Result<Addr, DataError> {
    match take_array::<1>(bytes)? {
        [4] => Ok(Addr::V4(u32::from_be_bytes(take_array(bytes)?))),
        [6] => Ok(Addr::V6(u128::from_be_bytes(take_array(bytes)?))),
        [tag] => Err(DataError::UnknownTag(tag)),
    }
}

/// The destinations of each content, from the bytes of [`Kind::Dests`].
///
/// # Errors
/// The first offence found.
pub fn read_dests(bytes: &[u8]) -> Result<Vec<Vec<Addr>>, DataError> {
    Dests::new(bytes).map(|dests| dests.map(Iterator::collect)).collect()
}

/// The contents, from the bytes of [`Kind::Contents`].
///
/// # Errors
/// The first offence found.
pub fn read_contents(bytes: &[u8]) -> Result<Vec<Content<'_>>, DataError> {
    Contents::new(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::addr;

    #[test]
    fn destinations_are_read_as_they_were_written() {
        let all = vec![vec![addr("10.0.0.1"), addr("2001:db8::1")], vec![], vec![addr("10.0.0.1")]];
        let mut bytes = Vec::new();
        for dests in &all {
            bytes.extend((dests.len() as u16).to_be_bytes());
            dests.iter().for_each(|dest| write_addr(*dest, &mut |piece| bytes.extend_from_slice(piece)));
        }
        assert_eq!(read_dests(&bytes), Ok(all));
        for len in 1..bytes.len() {
            // A cut between two contents leaves whole ones.
            if ![2 + 5 + 17, 2 + 5 + 17 + 2].contains(&len) {
                assert_eq!(read_dests(&bytes[..len]), Err(DataError::Truncated), "cut at {len}");
            }
        }
        bytes[2] = 5;
        assert_eq!(read_dests(&bytes), Err(DataError::UnknownTag(5)));
        assert_eq!(read_dests(&[0; 2 * 257]), Err(DataError::TooMany));
        let many = [&257u16.to_be_bytes()[..], &[4, 1, 2, 3, 4].repeat(257)].concat();
        assert_eq!(read_dests(&many), Err(DataError::TooMany));
    }

    #[test]
    fn contents_are_read_as_they_were_written() {
        let long = vec![7; 60_000];
        let all = vec![
            Content { protocol: 17, ports: Some((1, 65_535)), whole: true, payload: &long },
            Content { protocol: 1, ports: None, whole: true, payload: b"" },
            Content { protocol: 17, ports: Some((2, 3)), whole: false, payload: b"first" },
            Content { protocol: 17, ports: None, whole: false, payload: b"later" },
        ];
        let mut bytes = Vec::new();
        all.iter().for_each(|content| write_content(content, &mut |piece| bytes.extend_from_slice(piece)));
        assert_eq!(read_contents(&bytes), Ok(all));
        assert_eq!(read_contents(&bytes[..bytes.len() - 1]), Err(DataError::Truncated));
        bytes[1] = 4;
        assert_eq!(read_contents(&bytes), Err(DataError::UnknownTag(4)));
        assert_eq!(read_contents(&[0; 4 * 257]), Err(DataError::TooMany));
    }
}
