//! The way to a router: one session over TCP, with a time limit on every step.
//!
//! Holding a [`Link`] proves that the router at the other end showed a certificate of the user's authority, and that
//! it knows who the user is; of one that was resumed with a ticket, that holds from the first answer on. A link asks one
//! thing after the other; it has no thread, and asks nothing twice but what the router refuses for one of two reasons:
//! the user has yet to show that packets to its address arrive (that is shown first, [`crate::reach`]), or the router does
//! not take a ticket (a handshake is made instead).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::reach::{DATAGRAM_TIME_MAX, DATAGRAMS_MAX, Ear, ReachError};
use vinet_session::identity::{Authority, Identity, RouterPeer};
use vinet_session::message::{Rejection, Reply, Request};
use vinet_session::reach::{REACH_DATAGRAM_BYTES, ReachAnswer};
use vinet_session::{Client, ClientEvent, Now, SessionError, Ticket};

/// How long connecting to one address may take.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How many bytes are read at once.
const READ_LEN: usize = 16 * 1024;
/// The code of the rejection that says so.
const NOT_REACHED: &str = "not-reached";

/// Why there is no answer from a router.
#[derive(Debug)]
pub enum LinkError {
    /// The name of the router has no address.
    Resolve {
        /// As it was given.
        router: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// No connection.
    Connect {
        /// As it was given.
        router: String,
        /// What the operating system said about the last address tried.
        error: io::Error,
    },
    /// The connection broke.
    Broken {
        /// What was under way.
        doing: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
    /// The router closed the connection.
    Closed {
        /// What was under way.
        doing: &'static str,
    },
    /// It took too long.
    Timeout {
        /// What was under way.
        doing: &'static str,
        /// The limit for everything together.
        limit: Duration,
    },
    /// The session ended.
    Session(SessionError),
    /// The router answered something else than it was asked.
    WrongReply {
        /// What was asked.
        doing: &'static str,
    },
    /// It could not be shown that packets to the user's address arrive.
    Reach(ReachError),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Resolve { router, error } => {
                write!(f, "{router} has no address ({error}); a router is written HOST:PORT")
            }
            LinkError::Connect { router, error } => write!(f, "no connection to {router}: {error}"),
            LinkError::Broken { doing, error } => write!(f, "the connection broke while {doing}: {error}"),
            LinkError::Closed { doing } => write!(f, "the router closed the connection while {doing}"),
            LinkError::Timeout { doing, limit } => {
                write!(f, "no answer within {} s while {doing}", limit.as_secs_f32())
            }
            LinkError::Session(error) => write!(f, "the session ended: {error}"),
            LinkError::WrongReply { doing } => write!(f, "while {doing}, the router answered something else"),
            LinkError::Reach(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LinkError {}

impl LinkError {
    /// Whether the connection was lost: what was asked may have been done or not, and the same may be asked again over a
    /// new connection where doing it twice is doing it once.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        matches!(
            self,
            LinkError::Broken { .. } | LinkError::Closed { .. } | LinkError::Session(SessionError::Truncated)
        )
    }
}

impl From<SessionError> for LinkError {
    fn from(error: SessionError) -> Self {
        LinkError::Session(error)
    }
}

impl From<ReachError> for LinkError {
    fn from(error: ReachError) -> Self {
        LinkError::Reach(error)
    }
}

/// A session with a router.
pub struct Link {
    stream: TcpStream,
    client: Client,
    router: RouterPeer,
    identity: Arc<Identity>,
    clock: Clock,
    /// The ticket that a handshake got.
    ticket: Option<Ticket>,
    /// Of a link that was resumed: how to make a handshake instead.
    otherwise: Option<Introduction>,
}

/// What a handshake needs.
#[derive(Clone)]
pub struct Introduction {
    /// The router, as `HOST:PORT`.
    pub router: String,
    /// Who the user is.
    pub identity: Arc<Identity>,
    /// Who vouches for routers.
    pub authority: Arc<Authority>,
    /// The name that the router's certificate has to have.
    pub router_name: Option<String>,
}

/// When everything has to be done.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    limit: Duration,
}

impl Clock {
    /// Everything within `limit` from now on.
    #[must_use]
    pub fn start(limit: Duration) -> Clock {
        Clock { origin: Instant::now(), limit }
    }
    /// Whether `pause` and something after it still fit in.
    #[must_use]
    pub fn has(&self, pause: Duration) -> bool {
        self.origin.elapsed() + pause < self.limit
    }
    fn now(&self) -> Now {
        Now::read(self.origin)
    }
    /// The time that is left; never zero.
    fn left(&self, doing: &'static str) -> Result<Duration, LinkError> {
        let left = self.limit.checked_sub(self.origin.elapsed()).filter(|left| !left.is_zero());
        left.ok_or(LinkError::Timeout { doing, limit: self.limit })
    }
}

impl Link {
    /// Connects to `router` (`HOST:PORT`) as the owner that `identity` names. Everything until the link is dropped has
    /// to be done within `limit`.
    ///
    /// # Errors
    /// Any [`LinkError`] but `WrongReply`.
    pub fn open(
        router: &str,
        identity: Arc<Identity>,
        authority: Arc<Authority>,
        router_name: Option<String>,
        limit: Duration,
    ) -> Result<Link, LinkError> {
        Link::open_by(router, identity, authority, router_name, Clock::start(limit))
    }

