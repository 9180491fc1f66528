//! The office: what is done about requests, from their arrival to their answer.
//!
//! An upload goes through stages, each bounded, each with a function of its own:
//!
//! | stage | what is decided or done | where |
//! |---|---|---|
//! | arrive | which stage the request begins at | `desk.rs` |
//! | open | fields, expiry, sizes, the owner's limits; the payment is put on hold | [`Admission::open`] |
//! | queue | whose check is next | [`Scheduler`] |
//! | judge | signature, quote, proof, lowering | [`Judges`], threads of their own |
//! | decide | declared = derived, sources controlled, price | [`Admission::decide`] |
//! | admit | who gets the capacity; everything is taken, or nothing | [`Lookahead`], [`Admission::admit`] |
//! | commit | it is durable | [`Committer`], a thread of its own |
//! | publish | it is in force | [`Admission::publish`] |
//! | answer | the receipt, or why not | [`Office::turn`] |
//!
//! What a stage holds for a case travels in types that must be used, so that no way out forgets to give it back. Nothing
//! is answered before what it says is durable. Once the store has failed, everything that would change something is
//! refused; what runs goes on.

mod desk;
mod opening;
mod sources;

pub use opening::{OpenError, Papers};

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use ahash::AHashSet;
use vinet_fastpath::flow_table::TableWriter;
use vinet_session::Now;
use vinet_session::identity::{Ownership, PublicKey};
use vinet_session::message::{Rejection, Reply, SignedDirectory};
use vinet_trusted::addr::Principal;

use crate::admission::{Admission, Candidate, Decided, OpenCase, OpenRenew, OpenWithdraw, Outcome};
use crate::alerts::Alerts;
use crate::capacity::NoCapacity;
use crate::config::Schedule;
use crate::judges::{Case, Judged, Judges, Question, Tickets};
use crate::log;
use crate::lookahead::{Lookahead, Settings, Verdict};
use crate::requests::reply_of;
use crate::revoked::Revoked;
use crate::scheduler::{Bands, Scheduler};
use crate::server::SessionId;
use crate::shut_off::ShutOffMaker;
use crate::stash::{STASH_BYTES_MAX, Stash};
use crate::store::{Answer as Kept, Committer, Done, StoreError, Transaction};

/// Verdicts that are acted on in one turn.
const VERDICTS_PER_TURN: usize = 256;
/// What the store has answered and is acted on in one turn.
const COMMITS_PER_TURN: usize = 1024;
/// Programs that are taken out in one turn because their time has come.
const ENDS_PER_TURN: usize = 64;

/// Milliseconds between two times at which the store is told what it may forget.
const PRUNE_EVERY_MS: u64 = 10_000;

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The session that asked.
    pub session: SessionId,
    /// The number of its request.
    pub request: u32,
}

/// An answer to a request that was left open.
#[derive(Debug)]
pub struct Answer {
    /// Where it goes.
    pub way: Way,
    /// What it says.
    pub reply: Reply,
}

/// A signed request that is not an upload.
#[derive(Debug)]
pub enum Signed {
    /// A program is to end.
    Withdraw(OpenWithdraw),
    /// Its lifetime is to begin anew.
    Renew(OpenRenew),
}

/// What travels with the cases that are with the judges.
#[derive(Debug)]
pub struct OnTheWay;

impl Tickets for OnTheWay {
    type Program = (Way, OpenCase);
    type Lemma = (Way, Principal);
    type Signed = (Way, Signed);
}

/// What travels with what is with the store.
#[derive(Debug)]
enum Filed {
    /// A program, to be put in force.
    Program(Way, Decided),
    /// Anything else, to be answered where somebody asked.
    Outcome(Option<Way>, Outcome),
    /// Receipts that somebody asked for.
    Receipts(Way),
    /// The receipt that a request was answered with before.
    Again(Way),
}

