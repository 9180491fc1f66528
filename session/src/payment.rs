//! Money: a bank's credits, a router's tariff, and its quotes.
//!
//! Amounts are whole credits. A [`Credit`] is the bank's signed word that one account at one router may be given an
//! amount, once; a [`Quote`] is the router's that it will take a price until a second. Both are only parsed until
//! [`Credit::accept`] or [`Quote::fits`] has looked at them. An account is an owner's key: who gets a certificate for a
//! new key has a new account.
//!
//! Left out: what an account holds, which is the router's ledger, and how anybody pays the bank.

use crate::cbor::{self, Canonical, Malformed, Reader, Writer};
use crate::certificate::is_name;
use crate::digest::{Digest, Domain};
use crate::identity::{Identity, IdentityError, PublicKey, RouterId, generate_secret};
use crate::message::Rejection;
use crate::signed::{Class, Terms};
use crate::verify::RequestFault;
use ed25519_dalek::{Signer, SigningKey};
use std::fmt;
use vinet_trusted::addr::Principal;

/// The public half of a bank: what routers that are paid trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bank {
    pub(crate) name: String,
    pub(crate) key: PublicKey,
}

impl Bank {
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
}

/// A bank with its secret key: whoever has it makes money.
pub struct BankKey {
    pub(crate) name: String,
    pub(crate) secret: SigningKey,
}

impl fmt::Debug for BankKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BankKey").field("name", &self.name).field("key", &self.bank().key).finish_non_exhaustive()
    }
}

impl BankKey {
    /// A new bank.
    ///
    /// # Errors
    /// [`IdentityError::BadName`] or [`IdentityError::NoEntropy`].
    pub fn generate(name: &str) -> Result<BankKey, IdentityError> {
        if !is_name(name) {
            return Err(IdentityError::BadName(name.chars().take(80).collect()));
        }
        Ok(BankKey { name: name.to_owned(), secret: generate_secret()? })
    }
    /// Its public half.
    #[must_use]
    pub fn bank(&self) -> Bank {
        Bank { name: self.name.clone(), key: PublicKey(self.secret.verifying_key().to_bytes()) }
    }
}

/// What a credit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditTerms {
    /// What tells this credit from every other one of its bank.
    pub serial: [u8; 16],
    /// How much, in credits.
    pub amount: u64,
    /// The one router that takes it.
    pub router: RouterId,
    /// The key of the owner who is given it.
    pub account: PublicKey,
    /// The Unix second after which it is void.
    pub expiry_s: u64,
}

/// A bank's signed word that an account is to be given an amount, once. The signature has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    terms: CreditTerms,
    signature: [u8; 64],
}

impl Credit {
    /// Signs `terms`.
    #[must_use]
    pub fn sign(terms: CreditTerms, bank: &BankKey) -> Credit {
        let signature = bank.secret.sign(&Credit::digest(&bank.bank().key, &terms)).to_bytes();
        Credit { terms, signature }
    }
    fn digest(bank: &PublicKey, terms: &CreditTerms) -> [u8; 32] {
        Digest::new(Domain::Credit).field(&bank.0).field(&cbor::to_bytes(terms)).finish()
    }
    /// What it says, unverified.
    #[must_use]
    pub const fn terms(&self) -> &CreditTerms {
        &self.terms
    }
    /// The one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }
    /// The credit of these bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Credit, Malformed> {
        cbor::from_bytes(bytes)
    }
    /// What it says, if `bank` signed it.
    ///
    /// # Errors
    /// [`CreditFault::Forged`].
    pub fn verify(&self, bank: &Bank) -> Result<&CreditTerms, CreditFault> {
        if bank.key.has_signed(&Credit::digest(&bank.key, &self.terms), &self.signature) {
            Ok(&self.terms)
        } else {
            Err(CreditFault::Forged)
        }
    }
    /// What it says, if it counts at `router` for the owner with the key `account`, at `now_s`. Whether it was taken
    /// before is the router's memory of serial numbers.
    ///
    /// # Errors
    /// The first fault found.
    pub fn accept(
        &self,
        bank: &Bank,
        router: &RouterId,
        account: &PublicKey,
        now_s: u64,
    ) -> Result<&CreditTerms, CreditFault> {
        let terms = self.verify(bank)?;
        if terms.router != *router {
            return Err(CreditFault::Elsewhere { found: terms.router });
        }
        if terms.account != *account {
            return Err(CreditFault::NotYours { found: terms.account });
        }
        if terms.expiry_s < now_s {
            return Err(CreditFault::Expired { expiry_s: terms.expiry_s, now_s });
        }
        Ok(terms)
    }
}

impl Canonical for CreditTerms {
    fn write(&self, w: &mut Writer) {
        w.array(5).bytes(&self.serial).uint(self.amount).bytes(&self.router.0).bytes(&self.account.0);
        w.uint(self.expiry_s);
    }
    fn read(r: &mut Reader<'_>) -> Result<CreditTerms, Malformed> {
        r.array(5, "a credit's terms of 5 items")?;
        Ok(CreditTerms {
            serial: r.fixed("a serial number of 16 bytes")?,
            amount: r.u64("an amount")?,
            router: PublicKey(r.fixed("the router's key of 32 bytes")?),
            account: PublicKey(r.fixed("an account's key of 32 bytes")?),
            expiry_s: r.u64("an expiry")?,
        })
    }
}

