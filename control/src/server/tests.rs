mod floods;
mod sealed;

use super::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use vinet_session::ClientEvent;
use vinet_session::identity::{Authority, AuthorityKey, Identity, RouterPeer, Subject, Validity, parse_principal};
use vinet_session::message::Rejection;

const PATIENCE: Duration = Duration::from_secs(20);

/// A client that waits, as a user's program does.
pub(crate) struct BlockingClient {
    pub(crate) stream: TcpStream,
    session: vinet_session::Client,
    origin: Instant,
    router: Option<RouterPeer>,
}

impl BlockingClient {
    /// Connects and finishes the handshake.
    pub(crate) fn connect(to: SocketAddr, identity: &Arc<Identity>, authority: &Authority) -> io::Result<Self> {
        BlockingClient::over(TcpStream::connect(to)?, identity, authority)
    }

    /// The same over a connection that is there.
    fn over(stream: TcpStream, identity: &Arc<Identity>, authority: &Authority) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let origin = Instant::now();
        let authority = Arc::new(authority.clone());
        let session = vinet_session::Client::new(Arc::clone(identity), authority, None, Now::read(origin))
            .map_err(io::Error::other)?;
        let mut client = BlockingClient { stream, session, origin, router: None };
        match client.event()? {
            ClientEvent::Established(router) => {
                client.router = Some(router);
                // The last word of the handshake is the client's.
                client.flush()?;
                Ok(client)
            }
            ClientEvent::Reply { .. } => Err(io::Error::other("a reply before the handshake was over")),
        }
    }

    /// The router at the other end.
    pub(crate) fn router(&self) -> &RouterPeer {
        self.router.as_ref().unwrap()
    }

    fn event(&mut self) -> io::Result<ClientEvent> {
        let mut buffer = [0u8; 4096];
        loop {
            if let Some(event) = self.session.poll(Now::read(self.origin)).map_err(io::Error::other)? {
                return Ok(event);
            }
            self.flush()?;
            let room = self.session.room().min(buffer.len());
            match self.stream.read(&mut buffer[..room])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => {
                    self.session.receive(&buffer[..len]);
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.session.transmit().is_empty() {
            let len = self.stream.write(self.session.transmit())?;
            self.session.transmitted(len);
        }
        Ok(())
    }

    pub(crate) fn send(&mut self, request: &Request) -> io::Result<u32> {
        let id = self.session.send(request, Now::read(self.origin)).map_err(io::Error::other)?;
        self.flush()?;
        Ok(id)
    }

    pub(crate) fn reply(&mut self) -> io::Result<(u32, Reply)> {
        match self.event()? {
            ClientEvent::Reply { id, reply } => Ok((id, reply)),
            ClientEvent::Established(_) => Err(io::Error::other("established twice")),
        }
    }

    pub(crate) fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        let id = self.send(request)?;
        let (answered, reply) = self.reply()?;
        assert_eq!(id, answered);
        Ok(reply)
    }
}

/// Answers `List` at once, refuses `Show`, and leaves everything else open for ever.
struct TestDesk;

/// What a desk has left open, it may answer between two turns.
trait Later: Desk {
    fn later(&mut self, _: &mut Server, _: Now) {}
}

impl Later for TestDesk {}

impl Desk for TestDesk {
    fn request(&mut self, _: SessionId, _: u32, _: &Ownership, request: Request, _: Stamp, _: Now) -> Option<Reply> {
        match request {
            Request::List => Some(Reply::List(Vec::new())),
            Request::Show { instance } => {
                Some(Reply::Rejected(Rejection::new("not-found", &instance.to_string(), None)))
            }
            _ => None,
        }
    }
}

fn door(router: Arc<Identity>, authority: &Authority) -> Arc<Door> {
    let door = Door::new(router, Arc::new(authority.clone())).unwrap();
    Arc::new(door.with_sealing(Now::read(Instant::now())).unwrap())
}

