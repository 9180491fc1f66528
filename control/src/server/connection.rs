//! One connection: a socket, the session machine over it, and what it may still do.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;

use mio::net::TcpStream;
use vinet_session::identity::PublicKey;
use vinet_session::message::Reply;
use vinet_session::{Now, ServerEvent, SessionError};
use vinet_trusted::addr::Principal;

use super::{Desk, REQUESTS_PENDING_MAX, SessionId, SessionState, Shared, Stamp};
use crate::config::Limits;

/// Bytes read from one connection in one turn; the rest waits, so that one sender cannot hold the loop.
const READ_PER_TURN: usize = 64 * 1024;
const READ_LEN: usize = 16 * 1024;
/// Requests answered to one connection in one turn; small ones are many in the bytes of a turn.
const REQUESTS_PER_TURN: usize = 64;

/// Why a connection is closed.
#[derive(Debug)]
pub(super) enum End {
    /// The peer closed it, between two messages.
    Closed,
    /// A time limit ran out.
    Timeout(&'static str),
    /// The peer broke the protocol, was not let in, or its network failed.
    Fault(String),
    /// All sessions together kept too much, and its owner most.
    Crowded,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed => f.write_str("closed"),
            End::Timeout(what) => write!(f, "closed: {what}"),
            End::Fault(what) => write!(f, "closed: {what}"),
            End::Crowded => f.write_str("closed: the sessions keep too much, and its owner's most"),
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
    /// It has shown whose it is.
    pub(super) is_past_lobby: bool,
    /// It is not read further, because too many bytes wait for answers.
    pub(super) is_starved: bool,
    /// It stands in the server's queue of those.
    pub(super) in_starved: bool,
    /// What it keeps, as the server has counted it.
    pub(super) held_counted: usize,
    /// Requests that were read.
    pub(super) requests: u64,
    session: vinet_session::Server,
    /// Where it came in.
    interface: u16,
    /// Requests without an answer yet, and the bytes of each, by rising age as a rule.
    pending: VecDeque<(u32, u32)>,
    /// The sum of their bytes.
    pending_bytes: usize,
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
        id: SessionId,
        interface: u16,
        now: Now,
    ) -> Connection {
        // Replies are small and complete; a failure only costs a little latency.
        let _ = stream.set_nodelay(true);
        Connection {
            stream,
            site,
            generation: id.generation,
            readable: true,
            writable: true,
            to_do: false,
            is_past_lobby: false,
            is_starved: false,
            in_starved: false,
            held_counted: 0,
            requests: 0,
            session,
            interface,
            pending: VecDeque::new(),
            pending_bytes: 0,
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
            pending: self.pending.len(),
        }
    }

    /// The bytes of its requests that wait for their answers.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// What it keeps of input and output.
    pub(super) fn held(&self) -> usize {
        self.session.held_bytes()
    }

    /// On whose account it is kept: its owner, or while that is not known, where it comes from.
    pub(super) fn keeper(&self) -> (Option<Principal>, Option<IpAddr>) {
        match self.session.peer() {
            Some(owner) => (Some(owner.principal()), None),
            None => (None, Some(self.site)),
        }
    }

    pub(super) fn is_of(&self, key: &PublicKey) -> bool {
        self.session.peer().is_some_and(|owner| owner.key() == *key)
    }

    /// Who it is, for the log.
    pub(super) fn who(&self) -> String {
        match self.session.peer() {
            Some(owner) => format!("{} (from {})", owner.principal(), self.site),
            None => self.site.to_string(),
        }
    }

    /// Reads, answers and writes, a bounded amount; `Ok(true)` where there is more to do at once.
    pub(super) fn serve(
        &mut self,
        id: SessionId,
        desk: &mut impl Desk,
        shared: &mut Shared,
        now: Now,
    ) -> Result<bool, End> {
        let outcome = self.exchange(id, desk, shared, now);
        if outcome.is_err() {
            // The session may hold a last message that tells an honest peer why; whether it leaves changes nothing.
            let _ = self.write(now);
        }
        outcome
    }

    fn exchange(&mut self, id: SessionId, desk: &mut impl Desk, shared: &mut Shared, now: Now) -> Result<bool, End> {
        let mut buffer = [0u8; READ_LEN];
        let mut budget = READ_PER_TURN;
        let last = self.requests + REQUESTS_PER_TURN as u64;
        loop {
            self.answer(id, last, desk, shared, now)?;
            self.write(now)?;
            if self.requests >= last && !self.is_starved {
                return Ok(true);
            }
            if self.input_ended && self.pending.is_empty() && self.session.transmit().is_empty() {
                return self.session.end_of_input().map_or_else(|error| Err(error.into()), |()| Err(End::Closed));
            }
            let room = self.session.room().min(READ_LEN);
            let is_full = self.is_starved || self.pending.len() >= REQUESTS_PENDING_MAX;
            if !self.readable || self.input_ended || room == 0 || is_full {
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

    /// Whether too many bytes wait for answers for one more request of this session. Its own answers make room for it,
    /// or, where it has none to come, the others'.
    fn must_wait(&self, shared: &Shared) -> bool {
        let (all, own) = (shared.waiting_bytes, self.pending_bytes);
        if self.pending.is_empty() {
            return all >= shared.bounds.waiting;
        }
        all >= shared.bounds.waiting / 2 || own >= shared.bounds.waiting_per_session
    }

    /// Hands whole requests to the desk, until there were `last`.
    fn answer(
        &mut self,
        id: SessionId,
        last: u64,
        desk: &mut impl Desk,
        shared: &mut Shared,
        now: Now,
    ) -> Result<(), End> {
        self.is_starved = false;
        while self.pending.len() < REQUESTS_PENDING_MAX
            && self.requests < last
            && (!self.established() || self.session.can_reply())
        {
            if self.must_wait(shared) {
                self.is_starved = true;
                return Ok(());
            }
            match self.session.poll(now)? {
                None => return Ok(()),
                Some(ServerEvent::Established(_)) => self.active_ms = now.mono_ms,
                Some(ServerEvent::Request { id: request_id, request }) => {
                    self.active_ms = now.mono_ms;
                    self.requests += 1;
                    let bytes = self.session.request_bytes();
                    self.pending.push_back((request_id, u32::try_from(bytes).unwrap_or(u32::MAX)));
                    self.pending_bytes += bytes;
                    shared.waiting_bytes += bytes;
                    let Some(owner) = self.session.peer() else {
                        return Err(End::Fault("a request before the handshake was finished".to_owned()));
                    };
                    let stamp = Stamp { interface: self.interface, at_us: shared.stamp_us };
                    if let Some(reply) = desk.request(id, request_id, owner, request, stamp, now) {
                        self.reply(request_id, &reply, shared, now)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn reply(&mut self, request_id: u32, reply: &Reply, shared: &mut Shared, now: Now) -> Result<(), End> {
        let at = self.pending.iter().position(|(pending, _)| *pending == request_id);
        if let Some((_, bytes)) = at.and_then(|at| self.pending.remove(at)) {
            self.pending_bytes -= bytes as usize;
            shared.waiting_bytes -= bytes as usize;
        }
        if self.pending.is_empty() {
            // A session that awaits nothing keeps no queue.
            self.pending = VecDeque::new();
        }
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
        if self.pending.is_empty() && since(self.active_ms, limits.idle_timeout_s) {
            return Some(End::Timeout("no whole request came in time"));
        }
        if !self.pending.is_empty() {
            return None;
        }
        self.session.expired(now).map(|_| End::Timeout("a message was not finished in time"))
    }
}
