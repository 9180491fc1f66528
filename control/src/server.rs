//! The sessions of strangers, on the control core's event loop.
//!
//! A [`Server`] owns the listening sockets and every connection; the protocol itself is the sans-I/O session machine.
//! Everything that a stranger can hold is bounded: connections at once, connections without a finished handshake,
//! connections from one peer, the bytes and the requests of one connection in one turn, the requests that wait for
//! their answers (their number for each session, their bytes for all together), what all sessions together keep of
//! input and output, and the time for each step. What breaks a bound is closed and counted; the loop never waits.
//!
//! Sessions whose owners are known are served in turn before anybody else; of the others, whose handshakes cost most of
//! what a stranger can cost, a few in each turn ([`lobby`]).

mod connection;
mod lobby;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ahash::AHashMap;
use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use vinet_session::identity::{Ownership, PublicKey};
use vinet_session::message::{Reply, Request};
use vinet_session::{Door, Now};

use crate::config::Limits;
use crate::log;
use connection::{Connection, End};
use lobby::Lobby;

/// Connections accepted from one listener in one turn: a quarter of what the kernel lets wait.
const ACCEPTED_PER_TURN: usize = 256;
/// Sessions without a finished handshake that are served in one turn: some two milliseconds of Diffie-Hellman.
const OPENED_PER_TURN: usize = 8;
/// Requests of one session that wait for their answers; more are not read until one is answered.
pub const REQUESTS_PENDING_MAX: usize = 1024;
/// The bytes of all requests that wait for their answers, of all sessions together, up to one request more. A session
/// with requests that wait has to stop at half of it, so that there is room for those who have none.
pub const WAITING_BYTES_MAX: usize = 64 << 20;
/// The bytes of the requests of one session that wait, up to one request more.
pub const WAITING_BYTES_PER_SESSION_MAX: usize = 8 << 20;
/// What all sessions together may keep of input, begun messages, and replies that nobody takes. Beyond it the largest
/// session of the owner that keeps most is closed.
pub const HELD_BYTES_MAX: usize = 64 << 20;

/// A session, for as long as it lasts: the slot is used again, the generation is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    slot: usize,
    generation: u64,
}

/// Where and when a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The listener, by its place in `[control] listen`.
    pub interface: u16,
    /// Microseconds on the clock of [`Now::mono_ms`]; never less than at a request before.
    pub at_us: u64,
}

/// Who answers requests.
pub trait Desk {
    /// Answers a request, or returns `None` and gives the answer to [`Server::reply`] later.
    fn request(
        &mut self,
        from: SessionId,
        id: u32,
        owner: &Ownership,
        request: Request,
        stamp: Stamp,
        now: Now,
    ) -> Option<Reply>;
}

/// Counters of what strangers did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SessionCounters {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections closed at once, because there were too many.
    pub refused_full: u64,
    /// Connections closed at once, because their peer had too many.
    pub refused_peer: u64,
    /// Unfinished handshakes that gave way to newer connections.
    pub evicted: u64,
    /// Handshakes that were finished.
    pub established: u64,
    /// Connections closed because a time limit ran out.
    pub timeouts: u64,
    /// Connections closed because their peer broke the protocol or was not let in.
    pub faults: u64,
    /// Requests that were read.
    pub requests: u64,
    /// Failures to accept a connection.
    pub accept_errors: u64,
    /// Sessions closed because all together kept too much.
    pub crowded: u64,
    /// Tickets that were given.
    pub tickets: u64,
    /// Sealed requests that were taken; they are among `requests`.
    pub sealed: u64,
    /// Sealed requests whose ticket does not stand, or that are not sealed under it.
    pub sealed_refused: u64,
    /// Sealed requests of another time.
    pub sealed_stale: u64,
    /// Sealed requests that were repeated.
    pub sealed_replayed: u64,
    /// Sealed requests that could not be remembered.
    pub sealed_full: u64,
    /// Sealed requests of revoked keys.
    pub sealed_revoked: u64,
}

/// One session, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SessionState {
    /// Where it comes from.
    pub peer: String,
    /// Whose it is, once the handshake is finished.
    pub principal: Option<String>,
    /// Requests that were read.
    pub requests: u64,
    /// Requests that wait for their answers.
    pub pending: usize,
}

/// A listening socket that cannot be had. The operator is at fault.
#[derive(Debug)]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// The system's reason.
    pub reason: io::Error,
}

