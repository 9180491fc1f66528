//! The contents of TCP flows, as far as CONTAINS_STRING and COUNT_STRING need them, in memory that never grows.
//!
//! A flow is a one-way 5-tuple. Its content is the first byte seen at each sequence number since the program was
//! installed, in sequence order; no word spans a hole. [`Streams`] answers exactly that while no limit is met, and
//! keeps none of the content but what a later match could need: of each *island*, a run of bytes without a hole, its
//! first and last L - 1 bytes, where L is the length of the longest word. A word that becomes complete with a packet
//! has at least one new byte in it, so it lies in the new bytes and L - 1 bytes on either side; so does each occurrence
//! of a word that is counted, which is counted then, and never again, because a byte is new once.
//!
//! Sequence numbers are taken as 64 bits wide: the one nearest to the furthest byte seen (RFC 9293 section 3.4). A SYN
//! takes one number before the data, and a FIN one behind. A flow may start in the middle. TCP checksums and windows
//! are not judged: a byte that the receiver will refuse counts as seen.
//!
//! Limits, each counted when it is met:
//! - flows: a set-associative table of [`WAYS`] ways under a keyed hash; the flow of the set that was quiet the longest
//!   makes room, and what was found in it is forgotten;
//! - islands of a flow: the one that grew the longest ago is forgotten, and its bytes count as never seen.

use crate::contains_string::{WordMask, Words};
use crate::parse::{Tcp, flags};
use ahash::RandomState;
use std::hash::BuildHasher;
use vinet_trusted::addr::Addr;
use vinet_trusted::program::WORD_LEN_MAX;

/// The flows of one set of the table.
pub const WAYS: usize = 8;

/// The longest end of an island that is kept, in bytes.
const END_LEN_MAX: usize = WORD_LEN_MAX - 1;
/// Sequence numbers start here and more, so that a flow can grow backwards.
const ORIGIN: u64 = 1 << 32;
/// A flow that comes here starts anew, long before the numbers run out.
const SEQUENCE_MAX: u64 = 1 << 62;

/// Streams of one program on one worker. All memory is allocated when it is made.
#[derive(Debug)]
pub struct Streams {
    hasher: RandomState,
    sets: usize,
    ways: usize,
    islands_max: usize,
    /// The length of an island's end that is kept, in bytes: L - 1.
    end_len: usize,
    flows: Vec<Flow>,
    /// `islands_max` for each flow; the first [`Flow::islands`] are in use, in no order.
    islands: Vec<Island>,
    /// `2 * end_len` bytes for each island: the first bytes, then the last.
    ends: Vec<u8>,
    /// The words that are counted.
    counted: WordMask,
    /// For each flow, how often each of them is in it, [`vinet_trusted::program::COUNT_MAX`] at most.
    counts: Vec<u16>,
    /// Counts packets, so that the quietest flow and island can be told.
    clock: u64,
    counters: Counters,
}

/// What was lost to limits, and what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Flows that are kept.
    pub flows: u64,
    /// Flows that were forgotten for others.
    pub flows_evicted: u64,
    /// Islands that were forgotten for others of the same flow.
    pub islands_evicted: u64,
}

/// The one-way 5-tuple; the protocol is TCP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    src: [u64; 2],
    dst: [u64; 2],
    ports: u32,
    is_v6: bool,
}

impl FlowKey {
    /// The flow of a segment.
    #[must_use]
    pub const fn new(src: Addr, dst: Addr, src_port: u16, dst_port: u16) -> FlowKey {
        const fn halves(addr: Addr) -> [u64; 2] {
            match addr {
                Addr::V4(a) => [0, a as u64],
                Addr::V6(a) => [(a >> 64) as u64, a as u64],
            }
        }
        FlowKey {
            src: halves(src),
            dst: halves(dst),
            ports: (src_port as u32) << 16 | dst_port as u32,
            is_v6: matches!(dst, Addr::V6(_)),
        }
    }
}

#[derive(Clone, Debug)]
struct Flow {
    key: FlowKey,
    /// Words that are in the content. A byte once seen stays, so a word once found stays.
    found: WordMask,
    /// Where the furthest byte seen ends.
    furthest: u64,
    /// When a packet of it was last seen; 0 where the place is free.
    seen: u64,
    islands: u8,
}

/// A run of bytes without a hole, from `start` up to but not with `end`.
#[derive(Clone, Copy, Debug, Default)]
struct Island {
    start: u64,
    end: u64,
    /// When it last grew.
    grown: u64,
}

impl Island {
    /// How many bytes of either end are kept.
    fn kept(&self, end_len: usize) -> usize {
        (self.end - self.start).min(end_len as u64) as usize
    }
}

