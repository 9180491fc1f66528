//! The grammar of operands: variables, addresses with their sets, and words.
//!
//! Whether a bare name is a variable or a parameter is not known here; the names are looked up when they are lowered.

use super::{Parsed, Parser};
use crate::lang::ast::{AddrTerm, Address, Addrs, Var, Word, WordKind};
use crate::lang::error::{Cause, Located, nearest};
use crate::lang::token::{Keyword, Token, routines};

impl Parser {
    /// The error to tell where a name with a parenthesis behind it turns out to be no variable.
    pub(super) fn misspelt_call(&self) -> Option<Located> {
        let Token::Name(name) = self.peek() else { return None };
        if self.peek_behind() != &Token::Sign("(") {
            return None;
        }
        let cause = Cause::UnknownRoutine { name: name.clone(), nearest: nearest(name, routines()) };
        Some(Located::new(self.span(), cause))
    }

    pub(super) fn var(&mut self, expected: &'static str) -> Parsed<Var> {
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

    pub(super) fn addrs(&mut self) -> Parsed<Addrs> {
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

    pub(super) fn addr_term(&mut self) -> Parsed<Address> {
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

    pub(super) fn word(&mut self) -> Parsed<Word> {
        let span = self.span();
        if self.accept(&Token::Keyword(Keyword::Fold)) {
            self.sign("(", "`(` behind FOLD")?;
            let Word { kind, .. } = self.plain_word()?;
            self.sign(")", "`)` behind the string")?;
            return Ok(Word { fold: true, kind, span: span.start..self.end() });
        }
        self.plain_word()
    }

    fn plain_word(&mut self) -> Parsed<Word> {
        let kind = match self.peek() {
            Token::Text(bytes) => WordKind::Literal(bytes.clone()),
            Token::Name(name) => WordKind::Name(name.clone()),
            _ => return Err(self.unexpected("a string in double quotes, or a parameter")),
        };
        Ok(Word { fold: false, kind, span: self.next().span })
    }
}
