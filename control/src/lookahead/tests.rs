use super::*;

const WHOLE: Load = Load { cycles_per_second: 100, memory_bytes: 100 };

fn lookahead(rule: Rule) -> Lookahead<u32> {
    Lookahead::new(Settings { rule, window: 4, waiting_max: 6, whole: WHOLE, floor: 1_000.0, range: 100.0 })
}

fn job(cycles_per_second: u64, value: u64, until_us: u64) -> Job {
    Job { load: Load { cycles_per_second, memory_bytes: 0 }, value, lifetime_s: 10, until_us }
}

/// All that is decided now, capacity being taken on the way.
fn decided(lookahead: &mut Lookahead<u32>, now_us: u64, free: &mut Load) -> Vec<(u32, Verdict)> {
    std::iter::from_fn(|| {
        let (verdict, job, item) = lookahead.decide(now_us, free)?;
        if verdict == Verdict::Admit {
            assert!(free.holds(&job.load));
            *free = free.without(&job.load);
        }
        Some((item, verdict))
    })
    .collect()
}

fn offered(rule: Rule, jobs: &[Job]) -> Lookahead<u32> {
    let mut lookahead = lookahead(rule);
    for (item, job) in (0..).zip(jobs) {
        lookahead.offer(*job, item).unwrap();
    }
    lookahead
}

#[test]
fn greedy_takes_the_first_that_fits_and_densest_the_one_that_pays_most() {
    let jobs = [job(60, 6_000, 50), job(50, 50_000, 60), job(40, 4_000, 70)];
    let mut free = WHOLE;
    let mut greedy = offered(Rule::Greedy, &jobs);
    assert_eq!(decided(&mut greedy, 0, &mut free), [(0, Verdict::Admit), (2, Verdict::Admit)]);
    assert_eq!((greedy.next_us(), greedy.len()), (Some(60), 1));
    assert_eq!(decided(&mut greedy, 59, &mut free), []);
    assert_eq!(decided(&mut greedy, 60, &mut free), [(1, Verdict::Full)]);

    let mut free = WHOLE;
    let mut densest = offered(Rule::Densest, &jobs);
    assert_eq!(decided(&mut densest, 0, &mut free), [(1, Verdict::Admit), (2, Verdict::Admit)]);
    // Capacity that comes back in time is for who waits.
    free = WHOLE;
    assert_eq!(decided(&mut densest, 50, &mut free), [(0, Verdict::Admit)]);
}

#[test]
fn patient_waits_only_where_capacity_is_short() {
    let mut free = WHOLE;
    let mut patient = offered(Rule::Patient, &[job(60, 6_000, 50), job(40, 4_000, 70)]);
    assert_eq!(decided(&mut patient, 0, &mut free).len(), 2);

    let mut free = WHOLE;
    let mut patient = offered(Rule::Patient, &[job(80, 8_000, 50), job(50, 5_000, 70)]);
    assert_eq!(decided(&mut patient, 49, &mut free), []);
    patient.offer(job(90, 90_000, 60), 2).unwrap();
    assert_eq!(decided(&mut patient, 50, &mut free), [(0, Verdict::Full)]);
    assert_eq!(decided(&mut patient, 60, &mut free), [(2, Verdict::Admit)]);
    assert_eq!(decided(&mut patient, 70, &mut free), [(1, Verdict::Full)]);
    assert!(patient.is_empty());

    // One that is huge and waits holds up nobody as long as there is room.
    let mut free = WHOLE;
    let mut patient = offered(Rule::Patient, &[job(100, 1, 50), job(70, 7_000, 50), job(20, 2_000, 50)]);
    assert_eq!(decided(&mut patient, 0, &mut free), [(1, Verdict::Admit)]);
    assert_eq!(decided(&mut patient, 50, &mut free), [(2, Verdict::Admit), (0, Verdict::Full)]);
}

#[test]
fn the_price_rises_with_the_load_from_the_floor_to_the_range() {
    let priced = lookahead(Rule::Priced);
    let ten = job(10, 0, 0);
    let price = |taken| {
        let free = WHOLE.without(&Load { cycles_per_second: taken, memory_bytes: taken / 2 });
        priced.price(&ten, &free).round()
    };
    // A tenth of the capacity for ten seconds is one second of the whole.
    assert_eq!([0, 17, 100].map(price), [1_000.0, 1_000.0, 100_000.0]);
    assert!(price(50) > 5_000.0 && price(50) < 10_000.0, "{}", price(50));
    let mut free = Load { cycles_per_second: 40, memory_bytes: 100 };
    let mut priced = offered(Rule::Priced, &[job(10, 1_000, 5), job(10, 30_000, 5), job(90, 1, 5)]);
    assert_eq!(decided(&mut priced, 0, &mut free), [(1, Verdict::Admit)]);
    let refused = decided(&mut priced, 5, &mut free);
    assert!(matches!(refused[..], [(0, Verdict::Price { price: 10_000..=99_999 }), (2, Verdict::Full)]), "{refused:?}");
}

#[test]
fn memory_counts_like_cycles_and_what_takes_nothing_is_first() {
    let load = |cycles_per_second, memory_bytes| Load { cycles_per_second, memory_bytes };
    let of = |load, value| Job { load, value, lifetime_s: 1, until_us: 0 };
    let jobs = [of(load(1, 90), 500), of(load(20, 20), 300), of(load(0, 0), 0)];
    let mut free = WHOLE;
    let admitted = decided(&mut offered(Rule::Densest, &jobs), 0, &mut free);
    assert_eq!(admitted, [(2, Verdict::Admit), (1, Verdict::Admit), (0, Verdict::Full)]);
    assert_eq!(free, load(80, 80));
}

#[test]
fn what_waits_is_bounded_and_only_the_window_is_looked_at() {
    let mut densest = offered(Rule::Densest, &[job(90, 1, 9); 6]);
    assert_eq!(densest.offer(job(90, 1, 9), 6), Err(6));
    let mut free = Load { cycles_per_second: 50, memory_bytes: 0 };
    assert_eq!(decided(&mut densest, 0, &mut free), []);
    // Who pays more takes the place of who pays least.
    densest.offer(job(90, 2, 9), 7).unwrap();
    assert_eq!(decided(&mut densest, 0, &mut free), [(0, Verdict::Full)]);
    assert_eq!(densest.len(), 6);
    // What can never fit is told at once.
    assert_eq!(decided(&mut offered(Rule::Densest, &[job(101, 5, 9)]), 0, &mut free), [(0, Verdict::Full)]);
    let mut far = offered(Rule::Densest, &[job(90, 1, 9), job(90, 1, 9), job(90, 1, 9), job(90, 1, 9), job(1, 9, 9)]);
    assert_eq!(decided(&mut far, 0, &mut free), []);
    // Whose patience has ended makes room in the window, and is not kept waiting by it.
    assert_eq!(decided(&mut far, 9, &mut free).len(), 5);
}
