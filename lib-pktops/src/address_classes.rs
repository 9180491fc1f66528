//! The classes into which a list of address sets divides a prefix.
//!
//! Two addresses are in one class when they are in the same ones of the sets. Finding an address's class is one binary
//! search, however many sets there are, because the classes are kept as ranges in rising order.

use std::collections::HashMap;
use vinet_trusted::addr::{Addr, Prefix, PrefixSet};

/// A prefix, divided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AddressClasses {
    within: Prefix,
    /// Where each range starts, rising; the first at the start of `within`.
    starts: Vec<u128>,
    /// The class of each range; neighbours differ.
    classes: Vec<u16>,
    /// For each class, the sets that it is in: bit k of word k / 64 for set k.
    members: Vec<Vec<u64>>,
}

/// There are more classes than the caller allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooManyClasses;

/// The address as a number; IPv4 in the low 32 bits.
const fn number(addr: Addr) -> u128 {
    match addr {
        Addr::V4(a) => a as u128,
        Addr::V6(a) => a,
    }
}

impl AddressClasses {
    /// Divides `within` by `sets`, into `classes_max` classes at most.
    pub(crate) fn new(
        within: Prefix,
        sets: &[&PrefixSet],
        classes_max: usize,
    ) -> Result<AddressClasses, TooManyClasses> {
        let mut current = vec![0u64; sets.len().div_ceil(64)];
        // Where membership of a set changes. A set that ends one prefix where it starts the next changes twice there,
        // which is no change.
        let mut changes: Vec<(u128, usize)> = Vec::new();
        for (set, prefixes) in sets.iter().enumerate() {
            if prefixes.covers(within) {
                current[set / 64] |= 1 << (set % 64);
                continue;
            }
            for prefix in prefixes.prefixes().iter().filter(|p| within.covers(**p)) {
                changes.push((number(prefix.addr()), set));
                if prefix.last() != within.last() {
                    changes.push((number(prefix.last()) + 1, set));
                }
            }
        }
        changes.sort_unstable();
        let mut divided = AddressClasses { within, starts: Vec::new(), classes: Vec::new(), members: Vec::new() };
        let mut names: HashMap<Vec<u64>, u16> = HashMap::new();
        let mut at = number(within.addr());
        let mut next = 0;
        loop {
            while let Some(&(_, set)) = changes.get(next).filter(|(place, _)| *place == at) {
                current[set / 64] ^= 1 << (set % 64);
                next += 1;
            }
            let class = match names.get(&current) {
                Some(&class) => class,
                None if divided.members.len() >= classes_max.min(usize::from(u16::MAX)) => return Err(TooManyClasses),
                None => {
                    let class = divided.members.len() as u16;
                    names.insert(current.clone(), class);
                    divided.members.push(current.clone());
                    class
                }
            };
            if divided.classes.last() != Some(&class) {
                divided.starts.push(at);
                divided.classes.push(class);
            }
            match changes.get(next) {
                Some(&(place, _)) => at = place,
                None => {
                    // There may be one of these for each of very many owners.
                    divided.starts.shrink_to_fit();
                    divided.classes.shrink_to_fit();
                    divided.members.shrink_to_fit();
                    return Ok(divided);
                }
            }
        }
    }
    /// What is divided.
    pub(crate) const fn within(&self) -> Prefix {
        self.within
    }
    /// Whether both have the same classes, with the same numbers, whatever addresses are in them.
    pub(crate) fn has_classes_of(&self, other: &AddressClasses) -> bool {
        self.members == other.members
    }
    /// The memory that it holds besides itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        let members = self.members.iter().map(|sets| size_of::<Vec<u64>>() + size_of_val(&**sets)).sum::<usize>();
        size_of_val(&*self.starts) + size_of_val(&*self.classes) + members
    }
    /// How many classes there are; they are numbered from 0.
    pub(crate) const fn count(&self) -> usize {
        self.members.len()
    }
    /// Whether the addresses of `class` are in set number `set`.
    pub(crate) fn is_in(&self, class: usize, set: usize) -> bool {
        self.members[class][set / 64] >> (set % 64) & 1 != 0
    }
    /// Whether `addr` is in the prefix. Mostly that is one address, or a family's all, and no bits are to be counted.
    #[inline]
    fn holds(&self, addr: Addr) -> bool {
        match (self.within.addr(), addr, self.within.len()) {
            (Addr::V4(_), Addr::V4(_), 0) | (Addr::V6(_), Addr::V6(_), 0) => true,
            (Addr::V4(one), Addr::V4(addr), 32) => one == addr,
            (Addr::V6(one), Addr::V6(addr), 128) => one == addr,
            _ => self.within.contains(addr),
        }
    }
    /// The class of `addr`, or `None` where it is outside the prefix.
    #[inline]
    pub(crate) fn class(&self, addr: Addr) -> Option<usize> {
        if !self.holds(addr) {
            return None;
        }
        let number = number(addr);
        let range = if self.starts.len() == 1 { 1 } else { self.starts.partition_point(|start| *start <= number) };
        Some(usize::from(self.classes[range - 1]))
    }
    /// The addresses of the classes that `chosen` holds of.
    pub(crate) fn addresses(&self, chosen: impl Fn(usize) -> bool) -> PrefixSet {
        let end = number(self.within.last());
        let mut prefixes = Vec::new();
        for (i, (&start, &class)) in self.starts.iter().zip(&self.classes).enumerate() {
            if chosen(usize::from(class)) {
                let last = self.starts.get(i + 1).map_or(end, |next| next - 1);
                push_range(&mut prefixes, self.within, start, last);
            }
        }
        PrefixSet::new(prefixes)
    }
}

