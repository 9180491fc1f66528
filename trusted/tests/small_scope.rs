//! Exhaustive small scope: whatever the checker accepts does nothing that is forbidden and costs no more than it says.
//!
//! Every program of up to three instructions, of every construct, over two addresses and a few numbers. The reference
//! interpreter runs each on every window of up to two packets with every answer about content (a search finds the word
//! or not, a count gives 0 or 1). A program that does something forbidden on any of these is *foul*. Against the foul
//! programs the checker is given every certificate that the prover makes for any lawful program of the scope, and every
//! certificate of up to two bytes; whatever it accepts, of foul and lawful ones alike, has to keep to the policy and to
//! its complexity on every run. Costs are also claimed and shown in every
//! short way: at nothing, and at the sum of the parts.
//!
//! Each instruction counts one, whatever its condition and however many nodes its expressions have; the lists below are
//! all that is enumerated. Slots are assigned again or new.

mod common;
use common::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::check::{Checked, check, note};
use vinet_trusted::cost::Prices;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::meaning;
use vinet_trusted::packet::{Field, Packet, Test};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{AddrTerm, Cond, Expr, Instr, Program, Slot, Type};
use vinet_trusted::proof::{refer, rule};
use vinet_trusted::term::Op;
use vinet_trusted::wire::{Wire, Writer};

const OWN: Addr = Addr::V4(0xc000_0200);
const ALIEN: Addr = Addr::V4(0xc000_0201);
const INSTRUCTIONS_MAX: usize = 3;
const TURNS: u32 = 2;

fn owner() -> Principal {
    Principal::EndUser(OWN)
}

/// The slots of each type, and the places where one of a type can be put, each with the slots there are then.
struct Slots<'a>(&'a [Type]);

impl Slots<'_> {
    fn of(&self, is: impl Fn(Type) -> bool) -> Vec<Slot> {
        (0..self.0.len() as Slot).filter(|s| is(self.0[usize::from(*s)])).collect()
    }
    fn targets(&self, ty: Type, bound: u64) -> Vec<(Slot, Vec<Type>)> {
        let again = self.of(|t| t == ty).into_iter().filter(|s| bound >> s & 1 == 0).map(|s| (s, self.0.to_vec()));
        let mut more = self.0.to_vec();
        more.push(ty);
        again.chain([(self.0.len() as Slot, more)]).collect()
    }
}

