//! The calculus: propositions about one packet, and the rules that make theorems of them.
//!
//! A [`Theorem`] is a sequent, "from these assumptions follows this conclusion", about an arbitrary packet. Only the
//! rules in this file make one: its fields are private and nothing else in the crate can write them. The rules are
//! those of natural deduction for propositions, plus five about addresses (ground facts about constant sets, and
//! equality) and one that unfolds what a program's own instructions say of the sets that they make. There is no rule
//! by which a certificate could add an axiom. `docs/PROOF.md` lists the rules with their encoding.

use crate::addr::PrefixSet;
use crate::program::Field;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A value that a slot has at some place in the program: fixed once made. Numbered in the order of the walk in
/// [`crate::obligations`].
pub type Version = u32;
/// An address set that stands in the program or the policy, by its number in [`Facts`].
pub type SetId = u32;
/// A proposition, by its number in a [`Props`].
pub type PropId = u32;

/// The most assumptions that can be open at once.
pub const ASSUMPTIONS_MAX: usize = 64;
/// The most theorems on the stack at once.
pub const STACK_MAX: usize = 128;
/// The most prefixes that all comparisons of sets in one check may look at.
pub const PREFIX_WORK_MAX: usize = 1 << 20;

/// An address that can be spoken about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Term {
    /// One of the two addresses of the packet.
    Field(Field),
    /// The address that the packets of a group have in common.
    Key(Version),
}

/// A proposition about one packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Prop {
    /// Holds always.
    True,
    /// Holds never.
    False,
    /// The packet is in the set (or in a group of the partition) that this version is.
    Member(Version),
    /// The answer that the program got from this test of content, counted in the order of the bytes.
    Answer(u32),
    /// The address is in the set.
    In(Term, SetId),
    /// The two addresses are the same.
    Same(Term, Term),
    /// The opposite.
    Not(PropId),
    /// Both.
    And(PropId, PropId),
    /// At least one.
    Or(PropId, PropId),
    /// If the first, then the second.
    Implies(PropId, PropId),
}

/// Propositions, each kept once, so that equal ones have equal numbers.
#[derive(Clone, Debug, Default)]
pub struct Props {
    props: Vec<Prop>,
    numbers: BTreeMap<Prop, PropId>,
}

impl Props {
    /// The number of `prop`.
    pub fn intern(&mut self, prop: Prop) -> PropId {
        *self.numbers.entry(prop).or_insert_with(|| {
            self.props.push(prop);
            (self.props.len() - 1) as PropId
        })
    }
    /// The proposition with this number.
    #[must_use]
    pub fn get(&self, id: PropId) -> Prop {
        self.props[id as usize]
    }
}

/// What the rules may take for granted: computed by the router from the bytes, the owner and the policy.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The address sets, each once.
    pub sets: Vec<PrefixSet>,
    /// For each version what holds of every packet in it, or nothing.
    pub members: Vec<Option<PropId>>,
    /// How many tests of content there are.
    pub answers: u32,
}

/// From the assumptions with these numbers follows the conclusion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Theorem {
    assumptions: u64,
    conclusion: PropId,
}

impl Theorem {
    /// The conclusion.
    #[must_use]
    pub const fn conclusion(self) -> PropId {
        self.conclusion
    }
    /// The open assumptions: bit i stands for assumption i.
    #[must_use]
    pub const fn assumptions(self) -> u64 {
        self.assumptions
    }
}

/// Why a step does not follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The rule needs a theorem of another form than it was given.
    WrongForm,
    /// The rule needs more theorems than there are.
    StackEmpty,
    /// More than [`STACK_MAX`] theorems.
    StackFull,
    /// No assumption has this number.
    NoSuchAssumption,
    /// More than [`ASSUMPTIONS_MAX`] assumptions.
    TooManyAssumptions,
    /// Only what the proof itself assumed can be discharged.
    NotDischargeable,
    /// The program says nothing about this set.
    NoFact,
    /// No address set has this number.
    NoSuchSet,
    /// The first set is not within the second.
    NotWithin,
    /// The two sets have an address in common.
    NotApart,
    /// Comparing sets would look at more than [`PREFIX_WORK_MAX`] prefixes.
    TooMuchWork,
}

/// The rules, over the facts of one program: the only maker of theorems.
pub struct Kernel<'f> {
    facts: &'f Facts,
    props: &'f mut Props,
    assumed: Vec<PropId>,
    /// How many of `assumed` are given with the obligation.
    given: usize,
    work: usize,
}

impl<'f> Kernel<'f> {
    /// Starts with nothing assumed.
    pub fn new(facts: &'f Facts, props: &'f mut Props) -> Self {
        Kernel { facts, props, assumed: Vec::new(), given: 0, work: 0 }
    }

    /// Forgets every assumption and starts again with those that an obligation gives.
    ///
    /// # Errors
    /// [`Fault::TooManyAssumptions`].
    pub fn restart(&mut self, given: impl Iterator<Item = PropId>) -> Result<(), Fault> {
        self.assumed.clear();
        for prop in given {
            self.assume(prop)?;
        }
        self.given = self.assumed.len();
        Ok(())
    }

