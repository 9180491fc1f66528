use super::*;
use crate::directory::{Directory, DirectoryEntry};
use crate::identity::PublicKey;
use crate::limits::{CODE_BYTES_MAX, MESSAGE_BYTES_MAX, TEXT_BYTES_MAX};
use crate::payment::{BankKey, CreditTerms, QuoteTerms};
use crate::receipt::{Ending, Installed, ReceiptSubject};
use crate::testing::{Random, Testbed, seed};
use std::net::SocketAddr;
use vinet_trusted::addr::{Addr, Prefix, Principal};

fn array<const N: usize>(random: &mut Random) -> [u8; N] {
    random.bytes(N).try_into().unwrap()
}

/// A number whose length in CBOR is as often one as another.
fn number(random: &mut Random) -> u64 {
    random.next() >> random.below(64)
}

fn principal(random: &mut Random) -> Principal {
    match random.below(3) {
        0 => Principal::EndUser(Addr::V4(random.next() as u32)),
        1 => Principal::EndUser(Addr::V6(u128::from(random.next()))),
        _ => Principal::edge_router(Addr::V4(random.next() as u32), random.below(33) as u8).unwrap(),
    }
}

fn flag(random: &mut Random) -> bool {
    random.below(2) == 0
}

fn class(random: &mut Random) -> Class {
    if random.below(2) == 0 { Class::Header } else { Class::Content }
}

fn status(random: &mut Random) -> ProgramStatus {
    ProgramStatus {
        instance: number(random),
        program_id: array(random),
        class: class(random),
        complexity: number(random),
        cost: number(random),
        packet_rate: number(random) as u32,
        seconds_left: number(random) as u32,
        packets_seen: number(random),
        bytes_seen: number(random),
        packets_discarded: number(random),
        bytes_discarded: number(random),
        packets_over_budget: number(random),
        monitor: flag(random),
    }
}

fn some_bytes(random: &mut Random, below: u64) -> Vec<u8> {
    let len = random.below(below) as usize;
    random.bytes(len)
}

fn some_text(random: &mut Random, below: u64) -> String {
    String::from_utf8_lossy(&some_bytes(random, below)).into_owned()
}

fn key(random: &mut Random) -> PublicKey {
    PublicKey(array(random))
}

fn quote(random: &mut Random, testbed: &Testbed) -> Quote {
    let terms = QuoteTerms {
        principal: principal(random),
        class: class(random),
        complexity: number(random),
        packet_rate: number(random) as u32,
        state_bytes: number(random),
        lifetime_s: number(random) as u32,
        price: number(random),
        expiry_s: number(random),
        nonce: array(random),
    };
    Quote::sign(terms, &testbed.router)
}

fn upload(random: &mut Random, testbed: &Testbed) -> Upload {
    let terms = Terms {
        router: testbed.router.public(),
        policy_id: array(random),
        lemma_root: array(random),
        program: some_bytes(random, 300),
        proof: (random.below(3) > 0).then(|| some_bytes(random, 300)),
        principal: principal(random),
        class: class(random),
        complexity: number(random),
        cost: number(random),
        lifetime_s: number(random) as u32,
        packet_rate: number(random) as u32,
        payment: number(random),
        quote: flag(random).then(|| Box::new(quote(random, testbed))),
        monitor: flag(random),
        nonce: array(random),
        expiry_s: number(random),
    };
    Upload::sign(terms, &testbed.owner)
}

fn part(random: &mut Random) -> Part {
    let bytes = some_bytes(random, 300);
    let offset = random.below(1000) as u32;
    let len = offset + bytes.len() as u32 + random.below(1000) as u32;
    Part { object: array(random), len: len.max(1), offset, bytes }
}

const REQUESTS: u64 = 19;