/// A server in a thread of its own.
struct Running {
    address: SocketAddr,
    /// A second listener.
    other: SocketAddr,
    authority: Authority,
    user: Arc<Identity>,
    key: AuthorityKey,
    stop: Arc<AtomicBool>,
    state: mpsc::Receiver<(SessionCounters, usize, usize)>,
    /// After every turn: the bytes that wait and those that are kept.
    keeps: mpsc::Receiver<(usize, usize)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn limits() -> Limits {
    Limits {
        sessions: 64,
        half_open: 16,
        sessions_per_peer: 64,
        handshake_timeout_s: 600,
        idle_timeout_s: 600,
        checks_queued: 16,
        programs: 16,
        programs_per_owner: 16,
        lemmas: 16,
        lemmas_per_owner: 16,
    }
}

impl Running {
    fn start(limits: Limits) -> Running {
        Running::with(limits, BOUNDS, TestDesk)
    }

    fn with(limits: Limits, bounds: Bounds, mut desk: impl Later + Send + 'static) -> Running {
        let key = AuthorityKey::generate("bench").unwrap();
        let wall_s = Now::read(Instant::now()).wall_s;
        let validity = Validity::starting(wall_s - 10, 3600);
        let router = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
        let identity = Arc::new(key.issue_identity(router, validity).unwrap());
        let owner = Subject::Owner(parse_principal("198.51.100.7").unwrap());
        let user = Arc::new(key.issue_identity(owner, validity).unwrap());
        let authority = key.authority();

        let mut poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let mut server = Server::new(door(identity, &authority), limits, registry, 5);
        server.shared.bounds = bounds;
        let [address, other] = [(); 2].map(|()| server.listen("127.0.0.1:0".parse().unwrap()).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let (states, state) = mpsc::channel();
        let (kept, keeps) = mpsc::channel();
        let ended = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let origin = Instant::now();
            let mut events = Events::with_capacity(64);
            let mut more = true;
            while !ended.load(Ordering::Relaxed) {
                let wait = Duration::from_millis(if more { 0 } else { 5 });
                poll.poll(&mut events, Some(wait)).unwrap();
                for event in &events {
                    server.event(event);
                }
                let now = Now::read(origin);
                more = server.turn(&mut desk, now);
                desk.later(&mut server, now);
                server.tick(now);
                let _ = kept.send((server.waiting_bytes(), server.held_bytes()));
                let _ = states.send((server.counters(), server.len(), server.half_open()));
            }
        });
        Running { address, other, authority, user, key, stop, state, keeps, thread: Some(thread) }
    }

    fn client(&self) -> io::Result<BlockingClient> {
        BlockingClient::connect(self.address, &self.user, &self.authority)
    }

    /// Waits until the server's counters, sessions and half-open sessions satisfy `wanted`.
    fn wait(&self, wanted: impl Fn(&SessionCounters, usize, usize) -> bool) {
        let start = Instant::now();
        let mut last = None;
        while start.elapsed() < PATIENCE {
            if let Ok((counters, len, half_open)) = self.state.recv_timeout(PATIENCE) {
                if wanted(&counters, len, half_open) {
                    return;
                }
                last = Some((counters, len, half_open));
            }
        }
        panic!("the server stays at {last:?}");
    }

    /// The most bytes that waited for answers, and that sessions kept, after any turn so far.
    fn most_bytes(&self) -> (usize, usize) {
        self.keeps.try_iter().fold((0, 0), |most, now| (most.0.max(now.0), most.1.max(now.1)))
    }

    /// Another owner.
    fn owner(&self, principal: &str) -> Arc<Identity> {
        let wall_s = Now::read(Instant::now()).wall_s;
        let subject = Subject::Owner(parse_principal(principal).unwrap());
        Arc::new(self.key.issue_identity(subject, Validity::starting(wall_s - 10, 3600)).unwrap())
    }

