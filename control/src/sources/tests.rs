use super::*;

use proptest::prelude::*;

const NOW: Now = Now { wall_s: 1_800_000_000, mono_ms: 50_000 };

fn later(seconds: u64) -> Now {
    Now { wall_s: NOW.wall_s + seconds, mono_ms: NOW.mono_ms + seconds * 1_000 }
}

fn quota(owners: u32) -> QuotaLimits {
    let class = ClassQuota { per_address: owners, per_prefix: owners, any_source: owners };
    QuotaLimits { header: class, content: class }
}

const LIMITS: ShutOffLimits = ShutOffLimits { owners: 3, back_below: 2, time_s: 600, respite_s: 60, sources_max: 4 };

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}
fn prefix(text: &str) -> Prefix {
    let (a, len) = text.split_once('/').unwrap();
    Prefix::new(addr(a), len.parse().unwrap()).unwrap()
}
fn user(n: u32) -> Principal {
    Principal::EndUser(Addr::V4(0xc000_0200 + n))
}
fn controlled() -> PrefixSet {
    PrefixSet::new(vec![prefix("198.51.100.0/24"), prefix("10.0.0.0/8"), prefix("2001:db8::/32")])
}
/// A verdict of `owner` against these sources.
fn aim(owner: Principal, sources: &[&str]) -> Aim {
    aim_of(owner, Class::Header, sources, true)
}
fn aim_of(owner: Principal, class: Class, sources: &[&str], votes: bool) -> Aim {
    Aim::new(&owner, class, sources.iter().map(|text| prefix(text)), &controlled(), votes)
}

const BAD: &str = "198.51.100.7/32";

fn bad() -> Addr {
    addr("198.51.100.7")
}

#[test]
fn a_quota_counts_distinct_owners_of_one_class_against_one_source() {
    let mut quotas = Quotas::new(quota(3));
    for n in 0..3 {
        quotas.may(&aim(user(n), &[BAD])).unwrap();
        quotas.add(&aim(user(n), &[BAD]), |_, _| {});
    }
    let fault = quotas.may(&aim(user(3), &[BAD, "198.51.100.9/32"])).unwrap_err();
    assert_eq!(fault, QuotaFault { class: Class::Header, source: prefix(BAD), owners_max: 3 });
    assert_eq!(
        fault.to_string(),
        "3 owners have header programs about the source 198.51.100.7, which is the most; ask again when one of them has \
         ended"
    );
    // Another class, another source, and who is counted already.
    quotas.may(&aim_of(user(3), Class::Content, &[BAD], false)).unwrap();
    quotas.may(&aim(user(3), &["198.51.100.9/32"])).unwrap();
    quotas.may(&aim(user(2), &[BAD])).unwrap();
    quotas.remove(&aim(user(1), &[BAD]), |_, _| {});
    quotas.may(&aim(user(3), &[BAD])).unwrap();
}

#[test]
fn many_keys_and_addresses_of_one_owner_are_one_owner() {
    let mut quotas = Quotas::new(quota(2));
    // The key does not enter at all; an edge router is its prefix, whichever address in it is its own.
    for n in 1..100 {
        let router = Principal::edge_router(Addr::V4(0xc000_0200 + n), 24).unwrap();
        quotas.may(&aim(router, &[BAD])).unwrap();
        quotas.add(&aim(router, &[BAD]), |_, _| {});
    }
    assert_eq!((quotas.owners(Class::Header, prefix(BAD)), quotas.votes(bad())), (1, 1));
    quotas.may(&aim(Principal::edge_router(Addr::V4(0xcb00_7101), 24).unwrap(), &[BAD])).unwrap();
}

#[test]
fn prefixes_and_any_source_have_quotas_of_their_own_and_use_up_no_addresss() {
    let class = ClassQuota { per_address: 1, per_prefix: 2, any_source: 3 };
    let mut quotas = Quotas::new(QuotaLimits { header: class, content: class });
    let sources = ["0.0.0.0/0", "198.51.100.0/24", BAD];
    for n in 0..3 {
        for (k, source) in sources.iter().enumerate() {
            let aim = aim(user(n), &[source]);
            // One owner for the address, two for the prefix, three for any.
            assert_eq!(quotas.may(&aim).is_ok(), n as usize <= 2 - k, "{source} {n}");
            if n as usize <= 2 - k {
                quotas.add(&aim, |_, _| {});
            }
        }
    }
    let fault = quotas.may(&aim(user(9), &["0.0.0.0/0"])).unwrap_err();
    assert!(fault.to_string().starts_with("3 owners have header programs about any source here"), "{fault}");
    quotas.may(&aim(user(9), &["::/0"])).unwrap();
}

