//! The program logic: what has to be shown of a program, computed from its bytes, its owner and the policy alone.
//!
//! One walk over the program applies the rule of each construct. Every value that a variable has is a term: an
//! instruction that makes one gives it a constant and says exactly what holds of it (the axioms of instructions), so the
//! facts about constants are definitions and hold at every place. What holds only for runs that have come to a place is
//! the *path* to it. Wherever something has to be true the walk asks its [`Guide`] to show it from there:
//!
//! - every event: for an arbitrary packet of the set that it happens to, the policy's formula;
//! - of a loop with an invariant: that it holds when the loop is reached, and again at the end of each turn. All values
//!   that the loop assigns are unknown at its head, but for the invariant;
//! - of a while with a variant: that it is small enough at first, positive when a turn begins, and falls in each turn;
//! - of a branch that is said to be dead: a contradiction;
//! - of a cost that is said to be lower than the sum of the parts: that it is, on every path.
//!
//! Costs are counted along the way: what each step costs for one packet, times the number of times that it can happen
//! per packet of the window (see `docs/PROOF.md`).

use crate::addr::{Principal, Unset};
use crate::cost::{CostOverflow, Prices};
use crate::logic::Kernel;
use crate::packet::{Field, Test};
use crate::policy::Policy;
use crate::program::{ALL_PACKETS, AddrTerm, COUNT_MAX, Cond, DEPTH_MAX, Expr, Instr, Program, SLOTS_MAX, Slot, Type};
use crate::term::{Id, Op, SetValue, Sort, THE_PACKET, TermFault, Terms, sort};
use crate::{addr::AddrExpr, addr::PrefixSet};
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
    /// Packets are sent.
    Generate,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EventKind::Discard => "discarded",
            EventKind::Group => "grouped",
            EventKind::Scan => "scanned",
            EventKind::Generate => "generated",
        })
    }
}

/// Why something has to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duty {
    /// The policy allows the event to every packet of the slot; for generated packets, the slot is what they hold.
    Event(EventKind, Slot),
    /// The branch is never taken.
    Dead,
    /// The invariant holds where the loop is reached.
    InvariantHolds,
    /// The invariant holds at the end of a turn.
    InvariantKept,
    /// The variant is no more than the number of turns where the loop is reached.
    VariantBounded,
    /// The variant is positive where a turn begins.
    VariantPositive,
    /// The variant is lower at the end of a turn than at its beginning.
    VariantFalls,
    /// The cost is no more than what was said.
    Cost,
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Duty::Event(EventKind::Generate, _) => write!(f, "the policy allows these packets to be generated"),
            Duty::Event(event, slot) => write!(f, "the policy allows every packet of slot {slot} to be {event}"),
            Duty::Dead => write!(f, "the branch is never taken"),
            Duty::InvariantHolds => write!(f, "the invariant holds where the loop is reached"),
            Duty::InvariantKept => write!(f, "the invariant holds again at the end of a turn"),
            Duty::VariantBounded => write!(f, "the variant is no more than the number of turns"),
            Duty::VariantPositive => write!(f, "the variant is positive where a turn begins"),
            Duty::VariantFalls => write!(f, "the variant falls in every turn"),
            Duty::Cost => write!(f, "the cost is no more than what is declared"),
        }
    }
}

/// One thing to show, from the path and the facts that the kernel has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Obligation {
    /// The number of the instruction that it is about.
    pub instr: usize,
    /// Why it has to be shown.
    pub duty: Duty,
    /// "The packet is in the set", where it is about a packet: given too.
    pub member: Option<Id>,
    /// What to show.
    pub goal: Id,
}

/// What a certificate says of a loop. Formulas and terms speak of the program's variables as slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoopNote {
    /// What holds at its head, each time it is reached.
    pub invariant: Option<Id>,
    /// An integer that falls in every turn of a while, and the most that it is at first.
    pub variant: Option<(Id, u32)>,
    /// The most that one turn costs, its condition included, in cycles per packet.
    pub cost: Option<u64>,
}

/// What a certificate says of an if.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BranchNote {
    /// Both blocks may be run.
    Live,
    /// The first block is never run.
    ThenDead,
    /// The second block is never run.
    ElseDead,
}

/// Where the walk is.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The number of the instruction.
    pub instr: usize,
    /// What each slot holds, where it is assigned.
    pub slots: &'a [Option<Id>],
    /// The condition, of an if.
    pub cond: Option<Id>,
}

