//! Whatever is derived is true: theorems are derived at random, from random assumptions and by every rule in any order,
//! and each is held against the truth in many structures (see `common/model.rs`) that agree with its assumptions.

mod common;
use common::Random;
use common::calculus::{addr_set, constant, node, subsets, var};
use common::model::{ADDRS, Outside, World, random_packets, random_world};
use vinet_prover::write;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::{ASSUMPTIONS_MAX, Kernel, Theorem};
use vinet_trusted::packet::{Packet, Ranges};
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Constant, Id, Op, SetValue, Sort, Symbol, Terms, sort};
use vinet_trusted::wire::{Wire, Writer};

/// A store of lemmas with premises, with binders, and with symbols that premises leave open.
fn lemmas() -> LemmaStore {
    let mut store = LemmaStore::default();
    let mut add = |symbols: &[Sort], build: &dyn Fn(&mut Terms, &[Id]) -> Vec<Id>, proof: &[u8]| {
        let mut t = Terms::new(usize::MAX);
        t.symbols = symbols.iter().map(|sort| Symbol { args: vec![], result: *sort }).collect();
        let ids: Vec<Id> = (0..symbols.len()).map(|i| node(&mut t, Op::Symbol, i as u32, 0)).collect();
        let parts = build(&mut t, &ids);
        let mut w = Writer::new();
        t.symbols.write(&mut w);
        w.integer(parts.len() as u64 - 1);
        parts.iter().for_each(|part| write::term(&t, *part, &mut w));
        store.add(&w.finish(), proof).expect("a lemma and its proof")
    };
    use vinet_trusted::proof::refer::GOAL;
    let swap = |t: &mut Terms, s: &[Id]| vec![node(t, Op::And, s[0], s[1]), node(t, Op::And, s[1], s[0])];
    add(&[sort::BOOL, sort::BOOL], &swap, &[1, 1, rule::RIGHT, 1, 1, rule::LEFT, rule::BOTH, rule::DONE]);
    // From ∀x (x ∈ s → x ∈ t) follows s ⊆ t.
    let subset = |t: &mut Terms, s: &[Id]| {
        let x = var(t, 0, sort::PACKET);
        let (in_s, in_t) = (node(t, Op::In, x, s[0]), node(t, Op::In, x, s[1]));
        let implies = node(t, Op::Implies, in_s, in_t);
        vec![node(t, Op::Forall, u32::from(sort::PACKET), implies), node(t, Op::Subset, s[0], s[1])]
    };
    let proof = [rule::DEFINE, GOAL, rule::BACK, 1, 1, rule::MODUS_PONENS, rule::DONE];
    add(&[sort::PACKETS, sort::PACKETS], &subset, &proof);
    // From a follows a ∨ b, where b is open.
    let either = |t: &mut Terms, s: &[Id]| vec![s[0], node(t, Op::Or, s[0], s[1])];
    let second = [vinet_trusted::proof::refer::PART, 1, GOAL];
    add(&[sort::BOOL, sort::BOOL], &either, &[&[1, 1, rule::EITHER_LEFT][..], &second, &[rule::DONE]].concat());
    // ∀x (x ∈ s → p) and ∃x x ∈ s give p: a proposition under a binder.
    let spread = |t: &mut Terms, s: &[Id]| {
        let x = var(t, 0, sort::PACKET);
        let in_s = node(t, Op::In, x, s[0]);
        let implies = node(t, Op::Implies, in_s, s[1]);
        let packet = u32::from(sort::PACKET);
        vec![node(t, Op::Exists, packet, in_s), node(t, Op::Forall, packet, implies), s[1]]
    };
    add(&[sort::PACKETS, sort::BOOL], &spread, &[1, 1, 1, 2, rule::WITNESS, rule::DONE]);
    store
}

