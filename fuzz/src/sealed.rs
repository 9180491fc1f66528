//! Not covered here: thieves of a ticket's secret; `vinet-session` has tests for tickets that are made up or foreign. Keys are
//! drawn anew for every run, so an input repeats what is done to the bytes, not the bytes.
//!
//! An input is a script: clients seal requests under two tickets, and the wire brings their bytes, whole, in parts, changed
//! or again, to connections of one router, while time goes on. Whatever it does, no end panics or keeps more than its
//! bounds, each request is taken at most once, and as it was sealed.

use crate::message::members;
use std::sync::{Arc, OnceLock};
use vinet_session::message::NewLemma;
use vinet_session::{
    Authority, Client, ClientEvent, Door, Identity, Now, Reply, Request, Server, ServerEvent, Ticket, Validity,
};

/// The most steps of a script.
const STEPS_MAX: usize = 120;
/// Connections that are open at once.
const CONNECTIONS: usize = 3;

const SEAL: u8 = 0;
const BRING: u8 = 1;
const PART: u8 = 2;
const CHANGE: u8 = 3;
const CLOSE: u8 = 4;
const WAIT: u8 = 5;
const ANSWER: u8 = 6;

/// Scripts that do no harm, for damage to do some.
#[must_use]
pub fn corpus() -> Vec<Vec<u8>> {
    let one = |kind: u8| [SEAL, kind, BRING, 0, ANSWER, 0, CLOSE, 0];
    let mut corpus: Vec<Vec<u8>> = (0..8).map(|kind| [one(kind), one(kind + 1)].concat()).collect();
    corpus.push([SEAL, 0, SEAL, 1, SEAL, 2, BRING, 2, CLOSE, 0, BRING, 0, CLOSE, 0, BRING, 1, ANSWER, 0].to_vec());
    corpus.push([SEAL, 0, PART, 0, PART, 0, PART, 0, PART, 0, ANSWER, 0, CLOSE, 0, WAIT, 5, BRING, 0].to_vec());
    corpus.push(
        [SEAL, 0, SEAL, 3, CHANGE, 0, CLOSE, 0, BRING, 1, BRING, 1, WAIT, 40, SEAL, 1, CLOSE, 0, BRING, 2].to_vec(),
    );
    corpus
}

struct Parts {
    authority: Arc<Authority>,
    router: Arc<Identity>,
    owners: [Arc<Identity>; 2],
}

fn parts() -> &'static Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| {
        let authority = &members().authority;
        let validity = Validity { not_before_s: 0, not_after_s: u64::MAX };
        let issue = |identity: &Identity| {
            let subject = identity.certificate().subject().clone();
            Arc::new(authority.issue_identity(subject, validity).expect("an identity"))
        };
        Parts {
            authority: Arc::new(authority.authority()),
            router: issue(&members().router),
            owners: [issue(&members().owner), issue(&members().owner)],
        }
    })
}

/// A request that was sealed.
struct Sealed {
    bytes: Vec<u8>,
    /// Under which ticket.
    owner: usize,
    request: Request,
    /// How much of it was brought in parts.
    brought: usize,
    /// How often it was taken.
    taken: usize,
}

/// The router, its connections, and what was sealed.
struct Stage {
    door: Arc<Door>,
    connections: [Server; CONNECTIONS],
    tickets: [Ticket; 2],
    sealed: Vec<Sealed>,
    owed: Vec<(usize, u32)>,
    now: Now,
}

