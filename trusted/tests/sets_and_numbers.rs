//! The rules of sets, numbers and definitions: each is held against its meaning over all small arguments, both ways. It
//! applies exactly where it should, and then says what it should.

mod common;
use common::Random;
use common::calculus::{addr_set, constant, given, kernel, node, subsets, var};
use common::model::{ADDRS, Value, World, random_world};
use vinet_trusted::addr::Addr;
use vinet_trusted::logic::{Fault, Kernel, Theorem};
use vinet_trusted::packet::Ranges;
use vinet_trusted::term::{Id, Node, Op, SetValue, Terms, sort};

// ---- Sets that are written out ----

#[test]
fn sets_of_addresses_are_compared_by_their_members() {
    let store = common::none();
    let sets = subsets(&ADDRS);
    for s in &sets {
        let mut k = kernel(&store);
        k.begin(None);
        let x = constant(&mut k.terms, sort::ADDR);
        let literal = |k: &mut Kernel<'_>, set: &[Addr]| k.terms.set(SetValue::Addrs(addr_set(set))).expect("room");
        let in_set = |k: &mut Kernel<'_>, set: Id| node(&mut k.terms, Op::In, x, set);
        let first = literal(&mut k, s);
        let formula = in_set(&mut k, first);
        let member = given(&mut k, formula);
        for u in sets.iter().chain([&vec![]]) {
            let second = literal(&mut k, u);
            let widened = k.widen(member, second);
            assert_eq!(widened.is_ok(), s.iter().all(|a| u.contains(a)), "widen {s:?} to {u:?}");
            let expected = in_set(&mut k, second);
            if let Ok(theorem) = widened {
                assert_eq!((theorem.conclusion(), theorem.assumptions()), (expected, 1));
            }
            k.begin(None);
            let (formula, other) = (in_set(&mut k, first), in_set(&mut k, second));
            let (a, b) = (given(&mut k, formula), given(&mut k, other));
            let apart = k.apart(a, b);
            assert_eq!(apart.is_ok(), !s.iter().any(|a| u.contains(a)), "{s:?} apart from {u:?}");
            if let Ok(theorem) = apart {
                assert_eq!((k.terms.get(theorem.conclusion()).op, theorem.assumptions()), (Op::False, 3));
            }
            let y = constant(&mut k.terms, sort::ADDR);
            let formula = node(&mut k.terms, Op::In, y, second);
            let of_another = given(&mut k, formula);
            assert!(k.apart(a, of_another).is_err(), "the member is another");
        }
        for (u, v) in sets.iter().zip(sets.iter().rev()).chain(sets.iter().zip(sets.iter().skip(5))) {
            let (first, second) = (literal(&mut k, u), literal(&mut k, v));
            let split = k.split(member, first, second);
            assert_eq!(
                split.is_ok(),
                s.iter().all(|a| u.contains(a) || v.contains(a)),
                "split {s:?} into {u:?}, {v:?}"
            );
            if let Ok(theorem) = split {
                let (left, right) = (in_set(&mut k, first), in_set(&mut k, second));
                let either = node(&mut k.terms, Op::Or, left, right);
                assert_eq!((theorem.conclusion(), theorem.assumptions()), (either, 1));
            }
        }
    }
}