impl Canonical for Credit {
    fn write(&self, w: &mut Writer) {
        w.array(2).item(&self.terms).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<Credit, Malformed> {
        r.array(2, "a credit of 2 items")?;
        Ok(Credit { terms: r.item()?, signature: r.fixed("a signature of 64 bytes")? })
    }
}

/// Why a credit does not count. Whoever gave it to the owner is at fault, or the owner's choice of router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreditFault {
    /// The router's bank did not sign it.
    Forged,
    /// It is for another router.
    Elsewhere {
        /// The one that it names.
        found: RouterId,
    },
    /// It is for another owner's account.
    NotYours {
        /// The account that it names.
        found: PublicKey,
    },
    /// Its time has passed.
    Expired {
        /// Its last second.
        expiry_s: u64,
        /// The clock here.
        now_s: u64,
    },
}

impl CreditFault {
    /// A short stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            CreditFault::Forged => "credit-forged",
            CreditFault::Elsewhere { .. } => "credit-elsewhere",
            CreditFault::NotYours { .. } => "credit-not-yours",
            CreditFault::Expired { .. } => "credit-expired",
        }
    }
}

impl fmt::Display for CreditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreditFault::Forged => write!(f, "the credit was not signed by the bank that this router trusts"),
            CreditFault::Elsewhere { found } => {
                write!(f, "the credit is for the router with key {found}; deposit it there")
            }
            CreditFault::NotYours { found } => {
                write!(f, "the credit is for the owner with key {found}; deposit it with that identity")
            }
            CreditFault::Expired { expiry_s, now_s } => write!(
                f,
                "the credit was good until second {expiry_s}, and the router's clock says {now_s}; ask the bank for another"
            ),
        }
    }
}

impl std::error::Error for CreditFault {}

impl From<CreditFault> for Rejection {
    fn from(fault: CreditFault) -> Rejection {
        Rejection::new(fault.code(), &fault.to_string(), None)
    }
}

/// What a router takes for a program, part of its signed policy. All zero is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tariff {
    /// For every installation and renewal, in credits.
    pub install: u64,
    /// For 10^12 cycles of capacity that are kept free: complexity (cycles per packet) times packet rate times lifetime.
    pub per_teracycle: u64,
    /// For 2^30 bytes of state that are kept for 86 400 seconds.
    pub per_gibibyte_day: u64,
    /// For a program whose check ends in a rejection: at most what the account has.
    pub check: u64,
}

impl Tariff {
    /// Nothing costs anything.
    pub const FREE: Tariff = Tariff { install: 0, per_teracycle: 0, per_gibibyte_day: 0, check: 0 };

    /// The price of a program of `complexity` cycles per packet, with `state_bytes` of state, that runs for `lifetime_s`
    /// seconds at `packet_rate` packets a second, in credits: each of the two parts is rounded up. `None` where it is
    /// 2^64 or more.
    #[must_use]
    pub fn price(&self, complexity: u64, packet_rate: u32, state_bytes: u64, lifetime_s: u64) -> Option<u64> {
        let part = |amount: u64, per: u64, unit: u128, factor: u64| {
            let whole = u128::from(amount).checked_mul(u128::from(lifetime_s))?;
            Some(whole.checked_mul(u128::from(factor))?.checked_mul(u128::from(per))?.div_ceil(unit))
        };
        let cycles = part(complexity, self.per_teracycle, 1_000_000_000_000, u64::from(packet_rate))?;
        let state = part(state_bytes, self.per_gibibyte_day, 86_400 << 30, 1)?;
        u64::try_from(cycles.checked_add(state)?.checked_add(u128::from(self.install))?).ok()
    }
}

impl Canonical for Tariff {
    fn write(&self, w: &mut Writer) {
        w.array(4).uint(self.install).uint(self.per_teracycle).uint(self.per_gibibyte_day).uint(self.check);
    }
    fn read(r: &mut Reader<'_>) -> Result<Tariff, Malformed> {
        r.array(4, "a tariff of 4 prices")?;
        Ok(Tariff {
            install: r.u64("a price")?,
            per_teracycle: r.u64("a price")?,
            per_gibibyte_day: r.u64("a price")?,
            check: r.u64("a price")?,
        })
    }
}

/// What the price of a program depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuoteAsk {
    /// Its class.
    pub class: Class,
    /// Its complexity, in cycles per packet.
    pub complexity: u64,
    /// The packet rate that it is to be admitted for, in packets a second.
    pub packet_rate: u32,
    /// Its state, in bytes.
    pub state_bytes: u64,
    /// Its lifetime, in seconds.
    pub lifetime_s: u32,
}

