//! Return routability: whether packets to an owner's address reach the owner.
//!
//! A certificate says whose an address ought to be. Before anything of an owner is admitted or renewed, it also has to
//! sign a nonce that was sent to the address itself, through the data path: a stolen certificate without the address is
//! worth nothing here, and neither is an address without the key. An edge router is sent it to an address of its prefix
//! that nobody can foretell.
//!
//! [`Reach`] is pure: it decides what is sent and what counts, and sends nothing. Bounds on what strangers can cause: a
//! datagram is never longer than the request for it (the message says so); so many a second to one owner and to all; so
//! many nonces of one key that wait, and of all. Only holders of certificates come as far as this. What is remembered is of
//! a key *and* its principal: another key of the same owner shows the same anew.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use ahash::AHashMap;
use vinet_session::Now;
use vinet_session::identity::{Ownership, PublicKey, RouterId};
use vinet_session::message::Rejection;
use vinet_session::reach::{REACH_DATAGRAM_BYTES, ReachAnswer, ReachDatagram};
use vinet_trusted::addr::{Addr, Prefix, Principal};

use crate::bucket::{Bucket, Rate};

/// How long a nonce waits for its answer.
pub const NONCE_TIME_MS: u64 = 10_000;
/// Nonces of one key that wait at once; a further one takes the place of the oldest.
const NONCES_PER_KEY_MAX: usize = 4;
/// Datagrams to one owner.
const OWNER_RATE: Rate = Rate { burst: 8, per_second: 2 };
/// Datagrams to all owners together.
const ALL_RATE: Rate = Rate { burst: 2_000, per_second: 2_000 };
/// Keys that are remembered as reached; beyond it those whose time is up are forgotten first.
const REACHED_MAX: usize = 1 << 18;
/// Tries to find an address of a prefix that is not the router's own.
const DRAWS_MAX: usize = 16;

/// A key for a principal.
type Who = (PublicKey, Principal);

/// A datagram to be sent to an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Where it goes.
    pub to: SocketAddr,
    /// What is in it.
    pub payload: [u8; REACH_DATAGRAM_BYTES],
}

/// Counters for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ReachCounters {
    /// Datagrams that were asked for and granted.
    pub asked: u64,
    /// Datagrams that were refused because there were too many.
    pub refused: u64,
    /// Answers that count.
    pub reached: u64,
    /// Answers to nothing, too late, or not signed by the key.
    pub wrong: u64,
}

/// Who was reached, and who is being asked.
pub struct Reach {
    required: bool,
    time_ms: u64,
    router: RouterId,
    own: Vec<Addr>,
    /// Until when each counts, in milliseconds.
    reached: AHashMap<Who, u64>,
    waiting: AHashMap<Who, Vec<[u8; 32]>>,
    /// Every nonce that was sent, in order, with the end of its time.
    sent: VecDeque<(u64, Who, [u8; 32])>,
    /// By the addresses owned, so that many keys of one owner share one.
    buckets: AHashMap<Prefix, Bucket>,
    all: Bucket,
    counters: ReachCounters,
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach").field("reached", &self.reached.len()).field("sent", &self.sent.len()).finish()
    }
}

impl Reach {
    /// Nobody is reached yet. Where it is not `required`, everybody may do without. An answer counts for `time_s`
    /// seconds at `router`, whose own addresses are sent nothing.
    #[must_use]
    pub fn new(required: bool, time_s: u32, router: RouterId, own: Vec<Addr>, now: Now) -> Reach {
        Reach {
            required,
            time_ms: u64::from(time_s) * 1_000,
            router,
            own,
            reached: AHashMap::new(),
            waiting: AHashMap::new(),
            sent: VecDeque::new(),
            buckets: AHashMap::new(),
            all: Bucket::full(ALL_RATE, now),
            counters: ReachCounters::default(),
        }
    }

    /// Other rules from now on. Who is reached stays so for the time that it was told.
    pub fn set_rules(&mut self, required: bool, time_s: u32) {
        self.required = required;
        self.time_ms = u64::from(time_s) * 1_000;
    }

    /// Whether owners have to be reached.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Whether something of `owner` may be admitted; gives whether the owner was in fact reached, which is what its vote
    /// against a source takes.
    ///
    /// # Errors
    /// `not-reached`, where it has to be.
    pub fn may(&self, owner: &Ownership, now: Now) -> Result<bool, Rejection> {
        if !self.required {
            return Ok(false);
        }
        if self.reached.get(&who(owner)).is_some_and(|until_ms| *until_ms > now.mono_ms) {
            return Ok(true);
        }
        let text = format!(
            "{} has not shown that packets to its address reach it, or too long ago; ask for a datagram and sign it",
            owner.principal()
        );
        Err(Rejection::new("not-reached", &text, None))
    }

