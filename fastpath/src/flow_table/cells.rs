//! The cells of one family: an open-addressed hash table over (source, destination) pairs that one writer changes
//! while workers read.
//!
//! A cell's *shape* is the pair of its prefix lengths. Every shape in use has its own secret hash, and a packet is
//! looked up once for each shape that could hold it. Which those are, a *front* tells: one byte for each hash of a
//! masked destination, with a bit for every shape that some cell to such a destination has. So a packet to someone
//! without programs costs one look at the front per destination length, and an owner with many source lengths slows
//! only its own packets.
//!
//! A bucket is one cache line: eight tags of 16 bits and eight indices of entries. An *entry* never changes while it
//! can be reached; a change makes a new version that is born in the epoch of its batch and leads to the version
//! before, which a worker of an earlier epoch reads. A deletion is a version without programs (a tombstone), unlinked
//! when all have passed it.
//!
//! Expected cost of a burst: front 1 line, bucket 1 line, and for a hit the entry 1 line, each prefetched for the
//! whole burst before it is read: 9.8 ns per independent random load beyond the caches, 1 to 2 ns within them.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use ahash::RandomState;

use super::key::Key;
use super::program::{InstallId, Installed, Permit};
use crate::publication::{Domain, Epoch, Published, Reader};
use crate::region::{NoMemory, Region, Zeroed};

/// The most shapes in use at once, in each family.
pub const SHAPES_MAX: usize = 64;
/// Slots of a bucket.
const BUCKET_SLOTS: usize = 8;
/// Buckets that a probe looks at, at most. An entry that does not fit in so many makes the table grow; at the load
/// below that is ten standard deviations away. A reader stops at the first bucket that none was passed on from,
/// nearly always its first.
const PROBE_BUCKETS_MAX: usize = 64;
/// Cells per bucket, on average, above which the table grows.
const LOAD_MAX: usize = 5;
/// Buckets of the smallest table.
const BUCKETS_MIN: usize = 64;
/// The index of no entry, which is what zeroed memory holds. The first entry has index 1.
pub(super) const NONE: u32 = 0;

/// A program in a chain. The pointer is good as long as the chain can be reached.
#[derive(Clone, Copy)]
pub(crate) struct ProgramRef {
    pub(super) id: InstallId,
    pub(super) installed: *const Installed,
}

// SAFETY: an `Installed` is shared between threads (its worker parts say how), and the pointer is only followed through
// `Chain::runs`, whose safety rests on publication, not on the thread.
unsafe impl Send for ProgramRef {}
// SAFETY: as above.
unsafe impl Sync for ProgramRef {}

/// What is done with the packets of a cell that is not just one verdict.
pub(crate) struct Chain {
    /// The programs that drop every packet of the cell, in order of installation; the first is the one that is counted.
    pub(super) verdicts: Vec<(ProgramRef, Permit)>,
    /// The programs that are run, in order of installation.
    pub(super) runs: Vec<ProgramRef>,
}

impl Chain {
    pub(super) fn is_empty(&self) -> bool {
        self.verdicts.is_empty() && self.runs.is_empty()
    }
    /// The programs that are run, in order of installation.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (InstallId, &Installed)> {
        // SAFETY: a program is unlinked from every chain in the epoch in which it is withdrawn, and freed when every
        // worker has seen that epoch. Whoever can reach this chain has seen an earlier one, or is the writer, and
        // `self` is borrowed from it; so the program outlives the borrow.
        self.runs.iter().map(|program| (program.id, unsafe { &*program.installed }))
    }
    pub(super) fn first_verdict(&self) -> Option<u32> {
        // SAFETY: as in `runs`.
        self.verdicts.first().map(|(program, _permit)| unsafe { (*program.installed).slot })
    }
}

/// What is done with the packets of a cell.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// Nothing: the cell is deleted.
    Nothing,
    /// They are dropped, and counted for this program's slot.
    Discard { program: u32, permit: Permit, id: InstallId },
    /// See the chain.
    Chain(*const Chain),
}

