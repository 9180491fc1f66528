//! Lowering: from an accepted program to the cells of the table that it wants and the plan that runs there.
//!
//! A program on windows of one packet that looks at addresses, numbers in headers and words is run symbolically once
//! for each class of source and destination addresses that it tells apart, with the answers about numbers and words
//! left open. What comes out for a class is a decision about those; a program that looks at addresses only has
//! constants everywhere, and becomes table verdicts that nothing interprets. Every other program, and one that would
//! grow past a bound of this module, runs as it is written: slower, never different. So every accepted program lowers.

use crate::address_classes::AddressClasses;
use crate::contains_string::WordMask;
use crate::decision::{Builder, Decision, Decisions, TooLarge};
use crate::parse::Headers;
use crate::select::in_ranges;
use crate::tree::{Addrs, Check, Own, Step, Test, TestId, Tree};
use core::cell::LazyCell;
use core::fmt;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Unset};
use vinet_trusted::gate::{Action, NotAllowed};
use vinet_trusted::packet::{Field, Number, Packet, Ranges};
use vinet_trusted::program::ALL_PACKETS;

/// The most pairs of a source and a destination class.
pub const CLASS_PAIRS_MAX: usize = 4096;
/// The most class pairs times instructions: the symbolic steps that lowering takes.
pub const SYMBOLIC_STEPS_MAX: usize = 1 << 20;
/// The most nodes of all decisions of a program.
pub const DECISION_NODES_MAX: usize = 4096;
/// The most steps in which decisions are put together.
pub const DECISION_STEPS_MAX: usize = 1 << 20;
/// The most cells of a program.
pub const CELLS_MAX: usize = 65_536;
/// How many prefixes more than the program writes a cell's addresses may take. An IPv4 set without one host takes 32;
/// complements beyond that run, because each prefix length costs every lookup of the table.
pub const SPLIT_PREFIXES_MAX: usize = 32;

/// Why an accepted program cannot run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LowerError {
    /// It uses a name that its owner has not; the checker rejects such a program.
    Unset(Unset),
    /// The policy does not let the program see packets that it has to see, all that go to its owner and matter to it.
    NotAllowed(NotAllowed),
}

impl fmt::Display for LowerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LowerError::Unset(Unset::ThisIp) => write!(f, "the program uses THIS_IP, which its owner has not"),
            LowerError::Unset(Unset::ThisSubnet) => {
                write!(f, "the program uses THIS_SUBNET_IP, which its owner has not")
            }
            LowerError::NotAllowed(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for LowerError {}

impl From<Unset> for LowerError {
    fn from(unset: Unset) -> Self {
        LowerError::Unset(unset)
    }
}

impl From<NotAllowed> for LowerError {
    fn from(error: NotAllowed) -> Self {
        LowerError::NotAllowed(error)
    }
}

/// The packets from one prefix to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place {
    pub(crate) src: Prefix,
    pub(crate) dst: Prefix,
}

/// How a program runs on the packets to its owner.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    owned: Prefix,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    Classes(Box<Classes>),
    Tree,
}

/// A decision for each pair of a source class and a destination class.
#[derive(Clone, Debug)]
struct Classes {
    src: Arc<AddressClasses>,
    dst: AddressClasses,
    decided: Arc<Decided>,
    /// How many prefixes the program writes for sources and for destinations.
    src_prefixes: usize,
    dst_prefixes: usize,
}

/// What follows from which classes there are, whatever addresses are in them.
#[derive(Debug)]
struct Decided {
    /// The classes of destinations that it is about.
    dst: AddressClasses,
    /// At `src class * dst classes + dst class`.
    pairs: Vec<Decision>,
    rules: Rules,
}

/// Decisions, and the tests of numbers that they ask about.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    decisions: Decisions,
    numbers: Vec<(Number, Ranges)>,
}

impl Rules {
    /// Whether the packet is discarded; `packet` makes it where a number is asked about.
    #[inline]
    pub(crate) fn discards(
        &self,
        decision: Decision,
        packet: impl FnOnce() -> Packet,
        contains: impl FnMut(u8) -> bool,
    ) -> bool {
        let packet = LazyCell::new(packet);
        let passes = |test: u8| {
            let (number, ranges) = &self.numbers[usize::from(test)];
            in_ranges(&packet, *number, ranges)
        };
        self.decisions.decide(decision, passes, contains)
    }
}

