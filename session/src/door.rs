//! What all sessions of a router have in common: who it is, whom it lets in, and the keys that seal its tickets.
//!
//! A [`Door`] holds nothing for any client: its memory is the same for one as for a million. What it seals, it seals under
//! a key that is drawn anew every [`EPOCH_MS`] and overwritten one epoch later; keys are never written down, so a restart
//! ends every ticket, and the clients make a handshake. The certificates whose signatures were found good lately are
//! remembered, a bounded number, so that a signature of the authority is verified once and not at every handshake; their
//! time and their role are looked at every time.

use crate::Now;
use crate::cbor;
use crate::certificate::{Certificate, CertificateFault};
use crate::digest::{Digest, Domain};
use crate::error::{SealedFault, SessionError};
use crate::identity::{Authority, Identity, Ownership, PublicKey};
use crate::ticket::{CLEAR_BYTES, PLAIN_BYTES, PRINCIPAL_BYTES, SESSION_BYTES, TAG_BYTES, TICKET_BYTES, TicketGrant};
use crate::window::{FRESH_MS, NotTaken, WINDOW_LEN_MAX, Window};
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long tickets are sealed under one key, in milliseconds. They are good for one to two times as long.
pub const EPOCH_MS: u64 = 3_600_000;
/// The certificates in one of the two generations that are remembered.
const CERTIFICATES_MAX: usize = 4096;

/// Who is asked whether a key that a certificate vouches for still stands: the holder of the revocation lists. It is asked
/// at every handshake and every request, in either mode, so that a revoked key does nothing from the moment on.
pub trait Standing: Send + Sync {
    /// Whether the key of `owner` stands.
    fn stands(&self, owner: &Ownership) -> bool;
}

impl<F: Fn(&Ownership) -> bool + Send + Sync> Standing for F {
    fn stands(&self, owner: &Ownership) -> bool {
        self(owner)
    }
}

/// What became of sealed requests and tickets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealedCounters {
    /// Tickets that were given.
    pub tickets: u64,
    /// Requests that were taken.
    pub taken: u64,
    /// Tickets that were not ours, too old, changed or of an expired certificate, and requests not sealed under theirs.
    pub refused: u64,
    /// Requests of a time that is not now.
    pub stale: u64,
    /// Requests with a number that was used.
    pub replayed: u64,
    /// Requests that could not be remembered.
    pub full: u64,
    /// Requests of revoked keys.
    pub revoked: u64,
}

/// The keys of two epochs.
struct Keys {
    epoch: u32,
    turned_ms: u64,
    current: [u8; 32],
    /// None in the first epoch.
    previous: Option<[u8; 32]>,
}

fn random<const N: usize>() -> Result<[u8; N], SessionError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SessionError::NoEntropy)?;
    Ok(bytes)
}

impl Keys {
    /// Draws the keys that are due, and overwrites those whose time is over.
    fn turn(&mut self, now_ms: u64) -> Result<(), SessionError> {
        let epochs = now_ms.saturating_sub(self.turned_ms) / EPOCH_MS;
        if epochs == 0 {
            return Ok(());
        }
        let fresh = random()?;
        self.previous = (epochs == 1).then_some(self.current);
        self.current = fresh;
        self.epoch = self.epoch.wrapping_add(u32::try_from(epochs).unwrap_or(u32::MAX));
        self.turned_ms += epochs * EPOCH_MS;
        Ok(())
    }
    fn of(&self, epoch: u32) -> Option<&[u8; 32]> {
        if epoch == self.epoch {
            return Some(&self.current);
        }
        self.previous.as_ref().filter(|_| epoch == self.epoch.wrapping_sub(1))
    }
}

struct Sealing {
    keys: Keys,
    window: Window,
    counters: SealedCounters,
}

/// The names of certificates with good signatures: the current generation, and the one before.
#[derive(Default)]
struct Certificates {
    current: HashSet<[u8; 32]>,
    previous: HashSet<[u8; 32]>,
}

impl Certificates {
    fn has(&self, name: &[u8; 32]) -> bool {
        self.current.contains(name) || self.previous.contains(name)
    }
    fn add(&mut self, name: [u8; 32]) {
        if self.current.len() >= CERTIFICATES_MAX {
            self.previous = std::mem::take(&mut self.current);
        }
        self.current.insert(name);
    }
}

/// What is in a ticket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TicketState {
    pub(crate) owner: Ownership,
    pub(crate) secret: [u8; 32],
    /// The session's name.
    pub(crate) session: [u8; SESSION_BYTES],
    share: u8,
}

