//! What a router checks of a request before it looks at the program.
//!
//! Holding an [`AuthenticUpload`] proves that the owner of the session signed every field of it for this router and the
//! policy in force, that it has not expired, and that this router has not seen it before. What it proves about the
//! program is nothing: that is the checker's.
//!
//! A replay by others is impossible already, for an upload counts only in a session of its own signer. The
//! [`NonceCache`] keeps an owner's own retry from being installed twice while the router runs; it is empty after a
//! restart.

use crate::identity::{Ownership, PublicKey, RouterId};
use crate::limits::UPLOAD_EXPIRY_MAX_S;
use crate::message::Rejection;
use crate::signed::{Terms, Upload, Withdraw, lemma_root};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use vinet_trusted::addr::Principal;
use vinet_trusted::policy::PolicyError;

/// Why a signed thing does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFault {
    /// It is for another router.
    WrongRouter {
        /// The one that it names.
        found: RouterId,
    },
    /// It is for another owner than the session's.
    WrongPrincipal {
        /// The one that it names.
        found: Principal,
        /// The session's.
        expected: Principal,
    },
    /// It is about a policy that is not in force.
    StalePolicy,
    /// It is about a set of lemmas that is not in force.
    StaleManifest,
    /// Its time has passed.
    Expired {
        /// Its last second.
        expiry_s: u64,
        /// The clock here.
        now_s: u64,
    },
    /// Its time is too far ahead.
    ExpiryTooFar {
        /// Its last second.
        expiry_s: u64,
        /// The clock here.
        now_s: u64,
    },
    /// It was not signed by whom it should be.
    BadSignature,
    /// It was seen before.
    Replayed,
    /// So many requests are remembered that no more can be.
    TooManyRequests,
    /// A signed policy is not one.
    BadPolicy(PolicyError),
}

impl RequestFault {
    /// A short stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            RequestFault::WrongRouter { .. } => "wrong-router",
            RequestFault::WrongPrincipal { .. } => "wrong-principal",
            RequestFault::StalePolicy => "stale-policy",
            RequestFault::StaleManifest => "stale-manifest",
            RequestFault::Expired { .. } => "expired",
            RequestFault::ExpiryTooFar { .. } => "expiry-too-far",
            RequestFault::BadSignature => "bad-signature",
            RequestFault::Replayed => "replayed",
            RequestFault::TooManyRequests => "too-many-requests",
            RequestFault::BadPolicy(_) => "bad-policy",
        }
    }
}

impl fmt::Display for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestFault::WrongRouter { found } => write!(f, "the request is for the router with key {found}"),
            RequestFault::WrongPrincipal { found, expected } => {
                write!(f, "the request is for the owner {found}; the session belongs to {expected}")
            }
            RequestFault::StalePolicy => {
                write!(f, "the request is about a policy that is not in force; fetch the policy and prove again")
            }
            RequestFault::StaleManifest => {
                write!(f, "the lemmas that the request names are not in force; fetch the policy and prove again")
            }
            RequestFault::Expired { expiry_s, now_s } => write!(
                f,
                "the request was good until second {expiry_s}, and the router's clock says {now_s}; sign again (are the clocks right?)"
            ),
            RequestFault::ExpiryTooFar { expiry_s, now_s } => write!(
                f,
                "the request is good until second {expiry_s}, more than {UPLOAD_EXPIRY_MAX_S} s from the router's {now_s} (are the clocks right?)"
            ),
            RequestFault::BadSignature => write!(f, "the signature is not of the key that it should be"),
            RequestFault::Replayed => write!(f, "the request was seen before; a new one needs a new nonce"),
            RequestFault::TooManyRequests => {
                write!(f, "too many recent requests are remembered; wait up to {UPLOAD_EXPIRY_MAX_S} s")
            }
            RequestFault::BadPolicy(error) => write!(f, "the router signed what is no policy: {error}"),
        }
    }
}

impl std::error::Error for RequestFault {}

impl From<RequestFault> for Rejection {
    fn from(fault: RequestFault) -> Rejection {
        Rejection::new(fault.code(), &fault.to_string(), None)
    }
}

/// The nonces of the requests whose time has not passed, so that each counts once.
#[derive(Debug)]
pub struct NonceCache {
    capacity: usize,
    per_owner: usize,
    seen: HashMap<PublicKey, BTreeSet<[u8; 16]>>,
    by_expiry: BTreeSet<(u64, PublicKey, [u8; 16])>,
}

