//! The guide that makes a certificate: what it says of loops and branches, and a proof of each obligation.
//!
//! A [`Plan`] holds what is said. A walk with a plan ends with a certificate, with a better plan, or stuck at an event;
//! the first plan says nothing, because what is not said need not be proven. Invariants start as all candidates
//! that fit, and those that do not hold, or are not kept, are dropped until the rest carries itself; when a certificate
//! is made, what it does not need is dropped too.

pub mod candidates;
pub mod formula;

use crate::hint::Hint;
use crate::search::lemmas::Index;
use crate::search::{Cited, STEPS_MAX, Search};
use crate::words::words;
use formula::Invariant;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use vinet_trusted::addr::Principal;
use vinet_trusted::check::{Ceiling, Reject, note};
use vinet_trusted::cost::Prices;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::Kernel;
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::{Cond, Expr, Instr, Program};
use vinet_trusted::proof::Steps;
use vinet_trusted::term::{Id, Node, Op, Terms};
use vinet_trusted::walk::{self, BranchNote, Duty, Guide, LoopNote, Obligation, Site, WalkFault, window};
use vinet_trusted::wire::{Reader, Wire, Writer};

/// The most walks over one program.
pub const WALKS_MAX: usize = 400;
/// The most work of one walk's kernel, and of each search's.
const WORK_MAX: usize = 20_000_000;
/// The most walks that are spent on making a certificate shorter.
const SHORTER_WALKS_MAX: usize = 120;
/// The most steps of a search whose failure only means that something is not said.
const TRIAL_STEPS: usize = 6_000;
/// The most invariants of a loop of which each is tried alone.
const ALONE_MAX: usize = 12;
/// The length of an obligation's proof from which lemmas are tried, in bytes.
const SHORT_PROOF_BYTES: usize = 8;
/// The most things known that an error tells.
const KNOWN_WORDS_MAX: usize = 6;

/// Why no proof was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotProven {
    /// The search found no proof of an obligation.
    NoProofFound {
        /// The number of the instruction.
        instr: usize,
        /// Why it has to be shown.
        duty: Duty,
        /// What has to be shown, in words.
        goal: String,
        /// What is known there, in words.
        known: String,
    },
    /// The checker would reject the program whatever the proof, or the best proof that was found.
    Rejected(Reject),
}

impl NotProven {
    /// The number of the instruction that it is about, where it is about one.
    #[must_use]
    pub const fn instr(&self) -> Option<usize> {
        match self {
            NotProven::NoProofFound { instr, .. } => Some(*instr),
            NotProven::Rejected(reject) => reject.instr(),
        }
    }
    /// A stable short name for machines: the checker's, where there is one.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            NotProven::NoProofFound { .. } => "not-proven",
            NotProven::Rejected(reject) => reject.code(),
        }
    }
}

impl fmt::Display for NotProven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotProven::NoProofFound { instr, duty, goal, known } => {
                write!(
                    f,
                    "instruction {instr}: no proof was found that {duty}: that {goal}; it is known only that {known}"
                )
            }
            NotProven::Rejected(reject) => reject.fmt(f),
        }
    }
}

impl std::error::Error for NotProven {}

/// What is said of a loop.
#[derive(Clone, Debug, Default)]
struct LoopPlan {
    /// What holds at its head. Nothing as long as no candidates were looked for.
    invariants: Option<Vec<Invariant>>,
    /// What could be its variant, the best first. Nothing as long as none were looked for.
    variants: Option<Vec<Expr>>,
    cost: Claim,
}

/// The most that something costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Claim {
    /// Nothing is said.
    #[default]
    None,
    /// Something is said that is high enough; the least that can be shown has yet to be found.
    Loose(u64),
    /// The least that can be shown.
    Tight(u64),
}

impl Claim {
    const fn value(self) -> Option<u64> {
        match self {
            Claim::None => None,
            Claim::Loose(cost) | Claim::Tight(cost) => Some(cost),
        }
    }
}

