//! The table against a naive model, from the view of workers that have passed and of workers that have not.

mod attack;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use vinet_trusted::addr::Prefix;

use super::program::{Body, Permit, ProgramCell};
use super::*;
use crate::publication::{Domain, STUCK_AFTER_NS};
use crate::settings::TableLimits;

/// A program of the tests: cells, and whether it discards what it is run on.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) cells: Vec<ProgramCell>,
    pub(super) discards: bool,
}

impl std::fmt::Debug for ProgramCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {} {}", self.src, self.dst, if self.verdict.is_some() { "discard" } else { "run" })
    }
}

fn limits() -> TableLimits {
    TableLimits { programs_max: 20_000, cells_max: 40_000, retired_max: 12_000 }
}

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().expect("an address").into()
}

fn cell(src: Prefix, dst: Prefix, discard: bool) -> ProgramCell {
    ProgramCell { src, dst, verdict: discard.then_some(Permit::Model) }
}

fn host(src: &str, dst: &str, discard: bool) -> Body {
    Body::Model(Model { cells: vec![cell(Prefix::host(addr(src)), Prefix::host(addr(dst)), discard)], discards: false })
}

/// What a packet meets: the program whose verdict counts, and the programs that run.
type Meets = (Option<InstallId>, Vec<InstallId>);

/// The naive table: every program, looked through for every packet.
#[derive(Clone, Default)]
struct Naive {
    programs: BTreeMap<InstallId, (Model, u32)>,
}

impl Naive {
    fn meets(&self, src: Addr, dst: Addr) -> Meets {
        let holds = |cell: &&ProgramCell| cell.src.contains(src) && cell.dst.contains(dst);
        let mut verdict = None;
        let mut runs = Vec::new();
        for (&id, (model, _)) in &self.programs {
            for cell in model.cells.iter().filter(holds) {
                let rank = (u16::from(cell.src.len()) + u16::from(cell.dst.len()), cell.src.len());
                if cell.verdict.is_none() {
                    runs.push(id);
                } else if verdict.is_none_or(|(best, _)| rank > best) {
                    verdict = Some((rank, id));
                }
            }
        }
        runs.dedup();
        (verdict.map(|(_, id)| id), runs)
    }
}

fn push(scratch: &mut TableScratch, lane: u8, pair: (Addr, Addr)) {
    match pair {
        (Addr::V4(src), Addr::V4(dst)) => scratch.push_v4(lane, src, dst),
        (Addr::V6(src), Addr::V6(dst)) => scratch.push_v6(lane, src, dst),
        _ => panic!("a pair of one family"),
    }
}

fn look_up(table: &FlowTable, reader: &Reader, naive: &Naive, pairs: &[(Addr, Addr)]) -> Vec<Meets> {
    let mut scratch = TableScratch::new();
    let mut meets = Vec::new();
    for burst in pairs.chunks(crate::port::BURST_LEN_MAX) {
        for (lane, &pair) in burst.iter().enumerate() {
            push(&mut scratch, lane as u8, pair);
        }
        let found = table.look_up(reader, &mut scratch);
        for (lane, &pair) in burst.iter().enumerate() {
            let Some(found) = found.get(lane) else {
                meets.push((None, vec![]));
                continue;
            };
            let id = |slot| naive.programs.iter().find(|(_, (_, s))| *s == slot).map(|(&id, _)| id);
            let mut runs = Vec::new();
            table.each_run(reader, pair, &found, None, |program| {
                runs.push(program.id);
                ControlFlow::Continue(())
            });
            meets.push((found.discard.and_then(id), runs));
        }
    }
    meets
}

/// A small world, so that cells meet: a few addresses of both families, prefixes of all lengths over them.
fn world() -> Vec<Addr> {
    let v4 = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.9.9.9", "192.0.2.1", "0.0.0.0", "255.255.255.255"];
    let v6 = ["2001:db8::1", "2001:db8::2", "2001:db8:1::1", "fe80::1", "::", "ffff::ffff"];
    v4.iter().chain(&v6).map(|text| addr(text)).collect()
}