/// Who knows what a certificate says, and sees to it that what has to be shown is shown. The checker's reads it from
/// bytes; a prover's makes it up.
pub trait Guide {
    /// Why the walk ends early.
    type Fault;
    /// Asked once, first: the most that the body costs for one packet, if it is said.
    ///
    /// # Errors
    /// Ends the walk.
    fn program(&mut self, kernel: &mut Kernel<'_>) -> Result<Option<u64>, Self::Fault>;
    /// Asked of each if, behind the obligations of its condition.
    ///
    /// # Errors
    /// Ends the walk.
    fn branch(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> Result<BranchNote, Self::Fault>;
    /// Asked of each loop.
    ///
    /// # Errors
    /// Ends the walk.
    fn turn(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> Result<LoopNote, Self::Fault>;
    /// Has to show the obligation.
    ///
    /// # Errors
    /// Ends the walk.
    fn show(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>, obligation: &Obligation) -> Result<(), Self::Fault>;
}

/// Why a walk ends early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkFault<F> {
    /// A name without a value for this owner, and the instruction that uses it; none where it is the policy.
    Unset(Option<usize>, Unset),
    /// A cost is above what 64 bits hold.
    CostOverflow,
    /// The program is too large for its facts to be written down, or a note speaks of what is not there.
    Term(TermFault),
    /// A cost is said of a program whose windows have more than one packet.
    CostOfWindow,
    /// What the guide says.
    Guide(F),
}

impl<F> From<CostOverflow> for WalkFault<F> {
    fn from(_: CostOverflow) -> Self {
        WalkFault::CostOverflow
    }
}

impl<F> From<TermFault> for WalkFault<F> {
    fn from(fault: TermFault) -> Self {
        WalkFault::Term(fault)
    }
}

/// What a walk found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Complexity(P), in cycles per packet.
    pub complexity: u64,
    /// The most turns of each while, by the number of the instruction.
    pub turns: Vec<(usize, u32)>,
}

/// How many packets a program's windows have at most, under `policy`.
#[must_use]
pub fn window(program: &Program, policy: &Policy) -> u16 {
    if program.window() == 0 { policy.limits.window_packets_max } else { program.window() }
}

/// Walks over `program`, for `owner` under `policy`.
///
/// # Errors
/// [`WalkFault`]; every obligation before it was shown.
pub fn walk<G: Guide>(
    program: &Program,
    owner: &Principal,
    policy: &Policy,
    kernel: &mut Kernel<'_>,
    guide: &mut G,
) -> Result<Outcome, WalkFault<G::Fault>> {
    let packet = THE_PACKET;
    let ends = [kernel.terms.node(Op::Src, packet, 0)?, kernel.terms.node(Op::Dst, packet, 0)?];
    let all = kernel.terms.fresh(sort::PACKETS)?;
    let nothing = kernel.terms.node(Op::True, 0, 0)?;
    let owned = kernel.terms.set(SetValue::Addrs(PrefixSet::new(alloc::vec![owner.owned()])))?;
    let mut slots = [None; SLOTS_MAX];
    slots[usize::from(ALL_PACKETS)] = Some(all);
    let prices = Prices::new(&policy.costs, &policy.limits);
    let entry = prices.entry(program);
    let mut walk = Walk {
        program,
        owner,
        policy,
        prices,
        kernel,
        guide,
        ends,
        owned,
        nothing,
        goals: [nothing; 3],
        generate: None,
        window: u64::from(window(program, policy)),
        slots,
        levels: [0; SLOTS_MAX],
        nest: [Nest { scale: 1, within: 0 }; DEPTH_MAX + 1],
        depth: 0,
        account: Account::default(),
        instr: 0,
        turns: Vec::new(),
    };
    for (goal, test) in [&policy.discard, &policy.group, &policy.scan].into_iter().enumerate() {
        walk.goals[goal] = walk.test(test, ends, None)?;
    }
    let claim = walk.guide.program(walk.kernel).map_err(WalkFault::Guide)?;
    let outer = walk.open_account(claim)?;
    walk.block(program.body())?;
    let body = walk.close_account(outer, claim, 0)?;
    let complexity = entry.checked_add(body).ok_or(CostOverflow)?;
    Ok(Outcome { complexity, turns: walk.turns })
}

/// What is known of one depth of foreach.
#[derive(Clone, Copy)]
struct Nest {
    /// How often at most its block is run per packet of the window, which is also how many packets there are in its
    /// groups together.
    scale: u64,
    /// The level of the set whose groups it goes through.
    within: u8,
}

/// What has been spent since an account was opened.
#[derive(Clone, Copy, Default)]
struct Account {
    /// On the dearest path.
    spent: u64,
    /// On the path at hand, as an integer term, where something is said of it.
    exact: Option<Id>,
}

struct Walk<'a, 'l, G> {
    program: &'a Program,
    owner: &'a Principal,
    policy: &'a Policy,
    prices: Prices<'a>,
    kernel: &'a mut Kernel<'l>,
    guide: &'a mut G,
    /// The source and the destination of the arbitrary packet.
    ends: [Id; 2],
    /// What the owner owns.
    owned: Id,
    /// True: also what slots hold that nothing can be said of.
    nothing: Id,
    /// The policy's formulas about the packet, in the order of [`EventKind`].
    goals: [Id; 3],
    /// Its formula for generated packets, of a source and a destination.
    generate: Option<(Id, [Id; 2])>,
    /// The most packets of a window.
    window: u64,
    slots: [Option<Id>; SLOTS_MAX],
    /// For each set of packets in how many foreach it is one of the groups, or part of it.
    levels: [u8; SLOTS_MAX],
    /// For each depth of foreach, up to the one at hand.
    nest: [Nest; DEPTH_MAX + 1],
    /// In how many foreach the walk is.
    depth: usize,
    account: Account,
    /// The number of the next instruction.
    instr: usize,
    turns: Vec<(usize, u32)>,
}

type Walked<T, G> = Result<T, WalkFault<<G as Guide>::Fault>>;

impl<G: Guide> Walk<'_, '_, G> {
    fn t(&mut self) -> &mut Terms {
        &mut self.kernel.terms
    }

