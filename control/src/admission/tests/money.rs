//! Programs that cost something: holds, prices, charges, refunds, renewals, quotas.

use super::*;
use vinet_session::message::{QuoteAsk, Renew};

/// An installation costs 10, a rejected check 4.
const TARIFF: Tariff = Tariff { install: 10, per_teracycle: 0, per_gibibyte_day: 0, check: 4 };

fn paying() -> Bench {
    Bench::with(Deal { tariff: TARIFF, ..Deal::default() })
}

impl Bench {
    fn credit(&self, user: &User, serial: u8, amount: u64) -> Credit {
        let terms = CreditTerms {
            serial: [serial; 16],
            amount,
            router: self.admission.router,
            account: user.ownership.key(),
            expiry_s: NOW.wall_s + 1_000,
        };
        Credit::sign(terms, &self.bank)
    }
    fn deposit(&mut self, user: &User, serial: u8, amount: u64) -> Reply {
        let credit = self.credit(user, serial, amount);
        match self.admission.deposit(&credit, &user.ownership, NOW) {
            Ok(outcome) => self.settle(outcome).unwrap(),
            Err(answer) => self.again(user, answer),
        }
    }
    /// What can be spent, and what is held.
    fn balance(&self, user: &User) -> (u64, u64) {
        match self.admission.balance(&user.ownership.key()) {
            Reply::Balance { balance, held, .. } => (balance, held),
            other => panic!("{other:?}"),
        }
    }
    fn firewall(&self, user: &User, payment: u64) -> Terms {
        Terms { payment, ..self.terms(user, &firewall(&[prefix("192.0.2.66/32")], 100), NOW) }
    }
    fn renew(&mut self, user: &User, instance: u64, payment: u64, now: Now) -> Reply {
        let (router, nonce) = (self.admission.router, fresh_nonce().unwrap());
        let renew = Renew::sign(router, instance, payment, nonce, now.wall_s + 60, &user.identity);
        match self.admission.open_renew(&renew, &user.ownership, now) {
            Ok((claim, open)) => {
                let outcome = self.admission.renew(open, claim.verify().map_err(Rejection::from), now);
                self.settle(outcome).unwrap()
            }
            Err(Ok(answer)) => self.again(user, answer),
            Err(Err(why)) => Reply::Rejected(why),
        }
    }
    /// The whole chain of an owner, which has to be one.
    fn chain(&mut self, user: &User) -> Vec<(u64, u64, u64)> {
        let receipts = self.receipts(user, 0);
        let router = self.authority.router(self.admission.identity.certificate(), NOW.wall_s).unwrap();
        assert_eq!(receipt::verify_chain(&receipts, &router), Ok(()));
        receipts.iter().map(|receipt| receipt.terms()).map(|t| (t.paid, t.given_back, t.balance)).collect()
    }
}

#[test]
fn a_program_is_paid_when_it_is_installed_and_what_is_left_goes_back() {
    let mut bench = paying();
    let user = bench.user("198.51.100.7");
    let first = bench.deposit(&user, 1, 50);
    assert_eq!(bench.deposit(&user, 1, 50), first, "the same credit, the same receipt");
    let number = instance(&bench.upload(&user, bench.firewall(&user, 20), NOW));
    assert_eq!(bench.balance(&user), (30, 0));
    // A quarter of its time has passed.
    assert!(matches!(bench.withdraw(&user, number, later(25)), Reply::Withdrawn(_)));
    assert_eq!(bench.balance(&user), (45, 0));
    assert_eq!(bench.chain(&user), [(0, 50, 50), (20, 0, 30), (0, 15, 45)]);
    assert_eq!(bench.admission.ledger().books().escrow, 0);
    assert_eq!(bench.state(), EMPTY);
    // One that runs to its end is earned.
    instance(&bench.upload(&user, bench.firewall(&user, 10), NOW));
    assert_eq!(bench.expire(later(100)).len(), 1);
    assert_eq!((bench.balance(&user), bench.admission.ledger().books().revenue_total()), ((35, 0), 15));
}

#[test]
fn money_is_held_while_an_upload_is_checked_and_nobody_spends_it_twice() {
    let mut bench = paying();
    let user = bench.user("198.51.100.7");
    assert_eq!(code(&bench.rejected_at_once(&user, &bench.firewall(&user, 10))), "no-money");
    bench.deposit(&user, 1, 25);
    let [one, two, three] = [(); 3].map(|()| bench.firewall(&user, 10));
    let Opened::Judge { case: first, .. } = bench.open(&user, &one, NOW) else { panic!() };
    let Opened::Judge { case: second, .. } = bench.open(&user, &two, NOW) else { panic!() };
    assert_eq!(bench.balance(&user), (5, 20));
    assert_eq!(code(&bench.rejected_at_once(&user, &three)), "no-money");
    for case in [first, second] {
        let outcome = bench.admission.drop_case(*case, rejected("busy", "later"));
        bench.settle(outcome);
    }
    assert_eq!((bench.balance(&user), bench.state()), ((25, 0), EMPTY));
    // What was refused for want of money is good when there is some.
    instance(&bench.upload(&user, three, NOW));
}

