//! What has to be shown of a program: computed from its bytes, its owner and the policy alone.
//!
//! One walk over the program gives every value that a slot takes a *version* of its own and says of each version what
//! holds of its packets. Wherever an instruction causes an event, there is an obligation: an arbitrary packet of that
//! version, on a path with these facts, satisfies the policy's formula for that event.
//!
//! What a version is: the value that the latest run of its place in the program gave it, as long as a slot still leads
//! there, and otherwise the empty set. With that reading every fact holds at every place: where two branches meet, a
//! slot that they left with different values gets a new version that is one of the two; at the head and behind the end
//! of a loop, every slot that the loop assigns gets a new version of which nothing is said.

use crate::addr::{PrefixSet, Principal};
use crate::logic::{Facts, Prop, PropId, Props, SetId, Term, Version};
use crate::policy::{Formula, Policy};
use crate::program::{AddrExpr, Cond, Field, Instr, Program, Slot, Type, Unset};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

/// The kinds of events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EventKind {
    /// A packet is dropped.
    Discard,
    /// A packet is put into a group or selection.
    Group,
    /// A packet's content is looked at.
    Scan,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EventKind::Discard => "discarded",
            EventKind::Group => "grouped",
            EventKind::Scan => "scanned",
        })
    }
}

/// One thing to show: every packet of a version, on a path, may have this event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Obligation {
    /// The number of the instruction that causes the event.
    pub instr: usize,
    /// Which event.
    pub event: EventKind,
    /// The slot whose packets it happens to.
    pub slot: Slot,
    /// "The packet is in the set": the first thing given.
    pub member: PropId,
    /// What is known where the program has come to this place: given too.
    pub path: Vec<PropId>,
    /// The policy's formula for the event, for this owner.
    pub goal: PropId,
}

/// A name without a value for this owner, and the instruction that uses it; none where the policy does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsetAt {
    /// The number of the instruction, or none where it is the policy that uses the name.
    pub instr: Option<usize>,
    /// The name.
    pub name: Unset,
}

/// Everything that has to be shown, and what may be taken for granted.
#[derive(Clone, Debug)]
pub struct Obligations {
    /// The propositions that stand in the others.
    pub props: Props,
    /// What the rules may use.
    pub facts: Facts,
    /// What to show, in the order of the program.
    pub list: Vec<Obligation>,
}

impl Obligations {
    /// The obligations of `program` for `owner` under `policy`.
    ///
    /// # Errors
    /// [`UnsetAt`] where the program or the policy uses a name that the owner has not.
    pub fn of(program: &Program, owner: &Principal, policy: &Policy) -> Result<Obligations, UnsetAt> {
        let mut walk = Walk {
            program,
            owner,
            props: Props::default(),
            facts: Facts::default(),
            set_numbers: BTreeMap::new(),
            goals: [0; 3],
            list: Vec::new(),
            path: Vec::new(),
            slots: alloc::vec![None; program.slots().len()],
            instr: 0,
        };
        let formulas = [&policy.discard, &policy.group, &policy.scan];
        for (goal, formula) in formulas.into_iter().enumerate() {
            let prop = walk.formula(formula).map_err(|name| UnsetAt { instr: None, name })?;
            walk.goals[goal] = prop;
        }
        let all = walk.version(None);
        walk.slots[0] = Some(all);
        walk.block(program.body())?;
        Ok(Obligations { props: walk.props, facts: walk.facts, list: walk.list })
    }
}

struct Walk<'a> {
    program: &'a Program,
    owner: &'a Principal,
    props: Props,
    facts: Facts,
    set_numbers: BTreeMap<PrefixSet, SetId>,
    /// The policy's formulas, in the order of [`EventKind`].
    goals: [PropId; 3],
    list: Vec<Obligation>,
    path: Vec<PropId>,
    /// The version that each slot holds here; none where it is not assigned on every way.
    slots: Vec<Option<Version>>,
    /// The number of the instruction at hand.
    instr: usize,
}

