//! Sealed requests: what travels on a connection for which the router has no session.
//!
//! Every request brings its ticket, and is sealed under a key of its own: derived from the ticket's secret, the request's
//! number and a salt that the client draws, so that no key seals two requests even where a client counts wrongly. The
//! reply is sealed under another key derived from the same. A request's first frame is
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the version, 1 |
//! | [`TICKET_BYTES`] | the ticket |
//! | 8 | the number of the request in the ticket's session |
//! | 8 | the router's clock when it was sent, in milliseconds |
//! | 16 | the salt |
//! | 4 | the bytes of the message |
//! | 1 to 16384, and 16 | the first piece of the message, sealed; all before it is authenticated with it |
//!
//! and the frames of the other pieces follow, each a sealed piece. A reply's first frame has the number (8 bytes) and the
//! bytes of the message (4) before its first piece. A frame of one byte, zero, is the router's refusal: what was asked on this
//! connection and not answered was not done, and a handshake is needed. It is not authenticated, and tells nothing: it is
//! the same for a ticket of another router, one that is too old or was changed, a request that was repeated or comes too
//! late, a revoked key and a full window.
//!
//! A frame's length tells a sealed request, at least 185 bytes, from the first message of a handshake, exactly 32.

use crate::Now;
use crate::digest::{Digest, Domain};
use crate::door::Door;
use crate::error::{SealedFault, SessionError};
use crate::frame::{LENGTH_BYTES, push_frame};
use crate::identity::Ownership;
use crate::limits::{MESSAGE_BYTES_MAX, PIECE_BYTES_MAX};
use crate::ticket::{TAG_BYTES, TICKET_BYTES, Ticket};
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use std::collections::HashMap;
use std::sync::Arc;

const SEALED_VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
/// What stands before the first piece of a request.
const REQUEST_HEAD_BYTES: usize = 1 + TICKET_BYTES + 8 + 8 + SALT_BYTES + 4;
/// What stands before the first piece of a reply.
const REPLY_HEAD_BYTES: usize = 8 + 4;
/// The fewest and most bytes of a request's first frame, without its length.
pub(crate) const REQUEST_BYTES_MIN: usize = REQUEST_HEAD_BYTES + 1 + TAG_BYTES;
pub(crate) const REQUEST_BYTES_MAX: usize = REQUEST_HEAD_BYTES + PIECE_BYTES_MAX + TAG_BYTES;
const REPLY_BYTES_MIN: usize = REPLY_HEAD_BYTES + 1 + TAG_BYTES;
const REPLY_BYTES_MAX: usize = REPLY_HEAD_BYTES + PIECE_BYTES_MAX + TAG_BYTES;
/// The router's refusal.
const REFUSAL: [u8; 1] = [0];

/// The keys of one request and of its reply.
struct Keys {
    request: [u8; 32],
    reply: [u8; 32],
}

impl Keys {
    fn derive(secret: &[u8; 32], number: u64, salt: &[u8; SALT_BYTES]) -> Keys {
        let key = |domain| Digest::new(domain).field(secret).number(number).field(salt).finish();
        Keys { request: key(Domain::SealedRequest), reply: key(Domain::SealedReply) }
    }
}

/// One message under one key: its pieces are numbered by the nonce.
struct Pieces {
    cipher: ChaCha20Poly1305,
    next: u64,
}

impl Pieces {
    fn new(key: &[u8; 32]) -> Pieces {
        Pieces { cipher: ChaCha20Poly1305::new(key.into()), next: 0 }
    }
    fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        nonce
    }
    /// Appends the frames of `message`, whose first begins with `head`.
    fn seal(mut self, head: &[u8], message: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        for (number, piece) in message.chunks(PIECE_BYTES_MAX).enumerate() {
            let head = if number == 0 { head } else { &[] };
            let start = out.len() + LENGTH_BYTES + head.len();
            out.extend_from_slice(&((head.len() + piece.len() + TAG_BYTES) as u16).to_be_bytes());
            out.extend_from_slice(head);
            out.extend_from_slice(piece);
            let nonce = self.nonce();
            let tag = self
                .cipher
                .encrypt_in_place_detached(&nonce.into(), head, &mut out[start..])
                .map_err(|_| SessionError::Noise("a piece could not be sealed".to_owned()))?;
            out.extend_from_slice(&tag);
        }
        Ok(())
    }
    /// The piece in `sealed`, which was sealed next and after `head`.
    fn open(&mut self, head: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
        let mut piece = body.to_vec();
        let nonce = self.nonce();
        self.cipher.decrypt_in_place_detached(&nonce.into(), head, &mut piece, tag.into()).ok()?;
        Some(piece)
    }
}

/// A message that arrives piece by piece, and what is known about it.
struct Arriving<T> {
    pieces: Pieces,
    message: Vec<u8>,
    len: usize,
    about: T,
}

