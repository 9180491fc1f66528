//! A client that keeps several requests under way on one session.

use super::daemon::Bed;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vinet_session::identity::{Authority, Identity, RouterPeer};
use vinet_session::message::{Reply, Request};
use vinet_session::{Client, ClientEvent, Now};

/// The longest that nothing happens.
const PATIENCE: Duration = Duration::from_secs(20);

/// A session with a router.
pub struct Session {
    stream: TcpStream,
    client: Client,
    origin: Instant,
    /// Who is at the other end.
    pub router: RouterPeer,
}

/// An answer, and how long it took from the first byte of the request.
pub struct Answered {
    /// The answer.
    pub reply: Reply,
    /// From the call that sends to the answer in full.
    pub time: Duration,
}

impl Session {
    /// Connects and finishes the handshake.
    ///
    /// # Errors
    /// The connection breaks, or the router refuses.
    pub fn open(to: SocketAddr, identity: &Arc<Identity>, authority: &Arc<Authority>) -> io::Result<Session> {
        Session::over(TcpStream::connect(to)?, identity, authority)
    }

    /// The same over a connection that is there.
    ///
    /// # Errors
    /// As for [`Session::open`].
    pub fn over(stream: TcpStream, identity: &Arc<Identity>, authority: &Arc<Authority>) -> io::Result<Session> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let origin = Instant::now();
        let mut client = Client::new(Arc::clone(identity), Arc::clone(authority), None, Now::read(origin))
            .map_err(io::Error::other)?;
        let mut stream = stream;
        loop {
            match client.poll(Now::read(origin)).map_err(io::Error::other)? {
                Some(ClientEvent::Established(router)) => {
                    write(&mut stream, &mut client)?;
                    return Ok(Session { stream, client, origin, router });
                }
                Some(ClientEvent::Reply { .. }) => {
                    return Err(io::Error::other("a reply before the handshake is over"));
                }
                None => wait(&mut stream, &mut client)?,
            }
        }
    }

    /// Asks one thing and waits for the answer.
    ///
    /// # Errors
    /// The session ended.
    pub fn ask(&mut self, request: &Request) -> io::Result<(Reply, Duration)> {
        let mut answer = None;
        self.pipeline(std::iter::once(request), 1, |answered| answer = Some((answered.reply, answered.time)))?;
        answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Asks all of `requests`, so many at once, and hands on the answers as they come.
    ///
    /// # Errors
    /// The session ended.
    pub fn pipeline<'a>(
        &mut self,
        requests: impl IntoIterator<Item = &'a Request>,
        window: usize,
        mut answered: impl FnMut(Answered),
    ) -> io::Result<()> {
        let mut requests = requests.into_iter().peekable();
        let mut open: HashMap<u32, Instant> = HashMap::new();
        while requests.peek().is_some() || !open.is_empty() {
            while open.len() < window
                && let Some(request) = requests.next()
            {
                let sent = Instant::now();
                let id = self.client.send(request, Now::read(self.origin)).map_err(io::Error::other)?;
                open.insert(id, sent);
            }
            match self.client.poll(Now::read(self.origin)).map_err(io::Error::other)? {
                Some(ClientEvent::Reply { id, reply }) => {
                    let sent = open.remove(&id).ok_or_else(|| io::Error::other("an answer to nothing"))?;
                    answered(Answered { reply, time: sent.elapsed() });
                }
                Some(ClientEvent::Established(_)) => return Err(io::Error::other("established twice")),
                None => wait(&mut self.stream, &mut self.client)?,
            }
        }
        Ok(())
    }
}

/// Opens a session and gives its account credits.
///
/// # Errors
/// The session ended, or the credits are not taken.
pub fn rich(to: SocketAddr, identity: &Arc<Identity>, bed: &Bed) -> io::Result<Session> {
    let mut session = Session::open(to, identity, &bed.authority)?;
    let credits = bed.credits(identity).map_err(|error| io::Error::other(error.to_string()))?;
    match session.ask(&credits)?.0 {
        Reply::Receipt(_) => Ok(session),
        other => Err(io::Error::other(format!("a deposit is answered {other:?}"))),
    }
}

/// The instance that a receipt is about; or what came instead of the receipt of an install.
///
/// # Errors
/// In words.
pub fn instance(reply: &Reply, session: &Session) -> Result<u64, String> {
    match reply {
        Reply::Receipt(receipt) => {
            let terms = receipt.verify(&session.router).map_err(|error| error.to_string())?;
            terms.installed().map(|installed| installed.instance).ok_or(format!("a receipt of {terms:?}"))
        }
        Reply::Rejected(why) => Err(format!("rejected, {}: {}", why.code(), why.text())),
        other => Err(format!("answered {other:?}")),
    }
}

/// Writes what can be written now.
fn write(stream: &mut TcpStream, client: &mut Client) -> io::Result<()> {
    while !client.transmit().is_empty() {
        match stream.write(client.transmit()) {
            Ok(len) => client.transmitted(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes and reads what can be written and read; waits where neither can.
fn wait(stream: &mut TcpStream, client: &mut Client) -> io::Result<()> {
    let mut buffer = [0u8; 64 * 1024];
    loop {
        write(stream, client)?;
        let room = client.room().min(buffer.len());
        match stream.read(&mut buffer[..room]) {
            Ok(0) if room > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                client.receive(&buffer[..len]);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) => {}
        }
        let mut wanted = PollFlags::POLLIN;
        if !client.transmit().is_empty() {
            wanted |= PollFlags::POLLOUT;
        }
        let mut fds = [PollFd::new(stream.as_fd(), wanted)];
        let patience = PollTimeout::try_from(PATIENCE).map_err(io::Error::other)?;
        match poll(&mut fds, patience) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
