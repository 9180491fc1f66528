//! The search for proofs: for each obligation, close what is given under the rules that only take apart, then take
//! the goal apart, and split cases where nothing else helps.
//!
//! The logic is propositional over facts about addresses, so this search is short of complete only by its bounds.

use crate::NotProven;
use std::collections::BTreeMap;
use vinet_trusted::addr::PrefixSet;
use vinet_trusted::check::{Place, prop_tag, rule};
use vinet_trusted::logic::{ASSUMPTIONS_MAX, Facts, Prop, PropId, Props, Term};
use vinet_trusted::obligations::{Obligation, Obligations};
use vinet_trusted::program::Field;
use vinet_trusted::wire::Writer;

/// The most case splits inside one another.
const SPLITS_MAX: usize = 16;
/// The most things known at once.
const KNOWN_MAX: usize = 4096;
/// The most things known that an error tells.
const WORDS_MAX: usize = 6;
/// The most steps of the search for one obligation.
const STEPS_MAX: usize = 200_000;

/// Proves every obligation and puts the proofs behind one another.
pub fn prove_all(obligations: Obligations) -> Result<Vec<u8>, NotProven> {
    let Obligations { mut props, facts, list } = obligations;
    let mut proof = Writer::new();
    for (number, obligation) in list.iter().enumerate() {
        let mut search = Search {
            facts: &facts,
            props: &mut props,
            earlier: &list[..number],
            given: std::iter::once(obligation.member).chain(obligation.path.iter().copied()).collect(),
            names: 1 + obligation.path.len(),
            steps: 0,
        };
        let written = search.obligation(obligation).and_then(|steps| search.write(&mut proof, &steps));
        if written.is_none() {
            let (goal, known) = (search.words(obligation.goal), search.what_is_known());
            let place =
                Place { obligation: number, instr: obligation.instr, event: obligation.event, slot: obligation.slot };
            return Err(NotProven::NoProofFound { place, goal, known });
        }
        proof.byte(rule::DONE);
    }
    Ok(proof.finish())
}

/// An assumption, by a name that stays when steps are put together in another order.
type Name = usize;

/// A piece of a proof, before its assumptions are numbered.
#[derive(Clone)]
enum Piece {
    /// A byte as it will be written.
    Byte(u8),
    /// Opens an assumption.
    Assume(Name, PropId),
    /// Claims it.
    Claim(Name),
    /// Discharges it.
    Discharge(Name),
}

/// What puts one theorem on the stack.
type Steps = Vec<Piece>;

/// What has been derived, with the steps that put it on the stack.
type Known = BTreeMap<PropId, Steps>;

struct Search<'a> {
    facts: &'a Facts,
    props: &'a mut Props,
    earlier: &'a [Obligation],
    /// The propositions that the obligation gives; the first names are theirs.
    given: Vec<PropId>,
    /// How many names are used.
    names: usize,
    steps: usize,
}

/// Steps that take their premises from `parts`, in this order, and end with a rule.
fn join(parts: &[&[Piece]], rule: u8) -> Steps {
    let mut steps = parts.concat();
    steps.push(Piece::Byte(rule));
    steps
}

/// A rule and the number that belongs to it.
fn with_number(rule: u8, number: usize) -> Steps {
    let mut w = Writer::new();
    w.byte(rule);
    w.integer(number as u64);
    w.finish().into_iter().map(Piece::Byte).collect()
}

