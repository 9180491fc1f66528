//! Alerts: a router's signed datagram to an address whose traffic it has touched.
//!
//! A source that a router shuts off may belong to somebody who knows nothing of it: a machine that a worm has taken. The
//! alert goes to the source's own address, port [`VFIREWALL_PORT`](crate::limits::VFIREWALL_PORT), and carries the
//! router's certificate, so that whoever has the authority's public key can tell it from a hoax. An [`Alert`] that
//! [`Alert::verify`] accepts is a router's word about this very address; it may have been sent before, which its number
//! and time show.

use crate::cbor::{self, Canonical, Malformed, Reader, Writer};
use crate::certificate::Certificate;
use crate::digest::{Digest, Domain};
use crate::identity::{Authority, CertificateFault, Identity, RouterPeer};
use crate::limits::{ALERT_BYTES_MAX, ALERT_TEXT_BYTES_MAX, CODE_BYTES_MAX};
use crate::rejection::{code_of, is_code, is_line, line_of};
use std::fmt;
use vinet_trusted::addr::Addr;

/// The first bytes of the datagram.
pub const ALERT_MAGIC: [u8; 8] = *b"VInetAlt";

/// What an alert says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertTerms {
    /// The address that it is about and goes to.
    pub addr: Addr,
    /// The number of the alert at its router, rising.
    pub number: u64,
    /// The Unix second at which it was sent.
    pub at_s: u64,
    code: String,
    text: String,
}

impl AlertTerms {
    /// An alert with a short stable `code` (letters, digits, `-` and `_`) and one line of `text` for people. What does not
    /// fit is cut or replaced.
    #[must_use]
    pub fn new(addr: Addr, number: u64, at_s: u64, code: &str, text: &str) -> AlertTerms {
        AlertTerms { addr, number, at_s, code: code_of(code), text: line_of(text, ALERT_TEXT_BYTES_MAX) }
    }
    /// The short stable name of what happened.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }
    /// What happened, in words: one plain line.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Canonical for AlertTerms {
    fn write(&self, w: &mut Writer) {
        w.array(5).item(&self.addr).uint(self.number).uint(self.at_s).text(&self.code).text(&self.text);
    }
    fn read(r: &mut Reader<'_>) -> Result<AlertTerms, Malformed> {
        const EXPECTED: &str = "an alert: [address, number, second, code, one line of text]";
        let malformed = r.malformed(EXPECTED);
        r.array(5, EXPECTED)?;
        let (addr, number, at_s) = (r.item()?, r.u64(EXPECTED)?, r.u64(EXPECTED)?);
        let code = r.text(CODE_BYTES_MAX, EXPECTED)?.to_owned();
        let text = r.text(ALERT_TEXT_BYTES_MAX, EXPECTED)?.to_owned();
        if !is_code(&code) || !is_line(&text) {
            return Err(malformed);
        }
        Ok(AlertTerms { addr, number, at_s, code, text })
    }
}

/// Why a datagram is no alert that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertFault {
    /// It is no alert at all, or not in its one form.
    Malformed,
    /// The router's certificate does not stand.
    Certificate(CertificateFault),
    /// The router did not sign it.
    BadSignature,
    /// It is about another address.
    Elsewhere {
        /// The one that it names.
        found: Addr,
    },
}

impl fmt::Display for AlertFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AlertFault::Malformed => write!(f, "the datagram is no alert of this version"),
            AlertFault::Certificate(fault) => write!(f, "the certificate in the alert does not stand: {fault}"),
            AlertFault::BadSignature => write!(f, "the alert was not signed by the router that it names"),
            AlertFault::Elsewhere { found } => write!(f, "the alert is about {found}, which is not this address"),
        }
    }
}

impl std::error::Error for AlertFault {}

/// A router's signed word about an address. Neither certificate nor signature has been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    certificate: Certificate,
    terms: AlertTerms,
    signature: [u8; 64],
}

