//! The operator's socket: one JSON request a line, one JSON answer a line.
//!
//! A Unix socket: who may open the file may ask, which is root alone unless the configuration gives the file another
//! mode and a group. Who asks for a change is named in the log, as the kernel knows the peer. Connections, line lengths
//! and silence are bounded, as an operator's script can hang like anybody's.

mod command;
mod connection;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use nix::unistd::{Group, chown};
use serde_json::Value;

pub use command::{Command, CommandError, Pair};
use connection::Connection;
pub use connection::Peer;

/// Connections at once; one more is closed.
pub const CONNECTIONS_MAX: usize = 8;
/// Bytes of the longest request.
pub const LINE_LEN_MAX: usize = 4096;
/// Bytes of answers that wait for a slow reader; more closes the connection.
const BACKLOG_LEN_MAX: usize = 64 * 1024 * 1024;
/// Milliseconds without a byte either way until a connection is closed.
const SILENCE_MAX_MS: u64 = 30_000;
/// The longest that [`ask`] waits.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Who may open the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The file's mode.
    pub mode: u32,
    /// The file's group; absent leaves the daemon's.
    pub group: Option<String>,
}

impl Access {
    /// Gives the file at `path` this mode and group; the group first, so that nobody of another group is ever let in.
    ///
    /// # Errors
    /// There is no such group, or the file is not ours.
    fn apply(&self, path: &Path) -> io::Result<()> {
        if let Some(name) = &self.group {
            let missing = || io::Error::other(format!("there is no group `{name}` ([control] admin_group)"));
            let group = Group::from_name(name)?.ok_or_else(missing)?;
            chown(path, None, Some(group.gid))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(self.mode))
    }
}

/// The socket and its connections.
pub struct Admin {
    path: PathBuf,
    listener: UnixListener,
    listener_ready: bool,
    registry: Registry,
    token_base: usize,
    connections: [Option<Connection>; CONNECTIONS_MAX],
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("path", &self.path).finish()
    }
}

impl Admin {
    /// Makes the socket at `path`; a leftover of an earlier run is replaced. Uses [`CONNECTIONS_MAX`] + 1 tokens.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(path: &Path, access: &Access, registry: Registry, token_base: usize) -> io::Result<Admin> {
        // Made under another name and moved, so that under its own name it never has wider permissions.
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let mut listener = UnixListener::bind(&fresh)?;
        let placed = access.apply(&fresh).and_then(|()| fs::rename(&fresh, path));
        if let Err(error) = placed {
            let _ = fs::remove_file(&fresh);
            return Err(error);
        }
        registry.register(&mut listener, Token(token_base), Interest::READABLE)?;
        Ok(Admin {
            path: path.to_owned(),
            listener,
            listener_ready: true,
            registry,
            token_base,
            connections: Default::default(),
        })
    }

    /// Takes note of an event of the loop; `false` where the token is not the socket's.
    pub fn event(&mut self, token: Token) -> bool {
        match token.0.checked_sub(self.token_base) {
            Some(0) => self.listener_ready = true,
            Some(index) if index <= CONNECTIONS_MAX => {
                if let Some(connection) = &mut self.connections[index - 1] {
                    connection.to_do = true;
                }
            }
            _ => return false,
        }
        true
    }

    /// Accepts, reads, answers through `answer`, and writes.
    pub fn turn(&mut self, now_ms: u64, mut answer: impl FnMut(&Command, &Peer) -> Value) {
        while self.listener_ready {
            match self.listener.accept() {
                Ok((stream, _)) => self.take(stream, now_ms),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.listener_ready = false,
            }
        }
        for slot in &mut self.connections {
            let Some(connection) = slot else { continue };
            let silent = now_ms.saturating_sub(connection.active_ms) > SILENCE_MAX_MS;
            if silent || std::mem::take(&mut connection.to_do) && !connection.serve(now_ms, &mut answer) {
                // The socket is closed just after; a failure to stop watching it changes nothing.
                let _ = self.registry.deregister(&mut connection.stream);
                *slot = None;
            }
        }
    }

    fn take(&mut self, mut stream: UnixStream, now_ms: u64) {
        let Some(index) = self.connections.iter().position(Option::is_none) else { return };
        let token = Token(self.token_base + 1 + index);
        if self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            return;
        }
        // A peer that the kernel does not know is let go.
        self.connections[index] = Connection::new(stream, now_ms).ok();
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Asks the router behind the socket at `path`, as an operator's program does.
///
/// # Errors
/// Nobody answers, or not in JSON.
pub fn ask(path: &Path, command: &Command) -> io::Result<Value> {
    let mut stream = StdUnixStream::connect(path)?;
    stream.set_read_timeout(Some(ASK_TIMEOUT))?;
    stream.set_write_timeout(Some(ASK_TIMEOUT))?;
    stream.write_all(format!("{}\n", command.to_json()).as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::os::unix::fs::MetadataExt;

    fn open(path: &Path, poll: &Poll, mode: u32) -> Admin {
        let access = Access { mode, group: None };
        Admin::open(path, &access, poll.registry().try_clone().unwrap(), 10).unwrap()
    }

    #[test]
    fn the_file_has_the_mode_and_the_group_of_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge1.sock");
        let poll = Poll::new().unwrap();
        drop(open(&path, &poll, 0o660));
        let own = Group::from_gid(nix::unistd::getgid()).unwrap().unwrap();
        let access = Access { mode: 0o660, group: Some(own.name) };
        let admin = Admin::open(&path, &access, poll.registry().try_clone().unwrap(), 10).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o777, metadata.gid()), (0o660, own.gid.as_raw()));
        drop(admin);
        let access = Access { mode: 0o660, group: Some("no such group".into()) };
        let error = Admin::open(&path, &access, poll.registry().try_clone().unwrap(), 10).unwrap_err();
        assert!(error.to_string().contains("there is no group `no such group`"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn an_operator_gets_an_answer_for_each_line_and_rubbish_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge1.sock");
        let mut poll = Poll::new().unwrap();
        let mut admin = open(&path, &poll, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let asked = path.clone();
        let operator = std::thread::spawn(move || {
            let good = ask(&asked, &Command::Counters).unwrap();
            let mut stream = StdUnixStream::connect(&asked).unwrap();
            stream.write_all(b"{\"cmd\":\"explode\"}\nrubbish\n").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            let mut endless = StdUnixStream::connect(&asked).unwrap();
            // Closed by the other end at some point, which the writer sees as an error or the reader as an end.
            let _ = endless.write_all(&[b'x'; 3 * LINE_LEN_MAX]);
            let closed = endless.read(&mut [0]).map_or(true, |len| len == 0);
            (good, text, closed)
        });
        let mut events = Events::with_capacity(16);
        while !operator.is_finished() {
            poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap();
            for event in &events {
                assert!(admin.event(event.token()));
            }
            admin.turn(0, |command, peer| serde_json::json!({ "command": command.name(), "peer": peer.to_string() }));
        }
        let (good, text, closed) = operator.join().unwrap();
        assert_eq!(good["command"], "counters");
        let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
        assert_eq!(good["peer"], format!("user {uid}, group {gid}, process {}", std::process::id()));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("unknown command `explode`; there are: counters"), "{text}");
        assert!(lines[1].contains("error"), "{text}");
        assert!(closed);
        drop(admin);
        assert!(!path.exists());
    }
}
