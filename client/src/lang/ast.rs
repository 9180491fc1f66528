//! The tree that the parser makes: names as they are written, nothing resolved yet.

use super::token::Span;
use vinet_trusted::addr::Prefix;
use vinet_trusted::program::Field;

/// A whole source text.
#[derive(Debug)]
pub(crate) struct Source {
    /// In seconds, with the place of the clause.
    pub(crate) lifetime_s: (u32, Span),
    pub(crate) body: Vec<Stmt>,
}

/// A name, or a name with an index: `MyPackets`, `Packets(i)`.
#[derive(Clone, Debug)]
pub(crate) struct Var {
    pub(crate) name: String,
    pub(crate) index: Option<String>,
    pub(crate) span: Span,
}

impl Var {
    /// As it is written.
    pub(crate) fn text(&self) -> String {
        match &self.index {
            Some(index) => format!("{}({index})", self.name),
            None => self.name.clone(),
        }
    }
}

/// A statement and its place.
#[derive(Debug)]
pub(crate) struct Stmt {
    pub(crate) span: Span,
    pub(crate) kind: StmtKind,
}

#[derive(Debug)]
pub(crate) enum StmtKind {
    /// `targets = GROUP_BY_…(arg)` or, with addresses, `target = GROUP_BY_…(arg, addrs)`.
    Group {
        targets: Vec<Var>,
        field: Field,
        arg: Var,
        addrs: Option<Addrs>,
    },
    Discard {
        arg: Var,
    },
    If {
        cond: Cond,
        then: Box<Stmt>,
        otherwise: Option<Box<Stmt>>,
    },
    Foreach {
        index: (String, Span),
        body: Box<Stmt>,
    },
    Block(Vec<Stmt>),
}

/// Addresses: one, or several in braces.
#[derive(Debug)]
pub(crate) struct Addrs {
    pub(crate) terms: Vec<(AddrTerm, Span)>,
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) enum AddrTerm {
    Literal(Prefix),
    ThisIp,
    ThisSubnetIp,
    /// A parameter, or a mistake.
    Name(Var),
}

#[derive(Debug)]
pub(crate) enum Word {
    Literal(Vec<u8>),
    Name(String),
}

#[derive(Debug)]
pub(crate) struct Cond {
    pub(crate) span: Span,
    pub(crate) kind: CondKind,
}

#[derive(Debug)]
pub(crate) enum CondKind {
    Contains {
        arg: Var,
        word: Word,
        word_span: Span,
    },
    /// `key = addrs`, `key in addrs`; negated `!=`, `not in`.
    Compare {
        key: Var,
        addrs: Addrs,
        negated: bool,
    },
    Not(Box<Cond>),
    /// Joined by `and`: two or more.
    All(Vec<Cond>),
    /// Joined by `or`: two or more.
    Any(Vec<Cond>),
}