/// What is left to ask once a packet's addresses are known.
pub(crate) enum Question<'p> {
    /// Nothing.
    Answered(bool),
    /// About numbers, and these words at most. The set is a function of the packet's addresses, so it is the same for
    /// a flow's life.
    Open(WordMask, &'p Rules, Decision),
    /// Everything.
    Tree,
}

impl Plan {
    /// Makes the plan of a program's tree for the owner of `owned`, whose names stand for `own`, on windows of `window`
    /// packets. It shares with `other`, a plan of the same tree for another owner, what is the same for both.
    pub(crate) fn new(tree: &Tree, own: &Own, owned: Prefix, window: u16, other: Option<&Plan>) -> Plan {
        let other = other.and_then(|other| match &other.way {
            Way::Classes(classes) => Some(&**classes),
            Way::Tree => None,
        });
        let classes = if window == 1 && tree.folds { Classes::new(tree, own, owned, other) } else { Err(TooLarge) };
        let way = classes.map_or(Way::Tree, |classes| Way::Classes(Box::new(classes)));
        Plan { owned, way }
    }
    /// Whether both hold the same decisions in the same memory.
    pub(crate) fn shares(&self, other: &Plan) -> bool {
        match (&self.way, &other.way) {
            (Way::Classes(a), Way::Classes(b)) => Arc::ptr_eq(&a.decided, &b.decided),
            (Way::Tree, Way::Tree) => true,
            _ => false,
        }
    }
    /// The memory that a plan has for its owner alone, where another shares the rest.
    pub(crate) fn own_bytes(&self) -> usize {
        match &self.way {
            Way::Classes(classes) => size_of::<Classes>() + classes.dst.memory_bytes(),
            Way::Tree => 0,
        }
    }
    /// The plan that runs the program as its tree, however small it is.
    #[cfg(test)]
    pub(crate) const fn of_tree(owned: Prefix) -> Plan {
        Plan { owned, way: Way::Tree }
    }
    /// Whether the program runs as its tree.
    pub(crate) const fn is_tree(&self) -> bool {
        matches!(self.way, Way::Tree)
    }
    /// What is left to ask about the packet of `headers`. A plan lets packets to others than the owner go: the theorem
    /// says that the program does nothing to them.
    #[inline]
    pub(crate) fn question(&self, headers: &Headers) -> Question<'_> {
        match &self.way {
            Way::Classes(classes) => {
                let Some(dst) = classes.dst.class(headers.dst) else { return Question::Answered(false) };
                let Some(src) = classes.src.class(headers.src) else { return Question::Answered(false) };
                match classes.decided.pairs[src * classes.dst.count() + dst] {
                    Decision::NO => Question::Answered(false),
                    Decision::YES => Question::Answered(true),
                    decision => {
                        let rules = &classes.decided.rules;
                        Question::Open(rules.decisions.support(decision), rules, decision)
                    }
                }
            }
            Way::Tree => Question::Tree,
        }
    }
    /// Where every packet is discarded whatever it holds, if that is all that the program does and it fits a table.
    pub(crate) fn verdicts(&self) -> Option<Vec<Place>> {
        match &self.way {
            Way::Classes(classes) => classes.verdicts(),
            Way::Tree => None,
        }
    }
    /// Where the program has to see the packets: nowhere two times.
    pub(crate) fn runs(&self) -> Vec<Place> {
        match &self.way {
            Way::Classes(classes) => classes.runs(self.owned),
            Way::Tree => vec![Place { src: any_source(self.owned), dst: self.owned }],
        }
    }
    /// The cells as places, with what is done there.
    pub(crate) fn cells(&self) -> (Action, Vec<Place>) {
        match self.verdicts() {
            Some(places) => (Action::Discard, places),
            None => (Action::Run, self.runs()),
        }
    }
}

/// Every address of the family of `owned`.
fn any_source(owned: Prefix) -> Prefix {
    let zero = match owned.addr() {
        Addr::V4(_) => Addr::V4(0),
        Addr::V6(_) => Addr::V6(0),
    };
    Prefix::of(zero, 0).unwrap_or(owned)
}