    /// A connection on which nothing was said yet.
    fn silent(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.take().unwrap().join();
        assert!(outcome.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

/// Whether the other end closes the connection while we wait; what it still says is read and forgotten.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 256];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn an_owner_gets_in_and_is_answered_in_order() {
    let server = Running::start(limits());
    let mut client = server.client().unwrap();
    assert!(matches!(client.ask(&Request::List).unwrap(), Reply::List(list) if list.is_empty()));
    let ids: Vec<u32> = (0..50).map(|instance| client.send(&Request::Show { instance }).unwrap()).collect();
    for (instance, id) in ids.into_iter().enumerate() {
        let (answered, reply) = client.reply().unwrap();
        assert_eq!(answered, id);
        assert!(matches!(reply, Reply::Rejected(why) if why.text() == instance.to_string()));
    }
    drop(client);
    server.wait(|counters, len, _| len == 0 && counters.established == 1 && counters.faults == 0);
}

#[test]
fn a_client_that_has_said_all_is_still_answered() {
    let server = Running::start(limits());
    let mut client = server.client().unwrap();
    client.send(&Request::List).unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(matches!(client.reply().unwrap().1, Reply::List(_)));
    assert!(is_closed(&mut client.stream));
}

#[test]
fn rubbish_closes_its_own_connection_and_no_other() {
    let server = Running::start(limits());
    let mut honest = server.client().unwrap();
    for rubbish in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 70_000], &[0; 3000], &[0, 1, 0]] {
        let mut stream = server.silent();
        // The server may close before all of it is written.
        let _ = stream.write_all(rubbish);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        assert!(is_closed(&mut stream));
    }
    server.wait(|counters, len, _| counters.faults == 4 && len == 1);
    assert!(matches!(honest.ask(&Request::List).unwrap(), Reply::List(_)));
}

#[test]
fn rubbish_after_a_lawful_handshake_closes_the_session() {
    let server = Running::start(limits());
    let mut client = server.client().unwrap();
    client.stream.write_all(&[0x40; 4000]).unwrap();
    assert!(is_closed(&mut client.stream));
    server.wait(|counters, len, _| counters.faults == 1 && len == 0);
}

#[test]
fn who_is_not_vouched_for_is_not_let_in() {
    let server = Running::start(limits());
    let key = AuthorityKey::generate("another").unwrap();
    let wall_s = Now::read(Instant::now()).wall_s;
    let owner = Subject::Owner(parse_principal("198.51.100.7").unwrap());
    let stranger = Arc::new(key.issue_identity(owner, Validity::starting(wall_s - 10, 3600)).unwrap());
    let outcome = BlockingClient::connect(server.address, &stranger, &server.authority)
        .and_then(|mut client| client.ask(&Request::List));
    assert!(outcome.is_err());
    server.wait(|counters, len, _| counters.faults == 1 && counters.established == 0 && len == 0);
}

