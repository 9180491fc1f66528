use super::*;

use std::collections::BTreeSet;
use vinet_fastpath::flow_table::ProgramCounts;
use vinet_trusted::addr::Prefix;
use vinet_trusted::gate::Action;

use crate::sources::{Phase, Reason, ShutOffLimits};

const NOW: Now = Now { wall_s: 1_800_000_000, mono_ms: 50_000 };
const LIMITS: ShutOffLimits = ShutOffLimits { owners: 1, back_below: 1, time_s: 600, respite_s: 60, sources_max: 100 };

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

#[derive(Default)]
struct Table {
    installed: BTreeSet<InstallId>,
    stuck: bool,
}

impl ProgramTable for Table {
    fn install_all(&mut self, installs: Vec<Install>) -> Result<(), InstallError> {
        if self.stuck {
            return Err(InstallError::RetiredFull { retired: 1 });
        }
        for Install { id, .. } in installs {
            assert!(id.0 >= OWN_IDS_FROM && self.installed.insert(id), "{id} was used before");
        }
        Ok(())
    }
    fn withdraw(&mut self, id: InstallId) -> Result<(), InstallError> {
        if self.stuck {
            return Err(InstallError::RetiredFull { retired: 1 });
        }
        assert!(self.installed.remove(&id), "{id} is not installed");
        Ok(())
    }
    fn counts(&self, _: InstallId) -> Option<ProgramCounts> {
        None
    }
    fn free_passed(&mut self) {}
}

#[test]
fn the_routers_own_program_is_one_verdict_for_one_source_and_every_destination() {
    for own in [vec![addr("192.0.2.1"), addr("2001:db8:1::1")], vec![]] {
        let maker = ShutOffMaker::new(&own);
        for (source, everywhere) in [("198.51.100.7", "0.0.0.0"), ("2001:db8:b::7", "::"), ("0.0.0.0", "0.0.0.0")] {
            let executable = maker.make(addr(source)).unwrap();
            assert!(executable.is_verdict());
            let [cell] = executable.cells() else { panic!("{:?}", executable.cells()) };
            assert_eq!((cell.src(), cell.action()), (Prefix::host(addr(source)), Action::Discard));
            assert_eq!(Some(cell.dst()), Prefix::new(addr(everywhere), 0));
        }
    }
}

#[test]
fn its_policy_is_one_that_says_no_more_than_that() {
    let policy = policy();
    policy.validate().unwrap();
    // A program for the same owner that reaches beyond it is not accepted: here, one that looks into contents.
    let word = vinet_trusted::program::Word { fold: false, bytes: b"x".to_vec() };
    let cond = vinet_trusted::program::Cond::Contains { arg: ALL_PACKETS, word: 0 };
    let body = vec![Instr::If { cond, then: vec![Instr::Discard { arg: ALL_PACKETS }], otherwise: vec![] }];
    let program = Program::new(60, 1, vec![word], body).unwrap();
    let owner = everywhere(&[], Addr::V4(0));
    assert!(vinet_prover::prove(&program, &owner, &policy, &vinet_prover::library(), &[]).is_err());
}

fn shut_off(source: &str) -> Change {
    Change::ShutOff { source: addr(source), owners: 1, until_s: 0 }
}
fn back(source: &str) -> Change {
    Change::Back { source: addr(source), reason: Reason::Operator }
}

#[test]
fn the_table_follows_the_register() {
    let (mut maker, mut table) = (ShutOffMaker::new(&[]), Table::default());
    let mut register = ShutOffs::new(LIMITS);
    let done = maker.carry_out(vec![shut_off("10.0.0.1"), shut_off("10.0.0.2")], &mut register, &mut table, NOW);
    assert!(matches!(done[..], [Outcome::Done(_), Outcome::Done(_)]), "{done:?}");
    assert_eq!(table.installed.len(), 2);
    let first = maker.program_of(addr("10.0.0.1")).unwrap();
    let done = maker.carry_out(vec![back("10.0.0.1")], &mut register, &mut table, NOW);
    assert!(matches!(done[..], [Outcome::Done(Change::Back { .. })]), "{done:?}");
    assert!(!table.installed.contains(&first) && maker.program_of(addr("10.0.0.1")).is_none());
    // Back before it was shut off, and shut off where it is already: nothing to do.
    let done = maker.carry_out(vec![back("10.0.0.9"), shut_off("10.0.0.2")], &mut register, &mut table, NOW);
    assert!(done.is_empty() && maker.is_done());
    maker.clear(&mut table);
    assert!(table.installed.is_empty());
}

