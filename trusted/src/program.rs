//! Programs: structured, typed, canonical bytecode.
//!
//! Holding a [`Program`] proves that its blocks nest, that every slot is assigned before it is read and has one type,
//! that every index is in range and every dimension within its limit. Decoding is total, and one program has one
//! encoding; the BLAKE3 of the bytes ([`Program::id`]) names it. The format is written down byte by byte in
//! `docs/BYTECODE.md`. What a program means is in [`crate::meaning`].

use crate::addr::{Addr, Prefix, PrefixSet, Principal};
use crate::wire::{Reader, WireError, Writer};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// The first byte of every program: the version of the format.
pub const FORMAT_VERSION: u8 = 1;
/// The most bytes of a program.
pub const PROGRAM_BYTES_MAX: usize = 256 * 1024;
/// The most instructions and conditions of a program, together.
pub const NODES_MAX: usize = 1024;
/// The deepest nesting of blocks and conditions.
pub const DEPTH_MAX: usize = 16;
/// The most slots of a program.
pub const SLOTS_MAX: usize = 64;
/// The most words of a program.
pub const WORDS_MAX: usize = 64;
/// The longest word, in bytes.
pub const WORD_LEN_MAX: usize = 64;
/// The most prefixes that one address set is written with.
pub const PREFIXES_MAX: usize = 16_384;
/// The longest lifetime that the format can say, in seconds: ten years. A policy allows far less.
pub const LIFETIME_MAX_S: u32 = 315_360_000;

/// A variable of a program. Slot 0 is AllPackets; the others are numbered in the order in which they first appear.
pub type Slot = u8;
/// The slot that holds every packet of the window.
pub const ALL_PACKETS: Slot = 0;

/// One of the two addresses of a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Field {
    /// The source address.
    Src,
    /// The destination address.
    Dst,
}

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// A set of packets.
    Packets,
    /// The groups of a partition, in order of first arrival, with the field they were grouped by.
    Groups(Field),
    /// The address that the packets of one group have in common.
    Key(Field),
}

/// A set of addresses as a program writes it: constants, and the two slots that stand for the owner.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddrExpr {
    /// THIS_IP is in it.
    pub this_ip: bool,
    /// The addresses of THIS_SUBNET_IP are in it.
    pub this_subnet: bool,
    /// These addresses are in it.
    pub prefixes: PrefixSet,
}

impl AddrExpr {
    /// The set for one owner, or which name has no value for it.
    ///
    /// # Errors
    /// [`Unset`] where the expression uses a name that this owner has not.
    pub fn resolve(&self, owner: &Principal) -> Result<PrefixSet, Unset> {
        let mut prefixes: Vec<Prefix> = self.prefixes.prefixes().to_vec();
        if self.this_ip {
            prefixes.push(Prefix::host(owner.this_ip().ok_or(Unset::ThisIp)?));
        }
        if self.this_subnet {
            prefixes.push(owner.this_subnet().ok_or(Unset::ThisSubnet)?);
        }
        Ok(PrefixSet::new(prefixes))
    }
    /// Whether `addr` is in the set for one owner. Never allocates.
    ///
    /// # Errors
    /// [`Unset`] as for [`AddrExpr::resolve`], whatever `addr` is.
    pub fn contains(&self, owner: &Principal, addr: Addr) -> Result<bool, Unset> {
        let mut found = self.prefixes.contains(addr);
        if self.this_ip {
            found |= owner.this_ip().ok_or(Unset::ThisIp)? == addr;
        }
        if self.this_subnet {
            found |= owner.this_subnet().ok_or(Unset::ThisSubnet)?.contains(addr);
        }
        Ok(found)
    }
}

/// A name that stands for the owner and has no value for this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unset {
    /// THIS_IP: the owner is an edge router that gave its prefix without an address of its own.
    ThisIp,
    /// THIS_SUBNET_IP: the owner is an end user.
    ThisSubnet,
}

