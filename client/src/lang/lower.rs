//! Lowering: a tree with its names to the bytecode, and the place of each instruction.
//!
//! The rules of well-formed programs are checked here with places, so that what comes out is accepted by
//! [`Program::new`]; an offence that is found only there is told at the LIFETIME.

use super::ast::{AddrTerm, Addrs, Cond, CondKind, Source, Stmt, StmtKind, Var, Word};
use super::error::{Cause, ERRORS_MAX, Located, ParameterKind, nearest};
use super::names::{ALL, Names, Role};
use super::parameter::Parameters;
use super::token::Span;
use std::collections::{BTreeMap, BTreeSet};
use vinet_trusted::addr::{Prefix, PrefixSet, Principal};
use vinet_trusted::program::{
    ALL_PACKETS, AddrExpr, Cond as Test, DEPTH_MAX, Field, Instr, NODES_MAX, PREFIXES_MAX, Program, SLOTS_MAX, Slot,
    WORD_LEN_MAX, WORDS_MAX,
};

/// The program of a tree and the place of each instruction, in the order in which instructions are counted.
pub(crate) fn lower(
    source: &Source,
    parameters: &mut Parameters<'_>,
    owner: &Principal,
) -> Result<(Program, Vec<Span>), Vec<Located>> {
    let mut errors = Vec::new();
    let names = Names::of(&source.body, &mut errors);
    let mut lowering = Lowering {
        names: &names,
        parameters,
        owner,
        errors,
        slots: BTreeMap::new(),
        assigned: vec![true],
        running: Vec::new(),
        words: Vec::new(),
        places: Vec::new(),
        nodes: 0,
        told: BTreeSet::new(),
    };
    let mut body = Vec::new();
    lowering.block(&source.body, 0, &mut body);
    let Lowering { mut errors, words, places, parameters, .. } = lowering;
    // A broken value of a parameter is told by the parameters; the body then has a gap.
    if errors.is_empty() && !parameters.is_broken() {
        let (lifetime_s, clause) = &source.lifetime_s;
        match Program::new(*lifetime_s, words, body) {
            Ok(program) => return Ok((program, places)),
            Err(error) => errors.push(Located::new(clause.clone(), Cause::Refused(error))),
        }
    }
    Err(errors)
}

/// What a slot is for: a set by its name, or the groups of an index.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Set(String),
    Groups(String),
}

/// A foreach around the place at hand.
struct Running {
    index: String,
    packets: Slot,
    key: Slot,
}

struct Lowering<'a, 'p> {
    names: &'a Names,
    parameters: &'a mut Parameters<'p>,
    owner: &'a Principal,
    errors: Vec<Located>,
    slots: BTreeMap<Held, Slot>,
    /// Whether each slot is assigned on every way to here.
    assigned: Vec<bool>,
    running: Vec<Running>,
    words: Vec<Vec<u8>>,
    places: Vec<Span>,
    nodes: usize,
    /// Limits that were told: each is told once.
    told: BTreeSet<&'static str>,
}

