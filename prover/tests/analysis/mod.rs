//! What the tests of the analyser and of the search for counterexamples build programs and policies from.
#![allow(dead_code)] // Each test binary uses its own part.

use vinet_prover::analyse::Lacking;
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, PrefixSet, Principal};
use vinet_trusted::packet::{Field, Number, Ranges, Test};
use vinet_trusted::policy::{Costs, Limits, OverBudget, Policy, PrincipalKind};
use vinet_trusted::program::{AddrTerm, Cond, Expr, Instr, Program, Slot, Type, Word};

pub const ME: Addr = Addr::V4(0xc000_0201); // 192.0.2.1
pub const OTHER: Addr = Addr::V4(0xcb00_7107); // 203.0.113.7
pub const NET: Addr = Addr::V4(0xc000_0200); // 192.0.2.0

/// Marsaglia's xorshift64*: enough for choosing.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % bound
    }
    pub fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

pub fn policy(principals: PrincipalKind, allow: &Test, scan: Test, generate: Test) -> Policy {
    Policy {
        name: "test".into(),
        principals,
        discard: allow.clone(),
        group: owns(Field::Dst),
        scan,
        generate,
        costs: Costs {
            program: 82,
            select: 40,
            select_many: 41,
            partition: 5,
            foreach: 11,
            test: 16,
            set: 10,
            arithmetic: 4,
            turn: 6,
            discard: 19,
            contains: 71,
            contains_per_64_bytes: 89,
            stream: 2345,
            content: 100,
            content_per_64_bytes: 20,
            generate: 200,
            generate_per_64_bytes: 20,
        },
        limits: Limits {
            program_bytes_max: 65_536,
            proof_bytes_max: 65_536,
            lifetime_max_s: 2_592_000,
            complexity_max: 10_000_000_000,
            cost_max: 1 << 60,
            packet_bytes_max: 1500,
            window_packets_max: 32,
            window_us_max: 200,
            generate_port: 7401,
            generate_rate_max: 1000,
            stream_flows_max: 1024,
            stream_islands_max: 8,
            packet_rate_default: 10_000,
            packet_rate_max: 10_000_000,
            over_budget: OverBudget::Forward,
        },
    }
}

pub fn owns(field: Field) -> Test {
    Test::Owns { field }
}
pub fn not(a: Test) -> Test {
    Test::Not { a: Box::new(a) }
}
pub fn and(a: Test, b: Test) -> Test {
    Test::And { a: Box::new(a), b: Box::new(b) }
}
pub fn or(a: Test, b: Test) -> Test {
    Test::Or { a: Box::new(a), b: Box::new(b) }
}
pub fn number(number: Number, ranges: &[(u32, u32)]) -> Test {
    Test::Number { number, ranges: Ranges::new(ranges.to_vec()).expect("ranges") }
}
pub fn within(field: Field, addrs: AddrExpr) -> Test {
    Test::In { field, addrs }
}
pub fn to_me() -> Test {
    within(Field::Dst, this_ip())
}
pub fn this_ip() -> AddrExpr {
    AddrExpr { this_ip: true, ..AddrExpr::default() }
}
pub fn this_subnet() -> AddrExpr {
    AddrExpr { this_subnet: true, ..AddrExpr::default() }
}
pub fn prefixes(list: &[(Addr, u8)]) -> AddrExpr {
    let list = list.iter().map(|&(addr, len)| Prefix::of(addr, len).expect("a length of the family")).collect();
    AddrExpr { prefixes: PrefixSet::new(list), ..AddrExpr::default() }
}