/// One instruction. Instructions are counted from 0 in the order of the bytes: an `If` or `Foreach` before its blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Instr {
    /// `out` = the packets of `arg` whose `field` is in `addrs` (GROUP_BY_… with an address).
    Select {
        /// Assigned; packets.
        out: Slot,
        /// Read; packets.
        arg: Slot,
        /// Which address is looked at.
        field: Field,
        /// Where it has to be.
        addrs: AddrExpr,
    },
    /// `out` = the packets of `arg`, one group for each value of `field` (GROUP_BY_… without an address).
    Partition {
        /// Assigned; groups.
        out: Slot,
        /// Read; packets.
        arg: Slot,
        /// What the packets of a group have in common.
        field: Field,
    },
    /// Drops the packets of `arg`.
    Discard {
        /// Read; packets.
        arg: Slot,
    },
    /// One of two blocks.
    If {
        /// Which.
        cond: Cond,
        /// Run when it is true.
        then: Vec<Instr>,
        /// Run when it is false.
        otherwise: Vec<Instr>,
    },
    /// The block once for each group, in order of first arrival. Two new slots exist inside only: the packets of the
    /// group and their common address, in this order; neither can be assigned.
    Foreach {
        /// Read; groups.
        groups: Slot,
        /// The packets of the group; the next new slot.
        packets: Slot,
        /// Their common address; the slot behind it.
        key: Slot,
        /// What is done for each.
        body: Vec<Instr>,
    },
}

/// A condition. `And` and `Or` look at the right side only where the left one leaves it open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cond {
    /// The content of `arg` contains the word (CONTAINS_STRING).
    Contains {
        /// Read; packets.
        arg: Slot,
        /// The index of the word in the program's list.
        word: u8,
    },
    /// The address that the packets of a group have in common is in `addrs`.
    KeyIn {
        /// Read; key.
        key: Slot,
        /// Where it has to be.
        addrs: AddrExpr,
    },
    /// The opposite.
    Not(Box<Cond>),
    /// Both.
    And(Box<Cond>, Box<Cond>),
    /// At least one.
    Or(Box<Cond>, Box<Cond>),
}

/// A well-formed program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    lifetime_s: u32,
    words: Vec<Vec<u8>>,
    body: Vec<Instr>,
    slots: Vec<Type>,
}

/// Why bytes are no program, or parts do not make one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgramError {
    /// The bytes are broken.
    Wire(WireError),
    /// The first byte is not [`FORMAT_VERSION`].
    UnknownVersion(u8),
    /// There are bytes behind the program.
    TrailingBytes,
    /// More than [`PROGRAM_BYTES_MAX`] bytes.
    TooLong {
        /// The length, in bytes.
        len: usize,
    },
    /// More than [`NODES_MAX`] instructions and conditions.
    TooManyNodes,
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// More than [`SLOTS_MAX`] slots.
    TooManySlots,
    /// More than [`WORDS_MAX`] words.
    TooManyWords,
    /// A word is empty or longer than [`WORD_LEN_MAX`].
    BadWordLength(usize),
    /// Words must be listed once each, in the order of their first use, and all be used.
    WordsNotCanonical,
    /// A lifetime of zero, or above [`LIFETIME_MAX_S`].
    BadLifetime(u32),
    /// An address set is empty, has more than [`PREFIXES_MAX`] prefixes, or is not written as the fewest in order.
    BadAddrSet,
    /// A slot is read that is not assigned on every way there.
    Unassigned(Slot),
    /// A slot is used as another type than it has.
    WrongType(Slot),
    /// A slot is assigned that is not the next new one and cannot be assigned again.
    BadTarget(Slot),
}

impl From<WireError> for ProgramError {
    fn from(error: WireError) -> Self {
        ProgramError::Wire(error)
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::Wire(e) => e.fmt(f),
            ProgramError::UnknownVersion(v) => {
                write!(f, "the program is in format version {v}; this program reads version {FORMAT_VERSION}")
            }
            ProgramError::TrailingBytes => write!(f, "there are bytes behind the end of the program"),
            ProgramError::TooLong { len } => write!(f, "{len} bytes are above the limit of {PROGRAM_BYTES_MAX}"),
            ProgramError::TooManyNodes => write!(f, "more than {NODES_MAX} instructions and conditions"),
            ProgramError::TooDeep => write!(f, "nested deeper than {DEPTH_MAX}"),
            ProgramError::TooManySlots => write!(f, "more than {SLOTS_MAX} variables"),
            ProgramError::TooManyWords => write!(f, "more than {WORDS_MAX} words"),
            ProgramError::BadWordLength(len) => write!(f, "a word of {len} bytes; a word has 1 to {WORD_LEN_MAX}"),
            ProgramError::WordsNotCanonical => write!(f, "the words are not listed once each in order of first use"),
            ProgramError::BadLifetime(s) => write!(f, "a lifetime of {s} s; it is 1 to {LIFETIME_MAX_S} s"),
            ProgramError::BadAddrSet => {
                write!(f, "an address set is empty, above {PREFIXES_MAX} prefixes, or not in its shortest form")
            }
            ProgramError::Unassigned(slot) => write!(f, "slot {slot} is read before it is assigned on every way"),
            ProgramError::WrongType(slot) => write!(f, "slot {slot} is used as a type that it has not"),
            ProgramError::BadTarget(slot) => write!(f, "slot {slot} cannot be assigned here"),
        }
    }
}

