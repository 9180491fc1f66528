//! Policies: what a router allows, as data.
//!
//! For each kind of event one decidable formula over the event's packet says when it is allowed; ceilings bound what a
//! program may cost and keep. A policy adds no axioms. Its canonical bytes are what a router signs and what
//! [`Policy::id`] names; the TOML form that operators write is read outside the trusted base.

use crate::addr::Principal;
use crate::packet::Test;
use crate::wire::{Reader, Wire, WireError, Writer, wire_enum};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The first byte of every policy: the version of the format.
pub const POLICY_VERSION: u8 = 2;
/// The longest name of a policy, in bytes of printable ASCII.
pub const NAME_LEN_MAX: usize = 64;
/// The most bytes of a policy.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// The deepest nesting of a formula.
pub const FORMULA_DEPTH_MAX: usize = 24;
/// The most nodes of all formulas of a policy.
pub const FORMULA_NODES_MAX: usize = 1024;
/// The most islands that a stream may have under any policy.
pub const ISLANDS_MAX: u8 = 64;

/// Who may own programs under a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrincipalKind {
    /// End users: one address each.
    EndUser,
    /// Edge routers: an address and its prefix.
    EdgeRouter,
}
wire_enum!(PrincipalKind { 0x00 EndUser {} 0x01 EdgeRouter {} });

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

/// What happens to an owner's packets beyond the rate that was admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OverBudget {
    /// They pass without the program seeing them.
    Forward,
    /// They are dropped.
    Drop,
}
wire_enum!(OverBudget { 0x00 Forward {} 0x01 Drop {} });

/// A struct whose fields are written one behind the other.
macro_rules! wire_struct {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name { $($(#[$doc])* pub $field: $ty,)* }
        impl Wire for $name {
            fn write(&self, w: &mut Writer) {
                $(self.$field.write(w);)*
            }
            fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
                Ok($name { $($field: Wire::read(r)?),* })
            }
        }
    };
}

wire_struct! {
    /// What each step costs, in processor cycles per packet on the calibrated machine.
    Costs {
        /// Any program, for each packet that it is given.
        program: u32,
        /// One selection.
        select: u32,
        /// More, for each address set of a selection or test that is written with more than one prefix or name.
        select_many: u32,
        /// One partition by address.
        partition: u32,
        /// One group of a foreach, besides its block.
        foreach: u32,
        /// One node of a condition, and of a selection's test beyond its first.
        test: u32,
        /// One union or difference of sets, or counting the packets of one.
        set: u32,
        /// One node of an integer expression, or an address counted from another.
        arithmetic: u32,
        /// One turn of a while, besides its condition and block.
        turn: u32,
        /// One discard.
        discard: u32,
        /// One search for a word, besides the bytes.
        contains: u32,
        /// One search for a word, for every 64 bytes begun of the longest packet.
        contains_per_64_bytes: u32,
        /// The upkeep of streams, once for each packet, if the program searches for words at all.
        stream: u32,
        /// One grouping by content, besides the bytes.
        content: u32,
        /// One grouping by content, for every 64 bytes begun of the longest packet.
        content_per_64_bytes: u32,
        /// One GENERATE, besides the bytes.
        generate: u32,
        /// One GENERATE, for every 64 bytes begun of the longest packet.
        generate_per_64_bytes: u32,
    }
}

wire_struct! {
    /// The ceilings.
    Limits {
        /// The longest program, in bytes.
        program_bytes_max: u32,
        /// The longest proof, in bytes.
        proof_bytes_max: u32,
        /// The longest lifetime, in seconds.
        lifetime_max_s: u32,
        /// Complexity^up, in cycles per packet.
        complexity_max: u64,
        /// Cost^up, in cycles per packet times seconds.
        cost_max: u64,
        /// The longest packet that a program is given, in bytes from the IP header on.
        packet_bytes_max: u32,
        /// The longest window that a program may ask for, in packets, and the one it gets where it leaves that open.
        window_packets_max: u16,
        /// How long a packet may wait for its window to fill, in microseconds.
        window_us_max: u32,
        /// The UDP port that generated packets are sent to.
        generate_port: u16,
        /// The most packets a second that one program may generate.
        generate_rate_max: u32,
        /// The TCP flows that one program's stream state has room for.
        stream_flows_max: u32,
        /// The separate runs of bytes that are kept of one flow.
        stream_islands_max: u8,
        /// The packet rate that a program is admitted for when its request names none, in packets a second.
        packet_rate_default: u32,
        /// The highest packet rate that a request may name.
        packet_rate_max: u32,
        /// What happens beyond the admitted rate.
        over_budget: OverBudget,
    }
}

/// A policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Its name, for people.
    pub name: String,
    /// Whose programs it is about.
    pub principals: PrincipalKind,
    /// When a packet may be discarded.
    pub discard: Test,
    /// When a packet may be put into a group.
    pub group: Test,
    /// When a packet's content may be looked at.
    pub scan: Test,
    /// When a packet may be generated. It is about the generated packet's addresses alone.
    pub generate: Test,
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
    /// A formula speaks of a program's variables, or the one about generated packets of more than addresses.
    BadFormula,
    /// More than [`ISLANDS_MAX`] islands, or none.
    BadIslands(u8),
    /// No window, or one above [`crate::program::WINDOW_MAX`].
    BadWindow(u16),
    /// There are bytes behind the policy.
    TrailingBytes,
}

