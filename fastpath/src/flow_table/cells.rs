//! The cells of one family, as workers look them up.
//!
//! A cell's *shape* is the pair of its prefix lengths. Every shape in use has its own secret hash, and a packet is
//! looked up once for each shape that could hold it: for exact pairs always, and so for a shape that is the only one
//! with its length of destination; for others where the front says that there is some cell to its destination. So a
//! packet to someone without programs costs one look at the front for each such length, and an owner with many source
//! lengths slows only its own packets.
//!
//! A slot says the newest act of its cell, and leads to a *version* as long as some worker may want the act before: the
//! version says in which epoch the newest act was born, and what the cell said before it. A deletion is a change to no
//! act, whose slot is emptied when every worker has passed it.
//!
//! Expected cost of a burst: one tag word, and for a hit one line of slots, each fetched for the whole burst before it
//! is read: 9.8 ns per independent random load beyond the caches, 1 to 2 ns within them.

use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::act::{Act, ActKind, Meta, NO_VERSION};
use super::found::Finds;
use super::hash::{Hasher, Mix, Tweak};
use super::key::Key;
use super::program::{InstallId, Installed};
use super::slots::{PROBE_BUCKETS_MAX, Slots, TagWords};
use super::tags::BUCKET_SLOTS;
use crate::port::{BURST_LEN_MAX, numbers};
use crate::publication::{Domain, Epoch, Published, Reader};
use crate::region::{NoMemory, Region, Zeroed};

/// The most shapes in use at once, in each family.
pub const SHAPES_MAX: usize = 64;
/// Matches of tags that are looked at together. Half of them is more than one probe can have.
const CANDIDATES_MAX: usize = 512;
const _: () = assert!(CANDIDATES_MAX / 2 > PROBE_BUCKETS_MAX * BUCKET_SLOTS);

/// The numbers of a burst's lanes.
const EACH_LANE: [u8; BURST_LEN_MAX] = {
    let mut lanes = [0; BURST_LEN_MAX];
    let mut number = 0;
    while number < BURST_LEN_MAX {
        lanes[number] = number as u8;
        number += 1;
    }
    lanes
};

/// A program in a chain. The pointer is good as long as the chain can be reached.
#[derive(Clone, Copy)]
pub(crate) struct ProgramRef {
    pub(super) id: InstallId,
    pub(super) slot: u32,
    pub(super) installed: *const Installed,
}

// SAFETY: an `Installed` is shared between threads (its worker parts say how), and the pointer is only followed through
// `Chain::runs`, whose safety rests on publication, not on the thread.
unsafe impl Send for ProgramRef {}
// SAFETY: as above.
unsafe impl Sync for ProgramRef {}

/// What is done with the packets of a cell where several programs meet.
#[derive(Clone, Default)]
pub(crate) struct Chain {
    /// The programs that drop every packet of the cell, in order of installation, with the acts that stand for their
    /// permits; the first is the one that is counted.
    pub(super) verdicts: Vec<(ProgramRef, Act)>,
    /// The programs that are run, in order of installation.
    pub(super) runs: Vec<ProgramRef>,
}

impl Chain {
    pub(super) fn is_empty(&self) -> bool {
        self.verdicts.is_empty() && self.runs.is_empty()
    }
    /// The programs that are run, in order of installation.
    pub(super) fn runs(&self) -> impl Iterator<Item = &Installed> {
        // SAFETY: a program is unlinked from every chain in the epoch in which it is withdrawn, and freed when every
        // worker has seen that epoch. Whoever can reach this chain has seen an earlier one, or is the writer, and
        // `self` is borrowed from it; so the program outlives the borrow.
        self.runs.iter().map(|program| unsafe { &*program.installed })
    }
}

/// What a cell said before its newest act, and since when it says that.
pub(super) struct Version {
    birth: AtomicU64,
    before: AtomicU64,
}

// SAFETY: atomics of zero, which are numbers.
unsafe impl Zeroed for Version {}