impl Streams {
    /// Room for `flows_max` flows of `islands_max` islands, for programs whose longest word has `longest` bytes and
    /// that count the words `counted`.
    ///
    /// # Panics
    /// Where `longest` is above what a program may have.
    #[must_use]
    pub fn new(flows_max: usize, islands_max: usize, longest: usize, counted: WordMask) -> Streams {
        assert!(longest <= WORD_LEN_MAX, "a word has at most {WORD_LEN_MAX} bytes");
        let ways = WAYS.min(flows_max);
        let sets = flows_max.checked_div(ways).unwrap_or(0);
        let flows = if islands_max == 0 { 0 } else { sets * ways };
        let end_len = longest.saturating_sub(1);
        let free =
            Flow { key: FlowKey::new(Addr::V4(0), Addr::V4(0), 0, 0), found: 0, furthest: 0, seen: 0, islands: 0 };
        Streams {
            hasher: random_hasher(),
            sets: if flows == 0 { 0 } else { sets },
            ways,
            islands_max,
            end_len,
            flows: vec![free; flows],
            islands: vec![Island::default(); flows * islands_max],
            ends: vec![0; flows * islands_max * 2 * end_len],
            counted,
            counts: vec![0; flows * counted.count_ones() as usize],
            clock: 0,
            counters: Counters::default(),
        }
    }
    /// What was lost to limits, and what there is.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }
    /// The memory it holds.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let tables = size_of_val(&*self.flows) + size_of_val(&*self.islands) + size_of_val(&*self.counts);
        (size_of::<Streams>() + tables + self.ends.len()) as u64
    }

    /// Whether there is room for any flow; without, a segment is its own content.
    #[must_use]
    pub const fn keeps_history(&self) -> bool {
        self.sets != 0
    }
    /// How often a word that is counted is in the content of a flow, as far as it was wanted of the flow's packets.
    #[must_use]
    pub fn count(&self, key: FlowKey, word: u8) -> u16 {
        if self.sets == 0 || self.counted >> word & 1 == 0 {
            return 0;
        }
        self.places(key)
            .find(|&place| self.is_at(key, place))
            .map_or(0, |place| self.counts[self.count_at(place, word)])
    }
    /// Where the count of a word that is counted stands.
    const fn count_at(&self, place: usize, word: u8) -> usize {
        let before = self.counted & ((1 << word) - 1);
        place * self.counted.count_ones() as usize + before.count_ones() as usize
    }
    /// The places that a flow may be at, where there are any.
    #[inline]
    fn places(&self, key: FlowKey) -> core::ops::Range<usize> {
        let hash = self.hasher.hash_one(key);
        let set = ((u128::from(hash) * self.sets as u128) >> 64) as usize * self.ways;
        set..set + self.ways
    }
    #[inline]
    fn is_at(&self, key: FlowKey, place: usize) -> bool {
        self.flows[place].seen != 0 && self.flows[place].key == key
    }

    /// Adds a segment to its flow and tells which of the words in `wanted` are in the flow's content now.
    ///
    /// `wanted` has to be the same for all packets of a flow. The segment's payload is `payload`.
    pub fn observe(
        &mut self,
        words: &Words,
        wanted: WordMask,
        key: FlowKey,
        segment: &Tcp,
        payload: &[u8],
    ) -> WordMask {
        if self.sets == 0 {
            // No history is kept: a segment is its own content.
            return words.search(payload, wanted);
        }
        self.clock += 1;
        let places = self.places(key);
        let known = places.clone().find(|&place| self.is_at(key, place));
        // A SYN takes the first number; the data starts behind it.
        let first = segment.seq.wrapping_add(u32::from(segment.flags & flags::SYN != 0));
        let place = match known {
            Some(place) => place,
            // A packet without data tells nothing about content, so it does not push out a flow that has some.
            None if payload.is_empty() => return 0,
            None => self.make_room(places, key, first),
        };
        let counting = wanted & self.counted;
        let flow = &mut self.flows[place];
        flow.seen = self.clock;
        if payload.is_empty() || wanted & !flow.found | counting == 0 {
            return flow.found & wanted;
        }
        if flow.furthest > SEQUENCE_MAX {
            flow.found = 0;
            flow.islands = 0;
            flow.furthest = ORIGIN | u64::from(first);
            self.counters.flows_evicted += 1;
            self.forget_counts(place);
        }
        let flow = &mut self.flows[place];
        // The number nearest to the furthest byte, before or behind it.
        let ahead = first.wrapping_sub(flow.furthest as u32) as i32;
        let start = flow.furthest.wrapping_add_signed(i64::from(ahead));
        let end = start + payload.len() as u64;
        flow.furthest = flow.furthest.max(end);
        let mut found = flow.found;
        let mut cursor = start;
        while cursor < end {
            match self.neighbours(place, cursor, end) {
                Neighbours::Seen { until } => cursor = until,
                Neighbours::Fresh { left, right, until } => {
                    let run = &payload[(cursor - start) as usize..(until - start) as usize];
                    found |= self.search(words, wanted & !found & !counting, place, left, run, right);
                    if counting != 0 {
                        found |= self.add_counts(words, counting, place, left, run, right);
                    }
                    self.join(place, left, cursor, run, right);
                    cursor = until;
                }
            }
        }
        self.flows[place].found = found;
        found & wanted
    }

    /// A place for a new flow in a set of the table, whose first data is at sequence number `first`.
    fn make_room(&mut self, mut places: core::ops::Range<usize>, key: FlowKey, first: u32) -> usize {
        let start = places.start;
        let place = places.by_ref().min_by_key(|&place| self.flows[place].seen).unwrap_or(start);
        let flow = &mut self.flows[place];
        if flow.seen == 0 {
            self.counters.flows += 1;
        } else {
            self.counters.flows_evicted += 1;
        }
        *flow = Flow { key, found: 0, furthest: ORIGIN | u64::from(first), seen: self.clock, islands: 0 };
        self.forget_counts(place);
        place
    }

    fn forget_counts(&mut self, place: usize) {
        let count = self.counted.count_ones() as usize;
        self.counts[place * count..(place + 1) * count].fill(0);
    }

    /// What there is at `cursor`, and, where that is new, up to where and between which islands, `end` at the most.
    fn neighbours(&self, place: usize, cursor: u64, end: u64) -> Neighbours {
        let base = place * self.islands_max;
        let count = usize::from(self.flows[place].islands);
        let (mut left, mut right, mut until) = (None, None, end);
        for (i, island) in self.islands[base..base + count].iter().enumerate() {
            if island.start <= cursor && cursor < island.end {
                return Neighbours::Seen { until: island.end };
            }
            if island.end == cursor {
                left = Some(i);
            }
            if island.start > cursor && island.start <= until {
                until = island.start;
                right = Some(i);
            }
        }
        Neighbours::Fresh { left, right, until }
    }

    /// The kept first (`false`) or last (`true`) bytes of an island.
    fn end_of(&self, place: usize, island: usize, last: bool) -> &[u8] {
        let index = place * self.islands_max + island;
        let kept = self.islands[index].kept(self.end_len);
        let from = (index * 2 + usize::from(last)) * self.end_len;
        &self.ends[from..from + kept]
    }

    /// Which of the words in `wanted` have a byte in `run`, which lies between two islands, or one, or none.
    fn search(
        &self,
        words: &Words,
        wanted: WordMask,
        place: usize,
        left: Option<usize>,
        run: &[u8],
        right: Option<usize>,
    ) -> WordMask {
        let before = left.map_or(&[][..], |island| self.end_of(place, island, true));
        let behind = right.map_or(&[][..], |island| self.end_of(place, island, false));
        if before.is_empty() && behind.is_empty() {
            return words.search(run, wanted);
        }
        let mut seam = Seam::new();
        if run.len() <= 2 * self.end_len {
            return words.search(seam.of(&[before, run, behind]), wanted);
        }
        let mut found = words.search(run, wanted);
        if !before.is_empty() && wanted & !found != 0 {
            found |= words.search(seam.of(&[before, &run[..self.end_len]]), wanted & !found);
        }
        if !behind.is_empty() && wanted & !found != 0 {
            found |= words.search(seam.of(&[&run[run.len() - self.end_len..], behind]), wanted & !found);
        }
        found
    }

    /// Adds the occurrences of the words in `counting` that have a byte in `run`, and tells which words have some.
    #[inline(never)]
    fn add_counts(
        &mut self,
        words: &Words,
        counting: WordMask,
        place: usize,
        left: Option<usize>,
        run: &[u8],
        right: Option<usize>,
    ) -> WordMask {
        let (mut found, mut rest) = (0, counting);
        while rest != 0 {
            let word = rest.trailing_zeros() as u8;
            rest &= rest - 1;
            let before = left.map_or(&[][..], |island| self.end_of(place, island, true));
            let behind = right.map_or(&[][..], |island| self.end_of(place, island, false));
            let new = words.count_new(before, run, behind, word);
            let at = self.count_at(place, word);
            self.counts[at] = self.counts[at].saturating_add(new);
            found |= u64::from(new != 0) << word;
        }
        found
    }

    /// Makes one island of `run`, which starts at `start`, and its neighbours.
    fn join(&mut self, place: usize, left: Option<usize>, start: u64, run: &[u8], right: Option<usize>) {
        let base = place * self.islands_max;
        let end_len = self.end_len;
        let run_end = start + run.len() as u64;
        let joined = Island {
            start: left.map_or(start, |i| self.islands[base + i].start),
            end: right.map_or(run_end, |i| self.islands[base + i].end),
            grown: self.clock,
        };
        // The common case, a run at the end of a long island: the first bytes stay, the last are the run's.
        if let (Some(island), None) = (left, right) {
            let index = base + island;
            if self.islands[index].kept(end_len) == end_len && run.len() >= end_len {
                self.islands[index] = joined;
                let last = (index * 2 + 1) * end_len;
                self.ends[last..last + end_len].copy_from_slice(&run[run.len() - end_len..]);
                return;
            }
        }
        // An island shorter than an end is kept whole, in both ends, so ends can be put together from ends.
        let (mut first, mut last) = (Seam::new(), Seam::new());
        let none = &[][..];
        let end_of = |island: Option<usize>, last| island.map_or(none, |island| self.end_of(place, island, last));
        let first = first.of_first(end_len, [end_of(left, false), run, end_of(right, false)]);
        let last = last.of_last(end_len, [end_of(left, true), run, end_of(right, true)]);
        let island = match (left, right) {
            (Some(left), Some(right)) => {
                let tail = usize::from(self.flows[place].islands) - 1;
                self.flows[place].islands -= 1;
                self.move_island(base + tail, base + right);
                // The left one may have been the last, and have moved.
                if left == tail { right } else { left }
            }
            (Some(island), None) | (None, Some(island)) => island,
            (None, None) => self.free_island(place),
        };
        let index = base + island;
        self.islands[index] = joined;
        let ends = &mut self.ends[index * 2 * end_len..(index + 1) * 2 * end_len];
        ends[..first.len()].copy_from_slice(first);
        ends[end_len..end_len + last.len()].copy_from_slice(last);
    }

    fn move_island(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        let bytes = 2 * self.end_len;
        self.islands[to] = self.islands[from];
        self.ends.copy_within(from * bytes..(from + 1) * bytes, to * bytes);
    }

    /// A free island of a flow; the one that grew the longest ago makes room.
    fn free_island(&mut self, place: usize) -> usize {
        let count = usize::from(self.flows[place].islands);
        if count < self.islands_max {
            self.flows[place].islands += 1;
            return count;
        }
        self.counters.islands_evicted += 1;
        let base = place * self.islands_max;
        (0..count).min_by_key(|&i| self.islands[base + i].grown).unwrap_or(0)
    }
}