/// A router's door: every session of the router is made from it.
pub struct Door {
    identity: Arc<Identity>,
    authority: Arc<Authority>,
    standing: Option<Box<dyn Standing>>,
    sealing: Option<Mutex<Sealing>>,
    certificates: Mutex<Certificates>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Nothing under these locks is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Door {
    /// The door of the router that `identity` names, for owners that `authority` vouches for. It gives no tickets.
    ///
    /// # Errors
    /// [`SessionError::OwnIdentity`].
    pub fn new(identity: Arc<Identity>, authority: Arc<Authority>) -> Result<Door, SessionError> {
        if identity.principal().is_some() {
            let what =
                format!("a router needs the identity of a router; this one is for {}", identity.certificate.subject());
            return Err(SessionError::OwnIdentity(what));
        }
        Ok(Door { identity, authority, standing: None, sealing: None, certificates: Mutex::default() })
    }

    /// Asks `standing` about every key.
    #[must_use]
    pub fn with_standing(mut self, standing: Box<dyn Standing>) -> Door {
        self.standing = Some(standing);
        self
    }

    /// Gives tickets and takes sealed requests. Takes the memory of the window against replays: 20 MB of addresses, of
    /// which what is used becomes resident.
    ///
    /// # Errors
    /// [`SessionError::NoEntropy`].
    pub fn with_sealing(self, now: Now) -> Result<Door, SessionError> {
        self.with_window(WINDOW_LEN_MAX, now)
    }

    /// The same with a window of another size.
    pub(crate) fn with_window(mut self, len_max: usize, now: Now) -> Result<Door, SessionError> {
        let keys = Keys { epoch: 0, turned_ms: now.mono_ms, current: random()?, previous: None };
        let window = Window::new(random()?, len_max, now.mono_ms);
        self.sealing = Some(Mutex::new(Sealing { keys, window, counters: SealedCounters::default() }));
        Ok(self)
    }

    /// Overwrites keys and forgets requests whose time is over, where no request did it; to be called now and then.
    pub fn tick(&self, now: Now) {
        if let Some(sealing) = &self.sealing {
            let mut sealing = lock(sealing);
            // Where there is no entropy the next request says so.
            let _ = sealing.keys.turn(now.mono_ms);
            sealing.window.turn(now.mono_ms);
        }
    }

    /// What became of sealed requests.
    #[must_use]
    pub fn counters(&self) -> SealedCounters {
        self.sealing.as_ref().map(|sealing| lock(sealing).counters).unwrap_or_default()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether this owner may ask anything now.
    ///
    /// # Errors
    /// Its certificate has expired, or its key was revoked.
    pub(crate) fn stands(&self, owner: &Ownership, now: Now) -> Result<(), SessionError> {
        let (not_after_s, now_s) = (owner.not_after_s(), now.wall_s);
        if now_s > not_after_s {
            return Err(SessionError::Certificate(CertificateFault::Expired { not_after_s, now_s }));
        }
        match &self.standing {
            Some(standing) if !standing.stands(owner) => Err(SessionError::Revoked),
            _ => Ok(()),
        }
    }

    /// What the certificate of an owner, of these bytes, proves now.
    pub(crate) fn owner(
        &self,
        certificate: &Certificate,
        bytes: &[u8],
        wall_s: u64,
    ) -> Result<Ownership, CertificateFault> {
        let name = *blake3::hash(bytes).as_bytes();
        let is_known = lock(&self.certificates).has(&name);
        let owner = self.authority.owner_if(certificate, wall_s, is_known)?;
        if !is_known {
            lock(&self.certificates).add(name);
        }
        Ok(owner)
    }

    /// A ticket for a session that this owner has just proven itself in; none where the door gives none.
    ///
    /// # Errors
    /// [`SessionError::NoEntropy`].
    pub fn ticket(&self, owner: &Ownership, now: Now) -> Result<Option<TicketGrant>, SessionError> {
        let Some(sealing) = &self.sealing else { return Ok(None) };
        let mut sealing = lock(sealing);
        sealing.keys.turn(now.mono_ms)?;
        let state = TicketState {
            owner: *owner,
            secret: random()?,
            session: random()?,
            share: sealing.window.share(&owner.principal()),
        };
        let ticket = seal(&state, &self.identity.public(), &sealing.keys);
        sealing.counters.tickets += 1;
        let left_ms = (sealing.keys.turned_ms + 2 * EPOCH_MS).saturating_sub(now.mono_ms);
        let lifetime_s = (left_ms / 1000).min(owner.not_after_s().saturating_sub(now.wall_s));
        let lifetime_s = u32::try_from(lifetime_s).unwrap_or(u32::MAX);
        Ok(Some(TicketGrant { ticket, secret: state.secret, clock_ms: now.mono_ms, lifetime_s }))
    }

    /// What is in a ticket that came with a request of the time `sent_ms`. One opening of a hundred bytes, whatever comes.
    pub(crate) fn open(&self, ticket: &[u8; TICKET_BYTES], sent_ms: u64, now: Now) -> Result<TicketState, SealedFault> {
        let sealing = self.sealing.as_ref().ok_or(SealedFault::Ticket)?;
        let mut sealing = lock(sealing);
        let opened = match sealing.keys.turn(now.mono_ms) {
            Ok(()) => open(ticket, &self.identity.public(), &sealing.keys),
            Err(_) => None,
        };
        let outcome = match opened {
            Some(state) if now.wall_s <= state.owner.not_after_s() => {
                if sent_ms.abs_diff(now.mono_ms) <= FRESH_MS {
                    Ok(state)
                } else {
                    Err(SealedFault::Stale)
                }
            }
            _ => Err(SealedFault::Ticket),
        };
        sealing.counters.count(&outcome);
        outcome
    }

    /// Takes the request with this number of the ticket's session, which was found authentic, once.
    pub(crate) fn take(&self, state: &TicketState, number: u64, now: Now) -> Result<(), SealedFault> {
        let sealing = self.sealing.as_ref().ok_or(SealedFault::Ticket)?;
        let outcome = match self.stands(&state.owner, now) {
            Err(_) => Err(SealedFault::Revoked),
            Ok(()) => {
                let taken = lock(sealing).window.take(&state.session, number, state.share, now.mono_ms);
                taken.map_err(|why| match why {
                    NotTaken::Replayed => SealedFault::Replayed,
                    NotTaken::Full => SealedFault::Full,
                })
            }
        };
        let counters = &mut lock(sealing).counters;
        counters.taken += u64::from(outcome.is_ok());
        counters.count(&outcome);
        outcome
    }

    /// Notes a request that was not sealed as its ticket says.
    pub(crate) fn refused(&self) -> SealedFault {
        if let Some(sealing) = &self.sealing {
            lock(sealing).counters.refused += 1;
        }
        SealedFault::Ticket
    }
}

impl SealedCounters {
    fn count<T>(&mut self, outcome: &Result<T, SealedFault>) {
        match outcome {
            Ok(_) => {}
            Err(SealedFault::Ticket) => self.refused += 1,
            Err(SealedFault::Stale) => self.stale += 1,
            Err(SealedFault::Replayed) => self.replayed += 1,
            Err(SealedFault::Full) => self.full += 1,
            Err(SealedFault::Revoked) => self.revoked += 1,
        }
    }
}

/// The key of one ticket: no two are sealed under the same, so there is no nonce to choose.
fn ticket_cipher(key: &[u8; 32], session: &[u8], router: &PublicKey) -> ChaCha20Poly1305 {
    let key = Digest::new(Domain::TicketKey).field(key).field(session).field(&router.0).finish();
    ChaCha20Poly1305::new(&key.into())
}

fn seal(state: &TicketState, router: &PublicKey, keys: &Keys) -> [u8; TICKET_BYTES] {
    let mut plain = [0; PLAIN_BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        plain[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&state.secret);
    put(&state.owner.key().0);
    put(&state.owner.not_after_s().to_be_bytes());
    put(&[state.share]);
    let principal = cbor::to_bytes(&state.owner.principal());
    put(&[principal.len() as u8]);
    put(&principal);
    let mut ticket = [0; TICKET_BYTES];
    ticket[..4].copy_from_slice(&keys.epoch.to_be_bytes());
    ticket[4..CLEAR_BYTES].copy_from_slice(&state.session);
    let cipher = ticket_cipher(&keys.current, &state.session, router);
    let (clear, sealed) = ticket.split_at_mut(CLEAR_BYTES);
    let (body, tag) = sealed.split_at_mut(PLAIN_BYTES);
    body.copy_from_slice(&plain);
    let made = cipher.encrypt_in_place_detached(&[0; 12].into(), clear, body).expect("a hundred bytes can be sealed");
    tag.copy_from_slice(&made);
    ticket
}

/// What is in a ticket that this router sealed in this epoch or the one before.
fn open(ticket: &[u8; TICKET_BYTES], router: &PublicKey, keys: &Keys) -> Option<TicketState> {
    let (clear, sealed) = ticket.split_at(CLEAR_BYTES);
    let (epoch, session) = clear.split_first_chunk::<4>()?;
    let (body, tag) = sealed.split_at(PLAIN_BYTES);
    let tag: &[u8; TAG_BYTES] = tag.try_into().ok()?;
    let mut plain: [u8; PLAIN_BYTES] = body.try_into().ok()?;
    let cipher = ticket_cipher(keys.of(u32::from_be_bytes(*epoch))?, session, router);
    cipher.decrypt_in_place_detached(&[0; 12].into(), clear, &mut plain, tag.into()).ok()?;
    let (secret, rest) = plain.split_first_chunk::<32>()?;
    let (key, rest) = rest.split_first_chunk::<32>()?;
    let (not_after_s, rest) = rest.split_first_chunk::<8>()?;
    let (&[share, len], principal) = rest.split_first_chunk::<2>()?;
    debug_assert!(principal.len() == PRINCIPAL_BYTES - 1);
    let principal = cbor::from_bytes(principal.get(..usize::from(len))?).ok()?;
    Some(TicketState {
        owner: Ownership::sealed(principal, PublicKey(*key), u64::from_be_bytes(*not_after_s)),
        secret: *secret,
        session: session.try_into().ok()?,
        share,
    })
}