/// A pair of prefix lengths in use.
#[derive(Clone, Copy)]
pub(super) struct Shape<K> {
    pub(super) id: u8,
    pub(super) src_len: u8,
    pub(super) dst_len: u8,
    mask: K,
    tweak: Tweak,
    /// How its destinations are hashed for the front.
    pub(super) destination: Destination<K>,
    /// Cells that are linked.
    pub(super) cells: usize,
}

impl<K: Key> Shape<K> {
    pub(super) fn new(id: u8, src_len: u8, dst_len: u8, hasher: &Hasher) -> Shape<K> {
        // Destinations have the numbers from 0 to 128.
        let tweak = hasher.tweak(1000 + u64::from(id));
        let destination = Destination::new(dst_len, hasher);
        Shape { id, src_len, dst_len, mask: K::mask(src_len, dst_len), tweak, destination, cells: 0 }
    }
    #[inline(always)]
    pub(super) fn key(&self, pair: K) -> K {
        pair.masked(self.mask)
    }
    #[inline(always)]
    pub(super) fn hash(&self, key: K, mix: impl Mix) -> u64 {
        key.hash(mix, self.tweak)
    }
    /// Most specific first: the longer pair, then the longer source.
    pub(super) fn rank(&self) -> std::cmp::Reverse<(u16, u8)> {
        std::cmp::Reverse((u16::from(self.src_len) + u16::from(self.dst_len), self.src_len))
    }
    /// Whether it holds one pair of addresses. Such cells are not marked in the front.
    pub(super) fn is_exact(&self) -> bool {
        self.src_len == K::WIDTH && self.dst_len == K::WIDTH
    }
    pub(super) fn front_bit(&self) -> u8 {
        1 << (self.id % 8)
    }
}

/// How destinations of one length are hashed for the front.
#[derive(Clone, Copy)]
pub(super) struct Destination<K> {
    mask: K,
    tweak: Tweak,
}

impl<K: Key> Destination<K> {
    fn new(len: u8, hasher: &Hasher) -> Destination<K> {
        Destination { mask: K::mask(0, len), tweak: hasher.tweak(u64::from(len)) }
    }
    #[inline(always)]
    pub(super) fn hash(&self, pair: K, mix: impl Mix) -> u64 {
        pair.masked(self.mask).hash(mix, self.tweak)
    }
}

/// Shapes with one length of destination, which the front tells apart.
struct Group<K> {
    destination: Destination<K>,
    /// Places in `Index::shapes`.
    shapes: Vec<u8>,
    /// The front bits of those shapes.
    bits: u8,
}

/// What a worker finds a cell with: the shapes in use, most specific first, and the slots.
pub(super) struct Index<K: Key> {
    shapes: Vec<Shape<K>>,
    /// Places of the shapes that are looked up for every packet.
    direct: Vec<u8>,
    groups: Vec<Group<K>>,
    slots: Arc<Slots<K>>,
}

impl<K: Key> Index<K> {
    pub(super) fn new(mut shapes: Vec<Shape<K>>, slots: Arc<Slots<K>>) -> Index<K> {
        shapes.sort_by_key(Shape::rank);
        let mut direct: Vec<u8> = (0..shapes.len() as u8).filter(|&i| shapes[usize::from(i)].is_exact()).collect();
        let mut groups: Vec<Group<K>> = Vec::new();
        let mut lengths: Vec<u8> = shapes.iter().map(|shape| shape.dst_len).collect();
        lengths.sort_unstable();
        lengths.dedup();
        for len in lengths.into_iter().rev() {
            let is_member = |shape: &Shape<K>| shape.dst_len == len && !shape.is_exact();
            let members: Vec<u8> = (0..shapes.len() as u8).filter(|&i| is_member(&shapes[usize::from(i)])).collect();
            if members.len() <= 1 {
                // The front would cost as much as the look-up that it might spare.
                direct.extend(members);
                continue;
            }
            let bits = members.iter().fold(0, |bits, &i| bits | shapes[usize::from(i)].front_bit());
            let destination = shapes[usize::from(members[0])].destination;
            groups.push(Group { destination, shapes: members, bits });
        }
        Index { shapes, direct, groups, slots }
    }
    pub(super) fn slots(&self) -> &Arc<Slots<K>> {
        &self.slots
    }
}

