//! The heads of receipt chains: where a router's story stood when the user last saw it.
//!
//! One small file for each router and account. Holding a head that [`goes_on`] accepts beside a router's receipts proves
//! that the router still tells what it told then. A head is saved only after the chain was verified up to it.

use crate::file::{self, FileError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use vinet_session::identity::{PublicKey, RouterId};
use vinet_session::receipt::{ChainHead, Receipt};

const BYTES_MAX: u64 = 4096;

/// The folder of the heads.
pub struct Heads {
    dir: PathBuf,
}

/// Why a head cannot be read or written.
#[derive(Debug)]
pub enum HeadError {
    /// The file cannot be used.
    File(FileError),
    /// The file is not in its form.
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The folder cannot be made.
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeadError::File(error) => error.fmt(f),
            HeadError::Form { path, what } => write!(
                f,
                "{}: {what}; it remembers how far a router's receipts went: remove it only if you changed it yourself",
                path.display()
            ),
            HeadError::Folder { path, error } => write!(f, "cannot make the folder {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for HeadError {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    number: u64,
    digest: String,
    balance: u64,
}

impl Heads {
    /// The heads in the folder `dir`, which is made with the first.
    #[must_use]
    pub const fn at(dir: PathBuf) -> Heads {
        Heads { dir }
    }
    fn path(&self, router: &RouterId, account: &PublicKey) -> PathBuf {
        // Keys are written in hexadecimal digits, so a name is a plain one whatever the router says.
        self.dir.join(format!("receipts-{router}-{account}.json"))
    }
    /// The head of `account` at `router`, where one was saved.
    ///
    /// # Errors
    /// [`HeadError::File`], [`HeadError::Form`].
    pub fn load(&self, router: &RouterId, account: &PublicKey) -> Result<Option<ChainHead>, HeadError> {
        let path = self.path(router, account);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = file::read(&path, BYTES_MAX).map_err(HeadError::File)?;
        let form = |what: String| HeadError::Form { path: path.clone(), what };
        let saved: Saved = serde_json::from_slice(&bytes).map_err(|error| form(error.to_string()))?;
        let digest: PublicKey =
            saved.digest.parse().map_err(|_| form("the digest is not 64 hexadecimal digits".to_string()))?;
        Ok(Some(ChainHead { account: *account, number: saved.number, digest: digest.0, balance: saved.balance }))
    }
    /// Keeps `head`, in the place of one from before.
    ///
    /// # Errors
    /// [`HeadError::File`], [`HeadError::Folder`].
    pub fn save(&self, router: &RouterId, head: &ChainHead) -> Result<(), HeadError> {
        std::fs::create_dir_all(&self.dir).map_err(|error| HeadError::Folder { path: self.dir.clone(), error })?;
        let digest = PublicKey(head.digest).to_string();
        let saved = Saved { number: head.number, digest, balance: head.balance };
        let text = serde_json::to_string(&saved).expect("three plain fields are JSON");
        file::write(&self.path(router, &head.account), format!("{text}\n").as_bytes()).map_err(HeadError::File)
    }
}

/// Whether the chain `receipts`, from its first on, goes on from `known`.
///
/// # Errors
/// What the router tells now, in words.
pub fn goes_on(known: &ChainHead, receipts: &[Receipt]) -> Result<(), String> {
    let Some(at) = known.number.checked_sub(1) else { return Ok(()) };
    let same = usize::try_from(at).ok().and_then(|at| receipts.get(at));
    match same {
        Some(receipt) if receipt.digest() == known.digest => Ok(()),
        Some(_) => Err(format!("receipt {} was another one when it was fetched before", known.number)),
        None => {
            Err(format!("the router has told {} receipts before, and now tells only {}", known.number, receipts.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_session::identity::{AuthorityKey, Identity, Subject, Validity};
    use vinet_session::receipt::ReceiptSubject;

    fn router() -> Identity {
        let subject = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
        AuthorityKey::generate("test").unwrap().issue_identity(subject, Validity::starting(0, 9)).unwrap()
    }

    fn chain(router: &Identity, account: PublicKey, deposits: &[u8]) -> (Vec<Receipt>, ChainHead) {
        let mut head = ChainHead::start(account);
        let deposit = |&serial: &u8| {
            let subject = ReceiptSubject::Deposited { serial: [serial; 16] };
            let receipt = Receipt::sign(head.next(1, 0, 5, subject).unwrap(), router);
            head.push(&receipt).unwrap();
            receipt
        };
        let receipts = deposits.iter().map(deposit).collect();
        (receipts, head)
    }

    #[test]
    fn a_router_that_tells_another_story_than_before_is_caught() {
        let (router, account) = (router(), PublicKey([7; 32]));
        let (_, known) = chain(&router, account, &[1, 2]);
        let told = |deposits: &[u8]| goes_on(&known, &chain(&router, account, deposits).0);
        assert_eq!(told(&[1, 2]), Ok(()));
        assert_eq!(told(&[1, 2, 3]), Ok(()));
        assert!(told(&[1, 3, 2]).unwrap_err().contains("receipt 2 was another one"));
        assert!(told(&[1]).unwrap_err().contains("2 receipts before, and now tells only 1"));
        assert_eq!(goes_on(&ChainHead::start(account), &[]), Ok(()));
    }

    #[test]
    fn a_head_is_read_as_it_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let heads = Heads::at(dir.path().join("deep/down"));
        let (router, account) = (router(), PublicKey([7; 32]));
        assert_eq!(heads.load(&router.public(), &account).unwrap(), None);
        for deposits in [&[1][..], &[1, 2]] {
            let (_, head) = chain(&router, account, deposits);
            heads.save(&router.public(), &head).unwrap();
            assert_eq!(heads.load(&router.public(), &account).unwrap(), Some(head));
        }
        // Another account or router has its own.
        assert_eq!(heads.load(&router.public(), &router.public()).unwrap(), None);
        let path = heads.path(&router.public(), &account);
        std::fs::write(&path, "{\"number\":1}").unwrap();
        let error = heads.load(&router.public(), &account).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("digest"), "{error}");
    }
}
