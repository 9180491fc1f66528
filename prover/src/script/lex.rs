//! From text to tokens. Each knows where it stands, in bytes.

use super::error::{Cause, ScriptError, Span};
use std::net::IpAddr;
use vinet_trusted::addr::{Addr, Prefix};

/// The most bytes of a text.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// What a token is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    Name(String),
    Int(i64),
    Addr(Addr),
    Prefix(Prefix),
    /// One of [`MARKS`].
    Mark(&'static str),
    End,
}

impl Token {
    /// How it is called in an error.
    pub fn words(&self) -> String {
        match self {
            Token::Name(name) => format!("`{name}`"),
            Token::Int(value) => format!("`{value}`"),
            Token::Addr(addr) => format!("`{addr}`"),
            Token::Prefix(prefix) => format!("`{prefix}`"),
            Token::Mark(mark) => format!("`{mark}`"),
            Token::End => "the end of the text".into(),
        }
    }
}

/// All marks; where one begins another, the longer one stands first.
const MARKS: [&str; 22] = [
    "<->", "->", "=>", "<=", "!=", "..", "(", ")", "{", "}", "[", "]", ",", ";", ":", ".", "=", "+", "-", "*", "$", "!",
];

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// How many bytes of `text` are a name: letters, digits, `_`, `'`, and a `-` or `.` before a letter.
fn name_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let joins = matches!(byte, b'-' | b'.') && bytes.get(at + 1).is_some_and(|next| next.is_ascii_alphabetic());
        if !(byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'\'' || joins) {
            break;
        }
        at += 1;
    }
    at
}

/// An address or prefix at the beginning of `text`, and its length.
fn address(text: &str) -> Option<(Token, usize)> {
    let end = text.find(|c: char| !c.is_ascii_hexdigit() && c != '.' && c != ':').unwrap_or(text.len());
    let word = text[..end].trim_end_matches(['.', ':']);
    // An address in the short form of IPv6 may end with two colons.
    let word = if text[word.len()..].starts_with("::") { &text[..word.len() + 2] } else { word };
    if word.matches(':').count() < 2 && word.matches('.').count() != 3 {
        return None;
    }
    let addr = Addr::from(word.parse::<IpAddr>().ok()?);
    let rest = text[word.len()..].strip_prefix('/').unwrap_or("");
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    if digits == 0 {
        return Some((Token::Addr(addr), word.len()));
    }
    let prefix = Prefix::new(addr, rest[..digits].parse().ok()?)?;
    Some((Token::Prefix(prefix), word.len() + 1 + digits))
}

/// The tokens of `text`, the last one [`Token::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<(Token, Span)>, ScriptError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ScriptError::new(0..0, Cause::TextTooLong));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let may_be_address = c.is_ascii_hexdigit() || rest.starts_with("::");
        let (token, len) = if let Some(address) = may_be_address.then(|| address(rest)).flatten() {
            address
        } else if c.is_ascii_digit() {
            let len = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let value = rest[..len].parse();
            (Token::Int(value.map_err(|_| ScriptError::new(at..at + len, Cause::IntegerTooLarge))?), len)
        } else if is_name_start(c) {
            let len = name_len(rest);
            (Token::Name(rest[..len].into()), len)
        } else if let Some(mark) = MARKS.iter().find(|mark| rest.starts_with(**mark)) {
            (Token::Mark(mark), mark.len())
        } else {
            return Err(ScriptError::new(at..at + c.len_utf8(), Cause::StrangeCharacter(c)));
        };
        tokens.push((token, at..at + len));
        at += len;
    }
    tokens.push((Token::End, text.len()..text.len()));
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text).unwrap().iter().map(|(token, _)| token.words()).collect()
    }

    #[test]
    fn names_addresses_numbers_and_marks_are_told_apart() {
        let found =
            words("either-left(h, n - 1) // not this\n{192.0.2.0/24, 2001:db8::1, fe80::/10, 80..90} x : A . y");
        let expected = [
            "either-left",
            "(",
            "h",
            ",",
            "n",
            "-",
            "1",
            ")",
            "{",
            "192.0.2.0/24",
            ",",
            "2001:db8::1",
            ",",
            "fe80::/10",
            ",",
            "80",
            "..",
            "90",
            "}",
            "x",
            ":",
            "A",
            ".",
            "y",
        ];
        let expected: Vec<String> = expected.iter().map(|word| format!("`{word}`")).collect();
        assert_eq!(found[..found.len() - 1], expected);
    }

    #[test]
    fn a_strange_character_is_told_with_its_place() {
        assert_eq!(tokens("mp(h, §)").unwrap_err().span, 6..8);
    }
}
