//! Canonical CBOR (RFC 8949): what is written has one encoding, and nothing else is read.
//!
//! A reader takes an item apart by its shape and bounds; [`from_bytes`] then writes the result again and refuses bytes
//! that differ, so that longer integer forms, indefinite lengths and trailing bytes are errors without a rule for each.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use std::fmt;
use std::net::SocketAddr;
use vinet_trusted::addr::{Addr, Prefix, Principal};

/// Why bytes are not an item of the shape that was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The byte at which it shows.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}, expected {}", self.at, self.expected)
    }
}

impl std::error::Error for Malformed {}

/// An item with one encoding.
pub(crate) trait Canonical: Sized {
    fn write(&self, w: &mut Writer);
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed>;
}

/// The one encoding of `item`.
pub(crate) fn to_bytes<T: Canonical>(item: &T) -> Vec<u8> {
    let mut w = Writer::new();
    item.write(&mut w);
    w.finish()
}

/// The item whose one encoding `bytes` is.
pub(crate) fn from_bytes<T: Canonical>(bytes: &[u8]) -> Result<T, Malformed> {
    let mut r = Reader(Decoder::new(bytes));
    let item = T::read(&mut r)?;
    let again = to_bytes(&item);
    if again == bytes {
        return Ok(item);
    }
    let at = again.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(again.len().min(bytes.len()));
    Err(Malformed { at, expected: "the one encoding of the item: shortest forms, definite lengths, nothing behind" })
}

/// Writes into a vector, which cannot fail.
pub(crate) struct Writer(Encoder<Vec<u8>>);

const INFALLIBLE: &str = "writing CBOR into a vector cannot fail";

impl Writer {
    pub(crate) fn new() -> Writer {
        Writer(Encoder::new(Vec::new()))
    }
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_writer()
    }
    pub(crate) fn array(&mut self, len: usize) -> &mut Self {
        self.0.array(len as u64).expect(INFALLIBLE);
        self
    }
    pub(crate) fn uint(&mut self, value: u64) -> &mut Self {
        self.0.u64(value).expect(INFALLIBLE);
        self
    }
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.bytes(bytes).expect(INFALLIBLE);
        self
    }
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.0.str(text).expect(INFALLIBLE);
        self
    }
    pub(crate) fn null(&mut self) -> &mut Self {
        self.0.null().expect(INFALLIBLE);
        self
    }
    /// A yes or no, as 1 or 0.
    pub(crate) fn flag(&mut self, yes: bool) -> &mut Self {
        self.uint(u64::from(yes))
    }
    pub(crate) fn item<T: Canonical>(&mut self, item: &T) -> &mut Self {
        item.write(self);
        self
    }
}

/// Reads items by shape and bound; never panics, and allocates no more than the bytes it has read.
pub(crate) struct Reader<'b>(Decoder<'b>);

impl<'b> Reader<'b> {
    pub(crate) fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed { at: self.0.position(), expected }
    }
    /// The length of an array of at most `max` items.
    pub(crate) fn array_up_to(&mut self, max: usize, expected: &'static str) -> Result<usize, Malformed> {
        let at = self.0.position();
        match self.0.array() {
            Ok(Some(len)) if len <= max as u64 => Ok(len as usize),
            _ => Err(Malformed { at, expected }),
        }
    }
    /// An array of exactly `len` items.
    pub(crate) fn array(&mut self, len: usize, expected: &'static str) -> Result<(), Malformed> {
        let at = self.0.position();
        if self.array_up_to(len, expected)? == len { Ok(()) } else { Err(Malformed { at, expected }) }
    }
    pub(crate) fn uint(&mut self, max: u64, expected: &'static str) -> Result<u64, Malformed> {
        let at = self.0.position();
        match self.0.u64() {
            Ok(value) if value <= max => Ok(value),
            _ => Err(Malformed { at, expected }),
        }
    }
    pub(crate) fn u32(&mut self, expected: &'static str) -> Result<u32, Malformed> {
        self.uint(u64::from(u32::MAX), expected).map(|v| v as u32)
    }
    pub(crate) fn u64(&mut self, expected: &'static str) -> Result<u64, Malformed> {
        self.uint(u64::MAX, expected)
    }
    pub(crate) fn bytes(&mut self, max: usize, expected: &'static str) -> Result<&'b [u8], Malformed> {
        let at = self.0.position();
        match self.0.bytes() {
            Ok(bytes) if bytes.len() <= max => Ok(bytes),
            _ => Err(Malformed { at, expected }),
        }
    }
    pub(crate) fn fixed<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], Malformed> {
        let at = self.0.position();
        self.bytes(N, expected)?.try_into().map_err(|_| Malformed { at, expected })
    }
    pub(crate) fn text(&mut self, max: usize, expected: &'static str) -> Result<&'b str, Malformed> {
        let at = self.0.position();
        match self.0.str() {
            Ok(text) if text.len() <= max => Ok(text),
            _ => Err(Malformed { at, expected }),
        }
    }
    pub(crate) fn u16(&mut self, expected: &'static str) -> Result<u16, Malformed> {
        self.uint(u64::from(u16::MAX), expected).map(|v| v as u16)
    }
    pub(crate) fn flag(&mut self, expected: &'static str) -> Result<bool, Malformed> {
        Ok(self.uint(1, expected)? == 1)
    }
    /// Whether the next item is null, which is then read.
    pub(crate) fn null(&mut self) -> bool {
        matches!(self.0.datatype(), Ok(Type::Null)) && self.0.null().is_ok()
    }
    pub(crate) fn item<T: Canonical>(&mut self) -> Result<T, Malformed> {
        T::read(self)
    }
}