/// A look-up under way: one packet, one shape, whose tags are not read yet.
struct Probe {
    hash: u64,
    /// Its place in the burst.
    pair: u8,
    rank: u8,
}

/// A slot whose tag says that it may be the cell of a packet.
#[derive(Clone, Copy)]
struct Candidate {
    slot: u32,
    pair: u8,
    rank: u8,
}

/// Room for the look-ups of one burst, made once for each worker.
pub(crate) struct Scratch<K> {
    /// A bit for each lane that is looked up.
    which: u64,
    /// By lanes.
    pairs: [K; BURST_LEN_MAX],
    /// Those that are looked up, without the gaps between them where there are any.
    some: Gathered<K>,
    hashes: [u64; BURST_LEN_MAX],
    probes: Vec<Probe>,
    candidates: Candidates,
}

/// The candidates so far.
struct Candidates {
    count: usize,
    all: [Candidate; CANDIDATES_MAX],
}

impl Candidates {
    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.all[..self.count.min(CANDIDATES_MAX)].iter()
    }

    /// Adds the slots that may be a packet's cell; tells whether they are to be judged before more are added.
    #[inline(always)]
    fn seek<K: Key>(&mut self, slots: &Slots<K>, tags: TagWords<'_>, hash: u64, pair: u8, rank: u8) -> bool {
        let home = tags.home(hash);
        let (slot, is_match, has_more) = Slots::<K>::first_match(home, tags.word(home), hash);
        if is_match {
            slots.prefetch_slot(slot);
            self.all[self.count % CANDIDATES_MAX] = Candidate { slot: slot as u32, pair, rank };
            self.count += 1;
        }
        if has_more {
            self.seek_on(slots, hash, (slot, is_match), (pair, rank));
        }
        self.count >= CANDIDATES_MAX / 2
    }

    /// The same for the slots behind the first. There is room: half of it is free before, and a probe looks at no more.
    #[inline(never)]
    fn seek_on<K: Key>(&mut self, slots: &Slots<K>, hash: u64, first: (usize, bool), (pair, rank): (u8, u8)) {
        slots.matches(hash, |slot| {
            if (slot, true) != first && self.count < CANDIDATES_MAX {
                slots.prefetch_slot(slot);
                self.all[self.count] = Candidate { slot: slot as u32, pair, rank };
                self.count += 1;
            }
        });
    }
}

/// Lanes, and the pairs of those.
type Gathered<K> = ([u8; BURST_LEN_MAX], [K; BURST_LEN_MAX]);

/// Whether some lane before the last is not looked up.
#[inline(always)]
fn has_gaps(which: u64) -> bool {
    which & which.wrapping_add(1) != 0
}

/// The lanes that are looked up and their pairs, and behind them any.
#[inline(always)]
fn looked_up<'s, K>(
    which: u64,
    pairs: &'s [K; BURST_LEN_MAX],
    some: &'s Gathered<K>,
) -> (&'s [u8; BURST_LEN_MAX], &'s [K; BURST_LEN_MAX]) {
    if has_gaps(which) { (&some.0, &some.1) } else { (&EACH_LANE, pairs) }
}

