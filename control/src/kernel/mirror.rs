//! The mirror of the kernel's routes and neighbours, from which the FIB is built.
//!
//! A [`Mirror`] was equal to the kernel at the end of its last dump, and has taken in every announcement since. It reads
//! two sockets: one for announcements, one for dumps. When an announcement is lost (the kernel says so, ENOBUFS), or says
//! too little (several routes of one metric), or the kernel is known to drop routes silently (a link goes down, an
//! address goes), a *resync* follows: everything is dumped into a fresh state, the announcements that came meanwhile are
//! applied to it, and what differs from the old state is told as changes. The old state, and so the FIB, stands until
//! then. Announcements are applied after the dump because each of them is then either news or known already; the order
//! of the kernel's announcements about one object is kept, so the last word is the right one.
//!
//! Routes that count, and which of several wins: see `routes`. Deliberately absent: other tables, policy routing and
//! VRFs; load sharing over several next hops (the first usable one is taken); MTU and other metrics of routes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::libc::ENOBUFS;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use vinet_trusted::addr::{Addr, Prefix};

use super::PortIndex;
use super::netlink::{DATAGRAM_LEN_MAX, NetlinkError, Parts, open_socket, send, socket_error};
pub use super::routes::Target;
use super::routes::{Certainty, Way};
pub use super::state::NeighbourState;
use super::state::{State, Touched};

/// The receive buffer for announcements, in bytes: some ten thousand of them.
pub const RECEIVE_BUFFER_LEN: usize = 8 << 20;
/// Datagrams read from each socket in one turn of the control loop.
pub const DATAGRAMS_PER_TURN_MAX: usize = 64;
/// The shortest time from the end of one resync to the start of the next.
pub const RESYNC_INTERVAL_MIN: Duration = Duration::from_millis(200);
/// Announcements held back during a resync, in bytes. Beyond it they are dropped, and another resync follows.
const HELD_LEN_MAX: usize = 16 << 20;
/// How often one kind of object is dumped again because it changed under the dump; then it is taken as it is, and
/// another resync follows.
const INTERRUPTED_DUMPS_MAX: u32 = 8;
/// The longest wait for the first dump.
const FIRST_DUMP_WAIT_MAX: Duration = Duration::from_secs(10);

/// Groups of announcements, RTNLGRP_* of linux/rtnetlink.h: links, neighbours, addresses and routes of both versions,
/// next hop objects.
const GROUPS: [u32; 7] = [1, 3, 5, 7, 9, 11, 32];

/// Why the mirror cannot go on.
#[derive(Debug)]
pub enum MirrorError {
    /// A socket fails in a way that is no loss of messages.
    Netlink(NetlinkError),
    /// The kernel refused a dump.
    Dump {
        /// What was to be dumped.
        kind: DumpKind,
        /// What the kernel said.
        source: io::Error,
    },
    /// The first dump did not end in time.
    Slow {
        /// The time that it had.
        waited: Duration,
    },
}

impl fmt::Display for MirrorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MirrorError::Netlink(source) => write!(f, "mirror of the kernel's routes: {source}"),
            MirrorError::Dump { kind, source } => {
                write!(f, "mirror of the kernel's routes: the kernel does not list its {kind:?}: {source}")
            }
            MirrorError::Slow { waited } => write!(
                f,
                "mirror of the kernel's routes: the first list was not complete within {} s",
                waited.as_secs()
            ),
        }
    }
}
impl std::error::Error for MirrorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MirrorError::Netlink(source) => Some(source),
            MirrorError::Dump { source, .. } => Some(source),
            MirrorError::Slow { .. } => None,
        }
    }
}
impl From<NetlinkError> for MirrorError {
    fn from(source: NetlinkError) -> Self {
        MirrorError::Netlink(source)
    }
}

/// What a dump is of; in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpKind {
    /// Interfaces.
    Links,
    /// Their addresses.
    Addresses,
    /// IPv4 routes of all tables.
    Routes4,
    /// IPv6 routes of all tables.
    Routes6,
    /// Neighbours of both versions.
    Neighbours,
}

impl DumpKind {
    fn next(self) -> Option<DumpKind> {
        match self {
            DumpKind::Links => Some(DumpKind::Addresses),
            DumpKind::Addresses => Some(DumpKind::Routes4),
            DumpKind::Routes4 => Some(DumpKind::Routes6),
            DumpKind::Routes6 => Some(DumpKind::Neighbours),
            DumpKind::Neighbours => None,
        }
    }

