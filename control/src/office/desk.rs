//! Arrivals: which stage each request begins at.

use std::sync::PoisonError;

use vinet_session::Now;
use vinet_session::identity::Ownership;
use vinet_session::limits::RECEIPTS_MAX;
use vinet_session::message::{NewLemma, Rejection, Renew, Reply, Request, RevocationList, Upload, Withdraw};
use vinet_trusted::program::Program;

use super::{Filed, Office, Signed, Ticket, Way, busy, unstored};
use crate::admission::{Opened, Outcome};
use crate::judges::Case;
use crate::log;
use crate::revoked::Taken;
use crate::scheduler::{Arrival, Function};
use crate::server::{Desk, SessionId, Stamp};
use crate::store::Answer as Kept;

/// What an arrival comes to at once: an answer, or none before something else is done.
type Arrived = Option<Reply>;

impl Office {
    /// Opens an upload and has it wait for the judges.
    fn upload(&mut self, way: Way, owner: &Ownership, upload: Upload, stamp: Stamp, now: Now) -> Arrived {
        let (question, case) = match self.admission.open(upload, owner, now) {
            Opened::Rejected(why) => return Some(Reply::Rejected(why)),
            Opened::Again(answer) => return self.again(way, owner.key(), answer),
            Opened::Judge { question, case } => (*question, *case),
        };
        let terms = question.upload.terms();
        let function = match Program::decode(&terms.program) {
            Ok(program) => Function::of(&program),
            Err(error) => {
                let text = format!("the program cannot be read: {error}");
                let outcome = self.admission.drop_case(case, Rejection::new("malformed-program", &text, None));
                return self.file(Some(way), outcome);
            }
        };
        let arrival = Arrival {
            class: self.bands.class(function, terms.cost),
            interface: stamp.interface,
            stamp_us: stamp.at_us,
            payment: terms.payment,
            cost: terms.cost,
            owner: terms.principal,
        };
        match self.scheduler.push(arrival, (way, case, question)) {
            Ok(()) => None,
            Err((refused, (_, case, _))) => {
                let outcome = self.admission.drop_case(case, Rejection::new("busy", &refused.to_string(), None));
                self.file(Some(way), outcome)
            }
        }
    }

    /// Opens a withdrawal and has its signature verified.
    fn withdraw(&mut self, way: Way, owner: &Ownership, withdraw: &Withdraw, now: Now) -> Arrived {
        let (claim, open) = match self.admission.open_withdraw(withdraw, owner, now) {
            Ok(opened) => opened,
            Err(Err(why)) => return Some(Reply::Rejected(why)),
            Err(Ok(answer)) => return self.again(way, owner.key(), answer),
        };
        self.verify(way, Case::Signed { ticket: (way, Signed::Withdraw(open)), claim })
    }

    /// Opens a renewal and has its signature verified.
    fn renew(&mut self, way: Way, owner: &Ownership, renew: &Renew, now: Now) -> Arrived {
        let (claim, open) = match self.admission.open_renew(renew, owner, now) {
            Ok(opened) => opened,
            Err(Err(why)) => return Some(Reply::Rejected(why)),
            Err(Ok(answer)) => return self.again(way, owner.key(), answer),
        };
        self.verify(way, Case::Signed { ticket: (way, Signed::Renew(open)), claim })
    }

    fn verify(&mut self, way: Way, case: Case<super::OnTheWay>) -> Arrived {
        let Err(back) = self.judges.submit(case) else { return None };
        let outcome = match *back {
            Case::Signed { ticket: (_, Signed::Withdraw(open)), .. } => self.admission.drop_withdraw(open, busy()),
            Case::Signed { ticket: (_, Signed::Renew(open)), .. } => self.admission.drop_renew(open, busy()),
            Case::Program { .. } | Case::Lemma { .. } => unreachable!("a signature was handed in"),
        };
        self.file(Some(way), outcome)
    }

    /// Hands a lemma to the judges, or answers at once.
    fn add_lemma(&mut self, way: Way, owner: &Ownership, lemma: NewLemma, now: Now) -> Arrived {
        if !self.judges.is_free() {
            return Some(Reply::Rejected(busy()));
        }
        let store = match self.admission.open_lemma(&lemma, owner, now) {
            Ok(store) => store,
            Err(reply) => return Some(*reply),
        };
        let ticket = (way, owner.principal());
        if self.judges.submit(Case::Lemma { ticket, lemma, store }).is_ok() {
            return None;
        }
        self.admission.drop_lemma(&owner.principal());
        Some(Reply::Rejected(busy()))
    }

    fn file_or_again(&mut self, way: Way, owner: &Ownership, outcome: Result<Outcome, Kept>) -> Arrived {
        match outcome {
            Ok(outcome) => self.file(Some(way), outcome),
            Err(answer) => self.again(way, owner.key(), answer),
        }
    }

    fn receipts(&mut self, way: Way, owner: &Ownership, after: u64) -> Arrived {
        let ticket = Ticket(Filed::Receipts(way));
        let asked = self.committer.receipts(owner.key(), after, RECEIPTS_MAX, ticket);
        asked.err().map(|_| Reply::Rejected(busy()))
    }

