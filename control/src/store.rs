//! The store: what a router must not forget, in one file, written by one thread.
//!
//! A [`Transaction`] is durable whole or not at all. [`Committer::submit`] never blocks: a thread takes everything that
//! waits when it begins a commit, writes it, syncs the file, and gives every ticket back, so that a commit carries more
//! the busier the router is. What a [`Committer`] has answered with `Ok` is there after any crash.
//!
//! A commit that fails (no room, a broken disk) is answered to everyone in it, and **the store then stops taking writes**
//! until it is opened again: whether the failed commit reached the disk is not known before that, and what builds on it
//! must not be written. The router goes on with the programs that run.
//!
//! The store keeps the durable side of the ledger: entries are applied to its own accounts and books, which can never be
//! below zero, and a receipt must be the next of its account's chain and tell the balance that results. What is on disk
//! therefore always balances.
//!
//! Limits: [`VALUE_BYTES_MAX`] bytes in one record; the file is trusted as far as its checksums, which are all verified
//! when it is opened; no verdict about a program is kept, so programs are checked again after a start.

mod codec;
mod committer;
mod error;
mod export;
mod keeper;
mod recovered;
mod tables;

pub use committer::{Committer, Done};
pub use error::StoreError;
pub use export::{Exported, export};
pub use recovered::{Kept, Programs, Recovered};

use std::fs::File;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, StorageBackend};
use vinet_session::identity::{PublicKey, RouterId};
use vinet_session::receipt::Receipt;

use crate::ledger::Entry;
pub use crate::ledger::bank::CreditRecord;
use crate::ledger::bank::Taken;
use keeper::Keeper;

/// The version of the file's format.
pub const FORMAT_VERSION: u32 = 1;
/// The most bytes of one value: an upload, a proof, an answer.
pub const VALUE_BYTES_MAX: usize = 2 << 20;
/// Expired records that one [`Put::Prune`] removes of each kind.
pub const PRUNED_MAX: usize = 4096;

/// What the store may use, and keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of pages that are kept in memory.
    pub cache_bytes: usize,
    /// Receipts that are kept of each account; the head of its chain always is.
    pub receipts_per_account: u64,
    /// Tickets between [`Committer::submit`] and [`Committer::committed`].
    pub pending_max: usize,
    /// Bytes of what waits or is being written.
    pub pending_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { cache_bytes: 64 << 20, receipts_per_account: 1024, pending_max: 4096, pending_bytes_max: 64 << 20 }
    }
}

/// An installed program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramRecord {
    /// Its number; never used twice.
    pub instance: u64,
    /// The key of its owner.
    pub owner: PublicKey,
    /// The signed upload, in its one encoding.
    pub upload: Vec<u8>,
    /// The proof that was checked, where it is not the upload's.
    pub proof: Option<Vec<u8>>,
    /// The Unix second at which its lifetime began: the installation, or the last renewal.
    pub began_s: u64,
    /// The Unix second at which its lifetime ends.
    pub ends_s: u64,
    /// What is paid for that time, in credits.
    pub paid: u64,
}

/// What was answered to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The receipt of this number in the owner's chain.
    Receipt(u64),
    /// The bytes of a reply.
    Bytes(Vec<u8>),
}

/// A signed request that was carried out: it is not carried out again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// Who signed it.
    pub owner: PublicKey,
    /// Its nonce.
    pub nonce: [u8; 16],
    /// A digest of what was asked, to tell a retry from another request under the same nonce.
    pub digest: [u8; 32],
    /// The Unix second after which it is void.
    pub expiry_s: u64,
    /// What was answered.
    pub answer: Answer,
}

/// Kinds of records whose form is not the store's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A source that is shut off, and who voted for it.
    ShutOff = 1,
    /// A lemma that an owner sent.
    Lemma = 2,
    /// An event of an owner.
    Event = 3,
    /// One of its kind: a revocation list, a counter.
    Note = 4,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::ShutOff, Kind::Lemma, Kind::Event, Kind::Note];
    /// Its name in an export.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::ShutOff => "shut-off",
            Kind::Lemma => "lemma",
            Kind::Event => "event",
            Kind::Note => "note",
        }
    }
}

/// One change of what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// A program is installed.
    Program(Box<ProgramRecord>),
    /// A program's lifetime begins anew.
    Renew {
        /// Its number.
        instance: u64,
        /// The Unix second at which it begins.
        began_s: u64,
        /// The Unix second at which it ends.
        ends_s: u64,
        /// What is paid for it, in credits.
        paid: u64,
    },
    /// A program is no longer installed. One that is not there is no error.
    RemoveProgram {
        /// Its number.
        instance: u64,
    },
    /// Credits move.
    Entry(Entry),
    /// The next receipt of an account, after the entries that it is about.
    Receipt(Box<Receipt>),
    /// A credit was taken.
    Credit(CreditRecord),
    /// A request was carried out.
    Request(RequestRecord),
    /// Keeps a value under a key, in the place of the one before.
    Keep {
        /// What it is.
        kind: Kind,
        /// The key, of at most 256 bytes.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a value. One that is not there is no error.
    Drop {
        /// What it is.
        kind: Kind,
        /// The key.
        key: Vec<u8>,
    },
    /// Forgets requests and credits that expired before a second; at most [`PRUNED_MAX`] of each. They stay void even if
    /// the clock goes back ([`Recovered::pruned_s`]).
    Prune {
        /// The Unix second.
        before_s: u64,
    },
}

