//! Inputs that are made to be expensive: for each way of costing the checker time or memory that its authors thought of,
//! a maker of programs and proofs that go that way, with sizes by chance.
//!
//! The makers know how certificates are numbered (see `docs/PROOF.md`): constant 0 is the arbitrary packet, 1 is
//! AllPackets, 2 what [`mine`] selects; set 0 is what the owner owns.

use crate::verify::chance::Chance;
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, PrefixSet};
use vinet_trusted::check::note;
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::program::{ALL_PACKETS, AddrTerm, Cond, Expr, Instr, Slot};
use vinet_trusted::proof::{refer, rule};
use vinet_trusted::term::{Op, sort};
use vinet_trusted::wire::{Wire, Writer};

/// A body, and a certificate or the beginning of one.
pub type Made = (Vec<Instr>, Vec<u8>);

/// A maker, with its name.
pub type Family = (&'static str, fn(&mut Chance) -> Made);

/// All of them.
pub const FAMILIES: &[Family] = &[
    ("many distinct sets in conditions", sets_in_conditions),
    ("many distinct sets in one test", sets_in_a_test),
    ("many distinct addresses", distinct_addresses),
    ("joins of many slots", joins),
    ("nested loops that assign many slots", nested_loops),
    ("invariants filled in nested loops", invariants),
    ("a run of COPY and BOTH", copies),
    ("a run of CLAIM and BOTH", claims),
    ("CONGRUENCE in large formulas", congruences),
    ("CONGRUENCE in shared formulas", shared_congruences),
    ("SPECIALISE of large formulas", specialisations),
    ("GENERALISE of large formulas", generalisations),
    ("SPLIT of large sets", splits),
    ("APART and WIDEN of large sets", aparts),
    ("WIDEN of many ranges", ranges),
    ("OFFSET over large sets", offsets),
    ("LINEAR with many terms", linear),
    ("LINEAR with shared terms", shared_linear),
    ("DEFINE", definitions),
    ("LEMMA", lemmas),
    ("nodes that collide", collisions),
    ("EVALUATE of large terms", evaluations),
    ("many obligations", obligations),
    ("rules by chance", soup),
];

/// A proof in the making.
#[derive(Default)]
struct Proof(Vec<u8>);

impl Proof {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.put(bytes);
        self
    }
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn op(&mut self, op: Op) {
        self.0.push(op as u8);
    }
    fn number(&mut self, number: usize) {
        let mut w = Writer::new();
        w.integer(number as u64);
        self.0.extend(w.finish());
    }
    fn int(&mut self, value: i64) {
        self.op(Op::Int);
        let mut w = Writer::new();
        value.write(&mut w);
        self.0.extend(w.finish());
    }
    fn constant(&mut self, number: usize) {
        self.op(Op::Const);
        self.number(number);
    }
    fn claim(&mut self, number: usize) {
        self.put(&[rule::CLAIM]);
        self.number(number);
    }
    /// As many leaves as there are, in the flattest tree of `op`.
    fn tree(&mut self, op: Op, leaves: usize, leaf: &mut dyn FnMut(&mut Self, usize)) {
        self.subtree(op, 0, leaves.max(1), leaf);
    }
    fn subtree(&mut self, op: Op, first: usize, leaves: usize, leaf: &mut dyn FnMut(&mut Self, usize)) {
        if leaves == 1 {
            return leaf(self, first);
        }
        self.op(op);
        self.subtree(op, first, leaves / 2, leaf);
        self.subtree(op, first + leaves / 2, leaves - leaves / 2, leaf);
    }
    /// Of the two theorems on top of the stack only the upper is kept.
    fn drop_lower(&mut self) {
        self.put(&[rule::BOTH, rule::RIGHT]);
    }
    /// Of the two theorems on top of the stack only the lower is kept.
    fn drop_upper(&mut self) {
        self.put(&[rule::BOTH, rule::LEFT]);
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn made(self, body: Vec<Instr>) -> Made {
        (body, self.0)
    }
}

/// The proof that an obligation about [`mine`] is met.
const MINE: [u8; 5] = [rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::DONE];

/// The owner's packets, in slot 1.
fn mine() -> Instr {
    let addrs = AddrExpr { this_ip: true, ..AddrExpr::default() };
    Instr::Select { out: 1, arg: ALL_PACKETS, test: Test::In { field: Field::Dst, addrs } }
}

/// A program of [`mine`] alone, with a proof that is at work on its one obligation.
fn at_work() -> (Vec<Instr>, Proof) {
    (vec![mine()], Proof::default().bytes(&[note::NONE]))
}

/// [`mine`], and a loop over its sources with this block, in which slot 3 is the group and 4 its address; and the proof
/// up to the block.
fn by_source(body: Vec<Instr>) -> (Vec<Instr>, Proof) {
    let all = vec![
        mine(),
        Instr::Partition { out: 2, arg: 1, field: Field::Src },
        Instr::Foreach { groups: 2, packets: 3, key: 4, body },
    ];
    (all, Proof::default().bytes(&[note::NONE]).bytes(&MINE).bytes(&MINE).bytes(&[note::NONE]))
}

fn prefix(bits: u64, len: u8) -> Option<Prefix> {
    Prefix::of(Addr::V4(bits as u32), len)
}

/// A set of up to so many prefixes of one length, whose bytes are few.
fn set(chance: &mut Chance, count: usize, len: u8) -> AddrExpr {
    let prefixes = (0..count).filter_map(|_| prefix(chance.bits(), len)).collect();
    AddrExpr { prefixes: PrefixSet::new(prefixes), ..AddrExpr::default() }
}

fn addr_in(addrs: AddrExpr) -> Cond {
    Cond::AddrIn { addr: 4, addrs }
}

fn when(cond: Cond, then: Vec<Instr>) -> Instr {
    Instr::If { cond, then, otherwise: Vec::new() }
}

fn sets_in_conditions(chance: &mut Chance) -> Made {
    let (count, size, len) = (chance.below(400) + 1, chance.below(3) + 1, *chance.pick(&[8, 16, 24]));
    let body = (0..count).map(|_| when(addr_in(set(chance, size, len)), Vec::new())).collect();
    let (body, proof) = by_source(body);
    proof.bytes(&vec![note::LIVE; count]).made(body)
}

fn sets_in_a_test(chance: &mut Chance) -> Made {
    fn tree(chance: &mut Chance, leaves: usize, len: u8) -> Test {
        if leaves <= 1 {
            let field = if chance.one_in(2) { Field::Src } else { Field::Dst };
            return Test::In { field, addrs: set(chance, 1, len) };
        }
        let (a, b) = (tree(chance, leaves / 2, len), tree(chance, leaves - leaves / 2, len));
        Test::Or { a: Box::new(a), b: Box::new(b) }
    }
    let (leaves, len) = (chance.below(450) + 1, *chance.pick(&[16, 24, 32]));
    let test = tree(chance, leaves, len);
    let body = vec![mine(), Instr::Select { out: 2, arg: 1, test }];
    let chosen = [rule::CLAIM, 0, rule::UNFOLD, rule::LEFT, rule::UNFOLD, rule::RIGHT, rule::DONE];
    Proof::default().bytes(&[note::NONE]).bytes(&MINE).bytes(&chosen).made(body)
}

fn distinct_addresses(chance: &mut Chance) -> Made {
    let count = chance.below(400) + 1;
    let cond =
        |chance: &mut Chance| Cond::AddrIs { addr: 4, is: AddrTerm::Const { addr: Addr::V4(chance.bits() as u32) } };
    let body = (0..count).map(|_| when(cond(chance), Vec::new())).collect();
    let (body, proof) = by_source(body);
    proof.bytes(&vec![note::LIVE; count]).made(body)
}

fn set_int(out: Slot, value: i64) -> Instr {
    Instr::Let { out, expr: Expr::Const { value } }
}

fn slot_at_most(slot: Slot, value: i64) -> Cond {
    Cond::AtMost { a: Expr::Slot { slot }, b: Expr::Const { value } }
}

/// Ifs that leave many slots with one of two values, one behind or in the other.
fn joins(chance: &mut Chance) -> Made {
    let slots = chance.below(60) as Slot + 1;
    let mut nodes = 1000 - usize::from(slots) * 2;
    let mut body: Vec<Instr> = (1..=slots).map(|out| set_int(out, 0)).collect();
    let (mut value, mut ifs) = (0, 0);
    let deep = chance.below(20);
    while nodes > 2 * usize::from(slots) + 8 {
        nodes -= 2 * usize::from(slots) + 4;
        ifs += 1;
        value += 1;
        let then: Vec<Instr> = (1..=slots).map(|out| set_int(out, value)).collect();
        let mut next = Instr::If { cond: slot_at_most(1, value), then, otherwise: Vec::new() };
        for _ in 0..chance.below(deep + 1) {
            if nodes < 8 {
                break;
            }
            (nodes, ifs) = (nodes - 4, ifs + 1);
            next = when(slot_at_most(slots, value), vec![next]);
        }
        body.push(next);
    }
    Proof::default().bytes(&vec![note::LIVE; ifs + 1]).made(body)
}

fn nested_loops(chance: &mut Chance) -> Made {
    let (depth, slots) = (chance.below(21) + 1, chance.below(62) as Slot + 1);
    let mut body: Vec<Instr> = (1..=slots).map(|out| set_int(out, 1)).collect();
    let outer = body.clone();
    for _ in 0..depth {
        body = vec![Instr::While { cond: slot_at_most(1, 5), max: 1, body }];
    }
    // As many such towers as fit.
    let towers = chance.below(8) + 1;
    let tower = body;
    let body = outer.into_iter().chain((0..towers).flat_map(|_| tower.clone())).collect();
    Proof::default().bytes(&vec![note::NONE; 1 + depth * towers]).made(body)
}

/// Loops in loops, each with an invariant "True, or something large about the slots".
fn invariants(chance: &mut Chance) -> Made {
    let (depth, slots) = (chance.below(20) + 1, chance.below(30) + 1);
    let leaves = chance.below(400 / depth) + 1;
    let mut body: Vec<Instr> = (1..=slots).map(|out| set_int(out as Slot, 1)).collect();
    let outer = body.clone();
    for _ in 0..depth {
        body = vec![Instr::While { cond: slot_at_most(1, 5), max: 1, body }];
    }
    let mut proof = Proof::default().bytes(&[note::NONE]);
    // What is to be shown has True on its left.
    let shown = [rule::TRUTH, rule::EITHER_LEFT, refer::PART, 1, refer::GOAL, rule::DONE];
    for _ in 0..depth {
        proof.put(&[note::INVARIANT]);
        proof.op(Op::Or);
        proof.op(Op::True);
        proof.tree(Op::And, leaves, &mut |p, leaf| {
            p.op(Op::Le);
            p.op(Op::Slot);
            p.put(&[(1 + leaf % slots) as u8, sort::INT]);
            p.int(leaf as i64);
        });
        proof.put(&shown);
    }
    (0..depth).for_each(|_| proof.put(&shown));
    proof.made(outer.into_iter().chain(body).collect())
}

fn copies(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    while proof.len() < 4000 {
        proof.claim(0);
        // One more would be too high.
        for _ in 0..chance.below(199) {
            proof.put(&[rule::COPY, 0, rule::BOTH]);
        }
        if chance.one_in(2) {
            proof.put(&[rule::COPY, chance.below(3) as u8, rule::BOTH]);
        }
    }
    proof.made(body)
}

fn claims(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    let assumed = chance.below(60);
    for value in 0..assumed {
        proof.put(&[rule::ASSUME]);
        proof.op(Op::Le);
        proof.int(value as i64);
        proof.int(0);
    }
    proof.put(&[rule::TRUTH]);
    while proof.len() < 4000 {
        let count = chance.below(100) + 2;
        (0..count).for_each(|_| proof.claim(chance.below(assumed + 1)));
        (1..count).for_each(|_| proof.put(&[rule::BOTH]));
        proof.drop_lower();
    }
    proof.made(body)
}

/// "leaf ≤ 1", for many leaves: formula 1 of the proof's own; then equations "1 = k".
fn assume_large(chance: &mut Chance, proof: &mut Proof, leaves: usize) -> usize {
    proof.put(&[rule::ASSUME]);
    let shared = chance.one_in(2);
    proof.tree(Op::And, leaves, &mut |p, leaf| {
        p.op(Op::Le);
        if shared {
            p.op(Op::Add);
            p.int(1);
        }
        p.int(leaf as i64 + 2);
        p.int(1);
    });
    let equations = chance.below(60) + 1;
    for value in 0..equations {
        proof.put(&[rule::ASSUME]);
        proof.op(Op::Eq);
        proof.int(1);
        proof.int(-(value as i64));
    }
    equations
}

fn congruences(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    let leaves = chance.below(450) + 1;
    let equations = assume_large(chance, &mut proof, leaves);
    let mut next = 0;
    while proof.len() < 4000 {
        proof.claim(2 + next % equations);
        proof.claim(1);
        proof.put(&[rule::CONGRUENCE]);
        next += 1;
        if next > 100 {
            proof.drop_lower();
        }
    }
    proof.made(body)
}

fn shared_congruences(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    let leaves = chance.below(20) + 1;
    let equations = assume_large(chance, &mut proof, leaves);
    proof.claim(1);
    (0..chance.below(16)).for_each(|_| proof.put(&[rule::COPY, 0, rule::BOTH]));
    for next in 0..chance.below(120) {
        // The large one lies under all that came of it.
        proof.claim(2 + next % equations);
        proof.put(&[rule::COPY, next as u8 + 1, rule::CONGRUENCE]);
    }
    proof.made(body)
}

fn specialisations(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    proof.put(&[rule::ASSUME]);
    proof.op(Op::Forall);
    proof.put(&[sort::INT]);
    let leaves = chance.below(600) + 1;
    let with_literal = chance.one_in(2);
    proof.tree(Op::And, leaves, &mut |p, leaf| {
        p.op(Op::Le);
        p.put(&[Op::Var as u8, 0]);
        if with_literal {
            p.int(leaf as i64);
        } else {
            p.put(&[Op::Var as u8, 0]);
        }
    });
    let mut next = 0;
    while proof.len() < 4000 {
        proof.claim(1);
        proof.put(&[rule::SPECIALISE]);
        proof.int(next);
        next += 1;
        if next > 100 {
            proof.drop_lower();
        }
    }
    proof.made(body)
}

fn generalisations(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    let picks = chance.below(40) + 1;
    (0..picks).for_each(|_| proof.put(&[rule::PICK, sort::INT]));
    let leaves = chance.below(600) + 1;
    proof.put(&[rule::REFLEXIVITY]);
    proof.tree(Op::Add, leaves, &mut |p, leaf| p.constant(3 + leaf % picks));
    for next in 0..120 {
        proof.put(&[rule::COPY]);
        proof.number(next);
        proof.put(&[rule::GENERALISE]);
        proof.number(3 + next % picks);
    }
    proof.made(body)
}

/// Two or three large sets in conditions around a Discard, which is what the proof is at work on; the group's address is
/// known to be in the sets so far, as claims from 2 on; they are the sets from number 1 on.
fn in_sets(sets: Vec<AddrExpr>) -> (Vec<Instr>, Proof) {
    let count = sets.len();
    let body =
        sets.into_iter().rev().fold(vec![Instr::Discard { arg: 3 }], |block, set| vec![when(addr_in(set), block)]);
    let (body, proof) = by_source(body);
    (body, proof.bytes(&vec![note::LIVE; count]))
}

fn splits(chance: &mut Chance) -> Made {
    let (size, len) = (chance.below(900) + 1, *chance.pick(&[12, 16, 20]));
    // Neighbours, so that the two sets put together become few prefixes, or anywhere.
    let (neighbours, first) = (chance.one_in(2), chance.bits());
    let bits = |n: usize, any: u64| if neighbours { first.wrapping_add((n as u64) << (32 - len)) } else { any };
    let all: Vec<Prefix> = (0..size).filter_map(|n| prefix(bits(n, chance.bits()), len)).collect();
    let of = |part: usize| AddrExpr {
        prefixes: PrefixSet::new(all.iter().skip(part).step_by(2).copied().collect()),
        ..AddrExpr::default()
    };
    let narrow = AddrExpr { prefixes: PrefixSet::new(vec![all[0]]), ..AddrExpr::default() };
    let (body, mut proof) = in_sets(vec![narrow, of(0), of(1)]);
    proof.put(&[rule::TRUTH]);
    while proof.len() < 4000 {
        proof.claim(2);
        proof.put(&[rule::SPLIT, 2, 3]);
        proof.drop_lower();
    }
    proof.made(body)
}

fn aparts(chance: &mut Chance) -> Made {
    let (size, len) = (chance.below(500) + 1, *chance.pick(&[12, 16, 20]));
    let (low, high): (Vec<Prefix>, Vec<Prefix>) =
        (0..size).filter_map(|_| prefix(chance.bits(), len)).partition(|p| p.addr() < Addr::V4(1 << 31));
    let of = |part: Vec<Prefix>| AddrExpr { prefixes: PrefixSet::new(part), ..AddrExpr::default() };
    let (body, mut proof) = in_sets(vec![of(low.clone()), of(if low.is_empty() { low } else { high })]);
    let is_widened = chance.one_in(2);
    proof.put(&[rule::TRUTH]);
    while proof.len() < 4000 {
        proof.claim(2);
        if is_widened {
            proof.put(&[rule::WIDEN, 1]);
        } else {
            proof.claim(3);
            proof.put(&[rule::APART]);
        }
        proof.drop_lower();
    }
    proof.made(body)
}

fn ranges(chance: &mut Chance) -> Made {
    let some = |chance: &mut Chance| {
        let count = chance.below(200) as u32 + 1;
        let ranges = Ranges::new((0..count).map(|n| (n * 3, n * 3 + 1)).collect());
        Test::Number { number: Number::Length, ranges: ranges.expect("fewer than the most ranges") }
    };
    let body = vec![
        mine(),
        Instr::Select { out: 2, arg: 1, test: some(chance) },
        Instr::Select { out: 3, arg: 1, test: some(chance) },
    ];
    let mut proof = Proof::default().bytes(&[note::NONE]).bytes(&MINE);
    proof.put(&[rule::CLAIM, 0, rule::UNFOLD, rule::LEFT, rule::UNFOLD, rule::RIGHT, rule::DONE]);
    proof.put(&[rule::TRUTH]);
    let wider = 1 + chance.below(2) as u8;
    while proof.len() < 3000 {
        proof.put(&[rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::WIDEN, wider]);
        proof.drop_lower();
    }
    proof.made(body)
}

/// An address counted from one of many, by a number between bounds that are far apart, in a set of adjoining prefixes.
fn offsets(chance: &mut Chance) -> Made {
    let span = chance.between(4, 31) as u32;
    // From 1 to one below the power of two: no two of these prefixes make one.
    let (mut next, end) = (1u64, (1u64 << span) - 1);
    let mut target = Vec::new();
    while next < end {
        let fits = (0..=next.trailing_zeros()).rev().find(|bits| next + (1 << bits) <= end).unwrap_or(0);
        target.extend(prefix(next, 32 - fits as u8));
        next += 1 << fits;
    }
    let count = chance.below(900) + 1;
    let from: Vec<Prefix> = (0..count)
        .filter_map(|_| prefix(chance.bits() % (1 << span), (32 - span as u8 + chance.below(11) as u8).min(32)))
        .collect();
    let of = |part: Vec<Prefix>| AddrExpr { prefixes: PrefixSet::new(part), ..AddrExpr::default() };
    let block = vec![
        Instr::Size { out: 5, arg: 3 },
        Instr::Offset { out: 6, base: AddrTerm::Slot { slot: 4 }, by: Expr::Slot { slot: 5 } },
        when(addr_in(of(from)), vec![when(addr_in(of(target)), vec![Instr::Discard { arg: 3 }])]),
    ];
    let (body, mut proof) = by_source(block);
    proof.put(&[note::LIVE, note::LIVE]);
    let (key, size) = (3, 5);
    proof.put(&[rule::ASSUME]);
    proof.op(Op::Le);
    proof.int(0);
    proof.constant(size);
    proof.put(&[rule::ASSUME]);
    proof.op(Op::Le);
    proof.constant(size);
    proof.int(if chance.one_in(2) { 1 << (span - 1) } else { 1 });
    for _ in 0..chance.below(40) + 1 {
        // The base first, then the bounds; the path has the group and two conditions.
        [2, 4, 5].into_iter().for_each(|claim| proof.claim(claim));
        proof.put(&[rule::OFFSET]);
        proof.op(Op::Offset);
        proof.constant(key);
        proof.constant(size);
        proof.number(2);
    }
    proof.made(body)
}

fn linear(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    let picks = chance.below(300) + 1;
    (0..picks).for_each(|_| proof.put(&[rule::PICK, sort::INT]));
    let formulas = chance.below(60) + 1;
    let leaves = chance.below(3000 / formulas) / 3 + 1;
    for formula in 0..formulas {
        proof.put(&[rule::ASSUME]);
        proof.op(Op::Le);
        // From the last to the first, so that each new one goes before all others.
        proof.tree(Op::Add, leaves, &mut |p, leaf| p.constant(3 + picks - 1 - (leaf * (formula + 1)) % picks));
        proof.int(0);
    }
    while proof.len() < 4000 {
        let count = chance.below(100) + 1;
        (0..count).for_each(|_| proof.claim(1 + chance.below(formulas)));
        proof.put(&[rule::LINEAR]);
        proof.number(count);
        (0..count).for_each(|_| proof.put(&[2]));
    }
    proof.made(body)
}

/// An equation between a term and itself, taken again and again, with a term that is a tree of shared parts; and the two
/// inequalities that contradict each other, so that the next one is taken as well.
fn shared_linear(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    let picks = chance.below(30) + 1;
    (0..picks).for_each(|_| proof.put(&[rule::PICK, sort::INT]));
    proof.put(&[rule::ASSUME]);
    proof.op(Op::Le);
    proof.int(1);
    proof.int(0);
    // Doubled by putting the sum in the place of its first part: x = x + y, again and again.
    proof.put(&[rule::ASSUME]);
    proof.op(Op::Eq);
    proof.constant(3);
    proof.tree(Op::Add, picks, &mut |p, leaf| p.constant(3 + leaf));
    proof.put(&[rule::REFLEXIVITY]);
    proof.tree(Op::Add, picks, &mut |p, leaf| p.constant(3 + leaf));
    for _ in 0..chance.below(40) {
        proof.claim(2);
        proof.put(&[rule::COPY, 1, rule::CONGRUENCE]);
        proof.drop_lower();
    }
    while proof.len() < 4000 {
        let count = chance.below(60);
        (0..count).for_each(|n| proof.put(&[rule::COPY, n as u8]));
        proof.claim(1);
        proof.put(&[rule::LINEAR]);
        proof.number(count + 1);
        (0..=count).for_each(|_| proof.put(&[2]));
        proof.drop_upper();
    }
    proof.made(body)
}

fn definitions(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    proof.put(&[rule::TRUTH]);
    while proof.len() < 4000 {
        proof.put(&[rule::DEFINE]);
        match chance.below(3) {
            0 => {
                proof.op(Op::In);
                proof.constant(0);
                let op = *chance.pick(&[Op::Union, Op::Inter, Op::Minus]);
                proof.tree(op, chance.below(60) + 2, &mut |p, leaf| p.constant(1 + leaf % 2));
            }
            1 => {
                proof.op(Op::Unique);
                proof.put(&[sort::INT]);
                proof.tree(Op::And, chance.below(60) + 1, &mut |p, leaf| {
                    p.op(Op::Le);
                    p.put(&[Op::Var as u8, 0]);
                    p.int(leaf as i64);
                });
            }
            _ => {
                proof.op(*chance.pick(&[Op::Subset, Op::Eq]));
                proof.constant(1);
                proof.tree(Op::Union, chance.below(60) + 1, &mut |p, leaf| p.constant(1 + leaf % 2));
            }
        }
        if chance.one_in(2) {
            proof.drop_lower();
        }
    }
    proof.made(body)
}

fn lemmas(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    let leaves = chance.below(200) + 1;
    let equations = assume_large(chance, &mut proof, leaves);
    while proof.len() < 4000 {
        (0..chance.below(4)).for_each(|_| proof.claim(chance.below(equations + 2)));
        proof.put(&[rule::LEMMA]);
        proof.number(chance.below(64));
        (0..chance.below(3)).for_each(|_| proof.put(&[refer::CLAIM, 1]));
    }
    proof.made(body)
}

/// The factors of the hash of nodes in `term.rs`; an attacker can read them as well.
const HASH: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x517c_c1b7_2722_0a95];