#[test]
fn sets_of_numbers_are_compared_by_their_members() {
    let store = common::none();
    let numbers = [0u32, 1, 2, 4, 5];
    let sets: Vec<(Vec<u32>, Ranges)> = subsets(&numbers)
        .into_iter()
        .filter_map(|set| Some((set.clone(), Ranges::new(set.iter().map(|n| (*n, *n)).collect())?)))
        .collect();
    for (s, first) in &sets {
        let mut k = kernel(&store);
        k.begin(None);
        let n = constant(&mut k.terms, sort::INT);
        let first = k.terms.set(SetValue::Numbers(first.clone())).expect("room");
        let formula = node(&mut k.terms, Op::In, n, first);
        let member = given(&mut k, formula);
        let bounds = k.bounds(member).expect("a set of numbers");
        let (least, greatest) = (k.terms.int(s[0].into()), k.terms.int(s[s.len() - 1].into()));
        let low = node(&mut k.terms, Op::Le, least.expect("room"), n);
        let high = node(&mut k.terms, Op::Le, n, greatest.expect("room"));
        assert_eq!(bounds.conclusion(), node(&mut k.terms, Op::And, low, high));
        assert_eq!(bounds.assumptions(), 1);
        let m = constant(&mut k.terms, sort::INT);
        let of_another = node(&mut k.terms, Op::Le, m, greatest.expect("room"));
        let (low, of_another) = (given(&mut k, low), given(&mut k, of_another));
        assert_eq!(k.enclose(low, of_another, first), Err(Fault::WrongForm), "they bound two integers");
        for (u, second) in &sets {
            k.begin(None);
            let second = k.terms.set(SetValue::Numbers(second.clone())).expect("room");
            let other = node(&mut k.terms, Op::In, n, second);
            let (a, b) = (given(&mut k, formula), given(&mut k, other));
            assert_eq!(k.widen(a, second).is_ok(), s.iter().all(|n| u.contains(n)), "widen {s:?} to {u:?}");
            assert_eq!(k.apart(a, b).is_ok(), !s.iter().any(|n| u.contains(n)), "{s:?} apart from {u:?}");
            assert!(k.split(a, second, second).is_err(), "only sets of addresses are split");
        }
        for low in -2..=6i64 {
            for high in -2..=6i64 {
                k.begin(None);
                let (least, greatest) = (k.terms.int(low).expect("room"), k.terms.int(high).expect("room"));
                let (below, above) = (node(&mut k.terms, Op::Le, least, n), node(&mut k.terms, Op::Le, n, greatest));
                let (below, above) = (given(&mut k, below), given(&mut k, above));
                let enclosed = k.enclose(below, above, first);
                let all = low <= high && (low..=high).all(|n| u32::try_from(n).is_ok_and(|n| s.contains(&n)));
                assert_eq!(enclosed.is_ok(), all, "{low} to {high} in {s:?}");
                if let Ok(theorem) = enclosed {
                    assert_eq!((theorem.conclusion(), theorem.assumptions()), (formula, 3));
                }
                assert!(k.enclose(above, below, first).is_err(), "the sides are swapped");
            }
        }
        assert!(k.widen(member, n).is_err());
    }
}

#[test]
fn an_address_counted_from_another_is_where_it_can_be() {
    let store = common::none();
    let bases: [&[Addr]; 4] = [&ADDRS[1..2], &ADDRS[0..2], &[ADDRS[0], ADDRS[3]], &[Addr::V6(0), Addr::V4(1)]];
    let targets = subsets(&ADDRS);
    for low in -2..=3i64 {
        for high in -2..=3i64 {
            for (target, base) in targets.iter().flat_map(|t| bases.iter().map(move |b| (t, *b))) {
                let mut k = kernel(&store);
                k.begin(None);
                let (n, x) = (constant(&mut k.terms, sort::INT), constant(&mut k.terms, sort::ADDR));
                let (least, greatest) = (k.terms.int(low).expect("room"), k.terms.int(high).expect("room"));
                let (below, above) = (node(&mut k.terms, Op::Le, least, n), node(&mut k.terms, Op::Le, n, greatest));
                let (below, above) = (given(&mut k, below), given(&mut k, above));
                let set = k.terms.set(SetValue::Addrs(addr_set(target))).expect("room");
                let from = k.terms.set(SetValue::Addrs(addr_set(base))).expect("room");
                let is_in = node(&mut k.terms, Op::In, x, from);
                let is_in = given(&mut k, is_in);
                let reached = |a: &Addr, n: i64| a.offset(n).is_some_and(|a| target.contains(&a));
                // Where no integer is between the two, the rule may say anything; it must still be true where one is.
                let all = |bases: &[Addr]| bases.iter().all(|a| (low..=high).all(|n| reached(a, n)));
                let counted = node(&mut k.terms, Op::Offset, x, n);
                let said = k.offset(below, above, Some(is_in), counted, set);
                assert!(said.is_err() || all(base), "{base:?} + {low}..={high} in {target:?}");
                assert!(said.is_ok() || !all(base) || low > high, "{base:?} + {low}..={high} in {target:?}");
                if let Ok(theorem) = said {
                    let expected = node(&mut k.terms, Op::In, counted, set);
                    assert_eq!((theorem.conclusion(), theorem.assumptions()), (expected, 7));
                }
                let written = k.terms.addr(base[0]).expect("room");
                let counted = node(&mut k.terms, Op::Offset, written, n);
                let said = k.offset(below, above, None, counted, set);
                assert!(said.is_err() || all(&base[..1]), "{:?} + {low}..={high} in {target:?}", base[0]);
                assert!(said.is_ok() || !all(&base[..1]) || low > high);
                assert!(k.offset(below, above, Some(is_in), counted, set).is_err(), "the base is of another address");
                let elsewhere = node(&mut k.terms, Op::Offset, x, least);
                assert!(k.offset(below, above, Some(is_in), elsewhere, set).is_err(), "another number is counted");
            }
        }
    }
}