impl<K: Key> Scratch<K> {
    pub(super) fn new() -> Scratch<K> {
        Scratch {
            which: 0,
            pairs: [K::default(); BURST_LEN_MAX],
            some: ([0; BURST_LEN_MAX], [K::default(); BURST_LEN_MAX]),
            hashes: [0; BURST_LEN_MAX],
            probes: Vec::with_capacity(BURST_LEN_MAX * SHAPES_MAX),
            candidates: Candidates { count: 0, all: [Candidate { slot: 0, pair: 0, rank: 0 }; CANDIDATES_MAX] },
        }
    }
    /// Adds the packet of `lane`, which is below [`BURST_LEN_MAX`], to the burst.
    #[inline(always)]
    pub(super) fn push(&mut self, lane: u8, pair: K) {
        if let Some(place) = self.pairs.get_mut(usize::from(lane)) {
            *place = pair;
            self.which |= 1 << lane;
        }
    }
    /// Where pairs stand, by lanes.
    #[inline(always)]
    pub(super) fn pairs_mut(&mut self) -> &mut [K; BURST_LEN_MAX] {
        &mut self.pairs
    }
    /// Adds packets whose pairs stand in their places: those whose bits are set.
    #[inline(always)]
    pub(super) fn push_those(&mut self, which: u64) {
        self.which |= which;
    }
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.which == 0
    }
    /// Writes down the lanes that are looked up without those in between, which is rare.
    #[inline(never)]
    fn close_gaps(&mut self) {
        let (lanes, pairs) = &mut self.some;
        for (lane, (to_lane, to)) in numbers(self.which).zip(lanes.iter_mut().zip(pairs)) {
            (*to_lane, *to) = (lane as u8, self.pairs[lane]);
        }
    }
    /// A bit for each lane with a candidate that is not settled yet.
    #[inline(always)]
    pub(super) fn candidate_lanes(&self) -> u64 {
        let (lanes, _) = looked_up(self.which, &self.pairs, &self.some);
        let lane = |candidate: &Candidate| lanes[usize::from(candidate.pair) % BURST_LEN_MAX];
        self.candidates.iter().fold(0, |lanes, candidate| lanes | 1 << (usize::from(lane(candidate)) % BURST_LEN_MAX))
    }
}

/// The cells of one family. Workers read it with [`Cells::seek`] and
/// [`Cells::settle`]; what changes it is in `FamilyWriter`.
pub(crate) struct Cells<K: Key> {
    index: Published<Index<K>>,
    versions: Region<Version>,
    chains: Region<AtomicPtr<Chain>>,
    /// Chains from here on were never used.
    chains_used: AtomicU32,
    hasher: Hasher,
}

impl<K: Key> Cells<K> {
    pub(super) fn new(domain: &Domain, cells_max: u32, hasher: Hasher) -> Result<Cells<K>, NoMemory> {
        let index = Index::new(Vec::new(), Arc::new(Slots::for_cells(0)?));
        let room = cells_max as usize + 1;
        Ok(Cells {
            index: Published::new(domain.clone(), Box::new(index)),
            versions: Region::new(room)?,
            // A chain is the act of a cell or what a version says was there before.
            chains: Region::new(room * 2)?,
            chains_used: AtomicU32::new(0),
            hasher,
        })
    }

    pub(super) fn index(&self) -> &Published<Index<K>> {
        &self.index
    }
    pub(super) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Whether no shape is in use.
    #[inline]
    pub(super) fn is_empty_for(&self, reader: &Reader) -> bool {
        self.index.read(reader).shapes.is_empty()
    }

