//! Packets as far as programs and policies see them, and tests of them.
//!
//! A [`Test`] is the one way in which a program selects packets by their headers and in which a policy says what is
//! allowed; it is decidable, and [`Test::eval`] decides it.

use crate::addr::{Addr, AddrExpr, Principal, Unset};
use crate::program::Slot;
use crate::wire::{Reader, Wire, WireError, Writer, wire_enum};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The most ranges that one set of numbers is written with.
pub const RANGES_MAX: usize = 256;

/// One of the two addresses of a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Field {
    /// The source address.
    Src,
    /// The destination address.
    Dst,
}
wire_enum!(Field { 0x00 Src {} 0x01 Dst {} });

/// A number in a packet's headers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Number {
    /// The protocol of the IP payload, behind any extension headers.
    Protocol,
    /// The source port of TCP, UDP and their like; absent in fragments that do not begin a datagram.
    SrcPort,
    /// The destination port.
    DstPort,
    /// The length of the whole IP packet, in bytes.
    Length,
    /// TCP's FIN, 0 or 1; absent where there is no TCP header. So are the other flags.
    Fin,
    /// TCP's SYN.
    Syn,
    /// TCP's RST.
    Rst,
    /// TCP's PSH.
    Psh,
    /// TCP's ACK.
    Ack,
    /// TCP's URG.
    Urg,
}
wire_enum!(Number {
    0x00 Protocol {} 0x01 SrcPort {} 0x02 DstPort {} 0x03 Length {} 0x04 Fin {} 0x05 Syn {} 0x06 Rst {} 0x07 Psh {}
    0x08 Ack {} 0x09 Urg {}
});

impl Number {
    /// All of them, each at the index that it is as a number.
    pub const ALL: [Number; 10] = [
        Number::Protocol,
        Number::SrcPort,
        Number::DstPort,
        Number::Length,
        Number::Fin,
        Number::Syn,
        Number::Rst,
        Number::Psh,
        Number::Ack,
        Number::Urg,
    ];
}

/// A packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Where it comes from.
    pub src: Addr,
    /// Where it goes to.
    pub dst: Addr,
    /// Its numbers, at the index of [`Number`]; [`Packet::ABSENT`] where it has none.
    pub numbers: [u32; 10],
    /// Stands for its content (protocol, ports and payload): two packets have the same exactly if their contents are.
    pub content: u64,
}

impl Packet {
    /// Stands for a number that a packet has not. It is in no range.
    pub const ABSENT: u32 = u32::MAX;

    /// A packet of which nothing but the addresses is known.
    #[must_use]
    pub const fn between(src: Addr, dst: Addr) -> Packet {
        Packet { src, dst, numbers: [Packet::ABSENT; 10], content: 0 }
    }
    /// One of its two addresses.
    #[must_use]
    pub const fn field(&self, field: Field) -> Addr {
        match field {
            Field::Src => self.src,
            Field::Dst => self.dst,
        }
    }
    /// One of its numbers.
    #[must_use]
    pub const fn number(&self, number: Number) -> Option<u32> {
        match self.numbers[number as usize] {
            Packet::ABSENT => None,
            value => Some(value),
        }
    }
}

/// A set of numbers as the fewest ranges, in rising order; each a first and a last number, the last below
/// [`Packet::ABSENT`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// The numbers in any of `ranges`, which may come in any order, overlap and touch. Nothing where there is none, a
    /// range ends before it begins or at [`Packet::ABSENT`], or more than [`RANGES_MAX`] are needed.
    #[must_use]
    pub fn new(mut ranges: Vec<(u32, u32)>) -> Option<Ranges> {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            if first > last || last == Packet::ABSENT {
                return None;
            }
            match merged.last_mut() {
                Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        (!merged.is_empty() && merged.len() <= RANGES_MAX).then_some(Ranges(merged))
    }
    /// The ranges, fewest possible, rising.
    #[must_use]
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }
    /// Whether `number` is in it.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.covers(number, number)
    }
    /// Whether all numbers from `first` to `last` are in it.
    #[must_use]
    pub fn covers(&self, first: u32, last: u32) -> bool {
        self.0.iter().any(|&(a, b)| a <= first && last <= b)
    }
    /// Whether all of `other` is in it.
    #[must_use]
    pub fn includes(&self, other: &Ranges) -> bool {
        other.0.iter().all(|&(first, last)| self.covers(first, last))
    }
    /// Whether no number is in both.
    #[must_use]
    pub fn disjoint(&self, other: &Ranges) -> bool {
        !self.0.iter().any(|&(a, b)| other.0.iter().any(|&(first, last)| first <= b && a <= last))
    }
}

