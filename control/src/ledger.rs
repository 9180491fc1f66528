//! The ledger: who has how many credits here, in double entry.
//!
//! Every credit that a bank issued for this router lies in exactly one book: an account, a reserve for a request that is
//! under way, the escrow of running programs, or the revenue. An [`Entry`] moves credits between books and its postings
//! sum to zero, so nothing is made and nothing is lost. Credits enter by [`Ledger::deposit`] alone, which is the only
//! addition that can fail: no book can hold more than was issued, and what was issued fits 64 bits, so no other addition
//! overflows.
//!
//! Holding a [`MoneyHold`] proves that its amount was there and is now reserved. A hold cannot be copied; it is given back
//! whole ([`Ledger::release`]) or becomes the price of a running program ([`Ledger::capture`]). Holds are not durable: the
//! store knows an account's balance with everything that is held, so a crash releases every hold.
//!
//! Left out: whether a credit is genuine, which is [`bank`]'s, and what is durable, which is [`crate::store`]'s.

pub mod bank;
mod report;

pub use report::{AccountLine, Report, RevenueLine};

use std::collections::BTreeMap;
use std::fmt;

use ahash::AHashMap;
use vinet_session::identity::{Identity, PublicKey};
use vinet_session::receipt::{Receipt, ReceiptSubject, ReceiptTerms};

/// Accounts of one ledger. Each takes about 150 bytes of memory.
pub const ACCOUNTS_MAX: usize = 1 << 21;
/// Credits that are remembered until they expire. Each takes about 100 bytes of memory.
pub const CREDITS_MAX: usize = 1 << 18;

/// A line of the revenue: what the money was earned with. What a number stands for is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(pub u8);

impl Line {
    /// Charges for checks of proofs that were rejected.
    pub const CHECKS: Line = Line(u8::MAX);
}

/// Where credits can lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Book {
    /// The banks, from which all credits come. Its sum is what was issued, negative.
    Bank,
    /// What an account can spend.
    Account(PublicKey),
    /// What is reserved of an account for its requests that are under way.
    Held(PublicKey),
    /// Paid for programs that run, and not earned yet.
    Escrow,
    /// Earned.
    Revenue(Line),
}

/// One side of an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The book.
    pub book: Book,
    /// Credits that come (positive) or go.
    pub change: i128,
}

/// Why credits move durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A credit was paid in.
    Deposit,
    /// A program was installed or renewed.
    Capture,
    /// A program ended: part of its price goes back, the rest is earned.
    Refund,
    /// A rejected check was charged.
    Fee,
}

/// One durable movement of credits. Its postings sum to zero; nobody but the ledger makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an entry that the store never sees is lost at the next start"]
pub struct Entry {
    cause: Cause,
    postings: [Option<Posting>; 3],
}

impl Entry {
    fn new(cause: Cause, sides: [(Book, i128); 3]) -> Entry {
        assert_eq!(sides.iter().map(|side| side.1).sum::<i128>(), 0, "the postings of an entry sum to zero");
        Entry { cause, postings: sides.map(|(book, change)| (change != 0).then_some(Posting { book, change })) }
    }
    /// Why.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }
    /// Its postings; none of zero.
    pub fn postings(&self) -> impl Iterator<Item = &Posting> {
        self.postings.iter().flatten()
    }
    /// Credits that came to `account`, less those that went, with what was held of it.
    #[must_use]
    pub fn change_of(&self, account: &PublicKey) -> i128 {
        let own = [Book::Account(*account), Book::Held(*account)];
        self.postings().filter(|posting| own.contains(&posting.book)).map(|posting| posting.change).sum()
    }
    /// Credits that came to the account that the entry is about; 0 where some went.
    #[must_use]
    pub fn given_back(&self) -> u64 {
        let to_account = |posting: &&Posting| matches!(posting.book, Book::Account(_)) && posting.change > 0;
        self.postings().find(to_account).and_then(|posting| u64::try_from(posting.change).ok()).unwrap_or(0)
    }
}

/// Credits of an account that are reserved. Give them back with [`Ledger::release`], or spend them with
/// [`Ledger::capture`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a hold that is dropped is money that comes back only with a restart"]
pub struct MoneyHold {
    account: PublicKey,
    amount: u64,
}

impl MoneyHold {
    /// Whose.
    #[must_use]
    pub fn account(&self) -> &PublicKey {
        &self.account
    }
    /// How many credits.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amount
    }
}

/// The books that belong to no account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Credits that banks issued and that were paid in here.
    pub issued: u64,
    /// Paid for programs that run, and not earned yet.
    pub escrow: u64,
    /// Earned, by line.
    pub revenue: BTreeMap<Line, u64>,
    /// Credits that went back to accounts so far; a statistic, which stops at the largest number.
    pub refunded: u64,
}

