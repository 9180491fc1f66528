//! The lowering of operands: variables to the slots that hold them, addresses and words to constants.
//!
//! A name that the program does not define is a parameter; one without a value is an error that tells what it has to
//! be.

use super::{AddrSet, Held, Lowering};
use crate::lang::ast::{AddrTerm, Address, Addrs, Var, Word, WordKind};
use crate::lang::error::{Cause, ERRORS_MAX, Kind, Located, ParameterKind, nearest};
use crate::lang::names::Role;
use crate::lang::token::{Span, routines};
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::program::{self, ALL_PACKETS, AddrExpr, PREFIXES_MAX, Slot, WORD_LEN_MAX, WORDS_MAX};

impl Lowering<'_, '_> {
    /// What a variable is, where the program defines it.
    pub(super) fn kind(&self, var: &Var) -> Option<Kind> {
        if var.index.is_none() {
            let of_groups = || self.names.grouping_of(&var.name).map(|_| Kind::Packets);
            return self.names.kind(&var.name).or_else(of_groups);
        }
        Some(match self.names.role(var) {
            Some(Role::Key) => Kind::Addr,
            _ => Kind::Packets,
        })
    }

    /// The slot of a variable that has to be of a kind.
    pub(super) fn var(&mut self, var: &Var, wanted: Kind) -> Option<Slot> {
        if var.index.is_some() {
            let role = if wanted == Kind::Packets { Role::Packets } else { Role::Key };
            return self.result(var, role);
        }
        match self.names.kind(&var.name) {
            Some(Kind::Packets) if wanted == Kind::Packets && self.names.made(&var.name).is_none() => Some(ALL_PACKETS),
            Some(kind) if kind == wanted => self.assigned_var(var),
            Some(is) => {
                self.error(&var.span, Cause::WrongKind { var: var.name.clone(), is, wanted });
                None
            }
            None => None,
        }
    }

    fn assigned_var(&mut self, var: &Var) -> Option<Slot> {
        let slot = self.read(&Held::Var(var.name.clone()));
        if slot.is_none() {
            let mut error = Located::new(var.span.clone(), Cause::NotAssignedYet { var: var.name.clone() });
            if let Some(made) = self.names.made(&var.name) {
                error = error.with(made.clone(), "assigned here");
            }
            self.errors.push(error);
        }
        slot
    }

    /// The slot of a variable that has to hold packets.
    pub(super) fn packets(&mut self, var: &Var) -> Option<Slot> {
        if var.index.is_some() || self.names.kind(&var.name).is_some() {
            return self.var(var, Kind::Packets);
        }
        let cause = if self.names.grouping_of(&var.name).is_some() {
            Cause::IndexNeeded { name: var.name.clone() }
        } else if self.parameters.is_set(&var.name) {
            self.parameters.touch(&var.name);
            Cause::NotPackets { name: var.name.clone() }
        } else {
            let nearest = nearest(&var.name, self.names.of_kind(Kind::Packets));
            Cause::UndefinedPackets { name: var.name.clone(), nearest }
        };
        self.error(&var.span, cause);
        None
    }

    /// The slot of a result of a grouping, inside its foreach.
    pub(super) fn result(&mut self, var: &Var, wanted: Role) -> Option<Slot> {
        let index = var.index.as_deref()?;
        let cause = match self.names.grouping(index) {
            _ if self.names.kind(&var.name).is_some() => Cause::NotIndexed { name: var.name.clone() },
            None => match nearest(&var.name, routines()) {
                // Most likely a call.
                Some(near) if self.names.grouping_of(&var.name).is_none() => {
                    Cause::UnknownRoutine { name: var.name.clone(), nearest: Some(near) }
                }
                _ => Cause::UnknownIndex { index: index.to_string(), nearest: nearest(index, self.names.indexes()) },
            },
            Some(grouping) => match grouping.results.iter().find(|(name, _)| *name == var.name) {
                None => Cause::NoSuchResult {
                    name: var.name.clone(),
                    index: index.to_string(),
                    results: grouping.results.iter().map(|(name, _)| format!("{name}({index})")).collect(),
                },
                // A variable of two roles was told when the names were collected.
                Some((_, role)) if *role != wanted => return None,
                Some(_) => match self.running.iter().rev().find(|running| running.index == index) {
                    Some(running) if wanted == Role::Packets => return Some(running.packets),
                    Some(running) => return Some(running.key),
                    None => Cause::OutsideForeach { var: var.text(), index: index.to_string() },
                },
            },
        };
        self.error(&var.span, cause);
        None
    }

    /// The slot of a variable that has to hold an address, on the left of a comparison.
    pub(super) fn key(&mut self, var: &Var) -> Option<Slot> {
        if var.index.is_some() || self.names.kind(&var.name).is_some() {
            return self.var(var, Kind::Addr);
        }
        let cause = if self.names.grouping_of(&var.name).is_some() {
            Cause::IndexNeeded { name: var.name.clone() }
        } else {
            self.parameters.touch(&var.name);
            Cause::AddressOnTheLeft
        };
        self.error(&var.span, cause);
        None
    }

    /// The slot of a result of a GROUP_BY_CONTENT.
    pub(super) fn data(&mut self, var: &Var) -> Option<Slot> {
        if var.index.is_none() && matches!(self.names.kind(&var.name), Some(Kind::Dests | Kind::Contents)) {
            return self.assigned_var(var);
        }
        self.parameters.touch(&var.name);
        self.error(&var.span, Cause::NotData { var: var.text() });
        None
    }

