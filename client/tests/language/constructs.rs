//! What each construct beyond the paper's listings lowers to.

use super::{program, router, select, settings, this_ip, word};
use vinet_client::lang::{SourceMap, compile};
use vinet_prover::hint::{Hint, Invariant};
use vinet_trusted::addr::Addr;
use vinet_trusted::packet::{Field, Number, Packet, Ranges, Test};
use vinet_trusted::program::{AddrExpr, AddrTerm, Cond, Expr, Instr, LOOP_MAX, Program, Word};

const HEAD: &str = "LIFETIME = 1 hour\nM = GROUP_BY_DESTINATION(AllPackets, THIS_IP);\n";

/// The instructions of `text` behind the selection of one's own packets, which are in slot 1.
fn behind_head(text: &str, set: &[&str]) -> Vec<Instr> {
    let program = program(&format!("{HEAD}{text}"), set);
    assert_eq!(program.body()[0], select(1, 0, Field::Dst, this_ip()));
    program.body()[1..].to_vec()
}
fn test(text: &str) -> Test {
    match &behind_head(&format!("A = SELECT(M, {text});"), &[])[..] {
        [Instr::Select { out: 2, arg: 1, test }] => test.clone(),
        other => panic!("{other:?}"),
    }
}
/// The condition of `if` and the instructions before it, where `n` is in slot 2 and `a`, an address, in slot 3.
fn cond(text: &str) -> (Vec<Instr>, Cond) {
    let mut body = behind_head(&format!("n = 7; a = 10.0.0.9;\nif {text} then DISCARD(M);"), &[]);
    let Some(Instr::If { cond, .. }) = body.pop() else { panic!("an if") };
    body.drain(..2);
    (body, cond)
}
fn among(number: Number, ranges: &[(u32, u32)]) -> Test {
    Test::Number { number, ranges: Ranges::new(ranges.to_vec()).expect("ranges") }
}
fn not(a: Test) -> Test {
    Test::Not { a: Box::new(a) }
}
fn cond_not(cond: Cond) -> Cond {
    Cond::Not { cond: Box::new(cond) }
}
fn int(value: i64) -> Expr {
    Expr::Const { value }
}
fn slot(slot: u8) -> Expr {
    Expr::Slot { slot }
}
fn folded(bytes: &[u8]) -> Word {
    Word { fold: true, bytes: bytes.to_vec() }
}
fn addr(last: u32) -> Addr {
    Addr::V4(0x0a00_0000 + last)
}

#[test]
fn a_window_is_one_packet_unless_content_is_grouped_or_it_is_said() {
    let window = |text: &str| program(&format!("LIFETIME = 1 h\n{text}"), &[]).window();
    assert_eq!(window(""), 1);
    assert_eq!(window("if EMPTY(AllPackets) then begin D, C = GROUP_BY_CONTENT(AllPackets); end"), 0);
    assert_eq!(window("WINDOW = 1 packet\nD, C = GROUP_BY_CONTENT(AllPackets);"), 1);
    assert_eq!(window("WINDOW = 256 packets;"), 256);
    assert_eq!(window("window = POLICY"), 0);
}

