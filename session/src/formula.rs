//! The text of formulas: `owns(dst)`, `src in {192.0.2.0/24, self}`, `not dst = 198.51.100.1 and owns(dst)`.
//!
//! ```text
//! formula = conj { "or" conj }
//! conj    = unary { "and" unary }
//! unary   = "not" unary | "(" formula ")" | "true" | "false"
//!         | "owns" "(" field ")" | field ( "=" | "in" ) set
//! field   = "src" | "dst"
//! set     = item | "{" item { "," item } "}"
//! item    = "self" | "subnet" | address | prefix
//! ```
//!
//! `not` binds closer than `and`, and `and` closer than `or`; equals associate to the left. `self` is the owner's own
//! address and `subnet` an edge router's prefix. What [`print()`] writes, [`parse`] reads as the same formula.

use crate::text::nearest;
use std::fmt;
use std::net::IpAddr;
use vinet_trusted::addr::{Prefix, PrefixSet};
use vinet_trusted::policy::{FORMULA_DEPTH_MAX, FORMULA_NODES_MAX, Formula};
use vinet_trusted::program::{AddrExpr, Field, PREFIXES_MAX};

const WORDS: &[&str] = &["and", "dst", "false", "in", "not", "or", "owns", "self", "src", "subnet", "true"];

/// Why a text is no formula.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormulaError {
    /// The byte of the text at which it shows.
    pub at: usize,
    /// What stands there; empty at the end of the text.
    pub found: String,
    /// What was expected.
    pub expected: &'static str,
    /// The nearest word of the language.
    pub hint: Option<&'static str>,
}