impl Put {
    /// About how many bytes it holds.
    fn bytes(&self) -> usize {
        64 + match self {
            Put::Program(program) => program.upload.len() + program.proof.as_ref().map_or(0, Vec::len),
            Put::Receipt(_) => 512,
            Put::Request(RequestRecord { answer: Answer::Bytes(bytes), .. }) => bytes.len(),
            Put::Keep { key, value, .. } => key.len() + value.len(),
            _ => 64,
        }
    }
}

/// Changes that become durable together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    puts: Vec<Put>,
    bytes: usize,
}

impl Transaction {
    /// A transaction without changes.
    #[must_use]
    pub fn new() -> Transaction {
        Transaction::default()
    }
    /// Adds a change; changes are carried out in this order.
    pub fn put(&mut self, put: Put) -> &mut Transaction {
        self.bytes += put.bytes();
        self.puts.push(put);
        self
    }
    /// The changes.
    #[must_use]
    pub fn puts(&self) -> &[Put] {
        &self.puts
    }
}

impl From<Vec<Put>> for Transaction {
    fn from(puts: Vec<Put>) -> Transaction {
        Transaction { bytes: puts.iter().map(Put::bytes).sum(), puts }
    }
}

impl From<Taken> for Transaction {
    fn from(Taken { entry, receipt, record }: Taken) -> Transaction {
        vec![Put::Entry(entry), Put::Receipt(Box::new(receipt)), Put::Credit(record)].into()
    }
}

/// An open store, before its thread runs. Nobody else can open the same file meanwhile.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    db: Database,
    keeper: Keeper,
    options: Options,
}

impl Store {
    /// Opens the store of `router` in the file `path`, or makes it, readable by nobody else. Every checksum is verified.
    ///
    /// # Errors
    /// [`StoreError`]; the file is as it was.
    pub fn open(path: &Path, router: &RouterId, options: Options) -> Result<(Store, Recovered), StoreError> {
        let found = std::fs::metadata(path);
        match found {
            // A file of no bytes is one that somebody made room for.
            Ok(found) if found.len() > 0 => {}
            Ok(_) => make(path, router, options)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(path, router, options)?,
            Err(error) => return Err(StoreError::io(path, "look at it", &error)),
        }
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| StoreError::io(path, "open it", &error))?;
        private(path, &file)?;
        Store::with_backend(path, backend(path, file)?, router, options, tables::STEPS)
    }

    /// A store in memory: everything works, and nothing outlives the process.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn in_memory(router: &RouterId, options: Options) -> Result<(Store, Recovered), StoreError> {
        let path = Path::new("(memory)");
        let backend = InMemoryBackend::new();
        let db = Builder::new()
            .set_cache_size(options.cache_bytes)
            .create_with_backend(backend)
            .map_err(|error| StoreError::redb(path, "make it", error))?;
        tables::found(&db, path, router)?;
        Store::load(path, db, router, options, tables::STEPS)
    }

    /// Opens what `backend` holds.
    fn with_backend(
        path: &Path,
        backend: impl StorageBackend,
        router: &RouterId,
        options: Options,
        steps: &[tables::Step],
    ) -> Result<(Store, Recovered), StoreError> {
        let db = guarded(path, || {
            Builder::new()
                .set_cache_size(options.cache_bytes)
                .set_check_integrity_on_open(true)
                .create_with_backend(backend)
                .map_err(|error| StoreError::redb(path, "open it", error))
        })?;
        guarded(path, || Store::load(path, db, router, options, steps))
    }

    fn load(
        path: &Path,
        db: Database,
        router: &RouterId,
        options: Options,
        steps: &[tables::Step],
    ) -> Result<(Store, Recovered), StoreError> {
        tables::admit(&db, path, router, steps)?;
        let (keeper, recovered) = recovered::read(&db, path, options)?;
        Ok((Store { path: path.to_owned(), db, keeper, options }, recovered))
    }

    /// Starts the thread. `wake` is called after each commit.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start<T: Send + 'static>(self, wake: impl Fn() + Send + 'static) -> std::io::Result<Committer<T>> {
        Committer::start(self, wake)
    }
}

/// Makes an empty store beside `path` and gives it that name when it is whole, so that a crash meanwhile leaves none.
fn make(path: &Path, router: &RouterId, options: Options) -> Result<(), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let fault = |doing| move |error: std::io::Error| StoreError::io(path, doing, &error);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(fault("make it"))?;
    private(&new, &file)?;
    let db = Builder::new()
        .set_cache_size(options.cache_bytes)
        .create_with_backend(backend(path, file)?)
        .map_err(|error| StoreError::redb(path, "make it", error))?;
    tables::found(&db, path, router)?;
    db.close().map_err(|error| StoreError::redb(path, "make it", error))?;
    std::fs::rename(&new, path).map_err(fault("give it its name"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fault("sync its folder"))
}

/// Takes the file from other users, who could read what owners do.
fn private(path: &Path, file: &File) -> Result<(), StoreError> {
    let fault = |error| StoreError::io(path, "take it from other users", &error);
    let mode = file.metadata().map_err(fault)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(fault)
}

fn backend(path: &Path, file: File) -> Result<FileBackend, StoreError> {
    FileBackend::new(file).map_err(|error| StoreError::redb(path, "open it", error))
}

/// A file that redb did not write can make it panic; that is a damaged file, and no reason for the router to end so.
fn guarded<T>(path: &Path, open: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let what = format!("reading it failed: {}", what.unwrap_or("for no stated reason"));
        Err(StoreError::Damaged { path: path.to_owned(), what })
    })
}

#[cfg(test)]
mod tests;
