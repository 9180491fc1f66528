//! The parser: recursive descent over the tokens, with a bound on its depth.
//!
//! Parsing is total: it returns the tree or the first place where the text leaves the grammar of `docs/LANGUAGE.md`.

mod conditions;
mod integers;
mod operands;
mod select;
mod statements;

pub(crate) use select::{is_flag, number_name};

use super::ast::{Addrs, NumberRange, Source};
use super::error::{Cause, Located, PARSE_DEPTH_MAX, nearest};
use super::lifetime;
use super::token::{Keyword, Span, Spanned, Token, quoted, tokens};
use vinet_trusted::program::{NODES_MAX, WINDOW_MAX};

type Parsed<T> = Result<T, Located>;

/// The tree of a source text.
pub(crate) fn source(text: &str) -> Parsed<Source> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, nodes: 0 };
    parser.source()
}

/// The addresses that a text of its own writes: a parameter's value.
pub(crate) fn addrs(text: &str) -> Parsed<Addrs> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, nodes: 0 };
    let mut all = parser.addrs()?;
    // A list may go without its braces on a command line.
    while parser.accept(&Token::Sign(",")) {
        let more = parser.addrs()?;
        all.span.end = more.span.end;
        all.terms.extend(more.terms);
    }
    if parser.peek() != &Token::EndOfText {
        return Err(Located::new(parser.span(), Cause::SetValueRest));
    }
    Ok(all)
}

/// The numbers that a text of its own writes: a parameter's value.
pub(crate) fn numbers(text: &str) -> Parsed<Vec<NumberRange>> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, nodes: 0 };
    let mut all = parser.number_set(&[])?;
    while parser.accept(&Token::Sign(",")) {
        all.extend(parser.number_set(&[])?);
    }
    if parser.peek() != &Token::EndOfText {
        return Err(Located::new(parser.span(), Cause::SetValueRest));
    }
    Ok(all)
}

struct Parser {
    /// Never empty: the last is EndOfText, and `at` never goes beyond it.
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
    /// The statements and tests so far.
    nodes: usize,
}

