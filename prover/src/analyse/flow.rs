//! The data-flow analysis: what is known at each instruction, and what of it the policy allows.
//!
//! A worklist over the control-flow graph, with widening at the heads of loops and then narrowing; afterwards one pass
//! that judges every event.

use super::graph::{Edge, Graph};
use super::spans::Spans;
use super::state::{Lost, Sense, State, Stops, Tests, Value, counted};
use std::collections::BTreeSet;
use vinet_trusted::addr::{Addr, AddrExpr, PrefixSet, Principal, Unset};
use vinet_trusted::packet::Test;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Cond, Expr, Instr, Program, Slot, Type};
use vinet_trusted::walk;

/// How often the head of a loop is joined before it is widened.
const JOINS_BEFORE_WIDENING: usize = 2;
/// How often everything is made tighter again.
const NARROWINGS: usize = 2;

/// Whether what happens is known to be allowed, and if not, what was lost on the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    pub(super) lost: Lost,
}

/// A name that the owner has not, and the instruction that uses it; none where it is the policy.
pub(super) type Unnamed = (Option<usize>, Unset);

/// What the analysis found out.
pub(super) struct Flow<'a> {
    pub(super) graph: Graph<'a>,
    pub(super) sense: Sense<'a>,
    /// What is known before each instruction; nothing where it is never reached.
    pub(super) states: Vec<Option<State>>,
    /// The verdicts on what each instruction does, in order.
    pub(super) verdicts: Vec<Vec<Verdict>>,
    /// Which of the two blocks of an if are never run.
    pub(super) dead: Vec<[bool; 2]>,
}

struct Analysis<'a> {
    program: &'a Program,
    policy: &'a Policy,
    graph: Graph<'a>,
    sense: Sense<'a>,
    window: i64,
}

/// Analyses a program.
///
/// # Errors
/// [`Unnamed`].
pub(super) fn analyse<'a>(program: &'a Program, owner: &'a Principal, policy: &'a Policy) -> Result<Flow<'a>, Unnamed> {
    let graph = Graph::of(program);
    let sense = Sense { owner, tests: Tests::default() };
    let window = i64::from(walk::window(program, policy));
    let mut analysis = Analysis { program, policy, graph, sense, window };
    for test in [&policy.discard, &policy.group, &policy.scan, &policy.generate] {
        super::state::resolved(test, owner).map_err(|name| (None, name))?;
    }
    let states = analysis.fixpoint()?;
    let mut verdicts = vec![Vec::new(); analysis.graph.instrs.len()];
    let mut dead = vec![[false; 2]; analysis.graph.instrs.len()];
    for node in 0..analysis.graph.instrs.len() {
        if let Some(state) = &states[node] {
            let out = analysis.step(node, state, &mut verdicts[node]).map_err(|name| (Some(node), name))?;
            dead[node] = [out[0].is_none(), out[1].is_none()];
        }
    }
    Ok(Flow { graph: analysis.graph, sense: analysis.sense, states, verdicts, dead })
}