/// The number whose product with `odd` is 1, modulo 2^64.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut round = 0;
    // Newton's method: each round doubles the bits that are right, of which there are three at first.
    while round < 5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        round += 1;
    }
    inverse
}

/// An integer whose node has this hash: its upper half is what the table of nodes looks at.
fn colliding(hash: u64) -> i64 {
    let low = (hash.wrapping_mul(inverse(HASH[1])) ^ Op::Int as u64).rotate_right(29);
    low.wrapping_mul(inverse(HASH[0])) as i64
}

fn collisions(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    let leaves = chance.below(180) + 1;
    let near = chance.below(40) as u64 + 1;
    let base = chance.bits() & !0xffff_ffff_ffff;
    let literal = |leaf: u64| base | (leaf % near) << 32 | leaf;
    proof.put(&[rule::ASSUME]);
    proof.tree(Op::And, leaves, &mut |p, leaf| {
        p.op(Op::Le);
        p.int(colliding(literal(2 * leaf as u64)));
        p.int(colliding(literal(2 * leaf as u64 + 1)));
    });
    proof.put(&[rule::TRUTH]);
    // Each look goes through all that collide.
    while proof.len() < 3980 {
        proof.put(&[rule::REFLEXIVITY]);
        proof.int(colliding(literal(2 * leaves as u64)));
        proof.drop_lower();
    }
    proof.made(body)
}