impl Search<'_> {
    fn obligation(&mut self, obligation: &Obligation) -> Option<Steps> {
        let known = self.close(Known::new(), self.claims());
        self.goal(&known, obligation.goal, 0)
    }

    fn claims(&self) -> Vec<(PropId, Steps)> {
        self.given.iter().enumerate().map(|(name, &prop)| (prop, vec![Piece::Claim(name)])).collect()
    }

    /// Closes `known` and `new` under the rules that take apart, keeping the shortest steps found for each.
    fn close(&mut self, mut known: Known, mut new: Vec<(PropId, Steps)>) -> Known {
        while let Some((prop, steps)) = new.pop() {
            self.steps += 1;
            if self.steps > STEPS_MAX || known.len() > KNOWN_MAX {
                break;
            }
            if known.get(&prop).is_some_and(|held| held.len() <= steps.len()) {
                continue;
            }
            known.insert(prop, steps.clone());
            match self.props.get(prop) {
                Prop::And(a, b) => {
                    new.push((a, join(&[&steps], rule::LEFT)));
                    new.push((b, join(&[&steps], rule::RIGHT)));
                }
                Prop::Member(version) => {
                    if let Some(fact) = self.facts.members[version as usize] {
                        new.push((fact, join(&[&steps], rule::UNFOLD)));
                    }
                    new.extend(self.citations(prop, &steps));
                }
                Prop::Same(a, b) => {
                    let turned = self.props.intern(Prop::Same(b, a));
                    new.push((turned, join(&[&steps], rule::SYMMETRY)));
                    for (&other, other_steps) in &known {
                        if let Prop::In(term, set) = self.props.get(other)
                            && term == a
                        {
                            let carried = self.props.intern(Prop::In(b, set));
                            new.push((carried, join(&[&steps, other_steps], rule::CARRY)));
                        }
                    }
                }
                Prop::In(term, set) => {
                    for (&other, other_steps) in &known {
                        if let Prop::Same(a, b) = self.props.get(other)
                            && term == a
                        {
                            let carried = self.props.intern(Prop::In(b, set));
                            new.push((carried, join(&[other_steps, &steps], rule::CARRY)));
                        }
                    }
                }
                Prop::Not(denied) => new.extend(self.denials(denied, &steps)),
                _ => {}
            }
        }
        known
    }

    /// What follows from the denial of a proposition: of a denial, the thing itself; of an either, both denials.
    fn denials(&mut self, denied: PropId, steps: &Steps) -> Vec<(PropId, Steps)> {
        match self.props.get(denied) {
            Prop::Not(twice) => vec![(twice, join(&[steps], rule::DOUBLE_NEGATION))],
            Prop::Or(a, b) => [(a, b, rule::EITHER_LEFT), (b, a, rule::EITHER_RIGHT)]
                .into_iter()
                .map(|(side, other, either)| {
                    let name = self.name();
                    let mut all = vec![Piece::Assume(name, side), Piece::Claim(name), Piece::Byte(either)];
                    all.extend(self.written(other));
                    all.extend(steps.iter().cloned());
                    all.extend([Piece::Byte(rule::ABSURD), Piece::Discharge(name), Piece::Byte(rule::NEGATE)]);
                    (self.props.intern(Prop::Not(side)), all)
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The goals of earlier obligations for the same set, where what was given there is given here.
    fn citations(&mut self, member: PropId, steps: &Steps) -> Vec<(PropId, Steps)> {
        let cited = |(number, earlier): (usize, &Obligation)| {
            (earlier.member == member && earlier.path.iter().all(|p| self.given.contains(p)))
                .then(|| (earlier.goal, join(&[&with_number(rule::CITE, number), steps], rule::MODUS_PONENS)))
        };
        self.earlier.iter().enumerate().filter_map(cited).collect()
    }

    fn name(&mut self) -> Name {
        self.names += 1;
        self.names - 1
    }

    /// Steps that leave `goal` on the stack.
    fn goal(&mut self, known: &Known, goal: PropId, splits: usize) -> Option<Steps> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return None;
        }
        self.directly(known, goal, splits)
            .or_else(|| self.by_contradiction(known, goal))
            .or_else(|| self.by_cases(known, goal, splits))
    }

    /// By what is known, or by taking the goal apart.
    fn directly(&mut self, known: &Known, goal: PropId, splits: usize) -> Option<Steps> {
        if let Some(steps) = known.get(&goal) {
            return Some(steps.clone());
        }
        match self.props.get(goal) {
            Prop::True => Some(vec![Piece::Byte(rule::TRUTH)]),
            Prop::False => self.contradiction(known),
            Prop::In(term, set) => self.narrower(known, term, set),
            Prop::And(a, b) => {
                let first = self.goal(known, a, splits)?;
                let second = self.goal(known, b, splits)?;
                Some(join(&[&first, &second], rule::BOTH))
            }
            Prop::Or(a, b) => {
                if let Some(steps) = self.directly(known, a, splits) {
                    return Some([join(&[&steps], rule::EITHER_LEFT), self.written(b)].concat());
                }
                let steps = self.directly(known, b, splits)?;
                Some([join(&[&steps], rule::EITHER_RIGHT), self.written(a)].concat())
            }
            Prop::Not(a) => {
                let no = self.props.intern(Prop::False);
                let steps = self.under(known, a, no, splits)?;
                Some(join(&[&steps], rule::NEGATE))
            }
            Prop::Implies(a, b) => self.under(known, a, b, splits),
            Prop::Member(_) | Prop::Answer(_) | Prop::Same(..) => None,
        }
    }

    /// That an address is in a set, from its being in a smaller one.
    fn narrower(&self, known: &Known, term: Term, set: u32) -> Option<Steps> {
        let wide = &self.facts.sets[set as usize];
        let (_, steps) = known
            .iter()
            .filter(|(prop, _)| match self.props.get(**prop) {
                Prop::In(t, narrow) => t == term && wide.includes(&self.facts.sets[narrow as usize]),
                _ => false,
            })
            .min_by_key(|(_, steps)| steps.len())?;
        Some([steps.clone(), with_number(rule::WIDEN, set as usize)].concat())
    }

    /// Steps that leave `premise → goal` on the stack.
    fn under(&mut self, known: &Known, premise: PropId, goal: PropId, splits: usize) -> Option<Steps> {
        let name = self.name();
        let more = self.close(known.clone(), vec![(premise, vec![Piece::Claim(name)])]);
        let steps = self.goal(&more, goal, splits)?;
        let mut all = vec![Piece::Assume(name, premise)];
        all.extend(steps);
        all.push(Piece::Discharge(name));
        Some(all)
    }

    /// Steps that leave False on the stack, by two things known that exclude each other.
    fn contradiction(&mut self, known: &Known) -> Option<Steps> {
        for (&prop, steps) in known {
            match self.props.get(prop) {
                Prop::False => return Some(steps.clone()),
                Prop::Not(denied) => {
                    if let Some(held) = self.plainly(known, denied) {
                        return Some(join(&[&held, steps], rule::ABSURD));
                    }
                }
                Prop::In(term, set) => {
                    for (&other, other_steps) in known.range(prop + 1..) {
                        if let Prop::In(t, s) = self.props.get(other)
                            && t == term
                            && self.facts.sets[set as usize].disjoint(&self.facts.sets[s as usize])
                        {
                            return Some(join(&[steps, other_steps], rule::APART));
                        }
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Steps for something that follows without a new assumption: what is known, put together or widened.
    fn plainly(&mut self, known: &Known, goal: PropId) -> Option<Steps> {
        if let Some(steps) = known.get(&goal) {
            return Some(steps.clone());
        }
        match self.props.get(goal) {
            Prop::True => Some(vec![Piece::Byte(rule::TRUTH)]),
            Prop::In(term, set) => self.narrower(known, term, set),
            Prop::And(a, b) => {
                let first = self.plainly(known, a)?;
                let second = self.plainly(known, b)?;
                Some(join(&[&first, &second], rule::BOTH))
            }
            Prop::Or(a, b) => {
                if let Some(steps) = self.plainly(known, a) {
                    return Some([join(&[&steps], rule::EITHER_LEFT), self.written(b)].concat());
                }
                let steps = self.plainly(known, b)?;
                Some([join(&[&steps], rule::EITHER_RIGHT), self.written(a)].concat())
            }
            _ => None,
        }
    }

    /// From a contradiction follows any goal: assume its opposite, and deny that.
    fn by_contradiction(&mut self, known: &Known, goal: PropId) -> Option<Steps> {
        let steps = self.contradiction(known)?;
        let name = self.name();
        let opposite = self.props.intern(Prop::Not(goal));
        let mut all = vec![Piece::Assume(name, opposite)];
        all.extend(steps);
        all.extend([Piece::Discharge(name), Piece::Byte(rule::NEGATE), Piece::Byte(rule::DOUBLE_NEGATION)]);
        Some(all)
    }

    /// By the two cases of something known.
    fn by_cases(&mut self, known: &Known, goal: PropId, splits: usize) -> Option<Steps> {
        if splits == SPLITS_MAX {
            return None;
        }
        for (&either, steps) in known {
            let Prop::Or(a, b) = self.props.get(either) else { continue };
            if known.contains_key(&a) || known.contains_key(&b) {
                continue;
            }
            let Some(first) = self.under(known, a, goal, splits + 1) else { continue };
            let Some(second) = self.under(known, b, goal, splits + 1) else { continue };
            return Some(join(&[steps, &first, &second], rule::CASES));
        }
        None
    }

    /// A proposition as a proof writes it.
    fn written(&self, prop: PropId) -> Steps {
        let mut w = Writer::new();
        self.write_prop(&mut w, prop);
        w.finish().into_iter().map(Piece::Byte).collect()
    }

    fn write_prop(&self, w: &mut Writer, prop: PropId) {
        let number = |w: &mut Writer, tag: u8, number: u32| {
            w.byte(tag);
            w.integer(u64::from(number));
        };
        let parts = match self.props.get(prop) {
            Prop::True => return w.byte(prop_tag::TRUE),
            Prop::False => return w.byte(prop_tag::FALSE),
            Prop::Member(version) => return number(w, prop_tag::MEMBER, version),
            Prop::Answer(answer) => return number(w, prop_tag::ANSWER, answer),
            Prop::In(term, set) => {
                w.byte(prop_tag::IN);
                write_term(w, term);
                return w.integer(u64::from(set));
            }
            Prop::Same(a, b) => {
                w.byte(prop_tag::SAME);
                write_term(w, a);
                return write_term(w, b);
            }
            Prop::Not(a) => (prop_tag::NOT, a, None),
            Prop::And(a, b) => (prop_tag::AND, a, Some(b)),
            Prop::Or(a, b) => (prop_tag::OR, a, Some(b)),
            Prop::Implies(a, b) => (prop_tag::IMPLIES, a, Some(b)),
        };
        w.byte(parts.0);
        self.write_prop(w, parts.1);
        if let Some(second) = parts.2 {
            self.write_prop(w, second);
        }
    }

    /// Writes steps with their assumptions numbered in the order in which they are opened. Nothing where there are more
    /// than a proof may open.
    fn write(&self, proof: &mut Writer, steps: &Steps) -> Option<()> {
        let mut numbers: BTreeMap<Name, usize> = (0..self.given.len()).map(|name| (name, name)).collect();
        let mut opened = self.given.len();
        for piece in steps {
            match *piece {
                Piece::Byte(byte) => proof.byte(byte),
                Piece::Assume(name, prop) => {
                    if opened == ASSUMPTIONS_MAX {
                        return None;
                    }
                    numbers.insert(name, opened);
                    opened += 1;
                    proof.byte(rule::ASSUME);
                    self.write_prop(proof, prop);
                }
                Piece::Claim(name) => {
                    proof.byte(rule::CLAIM);
                    proof.integer(numbers[&name] as u64);
                }
                Piece::Discharge(name) => {
                    proof.byte(rule::DISCHARGE);
                    proof.integer(numbers[&name] as u64);
                }
            }
        }
        Some(())
    }

    /// A proposition in words.
    fn words(&self, prop: PropId) -> String {
        let both = |a, b, word: &str| format!("({} {word} {})", self.words(a), self.words(b));
        match self.props.get(prop) {
            Prop::True => "anything holds".to_owned(),
            Prop::False => "nothing holds".to_owned(),
            Prop::Member(0) => "it is a packet of the window".to_owned(),
            Prop::Member(version) => format!("it is in set {version}"),
            Prop::Answer(answer) => format!("test {answer} of the content said yes"),
            Prop::In(term, set) => format!("{} is in {}", term_words(term), set_words(&self.facts.sets[set as usize])),
            Prop::Same(a, b) => format!("{} is {}", term_words(a), term_words(b)),
            Prop::Not(a) => format!("not ({})", self.words(a)),
            Prop::And(a, b) => both(a, b, "and"),
            Prop::Or(a, b) => both(a, b, "or"),
            Prop::Implies(a, b) => format!("if {} then {}", self.words(a), self.words(b)),
        }
    }

    /// What is known of the packets of the obligation, as far as it is about addresses.
    fn what_is_known(&mut self) -> String {
        let known = self.close(Known::new(), self.claims());
        let telling = |prop: &&PropId| {
            matches!(self.props.get(**prop), Prop::In(Term::Field(_), _) | Prop::Not(_) | Prop::Or(..))
        };
        let words: Vec<String> = known.keys().filter(telling).take(WORDS_MAX).map(|&p| self.words(p)).collect();
        if words.is_empty() { "they are packets of the window, to anyone".to_owned() } else { words.join(", and ") }
    }
}

fn write_term(w: &mut Writer, term: Term) {
    match term {
        Term::Field(Field::Src) => w.byte(0),
        Term::Field(Field::Dst) => w.byte(1),
        Term::Key(version) => {
            w.byte(2);
            w.integer(u64::from(version));
        }
    }
}

fn term_words(term: Term) -> &'static str {
    match term {
        Term::Field(Field::Src) => "the source",
        Term::Field(Field::Dst) => "the destination",
        Term::Key(_) => "the group's address",
    }
}

/// A set in words; only the beginning of a long one.
fn set_words(set: &PrefixSet) -> String {
    let prefixes = set.prefixes();
    match prefixes.len() {
        0..=4 => set.to_string(),
        n => format!("{{{}, {}, {} and {} more}}", prefixes[0], prefixes[1], prefixes[2], n - 3),
    }
}
