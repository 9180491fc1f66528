use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use vinet_trusted::addr::Addr;
use vinet_trusted::program::{ALL_PACKETS, AddrTerm, Cond, Word};

fn owner(number: u32) -> Principal {
    Principal::EndUser(Addr::V4(0xc633_6400 + number))
}

fn bounds() -> Bounds {
    Bounds {
        whole: 64,
        per_class: 48,
        per_interface: 48,
        per_owner: 16,
        age_max_us: 1_000_000,
        ageing: NonZeroU32::new(4).unwrap(),
    }
}

fn arrival(band: u8, interface: u16, stamp_us: u64, payment: u64, from: u32) -> Arrival {
    let class = ProgramClass { function: Function::Header, band };
    Arrival { class, interface, stamp_us, payment, cost: 10, owner: owner(from) }
}

/// What is popped until nothing waits.
fn drained(scheduler: &mut Scheduler<u32>, now_us: u64) -> Vec<u32> {
    std::iter::from_fn(|| scheduler.pop(now_us).map(|(_, item)| item)).collect()
}

#[test]
fn a_function_is_what_takes_most() {
    let program = |window, body: Vec<Instr>| Program::new(60, window, Vec::new(), body).unwrap();
    let discard = Instr::Discard { arg: ALL_PACKETS };
    let content = Instr::Content { dests: 1, contents: 2, arg: ALL_PACKETS };
    let generate = Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::ThisIp, data: 2 };
    let inside =
        Instr::If { cond: Cond::Empty { arg: ALL_PACKETS }, then: vec![], otherwise: vec![content.clone(), generate] };
    assert_eq!(Function::of(&program(1, vec![discard.clone()])), Function::Header);
    let words = vec![Word { fold: false, bytes: b"spam".to_vec() }];
    let spam = Instr::If {
        cond: Cond::Contains { arg: ALL_PACKETS, word: 0 },
        then: vec![discard.clone()],
        otherwise: vec![],
    };
    assert_eq!(Function::of(&Program::new(60, 1, words, vec![spam]).unwrap()), Function::Content);
    assert_eq!(Function::of(&program(8, vec![discard])), Function::Windowed);
    assert_eq!(Function::of(&program(1, vec![content, inside])), Function::Windowed);
}

#[test]
fn costs_fall_into_bands() {
    let bands = Bands::default();
    let band = |bands: &Bands, cost| bands.class(Function::Content, cost).band;
    assert_eq!([0, 9, 10, 99, 100, u64::MAX].map(|cost| band(&bands, cost)), [0, 0, 1, 1, 2, 18]);
    let bands = Bands::between(vec![50, 1_000]).unwrap();
    assert_eq!([49, 50, 999, 1_000].map(|cost| band(&bands, cost)), [0, 1, 1, 2]);
    assert_eq!(bands.class(Function::Content, 60).to_string(), "content-1");
    assert_eq!([vec![5, 5], vec![6, 5], (0..32).collect()].map(Bands::between), [None, None, None]);
}

#[test]
fn the_class_that_pays_most_for_its_cost_is_first_and_among_equals_the_oldest() {
    let mut scheduler = Scheduler::new(Bounds { ageing: NonZeroU32::new(100).unwrap(), ..bounds() });
    for (item, (band, payment)) in [(1, 5), (2, 7), (1, 5), (3, 7), (2, 1)].into_iter().enumerate() {
        scheduler.push(arrival(band, 0, item as u64, payment, 1), item as u32).unwrap();
    }
    // Class 3 pays 7 for 10; then class 1 pays 10 for 20; class 2 pays 8 for 20, then 1 for 10.
    assert_eq!(drained(&mut scheduler, 10), [3, 0, 2, 1, 4]);
    for (item, stamp_us) in [(0, 30), (1, 20), (2, 40)] {
        scheduler.push(arrival(item as u8, 0, stamp_us, 0, 1), item).unwrap();
    }
    // On one interface no clock steps back: the second counts as of 30 too.
    assert_eq!(drained(&mut scheduler, 50), [0, 1, 2]);
}

#[test]
fn interfaces_of_a_class_merge_by_time_stamp() {
    let mut scheduler = Scheduler::new(bounds());
    for (item, (interface, stamp_us)) in [(0, 10), (0, 40), (1, 20), (1, 50), (2, 30)].into_iter().enumerate() {
        scheduler.push(arrival(1, interface, stamp_us, 1, 1), item as u32).unwrap();
    }
    assert_eq!(drained(&mut scheduler, 100), [0, 2, 4, 1, 3]);
}