pub fn end_user() -> Policy {
    policy(PrincipalKind::EndUser, &owns(Field::Dst), owns(Field::Dst), within(Field::Dst, this_ip()))
}
pub fn edge_router() -> Policy {
    policy(PrincipalKind::EdgeRouter, &owns(Field::Dst), owns(Field::Dst), owns(Field::Dst))
}
pub fn tls() -> Test {
    let ports: Vec<(u32, u32)> = [443, 465, 853, 993, 995].iter().map(|&p| (p, p)).collect();
    let tcp = number(Number::Protocol, &[(6, 6)]);
    or(and(tcp.clone(), number(Number::DstPort, &ports)), and(tcp, number(Number::SrcPort, &ports)))
}
pub fn icmp() -> Test {
    number(Number::Protocol, &[(1, 1), (58, 58)])
}
pub fn strict() -> Policy {
    policy(PrincipalKind::EndUser, &and(owns(Field::Dst), not(icmp())), and(owns(Field::Dst), not(tls())), Test::False)
}
pub fn me() -> Principal {
    Principal::EndUser(ME)
}
pub fn router() -> Principal {
    Principal::edge_router(ME, 24).expect("a prefix")
}

pub fn select(out: Slot, arg: Slot, test: Test) -> Instr {
    Instr::Select { out, arg, test }
}
pub fn discard(arg: Slot) -> Instr {
    Instr::Discard { arg }
}
pub fn partition(out: Slot, arg: Slot, field: Field) -> Instr {
    Instr::Partition { out, arg, field }
}
pub fn foreach(groups: Slot, packets: Slot, key: Slot, body: Vec<Instr>) -> Instr {
    Instr::Foreach { groups, packets, key, body }
}
pub fn branch(cond: Cond, then: Vec<Instr>, otherwise: Vec<Instr>) -> Instr {
    Instr::If { cond, then, otherwise }
}
pub fn while_(cond: Cond, max: u32, body: Vec<Instr>) -> Instr {
    Instr::While { cond, max, body }
}
pub fn let_(out: Slot, expr: Expr) -> Instr {
    Instr::Let { out, expr }
}
pub fn int(value: i64) -> Expr {
    Expr::Const { value }
}
pub fn get(slot: Slot) -> Expr {
    Expr::Slot { slot }
}
pub fn add(a: Expr, b: Expr) -> Expr {
    Expr::Add { a: Box::new(a), b: Box::new(b) }
}
pub fn sub(a: Expr, b: Expr) -> Expr {
    Expr::Sub { a: Box::new(a), b: Box::new(b) }
}
pub fn mul(a: Expr, b: Expr) -> Expr {
    Expr::Mul { a: Box::new(a), b: Box::new(b) }
}
pub fn at_most(a: Expr, b: Expr) -> Cond {
    Cond::AtMost { a, b }
}
pub fn equal(a: Expr, b: Expr) -> Cond {
    Cond::Equal { a, b }
}
pub fn contains(arg: Slot, word: u8) -> Cond {
    Cond::Contains { arg, word }
}
pub fn no(cond: Cond) -> Cond {
    Cond::Not { cond: Box::new(cond) }
}
pub fn all(a: Cond, b: Cond) -> Cond {
    Cond::And { a: Box::new(a), b: Box::new(b) }
}
pub fn any(a: Cond, b: Cond) -> Cond {
    Cond::Or { a: Box::new(a), b: Box::new(b) }
}
pub fn is_in(addr: Slot, addrs: AddrExpr) -> Cond {
    Cond::AddrIn { addr, addrs }
}
pub fn constant(addr: Addr) -> AddrTerm {
    AddrTerm::Const { addr }
}
pub fn program(words: &[&str], window: u16, body: Vec<Instr>) -> Program {
    let words = words.iter().map(|w| Word { fold: false, bytes: w.as_bytes().to_vec() }).collect();
    Program::new(3600, window, words, body).expect("a well-formed program")
}

