//! What ends a session.

use crate::identity::CertificateFault;
use crate::limits::{HANDSHAKE_TIME_MAX_MS, IDLE_TIME_MAX_MS, MESSAGE_TIME_MAX_MS, STALL_TIME_MAX_MS};
use std::fmt;

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The other end, or whoever sits between.
    Peer,
    /// This end's caller or operator.
    Ours,
}

/// The step of a handshake, named by its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Client to router: an ephemeral key.
    Hello,
    /// Router to client: the router's keys and certificate.
    Router,
    /// Client to router: the owner's key and certificate.
    Owner,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Hello => "the client's first handshake message",
            Step::Router => "the router's handshake message",
            Step::Owner => "the client's second handshake message",
        })
    }
}

/// Why a router refuses a sealed request. The client is not told which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedFault {
    /// The ticket is not this router's, is too old, was changed, or is of a certificate that has expired; or the request
    /// is not sealed under it.
    Ticket,
    /// The request's time is not now.
    Stale,
    /// A request with this number was taken before.
    Replayed,
    /// The router cannot remember more requests now.
    Full,
    /// The owner's key was revoked.
    Revoked,
}

impl fmt::Display for SealedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SealedFault::Ticket => "its ticket does not stand, or it was not sealed under it",
            SealedFault::Stale => "its time is not now",
            SealedFault::Replayed => "its number was used before",
            SealedFault::Full => "no more requests can be remembered now",
            SealedFault::Revoked => "the owner's key was revoked",
        })
    }
}

/// Why a session is over. Nothing that came after the offence was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// A frame of a length that this state of the session does not allow.
    FrameLength {
        /// Bytes announced.
        len: usize,
        /// The fewest allowed.
        min: usize,
        /// The most allowed.
        max: usize,
    },
    /// A handshake message does not decrypt or has another form than this version's.
    Handshake(Step),
    /// The peer's certificate does not stand.
    Certificate(CertificateFault),
    /// The peer did not sign this handshake with the key of its certificate.
    NotItsKey(Step),
    /// The peer's certificate is for another role: a client met a client, or a router a router.
    WrongRole {
        /// What the certificate is for.
        found: String,
    },
    /// The router is not the one that was expected.
    WrongRouter {
        /// The name asked for.
        expected: String,
        /// The name in the certificate.
        found: String,
    },
    /// A frame was changed, dropped, repeated or moved on the way.
    Decrypt {
        /// The number of the frame, from 0.
        sequence: u64,
    },
    /// A frame decrypts, but carries another number than its place.
    Sequence {
        /// The number that its place has.
        expected: u64,
        /// The number that it carries.
        found: u64,
    },
    /// A frame decrypts, but is not one: unknown flags, or a piece of the wrong length.
    BadFrame,
    /// A message is above the limit.
    MessageTooLong {
        /// Bytes so far.
        len: usize,
        /// The most allowed.
        max: usize,
    },
    /// A message that this end wanted to send is above the limit; nothing was sent.
    OwnMessageTooLong {
        /// Its bytes.
        len: usize,
        /// The most allowed.
        max: usize,
    },
    /// A sealed request was refused; the connection ends with it.
    Sealed(SealedFault),
    /// The router does not take the ticket, or the request under it. A handshake gives another.
    TicketRefused,
    /// The owner's key was revoked.
    Revoked,
    /// The router ended the session, and said why.
    Refused(String),
    /// A message is not one of this version, or not in its one encoding.
    BadMessage(String),
    /// The peer closed the connection in the middle of something.
    Truncated,
    /// The handshake took too long.
    HandshakeTimeout,
    /// A message that had begun took too long.
    MessageTimeout,
    /// Nothing was said for too long.
    IdleTimeout,
    /// The peer does not take what waits for it.
    StallTimeout,
    /// A message was to be sent before the session was established.
    NotEstablished,
    /// The session is already over.
    Closed,
    /// The identity of this end does not fit its role.
    OwnIdentity(String),
    /// The operating system gave no random bytes.
    NoEntropy,
    /// The Noise library refused a step that this end had set up: our defect.
    Noise(String),
}

impl SessionError {
    /// Who has to change something.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            SessionError::NotEstablished
            | SessionError::Closed
            | SessionError::OwnIdentity(_)
            | SessionError::OwnMessageTooLong { .. }
            | SessionError::NoEntropy
            | SessionError::Noise(_) => Fault::Ours,
            _ => Fault::Peer,
        }
    }
}

impl From<CertificateFault> for SessionError {
    fn from(fault: CertificateFault) -> Self {
        SessionError::Certificate(fault)
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::FrameLength { len, min, max } => {
                write!(
                    f,
                    "the peer announced a frame of {len} bytes; here a frame has {min} to {max} bytes (is this a VInet port?)"
                )
            }
            SessionError::Handshake(step) => {
                write!(f, "{step} does not decrypt or is not of this version of the protocol")
            }
            SessionError::Certificate(fault) => write!(f, "the peer's certificate does not stand: {fault}"),
            SessionError::NotItsKey(step) => {
                write!(f, "in {step} the signature was not made with the key of the certificate, for this handshake")
            }
            SessionError::WrongRole { found } => {
                write!(f, "the peer's certificate is for {found}, which is another role")
            }
            SessionError::WrongRouter { expected, found } => {
                write!(f, "the router calls itself `{found}`; `{expected}` was expected")
            }
            SessionError::Decrypt { sequence } => {
                write!(f, "frame {sequence} was changed, dropped, repeated or moved on the way")
            }
            SessionError::Sequence { expected, found } => write!(f, "frame {expected} carries the number {found}"),
            SessionError::BadFrame => write!(f, "a frame has unknown flags or a piece of the wrong length"),
            SessionError::MessageTooLong { len, max } => {
                write!(f, "a message of {len} bytes or more; the limit is {max} bytes")
            }
            SessionError::OwnMessageTooLong { len, max } => {
                write!(f, "a message of {len} bytes cannot be sent; the limit is {max} bytes")
            }
            SessionError::Sealed(fault) => write!(f, "a sealed request was refused: {fault}"),
            SessionError::TicketRefused => {
                write!(f, "the router does not take the ticket, or not now; a handshake gives another")
            }
            SessionError::Revoked => write!(f, "the owner's key was revoked; ask the authority for a new certificate"),
            SessionError::Refused(why) => write!(f, "the router ended the session: {why}"),
            SessionError::BadMessage(what) => write!(f, "a message is not one of this version of the protocol: {what}"),
            SessionError::Truncated => write!(f, "the peer closed the connection in the middle of something"),
            SessionError::HandshakeTimeout => {
                write!(f, "the handshake was not finished within {} s", HANDSHAKE_TIME_MAX_MS / 1000)
            }
            SessionError::MessageTimeout => {
                write!(f, "a message that had begun did not arrive within {} s", MESSAGE_TIME_MAX_MS / 1000)
            }
            SessionError::IdleTimeout => write!(f, "nothing was said for {} s", IDLE_TIME_MAX_MS / 1000),
            SessionError::StallTimeout => {
                write!(f, "the peer took nothing of what waits for it for {} s", STALL_TIME_MAX_MS / 1000)
            }
            SessionError::NotEstablished => write!(f, "a message was to be sent before the handshake was finished"),
            SessionError::Closed => write!(f, "the session is over"),
            SessionError::OwnIdentity(what) => write!(f, "the own identity cannot be used here: {what}"),
            SessionError::NoEntropy => write!(f, "the operating system gave no random bytes"),
            SessionError::Noise(what) => write!(f, "the Noise library refused a step: {what}"),
        }
    }
}

impl std::error::Error for SessionError {}
