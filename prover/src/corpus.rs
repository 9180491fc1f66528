//! Programs to prove: the paper's, and lawful ones on which a cheap analyser without the named domain gives up.
//!
//! Each hard program comes with others that differ from it in one place and are not lawful: a branch dropped, a set
//! a bit wider, a bound weaker.

mod parts;
mod together;

use crate::hint::{Hint, Invariant};
use parts::*;
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, PrefixSet, Principal};
use vinet_trusted::packet::{Field, Number, Test};
use vinet_trusted::policy::{Costs, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrTerm, Cond, Instr, Program, Slot};

/// Which policy a program is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// End users: what is sent to them; they generate packets to themselves.
    EndUser,
    /// Edge routers: what is sent into their prefix; they generate packets into it.
    EdgeRouter,
    /// The same, where any packet may be put into groups.
    Grouping,
    /// End users, where any packet may be put into groups.
    UserGrouping,
    /// Edge routers; ICMP is never discarded, TLS and DNS over TLS never searched.
    Strict,
    /// Edge routers: what comes from their prefix or goes into it.
    Quarantine,
}

/// A lawful program, and what it takes to see that it is.
pub struct Hard {
    /// What it does.
    pub name: &'static str,
    /// What an analyser needs and a cheap one lacks.
    pub domain: &'static str,
    /// For which policy.
    pub kind: Kind,
    /// The policy's ceiling, where it is part of the matter.
    pub complexity_max: Option<u64>,
    /// The program.
    pub program: Program,
    /// What its author says of its loops.
    pub hints: Vec<Hint>,
    /// Programs close to it that are not lawful.
    pub unlawful: Vec<Program>,
}

impl Hard {
    /// Its owner.
    #[must_use]
    pub fn owner(&self) -> Principal {
        owner(self.kind)
    }
    /// Its policy.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let mut policy = policy(self.kind);
        if let Some(most) = self.complexity_max {
            policy.limits.complexity_max = most;
        }
        policy
    }
}

/// The network that edge routers of the corpus own, 192.0.2.0/24.
const NET: u32 = 0xc000_0200;

/// An owner under this kind of policy: 192.0.2.2, or 192.0.2.1/24.
///
/// # Panics
/// Never: the prefix fits.
#[must_use]
pub fn owner(kind: Kind) -> Principal {
    match kind {
        Kind::EndUser | Kind::UserGrouping => Principal::EndUser(Addr::V4(NET + 2)),
        _ => Principal::edge_router(Addr::V4(NET + 1), 24).expect("24 bits fit"),
    }
}

/// The policy of this kind.
#[must_use]
pub fn policy(kind: Kind) -> Policy {
    let owns = |field| Test::Owns { field };
    let mine = owns(Field::Dst);
    let is_user = matches!(kind, Kind::EndUser | Kind::UserGrouping);
    let mut policy = Policy {
        name: format!("{kind:?}"),
        principals: if is_user { PrincipalKind::EndUser } else { PrincipalKind::EdgeRouter },
        discard: mine.clone(),
        group: mine.clone(),
        scan: mine.clone(),
        generate: mine.clone(),
        costs: COSTS,
        limits: LIMITS,
    };
    match kind {
        Kind::Grouping | Kind::UserGrouping => policy.group = Test::True,
        Kind::Strict => {
            let tls = either(number(Number::SrcPort, &TLS), number(Number::DstPort, &TLS));
            policy.discard = both(mine.clone(), not(number(Number::Protocol, &ICMP)));
            policy.scan = both(mine, not(tls));
        }
        Kind::Quarantine => {
            let ours = either(owns(Field::Src), mine);
            (policy.discard, policy.group, policy.scan) = (ours.clone(), ours.clone(), ours);
        }
        Kind::EndUser | Kind::EdgeRouter => {}
    }
    policy
}

const ICMP: [(u32, u32); 2] = [(1, 1), (58, 58)];
const TLS: [(u32, u32); 2] = [(443, 443), (853, 853)];