    /// Takes a list of revoked keys, where it is newer: their sessions are closed and their programs end.
    fn revoke(&mut self, owner: &Ownership, list: RevocationList, now: Now) -> Reply {
        if let Err(why) = self.admission.may_have_signature(&owner.principal(), now) {
            return Reply::Rejected(why);
        }
        match self.revoked.take(list) {
            Ok(taken) => self.revoked_now(taken),
            Err(why) => return Reply::Rejected(why),
        }
        Reply::Revocations { number: self.revoked.number() }
    }

    /// Acts on a list that was taken.
    pub fn revoked_now(&mut self, taken: Taken) {
        let Taken::Newer { fresh, unkept } = taken else { return };
        if let Some(error) = unkept {
            log::error("admission", format_args!("the list of revoked keys is in force and not kept: {error}"));
        }
        let (number, count) = (self.revoked.number(), fresh.len());
        log::info("admission", format_args!("list {number} of revoked keys is in force: {count} more"));
        self.admission.revoke(&fresh);
        self.fallen.write().unwrap_or_else(PoisonError::into_inner).extend(fresh.iter().copied());
        self.closing.extend(fresh);
    }

    /// What would change something is refused while nothing can be kept, or too much waits to be.
    fn may_change(&self) -> Result<(), Rejection> {
        match self.committer.failure() {
            Some(error) => Err(unstored(error)),
            None if !self.may_decide() => Err(busy()),
            None => Ok(()),
        }
    }
}

fn changes(request: &Request) -> bool {
    match request {
        Request::Upload(_)
        | Request::UploadObject { .. }
        | Request::Withdraw(_)
        | Request::Renew(_)
        | Request::AddLemma(_)
        | Request::Deposit(_) => true,
        Request::GetPolicy { .. }
        | Request::List
        | Request::Show { .. }
        | Request::Quote(_)
        | Request::Balance
        | Request::Receipts { .. }
        | Request::ReachMe { .. }
        | Request::Reached(_)
        | Request::Events { .. }
        | Request::Part(_)
        | Request::Directory
        | Request::Ticket
        | Request::Revoke(_) => false,
    }
}

impl Desk for Office {
    fn request(
        &mut self,
        from: SessionId,
        id: u32,
        owner: &Ownership,
        request: Request,
        stamp: Stamp,
        now: Now,
    ) -> Option<Reply> {
        let way = Way { session: from, request: id };
        let (who, key) = (owner.principal(), owner.key());
        if self.revoked.is_revoked(&key) {
            let text = "the authority has revoked this key; ask it for another certificate";
            return Some(Reply::Rejected(Rejection::new("revoked", text, None)));
        }
        if changes(&request)
            && let Err(why) = self.may_change()
        {
            return Some(Reply::Rejected(why));
        }
        match request {
            Request::GetPolicy { kind } => Some(self.admission.policy(kind)),
            Request::List => Some(self.admission.list(&who, now, &self.table)),
            Request::Show { instance } => Some(self.admission.show(instance, &who, now, &self.table)),
            Request::Withdraw(withdraw) => self.withdraw(way, owner, &withdraw, now),
            Request::Renew(renew) => self.renew(way, owner, &renew, now),
            Request::AddLemma(lemma) => self.add_lemma(way, owner, lemma, now),
            Request::Upload(upload) => self.upload(way, owner, *upload, stamp, now),
            Request::Part(part) => Some(match self.stash.part(&who, &part, now.mono_ms) {
                Ok(have) => Reply::Part { have },
                Err(why) => Reply::Rejected(why),
            }),
            Request::UploadObject { object } => match self.stash.upload(&who, &object, now.mono_ms) {
                Ok(upload) => self.upload(way, owner, upload, stamp, now),
                Err(why) => Some(Reply::Rejected(why)),
            },
            Request::Quote(ask) => Some(self.admission.quote(&ask, owner, now)),
            Request::Deposit(credit) => {
                let outcome = self.admission.deposit(&credit, owner, now);
                self.file_or_again(way, owner, outcome)
            }
            Request::Balance => Some(self.admission.balance(&key)),
            Request::Receipts { after } => self.receipts(way, owner, after),
            Request::ReachMe { port, .. } => Some(match self.admission.reach_mut().ask(owner, port, now) {
                Ok(challenge) => {
                    self.datagrams.push((challenge.to, challenge.payload.to_vec()));
                    Reply::ReachSent
                }
                Err(why) => Reply::Rejected(why),
            }),
            Request::Reached(answer) => Some(match self.admission.reach_mut().answer(owner, &answer, now) {
                Ok(until_s) => Reply::Reached { until_s },
                Err(why) => Reply::Rejected(why),
            }),
            Request::Events { after } => Some(Reply::Events(self.admission.events().after(&who, after))),
            Request::Directory => Some(match &self.directory {
                Some(directory) => Reply::Directory(Box::new(directory.clone())),
                None => {
                    let text = "this router was given no directory; ask another, or name the router";
                    Reply::Rejected(Rejection::new("no-directory", text, None))
                }
            }),
            Request::Revoke(list) => Some(self.revoke(owner, *list, now)),
            // The session itself answers these.
            Request::Ticket => Some(Reply::Rejected(Rejection::new("no-ticket", "no ticket is given here", None))),
        }
    }
}