impl<T> Arriving<T> {
    fn next_piece_len(&self) -> usize {
        (self.len - self.message.len()).min(PIECE_BYTES_MAX)
    }
    /// The one length of the frame that comes next.
    fn lengths(&self) -> (usize, usize) {
        let len = self.next_piece_len() + TAG_BYTES;
        (len, len)
    }
    fn is_whole(&self) -> bool {
        self.message.len() == self.len
    }
}

/// Whether a message of `len` bytes has a first piece of this many.
fn fits(len: usize, piece_len: usize) -> bool {
    (1..=MESSAGE_BYTES_MAX).contains(&len) && piece_len == len.min(PIECE_BYTES_MAX)
}

/// What a router needs for the reply to one request, and forgets with it.
pub(crate) struct Debt {
    number: u64,
    key: [u8; 32],
}

/// A request that arrived in full.
pub(crate) struct Arrived {
    pub(crate) owner: Ownership,
    pub(crate) message: Vec<u8>,
    pub(crate) debt: Debt,
}

/// The router's end of a connection with sealed requests.
pub(crate) struct ServerLane {
    door: Arc<Door>,
    arriving: Option<Arriving<(Ownership, Debt)>>,
    /// The replies that are owed: by the handle that stands for the request, with the id in its message.
    debts: HashMap<u32, (u32, Debt)>,
    last_handle: u32,
    is_authentic: bool,
}

impl ServerLane {
    pub(crate) fn new(door: Arc<Door>) -> ServerLane {
        ServerLane { door, arriving: None, debts: HashMap::new(), last_handle: 0, is_authentic: false }
    }
    pub(crate) fn lengths(&self) -> (usize, usize) {
        self.arriving.as_ref().map_or((REQUEST_BYTES_MIN, REQUEST_BYTES_MAX), Arriving::lengths)
    }
    pub(crate) fn is_inside_message(&self) -> bool {
        self.arriving.is_some()
    }
    /// The bytes of a message that has not arrived in full.
    pub(crate) fn held(&self) -> usize {
        self.arriving.as_ref().map_or(0, |arriving| arriving.message.capacity())
    }
    /// Whether a request on this connection was found authentic.
    pub(crate) fn is_authentic(&self) -> bool {
        self.is_authentic
    }

    /// Opens the next frame; gives the request that it ends, if it ends one.
    pub(crate) fn open(&mut self, frame: &[u8], now: Now) -> Result<Option<Arrived>, SealedFault> {
        let mut arriving = match self.arriving.take() {
            None => self.begin(frame, now)?,
            Some(mut arriving) => {
                let piece = arriving.pieces.open(&[], frame).ok_or_else(|| self.door.refused())?;
                arriving.message.extend_from_slice(&piece);
                arriving
            }
        };
        if arriving.is_whole() {
            let (owner, debt) = arriving.about;
            return Ok(Some(Arrived { owner, message: std::mem::take(&mut arriving.message), debt }));
        }
        self.arriving = Some(arriving);
        Ok(None)
    }

    fn begin(&mut self, frame: &[u8], now: Now) -> Result<Arriving<(Ownership, Debt)>, SealedFault> {
        let refused = || self.door.refused();
        let (head, sealed) = frame.split_first_chunk::<REQUEST_HEAD_BYTES>().ok_or_else(refused)?;
        let (&[version], rest) = head.split_first_chunk::<1>().ok_or_else(refused)?;
        let (ticket, rest) = rest.split_first_chunk::<TICKET_BYTES>().ok_or_else(refused)?;
        let (number, rest) = rest.split_first_chunk::<8>().ok_or_else(refused)?;
        let (sent_ms, rest) = rest.split_first_chunk::<8>().ok_or_else(refused)?;
        let (salt, rest) = rest.split_first_chunk::<SALT_BYTES>().ok_or_else(refused)?;
        let len = rest.first_chunk::<4>().map_or(0, |len| u32::from_be_bytes(*len) as usize);
        if version != SEALED_VERSION || !fits(len, sealed.len().saturating_sub(TAG_BYTES)) {
            return Err(refused());
        }
        let number = u64::from_be_bytes(*number);
        let state = self.door.open(ticket, u64::from_be_bytes(*sent_ms), now)?;
        let keys = Keys::derive(&state.secret, number, salt);
        let mut pieces = Pieces::new(&keys.request);
        let message = pieces.open(head, sealed).ok_or_else(refused)?;
        self.door.take(&state, number, now)?;
        self.is_authentic = true;
        let debt = Debt { number, key: keys.reply };
        Ok(Arriving { pieces, message, len, about: (state.owner, debt) })
    }

    /// Notes that a request awaits its reply; gives the handle that stands for it.
    pub(crate) fn owe(&mut self, id: u32, debt: Debt) -> u32 {
        // Handles come round after 2^32 requests; one that still stands for another is passed over.
        loop {
            self.last_handle = self.last_handle.wrapping_add(1).max(1);
            if !self.debts.contains_key(&self.last_handle) {
                break;
            }
        }
        self.debts.insert(self.last_handle, (id, debt));
        self.last_handle
    }

