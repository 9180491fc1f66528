//! What is said of loops, as formulas over the program's slots.

use vinet_trusted::addr::{AddrExpr, PrefixSet, Principal};
use vinet_trusted::packet::{Field, Test};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{AddrTerm, Cond, Expr, Slot, Type};
use vinet_trusted::term::{Id, Op, SetValue, Terms, sort};
use vinet_trusted::walk::EventKind;

/// Something that holds at the head of a loop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Invariant {
    /// A condition on integers and addresses.
    Cond(Cond),
    /// Every packet of the slot has its address in the set.
    Within(Slot, Field, AddrExpr),
    /// Every packet of the slot is one of the other slot's.
    Subset(Slot, Slot),
    /// The policy allows the event to every packet of the slot.
    Allowed(Slot, EventKind),
    /// The integer is 0 or less, or the other holds.
    Unless(Slot, Box<Invariant>),
}

/// Its formula. Nothing where it cannot be said: a certificate can speak only of the addresses and sets that the program and the
/// policy have named before.
pub fn invariant(t: &mut Terms, owner: &Principal, policy: &Policy, said: &Invariant) -> Option<Id> {
    match said {
        Invariant::Cond(cond) => condition(t, owner, cond),
        Invariant::Unless(flag, inner) => {
            let (zero, flag) = (t.int(0).ok()?, slot(t, *flag, Type::Int)?);
            let is_off = t.node(Op::Le, flag, zero).ok()?;
            let inner = invariant(t, owner, policy, inner)?;
            t.node(Op::Or, is_off, inner).ok()
        }
        Invariant::Within(packets, field, addrs) => {
            let set = known_set(t, &addrs.resolve(owner).ok()?)?;
            every(t, *packets, |t, packet| {
                let addr = t.node(if *field == Field::Src { Op::Src } else { Op::Dst }, packet, 0).ok()?;
                t.node(Op::In, addr, set).ok()
            })
        }
        Invariant::Subset(packets, of) => {
            let of = slot(t, *of, Type::Packets)?;
            every(t, *packets, |t, packet| t.node(Op::In, packet, of).ok())
        }
        Invariant::Allowed(packets, event) => {
            let formula = match event {
                EventKind::Discard => &policy.discard,
                EventKind::Group => &policy.group,
                EventKind::Scan => &policy.scan,
                EventKind::Generate => return None,
            };
            every(t, *packets, |t, packet| test(t, owner, formula, packet))
        }
    }
}

fn every(t: &mut Terms, packets: Slot, says: impl FnOnce(&mut Terms, Id) -> Option<Id>) -> Option<Id> {
    let packets = slot(t, packets, Type::Packets)?;
    let packet = t.node(Op::Var, 0, u32::from(sort::PACKET)).ok()?;
    let (is_in, says) = (t.node(Op::In, packet, packets).ok()?, says(t, packet)?);
    let implies = t.node(Op::Implies, is_in, says).ok()?;
    t.node(Op::Forall, u32::from(sort::PACKET), implies).ok()
}

fn slot(t: &mut Terms, slot: Slot, ty: Type) -> Option<Id> {
    let sort = match ty {
        Type::Packets => sort::PACKETS,
        Type::Addr => sort::ADDR,
        Type::Int => sort::INT,
        _ => return None,
    };
    t.node(Op::Slot, u32::from(slot), u32::from(sort)).ok()
}

fn known_set(t: &mut Terms, set: &PrefixSet) -> Option<Id> {
    let at = t.sets.iter().position(|known| matches!(known, SetValue::Addrs(known) if known == set))?;
    t.node(Op::Set, at as u32, 0).ok()
}

