//! The judges: threads that check proofs, so that the control core's loop never waits for one.
//!
//! Cases go in and come out through bounded queues; no more than a named number is anywhere between, and one more is
//! refused at once. What judges hold between two cases is which programs are lowered, so that one that comes again, for
//! another owner, shares the memory of the first; a panic in a case (our own defect) rejects that case alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use vinet_pktops::{Executable, Lowerings};
use vinet_session::message::{NewLemma, Rejection, Terms};
use vinet_trusted::check::check;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Instr, Program};

use crate::config::Verify;

/// What is to be judged; the tickets are the way back to who asked.
#[derive(Debug)]
pub enum Case<P, L> {
    /// A program.
    Program {
        /// The way back.
        ticket: P,
        /// What was asked, authenticated.
        terms: Box<Terms>,
        /// The policy that it is judged by.
        policy: Arc<Policy>,
        /// The lemmas that its proof may cite.
        lemmas: Arc<LemmaStore>,
    },
    /// A lemma.
    Lemma {
        /// The way back.
        ticket: L,
        /// The lemma.
        lemma: NewLemma,
        /// The store that it is to be added to.
        store: Arc<LemmaStore>,
    },
}

/// A case that was judged.
#[derive(Debug)]
pub enum Judged<P, L> {
    /// A program.
    Program {
        /// The way back.
        ticket: P,
        /// What was asked.
        terms: Box<Terms>,
        /// What can run, or why not.
        verdict: Result<Arc<Executable>, Rejection>,
    },
    /// A lemma.
    Lemma {
        /// The way back.
        ticket: L,
        /// Its number and the store with it, or why it was not taken.
        verdict: Result<(usize, Arc<LemmaStore>), Rejection>,
    },
}

/// The threads and the queues to and from them.
#[derive(Debug)]
pub struct Judges<P, L> {
    cases: Option<Sender<Case<P, L>>>,
    judged: Receiver<Judged<P, L>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Cases between [`Judges::submit`] and [`Judges::judged`].
    pending: usize,
    pending_max: usize,
}

