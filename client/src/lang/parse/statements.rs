//! The grammar of statements: assignments with their routines, branches, and loops with what is said of them.

use super::{Parsed, Parser};
use crate::lang::ast::{Bound, Clauses, Invariant, Stmt, StmtKind, Value};
use crate::lang::error::{Cause, Located};
use crate::lang::token::{Keyword, Span, Token};
use vinet_trusted::packet::Field;

impl Parser {
    pub(super) fn stmt(&mut self) -> Parsed<Stmt> {
        self.nested(Parser::stmt_here)
    }

    fn stmt_here(&mut self) -> Parsed<Stmt> {
        self.node()?;
        let start = self.span().start;
        let kind = match *self.peek() {
            Token::Keyword(Keyword::Lifetime) => return Err(Located::new(self.span(), Cause::LifetimeInside)),
            Token::Keyword(Keyword::Window) => return Err(Located::new(self.span(), Cause::WindowInside)),
            Token::Keyword(Keyword::Discard) if self.peek_behind() != &Token::Sign("=") => {
                self.next();
                self.sign("(", "`(` behind DISCARD")?;
                let arg = self.var("a set of packets")?;
                self.sign(")", "`)` behind the set of packets")?;
                let end = self.end();
                self.semicolon("DISCARD(…)")?;
                return Ok(Stmt { span: start..end, kind: StmtKind::Discard { arg } });
            }
            Token::Keyword(Keyword::Generate) if self.peek_behind() != &Token::Sign("=") => {
                self.next();
                self.sign("(", "`(` behind GENERATE")?;
                let src = self.addr_term()?;
                self.sign(",", "`,` and the address of the destination")?;
                let dst = self.addr_term()?;
                self.sign(",", "`,` and the result of a GROUP_BY_CONTENT")?;
                let data = self.var("a result of a GROUP_BY_CONTENT")?;
                self.sign(")", "`)` behind what is sent")?;
                let end = self.end();
                self.semicolon("GENERATE(…)")?;
                return Ok(Stmt { span: start..end, kind: StmtKind::Generate { src, dst, data } });
            }
            Token::Keyword(Keyword::If) => return self.branch(start),
            Token::Keyword(Keyword::Foreach) => return self.foreach(start),
            Token::Keyword(Keyword::While) => return self.repeat(start),
            Token::Keyword(Keyword::Begin) => {
                self.next();
                let mut body = Vec::new();
                while self.peek() != &Token::Keyword(Keyword::End) {
                    if self.peek() == &Token::EndOfText {
                        return Err(self.unexpected("`end`").with(start..start + 5, "for this `begin`"));
                    }
                    body.push(self.stmt()?);
                }
                self.next();
                self.accept(&Token::Sign(";"));
                StmtKind::Block(body)
            }
            Token::Name(_) => return self.assignment(start),
            Token::Keyword(Keyword::GroupBySource | Keyword::GroupByDestination)
                if self.peek_behind() == &Token::Sign("(") =>
            {
                return Err(self.unexpected("a name for the result: Name = GROUP_BY_…(…);"));
            }
            Token::Keyword(keyword) if self.peek_behind() == &Token::Sign("=") => {
                return Err(Located::new(self.span(), Cause::ReservedName { name: keyword.text().to_string() }));
            }
            _ => return Err(self.unexpected("a statement")),
        };
        Ok(Stmt { span: start..self.end(), kind })
    }

    fn branch(&mut self, start: usize) -> Parsed<Stmt> {
        self.next();
        let cond = self.cond()?;
        if !self.accept(&Token::Keyword(Keyword::Then)) {
            let expected = "`then`, `and` or `or` behind the condition";
            return Err(self.unexpected_near(expected, &[Keyword::Then, Keyword::And, Keyword::Or]));
        }
        let span = start..self.end();
        let then = Box::new(self.stmt()?);
        let otherwise = if self.accept(&Token::Keyword(Keyword::Else)) { Some(Box::new(self.stmt()?)) } else { None };
        Ok(Stmt { span, kind: StmtKind::If { cond, then, otherwise } })
    }

    fn foreach(&mut self, start: usize) -> Parsed<Stmt> {
        self.next();
        let index = self.index("the index of a grouping behind `foreach`")?;
        let alias = if self.accept_word("as") { Some(self.index("a name behind `as`")?) } else { None };
        let clauses = self.clauses(false)?;
        self.keyword(Keyword::Do, "`do` behind the index")?;
        let span = start..self.end();
        let body = Box::new(self.stmt()?);
        Ok(Stmt { span, kind: StmtKind::Foreach { index, alias, clauses, body } })
    }

    fn repeat(&mut self, start: usize) -> Parsed<Stmt> {
        self.next();
        let cond = self.cond()?;
        let end = self.end();
        let clauses = self.clauses(true)?;
        if !self.accept(&Token::Keyword(Keyword::Do)) {
            let expected = "`max`, `variant`, `invariant`, `and`, `or` or `do` behind the condition";
            return Err(self.unexpected_near(expected, &[Keyword::Do, Keyword::And, Keyword::Or]));
        }
        if clauses.max.is_none() && clauses.variant.is_none() {
            return Err(Located::new(start..end, Cause::LoopWithoutBound));
        }
        let span = start..self.end();
        let body = Box::new(self.stmt()?);
        Ok(Stmt { span, kind: StmtKind::While { cond, clauses, body } })
    }

