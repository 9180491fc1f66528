//! What joins the workers to the kernel: the twins, the mirror of routes and neighbours, and the resolver.
//!
//! A [`Plane`] carries frames both ways between the rings of the workers and the twins, and turns what the mirror tells
//! into the FIB that workers read. Frames that neither side can take now are dropped, each counted by the side that
//! refused it; nothing here waits.

use std::fmt;
use std::time::Instant;

use mio::{Interest, Registry, Token};
use vinet_fastpath::fib::{FibBuilder, FibError, FibWriter, Target as FibTarget};
use vinet_fastpath::slow_path::SlowPath;
use vinet_trusted::addr::Addr;

use crate::config::{Config, Port};
use crate::kernel::PortIndex;
use crate::kernel::device::{StaticRoute, StaticTarget};
use crate::kernel::mirror::{Change, Mirror, MirrorError, MirrorStats, NeighbourState, Target};
use crate::kernel::netlink::{NetlinkError, Rtnl};
use crate::kernel::resolve::Resolver;
use crate::kernel::tap::{Sent, TapError, Twin, TwinSettings};
use crate::log;

/// Frames taken from one twin in one turn.
const FRAMES_PER_TURN: usize = 128;
/// The time between two FIBs is at least this many times what the last one took to build.
const FIB_PAUSE_FACTOR: u32 = 4;

/// A part of the kernel's side that failed.
#[derive(Debug)]
pub enum PlaneError {
    /// A twin.
    Tap(TapError),
    /// A request to the kernel.
    Netlink(NetlinkError),
    /// The mirror of routes and neighbours.
    Mirror(MirrorError),
    /// The FIB.
    Fib(FibError),
    /// The event loop cannot watch a descriptor.
    Watch {
        /// What it belongs to.
        what: String,
        /// The system's reason.
        reason: std::io::Error,
    },
}

impl fmt::Display for PlaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaneError::Tap(error) => write!(f, "{error}"),
            PlaneError::Netlink(error) => write!(f, "{error}"),
            PlaneError::Mirror(error) => write!(f, "{error}"),
            PlaneError::Fib(error) => write!(f, "the forwarding table cannot be published: {error}"),
            PlaneError::Watch { what, reason } => write!(f, "cannot watch {what}: {reason}"),
        }
    }
}
impl std::error::Error for PlaneError {}

/// Counters of the slow path's kernel side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PlaneCounters {
    /// Frames that the kernel took from us.
    pub to_kernel: u64,
    /// Frames that the kernel would not take.
    pub to_kernel_refused: u64,
    /// Frames that the kernel gave us.
    pub from_kernel: u64,
    /// Frames of the kernel that the workers' rings would not take.
    pub from_kernel_refused: u64,
    /// Requests to resolve a neighbour that were passed on.
    pub resolves: u64,
    /// FIBs that were published.
    pub fibs: u64,
}

/// The kernel's side of all ports.
pub struct Plane {
    rtnl: Rtnl,
    twins: Vec<Twin>,
    mirror: Mirror,
    resolver: Resolver,
    token_base: usize,
    /// Twins whose readiness is not used up yet.
    twin_ready: Vec<bool>,
    mirror_ready: bool,
    fib_stale: bool,
    fib_not_before: Instant,
    changes: Vec<Change>,
    counters: PlaneCounters,
}

impl fmt::Debug for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plane").field("twins", &self.twins.len()).field("counters", &self.counters).finish()
    }
}

