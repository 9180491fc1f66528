//! The slow and obvious way to run a program, for comparison.
//!
//! [`Reference`] asks the reference interpreter of `vinet_trusted` about one packet after the other, and answers its
//! questions about content from a map with one entry for each sequence number of each flow. It forgets nothing, so its
//! memory grows with the traffic. The executor has to agree with it while no limit of the policy is met.

use crate::parse::{Headers, Transport, flags, transport};
use std::collections::{BTreeMap, HashMap, HashSet};
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::meaning::{self, Event, Packet};
use vinet_trusted::program::{Program, Unset};

/// A program of one owner, and all that it has seen.
#[derive(Debug)]
pub struct Reference {
    program: Program,
    owner: Principal,
    flows: HashMap<(Addr, Addr, u16, u16), Content>,
}

/// The content of a TCP flow.
#[derive(Debug, Default)]
struct Content {
    /// The first byte seen at each sequence number, which starts at 2^40 with the first data.
    bytes: BTreeMap<u64, u8>,
    /// The 32-bit sequence number of 2^40.
    first: u32,
    /// Where the furthest byte ends.
    furthest: u64,
    /// The words that are in the content.
    found: HashSet<Vec<u8>>,
}

const ORIGIN: u64 = 1 << 40;

impl Content {
    /// Adds the data that starts at the 32-bit sequence number `seq`, and looks for the words with new bytes in them.
    fn add(&mut self, seq: u32, data: &[u8], words: &[Vec<u8>]) {
        if data.is_empty() {
            return;
        }
        if self.bytes.is_empty() {
            self.first = seq;
            self.furthest = ORIGIN;
        }
        // Of all the numbers that are `seq` modulo 2^32, the one nearest to the furthest byte; of two equally near, the
        // lower.
        let same = ORIGIN + u64::from(seq.wrapping_sub(self.first));
        let start = (-1..=i64::try_from(self.furthest >> 32).unwrap_or(i64::MAX - 1))
            .filter_map(|turn| same.checked_add_signed(turn << 32))
            .min_by_key(|at| (at.abs_diff(self.furthest), *at))
            .unwrap_or(same);
        let end = start + data.len() as u64;
        self.furthest = self.furthest.max(end);
        // The new bytes, as runs from the first to the last.
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (at, byte) in (start..).zip(data) {
            if self.bytes.contains_key(&at) {
                continue;
            }
            self.bytes.insert(at, *byte);
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == at => *last = at,
                _ => runs.push((at, at)),
            }
        }
        // A word that was not there before has a new byte in it.
        for word in words {
            let reach = word.len() as u64 - 1;
            let is_new = |run: &(u64, u64)| (run.0 - reach..=run.1).any(|start| self.holds(start, word));
            if !self.found.contains(word) && runs.iter().any(is_new) {
                self.found.insert(word.clone());
            }
        }
    }

    fn holds(&self, start: u64, word: &[u8]) -> bool {
        (start..).zip(word).all(|(at, byte)| self.bytes.get(&at) == Some(byte))
    }
}

impl Reference {
    /// Installs the program: what came before now was not seen.
    #[must_use]
    pub fn new(program: &Program, owner: &Principal) -> Reference {
        Reference { program: program.clone(), owner: *owner, flows: HashMap::new() }
    }

    /// Whether the program discards the packet of `frame`, whose headers are `headers`.
    ///
    /// # Errors
    /// [`Unset`] where the program uses a name that the owner has not.
    pub fn run(&mut self, frame: &[u8], headers: &Headers) -> Result<bool, Unset> {
        let packet = Packet { src: headers.src, dst: headers.dst };
        let words = self.program.words();
        let there: HashSet<Vec<u8>> = match transport(frame, headers) {
            Transport::Tcp(tcp) => {
                let flow = self.flows.entry((headers.src, headers.dst, tcp.src_port, tcp.dst_port)).or_default();
                let syn = u32::from(tcp.flags & flags::SYN != 0);
                flow.add(tcp.seq.wrapping_add(syn), &frame[tcp.payload], words);
                flow.found.clone()
            }
            other => {
                let payload = &frame[other.payload()];
                let is_there = |word: &&Vec<u8>| payload.windows(word.len()).any(|window| window == **word);
                words.iter().filter(is_there).cloned().collect()
            }
        };
        let mut contains = |set: &[usize], word: &[u8]| !set.is_empty() && there.contains(word);
        let events = meaning::run(&self.program, &self.owner, &[packet], &mut contains)?;
        Ok(events.contains(&Event::Discard(0)))
    }
}