    fn index(&mut self, expected: &'static str) -> Parsed<(String, Span)> {
        let Token::Name(index) = self.peek().clone() else {
            return Err(self.unexpected(expected));
        };
        Ok((index, self.next().span))
    }

    /// What is said of a loop before its `do`.
    fn clauses(&mut self, of_while: bool) -> Parsed<Clauses> {
        let mut clauses = Clauses::default();
        loop {
            let start = self.span();
            if self.accept_word("invariant") {
                clauses.invariants.push(self.invariant()?);
            } else if of_while && self.accept_word("max") {
                let bound = match self.peek() {
                    Token::Number(number) => Bound::Literal(*number),
                    Token::Name(name) => Bound::Name(name.clone()),
                    _ => return Err(self.unexpected("the most turns behind `max`: a number or a parameter")),
                };
                let span = self.next().span;
                if clauses.max.replace((bound, span)).is_some() {
                    return Err(Located::new(start, Cause::ClauseTwice("max")));
                }
            } else if of_while && self.accept_word("variant") {
                let expr = self.expr("an integer that falls in every turn")?;
                if clauses.variant.replace(expr).is_some() {
                    return Err(Located::new(start, Cause::ClauseTwice("variant")));
                }
            } else {
                return Ok(clauses);
            }
        }
    }

    fn invariant(&mut self) -> Parsed<Invariant> {
        self.node()?;
        let before = self.at;
        if let Token::Name(_) = self.peek()
            && let Ok(arg) = self.var("a set of packets")
        {
            let field = if self.accept_word("to") {
                Some(Field::Dst)
            } else if self.accept_word("from") {
                Some(Field::Src)
            } else {
                None
            };
            if let Some(field) = field {
                return Ok(Invariant::Within { arg, field, addrs: self.addrs()? });
            }
        }
        self.at = before;
        Ok(Invariant::Cond(self.cond()?))
    }

    fn assignment(&mut self, start: usize) -> Parsed<Stmt> {
        let routine = self.misspelt_call();
        let mut targets = vec![self.var("a name")?];
        while self.accept(&Token::Sign(",")) {
            targets.push(self.var("the name of the second result")?);
        }
        if self.peek() != &Token::Sign("=") {
            return Err(routine.unwrap_or_else(|| self.unexpected("`=` behind the name")));
        }
        self.next();
        let value = self.value()?;
        let end = self.end();
        self.semicolon("the assignment")?;
        Ok(Stmt { span: start..end, kind: StmtKind::Assign { targets, value } })
    }

    fn value(&mut self) -> Parsed<Value> {
        let Token::Keyword(keyword) = *self.peek() else {
            if let Token::Prefix(_) = self.peek() {
                return Ok(Value::Address(self.addr_term()?));
            }
            return Ok(Value::Expr(self.expr("a routine with a result, an integer, an address or a variable")?));
        };
        match keyword {
            Keyword::ThisIp | Keyword::ThisSubnetIp => return Ok(Value::Address(self.addr_term()?)),
            Keyword::Size | Keyword::CountString | Keyword::Score => return Ok(Value::Expr(self.expr("an integer")?)),
            Keyword::Discard | Keyword::Generate | Keyword::ContainsString | Keyword::Empty | Keyword::Fold => {
                return Err(Located::new(self.span(), Cause::NoResult { routine: keyword.text() }));
            }
            _ => {}
        }
        self.next();
        let value = match keyword {
            Keyword::GroupBySource | Keyword::GroupByDestination => {
                let field = if keyword == Keyword::GroupBySource { Field::Src } else { Field::Dst };
                self.sign("(", "`(` behind the routine")?;
                let arg = self.var("a set of packets")?;
                let addrs = if self.accept(&Token::Sign(",")) { Some(self.addrs()?) } else { None };
                self.sign(")", if addrs.is_some() { "`)` behind the address" } else { "`,` and an address, or `)`" })?;
                return Ok(Value::Group { field, arg, addrs });
            }
            Keyword::GroupByContent => {
                self.sign("(", "`(` behind GROUP_BY_CONTENT")?;
                Value::Content { arg: self.var("a set of packets")? }
            }
            Keyword::Select => {
                self.sign("(", "`(` behind SELECT")?;
                let arg = self.var("a set of packets")?;
                self.sign(",", "`,` and what is asked of each packet")?;
                let test = self.test()?;
                self.sign(")", "`)`, `and` or `or` behind the test")?;
                return Ok(Value::Select { arg, test });
            }
            Keyword::Union | Keyword::Minus => {
                self.sign("(", "`(` behind the routine")?;
                let a = self.var("a set of packets")?;
                self.sign(",", "`,` and another set of packets")?;
                let b = self.var("a set of packets")?;
                if keyword == Keyword::Union { Value::Union { a, b } } else { Value::Minus { a, b } }
            }
            Keyword::Offset => {
                self.sign("(", "`(` behind OFFSET")?;
                let base = self.addr_term()?;
                self.sign(",", "`,` and how far behind the address")?;
                Value::Offset { base, by: self.expr("an integer")? }
            }
            _ => {
                self.at -= 1;
                return Err(self.unexpected("a routine with a result, an integer, an address or a variable"));
            }
        };
        self.sign(")", "`)` behind the arguments")?;
        Ok(value)
    }
}