#[test]
fn select_asks_for_numbers_flags_and_addresses() {
    assert_eq!(test("protocol = tcp"), among(Number::Protocol, &[(6, 6)]));
    assert_eq!(
        test("Protocol in {udp, icmp, ICMP6, 132}"),
        among(Number::Protocol, &[(17, 17), (1, 1), (58, 58), (132, 132)])
    );
    assert_eq!(test("dstport != 25"), not(among(Number::DstPort, &[(25, 25)])));
    assert_eq!(test("srcport < 1024"), among(Number::SrcPort, &[(0, 1023)]));
    assert_eq!(test("srcport <= 1024"), among(Number::SrcPort, &[(0, 1024)]));
    assert_eq!(test("length > 1400"), among(Number::Length, &[(1401, Packet::ABSENT - 1)]));
    assert_eq!(test("length >= 1400"), among(Number::Length, &[(1400, Packet::ABSENT - 1)]));
    assert_eq!(test("length < 0"), Test::False);
    assert_eq!(test("length > 4294967294"), Test::False);
    assert_eq!(test("dstport in {25, 80..90}"), among(Number::DstPort, &[(25, 25), (80, 90)]));
    assert_eq!(test("dstport in 80..90"), among(Number::DstPort, &[(80, 90)]));
    assert_eq!(test("dstport not in {25}"), not(among(Number::DstPort, &[(25, 25)])));
    for (flag, number) in [
        ("fin", Number::Fin),
        ("syn", Number::Syn),
        ("rst", Number::Rst),
        ("psh", Number::Psh),
        ("ack", Number::Ack),
        ("URG", Number::Urg),
    ] {
        assert_eq!(test(flag), among(number, &[(1, 1)]));
        assert_eq!(test(&format!("not {flag}")), not(among(number, &[(1, 1)])));
        assert_eq!(test(&format!("{flag} = 0")), among(number, &[(0, 0)]));
    }
    assert_eq!(test("src = 10.0.0.1"), Test::In { field: Field::Src, addrs: addr(1).into() });
    assert_eq!(test("dst not in THIS_IP"), not(Test::In { field: Field::Dst, addrs: this_ip() }));
    assert_eq!(test("true"), Test::True);
    assert_eq!(test("false"), Test::False);
    assert_eq!(test("owns(dst)"), Test::Owns { field: Field::Dst });
    assert_eq!(
        test("syn and not (ack or rst) or true"),
        Test::Or {
            a: Box::new(Test::And {
                a: Box::new(among(Number::Syn, &[(1, 1)])),
                b: Box::new(not(Test::Or {
                    a: Box::new(among(Number::Ack, &[(1, 1)])),
                    b: Box::new(among(Number::Rst, &[(1, 1)])),
                })),
            }),
            b: Box::new(Test::True),
        }
    );
}

#[test]
fn select_takes_parameters_for_numbers() {
    let of = |set: &str| behind_head("A = SELECT(M, dstport in {25, Ports});", &[set]);
    let expected = |ranges: &[(u32, u32)]| vec![Instr::Select { out: 2, arg: 1, test: among(Number::DstPort, ranges) }];
    assert_eq!(of("Ports=80"), expected(&[(25, 25), (80, 80)]));
    assert_eq!(of("Ports={80..90, 443}"), expected(&[(25, 25), (80, 90), (443, 443)]));
    assert_eq!(of("Ports=80..90, 443"), expected(&[(25, 25), (80, 90), (443, 443)]));
    let max = behind_head("A = SELECT(M, length > Max and srcport in Low..High);", &["Max=99", "Low=5", "High=6"]);
    let Instr::Select { test: Test::And { a, b }, .. } = &max[0] else { panic!("{max:?}") };
    assert_eq!(
        (&**a, &**b),
        (&among(Number::Length, &[(100, Packet::ABSENT - 1)]), &among(Number::SrcPort, &[(5, 6)]))
    );
}

#[test]
fn variables_stand_where_addresses_do() {
    let is = |field, slot| Test::Is { field, slot };
    let body = behind_head("K(i), P(i) = GROUP_BY_SOURCE(M); foreach i do A = GROUP_BY_DESTINATION(M, K(i));", &[]);
    let Instr::Foreach { key, body, .. } = &body[1] else { panic!("{body:?}") };
    assert_eq!(body[..], [Instr::Select { out: 5, arg: 1, test: is(Field::Dst, *key) }]);
    let body = behind_head("a = 10.0.0.9; A = GROUP_BY_SOURCE(M, {a, THIS_IP, a});", &[]);
    let or = |a, b| Test::Or { a: Box::new(a), b: Box::new(b) };
    let constant = Test::In { field: Field::Src, addrs: this_ip() };
    let expected = or(or(constant, is(Field::Src, 2)), is(Field::Src, 2));
    assert_eq!(body[1], Instr::Select { out: 3, arg: 1, test: expected });
}

