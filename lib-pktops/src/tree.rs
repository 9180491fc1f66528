//! A program as it stands: what every accepted program can be run as.
//!
//! Plans are made from the tree, and it is what [`crate::walk`] walks where a plan would be too large or cannot say
//! what the program does. A [`Tree`] is the same for all owners of a program; what its names stand for, for one of
//! them, is [`Own`].

use crate::contains_string::WordMask;
use crate::simplify::{self, simplify};
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
    ThisIp,
    /// The first address of THIS_SUBNET_IP.
    ThisSubnet,
    Slot(Slot),
}

/// A set of addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Addrs {
    Const(PrefixSet),
    /// What the owner owns.
    Owned,
    /// With the owner's names.
    Named(AddrExpr),
    /// The first address of THIS_SUBNET_IP.
    SubnetFirst,
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
    True,
    False,
    Contains {
        arg: Slot,
        word: u8,
    },
    Empty {
        arg: Slot,
    },
    /// The address that the slot holds is in the set of a test. Where the slot is a key of groups, the test is of the
    /// field that they were grouped by, and `key` says so.
    In {
        slot: Slot,
        test: TestId,
        key: bool,
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

/// A program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tree {
    pub(crate) body: Vec<Step>,
    pub(crate) tests: Vec<(Field, Addrs)>,
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
    /// Whether THIS_IP stands alone somewhere in the program.
    this_ip: bool,
    /// Whether THIS_SUBNET_IP does.
    this_subnet: bool,
}

/// What the names of a tree stand for, for one owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Own {
    /// For each test of the tree its set, where that is no constant.
    sets: Vec<Option<PrefixSet>>,
    this_ip: Option<Addr>,
    this_subnet: Option<Addr>,
}

impl Own {
    /// Resolves the names of `tree`.
    pub(crate) fn new(tree: &Tree, owner: &Principal) -> Result<Own, Unset> {
        let (this_ip, this_subnet) = (owner.this_ip(), owner.this_subnet().map(|subnet| subnet.addr()));
        if tree.this_ip && this_ip.is_none() {
            return Err(Unset::ThisIp);
        }
        if tree.this_subnet && this_subnet.is_none() {
            return Err(Unset::ThisSubnet);
        }
        let resolve = |(_, addrs): &(Field, Addrs)| match addrs {
            Addrs::Const(_) => Ok(None),
            Addrs::Owned => Ok(Some(PrefixSet::new(vec![owner.owned()]))),
            Addrs::Named(addrs) => addrs.resolve(owner).map(Some),
            Addrs::SubnetFirst => this_subnet.map(|addr| Some(PrefixSet::of(addr))).ok_or(Unset::ThisSubnet),
        };
        let sets = tree.tests.iter().map(resolve).collect::<Result<_, _>>()?;
        Ok(Own { sets, this_ip, this_subnet })
    }
    /// The set of a test of `tree`, of which this is.
    #[inline]
    pub(crate) fn set<'a>(&'a self, tree: &'a Tree, test: TestId) -> &'a PrefixSet {
        match (&self.sets[usize::from(test)], &tree.tests[usize::from(test)].1) {
            (Some(set), _) | (None, Addrs::Const(set)) => set,
            (None, _) => unreachable!("what is no constant is resolved"),
        }
    }
    /// What a name stands for that the tree uses.
    #[inline]
    pub(crate) fn name(&self, term: Term) -> Addr {
        let named = match term {
            Term::Const(addr) => Some(addr),
            Term::ThisIp => self.this_ip,
            Term::ThisSubnet => self.this_subnet,
            Term::Slot(_) => None,
        };
        named.expect("it was resolved, and is no slot")
    }
    /// The memory that it holds besides itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        let prefixes = self.sets.iter().flatten().map(|set| size_of_val(set.prefixes())).sum::<usize>();
        size_of_val(&*self.sets) + prefixes
    }
}

impl Tree {
    /// Makes the tree of `program`, without what it does not need. The turns that a while has are in `turns`, by its
    /// number; none there: as many as the program says.
    pub(crate) fn new(program: &Program, turns: &dyn Fn(usize) -> Option<u32>) -> Tree {
        Tree::with(program, turns, simplify)
    }
    /// The same with all that the program has.
    pub(crate) fn as_written(program: &Program, turns: &dyn Fn(usize) -> Option<u32>) -> Tree {
        Tree::with(program, turns, |block| block)
    }
    fn with(
        program: &Program,
        turns: &dyn Fn(usize) -> Option<u32>,
        simplify: impl Fn(Vec<Step>) -> Vec<Step>,
    ) -> Tree {
        let tree = Tree {
            body: Vec::new(),
            tests: Vec::new(),
            numbers: Vec::new(),
            slots: program.slots().len(),
            nodes: 0,
            folds: true,
            counted: 0,
            generates: false,
            this_ip: false,
            this_subnet: false,
        };
        let mut maker = Maker { program, turns, tree, ranges: HashMap::new(), keys: HashMap::new(), instr: 0 };
        let body = simplify(maker.block(program.body()));
        let mut tree = maker.tree;
        tree.survey(&body);
        Tree { body, ..tree }
    }

