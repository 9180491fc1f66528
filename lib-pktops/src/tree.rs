//! A program as it stands, with its address sets resolved for one owner: what every accepted program can be run as.
//!
//! The tree is walked on one packet without memory besides two words of bits; it is what the plans are made from, and
//! what runs where a plan would be too large.

use crate::group_by_destination;
use crate::group_by_source;
use crate::parse::Headers;
use std::collections::HashMap;
use vinet_trusted::addr::{PrefixSet, Principal};
use vinet_trusted::program::{ALL_PACKETS, AddrExpr, Cond, Field, Instr, Program, Slot, Type, Unset};

/// The number of a test of an address against a set.
pub(crate) type TestId = u16;

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Select { out: Slot, arg: Slot, test: TestId },
    Partition { out: Slot, arg: Slot, field: Field },
    Discard { arg: Slot },
    If { cond: Test, then: Vec<Step>, otherwise: Vec<Step> },
    Foreach { groups: Slot, packets: Slot, body: Vec<Step> },
}

/// One condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Test {
    Contains { arg: Slot, word: u8 },
    Address(TestId),
    Not(Box<Test>),
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
}

/// A program for one owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tree {
    pub(crate) body: Vec<Step>,
    pub(crate) tests: Vec<(Field, PrefixSet)>,
    pub(crate) slots: usize,
    /// Instructions and conditions, together.
    pub(crate) nodes: usize,
}

impl Tree {
    /// Resolves `program` for `owner`.
    pub(crate) fn new(program: &Program, owner: &Principal) -> Result<Tree, Unset> {
        let mut maker = Maker { program, owner, tests: Vec::new(), names: HashMap::new(), nodes: 0 };
        let body = maker.block(program.body())?;
        Ok(Tree { body, tests: maker.tests, slots: program.slots().len(), nodes: maker.nodes })
    }
    /// Whether the program discards the packet of `headers`, whose content `contains` answers for.
    pub(crate) fn discards(&self, headers: &Headers, contains: &mut dyn FnMut(u8) -> bool) -> bool {
        let mut walk = Walk { tests: &self.tests, headers, contains, held: 1 << ALL_PACKETS, discarded: false };
        walk.block(&self.body);
        walk.discarded
    }
}

struct Maker<'a> {
    program: &'a Program,
    owner: &'a Principal,
    tests: Vec<(Field, PrefixSet)>,
    names: HashMap<(Field, PrefixSet), TestId>,
    nodes: usize,
}

impl Maker<'_> {
    fn test(&mut self, field: Field, addrs: &AddrExpr) -> Result<TestId, Unset> {
        let test = (field, addrs.resolve(self.owner)?);
        if let Some(&name) = self.names.get(&test) {
            return Ok(name);
        }
        // A program has at most 1,024 nodes, so the numbers fit.
        let name = self.tests.len() as TestId;
        self.tests.push(test.clone());
        self.names.insert(test, name);
        Ok(name)
    }

    fn block(&mut self, block: &[Instr]) -> Result<Vec<Step>, Unset> {
        block.iter().map(|instr| self.instr(instr)).collect()
    }

    fn instr(&mut self, instr: &Instr) -> Result<Step, Unset> {
        self.nodes += 1;
        Ok(match instr {
            Instr::Select { out, arg, field, addrs } => {
                Step::Select { out: *out, arg: *arg, test: self.test(*field, addrs)? }
            }
            Instr::Partition { out, arg, field } => Step::Partition { out: *out, arg: *arg, field: *field },
            Instr::Discard { arg } => Step::Discard { arg: *arg },
            Instr::If { cond, then, otherwise } => {
                Step::If { cond: self.cond(cond)?, then: self.block(then)?, otherwise: self.block(otherwise)? }
            }
            Instr::Foreach { groups, packets, key: _, body } => {
                Step::Foreach { groups: *groups, packets: *packets, body: self.block(body)? }
            }
        })
    }

    fn cond(&mut self, cond: &Cond) -> Result<Test, Unset> {
        self.nodes += 1;
        Ok(match cond {
            Cond::Contains { arg, word } => Test::Contains { arg: *arg, word: *word },
            Cond::KeyIn { key, addrs } => {
                // The key of a group of one packet is that packet's address. A well-formed program's key is a key.
                let field = match self.program.slots()[usize::from(*key)] {
                    Type::Key(field) | Type::Groups(field) => field,
                    Type::Packets => unreachable!("slot {key} is no key in a well-formed program"),
                };
                Test::Address(self.test(field, addrs)?)
            }
            Cond::Not(a) => Test::Not(Box::new(self.cond(a)?)),
            Cond::And(a, b) => Test::And(Box::new(self.cond(a)?), Box::new(self.cond(b)?)),
            Cond::Or(a, b) => Test::Or(Box::new(self.cond(a)?), Box::new(self.cond(b)?)),
        })
    }
}

/// One packet's way through the tree. It goes no deeper than a program may be nested.
struct Walk<'a> {
    tests: &'a [(Field, PrefixSet)],
    headers: &'a Headers,
    contains: &'a mut dyn FnMut(u8) -> bool,
    /// Bit s: slot s holds the packet, or a group of it.
    held: u64,
    discarded: bool,
}

impl Walk<'_> {
    fn is_held(&self, slot: Slot) -> bool {
        self.held >> slot & 1 != 0
    }

    fn hold(&mut self, slot: Slot, held: bool) {
        self.held = self.held & !(1 << slot) | u64::from(held) << slot;
    }

    fn select(&self, in_set: bool, test: TestId) -> bool {
        let (field, addrs) = &self.tests[usize::from(test)];
        match field {
            Field::Src => group_by_source::select(in_set, self.headers, addrs),
            Field::Dst => group_by_destination::select(in_set, self.headers, addrs),
        }
    }

    fn block(&mut self, block: &[Step]) {
        for step in block {
            match step {
                Step::Select { out, arg, test } => self.hold(*out, self.select(self.is_held(*arg), *test)),
                Step::Partition { out, arg, field } => {
                    let groups = match field {
                        Field::Src => group_by_source::partition(self.is_held(*arg)),
                        Field::Dst => group_by_destination::partition(self.is_held(*arg)),
                    };
                    self.hold(*out, groups == 1);
                }
                Step::Discard { arg } => self.discarded |= self.is_held(*arg),
                Step::If { cond, then, otherwise } => {
                    let block = if self.test(cond) { then } else { otherwise };
                    self.block(block);
                }
                Step::Foreach { groups, packets, body } => {
                    if self.is_held(*groups) {
                        self.hold(*packets, true);
                        self.block(body);
                    }
                }
            }
        }
    }

    fn test(&mut self, test: &Test) -> bool {
        match test {
            Test::Contains { arg, word } => self.is_held(*arg) && (self.contains)(*word),
            Test::Address(test) => self.select(true, *test),
            Test::Not(a) => !self.test(a),
            Test::And(a, b) => self.test(a) && self.test(b),
            Test::Or(a, b) => self.test(a) || self.test(b),
        }
    }
}