    /// Appends the reply to a request: `encode` makes its message from the request's id.
    pub(crate) fn reply(
        &mut self,
        handle: u32,
        encode: impl FnOnce(u32) -> Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        let (id, debt) = self.debts.remove(&handle).ok_or(SessionError::NotEstablished)?;
        if self.debts.is_empty() {
            // A connection that awaits nothing keeps no table.
            self.debts = HashMap::new();
        }
        let message = encode(id);
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(SessionError::OwnMessageTooLong { len: message.len(), max: MESSAGE_BYTES_MAX });
        }
        let mut head = [0; REPLY_HEAD_BYTES];
        head[..8].copy_from_slice(&debt.number.to_be_bytes());
        head[8..].copy_from_slice(&(message.len() as u32).to_be_bytes());
        Pieces::new(&debt.key).seal(&head, &message, out)
    }

    /// Appends the refusal, behind which the connection closes.
    pub(crate) fn refuse(out: &mut Vec<u8>) {
        push_frame(out, &REFUSAL);
    }
}

/// The client's end of such a connection.
pub(crate) struct ClientLane {
    pub(crate) ticket: Ticket,
    arriving: Option<Arriving<()>>,
    /// The keys of the replies that have not come, by the request's number.
    awaited: HashMap<u64, [u8; 32]>,
}

impl ClientLane {
    pub(crate) fn new(ticket: Ticket) -> ClientLane {
        ClientLane { ticket, arriving: None, awaited: HashMap::new() }
    }
    pub(crate) fn lengths(&self) -> (usize, usize) {
        self.arriving.as_ref().map_or((REFUSAL.len(), REPLY_BYTES_MAX), Arriving::lengths)
    }
    pub(crate) fn is_inside_message(&self) -> bool {
        self.arriving.is_some()
    }

    /// Appends a request, and counts it.
    pub(crate) fn request(&mut self, message: &[u8], out: &mut Vec<u8>, now: Now) -> Result<(), SessionError> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| SessionError::NoEntropy)?;
        self.salted(message, salt, out, now)
    }

    /// The same with a salt that was drawn.
    pub(crate) fn salted(
        &mut self,
        message: &[u8],
        salt: [u8; SALT_BYTES],
        out: &mut Vec<u8>,
        now: Now,
    ) -> Result<(), SessionError> {
        let number = self.ticket.next;
        self.ticket.next = number.checked_add(1).ok_or(SessionError::Closed)?;
        let keys = Keys::derive(&self.ticket.grant.secret, number, &salt);
        let mut head = Vec::with_capacity(REQUEST_HEAD_BYTES);
        head.push(SEALED_VERSION);
        head.extend_from_slice(&self.ticket.grant.ticket);
        head.extend_from_slice(&number.to_be_bytes());
        head.extend_from_slice(&self.ticket.clock_ms(now.wall_s).to_be_bytes());
        head.extend_from_slice(&salt);
        head.extend_from_slice(&(message.len() as u32).to_be_bytes());
        Pieces::new(&keys.request).seal(&head, message, out)?;
        self.awaited.insert(number, keys.reply);
        Ok(())
    }

    /// Opens the next frame; gives the message of the reply that it ends, if it ends one.
    pub(crate) fn open(&mut self, frame: &[u8]) -> Result<Option<Vec<u8>>, SessionError> {
        let mut arriving = match self.arriving.take() {
            None => self.begin(frame)?,
            Some(mut arriving) => {
                let sequence = arriving.pieces.next;
                let piece = arriving.pieces.open(&[], frame).ok_or(SessionError::Decrypt { sequence })?;
                arriving.message.extend_from_slice(&piece);
                arriving
            }
        };
        if arriving.is_whole() {
            return Ok(Some(std::mem::take(&mut arriving.message)));
        }
        self.arriving = Some(arriving);
        Ok(None)
    }

    fn begin(&mut self, frame: &[u8]) -> Result<Arriving<()>, SessionError> {
        if frame == REFUSAL {
            return Err(SessionError::TicketRefused);
        }
        let short = || SessionError::FrameLength { len: frame.len(), min: REPLY_BYTES_MIN, max: REPLY_BYTES_MAX };
        if frame.len() < REPLY_BYTES_MIN {
            return Err(short());
        }
        let (head, sealed) = frame.split_first_chunk::<REPLY_HEAD_BYTES>().ok_or_else(short)?;
        let (number, len) = head.split_first_chunk::<8>().ok_or_else(short)?;
        let len = len.first_chunk::<4>().map_or(0, |len| u32::from_be_bytes(*len) as usize);
        // A reply to nothing, or a second one, has no key to be opened with.
        let key = self.awaited.remove(&u64::from_be_bytes(*number)).ok_or(SessionError::Decrypt { sequence: 0 })?;
        if !fits(len, sealed.len().saturating_sub(TAG_BYTES)) {
            return Err(SessionError::BadFrame);
        }
        let mut pieces = Pieces::new(&key);
        let message = pieces.open(head, sealed).ok_or(SessionError::Decrypt { sequence: 0 })?;
        Ok(Arriving { pieces, message, len, about: () })
    }
}

#[cfg(test)]
mod tests;
