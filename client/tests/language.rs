//! The language from the outside: the paper's listings, every kind of error with its place, totality, determinism.

use vinet_client::disasm::listing;
use vinet_client::lang::{compile, quoted, setting};
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Principal};
use vinet_trusted::program::{AddrExpr, Cond, Field, Instr, Program, Slot, Type};

const FIREWALL: &str = "LIFETIME = 2 days
MyPackets = GROUP_BY_DESTINATION(AllPackets,THIS_IP);
BadPackets = GROUP_BY_SOURCE(MyPackets,SrcIP);
DISCARD(BadPackets);
";
const SPAM: &str = "LIFETIME = 5 days
MyPackets = GROUP_BY_DESTINATION(AllPackets,THIS_IP);
SourceIP(i),Packets(i) = GROUP_BY_SOURCE(MyPackets);
foreach i do
  if CONTAINS_STRING(Packets(i),Word1)
  and CONTAINS_STRING(Packets(i),Word2) then
    DISCARD(Packets(i));
";
const MULTICAST: &str = "LIFETIME = 5 hrs
MyPackets = GROUP_BY_DESTINATION(AllPackets,THIS_SUBNET_IP);
Broadcast = GROUP_BY_SOURCE(MyPackets,BroadcastIP);
Destinations,Content = GROUP_BY_CONTENT(Broadcast);
GENERATE(BroadcastIP,THIS_IP,Destinations);
GENERATE(BroadcastIP,THIS_IP,Content);
DISCARD(Broadcast);
";

fn user() -> Principal {
    Principal::EndUser(Addr::V4(0xc000_0201))
}
fn router() -> Principal {
    Principal::edge_router(Addr::V4(0xc000_0201), 24).expect("24 bits")
}
fn settings(texts: &[&str]) -> Vec<(String, String)> {
    texts.iter().map(|text| setting(text).expect("a setting")).collect()
}
fn program(text: &str, set: &[&str]) -> Program {
    compile("t.vnp", text, &settings(set), &router()).unwrap_or_else(|errors| panic!("{errors}\n{text}")).program
}
fn this_ip() -> AddrExpr {
    AddrExpr { this_ip: true, ..AddrExpr::default() }
}

#[test]
fn the_firewall_of_the_paper_compiles_as_printed() {
    let compiled = compile("fw.vnp", FIREWALL, &settings(&["SrcIP=203.0.113.7"]), &user()).expect("compiles");
    assert_eq!(compiled.program.lifetime_s(), 172_800);
    let source = AddrExpr::from(Addr::V4(0xcb00_7107));
    assert_eq!(
        compiled.program.body(),
        [
            Instr::Select { out: 1, arg: 0, field: Field::Dst, addrs: this_ip() },
            Instr::Select { out: 2, arg: 1, field: Field::Src, addrs: source },
            Instr::Discard { arg: 2 },
        ]
    );
    let lines: Vec<_> = compiled.map.instructions.iter().map(|place| (place.line, place.column)).collect();
    assert_eq!(lines, [(2, 1), (3, 1), (4, 1)]);
    assert_eq!(compiled.map.instructions[2].text, "DISCARD(BadPackets)");
}

#[test]
fn the_spam_filter_of_the_paper_compiles_as_printed() {
    let compiled =
        compile("s.vnp", SPAM, &settings(&["Word1=viagra", "Word2=\"a\\x00b\""]), &user()).expect("compiles");
    let program = compiled.program;
    assert_eq!(program.words(), [b"viagra".to_vec(), b"a\0b".to_vec()]);
    let contains = |word| Box::new(Cond::Contains { arg: 3, word });
    assert_eq!(
        program.body()[1..],
        [
            Instr::Partition { out: 2, arg: 1, field: Field::Src },
            Instr::Foreach {
                groups: 2,
                packets: 3,
                key: 4,
                body: vec![Instr::If {
                    cond: Cond::And(contains(0), contains(1)),
                    then: vec![Instr::Discard { arg: 3 }],
                    otherwise: vec![],
                }],
            },
        ]
    );
    assert_eq!(program.slots()[4], Type::Key(Field::Src));
    let lines: Vec<_> = compiled.map.instructions.iter().map(|place| (place.line, place.column)).collect();
    assert_eq!(lines, [(2, 1), (3, 1), (4, 1), (5, 3), (7, 5)]);
}

#[test]
fn the_multicast_of_the_paper_is_told_to_be_of_a_later_version() {
    let errors = compile("m.vnp", MULTICAST, &settings(&["BroadcastIP=192.0.2.9"]), &router()).expect_err("later");
    let text = errors.to_string();
    assert!(
        text.starts_with("m.vnp:4:24: this version has not got GROUP_BY_CONTENT; it has LIFETIME, foreach"),
        "{text}"
    );
}

