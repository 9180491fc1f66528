//! A program as it stands, with its names resolved for one owner: what every accepted program can be run as.
//!
//! Plans are made from the tree, and it is what [`crate::walk`] walks where a plan would be too large or cannot say
//! what the program does.

use crate::contains_string::WordMask;
use std::collections::HashMap;
use vinet_trusted::addr::{Addr, AddrExpr, PrefixSet, Principal, Unset};
use vinet_trusted::packet::{self, Field, Number, Ranges};
use vinet_trusted::program::{AddrTerm, Cond, Expr, Instr, Program, Slot, Type};

/// The number of a test of an address against a set, or of a number against ranges. A program has at most 1,024 nodes.
pub(crate) type TestId = u16;

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Select { out: Slot, arg: Slot, test: Test },
    Partition { out: Slot, arg: Slot, field: Field },
    Content { dests: Slot, contents: Slot, arg: Slot },
    Union { out: Slot, a: Slot, b: Slot },
    Minus { out: Slot, a: Slot, b: Slot },
    Count { out: Slot, arg: Slot, word: u8 },
    Size { out: Slot, arg: Slot },
    Let { out: Slot, expr: Expr },
    Offset { out: Slot, base: Term, by: Expr },
    Discard { arg: Slot },
    Generate { src: Term, dst: Term, data: Slot, contents: bool },
    If { cond: Check, then: Vec<Step>, otherwise: Vec<Step> },
    Foreach { groups: Slot, field: Field, packets: Slot, key: Slot, body: Vec<Step> },
    While { cond: Check, turns: u32, body: Vec<Step> },
}

/// One address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Term {
    Const(Addr),
    Slot(Slot),
}

/// A test of one packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Test {
    True,
    False,
    /// The number of a set in [`Tree::tests`].
    In(TestId),
    /// `own` says that the slot is the packet's own address wherever the window has one packet.
    Is {
        field: Field,
        slot: Slot,
        own: bool,
    },
    /// The number of ranges in [`Tree::numbers`].
    Number(TestId),
    Not(Box<Test>),
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
}

/// One condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Check {
    Contains {
        arg: Slot,
        word: u8,
    },
    Empty {
        arg: Slot,
    },
    /// The address that the slot holds is in the set of a test. Where the slot is a key of groups, the test is of the
    /// field that they were grouped by.
    In {
        slot: Slot,
        test: TestId,
    },
    Is {
        slot: Slot,
        other: Slot,
    },
    AtMost {
        a: Expr,
        b: Expr,
    },
    Equal {
        a: Expr,
        b: Expr,
    },
    Not(Box<Check>),
    And(Box<Check>, Box<Check>),
    Or(Box<Check>, Box<Check>),
}

/// A program for one owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tree {
    pub(crate) body: Vec<Step>,
    pub(crate) tests: Vec<(Field, PrefixSet)>,
    pub(crate) numbers: Vec<(Number, Ranges)>,
    pub(crate) slots: usize,
    /// Instructions, conditions and tests, together.
    pub(crate) nodes: usize,
    /// Whether a plan can say what it does to one packet: it looks at addresses, numbers in headers and words.
    pub(crate) folds: bool,
    /// The words that are counted.
    pub(crate) counted: WordMask,
    /// Whether it generates packets.
    pub(crate) generates: bool,
}

impl Tree {
    /// Resolves `program` for `owner`. The turns that a while has are in `turns`, by its number; none there: as many as
    /// the program says.
    pub(crate) fn new(
        program: &Program,
        owner: &Principal,
        turns: &dyn Fn(usize) -> Option<u32>,
    ) -> Result<Tree, Unset> {
        let tree = Tree {
            body: Vec::new(),
            tests: Vec::new(),
            numbers: Vec::new(),
            slots: program.slots().len(),
            nodes: 0,
            folds: true,
            counted: 0,
            generates: false,
        };
        let (names, ranges, keys) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut maker = Maker { program, owner, turns, tree, names, ranges, keys, instr: 0 };
        let body = maker.block(program.body())?;
        Ok(Tree { body, ..maker.tree })
    }
}

struct Maker<'a> {
    program: &'a Program,
    owner: &'a Principal,
    turns: &'a dyn Fn(usize) -> Option<u32>,
    tree: Tree,
    names: HashMap<(Field, PrefixSet), TestId>,
    ranges: HashMap<(Number, Ranges), TestId>,
    /// The slots that hold the common address of a group, with the field. They are never assigned.
    keys: HashMap<Slot, Field>,
    /// The number of the next instruction.
    instr: usize,
}