    // A well-formed program reads only slots that are assigned on every way.
    fn held(&self, slot: Slot) -> Id {
        self.slots[usize::from(slot)].expect("a slot is read only where it is assigned")
    }

    fn level(&self, slot: Slot) -> u8 {
        self.levels[usize::from(slot)]
    }

    fn assign(&mut self, slot: Slot, value: Id, level: u8) {
        self.slots[usize::from(slot)] = Some(value);
        self.levels[usize::from(slot)] = level;
    }

    // ---- Obligations ----

    fn oblige(&mut self, instr: usize, duty: Duty, member: Option<Id>, goal: Id) -> Walked<(), G> {
        let site = Site { instr, slots: &self.slots, cond: None };
        let obligation = Obligation { instr, duty, member, goal };
        self.guide.show(self.kernel, &site, &obligation).map_err(WalkFault::Guide)
    }

    /// An event happens to every packet of a set.
    fn happens(&mut self, instr: usize, event: EventKind, slot: Slot) -> Walked<(), G> {
        let set = self.held(slot);
        let member = self.t().node(Op::In, THE_PACKET, set)?;
        self.oblige(instr, Duty::Event(event, slot), Some(member), self.goals[event as usize])
    }

    // ---- Costs ----

    fn charge(&mut self, amount: u64) -> Walked<(), G> {
        self.account.spent = self.account.spent.checked_add(amount).ok_or(CostOverflow)?;
        if let Some(exact) = self.account.exact {
            let so_far = self.t().as_int(exact);
            let amount = i64::try_from(amount).map_err(|_| CostOverflow)?;
            self.account.exact = Some(match so_far {
                Some(so_far) => self.t().int(so_far.checked_add(amount).ok_or(CostOverflow)?)?,
                None => {
                    let amount = self.t().int(amount)?;
                    self.t().node(Op::Add, exact, amount)?
                }
            });
        }
        Ok(())
    }

    /// What a step costs that happens to every packet of a set of this level.
    fn charge_set(&mut self, price: u64, level: u8) -> Walked<(), G> {
        let times = self.times(level)?;
        self.charge(price.checked_mul(times).ok_or(CostOverflow)?)
    }

    /// What a step costs that happens once whenever the walk comes to here.
    fn charge_once(&mut self, price: u64) -> Walked<(), G> {
        let times = self.nest[self.depth].scale;
        self.charge(price.checked_mul(times).ok_or(CostOverflow)?)
    }

