//! Inputs of up to 4 KiB that are made to cost the checker as much time and memory as they can: program and proof
//! together. Each is refused or accepted; that is not the point.

use super::*;
use vinet_trusted::program::{Cond, Expr};
use vinet_trusted::proof::{refer, rule};
use vinet_trusted::term::Op;
use vinet_trusted::wire::{Wire, Writer};

/// The most bytes of program and proof together.
pub const NASTY_BYTES_MAX: usize = 4096;

/// One input.
#[derive(Clone, Debug)]
pub struct Nasty {
    pub name: &'static str,
    pub program: Vec<u8>,
    pub proof: Vec<u8>,
}

impl Nasty {
    /// Fills up the proof with `again` until there is no more room.
    fn new(name: &'static str, program: Vec<u8>, begin: &[&[u8]], again: &[u8]) -> Nasty {
        let mut proof = [&[0][..], &begin.concat()].concat();
        while !again.is_empty() && program.len() + proof.len() + again.len() <= NASTY_BYTES_MAX {
            proof.extend_from_slice(again);
        }
        proof.truncate(NASTY_BYTES_MAX.saturating_sub(program.len()));
        Nasty { name, program, proof }
    }
}

/// So many /32 that do not merge, of which program and policy make one set.
fn scattered(count: u32, first: u32) -> AddrExpr {
    prefixes(&(0..count).map(|i| (Addr::V4(first + (i << 17)), 16)).collect::<Vec<_>>())
}

