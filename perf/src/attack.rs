//! What strangers and bad customers do to a router's control plane, as fast as one thread can.
//!
//! A [`Target`] holds what an attacker has: an address, the network's authority, a certificate of its own or a recording
//! of somebody else's session. [`Target::attack`] goes on until it is told to stop and says how often it tried; whatever
//! the router does to it is no error.

mod strangers;
mod uploads;

use crate::control::client::rich;
use crate::control::daemon::Bed;
use crate::control::orders::Orders;
use crate::run::PerfError;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vinet_session::identity::{Authority, Identity};
use vinet_session::message::Request;

/// The owner that attacks.
const ATTACKER: u32 = 0x6440_2001;

/// An attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Connections from many addresses that say nothing, and go.
    Connections,
    /// First messages of handshakes, whose answers cost the router a key agreement each.
    Handshakes,
    /// Whole handshakes of an owner, who then goes.
    Sessions,
    /// Many connections that send a byte now and then.
    SlowSenders,
    /// Frames that say they are longer than any.
    Oversized,
    /// First messages cut off in the middle.
    Truncated,
    /// Bytes by chance.
    Rubbish,
    /// A recording of what an owner's client sent, with its upload, again and again.
    Replays,
    /// One signed upload, again and again, on a session of its owner.
    RepeatedUploads,
    /// Uploads of the longest proofs that there are, of bytes by chance.
    LongProofs,
    /// Uploads whose proofs take the checker as long as any that a search finds.
    ProofBombs,
    /// Uploads that are proven, and declare less than they cost.
    Lies,
}

impl Attack {
    /// All of them.
    pub const ALL: [Attack; 12] = [
        Attack::Connections,
        Attack::Handshakes,
        Attack::Sessions,
        Attack::SlowSenders,
        Attack::Oversized,
        Attack::Truncated,
        Attack::Rubbish,
        Attack::Replays,
        Attack::RepeatedUploads,
        Attack::LongProofs,
        Attack::ProofBombs,
        Attack::Lies,
    ];
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Attack::Connections => "connections",
            Attack::Handshakes => "half handshakes",
            Attack::Sessions => "whole handshakes",
            Attack::SlowSenders => "slow senders",
            Attack::Oversized => "oversized frames",
            Attack::Truncated => "truncated messages",
            Attack::Rubbish => "rubbish",
            Attack::Replays => "replayed sessions",
            Attack::RepeatedUploads => "repeated uploads",
            Attack::LongProofs => "long proofs",
            Attack::ProofBombs => "proof bombs",
            Attack::Lies => "declared-cost lies",
        })
    }
}

/// Whom it is about, and what attackers have.
pub struct Target {
    address: SocketAddr,
    authority: Arc<Authority>,
    identity: Arc<Identity>,
    /// The first frame of a handshake.
    hello: Vec<u8>,
    /// All that a client sent in a session with an upload.
    recording: Vec<u8>,
    repeated: Request,
    long: Vec<Request>,
    bombs: Vec<Request>,
    lies: Vec<Request>,
    seed: u64,
}

impl Target {
    /// Makes ready all that can be made before; `pays` where the router asks for money.
    ///
    /// # Errors
    /// The router does not let an owner in, or nothing can be signed.
    pub fn new(address: SocketAddr, bed: &Bed, orders: &Orders, pays: bool, seed: u64) -> Result<Target, PerfError> {
        let identity = bed.user(ATTACKER)?;
        let authority = Arc::clone(&bed.authority);
        let repeated = orders.firewalls(&identity, 1)?.remove(0);
        let failed =
            |error: std::io::Error| PerfError::Failed { what: "an attacker".to_owned(), words: error.to_string() };
        // Who can pay can do more.
        if pays {
            drop(rich(address, &identity, bed).map_err(failed)?);
        }
        let recording = strangers::record(address, &identity, &authority, &repeated).map_err(failed)?;
        Ok(Target {
            hello: strangers::first_frame(&recording),
            recording,
            repeated,
            long: uploads::long_proofs(orders, &identity, seed)?,
            bombs: uploads::bombs(orders, &identity, seed)?,
            lies: uploads::lies(orders, &identity)?,
            address,
            authority,
            identity,
            seed,
        })
    }

    /// Attacks until it is told to stop; how often it tried.
    pub fn attack(&self, attack: Attack, stop: &AtomicBool) -> u64 {
        // Acquire, with the Release of whoever stops it.
        let goes_on = || !stop.load(Ordering::Acquire);
        match attack {
            Attack::Connections => strangers::send_and_go(self.address, &[], false, goes_on),
            Attack::Handshakes => strangers::send_and_go(self.address, &self.hello, true, goes_on),
            Attack::Oversized => strangers::send_and_go(self.address, &[0xff; 512], false, goes_on),
            Attack::Truncated => {
                strangers::send_and_go(self.address, &self.hello[..self.hello.len() / 2], false, goes_on)
            }
            Attack::Replays => strangers::send_and_go(self.address, &self.recording, true, goes_on),
            Attack::Rubbish => strangers::rubbish(self.address, self.seed, goes_on),
            Attack::SlowSenders => strangers::drip(self.address, &self.hello, goes_on),
            Attack::Sessions => uploads::sessions(self.address, &self.identity, &self.authority, goes_on),
            Attack::RepeatedUploads => self.uploads(std::slice::from_ref(&self.repeated), goes_on),
            Attack::LongProofs => self.uploads(&self.long, goes_on),
            Attack::ProofBombs => self.uploads(&self.bombs, goes_on),
            Attack::Lies => self.uploads(&self.lies, goes_on),
        }
    }

    fn uploads(&self, requests: &[Request], goes_on: impl Fn() -> bool) -> u64 {
        uploads::flood(self.address, &self.identity, &self.authority, requests, goes_on)
    }
}

#[cfg(test)]
mod tests;
