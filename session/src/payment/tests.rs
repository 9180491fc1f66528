use super::*;
use crate::identity::{Subject, Validity, parse_principal};
use crate::testing::{NOW_S, Random, Testbed, every_bit, seed};

fn credit_terms(testbed: &Testbed) -> CreditTerms {
    CreditTerms {
        serial: [1; 16],
        amount: 500,
        router: testbed.router.public(),
        account: testbed.owner.public(),
        expiry_s: NOW_S + 60,
    }
}

#[test]
fn a_credit_counts_at_one_router_for_one_account_in_its_time() {
    let testbed = Testbed::new();
    let key = BankKey::generate("mint").unwrap();
    let bank = key.bank();
    let (router, account) = (testbed.router.public(), testbed.owner.public());
    let terms = credit_terms(&testbed);
    let credit = Credit::sign(terms.clone(), &key);
    assert_eq!(Credit::decode(&credit.encode()), Ok(credit.clone()));
    assert_eq!(credit.accept(&bank, &router, &account, NOW_S + 60), Ok(&terms));
    let late = credit.accept(&bank, &router, &account, NOW_S + 61);
    assert_eq!(late, Err(CreditFault::Expired { expiry_s: NOW_S + 60, now_s: NOW_S + 61 }));
    assert_eq!(credit.accept(&bank, &account, &account, NOW_S), Err(CreditFault::Elsewhere { found: router }));
    assert_eq!(credit.accept(&bank, &router, &router, NOW_S), Err(CreditFault::NotYours { found: account }));
    let other = BankKey::generate("mint").unwrap();
    assert_eq!(credit.verify(&other.bank()), Err(CreditFault::Forged));
    assert_eq!(Credit::sign(terms, &other).accept(&bank, &router, &account, NOW_S), Err(CreditFault::Forged));
}

#[test]
fn no_bit_of_a_credit_or_a_quote_can_be_changed() {
    let testbed = Testbed::new();
    let key = BankKey::generate("mint").unwrap();
    let credit = Credit::sign(credit_terms(&testbed), &key);
    every_bit(&credit.encode(), |changed| {
        Credit::decode(changed).is_ok_and(|credit| credit.verify(&key.bank()).is_ok())
    });
    let quote = Quote::sign(quote_terms(&testbed), &testbed.router);
    every_bit(&cbor::to_bytes(&quote), |changed| {
        cbor::from_bytes::<Quote>(changed).is_ok_and(|quote| quote.verify(&testbed.router.public()).is_ok())
    });
}

fn quote_terms(testbed: &Testbed) -> QuoteTerms {
    QuoteTerms {
        principal: testbed.owner.principal().unwrap(),
        class: Class::Header,
        complexity: 100,
        packet_rate: 5,
        state_bytes: 64,
        lifetime_s: 10,
        price: 7,
        expiry_s: NOW_S + 30,
        nonce: [4; 16],
    }
}

#[test]
fn a_quote_fixes_the_price_of_what_it_is_for_and_no_other() {
    let testbed = Testbed::new();
    let quote = Quote::sign(quote_terms(&testbed), &testbed.router);
    let upload = Terms { payment: 7, ..testbed.terms() };
    assert_eq!(quote.fits(&upload, NOW_S + 30), Ok(quote.terms()));
    assert_eq!(quote.fits(&Terms { payment: 8, ..upload.clone() }, NOW_S), Ok(quote.terms()), "more may be paid");
    let cases: [(Terms, u64, &str); 7] = [
        (upload.clone(), NOW_S + 31, "quote-expired"),
        (Terms { payment: 6, ..upload.clone() }, NOW_S, "price"),
        (Terms { complexity: 99, ..upload.clone() }, NOW_S, "quote-differs"),
        (Terms { packet_rate: 6, ..upload.clone() }, NOW_S, "quote-differs"),
        (Terms { lifetime_s: 11, ..upload.clone() }, NOW_S, "quote-differs"),
        (Terms { class: Class::Content, ..upload.clone() }, NOW_S, "quote-differs"),
        (Terms { principal: parse_principal("192.0.2.8").unwrap(), ..upload.clone() }, NOW_S, "quote-differs"),
    ];
    for (upload, now_s, code) in cases {
        assert_eq!(quote.fits(&upload, now_s).unwrap_err().code(), code);
    }
    // Another router's word, or the owner's own, is no quote here.
    let valid = Validity::starting(NOW_S, 60);
    let subject = Subject::Router { name: "edge-1".into(), addrs: Vec::new() };
    let other = testbed.authority_key.issue_identity(subject, valid).unwrap();
    for identity in [&other, &testbed.owner] {
        let forged = Quote::sign(quote_terms(&testbed), identity);
        assert_eq!(forged.fits(&upload, NOW_S), Err(RequestFault::UnknownQuote));
    }
}