/// Integers whose nodes fall into one place of the table of nodes, whatever its size: see `mix` in `term.rs`.
pub fn colliding(count: usize) -> Vec<i64> {
    let place = |value: i64| {
        let low = (value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((low.rotate_left(29) ^ Op::Int as u64).wrapping_mul(0x517c_c1b7_2722_0a95) >> 32) & 0xfff
    };
    (0..i64::MAX).filter(|v| place(*v) == 7).take(count).collect()
}

/// All families.
pub fn families() -> Vec<Nasty> {
    let own = select(1, 0, Field::Dst, this_ip());
    let one = |body: Vec<Instr>| program(&[], [&[own.clone()][..], &body].concat()).encode();
    let shown = [rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT];
    let end = [&shown[..], &[rule::DONE]].concat();
    let int_of = |value: i64| {
        let mut w = Writer::new();
        w.byte(Op::Int as u8);
        value.write(&mut w);
        w.finish()
    };
    let mut all = Vec::new();
    // Sharing: a formula twice as large with each step, looked through by what follows.
    let double = [rule::COPY, 0, rule::BOTH];
    for (name, then) in [
        ("doubled, then generalised", &[rule::COPY, 0, rule::GENERALISE, 3][..]),
        ("doubled, then put equals in", &[rule::REFLEXIVITY, Op::Const as u8, 0, rule::COPY, 1, rule::CONGRUENCE]),
        ("doubled on", &double),
    ] {
        let begin = [&[rule::PICK, 6, rule::REFLEXIVITY, Op::Const as u8, 3][..], &double.repeat(24)].concat();
        all.push(Nasty::new(name, one(vec![]), &[&begin], then));
    }
    // A program whose integer is a sum of 2^180 parts.
    let mut sums = vec![Instr::Let { out: 2, expr: int(1) }];
    sums.extend((0..180).map(|_| Instr::Let { out: 2, expr: plus(held(2), held(2)) }));
    sums.push(Instr::While { cond: at_most(held(2), int(0)), max: 1, body: vec![] });
    let note_of = [&[1, Op::Le as u8, Op::Slot as u8, 2, 3][..], &int_of(9)].concat();
    for (name, steps) in [
        ("evaluates 2^180 parts", &[rule::EVALUATE, refer::GOAL][..]),
        ("adds 2^180 parts", &[rule::ASSUME, refer::GOAL, rule::CLAIM, 1, rule::LINEAR, 1, 2]),
        (
            "replaces in 2^180 parts",
            &[rule::REFLEXIVITY, Op::Int as u8, 2, rule::ASSUME, refer::GOAL, rule::CLAIM, 1, rule::CONGRUENCE],
        ),
    ] {
        all.push(Nasty::new(name, one(sums.clone()), &[&end, &note_of, steps], steps));
    }
    // Many small steps.
    for (name, again) in [
        ("unfolds", &[rule::CLAIM, 0, rule::UNFOLD, rule::BOTH, rule::LEFT][..]),
        (
            "defines",
            &[
                rule::DEFINE,
                Op::Subset as u8,
                Op::Union as u8,
                Op::Const as u8,
                1,
                Op::Const as u8,
                1,
                Op::Const as u8,
                1,
                rule::BOTH,
                rule::LEFT,
            ],
        ),
        (
            "quantifies",
            &[
                rule::DEFINE,
                Op::Unique as u8,
                6,
                Op::In as u8,
                Op::Var as u8,
                0,
                Op::Const as u8,
                1,
                rule::BOTH,
                rule::LEFT,
            ],
        ),
        ("picks", &[rule::PICK, 6]),
        ("assumes", &[rule::ASSUME, refer::GOAL]),
    ] {
        all.push(Nasty::new(name, one(vec![]), &[&shown], again));
    }
    let both = [rule::CLAIM, 0, rule::CLAIM, 0, rule::BOTH];
    let mut grown = Vec::new();
    for i in 0..120u8 {
        grown.extend(both);
        grown.extend([rule::COPY, i / 2, rule::EITHER_LEFT, refer::CLAIM, 0, rule::LEFT].iter().take(2));
    }
    all.push(Nasty::new("keeps a full stack", one(vec![]), &[&grown], &[]));
    // Sums with many different parts, counted in falling order of their numbers.
    let mut sum = Vec::new();
    for _ in 0..60 {
        sum.extend([rule::PICK, 3]);
    }
    let mut terms = vec![Op::Le as u8];
    for i in (2..62u8).rev() {
        terms.extend([Op::Add as u8, Op::Const as u8, i]);
    }
    terms.extend([Op::Const as u8, 2, Op::Const as u8, 2]);
    let linear = [&[rule::ASSUME][..], &terms].concat();
    all.push(Nasty::new(
        "adds many parts",
        one(vec![]),
        &[&sum, &linear],
        &[rule::CLAIM, 1, rule::CLAIM, 1, rule::LINEAR, 2, 2, 2],
    ));
    // Floods of the table of nodes.
    let flood: Vec<u8> = colliding(1200)
        .into_iter()
        .flat_map(|v| [&[rule::REFLEXIVITY][..], &int_of(v), &[rule::BOTH, rule::LEFT]].concat())
        .collect();
    all.push(Nasty::new("falls into one place", one(vec![]), &[&shown, &flood[..3900.min(flood.len())]], &[]));
    // Large sets.
    for count in [200, 400, 600] {
        let sets = [select(2, 1, Field::Src, scattered(count, 0)), select(3, 2, Field::Src, scattered(count, 0))];
        let widen = [&shown[..], &[rule::WIDEN, 0]].concat();
        let bytes = one(sets[..1].to_vec());
        all.push(Nasty::new("widens sets", bytes.clone(), &[&end, &shown], &[rule::WIDEN, 1]));
        all.push(Nasty::new("widens in vain", bytes.clone(), &[&end], &widen));
        all.push(Nasty::new(
            "splits sets",
            bytes.clone(),
            &[&end, &shown, &[rule::COPY, 0, rule::SPLIT, 1, 1]],
            &[rule::COPY, 1, rule::SPLIT, 1, 1],
        ));
        let counted = [&[rule::EVALUATE, Op::Le as u8, Op::Int as u8, 0, Op::Int as u8, 0][..]].concat();
        let offset = [
            rule::COPY,
            2,
            rule::COPY,
            1,
            rule::COPY,
            2,
            rule::OFFSET,
            Op::Offset as u8,
            Op::Src as u8,
            Op::Const as u8,
            0,
            Op::Int as u8,
            0,
            1,
        ];
        all.push(Nasty::new("counts from sets", bytes, &[&end, &shown, &counted, &counted], &offset));
    }
    // Programs that are much to walk over.
    let mut nest = vec![own.clone(); 300];
    for _ in 0..18 {
        nest = vec![Instr::While { cond: Cond::Empty { arg: 1 }, max: 2, body: nest }];
    }
    all.push(Nasty::new(
        "forgets again and again",
        one(nest),
        &[],
        &[rule::CLAIM, 0, rule::UNFOLD, rule::RIGHT, rule::DONE, 0],
    ));
    let ways = |i: u8| Instr::If {
        cond: Cond::Empty { arg: 1 },
        then: vec![select(1, 1, Field::Src, Addr::V4(u32::from(i)).into())],
        otherwise: vec![select(1, 0, Field::Dst, this_ip())],
    };
    let meets = [&end[..], &[0][..]].concat();
    all.push(Nasty::new("meets again and again", one((0..70).map(ways).collect()), &[&end], &meets));
    let deep = (0..400).fold(int(0), |sum: Expr, i| if i % 20 == 0 { int(0) } else { plus(sum, int(i)) });
    all.push(Nasty::new(
        "counts",
        one((0..20).map(|_| Instr::Let { out: 2, expr: deep.clone() }).collect()),
        &[&end],
        &[1],
    ));
    let sets = (0..120u8).map(|i| select(1, 0, Field::Dst, prefixes(&[(ME, 32), (Addr::V4(u32::from(i)), 32)])));
    all.push(Nasty::new("has many sets", one(sets.collect()), &[&end], &end));
    all.retain(|nasty| nasty.program.len() + nasty.proof.len() <= NASTY_BYTES_MAX);
    all
}

/// Steps at random, each of which leaves as many theorems as it found: what a search is made of.
pub fn random_steps(r: &mut Random, len: usize) -> Vec<u8> {
    let (the_packet, all, own) = ([Op::Const as u8, 0], [Op::Const as u8, 1], [Op::Const as u8, 2]);
    let mut steps = vec![0, rule::CLAIM, 0, rule::COPY, 0];
    while steps.len() < len {
        let set = match r.below(3) {
            0 => own.to_vec(),
            1 => [&[Op::Union as u8][..], &all, &own].concat(),
            _ => [&[Op::Minus as u8, Op::Union as u8][..], &all, &own, &own].concat(),
        };
        let is_in = [&[Op::In as u8][..], &the_packet, &set].concat();
        let step = match r.below(9) {
            0 => [&[rule::DEFINE, Op::Subset as u8][..], &set, &set].concat(),
            1 => [&[rule::DEFINE, Op::Unique as u8, 6, Op::In as u8, Op::Var as u8, 0][..], &set].concat(),
            2 => [&[rule::REFLEXIVITY][..], &set].concat(),
            3 => vec![rule::EVALUATE, Op::Le as u8, Op::Int as u8, r.below(99) as u8, Op::Int as u8, r.below(99) as u8],
            4 => [&[rule::COPY, 0, rule::EITHER_LEFT][..], &is_in].concat(),
            5 => [&[rule::REFLEXIVITY][..], &own, &[rule::COPY, 1, rule::CONGRUENCE]].concat(),
            6 => vec![rule::CLAIM, 0, rule::UNFOLD],
            7 => vec![rule::COPY, r.below(2) as u8],
            _ => vec![rule::TRUTH],
        };
        steps.extend(step);
        // What grows is looked through by later steps.
        steps.extend(
            [&[rule::BOTH, rule::LEFT][..], &[rule::BOTH, rule::RIGHT], &[rule::BOTH]][[0, 0, 1, 2][r.below(4)]],
        );
    }
    steps.truncate(len);
    steps
}