#[test]
fn ground_formulas_are_evaluated_as_they_are() {
    let store = common::none();
    let mut k = kernel(&store);
    k.begin(None);
    let t = &mut k.terms;
    let mut ints: Vec<Id> = [-2, 0, 1, 3, i64::MAX, i64::MIN].iter().map(|n| t.int(*n).expect("room")).collect();
    for op in [Op::Add, Op::Sub, Op::Mul] {
        for (a, b) in [(0, 1), (1, 2), (3, 3), (4, 2), (5, 2)] {
            ints.push(node(t, op, ints[a], ints[b]));
        }
    }
    let addrs: Vec<Id> = ADDRS.iter().map(|a| t.addr(*a).expect("room")).collect();
    let mut formulas = Vec::new();
    for &a in &ints {
        for &b in &ints {
            formulas.extend([Op::Le, Op::Eq].map(|op| node(t, op, a, b)));
        }
        for range in [(0, 0), (1, 3)] {
            let set = t.set(SetValue::Numbers(Ranges::new(vec![range]).expect("a range"))).expect("room");
            formulas.push(node(t, Op::In, a, set));
        }
    }
    for &a in &addrs {
        formulas.extend(addrs.iter().map(|b| node(t, Op::Eq, a, *b)));
        for set in subsets(&ADDRS) {
            let set = t.set(SetValue::Addrs(addr_set(&set))).expect("room");
            formulas.push(node(t, Op::In, a, set));
        }
    }
    let world = World::default();
    let (mut said, mut out_of_range) = (0, 0);
    for formula in formulas {
        let truth = world.holds(&k.terms, formula).expect("ground");
        match k.evaluate(formula) {
            Ok(theorem) => {
                let expected = if truth { formula } else { node(&mut k.terms, Op::Not, formula, 0) };
                assert_eq!((theorem.conclusion(), theorem.assumptions()), (expected, 0));
                said += 1;
            }
            Err(fault) => {
                assert_eq!(fault, Fault::Overflow);
                out_of_range += 1;
            }
        }
    }
    assert!(said > 600 && out_of_range > 10, "{said} said, {out_of_range} out of range");
    let x = constant(&mut k.terms, sort::ADDR);
    let same = node(&mut k.terms, Op::Eq, x, x);
    assert_eq!(k.evaluate(same), Err(Fault::WrongForm), "what is not ground is not evaluated");
}