const COSTS: Costs = Costs {
    program: 10,
    select: 10,
    select_many: 5,
    partition: 20,
    foreach: 10,
    test: 2,
    set: 5,
    arithmetic: 2,
    turn: 4,
    discard: 5,
    contains: 50,
    contains_per_64_bytes: 10,
    stream: 100,
    content: 100,
    content_per_64_bytes: 4,
    generate: 100,
    generate_per_64_bytes: 4,
};

const LIMITS: Limits = Limits {
    program_bytes_max: 1 << 18,
    proof_bytes_max: 1 << 16,
    lifetime_max_s: 1 << 24,
    complexity_max: 1 << 40,
    cost_max: 1 << 62,
    packet_bytes_max: 1514,
    window_packets_max: 64,
    window_us_max: 1000,
    generate_port: 4000,
    generate_rate_max: 100,
    stream_flows_max: 1024,
    stream_islands_max: 8,
    packet_rate_default: 1,
    packet_rate_max: 1,
    over_budget: OverBudget::Forward,
};

// ---- Constructors ----

// ---- The paper's ----

/// The firewall of the paper: what comes from these prefixes to the owner is dropped.
///
/// # Panics
/// Where there are more prefixes than a program may have.
#[must_use]
pub fn firewall(sources: Vec<Prefix>) -> Program {
    let sources = AddrExpr { prefixes: PrefixSet::new(sources), ..AddrExpr::default() };
    program(1, &[], vec![select(1, 0, to(this_ip())), select(2, 1, from(sources)), discard(2)])
}

/// The spam filter of the paper: flows with both words are dropped.
///
/// # Panics
/// Never: it is well-formed.
#[must_use]
pub fn spam_filter() -> Program {
    let found = and(contains(3, 0), contains(3, 1));
    let body = vec![
        select(1, 0, to(this_ip())),
        by(Field::Src, 2, 1),
        each(2, 3, vec![when(found, vec![discard(3)], vec![])]),
    ];
    program(1, &["casino", "lottery"], body)
}

/// The multicast of the paper: what is sent into the prefix is sent once, with its destinations, to the router.
///
/// # Panics
/// Never: it is well-formed.
#[must_use]
pub fn multicast() -> Program {
    let mut body = contents();
    let generate = |data| Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::ThisIp, data };
    body.extend([generate(2), generate(3), discard(1)]);
    program(0, &[], body)
}

/// Sends to the addresses of the prefix one by one, from its first to before the one that is so far behind it.
///
/// # Panics
/// Never: it is well-formed.
#[must_use]
pub fn counting_until(last: i64) -> Program {
    let going_on = unless(Cond::Equal { a: slot(4), b: int(last) });
    let body = vec![offset(5, AddrTerm::ThisSubnet, slot(4)), send(5, 3), set(4, add(slot(4), int(1)))];
    program(0, &[], [contents(), vec![set(4, int(0)), repeat(going_on, 1000, body)]].concat())
}

// ---- The hard ones ----

fn hard_one(name: &'static str, domain: &'static str, kind: Kind, good: Program, unlawful: Vec<Program>) -> Hard {
    Hard { name, domain, kind, complexity_max: None, program: good, hints: Vec::new(), unlawful }
}

/// All of them.
///
/// # Panics
/// Never: they are well-formed.
#[must_use]
pub fn hard() -> Vec<Hard> {
    let mut all = keys();
    all.extend(branches());
    all.extend(offsets());
    all.extend(sets());
    all.extend(tests());
    all.extend(costs());
    all.extend(together::chosen_sets());
    all.extend(together::chosen_groups());
    all.extend(together::remainders());
    all
}