fn request(random: &mut Random, testbed: &Testbed, kind: u64) -> Request {
    let router = testbed.router.public();
    match kind {
        18 => Request::Ticket,
        0 => Request::GetPolicy { kind: if flag(random) { PrincipalKind::EndUser } else { PrincipalKind::EdgeRouter } },
        1 => Request::Upload(Box::new(upload(random, testbed))),
        2 => Request::List,
        3 => Request::Show { instance: number(random) },
        4 => Request::AddLemma(NewLemma { lemma: some_bytes(random, 300), proof: some_bytes(random, 300) }),
        5 => {
            let (instance, expiry_s) = (number(random), number(random));
            Request::Withdraw(Withdraw::sign(router, instance, array(random), expiry_s, &testbed.owner))
        }
        6 => Request::Quote(QuoteAsk {
            class: class(random),
            complexity: number(random),
            packet_rate: number(random) as u32,
            state_bytes: number(random),
            lifetime_s: number(random) as u32,
        }),
        7 => {
            let bank = BankKey::generate("mint").unwrap();
            let terms = CreditTerms {
                serial: array(random),
                amount: number(random),
                router,
                account: key(random),
                expiry_s: number(random),
            };
            Request::Deposit(Box::new(Credit::sign(terms, &bank)))
        }
        8 => Request::Balance,
        9 => Request::Receipts { after: number(random) },
        10 => {
            let (instance, payment, expiry_s) = (number(random), number(random), number(random));
            Request::Renew(Renew::sign(router, instance, payment, array(random), expiry_s, &testbed.owner))
        }
        11 => {
            let len = REACH_DATAGRAM_BYTES + random.below(50) as usize;
            Request::ReachMe { port: random.next() as u16, padding: random.bytes(len) }
        }
        12 => Request::Reached(ReachAnswer::sign(&router, &principal(random), array(random), &testbed.owner)),
        13 => Request::Events { after: number(random) },
        14 => Request::Part(Box::new(part(random))),
        15 => Request::UploadObject { object: array(random) },
        16 => Request::Directory,
        _ => {
            let keys = (0..random.below(9)).map(|_| key(random)).collect();
            let list = RevocationList::sign(number(random), number(random), keys, &testbed.authority_key);
            Request::Revoke(Box::new(list.unwrap()))
        }
    }
}

fn receipt(random: &mut Random, testbed: &Testbed) -> Receipt {
    let subject = match random.below(5) {
        0 => ReceiptSubject::Installed(Box::new(Installed {
            instance: number(random),
            program_id: array(random),
            principal: principal(random),
            policy_id: array(random),
            class: class(random),
            complexity: number(random),
            cost: number(random),
            packet_rate: number(random) as u32,
            installed_s: number(random),
            ends_s: number(random),
            nonce: array(random),
            monitor: flag(random),
        })),
        1 => ReceiptSubject::Renewed { instance: number(random), ends_s: number(random), nonce: array(random) },
        2 => {
            let why = [Ending::Withdrawn, Ending::Expired, Ending::Revoked, Ending::Displaced];
            ReceiptSubject::Ended { instance: number(random), why: why[random.below(4) as usize] }
        }
        3 => ReceiptSubject::Deposited { serial: array(random) },
        _ => ReceiptSubject::Checked { nonce: array(random) },
    };
    let terms = ReceiptTerms {
        account: key(random),
        number: number(random),
        previous: array(random),
        at_s: number(random),
        paid: number(random),
        given_back: number(random),
        balance: number(random),
        subject,
    };
    Receipt::sign(terms, &testbed.router)
}

fn directory(random: &mut Random, testbed: &Testbed) -> SignedDirectory {
    let entries = (0..random.below(5) as u8)
        .map(|at| DirectoryEntry {
            prefix: Prefix::of(Addr::V4(u32::from(at) << 24), 8 + random.below(25) as u8).unwrap(),
            router_name: "edge-1".to_owned(),
            endpoints: vec![SocketAddr::from((array::<16>(random), random.next() as u16))],
        })
        .collect();
    let directory = Directory::new(number(random), number(random), entries).unwrap();
    SignedDirectory::sign(directory, &testbed.authority_key)
}

const REPLIES: u64 = 17;