    /// The datagram for an owner that asks for one to `port`.
    ///
    /// # Errors
    /// Too many were asked for, or the owner's address is the router's own.
    pub fn ask(&mut self, owner: &Ownership, port: u16, now: Now) -> Result<Challenge, Rejection> {
        let owned = owner.principal().owned();
        if port == 0 {
            return Err(Rejection::new("bad-port", "a datagram to port 0 reaches nobody", None));
        }
        self.forget_late(now);
        self.all.refill(ALL_RATE, now);
        let mut bucket = self.buckets.get(&owned).copied().unwrap_or(Bucket::full(OWNER_RATE, now));
        bucket.refill(OWNER_RATE, now);
        if !bucket.has_one() || !self.all.has_one() {
            self.counters.refused += 1;
            let whose = if bucket.has_one() { "" } else { " of this owner" };
            let text = format!("too many datagrams{whose} were asked for lately; ask again in a second");
            return Err(Rejection::new("busy", &text, None));
        }
        let fault = || Rejection::new("router-fault", "the router has no random bytes now; tell its operator", None);
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|_| fault())?;
        let addr = self.address_in(owned).map_err(|()| fault())?.ok_or_else(|| {
            let text = format!("{owned} has no address but the router's own, which nobody owns");
            Rejection::new("own-address", &text, None)
        })?;
        self.all.take();
        bucket.take();
        self.buckets.insert(owned, bucket);
        let who = who(owner);
        let waiting = self.waiting.entry(who).or_default();
        if waiting.len() == NONCES_PER_KEY_MAX {
            waiting.remove(0);
        }
        waiting.push(nonce);
        self.sent.push_back((now.mono_ms + NONCE_TIME_MS, who, nonce));
        self.counters.asked += 1;
        let payload = ReachDatagram { router: self.router, nonce, principal: owner.principal() }.encode();
        Ok(Challenge { to: SocketAddr::new(addr.into(), port), payload })
    }

    /// An address of `owned` that nobody can foretell and that is not the router's own.
    fn address_in(&self, owned: Prefix) -> Result<Option<Addr>, ()> {
        let host_bits = owned.addr().width() - owned.len();
        for _ in 0..DRAWS_MAX {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(|_| ())?;
            let mask = u128::MAX.checked_shr(128 - u32::from(host_bits)).unwrap_or(0);
            let host = u128::from_be_bytes(bytes) & mask;
            // The first address of a network is the network or any of its routers, the last of an IPv4 network everybody.
            let is_special = host_bits > 1 && (host == 0 || host == mask && owned.addr().width() == 32);
            let addr = match owned.addr() {
                Addr::V4(bits) => Addr::V4(bits | host as u32),
                Addr::V6(bits) => Addr::V6(bits | host),
            };
            if !is_special && !self.own.contains(&addr) {
                return Ok(Some(addr));
            }
            if host_bits == 0 {
                break;
            }
        }
        Ok(None)
    }

    /// Takes an owner's answer; gives the Unix second until which it counts.
    ///
    /// # Errors
    /// It answers no nonce that waits, or the owner's key did not sign it.
    pub fn answer(&mut self, owner: &Ownership, answer: &ReachAnswer, now: Now) -> Result<u64, Rejection> {
        self.forget_late(now);
        let who = who(owner);
        // Only an answer to something that was sent is worth the look at its signature.
        let is_waiting = self.waiting.get(&who).is_some_and(|nonces| nonces.contains(answer.nonce()));
        if !is_waiting || answer.verify(&self.router, &owner.principal(), &owner.key()).is_err() {
            self.counters.wrong += 1;
            let text = "this answers no datagram that was sent to this owner's address lately; ask for another";
            return Err(Rejection::new("not-reached", text, None));
        }
        if !self.has_room(&who, now) {
            return Err(Rejection::new("busy", "too many owners have shown their addresses; try again later", None));
        }
        self.waiting.remove(&who);
        self.reached.insert(who, now.mono_ms + self.time_ms);
        self.counters.reached += 1;
        Ok(now.wall_s + self.time_ms / 1_000)
    }

    fn has_room(&mut self, who: &Who, now: Now) -> bool {
        if self.reached.len() >= REACHED_MAX && !self.reached.contains_key(who) {
            self.reached.retain(|_, until_ms| *until_ms > now.mono_ms);
        }
        self.reached.len() < REACHED_MAX || self.reached.contains_key(who)
    }

    /// A key that is revoked shows nothing any more.
    pub fn forget(&mut self, owner: &Ownership) {
        self.reached.remove(&who(owner));
        self.waiting.remove(&who(owner));
    }

    /// Drops what has run out: to be called about once a second.
    pub fn tick(&mut self, now: Now) {
        self.forget_late(now);
        self.buckets.retain(|_, bucket| !bucket.is_full(OWNER_RATE, now));
    }

    fn forget_late(&mut self, now: Now) {
        while let Some((_, who, nonce)) = self.sent.pop_front_if(|(end_ms, _, _)| *end_ms <= now.mono_ms) {
            if let Some(nonces) = self.waiting.get_mut(&who) {
                nonces.retain(|waiting| *waiting != nonce);
                if nonces.is_empty() {
                    self.waiting.remove(&who);
                }
            }
        }
    }

    /// Counters.
    #[must_use]
    pub fn counters(&self) -> ReachCounters {
        self.counters
    }
    /// Keys that are remembered as reached.
    #[must_use]
    pub fn len(&self) -> usize {
        self.reached.len()
    }
    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reached.is_empty()
    }
}

fn who(owner: &Ownership) -> Who {
    (owner.key(), owner.principal())
}

#[cfg(test)]
mod tests;
