//! What a router checks of a request before it looks at the program.
//!
//! Holding an [`AuthenticUpload`] proves that the owner of the session signed every field of it for this router and the
//! policy in force, that it has not expired, that this router has not seen it before, and that a quote which it cites is
//! this router's own, for what it declares, and paid. What it proves about the program is nothing: that is the checker's.
//!
//! A replay by others is impossible already, for an upload counts only in a session of its own signer. The
//! [`NonceCache`] keeps an owner's own retry from being installed twice while the router runs; it is empty after a
//! restart.

use crate::identity::{Ownership, PublicKey, RouterId};
use crate::limits::UPLOAD_EXPIRY_MAX_S;
use crate::message::Rejection;
use crate::signed::{Renew, Terms, Upload, Withdraw};
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
    /// It names another authority.
    WrongAuthority {
        /// The one that it names.
        found: PublicKey,
    },
    /// It is for another owner than the session's.
    WrongPrincipal {
        /// The one that it names.
        found: Box<Principal>,
        /// The session's.
        expected: Box<Principal>,
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
    /// The quote that it cites is not this router's.
    UnknownQuote,
    /// The quote that it cites no longer holds.
    QuoteExpired {
        /// Its last second.
        expiry_s: u64,
        /// The clock here.
        now_s: u64,
    },
    /// The quote that it cites is for another owner.
    QuoteForAnother {
        /// The one that it names.
        found: Box<Principal>,
    },
    /// The quote that it cites is for another program.
    QuoteDiffers {
        /// In what.
        what: &'static str,
        /// What the quote is for.
        quoted: u64,
        /// What the upload declares.
        declared: u64,
    },
    /// It pays less than the price.
    Price {
        /// The price, in credits.
        needed: u64,
        /// What is paid.
        offered: u64,
    },
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
            RequestFault::WrongAuthority { .. } => "wrong-authority",
            RequestFault::UnknownQuote => "unknown-quote",
            RequestFault::QuoteExpired { .. } => "quote-expired",
            RequestFault::QuoteForAnother { .. } | RequestFault::QuoteDiffers { .. } => "quote-differs",
            RequestFault::Price { .. } => "price",
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
                write!(
                    f,
                    "the router does not hold the lemmas of the request (it forgets those of owners when it starts again); send them again"
                )
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
            RequestFault::WrongAuthority { found } => {
                write!(f, "it was made by the authority with key {found}, which is not trusted here")
            }
            RequestFault::UnknownQuote => write!(f, "the quote was not made by this router; ask it for one"),
            RequestFault::QuoteExpired { expiry_s, now_s } => write!(
                f,
                "the quote held until second {expiry_s}, and the router's clock says {now_s}; ask for another"
            ),
            RequestFault::QuoteForAnother { found } => write!(f, "the quote was made for {found}; ask for one"),
            RequestFault::QuoteDiffers { what, quoted, declared } => {
                write!(f, "the quote is for a {what} of {quoted}, and {declared} is declared; ask for another")
            }
            RequestFault::Price { needed, offered } => {
                write!(f, "the price is {needed} credits, and {offered} are offered; pay {needed} or more")
            }
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

/// Whether a signed request that is good until `expiry_s` counts at `now_s`.
///
/// # Errors
/// [`RequestFault::Expired`], [`RequestFault::ExpiryTooFar`].
pub fn check_expiry(expiry_s: u64, now_s: u64) -> Result<(), RequestFault> {
    if expiry_s < now_s {
        return Err(RequestFault::Expired { expiry_s, now_s });
    }
    if expiry_s - now_s > UPLOAD_EXPIRY_MAX_S {
        return Err(RequestFault::ExpiryTooFar { expiry_s, now_s });
    }
    Ok(())
}

/// The upload of `owner`, the peer of the session that it came in, to the router `router` whose policy for this kind of
/// owner is `policy_id`, and which holds the lemmas with those roots that `knows_lemmas` answers true for.
///
/// # Errors
/// The first fault found; only an upload without one is remembered in `seen`.
pub fn verify_upload(
    upload: Upload,
    owner: &Ownership,
    router: &RouterId,
    policy_id: &[u8; 32],
    knows_lemmas: impl FnOnce(&[u8; 32]) -> bool,
    now_s: u64,
    seen: &mut NonceCache,
) -> Result<AuthenticUpload, RequestFault> {
    check_upload(&upload, owner, router, policy_id, knows_lemmas, now_s)?;
    upload.claim(owner.key()).verify()?;
    let terms = upload.terms();
    if let Some(quote) = &terms.quote {
        quote.fits(terms, now_s)?;
    }
    seen.insert(owner.key(), terms.nonce, terms.expiry_s, now_s)?;
    Ok(AuthenticUpload { terms: upload.into_terms(), owner: *owner })
}

/// Whether the fields of an upload fit the session, the router and the moment; [`verify_upload`] without the nonce, the
/// quote, and the signature, which [`Upload::claim`] leaves to be verified.
///
/// # Errors
/// The first fault found.
pub fn check_upload(
    upload: &Upload,
    owner: &Ownership,
    router: &RouterId,
    policy_id: &[u8; 32],
    knows_lemmas: impl FnOnce(&[u8; 32]) -> bool,
    now_s: u64,
) -> Result<(), RequestFault> {
    let terms = upload.terms();
    if terms.router != *router {
        return Err(RequestFault::WrongRouter { found: terms.router });
    }
    if terms.principal != owner.principal() {
        let (found, expected) = (Box::new(terms.principal), Box::new(owner.principal()));
        return Err(RequestFault::WrongPrincipal { found, expected });
    }
    check_expiry(terms.expiry_s, now_s)?;
    if terms.policy_id != *policy_id {
        return Err(RequestFault::StalePolicy);
    }
    if !knows_lemmas(&terms.lemma_root) {
        return Err(RequestFault::StaleManifest);
    }
    Ok(())
}

/// Whether a signed request for `named` that is good until `expiry_s` counts at `router` now.
fn check(named: RouterId, router: &RouterId, expiry_s: u64, now_s: u64) -> Result<(), RequestFault> {
    if named != *router {
        return Err(RequestFault::WrongRouter { found: named });
    }
    check_expiry(expiry_s, now_s)
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
    check_withdraw(withdraw, router, now_s)?;
    withdraw.claim(owner.key()).verify()?;
    seen.insert(owner.key(), withdraw.nonce, withdraw.expiry_s, now_s)?;
    Ok(withdraw.instance)
}

/// Whether the fields of a withdrawal fit the router and the moment; [`verify_withdraw`] without the nonce and the
/// signature, which [`Withdraw::claim`] leaves to be verified.
///
/// # Errors
/// The first fault found.
pub fn check_withdraw(withdraw: &Withdraw, router: &RouterId, now_s: u64) -> Result<(), RequestFault> {
    check(withdraw.router, router, withdraw.expiry_s, now_s)
}

/// The number of the program that `owner` asks to run on.
///
/// # Errors
/// The first fault found; only a renewal without one is remembered in `seen`.
pub fn verify_renew(
    renew: &Renew,
    owner: &Ownership,
    router: &RouterId,
    now_s: u64,
    seen: &mut NonceCache,
) -> Result<u64, RequestFault> {
    check_renew(renew, router, now_s)?;
    renew.claim(owner.key()).verify()?;
    seen.insert(owner.key(), renew.nonce, renew.expiry_s, now_s)?;
    Ok(renew.instance)
}

/// Whether the fields of a renewal fit the router and the moment; [`verify_renew`] without the nonce and the signature,
/// which [`Renew::claim`] leaves to be verified.
///
/// # Errors
/// The first fault found.
pub fn check_renew(renew: &Renew, router: &RouterId, now_s: u64) -> Result<(), RequestFault> {
    check(renew.router, router, renew.expiry_s, now_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Identity, Subject, Validity, parse_principal};
    use crate::message::{Request, decode_request, encode_request};
    use crate::payment::{Quote, QuoteTerms, Tariff};
    use crate::signed::{Class, SignedPolicy};
    use crate::testing::{LEMMA_ROOT, NOW_S, Random, Testbed, router_named, seed};

    fn terms(testbed: &Testbed) -> Terms {
        testbed.terms()
    }

    fn owner(testbed: &Testbed) -> Ownership {
        testbed.authority.owner(testbed.owner.certificate(), NOW_S).unwrap()
    }

    fn verify(testbed: &Testbed, upload: Upload) -> Result<AuthenticUpload, RequestFault> {
        let (router, knows_lemmas) = (testbed.router.public(), |root: &[u8; 32]| *root == LEMMA_ROOT);
        verify_upload(upload, &owner(testbed), &router, &[7; 32], knows_lemmas, NOW_S, &mut NonceCache::new(9, 9))
    }

    #[test]
    fn an_upload_counts_as_it_was_signed() {
        let testbed = Testbed::new();
        let authentic = verify(&testbed, Upload::sign(terms(&testbed), &testbed.owner)).unwrap();
        assert_eq!(authentic.terms(), &terms(&testbed));
        assert_eq!(authentic.owner(), &owner(&testbed));
    }

    fn quote(testbed: &Testbed) -> Quote {
        let terms = terms(testbed);
        let terms = QuoteTerms {
            principal: terms.principal,
            class: terms.class,
            complexity: terms.complexity,
            packet_rate: terms.packet_rate,
            state_bytes: 0,
            lifetime_s: terms.lifetime_s,
            price: 7,
            expiry_s: NOW_S + 30,
            nonce: [4; 16],
        };
        Quote::sign(terms, &testbed.router)
    }

    #[test]
    fn an_upload_that_cites_a_quote_pays_its_price() {
        let testbed = Testbed::new();
        let upload = |payment: u64, quote: Quote| {
            let terms = Terms { payment, quote: Some(Box::new(quote)), ..terms(&testbed) };
            verify(&testbed, Upload::sign(terms, &testbed.owner)).map(|_| ()).map_err(|fault| fault.code())
        };
        let good = quote(&testbed);
        assert_eq!(upload(7, good.clone()), Ok(()));
        assert_eq!(upload(6, good.clone()), Err("price"));
        assert_eq!(upload(7, Quote::sign(good.terms().clone(), &testbed.owner)), Err("unknown-quote"));
        let late = QuoteTerms { expiry_s: NOW_S - 1, ..good.terms().clone() };
        assert_eq!(upload(7, Quote::sign(late, &testbed.router)), Err("quote-expired"));
        // The quote that was signed cannot be put out of the upload, or another into its place.
        let terms = Terms { payment: 7, quote: Some(Box::new(good.clone())), ..terms(&testbed) };
        let dearer = Quote::sign(QuoteTerms { price: 8, ..good.terms().clone() }, &testbed.router);
        for quote in [None, Some(Box::new(dearer))] {
            let upload = Upload::sign(terms.clone(), &testbed.owner).with_terms(Terms { quote, ..terms.clone() });
            assert_eq!(verify(&testbed, upload), Err(RequestFault::BadSignature));
        }
    }

    #[test]
    fn renewals_are_signed_for_one_program_at_one_router_and_price() {
        let testbed = Testbed::new();
        let (owner, router) = (owner(&testbed), testbed.router.public());
        let check = |renew: &Renew, seen: &mut NonceCache| verify_renew(renew, &owner, &router, NOW_S, seen);
        let mut seen = NonceCache::new(9, 9);
        let good = Renew::sign(router, 5, 70, [3; 16], NOW_S + 9, &testbed.owner);
        assert_eq!(check(&good, &mut seen), Ok(5));
        assert_eq!(check(&good, &mut seen), Err(RequestFault::Replayed));
        let mut seen = NonceCache::new(9, 9);
        let elsewhere = Renew::sign(testbed.owner.public(), 5, 70, [3; 16], NOW_S + 9, &testbed.owner);
        assert!(matches!(check(&elsewhere, &mut seen), Err(RequestFault::WrongRouter { .. })));
        let late = Renew::sign(router, 5, 70, [3; 16], NOW_S - 1, &testbed.owner);
        assert!(matches!(check(&late, &mut seen), Err(RequestFault::Expired { .. })));
        let by_another = Renew::sign(router, 5, 70, [3; 16], NOW_S + 9, &testbed.router);
        assert_eq!(check(&by_another, &mut seen), Err(RequestFault::BadSignature));
        let alterations: [fn(&mut Renew); 4] =
            [|r| r.instance = 6, |r| r.payment = 69, |r| r.nonce[0] = 0, |r| r.expiry_s += 1];
        for alter in alterations {
            let mut altered = good.clone();
            alter(&mut altered);
            assert_eq!(check(&altered, &mut seen), Err(RequestFault::BadSignature));
        }
        assert!(seen.is_empty(), "what does not count is not remembered");
    }

    /// The upload that carries the signature of the good terms and says something else.
    fn altered(testbed: &Testbed, alter: impl FnOnce(&mut Terms)) -> Upload {
        let mut other = terms(testbed);
        alter(&mut other);
        assert_ne!(other, terms(testbed), "the test alters nothing");
        Upload::sign(terms(testbed), &testbed.owner).with_terms(other)
    }

    #[test]
    fn the_signature_covers_every_field() {
        let testbed = Testbed::new();
        // The fields that are compared before the signature is looked at name their own fault.
        let other = testbed.authority_key.issue_identity(router_named("x"), Validity::starting(0, 1)).unwrap().public();
        let faults: [(Upload, &str); 17] = [
            (altered(&testbed, |t| t.router = other), "wrong-router"),
            (altered(&testbed, |t| t.principal = parse_principal("192.0.2.8").unwrap()), "wrong-principal"),
            (altered(&testbed, |t| t.principal = parse_principal("192.0.2.7/32").unwrap()), "wrong-principal"),
            (altered(&testbed, |t| t.policy_id[31] ^= 1), "stale-policy"),
            (altered(&testbed, |t| t.lemma_root[0] ^= 1), "stale-manifest"),
            (altered(&testbed, |t| t.program[0] ^= 1), "bad-signature"),
            (altered(&testbed, |t| t.proof = None), "bad-signature"),
            (altered(&testbed, |t| t.proof.as_mut().unwrap()[4] ^= 1), "bad-signature"),
            (altered(&testbed, |t| t.class = Class::Content), "bad-signature"),
            (altered(&testbed, |t| t.complexity -= 1), "bad-signature"),
            (altered(&testbed, |t| t.cost += 1), "bad-signature"),
            (altered(&testbed, |t| t.lifetime_s += 1), "bad-signature"),
            (altered(&testbed, |t| t.packet_rate += 1), "bad-signature"),
            (altered(&testbed, |t| t.payment += 1), "bad-signature"),
            (altered(&testbed, |t| t.quote = Some(Box::new(quote(&testbed)))), "bad-signature"),
            (altered(&testbed, |t| t.monitor = true), "bad-signature"),
            (altered(&testbed, |t| t.expiry_s += 1), "bad-signature"),
        ];
        for (upload, code) in faults {
            assert_eq!(verify(&testbed, upload).unwrap_err().code(), code);
        }
        let nonce = altered(&testbed, |t| t.nonce[15] ^= 1);
        assert_eq!(verify(&testbed, nonce), Err(RequestFault::BadSignature));
        // Moving a byte from the program to the proof changes what is signed as well.
        let moved = altered(&testbed, |t| {
            let last = t.program.pop().unwrap();
            t.proof.as_mut().unwrap().insert(0, last);
        });
        assert_eq!(verify(&testbed, moved), Err(RequestFault::BadSignature));
        // No proof is not the same as any proof, whatever its bytes.
        let mut none = terms(&testbed);
        none.proof = None;
        for proof in [vec![], vec![0; 8]] {
            let upload = Upload::sign(none.clone(), &testbed.owner);
            let upload = upload.with_terms(Terms { proof: Some(proof), ..none.clone() });
            assert_eq!(verify(&testbed, upload), Err(RequestFault::BadSignature));
        }
        // Nor does the early comparison stand in for the signature: signed for the wrong one, asked of the right one.
        for alter in [
            (|t: &mut Terms| t.policy_id[0] ^= 1) as fn(&mut Terms),
            |t| t.lemma_root[0] ^= 1,
            |t| t.router.0[0] ^= 1,
            |t| t.principal = parse_principal("192.0.2.8").unwrap(),
        ] {
            let mut wrong = terms(&testbed);
            alter(&mut wrong);
            let upload = Upload::sign(wrong, &testbed.owner).with_terms(terms(&testbed));
            assert_eq!(verify(&testbed, upload), Err(RequestFault::BadSignature));
        }
    }

    #[test]
    fn no_bit_of_an_encoded_upload_can_be_changed() {
        let testbed = Testbed::new();
        let bytes = encode_request(1, &Request::Upload(Box::new(Upload::sign(terms(&testbed), &testbed.owner))));
        for bit in 0..8 * bytes.len() {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            match decode_request(&changed) {
                // The id of the message is not the upload's; the session guards it.
                Ok((1, Request::Upload(upload))) => assert!(verify(&testbed, *upload).is_err(), "bit {bit}"),
                Ok((id, Request::Upload(_))) => assert_ne!(id, 1),
                _ => {}
            }
        }
    }

    #[test]
    fn another_owner_cannot_ask_in_ones_name() {
        let testbed = Testbed::new();
        let subject = Subject::Owner(parse_principal("192.0.2.7").unwrap());
        let twin = testbed.authority_key.issue_identity(subject, Validity::starting(NOW_S, 60)).unwrap();
        assert_eq!(verify(&testbed, Upload::sign(terms(&testbed), &twin)), Err(RequestFault::BadSignature));
    }

    #[test]
    fn a_request_counts_in_its_time_and_once() {
        let testbed = Testbed::new();
        let (owner, router) = (owner(&testbed), testbed.router.public());
        let mut seen = NonceCache::new(100, 100);
        let mut at = |expiry_s: u64, now_s: u64, nonce: u8| {
            let terms = Terms { expiry_s, nonce: [nonce; 16], ..terms(&testbed) };
            let upload = Upload::sign(terms, &testbed.owner);
            verify_upload(upload, &owner, &router, &[7; 32], |root| *root == LEMMA_ROOT, now_s, &mut seen)
                .map(|_| ())
                .map_err(|f| f.code())
        };
        assert_eq!(at(NOW_S - 1, NOW_S, 1), Err("expired"));
        assert_eq!(at(NOW_S + UPLOAD_EXPIRY_MAX_S + 1, NOW_S, 1), Err("expiry-too-far"));
        assert_eq!(at(u64::MAX, NOW_S, 1), Err("expiry-too-far"));
        assert_eq!(at(NOW_S + UPLOAD_EXPIRY_MAX_S, NOW_S, 1), Ok(()));
        assert_eq!(at(NOW_S + UPLOAD_EXPIRY_MAX_S, NOW_S + UPLOAD_EXPIRY_MAX_S, 1), Err("replayed"));
        assert_eq!(at(NOW_S + UPLOAD_EXPIRY_MAX_S, NOW_S + UPLOAD_EXPIRY_MAX_S + 1, 1), Err("expired"));
        assert_eq!(at(NOW_S, NOW_S, 2), Ok(()));
    }

    #[test]
    fn withdrawals_are_signed_for_one_program_at_one_router() {
        let testbed = Testbed::new();
        let (owner, router) = (owner(&testbed), testbed.router.public());
        let sign =
            |router, instance, identity: &Identity| Withdraw::sign(router, instance, [3; 16], NOW_S + 9, identity);
        let check =
            |withdraw: &Withdraw, seen: &mut NonceCache| verify_withdraw(withdraw, &owner, &router, NOW_S, seen);
        let mut seen = NonceCache::new(9, 9);
        let good = sign(router, 5, &testbed.owner);
        assert_eq!(check(&good, &mut seen), Ok(5));
        assert_eq!(check(&good, &mut seen), Err(RequestFault::Replayed));
        let mut seen = NonceCache::new(9, 9);
        assert_eq!(check(&sign(router, 5, &testbed.router), &mut seen), Err(RequestFault::BadSignature));
        let elsewhere = sign(testbed.owner.public(), 5, &testbed.owner);
        assert!(matches!(check(&elsewhere, &mut seen), Err(RequestFault::WrongRouter { .. })));
        for alter in [(|w: &mut Withdraw| w.instance = 6) as fn(&mut Withdraw), |w| w.nonce[0] = 0, |w| w.expiry_s += 1]
        {
            let mut altered = good.clone();
            alter(&mut altered);
            assert_eq!(check(&altered, &mut seen), Err(RequestFault::BadSignature));
        }
        assert!(seen.is_empty(), "what does not count is not remembered");
    }

    #[test]
    fn the_memory_of_nonces_is_bounded_and_forgets_in_time() {
        let seed = seed();
        let mut random = Random::new(seed);
        let mut seen = NonceCache::new(50, 20);
        let mut expected: Vec<(PublicKey, [u8; 16], u64)> = Vec::new();
        for step in 0..5000 {
            let now_s = 1000 + step / 10;
            let key = PublicKey([random.below(4) as u8; 32]);
            let nonce = [random.below(64) as u8; 16];
            let expiry_s = now_s + random.below(30);
            expected.retain(|(.., expiry)| *expiry >= now_s);
            let of_owner = expected.iter().filter(|(owner, ..)| *owner == key).count();
            let wanted = if expected.iter().any(|(owner, known, _)| (*owner, *known) == (key, nonce)) {
                Err(RequestFault::Replayed)
            } else if expected.len() >= 50 || of_owner >= 20 {
                Err(RequestFault::TooManyRequests)
            } else {
                expected.push((key, nonce, expiry_s));
                Ok(())
            };
            assert_eq!(seen.insert(key, nonce, expiry_s, now_s), wanted, "seed {seed}, step {step}");
            assert_eq!(seen.len(), expected.len(), "seed {seed}, step {step}");
            assert_eq!(seen.seen.values().map(BTreeSet::len).sum::<usize>(), expected.len());
        }
    }

    #[test]
    fn policies_are_their_routers_words() {
        let testbed = Testbed::new();
        let peer = testbed.authority.router(testbed.router.certificate(), NOW_S).unwrap();
        let other = testbed.authority_key.issue_identity(router_named("edge-1"), Validity::starting(NOW_S, 9)).unwrap();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy/end-user.toml");
        let policy = crate::policy_file::load(&path).unwrap();
        let tariff = Tariff { install: 1, per_teracycle: 2, per_gibibyte_day: 3, check: 4 };
        let sign = |root, identity: &Identity| SignedPolicy::sign(&policy, root, tariff, identity);
        let good = sign(LEMMA_ROOT, &testbed.router);
        assert_eq!((good.verify(&peer, &LEMMA_ROOT), good.tariff()), (Ok(policy.clone()), tariff));
        assert_eq!(sign(LEMMA_ROOT, &other).verify(&peer, &LEMMA_ROOT), Err(RequestFault::BadSignature));
        assert_eq!(sign([0; 32], &testbed.router).verify(&peer, &LEMMA_ROOT), Err(RequestFault::StaleManifest));
        // Every bit, as it travels.
        crate::testing::every_bit(&crate::cbor::to_bytes(&good), |changed| {
            crate::cbor::from_bytes::<SignedPolicy>(changed)
                .is_ok_and(|policy| policy.verify(&peer, &LEMMA_ROOT).is_ok())
        });
    }
}
