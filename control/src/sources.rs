//! What is programmed against which source: quotas, and the votes that shut a source off.
//!
//! An [`Aim`] is what one installed program is aimed at; [`Sources`] counts them. The counts are exact: what
//! [`Sources::add`] counted, [`Sources::remove`] takes back, and after the last removal nothing is left.
//!
//! - **Who** counts is the owner's addresses ([`Principal::owned`]), not a key and not an edge router's address within
//!   its prefix: who has many keys for one address is one owner.
//! - **A source** is an exact address. A program whose cell is a prefix of at most [`EXACT_ADDRS_MAX`] addresses counts
//!   for each of them, because sets of neighbouring addresses are written as prefixes. A longer prefix is a source of its
//!   own, with a quota of its own, and so is "any source": an owner who shuts its door to a whole network, or lets only
//!   some in, accuses nobody in it, and a few of those must use up nobody's quota.
//! - **Votes** come from installed programs whose cells are table verdicts for that exact source, of owners whose
//!   address had been shown to be theirs (reached, unrevoked) when the program was installed or last renewed. No packet has
//!   a part in it, so a flood with forged sources shuts off nobody.
//!
//! Memory: for each pair of a source and an owner 48 bytes, where the flow table has a cell. Left out: who controls a
//! source, which is admission's to refuse; [`Aim::of`] passes over addresses that are not controlled.

mod shut_offs;

pub use shut_offs::{
    Change, NotShutOff, Phase, Reason, ShutOffCounts, ShutOffLimits, ShutOffRecord, ShutOffStatus, ShutOffs,
};

use std::fmt;

use ahash::AHashMap;
use vinet_pktops::Executable;
use vinet_session::Now;
use vinet_session::message::Class;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet, Principal};

/// A prefix of at most so many addresses counts for each of them.
pub const EXACT_ADDRS_MAX: u32 = 16;
/// Addresses that one program's prefixes are written out as, at most; prefixes beyond count as such.
pub const WRITTEN_OUT_MAX: usize = 4096;
/// How many classes there are.
const CLASSES: usize = 2;

/// A prefix in 18 bytes: its address in network order, its length, and its family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Packed([u8; 18]);

impl Packed {
    fn of(prefix: Prefix) -> Packed {
        let mut packed = [0; 18];
        match prefix.addr() {
            Addr::V4(bits) => packed[..4].copy_from_slice(&bits.to_be_bytes()),
            Addr::V6(bits) => {
                packed[..16].copy_from_slice(&bits.to_be_bytes());
                packed[17] = 1;
            }
        }
        packed[16] = prefix.len();
        Packed(packed)
    }
    fn addr(&self) -> Addr {
        let [a @ .., _, family] = self.0;
        let bits = u128::from_be_bytes(a);
        if family == 0 { Addr::V4((bits >> 96) as u32) } else { Addr::V6(bits) }
    }
    fn is_host(&self) -> bool {
        self.0[16] == if self.0[17] == 0 { 32 } else { 128 }
    }
}

/// What one program is aimed at. Whoever adds it keeps it, to remove the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Aim {
    owner: Packed,
    class: Class,
    votes: bool,
    sources: Box<[Packed]>,
}

impl fmt::Debug for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aim").field("owner", &self.owner.addr()).field("sources", &self.sources.len()).finish()
    }
}

impl Aim {
    /// What `executable` is aimed at among the sources that are `controlled`. `verified` tells that its owner was shown
    /// to be reached at its address, by a key that is not revoked; `monitor`, that it only counts what it would drop.
    #[must_use]
    pub fn of(executable: &Executable, controlled: &PrefixSet, verified: bool, monitor: bool) -> Aim {
        let checked = executable.checked();
        let votes = verified && !monitor && executable.is_verdict();
        let cells = executable.cells().iter().map(vinet_trusted::gate::Cell::src);
        Aim::new(checked.owner(), Class::of(checked.program()), cells, controlled, votes)
    }

    fn new(
        owner: &Principal,
        class: Class,
        cells: impl Iterator<Item = Prefix>,
        controlled: &PrefixSet,
        votes: bool,
    ) -> Aim {
        let mut prefixes: Vec<Prefix> = cells.collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        let mut sources = Vec::with_capacity(prefixes.len());
        let mut left = WRITTEN_OUT_MAX;
        for prefix in prefixes {
            let host_bits = u32::from(prefix.addr().width() - prefix.len());
            let addrs = 1u32.checked_shl(host_bits).unwrap_or(u32::MAX);
            // One address is itself, and takes nothing of what may be written out.
            if addrs == 1 || addrs <= EXACT_ADDRS_MAX && addrs as usize <= left {
                left -= if addrs == 1 { 0 } else { addrs as usize };
                let each = (0..addrs).map(|i| Prefix::host(nth(prefix.addr(), i)));
                sources.extend(each.filter(|host| controlled.contains(host.addr())).map(Packed::of));
            } else if prefix.len() == 0 || controlled.overlaps(prefix) {
                sources.push(Packed::of(prefix));
            }
        }
        sources.sort_unstable();
        sources.dedup();
        Aim { owner: Packed::of(owner.owned()), class, votes, sources: sources.into_boxed_slice() }
    }