/// The prefixes of `set` that lie in `within`.
fn written(sets: &[&PrefixSet], within: Prefix) -> usize {
    let inside = sets.iter().flat_map(|set| set.prefixes()).filter(|p| within.covers(**p));
    inside.collect::<HashSet<_>>().len()
}

impl Classes {
    /// The tree is one that folds.
    fn new(tree: &Tree, own: &Own, owned: Prefix, other: Option<&Classes>) -> Result<Classes, TooLarge> {
        let number_count = u8::try_from(tree.numbers.len()).map_err(|_| TooLarge)?;
        let everyone = any_source(owned);
        let of_field = |field: Field| -> Vec<&PrefixSet> {
            let own_set = |test: usize| (tree.tests[test].0 == field).then(|| own.set(tree, test as TestId));
            (0..tree.tests.len()).filter_map(own_set).collect()
        };
        let (src_sets, dst_sets) = (of_field(Field::Src), of_field(Field::Dst));
        let (src_prefixes, dst_prefixes) = (written(&src_sets, everyone), written(&dst_sets, owned));
        let is_constant = |(field, addrs): &(Field, Addrs)| *field == Field::Dst || matches!(addrs, Addrs::Const(_));
        let known = other.filter(|other| other.src.within() == everyone && tree.tests.iter().all(is_constant));
        let src = match known {
            Some(other) => Arc::clone(&other.src),
            None => Arc::new(AddressClasses::new(everyone, &src_sets, CLASS_PAIRS_MAX).map_err(|_| TooLarge)?),
        };
        let dst = AddressClasses::new(owned, &dst_sets, CLASS_PAIRS_MAX).map_err(|_| TooLarge)?;
        let pair_count = src.count() * dst.count();
        if pair_count > CLASS_PAIRS_MAX || pair_count * tree.nodes > SYMBOLIC_STEPS_MAX {
            return Err(TooLarge);
        }
        let is_alike = |other: &&Classes| other.src.has_classes_of(&src) && other.decided.dst.has_classes_of(&dst);
        if let Some(decided) = other.filter(is_alike).map(|other| Arc::clone(&other.decided)) {
            return Ok(Classes { src, dst, decided, src_prefixes, dst_prefixes });
        }
        // The number of each test among those of its field.
        let mut seen = [0; 2];
        let numbers: Vec<(Field, usize)> = tree
            .tests
            .iter()
            .map(|(field, _)| {
                let count = &mut seen[usize::from(*field == Field::Dst)];
                *count += 1;
                (*field, *count - 1)
            })
            .collect();
        let mut builder = Builder::new(DECISION_NODES_MAX, DECISION_STEPS_MAX, number_count);
        let mut pairs = Vec::with_capacity(pair_count);
        for s in 0..src.count() {
            for d in 0..dst.count() {
                let is_in = |test: usize| match numbers[test] {
                    (Field::Src, k) => src.is_in(s, k),
                    (Field::Dst, k) => dst.is_in(d, k),
                };
                pairs.push(Symbolic::run(tree, &mut builder, &is_in)?);
            }
        }
        let rules = Rules { decisions: builder.finish(), numbers: tree.numbers.clone() };
        let decided = Arc::new(Decided { dst: dst.clone(), pairs, rules });
        Ok(Classes { src, dst, decided, src_prefixes, dst_prefixes })
    }

    fn pair(&self, src: usize, dst: usize) -> Decision {
        self.decided.pairs[src * self.dst.count() + dst]
    }

    fn verdicts(&self) -> Option<Vec<Place>> {
        if self.decided.pairs.iter().any(|d| !matches!(*d, Decision::NO | Decision::YES)) {
            return None;
        }
        let yes = |s, d| self.pair(s, d) == Decision::YES;
        // Sources with equal destinations, or destinations with equal sources: one of the two is often far shorter.
        let by_src = groups(self.src.count(), self.dst.count(), yes);
        let by_dst = groups(self.dst.count(), self.src.count(), |d, s| yes(s, d));
        let by_src = by_src.iter().map(|(srcs, dsts)| self.places(srcs, dsts)).collect::<Option<Vec<_>>>();
        let by_dst = by_dst.iter().map(|(dsts, srcs)| self.places(srcs, dsts)).collect::<Option<Vec<_>>>();
        let shorter = [by_src, by_dst].into_iter().flatten().min_by_key(|parts| count(parts))?;
        (count(&shorter) <= CELLS_MAX).then(|| product(&shorter))
    }

