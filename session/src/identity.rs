//! Who is who: keys, the authority's certificates, and what they prove.
//!
//! A [`Certificate`] is only parsed; nobody has vouched for it yet. An [`Ownership`] or a [`RouterPeer`] can only be
//! got from [`Authority::owner`] and [`Authority::router`] (or from a ticket in which a router sealed one), so
//! holding one proves that the authority signed the binding of its key and that it was valid at the time given. That the
//! peer *has* the key is proven by the handshake, not here.
//!
//! Left out: revocation ([`crate::revocation`]), and chains of authorities. One authority vouches for one testbed.

pub use crate::certificate::{CERTIFICATE_VERSION, Certificate, CertificateFault, Subject, Validity};

use crate::certificate::is_name;
use crate::hex;
use crate::limits::{NAME_BYTES_MAX, ROUTER_ADDRS_MAX};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use vinet_trusted::addr::{Addr, Principal};

/// An Ed25519 public key. Whether it is a point of the curve shows when a signature is looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// A router is named by the key of its certificate.
pub type RouterId = PublicKey;

impl PublicKey {
    /// Whether `signature` is this key's over `digest`. Strict: keys and points of small order are refused.
    pub(crate) fn has_signed(&self, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .and_then(|key| key.verify_strict(digest, &Signature::from_bytes(signature)))
            .is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for PublicKey {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<PublicKey, IdentityError> {
        hex::decode_array(text).map(PublicKey).ok_or(IdentityError::BadKey)
    }
}

/// The principal that `text` writes: an address (an end user) or an address with its prefix length (an edge router).
///
/// # Errors
/// [`IdentityError::BadPrincipal`].
pub fn parse_principal(text: &str) -> Result<Principal, IdentityError> {
    let bad = || IdentityError::BadPrincipal(text.chars().take(64).collect());
    match text.split_once('/') {
        None => text.parse::<IpAddr>().map(|ip| Principal::EndUser(ip.into())).map_err(|_| bad()),
        Some((addr, len)) => {
            let addr: IpAddr = addr.parse().map_err(|_| bad())?;
            let len = len.parse().map_err(|_| bad())?;
            Principal::edge_router(addr.into(), len).ok_or_else(bad)
        }
    }
}

/// A verified owner: the authority binds its key to its principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ownership {
    principal: Principal,
    key: PublicKey,
    not_after_s: u64,
}

impl Ownership {
    /// The ownership that a ticket holds: the router sealed in what it had from [`Authority::owner`].
    pub(crate) const fn sealed(principal: Principal, key: PublicKey, not_after_s: u64) -> Ownership {
        Ownership { principal, key, not_after_s }
    }
    /// The address or prefix.
    #[must_use]
    pub const fn principal(&self) -> Principal {
        self.principal
    }
    /// The key bound to it.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }
    /// The last second of the certificate.
    #[must_use]
    pub const fn not_after_s(&self) -> u64 {
        self.not_after_s
    }
}

/// A verified router: the authority binds its key to its name and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterPeer {
    name: String,
    addrs: Vec<Addr>,
    id: RouterId,
    not_after_s: u64,
}

impl RouterPeer {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its addresses.
    #[must_use]
    pub fn addrs(&self) -> &[Addr] {
        &self.addrs
    }
    /// Its key, which names it to machines.
    #[must_use]
    pub const fn id(&self) -> RouterId {
        self.id
    }
    /// The last second of the certificate.
    #[must_use]
    pub const fn not_after_s(&self) -> u64 {
        self.not_after_s
    }
}

/// The public half of an authority: what everybody of a testbed trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    pub(crate) name: String,
    pub(crate) key: PublicKey,
}