    /// The number of a proposition, for a rule that needs one.
    pub fn intern(&mut self, prop: Prop) -> PropId {
        self.props.intern(prop)
    }

    fn form(&self, theorem: Theorem) -> Prop {
        self.props.get(theorem.conclusion)
    }

    fn follows(&mut self, assumptions: u64, prop: Prop) -> Theorem {
        Theorem { assumptions, conclusion: self.props.intern(prop) }
    }

    /// Claim: an assumption follows from itself.
    pub fn claim(&self, number: usize) -> Result<Theorem, Fault> {
        let conclusion = *self.assumed.get(number).ok_or(Fault::NoSuchAssumption)?;
        Ok(Theorem { assumptions: 1 << number, conclusion })
    }

    /// Assume: a new assumption, which can be claimed from here on. Its number is the count of those before it.
    pub fn assume(&mut self, prop: PropId) -> Result<(), Fault> {
        if self.assumed.len() == ASSUMPTIONS_MAX {
            return Err(Fault::TooManyAssumptions);
        }
        self.assumed.push(prop);
        Ok(())
    }

    /// Discharge: from "A, rest ⊢ B" follows "rest ⊢ A → B", where A is an assumption of the proof's own.
    pub fn discharge(&mut self, number: usize, theorem: Theorem) -> Result<Theorem, Fault> {
        let assumption = *self.assumed.get(number).ok_or(Fault::NoSuchAssumption)?;
        if number < self.given {
            return Err(Fault::NotDischargeable);
        }
        let prop = Prop::Implies(assumption, theorem.conclusion);
        Ok(self.follows(theorem.assumptions & !(1 << number), prop))
    }

    /// Modus ponens: from A → B and A follows B.
    pub fn modus_ponens(&self, implication: Theorem, premise: Theorem) -> Result<Theorem, Fault> {
        match self.form(implication) {
            Prop::Implies(a, b) if a == premise.conclusion => {
                Ok(Theorem { assumptions: implication.assumptions | premise.assumptions, conclusion: b })
            }
            _ => Err(Fault::WrongForm),
        }
    }

    /// Both: from A and B follows A ∧ B.
    pub fn both(&mut self, a: Theorem, b: Theorem) -> Theorem {
        self.follows(a.assumptions | b.assumptions, Prop::And(a.conclusion, b.conclusion))
    }

    /// Left: from A ∧ B follows A.
    pub fn left(&self, theorem: Theorem) -> Result<Theorem, Fault> {
        match self.form(theorem) {
            Prop::And(a, _) => Ok(Theorem { conclusion: a, ..theorem }),
            _ => Err(Fault::WrongForm),
        }
    }

    /// Right: from A ∧ B follows B.
    pub fn right(&self, theorem: Theorem) -> Result<Theorem, Fault> {
        match self.form(theorem) {
            Prop::And(_, b) => Ok(Theorem { conclusion: b, ..theorem }),
            _ => Err(Fault::WrongForm),
        }
    }

    /// Either, shown on the left: from A follows A ∨ B.
    pub fn either_left(&mut self, theorem: Theorem, other: PropId) -> Theorem {
        self.follows(theorem.assumptions, Prop::Or(theorem.conclusion, other))
    }

    /// Either, shown on the right: from B follows A ∨ B.
    pub fn either_right(&mut self, other: PropId, theorem: Theorem) -> Theorem {
        self.follows(theorem.assumptions, Prop::Or(other, theorem.conclusion))
    }

    /// Cases: from A ∨ B, A → C and B → C follows C.
    pub fn cases(&self, either: Theorem, first: Theorem, second: Theorem) -> Result<Theorem, Fault> {
        let (Prop::Or(a, b), Prop::Implies(a1, c1), Prop::Implies(b1, c2)) =
            (self.form(either), self.form(first), self.form(second))
        else {
            return Err(Fault::WrongForm);
        };
        if a != a1 || b != b1 || c1 != c2 {
            return Err(Fault::WrongForm);
        }
        let assumptions = either.assumptions | first.assumptions | second.assumptions;
        Ok(Theorem { assumptions, conclusion: c1 })
    }

    /// Absurd: from A and ¬A follows False.
    pub fn absurd(&mut self, theorem: Theorem, denial: Theorem) -> Result<Theorem, Fault> {
        match self.form(denial) {
            Prop::Not(a) if a == theorem.conclusion => {
                Ok(self.follows(theorem.assumptions | denial.assumptions, Prop::False))
            }
            _ => Err(Fault::WrongForm),
        }
    }

    /// Negate: from A → False follows ¬A.
    pub fn negate(&mut self, theorem: Theorem) -> Result<Theorem, Fault> {
        match self.form(theorem) {
            Prop::Implies(a, f) if self.props.get(f) == Prop::False => {
                Ok(self.follows(theorem.assumptions, Prop::Not(a)))
            }
            _ => Err(Fault::WrongForm),
        }
    }

