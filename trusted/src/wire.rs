//! Reading and writing the canonical bytes of programs, policies and proofs.
//!
//! Every reader is total: it never panics, never reads past the end, and gives one error per offence. An integer is
//! an unsigned LEB128 of the fewest bytes, so that one value has one encoding.

use crate::addr::{Addr, Prefix};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// What can be wrong with bytes before their meaning is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The bytes end inside an item.
    Truncated,
    /// An integer has more bytes than it needs, or more than 64 bits.
    IntegerNotMinimal,
    /// An integer is above what its place allows.
    IntegerTooLarge {
        /// The value.
        value: u64,
        /// The largest allowed.
        max: u64,
    },
    /// A byte that stands for nothing here.
    UnknownTag(u8),
    /// A prefix with host bits, or longer than its family.
    BadPrefix,
    /// A set is empty, too large, or not in its one form.
    BadSet,
    /// More items than the limit of what is read.
    TooManyNodes,
    /// Nested deeper than the limit of what is read.
    TooDeep,
}

impl core::fmt::Display for WireError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            WireError::Truncated => write!(f, "the bytes end inside an item"),
            WireError::IntegerNotMinimal => write!(f, "an integer is not in its shortest form"),
            WireError::IntegerTooLarge { value, max } => write!(f, "the integer {value} is above {max}"),
            WireError::UnknownTag(tag) => write!(f, "the byte 0x{tag:02x} stands for nothing here"),
            WireError::BadPrefix => write!(f, "a prefix has host bits or is too long"),
            WireError::BadSet => write!(f, "a set is empty, too large, or not in its shortest form"),
            WireError::TooManyNodes => write!(f, "there are more items than the limit"),
            WireError::TooDeep => write!(f, "it is nested deeper than the limit"),
        }
    }
}

/// A cursor over untrusted bytes, which also counts the nested items that it reads: the bytes never decide how much
/// stack or memory is used.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes_left: usize,
    depth_left: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte, and allows so many items in all, and inside one another.
    #[must_use]
    pub const fn new(bytes: &'a [u8], nodes_max: usize, depth_max: usize) -> Self {
        Reader { bytes, at: 0, nodes_left: nodes_max, depth_left: depth_max }
    }
    /// Reads one item that others may be nested in.
    ///
    /// # Errors
    /// [`WireError::TooManyNodes`], [`WireError::TooDeep`], or what `item` finds.
    pub fn nested<T, E: From<WireError>>(&mut self, item: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or(WireError::TooManyNodes)?;
        self.depth_left = self.depth_left.checked_sub(1).ok_or(WireError::TooDeep)?;
        let item = item(self)?;
        self.depth_left += 1;
        Ok(item)
    }
    /// How many bytes are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
    /// How many bytes have been read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }
    /// Whether every byte has been read.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }
    /// The next byte.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn byte(&mut self) -> Result<u8, WireError> {
        let byte = *self.bytes.get(self.at).ok_or(WireError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }
    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(len).ok_or(WireError::Truncated)?;
        let bytes = self.bytes.get(self.at..end).ok_or(WireError::Truncated)?;
        self.at = end;
        Ok(bytes)
    }
    /// An integer of at most `max`.
    ///
    /// # Errors
    /// The first offence found.
    pub fn integer(&mut self, max: u64) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if (part << shift) >> shift != part {
                return Err(WireError::IntegerNotMinimal);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(WireError::IntegerNotMinimal);
                }
                return if value <= max { Ok(value) } else { Err(WireError::IntegerTooLarge { value, max }) };
            }
        }
        Err(WireError::IntegerNotMinimal)
    }
    /// A prefix, as [`Writer::prefix`] writes it.
    ///
    /// # Errors
    /// The first offence found.
    pub fn prefix(&mut self) -> Result<Prefix, WireError> {
        let tag = self.integer(33 + 128)?;
        let (v6, len) = if tag <= 32 { (false, tag as u8) } else { (true, (tag - 33) as u8) };
        let mut bits = 0u128;
        let counted = usize::from(len.div_ceil(8));
        for &byte in self.bytes(counted)? {
            bits = bits << 8 | u128::from(byte);
        }
        let addr = if v6 {
            Addr::V6(bits.checked_shl(8 * (16 - counted as u32)).unwrap_or(0))
        } else {
            Addr::V4((bits as u32).checked_shl(8 * (4 - counted as u32)).unwrap_or(0))
        };
        Prefix::new(addr, len).ok_or(WireError::BadPrefix)
    }
}