    /// Seeks the slots that may be the cells of the burst's packets, and has them fetched. Where there are very many, some
    /// are settled at once. Gives what they are found with, for [`Cells::settle`].
    #[inline(always)]
    pub(super) fn seek<'r>(
        &'r self,
        reader: &'r Reader,
        scratch: &mut Scratch<K>,
        finds: &mut Finds,
        meet: impl Fn(Act) + Copy,
    ) -> &'r Index<K> {
        let index = self.index.read(reader);
        match self.hasher {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this way of hashing is only made where the processor has all that `seek_aes` uses.
            Hasher::Aes(aes) => unsafe { self.seek_aes(aes, index, reader, scratch, finds, meet) },
            Hasher::Multiply(multiply) => self.seek_with(multiply, index, reader, scratch, finds, meet),
        }
        index
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "aes,avx2,bmi1,bmi2")]
    fn seek_aes(
        &self,
        aes: super::hash::Aes,
        index: &Index<K>,
        reader: &Reader,
        scratch: &mut Scratch<K>,
        finds: &mut Finds,
        meet: impl Fn(Act) + Copy,
    ) {
        self.seek_with(aes, index, reader, scratch, finds, meet);
    }

    #[inline(always)]
    fn seek_with(
        &self,
        mix: impl Mix,
        index: &Index<K>,
        reader: &Reader,
        scratch: &mut Scratch<K>,
        finds: &mut Finds,
        meet: impl Fn(Act) + Copy,
    ) {
        let slots = &*index.slots;
        let tags = slots.tag_words();
        if has_gaps(scratch.which) {
            scratch.close_gaps();
        }
        let Scratch { which, pairs, some, hashes, probes, candidates } = scratch;
        let (lanes, pairs) = looked_up(*which, pairs, some);
        let pairs = &pairs[..which.count_ones() as usize];
        candidates.count = 0;
        for &rank in &index.direct {
            let Shape { mask, tweak, .. } = index.shapes[usize::from(rank)];
            let mut wanted = mix.wanted(tags, pairs, (mask, tweak), hashes);
            // Only those that may have a cell cost more.
            while wanted != 0 {
                let pair = wanted.trailing_zeros() as usize % BURST_LEN_MAX;
                wanted &= wanted - 1;
                if candidates.seek(slots, tags, hashes[pair], pair as u8, rank) {
                    self.judge(index, reader, (pairs, lanes), candidates, finds, meet);
                }
            }
        }
        for group in &index.groups {
            for (&pair, hash) in pairs.iter().zip(hashes.iter_mut()) {
                *hash = group.destination.hash(pair, mix);
                slots.prefetch_front(*hash);
            }
            probes.clear();
            for (number, (&pair, &hash)) in pairs.iter().zip(&*hashes).enumerate() {
                let bits = slots.front(hash) & group.bits;
                if bits == 0 {
                    continue;
                }
                for &rank in &group.shapes {
                    let shape = &index.shapes[usize::from(rank)];
                    if shape.front_bit() & bits != 0 {
                        let hash = shape.hash(shape.key(pair), mix);
                        tags.prefetch(tags.home(hash));
                        probes.push(Probe { hash, pair: number as u8, rank });
                    }
                }
            }
            for &Probe { hash, pair, rank } in &*probes {
                if candidates.seek(slots, tags, hash, pair, rank) {
                    self.judge(index, reader, (pairs, lanes), candidates, finds, meet);
                }
            }
        }
    }

    /// Notes by lane what was found for the burst that was sought with `index`; gives every act to `meet`, early enough for
    /// what it needs to be fetched.
    #[inline(always)]
    pub(super) fn settle(
        &self,
        index: &Index<K>,
        reader: &Reader,
        scratch: &mut Scratch<K>,
        finds: &mut Finds,
        meet: impl Fn(Act),
    ) {
        let Scratch { which, pairs, some, candidates, .. } = scratch;
        let (lanes, pairs) = looked_up(*which, pairs, some);
        self.judge(index, reader, (pairs, lanes), candidates, finds, meet);
        *which = 0;
    }

    /// Looks at the slots of candidates, and notes the cells among them.
    #[inline(always)]
    fn judge(
        &self,
        index: &Index<K>,
        reader: &Reader,
        (pairs, lanes): (&[K], &[u8; BURST_LEN_MAX]),
        candidates: &mut Candidates,
        finds: &mut Finds,
        meet: impl Fn(Act),
    ) {
        for &Candidate { slot, pair, rank } in candidates.iter() {
            let shape = &index.shapes[usize::from(rank)];
            let (key, meta) = index.slots.key_and_meta(slot as usize);
            if key != shape.key(pairs[usize::from(pair)]) || meta.shape() != shape.id {
                continue;
            }
            let act = self.act_for(meta, reader.epoch());
            let lane = lanes[usize::from(pair) % BURST_LEN_MAX];
            meet(act);
            // A verdict is what most cells say.
            match act.discards() {
                Some(program) => finds.discard(lane, rank, program),
                None => self.note(act, rank, lane, finds),
            }
        }
        candidates.count = 0;
    }

    /// Adds what is done in one cell to what was found for a packet.
    #[inline]
    fn note(&self, act: Act, rank: u8, lane: u8, finds: &mut Finds) {
        match act.kind() {
            ActKind::Nothing => {}
            ActKind::Discard(program) => finds.discard(lane, rank, program),
            ActKind::Run(_) => finds.run(lane, act),
            ActKind::Chain(chain) => {
                let chain = self.chain(chain);
                if let Some((program, _)) = chain.verdicts.first() {
                    finds.discard(lane, rank, program.slot);
                }
                if !chain.runs.is_empty() {
                    finds.run(lane, act);
                }
            }
        }
    }

    /// Gives the act of every cell that holds the pair to `take`. The slow way, for packets in several chains.
    #[cold]
    pub(super) fn each_act(&self, reader: &Reader, pair: K, mut take: impl FnMut(Act)) {
        let index = self.index.read(reader);
        for shape in &index.shapes {
            let key = shape.key(pair);
            if let Some(slot) = index.slots.find(shape.hash(key, &self.hasher), key, shape.id) {
                take(self.act_for(index.slots.meta(slot), reader.epoch()));
            }
        }
    }

    /// What is done in a cell for those who see `epoch`, from its newest word.
    #[inline(always)]
    fn act_for(&self, mut meta: Meta, epoch: Epoch) -> Act {
        while meta.version() != NO_VERSION {
            let version = &self.versions[meta.version() as usize];
            if version.birth.load(Ordering::Relaxed) <= epoch {
                break;
            }
            // A version that is followed here is younger than the epoch seen, so what was before is not freed yet.
            meta = Meta::from_bits(version.before.load(Ordering::Acquire));
        }
        meta.act()
    }

    /// What several programs do. The caller can reach the chain, as a worker or as the writer, while it borrows.
    #[inline]
    pub(super) fn chain(&self, index: u32) -> &Chain {
        // SAFETY: the pointer was stored before any act that leads to it, and comes from a box. It is freed when every
        // worker has passed the epoch in which the act was replaced; who got the act from a slot has not reported
        // since, or is the writer and got the newest.
        unsafe { &*self.chains[index as usize].load(Ordering::Acquire) }
    }
}

