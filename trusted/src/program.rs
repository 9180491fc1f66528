//! Programs: structured, typed, canonical bytecode.
//!
//! Holding a [`Program`] proves that its blocks nest, that every slot is assigned before it is read and has one type,
//! that every index is in range and every dimension within its limit. Decoding is total, and one program has one
//! encoding; the BLAKE3 of the bytes ([`Program::id`]) names it. The format is written down byte by byte in
//! `docs/BYTECODE.md`. What a program means is in [`crate::meaning`].

pub use crate::addr::{AddrExpr, PREFIXES_MAX, Unset};
pub use crate::packet::Field;

use crate::addr::Addr;
use crate::packet::Test;
use crate::wire::{Reader, Wire, WireError, Writer, wire_enum};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// The first byte of every program: the version of the format.
pub const FORMAT_VERSION: u8 = 2;
/// The most bytes of a program.
pub const PROGRAM_BYTES_MAX: usize = 256 * 1024;
/// The most instructions, conditions, tests and expressions of a program, together.
pub const NODES_MAX: usize = 1024;
/// The deepest nesting of them.
pub const DEPTH_MAX: usize = 24;
/// The most slots of a program.
pub const SLOTS_MAX: usize = 64;
/// The most words of a program.
pub const WORDS_MAX: usize = 64;
/// The longest word, in bytes.
pub const WORD_LEN_MAX: usize = 64;
/// The longest lifetime that the format can say, in seconds: ten years. A policy allows far less.
pub const LIFETIME_MAX_S: u32 = 315_360_000;
/// The most packets of a window. A policy may allow fewer.
pub const WINDOW_MAX: u16 = 256;
/// The most turns that a `while` can ask for.
pub const LOOP_MAX: u32 = 65_536;
/// The largest answer of COUNT_STRING: where there are more, it is this.
pub const COUNT_MAX: i64 = 65_535;

/// A variable of a program. Slot 0 is AllPackets; the others are numbered in the order in which they first appear.
pub type Slot = u8;
/// The slot that holds every packet of the window.
pub const ALL_PACKETS: Slot = 0;

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// A set of packets.
    Packets,
    /// The groups of a partition, in order of first arrival, with the field they were grouped by.
    Groups(Field),
    /// An address.
    Addr,
    /// A 64-bit integer.
    Int,
    /// For each content of a GROUP_BY_CONTENT the destinations that it was sent to.
    Dests,
    /// The contents of a GROUP_BY_CONTENT.
    Contents,
}

/// One address.
#[expect(missing_docs, reason = "what a variant's fields are stands in its own line")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AddrTerm {
    /// THIS_IP.
    ThisIp,
    /// The first address of THIS_SUBNET_IP.
    ThisSubnet,
    /// This one.
    Const { addr: Addr },
    /// What a slot holds.
    Slot { slot: Slot },
}
wire_enum!(AddrTerm { 0x00 ThisIp {} 0x01 ThisSubnet {} 0x02 Const { addr } 0x03 Slot { slot } });

/// A 64-bit integer. A step that would leave 64 bits ends the run.
#[expect(missing_docs, reason = "what a variant's fields are stands in its own line")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expr {
    /// This one.
    Const { value: i64 },
    /// What a slot holds.
    Slot { slot: Slot },
    /// a + b.
    Add { a: Box<Expr>, b: Box<Expr> },
    /// a − b.
    Sub { a: Box<Expr>, b: Box<Expr> },
    /// a × b.
    Mul { a: Box<Expr>, b: Box<Expr> },
}
wire_enum!(Expr {
    0x30 Const { value } 0x31 Slot { slot } 0x32 Add { a, b } 0x33 Sub { a, b } 0x34 Mul { a, b }
});

