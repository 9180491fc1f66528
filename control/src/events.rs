//! What owners are told about their programs and accounts when they ask: an end, a refund, a source that was shut off.
//!
//! Each owner has a ring of the last [`EVENTS_PER_OWNER_MAX`]; all together hold [`EVENTS_LEN_MAX`], beyond which the
//! oldest give way. Numbers rise over all owners and over restarts, so that "after this one" means the same whatever was
//! forgotten: the newest event is never forgotten, and the store keeps what is remembered here.

use std::collections::{BTreeMap, VecDeque};

use ahash::AHashMap;
use vinet_session::limits::EVENTS_MAX;
use vinet_session::message::Event;
use vinet_trusted::addr::Principal;

use crate::store::{Kind, Put};

/// Events of one owner that are remembered: as many as one answer holds.
pub const EVENTS_PER_OWNER_MAX: usize = EVENTS_MAX;
/// Events that are remembered.
pub const EVENTS_LEN_MAX: usize = 1 << 16;

/// The events of all owners.
#[derive(Debug)]
pub struct Events {
    /// By owner, as the store has it: an address, with a length where it is an edge router.
    of_owner: AHashMap<String, VecDeque<Event>>,
    /// The owner of each event.
    by_number: BTreeMap<u64, String>,
    last: u64,
    len_max: usize,
}

