//! The contents of TCP flows, as far as CONTAINS_STRING and COUNT_STRING need them, in memory that never grows.
//!
//! A flow is a one-way 5-tuple. Its content is the first byte seen at each sequence number since the program was
//! installed, in sequence order; no word spans a hole. So of segments that overlap and disagree the first one seen wins,
//! whatever the receiver does; and a 5-tuple that is used again, with a SYN of another number, is the same flow: its
//! content goes on wherever its numbers are. [`Streams`] answers exactly that while no limit is met, and
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
//! - flows: of [`SAMPLE`] flows, always other ones, the source that has the most of them loses the one that was quiet the
//!   longest, and what was found in it is forgotten. So a source that opens flows without end pushes out its own;
//! - islands of a flow: the one that grew the longest ago is forgotten, and its bytes count as never seen.
//!
//! A segment that goes on where its flow ends, nearly every one, touches three cache lines: one of the index, the
//! flow's own, and one of the ends of many flows.

use crate::contains_string::{WordMask, Words};
use crate::flow_index::FlowIndex;
use crate::parse::{Tcp, flags};
use ahash::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use vinet_trusted::addr::Addr;
use vinet_trusted::program::WORD_LEN_MAX;

/// How many flows are looked at to find one that makes room.
pub const SAMPLE: usize = 16;

/// The longest end of an island that is kept, in bytes.
const END_LEN_MAX: usize = WORD_LEN_MAX - 1;
/// Sequence numbers start here and more, so that a flow can grow backwards.
const ORIGIN: u64 = 1 << 32;
/// A flow that comes here starts anew, long before the numbers run out.
const SEQUENCE_MAX: u64 = 1 << 62;

/// Streams of one program on one worker. All memory is allocated when it is made, and zeroed by the system as it is first
/// used: a router with a hundred thousand programs that follow streams has most of them idle.
#[derive(Debug)]
pub struct Streams {
    hasher: RandomState,
    flows_max: usize,
    islands_max: usize,
    /// The length of an island's end that is kept, in bytes: L - 1.
    end_len: usize,
    /// Where flows are, by their hashes.
    index: FlowIndex,
    /// The flows that are kept, then room for more.
    flows: Vec<Flow>,
    /// `islands_max` for each flow there is; the first [`Flow::islands`] are in use. Where the flow has a leading island, it is
    /// the first, and its end is not up to date: it is [`Flow::furthest`].
    islands: Vec<Island>,
    /// `end_len` first bytes for each island.
    heads: Vec<u8>,
    /// `end_len` last bytes for each flow's first island, then for each flow's second, and so on: those of leading
    /// islands lie together.
    tails: Vec<u8>,
    /// The words that are counted, and how many they are.
    counted: WordMask,
    count_len: usize,
    /// For each flow, how often each of them is in it, [`vinet_trusted::program::COUNT_MAX`] at most.
    counts: Vec<u16>,
    /// Counts packets, so that the quietest flow and island can be told.
    clock: u64,
    /// The first of the next flows that are looked at for one that makes room.
    hand: usize,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // IPv4 addresses are two halves of one number, so that they cost two steps and not five.
        if self.is_v6 {
            (self.src, self.dst).hash(state);
        } else {
            state.write_u64(self.src[1] << 32 | self.dst[1]);
        }
        state.write_u64(u64::from(self.ports) << 1 | u64::from(self.is_v6));
    }
}

/// One flow: one cache line.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Flow {
    src: [u64; 2],
    dst: [u64; 2],
    ports: u32,
    is_v6: bool,
    islands: u8,
    /// Whether the first island holds the furthest byte: the leading island.
    leads: bool,
    /// Whether a word could go on behind the leading island.
    goes_on: bool,
    /// Words that are in the content. A byte once seen stays, so a word once found stays.
    found: WordMask,
    /// Where the furthest byte seen ends.
    furthest: u64,
    /// When a packet of it was last seen.
    seen: u64,
}

const _: () = assert!(size_of::<Flow>() == 64, "a flow is one cache line");

