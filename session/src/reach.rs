//! Return routability: whoever owns an address shows that packets to it arrive.
//!
//! The router sends a datagram with an unpredictable nonce to the claimed address, through the data path; the owner signs
//! the nonce and sends it back in the session. A [`ReachAnswer`] that [`ReachAnswer::verify`] accepts proves that the
//! holder of the key has seen a datagram that was on its way to the address. Whoever sits on that way can see it too, so
//! it adds to the certificate and does not stand for it. The request for the datagram is as long as the datagram, so
//! nobody is flooded through a router at less than the flood's own cost.
//!
//! Left out: to which of its addresses an edge router is sent a datagram, and how long an answer counts, which the router
//! chooses.

use crate::cbor::{self, Canonical, Malformed, Reader, Writer};
use crate::digest::{Digest, Domain};
use crate::identity::{Identity, PublicKey, RouterId};
use crate::verify::RequestFault;
use vinet_trusted::addr::{Addr, Principal};

/// The first bytes of the datagram.
pub const REACH_MAGIC: [u8; 8] = *b"VInetRch";
/// The version of the datagram.
pub const REACH_VERSION: u8 = 1;
/// The bytes of the datagram, all of them; and the fewest of a request for it.
pub const REACH_DATAGRAM_BYTES: usize = 8 + 1 + 32 + 32 + 19;
/// The most bytes of padding in a request for the datagram.
pub const REACH_PADDING_MAX: usize = 1024;

/// What the router sends to the claimed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachDatagram {
    /// The router that asks.
    pub router: RouterId,
    /// What has to be signed.
    pub nonce: [u8; 32],
    /// The owner whom it is for.
    pub principal: Principal,
}

impl ReachDatagram {
    /// The payload of the datagram.
    #[must_use]
    pub fn encode(&self) -> [u8; REACH_DATAGRAM_BYTES] {
        let (kind, len) = match self.principal {
            Principal::EndUser(_) => (0, 0),
            Principal::EdgeRouter(_) => (1, self.principal.owned().len()),
        };
        let (family, addr) = match self.principal.addr() {
            Addr::V4(addr) => (4, u128::from(addr)),
            Addr::V6(addr) => (6, addr),
        };
        let mut bytes = [0; REACH_DATAGRAM_BYTES];
        bytes[..8].copy_from_slice(&REACH_MAGIC);
        bytes[8] = REACH_VERSION;
        bytes[9..41].copy_from_slice(&self.router.0);
        bytes[41..73].copy_from_slice(&self.nonce);
        bytes[73] = kind;
        bytes[74] = family;
        bytes[75] = len;
        bytes[76..].copy_from_slice(&addr.to_be_bytes());
        bytes
    }
    /// The datagram of this payload; `None` where it is none, of another version, or in another form than
    /// [`ReachDatagram::encode`] gives.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<ReachDatagram> {
        let bytes: &[u8; REACH_DATAGRAM_BYTES] = payload.try_into().ok()?;
        let addr = u128::from_be_bytes(bytes[76..].try_into().ok()?);
        let addr = match bytes[74] {
            4 => Addr::V4(u32::try_from(addr).ok()?),
            6 => Addr::V6(addr),
            _ => return None,
        };
        let principal = match bytes[73] {
            0 => Principal::EndUser(addr),
            _ => Principal::edge_router(addr, bytes[75])?,
        };
        let (router, nonce) = (PublicKey(bytes[9..41].try_into().ok()?), bytes[41..73].try_into().ok()?);
        let datagram = ReachDatagram { router, nonce, principal };
        (datagram.encode() == *bytes).then_some(datagram)
    }
}

/// The owner's signature under the nonce of a datagram. It has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachAnswer {
    nonce: [u8; 32],
    signature: [u8; 64],
}