/// A version of a cell.
pub(super) struct Entry<K> {
    pub(super) key: K,
    pub(super) birth: Epoch,
    pub(super) act: Act,
    pub(super) previous: u32,
    pub(super) shape: u8,
}

struct EntryCell<K>(UnsafeCell<MaybeUninit<Entry<K>>>);

// SAFETY: `MaybeUninit` takes any bytes.
unsafe impl<K> Zeroed for EntryCell<K> {}
// SAFETY: an entry is written only while it cannot be reached (`Cells::write`), and then only read.
unsafe impl<K: Send + Sync> Sync for EntryCell<K> {}
// SAFETY: as above; the chain pointer in it is good on every thread.
unsafe impl<K: Send + Sync> Send for EntryCell<K> {}

/// One cache line of tags and indices. A tag of zero is an empty slot.
#[repr(C, align(64))]
struct Bucket {
    /// Slots 0 to 3 and 4 to 7, 16 bits each, slot 0 lowest.
    tags: [AtomicU64; 2],
    entries: [AtomicU32; BUCKET_SLOTS],
    /// Entries that would be here had there been room: a probe goes on to the next bucket.
    passed_by: AtomicU32,
}

// SAFETY: atomics of zero, which are numbers.
unsafe impl Zeroed for Bucket {}

/// The tag of a hash: its high bits, never zero.
#[inline]
fn tag_of(hash: u64) -> u16 {
    ((hash >> 48) as u16).max(1)
}

/// The high bit of each 16-bit lane of `tags` that equals `tag`. A lane above a match may be named wrongly, which
/// costs a look at an entry and nothing else.
#[inline]
fn lanes_equal(tags: u64, tag: u16) -> u64 {
    const ONES: u64 = 0x0001_0001_0001_0001;
    let difference = tags ^ (u64::from(tag) * ONES);
    difference.wrapping_sub(ONES) & !difference & (ONES << 15)
}

impl Bucket {
    /// The slots whose tag is `tag` (or, rarely, is not).
    #[inline]
    fn matches(&self, tag: u16) -> impl Iterator<Item = usize> {
        let low = lanes_equal(self.tags[0].load(Ordering::Relaxed), tag);
        let high = lanes_equal(self.tags[1].load(Ordering::Relaxed), tag);
        let mut lanes = u128::from(low) | u128::from(high) << 64;
        std::iter::from_fn(move || {
            let bit = lanes.trailing_zeros();
            (bit < 128).then(|| {
                lanes &= lanes - 1;
                (bit / 16) as usize
            })
        })
    }
    fn tag(&self, slot: usize) -> u16 {
        (self.tags[slot / 4].load(Ordering::Relaxed) >> (slot % 4 * 16)) as u16
    }
    fn set_tag(&self, slot: usize, tag: u16) {
        let word = &self.tags[slot / 4];
        let shift = slot % 4 * 16;
        let tags = word.load(Ordering::Relaxed) & !(0xffff << shift) | u64::from(tag) << shift;
        // Only the writer stores tags, so this is no lost update. Release: whoever sees the tag may load the index.
        word.store(tags, Ordering::Release);
    }
}

/// The buckets and the front. Shared by the indexes that differ only in shapes.
pub(super) struct Slots {
    buckets: Region<Bucket>,
    front: Region<AtomicU8>,
}

impl Slots {
    fn new(cells: usize) -> Result<Slots, NoMemory> {
        let buckets = (cells / LOAD_MAX + 1).next_power_of_two().max(BUCKETS_MIN);
        // At least two bytes of front for each cell, so that most destinations without programs are told apart.
        Ok(Slots { buckets: Region::new(buckets)?, front: Region::new(buckets * 2 * BUCKET_SLOTS)? })
    }
    fn bucket(&self, number: usize) -> &Bucket {
        &self.buckets[number & (self.buckets.len() - 1)]
    }
    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }
    #[inline]
    fn front(&self, hash: u64) -> &AtomicU8 {
        &self.front[hash as usize & (self.front.len() - 1)]
    }
}