/// Ownership that a branch on the key of a group establishes.
fn keys() -> Vec<Hard> {
    let by_key = |body: Vec<Instr>| program(0, &[], vec![by(Field::Dst, 1, 0), each(1, 2, body)]);
    let dropped = |cond: Cond| by_key(vec![when(cond, vec![discard(2)], vec![])]);
    let always = || by_key(vec![discard(2)]);
    let is = |addr: u32| Cond::AddrIs { addr: 3, is: AddrTerm::Const { addr: Addr::V4(addr) } };
    let but = |all: &[(u32, u8)]| and(key_in(3, prefixes(all)), unless(key_in(3, elsewhere())));
    let to_keys = |addrs: AddrExpr| {
        let body = vec![
            select(1, 0, to(addrs)),
            by(Field::Dst, 2, 1),
            select(3, 0, to(subnet())),
            Instr::Content { dests: 4, contents: 5, arg: 3 },
            each(2, 6, vec![send(7, 5)]),
        ];
        program(0, &[], body)
    };
    vec![
        hard_one(
            "drop the groups whose key is in the prefix",
            "ownership by a branch on the key",
            Kind::Grouping,
            dropped(key_in(3, subnet())),
            vec![always(), dropped(key_in(3, net(23)))],
        ),
        hard_one(
            "drop the group whose key is the user",
            "ownership by an equation of addresses",
            Kind::UserGrouping,
            dropped(Cond::AddrIs { addr: 3, is: AddrTerm::ThisIp }),
            vec![always(), dropped(is(NET + 3))],
        ),
        hard_one(
            "drop the groups whose key is in one of two halves",
            "sets that together are within another",
            Kind::Grouping,
            dropped(or(key_in(3, prefixes(&[(NET, 25)])), key_in(3, prefixes(&[(NET + 128, 25)])))),
            vec![dropped(or(key_in(3, prefixes(&[(NET, 25)])), key_in(3, prefixes(&[(NET + 256, 25)]))))],
        ),
        hard_one(
            "drop the groups whose key is in a union but not in the foreign part of it",
            "the difference of two sets",
            Kind::Grouping,
            dropped(but(&[(NET, 24), (0x0a00_0000, 8)])),
            vec![
                dropped(but(&[(NET, 24), (0x0b00_0000, 8)])),
                dropped(key_in(3, prefixes(&[(NET, 24), (0x0a00_0000, 8)]))),
            ],
        ),
        hard_one(
            "send to the key of each group",
            "that no group is empty",
            Kind::Grouping,
            to_keys(subnet()),
            vec![to_keys(net(23))],
        ),
        hard_one(
            "drop unless the key is outside or the group is large",
            "the denial of an alternative",
            Kind::Grouping,
            by_key(vec![
                Instr::Size { out: 4, arg: 2 },
                when(unless(or(unless(key_in(3, subnet())), at_most(int(10), slot(4)))), vec![discard(2)], vec![]),
            ]),
            vec![by_key(vec![
                Instr::Size { out: 4, arg: 2 },
                when(unless(and(unless(key_in(3, subnet())), at_most(int(10), slot(4)))), vec![discard(2)], vec![]),
            ])],
        ),
        hard_one(
            "pass small foreign groups, drop the other very small ones",
            "the denial of a conjunction, with arithmetic",
            Kind::Grouping,
            by_key(denied_conjunction(5, 3)),
            vec![by_key(denied_conjunction(5, 6))],
        ),
    ]
}

fn denied_conjunction(pass: i64, drop: i64) -> Vec<Instr> {
    let small = when(at_most(slot(4), int(drop)), vec![discard(2)], vec![]);
    let foreign = and(at_most(slot(4), int(pass)), unless(key_in(3, subnet())));
    vec![Instr::Size { out: 4, arg: 2 }, when(foreign, vec![], vec![small])]
}