#[test]
fn copies_are_of_sets_integers_and_addresses() {
    let offset = |out, base| Instr::Offset { out, base, by: int(0) };
    assert_eq!(behind_head("A = M;", &[]), [Instr::Union { out: 2, a: 1, b: 1 }]);
    assert_eq!(behind_head("A = AllPackets;", &[]), [Instr::Union { out: 2, a: 0, b: 0 }]);
    assert_eq!(
        behind_head("n = 5; m = n;", &[]),
        [Instr::Let { out: 2, expr: int(5) }, Instr::Let { out: 3, expr: slot(2) }]
    );
    assert_eq!(
        behind_head("a = THIS_SUBNET_IP; b = a;", &[]),
        [offset(2, AddrTerm::ThisSubnet), offset(3, AddrTerm::Slot { slot: 2 })]
    );
    assert_eq!(behind_head("a = X;", &["X=10.0.0.1"]), [offset(2, AddrTerm::Const { addr: addr(1) })]);
    assert_eq!(behind_head("a = X;", &["X=-7"]), [Instr::Let { out: 2, expr: int(-7) }]);
    // What a copy is used as says what it is a copy of.
    let body =
        behind_head("K(i) = GROUP_BY_SOURCE(M); foreach i do begin a = K(i); if a = THIS_IP then DISCARD(M); end", &[]);
    let Instr::Foreach { body, .. } = &body[1] else { panic!("{body:?}") };
    assert_eq!(body[0], offset(5, AddrTerm::Slot { slot: 4 }));
}

#[test]
fn sets_are_joined_and_offsets_counted() {
    assert_eq!(
        behind_head("A = UNION(M, AllPackets); A = MINUS(A, M);", &[]),
        [Instr::Union { out: 2, a: 1, b: 0 }, Instr::Minus { out: 2, a: 2, b: 1 }]
    );
    let by = Expr::Sub { a: Box::new(int(3)), b: Box::new(int(-1)) };
    assert_eq!(
        behind_head("a = OFFSET(THIS_SUBNET_IP, 3 - -1);", &[]),
        [Instr::Offset { out: 2, base: AddrTerm::ThisSubnet, by }]
    );
}

#[test]
fn arithmetic_keeps_its_order_and_is_not_folded() {
    let expr = |text: &str| match &behind_head(&format!("n = {text};"), &[])[..] {
        [Instr::Let { out: 2, expr }] => expr.clone(),
        other => panic!("{other:?}"),
    };
    let add = |a, b| Expr::Add { a: Box::new(a), b: Box::new(b) };
    let sub = |a, b| Expr::Sub { a: Box::new(a), b: Box::new(b) };
    let mul = |a, b| Expr::Mul { a: Box::new(a), b: Box::new(b) };
    assert_eq!(expr("1 - 2 + 3 * 4"), add(sub(int(1), int(2)), mul(int(3), int(4))));
    assert_eq!(expr("1 - (2 + 3) * 4"), sub(int(1), mul(add(int(2), int(3)), int(4))));
    assert_eq!(expr("-(2)"), sub(int(0), int(2)));
    assert_eq!(expr("-9223372036854775808"), int(i64::MIN));
}

#[test]
fn comparisons_of_integers_are_of_two_kinds() {
    let at_most = |a, b| Cond::AtMost { a, b };
    let equal = |a, b| Cond::Equal { a, b };
    for (text, expected) in [
        ("n <= 3", at_most(slot(2), int(3))),
        ("n >= 3", at_most(int(3), slot(2))),
        ("n < 3", cond_not(at_most(int(3), slot(2)))),
        ("n > 3", cond_not(at_most(slot(2), int(3)))),
        ("n = 3", equal(slot(2), int(3))),
        ("n != 3", cond_not(equal(slot(2), int(3)))),
        ("3 = n", equal(int(3), slot(2))),
        ("(n) = (n)", equal(slot(2), slot(2))),
        (
            "((n + 1) * 2 > n)",
            cond_not(at_most(
                Expr::Mul { a: Box::new(Expr::Add { a: Box::new(slot(2)), b: Box::new(int(1)) }), b: Box::new(int(2)) },
                slot(2),
            )),
        ),
    ] {
        assert_eq!(cond(text), (vec![], expected), "{text}");
    }
}