/// A pair of prefix lengths in use.
#[derive(Clone)]
pub(super) struct Shape<K> {
    pub(super) id: u8,
    pub(super) src_len: u8,
    pub(super) dst_len: u8,
    mask: K,
    hash: RandomState,
    /// Cells that are linked.
    pub(super) cells: usize,
}

impl<K: Key> Shape<K> {
    pub(super) fn new(id: u8, src_len: u8, dst_len: u8, secret: &Secret) -> Shape<K> {
        Shape { id, src_len, dst_len, mask: K::mask(src_len, dst_len), hash: secret.state(1 + id), cells: 0 }
    }
    pub(super) fn key(&self, pair: K) -> K {
        pair.masked(self.mask)
    }
    pub(super) fn hash(&self, key: K) -> u64 {
        key.keyed_hash(&self.hash)
    }
    /// Most specific first: the longer pair, then the longer source.
    pub(super) fn rank(&self) -> std::cmp::Reverse<(u16, u8)> {
        std::cmp::Reverse((u16::from(self.src_len) + u16::from(self.dst_len), self.src_len))
    }
    fn front_bit(&self) -> u8 {
        1 << (self.id % 8)
    }
}

/// The secret that hashes are keyed with, from the system's random source: nobody outside can pick addresses that
/// collide.
pub(super) struct Secret([u64; 4]);

impl Secret {
    pub(super) fn draw() -> Result<Secret, getrandom::Error> {
        Ok(Secret([getrandom::u64()?, getrandom::u64()?, getrandom::u64()?, getrandom::u64()?]))
    }
    /// A hash function of its own for each number.
    fn state(&self, number: u8) -> RandomState {
        let [a, b, c, d] = self.0;
        let derive = RandomState::with_seeds(a, b, c, d);
        let seed = |lane: u8| derive.hash_one((number, lane));
        RandomState::with_seeds(seed(0), seed(1), seed(2), seed(3))
    }
}

/// A destination length in use, and the shapes that have it.
struct Destinations<K> {
    mask: K,
    hash: RandomState,
    /// Indices into `Index::shapes`.
    shapes: Vec<u8>,
    /// The front bits of those shapes.
    bits: u8,
}

/// What a worker finds a cell with: the shapes in use, most specific first, and the slots.
pub(super) struct Index<K> {
    pub(super) shapes: Vec<Shape<K>>,
    destinations: Vec<Destinations<K>>,
    slots: Arc<Slots>,
}

impl<K: Key> Index<K> {
    pub(super) fn new(mut shapes: Vec<Shape<K>>, slots: Arc<Slots>, secret: &Secret) -> Index<K> {
        shapes.sort_by_key(Shape::rank);
        let mut destinations: Vec<Destinations<K>> = Vec::new();
        let mut lengths: Vec<u8> = shapes.iter().map(|shape| shape.dst_len).collect();
        lengths.sort_unstable();
        lengths.dedup();
        for len in lengths.into_iter().rev() {
            let members: Vec<u8> = (0..shapes.len() as u8).filter(|&i| shapes[usize::from(i)].dst_len == len).collect();
            let bits = members.iter().fold(0, |bits, &i| bits | shapes[usize::from(i)].front_bit());
            destinations.push(Destinations {
                mask: K::mask(0, len),
                hash: Self::destination_hash(secret, len),
                shapes: members,
                bits,
            });
        }
        Index { shapes, destinations, slots }
    }
    fn destination_hash(secret: &Secret, dst_len: u8) -> RandomState {
        // Shapes take the numbers 1 to 64.
        secret.state(100 + dst_len)
    }
    pub(super) fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }
}

/// The cells of one family. Workers read it with [`Cells::look_up`]; what changes it is in `FamilyWriter`.
pub(crate) struct Cells<K: Key> {
    index: Published<Index<K>>,
    entries: Region<EntryCell<K>>,
}

/// A look-up under way: one packet, one shape.
struct Probe {
    hash: u64,
    /// Its place in the burst.
    pair: u8,
    shape: u8,
}