const NAMES: [&str; 34] = [
    "claim",
    "modus_ponens",
    "both",
    "left",
    "right",
    "either_left",
    "either_right",
    "cases",
    "discharge",
    "absurd",
    "negate",
    "double_negation",
    "equivalence",
    "there",
    "back",
    "specialise",
    "generalise",
    "exists",
    "witness",
    "naturals",
    "lists",
    "reflexivity",
    "symmetry",
    "transitivity",
    "congruence",
    "unfold",
    "fold",
    "fact",
    "define",
    "lemma",
    "evaluate",
    "linear",
    "sets",
    "numbers",
];
const SORTS: [Sort; 8] =
    [sort::ADDR, sort::ADDRS, sort::INT, sort::PACKET, sort::PACKETS, sort::LIST, sort::CONTENT, sort::DECLARED];

/// Makes terms and formulas at random.
struct Maker<'r> {
    r: &'r mut Random,
    bound: Vec<Sort>,
}

impl Maker<'_> {
    fn leaf(&mut self, t: &mut Terms, sort: Sort) -> Id {
        let bound: Vec<usize> = (0..self.bound.len()).filter(|i| self.bound[*i] == sort).collect();
        if !bound.is_empty() && !self.r.one_in(3) {
            let at = self.r.of(&bound);
            return var(t, (self.bound.len() - 1 - at) as u32, sort);
        }
        let constants: Vec<u32> =
            (0..t.constants.len() as u32).filter(|i| t.constants[*i as usize].sort == sort).collect();
        if !constants.is_empty() && !self.r.one_in(4) {
            let number = self.r.of(&constants);
            return t.constant(number).expect("there");
        }
        match sort {
            sort::ADDR => t.addr(self.r.of(&ADDRS)).expect("room"),
            sort::ADDRS => {
                let set = self.r.of(&subsets(&ADDRS));
                t.set(SetValue::Addrs(addr_set(&set))).expect("room")
            }
            sort::INT => t.int(self.r.below(5) as i64 - 1).expect("room"),
            sort::NUMBERS => {
                let range = self.r.of(&[(0, 0), (1, 3), (2, 5)]);
                t.set(SetValue::Numbers(Ranges::new(vec![range]).expect("a range"))).expect("room")
            }
            sort::PACKETS => node(t, Op::Empty, u32::from(sort), 0),
            sort::LIST => node(t, Op::Nil, 0, 0),
            sort::CONTENT => {
                let p = self.leaf(t, sort::PACKET);
                node(t, Op::Content, p, 0)
            }
            sort::GROUPS => {
                let s = self.leaf(t, sort::PACKETS);
                node(t, self.r.of(&[Op::BySrc, Op::ByDst]), s, 0)
            }
            _ => t.constant(constants[0]).expect("there"),
        }
    }

    fn term(&mut self, t: &mut Terms, sort: Sort, depth: usize) -> Id {
        if depth == 0 || self.r.one_in(3) {
            return self.leaf(t, sort);
        }
        let mut two = |maker: &mut Self, op: Op, a: Sort, b: Sort| {
            let (a, b) = (maker.term(t, a, depth - 1), maker.term(t, b, depth - 1));
            node(t, op, a, b)
        };
        let pick = self.r.below(3);
        match sort {
            sort::ADDR if pick == 0 => two(self, Op::Offset, sort::ADDR, sort::INT),
            sort::ADDR => {
                let p = self.term(t, sort::PACKET, depth - 1);
                node(t, [Op::Src, Op::Dst][pick - 1], p, 0)
            }
            sort::ADDRS => two(self, [Op::Union, Op::Inter, Op::Minus][pick], sort, sort),
            sort::INT if pick == 0 => {
                let p = self.term(t, sort::PACKET, depth - 1);
                node(t, Op::Num, p, self.r.below(10) as u32)
            }
            sort::INT if pick == 1 => {
                let l = self.term(t, sort::LIST, depth - 1);
                node(t, Op::Len, l, 0)
            }
            sort::INT => {
                let op = self.r.of(&[Op::Add, Op::Sub, Op::Mul]);
                two(self, op, sort, sort)
            }
            sort::PACKETS => match self.r.below(6) {
                0 => two(self, Op::From, sort, sort::ADDRS),
                1 => two(self, Op::To, sort, sort::ADDRS),
                2 => two(self, Op::Group, sort::GROUPS, sort::ADDR),
                n => two(self, [Op::Union, Op::Inter, Op::Minus][n - 3], sort, sort),
            },
            sort::LIST if pick == 0 => two(self, Op::Append, sort, sort),
            sort::LIST => two(self, Op::Cons, sort::PACKET, sort),
            _ => self.leaf(t, sort),
        }
    }

    fn formula(&mut self, t: &mut Terms, depth: usize) -> Id {
        if depth == 0 || self.r.one_in(4) {
            return self.atom(t);
        }
        match self.r.below(8) {
            0 => {
                let a = self.formula(t, depth - 1);
                node(t, Op::Not, a, 0)
            }
            n @ 1..=4 => {
                let (a, b) = (self.formula(t, depth - 1), self.formula(t, depth - 1));
                node(t, [Op::And, Op::Or, Op::Implies, Op::Iff][n - 1], a, b)
            }
            n => {
                let sort = self.r.of(&SORTS);
                self.binder(t, [Op::Forall, Op::Exists, Op::Unique][n - 5], sort, depth - 1)
            }
        }
    }

    fn binder(&mut self, t: &mut Terms, op: Op, sort: Sort, depth: usize) -> Id {
        self.bound.push(sort);
        let body = self.formula(t, depth.min(2));
        self.bound.pop();
        node(t, op, u32::from(sort), body)
    }

    fn atom(&mut self, t: &mut Terms) -> Id {
        let sort = self.r.of(&SORTS);
        let (op, a, b) = match self.r.below(8) {
            0 => return node(t, self.r.of(&[Op::True, Op::False]), 0, 0),
            1 => return self.leaf_bool(t),
            2 => (Op::In, sort::PACKET, sort::PACKETS),
            3 => (Op::In, sort::ADDR, sort::ADDRS),
            4 => (Op::In, sort::PACKET, sort::LIST),
            5 => (Op::Le, sort::INT, sort::INT),
            6 => (Op::In, sort::INT, sort::NUMBERS),
            _ if self.r.one_in(3) => (Op::Subset, sort::PACKETS, sort::PACKETS),
            _ => (Op::Eq, sort, sort),
        };
        let (a, b) = (self.term(t, a, 2), self.term(t, b, 2));
        node(t, op, a, b)
    }

    fn leaf_bool(&mut self, t: &mut Terms) -> Id {
        let constants: Vec<u32> =
            (0..t.constants.len() as u32).filter(|i| t.constants[*i as usize].sort == sort::BOOL).collect();
        t.constant(self.r.of(&constants)).expect("there")
    }
}