#[test]
fn who_pays_too_little_is_told_the_price_and_who_lies_pays_for_the_check() {
    let mut bench = paying();
    let user = bench.user("198.51.100.7");
    bench.deposit(&user, 1, 15);
    let reply = bench.upload(&user, bench.firewall(&user, 9), NOW);
    assert_eq!((code(&reply), text(&reply).contains("10 credits")), ("price", true), "{reply:?}");
    assert_eq!(bench.balance(&user), (15, 0), "the proof was right");
    let honest = bench.firewall(&user, 10);
    let lie = Terms { complexity: honest.complexity + 1, ..honest.clone() };
    let reply = bench.upload(&user, lie.clone(), NOW);
    assert_eq!(code(&reply), "complexity-differs");
    assert_eq!(bench.balance(&user), (11, 0));
    // Its copy is answered and not charged again.
    assert_eq!(bench.upload(&user, lie, NOW), reply);
    let bomb = Terms { proof: Some(vec![7; 100]), nonce: [9; 16], ..honest.clone() };
    assert!(matches!(bench.upload(&user, bomb, NOW), Reply::Rejected(_)));
    assert_eq!(bench.balance(&user), (7, 0));
    assert_eq!(bench.chain(&user), [(0, 15, 15), (4, 0, 11), (4, 0, 7)]);
    // Less than a check costs, so nothing is checked.
    assert_eq!(code(&bench.rejected_at_once(&user, &Terms { payment: 8, nonce: [8; 16], ..honest })), "no-money");
    bench.deposit(&user, 2, 1);
    assert_eq!(bench.state(), EMPTY);
}

#[test]
fn where_checks_cost_nothing_an_owner_has_only_so_many_rejected() {
    let mut bench = Bench::new();
    let (user, other) = (bench.user("198.51.100.7"), bench.user("198.51.100.8"));
    let bomb = |bench: &Bench, user: &User| Terms { proof: Some(vec![7; 100]), ..bench.firewall(user, 0) };
    for _ in 0..REJECTED_CHECKS.burst {
        assert_ne!(code(&bench.upload(&user, bomb(&bench, &user), NOW)), "too-many-rejected");
    }
    assert_eq!(code(&bench.rejected_at_once(&user, &bench.firewall(&user, 0))), "too-many-rejected");
    instance(&bench.upload(&other, bench.firewall(&other, 0), NOW));
    instance(&bench.upload(&user, bench.terms(&user, &firewall(&[prefix("192.0.2.66/32")], 60), later(1)), later(1)));
}

#[test]
fn a_credit_counts_once_here_for_its_owner_and_in_its_time() {
    let mut bench = paying();
    let (user, thief) = (bench.user("198.51.100.7"), bench.user("198.51.100.8"));
    let credit = bench.credit(&user, 1, 50);
    let mut bring = |credit: &Credit, by: &User, now: Now| {
        let outcome = bench.admission.deposit(credit, &by.ownership, now);
        match outcome {
            Ok(outcome) => bench.settle(outcome).unwrap(),
            Err(answer) => bench.again(by, answer),
        }
    };
    assert!(matches!(bring(&credit, &thief, NOW), Reply::Rejected(_)));
    let first = bring(&credit, &user, NOW);
    assert!(matches!(first, Reply::Receipt(_)), "{first:?}");
    assert_eq!(bring(&credit, &user, later(2_000)), first, "after its time too");
    let terms = credit.terms().clone();
    let other_bank = BankKey::generate("bank").unwrap();
    let forged = Credit::sign(CreditTerms { serial: [2; 16], ..terms.clone() }, &other_bank);
    let elsewhere = CreditTerms { serial: [3; 16], router: user.ownership.key(), ..terms.clone() };
    let twin = CreditTerms { amount: 70, ..terms.clone() };
    let late = CreditTerms { serial: [4; 16], expiry_s: NOW.wall_s - 1, ..terms };
    let sign = |bench: &Bench, terms| Credit::sign(terms, &bench.bank);
    for (credit, expected) in [
        (forged, "credit-forged"),
        (sign(&bench, elsewhere), "credit-elsewhere"),
        (sign(&bench, twin), "credit-spent"),
        (sign(&bench, late), "credit-expired"),
    ] {
        let outcome = bench.admission.deposit(&credit, &user.ownership, NOW).unwrap();
        assert_eq!(code(&bench.settle(outcome).unwrap()), expected);
    }
    assert_eq!((bench.balance(&user), bench.balance(&thief)), ((50, 0), (0, 0)));
}