#[test]
fn inequalities_contradict_each_other_only_where_no_integers_satisfy_them() {
    let store = common::none();
    let mut r = Random::seeded(0x5eed_0011);
    let (mut found, mut satisfiable) = (0, 0);
    for _ in 0..4000 {
        let mut k = kernel(&store);
        k.begin(None);
        let (x, y) = (constant(&mut k.terms, sort::INT), constant(&mut k.terms, sort::INT));
        let side = |k: &mut Kernel<'_>, r: &mut Random| {
            let t = &mut k.terms;
            let (a, b) = (t.int(r.below(5) as i64 - 2).expect("room"), t.int(r.below(3) as i64).expect("room"));
            let product = node(t, Op::Mul, [x, y, a][r.below(3)], [b, x][r.below(2)]);
            let op = [Op::Add, Op::Sub][r.below(2)];
            node(t, op, [x, y, a, product][r.below(4)], [a, x, product][r.below(3)])
        };
        let mut taken = Vec::new();
        for _ in 0..1 + r.below(3) {
            let (a, b) = (side(&mut k, &mut r), side(&mut k, &mut r));
            let formula = match r.below(3) {
                0 => node(&mut k.terms, Op::Eq, a, b),
                1 => node(&mut k.terms, Op::Le, a, b),
                _ => {
                    let le = node(&mut k.terms, Op::Le, a, b);
                    node(&mut k.terms, Op::Not, le, 0)
                }
            };
            taken.push((given(&mut k, formula), r.below(4) as i64 - 1));
        }
        let holds = |values: (i128, i128)| {
            let constants = vec![Value::Packet(0), Value::Int(values.0), Value::Int(values.1)];
            let world = World { constants, ..World::default() };
            taken.iter().all(|(theorem, _)| world.holds(&k.terms, theorem.conclusion()).expect("small"))
        };
        let some = (-9..=9).any(|x| (-9..=9).any(|y| holds((x, y))));
        satisfiable += usize::from(some);
        let of_all: Vec<Vec<i64>> =
            vec![vec![1, 1, 1], vec![-1, 1, 2], vec![2, 1, -1], taken.iter().map(|t| t.1).collect()];
        for times in of_all {
            let taken: Vec<(Theorem, i64)> = taken.iter().zip(times).map(|((theorem, _), n)| (*theorem, n)).collect();
            let inequality = taken.iter().any(|(t, n)| *n <= 0 && k.terms.get(t.conclusion()).op != Op::Eq);
            if let Ok(theorem) = k.linear(&taken) {
                assert!(!some && !inequality, "{:?}", taken.len());
                assert_eq!(k.terms.get(theorem.conclusion()).op, Op::False);
                assert_eq!(theorem.assumptions(), (1 << taken.len()) - 1);
                found += 1;
            }
        }
    }
    println!("{found} contradictions; {satisfiable} of 4000 systems have a solution");
    assert!(found > 150 && satisfiable > 1000);
    // The sum of what is within 64 bits may not be; it must not wrap.
    let mut k = kernel(&store);
    k.begin(None);
    let x = constant(&mut k.terms, sort::INT);
    let most = k.terms.int(i64::MAX).expect("room");
    let mut product = x;
    for _ in 0..3 {
        product = node(&mut k.terms, Op::Mul, most, product);
    }
    let le = node(&mut k.terms, Op::Le, product, product);
    let le = given(&mut k, le);
    assert_eq!(k.linear(&[(le, i64::MAX)]), Err(Fault::Overflow));
    assert_eq!(k.linear(&[]), Err(Fault::NoContradiction));
    // Equations of integers count, either way round; those of anything else do not.
    let (zero, one) = (k.terms.int(0).expect("room"), k.terms.int(1).expect("room"));
    let [same, turned] = [(x, zero), (zero, x)].map(|(a, b)| node(&mut k.terms, Op::Eq, a, b));
    let above = node(&mut k.terms, Op::Le, one, x);
    let p = constant(&mut k.terms, sort::PACKET);
    let of_packets = node(&mut k.terms, Op::Eq, p, p);
    let [same, turned, above, of_packets] = [same, turned, above, of_packets].map(|f| given(&mut k, f));
    for (equation, times, contradicts) in [(same, 1, true), (turned, -1, true), (same, -1, false), (turned, 1, false)] {
        assert_eq!(k.linear(&[(above, 1), (equation, times)]).is_ok(), contradicts, "{times}");
    }
    assert_eq!(k.linear(&[(above, 1), (same, 1), (of_packets, 1)]), Err(Fault::WrongForm));
    // A literal counts how often the other factor is there, on either side of it.
    let two = k.terms.int(2).expect("room");
    for (a, b) in [(two, x), (x, two)] {
        let product = node(&mut k.terms, Op::Mul, a, b);
        let low = node(&mut k.terms, Op::Le, product, one);
        let low = given(&mut k, low);
        assert!(k.linear(&[(low, 1), (above, 2)]).is_ok() && k.linear(&[(low, 1), (above, 1)]).is_err());
    }
}

// ---- Definitions ----

