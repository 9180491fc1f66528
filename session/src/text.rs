//! What the readers of text files share: places, nearest names, and TOML tables whose unknown keys are errors.

use std::fmt;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A line and column of a file, both from 1; the column counts characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
}

impl Place {
    /// The place of the byte `at` of `text`.
    pub(crate) fn of(file: &Path, text: &str, at: usize) -> Place {
        let before = &text.as_bytes()[..at.min(text.len())];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        Place {
            file: file.to_path_buf(),
            line: 1 + before.iter().filter(|&&b| b == b'\n').count(),
            column: 1 + String::from_utf8_lossy(&before[line_start..]).chars().count(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// The name among `known` that is nearest to `name`, if one is near at all.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), *k))
        .filter(|(distance, k)| *distance <= 1 + k.len().max(name.len()) / 3)
        .min()
        .map(|(_, k)| k)
}

/// What is wrong at one place of a TOML file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TomlFault {
    /// Where.
    pub place: Place,
    /// What is wrong, and what was expected.
    pub what: String,
}

impl fmt::Display for TomlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// A TOML document with its text, for places.
pub(crate) struct Document<'a> {
    pub(crate) file: &'a Path,
    pub(crate) text: &'a str,
}

/// One table of a document, whose keys are taken one by one; what is left is unknown.
pub(crate) struct Table<'d, 't> {
    document: &'d Document<'t>,
    name: String,
    at: usize,
    table: DeTable<'t>,
    known: &'static [&'static str],
}

/// One string of an open table.
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
    /// The byte where the string stands.
    pub(crate) at: usize,
}

impl<'t> Document<'t> {
    pub(crate) fn fault(&self, at: usize, what: impl Into<String>) -> TomlFault {
        TomlFault { place: Place::of(self.file, self.text, at), what: what.into() }
    }
    /// The whole document as a table that may have the keys `known`.
    pub(crate) fn root<'d>(&'d self, known: &'static [&'static str]) -> Result<Table<'d, 't>, TomlFault> {
        let parsed = DeTable::parse(self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.fault(at, format!("not valid TOML: {}", error.message().trim()))
        })?;
        Table::new(self, String::new(), 0, parsed.into_inner(), known)
    }
}

