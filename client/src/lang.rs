//! The language: from the text of a `.vnp` file to a program.
//!
//! A [`Compiled`] holds a well-formed [`Program`]; nothing about ownership or cost is shown yet: that is the prover's
//! part, and the checker's. The same text and settings give the same bytes. The language is written down in
//! `docs/LANGUAGE.md`.

mod ast;
pub mod error;
mod format;
pub mod lifetime;
mod lower;
mod measure;
mod names;
mod parameter;
mod parse;
pub mod source_map;
mod token;

pub use error::{Cause, Diagnostic, Errors};
pub use format::format;
pub use parameter::{setting, word};
pub(crate) use parse::{is_flag, number_name};
pub use source_map::{Place, SourceMap};
pub use token::quoted;

use error::{ERRORS_MAX, Located, SOURCE_BYTES_MAX};
use parameter::Parameters;
use std::sync::Arc;
use vinet_prover::hint::Hint;
use vinet_trusted::addr::{Prefix, Principal};
use vinet_trusted::program::Program;

/// A program, where each of its instructions came from, and what its text says of its loops.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The program.
    pub program: Program,
    /// The places of its instructions.
    pub map: SourceMap,
    /// What the text says of its loops, for the prover. The map has them too.
    pub hints: Vec<Hint>,
}

/// Compiles the text of `file` for `owner`, with a value for each parameter.
///
/// # Errors
/// Every error found, with its place, up to a bound.
pub fn compile(file: &str, text: &str, settings: &[(String, String)], owner: &Principal) -> Result<Compiled, Errors> {
    let shared: Arc<str> = Arc::from(text);
    let here = |located: Located| Diagnostic::new(file, &shared, located);
    if text.len() > SOURCE_BYTES_MAX {
        return Err(Errors(vec![here(Located::new(0..0, Cause::SourceTooLong { len: text.len() }))]));
    }
    let mut parameters = Parameters::new(settings).map_err(|error| Errors(vec![*error]))?;
    let source = parse::source(text).map_err(|error| Errors(vec![here(error)]))?;
    let mut errors = Vec::new();
    let names = names::Names::of(&source.body, &|name| parameters.is_integer(name), &mut errors);
    let lowered = lower::lower(&source, &names, errors, &mut parameters, owner);
    let settings = parameters.errors(|name| names.defines(name));
    let lowered = match lowered {
        Ok(lowered) if settings.is_empty() => lowered,
        Ok(_) => return Err(Errors(settings)),
        Err(mut errors) => {
            errors.sort_by_key(|error| (error.span.start, error.span.end));
            errors.dedup();
            let all = errors.into_iter().map(here).chain(settings).take(ERRORS_MAX);
            return Err(Errors(all.collect()));
        }
    };
    let lower::Lowered { program, places, hints } = lowered;
    let map = SourceMap::new(file, text, &program, &places, &hints);
    Ok(Compiled { program, map, hints })
}

/// The address or prefix that `text` writes, as a program would.
///
/// # Errors
/// What is wrong with it.
pub fn prefix(text: &str) -> Result<Prefix, Cause> {
    token::prefix(text)
}
