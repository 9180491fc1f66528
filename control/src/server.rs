//! The sessions of strangers, on the control core's event loop.
//!
//! A [`Server`] owns the listening sockets and every connection; the protocol itself is the sans-I/O session machine.
//! Everything that a stranger can hold is bounded: connections at once, connections without a finished handshake,
//! connections from one peer, the bytes and the requests of one connection in one turn, the requests that wait for
//! their answers, and the time for each step. What breaks a bound is closed and counted; the loop never waits.

mod connection;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ahash::AHashMap;
use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use vinet_session::Now;
use vinet_session::identity::{Authority, Identity, Ownership};
use vinet_session::message::{Reply, Request};

use crate::config::Limits;
use crate::log;
use connection::{Connection, End};

/// Connections accepted from one listener in one turn.
const ACCEPTED_PER_TURN: usize = 64;
/// Requests of one session that wait for their answers; more are not read until one is answered.
pub const REQUESTS_PENDING_MAX: usize = 16;

/// A session, for as long as it lasts: the slot is used again, the generation is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId {
    slot: usize,
    generation: u64,
}

/// Who answers requests.
pub trait Desk {
    /// Answers a request, or returns `None` and gives the answer to [`Server::reply`] later.
    fn request(&mut self, from: SessionId, id: u32, owner: &Ownership, request: Request, now: Now) -> Option<Reply>;
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

/// All listening sockets and all sessions.
pub struct Server {
    identity: Arc<Identity>,
    authority: Arc<Authority>,
    limits: Limits,
    registry: Registry,
    token_base: usize,
    listeners: Vec<Listener>,
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    generation: u64,
    /// Sessions without a finished handshake, oldest first.
    half_open: BTreeMap<u64, usize>,
    peers: AHashMap<IpAddr, usize>,
    /// Sessions with work left over from the last turn.
    leftover: VecDeque<SessionId>,
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
    pub fn new(
        identity: Arc<Identity>,
        authority: Arc<Authority>,
        limits: Limits,
        registry: Registry,
        token_base: usize,
    ) -> Server {
        Server {
            identity,
            authority,
            limits,
            registry,
            token_base,
            listeners: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            generation: 0,
            half_open: BTreeMap::new(),
            peers: AHashMap::new(),
            leftover: VecDeque::new(),
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
        self.half_open.len()
    }
    /// What strangers did.
    #[must_use]
    pub fn counters(&self) -> SessionCounters {
        self.counters
    }

    /// Every session, for the operator.
    pub fn sessions(&self) -> impl Iterator<Item = SessionState> {
        self.slots.iter().flatten().map(Connection::state)
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
        if let Some(connection) = self.find(id)
            && !std::mem::replace(&mut connection.to_do, true)
        {
            self.leftover.push_back(id);
        }
    }

    fn find(&mut self, id: SessionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.slot)?.as_mut().filter(|connection| connection.generation == id.generation)
    }

    /// Accepts, reads, answers and writes, a bounded amount. Returns whether there is more to do at once.
    pub fn turn(&mut self, desk: &mut impl Desk, now: Now) -> bool {
        for index in 0..self.listeners.len() {
            self.accept(index, now);
        }
        for _ in 0..self.leftover.len() {
            let Some(id) = self.leftover.pop_front() else { break };
            self.serve(id, desk, now);
        }
        !self.leftover.is_empty() || self.listeners.iter().any(|listener| listener.ready)
    }

    fn accept(&mut self, index: usize, now: Now) {
        for _ in 0..ACCEPTED_PER_TURN {
            if !self.listeners[index].ready {
                return;
            }
            match self.listeners[index].socket.accept() {
                Ok((stream, peer)) => self.admit(stream, peer, now),
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
    fn admit(&mut self, stream: mio::net::TcpStream, peer: SocketAddr, now: Now) {
        let site = site(peer.ip());
        if self.peers.get(&site).copied().unwrap_or(0) >= self.limits.sessions_per_peer {
            self.counters.refused_peer += 1;
            return;
        }
        let full = self.len() >= self.limits.sessions;
        if full || self.half_open.len() >= self.limits.half_open {
            // Who has finished a handshake has shown a certificate and stays; who has not gives way.
            let Some((_, oldest)) = self.half_open.pop_first() else {
                self.counters.refused_full += 1;
                return;
            };
            self.counters.evicted += 1;
            self.close(oldest);
        }
        self.generation += 1;
        let generation = self.generation;
        let Ok(session) = vinet_session::Server::new(Arc::clone(&self.identity), Arc::clone(&self.authority), now)
        else {
            self.counters.accept_errors += 1;
            return;
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let mut connection = Connection::new(stream, site, session, generation, now);
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
        self.half_open.insert(generation, slot);
        *self.peers.entry(site).or_default() += 1;
        self.enqueue(SessionId { slot, generation });
    }

    fn serve(&mut self, id: SessionId, desk: &mut impl Desk, now: Now) {
        let Some(connection) = self.slots.get_mut(id.slot).and_then(Option::as_mut) else { return };
        if connection.generation != id.generation {
            return;
        }
        connection.to_do = false;
        let was_established = connection.established();
        let requests_before = connection.requests;
        let end = connection.serve(id, desk, now);
        self.counters.requests += connection.requests - requests_before;
        if !was_established && connection.established() {
            self.counters.established += 1;
            self.half_open.remove(&id.generation);
        }
        match end {
            Ok(false) => {}
            Ok(true) => self.enqueue(id),
            Err(end) => self.finish(id.slot, &end),
        }
    }

    /// Counts and closes.
    fn finish(&mut self, slot: usize, end: &End) {
        match end {
            End::Closed => {}
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
        self.half_open.remove(&connection.generation);
        if let Some(count) = self.peers.get_mut(&connection.site) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&connection.site);
            }
        }
    }

    /// Answers a request that was left open. A session that has ended meanwhile gets nothing.
    pub fn reply(&mut self, to: SessionId, id: u32, reply: &Reply, now: Now) {
        let Some(connection) = self.find(to) else { return };
        match connection.reply(id, reply, now) {
            Ok(()) => self.enqueue(to),
            Err(end) => self.finish(to.slot, &end),
        }
    }

    /// Closes what ran out of time; call it a few times a second.
    pub fn tick(&mut self, now: Now) {
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
