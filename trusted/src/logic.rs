//! The calculus: the rules that make theorems, and nothing else does.
//!
//! A [`Theorem`] is a sequent, "from these assumptions follows this conclusion". Its fields are private, and only the
//! rules in this file write them. What is given with an obligation (the path to a place of a program, and that a packet
//! is in a set) may be used in its proof without being counted as an assumption. The rules are those of natural
//! deduction for classical first-order logic with equality; the definitions of [`crate::theory`]; what a program's own
//! instructions say of the values that they make; arithmetic; induction; and lemmas. There is no rule by which a
//! certificate could add an axiom. `docs/PROOF.md` lists them with their encoding.
//!
//! A theorem means something only to the kernel that made it. The checker has one kernel, and lets no theorem out.

use crate::addr::{Addr, PrefixSet};
use crate::lemma::LemmaStore;
use crate::term::{Id, Node, Op, SetValue, Sort, THE_PACKET, TermFault, Terms, sort};
use crate::theory;
use alloc::vec::Vec;

/// The most assumptions that can be open at once.
pub const ASSUMPTIONS_MAX: usize = 64;

/// From the assumptions with these numbers, and what is given, follows the conclusion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Theorem {
    assumptions: u64,
    conclusion: Id,
}

impl Theorem {
    /// The conclusion: a closed formula.
    #[must_use]
    pub const fn conclusion(self) -> Id {
        self.conclusion
    }
    /// The open assumptions: bit i stands for the i-th that the proof assumed.
    #[must_use]
    pub const fn assumptions(self) -> u64 {
        self.assumptions
    }
}

/// Why a step does not follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The rule needs theorems, formulas or terms of another form than it was given.
    WrongForm,
    /// There is no such term or formula, or the proof works too much.
    Term(TermFault),
    /// No assumption has this number.
    NoSuchAssumption,
    /// More than [`ASSUMPTIONS_MAX`] assumptions.
    TooManyAssumptions,
    /// The program says nothing about this constant.
    NoFact,
    /// The constant is not one that the proof picked, or it is in an assumption that is still open.
    NotArbitrary,
    /// No obligation with this number has been shown on the way to here.
    NotShown,
    /// The first set is not within the second.
    NotWithin,
    /// The two sets have a member in common.
    NotApart,
    /// The inequalities do not contradict each other.
    NoContradiction,
    /// An integer leaves its range.
    Overflow,
    /// No lemma has this number.
    NoSuchLemma,
    /// The lemma's premises are others.
    LemmaDoesNotMatch,
}

impl From<TermFault> for Fault {
    fn from(fault: TermFault) -> Self {
        Fault::Term(fault)
    }
}

/// What was shown, for [`Kernel::cite`].
#[derive(Clone, Copy)]
struct Shown {
    /// The last piece of the path to it; 0 where there is none.
    place: u32,
    /// "The packet is in this set", where it is about a packet.
    member: Option<Id>,
    goal: Id,
}

/// The rules, over what is known of one program: the only maker of theorems.
pub struct Kernel<'l> {
    /// The terms and formulas.
    pub terms: Terms,
    lemmas: &'l LemmaStore,
    /// What is known where the program has come to here. Each piece has a number of its own, so that what was shown
    /// where one was known can be told from what was not.
    path: Vec<(Id, u32)>,
    pieces: u32,
    member: Option<Id>,
    assumed: Vec<Id>,
    /// Constants from this number on are the proof's own: nothing that is given speaks of them.
    own: u32,
    shown: Vec<Shown>,
}

impl<'l> Kernel<'l> {
    /// Starts with nothing known.
    #[must_use]
    pub fn new(terms: Terms, lemmas: &'l LemmaStore) -> Self {
        Kernel {
            terms,
            lemmas,
            path: Vec::new(),
            pieces: 0,
            member: None,
            assumed: Vec::new(),
            own: 0,
            shown: Vec::new(),
        }
    }
    /// How long the path is.
    #[must_use]
    pub const fn path_len(&self) -> usize {
        self.path.len()
    }
    /// What is known here, in the order in which it came to be known.
    pub fn path(&self) -> impl Iterator<Item = Id> {
        self.path.iter().map(|(fact, _)| *fact)
    }
    /// Puts `fact` on the path: the obligations from here on are shown for runs on which it holds.
    pub(crate) fn know(&mut self, fact: Id) {
        self.pieces += 1;
        self.path.push((fact, self.pieces));
    }
    /// Goes back to a path of this length.
    pub(crate) fn forget(&mut self, len: usize) {
        self.path.truncate(len);
    }
    /// Starts the proof of an obligation, about a packet of which `member` says in which set it is, or about none.
    pub fn begin(&mut self, member: Option<Id>) {
        self.member = member;
        self.assumed.clear();
        self.own = self.terms.constants.len() as u32;
    }
    /// Ends the proof of an obligation: whether `theorem` shows `goal` from what was given alone. Then it can be cited.
    pub fn finish(&mut self, theorem: Theorem, goal: Id) -> bool {
        let shows = theorem.conclusion == goal && theorem.assumptions == 0;
        if shows {
            let place = self.path.last().map_or(0, |(_, piece)| *piece);
            self.shown.push(Shown { place, member: self.member, goal });
        }
        shows
    }

    fn follows(&mut self, assumptions: u64, op: Op, a: u32, b: u32) -> Result<Theorem, Fault> {
        Ok(Theorem { assumptions, conclusion: self.terms.node(op, a, b)? })
    }

