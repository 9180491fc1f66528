//! The signed requests that were seen, each until its expiry, so that each counts once.
//!
//! A request is named by the key that signed it and its nonce, and told from another under the same name by the digest
//! of everything that was signed. One that comes again, because its answer was lost, is answered as before; another one
//! under a name that is taken is a replay. Holding an [`OpenRequest`] proves that nothing else is done under its name;
//! it ends with an answer that is remembered, or as if it had never been sent. What is remembered is bounded for each
//! key and in all.

use std::collections::BTreeMap;

use ahash::AHashMap;
use vinet_session::Claim;
use vinet_session::identity::PublicKey;
use vinet_session::message::{Rejection, Reply, decode_reply, encode_reply};
use vinet_session::verify::RequestFault;

use crate::store::{Answer, Put, RequestRecord};

/// Who signed a request, and its nonce.
pub type RequestKey = (PublicKey, [u8; 16]);

/// A request that is being decided. Give it to [`Requests::answer`] or [`Requests::forget`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an open request is in progress until it is answered or forgotten"]
pub struct OpenRequest {
    name: RequestKey,
    digest: [u8; 32],
    expiry_s: u64,
}

impl OpenRequest {
    /// The key that signed it.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.name.0
    }
    /// What the store keeps of it with `answer`, so that it counts once over restarts too.
    #[must_use]
    pub fn record(&self, answer: Answer) -> Put {
        let (owner, nonce) = self.name;
        Put::Request(RequestRecord { owner, nonce, digest: self.digest, expiry_s: self.expiry_s, answer })
    }
}

/// A reply as it is remembered.
#[must_use]
pub fn answer_of(reply: &Reply) -> Answer {
    // The number of the request that it answered is another's matter.
    Answer::Bytes(encode_reply(1, reply))
}

/// The reply that was remembered as `bytes`.
#[must_use]
pub fn reply_of(bytes: &[u8]) -> Reply {
    match decode_reply(bytes) {
        Ok((_, reply)) => reply,
        Err(_) => Reply::Rejected(Rejection::new(
            "forgotten",
            "this request was carried out before; its answer is in a form that this router no longer reads",
            None,
        )),
    }
}

#[derive(Debug)]
struct Known {
    digest: [u8; 32],
    state: State,
}

#[derive(Debug)]
enum State {
    /// It is being decided.
    Open,
    /// It came to nothing, and may be sent again.
    Idle,
    Answered(Answer),
}

/// The requests whose time has not passed.
#[derive(Debug)]
pub struct Requests {
    known: AHashMap<RequestKey, Known>,
    /// By the second after which they are forgotten.
    by_expiry: BTreeMap<u64, Vec<RequestKey>>,
    of_key: AHashMap<PublicKey, usize>,
    len_max: usize,
    per_key_max: usize,
}

impl Requests {
    /// Room for `len_max` requests, and for `per_key_max` of one key.
    #[must_use]
    pub fn new(len_max: usize, per_key_max: usize) -> Requests {
        Requests { known: AHashMap::new(), by_expiry: BTreeMap::new(), of_key: AHashMap::new(), len_max, per_key_max }
    }

    /// Requests that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }
    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The answer that the request of `claim` under `nonce` has had already, if it has.
    ///
    /// # Errors
    /// It is being decided, or it is a replay.
    pub fn answered(&self, claim: &Claim, nonce: [u8; 16]) -> Result<Option<Answer>, Rejection> {
        let Some(known) = self.known.get(&(claim.key(), nonce)) else { return Ok(None) };
        if known.digest != claim.digest() {
            return Err(RequestFault::Replayed.into());
        }
        match &known.state {
            State::Answered(answer) => Ok(Some(answer.clone())),
            State::Idle => Ok(None),
            State::Open => {
                let text = "this very request is being decided; its answer comes on its session";
                Err(Rejection::new("in-progress", text, None))
            }
        }
    }

