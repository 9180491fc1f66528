//! The rules of quantifiers, propositions and equality, one by one: what each concludes, under which assumptions, and
//! that none of the ways around its conditions is open.

mod common;
use common::calculus::{addr_set, constant, given, kernel, node, var};
use common::model::ADDRS;
use vinet_trusted::logic::{ASSUMPTIONS_MAX, Fault, Kernel, Theorem};
use vinet_trusted::packet::Ranges;
use vinet_trusted::term::{Id, Node, Op, SetValue, sort};

// ---- Quantifiers, one by one ----

#[test]
fn what_is_generalised_is_arbitrary() {
    let store = common::none();
    let mut k = kernel(&store);
    let program_s = constant(&mut k.terms, sort::INT);
    k.begin(None);
    let own = k.pick(sort::INT).expect("an integer");
    let number = k.terms.get(own).args[0];
    let zero = k.terms.int(0).expect("room");
    let positive = node(&mut k.terms, Op::Le, zero, own);
    let assumed = given(&mut k, positive);
    assert_eq!(k.generalise(assumed, number), Err(Fault::NotArbitrary), "an assumption speaks of it");
    let discharged = k.discharge(1, assumed).expect("an assumption");
    let all = k.generalise(discharged, number).expect("no assumption speaks of it now");
    assert_eq!(all.assumptions(), 0);
    let x = var(&mut k.terms, 0, sort::INT);
    let le = node(&mut k.terms, Op::Le, zero, x);
    let body = node(&mut k.terms, Op::Implies, le, le);
    assert_eq!(all.conclusion(), node(&mut k.terms, Op::Forall, u32::from(sort::INT), body));
    // Not the program's constants, the arbitrary packet among them, nor those that are not there.
    let same = k.reflexivity(program_s).expect("closed");
    for number in [0, k.terms.get(program_s).args[0], 77, u32::MAX] {
        assert_eq!(k.generalise(same, number), Err(Fault::NotArbitrary));
    }
    // An assumption that is open speaks of an earlier pick than the one that is generalised: that is no offence.
    let later = k.pick(sort::INT).expect("an integer");
    let same = k.reflexivity(later).expect("closed");
    let both = k.both(assumed, same).expect("room");
    assert!(k.generalise(both, k.terms.get(later).args[0]).is_ok());
    assert_eq!(k.generalise(both, number), Err(Fault::NotArbitrary));
    // It is one whichever assumption speaks of it, here the second.
    let later_positive = node(&mut k.terms, Op::Le, zero, later);
    let second = given(&mut k, later_positive);
    assert_eq!(second.assumptions(), 2);
    assert_eq!(k.generalise(second, k.terms.get(later).args[0]), Err(Fault::NotArbitrary));
    // The picks of one obligation are no picks of the next.
    k.begin(None);
    let same = k.reflexivity(own).expect("closed");
    assert_eq!(k.generalise(same, number), Err(Fault::NotArbitrary));
    assert_eq!(k.pick(sort::BOOL), Err(Fault::WrongForm));
    assert_eq!(k.pick(sort::LAST + 1), Err(Fault::WrongForm));
    assert!(k.pick(sort::LAST).is_ok());
}

