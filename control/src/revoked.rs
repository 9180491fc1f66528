//! Which keys are revoked here.
//!
//! A [`Revoked`] holds the newest list of the authority that this router has seen: the one in its file, or one that
//! somebody delivered since. Only the authority's signature makes a list count, and only a higher number makes it take the
//! place of the one before, so anybody may bring one. What is taken is written to the file at once, beside it first and
//! then in its place, so that a restart never goes back to an older one and a crash leaves the one or the other whole.
//! Without a file it is remembered until the end of the process.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vinet_session::identity::{Authority, IdentityError, PublicKey};
use vinet_session::message::Rejection;
use vinet_session::revocation::RevocationList;
use vinet_session::verify::RequestFault;

/// Why a file of revoked keys cannot be used. The operator is at fault.
#[derive(Debug)]
pub enum RevokedError {
    /// It cannot be read or written, or is no list.
    File(IdentityError),
    /// It is not a list of this router's authority.
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: RequestFault,
    },
}

impl fmt::Display for RevokedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RevokedError::File(error) => {
                write!(f, "{error}; it is to be a list of revoked keys ([router] revocations)")
            }
            RevokedError::Foreign { path, reason } => {
                let remedy = "it has to be of the authority that [router] authority names";
                write!(f, "{}: this list of revoked keys does not stand: {reason}; {remedy}", path.display())
            }
        }
    }
}
impl std::error::Error for RevokedError {}

/// What became of a list.
#[derive(Debug)]
pub enum Taken {
    /// It is in force.
    Newer {
        /// Keys that were not revoked before: whatever is theirs here has to end.
        fresh: Vec<PublicKey>,
        /// Why it could not be kept over a restart, where it could not.
        unkept: Option<RevokedError>,
    },
    /// One at least as new is in force; nothing changed.
    Older,
}

/// The newest list that was seen.
#[derive(Debug)]
pub struct Revoked {
    authority: Arc<Authority>,
    path: Option<PathBuf>,
    list: Option<RevocationList>,
}

impl Revoked {
    /// The list of the file at `path`, to which newer ones will be written. A file that is not there yet is an empty list.
    ///
    /// # Errors
    /// [`RevokedError`].
    pub fn load(path: Option<&Path>, authority: Arc<Authority>) -> Result<Revoked, RevokedError> {
        let mut revoked = Revoked { authority, path: path.map(Path::to_owned), list: None };
        if let Some(list) = revoked.read()? {
            revoked.list = Some(list);
        }
        Ok(revoked)
    }

    fn read(&self) -> Result<Option<RevocationList>, RevokedError> {
        let Some(path) = self.path.as_ref().filter(|path| path.exists()) else { return Ok(None) };
        let list = RevocationList::load(path).map_err(RevokedError::File)?;
        list.verify(&self.authority).map_err(|reason| RevokedError::Foreign { path: path.clone(), reason })?;
        Ok(Some(list))
    }

    /// Reads the file again, and takes its list where it is newer.
    ///
    /// # Errors
    /// [`RevokedError`]; the list before stays in force.
    pub fn reload(&mut self) -> Result<Taken, RevokedError> {
        match self.read()? {
            Some(list) if list.number() > self.number() => {
                let fresh = self.fresh(&list);
                self.list = Some(list);
                Ok(Taken::Newer { fresh, unkept: None })
            }
            _ => Ok(Taken::Older),
        }
    }

    /// Takes a list that somebody brought, where it is the authority's and newer.
    ///
    /// # Errors
    /// It claims to be newer, and the authority has not signed it.
    pub fn take(&mut self, list: RevocationList) -> Result<Taken, Rejection> {
        // What is not newer is not worth the look at its signature.
        if list.number() <= self.number() {
            return Ok(Taken::Older);
        }
        list.verify(&self.authority).map_err(Rejection::from)?;
        let unkept = self.keep(&list).err();
        let fresh = self.fresh(&list);
        // Where it cannot be kept it counts all the same, for as long as this process runs.
        self.list = Some(list);
        Ok(Taken::Newer { fresh, unkept })
    }

    fn fresh(&self, list: &RevocationList) -> Vec<PublicKey> {
        list.keys().iter().filter(|key| !self.is_revoked(key)).copied().collect()
    }

    /// Puts the list in the place of the file.
    fn keep(&self, list: &RevocationList) -> Result<(), RevokedError> {
        let Some(path) = &self.path else { return Ok(()) };
        list.save(path).map_err(RevokedError::File)?;
        // The name is on the disk when its folder is. Where that cannot be had, the file is whole all the same.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let _ = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        Ok(())
    }

    /// Every key that counts no longer.
    pub fn keys(&self) -> impl Iterator<Item = PublicKey> {
        self.list.iter().flat_map(|list| list.keys().iter().copied())
    }

