//! A search for the input that costs the checker the most: in time, and in memory.
//!
//! A population of inputs, each a program and a proof with [`INPUT_BYTES_MAX`] bytes together, begins with what is shipped
//! and with what [`families`] make on purpose. Again and again one of them, or a new one of a family, is changed by
//! chance: bytes are altered, taken out or said again, parts of another are put in. It is checked, and stays if it costs
//! more than others. What counts is the least time of a few checks, so that other work of the machine does not look
//! like a find; a new worst is measured again, and its lower figure stands.
//!
//! A search proves nothing: what it does not find may still be there.

mod families;

use crate::heap;
use crate::verify::chance::Chance;
use crate::verify::clock::nanoseconds;
use crate::verify::generate::Policies;
use crate::verify::inputs::Sent;
use families::FAMILIES;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::program::Program;

/// The most bytes of program and proof together.
pub const INPUT_BYTES_MAX: usize = 4096;
/// How many inputs stay for their time, and how many for their memory.
const KEPT: [usize; 2] = [64, 16];
/// How many of the inputs that stay may come from one family: others may have the better descendants.
const KEPT_OF_FAMILY: usize = 6;
/// How often an input is checked; the least time counts.
const CHECKS: usize = 3;
/// How often a new worst is checked again.
const CHECKS_OF_WORST: usize = 25;
/// End user and address of the inputs that families make.
const OWNER: Addr = Addr::V4(0xc000_0202);

/// An input, and what it costs.
pub struct Found {
    /// It.
    pub sent: Sent,
    /// What it descends from: a family, or what is shipped.
    pub origin: String,
    /// The least time of a check.
    pub ns: f64,
    /// The most memory that a check holds, in bytes.
    pub heap: usize,
    /// How its check ends.
    pub outcome: String,
}

/// What a hunt found.
pub struct Hunt {
    /// The input that takes the most time.
    pub slowest: Found,
    /// The input that takes the most memory.
    pub largest: Found,
    /// How many inputs were checked.
    pub tried: usize,
    /// The most time that inputs of each origin took.
    pub origins: BTreeMap<String, f64>,
}

/// Hunts for so long, from what is shipped and the families.
pub fn hunt(
    seeds: Vec<(String, Sent)>,
    policies: &Policies,
    lemmas: &LemmaStore,
    chance: &mut Chance,
    time: Duration,
) -> Hunt {
    let end = Instant::now() + time;
    let mut population = Population { lemmas, kept: [Vec::new(), Vec::new()], tried: 0, origins: BTreeMap::new() };
    for (origin, mut sent) in seeds {
        sent.proof.truncate(INPUT_BYTES_MAX.saturating_sub(sent.program.len()));
        if sent.program.len() <= INPUT_BYTES_MAX {
            population.take(origin, sent);
        }
    }
    // Each family a few times at least, however short the hunt.
    for round in 0.. {
        if round >= 4 && Instant::now() >= end {
            break;
        }
        if round < 4 {
            FAMILIES.iter().for_each(|family| population.take_new(family, policies, chance));
        } else if chance.one_in(4) {
            population.take_new(chance.pick(FAMILIES), policies, chance);
        } else {
            population.take_changed(chance);
        }
    }
    let Population { kept: [times, heaps], tried, origins, .. } = population;
    let slowest = times.into_iter().max_by(|a, b| a.ns.total_cmp(&b.ns));
    let largest = heaps.into_iter().max_by_key(|found| found.heap);
    let (slowest, largest) = slowest.zip(largest).expect("families make inputs");
    Hunt { slowest, largest, tried, origins }
}

/// The inputs that cost most so far: by time, and by memory.
struct Population<'l> {
    lemmas: &'l LemmaStore,
    kept: [Vec<Found>; 2],
    tried: usize,
    origins: BTreeMap<String, f64>,
}

