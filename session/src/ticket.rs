//! Tickets: the state of a session, sealed by the router, carried by the client.
//!
//! To the client a ticket is [`TICKET_BYTES`] bytes that mean nothing, and a secret that it shares with whoever can open
//! them. What the router sealed in, and under which key, is its own affair (`door.rs`).

use crate::cbor::{self, Canonical, Malformed, Reader, Writer};
use crate::certificate::Certificate;
use crate::identity::{Authority, CertificateFault, PublicKey, RouterPeer};
use crate::limits::CERTIFICATE_BYTES_MAX;
use std::fmt;

/// The bytes of a ticket.
pub const TICKET_BYTES: usize = CLEAR_BYTES + PLAIN_BYTES + TAG_BYTES;
/// Its epoch and the session's name, which are not sealed.
pub(crate) const CLEAR_BYTES: usize = 4 + SESSION_BYTES;
/// The bytes of a session's name.
pub(crate) const SESSION_BYTES: usize = 16;
/// What is sealed: the secret, the owner's key, the certificate's end, the share, the principal.
pub(crate) const PLAIN_BYTES: usize = 32 + 32 + 8 + 1 + PRINCIPAL_BYTES;
/// A principal: its length in CBOR, and that, filled up with zeros.
pub(crate) const PRINCIPAL_BYTES: usize = 1 + 21;
pub(crate) const TAG_BYTES: usize = 16;
/// The version of the form in which a client keeps a ticket.
const KEPT_VERSION: u64 = 1;

/// What a router gives who asks for a ticket.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketGrant {
    /// The ticket.
    pub ticket: [u8; TICKET_BYTES],
    /// The secret in it.
    pub secret: [u8; 32],
    /// The router's clock, in milliseconds from a moment of its own.
    pub clock_ms: u64,
    /// How long the ticket is good for, in seconds, if the router is not started again.
    pub lifetime_s: u32,
}

impl fmt::Debug for TicketGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketGrant")
            .field("clock_ms", &self.clock_ms)
            .field("lifetime_s", &self.lifetime_s)
            .finish_non_exhaustive()
    }
}

impl Canonical for TicketGrant {
    fn write(&self, w: &mut Writer) {
        w.array(4).bytes(&self.ticket).bytes(&self.secret).uint(self.clock_ms).uint(u64::from(self.lifetime_s));
    }
    fn read(r: &mut Reader<'_>) -> Result<TicketGrant, Malformed> {
        r.array(4, "a ticket: [ticket, secret, clock, lifetime]")?;
        Ok(TicketGrant {
            ticket: r.fixed("a ticket of its one length")?,
            secret: r.fixed("a secret of 32 bytes")?,
            clock_ms: r.u64("the router's clock")?,
            lifetime_s: r.u32("a lifetime in seconds")?,
        })
    }
}

/// A ticket as its client keeps it: with the secret, the router that gave it, and the number of the next request.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) grant: TicketGrant,
    pub(crate) router: RouterPeer,
    /// Of the router; a ticket that was written down proves its router again when it is read.
    certificate: Certificate,
    owner: PublicKey,
    /// The client's clock when the ticket came, in Unix seconds.
    got_s: u64,
    /// The number of the next request.
    pub(crate) next: u64,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("router", &self.router).field("next", &self.next).finish_non_exhaustive()
    }
}

/// Why a ticket that was kept is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TicketFault {
    /// The bytes are not a kept ticket.
    Malformed(Malformed),
    /// The router in it is not vouched for, or no longer.
    Router(CertificateFault),
    /// Its time is over.
    Ended,
}

impl fmt::Display for TicketFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TicketFault::Malformed(malformed) => write!(f, "what was kept is not a ticket: {malformed}"),
            TicketFault::Router(fault) => write!(f, "the router of the ticket does not stand: {fault}"),
            TicketFault::Ended => f.write_str("the ticket's time is over; a handshake gives another"),
        }
    }
}

impl std::error::Error for TicketFault {}

impl Ticket {
    pub(crate) fn new(
        grant: TicketGrant,
        router: RouterPeer,
        certificate: Certificate,
        owner: PublicKey,
        got_s: u64,
    ) -> Ticket {
        Ticket { grant, router, certificate, owner, got_s, next: 1 }
    }
    /// The router that gave it.
    #[must_use]
    pub const fn router(&self) -> &RouterPeer {
        &self.router
    }
    /// Whose it is.
    #[must_use]
    pub const fn owner(&self) -> PublicKey {
        self.owner
    }
    /// Whether it may still be good for something at the second `wall_s`.
    #[must_use]
    pub fn is_alive(&self, wall_s: u64) -> bool {
        // A clock that went back tells nothing about the router's.
        (self.got_s..self.got_s.saturating_add(u64::from(self.grant.lifetime_s))).contains(&wall_s)
            && wall_s <= self.router.not_after_s()
    }
    /// The router's clock at the second `wall_s`, as far as it can be known.
    pub(crate) fn clock_ms(&self, wall_s: u64) -> u64 {
        self.grant.clock_ms.saturating_add(wall_s.saturating_sub(self.got_s).saturating_mul(1000))
    }
    /// The bytes to keep. They hold the secret: who reads them can ask as their owner until the ticket ends.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_bytes(&Kept {
            grant: self.grant.clone(),
            certificate: self.certificate.encode(),
            owner: self.owner,
            got_s: self.got_s,
            next: self.next,
        })
    }
    /// The ticket that was kept as `bytes`, if it is still good for something at the second `wall_s`.
    ///
    /// # Errors
    /// [`TicketFault`].
    pub fn decode(bytes: &[u8], authority: &Authority, wall_s: u64) -> Result<Ticket, TicketFault> {
        let kept: Kept = cbor::from_bytes(bytes).map_err(TicketFault::Malformed)?;
        let certificate = Certificate::decode(&kept.certificate).map_err(TicketFault::Router)?;
        let router = authority.router(&certificate, wall_s).map_err(TicketFault::Router)?;
        let Kept { grant, owner, got_s, next, .. } = kept;
        let ticket = Ticket { grant, router, certificate, owner, got_s, next };
        if ticket.is_alive(wall_s) { Ok(ticket) } else { Err(TicketFault::Ended) }
    }
}

/// A ticket as it is written down.
struct Kept {
    grant: TicketGrant,
    certificate: Vec<u8>,
    owner: PublicKey,
    got_s: u64,
    next: u64,
}

impl Canonical for Kept {
    fn write(&self, w: &mut Writer) {
        w.array(6).uint(KEPT_VERSION).item(&self.grant).bytes(&self.certificate).bytes(&self.owner.0);
        w.uint(self.got_s).uint(self.next);
    }
    fn read(r: &mut Reader<'_>) -> Result<Kept, Malformed> {
        r.array(6, "a kept ticket of six items")?;
        let version = r.malformed("a kept ticket of version 1");
        if r.u64("the version of a kept ticket")? != KEPT_VERSION {
            return Err(version);
        }
        Ok(Kept {
            grant: r.item()?,
            certificate: r.bytes(CERTIFICATE_BYTES_MAX, "a certificate")?.to_vec(),
            owner: PublicKey(r.fixed("the owner's key of 32 bytes")?),
            got_s: r.u64("when the ticket came")?,
            next: r.u64("the number of the next request")?,
        })
    }
}