    /// Whether `key` counts no longer.
    #[must_use]
    pub fn is_revoked(&self, key: &PublicKey) -> bool {
        self.list.as_ref().is_some_and(|list| list.revokes(key))
    }
    /// The number of the list in force; 0 where there is none.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.list.as_ref().map_or(0, RevocationList::number)
    }
    /// How many keys are revoked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.as_ref().map_or(0, |list| list.keys().len())
    }
    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use vinet_session::identity::AuthorityKey;

    fn key(byte: u8) -> PublicKey {
        PublicKey([byte; 32])
    }

    struct Bench {
        authority: AuthorityKey,
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { authority: AuthorityKey::generate("bench").unwrap(), folder: tempfile::tempdir().unwrap() }
        }
        fn path(&self) -> PathBuf {
            self.folder.path().join("revoked.list")
        }
        fn load(&self) -> Result<Revoked, RevokedError> {
            Revoked::load(Some(&self.path()), Arc::new(self.authority.authority()))
        }
        fn list(&self, number: u64, keys: &[PublicKey]) -> RevocationList {
            RevocationList::sign(number, 1_800_000_000, keys.to_vec(), &self.authority).unwrap()
        }
    }

    fn fresh(taken: Taken) -> Vec<PublicKey> {
        match taken {
            Taken::Newer { fresh, unkept: None } => fresh,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_newest_list_counts_and_is_there_after_a_restart() {
        let bench = Bench::new();
        let mut revoked = bench.load().unwrap();
        assert!(revoked.is_empty() && !revoked.is_revoked(&key(1)));
        assert_eq!(fresh(revoked.take(bench.list(2, &[key(1), key(2)])).unwrap()), [key(1), key(2)]);
        assert!(revoked.is_revoked(&key(1)) && !revoked.is_revoked(&key(3)));
        // Older and equal ones change nothing, whatever they say.
        assert!(matches!(revoked.take(bench.list(1, &[])).unwrap(), Taken::Older));
        assert!(matches!(revoked.take(bench.list(2, &[key(9)])).unwrap(), Taken::Older));
        assert_eq!(fresh(revoked.take(bench.list(3, &[key(2), key(3)])).unwrap()), [key(3)]);
        let after = bench.load().unwrap();
        assert_eq!((after.number(), after.len()), (3, 2));
        assert!(after.is_revoked(&key(3)) && !after.is_revoked(&key(1)));
        let names: Vec<_> =
            fs::read_dir(bench.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["revoked.list"]);
    }

    #[test]
    fn only_the_authoritys_signature_makes_a_list_count() {
        let (bench, stranger) = (Bench::new(), Bench::new());
        let mut revoked = bench.load().unwrap();
        let error = revoked.take(stranger.list(9, &[key(1)])).unwrap_err();
        assert_eq!(error.code(), "wrong-authority");
        let mut bytes = bench.list(9, &[key(1)]).encode();
        *bytes.last_mut().unwrap() ^= 1;
        let error = revoked.take(RevocationList::decode(&bytes).unwrap()).unwrap_err();
        assert_eq!(error.code(), "bad-signature");
        assert!(revoked.is_empty() && !bench.path().exists());
        // Neither from the file, where it is told at the start.
        stranger.list(9, &[key(1)]).save(&bench.path()).unwrap();
        assert!(bench.load().unwrap_err().to_string().contains("[router] authority"));
        fs::write(bench.path(), b"junk").unwrap();
        assert!(bench.load().unwrap_err().to_string().contains("[router] revocations"));
    }

    #[test]
    fn the_operators_newer_file_is_taken_and_an_older_one_is_not() {
        let bench = Bench::new();
        let mut revoked = bench.load().unwrap();
        bench.list(5, &[key(1)]).save(&bench.path()).unwrap();
        assert_eq!(fresh(revoked.reload().unwrap()), [key(1)]);
        bench.list(4, &[]).save(&bench.path()).unwrap();
        assert!(matches!(revoked.reload().unwrap(), Taken::Older));
        assert!(revoked.is_revoked(&key(1)));
        fs::write(bench.path(), b"junk").unwrap();
        assert!(revoked.reload().is_err() && revoked.is_revoked(&key(1)));
    }

    #[test]
    fn a_list_that_cannot_be_kept_counts_until_the_end() {
        let bench = Bench::new();
        let path = bench.folder.path().join("no/folder/revoked.list");
        let mut revoked = Revoked::load(Some(&path), Arc::new(bench.authority.authority())).unwrap();
        let Taken::Newer { fresh, unkept: Some(error) } = revoked.take(bench.list(1, &[key(1)])).unwrap() else {
            panic!("it cannot be kept")
        };
        assert_eq!((fresh, revoked.is_revoked(&key(1))), (vec![key(1)], true));
        assert!(error.to_string().contains("cannot create it"), "{error}");
    }
}
