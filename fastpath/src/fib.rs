//! The forwarding table: where each destination goes, by longest prefix, for both families.
//!
//! A [`Fib`] never changes after it is built; the control core builds a new one for every change (or several) of the
//! kernel's routes and neighbours and publishes it with a [`FibWriter`]. A neighbour whose Ethernet address is known
//! becomes a host route of its own, so that forwarding is one lookup whichever way a route goes: prefix to hop, hop
//! to port and address.
//!
//! What a lookup ought to cost: IPv4 is one load from a table of 256 KiB for a prefix of up to 16 bits, and one more
//! for each further 8 bits: 2 ns with the table in the second-level cache, against 5.9 ns for `rte_lpm` in bulk;
//! lookups of one burst do not depend on one another, so they overlap. IPv6 skips the bits that no route tells apart,
//! which leaves two to four loads for tables of ordinary shape.

mod v4;
mod v6;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use vinet_trusted::addr::{Addr, Prefix};

use crate::link::Face;
use crate::publication::{Domain, Published, Reader, Retired};
use crate::station::Station;

/// The most distinct hops of one table. The tries keep one bit of a word for themselves.
pub const HOPS_MAX: usize = 1 << 30;

/// Where a route leads, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the router itself: an address of its own, or a broadcast address of one of its links.
    Local,
    /// Out of a port.
    Via {
        /// The port.
        port: u16,
        /// The next router; `None` where the destination itself is on the link.
        gateway: Option<Addr>,
    },
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere, and the sender is told that the host is unreachable.
    Unreachable,
    /// Nowhere, and the sender is told that it is forbidden.
    Prohibit,
}

/// What to do with a packet, once its longest prefix is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hop {
    /// There is no route.
    NoRoute,
    /// It is for the router itself.
    Local,
    /// It leaves `port` to the station `mac`.
    Forward {
        /// The port.
        port: u16,
        /// The next station.
        mac: [u8; 6],
    },
    /// It leaves `port` to the destination itself, whose Ethernet address is not known.
    OnLink {
        /// The port.
        port: u16,
    },
    /// It leaves `port` to a router whose Ethernet address is not known: number `gateway` of [`Fib::gateway`].
    Gateway {
        /// The port.
        port: u16,
        /// The router's number.
        gateway: u32,
    },
    /// It is dropped silently.
    Blackhole,
    /// It is dropped, and the sender is told: unreachable.
    Unreachable,
    /// It is dropped, and the sender is told: prohibited.
    Prohibit,
}

/// What is known of a next hop's Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// It is this.
    Usable([u8; 6]),
    /// The kernel asked and nobody answered.
    Failed,
}

/// Addresses that our own ICMP errors about packets received on a port come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// For IPv4.
    pub v4: Option<u32>,
    /// For IPv6.
    pub v6: Option<u128>,
}

/// The /16s, first and last, of IPv4 addresses that are not ordinary: "this network", loopback, link-local, multicast and
/// reserved (RFC 6890).
const SPECIAL_V4: [(u16, u16); 4] = [(0, 0x00ff), (0x7f00, 0x7fff), (0xa9fe, 0xa9fe), (0xe000, 0xffff)];

/// Hop number 0 is [`Hop::NoRoute`] in every table.
const NO_ROUTE: u32 = 0;

/// A table that never changes.
pub struct Fib {
    v4: v4::Trie,
    v6: v6::Trie,
    /// By number; behind all of them their twins, which stand for the same hops where addresses are not ordinary.
    hops: Vec<Hop>,
    /// One for each hop; [`Station::NONE`] for twins.
    stations: Vec<Station>,
    gateways: Vec<Addr>,
    neighbours: HashMap<(u16, Addr), Neighbour>,
    sources: HashMap<u16, Sources>,
    /// Rises with each table that is published: a worker sees that there is news.
    generation: u64,
}

