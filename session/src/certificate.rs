//! Certificates: an authority's signed word that a key belongs to an owner or to a router.
//!
//! A [`Certificate`] is only parsed; nobody has vouched for it yet. [`crate::identity::Authority`] does.

use crate::cbor::{self, Canonical, Malformed, Reader, Writer};
use crate::digest::{Digest, Domain};
use crate::identity::PublicKey;
use crate::limits::{CERTIFICATE_BYTES_MAX, NAME_BYTES_MAX, ROUTER_ADDRS_MAX};
use std::fmt;
use vinet_trusted::addr::{Addr, Principal};

/// The version of the form of certificates.
pub const CERTIFICATE_VERSION: u64 = 1;

/// When a certificate is valid, in Unix seconds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before_s: u64,
    /// The last second.
    pub not_after_s: u64,
}

impl Validity {
    /// From `now_s` on, for `duration_s` seconds.
    #[must_use]
    pub const fn starting(now_s: u64, duration_s: u64) -> Validity {
        Validity { not_before_s: now_s, not_after_s: now_s.saturating_add(duration_s) }
    }
}

/// What a certificate binds a key to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The owner of an address or of a prefix.
    Owner(Principal),
    /// A router that runs programs.
    Router {
        /// Its name: 1 to [`NAME_BYTES_MAX`] bytes of letters, digits, `-`, `_` and `.`.
        name: String,
        /// The addresses that its control port has, at most [`ROUTER_ADDRS_MAX`].
        addrs: Vec<Addr>,
    },
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Owner(principal) => write!(f, "the owner {principal}"),
            Subject::Router { name, .. } => write!(f, "the router `{name}`"),
        }
    }
}

impl Canonical for Subject {
    fn write(&self, w: &mut Writer) {
        match self {
            Subject::Owner(principal) => {
                w.array(2).uint(0).item(principal);
            }
            Subject::Router { name, addrs } => {
                w.array(3).uint(1).text(name).array(addrs.len());
                for addr in addrs {
                    w.item(addr);
                }
            }
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Subject, Malformed> {
        const EXPECTED: &str = "a subject: [0, principal] or [1, name, [addresses]]";
        let malformed = r.malformed(EXPECTED);
        let len = r.array_up_to(3, EXPECTED)?;
        match (len, r.uint(1, EXPECTED)?) {
            (2, 0) => Ok(Subject::Owner(r.item()?)),
            (3, 1) => {
                let name = r.text(NAME_BYTES_MAX, EXPECTED)?.to_owned();
                let count = r.array_up_to(ROUTER_ADDRS_MAX, EXPECTED)?;
                let addrs = (0..count).map(|_| r.item()).collect::<Result<_, _>>()?;
                if is_name(&name) { Ok(Subject::Router { name, addrs }) } else { Err(malformed) }
            }
            _ => Err(malformed),
        }
    }
}

/// Names stand in file names, logs and tables, so they are plain.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The binding of a key to a subject, signed by an authority. Parsed, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub(crate) authority: PublicKey,
    pub(crate) key: PublicKey,
    pub(crate) subject: Subject,
    pub(crate) validity: Validity,
    pub(crate) signature: [u8; 64],
}

impl Certificate {
    /// The authority that it names.
    #[must_use]
    pub const fn authority(&self) -> PublicKey {
        self.authority
    }
    /// The key that it binds.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }
    /// What the key is bound to.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }
    /// When.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }
    /// The one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }
    /// The certificate of these bytes.
    ///
    /// # Errors
    /// [`CertificateFault::TooLong`] or [`CertificateFault::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Certificate, CertificateFault> {
        if bytes.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateFault::TooLong(bytes.len()));
        }
        Ok(cbor::from_bytes(bytes)?)
    }

    /// What the authority signs.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Digest::new(Domain::Certificate)
            .field(&self.authority.0)
            .field(&self.key.0)
            .field(&cbor::to_bytes(&self.subject))
            .number(self.validity.not_before_s)
            .number(self.validity.not_after_s)
            .finish()
    }
}

impl Canonical for Certificate {
    fn write(&self, w: &mut Writer) {
        w.array(7).uint(CERTIFICATE_VERSION).bytes(&self.authority.0).bytes(&self.key.0).item(&self.subject);
        w.uint(self.validity.not_before_s).uint(self.validity.not_after_s).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<Certificate, Malformed> {
        r.array(7, "a certificate of seven items")?;
        let version = r.malformed("a certificate of version 1");
        if r.u64("the version of a certificate")? != CERTIFICATE_VERSION {
            return Err(version);
        }
        Ok(Certificate {
            authority: PublicKey(r.fixed("the authority's key of 32 bytes")?),
            key: PublicKey(r.fixed("a key of 32 bytes")?),
            subject: r.item()?,
            validity: Validity {
                not_before_s: r.u64("the first second of the validity")?,
                not_after_s: r.u64("the last second of the validity")?,
            },
            signature: r.fixed("a signature of 64 bytes")?,
        })
    }
}

/// Why a certificate does not stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// It has too many bytes.
    TooLong(usize),
    /// It is not in the form of one.
    Malformed(Malformed),
    /// It names another authority.
    WrongAuthority {
        /// The one it names.
        found: PublicKey,
        /// The one trusted here.
        expected: PublicKey,
    },
    /// The authority has not signed it.
    BadSignature,
    /// It is not valid yet.
    NotYetValid {
        /// Its first second.
        not_before_s: u64,
        /// The clock here.
        now_s: u64,
    },
    /// It is no longer valid.
    Expired {
        /// Its last second.
        not_after_s: u64,
        /// The clock here.
        now_s: u64,
    },
    /// It is for another role.
    WrongRole {
        /// What it is for.
        found: String,
    },
}

impl From<Malformed> for CertificateFault {
    fn from(malformed: Malformed) -> Self {
        CertificateFault::Malformed(malformed)
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateFault::TooLong(len) => {
                write!(f, "the certificate has {len} bytes; the limit is {CERTIFICATE_BYTES_MAX}")
            }
            CertificateFault::Malformed(m) => write!(f, "the certificate is not in its form: {m}"),
            CertificateFault::WrongAuthority { found, expected } => write!(
                f,
                "the certificate names the authority {found}; the one trusted here is {expected} (were both ends given the same authority?)"
            ),
            CertificateFault::BadSignature => write!(f, "the authority has not signed the certificate"),
            CertificateFault::NotYetValid { not_before_s, now_s } => write!(
                f,
                "the certificate is valid from second {not_before_s} on, and the clock here says {now_s} (check both clocks)"
            ),
            CertificateFault::Expired { not_after_s, now_s } => write!(
                f,
                "the certificate expired at second {not_after_s}, and the clock here says {now_s}; ask the authority for a new one"
            ),
            CertificateFault::WrongRole { found } => write!(f, "the certificate is for {found}, which is another role"),
        }
    }
}

impl std::error::Error for CertificateFault {}