impl Canonical for Addr {
    fn write(&self, w: &mut Writer) {
        match self {
            Addr::V4(a) => w.bytes(&a.to_be_bytes()),
            Addr::V6(a) => w.bytes(&a.to_be_bytes()),
        };
    }
    fn read(r: &mut Reader<'_>) -> Result<Addr, Malformed> {
        const EXPECTED: &str = "an address of 4 or 16 bytes";
        let at = r.malformed(EXPECTED);
        let bytes = r.bytes(16, EXPECTED)?;
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            return Ok(Addr::V4(u32::from_be_bytes(v4)));
        }
        <[u8; 16]>::try_from(bytes).map(|v6| Addr::V6(u128::from_be_bytes(v6))).map_err(|_| at)
    }
}

impl Canonical for Prefix {
    fn write(&self, w: &mut Writer) {
        w.array(2).item(&self.addr()).uint(u64::from(self.len()));
    }
    fn read(r: &mut Reader<'_>) -> Result<Prefix, Malformed> {
        const EXPECTED: &str = "a prefix: [address without host bits, length]";
        let malformed = r.malformed(EXPECTED);
        r.array(2, EXPECTED)?;
        let addr: Addr = r.item()?;
        let len = r.uint(u64::from(addr.width()), EXPECTED)? as u8;
        Prefix::new(addr, len).ok_or(malformed)
    }
}

impl Canonical for SocketAddr {
    fn write(&self, w: &mut Writer) {
        w.array(2).item(&Addr::from(self.ip())).uint(u64::from(self.port()));
    }
    fn read(r: &mut Reader<'_>) -> Result<SocketAddr, Malformed> {
        r.array(2, "an endpoint: [address, port]")?;
        let addr: Addr = r.item()?;
        Ok(SocketAddr::new(addr.into(), r.u16("a port")?))
    }
}

impl Canonical for Principal {
    fn write(&self, w: &mut Writer) {
        match self {
            Principal::EndUser(addr) => w.array(2).uint(0).item(addr),
            Principal::EdgeRouter(_) => w.array(3).uint(1).item(&self.addr()).uint(u64::from(self.owned().len())),
        };
    }
    fn read(r: &mut Reader<'_>) -> Result<Principal, Malformed> {
        const EXPECTED: &str = "a principal: [0, address] or [1, address, prefix length]";
        let malformed = r.malformed(EXPECTED);
        let len = r.array_up_to(3, EXPECTED)?;
        let kind = r.uint(1, EXPECTED)?;
        let addr = match (len, kind) {
            (2, 0) => return Ok(Principal::EndUser(r.item()?)),
            (3, 1) => r.item::<Addr>()?,
            _ => return Err(malformed),
        };
        let len = r.uint(u64::from(addr.width()), EXPECTED)? as u8;
        Principal::edge_router(addr, len).ok_or(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principals() -> Vec<Principal> {
        vec![
            Principal::EndUser(Addr::V4(0xc000_0201)),
            Principal::EndUser(Addr::V6(1)),
            Principal::edge_router(Addr::V4(0xc000_0201), 24).unwrap(),
            Principal::edge_router(Addr::V4(0), 0).unwrap(),
            Principal::edge_router(Addr::V6(0x2001_0db8 << 96), 32).unwrap(),
        ]
    }

    #[test]
    fn principals_have_one_encoding() {
        for principal in principals() {
            let bytes = to_bytes(&principal);
            assert_eq!(from_bytes::<Principal>(&bytes), Ok(principal));
            for len in 0..bytes.len() {
                assert!(from_bytes::<Principal>(&bytes[..len]).is_err());
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(from_bytes::<Principal>(&longer).is_err());
        }
    }

    #[test]
    fn other_encodings_of_a_principal_are_refused() {
        // The plain form, then the kind in two bytes, an indefinite array, an address in an indefinite string, an
        // address of five bytes, a prefix length above the family's.
        let plain = [0x82, 0x00, 0x44, 192, 0, 2, 1];
        assert!(from_bytes::<Principal>(&plain).is_ok());
        let others: [&[u8]; 6] = [
            &[0x82, 0x18, 0x00, 0x44, 192, 0, 2, 1],
            &[0x9f, 0x00, 0x44, 192, 0, 2, 1, 0xff],
            &[0x82, 0x00, 0x5f, 0x44, 192, 0, 2, 1, 0xff],
            &[0x82, 0x00, 0x45, 192, 0, 2, 1, 1],
            &[0x83, 0x01, 0x44, 192, 0, 2, 1, 0x18, 33],
            &[0x98, 0x02, 0x00, 0x44, 192, 0, 2, 1],
        ];
        for bytes in others {
            assert!(from_bytes::<Principal>(bytes).is_err(), "{bytes:02x?}");
        }
    }
}