/// What a certificate says.
#[derive(Clone, Debug, Default)]
struct Plan {
    loops: BTreeMap<usize, LoopPlan>,
    /// Loops up to this instruction get invariants.
    invariants_to: Option<usize>,
    variants: bool,
    /// Whether branches are tried for being dead, and what was found of each.
    dead: bool,
    branches: BTreeMap<usize, BranchNote>,
    cost: Claim,
    /// The first proofs, which the walk so far has found with what is said before them.
    proofs: Vec<Vec<u8>>,
    /// How many obligations come before each loop.
    before: BTreeMap<usize, usize>,
}

impl Plan {
    /// Forgets the proofs behind the head of a loop, of which something else is said now.
    fn changed(&mut self, instr: usize) {
        let before = self.before.get(&instr).copied().unwrap_or(0);
        self.proofs.truncate(before);
    }
}

/// Why a walk ended early.
enum Stop {
    /// The plan is another one now.
    Again,
    /// No proof was found of this.
    Stuck(NotProven),
}

/// What does not change from walk to walk.
#[derive(Clone)]
struct Task<'a> {
    program: &'a Program,
    owner: &'a Principal,
    policy: &'a Policy,
    lemmas: &'a LemmaStore,
    hints: &'a [Hint],
    index: Rc<Index>,
}

/// A certificate and what it comes to.
struct Made {
    bytes: Vec<u8>,
    complexity: u64,
}

/// A certificate that `program` keeps to `policy` for `owner`, for [`vinet_trusted::check::check`].
///
/// # Errors
/// [`NotProven`]: the first obligation that no proof was found for, or why no proof could help.
pub fn prove(
    program: &Program,
    owner: &Principal,
    policy: &Policy,
    lemmas: &LemmaStore,
    hints: &[Hint],
) -> Result<Vec<u8>, NotProven> {
    if policy.principals != PrincipalKind::of(owner) {
        return Err(NotProven::Rejected(Reject::WrongPrincipal { policy: policy.principals }));
    }
    // No proof helps against these.
    let (lifetime_s, limits) = (program.lifetime_s(), &policy.limits);
    for (what, value, ceiling) in [
        (Ceiling::Lifetime, u64::from(lifetime_s), u64::from(limits.lifetime_max_s)),
        (Ceiling::Window, u64::from(window(program, policy)), u64::from(limits.window_packets_max)),
    ] {
        if value > ceiling {
            return Err(NotProven::Rejected(Reject::AboveCeiling { what, value, ceiling }));
        }
    }
    let plain = Task { program, owner, policy, lemmas, hints, index: Rc::default() }.best();
    let index = Rc::new(Index::of(lemmas));
    if index.is_empty() {
        return plain;
    }
    // What lemmas make shorter in one place can make it longer as a whole.
    match (plain, Task { program, owner, policy, lemmas, hints, index }.best()) {
        (Ok(plain), Ok(with_lemmas)) => Ok(if with_lemmas.len() < plain.len() { with_lemmas } else { plain }),
        (plain, with_lemmas) => with_lemmas.or(plain),
    }
}

