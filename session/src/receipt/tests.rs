use super::*;
use crate::identity::parse_principal;
use crate::testing::{NOW_S, Random, Testbed, every_bit, seed};

fn installed() -> Installed {
    Installed {
        instance: 1,
        program_id: [2; 32],
        principal: parse_principal("192.0.2.7").unwrap(),
        policy_id: [3; 32],
        class: Class::Content,
        complexity: 4,
        cost: 5,
        packet_rate: 6,
        installed_s: 7,
        ends_s: 8,
        nonce: [9; 16],
        monitor: false,
    }
}

/// A deposit, an installation, a renewal, a charge, an end.
fn story(testbed: &Testbed) -> Vec<Receipt> {
    let mut head = ChainHead::start(testbed.owner.public());
    let steps = [
        (0, 100, ReceiptSubject::Deposited { serial: [1; 16] }),
        (30, 0, ReceiptSubject::Installed(Box::new(installed()))),
        (10, 0, ReceiptSubject::Renewed { instance: 1, ends_s: 99, nonce: [5; 16] }),
        (1, 0, ReceiptSubject::Checked { nonce: [6; 16] }),
        (0, 7, ReceiptSubject::Ended { instance: 1, why: Ending::Withdrawn }),
    ];
    let sign = |(paid, given_back, subject)| {
        let receipt = Receipt::sign(head.next(NOW_S, paid, given_back, subject).unwrap(), &testbed.router);
        head.push(&receipt).unwrap();
        receipt
    };
    steps.into_iter().map(sign).collect()
}

fn peer(testbed: &Testbed) -> RouterPeer {
    testbed.authority.router(testbed.router.certificate(), NOW_S).unwrap()
}

#[test]
fn a_whole_chain_stands_and_can_be_taken_in_by_parts() {
    let testbed = Testbed::new();
    let (receipts, peer) = (story(&testbed), peer(&testbed));
    assert_eq!(verify_chain(&receipts, &peer), Ok(()));
    assert_eq!(verify_chain(&[], &peer), Ok(()));
    let mut head = ChainHead::start(testbed.owner.public());
    for part in receipts.chunks(2) {
        head.extend(part, &peer).unwrap();
    }
    assert_eq!((head.number, head.balance), (5, 66));
    assert_eq!(head.digest, receipts[4].digest());
}

#[test]
fn what_is_missing_altered_reordered_repeated_or_foreign_is_found() {
    let testbed = Testbed::new();
    let (receipts, peer) = (story(&testbed), peer(&testbed));
    for at in 0..receipts.len() {
        let mut missing = receipts.clone();
        missing.remove(at);
        // The last may be missing: nothing after it tells so.
        assert_eq!(verify_chain(&missing, &peer).is_ok(), at + 1 == receipts.len(), "{at}");
        let mut repeated = receipts.clone();
        repeated.insert(at, receipts[at].clone());
        assert!(matches!(verify_chain(&repeated, &peer), Err(ChainFault::Number { .. })));
        if at > 0 {
            let mut reordered = receipts.clone();
            reordered.swap(at - 1, at);
            assert!(matches!(verify_chain(&reordered, &peer), Err(ChainFault::Number { .. })));
        }
        // The router itself writes other words in the place of one: the next names the one that was there.
        let mut rewritten = receipts.clone();
        let other = ReceiptTerms { at_s: NOW_S + 1, ..receipts[at].terms().clone() };
        rewritten[at] = Receipt::sign(other, &testbed.router);
        let number = at as u64 + 2;
        let expected = if at + 1 == receipts.len() { Ok(()) } else { Err(ChainFault::Previous { number }) };
        assert_eq!(verify_chain(&rewritten, &peer), expected);
        // Who kept the head finds even that.
        let mut head = ChainHead::start(testbed.owner.public());
        head.extend(&receipts[..=at], &peer).unwrap();
        let after = rewritten.get(at + 1..).unwrap_or_default();
        assert!(head.digest != rewritten[at].digest() && (after.is_empty() || head.extend(after, &peer).is_ok()));
    }
    let mut altered = receipts.clone();
    altered[2].terms.paid -= 1;
    assert_eq!(verify_chain(&altered, &peer), Err(ChainFault::Forged { number: 3 }));
    let stranger = Testbed::new();
    let mut foreign = receipts.clone();
    foreign[3] = story(&stranger)[3].clone();
    assert_eq!(verify_chain(&foreign, &peer), Err(ChainFault::Forged { number: 4 }));
    let other = ReceiptTerms { account: stranger.owner.public(), ..receipts[3].terms().clone() };
    foreign[3] = Receipt::sign(other, &testbed.router);
    let found = stranger.owner.public();
    assert_eq!(verify_chain(&foreign, &peer), Err(ChainFault::Foreign { number: 4, found }));
}

#[test]
fn amounts_have_to_add_up() {
    let testbed = Testbed::new();
    let (mut receipts, peer) = (story(&testbed), peer(&testbed));
    let wrong = ReceiptTerms { balance: 67, ..receipts[4].terms().clone() };
    receipts[4] = Receipt::sign(wrong, &testbed.router);
    let fault = ChainFault::Balance { number: 5, expected: Some(66), found: 67 };
    assert_eq!(verify_chain(&receipts, &peer), Err(fault));
    let mut head = ChainHead::start(testbed.owner.public());
    let subject = ReceiptSubject::Deposited { serial: [1; 16] };
    assert_eq!(head.next(0, 1, 0, subject.clone()), None, "more than there is");
    head.balance = u64::MAX;
    assert_eq!(head.next(0, 0, 1, subject.clone()), None, "more than can be written");
    assert_eq!(head.next(0, 1, 1, subject).map(|terms| terms.balance), Some(u64::MAX));
    head.number = u64::MAX;
    assert_eq!(head.next(0, 0, 0, ReceiptSubject::Checked { nonce: [0; 16] }), None);
    assert!(matches!(head.push(&receipts[0]), Err(ChainFault::Number { .. })));
}

#[test]
fn no_bit_of_a_receipt_can_be_changed() {
    let testbed = Testbed::new();
    let peer = peer(&testbed);
    for receipt in story(&testbed) {
        every_bit(&receipt.encode(), |changed| {
            Receipt::decode(changed).is_ok_and(|receipt| receipt.verify(&peer).is_ok())
        });
    }
}

#[test]
fn random_chains_keep_the_balance_that_the_head_tells() {
    let testbed = Testbed::new();
    let seed = seed();
    let mut random = Random::new(seed);
    let mut head = ChainHead::start(testbed.owner.public());
    let mut balance = 0u64;
    for _ in 0..300 {
        let (paid, given_back) = (random.below(50), random.below(50));
        let subject = ReceiptSubject::Checked { nonce: [0; 16] };
        let Some(terms) = head.next(1, paid, given_back, subject) else {
            assert!(balance + given_back < paid, "seed {seed}");
            continue;
        };
        balance = balance + given_back - paid;
        head.push(&Receipt::sign(terms, &testbed.router)).unwrap();
        assert_eq!(head.balance, balance, "seed {seed}");
    }
}
