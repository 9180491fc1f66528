//! What is signed beside the sessions: uploads, renewals, withdrawals and policies.
//!
//! A signature outlives its session: an upload proves to anyone with the authority's key what its owner asked for. Each
//! covers every field beside it. What a router signs about accounts is in [`crate::receipt`] and [`crate::payment`].

use crate::cbor::{self, Canonical, Malformed, Reader, Writer};
use crate::claim::Claim;
use crate::digest::{Digest, Domain};
use crate::identity::{Identity, IdentityError, PublicKey, RouterId, RouterPeer};
use crate::limits::PROOF_BYTES_MAX;
use crate::payment::{Quote, Tariff};
use crate::verify::RequestFault;
use std::fmt;
use vinet_trusted::addr::Principal;
use vinet_trusted::policy::{POLICY_BYTES_MAX, Policy};
use vinet_trusted::program::{PROGRAM_BYTES_MAX, Program};

/// Sixteen random bytes that make a signed request the only one of its kind.
///
/// # Errors
/// [`IdentityError::NoEntropy`].
pub fn fresh_nonce() -> Result<[u8; 16], IdentityError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|_| IdentityError::NoEntropy)?;
    Ok(nonce)
}

/// The class of a program: what it looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Addresses only: a verdict of the flow table.
    Header,
    /// The content of packets and streams too.
    Content,
}

impl Class {
    /// The class of `program`: content, if it has words to look for.
    #[must_use]
    pub fn of(program: &Program) -> Class {
        if program.words().is_empty() { Class::Header } else { Class::Content }
    }
    pub(crate) const fn number(self) -> u64 {
        match self {
            Class::Header => 0,
            Class::Content => 1,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Header => "header",
            Class::Content => "content",
        })
    }
}

impl Canonical for Class {
    fn write(&self, w: &mut Writer) {
        w.uint(self.number());
    }
    fn read(r: &mut Reader<'_>) -> Result<Class, Malformed> {
        Ok(if r.uint(1, "a class: 0 (header) or 1 (content)")? == 0 { Class::Header } else { Class::Content })
    }
}

/// What an upload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The router that is asked.
    pub router: RouterId,
    /// The policy that the proof is about.
    pub policy_id: [u8; 32],
    /// The lemmas that the proof may cite.
    pub lemma_root: [u8; 32],
    /// The program's bytes.
    pub program: Vec<u8>,
    /// The proof's bytes; `None` asks the router to analyse the program itself.
    pub proof: Option<Vec<u8>>,
    /// The owner.
    pub principal: Principal,
    /// The declared class.
    pub class: Class,
    /// The declared complexity, in cycles per packet.
    pub complexity: u64,
    /// The declared cost, in cycles per packet times seconds.
    pub cost: u64,
    /// The declared lifetime, in seconds.
    pub lifetime_s: u32,
    /// The packet rate that is asked for, in packets a second.
    pub packet_rate: u32,
    /// What the owner pays for the whole lifetime, in credits; taken as it is offered.
    pub payment: u64,
    /// The router's quote that fixes the price; without one the tariff does.
    pub quote: Option<Box<Quote>>,
    /// Whether it is only to count what it would drop.
    pub monitor: bool,
    /// What tells this request from every other one.
    pub nonce: [u8; 16],
    /// The Unix second after which the request is void.
    pub expiry_s: u64,
}

impl Terms {
    fn digest(&self) -> [u8; 32] {
        let digest = Digest::new(Domain::Upload)
            .field(&self.router.0)
            .field(&self.policy_id)
            .field(&self.lemma_root)
            .field(&self.program);
        let digest = match &self.proof {
            None => digest.number(0),
            Some(proof) => digest.number(1).field(proof),
        };
        let digest = digest
            .field(&cbor::to_bytes(&self.principal))
            .number(self.class.number())
            .number(self.complexity)
            .number(self.cost)
            .number(u64::from(self.lifetime_s))
            .number(u64::from(self.packet_rate))
            .number(self.payment);
        let digest = match &self.quote {
            None => digest.number(0),
            Some(quote) => digest.number(1).field(&cbor::to_bytes(&**quote)),
        };
        digest.number(u64::from(self.monitor)).field(&self.nonce).number(self.expiry_s).finish()
    }
}

/// A request to install a program, signed by its owner. The signature has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    terms: Terms,
    signature: [u8; 64],
}

impl Upload {
    /// Signs `terms`.
    #[must_use]
    pub fn sign(terms: Terms, identity: &Identity) -> Upload {
        let signature = identity.sign(&terms.digest());
        Upload { terms, signature }
    }
    /// What it says.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }
    /// The one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }
    /// The upload of these bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Upload, Malformed> {
        cbor::from_bytes(bytes)
    }
    /// What it says, to keep.
    #[must_use]
    pub fn into_terms(self) -> Terms {
        self.terms
    }
    /// The same signature under other terms: what a forger has.
    #[cfg(test)]
    pub(crate) fn with_terms(self, terms: Terms) -> Upload {
        Upload { terms, ..self }
    }
    /// That `key` signed it, to be verified.
    #[must_use]
    pub fn claim(&self, key: PublicKey) -> Claim {
        Claim { key, digest: self.terms.digest(), signature: self.signature }
    }
}