fn reply(random: &mut Random, testbed: &Testbed, kind: u64) -> Reply {
    match kind {
        0 => Reply::Receipt(receipt(random, testbed)),
        1 => Reply::List((0..random.below(30)).map(|_| status(random)).collect()),
        2 => Reply::Status(status(random)),
        3 => Reply::Withdrawn(status(random)),
        4 => Reply::Lemma(LemmaPlace { index: number(random) as u32, root: array(random) }),
        5 => {
            let instr = flag(random).then(|| number(random) as u32);
            Reply::Rejected(Rejection::new(&some_text(random, 80), &some_text(random, 2000), instr))
        }
        6 => Reply::Quote(quote(random, testbed)),
        7 => Reply::Balance { balance: number(random), held: number(random), receipts: number(random) },
        8 => Reply::Receipts((0..random.below(5)).map(|_| receipt(random, testbed)).collect()),
        9 => Reply::ReachSent,
        10 => Reply::Reached { until_s: number(random) },
        11 => {
            let event = |random: &mut Random| {
                let (number, at_s) = (number(random), number(random));
                Event::new(number, at_s, &some_text(random, 80), &some_text(random, 2000))
            };
            Reply::Events((0..random.below(5)).map(|_| event(random)).collect())
        }
        12 => Reply::Part { have: number(random) as u32 },
        13 => Reply::Directory(Box::new(directory(random, testbed))),
        14 => Reply::Revocations { number: number(random) },
        15 => Reply::Ticket(Box::new(TicketGrant {
            ticket: array(random),
            secret: array(random),
            clock_ms: number(random),
            lifetime_s: number(random) as u32,
        })),
        _ => {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy/end-user.toml");
            let policy = crate::policy_file::load(&path).unwrap();
            let tariff = Tariff { install: number(random), check: number(random), ..Tariff::FREE };
            Reply::Policy(SignedPolicy::sign(&policy, array(random), tariff, &testbed.router))
        }
    }
}

#[test]
fn messages_are_read_as_they_were_written_and_only_in_that_form() {
    let testbed = Testbed::new();
    let seed = seed();
    let mut random = Random::new(seed);
    for round in 0..1500 {
        let id = number(&mut random) as u32;
        let request = request(&mut random, &testbed, round % REQUESTS);
        let reply = reply(&mut random, &testbed, round % REPLIES);
        let bytes = encode_request(id, &request);
        assert_eq!(decode_request(&bytes), Ok((id, request)), "seed {seed}, round {round}");
        damage(&mut random, bytes, |b| decode_request(b).ok().map(|(id, request)| encode_request(id, &request)));
        let bytes = encode_reply(id, &reply);
        assert_eq!(decode_reply(&bytes), Ok((id, reply)), "seed {seed}, round {round}");
        damage(&mut random, bytes, |b| decode_reply(b).ok().map(|(id, reply)| encode_reply(id, &reply)));
    }
}

/// Whatever is made of the bytes, what can be read is what would be written.
fn damage(random: &mut Random, bytes: Vec<u8>, read: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    for _ in 0..8 {
        let mut changed = bytes.clone();
        let at = random.below(changed.len() as u64) as usize;
        match random.below(4) {
            0 => changed[at] = random.next() as u8,
            1 => changed.truncate(at),
            2 => changed.insert(at, random.next() as u8),
            _ => drop(changed.remove(at)),
        }
        if let Some(again) = read(&changed) {
            assert_eq!(again, changed);
        }
    }
}

#[test]
fn lengths_that_lie_cost_nothing() {
    // Arrays and strings that announce more than there is, at every place where one may stand.
    for body in [&[0x9b, 0xff][..], &[0x82, 0x02, 0x9b, 0xff], &[0x82, 0x01, 0x9b, 0xff]] {
        let mut bytes = vec![0x83, 0x02, 0x01];
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&[0xff; 7]);
        assert!(decode_request(&bytes).is_err() && decode_reply(&bytes).is_err());
    }
    // Lists of one more than their limit: programs, receipts, events.
    for (number, len) in [(2, LIST_LEN_MAX), (10, RECEIPTS_MAX), (14, EVENTS_MAX)] {
        let [high, low] = (len as u16 + 1).to_be_bytes();
        assert!(
            decode_reply(&[0x83, 0x02, 0x01, 0x82, number, 0x99, high, low]).unwrap_err().expected.contains("limit")
        );
    }
    // A list of revoked keys whose bytes are not there.
    let mut bytes = vec![0x83, 0x02, 0x01, 0x82, 0x12, 0x85, 0x58, 32];
    bytes.extend_from_slice(&[1; 32]);
    bytes.extend_from_slice(&[0x01, 0x01, 0x5a, 0x00, 0x0f, 0x00, 0x00, 0x00]);
    assert!(decode_request(&bytes).is_err());
    // Nesting deeper than any message.
    assert!(decode_request(&vec![0x81; 1_000_000]).is_err());
}