    /// The addresses of classes as prefixes, unless that takes too many more than the program writes.
    fn places(&self, srcs: &[bool], dsts: &[bool]) -> Option<(PrefixSet, PrefixSet)> {
        let src = self.src.addresses(|class| srcs[class]);
        let dst = self.dst.addresses(|class| dsts[class]);
        let fits = src.prefixes().len() <= self.src_prefixes + SPLIT_PREFIXES_MAX
            && dst.prefixes().len() <= self.dst_prefixes + SPLIT_PREFIXES_MAX;
        fits.then_some((src, dst))
    }

    fn runs(&self, owned: Prefix) -> Vec<Place> {
        let matters = |s, d| self.pair(s, d) != Decision::NO;
        let parts: Option<Vec<_>> = groups(self.src.count(), self.dst.count(), matters)
            .iter()
            .map(|(srcs, dsts)| self.places(srcs, dsts))
            .collect();
        match parts {
            Some(parts) if count(&parts) <= CELLS_MAX => product(&parts),
            // One wide cell: the program is asked about packets that it lets go.
            _ => vec![Place { src: any_source(owned), dst: owned }],
        }
    }
}

/// The rows of a table of `rows` by `columns` that hold something, together where they hold the same: which rows, and
/// which columns they hold.
fn groups(rows: usize, columns: usize, holds: impl Fn(usize, usize) -> bool) -> Vec<(Vec<bool>, Vec<bool>)> {
    let mut by_columns: HashMap<Vec<bool>, usize> = HashMap::new();
    let mut groups: Vec<(Vec<bool>, Vec<bool>)> = Vec::new();
    for row in 0..rows {
        let held: Vec<bool> = (0..columns).map(|column| holds(row, column)).collect();
        if !held.contains(&true) {
            continue;
        }
        let group = *by_columns.entry(held.clone()).or_insert_with(|| {
            groups.push((vec![false; rows], held));
            groups.len() - 1
        });
        groups[group].0[row] = true;
    }
    groups
}

fn count(parts: &[(PrefixSet, PrefixSet)]) -> usize {
    parts.iter().map(|(src, dst)| src.prefixes().len() * dst.prefixes().len()).sum()
}

fn product(parts: &[(PrefixSet, PrefixSet)]) -> Vec<Place> {
    let places = parts.iter().flat_map(|(srcs, dsts)| {
        srcs.prefixes().iter().flat_map(|&src| dsts.prefixes().iter().map(move |&dst| Place { src, dst }))
    });
    places.collect()
}

/// One symbolic run: the answers about addresses are known, those about numbers and words are open.
struct Symbolic<'a> {
    builder: &'a mut Builder,
    is_in: &'a dyn Fn(usize) -> bool,
    /// For each slot, when it holds the packet, or a group of it.
    held: Vec<Decision>,
    /// When the packet has been discarded.
    discarded: Decision,
}