#[test]
fn the_same_text_gives_the_same_bytes() {
    let set = ["Word1=a", "Word2=b"];
    assert_eq!(program(SPAM, &set).encode(), program(SPAM, &set).encode());
    let mut swapped = set;
    swapped.reverse();
    assert_eq!(program(SPAM, &set).encode(), program(SPAM, &swapped).encode());
}

#[test]
fn equal_programs_of_different_owners_have_equal_bytes() {
    let set = settings(&["SrcIP=203.0.113.7"]);
    let of = |owner: &Principal| compile("f", FIREWALL, &set, owner).expect("compiles").program.id();
    assert_eq!(of(&user()), of(&router()));
}

#[test]
fn results_come_in_either_order_and_take_their_types_from_use() {
    let head = "LIFETIME = 1 day\nM = GROUP_BY_DESTINATION(AllPackets, THIS_IP);\n";
    let body = " = GROUP_BY_SOURCE(M);\nforeach i do if K(i) = 10.0.0.1 then DISCARD(P(i));";
    let ids: Vec<_> = ["K(i), P(i)", "P(i), K(i)"].map(|pair| program(&format!("{head}{pair}{body}"), &[]).id()).into();
    assert_eq!(ids[0], ids[1]);
    // One result alone is packets or address by its use.
    program(&format!("{head}P(i) = GROUP_BY_SOURCE(M); foreach i do DISCARD(P(i));"), &[]);
    program(
        &format!("{head}K(i) = GROUP_BY_SOURCE(M); foreach i do if K(i) in {{10.0.0.0/8, ::1}} then DISCARD(M);"),
        &[],
    );
}

#[test]
fn keywords_are_of_any_case_and_variables_are_not() {
    let text = "lifetime = 90 SECS;\nm = Group_By_Destination(AllPackets, this_ip); M = group_by_source(m, 10.0.0.1);\n\
                IF contains_string(M, \"x\") Then Begin Discard(M); END; ELSE discard(m);";
    let program = program(text, &[]);
    assert_eq!(program.slots().len(), 3);
    assert!(matches!(&program.body()[2], Instr::If { otherwise, .. } if otherwise.len() == 1));
}

#[test]
fn else_binds_to_the_nearest_if() {
    let text = "LIFETIME = 1 h\nif CONTAINS_STRING(AllPackets,\"a\") then if CONTAINS_STRING(AllPackets,\"b\") then \
                DISCARD(AllPackets); else DISCARD(AllPackets);";
    let program = program(text, &[]);
    let [Instr::If { then, otherwise, .. }] = program.body() else { panic!("one if") };
    assert!(otherwise.is_empty());
    assert!(matches!(&then[..], [Instr::If { otherwise, .. }] if otherwise.len() == 1));
}

#[test]
fn and_binds_closer_than_or_and_not_closer_than_and() {
    let w = |i: u8| format!("CONTAINS_STRING(AllPackets,\"w{i}\")");
    let text = format!("LIFETIME = 1 h\nif not {} and {} or {} then DISCARD(AllPackets);", w(0), w(1), w(2));
    let program = program(&text, &[]);
    let [Instr::If { cond, .. }] = program.body() else { panic!("one if") };
    let c = |word| Box::new(Cond::Contains { arg: 0, word });
    assert_eq!(*cond, Cond::Or(Box::new(Cond::And(Box::new(Cond::Not(c(0))), c(1))), c(2)));
}

#[test]
fn a_chain_of_sixty_four_words_fits_the_depth_of_the_bytecode() {
    let tests: Vec<_> = (0..64).map(|i| format!("CONTAINS_STRING(AllPackets,\"word {i}\")")).collect();
    let text = format!("LIFETIME = 1 h\nif {} then DISCARD(AllPackets);", tests.join(" or "));
    let words = program(&text, &[]).words().to_vec();
    assert_eq!(words[63], b"word 63");
}

#[test]
fn assigning_again_keeps_the_slot() {
    let text = "LIFETIME = 1 h\nA = GROUP_BY_DESTINATION(AllPackets, THIS_IP);\nA = GROUP_BY_SOURCE(A, 10.0.0.1);\n\
                P(i) = GROUP_BY_SOURCE(A);\nP(i) = GROUP_BY_SOURCE(A);\nforeach i do DISCARD(P(i));\nforeach i do DISCARD(P(i));";
    let program = program(text, &[]);
    // AllPackets, A, the groups of i, and two slots for each foreach.
    assert_eq!(program.slots().len(), 7);
}

#[test]
fn a_set_assigned_in_both_branches_can_be_read_behind_them() {
    let text = "LIFETIME = 1 h\nif CONTAINS_STRING(AllPackets, \"a\") then B = GROUP_BY_SOURCE(AllPackets, 10.0.0.1);\n\
                else B = GROUP_BY_SOURCE(AllPackets, {10.0.0.2,10.0.0.3});\nDISCARD(B);";
    program(text, &[]);
}