/// The parts that an office is made of.
pub struct Staff {
    /// The register of programs, and the accounts.
    pub admission: Admission,
    /// The table that the workers read.
    pub table: TableWriter,
    /// Who checks signatures and proofs.
    pub judges: Judges<OnTheWay>,
    /// Programs that are with them at once.
    pub judging_max: usize,
    /// Who makes things durable.
    pub committer: Committer<Ticket>,
    /// Which keys are revoked.
    pub revoked: Revoked,
    /// Who tells the users of sources.
    pub alerts: Alerts,
    /// Who shuts sources off.
    pub shut_offs: ShutOffMaker,
    /// The directory that clients may fetch.
    pub directory: Option<SignedDirectory>,
}

/// What the office gives the store to have back.
#[derive(Debug)]
pub struct Ticket(Filed);

/// Who answers requests.
pub struct Office {
    /// The register of programs, and the accounts.
    pub admission: Admission,
    /// The table that the workers read.
    pub table: TableWriter,
    judges: Judges<OnTheWay>,
    /// Programs that are with the judges at once. They take a few cases more, so that signatures and lemmas find a place
    /// however many programs wait.
    judging_max: usize,
    scheduler: Scheduler<(Way, OpenCase, Question)>,
    bands: Bands,
    lookahead: Lookahead<(Way, Box<Candidate>)>,
    patience_us: u64,
    committer: Committer<Ticket>,
    /// What the store does not take now, in order. While anything waits here, nothing more is decided.
    unsent: VecDeque<(Transaction, Ticket)>,
    stash: Stash,
    revoked: Revoked,
    alerts: Alerts,
    shut_offs: ShutOffMaker,
    directory: Option<SignedDirectory>,
    pruned_ms: u64,
    /// Keys that count no longer, for the sessions.
    fallen: Arc<RwLock<AHashSet<PublicKey>>>,
    /// Keys whose sessions are to be closed.
    closing: Vec<PublicKey>,
    /// Datagrams to be sent by the data path.
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office").field("admission", &self.admission).finish_non_exhaustive()
    }
}

fn busy() -> Rejection {
    Rejection::new("busy", "too many requests wait; try again in a moment", None)
}

fn unstored(error: &StoreError) -> Rejection {
    let text = format!("the router cannot keep anything now, so it changes nothing; tell its operator: {error}");
    Rejection::new("store", &text, None)
}

/// The scheduler's clock.
fn us(now: Now) -> u64 {
    now.mono_ms.saturating_mul(1_000)
}

impl Office {
    /// An office with nothing on its desk, which works as `schedule` says.
    #[must_use]
    pub fn new(staff: Staff, schedule: &Schedule) -> Office {
        let Staff { admission, table, judges, judging_max, committer, revoked, alerts, shut_offs, directory } = staff;
        let whole = admission.budget().whole();
        let fallen = revoked.keys().collect();
        let lookahead = Lookahead::new(Settings {
            rule: schedule.admit,
            window: schedule.lookahead,
            waiting_max: schedule.bounds.whole,
            whole,
            floor: admission.floor(),
            range: f64::from(schedule.price_range),
        });
        Office {
            admission,
            table,
            judges,
            judging_max,
            scheduler: Scheduler::new(schedule.bounds),
            bands: schedule.bands.clone(),
            lookahead,
            patience_us: schedule.patience_ms * 1_000,
            committer,
            unsent: VecDeque::new(),
            stash: Stash::new(STASH_BYTES_MAX),
            revoked,
            alerts,
            shut_offs,
            directory,
            pruned_ms: 0,
            fallen: Arc::new(RwLock::new(fallen)),
            closing: Vec::new(),
            datagrams: Vec::new(),
        }
    }