impl Fib {
    /// A table without routes.
    #[must_use]
    pub fn empty() -> Fib {
        Fib {
            v4: v4::Trie::new(),
            v6: v6::Trie::build(Vec::new()),
            hops: vec![Hop::NoRoute],
            stations: vec![Station::NONE],
            gateways: Vec::new(),
            neighbours: HashMap::new(),
            sources: HashMap::new(),
            generation: 0,
        }
    }

    /// Where a packet to `dst` goes.
    #[inline]
    #[must_use]
    pub fn look_up(&self, dst: Addr) -> Hop {
        self.hops[self.number(dst) as usize]
    }

    /// Where a packet to `dst` goes, and the station, where it is known.
    #[must_use]
    pub fn look_up_both(&self, dst: Addr) -> (Hop, Station) {
        // A twin's station is that of the hop that it stands for.
        let number = self.number(dst) as usize % (self.hops.len() / 2).max(1);
        (self.hops[number], self.stations[number])
    }

    fn number(&self, dst: Addr) -> u32 {
        match dst {
            Addr::V4(dst) => self.v4.look_up(dst),
            Addr::V6(dst) => self.v6.look_up(dst),
        }
    }

    /// Makes its stations those that are reached by these ports.
    pub(crate) fn reach_by(&mut self, faces: &[Face]) {
        for station in &mut self.stations {
            if let Some(face) = faces.get(usize::from(station.port())) {
                *station = station.by(face);
            }
        }
    }

    /// The number of the hop to an IPv4 address: of one with a station ([`Fib::station`]) only where the address is
    /// ordinary, of a host and of more than the link's scope.
    #[inline(always)]
    #[must_use]
    pub(crate) fn hop_v4(&self, dst: u32) -> u32 {
        self.v4.look_up(dst)
    }

    /// The number of the hop to an IPv6 address.
    #[inline]
    #[must_use]
    pub(crate) fn hop_v6(&self, dst: u128) -> u32 {
        self.v6.look_up(dst)
    }

    /// The station of a hop; [`Station::NONE`] where none is known.
    #[inline(always)]
    #[must_use]
    pub(crate) fn station(&self, hop: u32) -> &Station {
        &self.stations[hop as usize]
    }

    /// The router with this number.
    #[must_use]
    pub fn gateway(&self, number: u32) -> Option<Addr> {
        self.gateways.get(number as usize).copied()
    }

    /// What is known of `addr` on `port`.
    #[must_use]
    pub fn neighbour(&self, port: u16, addr: Addr) -> Option<Neighbour> {
        self.neighbours.get(&(port, addr)).copied()
    }

    /// The addresses of own ICMP errors about packets received on `port`.
    #[must_use]
    pub fn sources(&self, port: u16) -> Sources {
        self.sources.get(&port).copied().unwrap_or_default()
    }

    /// Different for every table published.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Why no table was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FibError {
    /// More distinct next hops than a table can number.
    TooManyHops {
        /// How many there are.
        hops: usize,
    },
}

impl fmt::Display for FibError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FibError::TooManyHops { hops } => {
                write!(
                    f,
                    "{hops} distinct next hops are more than the {} that a forwarding table can number",
                    HOPS_MAX / 2
                )
            }
        }
    }
}
impl std::error::Error for FibError {}

/// Routes, neighbours and addresses on their way to becoming a [`Fib`].
#[derive(Clone, Default, Debug)]
pub struct FibBuilder {
    routes: BTreeMap<Prefix, Target>,
    neighbours: HashMap<(u16, Addr), Neighbour>,
    sources: HashMap<u16, Sources>,
}

impl FibBuilder {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> FibBuilder {
        FibBuilder::default()
    }

    /// Sends `prefix` to `target`; the last word on a prefix counts.
    pub fn route(&mut self, prefix: Prefix, target: Target) -> &mut Self {
        self.routes.insert(prefix, target);
        self
    }

    /// The station `mac` is `addr` on `port`.
    pub fn neighbour(&mut self, port: u16, addr: Addr, mac: [u8; 6]) -> &mut Self {
        self.neighbours.insert((port, addr), Neighbour::Usable(mac));
        self
    }

