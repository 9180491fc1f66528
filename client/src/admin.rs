//! The operator's way to a router: its admin socket, one JSON object a line each way.
//!
//! The answers come from whoever has bound the socket, so they are bounded in length and time, and what is shown of them
//! is stripped of control characters by who shows it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// Where the sockets of routers are, unless their configurations say otherwise.
pub const RUN_DIR: &str = "/run/vinet";
/// Bytes of the longest answer.
const ANSWER_LEN_MAX: u64 = 64 * 1024 * 1024;

/// A connection to a router's admin socket.
#[derive(Debug)]
pub struct Admin {
    path: PathBuf,
    reader: BufReader<UnixStream>,
    /// What has come of the next line.
    partial: Vec<u8>,
}

/// What came in time.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    /// A line.
    Line(Value),
    /// Nothing yet.
    Nothing,
    /// The end: the router has closed.
    End,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AdminError {
    /// No socket was named, and there is not exactly one to take.
    NoSocket {
        /// Where sockets were looked for.
        dir: PathBuf,
        /// How many there are.
        found: usize,
    },
    /// Nobody answers, or the socket is not to be opened.
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// What came is no answer.
    Malformed {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The router says no.
    Refused {
        /// In its words.
        what: String,
    },
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::NoSocket { dir, found: 0 } => write!(
                f,
                "{} has no admin socket, so no router seems to run here; name its socket with --socket PATH",
                dir.display()
            ),
            AdminError::NoSocket { dir, found } => {
                write!(f, "{} has {found} admin sockets; name the router's with --socket PATH", dir.display())
            }
            AdminError::Unreachable { path, reason } => write!(
                f,
                "no answer from {}: {reason}; is the router running, is this its [control] admin_socket, and are you in \
                 its admin_group?",
                path.display()
            ),
            AdminError::Malformed { path, what } => {
                write!(f, "{}: {what}; is this the admin socket of a vinetd of this version?", path.display())
            }
            AdminError::Refused { what } => f.write_str(what),
        }
    }
}
impl std::error::Error for AdminError {}

/// The socket in `dir` where there is exactly one.
///
/// # Errors
/// [`AdminError::NoSocket`]
pub fn only_socket(dir: &Path) -> Result<PathBuf, AdminError> {
    let paths = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut sockets: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "sock")).collect();
    match (sockets.pop(), sockets.len()) {
        (Some(socket), 0) => Ok(socket),
        (other, rest) => Err(AdminError::NoSocket { dir: dir.to_owned(), found: rest + usize::from(other.is_some()) }),
    }
}