fn evaluations(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    while proof.len() < 3000 {
        proof.put(&[rule::EVALUATE]);
        proof.op(*chance.pick(&[Op::Le, Op::Eq]));
        proof.int(1);
        let base = chance.below(60) as i64;
        proof.tree(Op::Add, chance.below(900) + 1, &mut |p, leaf| p.int(base + leaf as i64 % 8));
    }
    proof.made(body)
}

/// As many obligations as fit, each shown by another.
fn obligations(chance: &mut Chance) -> Made {
    let (deep, count) = (chance.below(20), chance.below(560) + 1);
    let inner: Vec<Instr> = (0..count).map(|_| Instr::Discard { arg: 1 }).collect();
    let mut block = inner;
    for _ in 0..deep {
        block = vec![when(Cond::Empty { arg: 1 }, block)];
    }
    let body = std::iter::once(mine()).chain(block).collect();
    let mut proof = Proof::default().bytes(&[note::NONE]).bytes(&MINE).bytes(&vec![note::LIVE; deep]);
    for number in 0..count {
        proof.put(&[rule::CLAIM, 0, rule::CITE]);
        proof.number(chance.below(number + 1).min(100));
        proof.put(&[rule::DONE]);
    }
    proof.made(body)
}

/// Steps that follow, in any order, and now and then one that may not.
fn soup(chance: &mut Chance) -> Made {
    let (body, mut proof) = at_work();
    let mut height = 0;
    for _ in 0..chance.below(2000) + 10 {
        match chance.below(8) {
            0 if height < 100 => proof.put(&[rule::CLAIM, 0]),
            1 if height < 100 => proof.put(&[rule::CLAIM, 0, rule::UNFOLD]),
            2 if height < 100 && height > 0 => proof.put(&[rule::COPY, chance.below(height) as u8]),
            3 if height < 100 => {
                proof.put(&[rule::EVALUATE, Op::Le as u8, Op::Int as u8, chance.below(128) as u8, Op::Int as u8, 2])
            }
            4 if height > 1 => {
                proof.put(&[rule::BOTH]);
                height -= 2;
            }
            5 if height > 1 => {
                proof.drop_lower();
                height -= 2;
            }
            6 if chance.one_in(20) => {
                proof.put(&[rule::ASSUME, refer::GOAL]);
                continue;
            }
            7 if chance.one_in(100) => proof.put(&[chance.below(0x2c) as u8]),
            _ => continue,
        }
        height += 1;
    }
    proof.made(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use vinet_prover::corpus::{Kind, owner, policy};
    use vinet_trusted::check::{Reject, check};
    use vinet_trusted::lemma::LemmaStore;
    use vinet_trusted::logic::Fault;
    use vinet_trusted::program::Program;
    use vinet_trusted::proof::ProofFault;
    use vinet_trusted::term::TermFault;

    /// How the check of a formula with these integers in it ends.
    fn end_with(literal: impl Fn(u64) -> i64) -> ProofFault {
        let (body, mut proof) = at_work();
        proof.put(&[rule::ASSUME]);
        proof.tree(Op::And, 150, &mut |p, leaf| {
            p.op(Op::Le);
            p.int(literal(2 * leaf as u64));
            p.int(literal(2 * leaf as u64 + 1));
        });
        let program = Program::new(60, 1, Vec::new(), body).expect("well-formed").encode();
        let policy = Arc::new(policy(Kind::EndUser));
        match check(&program, &proof.0, owner(Kind::EndUser), &policy, &LemmaStore::default()) {
            Err(Reject::NotProven(place)) => place.fault,
            other => panic!("the proof has no end: {other:?}"),
        }
    }

    #[test]
    fn integers_that_collide_use_up_the_work_and_others_of_the_same_length_do_not() {
        let far = 0x1234_5678_0000_0000;
        let too_much = ProofFault::Step(Fault::Term(TermFault::TooMuchWork));
        assert_eq!(end_with(|number| colliding(far | number)), too_much, "the hash of nodes is another now");
        assert_ne!(end_with(|number| i64::MAX / 3 + 7919 * number as i64), too_much);
    }
}
