//! What can be done to a router with a certificate of one's own.

use crate::control::client::Session;
use crate::control::orders::{Orders, SOURCES};
use crate::run::PerfError;
use crate::verify::chance::Chance;
use crate::verify::hunt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use vinet_session::identity::{Authority, Identity};
use vinet_session::message::{Request, Terms, Upload, fresh_nonce};

/// Different uploads of one kind.
const EACH: usize = 64;
/// Uploads under way at once.
const WINDOW: usize = 16;
/// How long the worst proof is looked for.
const HUNT: Duration = Duration::from_millis(300);

fn failed(words: impl std::fmt::Display) -> PerfError {
    PerfError::Failed { what: "an attacker's upload".to_owned(), words: words.to_string() }
}

/// Copies of one upload, each signed under a nonce of its own.
fn copies(terms: &Terms, identity: &Identity) -> Result<Vec<Request>, PerfError> {
    (0..EACH)
        .map(|_| {
            let terms = Terms { nonce: fresh_nonce().map_err(failed)?, ..terms.clone() };
            Ok(Request::Upload(Box::new(Upload::sign(terms, identity))))
        })
        .collect()
}

/// The longest proofs that the policy lets through, of bytes by chance.
pub fn long_proofs(orders: &Orders, identity: &Identity, seed: u64) -> Result<Vec<Request>, PerfError> {
    let mut terms = orders.firewall(identity, SOURCES)?;
    let mut chance = Chance::new(seed);
    let len = (orders.policies.end_user.limits.proof_bytes_max as usize).min(256 * 1024);
    terms.proof = Some((0..len).map(|_| chance.bits() as u8).collect());
    copies(&terms, identity)
}

/// The program and proof that take the checker longest, of those that a short search finds.
pub fn bombs(orders: &Orders, identity: &Identity, seed: u64) -> Result<Vec<Request>, PerfError> {
    let lemmas = vinet_prover::library();
    let found = hunt::hunt(Vec::new(), &orders.policies, &lemmas, &mut Chance::new(seed), HUNT);
    let worst = found.slowest.sent;
    let mut terms = orders.firewall(identity, SOURCES)?;
    (terms.program, terms.proof) = (worst.program, Some(worst.proof));
    copies(&terms, identity)
}

/// Firewalls with good proofs that declare one cycle less than they cost.
pub fn lies(orders: &Orders, identity: &Identity) -> Result<Vec<Request>, PerfError> {
    let mut terms = orders.firewall(identity, SOURCES)?;
    terms.complexity -= 1;
    copies(&terms, identity)
}

/// Opens sessions and closes them.
pub fn sessions(
    to: SocketAddr,
    identity: &Arc<Identity>,
    authority: &Arc<Authority>,
    goes_on: impl Fn() -> bool,
) -> u64 {
    let mut tries = 0;
    while goes_on() {
        tries += 1;
        // Whether it is let in is the router's affair.
        let _ = Session::open(to, identity, authority);
    }
    tries
}

/// Sends the requests again and again on a session, and on a new one where it ends.
pub fn flood(
    to: SocketAddr,
    identity: &Arc<Identity>,
    authority: &Arc<Authority>,
    requests: &[Request],
    goes_on: impl Fn() -> bool,
) -> u64 {
    let mut tries = 0;
    while goes_on() {
        let Ok(mut session) = Session::open(to, identity, authority) else {
            tries += 1;
            continue;
        };
        let endless = requests.iter().cycle().take_while(|_| goes_on());
        // A session that ends is opened again.
        let _ = session.pipeline(endless, WINDOW, |_| tries += 1);
    }
    tries
}
