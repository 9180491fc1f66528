//! The grammar of integers: sums of products, and the routines that count.

use super::{Parsed, Parser};
use crate::lang::ast::{Arithmetic, Expr, ExprKind, Word};
use crate::lang::error::{Cause, Located, PARSE_DEPTH_MAX};
use crate::lang::token::{Keyword, Token};

impl Parser {
    /// An integer: sums of products.
    pub(super) fn expr(&mut self, expected: &'static str) -> Parsed<Expr> {
        let mut left = self.product(expected)?;
        for _ in 0..PARSE_DEPTH_MAX {
            let sign = match self.peek() {
                Token::Sign("+") => Arithmetic::Add,
                Token::Sign("-") => Arithmetic::Sub,
                _ => return Ok(left),
            };
            self.next();
            let right = self.product("an integer")?;
            left = self.join(sign, left, right)?;
        }
        // Each sign nests what stands before it one deeper.
        Err(Located::new(self.span(), Cause::TooDeeplyWritten))
    }

    fn product(&mut self, expected: &'static str) -> Parsed<Expr> {
        let mut left = self.factor(expected)?;
        for _ in 0..PARSE_DEPTH_MAX {
            if !self.accept(&Token::Sign("*")) {
                return Ok(left);
            }
            let right = self.factor("an integer")?;
            left = self.join(Arithmetic::Mul, left, right)?;
        }
        Err(Located::new(self.span(), Cause::TooDeeplyWritten))
    }

    fn join(&mut self, sign: Arithmetic, a: Expr, b: Expr) -> Parsed<Expr> {
        self.node()?;
        Ok(Expr { span: a.span.start..b.span.end, kind: ExprKind::Join { sign, a: Box::new(a), b: Box::new(b) } })
    }

    fn factor(&mut self, expected: &'static str) -> Parsed<Expr> {
        self.nested(|parser| parser.factor_here(expected))
    }

    fn factor_here(&mut self, expected: &'static str) -> Parsed<Expr> {
        let start = self.span().start;
        let kind = match *self.peek() {
            Token::Sign("-") => {
                self.next();
                if let Token::Number(_) = self.peek() {
                    ExprKind::Number(self.number(true)?)
                } else {
                    let inner = self.factor("an integer behind the sign")?;
                    let zero = Expr { span: start..start + 1, kind: ExprKind::Number(0) };
                    return self.join(Arithmetic::Sub, zero, inner);
                }
            }
            Token::Sign("(") => {
                self.next();
                let inner = self.expr("an integer")?;
                self.sign(")", "`)` or a sign of arithmetic")?;
                return Ok(Expr { span: start..self.end(), kind: inner.kind });
            }
            Token::Number(_) => ExprKind::Number(self.number(false)?),
            Token::Name(_) => {
                let routine = self.misspelt_call();
                ExprKind::Var(self.var(expected).map_err(|error| routine.unwrap_or(error))?)
            }
            Token::Keyword(keyword @ (Keyword::Size | Keyword::CountString | Keyword::Score)) => {
                self.node()?;
                self.next();
                self.sign("(", "`(` behind the routine")?;
                let arg = self.var("a set of packets")?;
                let kind = match keyword {
                    Keyword::Size => ExprKind::Size(arg),
                    Keyword::CountString => {
                        self.sign(",", "`,` and a string")?;
                        ExprKind::Count { arg, word: self.word()? }
                    }
                    _ => {
                        self.sign(",", "`,` and the words with their weights in braces")?;
                        ExprKind::Score { arg, weights: self.weights()? }
                    }
                };
                self.sign(")", "`)` behind the arguments")?;
                kind
            }
            _ => return Err(self.unexpected(expected)),
        };
        Ok(Expr { span: start..self.end(), kind })
    }

    /// `{"free" 2, FOLD("casino") 5}`.
    fn weights(&mut self) -> Parsed<Vec<(Word, i64)>> {
        self.sign("{", "`{`: words with their weights, like {\"free\" 2, \"casino\" 5}")?;
        let mut weights = Vec::new();
        loop {
            self.node()?;
            let word = self.word()?;
            let negative = self.accept(&Token::Sign("-"));
            let Token::Number(_) = self.peek() else {
                return Err(self.unexpected("the weight of the word, a number"));
            };
            weights.push((word, self.number(negative)?));
            if !self.accept(&Token::Sign(",")) {
                break;
            }
        }
        self.sign("}", "`,` or `}` behind the weight")?;
        Ok(weights)
    }

    /// The number that stands here, as an integer of the language.
    fn number(&mut self, negative: bool) -> Parsed<i64> {
        let span = self.span();
        let Token::Number(number) = self.next().token else {
            return Err(self.unexpected("a number"));
        };
        let value = if negative { 0_i64.checked_sub_unsigned(number) } else { i64::try_from(number).ok() };
        value.ok_or_else(|| Located::new(span, Cause::NumberTooLarge(number.to_string())))
    }
}
