//! The judges: threads that check proofs, so that the control core's loop never waits for one.
//!
//! A judge takes several cases at once where several wait, verifies their signatures together, and then looks at each
//! proof. Cases go in and come out through bounded queues; no more than a named number is anywhere between, and one more is
//! refused at once. What judges hold between two cases is which programs are lowered, so that one that comes again, for
//! another owner, shares the memory of the first; a panic in a case (our own defect) rejects that case alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use vinet_pktops::{Executable, Lowerings};
use vinet_session::Claim;
use vinet_session::message::{NewLemma, Rejection, Terms, Upload};
use vinet_session::verify::RequestFault;
use vinet_trusted::check::check;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Instr, Program};

use crate::config::Verify;

/// The ways back to who asked, for each kind of case.
pub trait Tickets {
    /// Of a program.
    type Program: Send + 'static;
    /// Of a lemma.
    type Lemma: Send + 'static;
    /// Of another signed request.
    type Signed: Send + 'static;
}

/// What judges look at of an upload.
#[derive(Debug)]
pub struct Question {
    /// That its owner signed it.
    pub claim: Claim,
    /// What is asked.
    pub upload: Box<Upload>,
    /// The policy that it is judged by.
    pub policy: Arc<Policy>,
    /// The lemmas that its proof may cite.
    pub lemmas: Arc<LemmaStore>,
    /// The Unix second at which it came.
    pub now_s: u64,
}

/// A program that the checker accepted.
#[derive(Debug)]
pub struct Accepted {
    /// What runs.
    pub executable: Arc<Executable>,
    /// The upload, in its one encoding.
    pub record: Vec<u8>,
    /// The proof that was checked, where it is not the upload's.
    pub proof: Option<Vec<u8>>,
}

/// What is to be judged.
pub enum Case<T: Tickets> {
    /// A program.
    Program {
        /// The way back.
        ticket: T::Program,
        /// The upload.
        question: Question,
    },
    /// A lemma.
    Lemma {
        /// The way back.
        ticket: T::Lemma,
        /// The lemma.
        lemma: NewLemma,
        /// The store that it is to be added to.
        store: Arc<LemmaStore>,
    },
    /// A signature, of a request about which nothing else is to be judged.
    Signed {
        /// The way back.
        ticket: T::Signed,
        /// What is to be verified.
        claim: Claim,
    },
}

/// A case that was judged.
pub enum Judged<T: Tickets> {
    /// A program.
    Program {
        /// The way back.
        ticket: T::Program,
        /// What was asked.
        upload: Box<Upload>,
        /// What can run, or why not.
        verdict: Result<Accepted, Rejection>,
    },
    /// A lemma.
    Lemma {
        /// The way back.
        ticket: T::Lemma,
        /// The lemma.
        lemma: NewLemma,
        /// Its number and the store with it, or why it was not taken.
        verdict: Result<(usize, Arc<LemmaStore>), Rejection>,
    },
    /// A signature.
    Signed {
        /// The way back.
        ticket: T::Signed,
        /// Whether it holds.
        verdict: Result<(), Rejection>,
    },
}

/// Cases that one judge takes at once: their signatures are verified together.
pub const BATCH_LEN_MAX: usize = 32;
/// For so long what is judged may wait for the rest of its batch, before the loop is woken.
const WAKE_AFTER: Duration = Duration::from_millis(1);

impl<T: Tickets> std::fmt::Debug for Judges<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judges").field("pending", &self.pending).finish_non_exhaustive()
    }
}

/// The threads and the queues to and from them.
pub struct Judges<T: Tickets> {
    cases: Option<Sender<Case<T>>>,
    judged: Receiver<Judged<T>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Cases between [`Judges::submit`] and [`Judges::judged`].
    pending: usize,
    pending_max: usize,
}

