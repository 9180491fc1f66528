//! Receipts: a router's signed words about an account, each of which names the one before.
//!
//! Everything that moves money or programs has one, and those of an account make one chain from number 1 on. Holding a
//! chain that [`verify_chain`] or [`ChainHead::extend`] accepted proves that the router has said all of it, that nothing
//! is missing between, and that the amounts add up. That nothing came *after* is not shown by a chain; who keeps the
//! last [`ChainHead`] catches a router that later tells another story.

use crate::cbor::{self, Canonical, Malformed, Reader, Writer};
use crate::digest::{Digest, Domain};
use crate::identity::{Identity, PublicKey, RouterId, RouterPeer};
use crate::signed::Class;
use crate::verify::RequestFault;
use std::fmt;
use vinet_trusted::addr::Principal;

/// Why a program is no longer in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Its owner took it back.
    Withdrawn,
    /// Its lifetime ended.
    Expired,
    /// The authority revoked its owner's key.
    Revoked,
    /// The operator, or a policy that changed.
    Displaced,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Withdrawn => "withdrawn",
            Ending::Expired => "expired",
            Ending::Revoked => "revoked",
            Ending::Displaced => "displaced",
        })
    }
}

impl Canonical for Ending {
    fn write(&self, w: &mut Writer) {
        w.uint(match self {
            Ending::Withdrawn => 0,
            Ending::Expired => 1,
            Ending::Revoked => 2,
            Ending::Displaced => 3,
        });
    }
    fn read(r: &mut Reader<'_>) -> Result<Ending, Malformed> {
        let number = r.uint(3, "why a program ended: 0 withdrawn, 1 expired, 2 revoked, 3 displaced")?;
        Ok([Ending::Withdrawn, Ending::Expired, Ending::Revoked, Ending::Displaced][number as usize])
    }
}

/// What was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The number of the program at its router; never used twice.
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
    /// Whether it counts what it would drop, and drops nothing.
    pub monitor: bool,
}

impl Canonical for Installed {
    fn write(&self, w: &mut Writer) {
        w.array(12).uint(self.instance).bytes(&self.program_id).item(&self.principal).bytes(&self.policy_id);
        w.item(&self.class).uint(self.complexity).uint(self.cost).uint(u64::from(self.packet_rate));
        w.uint(self.installed_s).uint(self.ends_s).bytes(&self.nonce).flag(self.monitor);
    }
    fn read(r: &mut Reader<'_>) -> Result<Installed, Malformed> {
        r.array(12, "an installed program of 12 items")?;
        Ok(Installed {
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
            monitor: r.flag("whether the program only counts: 0 or 1")?,
        })
    }
}

/// What a receipt is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiptSubject {
    /// A program is in force.
    Installed(Box<Installed>),
    /// A program's lifetime began anew.
    Renewed {
        /// Its number.
        instance: u64,
        /// The Unix second at which it now ends.
        ends_s: u64,
        /// The nonce of the renewal.
        nonce: [u8; 16],
    },
    /// A program is no longer in force.
    Ended {
        /// Its number.
        instance: u64,
        /// Why.
        why: Ending,
    },
    /// A credit was taken: its amount is what is given back.
    Deposited {
        /// The credit's serial number.
        serial: [u8; 16],
    },
    /// The charge for a check that ended in a rejection.
    Checked {
        /// The nonce of the upload.
        nonce: [u8; 16],
    },
}

const INSTALLED: u64 = 0;
const RENEWED: u64 = 1;
const ENDED: u64 = 2;
const DEPOSITED: u64 = 3;
const CHECKED: u64 = 4;

impl Canonical for ReceiptSubject {
    fn write(&self, w: &mut Writer) {
        match self {
            ReceiptSubject::Installed(installed) => w.array(2).uint(INSTALLED).item(&**installed),
            ReceiptSubject::Renewed { instance, ends_s, nonce } => {
                w.array(4).uint(RENEWED).uint(*instance).uint(*ends_s).bytes(nonce)
            }
            ReceiptSubject::Ended { instance, why } => w.array(3).uint(ENDED).uint(*instance).item(why),
            ReceiptSubject::Deposited { serial } => w.array(2).uint(DEPOSITED).bytes(serial),
            ReceiptSubject::Checked { nonce } => w.array(2).uint(CHECKED).bytes(nonce),
        };
    }
    fn read(r: &mut Reader<'_>) -> Result<ReceiptSubject, Malformed> {
        const EXPECTED: &str = "what a receipt is about: [number, its fields]";
        let malformed = r.malformed(EXPECTED);
        let len = r.array_up_to(4, EXPECTED)?;
        match (r.uint(CHECKED, EXPECTED)?, len) {
            (INSTALLED, 2) => Ok(ReceiptSubject::Installed(Box::new(r.item()?))),
            (RENEWED, 4) => Ok(ReceiptSubject::Renewed {
                instance: r.u64("the number of a program")?,
                ends_s: r.u64("the second of the end")?,
                nonce: r.fixed("a nonce of 16 bytes")?,
            }),
            (ENDED, 3) => Ok(ReceiptSubject::Ended { instance: r.u64("the number of a program")?, why: r.item()? }),
            (DEPOSITED, 2) => Ok(ReceiptSubject::Deposited { serial: r.fixed("a serial number of 16 bytes")? }),
            (CHECKED, 2) => Ok(ReceiptSubject::Checked { nonce: r.fixed("a nonce of 16 bytes")? }),
            _ => Err(malformed),
        }
    }
}

