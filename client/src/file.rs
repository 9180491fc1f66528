//! Files of the user: read within a limit, written whole or not at all.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why a file could not be used.
#[derive(Debug)]
pub enum FileError {
    /// It cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// It is longer than anything of its kind.
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most bytes that are read.
        limit: u64,
    },
    /// It is no UTF-8.
    NotText {
        /// The file.
        path: PathBuf,
        /// The first byte that fits nowhere.
        offset: usize,
    },
    /// It cannot be written; what was there before is unchanged.
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Read { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            FileError::TooLong { path, limit } => {
                write!(f, "cannot read {}: it is longer than {limit} bytes", path.display())
            }
            FileError::NotText { path, offset } => {
                write!(f, "{}: byte {offset} is no UTF-8; a text is expected", path.display())
            }
            FileError::Write { path, error } => write!(f, "cannot write {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for FileError {}

/// The bytes of a file of at most `limit` bytes.
///
/// # Errors
/// [`FileError::Read`], [`FileError::TooLong`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let failed = |error| FileError::Read { path: path.to_path_buf(), error };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLong { path: path.to_path_buf(), limit });
    }
    Ok(bytes)
}

/// The text that a file's bytes are.
///
/// # Errors
/// [`FileError::NotText`].
pub fn text(path: &Path, bytes: Vec<u8>) -> Result<String, FileError> {
    String::from_utf8(bytes)
        .map_err(|error| FileError::NotText { path: path.to_path_buf(), offset: error.utf8_error().valid_up_to() })
}

/// Writes a file so that it has either its old content or all of the new: under another name beside it first, flushed
/// to the disk, then renamed. What is no regular file (a device, a pipe) is written as it is.
///
/// # Errors
/// [`FileError::Write`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_as(path, bytes).map_err(|error| FileError::Write { path: path.to_path_buf(), error })
}

fn write_as(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link keeps its place: what it names is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if fs::metadata(&target).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return OpenOptions::new().write(true).open(&target)?.write_all(bytes);
    }
    if target.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let name = target.file_name().unwrap_or(OsStr::new("out"));
    let mut prefix = OsStr::new(".").to_owned();
    prefix.push(name);
    // The mode is what the user's mask leaves of it, as for any new file.
    let mut file = tempfile::Builder::new()
        .prefix(&prefix)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|error| io::Error::new(error.kind(), bare(&error)))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|error| error.error)?;
    Ok(())
}

/// What the operating system said, without the name of a temporary file that means nothing to the user.
fn bare(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((bare, _)) => bare.to_string(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("P.vnb");
        for content in [&b"one"[..], b"two longer", b""] {
            write(&path, content).expect("writes");
            assert_eq!(read(&path, 100).expect("reads"), content);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 1);
    }

    #[test]
    fn what_cannot_be_written_or_read_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let missing = folder.path().join("no/such/P.vnb");
        let told = write(&missing, b"x").expect_err("no folder").to_string();
        assert!(told.starts_with("cannot write ") && told.contains("No such file or directory"), "{told}");
        assert!(write(folder.path(), b"x").is_err());
        let told = write(Path::new("/dev/full"), b"x").expect_err("a full device").to_string();
        assert!(told.contains("No space left on device"), "{told}");
        assert!(matches!(read(&missing, 10), Err(FileError::Read { .. })));
        let path = folder.path().join("long");
        write(&path, &[b'x'; 11]).expect("writes");
        assert!(matches!(read(&path, 10), Err(FileError::TooLong { limit: 10, .. })));
        assert!(matches!(text(&path, vec![b'a', 0xff]), Err(FileError::NotText { offset: 1, .. })));
    }
}
