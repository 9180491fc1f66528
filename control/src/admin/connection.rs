//! One operator's connection: lines in, lines out, within bounds.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};

use mio::net::UnixStream;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use serde_json::{Value, json};

use super::command::Command;
use super::{BACKLOG_LEN_MAX, LINE_LEN_MAX};

/// Who is at the other end, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The process.
    pub pid: i32,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}, group {}, process {}", self.uid, self.gid, self.pid)
    }
}

pub(super) struct Connection {
    pub(super) stream: UnixStream,
    peer: Peer,
    input: VecDeque<u8>,
    output: Vec<u8>,
    written: usize,
    pub(super) active_ms: u64,
    pub(super) to_do: bool,
    ended: bool,
}

impl Connection {
    /// # Errors
    /// The kernel does not say who the peer is.
    pub(super) fn new(stream: UnixStream, now_ms: u64) -> io::Result<Connection> {
        let peer = getsockopt(&stream, PeerCredentials)?;
        Ok(Connection {
            peer: Peer { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() },
            stream,
            input: VecDeque::new(),
            output: Vec::new(),
            written: 0,
            active_ms: now_ms,
            to_do: true,
            ended: false,
        })
    }

    /// Reads, answers and writes; `false` where the connection is to be closed.
    pub(super) fn serve(&mut self, now_ms: u64, answer: &mut impl FnMut(&Command, &Peer) -> Value) -> bool {
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
                    self.input.extend(&buffer[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            }
            while let Some(end) = self.input.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let reply = match Command::parse(&line) {
                    Ok(command) => answer(&command, &self.peer),
                    Err(error) => json!({ "error": error.to_string() }),
                };
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