/// The simple corpus: what a static analyser is expected to accept.
pub fn simple() -> Vec<(&'static str, Program, Principal, Policy)> {
    use Field::{Dst, Src};
    let bad = prefixes(&[(OTHER, 24), (Addr::V4(0x0a00_0000), 8)]);
    let mut all_of = Vec::new();
    let mut user = |name, words: &[&str], window, body| {
        all_of.push((name, program(words, window, body), me(), end_user()));
    };
    user("firewall", &[], 1, vec![select(1, 0, to_me()), select(2, 1, within(Src, bad.clone())), discard(2)]);
    user("discard all of mine", &[], 1, vec![select(1, 0, owns(Dst)), discard(1)]);
    user(
        "spam filter",
        &["casino", "lottery"],
        1,
        vec![
            select(1, 0, to_me()),
            partition(2, 1, Src),
            foreach(2, 3, 4, vec![branch(all(contains(3, 0), contains(3, 1)), vec![discard(3)], vec![])]),
        ],
    );
    user(
        "spam filter with a window",
        &["casino", "lottery"],
        0,
        vec![
            select(1, 0, to_me()),
            partition(2, 1, Src),
            foreach(2, 3, 4, vec![branch(any(contains(3, 0), contains(3, 1)), vec![discard(3)], vec![])]),
        ],
    );
    user(
        "score",
        &["casino", "lottery"],
        0,
        vec![
            select(1, 0, to_me()),
            partition(2, 1, Src),
            foreach(
                2,
                3,
                4,
                vec![
                    Instr::Count { out: 5, arg: 3, word: 0 },
                    Instr::Count { out: 6, arg: 3, word: 1 },
                    let_(7, add(mul(int(3), get(5)), get(6))),
                    branch(at_most(int(10), get(7)), vec![discard(3)], vec![]),
                ],
            ),
        ],
    );
    user(
        "ownership by a key test",
        &[],
        0,
        vec![
            select(1, 0, owns(Dst)),
            partition(2, 1, Src),
            foreach(2, 3, 4, vec![branch(is_in(4, bad.clone()), vec![discard(3)], vec![])]),
        ],
    );
    user(
        "sets of sets",
        &[],
        0,
        vec![
            select(1, 0, to_me()),
            select(2, 1, within(Src, bad.clone())),
            select(3, 1, number(Number::Protocol, &[(17, 17)])),
            Instr::Union { out: 4, a: 2, b: 3 },
            Instr::Minus { out: 5, a: 4, b: 2 },
            discard(5),
            discard(4),
        ],
    );
    user(
        "the set of one branch or the other",
        &["x"],
        1,
        vec![
            select(1, 0, to_me()),
            branch(
                contains(1, 0),
                vec![select(2, 1, within(Src, bad.clone()))],
                vec![select(2, 1, number(Number::DstPort, &[(25, 25)]))],
            ),
            discard(2),
        ],
    );
    user(
        "a shrinking set in a loop",
        &[],
        0,
        vec![
            select(1, 0, to_me()),
            select(2, 1, within(Src, bad.clone())),
            let_(3, int(0)),
            while_(
                at_most(get(3), int(9)),
                20,
                vec![select(2, 2, number(Number::Length, &[(0, 100)])), let_(3, add(get(3), int(1)))],
            ),
            discard(2),
        ],
    );
    user(
        "a dead branch",
        &[],
        1,
        vec![
            let_(1, int(3)),
            branch(at_most(get(1), int(2)), vec![discard(0)], vec![]),
            branch(at_most(get(1), int(3)), vec![], vec![discard(0)]),
        ],
    );
    user(
        "a dead branch behind a loop",
        &[],
        1,
        vec![
            let_(1, int(0)),
            while_(at_most(get(1), int(9)), 100, vec![let_(1, add(get(1), int(1)))]),
            branch(at_most(get(1), int(9)), vec![discard(0)], vec![]),
            branch(at_most(int(11), get(1)), vec![discard(0)], vec![]),
        ],
    );
    user(
        "a loop that counts down, in one",
        &[],
        1,
        vec![
            let_(1, int(0)),
            let_(2, int(0)),
            while_(
                at_most(get(1), int(4)),
                100,
                vec![
                    let_(2, int(7)),
                    while_(at_most(int(1), get(2)), 100, vec![let_(2, sub(get(2), int(2)))]),
                    let_(1, add(get(1), int(1))),
                ],
            ),
            select(3, 0, to_me()),
            branch(at_most(get(2), int(7)), vec![discard(3)], vec![discard(0)]),
        ],
    );
    user(
        "a set known to be empty",
        &[],
        0,
        vec![branch(Cond::Empty { arg: 0 }, vec![discard(0)], vec![]), select(1, 0, to_me()), discard(1)],
    );
    user(
        "what is sent to me",
        &[],
        0,
        vec![
            select(1, 0, to_me()),
            Instr::Content { dests: 2, contents: 3, arg: 1 },
            Instr::Generate { src: constant(OTHER), dst: AddrTerm::ThisIp, data: 3 },
            Instr::Generate { src: constant(OTHER), dst: constant(ME), data: 2 },
        ],
    );
    let mut edge = |name, words: &[&str], window, body| {
        all_of.push((name, program(words, window, body), router(), edge_router()));
    };
    edge(
        "subnet filter",
        &[],
        1,
        vec![select(1, 0, within(Dst, this_subnet())), select(2, 1, within(Src, bad.clone())), discard(2)],
    );
    edge(
        "a part of the subnet",
        &[],
        1,
        vec![select(1, 0, within(Dst, prefixes(&[(Addr::V4(0xc000_0280), 25)]))), discard(1)],
    );
    edge(
        "what is left of the subnet",
        &[],
        1,
        vec![select(1, 0, and(owns(Dst), not(within(Dst, prefixes(&[(Addr::V4(0xc000_0280), 25)]))))), discard(1)],
    );
    edge(
        "ownership by the key of groups",
        &[],
        0,
        vec![
            select(1, 0, owns(Dst)),
            partition(2, 1, Dst),
            foreach(
                2,
                3,
                4,
                vec![
                    Instr::Content { dests: 5, contents: 6, arg: 3 },
                    Instr::Generate { src: AddrTerm::Slot { slot: 4 }, dst: AddrTerm::Slot { slot: 4 }, data: 6 },
                ],
            ),
        ],
    );
    edge(
        "hosts by their number",
        &[],
        0,
        vec![
            let_(1, int(0)),
            select(2, 0, owns(Dst)),
            Instr::Content { dests: 3, contents: 4, arg: 2 },
            while_(
                at_most(get(1), int(200)),
                1000,
                vec![
                    Instr::Offset { out: 5, base: AddrTerm::ThisSubnet, by: get(1) },
                    Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::Slot { slot: 5 }, data: 4 },
                    let_(1, add(get(1), int(1))),
                ],
            ),
        ],
    );
    edge(
        "one host of two",
        &["x"],
        0,
        vec![
            select(1, 0, owns(Dst)),
            branch(
                contains(1, 0),
                vec![Instr::Offset { out: 2, base: AddrTerm::ThisSubnet, by: int(5) }],
                vec![Instr::Offset { out: 2, base: AddrTerm::ThisSubnet, by: int(9) }],
            ),
            select(3, 1, Test::Is { field: Dst, slot: 2 }),
            discard(3),
        ],
    );
    edge(
        "a set that grows host by host",
        &[],
        0,
        vec![
            select(1, 0, owns(Dst)),
            Instr::Minus { out: 2, a: 1, b: 1 },
            let_(3, int(20)),
            while_(
                at_most(get(3), int(30)),
                20,
                vec![
                    Instr::Offset { out: 4, base: AddrTerm::ThisSubnet, by: get(3) },
                    select(5, 0, and(owns(Dst), Test::Is { field: Dst, slot: 4 })),
                    Instr::Union { out: 2, a: 2, b: 5 },
                    let_(3, add(get(3), int(1))),
                ],
            ),
            discard(2),
        ],
    );
    edge(
        "a range of hosts",
        &[],
        0,
        vec![
            select(1, 0, owns(Dst)),
            Instr::Size { out: 2, arg: 1 },
            branch(
                all(at_most(int(3), get(2)), at_most(get(2), int(7))),
                vec![
                    Instr::Offset { out: 3, base: AddrTerm::ThisSubnet, by: mul(get(2), int(30)) },
                    select(4, 1, Test::Is { field: Dst, slot: 3 }),
                    discard(4),
                ],
                vec![],
            ),
        ],
    );
    let mut hard = |name, words: &[&str], window, body| {
        all_of.push((name, program(words, window, body), me(), strict()));
    };
    hard(
        "strict firewall",
        &[],
        1,
        vec![select(1, 0, and(to_me(), not(icmp()))), select(2, 1, within(Src, bad.clone())), discard(2)],
    );
    hard(
        "strict mail filter",
        &["casino"],
        1,
        vec![
            select(1, 0, and(to_me(), number(Number::Protocol, &[(6, 6)]))),
            select(
                2,
                1,
                and(
                    number(Number::DstPort, &[(25, 25)]),
                    not(number(Number::SrcPort, &[(443, 443), (465, 465), (853, 853), (993, 993), (995, 995)])),
                ),
            ),
            branch(contains(2, 0), vec![discard(2)], vec![]),
        ],
    );
    hard(
        "the policy's own words",
        &["casino"],
        1,
        vec![
            select(1, 0, and(and(to_me(), not(tls())), not(icmp()))),
            branch(contains(1, 0), vec![discard(1)], vec![]),
        ],
    );
    hard(
        "datagrams are no streams",
        &["casino"],
        1,
        vec![
            select(1, 0, to_me()),
            select(2, 1, number(Number::Protocol, &[(17, 17)])),
            branch(contains(2, 0), vec![discard(2)], vec![]),
        ],
    );
    all_of
}