#[test]
fn a_variable_is_never_captured() {
    // ∀x ∃y (y ≤ x) with an own constant under another binder: the new variable is counted past that binder.
    let store = common::none();
    let mut k = kernel(&store);
    k.begin(None);
    let int = u32::from(sort::INT);
    let own = k.pick(sort::INT).expect("an integer");
    let y = var(&mut k.terms, 0, sort::INT);
    let le = node(&mut k.terms, Op::Le, y, own);
    let some = node(&mut k.terms, Op::Exists, int, le);
    let least = node(&mut k.terms, Op::Le, own, own);
    let zero = k.terms.int(0).expect("room");
    let le_zero = node(&mut k.terms, Op::Le, zero, zero);
    let ground = k.evaluate(le_zero).expect("ground");
    // own ≤ own, shown by absurdity of its denial through LINEAR.
    let denial = node(&mut k.terms, Op::Not, least, 0);
    let denied = given(&mut k, denial);
    let no = k.linear(&[(denied, 1)]).expect("it contradicts itself");
    let implied = k.discharge(1, no).expect("an assumption");
    let double = k.negate(implied).expect("an implication of False");
    let shown = k.double_negation(double).expect("two denials");
    assert_eq!(shown.conclusion(), least);
    let exists = k.exists(shown, some, own).expect("the witness is there");
    let all = k.generalise(exists, k.terms.get(own).args[0]).expect("nothing is assumed");
    let x = var(&mut k.terms, 1, sort::INT);
    let le = node(&mut k.terms, Op::Le, y, x);
    let some = node(&mut k.terms, Op::Exists, int, le);
    assert_eq!(all.conclusion(), node(&mut k.terms, Op::Forall, int, some));
    let seven = k.terms.int(7).expect("room");
    let of_seven = k.specialise(all, seven).expect("an integer");
    let le = node(&mut k.terms, Op::Le, y, seven);
    assert_eq!(of_seven.conclusion(), node(&mut k.terms, Op::Exists, int, le));
    // A term that is not closed is no instance, and neither is one of another sort.
    let loose = var(&mut k.terms, 0, sort::INT);
    let address = constant(&mut k.terms, sort::ADDR);
    let wrong = k.terms.addr(ADDRS[0]).expect("room");
    for term in [loose, address, wrong] {
        assert_eq!(k.specialise(all, term), Err(Fault::WrongForm));
    }
    let formula = of_seven.conclusion();
    for term in [loose, address] {
        assert_eq!(k.exists(ground, formula, term), Err(Fault::WrongForm));
    }
    assert_eq!(k.exists(ground, formula, seven), Err(Fault::WrongForm), "0 ≤ 0 is not 7 ≤ 7");
    assert_eq!(k.reflexivity(loose), Err(Fault::WrongForm));
    let open = node(&mut k.terms, Op::Le, loose, zero);
    assert!(k.assume(open).is_err() && k.evaluate(open).is_err() && k.either_left(ground, open).is_err());
    assert!(k.either_right(open, ground).is_err());
    assert!(k.assume(zero).is_err(), "an integer is no formula");
}

#[test]
fn a_witness_does_not_escape() {
    let store = common::none();
    let mut k = kernel(&store);
    k.begin(None);
    let packet = u32::from(sort::PACKET);
    let (s, u) = (constant(&mut k.terms, sort::PACKETS), constant(&mut k.terms, sort::PACKETS));
    let x = var(&mut k.terms, 0, sort::PACKET);
    let (in_s, in_u) = (node(&mut k.terms, Op::In, x, s), node(&mut k.terms, Op::In, x, u));
    let some = node(&mut k.terms, Op::Exists, packet, in_s);
    let closed = node(&mut k.terms, Op::Eq, s, u);
    let all = |k: &mut Kernel<'_>, sort: u32, from: Id, to: Id| {
        let implies = node(&mut k.terms, Op::Implies, from, to);
        let all = node(&mut k.terms, Op::Forall, sort, implies);
        given(k, all)
    };
    let exists = given(&mut k, some);
    let good = all(&mut k, packet, in_s, closed);
    let shown = k.witness(exists, good).expect("what follows does not speak of the witness");
    assert_eq!((shown.conclusion(), shown.assumptions()), (closed, 3));
    let escaping = all(&mut k, packet, in_s, in_u);
    assert_eq!(k.witness(exists, escaping), Err(Fault::WrongForm));
    let other = all(&mut k, packet, in_u, closed);
    assert_eq!(k.witness(exists, other), Err(Fault::WrongForm), "it is about another set");
    let of_address = node(&mut k.terms, Op::Eq, u, u);
    let not_packets = all(&mut k, u32::from(sort::ADDR), of_address, closed);
    let of_packets = node(&mut k.terms, Op::Exists, packet, of_address);
    let of_packets = given(&mut k, of_packets);
    assert_eq!(k.witness(of_packets, not_packets), Err(Fault::WrongForm), "it is of another sort");
    assert_eq!(k.witness(good, exists), Err(Fault::WrongForm));
    let plain = node(&mut k.terms, Op::Forall, packet, in_s);
    let plain = given(&mut k, plain);
    assert_eq!(k.witness(exists, plain), Err(Fault::WrongForm));
}

