//! The shipped lemmas: all are checked, their bytes are what they say, and no proof of them can be changed.

use std::collections::HashSet;
use vinet_prover::{library, script, write};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Op, Terms};
use vinet_trusted::wire::{Wire, Writer};

#[test]
fn there_are_sixty_lemmas_at_least_in_all_modules() {
    let store = library::library();
    let lemmas = library::lemmas();
    assert_eq!(store.len(), lemmas.len(), "a lemma of the library says what another one says");
    assert!(lemmas.len() >= 60, "{} lemmas", lemmas.len());
    for (module, _) in library::MODULES {
        let of_module = lemmas.iter().filter(|lemma| lemma.module.as_deref() == Some(module)).count();
        assert!(of_module >= 4, "{module} has {of_module}");
    }
    let names: HashSet<_> = lemmas.iter().map(|lemma| (&lemma.module, &lemma.name)).collect();
    assert_eq!(names.len(), lemmas.len());
    for lemma in lemmas {
        let full = format!("{}.{}", lemma.module.as_deref().unwrap_or(""), lemma.name);
        assert_eq!(library::names().number(&full), Some(lemma.number));
        assert_eq!(library::names().name(lemma.number), Some(full.as_str()));
    }
}

#[test]
fn the_store_is_what_a_router_makes_of_the_bytes() {
    let mut store = LemmaStore::default();
    for lemma in library::lemmas() {
        assert_eq!(store.add(&lemma.lemma, &lemma.proof), Ok(lemma.number), "{}", lemma.name);
        assert_eq!(store.id(lemma.number), Some(&LemmaStore::id_of(&lemma.lemma)));
    }
    assert_eq!(store.root(), library::library().root());
}

/// Among the store's terms symbols are numbered on; a statement's own are numbered from 0.
#[test]
fn the_bytes_of_every_statement_round_trip() {
    for lemma in library::lemmas() {
        let store = library::library();
        let (symbols, premises, conclusion) = store.statement(lemma.number).unwrap();
        let mut w = Writer::new();
        store.terms().symbols[symbols.clone()].to_vec().write(&mut w);
        w.integer(premises.len() as u64);
        let mut terms = Terms::new(usize::MAX);
        // The same statement with its symbols at the front.
        terms.symbols = store.terms().symbols[symbols.clone()].to_vec();
        for formula in premises.iter().chain([&conclusion]) {
            let moved = moved(store.terms(), *formula, symbols.start as u32, &mut terms);
            write::term(&terms, moved, &mut w);
        }
        assert_eq!(w.finish(), lemma.lemma, "{}", lemma.name);
    }
}

fn moved(from: &Terms, id: Id, first: u32, to: &mut Terms) -> Id {
    let mut node = from.get(id);
    for i in from.children(node) {
        node.args[i] = moved(from, node.args[i], first, to);
    }
    if node.op == Op::Symbol {
        node.args[0] -= first;
    }
    to.make(node.op, node.args).unwrap()
}

/// Every byte of every proof, left out, and changed in five ways: no proof has a step that is not needed.
#[test]
fn a_proof_with_one_step_changed_does_not_show_the_lemma() {
    let mut store = LemmaStore::default();
    for lemma in library::lemmas() {
        let refused = |proof: &[u8]| store.clone().add(&lemma.lemma, proof).is_err();
        for at in 0..lemma.proof.len() {
            let mut without = lemma.proof.clone();
            without.remove(at);
            assert!(refused(&without), "{}: without byte {at}", lemma.name);
            assert!(refused(&lemma.proof[..at]), "{}: cut at {at}", lemma.name);
            let byte = lemma.proof[at];
            for other in [byte ^ 1, byte.wrapping_add(1), byte.wrapping_sub(1), rule::UNFOLD, rule::SYMMETRY] {
                let mut changed = lemma.proof.clone();
                changed[at] = other;
                assert!(other == byte || refused(&changed), "{}: {other:#x} at {at}", lemma.name);
            }
        }
        store.add(&lemma.lemma, &lemma.proof).unwrap();
    }
}

/// A conclusion that does not follow is not taken, whatever proof of a true one stands below it.
#[test]
fn a_false_lemma_is_not_taken() {
    let (mut store, mut names) = (LemmaStore::default(), script::LemmaNames::default());
    let text = "lemma wrong (P Q : Prop) given h: P or Q shows P and Q proof { both(h, h) }";
    let error = script::lemmas(text, &mut store, &mut names).unwrap_err();
    assert!(matches!(error.cause, script::Cause::NotThat { .. }), "{error}");
    assert!(store.is_empty());
}