impl Canonical for Upload {
    fn write(&self, w: &mut Writer) {
        let t = &self.terms;
        w.array(17).bytes(&t.router.0).bytes(&t.policy_id).bytes(&t.lemma_root).bytes(&t.program);
        match &t.proof {
            None => w.null(),
            Some(proof) => w.bytes(proof),
        };
        w.item(&t.principal).item(&t.class).uint(t.complexity).uint(t.cost);
        w.uint(u64::from(t.lifetime_s)).uint(u64::from(t.packet_rate)).uint(t.payment);
        match &t.quote {
            None => w.null(),
            Some(quote) => w.item(&**quote),
        };
        w.flag(t.monitor).bytes(&t.nonce).uint(t.expiry_s).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<Upload, Malformed> {
        r.array(17, "an upload of 17 items")?;
        Ok(Upload {
            terms: Terms {
                router: PublicKey(r.fixed("the router's key of 32 bytes")?),
                policy_id: r.fixed("a policy's name of 32 bytes")?,
                lemma_root: r.fixed("a lemma root of 32 bytes")?,
                program: r.bytes(PROGRAM_BYTES_MAX, "a program within its limit")?.to_vec(),
                proof: if r.null() {
                    None
                } else {
                    Some(r.bytes(PROOF_BYTES_MAX, "a proof within its limit, or null")?.to_vec())
                },
                principal: r.item()?,
                class: r.item()?,
                complexity: r.u64("the declared complexity")?,
                cost: r.u64("the declared cost")?,
                lifetime_s: r.u32("the declared lifetime")?,
                packet_rate: r.u32("a packet rate")?,
                payment: r.u64("a payment")?,
                quote: if r.null() { None } else { Some(Box::new(r.item()?)) },
                monitor: r.flag("whether the program is only to count: 0 or 1")?,
                nonce: r.fixed("a nonce of 16 bytes")?,
                expiry_s: r.u64("an expiry")?,
            },
            signature: r.fixed("a signature of 64 bytes")?,
        })
    }
}

/// A request to end a program before its lifetime, signed by its owner. The signature has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdraw {
    pub(crate) router: RouterId,
    pub(crate) instance: u64,
    pub(crate) nonce: [u8; 16],
    pub(crate) expiry_s: u64,
    signature: [u8; 64],
}

impl Withdraw {
    /// Signs the request to end `instance` at `router`, void after the Unix second `expiry_s`.
    #[must_use]
    pub fn sign(router: RouterId, instance: u64, nonce: [u8; 16], expiry_s: u64, identity: &Identity) -> Withdraw {
        let mut withdraw = Withdraw { router, instance, nonce, expiry_s, signature: [0; 64] };
        withdraw.signature = identity.sign(&withdraw.digest());
        withdraw
    }
    /// The program that is to end.
    #[must_use]
    pub const fn instance(&self) -> u64 {
        self.instance
    }
    /// What tells this request from every other one.
    #[must_use]
    pub const fn nonce(&self) -> [u8; 16] {
        self.nonce
    }
    /// The Unix second after which the request is void.
    #[must_use]
    pub const fn expiry_s(&self) -> u64 {
        self.expiry_s
    }
    fn digest(&self) -> [u8; 32] {
        Digest::new(Domain::Withdraw)
            .field(&self.router.0)
            .number(self.instance)
            .field(&self.nonce)
            .number(self.expiry_s)
            .finish()
    }
    /// That `key` signed it, to be verified.
    #[must_use]
    pub fn claim(&self, key: PublicKey) -> Claim {
        Claim { key, digest: self.digest(), signature: self.signature }
    }
}

impl Canonical for Withdraw {
    fn write(&self, w: &mut Writer) {
        w.array(5).bytes(&self.router.0).uint(self.instance).bytes(&self.nonce).uint(self.expiry_s);
        w.bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<Withdraw, Malformed> {
        r.array(5, "a withdrawal of 5 items")?;
        Ok(Withdraw {
            router: PublicKey(r.fixed("the router's key of 32 bytes")?),
            instance: r.u64("the number of a program")?,
            nonce: r.fixed("a nonce of 16 bytes")?,
            expiry_s: r.u64("an expiry")?,
            signature: r.fixed("a signature of 64 bytes")?,
        })
    }
}

/// A request that a program's lifetime begin anew, signed by its owner. The signature has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renew {
    pub(crate) router: RouterId,
    pub(crate) instance: u64,
    pub(crate) payment: u64,
    pub(crate) nonce: [u8; 16],
    pub(crate) expiry_s: u64,
    signature: [u8; 64],
}

