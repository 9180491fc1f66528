//! Source maps: which line of the source each instruction came from.
//!
//! A map lies beside its program as `P.vnb.map`, in JSON. It names the program by its id, so that a map that was left
//! behind by another compilation is told apart and not used.

use super::error::position;
use super::token::Span;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use vinet_trusted::program::Program;

/// The most bytes of a map file that are read.
pub const MAP_BYTES_MAX: u64 = 4 << 20;

/// The place of an instruction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The statement, or the head of an `if` or `foreach`, on one line.
    pub text: String,
}

/// The places of a program's instructions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceMap {
    /// The file that was compiled, as it was named.
    pub source: String,
    /// The program's id in hexadecimal.
    pub program: String,
    /// One place for each instruction, in the order in which the bytecode counts them.
    pub instructions: Vec<Place>,
}

impl SourceMap {
    pub(crate) fn new(source: &str, text: &str, program: &Program, places: &[Span]) -> SourceMap {
        let place = |span: &Span| {
            let (line, column) = position(text, span.start);
            let text = text[span.clone()].split_whitespace().collect::<Vec<_>>().join(" ");
            Place { line, column, text }
        };
        SourceMap {
            source: source.to_string(),
            program: hex(&program.id()),
            instructions: places.iter().map(place).collect(),
        }
    }

    /// The place of instruction `instr`.
    #[must_use]
    pub fn place(&self, instr: usize) -> Option<&Place> {
        self.instructions.get(instr)
    }

    /// Where the map of a program file lies: `P.vnb` has `P.vnb.map`.
    #[must_use]
    pub fn path(program: &Path) -> PathBuf {
        let mut path = program.as_os_str().to_owned();
        path.push(".map");
        path.into()
    }

    /// The map beside `program_path`, where there is one and it is for `program`.
    #[must_use]
    pub fn beside(program_path: &Path, program: &Program) -> Option<SourceMap> {
        let path = SourceMap::path(program_path);
        if std::fs::metadata(&path).ok()?.len() > MAP_BYTES_MAX {
            return None;
        }
        let map: SourceMap = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (map.program == hex(&program.id())).then_some(map)
    }

    /// The file's content.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).map_or_else(|_| String::new(), |text| text + "\n")
    }
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
