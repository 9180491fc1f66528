//! What `docs/PROOF.md` says is so: its tables, its limits, and its examples.

use std::sync::Arc;
use vinet_prover::corpus::{self, Kind};
use vinet_prover::library;
use vinet_prover::script::{self, LemmaNames};
use vinet_trusted::addr::{Addr, Prefix};
use vinet_trusted::check::check;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::Kernel;
use vinet_trusted::proof::{refer, rule};
use vinet_trusted::term::{Op, sort};
use vinet_trusted::walk::Obligation;
use vinet_trusted::{lemma, logic, policy, proof, term};

const DOC: &str = include_str!("../../docs/PROOF.md");

/// The rows of the table below this heading row, cell by cell.
fn table(heading: &str) -> Vec<Vec<String>> {
    let at = DOC.find(heading).unwrap_or_else(|| panic!("no table {heading}"));
    let rows = DOC[at..].lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(cells).collect()
}

fn byte(cell: &str) -> u8 {
    let hex = cell.trim_start_matches('`').split('`').next().unwrap_or("");
    u8::from_str_radix(hex, 16).unwrap_or_else(|_| panic!("`{cell}` is no byte"))
}

/// The code blocks with this heading.
fn blocks(heading: &str) -> Vec<&'static str> {
    let parts = DOC.split("```").skip(1).step_by(2);
    parts.filter_map(|block| block.strip_prefix(heading)?.strip_prefix('\n')).collect()
}

#[test]
fn every_operation_stands_at_its_byte() {
    let rows = table("| byte | operation | then |");
    assert_eq!(rows.len(), Op::ALL.len());
    for (op, row) in Op::ALL.iter().zip(rows) {
        assert_eq!((byte(&row[0]), row[1].as_str()), (*op as u8, format!("{op:?}").as_str()));
    }
}

#[test]
fn every_rule_stands_at_its_byte() {
    macro_rules! rules {
        ($($name:ident)*) => { [$((stringify!($name), rule::$name)),*] };
    }
    let rules = rules!(
        DONE CLAIM UNFOLD LEFT RIGHT WIDEN CITE MODUS_PONENS BOTH EITHER_LEFT EITHER_RIGHT CASES ASSUME DISCHARGE ABSURD
        NEGATE DOUBLE_NEGATION TRUTH APART SYMMETRY CONGRUENCE EQUIVALENCE THERE BACK PICK SPECIALISE GENERALISE EXISTS
        WITNESS NATURALS LISTS REFLEXIVITY TRANSITIVITY FOLD FACT DEFINE LEMMA EVALUATE SPLIT BOUNDS ENCLOSE OFFSET
        LINEAR COPY
    );
    let rows = table("| byte | rule | from |");
    assert_eq!(rows.len(), rules.len());
    for ((name, at), row) in rules.iter().zip(rows) {
        assert_eq!((byte(&row[0]), row[1].split(' ').next()), (*at, Some(*name)));
    }
    let rows = table("| byte | stands for |");
    assert_eq!(rows.iter().map(|row| byte(&row[0])).collect::<Vec<_>>(), [refer::GOAL, refer::CLAIM, refer::PART]);
}

#[test]
fn every_sort_stands_at_its_byte() {
    let rows = table("| byte | sort | in the text form |");
    for ((name, at), row) in script::SORTS.iter().zip(&rows) {
        assert_eq!((byte(&row[0]), row[2].as_str()), (*at, format!("`{name}`").as_str()));
    }
    let declared = &rows[script::SORTS.len()][0];
    assert_eq!(*declared, format!("`{:02x}` … `{:02x}`", sort::DECLARED, sort::LAST));
}

#[test]
fn the_limits_are_those_of_the_code() {
    macro_rules! limits {
        ($($module:ident::$name:ident)*) => {
            [$((concat!("`", stringify!($module), "::", stringify!($name), "`"), $module::$name as u64)),*]
        };
    }
    use vinet_trusted::check;
    let limits = limits!(
        term::NODES_MAX term::HEIGHT_MAX logic::ASSUMPTIONS_MAX proof::STACK_MAX proof::WRITTEN_DEPTH_MAX
        check::WORK_BASE check::WORK_PER_BYTE lemma::LEMMA_BYTES_MAX lemma::LEMMA_PROOF_BYTES_MAX lemma::LEMMAS_MAX
        lemma::LEMMA_PARTS_MAX policy::FORMULA_DEPTH_MAX policy::FORMULA_NODES_MAX policy::POLICY_BYTES_MAX
        script::TEXT_BYTES_MAX script::DEPTH_MAX script::STEPS_MAX
    );
    let rows = table("| name | value | of what |");
    let told: Vec<(&str, u64)> = rows.iter().map(|row| (row[0].as_str(), row[1].parse().unwrap())).collect();
    assert_eq!(told, limits);
}

#[test]
fn the_firewalls_proof_is_one_and_the_text_form_makes_it() {
    let [hex] = blocks("hex firewall-proof")[..] else { panic!("there is one firewall proof") };
    let bytes: Vec<u8> = hex
        .lines()
        .flat_map(|line| {
            line.split_whitespace().map_while(|word| (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok())?)
        })
        .collect();
    let program = corpus::firewall(vec![Prefix::host(Addr::V4(0xcb00_7107))]);
    let (owner, policy) = (corpus::owner(Kind::EndUser), Arc::new(corpus::policy(Kind::EndUser)));
    let empty = LemmaStore::default();
    check(&program.encode(), &bytes, owner, &policy, &empty).unwrap();
    let [text] = blocks("vpf firewall")[..] else { panic!("there is one firewall text") };
    let mut nobody = |_: &mut Kernel<'_>, _: &Obligation| None;
    let names = LemmaNames::default();
    let made = script::prove(&program, &owner, &policy, (&empty, &names), text, &mut nobody).unwrap();
    assert_eq!(made, bytes);
}

#[test]
fn the_examples_of_lemmas_are_lemmas() {
    let texts = blocks("vpf lemma");
    assert_eq!(texts.len(), 2);
    for text in texts {
        let (mut store, mut names) = (LemmaStore::clone(&library::library()), library::names().clone());
        let lemmas = script::lemmas(text, &mut store, &mut names).map_err(|error| error.with_place(text)).unwrap();
        assert!(!lemmas.is_empty());
    }
}

/// The methods and rules that the text form has are all told.
#[test]
fn every_method_and_module_is_told() {
    let methods = include_str!("../lemmas/methods.vpf");
    for line in methods.lines().filter_map(|line| line.strip_prefix("method ")) {
        let name = line.split('(').next().unwrap();
        assert!(DOC.contains(&format!("`{name}`")), "{name}");
    }
    for (module, _) in library::MODULES {
        assert!(DOC.contains(module), "{module}");
    }
}