/// A book would hold less than nothing, or more than was issued: our own defect, or a damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imbalance {
    /// The book.
    pub book: Book,
    /// What it would hold.
    pub would_be: i128,
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the book {:?} would hold {}", self.book, self.would_be)
    }
}
impl std::error::Error for Imbalance {}

/// `value` after a change, where it fits.
pub(crate) fn changed(book: Book, value: u64, change: i128) -> Result<u64, Imbalance> {
    let would_be = i128::from(value) + change;
    u64::try_from(would_be).map_err(|_| Imbalance { book, would_be })
}

impl Books {
    /// Applies what concerns these books; returns whether `posting` did.
    ///
    /// # Errors
    /// [`Imbalance`]; then nothing changed.
    pub(crate) fn apply(&mut self, posting: &Posting) -> Result<bool, Imbalance> {
        let Posting { book, change } = *posting;
        match book {
            Book::Bank => self.issued = changed(book, self.issued, -change)?,
            Book::Escrow => self.escrow = changed(book, self.escrow, change)?,
            Book::Revenue(line) => {
                let value = self.revenue.get(&line).copied().unwrap_or(0);
                self.revenue.insert(line, changed(book, value, change)?);
            }
            Book::Account(_) | Book::Held(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Counts a whole entry in the statistics.
    pub(crate) fn count(&mut self, entry: &Entry) {
        if entry.cause == Cause::Refund {
            self.refunded = self.refunded.saturating_add(entry.given_back());
        }
    }

    /// Earned, all lines together.
    #[must_use]
    pub fn revenue_total(&self) -> u128 {
        self.revenue.values().map(|value| u128::from(*value)).sum()
    }
}

/// What an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Credits that can be spent now.
    pub free: u64,
    /// Credits that are reserved for requests under way.
    pub held: u64,
    /// The number of the last receipt; 0 where there is none.
    pub receipts: u64,
}

/// The durable state of an account: what the store gives back after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// Whose.
    pub key: PublicKey,
    /// Its credits, with what was held.
    pub balance: u64,
    /// The number of the last receipt; 0 where there is none.
    pub receipts: u64,
    /// The digest of the last receipt; zeros where there is none.
    pub last: [u8; 32],
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    free: u64,
    held: u64,
    receipts: u64,
    last: [u8; 32],
}

/// Why the ledger does not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerError {
    /// The account has too little.
    NotEnough {
        /// Credits that are needed.
        needed: u64,
        /// Credits that can be spent.
        balance: u64,
        /// Credits that are reserved for other requests of the same account.
        held: u64,
    },
    /// There are [`ACCOUNTS_MAX`] accounts.
    TooManyAccounts,
    /// [`CREDITS_MAX`] credits are remembered that have not expired yet.
    TooManyCredits,
    /// With this credit more would be issued than 64 bits hold.
    TooMuch,
}

impl LedgerError {
    /// A stable short name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            LedgerError::NotEnough { .. } => "no-money",
            LedgerError::TooManyAccounts => "accounts-full",
            LedgerError::TooManyCredits => "credits-full",
            LedgerError::TooMuch => "credit-too-large",
        }
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::NotEnough { needed, balance, held } => {
                write!(f, "{needed} credits are needed and the account has {balance}")?;
                if *held > 0 {
                    write!(f, " (and {held} reserved for other requests of yours)")?;
                }
                f.write_str("; pay a credit in first, or ask for less")
            }
            LedgerError::TooManyAccounts => {
                write!(f, "this router keeps {ACCOUNTS_MAX} accounts, which is the most; ask its operator")
            }
            LedgerError::TooManyCredits => write!(
                f,
                "this router remembers {CREDITS_MAX} credits that have not expired yet, which is the most; pay this \
                 one in when some have"
            ),
            LedgerError::TooMuch => {
                f.write_str("with this credit more would be paid in at this router than it can count")
            }
        }
    }
}
impl std::error::Error for LedgerError {}

/// What an audit found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditFault {
    /// The sum of all books is not zero.
    Sum {
        /// Credits that were issued.
        issued: u64,
        /// Credits that are in accounts, reserves, escrow and revenue.
        found: u128,
    },
    /// What the accounts reserve differs from the open holds.
    Held {
        /// The sum over accounts.
        accounts: u128,
        /// The sum of open holds.
        holds: u64,
    },
    /// The escrow differs from what running programs paid.
    Escrow {
        /// What the book says.
        book: u64,
        /// What the programs paid.
        programs: u128,
    },
}

impl fmt::Display for AuditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuditFault::Sum { issued, found } => {
                write!(f, "{issued} credits were issued and {found} are in the books")
            }
            AuditFault::Held { accounts, holds } => {
                write!(f, "accounts reserve {accounts} credits and the open holds are {holds}")
            }
            AuditFault::Escrow { book, programs } => {
                write!(f, "the escrow holds {book} credits and the running programs paid {programs}")
            }
        }
    }
}
impl std::error::Error for AuditFault {}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new()
    }
}