#[test]
fn sets_of_addresses_take_parameters_of_every_form() {
    let text = "LIFETIME = 1 h\nB = GROUP_BY_SOURCE(AllPackets, {Bad, THIS_IP, 192.0.2.128/25});\nDISCARD(B);";
    for value in ["10.0.0.1", "10.0.0.0/8", "{10.0.0.1, 2001:db8::/32}", "10.0.0.1,2001:db8::1", "::ffff:1.2.3.4"] {
        program(text, &[&format!("Bad={value}")]);
    }
}

/// Each case: the text behind `LIFETIME = 1 day` on line 1, the settings, and the start of what is told.
const WRONG: &[(&str, &[&str], &str)] = &[
    ("DISCARD(AllPackets)", &[], "2:20: expected `;` behind DISCARD(…)"),
    ("DISCARD AllPackets;", &[], "2:9: expected `(` behind DISCARD, found `AllPackets`"),
    ("DISCARD(;", &[], "2:9: expected a set of packets, found `;`"),
    ("DISCRAD(AllPackets);", &[], "2:1: there is no routine DISCRAD; did you mean DISCARD?"),
    (
        "A = GROUP_BY_SORCE(AllPackets, 10.0.0.1);",
        &[],
        "2:5: there is no routine GROUP_BY_SORCE; did you mean GROUP_BY_SOURCE?",
    ),
    ("A = AllPackets;", &[], "2:5: expected a routine that makes a set"),
    (
        "DISCARD(BadPackts);\nBadPackets = GROUP_BY_SOURCE(AllPackets, 10.0.0.1);",
        &[],
        "2:9: no statement assigns BadPackts; a set of packets is expected; did you mean BadPackets?",
    ),
    ("DISCARD(B);\nB = GROUP_BY_SOURCE(AllPackets, 10.0.0.1);", &[], "2:9: B is not assigned on every way to here"),
    (
        "if CONTAINS_STRING(AllPackets,\"a\") then B = GROUP_BY_SOURCE(AllPackets, 10.0.0.1);\nDISCARD(B);",
        &[],
        "3:9: B is not assigned on every way to here",
    ),
    (
        "B = GROUP_BY_SOURCE(AllPackets, SrcIP);",
        &[],
        "2:33: SrcIP is not set; an address is expected; set it with --set SrcIP=ADDRESS",
    ),
    (
        "B = GROUP_BY_SOURCE(AllPackets, SrcIP);",
        &["SrcIp=10.0.0.1"],
        "2:33: SrcIP is not set; an address is expected; set it with --set SrcIP=ADDRESS; or did you mean SrcIp?",
    ),
    (
        "if CONTAINS_STRING(AllPackets, Word1) then DISCARD(AllPackets);",
        &[],
        "2:32: Word1 is not set; a string is expected; set it with --set Word1=STRING",
    ),
    ("B = GROUP_BY_SOURCE(AllPackets, 10.0.0.256);", &[], "2:33: `10.0.0.256` is no IPv4 or IPv6 address"),
    (
        "B = GROUP_BY_SOURCE(AllPackets, 10.0.0.7/24);",
        &[],
        "2:33: `10.0.0.7/24` has bits set behind its prefix length; did you mean 10.0.0.0/24?",
    ),
    ("B = GROUP_BY_SOURCE(AllPackets, 10.0.0.0/33);", &[], "2:33: `/33` is no prefix length; this family has 0 to 32"),
    (
        "B = GROUP_BY_SOURCE(AllPackets, 2001:db8::/129);",
        &[],
        "2:33: `/129` is no prefix length; this family has 0 to 128",
    ),
    ("B = GROUP_BY_SOURCE(AllPackets, {});", &[], "2:33: the set of addresses is empty"),
    (
        "B = GROUP_BY_SOURCE(AllPackets, {10.0.0.1 10.0.0.2});",
        &[],
        "2:43: expected `,` or `}` in the set of addresses, found the address 10.0.0.2",
    ),
    ("B = GROUP_BY_SOURCE(AllPackets, {{10.0.0.1}});", &[], "2:34: a set of addresses holds addresses and prefixes"),
    (
        "B = GROUP_BY_SOURCE(AllPackets, \"10.0.0.1\");",
        &[],
        "2:33: expected an address, a prefix, a set in braces, THIS_IP, THIS_SUBNET_IP or a parameter, found the string \"10.0.0.1\"",
    ),
    ("if CONTAINS_STRING(AllPackets, \"\") then DISCARD(AllPackets);", &[], "2:32: the string is empty"),
    (
        "if CONTAINS_STRING(AllPackets, \"open) then DISCARD(AllPackets);",
        &[],
        "2:32: the string is not closed on its line",
    ),
    (
        "if CONTAINS_STRING(AllPackets, \"a\\qb\") then DISCARD(AllPackets);",
        &[],
        "2:34: `\\q` is no escape of a string",
    ),
    (
        "if CONTAINS_STRING(AllPackets, \"\\xZZ\") then DISCARD(AllPackets);",
        &[],
        "2:33: `\\x` is no escape of a string",
    ),
    (
        "if CONTAINS_STRING(AllPackets, 'a') then DISCARD(AllPackets);",
        &[],
        "2:32: the character '\\'' means nothing here; strings stand in double quotes",
    ),
    (
        "if CONTAINS_STRING(AllPackets, \"a\") && 1 then DISCARD(AllPackets);",
        &[],
        "2:37: the character '&' means nothing here; write `and`, `or`",
    ),
    (
        "if CONTAINS_STRING(AllPackets, \"a\") thne DISCARD(AllPackets);",
        &[],
        "2:37: expected `then`, `and` or `or` behind the condition, found `thne`; did you mean then?",
    ),
    ("foreach i do DISCARD(AllPackets);", &[], "2:9: no grouping has the index i; an index is made by a grouping"),
    (
        "P(src) = GROUP_BY_SOURCE(AllPackets);\nforeach scr do DISCARD(AllPackets);",
        &[],
        "3:9: no grouping has the index scr; did you mean src?",
    ),
    ("P(i) = GROUP_BY_SOURCE(AllPackets);\nDISCARD(P(i));", &[], "3:9: P(i) exists only inside `foreach i do`"),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do DISCARD(P);",
        &[],
        "3:22: P is one of many groups; it needs its index; write P(i)",
    ),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do foreach i do DISCARD(P(i));",
        &[],
        "3:22: the index i is being run through here",
    ),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do P(i) = GROUP_BY_SOURCE(P(i));",
        &[],
        "3:14: the index i is being run through here",
    ),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nP(i) = GROUP_BY_DESTINATION(AllPackets);",
        &[],
        "3:1: the index i belongs to another grouping",
    ),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nQ(i) = GROUP_BY_SOURCE(AllPackets);",
        &[],
        "3:1: the index i belongs to another grouping",
    ),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do DISCARD(Q(i));",
        &[],
        "3:22: Q is no result of the grouping with index i; its results: P(i)",
    ),
    ("P = GROUP_BY_SOURCE(AllPackets);", &[], "2:1: groups need an index: P has none; write P(i)"),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets, 10.0.0.1);",
        &[],
        "2:1: with an address the result is one set: P(i) has an index; write P = …",
    ),
    (
        "K(i),P(j) = GROUP_BY_SOURCE(AllPackets);",
        &[],
        "2:6: the two results of one grouping have one index, not i and j",
    ),
    ("P(i),P(i) = GROUP_BY_SOURCE(AllPackets);", &[], "2:6: P stands for both results"),
    ("A(i),B(i),C(i) = GROUP_BY_SOURCE(AllPackets);", &[], "2:11: a grouping has at most two results"),
    ("A,B = GROUP_BY_SOURCE(AllPackets, 10.0.0.1);", &[], "2:3: with an address there is one result"),
    (
        "K(i),P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do begin DISCARD(P(i)); DISCARD(K(i)); end",
        &[],
        "3:28: K(i) and P(i) are both used as packets",
    ),
    (
        "K(i),P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do if K(i) = 10.0.0.1 and P(i) = 10.0.0.2 then DISCARD(AllPackets);",
        &[],
        "3:37: K(i) and P(i) are both used as an address",
    ),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do if P(i) = 10.0.0.1 then DISCARD(P(i));",
        &[],
        "3:46: P(i) is used both as packets and as an address",
    ),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nP = GROUP_BY_SOURCE(AllPackets, 10.0.0.1);",
        &[],
        "3:1: P is used both with and without an index",
    ),
    ("A = GROUP_BY_SOURCE(AllPackets, 10.0.0.1);\nDISCARD(A(i));", &[], "3:9: A is one set and has no index"),
    ("AllPackets = GROUP_BY_SOURCE(AllPackets, 10.0.0.1);", &[], "2:1: AllPackets is given and cannot be assigned"),
    (
        "A = GROUP_BY_SOURCE(AllPackets, AllPackets);",
        &[],
        "2:33: AllPackets is a set of packets; an address is expected",
    ),
    (
        "K(i),P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do A = GROUP_BY_DESTINATION(P(i), K(i));",
        &[],
        "3:45: K(i) can be compared; this version does not take it as an address",
    ),
    (
        "K(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do if 10.0.0.1 = K(i) then DISCARD(AllPackets);",
        &[],
        "3:17: the address of the group stands on the left of a comparison",
    ),
    (
        "K(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do if K(i) then DISCARD(AllPackets);",
        &[],
        "3:21: expected `=`, `!=` or `in` behind K(i)",
    ),
    (
        "A = GROUP_BY_SOURCE(AllPackets, X);\nif CONTAINS_STRING(A, X) then DISCARD(A);",
        &["X=10.0.0.1"],
        "3:23: X is used both as an address and as a string",
    ),
    (
        "while CONTAINS_STRING(AllPackets, \"a\") max 3 do DISCARD(AllPackets);",
        &[],
        "2:1: this version has not got while; it has LIFETIME",
    ),
    ("WINDOW = 8 packets;", &[], "2:1: this version has not got WINDOW; it has LIFETIME"),
    ("GENERATE(AllPackets, THIS_IP, AllPackets);", &[], "2:1: this version has not got GENERATE"),
    ("A = SELECT(AllPackets, x);", &[], "2:5: this version has not got SELECT"),
    ("if COUNT_STRING(AllPackets, \"x\") then DISCARD(AllPackets);", &[], "2:4: this version has not got COUNT_STRING"),
    (
        "then = GROUP_BY_SOURCE(AllPackets, 10.0.0.1);",
        &[],
        "2:1: then is a word of the language and cannot be a variable",
    ),
    ("LIFETIME = 2 days", &[], "2:1: the LIFETIME is said twice"),
    ("begin LIFETIME = 2 days end", &[], "2:7: LIFETIME stands outside of all other statements"),
    ("begin DISCARD(AllPackets);", &[], "2:27: expected `end`, found the end of the text"),
    ("GROUP_BY_SOURCE(AllPackets, 10.0.0.1);", &[], "2:1: expected a name for the result"),
    (
        "A = GROUP_BY_SOURCE(AllPackets, 99999999999999999999999);",
        &[],
        "2:33: the number 99999999999999999999999 is too large",
    ),
];

