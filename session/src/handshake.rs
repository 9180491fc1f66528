//! The handshake: Noise XX with a fresh static key for each session, to which both ends sign themselves.
//!
//! The pattern is `Noise_XX_25519_ChaChaPoly_BLAKE2s` with [`PROLOGUE`]. Its three messages are
//!
//! ```text
//! -> e                              no payload
//! <- e, ee, s, es   [certificate, signature over (h1, s, certificate)]
//! -> s, se          [certificate, signature over (h2, s, certificate)]
//! ```
//!
//! h1 is the handshake hash after the first message, h2 the one after the second, and s the Noise static key of the end
//! that signs. Why a signature cannot be carried into another session:
//!
//! - *The router's.* h1 covers the prologue and the client's ephemeral key, which the client drew for this session
//!   alone, so a signature made for anyone else does not fit. It covers the router's static key, and only who has that
//!   key's secret can have sealed the message (`es`). One in the middle who passes the client's ephemeral key on to get
//!   a signature has neither secret and is only a wire.
//! - *The owner's.* h2 covers all of the first two messages: both ephemeral keys, the router's static key and its
//!   certificate. A router that an owner talks to can therefore not use the owner's signature towards another router.
//!
//! Signing the certificate's bytes as well keeps a signature from serving two certificates of one key. A certificate
//! without its secret key proves nothing. Passive listeners see neither certificate; whoever connects sees the router's.

use crate::Now;
use crate::cbor::{self, Canonical, Malformed, Reader, Writer};
use crate::digest::{Digest, Domain};
use crate::door::Door;
use crate::error::{SessionError, Step};
use crate::identity::{Authority, Certificate, CertificateFault, Identity, Ownership, RouterPeer};
use crate::limits::{CERTIFICATE_BYTES_MAX, HANDSHAKE_BYTES_MAX};
use snow::{HandshakeState, TransportState};
use std::sync::Arc;

/// The Noise protocol's name.
pub const NOISE: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2s";
/// The prologue: ends of different versions do not understand each other's first sealed byte.
pub const PROLOGUE: &[u8] = b"VInet session 1";
/// The bytes of the first message: an ephemeral key.
pub const HELLO_BYTES: usize = 32;
/// The bytes that Noise adds to a sealed item.
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// What the payload of the second and third message says.
pub(crate) struct Credentials {
    pub(crate) certificate: Vec<u8>,
    pub(crate) signature: [u8; 64],
}

impl Canonical for Credentials {
    fn write(&self, w: &mut Writer) {
        w.array(2).bytes(&self.certificate).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<Credentials, Malformed> {
        r.array(2, "credentials: [certificate, signature]")?;
        Ok(Credentials {
            certificate: r.bytes(CERTIFICATE_BYTES_MAX, "a certificate")?.to_vec(),
            signature: r.fixed("a signature of 64 bytes")?,
        })
    }
}

/// Who was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Owner(Ownership),
    /// The router, and the certificate that says so.
    Router(RouterPeer, Box<Certificate>),
}

/// What a handshake message led to.
pub(crate) enum Progress {
    /// A message is to be sent, and another one is expected.
    Send(Vec<u8>),
    /// The handshake is over, once what there is to send is sent.
    Done { send: Option<Vec<u8>>, transport: Box<TransportState>, peer: Peer },
    /// The keys are agreed, but the owner's credentials do not stand; the reason can be told in secret.
    Refused { transport: Box<TransportState>, error: SessionError },
}

/// A handshake under way, at either end.
pub(crate) struct Handshake {
    noise: Box<HandshakeState>,
    public: [u8; KEY_BYTES],
    side: Side,
    awaited: Step,
}

/// Who this end is, and whom it trusts.
enum Side {
    Client { identity: Arc<Identity>, authority: Arc<Authority> },
    Router(Arc<Door>),
}

impl Side {
    fn identity(&self) -> &Identity {
        match self {
            Side::Client { identity, .. } => identity,
            Side::Router(door) => door.identity(),
        }
    }
    fn router(&self, certificate: &Certificate, wall_s: u64) -> Result<RouterPeer, SessionError> {
        match self {
            Side::Client { authority, .. } => authority.router(certificate, wall_s).map_err(role),
            Side::Router(_) => Err(SessionError::Noise("a router met a router".to_owned())),
        }
    }
    fn owner(&self, certificate: &Certificate, bytes: &[u8], now: Now) -> Result<Ownership, SessionError> {
        match self {
            Side::Router(door) => {
                let owner = door.owner(certificate, bytes, now.wall_s).map_err(role)?;
                door.stands(&owner, now).map(|()| owner)
            }
            Side::Client { .. } => Err(SessionError::Noise("a client met a client".to_owned())),
        }
    }
}

fn noise_error(error: snow::Error) -> SessionError {
    match error {
        snow::Error::Rng => SessionError::NoEntropy,
        other => SessionError::Noise(other.to_string()),
    }
}

fn builder<'a>() -> Result<snow::Builder<'a>, SessionError> {
    Ok(snow::Builder::new(NOISE.parse().map_err(noise_error)?))
}

impl Handshake {
    /// The client's end, and its first message.
    pub(crate) fn client(
        identity: Arc<Identity>,
        authority: Arc<Authority>,
    ) -> Result<(Handshake, Vec<u8>), SessionError> {
        if identity.principal().is_none() {
            let what =
                format!("a client needs the identity of an owner; this one is for {}", identity.certificate.subject());
            return Err(SessionError::OwnIdentity(what));
        }
        let keys = builder()?.generate_keypair().map_err(noise_error)?;
        let noise = builder()?
            .prologue(PROLOGUE)
            .and_then(|b| b.local_private_key(&keys.private))
            .and_then(snow::Builder::build_initiator)
            .map_err(noise_error)?;
        let mut handshake = Handshake::new(noise, &keys.public, Side::Client { identity, authority }, Step::Router)?;
        let hello = handshake.write(&[])?;
        Ok((handshake, hello))
    }