/// One instruction. Instructions are counted from 0 in the order of the bytes: an `If`, `Foreach` or `While` before its
/// blocks.
#[expect(missing_docs, reason = "what a variant's fields are stands in its own line")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Instr {
    /// `out` = the packets of `arg` that pass the test (GROUP_BY_… with an address; SELECT).
    Select { out: Slot, arg: Slot, test: Test },
    /// `out` = the packets of `arg`, one group for each value of `field` (GROUP_BY_… without an address).
    Partition { out: Slot, arg: Slot, field: Field },
    /// GROUP_BY_CONTENT: the contents of the packets of `arg`, each once, in order of first arrival, and for each the
    /// destinations that it goes to, in order of arrival.
    Content { dests: Slot, contents: Slot, arg: Slot },
    /// `out` = the packets that are in `a` or in `b`.
    Union { out: Slot, a: Slot, b: Slot },
    /// `out` = the packets of `a` that are not in `b`.
    Minus { out: Slot, a: Slot, b: Slot },
    /// `out` = how often the word is in the content of the packets of `arg` (COUNT_STRING), [`COUNT_MAX`] at most.
    Count { out: Slot, arg: Slot, word: u8 },
    /// `out` = how many packets `arg` has.
    Size { out: Slot, arg: Slot },
    /// `out` = the value of an expression.
    Let { out: Slot, expr: Expr },
    /// `out` = the address `by` addresses behind `base`. One outside its family ends the run.
    Offset { out: Slot, base: AddrTerm, by: Expr },
    /// Drops the packets of `arg`.
    Discard { arg: Slot },
    /// Sends what `data` holds from `src` to `dst`, in packets of the router's making (GENERATE).
    Generate { src: AddrTerm, dst: AddrTerm, data: Slot },
    /// One of two blocks.
    If { cond: Cond, then: Vec<Instr>, otherwise: Vec<Instr> },
    /// The block once for each group, in order of first arrival. Two new slots exist inside only: the packets of the
    /// group and their common address; neither can be assigned.
    Foreach { groups: Slot, packets: Slot, key: Slot, body: Vec<Instr> },
    /// The block as long as the condition holds. More than `max` turns end the run.
    While { cond: Cond, max: u32, body: Vec<Instr> },
}
wire_enum!(Instr {
    0x01 Select { out, arg, test }
    0x02 Partition { out, arg, field }
    0x03 Content { dests, contents, arg }
    0x04 Union { out, a, b }
    0x05 Minus { out, a, b }
    0x06 Count { out, arg, word }
    0x07 Size { out, arg }
    0x08 Let { out, expr }
    0x09 Offset { out, base, by }
    0x0a Discard { arg }
    0x0b Generate { src, dst, data }
    0x0c If { cond, then, otherwise }
    0x0d Foreach { groups, packets, key, body }
    0x0e While { cond, max, body }
});