fn told(text: &str, set: &[&str], owner: &Principal) -> String {
    let errors = compile("e.vnp", text, &settings(set), owner).map(|_| text.to_string()).expect_err("an error");
    // The report with its excerpt holds the message and the place as well.
    let first = &errors.diagnostics()[0];
    let report = first.report(false);
    assert!(report.contains(&first.cause().to_string()), "{report}");
    assert!(report.contains(&format!("{}:{}:{}", first.file(), first.line(), first.column())), "{report}");
    errors.to_string()
}

#[test]
fn every_error_names_its_line_and_column_and_what_to_do() {
    for (text, set, expected) in WRONG {
        let told = told(&format!("LIFETIME = 1 day\n{text}"), set, &router());
        assert!(told.starts_with(&format!("e.vnp:{expected}")), "{text}\n  told:     {told}\n  expected: {expected}");
    }
}

#[test]
fn a_wrong_lifetime_is_told_where_it_stands() {
    let cases = [
        ("DISCARD(AllPackets);", "1:1: the program says no LIFETIME; begin with a line like `LIFETIME = 2 days`"),
        ("LIFETIME = 2 dais", "1:14: `dais` is no unit of time; did you mean days?"),
        ("LIFETIME = 2 fortnights", "1:14: `fortnights` is no unit of time; the units are"),
        ("LIFETIME = 0 days", "1:12: a lifetime of 0 days; it is 1 to 315360000 seconds"),
        ("LIFETIME = 999999 weeks", "1:12: a lifetime of 999999 weeks; it is 1 to"),
        ("LIFETIME = days", "1:12: expected a number and a unit, like 2 days, found `days`"),
        (
            "LIFETIME = 2",
            "1:13: expected a unit of time: seconds, minutes, hours, days or weeks, found the end of the text",
        ),
        ("LIFETIME 2 days", "1:10: expected `=` behind LIFETIME, found the number 2"),
        (
            "LIFETIME = 2 days DISCARD(AllPackets);",
            "1:19: expected `;` or the end of the line behind the LIFETIME, found `DISCARD`",
        ),
        ("", "1:1: the program says no LIFETIME"),
    ];
    for (text, expected) in cases {
        let told = told(text, &[], &router());
        assert!(told.starts_with(&format!("e.vnp:{expected}")), "{text}\n  told:     {told}\n  expected: {expected}");
    }
}

