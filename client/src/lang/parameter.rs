//! Parameters: the names that no statement defines, and the values that the user gives them.

use super::ast::{AddrTerm, NumberTerm};
use super::error::{Cause, Located};
use super::error::{Diagnostic, ParameterKind};
use super::parse;
use super::token::{Span, string};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vinet_trusted::addr::Prefix;
use vinet_trusted::program::WORD_LEN_MAX;

/// The values given on the command line, and which of them the program has used.
pub(crate) struct Parameters<'a> {
    values: BTreeMap<&'a str, &'a str>,
    uses: BTreeMap<String, (ParameterKind, Span)>,
    /// Every parameter of the program that was met, set or not.
    met: BTreeSet<String>,
    /// Errors inside of values, whose text is the command line's and not the program's.
    errors: Vec<Diagnostic>,
}

impl<'a> Parameters<'a> {
    /// The settings, each `(NAME, VALUE)`.
    pub(crate) fn new(settings: &'a [(String, String)]) -> Result<Parameters<'a>, Box<Diagnostic>> {
        let mut values = BTreeMap::new();
        for (name, value) in settings {
            if values.insert(name.as_str(), value.as_str()).is_some() {
                return Err(Box::new(in_setting(name, value, 0..name.len(), Cause::SetTwice { name: name.clone() })));
            }
        }
        Ok(Parameters { values, uses: BTreeMap::new(), met: BTreeSet::new(), errors: Vec::new() })
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
    pub(crate) fn set_names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().copied()
    }
    /// The program has a parameter of this name.
    pub(crate) fn wanted(&mut self, name: &str) {
        self.met.insert(name.to_string());
    }
    /// The name was met in a wrong place, which is told there; it is not told again as unused.
    pub(crate) fn touch(&mut self, name: &str) {
        self.met.insert(name.to_string());
    }

    fn used_as(&mut self, name: &str, kind: ParameterKind, span: &Span) -> Result<(), Located> {
        self.met.insert(name.to_string());
        let (first, place) = self.uses.entry(name.to_string()).or_insert((kind, span.clone()));
        if *first == kind {
            return Ok(());
        }
        let kinds = [(*first).min(kind), (*first).max(kind)];
        let error = Located::new(span.clone(), Cause::ParameterTwoKinds { name: name.to_string(), kinds });
        Err(error.with(place.clone(), "used as the other here"))
    }

    /// The value of a parameter used as addresses; `None` where it is broken, which is told.
    pub(crate) fn addrs(&mut self, name: &str, span: &Span) -> Result<Option<Vec<Prefix>>, Located> {
        self.used_as(name, ParameterKind::Addrs, span)?;
        let value = self.values.get(name).copied().unwrap_or_default();
        let parsed = parse::addrs(value).and_then(|addrs| {
            addrs
                .terms
                .into_iter()
                .map(|(term, span)| match term {
                    AddrTerm::Literal(prefix) => Ok(prefix),
                    _ => Err(Located::new(span.clone(), Cause::NotAnAddress(value[span].to_string()))),
                })
                .collect()
        });
        match parsed {
            Ok(prefixes) => Ok(Some(prefixes)),
            Err(Located { span, cause, .. }) => {
                self.broken(name, value, span, cause);
                Ok(None)
            }
        }
    }

    /// The value of a parameter used as a string: as it is, or in double quotes with escapes.
    pub(crate) fn word(&mut self, name: &str, span: &Span) -> Result<Option<Vec<u8>>, Located> {
        self.used_as(name, ParameterKind::Word, span)?;
        let value = self.values.get(name).copied().unwrap_or_default();
        match literal(value) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Located { span, cause, .. }) => {
                self.broken(name, value, span, cause);
                Ok(None)
            }
        }
    }

    /// Whether the value of a parameter is an integer.
    pub(crate) fn is_integer(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| value.trim().parse::<i64>().is_ok())
    }

    /// The value of a parameter used as an integer; `None` where it is broken, which is told.
    pub(crate) fn integer(&mut self, name: &str, span: &Span) -> Result<Option<i64>, Located> {
        self.used_as(name, ParameterKind::Number, span)?;
        let value = self.values.get(name).copied().unwrap_or_default();
        match value.trim().parse() {
            Ok(integer) => Ok(Some(integer)),
            Err(_) => {
                self.broken(name, value, 0..value.len(), Cause::NotAnInteger(value.to_string()));
                Ok(None)
            }
        }
    }

    /// The value of a parameter used as a set of numbers; `None` where it is broken, which is told.
    pub(crate) fn numbers(&mut self, name: &str, span: &Span) -> Result<Option<Vec<(u32, u32)>>, Located> {
        self.used_as(name, ParameterKind::Number, span)?;
        let value = self.values.get(name).copied().unwrap_or_default();
        let literal = |term: &NumberTerm| match term {
            NumberTerm::Literal(number) => Ok(*number),
            NumberTerm::Name(name, span) => Err(Located::new(span.clone(), Cause::NotAnInteger(name.clone()))),
        };
        let parsed = parse::numbers(value).and_then(|ranges| {
            let pair = |range: super::ast::NumberRange| {
                let first = literal(&range.first)?;
                let last = range.last.as_ref().map_or(Ok(first), literal)?;
                if first > last { Err(Located::new(range.span, Cause::RangeReversed)) } else { Ok((first, last)) }
            };
            ranges.into_iter().map(pair).collect()
        });
        match parsed {
            Ok(ranges) => Ok(Some(ranges)),
            Err(Located { span, cause, .. }) => {
                self.broken(name, value, span, cause);
                Ok(None)
            }
        }
    }

    fn broken(&mut self, name: &str, value: &str, span: Span, cause: Cause) {
        let behind = name.len() + 1;
        let cause = Cause::SetValue { name: name.to_string(), inner: Box::new(cause) };
        let diagnostic = in_setting(name, value, span.start + behind..span.end + behind, cause);
        if !self.errors.iter().any(|error| error.cause() == diagnostic.cause()) {
            self.errors.push(diagnostic);
        }
    }

    /// Whether the value of some parameter is wrong.
    pub(crate) fn is_broken(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The errors of the values, and of settings that the program has no parameter for.
    pub(crate) fn errors(self, defines: impl Fn(&str) -> bool) -> Vec<Diagnostic> {
        let mut errors = self.errors;
        for (&name, &value) in &self.values {
            if self.met.contains(name) {
                continue;
            }
            let cause = if defines(name) {
                Cause::SetAssigned { name: name.to_string() }
            } else {
                Cause::SetUnknown {
                    name: name.to_string(),
                    nearest: super::error::nearest(name, self.met.iter().map(String::as_str)),
                    parameters: self.met.iter().cloned().collect(),
                }
            };
            errors.push(in_setting(name, value, 0..name.len(), cause));
        }
        errors
    }
}

