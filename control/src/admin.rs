//! The operator's socket: one JSON request a line, one JSON answer a line.
//!
//! A Unix socket with mode 0600: who may open the file may ask. The requests only read. Connections, line lengths and
//! silence are bounded, as an operator's script can hang like anybody's.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// What an operator can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// All counters of the fast path, with the conservation equation.
    Counters,
    /// The installed programs.
    Programs,
    /// Routes and neighbours in force.
    Fib,
    /// Ports with their links and the devices' own counters.
    Ports,
    /// Sessions, admission and capacity.
    Sessions,
}

impl Command {
    /// All of them.
    pub const ALL: [Command; 5] =
        [Command::Counters, Command::Programs, Command::Fib, Command::Ports, Command::Sessions];

    /// Its name in requests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Command::Counters => "counters",
            Command::Programs => "programs",
            Command::Fib => "fib",
            Command::Ports => "ports",
            Command::Sessions => "sessions",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    cmd: String,
}

struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    active_ms: u64,
    to_do: bool,
    ended: bool,
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
    pub fn open(path: &Path, registry: Registry, token_base: usize) -> io::Result<Admin> {
        // Made under another name and moved, so that under its own name it never has wider permissions.
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let mut listener = UnixListener::bind(&fresh)?;
        let placed =
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).and_then(|()| fs::rename(&fresh, path));
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
    pub fn turn(&mut self, now_ms: u64, mut answer: impl FnMut(Command) -> Value) {
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
        self.connections[index] = Some(Connection {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            active_ms: now_ms,
            to_do: true,
            ended: false,
        });
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Connection {
    /// `false` where it is to be closed.
    fn serve(&mut self, now_ms: u64, answer: &mut impl FnMut(Command) -> Value) -> bool {
        let mut buffer = [0u8; LINE_LEN_MAX];
        loop {
            if !self.write(now_ms) {
                return false;
            }
            if self.written < self.output.len() {
                return true;
            }
            if self.ended {
                return false;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(len) => {
                    self.active_ms = now_ms;
                    self.input.extend_from_slice(&buffer[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            }
            while let Some(end) = self.input.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let reply = reply(&line, answer);
                self.output.extend_from_slice(reply.to_string().as_bytes());
                self.output.push(b'\n');
                if self.output.len() > BACKLOG_LEN_MAX {
                    return false;
                }
            }
            if self.input.len() > LINE_LEN_MAX {
                return false;
            }
        }
    }

    fn write(&mut self, now_ms: u64) -> bool {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return false,
                Ok(len) => {
                    self.written += len;
                    self.active_ms = now_ms;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.output.clear();
        self.written = 0;
        true
    }
}

/// The answer to one line.
fn reply(line: &[u8], answer: &mut impl FnMut(Command) -> Value) -> Value {
    let known = || Command::ALL.map(Command::name).join(", ");
    match serde_json::from_slice::<Request>(line) {
        Err(error) => {
            serde_json::json!({ "error": format!("expected {{\"cmd\":\"…\"}} with one of {}: {error}", known()) })
        }
        Ok(request) => match Command::ALL.into_iter().find(|command| command.name() == request.cmd) {
            Some(command) => answer(command),
            None => {
                serde_json::json!({ "error": format!("unknown command `{}`; there are: {}", request.cmd, known()) })
            }
        },
    }
}

/// Asks the router behind the socket at `path`, as an operator's program does.
///
/// # Errors
/// Nobody answers, or not in JSON.
pub fn ask(path: &Path, command: Command) -> io::Result<Value> {
    let mut stream = StdUnixStream::connect(path)?;
    stream.set_read_timeout(Some(ASK_TIMEOUT))?;
    stream.set_write_timeout(Some(ASK_TIMEOUT))?;
    stream.write_all(format!("{{\"cmd\":\"{}\"}}\n", command.name()).as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};

    #[test]
    fn an_operator_gets_an_answer_for_each_line_and_rubbish_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge1.sock");
        let mut poll = Poll::new().unwrap();
        let mut admin = Admin::open(&path, poll.registry().try_clone().unwrap(), 10).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let asked = path.clone();
        let operator = std::thread::spawn(move || {
            let good = ask(&asked, Command::Counters).unwrap();
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
            admin.turn(0, |command| serde_json::json!({ "command": command.name() }));
        }
        let (good, text, closed) = operator.join().unwrap();
        assert_eq!(good["command"], "counters");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("unknown command `explode`; there are: counters"), "{text}");
        assert!(lines[1].contains("error"), "{text}");
        assert!(closed);
        drop(admin);
        assert!(!path.exists());
    }
}
