use super::*;

use std::collections::HashSet;
use vinet_session::identity::{AuthorityKey, Identity, Subject, Validity, parse_principal};

const NOW: Now = Now { wall_s: 1_800_000_000, mono_ms: 50_000 };

fn later(ms: u64) -> Now {
    Now { wall_s: NOW.wall_s + ms / 1_000, mono_ms: NOW.mono_ms + ms }
}

struct Bench {
    authority: AuthorityKey,
    router: RouterId,
    reach: Reach,
}

impl Bench {
    fn new(own: &[&str]) -> Bench {
        let authority = AuthorityKey::generate("bench").unwrap();
        let subject = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
        let router = authority.issue_identity(subject, Validity::starting(0, u64::MAX)).unwrap().public();
        let own = own.iter().map(|text| text.parse::<std::net::IpAddr>().unwrap().into()).collect();
        Bench { authority, router, reach: Reach::new(true, 60, router, own, NOW) }
    }
    fn owner(&self, principal: &str) -> (Identity, Ownership) {
        let subject = Subject::Owner(parse_principal(principal).unwrap());
        let identity = self.authority.issue_identity(subject, Validity::starting(0, u64::MAX)).unwrap();
        let owner = self.authority.authority().owner(identity.certificate(), NOW.wall_s).unwrap();
        (identity, owner)
    }
    /// What whoever gets the datagram can answer with this key.
    fn signed(&self, challenge: &Challenge, identity: &Identity) -> ReachAnswer {
        let datagram = ReachDatagram::decode(&challenge.payload).unwrap();
        assert_eq!(datagram.router, self.router);
        ReachAnswer::sign(&self.router, &identity.principal().unwrap(), datagram.nonce, identity)
    }
}

#[test]
fn an_owner_that_answers_what_was_sent_to_its_address_counts_for_a_time() {
    for (principal, to) in [("192.0.2.7", "192.0.2.7:555"), ("2001:db8::7", "[2001:db8::7]:555")] {
        let mut bench = Bench::new(&["192.0.2.1"]);
        let (identity, owner) = bench.owner(principal);
        assert_eq!(bench.reach.may(&owner, NOW).unwrap_err().code(), "not-reached");
        let challenge = bench.reach.ask(&owner, 555, NOW).unwrap();
        assert_eq!(challenge.to.to_string(), to);
        assert_eq!(bench.reach.may(&owner, NOW).unwrap_err().code(), "not-reached");
        let answer = bench.signed(&challenge, &identity);
        assert_eq!(bench.reach.answer(&owner, &answer, later(100)), Ok(NOW.wall_s + 60));
        assert_eq!(bench.reach.may(&owner, later(60_000)), Ok(true));
        assert_eq!(bench.reach.may(&owner, later(60_100)).unwrap_err().code(), "not-reached");
        // An answer counts once.
        assert_eq!(bench.reach.answer(&owner, &answer, later(200)).unwrap_err().code(), "not-reached");
        assert_eq!(bench.reach.may(&bench.owner(principal).1, later(200)).unwrap_err().code(), "not-reached");
    }
}

#[test]
fn neither_another_key_nor_another_nonce_nor_a_late_answer_counts() {
    let mut bench = Bench::new(&[]);
    let (identity, owner) = bench.owner("192.0.2.7");
    let (thief, thiefs) = bench.owner("192.0.2.7");
    let (stranger, strangers) = bench.owner("192.0.2.8");
    let challenge = bench.reach.ask(&owner, 1, NOW).unwrap();
    let honest = bench.signed(&challenge, &identity);
    let nonce = *honest.nonce();
    let for_principal = |identity: &Identity, text: &str, nonce| {
        ReachAnswer::sign(&bench.router, &parse_principal(text).unwrap(), nonce, identity)
    };
    let other_router = ReachAnswer::sign(&owner.key(), &owner.principal(), nonce, &identity);
    for (who, answer) in [
        (&owner, for_principal(&thief, "192.0.2.7", nonce)),
        (&thiefs, for_principal(&thief, "192.0.2.7", nonce)),
        (&strangers, for_principal(&stranger, "192.0.2.8", nonce)),
        (&owner, for_principal(&identity, "192.0.2.7", [7; 32])),
        (&owner, for_principal(&identity, "192.0.2.8", nonce)),
        (&owner, other_router),
    ] {
        assert_eq!(bench.reach.answer(who, &answer, NOW).unwrap_err().code(), "not-reached");
    }
    assert_eq!(bench.reach.counters().wrong, 6);
    // None of it took the nonce from its owner; time does.
    let mut late = Bench::new(&[]);
    let (identity, owner_late) = late.owner("192.0.2.7");
    let challenge = late.reach.ask(&owner_late, 1, NOW).unwrap();
    let answer = late.signed(&challenge, &identity);
    assert!(late.reach.answer(&owner_late, &answer, later(NONCE_TIME_MS)).is_err());
    assert!(late.reach.sent.is_empty() && late.reach.waiting.is_empty());
    bench.reach.answer(&owner, &honest, later(NONCE_TIME_MS - 1)).unwrap();
}