#[test]
fn prices_are_rounded_up_part_by_part() {
    let tariff = Tariff { install: 5, per_teracycle: 3, per_gibibyte_day: 2, check: 9 };
    assert_eq!(tariff.price(0, 0, 0, 0), Some(5));
    assert_eq!(tariff.price(1, 1, 1, 1), Some(5 + 1 + 1), "a beginning counts as one");
    assert_eq!(tariff.price(1_000_000, 1_000, 0, 1_000), Some(5 + 3));
    assert_eq!(tariff.price(1_000_000, 1_000, 0, 1_001), Some(5 + 4));
    assert_eq!(tariff.price(0, 0, 1 << 30, 86_400), Some(5 + 2));
    assert_eq!(tariff.price(0, 0, 1 << 30, 86_401), Some(5 + 3));
    assert_eq!(Tariff::FREE.price(u64::MAX, u32::MAX, u64::MAX, 1), Some(0));
}

#[test]
fn a_price_too_high_to_write_is_none() {
    let tariff = Tariff { install: u64::MAX, per_teracycle: 1, per_gibibyte_day: 1, check: 0 };
    assert_eq!(tariff.price(0, 0, 0, 0), Some(u64::MAX));
    assert_eq!(tariff.price(1, 1, 0, 1), None);
    assert_eq!(tariff.price(0, 0, 1, 1), None);
    let dear = Tariff { install: 0, per_teracycle: u64::MAX, per_gibibyte_day: u64::MAX, check: 0 };
    assert_eq!(dear.price(u64::MAX, u32::MAX, 0, u64::MAX), None);
    assert_eq!(dear.price(0, 0, u64::MAX, u64::MAX), None);
    // Where it can be written, it is what plain arithmetic in reals says, rounded up.
    let seed = seed();
    let mut random = Random::new(seed);
    for _ in 0..2000 {
        let below = |random: &mut Random, bits: u64| random.next() >> (64 - bits);
        let tariff = Tariff {
            install: below(&mut random, 20),
            per_teracycle: below(&mut random, 16),
            per_gibibyte_day: below(&mut random, 16),
            check: 0,
        };
        let (complexity, rate) = (below(&mut random, 20), below(&mut random, 20) as u32);
        let (state, lifetime) = (below(&mut random, 24), below(&mut random, 20));
        let price = tariff.price(complexity, rate, state, lifetime).unwrap();
        let cycles = complexity as f64 * f64::from(rate) * lifetime as f64 * tariff.per_teracycle as f64 / 1e12;
        let kept = state as f64 * lifetime as f64 * tariff.per_gibibyte_day as f64 / (86_400.0 * (1u64 << 30) as f64);
        let real = tariff.install as f64 + cycles + kept;
        let rounded = price as f64 - real;
        assert!(rounded > -1e-3 * (1.0 + real / 1e6) && rounded < 2.0 + real / 1e9, "seed {seed}: {price} for {real}");
    }
}