/// What a receipt says. Amounts are in credits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptTerms {
    /// The key of the owner whose account it is about.
    pub account: PublicKey,
    /// Its number in the chain of the account, from 1.
    pub number: u64,
    /// The digest of the receipt before ([`Receipt::digest`]); zeros for the first.
    pub previous: [u8; 32],
    /// The Unix second at which it was made.
    pub at_s: u64,
    /// What the account paid.
    pub paid: u64,
    /// What the account was given: a deposit, or what is left of a payment.
    pub given_back: u64,
    /// What the account has after it, with what is on hold for uploads under check: that of the receipt before, less
    /// `paid`, plus `given_back`.
    pub balance: u64,
    /// What it is about.
    pub subject: ReceiptSubject,
}

impl ReceiptTerms {
    /// What was installed, where it is about that.
    #[must_use]
    pub fn installed(&self) -> Option<&Installed> {
        match &self.subject {
            ReceiptSubject::Installed(installed) => Some(installed),
            _ => None,
        }
    }
}

impl Canonical for ReceiptTerms {
    fn write(&self, w: &mut Writer) {
        w.array(8).bytes(&self.account.0).uint(self.number).bytes(&self.previous).uint(self.at_s);
        w.uint(self.paid).uint(self.given_back).uint(self.balance).item(&self.subject);
    }
    fn read(r: &mut Reader<'_>) -> Result<ReceiptTerms, Malformed> {
        r.array(8, "a receipt's terms of 8 items")?;
        Ok(ReceiptTerms {
            account: PublicKey(r.fixed("an account's key of 32 bytes")?),
            number: r.u64("the number of a receipt")?,
            previous: r.fixed("the digest of a receipt of 32 bytes")?,
            at_s: r.u64("the second of a receipt")?,
            paid: r.u64("an amount")?,
            given_back: r.u64("an amount")?,
            balance: r.u64("a balance")?,
            subject: r.item()?,
        })
    }
}

/// A router's signed word about an account. The signature has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    terms: ReceiptTerms,
    signature: [u8; 64],
}

impl Receipt {
    /// Signs `terms` as the router that `identity` names.
    #[must_use]
    pub fn sign(terms: ReceiptTerms, identity: &Identity) -> Receipt {
        let signature = identity.sign(&Receipt::signed_digest(&identity.public(), &terms));
        Receipt { terms, signature }
    }
    fn signed_digest(router: &RouterId, terms: &ReceiptTerms) -> [u8; 32] {
        Digest::new(Domain::Receipt).field(&router.0).field(&cbor::to_bytes(terms)).finish()
    }
    /// What it says, unverified.
    #[must_use]
    pub const fn terms(&self) -> &ReceiptTerms {
        &self.terms
    }
    /// What the next receipt of the account names it by: a digest of all of it, with its signature.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Digest::new(Domain::ReceiptLink).field(&self.encode()).finish()
    }
    /// The one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }
    /// The receipt of these bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Receipt, Malformed> {
        cbor::from_bytes(bytes)
    }
    /// What it says, if `router` signed it.
    ///
    /// # Errors
    /// [`RequestFault::BadSignature`].
    pub fn verify(&self, router: &RouterPeer) -> Result<&ReceiptTerms, RequestFault> {
        if self.is_signed_by(&router.id()) { Ok(&self.terms) } else { Err(RequestFault::BadSignature) }
    }
    fn is_signed_by(&self, router: &RouterId) -> bool {
        router.has_signed(&Receipt::signed_digest(router, &self.terms), &self.signature)
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

/// Why receipts do not make the chain of an account. The router is at fault, or whoever kept them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainFault {
    /// The router did not sign it.
    Forged {
        /// The number that it carries.
        number: u64,
    },
    /// It is about another account.
    Foreign {
        /// The number that it carries.
        number: u64,
        /// The account that it names.
        found: PublicKey,
    },
    /// Another number than the next: one is missing, comes twice, or stands in another place.
    Number {
        /// The number that is next.
        expected: u64,
        /// The number that it carries.
        found: u64,
    },
    /// It names another receipt than the one before it: one of the two was put in the place of another.
    Previous {
        /// The number that it carries.
        number: u64,
    },
    /// The amounts do not add up.
    Balance {
        /// The number that it carries.
        number: u64,
        /// The balance that follows from the one before; none where that is below zero or cannot be written.
        expected: Option<u64>,
        /// The balance that it tells.
        found: u64,
    },
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainFault::Forged { number } => write!(f, "receipt {number} was not signed by this router"),
            ChainFault::Foreign { number, found } => {
                write!(f, "receipt {number} is about the account of {found}, not about this one")
            }
            ChainFault::Number { expected, found } => {
                write!(f, "receipt {expected} was expected, and {found} came: the router leaves out or repeats")
            }
            ChainFault::Previous { number } => write!(
                f,
                "receipt {number} does not follow on the one before it: the router has told two different stories"
            ),
            ChainFault::Balance { number, expected: Some(expected), found } => {
                write!(f, "receipt {number} tells a balance of {found}; {expected} follows from the receipt before")
            }
            ChainFault::Balance { number, expected: None, found } => {
                write!(f, "receipt {number} tells a balance of {found}, and takes more than there was")
            }
        }
    }
}

