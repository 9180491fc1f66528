//! Finite structures, and the truth in them: what every theorem is held against.
//!
//! Addresses are [`ADDRS`]; packets are the world's; sets of either are bits; integers are exact, and those that are
//! quantified over are [`INTS`]; lists that are quantified over have up to [`LIST_MAX`] packets. An address counted from
//! another one that would not be among [`ADDRS`] is the first.

use super::Random;
use vinet_trusted::addr::Addr;
use vinet_trusted::packet::{Field, Packet, Ranges};
use vinet_trusted::term::{Id, Node, Op, SetValue, Sort, Terms, sort};

pub const ADDRS: [Addr; 5] = [Addr::V4(0), Addr::V4(1), Addr::V4(2), Addr::V4(3), Addr::V6(0)];
pub const INTS: std::ops::RangeInclusive<i128> = -3..=6;
pub const LIST_MAX: usize = 2;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Bool(bool),
    Addr(Addr),
    /// Bits at the indices of [`ADDRS`].
    Addrs(u8),
    Int(i128),
    Numbers(Ranges),
    Content(u64),
    Packet(usize),
    /// Bits at the indices of the world's packets.
    Packets(u8),
    Groups(Field, u8),
    List(Vec<usize>),
    Declared(u8),
}

/// One way the world may be.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub packets: Vec<Packet>,
    pub constants: Vec<Value>,
    /// What symbols without arguments stand for.
    pub symbols: Vec<Value>,
}

/// The formula speaks of what the quantifiers of this structure do not reach, or of what it has not.
#[derive(Debug)]
pub struct Outside;

impl World {
    /// All values of a sort that are quantified over.
    pub fn domain(&self, sort: Sort) -> Vec<Value> {
        let n = self.packets.len();
        match sort {
            sort::BOOL => vec![Value::Bool(false), Value::Bool(true)],
            sort::ADDR => ADDRS.iter().map(|a| Value::Addr(*a)).collect(),
            sort::ADDRS => (0..1 << ADDRS.len()).map(|bits| Value::Addrs(bits as u8)).collect(),
            sort::INT => INTS.map(Value::Int).collect(),
            sort::NUMBERS => {
                [(0, 0), (1, 3), (2, 5)].iter().filter_map(|r| Ranges::new(vec![*r])).map(Value::Numbers).collect()
            }
            sort::CONTENT => (0..2).map(Value::Content).collect(),
            sort::PACKET => (0..n).map(Value::Packet).collect(),
            sort::PACKETS => (0..1 << n).map(|bits| Value::Packets(bits as u8)).collect(),
            sort::GROUPS => {
                [Field::Src, Field::Dst].iter().flat_map(|f| (0..1 << n).map(|b| Value::Groups(*f, b as u8))).collect()
            }
            sort::LIST => {
                let mut all = vec![vec![]];
                let mut longest = all.clone();
                for _ in 0..LIST_MAX {
                    longest =
                        longest.iter().flat_map(|l: &Vec<usize>| (0..n).map(|p| [&l[..], &[p]].concat())).collect();
                    all.extend(longest.clone());
                }
                all.into_iter().map(Value::List).collect()
            }
            _ => (0..2).map(Value::Declared).collect(),
        }
    }

    pub fn holds(&self, terms: &Terms, formula: Id) -> Result<bool, Outside> {
        self.truth(terms, formula, &mut Vec::new())
    }

    pub fn value(&self, terms: &Terms, term: Id) -> Result<Value, Outside> {
        self.eval(terms, term, &mut Vec::new())
    }

    /// Whether a quantifier reaches the value of a term.
    pub fn reaches(&self, terms: &Terms, term: Id) -> bool {
        self.value(terms, term).is_ok_and(|value| self.domain(terms.sort(term)).contains(&value))
    }

    fn truth(&self, t: &Terms, id: Id, bound: &mut Vec<Value>) -> Result<bool, Outside> {
        match self.eval(t, id, bound)? {
            Value::Bool(truth) => Ok(truth),
            other => panic!("{other:?} is no truth value"),
        }
    }