#[test]
fn what_is_too_old_is_given_back_and_not_served() {
    let mut scheduler = Scheduler::new(bounds());
    for (item, stamp_us) in [(0, 0), (1, 5), (2, 10)] {
        scheduler.push(arrival(item as u8, item as u16, stamp_us, 1, 1), item).unwrap();
    }
    assert!(scheduler.given_back(1_000_000).is_none());
    let (popped, _) = scheduler.pop(1_000_006).map(|(_, item)| (item, ())).unwrap();
    assert_eq!(popped, 2);
    let mut back = || scheduler.given_back(1_000_006).map(|(why, _, item)| (why, item));
    assert_eq!([back(), back(), back()], [Some((GivenBack::Expired, 0)), Some((GivenBack::Expired, 1)), None]);
    assert!(scheduler.is_empty());
}

#[test]
fn every_bound_refuses_and_changes_nothing() {
    let small = Bounds { whole: 4, per_class: 3, per_interface: 3, per_owner: 2, ..bounds() };
    let mut scheduler = Scheduler::new(small);
    let push = |scheduler: &mut Scheduler<u32>, band, interface, from| {
        scheduler.push(arrival(band, interface, 0, 1, from), 0).map_err(|(refused, _)| refused)
    };
    for _ in 0..2 {
        push(&mut scheduler, 1, 1, 1).unwrap();
    }
    assert_eq!(push(&mut scheduler, 1, 1, 1), Err(Refused::Owner(2)));
    push(&mut scheduler, 1, 2, 2).unwrap();
    // Of three owners in the class one has two, so a fourth owner takes one of them; then all are equal.
    push(&mut scheduler, 1, 2, 3).unwrap();
    assert_eq!(scheduler.given_back(0).map(|(why, back, _)| (why, back.owner)), Some((GivenBack::Displaced, owner(1))));
    assert_eq!(push(&mut scheduler, 1, 1, 4), Err(Refused::Class(3)));
    push(&mut scheduler, 2, 2, 4).unwrap();
    assert_eq!(push(&mut scheduler, 2, 2, 5), Err(Refused::Interface(3)));
    assert_eq!(push(&mut scheduler, 2, 1, 5), Err(Refused::Whole(4)));
    assert_eq!((scheduler.len(), scheduler.given_back(0)), (4, None));
    // What is given back and not fetched takes places too.
    scheduler.expire(2_000_000);
    assert_eq!(push(&mut scheduler, 2, 1, 5), Err(Refused::Whole(4)));
    while scheduler.given_back(2_000_000).is_some() {}
    push(&mut scheduler, 2, 1, 5).unwrap();
}

/// Jain's index of fairness: 1 where all are served alike, 1/n where one is served alone.
fn fairness(served: &[u32]) -> f64 {
    let (sum, squares) = served.iter().fold((0.0, 0.0), |(s, q), x| (s + f64::from(*x), q + f64::from(*x).powi(2)));
    sum * sum / (served.len() as f64 * squares)
}

#[test]
fn a_flood_of_one_owner_or_of_many_leaves_the_others_their_share() {
    for flooders in [1u32, 40] {
        let (honest, rounds) = (8u32, 400u64);
        let mut scheduler = Scheduler::new(bounds());
        let mut served = vec![0; (honest + flooders) as usize];
        let mut refused = 0;
        for round in 0..rounds {
            // Every flooder offers five requests a round and pays ten times what the others do; the router looks at
            // eight of them all.
            for number in 0..flooders * 5 {
                let from = honest + number % flooders;
                let _ = scheduler.push(arrival((round % 3) as u8, 1, round, 100, from), from);
            }
            for from in 0..honest {
                refused += u32::from(scheduler.push(arrival(3, 0, round, 10, from), from).is_err());
            }
            for _ in 0..8 {
                served[scheduler.pop(round).unwrap().1 as usize] += 1;
            }
            while scheduler.given_back(round).is_some() {}
        }
        let (honest_served, flood_served) = served.split_at(honest as usize);
        println!("flooders {flooders}: honest {honest_served:?}, refused {refused}, flooders {flood_served:?}");
        // A quarter of the pops are by age at the least: two a round.
        assert!(honest_served.iter().all(|count| *count >= 40), "{honest_served:?}");
        assert!(fairness(honest_served) > 0.99, "{honest_served:?}");
        // Whoever has nothing waiting gets in.
        let waiting: Vec<usize> = (0..honest).map(|from| scheduler.of_owner(&owner(from))).collect();
        assert!(waiting.iter().all(|count| *count >= 1), "{waiting:?}");
    }
}