    /// Uploads that wait for the judges, or are with them.
    #[must_use]
    pub fn checks_pending(&self) -> usize {
        self.scheduler.len() + self.judges.pending()
    }
    /// The requests that wait for the judges.
    #[must_use]
    pub fn scheduler(&self) -> &Scheduler<(Way, OpenCase, Question)> {
        &self.scheduler
    }
    /// Programs that wait for capacity.
    #[must_use]
    pub fn candidates(&self) -> usize {
        self.lookahead.len()
    }
    /// What is with the store, or waits for it.
    #[must_use]
    pub fn commits_pending(&self) -> usize {
        self.committer.pending() + self.unsent.len()
    }
    /// Why nothing is kept any more.
    #[must_use]
    pub fn store_failure(&self) -> Option<&StoreError> {
        self.committer.failure()
    }

    /// Whether an owner's key counts, for who asks at every handshake and request.
    pub fn standing(&self) -> impl Fn(&Ownership) -> bool + Send + Sync + 'static {
        let fallen = Arc::clone(&self.fallen);
        // Another thread's panic leaves a set that is whole.
        move |owner| !fallen.read().unwrap_or_else(PoisonError::into_inner).contains(&owner.key())
    }

    /// Keys that were revoked since the last call: their sessions are to be closed.
    pub fn take_closing(&mut self) -> Vec<PublicKey> {
        std::mem::take(&mut self.closing)
    }
    /// Datagrams to be sent by the data path.
    pub fn take_datagrams(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.datagrams)
    }

    /// Does what can be done without waiting, a bounded amount, and appends the answers. Returns whether there was work.
    pub fn turn(&mut self, now: Now, answers: &mut Vec<Answer>) -> bool {
        let mut worked = self.send_unsent();
        worked |= self.take_commits(now, answers);
        worked |= self.take_verdicts(now, answers);
        worked |= self.admit_candidates(now, answers);
        worked |= self.feed_judges(now, answers);
        worked |= self.end_programs(now);
        worked |= self.carry_out_shut_offs(now);
        worked
    }

    /// Hands a transaction to the store, or keeps it for later, in order.
    fn submit(&mut self, transaction: Transaction, filed: Filed) {
        let sent = if self.unsent.is_empty() {
            self.committer.submit(transaction, Ticket(filed)).map_err(|back| *back)
        } else {
            Err((transaction, Ticket(filed)))
        };
        if let Err(back) = sent {
            self.unsent.push_back(back);
        }
    }

    fn send_unsent(&mut self) -> bool {
        let mut worked = false;
        while let Some((transaction, ticket)) = self.unsent.pop_front() {
            if let Err(back) = self.committer.submit(transaction, ticket) {
                self.unsent.push_front(*back);
                break;
            }
            worked = true;
        }
        worked
    }

    /// Whether more may be decided: everything decided has gone to the store, and it takes more.
    fn may_decide(&self) -> bool {
        self.unsent.is_empty() && self.committer.is_free()
    }

    /// Has an outcome made durable and answered; the answer where it is known at once.
    fn file(&mut self, way: Option<Way>, mut outcome: Outcome) -> Option<Reply> {
        match outcome.transaction() {
            None => self.admission.settle(outcome, Ok(())),
            Some(transaction) => {
                self.submit(transaction, Filed::Outcome(way, outcome));
                None
            }
        }
    }

    /// The same for one that comes later than its request.
    fn file_late(&mut self, way: Way, outcome: Outcome, answers: &mut Vec<Answer>) {
        if let Some(reply) = self.file(Some(way), outcome) {
            answers.push(Answer { way, reply });
        }
    }

    /// Acts on what the store has answered.
    fn take_commits(&mut self, now: Now, answers: &mut Vec<Answer>) -> bool {
        let mut programs = Vec::new();
        let mut worked = false;
        for _ in 0..COMMITS_PER_TURN {
            let Some((Ticket(filed), result)) = self.committer.committed() else { break };
            worked = true;
            match (filed, result) {
                (Filed::Program(way, decided), Ok(_)) => programs.push((way, decided)),
                (Filed::Program(way, decided), Err(error)) => {
                    let reply = self.admission.undo(decided, unstored(&error));
                    answers.push(Answer { way, reply });
                }
                (Filed::Outcome(way, outcome), result) => {
                    let durable = result.map(|_| ()).map_err(|error| unstored(&error));
                    if let (Some(reply), Some(way)) = (self.admission.settle(outcome, durable), way) {
                        answers.push(Answer { way, reply });
                    }
                }
                (Filed::Receipts(way), result) => answers.push(Answer { way, reply: receipts(result) }),
                (Filed::Again(way), result) => answers.push(Answer { way, reply: receipt_again(result) }),
            }
        }
        self.publish(programs, now, answers);
        worked
    }

    /// Puts programs in force, all at once, and answers.
    fn publish(&mut self, programs: Vec<(Way, Decided)>, now: Now, answers: &mut Vec<Answer>) {
        if programs.is_empty() {
            return;
        }
        for (way, published) in self.admission.publish(programs, now, &mut self.table) {
            match published {
                Ok(reply) => {
                    if let Reply::Receipt(receipt) = &reply
                        && let Some(installed) = receipt.terms().installed()
                    {
                        // An owner with many programs can cause many of these lines.
                        log::stranger(
                            "admission",
                            format_args!(
                                "installed {} of {}: complexity {}, until {}",
                                installed.instance, installed.principal, installed.complexity, installed.ends_s
                            ),
                        );
                    }
                    answers.push(Answer { way, reply });
                }
                Err(outcome) => self.file_late(way, outcome, answers),
            }
        }
    }

    /// Acts on what the judges say.
    fn take_verdicts(&mut self, now: Now, answers: &mut Vec<Answer>) -> bool {
        let mut worked = false;
        for _ in 0..VERDICTS_PER_TURN {
            if !self.may_decide() {
                break;
            }
            let Some(judged) = self.judges.judged() else { break };
            worked = true;
            match judged {
                Judged::Program { ticket: (way, case), upload, verdict } => {
                    let who = upload.terms().principal;
                    let outcome = match self.admission.decide(case, upload, verdict, now) {
                        Ok(candidate) => {
                            let job = self.admission.job(&candidate, us(now) + self.patience_us);
                            match self.lookahead.offer(job, (way, candidate)) {
                                Ok(()) => continue,
                                Err((_, candidate)) => self.admission.turn_down(*candidate, busy()),
                            }
                        }
                        Err(outcome) => *outcome,
                    };
                    if let Some(Reply::Rejected(why)) = outcome.reply() {
                        log::stranger("admission", format_args!("rejected what {who} sent: {}", why.text()));
                    }
                    self.file_late(way, outcome, answers);
                }
                Judged::Lemma { ticket: (way, owner), lemma, verdict } => {
                    let outcome = self.admission.close_lemma(&owner, &lemma, verdict, now);
                    self.file_late(way, outcome, answers);
                }
                Judged::Signed { ticket: (way, signed), verdict } => {
                    let outcome = match signed {
                        Signed::Withdraw(open) => self.admission.withdraw(open, verdict, now, &mut self.table),
                        Signed::Renew(open) => self.admission.renew(open, verdict, now),
                    };
                    self.file_late(way, outcome, answers);
                }
            }
        }
        worked
    }

    /// Gives the capacity to those that wait for it.
    fn admit_candidates(&mut self, now: Now, answers: &mut Vec<Answer>) -> bool {
        let mut worked = false;
        while self.may_decide() {
            let free = self.admission.budget().free();
            let Some((verdict, job, (way, candidate))) = self.lookahead.decide(us(now), &free) else { break };
            worked = true;
            let outcome = match verdict {
                Verdict::Admit => match self.admission.admit(*candidate, now) {
                    Ok((decided, transaction)) => {
                        self.submit(transaction, Filed::Program(way, decided));
                        continue;
                    }
                    Err(outcome) => *outcome,
                },
                Verdict::Full => {
                    let why = NoCapacity::of(&job.load, &free);
                    self.admission.turn_down(*candidate, Rejection::new(why.code(), &why.to_string(), None))
                }
                Verdict::Price { price } => {
                    let text = format!(
                        "capacity is short: this program would have to pay {price} credits now, and offers {}",
                        job.value
                    );
                    self.admission.turn_down(*candidate, Rejection::new("price", &text, None))
                }
            };
            self.file_late(way, outcome, answers);
        }
        worked
    }

    /// Gives the judges what is next.
    fn feed_judges(&mut self, now: Now, answers: &mut Vec<Answer>) -> bool {
        let mut worked = false;
        while let Some((why, _, (way, case, _))) = self.scheduler.given_back(us(now)) {
            let outcome = self.admission.drop_case(case, Rejection::new("busy", &why.to_string(), None));
            self.file_late(way, outcome, answers);
        }
        while self.judges.pending() < self.judging_max {
            let Some((_, (way, case, question))) = self.scheduler.pop(us(now)) else { break };
            worked = true;
            if let Err(back) = self.judges.submit(Case::Program { ticket: (way, case), question })
                && let Case::Program { ticket: (way, case), .. } = *back
            {
                let outcome = self.admission.drop_case(case, busy());
                self.file_late(way, outcome, answers);
            }
        }
        worked
    }

    /// Takes out programs whose time has come.
    fn end_programs(&mut self, now: Now) -> bool {
        if !self.may_decide() {
            return false;
        }
        let ended = self.admission.reap(ENDS_PER_TURN, now, &mut self.table);
        let worked = !ended.is_empty();
        for (ended, outcome) in ended {
            log::info("admission", format_args!("{} of {} ended: {}", ended.instance, ended.owner, ended.why));
            self.file(None, outcome);
        }
        worked
    }

    /// What is to be done a few times a second: what has run out is let go, replaced memory is freed.
    pub fn tick(&mut self, now: Now) {
        // Final counts are the operator's business only while a program is installed.
        drop(self.table.reclaim());
        self.stash.expire(now.mono_ms);
        self.admission.tick(now);
        if now.mono_ms.saturating_sub(self.pruned_ms) >= PRUNE_EVERY_MS && self.may_decide() {
            self.pruned_ms = now.mono_ms;
            let outcome = self.admission.prune(now);
            self.file(None, outcome);
        }
    }

    /// Takes out every program, for the end of the router. Returns how many there were.
    pub fn clear(&mut self) -> usize {
        self.shut_offs.clear(&mut self.table);
        self.admission.clear(&mut self.table)
    }

    /// Answers as it was answered before; at once, where it needs no look into the store.
    fn again(&mut self, way: Way, key: PublicKey, answer: Kept) -> Option<Reply> {
        match answer {
            Kept::Bytes(bytes) => Some(reply_of(&bytes)),
            Kept::Receipt(number) => {
                let after = number.saturating_sub(1);
                let asked = self.committer.receipts(key, after, 1, Ticket(Filed::Again(way)));
                asked.err().map(|_| Reply::Rejected(busy()))
            }
        }
    }
}

fn receipts(result: Result<Done, StoreError>) -> Reply {
    match result {
        Ok(Done::Receipts(receipts)) => Reply::Receipts(receipts),
        Ok(Done::Committed) => Reply::Receipts(Vec::new()),
        Err(error) => Reply::Rejected(unstored(&error)),
    }
}

fn receipt_again(result: Result<Done, StoreError>) -> Reply {
    match receipts(result) {
        Reply::Receipts(receipts) => match receipts.into_iter().next() {
            Some(receipt) => Reply::Receipt(receipt),
            None => Reply::Rejected(Rejection::new(
                "forgotten",
                "this request was carried out before; its receipt is no longer kept here",
                None,
            )),
        },
        other => other,
    }
}