    /// Opens the request of `claim` under `nonce`, good until the Unix second `expiry_s`: one that
    /// [`Requests::answered`] knows nothing of.
    ///
    /// # Errors
    /// It is known, or there is no room.
    pub fn open(
        &mut self,
        claim: &Claim,
        nonce: [u8; 16],
        expiry_s: u64,
        now_s: u64,
    ) -> Result<OpenRequest, Rejection> {
        self.expire(now_s);
        let name = (claim.key(), nonce);
        if let Some(known) = self.known.get_mut(&name) {
            if known.digest != claim.digest() || !matches!(known.state, State::Idle) {
                return Err(RequestFault::Replayed.into());
            }
            known.state = State::Open;
            return Ok(OpenRequest { name, digest: claim.digest(), expiry_s });
        }
        let of_key = self.of_key.get(&claim.key()).copied().unwrap_or(0);
        if self.known.len() >= self.len_max || of_key >= self.per_key_max {
            return Err(RequestFault::TooManyRequests.into());
        }
        self.remember(name, claim.digest(), State::Open, expiry_s);
        Ok(OpenRequest { name, digest: claim.digest(), expiry_s })
    }

    fn remember(&mut self, name: RequestKey, digest: [u8; 32], state: State, expiry_s: u64) {
        self.known.insert(name, Known { digest, state });
        self.by_expiry.entry(expiry_s).or_default().push(name);
        *self.of_key.entry(name.0).or_default() += 1;
    }

    /// Takes in a request that was answered before a restart.
    pub fn restore(&mut self, record: RequestRecord) {
        let name = (record.owner, record.nonce);
        if self.known.len() < self.len_max && !self.known.contains_key(&name) {
            self.remember(name, record.digest, State::Answered(record.answer), record.expiry_s);
        }
    }

    /// Remembers the answer.
    pub fn answer(&mut self, request: OpenRequest, answer: Answer) {
        if let Some(known) = self.known.get_mut(&request.name) {
            known.state = State::Answered(answer);
        }
    }

    /// Lets go of a request that came to nothing: the very same may be sent again.
    pub fn forget(&mut self, request: OpenRequest) {
        // It keeps its place until its expiry, so that sending it again and again takes no more room.
        if let Some(known) = self.known.get_mut(&request.name) {
            known.state = State::Idle;
        }
    }

    fn remove(&mut self, name: &RequestKey) {
        if self.known.remove(name).is_none() {
            return;
        }
        if let Some(count) = self.of_key.get_mut(&name.0) {
            *count -= 1;
            if *count == 0 {
                self.of_key.remove(&name.0);
            }
        }
    }