impl Authority {
    /// Its name, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its key.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }
    /// What the certificate of an owner proves at `now_s`.
    ///
    /// # Errors
    /// The first fault found.
    pub fn owner(&self, certificate: &Certificate, now_s: u64) -> Result<Ownership, CertificateFault> {
        self.owner_if(certificate, now_s, false)
    }
    /// The same, where it may be known already that the authority signed these bytes.
    pub(crate) fn owner_if(
        &self,
        certificate: &Certificate,
        now_s: u64,
        is_signed: bool,
    ) -> Result<Ownership, CertificateFault> {
        self.verify(certificate, now_s, is_signed)?;
        match certificate.subject {
            Subject::Owner(principal) => {
                Ok(Ownership { principal, key: certificate.key, not_after_s: certificate.validity.not_after_s })
            }
            Subject::Router { .. } => Err(CertificateFault::WrongRole { found: certificate.subject.to_string() }),
        }
    }
    /// What the certificate of a router proves at `now_s`.
    ///
    /// # Errors
    /// The first fault found.
    pub fn router(&self, certificate: &Certificate, now_s: u64) -> Result<RouterPeer, CertificateFault> {
        self.verify(certificate, now_s, false)?;
        match &certificate.subject {
            Subject::Router { name, addrs } => Ok(RouterPeer {
                name: name.clone(),
                addrs: addrs.clone(),
                id: certificate.key,
                not_after_s: certificate.validity.not_after_s,
            }),
            Subject::Owner(_) => Err(CertificateFault::WrongRole { found: certificate.subject.to_string() }),
        }
    }

    fn verify(&self, certificate: &Certificate, now_s: u64, is_signed: bool) -> Result<(), CertificateFault> {
        let Validity { not_before_s, not_after_s } = certificate.validity;
        if certificate.authority != self.key {
            return Err(CertificateFault::WrongAuthority { found: certificate.authority, expected: self.key });
        }
        if !is_signed && !self.key.has_signed(&certificate.digest(), &certificate.signature) {
            return Err(CertificateFault::BadSignature);
        }
        if now_s < not_before_s {
            return Err(CertificateFault::NotYetValid { not_before_s, now_s });
        }
        if now_s > not_after_s {
            return Err(CertificateFault::Expired { not_after_s, now_s });
        }
        Ok(())
    }
}

/// An authority with its secret key.
pub struct AuthorityKey {
    pub(crate) name: String,
    pub(crate) secret: SigningKey,
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityKey")
            .field("name", &self.name)
            .field("key", &self.authority().key)
            .finish_non_exhaustive()
    }
}

impl AuthorityKey {
    /// A new authority.
    ///
    /// # Errors
    /// [`IdentityError::BadName`] or [`IdentityError::NoEntropy`].
    pub fn generate(name: &str) -> Result<AuthorityKey, IdentityError> {
        if !is_name(name) {
            return Err(IdentityError::BadName(name.chars().take(80).collect()));
        }
        Ok(AuthorityKey { name: name.to_owned(), secret: generate_secret()? })
    }
    /// Its public half.
    #[must_use]
    pub fn authority(&self) -> Authority {
        Authority { name: self.name.clone(), key: PublicKey(self.secret.verifying_key().to_bytes()) }
    }
    pub(crate) fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        self.secret.sign(digest).to_bytes()
    }
    /// A certificate that binds `key` to `subject`.
    ///
    /// # Errors
    /// [`IdentityError::BadName`], [`IdentityError::TooManyAddrs`] or [`IdentityError::EmptyValidity`].
    pub fn issue(&self, key: &PublicKey, subject: Subject, validity: Validity) -> Result<Certificate, IdentityError> {
        if let Subject::Router { name, addrs } = &subject {
            if !is_name(name) {
                return Err(IdentityError::BadName(name.chars().take(80).collect()));
            }
            if addrs.len() > ROUTER_ADDRS_MAX {
                return Err(IdentityError::TooManyAddrs(addrs.len()));
            }
        }
        if validity.not_before_s > validity.not_after_s {
            return Err(IdentityError::EmptyValidity(validity));
        }
        let mut certificate =
            Certificate { authority: self.authority().key, key: *key, subject, validity, signature: [0; 64] };
        certificate.signature = self.sign(&certificate.digest());
        Ok(certificate)
    }
    /// A new key with its certificate.
    ///
    /// # Errors
    /// As [`AuthorityKey::issue`], and [`IdentityError::NoEntropy`].
    pub fn issue_identity(&self, subject: Subject, validity: Validity) -> Result<Identity, IdentityError> {
        let secret = generate_secret()?;
        let certificate = self.issue(&PublicKey(secret.verifying_key().to_bytes()), subject, validity)?;
        Ok(Identity { secret, certificate })
    }
}