/// Room for the look-ups of one burst, made once for each worker.
pub(crate) struct Scratch<K> {
    pairs: Vec<(u8, K)>,
    fronts: Vec<u64>,
    probes: Vec<Probe>,
}

impl<K: Key> Scratch<K> {
    pub(super) fn new() -> Scratch<K> {
        let burst = crate::port::BURST_LEN_MAX;
        Scratch {
            pairs: Vec::with_capacity(burst),
            fronts: Vec::with_capacity(burst),
            probes: Vec::with_capacity(burst * SHAPES_MAX),
        }
    }
    /// Adds the packet of `lane` to the burst.
    #[inline]
    pub(super) fn push(&mut self, lane: u8, pair: K) {
        self.pairs.push((lane, pair));
    }
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
    }
}

/// What was found for a packet.
#[derive(Clone, Copy, Default)]
pub(crate) struct Found<'r> {
    /// The slot of the program that drops it: of the most specific cell that does.
    pub(crate) discard: Option<u32>,
    /// The rank of that cell's shape.
    rank: u8,
    /// A chain with programs to run.
    pub(crate) chain: Option<&'r Chain>,
    /// Whether there are more such chains than that.
    pub(crate) more: bool,
}

#[inline]
fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that a program could notice, and SSE is part of x86_64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

impl<K: Key> Cells<K> {
    pub(super) fn new(domain: &Domain, cells_max: u32, secret: &Secret) -> Result<Cells<K>, NoMemory> {
        let index = Index::new(Vec::new(), Arc::new(Slots::new(0)?), secret);
        Ok(Cells {
            index: Published::new(domain.clone(), Box::new(index)),
            entries: Region::new(cells_max as usize + 1)?,
        })
    }

    pub(super) fn index(&self) -> &Published<Index<K>> {
        &self.index
    }

    /// Whether no shape is in use.
    #[inline]
    pub(super) fn is_empty_for(&self, reader: &Reader) -> bool {
        self.index.read(reader).shapes.is_empty()
    }