/// Conditions that are asked twice, or whose answer is kept.
fn branches() -> Vec<Hard> {
    let mine = || select(1, 0, to(subnet()));
    let theirs = |out| select(out, 0, from(elsewhere()));
    let twice = |second: i64| {
        let few = |n| at_most(slot(1), int(n));
        let body = vec![
            Instr::Size { out: 1, arg: 0 },
            when(few(10), vec![select(2, 0, to(subnet()))], vec![theirs(2)]),
            when(few(second), vec![discard(2)], vec![]),
        ];
        program(0, &[], body)
    };
    let flagged = |wanted: i64| {
        let body = vec![
            Instr::Size { out: 1, arg: 0 },
            when(
                at_most(slot(1), int(5)),
                vec![select(2, 0, to(subnet())), set(3, int(1))],
                vec![theirs(2), set(3, int(0))],
            ),
            when(at_most(int(wanted), slot(3)), vec![discard(2)], vec![]),
        ];
        program(0, &[], body)
    };
    let three = |third: i64| {
        let n = |n| at_most(slot(1), int(n));
        let body = vec![
            Instr::Size { out: 1, arg: 0 },
            when(
                n(4),
                vec![select(2, 0, to(subnet()))],
                vec![when(n(8), vec![select(2, 0, to(net(25)))], vec![theirs(2)])],
            ),
            when(n(third), vec![discard(2)], vec![]),
        ];
        program(0, &[], body)
    };
    let counted = |word_twice: i64| {
        let body = vec![
            mine(),
            count(2, 1, 0),
            when(at_most(int(3), slot(2)), vec![select(3, 1, from(elsewhere()))], vec![theirs(3)]),
            when(at_most(int(word_twice), mul(int(2), slot(2))), vec![discard(3)], vec![]),
        ];
        program(0, &["spam"], body)
    };
    let answer = |other: bool| {
        let chosen = |slot: Slot, out: Slot| select(out, slot, from(elsewhere()));
        let body = vec![
            mine(),
            when(contains(1, 0), vec![chosen(1, 2), set(3, int(1))], vec![chosen(0, 2), set(3, int(2))]),
            when(Cond::Equal { a: slot(3), b: int(if other { 2 } else { 1 }) }, vec![discard(2)], vec![]),
        ];
        program(0, &["worm"], body)
    };
    vec![
        hard_one(
            "choose a set where there are few packets, drop it where there are few",
            "correlated branches",
            Kind::Grouping,
            twice(10),
            vec![twice(11)],
        ),
        hard_one(
            "choose a set and a flag, drop the set where the flag is set",
            "correlated branches through a flag",
            Kind::Grouping,
            flagged(1),
            vec![flagged(0)],
        ),
        hard_one(
            "choose one of three sets by ranges of a size, drop where two of them are",
            "correlated branches with ranges",
            Kind::Grouping,
            three(8),
            vec![three(9)],
        ),
        hard_one(
            "choose by a count, drop by twice the count",
            "correlated branches with linear arithmetic",
            Kind::Grouping,
            counted(6),
            vec![counted(4)],
        ),
        hard_one(
            "keep the answer of a search as a number, drop by the number",
            "correlated branches through a number",
            Kind::Grouping,
            answer(false),
            vec![answer(true)],
        ),
    ]
}