/// All accounts and books of one router, in memory; what is done here is durable when the store says so.
#[derive(Debug)]
pub struct Ledger {
    accounts: AHashMap<PublicKey, Account>,
    books: Books,
    /// The sum of open holds.
    held: u64,
    open_holds: usize,
    credits: bank::Credits,
}

impl Ledger {
    /// A ledger without accounts.
    #[must_use]
    pub fn new() -> Ledger {
        Ledger {
            accounts: AHashMap::new(),
            books: Books::default(),
            held: 0,
            open_holds: 0,
            credits: bank::Credits::restore([], 0),
        }
    }

    /// The ledger that the store knows. Nothing is held in it.
    ///
    /// # Errors
    /// The records do not balance.
    pub fn restore(
        books: Books,
        accounts: impl IntoIterator<Item = AccountRecord>,
        credits: impl IntoIterator<Item = bank::CreditRecord>,
        pruned_s: u64,
    ) -> Result<Ledger, AuditFault> {
        let accounts = accounts.into_iter().map(|record| {
            let AccountRecord { key, balance, receipts, last } = record;
            (key, Account { free: balance, held: 0, receipts, last })
        });
        let credits = bank::Credits::restore(credits, pruned_s);
        let ledger = Ledger { accounts: accounts.collect(), books, credits, ..Ledger::new() };
        ledger.audit()?;
        Ok(ledger)
    }

    fn account_mut(&mut self, key: &PublicKey) -> Result<&mut Account, LedgerError> {
        if !self.accounts.contains_key(key) && self.accounts.len() >= ACCOUNTS_MAX {
            return Err(LedgerError::TooManyAccounts);
        }
        Ok(self.accounts.entry(*key).or_default())
    }

    /// Carries an entry out. Every amount in it was taken from the books before, so nothing can be short.
    fn post(&mut self, entry: &Entry) {
        const EXACT: &str = "an entry moves only what is there";
        for posting in entry.postings() {
            if self.books.apply(posting).expect(EXACT) {
                continue;
            }
            let (Book::Account(key) | Book::Held(key)) = posting.book else { unreachable!("the other books applied") };
            let account = self.accounts.get_mut(&key).expect("an account with credits is known");
            let value = if matches!(posting.book, Book::Held(_)) { &mut account.held } else { &mut account.free };
            *value = changed(posting.book, *value, posting.change).expect(EXACT);
        }
        self.books.count(entry);
    }

    /// Pays in `amount` that a bank issued.
    fn pay_in(&mut self, account: &PublicKey, amount: u64) -> Result<Entry, LedgerError> {
        self.books.issued.checked_add(amount).ok_or(LedgerError::TooMuch)?;
        self.account_mut(account)?;
        let amount = i128::from(amount);
        let entry =
            Entry::new(Cause::Deposit, [(Book::Bank, -amount), (Book::Account(*account), amount), (Book::Escrow, 0)]);
        self.post(&entry);
        Ok(entry)
    }

    /// Reserves `amount` of an account, which may be 0.
    ///
    /// # Errors
    /// [`LedgerError::NotEnough`] or [`LedgerError::TooManyAccounts`]; then nothing changed.
    pub fn hold(&mut self, account: &PublicKey, amount: u64) -> Result<MoneyHold, LedgerError> {
        let Account { free: balance, held, .. } = self.accounts.get(account).copied().unwrap_or_default();
        if amount > balance {
            return Err(LedgerError::NotEnough { needed: amount, balance, held });
        }
        let own = self.account_mut(account)?;
        own.free -= amount;
        own.held += amount;
        self.held += amount;
        self.open_holds += 1;
        Ok(MoneyHold { account: *account, amount })
    }

    /// Takes a hold out of the count of open ones.
    fn close(&mut self, hold: &MoneyHold) {
        assert!(self.open_holds > 0 && hold.amount <= self.held, "a hold belongs to the ledger that gave it");
        self.held -= hold.amount;
        self.open_holds -= 1;
    }

    /// Makes a hold the price of a running program.
    pub fn capture(&mut self, hold: MoneyHold) -> Entry {
        self.close(&hold);
        let amount = i128::from(hold.amount);
        let entry =
            Entry::new(Cause::Capture, [(Book::Held(hold.account), -amount), (Book::Escrow, amount), (Book::Bank, 0)]);
        self.post(&entry);
        entry
    }

    /// Gives a hold back to its account.
    pub fn release(&mut self, hold: MoneyHold) {
        self.close(&hold);
        let Some(account) = self.accounts.get_mut(&hold.account) else {
            // Several holds of nothing: the first of them took the account with it.
            assert_eq!(hold.amount, 0, "an account that reserves is known");
            return;
        };
        account.held -= hold.amount;
        account.free += hold.amount;
        // An account that never had anything is not worth a place, and strangers could fill the table with such.
        if account.free == 0 && account.held == 0 && account.receipts == 0 && hold.amount == 0 {
            self.accounts.remove(&hold.account);
        }
    }

