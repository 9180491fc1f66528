//! Names for formulas, which other formulas use: `tls = "protocol = tcp and dstport in {443, 853}"`.
//!
//! A name stands for its whole formula, as if that stood there in parentheses. Definitions may use each other in any
//! order, but not in a circle, and what they stand for is bounded like every formula, however it was put together.

use super::{FormulaError, Parser, WORDS, parse_with};
use std::collections::BTreeMap;
use std::fmt;
use vinet_trusted::packet::Test;

/// The most definitions of one file.
pub const DEFINITIONS_MAX: usize = 64;

/// Names, each with the formula that it stands for, in which no names are left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions(BTreeMap<String, Test>);

/// Why a definition is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefinitionError {
    /// The name is a word of the language, or has other characters than letters, digits, `_` and `-`.
    BadName,
    /// More than [`DEFINITIONS_MAX`].
    TooMany,
    /// It stands for itself, by way of these names.
    Circle(Vec<String>),
    /// The text is no formula.
    Formula(Box<FormulaError>),
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DefinitionError::BadName => f.write_str(
                "a name has letters, digits, `_` and `-`, begins with a letter, and is no word of the language",
            ),
            DefinitionError::TooMany => write!(f, "there are more than {DEFINITIONS_MAX} definitions"),
            DefinitionError::Circle(names) => write!(f, "it stands for itself: {}", names.join(", which uses ")),
            DefinitionError::Formula(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DefinitionError {}

impl Definitions {
    /// What `texts`, each a name with its formula, stand for.
    ///
    /// # Errors
    /// The index of the first definition with a fault, and the fault.
    pub fn new(texts: &[(String, String)]) -> Result<Definitions, (usize, DefinitionError)> {
        if texts.len() > DEFINITIONS_MAX {
            return Err((DEFINITIONS_MAX, DefinitionError::TooMany));
        }
        if let Some(bad) = texts.iter().position(|(name, _)| !is_name(name)) {
            return Err((bad, DefinitionError::BadName));
        }
        let mut definitions = Definitions::default();
        for index in 0..texts.len() {
            definitions.define(texts, index, &mut Vec::new())?;
        }
        Ok(definitions)
    }

    /// Defines `texts[index]` after those that it uses; `open` are those that wait for it.
    fn define(
        &mut self,
        texts: &[(String, String)],
        index: usize,
        open: &mut Vec<usize>,
    ) -> Result<(), (usize, DefinitionError)> {
        let (name, text) = &texts[index];
        if self.0.contains_key(name) {
            return Ok(());
        }
        if let Some(start) = open.iter().position(|&waiting| waiting == index) {
            let circle = open[start..].iter().chain([&index]).map(|&i| texts[i].0.clone()).collect();
            return Err((index, DefinitionError::Circle(circle)));
        }
        open.push(index);
        let mut words = Parser { text, at: 0, nodes: 0, names: self };
        let mut uses = Vec::new();
        loop {
            match words.next() {
                "" => break,
                word => uses.extend(texts.iter().position(|(name, _)| name == word)),
            }
        }
        uses.into_iter().try_for_each(|used| self.define(texts, used, open))?;
        open.pop();
        let formula = parse_with(text, self).map_err(|error| (index, DefinitionError::Formula(Box::new(error))))?;
        self.0.insert(name.clone(), formula);
        Ok(())
    }

    /// What `name` stands for.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Test> {
        self.0.get(name)
    }
    /// The names, in the order of the alphabet.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && !WORDS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formula::parse;

    fn define(texts: &[(&str, &str)]) -> Result<Definitions, (usize, DefinitionError)> {
        Definitions::new(&texts.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect::<Vec<_>>())
    }

    #[test]
    fn a_name_stands_for_its_formula_wherever_it_was_defined() {
        let names = define(&[
            ("quiet", "not loud"),
            ("loud", "tls-port or dstport = 25"),
            ("tls-port", "dstport in {443, 853}"),
        ])
        .unwrap();
        assert_eq!(
            parse_with("owns(dst) and quiet", &names),
            parse("owns(dst) and not (dstport in {443, 853} or dstport = 25)")
        );
        assert_eq!(names.names().collect::<Vec<_>>(), ["loud", "quiet", "tls-port"]);
        let error = parse_with("tls-prt", &names).unwrap_err().to_string();
        assert!(error.contains("did you mean `tls-port`?"), "{error}");
    }

    #[test]
    fn circles_and_bad_names_are_refused() {
        let circle = define(&[("ok", "true"), ("a", "b or true"), ("b", "not c"), ("c", "a")]).unwrap_err();
        let names = ["a", "b", "c", "a"].map(String::from).to_vec();
        assert_eq!(circle, (1, DefinitionError::Circle(names)));
        assert_eq!(circle.1.to_string(), "it stands for itself: a, which uses b, which uses c, which uses a");
        assert_eq!(define(&[("a", "not a")]).unwrap_err().0, 0);
        for name in ["", "src", "tcp", "9a", "a.b", "a b", "self"] {
            assert_eq!(define(&[(name, "true")]), Err((0, DefinitionError::BadName)), "{name}");
        }
        let many: Vec<_> = (0..=DEFINITIONS_MAX).map(|i| (format!("n{i}"), "true".to_owned())).collect();
        assert_eq!(Definitions::new(&many), Err((DEFINITIONS_MAX, DefinitionError::TooMany)));
        assert!(Definitions::new(&many[1..]).is_ok());
    }

    #[test]
    fn definitions_cannot_grow_without_bound() {
        let doubling: Vec<_> = (0..40)
            .map(|i| (format!("n{i}"), if i == 0 { "true".to_owned() } else { format!("n{0} and n{0}", i - 1) }))
            .collect();
        let (index, error) = Definitions::new(&doubling).unwrap_err();
        assert!(index > 5 && matches!(error, DefinitionError::Formula(_)), "{index}: {error}");
    }
}