fn cell_in_world() -> impl Strategy<Value = ProgramCell> {
    let lens = prop_oneof![4 => Just(255u8), 2 => Just(0), 3 => any::<u8>()];
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), lens.clone(), lens, any::<bool>()).prop_map(
        |(src, dst, src_len, dst_len, discard)| {
            let world = world();
            let src = *src.get(&world);
            let same: Vec<Addr> = world.into_iter().filter(|addr| addr.width() == src.width()).collect();
            let dst = *dst.get(&same);
            let len = |len: u8| if len == 255 { src.width() } else { len % 4 * (src.width() / 4) };
            let of = |addr, l| Prefix::of(addr, len(l)).expect("within the width");
            cell(of(src, src_len), of(dst, dst_len), discard)
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Vec<ProgramCell>>, Vec<prop::sample::Index>),
    Report,
    Reclaim,
}

fn step() -> impl Strategy<Value = Step> {
    let programs = proptest::collection::vec(proptest::collection::vec(cell_in_world(), 0..5), 0..4);
    prop_oneof![
        4 => (programs, proptest::collection::vec(any::<prop::sample::Index>(), 0..4)).prop_map(|(i, w)| Step::Batch(i, w)),
        2 => Just(Step::Report),
        2 => Just(Step::Reclaim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn agrees_with_a_naive_table_for_workers_of_every_epoch(steps in proptest::collection::vec(step(), 1..30)) {
        let (domain, mut places) = Domain::new(2);
        let (mut writer, table) = TableWriter::new(domain, limits()).expect("memory");
        let (mut prompt, mut late) = (places.remove(0).join(), places.remove(0).join());
        let (mut naive, mut naive_late) = (Naive::default(), Naive::default());
        let world = world();
        let pairs: Vec<(Addr, Addr)> = world.iter().flat_map(|&src| world.iter().map(move |&dst| (src, dst)))
            .filter(|(src, dst)| src.width() == dst.width()).collect();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Batch(installs, withdrawals) => {
                    let mut batch = Batch::new();
                    let mut models = Vec::new();
                    let before: Vec<InstallId> = naive.programs.keys().copied().collect();
                    for cells in installs {
                        next += 1;
                        let model = Model { cells, discards: false };
                        batch.install_body(InstallId(next), Body::Model(model.clone()));
                        models.push((InstallId(next), model));
                    }
                    let mut gone: Vec<InstallId> = withdrawals.iter().filter(|_| !before.is_empty()).map(|i| *i.get(&before)).collect();
                    gone.sort_unstable();
                    gone.dedup();
                    for &id in &gone {
                        batch.withdraw(id);
                    }
                    writer.apply(batch).expect("within the bounds");
                    naive.programs.retain(|id, _| !gone.contains(id));
                    for (id, model) in models {
                        let slot = writer.slot_of(id).expect("installed");
                        naive.programs.insert(id, (model, slot));
                    }
                }
                Step::Report => {
                    late.quiescent();
                    naive_late = naive.clone();
                }
                Step::Reclaim => drop(writer.reclaim()),
            }
            prompt.quiescent();
            for (reader, naive) in [(&prompt, &naive), (&late, &naive_late)] {
                let meets = look_up(&table, reader, naive, &pairs);
                for (&(src, dst), meets) in pairs.iter().zip(meets) {
                    prop_assert_eq!(meets, naive.meets(src, dst), "from {} to {}", src, dst);
                }
            }
            for &(src, dst) in &pairs {
                let (verdict, runs) = naive.meets(src, dst);
                let acting = writer.acting_on(src, dst);
                prop_assert_eq!(acting.first(), verdict.as_ref().or(runs.first()));
            }
        }
        prompt.quiescent();
        late.quiescent();
        let ids: Vec<InstallId> = naive.programs.keys().copied().collect();
        let mut batch = Batch::new();
        for &id in &ids {
            batch.withdraw(id);
        }
        writer.apply(batch).expect("within the bounds");
        let mut finished = Vec::new();
        for _ in 0..3 {
            prompt.quiescent();
            late.quiescent();
            finished.extend(writer.reclaim().into_iter().map(|finished| finished.id));
        }
        finished.retain(|id| ids.contains(id));
        finished.sort_unstable();
        prop_assert_eq!(finished, ids);
        prop_assert!(writer.is_empty());
        prompt.quiescent();
        late.quiescent();
        writer.reclaim();
        prop_assert_eq!(writer.retired(), 0);
    }
}

