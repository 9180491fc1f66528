//! Properties of lowered instructions: what they count against the limits of the bytecode, and their words.

use super::error::{Cause, Located};
use super::token::Span;
use vinet_trusted::packet::Test;
use vinet_trusted::program::{Cond, DEPTH_MAX, Expr, Instr, NODES_MAX, Word};

/// How much a reader of the bytes counts for an item: itself and all inside it, and how deep they are nested.
#[derive(Clone, Copy)]
struct Measure {
    nodes: usize,
    depth: usize,
}

const LEAF: Measure = Measure { nodes: 1, depth: 1 };

/// An item with these inside it.
fn item(inside: &[Measure]) -> Measure {
    let nodes = 1 + inside.iter().map(|part| part.nodes).sum::<usize>();
    Measure { nodes, depth: 1 + inside.iter().map(|part| part.depth).max().unwrap_or(0) }
}

// Which address and which number are items of their own.
fn test(test: &Test) -> Measure {
    match test {
        Test::True | Test::False => LEAF,
        Test::Owns { .. } | Test::In { .. } | Test::Is { .. } | Test::Number { .. } => item(&[LEAF]),
        Test::Not { a } => item(&[self::test(a)]),
        Test::And { a, b } | Test::Or { a, b } => item(&[self::test(a), self::test(b)]),
    }
}

fn expr(expr: &Expr) -> Measure {
    match expr {
        Expr::Const { .. } | Expr::Slot { .. } => LEAF,
        Expr::Add { a, b } | Expr::Sub { a, b } | Expr::Mul { a, b } => item(&[self::expr(a), self::expr(b)]),
    }
}

fn cond(cond: &Cond) -> Measure {
    match cond {
        Cond::Contains { .. } | Cond::Empty { .. } | Cond::AddrIn { .. } => LEAF,
        Cond::AddrIs { .. } => item(&[LEAF]),
        Cond::AtMost { a, b } | Cond::Equal { a, b } => item(&[expr(a), expr(b)]),
        Cond::Not { cond } => item(&[self::cond(cond)]),
        Cond::And { a, b } | Cond::Or { a, b } => item(&[self::cond(a), self::cond(b)]),
    }
}

/// An instruction without its blocks.
fn head(instr: &Instr) -> Measure {
    match instr {
        Instr::Select { test, .. } => item(&[self::test(test)]),
        Instr::Partition { .. } => item(&[LEAF]),
        Instr::Let { expr, .. } => item(&[self::expr(expr)]),
        Instr::Offset { by, .. } => item(&[LEAF, expr(by)]),
        Instr::Generate { .. } => item(&[LEAF, LEAF]),
        Instr::If { cond, .. } | Instr::While { cond, .. } => item(&[self::cond(cond)]),
        Instr::Content { .. }
        | Instr::Union { .. }
        | Instr::Minus { .. }
        | Instr::Count { .. }
        | Instr::Size { .. }
        | Instr::Discard { .. }
        | Instr::Foreach { .. } => LEAF,
    }
}

/// The limits that a body exceeds, each where it first does.
pub(super) fn limits(body: &[Instr], places: &[Span]) -> Vec<Located> {
    let mut limits = Limits { places, instr: 0, nodes: 0, too_many: None, too_deep: None };
    limits.block(body, 0);
    limits.too_many.into_iter().chain(limits.too_deep).collect()
}

struct Limits<'a> {
    places: &'a [Span],
    instr: usize,
    nodes: usize,
    too_many: Option<Located>,
    too_deep: Option<Located>,
}

impl Limits<'_> {
    fn block(&mut self, block: &[Instr], depth: usize) {
        for instr in block {
            let place = self.places.get(self.instr).cloned().unwrap_or_default();
            self.instr += 1;
            let Measure { nodes, depth: own } = head(instr);
            self.nodes += nodes;
            if self.nodes > NODES_MAX {
                self.too_many.get_or_insert(Located::new(place.clone(), Cause::TooManyNodes));
            }
            if depth + own > DEPTH_MAX {
                self.too_deep.get_or_insert(Located::new(place, Cause::TooDeep));
            }
            for inner in instr.blocks() {
                self.block(inner, depth + 1);
            }
        }
    }
}

/// Whether a GROUP_BY_CONTENT is in the body.
pub(super) fn groups_by_content(body: &[Instr]) -> bool {
    body.iter()
        .any(|instr| matches!(instr, Instr::Content { .. }) || instr.blocks().any(|block| groups_by_content(block)))
}

/// Whether the condition is about content.
pub(super) fn looks_at_content(cond: &Cond) -> bool {
    match cond {
        Cond::Contains { .. } => true,
        Cond::Not { cond } => looks_at_content(cond),
        Cond::And { a, b } | Cond::Or { a, b } => looks_at_content(a) || looks_at_content(b),
        _ => false,
    }
}

/// Brings the words into the order in which the bytes use them first.
pub(super) fn order_words(words: &mut Vec<Word>, body: &mut [Instr]) {
    let mut order = Vec::with_capacity(words.len());
    renumber(body, &mut order);
    *words = order.into_iter().filter_map(|old| words.get(usize::from(old)).cloned()).collect();
}

fn renumber(body: &mut [Instr], order: &mut Vec<u8>) {
    for instr in body {
        match instr {
            Instr::Count { word, .. } => renumber_word(word, order),
            Instr::If { cond, then, otherwise } => {
                renumber_cond(cond, order);
                renumber(then, order);
                renumber(otherwise, order);
            }
            Instr::Foreach { body, .. } => renumber(body, order),
            Instr::While { cond, body, .. } => {
                renumber_cond(cond, order);
                renumber(body, order);
            }
            _ => {}
        }
    }
}

fn renumber_cond(cond: &mut Cond, order: &mut Vec<u8>) {
    match cond {
        Cond::Contains { word, .. } => renumber_word(word, order),
        Cond::Not { cond } => renumber_cond(cond, order),
        Cond::And { a, b } | Cond::Or { a, b } => {
            renumber_cond(a, order);
            renumber_cond(b, order);
        }
        _ => {}
    }
}

fn renumber_word(word: &mut u8, order: &mut Vec<u8>) {
    let new = order.iter().position(|old| old == word).unwrap_or_else(|| {
        order.push(*word);
        order.len() - 1
    });
    *word = new as u8;
}