#[test]
fn induction_needs_its_start_and_its_step() {
    let store = common::none();
    let int = u32::from(sort::INT);
    let list = u32::from(sort::LIST);
    let packet = u32::from(sort::PACKET);
    let mut k = kernel(&store);
    k.begin(None);
    let n_of = |k: &mut Kernel<'_>, depth| var(&mut k.terms, depth, sort::INT);
    let (zero, one) = (k.terms.int(0).expect("room"), k.terms.int(1).expect("room"));
    let bound = constant(&mut k.terms, sort::INT);
    // φ(n): ∃m (n ≤ m), and bound ≤ n: what is replaced stands under a binder and beside one.
    let phi = |k: &mut Kernel<'_>, n: Id, under: Id| {
        let m = n_of(k, 0);
        let le = node(&mut k.terms, Op::Le, under, m);
        let some = node(&mut k.terms, Op::Exists, int, le);
        let least = node(&mut k.terms, Op::Le, bound, n);
        node(&mut k.terms, Op::And, some, least)
    };
    let (n0, n1) = (n_of(&mut k, 0), n_of(&mut k, 1));
    let at_n = phi(&mut k, n0, n1);
    let at_zero = phi(&mut k, zero, zero);
    let (next0, next1) = (node(&mut k.terms, Op::Add, n0, one), node(&mut k.terms, Op::Add, n1, one));
    let at_next = phi(&mut k, next0, next1);
    let natural = node(&mut k.terms, Op::Le, zero, n0);
    let implies = |k: &mut Kernel<'_>, a, b| node(&mut k.terms, Op::Implies, a, b);
    let body = implies(&mut k, natural, at_n);
    let goal = node(&mut k.terms, Op::Forall, int, body);
    let step = implies(&mut k, at_n, at_next);
    let step = implies(&mut k, natural, step);
    let step = node(&mut k.terms, Op::Forall, int, step);
    let (start, step) = (given(&mut k, at_zero), given(&mut k, step));
    let shown = k.naturals(start, step, goal).expect("start and step");
    assert_eq!((shown.conclusion(), shown.assumptions()), (goal, 3));
    assert_eq!(k.naturals(step, start, goal), Err(Fault::WrongForm));
    assert_eq!(k.naturals(start, start, goal), Err(Fault::WrongForm));
    // A step without its premises, or from n to n, or a start at another number, or a goal without the bound.
    let weak = implies(&mut k, at_n, at_n);
    let weak = implies(&mut k, natural, weak);
    let weak = node(&mut k.terms, Op::Forall, int, weak);
    let weak = given(&mut k, weak);
    assert_eq!(k.naturals(start, weak, goal), Err(Fault::WrongForm));
    let at_one = phi(&mut k, one, one);
    let at_one = given(&mut k, at_one);
    assert_eq!(k.naturals(at_one, step, goal), Err(Fault::WrongForm));
    let boundless = node(&mut k.terms, Op::Forall, int, at_n);
    assert_eq!(k.naturals(start, step, boundless), Err(Fault::WrongForm));
    let positive = node(&mut k.terms, Op::Le, one, n0);
    let later = implies(&mut k, positive, at_n);
    let later = node(&mut k.terms, Op::Forall, int, later);
    assert_eq!(k.naturals(start, step, later), Err(Fault::WrongForm));
    // Lists: φ(l): p ∈ l ∨ ∃q q ∈ l.
    let p = constant(&mut k.terms, sort::PACKET);
    let holds = |k: &mut Kernel<'_>, l: Id, under: Id| {
        let q = var(&mut k.terms, 0, sort::PACKET);
        let (is_in, some) = (node(&mut k.terms, Op::In, p, l), node(&mut k.terms, Op::In, q, under));
        let some = node(&mut k.terms, Op::Exists, packet, some);
        node(&mut k.terms, Op::Or, is_in, some)
    };
    let (l0, l1) = (var(&mut k.terms, 0, sort::LIST), var(&mut k.terms, 1, sort::LIST));
    let (x1, x2) = (var(&mut k.terms, 1, sort::PACKET), var(&mut k.terms, 2, sort::PACKET));
    let nil = node(&mut k.terms, Op::Nil, 0, 0);
    let (at_nil, at_l) = (holds(&mut k, nil, nil), holds(&mut k, l0, l1));
    let (longer, longer_under) = (node(&mut k.terms, Op::Cons, x1, l0), node(&mut k.terms, Op::Cons, x2, l1));
    let at_longer = holds(&mut k, longer, longer_under);
    let goal = node(&mut k.terms, Op::Forall, list, at_l);
    let inner = implies(&mut k, at_l, at_longer);
    let inner = node(&mut k.terms, Op::Forall, list, inner);
    let step = node(&mut k.terms, Op::Forall, packet, inner);
    let (start, step) = (given(&mut k, at_nil), given(&mut k, step));
    let shown = k.lists(start, step, goal).expect("start and step");
    assert_eq!(shown.conclusion(), goal);
    assert_eq!(shown.assumptions().count_ones(), 2);
    assert_eq!(k.lists(step, start, goal), Err(Fault::WrongForm));
    assert_eq!(k.lists(start, start, goal), Err(Fault::WrongForm));
    assert_eq!(k.naturals(start, step, goal), Err(Fault::WrongForm));
    let of_packets = node(&mut k.terms, Op::Forall, packet, at_nil);
    assert_eq!(k.lists(start, step, of_packets), Err(Fault::WrongForm), "a quantifier over another sort");
}