impl Flow {
    const fn new(key: FlowKey, first: u32, now: u64) -> Flow {
        Flow {
            src: key.src,
            dst: key.dst,
            ports: key.ports,
            is_v6: key.is_v6,
            islands: 0,
            leads: false,
            goes_on: false,
            found: 0,
            furthest: ORIGIN | first as u64,
            seen: now,
        }
    }
    const fn key(&self) -> FlowKey {
        FlowKey { src: self.src, dst: self.dst, ports: self.ports, is_v6: self.is_v6 }
    }
    #[inline]
    fn is(&self, key: &FlowKey) -> bool {
        self.src == key.src && self.dst == key.dst && self.ports == key.ports && self.is_v6 == key.is_v6
    }
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
        let flows_max = if islands_max == 0 { 0 } else { flows_max };
        let (end_len, islands) = (longest.saturating_sub(1), flows_max * islands_max);
        Streams {
            hasher: random_hasher(),
            flows_max,
            islands_max,
            end_len,
            index: FlowIndex::new(flows_max),
            flows: Vec::with_capacity(flows_max),
            islands: Vec::with_capacity(islands),
            heads: vec![0; islands * end_len],
            tails: vec![0; islands * end_len],
            counted,
            count_len: counted.count_ones() as usize,
            counts: vec![0; flows_max * counted.count_ones() as usize],
            clock: 0,
            hand: 0,
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
        let flows = self.flows.capacity() * size_of::<Flow>() + self.index.memory_bytes();
        let tables = flows + self.islands.capacity() * size_of::<Island>() + size_of_val(&*self.counts);
        (size_of::<Streams>() + tables + self.heads.len() + self.tails.len()) as u64
    }

    /// Whether there is room for any flow; without, a segment is its own content.
    #[must_use]
    pub const fn keeps_history(&self) -> bool {
        self.flows_max != 0
    }
    /// How often a word that is counted is in the content of a flow, as far as it was wanted of the flow's packets.
    #[must_use]
    pub fn count(&self, key: FlowKey, word: u8) -> u16 {
        if self.flows_max == 0 || self.counted >> word & 1 == 0 {
            return 0;
        }
        self.place(&key, self.hasher.hash_one(key))
            .map_or(0, |place| self.counts[self.count_at(place, usize::from(word))])
    }
    /// Where the count of a word that is counted stands.
    const fn count_at(&self, place: usize, word: usize) -> usize {
        let before = self.counted & ((1 << word) - 1);
        place * self.count_len + before.count_ones() as usize
    }
    /// Where a flow is.
    #[inline]
    fn place(&self, key: &FlowKey, hash: u64) -> Option<usize> {
        self.index.find(hash, |place| self.flows[place].is(key))
    }

    /// Adds a segment to its flow and tells which of the words in `wanted` are in the flow's content now.
    ///
    /// `wanted` has to be the same for all packets of a flow. The segment's payload is `payload`.
    #[inline]
    pub fn observe(
        &mut self,
        words: &Words,
        wanted: WordMask,
        key: FlowKey,
        segment: &Tcp,
        payload: &[u8],
    ) -> WordMask {
        if self.flows_max == 0 {
            // No history is kept: a segment is its own content.
            return words.search(payload, wanted);
        }
        self.clock += 1;
        let hash = self.hasher.hash_one(key);
        // A SYN takes the first number; the data starts behind it.
        let first = segment.seq.wrapping_add(u32::from(segment.flags & flags::SYN != 0));
        let place = match self.place(&key, hash) {
            Some(place) => place,
            // A packet without data tells nothing about content, so it does not push out a flow that has some.
            None if payload.is_empty() => return 0,
            None => self.begin(key, hash, first),
        };
        let counting = wanted & self.counted;
        let flow = &mut self.flows[place];
        flow.seen = self.clock;
        if payload.is_empty() || wanted & !flow.found | counting == 0 {
            return flow.found & wanted;
        }
        if flow.leads
            && first == flow.furthest as u32
            && flow.furthest <= SEQUENCE_MAX
            && payload.len() > 2 * self.end_len
        {
            self.go_on(words, wanted, place, payload)
        } else {
            self.add(words, wanted, place, first, payload)
        }
    }

    /// The common case: a segment, longer than two ends, that follows the leading island.
    #[inline]
    fn go_on(&mut self, words: &Words, wanted: WordMask, place: usize, payload: &[u8]) -> WordMask {
        let (end_len, count_len) = (self.end_len, self.count_len);
        let flow = &mut self.flows[place];
        let tail = &mut self.tails[place * end_len..(place + 1) * end_len];
        let counts = &mut self.counts[place * count_len..(place + 1) * count_len];
        let mut scan = Scan { words, wanted, counted: self.counted, counts, found: flow.found };
        if flow.goes_on {
            scan.read(Seam::new().of(&[tail, &payload[..end_len]]), end_len, end_len);
        }
        scan.read(payload, 0, payload.len());
        let found = scan.found;
        let end = &payload[payload.len() - end_len..];
        copy_end(tail, end);
        flow.goes_on = words.goes_on(end, wanted & (!found | self.counted));
        flow.furthest += payload.len() as u64;
        flow.found = found;
        found & wanted
    }

