//! The language from the outside: the paper's listings, what texts mean, every kind of error, totality, determinism.

mod behaviour;
mod constructs;
mod docs;
mod errors;
mod layout;
mod random;
mod shipped;

use vinet_client::lang::{compile, quoted, setting};
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::packet::Test;
use vinet_trusted::program::{AddrExpr, AddrTerm, Cond, Field, Instr, Program, Type, Word};

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
fn select(out: u8, arg: u8, field: Field, addrs: AddrExpr) -> Instr {
    Instr::Select { out, arg, test: Test::In { field, addrs } }
}
fn word(bytes: &[u8]) -> Word {
    Word { fold: false, bytes: bytes.to_vec() }
}

#[test]
fn the_firewall_of_the_paper_compiles_as_printed() {
    let compiled = compile("fw.vnp", FIREWALL, &settings(&["SrcIP=203.0.113.7"]), &user()).expect("compiles");
    assert_eq!((compiled.program.lifetime_s(), compiled.program.window()), (172_800, 1));
    let source = AddrExpr::from(Addr::V4(0xcb00_7107));
    assert_eq!(
        compiled.program.body(),
        [select(1, 0, Field::Dst, this_ip()), select(2, 1, Field::Src, source), Instr::Discard { arg: 2 },]
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
    assert_eq!(program.words(), [word(b"viagra"), word(b"a\0b")]);
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
                    cond: Cond::And { a: contains(0), b: contains(1) },
                    then: vec![Instr::Discard { arg: 3 }],
                    otherwise: vec![],
                }],
            },
        ]
    );
    assert_eq!(program.slots()[4], Type::Addr);
    let lines: Vec<_> = compiled.map.instructions.iter().map(|place| (place.line, place.column)).collect();
    assert_eq!(lines, [(2, 1), (3, 1), (4, 1), (5, 3), (7, 5)]);
}

#[test]
fn the_multicast_of_the_paper_compiles_as_printed() {
    let program = program(MULTICAST, &["BroadcastIP=203.0.113.9"]);
    assert_eq!((program.lifetime_s(), program.window()), (18_000, 0));
    let broadcast = Addr::V4(0xcb00_7109);
    let subnet = AddrExpr { this_subnet: true, ..AddrExpr::default() };
    let generate = |data| Instr::Generate { src: AddrTerm::Const { addr: broadcast }, dst: AddrTerm::ThisIp, data };
    assert_eq!(
        program.body(),
        [
            select(1, 0, Field::Dst, subnet),
            select(2, 1, Field::Src, broadcast.into()),
            Instr::Content { dests: 3, contents: 4, arg: 2 },
            generate(3),
            generate(4),
            Instr::Discard { arg: 2 },
        ]
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
    let and = Cond::And { a: Box::new(Cond::Not { cond: c(0) }), b: c(1) };
    assert_eq!(*cond, Cond::Or { a: Box::new(and), b: c(2) });
}

#[test]
fn a_chain_of_sixty_four_words_fits_the_depth_of_the_bytecode() {
    let tests: Vec<_> = (0..64).map(|i| format!("CONTAINS_STRING(AllPackets,\"word {i}\")")).collect();
    let text = format!("LIFETIME = 1 h\nif {} then DISCARD(AllPackets);", tests.join(" or "));
    let words = program(&text, &[]).words().to_vec();
    assert_eq!(words[63], word(b"word 63"));
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

#[test]
fn strings_are_read_back_as_they_are_quoted() {
    let all: Vec<u8> = (0..=255).collect();
    for word in all.chunks(32) {
        let text =
            format!("LIFETIME = 1 day\nif CONTAINS_STRING(AllPackets, {}) then DISCARD(AllPackets);", quoted(word));
        assert_eq!(program(&text, &[]).words(), [self::word(word)]);
    }
}
