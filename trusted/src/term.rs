//! Terms and formulas: many-sorted first-order logic with equality.
//!
//! A [`Terms`] keeps every term and formula once, so that equal ones have equal numbers. Variables are counted from the
//! inside out (de Bruijn), so that formulas which differ in the names of bound variables alone are equal too. Every node
//! is well-sorted: [`Terms::make`] makes no other. `docs/PROOF.md` has the table of operations.

use crate::addr::{Addr, PrefixSet};
use crate::packet::{Number, Ranges};
use alloc::vec::Vec;

/// A term or formula, by its number in a [`Terms`].
pub type Id = u32;
/// What a term stands for one of; those in [`sort`], and those that a lemma declares.
pub type Sort = u8;

/// The sorts.
pub mod sort {
    use super::Sort;
    /// Formulas.
    pub const BOOL: Sort = 0;
    /// Addresses.
    pub const ADDR: Sort = 1;
    /// Sets of addresses; prefixes are such.
    pub const ADDRS: Sort = 2;
    /// Integers, of any size; literals have 64 bits.
    pub const INT: Sort = 3;
    /// Sets of integers.
    pub const NUMBERS: Sort = 4;
    /// What packets hold.
    pub const CONTENT: Sort = 5;
    /// Packets.
    pub const PACKET: Sort = 6;
    /// Sets of packets.
    pub const PACKETS: Sort = 7;
    /// Partitions of sets of packets.
    pub const GROUPS: Sort = 8;
    /// Finite lists of packets.
    pub const LIST: Sort = 9;
    /// The first of the sorts that lemmas may declare, of which nothing is known.
    pub const DECLARED: Sort = 16;
    /// The last of them.
    pub const LAST: Sort = 31;
}

/// The most nodes of one check.
pub const NODES_MAX: usize = 9_216;
/// The deepest nesting of a term or formula.
pub const HEIGHT_MAX: u8 = 200;

/// What stands at a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // The groups say what they are; docs/PROOF.md says what each means.
#[repr(u8)]
pub enum Op {
    // Leaves; their arguments are numbers.
    Var,
    Const,
    Slot,
    Int,
    Addr,
    Set,
    // A declared symbol, and up to three arguments.
    Symbol,
    // Terms about packets, integers, addresses.
    Src,
    Dst,
    Num,
    Content,
    Add,
    Sub,
    Mul,
    Offset,
    // Sets of packets and of addresses, groups, lists.
    Empty,
    Union,
    Inter,
    Minus,
    From,
    To,
    BySrc,
    ByDst,
    Group,
    Nil,
    Cons,
    Append,
    Len,
    // Formulas.
    True,
    False,
    Not,
    And,
    Or,
    Implies,
    Iff,
    Forall,
    Exists,
    Unique,
    Eq,
    In,
    Le,
    Subset,
}

impl Op {
    /// All of them, each at the byte that it is written as.
    #[rustfmt::skip]
    pub const ALL: [Op; 42] = {
        use Op::*;
        [
            Var, Const, Slot, Int, Addr, Set, Symbol, Src, Dst, Num, Content, Add, Sub, Mul, Offset, Empty, Union,
            Inter, Minus, From, To, BySrc, ByDst, Group, Nil, Cons, Append, Len, True, False, Not, And, Or, Implies,
            Iff, Forall, Exists, Unique, Eq, In, Le, Subset,
        ]
    };
    /// Whether it binds a variable in its second argument; the first is the variable's sort.
    #[must_use]
    pub const fn is_binder(self) -> bool {
        matches!(self, Op::Forall | Op::Exists | Op::Unique)
    }
    /// Which of the arguments are nodes: from the first to before the second. A symbol's are as many as it has.
    #[must_use]
    pub const fn children(self) -> (usize, usize) {
        match self {
            Op::Var
            | Op::Const
            | Op::Slot
            | Op::Int
            | Op::Addr
            | Op::Set
            | Op::Empty
            | Op::Nil
            | Op::True
            | Op::False => (0, 0),
            Op::Symbol => (1, 4),
            Op::Forall | Op::Exists | Op::Unique => (1, 2),
            Op::Src | Op::Dst | Op::Num | Op::Content | Op::BySrc | Op::ByDst | Op::Len | Op::Not => (0, 1),
            _ => (0, 2),
        }
    }
}

/// A node: an operation and its arguments; those that it has not are 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    /// What it is.
    pub op: Op,
    /// Nodes or numbers.
    pub args: [u32; 4],
}