impl Maker<'_> {
    fn set(&mut self, field: Field, addrs: PrefixSet) -> TestId {
        let tests = &mut self.tree.tests;
        *self.names.entry((field, addrs)).or_insert_with_key(|test| {
            tests.push(test.clone());
            (tests.len() - 1) as TestId
        })
    }

    fn test(&mut self, test: &packet::Test) -> Result<Test, Unset> {
        self.tree.nodes += 1;
        Ok(match test {
            packet::Test::True => Test::True,
            packet::Test::False => Test::False,
            packet::Test::Owns { field } => Test::In(self.set(*field, PrefixSet::new(vec![self.owner.owned()]))),
            packet::Test::In { field, addrs } => Test::In(self.set(*field, addrs.resolve(self.owner)?)),
            packet::Test::Is { field, slot } => {
                let own = self.keys.get(slot) == Some(field);
                self.tree.folds &= own;
                Test::Is { field: *field, slot: *slot, own }
            }
            packet::Test::Number { number, ranges } => {
                let numbers = &mut self.tree.numbers;
                Test::Number(*self.ranges.entry((*number, ranges.clone())).or_insert_with_key(|test| {
                    numbers.push(test.clone());
                    (numbers.len() - 1) as TestId
                }))
            }
            packet::Test::Not { a } => Test::Not(Box::new(self.test(a)?)),
            packet::Test::And { a, b } => Test::And(Box::new(self.test(a)?), Box::new(self.test(b)?)),
            packet::Test::Or { a, b } => Test::Or(Box::new(self.test(a)?), Box::new(self.test(b)?)),
        })
    }

    fn term(&self, term: &AddrTerm) -> Result<Term, Unset> {
        Ok(match term {
            AddrTerm::ThisIp => Term::Const(self.owner.this_ip().ok_or(Unset::ThisIp)?),
            AddrTerm::ThisSubnet => Term::Const(self.owner.this_subnet().ok_or(Unset::ThisSubnet)?.addr()),
            AddrTerm::Const { addr } => Term::Const(*addr),
            AddrTerm::Slot { slot } => Term::Slot(*slot),
        })
    }

    fn block(&mut self, block: &[Instr]) -> Result<Vec<Step>, Unset> {
        block.iter().map(|instr| self.instr(instr)).collect()
    }

    fn instr(&mut self, instr: &Instr) -> Result<Step, Unset> {
        let number = self.instr;
        self.instr += 1;
        self.tree.nodes += 1;
        self.tree.folds &= !matches!(
            instr,
            Instr::Content { .. }
                | Instr::Count { .. }
                | Instr::Size { .. }
                | Instr::Let { .. }
                | Instr::Offset { .. }
                | Instr::Generate { .. }
                | Instr::While { .. }
        );
        Ok(match instr {
            Instr::Select { out, arg, test } => Step::Select { out: *out, arg: *arg, test: self.test(test)? },
            Instr::Partition { out, arg, field } => Step::Partition { out: *out, arg: *arg, field: *field },
            Instr::Content { dests, contents, arg } => Step::Content { dests: *dests, contents: *contents, arg: *arg },
            Instr::Union { out, a, b } => Step::Union { out: *out, a: *a, b: *b },
            Instr::Minus { out, a, b } => Step::Minus { out: *out, a: *a, b: *b },
            Instr::Count { out, arg, word } => {
                self.tree.counted |= 1 << word;
                Step::Count { out: *out, arg: *arg, word: *word }
            }
            Instr::Size { out, arg } => Step::Size { out: *out, arg: *arg },
            Instr::Let { out, expr } => Step::Let { out: *out, expr: expr.clone() },
            Instr::Offset { out, base, by } => Step::Offset { out: *out, base: self.term(base)?, by: by.clone() },
            Instr::Discard { arg } => Step::Discard { arg: *arg },
            Instr::Generate { src, dst, data } => {
                self.tree.generates = true;
                let contents = self.program.slots()[usize::from(*data)] == Type::Contents;
                Step::Generate { src: self.term(src)?, dst: self.term(dst)?, data: *data, contents }
            }
            Instr::If { cond, then, otherwise } => {
                Step::If { cond: self.cond(cond)?, then: self.block(then)?, otherwise: self.block(otherwise)? }
            }
            Instr::Foreach { groups, packets, key, body } => {
                let Type::Groups(field) = self.program.slots()[usize::from(*groups)] else {
                    unreachable!("slot {groups} holds no groups in a well-formed program");
                };
                self.keys.insert(*key, field);
                Step::Foreach { groups: *groups, field, packets: *packets, key: *key, body: self.block(body)? }
            }
            Instr::While { cond, max, body } => {
                let turns = (self.turns)(number).unwrap_or(*max);
                Step::While { cond: self.cond(cond)?, turns, body: self.block(body)? }
            }
        })
    }

    fn cond(&mut self, cond: &Cond) -> Result<Check, Unset> {
        self.tree.nodes += 1;
        let within = |maker: &mut Self, slot: Slot, addrs: PrefixSet| {
            let key = maker.keys.get(&slot).copied();
            maker.tree.folds &= key.is_some();
            Check::In { slot, test: maker.set(key.unwrap_or(Field::Src), addrs) }
        };
        Ok(match cond {
            Cond::Contains { arg, word } => Check::Contains { arg: *arg, word: *word },
            Cond::Empty { arg } => Check::Empty { arg: *arg },
            Cond::AddrIn { addr, addrs } => within(self, *addr, AddrExpr::resolve(addrs, self.owner)?),
            Cond::AddrIs { addr, is } => match self.term(is)? {
                Term::Const(is) => within(self, *addr, PrefixSet::of(is)),
                Term::Slot(other) => {
                    self.tree.folds = false;
                    Check::Is { slot: *addr, other }
                }
            },
            Cond::AtMost { a, b } => {
                self.tree.folds = false;
                Check::AtMost { a: a.clone(), b: b.clone() }
            }
            Cond::Equal { a, b } => {
                self.tree.folds = false;
                Check::Equal { a: a.clone(), b: b.clone() }
            }
            Cond::Not { cond } => Check::Not(Box::new(self.cond(cond)?)),
            Cond::And { a, b } => Check::And(Box::new(self.cond(a)?), Box::new(self.cond(b)?)),
            Cond::Or { a, b } => Check::Or(Box::new(self.cond(a)?), Box::new(self.cond(b)?)),
        })
    }
}
