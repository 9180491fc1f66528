//! Frames: a length of two bytes, the higher first, then a Noise message of so many bytes.
//!
//! After the handshake a frame's plaintext is its number in its direction (eight bytes, the highest first, from 0), one
//! byte that says whether more of the message follows, and a piece of the message. Noise already refuses a frame that
//! is not the next one, because its nonce is a counter; the explicit number makes that independent of the library.
//! Every piece but a message's last has exactly [`PIECE_BYTES_MAX`] bytes and the last has at least one, so that a
//! message has one division into frames and none makes work without bringing it nearer to its end.

use crate::error::SessionError;
use crate::limits::{MESSAGE_BYTES_MAX, PIECE_BYTES_MAX};
use snow::TransportState;

/// The bytes of a frame's length.
pub(crate) const LENGTH_BYTES: usize = 2;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = 9;
const MORE: u8 = 0;
const LAST: u8 = 1;
/// The fewest and most bytes of a frame after the handshake, without its length.
pub(crate) const SEALED_BYTES_MIN: usize = HEAD_BYTES + 1 + TAG_BYTES;
pub(crate) const SEALED_BYTES_MAX: usize = HEAD_BYTES + PIECE_BYTES_MAX + TAG_BYTES;

/// Bytes that have been received and not yet been looked at, bounded by who fills it.
#[derive(Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl Input {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }
    /// The length that the next frame announces, once it is there.
    pub(crate) fn announced(&self) -> Option<usize> {
        let length = self.bytes[self.start..].first_chunk::<LENGTH_BYTES>()?;
        Some(usize::from(u16::from_be_bytes(*length)))
    }
    /// Bytes of memory that it takes.
    pub(crate) fn held(&self) -> usize {
        self.bytes.capacity()
    }
    /// The next frame, once it is there in full; an error as soon as its length shows that it is none.
    pub(crate) fn frame(&mut self, (min, max): (usize, usize)) -> Result<Option<Vec<u8>>, SessionError> {
        let waiting = &self.bytes[self.start..];
        let Some((length, rest)) = waiting.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes(*length));
        if len < min || len > max {
            return Err(SessionError::FrameLength { len, min, max });
        }
        let Some(frame) = rest.get(..len) else {
            return Ok(None);
        };
        let frame = frame.to_vec();
        self.start += LENGTH_BYTES + len;
        if self.start == self.bytes.len() {
            // A silent session keeps no buffer.
            *self = Input::default();
        }
        Ok(Some(frame))
    }
}

/// Appends a frame that holds `sealed`, which is within 65,535 bytes by construction.
pub(crate) fn push_frame(out: &mut Vec<u8>, sealed: &[u8]) {
    debug_assert!(sealed.len() <= usize::from(u16::MAX));
    out.extend_from_slice(&(sealed.len() as u16).to_be_bytes());
    out.extend_from_slice(sealed);
}

/// Seals and opens the messages of an established session.
pub(crate) struct Transport {
    noise: Box<TransportState>,
    sent: u64,
    received: u64,
    message: Vec<u8>,
}