// ---- Propositions: the conclusion, the assumptions, and what is refused ----

#[test]
fn propositional_rules_conclude_what_they_say() {
    let store = common::none();
    let mut k = kernel(&store);
    k.begin(None);
    let atoms: Vec<Id> = (0..3).map(|_| constant(&mut k.terms, sort::BOOL)).collect();
    let [a, b, c] = [atoms[0], atoms[1], atoms[2]];
    let t = &mut k.terms;
    let no = node(t, Op::False, 0, 0);
    let [and, or, iff] = [Op::And, Op::Or, Op::Iff].map(|op| node(t, op, a, b));
    let [ab, ba, ac, bc, a_no] =
        [(a, b), (b, a), (a, c), (b, c), (a, no)].map(|(from, to)| node(t, Op::Implies, from, to));
    let not_a = node(t, Op::Not, a, 0);
    let not_not_a = node(t, Op::Not, not_a, 0);
    let forms = [a, b, c, no, and, or, iff, ab, ba, ac, bc, a_no, not_a, not_not_a];
    let theorems: Vec<Theorem> = forms.iter().map(|f| given(&mut k, *f)).collect();
    let of = |f: Id| theorems[forms.iter().position(|g| *g == f).expect("one of them")];
    let union = |premises: &[Theorem]| premises.iter().fold(0, |all, p| all | p.assumptions());
    for &x in &theorems {
        let is = |f: Id| x.conclusion() == f;
        assert_eq!(k.left(x).map(Theorem::conclusion).ok(), is(and).then_some(a));
        assert_eq!(k.right(x).map(Theorem::conclusion).ok(), is(and).then_some(b));
        assert_eq!(k.double_negation(x).map(Theorem::conclusion).ok(), is(not_not_a).then_some(a));
        assert_eq!(k.negate(x).map(Theorem::conclusion).ok(), is(a_no).then_some(not_a));
        assert_eq!(k.there(x).map(Theorem::conclusion).ok(), is(iff).then_some(ab));
        assert_eq!(k.back(x).map(Theorem::conclusion).ok(), is(iff).then_some(ba));
        assert!(k.symmetry(x).is_err() && k.bounds(x).is_err() && k.unfold(x).is_err());
        for one in
            [k.left(x), k.right(x), k.double_negation(x), k.negate(x), k.there(x), k.back(x)].into_iter().flatten()
        {
            assert_eq!(one.assumptions(), x.assumptions());
        }
        for &y in &theorems {
            let both = k.both(x, y).expect("room");
            assert_eq!(both.conclusion(), node(&mut k.terms, Op::And, x.conclusion(), y.conclusion()));
            let left = k.either_left(x, y.conclusion()).expect("room");
            let right = k.either_right(y.conclusion(), x).expect("room");
            assert_eq!(left.conclusion(), node(&mut k.terms, Op::Or, x.conclusion(), y.conclusion()));
            assert_eq!(right.conclusion(), node(&mut k.terms, Op::Or, y.conclusion(), x.conclusion()));
            assert_eq!([left.assumptions(), right.assumptions()], [x.assumptions(); 2]);
            let implied = |f: Id| match k.terms.get(f) {
                Node { op: Op::Implies, args } => Some((args[0], args[1])),
                _ => None,
            };
            let (x_implies, y_implies) = (implied(x.conclusion()), implied(y.conclusion()));
            let mp = k.modus_ponens(x, y);
            let expected = x_implies.filter(|(from, _)| *from == y.conclusion()).map(|(_, to)| to);
            assert_eq!(mp.map(Theorem::conclusion).ok(), expected);
            let denied = k.terms.get(y.conclusion());
            let absurd = k.absurd(x, y);
            assert_eq!(absurd.is_ok(), denied.op == Op::Not && denied.args[0] == x.conclusion());
            assert!(absurd.is_err() || absurd.is_ok_and(|t| t.conclusion() == no));
            let equivalence = k.equivalence(x, y);
            let matching = x_implies.zip(y_implies).filter(|(x, y)| x.0 == y.1 && x.1 == y.0);
            let expected = matching.map(|((a, b), _)| node(&mut k.terms, Op::Iff, a, b));
            assert_eq!(equivalence.map(Theorem::conclusion).ok(), expected);
            for two in [Ok(both), mp, absurd, equivalence].into_iter().flatten() {
                assert_eq!(two.assumptions(), union(&[x, y]));
            }
            for &z in &theorems {
                let cases = k.cases(x, y, z);
                assert_eq!(cases.is_ok(), x.conclusion() == or && y.conclusion() == ac && z.conclusion() == bc);
                if let Ok(theorem) = cases {
                    assert_eq!((theorem.conclusion(), theorem.assumptions()), (c, union(&[x, y, z])));
                }
            }
        }
    }
    let truth = k.truth().expect("room");
    assert_eq!((k.terms.get(truth.conclusion()).op, truth.assumptions()), (Op::True, 0));
    // Discharge takes its own assumption, and that alone, off.
    let both = k.both(of(a), of(b)).expect("room");
    let off = k.discharge(2, both).expect("b was assumed second");
    assert_eq!(off.assumptions(), of(a).assumptions());
    assert_eq!(off.conclusion(), node(&mut k.terms, Op::Implies, b, both.conclusion()));
    assert_eq!(k.discharge(0, both), Err(Fault::NoSuchAssumption), "what is given is not discharged");
    assert_eq!(k.discharge(1 + forms.len(), both), Err(Fault::NoSuchAssumption));
    for number in [0, 1 + forms.len(), 64, 65, 66, usize::MAX] {
        assert_eq!(k.claim(number), Err(Fault::NoSuchAssumption));
    }
    for _ in forms.len()..ASSUMPTIONS_MAX {
        k.assume(a).expect("as many as allowed");
    }
    assert_eq!(k.assume(a), Err(Fault::TooManyAssumptions));
    let last = k.claim(ASSUMPTIONS_MAX).expect("the last");
    assert_eq!(last.assumptions(), 1 << (ASSUMPTIONS_MAX - 1));
    let discharged = k.discharge(ASSUMPTIONS_MAX, last).expect("the last");
    assert_eq!(discharged.assumptions(), 0);
    // Only what shows the goal from nothing ends a proof.
    assert!(!k.finish(of(a), a), "an assumption is open");
    assert!(!k.finish(truth, a), "it shows something else");
    assert!(k.finish(truth, truth.conclusion()));
    assert_eq!(k.cite(0, None).map(Theorem::conclusion), Ok(truth.conclusion()));
    assert_eq!(k.cite(1, None), Err(Fault::NotShown));
    assert_eq!(k.cite(0, Some(of(a))), Err(Fault::WrongForm), "it is about no packet");
}