impl std::fmt::Display for ListenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ListenError { address, reason } = self;
        write!(f, "cannot listen on {address}: {reason}; ")?;
        match reason.kind() {
            io::ErrorKind::AddrInUse => f.write_str("stop what listens there, or choose another [control] listen port"),
            io::ErrorKind::AddrNotAvailable => {
                f.write_str("[control] listen must name addresses of a [[port]] or of this machine")
            }
            _ => f.write_str("see [control] listen"),
        }
    }
}
impl std::error::Error for ListenError {}

struct Listener {
    socket: TcpListener,
    /// Connections may wait: edge-triggered readiness that is not used up yet.
    ready: bool,
}

/// What all sessions on one account keep, and the largest of them.
#[derive(Default)]
struct Keeper {
    bytes: usize,
    largest: usize,
    slot: usize,
}

/// How much all sessions together may take, in bytes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    waiting: usize,
    waiting_per_session: usize,
    held: usize,
}

const BOUNDS: Bounds =
    Bounds { waiting: WAITING_BYTES_MAX, waiting_per_session: WAITING_BYTES_PER_SESSION_MAX, held: HELD_BYTES_MAX };

/// What the sessions have in common while they are served.
#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    /// Bytes of the requests that wait for their answers.
    waiting_bytes: usize,
    /// When the requests that are read now came in, in microseconds.
    stamp_us: u64,
}

/// All listening sockets and all sessions.
pub struct Server {
    door: Arc<Door>,
    limits: Limits,
    registry: Registry,
    token_base: usize,
    listeners: Vec<Listener>,
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    generation: u64,
    lobby: Lobby,
    /// Sessions past the lobby with work left over from the last turn.
    leftover: VecDeque<SessionId>,
    /// Sessions that were not read further because too many bytes waited for answers.
    starved: VecDeque<SessionId>,
    shared: Shared,
    /// Bytes that sessions keep.
    held_bytes: usize,
    counters: SessionCounters,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("sessions", &self.len()).field("counters", &self.counters).finish()
    }
}

impl Server {
    /// A server without listeners. It uses the tokens from `token_base` on, without an end.
    #[must_use]
    pub fn new(door: Arc<Door>, limits: Limits, registry: Registry, token_base: usize) -> Server {
        Server {
            door,
            limits,
            registry,
            token_base,
            listeners: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            generation: 0,
            lobby: Lobby::new(),
            leftover: VecDeque::new(),
            starved: VecDeque::new(),
            shared: Shared { bounds: BOUNDS, waiting_bytes: 0, stamp_us: 0 },
            held_bytes: 0,
            counters: SessionCounters::default(),
        }
    }

