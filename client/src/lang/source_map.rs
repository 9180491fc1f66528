//! Source maps: which line of the source each instruction came from, and what the source says of its loops.
//!
//! A map lies beside its program as `P.vnb.map`, in JSON. It names the program by its id, so that a map that was left
//! behind by another compilation is told apart and not used.

use super::error::position;
use super::token::Span;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use vinet_prover::hint::{Hint, Invariant};
use vinet_trusted::packet::Field;
use vinet_trusted::program::{AddrExpr, AddrTerm, Cond, DEPTH_MAX, Expr, NODES_MAX, Program, Slot, Type};
use vinet_trusted::wire::{Reader, Wire, Writer};

/// The most bytes of a map file that are read.
pub const MAP_BYTES_MAX: u64 = 4 << 20;

/// The place of an instruction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The statement, or the head of an `if`, `foreach` or `while`, on one line; or a routine that is called in it.
    pub text: String,
}

/// What is said of a loop. Conditions and integers stand in hexadecimal, as the bytecode writes them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loop {
    /// The number of the loop's instruction.
    pub instr: usize,
    /// What holds at its head.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invariants: Vec<Said>,
    /// What falls in every turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// One invariant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Said {
    /// A condition.
    Cond(String),
    /// The packets of a slot come from addresses.
    From {
        /// The slot.
        slot: Slot,
        /// The addresses.
        addrs: String,
    },
    /// The packets of a slot go to addresses.
    To {
        /// The slot.
        slot: Slot,
        /// The addresses.
        addrs: String,
    },
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
    /// What is said of its loops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loops: Vec<Loop>,
}

impl SourceMap {
    pub(crate) fn new(source: &str, text: &str, program: &Program, places: &[Span], hints: &[Hint]) -> SourceMap {
        let place = |span: &Span| {
            let (line, column) = position(text, span.start);
            let text = text[span.clone()].split_whitespace().collect::<Vec<_>>().join(" ");
            Place { line, column, text }
        };
        SourceMap {
            source: source.to_string(),
            program: hex(&program.id()),
            instructions: places.iter().map(place).collect(),
            loops: hints.iter().map(Loop::of).collect(),
        }
    }

    /// The place of instruction `instr`.
    #[must_use]
    pub fn place(&self, instr: usize) -> Option<&Place> {
        self.instructions.get(instr)
    }

    /// What the source says of the loops of `program`; what does not fit it, in a file that was edited, is left out.
    #[must_use]
    pub fn hints(&self, program: &Program) -> Vec<Hint> {
        self.loops.iter().filter_map(|said| said.hint(program)).collect()
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

impl Loop {
    fn of(hint: &Hint) -> Loop {
        let said = |invariant: &Invariant| match invariant {
            Invariant::Cond(cond) => Said::Cond(wire_hex(cond)),
            Invariant::Within { slot, field: Field::Src, addrs } => Said::From { slot: *slot, addrs: wire_hex(addrs) },
            Invariant::Within { slot, field: Field::Dst, addrs } => Said::To { slot: *slot, addrs: wire_hex(addrs) },
        };
        Loop {
            instr: hint.instr,
            invariants: hint.invariants.iter().map(said).collect(),
            variant: hint.variant.as_ref().map(wire_hex),
        }
    }

    fn hint(&self, program: &Program) -> Option<Hint> {
        let within = |slot: Slot, field: Field, addrs: &str| {
            let addrs: AddrExpr = from_hex(addrs)?;
            has(program, slot, Type::Packets)?;
            Some(Invariant::Within { slot, field, addrs })
        };
        let invariant = |said: &Said| match said {
            Said::Cond(text) => {
                let cond: Cond = from_hex(text)?;
                cond_fits(&cond, program)?;
                Some(Invariant::Cond(cond))
            }
            Said::From { slot, addrs } => within(*slot, Field::Src, addrs),
            Said::To { slot, addrs } => within(*slot, Field::Dst, addrs),
        };
        let invariants = self.invariants.iter().map(invariant).collect::<Option<Vec<_>>>()?;
        let variant = match &self.variant {
            Some(text) => {
                let expr: Expr = from_hex(text)?;
                expr_fits(&expr, program)?;
                Some(expr)
            }
            None => None,
        };
        Some(Hint { instr: self.instr, invariants, variant })
    }
}

/// Nothing where the program has no such slot of this type.
fn has(program: &Program, slot: Slot, ty: Type) -> Option<()> {
    (program.slots().get(usize::from(slot)) == Some(&ty)).then_some(())
}

fn cond_fits(cond: &Cond, program: &Program) -> Option<()> {
    match cond {
        Cond::Contains { .. } => None,
        Cond::Empty { arg } => has(program, *arg, Type::Packets),
        Cond::AddrIn { addr, addrs: _ } => has(program, *addr, Type::Addr),
        Cond::AddrIs { addr, is } => {
            has(program, *addr, Type::Addr)?;
            match is {
                AddrTerm::Slot { slot } => has(program, *slot, Type::Addr),
                _ => Some(()),
            }
        }
        Cond::AtMost { a, b } | Cond::Equal { a, b } => {
            expr_fits(a, program)?;
            expr_fits(b, program)
        }
        Cond::Not { cond } => cond_fits(cond, program),
        Cond::And { a, b } | Cond::Or { a, b } => {
            cond_fits(a, program)?;
            cond_fits(b, program)
        }
    }
}

fn expr_fits(expr: &Expr, program: &Program) -> Option<()> {
    match expr {
        Expr::Const { .. } => Some(()),
        Expr::Slot { slot } => has(program, *slot, Type::Int),
        Expr::Add { a, b } | Expr::Sub { a, b } | Expr::Mul { a, b } => {
            expr_fits(a, program)?;
            expr_fits(b, program)
        }
    }
}

fn wire_hex<T: Wire>(item: &T) -> String {
    let mut w = Writer::new();
    item.write(&mut w);
    hex(&w.finish())
}

fn from_hex<T: Wire>(text: &str) -> Option<T> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair.first()?)? << 4 | digit(pair.get(1)?)?) as u8);
    let bytes = digits.chunks(2).map(pair).collect::<Option<Vec<u8>>>()?;
    let mut r = Reader::new(&bytes, NODES_MAX, DEPTH_MAX);
    let item = T::read(&mut r).ok()?;
    r.is_done().then_some(item)
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