/// Gives `then` every block of exactly `size` instructions that may stand where the slots have these types (those in
/// `bound` cannot be assigned), with the slots behind it.
fn blocks(size: usize, slots: &[Type], bound: u64, then: &mut dyn FnMut(Vec<Instr>, Vec<Type>, u64)) {
    if size == 0 {
        return then(Vec::new(), slots.to_vec(), bound);
    }
    let mut first = |instr: Instr, slots: &[Type], bound: u64, size: usize| {
        blocks(size, slots, bound, &mut |mut rest, slots, bound| {
            rest.insert(0, instr.clone());
            then(rest, slots, bound);
        });
    };
    let s = Slots(slots);
    let packets = s.of(|t| t == Type::Packets);
    let (addrs, ints) = (s.of(|t| t == Type::Addr), s.of(|t| t == Type::Int));
    for &arg in &packets {
        first(Instr::Discard { arg }, slots, bound, size - 1);
        for (out, slots) in s.targets(Type::Packets, bound) {
            for test in tests(&addrs) {
                first(Instr::Select { out, arg, test }, &slots, bound, size - 1);
            }
            for &b in &packets {
                if b != arg {
                    first(Instr::Union { out, a: arg, b }, &slots, bound, size - 1);
                    first(Instr::Minus { out, a: arg, b }, &slots, bound, size - 1);
                }
            }
        }
        for field in [Field::Src, Field::Dst] {
            for (out, slots) in s.targets(Type::Groups(field), bound) {
                first(Instr::Partition { out, arg, field }, &slots, bound, size - 1);
            }
        }
        for (out, slots) in s.targets(Type::Int, bound) {
            first(Instr::Count { out, arg, word: 0 }, &slots, bound, size - 1);
            first(Instr::Size { out, arg }, &slots, bound, size - 1);
        }
        for (dests, slots) in s.targets(Type::Dests, bound) {
            for (contents, slots) in Slots(&slots).targets(Type::Contents, bound) {
                first(Instr::Content { dests, contents, arg }, &slots, bound, size - 1);
            }
        }
    }
    for (out, slots) in s.targets(Type::Int, bound) {
        for expr in exprs(&ints) {
            first(Instr::Let { out, expr }, &slots, bound, size - 1);
        }
    }
    for (out, slots) in s.targets(Type::Addr, bound) {
        for by in [int(0), int(1)].into_iter().chain(ints.iter().map(|i| held(*i))) {
            first(Instr::Offset { out, base: AddrTerm::ThisIp, by }, &slots, bound, size - 1);
        }
    }
    for data in s.of(|t| matches!(t, Type::Dests | Type::Contents)) {
        let slots_held = addrs.iter().map(|slot| AddrTerm::Slot { slot: *slot });
        for dst in [AddrTerm::ThisIp, AddrTerm::Const { addr: ALIEN }].into_iter().chain(slots_held) {
            first(Instr::Generate { src: AddrTerm::ThisIp, dst, data }, slots, bound, size - 1);
        }
    }
    for field in [Field::Src, Field::Dst] {
        for groups in s.of(|t| t == Type::Groups(field)) {
            let new = slots.len() as Slot;
            let inside = [slots, &[Type::Packets, Type::Addr]].concat();
            for inner in 0..size {
                blocks(inner, &inside, bound | 3 << new, &mut |body, slots, bound| {
                    let instr = Instr::Foreach { groups, packets: new, key: new + 1, body };
                    first(instr, &slots, bound, size - 1 - inner);
                });
            }
        }
    }
    for cond in conds(&packets, &addrs, &ints) {
        for inner in 0..size {
            blocks(inner, slots, bound, &mut |body, slots, bound| {
                let instr = Instr::While { cond: cond.clone(), max: TURNS, body };
                first(instr, &slots, bound, size - 1 - inner);
            });
            for left in 0..=inner {
                blocks(left, slots, bound, &mut |then, slots, bound| {
                    blocks(inner - left, &slots, bound, &mut |otherwise, slots, bound| {
                        let instr = Instr::If { cond: cond.clone(), then: then.clone(), otherwise };
                        first(instr, &slots, bound, size - 1 - inner);
                    });
                });
            }
        }
    }
}

fn tests(addrs: &[Slot]) -> Vec<Test> {
    let fields = [Field::Src, Field::Dst];
    let sets = fields.into_iter().flat_map(|field| [this_ip(), ALIEN.into()].map(|addrs| Test::In { field, addrs }));
    sets.chain(addrs.iter().map(|slot| Test::Is { field: Field::Dst, slot: *slot })).collect()
}

fn exprs(ints: &[Slot]) -> Vec<Expr> {
    [int(0), int(i64::MAX)].into_iter().chain(ints.iter().map(|i| plus(held(*i), int(1)))).collect()
}

fn conds(packets: &[Slot], addrs: &[Slot], ints: &[Slot]) -> Vec<Cond> {
    let mut all = Vec::new();
    for arg in packets {
        all.extend([contains(*arg, 0), Cond::Empty { arg: *arg }]);
    }
    for addr in addrs {
        all.push(Cond::AddrIs { addr: *addr, is: AddrTerm::ThisIp });
    }
    for i in ints {
        all.extend([at_most(held(*i), int(0)), Cond::Equal { a: held(*i), b: int(1) }]);
    }
    all.extend(all.clone().into_iter().map(not));
    all
}