/// A count, then each first number and how many follow it.
impl Wire for Ranges {
    fn write(&self, w: &mut Writer) {
        w.integer(self.0.len() as u64);
        for (first, last) in &self.0 {
            w.integer(u64::from(*first));
            w.integer(u64::from(last - first));
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = r.integer(RANGES_MAX as u64)? as usize;
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            let first = r.integer(u64::from(Packet::ABSENT - 1))? as u32;
            ranges.push((first, first + r.integer(u64::from(Packet::ABSENT - 1 - first))? as u32));
        }
        match Ranges::new(ranges.clone()) {
            Some(set) if set.0 == ranges => Ok(set),
            _ => Err(WireError::BadSet),
        }
    }
}

/// A statement about one packet, for the owner of a program.
#[expect(missing_docs, reason = "what a variant's fields are stands in its own line")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Test {
    /// Always.
    True,
    /// Never.
    False,
    /// The owner owns the address: an end user its own, an edge router those of its prefix.
    Owns { field: Field },
    /// The address is in the set.
    In { field: Field, addrs: AddrExpr },
    /// The address is the one that the slot holds. Only in programs.
    Is { field: Field, slot: Slot },
    /// The packet has the number, and it is in one of the ranges.
    Number { number: Number, ranges: Ranges },
    /// The opposite.
    Not { a: Box<Test> },
    /// Both.
    And { a: Box<Test>, b: Box<Test> },
    /// At least one.
    Or { a: Box<Test>, b: Box<Test> },
}
wire_enum!(Test {
    0x40 True {} 0x41 False {} 0x42 Owns { field } 0x43 In { field, addrs } 0x44 Is { field, slot }
    0x45 Number { number, ranges } 0x46 Not { a } 0x47 And { a, b } 0x48 Or { a, b }
});

impl Test {
    /// Whether it holds of `packet` for `owner`, where `held` tells what slots hold. Never allocates.
    ///
    /// # Errors
    /// [`Unset`] where it uses a name that `owner` has not.
    pub fn eval(&self, owner: &Principal, packet: &Packet, held: &dyn Fn(Slot) -> Addr) -> Result<bool, Unset> {
        Ok(match self {
            Test::True => true,
            Test::False => false,
            Test::Owns { field } => owner.owned().contains(packet.field(*field)),
            Test::In { field, addrs } => addrs.contains(owner, packet.field(*field))?,
            Test::Is { field, slot } => packet.field(*field) == held(*slot),
            Test::Number { number, ranges } => packet.number(*number).is_some_and(|n| ranges.contains(n)),
            Test::Not { a } => !a.eval(owner, packet, held)?,
            Test::And { a, b } => a.eval(owner, packet, held)? & b.eval(owner, packet, held)?,
            Test::Or { a, b } => a.eval(owner, packet, held)? | b.eval(owner, packet, held)?,
        })
    }
    /// Gives `each` every slot that it reads.
    ///
    /// # Errors
    /// The first that `each` gives.
    pub fn slots<E>(&self, each: &mut dyn FnMut(Slot) -> Result<(), E>) -> Result<(), E> {
        match self {
            Test::Is { slot, .. } => each(*slot),
            Test::Not { a } => a.slots(each),
            Test::And { a, b } | Test::Or { a, b } => {
                a.slots(each)?;
                b.slots(each)
            }
            _ => Ok(()),
        }
    }
    /// Whether it looks at nothing but addresses.
    #[must_use]
    pub fn is_of_addresses(&self) -> bool {
        match self {
            Test::Number { .. } => false,
            Test::Not { a } => a.is_of_addresses(),
            Test::And { a, b } | Test::Or { a, b } => a.is_of_addresses() && b.is_of_addresses(),
            _ => true,
        }
    }
}
