//! The expander: at the receiving edge router it puts the batches together that a program of this edge router had sent,
//! and says which packets they stand for.
//!
//! A batch is what one run of the program generated: items, each in parts, one datagram a part
//! (`vinet_pktops::datagram`). The first item of contents belongs to the first item of destinations, the second to the
//! second, and so on; once both of a pair are whole, every content is delivered to each of its destinations. Nothing is
//! believed that has no tag of the program's key, and nothing is delivered outside the rule's prefix.
//!
//! *Losses.* A batch that is not whole when its time is up, or when its place is needed, is given up: of each pair,
//! what stands before the first missing part is delivered. An item whose place among its kind is not known, because an
//! item before it is missing altogether, is not guessed.
//!
//! *Replays.* Every batch is begun once: of each sender's worker the last [`REPLAY_BATCHES`] batches are remembered, older
//! ones refused. This memory begins with the worker, so a batch that was recorded before that can be brought in again
//! until a newer one of the same sender comes.
//!
//! Everything is bounded and taken at the start. What an expander holds are copies, so it keeps no packet buffer.

use vinet_pktops::datagram::{Datagram, DatagramError, PACKET_LEN_MAX};
use vinet_pktops::generate::{Contents, Dests, Kind};
use vinet_pktops::group_by_content::Content;
use vinet_trusted::addr::Addr;
use vinet_trusted::program::WINDOW_MAX;

use crate::flow_table::BATCH_WORKER_SHIFT;
use crate::settings::{ExpandLimits, ExpandRule};

/// The most rules of one router.
pub const RULES_MAX: usize = 256;
/// The most items of a batch; what has a higher number is malformed.
pub const ITEMS_MAX: u16 = 64;
/// The batches of each sender's worker that are remembered.
pub const REPLAY_BATCHES: u64 = 1024;
/// The workers of a sender that are told apart.
const SENDERS: usize = 1 << (u64::BITS - BATCH_WORKER_SHIFT);
const NONE: u32 = u32::MAX;

/// One worker's expander.
pub struct Expander {
    rules: Vec<Rule>,
    limits: ExpandLimits,
    batches: Vec<Option<Batch>>,
    /// No batch's time is up before this.
    earliest_ns: u64,
    chunks: Vec<Chunk>,
    free: u32,
    bytes: Box<[u8]>,
    /// The chunks of an item by part, while it is read.
    parts: Vec<u32>,
    contents: Vec<u8>,
    dests: Vec<u8>,
    counts: ExpanderCounts,
}

/// What an expander did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpanderCounts {
    /// Batches begun.
    pub batches: u64,
    /// Batches that were given up with something missing.
    pub incomplete: u64,
}

/// A packet that a batch stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expanded<'a> {
    /// It is to be sent.
    Packet {
        /// Its source: that of the datagrams.
        src: Addr,
        /// Its destination.
        dst: Addr,
        /// Its content.
        content: Content<'a>,
    },
    /// Its destination is outside the rule's prefix.
    NotOwned,
}

/// Why a datagram was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It does not have the form of a generated packet, or says of its item what earlier parts did not.
    Malformed,
    /// No rule is about its program.
    UnknownProgram,
    /// Its tag is not of the program's key.
    BadTag,
    /// It was taken in before, or its batch was given up or is too old.
    Replayed,
}

struct Rule {
    rule: ExpandRule,
    senders: Box<[Replay]>,
}

/// The batches of one sender's worker that were begun.
#[derive(Clone, Copy)]
struct Replay {
    /// The highest; 0 where there was none.
    highest: u64,
    /// One bit for each of the last batches, by their numbers modulo their count.
    seen: [u64; (REPLAY_BATCHES / 64) as usize],
}

impl Replay {
    const NEW: Replay = Replay { highest: 0, seen: [0; (REPLAY_BATCHES / 64) as usize] };

    fn place(number: u64) -> (usize, u64) {
        let place = number % REPLAY_BATCHES;
        ((place / 64) as usize, 1 << (place % 64))
    }

    /// Takes note of a batch; `false` where it was begun before, or is too old to tell.
    fn begin(&mut self, number: u64) -> bool {
        if number > self.highest {
            for passed in (self.highest + 1..=number).rev().take(REPLAY_BATCHES as usize) {
                let (word, bit) = Replay::place(passed);
                self.seen[word] &= !bit;
            }
            self.highest = number;
        } else if self.highest - number >= REPLAY_BATCHES {
            return false;
        }
        let (word, bit) = Replay::place(number);
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }
}

