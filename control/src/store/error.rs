//! Why the store does not open, or does not write.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use vinet_session::identity::RouterId;

/// Why the store does not open, or does not write. The operator of the machine has to act; `Broken` is our own defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The operating system refuses.
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's reason.
        reason: String,
    },
    /// Another process has it open.
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged, or no store at all.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It belongs to another router.
    OtherRouter {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: RouterId,
        /// Who asks.
        expected: RouterId,
    },
    /// Its format has no way to ours.
    Format {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version of this program.
        known: u32,
    },
    /// There is no more room for the file.
    Full {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// A transaction contradicts what is stored; nothing of it was written.
    Broken {
        /// What.
        what: String,
    },
}

impl StoreError {
    /// A stable short name, for clients: whose fault it is is not theirs to know.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            StoreError::Full { .. } => "store-full",
            _ => "store-failed",
        }
    }

    pub(super) fn io(path: &Path, doing: &'static str, error: &io::Error) -> StoreError {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StoreError::Full { path, reason }
            }
            // A file that is shorter than it says.
            io::ErrorKind::UnexpectedEof => StoreError::Damaged { path, what: "it ends too early".to_owned() },
            io::ErrorKind::InvalidData => StoreError::Damaged { path, what: reason },
            _ => StoreError::Io { path, doing, reason },
        }
    }

    pub(super) fn redb(path: &Path, doing: &'static str, error: impl Into<redb::Error>) -> StoreError {
        let path = path.to_owned();
        match error.into() {
            redb::Error::Io(error) => StoreError::io(&path, doing, &error),
            redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path },
            redb::Error::Corrupted(what) => StoreError::Damaged { path, what },
            error @ (redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TableIsMultimap(_)
            | redb::Error::UpgradeRequired(_)) => StoreError::Damaged { path, what: error.to_string() },
            error => StoreError::Io { path, doing, reason: error.to_string() },
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Io { path, doing, reason } => write!(f, "{}: cannot {doing}: {reason}", path.display()),
            StoreError::Locked { path } => write!(
                f,
                "{} is open in another process; stop that router, or give this one another [store] path",
                path.display()
            ),
            StoreError::Damaged { path, what } => write!(
                f,
                "{0} is damaged or no store of vinetd: {what}; `vinetd store export {0}` writes what is readable of it \
                 as JSON lines; move the file away to start with an empty one",
                path.display()
            ),
            StoreError::OtherRouter { path, found, expected } => write!(
                f,
                "{} belongs to the router with key {found}, and this one has {expected}; set [store] path to a file of \
                 this router's own, or [router] identity to the key that the file belongs to",
                path.display()
            ),
            StoreError::Format { path, found, known } => write!(
                f,
                "{} has format version {found}, and this vinetd reads {known}; use the vinetd that wrote it, or a newer \
                 one",
                path.display()
            ),
            StoreError::Full { path, reason } => write!(
                f,
                "{}: there is no room to write: {reason}; make room and start the router again",
                path.display()
            ),
            StoreError::Broken { what } => write!(f, "the store refuses what contradicts it: {what}"),
        }
    }
}
impl std::error::Error for StoreError {}