#[test]
fn names_that_stand_for_the_owner_need_a_value() {
    let zero_host = Principal::edge_router(Addr::V4(0xc000_0200), 24).expect("24 bits");
    let subnet = FIREWALL.replace("THIS_IP", "THIS_SUBNET_IP");
    let set = ["SrcIP=10.0.0.1"];
    assert!(
        told(FIREWALL, &set, &zero_host).starts_with("e.vnp:2:45: THIS_IP has no value: the principal gave its prefix")
    );
    assert!(
        told(&subnet, &set, &user())
            .starts_with("e.vnp:2:45: THIS_SUBNET_IP has no value: the principal is an end user")
    );
    assert!(compile("f", &subnet, &settings(&set), &zero_host).is_ok());
}

#[test]
fn wrong_settings_are_told_on_the_command_line() {
    let cases: &[(&[&str], &str)] = &[
        (&["SrcIP=10.0.0.1", "SrcPI=10.0.0.2"], "--set:1:1: the program has no parameter SrcPI; did you mean SrcIP?"),
        (&["SrcIP=10.0.0.1", "Verbose=1"], "--set:1:1: the program has no parameter Verbose; its parameters: SrcIP"),
        (
            &["SrcIP=10.0.0.1", "MyPackets=1"],
            "--set:1:1: MyPackets is assigned by the program; only parameters can be set",
        ),
        (&["SrcIP=10.0.0.1", "SrcIP=10.0.0.2"], "--set:1:1: SrcIP is set twice"),
        (
            &["SrcIP=10.0.0.300"],
            "--set:1:7: the value of SrcIP: `10.0.0.300` is no IPv4 or IPv6 address; like 203.0.113.7",
        ),
        (
            &["SrcIP=10.0.0.1/24"],
            "--set:1:7: the value of SrcIP: `10.0.0.1/24` has bits set behind its prefix length; did you mean 10.0.0.0/24?",
        ),
        (
            &["SrcIP={10.0.0.1"],
            "--set:1:16: the value of SrcIP: expected `,` or `}` in the set of addresses, found the end of the text",
        ),
        (&["SrcIP=10.0.0.1 10.0.0.2"], "--set:1:16: the value of SrcIP: there is more behind the end of the value"),
        (&["SrcIP=THIS_IP"], "--set:1:7: the value of SrcIP: `THIS_IP` is no IPv4 or IPv6 address"),
        (&["SrcIP="], "--set:1:7: the value of SrcIP: expected an address"),
    ];
    for (set, expected) in cases {
        let told = told(FIREWALL, set, &router());
        assert!(told.starts_with(expected), "told:     {told}\nexpected: {expected}");
    }
    let long = "w".repeat(65);
    let spam = [format!("Word1={long}"), "Word2=".to_string()];
    let told = told(SPAM, &[&spam[0], &spam[1]], &router());
    assert_eq!(
        told,
        "e.vnp:5:33: the string has 65 bytes; at most 64 are searched for\ne.vnp:6:34: the string is empty; every content contains it"
    );
    assert!(setting("no value").is_err() && setting("=1").is_err() && setting("1a=1").is_err());
}

