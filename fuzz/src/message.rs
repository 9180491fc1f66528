//! Not covered here: signatures, which damage breaks almost always; `vinet-session` flips every bit of signed things.
//!
//! Certificates, requests and replies decode to one value with those bytes, or are refused.

use std::net::SocketAddr;
use std::sync::OnceLock;
use vinet_session::message::{decode_reply, decode_request, encode_reply, encode_request};
use vinet_session::reach::REACH_DATAGRAM_BYTES;
use vinet_session::{
    AuthorityKey, BankKey, Certificate, ChainHead, Class, Credit, CreditTerms, Directory, DirectoryEntry, Ending,
    Event, Identity, Installed, LemmaPlace, NewLemma, Part, ProgramStatus, Quote, QuoteAsk, QuoteTerms, ReachAnswer,
    Receipt, ReceiptSubject, Rejection, Renew, Reply, Request, RevocationList, SignedDirectory, SignedPolicy, Subject,
    Tariff, Terms, Upload, Validity, Withdraw, parse_principal,
};
use vinet_trusted::addr::{Addr, Prefix};
use vinet_trusted::policy::PrincipalKind;

/// The members of a testbed, made once.
pub(crate) struct Members {
    pub(crate) authority: AuthorityKey,
    pub(crate) owner: Identity,
    pub(crate) router: Identity,
}

pub(crate) fn members() -> &'static Members {
    static MEMBERS: OnceLock<Members> = OnceLock::new();
    MEMBERS.get_or_init(|| {
        let authority = AuthorityKey::generate("fuzz").expect("random bytes");
        let validity = Validity { not_before_s: 0, not_after_s: u64::MAX };
        let owner = Subject::Owner(parse_principal("192.0.2.1/24").expect("a principal"));
        let router = Subject::Router { name: "edge-1".to_owned(), addrs: vec![Addr::V4(1), Addr::V6(2)] };
        let owner = authority.issue_identity(owner, validity).expect("an identity");
        let router = authority.issue_identity(router, validity).expect("an identity");
        Members { authority, owner, router }
    })
}

fn quote() -> Quote {
    let Members { owner, router, .. } = members();
    let terms = QuoteTerms {
        principal: owner.principal().expect("an owner"),
        class: Class::Header,
        complexity: 100,
        packet_rate: 10_000,
        state_bytes: 0,
        lifetime_s: 3600,
        price: 12,
        expiry_s: 2_000_000_000,
        nonce: [6; 16],
    };
    Quote::sign(terms, router)
}

/// Requests of every kind.
pub(crate) fn requests() -> Vec<Request> {
    let Members { authority, owner, router } = members();
    let credit = CreditTerms {
        serial: [1; 16],
        amount: 1 << 40,
        router: router.public(),
        account: owner.public(),
        expiry_s: 2_000_000_000,
    };
    let credit = Credit::sign(credit, &BankKey::generate("mint").expect("random bytes"));
    let revoked = RevocationList::sign(7, 1_999_999_000, vec![owner.public(), router.public()], authority);
    let upload = |proof: Option<Vec<u8>>| {
        let terms = Terms {
            router: router.public(),
            policy_id: [1; 32],
            lemma_root: [8; 32],
            program: vec![2; 40],
            proof: proof.clone(),
            principal: owner.principal().expect("an owner"),
            class: Class::Header,
            complexity: 100,
            cost: 1 << 40,
            lifetime_s: 3600,
            packet_rate: 10_000,
            payment: 12,
            quote: proof.is_none().then(|| Box::new(quote())),
            monitor: proof.is_none(),
            nonce: [3; 16],
            expiry_s: 2_000_000_000,
        };
        Request::Upload(Box::new(Upload::sign(terms, owner)))
    };
    vec![
        Request::GetPolicy { kind: PrincipalKind::EndUser },
        Request::GetPolicy { kind: PrincipalKind::EdgeRouter },
        upload(Some(vec![4; 20])),
        upload(None),
        Request::List,
        Request::Show { instance: 77 },
        Request::Withdraw(Withdraw::sign(router.public(), 77, [5; 16], 2_000_000_000, owner)),
        Request::AddLemma(NewLemma { lemma: vec![7; 30], proof: vec![9; 50] }),
        Request::Quote(QuoteAsk {
            class: Class::Content,
            complexity: 1000,
            packet_rate: 500,
            state_bytes: 1 << 20,
            lifetime_s: 60,
        }),
        Request::Deposit(Box::new(credit)),
        Request::Balance,
        Request::Receipts { after: 1 << 20 },
        Request::Renew(Renew::sign(router.public(), 77, 12, [5; 16], 2_000_000_000, owner)),
        Request::ReachMe { port: 7402, padding: vec![0; REACH_DATAGRAM_BYTES] },
        Request::Reached(ReachAnswer::sign(&router.public(), &owner.principal().expect("an owner"), [4; 32], owner)),
        Request::Events { after: 3 },
        Request::Part(Box::new(Part { object: [8; 32], len: 1000, offset: 960, bytes: vec![1; 40] })),
        Request::UploadObject { object: [8; 32] },
        Request::Directory,
        Request::Revoke(Box::new(revoked.expect("two keys"))),
    ]
}