impl Population<'_> {
    fn take_new(&mut self, family: &families::Family, policies: &Policies, chance: &mut Chance) {
        let (name, make) = family;
        let (body, mut proof) = make(chance);
        // Sizes by chance may be above a limit of programs: then there is no such input.
        let Ok(program) = Program::new(60, 1, Vec::new(), body) else { return };
        let program = program.encode();
        if program.len() <= INPUT_BYTES_MAX {
            proof.truncate(INPUT_BYTES_MAX - program.len());
            let (owner, policy) = (Principal::EndUser(OWNER), Arc::clone(&policies.end_user));
            self.take((*name).to_owned(), Sent { program, proof, owner, policy });
        }
    }

    fn take_changed(&mut self, chance: &mut Chance) {
        let by = usize::from(chance.one_in(4));
        let kept = &self.kept[by];
        // The better of two has the descendants.
        let (one, rival, other) = (chance.pick(kept), chance.pick(kept), chance.pick(kept));
        let is_better = if by == 0 { rival.ns > one.ns } else { rival.heap > one.heap };
        let one = if is_better { rival } else { one };
        let mut program = one.sent.program.clone();
        let mut proof = one.sent.proof.clone();
        for _ in 0..=chance.below(3) {
            // Most changes of a program make it none.
            if chance.one_in(6) {
                change(&mut program, &other.sent.program, chance);
            } else {
                change(&mut proof, &other.sent.proof, chance);
            }
        }
        program.truncate(INPUT_BYTES_MAX);
        proof.truncate(INPUT_BYTES_MAX - program.len());
        let (owner, policy, origin) = (one.sent.owner, Arc::clone(&one.sent.policy), one.origin.clone());
        self.take(origin, Sent { program, proof, owner, policy });
    }

    /// Checks it, and keeps it if it costs enough.
    fn take(&mut self, origin: String, sent: Sent) {
        self.tried += 1;
        let (result, heap) = heap::peak(|| sent.check(self.lemmas));
        let outcome = match result {
            Ok(_) => "accepted".to_owned(),
            Err(reject) => format!("{}: {reject}", reject.code()),
        };
        let least = |checks: usize| {
            let times = (0..checks).map(|_| nanoseconds(|| drop(black_box(sent.check(self.lemmas)))));
            times.fold(f64::INFINITY, f64::min)
        };
        // What would not stay at its first time need not be timed again.
        let mut ns = least(1);
        let stays = self.kept[0].len() < KEPT[0] || self.kept[0].iter().any(|found| found.ns < ns);
        if stays {
            ns = ns.min(least(CHECKS - 1));
        }
        let worst = self.origins.get(&origin).copied().unwrap_or(0.0);
        if ns > worst {
            ns = ns.min(least(CHECKS_OF_WORST));
            self.origins.insert(origin.clone(), ns.max(worst));
        }
        let cost = [ns, heap as f64];
        for (by, kept) in self.kept.iter_mut().enumerate() {
            let of = |found: &Found| [found.ns, found.heap as f64][by];
            let kin: Vec<usize> = (0..kept.len()).filter(|&i| kept[i].origin == origin).collect();
            let rivals: Vec<usize> = if kin.len() >= KEPT_OF_FAMILY {
                kin
            } else if kept.len() >= KEPT[by] {
                (0..kept.len()).collect()
            } else {
                Vec::new()
            };
            let found = || Found {
                sent: Sent {
                    program: sent.program.clone(),
                    proof: sent.proof.clone(),
                    owner: sent.owner,
                    policy: Arc::clone(&sent.policy),
                },
                origin: origin.clone(),
                ns,
                heap,
                outcome: outcome.clone(),
            };
            match rivals.into_iter().min_by(|&a, &b| of(&kept[a]).total_cmp(&of(&kept[b]))) {
                None => kept.push(found()),
                Some(least) if of(&kept[least]) < cost[by] => kept[least] = found(),
                Some(_) => {}
            }
        }
    }
}