    /// Double negation: from ¬¬A follows A.
    pub fn double_negation(&self, theorem: Theorem) -> Result<Theorem, Fault> {
        let Prop::Not(inner) = self.form(theorem) else { return Err(Fault::WrongForm) };
        match self.props.get(inner) {
            Prop::Not(a) => Ok(Theorem { conclusion: a, ..theorem }),
            _ => Err(Fault::WrongForm),
        }
    }

    /// Truth: True follows from nothing.
    pub fn truth(&mut self) -> Theorem {
        self.follows(0, Prop::True)
    }

    /// Unfold: from "the packet is in this set" follows what the instruction that made the set says of its packets.
    pub fn unfold(&self, theorem: Theorem) -> Result<Theorem, Fault> {
        let Prop::Member(version) = self.form(theorem) else { return Err(Fault::WrongForm) };
        let fact = self.facts.members.get(version as usize).copied().flatten().ok_or(Fault::NoFact)?;
        Ok(Theorem { conclusion: fact, ..theorem })
    }

    /// Widen: from "the address is in S" follows "it is in T", where S is within T.
    pub fn widen(&mut self, theorem: Theorem, wider: SetId) -> Result<Theorem, Fault> {
        let Prop::In(term, narrow) = self.form(theorem) else { return Err(Fault::WrongForm) };
        let (narrow, wide) = self.two_sets(narrow, wider)?;
        if !wide.includes(narrow) {
            return Err(Fault::NotWithin);
        }
        Ok(self.follows(theorem.assumptions, Prop::In(term, wider)))
    }

    /// Apart: from "the address is in S" and "it is in T" follows False, where S and T have no address in common.
    pub fn apart(&mut self, a: Theorem, b: Theorem) -> Result<Theorem, Fault> {
        let (Prop::In(term_a, set_a), Prop::In(term_b, set_b)) = (self.form(a), self.form(b)) else {
            return Err(Fault::WrongForm);
        };
        if term_a != term_b {
            return Err(Fault::WrongForm);
        }
        let (first, second) = self.two_sets(set_a, set_b)?;
        if !first.disjoint(second) {
            return Err(Fault::NotApart);
        }
        Ok(self.follows(a.assumptions | b.assumptions, Prop::False))
    }

    /// Symmetry: from a = b follows b = a.
    pub fn symmetry(&mut self, theorem: Theorem) -> Result<Theorem, Fault> {
        let Prop::Same(a, b) = self.form(theorem) else { return Err(Fault::WrongForm) };
        Ok(self.follows(theorem.assumptions, Prop::Same(b, a)))
    }

    /// Carry: from a = b and "a is in S" follows "b is in S".
    pub fn carry(&mut self, same: Theorem, holds: Theorem) -> Result<Theorem, Fault> {
        let (Prop::Same(a, b), Prop::In(term, set)) = (self.form(same), self.form(holds)) else {
            return Err(Fault::WrongForm);
        };
        if term != a {
            return Err(Fault::WrongForm);
        }
        Ok(self.follows(same.assumptions | holds.assumptions, Prop::In(b, set)))
    }

    /// Cite: what an earlier obligation showed, as "if the packet is in its set, then its goal", where everything that
    /// was given there besides the packet is given here too.
    ///
    /// The earlier theorem was derived from facts that hold everywhere in the program, so deriving it again here needs
    /// nothing more than its assumptions.
    pub fn cite(&mut self, shown: &Shown) -> Result<Theorem, Fault> {
        let mut assumptions = 0;
        for prop in &shown.path {
            let number = self.assumed[..self.given].iter().position(|p| p == prop).ok_or(Fault::NoSuchAssumption)?;
            assumptions |= 1 << number;
        }
        Ok(self.follows(assumptions, Prop::Implies(shown.member, shown.goal)))
    }

    /// Accepts `theorem` as the end of an obligation's proof: it concludes `goal` from what was given alone, the first
    /// of which says that the packet is in the obligation's set. Nothing where it does not.
    #[must_use]
    pub fn finish(&self, theorem: Theorem, goal: PropId) -> Option<Shown> {
        let (member, path) = self.assumed[..self.given].split_first()?;
        let shows = theorem.conclusion == goal && theorem.assumptions & !mask(self.given) == 0;
        shows.then(|| Shown { member: *member, path: path.to_vec(), goal })
    }

    /// The two sets, and the work of comparing them.
    fn two_sets(&mut self, a: SetId, b: SetId) -> Result<(&'f PrefixSet, &'f PrefixSet), Fault> {
        let facts = self.facts;
        let first = facts.sets.get(a as usize).ok_or(Fault::NoSuchSet)?;
        let second = facts.sets.get(b as usize).ok_or(Fault::NoSuchSet)?;
        self.work += 1 + first.prefixes().len() + second.prefixes().len();
        if self.work > PREFIX_WORK_MAX { Err(Fault::TooMuchWork) } else { Ok((first, second)) }
    }
}

/// An obligation that was shown, for [`Kernel::cite`]. Only [`Kernel::finish`] makes one.
pub struct Shown {
    member: PropId,
    path: Vec<PropId>,
    goal: PropId,
}

/// The lowest `count` bits.
const fn mask(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}