impl Program {
    /// The program of these parts.
    ///
    /// # Errors
    /// The first offence found.
    pub fn new(lifetime_s: u32, words: Vec<Vec<u8>>, body: Vec<Instr>) -> Result<Program, ProgramError> {
        let slots = Shape::of(lifetime_s, &words, &body)?;
        let program = Program { lifetime_s, words, body, slots };
        let len = program.encode().len();
        if len > PROGRAM_BYTES_MAX { Err(ProgramError::TooLong { len }) } else { Ok(program) }
    }
    /// How long it asks to run, in seconds.
    #[must_use]
    pub const fn lifetime_s(&self) -> u32 {
        self.lifetime_s
    }
    /// The words that it looks for, in order of first use.
    #[must_use]
    pub fn words(&self) -> &[Vec<u8>] {
        &self.words
    }
    /// The instructions.
    #[must_use]
    pub fn body(&self) -> &[Instr] {
        &self.body
    }
    /// The type of each slot.
    #[must_use]
    pub fn slots(&self) -> &[Type] {
        &self.slots
    }
    /// The program's name: the BLAKE3 of its bytes.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }

    /// The one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(FORMAT_VERSION);
        w.integer(u64::from(self.lifetime_s));
        w.integer(self.words.len() as u64);
        for word in &self.words {
            w.integer(word.len() as u64);
            w.bytes(word);
        }
        write_block(&mut w, &self.body);
        w.finish()
    }

    /// The program of these bytes.
    ///
    /// # Errors
    /// The first offence found.
    pub fn decode(bytes: &[u8]) -> Result<Program, ProgramError> {
        if bytes.len() > PROGRAM_BYTES_MAX {
            return Err(ProgramError::TooLong { len: bytes.len() });
        }
        let mut r = Decoder { r: Reader::new(bytes), nodes: 0, next_slot: 1 };
        let version = r.r.byte()?;
        if version != FORMAT_VERSION {
            return Err(ProgramError::UnknownVersion(version));
        }
        let lifetime_s = r.r.integer(u64::from(u32::MAX))? as u32;
        let count = r.r.integer(u64::MAX)?;
        if count > WORDS_MAX as u64 {
            return Err(ProgramError::TooManyWords);
        }
        let mut words = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let len = r.r.integer(bytes.len() as u64)? as usize;
            if len == 0 || len > WORD_LEN_MAX {
                return Err(ProgramError::BadWordLength(len));
            }
            words.push(r.r.bytes(len)?.to_vec());
        }
        let body = r.block(0)?;
        if !r.r.is_done() {
            return Err(ProgramError::TrailingBytes);
        }
        let slots = Shape::of(lifetime_s, &words, &body)?;
        Ok(Program { lifetime_s, words, body, slots })
    }
}

const OP_SELECT_SRC: u8 = 0x01;
const OP_SELECT_DST: u8 = 0x02;
const OP_PARTITION_SRC: u8 = 0x03;
const OP_PARTITION_DST: u8 = 0x04;
const OP_DISCARD: u8 = 0x05;
const OP_IF: u8 = 0x06;
const OP_FOREACH: u8 = 0x07;
const COND_CONTAINS: u8 = 0x20;
const COND_KEY_IN: u8 = 0x21;
const COND_NOT: u8 = 0x22;
const COND_AND: u8 = 0x23;
const COND_OR: u8 = 0x24;
const ADDRS_THIS_IP: u8 = 0x01;
const ADDRS_THIS_SUBNET: u8 = 0x02;
const ADDRS_PREFIXES: u8 = 0x04;