/// Addresses counted from others.
fn offsets() -> Vec<Hard> {
    let with = |window: u16, words: &[&str], more: Vec<Instr>| program(window, words, [contents(), more].concat());
    let base = || AddrTerm::ThisSubnet;
    let counting = |first: i64, last: i64| {
        let body = vec![offset(5, base(), slot(4)), send(5, 3), set(4, add(slot(4), int(1)))];
        with(0, &[], vec![set(4, int(first)), repeat(at_most(slot(4), int(last)), 300, body)])
    };
    let falling = |start: i64| {
        let body = vec![
            offset(6, base(), add(slot(5), int(235))),
            send(6, 3),
            set(4, add(slot(4), int(1))),
            set(5, sub(slot(5), int(1))),
        ];
        with(0, &[], vec![set(4, int(0)), set(5, int(start)), repeat(at_most(slot(4), int(9)), 10, body)])
    };
    let strided = |last: i64| {
        let body = vec![offset(5, base(), mul(int(4), slot(4))), send(5, 3), set(4, add(slot(4), int(1)))];
        with(0, &[], vec![set(4, int(0)), repeat(at_most(slot(4), int(last)), 100, body)])
    };
    let nested = |rows: i64| {
        let at = add(mul(int(8), slot(4)), slot(5));
        let inner = vec![offset(6, base(), at), send(6, 3), set(5, add(slot(5), int(1)))];
        let outer = vec![set(5, int(0)), repeat(at_most(slot(5), int(7)), 8, inner), set(4, add(slot(4), int(1)))];
        with(0, &[], vec![set(4, int(0)), repeat(at_most(slot(4), int(rows)), 40, outer)])
    };
    let sized = |more: i64| {
        with(16, &[], vec![Instr::Size { out: 4, arg: 1 }, offset(5, base(), add(slot(4), int(more))), send(5, 3)])
    };
    let clipped = |most: i64| {
        let send = vec![offset(5, base(), slot(4)), send(5, 3)];
        with(0, &["probe"], vec![count(4, 1, 0), when(at_most(slot(4), int(most)), send, vec![])])
    };
    let otherwise = |least: i64| {
        let send = vec![offset(5, base(), sub(int(255), slot(4))), send(5, 3)];
        with(0, &["probe"], vec![count(4, 1, 0), when(at_most(int(least), slot(4)), vec![], send)])
    };
    let behind_key = |most: i64| {
        let near = and(key_in(6, net(26)), at_most(slot(7), int(most)));
        let sent = vec![offset(8, AddrTerm::Slot { slot: 6 }, slot(7)), send(8, 3)];
        let body = vec![count(7, 5, 0), when(near, sent, vec![])];
        with(0, &["probe"], vec![by(Field::Dst, 4, 1), each(4, 5, body)])
    };
    let two = |first: i64| {
        let body = vec![
            offset(6, base(), sub(slot(5), slot(4))),
            send(6, 3),
            set(4, add(slot(4), int(1))),
            set(5, add(slot(5), int(3))),
        ];
        with(0, &[], vec![set(4, int(0)), set(5, int(first)), repeat(at_most(slot(4), int(50)), 60, body)])
    };
    let walking = |start: u32| {
        let ours = key_in(4, subnet());
        let body = vec![send(4, 3), offset(4, AddrTerm::Slot { slot: 4 }, int(1))];
        with(
            0,
            &[],
            vec![offset(4, AddrTerm::Const { addr: Addr::V4(start) }, int(0)), set(5, int(0)), repeat(ours, 300, body)],
        )
    };
    let carried = |also: AddrExpr| {
        let body = vec![when(key_in(7, also), vec![offset(4, AddrTerm::Slot { slot: 7 }, int(0))], vec![]), send(4, 3)];
        with(0, &[], vec![offset(4, AddrTerm::ThisIp, int(0)), by(Field::Src, 5, 1), each(5, 6, body)])
    };
    vec![
        hard_one(
            "send to each of some addresses, by a counter",
            "intervals of a loop's counter, within a prefix",
            Kind::EdgeRouter,
            counting(1, 10),
            vec![counting(1, 256), counting(-1, 10)],
        ),
        hard_one(
            "send to addresses by a second counter, that falls as the first rises",
            "a relation of two counters",
            Kind::EdgeRouter,
            falling(20),
            vec![falling(21)],
        ),
        hard_one(
            "send to every fourth address",
            "a multiple of a loop's counter, within a prefix",
            Kind::EdgeRouter,
            strided(63),
            vec![strided(64)],
        ),
        hard_one(
            "send to addresses by row and column",
            "two nested counters together, within a prefix",
            Kind::EdgeRouter,
            nested(31),
            vec![nested(32)],
        ),
        hard_one(
            "send to the address as far on as there are packets",
            "the size of a window as a bound",
            Kind::EdgeRouter,
            sized(239),
            vec![sized(240)],
        ),
        hard_one(
            "send to the address that a count tells, where it is small",
            "a bound by a branch, within a prefix",
            Kind::EdgeRouter,
            clipped(255),
            vec![clipped(256)],
        ),
        hard_one(
            "send to the address that a count tells from the end, where it is not large",
            "a bound by the other side of a branch, within a prefix",
            Kind::EdgeRouter,
            otherwise(256),
            vec![otherwise(257)],
        ),
        hard_one(
            "send to the address as far behind a group's key as a word is in it",
            "an address counted from one that is in a set",
            Kind::EdgeRouter,
            behind_key(192),
            vec![behind_key(193)],
        ),
        hard_one(
            "send to the distance of two counters that rise at different speeds",
            "a relation of two counters with factors",
            Kind::EdgeRouter,
            two(155),
            vec![two(156)],
        ),
        hard_one(
            "walk through the prefix address by address until it ends",
            "a loop's condition on an address",
            Kind::EdgeRouter,
            walking(NET),
            vec![walk_unguarded()],
        ),
        hard_one(
            "send to the last source that was inside, or to the router",
            "an address in a set at the head of a loop",
            Kind::EdgeRouter,
            carried(subnet()),
            vec![carried(net(23))],
        ),
    ]
}