impl fmt::Display for FormulaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in the formula, at character {}: expected {}, found ", self.at + 1, self.expected)?;
        if self.found.is_empty() {
            write!(f, "the end")?;
        } else {
            write!(f, "`{}`", self.found)?;
        }
        match self.hint {
            Some(hint) => write!(f, " (did you mean `{hint}`?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FormulaError {}

/// The formula of `text`.
///
/// # Errors
/// The first place that does not fit.
pub fn parse(text: &str) -> Result<Formula, FormulaError> {
    let mut parser = Parser { text, at: 0, nodes: 0 };
    let formula = parser.formula(0)?;
    if !parser.peek().1.is_empty() {
        return Err(parser.unexpected("`and`, `or` or the end"));
    }
    // A chain of equals nests to the left, however flat it looks.
    if depth(&formula) > FORMULA_DEPTH_MAX {
        return Err(
            parser.unexpected("a formula that nests less deeply (many addresses fit into one set: `dst in {…}`)")
        );
    }
    Ok(formula)
}

fn depth(formula: &Formula) -> usize {
    match formula {
        Formula::Not(a) => 1 + depth(a),
        Formula::And(a, b) | Formula::Or(a, b) => 1 + depth(a).max(depth(b)),
        Formula::True | Formula::False | Formula::Owns(_) | Formula::In(..) => 0,
    }
}

/// The text of `formula`, with no more parentheses than it needs.
#[must_use]
pub fn print(formula: &Formula) -> String {
    let mut out = String::new();
    write_formula(&mut out, formula, 0);
    out
}

/// How closely a formula binds: 0 for `or`, 1 for `and`, 2 for the rest.
const fn strength(formula: &Formula) -> u8 {
    match formula {
        Formula::Or(..) => 0,
        Formula::And(..) => 1,
        _ => 2,
    }
}

fn write_formula(out: &mut String, formula: &Formula, least: u8) {
    let in_parentheses = strength(formula) < least;
    if in_parentheses {
        out.push('(');
    }
    match formula {
        Formula::True => out.push_str("true"),
        Formula::False => out.push_str("false"),
        Formula::Owns(field) => {
            out.push_str("owns(");
            out.push_str(field_name(*field));
            out.push(')');
        }
        Formula::In(field, addrs) => {
            out.push_str(field_name(*field));
            out.push_str(" in ");
            write_set(out, addrs);
        }
        Formula::Not(a) => {
            out.push_str("not ");
            write_formula(out, a, 2);
        }
        Formula::And(a, b) | Formula::Or(a, b) => {
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

fn write_set(out: &mut String, addrs: &AddrExpr) {
    let names = [(addrs.this_ip, "self"), (addrs.this_subnet, "subnet")];
    let names = names.iter().filter(|(is_in, _)| *is_in).map(|(_, name)| (*name).to_owned());
    let items: Vec<String> = names.chain(addrs.prefixes.prefixes().iter().map(Prefix::to_string)).collect();
    match &items[..] {
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
}

impl<'a> Parser<'a> {
    /// Where the next word or sign starts, and what it is; empty at the end.
    fn peek(&self) -> (usize, &'a str) {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        let is_word = |c: char| c.is_alphanumeric() || ":./_-".contains(c);
        let len = match rest.find(|c: char| !is_word(c)) {
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
        let hint = if is_name && !WORDS.contains(&found) { nearest(&found.to_ascii_lowercase(), WORDS) } else { None };
        FormulaError { at, found: found.chars().take(40).collect(), expected, hint }
    }
    fn expect(&mut self, token: &'static str, expected: &'static str) -> Result<(), FormulaError> {
        if self.accept(token) { Ok(()) } else { Err(self.unexpected(expected)) }
    }
    fn node(&mut self, depth: usize) -> Result<(), FormulaError> {
        self.nodes += 1;
        if depth > FORMULA_DEPTH_MAX || self.nodes > FORMULA_NODES_MAX {
            return Err(self.unexpected("a formula within the limits of depth and size"));
        }
        Ok(())
    }

    fn formula(&mut self, depth: usize) -> Result<Formula, FormulaError> {
        let mut left = self.conjunction(depth)?;
        while self.accept("or") {
            self.node(depth)?;
            left = Formula::Or(Box::new(left), Box::new(self.conjunction(depth)?));
        }
        Ok(left)
    }

    fn conjunction(&mut self, depth: usize) -> Result<Formula, FormulaError> {
        let mut left = self.unary(depth)?;
        while self.accept("and") {
            self.node(depth)?;
            left = Formula::And(Box::new(left), Box::new(self.unary(depth)?));
        }
        Ok(left)
    }

    fn unary(&mut self, depth: usize) -> Result<Formula, FormulaError> {
        // The depth counted here bounds the parser's own stack; the formula's is checked where a policy is made.
        self.node(depth)?;
        if self.accept("not") {
            return Ok(Formula::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.accept("(") {
            let inner = self.formula(depth + 1)?;
            self.expect(")", "`)`, `and` or `or`")?;
            return Ok(inner);
        }
        if self.accept("true") {
            return Ok(Formula::True);
        }
        if self.accept("false") {
            return Ok(Formula::False);
        }
        if self.accept("owns") {
            self.expect("(", "`(` behind `owns`")?;
            let field = self.field().ok_or_else(|| self.unexpected("`src` or `dst`"))?;
            self.expect(")", "`)`")?;
            return Ok(Formula::Owns(field));
        }
        let Some(field) = self.field() else {
            return Err(self.unexpected("`true`, `false`, `owns(…)`, `src in …`, `dst in …`, `not` or `(`"));
        };
        if !self.accept("in") && !self.accept("=") {
            return Err(self.unexpected("`in` or `=`"));
        }
        Ok(Formula::In(field, self.set()?))
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

    fn set(&mut self) -> Result<AddrExpr, FormulaError> {
        let mut addrs = AddrExpr::default();
        let mut prefixes = Vec::new();
        if self.accept("{") {
            loop {
                self.item(&mut addrs, &mut prefixes)?;
                if self.accept("}") {
                    break;
                }
                self.expect(",", "`,` or `}`")?;
            }
        } else {
            self.item(&mut addrs, &mut prefixes)?;
        }
        addrs.prefixes = PrefixSet::new(prefixes);
        Ok(addrs)
    }

    fn item(&mut self, addrs: &mut AddrExpr, prefixes: &mut Vec<Prefix>) -> Result<(), FormulaError> {
        if self.accept("self") {
            addrs.this_ip = true;
        } else if self.accept("subnet") {
            addrs.this_subnet = true;
        } else {
            let prefix = prefix(self.peek().1)
                .ok_or_else(|| self.unexpected("`self`, `subnet`, an address, or a prefix without host bits"))?;
            if prefixes.len() >= PREFIXES_MAX {
                return Err(self.unexpected("fewer prefixes in one set"));
            }
            self.next();
            prefixes.push(prefix);
        }
        Ok(())
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

    fn boxed(formula: Formula) -> Box<Formula> {
        Box::new(formula)
    }

    #[test]
    fn words_bind_as_documented() {
        let (t, f, o) = (Formula::True, Formula::False, Formula::Owns(Field::Dst));
        let and = |a: &Formula, b: &Formula| Formula::And(boxed(a.clone()), boxed(b.clone()));
        let or = |a: &Formula, b: &Formula| Formula::Or(boxed(a.clone()), boxed(b.clone()));
        assert_eq!(parse("true or false and owns(dst)"), Ok(or(&t, &and(&f, &o))));
        assert_eq!(parse("(true or false) and owns ( dst )"), Ok(and(&or(&t, &f), &o)));
        assert_eq!(parse("true or false or owns(dst)"), Ok(or(&or(&t, &f), &o)));
        assert_eq!(parse("true or (false or owns(dst))"), Ok(or(&t, &or(&f, &o))));
        assert_eq!(parse("not true and false"), Ok(and(&Formula::Not(boxed(t.clone())), &f)));
    }

    #[test]
    fn sets_hold_names_addresses_and_prefixes() {
        let Ok(Formula::In(Field::Src, set)) = parse("src in {self, 192.0.2.0/24, subnet, 2001:db8::/32, 10.0.0.1}")
        else {
            panic!("not a membership");
        };
        assert!(set.this_ip && set.this_subnet);
        assert_eq!(set.prefixes.to_string(), "{10.0.0.1, 192.0.2.0/24, 2001:db8::/32}");
        assert_eq!(parse("dst = 192.0.2.7"), parse("dst in {192.0.2.7}"));
        assert_eq!(parse("dst = self").map(|f| print(&f)), Ok("dst in self".to_owned()));
    }

    #[test]
    fn errors_say_where_and_what() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert!(error("").contains("the end"), "{}", error(""));
        assert!(error("own(dst)").contains("did you mean `owns`?"), "{}", error("own(dst)"));
        assert!(error("owns(dest)").contains("expected `src` or `dst`, found `dest`"), "{}", error("owns(dest)"));
        assert!(error("src in 10.0.0.1/8").contains("without host bits"), "{}", error("src in 10.0.0.1/8"));
        assert!(error("true true").contains("character 6"), "{}", error("true true"));
        assert!(error("src in {}").contains("`self`"), "{}", error("src in {}"));
        assert!(error("src in {self").contains("`,` or `}`"), "{}", error("src in {self"));
        assert!(error("(true").contains("`)`"), "{}", error("(true"));
        assert!(error("owns(dst) und true").contains("`und`"), "{}", error("owns(dst) und true"));
        assert!(error("ö").contains("`ö`"), "{}", error("ö"));
    }

    #[test]
    fn formulas_that_are_too_deep_or_long_are_refused() {
        assert!(parse(&format!("{}true", "not ".repeat(100_000))).is_err());
        assert!(parse(&format!("{}true", "(".repeat(100_000))).is_err());
        assert!(parse(&format!("true{}", " or true".repeat(100_000))).is_err());
        assert!(parse(&format!("{}true", "not ".repeat(FORMULA_DEPTH_MAX))).is_ok());
        assert!(parse(&format!("true{}", " or true".repeat(FORMULA_DEPTH_MAX))).is_ok());
        assert!(parse(&format!("true{}", " or true".repeat(FORMULA_DEPTH_MAX + 1))).is_err());
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

    fn random_formula(random: &mut crate::testing::Random, depth: u32) -> Formula {
        let field = if random.below(2) == 0 { Field::Src } else { Field::Dst };
        match random.below(if depth == 0 { 4 } else { 7 }) {
            0 => Formula::True,
            1 => Formula::False,
            2 => Formula::Owns(field),
            3 => {
                let mut addrs = AddrExpr {
                    this_ip: random.below(2) == 0,
                    this_subnet: random.below(2) == 0,
                    prefixes: PrefixSet::new(
                        (0..random.below(4))
                            .filter_map(|_| match random.below(2) {
                                0 => Prefix::of(Addr::V4(random.next() as u32), random.below(33) as u8),
                                _ => Prefix::of(
                                    Addr::V6(u128::from(random.next()) << 64 | u128::from(random.next())),
                                    random.below(129) as u8,
                                ),
                            })
                            .collect(),
                    ),
                };
                addrs.this_ip |= addrs.prefixes.is_empty() && !addrs.this_subnet;
                Formula::In(field, addrs)
            }
            4 => Formula::Not(boxed(random_formula(random, depth - 1))),
            5 => Formula::And(boxed(random_formula(random, depth - 1)), boxed(random_formula(random, depth - 1))),
            _ => Formula::Or(boxed(random_formula(random, depth - 1)), boxed(random_formula(random, depth - 1))),
        }
    }
}