fn write_block(w: &mut Writer, block: &[Instr]) {
    w.integer(block.len() as u64);
    for instr in block {
        match instr {
            Instr::Select { out, arg, field, addrs } => {
                w.byte(if *field == Field::Src { OP_SELECT_SRC } else { OP_SELECT_DST });
                w.byte(*out);
                w.byte(*arg);
                write_addrs(w, addrs);
            }
            Instr::Partition { out, arg, field } => {
                w.byte(if *field == Field::Src { OP_PARTITION_SRC } else { OP_PARTITION_DST });
                w.byte(*out);
                w.byte(*arg);
            }
            Instr::Discard { arg } => {
                w.byte(OP_DISCARD);
                w.byte(*arg);
            }
            Instr::If { cond, then, otherwise } => {
                w.byte(OP_IF);
                write_cond(w, cond);
                write_block(w, then);
                write_block(w, otherwise);
            }
            // The two slots of a Foreach are the next new ones, so they are not written.
            Instr::Foreach { groups, packets: _, key: _, body } => {
                w.byte(OP_FOREACH);
                w.byte(*groups);
                write_block(w, body);
            }
        }
    }
}

fn write_cond(w: &mut Writer, cond: &Cond) {
    match cond {
        Cond::Contains { arg, word } => {
            w.byte(COND_CONTAINS);
            w.byte(*arg);
            w.byte(*word);
        }
        Cond::KeyIn { key, addrs } => {
            w.byte(COND_KEY_IN);
            w.byte(*key);
            write_addrs(w, addrs);
        }
        Cond::Not(c) => {
            w.byte(COND_NOT);
            write_cond(w, c);
        }
        Cond::And(a, b) => {
            w.byte(COND_AND);
            write_cond(w, a);
            write_cond(w, b);
        }
        Cond::Or(a, b) => {
            w.byte(COND_OR);
            write_cond(w, a);
            write_cond(w, b);
        }
    }
}

/// Writes an address set: a byte of flags, then the constants, if any. A policy's formulas use the same form.
pub(crate) fn write_addrs(w: &mut Writer, addrs: &AddrExpr) {
    let prefixes = addrs.prefixes.prefixes();
    w.byte(
        if addrs.this_ip { ADDRS_THIS_IP } else { 0 }
            | if addrs.this_subnet { ADDRS_THIS_SUBNET } else { 0 }
            | if prefixes.is_empty() { 0 } else { ADDRS_PREFIXES },
    );
    if !prefixes.is_empty() {
        w.integer(prefixes.len() as u64);
        for &prefix in prefixes {
            w.prefix(prefix);
        }
    }
}

/// Reads what [`write_addrs`] wrote.
pub(crate) fn read_addrs(r: &mut Reader<'_>) -> Result<AddrExpr, ProgramError> {
    let flags = r.byte()?;
    if flags & !(ADDRS_THIS_IP | ADDRS_THIS_SUBNET | ADDRS_PREFIXES) != 0 {
        return Err(WireError::UnknownTag(flags).into());
    }
    let mut prefixes = Vec::new();
    if flags & ADDRS_PREFIXES != 0 {
        let count = r.integer(u64::MAX)?;
        if count == 0 || count > PREFIXES_MAX as u64 {
            return Err(ProgramError::BadAddrSet);
        }
        for _ in 0..count {
            prefixes.push(r.prefix()?);
        }
    }
    let set = PrefixSet::new(prefixes.clone());
    if set.prefixes() != prefixes {
        return Err(ProgramError::BadAddrSet);
    }
    let addrs =
        AddrExpr { this_ip: flags & ADDRS_THIS_IP != 0, this_subnet: flags & ADDRS_THIS_SUBNET != 0, prefixes: set };
    check_addrs(&addrs)?;
    Ok(addrs)
}

/// An address set says something and is within its limit.
pub(crate) fn check_addrs(addrs: &AddrExpr) -> Result<(), ProgramError> {
    let count = addrs.prefixes.prefixes().len();
    if count > PREFIXES_MAX || (count == 0 && !addrs.this_ip && !addrs.this_subnet) {
        return Err(ProgramError::BadAddrSet);
    }
    Ok(())
}

/// Reads nested blocks, no deeper and no more than the limits, so that the bytes never decide how much stack is used.
struct Decoder<'a> {
    r: Reader<'a>,
    nodes: usize,
    next_slot: usize,
}

