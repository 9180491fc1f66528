//! Not covered here: attackers with keys of their own; `vinet-session` has tests for thieves and relays. Keys are drawn
//! anew for every run, so an input repeats what is done to the bytes, not the bytes.
//!
//! An input is a script: what the two ends send, and what the wire between them does to it: carry, cut, flip, drop,
//! repeat, insert. Whatever it does, no end panics or keeps more than its bounds; an end is established only if both
//! handshakes arrived as they were sent; the router gets a prefix of the client's requests, in order, and the client a
//! prefix of the router's replies.

use crate::message::{members, replies, requests};
use std::sync::{Arc, OnceLock};
use vinet_session::limits::{BACKLOG_BYTES_MAX, MESSAGE_BYTES_MAX};
use vinet_session::{
    Authority, Client, ClientEvent, Identity, Now, Reply, Request, Server, ServerEvent, SessionError, Subject, Validity,
};

/// The most steps of a script.
const STEPS_MAX: usize = 200;
/// The bytes of the client's first frame: a length and an ephemeral key.
const HELLO_FRAME_BYTES: usize = 34;

const CARRY: u8 = 0;
const FLIP: u8 = 1;
const DROP: u8 = 2;
const REPEAT: u8 = 3;
const INSERT: u8 = 4;
const SEND: u8 = 5;
const REPLY: u8 = 6;
const WAIT: u8 = 7;
/// The bit of a step that turns it round: from the router to the client.
const DOWN: u8 = 8;

/// Scripts that do no harm, for damage to do some.
#[must_use]
pub fn corpus() -> Vec<Vec<u8>> {
    let handshake = [CARRY, 255, CARRY | DOWN, 255, CARRY, 255];
    let ask = |kind: u8| [SEND, kind, CARRY, 255, REPLY, kind, CARRY | DOWN, 255];
    let mut corpus = vec![handshake.to_vec()];
    for kind in 0..8 {
        corpus.push([&handshake[..], &ask(kind), &ask(kind + 1)].concat());
    }
    let trickle: Vec<u8> = (0..60).flat_map(|i| [CARRY | if i % 3 == 1 { DOWN } else { 0 }, 2]).collect();
    corpus.push([&trickle[..], &ask(2)].concat());
    corpus.push(
        [&handshake[..], &[SEND, 0, SEND, 1, SEND, 2, CARRY, 255, REPLY, 0, REPLY, 1, CARRY | DOWN, 255]].concat(),
    );
    corpus
}

struct Parts {
    authority: Arc<Authority>,
    owner: Arc<Identity>,
    router: Arc<Identity>,
}

fn parts() -> &'static Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| {
        let authority = &members().authority;
        let validity = Validity { not_before_s: 0, not_after_s: u64::MAX };
        let issue =
            |subject: &Subject| Arc::new(authority.issue_identity(subject.clone(), validity).expect("an identity"));
        Parts {
            authority: Arc::new(authority.authority()),
            owner: issue(members().owner.certificate().subject()),
            router: issue(members().router.certificate().subject()),
        }
    })
}

/// One direction: what was sent, how much of it the wire has looked at, and what arrived.
#[derive(Default)]
struct Direction {
    sent: Vec<u8>,
    looked: usize,
    arrived: Vec<u8>,
}

impl Direction {
    /// Whether the first `len` bytes arrived as they were sent.
    fn is_faithful(&self, len: usize) -> bool {
        self.arrived.len() >= len && self.sent.len() >= len && self.arrived[..len] == self.sent[..len]
    }
    /// The bytes of the frame at `at`, with its length.
    fn frame_len(&self, at: usize) -> usize {
        2 + usize::from(u16::from_be_bytes([self.sent[at], self.sent[at + 1]]))
    }
}

struct Stage {
    client: Client,
    server: Server,
    up: Direction,
    down: Direction,
    now: Now,
    requests: Vec<(u32, Request)>,
    requests_seen: usize,
    replies: Vec<(u32, Reply)>,
    replies_seen: usize,
    client_error: Option<SessionError>,
    server_error: Option<SessionError>,
}

/// Plays the script `data`; whether the router saw a request.
///
/// # Panics
/// Where something misbehaves.
pub fn target(data: &[u8]) -> bool {
    let parts = parts();
    let now = Now { wall_s: 1, mono_ms: 0 };
    let mut stage = Stage {
        client: Client::new(parts.owner.clone(), parts.authority.clone(), None, now).expect("a client"),
        server: Server::new(parts.router.clone(), parts.authority.clone(), now).expect("a server"),
        up: Direction::default(),
        down: Direction::default(),
        now,
        requests: Vec::new(),
        requests_seen: 0,
        replies: Vec::new(),
        replies_seen: 0,
        client_error: None,
        server_error: None,
    };
    for step in data.chunks_exact(2).take(STEPS_MAX) {
        stage.step(step[0], step[1]);
        stage.check();
    }
    stage.requests_seen > 0
}