fn walk_unguarded() -> Program {
    let body = vec![send(4, 3), offset(4, AddrTerm::Slot { slot: 4 }, int(1)), set(5, add(slot(5), int(1)))];
    let more =
        vec![offset(4, AddrTerm::ThisSubnet, int(0)), set(5, int(0)), repeat(at_most(slot(5), int(256)), 300, body)];
    program(0, &[], [contents(), more].concat())
}

/// Sets that a loop builds.
fn sets() -> Vec<Hard> {
    let empty = |out| Instr::Minus { out, a: 0, b: 0 };
    let union = |out, a, b| Instr::Union { out, a, b };
    let found = |all: Slot| {
        let body = vec![when(contains(4, 0), vec![union(2, 2, 4)], vec![])];
        program(
            0,
            &["worm"],
            vec![select(1, 0, to(subnet())), empty(2), by(Field::Src, 3, all), each(3, 4, body), discard(2)],
        )
    };
    let keyed = |cond: Cond| {
        let body = vec![when(cond, vec![union(1, 1, 3)], vec![])];
        program(0, &[], vec![empty(1), by(Field::Dst, 2, 0), each(2, 3, body), discard(1)])
    };
    let shrinking = |from_all: bool| {
        let body =
            vec![select(3, 2, from(elsewhere())), Instr::Minus { out: 2, a: 2, b: 3 }, set(4, add(slot(4), int(1)))];
        let first = if from_all { union(2, 1, 0) } else { union(2, 1, 1) };
        let all = vec![
            select(1, 0, to(subnet())),
            first,
            select(3, 1, from(elsewhere())),
            set(4, int(0)),
            repeat(at_most(slot(4), int(3)), 4, body),
            discard(2),
        ];
        program(0, &[], all)
    };
    let last = |wanted: i64| {
        let body = vec![when(key_in(5, subnet()), vec![union(1, 4, 4), set(2, int(1))], vec![])];
        let all = vec![
            select(1, 0, from(elsewhere())),
            set(2, int(0)),
            by(Field::Dst, 3, 0),
            each(3, 4, body),
            when(at_most(int(wanted), slot(2)), vec![discard(1)], vec![]),
        ];
        program(0, &[], all)
    };
    let two_sets = |swap: bool| {
        let body = vec![when(key_in(5, subnet()), vec![union(1, 1, 4)], vec![union(2, 2, 4)])];
        let all = vec![empty(1), empty(2), by(Field::Dst, 3, 0), each(3, 4, body), discard(if swap { 2 } else { 1 })];
        program(0, &[], all)
    };
    let without = |wrong: bool| {
        let (a, b) = if wrong { (0, 2) } else { (1, 2) };
        let all = vec![
            select(1, 0, to(subnet())),
            select(2, 1, from(elsewhere())),
            Instr::Minus { out: 3, a, b },
            union(4, 3, 2),
            discard(4),
        ];
        program(0, &[], all)
    };
    let hinted = {
        let mut hard = hard_one(
            "collect what may be dropped, as the author says",
            "an invariant that the author writes",
            Kind::Grouping,
            keyed(key_in(4, net(25))),
            vec![keyed(key_in(4, net(22)))],
        );
        let within = Invariant::Within { slot: 1, field: Field::Dst, addrs: subnet() };
        hard.hints = vec![Hint { instr: 2, invariants: vec![within], variant: None }];
        hard
    };
    vec![
        hard_one(
            "collect the flows with a word, drop them together",
            "what every packet of a growing set is",
            Kind::EdgeRouter,
            found(1),
            vec![keyed(contains_nothing())],
        ),
        hard_one(
            "collect the groups whose key is in the prefix, drop them together",
            "what every packet of a growing set is, by a branch",
            Kind::Grouping,
            keyed(key_in(4, subnet())),
            vec![keyed(key_in(4, net(23)))],
        ),
        hard_one(
            "take sources out of a set again and again, drop the rest",
            "what every packet of a shrinking set is",
            Kind::Grouping,
            shrinking(false),
            vec![shrinking(true)],
        ),
        hard_one(
            "keep the last group that is inside, drop it if there was one",
            "an invariant with an alternative",
            Kind::Grouping,
            last(1),
            vec![last(0)],
        ),
        hard_one(
            "sort the groups into two sets, drop the one",
            "what every packet of each of two growing sets is",
            Kind::Grouping,
            two_sets(false),
            vec![two_sets(true)],
        ),
        hard_one(
            "take a set apart and put it together",
            "members of differences and unions",
            Kind::Grouping,
            without(false),
            vec![without(true)],
        ),
        hinted,
    ]
}