/// A set of the program or the policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetValue {
    /// Of addresses.
    Addrs(PrefixSet),
    /// Of integers.
    Numbers(Ranges),
}

/// A value that a program's variable has somewhere, or an arbitrary one that a proof speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Constant {
    /// Its sort.
    pub sort: Sort,
    /// What holds of it. Of a set of packets: exactly the packets [`PACKET`] of which this holds are in it.
    pub fact: Option<Id>,
}

/// The arbitrary packet that obligations and the facts of packet sets are about: constant 0.
pub const PACKET: u32 = 0;

/// The node of [`PACKET`].
pub const THE_PACKET: Id = 0;

/// A function or predicate of which nothing is known but its sorts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Symbol {
    /// The sorts of its arguments, three at most.
    pub args: Vec<Sort>,
    /// What it gives.
    pub result: Sort,
}

/// Why there is no such node, or no more work is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TermFault {
    /// The arguments are not of the sorts that the operation takes.
    IllSorted,
    /// More than [`NODES_MAX`] nodes.
    TooManyNodes,
    /// Nested deeper than [`HEIGHT_MAX`].
    TooHigh,
    /// The steps that the length of the input allows are used up.
    TooMuchWork,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    sort: Sort,
    height: u8,
    /// How many binders have to stand around it for all its variables to be bound.
    loose: u8,
    /// One more than the greatest number of a constant in it.
    above: u32,
}

/// Terms and formulas, each kept once, and the tables that their leaves point into.
#[derive(Clone, Debug)]
pub struct Terms {
    nodes: Vec<(Node, Meta)>,
    /// Open addressing: one more than the number of a node, or 0; a power of two of places, at most half of them used.
    places: Vec<u32>,
    work_left: usize,
    /// The constants.
    pub constants: Vec<Constant>,
    /// The address literals.
    pub addrs: Vec<Addr>,
    /// The set literals.
    pub sets: Vec<SetValue>,
    /// The declared symbols.
    pub symbols: Vec<Symbol>,
}