    fn parts(&self, theorem: Theorem, op: Op) -> Result<[u32; 2], Fault> {
        let node = self.terms.get(theorem.conclusion);
        if node.op == op { Ok([node.args[0], node.args[1]]) } else { Err(Fault::WrongForm) }
    }

    fn formula(&self, id: Id) -> Result<Id, Fault> {
        if self.terms.sort(id) == sort::BOOL && self.terms.is_closed(id) { Ok(id) } else { Err(Fault::WrongForm) }
    }

    // ---- What is given and what is assumed ----

    /// Claim: what is given follows, and so does an assumption, from itself. Number 0 says that the packet is in the
    /// obligation's set; then comes the path; then what the proof assumed.
    pub fn claim(&self, number: usize) -> Result<Theorem, Fault> {
        let given = 1 + self.path.len();
        let (assumptions, conclusion) = match number {
            0 => (0, self.member),
            _ if number < given => (0, Some(self.path[number - 1].0)),
            _ => (1u64.checked_shl((number - given) as u32).unwrap_or(0), self.assumed.get(number - given).copied()),
        };
        Ok(Theorem { assumptions, conclusion: conclusion.ok_or(Fault::NoSuchAssumption)? })
    }
    /// Assume: a new assumption, which can be claimed from here on. Its number is the count of those before it.
    pub fn assume(&mut self, formula: Id) -> Result<(), Fault> {
        if self.assumed.len() == ASSUMPTIONS_MAX {
            return Err(Fault::TooManyAssumptions);
        }
        let formula = self.formula(formula)?;
        self.assumed.push(formula);
        Ok(())
    }
    /// Discharge: from "A, rest ⊢ B" follows "rest ⊢ A → B", where A is an assumption of the proof's own.
    pub fn discharge(&mut self, number: usize, theorem: Theorem) -> Result<Theorem, Fault> {
        let number = number.checked_sub(1 + self.path.len()).ok_or(Fault::NoSuchAssumption)?;
        let assumption = *self.assumed.get(number).ok_or(Fault::NoSuchAssumption)?;
        self.follows(theorem.assumptions & !(1 << number), Op::Implies, assumption, theorem.conclusion)
    }
    /// Cite: what an earlier obligation showed. Where it was about the packets of a set, of the packet that `premise`
    /// says to be in that set. All that was known there has to be known here.
    pub fn cite(&mut self, number: usize, premise: Option<Theorem>) -> Result<Theorem, Fault> {
        let shown = *self.shown.get(number).ok_or(Fault::NotShown)?;
        self.terms.work(1 + self.path.len())?;
        if shown.place != 0 && !self.path.iter().any(|(_, piece)| *piece == shown.place) {
            return Err(Fault::NotShown);
        }
        match (shown.member, premise) {
            (None, None) => Ok(Theorem { assumptions: 0, conclusion: shown.goal }),
            (Some(member), Some(premise)) => {
                let [packet, set] = self.parts(premise, Op::In)?;
                if self.terms.get(member).args[1] != set {
                    return Err(Fault::WrongForm);
                }
                Ok(Theorem { conclusion: self.of_packet(shown.goal, packet)?, ..premise })
            }
            _ => Err(Fault::WrongForm),
        }
    }
    /// Whether the obligation with this number was about packets of a set.
    #[must_use]
    pub fn is_about_packets(&self, number: usize) -> bool {
        self.shown.get(number).is_some_and(|shown| shown.member.is_some())
    }

    // ---- Propositions ----