impl Canonical for QuoteAsk {
    fn write(&self, w: &mut Writer) {
        w.array(5).item(&self.class).uint(self.complexity).uint(u64::from(self.packet_rate));
        w.uint(self.state_bytes).uint(u64::from(self.lifetime_s));
    }
    fn read(r: &mut Reader<'_>) -> Result<QuoteAsk, Malformed> {
        r.array(5, "what a quote is asked for, of 5 items")?;
        Ok(QuoteAsk {
            class: r.item()?,
            complexity: r.u64("a complexity")?,
            packet_rate: r.u32("a packet rate")?,
            state_bytes: r.u64("the bytes of a state")?,
            lifetime_s: r.u32("a lifetime")?,
        })
    }
}

/// What a quote says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteTerms {
    /// The owner that it was made for.
    pub principal: Principal,
    /// The class of the program.
    pub class: Class,
    /// Its complexity, in cycles per packet.
    pub complexity: u64,
    /// The packet rate, in packets a second.
    pub packet_rate: u32,
    /// Its state, in bytes: a program with less is welcome too.
    pub state_bytes: u64,
    /// Its lifetime, in seconds.
    pub lifetime_s: u32,
    /// What the router takes for it, in credits.
    pub price: u64,
    /// The last Unix second at which the router takes that.
    pub expiry_s: u64,
    /// What tells this quote from every other one.
    pub nonce: [u8; 16],
}

impl Canonical for QuoteTerms {
    fn write(&self, w: &mut Writer) {
        w.array(9).item(&self.principal).item(&self.class).uint(self.complexity).uint(u64::from(self.packet_rate));
        w.uint(self.state_bytes).uint(u64::from(self.lifetime_s)).uint(self.price).uint(self.expiry_s);
        w.bytes(&self.nonce);
    }
    fn read(r: &mut Reader<'_>) -> Result<QuoteTerms, Malformed> {
        r.array(9, "a quote's terms of 9 items")?;
        Ok(QuoteTerms {
            principal: r.item()?,
            class: r.item()?,
            complexity: r.u64("a complexity")?,
            packet_rate: r.u32("a packet rate")?,
            state_bytes: r.u64("the bytes of a state")?,
            lifetime_s: r.u32("a lifetime")?,
            price: r.u64("a price")?,
            expiry_s: r.u64("an expiry")?,
            nonce: r.fixed("a nonce of 16 bytes")?,
        })
    }
}

/// A router's signed word on a price. The signature has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    terms: QuoteTerms,
    signature: [u8; 64],
}

impl Quote {
    /// Signs `terms` as the router that `identity` names.
    #[must_use]
    pub fn sign(terms: QuoteTerms, identity: &Identity) -> Quote {
        let signature = identity.sign(&Quote::digest(&identity.public(), &terms));
        Quote { terms, signature }
    }
    fn digest(router: &RouterId, terms: &QuoteTerms) -> [u8; 32] {
        Digest::new(Domain::Quote).field(&router.0).field(&cbor::to_bytes(terms)).finish()
    }
    /// What it says, unverified.
    #[must_use]
    pub const fn terms(&self) -> &QuoteTerms {
        &self.terms
    }
    /// The one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }
    /// The quote of these bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Quote, Malformed> {
        cbor::from_bytes(bytes)
    }
    /// What it says, if `router` signed it.
    ///
    /// # Errors
    /// [`RequestFault::UnknownQuote`].
    pub fn verify(&self, router: &RouterId) -> Result<&QuoteTerms, RequestFault> {
        if router.has_signed(&Quote::digest(router, &self.terms), &self.signature) {
            Ok(&self.terms)
        } else {
            Err(RequestFault::UnknownQuote)
        }
    }
    /// What it says, if it is a quote of the router of `upload`, holds at `now_s`, is for what `upload` declares, and its
    /// price is paid. That the program has no more state than quoted is known only when it has been checked.
    ///
    /// # Errors
    /// The first fault found.
    pub fn fits(&self, upload: &Terms, now_s: u64) -> Result<&QuoteTerms, RequestFault> {
        let quote = self.verify(&upload.router)?;
        if quote.expiry_s < now_s {
            return Err(RequestFault::QuoteExpired { expiry_s: quote.expiry_s, now_s });
        }
        if quote.principal != upload.principal {
            return Err(RequestFault::QuoteForAnother { found: Box::new(quote.principal) });
        }
        let compared = [
            ("class", quote.class.number(), upload.class.number()),
            ("complexity", quote.complexity, upload.complexity),
            ("packet rate", u64::from(quote.packet_rate), u64::from(upload.packet_rate)),
            ("lifetime", u64::from(quote.lifetime_s), u64::from(upload.lifetime_s)),
        ];
        if let Some(&(what, quoted, declared)) = compared.iter().find(|(_, quoted, declared)| quoted != declared) {
            return Err(RequestFault::QuoteDiffers { what, quoted, declared });
        }
        if upload.payment < quote.price {
            return Err(RequestFault::Price { needed: quote.price, offered: upload.payment });
        }
        Ok(quote)
    }
}

impl Canonical for Quote {
    fn write(&self, w: &mut Writer) {
        w.array(2).item(&self.terms).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<Quote, Malformed> {
        r.array(2, "a quote of 2 items")?;
        Ok(Quote { terms: r.item()?, signature: r.fixed("a signature of 64 bytes")? })
    }
}

#[cfg(test)]
mod tests;