    /// Looks up the burst in `scratch` and adds what it finds to `found`, by lane.
    #[inline]
    pub(super) fn look_up<'r>(&'r self, reader: &'r Reader, scratch: &mut Scratch<K>, found: &mut [Found<'r>]) {
        let index = self.index.read(reader);
        if index.shapes.is_empty() || scratch.pairs.is_empty() {
            return;
        }
        let slots = &*index.slots;
        scratch.probes.clear();
        for destinations in &index.destinations {
            scratch.fronts.clear();
            for &(_, pair) in &scratch.pairs {
                let hash = pair.masked(destinations.mask).keyed_hash(&destinations.hash);
                prefetch(slots.front(hash));
                scratch.fronts.push(hash);
            }
            for (place, (&(_, pair), &hash)) in scratch.pairs.iter().zip(&scratch.fronts).enumerate() {
                // Relaxed: a bit of a cell of an epoch that this worker sees was stored before the epoch was.
                let bits = slots.front(hash).load(Ordering::Relaxed) & destinations.bits;
                if bits == 0 {
                    continue;
                }
                for &number in &destinations.shapes {
                    let shape = &index.shapes[usize::from(number)];
                    if shape.front_bit() & bits != 0 {
                        let hash = shape.hash(shape.key(pair));
                        prefetch(slots.bucket(slots.home(hash)));
                        scratch.probes.push(Probe { hash, pair: place as u8, shape: number });
                    }
                }
            }
        }
        // The entry that a tag promises, fetched before any is read.
        for probe in &scratch.probes {
            let bucket = slots.bucket(slots.home(probe.hash));
            for slot in bucket.matches(tag_of(probe.hash)) {
                prefetch(&self.entries[bucket.entries[slot].load(Ordering::Relaxed) as usize]);
            }
        }
        for probe in &scratch.probes {
            let (lane, pair) = scratch.pairs[usize::from(probe.pair)];
            let shape = &index.shapes[usize::from(probe.shape)];
            let Some(entry) = self.find(slots, probe.hash, shape.key(pair), shape.id) else { continue };
            self.note(self.version(entry, reader.epoch()), probe.shape, &mut found[usize::from(lane)]);
        }
    }

    /// Adds what is done in one cell to what was found for a packet.
    #[inline]
    fn note<'r>(&'r self, act: Act, rank: u8, found: &mut Found<'r>) {
        let (discard, chain) = match act {
            Act::Nothing => (None, None),
            Act::Discard { program, .. } => (Some(program), None),
            Act::Chain(chain) => {
                // SAFETY: a chain is freed with the entry version that leads to it, which the caller can reach until
                // its next report; `'r` ends before that.
                let chain: &'r Chain = unsafe { &*chain };
                (chain.first_verdict(), (!chain.runs.is_empty()).then_some(chain))
            }
        };
        if discard.is_some() && (found.discard.is_none() || rank < found.rank) {
            (found.discard, found.rank) = (discard, rank);
        }
        if chain.is_some() {
            found.more = found.chain.is_some();
            if !found.more {
                found.chain = chain;
            }
        }
    }

    /// Gives every chain with programs to run that holds the pair to `take`. The slow way, for packets in several
    /// chains.
    #[cold]
    pub(super) fn each_chain<'r>(&'r self, reader: &'r Reader, pair: K, mut take: impl FnMut(&'r Chain)) {
        let index = self.index.read(reader);
        for (rank, shape) in index.shapes.iter().enumerate() {
            let key = shape.key(pair);
            let Some(entry) = self.find(&index.slots, shape.hash(key), key, shape.id) else { continue };
            let mut found = Found::default();
            self.note(self.version(entry, reader.epoch()), rank as u8, &mut found);
            if let Some(chain) = found.chain {
                take(chain);
            }
        }
    }

    /// The newest entry of a cell.
    #[inline]
    pub(super) fn find(&self, slots: &Slots, hash: u64, key: K, shape: u8) -> Option<u32> {
        let tag = tag_of(hash);
        let mut number = slots.home(hash);
        for _ in 0..PROBE_BUCKETS_MAX {
            let bucket = slots.bucket(number);
            for slot in bucket.matches(tag) {
                // Acquire pairs with the release of `link`: what the entry says is seen with its index.
                let index = bucket.entries[slot].load(Ordering::Acquire);
                // A tag may be seen before or after the index it belongs to: then this is no entry, or another one.
                if index == NONE {
                    continue;
                }
                let entry = self.entry(index);
                if entry.key == key && entry.shape == shape {
                    return Some(index);
                }
            }
            if bucket.passed_by.load(Ordering::Relaxed) == 0 {
                break;
            }
            number += 1;
        }
        None
    }

    /// What an entry says.
    #[inline]
    pub(super) fn entry(&self, index: u32) -> &Entry<K> {
        // SAFETY: an index is only reached through a slot or a version that leads to it, and was written before it
        // was stored there (release in `link`, acquire in `find`). It is written again only when every worker has
        // passed the epoch in which it was unlinked.
        unsafe { (*self.entries[index as usize].0.get()).assume_init_ref() }
    }

    /// Every chain that an entry reachable without regard to epochs leads to: for the last owner to free.
    pub(super) fn chains_mut(&mut self) -> Vec<*const Chain> {
        let slots = self.index.get_mut().slots.clone();
        slots.linked().filter_map(|index| self.chain_of(index)).collect()
    }

    /// The chain of an entry, if it has one.
    pub(super) fn chain_of(&self, index: u32) -> Option<*const Chain> {
        match self.entry(index).act {
            Act::Chain(chain) => Some(chain),
            _ => None,
        }
    }

    /// What is done in a cell for those who see `epoch`, from its newest entry.
    #[inline]
    pub(super) fn version(&self, newest: u32, epoch: Epoch) -> Act {
        let mut entry = self.entry(newest);
        // A version that is followed here is younger than the epoch seen, so the one before is not freed yet.
        while entry.birth > epoch {
            if entry.previous == NONE {
                return Act::Nothing;
            }
            entry = self.entry(entry.previous);
        }
        entry.act
    }

    /// The bytes of one entry.
    pub(super) fn entry_bytes(&self) -> usize {
        size_of::<EntryCell<K>>()
    }

    /// Writes an entry.
    ///
    /// # Safety
    /// The caller is the only writer, and no worker can reach `index`.
    pub(super) unsafe fn write(&self, index: u32, entry: Entry<K>) {
        // SAFETY: nobody reads or writes this entry: the caller's promise. Entries need no drop.
        unsafe { (*self.entries[index as usize].0.get()).write(entry) };
    }
}