    /// Modus ponens: from A → B and A follows B.
    pub fn modus_ponens(&self, implication: Theorem, premise: Theorem) -> Result<Theorem, Fault> {
        let [a, b] = self.parts(implication, Op::Implies)?;
        if a != premise.conclusion {
            return Err(Fault::WrongForm);
        }
        Ok(Theorem { assumptions: implication.assumptions | premise.assumptions, conclusion: b })
    }
    /// Both: from A and B follows A ∧ B.
    pub fn both(&mut self, a: Theorem, b: Theorem) -> Result<Theorem, Fault> {
        self.follows(a.assumptions | b.assumptions, Op::And, a.conclusion, b.conclusion)
    }
    /// Left: from A ∧ B follows A.
    pub fn left(&self, theorem: Theorem) -> Result<Theorem, Fault> {
        Ok(Theorem { conclusion: self.parts(theorem, Op::And)?[0], ..theorem })
    }
    /// Right: from A ∧ B follows B.
    pub fn right(&self, theorem: Theorem) -> Result<Theorem, Fault> {
        Ok(Theorem { conclusion: self.parts(theorem, Op::And)?[1], ..theorem })
    }
    /// Either, shown on the left: from A follows A ∨ B.
    pub fn either_left(&mut self, theorem: Theorem, other: Id) -> Result<Theorem, Fault> {
        let other = self.formula(other)?;
        self.follows(theorem.assumptions, Op::Or, theorem.conclusion, other)
    }
    /// Either, shown on the right: from B follows A ∨ B.
    pub fn either_right(&mut self, other: Id, theorem: Theorem) -> Result<Theorem, Fault> {
        let other = self.formula(other)?;
        self.follows(theorem.assumptions, Op::Or, other, theorem.conclusion)
    }
    /// Cases: from A ∨ B, A → C and B → C follows C.
    pub fn cases(&self, either: Theorem, first: Theorem, second: Theorem) -> Result<Theorem, Fault> {
        let [a, b] = self.parts(either, Op::Or)?;
        let ([a1, c1], [b1, c2]) = (self.parts(first, Op::Implies)?, self.parts(second, Op::Implies)?);
        if a != a1 || b != b1 || c1 != c2 {
            return Err(Fault::WrongForm);
        }
        let assumptions = either.assumptions | first.assumptions | second.assumptions;
        Ok(Theorem { assumptions, conclusion: c1 })
    }
    /// Absurd: from A and ¬A follows False.
    pub fn absurd(&mut self, theorem: Theorem, denial: Theorem) -> Result<Theorem, Fault> {
        if self.parts(denial, Op::Not)?[0] != theorem.conclusion {
            return Err(Fault::WrongForm);
        }
        self.follows(theorem.assumptions | denial.assumptions, Op::False, 0, 0)
    }
    /// Negate: from A → False follows ¬A.
    pub fn negate(&mut self, theorem: Theorem) -> Result<Theorem, Fault> {
        let [a, no] = self.parts(theorem, Op::Implies)?;
        if self.terms.get(no).op != Op::False {
            return Err(Fault::WrongForm);
        }
        self.follows(theorem.assumptions, Op::Not, a, 0)
    }
    /// Double negation: from ¬¬A follows A.
    pub fn double_negation(&self, theorem: Theorem) -> Result<Theorem, Fault> {
        let inner = Theorem { conclusion: self.parts(theorem, Op::Not)?[0], ..theorem };
        Ok(Theorem { conclusion: self.parts(inner, Op::Not)?[0], ..theorem })
    }
    /// Truth: True follows from nothing.
    pub fn truth(&mut self) -> Result<Theorem, Fault> {
        self.follows(0, Op::True, 0, 0)
    }
    /// Equivalence: from A → B and B → A follows A ↔ B.
    pub fn equivalence(&mut self, there: Theorem, back: Theorem) -> Result<Theorem, Fault> {
        let ([a, b], [b1, a1]) = (self.parts(there, Op::Implies)?, self.parts(back, Op::Implies)?);
        if a != a1 || b != b1 {
            return Err(Fault::WrongForm);
        }
        self.follows(there.assumptions | back.assumptions, Op::Iff, a, b)
    }
    /// There: from A ↔ B follows A → B.
    pub fn there(&mut self, theorem: Theorem) -> Result<Theorem, Fault> {
        let [a, b] = self.parts(theorem, Op::Iff)?;
        self.follows(theorem.assumptions, Op::Implies, a, b)
    }
    /// Back: from A ↔ B follows B → A.
    pub fn back(&mut self, theorem: Theorem) -> Result<Theorem, Fault> {
        let [a, b] = self.parts(theorem, Op::Iff)?;
        self.follows(theorem.assumptions, Op::Implies, b, a)
    }

    // ---- Quantifiers ----