impl ReachAnswer {
    /// Signs the nonce that `router` sent to `principal`.
    #[must_use]
    pub fn sign(router: &RouterId, principal: &Principal, nonce: [u8; 32], identity: &Identity) -> ReachAnswer {
        ReachAnswer { nonce, signature: identity.sign(&ReachAnswer::digest(router, principal, &nonce)) }
    }
    fn digest(router: &RouterId, principal: &Principal, nonce: &[u8; 32]) -> [u8; 32] {
        Digest::new(Domain::Reach).field(&router.0).field(&cbor::to_bytes(principal)).field(nonce).finish()
    }
    /// The nonce that it answers, unverified.
    #[must_use]
    pub const fn nonce(&self) -> &[u8; 32] {
        &self.nonce
    }
    /// The nonce that it answers, if `key` signed it for `router` and `principal`. Whether that nonce was sent, and when,
    /// is the router's to know.
    ///
    /// # Errors
    /// [`RequestFault::BadSignature`].
    pub fn verify(&self, router: &RouterId, principal: &Principal, key: &PublicKey) -> Result<&[u8; 32], RequestFault> {
        if key.has_signed(&ReachAnswer::digest(router, principal, &self.nonce), &self.signature) {
            Ok(&self.nonce)
        } else {
            Err(RequestFault::BadSignature)
        }
    }
}

impl Canonical for ReachAnswer {
    fn write(&self, w: &mut Writer) {
        w.array(2).bytes(&self.nonce).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<ReachAnswer, Malformed> {
        r.array(2, "an answer to a datagram of 2 items")?;
        Ok(ReachAnswer { nonce: r.fixed("a nonce of 32 bytes")?, signature: r.fixed("a signature of 64 bytes")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::parse_principal;
    use crate::message::{Request, decode_request, encode_request};
    use crate::testing::{Testbed, every_bit};

    fn datagrams(testbed: &Testbed) -> Vec<ReachDatagram> {
        ["192.0.2.7", "0.0.0.0", "192.0.2.1/24", "192.0.2.1/0", "2001:db8::7", "::/0", "2001:db8::1/32"]
            .map(|text| ReachDatagram {
                router: testbed.router.public(),
                nonce: [0xab; 32],
                principal: parse_principal(text).unwrap(),
            })
            .to_vec()
    }

    #[test]
    fn a_datagram_has_one_form() {
        let testbed = Testbed::new();
        for datagram in datagrams(&testbed) {
            let bytes = datagram.encode();
            assert_eq!(ReachDatagram::decode(&bytes), Some(datagram));
            assert_eq!(ReachDatagram::decode(&bytes[1..]), None);
            assert_eq!(ReachDatagram::decode(&[&bytes[..], &[0]].concat()), None);
            for bit in 0..8 * bytes.len() {
                let mut changed = bytes;
                changed[bit / 8] ^= 1 << (bit % 8);
                if let Some(read) = ReachDatagram::decode(&changed) {
                    assert_eq!(read.encode(), changed);
                    assert!(bit / 8 > 8, "the magic or the version was not looked at");
                }
            }
        }
    }

    #[test]
    fn an_answer_counts_for_its_router_owner_and_key() {
        let testbed = Testbed::new();
        let (router, key) = (testbed.router.public(), testbed.owner.public());
        let principal = testbed.owner.principal().unwrap();
        let answer = ReachAnswer::sign(&router, &principal, [7; 32], &testbed.owner);
        assert_eq!(answer.verify(&router, &principal, &key), Ok(&[7; 32]));
        let other = parse_principal("192.0.2.8").unwrap();
        for result in [
            answer.verify(&key, &principal, &key),
            answer.verify(&router, &other, &key),
            answer.verify(&router, &principal, &router),
        ] {
            assert_eq!(result, Err(RequestFault::BadSignature));
        }
        every_bit(&cbor::to_bytes(&answer), |changed| {
            cbor::from_bytes::<ReachAnswer>(changed)
                .is_ok_and(|answer| answer.verify(&router, &principal, &key).is_ok())
        });
    }

    #[test]
    fn nobody_gets_a_datagram_for_less_than_its_length() {
        let ask = |padding: usize| {
            let bytes = encode_request(1, &Request::ReachMe { port: 1, padding: vec![0; padding] });
            (bytes.len(), decode_request(&bytes).is_ok())
        };
        assert!(matches!(ask(REACH_DATAGRAM_BYTES), (len, true) if len >= REACH_DATAGRAM_BYTES));
        assert!(matches!(ask(REACH_PADDING_MAX), (_, true)));
        assert!(matches!(ask(REACH_DATAGRAM_BYTES - 1), (_, false)));
        assert!(matches!(ask(REACH_PADDING_MAX + 1), (_, false)));
    }
}