fn programs(size: usize, window: u16) -> Vec<Program> {
    let mut programs = Vec::new();
    blocks(size, &[Type::Packets], 1, &mut |body, _, _| {
        let program =
            Program::new(1, window, vec![word("w")], body.clone()).or_else(|_| Program::new(1, window, vec![], body));
        programs.extend(program);
    });
    programs
}

fn windows(len_max: usize) -> Vec<Vec<Packet>> {
    let kinds: Vec<Packet> =
        [OWN, ALIEN].iter().flat_map(|&src| [OWN, ALIEN].map(|dst| Packet::between(src, dst))).collect();
    let mut all = vec![Vec::new()];
    let mut longest = all.clone();
    for _ in 0..len_max {
        longest = longest.iter().flat_map(|w: &Vec<Packet>| kinds.iter().map(|k| [&w[..], &[*k]].concat())).collect();
        all.extend(longest.clone());
    }
    all
}

/// Gives `each` every run of the program, with the window, until it says no.
fn every_run(
    program: &Program,
    policy: &Policy,
    windows: &[Vec<Packet>],
    turns: &dyn Fn(usize) -> Option<u32>,
    each: &mut dyn FnMut(&[Packet], &meaning::Run) -> bool,
) -> bool {
    for window in windows {
        // Answers as a binary counter whose length is the number of questions.
        let answers = std::cell::RefCell::new(Vec::new());
        loop {
            let asked = std::cell::Cell::new(0);
            let next = || {
                let mut answers = answers.borrow_mut();
                if asked.get() == answers.len() {
                    answers.push(false);
                }
                asked.set(asked.get() + 1);
                answers[asked.get() - 1]
            };
            let mut oracle = Oracle(|_: &[usize], _: &_| next(), |_: &[usize], _: &_| u64::from(next()));
            let run = meaning::run(program, &owner(), policy, window, &mut oracle, turns).expect("THIS_IP has a value");
            if !each(window, &run) {
                return false;
            }
            let mut answers = answers.borrow_mut();
            while answers.last() == Some(&true) {
                answers.pop();
            }
            match answers.last_mut() {
                Some(last) => *last = true,
                None => break,
            }
        }
    }
    true
}

fn is_foul(program: &Program, policy: &Policy, windows: &[Vec<Packet>]) -> bool {
    !every_run(program, policy, windows, &|_| None, &mut |window, run| {
        forbidden(run, window, &owner(), policy).is_none()
    })
}

fn assert_keeps(checked: &Checked, windows: &[Vec<Packet>], proof: &[u8]) {
    every_run(checked.program(), checked.policy(), windows, &|instr| checked.turns(instr), &mut |window, run| {
        let said = format_args!("{:?} with {proof:02x?} on {window:?}", checked.program()).to_string();
        assert_eq!(forbidden(run, window, &owner(), checked.policy()), None, "{said}");
        let most = checked.complexity() * window.len() as u64;
        assert!(window.is_empty() || run.cost <= most, "{} > {most}: {said}", run.cost);
        true
    });
}

/// The certificate with a cost said of the program, and ways to show that the cost is not above it: by evaluation, and by
/// a contradiction to what is known behind a loop or branch (claims 1 and 2).
fn with_a_cost(proof: &[u8], cost: u64) -> Vec<Vec<u8>> {
    let mut said = Writer::new();
    said.byte(note::COST);
    cost.write(&mut said);
    let said = [&said.finish()[..], &proof[1..]].concat();
    let by_evaluation = vec![rule::EVALUATE, refer::GOAL, rule::DONE];
    let by_absurdity = (1..=2u8).flat_map(|known| {
        let denied = [refer::PART, 0, refer::CLAIM, known];
        (known + 1..=3).map(move |assumed| {
            [
                &[rule::ASSUME, Op::Not as u8, refer::GOAL, rule::EVALUATE][..],
                &denied,
                &[rule::CLAIM, known, rule::ABSURD, rule::DISCHARGE, assumed],
                &[rule::NEGATE, rule::DOUBLE_NEGATION, rule::DONE],
            ]
            .concat()
        })
    });
    [by_evaluation].into_iter().chain(by_absurdity).map(|end| [&said[..], &end].concat()).collect()
}