    /// How many packets of a set of this level the walk comes to here with, per packet of the window.
    fn times(&self, level: u8) -> Result<u64, CostOverflow> {
        let (level, depth) = (usize::from(level), self.depth);
        (level..depth).try_fold(self.nest[level].scale, |n, _| n.checked_mul(self.window)).ok_or(CostOverflow)
    }

    /// The level of what has packets from sets of these two levels. A group is a part of those around it only where
    /// its foreach goes through a part of theirs.
    fn shared_level(&self, mut a: u8, mut b: u8) -> u8 {
        while a != b {
            (a, b) = (a.min(b), self.nest[usize::from(a.max(b))].within);
        }
        a
    }

    fn open_account(&mut self, claim: Option<u64>) -> Walked<Account, G> {
        if claim.is_some() && self.window != 1 {
            return Err(WalkFault::CostOfWindow);
        }
        let exact = if claim.is_some() { Some(self.t().int(0)?) } else { None };
        Ok(core::mem::replace(&mut self.account, Account { spent: 0, exact }))
    }

    /// What was spent since `outer` was put aside: what is claimed, if that is shown, else the sum of the parts.
    fn close_account(&mut self, outer: Account, claim: Option<u64>, instr: usize) -> Walked<u64, G> {
        let Account { spent, exact } = core::mem::replace(&mut self.account, outer);
        let (Some(claim), Some(exact)) = (claim, exact) else { return Ok(spent) };
        let most = i64::try_from(claim).map_err(|_| CostOverflow)?;
        let most = self.t().int(most)?;
        let goal = self.t().node(Op::Le, exact, most)?;
        self.oblige(instr, Duty::Cost, None, goal)?;
        Ok(claim)
    }

    // ---- Terms ----

    fn addrs(&mut self, addrs: &AddrExpr, instr: Option<usize>) -> Walked<Id, G> {
        let set = addrs.resolve(self.owner).map_err(|name| WalkFault::Unset(instr, name))?;
        Ok(self.t().set(SetValue::Addrs(set))?)
    }

    fn address(&mut self, term: &AddrTerm, instr: usize) -> Walked<Id, G> {
        let unset = |name| WalkFault::Unset(Some(instr), name);
        let addr = match term {
            AddrTerm::Slot { slot } => return Ok(self.held(*slot)),
            AddrTerm::Const { addr } => *addr,
            AddrTerm::ThisIp => self.owner.this_ip().ok_or(unset(Unset::ThisIp))?,
            AddrTerm::ThisSubnet => self.owner.this_subnet().ok_or(unset(Unset::ThisSubnet))?.addr(),
        };
        Ok(self.t().addr(addr)?)
    }

    fn expr(&mut self, expr: &Expr) -> Walked<Id, G> {
        let (op, a, b) = match expr {
            Expr::Const { value } => return Ok(self.t().int(*value)?),
            Expr::Slot { slot } => return Ok(self.held(*slot)),
            Expr::Add { a, b } => (Op::Add, a, b),
            Expr::Sub { a, b } => (Op::Sub, a, b),
            Expr::Mul { a, b } => (Op::Mul, a, b),
        };
        let (a, b) = (self.expr(a)?, self.expr(b)?);
        Ok(self.t().node(op, a, b)?)
    }

    /// What a test says of a packet with these addresses.
    fn test(&mut self, test: &Test, fields: [Id; 2], instr: Option<usize>) -> Walked<Id, G> {
        Ok(match test {
            Test::True => self.nothing,
            Test::False => self.t().node(Op::False, 0, 0)?,
            Test::Owns { field } => {
                let owned = self.owned;
                self.t().node(Op::In, fields[*field as usize], owned)?
            }
            Test::In { field, addrs } => {
                let set = self.addrs(addrs, instr)?;
                self.t().node(Op::In, fields[*field as usize], set)?
            }
            Test::Is { field, slot } => {
                let held = self.held(*slot);
                self.t().node(Op::Eq, fields[*field as usize], held)?
            }
            Test::Number { number, ranges } => {
                let number = self.t().node(Op::Num, THE_PACKET, *number as u32)?;
                let set = self.t().set(SetValue::Numbers(ranges.clone()))?;
                self.t().node(Op::In, number, set)?
            }
            Test::Not { a } => {
                let a = self.test(a, fields, instr)?;
                self.t().node(Op::Not, a, 0)?
            }
            Test::And { a, b } | Test::Or { a, b } => {
                let (a, b) = (self.test(a, fields, instr)?, self.test(b, fields, instr)?);
                self.t().node(if matches!(test, Test::And { .. }) { Op::And } else { Op::Or }, a, b)?
            }
        })
    }