#[test]
fn who_hangs_or_trickles_in_the_handshake_is_closed_in_time() {
    let server = Running::start(Limits { handshake_timeout_s: 1, ..limits() });
    let mut silent = server.silent();
    let mut trickling = server.silent();
    let start = Instant::now();
    let mut closed = false;
    // A first message of 32 bytes is announced, and comes a byte at a time.
    let message = [0, 32].into_iter().chain(1..32);
    for byte in message.take_while(|_| start.elapsed() < PATIENCE) {
        closed = trickling.write_all(&[byte]).is_err();
        if closed {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(closed && is_closed(&mut silent));
    server.wait(|counters, len, _| counters.timeouts == 2 && len == 0);
}

#[test]
fn who_asks_for_nothing_is_closed_in_time() {
    let server = Running::start(Limits { idle_timeout_s: 1, ..limits() });
    let mut client = server.client().unwrap();
    assert!(is_closed(&mut client.stream));
    server.wait(|counters, len, _| counters.timeouts == 1 && len == 0);
}

#[test]
fn a_flood_of_connections_does_not_keep_an_owner_out() {
    let server = Running::start(limits());
    let mut flood: Vec<TcpStream> = Vec::new();
    for _ in 0..200 {
        flood.push(server.silent());
    }
    server.wait(|counters, _, half_open| counters.accepted == 200 && half_open == 16);
    let mut client = server.client().unwrap();
    assert!(matches!(client.ask(&Request::List).unwrap(), Reply::List(_)));
    // More of the flood does not touch who is in.
    for _ in 0..100 {
        flood.push(server.silent());
    }
    assert!(matches!(client.ask(&Request::List).unwrap(), Reply::List(_)));
    server.wait(|counters, len, half_open| counters.evicted >= 280 && half_open == 16 && len == 17);
}

#[test]
fn sessions_are_bounded_and_who_is_in_stays() {
    let server = Running::start(Limits { sessions: 3, half_open: 3, ..limits() });
    let mut clients: Vec<BlockingClient> = Vec::new();
    for established in 1..=3 {
        clients.push(server.client().unwrap());
        server.wait(|counters, _, _| counters.established == established);
    }
    assert!(server.client().and_then(|mut client| client.ask(&Request::List)).is_err());
    server.wait(|counters, len, _| counters.refused_full == 1 && len == 3);
    clients.pop();
    server.wait(|_, len, _| len == 2);
    server.client().unwrap();
    assert!(matches!(clients[0].ask(&Request::List).unwrap(), Reply::List(_)));
}

#[test]
fn one_peer_has_only_so_many_sessions() {
    let server = Running::start(Limits { sessions_per_peer: 2, ..limits() });
    let _clients = [server.client().unwrap(), server.client().unwrap()];
    assert!(server.client().and_then(|mut client| client.ask(&Request::List)).is_err());
    server.wait(|counters, _, _| counters.refused_peer == 1);
}

#[test]
fn requests_that_wait_for_their_answers_are_bounded() {
    let server = Running::start(limits());
    let mut client = server.client().unwrap();
    for _ in 0..REQUESTS_PENDING_MAX + 5 {
        client.send(&Request::GetPolicy { kind: vinet_trusted::policy::PrincipalKind::EndUser }).unwrap();
    }
    server.wait(|counters, _, _| counters.requests == REQUESTS_PENDING_MAX as u64);
    // A session whose requests wait for us is not idle, and another is served meanwhile.
    assert!(matches!(server.client().unwrap().ask(&Request::List).unwrap(), Reply::List(_)));
    server.wait(|counters, _, _| counters.requests == REQUESTS_PENDING_MAX as u64 + 1);
}

#[test]
fn an_address_in_use_says_so() {
    let poll = Poll::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let key = AuthorityKey::generate("bench").unwrap();
    let router = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
    let identity = Arc::new(key.issue_identity(router, Validity::starting(0, 1 << 40)).unwrap());
    let registry = poll.registry().try_clone().unwrap();
    let mut server = Server::new(door(identity, &key.authority()), limits(), registry, 0);
    let text = server.listen(taken.local_addr().unwrap()).unwrap_err().to_string();
    assert!(text.contains("stop what listens there"), "{text}");
    let text = server.listen("192.0.2.77:7400".parse().unwrap()).unwrap_err().to_string();
    assert!(text.contains("must name addresses of a [[port]]"), "{text}");
}

#[test]
fn an_ipv6_host_is_one_peer_with_its_whole_prefix() {
    assert_eq!(site("2001:db8::1".parse().unwrap()), site("2001:db8::ffff:1".parse().unwrap()));
    assert_ne!(site("2001:db8::1".parse().unwrap()), site("2001:db8:0:1::1".parse().unwrap()));
    assert_eq!(site("::ffff:192.0.2.1".parse().unwrap()), site("192.0.2.1".parse().unwrap()));
}
