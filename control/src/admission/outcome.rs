//! What comes of a request, or of time: what the store has to make durable, and what is answered then.

use vinet_session::Now;
use vinet_session::message::{Rejection, Reply};
use vinet_trusted::addr::Principal;

use super::Admission;
use crate::requests::{OpenRequest, answer_of};
use crate::store::{Answer, Put, Transaction};

/// What is done and not answered yet. Its changes are for the store; when they are durable, [`Admission::settle`] gives
/// the answer.
#[derive(Debug)]
#[must_use = "an outcome is not answered, and perhaps not durable, before it is settled"]
pub struct Outcome {
    /// None where nobody asked, or where nothing is remembered.
    request: Option<OpenRequest>,
    answer: Option<Answer>,
    reply: Option<Reply>,
    puts: Vec<Put>,
}

impl Outcome {
    /// Nobody asked for it.
    pub(super) fn unasked(puts: Vec<Put>) -> Outcome {
        Outcome { request: None, answer: None, reply: None, puts }
    }
    /// It is answered by `reply`, and copies of the request are not known by it.
    pub(super) fn answered(reply: Reply, puts: Vec<Put>) -> Outcome {
        Outcome { request: None, answer: None, reply: Some(reply), puts }
    }
    /// The request came to nothing, and the very same may be sent again.
    pub(super) fn passing(request: OpenRequest, why: Rejection) -> Outcome {
        Outcome { request: Some(request), answer: None, reply: Some(Reply::Rejected(why)), puts: Vec::new() }
    }
    /// Copies of the request get the same answer; over restarts too, where anything is durable.
    pub(super) fn of(request: OpenRequest, reply: Reply, mut puts: Vec<Put>) -> Outcome {
        let answer = match &reply {
            Reply::Receipt(receipt) => Answer::Receipt(receipt.terms().number),
            reply => answer_of(reply),
        };
        if !puts.is_empty() {
            puts.push(request.record(answer.clone()));
        }
        Outcome { request: Some(request), answer: Some(answer), reply: Some(reply), puts }
    }

    /// What the store has to make durable first, if anything.
    pub fn transaction(&mut self) -> Option<Transaction> {
        (!self.puts.is_empty()).then(|| Transaction::from(std::mem::take(&mut self.puts)))
    }

    /// What is answered where everything goes well.
    #[must_use]
    pub fn reply(&self) -> Option<&Reply> {
        self.reply.as_ref()
    }
}

impl Admission {
    /// Notes that something happened to `owner`; gives what the store has to do about it.
    pub fn note(&mut self, owner: &Principal, code: &str, text: &str, now: Now) -> Vec<Put> {
        self.events.note(owner, now.wall_s, code, text)
    }

    /// Changes that nobody asked for.
    pub fn unasked(&self, puts: Vec<Put>) -> Outcome {
        Outcome::unasked(puts)
    }

    /// The answer, now that what had to be durable is, or is not.
    pub fn settle(&mut self, outcome: Outcome, durable: Result<(), Rejection>) -> Option<Reply> {
        let Outcome { request, answer, reply, .. } = outcome;
        let (answer, reply) = match durable {
            Ok(()) => (answer, reply),
            Err(why) => (None, reply.map(|_| Reply::Rejected(why))),
        };
        if let Some(request) = request {
            match answer {
                Some(answer) => self.requests.answer(request, answer),
                None => self.requests.forget(request),
            }
        }
        reply
    }
}