fn ticket(door: &Arc<Door>, owner: &Arc<Identity>, now: Now) -> Ticket {
    let mut client = Client::new(owner.clone(), parts().authority.clone(), None, now).expect("a client");
    let mut server = Server::at(door.clone(), now);
    for _ in 0..8 {
        let (up, down) = (client.transmit().to_vec(), server.transmit().to_vec());
        client.transmitted(up.len());
        server.transmitted(down.len());
        server.receive(&up);
        client.receive(&down);
        let at_server = server.poll(now).expect("an honest client");
        assert!(!matches!(at_server, Some(ServerEvent::Request { .. })), "the session answers for tickets");
        match client.poll(now).expect("an honest router") {
            Some(ClientEvent::Established(_)) => {
                client.send(&Request::Ticket, now).expect("an established session");
            }
            Some(ClientEvent::Reply { reply: Reply::Ticket(grant), .. }) => {
                return client.keep(&grant, now).expect("an established session");
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    panic!("no ticket came");
}

/// Plays the script `data`; whether the router took a request.
///
/// # Panics
/// Where something misbehaves.
pub fn target(data: &[u8]) -> bool {
    let now = Now { wall_s: 1, mono_ms: 0 };
    let door = Door::new(parts().router.clone(), parts().authority.clone()).expect("a router");
    let door = Arc::new(door.with_sealing(now).expect("random bytes"));
    let mut stage = Stage {
        connections: std::array::from_fn(|_| Server::at(door.clone(), now)),
        tickets: std::array::from_fn(|owner| ticket(&door, &parts().owners[owner], now)),
        door,
        sealed: Vec::new(),
        owed: Vec::new(),
        now,
    };
    for step in data.chunks_exact(2).take(STEPS_MAX) {
        stage.step(step[0], usize::from(step[1]));
    }
    stage.sealed.iter().any(|sealed| sealed.taken > 0)
}

impl Stage {
    fn step(&mut self, step: u8, arg: usize) {
        let connection = usize::from(step >> 4) % CONNECTIONS;
        match step & 7 {
            SEAL => self.seal(arg),
            BRING => self.bring(connection, arg, |bytes, _| bytes.to_vec()),
            PART if !self.sealed.is_empty() => {
                let number = arg % self.sealed.len();
                let Sealed { bytes, brought, .. } = &mut self.sealed[number];
                let piece = bytes[*brought..(*brought + bytes.len() / 4 + 1).min(bytes.len())].to_vec();
                *brought = (*brought + piece.len()) % bytes.len();
                self.push(connection, &piece);
            }
            CHANGE => self.bring(connection, arg, |bytes, arg| {
                let mut bytes = bytes.to_vec();
                let at = (arg * 31) % bytes.len();
                bytes[at] ^= 1 << (arg % 8);
                bytes
            }),
            CLOSE => {
                self.owed.retain(|(at, _)| *at != connection);
                self.connections[connection] = Server::at(self.door.clone(), self.now);
            }
            WAIT => {
                self.now.mono_ms += 1000 * arg as u64;
                self.now.wall_s += arg as u64;
            }
            ANSWER => {
                for (at, handle) in std::mem::take(&mut self.owed) {
                    let answered = self.connections[at].reply(handle, &Reply::List(Vec::new()), self.now);
                    assert!(answered.is_ok() || !self.connections[at].is_established());
                }
            }
            _ => {}
        }
    }

    /// A request of one of the two that is like no other: a short one, or one of two frames.
    fn seal(&mut self, arg: usize) {
        let number = self.sealed.len() as u64;
        let request = match arg % 3 {
            0 => Request::AddLemma(NewLemma { lemma: number.to_be_bytes().to_vec(), proof: vec![0; 16_384] }),
            _ => Request::Show { instance: number },
        };
        let ticket = &mut self.tickets[arg % 2];
        let mut client = Client::resume(ticket.clone(), self.now);
        client.send(&request, self.now).expect("it is small enough");
        *ticket = client.ticket().expect("it asks with one").clone();
        self.sealed.push(Sealed { bytes: client.transmit().to_vec(), owner: arg % 2, request, brought: 0, taken: 0 });
    }

    fn bring(&mut self, connection: usize, arg: usize, change: impl Fn(&[u8], usize) -> Vec<u8>) {
        if !self.sealed.is_empty() {
            let bytes = change(&self.sealed[arg % self.sealed.len()].bytes, arg);
            self.push(connection, &bytes);
        }
    }

    /// Brings bytes to a connection, and looks at what it makes of them.
    fn push(&mut self, connection: usize, mut bytes: &[u8]) {
        let server = &mut self.connections[connection];
        loop {
            let taken = server.receive(bytes);
            bytes = &bytes[taken..];
            let is_opening = !server.is_established();
            match server.poll(self.now) {
                Ok(Some(ServerEvent::Request { id, request })) => {
                    self.owed.push((connection, id));
                    let sealed = self.sealed.iter_mut().find(|sealed| sealed.request == request);
                    let sealed = sealed.expect("a request that was never sealed");
                    sealed.taken += 1;
                    assert_eq!(sealed.taken, 1, "{request:?} is taken twice");
                    let owner = parts().owners[sealed.owner].public();
                    assert_eq!(server.peer().map(|peer| peer.key()), Some(owner), "taken as another's");
                }
                Ok(Some(ServerEvent::Established(_))) => panic!("nobody made a handshake"),
                Ok(None) if taken == 0 => return,
                Ok(None) => {}
                Err(_) => {
                    assert_eq!(server.room(), 0, "a connection that is over takes no more");
                    return;
                }
            }
            if is_opening {
                assert!(server.held_bytes() <= 64 * 1024, "{} bytes for nobody", server.held_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn whatever_is_done_to_sealed_requests_each_is_taken_once_at_most() {
        crate::run("sealed", &super::corpus(), 60, super::target);
    }
}