/// For each operation that has one, terms to define, of constants of which nothing is known.
fn defined(t: &mut Terms) -> Vec<Id> {
    let [s, u] = [constant(t, sort::PACKETS), constant(t, sort::PACKETS)];
    let [a, b] = [constant(t, sort::ADDRS), constant(t, sort::ADDRS)];
    let [l, m] = [constant(t, sort::LIST), constant(t, sort::LIST)];
    let [p, q] = [constant(t, sort::PACKET), constant(t, sort::PACKET)];
    let x = constant(t, sort::ADDR);
    let nil = node(t, Op::Nil, 0, 0);
    let [pl, qm] = [node(t, Op::Cons, p, l), node(t, Op::Cons, q, m)];
    let mut all = vec![
        node(t, Op::Subset, s, u),
        node(t, Op::Subset, a, b),
        node(t, Op::Eq, s, u),
        node(t, Op::Eq, a, b),
        node(t, Op::Eq, nil, pl),
        node(t, Op::Eq, pl, qm),
        node(t, Op::Append, nil, l),
        node(t, Op::Append, pl, m),
        node(t, Op::Len, nil, 0),
        node(t, Op::Len, pl, 0),
        node(t, Op::In, p, nil),
        node(t, Op::In, q, pl),
    ];
    for op in [Op::Union, Op::Inter, Op::Minus] {
        let (of_packets, of_addrs) = (node(t, op, s, u), node(t, op, a, b));
        all.extend([node(t, Op::In, p, of_packets), node(t, Op::In, x, of_addrs)]);
    }
    for op in [Op::From, Op::To] {
        let set = node(t, op, s, a);
        all.push(node(t, Op::In, p, set));
    }
    for op in [Op::BySrc, Op::ByDst] {
        let groups = node(t, op, s, 0);
        let set = node(t, Op::Group, groups, x);
        all.push(node(t, Op::In, p, set));
    }
    for (member, sort) in [(p, sort::PACKETS), (x, sort::ADDRS)] {
        let empty = node(t, Op::Empty, u32::from(sort), 0);
        all.push(node(t, Op::In, member, empty));
    }
    // Unique: of each number of things that there can be.
    let (v, a_packet) = (var(t, 0, sort::PACKET), u32::from(sort::PACKET));
    let in_s = node(t, Op::In, v, s);
    let other = node(t, Op::Exists, a_packet, in_s);
    let both = node(t, Op::And, in_s, other);
    all.extend([in_s, both].map(|body| node(t, Op::Unique, a_packet, body)));
    let v = var(t, 0, sort::ADDR);
    let in_a = node(t, Op::In, v, a);
    all.push(node(t, Op::Unique, u32::from(sort::ADDR), in_a));
    all
}

#[test]
fn definitions_say_what_the_operations_mean() {
    let store = common::none();
    let mut k = kernel(&store);
    k.begin(None);
    let all = defined(&mut k.terms);
    let definitions: Vec<Theorem> = all.iter().map(|id| k.define(*id).expect("it has a definition")).collect();
    let mut r = Random::seeded(0x5eed_0012);
    let mut seen = vec![[0usize; 2]; all.len()];
    for _ in 0..6000 {
        let world = random_world(&mut r, &k.terms, &[]);
        for (i, (id, theorem)) in all.iter().zip(&definitions).enumerate() {
            assert_eq!(theorem.assumptions(), 0);
            let defined = k.terms.get(theorem.conclusion());
            assert!(matches!(defined.op, Op::Iff | Op::Eq) && defined.args[0] == *id);
            assert!(world.holds(&k.terms, theorem.conclusion()).expect("of this world"), "{:?}", k.terms.get(*id));
            let truth = matches!(world.value(&k.terms, *id), Ok(Value::Bool(true) | Value::List(_) | Value::Int(_)));
            seen[i][usize::from(truth)] += 1;
        }
    }
    let one_sided: Vec<usize> = (0..all.len()).filter(|i| seen[*i][1] == 0).collect();
    // Nothing is in the empty sets and the empty list, and no list with a first is empty.
    assert_eq!(one_sided.len(), 4, "{seen:?}");
    // What has no definition has none.
    let t = &mut k.terms;
    let (l, m) = (constant(t, sort::LIST), constant(t, sort::LIST));
    let (same, longer, len) = (node(t, Op::Eq, l, m), node(t, Op::Append, l, m), node(t, Op::Len, l, 0));
    let (n, c) = (constant(t, sort::INT), constant(t, sort::BOOL));
    let g = constant(t, sort::GROUPS);
    let x = constant(t, sort::ADDR);
    let (le, group, p) = (node(t, Op::Le, n, n), node(t, Op::Group, g, x), constant(t, sort::PACKET));
    let (in_group, in_list) = (node(t, Op::In, p, group), node(t, Op::In, p, l));
    for id in [same, longer, len, le, c, n, in_group, in_list] {
        assert!(k.define(id).is_err());
    }
    let v = var(&mut k.terms, 0, sort::PACKET);
    let nil = node(&mut k.terms, Op::Nil, 0, 0);
    let open = node(&mut k.terms, Op::In, v, nil);
    assert_eq!(k.define(open), Err(Fault::WrongForm), "what is not closed is not defined");
}