#[test]
fn an_edge_router_is_asked_at_addresses_that_nobody_foretells() {
    let mut bench = Bench::new(&["192.0.2.1", "192.0.2.2"]);
    let (_, owner) = bench.owner("192.0.2.9/29");
    let mut seen = HashSet::new();
    for n in 0..200 {
        let challenge = bench.reach.ask(&owner, 9, later(n * 1_000)).unwrap();
        seen.insert(challenge.to.ip().to_string());
    }
    // 192.0.2.8/29 without its first and last address.
    let mut seen: Vec<String> = seen.into_iter().collect();
    seen.sort();
    assert_eq!(seen, ["192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.13", "192.0.2.14", "192.0.2.9"]);
    let (_, all) = bench.owner("::/0");
    let mut draw = || bench.reach.ask(&all, 9, later(500_000)).unwrap().to.ip();
    assert_ne!(draw(), draw());
    // Where nothing is left but the router's own, nobody is sent anything; a prefix of one address is that address.
    let (_, own) = bench.owner("192.0.2.1/32");
    assert_eq!(bench.reach.ask(&own, 9, later(500_000)).unwrap_err().code(), "own-address");
    let (_, single) = bench.owner("192.0.2.3/32");
    assert_eq!(bench.reach.ask(&single, 9, later(500_000)).unwrap().to.to_string(), "192.0.2.3:9");
}

#[test]
fn one_owner_and_all_together_have_so_many_datagrams_a_second() {
    let mut bench = Bench::new(&[]);
    let (identity, owner) = bench.owner("192.0.2.7");
    assert_eq!(bench.reach.ask(&owner, 0, NOW).unwrap_err().code(), "bad-port");
    // Another key of the same owner uses the same share; another owner has its own.
    let (_, second) = bench.owner("192.0.2.7");
    let mut last = None;
    for n in 0..OWNER_RATE.burst {
        last = Some(bench.reach.ask(if n % 2 == 0 { &second } else { &owner }, 1, NOW).unwrap());
    }
    for owner in [&owner, &second] {
        let refused = bench.reach.ask(owner, 1, later(400)).unwrap_err();
        assert!(refused.code() == "busy" && refused.text().contains("of this owner"), "{refused}");
    }
    bench.reach.ask(&bench.owner("192.0.2.8").1, 1, NOW).unwrap();
    bench.reach.ask(&owner, 1, later(500)).unwrap();
    assert!(bench.reach.ask(&owner, 1, later(500)).is_err());
    // Of the nonces of a key the latest few wait; the last but one still counts.
    assert!(bench.reach.waiting.values().all(|nonces| nonces.len() <= NONCES_PER_KEY_MAX));
    let answer = bench.signed(&last.unwrap(), &identity);
    bench.reach.answer(&owner, &answer, later(600)).unwrap();

    let (_, everyone) = bench.owner("10.0.0.0/8");
    bench.reach.all = Bucket::full(ALL_RATE, later(600));
    while bench.reach.all.take() {}
    let refused = bench.reach.ask(&everyone, 1, later(600)).unwrap_err();
    assert!(refused.code() == "busy" && !refused.text().contains("of this owner"), "{refused}");
    bench.reach.ask(&everyone, 1, later(601)).unwrap();
    assert_eq!(bench.reach.counters().refused, 4);
}

#[test]
fn what_is_remembered_of_strangers_is_forgotten_in_time() {
    let mut bench = Bench::new(&[]);
    for n in 0..50 {
        let (_, owner) = bench.owner(&format!("192.0.2.{n}"));
        bench.reach.ask(&owner, 1, NOW).unwrap();
    }
    assert_eq!((bench.reach.sent.len(), bench.reach.waiting.len(), bench.reach.buckets.len()), (50, 50, 50));
    bench.reach.tick(later(NONCE_TIME_MS));
    assert_eq!((bench.reach.sent.len(), bench.reach.waiting.len(), bench.reach.buckets.len()), (0, 0, 0));
}

#[test]
fn where_it_is_not_required_everybody_may_and_nobody_was_reached() {
    let mut bench = Bench::new(&[]);
    let (identity, owner) = bench.owner("192.0.2.7");
    bench.reach.set_rules(false, 60);
    assert_eq!(bench.reach.may(&owner, NOW), Ok(false));
    let challenge = bench.reach.ask(&owner, 1, NOW).unwrap();
    let answer = bench.signed(&challenge, &identity);
    bench.reach.answer(&owner, &answer, NOW).unwrap();
    bench.reach.set_rules(true, 60);
    assert_eq!(bench.reach.may(&owner, NOW), Ok(true));
    bench.reach.forget(&owner);
    assert!(bench.reach.may(&owner, NOW).is_err() && bench.reach.is_empty());
}