    fn eval(&self, t: &Terms, id: Id, bound: &mut Vec<Value>) -> Result<Value, Outside> {
        use Value::*;
        let Node { op, args } = t.get(id);
        let [a, b, ..] = args;
        Ok(match op {
            Op::Var => bound[bound.len() - 1 - a as usize].clone(),
            Op::Const => self.constants.get(a as usize).ok_or(Outside)?.clone(),
            Op::Slot => return Err(Outside),
            Op::Int => Int(i128::from(t.as_int(id).expect("a literal"))),
            Op::Addr => Addr(t.addrs[a as usize]),
            Op::Set => match &t.sets[a as usize] {
                SetValue::Addrs(set) => {
                    Addrs(ADDRS.iter().enumerate().map(|(i, addr)| u8::from(set.contains(*addr)) << i).sum())
                }
                SetValue::Numbers(set) => Numbers(set.clone()),
            },
            Op::Symbol => self.symbols.get(a as usize).ok_or(Outside)?.clone(),
            Op::True => Bool(true),
            Op::False => Bool(false),
            Op::Not => Bool(!self.truth(t, a, bound)?),
            Op::And => Bool(self.truth(t, a, bound)? && self.truth(t, b, bound)?),
            Op::Or => Bool(self.truth(t, a, bound)? || self.truth(t, b, bound)?),
            Op::Implies => Bool(!self.truth(t, a, bound)? || self.truth(t, b, bound)?),
            Op::Iff => Bool(self.truth(t, a, bound)? == self.truth(t, b, bound)?),
            Op::Forall | Op::Exists | Op::Unique => {
                let mut count = 0;
                let domain = self.domain(a as Sort);
                let all = domain.len();
                for value in domain {
                    bound.push(value);
                    let holds = self.truth(t, b, bound);
                    bound.pop();
                    count += usize::from(holds?);
                }
                Bool(match op {
                    Op::Forall => count == all,
                    Op::Exists => count > 0,
                    _ => count == 1,
                })
            }
            Op::Nil => List(vec![]),
            Op::Empty => {
                if a == u32::from(sort::ADDRS) {
                    Addrs(0)
                } else {
                    Packets(0)
                }
            }
            Op::Src | Op::Dst | Op::Num | Op::Content => {
                let Packet(p) = self.eval(t, a, bound)? else { panic!("no packet") };
                let packet = &self.packets[p];
                match op {
                    Op::Src => Addr(packet.src),
                    Op::Dst => Addr(packet.dst),
                    Op::Num => Int(i128::from(packet.numbers[b as usize])),
                    _ => Content(packet.content),
                }
            }
            Op::BySrc | Op::ByDst => {
                let Packets(bits) = self.eval(t, a, bound)? else { panic!("no set of packets") };
                Groups(if op == Op::BySrc { Field::Src } else { Field::Dst }, bits)
            }
            Op::Len => {
                let List(list) = self.eval(t, a, bound)? else { panic!("no list") };
                Int(list.len() as i128)
            }
            _ => {
                let (left, right) = (self.eval(t, a, bound)?, self.eval(t, b, bound)?);
                self.of_two(op, left, right)?
            }
        })
    }

    fn with(&self, field: Field, bits: u8, is: impl Fn(Addr) -> bool) -> u8 {
        let chosen = |(i, p): (usize, &Packet)| bits >> i & 1 != 0 && is(p.field(field));
        self.packets.iter().enumerate().map(|(i, p)| u8::from(chosen((i, p))) << i).sum()
    }

