//! Words for people and programs: rejections and events, each with a stable code and one plain line.
//!
//! Holding a [`Rejection`] or an [`Event`] proves that its code has letters, digits, `-` and `_` alone and that its text
//! is one line without control characters, within their limits: it can be printed and logged as it is, whoever wrote it.

use crate::cbor::{Canonical, Malformed, Reader, Writer};
use crate::limits::{CODE_BYTES_MAX, TEXT_BYTES_MAX};
use std::fmt;

/// Why a request was not granted. Its text is one line without control characters, whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    code: String,
    text: String,
    instr: Option<u32>,
}

impl Rejection {
    /// A rejection with a short stable `code` of letters, digits, `-` and `_`, a `text` for people, and the number of the
    /// instruction that it is about. What does not fit is cut or replaced.
    #[must_use]
    pub fn new(code: &str, text: &str, instr: Option<u32>) -> Rejection {
        Rejection { code: code_of(code), text: line_of(text, TEXT_BYTES_MAX), instr }
    }
    /// The short stable name of the reason.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }
    /// The reason in words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
    /// The number of the instruction that it is about.
    #[must_use]
    pub const fn instr(&self) -> Option<u32> {
        self.instr
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Canonical for Rejection {
    fn write(&self, w: &mut Writer) {
        w.array(3).text(&self.code).text(&self.text);
        match self.instr {
            None => w.null(),
            Some(instr) => w.uint(u64::from(instr)),
        };
    }
    fn read(r: &mut Reader<'_>) -> Result<Rejection, Malformed> {
        const EXPECTED: &str = "a rejection: [code, one line of text, the number of an instruction or null]";
        let malformed = r.malformed(EXPECTED);
        r.array(3, EXPECTED)?;
        let code = r.text(CODE_BYTES_MAX, EXPECTED)?;
        let text = r.text(TEXT_BYTES_MAX, EXPECTED)?;
        if !is_code(code) || !is_line(text) {
            return Err(malformed);
        }
        let instr = if r.null() { None } else { Some(r.u32(EXPECTED)?) };
        Ok(Rejection { code: code.to_owned(), text: text.to_owned(), instr })
    }
}

/// Something that happened to an owner's programs or account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number at its router for this owner, rising.
    pub number: u64,
    /// The Unix second at which it happened.
    pub at_s: u64,
    code: String,
    text: String,
}

impl Event {
    /// An event with a short stable `code` of letters, digits, `-` and `_`, and a `text` for people. What does not fit is
    /// cut or replaced.
    #[must_use]
    pub fn new(number: u64, at_s: u64, code: &str, text: &str) -> Event {
        Event { number, at_s, code: code_of(code), text: line_of(text, TEXT_BYTES_MAX) }
    }
    /// The short stable name of what happened.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }
    /// What happened, in words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Canonical for Event {
    fn write(&self, w: &mut Writer) {
        w.array(4).uint(self.number).uint(self.at_s).text(&self.code).text(&self.text);
    }
    fn read(r: &mut Reader<'_>) -> Result<Event, Malformed> {
        const EXPECTED: &str = "an event: [number, second, code, one line of text]";
        let malformed = r.malformed(EXPECTED);
        r.array(4, EXPECTED)?;
        let (number, at_s) = (r.u64(EXPECTED)?, r.u64(EXPECTED)?);
        let code = r.text(CODE_BYTES_MAX, EXPECTED)?;
        let text = r.text(TEXT_BYTES_MAX, EXPECTED)?;
        if !is_code(code) || !is_line(text) {
            return Err(malformed);
        }
        Ok(Event { number, at_s, code: code.to_owned(), text: text.to_owned() })
    }
}

const fn of_code(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

pub(crate) fn is_code(text: &str) -> bool {
    text.chars().all(of_code)
}

pub(crate) fn is_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// What of `text` may stand in a code.
pub(crate) fn code_of(text: &str) -> String {
    text.chars().filter(|&c| of_code(c)).take(CODE_BYTES_MAX).collect()
}

/// `text` as one line of at most `bytes_max` bytes.
pub(crate) fn line_of(text: &str, bytes_max: usize) -> String {
    let mut line = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > bytes_max {
            break;
        }
        line.push(c);
    }
    line
}
