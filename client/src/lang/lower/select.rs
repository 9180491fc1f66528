//! The lowering of tests: what a SELECT asks of each packet.

use super::{AddrSet, Lowering, balanced};
use crate::lang::ast::{self, NumberTerm, Order, Test};
use crate::lang::error::{Cause, ParameterKind};
use crate::lang::token::Span;
use vinet_trusted::packet::{self, Field, Number, Packet, Ranges};

impl Lowering<'_, '_> {
    pub(super) fn test(&mut self, test: &Test) -> Option<packet::Test> {
        match test {
            Test::Constant(true) => Some(packet::Test::True),
            Test::Constant(false) => Some(packet::Test::False),
            Test::Owns(field) => Some(packet::Test::Owns { field: *field }),
            Test::Member { field, addrs, negated } => {
                let set = self.addrs(addrs)?;
                Some(negate_test(within(*field, &set), *negated))
            }
            Test::Among { number, values, negated, span } => {
                let ranges: Vec<_> = values.iter().map(|value| self.number_range(value)).collect();
                let ranges: Option<Vec<_>> = ranges.into_iter().collect();
                let test = self.number_test(*number, ranges?.concat(), span)?;
                Some(negate_test(test, *negated))
            }
            Test::Compare { number, order, value, span } => {
                let value = match value {
                    NumberTerm::Literal(value) => *value,
                    NumberTerm::Name(name, span) => match self.numbers(name, span)?[..] {
                        [(first, last)] if first == last => first,
                        _ => {
                            self.error(span, Cause::ManyNumbers { name: name.clone() });
                            return None;
                        }
                    },
                };
                let range = match order {
                    Order::Less => value.checked_sub(1).map(|last| (0, last)),
                    Order::AtMost => Some((0, value)),
                    Order::AtLeast => Some((value, Packet::ABSENT - 1)),
                    Order::More if value == Packet::ABSENT - 1 => None,
                    Order::More => Some((value + 1, Packet::ABSENT - 1)),
                    Order::Equal | Order::NotEqual => Some((value, value)),
                };
                match range {
                    Some(range) => self.number_test(*number, vec![range], span),
                    None => Some(packet::Test::False),
                }
            }
            Test::Not(inner) => Some(negate_test(self.test(inner)?, true)),
            Test::All(parts) => {
                let parts = self.tests(parts)?;
                balanced(parts, &|a, b| packet::Test::And { a: Box::new(a), b: Box::new(b) })
            }
            Test::Any(parts) => {
                let parts = self.tests(parts)?;
                balanced(parts, &|a, b| packet::Test::Or { a: Box::new(a), b: Box::new(b) })
            }
        }
    }

    fn tests(&mut self, parts: &[Test]) -> Option<Vec<packet::Test>> {
        let parts: Vec<_> = parts.iter().map(|part| self.test(part)).collect();
        parts.into_iter().collect()
    }

    fn number_test(&mut self, number: Number, ranges: Vec<(u32, u32)>, span: &Span) -> Option<packet::Test> {
        // The ranges are in order each, and below what no packet has: only their count can be wrong.
        let ranges = Ranges::new(ranges);
        if ranges.is_none() {
            self.error(span, Cause::TooManyRanges);
        }
        ranges.map(|ranges| packet::Test::Number { number, ranges })
    }

    fn number_range(&mut self, range: &ast::NumberRange) -> Option<Vec<(u32, u32)>> {
        let first = self.number_term(&range.first);
        let Some(last) = &range.last else { return first };
        let last = self.number_term(last);
        let ends = match (&first?[..], &last?[..]) {
            (&[(first, a)], &[(last, b)]) if first == a && last == b => (first, last),
            _ => {
                let named = [Some(&range.first), range.last.as_ref()].into_iter().flatten();
                let name = named.filter_map(|term| match term {
                    NumberTerm::Name(name, _) => Some(name.clone()),
                    NumberTerm::Literal(_) => None,
                });
                self.error(&range.span, Cause::ManyNumbers { name: name.collect::<Vec<_>>().join(" or ") });
                return None;
            }
        };
        if ends.0 > ends.1 {
            self.error(&range.span, Cause::RangeReversed);
            return None;
        }
        Some(vec![ends])
    }

    fn number_term(&mut self, term: &NumberTerm) -> Option<Vec<(u32, u32)>> {
        match term {
            NumberTerm::Literal(number) => Some(vec![(*number, *number)]),
            NumberTerm::Name(name, span) => self.numbers(name, span),
        }
    }

    /// The numbers that a parameter stands for.
    fn numbers(&mut self, name: &str, span: &Span) -> Option<Vec<(u32, u32)>> {
        if let Some(is) = self.names.kind(name) {
            self.error(span, Cause::NotAParameter { name: name.to_string(), is });
            return None;
        }
        if !self.parameters.is_set(name) {
            let cause = self.unset(name, ParameterKind::Number);
            self.error(span, cause);
            return None;
        }
        self.parameters.numbers(name, span).unwrap_or_else(|error| {
            self.errors.push(error);
            None
        })
    }
}

/// The address of a packet is in the set.
pub(super) fn within(field: Field, set: &AddrSet) -> packet::Test {
    let mut parts = Vec::new();
    if set.constants.parts() > 0 {
        parts.push(packet::Test::In { field, addrs: set.constants.clone() });
    }
    parts.extend(set.slots.iter().map(|&slot| packet::Test::Is { field, slot }));
    // A set in braces has a member at least.
    balanced(parts, &|a, b| packet::Test::Or { a: Box::new(a), b: Box::new(b) }).unwrap_or(packet::Test::False)
}

fn negate_test(test: packet::Test, negated: bool) -> packet::Test {
    if negated { packet::Test::Not { a: Box::new(test) } } else { test }
}
