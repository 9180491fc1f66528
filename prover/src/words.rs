//! Terms and formulas in words.

use std::cell::Cell;
use vinet_trusted::packet::Number;
use vinet_trusted::term::{Id, Node, Op, SetValue, Terms, sort};

/// The most parts of a set that are told.
const PARTS_MAX: usize = 4;
/// The most nodes of a formula that are told.
const NODES_MAX: usize = 300;
/// The deepest that a formula is told.
const DEPTH_MAX: usize = 24;

/// The names of a packet's numbers, at the index of [`Number`].
const NUMBERS: [&str; Number::ALL.len()] =
    ["protocol", "src_port", "dst_port", "length", "fin", "syn", "rst", "psh", "ack", "urg"];

/// A term or formula, infix: `dst(p) in {192.0.2.1}`. The packet that an obligation is about is `p`; other constants are
/// a letter for their sort and their number: `p7` packets, `v3` sets of packets, `k4` addresses, `n5` integers, `a6`
/// answers about content.
#[must_use]
pub fn words(terms: &Terms, id: Id) -> String {
    told(terms, id, 0, 0, &Cell::new(NODES_MAX))
}

/// How tightly an operation binds.
const fn strength(op: Op) -> u8 {
    match op {
        Op::Iff | Op::Implies => 1,
        Op::Or => 2,
        Op::And => 3,
        Op::Eq | Op::In | Op::Le | Op::Subset => 5,
        Op::Union | Op::Minus | Op::Inter | Op::Append => 6,
        Op::Add | Op::Sub => 7,
        Op::Mul => 8,
        _ => 9,
    }
}

fn told(terms: &Terms, id: Id, binders: usize, depth: usize, left: &Cell<usize>) -> String {
    left.set(left.get().saturating_sub(1));
    if depth > DEPTH_MAX || left.get() == 0 {
        return "...".to_owned();
    }
    let node = terms.get(id);
    let Node { op, args } = node;
    let own = strength(op);
    let part = |at: usize, at_least: u8| {
        let below = terms.get(args[at]);
        let inner = told(terms, args[at], binders + usize::from(op.is_binder()), depth + 1, left);
        if strength(below.op) < at_least { format!("({inner})") } else { inner }
    };
    let infix = |word: &str| format!("{} {word} {}", part(0, own), part(1, own + 1));
    let call = |name: &str| {
        let parts: Vec<String> = terms.children(node).map(|child| part(child, 0)).collect();
        format!("{name}({})", parts.join(", "))
    };
    match op {
        Op::Var => format!("x{}", (binders as u32).saturating_sub(1 + args[0])),
        Op::Const => constant(args[0], args[1] as u8),
        Op::Slot => format!("slot {}", args[0]),
        Op::Int => terms.as_int(id).unwrap_or_default().to_string(),
        Op::Addr => terms.addrs.get(args[0] as usize).map(ToString::to_string).unwrap_or_default(),
        Op::Set => terms.as_set(id).map(set).unwrap_or_default(),
        Op::Symbol => call(&format!("f{}", args[0])),
        Op::Src => call("src"),
        Op::Dst => call("dst"),
        Op::Num => call(NUMBERS.get(args[1] as usize).copied().unwrap_or("number")),
        Op::Content => call("content"),
        Op::Add => infix("+"),
        Op::Sub => infix("-"),
        Op::Mul => infix("*"),
        Op::Offset => call("offset"),
        Op::Empty => "{}".to_owned(),
        Op::Union => infix("or_in"),
        Op::Inter => infix("and_in"),
        Op::Minus => infix("without"),
        Op::From => call("from"),
        Op::To => call("to"),
        Op::BySrc => call("by_src"),
        Op::ByDst => call("by_dst"),
        Op::Group => call("group"),
        Op::Nil => "nil".to_owned(),
        Op::Cons => call("cons"),
        Op::Append => infix("then"),
        Op::Len => call("len"),
        Op::True => "true".to_owned(),
        Op::False => "false".to_owned(),
        Op::Not => match terms.get(args[0]) {
            Node { op: Op::Le, args: [a, b, ..] } => {
                let side = |id| told(terms, id, binders, depth + 1, left);
                format!("{} < {}", side(b), side(a))
            }
            _ => format!("not {}", part(0, 9)),
        },
        Op::And => infix("and"),
        Op::Or => infix("or"),
        Op::Implies => infix("implies"),
        Op::Iff => infix("iff"),
        Op::Forall => format!("for every x{binders}: {}", part(1, 0)),
        Op::Exists => format!("there is an x{binders}: {}", part(1, 0)),
        Op::Unique => format!("there is one x{binders}: {}", part(1, 0)),
        Op::Eq => infix("="),
        Op::In => infix("in"),
        Op::Le => infix("<="),
        Op::Subset => infix("within"),
    }
}