/// A condition that holds always, of which nothing is known.
fn contains_nothing() -> Cond {
    at_most(int(0), int(1))
}

/// Formulas of policies with denials, and tests that imply them.
fn tests() -> Vec<Hard> {
    let mine = || to(subnet());
    let dropped = |test: Test| program(0, &[], vec![select(1, 0, both(mine(), test)), discard(1)]);
    let searched = |test: Test| {
        let body = vec![select(1, 0, both(mine(), test)), count(2, 1, 0)];
        program(0, &["beacon"], body)
    };
    let without_icmp = |all: &[(u32, u32)]| {
        let body = vec![
            select(1, 0, mine()),
            select(2, 1, number(Number::Protocol, all)),
            Instr::Minus { out: 3, a: 1, b: 2 },
            discard(3),
        ];
        program(0, &[], body)
    };
    let neither = |ports: &[(u32, u32)]| both(not(number(Number::SrcPort, ports)), not(number(Number::DstPort, ports)));
    let from_or_to = |len: u8| program(0, &[], vec![select(1, 0, either(from(net(len)), to(subnet()))), discard(1)]);
    let sides = |len: u8| {
        let body = vec![
            select(1, 0, from(subnet())),
            select(2, 0, to(net(len))),
            Instr::Union { out: 3, a: 1, b: 2 },
            discard(3),
        ];
        program(0, &[], body)
    };
    vec![
        hard_one(
            "drop TCP and UDP where ICMP must not be",
            "sets of protocols that are apart",
            Kind::Strict,
            dropped(number(Number::Protocol, &[(6, 6), (17, 17)])),
            vec![dropped(number(Number::Protocol, &[(1, 17)]))],
        ),
        hard_one(
            "drop all but ICMP, by a difference of sets",
            "the test of a set that was taken away",
            Kind::Strict,
            without_icmp(&ICMP),
            vec![without_icmp(&[(1, 1)])],
        ),
        hard_one(
            "search what has neither port of TLS",
            "the denial of an alternative in a policy",
            Kind::Strict,
            searched(neither(&TLS)),
            vec![searched(neither(&[(443, 443)]))],
        ),
        hard_one(
            "search mail, by both ports",
            "the denial of an alternative, by sets that are apart",
            Kind::Strict,
            searched(both(
                number(Number::SrcPort, &[(1024, 65_535)]),
                number(Number::DstPort, &[(25, 25), (587, 587)]),
            )),
            vec![searched(both(number(Number::SrcPort, &[(800, 65_535)]), number(Number::DstPort, &[(25, 25)])))],
        ),
        hard_one(
            "drop what a wider denial leaves",
            "the denial of a wider set",
            Kind::Strict,
            dropped(not(number(Number::Protocol, &[(0, 5), (40, 60)]))),
            vec![dropped(not(number(Number::Protocol, &[(0, 5), (40, 57)])))],
        ),
        hard_one(
            "drop what comes from the prefix or goes into it",
            "an alternative of addresses",
            Kind::Quarantine,
            from_or_to(24),
            vec![from_or_to(23)],
        ),
        hard_one(
            "drop two sets together, each allowed for another reason",
            "members of unions, by cases",
            Kind::Quarantine,
            sides(25),
            vec![sides(23)],
        ),
    ]
}

