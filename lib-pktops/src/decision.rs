//! Decisions about headers and words, as reduced ordered diagrams (Bryant, "Graph-Based Algorithms for Boolean Function
//! Manipulation", 1986).
//!
//! A decision asks first about numbers in the headers, then about words, in rising order, each at most once, and two
//! decisions that always agree are one: so dead code, constant conditions and repeated groupings cost nothing when a
//! program runs. Diagrams can grow without need, so building them is bounded in nodes and in steps, and the caller has
//! another way when a bound is met.

use crate::contains_string::WordMask;
use std::collections::HashMap;

/// A decision: one of the two constants, or a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Decision(u32);

impl Decision {
    /// No, whatever the packet holds.
    pub(crate) const NO: Decision = Decision(0);
    /// Yes, whatever the packet holds.
    pub(crate) const YES: Decision = Decision(1);

    const fn of(value: bool) -> Decision {
        if value { Decision::YES } else { Decision::NO }
    }
}

/// Asks one question: those below [`Decisions::numbers`] are about numbers, the others about words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Node {
    question: u8,
    when: Decision,
    unless: Decision,
}

/// A bound was met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLarge;

/// Decisions that share their nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    nodes: Vec<Node>,
    /// For each node, the words that it or a node below asks about.
    support: Vec<WordMask>,
    /// How many questions are about numbers.
    numbers: u8,
}

impl Decisions {
    fn node(&self, decision: Decision) -> Option<Node> {
        (decision.0 as usize).checked_sub(2).and_then(|i| self.nodes.get(i)).copied()
    }
    /// The words that a decision depends on.
    #[inline]
    pub(crate) fn support(&self, decision: Decision) -> WordMask {
        (decision.0 as usize).checked_sub(2).map_or(0, |i| self.support[i])
    }
    /// The outcome, where `number` tells which tests of numbers pass, and `contains` which words are there. They are
    /// asked about few: one for each node on the way.
    #[inline]
    pub(crate) fn decide(
        &self,
        mut decision: Decision,
        mut number: impl FnMut(u8) -> bool,
        mut contains: impl FnMut(u8) -> bool,
    ) -> bool {
        while let Some(node) = self.node(decision) {
            let answer = match node.question.checked_sub(self.numbers) {
                Some(word) => contains(word),
                None => number(node.question),
            };
            decision = if answer { node.when } else { node.unless };
        }
        decision == Decision::YES
    }
}

/// Makes decisions.
pub(crate) struct Builder {
    decisions: Decisions,
    names: HashMap<Node, Decision>,
    known: HashMap<(Decision, Decision, Decision), Decision>,
    nodes_max: usize,
    steps_left: usize,
}

