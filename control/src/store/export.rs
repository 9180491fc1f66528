//! What is readable of a store, as JSON lines, whatever its state.
//!
//! The file is never written: where redb has to repair before it can read, it repairs an overlay in memory. A table that
//! is damaged in one place is read from both ends. Where redb cannot open the file at all, its pages are looked at one by
//! one ([`scan`]), without knowing which of them are in force.

mod scan;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use redb::{Builder, Database, Key, ReadTransaction, ReadableDatabase as _, StorageBackend};
use redb::{TableDefinition, Value as RedbValue};
use serde_json::{Value, json};
use vinet_session::identity::PublicKey;

use super::codec::{self, AccountRow, State};
use super::{Answer, Kind, StoreError, guarded, recovered, tables};

/// Bytes of an overlay's piece.
const PIECE_BYTES: u64 = 4096;

/// What an export found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records that were written.
    pub records: u64,
    /// Places that could not be read.
    pub damaged: u64,
    /// Whether the records come from pages that may be out of force.
    pub scanned: bool,
}

/// Writes what is readable of the store in `path` to `out`, one JSON object a line. The file is not changed.
///
/// # Errors
/// The file cannot be opened or is in use, or `out` cannot be written to.
pub fn export(path: &Path, out: &mut impl Write) -> Result<Exported, StoreError> {
    let file = File::open(path).map_err(|error| StoreError::io(path, "open it", &error))?;
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(StoreError::Locked { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => return Err(StoreError::io(path, "lock it", &error)),
    }
    let mut export = Export { out, exported: Exported::default() };
    let written = |error| StoreError::io(path, "write what is readable of it", &error);
    let overlay = || file.try_clone().map(Overlay::over).map_err(|error| StoreError::io(path, "open it", &error));
    // A damaged file that was closed in order opens without a check, and then most of it is readable.
    let opened = match guarded(path, || open(path, overlay()?, true)) {
        Ok(db) => Ok(db),
        Err(error) => {
            export.damaged("file", &error.to_string()).map_err(written)?;
            guarded(path, || open(path, overlay()?, false))
        }
    };
    match opened {
        Ok(db) => {
            let read = guarded(path, || db.begin_read().map_err(|error| StoreError::redb(path, "read it", error)))?;
            export.tables(&read).map_err(written)?;
        }
        Err(_) => {
            export.exported.scanned = true;
            scan::pages(&file, &mut |record| export.record(record)).map_err(written)?;
        }
    }
    export.out.flush().map_err(written)?;
    Ok(export.exported)
}

fn open(path: &Path, overlay: Overlay, check: bool) -> Result<Database, StoreError> {
    Builder::new()
        .set_check_integrity_on_open(check)
        .create_with_backend(overlay)
        .map_err(|error| StoreError::redb(path, "open it", error))
}

struct Export<'w, W> {
    out: &'w mut W,
    exported: Exported,
}