/// Complexity that only exact reasoning keeps below the ceiling.
fn costs() -> Vec<Hard> {
    let ceiling = |most: u64, hard: Hard| Hard { complexity_max: Some(most), ..hard };
    let mine = || select(1, 0, to(subnet()));
    let exclusive = |second: i64| {
        let few = |n| at_most(slot(2), int(n));
        let body = vec![
            mine(),
            count(2, 1, 0),
            when(few(2), vec![count(3, 1, 1)], vec![]),
            when(few(second), vec![], vec![count(4, 1, 1)]),
        ];
        program(1, &["alpha", "beta"], body)
    };
    let turns = |last: i64| {
        let body = vec![count(3, 1, 0), set(2, add(slot(2), int(1)))];
        program(1, &["alpha"], vec![mine(), set(2, int(0)), repeat(at_most(slot(2), int(last)), 1000, body)])
    };
    let meeting = |distance: i64| {
        let body = vec![count(4, 1, 0), set(2, add(slot(2), int(1))), set(3, sub(slot(3), int(1)))];
        let apart = unless(at_most(slot(3), slot(2)));
        program(1, &["alpha"], vec![mine(), set(2, int(0)), set(3, int(distance)), repeat(apart, 1000, body)])
    };
    let dead = |first: i64| {
        let body = vec![
            mine(),
            set(2, int(first)),
            set(3, mul(int(2), slot(2))),
            when(at_most(slot(3), int(5)), vec![count(4, 1, 0), count(5, 1, 1)], vec![discard(1)]),
        ];
        program(4, &["alpha", "beta"], body)
    };
    let dead_key = |addrs: AddrExpr| {
        let inner = vec![when(key_in(4, addrs), vec![count(5, 3, 0)], vec![discard(3)])];
        program(4, &["alpha"], vec![mine(), by(Field::Dst, 2, 1), each(2, 3, inner)])
    };
    let in_loop = |second: i64| {
        let few = |n| at_most(slot(2), int(n));
        let body = vec![
            when(few(4), vec![count(3, 1, 0)], vec![]),
            when(few(second), vec![], vec![count(4, 1, 0)]),
            set(2, add(slot(2), int(1))),
        ];
        program(1, &["alpha"], vec![mine(), set(2, int(0)), repeat(at_most(slot(2), int(9)), 10, body)])
    };
    vec![
        ceiling(
            750,
            hard_one(
                "one of two searches, by the same number",
                "costs of branches that exclude each other",
                Kind::EdgeRouter,
                exclusive(2),
                vec![exclusive(1)],
            ),
        ),
        ceiling(
            2_000,
            hard_one(
                "few turns of a loop that is allowed many",
                "a variant",
                Kind::EdgeRouter,
                turns(4),
                vec![turns(7)],
            ),
        ),
        ceiling(
            2_000,
            hard_one(
                "two counters that meet",
                "a variant of two counters, that falls by two",
                Kind::EdgeRouter,
                meeting(5),
                vec![meeting(14)],
            ),
        ),
        ceiling(
            200,
            hard_one("a branch that arithmetic never takes", "dead branches", Kind::EdgeRouter, dead(3), vec![dead(2)]),
        ),
        ceiling(
            400,
            hard_one(
                "a branch that no group's key takes",
                "dead branches, by that no group is empty",
                Kind::EdgeRouter,
                dead_key(elsewhere()),
                vec![dead_key(net(25))],
            ),
        ),
        ceiling(
            3_700,
            hard_one(
                "one of two searches in every turn",
                "the cost of a turn, by branches that exclude each other",
                Kind::EdgeRouter,
                in_loop(4),
                vec![in_loop(2)],
            ),
        ),
    ]
}