#[test]
fn comparisons_of_addresses_are_membership_or_equality() {
    let one = |last| Cond::AddrIn { addr: 3, addrs: addr(last).into() };
    let same = |slot| Cond::AddrIs { addr: 3, is: AddrTerm::Slot { slot } };
    let subnet = AddrExpr { this_subnet: true, ..AddrExpr::default() };
    for (text, expected) in [
        ("a = 10.0.0.1", one(1)),
        ("a in 10.0.0.1", one(1)),
        ("a != 10.0.0.1", cond_not(one(1))),
        ("a not in {10.0.0.1}", cond_not(one(1))),
        ("a = a", same(3)),
        ("a != a", cond_not(same(3))),
        ("a in {10.0.0.1, a}", Cond::Or { a: Box::new(one(1)), b: Box::new(same(3)) }),
        ("a = THIS_SUBNET_IP", Cond::AddrIn { addr: 3, addrs: subnet }),
        ("a is THIS_SUBNET_IP", Cond::AddrIs { addr: 3, is: AddrTerm::ThisSubnet }),
        ("a is not THIS_IP", cond_not(Cond::AddrIs { addr: 3, is: AddrTerm::ThisIp })),
        ("a is 10.0.0.1", Cond::AddrIs { addr: 3, is: AddrTerm::Const { addr: addr(1) } }),
        ("EMPTY(M)", Cond::Empty { arg: 1 }),
    ] {
        assert_eq!(cond(text), (vec![], expected), "{text}");
    }
}

#[test]
fn answers_in_a_condition_are_asked_for_before_the_if() {
    let (before, cond) = cond("COUNT_STRING(M, \"a\") > SIZE(M) or CONTAINS_STRING(M, \"b\") and SIZE(M) = 1");
    assert_eq!(
        before,
        [Instr::Count { out: 4, arg: 1, word: 0 }, Instr::Size { out: 5, arg: 1 }, Instr::Size { out: 6, arg: 1 }]
    );
    let at_most = Cond::AtMost { a: slot(4), b: slot(5) };
    let and = Cond::And {
        a: Box::new(Cond::Contains { arg: 1, word: 1 }),
        b: Box::new(Cond::Equal { a: slot(6), b: int(1) }),
    };
    assert_eq!(cond, Cond::Or { a: Box::new(cond_not(at_most)), b: Box::new(and) });
    // Words are listed in the order of the bytes, in which the condition comes later than what is asked before it.
    let text = format!("{HEAD}if CONTAINS_STRING(M, \"b\") and COUNT_STRING(M, \"a\") > 1 then DISCARD(M);");
    assert_eq!(program(&text, &[]).words(), [word(b"a"), word(b"b")]);
    // The next statement uses the same slots again.
    let body = behind_head("if SIZE(M) > 1 then DISCARD(M);\nif SIZE(M) > 2 then DISCARD(M);", &[]);
    assert_eq!((&body[0], &body[2]), (&Instr::Size { out: 2, arg: 1 }, &Instr::Size { out: 2, arg: 1 }));
}

#[test]
fn scores_are_sums_of_weighted_counts() {
    let sum = |out, count, weight| {
        let product = Expr::Mul { a: Box::new(slot(count)), b: Box::new(int(weight)) };
        let expr = if weight == 2 { product } else { Expr::Add { a: Box::new(slot(out)), b: Box::new(product) } };
        Instr::Let { out, expr }
    };
    let count = |out, word| Instr::Count { out, arg: 1, word };
    let text = "S = SCORE(M, {\"free\" 2, FOLD(\"Viagra\") -5});";
    let body = behind_head(text, &[]);
    assert_eq!(body, [count(2, 0), sum(3, 2, 2), count(2, 1), sum(3, 2, -5)]);
    assert_eq!(program(&format!("{HEAD}{text}"), &[]).words(), [word(b"free"), folded(b"viagra")]);
    let body = behind_head("if SCORE(M, {\"free\" 2}) + SIZE(M) >= 5 then DISCARD(M);", &[]);
    assert_eq!(body[..3], [count(2, 0), sum(3, 2, 2), Instr::Size { out: 4, arg: 1 }]);
}

#[test]
fn folded_words_are_in_lower_case_and_have_a_letter() {
    let words = |text: &str, set: &[&str]| {
        program(&format!("{HEAD}if CONTAINS_STRING(M, {text}) then DISCARD(M);"), set).words().to_vec()
    };
    assert_eq!(words("FOLD(\"ViAgRa\\x80\")", &[]), [folded(b"viagra\x80")]);
    assert_eq!(words("fold(W)", &["W=FREE"]), [folded(b"free")]);
    assert_eq!(words("FOLD(\"123\")", &[]), [word(b"123")]);
    assert_eq!(words("\"Free\"", &[]), [word(b"Free")]);
}

