//! The control-flow graph of a program, and which definitions reach which instruction.
//!
//! A node is an instruction, by its number; one more stands for the end. What an instruction assigns is its definition
//! of a slot (Aho, Sethi, Ullman: reaching definitions; the paper, II-B).

use std::collections::BTreeSet;
use vinet_trusted::program::{Instr, Program, Slot};

/// Why control goes along an edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Edge {
    /// Whatever happened.
    Next,
    /// The condition of an if or while holds; a foreach has a group left.
    Yes,
    /// It does not; there is none.
    No,
}

/// The graph.
pub(super) struct Graph<'p> {
    /// The instructions, by their numbers.
    pub(super) instrs: Vec<&'p Instr>,
    /// Where control goes from each; the end is the last node.
    pub(super) next: Vec<Vec<(usize, Edge)>>,
    /// What each is inside of: the instruction, and which of its blocks.
    pub(super) inside: Vec<Option<(usize, usize)>>,
    /// For each node, the definitions that reach it: the instruction and the slot.
    reaching: Vec<BTreeSet<(usize, Slot)>>,
}

impl<'p> Graph<'p> {
    pub(super) fn of(program: &'p Program) -> Self {
        let mut graph = Graph { instrs: Vec::new(), next: Vec::new(), inside: Vec::new(), reaching: Vec::new() };
        graph.number(program.body(), None);
        let end = graph.instrs.len();
        graph.next = vec![Vec::new(); end + 1];
        graph.link(program.body(), 0, end);
        graph.reach();
        graph
    }

    fn number(&mut self, block: &'p [Instr], inside: Option<(usize, usize)>) {
        for instr in block {
            let number = self.instrs.len();
            self.instrs.push(instr);
            self.inside.push(inside);
            for (which, block) in instr.blocks().enumerate() {
                self.number(block, Some((number, which)));
            }
        }
    }

    /// Links the block that starts with instruction `number`; behind it comes `behind`. Gives where it starts.
    fn link(&mut self, block: &[Instr], number: usize, behind: usize) -> usize {
        let mut at = number;
        for (i, instr) in block.iter().enumerate() {
            let after = at + instr.count();
            let then = if i + 1 < block.len() { after } else { behind };
            self.next[at] = match instr {
                Instr::If { then: first, otherwise, .. } => {
                    let other = at + 1 + first.iter().map(Instr::count).sum::<usize>();
                    vec![(self.link(first, at + 1, then), Edge::Yes), (self.link(otherwise, other, then), Edge::No)]
                }
                Instr::Foreach { body, .. } | Instr::While { body, .. } => {
                    vec![(self.link(body, at + 1, at), Edge::Yes), (then, Edge::No)]
                }
                _ => vec![(then, Edge::Next)],
            };
            at = after;
        }
        if block.is_empty() { behind } else { number }
    }

    /// The slots that an instruction itself assigns.
    fn defines(&self, node: usize) -> Vec<Slot> {
        match self.instrs.get(node) {
            Some(Instr::Foreach { packets, key, .. }) => vec![*packets, *key],
            Some(instr) => instr.targets().collect(),
            None => Vec::new(),
        }
    }

    fn reach(&mut self) {
        self.reaching = vec![BTreeSet::new(); self.next.len()];
        let mut todo: BTreeSet<usize> = (0..self.next.len()).collect();
        while let Some(node) = todo.pop_first() {
            let defined = self.defines(node);
            let mut out = self.reaching[node].clone();
            out.retain(|(_, slot)| !defined.contains(slot));
            out.extend(defined.iter().map(|slot| (node, *slot)));
            for (next, _) in self.next[node].clone() {
                let before = self.reaching[next].len();
                self.reaching[next].extend(&out);
                if self.reaching[next].len() > before {
                    todo.insert(next);
                }
            }
        }
    }

    /// The instructions whose definitions of `slot` reach `node`.
    pub(super) fn definitions(&self, node: usize, slot: Slot) -> impl Iterator<Item = usize> {
        self.reaching[node].iter().filter(move |(_, s)| *s == slot).map(|(instr, _)| *instr)
    }

    /// Whether `inner` is inside `outer`.
    pub(super) fn is_inside(&self, inner: usize, outer: usize) -> bool {
        let mut at = self.inside[inner];
        while let Some((instr, _)) = at {
            if instr == outer {
                return true;
            }
            at = self.inside[instr];
        }
        false
    }

    /// Whether an instruction is in this block, or in one inside it.
    pub(super) fn is_inside_block(&self, instr: usize, block: Option<(usize, usize)>) -> bool {
        let Some(block) = block else { return true };
        let mut at = self.inside[instr];
        while let Some(around) = at {
            if around == block {
                return true;
            }
            at = self.inside[around.0];
        }
        false
    }

    /// The slots that are assigned inside a loop.
    pub(super) fn assigned_in(&self, instr: &Instr) -> BTreeSet<Slot> {
        fn collect(block: &[Instr], all: &mut BTreeSet<Slot>) {
            for instr in block {
                all.extend(instr.targets());
                instr.blocks().for_each(|block| collect(block, all));
            }
        }
        let mut all = BTreeSet::new();
        instr.blocks().for_each(|block| collect(block, &mut all));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_trusted::packet::Test;
    use vinet_trusted::program::{Cond, Expr, Field};

    fn select(out: Slot, arg: Slot) -> Instr {
        Instr::Select { out, arg, test: Test::Owns { field: Field::Dst } }
    }

    fn definitions(graph: &Graph<'_>, node: usize, slot: Slot) -> Vec<usize> {
        graph.definitions(node, slot).collect()
    }

    /// The paper's example: each argument has one definition.
    #[test]
    fn the_definitions_of_the_firewall_reach_its_calls() {
        let body = vec![select(1, 0), select(2, 1), Instr::Discard { arg: 2 }];
        let program = Program::new(1, 1, vec![], body).expect("a program");
        let graph = Graph::of(&program);
        assert_eq!(graph.next, [vec![(1, Edge::Next)], vec![(2, Edge::Next)], vec![(3, Edge::Next)], vec![]]);
        assert_eq!((definitions(&graph, 1, 1), definitions(&graph, 2, 2)), (vec![0], vec![1]));
        assert_eq!(definitions(&graph, 0, 1), []);
    }

    #[test]
    fn definitions_meet_behind_branches_and_at_heads_of_loops() {
        let zero = || Expr::Const { value: 0 };
        let body = vec![
            Instr::Let { out: 1, expr: zero() },
            Instr::If {
                cond: Cond::Empty { arg: 0 },
                then: vec![Instr::Let { out: 1, expr: zero() }],
                otherwise: vec![],
            },
            Instr::While {
                cond: Cond::AtMost { a: Expr::Slot { slot: 1 }, b: zero() },
                max: 3,
                body: vec![Instr::Let { out: 1, expr: zero() }],
            },
            Instr::Discard { arg: 0 },
        ];
        let program = Program::new(1, 1, vec![], body).expect("a program");
        let graph = Graph::of(&program);
        assert_eq!(graph.next[1], [(2, Edge::Yes), (3, Edge::No)]);
        assert_eq!(graph.next[3], [(4, Edge::Yes), (5, Edge::No)]);
        assert_eq!(graph.next[4], [(3, Edge::Next)]);
        assert_eq!(definitions(&graph, 3, 1), [0, 2, 4]);
        assert_eq!(definitions(&graph, 5, 1), [0, 2, 4]);
        assert!(graph.is_inside(4, 3) && !graph.is_inside(5, 3));
        assert!(graph.is_inside_block(4, Some((3, 0))) && !graph.is_inside_block(2, Some((1, 1))));
    }
}
