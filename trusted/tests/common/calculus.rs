//! What the tests of the rules write their formulas and theorems with.

use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::{Kernel, Theorem};
use vinet_trusted::term::{Id, Op, Sort, Terms};

pub fn node(t: &mut Terms, op: Op, a: u32, b: u32) -> Id {
    t.node(op, a, b).expect("a well-sorted node")
}

pub fn var(t: &mut Terms, index: u32, sort: Sort) -> Id {
    node(t, Op::Var, index, u32::from(sort))
}

pub fn constant(t: &mut Terms, sort: Sort) -> Id {
    t.fresh(sort).expect("room for a constant")
}

pub fn kernel(lemmas: &LemmaStore) -> Kernel<'_> {
    Kernel::new(Terms::new(usize::MAX), lemmas)
}

/// A theorem that says `formula`, from itself.
pub fn given(kernel: &mut Kernel<'_>, formula: Id) -> Theorem {
    let number = (0..).find(|n| kernel.claim(1 + n).is_err()).expect("assumptions are few");
    kernel.assume(formula).expect("a closed formula");
    kernel.claim(1 + number).expect("what was assumed")
}

pub fn subsets<T: Copy>(of: &[T]) -> Vec<Vec<T>> {
    (0..1usize << of.len()).map(|bits| (0..of.len()).filter(|i| bits >> i & 1 != 0).map(|i| of[i]).collect()).collect()
}

pub fn addr_set(addrs: &[Addr]) -> PrefixSet {
    PrefixSet::new(addrs.iter().map(|a| Prefix::host(*a)).collect())
}
