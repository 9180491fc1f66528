//! Programs that are lawful because of what several values are together: which branch was taken before, numbers in
//! relation, what is left of a set. An analyser that knows each value by itself gives them up.

use super::parts::*;
use super::{Hard, Kind, NET, hard_one};
use vinet_trusted::addr::Addr;
use vinet_trusted::packet::{Field, Test};
use vinet_trusted::program::{AddrTerm, Cond, Instr, Program, Slot};

fn mine(out: Slot) -> Instr {
    select(out, 0, to(subnet()))
}
fn anyones(out: Slot) -> Instr {
    select(out, 0, from(elsewhere()))
}
fn few(most: i64) -> Cond {
    at_most(slot(1), int(most))
}
fn size() -> Instr {
    Instr::Size { out: 1, arg: 0 }
}

/// Slot 2 is the owner's set behind `first`, anyone's otherwise, with what is put beside; it is dropped behind `second`.
fn chosen(words: &[&str], before: Vec<Instr>, choice: [Cond; 2], beside: [Vec<Instr>; 2]) -> Program {
    let [first, second] = choice;
    let [with_mine, with_anyones] = beside;
    let mut body = before;
    body.push(when(first, [vec![mine(2)], with_mine].concat(), [vec![anyones(2)], with_anyones].concat()));
    body.push(when(second, vec![discard(2)], vec![]));
    program(0, words, body)
}

/// Slots 3 and 4 with these values.
fn numbers(a: i64, b: i64) -> Vec<Instr> {
    vec![set(3, int(a)), set(4, int(b))]
}

/// Behind branches, by what was put beside the set.
pub(super) fn chosen_sets() -> Vec<Hard> {
    let ordered = |second| chosen(&[], vec![size()], [few(4), second], [numbers(1, 2), numbers(2, 1)]);
    let summed = |second| chosen(&[], vec![size()], [few(4), second], [numbers(4, 3), numbers(1, 2)]);
    let apart = |second| chosen(&[], vec![size()], [few(4), second], [numbers(9, 2), numbers(2, 9)]);
    let multiplied = |second| chosen(&[], vec![size()], [few(4), second], [numbers(3, 0), numbers(0, 3)]);
    let again = |second| chosen(&[], vec![size()], [unless(at_most(int(5), slot(1))), second], [vec![], vec![]]);
    let empty = || Cond::Empty { arg: 1 };
    let by_emptiness = |second| chosen(&[], vec![mine(1)], [empty(), second], [vec![], vec![]]);
    let compared = |second| {
        let choice =
            when(at_most(slot(2), slot(3)), vec![select(4, 0, to(subnet()))], vec![select(4, 0, from(elsewhere()))]);
        let body = vec![mine(1), count(2, 1, 0), count(3, 1, 1), choice, when(second, vec![discard(4)], vec![])];
        program(0, &["spam", "worm"], body)
    };
    let sum = || add(slot(3), slot(4));
    vec![
        hard_one(
            "choose a set and two numbers in order, drop it where they are in that order",
            "correlated branches through a relation of two numbers",
            Kind::Grouping,
            ordered(at_most(slot(3), slot(4))),
            vec![ordered(at_most(slot(4), slot(3)))],
        ),
        hard_one(
            "choose a set and two numbers, drop it by their sum",
            "correlated branches through a sum",
            Kind::Grouping,
            summed(at_most(int(7), sum())),
            vec![summed(at_most(sum(), int(3)))],
        ),
        hard_one(
            "choose a set and two numbers, drop it by their difference",
            "correlated branches through a difference",
            Kind::Grouping,
            apart(at_most(int(7), sub(slot(3), slot(4)))),
            vec![apart(at_most(sub(slot(3), slot(4)), int(-7)))],
        ),
        hard_one(
            "choose a set and a number, drop it by three times the number",
            "correlated branches through a multiple",
            Kind::Grouping,
            multiplied(at_most(int(9), mul(int(3), slot(3)))),
            vec![multiplied(at_most(int(9), mul(int(3), slot(4))))],
        ),
        hard_one(
            "choose a set where there are not many packets, drop it where there are few",
            "correlated branches through a denial",
            Kind::Grouping,
            again(few(4)),
            vec![again(at_most(int(5), slot(1)))],
        ),
        hard_one(
            "choose a set where nothing was sent to the owner, drop it where that is so",
            "correlated branches through a quantifier",
            Kind::Grouping,
            by_emptiness(empty()),
            vec![by_emptiness(unless(empty()))],
        ),
        hard_one(
            "choose a set by two counts, drop it by the same counts one further",
            "correlated branches through a relation of two counts",
            Kind::Grouping,
            compared(at_most(add(slot(2), int(1)), add(slot(3), int(1)))),
            vec![compared(at_most(slot(3), slot(2)))],
        ),
    ]
}