    /// As [`Link::open`], with what is left of the time of `clock`: for a second connection about the same matter.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub fn open_by(
        router: &str,
        identity: Arc<Identity>,
        authority: Arc<Authority>,
        router_name: Option<String>,
        clock: Clock,
    ) -> Result<Link, LinkError> {
        let mut stream = connect(router, &clock)?;
        let mut client = Client::new(Arc::clone(&identity), authority, router_name, clock.now())?;
        let doing = "introducing ourselves to the router";
        match event(&mut stream, &mut client, &clock, doing)? {
            ClientEvent::Established(router) => {
                Ok(Link { stream, client, router, identity, clock, ticket: None, otherwise: None })
            }
            ClientEvent::Reply { .. } => Err(LinkError::WrongReply { doing }),
        }
    }

    /// A link that asks with `ticket`, or makes a handshake and gets a ticket for the next time ([`Link::ticket`]). A router
    /// that gives none is as good.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub fn open_sealed(introduction: Introduction, ticket: Option<Ticket>, clock: Clock) -> Result<Link, LinkError> {
        let is_expected =
            |ticket: &Ticket| introduction.router_name.as_ref().is_none_or(|name| ticket.router().name() == name);
        let Some(ticket) = ticket.filter(is_expected) else {
            return Link::introduce(introduction, clock);
        };
        let stream = connect(&introduction.router, &clock)?;
        let router = ticket.router().clone();
        let client = Client::resume(ticket, clock.now());
        let identity = Arc::clone(&introduction.identity);
        Ok(Link { stream, client, router, identity, clock, ticket: None, otherwise: Some(introduction) })
    }

    fn introduce(introduction: Introduction, clock: Clock) -> Result<Link, LinkError> {
        let Introduction { router, identity, authority, router_name } = introduction;
        let mut link = Link::open_by(&router, identity, authority, router_name, clock)?;
        if let Reply::Ticket(grant) = link.ask(&Request::Ticket, "asking for a ticket")? {
            link.ticket = link.client.keep(&grant, clock.now());
        }
        Ok(link)
    }

    /// The ticket for the next time, with the requests so far counted, of a link that was opened for it.
    #[must_use]
    pub fn ticket(&self) -> Option<&Ticket> {
        self.client.ticket().or(self.ticket.as_ref())
    }

    /// Whether it asks with a ticket.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        self.otherwise.is_some()
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn router(&self) -> &RouterPeer {
        &self.router
    }

    /// Sends a request and waits for its answer; `doing` says what it is for, in messages. Where the router has yet to be
    /// shown that the user is reached, that is done, and the request is sent again.
    ///
    /// # Errors
    /// Any [`LinkError`] but `Resolve` and `Connect`.
    pub fn ask(&mut self, request: &Request, doing: &'static str) -> Result<Reply, LinkError> {
        let reply = self.ask_or_introduce(request, doing)?;
        let is_about_reach = matches!(request, Request::ReachMe { .. } | Request::Reached(_));
        match &reply {
            Reply::Rejected(why) if why.code() == NOT_REACHED && !is_about_reach => match self.show_reach()? {
                None => self.ask_or_introduce(request, doing),
                Some(why) => Ok(Reply::Rejected(why)),
            },
            _ => Ok(reply),
        }
    }

    /// Shows that packets to the user's address arrive; gives the router's rejection where it does not let us.
    fn show_reach(&mut self) -> Result<Option<Rejection>, LinkError> {
        const DOING: &str = "showing that packets to our address reach us";
        // A router's identity opens no link, so this is an owner's.
        let principal = self.identity.principal().ok_or(LinkError::WrongReply { doing: DOING })?;
        let ear = Ear::open(principal)?;
        let router = self.router.id();
        for _ in 0..DATAGRAMS_MAX {
            let ask = Request::ReachMe { port: ear.port(), padding: vec![0; REACH_DATAGRAM_BYTES] };
            match self.ask_or_introduce(&ask, DOING)? {
                Reply::ReachSent => {}
                Reply::Rejected(why) => return Ok(Some(why)),
                _ => return Err(LinkError::WrongReply { doing: DOING }),
            }
            let end = Instant::now() + self.clock.left(DOING)?.min(DATAGRAM_TIME_MAX);
            let Some(nonce) = ear.hear(&router, end)? else { continue };
            let answer = ReachAnswer::sign(&router, &principal, nonce, &self.identity);
            return match self.ask_or_introduce(&Request::Reached(answer), DOING)? {
                Reply::Reached { .. } => Ok(None),
                Reply::Rejected(why) => Ok(Some(why)),
                _ => Err(LinkError::WrongReply { doing: DOING }),
            };
        }
        Err(ear.nothing_came().into())
    }

    /// Asks; where the router does not take the ticket, makes a handshake and asks again.
    fn ask_or_introduce(&mut self, request: &Request, doing: &'static str) -> Result<Reply, LinkError> {
        match self.ask_once(request, doing) {
            Err(LinkError::Session(SessionError::TicketRefused)) => {
                // What was refused was not done: it may be asked as if for the first time.
                let Some(introduction) = self.otherwise.take() else {
                    return Err(LinkError::Session(SessionError::TicketRefused));
                };
                *self = Link::introduce(introduction, self.clock)?;
                self.ask_once(request, doing)
            }
            answer => answer,
        }
    }

    fn ask_once(&mut self, request: &Request, doing: &'static str) -> Result<Reply, LinkError> {
        let asked = self.client.send(request, self.clock.now())?;
        match event(&mut self.stream, &mut self.client, &self.clock, doing)? {
            ClientEvent::Reply { id, reply } if id == asked => Ok(reply),
            _ => Err(LinkError::WrongReply { doing }),
        }
    }
}

