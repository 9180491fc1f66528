//! Who has not shown yet who it is, by where it comes from.
//!
//! What strangers may do before their handshake is over is shared out by their addresses, not by their connections: they
//! are served in turn, one of each address after another, and where there are too many, the oldest of the address that has
//! most gives way. So whoever comes from an address of its own finds its place and its turn whatever others do, as long as
//! there are fewer such addresses than places.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use ahash::AHashMap;

use super::SessionId;

#[derive(Default)]
struct Site {
    /// Sessions of this address, in the lobby and past it.
    sessions: usize,
    /// Those in the lobby: their slots, oldest first.
    opening: BTreeMap<u64, usize>,
    /// Those in the lobby that have something to be done, in their order.
    to_do: VecDeque<SessionId>,
}

/// The sessions of every address, and those without a finished handshake.
pub(super) struct Lobby {
    sites: AHashMap<IpAddr, Site>,
    /// How many are in the lobby from each address that has any.
    crowds: BTreeSet<(usize, IpAddr)>,
    /// Addresses with something to be done, in turn.
    turns: VecDeque<IpAddr>,
    opening: usize,
}

impl Lobby {
    /// Nobody is here.
    pub(super) fn new() -> Lobby {
        Lobby { sites: AHashMap::new(), crowds: BTreeSet::new(), turns: VecDeque::new(), opening: 0 }
    }
    /// How many are in the lobby.
    pub(super) fn len(&self) -> usize {
        self.opening
    }
    /// How many sessions an address has, in the lobby and past it.
    pub(super) fn sessions_of(&self, site: IpAddr) -> usize {
        self.sites.get(&site).map_or(0, |site| site.sessions)
    }

    /// A new session comes in.
    pub(super) fn enter(&mut self, site: IpAddr, id: SessionId) {
        let crowd = self.sites.entry(site).or_default();
        crowd.sessions += 1;
        crowd.opening.insert(id.generation, id.slot);
        let len = crowd.opening.len();
        self.opening += 1;
        self.crowds.remove(&(len - 1, site));
        self.crowds.insert((len, site));
    }

    /// A session has shown who it is: it is in the lobby no more. Whether it was.
    pub(super) fn pass(&mut self, site: IpAddr, id: SessionId) -> bool {
        let Some(crowd) = self.sites.get_mut(&site) else { return false };
        if crowd.opening.remove(&id.generation).is_none() {
            return false;
        }
        let len = crowd.opening.len();
        crowd.to_do.retain(|waiting| *waiting != id);
        self.opening -= 1;
        self.crowds.remove(&(len + 1, site));
        if len > 0 {
            self.crowds.insert((len, site));
        }
        true
    }

    /// A session is over.
    pub(super) fn leave(&mut self, site: IpAddr, id: SessionId) {
        self.pass(site, id);
        if let Some(crowd) = self.sites.get_mut(&site) {
            crowd.sessions -= 1;
            if crowd.sessions == 0 {
                self.sites.remove(&site);
            }
        }
    }

    /// The slot of who gives way: the oldest of the address that has most in the lobby.
    pub(super) fn who_gives_way(&self) -> Option<usize> {
        let (_, site) = self.crowds.last()?;
        self.sites.get(site)?.opening.values().next().copied()
    }

    /// A session in the lobby has something to be done. It is noted once, until it is taken.
    pub(super) fn enqueue(&mut self, site: IpAddr, id: SessionId) {
        let Some(crowd) = self.sites.get_mut(&site) else { return };
        if crowd.to_do.is_empty() {
            // It stands in the row already, if all that it had to do was taken from it meanwhile.
            if !self.turns.contains(&site) {
                self.turns.push_back(site);
            }
        }
        crowd.to_do.push_back(id);
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self) -> Option<SessionId> {
        while let Some(site) = self.turns.pop_front() {
            let Some(crowd) = self.sites.get_mut(&site) else { continue };
            let Some(id) = crowd.to_do.pop_front() else { continue };
            if !crowd.to_do.is_empty() {
                self.turns.push_back(site);
            }
            return Some(id);
        }
        None
    }

    /// Whether anybody has something to be done.
    pub(super) fn has_work(&self) -> bool {
        !self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }
    fn id(number: usize) -> SessionId {
        SessionId { slot: number, generation: number as u64 }
    }

    #[test]
    fn the_largest_crowd_gives_way_and_its_oldest_first() {
        let mut lobby = Lobby::new();
        lobby.enter(site(1), id(0));
        (1..10).for_each(|number| lobby.enter(site(2), id(number)));
        (10..13).for_each(|number| lobby.enter(site(3), id(number)));
        let mut gone = Vec::new();
        while lobby.len() > 3 {
            let slot = lobby.who_gives_way().unwrap();
            lobby.leave(if slot < 10 { site(2) } else { site(3) }, id(slot));
            gone.push(slot);
        }
        assert_eq!(gone[..6], [1, 2, 3, 4, 5, 6], "of the nine, until there are as few of them as of others");
        assert!(!gone.contains(&0), "who came alone stays: {gone:?}");
        assert_eq!((lobby.sessions_of(site(1)), lobby.sessions_of(site(9))), (1, 0));
    }

    #[test]
    fn every_address_has_its_turn_and_every_session_in_it() {
        let mut lobby = Lobby::new();
        for number in 0..30 {
            let site = site(if number < 20 { 1 } else { 2 + number as u8 % 3 });
            lobby.enter(site, id(number));
            lobby.enqueue(site, id(number));
        }
        let first: Vec<usize> = (0..8).map(|_| lobby.next().unwrap().slot).collect();
        assert_eq!(first.iter().filter(|&&slot| slot < 20).count(), 2, "two in eight of the crowd: {first:?}");
        // Who has passed or is gone has no turn; all others have one.
        assert!(lobby.pass(site(1), id(19)) && !lobby.pass(site(1), id(19)));
        lobby.leave(site(1), id(18));
        let rest: Vec<usize> = std::iter::from_fn(|| lobby.next()).map(|id| id.slot).collect();
        assert_eq!(rest.len(), 20);
        assert!(!rest.contains(&19) && !rest.contains(&18) && !lobby.has_work());
        lobby.enqueue(site(1), id(5));
        assert_eq!(lobby.next(), Some(id(5)));
    }

    #[test]
    fn nothing_stays_of_who_is_gone() {
        let mut lobby = Lobby::new();
        for round in 0..1000usize {
            let site = site((round % 7) as u8);
            lobby.enter(site, id(round));
            lobby.enqueue(site, id(round));
            if round % 3 == 0 {
                lobby.pass(site, id(round));
            }
            lobby.leave(site, id(round));
        }
        while lobby.next().is_some() {}
        assert!(lobby.sites.is_empty() && lobby.crowds.is_empty() && lobby.turns.is_empty() && lobby.len() == 0);
    }
}