#[test]
fn neighbouring_addresses_that_a_set_writes_as_a_prefix_count_one_by_one() {
    let mut quotas = Quotas::new(quota(10));
    quotas.add(&aim(user(1), &["198.51.100.4/30"]), |_, _| {});
    for last in 4..8 {
        assert_eq!(quotas.votes(Addr::V4(0xc633_6400 + last)), 1);
    }
    assert_eq!(quotas.votes(addr("198.51.100.8")), 0);
    // Sixteen are written out, thirty-two are a prefix, and what is not controlled is nobody's to count.
    assert_eq!(aim(user(1), &["2001:db8::10/124"]).addrs().count(), 16);
    assert_eq!(aim(user(1), &["198.51.100.0/27"]).addrs().count(), 0);
    let half = Aim::new(
        &user(1),
        Class::Header,
        [prefix("198.51.100.4/30")].into_iter(),
        &PrefixSet::new(vec![prefix("198.51.100.6/31")]),
        true,
    );
    assert_eq!(half.addrs().collect::<Vec<_>>(), [addr("198.51.100.6"), addr("198.51.100.7")]);
    // However many prefixes there are, no more than a bound is written out.
    let many = (0..10_000u32).map(|n| Prefix::new(Addr::V4(0x0a00_0000 + n * 16), 28).unwrap());
    let aim = Aim::new(&user(1), Class::Header, many, &controlled(), true);
    assert_eq!(
        (aim.addrs().count(), aim.sources.len()),
        (WRITTEN_OUT_MAX, 10_000 - WRITTEN_OUT_MAX / 16 + WRITTEN_OUT_MAX)
    );
}

/// How many owners vote, by what is installed.
fn votes_of(aims: &[Aim], source: Addr) -> u32 {
    let packed = Packed::of(Prefix::host(source));
    let mut owners: Vec<Packed> =
        aims.iter().filter(|aim| aim.votes && aim.sources.contains(&packed)).map(|aim| aim.owner).collect();
    owners.sort_unstable();
    owners.dedup();
    owners.len() as u32
}

#[test]
fn a_million_random_additions_and_removals_end_at_zero() {
    let seed: u64 = rand_seed();
    println!("seed {seed}");
    let mut state = seed | 1;
    let mut random = move |below: u64| {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    };
    let places: Vec<String> = (0..12).map(|n| format!("198.51.100.{n}/32")).collect();
    let others = ["198.51.100.4/31", "198.51.100.0/27", "0.0.0.0/0", "2001:db8::7/128", "10.0.0.0/8"];
    let mut sources = Sources::new(quota(5), LIMITS);
    let mut installed: Vec<Aim> = Vec::new();
    let mut refused = 0;
    for step in 0..1_000_000u64 {
        let adds = installed.len() < 3 || installed.len() < 200 && random(2) == 0;
        if adds {
            let class = if random(4) == 0 { Class::Content } else { Class::Header };
            let first = random(places.len() as u64) as usize;
            let second = others[random(others.len() as u64) as usize];
            let named = if random(3) == 0 { vec![&*places[first], second] } else { vec![&*places[first]] };
            let aim = aim_of(user(random(9) as u32), class, &named, random(5) != 0);
            match sources.may(&aim) {
                Ok(()) => {
                    sources.add(&aim);
                    installed.push(aim);
                }
                Err(_) => refused += 1,
            }
        } else {
            let aim = installed.swap_remove(random(installed.len() as u64) as usize);
            sources.remove(&aim);
        }
        if step % 4_096 == 0 {
            for place in &places {
                let source = prefix(place).addr();
                assert_eq!(sources.quotas().votes(source), votes_of(&installed, source), "step {step}, {place}");
            }
            sources.changes(later(step / 100));
            let over = places.iter().filter(|place| sources.quotas().votes(prefix(place).addr()) >= LIMITS.owners);
            assert!(sources.shut_offs().len() <= LIMITS.sources_max);
            assert!(over.count() <= sources.shut_offs().len() + sources.shut_offs().waiting() + LIMITS.sources_max);
        }
    }
    assert!(refused > 1_000, "the quotas were never reached");
    for aim in installed.drain(..) {
        sources.remove(&aim);
    }
    assert!(sources.quotas().is_empty());
    sources.changes(later(1_000_000));
    assert!(sources.shut_offs().is_empty() && sources.shut_offs().waiting() == 0);
    let counts = sources.shut_offs().counts();
    assert!(counts.shut_off > 100 && counts.shut_off == counts.back_by_votes + counts.back_by_time, "{counts:?}");
}

fn rand_seed() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(0u8)
}