#[test]
fn unfolding_and_folding_are_the_definition_of_membership() {
    let store = common::none();
    let mut k = kernel(&store);
    k.begin(None);
    for id in defined(&mut k.terms) {
        let Node { op: Op::In, args: [member, set, ..] } = k.terms.get(id) else { continue };
        k.begin(None);
        let is_in = given(&mut k, id);
        let unfolded = k.unfold(is_in).expect("it has a definition");
        let by_definition = k.define(id).expect("it has a definition").conclusion();
        assert_eq!(unfolded.conclusion(), k.terms.get(by_definition).args[1]);
        assert_eq!(unfolded.assumptions(), 1);
        let folded = k.fold(unfolded, member, set).expect("and back");
        assert_eq!((folded.conclusion(), folded.assumptions()), (id, 1));
        let truth = k.truth().expect("room");
        assert!(k.terms.get(unfolded.conclusion()).op == Op::True || k.fold(truth, member, set).is_err());
    }
    // A set that an instruction made: its fact, of whatever packet is in it.
    let s = constant(&mut k.terms, sort::PACKETS);
    let made = constant(&mut k.terms, sort::PACKETS);
    let number = k.terms.get(made).args[0] as usize;
    let the_packet = k.terms.constant(0).expect("there");
    let fact = node(&mut k.terms, Op::In, the_packet, s);
    k.terms.constants[number].fact = Some(fact);
    let q = constant(&mut k.terms, sort::PACKET);
    for member in [the_packet, q] {
        k.begin(None);
        let is_in = node(&mut k.terms, Op::In, member, made);
        let is_in = given(&mut k, is_in);
        let expected = node(&mut k.terms, Op::In, member, s);
        let unfolded = k.unfold(is_in).expect("it has a fact");
        assert_eq!((unfolded.conclusion(), unfolded.assumptions()), (expected, 1));
        assert_eq!(k.fold(unfolded, member, made).map(Theorem::conclusion), Ok(is_in.conclusion()));
        let other = if member == q { the_packet } else { q };
        assert!(k.fold(unfolded, other, made).is_err(), "the fact is said of another packet");
        let in_s = given(&mut k, expected);
        assert_eq!(k.unfold(in_s), Err(Fault::NoFact));
    }
    // Only packets are in what an instruction made of packets, and only such sets are unfolded by their fact.
    let (x, list) = (constant(&mut k.terms, sort::ADDR), constant(&mut k.terms, sort::LIST));
    let truth = k.truth().expect("room");
    assert_eq!(k.fold(truth, x, made), Err(Fault::WrongForm));
    let of_list = k.terms.get(list).args[0] as usize;
    k.terms.constants[of_list].fact = Some(fact);
    k.begin(None);
    let in_list = node(&mut k.terms, Op::In, q, list);
    let in_list = given(&mut k, in_list);
    assert_eq!(k.unfold(in_list), Err(Fault::WrongForm));
    // Facts of packet sets are about the arbitrary packet: they are unfolded, never taken as such.
    assert_eq!(k.fact(number as u32), Err(Fault::NoFact));
    let n = constant(&mut k.terms, sort::INT);
    let number = k.terms.get(n).args[0];
    assert_eq!(k.fact(number), Err(Fault::NoFact));
    let zero = k.terms.int(0).expect("room");
    let fact = node(&mut k.terms, Op::Le, zero, n);
    k.terms.constants[number as usize].fact = Some(fact);
    assert_eq!(k.fact(number).map(|t| (t.conclusion(), t.assumptions())), Ok((fact, 0)));
    assert_eq!(k.fact(9999), Err(Fault::NoFact));
    let open = var(&mut k.terms, 0, sort::PACKET);
    let truth = k.truth().expect("room");
    assert_eq!(k.fold(truth, open, made), Err(Fault::WrongForm));
}