impl<T: Tickets + 'static> Judges<T> {
    /// Starts `threads` judges for at most `pending_max` cases at once. `wake` is called when there are judged cases.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        verify: Verify,
        threads: usize,
        pending_max: usize,
        lowerings: Arc<Lowerings>,
        wake: impl Fn() + Send + Clone + 'static,
    ) -> std::io::Result<Judges<T>> {
        let (case_sender, case_receiver) = bounded::<Case<T>>(pending_max);
        // As large as the most cases there can be, so that a judge never waits to give one back.
        let (judged_sender, judged) = bounded(pending_max);
        let threads = (0..threads)
            .map(|_| {
                let lowerings = Arc::clone(&lowerings);
                let (cases, judged, wake) = (case_receiver.clone(), judged_sender.clone(), wake.clone());
                std::thread::Builder::new()
                    .name("vinet-judge".into())
                    .spawn(move || serve(&cases, &judged, verify, &lowerings, &wake))
            })
            .collect::<Result<_, _>>()?;
        Ok(Judges { cases: Some(case_sender), judged, threads, pending: 0, pending_max })
    }

    /// Whether the judges take another case now.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.pending < self.pending_max
    }

    /// Hands a case to the judges, or gives it back where too many wait.
    ///
    /// # Errors
    /// The case: try again later.
    pub fn submit(&mut self, case: Case<T>) -> Result<(), Box<Case<T>>> {
        if !self.is_free() {
            return Err(Box::new(case));
        }
        let sender = self.cases.as_ref().expect("the queue is open until drop");
        sender.try_send(case).map_err(|refused| Box::new(refused.into_inner()))?;
        self.pending += 1;
        Ok(())
    }

    /// A case that has been judged, if there is one.
    pub fn judged(&mut self) -> Option<Judged<T>> {
        let judged = self.judged.try_recv().ok()?;
        self.pending -= 1;
        Some(judged)
    }

    /// Cases that are with the judges.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending
    }
}