    fn of_two(&self, op: Op, left: Value, right: Value) -> Result<Value, Outside> {
        use Value::*;
        let bit = |bits: u8, i: usize| bits >> i & 1 != 0;
        let index = |addr: vinet_trusted::addr::Addr| ADDRS.iter().position(|a| *a == addr);
        Ok(match (op, left, right) {
            (Op::Add, Int(a), Int(b)) => Int(a.checked_add(b).ok_or(Outside)?),
            (Op::Sub, Int(a), Int(b)) => Int(a.checked_sub(b).ok_or(Outside)?),
            (Op::Mul, Int(a), Int(b)) => Int(a.checked_mul(b).ok_or(Outside)?),
            (Op::Offset, Addr(a), Int(n)) => {
                let there = i64::try_from(n).ok().and_then(|n| a.offset(n));
                Addr(there.filter(|a| index(*a).is_some()).unwrap_or(ADDRS[0]))
            }
            (Op::Union, Addrs(a), Addrs(b)) => Addrs(a | b),
            (Op::Inter, Addrs(a), Addrs(b)) => Addrs(a & b),
            (Op::Minus, Addrs(a), Addrs(b)) => Addrs(a & !b),
            (Op::Union, Packets(a), Packets(b)) => Packets(a | b),
            (Op::Inter, Packets(a), Packets(b)) => Packets(a & b),
            (Op::Minus, Packets(a), Packets(b)) => Packets(a & !b),
            (Op::From | Op::To, Packets(a), Addrs(b)) => {
                let field = if op == Op::From { Field::Src } else { Field::Dst };
                Packets(self.with(field, a, |addr| index(addr).is_some_and(|i| bit(b, i))))
            }
            (Op::Group, Groups(field, bits), Addr(key)) => Packets(self.with(field, bits, |addr| addr == key)),
            (Op::Cons, Packet(p), List(l)) => List([&[p][..], &l].concat()),
            (Op::Append, List(a), List(b)) => List([a, b].concat()),
            (Op::Eq, a, b) => Bool(a == b),
            (Op::In, Addr(a), Addrs(bits)) => Bool(index(a).is_some_and(|i| bit(bits, i))),
            (Op::In, Int(n), Numbers(set)) => Bool(u32::try_from(n).is_ok_and(|n| set.contains(n))),
            (Op::In, Packet(p), Packets(bits)) => Bool(bit(bits, p)),
            (Op::In, Packet(p), List(l)) => Bool(l.contains(&p)),
            (Op::Le, Int(a), Int(b)) => Bool(a <= b),
            (Op::Subset, Packets(a) | Addrs(a), Packets(b) | Addrs(b)) => Bool(a & !b == 0),
            (op, a, b) => panic!("{op:?} of {a:?} and {b:?}"),
        })
    }
}

/// Some packets.
pub fn random_packets(r: &mut Random, count: usize) -> Vec<Packet> {
    let mut packet = || {
        let mut packet = Packet::between(r.of(&ADDRS), r.of(&ADDRS));
        packet.numbers = std::array::from_fn(|_| r.of(&[0, 1, 3, 5, Packet::ABSENT]));
        packet.content = r.below(2) as u64;
        packet
    };
    (0..count).map(|_| packet()).collect()
}

/// Worlds that agree with the facts of the constants, which speak of earlier ones alone.
pub fn random_world(r: &mut Random, terms: &Terms, symbols: &[Sort]) -> World {
    loop {
        let packets = 1 + r.below(3);
        let mut world = World { packets: random_packets(r, packets), ..World::default() };
        let all_hold = terms.constants.iter().all(|constant| {
            let value = match constant.fact.filter(|_| constant.sort == sort::PACKETS) {
                Some(fact) => {
                    let arbitrary = world.constants[0].clone();
                    let mut bits = 0;
                    for p in 0..packets {
                        world.constants[0] = Value::Packet(p);
                        bits |= u8::from(world.holds(terms, fact).expect("facts are of this world")) << p;
                    }
                    world.constants[0] = arbitrary;
                    Value::Packets(bits)
                }
                None => r.of(&world.domain(constant.sort)),
            };
            world.constants.push(value);
            constant.sort == sort::PACKETS
                || constant.fact.is_none_or(|f| world.holds(terms, f).expect("of this world"))
        });
        if all_hold {
            for sort in symbols {
                let value = r.of(&world.domain(*sort));
                world.symbols.push(value);
            }
            return world;
        }
    }
}