impl<P: Send + 'static, L: Send + 'static> Judges<P, L> {
    /// Starts `threads` judges for at most `pending_max` cases at once. `wake` is called after each judged case.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        verify: Verify,
        threads: usize,
        pending_max: usize,
        wake: impl Fn() + Send + Clone + 'static,
    ) -> std::io::Result<Judges<P, L>> {
        let (case_sender, case_receiver) = bounded::<Case<P, L>>(pending_max);
        // As large as the most cases there can be, so that a judge never waits to give one back.
        let (judged_sender, judged) = bounded(pending_max);
        let lowerings = Arc::new(Lowerings::default());
        let threads = (0..threads)
            .map(|_| {
                let lowerings = Arc::clone(&lowerings);
                let (cases, judged, wake) = (case_receiver.clone(), judged_sender.clone(), wake.clone());
                std::thread::Builder::new().name("vinet-judge".into()).spawn(move || {
                    for case in cases {
                        if judged.send(case.judge(verify, &lowerings)).is_err() {
                            return;
                        }
                        wake();
                    }
                })
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
    pub fn submit(&mut self, case: Case<P, L>) -> Result<(), Box<Case<P, L>>> {
        if !self.is_free() {
            return Err(Box::new(case));
        }
        let sender = self.cases.as_ref().expect("the queue is open until drop");
        sender.try_send(case).map_err(|refused| Box::new(refused.into_inner()))?;
        self.pending += 1;
        Ok(())
    }

    /// A case that has been judged, if there is one.
    pub fn judged(&mut self) -> Option<Judged<P, L>> {
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

impl<P, L> Drop for Judges<P, L> {
    fn drop(&mut self) {
        // Without a sender the judges end after the cases that they have.
        self.cases = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl<P, L> Case<P, L> {
    fn judge(self, verify: Verify, lowerings: &Lowerings) -> Judged<P, L> {
        match self {
            Case::Program { ticket, terms, policy, lemmas } => {
                let verdict = safely(|| judge(&terms, &policy, &lemmas, verify, lowerings));
                Judged::Program { ticket, terms, verdict }
            }
            Case::Lemma { ticket, lemma, store } => {
                Judged::Lemma { ticket, verdict: safely(|| judge_lemma(&lemma, &store)) }
            }
        }
    }
}

fn safely<T>(judge: impl FnOnce() -> Result<T, Rejection>) -> Result<T, Rejection> {
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|_| {
        Err(Rejection::new("router-fault", "the router failed while it judged this; tell its operator", None))
    })
}

/// Judges one program: its proof, or the router's own analysis, always by the same checker; then lowers it.
///
/// # Errors
/// The program may not run here, and why.
pub fn judge(
    terms: &Terms,
    policy: &Arc<Policy>,
    lemmas: &LemmaStore,
    verify: Verify,
    lowerings: &Lowerings,
) -> Result<Arc<Executable>, Rejection> {
    let sent = terms.proof.as_deref();
    let proof = match (verify, sent) {
        (Verify::Proof, None) => {
            return Err(Rejection::new(
                "proof-missing",
                "this router accepts only programs with a proof; make one with `vinet prove`",
                None,
            ));
        }
        (Verify::Proof | Verify::Either, Some(proof)) => std::borrow::Cow::Borrowed(proof),
        (Verify::Static, _) | (Verify::Either, None) => std::borrow::Cow::Owned(analyse(terms, policy, lemmas)?),
    };
    let checked = check(&terms.program, &proof, terms.principal, policy, lemmas)
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
    use vinet_session::identity::{AuthorityKey, Subject, Validity, parse_principal};
    use vinet_session::message::Class;
    use vinet_trusted::program::{ALL_PACKETS, AddrTerm, Cond};

    /// A firewall's terms, with a proof that is right or rubbish.
    fn terms(good: bool) -> Terms {
        let principal = parse_principal("198.51.100.7").unwrap();
        let program = firewall(&[prefix("192.0.2.66/32")], 60);
        let proof = prove(&program, &principal).unwrap();
        let key = AuthorityKey::generate("bench").unwrap();
        let identity = key.issue_identity(Subject::Owner(principal), Validity::starting(0, 1 << 40)).unwrap();
        Terms {
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
        }
    }

    fn case(ticket: u32, good: bool) -> Case<u32, u32> {
        Case::Program {
            ticket,
            terms: Box::new(terms(good)),
            policy: Arc::new(policy()),
            lemmas: vinet_prover::library(),
        }
    }

    #[test]
    fn every_case_comes_back_with_its_own_verdict_and_its_ticket() {
        let (woken, wakes) = crossbeam::channel::unbounded();
        let mut judges = Judges::start(Verify::Proof, 2, 64, move || woken.send(()).unwrap()).unwrap();
        for ticket in 0..63u32 {
            judges.submit(case(ticket, ticket % 3 != 0)).unwrap();
        }
        let lemma = NewLemma { lemma: vec![0xff; 10], proof: Vec::new() };
        judges.submit(Case::Lemma { ticket: 63, lemma, store: vinet_prover::library() }).unwrap();
        // All 64 are somewhere on the way, so one more is refused and comes back.
        let refused = judges.submit(case(64, true)).unwrap_err();
        assert!(matches!(*refused, Case::Program { ticket: 64, .. }));
        assert_eq!(judges.pending(), 64);
        let mut seen = [false; 64];
        for _ in 0..64 {
            wakes.recv_timeout(Duration::from_secs(20)).unwrap();
            let ticket = match judges.judged().expect("a case is there before its wake") {
                Judged::Program { ticket, verdict, .. } => {
                    assert_eq!(verdict.is_ok(), ticket % 3 != 0, "{:?}", verdict.err());
                    ticket
                }
                Judged::Lemma { ticket, verdict } => {
                    assert_eq!(verdict.unwrap_err().code(), "lemma-rejected");
                    ticket
                }
            };
            assert!(!std::mem::replace(&mut seen[ticket as usize], true));
        }
        assert_eq!((judges.pending(), judges.judged().is_none()), (0, true));
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