impl NonceCache {
    /// Room for `capacity` requests, and for `per_owner` of one key.
    #[must_use]
    pub fn new(capacity: usize, per_owner: usize) -> NonceCache {
        NonceCache { capacity, per_owner, seen: HashMap::new(), by_expiry: BTreeSet::new() }
    }
    /// The requests remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_expiry.len()
    }
    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_expiry.is_empty()
    }
    /// Remembers a request until its time has passed.
    fn insert(&mut self, key: PublicKey, nonce: [u8; 16], expiry_s: u64, now_s: u64) -> Result<(), RequestFault> {
        while let Some(&(expiry, owner, old)) = self.by_expiry.first() {
            if expiry >= now_s {
                break;
            }
            self.by_expiry.pop_first();
            if let Some(nonces) = self.seen.get_mut(&owner) {
                nonces.remove(&old);
                if nonces.is_empty() {
                    self.seen.remove(&owner);
                }
            }
        }
        let known = self.seen.get(&key);
        if known.is_some_and(|nonces| nonces.contains(&nonce)) {
            return Err(RequestFault::Replayed);
        }
        if self.by_expiry.len() >= self.capacity || known.map_or(0, BTreeSet::len) >= self.per_owner {
            return Err(RequestFault::TooManyRequests);
        }
        self.seen.entry(key).or_default().insert(nonce);
        self.by_expiry.insert((expiry_s, key, nonce));
        Ok(())
    }
}

/// An upload that its owner signed for this router, now, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticUpload {
    terms: Terms,
    owner: Ownership,
}

impl AuthenticUpload {
    /// What it says.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }
    /// Who asks.
    #[must_use]
    pub const fn owner(&self) -> &Ownership {
        &self.owner
    }
    /// What it says, to keep.
    #[must_use]
    pub fn into_terms(self) -> Terms {
        self.terms
    }
}

fn check_expiry(expiry_s: u64, now_s: u64) -> Result<(), RequestFault> {
    if expiry_s < now_s {
        return Err(RequestFault::Expired { expiry_s, now_s });
    }
    if expiry_s - now_s > UPLOAD_EXPIRY_MAX_S {
        return Err(RequestFault::ExpiryTooFar { expiry_s, now_s });
    }
    Ok(())
}

/// The upload of `owner`, the peer of the session that it came in, to the router `router` whose policy for this kind of
/// owner is `policy_id`.
///
/// # Errors
/// The first fault found; only an upload without one is remembered in `seen`.
pub fn verify_upload(
    upload: Upload,
    owner: &Ownership,
    router: &RouterId,
    policy_id: &[u8; 32],
    now_s: u64,
    seen: &mut NonceCache,
) -> Result<AuthenticUpload, RequestFault> {
    let terms = upload.terms();
    if terms.router != *router {
        return Err(RequestFault::WrongRouter { found: terms.router });
    }
    if terms.principal != owner.principal() {
        return Err(RequestFault::WrongPrincipal { found: terms.principal, expected: owner.principal() });
    }
    check_expiry(terms.expiry_s, now_s)?;
    if terms.policy_id != *policy_id {
        return Err(RequestFault::StalePolicy);
    }
    if terms.lemma_root != lemma_root() {
        return Err(RequestFault::StaleManifest);
    }
    if !upload.is_signed_by(&owner.key()) {
        return Err(RequestFault::BadSignature);
    }
    seen.insert(owner.key(), terms.nonce, terms.expiry_s, now_s)?;
    Ok(AuthenticUpload { terms: upload.into_terms(), owner: *owner })
}

/// The number of the program that `owner` asks to end.
///
/// # Errors
/// The first fault found; only a withdrawal without one is remembered in `seen`.
pub fn verify_withdraw(
    withdraw: &Withdraw,
    owner: &Ownership,
    router: &RouterId,
    now_s: u64,
    seen: &mut NonceCache,
) -> Result<u64, RequestFault> {
    if withdraw.router != *router {
        return Err(RequestFault::WrongRouter { found: withdraw.router });
    }
    check_expiry(withdraw.expiry_s, now_s)?;
    if !withdraw.is_signed_by(&owner.key()) {
        return Err(RequestFault::BadSignature);
    }
    seen.insert(owner.key(), withdraw.nonce, withdraw.expiry_s, now_s)?;
    Ok(withdraw.instance)
}