impl Analysis<'_> {
    fn fixpoint(&mut self) -> Result<Vec<Option<State>>, Unnamed> {
        let nodes = self.graph.next.len();
        let mut states: Vec<Option<State>> = vec![None; nodes];
        let mut joins = vec![0; nodes];
        states[0] = Some(State::at_start(self.program));
        let stops = self.stops();
        let mut todo = BTreeSet::from([0]);
        while let Some(node) = todo.pop_first() {
            for (next, state) in self.out(node, &states)? {
                let joined = match &states[next] {
                    None => state,
                    Some(old) => {
                        let joined = old.join(&state);
                        if joined == *old {
                            continue;
                        }
                        joins[next] += 1;
                        let is_loop =
                            matches!(self.graph.instrs.get(next), Some(Instr::While { .. } | Instr::Foreach { .. }));
                        if is_loop && joins[next] > JOINS_BEFORE_WIDENING { old.widen(joined, &stops) } else { joined }
                    }
                };
                if states[next].as_ref() != Some(&joined) {
                    states[next] = Some(joined);
                    todo.insert(next);
                }
            }
        }
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); nodes];
        for (node, next) in self.graph.next.iter().enumerate() {
            next.iter().for_each(|(next, _)| before[*next].push(node));
        }
        for _ in 0..NARROWINGS {
            for node in 0..nodes {
                let mut joined = (node == 0).then(|| State::at_start(self.program));
                for &from in &before[node] {
                    for (next, state) in self.out(from, &states)? {
                        if next == node {
                            joined = Some(joined.map_or(state.clone(), |old| old.join(&state)));
                        }
                    }
                }
                if let (Some(new), Some(old)) = (&mut joined, &states[node]) {
                    new.remember(old);
                }
                states[node] = joined;
            }
        }
        Ok(states)
    }

    fn stops(&self) -> Stops {
        let owner = self.sense.owner;
        let mut integers = BTreeSet::from([-1, 0, 1]);
        let mut sets = vec![Spans::from(&PrefixSet::new(vec![owner.owned()]))];
        // A name that the owner has not is found where it is used.
        let mut add = |set: &AddrExpr| sets.extend(set.resolve(owner).ok().map(|set| Spans::from(&set)));
        for test in [&self.policy.discard, &self.policy.group, &self.policy.scan, &self.policy.generate] {
            asked(test, &mut add);
        }
        mentioned(self.program.body(), &mut integers, &mut add);
        Stops { integers: integers.into_iter().collect(), sets }
    }

    /// What goes along the edges out of a node.
    fn out(&mut self, node: usize, states: &[Option<State>]) -> Result<Vec<(usize, State)>, Unnamed> {
        let Some(state) = &states[node] else { return Ok(Vec::new()) };
        let [yes, no] = self.step(node, state, &mut Vec::new()).map_err(|name| (Some(node), name))?;
        let along = |(next, edge): &(usize, Edge)| {
            let state = if *edge == Edge::No { &no } else { &yes };
            state.clone().map(|state| (*next, state))
        };
        Ok(self.graph.next[node].iter().filter_map(along).collect())
    }

    /// What is known behind an instruction: where its condition holds, or it has none, and where it does not.
    fn step(&mut self, node: usize, state: &State, verdicts: &mut Vec<Verdict>) -> Result<[Option<State>; 2], Unset> {
        let Some(&instr) = self.graph.instrs.get(node) else { return Ok([Some(state.clone()), None]) };
        let policy = self.policy;
        let mut out = state.clone();
        match instr {
            Instr::Select { out: target, arg, test } => {
                let from = state.packets(*arg);
                let mut passed = self.sense.pass(state, &from, test, true)?;
                passed.lost |= from.lost;
                out.assign(*target, Some(Value::Packets(passed)));
                verdicts.push(judge(&self.sense, &out, *target, &policy.group)?);
            }
            Instr::Partition { out: target, arg, field: _ } => {
                verdicts.push(judge(&self.sense, state, *arg, &policy.group)?);
                let all = state.packets(*arg);
                out.assign(*target, Some(Value::Packets(all)));
            }
            Instr::Content { dests, contents, arg } => {
                verdicts.push(judge(&self.sense, state, *arg, &policy.group)?);
                verdicts.push(judge(&self.sense, state, *arg, &policy.scan)?);
                out.assign(*dests, Some(Value::Data));
                out.assign(*contents, Some(Value::Data));
            }
            Instr::Union { out: target, a, b } => {
                let union = state.packets(*a).join(&state.packets(*b));
                out.assign(*target, Some(Value::Packets(union)));
            }
            Instr::Minus { out: target, a, b: _ } => {
                let mut left = state.packets(*a);
                left.lost |= super::state::SETS;
                out.assign(*target, Some(Value::Packets(left)));
            }
            Instr::Count { out: target, arg, word: _ } => {
                verdicts.push(judge(&self.sense, state, *arg, &policy.scan)?);
                out.assign(*target, Some(counted(i64::MAX)));
            }
            Instr::Size { out: target, arg: _ } => out.assign(*target, Some(counted(self.window))),
            Instr::Let { out: target, expr } => out.assign(*target, Some(Value::Int(state.value(expr)))),
            Instr::Offset { out: target, base, by } => {
                let ((base, lost), by) = (state.address(base, self.sense.owner)?, state.value(by));
                let moved = by.low.zip(by.high).and_then(|(low, high)| moved(&base, low, high));
                out.assign(*target, Some(Value::Addr(moved.unwrap_or_else(Spans::all), lost | by.lost)));
            }
            Instr::Discard { arg } => verdicts.push(judge(&self.sense, state, *arg, &policy.discard)?),
            Instr::Generate { src, dst, data: _ } => {
                let (src, dst) = (state.address(src, self.sense.owner)?, state.address(dst, self.sense.owner)?);
                let allowed = self.sense.all_pass_between(src.0, dst.0, &policy.generate)?;
                verdicts.push(Verdict { allowed, lost: src.1 | dst.1 });
            }
            Instr::If { cond, .. } | Instr::While { cond, .. } => {
                return self.sense.ask(state, cond, &mut |sense, state, slot| {
                    verdicts.push(judge(sense, state, slot, &policy.scan)?);
                    Ok(())
                });
            }
            Instr::Foreach { groups, packets, key, body: _ } => {
                let Type::Groups(field) = self.program.slots()[usize::from(*groups)] else {
                    return Ok([Some(out.clone()), Some(out)]);
                };
                let mut after = state.clone();
                after.assign(*packets, None);
                after.assign(*key, None);
                out.enter(*groups, field, *packets, *key);
                return Ok([Some(out), Some(after)]);
            }
        }
        Ok([Some(out), None])
    }
}

