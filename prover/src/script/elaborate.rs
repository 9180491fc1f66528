//! From what a text says to steps of the kernel.

use super::derivation::{Derivation, Frame, Step, Unwritable};
use super::error::{Cause, ScriptError, Span, nearest};
use super::print::{FUNCTIONS, Names, SORTS, constant_name, number_name, print};
use super::rules::{self, Arg, RULES, Rule, Takes};
use super::syntax::{Expr, Kind, MethodText, Name};
use std::collections::HashMap;
use vinet_trusted::addr::PrefixSet;
use vinet_trusted::logic::{Fault, Kernel};
use vinet_trusted::packet::{Number, Ranges};
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Node, Op, SetValue, Sort, TermFault, sort};

/// The most steps that the elaboration of one proof takes.
pub const STEPS_MAX: usize = 65_536;
/// How deep methods may call each other.
const CALLS_MAX: usize = 32;

/// The numbers of lemmas by their names: with their module, and alone where that is no one else's.
#[derive(Clone, Debug, Default)]
pub struct LemmaNames {
    full: HashMap<String, usize>,
    short: HashMap<String, Option<usize>>,
}

impl LemmaNames {
    /// Names a lemma; false where the name is taken.
    pub fn insert(&mut self, module: Option<&str>, name: &str, number: usize) -> bool {
        let full = module.map_or_else(|| name.to_owned(), |module| format!("{module}.{name}"));
        if self.full.contains_key(&full) {
            return false;
        }
        self.full.insert(full, number);
        self.short.entry(name.to_owned()).and_modify(|known| *known = None).or_insert(Some(number));
        true
    }
    /// The number of the lemma with this name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<usize> {
        self.full.get(name).copied().or_else(|| self.short.get(name).copied().flatten())
    }
    /// The full name of the lemma with this number.
    #[must_use]
    pub fn name(&self, number: usize) -> Option<&str> {
        self.full.iter().find(|(_, known)| **known == number).map(|(name, _)| name.as_str())
    }
    fn all(&self) -> impl Iterator<Item = &str> {
        self.full.keys().map(String::as_str)
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Value {
    Theorem(Step),
    Term(Id),
    /// A variable of the binder at this depth.
    Bound(usize),
    /// A declared symbol that takes arguments.
    Function(u32),
}

/// What `$3` is.
pub(crate) enum Slots<'a> {
    /// There are none.
    None,
    /// What the slots hold at a place.
    Held(&'a [Option<Id>]),
    /// Slots of these sorts, as notes speak of them.
    Open(&'a [Option<Sort>]),
}

pub(crate) struct Elaborator<'a, 'l> {
    pub kernel: &'a mut Kernel<'l>,
    pub names: Names,
    lemmas: &'a LemmaNames,
    methods: &'a HashMap<String, MethodText>,
    slots: Slots<'a>,
    /// How many sets and addresses the checker will know.
    literals: (usize, usize),
    derivation: Derivation,
    frame: Option<Frame>,
    next_claim: u32,
    environment: Vec<(String, Value)>,
    binders: Vec<Sort>,
    facts: Vec<Step>,
    steps: usize,
    calls: usize,
}

type Made<T> = Result<T, ScriptError>;

impl<'a, 'l> Elaborator<'a, 'l> {
    pub fn new(
        kernel: &'a mut Kernel<'l>,
        names: Names,
        lemmas: &'a LemmaNames,
        methods: &'a HashMap<String, MethodText>,
        slots: Slots<'a>,
    ) -> Self {
        let literals = (kernel.terms.sets.len(), kernel.terms.addrs.len());
        Elaborator {
            kernel,
            names,
            lemmas,
            methods,
            slots,
            literals,
            derivation: Derivation::default(),
            frame: None,
            next_claim: 0,
            environment: Vec::new(),
            binders: Vec::new(),
            facts: Vec::new(),
            steps: 0,
            calls: 0,
        }
    }

    pub fn name_term(&mut self, name: &str, id: Id) {
        self.environment.push((name.into(), Value::Term(id)));
    }
    pub fn name_function(&mut self, name: &str, symbol: u32) {
        self.environment.push((name.into(), Value::Function(symbol)));
    }

    /// Starts a proof: the claims that are given, with their names.
    pub fn begin(&mut self, frame: Frame, given: &[(String, u32)]) -> Made<()> {
        self.next_claim = frame.given.len() as u32;
        let goal = frame.goal;
        self.frame = Some(frame);
        self.name_term("goal", goal);
        for (name, number) in given {
            let claim = self.step(0..0, "claim", rule::CLAIM, &[], &[Arg::Claim(*number)])?;
            self.facts.push(claim);
            self.environment.push((name.clone(), Value::Theorem(claim)));
        }
        Ok(())
    }

    /// The bytes that prove the goal by `proof`, DONE included.
    pub fn prove(&mut self, proof: &Expr, most: usize) -> Made<Vec<u8>> {
        let shown = self.theorem(proof)?;
        let frame = self.frame.take().expect("a proof was begun");
        let says = self.derivation.says(shown);
        if says != frame.goal {
            let (wanted, shown) = (self.print(frame.goal), self.print(says));
            return Err(ScriptError::new(proof.span.clone(), Cause::NotThat { wanted, shown }));
        }
        let open = self.derivation.theorem(shown).assumptions() & !frame.given_bits;
        assert_eq!(open, 0, "what a block assumes is discharged where it ends");
        let bytes = self.derivation.bytes(shown, &self.kernel.terms, &frame, most);
        let mut bytes = bytes.map_err(|fault| {
            let why = match fault {
                Unwritable::TooLong => format!("it has more than {most} bytes"),
                Unwritable::StackFull => "it needs too many theorems at once".into(),
            };
            ScriptError::new(proof.span.clone(), Cause::ProofLimit(why))
        })?;
        bytes.push(rule::DONE);
        Ok(bytes)
    }

    pub fn print(&self, id: Id) -> String {
        print(&self.kernel.terms, id, &self.names)
    }

    // ---- Terms and formulas ----

    pub fn sort(&self, name: &Name) -> Made<Sort> {
        let known = SORTS.iter().find(|(known, _)| *known == name.name).map(|(_, sort)| *sort);
        let declared = || self.names.sorts.iter().position(|known| *known == name.name);
        // A lemma's own sorts come first.
        declared().map(|i| sort::DECLARED + i as u8).or(known).ok_or_else(|| {
            let names = SORTS.iter().map(|(name, _)| *name).chain(self.names.sorts.iter().map(String::as_str));
            unknown(name.span.clone(), "sort", &name.name, names)
        })
    }

    fn make(&mut self, span: &Span, what: &str, op: Op, args: [u32; 4]) -> Made<Id> {
        self.kernel.terms.make(op, args).map_err(|fault| {
            let cause = match fault {
                TermFault::IllSorted => {
                    let terms = &self.kernel.terms;
                    let children = terms.children(Node { op, args });
                    let found = args[children].iter().map(|id| self.names.sort(terms.sort(*id))).collect();
                    Cause::Sorts { operation: format!("`{what}`"), found }
                }
                fault => Cause::TermLimit(rules::term_fault_words(fault).into()),
            };
            ScriptError::new(span.clone(), cause)
        })
    }

    /// A formula, well-sorted.
    pub fn formula(&mut self, expr: &Expr) -> Made<Id> {
        let id = self.term(expr)?;
        let found = self.kernel.terms.sort(id);
        if found == sort::BOOL {
            return Ok(id);
        }
        let cause = Cause::WrongSort { expected: "a formula".into(), found: self.names.sort(found) };
        Err(ScriptError::new(expr.span.clone(), cause))
    }

    /// A term or formula.
    pub fn term(&mut self, expr: &Expr) -> Made<Id> {
        let span = &expr.span;
        match &expr.kind {
            Kind::Int(value) => self.made(span, |terms| terms.int(*value)),
            Kind::Addr(addr) => {
                let known = self.kernel.terms.addrs[..self.literals.1].iter().position(|known| known == addr);
                let number = known.ok_or_else(|| not_in_program(span, format!("the address {addr}")))?;
                self.make(span, "address", Op::Addr, [number as u32, 0, 0, 0])
            }
            Kind::Addrs(_) | Kind::Numbers(_) => {
                let number = self.set_number(expr)?;
                self.make(span, "set", Op::Set, [number, 0, 0, 0])
            }
            Kind::Slot(number) => self.slot(span, *number),
            Kind::Name(name) => self.named(span, name),
            Kind::Call(name, arguments) => self.function(span, name, arguments),
            Kind::Not(denied) => {
                let denied = self.term(denied)?;
                self.make(span, "not", Op::Not, [denied, 0, 0, 0])
            }
            Kind::Binary(op, left, right) => {
                let args = [self.term(left)?, self.term(right)?, 0, 0];
                let what = match op {
                    Op::Iff => "<->",
                    Op::Implies => "->",
                    Op::Or => "or",
                    Op::And => "and",
                    Op::Eq => "=",
                    Op::Le => "<=",
                    Op::In => "in",
                    Op::Subset => "subset",
                    Op::Add => "+",
                    Op::Sub => "-",
                    _ => "*",
                };
                self.make(span, what, *op, args)
            }
            Kind::Quantified(op, binders, body) => {
                let (environment, depth) = (self.environment.len(), self.binders.len());
                for (name, sort) in binders {
                    let sort = self.sort(sort)?;
                    self.environment.push((name.clone(), Value::Bound(self.binders.len())));
                    self.binders.push(sort);
                }
                let body = self.term(body);
                self.environment.truncate(environment);
                let sorts = self.binders.split_off(depth);
                let mut formula = body?;
                for sort in sorts.iter().rev() {
                    formula = self.make(span, "a quantifier", *op, [u32::from(*sort), formula, 0, 0])?;
                }
                Ok(formula)
            }
            _ => Err(ScriptError::new(
                span.clone(),
                Cause::Expected { expected: "a formula or term", found: "a deduction".into() },
            )),
        }
    }

    fn made(
        &mut self,
        span: &Span,
        make: impl FnOnce(&mut vinet_trusted::term::Terms) -> Result<Id, TermFault>,
    ) -> Made<Id> {
        make(&mut self.kernel.terms)
            .map_err(|fault| ScriptError::new(span.clone(), Cause::TermLimit(rules::term_fault_words(fault).into())))
    }

    fn slot(&mut self, span: &Span, number: u32) -> Made<Id> {
        let nothing =
            || ScriptError::new(span.clone(), Cause::NoSuchPlace { what: "value in slot", number: number as usize });
        match &self.slots {
            Slots::None => Err(nothing()),
            Slots::Held(held) => held.get(number as usize).copied().flatten().ok_or_else(nothing),
            Slots::Open(sorts) => {
                let sort = sorts.get(number as usize).copied().flatten().ok_or_else(nothing)?;
                self.make(span, "slot", Op::Slot, [number, u32::from(sort), 0, 0])
            }
        }
    }

    fn set_number(&mut self, expr: &Expr) -> Made<u32> {
        let set = match &expr.kind {
            Kind::Addrs(prefixes) => SetValue::Addrs(PrefixSet::new(prefixes.clone())),
            Kind::Numbers(ranges) => match Ranges::new(ranges.clone()) {
                Some(ranges) => SetValue::Numbers(ranges),
                None => return Err(not_in_program(&expr.span, "such a set of numbers".into())),
            },
            _ => {
                let id = self.term(expr)?;
                let Node { op, args } = self.kernel.terms.get(id);
                if op == Op::Set {
                    return Ok(args[0]);
                }
                let found = self.print(id);
                return Err(ScriptError::new(
                    expr.span.clone(),
                    Cause::WrongSort { expected: "a set that is written out".into(), found },
                ));
            }
        };
        let known = self.kernel.terms.sets[..self.literals.0].iter().position(|known| *known == set);
        let words = || format!("the set {}", super::print::set_words(&set));
        known.map(|number| number as u32).ok_or_else(|| not_in_program(&expr.span, words()))
    }

    fn lookup(&self, name: &str) -> Option<Value> {
        self.environment.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    fn named(&mut self, span: &Span, name: &str) -> Made<Id> {
        match self.lookup(name) {
            Some(Value::Term(id)) => return Ok(id),
            Some(Value::Bound(depth)) => {
                let index = (self.binders.len() - 1 - depth) as u32;
                return self.make(span, name, Op::Var, [index, u32::from(self.binders[depth]), 0, 0]);
            }
            Some(Value::Function(_)) => return self.function(span, name, &[]),
            _ => {}
        }
        let packets = [u32::from(sort::PACKETS), 0, 0, 0];
        match name {
            "true" => self.make(span, name, Op::True, [0; 4]),
            "false" => self.make(span, name, Op::False, [0; 4]),
            "nil" => self.make(span, name, Op::Nil, [0; 4]),
            "no-packets" => self.make(span, name, Op::Empty, packets),
            "no-addrs" => self.make(span, name, Op::Empty, [u32::from(sort::ADDRS), 0, 0, 0]),
            _ => {
                if let Some(number) = self.constant_named(name) {
                    return self.made(span, |terms| terms.constant(number));
                }
                let mine = self.environment.iter().filter(|(_, value)| !matches!(value, Value::Theorem(_)));
                let names =
                    mine.map(|(name, _)| name.as_str()).chain(["true", "false", "nil", "no-packets", "no-addrs"]);
                Err(unknown(span.clone(), "term or formula", name, names))
            }
        }
    }

    /// The constant that is printed as `name`, a letter for its sort and its number. Those that the proof picks have
    /// the names that it gives them.
    fn constant_named(&self, name: &str) -> Option<u32> {
        let number: u32 = name.get(1..)?.parse().ok()?;
        let is_given = self.frame.as_ref().is_none_or(|frame| number < frame.own);
        let sort = self.kernel.terms.constants.get(number as usize)?.sort;
        (is_given && constant_name(number, sort) == name).then_some(number)
    }

    fn function(&mut self, span: &Span, name: &str, arguments: &[Expr]) -> Made<Id> {
        if let Some(Value::Function(symbol)) = self.lookup(name) {
            let takes = self.kernel.terms.symbols[symbol as usize].args.len();
            self.counts(span, name, &takes.to_string(), arguments, takes)?;
            let mut args = [symbol, 0, 0, 0];
            for (i, argument) in arguments.iter().enumerate() {
                args[1 + i] = self.term(argument)?;
            }
            return self.make(span, name, Op::Symbol, args);
        }
        match name {
            // What a theorem says.
            "that" => {
                self.counts(span, name, "a theorem", arguments, 1)?;
                let step = self.theorem(&arguments[0])?;
                return Ok(self.derivation.says(step));
            }
            // A part of a formula or term.
            "part" => {
                self.counts(span, name, "a formula and a number", arguments, 2)?;
                let whole = self.term(&arguments[0])?;
                let node = self.kernel.terms.get(whole);
                let part = match arguments[1].kind {
                    Kind::Int(which) => {
                        usize::try_from(which).ok().filter(|i| self.kernel.terms.children(node).contains(i))
                    }
                    _ => None,
                };
                let part = part.map(|i| node.args[i]).filter(|part| self.kernel.terms.is_closed(*part));
                let found = self.print(whole);
                return part.ok_or_else(|| {
                    ScriptError::new(
                        span.clone(),
                        Cause::WrongSort { expected: "something with that part".into(), found },
                    )
                });
            }
            _ => {}
        }
        let number = Number::ALL.iter().position(|number| number_name(*number) == name);
        if let Some(number) = number {
            self.counts(span, name, "a packet", arguments, 1)?;
            let packet = self.term(&arguments[0])?;
            return self.make(span, name, Op::Num, [packet, number as u32, 0, 0]);
        }
        let Some((_, op)) = FUNCTIONS.iter().find(|(known, _)| *known == name) else {
            let mine = self.environment.iter().filter(|(_, value)| matches!(value, Value::Function(_)));
            let numbers = Number::ALL.iter().map(|number| number_name(*number));
            let names =
                mine.map(|(name, _)| name.as_str()).chain(FUNCTIONS.iter().map(|(name, _)| *name)).chain(numbers);
            return Err(unknown(span.clone(), "function", name, names));
        };
        let takes = op.children().1;
        self.counts(span, name, &takes.to_string(), arguments, takes)?;
        let mut args = [0; 4];
        for (i, argument) in arguments.iter().enumerate() {
            args[i] = self.term(argument)?;
        }
        self.make(span, name, *op, args)
    }

    fn counts(&self, span: &Span, name: &str, takes: &str, arguments: &[Expr], count: usize) -> Made<()> {
        if arguments.len() == count {
            return Ok(());
        }
        let cause = Cause::Arguments { name: name.into(), takes: takes.into(), found: arguments.len() };
        Err(ScriptError::new(span.clone(), cause))
    }

    // ---- Deductions ----

    fn step(&mut self, span: Span, name: &str, byte: u8, premises: &[Step], args: &[Arg]) -> Made<Step> {
        self.derivation.step(self.kernel, byte, premises, args).map_err(|fault| self.fails(span, name, fault, premises))
    }

    fn fails(&self, span: Span, name: &str, fault: Fault, premises: &[Step]) -> ScriptError {
        let premises = premises.iter().map(|step| self.print(self.derivation.says(*step))).collect();
        ScriptError::new(span, Cause::RuleFails { rule: name.into(), why: rules::fault_words(fault), premises })
    }

    /// The claim of a new assumption, and its number.
    fn assume(&mut self, span: &Span, formula: Id) -> Made<(Step, u32)> {
        let number = self.derivation.assume(self.kernel, formula, &mut self.next_claim);
        let number = number.map_err(|fault| self.fails(span.clone(), "assume", fault, &[]))?;
        Ok((self.step(span.clone(), "assume", rule::CLAIM, &[], &[Arg::Claim(number)])?, number))
    }

    /// What `body` shows where `formula` is assumed under `name`: `formula` → that.
    fn under(&mut self, span: &Span, name: Option<&str>, formula: Id, body: &Expr) -> Made<Step> {
        let (claim, number) = self.assume(span, formula)?;
        let (environment, facts) = (self.environment.len(), self.facts.len());
        self.facts.push(claim);
        if let Some(name) = name {
            self.environment.push((name.into(), Value::Theorem(claim)));
        }
        let shown = self.theorem(body);
        self.environment.truncate(environment);
        self.facts.truncate(facts);
        self.step(span.clone(), "assume", rule::DISCHARGE, &[shown?], &[Arg::Claim(number)])
    }

    /// The theorem that a deduction makes.
    fn theorem(&mut self, expr: &Expr) -> Made<Step> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(ScriptError::new(expr.span.clone(), Cause::TooManySteps));
        }
        let span = &expr.span;
        match &expr.kind {
            Kind::Name(name) => match self.lookup(name) {
                Some(Value::Theorem(step)) => Ok(step),
                _ if name == "it" => self.facts.last().copied().ok_or_else(|| not_known(span, "it")),
                _ => self.call(span, name, &[]),
            },
            Kind::Call(name, arguments) => self.call(span, name, arguments),
            Kind::Fact(formula) => {
                let formula = self.formula(formula)?;
                let known = self.facts.iter().rev().find(|step| self.derivation.says(**step) == formula);
                known.copied().ok_or_else(|| not_known(span, &self.print(formula)))
            }
            Kind::Block(items) => {
                let (environment, facts) = (self.environment.len(), self.facts.len());
                let mut last = Err(ScriptError::new(span.clone(), Cause::EmptyBlock));
                for item in items {
                    last = self.theorem(&item.deduction);
                    let Ok(step) = last else { break };
                    self.facts.push(step);
                    if let Some(name) = &item.name {
                        self.environment.push((name.clone(), Value::Theorem(step)));
                    }
                }
                self.environment.truncate(environment);
                self.facts.truncate(facts);
                last
            }
            Kind::Assume { absurd, name, formula, body } => {
                let formula = self.formula(formula)?;
                let implies = self.under(span, name.as_deref(), formula, body)?;
                if *absurd {
                    self.step(span.clone(), "suppose-absurd", rule::NEGATE, &[implies], &[])
                } else {
                    Ok(implies)
                }
            }
            Kind::PickAny(binders, body) => {
                let environment = self.environment.len();
                let mut picked = Vec::new();
                for (name, sort) in binders {
                    picked.push(self.pick(span, name, sort)?);
                }
                let shown = self.theorem(body);
                self.environment.truncate(environment);
                let mut shown = shown?;
                for number in picked.iter().rev() {
                    shown =
                        self.step(span.clone(), "pick-any", rule::GENERALISE, &[shown], &[Arg::Constant(*number)])?;
                }
                Ok(shown)
            }
            Kind::PickWitness { name, fact, exists, body } => {
                let exists_span = exists.span.clone();
                let exists = self.theorem(exists)?;
                let Node { op: Op::Exists, args } = self.kernel.terms.get(self.derivation.says(exists)) else {
                    return Err(self.fails(exists_span, "pick-witness", Fault::WrongForm, &[exists]));
                };
                let environment = self.environment.len();
                let number = self.pick_of(span, name, args[0] as Sort)?;
                let witness = self.made(span, |terms| terms.constant(number))?;
                let holds = self.made(span, |terms| terms.open(args[1], witness))?;
                let implies = self.under(span, fact.as_deref(), holds, body);
                self.environment.truncate(environment);
                let all =
                    self.step(span.clone(), "pick-witness", rule::GENERALISE, &[implies?], &[Arg::Constant(number)])?;
                self.step(span.clone(), "pick-witness", rule::WITNESS, &[exists, all], &[])
            }
            Kind::Cases { either, arms: [first, second] } => {
                let either_span = either.span.clone();
                let either = self.theorem(either)?;
                let Node { op: Op::Or, args } = self.kernel.terms.get(self.derivation.says(either)) else {
                    return Err(self.fails(either_span, "cases", Fault::WrongForm, &[either]));
                };
                let left = self.under(span, Some(&first.0), args[0], &first.1)?;
                let right = self.under(span, Some(&second.0), args[1], &second.1)?;
                self.step(span.clone(), "cases", rule::CASES, &[either, left, right], &[])
            }
            Kind::Conclude(formula, by) => {
                let wanted = self.formula(formula)?;
                let step = self.theorem(by)?;
                let says = self.derivation.says(step);
                if says == wanted {
                    return Ok(step);
                }
                let (wanted, shown) = (self.print(wanted), self.print(says));
                Err(ScriptError::new(formula.span.clone(), Cause::NotThat { wanted, shown }))
            }
            _ => Err(ScriptError::new(
                span.clone(),
                Cause::Expected {
                    expected: "a deduction",
                    found: "a formula or term (a theorem that says it: `[…]`)".into(),
                },
            )),
        }
    }

    fn pick(&mut self, span: &Span, name: &str, sort: &Name) -> Made<u32> {
        let sort = self.sort(sort)?;
        self.pick_of(span, name, sort)
    }

    fn pick_of(&mut self, span: &Span, name: &str, sort: Sort) -> Made<u32> {
        let picked = self.kernel.pick(sort).map_err(|fault| self.fails(span.clone(), "pick-any", fault, &[]))?;
        let number = self.kernel.terms.get(picked).args[0];
        self.names.constants.insert(number, name.into());
        self.name_term(name, picked);
        Ok(number)
    }

    fn call(&mut self, span: &Span, name: &str, arguments: &[Expr]) -> Made<Step> {
        if let Some(rule) = RULES.iter().find(|rule| rule.name == name) {
            return self.rule(span, rule, arguments);
        }
        match name {
            "spec" => return self.specialise(span, arguments),
            "linear" => {
                let (premises, times) = self.multiples(arguments)?;
                return self.linear(span, &premises, &times);
            }
            "arith" => return self.arithmetic(span, arguments),
            "equal" => return self.equal(span, arguments),
            "offset" => return self.offset(span, arguments),
            "cite" => {
                let [Expr { kind: Kind::Int(number), .. }, premises @ ..] = arguments else {
                    return self.counts(span, name, "a number and a theorem", arguments, usize::MAX).map(|()| 0);
                };
                let premises = premises.iter().map(|premise| self.theorem(premise)).collect::<Made<Vec<_>>>()?;
                return self.step(span.clone(), name, rule::CITE, &premises, &[Arg::Number(*number as u32)]);
            }
            _ => {}
        }
        let methods = self.methods;
        if let Some(method) = methods.get(name) {
            return self.method(span, method, arguments);
        }
        if let Some(number) = self.lemmas.number(name) {
            return self.lemma(span, name, number, arguments);
        }
        let mine = self.environment.iter().filter(|(_, value)| matches!(value, Value::Theorem(_)));
        let names = mine.map(|(name, _)| name.as_str()).chain(RULES.iter().map(|rule| rule.name));
        let names = names.chain(["spec", "linear", "arith", "equal", "offset", "cite"]);
        let names = names.chain(self.methods.keys().map(String::as_str)).chain(self.lemmas.all());
        Err(unknown(span.clone(), "theorem, rule, method or lemma", name, names))
    }

    fn rule(&mut self, span: &Span, rule: &Rule, arguments: &[Expr]) -> Made<Step> {
        let takes = format!("{} theorems and {} more", rule.premises, rule.takes.len());
        self.counts(span, rule.name, &takes, arguments, rule.premises + rule.takes.len())?;
        let (theorems, rest) = arguments.split_at(rule.premises);
        let premises = theorems.iter().map(|theorem| self.theorem(theorem)).collect::<Made<Vec<_>>>()?;
        let mut args = Vec::new();
        for (takes, argument) in rule.takes.iter().zip(rest) {
            args.push(match takes {
                Takes::Formula => Arg::Node(self.formula(argument)?),
                Takes::Term | Takes::Node => Arg::Node(self.term(argument)?),
                Takes::Set => Arg::Set(self.set_number(argument)?),
                Takes::Claim | Takes::Constant => {
                    // Claims have names, and constants of the proof's own are bound by the constructs.
                    let number = match (takes, &argument.kind) {
                        (Takes::Claim, Kind::Int(number)) => u32::try_from(*number).ok(),
                        (Takes::Constant, _) => {
                            let term = self.term(argument)?;
                            let Node { op, args } = self.kernel.terms.get(term);
                            (op == Op::Const).then_some(args[0])
                        }
                        _ => None,
                    };
                    let given = self.frame.as_ref().map_or(0, |frame| frame.given.len() as u32);
                    match (takes, number) {
                        (Takes::Claim, Some(number)) if number < given && rule.byte == rule::CLAIM => {
                            Arg::Claim(number)
                        }
                        (Takes::Constant, Some(number)) => Arg::Constant(number),
                        _ => return Err(self.fails(span.clone(), rule.name, Fault::NoSuchAssumption, &premises)),
                    }
                }
            });
        }
        self.step(span.clone(), rule.name, rule.byte, &premises, &args)
    }

    /// From ∀x … φ what φ says of these terms.
    fn specialise(&mut self, span: &Span, arguments: &[Expr]) -> Made<Step> {
        let [theorem, terms @ ..] = arguments else {
            return self.counts(span, "spec", "a theorem and terms", arguments, 2).map(|()| 0);
        };
        let mut shown = self.theorem(theorem)?;
        for term in terms {
            let term = self.term(term)?;
            shown = self.step(span.clone(), "spec", rule::SPECIALISE, &[shown], &[Arg::Node(term)])?;
        }
        Ok(shown)
    }

    /// Theorems, each with how often it is taken: `h`, `h * 2`, `h * -1`.
    fn multiples(&mut self, arguments: &[Expr]) -> Made<(Vec<Step>, Vec<i64>)> {
        let (mut premises, mut all) = (Vec::new(), Vec::new());
        for argument in arguments {
            let (theorem, times) = match &argument.kind {
                Kind::Binary(Op::Mul, theorem, times) => match times.kind {
                    Kind::Int(times) => (&**theorem, times),
                    _ => (argument, 1),
                },
                _ => (argument, 1),
            };
            premises.push(self.theorem(theorem)?);
            all.push(times);
        }
        Ok((premises, all))
    }

    /// The contradiction of inequalities; where it is not one, equations are tried the other way round.
    fn linear(&mut self, span: &Span, premises: &[Step], times: &[i64]) -> Made<Step> {
        let is_equation = |step: &Step| self.kernel.terms.get(self.derivation.says(*step)).op == Op::Eq;
        let equations: Vec<usize> = (0..premises.len()).filter(|i| is_equation(&premises[*i])).take(8).collect();
        let mut first = None;
        for turned in 0..1usize << equations.len() {
            let mut times = times.to_vec();
            for (bit, i) in equations.iter().enumerate() {
                if turned >> bit & 1 != 0 {
                    times[*i] = -times[*i];
                }
            }
            let args: Vec<Arg> = times.into_iter().map(Arg::Times).collect();
            match self.derivation.step(self.kernel, rule::LINEAR, premises, &args) {
                Ok(step) => return Ok(step),
                Err(fault) => {
                    first.get_or_insert(fault);
                }
            }
        }
        Err(self.fails(span.clone(), "linear", first.unwrap_or(Fault::NoContradiction), premises))
    }

    /// An inequality or its denial, because its opposite contradicts the theorems.
    fn arithmetic(&mut self, span: &Span, arguments: &[Expr]) -> Made<Step> {
        let [formula, rest @ ..] = arguments else {
            return self.counts(span, "arith", "a formula and theorems", arguments, 2).map(|()| 0);
        };
        let formula = self.formula(formula)?;
        let (mut premises, mut times) = self.multiples(rest)?;
        let Node { op, args } = self.kernel.terms.get(formula);
        let denied = op == Op::Not;
        let opposite = if denied { args[0] } else { self.make(span, "not", Op::Not, [formula, 0, 0, 0])? };
        let (claim, number) = self.assume(span, opposite)?;
        premises.push(claim);
        times.push(1);
        let absurd = self.linear(span, &premises, &times)?;
        self.refuted(span, "arith", absurd, number, denied)
    }

    /// From False under the assumption with this number: its denial, or what it denies.
    fn refuted(&mut self, span: &Span, name: &str, absurd: Step, number: u32, denied: bool) -> Made<Step> {
        let implies = self.step(span.clone(), name, rule::DISCHARGE, &[absurd], &[Arg::Claim(number)])?;
        let not = self.step(span.clone(), name, rule::NEGATE, &[implies], &[])?;
        if denied { Ok(not) } else { self.step(span.clone(), name, rule::DOUBLE_NEGATION, &[not], &[]) }
    }

    /// An equation that the given ones, used one after the other from left to right, make one of equal sides.
    fn equal(&mut self, span: &Span, arguments: &[Expr]) -> Made<Step> {
        let [formula, equations @ ..] = arguments else {
            return self.counts(span, "equal", "an equation and theorems", arguments, 2).map(|()| 0);
        };
        let formula = self.formula(formula)?;
        let opposite = self.make(span, "not", Op::Not, [formula, 0, 0, 0])?;
        let (claim, number) = self.assume(span, opposite)?;
        let mut denial = claim;
        for equation in equations {
            let equation = self.theorem(equation)?;
            denial = self.step(span.clone(), "equal", rule::CONGRUENCE, &[equation, denial], &[])?;
        }
        let same = self.kernel.terms.get(self.derivation.says(denial)).args[0];
        let Node { op, args } = self.kernel.terms.get(same);
        if op != Op::Eq || args[0] != args[1] {
            return Err(self.fails(span.clone(), "equal", Fault::WrongForm, &[denial]));
        }
        let holds = self.step(span.clone(), "equal", rule::REFLEXIVITY, &[], &[Arg::Node(args[0])])?;
        let absurd = self.step(span.clone(), "equal", rule::ABSURD, &[holds, denial], &[])?;
        self.refuted(span, "equal", absurd, number, false)
    }

    /// `offset(low, high, a, S)`, or `offset(base, low, high, a, S)`.
    fn offset(&mut self, span: &Span, arguments: &[Expr]) -> Made<Step> {
        if !matches!(arguments.len(), 4 | 5) {
            let takes = "two or three theorems, an address and a set";
            return self.counts(span, "offset", takes, arguments, usize::MAX).map(|()| 0);
        }
        let (theorems, rest) = arguments.split_at(arguments.len() - 2);
        let premises = theorems.iter().map(|theorem| self.theorem(theorem)).collect::<Made<Vec<_>>>()?;
        let args = [Arg::Node(self.term(&rest[0])?), Arg::Set(self.set_number(&rest[1])?)];
        self.step(span.clone(), "offset", rule::OFFSET, &premises, &args)
    }

    fn lemma(&mut self, span: &Span, name: &str, number: usize, arguments: &[Expr]) -> Made<Step> {
        let store = self.kernel.lemmas();
        let (Some(count), Some(open)) = (store.premises(number), store.open(number)) else {
            return Err(self.fails(span.clone(), name, Fault::NoSuchLemma, &[]));
        };
        self.counts(span, name, &format!("{count} theorems and {open} terms"), arguments, count + open)?;
        let (theorems, rest) = arguments.split_at(count);
        let premises = theorems.iter().map(|theorem| self.theorem(theorem)).collect::<Made<Vec<_>>>()?;
        let mut args = vec![Arg::Number(number as u32)];
        for term in rest {
            args.push(Arg::Node(self.term(term)?));
        }
        self.step(span.clone(), name, rule::LEMMA, &premises, &args)
    }

    fn method(&mut self, span: &Span, method: &MethodText, arguments: &[Expr]) -> Made<Step> {
        self.counts(span, &method.name.name, &method.parameters.len().to_string(), arguments, method.parameters.len())?;
        let mut values = Vec::new();
        for ((name, kind), argument) in method.parameters.iter().zip(arguments) {
            let value = if kind.name == "thm" {
                Value::Theorem(self.theorem(argument)?)
            } else {
                let (expected, term) = (self.sort(kind)?, self.term(argument)?);
                let found = self.kernel.terms.sort(term);
                if found != expected {
                    let (expected, found) = (self.names.sort(expected), self.names.sort(found));
                    return Err(ScriptError::new(argument.span.clone(), Cause::WrongSort { expected, found }));
                }
                Value::Term(term)
            };
            values.push((name.clone(), value));
        }
        if self.calls == CALLS_MAX {
            return Err(ScriptError::new(span.clone(), Cause::TooManySteps));
        }
        self.calls += 1;
        // A method sees its parameters, and of what is around its call nothing.
        let environment = std::mem::replace(&mut self.environment, values);
        let facts = std::mem::take(&mut self.facts);
        let shown = self.theorem(&method.body);
        (self.environment, self.facts) = (environment, facts);
        self.calls -= 1;
        // The error stands in the method; the reader looks at the call.
        shown.map_err(|error| ScriptError::new(span.clone(), error.cause))
    }
}

fn unknown<'n>(span: Span, what: &'static str, name: &str, names: impl Iterator<Item = &'n str>) -> ScriptError {
    let nearest = nearest(name, names);
    ScriptError::new(span, Cause::UnknownName { what, name: name.into(), nearest })
}

fn not_in_program(span: &Span, what: String) -> ScriptError {
    ScriptError::new(span.clone(), Cause::NotInProgram(what))
}

fn not_known(span: &Span, what: &str) -> ScriptError {
    ScriptError::new(span.clone(), Cause::NotKnown(what.into()))
}