impl Decoder<'_> {
    fn node(&mut self, depth: usize) -> Result<(), ProgramError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(ProgramError::TooManyNodes);
        }
        if depth > DEPTH_MAX {
            return Err(ProgramError::TooDeep);
        }
        Ok(())
    }

    fn block(&mut self, depth: usize) -> Result<Vec<Instr>, ProgramError> {
        let count = self.r.integer(u64::MAX)?;
        if count > NODES_MAX as u64 {
            return Err(ProgramError::TooManyNodes);
        }
        let mut block = Vec::with_capacity((count as usize).min(16));
        for _ in 0..count {
            self.node(depth)?;
            block.push(self.instr(depth)?);
        }
        Ok(block)
    }

    fn instr(&mut self, depth: usize) -> Result<Instr, ProgramError> {
        let op = self.r.byte()?;
        Ok(match op {
            OP_SELECT_SRC | OP_SELECT_DST => {
                let (out, arg) = self.target()?;
                let field = if op == OP_SELECT_SRC { Field::Src } else { Field::Dst };
                Instr::Select { out, arg, field, addrs: read_addrs(&mut self.r)? }
            }
            OP_PARTITION_SRC | OP_PARTITION_DST => {
                let (out, arg) = self.target()?;
                let field = if op == OP_PARTITION_SRC { Field::Src } else { Field::Dst };
                Instr::Partition { out, arg, field }
            }
            OP_DISCARD => Instr::Discard { arg: self.r.byte()? },
            OP_IF => {
                let cond = self.cond(depth + 1)?;
                let then = self.block(depth + 1)?;
                let otherwise = self.block(depth + 1)?;
                Instr::If { cond, then, otherwise }
            }
            OP_FOREACH => {
                let groups = self.r.byte()?;
                if self.next_slot + 2 > SLOTS_MAX {
                    return Err(ProgramError::TooManySlots);
                }
                let packets = self.next_slot as Slot;
                self.next_slot += 2;
                Instr::Foreach { groups, packets, key: packets + 1, body: self.block(depth + 1)? }
            }
            tag => return Err(WireError::UnknownTag(tag).into()),
        })
    }

    fn target(&mut self) -> Result<(Slot, Slot), ProgramError> {
        let (out, arg) = (self.r.byte()?, self.r.byte()?);
        if usize::from(out) == self.next_slot {
            self.next_slot += 1;
        }
        Ok((out, arg))
    }

    fn cond(&mut self, depth: usize) -> Result<Cond, ProgramError> {
        self.node(depth)?;
        Ok(match self.r.byte()? {
            COND_CONTAINS => Cond::Contains { arg: self.r.byte()?, word: self.r.byte()? },
            COND_KEY_IN => Cond::KeyIn { key: self.r.byte()?, addrs: read_addrs(&mut self.r)? },
            COND_NOT => Cond::Not(Box::new(self.cond(depth + 1)?)),
            COND_AND => Cond::And(Box::new(self.cond(depth + 1)?), Box::new(self.cond(depth + 1)?)),
            COND_OR => Cond::Or(Box::new(self.cond(depth + 1)?), Box::new(self.cond(depth + 1)?)),
            tag => return Err(WireError::UnknownTag(tag).into()),
        })
    }
}

/// Checks the shape of a program while walking it once in the order of its bytes.
struct Shape<'a> {
    words: &'a [Vec<u8>],
    words_seen: usize,
    nodes: usize,
    slots: Vec<Type>,
    /// Whether each slot may be assigned again: not AllPackets, nor what a Foreach binds.
    fixed: Vec<bool>,
    /// Whether each slot is assigned on every way to here.
    assigned: Vec<bool>,
}