#[test]
fn routines_that_are_called_leave_their_names_free() {
    let text = "Score = 1; Size = SIZE(M); Empty = M; union = UNION(Empty, M); if Score < Size then DISCARD(union);";
    assert_eq!(behind_head(text, &[]).len(), 5);
}

fn compiled(text: &str) -> (Program, Vec<Hint>) {
    let compiled = compile("h.vnp", &format!("{HEAD}{text}"), &settings(&["Max=9"]), &router())
        .unwrap_or_else(|errors| panic!("{errors}"));
    let map: SourceMap = serde_json::from_str(&compiled.map.json()).expect("the map");
    assert_eq!(map.hints(&compiled.program), compiled.hints);
    (compiled.program, compiled.hints)
}

#[test]
fn loops_have_a_bound_and_hints() {
    let (program, hints) = compiled("n = Max;\nwhile n > 0 max Max do n = n - 1;");
    assert!(hints.is_empty());
    assert!(matches!(&program.body()[2], Instr::While { max: 9, body, .. } if body.len() == 1));
    let subnet = AddrExpr { this_subnet: true, ..AddrExpr::default() };
    let (program, hints) = compiled(
        "n = Max; A = M;\nwhile n > 0 variant n invariant n >= 0 and n <= 9 invariant A to {THIS_SUBNET_IP} do begin\n\
         A = UNION(A, M); n = n - 1; end",
    );
    assert!(matches!(program.body()[3], Instr::While { max: LOOP_MAX, .. }));
    let bounds = Cond::And {
        a: Box::new(Cond::AtMost { a: int(0), b: slot(2) }),
        b: Box::new(Cond::AtMost { a: slot(2), b: int(9) }),
    };
    let within = Invariant::Within { slot: 3, field: Field::Dst, addrs: subnet };
    let invariants = vec![Invariant::Cond(bounds), within];
    assert_eq!(hints, [Hint { instr: 3, invariants, variant: Some(slot(2)) }]);
    // Before a foreach, inside another loop, with instructions of a condition between them.
    let (_, hints) = compiled(
        "A = M; n = Max; P(i) = GROUP_BY_SOURCE(M);\nwhile n = 9 max 2 do begin\n\
         if SIZE(A) > 1 then foreach i invariant A from 10.0.0.1 do A = UNION(A, P(i)); end",
    );
    let within = Invariant::Within { slot: 2, field: Field::Src, addrs: addr(1).into() };
    assert_eq!(hints, [Hint { instr: 7, invariants: vec![within], variant: None }]);
}

#[test]
fn a_map_that_does_not_fit_gives_no_hints() {
    let text = format!("{HEAD}n = 1;\nwhile n > 0 variant n do n = n - 1;");
    let compiled = compile("h.vnp", &text, &[], &router()).expect("compiles");
    let json = compiled.map.json();
    assert_eq!(compiled.map.hints(&compiled.program).len(), 1);
    // Slot 1 holds packets, slot 9 nothing; `31` reads a slot, and something is missing or left over behind it.
    for variant in ["3101", "3109", "31", "310200", "zz", "3"] {
        let map: SourceMap = serde_json::from_str(&json.replace("\"3102\"", &format!("{variant:?}"))).expect("a map");
        assert_eq!(map.hints(&compiled.program), [], "{variant}");
    }
}

#[test]
fn a_grouping_can_be_run_through_inside_itself() {
    let body = behind_head(
        "K(i), P(i) = GROUP_BY_SOURCE(M);\nforeach i do foreach i as j do if K(i) != K(j) then DISCARD(P(j));",
        &[],
    );
    let Instr::Foreach { groups: 2, key, body, .. } = &body[1] else { panic!("{body:?}") };
    let Instr::Foreach { groups: 2, packets, key: inner, body } = &body[0] else { panic!("{body:?}") };
    let same = Cond::AddrIs { addr: *key, is: AddrTerm::Slot { slot: *inner } };
    let then = vec![Instr::Discard { arg: *packets }];
    assert_eq!(body[..], [Instr::If { cond: cond_not(same), then, otherwise: vec![] }]);
}
