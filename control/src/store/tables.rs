//! The tables of the file, whose it is, and how an older one becomes a new one.

use std::path::Path;

use redb::{Database, ReadableDatabase as _, TableDefinition, WriteTransaction};
use vinet_session::identity::{PublicKey, RouterId};

use super::codec::State;
use super::{FORMAT_VERSION, StoreError};

pub(super) type Numbered<V> = TableDefinition<'static, u64, V>;

/// The version of the format, and the router. The only table that every version has in the same form.
pub(super) const FORMAT: TableDefinition<&str, &[u8]> = TableDefinition::new("format");
/// What is one for the whole store.
pub(super) const STATE: TableDefinition<&str, &[u8]> = TableDefinition::new("state");
/// Programs by instance.
pub(super) const PROGRAMS: Numbered<&[u8]> = TableDefinition::new("programs");
/// The first bytes of uploads that many share, by number.
pub(super) const HEADS: TableDefinition<u32, &[u8]> = TableDefinition::new("heads");
/// Accounts by number.
pub(super) const ACCOUNTS: TableDefinition<u32, &[u8]> = TableDefinition::new("accounts");
/// Credits by expiry and serial number.
pub(super) const CREDITS: TableDefinition<&[u8; 24], &[u8]> = TableDefinition::new("credits");
/// Requests by expiry, owner and nonce.
pub(super) const REQUESTS: TableDefinition<&[u8; 28], &[u8]> = TableDefinition::new("requests");
/// Receipts by account and number.
pub(super) const RECEIPTS: TableDefinition<&[u8; 12], &[u8]> = TableDefinition::new("receipts");
/// What others keep, by kind and their keys.
pub(super) const KEPT: TableDefinition<(u8, &[u8]), &[u8]> = TableDefinition::new("kept");

pub(super) const VERSION_KEY: &str = "version";
pub(super) const ROUTER_KEY: &str = "router";
pub(super) const STATE_KEY: &str = "state";

/// One step of a migration: what it makes of a file of version `from` is one of version `from + 1`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) from: u32,
    pub(super) run: fn(&WriteTransaction) -> Result<(), redb::Error>,
}

/// The steps from every older version that is still read. There is one version so far.
pub(super) const STEPS: &[Step] = &[];

/// Begins a transaction as durable as the store promises.
///
/// Two phases: the checksums of pages are not cryptographic, and strangers choose most of what is written, so a commit
/// counts only after all of it is known to be on disk. Measured, it costs a fifth of a millisecond for a lonely
/// transaction and nothing for full ones.
pub(super) fn begin(db: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut write = db.begin_write()?;
    write.set_two_phase_commit(true);
    Ok(write)
}

/// Makes the tables of an empty store.
pub(super) fn found(db: &Database, path: &Path, router: &RouterId) -> Result<(), StoreError> {
    let run = || -> Result<(), redb::Error> {
        let write = begin(db)?;
        {
            let mut format = write.open_table(FORMAT)?;
            format.insert(VERSION_KEY, FORMAT_VERSION.to_le_bytes().as_slice())?;
            format.insert(ROUTER_KEY, router.0.as_slice())?;
            let state = State { next_instance: 1, ..State::default() };
            write.open_table(STATE)?.insert(STATE_KEY, state.encode().as_slice())?;
            write.open_table(PROGRAMS)?;
            write.open_table(HEADS)?;
            write.open_table(ACCOUNTS)?;
            write.open_table(CREDITS)?;
            write.open_table(REQUESTS)?;
            write.open_table(RECEIPTS)?;
            write.open_table(KEPT)?;
        }
        Ok(write.commit()?)
    };
    run().map_err(|error| StoreError::redb(path, "make it", error))
}

/// Whether the file is `router`'s and of our version, or becomes so by `steps`, all of them or none.
pub(super) fn admit(db: &Database, path: &Path, router: &RouterId, steps: &[Step]) -> Result<(), StoreError> {
    let damaged = |what: &str| StoreError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let fault = |error: redb::Error| StoreError::redb(path, "read its format", error);
    let read = || -> Result<(Option<u32>, Option<PublicKey>), redb::Error> {
        let format = db.begin_read()?.open_table(FORMAT)?;
        let version = format.get(VERSION_KEY)?.and_then(|value| value.value().try_into().ok().map(u32::from_le_bytes));
        let router = format.get(ROUTER_KEY)?.and_then(|value| value.value().try_into().ok().map(PublicKey));
        Ok((version, router))
    };
    let (version, owner) = read().map_err(fault)?;
    let mut version = version.ok_or_else(|| damaged("it tells no format version"))?;
    let owner = owner.ok_or_else(|| damaged("it tells no router"))?;
    if owner != *router {
        return Err(StoreError::OtherRouter { path: path.to_owned(), found: owner, expected: *router });
    }
    let known = steps.last().map_or(FORMAT_VERSION, |last| last.from + 1);
    if version == known {
        return Ok(());
    }
    let found = version;
    let write = begin(db).map_err(fault)?;
    while version != known {
        let step = steps.iter().find(|step| step.from == version);
        let step = step.ok_or_else(|| StoreError::Format { path: path.to_owned(), found, known })?;
        (step.run)(&write).map_err(|error| StoreError::redb(path, "bring it to this version", error))?;
        version += 1;
    }
    let finish = || -> Result<(), redb::Error> {
        write.open_table(FORMAT)?.insert(VERSION_KEY, known.to_le_bytes().as_slice())?;
        Ok(write.commit()?)
    };
    finish().map_err(|error| StoreError::redb(path, "bring it to this version", error))
}
