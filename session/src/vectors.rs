//! The examples of `docs/PROTOCOL.md`, made again: what is written there is what this crate does.

use crate::cbor::to_bytes;
use crate::digest::{Digest, Domain};
use crate::hex;
use crate::identity::{AuthorityKey, Identity, PublicKey, Subject, Validity, parse_principal};
use crate::message::{NewLemma, Request, encode_request};
use crate::signed::{Class, Terms, Upload};
use crate::testing::LEMMA_ROOT;
use ed25519_dalek::SigningKey;

#[test]
fn the_examples_of_the_protocol_page_are_true() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md");
    let page: String = std::fs::read_to_string(page).unwrap().split_whitespace().collect();
    let secret = |byte: u8| SigningKey::from_bytes(&[byte; 32]);
    let public = |byte: u8| PublicKey(secret(byte).verifying_key().to_bytes());
    let authority = AuthorityKey { name: "example".into(), secret: secret(1) };
    let subject = Subject::Owner(parse_principal("192.0.2.1/24").unwrap());
    let validity = Validity { not_before_s: 1_800_000_000, not_after_s: 1_800_086_400 };
    let certificate = authority.issue(&public(2), subject, validity).unwrap();
    let owner = Identity { secret: secret(2), certificate };
    let terms = Terms {
        router: public(3),
        policy_id: [0x11; 32],
        lemma_root: LEMMA_ROOT,
        program: vec![0x01, 0x02],
        proof: Some(vec![0x03]),
        principal: owner.principal().unwrap(),
        class: Class::Header,
        complexity: 100,
        cost: 12_000,
        lifetime_s: 120,
        packet_rate: 10_000,
        nonce: [0x22; 16],
        expiry_s: 1_800_000_060,
    };
    let lemma = NewLemma { lemma: vec![0x0a, 0x0b], proof: vec![0x0c] };
    let empty = Digest::new(Domain::Upload).field(b"ab").number(7).finish();
    let examples = [
        ("the digest of two fields", hex::encode(&empty)),
        ("the authority's key", authority.authority().key().to_string()),
        ("the owner's key", public(2).to_string()),
        ("the router's key", public(3).to_string()),
        ("the principal", hex::encode(&to_bytes(&owner.principal().unwrap()))),
        ("the certificate", hex::encode(&owner.certificate().encode())),
        ("the list request", hex::encode(&encode_request(1, &Request::List))),
        ("the lemma", hex::encode(&encode_request(3, &Request::AddLemma(lemma)))),
        ("the upload", hex::encode(&encode_request(2, &Request::Upload(Box::new(Upload::sign(terms, &owner)))))),
    ];
    for (what, hex) in &examples {
        println!("{what}: {hex}");
    }
    for (what, hex) in examples {
        assert!(page.contains(&hex), "docs/PROTOCOL.md does not show {what} as {hex}");
    }
}