    fn request(self) -> RouteNetlinkMessage {
        let routes = |family| {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            RouteNetlinkMessage::GetRoute(message)
        };
        match self {
            DumpKind::Links => RouteNetlinkMessage::GetLink(LinkMessage::default()),
            DumpKind::Addresses => RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            DumpKind::Routes4 => routes(AddressFamily::Inet),
            DumpKind::Routes6 => routes(AddressFamily::Inet6),
            DumpKind::Neighbours => RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
        }
    }
}

/// A difference between the state that was told last and the state now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Where packets to a prefix go.
    Route {
        /// The destinations.
        prefix: Prefix,
        /// Where they go; `None` where it is for a shorter prefix to say.
        target: Option<Target>,
    },
    /// What is known of a neighbour on a port's link.
    Neighbour {
        /// The port.
        port: PortIndex,
        /// The neighbour.
        addr: Addr,
        /// What is known; `None` where nothing is.
        state: Option<NeighbourState>,
    },
    /// The sources of the router's own packets out of a port, by IP version.
    Source {
        /// The port.
        port: PortIndex,
        /// IPv4.
        v4: Option<Addr>,
        /// IPv6.
        v6: Option<Addr>,
    },
    /// A twin came up with a carrier, or went down.
    Link {
        /// The port.
        port: PortIndex,
        /// Whether it is up.
        up: bool,
    },
}

/// What the mirror has read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorStats {
    /// Announcements.
    pub announcements: u64,
    /// How often the kernel said that announcements were lost.
    pub losses: u64,
    /// Completed resyncs, the first dump included.
    pub resyncs: u64,
    /// Dumps made again because they were interrupted.
    pub interrupted_dumps: u64,
    /// Messages that could not be read, and are missing in the mirror.
    pub unread: u64,
}

/// A resync under way.
#[derive(Debug)]
struct Resync {
    kind: DumpKind,
    sequence: u32,
    fresh: State,
    /// Whether the kernel changed under the dump of this kind.
    interrupted: bool,
    interruptions: u32,
    /// Announcements that came meanwhile, each datagram with its length in front.
    held: Vec<Vec<u8>>,
    held_len: usize,
}

/// What was told, so that only differences are told again.
#[derive(Debug, Default)]
struct Told {
    routes: BTreeMap<Prefix, Target>,
    neighbours: BTreeMap<(PortIndex, Addr), NeighbourState>,
    sources: BTreeMap<PortIndex, (Option<Addr>, Option<Addr>)>,
    links: BTreeMap<PortIndex, bool>,
}

/// What may differ from what was told.
#[derive(Debug, Default)]
struct Dirty {
    everything: bool,
    prefixes: BTreeSet<Prefix>,
    neighbours: BTreeSet<(u32, Addr)>,
    addresses: bool,
}

/// The mirror.
pub struct Mirror {
    announcements: Socket,
    dumps: Socket,
    /// Each twin's interface and port.
    ports: HashMap<u32, PortIndex>,
    state: State,
    told: Told,
    dirty: Dirty,
    resync: Option<Resync>,
    resync_wanted: bool,
    resynced_at: Instant,
    sequence: u32,
    datagram: Vec<u8>,
    stats: MirrorStats,
}

impl Mirror {
    /// Opens the mirror in the network namespace of the calling thread and waits for the first dump. `twins` gives the
    /// number of each port and the interface of its twin.
    ///
    /// # Errors
    /// [`MirrorError`].
    pub fn open(twins: &[(PortIndex, u32)]) -> Result<Mirror, MirrorError> {
        Mirror::open_with_buffer(twins, RECEIVE_BUFFER_LEN)
    }

