//! docs/BYTECODE.md and docs/LANGUAGE.md say what the compiler does: the bytes of the worked examples, the first byte of
//! every item, every example and every error.

use super::shipped::owner;
use super::{program, settings};
use std::fmt::Debug;
use vinet_client::disasm::listing;
use vinet_client::lang::{compile, format};
use vinet_trusted::addr::Addr;
use vinet_trusted::packet::{Field, Number, RANGES_MAX, Ranges, Test};
use vinet_trusted::program::{
    AddrExpr, AddrTerm, Cond, DEPTH_MAX, Expr, Instr, LOOP_MAX, NODES_MAX, PREFIXES_MAX, PROGRAM_BYTES_MAX, SLOTS_MAX,
    WINDOW_MAX, WORD_LEN_MAX, WORDS_MAX,
};
use vinet_trusted::wire::{Wire, Writer};

fn doc(name: &str) -> String {
    let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
fn shipped(name: &str) -> String {
    let path = format!("{}/../configs/programs/{name}.vnp", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The bytes of the block that is fenced as `hex NAME`: of each line, what stands before two spaces.
fn bytes(doc: &str, name: &str) -> Vec<u8> {
    let fence = format!("```hex {name}\n");
    let start = doc.find(&fence).unwrap_or_else(|| panic!("no block {name}")) + fence.len();
    let block = &doc[start..start + doc[start..].find("```").expect("the block ends")];
    let bytes = block.lines().flat_map(|line| line.split("  ").next().unwrap_or("").split_whitespace());
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|e| panic!("{name}: {byte}: {e}"))).collect()
}

#[test]
fn the_documented_bytes_are_those_of_the_programs() {
    let doc = doc("BYTECODE.md");
    for (name, set) in [
        ("firewall", &["SrcIP=203.0.113.7"][..]),
        ("spam-filter", &["Word1=casino", "Word2=lottery"]),
        ("multicast", &["BroadcastIP=203.0.113.9"]),
        ("host-range", &["Attackers=203.0.113.0/24", "First=16"]),
    ] {
        assert_eq!(bytes(&doc, name), program(&shipped(name), set).encode(), "{name}");
    }
}

/// Asserts that the page has the row of an item: its first byte and its name.
fn row<T: Wire + Debug>(doc: &str, section: &str, items: &[T]) {
    let start = doc.find(&format!("\n## {section}")).unwrap_or_else(|| panic!("no section {section}"));
    let table = &doc[start + 1..];
    let table = &table[..table.find("\n## ").unwrap_or(table.len())];
    assert_eq!(table.matches("\n| `").count(), items.len(), "{section} has a row for each item");
    for item in items {
        let mut w = Writer::new();
        item.write(&mut w);
        let name = format!("{item:?}").split([' ', '{']).next().expect("a name").to_string();
        let row = format!("\n| `{:02x}` | {name} |", w.finish()[0]);
        assert!(table.contains(&row), "{section}: {row}");
    }
}

#[test]
fn every_item_has_the_byte_that_the_page_gives_it() {
    let doc = doc("BYTECODE.md");
    let int = || Box::new(Expr::Const { value: 0 });
    let cond = || Box::new(Cond::Empty { arg: 0 });
    let test = || Box::new(Test::True);
    let field = Field::Src;
    let addrs = || AddrExpr::from(Addr::V4(1));
    row(
        &doc,
        "Instructions",
        &[
            Instr::Select { out: 1, arg: 0, test: Test::True },
            Instr::Partition { out: 1, arg: 0, field },
            Instr::Content { dests: 1, contents: 2, arg: 0 },
            Instr::Union { out: 1, a: 0, b: 0 },
            Instr::Minus { out: 1, a: 0, b: 0 },
            Instr::Count { out: 1, arg: 0, word: 0 },
            Instr::Size { out: 1, arg: 0 },
            Instr::Let { out: 1, expr: *int() },
            Instr::Offset { out: 1, base: AddrTerm::ThisIp, by: *int() },
            Instr::Discard { arg: 0 },
            Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::ThisIp, data: 1 },
            Instr::If { cond: *cond(), then: vec![], otherwise: vec![] },
            Instr::Foreach { groups: 1, packets: 2, key: 3, body: vec![] },
            Instr::While { cond: *cond(), max: 1, body: vec![] },
        ],
    );
    row(
        &doc,
        "Terms",
        &[AddrTerm::ThisIp, AddrTerm::ThisSubnet, AddrTerm::Const { addr: Addr::V4(1) }, AddrTerm::Slot { slot: 1 }],
    );
    row(
        &doc,
        "Expressions",
        &[
            Expr::Const { value: 0 },
            Expr::Slot { slot: 1 },
            Expr::Add { a: int(), b: int() },
            Expr::Sub { a: int(), b: int() },
            Expr::Mul { a: int(), b: int() },
        ],
    );
    row(
        &doc,
        "Conditions",
        &[
            Cond::Contains { arg: 0, word: 0 },
            Cond::Empty { arg: 0 },
            Cond::AddrIn { addr: 1, addrs: addrs() },
            Cond::AddrIs { addr: 1, is: AddrTerm::ThisIp },
            Cond::AtMost { a: *int(), b: *int() },
            Cond::Equal { a: *int(), b: *int() },
            Cond::Not { cond: cond() },
            Cond::And { a: cond(), b: cond() },
            Cond::Or { a: cond(), b: cond() },
        ],
    );
    row(
        &doc,
        "Tests",
        &[
            Test::True,
            Test::False,
            Test::Owns { field },
            Test::In { field, addrs: addrs() },
            Test::Is { field, slot: 1 },
            Test::Number { number: Number::Syn, ranges: Ranges::new(vec![(1, 1)]).expect("a range") },
            Test::Not { a: test() },
            Test::And { a: test(), b: test() },
            Test::Or { a: test(), b: test() },
        ],
    );
}

