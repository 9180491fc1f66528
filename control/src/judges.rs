//! The judges: threads that check proofs, so that the control core's loop never waits for one.
//!
//! Cases go in and come out through bounded queues; no more than a named number is anywhere between, and one more is
//! refused at once. A judge holds no state between two cases, and a panic in one (our own defect) rejects that case
//! alone.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use vinet_pktops::Executable;
use vinet_session::message::{Rejection, Terms};
use vinet_trusted::check::check;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::Program;

use crate::config::Verify;

/// A program to be judged.
#[derive(Debug)]
pub struct Case<T> {
    /// The way back to who asked.
    pub ticket: T,
    /// What was asked, authenticated.
    pub terms: Terms,
    /// The policy that it is judged by.
    pub policy: Arc<Policy>,
}

/// A case that was judged.
#[derive(Debug)]
pub struct Judged<T> {
    /// The way back to who asked.
    pub ticket: T,
    /// What was asked.
    pub terms: Terms,
    /// What can run, or why not.
    pub verdict: Result<Arc<Executable>, Rejection>,
}

/// The threads and the queues to and from them.
#[derive(Debug)]
pub struct Judges<T> {
    cases: Option<Sender<Case<T>>>,
    judged: Receiver<Judged<T>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Cases between [`Judges::submit`] and [`Judges::judged`].
    pending: usize,
    pending_max: usize,
}

impl<T: Send + 'static> Judges<T> {
    /// Starts `threads` judges for at most `pending_max` cases at once. `wake` is called after each judged case.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        verify: Verify,
        threads: usize,
        pending_max: usize,
        wake: impl Fn() + Send + Clone + 'static,
    ) -> std::io::Result<Judges<T>> {
        let (case_sender, case_receiver) = bounded::<Case<T>>(pending_max);
        // As large as the most cases there can be, so that a judge never waits to give one back.
        let (judged_sender, judged) = bounded(pending_max);
        let threads = (0..threads)
            .map(|_| {
                let (cases, judged, wake) = (case_receiver.clone(), judged_sender.clone(), wake.clone());
                std::thread::Builder::new().name("vinet-judge".into()).spawn(move || {
                    for Case { ticket, terms, policy } in cases {
                        let verdict = judge_safely(&terms, &policy, verify);
                        if judged.send(Judged { ticket, terms, verdict }).is_err() {
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

impl<T> Drop for Judges<T> {
    fn drop(&mut self) {
        // Without a sender the judges end after the cases that they have.
        self.cases = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn judge_safely(terms: &Terms, policy: &Arc<Policy>, verify: Verify) -> Result<Arc<Executable>, Rejection> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judge(terms, policy, verify))).unwrap_or_else(|_| {
        Err(Rejection::new("router-fault", "the router failed while it judged the program; tell its operator", None))
    })
}

/// Judges one program: its proof, or the router's own analysis, always by the same checker; then lowers it.
///
/// # Errors
/// The program may not run here, and why.
pub fn judge(terms: &Terms, policy: &Arc<Policy>, verify: Verify) -> Result<Arc<Executable>, Rejection> {
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
        (Verify::Static, _) | (Verify::Either, None) => std::borrow::Cow::Owned(analyse(terms, policy)?),
    };
    let checked = check(&terms.program, &proof, terms.principal, policy)
        .map_err(|reject| Rejection::new(reject.code(), &reject.to_string(), instr(reject.instr())))?;
    let executable = Executable::lower(Arc::new(checked))
        .map_err(|error| Rejection::new("not-lowered", &format!("this router cannot run it: {error}"), None))?;
    Ok(Arc::new(executable))
}

/// The router's own proof.
fn analyse(terms: &Terms, policy: &Policy) -> Result<Vec<u8>, Rejection> {
    let program = Program::decode(&terms.program)
        .map_err(|error| Rejection::new("malformed-program", &format!("the program cannot be read: {error}"), None))?;
    vinet_prover::prove(&program, &terms.principal, policy)
        .map_err(|error| Rejection::new(error.code(), &error.to_string(), instr(error.instr())))
}

fn instr(number: Option<usize>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::tests::{firewall, policy, prefix};
    use std::time::Duration;
    use vinet_session::identity::{AuthorityKey, Subject, Validity, parse_principal};
    use vinet_session::message::{Class, lemma_root};

    /// A firewall's terms, with a proof that is right or rubbish.
    fn terms(good: bool) -> Terms {
        let principal = parse_principal("198.51.100.7").unwrap();
        let program = firewall(&[prefix("192.0.2.66/32")], 60);
        let proof = vinet_prover::prove(&program, &principal, &policy()).unwrap();
        let key = AuthorityKey::generate("bench").unwrap();
        let identity = key.issue_identity(Subject::Owner(principal), Validity::starting(0, 1 << 40)).unwrap();
        Terms {
            router: identity.public(),
            policy_id: policy().id(),
            lemma_root: lemma_root(),
            program: program.encode(),
            proof: Some(if good { proof } else { vec![0x77; 100] }),
            principal,
            class: Class::of(&program),
            complexity: 0,
            cost: 0,
            lifetime_s: 60,
            packet_rate: 1,
            nonce: [0; 16],
            expiry_s: 0,
        }
    }

    #[test]
    fn every_case_comes_back_with_its_own_verdict_and_its_ticket() {
        let (woken, wakes) = crossbeam::channel::unbounded();
        let mut judges = Judges::start(Verify::Proof, 2, 64, move || woken.send(()).unwrap()).unwrap();
        let policy = Arc::new(policy());
        for ticket in 0..64u32 {
            let case = Case { ticket, terms: terms(ticket % 3 != 0), policy: Arc::clone(&policy) };
            judges.submit(case).unwrap();
        }
        // All 64 are somewhere on the way, so one more is refused and comes back.
        let refused = judges.submit(Case { ticket: 64, terms: terms(true), policy }).unwrap_err();
        assert_eq!((refused.ticket, judges.pending()), (64, 64));
        let mut seen = [false; 64];
        for _ in 0..64 {
            wakes.recv_timeout(Duration::from_secs(20)).unwrap();
            let judged = judges.judged().expect("a case is there before its wake");
            assert_eq!(judged.verdict.is_ok(), judged.ticket % 3 != 0, "{:?}", judged.verdict.err());
            assert!(!std::mem::replace(&mut seen[judged.ticket as usize], true));
        }
        assert_eq!((judges.pending(), judges.judged().is_none()), (0, true));
    }
}