#[test]
fn all_unset_parameters_are_told_at_once() {
    let errors = compile("s.vnp", SPAM, &[], &user()).expect_err("unset");
    assert_eq!(errors.diagnostics().len(), 2);
}

#[test]
fn limits_are_told_and_not_met_by_a_panic() {
    let head = "LIFETIME = 1 day\n";
    let many: String = (0..70).map(|i| format!("S{i} = GROUP_BY_SOURCE(AllPackets, 10.0.0.1);\n")).collect();
    assert!(
        told(&format!("{head}{many}"), &[], &user()).starts_with("e.vnp:65:1: the program has more than 64 variables")
    );
    let many = "DISCARD(AllPackets);\n".repeat(1100);
    assert!(
        told(&format!("{head}{many}"), &[], &user())
            .starts_with("e.vnp:1026:1: the program has more than 1024 statements")
    );
    let deep = "if CONTAINS_STRING(AllPackets,\"a\") then ".repeat(20);
    assert!(told(&format!("{head}{deep}DISCARD(AllPackets);"), &[], &user()).contains("nested deeper than 16"));
    for open in ["begin ", "if not ", "if (", "if CONTAINS_STRING(AllPackets,\"a\") then "] {
        let deep = open.split_once(' ').map_or(open.to_string(), |(first, rest)| {
            if rest.is_empty() { open.repeat(5000) } else { format!("{first} {}", format!("{rest} ").repeat(5000)) }
        });
        told(&format!("{head}{deep}"), &[], &user());
    }
    let words: Vec<_> = (0..65).map(|i| format!("CONTAINS_STRING(AllPackets,\"{i}\")")).collect();
    let text = format!("{head}if {} then DISCARD(AllPackets);", words.join(" or "));
    assert!(told(&text, &[], &user()).contains("the program has more than 64 different strings"));
    let hosts: Vec<_> = (0..16_385).map(|i: u32| Addr::V4(0x0a00_0000 + 2 * i).to_string()).collect();
    let text = format!("{head}A = GROUP_BY_SOURCE(AllPackets, {{{}}});", hosts.join(","));
    assert!(told(&text, &[], &user()).contains("the set of addresses has 16385 prefixes; at most 16384"));
    let text = " ".repeat((1 << 20) + 1);
    assert!(told(&text, &[], &user()).contains("the source text has 1048577 bytes"));
}