/// A test of a packet, as the walk makes it.
fn test(t: &mut Terms, owner: &Principal, said: &Test, packet: Id) -> Option<Id> {
    let field =
        |t: &mut Terms, field: Field| t.node(if field == Field::Src { Op::Src } else { Op::Dst }, packet, 0).ok();
    match said {
        Test::True => t.node(Op::True, 0, 0).ok(),
        Test::False => t.node(Op::False, 0, 0).ok(),
        Test::Owns { field: of } => {
            let set = known_set(t, &PrefixSet::new(vec![owner.owned()]))?;
            let addr = field(t, *of)?;
            t.node(Op::In, addr, set).ok()
        }
        Test::In { field: of, addrs } => {
            let set = known_set(t, &addrs.resolve(owner).ok()?)?;
            let addr = field(t, *of)?;
            t.node(Op::In, addr, set).ok()
        }
        Test::Is { .. } => None,
        Test::Number { number, ranges } => {
            let number = t.node(Op::Num, packet, *number as u32).ok()?;
            let at = t.sets.iter().position(|known| matches!(known, SetValue::Numbers(known) if known == ranges))?;
            let set = t.node(Op::Set, at as u32, 0).ok()?;
            t.node(Op::In, number, set).ok()
        }
        Test::Not { a } => {
            let a = test(t, owner, a, packet)?;
            t.node(Op::Not, a, 0).ok()
        }
        Test::And { a, b } | Test::Or { a, b } => {
            let (a, b) = (test(t, owner, a, packet)?, test(t, owner, b, packet)?);
            t.node(if matches!(said, Test::And { .. }) { Op::And } else { Op::Or }, a, b).ok()
        }
    }
}

/// An integer expression over slots.
pub fn expr(t: &mut Terms, said: &Expr) -> Option<Id> {
    let (op, a, b) = match said {
        Expr::Const { value } => return t.int(*value).ok(),
        Expr::Slot { slot: held } => return slot(t, *held, Type::Int),
        Expr::Add { a, b } => (Op::Add, a, b),
        Expr::Sub { a, b } => (Op::Sub, a, b),
        Expr::Mul { a, b } => (Op::Mul, a, b),
    };
    let (a, b) = (expr(t, a)?, expr(t, b)?);
    t.node(op, a, b).ok()
}

fn address(t: &mut Terms, owner: &Principal, said: &AddrTerm) -> Option<Id> {
    let addr = match said {
        AddrTerm::Slot { slot: held } => return slot(t, *held, Type::Addr),
        AddrTerm::ThisIp => owner.this_ip()?,
        AddrTerm::ThisSubnet => owner.this_subnet()?.addr(),
        AddrTerm::Const { addr } => *addr,
    };
    let at = t.addrs.iter().position(|known| *known == addr)?;
    t.node(Op::Addr, at as u32, 0).ok()
}

fn condition(t: &mut Terms, owner: &Principal, said: &Cond) -> Option<Id> {
    match said {
        Cond::Contains { .. } => None,
        Cond::Empty { arg } => {
            let packets = slot(t, *arg, Type::Packets)?;
            let packet = t.node(Op::Var, 0, u32::from(sort::PACKET)).ok()?;
            let is_in = t.node(Op::In, packet, packets).ok()?;
            let some = t.node(Op::Exists, u32::from(sort::PACKET), is_in).ok()?;
            t.node(Op::Not, some, 0).ok()
        }
        Cond::AddrIn { addr, addrs } => {
            let set = known_set(t, &addrs.resolve(owner).ok()?)?;
            let addr = slot(t, *addr, Type::Addr)?;
            t.node(Op::In, addr, set).ok()
        }
        Cond::AddrIs { addr, is } => {
            let (addr, is) = (slot(t, *addr, Type::Addr)?, address(t, owner, is)?);
            t.node(Op::Eq, addr, is).ok()
        }
        Cond::AtMost { a, b } | Cond::Equal { a, b } => {
            let (a, b) = (expr(t, a)?, expr(t, b)?);
            t.node(if matches!(said, Cond::AtMost { .. }) { Op::Le } else { Op::Eq }, a, b).ok()
        }
        Cond::Not { cond } => {
            let inner = condition(t, owner, cond)?;
            t.node(Op::Not, inner, 0).ok()
        }
        Cond::And { a, b } | Cond::Or { a, b } => {
            let (a, b) = (condition(t, owner, a)?, condition(t, owner, b)?);
            t.node(if matches!(said, Cond::And { .. }) { Op::And } else { Op::Or }, a, b).ok()
        }
    }
}