/// A batch while it is put together. Bit `i` of a mask is about item `i`.
struct Batch {
    rule: usize,
    number: u64,
    deadline_ns: u64,
    first_chunk: u32,
    chunks: usize,
    /// Items of which a part has come.
    known: u64,
    are_contents: u64,
    whole: u64,
    /// Items that were delivered, as far as they could be.
    done: u64,
}

#[derive(Clone, Copy)]
struct Chunk {
    src: Addr,
    item: u16,
    part: u16,
    parts: u16,
    len: u16,
    next: u32,
}

impl Batch {
    /// The place of an item among those of its kind; none where an item before it is not known.
    fn place(&self, item: u16) -> Option<u32> {
        let before = (1u64 << item) - 1;
        let same = if self.are_contents >> item & 1 == 1 { self.are_contents } else { self.known & !self.are_contents };
        (self.known & before == before).then_some((same & before).count_ones())
    }
    fn items(mask: u64) -> impl Iterator<Item = u16> {
        (0..ITEMS_MAX).filter(move |&item| mask >> item & 1 == 1)
    }
    /// Pairs of contents and destinations, both known and not done, of which every item in `mask` may be part.
    fn pair(&self, mask: u64) -> Option<(u16, u16)> {
        let left = mask & !self.done;
        Batch::items(left & self.are_contents).find_map(|contents| {
            let place = self.place(contents)?;
            let dests = Batch::items(left & !self.are_contents).find(|&dests| self.place(dests) == Some(place))?;
            Some((contents, dests))
        })
    }
}

impl Expander {
    /// An expander by these rules, of which [`RULES_MAX`] count; none where there is no rule.
    #[must_use]
    pub fn new(rules: &[ExpandRule], limits: ExpandLimits) -> Option<Expander> {
        if rules.is_empty() {
            return None;
        }
        let datagrams_max = limits.datagrams_max.clamp(1, usize::from(u16::MAX));
        let chunk = |next| Chunk { src: Addr::V4(0), item: 0, part: 0, parts: 0, len: 0, next };
        let last = datagrams_max as u32;
        let rule = |rule: &ExpandRule| Rule { rule: *rule, senders: vec![Replay::NEW; SENDERS].into() };
        Some(Expander {
            rules: rules.iter().take(RULES_MAX).map(rule).collect(),
            limits: ExpandLimits { datagrams_max, ..limits },
            batches: (0..limits.batches_max.max(1)).map(|_| None).collect(),
            earliest_ns: u64::MAX,
            chunks: (1..=last).map(|next| chunk(if next == last { NONE } else { next })).collect(),
            free: 0,
            bytes: vec![0; datagrams_max * PACKET_LEN_MAX].into(),
            parts: Vec::with_capacity(datagrams_max),
            contents: Vec::with_capacity(datagrams_max * PACKET_LEN_MAX),
            dests: Vec::with_capacity(datagrams_max * PACKET_LEN_MAX),
            counts: ExpanderCounts::default(),
        })
    }

    /// Whether UDP datagrams to this address and port are for the expander.
    #[must_use]
    pub fn is_for(&self, dst: Addr, port: u16) -> bool {
        self.rules.iter().any(|Rule { rule, .. }| rule.own == dst && rule.port == port)
    }

    /// What it did so far.
    #[must_use]
    pub fn counts(&self) -> ExpanderCounts {
        self.counts
    }

    /// A time before which [`Expander::expire`] has nothing to do.
    #[must_use]
    pub fn earliest_ns(&self) -> u64 {
        self.earliest_ns
    }