    /// Ends what was `paid` for `of_s` seconds with `left_s` of them left: their share goes back, rounded down, and the
    /// rest is revenue of `line`. With nothing left all is revenue; with everything left all goes back.
    pub fn refund(&mut self, account: &PublicKey, line: Line, paid: u64, of_s: u64, left_s: u64) -> Entry {
        let back = pro_rata(paid, of_s, left_s);
        let entry = Entry::new(
            Cause::Refund,
            [
                (Book::Escrow, -i128::from(paid)),
                (Book::Account(*account), i128::from(back)),
                (Book::Revenue(line), i128::from(paid - back)),
            ],
        );
        self.post(&entry);
        entry
    }

    /// Charges `amount` for a rejected check, or what is left where that is less. `None` where nothing is.
    pub fn fee(&mut self, account: &PublicKey, amount: u64) -> Option<Entry> {
        let charged = i128::from(amount.min(self.accounts.get(account)?.free));
        if charged == 0 {
            return None;
        }
        let entry = Entry::new(
            Cause::Fee,
            [(Book::Account(*account), -charged), (Book::Revenue(Line::CHECKS), charged), (Book::Bank, 0)],
        );
        self.post(&entry);
        Some(entry)
    }

    /// The next receipt of an account, signed by the router that `identity` names. `entries` are those that moved its
    /// credits since the receipt before; the store has to have them with the receipt before it is given out.
    pub fn receipt(
        &mut self,
        account: &PublicKey,
        at_s: u64,
        entries: &[&Entry],
        subject: ReceiptSubject,
        identity: &Identity,
    ) -> Receipt {
        let (mut paid, mut given_back) = (0, 0);
        for change in entries.iter().map(|entry| entry.change_of(account)) {
            // One entry moves at most what was issued, and those of one receipt are of one program.
            let amount = u64::try_from(change.unsigned_abs()).expect("an entry moves no more than was issued");
            if change < 0 { paid += amount } else { given_back += amount }
        }
        // An owner whose programs cost nothing has receipts too, and so an account.
        let own = self.accounts.entry(*account).or_default();
        let terms = ReceiptTerms {
            account: *account,
            number: own.receipts + 1,
            previous: own.last,
            at_s,
            paid,
            given_back,
            balance: own.free + own.held,
            subject,
        };
        let receipt = Receipt::sign(terms, identity);
        own.receipts += 1;
        own.last = receipt.digest();
        receipt
    }

    /// What an account has.
    #[must_use]
    pub fn balance(&self, account: &PublicKey) -> Balance {
        let Account { free, held, receipts, .. } = self.accounts.get(account).copied().unwrap_or_default();
        Balance { free, held, receipts }
    }

    /// The books that belong to no account.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }
    /// How many accounts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.len()
    }
    /// Whether there is no account.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
    /// Holds that are open, and the credits in them.
    #[must_use]
    pub fn open_holds(&self) -> (usize, u64) {
        (self.open_holds, self.held)
    }

    /// Adds everything up. Takes time in the number of accounts.
    ///
    /// # Errors
    /// What does not balance.
    pub fn audit(&self) -> Result<(), AuditFault> {
        let (free, held) = self.accounts.values().fold((0u128, 0u128), |(free, held), account| {
            (free + u128::from(account.free), held + u128::from(account.held))
        });
        if held != u128::from(self.held) {
            return Err(AuditFault::Held { accounts: held, holds: self.held });
        }
        let found = free + held + u128::from(self.books.escrow) + self.books.revenue_total();
        if found != u128::from(self.books.issued) {
            return Err(AuditFault::Sum { issued: self.books.issued, found });
        }
        Ok(())
    }

    /// Compares the escrow with what the running programs paid, all together.
    ///
    /// # Errors
    /// They differ.
    pub fn audit_escrow(&self, paid: u128) -> Result<(), AuditFault> {
        if u128::from(self.books.escrow) == paid {
            return Ok(());
        }
        Err(AuditFault::Escrow { book: self.books.escrow, programs: paid })
    }
}

/// The share of `paid` for the last `left_s` of `of_s` seconds, rounded down.
#[must_use]
pub fn pro_rata(paid: u64, of_s: u64, left_s: u64) -> u64 {
    if of_s == 0 {
        return 0;
    }
    let share = u128::from(paid) * u128::from(left_s.min(of_s)) / u128::from(of_s);
    // At most `paid`, because no more is left than there was.
    u64::try_from(share).unwrap_or(paid)
}

#[cfg(test)]
mod tests;
