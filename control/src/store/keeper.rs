//! What the store's thread knows, and how it carries out changes.
//!
//! The keeper holds the durable side of the ledger in memory: accounts and books as they are after the last change that
//! it carried out. A change that contradicts them is refused, and the whole commit with it.

use ahash::{AHashMap, AHashSet};
use redb::{ReadableTable as _, Table, WriteTransaction};
use vinet_session::identity::PublicKey;
use vinet_session::receipt::Receipt;

use super::codec::{self, AccountRow, ProgramRow, State};
use super::{PRUNED_MAX, ProgramRecord, Put, Transaction, VALUE_BYTES_MAX, tables};
use crate::ledger::{Book, Entry, changed};

/// The first bytes of an upload: its array, and the three names (router, policy, lemmas) of 34 bytes each that every
/// upload under one policy begins with. Any bytes may stand there; they are only kept once.
pub(super) const HEAD_BYTES: usize = 1 + 3 * 34;
/// Different first bytes that are kept once; those of further uploads are kept with each.
pub(super) const HEADS_MAX: usize = 4096;
/// Receipts that are removed when one comes, so that a smaller bound takes effect step by step.
const RECEIPTS_REMOVED_MAX: usize = 4;
/// The most bytes of a key of [`Put::Keep`].
const KEY_BYTES_MAX: usize = 256;

/// Why a change cannot be carried out.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database.
    Redb(redb::Error),
    /// The change contradicts what is stored.
    Broken(String),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Fault {
        Fault::Redb(error.into())
    }
}

fn broken<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Broken(what.into()))
}

#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) state: State,
    pub(super) accounts: Vec<AccountRow>,
    pub(super) ids: AHashMap<PublicKey, u32>,
    pub(super) heads: AHashMap<Vec<u8>, u32>,
    pub(super) receipts_per_account: u64,
}

/// The tables, open in one transaction.
struct Tables<'t> {
    programs: Table<'t, u64, &'static [u8]>,
    heads: Table<'t, u32, &'static [u8]>,
    credits: Table<'t, &'static [u8; 24], &'static [u8]>,
    requests: Table<'t, &'static [u8; 28], &'static [u8]>,
    receipts: Table<'t, &'static [u8; 12], &'static [u8]>,
    kept: Table<'t, (u8, &'static [u8]), &'static [u8]>,
}