/// A register with so many votes against the bad source.
fn with_votes(votes: u32) -> Sources {
    let mut sources = Sources::new(quota(100), LIMITS);
    for n in 0..votes {
        sources.add(&aim(user(n), &[BAD]));
    }
    sources
}

fn shut_off(owners: u32, at: u64) -> Change {
    Change::ShutOff { source: bad(), owners, until_s: later(at + 600).wall_s }
}
fn back(reason: Reason) -> Change {
    Change::Back { source: bad(), reason }
}

#[test]
fn a_source_is_shut_off_by_distinct_verified_owners_that_drop_all_of_it() {
    let mut sources = with_votes(2);
    assert_eq!(sources.changes(NOW), []);
    // Another program of the same owner, a program that does not vote, a prefix, any source: no votes.
    sources.add(&aim(user(1), &[BAD]));
    sources.add(&aim_of(user(7), Class::Header, &[BAD], false));
    sources.add(&aim(user(8), &["198.51.100.0/24"]));
    sources.add(&aim(user(9), &["0.0.0.0/0"]));
    assert_eq!((sources.changes(NOW), sources.quotas().votes(bad())), (vec![], 2));
    sources.add(&aim(user(3), &[BAD]));
    assert_eq!(sources.changes(later(1)), [shut_off(3, 1)]);
    assert!(sources.shut_offs().is_off(bad()));
    // More votes change nothing more.
    sources.add(&aim(user(4), &[BAD]));
    assert_eq!(sources.changes(later(2)), []);
}

#[test]
fn no_threshold_shuts_off_nobody() {
    let mut sources = Sources::new(quota(100), ShutOffLimits { owners: 0, ..LIMITS });
    for n in 0..50 {
        sources.add(&aim(user(n), &[BAD]));
    }
    assert_eq!((sources.changes(NOW), sources.shut_offs().waiting()), (vec![], 0));
}

#[test]
fn votes_have_to_fall_below_the_lower_threshold() {
    let mut sources = with_votes(3);
    assert_eq!(sources.changes(NOW), [shut_off(3, 0)]);
    sources.remove(&aim(user(0), &[BAD]));
    assert_eq!(sources.changes(later(1)), [], "two still discard it");
    // What falls and rises between two turns was never below.
    sources.remove(&aim(user(1), &[BAD]));
    sources.add(&aim(user(1), &[BAD]));
    assert_eq!(sources.changes(later(2)), []);
    sources.remove(&aim(user(1), &[BAD]));
    assert_eq!(sources.changes(later(3)), [back(Reason::Votes)]);
    // Votes that rise again shut it off again at once: nobody let it back.
    sources.add(&aim(user(0), &[BAD]));
    sources.add(&aim(user(1), &[BAD]));
    assert_eq!(sources.changes(later(4)), [shut_off(3, 4)]);
}

#[test]
fn time_ends_a_shut_off_and_a_respite_follows() {
    let mut sources = with_votes(5);
    assert_eq!(sources.changes(NOW), [shut_off(5, 0)]);
    assert_eq!(sources.changes(later(599)), []);
    assert_eq!(sources.changes(later(600)), [back(Reason::Time)]);
    sources.add(&aim(user(6), &[BAD]));
    assert_eq!(sources.changes(later(659)), []);
    assert_eq!(sources.changes(later(660)), [shut_off(6, 660)], "they still discard it");
}

#[test]
fn the_operator_lets_back_and_it_holds_for_the_respite() {
    let mut sources = with_votes(3);
    assert_eq!(sources.shut_offs_mut().let_back(bad(), NOW), Err(NotShutOff(bad())));
    sources.changes(NOW);
    sources.shut_offs_mut().let_back(bad(), later(10)).unwrap();
    assert_eq!(sources.changes(later(10)), [back(Reason::Operator)]);
    assert_eq!(sources.shut_offs_mut().let_back(bad(), later(11)), Err(NotShutOff(bad())));
    sources.add(&aim(user(5), &[BAD]));
    assert_eq!(sources.changes(later(69)), []);
    // Votes that fall meanwhile leave it alone for good.
    for n in 0..3 {
        sources.remove(&aim(user(n), &[BAD]));
    }
    assert_eq!(sources.changes(later(70)), []);
    assert_eq!(sources.shut_offs().all().count(), 0);
}