    /// Pick: a new constant, arbitrary in the proof from here on.
    pub fn pick(&mut self, sort: Sort) -> Result<Id, Fault> {
        if sort == sort::BOOL || sort > sort::LAST {
            return Err(Fault::WrongForm);
        }
        Ok(self.terms.fresh(sort)?)
    }
    /// Specialise: from ∀x φ follows φ with a term in the place of x.
    pub fn specialise(&mut self, theorem: Theorem, term: Id) -> Result<Theorem, Fault> {
        let [sort, body] = self.parts(theorem, Op::Forall)?;
        if u32::from(self.terms.sort(term)) != sort || !self.terms.is_closed(term) {
            return Err(Fault::WrongForm);
        }
        Ok(Theorem { conclusion: self.terms.open(body, term)?, ..theorem })
    }
    /// Generalise: from φ follows ∀x φ with x in the place of a constant that the proof picked, and that no open
    /// assumption speaks of.
    pub fn generalise(&mut self, theorem: Theorem, constant: u32) -> Result<Theorem, Fault> {
        let speaks =
            |(i, formula): (usize, &Id)| theorem.assumptions >> i & 1 != 0 && !self.terms.is_below(*formula, constant);
        let is_own = constant >= self.own && (constant as usize) < self.terms.constants.len();
        if !is_own || self.assumed.iter().enumerate().any(speaks) {
            return Err(Fault::NotArbitrary);
        }
        let sort = self.terms.constants[constant as usize].sort;
        let body = self.terms.close(theorem.conclusion, constant)?;
        self.follows(theorem.assumptions, Op::Forall, u32::from(sort), body)
    }
    /// Exists: from φ with a term in the place of x follows `formula`, which is ∃x φ.
    pub fn exists(&mut self, theorem: Theorem, formula: Id, term: Id) -> Result<Theorem, Fault> {
        let Node { op: Op::Exists, args } = self.terms.get(self.formula(formula)?) else {
            return Err(Fault::WrongForm);
        };
        if u32::from(self.terms.sort(term)) != args[0] || !self.terms.is_closed(term) {
            return Err(Fault::WrongForm);
        }
        if self.terms.open(args[1], term)? != theorem.conclusion {
            return Err(Fault::WrongForm);
        }
        Ok(Theorem { conclusion: formula, ..theorem })
    }
    /// Witness: from ∃x φ and ∀x (φ → ψ), where ψ does not speak of x, follows ψ.
    pub fn witness(&self, exists: Theorem, all: Theorem) -> Result<Theorem, Fault> {
        let ([sort, body], [sort1, implies]) = (self.parts(exists, Op::Exists)?, self.parts(all, Op::Forall)?);
        let Node { op: Op::Implies, args } = self.terms.get(implies) else { return Err(Fault::WrongForm) };
        if sort != sort1 || args[0] != body || !self.terms.is_closed(args[1]) {
            return Err(Fault::WrongForm);
        }
        Ok(Theorem { assumptions: exists.assumptions | all.assumptions, conclusion: args[1] })
    }
    /// Naturals: from φ(0) and ∀n (0 ≤ n → (φ(n) → φ(n + 1))) follows `formula`, which is ∀n (0 ≤ n → φ(n)).
    pub fn naturals(&mut self, start: Theorem, step: Theorem, formula: Id) -> Result<Theorem, Fault> {
        let body = self.bound(formula, sort::INT)?;
        let Node { op: Op::Implies, args: [least, phi, ..] } = self.terms.get(body) else {
            return Err(Fault::WrongForm);
        };
        let t = &mut self.terms;
        let (zero, one, n) = (t.int(0)?, t.int(1)?, t.node(Op::Var, 0, u32::from(sort::INT))?);
        if t.node(Op::Le, zero, n)? != least || t.open(phi, zero)? != start.conclusion {
            return Err(Fault::WrongForm);
        }
        let of_next = t.open_with(phi, &mut |t, depth| {
            let n = t.node(Op::Var, u32::from(depth), u32::from(sort::INT))?;
            t.node(Op::Add, n, one)
        })?;
        self.induction(start, step, formula, &[sort::INT], &[least, phi, of_next])
    }
    /// Lists: from φ(nil) and ∀x ∀l (φ(l) → φ(cons(x, l))) follows `formula`, which is ∀l φ(l).
    pub fn lists(&mut self, start: Theorem, step: Theorem, formula: Id) -> Result<Theorem, Fault> {
        let phi = self.bound(formula, sort::LIST)?;
        let t = &mut self.terms;
        let nil = t.node(Op::Nil, 0, 0)?;
        if t.open(phi, nil)? != start.conclusion {
            return Err(Fault::WrongForm);
        }
        let of_longer = t.open_with(phi, &mut |t, depth| {
            let list = t.node(Op::Var, u32::from(depth), u32::from(sort::LIST))?;
            let head = t.node(Op::Var, u32::from(depth) + 1, u32::from(sort::PACKET))?;
            t.node(Op::Cons, head, list)
        })?;
        self.induction(start, step, formula, &[sort::PACKET, sort::LIST], &[phi, of_longer])
    }
    /// Whether `step` is ∀… (parts[0] → (parts[1] → …)); then `formula` follows.
    fn induction(
        &mut self,
        start: Theorem,
        step: Theorem,
        formula: Id,
        sorts: &[Sort],
        parts: &[Id],
    ) -> Result<Theorem, Fault> {
        let [premises @ .., last] = parts else { return Err(Fault::WrongForm) };
        let mut expected = *last;
        for premise in premises.iter().rev() {
            expected = self.terms.node(Op::Implies, *premise, expected)?;
        }
        for sort in sorts.iter().rev() {
            expected = self.terms.node(Op::Forall, u32::from(*sort), expected)?;
        }
        if step.conclusion != expected {
            return Err(Fault::WrongForm);
        }
        Ok(Theorem { assumptions: start.assumptions | step.assumptions, conclusion: formula })
    }
    /// The body of `formula`, a closed ∀ over `sort`.
    fn bound(&self, formula: Id, sort: Sort) -> Result<Id, Fault> {
        match self.terms.get(self.formula(formula)?) {
            Node { op: Op::Forall, args } if args[0] == u32::from(sort) => Ok(args[1]),
            _ => Err(Fault::WrongForm),
        }
    }

    // ---- Equality ----

    /// Reflexivity: a = a.
    pub fn reflexivity(&mut self, term: Id) -> Result<Theorem, Fault> {
        if !self.terms.is_closed(term) {
            return Err(Fault::WrongForm);
        }
        self.follows(0, Op::Eq, term, term)
    }
    /// Symmetry: from a = b follows b = a.
    pub fn symmetry(&mut self, theorem: Theorem) -> Result<Theorem, Fault> {
        let [a, b] = self.parts(theorem, Op::Eq)?;
        self.follows(theorem.assumptions, Op::Eq, b, a)
    }
    /// Transitivity: from a = b and b = c follows a = c.
    pub fn transitivity(&mut self, first: Theorem, second: Theorem) -> Result<Theorem, Fault> {
        let ([a, b], [b1, c]) = (self.parts(first, Op::Eq)?, self.parts(second, Op::Eq)?);
        if b != b1 {
            return Err(Fault::WrongForm);
        }
        self.follows(first.assumptions | second.assumptions, Op::Eq, a, c)
    }
    /// Congruence: from a = b and φ follows φ with b in the place of a everywhere.
    pub fn congruence(&mut self, same: Theorem, theorem: Theorem) -> Result<Theorem, Fault> {
        let [a, b] = self.parts(same, Op::Eq)?;
        let conclusion = self.terms.replace(theorem.conclusion, a, b)?;
        Ok(Theorem { assumptions: same.assumptions | theorem.assumptions, conclusion })
    }

    // ---- The program and the theory ----