/// Lawful programs on which a classical analysis gives up.
pub fn beyond() -> Vec<(&'static str, Program, Principal, Policy, Lacking)> {
    use Field::Dst;
    vec![
        (
            "which set it was",
            program(
                &["x"],
                0,
                vec![
                    select(1, 0, to_me()),
                    let_(2, int(0)),
                    Instr::Union { out: 3, a: 0, b: 0 },
                    branch(contains(1, 0), vec![let_(2, int(1)), Instr::Union { out: 3, a: 1, b: 1 }], vec![]),
                    branch(equal(get(2), int(1)), vec![discard(3)], vec![]),
                ],
            ),
            me(),
            end_user(),
            Lacking::WhichBranch,
        ),
        (
            "two integers",
            program(
                &[],
                0,
                vec![
                    select(1, 0, owns(Dst)),
                    Instr::Size { out: 2, arg: 1 },
                    Instr::Size { out: 3, arg: 1 },
                    let_(4, sub(add(get(2), int(300)), get(2))),
                    branch(at_most(get(4), int(299)), vec![discard(0)], vec![]),
                ],
            ),
            me(),
            end_user(),
            Lacking::Relation,
        ),
        (
            "what is left of two sets",
            program(
                &[],
                0,
                vec![select(1, 0, owns(Dst)), select(2, 1, icmp()), Instr::Minus { out: 3, a: 1, b: 2 }, discard(3)],
            ),
            me(),
            strict(),
            Lacking::SetDifference,
        ),
        (
            "not equal",
            program(
                &[],
                0,
                vec![
                    let_(1, int(0)),
                    while_(
                        no(equal(get(1), int(10))),
                        50,
                        vec![branch(at_most(int(11), get(1)), vec![discard(0)], vec![]), let_(1, add(get(1), int(1)))],
                    ),
                ],
            ),
            me(),
            end_user(),
            Lacking::Inequality,
        ),
    ]
}

