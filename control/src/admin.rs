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
use serde_json::{Value, json};

pub use command::{Command, CommandError, Pair, ReloadOrder, TraceRequest};
pub use connection::Peer;
use connection::{Connection, Next};

/// Connections at once; one more is closed.
pub const CONNECTIONS_MAX: usize = 8;
/// Bytes of the longest request.
pub const LINE_LEN_MAX: usize = 4096;
/// Commands answered in one turn of the loop, so that an operator who asks without a pause does not hold it.
const COMMANDS_PER_TURN: usize = 8;
/// Milliseconds without a byte either way until a connection is closed.
const SILENCE_MAX_MS: u64 = 30_000;
/// Bytes that wait for a reader to whom more is told than it asked; further lines are not told.
const BACKLOG_LEN_MAX: usize = 1024 * 1024;
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
    /// Of the connection that was made last.
    serial: u64,
    /// Commands that may still be answered in this turn.
    left_in_turn: usize,
}

/// What became of a line for somebody who is told more than was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streamed {
    /// It will be written.
    Taken,
    /// Too much waits to be read.
    Full,
    /// Nobody is there any more.
    Gone,
}

/// A connection that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    index: usize,
    serial: u64,
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
            serial: 0,
            left_in_turn: COMMANDS_PER_TURN,
        })
    }

    /// Lets others open the socket.
    ///
    /// # Errors
    /// There is no such group, or the file has gone.
    pub fn set_access(&self, access: &Access) -> io::Result<()> {
        access.apply(&self.path)
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

    /// Accepts, and closes what has been silent for too long. To be called in every turn, before [`Admin::next`].
    pub fn turn(&mut self, now_ms: u64) {
        while self.listener_ready {
            match self.listener.accept() {
                Ok((stream, _)) => self.take(stream, now_ms),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.listener_ready = false,
            }
        }
        for index in 0..CONNECTIONS_MAX {
            let silent = |c: &Connection| !c.is_kept && now_ms.saturating_sub(c.active_ms) > SILENCE_MAX_MS;
            if self.connections[index].as_ref().is_some_and(silent) {
                self.close(index);
            }
        }
        self.left_in_turn = COMMANDS_PER_TURN;
    }

    /// The next command, who asks, and as whom; give the answer to [`Admin::answer`]. `None` where there is none in this
    /// turn.
    pub fn next(&mut self, now_ms: u64) -> Option<(Asker, Command, Peer)> {
        let mut index = 0;
        while index < CONNECTIONS_MAX {
            let Some(connection) = self.connections[index].as_mut().filter(|connection| connection.to_do) else {
                index += 1;
                continue;
            };
            if self.left_in_turn == 0 {
                return None;
            }
            match connection.next(now_ms) {
                Next::Wait => connection.to_do = false,
                Next::Close => self.close(index),
                Next::Line(line) => {
                    self.left_in_turn -= 1;
                    match Command::parse(&line) {
                        Ok(command) => {
                            let asker = Asker { index, serial: connection.serial };
                            return Some((asker, command, connection.peer));
                        }
                        Err(error) => connection.push(&json!({ "error": error.to_string() })),
                    }
                }
            }
        }
        None
    }

    /// Whether more is to be done in the next turn, without an event.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.connections.iter().flatten().any(|connection| connection.to_do)
    }

    /// Whether `asker` is still connected, and has not said that it ends.
    #[must_use]
    pub fn is_there(&self, asker: Asker) -> bool {
        self.of(asker).is_some_and(|connection| !connection.ended)
    }

    /// Lets `asker` be silent for as long as it likes, until [`Admin::release`]: more is told to it than asked.
    pub fn keep(&mut self, asker: Asker) {
        if let Some(connection) = self.of_mut(asker) {
            connection.is_kept = true;
        }
    }

    /// Ends what [`Admin::keep`] began.
    pub fn release(&mut self, asker: Asker) {
        if let Some(connection) = self.of_mut(asker) {
            connection.is_kept = false;
        }
    }

    /// Tells `asker` more, where it reads fast enough.
    pub fn stream(&mut self, asker: Asker, line: &Value) -> Streamed {
        match self.of_mut(asker) {
            None => Streamed::Gone,
            Some(connection) if connection.backlog() > BACKLOG_LEN_MAX => Streamed::Full,
            Some(connection) => {
                connection.push(line);
                Streamed::Taken
            }
        }
    }

    fn of(&self, asker: Asker) -> Option<&Connection> {
        self.connections[asker.index].as_ref().filter(|connection| connection.serial == asker.serial)
    }
    fn of_mut(&mut self, asker: Asker) -> Option<&mut Connection> {
        self.connections[asker.index].as_mut().filter(|connection| connection.serial == asker.serial)
    }

    /// Answers `asker`; one that has gone meanwhile gets nothing.
    pub fn answer(&mut self, asker: Asker, answer: &Value) {
        if let Some(connection) = self.of_mut(asker) {
            connection.push(answer);
        }
    }

    fn close(&mut self, index: usize) {
        if let Some(mut connection) = self.connections[index].take() {
            // The socket is closed just after; a failure to stop watching it changes nothing.
            let _ = self.registry.deregister(&mut connection.stream);
        }
    }

    fn take(&mut self, mut stream: UnixStream, now_ms: u64) {
        let Some(index) = self.connections.iter().position(Option::is_none) else { return };
        let token = Token(self.token_base + 1 + index);
        if self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            return;
        }
        self.serial += 1;
        // A peer that the kernel does not know is let go.
        self.connections[index] = Connection::new(stream, self.serial, now_ms).ok();
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
            admin.turn(0);
            while let Some((asker, command, peer)) = admin.next(0) {
                admin.answer(asker, &json!({ "command": command.name(), "peer": peer.to_string() }));
            }
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