impl<W: Write> Export<'_, W> {
    fn record(&mut self, record: Value) -> io::Result<()> {
        self.exported.records += 1;
        writeln!(self.out, "{record}")
    }
    fn damaged(&mut self, place: &str, what: &str) -> io::Result<()> {
        self.exported.damaged += 1;
        writeln!(self.out, "{}", json!({ "record": "damaged", "in": place, "what": what }))
    }

    fn tables(&mut self, read: &ReadTransaction) -> io::Result<()> {
        let mut owners = Vec::new();
        let mut heads = Vec::new();
        self.table(read, "format", tables::FORMAT, |key, value| Some(format(key, value)))?;
        self.table(read, "state", tables::STATE, |_, value| state(value))?;
        self.table(read, "accounts", tables::ACCOUNTS, |number, value| {
            let row = AccountRow::decode(value)?;
            put_at(&mut owners, number, row.key);
            Some(account(number, &row))
        })?;
        self.table(read, "heads", tables::HEADS, |number, head| {
            put_at(&mut heads, number, head.to_vec());
            Some(json!({ "record": "head", "number": number, "bytes": hex(head) }))
        })?;
        let owners: Vec<PublicKey> = owners.into_iter().map(|key| key.unwrap_or(PublicKey([0; 32]))).collect();
        let heads: Vec<Vec<u8>> = heads.into_iter().map(Option::unwrap_or_default).collect();
        self.table(read, "programs", tables::PROGRAMS, |instance, row| program(instance, row, &owners, &heads))?;
        self.table(read, "receipts", tables::RECEIPTS, |_, value| receipt(value))?;
        self.table(read, "credits", tables::CREDITS, |key, value| credit(key, value, &owners))?;
        self.table(read, "requests", tables::REQUESTS, |key, value| request(key, value, &owners))?;
        self.table(read, "kept", tables::KEPT, |(kind, key), value| {
            let name = Kind::ALL.iter().find(|known| **known as u8 == kind).map_or("unknown", |kind| kind.name());
            Some(json!({ "record": name, "key": hex(key), "value": hex(value) }))
        })
    }

    /// Writes what `form` makes of each entry of a table: up to the first place that cannot be read, and from the end back
    /// to it.
    fn table<K: Key + 'static, V: RedbValue + 'static>(
        &mut self,
        read: &ReadTransaction,
        name: &str,
        definition: TableDefinition<'static, K, V>,
        mut form: impl for<'v> FnMut(K::SelfType<'v>, V::SelfType<'v>) -> Option<Value>,
    ) -> io::Result<()> {
        let opened = safely(|| Ok(read.open_table(definition)?.range_owned::<K::SelfType<'_>>(..)?));
        let mut range = match opened {
            Ok(range) => range,
            Err(what) => return self.damaged(name, &what),
        };
        let mut forward = true;
        loop {
            let next = safely(|| Ok(if forward { range.next() } else { range.next_back() }.transpose()?));
            let found = match next {
                Ok(None) => return Ok(()),
                Ok(Some((key, value))) => safely(|| Ok(form(key.value(), value.value()))),
                Err(what) => {
                    self.damaged(name, &what)?;
                    if !forward {
                        return Ok(());
                    }
                    forward = false;
                    continue;
                }
            };
            match found {
                Ok(Some(record)) => self.record(record)?,
                Ok(None) => self.damaged(name, "a record is not in its form")?,
                Err(what) => self.damaged(name, &what)?,
            }
        }
    }
}

/// Damaged pages can make redb panic.
fn safely<T>(read: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("the page there is damaged".to_owned()),
    }
}