/// An event as the store keeps it: number, second, length of the code, code, text.
fn encode(event: &Event) -> Vec<u8> {
    let code = event.code().as_bytes();
    let mut bytes = Vec::with_capacity(17 + code.len() + event.text().len());
    bytes.extend_from_slice(&event.number.to_be_bytes());
    bytes.extend_from_slice(&event.at_s.to_be_bytes());
    // A code has 64 bytes at most.
    bytes.push(code.len() as u8);
    bytes.extend_from_slice(code);
    bytes.extend_from_slice(event.text().as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Event> {
    let (number, rest) = bytes.split_first_chunk()?;
    let (at_s, rest) = rest.split_first_chunk()?;
    let (&len, rest) = rest.split_first()?;
    let (code, text) = rest.split_at_checked(usize::from(len))?;
    let (number, at_s) = (u64::from_be_bytes(*number), u64::from_be_bytes(*at_s));
    Some(Event::new(number, at_s, std::str::from_utf8(code).ok()?, std::str::from_utf8(text).ok()?))
}

/// The store's key of an event: its number, then its owner, so that nothing of two owners is the same.
fn key(number: u64, owner: &str) -> Vec<u8> {
    [&number.to_be_bytes()[..], owner.as_bytes()].concat()
}

impl Events {
    /// No events, and room for `len_max`.
    #[must_use]
    pub fn new(len_max: usize) -> Events {
        Events { of_owner: AHashMap::new(), by_number: BTreeMap::new(), last: 0, len_max }
    }

    /// Takes in what the store kept: keys and values. Returns what it need not keep any longer.
    pub fn restore(&mut self, kept: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Vec<Put> {
        let mut events: Vec<(Event, String)> = Vec::new();
        let mut puts = Vec::new();
        for (key, value) in kept {
            let owner = key.get(8..).and_then(|owner| std::str::from_utf8(owner).ok());
            match (decode(&value), owner) {
                (Some(event), Some(owner)) => events.push((event, owner.to_owned())),
                // Written by another version: of no use here.
                _ => puts.push(Put::Drop { kind: Kind::Event, key }),
            }
        }
        events.sort_by_key(|(event, _)| event.number);
        for (event, owner) in events {
            self.last = event.number;
            self.add(owner, event, &mut puts);
        }
        puts
    }

    /// Notes that something happened to `owner`; returns what the store has to do about it.
    pub fn note(&mut self, owner: &Principal, at_s: u64, code: &str, text: &str) -> Vec<Put> {
        self.last += 1;
        let event = Event::new(self.last, at_s, code, text);
        let owner = owner.to_string();
        let mut puts = vec![Put::Keep { kind: Kind::Event, key: key(self.last, &owner), value: encode(&event) }];
        self.add(owner, event, &mut puts);
        puts
    }

    fn add(&mut self, owner: String, event: Event, puts: &mut Vec<Put>) {
        self.by_number.insert(event.number, owner.clone());
        let ring = self.of_owner.entry(owner).or_default();
        ring.push_back(event);
        let oldest_of_owner = ring.front().filter(|_| ring.len() > EVENTS_PER_OWNER_MAX).map(|event| event.number);
        let oldest = self.by_number.first_key_value().filter(|_| self.by_number.len() > self.len_max);
        if let Some(number) = oldest_of_owner.or(oldest.map(|(number, _)| *number)) {
            self.forget(number, puts);
        }
    }

    fn forget(&mut self, number: u64, puts: &mut Vec<Put>) {
        let Some(owner) = self.by_number.remove(&number) else { return };
        puts.push(Put::Drop { kind: Kind::Event, key: key(number, &owner) });
        if let Some(ring) = self.of_owner.get_mut(&owner) {
            // Of an owner's events the oldest is the first.
            ring.pop_front();
            if ring.is_empty() {
                self.of_owner.remove(&owner);
            }
        }
    }

    /// The events of `owner` above the number `after`, in their order.
    #[must_use]
    pub fn after(&self, owner: &Principal, after: u64) -> Vec<Event> {
        let ring = self.of_owner.get(&owner.to_string());
        ring.into_iter().flatten().filter(|event| event.number > after).cloned().collect()
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_number.len()
    }
    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_trusted::addr::Addr;

    fn owner(number: u32) -> Principal {
        Principal::EndUser(Addr::V4(number))
    }
    fn numbers(events: &Events, number: u32, after: u64) -> Vec<u64> {
        events.after(&owner(number), after).iter().map(|event| event.number).collect()
    }
    /// What a store holds after `puts`.
    fn keep(kept: &mut BTreeMap<Vec<u8>, Vec<u8>>, puts: Vec<Put>) {
        for put in puts {
            match put {
                Put::Keep { kind: Kind::Event, key, value } => drop(kept.insert(key, value)),
                Put::Drop { kind: Kind::Event, key } => assert!(kept.remove(&key).is_some()),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_owner_sees_its_own_events_and_numbers_rise_over_restarts() {
        let mut kept = BTreeMap::new();
        let mut events = Events::new(100);
        for step in 0..6 {
            let puts = events.note(&owner(step % 2), 1_000 + u64::from(step), "ended", &format!("program {step}"));
            keep(&mut kept, puts);
        }
        assert_eq!((numbers(&events, 0, 0), numbers(&events, 1, 4)), (vec![1, 3, 5], vec![6]));
        let mut again = Events::new(100);
        assert!(again.restore(kept.clone()).is_empty());
        assert_eq!(again.after(&owner(0), 0), events.after(&owner(0), 0));
        keep(&mut kept, again.note(&owner(0), 2_000, "ended", ""));
        assert_eq!(numbers(&again, 0, 5), [7]);
        // What cannot be read is let go.
        kept.insert(vec![1], vec![2]);
        assert_eq!(Events::new(100).restore(kept), [Put::Drop { kind: Kind::Event, key: vec![1] }]);
    }

    #[test]
    fn what_is_remembered_is_bounded_here_and_in_the_store() {
        let mut kept = BTreeMap::new();
        let mut events = Events::new(EVENTS_PER_OWNER_MAX + 10);
        keep(&mut kept, events.note(&owner(9), 1, "ended", ""));
        for _ in 0..EVENTS_PER_OWNER_MAX + 5 {
            keep(&mut kept, events.note(&owner(1), 1, "ended", ""));
        }
        assert_eq!(numbers(&events, 1, 0).len(), EVENTS_PER_OWNER_MAX);
        assert_eq!((numbers(&events, 9, 0), events.len(), kept.len()), (vec![1], 257, 257));
        for number in 20..40 {
            keep(&mut kept, events.note(&owner(number), 1, "ended", ""));
        }
        assert_eq!((events.len(), kept.len()), (EVENTS_PER_OWNER_MAX + 10, EVENTS_PER_OWNER_MAX + 10));
        assert_eq!(numbers(&events, 9, 0), [0u64; 0], "the oldest of all");
        let mut again = Events::new(10);
        let puts = again.restore(kept.clone());
        keep(&mut kept, puts);
        assert_eq!((again.len(), kept.len(), again.last), (10, 10, events.last));
    }
}
