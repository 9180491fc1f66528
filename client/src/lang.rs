//! The language: from the text of a `.vnp` file to a program.
//!
//! A [`Compiled`] holds a well-formed [`Program`]; nothing about ownership or cost is shown yet: that is the prover's
//! part, and the checker's. The same text and settings give the same bytes. The language is written down in
//! `docs/LANGUAGE.md`.

mod ast;
pub mod error;
pub mod lifetime;
mod lower;
mod names;
mod parameter;
mod parse;
pub mod source_map;
mod token;

pub use error::{Cause, Diagnostic, Errors};
pub use parameter::{setting, word};
pub use source_map::{Place, SourceMap};
pub use token::quoted;

use error::{ERRORS_MAX, Located, SOURCE_BYTES_MAX};
use parameter::Parameters;
use std::sync::Arc;
use vinet_trusted::addr::{Prefix, Principal};
use vinet_trusted::program::Program;

/// A program and where each of its instructions came from.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The program.
    pub program: Program,
    /// The places of its instructions.
    pub map: SourceMap,
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
    let lowered = lower::lower(&source, &mut parameters, owner);
    let names = names::Names::of(&source.body, &mut Vec::new());
    let settings = parameters.errors(|name| names.defines(name));
    let (program, places) = match lowered {
        Ok(lowered) if settings.is_empty() => lowered,
        Ok(_) => return Err(Errors(settings)),
        Err(mut errors) => {
            errors.sort_by_key(|error| (error.span.start, error.span.end));
            errors.dedup();
            let all = errors.into_iter().map(here).chain(settings).take(ERRORS_MAX);
            return Err(Errors(all.collect()));
        }
    };
    let map = SourceMap::new(file, text, &program, &places);
    Ok(Compiled { program, map })
}

/// The address or prefix that `text` writes, as a program would.
///
/// # Errors
/// What is wrong with it.
pub fn prefix(text: &str) -> Result<Prefix, Cause> {
    token::prefix(text)
}