/// A small generator of numbers (SplitMix64), so that a seed names a run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

#[test]
fn no_text_makes_the_compiler_panic() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut numbers = Numbers(seed);
    let parts = [
        "LIFETIME",
        "=",
        "2",
        "days",
        ";",
        "foreach",
        "i",
        "do",
        "if",
        "then",
        "else",
        "begin",
        "end",
        "and",
        "or",
        "not",
        "in",
        "(",
        ")",
        "{",
        "}",
        ",",
        "!=",
        "THIS_IP",
        "THIS_SUBNET_IP",
        "GROUP_BY_SOURCE",
        "GROUP_BY_DESTINATION",
        "DISCARD",
        "CONTAINS_STRING",
        "AllPackets",
        "A",
        "B(i)",
        "P(i)",
        "10.0.0.1",
        "2001:db8::/32",
        "10.0.0.1/8",
        "\"x\"",
        "\"",
        "\\",
        "é",
        "\n",
        "#",
        "//",
        "/",
        ":",
        "::",
        "1.2",
        "\u{0}",
        "while",
        "1e9",
        "0x10",
        "\u{feff}",
    ];
    for round in 0..20_000 {
        let text = if round % 2 == 0 {
            let mut text = String::from("LIFETIME = 1 day\n");
            for _ in 0..numbers.below(40) {
                text.push_str(parts[numbers.below(parts.len())]);
                if numbers.below(3) > 0 {
                    text.push(' ');
                }
            }
            text
        } else {
            let mut chars: Vec<char> = if numbers.below(2) == 0 { SPAM } else { FIREWALL }.chars().collect();
            for _ in 0..=numbers.below(4) {
                let at = numbers.below(chars.len().max(1)).min(chars.len().saturating_sub(1));
                match numbers.below(4) {
                    _ if chars.is_empty() => break,
                    0 => drop(chars.remove(at)),
                    1 => chars[at] = char::from(numbers.below(128) as u8),
                    2 => chars.insert(at, ['(', '"', '\\', 'é', ';', '{', '/', ':'][numbers.below(8)]),
                    _ => chars.truncate(at.max(1)),
                }
            }
            chars.into_iter().collect()
        };
        let set = settings(&["SrcIP=10.0.0.1", "Word1=a", "Word2=b"]);
        if let Err(errors) = compile("r.vnp", &text, &set, &router()) {
            assert!(!errors.diagnostics().is_empty(), "{text}");
            assert!(!errors.report(round % 3 == 0).is_empty());
        }
    }
}

