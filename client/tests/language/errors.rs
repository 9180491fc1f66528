//! What is told of wrong texts, and where.

use super::{FIREWALL, SPAM, router, settings, user};
use vinet_client::lang::{compile, setting};
use vinet_trusted::addr::{Addr, Principal};

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
    ("A = DISCARD(AllPackets);", &[], "2:5: DISCARD has no result that a variable could hold"),
    ("A = CONTAINS_STRING(AllPackets, \"a\");", &[], "2:5: CONTAINS_STRING has no result"),
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
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do B = GROUP_BY_SOURCE(P(i), 10.0.0.1);\nDISCARD(B);",
        &[],
        "4:9: B is not assigned on every way to here",
    ),
    (
        "if CONTAINS_STRING(AllPackets, \"a\") then P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do DISCARD(P(i));",
        &[],
        "3:9: the grouping with index i is not assigned on every way to here",
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
    ("WINDOW = 8;", &[], "2:11: expected `packets` behind the number, found `;`"),
    ("WINDOW = 0 packets;", &[], "2:10: a window of 0 packets; it is 1 to 256"),
    ("WINDOW = 257 packets;", &[], "2:10: a window of 257 packets; it is 1 to 256"),
    ("WINDOW = much;", &[], "2:10: expected a number of packets, like 8 packets, or `policy`, found `much`"),
    ("WINDOW = 8 packets\nWINDOW = 9 packets", &[], "3:1: `WINDOW` is said twice"),
    ("begin WINDOW = 8 packets end", &[], "2:7: WINDOW stands outside of all other statements"),
    ("GENERATE(AllPackets, THIS_IP, AllPackets);", &[], "2:10: AllPackets is a set of packets; an address is expected"),
    ("GENERATE(THIS_IP, THIS_IP, AllPackets);", &[], "2:28: AllPackets is no result of a GROUP_BY_CONTENT"),
    ("GENERATE(10.0.0.0/8, THIS_IP, X);", &[], "2:10: 10.0.0.0/8 is several addresses; one is expected"),
    ("D,C = GROUP_BY_CONTENT(AllPackets);\nGENERATE(S, THIS_IP, D);", &["S={10.0.0.1,10.0.0.3}"], "3:10: S is several"),
    ("C = GROUP_BY_CONTENT(AllPackets);", &[], "2:1: GROUP_BY_CONTENT has two results: the destinations, then the"),
    ("D(i),C(i) = GROUP_BY_CONTENT(AllPackets);", &[], "2:1: only groups by address have an index: D(i) has one"),
    ("D,D = GROUP_BY_CONTENT(AllPackets);", &[], "2:3: D stands for both results"),
    ("D,C = GROUP_BY_CONTENT(AllPackets);\nE = D;", &[], "3:5: D is a result of a GROUP_BY_CONTENT, which cannot be"),
    ("A = SELECT(AllPackets, x);", &[], "2:24: a packet has no `x` to ask for; it has protocol, srcport"),
    ("A = SELECT(AllPackets, dsport = 25);", &[], "2:24: a packet has no `dsport` to ask for; did you mean dstport?"),
    ("A = SELECT(AllPackets, dstport);", &[], "2:31: expected a comparison: = != < <= > >= in, not in, found `)`"),
    ("A = SELECT(AllPackets, dstport in {90..80});", &[], "2:36: the range ends before it begins"),
    ("A = SELECT(AllPackets, length > 4294967295);", &[], "2:33: the number 4294967295 is too large"),
    (
        "A = SELECT(AllPackets, dstport = P);",
        &[],
        "2:34: P is not set; an integer is expected; set it with --set P=NUMBER",
    ),
    ("A = SELECT(AllPackets, dstport > P);", &["P=1..2"], "2:34: P has several numbers; one is expected"),
    ("n = 1;\nA = SELECT(AllPackets, dstport = n);", &[], "3:34: n is an integer of the program; a number stands here"),
    ("A = SELECT(AllPackets, owns(length));", &[], "2:29: expected src or dst, found `length`"),
    ("A = SELECT(AllPackets, src < 10.0.0.1);", &[], "2:28: expected `=`, `!=`, `in` or `not in` behind the address"),
    (
        "if COUNT_STRING(AllPackets, \"x\") then DISCARD(AllPackets);",
        &[],
        "2:34: expected a comparison: = != < <= > >=, found `then`",
    ),
    ("n = 9223372036854775808;", &[], "2:5: the number 9223372036854775808 is too large"),
    ("n = 1 +;", &[], "2:8: expected an integer, found `;`"),
    ("n = Limit + 1;", &[], "2:5: Limit is not set; an integer is expected; set it with --set Limit=NUMBER"),
    ("n = AllPackets + 1;", &[], "2:5: AllPackets is a set of packets; an integer is expected"),
    ("n = 1;\nDISCARD(n);", &[], "3:9: n is an integer; a set of packets is expected"),
    ("n = 1;\nn = AllPackets;", &[], "3:1: n is an integer and cannot become a set of packets"),
    ("A = OFFSET(AllPackets, 1);", &[], "2:12: AllPackets is a set of packets; an address is expected"),
    ("A = OFFSET(10.0.0.0/8, 1);", &[], "2:12: 10.0.0.0/8 is several addresses"),
    ("A = UNION(AllPackets);", &[], "2:21: expected `,` and another set of packets, found `)`"),
    ("A = UNOIN(AllPackets, AllPackets);", &[], "2:5: there is no routine UNOIN; did you mean UNION?"),
    ("n = SIZZE(AllPackets);", &[], "2:5: there is no routine SIZZE; did you mean SIZE?"),
    ("n = SCORE(AllPackets, {\"a\"});", &[], "2:27: expected the weight of the word, a number, found `}`"),
    ("n = SCORE(AllPackets, {\"a\" 1 \"b\" 2});", &[], "2:30: expected `,` or `}` behind the weight, found the string"),
    ("A = THIS_IP;\nif A < 10.0.0.1 then DISCARD(AllPackets);", &[], "3:6: addresses have no order"),
    ("A = THIS_IP;\nif A < A then DISCARD(AllPackets);", &[], "3:4: addresses have no order; they are compared with"),
    ("A = THIS_IP;\nif A = 1 then DISCARD(AllPackets);", &[], "3:4: an integer is compared with an address"),
    ("n = 1;\nif n + 1 = 10.0.0.1 then DISCARD(AllPackets);", &[], "3:12: an integer is compared with an address"),
    ("n = 1;\nif n in 10.0.0.1 then DISCARD(AllPackets);", &[], "3:4: n is an integer; an address is expected"),
    ("if 1 in 10.0.0.1 then DISCARD(AllPackets);", &[], "2:6: `in` and `is` ask of an address; this is an integer"),
    ("n = 1;\nwhile n < 3 do n = n + 1;", &[], "3:1: the while says no bound; add `max N`, or `variant EXPR`"),
    ("n = 1;\nwhile n < 3 max 0 do n = n + 1;", &[], "3:17: a loop of 0 turns; it is 1 to 65536"),
    ("n = 1;\nwhile n < 3 max M do n = n + 1;", &["M=65537"], "3:17: a loop of 65537 turns; it is 1 to 65536"),
    ("n = 1;\nwhile n < 3 max n do n = n + 1;", &[], "3:17: n is an integer of the program; a number stands here"),
    ("n = 1;\nwhile n < 3 max 3 max 4 do n = n + 1;", &[], "3:19: `max` is said twice"),
    (
        "n = 1;\nwhile n < 3 mox 3 do n = n + 1;",
        &[],
        "3:13: expected `max`, `variant`, `invariant`, `and`, `or` or `do`",
    ),
    (
        "while SIZE(AllPackets) > 3 max 3 do DISCARD(AllPackets);",
        &[],
        "2:7: SIZE cannot stand in the condition of a while; assign it to a variable, inside the loop as well",
    ),
    (
        "n = 1;\nwhile n < 3 variant 3 - COUNT_STRING(AllPackets, \"a\") do n = n + 1;",
        &[],
        "3:25: COUNT_STRING cannot stand in a variant",
    ),
    (
        "n = 1;\nwhile n < 3 max 3 invariant CONTAINS_STRING(AllPackets, \"a\") do n = n + 1;",
        &[],
        "3:29: an invariant says nothing of content",
    ),
    (
        "n = 1;\nA = THIS_IP;\nwhile n < 3 max 3 invariant AllPackets to {10.0.0.1, A} do n = n + 1;",
        &[],
        "4:54: A is a variable; the addresses of an invariant are constants",
    ),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nQ(j) = GROUP_BY_SOURCE(AllPackets);\nforeach i as j do DISCARD(P(j));",
        &[],
        "4:14: the index j belongs to another grouping",
    ),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i as i do DISCARD(P(i));",
        &[],
        "3:14: the index i belongs to another grouping",
    ),
    (
        "P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i as j do foreach i as j do DISCARD(P(j));",
        &[],
        "3:32: the index j is being run through here",
    ),
    ("P(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i as j do DISCARD(P(i));", &[], "3:27: P(i) exists only inside"),
    ("P(i) = AllPackets;", &[], "2:1: only groups by address have an index: P(i) has one"),
    ("A, B = SELECT(AllPackets, true);", &[], "2:4: there is one result here"),
    (
        "K(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do n = K(i) + 1;",
        &[],
        "3:18: K(i) is a set of packets; an integer",
    ),
    (
        "K(i) = GROUP_BY_SOURCE(AllPackets);\nforeach i do if K(i) = THIS_IP and K(i) + 1 = 2 then DISCARD(AllPackets);",
        &[],
        "3:36: K(i) is an address; an integer is expected",
    ),
    (
        "n = L + 1;\nA = GROUP_BY_SOURCE(AllPackets, L);",
        &["L=7"],
        "3:33: L is used both as an address and as an integer",
    ),
    ("A = B;\nB = A;\nDISCARD(A);", &[], "2:5: B is not assigned on every way to here"),
    ("n = P;\nDISCARD(n);", &["P=7"], "3:9: n is an integer; a set of packets is expected"),
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
    let mut wrong = String::new();
    for (text, set, expected) in WRONG {
        let told = told(&format!("LIFETIME = 1 day\n{text}"), set, &router());
        if !told.starts_with(&format!("e.vnp:{expected}")) {
            wrong += &format!("{text}\n  told:     {told}\n  expected: {expected}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
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
    let ports = "LIFETIME = 1 day\nA = SELECT(AllPackets, dstport in Ports);";
    let limit = "LIFETIME = 1 day\nn = Limit;\nn = Limit + 1;";
    for (text, set, expected) in [
        (ports, "Ports={90..80}", "--set:1:8: the value of Ports: the range ends before it begins"),
        (ports, "Ports=1,x", "--set:1:9: the value of Ports: `x` is no integer of 64 bits"),
        (ports, "Ports={1", "--set:1:9: the value of Ports: expected `,` or `}` in the set of numbers"),
        (ports, "Ports=1 2", "--set:1:9: the value of Ports: there is more behind the end of the value"),
        (limit, "Limit=9223372036854775808", "e.vnp:3:1: n is an address and cannot become an integer"),
        ("LIFETIME = 1 day\nn = 0 + Limit;", "Limit=1.5", "--set:1:7: the value of Limit: `1.5` is no integer of 64"),
    ] {
        let told = told(text, &[set], &router());
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
    let deep = "if CONTAINS_STRING(AllPackets,\"a\") then ".repeat(28);
    assert!(told(&format!("{head}{deep}DISCARD(AllPackets);"), &[], &user()).contains("nested deeper than 24"));
    for open in [
        "begin ",
        "if not ",
        "if (",
        "n = (",
        "n = -",
        "A = SELECT(AllPackets, not ",
        "if CONTAINS_STRING(AllPackets,\"a\") then ",
    ] {
        let deep = open.split_once(' ').map_or(open.to_string(), |(first, rest)| {
            if rest.is_empty() { open.repeat(5000) } else { format!("{first} {}", format!("{rest} ").repeat(5000)) }
        });
        told(&format!("{head}{deep}"), &[], &user());
    }
    for sign in [" + 1", " * 2"] {
        let chain = |signs: usize| format!("{head}n = 1{};", sign.repeat(signs));
        assert!(compile("e.vnp", &chain(21), &[], &user()).is_ok());
        assert!(told(&chain(23), &[], &user()).starts_with("e.vnp:2:1: nested deeper than 24"));
        assert!(told(&chain(5000), &[], &user()).contains("nested deeper than 64"));
    }
    let ranges: Vec<_> = (0..257).map(|i| (2 * i).to_string()).collect();
    let text = format!("{head}A = SELECT(AllPackets, length in {{{}}});", ranges.join(","));
    assert!(told(&text, &[], &user()).starts_with("e.vnp:2:24: the set has more than 256 ranges of numbers"));
    let words: Vec<_> = (0..65).map(|i| format!("CONTAINS_STRING(AllPackets,\"{i}\")")).collect();
    let text = format!("{head}if {} then DISCARD(AllPackets);", words.join(" or "));
    assert!(told(&text, &[], &user()).contains("the program has more than 64 different strings"));
    let hosts: Vec<_> = (0..16_385).map(|i: u32| Addr::V4(0x0a00_0000 + 2 * i).to_string()).collect();
    let text = format!("{head}A = GROUP_BY_SOURCE(AllPackets, {{{}}});", hosts.join(","));
    assert!(told(&text, &[], &user()).contains("the set of addresses has 16385 prefixes; at most 16384"));
    let text = " ".repeat((4 << 20) + 1);
    assert!(told(&text, &[], &user()).contains("the source text has 4194305 bytes"));
}