    /// A new constant, and what is said of it.
    fn define(&mut self, sort: Sort, fact: impl FnOnce(&mut Terms, Id) -> Result<Id, TermFault>) -> Walked<Id, G> {
        let id = self.t().fresh(sort)?;
        let number = self.t().constants.len() - 1;
        let fact = fact(self.t(), id)?;
        self.t().constants[number].fact = Some(fact);
        Ok(id)
    }

    /// The policy's formula for packets that are generated between these addresses. It is made once, of two constants.
    fn may_generate(&mut self, ends: [Id; 2]) -> Walked<Id, G> {
        let (goal, [src, dst]) = match self.generate {
            Some(known) => known,
            None => {
                let any = [self.t().fresh(sort::ADDR)?, self.t().fresh(sort::ADDR)?];
                let policy = self.policy;
                let goal = self.test(&policy.generate, any, None)?;
                *self.generate.insert((goal, any))
            }
        };
        let goal = self.t().replace(goal, src, ends[0])?;
        Ok(self.t().replace(goal, dst, ends[1])?)
    }

    // ---- Instructions ----

    fn block(&mut self, block: &[Instr]) -> Walked<(), G> {
        block.iter().try_for_each(|instr| self.instr(instr))
    }

    fn instr(&mut self, instr: &Instr) -> Walked<(), G> {
        let number = self.instr;
        self.instr += 1;
        let price = self.prices.instr(instr);
        let packet = THE_PACKET;
        match instr {
            Instr::Select { out, arg, test } => {
                let from = self.held(*arg);
                let passes = self.test(test, self.ends, Some(number))?;
                let set = self.define(sort::PACKETS, |t, _| {
                    let from = t.node(Op::In, packet, from)?;
                    t.node(Op::And, from, passes)
                })?;
                let level = self.level(*arg);
                self.charge_set(price, level)?;
                self.assign(*out, set, level);
                self.happens(number, EventKind::Group, *out)
            }
            Instr::Partition { out, arg, field: _ } => {
                self.happens(number, EventKind::Group, *arg)?;
                // The packets of all groups are those of the argument.
                let (all, level) = (self.held(*arg), self.level(*arg));
                self.charge_set(price, level)?;
                self.assign(*out, all, level);
                Ok(())
            }
            Instr::Content { dests, contents, arg } => {
                self.happens(number, EventKind::Group, *arg)?;
                self.happens(number, EventKind::Scan, *arg)?;
                self.charge_set(price, self.level(*arg))?;
                let nothing = self.nothing;
                self.assign(*dests, nothing, 0);
                self.assign(*contents, nothing, 0);
                Ok(())
            }
            Instr::Union { out, a, b } | Instr::Minus { out, a, b } => {
                let op = if matches!(instr, Instr::Union { .. }) { Op::Union } else { Op::Minus };
                let (left, right) = (self.held(*a), self.held(*b));
                let set = self.t().node(op, left, right)?;
                self.charge_set(price, self.level(*a))?;
                self.charge_set(price, self.level(*b))?;
                let level = self.level(*a);
                let level = if op == Op::Union { self.shared_level(level, self.level(*b)) } else { level };
                self.assign(*out, set, level);
                Ok(())
            }
            Instr::Count { out, arg, word: _ } => {
                self.happens(number, EventKind::Scan, *arg)?;
                self.charge_set(price, self.level(*arg))?;
                let count = self.define(sort::INT, |t, n| between(t, n, COUNT_MAX))?;
                self.assign(*out, count, 0);
                Ok(())
            }
            Instr::Size { out, arg } => {
                self.charge_set(price, self.level(*arg))?;
                let (set, most) = (self.held(*arg), self.window as i64);
                let size = self.define(sort::INT, |t, n| {
                    let (bounds, zero) = (between(t, n, most)?, t.int(0)?);
                    let (is_zero, is_empty) = (t.node(Op::Eq, n, zero)?, empty(t, set)?);
                    let iff = t.node(Op::Iff, is_zero, is_empty)?;
                    t.node(Op::And, bounds, iff)
                })?;
                self.assign(*out, size, 0);
                Ok(())
            }
            Instr::Let { out, expr } => {
                self.charge_once(price)?;
                let value = self.expr(expr)?;
                self.assign(*out, value, 0);
                Ok(())
            }
            Instr::Offset { out, base, by } => {
                self.charge_once(price)?;
                let (base, by) = (self.address(base, number)?, self.expr(by)?);
                let addr = self.t().node(Op::Offset, base, by)?;
                self.assign(*out, addr, 0);
                Ok(())
            }
            Instr::Discard { arg } => {
                self.charge_set(price, self.level(*arg))?;
                self.happens(number, EventKind::Discard, *arg)
            }
            Instr::Generate { src, dst, data } => {
                self.charge_set(price, 0)?;
                let ends = [self.address(src, number)?, self.address(dst, number)?];
                let goal = self.may_generate(ends)?;
                self.oblige(number, Duty::Event(EventKind::Generate, *data), None, goal)
            }
            Instr::If { cond, then, otherwise } => self.branch(number, cond, then, otherwise),
            Instr::Foreach { groups, packets, key, body } => {
                let (all, level) = (self.held(*groups), self.level(*groups));
                let field = match self.program.slots()[usize::from(*groups)] {
                    Type::Groups(Field::Src) => Op::Src,
                    _ => Op::Dst,
                };
                let scale = self.times(level)?;
                self.turn(number, body, 1, |walk| {
                    walk.depth += 1;
                    walk.nest[walk.depth] = Nest { scale, within: level };
                    walk.charge_once(price)?;
                    let common = walk.t().fresh(sort::ADDR)?;
                    let group = walk.define(sort::PACKETS, |t, _| {
                        let (from, addr) = (t.node(Op::In, packet, all)?, t.node(field, packet, 0)?);
                        let same = t.node(Op::Eq, addr, common)?;
                        t.node(Op::And, from, same)
                    })?;
                    let depth = walk.depth as u8;
                    walk.assign(*packets, group, depth);
                    walk.assign(*key, common, 0);
                    // No group is empty.
                    let member = walk.t().node(Op::Var, 0, u32::from(sort::PACKET))?;
                    let member = walk.t().node(Op::In, member, group)?;
                    let some = walk.t().node(Op::Exists, u32::from(sort::PACKET), member)?;
                    walk.kernel.know(some);
                    Ok(None)
                })?;
                self.depth -= 1;
                Ok(())
            }
            Instr::While { cond, max, body } => self.turn(number, body, *max, |walk| {
                let holds = walk.cond(number, cond)?;
                let asked = walk.account.spent;
                walk.charge_once(price)?;
                walk.kernel.know(holds);
                Ok(Some((holds, asked)))
            }),
        }
    }

