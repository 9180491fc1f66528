//! The operator's report: where the credits are.

use serde::Serialize;
use vinet_session::identity::PublicKey;

use super::{Ledger, Line};

/// Where the credits of a router are. `issued` is the sum of `free`, `held`, `escrow` and `revenue`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Credits that banks issued and that were paid in here.
    pub issued: u64,
    /// What accounts can spend.
    pub free: u64,
    /// What is reserved for requests under way.
    pub held: u64,
    /// How many reserves there are.
    pub open_holds: usize,
    /// Paid for programs that run, and not earned yet.
    pub escrow: u64,
    /// Earned.
    pub revenue: u64,
    /// Earned, by line.
    pub revenue_by_class: Vec<RevenueLine>,
    /// Given back to accounts so far, for programs that ended early.
    pub refunded: u64,
    /// How many accounts there are.
    pub accounts: usize,
    /// Credits that are remembered so that they do not count twice.
    pub credits_remembered: usize,
    /// The accounts with the most credits, the richest first.
    pub top_accounts: Vec<AccountLine>,
    /// What does not balance; `None` where all does.
    pub fault: Option<String>,
}

/// One line of the revenue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevenueLine {
    /// What it was earned with.
    pub class: String,
    /// How much.
    pub credits: u64,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountLine {
    /// The owner's key, in hexadecimal.
    pub account: String,
    /// What it can spend.
    pub free: u64,
    /// What is reserved for its requests under way.
    pub held: u64,
    /// How many receipts it was given.
    pub receipts: u64,
}

impl Ledger {
    /// The report, with at most `top` accounts; `name` says what a line of the revenue is called. Takes time in the number
    /// of accounts.
    pub fn report(&self, top: usize, name: impl Fn(Line) -> String) -> Report {
        let mut richest: Vec<(u64, PublicKey)> = Vec::with_capacity(top + 1);
        let mut free = 0;
        for (key, account) in &self.accounts {
            free += account.free;
            let entry = (account.free + account.held, *key);
            // The list is short, so a search for the place is cheaper than a heap.
            let place = richest.partition_point(|other| *other > entry);
            if place < top {
                richest.insert(place, entry);
                richest.truncate(top);
            }
        }
        let top_accounts = richest.into_iter().map(|(_, key)| {
            let balance = self.balance(&key);
            let super::Balance { free, held, receipts } = balance;
            AccountLine { account: key.to_string(), free, held, receipts }
        });
        let lines = self.books.revenue.iter();
        Report {
            issued: self.books.issued,
            free,
            held: self.held,
            open_holds: self.open_holds,
            escrow: self.books.escrow,
            revenue: lines.clone().map(|(_, credits)| credits).sum(),
            revenue_by_class: lines.map(|(&line, &credits)| RevenueLine { class: name(line), credits }).collect(),
            refunded: self.books.refunded,
            accounts: self.accounts.len(),
            credits_remembered: self.credits(),
            top_accounts: top_accounts.collect(),
            fault: self.audit().err().map(|fault| fault.to_string()),
        }
    }
}