/// The writer's side: it is alone.
impl<K: Key> Cells<K> {
    /// Writes a version that no worker can reach yet.
    pub(super) fn put_version(&self, index: u32, birth: Epoch, before: Meta) {
        let version = &self.versions[index as usize];
        // Relaxed: it is reached through a word that is stored after it, with release.
        version.birth.store(birth, Ordering::Relaxed);
        version.before.store(before.bits(), Ordering::Relaxed);
    }

    /// What a cell said before a version.
    pub(super) fn before(&self, version: u32) -> Meta {
        Meta::from_bits(self.versions[version as usize].before.load(Ordering::Relaxed))
    }

    /// Makes what a cell said before a version lead to no older one, which every worker has passed.
    pub(super) fn settle_before(&self, version: u32) {
        self.versions[version as usize].before.store(self.before(version).settled().bits(), Ordering::Release);
    }

    /// Puts a chain in a place that no worker can reach.
    pub(super) fn put_chain(&self, index: u32, chain: Chain) {
        self.chains_used.fetch_max(index + 1, Ordering::Relaxed);
        self.chains[index as usize].store(Box::into_raw(Box::new(chain)), Ordering::Release);
    }

    /// Frees a chain that no worker can reach any more.
    pub(super) fn free_chain(&self, index: u32) {
        let chain = self.chains[index as usize].swap(std::ptr::null_mut(), Ordering::Relaxed);
        if !chain.is_null() {
            // SAFETY: it came from `Box::into_raw`, and is out of its place, so this is done once. Nobody can reach
            // it: the caller's promise, kept by retiring it with the epoch in which its act was replaced.
            drop(unsafe { Box::from_raw(chain) });
        }
    }

    /// Bytes of so many versions and chains.
    pub(super) fn beside_bytes(versions: u32, chains: u32) -> usize {
        versions as usize * size_of::<Version>() + chains as usize * size_of::<AtomicPtr<Chain>>()
    }
}

impl<K: Key> Drop for Cells<K> {
    fn drop(&mut self) {
        for index in 0..self.chains_used.load(Ordering::Relaxed) {
            self.free_chain(index);
        }
    }
}