/// Numbers of a damaged file can be anything; those of a good one have no gaps.
fn put_at<T>(list: &mut Vec<Option<T>>, number: u32, value: T) {
    const NUMBERS_MAX: usize = 1 << 24;
    let number = number as usize;
    if number >= NUMBERS_MAX {
        return;
    }
    if number >= list.len() {
        list.resize_with(number + 1, || None);
    }
    list[number] = Some(value);
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn format(key: &str, value: &[u8]) -> Value {
    let version = <[u8; 4]>::try_from(value).ok().map(u32::from_le_bytes);
    match (key, version) {
        (tables::VERSION_KEY, Some(version)) => json!({ "record": "format", "version": version }),
        (tables::ROUTER_KEY, _) => json!({ "record": "router", "key": hex(value) }),
        _ => json!({ "record": "format", "key": key, "value": hex(value) }),
    }
}

fn state(value: &[u8]) -> Option<Value> {
    let State { next_instance, pruned_s, books } = State::decode(value)?;
    let revenue: Vec<Value> =
        books.revenue.iter().map(|(line, value)| json!({ "line": line.0, "credits": value })).collect();
    Some(json!({
        "record": "state", "next_instance": next_instance, "pruned_s": pruned_s, "issued": books.issued,
        "escrow": books.escrow, "refunded": books.refunded, "revenue": revenue,
    }))
}

fn account(number: u32, row: &AccountRow) -> Value {
    json!({
        "record": "account", "number": number, "key": row.key.to_string(), "balance": row.balance,
        "receipts": row.receipts, "last": hex(&row.last),
    })
}

fn program(instance: u64, row: &[u8], owners: &[PublicKey], heads: &[Vec<u8>]) -> Option<Value> {
    let record = recovered::program(instance, row, owners, heads)?;
    Some(json!({
        "record": "program", "instance": instance, "owner": record.owner.to_string(), "upload": hex(&record.upload),
        "proof": record.proof.as_deref().map(hex), "began_s": record.began_s, "ends_s": record.ends_s,
        "paid": record.paid,
    }))
}

fn credit(key: &[u8], value: &[u8], owners: &[PublicKey]) -> Option<Value> {
    let credit = codec::credit(key.try_into().ok()?, value, |number| owners.get(number as usize).copied())?;
    Some(json!({
        "record": "credit", "serial": hex(&credit.serial), "account": credit.account.to_string(),
        "amount": credit.amount, "receipt": credit.receipt, "expiry_s": credit.expiry_s,
    }))
}

fn request(key: &[u8], value: &[u8], owners: &[PublicKey]) -> Option<Value> {
    let request = codec::request(key.try_into().ok()?, value, |number| owners.get(number as usize).copied())?;
    let answer = match &request.answer {
        Answer::Receipt(number) => json!({ "receipt": number }),
        Answer::Bytes(bytes) => json!({ "bytes": hex(bytes) }),
    };
    Some(json!({
        "record": "request", "owner": request.owner.to_string(), "nonce": hex(&request.nonce),
        "digest": hex(&request.digest), "expiry_s": request.expiry_s, "answer": answer,
    }))
}

fn receipt(value: &[u8]) -> Option<Value> {
    let receipt = vinet_session::receipt::Receipt::decode(value).ok()?;
    let terms = receipt.terms();
    Some(json!({
        "record": "receipt", "account": terms.account.to_string(), "number": terms.number, "at_s": terms.at_s,
        "paid": terms.paid, "given_back": terms.given_back, "balance": terms.balance, "receipt": hex(value),
    }))
}

/// A file with what was written to it in memory.
#[derive(Debug)]
struct Overlay {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    pieces: HashMap<u64, Box<[u8; PIECE_BYTES as usize]>>,
}

impl Overlay {
    fn over(file: File) -> Overlay {
        let len = file.metadata().map_or(0, |found| found.len());
        Overlay { file, written: Mutex::new(Written { len, pieces: HashMap::new() }) }
    }

    /// A piece of the file itself, with zeros behind its end.
    fn original(&self, piece: u64) -> io::Result<Box<[u8; PIECE_BYTES as usize]>> {
        let mut bytes = Box::new([0; PIECE_BYTES as usize]);
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], piece * PIECE_BYTES + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(bytes)
    }
}

impl Written {
    /// Calls `with` for each piece of `len` bytes from `offset` on: the piece, and where in it and in the bytes.
    fn each(
        offset: u64,
        len: usize,
        mut with: impl FnMut(u64, std::ops::Range<usize>, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let begin = (at % PIECE_BYTES) as usize;
            let part = (len - done).min(PIECE_BYTES as usize - begin);
            with(at / PIECE_BYTES, begin..begin + part, done)?;
            done += part;
        }
        Ok(())
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.lock().unwrap_or_else(PoisonError::into_inner).len)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Written::each(offset, out.len(), |piece, within, at| {
            let to = &mut out[at..at + within.len()];
            match written.pieces.get(&piece) {
                Some(bytes) => to.copy_from_slice(&bytes[within]),
                None => to.copy_from_slice(&self.original(piece)?[within]),
            }
            Ok(())
        })
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).len = len;
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        Written::each(offset, data.len(), |piece, within, at| {
            let bytes = match written.pieces.entry(piece) {
                std::collections::hash_map::Entry::Occupied(bytes) => bytes.into_mut(),
                std::collections::hash_map::Entry::Vacant(place) => place.insert(self.original(piece)?),
            };
            bytes[within.clone()].copy_from_slice(&data[at..at + within.len()]);
            Ok(())
        })
    }
}