    /// Has other bounds from now on; sessions above them last as long as they would.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Accepts sessions on `address`. All listeners must be added before the first session comes.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn listen(&mut self, address: SocketAddr) -> Result<SocketAddr, ListenError> {
        let failed = |reason| ListenError { address, reason };
        let mut socket = TcpListener::bind(address).map_err(failed)?;
        let token = Token(self.token_base + self.listeners.len());
        self.registry.register(&mut socket, token, Interest::READABLE).map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        self.listeners.push(Listener { socket, ready: true });
        Ok(local)
    }

    /// How many sessions there are, with those that have not finished their handshake.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many sessions have not finished their handshake.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.lobby.len()
    }
    /// What strangers did.
    #[must_use]
    pub fn counters(&self) -> SessionCounters {
        let sealed = self.door.counters();
        SessionCounters {
            tickets: sealed.tickets,
            sealed: sealed.taken,
            sealed_refused: sealed.refused,
            sealed_stale: sealed.stale,
            sealed_replayed: sealed.replayed,
            sealed_full: sealed.full,
            sealed_revoked: sealed.revoked,
            ..self.counters
        }
    }
    /// The bytes of the requests that wait for their answers.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.shared.waiting_bytes
    }
    /// The bytes that all sessions keep of input, begun messages and replies that were not taken.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Every session, for the operator.
    pub fn sessions(&self) -> impl Iterator<Item = SessionState> {
        self.slots.iter().flatten().map(|connection| connection.state())
    }

    /// Takes note of an event of the loop. The work itself is done by [`Server::turn`].
    pub fn event(&mut self, event: &mio::event::Event) {
        let Some(index) = event.token().0.checked_sub(self.token_base) else { return };
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.ready = true;
            return;
        }
        let slot = index - self.listeners.len();
        let Some(connection) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        // An error or a hang-up shows itself in the next read or write.
        connection.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        connection.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        let id = SessionId { slot, generation: connection.generation };
        self.enqueue(id);
    }

    fn enqueue(&mut self, id: SessionId) {
        let Some(connection) = self.find(id) else { return };
        if std::mem::replace(&mut connection.to_do, true) {
            return;
        }
        let (site, is_past) = (connection.site, connection.is_past_lobby);
        if is_past {
            self.leftover.push_back(id);
        } else {
            self.lobby.enqueue(site, id);
        }
    }

    fn find(&mut self, id: SessionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.slot)?.as_deref_mut().filter(|connection| connection.generation == id.generation)
    }

    /// Accepts, reads, answers and writes, a bounded amount. Returns whether there is more to do at once.
    pub fn turn(&mut self, desk: &mut impl Desk, now: Now) -> bool {
        let started = Instant::now();
        for index in 0..self.listeners.len() {
            self.accept(index, now);
        }
        if self.shared.waiting_bytes < self.shared.bounds.waiting / 2 {
            while let Some(id) = self.starved.pop_front() {
                if let Some(connection) = self.find(id) {
                    connection.in_starved = false;
                }
                self.enqueue(id);
            }
        }
        for _ in 0..self.leftover.len() {
            let Some(id) = self.leftover.pop_front() else { break };
            self.stamp(started, now);
            self.serve(id, desk, now);
        }
        for _ in 0..OPENED_PER_TURN {
            let Some(id) = self.lobby.next() else { break };
            self.stamp(started, now);
            self.serve(id, desk, now);
        }
        !self.leftover.is_empty() || self.lobby.has_work() || self.listeners.iter().any(|listener| listener.ready)
    }

    /// The time of what is read next. Milliseconds are cut off between turns and made up for, so that it never goes back.
    fn stamp(&mut self, started: Instant, now: Now) {
        let since_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let at_us = now.mono_ms.saturating_mul(1000).saturating_add(since_us);
        self.shared.stamp_us = self.shared.stamp_us.max(at_us);
    }

    fn accept(&mut self, index: usize, now: Now) {
        for _ in 0..ACCEPTED_PER_TURN {
            if !self.listeners[index].ready {
                return;
            }
            match self.listeners[index].socket.accept() {
                Ok((stream, peer)) => self.admit(stream, peer, index, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.listeners[index].ready = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The peer has gone, or descriptors are short: the tick tries again.
                    self.counters.accept_errors += 1;
                    log::stranger("session", format_args!("cannot accept a connection: {error}"));
                    self.listeners[index].ready = false;
                }
            }
        }
    }

    /// Takes a new connection in, or closes it by dropping it.
    fn admit(&mut self, stream: mio::net::TcpStream, peer: SocketAddr, listener: usize, now: Now) {
        let site = site(peer.ip());
        if self.lobby.sessions_of(site) >= self.limits.sessions_per_peer {
            self.counters.refused_peer += 1;
            return;
        }
        let full = self.len() >= self.limits.sessions;
        if full || self.lobby.len() >= self.limits.half_open {
            // Who has finished a handshake has shown a certificate and stays; who has not gives way.
            let Some(oldest) = self.lobby.who_gives_way() else {
                self.counters.refused_full += 1;
                return;
            };
            self.counters.evicted += 1;
            self.close(oldest);
        }
        self.generation += 1;
        let session = vinet_session::Server::at(Arc::clone(&self.door), now);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let id = SessionId { slot, generation: self.generation };
        // There are fewer listeners than the configuration may have addresses.
        let interface = u16::try_from(listener).unwrap_or(u16::MAX);
        let mut connection = Box::new(Connection::new(stream, site, session, id, interface, now));
        let token = Token(self.token_base + self.listeners.len() + slot);
        if let Err(error) =
            self.registry.register(&mut connection.stream, token, Interest::READABLE | Interest::WRITABLE)
        {
            self.counters.accept_errors += 1;
            self.free.push(slot);
            log::stranger("session", format_args!("cannot watch the connection from {peer}: {error}"));
            return;
        }
        self.counters.accepted += 1;
        self.slots[slot] = Some(connection);
        self.lobby.enter(site, id);
        self.enqueue(id);
    }

    fn serve(&mut self, id: SessionId, desk: &mut impl Desk, now: Now) {
        // Not `find`: what the sessions share is lent beside them.
        let Some(connection) = self.slots.get_mut(id.slot).and_then(Option::as_deref_mut) else { return };
        if connection.generation != id.generation {
            return;
        }
        connection.to_do = false;
        let requests_before = connection.requests;
        let end = connection.serve(id, desk, &mut self.shared, now);
        self.counters.requests += connection.requests - requests_before;
        if connection.established() && !std::mem::replace(&mut connection.is_past_lobby, true) {
            self.counters.established += 1;
            self.lobby.pass(connection.site, id);
        }
        let starves = connection.is_starved && matches!(end, Ok(false));
        let is_new = starves && !std::mem::replace(&mut connection.in_starved, true);
        self.recount(id);
        match end {
            Ok(false) if is_new => self.starved.push_back(id),
            Ok(false) => {}
            Ok(true) => self.enqueue(id),
            Err(end) => self.finish(id.slot, &end),
        }
        self.make_room();
    }

    /// Counts again what a session keeps.
    fn recount(&mut self, id: SessionId) {
        let Some(connection) = self.find(id) else { return };
        let held = connection.held();
        let before = std::mem::replace(&mut connection.held_counted, held);
        self.held_bytes = self.held_bytes + held - before;
    }

    /// Closes the largest session of who keeps most, until all together keep as little as they may.
    fn make_room(&mut self) {
        while self.held_bytes > self.shared.bounds.held {
            let mut keepers: AHashMap<_, Keeper> = AHashMap::new();
            for (slot, connection) in self.slots.iter().enumerate() {
                let Some(connection) = connection else { continue };
                let keeper = keepers.entry(connection.keeper()).or_default();
                keeper.bytes += connection.held_counted;
                if connection.held_counted >= keeper.largest {
                    (keeper.largest, keeper.slot) = (connection.held_counted, slot);
                }
            }
            let Some(Keeper { slot, .. }) = keepers.into_values().max_by_key(|keeper| keeper.bytes) else { return };
            self.counters.crowded += 1;
            self.finish(slot, &End::Crowded);
        }
    }

    /// Counts and closes.
    fn finish(&mut self, slot: usize, end: &End) {
        match end {
            End::Closed | End::Crowded => {}
            End::Timeout(_) => self.counters.timeouts += 1,
            End::Fault(_) => self.counters.faults += 1,
        }
        if let (Some(connection), true) = (&self.slots[slot], !matches!(end, End::Closed)) {
            log::stranger("session", format_args!("{}: {end}", connection.who()));
        }
        self.close(slot);
    }

    fn close(&mut self, slot: usize) {
        let Some(mut connection) = self.slots[slot].take() else { return };
        // The socket is closed just after; a failure to stop watching it changes nothing.
        let _ = self.registry.deregister(&mut connection.stream);
        self.free.push(slot);
        self.held_bytes -= connection.held_counted;
        // What its requests take where they wait is theirs who answer them; nobody waits for the answers any more.
        self.shared.waiting_bytes -= connection.waiting_bytes();
        self.lobby.leave(connection.site, SessionId { slot, generation: connection.generation });
    }

    /// Answers a request that was left open. A session that has ended meanwhile gets nothing.
    pub fn reply(&mut self, to: SessionId, id: u32, reply: &Reply, now: Now) {
        // Not `find`: what the sessions share is lent beside them.
        let Some(connection) = self.slots.get_mut(to.slot).and_then(Option::as_deref_mut) else { return };
        if connection.generation != to.generation {
            return;
        }
        let end = connection.reply(id, reply, &mut self.shared, now);
        self.recount(to);
        match end {
            Ok(()) => self.enqueue(to),
            Err(end) => self.finish(to.slot, &end),
        }
        self.make_room();
    }

    /// Closes every session of `key`.
    pub fn close_of(&mut self, key: &PublicKey) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|connection| connection.is_of(key)) {
                self.finish(slot, &End::Fault("the authority revoked the key".to_owned()));
            }
        }
    }

    /// Closes what ran out of time; call it a few times a second.
    pub fn tick(&mut self, now: Now) {
        self.door.tick(now);
        let limits = self.limits;
        for slot in 0..self.slots.len() {
            let Some(end) = self.slots[slot].as_mut().and_then(|connection| connection.overdue(&limits, now)) else {
                continue;
            };
            self.finish(slot, &end);
        }
        // After a failure to accept, connections wait without a new event.
        for listener in &mut self.listeners {
            listener.ready = true;
        }
    }
}

/// What counts as one peer: an IPv4 address, or the 64-bit prefix that one IPv6 host usually has to itself.
fn site(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
pub(crate) mod tests;