impl Plane {
    /// Opens the twins of all ports, writes the configured routes to the kernel and reads everything back.
    /// `macs` are the ports' Ethernet addresses. Uses one token more than there are ports, from `token_base` on.
    ///
    /// # Errors
    /// [`PlaneError`]; what was made by then stays in the kernel and is found again by the next start.
    pub fn open(
        config: &Config,
        macs: &[[u8; 6]],
        registry: &Registry,
        token_base: usize,
    ) -> Result<Plane, PlaneError> {
        let mut rtnl = Rtnl::open().map_err(PlaneError::Netlink)?;
        let mut twins: Vec<Twin> = Vec::new();
        for (port, mac) in config.ports.iter().zip(macs) {
            twins.push(Twin::open(&mut rtnl, &twin_settings(port, *mac)).map_err(PlaneError::Tap)?);
        }
        rtnl.set_static_routes(&static_routes(config, &twins)).map_err(PlaneError::Netlink)?;
        let indices: Vec<(PortIndex, u32)> = (0..).zip(twins.iter().map(Twin::index)).collect();
        let mut mirror = Mirror::open(&indices).map_err(PlaneError::Mirror)?;
        for (index, twin) in twins.iter_mut().enumerate() {
            let what = format!("the twin {}", twin.name());
            registry
                .register(twin, Token(token_base + index), Interest::READABLE)
                .map_err(|reason| PlaneError::Watch { what, reason })?;
        }
        registry
            .register(&mut mirror, Token(token_base + twins.len()), Interest::READABLE)
            .map_err(|reason| PlaneError::Watch { what: "the kernel's routes".to_owned(), reason })?;
        let now = Instant::now();
        Ok(Plane {
            rtnl,
            twin_ready: vec![true; twins.len()],
            twins,
            mirror,
            resolver: Resolver::new(now),
            token_base,
            mirror_ready: true,
            fib_stale: true,
            fib_not_before: now,
            changes: Vec::new(),
            counters: PlaneCounters::default(),
        })
    }

    /// Has the kernel follow the configured routes of `config`, which is about the same ports.
    ///
    /// # Errors
    /// The kernel does not take one of them; it may have taken others by then.
    pub fn set_routes(&mut self, config: &Config) -> Result<(), PlaneError> {
        self.rtnl.set_static_routes(&static_routes(config, &self.twins)).map_err(PlaneError::Netlink)
    }

    /// Takes note of an event of the loop; `false` where the token is not one of the plane's.
    pub fn event(&mut self, token: Token) -> bool {
        let Some(index) = token.0.checked_sub(self.token_base) else { return false };
        if let Some(ready) = self.twin_ready.get_mut(index) {
            *ready = true;
            return true;
        }
        if index == self.twins.len() {
            self.mirror_ready = true;
            return true;
        }
        false
    }

    /// Moves frames both ways, a bounded number; returns how many.
    ///
    /// # Errors
    /// A twin is gone: somebody deleted the interface.
    pub fn carry(&mut self, slow_path: &mut SlowPath) -> Result<usize, PlaneError> {
        let (twins, counters) = (&self.twins, &mut self.counters);
        let mut failed = None;
        let mut moved =
            slow_path.to_tap(FRAMES_PER_TURN * twins.len(), |port, frame| match twins[usize::from(port)].send(frame) {
                Ok(Sent::Taken) => counters.to_kernel += 1,
                Ok(Sent::Refused) => counters.to_kernel_refused += 1,
                Err(error) => failed = Some(error),
            });
        for (port, (twin, ready)) in (0..).zip(self.twins.iter_mut().zip(&mut self.twin_ready)) {
            if !*ready {
                continue;
            }
            *ready = twin
                .receive(FRAMES_PER_TURN, |frame| {
                    moved += 1;
                    match slow_path.from_tap(port, frame) {
                        Ok(()) => counters.from_kernel += 1,
                        Err(_) => counters.from_kernel_refused += 1,
                    }
                })
                .map_err(PlaneError::Tap)?;
        }
        match failed {
            None => Ok(moved),
            Some(error) => Err(PlaneError::Tap(error)),
        }
    }

    /// Has the kernel look for a neighbour that a worker lacks.
    ///
    /// # Errors
    /// The kernel cannot be asked at all.
    pub fn resolve(&mut self, port: PortIndex, addr: Addr, now: Instant) -> Result<(), PlaneError> {
        self.counters.resolves += 1;
        self.resolver.request(&mut self.rtnl, &mut self.mirror, port, addr, now).map_err(PlaneError::Netlink)?;
        Ok(())
    }

    /// Reads what the kernel has told about routes and neighbours; `true` where there may be more.
    ///
    /// # Errors
    /// [`PlaneError::Mirror`].
    pub fn follow(&mut self, now: Instant) -> Result<bool, PlaneError> {
        if !self.mirror_ready && self.mirror.wake_at().is_none_or(|due| due > now) {
            return Ok(false);
        }
        self.changes.clear();
        self.mirror_ready = self.mirror.poll(now, &mut self.changes).map_err(PlaneError::Mirror)?;
        self.fib_stale |= !self.changes.is_empty();
        Ok(self.mirror_ready)
    }

