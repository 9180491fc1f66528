//! The door for local applications: JSON lines over TCP on the loopback address.
//!
//! The first line of a connection has to be `{"token": …}` with the token of the file `vfirewall.json`, which only the
//! user of the daemon can read; so a connection that is answered is that user's. Every further line is a request, and has
//! one line of answer; after `{"ask": "watch"}` the daemon writes a line for everything that happens.

use super::super::answer::{self, Failure, Outcome};
use super::super::session::{no_state, state_dir};
use super::Job;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;
use vinet_client::file;
use vinet_client::lang::source_map::hex;
use vinet_session::message::fresh_nonce;

/// The most connections at once.
pub(in super::super) const CONNECTIONS_MAX: usize = 32;
/// The most bytes of a line.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// How long the first line may take.
const TOKEN_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may be silent.
const IDLE_TIME_MAX: Duration = Duration::from_secs(600);
/// How long the keeper may take for an answer: as long as the longest --timeout, and what waits before.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2 * 3600);
const FILE: &str = "vfirewall.json";

/// The open door.
pub(super) struct Door {
    /// Its port on the loopback address.
    pub(super) port: u16,
    /// The file with the port and the token.
    pub(super) path: PathBuf,
}

impl Door {
    /// Listens, and writes the port and a new token to a file in `dir`, mode 0600.
    pub(super) fn open(dir: &Path, port: u16, jobs: SyncSender<Job>) -> Result<Door, Failure> {
        let failed = |error: std::io::Error| {
            Failure::Unusable(format!(
                "cannot listen on 127.0.0.1 port {port}: {error} (is another vfirewall running?)"
            ))
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let token = hex(&[fresh_nonce()?, fresh_nonce()?].concat());
        let path = dir.join(FILE);
        write_secret(&path, &format!("{}\n", json!({ "port": port, "token": token })))?;
        std::thread::spawn(move || accept(&listener, &token, &jobs));
        Ok(Door { port, path })
    }
}

/// Writes `text` so that from its first byte on nobody else can read it.
fn write_secret(path: &Path, text: &str) -> Outcome {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| Failure::Unusable(format!("cannot write {}: {error}", path.display())))
}

fn accept(listener: &TcpListener, token: &str, jobs: &SyncSender<Job>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming().flatten() {
        // One thread counts up, so the limit holds; the others only count down.
        if open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (token, jobs, open) = (token.to_owned(), jobs.clone(), Arc::clone(&open));
        std::thread::spawn(move || {
            // An application that goes away or breaks the rules ends its own connection only.
            let _ = serve(stream, &token, &jobs);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// A line as JSON; none at the end, or where it is longer than any.
fn line(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Value>> {
    let mut bytes = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
    if bytes.last() != Some(&b'\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
}

fn serve(stream: TcpStream, token: &str, jobs: &SyncSender<Job>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TOKEN_TIME_MAX))?;
    stream.set_write_timeout(Some(TOKEN_TIME_MAX))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut say = |answer: &Value| writeln!(writer, "{answer}");
    let first = line(&mut reader)?;
    if !first.as_ref().and_then(|first| first["token"].as_str()).is_some_and(|given| same(given, token)) {
        return say(
            &json!({ "ok": false, "code": "token", "text": format!("the first line has to be the token of {FILE}") }),
        );
    }
    reader.get_ref().set_read_timeout(Some(IDLE_TIME_MAX))?;
    while let Some(request) = line(&mut reader)? {
        if request["ask"] == "watch" {
            let (told, lines) = sync_channel(super::WATCH_LINES_MAX);
            if jobs.send(Job::Watch(told)).is_err() {
                return Ok(());
            }
            // The first line is the keeper's: from it on, everything is told.
            return lines.iter().try_for_each(|line| match line {
                // A question of the keeper whether anybody still listens.
                Value::Null if has_gone(reader.get_ref()) => Err(std::io::ErrorKind::BrokenPipe.into()),
                Value::Null => Ok(()),
                line => say(&line),
            });
        }
        let (reply, answer) = sync_channel(1);
        if jobs.send(Job::Ask(request, reply)).is_err() {
            return Ok(());
        }
        let Ok(answer) = answer.recv_timeout(ANSWER_TIME_MAX) else { return Ok(()) };
        say(&answer)?;
    }
    Ok(())
}

/// Whether the other end has closed the connection.
fn has_gone(stream: &TcpStream) -> bool {
    let patience = stream.set_read_timeout(Some(Duration::from_millis(1)));
    patience.is_err() || matches!(stream.peek(&mut [0]), Ok(0))
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(given: &str, token: &str) -> bool {
    given.len() == token.len() && given.bytes().zip(token.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

/// `vinet watch` without a router: prints what the local vfirewall tells, `count` lines of it.
pub(in super::super) fn listen(count: Option<u64>, json: bool) -> Outcome {
    let path = state_dir().ok_or_else(no_state)?.join(FILE);
    if !path.exists() {
        let remedy = "start `vinet vfirewall`, or name a router with --router";
        return Err(Failure::Unusable(format!("{}: no vfirewall has been started here; {remedy}", path.display())));
    }
    let door: Value = serde_json::from_slice(&file::read(&path, LINE_BYTES_MAX)?)
        .map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))?;
    let port = door["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let lost = |error: std::io::Error| Failure::Unusable(format!("no vfirewall answers at {addr}: {error}"));
    let mut stream = TcpStream::connect(addr).map_err(lost)?;
    let hello = format!("{}\n{}\n", json!({ "token": door["token"] }), json!({ "ask": "watch" }));
    stream.write_all(hello.as_bytes()).map_err(lost)?;
    let mut lines = BufReader::new(stream);
    let mut left = count;
    let mut greeted = false;
    while left != Some(0) {
        let Some(told) = line(&mut lines).map_err(lost)? else {
            return Err(Failure::Unusable("the vfirewall has ended".to_string()));
        };
        if !greeted {
            if told["ok"] != true {
                let why = told["text"].as_str().unwrap_or("no reason was given").to_owned();
                return Err(Failure::Unusable(format!("the vfirewall at {addr} refuses: {why}")));
            }
            greeted = true;
            continue;
        }
        if json {
            answer::print_json(&told)?;
        } else {
            let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
            let program = told["instance"].as_u64().map_or(String::new(), |number| format!("program {number}: "));
            answer::print(&format_args!("{} {}: {program}{}", told["at_s"], text("router"), text("text")))?;
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}
