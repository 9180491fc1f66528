//! The text of formulas: `owns(dst)`, `src in {192.0.2.0/24, self}`, `owns(dst) and not (protocol = tcp and dstport = 443)`.
//!
//! ```text
//! formula  = conj { "or" conj }
//! conj     = unary { "and" unary }
//! unary    = "not" unary | "(" formula ")" | "true" | "false" | name
//!          | "owns" "(" field ")" | field is set | number is numbers | flag [ is numbers ]
//! field    = "src" | "dst"
//! number   = "protocol" | "srcport" | "dstport" | "length"
//! flag     = "fin" | "syn" | "rst" | "psh" | "ack" | "urg"
//! is       = "=" | "!=" | "in"
//! set      = item | "{" item { "," item } "}"
//! item     = "self" | "subnet" | address | prefix
//! numbers  = range | "{" range { "," range } "}"
//! range    = integer | integer ".." integer | "icmp" | "tcp" | "udp" | "icmpv6"
//! ```
//!
//! `not` binds closer than `and`, and `and` closer than `or`; equals associate to the left. `self` is the owner's own
//! address and `subnet` an edge router's prefix. A flag alone says that it is set. `x != y` is `not x = y`, and so holds
//! of packets that have no x. The names of protocols stand for their numbers, behind `protocol` only; a range is written
//! without spaces and holds both ends. A name stands for another formula ([`Definitions`]). What [`print()`] writes,
//! [`parse`] reads as the same formula.

mod definitions;

pub use definitions::{DEFINITIONS_MAX, DefinitionError, Definitions};

use crate::text::nearest;
use std::fmt;
use std::net::IpAddr;
use vinet_trusted::addr::{Prefix, PrefixSet};
use vinet_trusted::packet::{Number, Packet, RANGES_MAX, Ranges, Test};
use vinet_trusted::policy::{FORMULA_DEPTH_MAX, FORMULA_NODES_MAX};
use vinet_trusted::program::{AddrExpr, Field, PREFIXES_MAX};
use vinet_trusted::wire::{Reader, Wire, WireError, Writer};

const WORDS: &[&str] = &[
    "ack", "and", "dst", "dstport", "false", "fin", "icmp", "icmpv6", "in", "length", "not", "or", "owns", "protocol",
    "psh", "rst", "self", "src", "srcport", "subnet", "syn", "tcp", "true", "udp", "urg",
];
/// The protocols that have names here (the numbers are IANA's).
const PROTOCOLS: [(&str, u32); 4] = [("icmp", 1), ("tcp", 6), ("udp", 17), ("icmpv6", 58)];

/// Why a text is no formula.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormulaError {
    /// The byte of the text at which it shows.
    pub at: usize,
    /// What stands there; empty at the end of the text.
    pub found: String,
    /// What was expected.
    pub expected: &'static str,
    /// The nearest word of the language, or name.
    pub hint: Option<String>,
}

