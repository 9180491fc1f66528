//! Addresses, prefixes and sets of them, of both families.
//!
//! A [`Prefix`] never has host bits; a [`PrefixSet`] is sorted, disjoint and merged, so that two sets with the same
//! members are equal as values. IPv4 and IPv6 never meet: no IPv4 address is in an IPv6 prefix, mapped or not.

use crate::wire::{Reader, Wire, WireError, Writer};
use alloc::vec::Vec;
use core::fmt;

/// The most prefixes that one address set is written with.
pub const PREFIXES_MAX: usize = 16_384;

/// An IPv4 or IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Addr {
    /// IPv4, the first octet in the highest bits.
    V4(u32),
    /// IPv6, the first octet in the highest bits.
    V6(u128),
}

impl Addr {
    /// 32 or 128.
    #[must_use]
    pub const fn width(self) -> u8 {
        match self {
            Addr::V4(_) => 32,
            Addr::V6(_) => 128,
        }
    }
    /// The address as a number; IPv4 in the low 32 bits.
    const fn bits(self) -> u128 {
        match self {
            Addr::V4(a) => a as u128,
            Addr::V6(a) => a,
        }
    }
    const fn same_family(self, bits: u128) -> Addr {
        match self {
            Addr::V4(_) => Addr::V4(bits as u32),
            Addr::V6(_) => Addr::V6(bits),
        }
    }
    const fn is_v4(self) -> bool {
        matches!(self, Addr::V4(_))
    }
    /// The address `by` behind it, if the family has one.
    #[must_use]
    pub const fn offset(self, by: i64) -> Option<Addr> {
        match self {
            Addr::V4(a) => {
                let sum = a as i128 + by as i128;
                if sum >= 0 && sum <= u32::MAX as i128 { Some(Addr::V4(sum as u32)) } else { None }
            }
            Addr::V6(a) => match a.checked_add_signed(by as i128) {
                Some(sum) => Some(Addr::V6(sum)),
                None => None,
            },
        }
    }
}

impl From<core::net::IpAddr> for Addr {
    fn from(ip: core::net::IpAddr) -> Addr {
        match ip {
            core::net::IpAddr::V4(a) => Addr::V4(a.to_bits()),
            core::net::IpAddr::V6(a) => Addr::V6(a.to_bits()),
        }
    }
}

impl From<Addr> for core::net::IpAddr {
    fn from(addr: Addr) -> core::net::IpAddr {
        match addr {
            Addr::V4(a) => core::net::Ipv4Addr::from_bits(a).into(),
            Addr::V6(a) => core::net::Ipv6Addr::from_bits(a).into(),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&core::net::IpAddr::from(*self), f)
    }
}
impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The mask of the low `width - len` bits: the host part.
const fn host_mask(width: u8, len: u8) -> u128 {
    let host = width - len;
    if host >= 128 { u128::MAX } else { (1u128 << host) - 1 }
}

/// An address with the number of its leading bits that count; the others are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    addr: Addr,
    len: u8,
}

impl Prefix {
    /// The prefix of `len` bits, or `None` where `addr` has host bits set or `len` is above the family's width.
    #[must_use]
    pub const fn new(addr: Addr, len: u8) -> Option<Prefix> {
        if len > addr.width() || addr.bits() & host_mask(addr.width(), len) != 0 {
            return None;
        }
        Some(Prefix { addr, len })
    }
    /// The prefix of `len` bits that holds `addr`, or `None` where `len` is above the family's width.
    #[must_use]
    pub const fn of(addr: Addr, len: u8) -> Option<Prefix> {
        if len > addr.width() {
            return None;
        }
        Some(Prefix { addr: addr.same_family(addr.bits() & !host_mask(addr.width(), len)), len })
    }
    /// The prefix that holds `addr` alone.
    #[must_use]
    pub const fn host(addr: Addr) -> Prefix {
        Prefix { addr, len: addr.width() }
    }
    /// The first address.
    #[must_use]
    pub const fn addr(self) -> Addr {
        self.addr
    }
    /// The number of leading bits that count.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(self) -> u8 {
        self.len
    }
    /// The last address.
    #[must_use]
    pub const fn last(self) -> Addr {
        self.addr.same_family(self.addr.bits() | host_mask(self.addr.width(), self.len))
    }
    /// Whether `addr` is in it.
    #[must_use]
    pub const fn contains(self, addr: Addr) -> bool {
        self.addr.is_v4() == addr.is_v4()
            && (self.addr.bits() ^ addr.bits()) & !host_mask(self.addr.width(), self.len) == 0
    }
    /// Whether every address of `other` is in it.
    #[must_use]
    pub const fn covers(self, other: Prefix) -> bool {
        self.len <= other.len && self.contains(other.addr)
    }
    /// Whether some address is in both.
    #[must_use]
    pub const fn overlaps(self, other: Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }
    /// The prefix one bit shorter, or `None` for the whole family.
    const fn parent(self) -> Option<Prefix> {
        if self.len == 0 { None } else { Prefix::of(self.addr, self.len - 1) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == self.addr.width() { write!(f, "{}", self.addr) } else { write!(f, "{}/{}", self.addr, self.len) }
    }
}
impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set of addresses as the fewest prefixes, in rising order, IPv4 before IPv6.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PrefixSet {
    prefixes: Vec<Prefix>,
}