impl From<WireError> for PolicyError {
    fn from(error: WireError) -> Self {
        PolicyError::Wire(error)
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
            PolicyError::BadFormula => {
                write!(f, "a formula speaks of variables, or that for generated packets of more than addresses")
            }
            PolicyError::BadIslands(n) => write!(f, "{n} islands; there must be 1 to {ISLANDS_MAX}"),
            PolicyError::BadWindow(n) => {
                write!(f, "a window of {n} packets; it is 1 to {}", crate::program::WINDOW_MAX)
            }
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
        self.principals.write(&mut w);
        [&self.discard, &self.group, &self.scan, &self.generate].iter().for_each(|test| test.write(&mut w));
        self.costs.write(&mut w);
        self.limits.write(&mut w);
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
        let mut r = Reader::new(bytes, FORMULA_NODES_MAX, FORMULA_DEPTH_MAX);
        let version = r.byte()?;
        if version != POLICY_VERSION {
            return Err(PolicyError::UnknownVersion(version));
        }
        let len = r.integer(NAME_LEN_MAX as u64).map_err(|_| PolicyError::BadName)? as usize;
        let name = r.bytes(len)?;
        if name.is_empty() || !name.iter().all(|b| (0x20..0x7f).contains(b)) {
            return Err(PolicyError::BadName);
        }
        let policy = Policy {
            name: name.iter().map(|&b| char::from(b)).collect(),
            principals: Wire::read(&mut r)?,
            discard: Wire::read(&mut r)?,
            group: Wire::read(&mut r)?,
            scan: Wire::read(&mut r)?,
            generate: Wire::read(&mut r)?,
            costs: Wire::read(&mut r)?,
            limits: Wire::read(&mut r)?,
        };
        let formulas = [&policy.discard, &policy.group, &policy.scan, &policy.generate];
        let no_slots = |test: &&Test| test.slots(&mut |_| Err(())).is_ok();
        if !formulas.iter().all(no_slots) || !policy.generate.is_of_addresses() {
            return Err(PolicyError::BadFormula);
        }
        let (islands, window) = (policy.limits.stream_islands_max, policy.limits.window_packets_max);
        if islands == 0 || islands > ISLANDS_MAX {
            return Err(PolicyError::BadIslands(islands));
        }
        if window == 0 || window > crate::program::WINDOW_MAX {
            return Err(PolicyError::BadWindow(window));
        }
        if r.is_done() { Ok(policy) } else { Err(PolicyError::TrailingBytes) }
    }
}
