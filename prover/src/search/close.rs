//! What follows from what is known by taking it apart, and by putting two known things together.

use super::step::{Operand, Proof, Step};
use super::{KNOWN_MAX, Known, Search};
use std::collections::{BTreeMap, BTreeSet};
use vinet_trusted::proof::rule;
use vinet_trusted::term::{Id, Node, Op, sort};

/// The most things that a statement about everything is applied to.
const INSTANCES_MAX: usize = 6;

/// What has yet to be looked at, the cheapest first.
#[derive(Default)]
struct Queue {
    all: BTreeMap<(usize, usize), Proof>,
    count: usize,
}

impl Queue {
    fn extend(&mut self, new: Vec<Proof>) {
        for proof in new {
            self.all.insert((proof.bytes, self.count), proof);
            self.count += 1;
        }
    }
}

impl Search<'_> {
    /// Closes `known` and `new` under the rules that take apart, keeping the shortest steps found for each.
    pub(super) fn close(&mut self, known: &Known, new: Vec<Proof>) -> Known {
        let mut known = known.clone();
        let mut queue = Queue::default();
        queue.extend(new);
        loop {
            while let Some((_, proof)) = queue.all.pop_first() {
                self.steps += 1;
                if self.tired() || known.facts.len() >= KNOWN_MAX {
                    return known;
                }
                if known.facts.get(&proof.says).is_some_and(|held| held.bytes <= proof.bytes) {
                    continue;
                }
                queue.extend(self.taken_apart(&proof));
                known.facts.insert(proof.says, proof);
            }
            let mut more = self.put_together(&known);
            more.retain(|proof| known.facts.get(&proof.says).is_none_or(|held| held.bytes > proof.bytes));
            if more.is_empty() {
                return known;
            }
            queue.extend(more);
        }
    }

    /// What the program says of the integers, addresses and answers that are spoken of.
    pub(super) fn facts_of(&mut self, id: Id) -> Vec<Proof> {
        let mut numbers = BTreeSet::new();
        let mut todo = vec![id];
        let mut seen = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            let node = self.get(id);
            if node.op == Op::Const {
                numbers.insert(node.args[0]);
            }
            todo.extend(self.kernel.terms.children(node).map(|child| node.args[child]));
        }
        numbers.into_iter().filter_map(|n| self.rule(rule::FACT, &[], vec![Operand::Number(n)])).collect()
    }

    fn taken_apart(&mut self, proof: &Proof) -> Vec<Proof> {
        let mut new: Vec<Proof> = Vec::new();
        let Node { op, args: [a, b, ..] } = self.get(proof.says);
        let rules: &[u8] = match op {
            Op::And => &[rule::LEFT, rule::RIGHT],
            Op::In if self.get(b).op != Op::Set => &[rule::UNFOLD],
            Op::Eq if a != b => &[rule::SYMMETRY],
            Op::Iff => &[rule::THERE, rule::BACK],
            Op::Not if self.get(a).op == Op::Not => &[rule::DOUBLE_NEGATION],
            _ => &[],
        };
        for rule in rules {
            new.extend(self.rule(*rule, &[proof], Vec::new()));
        }
        // One thing or the same.
        if op == Op::Or && a == b {
            let same = self.under(a, |_, claim| Some(claim));
            new.extend(same.and_then(|same| self.rule(rule::CASES, &[proof, &same, &same], Vec::new())));
        }
        if op == Op::In {
            new.extend(self.citations(proof, a, b));
        }
        if op == Op::Not
            && let Node { op: Op::Or, args: [x, y, ..] } = self.get(a)
        {
            new.extend(self.denied(proof, x, y, rule::EITHER_LEFT));
            new.extend(self.denied(proof, y, x, rule::EITHER_RIGHT));
        }
        new.extend(self.facts_of(proof.says));
        new
    }

    /// From ¬(A ∨ B) follows ¬A, and so ¬B.
    fn denied(&mut self, proof: &Proof, side: Id, other: Id, either: u8) -> Option<Proof> {
        self.deny(side, |search, claim| {
            let either = search.rule(either, &[&claim], vec![Operand::Term(other)])?;
            search.rule(rule::ABSURD, &[&either, proof], Vec::new())
        })
    }

    /// What earlier obligations showed of the packets of the set.
    fn citations(&mut self, proof: &Proof, packet: Id, set: Id) -> Vec<Proof> {
        let arbitrary = self.kernel.terms.constant(vinet_trusted::term::PACKET);
        let Ok(arbitrary) = arbitrary else { return Vec::new() };
        let cited: Vec<_> = self.cited.iter().filter(|cited| cited.set == Some(set)).copied().collect();
        let mut new = Vec::new();
        for cited in cited {
            if let Ok(says) = self.kernel.terms.replace(cited.goal, arbitrary, packet) {
                let operands = vec![Operand::Number(cited.number)];
                new.push(Step::rule(&self.kernel.terms, says, rule::CITE, vec![Proof::clone(proof)], operands));
            }
        }
        new
    }

    fn put_together(&mut self, known: &Known) -> Vec<Proof> {
        let mut new: Vec<Proof> = Vec::new();
        for proof in known.all() {
            if self.tired() {
                break;
            }
            let Node { op, args: [a, b, ..] } = self.get(proof.says);
            match op {
                Op::Implies => new.extend(self.applied(known, &proof, a, b)),
                Op::Not => new.extend(self.denial(known, &proof, a)),
                Op::Or if !known.has(a) && !known.has(b) => new.extend(self.settled(known, &proof, a, b)),
                Op::Forall => new.extend(self.instances(known, &proof, a as u8, b)),
                Op::Eq if self.kernel.terms.sort(a) == sort::ADDR => new.extend(self.carried(known, &proof, a)),
                _ => {}
            }
        }
        new.extend(self.by_lemmas(known));
        new
    }

    /// From A → B and A follows B; with ¬B, ¬A.
    fn applied(&mut self, known: &Known, proof: &Proof, a: Id, b: Id) -> Option<Proof> {
        if !known.has(b)
            && let Some(premise) = self.plainly(known, a)
        {
            return self.rule(rule::MODUS_PONENS, &[proof, &premise], Vec::new());
        }
        let (not_a, not_b) = (self.node(Op::Not, a, 0)?, self.node(Op::Not, b, 0)?);
        if known.has(not_a) || known.has(a) {
            return None;
        }
        let denied = match known.get(not_b) {
            Some(denied) => denied,
            None if matches!(self.get(b).op, Op::Le | Op::Eq) => self.refuted(known, b)?,
            None => return None,
        };
        self.deny(a, |search, claim| {
            let follows = search.rule(rule::MODUS_PONENS, &[proof, &claim], Vec::new())?;
            search.rule(rule::ABSURD, &[&follows, &denied], Vec::new())
        })
    }

    /// What follows from the denial of two things, one of which holds, and from not being in a set.
    fn denial(&mut self, known: &Known, proof: &Proof, denied: Id) -> Vec<Proof> {
        let mut new = Vec::new();
        let Node { op, args: [a, b, ..] } = self.get(denied);
        match op {
            Op::And => {
                for (held, other, held_first) in [(a, b, true), (b, a, false)] {
                    let Some(not) = self.node(Op::Not, other, 0) else { continue };
                    if known.has(not) {
                        continue;
                    }
                    let Some(held) = self.plainly(known, held) else { continue };
                    new.extend(self.deny(other, |search, claim| {
                        let both = if held_first { [&held, &claim] } else { [&claim, &held] };
                        let both = search.rule(rule::BOTH, &both, Vec::new())?;
                        search.rule(rule::ABSURD, &[&both, proof], Vec::new())
                    }));
                }
            }
            Op::In if self.get(b).op != Op::Set => {
                let claim = Step::claim(0, denied);
                if let Some(fact) = self.concluded(rule::UNFOLD, &[claim], &[])
                    && let Some(not) = self.node(Op::Not, fact, 0)
                    && !known.has(not)
                {
                    new.extend(self.deny(fact, |search, claim| {
                        let folded = search.rule(rule::FOLD, &[&claim], vec![Operand::Term(a), Operand::Term(b)])?;
                        search.rule(rule::ABSURD, &[&folded, proof], Vec::new())
                    }));
                }
            }
            // Of two integers that are not equal one is the lesser: by the lemma that they are equal otherwise.
            Op::Eq if self.kernel.terms.sort(a) == sort::INT => {
                for (less, more) in [(a, b), (b, a)] {
                    let Some(at_most) = self.node(Op::Le, less, more) else { continue };
                    let Some(at_least) = self.node(Op::Le, more, less) else { continue };
                    let not = self.node(Op::Not, at_least, 0);
                    if not.is_none_or(|not| known.has(not)) || self.index.is_empty() {
                        continue;
                    }
                    let Some(shown) = self.inequality(known, at_most) else { continue };
                    new.extend(self.deny(at_least, |search, claim| {
                        let mut more = known.clone();
                        more.facts.insert(claim.says, claim);
                        more.facts.insert(shown.says, shown);
                        let same = search.by_lemma_to(&more, denied, true)?;
                        search.rule(rule::ABSURD, &[&same, proof], Vec::new())
                    }));
                }
            }
            _ => {}
        }
        new
    }

    /// From A ∨ B and what refutes the one follows the other.
    fn settled(&mut self, known: &Known, proof: &Proof, a: Id, b: Id) -> Option<Proof> {
        for (side, other, is_first) in [(a, b, true), (b, a, false)] {
            let gone = self.under(side, |search, claim| {
                let never = search.contradicts(known, &claim)?;
                search.explode(other, never)
            });
            let Some(gone) = gone else { continue };
            let kept = self.under(other, |_, claim| Some(claim))?;
            let cases = if is_first { [proof, &gone, &kept] } else { [proof, &kept, &gone] };
            return self.rule(rule::CASES, &cases, Vec::new());
        }
        None
    }

    /// What holds of everything holds of the things that are spoken of.
    fn instances(&mut self, known: &Known, proof: &Proof, of: u8, body: Id) -> Vec<Proof> {
        let mut new = Vec::new();
        for term in self.mentioned(known, of).into_iter().take(INSTANCES_MAX) {
            let Ok(instance) = self.kernel.terms.open(body, term) else { break };
            if !known.has(instance) {
                new.extend(self.rule(rule::SPECIALISE, &[proof], vec![Operand::Term(term)]));
            }
        }
        new
    }

    /// What is known of an address holds of one that it is.
    fn carried(&mut self, known: &Known, same: &Proof, a: Id) -> Vec<Proof> {
        let mut new = Vec::new();
        for proof in known.all() {
            let Node { op, args } = self.get(proof.says);
            let about = match op {
                Op::In | Op::Eq => args[0],
                Op::Not if matches!(self.get(args[0]).op, Op::In | Op::Eq) => self.get(args[0]).args[0],
                _ => continue,
            };
            if about == a && proof.says != same.says {
                new.extend(self.rule(rule::CONGRUENCE, &[same, &proof], Vec::new()));
            }
        }
        new
    }
}
