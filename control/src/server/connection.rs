//! One connection: a socket, the session machine over it, and what it may still do.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;

use mio::net::TcpStream;
use vinet_session::message::Reply;
use vinet_session::{Now, ServerEvent, SessionError};

use super::{Desk, REQUESTS_PENDING_MAX, SessionId, SessionState};
use crate::config::Limits;

/// Bytes read from one connection in one turn; the rest waits, so that one sender cannot hold the loop.
const READ_PER_TURN: usize = 64 * 1024;
const READ_LEN: usize = 16 * 1024;

/// Why a connection is closed.
#[derive(Debug)]
pub(super) enum End {
    /// The peer closed it, between two messages.
    Closed,
    /// A time limit ran out.
    Timeout(&'static str),
    /// The peer broke the protocol, was not let in, or its network failed.
    Fault(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed => f.write_str("closed"),
            End::Timeout(what) => write!(f, "closed: {what}"),
            End::Fault(what) => write!(f, "closed: {what}"),
        }
    }
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> End {
        End::Fault(error.to_string())
    }
}

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) site: IpAddr,
    pub(super) generation: u64,
    /// The socket may have bytes: edge-triggered readiness that is not used up yet.
    pub(super) readable: bool,
    /// The socket may have room.
    pub(super) writable: bool,
    /// It stands in the server's queue.
    pub(super) to_do: bool,
    /// Requests that were read.
    pub(super) requests: u64,
    session: vinet_session::Server,
    /// Requests without an answer yet.
    pending: usize,
    /// The peer sends no more; what it asked is still answered.
    input_ended: bool,
    opened_ms: u64,
    /// When the last whole request came, or the last answer left: trickled bytes do not count.
    active_ms: u64,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        site: IpAddr,
        session: vinet_session::Server,
        generation: u64,
        now: Now,
    ) -> Connection {
        // Replies are small and complete; a failure only costs a little latency.
        let _ = stream.set_nodelay(true);
        Connection {
            stream,
            site,
            generation,
            readable: true,
            writable: true,
            to_do: false,
            requests: 0,
            session,
            pending: 0,
            input_ended: false,
            opened_ms: now.mono_ms,
            active_ms: now.mono_ms,
        }
    }

    pub(super) fn established(&self) -> bool {
        self.session.is_established()
    }

    pub(super) fn state(&self) -> SessionState {
        SessionState {
            peer: self.site.to_string(),
            principal: self.session.peer().map(|owner| owner.principal().to_string()),
            requests: self.requests,
            pending: self.pending,
        }
    }

    /// Who it is, for the log.
    pub(super) fn who(&self) -> String {
        match self.session.peer() {
            Some(owner) => format!("{} (from {})", owner.principal(), self.site),
            None => self.site.to_string(),
        }
    }

    /// Reads, answers and writes, a bounded amount; `Ok(true)` where there is more to do at once.
    pub(super) fn serve(&mut self, id: SessionId, desk: &mut impl Desk, now: Now) -> Result<bool, End> {
        let outcome = self.exchange(id, desk, now);
        if outcome.is_err() {
            // The session may hold a last message that tells an honest peer why; whether it leaves changes nothing.
            let _ = self.write(now);
        }
        outcome
    }

    fn exchange(&mut self, id: SessionId, desk: &mut impl Desk, now: Now) -> Result<bool, End> {
        let mut buffer = [0u8; READ_LEN];
        let mut budget = READ_PER_TURN;
        loop {
            self.answer(id, desk, now)?;
            self.write(now)?;
            if self.input_ended && self.pending == 0 && self.session.transmit().is_empty() {
                return self.session.end_of_input().map_or_else(|error| Err(error.into()), |()| Err(End::Closed));
            }
            let room = self.session.room().min(READ_LEN);
            if !self.readable || self.input_ended || room == 0 || self.pending >= REQUESTS_PENDING_MAX {
                return Ok(false);
            }
            if budget < room {
                return Ok(true);
            }
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => self.input_ended = true,
                Ok(len) => {
                    budget -= len;
                    self.session.receive(&buffer[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(End::Fault(error.to_string())),
            }
        }
    }

    /// Hands whole requests to the desk.
    fn answer(&mut self, id: SessionId, desk: &mut impl Desk, now: Now) -> Result<(), End> {
        while self.pending < REQUESTS_PENDING_MAX && (!self.established() || self.session.can_reply()) {
            match self.session.poll(now)? {
                None => return Ok(()),
                Some(ServerEvent::Established(_)) => self.active_ms = now.mono_ms,
                Some(ServerEvent::Request { id: request_id, request }) => {
                    self.active_ms = now.mono_ms;
                    self.requests += 1;
                    self.pending += 1;
                    let Some(owner) = self.session.peer() else {
                        return Err(End::Fault("a request before the handshake was finished".to_owned()));
                    };
                    if let Some(reply) = desk.request(id, request_id, owner, request, now) {
                        self.reply(request_id, &reply, now)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn reply(&mut self, request_id: u32, reply: &Reply, now: Now) -> Result<(), End> {
        self.pending = self.pending.saturating_sub(1);
        self.active_ms = now.mono_ms;
        Ok(self.session.reply(request_id, reply, now)?)
    }

    fn write(&mut self, now: Now) -> Result<(), End> {
        while self.writable && !self.session.transmit().is_empty() {
            match self.stream.write(self.session.transmit()) {
                Ok(0) => return Err(End::Fault("the connection takes no more bytes".to_owned())),
                Ok(len) => {
                    self.session.transmitted(len);
                    if self.session.is_established() && self.session.transmit().is_empty() {
                        self.active_ms = now.mono_ms;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(End::Fault(error.to_string())),
            }
        }
        Ok(())
    }

    /// Whether a time limit has run out.
    pub(super) fn overdue(&mut self, limits: &Limits, now: Now) -> Option<End> {
        let since = |start_ms: u64, limit_s: u32| now.mono_ms.saturating_sub(start_ms) > u64::from(limit_s) * 1_000;
        if !self.established() {
            let late = since(self.opened_ms, limits.handshake_timeout_s);
            return late.then_some(End::Timeout("the handshake was not finished in time"));
        }
        // A request that the judges have is our delay, not the client's.
        if self.pending == 0 && since(self.active_ms, limits.idle_timeout_s) {
            return Some(End::Timeout("no whole request came in time"));
        }
        if self.pending > 0 {
            return None;
        }
        self.session.expired(now).map(|_| End::Timeout("a message was not finished in time"))
    }
}