impl<'d, 't> Table<'d, 't> {
    fn new(
        document: &'d Document<'t>,
        name: String,
        at: usize,
        table: DeTable<'t>,
        known: &'static [&'static str],
    ) -> Result<Table<'d, 't>, TomlFault> {
        for key in table.keys() {
            let text: &str = key.get_ref();
            if !known.contains(&text) {
                let hint = match nearest(text, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("expected one of {}", known.join(", ")),
                };
                let place = if name.is_empty() { String::new() } else { format!(" in [{name}]") };
                return Err(document.fault(key.span().start, format!("unknown key `{text}`{place}; {hint}")));
            }
        }
        Ok(Table { document, name, at, table, known })
    }
    /// A fault of the table as a whole.
    pub(crate) fn fault(&self, what: impl Into<String>) -> TomlFault {
        self.document.fault(self.at, what)
    }
    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
    fn missing(&self, key: &str, expected: &str) -> TomlFault {
        self.fault(format!("`{}` is missing; expected {expected}", self.full(key)))
    }
    fn mismatch(&self, key: &str, value: &Spanned<DeValue<'t>>, expected: &str) -> TomlFault {
        let found = value.get_ref().type_str();
        self.document
            .fault(value.span().start, format!("`{}` must be {expected}; found a TOML {found}", self.full(key)))
    }
    /// The value of `key`, which no one may take again.
    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'t>>> {
        debug_assert!(self.known.contains(&key), "the reader asks for a key that it did not announce: {key}");
        self.table.remove(key)
    }
    /// A string, with the byte where it stands.
    pub(crate) fn string(&mut self, key: &'static str, expected: &str) -> Result<(String, usize), TomlFault> {
        match self.take(key) {
            None => Err(self.missing(key, expected)),
            Some(value) => match value.get_ref() {
                DeValue::String(text) => Ok((text.clone().into_owned(), value.span().start)),
                _ => Err(self.mismatch(key, &value, expected)),
            },
        }
    }
    /// An integer of `0 ..= max`.
    pub(crate) fn integer(&mut self, key: &'static str, max: u64) -> Result<u64, TomlFault> {
        let expected = format!("an integer of 0 to {max}");
        let value = self.take(key).ok_or_else(|| self.missing(key, &expected))?;
        let DeValue::Integer(integer) = value.get_ref() else {
            return Err(self.mismatch(key, &value, &expected));
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(n) if n <= max => Ok(n),
            _ => Err(self.document.fault(
                value.span().start,
                format!("`{}` must be {expected}; found {}", self.full(key), integer.as_str()),
            )),
        }
    }
    /// A table under this one, or `None` where the key is absent; `Err` with the value itself where it is no table.
    pub(crate) fn table(
        &mut self,
        key: &'static str,
        known: &'static [&'static str],
    ) -> Result<Table<'d, 't>, TomlFault> {
        let expected = format!("a table with {}", known.join(", "));
        let value = self.take(key).ok_or_else(|| self.missing(key, &expected))?;
        let at = value.span().start;
        match value.into_inner() {
            DeValue::Table(table) => Table::new(self.document, self.full(key), at, table, known),
            other => Err(self
                .document
                .fault(at, format!("`{}` must be {expected}; found a TOML {}", self.full(key), other.type_str()))),
        }
    }
    /// The tables of a list under this one (`[[key]]`); none where the key is absent.
    pub(crate) fn tables(
        &mut self,
        key: &'static str,
        known: &'static [&'static str],
    ) -> Result<Vec<Table<'d, 't>>, TomlFault> {
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let expected = format!("a list of tables, [[{key}]]");
        let values = match value.get_ref() {
            DeValue::Array(values) => values.clone(),
            _ => return Err(self.mismatch(key, &value, &expected)),
        };
        let table = |value: Spanned<DeValue<'t>>| match value.get_ref() {
            DeValue::Table(table) => {
                Table::new(self.document, self.full(key), value.span().start, table.clone(), known)
            }
            _ => Err(self.mismatch(key, &value, &expected)),
        };
        values.into_iter().map(table).collect()
    }
    /// The strings of a list, each with the byte where it stands; none where the key is absent.
    pub(crate) fn texts(&mut self, key: &'static str) -> Result<Vec<(String, usize)>, TomlFault> {
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let DeValue::Array(values) = value.get_ref() else {
            return Err(self.mismatch(key, &value, "a list of strings"));
        };
        let text = |value: &Spanned<DeValue<'t>>| match value.get_ref() {
            DeValue::String(text) => Ok((text.clone().into_owned(), value.span().start)),
            _ => Err(self.mismatch(key, value, "a list of strings")),
        };
        values.iter().map(text).collect()
    }
    /// The integers of a table under this one whose keys are anyone's choice; none where the table is absent.
    pub(crate) fn integers(&mut self, key: &'static str) -> Result<Vec<(String, u64)>, TomlFault> {
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.mismatch(key, &value, "a table of names and integers"));
        };
        let integer = |(name, value): (&Spanned<_>, &Spanned<DeValue<'t>>)| {
            let name: &std::borrow::Cow<'t, str> = name.get_ref();
            let number = match value.get_ref() {
                DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
                _ => None,
            };
            let expected = format!("an integer of 0 to {}", u64::MAX);
            number
                .map(|number| (name.to_string(), number))
                .ok_or_else(|| self.mismatch(&format!("{key}.{name}"), value, &expected))
        };
        table.iter().map(integer).collect()
    }
    /// The strings of a table under this one whose keys are anyone's choice; none where the table is absent.
    pub(crate) fn strings(&mut self, key: &'static str, expected: &str) -> Result<Vec<Entry>, TomlFault> {
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.mismatch(key, &value, "a table of names and strings"));
        };
        table
            .iter()
            .map(|(name, value)| match value.get_ref() {
                DeValue::String(text) => Ok(Entry {
                    key: name.get_ref().to_string(),
                    value: text.clone().into_owned(),
                    at: value.span().start,
                }),
                _ => Err(self.mismatch(&format!("{key}.{}", name.get_ref()), value, expected)),
            })
            .collect()
    }
    /// Whether `key` stands there and is a string.
    pub(crate) fn is_string(&self, key: &str) -> bool {
        matches!(self.table.get(key).map(Spanned::get_ref), Some(DeValue::String(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let text = "a\nbé c";
        let place = Place::of(Path::new("f"), text, text.find('c').unwrap());
        assert_eq!((place.line, place.column), (2, 4));
        assert_eq!(Place::of(Path::new("f"), text, 99).line, 2);
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("discrad", &["group", "discard"]), Some("discard"));
        assert_eq!(nearest("xyzzy", &["group", "discard"]), None);
    }
}
