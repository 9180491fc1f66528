//! The bytes that docs/BYTECODE.md and docs/PROOF.md show are those that the code reads and writes, and every rule and
//! limit that they list has the number that they give.

mod common;
use common::*;
use vinet_trusted::addr::Addr;
use vinet_trusted::program::Program;

fn doc(name: &str) -> String {
    let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The bytes of the block that is fenced as `hex NAME`: of each line, what stands before two spaces.
fn bytes(doc: &str, name: &str) -> Vec<u8> {
    let fence = format!("```hex {name}\n");
    let start = doc.find(&fence).unwrap_or_else(|| panic!("no block {name}")) + fence.len();
    let block = &doc[start..start + doc[start..].find("```").expect("the block ends")];
    let bytes = block.lines().flat_map(|line| line.split("  ").next().unwrap_or("").split_whitespace());
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|e| panic!("{name}: {byte}: {e}"))).collect()
}

fn documented_firewall() -> Program {
    let firewall = firewall(prefixes(&[(Addr::V4(0xcb00_7107), 32)]));
    Program::new(172_800, 1, vec![], firewall.body().to_vec()).expect("well-formed")
}

#[test]
fn the_documented_bytecode_is_the_firewalls_and_the_spam_filters() {
    let doc = doc("BYTECODE.md");
    assert_eq!(bytes(&doc, "firewall"), documented_firewall().encode());
    let spam = Program::new(432_000, 1, spam_filter().words().to_vec(), spam_filter().body().to_vec());
    assert_eq!(bytes(&doc, "spam-filter"), spam.expect("well-formed").encode());
}

#[test]
fn the_documented_proof_is_the_firewalls() {
    let proof = bytes(&doc("PROOF.md"), "firewall-proof");
    let program = documented_firewall();
    assert_eq!(vinet_prover::prove(&program, &me(), &end_user(), &none(), &[]), Ok(proof.clone()));
    check(&program, &proof, &end_user()).expect("the documented proof");
}

/// The constants of a module that is written as lines `pub const NAME: u8 = VALUE;`.
fn constants(source: &str, module: &str) -> Vec<(String, u8)> {
    let start = source.find(&format!("pub mod {module} {{")).unwrap_or_else(|| panic!("no module {module}"));
    let body = &source[start..start + source[start..].find("\n}").expect("it ends")];
    let lines = body.lines().filter_map(|line| line.trim().strip_prefix("pub const "));
    let value = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16),
        None => text.parse(),
    };
    lines
        .map(|line| {
            let (name, rest) = line.split_once(": u8 = ").expect("a byte");
            (name.to_owned(), value(rest.trim_end_matches(';')).expect("a byte"))
        })
        .collect()
}

#[test]
fn the_documented_tables_are_those_of_the_code() {
    use vinet_trusted::{lemma, logic, policy, program, proof, term};
    let page = doc("PROOF.md");
    let source = include_str!("../src/proof.rs");
    let (rules, refers) = (constants(source, "rule"), constants(source, "refer"));
    assert_eq!((rules.len(), refers.len()), (44, 3));
    for (name, byte) in &rules {
        assert!(page.contains(&format!("| `{byte:02x}` | {name}")), "{name} = {byte:02x} is not in docs/PROOF.md");
    }
    for (name, byte) in &refers {
        assert!(page.contains(&format!("| `{byte:02x}`")), "{name} = {byte:02x} is not in docs/PROOF.md");
    }
    for op in term::Op::ALL {
        let (byte, name) = (op as u8, format!("{op:?}"));
        assert!(page.contains(&format!("| `{byte:02x}` | {name}")), "{name} = {byte:02x} is not in docs/PROOF.md");
    }
    let limits = [
        ("proof::WRITTEN_DEPTH_MAX", proof::WRITTEN_DEPTH_MAX),
        ("proof::STACK_MAX", proof::STACK_MAX),
        ("logic::ASSUMPTIONS_MAX", logic::ASSUMPTIONS_MAX),
        ("term::NODES_MAX", term::NODES_MAX),
        ("term::HEIGHT_MAX", usize::from(term::HEIGHT_MAX)),
        ("check::WORK_BASE", vinet_trusted::check::WORK_BASE),
        ("check::WORK_PER_BYTE", vinet_trusted::check::WORK_PER_BYTE),
        ("lemma::LEMMA_BYTES_MAX", lemma::LEMMA_BYTES_MAX),
        ("lemma::LEMMA_PROOF_BYTES_MAX", lemma::LEMMA_PROOF_BYTES_MAX),
        ("lemma::LEMMAS_MAX", lemma::LEMMAS_MAX),
        ("lemma::LEMMA_PARTS_MAX", lemma::LEMMA_PARTS_MAX),
        ("policy::FORMULA_DEPTH_MAX", policy::FORMULA_DEPTH_MAX),
        ("policy::FORMULA_NODES_MAX", policy::FORMULA_NODES_MAX),
        ("policy::POLICY_BYTES_MAX", policy::POLICY_BYTES_MAX),
    ];
    for (name, value) in limits {
        assert!(page.contains(&format!("| `{name}` | {value} |")), "limit {name} = {value} is not in docs/PROOF.md");
    }
    let bytecode = doc("BYTECODE.md");
    let limits = [
        ("PROGRAM_BYTES_MAX", program::PROGRAM_BYTES_MAX),
        ("NODES_MAX", program::NODES_MAX),
        ("DEPTH_MAX", program::DEPTH_MAX),
        ("SLOTS_MAX", program::SLOTS_MAX),
        ("WORDS_MAX", program::WORDS_MAX),
        ("WORD_LEN_MAX", program::WORD_LEN_MAX),
        ("PREFIXES_MAX", program::PREFIXES_MAX),
        ("LIFETIME_MAX_S", program::LIFETIME_MAX_S as usize),
        ("WINDOW_MAX", usize::from(program::WINDOW_MAX)),
        ("LOOP_MAX", program::LOOP_MAX as usize),
        ("RANGES_MAX", vinet_trusted::packet::RANGES_MAX),
    ];
    for (name, value) in limits {
        assert!(
            bytecode.contains(&format!("| `{name}` | {value} |")),
            "limit {name} = {value} is not in docs/BYTECODE.md"
        );
    }
}
