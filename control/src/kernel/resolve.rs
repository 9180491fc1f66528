//! Neighbours on demand: makes the kernel look for those that the workers need, and keeps those that it has.
//!
//! The kernel looks for a neighbour when it sends something to it, and forgets one that it does not use. Transit passes
//! the workers, not the kernel, so both have to be asked for. A worker's request becomes the request to *use* the
//! neighbour (NTF_USE): the kernel sends ARP or a neighbour solicitation out of the twin, three times a second apart, and
//! the mirror tells what comes of it. Every neighbour on a twin that has gone stale is used again, so that it is asked by
//! unicast and either confirmed or found to be gone; otherwise a worker would go on sending to the address of a host that
//! has moved. That is about one unicast question a minute for each neighbour.
//!
//! Bounds: [`ADDRESSES_MAX`] addresses are remembered, each is asked for at most once in [`REQUEST_INTERVAL_MIN`], and
//! all together at most [`REQUESTS_PER_SECOND_MAX`] times a second, so that a scan of an empty subnet costs no more; the
//! kernel's own neighbour table is bounded by net.ipv4.neigh.default.gc_thresh3 and its IPv6 twin.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use vinet_trusted::addr::Addr;

use super::PortIndex;
use super::mirror::{Mirror, NeighbourState};
use super::netlink::{NetlinkError, Rtnl};

/// Addresses that are remembered as asked for.
pub const ADDRESSES_MAX: usize = 4096;
/// The shortest time between two requests for one address that is not known.
pub const REQUEST_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The shortest time between two requests to confirm one stale neighbour.
pub const REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(15);
/// Requests to the kernel a second, all together.
pub const REQUESTS_PER_SECOND_MAX: u32 = 256;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel was asked to look.
    Asked,
    /// Nothing was to be done: the address is known, or was asked for a moment ago.
    Needless,
    /// Too many requests: dropped. The worker asks again with its next packet.
    OverLimit,
    /// The kernel refuses to look: the twin is down or gone, or its table is full. Dropped.
    Unable,
}

/// Requests that were made, so that none is made twice in a moment.
#[derive(Debug)]
pub struct Resolver {
    asked_at: HashMap<(u32, Addr), Instant>,
    second: Instant,
    asked_in_second: u32,
    dropped: u64,
}

impl Resolver {
    /// Nothing asked for yet.
    #[must_use]
    pub fn new(now: Instant) -> Resolver {
        Resolver { asked_at: HashMap::with_capacity(ADDRESSES_MAX), second: now, asked_in_second: 0, dropped: 0 }
    }

    /// Asks the kernel for the Ethernet address of `addr` on the link of `port`. Cheap to call for every packet that
    /// lacks it. What comes of it is told by the mirror.
    ///
    /// # Errors
    /// [`NetlinkError`] where the kernel cannot be asked at all.
    pub fn request(
        &mut self,
        rtnl: &mut Rtnl,
        mirror: &mut Mirror,
        port: PortIndex,
        addr: Addr,
        now: Instant,
    ) -> Result<Outcome, NetlinkError> {
        let Some(interface) = mirror.interface(port) else { return Ok(self.drop_request(Outcome::Unable)) };
        match mirror.neighbour(interface, addr) {
            Some(neighbour) if neighbour.permanent => return Ok(Outcome::Needless),
            Some(neighbour) if matches!(neighbour.state, NeighbourState::Usable(_)) && !neighbour.stale => {
                return Ok(Outcome::Needless);
            }
            _ => {}
        }
        let outcome = self.ask(rtnl, interface, addr, now, REQUEST_INTERVAL_MIN)?;
        if outcome == Outcome::Asked {
            mirror.asked(interface, addr);
        }
        Ok(outcome)
    }

    /// Has the stale neighbours on the twins confirmed. To be called about once a second.
    ///
    /// # Errors
    /// [`NetlinkError`] where the kernel cannot be asked at all.
    pub fn tick(&mut self, rtnl: &mut Rtnl, mirror: &Mirror, now: Instant) -> Result<(), NetlinkError> {
        let longest = REQUEST_INTERVAL_MIN.max(REFRESH_INTERVAL_MIN);
        self.asked_at.retain(|_, at| now.saturating_duration_since(*at) < longest);
        for (interface, addr) in mirror.stale_neighbours() {
            if self.ask(rtnl, interface, addr, now, REFRESH_INTERVAL_MIN)? == Outcome::OverLimit {
                break;
            }
        }
        Ok(())
    }

    /// Requests that were dropped, over a limit or for want of an interface.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn ask(
        &mut self,
        rtnl: &mut Rtnl,
        interface: u32,
        addr: Addr,
        now: Instant,
        interval_min: Duration,
    ) -> Result<Outcome, NetlinkError> {
        let key = (interface, addr);
        let asked_at = self.asked_at.get(&key).copied();
        if asked_at.is_some_and(|at| now.saturating_duration_since(at) < interval_min) {
            return Ok(Outcome::Needless);
        }
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.asked_in_second = 0;
        }
        let full = asked_at.is_none() && self.asked_at.len() >= ADDRESSES_MAX;
        if full || self.asked_in_second >= REQUESTS_PER_SECOND_MAX {
            return Ok(self.drop_request(Outcome::OverLimit));
        }
        self.asked_in_second += 1;
        self.asked_at.insert(key, now);
        match rtnl.use_neighbour(interface, addr) {
            Ok(()) => Ok(Outcome::Asked),
            // Whatever its reason (the table is full, the interface is gone, the address is none of a neighbour): packets
            // of strangers cause these requests, so a refusal costs the request and no more.
            Err(error) if error.refusal().is_some() => Ok(self.drop_request(Outcome::Unable)),
            Err(error) => Err(error),
        }
    }

    fn drop_request(&mut self, outcome: Outcome) -> Outcome {
        self.dropped += 1;
        outcome
    }
}