    /// The router's end, which waits for the client's first message.
    pub(crate) fn router(door: Arc<Door>) -> Result<Handshake, SessionError> {
        let keys = builder()?.generate_keypair().map_err(noise_error)?;
        let noise = builder()?
            .prologue(PROLOGUE)
            .and_then(|b| b.local_private_key(&keys.private))
            .and_then(snow::Builder::build_responder)
            .map_err(noise_error)?;
        Handshake::new(noise, &keys.public, Side::Router(door), Step::Hello)
    }

    fn new(noise: HandshakeState, public: &[u8], side: Side, awaited: Step) -> Result<Handshake, SessionError> {
        let public = public.try_into().map_err(|_| SessionError::Noise("a static key has not 32 bytes".to_owned()))?;
        Ok(Handshake { noise: Box::new(noise), public, side, awaited })
    }

    /// The fewest and most bytes of the message that is awaited.
    pub(crate) const fn lengths(&self) -> (usize, usize) {
        match self.awaited {
            Step::Hello => (HELLO_BYTES, HELLO_BYTES),
            Step::Router => (2 * KEY_BYTES + 2 * TAG_BYTES, HANDSHAKE_BYTES_MAX),
            Step::Owner => (KEY_BYTES + 2 * TAG_BYTES, HANDSHAKE_BYTES_MAX),
        }
    }

    /// Takes the message that is awaited. After an error the handshake is over.
    pub(crate) fn receive(mut self, message: &[u8], now: Now) -> Result<(Option<Handshake>, Progress), SessionError> {
        match self.awaited {
            Step::Hello => {
                if !self.read(message)?.is_empty() {
                    return Err(SessionError::Handshake(Step::Hello));
                }
                let credentials = self.sign(Domain::RouterHandshake);
                let reply = self.write(&credentials)?;
                self.awaited = Step::Owner;
                Ok((Some(self), Progress::Send(reply)))
            }
            Step::Router => {
                let h1 = self.noise.get_handshake_hash().to_vec();
                let payload = self.read(message)?;
                let (certificate, _) = self.verify(&payload, Domain::RouterHandshake, &h1)?;
                let peer = Peer::Router(self.side.router(&certificate, now.wall_s)?, Box::new(certificate));
                let credentials = self.sign(Domain::OwnerHandshake);
                let send = Some(self.write(&credentials)?);
                Ok((None, Progress::Done { send, transport: self.into_transport()?, peer }))
            }
            Step::Owner => {
                let h2 = self.noise.get_handshake_hash().to_vec();
                let payload = self.read(message)?;
                let owner = self
                    .verify(&payload, Domain::OwnerHandshake, &h2)
                    .and_then(|(certificate, bytes)| self.side.owner(&certificate, &bytes, now));
                let transport = self.into_transport()?;
                Ok((
                    None,
                    match owner {
                        Ok(owner) => Progress::Done { send: None, transport, peer: Peer::Owner(owner) },
                        Err(error) => Progress::Refused { transport, error },
                    },
                ))
            }
        }
    }

    fn into_transport(self) -> Result<Box<TransportState>, SessionError> {
        self.noise.into_transport_mode().map(Box::new).map_err(noise_error)
    }

    fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, SessionError> {
        let mut payload = vec![0; message.len()];
        let len = self.noise.read_message(message, &mut payload).map_err(|_| SessionError::Handshake(self.awaited))?;
        payload.truncate(len);
        Ok(payload)
    }

    fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, SessionError> {
        let mut message = vec![0; HANDSHAKE_BYTES_MAX];
        let len = self.noise.write_message(payload, &mut message).map_err(noise_error)?;
        message.truncate(len);
        Ok(message)
    }

    /// This end's credentials for the handshake so far.
    fn sign(&self, domain: Domain) -> Vec<u8> {
        let certificate = self.side.identity().certificate.encode();
        let digest = binding(domain, self.noise.get_handshake_hash(), &self.public, &certificate);
        cbor::to_bytes(&Credentials { certificate, signature: self.side.identity().sign(&digest) })
    }

    /// The certificate, with its bytes, of a peer that signed the handshake as it was before its message, with the certificate's key.
    /// The authority's word on the certificate is the caller's to ask for.
    fn verify(
        &self,
        payload: &[u8],
        domain: Domain,
        hash_before: &[u8],
    ) -> Result<(Certificate, Vec<u8>), SessionError> {
        let step = self.awaited;
        let credentials: Credentials = cbor::from_bytes(payload).map_err(|_| SessionError::Handshake(step))?;
        let certificate = Certificate::decode(&credentials.certificate)?;
        let public = self.noise.get_remote_static().ok_or(SessionError::Handshake(step))?;
        let digest = binding(domain, hash_before, public, &credentials.certificate);
        if certificate.key().has_signed(&digest, &credentials.signature) {
            Ok((certificate, credentials.certificate))
        } else {
            Err(SessionError::NotItsKey(step))
        }
    }
}

pub(crate) fn binding(domain: Domain, handshake_hash: &[u8], public: &[u8], certificate: &[u8]) -> [u8; 32] {
    Digest::new(domain).field(handshake_hash).field(public).field(certificate).finish()
}

fn role(fault: CertificateFault) -> SessionError {
    match fault {
        CertificateFault::WrongRole { found } => SessionError::WrongRole { found },
        other => SessionError::Certificate(other),
    }
}
