//! The shipped lemmas: general theorems with their proofs, in modules, each checked by the rules before it can be used.

use crate::script::{self, CompiledLemma, LemmaNames};
use std::sync::{Arc, OnceLock};
use vinet_trusted::lemma::LemmaStore;

/// The modules, each with its text; later ones use earlier ones.
pub const MODULES: [(&str, &str); 8] = [
    ("logic", include_str!("../lemmas/logic.vpf")),
    ("arithmetic", include_str!("../lemmas/arithmetic.vpf")),
    ("sets", include_str!("../lemmas/sets.vpf")),
    ("addresses", include_str!("../lemmas/addresses.vpf")),
    ("groupings", include_str!("../lemmas/groupings.vpf")),
    ("branches", include_str!("../lemmas/branches.vpf")),
    ("loops", include_str!("../lemmas/loops.vpf")),
    ("lists", include_str!("../lemmas/lists.vpf")),
];

/// The library: the store, the names, and what was compiled.
struct Library {
    store: Arc<LemmaStore>,
    names: LemmaNames,
    lemmas: Vec<CompiledLemma>,
}

fn shipped() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let (mut store, mut names, mut all) = (LemmaStore::default(), LemmaNames::default(), Vec::new());
        for (module, text) in MODULES {
            match script::lemmas(text, &mut store, &mut names) {
                Ok(lemmas) => all.extend(lemmas),
                // Ours, and shipped only where the test has compiled it.
                Err(error) => panic!("lemmas/{module}.vpf:{}", error.with_place(text)),
            }
        }
        Library { store: Arc::new(store), names, lemmas: all }
    })
}

/// The store of the shipped lemmas, compiled and checked once.
#[must_use]
pub fn library() -> Arc<LemmaStore> {
    Arc::clone(&shipped().store)
}

/// Their names.
#[must_use]
pub fn names() -> &'static LemmaNames {
    &shipped().names
}

/// Their bytes, in the order of the store.
#[must_use]
pub fn lemmas() -> &'static [CompiledLemma] {
    &shipped().lemmas
}