#[test]
fn what_is_accepted_never_does_what_is_forbidden() {
    let started = std::time::Instant::now();
    let store = LemmaStore::default();
    let policies = [Arc::new(anyone_looks()), end_user()];
    let (mut programs_in_all, mut foul_in_all, mut tries) = (0usize, 0usize, 0usize);
    let (mut lawful_in_all, mut unproven, mut costs_shown) = (0usize, 0usize, 0usize);
    for (window, policy, size_max) in [(1, 0, INSTRUCTIONS_MAX), (2, 0, 2), (1, 1, INSTRUCTIONS_MAX), (2, 1, 2)] {
        let policy = &policies[policy];
        let windows = windows(2.min(usize::from(window)));
        let mut certificates = BTreeSet::new();
        let mut foul: Vec<Vec<u8>> = Vec::new();
        for size in 0..=size_max {
            for program in programs(size, window) {
                programs_in_all += 1;
                let bytes = program.encode();
                let entry = Prices::new(&policy.costs, &policy.limits).entry(&program);
                if is_foul(&program, policy, &windows) {
                    foul.push(bytes);
                    continue;
                }
                lawful_in_all += 1;
                match vinet_prover::prove(&program, &owner(), policy, &store, &[]) {
                    Ok(proof) => {
                        let checked = check(&bytes, &proof, owner(), policy, &store).expect("what the prover makes");
                        assert_keeps(&checked, &windows, &proof);
                        if window == 1 && proof[0] == note::NONE {
                            for certificate in
                                [0, checked.complexity() - entry].map(|cost| with_a_cost(&proof, cost)).iter().flatten()
                            {
                                if let Ok(checked) = check(&bytes, certificate, owner(), policy, &store) {
                                    costs_shown += 1;
                                    assert_keeps(&checked, &windows, certificate);
                                }
                            }
                        }
                        certificates.insert(proof);
                    }
                    Err(_) => unproven += 1,
                }
            }
        }
        println!(
            "window {window}, up to {size_max} instructions, anyone may group: {}: {} foul, {} certificates ({:?})",
            policy.group == Test::True,
            foul.len(),
            certificates.len(),
            started.elapsed()
        );
        foul_in_all += foul.len();
        // Of the certificates, those that say something of some program: the others end within their first two bytes.
        let short = (0..=255u8).flat_map(|a| (0..=255u8).map(move |b| vec![a, b])).filter(|c| c[0] <= note::COST);
        let short: Vec<Vec<u8>> = short.chain((0..=255).map(|a| vec![a])).chain([vec![]]).collect();
        let live: Vec<Vec<u8>> = certificates.into_iter().collect();
        for (i, bytes) in foul.iter().enumerate() {
            // All short ones against a part of the programs: their first bytes are read alike everywhere.
            let all_short = if i % 64 == 0 { &short[..] } else { &[] };
            for certificate in live.iter().chain(all_short) {
                tries += 1;
                if let Ok(checked) = check(bytes, certificate, owner(), policy, &store) {
                    assert_keeps(&checked, &windows, certificate);
                    panic!("a foul program keeps to its policy: {:?}", checked.program());
                }
            }
        }
    }
    println!(
        "{programs_in_all} programs: {foul_in_all} foul, {lawful_in_all} lawful ({unproven} of them not proven); \
         {costs_shown} costs shown; {tries} tries with foul ones, none accepted ({:?})",
        started.elapsed()
    );
    assert!(unproven * 10 <= lawful_in_all, "the prover gives up on too many lawful programs");
}