impl Instr {
    /// The blocks inside it, in the order of the bytes.
    pub fn blocks(&self) -> impl Iterator<Item = &Vec<Instr>> {
        let (first, second) = match self {
            Instr::If { then, otherwise, .. } => (Some(then), Some(otherwise)),
            Instr::Foreach { body, .. } | Instr::While { body, .. } => (Some(body), None),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
    /// How many instructions it is, with those inside it.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.blocks().flatten().map(Instr::count).sum::<usize>()
    }
    /// The slots that it assigns itself, without those that its blocks assign and what a Foreach binds.
    pub fn targets(&self) -> impl Iterator<Item = Slot> {
        let (first, second) = match *self {
            Instr::Select { out, .. }
            | Instr::Partition { out, .. }
            | Instr::Union { out, .. }
            | Instr::Minus { out, .. }
            | Instr::Count { out, .. }
            | Instr::Size { out, .. }
            | Instr::Let { out, .. }
            | Instr::Offset { out, .. } => (Some(out), None),
            Instr::Content { dests, contents, .. } => (Some(dests), Some(contents)),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// A condition. `And` and `Or` look at the right side only where the left one leaves it open.
#[expect(missing_docs, reason = "what a variant's fields are stands in its own line")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cond {
    /// The content of `arg` contains the word (CONTAINS_STRING).
    Contains { arg: Slot, word: u8 },
    /// `arg` has no packets.
    Empty { arg: Slot },
    /// The address is in `addrs`.
    AddrIn { addr: Slot, addrs: AddrExpr },
    /// The two addresses are the same.
    AddrIs { addr: Slot, is: AddrTerm },
    /// a ≤ b.
    AtMost { a: Expr, b: Expr },
    /// a = b.
    Equal { a: Expr, b: Expr },
    /// The opposite.
    Not { cond: Box<Cond> },
    /// Both.
    And { a: Box<Cond>, b: Box<Cond> },
    /// At least one.
    Or { a: Box<Cond>, b: Box<Cond> },
}
wire_enum!(Cond {
    0x20 Contains { arg, word }
    0x21 Empty { arg }
    0x22 AddrIn { addr, addrs }
    0x23 AddrIs { addr, is }
    0x24 AtMost { a, b }
    0x25 Equal { a, b }
    0x26 Not { cond }
    0x27 And { a, b }
    0x28 Or { a, b }
});

/// A word that content is searched for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// Whether upper and lower case letters of ASCII are the same. Then the bytes have no upper case ones, and one lower
    /// case one at least.
    pub fold: bool,
    /// What is looked for.
    pub bytes: Vec<u8>,
}

impl Wire for Word {
    fn write(&self, w: &mut Writer) {
        w.integer((self.bytes.len() as u64) << 1 | u64::from(self.fold));
        w.bytes(&self.bytes);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let head = r.integer(2 * PROGRAM_BYTES_MAX as u64 + 1)?;
        Ok(Word { fold: head & 1 != 0, bytes: r.bytes((head >> 1) as usize)?.to_vec() })
    }
}

/// A well-formed program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    lifetime_s: u32,
    window: u16,
    words: Vec<Word>,
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
    /// More than [`SLOTS_MAX`] slots.
    TooManySlots,
    /// More than [`WORDS_MAX`] words.
    TooManyWords,
    /// A word is empty or longer than [`WORD_LEN_MAX`].
    BadWordLength(usize),
    /// Words must be listed once each, in the order of their first use, and all be used; one that is searched for in
    /// upper and lower case alike is written in lower case and has a letter.
    WordsNotCanonical,
    /// A lifetime of zero, or above [`LIFETIME_MAX_S`].
    BadLifetime(u32),
    /// A window above [`WINDOW_MAX`]. A window of 0 is one as long as the policy has it.
    BadWindow(u16),
    /// A loop of no turns, or of more than [`LOOP_MAX`].
    BadLoop(u32),
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
            ProgramError::TooManySlots => write!(f, "more than {SLOTS_MAX} variables"),
            ProgramError::TooManyWords => write!(f, "more than {WORDS_MAX} words"),
            ProgramError::BadWordLength(len) => write!(f, "a word of {len} bytes; a word has 1 to {WORD_LEN_MAX}"),
            ProgramError::WordsNotCanonical => write!(f, "the words are not listed once each in order of first use"),
            ProgramError::BadLifetime(s) => write!(f, "a lifetime of {s} s; it is 1 to {LIFETIME_MAX_S} s"),
            ProgramError::BadWindow(n) => write!(f, "a window of {n} packets; it is {WINDOW_MAX} at most"),
            ProgramError::BadLoop(n) => write!(f, "a loop of {n} turns; it is 1 to {LOOP_MAX}"),
            ProgramError::Unassigned(slot) => write!(f, "slot {slot} is read before it is assigned on every way"),
            ProgramError::WrongType(slot) => write!(f, "slot {slot} is used as a type that it has not"),
            ProgramError::BadTarget(slot) => write!(f, "slot {slot} cannot be assigned here"),
        }
    }
}

impl Program {
    /// The program of these parts. A window of 0 is one as long as the policy has it.
    ///
    /// # Errors
    /// The first offence found, as in [`Program::decode`].
    pub fn new(lifetime_s: u32, window: u16, words: Vec<Word>, body: Vec<Instr>) -> Result<Program, ProgramError> {
        Program::decode(&Program { lifetime_s, window, words, body, slots: Vec::new() }.encode())
    }
    /// How long it asks to run, in seconds.
    #[must_use]
    pub const fn lifetime_s(&self) -> u32 {
        self.lifetime_s
    }
    /// How many packets it looks at together, at most: 1 unless it asks for more; 0 for as many as the policy has.
    #[must_use]
    pub const fn window(&self) -> u16 {
        self.window
    }
    /// The words that it looks for, in order of first use.
    #[must_use]
    pub fn words(&self) -> &[Word] {
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
        self.lifetime_s.write(&mut w);
        self.window.write(&mut w);
        self.words.write(&mut w);
        self.body.write(&mut w);
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
        let mut r = Reader::new(bytes, NODES_MAX, DEPTH_MAX);
        let version = r.byte()?;
        if version != FORMAT_VERSION {
            return Err(ProgramError::UnknownVersion(version));
        }
        let (lifetime_s, window) = (u32::read(&mut r)?, u16::read(&mut r)?);
        let (words, body) = (Vec::<Word>::read(&mut r)?, Vec::<Instr>::read(&mut r)?);
        if !r.is_done() {
            return Err(ProgramError::TrailingBytes);
        }
        if lifetime_s == 0 || lifetime_s > LIFETIME_MAX_S {
            return Err(ProgramError::BadLifetime(lifetime_s));
        }
        if window > WINDOW_MAX {
            return Err(ProgramError::BadWindow(window));
        }
        let slots = Shape::of(&words, &body)?;
        Ok(Program { lifetime_s, window, words, body, slots })
    }
}