impl Transport {
    pub(crate) fn new(noise: Box<TransportState>) -> Transport {
        Transport { noise, sent: 0, received: 0, message: Vec::new() }
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn is_inside_message(&self) -> bool {
        !self.message.is_empty()
    }

    /// The bytes of a message that has not arrived in full.
    pub(crate) fn held(&self) -> usize {
        self.message.capacity()
    }

    /// Appends the frames of `message`, which has 1 to [`MESSAGE_BYTES_MAX`] bytes.
    pub(crate) fn seal(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        debug_assert!(!message.is_empty() && message.len() <= MESSAGE_BYTES_MAX);
        let mut pieces = message.chunks(PIECE_BYTES_MAX).peekable();
        while let Some(piece) = pieces.next() {
            let mut plain = Vec::with_capacity(HEAD_BYTES + piece.len());
            plain.extend_from_slice(&self.sent.to_be_bytes());
            plain.push(if pieces.peek().is_some() { MORE } else { LAST });
            plain.extend_from_slice(piece);
            let start = out.len();
            let sealed_len = plain.len() + TAG_BYTES;
            out.extend_from_slice(&(sealed_len as u16).to_be_bytes());
            out.resize(start + LENGTH_BYTES + sealed_len, 0);
            self.noise
                .write_message(&plain, &mut out[start + LENGTH_BYTES..])
                .map_err(|error| SessionError::Noise(error.to_string()))?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Opens the next frame; gives the message that it ends, if it ends one.
    pub(crate) fn open(&mut self, sealed: &[u8]) -> Result<Option<Vec<u8>>, SessionError> {
        let mut plain = vec![0; sealed.len()];
        let sequence = self.received;
        let len = self.noise.read_message(sealed, &mut plain).map_err(|_| SessionError::Decrypt { sequence })?;
        let (head, piece) = plain[..len].split_first_chunk::<HEAD_BYTES>().ok_or(SessionError::BadFrame)?;
        let [number @ .., flag] = *head;
        let found = u64::from_be_bytes(number);
        if found != sequence {
            return Err(SessionError::Sequence { expected: sequence, found });
        }
        self.received += 1;
        let is_whole = match flag {
            MORE if piece.len() == PIECE_BYTES_MAX => false,
            LAST if (1..=PIECE_BYTES_MAX).contains(&piece.len()) => true,
            _ => return Err(SessionError::BadFrame),
        };
        let message_len = self.message.len() + piece.len();
        // A message that goes on after its last allowed byte is refused now, not when that byte comes.
        if message_len > MESSAGE_BYTES_MAX || (!is_whole && message_len >= MESSAGE_BYTES_MAX) {
            return Err(SessionError::MessageTooLong { len: message_len, max: MESSAGE_BYTES_MAX });
        }
        self.message.extend_from_slice(piece);
        Ok(is_whole.then(|| std::mem::take(&mut self.message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snow::Builder;

    /// Two ends with keys agreed, and nothing else.
    fn pair() -> (Transport, Transport) {
        let keys = || Builder::new(crate::handshake::NOISE.parse().unwrap()).generate_keypair().unwrap().private;
        fn build(key: &[u8]) -> Builder<'_> {
            Builder::new(crate::handshake::NOISE.parse().unwrap()).local_private_key(key).unwrap()
        }
        let (a, b) = (keys(), keys());
        let (mut a, mut b) = (build(&a).build_initiator().unwrap(), build(&b).build_responder().unwrap());
        let (mut wire, mut plain) = ([0; 200], [0; 200]);
        for step in 0..3 {
            let (from, to) = if step % 2 == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
            let len = from.write_message(&[], &mut wire).unwrap();
            to.read_message(&wire[..len], &mut plain).unwrap();
        }
        let transport = |state: snow::HandshakeState| Transport::new(Box::new(state.into_transport_mode().unwrap()));
        (transport(a), transport(b))
    }

    fn frames(sealed: &[u8]) -> Vec<Vec<u8>> {
        let mut input = Input::default();
        input.push(sealed);
        std::iter::from_fn(|| input.frame((SEALED_BYTES_MIN, SEALED_BYTES_MAX)).unwrap()).collect()
    }

    /// Seals a plaintext of the test's own making.
    fn seal_plain(transport: &mut Transport, plain: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; plain.len() + TAG_BYTES];
        transport.noise.write_message(plain, &mut sealed).unwrap();
        sealed
    }

    fn plain(number: u64, flag: u8, piece: &[u8]) -> Vec<u8> {
        [&number.to_be_bytes()[..], &[flag], piece].concat()
    }

    #[test]
    fn messages_of_every_length_arrive() {
        let (mut a, mut b) = pair();
        let lens =
            [1, 2, PIECE_BYTES_MAX - 1, PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1, 3 * PIECE_BYTES_MAX, MESSAGE_BYTES_MAX];
        for len in lens {
            let message: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let mut sealed = Vec::new();
            a.seal(&message, &mut sealed).unwrap();
            let frames = frames(&sealed);
            assert_eq!(frames.len(), len.div_ceil(PIECE_BYTES_MAX));
            let (last, others) = frames.split_last().unwrap();
            for frame in others {
                assert_eq!(b.open(frame), Ok(None));
            }
            assert_eq!(b.open(last), Ok(Some(message)));
            assert!(!b.is_inside_message());
        }
    }

    #[test]
    fn frames_repeated_moved_dropped_or_changed_are_refused() {
        let sealed = |transport: &mut Transport, message: &[u8]| {
            let mut sealed = Vec::new();
            transport.seal(message, &mut sealed).unwrap();
            frames(&sealed).remove(0)
        };
        let (mut a, mut b) = pair();
        let first = sealed(&mut a, b"first");
        assert!(b.open(&first).is_ok());
        assert_eq!(b.open(&first), Err(SessionError::Decrypt { sequence: 1 }));
        let (mut a, mut b) = pair();
        let (_, second) = (sealed(&mut a, b"first"), sealed(&mut a, b"second"));
        assert_eq!(b.open(&second), Err(SessionError::Decrypt { sequence: 0 }));
        for bit in 0..8 * (HEAD_BYTES + 5 + TAG_BYTES) {
            let (mut a, mut b) = pair();
            let mut frame = sealed(&mut a, b"first");
            frame[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(b.open(&frame), Err(SessionError::Decrypt { sequence: 0 }));
        }
        // One's own frame, sent back.
        let (mut a, _) = pair();
        let own = sealed(&mut a, b"first");
        assert_eq!(a.open(&own), Err(SessionError::Decrypt { sequence: 0 }));
    }

    #[test]
    fn a_frame_that_decrypts_must_still_be_the_next_and_well_formed() {
        let cases = [
            (plain(1, LAST, b"x"), SessionError::Sequence { expected: 0, found: 1 }),
            (plain(u64::MAX, LAST, b"x"), SessionError::Sequence { expected: 0, found: u64::MAX }),
            (plain(0, 2, b"x"), SessionError::BadFrame),
            (plain(0, LAST, b""), SessionError::BadFrame),
            (plain(0, MORE, b"x"), SessionError::BadFrame),
            (plain(0, MORE, b""), SessionError::BadFrame),
            (plain(0, LAST, &vec![0; PIECE_BYTES_MAX + 1]), SessionError::BadFrame),
            (vec![0; HEAD_BYTES - 1], SessionError::BadFrame),
        ];
        for (plain, error) in cases {
            let (mut a, mut b) = pair();
            let sealed = seal_plain(&mut a, &plain);
            assert_eq!(b.open(&sealed), Err(error));
        }
    }

    #[test]
    fn a_message_without_end_is_refused_at_the_limit() {
        let (mut a, mut b) = pair();
        let pieces = MESSAGE_BYTES_MAX / PIECE_BYTES_MAX;
        for number in 0..pieces as u64 {
            let sealed = seal_plain(&mut a, &plain(number, MORE, &[0; PIECE_BYTES_MAX]));
            let opened = b.open(&sealed);
            if number + 1 < pieces as u64 {
                assert_eq!(opened, Ok(None));
            } else {
                assert!(matches!(opened, Err(SessionError::MessageTooLong { .. })));
            }
        }
    }

    #[test]
    fn a_wrong_length_is_refused_before_its_bytes_come() {
        let mut input = Input::default();
        input.push(b"GET / HTTP/1.1\r\n");
        assert_eq!(
            input.frame((32, 32)),
            Err(SessionError::FrameLength { len: usize::from(u16::from_be_bytes(*b"GE")), min: 32, max: 32 })
        );
        let mut input = Input::default();
        input.push(&[0]);
        assert_eq!(input.frame((32, 32)), Ok(None));
    }
}
