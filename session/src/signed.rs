//! What is signed beside the sessions: uploads, withdrawals, policies and receipts.
//!
//! A signature outlives its session: a receipt proves to anyone with the authority's key what the router promised, and
//! an upload what its owner asked for. Each covers every field beside it.

use crate::cbor::{self, Canonical, Malformed, Reader, Writer};
use crate::digest::{Digest, Domain};
use crate::identity::{Identity, IdentityError, PublicKey, RouterId, RouterPeer};
use crate::limits::PROOF_BYTES_MAX;
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
    const fn number(self) -> u64 {
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
        digest
            .field(&cbor::to_bytes(&self.principal))
            .number(self.class.number())
            .number(self.complexity)
            .number(self.cost)
            .number(u64::from(self.lifetime_s))
            .number(u64::from(self.packet_rate))
            .field(&self.nonce)
            .number(self.expiry_s)
            .finish()
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
    pub(crate) fn into_terms(self) -> Terms {
        self.terms
    }
    /// The same signature under other terms: what a forger has.
    #[cfg(test)]
    pub(crate) fn with_terms(self, terms: Terms) -> Upload {
        Upload { terms, ..self }
    }
    pub(crate) fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.has_signed(&self.terms.digest(), &self.signature)
    }
}

impl Canonical for Upload {
    fn write(&self, w: &mut Writer) {
        let t = &self.terms;
        w.array(14).bytes(&t.router.0).bytes(&t.policy_id).bytes(&t.lemma_root).bytes(&t.program);
        match &t.proof {
            None => w.null(),
            Some(proof) => w.bytes(proof),
        };
        w.item(&t.principal).item(&t.class).uint(t.complexity).uint(t.cost);
        w.uint(u64::from(t.lifetime_s)).uint(u64::from(t.packet_rate)).bytes(&t.nonce).uint(t.expiry_s);
        w.bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<Upload, Malformed> {
        r.array(14, "an upload of 14 items")?;
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
    fn digest(&self) -> [u8; 32] {
        Digest::new(Domain::Withdraw)
            .field(&self.router.0)
            .number(self.instance)
            .field(&self.nonce)
            .number(self.expiry_s)
            .finish()
    }
    pub(crate) fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.has_signed(&self.digest(), &self.signature)
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

/// A policy with the signature of the router that holds it. The signature has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPolicy {
    policy: Vec<u8>,
    lemma_root: [u8; 32],
    signature: [u8; 64],
}

impl SignedPolicy {
    /// Signs `policy` as the router that `identity` names.
    #[must_use]
    pub fn sign(policy: &Policy, lemma_root: [u8; 32], identity: &Identity) -> SignedPolicy {
        let policy = policy.encode();
        let signature = identity.sign(&SignedPolicy::digest(&identity.public(), &policy, &lemma_root));
        SignedPolicy { policy, lemma_root, signature }
    }
    fn digest(router: &RouterId, policy: &[u8], lemma_root: &[u8; 32]) -> [u8; 32] {
        Digest::new(Domain::Policy).field(&router.0).field(policy).field(lemma_root).finish()
    }
    /// The root of the lemmas that every owner's proofs may cite there.
    #[must_use]
    pub const fn lemma_root(&self) -> [u8; 32] {
        self.lemma_root
    }
    /// The policy that `router` signed, where its lemmas are those with the root `lemma_root`.
    ///
    /// # Errors
    /// [`RequestFault::BadSignature`], [`RequestFault::StaleManifest`], [`RequestFault::BadPolicy`].
    pub fn verify(&self, router: &RouterPeer, lemma_root: &[u8; 32]) -> Result<Policy, RequestFault> {
        if !router.id().has_signed(&SignedPolicy::digest(&router.id(), &self.policy, &self.lemma_root), &self.signature)
        {
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
        w.array(3).bytes(&self.policy).bytes(&self.lemma_root).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<SignedPolicy, Malformed> {
        r.array(3, "a signed policy of 3 items")?;
        Ok(SignedPolicy {
            policy: r.bytes(POLICY_BYTES_MAX, "a policy within its limit")?.to_vec(),
            lemma_root: r.fixed("a lemma root of 32 bytes")?,
            signature: r.fixed("a signature of 64 bytes")?,
        })
    }
}

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptTerms {
    /// The number of the installed program at its router; never used twice.
    pub instance: u64,
    /// The BLAKE3 of the program's bytes.
    pub program_id: [u8; 32],
    /// The owner.
    pub principal: Principal,
    /// The policy that it was admitted under.
    pub policy_id: [u8; 32],
    /// The derived class.
    pub class: Class,
    /// The derived complexity, in cycles per packet.
    pub complexity: u64,
    /// The derived cost, in cycles per packet times seconds.
    pub cost: u64,
    /// The granted packet rate, in packets a second.
    pub packet_rate: u32,
    /// The Unix second of the installation.
    pub installed_s: u64,
    /// The Unix second at which the lifetime ends.
    pub ends_s: u64,
    /// The nonce of the upload.
    pub nonce: [u8; 16],
}

impl Canonical for ReceiptTerms {
    fn write(&self, w: &mut Writer) {
        w.array(11).uint(self.instance).bytes(&self.program_id).item(&self.principal).bytes(&self.policy_id);
        w.item(&self.class).uint(self.complexity).uint(self.cost).uint(u64::from(self.packet_rate));
        w.uint(self.installed_s).uint(self.ends_s).bytes(&self.nonce);
    }
    fn read(r: &mut Reader<'_>) -> Result<ReceiptTerms, Malformed> {
        r.array(11, "a receipt's terms of 11 items")?;
        Ok(ReceiptTerms {
            instance: r.u64("the number of a program")?,
            program_id: r.fixed("a program's name of 32 bytes")?,
            principal: r.item()?,
            policy_id: r.fixed("a policy's name of 32 bytes")?,
            class: r.item()?,
            complexity: r.u64("a complexity")?,
            cost: r.u64("a cost")?,
            packet_rate: r.u32("a packet rate")?,
            installed_s: r.u64("the second of the installation")?,
            ends_s: r.u64("the second of the end")?,
            nonce: r.fixed("a nonce of 16 bytes")?,
        })
    }
}

/// A router's signed word that a program is in force. The signature has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    terms: ReceiptTerms,
    signature: [u8; 64],
}

impl Receipt {
    /// Signs `terms` as the router that `identity` names.
    #[must_use]
    pub fn sign(terms: ReceiptTerms, identity: &Identity) -> Receipt {
        let signature = identity.sign(&Receipt::digest(&identity.public(), &terms));
        Receipt { terms, signature }
    }
    fn digest(router: &RouterId, terms: &ReceiptTerms) -> [u8; 32] {
        Digest::new(Domain::Receipt).field(&router.0).field(&cbor::to_bytes(terms)).finish()
    }
    /// What it says, unverified.
    #[must_use]
    pub const fn terms(&self) -> &ReceiptTerms {
        &self.terms
    }
    /// What it says, if `router` signed it.
    ///
    /// # Errors
    /// [`RequestFault::BadSignature`].
    pub fn verify(&self, router: &RouterPeer) -> Result<&ReceiptTerms, RequestFault> {
        if router.id().has_signed(&Receipt::digest(&router.id(), &self.terms), &self.signature) {
            Ok(&self.terms)
        } else {
            Err(RequestFault::BadSignature)
        }
    }
}

impl Canonical for Receipt {
    fn write(&self, w: &mut Writer) {
        w.array(2).item(&self.terms).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<Receipt, Malformed> {
        r.array(2, "a receipt of 2 items")?;
        Ok(Receipt { terms: r.item()?, signature: r.fixed("a signature of 64 bytes")? })
    }
}