fn constant(number: u32, of: u8) -> String {
    let letter = match of {
        sort::PACKET if number == 0 => return "p".to_owned(),
        sort::PACKET => 'p',
        sort::PACKETS => 'v',
        sort::ADDR => 'k',
        sort::INT => 'n',
        sort::BOOL => 'a',
        _ => 'c',
    };
    format!("{letter}{number}")
}

/// A set; only the beginning of a long one.
fn set(value: &SetValue) -> String {
    let parts: Vec<String> = match value {
        SetValue::Addrs(set) => set.prefixes().iter().take(PARTS_MAX).map(ToString::to_string).collect(),
        SetValue::Numbers(set) => set
            .ranges()
            .iter()
            .take(PARTS_MAX)
            .map(|(a, b)| if a == b { a.to_string() } else { format!("{a}..{b}") })
            .collect(),
    };
    let all = match value {
        SetValue::Addrs(set) => set.prefixes().len(),
        SetValue::Numbers(set) => set.ranges().len(),
    };
    match all - parts.len() {
        0 => format!("{{{}}}", parts.join(", ")),
        more => format!("{{{} and {more} more}}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_trusted::addr::{Addr, PrefixSet};
    use vinet_trusted::packet::Ranges;

    #[test]
    fn formulas_are_told_with_no_more_parentheses_than_they_need() {
        let mut t = Terms::new(usize::MAX);
        let p = t.constant(0).expect("there");
        let mine = t.set(SetValue::Addrs(PrefixSet::of(Addr::V4(0xc000_0201)))).expect("fits");
        let ports =
            t.set(SetValue::Numbers(Ranges::new(vec![(443, 443), (8000, 8080)]).expect("ranges"))).expect("fits");
        let (dst, port) = (t.node(Op::Dst, p, 0).expect("fits"), t.node(Op::Num, p, 2).expect("fits"));
        let (to_me, at) = (t.node(Op::In, dst, mine).expect("fits"), t.node(Op::In, port, ports).expect("fits"));
        let either = t.node(Op::Or, to_me, at).expect("fits");
        let both = t.node(Op::And, either, to_me).expect("fits");
        let not = t.node(Op::Not, both, 0).expect("fits");
        assert_eq!(
            words(&t, not),
            "not ((dst(p) in {192.0.2.1} or dst_port(p) in {443, 8000..8080}) and dst(p) in {192.0.2.1})"
        );
        let n = t.fresh(sort::INT).expect("fits");
        let (one, sum) = (t.int(1).expect("fits"), t.node(Op::Add, n, n).expect("fits"));
        let product = t.node(Op::Mul, sum, one).expect("fits");
        let le = t.node(Op::Le, product, one).expect("fits");
        let less = t.node(Op::Not, le, 0).expect("fits");
        assert_eq!(words(&t, less), "1 < (n1 + n1) * 1");
        let v = t.fresh(sort::PACKETS).expect("fits");
        let x = t.node(Op::Var, 0, u32::from(sort::PACKET)).expect("fits");
        let is_in = t.node(Op::In, x, v).expect("fits");
        let all = t.node(Op::Forall, u32::from(sort::PACKET), is_in).expect("fits");
        assert_eq!(words(&t, all), "for every x0: x0 in v2");
    }
}
