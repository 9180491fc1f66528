//! The rules by their names, applied to theorems: what the bytes of a proof do, one step at a time.

use vinet_trusted::logic::{Fault, Kernel, Theorem};
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Op};

/// What a step holds besides its premises.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Arg {
    /// A term or formula.
    Node(Id),
    /// A set that is written out, by its number.
    Set(u32),
    /// The number of a claim.
    Claim(u32),
    /// The number of a constant.
    Constant(u32),
    /// The number of an obligation or a lemma.
    Number(u32),
    /// How often a theorem is taken.
    Times(i64),
}

/// What kind of argument a rule takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Takes {
    Formula,
    Term,
    /// Either.
    Node,
    Set,
    Claim,
    Constant,
}

/// A rule that takes so many theorems and such arguments. In the text the arguments stand behind the theorems.
pub(crate) struct Rule {
    pub byte: u8,
    pub name: &'static str,
    pub premises: usize,
    pub takes: &'static [Takes],
}

const fn of(byte: u8, name: &'static str, premises: usize, takes: &'static [Takes]) -> Rule {
    Rule { byte, name, premises, takes }
}

/// All rules with a fixed number of premises. CITE, LEMMA, OFFSET and LINEAR have as many as it takes.
pub(crate) const RULES: [Rule; 36] = {
    use Takes::*;
    [
        of(rule::CLAIM, "claim", 0, &[Claim]),
        of(rule::UNFOLD, "unfold", 1, &[]),
        of(rule::LEFT, "left", 1, &[]),
        of(rule::RIGHT, "right", 1, &[]),
        of(rule::WIDEN, "widen", 1, &[Set]),
        of(rule::MODUS_PONENS, "mp", 2, &[]),
        of(rule::BOTH, "both", 2, &[]),
        of(rule::EITHER_LEFT, "either-left", 1, &[Formula]),
        of(rule::EITHER_RIGHT, "either-right", 1, &[Formula]),
        of(rule::CASES, "cases", 3, &[]),
        of(rule::DISCHARGE, "discharge", 1, &[Claim]),
        of(rule::ABSURD, "absurd", 2, &[]),
        of(rule::NEGATE, "negate", 1, &[]),
        of(rule::DOUBLE_NEGATION, "double-negation", 1, &[]),
        of(rule::TRUTH, "truth", 0, &[]),
        of(rule::APART, "apart", 2, &[]),
        of(rule::SYMMETRY, "symmetry", 1, &[]),
        of(rule::CONGRUENCE, "congruence", 2, &[]),
        of(rule::EQUIVALENCE, "equivalence", 2, &[]),
        of(rule::THERE, "there", 1, &[]),
        of(rule::BACK, "back", 1, &[]),
        of(rule::SPECIALISE, "specialise", 1, &[Term]),
        of(rule::GENERALISE, "generalise", 1, &[Constant]),
        of(rule::EXISTS, "exists", 1, &[Formula, Term]),
        of(rule::WITNESS, "witness", 2, &[]),
        of(rule::NATURALS, "naturals", 2, &[Formula]),
        of(rule::LISTS, "lists", 2, &[Formula]),
        of(rule::REFLEXIVITY, "reflexivity", 0, &[Term]),
        of(rule::TRANSITIVITY, "transitivity", 2, &[]),
        of(rule::FOLD, "fold", 1, &[Term, Term]),
        of(rule::FACT, "fact", 0, &[Constant]),
        of(rule::DEFINE, "define", 0, &[Node]),
        of(rule::EVALUATE, "evaluate", 0, &[Formula]),
        of(rule::SPLIT, "split", 1, &[Set, Set]),
        of(rule::BOUNDS, "bounds", 1, &[]),
        of(rule::ENCLOSE, "enclose", 2, &[Set]),
    ]
};

/// The name of any rule.
pub(crate) fn name_of(byte: u8) -> &'static str {
    match byte {
        rule::CITE => "cite",
        rule::LEMMA => "lemma",
        rule::OFFSET => "offset",
        rule::LINEAR => "linear",
        _ => RULES.iter().find(|rule| rule.byte == byte).map_or("?", |rule| rule.name),
    }
}