impl Renew {
    /// Signs the request that `instance` at `router` run its whole lifetime from now on, for a `payment` in credits. It is
    /// void after the Unix second `expiry_s`.
    #[must_use]
    pub fn sign(
        router: RouterId,
        instance: u64,
        payment: u64,
        nonce: [u8; 16],
        expiry_s: u64,
        identity: &Identity,
    ) -> Renew {
        let mut renew = Renew { router, instance, payment, nonce, expiry_s, signature: [0; 64] };
        renew.signature = identity.sign(&renew.digest());
        renew
    }
    /// The program that is to run on.
    #[must_use]
    pub const fn instance(&self) -> u64 {
        self.instance
    }
    /// What the owner pays for it, in credits.
    #[must_use]
    pub const fn payment(&self) -> u64 {
        self.payment
    }
    /// What tells this request from every other one.
    #[must_use]
    pub const fn nonce(&self) -> [u8; 16] {
        self.nonce
    }
    /// The Unix second after which it is void.
    #[must_use]
    pub const fn expiry_s(&self) -> u64 {
        self.expiry_s
    }
    fn digest(&self) -> [u8; 32] {
        Digest::new(Domain::Renew)
            .field(&self.router.0)
            .number(self.instance)
            .number(self.payment)
            .field(&self.nonce)
            .number(self.expiry_s)
            .finish()
    }
    /// That `key` signed it, to be verified.
    #[must_use]
    pub fn claim(&self, key: PublicKey) -> Claim {
        Claim { key, digest: self.digest(), signature: self.signature }
    }
}

impl Canonical for Renew {
    fn write(&self, w: &mut Writer) {
        w.array(6).bytes(&self.router.0).uint(self.instance).uint(self.payment).bytes(&self.nonce);
        w.uint(self.expiry_s).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<Renew, Malformed> {
        r.array(6, "a renewal of 6 items")?;
        Ok(Renew {
            router: PublicKey(r.fixed("the router's key of 32 bytes")?),
            instance: r.u64("the number of a program")?,
            payment: r.u64("a payment")?,
            nonce: r.fixed("a nonce of 16 bytes")?,
            expiry_s: r.u64("an expiry")?,
            signature: r.fixed("a signature of 64 bytes")?,
        })
    }
}

/// A policy with the signature of the router that holds it. The signature has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPolicy {
    policy: Vec<u8>,
    lemma_root: [u8; 32],
    tariff: Tariff,
    signature: [u8; 64],
}

impl SignedPolicy {
    /// Signs `policy`, and what the router takes for programs under it, as the router that `identity` names.
    #[must_use]
    pub fn sign(policy: &Policy, lemma_root: [u8; 32], tariff: Tariff, identity: &Identity) -> SignedPolicy {
        let mut signed = SignedPolicy { policy: policy.encode(), lemma_root, tariff, signature: [0; 64] };
        signed.signature = identity.sign(&signed.digest(&identity.public()));
        signed
    }
    fn digest(&self, router: &RouterId) -> [u8; 32] {
        Digest::new(Domain::Policy)
            .field(&router.0)
            .field(&self.policy)
            .field(&self.lemma_root)
            .number(self.tariff.install)
            .number(self.tariff.per_teracycle)
            .number(self.tariff.per_gibibyte_day)
            .number(self.tariff.check)
            .finish()
    }
    /// The root of the lemmas that every owner's proofs may cite there.
    #[must_use]
    pub const fn lemma_root(&self) -> [u8; 32] {
        self.lemma_root
    }
    /// What the router takes for programs; its word where [`SignedPolicy::verify`] has accepted it.
    #[must_use]
    pub const fn tariff(&self) -> Tariff {
        self.tariff
    }
    /// The policy that `router` signed, where its lemmas are those with the root `lemma_root`.
    ///
    /// # Errors
    /// [`RequestFault::BadSignature`], [`RequestFault::StaleManifest`], [`RequestFault::BadPolicy`].
    pub fn verify(&self, router: &RouterPeer, lemma_root: &[u8; 32]) -> Result<Policy, RequestFault> {
        if !router.id().has_signed(&self.digest(&router.id()), &self.signature) {
            return Err(RequestFault::BadSignature);
        }
        if self.lemma_root != *lemma_root {
            return Err(RequestFault::StaleManifest);
        }
        Policy::decode(&self.policy).map_err(RequestFault::BadPolicy)
    }
}

impl Canonical for SignedPolicy {
    fn write(&self, w: &mut Writer) {
        w.array(4).bytes(&self.policy).bytes(&self.lemma_root).item(&self.tariff).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<SignedPolicy, Malformed> {
        r.array(4, "a signed policy of 4 items")?;
        Ok(SignedPolicy {
            policy: r.bytes(POLICY_BYTES_MAX, "a policy within its limit")?.to_vec(),
            lemma_root: r.fixed("a lemma root of 32 bytes")?,
            tariff: r.item()?,
            signature: r.fixed("a signature of 64 bytes")?,
        })
    }
}
