//! The bytes that docs/BYTECODE.md and docs/PROOF.md show are those that the code reads and writes, and every rule and
//! limit that they list has the number that they give.

mod common;
use common::{end_user, firewall, me, prefixes, spam_filter};
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
    Program::new(172_800, vec![], firewall.body().to_vec()).expect("well-formed")
}

#[test]
fn the_documented_bytecode_is_the_firewalls_and_the_spam_filters() {
    let doc = doc("BYTECODE.md");
    assert_eq!(bytes(&doc, "firewall"), documented_firewall().encode());
    let spam = Program::new(432_000, spam_filter().words().to_vec(), spam_filter().body().to_vec());
    assert_eq!(bytes(&doc, "spam-filter"), spam.expect("well-formed").encode());
}

#[test]
fn the_documented_proof_is_the_firewalls() {
    let proof = bytes(&doc("PROOF.md"), "firewall-proof");
    let program = documented_firewall();
    assert_eq!(vinet_prover::prove(&program, &me(), &end_user()), Ok(proof.clone()));
    vinet_trusted::check::check(&program.encode(), &proof, me(), &end_user()).expect("the documented proof");
}

#[test]
fn the_documented_tables_are_those_of_the_code() {
    use vinet_trusted::check::{PROP_DEPTH_MAX, prop_tag, rule};
    use vinet_trusted::{logic, policy, program};
    let proof = doc("PROOF.md");
    let rules = [
        (rule::DONE, "DONE"),
        (rule::CLAIM, "CLAIM"),
        (rule::UNFOLD, "UNFOLD"),
        (rule::LEFT, "LEFT"),
        (rule::RIGHT, "RIGHT"),
        (rule::WIDEN, "WIDEN"),
        (rule::CITE, "CITE"),
        (rule::MODUS_PONENS, "MODUS_PONENS"),
        (rule::BOTH, "BOTH"),
        (rule::EITHER_LEFT, "EITHER_LEFT"),
        (rule::EITHER_RIGHT, "EITHER_RIGHT"),
        (rule::CASES, "CASES"),
        (rule::ASSUME, "ASSUME"),
        (rule::DISCHARGE, "DISCHARGE"),
        (rule::ABSURD, "ABSURD"),
        (rule::NEGATE, "NEGATE"),
        (rule::DOUBLE_NEGATION, "DOUBLE_NEGATION"),
        (rule::TRUTH, "TRUTH"),
        (rule::APART, "APART"),
        (rule::SYMMETRY, "SYMMETRY"),
        (rule::CARRY, "CARRY"),
    ];
    for (byte, name) in rules {
        assert!(proof.contains(&format!("| `{byte:02x}` | {name} ")), "rule {name} = {byte:02x}");
    }
    let props = [
        (prop_tag::TRUE, "True"),
        (prop_tag::FALSE, "False"),
        (prop_tag::MEMBER, "Member"),
        (prop_tag::ANSWER, "Answer"),
        (prop_tag::IN, "In"),
        (prop_tag::SAME, "Same"),
        (prop_tag::NOT, "Not"),
        (prop_tag::AND, "And"),
        (prop_tag::OR, "Or"),
        (prop_tag::IMPLIES, "Implies"),
    ];
    for (byte, name) in props {
        assert!(proof.contains(&format!("| `{byte:02x}` | {name} ")), "proposition {name} = {byte:02x}");
    }
    let limits = [
        ("PROP_DEPTH_MAX", PROP_DEPTH_MAX),
        ("ASSUMPTIONS_MAX", logic::ASSUMPTIONS_MAX),
        ("STACK_MAX", logic::STACK_MAX),
        ("PREFIX_WORK_MAX", logic::PREFIX_WORK_MAX),
        ("FORMULA_DEPTH_MAX", policy::FORMULA_DEPTH_MAX),
        ("FORMULA_NODES_MAX", policy::FORMULA_NODES_MAX),
        ("POLICY_BYTES_MAX", policy::POLICY_BYTES_MAX),
    ];
    for (name, value) in limits {
        assert!(proof.contains(&format!("| `{name}` | {value} |")), "limit {name} = {value}");
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
    ];
    for (name, value) in limits {
        assert!(bytecode.contains(&format!("| `{name}` | {value} |")), "limit {name} = {value}");
    }
}