#[test]
fn every_bound_is_held_and_a_refusal_changes_nothing() {
    let (domain, mut places) = Domain::new(1);
    let small = TableLimits { programs_max: 3, cells_max: 8, retired_max: 5 };
    let (mut writer, table) = TableWriter::new(domain, small).expect("memory");
    let mut reader = places.remove(0).join();
    let apply = |writer: &mut TableWriter, id: u64, body: Body| {
        let mut batch = Batch::new();
        batch.install_body(InstallId(id), body);
        writer.apply(batch)
    };
    apply(&mut writer, 1, host("10.0.0.1", "10.0.0.2", true)).expect("the first");
    assert_eq!(
        apply(&mut writer, 1, host("10.0.0.1", "10.0.0.2", true)),
        Err(InstallError::DuplicateProgram(InstallId(1)))
    );
    assert_eq!(writer.withdraw(InstallId(7)), Err(InstallError::UnknownProgram(InstallId(7))));

    // A batch whose last change is refused leaves no trace of the first.
    let mut batch = Batch::new();
    batch.install_body(InstallId(2), host("10.0.0.5", "10.0.0.2", true)).withdraw(InstallId(9));
    assert_eq!(writer.apply(batch), Err(InstallError::UnknownProgram(InstallId(9))));
    reader.quiescent();
    let naive = Naive::default();
    let pair = [(addr("10.0.0.5"), addr("10.0.0.2"))];
    assert_eq!(look_up(&table, &reader, &naive, &pair), [(None, vec![])]);
    assert_eq!(writer.acting_on(pair[0].0, pair[0].1), []);

    let wide = |count: u32| {
        let cells = (0..count).map(|i| cell(Prefix::host(Addr::V4(i)), Prefix::host(addr("10.0.0.2")), true)).collect();
        Body::Model(Model { cells, discards: false })
    };
    assert_eq!(apply(&mut writer, 3, wide(9)), Err(InstallError::TooManyCells { cells_max: 8 }));
    assert_eq!(
        apply(&mut writer, 3, wide(CELLS_PER_PROGRAM_MAX as u32 + 1)),
        Err(InstallError::ProgramTooWide { id: InstallId(3), cells: CELLS_PER_PROGRAM_MAX + 1 })
    );
    apply(&mut writer, 2, wide(1)).expect("room");
    apply(&mut writer, 3, wide(1)).expect("room");
    assert_eq!(
        apply(&mut writer, 4, host("1.1.1.1", "10.0.0.2", true)),
        Err(InstallError::TooManyPrograms { programs_max: 3 })
    );

    for _ in 0..2 {
        reader.quiescent();
        writer.reclaim();
    }
    assert_eq!(writer.retired(), 0);

    // The worker does not report: what is replaced piles up to its bound, and then changes are refused.
    writer.withdraw(InstallId(3)).expect("within the bound");
    writer.withdraw(InstallId(2)).expect("within the bound");
    let refused = writer.withdraw(InstallId(1));
    assert!(matches!(refused, Err(InstallError::RetiredFull { .. })), "{refused:?}");
    std::thread::sleep(std::time::Duration::from_nanos(STUCK_AFTER_NS + 50_000_000));
    assert_eq!(writer.withdraw(InstallId(1)), Err(InstallError::WorkerStuck { workers: vec![0] }));
    for _ in 0..2 {
        reader.quiescent();
        writer.reclaim();
    }
    assert_eq!(writer.stuck_workers(), []);
    writer.withdraw(InstallId(1)).expect("the worker passed");
}

