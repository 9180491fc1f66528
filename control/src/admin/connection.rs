//! One operator's connection: lines in, lines out, within bounds.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};

use mio::net::UnixStream;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use serde_json::Value;

use super::LINE_LEN_MAX;

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

/// What a connection wants.
pub(super) enum Next {
    /// An answer to this line.
    Line(Vec<u8>),
    /// To be let alone until the next event.
    Wait,
    /// To be closed.
    Close,
}

pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) peer: Peer,
    /// Never used twice.
    pub(super) serial: u64,
    input: VecDeque<u8>,
    output: Vec<u8>,
    written: usize,
    pub(super) active_ms: u64,
    pub(super) to_do: bool,
    pub(super) ended: bool,
    /// Whether it may be silent for long.
    pub(super) is_kept: bool,
}

impl Connection {
    /// # Errors
    /// The kernel does not say who the peer is.
    pub(super) fn new(stream: UnixStream, serial: u64, now_ms: u64) -> io::Result<Connection> {
        let peer = getsockopt(&stream, PeerCredentials)?;
        Ok(Connection {
            peer: Peer { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() },
            stream,
            serial,
            input: VecDeque::new(),
            output: Vec::new(),
            written: 0,
            active_ms: now_ms,
            to_do: true,
            ended: false,
            is_kept: false,
        })
    }

    /// Writes what waits, then looks for the next line: so there is never more than one answer in memory.
    pub(super) fn next(&mut self, now_ms: u64) -> Next {
        let mut buffer = [0u8; LINE_LEN_MAX];
        loop {
            if !self.write(now_ms) {
                return Next::Close;
            }
            if self.written < self.output.len() {
                return Next::Wait;
            }
            if let Some(end) = self.input.iter().position(|&b| b == b'\n') {
                return Next::Line(self.input.drain(..=end).collect());
            }
            if self.ended || self.input.len() > LINE_LEN_MAX {
                return Next::Close;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(len) => {
                    self.active_ms = now_ms;
                    self.input.extend(&buffer[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Wait,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Next::Close,
            }
        }
    }

    /// Bytes that wait to be written.
    pub(super) fn backlog(&self) -> usize {
        self.output.len() - self.written
    }

    /// Puts an answer behind what waits; it is written when the connection is looked at next.
    pub(super) fn push(&mut self, answer: &Value) {
        // What is written already is not kept until all is.
        self.output.drain(..self.written);
        self.written = 0;
        self.output.extend_from_slice(answer.to_string().as_bytes());
        self.output.push(b'\n');
        self.to_do = true;
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
