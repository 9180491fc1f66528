//! What owners pay, and what they have.

use vinet_session::Now;
use vinet_session::identity::{Ownership, PublicKey};
use vinet_session::message::{Class, Credit, Quote, QuoteAsk, Rejection, Reply, Tariff, fresh_nonce};
use vinet_session::payment::{Bank, QuoteTerms};
use vinet_session::receipt::ReceiptSubject;
use vinet_trusted::addr::Principal;

use super::{Admission, OpenCase, Outcome, Reserved, rejected, still_valid};
use crate::ledger::bank::{Deposit, Taken};
use crate::ledger::{LedgerError, Line};
use crate::requests::OpenRequest;
use crate::store::{Answer, PRUNED_MAX, Put};

/// How long a quote holds, in seconds.
const QUOTE_TIME_S: u64 = 600;

/// What programs cost here, and whose credits count.
#[derive(Clone, Debug)]
pub struct Payment {
    /// The prices.
    pub tariff: Tariff,
    /// The bank; without one nobody can pay, and everything is free.
    pub bank: Option<Bank>,
}

/// The line of the revenue that a program of `class` is earned with.
pub(super) const fn line(class: Class) -> Line {
    match class {
        Class::Header => Line(0),
        Class::Content => Line(1),
    }
}

/// What a line of the revenue was earned with, in a word.
#[must_use]
pub fn line_name(earned: Line) -> String {
    match [Class::Header, Class::Content].into_iter().find(|class| line(*class) == earned) {
        Some(class) => class.to_string(),
        None if earned == Line::CHECKS => "checks".to_owned(),
        None => format!("line {}", earned.0),
    }
}

impl Admission {
    /// Reserves what an upload may cost its owner.
    pub(super) fn reserve(&mut self, key: &PublicKey, payment: u64) -> Result<Reserved, LedgerError> {
        let bond = self.payment.tariff.check.saturating_sub(payment);
        let price = self.ledger.hold(key, payment)?;
        match self.ledger.hold(key, bond) {
            Ok(bond) => Ok(Reserved { price, bond }),
            Err(error) => {
                self.ledger.release(price);
                Err(error)
            }
        }
    }

    /// Gives back what was reserved.
    pub(super) fn unreserve(&mut self, money: Reserved) {
        self.ledger.release(money.bond);
        self.ledger.release(money.price);
    }

    /// Where checks cost nothing, an owner has only so many that end in a rejection.
    pub(super) fn may_be_checked(&self, owner: &Ownership, now: Now) -> Result<(), Rejection> {
        if self.payment.tariff.check > 0 || self.rejected_checks.has_one(&owner.principal(), now) {
            return Ok(());
        }
        let text = "too many of this owner's programs were rejected lately; check them before they are sent, and wait";
        Err(rejected("too-many-rejected", text))
    }

    /// Rejects what was checked, at the owner's cost.
    pub(super) fn charge(&mut self, case: OpenCase, nonce: [u8; 16], why: Rejection, now: Now) -> Outcome {
        let OpenCase { request, money, owner, .. } = case;
        self.unreserve(money);
        let check = self.payment.tariff.check;
        if check == 0 {
            self.rejected_checks.take(&owner, now);
        }
        let puts = self.fee(&request, nonce, check, now);
        Outcome::of(request, Reply::Rejected(why), puts)
    }

    fn fee(&mut self, request: &OpenRequest, nonce: [u8; 16], check: u64, now: Now) -> Vec<Put> {
        let key = request.key();
        let Some(entry) = self.ledger.fee(&key, check) else { return Vec::new() };
        let subject = ReceiptSubject::Checked { nonce };
        let receipt = self.ledger.receipt(&key, now.wall_s, &[&entry], subject, &self.identity);
        vec![Put::Entry(entry), Put::Receipt(Box::new(receipt))]
    }

    /// Whether an owner may have the router make or verify one more signature at once.
    ///
    /// # Errors
    /// It had too many lately.
    pub fn may_have_signature(&mut self, owner: &Principal, now: Now) -> Result<(), Rejection> {
        if self.signatures.take(owner, now) {
            return Ok(());
        }
        Err(rejected("busy", "this owner asked for too much lately; ask again in a second"))
    }

    /// The price of a program, signed.
    pub fn quote(&mut self, ask: &QuoteAsk, owner: &Ownership, now: Now) -> Reply {
        let quoted = still_valid(owner, now)
            .and_then(|()| self.may_have_signature(&owner.principal(), now))
            .and_then(|()| self.quoted(ask, owner, now));
        quoted.map_or_else(Reply::Rejected, Reply::Quote)
    }

    fn quoted(&self, ask: &QuoteAsk, owner: &Ownership, now: Now) -> Result<Quote, Rejection> {
        let QuoteAsk { class, complexity, packet_rate, state_bytes, lifetime_s } = *ask;
        let price = self.payment.tariff.price(complexity, packet_rate, state_bytes, u64::from(lifetime_s));
        let price = price.ok_or_else(|| rejected("price", "such a program costs more than anybody can have"))?;
        let nonce = fresh_nonce().map_err(|error| rejected("router-fault", error))?;
        let terms = QuoteTerms {
            principal: owner.principal(),
            class,
            complexity,
            packet_rate,
            state_bytes,
            lifetime_s,
            price,
            expiry_s: now.wall_s + QUOTE_TIME_S,
            nonce,
        };
        Ok(Quote::sign(terms, &self.identity))
    }

    /// Gives the amount of a credit to its owner's account.
    ///
    /// # Errors
    /// It was taken before, and so was answered.
    pub fn deposit(&mut self, credit: &Credit, owner: &Ownership, now: Now) -> Result<Outcome, Answer> {
        let allowed =
            still_valid(owner, now).and_then(|()| self.may_have_signature(&owner.principal(), now)).and_then(|()| {
                self.payment.bank.as_ref().ok_or_else(|| {
                    rejected("no-bank", "this router takes no payment: its programs are free, offer none")
                })
            });
        let bank = match allowed {
            Ok(bank) => bank,
            Err(why) => return Ok(Outcome::answered(Reply::Rejected(why), Vec::new())),
        };
        match self.ledger.deposit(credit, bank, &owner.key(), &self.identity, now.wall_s) {
            Ok(Deposit::Taken(taken)) => {
                let Taken { entry, receipt, record } = *taken;
                let puts = vec![Put::Entry(entry), Put::Receipt(Box::new(receipt.clone())), Put::Credit(record)];
                Ok(Outcome::answered(Reply::Receipt(receipt), puts))
            }
            Ok(Deposit::Again { receipt }) => Err(Answer::Receipt(receipt)),
            Err(error) => Ok(Outcome::answered(Reply::Rejected(rejected(error.code(), error)), Vec::new())),
        }
    }

    /// Forgets requests and credits that can count no more, here and in the store.
    pub fn prune(&mut self, now: Now) -> Outcome {
        self.ledger.prune(now.wall_s, PRUNED_MAX);
        Outcome::unasked(vec![Put::Prune { before_s: now.wall_s }])
    }

    /// The least that anybody pays for the whole capacity for a second, in credits.
    #[must_use]
    pub fn floor(&self) -> f64 {
        self.payment.tariff.per_teracycle as f64 * self.budget.cycles_per_second_max() as f64 / 1e12
    }

    /// What an account has.
    #[must_use]
    pub fn balance(&self, key: &PublicKey) -> Reply {
        let balance = self.ledger.balance(key);
        Reply::Balance { balance: balance.free, held: balance.held, receipts: balance.receipts }
    }
}