#[test]
fn shapes_and_chains_are_bounded_and_come_back() {
    let (domain, mut places) = Domain::new(1);
    let (mut writer, _table) = TableWriter::new(domain, limits()).expect("memory");
    let mut reader = places.remove(0).join();
    let dst = Prefix::host(addr("2001:db8::1"));
    let shape = |len: u8| {
        let cells = vec![cell(Prefix::of(addr("2001:db8::2"), len).expect("a length"), dst, true)];
        Body::Model(Model { cells, discards: false })
    };
    let apply = |writer: &mut TableWriter, id: u64, body: Body| {
        let mut batch = Batch::new();
        batch.install_body(InstallId(id), body);
        writer.apply(batch)
    };
    for i in 0..SHAPES_MAX as u8 {
        apply(&mut writer, u64::from(i), shape(i)).expect("within the bound");
    }
    assert_eq!(
        apply(&mut writer, 1000, shape(SHAPES_MAX as u8)),
        Err(InstallError::TooManyShapes { shapes: SHAPES_MAX + 1 })
    );
    writer.withdraw(InstallId(5)).expect("installed");
    for _ in 0..3 {
        reader.quiescent();
        writer.reclaim();
    }
    apply(&mut writer, 1000, shape(SHAPES_MAX as u8)).expect("a shape came free");
    for i in 0..CHAIN_LEN_MAX as u64 {
        apply(&mut writer, 2000 + i, host("10.0.0.1", "10.0.0.2", false)).expect("within the bound");
    }
    let refused = apply(&mut writer, 3000, host("10.0.0.1", "10.0.0.2", false));
    assert!(matches!(refused, Err(InstallError::ChainFull { .. })));
}

#[test]
fn the_table_grows_under_readers_and_shows_each_batch_whole() {
    const PAIRS: u64 = 2000;
    let (domain, places) = Domain::new(2);
    let (mut writer, table) = TableWriter::new(domain, limits()).expect("memory");
    let done = Arc::new(AtomicBool::new(false));
    let left = |i: u64| (Addr::V4(0x0a00_0000 + i as u32), addr("192.0.2.1"));
    let right = |i: u64| (Addr::V6(u128::from(i) << 64 | 1), addr("2001:db8::1"));
    let threads: Vec<_> = places
        .into_iter()
        .map(|place| {
            let (table, done) = (table.clone(), done.clone());
            std::thread::spawn(move || {
                let mut reader = place.join();
                let mut scratch = TableScratch::new();
                let mut hits = 0u64;
                let mut i = reader.worker() as u64;
                while !done.load(Ordering::Relaxed) {
                    i = (i * 25_214_903 + 11) % PAIRS;
                    push(&mut scratch, 0, left(i));
                    push(&mut scratch, 1, right(i));
                    let found = table.look_up(&reader, &mut scratch);
                    let (verdict, run) = (found.get(0), found.get(1));
                    let is_discarded = verdict.is_some_and(|found| found.discard.is_some());
                    let is_run = run.is_some_and(|found| !found.run.is_nothing());
                    assert_eq!(is_discarded, is_run, "half of batch {i}");
                    hits += u64::from(is_discarded);
                    if i.is_multiple_of(64) {
                        reader.while_offline(std::thread::yield_now);
                    }
                    reader.quiescent();
                }
                hits
            })
        })
        .collect();
    let body = |i: u64| {
        let ((a, b), (c, d)) = (left(i), right(i));
        let cells = vec![cell(Prefix::host(a), Prefix::host(b), true), cell(Prefix::host(c), Prefix::host(d), false)];
        Body::Model(Model { cells, discards: false })
    };
    let mut installed = std::collections::VecDeque::new();
    for round in 0..20 * PAIRS {
        let mut batch = Batch::new();
        let i = round % PAIRS;
        if installed.len() as u64 > PAIRS / 2
            && let Some(id) = installed.pop_front()
        {
            batch.withdraw(InstallId(id));
        }
        batch.install_body(InstallId(round), body(i));
        installed.push_back(round);
        let mut batch = Some(batch);
        // Workers of a loaded machine may lag; what is refused for that is tried again.
        while let Some(refused) = batch.take() {
            if writer.retired() > limits().retired_max / 2 {
                std::thread::yield_now();
                writer.reclaim();
                batch = Some(refused);
            } else {
                writer.apply(refused).expect("within the bounds");
            }
        }
        if round.is_multiple_of(16) {
            writer.reclaim();
        }
    }
    done.store(true, Ordering::Relaxed);
    for thread in threads {
        assert!(thread.join().expect("no worker saw half a batch") > 0);
    }
}