    /// How many steps it has, with those of blocks.
    pub(crate) fn steps(&self) -> usize {
        simplify::count(&self.body)
    }

    /// Adds up what a block has.
    fn survey(&mut self, block: &[Step]) {
        for step in block {
            self.nodes += 1;
            match step {
                Step::Select { test, .. } => self.survey_test(test),
                Step::Partition { .. } | Step::Union { .. } | Step::Minus { .. } | Step::Discard { .. } => {}
                Step::If { cond, then, otherwise } => {
                    self.survey_check(cond);
                    self.survey(then);
                    self.survey(otherwise);
                }
                Step::Foreach { body, .. } => self.survey(body),
                Step::While { cond, body, .. } => {
                    self.folds = false;
                    self.survey_check(cond);
                    self.survey(body);
                }
                Step::Count { word, .. } => {
                    self.folds = false;
                    self.counted |= 1 << word;
                }
                Step::Generate { .. } => {
                    self.folds = false;
                    self.generates = true;
                }
                Step::Content { .. } | Step::Size { .. } | Step::Let { .. } | Step::Offset { .. } => self.folds = false,
            }
        }
    }
    fn survey_test(&mut self, test: &Test) {
        self.nodes += 1;
        match test {
            Test::True | Test::False | Test::In(_) | Test::Number(_) => {}
            Test::Is { own, .. } => self.folds &= own,
            Test::Not(a) => self.survey_test(a),
            Test::And(a, b) | Test::Or(a, b) => {
                self.survey_test(a);
                self.survey_test(b);
            }
        }
    }
    fn survey_check(&mut self, check: &Check) {
        self.nodes += 1;
        match check {
            Check::True | Check::False | Check::Contains { .. } | Check::Empty { .. } => {}
            Check::In { key, .. } => self.folds &= key,
            Check::Is { .. } | Check::AtMost { .. } | Check::Equal { .. } => self.folds = false,
            Check::Not(a) => self.survey_check(a),
            Check::And(a, b) | Check::Or(a, b) => {
                self.survey_check(a);
                self.survey_check(b);
            }
        }
    }
}

struct Maker<'a> {
    program: &'a Program,
    turns: &'a dyn Fn(usize) -> Option<u32>,
    tree: Tree,
    ranges: HashMap<(Number, Ranges), TestId>,
    /// The slots that hold the common address of a group, with the field. They are never assigned.
    keys: HashMap<Slot, Field>,
    /// The number of the next instruction.
    instr: usize,
}