#[test]
fn an_assumption_that_two_premises_share_stays_open() {
    let store = common::none();
    let mut k = kernel(&store);
    k.begin(None);
    let t = &mut k.terms;
    let [a, b, c] = [0; 3].map(|_| constant(t, sort::BOOL));
    let [x, y, z, n] = [sort::PACKETS, sort::PACKETS, sort::PACKETS, sort::INT].map(|sort| constant(t, sort));
    let [ab, ba, ac, bc] = [(a, b), (b, a), (a, c), (b, c)].map(|(from, to)| node(t, Op::Implies, from, to));
    let (not_a, or) = (node(t, Op::Not, a, 0), node(t, Op::Or, a, b));
    let [xy, yz] = [(x, y), (y, z)].map(|(a, b)| node(t, Op::Eq, a, b));
    let (v, packet) = (var(t, 0, sort::PACKET), u32::from(sort::PACKET));
    let in_x = node(t, Op::In, v, x);
    let (exists, implies) = (node(t, Op::Exists, packet, in_x), node(t, Op::Implies, in_x, a));
    let all = node(t, Op::Forall, packet, implies);
    let zero = t.int(0).expect("room");
    // Induction for a, which speaks of no variable: its step is a → a, for whatever there is.
    let (number, int, list) = (var(t, 0, sort::INT), u32::from(sort::INT), u32::from(sort::LIST));
    let (natural, aa) = (node(t, Op::Le, zero, number), node(t, Op::Implies, a, a));
    let [naturals, next] = [a, aa].map(|body| {
        let body = node(t, Op::Implies, natural, body);
        node(t, Op::Forall, int, body)
    });
    let [lists, longer] = [a, aa].map(|body| node(t, Op::Forall, list, body));
    let longer = node(t, Op::Forall, packet, longer);
    let [low, high] = [(zero, n), (n, zero)].map(|(a, b)| node(t, Op::Le, a, b));
    let one = t.int(1).expect("room");
    let above = node(t, Op::Le, one, n);
    let numbers = t.set(SetValue::Numbers(Ranges::new(vec![(0, 0)]).expect("a range"))).expect("room");
    let [first, second] = [0, 1].map(|i| t.set(SetValue::Addrs(addr_set(&ADDRS[i..=i]))).expect("room"));
    let address = constant(t, sort::ADDR);
    let [in_first, in_second] = [first, second].map(|set| node(t, Op::In, address, set));
    let forms =
        [a, ab, ba, ac, bc, not_a, or, xy, yz, exists, all, low, high, in_first, in_second, next, longer, above];
    let whole = forms.iter().rev().copied().reduce(|rest, form| node(t, Op::And, form, rest)).expect("some");
    let mut rest = given(&mut k, whole);
    let mut theorems = Vec::new();
    for _ in 1..forms.len() {
        theorems.push(k.left(rest).expect("a conjunction"));
        rest = k.right(rest).expect("a conjunction");
    }
    theorems.push(rest);
    let of = |form: Id| theorems[forms.iter().position(|f| *f == form).expect("one of them")];
    let counted = node(&mut k.terms, Op::Offset, address, n);
    let made = [
        k.modus_ponens(of(ab), of(a)),
        k.both(of(a), of(ab)),
        k.absurd(of(a), of(not_a)),
        k.cases(of(or), of(ac), of(bc)),
        k.equivalence(of(ab), of(ba)),
        k.transitivity(of(xy), of(yz)),
        k.congruence(of(xy), of(exists)),
        k.witness(of(exists), of(all)),
        k.enclose(of(low), of(high), numbers),
        k.apart(of(in_first), of(in_second)),
        k.offset(of(low), of(high), Some(of(in_first)), counted, first),
        k.naturals(of(a), of(next), naturals),
        k.lists(of(a), of(longer), lists),
        k.linear(&[(of(high), 1), (of(above), 1)]),
    ];
    for (i, theorem) in made.into_iter().enumerate() {
        assert_eq!(theorem.map(Theorem::assumptions), Ok(1), "rule {i}");
    }
    let over_packets = node(&mut k.terms, Op::Forall, packet, a);
    assert_eq!(k.lists(of(a), of(longer), over_packets), Err(Fault::WrongForm), "it is over another sort");
    // Of three premises, each two share an assumption that the third has not.
    let truth = k.truth().expect("room").conclusion();
    let [one, two, three] = [0; 3].map(|_| given(&mut k, truth));
    let on = |k: &mut Kernel<'_>, form: Id, shared: [Theorem; 2]| {
        shared.iter().fold(of(form), |theorem, other| {
            let both = k.both(theorem, *other).expect("room");
            k.left(both).expect("a conjunction")
        })
    };
    let ([either, first_case, second_case], [lowest, highest, base]) = (
        [on(&mut k, or, [one, two]), on(&mut k, ac, [one, three]), on(&mut k, bc, [two, three])],
        [on(&mut k, low, [one, two]), on(&mut k, high, [one, three]), on(&mut k, in_first, [two, three])],
    );
    let greater = on(&mut k, above, [two, three]);
    let made = [
        k.cases(either, first_case, second_case),
        k.offset(lowest, highest, Some(base), counted, first),
        k.linear(&[(lowest, 1), (highest, 2), (greater, 1)]),
    ];
    for (i, theorem) in made.into_iter().enumerate() {
        assert_eq!(theorem.map(Theorem::assumptions), Ok(0b1111), "rule {i}");
    }
}