struct Derivation<'r, 'l> {
    r: &'r mut Random,
    k: Kernel<'l>,
    assumed: Vec<Id>,
    pool: Vec<Theorem>,
    picks: Vec<u32>,
    worlds: Vec<World>,
    symbols: &'l LemmaStore,
}

impl Derivation<'_, '_> {
    fn formula(&mut self, depth: usize) -> Id {
        Maker { r: self.r, bound: Vec::new() }.formula(&mut self.k.terms, depth)
    }

    fn given(&mut self, formula: Id) -> Option<Theorem> {
        if let Some(i) = self.assumed.iter().position(|a| *a == formula) {
            return self.k.claim(1 + i).ok();
        }
        self.k.assume(formula).ok()?;
        self.assumed.push(formula);
        self.k.claim(self.assumed.len()).ok()
    }

    /// A theorem that begins with this operation: from the pool, or assumed.
    fn with(&mut self, op: Op) -> Option<Theorem> {
        let fit: Vec<Theorem> =
            self.pool.iter().filter(|t| self.k.terms.get(t.conclusion()).op == op).copied().collect();
        if !fit.is_empty() && !self.r.one_in(3) {
            return Some(self.r.of(&fit));
        }
        let sort = self.r.of(&SORTS);
        let mut maker = Maker { r: self.r, bound: Vec::new() };
        let t = &mut self.k.terms;
        let formula = match op {
            Op::Forall | Op::Exists => maker.binder(t, op, sort, 1),
            Op::Eq => {
                let (a, b) = (maker.term(t, sort, 1), maker.term(t, sort, 1));
                node(t, op, a, b)
            }
            Op::In => {
                let (a, b) = (maker.term(t, sort::PACKET, 1), maker.term(t, sort::PACKETS, 2));
                node(t, op, a, b)
            }
            Op::Not => {
                let a = maker.formula(t, 1);
                node(t, op, a, 0)
            }
            _ => {
                let (a, b) = (maker.formula(t, 1), maker.formula(t, 1));
                node(t, op, a, b)
            }
        };
        self.given(formula)
    }