impl Builder {
    /// A maker of at most `nodes_max` nodes in at most `steps_max` steps, for `numbers` tests of numbers.
    pub(crate) fn new(nodes_max: usize, steps_max: usize, numbers: u8) -> Builder {
        Builder {
            decisions: Decisions { numbers, ..Decisions::default() },
            names: HashMap::new(),
            known: HashMap::new(),
            nodes_max,
            steps_left: steps_max,
        }
    }
    /// Ends the making.
    pub(crate) fn finish(self) -> Decisions {
        self.decisions
    }
    /// Whether the content contains the word.
    pub(crate) fn contains(&mut self, word: u8) -> Result<Decision, TooLarge> {
        let question = self.decisions.numbers.checked_add(word).ok_or(TooLarge)?;
        self.make(Node { question, when: Decision::YES, unless: Decision::NO })
    }
    /// Whether a test of a number passes.
    pub(crate) fn number(&mut self, test: u8) -> Result<Decision, TooLarge> {
        self.make(Node { question: test, when: Decision::YES, unless: Decision::NO })
    }
    /// The opposite.
    pub(crate) fn not(&mut self, a: Decision) -> Result<Decision, TooLarge> {
        self.choose(a, Decision::NO, Decision::YES)
    }
    /// Both.
    pub(crate) fn and(&mut self, a: Decision, b: Decision) -> Result<Decision, TooLarge> {
        self.choose(a, b, Decision::NO)
    }
    /// At least one.
    pub(crate) fn or(&mut self, a: Decision, b: Decision) -> Result<Decision, TooLarge> {
        self.choose(a, Decision::YES, b)
    }
    /// `when` where `test` holds, `unless` where it does not.
    pub(crate) fn choose(&mut self, test: Decision, when: Decision, unless: Decision) -> Result<Decision, TooLarge> {
        if test == Decision::YES || when == unless {
            return Ok(when);
        }
        if test == Decision::NO {
            return Ok(unless);
        }
        if when == Decision::of(true) && unless == Decision::of(false) {
            return Ok(test);
        }
        if let Some(&known) = self.known.get(&(test, when, unless)) {
            return Ok(known);
        }
        self.steps_left = self.steps_left.checked_sub(1).ok_or(TooLarge)?;
        // The first question that any of the three asks; `test` is no constant, so there is one.
        let question = [test, when, unless]
            .into_iter()
            .filter_map(|decision| self.decisions.node(decision))
            .map(|node| node.question)
            .min()
            .unwrap_or(0);
        let mut answered = |answer| {
            let half = |decision| self.half(decision, question, answer);
            let (test, when, unless) = (half(test), half(when), half(unless));
            self.choose(test, when, unless)
        };
        let (high, low) = (answered(true)?, answered(false)?);
        let made = self.make(Node { question, when: high, unless: low })?;
        self.known.insert((test, when, unless), made);
        Ok(made)
    }
    /// What is left of a decision when the answer to `question`, its first or one before, is known.
    fn half(&self, decision: Decision, question: u8, answer: bool) -> Decision {
        match self.decisions.node(decision) {
            Some(node) if node.question == question => {
                if answer {
                    node.when
                } else {
                    node.unless
                }
            }
            _ => decision,
        }
    }
    fn make(&mut self, node: Node) -> Result<Decision, TooLarge> {
        if node.when == node.unless {
            return Ok(node.when);
        }
        if let Some(&name) = self.names.get(&node) {
            return Ok(name);
        }
        if self.decisions.nodes.len() >= self.nodes_max {
            return Err(TooLarge);
        }
        let word = node.question.checked_sub(self.decisions.numbers).map_or(0, |word| 1 << word);
        let support = word | self.decisions.support(node.when) | self.decisions.support(node.unless);
        self.decisions.nodes.push(node);
        self.decisions.support.push(support);
        let name = Decision(self.decisions.nodes.len() as u32 + 1);
        self.names.insert(node, name);
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_functions_are_one_decision() {
        let mut b = Builder::new(100, 1000, 0);
        let (x, y, z) = (b.contains(0).unwrap(), b.contains(1).unwrap(), b.contains(2).unwrap());
        let left = {
            let or = b.or(y, z).unwrap();
            b.and(x, or).unwrap()
        };
        let right = {
            let xy = b.and(x, y).unwrap();
            let xz = b.and(z, x).unwrap();
            b.or(xz, xy).unwrap()
        };
        assert_eq!(left, right);
        let not = b.not(left).unwrap();
        assert_eq!(b.or(left, not), Ok(Decision::YES));
        assert_eq!(b.and(left, not), Ok(Decision::NO));
        let d = b.finish();
        assert_eq!(d.support(left), 0b111);
        for mask in 0..8u8 {
            let held = |word: u8| mask >> word & 1 != 0;
            let decide = |decision| d.decide(decision, |_| panic!("no number is asked about"), held);
            assert_eq!(decide(left), held(0) && (held(1) || held(2)));
            assert_eq!(decide(not), !(held(0) && (held(1) || held(2))));
        }
    }

    #[test]
    fn numbers_come_before_words_and_need_no_content() {
        let mut b = Builder::new(100, 1000, 2);
        let (word, number) = (b.contains(0).unwrap(), b.number(1).unwrap());
        let both = b.and(word, number).unwrap();
        let d = b.finish();
        assert_eq!((d.support(both), d.support(number)), (1, 0));
        assert!(!d.decide(both, |_| false, |_| panic!("the number decides")));
        assert!(d.decide(both, |test| test == 1, |word| word == 0));
        assert!(!d.decide(both, |test| test == 1, |_| false));
        let mut b = Builder::new(100, 1000, 200);
        assert_eq!(b.contains(56), Err(TooLarge), "there are 256 questions");
    }

    #[test]
    fn growth_is_bounded() {
        // The sum of products whose partners are far apart in the order needs 2^n nodes.
        let mut b = Builder::new(1000, 1 << 20, 0);
        let mut sum = Decision::NO;
        let outcome = (0..32).try_for_each(|i| {
            let (x, y) = (b.contains(i)?, b.contains(i + 32)?);
            let product = b.and(x, y)?;
            sum = b.or(sum, product)?;
            Ok(())
        });
        assert_eq!(outcome, Err(TooLarge));
        assert!(b.finish().nodes.len() <= 1000);
    }
}