impl Parser {
    fn here(&self) -> &Spanned {
        &self.tokens[self.at]
    }
    fn peek(&self) -> &Token {
        &self.here().token
    }
    fn peek_behind(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].token
    }
    fn span(&self) -> Span {
        self.here().span.clone()
    }
    /// The end of what was read last.
    fn end(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |last| self.tokens[last].span.end)
    }
    fn next(&mut self) -> Spanned {
        let token = self.here().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }
    fn accept(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        if found {
            self.next();
        }
        found
    }
    fn unexpected(&self, expected: &'static str) -> Located {
        self.unexpected_near(expected, &[])
    }
    /// What stands here, where one of `keywords` could have been meant.
    fn unexpected_near(&self, expected: &'static str, keywords: &[Keyword]) -> Located {
        let (found, near) = match self.peek() {
            Token::Name(name) => (format!("`{name}`"), nearest(name, keywords.iter().map(|keyword| keyword.text()))),
            Token::Keyword(keyword) => (format!("`{}`", keyword.text()), None),
            Token::Number(number) => (format!("the number {number}"), None),
            Token::Prefix(prefix) => (format!("the address {prefix}"), None),
            Token::Text(bytes) => (format!("the string {}", quoted(bytes)), None),
            Token::Sign(sign) => (format!("`{sign}`"), None),
            Token::EndOfText => ("the end of the text".to_string(), None),
        };
        Located::new(self.span(), Cause::Unexpected { found, expected, nearest: near })
    }
    fn sign(&mut self, sign: &'static str, expected: &'static str) -> Parsed<()> {
        if self.accept(&Token::Sign(sign)) { Ok(()) } else { Err(self.unexpected(expected)) }
    }
    fn keyword(&mut self, keyword: Keyword, expected: &'static str) -> Parsed<()> {
        if self.accept(&Token::Keyword(keyword)) { Ok(()) } else { Err(self.unexpected_near(expected, &[keyword])) }
    }
    fn semicolon(&mut self, after: &'static str) -> Parsed<()> {
        if self.accept(&Token::Sign(";")) {
            return Ok(());
        }
        let end = self.end();
        Err(Located::new(end..end, Cause::MissingSemicolon { after }))
    }
    /// Counts a statement or test. Far more than a program may have are not read to their end.
    fn node(&mut self) -> Parsed<()> {
        self.nodes += 1;
        if self.nodes > 4 * NODES_MAX {
            return Err(Located::new(self.span(), Cause::TooManyNodes));
        }
        Ok(())
    }
    fn nested<T>(&mut self, part: impl FnOnce(&mut Parser) -> Parsed<T>) -> Parsed<T> {
        if self.depth == PARSE_DEPTH_MAX {
            return Err(Located::new(self.span(), Cause::TooDeeplyWritten));
        }
        self.depth += 1;
        let parsed = part(self);
        self.depth -= 1;
        parsed
    }

    fn source(&mut self) -> Parsed<Source> {
        let mut lifetime = None;
        let mut window = None;
        let mut body = Vec::new();
        loop {
            match self.peek() {
                Token::EndOfText => break,
                Token::Keyword(Keyword::Lifetime) => {
                    let clause = self.lifetime()?;
                    if let Some((_, first)) = lifetime {
                        return Err(Located::new(clause.1, Cause::LifetimeTwice).with(first, "first here"));
                    }
                    lifetime = Some(clause);
                }
                Token::Keyword(Keyword::Window) => {
                    let clause = self.window()?;
                    if let Some((_, first)) = window {
                        return Err(Located::new(clause.1, Cause::ClauseTwice("WINDOW")).with(first, "first here"));
                    }
                    window = Some(clause);
                }
                _ => body.push(self.stmt()?),
            }
        }
        let lifetime_s = lifetime.ok_or_else(|| Located::new(0..0, Cause::LifetimeMissing))?;
        Ok(Source { lifetime_s, window: window.map(|(packets, _)| packets), body })
    }

    fn lifetime(&mut self) -> Parsed<(u32, Span)> {
        let start = self.next().span.start;
        self.sign("=", "`=` behind LIFETIME")?;
        let number = self.span();
        let &Token::Number(count) = self.peek() else {
            return Err(self.unexpected("a number and a unit, like 2 days"));
        };
        self.next();
        let unit_span = self.span();
        let Token::Name(unit) = self.peek() else {
            return Err(self.unexpected("a unit of time: seconds, minutes, hours, days or weeks"));
        };
        let seconds = lifetime::seconds(count, unit).map_err(|cause| {
            let place = if matches!(cause, Cause::UnknownUnit { .. }) { unit_span } else { number };
            Located::new(place, cause)
        })?;
        self.next();
        let end = self.end();
        self.end_of_clause("`;` or the end of the line behind the LIFETIME")?;
        Ok((seconds, start..end))
    }

    fn window(&mut self) -> Parsed<(u16, Span)> {
        let start = self.next().span.start;
        self.sign("=", "`=` behind WINDOW")?;
        let number = self.span();
        let packets = match *self.peek() {
            Token::Number(count) => {
                self.next();
                if !self.accept_word("packets") && !self.accept_word("packet") {
                    return Err(self.unexpected("`packets` behind the number"));
                }
                let packets = u16::try_from(count).ok().filter(|count| (1..=WINDOW_MAX).contains(count));
                packets.ok_or_else(|| Located::new(number, Cause::WindowRange { count }))?
            }
            // As many as the policy has.
            _ if self.is_word("policy") => {
                self.next();
                0
            }
            _ => return Err(self.unexpected("a number of packets, like 8 packets, or `policy`")),
        };
        let end = self.end();
        self.end_of_clause("`;` or the end of the line behind the WINDOW")?;
        Ok((packets, start..end))
    }

    /// A semicolon or the end of the line.
    fn end_of_clause(&mut self, expected: &'static str) -> Parsed<()> {
        let ends_line = self.here().starts_line || self.peek() == &Token::EndOfText;
        if self.accept(&Token::Sign(";")) || ends_line { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    /// Whether a word stands here that has a meaning in this place only.
    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Name(name) if name.eq_ignore_ascii_case(word))
    }
    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.next();
        }
        found
    }

    /// Parts joined by a word, at least one.
    fn joined<T>(&mut self, keyword: Keyword, part: fn(&mut Parser) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut parts = vec![part(self)?];
        while self.accept(&Token::Keyword(keyword)) {
            parts.push(part(self)?);
        }
        Ok(parts)
    }
}