impl Task<'_> {
    /// The shortest certificate that is found.
    fn best(&self) -> Result<Vec<u8>, NotProven> {
        let mut walks = WALKS_MAX;
        let mut plan = Plan::default();
        let mut made = self.settle(&mut plan, &mut walks, STEPS_MAX);
        if let Err(NotProven::NoProofFound { instr, .. }) = made {
            plan.invariants_to = Some(instr);
            plan.loops.keys().copied().min().into_iter().for_each(|first| plan.changed(first));
            // Each walk may come further, to a loop that needs invariants too.
            loop {
                let again = self.settle(&mut plan, &mut walks, STEPS_MAX);
                let further = match &again {
                    Err(NotProven::NoProofFound { instr, .. }) => plan.invariants_to.is_none_or(|to| to < *instr),
                    _ => false,
                };
                // What the search knew when nothing was said is easier to read.
                if again.is_ok() || !further {
                    made = if again.is_ok() { again } else { made };
                    break;
                }
                plan.invariants_to = again.as_ref().err().and_then(NotProven::instr);
                made = again;
            }
        }
        let mut made = made?;
        if made.complexity > self.allowed() {
            made = self.cheaper(&mut plan, &mut walks, made)?;
        }
        Ok(self.shorter(&plan, made).bytes)
    }

    /// The complexity that the policy allows.
    fn allowed(&self) -> u64 {
        let limits = &self.policy.limits;
        limits.complexity_max.min(limits.cost_max / u64::from(self.program.lifetime_s()).max(1))
    }

    /// Walks until nothing changes any more.
    fn settle(&self, plan: &mut Plan, walks: &mut usize, steps_max: usize) -> Result<Made, NotProven> {
        loop {
            let mut kernel = Kernel::new(Terms::new(WORK_MAX), self.lemmas);
            let mut maker =
                Maker { task: self, plan, out: Writer::new(), shown: Vec::new(), steps_max, place: (0, Duty::Cost) };
            let found = walk::walk(self.program, self.owner, self.policy, &mut kernel, &mut maker);
            let (place, bytes) = (maker.place, maker.out.finish());
            *walks = walks.saturating_sub(1);
            match found {
                Ok(outcome) => return Ok(Made { bytes, complexity: outcome.complexity }),
                Err(WalkFault::Guide(Stop::Again)) if *walks > 0 => {}
                Err(WalkFault::Guide(Stop::Again)) => {
                    return Err(NotProven::NoProofFound {
                        instr: place.0,
                        duty: place.1,
                        goal: "the invariants that were tried carry themselves".to_owned(),
                        known: format!("they do not after {WALKS_MAX} tries"),
                    });
                }
                Err(WalkFault::Guide(Stop::Stuck(why))) => return Err(why),
                Err(WalkFault::Unset(instr, name)) => return Err(NotProven::Rejected(Reject::Unset(instr, name))),
                Err(WalkFault::CostOverflow) => return Err(NotProven::Rejected(Reject::CostOverflow)),
                Err(WalkFault::Term(fault)) => return Err(NotProven::Rejected(Reject::TooLarge(fault))),
                Err(WalkFault::CostOfWindow) => return Err(NotProven::Rejected(Reject::CostOfWindow)),
            }
        }
    }

    /// Says more, until the complexity is allowed: how few turns loops have, which branches are dead, what is never spent
    /// together.
    fn cheaper(&self, plan: &mut Plan, walks: &mut usize, first: Made) -> Result<Made, NotProven> {
        let allowed = self.allowed();
        let entry = Prices::new(&self.policy.costs, &self.policy.limits).entry(self.program);
        let mut best = first;
        for stage in 0..6 {
            let mut next = plan.clone();
            next.proofs.clear();
            match stage {
                0 => next.variants = true,
                1 => {
                    // A variant may need invariants to be shown.
                    next.variants = true;
                    next.loops.values_mut().for_each(|said| said.variants = None);
                    next.invariants_to = Some(usize::MAX);
                }
                2 => next.dead = true,
                _ if walk::window(self.program, self.policy) != 1 => continue,
                3 => next.cost = Claim::Loose(best.complexity - entry),
                4 => {
                    let loops = next.loops.values_mut();
                    loops.for_each(|said| said.cost = Claim::Loose(best.complexity - entry));
                    next.cost = Claim::None;
                }
                _ => next.cost = Claim::Loose(best.complexity - entry),
            }
            let Ok(made) = self.settle(&mut next, walks, STEPS_MAX) else { continue };
            if made.complexity < best.complexity || stage == 0 {
                *plan = next;
                best = made;
            }
            if best.complexity <= allowed {
                return Ok(best);
            }
        }
        let limits = &self.policy.limits;
        Err(NotProven::Rejected(if best.complexity > limits.complexity_max {
            let ceiling = limits.complexity_max;
            Reject::AboveCeiling { what: Ceiling::Complexity, value: best.complexity, ceiling }
        } else {
            let value = best.complexity.saturating_mul(u64::from(self.program.lifetime_s()));
            Reject::AboveCeiling { what: Ceiling::Cost, value, ceiling: limits.cost_max }
        }))
    }

    /// Drops what the certificate does not need.
    fn shorter(&self, plan: &Plan, made: Made) -> Made {
        let (mut plan, mut best) = (plan.clone(), made);
        let mut walks = SHORTER_WALKS_MAX;
        let mut attempt = |next: &mut Plan, best: &mut Made| -> bool {
            next.proofs.clear();
            // What was looked for is not looked for again.
            next.dead = false;
            if walks == 0 {
                return false;
            }
            match self.settle(next, &mut walks, 2 * TRIAL_STEPS) {
                Ok(made)
                    if made.bytes.len() <= best.bytes.len()
                        && made.complexity <= self.allowed().max(best.complexity) =>
                {
                    *best = made;
                    true
                }
                _ => false,
            }
        };
        let loops: Vec<usize> = plan.loops.keys().copied().collect();
        for instr in loops {
            let all = plan.loops[&instr].invariants.clone().unwrap_or_default();
            if (2..=ALONE_MAX).contains(&all.len()) {
                let fewest = plan.clone();
                for alone in all {
                    let mut next = fewest.clone();
                    next.loops.entry(instr).or_default().invariants = Some(vec![alone]);
                    if attempt(&mut next, &mut best) {
                        plan = next;
                    }
                }
            }
            let count = plan.loops[&instr].invariants.as_ref().map_or(0, Vec::len);
            for at in (0..count).rev() {
                let mut next = plan.clone();
                if let Some(invariants) = next.loops.get_mut(&instr).and_then(|said| said.invariants.as_mut()) {
                    invariants.remove(at);
                }
                if attempt(&mut next, &mut best) {
                    plan = next;
                }
            }
            let said = &plan.loops[&instr];
            let (has_variant, has_cost) =
                (said.variants.as_ref().is_some_and(|all| !all.is_empty()), said.cost != Claim::None);
            if has_variant {
                let mut next = plan.clone();
                next.loops.entry(instr).or_default().variants = Some(Vec::new());
                if attempt(&mut next, &mut best) {
                    plan = next;
                }
            }
            if has_cost {
                let mut next = plan.clone();
                next.loops.entry(instr).or_default().cost = Claim::None;
                if attempt(&mut next, &mut best) {
                    plan = next;
                }
            }
        }
        let branches: Vec<usize> = plan.branches.keys().copied().collect();
        for instr in branches {
            let mut next = plan.clone();
            next.branches.insert(instr, BranchNote::Live);
            if plan.branches[&instr] != BranchNote::Live && attempt(&mut next, &mut best) {
                plan = next;
            }
        }
        best
    }
}