    /// A loop: `enter` is what happens at the beginning of each turn; it gives the condition, where there is one, and
    /// what asking it costs.
    fn turn(
        &mut self,
        number: usize,
        body: &[Instr],
        max: u32,
        enter: impl FnOnce(&mut Self) -> Walked<Option<(Id, u64)>, G>,
    ) -> Walked<(), G> {
        let site = Site { instr: number, slots: &self.slots, cond: None };
        let note = self.guide.turn(self.kernel, &site).map_err(WalkFault::Guide)?;
        let mut max = max;
        if let Some(invariant) = note.invariant {
            let goal = self.fill(invariant)?;
            self.oblige(number, Duty::InvariantHolds, None, goal)?;
        }
        if let Some((variant, most)) = note.variant {
            let (value, bound) = (self.fill(variant)?, self.t().int(i64::from(most))?);
            let goal = self.t().node(Op::Le, value, bound)?;
            self.oblige(number, Duty::VariantBounded, None, goal)?;
            max = max.min(most);
        }
        // All that the loop assigns has been assigned any number of times.
        self.unknow(body)?;
        let (head, levels) = (self.slots, self.levels);
        let path = self.kernel.path_len();
        let invariant = note.invariant.map(|invariant| self.fill(invariant)).transpose()?;
        invariant.into_iter().for_each(|fact| self.kernel.know(fact));
        let outer = self.open_account(note.cost)?;
        let cond = enter(self)?;
        let is_while = cond.is_some();
        let at_first = match note.variant {
            Some((variant, _)) if is_while => {
                let (value, one) = (self.fill(variant)?, self.t().int(1)?);
                let goal = self.t().node(Op::Le, one, value)?;
                self.oblige(number, Duty::VariantPositive, None, goal)?;
                Some((variant, value, one))
            }
            _ => None,
        };
        self.block(body)?;
        if let Some(invariant) = note.invariant {
            let goal = self.fill(invariant)?;
            self.oblige(number, Duty::InvariantKept, None, goal)?;
        }
        if let Some((variant, before, one)) = at_first {
            let after = self.fill(variant)?;
            let more = self.t().node(Op::Add, after, one)?;
            let goal = self.t().node(Op::Le, more, before)?;
            self.oblige(number, Duty::VariantFalls, None, goal)?;
        }
        let spent = self.close_account(outer, note.cost, number)?;
        self.kernel.forget(path);
        (self.slots, self.levels) = (head, levels);
        invariant.into_iter().for_each(|fact| self.kernel.know(fact));
        match cond {
            Some((holds, asked)) => {
                // A run that is out of turns ends here and has spent what it has: where a cost is to be shown, such runs
                // count too.
                if self.account.exact.is_none() {
                    let over = self.t().node(Op::Not, holds, 0)?;
                    self.kernel.know(over);
                }
                self.turns.push((number, max));
                // The condition is asked once more than there are turns.
                let turns = spent.checked_mul(u64::from(max)).and_then(|turns| turns.checked_add(asked));
                self.charge(turns.ok_or(CostOverflow)?)
            }
            None => self.charge(spent),
        }
    }