    /// The exact addresses that it is aimed at.
    pub fn addrs(&self) -> impl Iterator<Item = Addr> {
        self.sources.iter().filter(|source| source.is_host()).map(Packed::addr)
    }
    /// Whether it counts towards shutting them off.
    #[must_use]
    pub fn votes(&self) -> bool {
        self.votes
    }
}

/// The address `i` behind `addr`, within its prefix.
fn nth(addr: Addr, i: u32) -> Addr {
    match addr {
        Addr::V4(bits) => Addr::V4(bits | i),
        Addr::V6(bits) => Addr::V6(bits | u128::from(i)),
    }
}

/// The most distinct owners that may have programs of one class against one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassQuota {
    /// Against one exact address.
    pub per_address: u32,
    /// Against one prefix, written as that prefix.
    pub per_prefix: u32,
    /// Against any source of a family.
    pub any_source: u32,
}

/// The quotas of each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Of programs that look at headers only.
    pub header: ClassQuota,
    /// Of programs that look into contents.
    pub content: ClassQuota,
}

/// A quota that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaFault {
    /// The class.
    pub class: Class,
    /// The source: an address, a prefix, or length 0 for any.
    pub source: Prefix,
    /// How many owners have such programs, which is the most.
    pub owners_max: u32,
}

impl fmt::Display for QuotaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QuotaFault { class, source, owners_max } = self;
        match source.len() {
            0 => write!(f, "{owners_max} owners have {class} programs about any source here, which is the most")?,
            _ => write!(f, "{owners_max} owners have {class} programs about the source {source}, which is the most")?,
        }
        f.write_str("; ask again when one of them has ended")
    }
}

/// Counts about one source.
#[derive(Clone, Copy, Default)]
struct OfSource {
    owners: [u32; CLASSES],
    votes: u32,
}

/// Counts about one owner at one source: programs of each class, and those of them that vote.
#[derive(Clone, Copy, Default)]
struct OfOwner {
    programs: [u32; CLASSES],
    votes: u32,
}

/// Who has programs against which sources.
pub struct Quotas {
    limits: QuotaLimits,
    sources: AHashMap<Packed, OfSource>,
    owners: AHashMap<(Packed, Packed), OfOwner>,
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quotas").field("sources", &self.sources.len()).field("owners", &self.owners.len()).finish()
    }
}

const fn number(class: Class) -> usize {
    match class {
        Class::Header => 0,
        Class::Content => 1,
    }
}

impl Quotas {
    /// Nothing counted.
    #[must_use]
    pub fn new(limits: QuotaLimits) -> Quotas {
        Quotas { limits, sources: AHashMap::new(), owners: AHashMap::new() }
    }

    /// Other limits from now on. What is counted stays, also above them.
    pub fn set_limits(&mut self, limits: QuotaLimits) {
        self.limits = limits;
    }

    fn owners_max(&self, class: Class, source: &Packed) -> u32 {
        let quota = match class {
            Class::Header => &self.limits.header,
            Class::Content => &self.limits.content,
        };
        match source.0[16] {
            0 => quota.any_source,
            _ if source.is_host() => quota.per_address,
            _ => quota.per_prefix,
        }
    }

    /// Whether a program may be added.
    ///
    /// # Errors
    /// The first quota that is used up by other owners.
    pub fn may(&self, aim: &Aim) -> Result<(), QuotaFault> {
        let class = number(aim.class);
        for source in &aim.sources {
            let owners_max = self.owners_max(aim.class, source);
            let owners = self.sources.get(source).map_or(0, |counts| counts.owners[class]);
            if owners < owners_max {
                continue;
            }
            // Who has one already may have more: the quota is of owners, and its programs are bounded elsewhere.
            let has = self.owners.get(&(*source, aim.owner)).is_some_and(|counts| counts.programs[class] > 0);
            if !has {
                let source = Prefix::of(source.addr(), source.0[16]).unwrap_or(Prefix::host(source.addr()));
                return Err(QuotaFault { class: aim.class, source, owners_max });
            }
        }
        Ok(())
    }