impl Stage {
    fn step(&mut self, step: u8, arg: u8) {
        let n = usize::from(arg);
        match step & 7 {
            SEND => {
                let pool = requests();
                let request = pool[n % pool.len()].clone();
                if let Ok(id) = self.client.send(&request, self.now) {
                    self.requests.push((id, request));
                }
            }
            REPLY => {
                let pool = replies();
                let id = self.replies.len() as u32 + 1;
                let reply = pool[n % pool.len()].clone();
                if self.server.reply(id, &reply, self.now).is_ok() {
                    self.replies.push((id, reply));
                }
            }
            WAIT => self.now.mono_ms += 50 * u64::from(arg),
            action => self.wire(action, n, step & DOWN != 0),
        }
        self.collect();
        self.poll();
    }

    /// Notes what the ends have to send.
    fn collect(&mut self) {
        self.up.sent.extend_from_slice(self.client.transmit());
        self.client.transmitted(usize::MAX);
        self.down.sent.extend_from_slice(self.server.transmit());
        self.server.transmitted(usize::MAX);
    }

    /// Does something to the next bytes of one direction.
    fn wire(&mut self, action: u8, n: usize, is_down: bool) {
        self.collect();
        let direction = if is_down { &mut self.down } else { &mut self.up };
        let len = (direction.sent.len() - direction.looked).min(if n == 255 { usize::MAX } else { 1 + 3 * n });
        let mut bytes = direction.sent[direction.looked..direction.looked + len].to_vec();
        match action {
            FLIP => {
                if let Some(byte) = bytes.last_mut() {
                    *byte ^= 1 << (n % 8);
                }
            }
            DROP => bytes.clear(),
            REPEAT => bytes.extend_from_within(..),
            INSERT => bytes.push(n as u8),
            _ => {}
        }
        let taken = if is_down { self.client.receive(&bytes) } else { self.server.receive(&bytes) };
        direction.arrived.extend_from_slice(&bytes[..taken]);
        // What an end does not take now, the wire offers again; what the wire did to it counts as done.
        direction.looked += if taken == bytes.len() { len } else { taken.min(len) };
    }

    fn poll(&mut self) {
        while self.server_error.is_none() {
            match self.server.poll(self.now) {
                Ok(None) => break,
                Ok(Some(ServerEvent::Established(owner))) => {
                    assert_eq!(owner.key(), parts().owner.public());
                    let handshake_len = HELLO_FRAME_BYTES + self.up.frame_len(HELLO_FRAME_BYTES);
                    assert!(
                        self.up.is_faithful(handshake_len),
                        "the router is established by other bytes than were sent"
                    );
                    assert!(self.down.is_faithful(self.down.frame_len(0)), "the client was told something else");
                }
                Ok(Some(ServerEvent::Request { id, request })) => {
                    let expected = self.requests.get(self.requests_seen);
                    assert_eq!(Some(&(id, request)), expected, "a request that was not the next one sent");
                    self.requests_seen += 1;
                }
                Err(error) => self.server_error = Some(error),
            }
        }
        while self.client_error.is_none() {
            match self.client.poll(self.now) {
                Ok(None) => break,
                Ok(Some(ClientEvent::Established(router))) => {
                    assert_eq!(router.id(), parts().router.public());
                    assert!(self.down.is_faithful(self.down.frame_len(0)), "the client is established by other bytes");
                    assert!(self.up.is_faithful(HELLO_FRAME_BYTES), "the router was told something else");
                }
                Ok(Some(ClientEvent::Reply { id, reply })) => {
                    let expected = self.replies.get(self.replies_seen);
                    assert_eq!(Some(&(id, reply)), expected, "a reply that was not the next one sent");
                    self.replies_seen += 1;
                }
                Err(error) => self.client_error = Some(error),
            }
        }
    }

    fn check(&self) {
        // A first frame of the length of a sealed request is read as one, and never is one here.
        let room_max = if self.server.is_established() { 2 * 16_500 } else { 16_600 };
        assert!(self.server.room() <= room_max);
        for waiting in [self.client.transmit().len(), self.server.transmit().len()] {
            assert!(waiting <= BACKLOG_BYTES_MAX + 2 * MESSAGE_BYTES_MAX);
        }
        if let Some(error) = &self.server_error {
            assert!(!error.to_string().is_empty());
            assert_eq!(self.server.room(), 0, "a session that is over takes no more");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn whatever_the_wire_does_only_what_was_sent_arrives() {
        crate::run("session", &super::corpus(), 6000, super::target);
    }
}
