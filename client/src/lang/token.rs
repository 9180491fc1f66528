//! Tokens: what a source text is made of, each with its place.
//!
//! Reading is total: any text gives tokens or the place of the first character that fits nowhere.

use super::error::{Cause, Located};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use vinet_trusted::addr::{Addr, Prefix};

/// A place in a text: bytes from and to.
pub type Span = Range<usize>;

/// A word with a meaning of its own, in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keyword {
    Lifetime,
    Window,
    Foreach,
    While,
    Do,
    If,
    Then,
    Else,
    Begin,
    End,
    And,
    Or,
    Not,
    In,
    ThisIp,
    ThisSubnetIp,
    GroupBySource,
    GroupByDestination,
    GroupByContent,
    Select,
    Discard,
    Generate,
    ContainsString,
    CountString,
    Size,
    Score,
    Fold,
    Empty,
    Union,
    Minus,
    Offset,
}

/// The keywords that cannot be names, as they are written in messages.
pub(crate) const KEYWORDS: &[(&str, Keyword)] = &[
    ("LIFETIME", Keyword::Lifetime),
    ("WINDOW", Keyword::Window),
    ("foreach", Keyword::Foreach),
    ("while", Keyword::While),
    ("do", Keyword::Do),
    ("if", Keyword::If),
    ("then", Keyword::Then),
    ("else", Keyword::Else),
    ("begin", Keyword::Begin),
    ("end", Keyword::End),
    ("and", Keyword::And),
    ("or", Keyword::Or),
    ("not", Keyword::Not),
    ("in", Keyword::In),
    ("THIS_IP", Keyword::ThisIp),
    ("THIS_SUBNET_IP", Keyword::ThisSubnetIp),
    ("GROUP_BY_SOURCE", Keyword::GroupBySource),
    ("GROUP_BY_DESTINATION", Keyword::GroupByDestination),
    ("GROUP_BY_CONTENT", Keyword::GroupByContent),
    ("SELECT", Keyword::Select),
    ("DISCARD", Keyword::Discard),
    ("GENERATE", Keyword::Generate),
    ("CONTAINS_STRING", Keyword::ContainsString),
    ("COUNT_STRING", Keyword::CountString),
];

/// Routines whose names are free for variables: they are keywords only before a parenthesis.
pub(crate) const CALLED: &[(&str, Keyword)] = &[
    ("SIZE", Keyword::Size),
    ("SCORE", Keyword::Score),
    ("FOLD", Keyword::Fold),
    ("EMPTY", Keyword::Empty),
    ("UNION", Keyword::Union),
    ("MINUS", Keyword::Minus),
    ("OFFSET", Keyword::Offset),
];

/// The names of all routines.
pub(crate) fn routines() -> impl Iterator<Item = &'static str> {
    let all = KEYWORDS.iter().skip_while(|&&(_, keyword)| keyword != Keyword::GroupBySource).chain(CALLED);
    all.map(|&(text, _)| text)
}

impl Keyword {
    fn of(name: &str, known: &[(&str, Keyword)]) -> Option<Keyword> {
        known.iter().find(|(text, _)| text.eq_ignore_ascii_case(name)).map(|&(_, keyword)| keyword)
    }
    /// As messages write it.
    pub(crate) fn text(self) -> &'static str {
        KEYWORDS.iter().chain(CALLED).find(|&&(_, keyword)| keyword == self).map_or("", |&(text, _)| text)
    }
}

/// One token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    Name(String),
    Keyword(Keyword),
    Number(u64),
    /// An address or a prefix, as it stands in the text.
    Prefix(Prefix),
    /// A string, its escapes resolved.
    Text(Vec<u8>),
    Sign(&'static str),
    /// Behind the last one.
    EndOfText,
}

/// A token, its place, and whether it is the first of its line.
#[derive(Clone, Debug)]
pub(crate) struct Spanned {
    pub(crate) token: Token,
    pub(crate) span: Span,
    pub(crate) starts_line: bool,
}

/// A comment, without the line break behind it.
#[derive(Clone, Debug)]
pub(crate) struct Comment {
    pub(crate) span: Span,
    /// Nothing but blanks stands before it on its line.
    pub(crate) starts_line: bool,
}

/// The signs, longer ones first.
const SIGNS: &[&str] = &["!=", "<=", ">=", "..", "<", ">", "(", ")", "{", "}", ",", ";", "=", "+", "-", "*"];

/// The tokens of `text`, ending in [`Token::EndOfText`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Spanned>, Located> {
    scan(text).map(|(tokens, _)| tokens)
}