impl fmt::Display for FormulaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in the formula, at character {}: expected {}, found ", self.at + 1, self.expected)?;
        if self.found.is_empty() {
            write!(f, "the end")?;
        } else {
            write!(f, "`{}`", self.found)?;
        }
        match &self.hint {
            Some(hint) => write!(f, " (did you mean `{hint}`?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FormulaError {}

/// The formula of `text`, which uses no names.
///
/// # Errors
/// The first place that does not fit.
pub fn parse(text: &str) -> Result<Test, FormulaError> {
    parse_with(text, &Definitions::default())
}

/// The formula of `text`, with what `names` have in the place of each.
///
/// # Errors
/// The first place that does not fit.
pub fn parse_with(text: &str, names: &Definitions) -> Result<Test, FormulaError> {
    let mut parser = Parser { text, at: 0, nodes: 0, names };
    let formula = parser.formula(0)?;
    if !parser.peek().1.is_empty() {
        return Err(parser.unexpected("`and`, `or` or the end"));
    }
    // What counts is the nesting of the encoding, in which a chain of equals nests to the left, however flat it looks.
    let mut w = Writer::new();
    formula.write(&mut w);
    match Test::read(&mut Reader::new(&w.finish(), FORMULA_NODES_MAX, FORMULA_DEPTH_MAX)) {
        Err(WireError::TooDeep) => {
            Err(parser.unexpected("a formula that nests less deeply (many addresses fit into one set: `dst in {…}`)"))
        }
        Err(_) => Err(parser.unexpected("a formula within the limits of depth and size")),
        Ok(_) => Ok(formula),
    }
}

/// How many parts `formula` has, at least.
fn nodes(formula: &Test) -> usize {
    match formula {
        Test::Not { a } => 1 + nodes(a),
        Test::And { a, b } | Test::Or { a, b } => 1 + nodes(a) + nodes(b),
        _ => 1,
    }
}

/// The text of `formula`, with no more parentheses than it needs. A formula of a policy has no slots; one of a program,
/// which may have, is printed with theirs as `slot N`, which [`parse`] does not read.
#[must_use]
pub fn print(formula: &Test) -> String {
    let mut out = String::new();
    write_formula(&mut out, formula, 0);
    out
}

/// How closely a formula binds: 0 for `or`, 1 for `and`, 2 for the rest.
const fn strength(formula: &Test) -> u8 {
    match formula {
        Test::Or { .. } => 0,
        Test::And { .. } => 1,
        _ => 2,
    }
}

fn write_formula(out: &mut String, formula: &Test, least: u8) {
    let in_parentheses = strength(formula) < least;
    if in_parentheses {
        out.push('(');
    }
    match formula {
        Test::True => out.push_str("true"),
        Test::False => out.push_str("false"),
        Test::Owns { field } => {
            out.push_str("owns(");
            out.push_str(field_name(*field));
            out.push(')');
        }
        Test::In { field, addrs } => {
            out.push_str(field_name(*field));
            out.push_str(" in ");
            write_list(out, &set_items(addrs));
        }
        Test::Is { field, slot } => {
            out.push_str(field_name(*field));
            out.push_str(&format!(" = slot {slot}"));
        }
        Test::Number { number, ranges } => {
            out.push_str(number_name(*number));
            if !(is_flag(*number) && ranges.ranges() == [(1, 1)]) {
                out.push_str(" in ");
                write_list(out, &ranges.ranges().iter().map(|&range| range_text(*number, range)).collect::<Vec<_>>());
            }
        }
        Test::Not { a } => {
            out.push_str("not ");
            write_formula(out, a, 2);
        }
        Test::And { a, b } | Test::Or { a, b } => {
            let strength = strength(formula);
            write_formula(out, a, strength);
            out.push_str(if strength == 1 { " and " } else { " or " });
            // The right side of an equal needs parentheses, because equals are read from the left.
            write_formula(out, b, strength + 1);
        }
    }
    if in_parentheses {
        out.push(')');
    }
}

const fn field_name(field: Field) -> &'static str {
    match field {
        Field::Src => "src",
        Field::Dst => "dst",
    }
}

const fn number_name(number: Number) -> &'static str {
    match number {
        Number::Protocol => "protocol",
        Number::SrcPort => "srcport",
        Number::DstPort => "dstport",
        Number::Length => "length",
        Number::Fin => "fin",
        Number::Syn => "syn",
        Number::Rst => "rst",
        Number::Psh => "psh",
        Number::Ack => "ack",
        Number::Urg => "urg",
    }
}

const fn is_flag(number: Number) -> bool {
    !matches!(number, Number::Protocol | Number::SrcPort | Number::DstPort | Number::Length)
}

fn range_text(number: Number, (first, last): (u32, u32)) -> String {
    if first != last {
        return format!("{first}..{last}");
    }
    match PROTOCOLS.iter().find(|(_, value)| number == Number::Protocol && *value == first) {
        Some((name, _)) => (*name).to_owned(),
        None => first.to_string(),
    }
}

fn set_items(addrs: &AddrExpr) -> Vec<String> {
    let names = [(addrs.this_ip, "self"), (addrs.this_subnet, "subnet")];
    let names = names.iter().filter(|(is_in, _)| *is_in).map(|(_, name)| (*name).to_owned());
    names.chain(addrs.prefixes.prefixes().iter().map(Prefix::to_string)).collect()
}