impl Walk<'_> {
    /// A new version, of whose packets `fact` holds.
    fn version(&mut self, fact: Option<PropId>) -> Version {
        self.facts.members.push(fact);
        (self.facts.members.len() - 1) as Version
    }

    fn set(&mut self, set: PrefixSet) -> SetId {
        if let Some(&number) = self.set_numbers.get(&set) {
            return number;
        }
        let number = self.facts.sets.len() as SetId;
        self.facts.sets.push(set.clone());
        self.set_numbers.insert(set, number);
        number
    }

    fn is_in(&mut self, term: Term, addrs: &AddrExpr) -> Result<PropId, Unset> {
        let set = addrs.resolve(self.owner)?;
        let set = self.set(set);
        Ok(self.props.intern(Prop::In(term, set)))
    }

    fn unset(&self, instr: usize) -> impl Fn(Unset) -> UnsetAt + use<> {
        move |name| UnsetAt { instr: Some(instr), name }
    }

    /// A policy's formula, for this owner.
    fn formula(&mut self, formula: &Formula) -> Result<PropId, Unset> {
        let prop = match formula {
            Formula::True => Prop::True,
            Formula::False => Prop::False,
            Formula::Owns(field) => {
                let set = self.set(PrefixSet::new(alloc::vec![self.owner.owned()]));
                Prop::In(Term::Field(*field), set)
            }
            Formula::In(field, addrs) => return self.is_in(Term::Field(*field), addrs),
            Formula::Not(a) => Prop::Not(self.formula(a)?),
            Formula::And(a, b) => Prop::And(self.formula(a)?, self.formula(b)?),
            Formula::Or(a, b) => Prop::Or(self.formula(a)?, self.formula(b)?),
        };
        Ok(self.props.intern(prop))
    }

    // A well-formed program reads only slots that are assigned on every way.
    fn held(&self, slot: Slot) -> Version {
        self.slots[usize::from(slot)].expect("a slot is read only where it is assigned")
    }

    fn member(&mut self, version: Version) -> PropId {
        self.props.intern(Prop::Member(version))
    }

    fn oblige(&mut self, instr: usize, event: EventKind, slot: Slot, version: Version) {
        let member = self.member(version);
        let goal = self.goals[event as usize];
        self.list.push(Obligation { instr, event, slot, member, path: self.path.clone(), goal });
    }

    fn block(&mut self, block: &[Instr]) -> Result<(), UnsetAt> {
        block.iter().try_for_each(|instr| self.instr(instr))
    }

    fn instr(&mut self, instr: &Instr) -> Result<(), UnsetAt> {
        let number = self.instr;
        self.instr += 1;
        match instr {
            Instr::Select { out, arg, field, addrs } => {
                let from = self.held(*arg);
                let from = self.member(from);
                let there = self.is_in(Term::Field(*field), addrs).map_err(self.unset(number))?;
                let fact = self.props.intern(Prop::And(from, there));
                let version = self.version(Some(fact));
                self.slots[usize::from(*out)] = Some(version);
                self.oblige(number, EventKind::Group, *out, version);
            }
            Instr::Partition { out, arg, field: _ } => {
                let from = self.held(*arg);
                self.oblige(number, EventKind::Group, *arg, from);
                let from = self.member(from);
                let version = self.version(Some(from));
                self.slots[usize::from(*out)] = Some(version);
            }
            Instr::Discard { arg } => {
                let version = self.held(*arg);
                self.oblige(number, EventKind::Discard, *arg, version);
            }
            Instr::If { cond, then, otherwise } => self.branch(number, cond, then, otherwise)?,
            Instr::Foreach { groups, packets, key, body } => {
                let all = self.held(*groups);
                let all = self.member(all);
                self.forget(body);
                let key_version = self.version(None);
                let same = Prop::Same(Term::Field(self.grouped_by(*key)), Term::Key(key_version));
                let same = self.props.intern(same);
                let fact = self.props.intern(Prop::And(all, same));
                let group = self.version(Some(fact));
                self.slots[usize::from(*packets)] = Some(group);
                self.slots[usize::from(*key)] = Some(key_version);
                self.block(body)?;
                self.forget(body);
                self.slots[usize::from(*packets)] = None;
                self.slots[usize::from(*key)] = None;
            }
        }
        Ok(())
    }

    fn grouped_by(&self, key: Slot) -> Field {
        match self.program.slots()[usize::from(key)] {
            Type::Key(field) => field,
            Type::Packets | Type::Groups(_) => unreachable!("slot {key} is a key in a well-formed program"),
        }
    }

    fn branch(&mut self, number: usize, cond: &Cond, then: &[Instr], otherwise: &[Instr]) -> Result<(), UnsetAt> {
        let holds = self.cond(number, cond)?;
        let before = self.slots.clone();
        self.path.push(holds);
        self.block(then)?;
        self.path.pop();
        let after_then = core::mem::replace(&mut self.slots, before);
        let fails = self.props.intern(Prop::Not(holds));
        self.path.push(fails);
        self.block(otherwise)?;
        self.path.pop();
        for (slot, from_then) in after_then.into_iter().enumerate() {
            self.slots[slot] = match (from_then, self.slots[slot]) {
                (Some(a), Some(b)) if a == b => Some(a),
                (Some(a), Some(b)) => {
                    let (a, b) = (self.member(a), self.member(b));
                    let fact = self.props.intern(Prop::Or(a, b));
                    Some(self.version(Some(fact)))
                }
                _ => None,
            };
        }
        Ok(())
    }

    /// The proposition that a condition is, and the obligations of looking at it.
    fn cond(&mut self, number: usize, cond: &Cond) -> Result<PropId, UnsetAt> {
        let prop = match cond {
            Cond::Contains { arg, word: _ } => {
                let version = self.held(*arg);
                self.oblige(number, EventKind::Scan, *arg, version);
                self.facts.answers += 1;
                Prop::Answer(self.facts.answers - 1)
            }
            Cond::KeyIn { key, addrs } => {
                let key = Term::Key(self.held(*key));
                return self.is_in(key, addrs).map_err(self.unset(number));
            }
            Cond::Not(a) => Prop::Not(self.cond(number, a)?),
            // The right side is looked at only where the left one leaves it open.
            Cond::And(a, b) => {
                let a = self.cond(number, a)?;
                self.path.push(a);
                let b = self.cond(number, b)?;
                self.path.pop();
                Prop::And(a, b)
            }
            Cond::Or(a, b) => {
                let a = self.cond(number, a)?;
                let not_a = self.props.intern(Prop::Not(a));
                self.path.push(not_a);
                let b = self.cond(number, b)?;
                self.path.pop();
                Prop::Or(a, b)
            }
        };
        Ok(self.props.intern(prop))
    }

    /// Gives every slot that `block` assigns a new version of which nothing is known.
    fn forget(&mut self, block: &[Instr]) {
        for instr in block {
            match instr {
                Instr::Select { out, .. } | Instr::Partition { out, .. } => {
                    if self.slots[usize::from(*out)].is_some() {
                        self.slots[usize::from(*out)] = Some(self.version(None));
                    }
                }
                Instr::Discard { .. } => {}
                Instr::If { then, otherwise, .. } => {
                    self.forget(then);
                    self.forget(otherwise);
                }
                Instr::Foreach { body, .. } => self.forget(body),
            }
        }
    }
}