/// A secret key with the certificate of its public half.
pub struct Identity {
    pub(crate) secret: SigningKey,
    pub(crate) certificate: Certificate,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Identity {
    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }
    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.certificate.key
    }
    /// Whose programs it may upload; `None` for a router's identity.
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        match self.certificate.subject {
            Subject::Owner(principal) => Some(principal),
            Subject::Router { .. } => None,
        }
    }
    pub(crate) fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        self.secret.sign(digest).to_bytes()
    }
}

pub(crate) fn generate_secret() -> Result<SigningKey, IdentityError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| IdentityError::NoEntropy)?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Why keys, certificates or their files cannot be made or read. The operator of the machine is at fault, or whoever
/// gave the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// Not 64 hexadecimal digits.
    BadKey,
    /// Not an address or prefix.
    BadPrincipal(String),
    /// A name that is empty, too long, or not plain.
    BadName(String),
    /// More addresses than a router's certificate may have.
    TooManyAddrs(usize),
    /// A validity that ends before it starts.
    EmptyValidity(Validity),
    /// The operating system gave no random bytes.
    NoEntropy,
    /// A file cannot be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the operating system said.
        error: String,
    },
    /// A file that must not be overwritten is there.
    Exists(PathBuf),
    /// A secret file can be read by others than its owner.
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file is not in its form.
    Form {
        /// The file.
        path: PathBuf,
        /// Where and what.
        what: String,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::BadKey => write!(f, "a key is written as 64 hexadecimal digits"),
            IdentityError::BadPrincipal(text) => write!(
                f,
                "`{text}` is no principal: expected an address (192.0.2.1) for an end user, or an address with its prefix length (192.0.2.1/24) for an edge router"
            ),
            IdentityError::BadName(name) => write!(
                f,
                "`{}` is no name: expected 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`",
                name.escape_debug()
            ),
            IdentityError::TooManyAddrs(n) => {
                write!(f, "{n} addresses for one router; a certificate holds at most {ROUTER_ADDRS_MAX}")
            }
            IdentityError::EmptyValidity(v) => {
                write!(f, "the validity ends ({}) before it starts ({})", v.not_after_s, v.not_before_s)
            }
            IdentityError::NoEntropy => write!(f, "the operating system gave no random bytes"),
            IdentityError::Io { path, doing, error } => write!(f, "{}: cannot {doing}: {error}", path.display()),
            IdentityError::Exists(path) => {
                write!(f, "{} is there already; move it away first, keys are never overwritten", path.display())
            }
            IdentityError::TooOpen { path, mode } => write!(
                f,
                "{} holds a secret key and has mode {mode:04o}, so others can read it; run `chmod 600` on it",
                path.display()
            ),
            IdentityError::Form { path, what } => write!(f, "{}: {what}", path.display()),
        }
    }
}

