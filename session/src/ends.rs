//! The two ends of a session: what a caller drives.
//!
//! A caller reads at most [`Client::room`] bytes from its socket, hands them to `receive`, calls `poll` until it gives
//! `None`, and writes what `transmit` shows. Whatever the bytes are, an end keeps at most one buffer of input, one
//! message and a bounded backlog of output; before the handshake is over, two kilobytes. After an error it does nothing
//! more; `transmit` may still hold a last message that tells an honest peer why, and then the connection is to be closed.
//!
//! An end of input between two messages cannot be told from an attacker's: TCP's end is not authenticated. Every
//! request has a reply, so a client that misses one knows it.

use crate::certificate::Certificate;
use crate::door::Door;
use crate::error::SessionError;
use crate::frame::{Input, LENGTH_BYTES, SEALED_BYTES_MAX, SEALED_BYTES_MIN, Transport, push_frame};
use crate::handshake::{HELLO_BYTES, Handshake, Peer, Progress};
use crate::identity::{Authority, Identity, Ownership, PublicKey, RouterPeer};
use crate::limits::{
    BACKLOG_BYTES_MAX, HANDSHAKE_BYTES_MAX, HANDSHAKE_TIME_MAX_MS, IDLE_TIME_MAX_MS, MESSAGE_BYTES_MAX,
    MESSAGE_TIME_MAX_MS, STALL_TIME_MAX_MS,
};
use crate::message::{self, Rejection, Reply, Request};
use crate::sealed::{Arrived, ClientLane, REQUEST_BYTES_MAX, REQUEST_BYTES_MIN, ServerLane};
use crate::ticket::{Ticket, TicketGrant};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The time, as a caller passes it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Unix seconds, for certificates and expiries.
    pub wall_s: u64,
    /// Milliseconds that never go back, for time limits.
    pub mono_ms: u64,
}