const fn mix(node: &Node) -> usize {
    let [a, b, c, d] = node.args;
    let low = (a as u64 | (b as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let high = (c as u64 | (d as u64) << 32) ^ node.op as u64;
    ((low.rotate_left(29) ^ high).wrapping_mul(0x517c_c1b7_2722_0a95) >> 32) as usize
}

/// Zeros.
#[expect(clippy::slow_vector_initialization, reason = "memory asked for as zeros takes the allocator's slow way")]
fn places(count: usize) -> Vec<u32> {
    let mut places = Vec::with_capacity(count);
    places.resize(count, 0);
    places
}

impl Terms {
    /// One constant, [`PACKET`], and its node. Afterwards so many steps can be taken.
    #[must_use]
    pub fn new(work: usize) -> Self {
        let packet = Node { op: Op::Const, args: [PACKET, u32::from(sort::PACKET), 0, 0] };
        let mut terms = Terms {
            nodes: Vec::with_capacity(36),
            places: places(128),
            work_left: work,
            constants: Vec::with_capacity(8),
            addrs: Vec::new(),
            sets: Vec::with_capacity(4),
            symbols: Vec::new(),
        };
        terms.constants.push(Constant { sort: sort::PACKET, fact: None });
        terms.nodes.push((packet, Meta { sort: sort::PACKET, height: 0, loose: 0, above: PACKET + 1 }));
        terms.places[mix(&packet) & 127] = THE_PACKET + 1;
        terms
    }
    /// Takes `steps` off what can be done.
    ///
    /// # Errors
    /// [`TermFault::TooMuchWork`].
    pub fn work(&mut self, steps: usize) -> Result<(), TermFault> {
        self.work_left = self.work_left.checked_sub(steps).ok_or(TermFault::TooMuchWork)?;
        Ok(())
    }
    /// How many steps can be taken yet.
    #[cfg(test)]
    pub(crate) const fn left(&self) -> usize {
        self.work_left
    }
    /// The node with this number.
    #[must_use]
    pub fn get(&self, id: Id) -> Node {
        self.nodes[id as usize].0
    }
    /// The sort of a node.
    #[must_use]
    pub fn sort(&self, id: Id) -> Sort {
        self.nodes[id as usize].1.sort
    }
    /// Whether every variable in it is bound in it.
    #[must_use]
    pub fn is_closed(&self, id: Id) -> bool {
        self.nodes[id as usize].1.loose == 0
    }
    /// Whether all constants in it have numbers below `number`.
    #[must_use]
    pub fn is_below(&self, id: Id, number: u32) -> bool {
        self.nodes[id as usize].1.above <= number
    }
    /// The node with these arguments.
    ///
    /// # Errors
    /// [`TermFault`]; nothing is made then.
    pub fn make(&mut self, op: Op, args: [u32; 4]) -> Result<Id, TermFault> {
        let node = Node { op, args };
        let mask = self.places.len() - 1;
        let mut place = mix(&node) & mask;
        while self.places[place] != 0 {
            self.work(1)?;
            let id = self.places[place] - 1;
            if self.nodes[id as usize].0 == node {
                return Ok(id);
            }
            place = (place + 1) & mask;
        }
        let meta = self.meta(node)?;
        if self.nodes.len() == NODES_MAX {
            return Err(TermFault::TooManyNodes);
        }
        let id = self.nodes.len() as Id;
        self.nodes.push((node, meta));
        self.places[place] = id + 1;
        if self.nodes.len() * 2 > self.places.len() {
            self.grow();
        }
        Ok(id)
    }

    fn grow(&mut self) {
        let mask = self.places.len() * 4 - 1;
        self.places = places(mask + 1);
        for (id, (node, _)) in self.nodes.iter().enumerate() {
            let mut place = mix(node) & mask;
            while self.places[place] != 0 {
                place = (place + 1) & mask;
            }
            self.places[place] = id as u32 + 1;
        }
    }

    /// The nodes among the arguments of `node`.
    #[must_use]
    pub fn children(&self, node: Node) -> core::ops::Range<usize> {
        let (first, end) = node.op.children();
        match node.op {
            Op::Symbol => 1..1 + self.symbols.get(node.args[0] as usize).map_or(0, |s| s.args.len()),
            _ => first..end,
        }
    }

    fn meta(&self, node: Node) -> Result<Meta, TermFault> {
        let children = self.children(node);
        if node.args[children.clone()].iter().any(|&id| id as usize >= self.nodes.len()) {
            return Err(TermFault::IllSorted);
        }
        let sort = self.result(node).ok_or(TermFault::IllSorted)?;
        let mut meta = Meta { sort, height: 0, loose: 0, above: 0 };
        match node.op {
            Op::Var => meta.loose = u8::try_from(node.args[0]).map_or(u8::MAX, |index| index.saturating_add(1)),
            Op::Const => meta.above = node.args[0] + 1,
            _ => {}
        }
        for &id in &node.args[children] {
            let child = self.nodes[id as usize].1;
            meta.height = meta.height.max(child.height + 1);
            meta.loose = meta.loose.max(child.loose.saturating_sub(u8::from(node.op.is_binder())));
            meta.above = meta.above.max(child.above);
        }
        if meta.height > HEIGHT_MAX { Err(TermFault::TooHigh) } else { Ok(meta) }
    }

    /// What the node gives; nothing where its arguments do not fit. Those that are nodes exist.
    fn result(&self, node: Node) -> Option<Sort> {
        use sort::*;
        let [a, b, ..] = node.args;
        let (first, end) = node.op.children();
        let of = |i: usize| if i >= first && i < end { self.nodes[node.args[i] as usize].1.sort } else { u8::MAX };
        let known = |sort: u32| u8::try_from(sort).ok().filter(|s| *s <= LAST);
        match node.op {
            Op::Var | Op::Slot => known(b),
            Op::Const => Some(self.constants.get(a as usize)?.sort).filter(|&s| u32::from(s) == b),
            Op::Int => Some(INT),
            Op::Addr => self.addrs.get(a as usize).map(|_| ADDR),
            Op::Set => {
                self.sets.get(a as usize).map(|set| if matches!(set, SetValue::Addrs(_)) { ADDRS } else { NUMBERS })
            }
            Op::Symbol => {
                let symbol = self.symbols.get(a as usize)?;
                let fits = |(i, sort): (usize, &Sort)| self.nodes[node.args[1 + i] as usize].1.sort == *sort;
                symbol.args.iter().enumerate().all(fits).then_some(symbol.result)
            }
            Op::Src | Op::Dst if of(0) == PACKET => Some(ADDR),
            Op::Num if of(0) == PACKET && (b as usize) < Number::ALL.len() => Some(INT),
            Op::Content if of(0) == PACKET => Some(CONTENT),
            Op::Add | Op::Sub | Op::Mul if of(0) == INT && of(1) == INT => Some(INT),
            Op::Offset if of(0) == ADDR && of(1) == INT => Some(ADDR),
            Op::Empty => known(a).filter(|&s| s == PACKETS || s == ADDRS),
            Op::Union | Op::Inter | Op::Minus if of(0) == of(1) && matches!(of(0), PACKETS | ADDRS) => Some(of(0)),
            Op::From | Op::To if of(0) == PACKETS && of(1) == ADDRS => Some(PACKETS),
            Op::BySrc | Op::ByDst if of(0) == PACKETS => Some(GROUPS),
            Op::Group if of(0) == GROUPS && of(1) == ADDR => Some(PACKETS),
            Op::Nil => Some(LIST),
            Op::Cons if of(0) == PACKET && of(1) == LIST => Some(LIST),
            Op::Append if of(0) == LIST && of(1) == LIST => Some(LIST),
            Op::Len if of(0) == LIST => Some(INT),
            Op::True | Op::False => Some(BOOL),
            Op::Not if of(0) == BOOL => Some(BOOL),
            Op::And | Op::Or | Op::Implies | Op::Iff if of(0) == BOOL && of(1) == BOOL => Some(BOOL),
            Op::Forall | Op::Exists | Op::Unique if of(1) == BOOL => known(a).filter(|&s| s != BOOL).map(|_| BOOL),
            Op::Eq if of(0) == of(1) && of(0) != BOOL => Some(BOOL),
            Op::In => {
                matches!((of(0), of(1)), (ADDR, ADDRS) | (INT, NUMBERS) | (PACKET, PACKETS | LIST)).then_some(BOOL)
            }
            Op::Le if of(0) == INT && of(1) == INT => Some(BOOL),
            Op::Subset if of(0) == of(1) && matches!(of(0), PACKETS | ADDRS) => Some(BOOL),
            _ => None,
        }
    }

    /// A node with up to two arguments.
    ///
    /// # Errors
    /// [`TermFault`].
    pub fn node(&mut self, op: Op, a: u32, b: u32) -> Result<Id, TermFault> {
        self.make(op, [a, b, 0, 0])
    }
    /// The constant with this number, which exists.
    ///
    /// # Errors
    /// [`TermFault`].
    pub fn constant(&mut self, number: u32) -> Result<Id, TermFault> {
        let sort = self.constants.get(number as usize).ok_or(TermFault::IllSorted)?.sort;
        self.node(Op::Const, number, u32::from(sort))
    }
    /// A new constant.
    ///
    /// # Errors
    /// [`TermFault`].
    pub fn fresh(&mut self, sort: Sort) -> Result<Id, TermFault> {
        self.work(1)?;
        self.constants.push(Constant { sort, fact: None });
        self.constant(self.constants.len() as u32 - 1)
    }
    /// An integer.
    ///
    /// # Errors
    /// [`TermFault`].
    pub fn int(&mut self, value: i64) -> Result<Id, TermFault> {
        self.node(Op::Int, value as u32, (value >> 32) as u32)
    }
    /// The value of an integer literal.
    #[must_use]
    pub fn as_int(&self, id: Id) -> Option<i64> {
        let Node { op, args } = self.get(id);
        (op == Op::Int).then(|| (u64::from(args[1]) << 32 | u64::from(args[0])) as i64)
    }
    /// An address literal.
    ///
    /// # Errors
    /// [`TermFault`].
    pub fn addr(&mut self, addr: Addr) -> Result<Id, TermFault> {
        let number = self.addrs.iter().position(|a| *a == addr).unwrap_or_else(|| {
            self.addrs.push(addr);
            self.addrs.len() - 1
        });
        self.node(Op::Addr, number as u32, 0)
    }
    /// A set literal.
    ///
    /// # Errors
    /// [`TermFault`].
    pub fn set(&mut self, set: SetValue) -> Result<Id, TermFault> {
        let number = self.sets.iter().position(|s| *s == set).unwrap_or_else(|| {
            self.sets.push(set);
            self.sets.len() - 1
        });
        self.node(Op::Set, number as u32, 0)
    }
    /// The value of a set literal.
    #[must_use]
    pub fn as_set(&self, id: Id) -> Option<&SetValue> {
        let Node { op, args } = self.get(id);
        if op == Op::Set { self.sets.get(args[0] as usize) } else { None }
    }

    /// `id` with other nodes in the place of those for which `put` gives one. `put` is told how many binders are around.
    ///
    /// Every visit is work: what is shared is visited each time, so that sharing never makes more than is allowed.
    fn map(&mut self, id: Id, depth: u8, put: &mut Put<'_>) -> Result<Id, TermFault> {
        self.work(1)?;
        if let Some(other) = put(self, id, depth)? {
            return Ok(other);
        }
        let mut node = self.get(id);
        let depth = depth + u8::from(node.op.is_binder());
        for i in self.children(node) {
            node.args[i] = self.map(node.args[i], depth, put)?;
        }
        self.make(node.op, node.args)
    }

    /// `body` with what `term` gives in the place of the variable that the binder around it binds; `term` is told how
    /// many binders are around it.
    ///
    /// # Errors
    /// [`TermFault`].
    pub(crate) fn open_with(
        &mut self,
        body: Id,
        term: &mut dyn FnMut(&mut Terms, u8) -> Result<Id, TermFault>,
    ) -> Result<Id, TermFault> {
        self.map(body, 0, &mut |terms, id, depth| match terms.get(id) {
            Node { op: Op::Var, args } if args[0] == u32::from(depth) => term(terms, depth).map(Some),
            _ => Ok((terms.nodes[id as usize].1.loose <= depth).then_some(id)),
        })
    }
    /// `body` with `term`, which is closed, in the place of the variable that the binder around it binds.
    ///
    /// # Errors
    /// [`TermFault`].
    pub fn open(&mut self, body: Id, term: Id) -> Result<Id, TermFault> {
        self.open_with(body, &mut |_, _| Ok(term))
    }
    /// `formula` as a body in which a variable stands in the place of constant `number`.
    ///
    /// # Errors
    /// [`TermFault`].
    pub fn close(&mut self, formula: Id, number: u32) -> Result<Id, TermFault> {
        let constant = self.constant(number)?;
        let sort = u32::from(self.sort(constant));
        self.map(formula, 0, &mut |terms, id, depth| match id {
            _ if id == constant => terms.node(Op::Var, u32::from(depth), sort).map(Some),
            _ => Ok(terms.is_below(id, number).then_some(id)),
        })
    }
    /// `formula` with `new` in the place of `old` everywhere. Both are closed and of one sort.
    ///
    /// # Errors
    /// [`TermFault`].
    pub fn replace(&mut self, formula: Id, old: Id, new: Id) -> Result<Id, TermFault> {
        let height = self.nodes[old as usize].1.height;
        self.map(formula, 0, &mut |terms, id, _| match id {
            _ if id == old => Ok(Some(new)),
            _ => Ok((terms.nodes[id as usize].1.height < height).then_some(id)),
        })
    }
    /// `formula` with what `held` gives in the place of slots.
    ///
    /// # Errors
    /// [`TermFault`]; a slot that `held` gives nothing for, or something of another sort, is ill-sorted.
    pub fn fill(&mut self, formula: Id, held: &dyn Fn(u32) -> Option<Id>) -> Result<Id, TermFault> {
        self.map(formula, 0, &mut |terms, id, _| {
            let Node { op: Op::Slot, args } = terms.get(id) else { return Ok(None) };
            let fits = |value: &Id| terms.sort(*value) == terms.sort(id);
            held(args[0]).filter(fits).map(Some).ok_or(TermFault::IllSorted)
        })
    }
}

/// What [`Terms::map`] asks at each node.
type Put<'a> = dyn FnMut(&mut Terms, Id, u8) -> Result<Option<Id>, TermFault> + 'a;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec;

    const SORTS: [Sort; 11] = [
        sort::BOOL,
        sort::ADDR,
        sort::ADDRS,
        sort::INT,
        sort::NUMBERS,
        sort::CONTENT,
        sort::PACKET,
        sort::PACKETS,
        sort::GROUPS,
        sort::LIST,
        sort::DECLARED,
    ];

    /// What the operations on one or two terms take and give, but for equality, which compares whatever is no formula.
    fn table() -> Vec<(Op, Vec<Sort>, Sort)> {
        use Op::*;
        use sort::*;
        let mut table = vec![
            (Src, vec![PACKET], ADDR),
            (Dst, vec![PACKET], ADDR),
            (Content, vec![PACKET], CONTENT),
            (BySrc, vec![PACKETS], GROUPS),
            (ByDst, vec![PACKETS], GROUPS),
            (Len, vec![LIST], INT),
            (Not, vec![BOOL], BOOL),
            (Offset, vec![ADDR, INT], ADDR),
            (From, vec![PACKETS, ADDRS], PACKETS),
            (To, vec![PACKETS, ADDRS], PACKETS),
            (Group, vec![GROUPS, ADDR], PACKETS),
            (Cons, vec![PACKET, LIST], LIST),
            (Append, vec![LIST, LIST], LIST),
            (In, vec![ADDR, ADDRS], BOOL),
            (In, vec![INT, NUMBERS], BOOL),
            (In, vec![PACKET, PACKETS], BOOL),
            (In, vec![PACKET, LIST], BOOL),
            (Le, vec![INT, INT], BOOL),
        ];
        table.extend([Add, Sub, Mul].map(|op| (op, vec![INT, INT], INT)));
        table.extend([And, Or, Implies, Iff].map(|op| (op, vec![BOOL, BOOL], BOOL)));
        for set in [PACKETS, ADDRS] {
            table.extend([Union, Inter, Minus].map(|op| (op, vec![set, set], set)));
            table.push((Subset, vec![set, set], BOOL));
        }
        table.extend(SORTS[1..].iter().map(|sort| (Eq, vec![*sort, *sort], BOOL)));
        table
    }

    fn one_of_each_sort(t: &mut Terms) -> Vec<(Sort, Id)> {
        SORTS.iter().map(|sort| (*sort, t.fresh(*sort).expect("room"))).collect()
    }

    fn sort_of(t: &mut Terms, op: Op, args: [u32; 4]) -> Result<Sort, TermFault> {
        t.make(op, args).map(|id| t.sort(id))
    }

    #[test]
    fn operations_take_what_they_take_and_nothing_else() {
        let mut t = Terms::new(usize::MAX);
        let each = one_of_each_sort(&mut t);
        let (table, mut made) = (table(), 0);
        let ops: BTreeSet<Op> = table.iter().map(|(op, ..)| *op).collect();
        for op in ops {
            let one = table.iter().any(|(o, takes, _)| *o == op && takes.len() == 1);
            for (first, a) in &each {
                for (second, b) in if one { &each[..1] } else { &each[..] } {
                    let (takes, args) =
                        if one { (vec![*first], [*a, 0, 0, 0]) } else { (vec![*first, *second], [*a, *b, 0, 0]) };
                    let gives = table.iter().find(|(o, t, _)| *o == op && *t == takes).map(|(_, _, gives)| *gives);
                    assert_eq!(sort_of(&mut t, op, args), gives.ok_or(TermFault::IllSorted), "{op:?} of {takes:?}");
                    made += usize::from(gives.is_some());
                }
            }
        }
        assert_eq!(made, table.len());
        // Nothing is made of what is not there.
        let next = t.nodes.len() as u32;
        for args in [[next, 0, 0, 0], [u32::MAX, 0, 0, 0]] {
            assert_eq!(t.make(Op::Not, args), Err(TermFault::IllSorted));
        }
        assert_eq!(Op::Symbol.children(), (1, 4), "as many as it may have");
        let nil = t.node(Op::Nil, 0, 0).expect("room");
        assert_eq!((t.sort(nil), t.node(Op::Cons, THE_PACKET, next + 1)), (sort::LIST, Err(TermFault::IllSorted)));
    }

    #[test]
    fn leaves_and_binders_have_the_sorts_that_they_say() {
        let mut t = Terms::new(usize::MAX);
        let each = one_of_each_sort(&mut t);
        let addr = t.addr(Addr::V4(7)).expect("room");
        let other = t.addr(Addr::V4(8)).expect("room");
        assert_eq!((t.addr(Addr::V4(7)), t.addr(Addr::V4(8)), t.addrs.len()), (Ok(addr), Ok(other), 2));
        let [numbers, more] = [3, 4].map(|n| SetValue::Numbers(Ranges::new(vec![(n, n)]).expect("a range")));
        let of_addrs = SetValue::Addrs(PrefixSet::new(vec![]));
        for (number, set) in [&numbers, &more, &of_addrs, &numbers].into_iter().enumerate() {
            let id = t.set(set.clone()).expect("room");
            assert_eq!((t.get(id).args, t.as_set(id)), ([number as u32 % 3, 0, 0, 0], Some(set)));
            assert_eq!(t.sort(id), if *set == of_addrs { sort::ADDRS } else { sort::NUMBERS });
        }
        assert_eq!(t.as_set(addr), None);
        t.symbols.push(Symbol { args: vec![sort::INT, sort::ADDR], result: sort::LIST });
        t.symbols.push(Symbol { args: vec![], result: sort::BOOL });
        let int = t.int(5).expect("room");
        let bad = Err(TermFault::IllSorted);
        for (op, args, gives) in [
            (Op::Addr, [1, 0, 0, 0], Ok(sort::ADDR)),
            (Op::Addr, [2, 0, 0, 0], bad),
            (Op::Set, [2, 0, 0, 0], Ok(sort::ADDRS)),
            (Op::Set, [3, 0, 0, 0], bad),
            (Op::Const, [PACKET, u32::from(sort::PACKET), 0, 0], Ok(sort::PACKET)),
            (Op::Const, [PACKET, u32::from(sort::INT), 0, 0], bad),
            (Op::Const, [99, u32::from(sort::INT), 0, 0], bad),
            (Op::True, [0; 4], Ok(sort::BOOL)),
            (Op::False, [0; 4], Ok(sort::BOOL)),
            (Op::Symbol, [0, int, addr, 0], Ok(sort::LIST)),
            (Op::Symbol, [0, addr, int, 0], bad),
            (Op::Symbol, [0, int, int, 0], bad),
            (Op::Symbol, [1, 0, 0, 0], Ok(sort::BOOL)),
            (Op::Symbol, [2, 0, 0, 0], bad),
        ] {
            assert_eq!(sort_of(&mut t, op, args), gives, "{op:?} {args:?}");
        }
        for b in 0..40 {
            let known = (b <= u32::from(sort::LAST)).then_some(b as Sort).ok_or(TermFault::IllSorted);
            assert_eq!(sort_of(&mut t, Op::Var, [0, b, 0, 0]), known);
            assert_eq!(sort_of(&mut t, Op::Slot, [0, b, 0, 0]), known);
            let set = known.ok().filter(|s| [sort::PACKETS, sort::ADDRS].contains(s)).ok_or(TermFault::IllSorted);
            assert_eq!(sort_of(&mut t, Op::Empty, [b, 0, 0, 0]), set);
            for (sort, id) in &each {
                let number = if *sort == sort::PACKET && b < 10 { Ok(sort::INT) } else { bad };
                assert_eq!(sort_of(&mut t, Op::Num, [*id, b, 0, 0]), number);
                for op in [Op::Forall, Op::Exists, Op::Unique] {
                    let binds = *sort == sort::BOOL && (1..=u32::from(sort::LAST)).contains(&b);
                    let gives = if binds { Ok(sort::BOOL) } else { bad };
                    assert_eq!(sort_of(&mut t, op, [b, *id, 0, 0]), gives, "{op:?} {b} {sort}");
                }
            }
        }
        for value in [0, 1, -1, 1 << 32, (1 << 32) + 5, i64::MIN, i64::MAX] {
            let id = t.int(value).expect("room");
            assert_eq!((t.as_int(id), t.sort(id)), (Some(value), sort::INT));
        }
        assert_eq!((t.as_int(THE_PACKET), t.as_int(addr)), (None, None));
    }

    #[test]
    fn equal_nodes_have_one_number_however_many_there_are() {
        let mut t = Terms::new(usize::MAX);
        let ids: Vec<Id> = (0..NODES_MAX as i64 - 1).map(|n| t.int(n).expect("room")).collect();
        assert!(ids.iter().enumerate().all(|(i, id)| *id == i as Id + 1), "the packet is the first");
        assert_eq!(t.int(-1), Err(TermFault::TooManyNodes));
        assert!((0..).zip(&ids).all(|(n, id)| t.int(n) == Ok(*id)), "what is there is found though there is no room");
        // At most half of the places are used, and of the next size only when they have to be.
        let mut t = Terms::new(usize::MAX);
        for n in 1..=2000i64 {
            let size = [128, 512, 2048, 8192].into_iter().find(|size| t.nodes.len() * 2 <= *size);
            assert_eq!((t.nodes.len() as i64, Some(t.places.len())), (n, size));
            let mut taken: Vec<u32> = t.places.iter().copied().filter(|place| *place != 0).collect();
            taken.sort_unstable();
            assert!(taken.iter().copied().eq(1..=n as u32), "each node has one place");
            t.int(n).expect("room");
        }
    }

    #[test]
    fn every_bit_of_a_node_counts_for_its_place() {
        let base = Node { op: Op::Len, args: [0x1234_5678, 0x9abc_def0, 0x0fed_cba9, 0x8765_4321] };
        let mut nodes = vec![base, Node { op: Op::Not, ..base }];
        for (arg, bit) in (0..4).flat_map(|arg| (0..32).map(move |bit| (arg, bit))) {
            let mut node = base;
            node.args[arg] ^= 1 << bit;
            nodes.push(node);
        }
        let places: BTreeSet<u32> = nodes.iter().map(|node| mix(node) as u32).collect();
        // The last bit of the second argument alone does the same as one bit of the third.
        assert_eq!(places.len(), nodes.len() - 1);
    }

    #[test]
    fn formulas_are_as_high_as_they_may_be_and_no_higher() {
        let mut t = Terms::new(usize::MAX);
        let mut id = t.node(Op::True, 0, 0).expect("room");
        for _ in 0..HEIGHT_MAX {
            id = t.node(Op::Not, id, 0).expect("not too high");
        }
        assert_eq!(t.node(Op::Not, id, 0), Err(TermFault::TooHigh));
        assert_eq!(t.node(Op::And, id, id), Err(TermFault::TooHigh));
    }

    #[test]
    fn what_is_open_and_what_speaks_of_a_constant_is_known() {
        let mut t = Terms::new(usize::MAX);
        let int = u32::from(sort::INT);
        let [low, high] = [t.fresh(sort::INT), t.fresh(sort::INT)].map(|c| c.expect("room"));
        let (v0, v1) = (t.node(Op::Var, 0, int).expect("room"), t.node(Op::Var, 1, int).expect("room"));
        let far = t.node(Op::Var, 300, int).expect("room");
        let le = t.node(Op::Le, low, high).expect("room");
        for (id, above) in [(THE_PACKET, 1), (low, 2), (high, 3), (le, 3), (v0, 0)] {
            for number in 0..5 {
                assert_eq!(t.is_below(id, number), number >= above);
            }
        }
        let mut around = |id: Id, other: Id, binders: u32| {
            let mut id = t.node(Op::Le, other, id).expect("room");
            for _ in 0..binders {
                id = t.node(Op::Forall, int, id).expect("room");
            }
            t.is_closed(id)
        };
        assert_eq!([0, 1].map(|binders| around(v0, low, binders)), [false, true]);
        assert_eq!([0, 1, 2].map(|binders| around(v1, v0, binders)), [false, false, true]);
        assert_eq!([0, 1, 2].map(|binders| around(v0, v1, binders)), [false, false, true]);
        assert!(around(low, high, 0));
        assert!(!around(far, low, u32::from(HEIGHT_MAX) - 2), "it is not taken for a closed one under all binders");
    }

    #[test]
    fn every_visit_is_work() {
        let mut t = Terms::new(2);
        assert_eq!(t.work(3), Err(TermFault::TooMuchWork));
        assert_eq!((t.work(2), t.work(1)), (Ok(()), Err(TermFault::TooMuchWork)));
        assert_eq!(t.fresh(sort::INT), Err(TermFault::TooMuchWork));
        // Of (a ≤ b + 7) ∧ (a ≤ a), the sum is put in the place of a: nothing below a is looked at, and nothing of its
        // height but a.
        let mut t = Terms::new(usize::MAX);
        let [a, b] = [t.fresh(sort::INT), t.fresh(sort::INT)].map(|c| c.expect("room"));
        let seven = t.int(7).expect("room");
        let sum = t.node(Op::Add, b, seven).expect("room");
        let (le, same) = (t.node(Op::Le, a, sum).expect("room"), t.node(Op::Le, a, a).expect("room"));
        let both = t.node(Op::And, le, same).expect("room");
        let after = t.replace(both, sum, a).expect("room");
        assert_eq!(after, t.node(Op::And, same, same).expect("room"));
        t.work_left = 1000;
        let again = t.replace(both, sum, a).expect("room");
        // Visited are all but what is below the sum, once each: ∧, ≤, a, sum, ≤, a, a; and three nodes are found.
        let found = 1000 - 7 - t.work_left;
        assert!(again == after && (3..20).contains(&found), "{found}");
        t.work_left = 6;
        assert_eq!(t.replace(both, sum, a), Err(TermFault::TooMuchWork));
        // A slot is filled with what is of its sort alone.
        let slot = t.node(Op::Slot, 4, u32::from(sort::INT)).expect("room");
        t.work_left = 1000;
        let open = t.node(Op::Le, slot, a).expect("room");
        let filled = t.fill(open, &|number| (number == 4).then_some(sum));
        assert_eq!(filled, t.node(Op::Le, sum, a));
        for held in [None, Some(THE_PACKET)] {
            assert_eq!(t.fill(open, &|_| held), Err(TermFault::IllSorted));
        }
    }
}