    fn some(&mut self) -> Theorem {
        self.r.of(&self.pool)
    }

    fn argument(&self, theorem: Theorem, i: usize) -> Id {
        self.k.terms.get(theorem.conclusion()).args[i]
    }

    /// A closed term of this sort that quantifiers reach in every world.
    fn reached(&mut self, sort: u32) -> Option<Id> {
        let term = Maker { r: self.r, bound: Vec::new() }.term(&mut self.k.terms, sort as Sort, 1);
        self.worlds.iter().all(|world| world.reaches(&self.k.terms, term)).then_some(term)
    }

    fn apply(&mut self, rule: &str) -> Option<Theorem> {
        match rule {
            "claim" => {
                let formula = self.formula(2);
                self.given(formula)
            }
            "modus_ponens" => {
                let implies = self.with(Op::Implies)?;
                let from = self.argument(implies, 0);
                let premise = if self.r.one_in(9) { self.some() } else { self.given(from)? };
                self.k.modus_ponens(implies, premise).ok()
            }
            "both" => {
                let (a, b) = (self.some(), self.some());
                self.k.both(a, b).ok()
            }
            "left" | "right" => {
                let and = self.with(Op::And)?;
                if rule == "left" { self.k.left(and).ok() } else { self.k.right(and).ok() }
            }
            "either_left" | "either_right" => {
                let (theorem, other) = (self.some(), self.formula(1));
                if rule == "either_left" {
                    self.k.either_left(theorem, other)
                } else {
                    self.k.either_right(other, theorem)
                }
                .ok()
            }
            "cases" => {
                let or = self.with(Op::Or)?;
                let [a, b] = [self.argument(or, 0), self.argument(or, 1)];
                let c = self.formula(0);
                let first = node(&mut self.k.terms, Op::Implies, a, c);
                let second = node(&mut self.k.terms, Op::Implies, b, c);
                let (first, second) = (self.given(first)?, self.given(second)?);
                if self.r.one_in(4) { self.k.cases(or, second, first) } else { self.k.cases(or, first, second) }.ok()
            }
            "discharge" => {
                let number = self.r.below(self.assumed.len() + 2);
                let theorem = self.some();
                self.k.discharge(number, theorem).ok()
            }
            "absurd" => {
                let not = self.with(Op::Not)?;
                let inner = self.argument(not, 0);
                let inner = self.given(inner)?;
                self.k.absurd(inner, not).ok()
            }
            "negate" => {
                let (a, no) = (self.formula(1), node(&mut self.k.terms, Op::False, 0, 0));
                let implies = node(&mut self.k.terms, Op::Implies, a, no);
                let implies = self.given(implies)?;
                self.k.negate(implies).ok()
            }
            "double_negation" => {
                let a = self.formula(1);
                let not = node(&mut self.k.terms, Op::Not, a, 0);
                let not = if self.r.one_in(3) { not } else { node(&mut self.k.terms, Op::Not, not, 0) };
                let not = self.given(not)?;
                self.k.double_negation(not).ok()
            }
            "equivalence" => {
                let there = self.with(Op::Implies)?;
                let [a, b] = [self.argument(there, 0), self.argument(there, 1)];
                let back = node(&mut self.k.terms, Op::Implies, b, a);
                let back = self.given(back)?;
                self.k.equivalence(there, back).ok()
            }
            "there" | "back" => {
                let iff = self.with(Op::Iff)?;
                if rule == "there" { self.k.there(iff) } else { self.k.back(iff) }.ok()
            }
            "specialise" => {
                let all = self.with(Op::Forall)?;
                let term = self.reached(self.argument(all, 0))?;
                self.k.specialise(all, term).ok()
            }
            "generalise" => {
                // Every constant is tried; those of the program and of open assumptions must be refused.
                let number = if self.r.one_in(3) {
                    self.r.below(self.k.terms.constants.len()) as u32
                } else {
                    self.r.of(&self.picks)
                };
                let theorem = self.some();
                self.k.generalise(theorem, number).ok()
            }
            "exists" => {
                let sort = u32::from(self.r.of(&SORTS));
                let term = self.reached(sort)?;
                let exists =
                    Maker { r: self.r, bound: Vec::new() }.binder(&mut self.k.terms, Op::Exists, sort as Sort, 1);
                let body = self.k.terms.get(exists).args[1];
                let instance = self.k.terms.open(body, term).ok()?;
                let premise = if self.r.one_in(9) { self.some() } else { self.given(instance)? };
                self.k.exists(premise, exists, term).ok()
            }
            "witness" => {
                let exists = self.with(Op::Exists)?;
                let [sort, body] = [self.argument(exists, 0), self.argument(exists, 1)];
                let mut maker = Maker { r: self.r, bound: Vec::new() };
                if maker.r.one_in(2) {
                    maker.bound.push(sort as Sort);
                }
                let result = maker.formula(&mut self.k.terms, 1);
                let implies = node(&mut self.k.terms, Op::Implies, body, result);
                let all = node(&mut self.k.terms, Op::Forall, sort, implies);
                let all = self.given(all)?;
                self.k.witness(exists, all).ok()
            }
            "naturals" => {
                let int = u32::from(sort::INT);
                let all = Maker { r: self.r, bound: Vec::new() }.binder(&mut self.k.terms, Op::Forall, sort::INT, 1);
                let phi = self.k.terms.get(all).args[1];
                let pick = self.r.of(&self.picks.clone());
                let t = &mut self.k.terms;
                let (zero, one, n) = (t.int(0).ok()?, t.int(1).ok()?, var(t, 0, sort::INT));
                let natural = node(t, Op::Le, zero, n);
                let goal = node(t, Op::Implies, natural, phi);
                let goal = node(t, Op::Forall, int, goal);
                // The step, by closing it over a pick of the same sort.
                let i =
                    t.constants.iter().position(|c| c.sort == sort::INT && c.fact.is_none()).unwrap_or(pick as usize);
                let i = t.constant(i as u32).ok()?;
                let next = node(t, Op::Add, i, one);
                let (at_i, at_next, at_zero) = (t.open(phi, i).ok()?, t.open(phi, next).ok()?, t.open(phi, zero).ok()?);
                let is_natural = node(t, Op::Le, zero, i);
                let step = node(t, Op::Implies, at_i, at_next);
                let step = node(t, Op::Implies, is_natural, step);
                let step = t.close(step, t.get(i).args[0]).ok()?;
                let step = node(t, Op::Forall, int, step);
                let (start, step) = (self.given(at_zero)?, self.given(step)?);
                self.k.naturals(start, step, goal).ok()
            }
            "lists" => {
                let goal = Maker { r: self.r, bound: Vec::new() }.binder(&mut self.k.terms, Op::Forall, sort::LIST, 1);
                let t = &mut self.k.terms;
                let phi = t.get(goal).args[1];
                let [p, l] = [sort::PACKET, sort::LIST].map(|s| t.constants.iter().rposition(|c| c.sort == s));
                let (p, l) = (p? as u32, l? as u32);
                let (packet, list, nil) = (t.constant(p).ok()?, t.constant(l).ok()?, node(t, Op::Nil, 0, 0));
                let longer = node(t, Op::Cons, packet, list);
                let (at_l, at_longer, at_nil) =
                    (t.open(phi, list).ok()?, t.open(phi, longer).ok()?, t.open(phi, nil).ok()?);
                let step = node(t, Op::Implies, at_l, at_longer);
                let step = t.close(step, l).ok()?;
                let step = node(t, Op::Forall, u32::from(sort::LIST), step);
                let step = t.close(step, p).ok()?;
                let step = node(t, Op::Forall, u32::from(sort::PACKET), step);
                let (start, step) = (self.given(at_nil)?, self.given(step)?);
                self.k.lists(start, step, goal).ok()
            }
            "reflexivity" => {
                let sort = self.r.of(&SORTS);
                let term = Maker { r: self.r, bound: Vec::new() }.term(&mut self.k.terms, sort, 2);
                self.k.reflexivity(term).ok()
            }
            "symmetry" => {
                let same = self.with(Op::Eq)?;
                self.k.symmetry(same).ok()
            }
            "transitivity" => {
                let first = self.with(Op::Eq)?;
                let middle = self.argument(first, 1);
                let sort = self.k.terms.sort(middle);
                let other = Maker { r: self.r, bound: Vec::new() }.term(&mut self.k.terms, sort, 1);
                let second = node(&mut self.k.terms, Op::Eq, middle, other);
                let second = if self.r.one_in(5) { self.with(Op::Eq)? } else { self.given(second)? };
                self.k.transitivity(first, second).ok()
            }
            "congruence" => {
                let (same, theorem) = (self.with(Op::Eq)?, self.some());
                self.k.congruence(same, theorem).ok()
            }
            "unfold" => {
                let is_in = self.with(Op::In)?;
                self.k.unfold(is_in).ok()
            }
            "fold" => {
                let is_in = self.with(Op::In)?;
                let [member, set] = [self.argument(is_in, 0), self.argument(is_in, 1)];
                let unfolded = self.k.unfold(is_in).ok()?;
                let premise = if self.r.one_in(4) { self.some() } else { self.given(unfolded.conclusion())? };
                self.k.fold(premise, member, set).ok()
            }
            "fact" => self.k.fact(self.r.below(self.k.terms.constants.len()) as u32).ok(),
            "define" => {
                let mut maker = Maker { r: self.r, bound: Vec::new() };
                let sort = maker.r.of(&[sort::LIST, sort::INT]);
                let t = &mut self.k.terms;
                let defined = if maker.r.one_in(3) { maker.term(t, sort, 2) } else { maker.formula(t, 1) };
                self.k.define(defined).ok()
            }
            "lemma" => {
                let number = self.r.below(self.symbols.len());
                let (symbols, premises, _) = self.symbols.statement(number)?;
                // The premises with something in the place of each symbol, and one of them something else now and then.
                let values: Vec<Id> = symbols
                    .clone()
                    .map(|s| match self.symbols.terms().symbols[s].result {
                        sort::BOOL => self.formula(1),
                        sort => Maker { r: self.r, bound: Vec::new() }.term(&mut self.k.terms, sort, 1),
                    })
                    .collect();
                let filled: Vec<Id> = premises
                    .iter()
                    .map(|p| instance(self.symbols.terms(), *p, symbols.start, &values, &mut self.k.terms))
                    .collect();
                let mut theorems = filled.into_iter().map(|f| self.given(f)).collect::<Option<Vec<_>>>()?;
                if self.r.one_in(4) {
                    theorems[0] = self.some();
                }
                let open = self.symbols.open(number)?;
                self.k.lemma(number, &theorems, &values[values.len() - open..]).ok()
            }
            "evaluate" => {
                let t = &mut self.k.terms;
                let (low, high) = (t.int(self.r.below(4) as i64).ok()?, t.int(self.r.below(4) as i64).ok()?);
                let sum = node(t, Op::Add, low, high);
                let formula = node(t, self.r.of(&[Op::Le, Op::Eq]), low, sum);
                self.k.evaluate(formula).ok()
            }
            "linear" => {
                // a ≤ b and, mostly, not a ≤ b + 1.
                let mut maker = Maker { r: self.r, bound: Vec::new() };
                let t = &mut self.k.terms;
                let (a, b) = (maker.term(t, sort::INT, 1), maker.term(t, sort::INT, 1));
                let more = t.int(maker.r.below(4) as i64 - 1).ok()?;
                let more = node(t, Op::Add, b, more);
                let (first, second) = (node(t, Op::Le, a, b), node(t, Op::Le, a, more));
                let second = node(t, Op::Not, second, 0);
                let (first, second) = (self.given(first)?, self.given(second)?);
                self.k.linear(&[(first, 1), (second, 1)]).ok()
            }
            "sets" => {
                let mut maker = Maker { r: self.r, bound: Vec::new() };
                let t = &mut self.k.terms;
                let x = maker.term(t, sort::ADDR, 2);
                let [s, u, v] = [0; 3].map(|_| {
                    let set = maker.r.of(&subsets(&ADDRS));
                    t.set(SetValue::Addrs(addr_set(&set))).expect("room")
                });
                let (in_s, in_u) = (node(t, Op::In, x, s), node(t, Op::In, x, u));
                let (in_s, in_u) = (self.given(in_s)?, self.given(in_u)?);
                match self.r.below(3) {
                    0 => self.k.widen(in_s, u).ok(),
                    1 => self.k.apart(in_s, in_u).ok(),
                    _ => self.k.split(in_s, u, v).ok(),
                }
            }
            _ => {
                let mut maker = Maker { r: self.r, bound: Vec::new() };
                let t = &mut self.k.terms;
                let (n, set) = (maker.term(t, sort::INT, 1), maker.leaf(t, sort::NUMBERS));
                let [low, high] = [0, 1].map(|more| t.int(maker.r.below(4) as i64 + more).expect("room"));
                let (below, above, is_in) =
                    (node(t, Op::Le, low, n), node(t, Op::Le, n, high), node(t, Op::In, n, set));
                let x = maker.term(t, sort::ADDR, 1);
                let counted = node(t, Op::Offset, x, n);
                let target = maker.r.of(&subsets(&ADDRS));
                let target = t.set(SetValue::Addrs(addr_set(&target))).expect("room");
                let base = t.set(SetValue::Addrs(addr_set(&ADDRS[..2]))).expect("room");
                let x_in = node(t, Op::In, x, base);
                let [below, above, is_in, x_in] = [below, above, is_in, x_in].map(|f| self.given(f));
                match self.r.below(3) {
                    0 => self.k.bounds(is_in?).ok(),
                    1 => self.k.enclose(below?, above?, set).ok(),
                    _ => self.k.offset(below?, above?, x_in, counted, target).ok(),
                }
            }
        }
    }
}

