//! The tree that the parser makes: names as they are written, nothing resolved yet.

use super::token::Span;
use vinet_trusted::addr::Prefix;
use vinet_trusted::packet::{Field, Number};

/// A whole source text.
#[derive(Debug)]
pub(crate) struct Source {
    /// In seconds, with the place of the clause.
    pub(crate) lifetime_s: (u32, Span),
    /// In packets; 0 where the policy says how many.
    pub(crate) window: Option<u16>,
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
    /// `targets = value`.
    Assign {
        targets: Vec<Var>,
        value: Value,
    },
    Discard {
        arg: Var,
    },
    Generate {
        src: Address,
        dst: Address,
        data: Var,
    },
    If {
        cond: Cond,
        then: Box<Stmt>,
        otherwise: Option<Box<Stmt>>,
    },
    Foreach {
        /// The index of a grouping.
        index: (String, Span),
        /// The index that its results have inside, where that is another one.
        alias: Option<(String, Span)>,
        clauses: Clauses,
        body: Box<Stmt>,
    },
    While {
        cond: Cond,
        clauses: Clauses,
        body: Box<Stmt>,
    },
    Block(Vec<Stmt>),
}

/// What is said of a loop.
#[derive(Default, Debug)]
pub(crate) struct Clauses {
    pub(crate) max: Option<(Bound, Span)>,
    pub(crate) variant: Option<Expr>,
    pub(crate) invariants: Vec<Invariant>,
}

/// The most turns of a while.
#[derive(Debug)]
pub(crate) enum Bound {
    Literal(u64),
    Name(String),
}

#[derive(Debug)]
pub(crate) enum Invariant {
    Cond(Cond),
    /// `arg to addrs`, `arg from addrs`.
    Within {
        arg: Var,
        field: Field,
        addrs: Addrs,
    },
}

/// The right side of an assignment.
#[derive(Debug)]
pub(crate) enum Value {
    /// `GROUP_BY_…(arg)` or, with addresses, `GROUP_BY_…(arg, addrs)`.
    Group {
        field: Field,
        arg: Var,
        addrs: Option<Addrs>,
    },
    Content {
        arg: Var,
    },
    Select {
        arg: Var,
        test: Test,
    },
    Union {
        a: Var,
        b: Var,
    },
    Minus {
        a: Var,
        b: Var,
    },
    Offset {
        base: Address,
        by: Expr,
    },
    Address(Address),
    /// An integer, or a copy of a variable of any kind.
    Expr(Expr),
}

/// Addresses: one, or several in braces.
#[derive(Debug)]
pub(crate) struct Addrs {
    pub(crate) terms: Vec<Address>,
    pub(crate) span: Span,
}

/// A term of addresses and its place.
pub(crate) type Address = (AddrTerm, Span);

#[derive(Debug)]
pub(crate) enum AddrTerm {
    Literal(Prefix),
    ThisIp,
    ThisSubnetIp,
    /// A variable, a parameter, or a mistake.
    Name(Var),
}

/// A word to look for.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) fold: bool,
    pub(crate) kind: WordKind,
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) enum WordKind {
    Literal(Vec<u8>),
    Name(String),
}

/// An integer.
#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) span: Span,
    pub(crate) kind: ExprKind,
}

#[derive(Debug)]
pub(crate) enum ExprKind {
    Number(i64),
    Var(Var),
    Size(Var),
    Count { arg: Var, word: Word },
    Score { arg: Var, weights: Vec<(Word, i64)> },
    Join { sign: Arithmetic, a: Box<Expr>, b: Box<Expr> },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
}

/// How two integers are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
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
    },
    Empty {
        arg: Var,
    },
    /// `addr = addrs`, `addr in addrs`; negated `!=`, `not in`.
    Member {
        addr: Var,
        addrs: Addrs,
        negated: bool,
    },
    /// `addr is other`; negated `is not`.
    Is {
        addr: Var,
        other: Address,
        negated: bool,
    },
    /// Integers; two addresses where both sides are variables and the order is equality.
    Compare {
        a: Expr,
        order: Order,
        b: Expr,
    },
    Not(Box<Cond>),
    /// Joined by `and`: two or more.
    All(Vec<Cond>),
    /// Joined by `or`: two or more.
    Any(Vec<Cond>),
}

/// What a SELECT asks of each packet.
#[derive(Debug)]
pub(crate) enum Test {
    Constant(bool),
    Owns(Field),
    Member {
        field: Field,
        addrs: Addrs,
        negated: bool,
    },
    /// The number is one of the values.
    Among {
        number: Number,
        values: Vec<NumberRange>,
        negated: bool,
        span: Span,
    },
    /// The number is on one side of the value.
    Compare {
        number: Number,
        order: Order,
        value: NumberTerm,
        span: Span,
    },
    Not(Box<Test>),
    All(Vec<Test>),
    Any(Vec<Test>),
}

/// A number, or all from the first to the last.
#[derive(Debug)]
pub(crate) struct NumberRange {
    pub(crate) first: NumberTerm,
    pub(crate) last: Option<NumberTerm>,
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) enum NumberTerm {
    Literal(u32),
    Name(String, Span),
}