impl Maker<'_> {
    fn set(&mut self, field: Field, addrs: Addrs) -> TestId {
        let tests = &mut self.tree.tests;
        let known = tests.iter().position(|known| *known == (field, addrs.clone()));
        known.unwrap_or_else(|| {
            tests.push((field, addrs));
            tests.len() - 1
        }) as TestId
    }
    fn expr(&mut self, field: Field, addrs: &AddrExpr) -> TestId {
        let addrs = match addrs.this_ip || addrs.this_subnet {
            true => Addrs::Named(addrs.clone()),
            false => Addrs::Const(addrs.prefixes.clone()),
        };
        self.set(field, addrs)
    }

    fn test(&mut self, test: &packet::Test) -> Test {
        match test {
            packet::Test::True => Test::True,
            packet::Test::False => Test::False,
            packet::Test::Owns { field } => Test::In(self.set(*field, Addrs::Owned)),
            packet::Test::In { field, addrs } => Test::In(self.expr(*field, addrs)),
            packet::Test::Is { field, slot } => {
                Test::Is { field: *field, slot: *slot, own: self.keys.get(slot) == Some(field) }
            }
            packet::Test::Number { number, ranges } => {
                let numbers = &mut self.tree.numbers;
                Test::Number(*self.ranges.entry((*number, ranges.clone())).or_insert_with_key(|test| {
                    numbers.push(test.clone());
                    (numbers.len() - 1) as TestId
                }))
            }
            packet::Test::Not { a } => Test::Not(Box::new(self.test(a))),
            packet::Test::And { a, b } => Test::And(Box::new(self.test(a)), Box::new(self.test(b))),
            packet::Test::Or { a, b } => Test::Or(Box::new(self.test(a)), Box::new(self.test(b))),
        }
    }

    fn term(&mut self, term: &AddrTerm) -> Term {
        match term {
            AddrTerm::ThisIp => {
                self.tree.this_ip = true;
                Term::ThisIp
            }
            AddrTerm::ThisSubnet => {
                self.tree.this_subnet = true;
                Term::ThisSubnet
            }
            AddrTerm::Const { addr } => Term::Const(*addr),
            AddrTerm::Slot { slot } => Term::Slot(*slot),
        }
    }

    fn block(&mut self, block: &[Instr]) -> Vec<Step> {
        block.iter().map(|instr| self.instr(instr)).collect()
    }

    fn instr(&mut self, instr: &Instr) -> Step {
        let number = self.instr;
        self.instr += 1;
        match instr {
            Instr::Select { out, arg, test } => Step::Select { out: *out, arg: *arg, test: self.test(test) },
            Instr::Partition { out, arg, field } => Step::Partition { out: *out, arg: *arg, field: *field },
            Instr::Content { dests, contents, arg } => Step::Content { dests: *dests, contents: *contents, arg: *arg },
            Instr::Union { out, a, b } => Step::Union { out: *out, a: *a, b: *b },
            Instr::Minus { out, a, b } => Step::Minus { out: *out, a: *a, b: *b },
            Instr::Count { out, arg, word } => Step::Count { out: *out, arg: *arg, word: *word },
            Instr::Size { out, arg } => Step::Size { out: *out, arg: *arg },
            Instr::Let { out, expr } => Step::Let { out: *out, expr: expr.clone() },
            Instr::Offset { out, base, by } => Step::Offset { out: *out, base: self.term(base), by: by.clone() },
            Instr::Discard { arg } => Step::Discard { arg: *arg },
            Instr::Generate { src, dst, data } => {
                let contents = self.program.slots()[usize::from(*data)] == Type::Contents;
                Step::Generate { src: self.term(src), dst: self.term(dst), data: *data, contents }
            }
            Instr::If { cond, then, otherwise } => {
                Step::If { cond: self.cond(cond), then: self.block(then), otherwise: self.block(otherwise) }
            }
            Instr::Foreach { groups, packets, key, body } => {
                let Type::Groups(field) = self.program.slots()[usize::from(*groups)] else {
                    unreachable!("slot {groups} holds no groups in a well-formed program");
                };
                self.keys.insert(*key, field);
                Step::Foreach { groups: *groups, field, packets: *packets, key: *key, body: self.block(body) }
            }
            Instr::While { cond, max, body } => {
                let turns = (self.turns)(number).unwrap_or(*max);
                Step::While { cond: self.cond(cond), turns, body: self.block(body) }
            }
        }
    }

    fn cond(&mut self, cond: &Cond) -> Check {
        match cond {
            Cond::Contains { arg, word } => Check::Contains { arg: *arg, word: *word },
            Cond::Empty { arg } => Check::Empty { arg: *arg },
            Cond::AddrIn { addr, addrs } => {
                let key = self.keys.get(addr).copied();
                let test = self.expr(key.unwrap_or(Field::Src), addrs);
                Check::In { slot: *addr, test, key: key.is_some() }
            }
            Cond::AddrIs { addr, is } => {
                let addrs = match self.term(is) {
                    Term::Slot(other) => return Check::Is { slot: *addr, other },
                    Term::Const(is) => Addrs::Const(PrefixSet::of(is)),
                    Term::ThisIp => Addrs::Named(AddrExpr { this_ip: true, ..AddrExpr::default() }),
                    Term::ThisSubnet => Addrs::SubnetFirst,
                };
                let key = self.keys.get(addr).copied();
                let test = self.set(key.unwrap_or(Field::Src), addrs);
                Check::In { slot: *addr, test, key: key.is_some() }
            }
            Cond::AtMost { a, b } => Check::AtMost { a: a.clone(), b: b.clone() },
            Cond::Equal { a, b } => Check::Equal { a: a.clone(), b: b.clone() },
            Cond::Not { cond } => Check::Not(Box::new(self.cond(cond))),
            Cond::And { a, b } => Check::And(Box::new(self.cond(a)), Box::new(self.cond(b))),
            Cond::Or { a, b } => Check::Or(Box::new(self.cond(a)), Box::new(self.cond(b))),
        }
    }
}