/// The tokens of `text`, ending in [`Token::EndOfText`], and its comments.
pub(crate) fn scan(text: &str) -> Result<(Vec<Spanned>, Vec<Comment>), Located> {
    let mut out: Vec<Spanned> = Vec::new();
    let mut comments = Vec::new();
    let mut at = 0;
    let mut starts_line = true;
    while let Some(c) = text[at..].chars().next() {
        if c == '\n' {
            starts_line = true;
            at += 1;
            continue;
        }
        if c.is_whitespace() || (at == 0 && c == '\u{feff}') {
            at += c.len_utf8();
            continue;
        }
        if c == '#' || text[at..].starts_with("//") {
            let end = at + text[at..].find('\n').unwrap_or(text.len() - at);
            comments.push(Comment { span: at..end, starts_line });
            at = end;
            continue;
        }
        let (token, len) = token(text, at)?;
        if token == Token::Sign("(")
            && let Some(Spanned { token: before, .. }) = out.last_mut()
            && let Token::Name(name) = before
            && let Some(keyword) = Keyword::of(name, CALLED)
        {
            *before = Token::Keyword(keyword);
        }
        out.push(Spanned { token, span: at..at + len, starts_line });
        starts_line = false;
        at += len;
    }
    out.push(Spanned { token: Token::EndOfText, span: text.len()..text.len(), starts_line });
    Ok((out, comments))
}

/// The token at `at`, and its length in bytes.
fn token(text: &str, at: usize) -> Result<(Token, usize), Located> {
    let rest = &text[at..];
    if let Some(body) = rest.strip_prefix('"') {
        return string(body, at + 1).map(|(bytes, len)| (Token::Text(bytes), len + 2));
    }
    let run = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_.:".contains(c))).unwrap_or(rest.len());
    let first = rest.chars().next().unwrap_or(' ');
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let range = digits > 0 && rest[digits..].starts_with("..");
    if !range && (rest[..run].contains(':') || (first.is_ascii_digit() && rest[..run].contains('.'))) {
        return address(rest, run, at);
    }
    if first.is_ascii_digit() {
        let number = rest[..digits]
            .parse()
            .map_err(|_| Located::new(at..at + digits, Cause::NumberTooLarge(rest[..digits].to_string())))?;
        return Ok((Token::Number(number), digits));
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let name = &rest[..len];
        return Ok((Keyword::of(name, KEYWORDS).map_or_else(|| Token::Name(name.to_string()), Token::Keyword), len));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) => Ok((Token::Sign(sign), sign.len())),
        None => Err(Located::new(at..at + first.len_utf8(), Cause::UnknownCharacter(first))),
    }
}

/// The address or prefix whose address part is the first `run` bytes of `rest`.
fn address(rest: &str, run: usize, at: usize) -> Result<(Token, usize), Located> {
    let digits = rest[run..]
        .strip_prefix('/')
        .map_or(0, |tail| 1 + tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len()));
    // A slash with no digit behind is the start of a comment or a mistake; the address ends before it.
    let len = if digits > 1 { run + digits } else { run };
    let prefix = prefix(&rest[..len]).map_err(|cause| Located::new(at..at + len, cause))?;
    Ok((Token::Prefix(prefix), len))
}

/// The address or prefix that `text` writes.
pub(crate) fn prefix(text: &str) -> Result<Prefix, Cause> {
    let (addr, len) = match text.split_once('/') {
        Some((addr, len)) => (addr, Some(len)),
        None => (text, None),
    };
    let ip = if addr.contains(':') {
        addr.parse::<Ipv6Addr>().map(IpAddr::V6)
    } else {
        addr.parse::<Ipv4Addr>().map(IpAddr::V4)
    };
    let addr: Addr = ip.map_err(|_| Cause::NotAnAddress(addr.to_string()))?.into();
    let Some(len_text) = len else { return Ok(Prefix::host(addr)) };
    let len = len_text
        .parse::<u8>()
        .ok()
        .filter(|&len| len <= addr.width())
        .ok_or_else(|| Cause::PrefixLength { written: len_text.to_string(), width: addr.width() })?;
    match (Prefix::new(addr, len), Prefix::of(addr, len)) {
        (Some(prefix), _) => Ok(prefix),
        (None, Some(network)) => Err(Cause::HostBits { written: text.to_string(), network }),
        (None, None) => Err(Cause::PrefixLength { written: len_text.to_string(), width: addr.width() }),
    }
}

/// The bytes of the string whose body starts at `start` of the text, and the length of the body as written.
pub(crate) fn string(body: &str, start: usize) -> Result<(Vec<u8>, usize), Located> {
    let mut bytes = Vec::new();
    let mut chars = body.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((bytes, i)),
            '\n' => break,
            '\\' => {
                let escape = chars.next().map(|(_, c)| c);
                match escape {
                    Some('n') => bytes.push(b'\n'),
                    Some('r') => bytes.push(b'\r'),
                    Some('t') => bytes.push(b'\t'),
                    Some('\\') => bytes.push(b'\\'),
                    Some('"') => bytes.push(b'"'),
                    Some('x') => {
                        let hex = body.get(i + 2..i + 4).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
                        let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
                            return Err(Located::new(start + i..start + i + 2, Cause::BadEscape("\\x".to_string())));
                        };
                        bytes.push(byte);
                        chars.nth(1);
                    }
                    Some('\n') | None => break,
                    Some(other) => {
                        let end = start + i + 1 + other.len_utf8();
                        return Err(Located::new(start + i..end, Cause::BadEscape(format!("\\{other}"))));
                    }
                }
            }
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err(Located::new(start - 1..start, Cause::UnclosedString))
}

/// `word` as a string literal that the compiler reads back as the same bytes.
#[must_use]
pub fn quoted(word: &[u8]) -> String {
    let mut out = String::from("\"");
    for &byte in word {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            b'"' => out.push_str("\\\""),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}