#[test]
fn the_documented_limits_are_those_of_the_code() {
    let bytecode = doc("BYTECODE.md");
    for (name, value) in [
        ("PROGRAM_BYTES_MAX", PROGRAM_BYTES_MAX),
        ("NODES_MAX", NODES_MAX),
        ("DEPTH_MAX", DEPTH_MAX),
        ("SLOTS_MAX", SLOTS_MAX),
        ("WORDS_MAX", WORDS_MAX),
        ("WORD_LEN_MAX", WORD_LEN_MAX),
        ("PREFIXES_MAX", PREFIXES_MAX),
        ("RANGES_MAX", RANGES_MAX),
        ("WINDOW_MAX", usize::from(WINDOW_MAX)),
        ("LOOP_MAX", LOOP_MAX as usize),
    ] {
        assert!(bytecode.contains(&format!("\n| `{name}` | {value} |")), "{name} = {value}");
    }
}

#[test]
fn every_example_of_the_language_page_compiles_and_every_error_is_told() {
    let page = doc("LANGUAGE.md");
    let (mut programs, mut errors) = (0, 0);
    for block in page.split("\n```").skip(1).step_by(2) {
        let (info, text) = block.split_once('\n').expect("a fence of its own line");
        let text = format!("{text}\n");
        let mut words = info.split_whitespace();
        match words.next() {
            Some("vnp") => {
                let (mut principal, mut set) = (owner("192.0.2.2"), Vec::new());
                while let (Some(option), Some(value)) = (words.next(), words.next()) {
                    match option {
                        "--as" => principal = owner(value),
                        "--set" => set.push(value),
                        other => panic!("{other} in {info}"),
                    }
                }
                let compile = |text: &str, set: &[&str]| {
                    compile("LANGUAGE.md", text, &settings(set), &principal).unwrap_or_else(|e| panic!("{e}\n{text}"))
                };
                let program = compile(&text, &set).program;
                assert_eq!(compile(&listing(&program), &[]).program, program, "{text}");
                format("LANGUAGE.md", &text).expect("a program");
                programs += 1;
            }
            Some("vnp-error") => {
                let told = compile("F", &text, &[], &owner("192.0.2.2")).expect_err("an error").to_string();
                let (place, message) = info["vnp-error ".len()..].split_once(' ').expect("a place and a message");
                assert!(
                    told.starts_with(&format!("F:{place}: {message}")),
                    "told:     {told}\nexpected: {place} {message}"
                );
                errors += 1;
            }
            Some("text") => {}
            other => panic!("a block of unknown kind {other:?}"),
        }
    }
    assert!(programs >= 14 && errors >= 5, "{programs} programs and {errors} errors were found");
}
