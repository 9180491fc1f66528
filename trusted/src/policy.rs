//! Policies: what a router allows, as data.
//!
//! For each kind of event one decidable formula over the event's packet says when it is allowed; ceilings bound what a
//! program may cost and keep. A policy adds no axioms. Its canonical bytes are what a router signs and what
//! [`Policy::id`] names; the TOML form that operators write is read outside the trusted base.

use crate::addr::{Addr, Principal};
use crate::program::{self, AddrExpr, Field, ProgramError, Unset};
use crate::wire::{Reader, WireError, Writer};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The first byte of every policy: the version of the format.
pub const POLICY_VERSION: u8 = 1;
/// The longest name of a policy, in bytes of printable ASCII.
pub const NAME_LEN_MAX: usize = 64;
/// The most bytes of a policy.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// The deepest nesting of a formula.
pub const FORMULA_DEPTH_MAX: usize = 16;
/// The most nodes of a formula.
pub const FORMULA_NODES_MAX: usize = 256;
/// The most islands that a stream may have under any policy.
pub const ISLANDS_MAX: u8 = 64;

/// A statement about one packet and the owner of the program that meets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Formula {
    /// Always.
    True,
    /// Never.
    False,
    /// The owner owns the address: an end user its own, an edge router those of its prefix.
    Owns(Field),
    /// The address is in the set.
    In(Field, AddrExpr),
    /// The opposite.
    Not(Box<Formula>),
    /// Both.
    And(Box<Formula>, Box<Formula>),
    /// At least one.
    Or(Box<Formula>, Box<Formula>),
}

impl Formula {
    /// Whether it holds of a packet from `src` to `dst` for `owner`. Never allocates.
    ///
    /// # Errors
    /// [`Unset`] where it uses a name that `owner` has not.
    pub fn eval(&self, owner: &Principal, src: Addr, dst: Addr) -> Result<bool, Unset> {
        let field = |f: Field| if f == Field::Src { src } else { dst };
        Ok(match self {
            Formula::True => true,
            Formula::False => false,
            Formula::Owns(f) => owner.owned().contains(field(*f)),
            Formula::In(f, addrs) => addrs.contains(owner, field(*f))?,
            Formula::Not(a) => !a.eval(owner, src, dst)?,
            Formula::And(a, b) => a.eval(owner, src, dst)? & b.eval(owner, src, dst)?,
            Formula::Or(a, b) => a.eval(owner, src, dst)? | b.eval(owner, src, dst)?,
        })
    }
}

/// Who may own programs under a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrincipalKind {
    /// End users: one address each.
    EndUser,
    /// Edge routers: an address and its prefix.
    EdgeRouter,
}

impl PrincipalKind {
    /// The kind of `principal`.
    #[must_use]
    pub const fn of(principal: &Principal) -> PrincipalKind {
        match principal {
            Principal::EndUser(_) => PrincipalKind::EndUser,
            Principal::EdgeRouter(_) => PrincipalKind::EdgeRouter,
        }
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PrincipalKind::EndUser => "end users",
            PrincipalKind::EdgeRouter => "edge routers",
        })
    }
}

/// What each step costs, in processor cycles per packet on the calibrated machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Costs {
    /// Any program, for each packet that it is given.
    pub program: u32,
    /// One selection by address.
    pub select: u32,
    /// More, where the set of a selection or test is written with more than one prefix or name.
    pub select_many: u32,
    /// One partition by address.
    pub partition: u32,
    /// One group of a foreach, besides its block.
    pub foreach: u32,
    /// One node of a condition.
    pub test: u32,
    /// One discard.
    pub discard: u32,
    /// One search for a word, besides the bytes.
    pub contains: u32,
    /// One search for a word, for every 64 bytes begun of the longest packet.
    pub contains_per_64_bytes: u32,
    /// The upkeep of streams, once for each packet, if the program searches for words at all.
    pub stream: u32,
}

/// What happens to an owner's packets beyond the rate that was admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OverBudget {
    /// They pass without the program seeing them.
    Forward,
    /// They are dropped.
    Drop,
}

/// The ceilings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The longest program, in bytes.
    pub program_bytes_max: u32,
    /// The longest proof, in bytes.
    pub proof_bytes_max: u32,
    /// The longest lifetime, in seconds.
    pub lifetime_max_s: u32,
    /// Complexity^up, in cycles per packet.
    pub complexity_max: u64,
    /// Cost^up, in cycles per packet times seconds.
    pub cost_max: u64,
    /// The longest packet that a program is given, in bytes from the IP header on.
    pub packet_bytes_max: u32,
    /// The TCP flows that one program's stream state has room for.
    pub stream_flows_max: u32,
    /// The separate runs of bytes that are kept of one flow.
    pub stream_islands_max: u8,
    /// The packet rate that a program is admitted for when its request names none, in packets a second.
    pub packet_rate_default: u32,
    /// The highest packet rate that a request may name.
    pub packet_rate_max: u32,
    /// What happens beyond the admitted rate.
    pub over_budget: OverBudget,
}