/// Makes random programs: well-formed ones, many of them lawful.
pub struct Maker {
    pub random: Random,
    types: Vec<Type>,
    free: Vec<bool>,
    assigned: Vec<bool>,
    left: usize,
    words: usize,
}

impl Maker {
    pub fn new(seed: u64) -> Self {
        Maker { random: Random(seed), types: vec![], free: vec![], assigned: vec![], left: 0, words: 0 }
    }

    /// A program of up to `size` instructions.
    pub fn program(&mut self, size: usize) -> Program {
        (self.types, self.free, self.assigned) = (vec![Type::Packets], vec![false], vec![true]);
        self.left = size;
        self.words = 0;
        let mut body = Vec::new();
        if self.random.below(4) > 0 {
            let out = self.target(Type::Packets);
            body.push(select(out, 0, self.test(0)));
        }
        body.extend(self.block(0));
        let window = self.random.of(&[0, 1, 1, 3]);
        let words: Vec<String> = (0..self.words).map(|i| format!("word{i}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        program(&words, window, body)
    }

    fn held(&mut self, ty: Type) -> Option<Slot> {
        let all: Vec<Slot> =
            (0..self.types.len()).filter(|&s| self.types[s] == ty && self.assigned[s]).map(|s| s as Slot).collect();
        // Mostly what was made last.
        match all.len() {
            0 => None,
            n if self.random.below(3) > 0 => Some(all[n - 1]),
            _ => Some(self.random.of(&all)),
        }
    }
    fn target(&mut self, ty: Type) -> Slot {
        let again: Vec<Slot> =
            (0..self.types.len()).filter(|&s| self.types[s] == ty && self.free[s]).map(|s| s as Slot).collect();
        if !again.is_empty() && (self.random.below(3) > 0 || self.types.len() > 55) {
            let slot = self.random.of(&again);
            self.assigned[usize::from(slot)] = true;
            return slot;
        }
        self.fresh(ty, true)
    }
    fn fresh(&mut self, ty: Type, free: bool) -> Slot {
        self.types.push(ty);
        self.free.push(free);
        self.assigned.push(true);
        (self.types.len() - 1) as Slot
    }
    fn word(&mut self) -> u8 {
        let word = self.random.below((self.words + 1).min(4));
        self.words = self.words.max(word + 1);
        word as u8
    }

    fn set(&mut self) -> AddrExpr {
        match self.random.below(6) {
            0 | 1 => this_ip(),
            2 => prefixes(&[(OTHER, 24)]),
            3 => prefixes(&[(NET, 25), (OTHER, 32)]),
            4 => prefixes(&[(NET, 24)]),
            _ => prefixes(&[(ME, 32), (Addr::V6(1 << 100), 40)]),
        }
    }
    fn test(&mut self, depth: usize) -> Test {
        let field = self.random.of(&[Field::Src, Field::Dst, Field::Dst]);
        match self.random.below(if depth > 2 { 5 } else { 9 }) {
            0 | 1 => owns(Field::Dst),
            2 => within(field, self.set()),
            3 => number(Number::Protocol, self.random.of(&[&[(6, 6)][..], &[(17, 17)], &[(1, 1), (58, 58)]])),
            4 => match self.held(Type::Addr) {
                Some(slot) => Test::Is { field, slot },
                None => to_me(),
            },
            5 => not(self.test(depth + 1)),
            6 | 7 => and(self.test(depth + 1), self.test(depth + 1)),
            _ => or(self.test(depth + 1), self.test(depth + 1)),
        }
    }
    fn expr(&mut self, depth: usize) -> Expr {
        match (self.random.below(if depth > 2 { 2 } else { 5 }), self.held(Type::Int)) {
            (1 | 2, Some(slot)) => get(slot),
            (3, _) => add(self.expr(depth + 1), self.expr(depth + 1)),
            (4, _) => {
                let (a, b) = (self.expr(depth + 1), self.expr(depth + 1));
                if self.random.below(3) == 0 { mul(a, b) } else { sub(a, b) }
            }
            _ => int(self.random.below(12) as i64 - 2),
        }
    }
    fn cond(&mut self, depth: usize) -> Cond {
        let arg = self.held(Type::Packets).expect("all packets");
        match self.random.below(if depth > 2 { 6 } else { 9 }) {
            0 | 1 => contains(arg, self.word()),
            2 => Cond::Empty { arg },
            3 => match self.held(Type::Addr) {
                Some(slot) => is_in(slot, self.set()),
                None => Cond::Empty { arg },
            },
            4 => at_most(self.expr(1), self.expr(1)),
            5 => match self.held(Type::Addr) {
                Some(addr) => Cond::AddrIs { addr, is: self.address() },
                None => equal(self.expr(1), self.expr(1)),
            },
            6 => no(self.cond(depth + 1)),
            7 => all(self.cond(depth + 1), self.cond(depth + 1)),
            _ => any(self.cond(depth + 1), self.cond(depth + 1)),
        }
    }
    fn address(&mut self) -> AddrTerm {
        match (self.random.below(3), self.held(Type::Addr)) {
            (0, Some(slot)) => AddrTerm::Slot { slot },
            (1, _) => constant(self.random.of(&[OTHER, NET])),
            _ => AddrTerm::ThisIp,
        }
    }

    fn block(&mut self, depth: usize) -> Vec<Instr> {
        let mut block = Vec::new();
        while self.left > 0 && (block.is_empty() || self.random.below(6) > 0) {
            self.left -= 1;
            self.instr(depth, &mut block);
        }
        block
    }
    /// A block that may not be run, behind which nothing of it is assigned.
    fn inner(&mut self, depth: usize) -> Vec<Instr> {
        let before = self.assigned.clone();
        let block = self.block(depth + 1);
        let count = self.types.len();
        self.assigned = before;
        self.assigned.resize(count, false);
        block
    }

    fn instr(&mut self, depth: usize, block: &mut Vec<Instr>) {
        let arg = self.held(Type::Packets).expect("all packets");
        let kind = self.random.below(if depth > 2 || self.types.len() > 50 { 11 } else { 16 });
        let instr = match kind {
            0 | 1 => {
                let test = self.test(0);
                select(self.target(Type::Packets), arg, test)
            }
            2 => {
                let b = self.held(Type::Packets).expect("all packets");
                let out = self.target(Type::Packets);
                if self.random.below(2) == 0 {
                    Instr::Union { out, a: arg, b }
                } else {
                    Instr::Minus { out, a: arg, b }
                }
            }
            3 => {
                let word = self.word();
                Instr::Count { out: self.target(Type::Int), arg, word }
            }
            4 => Instr::Size { out: self.target(Type::Int), arg },
            5 | 6 => {
                let expr = self.expr(0);
                let_(self.target(Type::Int), expr)
            }
            7 => {
                let (base, by) = (self.address(), self.expr(2));
                Instr::Offset { out: self.target(Type::Addr), base, by }
            }
            8 if self.held(Type::Contents).is_some() => {
                let (src, dst) = (self.address(), self.address());
                Instr::Generate { src, dst, data: self.held(Type::Contents).expect("it is there") }
            }
            8 => {
                let dests = self.target(Type::Dests);
                Instr::Content { dests, contents: self.target(Type::Contents), arg }
            }
            9 | 10 => discard(arg),
            11 | 12 => {
                let cond = self.cond(0);
                let before = self.assigned.clone();
                let then = self.block(depth + 1);
                let after = std::mem::replace(&mut self.assigned, before);
                self.assigned.resize(self.types.len(), false);
                let otherwise = if self.random.below(2) == 0 { self.block(depth + 1) } else { vec![] };
                for slot in 0..self.types.len() {
                    self.assigned[slot] &= after.get(slot).copied().unwrap_or(false);
                }
                branch(cond, then, otherwise)
            }
            13 => {
                let field = self.random.of(&[Field::Src, Field::Dst]);
                let groups = self.target(Type::Groups(field));
                block.push(partition(groups, arg, field));
                let before = self.assigned.clone();
                let (packets, key) = (self.fresh(Type::Packets, false), self.fresh(Type::Addr, false));
                let body = self.block(depth + 1);
                self.assigned = before;
                self.assigned.resize(self.types.len(), false);
                foreach(groups, packets, key, body)
            }
            14 => {
                let i = self.target(Type::Int);
                block.push(let_(i, int(self.random.below(4) as i64)));
                let most = self.random.below(9) as i64;
                let mut body = self.inner(depth);
                body.push(let_(i, add(get(i), int(1 + self.random.below(2) as i64))));
                while_(at_most(get(i), int(most)), 20, body)
            }
            _ => {
                let cond = self.cond(0);
                let max = 1 + self.random.below(5) as u32;
                while_(cond, max, self.inner(depth))
            }
        };
        block.push(instr);
    }
}