/// A formula of a store with these terms in the place of its symbols, by the book.
fn instance(from: &Terms, id: Id, first: usize, values: &[Id], to: &mut Terms) -> Id {
    let mut node = from.get(id);
    if node.op == Op::Symbol {
        return values[node.args[0] as usize - first];
    }
    for i in from.children(node) {
        node.args[i] = instance(from, node.args[i], first, values, to);
    }
    to.make(node.op, node.args).expect("a well-sorted node")
}

#[test]
fn whatever_is_derived_is_true() {
    let mut r = Random::seeded(0x5eed_0002);
    let store = lemmas();
    let mut applied = [0usize; NAMES.len()];
    let (mut told, mut judged) = (0usize, 0usize);
    for _ in 0..450 {
        let mut t = Terms::new(usize::MAX);
        let sorts = [
            sort::PACKETS,
            sort::ADDR,
            sort::INT,
            sort::BOOL,
            sort::LIST,
            sort::ADDRS,
            sort::PACKET,
            sort::INT,
            sort::BOOL,
            sort::DECLARED,
            sort::CONTENT,
        ];
        sorts.iter().for_each(|sort| {
            constant(&mut t, *sort);
        });
        // A set that an instruction made, and a number between others.
        let made = Maker { r: &mut r, bound: Vec::new() }.formula(&mut t, 1);
        let (number, count) = (t.constants.len(), t.constants.len() + 1);
        t.constants.push(Constant { sort: sort::PACKETS, fact: Some(made) });
        t.constants.push(Constant { sort: sort::INT, fact: None });
        let (n, low, high) = (t.constant(count as u32), t.int(0), t.int(3));
        let (n, low, high) = (n.expect("there"), low.expect("room"), high.expect("room"));
        let (low, high) = (node(&mut t, Op::Le, low, n), node(&mut t, Op::Le, n, high));
        t.constants[count].fact = Some(node(&mut t, Op::And, low, high));
        let set = t.constant(number as u32).expect("there");
        let the_packet = t.constant(0).expect("there");
        let member = node(&mut t, Op::In, the_packet, set);
        let mut k = Kernel::new(t, &store);
        k.begin(Some(member));
        let picks: Vec<u32> = [sort::PACKET, sort::INT, sort::ADDR, sort::LIST, sort::PACKETS]
            .map(|sort| k.pick(sort).expect("a sort"))
            .iter()
            .map(|id| k.terms.get(*id).args[0])
            .collect();
        let mut worlds = Vec::new();
        for _ in 0..400 {
            let world = random_world(&mut r, &k.terms, &[]);
            if worlds.len() < 40 && world.holds(&k.terms, member).is_ok_and(|holds| holds) {
                worlds.push(world);
            }
        }
        let first = k.claim(0).expect("the packet is in the set");
        let mut d = Derivation { r: &mut r, k, assumed: vec![], pool: vec![first], picks, worlds, symbols: &store };
        while d.assumed.len() + 4 < ASSUMPTIONS_MAX && d.pool.len() < 400 {
            let rule = d.r.below(NAMES.len());
            let Some(theorem) = d.apply(NAMES[rule]) else { continue };
            applied[rule] += 1;
            d.pool.push(theorem);
            let under: Vec<Id> =
                (0..d.assumed.len()).filter(|i| theorem.assumptions() >> i & 1 != 0).map(|i| d.assumed[i]).collect();
            assert_eq!(theorem.assumptions() >> d.assumed.len(), 0);
            for world in &d.worlds {
                let holds = |id: Id| world.holds(&d.k.terms, id);
                let premises: Result<Vec<bool>, Outside> = under.iter().map(|id| holds(*id)).collect();
                told += 1;
                if premises.is_ok_and(|all| all.iter().all(|holds| *holds)) {
                    judged += 1;
                    if let Ok(holds) = holds(theorem.conclusion()) {
                        let mut w = Writer::new();
                        write::term(&d.k.terms, theorem.conclusion(), &mut w);
                        assert!(holds, "{} concludes {:02x?}, false in {world:?}", NAMES[rule], w.finish());
                    }
                }
            }
        }
    }
    println!("{judged} of {told} judgements; applications: {:?}", NAMES.iter().zip(applied).collect::<Vec<_>>());
    assert!(judged > 100_000);
    for (name, count) in NAMES.iter().zip(applied) {
        assert!(count >= 20, "{name} was applied only {count} times");
    }
}

#[test]
fn packets_of_a_model_are_not_all_alike() {
    let mut r = Random::seeded(0x5eed_0013);
    let packets: Vec<Packet> = random_packets(&mut r, 40);
    assert!(packets.iter().any(|p| p.src != packets[0].src) && packets.iter().any(|p| p.content != packets[0].content));
}