    /// As [`Mirror::open`], with a receive buffer for announcements of `receive_buffer_len` bytes.
    ///
    /// # Errors
    /// [`MirrorError`].
    pub fn open_with_buffer(twins: &[(PortIndex, u32)], receive_buffer_len: usize) -> Result<Mirror, MirrorError> {
        let announcements = open_socket(NETLINK_ROUTE)?;
        // Beyond net.core.rmem_max, as CAP_NET_ADMIN allows; else as much as there is.
        if setsockopt(&announcements, sockopt::RcvBufForce, &receive_buffer_len).is_err() {
            let limited = setsockopt(&announcements, sockopt::RcvBuf, &receive_buffer_len);
            limited.map_err(|error| socket_error("set its receive buffer")(error.into()))?;
        }
        for group in GROUPS {
            announcements.add_membership(group).map_err(socket_error("join a group of announcements"))?;
        }
        let dumps = open_socket(NETLINK_ROUTE)?;
        for socket in [&announcements, &dumps] {
            socket.set_non_blocking(true).map_err(socket_error("make it non-blocking"))?;
        }
        let start = Instant::now();
        let mut mirror = Mirror {
            announcements,
            dumps,
            ports: twins.iter().map(|&(port, interface)| (interface, port)).collect(),
            state: State::default(),
            told: Told::default(),
            dirty: Dirty::default(),
            resync: None,
            resync_wanted: false,
            resynced_at: start,
            sequence: 0,
            datagram: Vec::with_capacity(DATAGRAM_LEN_MAX),
            stats: MirrorStats::default(),
        };
        mirror.start_resync()?;
        while mirror.resync.is_some() {
            let wait_ms = FIRST_DUMP_WAIT_MAX.saturating_sub(start.elapsed()).as_millis();
            if wait_ms == 0 {
                return Err(MirrorError::Slow { waited: FIRST_DUMP_WAIT_MAX });
            }
            let mut fds = [PollFd::new(mirror.dumps.as_fd(), PollFlags::POLLIN)];
            let wait = PollTimeout::try_from(wait_ms).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, wait) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(socket_error("wait for a dump")(error.into()).into()),
            }
            mirror.poll(Instant::now(), &mut Vec::new())?;
        }
        Ok(mirror)
    }

    /// Reads what the kernel has sent, at most [`DATAGRAMS_PER_TURN_MAX`] datagrams from each socket, and appends what
    /// changed to `changes`. `true` where there may be more: call again without waiting. Also to be called at
    /// [`Mirror::wake_at`].
    ///
    /// # Errors
    /// [`MirrorError`], none of which is expected. The state that was told stands.
    pub fn poll(&mut self, now: Instant, changes: &mut Vec<Change>) -> Result<bool, MirrorError> {
        let mut more = self.read_announcements()?;
        if self.resync_at().is_some_and(|due| due <= now) {
            self.start_resync()?;
        }
        more |= self.read_dump(now)?;
        if self.resync.is_none() {
            self.tell(changes);
        }
        Ok(more)
    }

    /// When [`Mirror::poll`] is to be called even though nothing is readable: there is something to tell, or a resync is
    /// due.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        if self.resync.is_some() {
            return None;
        }
        if !self.dirty.neighbours.is_empty() { Some(self.resynced_at) } else { self.resync_at() }
    }

    fn resync_at(&self) -> Option<Instant> {
        (self.resync_wanted && self.resync.is_none()).then(|| self.resynced_at + RESYNC_INTERVAL_MIN)
    }

    /// Whether the state is the kernel's, as far as it has been read: no resync is under way or due.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.resync_wanted && self.resync.is_none()
    }

    /// Where packets to each prefix go, rising by prefix.
    pub fn routes(&self) -> impl Iterator<Item = (Prefix, Target)> {
        self.told.routes.iter().map(|(&prefix, &target)| (prefix, target))
    }

    /// Where packets to `addr` go: by the longest prefix that holds it.
    #[must_use]
    pub fn route(&self, addr: Addr) -> Option<Target> {
        (0..=addr.width()).rev().find_map(|len| self.told.routes.get(&Prefix::of(addr, len)?).copied())
    }

    /// What is known of each neighbour on a port's link.
    pub fn neighbours(&self) -> impl Iterator<Item = (PortIndex, Addr, NeighbourState)> {
        self.told.neighbours.iter().map(|(&(port, addr), &state)| (port, addr, state))
    }

    /// The source of the router's own packets out of each port: IPv4, IPv6.
    pub fn sources(&self) -> impl Iterator<Item = (PortIndex, Option<Addr>, Option<Addr>)> {
        self.told.sources.iter().map(|(&port, &(v4, v6))| (port, v4, v6))
    }

    /// Whether the twin of each port is up with a carrier.
    pub fn links(&self) -> impl Iterator<Item = (PortIndex, bool)> {
        self.told.links.iter().map(|(&port, &up)| (port, up))
    }

    /// What has been read so far.
    #[must_use]
    pub fn stats(&self) -> MirrorStats {
        self.stats
    }

    /// The interface of a port's twin.
    pub(super) fn interface(&self, port: PortIndex) -> Option<u32> {
        self.ports.iter().find(|(_, twin)| **twin == port).map(|(&interface, _)| interface)
    }

    /// Notes that the kernel was just made to look for a neighbour without a known address: it announces what comes of
    /// it, but not that it has begun, and a failure after a failure is news.
    pub(super) fn asked(&mut self, interface: u32, addr: Addr) {
        if self.state.asked(interface, addr) {
            self.dirty.neighbours.insert((interface, addr));
        }
    }

    /// What the resolver asks about a neighbour.
    pub(super) fn neighbour(&self, interface: u32, addr: Addr) -> Option<super::state::Neighbour> {
        self.state.neighbour(interface, addr)
    }

    /// The stale neighbours on the twins.
    pub(super) fn stale_neighbours(&self) -> impl Iterator<Item = (u32, Addr)> {
        let stale = self.state.neighbours().filter(|(_, _, neighbour)| neighbour.stale);
        stale.map(|(interface, addr, _)| (interface, addr)).filter(|(interface, _)| self.ports.contains_key(interface))
    }

    fn read_announcements(&mut self) -> Result<bool, MirrorError> {
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            self.datagram.clear();
            match self.announcements.recv(&mut self.datagram, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {
                    self.stats.losses += 1;
                    self.resync_wanted = true;
                    continue;
                }
                Err(error) => return Err(socket_error("read announcements")(error).into()),
            }
            match &mut self.resync {
                Some(resync) if resync.held_len + self.datagram.len() <= HELD_LEN_MAX => {
                    resync.held_len += self.datagram.len();
                    resync.held.push(self.datagram.clone());
                }
                Some(_) => self.resync_wanted = true,
                None => {
                    let datagram = std::mem::take(&mut self.datagram);
                    self.take_announcements(&datagram);
                    self.datagram = datagram;
                }
            }
        }
        Ok(true)
    }

    fn take_announcements(&mut self, datagram: &[u8]) {
        for part in Parts(datagram) {
            let touched = part.and_then(|part| {
                let message = NetlinkBuffer::new(part);
                self.stats.announcements += 1;
                self.state.take(&message, false)
            });
            let certainty = match touched {
                Ok(Touched::Nothing) => Certainty::Sure,
                Ok(Touched::Route(prefix, certainty)) => {
                    self.dirty.prefixes.insert(prefix);
                    certainty
                }
                Ok(Touched::Neighbour(interface, addr)) => {
                    self.dirty.neighbours.insert((interface, addr));
                    Certainty::Sure
                }
                Ok(Touched::Addresses(certainty)) => {
                    self.dirty.addresses = true;
                    certainty
                }
                Ok(Touched::Link(certainty)) => {
                    self.dirty.everything = true;
                    certainty
                }
                Ok(Touched::NextHop) => Certainty::Unsure,
                Err(_) => {
                    self.stats.unread += 1;
                    Certainty::Sure
                }
            };
            self.resync_wanted |= certainty == Certainty::Unsure;
        }
    }

    fn start_resync(&mut self) -> Result<(), MirrorError> {
        self.resync_wanted = false;
        self.resync = Some(Resync {
            kind: DumpKind::Links,
            sequence: 0,
            fresh: State::default(),
            interrupted: false,
            interruptions: 0,
            held: Vec::new(),
            held_len: 0,
        });
        self.start_dump(DumpKind::Links)
    }

    fn start_dump(&mut self, kind: DumpKind) -> Result<(), MirrorError> {
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(resync) = &mut self.resync {
            resync.kind = kind;
            resync.sequence = self.sequence;
            resync.interrupted = false;
        }
        Ok(send(&self.dumps, kind.request(), NLM_F_REQUEST | NLM_F_DUMP, self.sequence)?)
    }

    fn read_dump(&mut self, now: Instant) -> Result<bool, MirrorError> {
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            let Some(resync) = &mut self.resync else { return Ok(false) };
            self.datagram.clear();
            match self.dumps.recv(&mut self.datagram, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(socket_error("read a dump")(error).into()),
            }
            let mut done = false;
            for part in Parts(&self.datagram) {
                let Ok(part) = part else {
                    self.stats.unread += 1;
                    break;
                };
                let message = NetlinkBuffer::new(part);
                if message.sequence_number() != resync.sequence {
                    continue;
                }
                resync.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
                match message.message_type() {
                    NLMSG_DONE => done = true,
                    NLMSG_ERROR => {
                        let code = message.payload().get(..4).and_then(|bytes| bytes.try_into().ok());
                        let code = code.map_or(0, i32::from_ne_bytes);
                        let source = io::Error::from_raw_os_error(code.saturating_neg());
                        return Err(MirrorError::Dump { kind: resync.kind, source });
                    }
                    _ => {
                        if resync.fresh.take(&message, true).is_err() {
                            self.stats.unread += 1;
                        }
                    }
                }
            }
            if done {
                self.end_dump(now)?;
            }
        }
        Ok(true)
    }

    /// The dump of one kind is complete: the next kind follows, or the same again where the kernel changed under it, or
    /// the fresh state takes the place of the old one.
    fn end_dump(&mut self, now: Instant) -> Result<(), MirrorError> {
        let Some(resync) = &mut self.resync else { return Ok(()) };
        let kind = resync.kind;
        if resync.interrupted {
            // What was read twice is known twice and harmless; what went meanwhile was announced.
            self.stats.interrupted_dumps += 1;
            resync.interruptions += 1;
            if resync.interruptions <= INTERRUPTED_DUMPS_MAX {
                return self.start_dump(kind);
            }
            self.resync_wanted = true;
        }
        if let Some(next) = kind.next() {
            return self.start_dump(next);
        }
        if let Some(resync) = self.resync.take() {
            self.state = resync.fresh;
            for datagram in resync.held {
                self.take_announcements(&datagram);
            }
        }
        self.dirty.everything = true;
        self.stats.resyncs += 1;
        self.resynced_at = now;
        Ok(())
    }

    fn way(&self, interface: u32) -> Way {
        match self.ports.get(&interface) {
            Some(&port) if self.state.is_up(interface) => Way::Port(port),
            Some(_) => Way::PortDown,
            None => Way::Elsewhere,
        }
    }

    /// Compares what may differ with what was told, and tells the differences.
    fn tell(&mut self, changes: &mut Vec<Change>) {
        let mut dirty = std::mem::take(&mut self.dirty);
        if dirty.everything {
            dirty.addresses = true;
            dirty.prefixes.extend(self.told.routes.keys());
            dirty.prefixes.extend(self.state.routes.prefixes());
            dirty.neighbours.extend(self.state.neighbours().map(|(interface, addr, _)| (interface, addr)));
            for &(port, addr) in self.told.neighbours.keys() {
                dirty.neighbours.extend(self.interface(port).map(|interface| (interface, addr)));
            }
            self.tell_links(changes);
        }
        if dirty.addresses {
            self.tell_sources(changes);
        }
        for prefix in dirty.prefixes {
            let target = self.state.routes.target(prefix, &|interface| self.way(interface));
            let before = match target {
                Some(target) => self.told.routes.insert(prefix, target),
                None => self.told.routes.remove(&prefix),
            };
            if before != target {
                changes.push(Change::Route { prefix, target });
            }
        }
        for (interface, addr) in dirty.neighbours {
            let Some(&port) = self.ports.get(&interface) else { continue };
            let state = self.state.neighbour(interface, addr).map(|neighbour| neighbour.state);
            let before = match state {
                Some(state) => self.told.neighbours.insert((port, addr), state),
                None => self.told.neighbours.remove(&(port, addr)),
            };
            if before != state {
                changes.push(Change::Neighbour { port, addr, state });
            }
        }
    }

    fn tell_links(&mut self, changes: &mut Vec<Change>) {
        for (&interface, &port) in &self.ports {
            let up = self.state.is_up(interface);
            if self.told.links.insert(port, up) != Some(up) {
                changes.push(Change::Link { port, up });
            }
        }
    }

    fn tell_sources(&mut self, changes: &mut Vec<Change>) {
        for (&interface, &port) in &self.ports {
            let (v4, v6) = (self.state.source(interface, true), self.state.source(interface, false));
            if self.told.sources.insert(port, (v4, v6)) != Some((v4, v6)) {
                changes.push(Change::Source { port, v4, v6 });
            }
        }
    }
}

/// Both sockets, under one token.
impl Source for Mirror {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.raw_fds().iter().try_for_each(|fd| SourceFd(fd).register(registry, token, interests))
    }
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.raw_fds().iter().try_for_each(|fd| SourceFd(fd).reregister(registry, token, interests))
    }
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.raw_fds().iter().try_for_each(|fd| SourceFd(fd).deregister(registry))
    }
}

impl Mirror {
    fn raw_fds(&self) -> [RawFd; 2] {
        [self.announcements.as_raw_fd(), self.dumps.as_raw_fd()]
    }
}