    /// Publishes a FIB where something has changed since the last, not more often than building one allows.
    ///
    /// # Errors
    /// [`PlaneError::Fib`]; the FIB before stays in force.
    pub fn publish(&mut self, fib: &mut FibWriter, now: Instant) -> Result<bool, PlaneError> {
        if !self.fib_stale || now < self.fib_not_before {
            return Ok(false);
        }
        self.fib_stale = false;
        let mut builder = FibBuilder::new();
        for (prefix, target) in self.mirror.routes() {
            builder.route(prefix, fib_target(target));
        }
        for (port, addr, state) in self.mirror.neighbours() {
            match state {
                NeighbourState::Usable(mac) => builder.neighbour(port, addr, mac),
                NeighbourState::Failed => builder.failed_neighbour(port, addr),
                NeighbourState::Incomplete => &mut builder,
            };
        }
        for (port, v4, v6) in self.mirror.sources() {
            builder.source(port, v4, v6);
        }
        let built = builder.build();
        let done = Instant::now();
        self.fib_not_before = done + done.saturating_duration_since(now) * FIB_PAUSE_FACTOR;
        if fib.publish(built.map_err(PlaneError::Fib)?).is_err() {
            // The workers have not passed the FIBs before; the loop frees those that they have, and comes back.
            fib.reclaim();
            self.fib_stale = true;
            return Ok(false);
        }
        self.counters.fibs += 1;
        Ok(true)
    }

    /// The port by which packets to `addr` leave; none where they do not.
    #[must_use]
    pub fn port_towards(&self, addr: Addr) -> Option<PortIndex> {
        match self.mirror.route(addr)? {
            Target::Via { port, .. } => Some(port),
            Target::Local | Target::Blackhole | Target::Unreachable | Target::Prohibit => None,
        }
    }

    /// Keeps neighbours in use alive. To be called about once a second.
    ///
    /// # Errors
    /// The kernel cannot be asked at all.
    pub fn refresh(&mut self, now: Instant) -> Result<(), PlaneError> {
        self.resolver.tick(&mut self.rtnl, &self.mirror, now).map_err(PlaneError::Netlink)
    }

    /// Makes the twin's carrier follow the port's link.
    pub fn set_carrier(&mut self, port: usize, up: bool) {
        if let Err(error) = self.twins[port].set_carrier(up) {
            log::warn("plane", error);
        }
    }

    /// Counters of frames, requests and FIBs.
    #[must_use]
    pub fn counters(&self) -> PlaneCounters {
        self.counters
    }
    /// What the mirror has read.
    #[must_use]
    pub fn mirror_stats(&self) -> MirrorStats {
        self.mirror.stats()
    }
    /// The routes and neighbours in force, for the operator.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Takes the carrier from all twins, so that the kernel knows that nothing is behind them.
    pub fn down(&mut self) {
        for port in 0..self.twins.len() {
            self.set_carrier(port, false);
        }
    }
}

fn static_routes(config: &Config, twins: &[Twin]) -> Vec<StaticRoute> {
    let route = |route: &crate::config::Route| StaticRoute {
        prefix: route.to,
        target: StaticTarget::Link { index: twins[route.port].index(), via: route.via.map(Addr::from) },
        metric: None,
    };
    config.routes.iter().map(route).collect()
}

fn fib_target(target: Target) -> FibTarget {
    match target {
        Target::Local => FibTarget::Local,
        Target::Via { port, gateway } => FibTarget::Via { port, gateway },
        Target::Blackhole => FibTarget::Blackhole,
        Target::Unreachable => FibTarget::Unreachable,
        Target::Prohibit => FibTarget::Prohibit,
    }
}

fn twin_settings(port: &Port, mac: [u8; 6]) -> TwinSettings {
    TwinSettings {
        name: port.tap.clone(),
        mac,
        mtu: port.mtu,
        addresses: port.addresses.iter().map(|a| (Addr::from(a.addr), a.len)).collect(),
    }
}
