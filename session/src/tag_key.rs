//! The key of generated packets: what an owner and a router share without having told each other.
//!
//! The packets that an owner's program generates bear tags (`vinet_pktops::datagram`), which the router makes and the
//! owner's expander looks at. Their key is a digest of the X25519 secret of the two identities, of both public keys, and
//! of the program's name. So nobody else can compute it, no message carries it, it is the same after a restart of
//! either, and another program or router has another. It authenticates; it is never used to hide anything.
//!
//! One pair of keys serves for Ed25519 and X25519 here. That this is sound is shown in "On using the same key pair for
//! Ed25519 and an X25519 based KEM" (IACR ePrint 2021/509); the digest's context keeps the uses apart.

use crate::digest::{Digest, Domain};
use crate::identity::{Identity, PublicKey, RouterId};
use ed25519_dalek::VerifyingKey;

/// The key of the program of `owner` on the router whose identity this is; none where `owner` is no key.
#[must_use]
pub fn at_router(router: &Identity, owner: &PublicKey, program_id: &[u8; 32]) -> Option<[u8; 32]> {
    Some(key(&secret(router, owner)?, owner, &router.public(), program_id))
}

/// The key of the program of the owner whose identity this is on `router`; none where `router` is no key.
#[must_use]
pub fn at_owner(owner: &Identity, router: &RouterId, program_id: &[u8; 32]) -> Option<[u8; 32]> {
    Some(key(&secret(owner, router)?, &owner.public(), router, program_id))
}

fn key(secret: &[u8; 32], owner: &PublicKey, router: &RouterId, program_id: &[u8; 32]) -> [u8; 32] {
    Digest::new(Domain::TagKey).field(secret).field(&owner.0).field(&router.0).field(program_id).finish()
}

/// What the two share: none with a peer that is no point, or of small order, with which everybody shares it.
fn secret(own: &Identity, peer: &PublicKey) -> Option<[u8; 32]> {
    let peer = VerifyingKey::from_bytes(&peer.0).ok()?;
    let shared = peer.to_montgomery().mul_clamped(own.secret.to_scalar_bytes()).to_bytes();
    (!peer.is_weak() && shared != [0; 32]).then_some(shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{AuthorityKey, Subject, Validity, parse_principal};

    #[test]
    fn owner_and_router_come_to_one_key_and_everything_else_to_another() {
        let authority = AuthorityKey::generate("bench").unwrap();
        let validity = Validity::starting(0, 60);
        let owner = |text| authority.issue_identity(Subject::Owner(parse_principal(text).unwrap()), validity).unwrap();
        let router = |name: &str| {
            authority.issue_identity(Subject::Router { name: name.into(), addrs: Vec::new() }, validity).unwrap()
        };
        let (a, b, one, other) = (owner("192.0.2.1/24"), owner("192.0.2.2"), router("one"), router("other"));
        let key = at_router(&one, &a.public(), &[1; 32]).unwrap();
        assert_eq!(at_owner(&a, &one.public(), &[1; 32]), Some(key));
        let others = [
            at_router(&one, &a.public(), &[2; 32]),
            at_router(&one, &b.public(), &[1; 32]),
            at_router(&other, &a.public(), &[1; 32]),
            at_owner(&b, &one.public(), &[1; 32]),
            // Between the same two, the other way round.
            at_router(&a, &one.public(), &[1; 32]),
        ];
        assert!(others.iter().all(|other| other.is_some_and(|other| other != key)));
    }

    #[test]
    fn a_peer_that_everybody_shares_a_secret_with_is_refused() {
        let authority = AuthorityKey::generate("bench").unwrap();
        let subject = Subject::Owner(parse_principal("192.0.2.2").unwrap());
        let own = authority.issue_identity(subject, Validity::starting(0, 60)).unwrap();
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        for peer in [identity_point, [0; 32]] {
            assert_eq!(at_owner(&own, &PublicKey(peer), &[1; 32]), None, "{peer:?}");
        }
    }
}