#[test]
fn a_full_list_fits_into_a_message() {
    let most = ProgramStatus {
        instance: u64::MAX,
        program_id: [0xff; 32],
        class: Class::Content,
        complexity: u64::MAX,
        cost: u64::MAX,
        packet_rate: u32::MAX,
        seconds_left: u32::MAX,
        packets_seen: u64::MAX,
        bytes_seen: u64::MAX,
        packets_discarded: u64::MAX,
        bytes_discarded: u64::MAX,
        packets_over_budget: u64::MAX,
        monitor: true,
    };
    let list = vec![most; LIST_LEN_MAX];
    assert!(encode_reply(u32::MAX, &Reply::List(list)).len() <= MESSAGE_BYTES_MAX);
    let installed = Installed {
        instance: u64::MAX,
        program_id: [0xff; 32],
        principal: Principal::edge_router(Addr::V6(u128::MAX), 128).unwrap(),
        policy_id: [0xff; 32],
        class: Class::Content,
        complexity: u64::MAX,
        cost: u64::MAX,
        packet_rate: u32::MAX,
        installed_s: u64::MAX,
        ends_s: u64::MAX,
        nonce: [0xff; 16],
        monitor: true,
    };
    let terms = ReceiptTerms {
        account: PublicKey([0xff; 32]),
        number: u64::MAX,
        previous: [0xff; 32],
        at_s: u64::MAX,
        paid: u64::MAX,
        given_back: u64::MAX,
        balance: u64::MAX,
        subject: ReceiptSubject::Installed(Box::new(installed)),
    };
    let receipts = vec![Receipt::sign(terms, &Testbed::new().router); RECEIPTS_MAX];
    assert!(encode_reply(u32::MAX, &Reply::Receipts(receipts)).len() <= MESSAGE_BYTES_MAX);
    let event = Event::new(u64::MAX, u64::MAX, &"c".repeat(CODE_BYTES_MAX), &"t".repeat(TEXT_BYTES_MAX));
    assert!(encode_reply(u32::MAX, &Reply::Events(vec![event; EVENTS_MAX])).len() <= MESSAGE_BYTES_MAX);
    let whole = Part { object: [1; 32], len: u32::MAX, offset: 0, bytes: vec![1; PART_BYTES_MAX] };
    assert!(encode_request(u32::MAX, &Request::Part(Box::new(whole))).len() <= MESSAGE_BYTES_MAX);
}

#[test]
fn a_part_lies_within_its_whole() {
    let read = |len: u32, offset: u32, bytes: usize| {
        let part = Part { object: [1; 32], len, offset, bytes: vec![7; bytes] };
        decode_request(&encode_request(1, &Request::Part(Box::new(part)))).is_ok()
    };
    assert!(read(10, 0, 10) && read(10, 4, 6) && read(10, 10, 0) && read(1, 0, 0));
    assert!(read(OBJECT_BYTES_MAX as u32, 0, PART_BYTES_MAX));
    assert!(!read(0, 0, 0) && !read(10, 5, 6) && !read(10, 11, 0) && !read(10, u32::MAX, 1));
    assert!(!read(OBJECT_BYTES_MAX as u32 + 1, 0, 1) && !read(OBJECT_BYTES_MAX as u32, 0, PART_BYTES_MAX + 1));
}

#[test]
fn rejections_are_one_plain_line() {
    let rejection = Rejection::new("a b\n\u{1b}[31mc_d-e", &format!("one\r\ntwo\u{1b}[0m{}", "é".repeat(2000)), None);
    assert_eq!(rejection.code(), "ab31mc_d-e");
    assert!(rejection.text().starts_with("one  two [0m") && rejection.text().len() <= TEXT_BYTES_MAX);
    assert!(!rejection.text().chars().any(char::is_control));
    // A router that sends control characters is refused.
    let mut w = Writer::new();
    w.array(3).uint(2).uint(1).array(2).uint(REJECTED).array(3).text("no").text("a\nb").null();
    assert!(decode_reply(&w.finish()).is_err());
}