/// A policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Its name, for people.
    pub name: String,
    /// Whose programs it is about.
    pub principals: PrincipalKind,
    /// When a packet may be discarded.
    pub discard: Formula,
    /// When a packet may be put into a group.
    pub group: Formula,
    /// When a packet's content may be looked at.
    pub scan: Formula,
    /// What each step costs.
    pub costs: Costs,
    /// The ceilings.
    pub limits: Limits,
}

/// Why bytes are no policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyError {
    /// The bytes are broken.
    Wire(WireError),
    /// The first byte is not [`POLICY_VERSION`].
    UnknownVersion(u8),
    /// More than [`POLICY_BYTES_MAX`] bytes.
    TooLong(usize),
    /// The name is empty, longer than [`NAME_LEN_MAX`], or not printable ASCII.
    BadName,
    /// A formula is deeper than [`FORMULA_DEPTH_MAX`] or has more than [`FORMULA_NODES_MAX`] nodes.
    FormulaTooLarge,
    /// An address set of a formula is not in its one form.
    BadAddrSet,
    /// More than [`ISLANDS_MAX`] islands, or none.
    BadIslands(u8),
    /// There are bytes behind the policy.
    TrailingBytes,
}

impl From<WireError> for PolicyError {
    fn from(error: WireError) -> Self {
        PolicyError::Wire(error)
    }
}

impl From<ProgramError> for PolicyError {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::Wire(e) => PolicyError::Wire(e),
            _ => PolicyError::BadAddrSet,
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::Wire(e) => e.fmt(f),
            PolicyError::UnknownVersion(v) => {
                write!(f, "the policy is in format version {v}; this program reads version {POLICY_VERSION}")
            }
            PolicyError::TooLong(len) => write!(f, "{len} bytes are above the limit of {POLICY_BYTES_MAX}"),
            PolicyError::BadName => write!(f, "the name must be 1 to {NAME_LEN_MAX} printable ASCII characters"),
            PolicyError::FormulaTooLarge => {
                write!(f, "a formula is deeper than {FORMULA_DEPTH_MAX} or has more than {FORMULA_NODES_MAX} nodes")
            }
            PolicyError::BadAddrSet => write!(f, "an address set is empty, too large, or not in its shortest form"),
            PolicyError::BadIslands(n) => write!(f, "{n} islands; there must be 1 to {ISLANDS_MAX}"),
            PolicyError::TrailingBytes => write!(f, "there are bytes behind the end of the policy"),
        }
    }
}

impl Policy {
    /// Whether the policy is one that [`Policy::decode`] would give back.
    ///
    /// # Errors
    /// The first offence found.
    pub fn validate(&self) -> Result<(), PolicyError> {
        Policy::decode(&self.encode()).map(|_| ())
    }

    /// The policy's name for machines: the BLAKE3 of its bytes.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }

    /// The one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(POLICY_VERSION);
        w.integer(self.name.len() as u64);
        w.bytes(self.name.as_bytes());
        w.byte(match self.principals {
            PrincipalKind::EndUser => 0,
            PrincipalKind::EdgeRouter => 1,
        });
        for formula in [&self.discard, &self.group, &self.scan] {
            write_formula(&mut w, formula);
        }
        let c = &self.costs;
        for cost in [
            c.program,
            c.select,
            c.select_many,
            c.partition,
            c.foreach,
            c.test,
            c.discard,
            c.contains,
            c.contains_per_64_bytes,
            c.stream,
        ] {
            w.integer(u64::from(cost));
        }
        let l = &self.limits;
        for limit in [
            u64::from(l.program_bytes_max),
            u64::from(l.proof_bytes_max),
            u64::from(l.lifetime_max_s),
            l.complexity_max,
            l.cost_max,
            u64::from(l.packet_bytes_max),
            u64::from(l.stream_flows_max),
            u64::from(l.stream_islands_max),
            u64::from(l.packet_rate_default),
            u64::from(l.packet_rate_max),
        ] {
            w.integer(limit);
        }
        w.byte(match l.over_budget {
            OverBudget::Forward => 0,
            OverBudget::Drop => 1,
        });
        w.finish()
    }

    /// The policy of these bytes.
    ///
    /// # Errors
    /// The first offence found.
    pub fn decode(bytes: &[u8]) -> Result<Policy, PolicyError> {
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::TooLong(bytes.len()));
        }
        let mut r = Reader::new(bytes);
        let version = r.byte()?;
        if version != POLICY_VERSION {
            return Err(PolicyError::UnknownVersion(version));
        }
        let len = r.integer(NAME_LEN_MAX as u64).map_err(|_| PolicyError::BadName)? as usize;
        let name = r.bytes(len)?;
        if name.is_empty() || !name.iter().all(|b| (0x20..0x7f).contains(b)) {
            return Err(PolicyError::BadName);
        }
        let name = name.iter().map(|&b| char::from(b)).collect();
        let principals = match r.byte()? {
            0 => PrincipalKind::EndUser,
            1 => PrincipalKind::EdgeRouter,
            tag => return Err(WireError::UnknownTag(tag).into()),
        };
        let mut formula = || read_formula(&mut r, 0, &mut 0);
        let (discard, group, scan) = (formula()?, formula()?, formula()?);
        let mut u32s = |max: u64| r.integer(max);
        const MAX: u64 = u32::MAX as u64;
        let mut cost = || u32s(MAX).map(|v| v as u32);
        let costs = Costs {
            program: cost()?,
            select: cost()?,
            select_many: cost()?,
            partition: cost()?,
            foreach: cost()?,
            test: cost()?,
            discard: cost()?,
            contains: cost()?,
            contains_per_64_bytes: cost()?,
            stream: cost()?,
        };
        let limits = Limits {
            program_bytes_max: r.integer(MAX)? as u32,
            proof_bytes_max: r.integer(MAX)? as u32,
            lifetime_max_s: r.integer(MAX)? as u32,
            complexity_max: r.integer(u64::MAX)?,
            cost_max: r.integer(u64::MAX)?,
            packet_bytes_max: r.integer(MAX)? as u32,
            stream_flows_max: r.integer(MAX)? as u32,
            stream_islands_max: r.integer(u64::from(u8::MAX))? as u8,
            packet_rate_default: r.integer(MAX)? as u32,
            packet_rate_max: r.integer(MAX)? as u32,
            over_budget: match r.byte()? {
                0 => OverBudget::Forward,
                1 => OverBudget::Drop,
                tag => return Err(WireError::UnknownTag(tag).into()),
            },
        };
        if limits.stream_islands_max == 0 || limits.stream_islands_max > ISLANDS_MAX {
            return Err(PolicyError::BadIslands(limits.stream_islands_max));
        }
        if !r.is_done() {
            return Err(PolicyError::TrailingBytes);
        }
        Ok(Policy { name, principals, discard, group, scan, costs, limits })
    }
}

fn write_field(w: &mut Writer, field: Field) {
    w.byte(if field == Field::Src { 0 } else { 1 });
}

fn read_field(r: &mut Reader<'_>) -> Result<Field, WireError> {
    match r.byte()? {
        0 => Ok(Field::Src),
        1 => Ok(Field::Dst),
        tag => Err(WireError::UnknownTag(tag)),
    }
}

fn write_formula(w: &mut Writer, formula: &Formula) {
    match formula {
        Formula::True => w.byte(0),
        Formula::False => w.byte(1),
        Formula::Owns(field) => {
            w.byte(2);
            write_field(w, *field);
        }
        Formula::In(field, addrs) => {
            w.byte(3);
            write_field(w, *field);
            program::write_addrs(w, addrs);
        }
        Formula::Not(a) => {
            w.byte(4);
            write_formula(w, a);
        }
        Formula::And(a, b) | Formula::Or(a, b) => {
            w.byte(if matches!(formula, Formula::And(..)) { 5 } else { 6 });
            write_formula(w, a);
            write_formula(w, b);
        }
    }
}

fn read_formula(r: &mut Reader<'_>, depth: usize, nodes: &mut usize) -> Result<Formula, PolicyError> {
    *nodes += 1;
    if depth > FORMULA_DEPTH_MAX || *nodes > FORMULA_NODES_MAX {
        return Err(PolicyError::FormulaTooLarge);
    }
    let mut below = |r: &mut Reader<'_>| read_formula(r, depth + 1, nodes).map(Box::new);
    Ok(match r.byte()? {
        0 => Formula::True,
        1 => Formula::False,
        2 => Formula::Owns(read_field(r)?),
        3 => Formula::In(read_field(r)?, program::read_addrs(r)?),
        4 => Formula::Not(below(r)?),
        5 => Formula::And(below(r)?, below(r)?),
        6 => Formula::Or(below(r)?, below(r)?),
        tag => return Err(WireError::UnknownTag(tag).into()),
    })
}