#[test]
fn equals_are_put_in_the_place_of_equals() {
    let store = common::none();
    let mut k = kernel(&store);
    k.begin(None);
    let t = &mut k.terms;
    let [x, y, z] = [0; 3].map(|_| constant(t, sort::PACKETS));
    let [xy, yz, xz, yx, zy] = [(x, y), (y, z), (x, z), (y, x), (z, y)].map(|(a, b)| node(t, Op::Eq, a, b));
    let v = var(t, 0, sort::PACKET);
    let union = node(t, Op::Union, x, z);
    let is_in = node(t, Op::In, v, union);
    let some = node(t, Op::Exists, u32::from(sort::PACKET), is_in);
    let with_y = {
        let union = node(t, Op::Union, y, z);
        let is_in = node(t, Op::In, v, union);
        node(t, Op::Exists, u32::from(sort::PACKET), is_in)
    };
    let [xy, yz, xz, yx, zy, some] = [xy, yz, xz, yx, zy, some].map(|f| given(&mut k, f));
    assert_eq!(k.symmetry(xy).map(|t| (t.conclusion(), t.assumptions())), Ok((yx.conclusion(), 1)));
    assert_eq!(k.transitivity(xy, yz).map(|t| (t.conclusion(), t.assumptions())), Ok((xz.conclusion(), 3)));
    assert_eq!(k.transitivity(xy, zy), Err(Fault::WrongForm));
    assert_eq!(k.transitivity(xy, xz), Err(Fault::WrongForm));
    let moved = k.congruence(xy, some).expect("an equation");
    assert_eq!((moved.conclusion(), moved.assumptions()), (with_y, 0b10_0001), "under a binder too");
    let back = k.congruence(yx, some).expect("an equation");
    assert_eq!(back.conclusion(), some.conclusion(), "nothing to replace");
    assert_eq!(k.congruence(some, xy), Err(Fault::WrongForm));
    // A whole term is replaced where it stands as a whole.
    let (ux, both) = (node(&mut k.terms, Op::Union, x, z), node(&mut k.terms, Op::Union, x, y));
    let same = node(&mut k.terms, Op::Eq, ux, y);
    let same = given(&mut k, same);
    let v_in = node(&mut k.terms, Op::In, v, y);
    let expected = node(&mut k.terms, Op::Exists, u32::from(sort::PACKET), v_in);
    assert_eq!(k.congruence(same, some).map(Theorem::conclusion), Ok(expected));
    let is_in = node(&mut k.terms, Op::In, v, both);
    let other = node(&mut k.terms, Op::Exists, u32::from(sort::PACKET), is_in);
    let other = given(&mut k, other);
    assert_eq!(k.congruence(same, other).map(Theorem::conclusion), Ok(other.conclusion()));
    assert_eq!(k.reflexivity(x).map(|t| (k.terms.get(t.conclusion()), t.assumptions())), {
        let node = Node { op: Op::Eq, args: [x, x, 0, 0] };
        Ok((node, 0))
    });
}