    pub(super) fn addrs(&mut self, addrs: &Addrs) -> Option<AddrSet> {
        let mut set = AddrSet { constants: AddrExpr::default(), slots: Vec::new() };
        let mut prefixes: Vec<Prefix> = Vec::new();
        let mut whole = true;
        for (term, span) in &addrs.terms {
            match term {
                AddrTerm::Literal(prefix) => prefixes.push(*prefix),
                AddrTerm::ThisIp => {
                    set.constants.this_ip = true;
                    self.this_ip(span);
                }
                AddrTerm::ThisSubnetIp => {
                    set.constants.this_subnet = true;
                    self.this_subnet(span);
                }
                AddrTerm::Name(var) if self.is_variable(var) => match self.var(var, Kind::Addr) {
                    Some(slot) => set.slots.push(slot),
                    None => whole = false,
                },
                AddrTerm::Name(var) => match self.parameter_addrs(var) {
                    Some(values) => prefixes.extend(values),
                    None => whole = false,
                },
            }
        }
        set.constants.prefixes = PrefixSet::new(prefixes);
        let count = set.constants.prefixes.prefixes().len();
        if count > PREFIXES_MAX {
            self.error(&addrs.span, Cause::TooManyPrefixes { count });
        }
        whole.then_some(set)
    }

    /// Whether a name in the place of an address is defined by the program.
    fn is_variable(&self, var: &Var) -> bool {
        var.index.is_some() || self.names.kind(&var.name).is_some()
    }

    fn this_ip(&mut self, span: &Span) {
        if self.owner.this_ip().is_none() {
            self.error(span, Cause::ThisIpUnset);
        }
    }

    fn this_subnet(&mut self, span: &Span) {
        if self.owner.this_subnet().is_none() {
            self.error(span, Cause::ThisSubnetUnset);
        }
    }

    /// One address.
    pub(super) fn address(&mut self, (term, span): &Address) -> Option<program::AddrTerm> {
        let one = |prefixes: &[Prefix]| match prefixes {
            [prefix] if prefix.len() == prefix.addr().width() => Some(prefix.addr()),
            _ => None,
        };
        let (addr, text): (Option<Addr>, String) = match term {
            AddrTerm::Literal(prefix) => (one(&[*prefix]), prefix.to_string()),
            AddrTerm::ThisIp => {
                self.this_ip(span);
                return Some(program::AddrTerm::ThisIp);
            }
            AddrTerm::ThisSubnetIp => {
                self.this_subnet(span);
                return Some(program::AddrTerm::ThisSubnet);
            }
            AddrTerm::Name(var) if self.is_variable(var) => {
                return self.var(var, Kind::Addr).map(|slot| program::AddrTerm::Slot { slot });
            }
            AddrTerm::Name(var) => (one(&self.parameter_addrs(var)?), var.name.clone()),
        };
        if addr.is_none() {
            self.error(span, Cause::NotOneAddress { text });
        }
        addr.map(|addr| program::AddrTerm::Const { addr })
    }

    fn parameter_addrs(&mut self, var: &Var) -> Option<Vec<Prefix>> {
        let cause = if self.names.grouping_of(&var.name).is_some() {
            Cause::IndexNeeded { name: var.name.clone() }
        } else if !self.parameters.is_set(&var.name) {
            self.unset(&var.name, ParameterKind::Addrs)
        } else {
            match self.parameters.addrs(&var.name, &var.span) {
                Ok(prefixes) => return prefixes,
                Err(error) => {
                    self.errors.push(error);
                    return None;
                }
            }
        };
        self.error(&var.span, cause);
        None
    }

    pub(super) fn unset(&mut self, name: &str, what: ParameterKind) -> Cause {
        self.parameters.wanted(name);
        // What will not be told needs no suggestion.
        let known = self.parameters.set_names().chain(self.names.variables());
        let nearest = if self.errors.len() < ERRORS_MAX { nearest(name, known) } else { None };
        Cause::ParameterUnset { name: name.to_string(), what, nearest }
    }

    pub(super) fn word(&mut self, word: &Word) -> Option<u8> {
        let span = &word.span;
        let mut bytes = match &word.kind {
            WordKind::Literal(bytes) => bytes.clone(),
            WordKind::Name(name) if self.names.defines(name) => {
                self.error(span, Cause::WordOfSet { name: name.clone() });
                return None;
            }
            WordKind::Name(name) if !self.parameters.is_set(name) => {
                let cause = self.unset(name, ParameterKind::Word);
                self.error(span, cause);
                return None;
            }
            WordKind::Name(name) => match self.parameters.word(name, span) {
                Ok(bytes) => bytes?,
                Err(error) => {
                    self.errors.push(error);
                    return None;
                }
            },
        };
        if bytes.is_empty() {
            self.error(span, Cause::EmptyWord);
            return None;
        }
        if bytes.len() > WORD_LEN_MAX {
            self.error(span, Cause::WordTooLong { len: bytes.len() });
            return None;
        }
        if word.fold {
            bytes.make_ascii_lowercase();
        }
        // Without a letter there is nothing to fold, and the bytecode has one form for it.
        let word = program::Word { fold: word.fold && bytes.iter().any(u8::is_ascii_lowercase), bytes };
        if let Some(known) = self.words.iter().position(|known| *known == word) {
            return Some(known as u8);
        }
        if self.words.len() == WORDS_MAX {
            self.once("words", span, Cause::TooManyWords);
            return None;
        }
        self.words.push(word);
        Some((self.words.len() - 1) as u8)
    }
}