/// A hasher that every machine has: what runs where there are no AES instructions.
#[test]
fn both_ways_of_hashing_find_the_same() {
    let portable =
        hash::Hasher::of_every_machine(&std::array::from_fn(|i| 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(i as u64 + 1)));
    for hasher in [hash::Hasher::draw(), Ok(portable)] {
        let (domain, mut places) = Domain::new(1);
        let hasher = hasher.expect("random numbers");
        let (mut writer, table) = TableWriter::with_hasher(domain, limits(), hasher).expect("memory");
        let mut reader = places.remove(0).join();
        let mut naive = Naive::default();
        let world = world();
        let of_family = |v6: bool| world.iter().copied().filter(move |addr| (addr.width() == 128) == v6);
        let pairs: Vec<(Addr, Addr)> = [false, true]
            .into_iter()
            .flat_map(|v6| of_family(v6).flat_map(move |src| of_family(v6).map(move |dst| (src, dst))))
            .collect();
        for (number, &(src, dst)) in pairs.iter().enumerate() {
            let len = |part: u8| src.width() / 4 * part;
            let of = |addr, part| Prefix::of(addr, len(part)).expect("within the width");
            let cells = vec![cell(of(src, number as u8 % 5), of(dst, 4 - number as u8 / 5 % 2), number % 3 == 0)];
            let (id, model) = (InstallId(number as u64), Model { cells, discards: false });
            let mut batch = Batch::new();
            batch.install_body(id, Body::Model(model.clone()));
            writer.apply(batch).expect("within the bounds");
            naive.programs.insert(id, (model, writer.slot_of(id).expect("installed")));
        }
        reader.quiescent();
        let meets = look_up(&table, &reader, &naive, &pairs);
        for (&(src, dst), meets) in pairs.iter().zip(meets) {
            assert_eq!(meets, naive.meets(src, dst), "from {src} to {dst}");
        }
    }
}

#[test]
fn a_firewall_of_ten_thousand_prefixes_is_one_program_of_either_family() {
    const PREFIXES: u64 = 10_000;
    let (domain, mut places) = Domain::new(1);
    let (mut writer, table) = TableWriter::new(domain, limits()).expect("memory");
    let mut reader = places.remove(0).join();
    let word = |i: u64| i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let owners = [addr("192.0.2.1"), addr("2001:db8::1")];
    let source = |v6: bool, i: u64| {
        if v6 {
            Prefix::of(Addr::V6(u128::from(word(i)) << 64 | u128::from(word(!i))), 24 + (i % 100) as u8)
        } else {
            Prefix::of(Addr::V4(word(i) as u32), 14 + (i % 19) as u8)
        }
        .expect("a length of the family")
    };
    let mut naive = Naive::default();
    for (number, &owner) in owners.iter().enumerate() {
        let v6 = number == 1;
        // The lengths of IPv6 prefixes are more than there are shapes: the last few are left out.
        let lens = |i: &u64| !v6 || i % 100 < SHAPES_MAX as u64;
        let cells: Vec<ProgramCell> =
            (0..PREFIXES).filter(lens).map(|i| cell(source(v6, i), Prefix::host(owner), true)).collect();
        let (id, model) = (InstallId(number as u64), Model { cells, discards: false });
        let mut batch = Batch::new();
        batch.install_body(id, Body::Model(model.clone()));
        writer.apply(batch).expect("within the bounds");
        naive.programs.insert(id, (model, writer.slot_of(id).expect("installed")));
    }
    assert_eq!(writer.len(), 2);
    reader.quiescent();
    let pairs: Vec<(Addr, Addr)> = (0..300)
        .flat_map(|i| {
            let (inside, by_chance) = (source(false, i * 31).addr(), Addr::V4(word(i << 20) as u32));
            let (inside_v6, outside_v6) = (source(true, i * 31).addr(), Addr::V6(u128::from(word(i)) << 60));
            [(inside, owners[0]), (by_chance, owners[0]), (inside_v6, owners[1]), (outside_v6, owners[1])]
                .into_iter()
                .chain([(inside, addr("192.0.2.2")), (inside_v6, addr("2001:db8::2"))])
        })
        .collect();
    let meets = look_up(&table, &reader, &naive, &pairs);
    for (&(src, dst), meets) in pairs.iter().zip(&meets) {
        assert_eq!(*meets, naive.meets(src, dst), "from {src} to {dst}");
    }
    assert!(meets.iter().filter(|(verdict, _)| verdict.is_some()).count() >= 300);
    // Withdrawn, all of it is gone in a few turns, the shapes too.
    for id in [0, 1] {
        for _ in 0..6 {
            reader.quiescent();
            writer.reclaim();
        }
        writer.withdraw(InstallId(id)).expect("installed");
    }
    for _ in 0..6 {
        reader.quiescent();
        writer.reclaim();
    }
    reader.quiescent();
    assert!(table.is_empty_for(&reader));
    assert_eq!(writer.retired(), 0);
}

