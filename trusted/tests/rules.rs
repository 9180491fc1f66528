//! Every rule is sound: what it concludes is true in every structure in which its premises are.
//!
//! Theorems are derived at random from random facts, using every rule, and each is held against the truth: it has to
//! hold under every valuation of a small structure that satisfies the facts. A rule that lets one false conclusion
//! through is found here, whether or not a program could make use of it.

mod common;
use common::Random;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};
use vinet_trusted::logic::{Facts, Kernel, Prop, PropId, Props, Term, Theorem, Version};
use vinet_trusted::program::Field;

const ADDRS: [Addr; 4] = [Addr::V4(0), Addr::V4(1), Addr::V4(2), Addr::V6(0)];
const VERSIONS: u32 = 4;
const KEY: Version = VERSIONS;
const ANSWERS: u32 = 1;
const STRUCTURES: usize = 300;
const GIVEN: usize = 10;
const STEPS: usize = 400;

/// One way the world may be: the packet's addresses, the group's address, the sets it is in, and the answers.
struct World {
    src: Addr,
    dst: Addr,
    key: Addr,
    members: u32,
    answers: u32,
}

impl World {
    fn all() -> Vec<World> {
        let mut all = Vec::new();
        for src in ADDRS {
            for dst in ADDRS {
                for key in ADDRS {
                    for members in 0..1 << VERSIONS {
                        all.extend((0..1 << ANSWERS).map(|answers| World { src, dst, key, members, answers }));
                    }
                }
            }
        }
        all
    }

    fn address(&self, term: Term) -> Addr {
        match term {
            Term::Field(Field::Src) => self.src,
            Term::Field(Field::Dst) => self.dst,
            Term::Key(_) => self.key,
        }
    }

    fn holds(&self, props: &dyn Fn(PropId) -> Prop, sets: &[PrefixSet], prop: PropId) -> bool {
        let holds = |p| self.holds(props, sets, p);
        match props(prop) {
            Prop::True => true,
            Prop::False => false,
            Prop::Member(version) => self.members >> version & 1 == 1,
            Prop::Answer(answer) => self.answers >> answer & 1 == 1,
            Prop::In(term, set) => sets[set as usize].contains(self.address(term)),
            Prop::Same(a, b) => self.address(a) == self.address(b),
            Prop::Not(a) => !holds(a),
            Prop::And(a, b) => holds(a) && holds(b),
            Prop::Or(a, b) => holds(a) || holds(b),
            Prop::Implies(a, b) => !holds(a) || holds(b),
        }
    }
}

fn sets() -> Vec<PrefixSet> {
    let of = |list: &[(Addr, u8)]| {
        PrefixSet::new(list.iter().map(|&(a, len)| Prefix::of(a, len).expect("a length of the family")).collect())
    };
    vec![
        of(&[(ADDRS[0], 32)]),
        of(&[(ADDRS[0], 31)]),
        of(&[(ADDRS[1], 32), (ADDRS[2], 32)]),
        of(&[(ADDRS[0], 0)]),
        of(&[(ADDRS[3], 128), (ADDRS[0], 32)]),
    ]
}

fn term(r: &mut Random) -> Term {
    [Term::Field(Field::Src), Term::Field(Field::Dst), Term::Key(KEY)][r.below(3)]
}

fn random_prop(r: &mut Random, intern: &mut dyn FnMut(Prop) -> PropId, depth: usize) -> PropId {
    let choice = if depth == 0 { r.below(6) } else { r.below(10) };
    let mut below = |r: &mut Random| random_prop(r, intern, depth - 1);
    let prop = match choice {
        0 => Prop::True,
        1 => Prop::False,
        2 => Prop::Member(r.below(VERSIONS as usize) as u32),
        3 => Prop::Answer(0),
        4 => Prop::In(term(r), r.below(5) as u32),
        5 => Prop::Same(term(r), term(r)),
        6 => Prop::Not(below(r)),
        7 => Prop::And(below(r), below(r)),
        8 => Prop::Or(below(r), below(r)),
        _ => Prop::Implies(below(r), below(r)),
    };
    intern(prop)
}

/// A proposition made of a few atoms, so that rules that need matching parts find them often, and just miss them often.
fn from_atoms(r: &mut Random, atoms: &[PropId], intern: &mut dyn FnMut(Prop) -> PropId) -> PropId {
    let (a, b) = (atoms[r.below(atoms.len())], atoms[r.below(atoms.len())]);
    let inner = intern(Prop::Not(a));
    let no = intern(Prop::False);
    match r.below(9) {
        0 => a,
        1 => inner,
        2 => intern(Prop::Not(inner)),
        3 => intern(Prop::And(a, b)),
        4 | 5 => intern(Prop::Or(a, b)),
        6 => intern(Prop::Implies(a, no)),
        _ => intern(Prop::Implies(a, b)),
    }
}

const RULES: usize = 19;

