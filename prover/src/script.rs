//! The text form of proofs: a small language after Athena's, elaborated here to the bytes that the checker reads.
//!
//! A text has lemmas, methods, and proofs of a program's obligations. What is elaborated are steps of the real kernel,
//! so an error is told where it stands; what comes out is nothing that the checker would believe without checking.
//! `docs/PROOF.md` has the grammar.

mod automatic;
mod derivation;
mod elaborate;
mod error;
mod lex;
mod print;
mod program;
pub(crate) mod read;
pub(crate) mod rules;
mod syntax;

pub use automatic::Automatic;
pub use elaborate::{LemmaNames, STEPS_MAX};
pub use error::{Cause, ScriptError, Span};
pub use lex::TEXT_BYTES_MAX;
pub use print::{Names, SORTS, letter, print, set_words};
pub use program::{Claim, Fallback, ObligationText, ProgramFault, obligations, prove};
pub(crate) use program::{names_at, texts};
pub use syntax::DEPTH_MAX;

use crate::write;
use derivation::Frame;
use elaborate::{Elaborator, Slots};
use std::collections::HashMap;
use std::sync::OnceLock;
use syntax::{LemmaText, MethodText};
use vinet_trusted::lemma::{LEMMA_PARTS_MAX, LEMMA_PROOF_BYTES_MAX, LemmaStore};
use vinet_trusted::logic::Kernel;
use vinet_trusted::term::{Symbol, Terms, sort};
use vinet_trusted::wire::{Wire, Writer};

/// A lemma of a text, as the store takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompiledLemma {
    /// The module that the text names.
    pub module: Option<String>,
    /// Its name in the module.
    pub name: String,
    /// Its number in the store.
    pub number: usize,
    /// Its statement.
    pub lemma: Vec<u8>,
    /// Its proof.
    pub proof: Vec<u8>,
}

/// The methods that every text can use, by name.
fn methods() -> &'static HashMap<String, MethodText> {
    static METHODS: OnceLock<HashMap<String, MethodText>> = OnceLock::new();
    METHODS.get_or_init(|| {
        let text = syntax::parse(include_str!("../lemmas/methods.vpf")).expect("the shipped methods can be read");
        text.methods.into_iter().map(|method| (method.name.name.clone(), method)).collect()
    })
}

/// The methods of a text, and the shipped ones.
fn methods_with(own: &[MethodText]) -> Result<HashMap<String, MethodText>, ScriptError> {
    let mut all = methods().clone();
    for method in own {
        if all.insert(method.name.name.clone(), method.clone()).is_some() {
            return Err(ScriptError::new(method.name.span.clone(), Cause::NameTaken(method.name.name.clone())));
        }
    }
    Ok(all)
}

/// Compiles the lemmas of a text, each with those before it, checks them into `store` and names them in `names`.
///
/// # Errors
/// [`ScriptError`]; the lemmas before it are in the store.
pub fn lemmas(text: &str, store: &mut LemmaStore, names: &mut LemmaNames) -> Result<Vec<CompiledLemma>, ScriptError> {
    let text = syntax::parse(text)?;
    let methods = methods_with(&text.methods)?;
    let mut compiled = Vec::new();
    for lemma in &text.lemmas {
        let (bytes, proof) = compile(lemma, store, names, &methods)?;
        let number = store.add(&bytes, &proof);
        let number = number.map_err(|error| ScriptError::new(lemma.name.span.clone(), Cause::Lemma(error)))?;
        if !names.insert(text.module.as_deref(), &lemma.name.name, number) {
            return Err(ScriptError::new(lemma.name.span.clone(), Cause::NameTaken(lemma.name.name.clone())));
        }
        let (module, name) = (text.module.clone(), lemma.name.name.clone());
        compiled.push(CompiledLemma { module, name, number, lemma: bytes, proof });
    }
    Ok(compiled)
}

/// The bytes of one lemma and of its proof.
fn compile(
    lemma: &LemmaText,
    store: &LemmaStore,
    lemmas: &LemmaNames,
    methods: &HashMap<String, MethodText>,
) -> Result<(Vec<u8>, Vec<u8>), ScriptError> {
    let mut kernel = Kernel::new(Terms::new(usize::MAX), store);
    let declared = usize::from(sort::LAST - sort::DECLARED) + 1;
    if lemma.sorts.len() > declared
        || lemma.parameters.len() > LEMMA_PARTS_MAX
        || lemma.premises.len() > LEMMA_PARTS_MAX
    {
        let why = format!("a lemma has {declared} sorts, and {LEMMA_PARTS_MAX} parameters and premises at most");
        return Err(ScriptError::new(lemma.name.span.clone(), Cause::ProofLimit(why)));
    }
    let names = Names {
        sorts: lemma.sorts.iter().map(|sort| sort.name.clone()).collect(),
        symbols: lemma.parameters.iter().map(|parameter| parameter.name.name.clone()).collect(),
        ..Names::default()
    };
    let mut elaborator = Elaborator::new(&mut kernel, names, lemmas, methods, Slots::None);
    let mut w = Writer::new();
    let mut symbols = Vec::new();
    for (number, parameter) in lemma.parameters.iter().enumerate() {
        let args = parameter.args.iter().map(|arg| elaborator.sort(arg)).collect::<Result<Vec<_>, _>>()?;
        let symbol = Symbol { args, result: elaborator.sort(&parameter.sort)? };
        elaborator.kernel.terms.symbols.push(symbol.clone());
        elaborator.name_function(&parameter.name.name, number as u32);
        symbols.push(symbol);
    }
    symbols.write(&mut w);
    w.integer(lemma.premises.len() as u64);
    let mut given = vec![None];
    let mut claims = Vec::new();
    for (number, (name, premise)) in lemma.premises.iter().enumerate() {
        let formula = elaborator.formula(premise)?;
        write::term(&elaborator.kernel.terms, formula, &mut w);
        given.push(Some(formula));
        claims.push((name.name.clone(), 1 + number as u32));
    }
    let goal = elaborator.formula(&lemma.conclusion)?;
    write::term(&elaborator.kernel.terms, goal, &mut w);
    // The checker gives the premises; here they are the first assumptions, which have the same numbers.
    elaborator.kernel.begin(None);
    for formula in given.iter().flatten() {
        let assumed = elaborator.kernel.assume(*formula);
        assumed
            .map_err(|fault| ScriptError::new(lemma.name.span.clone(), Cause::ProofLimit(rules::fault_words(fault))))?;
    }
    let own = elaborator.kernel.terms.constants.len() as u32;
    let given_bits = (1u64 << lemma.premises.len()) - 1;
    elaborator.begin(Frame { goal, given, own, given_bits }, &claims)?;
    let proof = elaborator.prove(&lemma.proof, LEMMA_PROOF_BYTES_MAX)?;
    Ok((w.finish(), proof))
}