/// A random program that the language can say.
fn random_program(numbers: &mut Numbers) -> Program {
    struct Maker<'a> {
        numbers: &'a mut Numbers,
        slots: Vec<Type>,
        readable: Vec<bool>,
        words: Vec<Vec<u8>>,
        running: Vec<Slot>,
        left: usize,
    }
    impl Maker<'_> {
        fn addrs(&mut self) -> AddrExpr {
            let mut prefixes = Vec::new();
            for _ in 0..self.numbers.below(4) {
                let bits = self.numbers.next();
                let addr = if bits & 1 == 0 { Addr::V4(bits as u32) } else { Addr::V6(u128::from(bits) << 64 | 7) };
                let len = self.numbers.below(usize::from(addr.width()) + 1) as u8;
                prefixes.extend(Prefix::of(addr, len));
            }
            let this_ip = prefixes.is_empty() || self.numbers.below(4) == 0;
            AddrExpr { this_ip, this_subnet: self.numbers.below(4) == 0, prefixes: PrefixSet::new(prefixes) }
        }
        fn pick(&mut self, what: impl Fn(Type) -> bool) -> Option<Slot> {
            let fit: Vec<Slot> =
                (0..self.slots.len()).filter(|&i| self.readable[i] && what(self.slots[i])).map(|i| i as Slot).collect();
            if fit.is_empty() { None } else { Some(fit[self.numbers.below(fit.len())]) }
        }
        fn packets(&mut self) -> Slot {
            self.pick(|ty| ty == Type::Packets).expect("AllPackets")
        }
        fn new_slot(&mut self, ty: Type) -> Slot {
            self.slots.push(ty);
            self.readable.push(true);
            (self.slots.len() - 1) as Slot
        }
        fn cond(&mut self, depth: usize) -> Cond {
            match self.numbers.below(if depth > 3 { 2 } else { 5 }) {
                0 | 1 => {
                    if self.numbers.below(2) == 0
                        && let Some(key) = self.pick(|ty| matches!(ty, Type::Key(_)))
                    {
                        return Cond::KeyIn { key, addrs: self.addrs() };
                    }
                    let word: Vec<u8> = (0..=self.numbers.below(3)).map(|_| self.numbers.next() as u8).collect();
                    let index = self.words.iter().position(|w| *w == word).unwrap_or_else(|| {
                        self.words.push(word);
                        self.words.len() - 1
                    });
                    Cond::Contains { arg: self.packets(), word: index as u8 }
                }
                2 => Cond::Not(Box::new(self.cond(depth + 1))),
                3 => Cond::And(Box::new(self.cond(depth + 1)), Box::new(self.cond(depth + 1))),
                _ => Cond::Or(Box::new(self.cond(depth + 1)), Box::new(self.cond(depth + 1))),
            }
        }
        fn block(&mut self, depth: usize) -> Vec<Instr> {
            let mut block = Vec::new();
            for _ in 0..self.numbers.below(4) {
                if self.left == 0 || self.slots.len() > 50 || self.words.len() > 40 {
                    break;
                }
                self.left -= 1;
                let arg = self.packets();
                let field = if self.numbers.below(2) == 0 { Field::Src } else { Field::Dst };
                block.push(match self.numbers.below(if depth > 3 { 3 } else { 5 }) {
                    0 => {
                        let addrs = self.addrs();
                        Instr::Select { out: self.new_slot(Type::Packets), arg, field, addrs }
                    }
                    1 => Instr::Partition { out: self.new_slot(Type::Groups(field)), arg, field },
                    2 => Instr::Discard { arg },
                    3 => {
                        let cond = self.cond(0);
                        let before = self.readable.clone();
                        let then = self.block(depth + 1);
                        self.readable = before.clone();
                        self.readable.resize(self.slots.len(), false);
                        let otherwise = self.block(depth + 1);
                        self.readable = before;
                        self.readable.resize(self.slots.len(), false);
                        Instr::If { cond, then, otherwise }
                    }
                    _ => {
                        let running = self.running.clone();
                        let fit: Vec<Slot> = (0..self.slots.len())
                            .filter(|&i| self.readable[i] && matches!(self.slots[i], Type::Groups(_)))
                            .map(|i| i as Slot)
                            .filter(|slot| !running.contains(slot))
                            .collect();
                        let Some(&groups) = fit.first() else { continue };
                        let Type::Groups(field) = self.slots[usize::from(groups)] else { continue };
                        let before = self.readable.clone();
                        let packets = self.new_slot(Type::Packets);
                        let key = self.new_slot(Type::Key(field));
                        self.running.push(groups);
                        let body = self.block(depth + 1);
                        self.running.pop();
                        self.readable = before;
                        self.readable.resize(self.slots.len(), false);
                        Instr::Foreach { groups, packets, key, body }
                    }
                });
            }
            block
        }
    }
    let left = 3 + numbers.below(25);
    let lifetime_s = 1 + numbers.below(1_000_000) as u32;
    let mut maker =
        Maker { numbers, slots: vec![Type::Packets], readable: vec![true], words: vec![], running: vec![], left };
    let body = maker.block(0);
    let words = maker.words;
    Program::new(lifetime_s, words, body).expect("a well-formed program")
}

#[test]
fn a_listing_compiles_to_the_bytes_that_it_lists() {
    let seed = 0x5eed_0002;
    println!("seed {seed:#x}");
    let mut numbers = Numbers(seed);
    let mut instructions = 0;
    for round in 0..3_000 {
        let program = random_program(&mut numbers);
        let text = listing(&program);
        assert_eq!(text, listing(&Program::decode(&program.encode()).expect("decodes")));
        let again =
            compile("l.vnp", &text, &[], &router()).unwrap_or_else(|errors| panic!("round {round}: {errors}\n{text}"));
        assert_eq!(again.program.encode(), program.encode(), "round {round}\n{text}");
        // The numbers in the listing are those of the map.
        for (number, place) in again.map.instructions.iter().enumerate() {
            let line = text.lines().nth(place.line - 1).expect("the line");
            assert!(line.ends_with(&format!("# {number}")), "round {round}: {line}");
        }
        instructions += again.map.instructions.len();
    }
    assert!(instructions > 6_000, "{instructions} instructions were listed");
}

#[test]
fn strings_are_read_back_as_they_are_quoted() {
    let all: Vec<u8> = (0..=255).collect();
    for word in all.chunks(32) {
        let text =
            format!("LIFETIME = 1 day\nif CONTAINS_STRING(AllPackets, {}) then DISCARD(AllPackets);", quoted(word));
        assert_eq!(program(&text, &[]).words(), [word.to_vec()]);
    }
}