impl Lowering<'_, '_> {
    fn error(&mut self, span: &Span, cause: Cause) {
        self.errors.push(Located::new(span.clone(), cause));
    }
    fn once(&mut self, limit: &'static str, span: &Span, cause: Cause) {
        if self.told.insert(limit) {
            self.error(span, cause);
        }
    }
    fn node(&mut self, depth: usize, span: &Span) {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            self.once("nodes", span, Cause::TooManyNodes);
        }
        if depth > DEPTH_MAX {
            self.once("depth", span, Cause::TooDeep);
        }
    }
    fn new_slot(&mut self, span: &Span) -> Slot {
        let slot = self.assigned.len();
        if slot >= SLOTS_MAX {
            self.once("slots", span, Cause::TooManyVariables);
            return ALL_PACKETS;
        }
        self.assigned.push(true);
        slot as Slot
    }
    fn assign(&mut self, held: Held, span: &Span) -> Slot {
        match self.slots.get(&held) {
            Some(&slot) => {
                self.assigned[usize::from(slot)] = true;
                slot
            }
            None => {
                let slot = self.new_slot(span);
                self.slots.insert(held, slot);
                slot
            }
        }
    }
    fn read(&self, held: &Held) -> Option<Slot> {
        self.slots.get(held).copied().filter(|&slot| self.assigned[usize::from(slot)])
    }

    fn block(&mut self, block: &[Stmt], depth: usize, out: &mut Vec<Instr>) {
        for stmt in block {
            if let StmtKind::Block(inner) = &stmt.kind {
                self.block(inner, depth, out);
                continue;
            }
            self.node(depth, &stmt.span);
            self.places.push(stmt.span.clone());
            out.extend(self.stmt(stmt, depth));
        }
    }

    /// The instruction of a statement; `None` where it has an error, which is told.
    fn stmt(&mut self, stmt: &Stmt, depth: usize) -> Option<Instr> {
        match &stmt.kind {
            StmtKind::Group { targets, field, arg, addrs } => {
                let arg = self.packets(arg);
                let addrs = addrs.as_ref().map(|addrs| self.addrs(addrs));
                self.group(targets, *field, arg, addrs)
            }
            StmtKind::Discard { arg } => Some(Instr::Discard { arg: self.packets(arg)? }),
            StmtKind::If { cond, then, otherwise } => {
                let cond = self.cond(cond, depth + 1);
                let before = self.assigned.clone();
                let then = self.inner(then, depth + 1);
                let after_then = std::mem::replace(&mut self.assigned, before);
                self.assigned.resize(after_then.len(), false);
                let otherwise = otherwise.as_ref().map_or_else(Vec::new, |block| self.inner(block, depth + 1));
                for (slot, assigned) in self.assigned.iter_mut().enumerate() {
                    *assigned &= after_then.get(slot).copied().unwrap_or(false);
                }
                Some(Instr::If { cond: cond?, then, otherwise })
            }
            StmtKind::Foreach { index: (index, span), body } => {
                let groups = self.groups(index, span);
                let before = self.assigned.clone();
                let (packets, key) = (self.new_slot(span), self.new_slot(span));
                self.running.push(Running { index: index.clone(), packets, key });
                let body = self.inner(body, depth + 1);
                self.running.pop();
                // The body may run no time at all.
                let slots = self.assigned.len();
                self.assigned = before;
                self.assigned.resize(slots, false);
                Some(Instr::Foreach { groups: groups?, packets, key, body })
            }
            StmtKind::Block(_) => None,
        }
    }

    fn inner(&mut self, stmt: &Stmt, depth: usize) -> Vec<Instr> {
        let mut out = Vec::new();
        self.block(std::slice::from_ref(stmt), depth, &mut out);
        out
    }

    fn group(
        &mut self,
        targets: &[Var],
        field: Field,
        arg: Option<Slot>,
        addrs: Option<Option<AddrExpr>>,
    ) -> Option<Instr> {
        // Targets of a wrong form were told when the names were collected.
        let target = targets.first()?;
        match (addrs, &target.index) {
            (Some(addrs), None) if targets.len() == 1 && target.name != ALL => {
                let out = self.assign(Held::Set(target.name.clone()), &target.span);
                Some(Instr::Select { out, arg: arg?, field, addrs: addrs? })
            }
            (None, Some(index)) if self.names.groupings.contains_key(index) => {
                if self.running.iter().any(|running| running.index == *index) {
                    self.error(&target.span, Cause::IndexRunning { index: index.clone() });
                }
                let out = self.assign(Held::Groups(index.clone()), &target.span);
                Some(Instr::Partition { out, arg: arg?, field })
            }
            _ => None,
        }
    }

    fn groups(&mut self, index: &str, span: &Span) -> Option<Slot> {
        let Some(grouping) = self.names.groupings.get(index) else {
            let nearest = nearest(index, self.names.groupings.keys().map(String::as_str));
            self.error(span, Cause::UnknownIndex { index: index.to_string(), nearest });
            return None;
        };
        if self.running.iter().any(|running| running.index == index) {
            self.error(span, Cause::IndexRunning { index: index.to_string() });
            return None;
        }
        let slot = self.read(&Held::Groups(index.to_string()));
        if slot.is_none() {
            let cause = Cause::NotAssignedYet { var: format!("the grouping with index {index}") };
            self.errors.push(Located::new(span.clone(), cause).with(grouping.span.clone(), "assigned here"));
        }
        slot
    }

    /// The slot of a variable that has to hold packets.
    fn packets(&mut self, var: &Var) -> Option<Slot> {
        if var.index.is_some() {
            return self.result(var, Role::Packets);
        }
        if var.name == ALL {
            return Some(ALL_PACKETS);
        }
        if let Some(made) = self.names.sets.get(&var.name) {
            let slot = self.read(&Held::Set(var.name.clone()));
            if slot.is_none() {
                let error = Located::new(var.span.clone(), Cause::NotAssignedYet { var: var.name.clone() });
                self.errors.push(error.with(made.clone(), "assigned here"));
            }
            return slot;
        }
        let cause = if self.names.grouping_of(&var.name).is_some() {
            Cause::IndexNeeded { name: var.name.clone() }
        } else if self.parameters.is_set(&var.name) {
            self.parameters.touch(&var.name);
            Cause::NotPackets { name: var.name.clone() }
        } else {
            Cause::UndefinedPackets { name: var.name.clone(), nearest: nearest(&var.name, self.names.set_names()) }
        };
        self.error(&var.span, cause);
        None
    }

    /// The slot of a result of a grouping, inside its foreach.
    fn result(&mut self, var: &Var, wanted: Role) -> Option<Slot> {
        let index = var.index.as_deref()?;
        let cause = match self.names.groupings.get(index) {
            _ if var.name == ALL || self.names.sets.contains_key(&var.name) => {
                Cause::NotIndexed { name: var.name.clone() }
            }
            None => {
                let nearest = nearest(index, self.names.groupings.keys().map(String::as_str));
                Cause::UnknownIndex { index: index.to_string(), nearest }
            }
            Some(grouping) => match grouping.results.iter().find(|(name, _)| *name == var.name) {
                None => Cause::NoSuchResult {
                    name: var.name.clone(),
                    index: index.to_string(),
                    results: grouping.results.iter().map(|(name, _)| format!("{name}({index})")).collect(),
                },
                // A variable of two roles was told when the names were collected.
                Some((_, role)) if *role != wanted => return None,
                Some(_) => match self.running.iter().find(|running| running.index == index) {
                    Some(running) if wanted == Role::Packets => return Some(running.packets),
                    Some(running) => return Some(running.key),
                    None => Cause::OutsideForeach { var: var.text(), index: index.to_string() },
                },
            },
        };
        self.error(&var.span, cause);
        None
    }

    /// The slot of a variable that has to hold the common address of a group.
    fn key(&mut self, var: &Var) -> Option<Slot> {
        if var.index.is_some() {
            return self.result(var, Role::Key);
        }
        let cause = if self.names.grouping_of(&var.name).is_some() {
            Cause::IndexNeeded { name: var.name.clone() }
        } else if self.names.defines(&var.name) {
            Cause::AddressOfSet { name: var.name.clone() }
        } else {
            self.parameters.touch(&var.name);
            Cause::AddressOnTheLeft
        };
        self.error(&var.span, cause);
        None
    }

    fn addrs(&mut self, addrs: &Addrs) -> Option<AddrExpr> {
        let mut expr = AddrExpr::default();
        let mut prefixes: Vec<Prefix> = Vec::new();
        let mut whole = true;
        for (term, span) in &addrs.terms {
            match term {
                AddrTerm::Literal(prefix) => prefixes.push(*prefix),
                AddrTerm::ThisIp => {
                    expr.this_ip = true;
                    if self.owner.this_ip().is_none() {
                        self.error(span, Cause::ThisIpUnset);
                    }
                }
                AddrTerm::ThisSubnetIp => {
                    expr.this_subnet = true;
                    if self.owner.this_subnet().is_none() {
                        self.error(span, Cause::ThisSubnetUnset);
                    }
                }
                AddrTerm::Name(var) => match self.parameter_addrs(var) {
                    Some(values) => prefixes.extend(values),
                    None => whole = false,
                },
            }
        }
        expr.prefixes = PrefixSet::new(prefixes);
        let count = expr.prefixes.prefixes().len();
        if count > PREFIXES_MAX {
            self.error(&addrs.span, Cause::TooManyPrefixes { count });
        }
        whole.then_some(expr)
    }

    fn parameter_addrs(&mut self, var: &Var) -> Option<Vec<Prefix>> {
        let cause = if var.index.is_some() {
            Cause::AddressOfGroup { var: var.text() }
        } else if self.names.defines(&var.name) {
            Cause::AddressOfSet { name: var.name.clone() }
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

    fn unset(&mut self, name: &str, what: ParameterKind) -> Cause {
        self.parameters.wanted(name);
        // What will not be told needs no suggestion.
        let known = self.parameters.set_names().chain(self.names.set_names());
        let nearest = if self.errors.len() < ERRORS_MAX { nearest(name, known) } else { None };
        Cause::ParameterUnset { name: name.to_string(), what, nearest }
    }

    fn word(&mut self, word: &Word, span: &Span) -> Option<u8> {
        let bytes = match word {
            Word::Literal(bytes) => bytes.clone(),
            Word::Name(name) if self.names.defines(name) => {
                self.error(span, Cause::WordOfSet { name: name.clone() });
                return None;
            }
            Word::Name(name) if !self.parameters.is_set(name) => {
                let cause = self.unset(name, ParameterKind::Word);
                self.error(span, cause);
                return None;
            }
            Word::Name(name) => match self.parameters.word(name, span) {
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
        if let Some(known) = self.words.iter().position(|word| *word == bytes) {
            return Some(known as u8);
        }
        if self.words.len() == WORDS_MAX {
            self.once("words", span, Cause::TooManyWords);
            return None;
        }
        self.words.push(bytes);
        Some((self.words.len() - 1) as u8)
    }

    fn cond(&mut self, cond: &Cond, depth: usize) -> Option<Test> {
        match &cond.kind {
            CondKind::Contains { arg, word, word_span } => {
                self.node(depth, &cond.span);
                let arg = self.packets(arg);
                let word = self.word(word, word_span);
                Some(Test::Contains { arg: arg?, word: word? })
            }
            CondKind::Compare { key, addrs, negated } => {
                self.node(depth, &cond.span);
                let inner = depth + usize::from(*negated);
                if *negated {
                    self.node(inner, &cond.span);
                }
                let key = self.key(key);
                let addrs = self.addrs(addrs);
                let test = Test::KeyIn { key: key?, addrs: addrs? };
                Some(if *negated { Test::Not(Box::new(test)) } else { test })
            }
            CondKind::Not(inner) => {
                self.node(depth, &cond.span);
                Some(Test::Not(Box::new(self.cond(inner, depth + 1)?)))
            }
            CondKind::All(parts) => self.joined(parts, depth, Test::And),
            CondKind::Any(parts) => self.joined(parts, depth, Test::Or),
        }
    }

    /// The parts joined as a balanced tree, so that a long chain stays within the depth of the bytecode. Order and
    /// short circuits are those of the chain.
    fn joined(&mut self, parts: &[Cond], depth: usize, join: fn(Box<Test>, Box<Test>) -> Test) -> Option<Test> {
        match parts {
            [] => None,
            [one] => self.cond(one, depth),
            _ => {
                self.node(depth, &parts[0].span);
                let (left, right) = parts.split_at(parts.len().div_ceil(2));
                let left = self.joined(left, depth + 1, join);
                let right = self.joined(right, depth + 1, join);
                Some(join(Box::new(left?), Box::new(right?)))
            }
        }
    }
}