/// The writer's work on slots: it is alone, so it reads what it wrote.
impl Slots {
    /// Links the first version of a cell. `false` where its buckets are full and the table must grow.
    pub(super) fn link(&self, hash: u64, entry: u32) -> bool {
        let home = self.home(hash);
        for step in 0..PROBE_BUCKETS_MAX {
            let bucket = self.bucket(home + step);
            let Some(slot) = (0..BUCKET_SLOTS).find(|&slot| bucket.tag(slot) == 0) else { continue };
            for passed in 0..step {
                self.bucket(home + passed).passed_by.fetch_add(1, Ordering::Relaxed);
            }
            // Release pairs with the acquire in `find`.
            bucket.entries[slot].store(entry, Ordering::Release);
            bucket.set_tag(slot, tag_of(hash));
            return true;
        }
        false
    }

    /// Makes the slot of `from` lead to `to`: a newer version.
    pub(super) fn relink(&self, hash: u64, from: u32, to: u32) {
        if let Some((_, bucket, slot)) = self.slot_of(hash, from) {
            bucket.entries[slot].store(to, Ordering::Release);
        }
    }

    /// Empties the slot of `entry`; `false` where no slot leads to it.
    pub(super) fn unlink(&self, hash: u64, entry: u32) -> bool {
        let Some((step, bucket, slot)) = self.slot_of(hash, entry) else { return false };
        bucket.set_tag(slot, 0);
        bucket.entries[slot].store(NONE, Ordering::Release);
        for passed in 0..step {
            self.bucket(self.home(hash) + passed).passed_by.fetch_sub(1, Ordering::Relaxed);
        }
        true
    }

    fn slot_of(&self, hash: u64, entry: u32) -> Option<(usize, &Bucket, usize)> {
        let home = self.home(hash);
        (0..PROBE_BUCKETS_MAX).find_map(|step| {
            let bucket = self.bucket(home + step);
            let slot = (0..BUCKET_SLOTS)
                .find(|&slot| bucket.tag(slot) != 0 && bucket.entries[slot].load(Ordering::Relaxed) == entry)?;
            Some((step, bucket, slot))
        })
    }

    /// Every entry that a slot leads to.
    pub(super) fn linked(&self) -> impl Iterator<Item = u32> {
        self.buckets.iter().flat_map(|bucket| {
            (0..BUCKET_SLOTS)
                .filter(|&slot| bucket.tag(slot) != 0)
                .map(|slot| bucket.entries[slot].load(Ordering::Relaxed))
        })
    }

    /// Marks the destination of a cell in the front.
    pub(super) fn mark<K: Key>(&self, shape: &Shape<K>, key: K, secret: &Secret) {
        let hash =
            key.masked(K::mask(0, shape.dst_len)).keyed_hash(&Index::<K>::destination_hash(secret, shape.dst_len));
        self.front(hash).fetch_or(shape.front_bit(), Ordering::Relaxed);
    }

    /// The bytes reserved.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.bytes() + self.front.bytes()
    }

    /// Whether so many cells are more than these slots should hold.
    pub(super) fn is_crowded(&self, cells: usize) -> bool {
        cells > self.buckets.len() * LOAD_MAX
    }

    /// Empty slots for so many cells.
    pub(super) fn for_cells(cells: usize) -> Result<Slots, NoMemory> {
        Slots::new(cells)
    }
}