/// One walk.
struct Maker<'a, 'p> {
    task: &'a Task<'a>,
    plan: &'p mut Plan,
    out: Writer,
    /// What was shown: the set that it was about, and the goal.
    shown: Vec<(Option<Id>, Id)>,
    steps_max: usize,
    place: (usize, Duty),
}

impl Maker<'_, '_> {
    /// What can be cited where the walk has come to.
    fn cited(&self, kernel: &mut Kernel<'_>) -> Vec<Cited> {
        let mut cited = Vec::new();
        for (number, (member, goal)) in self.shown.iter().enumerate() {
            kernel.begin(*member);
            let premise = if member.is_some() { kernel.claim(0).ok() } else { None };
            if kernel.cite(number, premise).is_ok() {
                let set = member.map(|member| kernel.terms.get(member).args[1]);
                cited.push(Cited { number: number as u32, set, goal: *goal });
            }
        }
        cited
    }

    /// A search without lemmas.
    fn search<'l>(&self, kernel: &mut Kernel<'l>, member: Option<Id>, more: Option<Id>) -> Search<'l> {
        let cited = self.cited(kernel);
        Search::indexed(kernel, Rc::default(), member, more, cited).at_most(self.steps_max)
    }

    /// The shortest proof found of `goal`, without lemmas and with them: what lemmas add to what is known leads astray as
    /// often as it helps.
    fn written(&self, kernel: &mut Kernel<'_>, member: Option<Id>, goal: Id, steps_max: usize) -> Option<Vec<u8>> {
        let plain = self.search(kernel, member, None).at_most(steps_max).written(goal);
        if self.task.index.is_empty() || plain.as_ref().is_some_and(|plain| plain.len() <= SHORT_PROOF_BYTES) {
            return plain;
        }
        let cited = self.cited(kernel);
        let mut search = Search::indexed(kernel, Rc::clone(&self.task.index), member, None, cited).at_most(steps_max);
        match (plain, search.written(goal)) {
            (Some(a), Some(b)) => Some(if b.len() < a.len() { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    fn stuck(&self, kernel: &mut Kernel<'_>, obligation: &Obligation) -> Stop {
        let mut search = self.search(kernel, obligation.member, None);
        let known = search.what_is_known(obligation.goal);
        let goal = words(search.terms(), obligation.goal);
        let telling = |id: &&Id| {
            let Node { op, args } = search.terms().get(**id);
            match op {
                Op::In => search.terms().get(args[1]).op == Op::Set,
                Op::Not | Op::Or | Op::Le | Op::Eq | Op::Forall => true,
                _ => false,
            }
        };
        let told: Vec<String> =
            known.iter().filter(telling).take(KNOWN_WORDS_MAX).map(|id| words(search.terms(), *id)).collect();
        let known = match (told.is_empty(), obligation.member.is_some()) {
            (false, _) => told.join(", and "),
            (true, true) => "it is a packet of the window".to_owned(),
            (true, false) => "the program came to here".to_owned(),
        };
        Stop::Stuck(NotProven::NoProofFound { instr: obligation.instr, duty: obligation.duty, goal, known })
    }

    /// Drops those of a loop's invariants that are not shown. Whether there was one.
    fn drop_invariants(&mut self, kernel: &mut Kernel<'_>, obligation: &Obligation) -> bool {
        let count =
            self.plan.loops.get(&obligation.instr).and_then(|said| said.invariants.as_ref()).map_or(0, Vec::len);
        let mut parts: Vec<Id> = Vec::with_capacity(count);
        let mut whole = obligation.goal;
        for _ in 1..count {
            let Node { args: [rest, last, ..], .. } = kernel.terms.get(whole);
            parts.push(last);
            whole = rest;
        }
        parts.push(whole);
        parts.reverse();
        let mut kept: Vec<bool> = Vec::with_capacity(count);
        for part in parts {
            kept.push(self.written(kernel, None, part, TRIAL_STEPS.min(self.steps_max)).is_some());
        }
        let dropped = kept.iter().any(|kept| !kept);
        if let Some(invariants) = self.plan.loops.get_mut(&obligation.instr).and_then(|said| said.invariants.as_mut()) {
            let mut kept = kept.into_iter();
            invariants.retain(|_| kept.next().unwrap_or(false));
            if !dropped {
                // Each is shown, but not all together within the limits.
                invariants.pop();
            }
        }
        self.plan.changed(obligation.instr);
        count > 0
    }

    /// The least cost that can be shown, at most `most`.
    fn least(&self, kernel: &mut Kernel<'_>, goal: Id, most: u64) -> u64 {
        let Node { args: [exact, ..], .. } = kernel.terms.get(goal);
        let (mut low, mut high) = (0, most);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut search = self.search(kernel, None, None).at_most(TRIAL_STEPS);
            if search.shows_at_most(exact, middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        high
    }

    /// What an obligation that was not shown means for the plan.
    fn give_up(&mut self, kernel: &mut Kernel<'_>, obligation: &Obligation) -> Stop {
        let instr = obligation.instr;
        match obligation.duty {
            Duty::InvariantHolds | Duty::InvariantKept => {
                if self.drop_invariants(kernel, obligation) {
                    return Stop::Again;
                }
            }
            Duty::VariantBounded | Duty::VariantPositive | Duty::VariantFalls => {
                if let Some(variants) = self.plan.loops.get_mut(&instr).and_then(|said| said.variants.as_mut())
                    && !variants.is_empty()
                {
                    variants.remove(0);
                    self.plan.changed(instr);
                    return Stop::Again;
                }
            }
            Duty::Dead => {
                self.plan.branches.insert(instr, BranchNote::Live);
                self.plan.proofs.clear();
                return Stop::Again;
            }
            Duty::Cost => {
                self.plan.proofs.clear();
                *self.claim(instr) = Claim::None;
                return Stop::Again;
            }
            Duty::Event(..) => {}
        }
        self.stuck(kernel, obligation)
    }

    /// What is claimed that the block of this loop costs, or the program where there is no such loop.
    fn claim(&mut self, instr: usize) -> &mut Claim {
        match self.plan.loops.get_mut(&instr) {
            Some(said) if said.cost != Claim::None => &mut said.cost,
            _ => &mut self.plan.cost,
        }
    }
}

impl Guide for Maker<'_, '_> {
    type Fault = Stop;

    fn program(&mut self, _: &mut Kernel<'_>) -> Result<Option<u64>, Stop> {
        let claim = self.plan.cost.value();
        self.out.byte(if claim.is_some() { note::COST } else { note::NONE });
        if let Some(claim) = claim {
            claim.write(&mut self.out);
        }
        Ok(claim)
    }

    fn branch(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> Result<BranchNote, Stop> {
        if self.plan.dead
            && !self.plan.branches.contains_key(&site.instr)
            && let Some(holds) = site.cond
        {
            let mut never = |cond: Id| {
                let Ok(goal) = kernel.terms.node(Op::False, 0, 0) else { return false };
                self.search(kernel, None, Some(cond)).at_most(TRIAL_STEPS).proof(goal).is_some()
            };
            let mut found = BranchNote::Live;
            if never(holds) {
                found = BranchNote::ThenDead;
            } else if let Ok(fails) = kernel.terms.node(Op::Not, holds, 0)
                && {
                    let goal = kernel.terms.node(Op::False, 0, 0);
                    goal.is_ok_and(|goal| {
                        self.search(kernel, None, Some(fails)).at_most(TRIAL_STEPS).proof(goal).is_some()
                    })
                }
            {
                found = BranchNote::ElseDead;
            }
            self.plan.branches.insert(site.instr, found);
        }
        let said = self.plan.branches.get(&site.instr).copied().unwrap_or(BranchNote::Live);
        self.out.byte(match said {
            BranchNote::Live => note::LIVE,
            BranchNote::ThenDead => note::THEN_DEAD,
            BranchNote::ElseDead => note::ELSE_DEAD,
        });
        Ok(said)
    }

    fn turn(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> Result<LoopNote, Stop> {
        let instr = site.instr;
        self.plan.before.insert(instr, self.shown.len());
        let mut said = self.plan.loops.get(&instr).cloned().unwrap_or_default();
        let look = candidates::Place::of(self.task.program, instr, site.slots);
        if self.plan.invariants_to.is_some_and(|to| instr <= to) && said.invariants.is_none() {
            let mut search = self.search(kernel, None, None);
            let mut all = candidates::invariants(&look, self.task.owner, self.task.hints, &mut search);
            all.retain(|invariant| self.formula(kernel, invariant).is_some());
            said.invariants = Some(all);
        }
        if self.plan.variants && said.variants.is_none() {
            said.variants = Some(candidates::variants(&look, self.task.hints));
        }
        let mut found = LoopNote::default();
        for invariant in said.invariants.iter().flatten() {
            // Those that cannot be said were dropped when they were found.
            let Some(formula) = self.formula(kernel, invariant) else { continue };
            found.invariant = match found.invariant {
                None => Some(formula),
                Some(all) => kernel.terms.node(Op::And, all, formula).ok(),
            };
        }
        while let Some(expr) = said.variants.as_ref().and_then(|all| all.first().cloned()) {
            found.variant = self.variant(kernel, site, &expr, look.turns_max());
            if found.variant.is_some() {
                break;
            }
            if let Some(variants) = said.variants.as_mut() {
                variants.remove(0);
            }
        }
        found.cost = said.cost.value();
        self.plan.loops.insert(instr, said);
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        let bits = bit(found.invariant.is_some(), note::INVARIANT)
            | bit(found.variant.is_some(), note::VARIANT)
            | bit(found.cost.is_some(), note::COST);
        self.out.byte(bits);
        if let Some(invariant) = found.invariant {
            crate::write::term(&kernel.terms, invariant, &mut self.out);
        }
        if let Some((variant, most)) = found.variant {
            crate::write::term(&kernel.terms, variant, &mut self.out);
            most.write(&mut self.out);
        }
        if let Some(cost) = found.cost {
            cost.write(&mut self.out);
        }
        Ok(found)
    }

    fn show(&mut self, kernel: &mut Kernel<'_>, _: &Site<'_>, obligation: &Obligation) -> Result<(), Stop> {
        self.place = (obligation.instr, obligation.duty);
        let number = self.shown.len();
        if self.plan.proofs.get(number).is_none() {
            if obligation.duty == Duty::Cost
                && let Claim::Loose(most) = *self.claim(obligation.instr)
            {
                let least = self.least(kernel, obligation.goal, most);
                *self.claim(obligation.instr) = Claim::Tight(least);
                self.plan.proofs.clear();
                return Err(Stop::Again);
            }
            let written = self.written(kernel, obligation.member, obligation.goal, self.steps_max);
            let Some(written) = written else { return Err(self.give_up(kernel, obligation)) };
            self.plan.proofs.truncate(number);
            self.plan.proofs.push(written);
        }
        let bytes = self.plan.proofs[number].clone();
        let mut steps = Steps::new(Reader::new(&bytes, usize::MAX, usize::MAX));
        if steps.show(kernel, obligation.member, obligation.goal).is_err() {
            self.plan.proofs.truncate(number);
            return Err(self.give_up(kernel, obligation));
        }
        self.out.bytes(&bytes);
        self.shown.push((obligation.member, obligation.goal));
        Ok(())
    }
}

impl Maker<'_, '_> {
    fn formula(&self, kernel: &mut Kernel<'_>, invariant: &Invariant) -> Option<Id> {
        formula::invariant(&mut kernel.terms, self.task.owner, self.task.policy, invariant)
    }

    /// A variant and the most that it can be where the loop is reached, if that is lower than what the loop says.
    fn variant(&self, kernel: &mut Kernel<'_>, site: &Site<'_>, expr: &Expr, max: u32) -> Option<(Id, u32)> {
        let variant = formula::expr(&mut kernel.terms, expr)?;
        let held = |slot: u32| site.slots.get(slot as usize).copied().flatten();
        let value = kernel.terms.fill(variant, &held).ok()?;
        let (_, most) = self.search(kernel, None, None).range(value);
        let most = u32::try_from(most?.max(0)).ok()?;
        (most < max).then_some((variant, most))
    }
}

/// The loops of a program, by number, each with the numbers and conditions of those around it.
pub(crate) fn loops(program: &Program) -> BTreeMap<usize, (&Instr, Vec<usize>)> {
    fn walk<'p>(
        block: &'p [Instr],
        mut number: usize,
        around: &[usize],
        all: &mut BTreeMap<usize, (&'p Instr, Vec<usize>)>,
    ) {
        for instr in block {
            let mut inner = around.to_vec();
            if matches!(instr, Instr::While { .. } | Instr::Foreach { .. }) {
                all.insert(number, (instr, around.to_vec()));
                inner.push(number);
            }
            let mut first = number + 1;
            for block in instr.blocks() {
                walk(block, first, &inner, all);
                first += block.iter().map(Instr::count).sum::<usize>();
            }
            number += instr.count();
        }
    }
    let mut all = BTreeMap::new();
    walk(program.body(), 0, &[], &mut all);
    all
}

/// The parts of a condition that hold where it does.
pub(crate) fn conjuncts(cond: &Cond) -> Vec<&Cond> {
    match cond {
        Cond::And { a, b } => conjuncts(a).into_iter().chain(conjuncts(b)).collect(),
        _ => vec![cond],
    }
}

/// The slots that a block assigns.
pub(crate) fn assigned(block: &[Instr]) -> BTreeSet<u8> {
    let mut slots = BTreeSet::new();
    for instr in block {
        slots.extend(instr.targets());
        instr.blocks().for_each(|block| slots.extend(assigned(block)));
    }
    slots
}
