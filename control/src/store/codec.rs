//! The form of records on disk: numbers of variable length, and bytes with their length before them.
//!
//! A record is read whole or not at all: what is left over, or missing, makes it unreadable. The form of a record changes
//! only with [`super::FORMAT_VERSION`].

use vinet_session::identity::PublicKey;

use super::{Answer, CreditRecord, RequestRecord};
use crate::ledger::{Books, Line};

/// Writes a record.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn number(&mut self, mut value: u64) -> &mut Writer {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }
    pub(super) fn fixed(&mut self, bytes: &[u8]) -> &mut Writer {
        self.0.extend_from_slice(bytes);
        self
    }
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.number(bytes.len() as u64).fixed(bytes)
    }
}

/// Reads a record; every part is `None` where the bytes do not hold it.
#[derive(Debug)]
pub(super) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    /// What `read` makes of `bytes`, if it reads all of them.
    pub(super) fn whole<T>(bytes: &'b [u8], read: impl FnOnce(&mut Reader<'b>) -> Option<T>) -> Option<T> {
        let mut reader = Reader(bytes);
        read(&mut reader).filter(|_| reader.0.is_empty())
    }
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }
    pub(super) fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
    pub(super) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    pub(super) fn bytes(&mut self) -> Option<&'b [u8]> {
        let len = self.number()?.try_into().ok()?;
        self.take(len)
    }
}

/// An account on disk. Its number is its key in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AccountRow {
    pub(super) key: PublicKey,
    pub(super) balance: u64,
    pub(super) receipts: u64,
    pub(super) last: [u8; 32],
}

impl AccountRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.fixed(&self.key.0).fixed(&self.last).number(self.balance).number(self.receipts);
        w.0
    }
    pub(super) fn decode(bytes: &[u8]) -> Option<AccountRow> {
        Reader::whole(bytes, |r| {
            let (key, last) = (PublicKey(r.fixed()?), r.fixed()?);
            Some(AccountRow { key, last, balance: r.number()?, receipts: r.number()? })
        })
    }
}

/// A program on disk: its owner by number, and the first part of its upload, which many share, by number too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProgramRow<'b> {
    pub(super) owner: u32,
    /// The number of the upload's first bytes; `None` where they are in `upload`.
    pub(super) head: Option<u32>,
    pub(super) upload: &'b [u8],
    pub(super) proof: Option<&'b [u8]>,
    pub(super) began_s: u64,
    pub(super) lifetime_s: u64,
    pub(super) paid: u64,
}

impl<'b> ProgramRow<'b> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer(Vec::with_capacity(self.upload.len() + self.proof.map_or(0, <[u8]>::len) + 40));
        w.number(u64::from(self.owner)).number(self.began_s).number(self.lifetime_s).number(self.paid);
        // One more than the number, so that 0 stands for none.
        w.number(self.head.map_or(0, |head| u64::from(head) + 1)).bytes(self.upload);
        w.number(u64::from(self.proof.is_some()));
        if let Some(proof) = self.proof {
            w.bytes(proof);
        }
        w.0
    }
    pub(super) fn decode(bytes: &'b [u8]) -> Option<ProgramRow<'b>> {
        Reader::whole(bytes, |r| {
            let (owner, began_s, lifetime_s, paid) = (r.u32()?, r.number()?, r.number()?, r.number()?);
            let head = match r.number()? {
                0 => None,
                number => Some(u32::try_from(number - 1).ok()?),
            };
            let upload = r.bytes()?;
            let proof = match r.number()? {
                0 => None,
                1 => Some(r.bytes()?),
                _ => return None,
            };
            Some(ProgramRow { owner, head, upload, proof, began_s, lifetime_s, paid })
        })
    }
}

/// What is one for the whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) next_instance: u64,
    pub(super) pruned_s: u64,
    pub(super) books: Books,
}

impl State {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.number(self.next_instance).number(self.pruned_s);
        let Books { issued, escrow, revenue, refunded } = &self.books;
        w.number(*issued).number(*escrow).number(*refunded).number(revenue.len() as u64);
        for (line, value) in revenue {
            w.number(u64::from(line.0)).number(*value);
        }
        w.0
    }
    pub(super) fn decode(bytes: &[u8]) -> Option<State> {
        Reader::whole(bytes, |r| {
            let (next_instance, pruned_s) = (r.number()?, r.number()?);
            let (issued, escrow, refunded) = (r.number()?, r.number()?, r.number()?);
            let lines = r.number()?;
            let revenue = (0..lines)
                .map(|_| Some((Line(u8::try_from(r.number()?).ok()?), r.number()?)))
                .collect::<Option<_>>()?;
            Some(State { next_instance, pruned_s, books: Books { issued, escrow, revenue, refunded } })
        })
    }
}

