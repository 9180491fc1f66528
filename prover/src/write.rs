//! Terms and formulas as a proof writes them out.

use vinet_trusted::term::{Id, Node, Op, Terms};
use vinet_trusted::wire::{Wire, Writer};

/// The most nodes of one term that are written. What is shared is written each time it stands there, so that a term of
/// few nodes can have no end of text.
pub const WRITTEN_NODES_MAX: u32 = 16_384;

/// Writes `id`, without references to what is there already. One of more than [`WRITTEN_NODES_MAX`] nodes is cut off,
/// and then is no term that a checker reads.
pub fn term(terms: &Terms, id: Id, w: &mut Writer) {
    node(terms, id, w, &mut { WRITTEN_NODES_MAX });
}

fn node(terms: &Terms, id: Id, w: &mut Writer, left: &mut u32) {
    let Some(fewer) = left.checked_sub(1) else { return };
    *left = fewer;
    let here = terms.get(id);
    let Node { op, args } = here;
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
    for child in terms.children(here) {
        node(terms, args[child], w, left);
    }
    if op == Op::Num {
        w.byte(args[1] as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_trusted::term::sort;

    #[test]
    fn a_term_that_is_all_sharing_is_cut_off() {
        let mut terms = Terms::new(usize::MAX);
        let mut set = terms.fresh(sort::PACKETS).expect("room for a constant");
        for _ in 0..100 {
            set = terms.node(Op::Union, set, set).expect("a set");
        }
        let mut w = Writer::new();
        term(&terms, set, &mut w);
        assert!(w.finish().len() <= 3 * WRITTEN_NODES_MAX as usize);
    }
}
