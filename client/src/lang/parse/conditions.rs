//! The grammar of conditions: what `if`, `while` and an invariant ask.
//!
//! A parenthesis may open a condition or an integer of a comparison; what stands behind its end tells which.

use super::{Parsed, Parser};
use crate::lang::ast::{Cond, CondKind, Expr, ExprKind, Order};
use crate::lang::error::{Cause, Located};
use crate::lang::token::{Keyword, Token};

impl Parser {
    pub(super) fn cond(&mut self) -> Parsed<Cond> {
        self.cond_joined(Keyword::Or, CondKind::Any, |parser| {
            parser.cond_joined(Keyword::And, CondKind::All, Parser::cond_not)
        })
    }

    fn cond_joined(
        &mut self,
        keyword: Keyword,
        kind: fn(Vec<Cond>) -> CondKind,
        part: fn(&mut Parser) -> Parsed<Cond>,
    ) -> Parsed<Cond> {
        let start = self.span().start;
        let mut parts = self.joined(keyword, part)?;
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => Ok(Cond { span: start..self.end(), kind: kind(parts) }),
        }
    }

    fn cond_not(&mut self) -> Parsed<Cond> {
        self.nested(|parser| {
            let start = parser.span().start;
            if parser.accept(&Token::Keyword(Keyword::Not)) {
                let inner = parser.cond_not()?;
                return Ok(Cond { span: start..parser.end(), kind: CondKind::Not(Box::new(inner)) });
            }
            if parser.peek() == &Token::Sign("(") && !parser.parenthesis_is_integer() {
                parser.next();
                let inner = parser.cond()?;
                parser.sign(")", "`)`, `and` or `or` in the condition")?;
                return Ok(Cond { span: start..parser.end(), kind: inner.kind });
            }
            parser.cond_test(start)
        })
    }

    /// Whether the parenthesis that opens here is part of an integer, by what stands behind its end.
    fn parenthesis_is_integer(&self) -> bool {
        let mut open = 0_usize;
        for (i, spanned) in self.tokens.iter().enumerate().skip(self.at) {
            match spanned.token {
                Token::Sign("(") => open += 1,
                Token::Sign(")") => open -= 1,
                _ => {}
            }
            if open == 0 {
                let behind = self.tokens.get(i + 1).map(|spanned| &spanned.token);
                return matches!(behind, Some(Token::Sign("+" | "-" | "*" | "<" | "<=" | ">" | ">=" | "=" | "!=")));
            }
        }
        false
    }

    fn cond_test(&mut self, start: usize) -> Parsed<Cond> {
        self.node()?;
        match self.peek() {
            Token::Keyword(Keyword::ContainsString) => {
                self.next();
                self.sign("(", "`(` behind CONTAINS_STRING")?;
                let arg = self.var("a set of packets")?;
                self.sign(",", "`,` and a string")?;
                let word = self.word()?;
                self.sign(")", "`)` behind the string")?;
                return Ok(Cond { span: start..self.end(), kind: CondKind::Contains { arg, word } });
            }
            Token::Keyword(Keyword::Empty) => {
                self.next();
                self.sign("(", "`(` behind EMPTY")?;
                let arg = self.var("a set of packets")?;
                self.sign(")", "`)` behind the set of packets")?;
                return Ok(Cond { span: start..self.end(), kind: CondKind::Empty { arg } });
            }
            Token::Prefix(_) | Token::Keyword(Keyword::ThisIp | Keyword::ThisSubnetIp) | Token::Sign("{") => {
                return Err(Located::new(self.span(), Cause::AddressOnTheLeft));
            }
            _ => {}
        }
        let left = self.expr("a condition: CONTAINS_STRING(…), a comparison, `not` or `(`")?;
        let kind = self.comparison(left)?;
        Ok(Cond { span: start..self.end(), kind })
    }

    fn comparison(&mut self, left: Expr) -> Parsed<CondKind> {
        let op = self.span();
        let negated =
            self.peek() == &Token::Keyword(Keyword::Not) && self.peek_behind() == &Token::Keyword(Keyword::In);
        if negated {
            self.next();
        }
        if self.accept(&Token::Keyword(Keyword::In)) {
            let ExprKind::Var(addr) = left.kind else { return Err(Located::new(op, Cause::IntegerIn)) };
            return Ok(CondKind::Member { addr, addrs: self.addrs()?, negated });
        }
        if self.accept_word("is") {
            let negated = self.accept(&Token::Keyword(Keyword::Not));
            let ExprKind::Var(addr) = left.kind else { return Err(Located::new(op, Cause::IntegerIn)) };
            return Ok(CondKind::Is { addr, other: self.addr_term()?, negated });
        }
        let Some(order) = self.order() else {
            return Err(match left.kind {
                ExprKind::Var(var) => Located::new(self.end()..self.end(), Cause::NotCompared(var.text())),
                _ => self.unexpected("a comparison: = != < <= > >="),
            });
        };
        if matches!(
            self.peek(),
            Token::Prefix(_) | Token::Keyword(Keyword::ThisIp | Keyword::ThisSubnetIp) | Token::Sign("{")
        ) {
            if !matches!(order, Order::Equal | Order::NotEqual) {
                return Err(Located::new(op, Cause::AddressOrder));
            }
            let ExprKind::Var(addr) = left.kind else {
                return Err(Located::new(self.span(), Cause::IntegerWithAddress));
            };
            return Ok(CondKind::Member { addr, addrs: self.addrs()?, negated: order == Order::NotEqual });
        }
        let b = self.expr("an address, a set in braces, an integer or a variable")?;
        Ok(CondKind::Compare { a: left, order, b })
    }

    pub(super) fn order(&mut self) -> Option<Order> {
        let order = match self.peek() {
            Token::Sign("=") => Order::Equal,
            Token::Sign("!=") => Order::NotEqual,
            Token::Sign("<") => Order::Less,
            Token::Sign("<=") => Order::AtMost,
            Token::Sign(">") => Order::More,
            Token::Sign(">=") => Order::AtLeast,
            _ => return None,
        };
        self.next();
        Some(order)
    }
}