/// Sorted by expiry first, so that what expired is at the front.
pub(super) fn credit_key(record: &CreditRecord) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&record.expiry_s.to_be_bytes());
    key[8..].copy_from_slice(&record.serial);
    key
}

pub(super) fn credit_value(record: &CreditRecord, account: u32) -> Vec<u8> {
    let mut w = Writer::default();
    w.number(u64::from(account)).number(record.amount).number(record.receipt);
    w.0
}

pub(super) fn credit(key: &[u8; 24], value: &[u8], owner: impl Fn(u32) -> Option<PublicKey>) -> Option<CreditRecord> {
    Reader::whole(value, |r| {
        let account = owner(r.u32()?)?;
        let (expiry_s, serial) = (u64::from_be_bytes(key[..8].try_into().ok()?), key[8..].try_into().ok()?);
        Some(CreditRecord { serial, account, expiry_s, amount: r.number()?, receipt: r.number()? })
    })
}

/// Sorted by expiry first.
pub(super) fn request_key(record: &RequestRecord, owner: u32) -> [u8; 28] {
    let mut key = [0; 28];
    key[..8].copy_from_slice(&record.expiry_s.to_be_bytes());
    key[8..12].copy_from_slice(&owner.to_be_bytes());
    key[12..].copy_from_slice(&record.nonce);
    key
}

pub(super) fn request_value(record: &RequestRecord) -> Vec<u8> {
    let mut w = Writer::default();
    w.fixed(&record.digest);
    match &record.answer {
        Answer::Receipt(number) => w.number(0).number(*number),
        Answer::Bytes(bytes) => w.number(1).bytes(bytes),
    };
    w.0
}

pub(super) fn request(key: &[u8; 28], value: &[u8], owner: impl Fn(u32) -> Option<PublicKey>) -> Option<RequestRecord> {
    Reader::whole(value, |r| {
        let owner = owner(u32::from_be_bytes(key[8..12].try_into().ok()?))?;
        let digest = r.fixed()?;
        let answer = match r.number()? {
            0 => Answer::Receipt(r.number()?),
            1 => Answer::Bytes(r.bytes()?.to_vec()),
            _ => return None,
        };
        let expiry_s = u64::from_be_bytes(key[..8].try_into().ok()?);
        Some(RequestRecord { owner, nonce: key[12..].try_into().ok()?, digest, expiry_s, answer })
    })
}

/// An account's number, then the receipt's: those of one account stand together, in order.
pub(super) fn receipt_key(account: u32, number: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&account.to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_have_one_reading(value: u64) {
            let mut w = Writer::default();
            w.number(value);
            prop_assert_eq!(Reader::whole(&w.0, Reader::number), Some(value));
            prop_assert_eq!(Reader::whole(&w.0[..w.0.len() - 1], Reader::number), None);
        }

        #[test]
        fn programs_are_read_as_written(
            numbers: (u32, Option<u32>, u64, u64, u64),
            upload: Vec<u8>,
            proof: Option<Vec<u8>>,
        ) {
            let (owner, head, began_s, lifetime_s, paid) = numbers;
            let row =
                ProgramRow { owner, head, upload: &upload, proof: proof.as_deref(), began_s, lifetime_s, paid };
            let bytes = row.encode();
            prop_assert_eq!(ProgramRow::decode(&bytes), Some(row));
            prop_assert_eq!(ProgramRow::decode(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let owner = |number| (number < 9).then_some(PublicKey([7; 32]));
            let _ = (ProgramRow::decode(&bytes), AccountRow::decode(&bytes), State::decode(&bytes));
            let _ = (credit(&[1; 24], &bytes, owner), request(&[1; 28], &bytes, owner));
        }
    }

    #[test]
    fn a_number_above_64_bits_is_none() {
        let mut bytes = [0xff; 10];
        bytes[9] = 0x01;
        assert_eq!(Reader::whole(&bytes, Reader::number), Some(u64::MAX));
        bytes[9] = 0x02;
        assert_eq!(Reader::whole(&bytes, Reader::number), None);
        assert_eq!(Reader::whole(&[0xff; 11], Reader::number), None);
    }

    #[test]
    fn the_state_is_read_as_written() {
        let books = Books { issued: 9, escrow: 2, revenue: [(Line(1), 3), (Line::CHECKS, 4)].into(), refunded: 5 };
        let state = State { next_instance: 77, pruned_s: 1_800_000_000, books };
        let bytes = state.encode();
        assert_eq!(State::decode(&bytes), Some(state));
        for len in 0..bytes.len() {
            assert_eq!(State::decode(&bytes[..len]), None);
        }
    }
}
