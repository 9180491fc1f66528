//! Terms and formulas as a proof writes them out.

use vinet_trusted::term::{Id, Node, Op, Terms};
use vinet_trusted::wire::{Wire, Writer};

/// Writes `id`, without references to what is there already.
pub fn term(terms: &Terms, id: Id, w: &mut Writer) {
    let node = terms.get(id);
    let Node { op, args } = node;
    w.byte(op as u8);
    match op {
        Op::Var | Op::Const | Op::Addr | Op::Set | Op::Symbol => args[0].write(w),
        Op::Slot => {
            w.byte(args[0] as u8);
            w.byte(args[1] as u8);
        }
        Op::Int => terms.as_int(id).unwrap_or_default().write(w),
        Op::Empty | Op::Forall | Op::Exists | Op::Unique => w.byte(args[0] as u8),
        _ => {}
    }
    for child in terms.children(node) {
        term(terms, args[child], w);
    }
    if op == Op::Num {
        w.byte(args[1] as u8);
    }
}