    /// Any segment with data.
    #[inline(never)]
    fn add(&mut self, words: &Words, wanted: WordMask, place: usize, first: u32, payload: &[u8]) -> WordMask {
        let flow = &mut self.flows[place];
        if flow.leads {
            let leading = &mut self.islands[place * self.islands_max];
            (leading.end, leading.grown, flow.leads) = (flow.furthest, self.clock, false);
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
        let mut cursor = start;
        while cursor < end {
            match self.neighbours(place, cursor, end) {
                Neighbours::Seen { until } => cursor = until,
                Neighbours::Fresh { left, right, until } => {
                    let run = &payload[(cursor - start) as usize..(until - start) as usize];
                    self.scan(words, wanted, place, left, run, right);
                    self.join(place, left, cursor, run, right);
                    cursor = until;
                }
            }
        }
        self.lead(words, wanted, place);
        self.flows[place].found & wanted
    }

    /// Puts the island with the furthest byte first, if it is long enough to lead.
    fn lead(&mut self, words: &Words, wanted: WordMask, place: usize) {
        let base = place * self.islands_max;
        let Flow { islands, furthest, found, .. } = self.flows[place];
        let is_leading = |island: &Island| island.end == furthest && end_is_kept(island, self.end_len);
        let count = usize::from(islands);
        let Some(leading) = self.islands[base..base + count].iter().position(is_leading) else { return };
        self.swap_islands(place, 0, leading);
        let goes_on = words.goes_on(self.tail(place, 0), wanted & (!found | self.counted));
        let flow = &mut self.flows[place];
        (flow.leads, flow.goes_on) = (true, goes_on);
    }

    /// Begins a new flow, whose first data is at sequence number `first`; where there is no room, another one makes it.
    #[inline(never)]
    fn begin(&mut self, key: FlowKey, hash: u64, first: u32) -> usize {
        let flow = Flow::new(key, first, self.clock);
        let place = if self.flows.len() < self.flows_max {
            self.counters.flows += 1;
            self.flows.push(flow);
            self.islands.resize(self.flows.len() * self.islands_max, Island::default());
            self.flows.len() - 1
        } else {
            let place = self.poorest();
            let old = self.hasher.hash_one(self.flows[place].key());
            self.index.remove(old, place, |place| self.hasher.hash_one(self.flows[place].key()));
            self.counters.flows_evicted += 1;
            self.flows[place] = flow;
            place
        };
        self.index.insert(hash, place);
        self.forget_counts(place);
        place
    }

    /// The flow that makes room: of the next [`SAMPLE`], the quietest of the source that has the most of them.
    fn poorest(&mut self) -> usize {
        let count = self.flows.len();
        let sample = SAMPLE.min(count);
        let start = self.hand;
        let place = |i: usize| if start + i < count { start + i } else { start + i - count };
        self.hand = place(sample);
        // Each flow is a cache line, read once; what is compared is put together.
        let (mut sources, mut seen) = ([[0; 2]; SAMPLE], [0; SAMPLE]);
        for i in 0..sample {
            let flow = &self.flows[place(i)];
            (sources[i], seen[i]) = (flow.src, flow.seen);
        }
        let of_source = |i: usize| sources[..sample].iter().filter(|src| **src == sources[i]).count();
        let poorest = (0..sample).min_by_key(|&i| (usize::MAX - of_source(i), seen[i]));
        place(poorest.unwrap_or(0))
    }

    fn forget_counts(&mut self, place: usize) {
        let count = self.count_len;
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

    /// The kept first bytes of an island.
    fn head(&self, place: usize, island: usize) -> &[u8] {
        let index = place * self.islands_max + island;
        let from = index * self.end_len;
        &self.heads[from..from + self.islands[index].kept(self.end_len)]
    }

    /// The kept last bytes of an island.
    fn tail(&self, place: usize, island: usize) -> &[u8] {
        let kept = self.islands[place * self.islands_max + island].kept(self.end_len);
        let from = self.tail_at(place, island);
        &self.tails[from..from + kept]
    }
    /// Where the last bytes of an island are kept.
    const fn tail_at(&self, place: usize, island: usize) -> usize {
        (island * self.flows_max + place) * self.end_len
    }

    /// Looks for words with a byte in `run`, which lies between two islands, or one, or none, and adds what is found to
    /// the flow.
    fn scan(
        &mut self,
        words: &Words,
        wanted: WordMask,
        place: usize,
        left: Option<usize>,
        run: &[u8],
        right: Option<usize>,
    ) {
        let (end_len, mut seam) = (self.end_len, Seam::new());
        let mut counts = core::mem::take(&mut self.counts);
        let count_len = self.count_len;
        let before = left.map_or(&[][..], |island| self.tail(place, island));
        let behind = right.map_or(&[][..], |island| self.head(place, island));
        let mut scan = Scan {
            words,
            wanted,
            counted: self.counted,
            counts: &mut counts[place * count_len..(place + 1) * count_len],
            found: self.flows[place].found,
        };
        if run.len() <= 2 * end_len {
            scan.read(seam.of(&[before, run, behind]), before.len(), before.len() + run.len());
        } else {
            scan.read(run, 0, run.len());
            if !before.is_empty() {
                scan.read(seam.of(&[before, &run[..end_len]]), before.len(), before.len());
            }
            if !behind.is_empty() {
                scan.read(seam.of(&[&run[run.len() - end_len..], behind]), end_len, end_len);
            }
        }
        self.flows[place].found = scan.found;
        self.counts = counts;
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
        // An island shorter than an end is kept whole, in both ends, so ends can be put together from ends.
        let (mut first, mut last) = (Seam::new(), Seam::new());
        let head = |island: Option<usize>| island.map_or(&[][..], |island| self.head(place, island));
        let tail = |island: Option<usize>| island.map_or(&[][..], |island| self.tail(place, island));
        let first = first.of_first(end_len, [head(left), run, head(right)]);
        let last = last.of_last(end_len, [tail(left), run, tail(right)]);
        let island = match (left, right) {
            (Some(left), Some(right)) => {
                let last = usize::from(self.flows[place].islands) - 1;
                self.flows[place].islands -= 1;
                self.swap_islands(place, last, right);
                // The left one may have been the last, and have moved.
                if left == last { right } else { left }
            }
            (Some(island), None) | (None, Some(island)) => island,
            (None, None) => self.free_island(place),
        };
        self.islands[base + island] = joined;
        let head_at = (base + island) * end_len;
        self.heads[head_at..head_at + first.len()].copy_from_slice(first);
        let tail_at = self.tail_at(place, island);
        self.tails[tail_at..tail_at + last.len()].copy_from_slice(last);
    }

    fn swap_islands(&mut self, place: usize, a: usize, b: usize) {
        if a == b {
            return;
        }
        let (base, end_len) = (place * self.islands_max, self.end_len);
        self.islands.swap(base + a, base + b);
        let (tail_a, tail_b) = (self.tail_at(place, a), self.tail_at(place, b));
        for i in 0..end_len {
            self.heads.swap((base + a) * end_len + i, (base + b) * end_len + i);
            self.tails.swap(tail_a + i, tail_b + i);
        }
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

/// Copies an end of as many bytes: of up to 32 in two parts that overlap, without a call.
#[inline(always)]
fn copy_end(to: &mut [u8], end: &[u8]) {
    #[inline(always)]
    fn two<const N: usize>(to: &mut [u8], end: &[u8]) {
        if let (Some(first), Some(last)) = (end.first_chunk::<N>(), end.last_chunk::<N>()) {
            let (first, last) = (*first, *last);
            if let Some(to) = to.first_chunk_mut::<N>() {
                *to = first;
            }
            if let Some(to) = to.last_chunk_mut::<N>() {
                *to = last;
            }
        }
    }
    match end.len() {
        4..=8 => two::<4>(to, end),
        9..=16 => two::<8>(to, end),
        17..=32 => two::<16>(to, end),
        _ => to.copy_from_slice(end),
    }
}

/// Whether an island has all bytes of an end of `end_len`.
const fn end_is_kept(island: &Island, end_len: usize) -> bool {
    island.end - island.start >= end_len as u64
}

/// What is looked for in pieces of a flow's content, and what was found.
struct Scan<'a> {
    words: &'a Words,
    wanted: WordMask,
    counted: WordMask,
    /// Of the flow, for each word that is counted.
    counts: &'a mut [u16],
    found: WordMask,
}

impl Scan<'_> {
    /// Adds what is in `bytes` and has a byte before `until` and one at `from` or behind.
    #[inline]
    fn read(&mut self, bytes: &[u8], from: usize, until: usize) {
        let Scan { words, wanted, counted, counts, found } = self;
        let wanted = |found: WordMask| *wanted & (!found | *counted);
        words.occurrences(bytes, wanted(*found), &mut |word, at, starts| {
            // Those that start early enough, and not too early.
            let starts = starts & below(until.saturating_sub(at));
            let starts = starts & !below((from + 1).saturating_sub(words.word_len(word)).saturating_sub(at));
            if starts != 0 {
                *found |= 1 << word;
                if *counted >> word & 1 != 0 {
                    let number = (*counted & ((1 << word) - 1)).count_ones() as usize;
                    counts[number] = counts[number].saturating_add(starts.count_ones() as u16);
                }
            }
            wanted(*found)
        });
    }
}

/// The lowest `count` bits.
#[inline]
fn below(count: usize) -> u64 {
    1u64.checked_shl(count as u32).map_or(u64::MAX, |bit| bit - 1)
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