impl PrefixSet {
    /// The set of the addresses in any of `prefixes`, which may come in any order, overlap and repeat.
    #[must_use]
    pub fn new(mut prefixes: Vec<Prefix>) -> PrefixSet {
        if prefixes.len() <= 1 {
            return PrefixSet { prefixes };
        }
        prefixes.sort_unstable();
        let mut merged: Vec<Prefix> = Vec::with_capacity(prefixes.len());
        for prefix in prefixes {
            if merged.last().is_some_and(|last| last.covers(prefix)) {
                continue;
            }
            merged.push(prefix);
            // Two halves of one prefix, next to each other in the order, become that prefix.
            while let [.., low, high] = merged[..] {
                match (low.parent(), high.parent()) {
                    (Some(a), Some(b)) if a == b => {
                        merged.truncate(merged.len() - 2);
                        merged.push(a);
                    }
                    _ => break,
                }
            }
        }
        PrefixSet { prefixes: merged }
    }
    /// The set of one address.
    #[must_use]
    pub fn of(addr: Addr) -> PrefixSet {
        PrefixSet { prefixes: alloc::vec![Prefix::host(addr)] }
    }
    /// The prefixes, fewest possible, rising.
    #[must_use]
    pub fn prefixes(&self) -> &[Prefix] {
        &self.prefixes
    }
    /// Whether the prefixes are the fewest that make the set, in order: each ends before the next begins, and no two are
    /// the halves of one.
    fn is_merged(&self) -> bool {
        self.prefixes.windows(2).all(|pair| {
            let (a, b) = (pair[0], pair[1]);
            let apart = a.addr.is_v4() && !b.addr.is_v4() || a.addr.is_v4() == b.addr.is_v4() && a.last() < b.addr;
            apart && !(a.parent().is_some() && a.parent() == b.parent())
        })
    }
    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }
    /// The one prefix that could cover `prefix`: the last that starts at or below it.
    fn candidate(&self, prefix: Prefix) -> Option<Prefix> {
        let end =
            self.prefixes.partition_point(|p| p.addr < prefix.addr || (p.addr == prefix.addr && p.len <= prefix.len));
        end.checked_sub(1).map(|i| self.prefixes[i])
    }
    /// Whether `addr` is in it.
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        self.covers(Prefix::host(addr))
    }
    /// Whether every address of `prefix` is in it.
    ///
    /// One lookup suffices: the prefixes are merged, so a prefix that is covered is covered by one of them.
    #[must_use]
    pub fn covers(&self, prefix: Prefix) -> bool {
        self.candidate(prefix).is_some_and(|p| p.covers(prefix))
    }
    /// Whether every address from `first` to `last`, of one family, is in it.
    #[must_use]
    pub fn covers_range(&self, first: Addr, last: Addr) -> bool {
        let mut next = first;
        while let Some(prefix) = self.candidate(Prefix::host(next)).filter(|p| p.contains(next)) {
            if prefix.last() >= last {
                return true;
            }
            let Some(behind) = prefix.last().offset(1) else { return false };
            next = behind;
        }
        false
    }
    /// Whether every address of `other` is in it.
    #[must_use]
    pub fn includes(&self, other: &PrefixSet) -> bool {
        other.prefixes.iter().all(|&p| self.covers(p))
    }
    /// Whether some address of `prefix` is in it.
    #[must_use]
    pub fn overlaps(&self, prefix: Prefix) -> bool {
        self.covers(prefix) || {
            let start = self.prefixes.partition_point(|p| p.addr < prefix.addr);
            self.prefixes.get(start).is_some_and(|&p| prefix.covers(p))
        }
    }
    /// Whether no address is in both.
    #[must_use]
    pub fn disjoint(&self, other: &PrefixSet) -> bool {
        !other.prefixes.iter().any(|&p| self.overlaps(p))
    }
}

impl fmt::Display for PrefixSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, prefix) in self.prefixes.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{prefix}")?;
        }
        f.write_str("}")
    }
}
impl fmt::Debug for PrefixSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who sends a program: an end user, or an edge router for the users of its prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Principal {
    /// An end user is its address, and owns it.
    EndUser(Addr),
    /// An edge router is an address and owns the prefix that the address is in.
    EdgeRouter(Router),
}