/// One change by chance; `other` is what parts may come from.
fn change(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    if bytes.is_empty() {
        bytes.extend_from_slice(other);
        return;
    }
    let at = chance.below(bytes.len());
    let longest = if chance.one_in(3) { 200 } else { 12 };
    let end = (at + 1 + chance.below(longest)).min(bytes.len());
    match chance.below(6) {
        0 => bytes[at] = chance.bits() as u8,
        1 => bytes[at] = bytes[at].wrapping_add(if chance.one_in(2) { 1 } else { 255 }),
        2 => drop(bytes.drain(at..end)),
        3 | 4 => {
            let part = bytes[at..end].to_vec();
            let times = 1 + chance.below(INPUT_BYTES_MAX / part.len());
            let times = if chance.one_in(2) { times } else { times.min(3) };
            drop(bytes.splice(end..end, part.repeat(times)));
        }
        _ if !other.is_empty() => {
            let first = chance.below(other.len());
            let last = (first + 1 + chance.below(longest)).min(other.len());
            drop(bytes.splice(at..at, other[first..last].iter().copied()));
        }
        _ => {}
    }
    bytes.truncate(INPUT_BYTES_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use vinet_trusted::check::Reject;
    use vinet_trusted::logic::Fault;
    use vinet_trusted::proof::ProofFault;
    use vinet_trusted::term::TermFault;

    fn policies() -> Policies {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy");
        Policies::load(&folder).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_family_makes_programs_whose_check_gets_to_the_proof() {
        let (policies, lemmas) = (policies(), LemmaStore::default());
        for (name, make) in FAMILIES {
            let mut chance = Chance::new(3);
            let reaches = |_: usize| {
                let (body, mut proof) = make(&mut chance);
                let Ok(program) = Program::new(60, 1, Vec::new(), body) else { return false };
                let program = program.encode();
                proof.truncate(INPUT_BYTES_MAX.saturating_sub(program.len()));
                let (owner, policy) = (Principal::EndUser(OWNER), Arc::clone(&policies.end_user));
                let sent = Sent { program, proof, owner, policy };
                // Beyond the first obligations, or to the end.
                match sent.check(&lemmas) {
                    Ok(_) | Err(Reject::TooLarge(_) | Reject::AboveCeiling { .. }) => true,
                    Err(Reject::NotProven(place)) => place.at > 30,
                    Err(_) => false,
                }
            };
            assert!((0..20).any(reaches), "{name}");
        }
    }

    #[test]
    fn some_inputs_come_to_the_end_of_what_may_be_worked() {
        let (policies, lemmas) = (policies(), LemmaStore::default());
        let mut chance = Chance::new(4);
        let found = (0..400).any(|number| {
            let (body, mut proof) = FAMILIES[number % FAMILIES.len()].1(&mut chance);
            let Ok(program) = Program::new(60, 1, Vec::new(), body) else { return false };
            let program = program.encode();
            proof.truncate(INPUT_BYTES_MAX.saturating_sub(program.len()));
            let (owner, policy) = (Principal::EndUser(OWNER), Arc::clone(&policies.end_user));
            let end = Sent { program, proof, owner, policy }.check(&lemmas);
            matches!(
                end,
                Err(Reject::NotProven(place)) if place.fault == ProofFault::Step(Fault::Term(TermFault::TooMuchWork))
            )
        });
        assert!(found);
    }

    #[test]
    fn changed_inputs_never_grow_beyond_the_most() {
        let mut chance = Chance::new(1);
        let mut bytes = vec![7; 100];
        for _ in 0..5000 {
            change(&mut bytes, &[1, 2, 3], &mut chance);
            assert!(bytes.len() <= INPUT_BYTES_MAX);
        }
        assert!(bytes.iter().any(|b| *b != 7));
    }

    #[test]
    fn a_short_hunt_finds_something_worse_than_what_it_began_with() {
        let (policies, lemmas) = (policies(), LemmaStore::default());
        let hunt = hunt(Vec::new(), &policies, &lemmas, &mut Chance::new(2), Duration::ZERO);
        assert!(hunt.tried > FAMILIES.len() && hunt.slowest.ns > 0.0 && hunt.largest.heap > 10_000);
        assert!(hunt.slowest.sent.program.len() + hunt.slowest.sent.proof.len() <= INPUT_BYTES_MAX);
        assert_eq!(hunt.origins.values().copied().fold(0.0, f64::max), hunt.slowest.ns);
    }
}