#[test]
fn an_owner_with_nothing_waiting_is_refused_only_where_all_places_are_of_different_owners() {
    let small = Bounds { whole: 6, per_class: 6, per_interface: 6, per_owner: 6, ..bounds() };
    let mut scheduler = Scheduler::new(small);
    for item in 0..6 {
        scheduler.push(arrival(0, 0, 0, 1_000, 100), item).unwrap();
    }
    for from in 0..5 {
        scheduler.push(arrival(0, 0, 0, 0, from), 10 + from).unwrap();
    }
    assert!(matches!(scheduler.push(arrival(0, 0, 0, 1_000, 50), 50), Err((Refused::Class(6), 50))));
    assert_eq!(drained(&mut scheduler, 0).len(), 6);
    // The flooder's newest went first.
    let mut back: Vec<u32> = std::iter::from_fn(|| scheduler.given_back(0).map(|(_, _, item)| item)).collect();
    back.sort_unstable();
    assert_eq!(back, [1, 2, 3, 4, 5]);
}

/// One step of somebody who wants the scheduler to fail.
#[derive(Clone, Debug)]
enum Step {
    Push { band: u8, interface: u16, payment: u64, from: u32, lag_us: u64 },
    Pop,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..4, 0u16..3, prop_oneof![Just(0), 0u64..100, Just(u64::MAX)], 0u32..6, 0u64..50)
            .prop_map(|(band, interface, payment, from, lag_us)| Step::Push { band, interface, payment, from, lag_us }),
        3 => Just(Step::Pop),
        1 => (0u64..200).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// The theorem of the module, with stamps of one clock, and what it leaves in order when everything has left.
    #[test]
    fn every_request_has_left_after_as_many_pops_as_promised(
        steps in vec(step(), 1..400), ageing in 1u32..6, age_max_us in 50u64..5_000
    ) {
        let ageing = NonZeroU32::new(ageing).unwrap();
        let small = Bounds { whole: 12, per_class: 8, per_interface: 9, per_owner: 5, age_max_us, ageing };
        let mut scheduler = Scheduler::new(small);
        let (mut now_us, mut pops) = (0u64, 0u64);
        // For each request that waits: its stamp, and the number of pops after which it must have left.
        let mut open: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            let item = number as u32;
            match step {
                Step::Push { band, interface, payment, from, .. } => {
                    if scheduler.push(arrival(band, interface, now_us, payment, from), item).is_ok() {
                        let leaves_by = pops + u64::from(ageing.get()) * scheduler.len() as u64;
                        open.insert(item, (now_us, leaves_by));
                    }
                }
                Step::Pop => {
                    if let Some((arrival, item)) = scheduler.pop(now_us) {
                        pops += 1;
                        prop_assert!(now_us - arrival.stamp_us <= age_max_us);
                        prop_assert!(open.remove(&item).is_some());
                    }
                }
                Step::Wait(time_us) => now_us += time_us,
            }
            while let Some((why, arrival, item)) = scheduler.given_back(now_us) {
                prop_assert_eq!(why == GivenBack::Expired, now_us - arrival.stamp_us > age_max_us);
                prop_assert!(open.remove(&item).is_some());
            }
            prop_assert_eq!(scheduler.len(), open.len());
            prop_assert!(open.values().all(|(_, leaves_by)| pops < *leaves_by), "{:?} at {}", open, pops);
            prop_assert!(open.values().all(|(stamp_us, _)| now_us - stamp_us <= age_max_us));
            prop_assert!((0..6).all(|from| scheduler.of_owner(&owner(from)) <= 5) && scheduler.len() <= 12);
            prop_assert!(scheduler.classes().all(|(_, count)| count <= 8));
        }
        while scheduler.pop(now_us).is_some() {}
        prop_assert!(scheduler.classes.is_empty() && scheduler.interfaces.is_empty() && scheduler.pool.len() == 0);
    }

    /// Whatever the clocks of the interfaces do, nobody overtakes on his own interface and in his own class.
    #[test]
    fn each_interface_of_each_class_is_first_in_first_out(steps in vec(step(), 1..400)) {
        let mut scheduler = Scheduler::new(bounds());
        let mut now_us = 1_000u64;
        let mut last: BTreeMap<(ProgramClass, u16), u32> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push { band, interface, payment, from, lag_us } => {
                    let _ = scheduler.push(arrival(band, interface, now_us - lag_us, payment, from), number as u32);
                }
                Step::Pop => {
                    if let Some((arrival, item)) = scheduler.pop(now_us) {
                        let before = last.insert((arrival.class, arrival.interface), item);
                        prop_assert!(before < Some(item));
                    }
                }
                Step::Wait(time_us) => now_us += time_us,
            }
        }
    }

    #[test]
    fn ratios_are_compared_exactly(a in any::<u64>(), b in 1..u64::MAX, c in any::<u64>(), d in 1..u64::MAX) {
        let wide = |x: u64| u128::from(x);
        let exact = (wide(a) * wide(d)).cmp(&(wide(c) * wide(b)));
        prop_assert_eq!(ratio_order((wide(a), wide(b)), (wide(c), wide(d))), exact);
        prop_assert_eq!(ratio_order((wide(a) * 7, wide(b) * 7), (wide(a), wide(b))), Ordering::Equal);
    }
}