/// The theorem that a step makes.
pub(crate) fn apply(kernel: &mut Kernel<'_>, byte: u8, premises: &[Theorem], args: &[Arg]) -> Result<Theorem, Fault> {
    let node = |i: usize| match args.get(i) {
        Some(Arg::Node(id)) => Ok(*id),
        _ => Err(Fault::WrongForm),
    };
    let number = |i: usize| match args.get(i) {
        Some(Arg::Claim(n) | Arg::Constant(n) | Arg::Number(n)) => Ok(*n),
        _ => Err(Fault::WrongForm),
    };
    let set = |kernel: &mut Kernel<'_>, i: usize| match args.get(i) {
        Some(Arg::Set(n)) => Ok(kernel.terms.node(Op::Set, *n, 0)?),
        _ => Err(Fault::WrongForm),
    };
    match (byte, premises) {
        (rule::CLAIM, []) => kernel.claim(number(0)? as usize),
        (rule::UNFOLD, [a]) => kernel.unfold(*a),
        (rule::LEFT, [a]) => kernel.left(*a),
        (rule::RIGHT, [a]) => kernel.right(*a),
        (rule::WIDEN, [a]) => {
            let set = set(kernel, 0)?;
            kernel.widen(*a, set)
        }
        (rule::CITE, _) => kernel.cite(number(0)? as usize, premises.first().copied()),
        (rule::MODUS_PONENS, [a, b]) => kernel.modus_ponens(*a, *b),
        (rule::BOTH, [a, b]) => kernel.both(*a, *b),
        (rule::EITHER_LEFT, [a]) => kernel.either_left(*a, node(0)?),
        (rule::EITHER_RIGHT, [a]) => kernel.either_right(node(0)?, *a),
        (rule::CASES, [a, b, c]) => kernel.cases(*a, *b, *c),
        (rule::DISCHARGE, [a]) => kernel.discharge(number(0)? as usize, *a),
        (rule::ABSURD, [a, b]) => kernel.absurd(*a, *b),
        (rule::NEGATE, [a]) => kernel.negate(*a),
        (rule::DOUBLE_NEGATION, [a]) => kernel.double_negation(*a),
        (rule::TRUTH, []) => kernel.truth(),
        (rule::APART, [a, b]) => kernel.apart(*a, *b),
        (rule::SYMMETRY, [a]) => kernel.symmetry(*a),
        (rule::CONGRUENCE, [a, b]) => kernel.congruence(*a, *b),
        (rule::EQUIVALENCE, [a, b]) => kernel.equivalence(*a, *b),
        (rule::THERE, [a]) => kernel.there(*a),
        (rule::BACK, [a]) => kernel.back(*a),
        (rule::SPECIALISE, [a]) => kernel.specialise(*a, node(0)?),
        (rule::GENERALISE, [a]) => kernel.generalise(*a, number(0)?),
        (rule::EXISTS, [a]) => kernel.exists(*a, node(0)?, node(1)?),
        (rule::WITNESS, [a, b]) => kernel.witness(*a, *b),
        (rule::NATURALS, [a, b]) => kernel.naturals(*a, *b, node(0)?),
        (rule::LISTS, [a, b]) => kernel.lists(*a, *b, node(0)?),
        (rule::REFLEXIVITY, []) => kernel.reflexivity(node(0)?),
        (rule::TRANSITIVITY, [a, b]) => kernel.transitivity(*a, *b),
        (rule::FOLD, [a]) => kernel.fold(*a, node(0)?, node(1)?),
        (rule::FACT, []) => kernel.fact(number(0)?),
        (rule::DEFINE, []) => kernel.define(node(0)?),
        (rule::LEMMA, _) => {
            let more = (1..args.len()).map(node).collect::<Result<Vec<_>, _>>()?;
            kernel.lemma(number(0)? as usize, premises, &more)
        }
        (rule::EVALUATE, []) => kernel.evaluate(node(0)?),
        (rule::SPLIT, [a]) => {
            let (first, second) = (set(kernel, 0)?, set(kernel, 1)?);
            kernel.split(*a, first, second)
        }
        (rule::BOUNDS, [a]) => kernel.bounds(*a),
        (rule::ENCLOSE, [a, b]) => {
            let set = set(kernel, 0)?;
            kernel.enclose(*a, *b, set)
        }
        // The base, where there is one, lies deepest: the bounds are taken off first.
        (rule::OFFSET, [base @ .., low, high]) if base.len() <= 1 => {
            let set = set(kernel, 1)?;
            kernel.offset(*low, *high, base.first().copied(), node(0)?, set)
        }
        (rule::LINEAR, _) => {
            let times = args.iter().map(|arg| match arg {
                Arg::Times(times) => Ok(*times),
                _ => Err(Fault::WrongForm),
            });
            let times = times.collect::<Result<Vec<_>, _>>()?;
            if times.len() != premises.len() {
                return Err(Fault::WrongForm);
            }
            kernel.linear(&premises.iter().copied().zip(times).collect::<Vec<_>>())
        }
        _ => Err(Fault::WrongForm),
    }
}

/// Why a step does not follow, in words.
pub(crate) fn fault_words(fault: Fault) -> String {
    match fault {
        Fault::WrongForm => "its premises or arguments have another form".into(),
        Fault::Term(fault) => term_fault_words(fault).into(),
        Fault::NoSuchAssumption => "there is no such claim".into(),
        Fault::TooManyAssumptions => {
            format!("more than {} assumptions", vinet_trusted::logic::ASSUMPTIONS_MAX)
        }
        Fault::NoFact => "there is no definition that says what is in it".into(),
        Fault::NotArbitrary => "an assumption that is still open speaks of what was picked".into(),
        Fault::NotShown => "no such obligation has been shown on the way to here".into(),
        Fault::NotWithin => "the first set is not within the second".into(),
        Fault::NotApart => "the two sets have a member in common".into(),
        Fault::NoContradiction => "the inequalities do not add up to a contradiction".into(),
        Fault::Overflow => "an integer leaves its range".into(),
        Fault::NoSuchLemma => "there is no such lemma".into(),
        Fault::LemmaDoesNotMatch => "the lemma's premises are others".into(),
    }
}

pub(crate) fn term_fault_words(fault: vinet_trusted::term::TermFault) -> &'static str {
    use vinet_trusted::term::TermFault;
    match fault {
        TermFault::IllSorted => "the sorts do not fit",
        TermFault::TooManyNodes => "there are more terms than one check may have",
        TermFault::TooHigh => "it is nested too deep",
        TermFault::TooMuchWork => "it is more work than the proof's length allows",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_one_name_and_one_byte() {
        for (i, a) in RULES.iter().enumerate() {
            for b in &RULES[..i] {
                assert!(a.byte != b.byte && a.name != b.name, "{}", a.name);
            }
        }
        // With CITE, LEMMA, OFFSET and LINEAR all that the checker knows, but DONE, ASSUME, PICK and COPY.
        assert_eq!(RULES.len() + 4 + 4, usize::from(rule::COPY) + 1);
    }
}