fn write_list(out: &mut String, items: &[String]) {
    match items {
        [one] => out.push_str(one),
        _ => {
            out.push('{');
            out.push_str(&items.join(", "));
            out.push('}');
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
    names: &'a Definitions,
}

impl<'a> Parser<'a> {
    /// Where the next word or sign starts, and what it is; empty at the end.
    fn peek(&self) -> (usize, &'a str) {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        let is_word = |c: char| c.is_alphanumeric() || ":./_-".contains(c);
        let len = match rest.find(|c: char| !is_word(c)) {
            Some(0) if rest.starts_with("!=") => 2,
            Some(0) => rest.chars().next().map_or(0, char::len_utf8),
            Some(len) => len,
            None => rest.len(),
        };
        (start, &rest[..len])
    }
    fn next(&mut self) -> &'a str {
        let (start, token) = self.peek();
        self.at = start + token.len();
        token
    }
    fn accept(&mut self, token: &str) -> bool {
        let found = self.peek().1 == token;
        if found {
            self.next();
        }
        found
    }
    fn unexpected(&self, expected: &'static str) -> FormulaError {
        let (at, found) = self.peek();
        let is_name = found.starts_with(|c: char| c.is_ascii_alphabetic()) && !found.contains([':', '.', '/']);
        let known: Vec<&str> = WORDS.iter().copied().chain(self.names.names()).collect();
        let hint = if is_name && !known.contains(&found) {
            nearest(found, &known).or_else(|| nearest(&found.to_ascii_lowercase(), &known)).map(str::to_owned)
        } else {
            None
        };
        FormulaError { at, found: found.chars().take(40).collect(), expected, hint }
    }
    fn expect(&mut self, token: &'static str, expected: &'static str) -> Result<(), FormulaError> {
        if self.accept(token) { Ok(()) } else { Err(self.unexpected(expected)) }
    }
    fn nodes(&mut self, nodes: usize, depth: usize) -> Result<(), FormulaError> {
        self.nodes += nodes;
        if depth > FORMULA_DEPTH_MAX || self.nodes > FORMULA_NODES_MAX {
            return Err(self.unexpected("a formula within the limits of depth and size"));
        }
        Ok(())
    }

    fn formula(&mut self, depth: usize) -> Result<Test, FormulaError> {
        let mut left = self.conjunction(depth)?;
        while self.accept("or") {
            self.nodes(1, depth)?;
            left = Test::Or { a: Box::new(left), b: Box::new(self.conjunction(depth)?) };
        }
        Ok(left)
    }

    fn conjunction(&mut self, depth: usize) -> Result<Test, FormulaError> {
        let mut left = self.unary(depth)?;
        while self.accept("and") {
            self.nodes(1, depth)?;
            left = Test::And { a: Box::new(left), b: Box::new(self.unary(depth)?) };
        }
        Ok(left)
    }

    fn unary(&mut self, depth: usize) -> Result<Test, FormulaError> {
        // The depth counted here bounds the parser's own stack; the formula's is looked at when it is whole.
        self.nodes(1, depth)?;
        if self.accept("not") {
            return Ok(Test::Not { a: Box::new(self.unary(depth + 1)?) });
        }
        if self.accept("(") {
            let inner = self.formula(depth + 1)?;
            self.expect(")", "`)`, `and` or `or`")?;
            return Ok(inner);
        }
        if self.accept("true") {
            return Ok(Test::True);
        }
        if self.accept("false") {
            return Ok(Test::False);
        }
        if self.accept("owns") {
            self.expect("(", "`(` behind `owns`")?;
            let field = self.field().ok_or_else(|| self.unexpected("`src` or `dst`"))?;
            self.expect(")", "`)`")?;
            return Ok(Test::Owns { field });
        }
        if let Some(field) = self.field() {
            let positive = self.relation()?.ok_or_else(|| self.unexpected("`=`, `!=` or `in`"))?;
            return Ok(unless(positive, Test::In { field, addrs: self.set()? }));
        }
        if let Some(number) = self.number() {
            return match self.relation()? {
                Some(positive) => Ok(unless(positive, Test::Number { number, ranges: self.ranges(number)? })),
                None if is_flag(number) => Ok(Test::Number { number, ranges: only(1) }),
                None => Err(self.unexpected("`=`, `!=` or `in`")),
            };
        }
        if let Some(definition) = self.names.get(self.peek().1) {
            self.nodes(nodes(definition), depth)?;
            self.next();
            return Ok(definition.clone());
        }
        Err(self.unexpected(
            "`true`, `false`, `owns(…)`, `src`, `dst`, `protocol`, `srcport`, `dstport`, `length`, a TCP flag, \
             a defined name, `not` or `(`",
        ))
    }

    /// Whether what follows has to be so (true) or must not be so (false); none where no relation follows.
    fn relation(&mut self) -> Result<Option<bool>, FormulaError> {
        if self.accept("!=") {
            return Ok(Some(false));
        }
        Ok((self.accept("in") || self.accept("=")).then_some(true))
    }

    fn field(&mut self) -> Option<Field> {
        if self.accept("src") {
            Some(Field::Src)
        } else if self.accept("dst") {
            Some(Field::Dst)
        } else {
            None
        }
    }

    fn number(&mut self) -> Option<Number> {
        let number = Number::ALL.into_iter().find(|&number| number_name(number) == self.peek().1)?;
        self.next();
        Some(number)
    }

    /// What stands in braces, or alone.
    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), FormulaError>) -> Result<(), FormulaError> {
        if !self.accept("{") {
            return item(self);
        }
        loop {
            item(self)?;
            if self.accept("}") {
                return Ok(());
            }
            self.expect(",", "`,` or `}`")?;
        }
    }

    fn ranges(&mut self, number: Number) -> Result<Ranges, FormulaError> {
        let mut ranges = Vec::new();
        self.list(|parser| {
            let range = range(number, parser.peek().1).ok_or_else(|| {
                parser.unexpected(if number == Number::Protocol {
                    "a protocol: `icmp`, `tcp`, `udp`, `icmpv6`, a number, or a range such as `50..51`"
                } else {
                    "a number, or a range such as `80..90`"
                })
            })?;
            if ranges.len() >= RANGES_MAX {
                return Err(parser.unexpected("fewer ranges in one set"));
            }
            parser.next();
            ranges.push(range);
            Ok(())
        })?;
        // Each range was looked at and there are few enough, so there is a set of them.
        Ranges::new(ranges).ok_or_else(|| self.unexpected("a set of numbers"))
    }

    fn set(&mut self) -> Result<AddrExpr, FormulaError> {
        let mut addrs = AddrExpr::default();
        let mut prefixes = Vec::new();
        self.list(|parser| {
            if parser.accept("self") {
                addrs.this_ip = true;
            } else if parser.accept("subnet") {
                addrs.this_subnet = true;
            } else {
                let prefix = prefix(parser.peek().1)
                    .ok_or_else(|| parser.unexpected("`self`, `subnet`, an address, or a prefix without host bits"))?;
                if prefixes.len() >= PREFIXES_MAX {
                    return Err(parser.unexpected("fewer prefixes in one set"));
                }
                parser.next();
                prefixes.push(prefix);
            }
            Ok(())
        })?;
        addrs.prefixes = PrefixSet::new(prefixes);
        Ok(addrs)
    }
}