    /// Nobody answers for `addr` on `port`: packets that wait for it end as unreachable.
    pub fn failed_neighbour(&mut self, port: u16, addr: Addr) -> &mut Self {
        self.neighbours.insert((port, addr), Neighbour::Failed);
        self
    }

    /// Where own ICMP errors about packets received on `port` come from.
    pub fn source(&mut self, port: u16, v4: Option<Addr>, v6: Option<Addr>) -> &mut Self {
        let sources = Sources {
            v4: v4.and_then(|addr| if let Addr::V4(addr) = addr { Some(addr) } else { None }),
            v6: v6.and_then(|addr| if let Addr::V6(addr) = addr { Some(addr) } else { None }),
        };
        self.sources.insert(port, sources);
        self
    }

    /// The target of the longest prefix that holds `addr`.
    fn longest(&self, lengths: &[u8], addr: Addr) -> Option<Target> {
        lengths.iter().filter_map(|&len| self.routes.get(&Prefix::of(addr, len)?).copied()).next()
    }

    /// The table.
    ///
    /// # Errors
    /// [`FibError`] where it would be beyond what a table can number.
    pub fn build(&self) -> Result<Fib, FibError> {
        let mut hops = Hops::new();
        let mut routes: Vec<(Prefix, u32)> = Vec::with_capacity(self.routes.len());
        for (&prefix, &target) in &self.routes {
            let hop = self.hop(target, &mut hops.gateways);
            routes.push((prefix, hops.number(hop)));
        }
        let mut neighbours: Vec<(Prefix, u32)> = Vec::with_capacity(self.neighbours.len());
        let mut lengths: Vec<u8> = self.routes.keys().map(|prefix| prefix.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        for (&(port, addr), &neighbour) in &self.neighbours {
            let Neighbour::Usable(mac) = neighbour else { continue };
            // Only where the route to it says that it is on this very link: a neighbour is no route by itself.
            if self.longest(&lengths, addr) == (Some(Target::Via { port, gateway: None })) {
                // Behind the routes of its length, so that it writes over a host route to the same link.
                neighbours.push((Prefix::host(addr), hops.number(Hop::Forward { port, mac })));
            }
        }
        if hops.list.len() > HOPS_MAX / 2 {
            return Err(FibError::TooManyHops { hops: hops.list.len() });
        }
        // Shorter prefixes first: a longer one then writes over them.
        routes.sort_unstable_by_key(|&(prefix, _)| (prefix.len(), prefix));
        routes.extend(neighbours);
        // What leads to addresses that no packet may be sent on to has a twin of each hop, without a station.
        let ordinary = hops.list.len() as u32;
        hops.list.extend_from_within(..);
        let mut v4 = v4::Trie::new();
        let mut v6_routes = Vec::new();
        for (prefix, hop) in routes {
            match prefix.addr() {
                Addr::V4(addr) => v4.insert(addr, prefix.len(), hop),
                Addr::V6(addr) => v6_routes.push((addr, prefix.len(), hop)),
            }
        }
        for (first, last) in SPECIAL_V4 {
            v4.change(first, last, |hop| hop + ordinary);
        }
        let station = |hop: &Hop| match *hop {
            Hop::Forward { port, mac } => Station::new(port, mac),
            _ => Station::NONE,
        };
        let mut stations: Vec<Station> = hops.list.iter().map(station).collect();
        stations[ordinary as usize..].fill(Station::NONE);
        Ok(Fib {
            v4,
            v6: v6::Trie::build(v6_routes),
            stations,
            hops: hops.list,
            gateways: hops.gateways,
            neighbours: self.neighbours.clone(),
            sources: self.sources.clone(),
            generation: 0,
        })
    }

    fn hop(&self, target: Target, gateways: &mut Vec<Addr>) -> Hop {
        match target {
            Target::Local => Hop::Local,
            Target::Blackhole => Hop::Blackhole,
            Target::Unreachable => Hop::Unreachable,
            Target::Prohibit => Hop::Prohibit,
            Target::Via { port, gateway: None } => Hop::OnLink { port },
            Target::Via { port, gateway: Some(gateway) } => match self.neighbours.get(&(port, gateway)) {
                Some(&Neighbour::Usable(mac)) => Hop::Forward { port, mac },
                _ => {
                    let number = gateways.iter().position(|&known| known == gateway).unwrap_or_else(|| {
                        gateways.push(gateway);
                        gateways.len() - 1
                    });
                    Hop::Gateway { port, gateway: number as u32 }
                }
            },
        }
    }
}

/// Distinct hops, numbered.
struct Hops {
    list: Vec<Hop>,
    numbers: HashMap<Hop, u32>,
    gateways: Vec<Addr>,
}

impl Hops {
    fn new() -> Hops {
        Hops { list: vec![Hop::NoRoute], numbers: HashMap::from([(Hop::NoRoute, NO_ROUTE)]), gateways: Vec::new() }
    }
    fn number(&mut self, hop: Hop) -> u32 {
        *self.numbers.entry(hop).or_insert_with(|| {
            self.list.push(hop);
            (self.list.len() - 1) as u32
        })
    }
}

/// The workers' way to the current table.
pub struct FibRoot {
    root: Published<Fib>,
}

impl FibRoot {
    /// The table, until the reader's next report.
    #[inline]
    #[must_use]
    pub fn read<'r>(&'r self, reader: &'r Reader) -> &'r Fib {
        self.root.read(reader)
    }
}

/// The one who publishes tables. Not `Clone`.
pub struct FibWriter {
    domain: Domain,
    /// The ports' link sides, by number.
    faces: Arc<[Face]>,
    root: Arc<FibRoot>,
    retired: VecDeque<Retired<Fib>>,
    generation: u64,
}

/// Replaced tables that may wait for the workers; beyond it [`FibWriter::publish`] refuses.
pub const RETIRED_FIBS_MAX: usize = 64;

/// Why a table was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRetired;

impl fmt::Display for TooManyRetired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{RETIRED_FIBS_MAX} replaced forwarding tables wait for workers that do not report; keep the change and publish it later"
        )
    }
}
impl std::error::Error for TooManyRetired {}

