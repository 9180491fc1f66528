//! The search against simulated systems whose bounds are known.

use super::*;
use crate::generate::flows::unit;
use crate::verify::chance::Chance;

fn goal(name: &str, loss_ratio: f64) -> Goal {
    Goal {
        name: name.to_owned(),
        loss_ratio,
        exceed_ratio: 0.5,
        final_trial_s: 1.0,
        initial_trial_s: 1.0,
        duration_sum_s: 21.0,
        width: 0.005,
    }
}

fn ndr_and_pdr() -> Vec<Goal> {
    vec![goal("NDR", 0.0), goal("PDR", 0.005)]
}

const LIMITS: Limits = Limits { load_min: 1_000, load_max: 30_000_000, trials_max: 1_000, seconds_max: 1e6 };

/// Runs a search against a system that is a function of load and duration.
fn run(goals: Vec<Goal>, limits: Limits, mut system: impl FnMut(Load, f64) -> f64) -> (Search, Vec<Outcome>) {
    let mut search = Search::new(goals, limits).expect("a search");
    while let Next::Measure { load, duration_s } = search.next() {
        assert!((limits.load_min..=limits.load_max).contains(&load), "{load}");
        search.measured(Trial { load, duration_s, loss_ratio: system(load, duration_s) });
    }
    let outcomes = search.outcomes();
    (search, outcomes)
}

/// Loses what is beyond its capacity.
fn capped(capacity: f64) -> impl Fn(Load, f64) -> f64 {
    move |load, _| (1.0 - capacity / load as f64).max(0.0)
}

/// The bounds hold the true threshold between them, and are as close as the goal says.
fn assert_found(outcome: &Outcome, threshold: f64, width: f64) {
    let (Some(lower), Some(upper)) = (outcome.lower, outcome.upper) else { panic!("{outcome:?}") };
    assert_eq!(outcome.end, End::Reached);
    assert!(lower as f64 <= threshold + 1.0 && threshold - 1.0 <= upper as f64, "{threshold}: {outcome:?}");
    assert!((upper - lower) as f64 <= width * upper as f64 + 1.0, "{outcome:?}");
}

#[test]
fn a_system_with_a_fixed_capacity_is_found_within_the_width_and_the_budget() {
    for capacity in [1_200.0, 54_321.0, 1e6, 14_880_952.0, 29_990_000.0] {
        let (search, found) = run(ndr_and_pdr(), LIMITS, capped(capacity));
        assert_found(&found[0], capacity, 0.005);
        // One packet more than the capacity is lost at 0.5 % above it.
        if capacity / 0.995 < LIMITS.load_max as f64 {
            assert_found(&found[1], capacity / 0.995, 0.005);
        }
        let throughput = found[0].conditional_throughput.expect("a lower bound");
        assert_eq!(throughput, found[0].lower.expect("a lower bound") as f64, "nothing is lost at the no-drop rate");
        assert!(search.trials() <= 130, "{capacity}: {} trials", search.trials());
    }
}

#[test]
fn one_long_trial_a_load_is_the_search_of_rfc_2544() {
    let goal = Goal {
        name: "RFC 2544".to_owned(),
        loss_ratio: 0.0,
        exceed_ratio: 0.0,
        final_trial_s: 60.0,
        initial_trial_s: 1.0,
        duration_sum_s: 60.0,
        width: 0.005,
    };
    let mut long = 0;
    let (search, found) = run(vec![goal], LIMITS, |load, duration_s| {
        long += u32::from(duration_s >= 60.0);
        capped(7_654_321.0)(load, duration_s)
    });
    assert_found(&found[0], 7_654_321.0, 0.005);
    // The shorter trials before say where: few long ones are left.
    assert!(long <= 5 && search.trials() <= 30, "{long} long ones of {}", search.trials());
}

