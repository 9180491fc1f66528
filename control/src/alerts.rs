//! What the user of a source is told when it is shut off, or let back.
//!
//! The machine behind a source may do what its user knows nothing of. So the router sends a signed datagram to the source's
//! own address, at the port of the virtual firewall; whoever listens there can tell it from a hoax. It is the router's own
//! packet, which no program touches. What is sent is bounded for each source and for all, however often something
//! changes; a datagram may be lost, and is not sent again. An [`Alerts`] says what to send, and sends nothing itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use vinet_session::Now;
use vinet_session::alert::{Alert, AlertTerms};
use vinet_session::identity::Identity;
use vinet_session::limits::VFIREWALL_PORT;
use vinet_trusted::addr::Addr;

use crate::bucket::{Bucket, Rate};
use crate::sources::Change;

/// Alerts to one source.
const SOURCE_RATE: Rate = Rate { burst: 4, per_second: 1 };
/// Alerts to all sources together.
const ALL_RATE: Rate = Rate { burst: 256, per_second: 64 };

/// The code of the alert, and of the event, that a source is shut off.
pub const SHUT_OFF: &str = "shut-off";
/// The code of the alert, and of the event, that it is let back.
pub const LET_BACK: &str = "let-back";

/// What is said of a change: a short stable code, and a line for people.
#[must_use]
pub fn words(change: &Change) -> (&'static str, String) {
    match change {
        Change::ShutOff { source, owners, until_s } => (
            SHUT_OFF,
            format!(
                "this router forwards nothing from {source} until Unix second {until_s} or until fewer than now discard \
                 it: {owners} owners do"
            ),
        ),
        Change::Back { source, reason } => {
            (LET_BACK, format!("this router forwards what comes from {source} again: {reason}"))
        }
    }
}

/// Makes the alerts of one router.
pub struct Alerts {
    identity: Arc<Identity>,
    last_number: u64,
    /// Of sources that were told something lately.
    buckets: BTreeMap<Addr, Bucket>,
    all: Bucket,
    withheld: u64,
}

impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alerts").field("last_number", &self.last_number).field("withheld", &self.withheld).finish()
    }
}

impl Alerts {
    /// Alerts signed as the router that `identity` names.
    #[must_use]
    pub fn new(identity: Arc<Identity>, now: Now) -> Alerts {
        Alerts { identity, last_number: 0, buckets: BTreeMap::new(), all: Bucket::full(ALL_RATE, now), withheld: 0 }
    }

    /// The datagram that tells the user of the source, and where it goes; none where too much was said lately.
    pub fn of(&mut self, change: &Change, now: Now) -> Option<(SocketAddr, Vec<u8>)> {
        let source = change.source();
        self.buckets.retain(|_, bucket| !bucket.is_full(SOURCE_RATE, now));
        self.all.refill(ALL_RATE, now);
        let mut bucket = self.buckets.get(&source).copied().unwrap_or(Bucket::full(SOURCE_RATE, now));
        bucket.refill(SOURCE_RATE, now);
        if !self.all.has_one() || !bucket.take() {
            self.withheld += 1;
            return None;
        }
        // The bucket of all bounds how many sources have one here.
        self.all.take();
        self.buckets.insert(source, bucket);
        // Rising, also over restarts: as long as the clock does, and no more than a thousand were sent a second.
        self.last_number = (self.last_number + 1).max(now.wall_s.saturating_mul(1_000));
        let (code, text) = words(change);
        let terms = AlertTerms::new(source, self.last_number, now.wall_s, code, &text);
        Some((SocketAddr::new(source.into(), VFIREWALL_PORT), Alert::sign(terms, &self.identity).encode()))
    }

    /// Alerts that were not sent because too many were.
    #[must_use]
    pub fn withheld(&self) -> u64 {
        self.withheld
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Reason;
    use vinet_session::identity::{AuthorityKey, Subject, Validity};

    const NOW: Now = Now { wall_s: 1_800_000_000, mono_ms: 50_000 };
    const SOURCE: Addr = Addr::V4(0xc633_6407);

    fn later(ms: u64) -> Now {
        Now { wall_s: NOW.wall_s + ms / 1_000, mono_ms: NOW.mono_ms + ms }
    }
    fn back(source: Addr) -> Change {
        Change::Back { source, reason: Reason::Time }
    }

    fn bench() -> (AuthorityKey, Alerts) {
        let authority = AuthorityKey::generate("bench").unwrap();
        let subject = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
        let identity = authority.issue_identity(subject, Validity::starting(0, u64::MAX)).unwrap();
        (authority, Alerts::new(Arc::new(identity), NOW))
    }

    #[test]
    fn the_sources_user_is_told_what_the_router_signed() {
        let (authority, mut alerts) = bench();
        let shut_off = Change::ShutOff { source: SOURCE, owners: 12, until_s: 1_800_003_600 };
        let (to, bytes) = alerts.of(&shut_off, NOW).unwrap();
        assert_eq!(to.to_string(), "198.51.100.7:7402");
        let alert = Alert::decode(&bytes).unwrap();
        let (router, terms) = alert.verify(&authority.authority(), |addr| addr == SOURCE, NOW.wall_s).unwrap();
        assert_eq!((router.name(), terms.code(), terms.at_s), ("edge1", "shut-off", NOW.wall_s));
        let said = "this router forwards nothing from 198.51.100.7 until Unix second 1800003600 or until fewer than now \
                    discard it: 12 owners do";
        assert_eq!(terms.text(), said);
        let (_, bytes) = alerts.of(&back(SOURCE), later(10)).unwrap();
        let then = Alert::decode(&bytes).unwrap();
        let (_, after) = then.verify(&authority.authority(), |_| true, NOW.wall_s).unwrap();
        assert_eq!(after.text(), "this router forwards what comes from 198.51.100.7 again: its time is up");
        assert!(after.number > terms.number && after.code() == "let-back");
        // After a restart the numbers go on.
        let identity = Arc::clone(&alerts.identity);
        let (_, bytes) = Alerts::new(identity, NOW).of(&back(SOURCE), later(1_000)).unwrap();
        let anew = Alert::decode(&bytes).unwrap();
        assert!(anew.verify(&authority.authority(), |_| true, NOW.wall_s).unwrap().1.number > after.number);
    }

    #[test]
    fn no_source_is_told_more_than_a_few_things_a_second_nor_are_all_together() {
        let (_, mut alerts) = bench();
        for _ in 0..SOURCE_RATE.burst {
            assert!(alerts.of(&back(SOURCE), NOW).is_some());
        }
        assert!(alerts.of(&back(SOURCE), later(999)).is_none());
        assert!(alerts.of(&back(SOURCE), later(1_000)).is_some());
        let sent = (0..10_000u32).filter(|n| alerts.of(&back(Addr::V4(*n)), later(1_000)).is_some()).count() as u64;
        assert!((ALL_RATE.burst - 1..=ALL_RATE.burst).contains(&sent), "{sent}");
        assert_eq!(alerts.withheld(), 1 + 10_000 - sent);
        assert!(alerts.buckets.len() as u64 <= ALL_RATE.burst + SOURCE_RATE.burst);
        alerts.of(&back(SOURCE), later(60_000));
        assert_eq!(alerts.buckets.len(), 1, "what is full again is forgotten");
    }
}