impl std::error::Error for ChainFault {}

/// Where the chain of an account stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The key of the owner whose account it is.
    pub account: PublicKey,
    /// The number of the last receipt; 0 before the first.
    pub number: u64,
    /// Its digest; zeros before the first.
    pub digest: [u8; 32],
    /// What the account has after it, in credits.
    pub balance: u64,
}

impl ChainHead {
    /// The empty chain of `account`.
    #[must_use]
    pub const fn start(account: PublicKey) -> ChainHead {
        ChainHead { account, number: 0, digest: [0; 32], balance: 0 }
    }

    /// The terms of the receipt that comes next; `None` where the account has too little, or more than can be written.
    #[must_use]
    pub fn next(&self, at_s: u64, paid: u64, given_back: u64, subject: ReceiptSubject) -> Option<ReceiptTerms> {
        Some(ReceiptTerms {
            account: self.account,
            number: self.number.checked_add(1)?,
            previous: self.digest,
            at_s,
            paid,
            given_back,
            balance: balance_after(self.balance, paid, given_back)?,
            subject,
        })
    }

    /// Takes in the next receipt, whose signature was made here or is looked at elsewhere.
    ///
    /// # Errors
    /// It is not the next; the head stays as it was.
    pub fn push(&mut self, receipt: &Receipt) -> Result<(), ChainFault> {
        let terms = receipt.terms();
        let number = terms.number;
        if terms.account != self.account {
            return Err(ChainFault::Foreign { number, found: terms.account });
        }
        if self.number.checked_add(1) != Some(number) {
            return Err(ChainFault::Number { expected: self.number.saturating_add(1), found: number });
        }
        if terms.previous != self.digest {
            return Err(ChainFault::Previous { number });
        }
        let expected = balance_after(self.balance, terms.paid, terms.given_back);
        if expected != Some(terms.balance) {
            return Err(ChainFault::Balance { number, expected, found: terms.balance });
        }
        *self = ChainHead { number, digest: receipt.digest(), balance: terms.balance, ..*self };
        Ok(())
    }

    /// Takes in the receipts that come next, each signed by `router`.
    ///
    /// # Errors
    /// The first that is not the next; the head stays as it was.
    pub fn extend(&mut self, receipts: &[Receipt], router: &RouterPeer) -> Result<(), ChainFault> {
        let mut head = *self;
        for receipt in receipts {
            if !receipt.is_signed_by(&router.id()) {
                return Err(ChainFault::Forged { number: receipt.terms().number });
            }
            head.push(receipt)?;
        }
        *self = head;
        Ok(())
    }
}

/// The amount that comes in counts first, so that a receipt may give and take at once.
fn balance_after(before: u64, paid: u64, given_back: u64) -> Option<u64> {
    let after = u128::from(before) + u128::from(given_back);
    u64::try_from(after.checked_sub(u128::from(paid))?).ok()
}

/// Whether `receipts` are the first of one account's chain at `router`, in their order and all of them.
///
/// # Errors
/// The first that does not follow.
pub fn verify_chain(receipts: &[Receipt], router: &RouterPeer) -> Result<(), ChainFault> {
    match receipts.first() {
        None => Ok(()),
        Some(first) => ChainHead::start(first.terms().account).extend(receipts, router),
    }
}

#[cfg(test)]
mod tests;
