//! The parser: recursive descent over the tokens, with a bound on its depth.
//!
//! Parsing is total: it returns the tree or the first place where the text leaves the grammar of `docs/LANGUAGE.md`.

use super::ast::{AddrTerm, Addrs, Cond, CondKind, Source, Stmt, StmtKind, Var, Word};
use super::error::{Cause, Located, PARSE_DEPTH_MAX, nearest};
use super::lifetime;
use super::token::{KEYWORDS, Keyword, Span, Spanned, Token, quoted, tokens};
use vinet_trusted::program::{Field, NODES_MAX};

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
            Token::Keyword(Keyword::Later(name)) => {
                return Located::new(self.span(), Cause::NotInThisVersion(name));
            }
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
        let mut body = Vec::new();
        while self.peek() != &Token::EndOfText {
            if self.peek() != &Token::Keyword(Keyword::Lifetime) {
                body.push(self.stmt()?);
                continue;
            }
            let clause = self.lifetime()?;
            if let Some((_, first)) = lifetime {
                return Err(Located::new(clause.1, Cause::LifetimeTwice).with(first, "first here"));
            }
            lifetime = Some(clause);
        }
        let lifetime_s = lifetime.ok_or_else(|| Located::new(0..0, Cause::LifetimeMissing))?;
        Ok(Source { lifetime_s, body })
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
        let ends_line = self.here().starts_line || self.peek() == &Token::EndOfText;
        if !self.accept(&Token::Sign(";")) && !ends_line {
            return Err(self.unexpected("`;` or the end of the line behind the LIFETIME"));
        }
        Ok((seconds, start..end))
    }

    fn stmt(&mut self) -> Parsed<Stmt> {
        self.nested(Parser::stmt_here)
    }

    fn stmt_here(&mut self) -> Parsed<Stmt> {
        self.node()?;
        let start = self.span().start;
        let kind = match self.peek() {
            Token::Keyword(Keyword::Lifetime) => return Err(Located::new(self.span(), Cause::LifetimeInside)),
            Token::Keyword(Keyword::Discard) => {
                self.next();
                self.sign("(", "`(` behind DISCARD")?;
                let arg = self.var("a set of packets")?;
                self.sign(")", "`)` behind the set of packets")?;
                let end = self.end();
                self.semicolon("DISCARD(…)")?;
                return Ok(Stmt { span: start..end, kind: StmtKind::Discard { arg } });
            }
            Token::Keyword(Keyword::If) => return self.branch(start),
            Token::Keyword(Keyword::Foreach) => return self.foreach(start),
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
            Token::Name(_) => return self.grouping(start),
            Token::Keyword(Keyword::GroupBySource | Keyword::GroupByDestination)
                if self.peek_behind() == &Token::Sign("(") =>
            {
                return Err(self.unexpected("a name for the result: Name = GROUP_BY_…(…);"));
            }
            Token::Keyword(keyword) if self.peek_behind() == &Token::Sign("=") => {
                let cause = match keyword {
                    Keyword::Later(name) => Cause::NotInThisVersion(name),
                    _ => Cause::ReservedName { name: keyword.text().to_string() },
                };
                return Err(Located::new(self.span(), cause));
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
        let span = self.span();
        let Token::Name(index) = self.peek().clone() else {
            return Err(self.unexpected("the index of a grouping behind `foreach`"));
        };
        self.next();
        self.keyword(Keyword::Do, "`do` behind the index")?;
        let header = start..self.end();
        let body = Box::new(self.stmt()?);
        Ok(Stmt { span: header, kind: StmtKind::Foreach { index: (index, span), body } })
    }

    fn grouping(&mut self, start: usize) -> Parsed<Stmt> {
        let routine = self.misspelt_call();
        let mut targets = vec![self.var("a name")?];
        while self.accept(&Token::Sign(",")) {
            targets.push(self.var("the name of the second result")?);
        }
        if self.peek() != &Token::Sign("=") {
            return Err(routine.unwrap_or_else(|| self.unexpected("`=` behind the name")));
        }
        self.next();
        let field = match self.peek() {
            Token::Keyword(Keyword::GroupBySource) => Field::Src,
            Token::Keyword(Keyword::GroupByDestination) => Field::Dst,
            Token::Name(_) => {
                let cause = self.misspelt_call();
                return Err(cause.unwrap_or_else(|| Located::new(self.span(), Cause::PlainCopy)));
            }
            Token::Keyword(Keyword::Discard | Keyword::ContainsString) => {
                return Err(Located::new(self.span(), Cause::PlainCopy));
            }
            _ => return Err(self.unexpected("GROUP_BY_SOURCE or GROUP_BY_DESTINATION")),
        };
        self.next();
        self.sign("(", "`(` behind the routine")?;
        let arg = self.var("a set of packets")?;
        let addrs = if self.accept(&Token::Sign(",")) { Some(self.addrs()?) } else { None };
        self.sign(")", if addrs.is_some() { "`)` behind the address" } else { "`,` and an address, or `)`" })?;
        let end = self.end();
        self.semicolon("the assignment")?;
        Ok(Stmt { span: start..end, kind: StmtKind::Group { targets, field, arg, addrs } })
    }

    /// The error to tell where a name with a parenthesis behind it turns out to be no variable.
    fn misspelt_call(&self) -> Option<Located> {
        let Token::Name(name) = self.peek() else { return None };
        if self.peek_behind() != &Token::Sign("(") {
            return None;
        }
        let routines = KEYWORDS.iter().map(|&(text, _)| text).filter(|text| text.contains('_') || *text == "DISCARD");
        let cause = Cause::UnknownRoutine { name: name.clone(), nearest: nearest(name, routines) };
        Some(Located::new(self.span(), cause))
    }

    fn var(&mut self, expected: &'static str) -> Parsed<Var> {
        let Token::Name(name) = self.peek().clone() else {
            return Err(self.unexpected(expected));
        };
        let start = self.next().span.start;
        let mut index = None;
        if self.accept(&Token::Sign("(")) {
            let Token::Name(name) = self.peek().clone() else {
                return Err(self.unexpected("an index, like i"));
            };
            self.next();
            self.sign(")", "`)` behind the index")?;
            index = Some(name);
        }
        Ok(Var { name, index, span: start..self.end() })
    }

    fn addrs(&mut self) -> Parsed<Addrs> {
        let start = self.span().start;
        let mut terms = Vec::new();
        if !self.accept(&Token::Sign("{")) {
            terms.push(self.addr_term()?);
            return Ok(Addrs { terms, span: start..self.end() });
        }
        if self.accept(&Token::Sign("}")) {
            return Err(Located::new(start..self.end(), Cause::EmptyAddrs));
        }
        loop {
            if self.peek() == &Token::Sign("{") {
                return Err(Located::new(self.span(), Cause::NestedAddrs));
            }
            terms.push(self.addr_term()?);
            if !self.accept(&Token::Sign(",")) {
                break;
            }
        }
        self.sign("}", "`,` or `}` in the set of addresses")?;
        Ok(Addrs { terms, span: start..self.end() })
    }

    fn addr_term(&mut self) -> Parsed<(AddrTerm, Span)> {
        let span = self.span();
        let term = match self.peek() {
            Token::Prefix(prefix) => AddrTerm::Literal(*prefix),
            Token::Keyword(Keyword::ThisIp) => AddrTerm::ThisIp,
            Token::Keyword(Keyword::ThisSubnetIp) => AddrTerm::ThisSubnetIp,
            Token::Name(_) => {
                let var = self.var("an address")?;
                let span = var.span.clone();
                return Ok((AddrTerm::Name(var), span));
            }
            _ => {
                return Err(
                    self.unexpected("an address, a prefix, a set in braces, THIS_IP, THIS_SUBNET_IP or a parameter")
                );
            }
        };
        self.next();
        Ok((term, span))
    }

    fn cond(&mut self) -> Parsed<Cond> {
        self.joined(Keyword::Or, CondKind::Any, |parser| parser.joined(Keyword::And, CondKind::All, Parser::cond_not))
    }

    fn joined(
        &mut self,
        keyword: Keyword,
        kind: fn(Vec<Cond>) -> CondKind,
        part: impl Fn(&mut Parser) -> Parsed<Cond>,
    ) -> Parsed<Cond> {
        let start = self.span().start;
        let first = part(self)?;
        if self.peek() != &Token::Keyword(keyword) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.accept(&Token::Keyword(keyword)) {
            parts.push(part(self)?);
        }
        Ok(Cond { span: start..self.end(), kind: kind(parts) })
    }

    fn cond_not(&mut self) -> Parsed<Cond> {
        self.nested(|parser| {
            let start = parser.span().start;
            if parser.accept(&Token::Keyword(Keyword::Not)) {
                let inner = parser.cond_not()?;
                return Ok(Cond { span: start..parser.end(), kind: CondKind::Not(Box::new(inner)) });
            }
            if parser.accept(&Token::Sign("(")) {
                let inner = parser.cond()?;
                parser.sign(")", "`)`, `and` or `or` in the condition")?;
                return Ok(Cond { span: start..parser.end(), kind: inner.kind });
            }
            parser.test(start)
        })
    }

    fn test(&mut self, start: usize) -> Parsed<Cond> {
        self.node()?;
        if self.accept(&Token::Keyword(Keyword::ContainsString)) {
            self.sign("(", "`(` behind CONTAINS_STRING")?;
            let arg = self.var("a set of packets")?;
            self.sign(",", "`,` and a string")?;
            let word_span = self.span();
            let word = match self.peek() {
                Token::Text(bytes) => Word::Literal(bytes.clone()),
                Token::Name(name) => Word::Name(name.clone()),
                _ => return Err(self.unexpected("a string in double quotes, or a parameter")),
            };
            self.next();
            self.sign(")", "`)` behind the string")?;
            return Ok(Cond { span: start..self.end(), kind: CondKind::Contains { arg, word, word_span } });
        }
        match self.peek() {
            Token::Name(_) => {}
            Token::Prefix(_) | Token::Keyword(Keyword::ThisIp | Keyword::ThisSubnetIp) | Token::Sign("{") => {
                return Err(Located::new(self.span(), Cause::AddressOnTheLeft));
            }
            _ => return Err(self.unexpected("a condition: CONTAINS_STRING(…), a comparison, `not` or `(`")),
        }
        let routine = self.misspelt_call();
        let key = self.var("a condition").map_err(|error| routine.unwrap_or(error))?;
        let negated = match self.peek() {
            Token::Sign("=") | Token::Keyword(Keyword::In) => false,
            Token::Sign("!=") => true,
            Token::Keyword(Keyword::Not) if self.peek_behind() == &Token::Keyword(Keyword::In) => {
                self.next();
                true
            }
            // A clause of a later version behind a name is told as that.
            Token::Keyword(Keyword::Later(name)) => {
                return Err(Located::new(self.span(), Cause::NotInThisVersion(name)));
            }
            _ => return Err(Located::new(self.end()..self.end(), Cause::NotCompared(key.text()))),
        };
        self.next();
        let addrs = self.addrs()?;
        Ok(Cond { span: start..self.end(), kind: CondKind::Compare { key, addrs, negated } })
    }
}