impl std::error::Error for IdentityError {}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn owner() -> Subject {
        Subject::Owner(parse_principal("192.0.2.1/24").unwrap())
    }

    fn router() -> Subject {
        Subject::Router { name: "edge-1".into(), addrs: vec![Addr::V4(1), Addr::V6(2)] }
    }

    #[test]
    fn an_authority_vouches_for_what_it_signed() {
        let key = AuthorityKey::generate("testbed").unwrap();
        let authority = key.authority();
        let identity = key.issue_identity(owner(), Validity::starting(NOW_S, 60)).unwrap();
        let ownership = authority.owner(identity.certificate(), NOW_S + 60).unwrap();
        assert_eq!(ownership.principal().to_string(), "192.0.2.1/24");
        assert_eq!(ownership.key(), identity.public());
        let identity = key.issue_identity(router(), Validity::starting(NOW_S, 60)).unwrap();
        let peer = authority.router(identity.certificate(), NOW_S).unwrap();
        assert_eq!((peer.name(), peer.addrs().len()), ("edge-1", 2));
    }

    #[test]
    fn certificates_of_others_times_and_roles_do_not_stand() {
        let key = AuthorityKey::generate("testbed").unwrap();
        let authority = key.authority();
        let stranger = AuthorityKey::generate("testbed").unwrap();
        let valid = Validity::starting(NOW_S, 60);
        let foreign = stranger.issue_identity(owner(), valid).unwrap();
        assert!(matches!(authority.owner(foreign.certificate(), NOW_S), Err(CertificateFault::WrongAuthority { .. })));
        let mut forged = foreign.certificate().clone();
        forged.authority = authority.key();
        assert_eq!(authority.owner(&forged, NOW_S), Err(CertificateFault::BadSignature));
        let good = key.issue_identity(owner(), valid).unwrap();
        assert!(matches!(
            authority.owner(good.certificate(), NOW_S + 61),
            Err(CertificateFault::Expired { not_after_s, .. }) if not_after_s == NOW_S + 60
        ));
        assert!(matches!(authority.owner(good.certificate(), NOW_S - 1), Err(CertificateFault::NotYetValid { .. })));
        assert!(matches!(authority.router(good.certificate(), NOW_S), Err(CertificateFault::WrongRole { .. })));
        let other = key.issue_identity(router(), valid).unwrap();
        assert!(matches!(authority.owner(other.certificate(), NOW_S), Err(CertificateFault::WrongRole { .. })));
    }

    #[test]
    fn no_bit_of_a_certificate_can_be_changed() {
        let key = AuthorityKey::generate("testbed").unwrap();
        for subject in [owner(), router()] {
            let certificate = key.issue_identity(subject, Validity::starting(NOW_S, 60)).unwrap().certificate;
            let bytes = certificate.encode();
            assert_eq!(Certificate::decode(&bytes), Ok(certificate));
            for bit in 0..8 * bytes.len() {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                if let Ok(certificate) = Certificate::decode(&changed) {
                    assert_eq!(certificate.encode(), changed, "bit {bit}: two encodings of one certificate");
                    assert!(key.authority().verify(&certificate, NOW_S, false).is_err(), "bit {bit}");
                }
            }
            for len in 0..bytes.len() {
                assert!(Certificate::decode(&bytes[..len]).is_err());
            }
        }
    }

    #[test]
    fn what_cannot_be_certified_is_not() {
        let key = AuthorityKey::generate("testbed").unwrap();
        let valid = Validity::starting(NOW_S, 60);
        let named = |name: &str| Subject::Router { name: name.into(), addrs: vec![] };
        assert!(matches!(key.issue_identity(named("a b"), valid), Err(IdentityError::BadName(_))));
        assert!(matches!(key.issue_identity(named("../x\n"), valid), Err(IdentityError::BadName(_))));
        assert!(matches!(key.issue_identity(named(""), valid), Err(IdentityError::BadName(_))));
        let many = Subject::Router { name: "r".into(), addrs: vec![Addr::V4(1); ROUTER_ADDRS_MAX + 1] };
        assert!(matches!(key.issue_identity(many, valid), Err(IdentityError::TooManyAddrs(_))));
        let empty = Validity { not_before_s: 2, not_after_s: 1 };
        assert!(matches!(key.issue_identity(owner(), empty), Err(IdentityError::EmptyValidity(_))));
        assert!(AuthorityKey::generate("a/b").is_err());
        let most = Subject::Router { name: "r".repeat(NAME_BYTES_MAX), addrs: vec![Addr::V6(1); ROUTER_ADDRS_MAX] };
        let largest = key.issue_identity(most, Validity { not_before_s: 0, not_after_s: u64::MAX }).unwrap();
        assert!(largest.certificate().encode().len() <= crate::limits::CERTIFICATE_BYTES_MAX);
    }

    #[test]
    fn principals_are_read_as_they_are_written() {
        for text in ["192.0.2.1", "192.0.2.1/24", "2001:db8::1", "2001:db8::/32"] {
            assert_eq!(parse_principal(text).unwrap().to_string(), text);
        }
        for text in ["", "192.0.2", "192.0.2.1/33", "192.0.2.1/", "/24", "2001:db8::/129", "192.0.2.1/-1"] {
            assert!(matches!(parse_principal(text), Err(IdentityError::BadPrincipal(_))), "{text}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let key = AuthorityKey::generate("testbed").unwrap();
        let identity = key.issue_identity(owner(), Validity::starting(NOW_S, 60)).unwrap();
        let secret = hex::encode(&identity.secret.to_bytes());
        assert!(!format!("{identity:?}").contains(&secret));
        assert!(!format!("{key:?}").contains(&hex::encode(&key.secret.to_bytes())));
    }
}