fn unless(positive: bool, test: Test) -> Test {
    if positive { test } else { Test::Not { a: Box::new(test) } }
}

/// The set of one number, which is below [`Packet::ABSENT`].
fn only(number: u32) -> Ranges {
    Ranges::new(vec![(number, number)]).expect("one number that is not the absent one")
}

fn range(number: Number, text: &str) -> Option<(u32, u32)> {
    let value = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|&value: &u32| digits && value != Packet::ABSENT)
    };
    if let Some((_, value)) = PROTOCOLS.iter().find(|(name, _)| number == Number::Protocol && *name == text) {
        return Some((*value, *value));
    }
    match text.split_once("..") {
        None => value(text).map(|value| (value, value)),
        Some((first, last)) => Some((value(first)?, value(last)?)).filter(|(first, last)| first <= last),
    }
}

fn prefix(text: &str) -> Option<Prefix> {
    match text.split_once('/') {
        None => text.parse::<IpAddr>().ok().map(|ip| Prefix::host(ip.into())),
        Some((addr, len)) => Prefix::new(addr.parse::<IpAddr>().ok()?.into(), len.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_trusted::addr::Addr;

    fn not(a: Test) -> Test {
        Test::Not { a: Box::new(a) }
    }
    fn and(a: &Test, b: &Test) -> Test {
        Test::And { a: Box::new(a.clone()), b: Box::new(b.clone()) }
    }
    fn or(a: &Test, b: &Test) -> Test {
        Test::Or { a: Box::new(a.clone()), b: Box::new(b.clone()) }
    }

    #[test]
    fn words_bind_as_documented() {
        let (t, f, o) = (Test::True, Test::False, Test::Owns { field: Field::Dst });
        assert_eq!(parse("true or false and owns(dst)"), Ok(or(&t, &and(&f, &o))));
        assert_eq!(parse("(true or false) and owns ( dst )"), Ok(and(&or(&t, &f), &o)));
        assert_eq!(parse("true or false or owns(dst)"), Ok(or(&or(&t, &f), &o)));
        assert_eq!(parse("true or (false or owns(dst))"), Ok(or(&t, &or(&f, &o))));
        assert_eq!(parse("not true and false"), Ok(and(&not(t), &f)));
    }

    #[test]
    fn sets_hold_names_addresses_and_prefixes() {
        let Ok(Test::In { field: Field::Src, addrs }) =
            parse("src in {self, 192.0.2.0/24, subnet, 2001:db8::/32, 10.0.0.1}")
        else {
            panic!("not a membership");
        };
        assert!(addrs.this_ip && addrs.this_subnet);
        assert_eq!(addrs.prefixes.to_string(), "{10.0.0.1, 192.0.2.0/24, 2001:db8::/32}");
        assert_eq!(parse("dst = 192.0.2.7"), parse("dst in {192.0.2.7}"));
        assert_eq!(parse("dst != 192.0.2.7"), parse("not dst in 192.0.2.7"));
        assert_eq!(parse("dst = self").map(|f| print(&f)), Ok("dst in self".to_owned()));
    }

    #[test]
    fn numbers_are_in_sets_of_ranges_and_flags_stand_alone() {
        let number =
            |number, ranges: &[(u32, u32)]| Ok(Test::Number { number, ranges: Ranges::new(ranges.to_vec()).unwrap() });
        assert_eq!(parse("protocol = tcp"), number(Number::Protocol, &[(6, 6)]));
        assert_eq!(
            parse("protocol in {icmp, icmpv6, 50..51}"),
            number(Number::Protocol, &[(1, 1), (50, 51), (58, 58)])
        );
        assert_eq!(parse("dstport in {25, 80..90, 85..100}"), number(Number::DstPort, &[(25, 25), (80, 100)]));
        assert_eq!(parse("srcport != 53"), number(Number::SrcPort, &[(53, 53)]).map(not));
        assert_eq!(parse("length in 1000..1500"), number(Number::Length, &[(1000, 1500)]));
        assert_eq!(parse("syn"), number(Number::Syn, &[(1, 1)]));
        assert_eq!(parse("ack = 0"), number(Number::Ack, &[(0, 0)]));
        assert_eq!(parse("syn and not ack").map(|f| print(&f)), Ok("syn and not ack".to_owned()));
        let printed = "protocol in {icmp, tcp} or dstport in 25 or length in 0..64 or urg in 0..1";
        assert_eq!(parse(printed).map(|f| print(&f)), Ok(printed.to_owned()));
        // Names of protocols are no ports, and the number that stands for none is no number.
        for bad in
            ["dstport = tcp", "dstport = 4294967295", "dstport = 9..8", "dstport = ..8", "dstport = +8", "length"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("dstport = 4294967294").is_ok());
        let many = |count: u32| {
            format!("dstport in {{{}}}", (0..count).map(|i| (2 * i).to_string()).collect::<Vec<_>>().join(", "))
        };
        assert!(parse(&many(RANGES_MAX as u32)).is_ok());
        assert!(parse(&many(RANGES_MAX as u32 + 1)).unwrap_err().to_string().contains("fewer ranges"));
    }

    #[test]
    fn errors_say_where_and_what() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert!(error("").contains("the end"), "{}", error(""));
        assert!(error("own(dst)").contains("did you mean `owns`?"), "{}", error("own(dst)"));
        assert!(error("dstprt = 25").contains("did you mean `dstport`?"), "{}", error("dstprt = 25"));
        assert!(error("owns(dest)").contains("expected `src` or `dst`, found `dest`"), "{}", error("owns(dest)"));
        assert!(error("src in 10.0.0.1/8").contains("without host bits"), "{}", error("src in 10.0.0.1/8"));
        assert!(error("dstport in http").contains("such as `80..90`"), "{}", error("dstport in http"));
        assert!(error("protocol = tpc").contains("did you mean `tcp`?"), "{}", error("protocol = tpc"));
        assert!(error("length 5").contains("`=`, `!=` or `in`"), "{}", error("length 5"));
        assert!(error("true true").contains("character 6"), "{}", error("true true"));
        assert!(error("src in {}").contains("`self`"), "{}", error("src in {}"));
        assert!(error("src in {self").contains("`,` or `}`"), "{}", error("src in {self"));
        assert!(error("(true").contains("`)`"), "{}", error("(true"));
        assert!(error("owns(dst) und true").contains("`und`"), "{}", error("owns(dst) und true"));
        assert!(error("ö").contains("`ö`"), "{}", error("ö"));
        assert!(error("!").contains("`!`"), "{}", error("!"));
    }

    #[test]
    fn formulas_that_are_too_deep_or_long_are_refused() {
        assert!(parse(&format!("{}true", "not ".repeat(100_000))).is_err());
        assert!(parse(&format!("{}true", "(".repeat(100_000))).is_err());
        assert!(parse(&format!("true{}", " or true".repeat(100_000))).is_err());
        assert!(parse(&format!("{}true", "not ".repeat(FORMULA_DEPTH_MAX - 1))).is_ok());
        assert!(parse(&format!("{}true", "not ".repeat(FORMULA_DEPTH_MAX))).is_err());
        assert!(parse(&format!("true{}", " or true".repeat(FORMULA_DEPTH_MAX - 1))).is_ok());
        assert!(parse(&format!("true{}", " or true".repeat(FORMULA_DEPTH_MAX))).is_err());
    }

    #[test]
    fn what_is_printed_is_read_as_the_same_formula() {
        let seed = crate::testing::seed();
        let mut random = crate::testing::Random::new(seed);
        for round in 0..2000 {
            let formula = random_formula(&mut random, 5);
            let text = print(&formula);
            assert_eq!(parse(&text), Ok(formula), "seed {seed}, round {round}: {text}");
        }
    }

    fn random_formula(random: &mut crate::testing::Random, depth: u32) -> Test {
        let field = if random.below(2) == 0 { Field::Src } else { Field::Dst };
        let below = |random: &mut crate::testing::Random| Box::new(random_formula(random, depth - 1));
        match random.below(if depth == 0 { 5 } else { 8 }) {
            0 => Test::True,
            1 => Test::False,
            2 => Test::Owns { field },
            3 => Test::In { field, addrs: random_set(random) },
            4 => {
                let number = Number::ALL[random.below(10) as usize];
                let span = if is_flag(number) || random.below(2) == 0 { 2 } else { u64::from(Packet::ABSENT) - 20 };
                let range = |random: &mut crate::testing::Random| {
                    let first = random.below(span) as u32;
                    (first, first + random.below(20) as u32)
                };
                let count = 1 + random.below(4);
                let ranges = Ranges::new((0..count).map(|_| range(random)).collect()).unwrap();
                Test::Number { number, ranges }
            }
            5 => Test::Not { a: below(random) },
            6 => Test::And { a: below(random), b: below(random) },
            _ => Test::Or { a: below(random), b: below(random) },
        }
    }

    fn random_set(random: &mut crate::testing::Random) -> AddrExpr {
        let prefix = |random: &mut crate::testing::Random| match random.below(2) {
            0 => Prefix::of(Addr::V4(random.next() as u32), random.below(33) as u8),
            _ => {
                let bits = u128::from(random.next()) << 64 | u128::from(random.next());
                Prefix::of(Addr::V6(bits), random.below(129) as u8)
            }
        };
        let (this_ip, this_subnet, count) = (random.below(2) == 0, random.below(2) == 0, random.below(4));
        let prefixes = PrefixSet::new((0..count).filter_map(|_| prefix(random)).collect());
        AddrExpr { this_ip: this_ip || prefixes.is_empty() && !this_subnet, this_subnet, prefixes }
    }
}