impl Symbolic<'_> {
    fn run(tree: &Tree, builder: &mut Builder, is_in: &dyn Fn(usize) -> bool) -> Result<Decision, TooLarge> {
        let mut held = vec![Decision::NO; tree.slots];
        held[usize::from(ALL_PACKETS)] = Decision::YES;
        let mut run = Symbolic { builder, is_in, held, discarded: Decision::NO };
        run.block(&tree.body, Decision::YES)?;
        Ok(run.discarded)
    }

    /// Runs a block that is reached when `path` holds.
    fn block(&mut self, block: &[Step], path: Decision) -> Result<(), TooLarge> {
        for step in block {
            match step {
                Step::Select { out, arg, test } => {
                    let passes = self.test(test)?;
                    self.held[usize::from(*out)] = self.builder.and(self.held[usize::from(*arg)], passes)?;
                }
                Step::Partition { out, arg, field: _ } => {
                    self.held[usize::from(*out)] = self.held[usize::from(*arg)];
                }
                Step::Union { out, a, b } => {
                    let (a, b) = (self.held[usize::from(*a)], self.held[usize::from(*b)]);
                    self.held[usize::from(*out)] = self.builder.or(a, b)?;
                }
                Step::Minus { out, a, b } => {
                    let (a, b) = (self.held[usize::from(*a)], self.held[usize::from(*b)]);
                    self.held[usize::from(*out)] = self.builder.choose(b, Decision::NO, a)?;
                }
                Step::Discard { arg } => {
                    let here = self.builder.and(path, self.held[usize::from(*arg)])?;
                    self.discarded = self.builder.or(self.discarded, here)?;
                }
                Step::If { cond, then, otherwise } => {
                    let cond = self.check(cond)?;
                    self.branch(cond, path, |run, path| run.block(then, path), |run, path| run.block(otherwise, path))?;
                }
                Step::Foreach { groups, packets, body, .. } => {
                    // A window of one packet has one group or none.
                    let one = self.held[usize::from(*groups)];
                    let packets = usize::from(*packets);
                    self.branch(
                        one,
                        path,
                        |run, path| {
                            run.held[packets] = Decision::YES;
                            run.block(body, path)
                        },
                        |_, _| Ok(()),
                    )?;
                }
                _ => unreachable!("a program that folds has no such step: {step:?}"),
            }
        }
        Ok(())
    }

    /// Runs both ways, those of them that can be taken, and joins what the slots hold.
    fn branch(
        &mut self,
        cond: Decision,
        path: Decision,
        then: impl FnOnce(&mut Self, Decision) -> Result<(), TooLarge>,
        otherwise: impl FnOnce(&mut Self, Decision) -> Result<(), TooLarge>,
    ) -> Result<(), TooLarge> {
        if cond == Decision::YES {
            return then(self, path);
        }
        if cond == Decision::NO {
            return otherwise(self, path);
        }
        let before = self.held.clone();
        let path_then = self.builder.and(path, cond)?;
        then(self, path_then)?;
        let after_then = core::mem::replace(&mut self.held, before);
        let not = self.builder.not(cond)?;
        let path_otherwise = self.builder.and(path, not)?;
        otherwise(self, path_otherwise)?;
        for (slot, when) in after_then.into_iter().enumerate() {
            self.held[slot] = self.builder.choose(cond, when, self.held[slot])?;
        }
        Ok(())
    }

    fn known(&self, test: u16) -> Decision {
        if (self.is_in)(usize::from(test)) { Decision::YES } else { Decision::NO }
    }

    fn test(&mut self, test: &Test) -> Result<Decision, TooLarge> {
        match test {
            Test::True => Ok(Decision::YES),
            Test::False => Ok(Decision::NO),
            Test::In(test) => Ok(self.known(*test)),
            // The address of a group of one packet is the packet's own.
            Test::Is { own, .. } => {
                assert!(own, "a program that folds looks at no other address");
                Ok(Decision::YES)
            }
            // There are as many as fit: `Classes::new`.
            Test::Number(test) => self.builder.number(*test as u8),
            Test::Not(a) => {
                let a = self.test(a)?;
                self.builder.not(a)
            }
            Test::And(a, b) => {
                let (a, b) = (self.test(a)?, self.test(b)?);
                self.builder.and(a, b)
            }
            Test::Or(a, b) => {
                let (a, b) = (self.test(a)?, self.test(b)?);
                self.builder.or(a, b)
            }
        }
    }

    fn check(&mut self, check: &Check) -> Result<Decision, TooLarge> {
        match check {
            Check::True => Ok(Decision::YES),
            Check::False => Ok(Decision::NO),
            Check::Contains { arg, word } => {
                let found = self.builder.contains(*word)?;
                self.builder.and(self.held[usize::from(*arg)], found)
            }
            Check::Empty { arg } => self.builder.not(self.held[usize::from(*arg)]),
            Check::In { test, .. } => Ok(self.known(*test)),
            Check::Not(a) => {
                let a = self.check(a)?;
                self.builder.not(a)
            }
            Check::And(a, b) => {
                let (a, b) = (self.check(a)?, self.check(b)?);
                self.builder.and(a, b)
            }
            Check::Or(a, b) => {
                let (a, b) = (self.check(a)?, self.check(b)?);
                self.builder.or(a, b)
            }
            _ => unreachable!("a program that folds has no such condition: {check:?}"),
        }
    }
}