impl Keeper {
    /// Carries out `transactions` in `write`, which is not committed yet. After an error the keeper is of no more use.
    pub(super) fn carry_out<'a>(
        &mut self,
        write: &WriteTransaction,
        transactions: impl Iterator<Item = &'a Transaction>,
    ) -> Result<(), Fault> {
        let mut tables = Tables {
            programs: write.open_table(tables::PROGRAMS)?,
            heads: write.open_table(tables::HEADS)?,
            credits: write.open_table(tables::CREDITS)?,
            requests: write.open_table(tables::REQUESTS)?,
            receipts: write.open_table(tables::RECEIPTS)?,
            kept: write.open_table(tables::KEPT)?,
        };
        // Accounts and the state change with almost every transaction; they are written once for all.
        let mut touched = AHashSet::new();
        let before = self.state.clone();
        for put in transactions.flat_map(Transaction::puts) {
            self.put(put, &mut tables, &mut touched)?;
        }
        drop(tables);
        let mut touched: Vec<u32> = touched.into_iter().collect();
        touched.sort_unstable();
        let mut accounts = write.open_table(tables::ACCOUNTS)?;
        for id in touched {
            accounts.insert(id, self.accounts[id as usize].encode().as_slice())?;
        }
        if self.state != before {
            write.open_table(tables::STATE)?.insert(tables::STATE_KEY, self.state.encode().as_slice())?;
        }
        Ok(())
    }

    fn put(&mut self, put: &Put, tables: &mut Tables<'_>, touched: &mut AHashSet<u32>) -> Result<(), Fault> {
        match put {
            Put::Program(record) => self.program(record, tables, touched),
            Put::Renew { instance, began_s, ends_s, paid } => {
                let row = tables.programs.get(*instance)?.map(|row| row.value().to_vec());
                let Some(row) = row else { return broken(format!("program {instance} is renewed and not there")) };
                let Some(row) = ProgramRow::decode(&row) else {
                    return broken(format!("program {instance} is renewed and cannot be read"));
                };
                let lifetime_s = ends_s.saturating_sub(*began_s);
                let row = ProgramRow { began_s: *began_s, lifetime_s, paid: *paid, ..row };
                tables.programs.insert(*instance, row.encode().as_slice())?;
                Ok(())
            }
            Put::RemoveProgram { instance } => {
                tables.programs.remove(*instance)?;
                Ok(())
            }
            Put::Entry(entry) => self.entry(entry, touched),
            Put::Receipt(receipt) => self.receipt(receipt, tables, touched),
            Put::Credit(record) => {
                let account = self.id(&record.account, touched)?;
                let key = codec::credit_key(record);
                let value = codec::credit_value(record, account);
                if tables.credits.insert(&key, value.as_slice())?.is_some() {
                    return broken("a credit is taken twice");
                }
                Ok(())
            }
            Put::Request(record) => {
                let owner = self.id(&record.owner, touched)?;
                let key = codec::request_key(record, owner);
                tables.requests.insert(&key, sized(&codec::request_value(record))?)?;
                Ok(())
            }
            Put::Keep { kind, key, value } => {
                if key.len() > KEY_BYTES_MAX {
                    return broken(format!("a key of {} bytes is to be kept", key.len()));
                }
                tables.kept.insert((*kind as u8, key.as_slice()), sized(value)?)?;
                Ok(())
            }
            Put::Drop { kind, key } => {
                tables.kept.remove((*kind as u8, key.as_slice()))?;
                Ok(())
            }
            Put::Prune { before_s } => {
                let before_s = self.state.pruned_s.max(*before_s);
                self.state.pruned_s = before_s;
                let (mut credit, mut request) = ([0; 24], [0; 28]);
                credit[..8].copy_from_slice(&before_s.to_be_bytes());
                request[..8].copy_from_slice(&before_s.to_be_bytes());
                for removed in tables.credits.extract_from_if::<&[u8; 24], _>(..&credit, |_, _| true)?.take(PRUNED_MAX)
                {
                    removed?;
                }
                for removed in
                    tables.requests.extract_from_if::<&[u8; 28], _>(..&request, |_, _| true)?.take(PRUNED_MAX)
                {
                    removed?;
                }
                Ok(())
            }
        }
    }

    /// The number of the account of `key`, which is made where there is none.
    fn id(&mut self, key: &PublicKey, touched: &mut AHashSet<u32>) -> Result<u32, Fault> {
        if let Some(&id) = self.ids.get(key) {
            return Ok(id);
        }
        let Ok(id) = u32::try_from(self.accounts.len()) else { return broken("there are 2^32 accounts") };
        self.accounts.push(AccountRow { key: *key, balance: 0, receipts: 0, last: [0; 32] });
        self.ids.insert(*key, id);
        touched.insert(id);
        Ok(id)
    }

    fn program(
        &mut self,
        record: &ProgramRecord,
        tables: &mut Tables<'_>,
        touched: &mut AHashSet<u32>,
    ) -> Result<(), Fault> {
        let owner = self.id(&record.owner, touched)?;
        let upload = record.upload.as_slice();
        let (head, upload) = match upload.split_at_checked(HEAD_BYTES) {
            Some((head, rest)) => match self.head(head, tables)? {
                Some(number) => (Some(number), rest),
                None => (None, upload),
            },
            None => (None, upload),
        };
        let row = ProgramRow {
            owner,
            head,
            upload,
            proof: record.proof.as_deref(),
            began_s: record.began_s,
            lifetime_s: record.ends_s.saturating_sub(record.began_s),
            paid: record.paid,
        };
        tables.programs.insert(record.instance, sized(&row.encode())?)?;
        self.state.next_instance = self.state.next_instance.max(record.instance.saturating_add(1));
        Ok(())
    }

    fn head(&mut self, head: &[u8], tables: &mut Tables<'_>) -> Result<Option<u32>, Fault> {
        if let Some(&number) = self.heads.get(head) {
            return Ok(Some(number));
        }
        if self.heads.len() >= HEADS_MAX {
            return Ok(None);
        }
        let number = self.heads.len() as u32;
        tables.heads.insert(number, head)?;
        self.heads.insert(head.to_vec(), number);
        Ok(Some(number))
    }

    fn entry(&mut self, entry: &Entry, touched: &mut AHashSet<u32>) -> Result<(), Fault> {
        for posting in entry.postings() {
            match self.state.books.apply(posting) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(imbalance) => return broken(imbalance.to_string()),
            }
            // A hold is not durable: what is held is the account's until it is captured.
            let (Book::Account(key) | Book::Held(key)) = posting.book else { unreachable!("the other books applied") };
            let id = self.id(&key, touched)?;
            touched.insert(id);
            let account = &mut self.accounts[id as usize];
            match changed(posting.book, account.balance, posting.change) {
                Ok(balance) => account.balance = balance,
                Err(imbalance) => return broken(imbalance.to_string()),
            }
        }
        self.state.books.count(entry);
        Ok(())
    }

    fn receipt(
        &mut self,
        receipt: &Receipt,
        tables: &mut Tables<'_>,
        touched: &mut AHashSet<u32>,
    ) -> Result<(), Fault> {
        let terms = receipt.terms();
        let id = self.id(&terms.account, touched)?;
        touched.insert(id);
        let account = &mut self.accounts[id as usize];
        let next = account.receipts.checked_add(1) == Some(terms.number) && account.last == terms.previous;
        if !next || account.balance != terms.balance {
            return broken(format!(
                "receipt {} of {} tells a balance of {} and the account is at receipt {} with {}",
                terms.number, terms.account, terms.balance, account.receipts, account.balance
            ));
        }
        account.receipts = terms.number;
        account.last = receipt.digest();
        tables.receipts.insert(&codec::receipt_key(id, terms.number), receipt.encode().as_slice())?;
        let Some(oldest) = terms.number.checked_sub(self.receipts_per_account) else { return Ok(()) };
        let (first, last) = (codec::receipt_key(id, 0), codec::receipt_key(id, oldest));
        let removed = tables.receipts.extract_from_if::<&[u8; 12], _>(&first..=&last, |_, _| true)?;
        for removed in removed.take(RECEIPTS_REMOVED_MAX) {
            removed?;
        }
        Ok(())
    }
}

fn sized(value: &[u8]) -> Result<&[u8], Fault> {
    if value.len() > VALUE_BYTES_MAX {
        return broken(format!("a value of {} bytes is to be kept; the most is {VALUE_BYTES_MAX}", value.len()));
    }
    Ok(value)
}