#[test]
fn loss_that_grows_slowly_gives_each_goal_its_own_bounds() {
    // Loses a thousandth at 5 Mpps, a hundredth at 15 Mpps, and so on: linear from 4 Mpps.
    let system = |load: Load, _: f64| ((load as f64 - 4e6) * 1e-9).max(0.0);
    let goals = vec![goal("0", 0.0), goal("0.1 %", 0.001), goal("0.5 %", 0.005), goal("1 %", 0.01)];
    let (_, found) = run(goals, LIMITS, system);
    for (outcome, threshold) in found.iter().zip([4e6, 5e6, 9e6, 14e6]) {
        assert_found(outcome, threshold, 0.005);
    }
    let pdr = found[2].conditional_throughput.expect("a lower bound");
    let lower = found[2].lower.expect("a lower bound");
    assert!((pdr - lower as f64 * (1.0 - system(lower, 1.0))).abs() < 1.0);
}

#[test]
fn spurious_loss_in_a_fifth_of_the_trials_does_not_move_the_bounds() {
    for seed in 0..20 {
        let mut chance = Chance::new(seed);
        let capacity = 3e6 * (1.0 + unit(&mut chance));
        let (search, found) = run(ndr_and_pdr(), LIMITS, |load, duration_s| {
            let spurious = if unit(&mut chance) < 0.2 { 0.01 } else { 0.0 };
            (capped(capacity)(load, duration_s) + spurious).min(1.0)
        });
        assert_eq!(found[0].end, End::Reached, "seed {seed}");
        let lower = found[0].lower.expect("a lower bound") as f64;
        // Eleven bad trials of 21 come once in a thousand loads; a few bad ones more only move the steps.
        assert!(lower <= capacity && lower >= capacity * 0.96, "seed {seed}: {lower} of {capacity}");
        let pdr = found[1].lower.expect("a lower bound") as f64;
        assert!(pdr <= capacity / 0.995 && pdr >= capacity * 0.96, "seed {seed}: {pdr} of {capacity}");
        assert!(search.trials() <= 500, "seed {seed}: {} trials", search.trials());
    }
}

#[test]
fn a_capacity_that_wavers_is_found_near_its_median() {
    for seed in 0..20 {
        let mut chance = Chance::new(seed);
        let (search, found) = run(ndr_and_pdr(), LIMITS, |load, duration_s| {
            // From 4.9 to 5.1 Mpps, another in each trial.
            capped(4.9e6 + 0.2e6 * unit(&mut chance))(load, duration_s)
        });
        let lower = found[0].lower.expect("a lower bound") as f64;
        let upper = found[0].upper.expect("an upper bound") as f64;
        assert!(lower > 4.88e6 && upper < 5.13e6, "seed {seed}: {lower} to {upper}");
        assert!(search.trials() <= 600, "seed {seed}: {} trials", search.trials());
    }
}

#[test]
fn the_ends_of_the_range_are_told() {
    let (search, found) = run(ndr_and_pdr(), LIMITS, |_, _| 0.0);
    assert_eq!(found[0].end, End::MaxLoad);
    assert_eq!((found[0].lower, found[0].upper), (Some(LIMITS.load_max), None));
    assert_eq!(search.trials(), 11, "more than half of 21 seconds decide");
    let (search, found) = run(ndr_and_pdr(), LIMITS, |_, _| 0.5);
    assert_eq!(found[1].end, End::MinLoad);
    assert_eq!((found[0].lower, found[0].upper), (None, Some(LIMITS.load_min)));
    assert!(search.trials() < 150, "{}", search.trials());
    let (_, found) = run(ndr_and_pdr(), LIMITS, |_, _| 1.0);
    assert_eq!((found[0].end, found[0].conditional_throughput), (End::MinLoad, None));
}

#[test]
fn the_budget_ends_any_search() {
    for trials_max in [0, 1, 7, 50] {
        let mut chance = Chance::new(u64::from(trials_max));
        let (search, found) = run(ndr_and_pdr(), Limits { trials_max, ..LIMITS }, |_, _| unit(&mut chance));
        // Fifty are enough to find that nothing is good at the least load; seven are not.
        assert!(search.trials() == trials_max || trials_max == 50 && search.trials() < 50);
        assert!(found.iter().all(|outcome| outcome.end == End::Unfinished || trials_max == 50));
    }
    let (search, _) = run(ndr_and_pdr(), Limits { seconds_max: 10.0, ..LIMITS }, capped(1e6));
    assert_eq!(search.trials(), 10);
    // A system that answers by chance is searched to the end of the budget or to some bounds, and never for ever.
    for seed in 0..50 {
        let mut chance = Chance::new(seed);
        let (search, _) = run(ndr_and_pdr(), LIMITS, |_, _| if chance.one_in(2) { 0.0 } else { 0.02 });
        assert!(search.trials() <= LIMITS.trials_max);
    }
}