#[test]
fn one_turn_makes_a_bounded_number_and_the_next_goes_on() {
    let (mut maker, mut table) = (ShutOffMaker::new(&[]), Table::default());
    let mut register = ShutOffs::new(LIMITS);
    let changes = (0..20).map(|n| shut_off(&format!("10.0.0.{n}"))).collect();
    assert_eq!(maker.carry_out(changes, &mut register, &mut table, NOW).len(), MADE_PER_TURN);
    assert!(!maker.is_done());
    maker.carry_out(vec![], &mut register, &mut table, NOW);
    maker.carry_out(vec![], &mut register, &mut table, NOW);
    assert!(maker.is_done());
    assert_eq!(table.installed.len(), 20);
}

#[test]
fn a_table_that_takes_nothing_now_is_asked_again() {
    let (mut maker, mut table) = (ShutOffMaker::new(&[]), Table { stuck: true, ..Table::default() });
    let mut register = ShutOffs::new(LIMITS);
    register.voted(addr("10.0.0.1"), 1);
    let changes = register.changes(NOW);
    let failed = maker.carry_out(changes, &mut register, &mut table, NOW);
    assert!(matches!(failed[..], [Outcome::Failed { error: ShutOffError::Table(_), .. }]), "{failed:?}");
    assert_eq!(register.record(addr("10.0.0.1")).map(|record| record.phase), Some(Phase::Respite));
    table.stuck = false;
    let later = Now { wall_s: NOW.wall_s + 10, mono_ms: NOW.mono_ms + 10_000 };
    let changes = register.changes(later);
    assert_eq!(maker.carry_out(changes, &mut register, &mut table, later).len(), 1);
    // The way back is not given up either.
    table.stuck = true;
    register.let_back(addr("10.0.0.1"), later).unwrap();
    let changes = register.changes(later);
    assert!(maker.carry_out(changes, &mut register, &mut table, later).is_empty() && !maker.is_done());
    table.stuck = false;
    assert_eq!(maker.carry_out(vec![], &mut register, &mut table, later).len(), 1);
    assert!(maker.is_done() && table.installed.is_empty());
}

#[test]
fn in_the_flow_table_it_is_a_verdict_on_everything_from_the_source_and_nothing_else() {
    use vinet_fastpath::flow_table::{TableScratch, TableWriter};
    use vinet_fastpath::publication::Domain;
    use vinet_fastpath::settings::TableLimits;

    let (domain, places) = Domain::new(1);
    let limits = TableLimits { programs_max: 16, cells_max: 64, retired_max: 64 };
    let (mut table, cells) = TableWriter::new(domain, limits).unwrap();
    let mut reader = places.into_iter().next().unwrap().join();
    let mut scratch = TableScratch::new();
    let mut wanted = |table: &mut TableWriter| {
        reader.quiescent();
        drop(table.reclaim());
        for (lane, (src, dst)) in
            (0..).zip([(0x0a00_0001, 1), (0x0a00_0001, u32::MAX), (0x0a00_0002, 1), (1, 0x0a00_0001)])
        {
            scratch.push_v4(lane, src, dst);
        }
        let v6 = u128::from(0x0a00_0001u32);
        scratch.push_v6(4, v6, 1);
        cells.wanted_lanes(&reader, &mut scratch)
    };
    let (mut maker, mut register) = (ShutOffMaker::new(&[]), ShutOffs::new(LIMITS));
    assert_eq!(wanted(&mut table), 0);
    maker.carry_out(vec![shut_off("10.0.0.1")], &mut register, &mut table, NOW);
    assert_eq!(wanted(&mut table), 0b00011, "both packets from the source, and none to it or of another family");
    maker.carry_out(vec![shut_off("::a00:1")], &mut register, &mut table, NOW);
    assert_eq!(wanted(&mut table), 0b10011);
    maker.carry_out(vec![back("10.0.0.1"), back("::a00:1")], &mut register, &mut table, NOW);
    assert_eq!(wanted(&mut table), 0);
}