/// Replies of every kind.
pub(crate) fn replies() -> Vec<Reply> {
    let Members { authority, owner, router } = members();
    let status = ProgramStatus {
        instance: 77,
        program_id: [6; 32],
        class: Class::Content,
        complexity: 1000,
        cost: 1 << 33,
        packet_rate: 500,
        seconds_left: 59,
        packets_seen: 1 << 20,
        bytes_seen: 1 << 30,
        packets_discarded: 3,
        bytes_discarded: 300,
        packets_over_budget: 0,
        monitor: true,
    };
    let installed = Installed {
        instance: 77,
        program_id: [6; 32],
        principal: owner.principal().expect("an owner"),
        policy_id: [1; 32],
        class: Class::Content,
        complexity: 1000,
        cost: 1 << 33,
        packet_rate: 500,
        installed_s: 1_999_999_000,
        ends_s: 1_999_999_059,
        nonce: [3; 16],
        monitor: false,
    };
    let mut head = ChainHead::start(owner.public());
    let subjects = [
        ReceiptSubject::Deposited { serial: [1; 16] },
        ReceiptSubject::Installed(Box::new(installed)),
        ReceiptSubject::Renewed { instance: 77, ends_s: 2_000_000_000, nonce: [2; 16] },
        ReceiptSubject::Checked { nonce: [4; 16] },
        ReceiptSubject::Ended { instance: 77, why: Ending::Expired },
    ];
    let receipts = subjects.map(|subject| {
        let receipt = Receipt::sign(head.next(1_999_999_000, 2, 1 << 20, subject).expect("small amounts"), router);
        head.push(&receipt).expect("the next");
        receipt
    });
    let tariff = Tariff { install: 5, per_teracycle: 300, per_gibibyte_day: 1 << 20, check: 1 };
    let entry = DirectoryEntry {
        prefix: Prefix::new(Addr::V4(10 << 24), 8).expect("a prefix"),
        router_name: "edge-1".to_owned(),
        endpoints: vec![SocketAddr::from(([203, 0, 113, 1], 7400)), SocketAddr::from(([1; 16], 1))],
    };
    let directory = Directory::new(3, 1_999_999_000, vec![entry]).expect("a directory");
    vec![
        Reply::Policy(SignedPolicy::sign(crate::policy::end_user(), [8; 32], tariff, router)),
        Reply::Receipt(receipts[0].clone()),
        Reply::Receipts(receipts.to_vec()),
        Reply::Quote(quote()),
        Reply::Balance { balance: 1 << 40, held: 3, receipts: 5 },
        Reply::ReachSent,
        Reply::Reached { until_s: 2_000_000_000 },
        Reply::Events(vec![Event::new(1, 1_999_999_000, "shut-off", "a source was shut off"); 2]),
        Reply::Part { have: 65_536 },
        Reply::Directory(Box::new(SignedDirectory::sign(directory, authority))),
        Reply::Revocations { number: 7 },
        Reply::List(vec![status.clone(); 3]),
        Reply::List(Vec::new()),
        Reply::Status(status.clone()),
        Reply::Withdrawn(status),
        Reply::Lemma(LemmaPlace { index: 300, root: [8; 32] }),
        Reply::Rejected(Rejection::new("not-proven", "obligation 3 is not shown", Some(3))),
        Reply::Rejected(Rejection::new("expired", "too late", None)),
    ]
}

/// Requests, replies and certificates. The first byte says which.
#[must_use]
pub fn corpus() -> Vec<Vec<u8>> {
    let tagged = |tag: u8, bytes: Vec<u8>| [&[tag], &bytes[..]].concat();
    let Members { owner, router, .. } = members();
    let requests = requests().into_iter().map(|request| tagged(0, encode_request(1, &request)));
    let replies = replies().into_iter().map(|reply| tagged(1, encode_reply(300, &reply)));
    let certificates = [owner, router].into_iter().map(|identity| tagged(2, identity.certificate().encode()));
    requests.chain(replies).chain(certificates).collect()
}

/// Decodes `data` as one of the three.
///
/// # Panics
/// Where something misbehaves.
pub fn target(data: &[u8]) -> bool {
    let Some((&tag, bytes)) = data.split_first() else { return false };
    match tag {
        0 => {
            let Ok((id, request)) = decode_request(bytes) else { return false };
            assert_eq!(encode_request(id, &request), bytes, "two encodings of one request");
        }
        1 => {
            let Ok((id, reply)) = decode_reply(bytes) else { return false };
            assert_eq!(encode_reply(id, &reply), bytes, "two encodings of one reply");
        }
        _ => {
            let Ok(certificate) = Certificate::decode(bytes) else { return false };
            assert_eq!(certificate.encode(), bytes, "two encodings of one certificate");
            let good =
                [&members().owner, &members().router].iter().any(|identity| *identity.certificate() == certificate);
            let authority = members().authority.authority();
            let stands = authority.owner(&certificate, 1).is_ok() || authority.router(&certificate, 1).is_ok();
            assert_eq!(stands, good, "only what the authority signed stands");
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_are_read_in_one_way_or_refused() {
        crate::run("message", &super::corpus(), 60_000, super::target);
    }
}