    /// Unfold: from "x is in this set" follows what the instruction that made the set, or its definition, says of x.
    pub fn unfold(&mut self, theorem: Theorem) -> Result<Theorem, Fault> {
        let [packet, set] = self.parts(theorem, Op::In)?;
        let conclusion = self.fact_of(set, packet)?;
        Ok(Theorem { conclusion, ..theorem })
    }
    /// Fold: from what the instruction that made `set`, or its definition, says of its members, said of x, follows that x is
    /// in it.
    pub fn fold(&mut self, theorem: Theorem, packet: Id, set: Id) -> Result<Theorem, Fault> {
        if !self.terms.is_closed(packet) || self.fact_of(set, packet)? != theorem.conclusion {
            return Err(Fault::WrongForm);
        }
        self.follows(theorem.assumptions, Op::In, packet, set)
    }
    /// What it is to be in a set of packets that an instruction made, or in a set that has a definition.
    fn fact_of(&mut self, set: Id, member: Id) -> Result<Id, Fault> {
        let Node { op: Op::Const, args } = self.terms.get(set) else {
            let is_in = self.terms.node(Op::In, member, set)?;
            return theory::definition(&mut self.terms, is_in)?.ok_or(Fault::NoFact);
        };
        let constant = self.terms.constants[args[0] as usize];
        if constant.sort != sort::PACKETS || self.terms.sort(member) != sort::PACKET {
            return Err(Fault::WrongForm);
        }
        self.of_packet(constant.fact.ok_or(Fault::NoFact)?, member)
    }
    /// What `formula` says of the arbitrary packet, said of `packet`.
    fn of_packet(&mut self, formula: Id, packet: Id) -> Result<Id, Fault> {
        if packet == THE_PACKET { Ok(formula) } else { Ok(self.terms.replace(formula, THE_PACKET, packet)?) }
    }
    /// Fact: what the program says of an integer, address or answer.
    pub fn fact(&self, number: u32) -> Result<Theorem, Fault> {
        match self.terms.constants.get(number as usize) {
            Some(constant) if constant.sort != sort::PACKETS => {
                Ok(Theorem { assumptions: 0, conclusion: constant.fact.ok_or(Fault::NoFact)? })
            }
            _ => Err(Fault::NoFact),
        }
    }
    /// Define: a formula is equivalent, or a term equal, to its definition.
    pub fn define(&mut self, defined: Id) -> Result<Theorem, Fault> {
        if !self.terms.is_closed(defined) {
            return Err(Fault::WrongForm);
        }
        let definition = theory::definition(&mut self.terms, defined)?.ok_or(Fault::WrongForm)?;
        let op = if self.terms.sort(defined) == sort::BOOL { Op::Iff } else { Op::Eq };
        self.follows(0, op, defined, definition)
    }
    /// Lemma: what the lemma with this number concludes from such premises, with `more` for what they leave open.
    pub fn lemma(&mut self, number: usize, premises: &[Theorem], more: &[Id]) -> Result<Theorem, Fault> {
        let conclusions: Vec<Id> = premises.iter().map(|p| p.conclusion).collect();
        let conclusion = self.lemmas.apply(number, &conclusions, more, &mut self.terms)?;
        Ok(Theorem { assumptions: premises.iter().fold(0, |all, p| all | p.assumptions), conclusion })
    }
    /// The lemmas that can be used.
    #[must_use]
    pub const fn lemmas(&self) -> &'l LemmaStore {
        self.lemmas
    }

    // ---- Sets that are written out, and numbers ----

    /// Evaluate: a ground formula or its denial, whichever is true.
    pub fn evaluate(&mut self, formula: Id) -> Result<Theorem, Fault> {
        let formula = self.formula(formula)?;
        if theory::truth(&mut self.terms, formula)? {
            Ok(Theorem { assumptions: 0, conclusion: formula })
        } else {
            self.follows(0, Op::Not, formula, 0)
        }
    }
    /// Widen: from t ∈ S follows t ∈ T, where S is within T.
    pub fn widen(&mut self, theorem: Theorem, wider: Id) -> Result<Theorem, Fault> {
        let [member, narrow] = self.parts(theorem, Op::In)?;
        let within = match self.two_sets(narrow, wider)? {
            (SetValue::Addrs(s), SetValue::Addrs(t)) => t.includes(s),
            (SetValue::Numbers(s), SetValue::Numbers(t)) => t.includes(s),
            _ => false,
        };
        if !within {
            return Err(Fault::NotWithin);
        }
        self.follows(theorem.assumptions, Op::In, member, wider)
    }
    /// Apart: from t ∈ S and t ∈ T follows False, where S and T have no member in common.
    pub fn apart(&mut self, a: Theorem, b: Theorem) -> Result<Theorem, Fault> {
        let ([member, first], [member1, second]) = (self.parts(a, Op::In)?, self.parts(b, Op::In)?);
        let apart = match self.two_sets(first, second)? {
            (SetValue::Addrs(s), SetValue::Addrs(t)) => s.disjoint(t),
            (SetValue::Numbers(s), SetValue::Numbers(t)) => s.disjoint(t),
            _ => false,
        };
        if member != member1 || !apart {
            return Err(Fault::NotApart);
        }
        self.follows(a.assumptions | b.assumptions, Op::False, 0, 0)
    }
    /// Split: from t ∈ S follows t ∈ T ∨ t ∈ U, where S, a set of addresses, is within T and U together.
    pub fn split(&mut self, theorem: Theorem, first: Id, second: Id) -> Result<Theorem, Fault> {
        let [member, set] = self.parts(theorem, Op::In)?;
        let (SetValue::Addrs(_), SetValue::Addrs(t)) = self.two_sets(set, first)? else { return Err(Fault::WrongForm) };
        let mut together = t.prefixes().to_vec();
        let (SetValue::Addrs(s), SetValue::Addrs(u)) = self.two_sets(set, second)? else {
            return Err(Fault::WrongForm);
        };
        together.extend(u.prefixes());
        let sorted = together.len();
        let within = PrefixSet::new(together).includes(s);
        // Sorting takes longer than looking. What is sorted before this is counted is no more than what was counted.
        self.terms.work(4 * sorted)?;
        if !within {
            return Err(Fault::NotWithin);
        }
        let (a, b) = (self.terms.node(Op::In, member, first)?, self.terms.node(Op::In, member, second)?);
        self.follows(theorem.assumptions, Op::Or, a, b)
    }
    /// The values of two sets that are written out. Looking at them is work.
    fn two_sets(&mut self, a: Id, b: Id) -> Result<(&SetValue, &SetValue), Fault> {
        let size = |set: &SetValue| match set {
            SetValue::Addrs(set) => set.prefixes().len(),
            SetValue::Numbers(set) => set.ranges().len(),
        };
        let of = |terms: &Terms, id| terms.as_set(id).map(size).ok_or(Fault::WrongForm);
        let (m, n) = (of(&self.terms, a)?, of(&self.terms, b)?);
        let both_numbers = self.terms.sort(a) == sort::NUMBERS;
        self.terms.work(if both_numbers { 1 + m * n } else { 1 + m + n })?;
        self.terms.as_set(a).zip(self.terms.as_set(b)).ok_or(Fault::WrongForm)
    }
    /// Bounds: from n ∈ S, a set of integers, follows least ≤ n ∧ n ≤ greatest.
    pub fn bounds(&mut self, theorem: Theorem) -> Result<Theorem, Fault> {
        let [n, set] = self.parts(theorem, Op::In)?;
        let Some(SetValue::Numbers(set)) = self.terms.as_set(set) else { return Err(Fault::WrongForm) };
        let (Some(&(least, _)), Some(&(_, greatest))) = (set.ranges().first(), set.ranges().last()) else {
            return Err(Fault::WrongForm);
        };
        let (least, greatest) = (self.terms.int(i64::from(least))?, self.terms.int(i64::from(greatest))?);
        let (low, high) = (self.terms.node(Op::Le, least, n)?, self.terms.node(Op::Le, n, greatest)?);
        self.follows(theorem.assumptions, Op::And, low, high)
    }
    /// What two theorems say of one integer: literal ≤ n and n ≤ literal.
    fn between(&self, low: Theorem, high: Theorem) -> Result<(i64, Id, i64), Fault> {
        let ([least, n], [n1, greatest]) = (self.parts(low, Op::Le)?, self.parts(high, Op::Le)?);
        match (self.terms.as_int(least), self.terms.as_int(greatest)) {
            (Some(least), Some(greatest)) if n == n1 => Ok((least, n, greatest)),
            _ => Err(Fault::WrongForm),
        }
    }
    /// Enclose: from a ≤ n and n ≤ b follows n ∈ S, where all integers from a to b are in S.
    pub fn enclose(&mut self, low: Theorem, high: Theorem, set: Id) -> Result<Theorem, Fault> {
        let (least, n, greatest) = self.between(low, high)?;
        let Some(SetValue::Numbers(numbers)) = self.terms.as_set(set) else { return Err(Fault::WrongForm) };
        match (u32::try_from(least), u32::try_from(greatest)) {
            (Ok(least), Ok(greatest)) if least <= greatest && numbers.covers(least, greatest) => {
                self.follows(low.assumptions | high.assumptions, Op::In, n, set)
            }
            _ => Err(Fault::NotWithin),
        }
    }
    /// Offset: from a ≤ n and n ≤ b follows offset(x, n) ∈ S, where S has every address from x + a to x + b; x is written
    /// out, or `base` says in which set it is.
    pub fn offset(
        &mut self,
        low: Theorem,
        high: Theorem,
        base: Option<Theorem>,
        address: Id,
        set: Id,
    ) -> Result<Theorem, Fault> {
        let (least, n, greatest) = self.between(low, high)?;
        let Node { op: Op::Offset, args: [x, n1, ..] } = self.terms.get(address) else { return Err(Fault::WrongForm) };
        let size = |terms: &Terms, id| match terms.as_set(id) {
            Some(SetValue::Addrs(set)) => Ok(set.prefixes().len()),
            _ => Err(Fault::WrongForm),
        };
        let from = base.map(|base| self.parts(base, Op::In)).transpose()?;
        let looked_at = from.map_or(Ok(1), |[_, from]| size(&self.terms, from))?;
        let target = size(&self.terms, set)?;
        self.terms.work(looked_at.saturating_mul(1 + target))?;
        let Some(SetValue::Addrs(target)) = self.terms.as_set(set) else { return Err(Fault::WrongForm) };
        let reaches = |first: Addr, last: Addr| {
            let ends = first.offset(least).zip(last.offset(greatest));
            ends.is_some_and(|(first, last)| first <= last && target.covers_range(first, last))
        };
        let within = match (self.terms.get(x), from) {
            (Node { op: Op::Addr, args }, None) => {
                let x = self.terms.addrs[args[0] as usize];
                reaches(x, x)
            }
            (_, Some([y, from])) => {
                let Some(SetValue::Addrs(from)) = self.terms.as_set(from) else { return Err(Fault::WrongForm) };
                x == y && from.prefixes().iter().all(|p| reaches(p.addr(), p.last()))
            }
            _ => return Err(Fault::WrongForm),
        };
        let assumptions = low.assumptions | high.assumptions | base.map_or(0, |base| base.assumptions);
        if n != n1 || !within {
            return Err(Fault::NotWithin);
        }
        self.follows(assumptions, Op::In, address, set)
    }
    /// Linear: from inequalities and equations whose sum, each taken so many times, says 1 ≤ 0 follows False. Equations
    /// alone may be taken a negative number of times.
    pub fn linear(&mut self, theorems: &[(Theorem, i64)]) -> Result<Theorem, Fault> {
        let mut sum = theory::Linear::default();
        let mut assumptions = 0;
        for &(theorem, times) in theorems {
            let Node { op, args: [a, b, ..] } = self.terms.get(theorem.conclusion);
            let inner = if op == Op::Not { self.terms.get(a) } else { Node { op: Op::True, args: [0; 4] } };
            // Each says that left − right + more ≤ 0, an equation that it is 0.
            let (left, right, more) = match (op, inner) {
                (Op::Le, _) => (a, b, 0),
                (Op::Not, Node { op: Op::Le, args: [a, b, ..] }) => (b, a, 1),
                (Op::Eq, _) if self.terms.sort(a) == sort::INT => (a, b, 0),
                _ => return Err(Fault::WrongForm),
            };
            if times <= 0 && op != Op::Eq {
                return Err(Fault::WrongForm);
            }
            let times = i128::from(times);
            sum.add(&mut self.terms, left, times)?;
            sum.add(&mut self.terms, right, -times)?;
            sum.constant = sum.constant.checked_add(more * times).ok_or(Fault::Overflow)?;
            assumptions |= theorem.assumptions;
        }
        if !sum.is_positive_constant() {
            return Err(Fault::NoContradiction);
        }
        self.follows(assumptions, Op::False, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Prefix;
    use crate::packet::Ranges;
    use crate::proof::rule;

    /// A kernel with two constants that are formulas, and an obligation about a packet of a set.
    fn kernel(lemmas: &LemmaStore) -> (Kernel<'_>, [Id; 2], Id) {
        let mut terms = Terms::new(usize::MAX);
        let facts = [terms.fresh(sort::BOOL), terms.fresh(sort::BOOL)].map(|fact| fact.expect("room"));
        let set = terms.fresh(sort::PACKETS).expect("room");
        let member = terms.node(Op::In, THE_PACKET, set).expect("a packet and a set");
        (Kernel::new(terms, lemmas), facts, member)
    }

    #[test]
    fn claims_are_the_member_then_the_path_then_the_assumptions() {
        let lemmas = LemmaStore::default();
        let (mut k, [a, b], member) = kernel(&lemmas);
        k.know(a);
        k.know(b);
        assert_eq!(k.path_len(), 2);
        k.begin(Some(member));
        k.assume(a).expect("a formula");
        k.assume(b).expect("a formula");
        let said = |k: &Kernel<'_>, n| k.claim(n).map(|t| (t.conclusion, t.assumptions));
        let expected = [(member, 0), (a, 0), (b, 0), (a, 1), (b, 2)];
        for (number, expected) in expected.into_iter().enumerate() {
            assert_eq!(said(&k, number), Ok(expected));
        }
        assert_eq!(said(&k, 5), Err(Fault::NoSuchAssumption));
        assert_eq!(k.path().collect::<Vec<_>>(), [a, b]);
        // What is given is not discharged; what is assumed is, by the same numbers.
        let last = k.claim(4).expect("assumed");
        for number in 0..3 {
            assert_eq!(k.discharge(number, last), Err(Fault::NoSuchAssumption));
        }
        let implied = k.discharge(4, last).expect("assumed");
        assert_eq!((k.parts(implied, Op::Implies), implied.assumptions), (Ok([b, b]), 0));
        assert_eq!(k.discharge(3, last).map(|t| t.assumptions), Ok(2));
        k.forget(1);
        assert_eq!(k.path_len(), 1);
        assert_eq!(k.path().collect::<Vec<_>>(), [a]);
        k.begin(None);
        assert_eq!(said(&k, 0), Err(Fault::NoSuchAssumption));
    }

    #[test]
    fn what_was_shown_is_cited_where_its_path_is_known() {
        let lemmas = LemmaStore::default();
        let (mut k, [a, b], member) = kernel(&lemmas);
        let [packet, set] = [THE_PACKET, k.terms.get(member).args[1]];
        k.know(a);
        k.know(b);
        k.begin(None);
        let shown = k.claim(2).expect("on the path");
        assert!(k.finish(shown, b));
        k.begin(Some(member));
        let shown = k.claim(0).expect("the member");
        assert!(k.finish(shown, member));
        assert_eq!((k.is_about_packets(0), k.is_about_packets(1), k.is_about_packets(2)), (false, true, false));
        // Further on the same path.
        k.know(a);
        k.begin(None);
        assert_eq!(k.cite(0, None).map(|t| (t.conclusion, t.assumptions)), Ok((b, 0)));
        let other = k.pick(sort::PACKET).expect("a sort");
        let other_set = k.terms.fresh(sort::PACKETS).expect("room");
        let about_other = k.terms.node(Op::In, other, set).expect("a packet and a set");
        let elsewhere = k.terms.node(Op::In, packet, other_set).expect("a packet and a set");
        k.assume(about_other).expect("a formula");
        k.assume(elsewhere).expect("a formula");
        let (premise, wrong) = (k.claim(4).expect("assumed"), k.claim(5).expect("assumed"));
        assert_eq!(k.cite(1, Some(premise)).map(|t| (t.conclusion, t.assumptions)), Ok((about_other, 1)));
        assert_eq!(k.cite(1, Some(wrong)), Err(Fault::WrongForm), "it is about another set");
        assert_eq!(k.cite(1, None), Err(Fault::WrongForm));
        assert_eq!(k.cite(0, Some(premise)), Err(Fault::WrongForm));
        assert_eq!(k.cite(2, None), Err(Fault::NotShown));
        // Where a piece of it is gone, and also where the same comes to be known again: it may be of another turn.
        k.forget(1);
        assert_eq!(k.cite(0, None), Err(Fault::NotShown));
        k.know(b);
        assert_eq!(k.cite(0, None), Err(Fault::NotShown));
        k.forget(0);
        k.begin(None);
        assert_eq!(k.cite(0, None), Err(Fault::NotShown));
        let truth = k.truth().expect("room");
        assert!(k.finish(truth, truth.conclusion));
        k.know(a);
        assert_eq!(
            k.cite(2, None).map(|t| t.conclusion),
            Ok(truth.conclusion),
            "what was shown of nothing holds anywhere"
        );
        k.terms = Terms::new(1);
        assert_eq!(k.cite(2, None), Err(Fault::Term(TermFault::TooMuchWork)));
    }

    #[test]
    fn a_lemma_needs_what_its_premises_need() {
        // From p and q follows p and q together.
        let [bool, symbol, and] = [sort::BOOL, Op::Symbol as u8, Op::And as u8];
        let lemma = [2, 0, bool, 0, bool, 2, symbol, 0, symbol, 1, and, symbol, 0, symbol, 1];
        let mut store = LemmaStore::default();
        let proof = [rule::CLAIM, 1, rule::CLAIM, 2, rule::BOTH, rule::DONE];
        store.add(&lemma, &proof).expect("a lemma");
        let (mut k, [a, b], _) = kernel(&store);
        k.begin(None);
        k.assume(a).expect("a formula");
        k.assume(b).expect("a formula");
        let (a, b) = (k.claim(1).expect("assumed"), k.claim(2).expect("assumed"));
        let two = k.lemma(0, &[a, b], &[]).expect("they match");
        assert_eq!((k.parts(two, Op::And), two.assumptions), (Ok([a.conclusion, b.conclusion]), 3));
        assert_eq!(k.lemma(0, &[a, a], &[]).map(|t| t.assumptions), Ok(1), "what two premises share stays open");
        assert_eq!(k.lemma(0, &[two, b], &[]).map(|t| t.assumptions), Ok(3));
    }

    /// What a rule takes, where what it concludes is there already, beyond finding that again.
    fn spent(
        k: &mut Kernel<'_>,
        rule: &dyn Fn(&mut Kernel<'_>) -> Result<Theorem, Fault>,
        found: &dyn Fn(&mut Terms) -> Result<Id, TermFault>,
    ) -> usize {
        let conclusion = rule(k).expect("it follows").conclusion;
        let start = k.terms.left();
        rule(k).expect("it follows");
        let middle = k.terms.left();
        assert_eq!(found(&mut k.terms), Ok(conclusion));
        (start - middle) - (middle - k.terms.left())
    }

    #[test]
    fn looking_at_sets_is_work_by_their_sizes() {
        let lemmas = LemmaStore::default();
        let (mut k, ..) = kernel(&lemmas);
        k.begin(None);
        let addrs = |k: &mut Kernel<'_>, hosts: &[u32]| {
            let hosts = hosts.iter().map(|n| Prefix::host(Addr::V4(2 * n))).collect();
            k.terms.set(SetValue::Addrs(PrefixSet::new(hosts))).expect("room")
        };
        let (three, five) = (addrs(&mut k, &[1, 2, 3]), addrs(&mut k, &[1, 2, 3, 4, 5]));
        let (two, four) = (addrs(&mut k, &[1, 2]), addrs(&mut k, &[3, 4, 5, 6]));
        let (x, n) = (k.terms.fresh(sort::ADDR).expect("room"), k.terms.fresh(sort::INT).expect("room"));
        let numbers = |k: &mut Kernel<'_>, count: u32| {
            let ranges = Ranges::new((1..=count).map(|n| (3 * n, 3 * n)).collect()).expect("ranges");
            k.terms.set(SetValue::Numbers(ranges)).expect("room")
        };
        let (fewer, more) = (numbers(&mut k, 3), numbers(&mut k, 5));
        let zero = k.terms.int(0).expect("room");
        let formulas = [(Op::In, x, three), (Op::In, n, fewer), (Op::Le, zero, n), (Op::Le, n, zero)];
        for (op, a, b) in formulas {
            let formula = k.terms.node(op, a, b).expect("well-sorted");
            k.assume(formula).expect("a formula");
        }
        let [in_three, in_fewer, low, high] = [1, 2, 3, 4].map(|number| k.claim(number).expect("assumed"));
        let widened = spent(&mut k, &|k| k.widen(in_three, five), &|t| t.node(Op::In, x, five));
        assert_eq!(widened, 1 + 3 + 5);
        let widened = spent(&mut k, &|k| k.widen(in_fewer, more), &|t| t.node(Op::In, n, more));
        assert_eq!(widened, 1 + 3 * 5);
        let split = spent(&mut k, &|k| k.split(in_three, two, four), &|t| {
            let (a, b) = (t.node(Op::In, x, two)?, t.node(Op::In, x, four)?);
            t.node(Op::Or, a, b)
        });
        assert_eq!(split, (1 + 3 + 2) + (1 + 3 + 4) + 4 * (2 + 4));
        let counted = k.terms.node(Op::Offset, x, n).expect("an address");
        let reached =
            spent(&mut k, &|k| k.offset(low, high, Some(in_three), counted, five), &|t| t.node(Op::In, counted, five));
        assert_eq!(reached, 3 * (1 + 5));
        let written = k.terms.addr(Addr::V4(2)).expect("room");
        let counted = k.terms.node(Op::Offset, written, n).expect("an address");
        let reached = spent(&mut k, &|k| k.offset(low, high, None, counted, five), &|t| t.node(Op::In, counted, five));
        assert_eq!(reached, 1 + 5);
    }
}