/// Checks the shape of a program while walking it once in the order of its bytes.
struct Shape<'a> {
    words: &'a [Word],
    words_seen: usize,
    slots: Vec<Type>,
    /// Bit s: slot s may be assigned again. Not AllPackets, nor what a Foreach binds.
    free: u64,
    /// Bit s: slot s is assigned on every way to here.
    assigned: u64,
}

impl Shape<'_> {
    fn of(words: &[Word], body: &[Instr]) -> Result<Vec<Type>, ProgramError> {
        if words.len() > WORDS_MAX {
            return Err(ProgramError::TooManyWords);
        }
        for (i, Word { fold, bytes }) in words.iter().enumerate() {
            if bytes.is_empty() || bytes.len() > WORD_LEN_MAX {
                return Err(ProgramError::BadWordLength(bytes.len()));
            }
            let upper = bytes.iter().any(u8::is_ascii_uppercase);
            let lower = bytes.iter().any(u8::is_ascii_lowercase);
            if words[..i].contains(&words[i]) || *fold && (upper || !lower) {
                return Err(ProgramError::WordsNotCanonical);
            }
        }
        let mut slots = Vec::with_capacity(8);
        slots.push(Type::Packets);
        let mut shape = Shape { words, words_seen: 0, slots, free: 0, assigned: 1 };
        shape.block(body)?;
        if shape.words_seen != words.len() {
            return Err(ProgramError::WordsNotCanonical);
        }
        Ok(shape.slots)
    }

    fn new_slot(&mut self, slot: Slot, ty: Type) -> Result<(), ProgramError> {
        if usize::from(slot) != self.slots.len() {
            return Err(ProgramError::BadTarget(slot));
        }
        if self.slots.len() == SLOTS_MAX {
            return Err(ProgramError::TooManySlots);
        }
        self.slots.push(ty);
        self.assigned |= 1 << slot;
        Ok(())
    }

    fn read(&self, slot: Slot) -> Result<Type, ProgramError> {
        match self.slots.get(usize::from(slot)) {
            Some(&ty) if self.assigned >> slot & 1 != 0 => Ok(ty),
            _ => Err(ProgramError::Unassigned(slot)),
        }
    }

    fn reads(&self, ty: Type, slot: Slot) -> Result<(), ProgramError> {
        if self.read(slot)? == ty { Ok(()) } else { Err(ProgramError::WrongType(slot)) }
    }

    fn assign(&mut self, slot: Slot, ty: Type) -> Result<(), ProgramError> {
        let Some(&held) = self.slots.get(usize::from(slot)) else {
            self.new_slot(slot, ty)?;
            self.free |= 1 << slot;
            return Ok(());
        };
        if self.free >> slot & 1 == 0 {
            return Err(ProgramError::BadTarget(slot));
        }
        if held != ty {
            return Err(ProgramError::WrongType(slot));
        }
        self.assigned |= 1 << slot;
        Ok(())
    }

    fn word(&mut self, word: u8) -> Result<(), ProgramError> {
        let word = usize::from(word);
        if word > self.words_seen || word >= self.words.len() {
            return Err(ProgramError::WordsNotCanonical);
        }
        self.words_seen = self.words_seen.max(word + 1);
        Ok(())
    }

    fn block(&mut self, block: &[Instr]) -> Result<(), ProgramError> {
        block.iter().try_for_each(|instr| self.instr(instr))
    }

    fn instr(&mut self, instr: &Instr) -> Result<(), ProgramError> {
        match instr {
            Instr::Select { out, arg, test } => {
                self.reads(Type::Packets, *arg)?;
                test.slots(&mut |slot| self.reads(Type::Addr, slot))?;
                self.assign(*out, Type::Packets)
            }
            Instr::Partition { out, arg, field } => {
                self.reads(Type::Packets, *arg)?;
                self.assign(*out, Type::Groups(*field))
            }
            Instr::Content { dests, contents, arg } => {
                self.reads(Type::Packets, *arg)?;
                self.assign(*dests, Type::Dests)?;
                self.assign(*contents, Type::Contents)
            }
            Instr::Union { out, a, b } | Instr::Minus { out, a, b } => {
                self.reads(Type::Packets, *a)?;
                self.reads(Type::Packets, *b)?;
                self.assign(*out, Type::Packets)
            }
            Instr::Count { out, arg, word } => {
                self.reads(Type::Packets, *arg)?;
                self.word(*word)?;
                self.assign(*out, Type::Int)
            }
            Instr::Size { out, arg } => {
                self.reads(Type::Packets, *arg)?;
                self.assign(*out, Type::Int)
            }
            Instr::Let { out, expr } => {
                self.expr(expr)?;
                self.assign(*out, Type::Int)
            }
            Instr::Offset { out, base, by } => {
                self.address(base)?;
                self.expr(by)?;
                self.assign(*out, Type::Addr)
            }
            Instr::Discard { arg } => self.reads(Type::Packets, *arg),
            Instr::Generate { src, dst, data } => {
                self.address(src)?;
                self.address(dst)?;
                match self.read(*data)? {
                    Type::Dests | Type::Contents => Ok(()),
                    _ => Err(ProgramError::WrongType(*data)),
                }
            }
            Instr::If { cond, then, otherwise } => {
                self.cond(cond)?;
                let before = self.assigned;
                self.block(then)?;
                let after_then = core::mem::replace(&mut self.assigned, before);
                self.block(otherwise)?;
                self.assigned &= after_then;
                Ok(())
            }
            // The block of a loop may run no time at all.
            Instr::Foreach { groups, packets, key, body } => {
                let Type::Groups(_) = self.read(*groups)? else { return Err(ProgramError::WrongType(*groups)) };
                let before = self.assigned;
                self.new_slot(*packets, Type::Packets)?;
                self.new_slot(*key, Type::Addr)?;
                self.block(body)?;
                self.assigned = before;
                Ok(())
            }
            Instr::While { cond, max, body } => {
                if *max == 0 || *max > LOOP_MAX {
                    return Err(ProgramError::BadLoop(*max));
                }
                self.cond(cond)?;
                let before = self.assigned;
                self.block(body)?;
                self.assigned = before;
                Ok(())
            }
        }
    }

    fn cond(&mut self, cond: &Cond) -> Result<(), ProgramError> {
        match cond {
            Cond::Contains { arg, word } => {
                self.reads(Type::Packets, *arg)?;
                self.word(*word)
            }
            Cond::Empty { arg } => self.reads(Type::Packets, *arg),
            Cond::AddrIn { addr, addrs: _ } => self.reads(Type::Addr, *addr),
            Cond::AddrIs { addr, is } => {
                self.reads(Type::Addr, *addr)?;
                self.address(is)
            }
            Cond::AtMost { a, b } | Cond::Equal { a, b } => {
                self.expr(a)?;
                self.expr(b)
            }
            Cond::Not { cond } => self.cond(cond),
            Cond::And { a, b } | Cond::Or { a, b } => {
                self.cond(a)?;
                self.cond(b)
            }
        }
    }

    fn expr(&self, expr: &Expr) -> Result<(), ProgramError> {
        match expr {
            Expr::Const { .. } => Ok(()),
            Expr::Slot { slot } => self.reads(Type::Int, *slot),
            Expr::Add { a, b } | Expr::Sub { a, b } | Expr::Mul { a, b } => {
                self.expr(a)?;
                self.expr(b)
            }
        }
    }

    fn address(&self, term: &AddrTerm) -> Result<(), ProgramError> {
        match term {
            AddrTerm::Slot { slot } => self.reads(Type::Addr, *slot),
            _ => Ok(()),
        }
    }
}