#[test]
fn installs_one_by_one_grow_the_table_a_little_at_a_time() {
    let (domain, mut places) = Domain::new(1);
    let limits = TableLimits { programs_max: 30_000, cells_max: 30_000, retired_max: 10_000 };
    let (mut writer, table) = TableWriter::new(domain, limits).expect("memory");
    let mut reader = places.remove(0).join();
    let pair = |i: u32| (Addr::V4(0x0a00_0000 + i), Addr::V4(0xc612_0000 + i % 7));
    let mut tables_seen = Vec::new();
    for i in 0..20_000u32 {
        let (src, dst) = pair(i);
        let mut batch = Batch::new();
        let cells = vec![cell(Prefix::host(src), Prefix::host(dst), true)];
        batch.install_body(InstallId(u64::from(i)), Body::Model(Model { cells, discards: false }));
        writer.apply(batch).expect("within the bounds");
        tables_seen.push(writer.buckets_v4());
        if i % 64 == 0 {
            reader.quiescent();
            writer.reclaim();
        }
    }
    tables_seen.dedup();
    assert!(tables_seen.len() > 5, "{tables_seen:?}");
    assert_eq!(writer.grown_at_once_v4(), 0, "a single install never copies the whole table");
    reader.quiescent();
    let mut scratch = TableScratch::new();
    for first in (0..20_000).step_by(64) {
        for lane in 0..64 {
            push(&mut scratch, lane as u8, pair(first + lane));
        }
        let wanted = if first + 64 <= 20_000 { u64::MAX } else { u64::MAX >> (first + 64 - 20_000) };
        assert_eq!(table.wanted_lanes(&reader, &mut scratch), wanted, "from {first}");
    }
    // Most are withdrawn again: the table shrinks, and what is left is found.
    for first in (0..19_900).step_by(100) {
        let mut batch = Batch::new();
        for i in first..first + 100 {
            batch.withdraw(InstallId(i));
        }
        writer.apply(batch).expect("within the bounds");
        reader.quiescent();
        writer.reclaim();
    }
    for _ in 0..40 {
        reader.quiescent();
        writer.reclaim();
    }
    reader.quiescent();
    assert!(writer.buckets_v4() < tables_seen[tables_seen.len() - 1], "{} of {tables_seen:?}", writer.buckets_v4());
    push(&mut scratch, 3, pair(19_950));
    push(&mut scratch, 4, pair(19_800));
    assert_eq!(table.wanted_lanes(&reader, &mut scratch), 1 << 3);
}