impl Alert {
    /// Signs `terms` as the router that `identity` names.
    #[must_use]
    pub fn sign(terms: AlertTerms, identity: &Identity) -> Alert {
        let signature = identity.sign(&Alert::digest(identity.certificate(), &terms));
        Alert { certificate: identity.certificate().clone(), terms, signature }
    }
    fn digest(certificate: &Certificate, terms: &AlertTerms) -> [u8; 32] {
        Digest::new(Domain::Alert).field(&certificate.key().0).field(&cbor::to_bytes(terms)).finish()
    }
    /// The payload of the datagram: at most [`ALERT_BYTES_MAX`] bytes, below any network's MTU.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&ALERT_MAGIC[..], &cbor::to_bytes(self)].concat()
    }
    /// The alert of this payload.
    ///
    /// # Errors
    /// [`AlertFault::Malformed`].
    pub fn decode(payload: &[u8]) -> Result<Alert, AlertFault> {
        let bytes = payload.strip_prefix(&ALERT_MAGIC).ok_or(AlertFault::Malformed)?;
        if payload.len() > ALERT_BYTES_MAX {
            return Err(AlertFault::Malformed);
        }
        cbor::from_bytes(bytes).map_err(|_| AlertFault::Malformed)
    }
    /// What it says and who says it, if a router that `authority` vouches for at `now_s` says it of one of `own`.
    ///
    /// # Errors
    /// The first fault found.
    pub fn verify(
        &self,
        authority: &Authority,
        own: impl FnOnce(Addr) -> bool,
        now_s: u64,
    ) -> Result<(RouterPeer, &AlertTerms), AlertFault> {
        let router = authority.router(&self.certificate, now_s).map_err(AlertFault::Certificate)?;
        if !router.id().has_signed(&Alert::digest(&self.certificate, &self.terms), &self.signature) {
            return Err(AlertFault::BadSignature);
        }
        if !own(self.terms.addr) {
            return Err(AlertFault::Elsewhere { found: self.terms.addr });
        }
        Ok((router, &self.terms))
    }
}

impl Canonical for Alert {
    fn write(&self, w: &mut Writer) {
        w.array(3).item(&self.certificate).item(&self.terms).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<Alert, Malformed> {
        r.array(3, "a signed alert of 3 items")?;
        Ok(Alert { certificate: r.item()?, terms: r.item()?, signature: r.fixed("a signature of 64 bytes")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Subject, Validity};
    use crate::limits::{NAME_BYTES_MAX, ROUTER_ADDRS_MAX};
    use crate::testing::{NOW_S, Testbed, every_bit};

    const HERE: Addr = Addr::V4(0xc000_0207);

    fn alert(testbed: &Testbed) -> Alert {
        Alert::sign(AlertTerms::new(HERE, 3, NOW_S, "shut-off", "two\nlines"), &testbed.router)
    }

    #[test]
    fn an_alert_is_a_certified_routers_word_about_an_own_address() {
        let testbed = Testbed::new();
        let alert = alert(&testbed);
        assert_eq!(Alert::decode(&alert.encode()), Ok(alert.clone()));
        let (router, terms) = alert.verify(&testbed.authority, |addr| addr == HERE, NOW_S).unwrap();
        assert_eq!((router.name(), terms.code(), terms.text()), ("edge-1", "shut-off", "two lines"));
        let elsewhere = alert.verify(&testbed.authority, |_| false, NOW_S);
        assert_eq!(elsewhere, Err(AlertFault::Elsewhere { found: HERE }));
        let stranger = Testbed::new();
        assert!(matches!(alert.verify(&stranger.authority, |_| true, NOW_S), Err(AlertFault::Certificate(_))));
        // An owner is certified too, and is no router; nor does a certificate without its key help.
        let of_owner = Alert::sign(alert.terms.clone(), &testbed.owner);
        assert!(matches!(of_owner.verify(&testbed.authority, |_| true, NOW_S), Err(AlertFault::Certificate(_))));
        let thief = Testbed::mixed(&stranger.router, &testbed.router);
        let forged = Alert::sign(alert.terms.clone(), &thief);
        assert_eq!(forged.verify(&testbed.authority, |_| true, NOW_S), Err(AlertFault::BadSignature));
    }

    #[test]
    fn no_bit_of_an_alert_can_be_changed() {
        let testbed = Testbed::new();
        every_bit(&alert(&testbed).encode(), |changed| {
            Alert::decode(changed).is_ok_and(|alert| alert.verify(&testbed.authority, |_| true, NOW_S).is_ok())
        });
    }

    #[test]
    fn the_longest_alert_fits_and_a_longer_one_is_refused() {
        let testbed = Testbed::new();
        let subject =
            Subject::Router { name: "n".repeat(NAME_BYTES_MAX), addrs: vec![Addr::V6(u128::MAX); ROUTER_ADDRS_MAX] };
        let router = testbed.authority_key.issue_identity(subject, Validity::starting(u64::MAX - 1, 1)).unwrap();
        let (code, text) = ("c".repeat(99), "t".repeat(9999));
        let longest = Alert::sign(AlertTerms::new(Addr::V6(u128::MAX), u64::MAX, u64::MAX, &code, &text), &router);
        let bytes = longest.encode();
        assert!(bytes.len() <= ALERT_BYTES_MAX, "{}", bytes.len());
        assert_eq!(Alert::decode(&bytes), Ok(longest));
        let junk = [&ALERT_MAGIC[..], &[0; ALERT_BYTES_MAX]].concat();
        assert_eq!(Alert::decode(&junk), Err(AlertFault::Malformed));
        assert_eq!(Alert::decode(b"VInetAl"), Err(AlertFault::Malformed));
    }
}
