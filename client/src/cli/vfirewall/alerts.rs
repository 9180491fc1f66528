//! The port for routers' alerts: signed datagrams about an address of the user's own.
//!
//! Anyone may send anything here. A datagram that is no alert costs a comparison; of those that look like one at most
//! [`ALERTS_PER_S_MAX`] a second are verified, the others are dropped. One that was told before is not told again.

use super::super::answer::Failure;
use super::super::session::now_s;
use super::super::watch::Notice;
use super::Job;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::mpsc::SyncSender;
use vinet_session::alert::Alert;
use vinet_session::identity::{Authority, PublicKey};
use vinet_session::limits::ALERT_BYTES_MAX;
use vinet_trusted::addr::Principal;

/// Alerts that are verified in one second.
const ALERTS_PER_S_MAX: u32 = 100;
/// Routers whose last alert is remembered; beyond it, all are forgotten.
const ROUTERS_MAX: usize = 1024;

/// Listens on UDP port `port` for alerts to `owner`.
pub(super) fn start(port: u16, authority: Authority, owner: Principal, jobs: SyncSender<Job>) -> Result<(), Failure> {
    // A socket for both families where the machine has IPv6.
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))
        .map_err(|error| Failure::Unusable(format!("cannot listen on UDP port {port}: {error}")))?;
    std::thread::spawn(move || {
        let mut desk = Desk { authority, owner, last: HashMap::new(), second: 0, verified: 0 };
        let mut buffer = [0; ALERT_BYTES_MAX + 1];
        while let Ok((len, _)) = socket.recv_from(&mut buffer) {
            if let Some(notice) = desk.look(&buffer[..len], now_s()) {
                // The keeper may be busy for long; then this alert is not told.
                let _ = jobs.try_send(Job::Alert(notice));
            }
        }
    });
    Ok(())
}

struct Desk {
    authority: Authority,
    owner: Principal,
    /// The second and number of the last alert of each router.
    last: HashMap<PublicKey, (u64, u64)>,
    second: u64,
    verified: u32,
}

impl Desk {
    /// What a datagram says, if it counts.
    fn look(&mut self, payload: &[u8], now_s: u64) -> Option<Notice> {
        let alert = Alert::decode(payload).ok()?;
        if self.second != now_s {
            (self.second, self.verified) = (now_s, 0);
        }
        self.verified += 1;
        if self.verified > ALERTS_PER_S_MAX {
            return None;
        }
        let owned = self.owner.owned();
        let (router, terms) = alert.verify(&self.authority, |addr| owned.contains(addr), now_s).ok()?;
        let order = (terms.at_s, terms.number);
        if self.last.get(&router.id()).is_some_and(|last| *last >= order) {
            return None;
        }
        if self.last.len() >= ROUTERS_MAX {
            self.last.clear();
        }
        self.last.insert(router.id(), order);
        Some(Notice {
            at_s: terms.at_s,
            router: router.name().to_owned(),
            instance: None,
            code: terms.code().to_owned(),
            text: format!("{}: {}", terms.addr, terms.text()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_session::alert::AlertTerms;
    use vinet_session::identity::{AuthorityKey, Subject, Validity, parse_principal};
    use vinet_trusted::addr::Addr;

    #[test]
    fn only_new_alerts_of_certified_routers_about_own_addresses_count_and_only_so_many() {
        let key = AuthorityKey::generate("lab").unwrap();
        let subject = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
        let router = key.issue_identity(subject.clone(), Validity::starting(0, 1000)).unwrap();
        let owner = parse_principal("192.0.2.1/24").unwrap();
        let mut desk = Desk { authority: key.authority(), owner, last: HashMap::new(), second: 0, verified: 0 };
        let (own, other) = (Addr::V4(0xc000_0207), Addr::V4(0xc000_0307));
        let alert = |addr, number, at_s| {
            Alert::sign(AlertTerms::new(addr, number, at_s, "shut-off", "enough"), &router).encode()
        };
        let told = desk.look(&alert(own, 1, 5), 10).expect("an alert");
        assert_eq!((told.code.as_str(), told.text.as_str()), ("shut-off", "192.0.2.7: enough"));
        assert_eq!(desk.look(&alert(own, 1, 5), 10), None, "told before");
        assert_eq!(desk.look(&alert(own, 2, 4), 10), None, "older");
        assert!(desk.look(&alert(own, 2, 5), 10).is_some());
        assert_eq!(desk.look(&alert(other, 3, 9), 10), None, "about somebody else");
        let stranger = AuthorityKey::generate("lab").unwrap().issue_identity(subject, Validity::starting(0, 1000));
        let forged = Alert::sign(AlertTerms::new(own, 9, 9, "shut-off", "enough"), &stranger.unwrap()).encode();
        assert_eq!(desk.look(&forged, 10), None);
        assert_eq!(desk.look(b"hello", 10), None);
        // A flood of forgeries is looked at for a while, and the next second is another.
        for _ in 0..2 * ALERTS_PER_S_MAX {
            assert_eq!(desk.look(&forged, 10), None);
        }
        assert_eq!(desk.look(&alert(own, 3, 9), 10), None, "too many in this second");
        assert!(desk.look(&alert(own, 3, 9), 11).is_some());
    }
}