/// Applies the rule with this number to random theorems, or nothing where it does not apply.
fn apply(
    rule: usize,
    r: &mut Random,
    kernel: &mut Kernel<'_>,
    theorems: &[Theorem],
    assumed: &mut Vec<PropId>,
) -> Option<Theorem> {
    let some = |r: &mut Random| theorems[r.below(theorems.len())];
    match rule {
        0 => kernel.claim(r.below(assumed.len())).ok(),
        1 => {
            let prop = random_prop(r, &mut |p| kernel.intern(p), 2);
            if assumed.len() < 16 && kernel.assume(prop).is_ok() {
                assumed.push(prop);
            }
            None
        }
        2 => kernel.discharge(r.below(assumed.len()), some(r)).ok(),
        3 => kernel.modus_ponens(some(r), some(r)).ok(),
        4 => Some(kernel.both(some(r), some(r))),
        5 => kernel.left(some(r)).ok(),
        6 => kernel.right(some(r)).ok(),
        7 => {
            let other = random_prop(r, &mut |p| kernel.intern(p), 1);
            Some(kernel.either_left(some(r), other))
        }
        8 => {
            let other = random_prop(r, &mut |p| kernel.intern(p), 1);
            Some(kernel.either_right(other, some(r)))
        }
        9 => kernel.cases(some(r), some(r), some(r)).ok(),
        10 => kernel.absurd(some(r), some(r)).ok(),
        11 => kernel.negate(some(r)).ok(),
        12 => kernel.double_negation(some(r)).ok(),
        13 => Some(kernel.truth()),
        14 => kernel.unfold(some(r)).ok(),
        15 => kernel.widen(some(r), r.below(5) as u32).ok(),
        16 => kernel.apart(some(r), some(r)).ok(),
        17 => kernel.symmetry(some(r)).ok(),
        _ => kernel.carry(some(r), some(r)).ok(),
    }
}

#[test]
fn every_rule_concludes_only_what_is_true() {
    let seed = std::env::var("VINET_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5eed_0002);
    println!("VINET_SEED={seed}");
    let mut r = Random(seed);
    let worlds = World::all();
    let mut applied = [0usize; RULES];
    for _ in 0..STRUCTURES {
        let mut props = Props::default();
        let mut facts = Facts { sets: sets(), members: Vec::new(), answers: ANSWERS };
        for _ in 0..VERSIONS {
            let fact = random_prop(&mut r, &mut |p| props.intern(p), 2);
            facts.members.push((r.below(4) > 0).then_some(fact));
        }
        let view = props.clone();
        let lawful = |world: &&World| {
            facts.members.iter().enumerate().all(|(version, fact)| {
                let member = world.members >> version & 1 == 1;
                fact.is_none_or(|fact| !member || world.holds(&|p| view.get(p), &facts.sets, fact))
            })
        };
        let worlds: Vec<&World> = worlds.iter().filter(lawful).collect();

        // Two sets for one address and an equality among them, for the rules about addresses.
        let t = term(&mut r);
        let mut atoms: Vec<PropId> = (0..2).map(|_| props.intern(Prop::In(t, r.below(5) as u32))).collect();
        atoms.push(props.intern(Prop::Same(t, term(&mut r))));
        atoms.extend((0..2).map(|_| random_prop(&mut r, &mut |p| props.intern(p), 0)));
        let given: Vec<PropId> = (0..GIVEN).map(|_| from_atoms(&mut r, &atoms, &mut |p| props.intern(p))).collect();
        let mut assumed = given.clone();
        let mut theorems: Vec<(Theorem, Vec<PropId>)> = Vec::new();
        {
            let mut kernel = Kernel::new(&facts, &mut props);
            kernel.restart(given.iter().copied()).expect("within the limit");
            let mut stack: Vec<Theorem> = (0..GIVEN).map(|i| kernel.claim(i).expect("given")).collect();
            for _ in 0..STEPS {
                // The rules that need a rare form are tried more often, so that each gets its turns.
                let rule = r.below(RULES);
                for _ in 0..if matches!(rule, 3 | 9 | 10 | 16 | 18) { 40 } else { 1 } {
                    if let Some(theorem) = apply(rule, &mut r, &mut kernel, &stack, &mut assumed) {
                        applied[rule] += 1;
                        // The rules that always apply would crowd out the others.
                        if !matches!(rule, 0 | 4 | 7 | 8 | 13) || r.below(6) == 0 {
                            stack.push(theorem);
                        }
                        if stack.len() > 60 {
                            let at = r.below(stack.len());
                            stack.swap_remove(at);
                        }
                        let under = (0..assumed.len()).filter(|i| theorem.assumptions() >> i & 1 == 1);
                        theorems.push((theorem, under.map(|i| assumed[i]).collect()));
                        break;
                    }
                }
            }
        }
        for (theorem, under) in &theorems {
            for world in &worlds {
                let holds = |p| world.holds(&|p| props.get(p), &facts.sets, p);
                if under.iter().all(|&p| holds(p)) {
                    assert!(holds(theorem.conclusion()), "{:?} does not follow", props.get(theorem.conclusion()));
                }
            }
        }
    }
    println!("applications of each rule: {applied:?}");
    for (rule, count) in applied.iter().enumerate() {
        assert!(*count >= 20 || rule == 1, "rule {rule} was applied only {count} times");
    }
}