    /// A formula or term of a note, of the values at hand.
    fn fill(&mut self, note: Id) -> Walked<Id, G> {
        let slots = &self.slots;
        Ok(self.kernel.terms.fill(note, &|slot| slots.get(slot as usize).copied().flatten())?)
    }

    /// Gives every slot that `block` assigns a new value of which nothing is known.
    fn unknow(&mut self, block: &[Instr]) -> Walked<(), G> {
        for instr in block {
            for slot in instr.targets().map(usize::from) {
                if let Some(value) = self.slots[slot]
                    && value != self.nothing
                {
                    let sort = self.t().sort(value);
                    self.slots[slot] = Some(self.t().fresh(sort)?);
                    self.levels[slot] = 0;
                }
            }
            instr.blocks().try_for_each(|block| self.unknow(block))?;
        }
        Ok(())
    }

    fn branch(&mut self, number: usize, cond: &Cond, then: &[Instr], otherwise: &[Instr]) -> Walked<(), G> {
        let holds = self.cond(number, cond)?;
        let fails = self.t().node(Op::Not, holds, 0)?;
        let site = Site { instr: number, slots: &self.slots, cond: Some(holds) };
        let note = self.guide.branch(self.kernel, &site).map_err(WalkFault::Guide)?;
        if note != BranchNote::Live {
            let then_dead = note == BranchNote::ThenDead;
            let path = self.kernel.path_len();
            self.kernel.know(if then_dead { holds } else { fails });
            let never = self.t().node(Op::False, 0, 0)?;
            self.oblige(number, Duty::Dead, None, never)?;
            self.kernel.forget(path);
            self.kernel.know(if then_dead { fails } else { holds });
            if then_dead {
                self.skip(then);
                return self.block(otherwise);
            }
            self.block(then)?;
            self.skip(otherwise);
            return Ok(());
        }
        let (slots, levels, account) = (self.slots, self.levels, self.account);
        let known_then = self.arm(then, holds)?;
        let slots_then = core::mem::replace(&mut self.slots, slots);
        let levels_then = core::mem::replace(&mut self.levels, levels);
        let account_then = core::mem::replace(&mut self.account, account);
        let known_else = self.arm(otherwise, fails)?;
        // Where the two meet, a slot that they left with different values has one of the two.
        for slot in 0..self.program.slots().len() {
            self.levels[slot] = self.shared_level(self.levels[slot], levels_then[slot]);
            self.slots[slot] = match (slots_then[slot], self.slots[slot]) {
                (Some(a), Some(b)) => Some(self.either(holds, fails, a, b)?),
                _ => None,
            };
        }
        self.account = Account {
            spent: if self.window == 1 || self.depth == 0 {
                account_then.spent.max(self.account.spent)
            } else {
                // In a loop over groups some may go one way and some the other.
                (account_then.spent - account.spent).checked_add(self.account.spent).ok_or(CostOverflow)?
            },
            exact: match (account_then.exact, self.account.exact) {
                (Some(a), Some(b)) => Some(self.either(holds, fails, a, b)?),
                _ => None,
            },
        };
        if known_then != holds || known_else != fails {
            let one = self.t().node(Op::Or, known_then, known_else)?;
            self.kernel.know(one);
        }
        Ok(())
    }