impl<T: Tickets> Drop for Judges<T> {
    fn drop(&mut self) {
        // Without a sender the judges end after the cases that they have.
        self.cases = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The life of one judge.
fn serve<T: Tickets>(
    cases: &Receiver<Case<T>>,
    judged: &Sender<Judged<T>>,
    verify: Verify,
    lowerings: &Lowerings,
    wake: &impl Fn(),
) {
    while let Ok(first) = cases.recv() {
        let mut batch = vec![first];
        batch.extend(cases.try_iter().take(BATCH_LEN_MAX - 1));
        let claims: Vec<Claim> = batch.iter().filter_map(Case::claim).collect();
        let holds = catch_unwind(|| vinet_session::verify_all(&claims)).unwrap_or_default();
        let mut holds = holds.into_iter();
        let mut woken = Instant::now();
        for case in batch {
            let signed = case.claim().is_none() || holds.next().unwrap_or(false);
            if judged.send(case.judge(signed, verify, lowerings)).is_err() {
                return;
            }
            if woken.elapsed() > WAKE_AFTER {
                wake();
                woken = Instant::now();
            }
        }
        wake();
    }
}

impl<T: Tickets> Case<T> {
    fn claim(&self) -> Option<Claim> {
        match self {
            Case::Program { question: Question { claim, .. }, .. } | Case::Signed { claim, .. } => Some(*claim),
            Case::Lemma { .. } => None,
        }
    }

    fn judge(self, signed: bool, verify: Verify, lowerings: &Lowerings) -> Judged<T> {
        let authentic = if signed { Ok(()) } else { Err(RequestFault::BadSignature.into()) };
        match self {
            Case::Program { ticket, question } => {
                let verdict = authentic.and_then(|()| safely(|| question.judge(verify, lowerings)));
                Judged::Program { ticket, upload: question.upload, verdict }
            }
            Case::Lemma { ticket, lemma, store } => {
                let verdict = safely(|| judge_lemma(&lemma, &store));
                Judged::Lemma { ticket, lemma, verdict }
            }
            Case::Signed { ticket, .. } => Judged::Signed { ticket, verdict: authentic },
        }
    }
}

fn safely<T>(judge: impl FnOnce() -> Result<T, Rejection>) -> Result<T, Rejection> {
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|_| {
        Err(Rejection::new("router-fault", "the router failed while it judged this; tell its operator", None))
    })
}

impl Question {
    /// Judges one program whose upload is authentic: the quote that it cites, and its proof, or the router's own analysis.
    ///
    /// # Errors
    /// The program may not run here, and why.
    pub fn judge(&self, verify: Verify, lowerings: &Lowerings) -> Result<Accepted, Rejection> {
        let terms = self.upload.terms();
        if let Some(quote) = &terms.quote {
            quote.fits(terms, self.now_s)?;
        }
        let own = match (verify, &terms.proof) {
            (Verify::Proof, None) => {
                return Err(Rejection::new(
                    "proof-missing",
                    "this router accepts only programs with a proof; make one with `vinet prove`",
                    None,
                ));
            }
            (Verify::Proof | Verify::Either, Some(_)) => None,
            (Verify::Static, _) | (Verify::Either, None) => Some(analyse(terms, &self.policy, &self.lemmas)?),
        };
        let proof = own.as_deref().or(terms.proof.as_deref()).unwrap_or_default();
        let executable = accept(terms, proof, &self.policy, &self.lemmas, lowerings)?;
        Ok(Accepted { executable, record: self.upload.encode(), proof: own })
    }
}

/// Has the checker look at `proof`, and lowers the program: the one way to what runs.
///
/// # Errors
/// The program may not run here, and why.
pub fn accept(
    terms: &Terms,
    proof: &[u8],
    policy: &Arc<Policy>,
    lemmas: &LemmaStore,
    lowerings: &Lowerings,
) -> Result<Arc<Executable>, Rejection> {
    let checked = check(&terms.program, proof, terms.principal, policy, lemmas)
        .map_err(|reject| Rejection::new(reject.code(), &reject.to_string(), instr(reject.instr())))?;
    may_send(checked.program(), policy)?;
    let executable = lowerings
        .lower(Arc::new(checked))
        .map_err(|error| Rejection::new("not-lowered", &format!("this router cannot run it: {error}"), None))?;
    Ok(Arc::new(executable))
}

/// The router's own certificate.
fn analyse(terms: &Terms, policy: &Policy, lemmas: &LemmaStore) -> Result<Vec<u8>, Rejection> {
    let program = Program::decode(&terms.program)
        .map_err(|error| Rejection::new("malformed-program", &format!("the program cannot be read: {error}"), None))?;
    vinet_prover::analyse(&program, &terms.principal, policy, lemmas)
        .map_err(|error| Rejection::new("not-analysed", &error.to_string(), None))
}

/// Whether what the program generates may be sent at all: a policy whose rate is zero lets it be proven and not sent.
fn may_send(program: &Program, policy: &Policy) -> Result<(), Rejection> {
    match first_generate(program.body()) {
        Some(number) if policy.limits.generate_rate_max == 0 => {
            let text = "the policy's generate_rate_max is 0, so nothing that a program generates would be sent";
            Err(Rejection::new("generate-rate", text, instr(Some(number))))
        }
        _ => Ok(()),
    }
}

/// The number of the first GENERATE of `block`, whose instructions are counted from 0.
fn first_generate(block: &[Instr]) -> Option<usize> {
    let mut number = 0;
    for instr in block {
        if matches!(instr, Instr::Generate { .. }) {
            return Some(number);
        }
        let mut inside = number + 1;
        for inner in instr.blocks() {
            if let Some(found) = first_generate(inner) {
                return Some(inside + found);
            }
            inside += inner.iter().map(Instr::count).sum::<usize>();
        }
        number += instr.count();
    }
    None
}

/// Checks one lemma against the store that it is to be added to, and gives its number and the store with it.
fn judge_lemma(lemma: &NewLemma, store: &Arc<LemmaStore>) -> Result<(usize, Arc<LemmaStore>), Rejection> {
    let mut with = LemmaStore::clone(store);
    match with.add(&lemma.lemma, &lemma.proof) {
        Ok(number) => Ok((number, Arc::new(with))),
        Err(error) => Err(Rejection::new("lemma-rejected", &error.to_string(), None)),
    }
}

fn instr(number: Option<usize>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::tests::{firewall, policy, prefix, prove};
    use std::time::Duration;
    use vinet_session::identity::{AuthorityKey, Identity, PublicKey, Subject, Validity, parse_principal};
    use vinet_session::message::Class;
    use vinet_trusted::program::{ALL_PACKETS, AddrTerm, Cond};

    /// A firewall's terms, with a proof that is right or rubbish.
    fn terms(good: bool) -> (Terms, Identity) {
        let principal = parse_principal("198.51.100.7").unwrap();
        let program = firewall(&[prefix("192.0.2.66/32")], 60);
        let proof = prove(&program, &principal).unwrap();
        let key = AuthorityKey::generate("bench").unwrap();
        let identity = key.issue_identity(Subject::Owner(principal), Validity::starting(0, 1 << 40)).unwrap();
        let terms = Terms {
            router: identity.public(),
            policy_id: policy().id(),
            lemma_root: vinet_prover::library().root(),
            program: program.encode(),
            proof: Some(if good { proof } else { vec![0x77; 100] }),
            principal,
            class: Class::of(&program),
            complexity: 0,
            cost: 0,
            lifetime_s: 60,
            packet_rate: 1,
            payment: 0,
            quote: None,
            monitor: false,
            nonce: [0; 16],
            expiry_s: 0,
        };
        (terms, identity)
    }

    struct Numbers;
    impl Tickets for Numbers {
        type Program = u32;
        type Lemma = u32;
        type Signed = u32;
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Wrong {
        Nothing,
        Proof,
        Signature,
    }

    fn case(ticket: u32, wrong: Wrong) -> Case<Numbers> {
        let (terms, identity) = terms(wrong != Wrong::Proof);
        let upload = Box::new(Upload::sign(terms, &identity));
        let claim = upload.claim(if wrong == Wrong::Signature { PublicKey([7; 32]) } else { identity.public() });
        let (policy, lemmas) = (Arc::new(policy()), vinet_prover::library());
        Case::Program { ticket, question: Question { claim, upload, policy, lemmas, now_s: 0 } }
    }

    #[test]
    fn every_case_comes_back_with_its_own_verdict_and_its_ticket() {
        let (woken, wakes) = crossbeam::channel::unbounded();
        let wake = move || woken.send(()).unwrap();
        let mut judges: Judges<Numbers> = Judges::start(Verify::Proof, 2, 65, Arc::default(), wake).unwrap();
        let wrong = |ticket| match ticket % 3 {
            0 => Wrong::Proof,
            1 => Wrong::Signature,
            _ => Wrong::Nothing,
        };
        for ticket in 0..63u32 {
            assert!(judges.submit(case(ticket, wrong(ticket))).is_ok());
        }
        let lemma = NewLemma { lemma: vec![0xff; 10], proof: Vec::new() };
        assert!(judges.submit(Case::Lemma { ticket: 63, lemma, store: vinet_prover::library() }).is_ok());
        let Case::Program { question: Question { claim, .. }, .. } = case(64, Wrong::Nothing) else { panic!() };
        assert!(judges.submit(Case::Signed { ticket: 64, claim }).is_ok());
        // All 65 are somewhere on the way, so one more is refused and comes back.
        let refused = judges.submit(case(65, Wrong::Nothing)).expect_err("it is full");
        assert!(matches!(*refused, Case::Program { ticket: 65, .. }));
        assert_eq!(judges.pending(), 65);
        let mut seen = [false; 65];
        while judges.pending() > 0 {
            wakes.recv_timeout(Duration::from_secs(20)).expect("a wake for what is judged");
            while let Some(judged) = judges.judged() {
                let ticket = match judged {
                    Judged::Program { ticket, verdict, .. } => {
                        let code = verdict.err().map(|why| why.code().to_owned());
                        match wrong(ticket) {
                            Wrong::Nothing => assert_eq!(code, None),
                            Wrong::Proof => assert!(code.is_some_and(|code| code != "bad-signature")),
                            Wrong::Signature => assert_eq!(code.as_deref(), Some("bad-signature")),
                        }
                        ticket
                    }
                    Judged::Lemma { ticket, verdict, .. } => {
                        assert_eq!(verdict.unwrap_err().code(), "lemma-rejected");
                        ticket
                    }
                    Judged::Signed { ticket, verdict } => {
                        assert_eq!(verdict, Ok(()));
                        ticket
                    }
                };
                assert!(!std::mem::replace(&mut seen[ticket as usize], true));
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn what_would_never_be_sent_is_named() {
        let generate = Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::ThisIp, data: 2 };
        let content = Instr::Content { dests: 1, contents: 2, arg: ALL_PACKETS };
        let empty = Cond::Empty { arg: ALL_PACKETS };
        let inside = Instr::If { cond: empty, then: vec![], otherwise: vec![content.clone(), generate] };
        let discard = Instr::Discard { arg: ALL_PACKETS };
        let code = |rate, window, body: Vec<Instr>| {
            let program = Program::new(60, window, Vec::new(), body).unwrap();
            let mut policy = policy();
            policy.limits.generate_rate_max = rate;
            may_send(&program, &policy).map_err(|why| (why.code().to_owned(), why.instr()))
        };
        let body = vec![discard.clone(), content, inside];
        assert_eq!(code(0, 0, body.clone()), Err(("generate-rate".to_owned(), Some(4))));
        assert_eq!(code(1, 0, body), Ok(()));
        assert_eq!(code(0, 8, vec![discard]), Ok(()));
    }
}