#[test]
fn a_renewal_begins_the_time_anew_and_gives_the_rest_of_the_old_back() {
    let mut bench = paying();
    let user = bench.user("198.51.100.7");
    bench.deposit(&user, 1, 100);
    let number = instance(&bench.upload(&user, bench.firewall(&user, 40), NOW));
    assert_eq!(code(&bench.renew(&user, number, 9, later(50))), "price");
    assert_eq!(code(&bench.renew(&user, number, 61, later(50))), "no-money");
    let reply = bench.renew(&user, number, 30, later(50));
    let Reply::Receipt(receipt) = &reply else { panic!("{reply:?}") };
    let terms = receipt.terms();
    assert_eq!((terms.paid, terms.given_back, terms.balance), (30, 20, 50));
    let ReceiptSubject::Renewed { instance, ends_s, .. } = terms.subject else { panic!("{terms:?}") };
    assert_eq!((instance, ends_s), (number, NOW.wall_s + 150));
    // Its old end passes; half of the new time is left.
    assert!(bench.expire(later(101)).is_empty());
    assert!(matches!(bench.withdraw(&user, number, later(100)), Reply::Withdrawn(status) if status.seconds_left == 50));
    assert_eq!((bench.balance(&user), bench.state()), ((65, 0), EMPTY));
    assert_eq!(code(&bench.renew(&user, number, 30, later(100))), "not-found");
    assert_eq!(bench.chain(&user).last(), Some(&(0, 15, 65)));
}

#[test]
fn a_quote_fixes_the_price_for_what_it_names() {
    let mut bench = Bench::with(Deal { tariff: Tariff { per_teracycle: 1 << 40, ..TARIFF }, ..Deal::default() });
    let user = bench.user("198.51.100.7");
    bench.deposit(&user, 1, u64::MAX);
    let terms = bench.firewall(&user, 0);
    let ask = QuoteAsk {
        class: terms.class,
        complexity: terms.complexity,
        packet_rate: terms.packet_rate,
        state_bytes: 0,
        lifetime_s: terms.lifetime_s,
    };
    let Reply::Quote(quote) = bench.admission.quote(&ask, &user.ownership, NOW) else { panic!("no quote") };
    let price = quote.terms().price;
    assert!(price > 10);
    let quoted = Terms { quote: Some(Box::new(quote)), payment: price, ..terms.clone() };
    assert_eq!(code(&bench.upload(&user, Terms { payment: price - 1, ..quoted.clone() }, NOW)), "price");
    let other_rate = Terms { packet_rate: terms.packet_rate + 1, nonce: [1; 16], ..quoted.clone() };
    assert_eq!(code(&bench.upload(&user, other_rate, NOW)), "quote-differs");
    let late = Terms { nonce: [2; 16], expiry_s: NOW.wall_s + 660, ..quoted.clone() };
    assert_eq!(code(&bench.upload(&user, late, later(601))), "quote-expired");
    instance(&bench.upload(&user, Terms { nonce: [3; 16], ..quoted }, NOW));
    instance(&bench.upload(&user, Terms { payment: price, nonce: [4; 16], ..terms }, NOW));
}

#[test]
fn many_keys_of_one_owner_have_one_quota() {
    let mut bench = Bench::with(Deal { quota: 2, ..Deal::default() });
    let keys = [(); 3].map(|()| bench.user("198.51.100.7"));
    for user in &keys {
        instance(&bench.upload(user, bench.firewall(user, 0), NOW));
    }
    let others = ["198.51.100.8", "198.51.100.9"].map(|address| bench.user(address));
    instance(&bench.upload(&others[0], bench.firewall(&others[0], 0), NOW));
    let late = bench.firewall(&others[1], 0);
    let reply = bench.upload(&others[1], late.clone(), NOW);
    assert_eq!((code(&reply), text(&reply).contains("2 owners")), ("quota", true), "{reply:?}");
    // A quota is not about the upload: the very same is good when a place is free.
    assert!(matches!(bench.withdraw(&others[0], 4, NOW), Reply::Withdrawn(_)));
    instance(&bench.upload(&others[1], late, NOW));
}

#[test]
fn what_the_store_cannot_keep_leaves_no_trace() {
    let mut bench = paying();
    let user = bench.user("198.51.100.7");
    bench.deposit(&user, 1, 50);
    let decided = bench.decide(&user, bench.firewall(&user, 20), NOW).unwrap();
    assert_eq!(bench.balance(&user), (30, 0));
    let reply = bench.admission.undo(decided, rejected("store", "the disk is full"));
    assert_eq!((code(&reply), bench.balance(&user), bench.state()), ("store", (50, 0), EMPTY));
    assert_eq!(bench.admission.ledger().books().escrow, 0);
}

#[test]
fn the_programs_of_a_revoked_key_end_and_their_rest_goes_back() {
    let mut bench = paying();
    let (user, other) = (bench.user("198.51.100.7"), bench.user("198.51.100.8"));
    for (user, serial) in [(&user, 1), (&other, 2)] {
        bench.deposit(user, serial, 50);
        instance(&bench.upload(user, bench.firewall(user, 20), NOW));
    }
    bench.admission.revoke(&[user.ownership.key()]);
    assert_eq!(bench.expire(later(50)), [1]);
    assert_eq!((bench.balance(&user), bench.balance(&other)), ((40, 0), (30, 0)));
    let receipts = bench.receipts(&user, 2);
    assert_eq!(receipts[0].terms().subject, ReceiptSubject::Ended { instance: 1, why: Ending::Revoked });
    assert_eq!(bench.admission.decisions().revoked, 1);
}