    /// Forgets what has expired.
    pub fn expire(&mut self, now_s: u64) {
        while let Some(entry) = self.by_expiry.first_entry().filter(|entry| *entry.key() < now_s) {
            for name in entry.remove() {
                // One that is still being decided is looked at again in a second.
                if self.known.get(&name).is_some_and(|known| matches!(known.state, State::Open)) {
                    self.by_expiry.entry(now_s).or_default().push(name);
                } else {
                    self.remove(&name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_session::identity::{AuthorityKey, Identity, Subject, Validity, parse_principal};
    use vinet_session::message::Withdraw;

    fn owner() -> Identity {
        let subject = Subject::Owner(parse_principal("192.0.2.7").unwrap());
        AuthorityKey::generate("bench").unwrap().issue_identity(subject, Validity::starting(0, 9)).unwrap()
    }
    fn claim(owner: &Identity, instance: u64, nonce: u8, expiry_s: u64) -> Claim {
        Withdraw::sign(owner.public(), instance, [nonce; 16], expiry_s, owner).claim(owner.public())
    }
    fn reply(text: &str) -> Answer {
        answer_of(&Reply::Rejected(Rejection::new("no", text, None)))
    }

    /// Requests of one owner, all good until second 100.
    struct Bench {
        owner: Identity,
        requests: Requests,
    }

    impl Bench {
        fn new(len_max: usize, per_key_max: usize) -> Bench {
            Bench { owner: owner(), requests: Requests::new(len_max, per_key_max) }
        }
        /// As admission does it.
        fn open(&mut self, instance: u64, nonce: u8, now_s: u64) -> Result<Seen, String> {
            let claim = claim(&self.owner, instance, nonce, 100);
            self.requests.expire(now_s);
            let code = |why: Rejection| why.code().to_owned();
            match self.requests.answered(&claim, [nonce; 16]).map_err(code)? {
                Some(reply) => Ok(Seen::Answered(reply)),
                None => self.requests.open(&claim, [nonce; 16], 100, now_s).map(Seen::New).map_err(code),
            }
        }
        fn new_one(&mut self, instance: u64, nonce: u8) -> OpenRequest {
            match self.open(instance, nonce, 0) {
                Ok(Seen::New(open)) => open,
                other => panic!("{other:?}"),
            }
        }
    }

    #[derive(Debug, PartialEq)]
    enum Seen {
        New(OpenRequest),
        Answered(Answer),
    }

    #[test]
    fn a_request_counts_once_and_its_copies_get_its_answer() {
        let mut bench = Bench::new(9, 9);
        let open = bench.new_one(5, 1);
        assert_eq!(bench.open(5, 1, 0), Err("in-progress".to_owned()));
        assert_eq!(bench.open(6, 1, 0), Err("replayed".to_owned()));
        bench.requests.answer(open, reply("first"));
        assert_eq!(bench.open(5, 1, 100), Ok(Seen::Answered(reply("first"))));
        assert_eq!(bench.open(6, 1, 100), Err("replayed".to_owned()));
        // After its expiry it is forgotten; who reads requests refuses it by its expiry.
        assert!(matches!(bench.open(6, 1, 101), Ok(Seen::New(_))));
    }

    #[test]
    fn what_came_to_nothing_may_be_sent_again_and_takes_no_more_room() {
        let mut bench = Bench::new(2, 2);
        for _ in 0..100 {
            let open = bench.new_one(5, 1);
            bench.requests.forget(open);
        }
        assert_eq!((bench.requests.len(), bench.requests.by_expiry[&100].len()), (1, 1));
        assert_eq!(bench.open(6, 1, 0), Err("replayed".to_owned()), "only the same is the same");
        let open = bench.new_one(5, 1);
        bench.requests.answer(open, reply("at last"));
        assert_eq!(bench.open(5, 1, 0), Ok(Seen::Answered(reply("at last"))));
        bench.requests.expire(101);
        assert!(bench.requests.is_empty() && bench.requests.of_key.is_empty() && bench.requests.by_expiry.is_empty());
    }

    #[test]
    fn memory_is_bounded_for_each_key_and_in_all_and_what_is_open_outlasts_its_expiry() {
        let mut bench = Bench::new(3, 2);
        let open = bench.new_one(1, 1);
        let second = bench.new_one(1, 2);
        assert_eq!(bench.open(1, 3, 0), Err("too-many-requests".to_owned()));
        bench.owner = owner();
        let other = bench.new_one(1, 1);
        assert_eq!(bench.open(1, 2, 0), Err("too-many-requests".to_owned()), "three in all");
        bench.requests.answer(second, reply(""));
        bench.requests.expire(150);
        assert_eq!(bench.requests.len(), 2);
        bench.requests.answer(open, reply(""));
        bench.requests.forget(other);
        bench.requests.expire(151);
        assert!(bench.requests.is_empty());
    }

    #[test]
    fn a_reply_is_remembered_as_its_bytes() {
        let Answer::Bytes(bytes) = reply("no") else { panic!("bytes") };
        assert_eq!(answer_of(&reply_of(&bytes)), reply("no"));
        assert!(matches!(reply_of(&[1, 2, 3]), Reply::Rejected(why) if why.code() == "forgotten"));
    }

    #[test]
    fn what_was_answered_before_a_restart_is_answered_again() {
        let mut bench = Bench::new(1, 1);
        let claim = claim(&bench.owner, 5, 1, 100);
        let digest = claim.digest();
        let record =
            |nonce, answer| RequestRecord { owner: claim.key(), nonce: [nonce; 16], digest, expiry_s: 100, answer };
        bench.requests.restore(record(1, Answer::Receipt(7)));
        assert_eq!(bench.open(5, 1, 0), Ok(Seen::Answered(Answer::Receipt(7))));
        bench.requests.restore(record(2, reply("no room")));
        assert_eq!(bench.requests.len(), 1);
    }
}