enum Neighbours {
    /// The byte was seen, and all up to `until`.
    Seen { until: u64 },
    /// The byte is new, and all up to `until`; the islands touch it.
    Fresh { left: Option<usize>, right: Option<usize>, until: u64 },
}

/// Room to put pieces of content next to each other: four ends at most.
struct Seam {
    bytes: [u8; 4 * END_LEN_MAX],
}

impl Seam {
    const fn new() -> Seam {
        Seam { bytes: [0; 4 * END_LEN_MAX] }
    }
    /// The pieces, which fit.
    fn of(&mut self, pieces: &[&[u8]]) -> &[u8] {
        let mut len = 0;
        for piece in pieces {
            self.bytes[len..len + piece.len()].copy_from_slice(piece);
            len += piece.len();
        }
        &self.bytes[..len]
    }
    /// The first `limit` bytes of the pieces.
    fn of_first(&mut self, limit: usize, pieces: [&[u8]; 3]) -> &[u8] {
        let mut len = 0;
        for piece in pieces {
            let taken = piece.len().min(limit - len);
            self.bytes[len..len + taken].copy_from_slice(&piece[..taken]);
            len += taken;
        }
        &self.bytes[..len]
    }
    /// The last `limit` bytes of the pieces.
    fn of_last(&mut self, limit: usize, pieces: [&[u8]; 3]) -> &[u8] {
        let mut start = limit;
        for piece in pieces.iter().rev() {
            let taken = piece.len().min(start);
            self.bytes[start - taken..start].copy_from_slice(&piece[piece.len() - taken..]);
            start -= taken;
        }
        &self.bytes[start..limit]
    }
}

/// A hasher with secret keys from the operating system, so that nobody can pick flows that meet in one set, nor packets
/// that make a search among equals long.
pub(crate) fn random_hasher() -> RandomState {
    let source = std::hash::RandomState::new();
    RandomState::with_seeds(source.hash_one(0), source.hash_one(1), source.hash_one(2), source.hash_one(3))
}

#[cfg(test)]
mod tests;
