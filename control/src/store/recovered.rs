//! What the store gives back when it is opened.

use std::path::{Path, PathBuf};

use redb::{
    Database, OwnedRange, ReadTransaction, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
};
use vinet_session::identity::PublicKey;

use super::codec::{self, AccountRow, ProgramRow, State};
use super::keeper::Keeper;
use super::{CreditRecord, Kind, Options, ProgramRecord, RequestRecord, StoreError, tables};
use crate::ledger::{AccountRecord, AuditFault, Books};

/// What was durable when the store was opened. Programs are read one by one, because there can be a million.
///
/// It can be read while its [`super::Store`] or the committer that came of it lives. It keeps the file's pages as they were
/// from being used again, so it is to be dropped when everything was taken over.
#[derive(Debug)]
pub struct Recovered {
    /// The accounts.
    pub accounts: Vec<AccountRecord>,
    /// The books that belong to no account.
    pub books: Books,
    /// The credits that were taken and have not been forgotten.
    pub credits: Vec<CreditRecord>,
    /// The requests that were carried out and have not been forgotten.
    pub requests: Vec<RequestRecord>,
    /// The number of the next program.
    pub next_instance: u64,
    /// Requests and credits that expire before this second are forgotten, and void whatever the clock says.
    pub pruned_s: u64,
    /// How many programs there are.
    pub programs: u64,
    path: PathBuf,
    read: ReadTransaction,
    owners: Vec<PublicKey>,
    heads: Vec<Vec<u8>>,
}

/// A kept value: its key, and the value.
pub type Kept = (Vec<u8>, Vec<u8>);

/// The programs, by instance.
pub struct Programs<'r> {
    recovered: &'r Recovered,
    range: OwnedRange<u64, &'static [u8]>,
}

impl std::fmt::Debug for Programs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Programs").finish_non_exhaustive()
    }
}

impl Recovered {
    /// Every program, by instance.
    ///
    /// # Errors
    /// The table cannot be read; each item can be an error too.
    pub fn programs(&self) -> Result<Programs<'_>, StoreError> {
        let open = || -> Result<_, redb::Error> { Ok(self.read.open_table(tables::PROGRAMS)?.range_owned::<u64>(..)?) };
        let range = open().map_err(|error| StoreError::redb(&self.path, "read its programs", error))?;
        Ok(Programs { recovered: self, range })
    }

    /// The kept values of one kind with their keys, in the order of keys.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn kept(&self, kind: Kind) -> Result<Vec<Kept>, StoreError> {
        let first = (kind as u8, [].as_slice());
        let end = (kind as u8 + 1, [].as_slice());
        let read = || -> Result<_, redb::Error> {
            let table = self.read.open_table(tables::KEPT)?;
            let mut kept = Vec::new();
            for entry in table.range(first..end)? {
                let (key, value) = entry?;
                kept.push((key.value().1.to_vec(), value.value().to_vec()));
            }
            Ok(kept)
        };
        read().map_err(|error| StoreError::redb(&self.path, "read what is kept", error))
    }
}

impl Iterator for Programs<'_> {
    type Item = Result<ProgramRecord, StoreError>;
    fn next(&mut self) -> Option<Self::Item> {
        let path = &self.recovered.path;
        Some(match self.range.next()? {
            Err(error) => Err(StoreError::redb(path, "read a program", error)),
            Ok((instance, row)) => {
                let instance = instance.value();
                program(instance, row.value(), &self.recovered.owners, &self.recovered.heads)
                    .ok_or_else(|| damaged(path, format!("program {instance} cannot be read")))
            }
        })
    }
}

/// The record of a row; `None` where it is not one.
pub(super) fn program(instance: u64, row: &[u8], owners: &[PublicKey], heads: &[Vec<u8>]) -> Option<ProgramRecord> {
    let row = ProgramRow::decode(row)?;
    let mut upload = Vec::with_capacity(super::keeper::HEAD_BYTES + row.upload.len());
    if let Some(head) = row.head {
        upload.extend_from_slice(heads.get(head as usize)?);
    }
    upload.extend_from_slice(row.upload);
    Some(ProgramRecord {
        instance,
        owner: *owners.get(row.owner as usize)?,
        upload,
        proof: row.proof.map(<[u8]>::to_vec),
        began_s: row.began_s,
        ends_s: row.began_s.checked_add(row.lifetime_s)?,
        paid: row.paid,
    })
}

