//! The two ends of a session: what a caller drives.
//!
//! A caller reads at most [`Client::room`] bytes from its socket, hands them to `receive`, calls `poll` until it gives
//! `None`, and writes what `transmit` shows. Whatever the bytes are, an end keeps at most one buffer of input, one
//! message and a bounded backlog of output; before the handshake is over, two kilobytes. After an error it does nothing
//! more; `transmit` may still hold a last message that tells an honest peer why, and then the connection is to be closed.
//!
//! An end of input between two messages cannot be told from an attacker's: TCP's end is not authenticated. Every
//! request has a reply, so a client that misses one knows it.

use crate::error::SessionError;
use crate::frame::{Input, LENGTH_BYTES, SEALED_BYTES_MAX, SEALED_BYTES_MIN, Transport, push_frame};
use crate::handshake::{Handshake, Peer, Progress};
use crate::identity::{Authority, Identity, Ownership, RouterPeer};
use crate::limits::{
    BACKLOG_BYTES_MAX, HANDSHAKE_BYTES_MAX, HANDSHAKE_TIME_MAX_MS, IDLE_TIME_MAX_MS, MESSAGE_BYTES_MAX,
    MESSAGE_TIME_MAX_MS, STALL_TIME_MAX_MS,
};
use crate::message::{self, Rejection, Reply, Request};
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
    Handshake(Handshake),
    Established(Transport),
    Over(SessionError),
}

enum CoreEvent {
    Established(Peer),
    Message(Vec<u8>),
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
    fn new(handshake: Handshake, now: Now) -> Core {
        Core {
            state: State::Handshake(handshake),
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
            State::Handshake(_) => LENGTH_BYTES + HANDSHAKE_BYTES_MAX,
            State::Established(_) if !self.is_backlogged() => INPUT_BYTES_MAX,
            State::Established(_) | State::Over(_) => 0,
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
            State::Established(transport) if !transport.is_inside_message() && self.input.len() == 0 => Ok(()),
            State::Established(_) | State::Handshake(_) => Err(SessionError::Truncated),
        }
    }

    fn deadline_ms(&self) -> u64 {
        let after = |since: Option<u64>, max: u64| since.map_or(u64::MAX, |since| since.saturating_add(max));
        let whole = match self.state {
            State::Handshake(_) => after(Some(self.started_ms), HANDSHAKE_TIME_MAX_MS),
            State::Established(_) => after(Some(self.active_ms), IDLE_TIME_MAX_MS),
            State::Over(_) => u64::MAX,
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
            State::Handshake(_) if passed(Some(self.started_ms), HANDSHAKE_TIME_MAX_MS) => {
                SessionError::HandshakeTimeout
            }
            _ if passed(self.stalled_ms, STALL_TIME_MAX_MS) => SessionError::StallTimeout,
            _ if passed(self.begun_ms, MESSAGE_TIME_MAX_MS) => SessionError::MessageTimeout,
            State::Established(_) if passed(Some(self.active_ms), IDLE_TIME_MAX_MS) => SessionError::IdleTimeout,
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
                    let inside = self.input.len() > 0
                        || matches!(&self.state, State::Established(transport) if transport.is_inside_message());
                    if inside {
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

    /// Looks at one frame, if it is there.
    fn step(&mut self, now: Now) -> Result<Step, SessionError> {
        let lengths = match &self.state {
            State::Over(error) => return Err(error.clone()),
            State::Handshake(handshake) => handshake.lengths(),
            State::Established(_) => (SEALED_BYTES_MIN, SEALED_BYTES_MAX),
        };
        let Some(frame) = self.input.frame(lengths)? else {
            return Ok(Step::Starved);
        };
        if let State::Established(transport) = &mut self.state {
            return Ok(match transport.open(&frame)? {
                None => Step::Frame,
                Some(message) => {
                    self.begun_ms = None;
                    self.active_ms = now.mono_ms;
                    Step::Event(CoreEvent::Message(message))
                }
            });
        }
        let State::Handshake(handshake) = std::mem::replace(&mut self.state, State::Over(SessionError::Closed)) else {
            return Err(SessionError::Closed);
        };
        self.begun_ms = None;
        let (next, progress) = handshake.receive(&frame, now.wall_s)?;
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
            State::Handshake(_) => return Err(SessionError::NotEstablished),
            State::Established(_) => {}
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

    /// A last message that tells the peer why the session ends, where there are keys to tell it in secret.
    fn part(&mut self, why: &str, now: Now) {
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
    owner: Option<Ownership>,
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
        /// Whether the handshake is over and the session is not.
        #[must_use]
        pub fn is_established(&self) -> bool {
            matches!(self.core.state, State::Established(_))
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
        let (handshake, hello) = Handshake::client(identity, authority)?;
        let mut core = Core::new(handshake, now);
        push_frame(core.output(now), &hello);
        Ok(Client { core, router_name, last_id: SESSION_ID })
    }

    shared_methods!();

    /// The next event, or `None` where more input is needed.
    ///
    /// # Errors
    /// What ended the session.
    pub fn poll(&mut self, now: Now) -> Result<Option<ClientEvent>, SessionError> {
        match self.core.poll(now)? {
            None => Ok(None),
            Some(CoreEvent::Established(Peer::Router(router))) => match &self.router_name {
                Some(expected) if *expected != router.name() => {
                    let error =
                        SessionError::WrongRouter { expected: expected.clone(), found: router.name().to_owned() };
                    self.core.output = Vec::new();
                    self.core.output_start = 0;
                    Err(self.core.fail(error))
                }
                _ => Ok(Some(ClientEvent::Established(router))),
            },
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
        self.core.send(&message::encode_request(id, request), now)?;
        self.last_id = id;
        Ok(id)
    }
}

impl Server {
    /// Waits for a client, as the router that `identity` names; owners are those that `authority` vouches for.
    ///
    /// # Errors
    /// [`SessionError::OwnIdentity`], [`SessionError::NoEntropy`].
    pub fn new(identity: Arc<Identity>, authority: Arc<Authority>, now: Now) -> Result<Server, SessionError> {
        Ok(Server { core: Core::new(Handshake::router(identity, authority)?, now), owner: None })
    }

    shared_methods!();

    /// The owner at the other end, once it is known.
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
        let error = match self.core.poll(now)? {
            None => return Ok(None),
            Some(CoreEvent::Established(Peer::Owner(owner))) => {
                self.owner = Some(owner);
                return Ok(Some(ServerEvent::Established(owner)));
            }
            Some(CoreEvent::Established(Peer::Router(router))) => {
                SessionError::WrongRole { found: format!("the router `{}`", router.name()) }
            }
            Some(CoreEvent::Message(bytes)) => match message::decode_request(&bytes) {
                Ok((id, request)) if id != SESSION_ID => return Ok(Some(ServerEvent::Request { id, request })),
                Ok(_) => SessionError::BadMessage("a request numbered 0".to_owned()),
                Err(malformed) => SessionError::BadMessage(malformed.to_string()),
            },
        };
        self.core.part(&error.to_string(), now);
        Err(self.core.fail(error))
    }

    /// Queues the answer to a request.
    ///
    /// # Errors
    /// [`SessionError::NotEstablished`], [`SessionError::OwnMessageTooLong`], or what ended the session.
    pub fn reply(&mut self, id: u32, reply: &Reply, now: Now) -> Result<(), SessionError> {
        self.core.send(&message::encode_reply(id, reply), now)
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
