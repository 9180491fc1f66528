//! The examples of `docs/PROTOCOL.md`, made again: what is written there is what this crate does.

use crate::Now;
use crate::alert::{Alert, AlertTerms};
use crate::cbor::to_bytes;
use crate::digest::{Digest, Domain};
use crate::directory::{Directory, DirectoryEntry, SignedDirectory};
use crate::hex;
use crate::identity::{AuthorityKey, Identity, PublicKey, Subject, Validity, parse_principal};
use crate::message::{NewLemma, Part, Request, encode_request, object_id};
use crate::payment::{BankKey, Credit, CreditTerms, Quote, QuoteTerms, Tariff};
use crate::reach::{ReachAnswer, ReachDatagram};
use crate::receipt::{ChainHead, Installed, Receipt, ReceiptSubject};
use crate::revocation::RevocationList;
use crate::sealed::{ClientLane, REQUEST_BYTES_MAX, REQUEST_BYTES_MIN};
use crate::signed::{Class, Renew, Terms, Upload};
use crate::testing::LEMMA_ROOT;
use crate::ticket::{TICKET_BYTES, Ticket, TicketGrant};
use ed25519_dalek::SigningKey;
use vinet_trusted::addr::{Addr, Prefix};

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
        payment: 0,
        quote: None,
        monitor: false,
        nonce: [0x22; 16],
        expiry_s: 1_800_000_060,
    };
    let router = {
        let subject = Subject::Router { name: "edge-1".into(), addrs: vec![Addr::V4(0xcb00_7101)] };
        Identity { secret: secret(3), certificate: authority.issue(&public(3), subject, validity).unwrap() }
    };
    let now_s = 1_800_000_000;
    let bank = BankKey { name: "mint".into(), secret: secret(4) };
    let credit = CreditTerms {
        serial: [0x44; 16],
        amount: 500,
        router: public(3),
        account: public(2),
        expiry_s: now_s + 86_400,
    };
    let credit = Credit::sign(credit, &bank);
    let quote = QuoteTerms {
        principal: owner.principal().unwrap(),
        class: Class::Header,
        complexity: 100,
        packet_rate: 10_000,
        state_bytes: 0,
        lifetime_s: 120,
        price: 30,
        expiry_s: now_s + 60,
        nonce: [0x55; 16],
    };
    let quote = Quote::sign(quote, &router);
    let quoted = Terms { payment: 30, quote: Some(Box::new(quote.clone())), monitor: true, ..terms.clone() };
    let mut head = ChainHead::start(public(2));
    let deposited = ReceiptSubject::Deposited { serial: [0x44; 16] };
    let deposited = Receipt::sign(head.next(now_s, 0, 500, deposited).unwrap(), &router);
    head.push(&deposited).unwrap();
    let installed = ReceiptSubject::Installed(Box::new(Installed {
        instance: 7,
        program_id: [0x66; 32],
        principal: owner.principal().unwrap(),
        policy_id: [0x11; 32],
        class: Class::Header,
        complexity: 100,
        cost: 12_000,
        packet_rate: 10_000,
        installed_s: now_s,
        ends_s: now_s + 120,
        nonce: [0x22; 16],
        monitor: false,
    }));
    let installed = Receipt::sign(head.next(now_s, 30, 0, installed).unwrap(), &router);
    let renew = Renew::sign(public(3), 7, 30, [0x77; 16], now_s + 60, &owner);
    let reach = ReachDatagram { router: public(3), nonce: [0x88; 32], principal: owner.principal().unwrap() }.encode();
    let reached = ReachAnswer::sign(&public(3), &owner.principal().unwrap(), [0x88; 32], &owner);
    let revoked = RevocationList::sign(1, now_s, vec![public(2)], &authority).unwrap();
    let entry = DirectoryEntry {
        prefix: Prefix::new(Addr::V4(0xc633_6400), 24).unwrap(),
        router_name: "edge-1".into(),
        endpoints: vec!["203.0.113.1:7400".parse().unwrap()],
    };
    let directory = SignedDirectory::sign(Directory::new(1, now_s, vec![entry]).unwrap(), &authority);
    let alert = AlertTerms::new(Addr::V4(0xc633_6407), 1, now_s, "shut-off", "three owners drop what comes from here");
    let alert = Alert::sign(alert, &router);
    let tariff = Tariff { install: 5, per_teracycle: 300, per_gibibyte_day: 40, check: 1 };
    let whole = Upload::sign(terms.clone(), &owner).encode();
    let part = Part { object: object_id(&whole), len: whole.len() as u32, offset: 0, bytes: Vec::new() };
    let lemma = NewLemma { lemma: vec![0x0a, 0x0b], proof: vec![0x0c] };
    let grant = TicketGrant { ticket: [0x44; TICKET_BYTES], secret: [0x55; 32], clock_ms: 1000, lifetime_s: 7200 };
    let peer = authority.authority().router(router.certificate(), now_s).unwrap();
    let ticket = Ticket::new(grant, peer, router.certificate().clone(), public(2), now_s);
    let mut sealed = Vec::new();
    let sent = Now { wall_s: 1_800_000_001, mono_ms: 0 };
    ClientLane::new(ticket).salted(&encode_request(1, &Request::List), [0x66; 16], &mut sealed, sent).unwrap();
    let key = |domain| Digest::new(domain).field(&[0x55; 32]).number(1).field(&[0x66; 16]).finish();
    let empty = Digest::new(Domain::Upload).field(b"ab").number(7).finish();
    let examples = [
        ("the digest of two fields", hex::encode(&empty)),
        ("the lengths of a sealed request", format!("{REQUEST_BYTES_MIN}to{REQUEST_BYTES_MAX}bytes")),
        ("the length of a ticket", format!("ticket:bytes.size{TICKET_BYTES},")),
        ("the key of a sealed request", hex::encode(&key(Domain::SealedRequest))),
        ("the key of its reply", hex::encode(&key(Domain::SealedReply))),
        ("what follows the ticket in a sealed request", hex::encode(&sealed[3 + TICKET_BYTES..])),
        ("the authority's key", authority.authority().key().to_string()),
        ("the owner's key", public(2).to_string()),
        ("the router's key", public(3).to_string()),
        ("the principal", hex::encode(&to_bytes(&owner.principal().unwrap()))),
        ("the certificate", hex::encode(&owner.certificate().encode())),
        ("the list request", hex::encode(&encode_request(1, &Request::List))),
        ("the lemma", hex::encode(&encode_request(3, &Request::AddLemma(lemma)))),
        ("the upload with a quote", hex::encode(&Upload::sign(quoted, &owner).encode())),
        ("the bank's key", bank.bank().key().to_string()),
        ("the credit", hex::encode(&credit.encode())),
        ("the price", format!("{}creditsinall", tariff.price(1000, 100_000, 1 << 20, 3600).unwrap())),
        ("the quote", hex::encode(&to_bytes(&quote))),
        ("the receipt of a deposit", hex::encode(&deposited.encode())),
        ("its digest", hex::encode(&deposited.digest())),
        ("the receipt of an installation", hex::encode(&installed.encode())),
        ("the renewal", hex::encode(&encode_request(4, &Request::Renew(renew)))),
        ("the datagram", hex::encode(&reach)),
        ("the answer to it", hex::encode(&encode_request(5, &Request::Reached(reached)))),
        ("the revoked keys", hex::encode(&revoked.encode())),
        ("the directory", hex::encode(&directory.encode())),
        ("the alert", hex::encode(&alert.encode())),
        ("the question for parts", hex::encode(&encode_request(6, &Request::Part(Box::new(part))))),
        ("the upload", hex::encode(&encode_request(2, &Request::Upload(Box::new(Upload::sign(terms, &owner)))))),
    ];
    for (what, hex) in &examples {
        println!("{what}: {hex}");
    }
    for (what, hex) in examples {
        assert!(page.contains(&hex), "docs/PROTOCOL.md does not show {what} as {hex}");
    }
}