    /// Counts a program; gives each exact source whose votes changed, with the votes now, to `voted`.
    pub fn add(&mut self, aim: &Aim, mut voted: impl FnMut(Addr, u32)) {
        let class = number(aim.class);
        for &source in &aim.sources {
            let of_source = self.sources.entry(source).or_default();
            let of_owner = self.owners.entry((source, aim.owner)).or_default();
            of_source.owners[class] += u32::from(of_owner.programs[class] == 0);
            of_owner.programs[class] += 1;
            if aim.votes && source.is_host() {
                of_owner.votes += 1;
                if of_owner.votes == 1 {
                    of_source.votes += 1;
                    voted(source.addr(), of_source.votes);
                }
            }
        }
    }

    /// Takes back what [`Quotas::add`] counted for the same aim.
    pub fn remove(&mut self, aim: &Aim, mut voted: impl FnMut(Addr, u32)) {
        let class = number(aim.class);
        for &source in &aim.sources {
            let (Some(of_source), Some(of_owner)) =
                (self.sources.get_mut(&source), self.owners.get_mut(&(source, aim.owner)))
            else {
                debug_assert!(false, "an aim is removed that was not added");
                continue;
            };
            of_owner.programs[class] -= 1;
            of_source.owners[class] -= u32::from(of_owner.programs[class] == 0);
            if aim.votes && source.is_host() {
                of_owner.votes -= 1;
                if of_owner.votes == 0 {
                    of_source.votes -= 1;
                    voted(source.addr(), of_source.votes);
                }
            }
            if of_owner.programs == [0; CLASSES] {
                self.owners.remove(&(source, aim.owner));
            }
            if of_source.owners == [0; CLASSES] {
                self.sources.remove(&source);
            }
        }
    }

    /// Distinct verified owners whose programs discard everything to them from `source`.
    #[must_use]
    pub fn votes(&self, source: Addr) -> u32 {
        self.sources.get(&Packed::of(Prefix::host(source))).map_or(0, |counts| counts.votes)
    }
    fn all_votes(&self) -> impl Iterator<Item = (Addr, u32)> {
        let voted = self.sources.iter().filter(|(_, counts)| counts.votes > 0);
        voted.map(|(source, counts)| (source.addr(), counts.votes))
    }
    /// Distinct owners with programs of `class` against `source`, written so.
    #[must_use]
    pub fn owners(&self, class: Class, source: Prefix) -> u32 {
        self.sources.get(&Packed::of(source)).map_or(0, |counts| counts.owners[number(class)])
    }
    /// Whether nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.owners.is_empty()
    }
}

/// Quotas, and the shut-offs that follow from what they count.
#[derive(Debug)]
pub struct Sources {
    quotas: Quotas,
    shut_offs: ShutOffs,
}

impl Sources {
    /// Nothing counted, nothing shut off.
    #[must_use]
    pub fn new(quotas: QuotaLimits, shut_offs: ShutOffLimits) -> Sources {
        Sources { quotas: Quotas::new(quotas), shut_offs: ShutOffs::new(shut_offs) }
    }

    /// Whether a program may be added.
    ///
    /// # Errors
    /// The quota that is used up.
    pub fn may(&self, aim: &Aim) -> Result<(), QuotaFault> {
        self.quotas.may(aim)
    }

    /// Counts a program that is installed. What follows from its votes is among the next [`ShutOffs::changes`].
    pub fn add(&mut self, aim: &Aim) {
        let Sources { quotas, shut_offs } = self;
        quotas.add(aim, |source, votes| shut_offs.voted(source, votes));
    }

    /// Takes back what was counted for a program that is no longer installed.
    pub fn remove(&mut self, aim: &Aim) {
        let Sources { quotas, shut_offs } = self;
        quotas.remove(aim, |source, votes| shut_offs.voted(source, votes));
    }

    /// What is to be shut off or let back at `now`.
    pub fn changes(&mut self, now: Now) -> Vec<Change> {
        self.shut_offs.changes(now)
    }

    /// The quotas.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }
    /// The shut-offs.
    #[must_use]
    pub fn shut_offs(&self) -> &ShutOffs {
        &self.shut_offs
    }
    /// The shut-offs, for the operator's wishes and for what was recovered.
    pub fn shut_offs_mut(&mut self) -> &mut ShutOffs {
        &mut self.shut_offs
    }
    /// Other limits from now on; what is over them stays until it ends.
    pub fn set_limits(&mut self, quotas: QuotaLimits, shut_offs: ShutOffLimits) {
        self.quotas.set_limits(quotas);
        self.shut_offs.set_limits(shut_offs, self.quotas.all_votes());
    }
}

#[cfg(test)]
mod tests;