impl Shape<'_> {
    fn of(lifetime_s: u32, words: &[Vec<u8>], body: &[Instr]) -> Result<Vec<Type>, ProgramError> {
        if lifetime_s == 0 || lifetime_s > LIFETIME_MAX_S {
            return Err(ProgramError::BadLifetime(lifetime_s));
        }
        if words.len() > WORDS_MAX {
            return Err(ProgramError::TooManyWords);
        }
        for (i, word) in words.iter().enumerate() {
            if word.is_empty() || word.len() > WORD_LEN_MAX {
                return Err(ProgramError::BadWordLength(word.len()));
            }
            if words[..i].contains(word) {
                return Err(ProgramError::WordsNotCanonical);
            }
        }
        let mut shape = Shape {
            words,
            words_seen: 0,
            nodes: 0,
            slots: alloc::vec![Type::Packets],
            fixed: alloc::vec![true],
            assigned: alloc::vec![true],
        };
        shape.block(body, 0)?;
        if shape.words_seen != words.len() {
            return Err(ProgramError::WordsNotCanonical);
        }
        Ok(shape.slots)
    }

    fn node(&mut self, depth: usize) -> Result<(), ProgramError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(ProgramError::TooManyNodes);
        }
        if depth > DEPTH_MAX {
            return Err(ProgramError::TooDeep);
        }
        Ok(())
    }

    fn new_slot(&mut self, slot: Slot, ty: Type, fixed: bool) -> Result<(), ProgramError> {
        if usize::from(slot) != self.slots.len() {
            return Err(ProgramError::BadTarget(slot));
        }
        if self.slots.len() == SLOTS_MAX {
            return Err(ProgramError::TooManySlots);
        }
        self.slots.push(ty);
        self.fixed.push(fixed);
        self.assigned.push(true);
        Ok(())
    }

    fn read(&self, slot: Slot, what: fn(Type) -> bool) -> Result<Type, ProgramError> {
        let ty = *self.slots.get(usize::from(slot)).ok_or(ProgramError::Unassigned(slot))?;
        if !self.assigned[usize::from(slot)] {
            return Err(ProgramError::Unassigned(slot));
        }
        if what(ty) { Ok(ty) } else { Err(ProgramError::WrongType(slot)) }
    }

    fn packets(&self, slot: Slot) -> Result<(), ProgramError> {
        self.read(slot, |ty| ty == Type::Packets).map(|_| ())
    }

    fn assign(&mut self, slot: Slot, ty: Type) -> Result<(), ProgramError> {
        let Some(&held) = self.slots.get(usize::from(slot)) else {
            return self.new_slot(slot, ty, false);
        };
        if self.fixed[usize::from(slot)] {
            return Err(ProgramError::BadTarget(slot));
        }
        if held != ty {
            return Err(ProgramError::WrongType(slot));
        }
        self.assigned[usize::from(slot)] = true;
        Ok(())
    }

    fn block(&mut self, block: &[Instr], depth: usize) -> Result<(), ProgramError> {
        for instr in block {
            self.node(depth)?;
            match instr {
                Instr::Select { out, arg, field: _, addrs } => {
                    self.packets(*arg)?;
                    check_addrs(addrs)?;
                    self.assign(*out, Type::Packets)?;
                }
                Instr::Partition { out, arg, field } => {
                    self.packets(*arg)?;
                    self.assign(*out, Type::Groups(*field))?;
                }
                Instr::Discard { arg } => self.packets(*arg)?,
                Instr::If { cond, then, otherwise } => {
                    self.cond(cond, depth + 1)?;
                    let before = self.assigned.clone();
                    self.block(then, depth + 1)?;
                    let after_then = core::mem::replace(&mut self.assigned, before);
                    self.assigned.resize(self.slots.len(), false);
                    self.block(otherwise, depth + 1)?;
                    for (slot, assigned) in self.assigned.iter_mut().enumerate() {
                        *assigned &= after_then.get(slot).copied().unwrap_or(false);
                    }
                }
                Instr::Foreach { groups, packets, key, body } => {
                    let Type::Groups(field) = self.read(*groups, |ty| matches!(ty, Type::Groups(_)))? else {
                        return Err(ProgramError::WrongType(*groups));
                    };
                    let before = self.assigned.clone();
                    self.new_slot(*packets, Type::Packets, true)?;
                    self.new_slot(*key, Type::Key(field), true)?;
                    self.block(body, depth + 1)?;
                    // The block may run no time at all.
                    self.assigned = before;
                    self.assigned.resize(self.slots.len(), false);
                }
            }
        }
        Ok(())
    }

    fn cond(&mut self, cond: &Cond, depth: usize) -> Result<(), ProgramError> {
        self.node(depth)?;
        match cond {
            Cond::Contains { arg, word } => {
                self.packets(*arg)?;
                let word = usize::from(*word);
                if word > self.words_seen || word >= self.words.len() {
                    return Err(ProgramError::WordsNotCanonical);
                }
                self.words_seen = self.words_seen.max(word + 1);
                Ok(())
            }
            Cond::KeyIn { key, addrs } => {
                self.read(*key, |ty| matches!(ty, Type::Key(_)))?;
                check_addrs(addrs)
            }
            Cond::Not(c) => self.cond(c, depth + 1),
            Cond::And(a, b) | Cond::Or(a, b) => {
                self.cond(a, depth + 1)?;
                self.cond(b, depth + 1)
            }
        }
    }
}

/// An owner's address as a set of one, for callers that build programs.
impl From<Addr> for AddrExpr {
    fn from(addr: Addr) -> Self {
        AddrExpr { prefixes: PrefixSet::of(addr), ..AddrExpr::default() }
    }
}