    /// A block that is run where `cond` holds; what is known behind it, besides what was known before.
    fn arm(&mut self, block: &[Instr], cond: Id) -> Walked<Id, G> {
        let path = self.kernel.path_len();
        self.kernel.know(cond);
        self.block(block)?;
        let known: Vec<Id> = self.kernel.path().skip(path + 1).collect();
        self.kernel.forget(path);
        let mut all = cond;
        for fact in known {
            all = self.t().node(Op::And, all, fact)?;
        }
        Ok(all)
    }

    /// A value that is `a` where `holds` does and `b` where `fails` does.
    fn either(&mut self, holds: Id, fails: Id, a: Id, b: Id) -> Walked<Id, G> {
        if a == b {
            return Ok(a);
        }
        let sort = self.t().sort(a);
        self.define(sort, |t, value| {
            let mut side = |cond, side| {
                let is = if sort == sort::PACKETS {
                    t.node(Op::In, THE_PACKET, side)?
                } else {
                    t.node(Op::Eq, value, side)?
                };
                t.node(Op::And, cond, is)
            };
            let (first, second) = (side(holds, a)?, side(fails, b)?);
            t.node(Op::Or, first, second)
        })
    }

    /// Passes over a block that is never run: its loops have no turns.
    fn skip(&mut self, block: &[Instr]) {
        for instr in block {
            if matches!(instr, Instr::While { .. }) {
                self.turns.push((self.instr, 0));
            }
            self.instr += 1;
            instr.blocks().for_each(|block| self.skip(block));
        }
    }

    /// The formula that a condition is. What is looked at has to be allowed.
    fn cond(&mut self, number: usize, cond: &Cond) -> Walked<Id, G> {
        let price = self.prices.cond(cond);
        self.charge_once(price)?;
        Ok(match cond {
            Cond::Contains { arg, word: _ } => {
                self.happens(number, EventKind::Scan, *arg)?;
                let search = self.prices.search();
                self.charge_set(search, self.level(*arg))?;
                // Whatever the answer is.
                self.t().fresh(sort::BOOL)?
            }
            Cond::Empty { arg } => {
                let set = self.held(*arg);
                empty(self.t(), set)?
            }
            Cond::AddrIn { addr, addrs } => {
                let (addr, set) = (self.held(*addr), self.addrs(addrs, Some(number))?);
                self.t().node(Op::In, addr, set)?
            }
            Cond::AddrIs { addr, is } => {
                let (addr, is) = (self.held(*addr), self.address(is, number)?);
                self.t().node(Op::Eq, addr, is)?
            }
            Cond::AtMost { a, b } | Cond::Equal { a, b } => {
                let (left, right) = (self.expr(a)?, self.expr(b)?);
                self.t().node(if matches!(cond, Cond::AtMost { .. }) { Op::Le } else { Op::Eq }, left, right)?
            }
            Cond::Not { cond } => {
                let inner = self.cond(number, cond)?;
                self.t().node(Op::Not, inner, 0)?
            }
            // The right side is looked at only where the left one leaves it open.
            Cond::And { a, b } | Cond::Or { a, b } => {
                let is_and = matches!(cond, Cond::And { .. });
                let left = self.cond(number, a)?;
                let open = if is_and { left } else { self.t().node(Op::Not, left, 0)? };
                let path = self.kernel.path_len();
                self.kernel.know(open);
                let right = self.cond(number, b)?;
                self.kernel.forget(path);
                self.t().node(if is_and { Op::And } else { Op::Or }, left, right)?
            }
        })
    }
}

/// 0 ≤ n ∧ n ≤ most.
fn between(t: &mut Terms, n: Id, most: i64) -> Result<Id, TermFault> {
    let (zero, most) = (t.int(0)?, t.int(most)?);
    let (low, high) = (t.node(Op::Le, zero, n)?, t.node(Op::Le, n, most)?);
    t.node(Op::And, low, high)
}

/// No packet is in the set.
fn empty(t: &mut Terms, set: Id) -> Result<Id, TermFault> {
    let member = t.node(Op::Var, 0, u32::from(sort::PACKET))?;
    let is_in = t.node(Op::In, member, set)?;
    let some = t.node(Op::Exists, u32::from(sort::PACKET), is_in)?;
    t.node(Op::Not, some, 0)
}