#[test]
fn a_generator_that_does_not_hold_a_load_bounds_the_search_and_one_slip_does_not() {
    let mut search = Search::new(ndr_and_pdr(), LIMITS).expect("a search");
    let (mut slips, mut refused) = (0, 0);
    while let Next::Measure { load, duration_s } = search.next() {
        if load > 2_000_000 {
            refused += 1;
            search.not_offered(load, duration_s, 2_000_000.0);
        } else if slips == 0 {
            slips = 1;
            search.not_offered(load, duration_s, 1_000.0);
        } else {
            search.measured(Trial { load, duration_s, loss_ratio: 0.0 });
        }
    }
    assert!(search.is_generator_bound());
    assert_eq!((refused, search.load_max()), (2, 1_960_000));
    let found = search.outcomes();
    assert_eq!((found[0].end, found[0].lower), (End::MaxLoad, Some(1_960_000)));
}

#[test]
fn a_load_is_classified_as_the_rfc_says() {
    let goal = Goal { duration_sum_s: 4.0, ..goal("PDR", 0.005) };
    let trial = |duration_s, loss_ratio| Trial { load: 1, duration_s, loss_ratio };
    let class = |trials: &[Trial]| classify(trials, &goal, goal.final_trial_s, goal.duration_sum_s);
    let (good, bad) = (trial(1.0, 0.005), trial(1.0, 0.0051));
    assert_eq!(class(&[]), Class::Undecided);
    assert_eq!(class(&[good]), Class::Undecided);
    assert_eq!(class(&[good, good]), Class::Lower, "half of four seconds may be bad");
    assert_eq!(class(&[bad, bad]), Class::Undecided, "two bad ones may still be balanced");
    assert_eq!(class(&[bad, bad, bad]), Class::Upper);
    assert_eq!(class(&[bad, bad, good, good]), Class::Lower);
    assert_eq!(class(&[bad, bad, bad, good, good]), Class::Upper, "beyond the sum, it is the share that counts");
    // Short trials: good ones show nothing, bad ones count unless good ones balance them.
    let (short_good, short_bad) = (trial(0.5, 0.0), trial(0.5, 1.0));
    assert_eq!(class(&[short_good; 20]), Class::Undecided);
    assert_eq!(class(&[short_bad; 5]), Class::Upper);
    assert_eq!(class(&[[short_bad; 5], [short_good; 5]].concat()), Class::Undecided);
}

#[test]
fn goals_and_limits_that_make_no_sense_are_told() {
    let with = |change: &dyn Fn(&mut Goal)| {
        let mut goal = goal("PDR", 0.005);
        change(&mut goal);
        Search::new(vec![goal], LIMITS).map(|_| ())
    };
    assert!(with(&|_| ()).is_ok());
    assert!(with(&|g| g.loss_ratio = 1.0).is_err());
    assert!(with(&|g| g.exceed_ratio = 1.0).is_err());
    assert!(with(&|g| g.initial_trial_s = 2.0).is_err());
    assert!(with(&|g| g.initial_trial_s = f64::NAN).is_err());
    assert!(with(&|g| g.duration_sum_s = 0.5).is_err());
    assert!(with(&|g| g.width = 0.0).is_err());
    assert!(Search::new(vec![], LIMITS).is_err());
    assert!(Search::new(ndr_and_pdr(), Limits { load_min: 0, ..LIMITS }).is_err());
    assert!(Search::new(ndr_and_pdr(), Limits { load_min: 31_000_000, ..LIMITS }).is_err());
}