/// An edge router's own address and its prefix; the address is in the prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Router {
    addr: Addr,
    net: Prefix,
}

impl Principal {
    /// The edge router at `addr` in its prefix of `len` bits, or `None` where `len` is above the family's width.
    #[must_use]
    pub const fn edge_router(addr: Addr, len: u8) -> Option<Principal> {
        match Prefix::of(addr, len) {
            Some(net) => Some(Principal::EdgeRouter(Router { addr, net })),
            None => None,
        }
    }
    /// The address or prefix as it was written: `192.0.2.1` or `192.0.2.1/24`.
    #[must_use]
    pub const fn addr(&self) -> Addr {
        match self {
            Principal::EndUser(addr) => *addr,
            Principal::EdgeRouter(router) => router.addr,
        }
    }
    /// The address that THIS_IP stands for. An edge router that wrote its prefix with zero host bits has none,
    /// unless its prefix is that one address.
    #[must_use]
    pub fn this_ip(&self) -> Option<Addr> {
        match self {
            Principal::EndUser(addr) => Some(*addr),
            Principal::EdgeRouter(r) if r.addr == r.net.addr && r.net.len < r.addr.width() => None,
            Principal::EdgeRouter(r) => Some(r.addr),
        }
    }
    /// The prefix that THIS_SUBNET_IP stands for; an end user has none.
    #[must_use]
    pub fn this_subnet(&self) -> Option<Prefix> {
        match self {
            Principal::EndUser(_) => None,
            Principal::EdgeRouter(r) => Some(r.net),
        }
    }
    /// The addresses it owns: an end user its own, an edge router its prefix.
    #[must_use]
    pub fn owned(&self) -> Prefix {
        match self {
            Principal::EndUser(addr) => Prefix::host(*addr),
            Principal::EdgeRouter(r) => r.net,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::EndUser(addr) => write!(f, "{addr}"),
            Principal::EdgeRouter(r) => write!(f, "{}/{}", r.addr, r.net.len),
        }
    }
}

/// A set of addresses as programs and policies write it: constants, and the two names that stand for the owner.
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
        let mut prefixes: Vec<Prefix> = Vec::with_capacity(self.parts());
        prefixes.extend(self.prefixes.prefixes());
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
    /// How many prefixes and names it is written with.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.prefixes.prefixes().len() + usize::from(self.this_ip) + usize::from(self.this_subnet)
    }
}

/// The set of one address.
impl From<Addr> for AddrExpr {
    fn from(addr: Addr) -> Self {
        AddrExpr { prefixes: PrefixSet::of(addr), ..AddrExpr::default() }
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

impl fmt::Display for Unset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unset::ThisIp => "THIS_IP",
            Unset::ThisSubnet => "THIS_SUBNET_IP",
        })
    }
}

/// As a prefix that it alone is in.
impl Wire for Addr {
    fn write(&self, w: &mut Writer) {
        w.prefix(Prefix::host(*self));
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let prefix = r.prefix()?;
        if prefix.len() == prefix.addr().width() { Ok(prefix.addr()) } else { Err(WireError::BadPrefix) }
    }
}

const ADDRS_THIS_IP: u8 = 0x01;
const ADDRS_THIS_SUBNET: u8 = 0x02;
const ADDRS_PREFIXES: u8 = 0x04;

/// A byte of flags, then the constants, if any, as the fewest prefixes.
impl Wire for AddrExpr {
    fn write(&self, w: &mut Writer) {
        let prefixes = self.prefixes.prefixes();
        w.byte(
            if self.this_ip { ADDRS_THIS_IP } else { 0 }
                | if self.this_subnet { ADDRS_THIS_SUBNET } else { 0 }
                | if prefixes.is_empty() { 0 } else { ADDRS_PREFIXES },
        );
        if !prefixes.is_empty() {
            w.integer(prefixes.len() as u64);
            prefixes.iter().for_each(|&prefix| w.prefix(prefix));
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let flags = r.byte()?;
        if flags == 0 || flags & !(ADDRS_THIS_IP | ADDRS_THIS_SUBNET | ADDRS_PREFIXES) != 0 {
            return Err(WireError::UnknownTag(flags));
        }
        let mut prefixes = PrefixSet::default();
        if flags & ADDRS_PREFIXES != 0 {
            let count = r.integer(PREFIXES_MAX as u64)? as usize;
            prefixes.prefixes = Vec::with_capacity(count.min(r.left()));
            for _ in 0..count {
                prefixes.prefixes.push(r.prefix()?);
            }
            if count == 0 || !prefixes.is_merged() {
                return Err(WireError::BadSet);
            }
        }
        Ok(AddrExpr { this_ip: flags & ADDRS_THIS_IP != 0, this_subnet: flags & ADDRS_THIS_SUBNET != 0, prefixes })
    }
}