impl FibWriter {
    /// A writer with an empty table published, for a router with these ports, and the workers' way to it.
    #[must_use]
    pub fn new(domain: Domain, faces: Arc<[Face]>) -> (FibWriter, Arc<FibRoot>) {
        let root = Arc::new(FibRoot { root: Published::new(domain.clone(), Box::new(Fib::empty())) });
        (FibWriter { domain, faces, root: root.clone(), retired: VecDeque::new(), generation: 0 }, root)
    }

    /// Makes `fib` the table of every worker from its next turn on.
    ///
    /// # Errors
    /// [`TooManyRetired`] where the workers have not passed the tables before; nothing is changed then.
    pub fn publish(&mut self, mut fib: Fib) -> Result<(), TooManyRetired> {
        self.reclaim();
        if self.retired.len() >= RETIRED_FIBS_MAX {
            return Err(TooManyRetired);
        }
        self.generation += 1;
        fib.generation = self.generation;
        fib.reach_by(&self.faces);
        let mut publish = self.domain.publish();
        let before = self.root.root.replace(Box::new(fib), &mut publish);
        publish.commit();
        self.retired.push_back(before);
        Ok(())
    }

    /// Frees the tables that every worker has passed.
    pub fn reclaim(&mut self) {
        let passed = self.domain.passed();
        while let Some(oldest) = self.retired.pop_front() {
            if let Err(oldest) = oldest.free(passed) {
                self.retired.push_front(oldest);
                break;
            }
        }
    }
}

impl Drop for FibWriter {
    fn drop(&mut self) {
        self.reclaim();
    }
}

#[cfg(test)]
mod tests;