fn damaged(path: &Path, what: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what }
}

/// Reads everything but programs, receipts and what others keep.
pub(super) fn read(db: &Database, path: &Path, options: Options) -> Result<(Keeper, Recovered), StoreError> {
    let fault = |error: redb::Error| StoreError::redb(path, "read it", error);
    let read = db.begin_read().map_err(|error| fault(error.into()))?;
    let parts = || -> Result<Result<Parts, String>, redb::Error> { parts(&read) };
    let Parts { state, accounts, heads, credits, requests, programs } =
        parts().map_err(fault)?.map_err(|what| damaged(path, what))?;
    let owners: Vec<PublicKey> = accounts.iter().map(|row| row.key).collect();
    let ids = owners.iter().enumerate().map(|(number, key)| (*key, number as u32)).collect();
    let records = accounts.iter().map(|row| {
        let AccountRow { key, balance, receipts, last } = *row;
        AccountRecord { key, balance, receipts, last }
    });
    let recovered = Recovered {
        accounts: records.collect(),
        books: state.books.clone(),
        credits,
        requests,
        next_instance: state.next_instance,
        pruned_s: state.pruned_s,
        programs,
        path: path.to_owned(),
        read,
        heads: heads.clone(),
        owners,
    };
    let numbered = heads.into_iter().enumerate().map(|(number, head)| (head, number as u32));
    let keeper = Keeper {
        state,
        ids,
        accounts,
        heads: numbered.collect(),
        receipts_per_account: options.receipts_per_account.max(1),
    };
    Ok((keeper, recovered))
}

struct Parts {
    state: State,
    accounts: Vec<AccountRow>,
    heads: Vec<Vec<u8>>,
    credits: Vec<CreditRecord>,
    requests: Vec<RequestRecord>,
    programs: u64,
}

/// The inner error says what is damaged.
fn parts(read: &ReadTransaction) -> Result<Result<Parts, String>, redb::Error> {
    let state = read.open_table(tables::STATE)?.get(tables::STATE_KEY)?;
    let Some(state) = state.and_then(|value| State::decode(value.value())) else {
        return Ok(Err("its state cannot be read".to_owned()));
    };
    let mut accounts = Vec::new();
    for entry in read.open_table(tables::ACCOUNTS)?.iter()? {
        let (number, row) = entry?;
        match AccountRow::decode(row.value()).filter(|_| number.value() as usize == accounts.len()) {
            Some(row) => accounts.push(row),
            None => return Ok(Err(format!("account {} cannot be read", number.value()))),
        }
    }
    let mut heads = Vec::new();
    for entry in read.open_table(tables::HEADS)?.iter()? {
        let (number, head) = entry?;
        if number.value() as usize != heads.len() {
            return Ok(Err(format!("the first bytes of uploads number {} are missing", heads.len())));
        }
        heads.push(head.value().to_vec());
    }
    let owner = |number: u32| accounts.get(number as usize).map(|row: &AccountRow| row.key);
    let mut credits = Vec::new();
    for entry in read.open_table(tables::CREDITS)?.iter()? {
        let (key, value) = entry?;
        match codec::credit(key.value(), value.value(), owner) {
            Some(credit) if credit.expiry_s < state.pruned_s => {}
            Some(credit) => credits.push(credit),
            None => return Ok(Err("a credit that was taken cannot be read".to_owned())),
        }
    }
    let mut requests = Vec::new();
    for entry in read.open_table(tables::REQUESTS)?.iter()? {
        let (key, value) = entry?;
        match codec::request(key.value(), value.value(), owner) {
            Some(request) if request.expiry_s < state.pruned_s => {}
            Some(request) => requests.push(request),
            None => return Ok(Err("a request that was carried out cannot be read".to_owned())),
        }
    }
    let Books { issued, escrow, .. } = state.books;
    let in_accounts: u128 = accounts.iter().map(|row| u128::from(row.balance)).sum();
    let found = in_accounts + u128::from(escrow) + state.books.revenue_total();
    if found != u128::from(issued) {
        return Ok(Err(AuditFault::Sum { issued, found }.to_string()));
    }
    let programs = read.open_table(tables::PROGRAMS)?.len()?;
    Ok(Ok(Parts { state, accounts, heads, credits, requests, programs }))
}