impl Now {
    /// The time of the machine; the milliseconds count from `origin`. The only reader of clocks in this crate, for
    /// callers to use.
    #[must_use]
    pub fn read(origin: Instant) -> Now {
        Now {
            wall_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            mono_ms: u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The most bytes of input that wait to be looked at after the handshake.
const INPUT_BYTES_MAX: usize = 2 * (LENGTH_BYTES + SEALED_BYTES_MAX);
/// The identifier of a rejection that is about the session, not about a request.
const SESSION_ID: u32 = 0;

enum State {
    /// A router that has not heard anything. Nothing is drawn or computed before a first frame is there.
    Awaiting(Arc<Door>),
    Handshake(Handshake),
    Established(Transport),
    /// A connection on which sealed requests come.
    Serving(Box<ServerLane>),
    /// A connection on which they are made.
    Asking(Box<ClientLane>),
    Over(SessionError),
}

impl State {
    /// Whether the other end has not shown yet that it may take time and memory here.
    fn is_opening(&self) -> bool {
        match self {
            State::Awaiting(_) | State::Handshake(_) => true,
            State::Serving(lane) => !lane.is_authentic(),
            State::Established(_) | State::Asking(_) | State::Over(_) => false,
        }
    }
    fn is_inside_message(&self) -> bool {
        match self {
            State::Established(transport) => transport.is_inside_message(),
            State::Serving(lane) => lane.is_inside_message(),
            State::Asking(lane) => lane.is_inside_message(),
            State::Awaiting(_) | State::Handshake(_) | State::Over(_) => false,
        }
    }
}

enum CoreEvent {
    Established(Peer),
    Message(Vec<u8>),
    Sealed(Arrived),
}

/// What both ends have in common.
struct Core {
    state: State,
    input: Input,
    output: Vec<u8>,
    output_start: usize,
    /// Whether the caller has taken bytes since the clock was last shown.
    taken: bool,
    /// Since when the peer has taken nothing of what waits for it.
    stalled_ms: Option<u64>,
    /// Since when a message or frame has been incomplete.
    begun_ms: Option<u64>,
    started_ms: u64,
    /// When something whole was last received or sent.
    active_ms: u64,
}

impl Core {
    fn new(state: State, now: Now) -> Core {
        Core {
            state,
            input: Input::default(),
            output: Vec::new(),
            output_start: 0,
            taken: false,
            stalled_ms: None,
            begun_ms: None,
            started_ms: now.mono_ms,
            active_ms: now.mono_ms,
        }
    }

    fn backlog(&self) -> usize {
        self.output.len() - self.output_start
    }

    fn is_backlogged(&self) -> bool {
        self.backlog() > BACKLOG_BYTES_MAX
    }

    fn room(&self) -> usize {
        let max = match self.state {
            State::Awaiting(_) | State::Handshake(_) => LENGTH_BYTES + HANDSHAKE_BYTES_MAX,
            State::Serving(ref lane) if !lane.is_authentic() => LENGTH_BYTES + REQUEST_BYTES_MAX,
            State::Established(_) | State::Serving(_) | State::Asking(_) if !self.is_backlogged() => INPUT_BYTES_MAX,
            State::Established(_) | State::Serving(_) | State::Asking(_) | State::Over(_) => 0,
        };
        max.saturating_sub(self.input.len())
    }

    fn receive(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        if taken > 0 {
            self.input.push(&bytes[..taken]);
        }
        taken
    }

    fn transmitted(&mut self, len: usize) {
        let len = len.min(self.backlog());
        self.output_start += len;
        self.taken |= len > 0;
        if self.output_start == self.output.len() {
            self.output = Vec::new();
            self.output_start = 0;
        }
    }

    /// The backlog to append to, with what was taken let go.
    fn output(&mut self, now: Now) -> &mut Vec<u8> {
        if self.output_start > 0 {
            self.output.drain(..self.output_start);
            self.output_start = 0;
        }
        self.active_ms = now.mono_ms;
        self.stalled_ms.get_or_insert(now.mono_ms);
        &mut self.output
    }

    fn fail(&mut self, error: SessionError) -> SessionError {
        self.input = Input::default();
        self.begun_ms = None;
        self.state = State::Over(error.clone());
        error
    }

    fn end_of_input(&self) -> Result<(), SessionError> {
        match &self.state {
            State::Over(error) => Err(error.clone()),
            state if !state.is_opening() && !state.is_inside_message() && self.input.len() == 0 => Ok(()),
            _ => Err(SessionError::Truncated),
        }
    }

    fn deadline_ms(&self) -> u64 {
        let after = |since: Option<u64>, max: u64| since.map_or(u64::MAX, |since| since.saturating_add(max));
        let whole = match self.state {
            State::Over(_) => u64::MAX,
            ref state if state.is_opening() => after(Some(self.started_ms), HANDSHAKE_TIME_MAX_MS),
            _ => after(Some(self.active_ms), IDLE_TIME_MAX_MS),
        };
        whole.min(after(self.begun_ms, MESSAGE_TIME_MAX_MS)).min(after(self.stalled_ms, STALL_TIME_MAX_MS))
    }

    /// Ends the session if one of its time limits has passed.
    fn expire(&mut self, now: Now) -> Result<(), SessionError> {
        if self.taken || self.backlog() == 0 {
            self.stalled_ms = (self.backlog() > 0).then_some(now.mono_ms);
            self.taken = false;
        }
        let passed = |since: Option<u64>, max: u64| since.is_some_and(|since| now.mono_ms.saturating_sub(since) > max);
        let error = match self.state {
            State::Over(ref error) => return Err(error.clone()),
            ref state if state.is_opening() && passed(Some(self.started_ms), HANDSHAKE_TIME_MAX_MS) => {
                SessionError::HandshakeTimeout
            }
            _ if passed(self.stalled_ms, STALL_TIME_MAX_MS) => SessionError::StallTimeout,
            _ if passed(self.begun_ms, MESSAGE_TIME_MAX_MS) => SessionError::MessageTimeout,
            ref state if !state.is_opening() && passed(Some(self.active_ms), IDLE_TIME_MAX_MS) => {
                SessionError::IdleTimeout
            }
            _ => return Ok(()),
        };
        Err(self.fail(error))
    }

    fn poll(&mut self, now: Now) -> Result<Option<CoreEvent>, SessionError> {
        self.expire(now)?;
        loop {
            if self.is_backlogged() {
                // It is this end that does not read; the message that waits is not late.
                self.begun_ms = None;
                return Ok(None);
            }
            match self.step(now) {
                Ok(Step::Event(event)) => return Ok(Some(event)),
                Ok(Step::Frame) => {}
                Ok(Step::Starved) => {
                    if self.input.len() > 0 || self.state.is_inside_message() {
                        self.begun_ms.get_or_insert(now.mono_ms);
                    } else {
                        self.begun_ms = None;
                    }
                    return Ok(None);
                }
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// What the first frame of a connection is, once its length is there: of a handshake, or a sealed request.
    fn greet(&mut self) -> Result<(), SessionError> {
        let State::Awaiting(door) = &self.state else { return Ok(()) };
        self.state = match self.input.announced() {
            None => return Ok(()),
            Some(HELLO_BYTES) => State::Handshake(Handshake::router(Arc::clone(door))?),
            Some(REQUEST_BYTES_MIN..=REQUEST_BYTES_MAX) => State::Serving(Box::new(ServerLane::new(Arc::clone(door)))),
            Some(len) if len > REQUEST_BYTES_MAX => {
                return Err(SessionError::FrameLength { len, min: REQUEST_BYTES_MIN, max: REQUEST_BYTES_MAX });
            }
            Some(len) => return Err(SessionError::FrameLength { len, min: HELLO_BYTES, max: HELLO_BYTES }),
        };
        Ok(())
    }

    /// Looks at one frame, if it is there.
    fn step(&mut self, now: Now) -> Result<Step, SessionError> {
        self.greet()?;
        let lengths = match &self.state {
            State::Over(error) => return Err(error.clone()),
            State::Awaiting(_) => return Ok(Step::Starved),
            State::Handshake(handshake) => handshake.lengths(),
            State::Established(_) => (SEALED_BYTES_MIN, SEALED_BYTES_MAX),
            State::Serving(lane) => lane.lengths(),
            State::Asking(lane) => lane.lengths(),
        };
        let Some(frame) = self.input.frame(lengths)? else {
            return Ok(Step::Starved);
        };
        let event = match &mut self.state {
            State::Established(transport) => Some(transport.open(&frame)?.map(CoreEvent::Message)),
            State::Asking(lane) => Some(lane.open(&frame)?.map(CoreEvent::Message)),
            State::Serving(lane) => match lane.open(&frame, now) {
                Ok(arrived) => Some(arrived.map(CoreEvent::Sealed)),
                Err(fault) => {
                    ServerLane::refuse(self.output(now));
                    return Err(SessionError::Sealed(fault));
                }
            },
            _ => None,
        };
        if let Some(event) = event {
            return Ok(event.map_or(Step::Frame, |event| {
                self.begun_ms = None;
                self.active_ms = now.mono_ms;
                Step::Event(event)
            }));
        }
        let State::Handshake(handshake) = std::mem::replace(&mut self.state, State::Over(SessionError::Closed)) else {
            return Err(SessionError::Closed);
        };
        self.begun_ms = None;
        let (next, progress) = handshake.receive(&frame, now)?;
        if let Some(handshake) = next {
            self.state = State::Handshake(handshake);
        }
        match progress {
            Progress::Send(message) => {
                push_frame(self.output(now), &message);
                Ok(Step::Frame)
            }
            Progress::Done { send, transport, peer } => {
                if let Some(message) = send {
                    push_frame(self.output(now), &message);
                }
                self.active_ms = now.mono_ms;
                self.state = State::Established(Transport::new(transport));
                Ok(Step::Event(CoreEvent::Established(peer)))
            }
            Progress::Refused { transport, error } => {
                self.state = State::Established(Transport::new(transport));
                self.part(&error.to_string(), now);
                Err(error)
            }
        }
    }

    fn send(&mut self, message: &[u8], now: Now) -> Result<(), SessionError> {
        match &self.state {
            State::Over(error) => return Err(error.clone()),
            State::Established(_) => {}
            _ => return Err(SessionError::NotEstablished),
        }
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(SessionError::OwnMessageTooLong { len: message.len(), max: MESSAGE_BYTES_MAX });
        }
        let mut out = std::mem::take(self.output(now));
        let State::Established(transport) = &mut self.state else {
            return Err(SessionError::NotEstablished);
        };
        let sealed = transport.seal(message, &mut out);
        self.output = out;
        sealed.map_err(|error| self.fail(error))
    }

    /// Bytes of memory that it takes for what it has received and not given on, and for what waits to be taken.
    fn held(&self) -> usize {
        let message = match &self.state {
            State::Established(transport) => transport.held(),
            State::Serving(lane) => lane.held(),
            State::Awaiting(_) | State::Handshake(_) | State::Asking(_) | State::Over(_) => 0,
        };
        self.input.held() + message + self.output.capacity()
    }

    /// A last message that tells the peer why the session ends, where there are keys to tell it in secret.
    fn part(&mut self, why: &str, now: Now) {
        if matches!(self.state, State::Serving(_)) {
            ServerLane::refuse(self.output(now));
            return;
        }
        let rejection = Rejection::new("session", why, None);
        // Where it cannot be told, the connection closes without a word, which is what follows anyway.
        let _ = self.send(&message::encode_reply(SESSION_ID, &Reply::Rejected(rejection)), now);
    }
}

enum Step {
    Starved,
    Frame,
    Event(CoreEvent),
}

/// What happens at a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The router has proven who it is; requests may be sent.
    Established(RouterPeer),
    /// The answer to a request.
    Reply {
        /// Which request.
        id: u32,
        /// The answer.
        reply: Reply,
    },
}

/// The client's end of a session. Its first message waits in [`Client::transmit`] from the start.
pub struct Client {
    core: Core,
    router_name: Option<String>,
    owner: PublicKey,
    router: Option<Box<(RouterPeer, Certificate)>>,
    last_id: u32,
}

/// What happens at a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// The owner has proven who it is.
    Established(Ownership),
    /// A request of that owner.
    Request {
        /// Its number, which the answer has to carry.
        id: u32,
        /// What is asked.
        request: Request,
    },
}

/// The router's end of a session.
pub struct Server {
    core: Core,
    door: Arc<Door>,
    owner: Option<Ownership>,
    request_bytes: usize,
}

macro_rules! shared_methods {
    () => {
        /// How many bytes `receive` would take; where it is zero, the socket should not be read.
        #[must_use]
        pub fn room(&self) -> usize {
            self.core.room()
        }
        /// Takes at most [`Self::room`] of the bytes; says how many. The caller keeps the rest.
        pub fn receive(&mut self, bytes: &[u8]) -> usize {
            self.core.receive(bytes)
        }
        /// What is to be written to the socket.
        #[must_use]
        pub fn transmit(&self) -> &[u8] {
            &self.core.output[self.core.output_start..]
        }
        /// So many bytes of it have been written.
        pub fn transmitted(&mut self, len: usize) {
            self.core.transmitted(len);
        }
        /// Whether the peer may close its side now.
        ///
        /// # Errors
        /// [`SessionError::Truncated`] inside a message or the handshake; what ended the session, if it is over.
        pub fn end_of_input(&self) -> Result<(), SessionError> {
            self.core.end_of_input()
        }
        /// The monotonic millisecond after which [`Self::expired`] should be asked again.
        #[must_use]
        pub fn deadline_ms(&self) -> u64 {
            self.core.deadline_ms()
        }
        /// The time limit that has passed, if one has; the session is then over. `poll` looks as well.
        pub fn expired(&mut self, now: Now) -> Option<SessionError> {
            self.core.expire(now).err()
        }
        /// Whether requests and replies may be sent: after the handshake, or with a ticket that was taken.
        #[must_use]
        pub fn is_established(&self) -> bool {
            !self.core.state.is_opening() && !matches!(self.core.state, State::Over(_))
        }
    };
}

impl Client {
    /// Starts a session as the owner that `identity` names, with any router that `authority` vouches for, or with the
    /// one called `router_name` only.
    ///
    /// # Errors
    /// [`SessionError::OwnIdentity`], [`SessionError::NoEntropy`].
    pub fn new(
        identity: Arc<Identity>,
        authority: Arc<Authority>,
        router_name: Option<String>,
        now: Now,
    ) -> Result<Client, SessionError> {
        let owner = identity.public();
        let (handshake, hello) = Handshake::client(identity, authority)?;
        let mut core = Core::new(State::Handshake(handshake), now);
        push_frame(core.output(now), &hello);
        Ok(Client { core, router_name, owner, router: None, last_id: SESSION_ID })
    }

    /// Asks with a ticket of an earlier session, on a new connection and without a handshake. Requests may be sent at
    /// once; that the router is the ticket's shows with its first reply. A router that does not take the ticket ends
    /// this with [`SessionError::TicketRefused`]; then [`Client::new`] is the way in.
    #[must_use]
    pub fn resume(ticket: Ticket, now: Now) -> Client {
        let owner = ticket.owner();
        let core = Core::new(State::Asking(Box::new(ClientLane::new(ticket))), now);
        Client { core, router_name: None, owner, router: None, last_id: SESSION_ID }
    }

    /// The ticket that this asks with, as it is to be kept for the next time: its requests are counted.
    #[must_use]
    pub fn ticket(&self) -> Option<&Ticket> {
        match &self.core.state {
            State::Asking(lane) => Some(&lane.ticket),
            _ => None,
        }
    }

    /// The ticket that the reply to [`Request::Ticket`] gives; none before the handshake is over.
    #[must_use]
    pub fn keep(&self, grant: &TicketGrant, now: Now) -> Option<Ticket> {
        let (router, certificate) = self.router.as_deref()?.clone();
        Some(Ticket::new(grant.clone(), router, certificate, self.owner, now.wall_s))
    }

    shared_methods!();

    /// The next event, or `None` where more input is needed.
    ///
    /// # Errors
    /// What ended the session.
    pub fn poll(&mut self, now: Now) -> Result<Option<ClientEvent>, SessionError> {
        match self.core.poll(now)? {
            None => Ok(None),
            Some(CoreEvent::Established(Peer::Router(router, certificate))) => match &self.router_name {
                Some(expected) if *expected != router.name() => {
                    let error =
                        SessionError::WrongRouter { expected: expected.clone(), found: router.name().to_owned() };
                    self.core.output = Vec::new();
                    self.core.output_start = 0;
                    Err(self.core.fail(error))
                }
                _ => {
                    self.router = Some(Box::new((router.clone(), *certificate)));
                    Ok(Some(ClientEvent::Established(router)))
                }
            },
            Some(CoreEvent::Sealed(_)) => Err(self.core.fail(SessionError::Closed)),
            Some(CoreEvent::Established(Peer::Owner(owner))) => {
                let found = format!("the owner {}", owner.principal());
                Err(self.core.fail(SessionError::WrongRole { found }))
            }
            Some(CoreEvent::Message(bytes)) => match message::decode_reply(&bytes) {
                Ok((SESSION_ID, Reply::Rejected(rejection))) => {
                    Err(self.core.fail(SessionError::Refused(rejection.text().to_owned())))
                }
                Ok((id, reply)) => Ok(Some(ClientEvent::Reply { id, reply })),
                Err(malformed) => Err(self.core.fail(SessionError::BadMessage(malformed.to_string()))),
            },
        }
    }

    /// Queues a request; gives the number that its answer will carry.
    ///
    /// # Errors
    /// [`SessionError::NotEstablished`], [`SessionError::OwnMessageTooLong`], or what ended the session.
    pub fn send(&mut self, request: &Request, now: Now) -> Result<u32, SessionError> {
        let id = self.last_id.checked_add(1).unwrap_or(SESSION_ID + 1);
        let message = message::encode_request(id, request);
        if matches!(self.core.state, State::Asking(_)) {
            if message.len() > MESSAGE_BYTES_MAX {
                return Err(SessionError::OwnMessageTooLong { len: message.len(), max: MESSAGE_BYTES_MAX });
            }
            let mut out = std::mem::take(self.core.output(now));
            let asked = match &mut self.core.state {
                State::Asking(lane) => lane.request(&message, &mut out, now),
                _ => Err(SessionError::Closed),
            };
            self.core.output = out;
            asked.map_err(|error| self.core.fail(error))?;
        } else {
            self.core.send(&message, now)?;
        }
        self.last_id = id;
        Ok(id)
    }
}

impl Server {
    /// Waits for a client, as the router that `identity` names; owners are those that `authority` vouches for. It gives
    /// no tickets.
    ///
    /// # Errors
    /// [`SessionError::OwnIdentity`].
    pub fn new(identity: Arc<Identity>, authority: Arc<Authority>, now: Now) -> Result<Server, SessionError> {
        Ok(Server::at(Arc::new(Door::new(identity, authority)?), now))
    }

    /// Waits for a client at a router's door.
    #[must_use]
    pub fn at(door: Arc<Door>, now: Now) -> Server {
        Server { core: Core::new(State::Awaiting(Arc::clone(&door)), now), door, owner: None, request_bytes: 0 }
    }

    shared_methods!();

    /// The owner at the other end, once it is known; of sealed requests, the owner of the latest.
    #[must_use]
    pub const fn peer(&self) -> Option<&Ownership> {
        self.owner.as_ref()
    }

    /// The next event, or `None` where more input is needed or the backlog of replies has to shrink first.
    ///
    /// # Errors
    /// What ended the session. A client that is able to read it is told why: the caller should write what
    /// [`Server::transmit`] shows once more before it closes the connection.
    pub fn poll(&mut self, now: Now) -> Result<Option<ServerEvent>, SessionError> {
        loop {
            let event = self.core.poll(now)?;
            match event.map(|event| self.event(event, now)) {
                None => return Ok(None),
                Some(Ok(Some(event))) => return Ok(Some(event)),
                // It was about tickets, and is answered.
                Some(Ok(None)) => {}
                Some(Err(error)) => {
                    self.core.part(&error.to_string(), now);
                    return Err(self.core.fail(error));
                }
            }
        }
    }

    fn event(&mut self, event: CoreEvent, now: Now) -> Result<Option<ServerEvent>, SessionError> {
        let (message, debt) = match event {
            CoreEvent::Established(Peer::Owner(owner)) => {
                self.owner = Some(owner);
                return Ok(Some(ServerEvent::Established(owner)));
            }
            CoreEvent::Established(Peer::Router(router, _)) => {
                return Err(SessionError::WrongRole { found: format!("the router `{}`", router.name()) });
            }
            CoreEvent::Message(message) => {
                // A certificate may end, and a key be revoked, while its session lasts.
                self.owner.as_ref().map_or(Ok(()), |owner| self.door.stands(owner, now))?;
                (message, None)
            }
            CoreEvent::Sealed(Arrived { owner, message, debt }) => {
                self.owner = Some(owner);
                (message, Some(debt))
            }
        };
        self.request_bytes = message.len();
        let (mut id, request) = match message::decode_request(&message) {
            Ok((id, request)) if id != SESSION_ID => (id, request),
            Ok(_) => return Err(SessionError::BadMessage("a request numbered 0".to_owned())),
            Err(malformed) => return Err(SessionError::BadMessage(malformed.to_string())),
        };
        let is_sealed = debt.is_some();
        if let (Some(debt), State::Serving(lane)) = (debt, &mut self.core.state) {
            id = lane.owe(id, debt);
        }
        if !matches!(request, Request::Ticket) {
            return Ok(Some(ServerEvent::Request { id, request }));
        }
        let refused = |why| Reply::Rejected(Rejection::new("no-ticket", why, None));
        let reply = match (&self.owner, is_sealed) {
            // Each ticket comes from a handshake, so that a secret that leaks opens no later session.
            (_, true) => refused("a ticket is asked for after a handshake, not with another ticket"),
            (None, _) => return Err(SessionError::NotEstablished),
            (Some(owner), _) => match self.door.ticket(owner, now)? {
                Some(grant) => Reply::Ticket(Box::new(grant)),
                None => refused("this router gives no tickets"),
            },
        };
        self.reply(id, &reply, now).map(|()| None)
    }

    /// Queues the answer to a request.
    ///
    /// # Errors
    /// [`SessionError::NotEstablished`], [`SessionError::OwnMessageTooLong`], or what ended the session.
    pub fn reply(&mut self, id: u32, reply: &Reply, now: Now) -> Result<(), SessionError> {
        if !matches!(self.core.state, State::Serving(_)) {
            return self.core.send(&message::encode_reply(id, reply), now);
        }
        let mut out = std::mem::take(self.core.output(now));
        let sent = match &mut self.core.state {
            State::Serving(lane) => lane.reply(id, |id| message::encode_reply(id, reply), &mut out),
            _ => Err(SessionError::Closed),
        };
        self.core.output = out;
        sent
    }

    /// The bytes of the message that the latest request came in.
    #[must_use]
    pub const fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// Bytes of memory that the session takes beside itself: input, a message that has begun, replies that wait.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.core.held()
    }

    /// Whether the backlog of replies is small enough for more.
    #[must_use]
    pub fn can_reply(&self) -> bool {
        !self.core.is_backlogged()
    }

    /// Ends the session and tells the client why.
    pub fn refuse(&mut self, why: &str, now: Now) {
        self.core.part(why, now);
        self.core.fail(SessionError::Refused(why.to_owned()));
    }
}

#[cfg(test)]
mod tests;
