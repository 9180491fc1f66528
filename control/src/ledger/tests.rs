use super::bank::{Deposit, DepositError};
use super::*;
use crate::capacity::{Budget, load};
use vinet_session::identity::{AuthorityKey, RouterPeer, Subject, Validity};
use vinet_session::payment::{BankKey, Credit, CreditTerms};
use vinet_session::receipt::{Ending, verify_chain};

const NOW_S: u64 = 1_800_000_000;
const LINE: Line = Line(3);

/// A small generator (splitmix64), from a printed seed.
struct Random(u64);

impl Random {
    fn seeded() -> Random {
        let seed = std::env::var("VINET_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| ahash::RandomState::new().hash_one(std::time::Instant::now()));
        println!("VINET_TEST_SEED={seed}");
        Random(seed)
    }
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn key(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

fn router() -> (Identity, RouterPeer) {
    let authority = AuthorityKey::generate("bench").unwrap();
    let subject = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
    let identity = authority.issue_identity(subject, Validity::starting(NOW_S - 10, 1 << 30)).unwrap();
    let peer = authority.authority().router(identity.certificate(), NOW_S).unwrap();
    (identity, peer)
}

fn credit(bank: &BankKey, router: &Identity, account: PublicKey, serial: u8, amount: u64) -> Credit {
    let terms = CreditTerms { serial: [serial; 16], amount, router: router.public(), account, expiry_s: NOW_S + 60 };
    Credit::sign(terms, bank)
}

#[test]
fn credits_go_from_the_bank_over_an_account_to_the_revenue() {
    let mut ledger = Ledger::new();
    let account = key(1);
    let _ = ledger.pay_in(&account, 100).unwrap();
    assert_eq!(ledger.hold(&account, 101), Err(LedgerError::NotEnough { needed: 101, balance: 100, held: 0 }));
    let hold = ledger.hold(&account, 60).unwrap();
    assert_eq!(ledger.balance(&account), Balance { free: 40, held: 60, receipts: 0 });
    let short = ledger.hold(&account, 41).unwrap_err();
    assert_eq!(short, LedgerError::NotEnough { needed: 41, balance: 40, held: 60 });
    assert!(short.to_string().contains("and 60 reserved"), "{short}");
    let entry = ledger.capture(hold);
    assert_eq!((entry.change_of(&account), ledger.books().escrow), (-60, 60));
    // A third of its time is left.
    let entry = ledger.refund(&account, LINE, 60, 90, 30);
    assert_eq!((entry.given_back(), entry.cause()), (20, Cause::Refund));
    let hold = ledger.hold(&account, 10).unwrap();
    ledger.release(hold);
    assert_eq!(ledger.fee(&account, 7).unwrap().change_of(&account), -7);
    assert_eq!(ledger.balance(&account), Balance { free: 53, held: 0, receipts: 0 });
    let books = ledger.books();
    assert_eq!((books.issued, books.escrow, books.refunded), (100, 0, 20));
    assert_eq!(books.revenue, [(LINE, 40), (Line::CHECKS, 7)].into());
    assert_eq!((ledger.audit(), ledger.audit_escrow(0)), (Ok(()), Ok(())));
    assert_eq!(ledger.audit_escrow(1), Err(AuditFault::Escrow { book: 0, programs: 1 }));
}

#[test]
fn a_fee_takes_no_more_than_there_is() {
    let mut ledger = Ledger::new();
    assert_eq!(ledger.fee(&key(1), 5), None);
    let _ = ledger.pay_in(&key(1), 3).unwrap();
    let hold = ledger.hold(&key(1), 1).unwrap();
    assert_eq!(ledger.fee(&key(1), 5).unwrap().change_of(&key(1)), -2);
    assert_eq!(ledger.fee(&key(1), 5), None);
    ledger.release(hold);
    assert_eq!(ledger.balance(&key(1)).free, 1);
    ledger.audit().unwrap();
}

#[test]
fn refunds_are_pro_rata_rounded_down_and_never_more_than_was_paid() {
    assert_eq!(pro_rata(10, 3, 1), 3);
    assert_eq!(pro_rata(10, 3, 3), 10);
    assert_eq!(pro_rata(10, 3, 4), 10, "more is left than there was");
    assert_eq!((pro_rata(10, 3, 0), pro_rata(10, 0, 5)), (0, 0));
    assert_eq!(pro_rata(u64::MAX, u64::MAX, u64::MAX - 1), u64::MAX - 1);
}

#[test]
fn amounts_at_the_edge_of_64_bits_are_refused_or_exact() {
    let mut ledger = Ledger::new();
    let _ = ledger.pay_in(&key(1), u64::MAX - 1).unwrap();
    assert_eq!(ledger.pay_in(&key(2), 2), Err(LedgerError::TooMuch));
    assert_eq!(ledger.len(), 1, "a refused credit leaves no account");
    let _ = ledger.pay_in(&key(2), 1).unwrap();
    let hold = ledger.hold(&key(1), u64::MAX - 1).unwrap();
    let _ = ledger.capture(hold);
    let _ = ledger.refund(&key(1), LINE, u64::MAX - 1, 1, 1);
    // The statistic stops at the largest number; the books do not.
    let hold = ledger.hold(&key(1), u64::MAX - 1).unwrap();
    let _ = ledger.capture(hold);
    let _ = ledger.refund(&key(1), LINE, u64::MAX - 1, 1, 1);
    assert_eq!((ledger.books().refunded, ledger.balance(&key(1)).free), (u64::MAX, u64::MAX - 1));
    ledger.audit().unwrap();
}

#[test]
fn strangers_without_money_or_receipts_leave_no_accounts() {
    let (identity, _) = router();
    let mut ledger = Ledger::new();
    let hold = ledger.hold(&key(1), 0).unwrap();
    ledger.release(hold);
    assert!(ledger.is_empty());
    let hold = ledger.hold(&key(1), 0).unwrap();
    let entry = ledger.capture(hold);
    assert_eq!(entry.postings().count(), 0);
    let subject = ReceiptSubject::Ended { instance: 1, why: Ending::Expired };
    let receipt = ledger.receipt(&key(1), NOW_S, &[&entry], subject, &identity);
    assert_eq!((receipt.terms().paid, ledger.len()), (0, 1), "a free program's receipt is part of a chain");
}

#[test]
fn receipts_make_a_chain_that_the_client_verifies() {
    let (identity, peer) = router();
    let mut ledger = Ledger::new();
    let bank = BankKey::generate("bank").unwrap();
    let account = key(1);
    let deposit = ledger.deposit(&credit(&bank, &identity, account, 1, 100), &bank.bank(), &account, &identity, NOW_S);
    let Ok(Deposit::Taken(taken)) = deposit else { panic!("{deposit:?}") };
    // Another request of the same account is under way: its hold is part of the balance that receipts tell.
    let waiting = ledger.hold(&account, 5).unwrap();
    let hold = ledger.hold(&account, 60).unwrap();
    let entry = ledger.capture(hold);
    let subject = ReceiptSubject::Ended { instance: 1, why: Ending::Withdrawn };
    let second = ledger.receipt(&account, NOW_S, &[&entry], subject.clone(), &identity);
    assert_eq!((second.terms().paid, second.terms().given_back, second.terms().balance), (60, 0, 40));
    // A renewal gives back what is left and takes the new price, in one receipt.
    let back = ledger.refund(&account, LINE, 60, 60, 59);
    let hold = ledger.hold(&account, 60).unwrap();
    let paid = ledger.capture(hold);
    let third = ledger.receipt(&account, NOW_S, &[&back, &paid], subject, &identity);
    assert_eq!((third.terms().paid, third.terms().given_back, third.terms().balance), (60, 59, 39));
    verify_chain(&[taken.receipt, second, third], &peer).unwrap();
    ledger.release(waiting);
    assert_eq!(ledger.balance(&account), Balance { free: 39, held: 0, receipts: 3 });
}

#[test]
fn a_credit_counts_once_here_and_for_its_owner() {
    let (identity, _) = router();
    let (other, _) = router();
    let (key_of_bank, stranger) = (BankKey::generate("bank").unwrap(), BankKey::generate("bank").unwrap());
    let bank = key_of_bank.bank();
    let mut ledger = Ledger::new();
    let good = credit(&key_of_bank, &identity, key(1), 1, 100);
    let mut pay = |credit: &Credit, account, now_s| ledger.deposit(credit, &bank, &key(account), &identity, now_s);
    let code = |deposit: Result<Deposit, DepositError>| deposit.unwrap_err().code();
    assert_eq!(code(pay(&credit(&stranger, &identity, key(1), 1, 100), 1, NOW_S)), "credit-forged");
    assert_eq!(code(pay(&credit(&key_of_bank, &other, key(1), 1, 100), 1, NOW_S)), "credit-elsewhere");
    assert_eq!(code(pay(&good, 2, NOW_S)), "credit-not-yours");
    assert_eq!(code(pay(&good, 1, NOW_S + 61)), "credit-expired");
    assert!(matches!(pay(&good, 1, NOW_S + 60), Ok(Deposit::Taken(_))));
    // Again, as often as one likes, even late: the same receipt, and nothing moves.
    for now_s in [NOW_S, NOW_S + 60, NOW_S + 61] {
        assert_eq!(pay(&good, 1, now_s), Ok(Deposit::Again { receipt: 1 }));
    }
    assert_eq!(code(pay(&good, 2, NOW_S)), "credit-not-yours");
    let twice = pay(&credit(&key_of_bank, &identity, key(1), 1, 101), 1, NOW_S);
    assert!(twice.as_ref().unwrap_err().to_string().contains(&"01".repeat(16)), "{twice:?}");
    assert_eq!(code(twice), "credit-spent");
    let huge = pay(&credit(&key_of_bank, &identity, key(1), 2, u64::MAX), 1, NOW_S);
    assert_eq!(code(huge), "credit-too-large");
    assert_eq!((ledger.balance(&key(1)).free, ledger.books().issued), (100, 100));
}

#[test]
fn a_forgotten_credit_stays_void_when_the_clock_goes_back() {
    let (identity, _) = router();
    let bank = BankKey::generate("bank").unwrap();
    let mut ledger = Ledger::new();
    let old = credit(&bank, &identity, key(1), 1, 100);
    let pay = |ledger: &mut Ledger| ledger.deposit(&old, &bank.bank(), &key(1), &identity, NOW_S);
    assert!(pay(&mut ledger).is_ok());
    assert_eq!(ledger.prune(NOW_S + 60, 9), 0, "its last second has not passed");
    assert_eq!((ledger.prune(NOW_S + 61, 9), ledger.credits()), (1, 0));
    assert_eq!(pay(&mut ledger).unwrap_err().code(), "credit-expired");
    // So it is after a start, where the store kept the second.
    let books = ledger.books().clone();
    let record = AccountRecord { key: key(1), balance: 100, receipts: 1, last: [0; 32] };
    let mut again = Ledger::restore(books, [record], [], NOW_S + 61).unwrap();
    assert_eq!(pay(&mut again).unwrap_err().code(), "credit-expired");
}

#[test]
fn records_that_do_not_balance_are_no_ledger() {
    let books = Books { issued: 10, ..Books::default() };
    let record = AccountRecord { key: key(1), balance: 9, receipts: 0, last: [0; 32] };
    assert_eq!(Ledger::restore(books, [record], [], 0).unwrap_err(), AuditFault::Sum { issued: 10, found: 9 });
}

#[test]
fn the_report_tells_where_the_credits_are() {
    let mut ledger = Ledger::new();
    for number in 1..=20 {
        let _ = ledger.pay_in(&key(number), u64::from(number) * 10).unwrap();
    }
    let hold = ledger.hold(&key(20), 150).unwrap();
    let paid = ledger.hold(&key(19), 100).unwrap();
    let _ = ledger.capture(paid);
    let _ = ledger.refund(&key(19), LINE, 100, 100, 25);
    let report = ledger.report(3, |line| format!("line-{}", line.0));
    assert_eq!((report.issued, report.free, report.held, report.open_holds), (2_100, 1_875, 150, 1));
    assert_eq!((report.escrow, report.revenue, report.refunded, report.accounts), (0, 75, 25, 20));
    assert_eq!(report.revenue_by_class, [RevenueLine { class: "line-3".into(), credits: 75 }]);
    let top: Vec<u64> = report.top_accounts.iter().map(|line| line.free + line.held).collect();
    assert_eq!(top, [200, 180, 170]);
    assert_eq!(report.fault, None);
    assert!(serde_json::to_string(&report).unwrap().contains("\"revenue_by_class\":[{\"class\":\"line-3\""));
    ledger.release(hold);
}

/// What a program of the random tests paid, for how long.
struct Running {
    account: PublicKey,
    paid: u64,
    of_s: u64,
}

#[test]
fn a_hundred_thousand_random_steps_leave_the_books_balanced() {
    let mut random = Random::seeded();
    let mut ledger = Ledger::new();
    let (mut holds, mut running): (Vec<MoneyHold>, Vec<Running>) = (Vec::new(), Vec::new());
    let mut total = 0i128;
    for step in 0..100_000 {
        let account = key(random.below(40) as u8);
        let entry = match random.below(6) {
            0 => {
                let amount = random.below(1_000);
                ledger.pay_in(&account, amount).ok()
            }
            1 => {
                holds.extend(ledger.hold(&account, random.below(300)));
                None
            }
            2 if !holds.is_empty() => {
                let hold = holds.swap_remove(random.below(holds.len() as u64) as usize);
                running.push(Running { account: *hold.account(), paid: hold.amount(), of_s: random.below(100) });
                Some(ledger.capture(hold))
            }
            3 if !holds.is_empty() => {
                ledger.release(holds.swap_remove(random.below(holds.len() as u64) as usize));
                None
            }
            4 if !running.is_empty() => {
                let Running { account, paid, of_s } = running.swap_remove(random.below(running.len() as u64) as usize);
                let entry = ledger.refund(&account, LINE, paid, of_s, random.below(120));
                assert!(entry.given_back() <= paid);
                Some(entry)
            }
            _ => ledger.fee(&account, random.below(50)),
        };
        total += entry.iter().flat_map(Entry::postings).map(|posting| posting.change).sum::<i128>();
        if step % 500 == 0 {
            assert_eq!(total, 0, "all postings of all time sum to zero");
            ledger.audit().unwrap();
            ledger.audit_escrow(running.iter().map(|program| u128::from(program.paid)).sum()).unwrap();
            assert_eq!(ledger.open_holds(), (holds.len(), holds.iter().map(MoneyHold::amount).sum()));
        }
    }
}

#[test]
fn a_million_installs_and_ends_at_random_give_money_and_capacity_back_exactly() {
    const CYCLES: u64 = 500_000;
    const PAID_IN: u64 = 480_000;
    let mut random = Random::seeded();
    let mut ledger = Ledger::new();
    let mut budget = Budget::new(CYCLES, CYCLES);
    let account = key(1);
    let _ = ledger.pay_in(&account, PAID_IN).unwrap();
    let mut running = Vec::new();
    let (mut no_capacity, mut no_money) = (0, 0);
    for _ in 0..1_000_000 {
        if random.below(5) < 3 {
            let (rate, price) = (random.below(5_000) as u32, random.below(5_000));
            let Ok(share) = budget.take(load(1, rate, u64::from(rate) / 3, 2), None) else {
                no_capacity += 1;
                continue;
            };
            match ledger.hold(&account, price) {
                Err(_) => {
                    no_money += 1;
                    budget.release(share);
                }
                // Some fail after the hold: the table, the disk.
                Ok(hold) if random.below(8) == 0 => {
                    ledger.release(hold);
                    budget.release(share);
                }
                Ok(hold) => {
                    let _ = ledger.capture(hold);
                    running.push((share, price));
                }
            }
        } else if !running.is_empty() {
            let (share, price) = running.swap_remove(random.below(running.len() as u64) as usize);
            budget.release(share);
            // All of its time is left, so all of its price comes back.
            let _ = ledger.refund(&account, LINE, price, 60, 60);
        }
    }
    for (share, price) in running {
        budget.release(share);
        let _ = ledger.refund(&account, LINE, price, 60, 60);
    }
    assert!(no_capacity > 0 && no_money > 0, "the test reached both limits");
    assert_eq!((budget.cycles_per_second(), budget.memory_bytes()), (0, 0));
    assert_eq!(ledger.balance(&account), Balance { free: PAID_IN, held: 0, receipts: 0 });
    assert_eq!((ledger.open_holds(), ledger.books().escrow), ((0, 0), 0));
    ledger.audit().unwrap();
}

#[test]
fn holds_of_nothing_leave_no_account_behind() {
    let mut ledger = Ledger::new();
    let holds = [(); 3].map(|()| ledger.hold(&key(1), 0).unwrap());
    assert_eq!(ledger.len(), 1);
    holds.into_iter().for_each(|hold| ledger.release(hold));
    assert_eq!((ledger.len(), ledger.open_holds()), (0, (0, 0)));
}