fn connect(router: &str, clock: &Clock) -> Result<TcpStream, LinkError> {
    let addrs = router.to_socket_addrs().map_err(|error| LinkError::Resolve { router: router.to_string(), error })?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for addr in addrs {
        let left = clock.left("connecting")?.min(CONNECT_TIME_MAX);
        match TcpStream::connect_timeout(&addr, left) {
            Ok(stream) => {
                // Requests are small and waited for; a delay that only saves segments helps nobody.
                let quick = stream.set_nodelay(true);
                return quick.map(|()| stream).map_err(|error| LinkError::Broken { doing: "connecting", error });
            }
            Err(error) => last = error,
        }
    }
    Err(LinkError::Connect { router: router.to_string(), error: last })
}

/// Writes what waits, and reads until something happens.
fn event(
    stream: &mut TcpStream,
    client: &mut Client,
    clock: &Clock,
    doing: &'static str,
) -> Result<ClientEvent, LinkError> {
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => LinkError::Timeout { doing, limit: clock.limit },
        _ => LinkError::Broken { doing, error },
    };
    let mut buffer = [0; READ_LEN];
    // A router that has closed its end may have said why before; that is read before a failed write is told.
    let mut unwritten = None;
    loop {
        while !client.transmit().is_empty() && unwritten.is_none() {
            stream.set_write_timeout(Some(clock.left(doing)?)).map_err(broken)?;
            match stream.write(client.transmit()) {
                Ok(written) => client.transmitted(written),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => unwritten = Some(error),
                    _ => return Err(broken(error)),
                },
            }
        }
        if let Some(event) = client.poll(clock.now())? {
            return Ok(event);
        }
        if !client.transmit().is_empty() && unwritten.is_none() {
            continue;
        }
        let room = client.room().min(buffer.len());
        if room == 0 {
            // A session that neither has an event, nor writes, nor takes input, will do nothing ever.
            return Err(LinkError::Closed { doing });
        }
        stream.set_read_timeout(Some(clock.left(doing)?)).map_err(broken)?;
        match (stream.read(&mut buffer[..room]), unwritten.take()) {
            (Ok(0), Some(error)) => return Err(broken(error)),
            (Ok(0), None) => {
                client.end_of_input()?;
                return Err(LinkError::Closed { doing });
            }
            (Ok(read), error) => {
                client.receive(&buffer[..read]);
                unwritten = error;
            }
            (Err(error), earlier) if error.kind() == io::ErrorKind::Interrupted => unwritten = earlier,
            (Err(error), _) => return Err(broken(error)),
        }
    }
}
