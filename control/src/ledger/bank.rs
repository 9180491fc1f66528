//! The bank's side of the ledger: which credits count here, and which were taken already.
//!
//! A credit counts once. Its serial number is remembered until it has expired, so a second copy finds the first, in
//! parallel or later, and is answered with the receipt of the first. What expired before the last pruning stays void even
//! if the router's clock goes back, because its serial number is forgotten.

use std::collections::BTreeSet;
use std::fmt;

use ahash::AHashMap;
use vinet_session::identity::{Identity, PublicKey};
use vinet_session::payment::{Bank, Credit, CreditFault};
use vinet_session::receipt::{Receipt, ReceiptSubject};

use super::{CREDITS_MAX, Entry, Ledger, LedgerError};

/// A credit that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditRecord {
    /// Its serial number.
    pub serial: [u8; 16],
    /// The account that was given it.
    pub account: PublicKey,
    /// How much it was.
    pub amount: u64,
    /// The number of its receipt in the account's chain.
    pub receipt: u64,
    /// The last second at which it counts.
    pub expiry_s: u64,
}

/// What the store has to keep of a credit, together, before the receipt is given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The movement of credits.
    pub entry: Entry,
    /// The receipt.
    pub receipt: Receipt,
    /// What keeps the credit from counting again.
    pub record: CreditRecord,
}

/// What a credit does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deposit {
    /// It was taken now.
    Taken(Box<Taken>),
    /// It was taken before: the answer is the receipt of `number`, when the store has it.
    Again {
        /// The number of the receipt in the account's chain.
        receipt: u64,
    },
}

/// Why a credit is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DepositError {
    /// It does not count here.
    Fault(CreditFault),
    /// Another credit with the same serial number was taken. The bank is at fault.
    Spent {
        /// The serial number.
        serial: [u8; 16],
    },
    /// The ledger cannot take it.
    Ledger(LedgerError),
}

impl DepositError {
    /// A stable short name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            DepositError::Fault(fault) => fault.code(),
            DepositError::Spent { .. } => "credit-spent",
            DepositError::Ledger(error) => error.code(),
        }
    }
}

impl fmt::Display for DepositError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DepositError::Fault(fault) => write!(f, "{fault}"),
            DepositError::Spent { serial } => {
                f.write_str("another credit with the serial number ")?;
                for byte in serial {
                    write!(f, "{byte:02x}")?;
                }
                f.write_str(" was taken here before; the bank issued two credits under one number, ask it for another")
            }
            DepositError::Ledger(error) => write!(f, "{error}"),
        }
    }
}
impl std::error::Error for DepositError {}

impl From<CreditFault> for DepositError {
    fn from(fault: CreditFault) -> DepositError {
        DepositError::Fault(fault)
    }
}
impl From<LedgerError> for DepositError {
    fn from(error: LedgerError) -> DepositError {
        DepositError::Ledger(error)
    }
}

/// The credits that were taken and have not been forgotten.
#[derive(Debug)]
pub(super) struct Credits {
    taken: AHashMap<[u8; 16], CreditRecord>,
    by_expiry: BTreeSet<(u64, [u8; 16])>,
    /// Credits that expire before this second are forgotten, and void whatever the clock says.
    pruned_s: u64,
}

impl Credits {
    pub(super) fn restore(records: impl IntoIterator<Item = CreditRecord>, pruned_s: u64) -> Credits {
        let mut credits = Credits { taken: AHashMap::new(), by_expiry: BTreeSet::new(), pruned_s };
        for record in records {
            credits.remember(record);
        }
        credits
    }
    fn remember(&mut self, record: CreditRecord) {
        self.by_expiry.insert((record.expiry_s, record.serial));
        self.taken.insert(record.serial, record);
    }
}

impl Ledger {
    /// Takes a credit that the owner with the key `account` brings, or finds that it was taken. `identity` is the
    /// router's, `now_s` its clock.
    ///
    /// # Errors
    /// [`DepositError`]; then nothing changed.
    pub fn deposit(
        &mut self,
        credit: &Credit,
        bank: &Bank,
        account: &PublicKey,
        identity: &Identity,
        now_s: u64,
    ) -> Result<Deposit, DepositError> {
        let terms = credit.verify(bank)?;
        if let Some(before) = self.credits.taken.get(&terms.serial) {
            let same = before.account == terms.account
                && before.amount == terms.amount
                && before.expiry_s == terms.expiry_s
                && terms.router == identity.public();
            return match (same, terms.account == *account) {
                (true, true) => Ok(Deposit::Again { receipt: before.receipt }),
                (true, false) => Err(CreditFault::NotYours { found: terms.account }.into()),
                (false, _) => Err(DepositError::Spent { serial: terms.serial }),
            };
        }
        // Forgotten serial numbers stay void when the clock goes back.
        let terms = credit.accept(bank, &identity.public(), account, now_s.max(self.credits.pruned_s))?;
        if self.credits.taken.len() >= CREDITS_MAX {
            return Err(LedgerError::TooManyCredits.into());
        }
        let entry = self.pay_in(account, terms.amount)?;
        let subject = ReceiptSubject::Deposited { serial: terms.serial };
        let receipt = self.receipt(account, now_s, &[&entry], subject, identity);
        let record = CreditRecord {
            serial: terms.serial,
            account: *account,
            amount: terms.amount,
            receipt: receipt.terms().number,
            expiry_s: terms.expiry_s,
        };
        self.credits.remember(record);
        Ok(Deposit::Taken(Box::new(Taken { entry, receipt, record })))
    }

    /// Forgets at most `most` of the credits that expired before `before_s`; returns how many. The store forgets them by
    /// [`crate::store::Put::Prune`] with the same second.
    pub fn prune(&mut self, before_s: u64, most: usize) -> usize {
        let credits = &mut self.credits;
        credits.pruned_s = credits.pruned_s.max(before_s);
        for count in 0..most {
            match credits.by_expiry.first() {
                Some(&(expiry_s, serial)) if expiry_s < credits.pruned_s => {
                    credits.by_expiry.pop_first();
                    credits.taken.remove(&serial);
                }
                _ => return count,
            }
        }
        most
    }

    /// Credits that are remembered.
    #[must_use]
    pub fn credits(&self) -> usize {
        self.credits.taken.len()
    }
}
