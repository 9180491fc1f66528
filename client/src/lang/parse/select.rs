//! The grammar of tests: what a SELECT asks of each packet.
//!
//! The names of numbers, flags and protocols have their meaning here only; elsewhere they are free for variables.

use super::{Parsed, Parser};
use crate::lang::ast::{NumberRange, NumberTerm, Test};
use crate::lang::error::{Cause, Located, nearest};
use crate::lang::token::{Keyword, Token};
use vinet_trusted::packet::{Field, Number, Packet};

/// What a SELECT can ask for, in any case; the flags are numbers as well.
const NUMBERS: &[(&str, Number)] = &[
    ("protocol", Number::Protocol),
    ("srcport", Number::SrcPort),
    ("dstport", Number::DstPort),
    ("length", Number::Length),
    ("fin", Number::Fin),
    ("syn", Number::Syn),
    ("rst", Number::Rst),
    ("psh", Number::Psh),
    ("ack", Number::Ack),
    ("urg", Number::Urg),
];

/// The protocols that have names.
const PROTOCOLS: &[(&str, u32)] = &[("tcp", 6), ("udp", 17), ("icmp", 1), ("icmp6", 58)];

/// What stands for `name` in a table of words that have a meaning in one place only.
fn known<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(text, _)| text.eq_ignore_ascii_case(name)).map(|&(_, value)| value)
}

/// The name of a number, as SELECT writes it.
pub(crate) fn number_name(number: Number) -> &'static str {
    NUMBERS.iter().find(|&&(_, known)| known == number).map_or("", |&(text, _)| text)
}

/// Whether a number is a flag, whose bare name asks whether it is set.
pub(crate) const fn is_flag(number: Number) -> bool {
    !matches!(number, Number::Protocol | Number::SrcPort | Number::DstPort | Number::Length)
}

impl Parser {
    pub(super) fn test(&mut self) -> Parsed<Test> {
        self.test_joined(Keyword::Or, Test::Any, |parser| parser.test_joined(Keyword::And, Test::All, Parser::test_not))
    }

    fn test_joined(
        &mut self,
        keyword: Keyword,
        join: fn(Vec<Test>) -> Test,
        part: fn(&mut Parser) -> Parsed<Test>,
    ) -> Parsed<Test> {
        let mut parts = self.joined(keyword, part)?;
        Ok(if parts.len() == 1 { parts.remove(0) } else { join(parts) })
    }

    fn test_not(&mut self) -> Parsed<Test> {
        self.nested(|parser| {
            if parser.accept(&Token::Keyword(Keyword::Not)) {
                return Ok(Test::Not(Box::new(parser.test_not()?)));
            }
            if parser.accept(&Token::Sign("(")) {
                let inner = parser.test()?;
                parser.sign(")", "`)`, `and` or `or` in the test")?;
                return Ok(inner);
            }
            parser.test_here()
        })
    }

    fn test_here(&mut self) -> Parsed<Test> {
        self.node()?;
        let span = self.span();
        let Token::Name(name) = self.peek().clone() else {
            return Err(self.unexpected("protocol, srcport, dstport, length, src, dst, a TCP flag, `not` or `(`"));
        };
        self.next();
        let is = |word: &str| name.eq_ignore_ascii_case(word);
        if is("true") || is("false") {
            return Ok(Test::Constant(is("true")));
        }
        if is("owns") {
            self.sign("(", "`(` behind owns")?;
            let field = self.field()?;
            self.sign(")", "`)` behind the address")?;
            return Ok(Test::Owns(field));
        }
        if is("src") || is("dst") {
            let field = if is("src") { Field::Src } else { Field::Dst };
            let negated = self.equality("`=`, `!=`, `in` or `not in` behind the address")?;
            return Ok(Test::Member { field, addrs: self.addrs()?, negated });
        }
        let Some(number) = known(NUMBERS, &name) else {
            let names = NUMBERS.iter().map(|&(text, _)| text).chain(["src", "dst", "owns", "true", "false"]);
            let cause = Cause::UnknownTest { nearest: nearest(&name, names), name };
            return Err(Located::new(span, cause));
        };
        let names: &[_] = if number == Number::Protocol { PROTOCOLS } else { &[] };
        match self.peek() {
            Token::Sign("<" | "<=" | ">" | ">=") => {
                let Some(order) = self.order() else { return Err(self.unexpected("a comparison")) };
                let value = self.number_term(names)?;
                Ok(Test::Compare { number, order, value, span: span.start..self.end() })
            }
            Token::Sign("=" | "!=") | Token::Keyword(Keyword::In | Keyword::Not) => {
                let negated = self.equality("`=`, `!=`, `in` or `not in` behind the name")?;
                let values = self.number_set(names)?;
                Ok(Test::Among { number, values, negated, span: span.start..self.end() })
            }
            _ if is_flag(number) => {
                let values = vec![NumberRange { first: NumberTerm::Literal(1), last: None, span: span.clone() }];
                Ok(Test::Among { number, values, negated: false, span })
            }
            _ => Err(self.unexpected("a comparison: = != < <= > >= in, not in")),
        }
    }

    /// `=`, `in` or, as true, `!=`, `not in`.
    fn equality(&mut self, expected: &'static str) -> Parsed<bool> {
        let negated = match self.peek() {
            Token::Sign("=") | Token::Keyword(Keyword::In) => false,
            Token::Sign("!=") => true,
            Token::Keyword(Keyword::Not) if self.peek_behind() == &Token::Keyword(Keyword::In) => {
                self.next();
                true
            }
            _ => return Err(self.unexpected(expected)),
        };
        self.next();
        Ok(negated)
    }

    fn field(&mut self) -> Parsed<Field> {
        if self.accept_word("src") {
            Ok(Field::Src)
        } else if self.accept_word("dst") {
            Ok(Field::Dst)
        } else {
            Err(self.unexpected("src or dst"))
        }
    }

    /// One number or range, or several in braces.
    pub(super) fn number_set(&mut self, names: &[(&str, u32)]) -> Parsed<Vec<NumberRange>> {
        if !self.accept(&Token::Sign("{")) {
            return Ok(vec![self.number_range(names)?]);
        }
        let mut ranges = vec![self.number_range(names)?];
        while self.accept(&Token::Sign(",")) {
            ranges.push(self.number_range(names)?);
        }
        self.sign("}", "`,` or `}` in the set of numbers")?;
        Ok(ranges)
    }

    fn number_range(&mut self, names: &[(&str, u32)]) -> Parsed<NumberRange> {
        let start = self.span().start;
        let first = self.number_term(names)?;
        let last = if self.accept(&Token::Sign("..")) { Some(self.number_term(names)?) } else { None };
        Ok(NumberRange { first, last, span: start..self.end() })
    }

    fn number_term(&mut self, names: &[(&str, u32)]) -> Parsed<NumberTerm> {
        let span = self.span();
        let term = match self.peek() {
            Token::Number(number) => {
                let fits = u32::try_from(*number).ok().filter(|&number| number < Packet::ABSENT);
                NumberTerm::Literal(fits.ok_or_else(|| Located::new(span, Cause::NumberTooLarge(number.to_string())))?)
            }
            Token::Name(name) => match known(names, name) {
                Some(number) => NumberTerm::Literal(number),
                None => NumberTerm::Name(name.clone(), span),
            },
            _ => return Err(self.unexpected("a number, a range like 80..90, a set in braces or a parameter")),
        };
        self.next();
        Ok(term)
    }
}
