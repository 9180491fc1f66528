//! The recipes keep their word: programs of lawful families do nothing wrong on any window that is tried, those of
//! unlawful ones do on some window.

use super::*;
use vinet_trusted::addr::{Addr, AddrExpr};
use vinet_trusted::meaning::{Answers, Event, run};
use vinet_trusted::packet::Packet;
use vinet_trusted::program::{AddrTerm, Cond, Expr, Word};

fn policies() -> Policies {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy");
    Policies::load(&folder).unwrap_or_else(|error| panic!("{error}"))
}

/// Says yes or no, and counts, by chance.
struct Any(Chance);

impl Answers for Any {
    fn contains(&mut self, packets: &[usize], _: &Word) -> bool {
        !packets.is_empty() && self.0.one_in(2)
    }
    fn count(&mut self, packets: &[usize], _: &Word) -> u64 {
        if packets.is_empty() { 0 } else { self.0.below(9) as u64 }
    }
}

/// What a program speaks of.
#[derive(Default)]
struct Mentioned {
    addrs: Vec<Addr>,
    numbers: Vec<u32>,
}

impl Mentioned {
    /// The addresses of a case and what stands next to them, and the ends of its ranges of numbers.
    fn of(case: &Case) -> Mentioned {
        let own = case.owner.addr();
        let owned = case.owner.owned();
        let mut all = Mentioned { addrs: vec![own, owned.addr(), owned.last()], numbers: vec![25, 80] };
        // Counting loops that leave the subnet go so far at most.
        all.addrs.extend((-3..0).filter_map(|n| owned.addr().offset(n)));
        all.addrs.extend((1..60).filter_map(|n| owned.last().offset(n)));
        all.block(case.program.body(), own);
        let near: Vec<Addr> = all.addrs.iter().flat_map(|a| [a.offset(-1), a.offset(1)]).flatten().collect();
        all.addrs.extend(near);
        all.addrs.sort();
        all.addrs.dedup();
        all
    }
    fn set(&mut self, addrs: &AddrExpr) {
        self.addrs.extend(addrs.prefixes.prefixes().iter().flat_map(|p| [p.addr(), p.last()]));
    }
    fn test(&mut self, test: &Test) {
        match test {
            Test::In { addrs, .. } => self.set(addrs),
            Test::Number { ranges, .. } => self.numbers.extend(ranges.ranges().iter().flat_map(|&(a, b)| [a, b])),
            Test::Not { a } => self.test(a),
            Test::And { a, b } | Test::Or { a, b } => [a, b].into_iter().for_each(|part| self.test(part)),
            _ => {}
        }
    }
    fn cond(&mut self, cond: &Cond) {
        match cond {
            Cond::AddrIn { addrs, .. } => self.set(addrs),
            Cond::AddrIs { is: AddrTerm::Const { addr }, .. } => self.addrs.push(*addr),
            Cond::Not { cond } => self.cond(cond),
            Cond::And { a, b } | Cond::Or { a, b } => [a, b].into_iter().for_each(|part| self.cond(part)),
            _ => {}
        }
    }
    fn block(&mut self, body: &[Instr], own: Addr) {
        for instr in body {
            match instr {
                Instr::Select { test, .. } => self.test(test),
                Instr::If { cond, .. } | Instr::While { cond, .. } => self.cond(cond),
                Instr::Offset { by: Expr::Mul { b, .. }, .. } => {
                    if let Expr::Const { value } = **b {
                        self.addrs.extend((1..5).filter_map(|n| own.offset(n * value)));
                    }
                }
                _ => {}
            }
            instr.blocks().for_each(|inside| self.block(inside, own));
        }
    }
}

/// Whether some of so many windows makes the program do what its policy forbids.
fn is_seen_to_offend(case: &Case, windows: usize) -> bool {
    let mut chance = Chance::new(7);
    let Mentioned { addrs, numbers } = Mentioned::of(case);
    let most = if case.program.window() == 0 { 4 } else { usize::from(case.program.window()) };
    for _ in 0..windows {
        let window: Vec<Packet> = (0..chance.below(most) + 1)
            .map(|_| {
                let dst = if chance.one_in(2) { case.owner.addr() } else { *chance.pick(&addrs) };
                let mut packet = Packet::between(*chance.pick(&addrs), dst);
                packet.numbers[0] = *chance.pick(&[1, 2, 6, 17, 58]);
                for port in [1, 2] {
                    let any = [chance.below(65_536) as u32, *chance.pick(&numbers)];
                    packet.numbers[port] = *chance.pick(&[443, 465, 853, 993, 995, any[0], any[1], any[1]]);
                }
                let len = [20 + chance.below(1481) as u32, *chance.pick(&numbers)];
                packet.numbers[3] = *chance.pick(&len);
                packet.content = chance.below(2) as u64;
                packet
            })
            .collect();
        let mut answers = Any(Chance::new(chance.bits()));
        let run =
            run(&case.program, &case.owner, &case.policy, &window, &mut answers, &|_| None).expect("names are set");
        let policy = &case.policy;
        let allowed = |test: &Test, packet: &Packet| test.eval(&case.owner, packet, &|_| packet.dst) == Ok(true);
        let offends = |event: &Event| match event {
            Event::Discard(p) => !allowed(&policy.discard, &window[*p]),
            Event::Group(p) => !allowed(&policy.group, &window[*p]),
            Event::Scan(p) => !allowed(&policy.scan, &window[*p]),
            Event::Generate { src, dst, .. } => !allowed(&policy.generate, &Packet::between(*src, *dst)),
        };
        if run.events.iter().any(offends) {
            return true;
        }
    }
    false
}

#[test]
fn a_seed_and_a_number_name_a_program() {
    let policies = policies();
    for number in 0..FAMILIES.len() * 2 {
        let (one, same) = (case(&policies, 5, number), case(&policies, 5, number));
        assert_eq!((&one.program, one.owner), (&same.program, same.owner));
        assert_eq!(one.policy, same.policy);
    }
    let differ =
        (0..FAMILIES.len()).filter(|&n| case(&policies, 5, n).program != case(&policies, 6, n).program).count();
    assert!(differ > FAMILIES.len() / 2, "another seed makes other programs: {differ} differ");
}

#[test]
fn lawful_families_do_nothing_wrong() {
    let policies = policies();
    for family in FAMILIES.iter().filter(|family| family.is_lawful) {
        for number in 0..24 {
            let case = of_family(&policies, *family, 1, number);
            assert!(!is_seen_to_offend(&case, 600), "{}, seed 1, number {number}: {:?}", family.name, case.program);
        }
    }
}

#[test]
fn unlawful_families_do_something_wrong() {
    let policies = policies();
    for family in FAMILIES.iter().filter(|family| !family.is_lawful) {
        for number in 0..24 {
            let case = of_family(&policies, *family, 1, number);
            assert!(is_seen_to_offend(&case, 60_000), "{}, seed 1, number {number}: {:?}", family.name, case.program);
        }
    }
}

#[test]
fn families_come_in_pairs_and_have_names_of_their_own() {
    for pair in FAMILIES.chunks(2) {
        assert!(pair[0].is_lawful && !pair[1].is_lawful, "{}", pair[0].name);
    }
    let mut names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FAMILIES.len());
}