#[test]
fn no_more_sources_are_shut_off_at_once_than_the_bound() {
    let mut sources = Sources::new(quota(100), LIMITS);
    let names: Vec<String> = (1..=6).map(|n| format!("10.0.0.{n}/32")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for n in 0..3 {
        sources.add(&aim(user(n), &names));
    }
    assert_eq!(sources.changes(NOW).len(), 4);
    assert_eq!((sources.shut_offs().len(), sources.shut_offs().waiting()), (4, 2));
    sources.shut_offs_mut().let_back(addr("10.0.0.2"), later(1)).unwrap();
    let changes = sources.changes(later(1));
    assert_eq!(changes[0], Change::Back { source: addr("10.0.0.2"), reason: Reason::Operator });
    assert!(matches!(changes[1], Change::ShutOff { source, .. } if source == addr("10.0.0.5")), "{changes:?}");
    assert_eq!(changes.len(), 2);
    // Respites are bounded as well: the one that would end first gives way.
    for n in [1, 3, 4, 5] {
        sources.shut_offs_mut().let_back(Addr::V4(0x0a00_0000 + n), later(2)).unwrap();
    }
    sources.changes(later(2));
    let respites = sources.shut_offs().all().filter(|status| status.record.phase == Phase::Respite).count();
    assert_eq!((respites, sources.shut_offs().len()), (4, 2), "10.0.0.6, and 10.0.0.2 again");
}

#[test]
fn what_cannot_be_carried_out_is_tried_again() {
    let mut sources = with_votes(3);
    assert_eq!(sources.changes(NOW).len(), 1);
    sources.shut_offs_mut().not_carried_out(bad(), NOW);
    assert!(!sources.shut_offs().is_off(bad()));
    assert_eq!(sources.changes(later(4)), []);
    assert_eq!(sources.changes(later(5)), [shut_off(3, 5)]);
    assert_eq!(sources.shut_offs().counts().shut_off, 1);
}

#[test]
fn other_limits_count_at_once() {
    let mut sources = with_votes(2);
    assert_eq!(sources.changes(NOW), []);
    sources.set_limits(quota(1), ShutOffLimits { owners: 2, back_below: 1, ..LIMITS });
    assert_eq!(sources.changes(NOW), [shut_off(2, 0)]);
    assert!(sources.may(&aim(user(5), &[BAD])).is_err());
    sources.set_limits(quota(9), ShutOffLimits { owners: 0, ..LIMITS });
    assert_eq!(sources.changes(later(1)), [back(Reason::Votes)]);
}

#[test]
fn a_restart_takes_up_what_was_in_force() {
    let mut before = with_votes(3);
    before.changes(NOW);
    let record = before.shut_offs().record(bad()).unwrap();
    assert_eq!((record.phase, record.since_s, record.until_s), (Phase::Off, NOW.wall_s, later(600).wall_s));
    // The monotonic clock begins anew.
    let at = |seconds: u64| Now { wall_s: NOW.wall_s + 100 + seconds, mono_ms: seconds * 1_000 };
    let restored = |votes, record: &ShutOffRecord| {
        let mut after = with_votes(votes);
        after.shut_offs_mut().restore(record, at(0));
        after
    };
    let mut after = restored(3, &record);
    assert_eq!(after.changes(at(0)), [shut_off(3, 0)], "the time that it had");
    assert_eq!(after.changes(at(499)), []);
    assert_eq!(after.changes(at(500)), [back(Reason::Time)]);
    let respite = after.shut_offs().record(bad()).unwrap();
    assert_eq!(respite.phase, Phase::Respite);
    // Too few votes by now: nothing to take up. A respite holds whatever the votes.
    assert_eq!(restored(1, &record).changes(at(0)), []);
    let mut after = with_votes(3);
    let now = Now { wall_s: respite.until_s - 5, mono_ms: 0 };
    after.shut_offs_mut().restore(&respite, now);
    assert_eq!(after.changes(now), []);
    assert_eq!(after.changes(Now { wall_s: respite.until_s, mono_ms: 5_000 }).len(), 1);
    // What has run out is passed over, and a clock that was set back makes nothing longer.
    let mut after = restored(1, &ShutOffRecord { until_s: at(0).wall_s, ..respite });
    assert_eq!((after.changes(at(0)), after.shut_offs().all().count()), (vec![], 0));
    let mut after = restored(3, &ShutOffRecord { until_s: u64::MAX, ..record });
    assert_eq!(after.changes(at(0)).len(), 1);
    assert_eq!(after.changes(at(600)), [back(Reason::Time)]);
}

proptest! {
    #[test]
    fn a_packed_prefix_is_the_prefix(bits: u128, len in 0u8..=128, v4: bool) {
        let (addr, len) = if v4 { (Addr::V4(bits as u32), len % 33) } else { (Addr::V6(bits), len) };
        let prefix = Prefix::of(addr, len).unwrap();
        let packed = Packed::of(prefix);
        prop_assert_eq!(Prefix::of(packed.addr(), packed.0[16]), Some(prefix));
        prop_assert_eq!(packed.is_host(), len == addr.width());
    }
}