/// A string as a command line gives it: the text itself, or a literal in double quotes with escapes.
fn literal(value: &str) -> Result<Vec<u8>, Located> {
    let Some(body) = value.strip_prefix('"') else { return Ok(value.as_bytes().to_vec()) };
    match string(body, 1)? {
        (bytes, len) if len + 2 == value.len() => Ok(bytes),
        (_, len) => Err(Located::new(len + 2..value.len(), Cause::SetValueRest)),
    }
}

/// A word as a command line gives it: the text itself, or a literal in double quotes with escapes.
///
/// # Errors
/// What is wrong with it.
pub fn word(text: &str) -> Result<Vec<u8>, Cause> {
    let bytes = literal(text).map_err(|located| located.cause)?;
    match bytes.len() {
        0 => Err(Cause::EmptyWord),
        len if len > WORD_LEN_MAX => Err(Cause::WordTooLong { len }),
        _ => Ok(bytes),
    }
}

/// An error in `--set NAME=VALUE`, placed in the text behind `--set`.
fn in_setting(name: &str, value: &str, span: Span, cause: Cause) -> Diagnostic {
    Diagnostic::new("--set", &Arc::from(format!("{name}={value}")), Located::new(span, cause))
}

/// `NAME=VALUE` as the command line gives it.
///
/// # Errors
/// Where there is no name, or no `=`.
pub fn setting(text: &str) -> Result<(String, String), Cause> {
    let (name, value) = text.split_once('=').ok_or(Cause::BadSetting)?;
    let name = name.trim();
    let fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits { Ok((name.to_string(), value.to_string())) } else { Err(Cause::BadSetting) }
}