/// Behind the key of a group.
pub(super) fn chosen_groups() -> Vec<Hard> {
    // Slots 2 and 3 are the packets and the source of each group of anybody's.
    let by_key = |test: fn() -> Cond, dropped: fn(Cond) -> Cond| {
        let body = vec![
            when(test(), vec![select(4, 2, to(subnet()))], vec![select(4, 2, Test::True)]),
            when(dropped(test()), vec![discard(4)], vec![]),
        ];
        program(0, &[], vec![by(Field::Src, 1, 0), each(1, 2, body)])
    };
    let in_prefix: fn() -> Cond = || key_in(3, elsewhere());
    let is_one: fn() -> Cond = || Cond::AddrIs { addr: 3, is: AddrTerm::Const { addr: Addr::V4(0x0a00_0001) } };
    let same: fn(Cond) -> Cond = |cond| cond;
    // Slot 5 is an address, slot 6 says whether it is the owner's.
    let address = |second: Cond| {
        let addr = |by: i64| offset(5, AddrTerm::Const { addr: Addr::V4(NET + 1) }, int(by));
        let mut body = contents();
        body.push(Instr::Size { out: 4, arg: 1 });
        body.push(when(at_most(slot(4), int(2)), vec![addr(9), set(6, int(1))], vec![addr(0x1000), set(6, int(0))]));
        body.push(when(second, vec![send(5, 2)], vec![]));
        program(0, &[], body)
    };
    vec![
        hard_one(
            "choose a part of each group by its key, drop it by the key",
            "correlated branches through a group's key",
            Kind::Grouping,
            by_key(in_prefix, same),
            vec![by_key(in_prefix, unless)],
        ),
        hard_one(
            "choose a part of each group by its one key, drop it by the key",
            "correlated branches through an equation of addresses",
            Kind::Grouping,
            by_key(is_one, same),
            vec![by_key(is_one, unless)],
        ),
        hard_one(
            "choose an address and a flag, send to it where the flag is set",
            "correlated branches through a flag, for an address",
            Kind::EdgeRouter,
            address(at_most(int(1), slot(6))),
            vec![address(at_most(slot(6), int(0)))],
        ),
    ]
}

/// By what is left of sets.
pub(super) fn remainders() -> Vec<Hard> {
    let minus = |out, a, b| Instr::Minus { out, a, b };
    // Slot 1: a set; slot 2: all but it; slot 3: all but those.
    let twice = |first: Instr| program(0, &[], vec![first, minus(2, 0, 1), minus(3, 0, 2), discard(3)]);
    let but_strangers = |strangers| program(0, &[], vec![select(1, 0, strangers), minus(2, 0, 1), discard(2)]);
    let of_parts = |kept: Slot| {
        let parts = vec![mine(1), select(2, 0, not(to(subnet()))), Instr::Union { out: 3, a: 1, b: 2 }];
        program(0, &[], [parts, vec![minus(4, 3, kept), discard(4)]].concat())
    };
    vec![
        hard_one(
            "take away all but the owner's packets, drop the rest",
            "what is left of a set, twice",
            Kind::Grouping,
            twice(mine(1)),
            vec![twice(anyones(1))],
        ),
        hard_one(
            "drop all but what is sent to others",
            "what is left of a set, by its test",
            Kind::Grouping,
            but_strangers(not(to(subnet()))),
            vec![but_strangers(not(to(net(23))))],
        ),
        hard_one(
            "put two sets together, take the one out again, drop the rest",
            "what is left of a union",
            Kind::Grouping,
            of_parts(2),
            vec![of_parts(1)],
        ),
    ]
}