/// The canonical bytes of what is written to it.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Writer { bytes: Vec::new() }
    }
    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }
    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
    /// An integer, in the fewest bytes.
    pub fn integer(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
    /// A prefix: an integer that is its length for IPv4 and 33 more than its length for IPv6, then the bytes of the
    /// address that hold counted bits.
    pub fn prefix(&mut self, prefix: Prefix) {
        let counted = usize::from(prefix.len().div_ceil(8));
        match prefix.addr() {
            Addr::V4(a) => {
                self.integer(u64::from(prefix.len()));
                self.bytes(&a.to_be_bytes()[..counted]);
            }
            Addr::V6(a) => {
                self.integer(33 + u64::from(prefix.len()));
                self.bytes(&a.to_be_bytes()[..counted]);
            }
        }
    }
    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// What has one encoding.
pub trait Wire: Sized {
    /// Appends the encoding.
    fn write(&self, w: &mut Writer);
    /// Reads what [`Wire::write`] wrote.
    ///
    /// # Errors
    /// The first offence found.
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError>;
}

macro_rules! wire_integer {
    ($($ty:ty),*) => {$(
        impl Wire for $ty {
            fn write(&self, w: &mut Writer) {
                w.integer(u64::from(*self));
            }
            fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
                r.integer(u64::from(<$ty>::MAX)).map(|value| value as $ty)
            }
        }
    )*};
}
wire_integer!(u16, u32, u64);

impl Wire for u8 {
    fn write(&self, w: &mut Writer) {
        w.byte(*self);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.byte()
    }
}

/// Signed integers alternate: 0, -1, 1, -2, …
impl Wire for i64 {
    fn write(&self, w: &mut Writer) {
        w.integer((*self << 1 ^ *self >> 63) as u64);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let value = r.integer(u64::MAX)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

impl<T: Wire> Wire for Box<T> {
    fn write(&self, w: &mut Writer) {
        (**self).write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        T::read(r).map(Box::new)
    }
}

/// A count, then the items; each takes a byte at least.
impl<T: Wire> Wire for Vec<T> {
    fn write(&self, w: &mut Writer) {
        w.integer(self.len() as u64);
        self.iter().for_each(|item| item.write(w));
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = r.integer(r.left() as u64)? as usize;
        let mut items = Vec::with_capacity(count.min(16));
        for _ in 0..count {
            items.push(T::read(r)?);
        }
        Ok(items)
    }
}

/// Writes and reads an enum as the byte of its variant and the fields.
macro_rules! wire_enum {
    ($ty:ident { $($tag:literal $variant:ident { $($field:ident),* })* }) => {
        impl $crate::wire::Wire for $ty {
            fn write(&self, w: &mut $crate::wire::Writer) {
                match self {
                    $($ty::$variant { $($field),* } => {
                        w.byte($tag);
                        $($crate::wire::Wire::write($field, w);)*
                    })*
                }
            }
            fn read(r: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::WireError> {
                r.nested(|r| Ok(match r.byte()? {
                    $($tag => $ty::$variant { $($field: $crate::wire::Wire::read(r)?),* },)*
                    tag => return Err($crate::wire::WireError::UnknownTag(tag)),
                }))
            }
        }
    };
}
pub(crate) use wire_enum;