fn judge(sense: &Sense<'_>, state: &State, slot: Slot, allowed: &Test) -> Result<Verdict, Unset> {
    let packets = state.packets(slot);
    Ok(Verdict { allowed: sense.all_pass(&packets, allowed, true)?, lost: packets.lost })
}

/// All addresses from `low` to `high` behind those of `base`; none where one is outside its family.
fn moved(base: &Spans<Addr>, low: i64, high: i64) -> Option<Spans<Addr>> {
    let ends = base.spans().iter().map(|(first, last)| first.offset(low).zip(last.offset(high)));
    let ends: Vec<(Addr, Addr)> = ends.collect::<Option<_>>()?;
    ends.iter().all(|(first, last)| first <= last).then(|| Spans::of(ends))
}

/// Takes the integers and the sets of addresses of a program in.
fn mentioned(block: &[Instr], integers: &mut BTreeSet<i64>, sets: &mut dyn FnMut(&AddrExpr)) {
    fn of_expr(expr: &Expr, all: &mut BTreeSet<i64>) {
        match expr {
            Expr::Const { value } => all.extend([value.saturating_sub(1), *value, value.saturating_add(1)]),
            Expr::Slot { .. } => {}
            Expr::Add { a, b } | Expr::Sub { a, b } | Expr::Mul { a, b } => {
                of_expr(a, all);
                of_expr(b, all);
            }
        }
    }
    fn of_cond(cond: &Cond, all: &mut BTreeSet<i64>, sets: &mut dyn FnMut(&AddrExpr)) {
        match cond {
            Cond::AddrIn { addrs, .. } => sets(addrs),
            Cond::AtMost { a, b } | Cond::Equal { a, b } => {
                of_expr(a, all);
                of_expr(b, all);
            }
            Cond::Not { cond } => of_cond(cond, all, sets),
            Cond::And { a, b } | Cond::Or { a, b } => {
                of_cond(a, all, sets);
                of_cond(b, all, sets);
            }
            Cond::Contains { .. } | Cond::Empty { .. } | Cond::AddrIs { .. } => {}
        }
    }
    for instr in block {
        match instr {
            Instr::Select { test, .. } => asked(test, sets),
            Instr::Let { expr, .. } | Instr::Offset { by: expr, .. } => of_expr(expr, integers),
            Instr::If { cond, .. } | Instr::While { cond, .. } => of_cond(cond, integers, sets),
            _ => {}
        }
        instr.blocks().for_each(|block| mentioned(block, integers, sets));
    }
}

/// Takes the sets of addresses of a test in.
fn asked(test: &Test, sets: &mut dyn FnMut(&AddrExpr)) {
    match test {
        Test::In { addrs, .. } => sets(addrs),
        Test::Not { a } => asked(a, sets),
        Test::And { a, b } | Test::Or { a, b } => {
            asked(a, sets);
            asked(b, sets);
        }
        Test::True | Test::False | Test::Owns { .. } | Test::Is { .. } | Test::Number { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_moved_out_of_its_family_is_not_known() {
        let low = Spans::of(vec![(Addr::V4(0), Addr::V4(3))]);
        assert_eq!(moved(&low, 1, 2), Some(Spans::of(vec![(Addr::V4(1), Addr::V4(5))])));
        assert_eq!(moved(&low, -1, 2), None);
    }
}