    /// Takes in the payload of a UDP datagram, and gives `each` the packets that are known by it. Never allocates.
    ///
    /// # Errors
    /// [`Refused`]; then nothing is changed.
    pub fn take(
        &mut self,
        (src, dst): (Addr, Addr),
        payload: &[u8],
        now_ns: u64,
        each: &mut dyn FnMut(Expanded<'_>),
    ) -> Result<(), Refused> {
        let (rule, datagram) = self.authenticate(src, dst, payload)?;
        let Datagram { batch: number, item, kind, part, parts, data, .. } = datagram;
        if item >= ITEMS_MAX || usize::from(parts) > self.limits.datagrams_max || data.len() > PACKET_LEN_MAX {
            return Err(Refused::Malformed);
        }
        let known = self.batches.iter().position(|b| b.as_ref().is_some_and(|b| b.rule == rule && b.number == number));
        let mut count = 0;
        if let Some(batch) = known.and_then(|place| self.batches[place].as_ref()) {
            let bit = 1 << item;
            if batch.done & bit != 0 {
                return Err(Refused::Replayed);
            }
            let is_other_kind = (batch.are_contents & bit != 0) != (kind == Kind::Contents);
            if batch.known & bit != 0 && is_other_kind {
                return Err(Refused::Malformed);
            }
            for chunk in self.chunks_of(batch).map(|number| &self.chunks[number as usize]).filter(|c| c.item == item) {
                if (chunk.src, chunk.parts) != (src, parts) {
                    return Err(Refused::Malformed);
                }
                if chunk.part == part {
                    return Err(Refused::Replayed);
                }
                count += 1;
            }
        }
        let place = match known {
            Some(place) => place,
            None => self.begin(rule, number, now_ns, each).ok_or(Refused::Replayed)?,
        };
        while self.free == NONE {
            // The batch itself goes last: it is the newest of those that hold anything, or the only one.
            let oldest = self.oldest(|other, batch| other != place && batch.chunks > 0).unwrap_or(place);
            self.give_up(oldest, each);
        }
        if self.batches[place].is_none() {
            // It alone filled all there is, so it is more than fits.
            return Err(Refused::Malformed);
        }
        self.keep(place, src, &datagram);
        let Some(batch) = &mut self.batches[place] else { return Ok(()) };
        let bit = 1 << item;
        batch.known |= bit;
        batch.are_contents |= if kind == Kind::Contents { bit } else { 0 };
        if count + 1 == parts {
            batch.whole |= bit;
        }
        while let Some(pair) = self.batches[place].as_ref().and_then(|batch| batch.pair(batch.whole)) {
            self.deliver(place, pair, each);
        }
        Ok(())
    }

    /// Gives up the batches whose time is up.
    pub fn expire(&mut self, now_ns: u64, each: &mut dyn FnMut(Expanded<'_>)) {
        if now_ns < self.earliest_ns {
            return;
        }
        self.earliest_ns = u64::MAX;
        for place in 0..self.batches.len() {
            match self.batches[place].as_ref().map(|batch| batch.deadline_ns) {
                Some(deadline_ns) if deadline_ns <= now_ns => self.give_up(place, each),
                Some(deadline_ns) => self.earliest_ns = self.earliest_ns.min(deadline_ns),
                None => {}
            }
        }
    }

    /// The rule whose key the tag of a datagram is made with.
    fn authenticate<'p>(&self, src: Addr, dst: Addr, payload: &'p [u8]) -> Result<(usize, Datagram<'p>), Refused> {
        let program = Datagram::program_of(payload).ok_or(Refused::Malformed)?;
        let mut refused = Refused::UnknownProgram;
        for (number, Rule { rule, .. }) in self.rules.iter().enumerate() {
            if rule.program != *program || rule.own != dst {
                continue;
            }
            match Datagram::read(src, dst, payload, &rule.key) {
                Ok(datagram) => return Ok((number, datagram)),
                // The same program may be at several routers, each with a key of its own.
                Err(DatagramError::BadTag) => refused = Refused::BadTag,
                Err(_) => return Err(Refused::Malformed),
            }
        }
        Err(refused)
    }

    /// The numbers of the chunks of a batch.
    fn chunks_of(&self, batch: &Batch) -> impl Iterator<Item = u32> {
        let mut next = batch.first_chunk;
        std::iter::from_fn(move || {
            let number = next;
            next = self.chunks.get(number as usize)?.next;
            Some(number)
        })
    }

    /// A place for a batch that was never begun before; none where it was.
    fn begin(&mut self, rule: usize, number: u64, now_ns: u64, each: &mut dyn FnMut(Expanded<'_>)) -> Option<usize> {
        let sender = (number >> BATCH_WORKER_SHIFT) as usize;
        if !self.rules[rule].senders[sender].begin(number) {
            return None;
        }
        let place = match self.batches.iter().position(Option::is_none) {
            Some(place) => place,
            None => {
                let place = self.oldest(|_, batch| batch.chunks == 0).or_else(|| self.oldest(|_, _| true))?;
                self.give_up(place, each);
                place
            }
        };
        let deadline_ns = now_ns.saturating_add(self.limits.wait_max_ns);
        self.earliest_ns = self.earliest_ns.min(deadline_ns);
        self.counts.batches += 1;
        self.batches[place] = Some(Batch {
            rule,
            number,
            deadline_ns,
            first_chunk: NONE,
            chunks: 0,
            known: 0,
            are_contents: 0,
            whole: 0,
            done: 0,
        });
        Some(place)
    }

    /// The place of the oldest batch for which `is_meant` holds.
    fn oldest(&self, is_meant: impl Fn(usize, &Batch) -> bool) -> Option<usize> {
        let there = self.batches.iter().enumerate().filter_map(|(place, batch)| Some((place, batch.as_ref()?)));
        there
            .filter(|&(place, batch)| is_meant(place, batch))
            .min_by_key(|(_, b)| b.deadline_ns)
            .map(|(place, _)| place)
    }

    /// Copies a part. There is a free chunk.
    fn keep(&mut self, place: usize, src: Addr, datagram: &Datagram<'_>) {
        let number = self.free;
        let (Some(batch), Some(chunk)) = (&mut self.batches[place], self.chunks.get_mut(number as usize)) else {
            return;
        };
        let &Datagram { item, part, parts, data, .. } = datagram;
        self.free = chunk.next;
        let start = number as usize * PACKET_LEN_MAX;
        self.bytes[start..start + data.len()].copy_from_slice(data);
        *chunk = Chunk { src, item, part, parts, len: data.len() as u16, next: batch.first_chunk };
        batch.first_chunk = number;
        batch.chunks += 1;
    }

    /// Appends the parts of an item that stand before the first missing one to `out`, and tells its source.
    fn read(&mut self, place: usize, item: u16, out: fn(&mut Expander) -> &mut Vec<u8>) -> Option<Addr> {
        let batch = self.batches[place].as_ref()?;
        let mut parts = std::mem::take(&mut self.parts);
        parts.clear();
        let mut src = None;
        for number in self.chunks_of(batch) {
            let chunk = &self.chunks[number as usize];
            if chunk.item == item {
                parts.resize(usize::from(chunk.parts), NONE);
                parts[usize::from(chunk.part)] = number;
                src = Some(chunk.src);
            }
        }
        let mut bytes = std::mem::take(out(self));
        bytes.clear();
        for &number in parts.iter().take_while(|&&number| number != NONE) {
            let start = number as usize * PACKET_LEN_MAX;
            bytes.extend_from_slice(&self.bytes[start..start + usize::from(self.chunks[number as usize].len)]);
        }
        *out(self) = bytes;
        self.parts = parts;
        src
    }

    /// Delivers a pair of items as far as it is there, and frees what they took.
    fn deliver(&mut self, place: usize, (contents, dests): (u16, u16), each: &mut dyn FnMut(Expanded<'_>)) {
        let src = self.read(place, contents, |expander| &mut expander.contents);
        self.read(place, dests, |expander| &mut expander.dests);
        if let (Some(batch), Some(src)) = (&self.batches[place], src) {
            let prefix = self.rules[batch.rule].rule.prefix;
            // A window has no more packets than this, so a program sends no more.
            let mut left = WINDOW_MAX;
            let pairs = Contents::new(&self.contents).map_while(Result::ok);
            for (content, dests) in pairs.zip(Dests::new(&self.dests).map_while(Result::ok)) {
                for dst in dests {
                    if left == 0 {
                        break;
                    }
                    left -= 1;
                    each(if prefix.contains(dst) {
                        Expanded::Packet { src, dst, content }
                    } else {
                        Expanded::NotOwned
                    });
                }
            }
        }
        self.free_chunks(place, |item| item == contents || item == dests);
        if let Some(batch) = &mut self.batches[place] {
            batch.done |= 1 << contents | 1 << dests;
        }
    }

    /// Frees the chunks of the items that `is_meant` names.
    fn free_chunks(&mut self, place: usize, is_meant: impl Fn(u16) -> bool) {
        let Some(batch) = &mut self.batches[place] else { return };
        let mut next = std::mem::replace(&mut batch.first_chunk, NONE);
        while let Some(chunk) = self.chunks.get_mut(next as usize) {
            let number = next;
            next = chunk.next;
            if is_meant(chunk.item) {
                chunk.next = self.free;
                self.free = number;
                batch.chunks -= 1;
            } else {
                chunk.next = batch.first_chunk;
                batch.first_chunk = number;
            }
        }
    }

    /// Ends a batch, with what can still be delivered of it.
    fn give_up(&mut self, place: usize, each: &mut dyn FnMut(Expanded<'_>)) {
        let Some(batch) = &self.batches[place] else { return };
        self.counts.incomplete += u64::from(batch.chunks > 0);
        while let Some(pair) = self.batches[place].as_ref().and_then(|batch| batch.pair(batch.known)) {
            self.deliver(place, pair, each);
        }
        self.free_chunks(place, |_| true);
        self.batches[place] = None;
    }
}

#[cfg(test)]
mod tests;