/// Adds the fewest prefixes that are the addresses `first ..= last` of the family of `within`.
fn push_range(prefixes: &mut Vec<Prefix>, within: Prefix, mut first: u128, last: u128) {
    let width = u32::from(within.addr().width());
    loop {
        // The largest block that starts here and does not reach over the end.
        let mut bits = first.trailing_zeros().min(width);
        while bits > 0 && block_last(first, bits) > last {
            bits -= 1;
        }
        let addr = match within.addr() {
            Addr::V4(_) => Addr::V4(first as u32),
            Addr::V6(_) => Addr::V6(first),
        };
        prefixes.extend(Prefix::of(addr, (width - bits) as u8));
        let end = block_last(first, bits);
        if end >= last {
            return;
        }
        first = end + 1;
    }
}

/// The last number of the block of 2^`bits` numbers that starts at `first`.
const fn block_last(first: u128, bits: u32) -> u128 {
    if bits >= 128 { u128::MAX } else { first | ((1 << bits) - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str, len: u8) -> Prefix {
        let addr: core::net::IpAddr = text.parse().unwrap();
        Prefix::new(addr.into(), len).unwrap()
    }

    #[test]
    fn classes_agree_with_the_sets_at_every_address_of_a_small_prefix() {
        let within = v4("10.0.0.0", 24);
        let sets = [
            PrefixSet::new(vec![v4("10.0.0.0", 25)]),
            PrefixSet::new(vec![v4("10.0.0.64", 26), v4("10.0.0.130", 32), v4("10.0.0.255", 32)]),
            PrefixSet::new(vec![v4("0.0.0.0", 0)]),
            PrefixSet::new(vec![v4("11.0.0.0", 8)]),
        ];
        let refs: Vec<&PrefixSet> = sets.iter().collect();
        let classes = AddressClasses::new(within, &refs, 16).unwrap();
        for host in 0..256u32 {
            let addr = Addr::V4(0x0a00_0000 + host);
            let class = classes.class(addr).unwrap();
            for (k, set) in sets.iter().enumerate() {
                assert_eq!(classes.is_in(class, k), set.contains(addr), "{addr} in set {k}");
            }
            assert!(classes.addresses(|c| c == class).contains(addr));
            assert!(!classes.addresses(|c| c != class).contains(addr));
        }
        assert_eq!(classes.class(Addr::V4(0x0a00_0100)), None);
        assert_eq!(classes.class(Addr::V6(0x0a00_0000)), None);
        assert_eq!(classes.count(), 4);
        assert_eq!(AddressClasses::new(within, &refs, 3), Err(TooManyClasses));
    }

    #[test]
    fn whole_families_have_one_class_and_one_prefix() {
        for within in [v4("0.0.0.0", 0), Prefix::new(Addr::V6(0), 0).unwrap()] {
            let classes = AddressClasses::new(within, &[], 1).unwrap();
            assert_eq!(classes.addresses(|_| true).prefixes(), &[within]);
            assert!(classes.addresses(|_| false).is_empty());
        }
    }

    #[test]
    fn the_complement_of_one_host_has_one_prefix_for_each_bit() {
        let host = PrefixSet::new(vec![Prefix::new(Addr::V6(1 << 77 | 5), 128).unwrap()]);
        let all = Prefix::new(Addr::V6(0), 0).unwrap();
        let classes = AddressClasses::new(all, &[&host], 2).unwrap();
        let outside = classes.addresses(|class| !classes.is_in(class, 0));
        assert_eq!(outside.prefixes().len(), 128);
        assert!(!outside.contains(Addr::V6(1 << 77 | 5)));
        assert!(outside.contains(Addr::V6(1 << 77 | 4)));
    }
}
