//! An idle session with all that the control core keeps for it: its connection over a real socket.

use super::{Testbed, broken};
use crate::heap;
use crate::run::PerfError;
use mio::{Events, Poll};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vinet_control::config::Limits;
use vinet_control::server::{Desk, Server, SessionId, Stamp};
use vinet_session::identity::Ownership;
use vinet_session::message::{Reply, Request};
use vinet_session::{Client, Door, Now};

const PATIENCE: Duration = Duration::from_secs(30);

/// Answers everything with an empty list.
struct Lists;

impl Desk for Lists {
    fn request(&mut self, _: SessionId, _: u32, _: &Ownership, _: Request, _: Stamp, _: Now) -> Option<Reply> {
        Some(Reply::List(Vec::new()))
    }
}

struct Core {
    poll: Poll,
    events: Events,
    server: Server,
    address: SocketAddr,
    origin: Instant,
}

impl Core {
    fn turn(&mut self) -> Result<(), PerfError> {
        self.poll.poll(&mut self.events, Some(Duration::ZERO)).map_err(|error| broken(&error))?;
        for event in &self.events {
            self.server.event(event);
        }
        self.server.turn(&mut Lists, Now::read(self.origin));
        Ok(())
    }

    /// Connects, makes a handshake, asks one thing, and keeps the connection alone.
    fn connect(&mut self, testbed: &Testbed, number: usize) -> Result<TcpStream, PerfError> {
        let failed = |error: std::io::Error| broken(&error);
        let owner = Arc::clone(&testbed.owners[number % testbed.owners.len()]);
        let started = Instant::now();
        let now = || Now::read(started);
        let mut stream = TcpStream::connect(self.address).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        let client = Client::new(owner, Arc::clone(&testbed.authority), None, now());
        let mut client = client.map_err(|error| broken(&error))?;
        let (mut buffer, mut happened) = ([0; 4096], 0);
        while happened < 2 {
            if started.elapsed() > PATIENCE {
                return Err(broken(&"a connection was not answered in time"));
            }
            while !client.transmit().is_empty() {
                let written = stream.write(client.transmit()).map_err(failed)?;
                client.transmitted(written);
            }
            self.turn()?;
            match stream.read(&mut buffer) {
                Ok(read) => {
                    client.receive(&buffer[..read]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(broken(&error)),
            }
            while client.poll(now()).map_err(|error| broken(&error))?.is_some() {
                happened += 1;
                if happened == 1 {
                    client.send(&Request::List, now()).map_err(|error| broken(&error))?;
                }
            }
        }
        Ok(stream)
    }
}

/// Bytes that the control core keeps for each of so many sessions that have asked once and say nothing more.
pub fn idle_bytes(testbed: &Testbed, count: usize) -> Result<f64, PerfError> {
    let origin = Instant::now();
    let door = Door::new(Arc::clone(&testbed.router), Arc::clone(&testbed.authority))
        .and_then(|door| door.with_sealing(Now::read(origin)))
        .map_err(|error| broken(&error))?;
    let limits = Limits {
        sessions: count + 1,
        half_open: 64,
        sessions_per_peer: count + 1,
        handshake_timeout_s: 600,
        idle_timeout_s: 600,
        checks_queued: 1,
        programs: 1,
        programs_per_owner: 1,
        lemmas: 1,
        lemmas_per_owner: 1,
    };
    let poll = Poll::new().map_err(|error| broken(&error))?;
    let registry = poll.registry().try_clone().map_err(|error| broken(&error))?;
    let mut server = Server::new(Arc::new(door), limits, registry, 0);
    let address = server.listen(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(|error| broken(&error))?;
    let mut core = Core { poll, events: Events::with_capacity(64), server, address, origin };
    // What the first session brings for all.
    let mut streams = Vec::with_capacity(count + 1);
    streams.push(core.connect(testbed, 0)?);
    heap::count_held();
    for number in 0..count {
        streams.push(core.connect(testbed, number)?);
    }
    for _ in 0..10 {
        core.turn()?;
    }
    let bytes = heap::held() as f64 / count as f64;
    heap::pause_counting();
    if core.server.len() != count + 1 {
        return Err(broken(&format!("of {} sessions {} are left", count + 1, core.server.len())));
    }
    Ok(bytes)
}