impl Admin {
    /// Connects to the socket at `path`; an answer may take `limit`.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`]
    pub fn open(path: &Path, limit: Duration) -> Result<Admin, AdminError> {
        let unreachable = |reason| AdminError::Unreachable { path: path.to_owned(), reason };
        let stream = UnixStream::connect(path).map_err(unreachable)?;
        stream.set_read_timeout(Some(limit)).map_err(unreachable)?;
        stream.set_write_timeout(Some(limit)).map_err(unreachable)?;
        Ok(Admin { path: path.to_owned(), reader: BufReader::new(stream), partial: Vec::new() })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// [`AdminError`]; [`AdminError::Refused`] where the answer is a router's no.
    pub fn ask(&mut self, request: &Value) -> Result<Value, AdminError> {
        let sent = self.reader.get_mut().write_all(format!("{request}\n").as_bytes());
        sent.map_err(|reason| self.unreachable(reason))?;
        match self.line()? {
            Came::Line(value) => Ok(value),
            Came::Nothing => Err(self.unreachable(io::ErrorKind::TimedOut.into())),
            Came::End => Err(self.malformed("the connection was closed before the answer".to_owned())),
        }
    }

    /// Has [`Admin::line`] wait for so long.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`]
    pub fn wait_at_most(&mut self, limit: Duration) -> Result<(), AdminError> {
        self.reader.get_ref().set_read_timeout(Some(limit)).map_err(|reason| self.unreachable(reason))
    }

    /// Reads the next line of an answer that has several.
    ///
    /// # Errors
    /// As [`Admin::ask`].
    pub fn line(&mut self) -> Result<Came, AdminError> {
        let left = ANSWER_LEN_MAX - self.partial.len() as u64;
        match (&mut self.reader).take(left).read_until(b'\n', &mut self.partial) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(Came::Nothing);
            }
            Err(reason) => return Err(self.unreachable(reason)),
        }
        if self.partial.is_empty() {
            return Ok(Came::End);
        }
        let line = std::mem::take(&mut self.partial);
        let value: Value = serde_json::from_slice(&line).map_err(|error| self.malformed(error.to_string()))?;
        match value.get("error").and_then(Value::as_str) {
            Some(what) => Err(AdminError::Refused { what: what.to_owned() }),
            None => Ok(Came::Line(value)),
        }
    }

    fn unreachable(&self, reason: io::Error) -> AdminError {
        AdminError::Unreachable { path: self.path.clone(), reason }
    }

    fn malformed(&self, what: String) -> AdminError {
        AdminError::Malformed { path: self.path.clone(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::net::UnixListener;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A socket whose owner answers each line with the next of `answers`, and then closes.
    fn answering(dir: &Path, answers: &'static [&'static str]) -> PathBuf {
        let path = dir.join("edge1.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for answer in answers {
                lines.next().unwrap().unwrap();
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        });
        path
    }

    #[test]
    fn answers_are_objects_refusals_or_faults() {
        let dir = tempfile::tempdir().unwrap();
        let path = answering(dir.path(), &["{\"a\":1}\n", "{\"error\":\"not today\"}\n", "rubbish\n", "{\"cut"]);
        let mut admin = Admin::open(&path, LIMIT).unwrap();
        assert_eq!(admin.ask(&json!({})).unwrap()["a"], 1);
        assert!(matches!(admin.ask(&json!({})), Err(AdminError::Refused { what }) if what == "not today"));
        assert!(matches!(admin.ask(&json!({})), Err(AdminError::Malformed { .. })));
        assert!(matches!(admin.ask(&json!({})), Err(AdminError::Malformed { .. })));
        let error = Admin::open(&dir.path().join("absent.sock"), LIMIT).unwrap_err().to_string();
        assert!(error.contains("absent.sock: ") && error.contains("is the router running"), "{error}");
    }

    #[test]
    fn a_line_that_comes_in_parts_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = answering(dir.path(), &["{\"a\"", ":1}\n{\"b\":2}\n"]);
        let mut admin = Admin::open(&path, Duration::from_millis(50)).unwrap();
        assert!(matches!(admin.ask(&json!({})), Err(AdminError::Unreachable { .. })), "only a part has come");
        assert_eq!(admin.line().unwrap(), Came::Nothing);
        admin.wait_at_most(LIMIT).unwrap();
        assert_eq!(admin.ask(&json!({})).unwrap()["a"], 1);
        assert_eq!(admin.line().unwrap(), Came::Line(json!({ "b": 2 })));
        assert_eq!(admin.line().unwrap(), Came::End);
    }

    #[test]
    fn the_only_socket_is_taken_and_two_are_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(only_socket(&dir.path().join("absent")), Err(AdminError::NoSocket { found: 0, .. })));
        assert!(matches!(only_socket(dir.path()), Err(AdminError::NoSocket { found: 0, .. })));
        std::fs::write(dir.path().join("edge1.lock"), "").unwrap();
        std::fs::write(dir.path().join("edge1.sock"), "").unwrap();
        assert_eq!(only_socket(dir.path()).unwrap(), dir.path().join("edge1.sock"));
        std::fs::write(dir.path().join("edge2.sock"), "").unwrap();
        assert!(matches!(only_socket(dir.path()), Err(AdminError::NoSocket { found: 2, .. })));
    }
}
