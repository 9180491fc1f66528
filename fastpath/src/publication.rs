//! Publication and reclamation: how one writer changes what many workers read without a lock, and when it may free
//! what it replaced (quiescent-state-based reclamation).
//!
//! Holding a [`Reader`] makes a thread one of the workers that the writer waits for. What it reads through a
//! [`Published`] root borrows the reader, so that at its next [`Reader::quiescent`] it can hold nothing of it any
//! more: the compiler sees to that. A [`Domain`] is shared by all writers of one router and hands out the epochs. A
//! [`Retired`] thing gives up its memory only to a [`Passed`], which only the domain makes.
//!
//! # The algorithm
//!
//! There is one global number, the *epoch*, and one number for each worker, what it has *seen*.
//!
//! - A writer **publishes** in three steps: it writes the new things (entries, a new root), each reachable by a
//!   release store but marked as born in epoch `E + 1` where a reader could meet them early; then it stores `E + 1`
//!   to the epoch (release, *store A*). What it unlinked is put on a list with the target `E + 1`.
//! - A worker reports **quiescence** once per burst: it loads the epoch (acquire, *load B*) and stores that value as
//!   seen (release, *store C*). It then reads roots, and of the things that carry a birth it uses only those born in
//!   the epoch it has seen or before.
//! - A worker that will sleep goes **offline**: it stores the mark `OFFLINE` as seen (release, *store D*). Before it
//!   reads anything again it comes **online**: it loads the epoch, stores it as seen (*store E*), executes a
//!   sequentially consistent fence (*fence F*), and then reports as always, which loads the epoch anew (*load I*).
//! - The writer **collects**: it executes a sequentially consistent fence (*fence G*) and loads what every worker has
//!   seen (acquire, *load H*). Things whose target every online worker has seen are free.
//!
//! # The races it excludes
//!
//! 1. *A batch is seen in part.* Store A pairs with load B: a worker that loads `E + 1` sees every store before store
//!    A, so all of the batch. A worker that loads `E` may meet stores of the batch, but skips what is born in `E + 1`
//!    and follows it to the version before, which is not freed before race 2 allows.
//! 2. *A thing is freed while a worker uses it.* Store C (or D) pairs with load H: all the reads that the worker made
//!    before its report happen before the free. After its report it cannot reach the thing again: it loaded an epoch
//!    of at least the target, so by race 1 it sees the unlinking.
//! 3. *A worker comes online while the writer collects.* Store E and the worker's later loads of roots against the
//!    writer's unlinking and load H are the store-buffering pattern, so acquire and release do not suffice. Fences F
//!    and G order them: either the writer's load H sees store E, and then waits for that worker; or fence G comes
//!    before fence F, and the worker's loads after F see everything that the writer unlinked before G. Load I is one
//!    of them: what was passed while the worker was away is not younger than the epoch it goes by, so it follows no
//!    birth to a version that was freed meanwhile, and sees no batch in part that was settled while it looked.
//! 4. *Two writers use one epoch.* A [`Publish`] holds the domain's lock from the choice of `E + 1` to store A. Only
//!    writers ever take it.
//!
//! A worker whose thread ends goes offline when its [`Reader`] is dropped, even by a panic, so it holds nothing back.
//! What a silent worker could hold back is bounded by the writers, which refuse to unlink beyond their limits.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::sync::{Arc, AtomicPtr, AtomicU64, Mutex, MutexGuard, Ordering, fence};

/// A worker is called stuck when it has not reported for so long.
pub const STUCK_AFTER_NS: u64 = 1_000_000_000;

/// A point in the order of all publications. The first is 1.
pub type Epoch = u64;

/// What a worker that holds nothing has "seen". Above every epoch, so that a minimum skips it.
const OFFLINE: u64 = u64::MAX;

/// One worker's line: nothing else shares it, so that its reports disturb nobody.
#[repr(align(128))]
struct Line {
    /// The epoch it has seen, or [`OFFLINE`].
    seen: AtomicU64,
    /// How often it has reported: what [`Watch`] looks at.
    reports: AtomicU64,
}

struct Shared {
    epoch: AtomicU64,
    lines: Vec<Line>,
    /// Held from the choice of an epoch to its store; by writers only.
    writer: Mutex<()>,
}

/// The writers' side: the epoch and what the workers have seen of it. Clones share both.
#[derive(Clone)]
pub struct Domain {
    shared: Arc<Shared>,
}

/// A place among the workers, to be taken by one thread with [`Place::join`]. Nobody waits for it until then.
pub struct Place {
    shared: Arc<Shared>,
    worker: usize,
}

/// A worker's side, online. Not `Clone` and not `Sync`: one thread reports for one line.
pub struct Reader {
    shared: Arc<Shared>,
    worker: usize,
    reports: u64,
    epoch: Epoch,
    not_sync: PhantomData<Cell<()>>,
}

/// A publication under way: no other one can choose an epoch until it is dropped.
pub struct Publish<'a> {
    domain: &'a Domain,
    epoch: Epoch,
    /// Never read: holding it is what matters.
    _guard: MutexGuard<'a, ()>,
}

/// Proof that every worker has passed an epoch.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    epoch: Epoch,
}

impl Passed {
    /// Whether what was unlinked with this target is free.
    #[must_use]
    pub fn covers(self, target: Epoch) -> bool {
        target <= self.epoch
    }
}

impl Domain {
    /// A domain for so many workers at epoch 1, and their places, in order.
    #[must_use]
    pub fn new(workers: usize) -> (Domain, Vec<Place>) {
        let lines = (0..workers).map(|_| Line { seen: AtomicU64::new(OFFLINE), reports: AtomicU64::new(0) }).collect();
        let shared = Arc::new(Shared { epoch: AtomicU64::new(1), lines, writer: Mutex::new(()) });
        let places = (0..workers).map(|worker| Place { shared: shared.clone(), worker }).collect();
        (Domain { shared }, places)
    }

    /// How many workers it has.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.lines.len()
    }

    /// Begins a publication: everything the caller writes for it is born in [`Publish::epoch`].
    #[must_use]
    pub fn publish(&self) -> Publish<'_> {
        // A panic of another writer cannot have left an epoch half chosen: it is stored in one step, at the end.
        let guard = self.shared.writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let epoch = self.shared.epoch.load(Ordering::Relaxed) + 1;
        Publish { domain: self, epoch, _guard: guard }
    }

    /// The newest publication.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch.load(Ordering::Acquire)
    }

    /// What every worker has passed.
    #[must_use]
    pub fn passed(&self) -> Passed {
        // Read before the fence: with no worker online, everything published up to here has been passed.
        let mut epoch = self.shared.epoch.load(Ordering::Acquire);
        // Fence G of the module's algorithm.
        fence(Ordering::SeqCst);
        for line in &self.shared.lines {
            // Load H, which pairs with stores C, D and E.
            epoch = epoch.min(line.seen.load(Ordering::Acquire));
        }
        Passed { epoch }
    }

    /// How often `worker` has reported, and whether it is online.
    fn report(&self, worker: usize) -> (u64, bool) {
        let line = &self.shared.lines[worker];
        (line.reports.load(Ordering::Relaxed), line.seen.load(Ordering::Relaxed) != OFFLINE)
    }
}

impl Publish<'_> {
    /// The epoch in which everything of this publication is born, and the target of what it unlinks.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Makes it visible: store A.
    pub fn commit(self) -> Epoch {
        self.domain.shared.epoch.store(self.epoch, Ordering::Release);
        self.epoch
    }
}

impl Place {
    /// The number of the worker.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Takes the place: from now on writers wait for this reader.
    #[must_use]
    pub fn join(self) -> Reader {
        let mut reader =
            Reader { shared: self.shared, worker: self.worker, reports: 0, epoch: 0, not_sync: PhantomData };
        reader.come_online();
        reader
    }
}

impl Reader {
    /// The number of this worker.
    #[inline]
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The epoch it sees.
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Reports that this worker holds nothing it reached before, and looks at the epoch again.
    #[inline]
    pub fn quiescent(&mut self) {
        // Load B, which pairs with store A.
        self.epoch = self.shared.epoch.load(Ordering::Acquire);
        let line = &self.shared.lines[self.worker];
        // Store C, which pairs with load H.
        line.seen.store(self.epoch, Ordering::Release);
        self.reports += 1;
        line.reports.store(self.reports, Ordering::Relaxed);
    }

    /// Runs `sleep` while nobody waits for this worker. It can read nothing meanwhile: the borrow sees to that.
    pub fn while_offline<R>(&mut self, sleep: impl FnOnce() -> R) -> R {
        // Store D, which pairs with load H.
        self.shared.lines[self.worker].seen.store(OFFLINE, Ordering::Release);
        let result = sleep();
        self.come_online();
        result
    }

    fn come_online(&mut self) {
        // Store E.
        self.quiescent();
        // Fence F of the module's algorithm: it orders store E before every later load of a root.
        fence(Ordering::SeqCst);
        // Load I: the epoch loaded before the fence may be one that others have passed since.
        self.quiescent();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Store D, which pairs with load H.
        self.shared.lines[self.worker].seen.store(OFFLINE, Ordering::Release);
    }
}

/// A root: the current one of a series of snapshots that never change. Dropping it drops the current one.
pub struct Published<T> {
    domain: Domain,
    current: AtomicPtr<T>,
    owns: PhantomData<Box<T>>,
}

// SAFETY: it owns a `T` and lends `&T` to threads that hold a reader, so both are as for `Arc<T>`.
unsafe impl<T: Send + Sync> Send for Published<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Published<T> {}

impl<T> Published<T> {
    /// A root at `first`, read by the workers of `domain`.
    #[must_use]
    pub fn new(domain: Domain, first: Box<T>) -> Published<T> {
        Published { domain, current: AtomicPtr::new(Box::into_raw(first)), owns: PhantomData }
    }

    /// The current snapshot. It stays until the reader's next report, which the borrow keeps off.
    #[inline]
    #[must_use]
    pub fn read<'r>(&'r self, reader: &'r Reader) -> &'r T {
        assert!(std::ptr::eq(&*self.domain.shared, &*reader.shared), "a reader of another domain");
        // Pairs with the release of `replace`, so that what the snapshot holds is seen with it.
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: the pointer came from a box. It is freed only through `Retired::free`, after every online reader
        // has seen an epoch of at least the replacement's (the module's race 2), and this reader, online while it
        // exists and is not in `while_offline`, cannot report while the result borrows it.
        unsafe { &*current }
    }

    /// The current snapshot, for the writer: it borrows the publication, which excludes every other.
    #[must_use]
    pub fn current<'p>(&'p self, publish: &'p Publish<'_>) -> &'p T {
        assert!(std::ptr::eq(&*self.domain.shared, &*publish.domain.shared), "a publication of another domain");
        // SAFETY: only `replace` changes the pointer, under a publication of this domain, which `publish` excludes
        // while it is borrowed; and what is current is not retired.
        unsafe { &*self.current.load(Ordering::Acquire) }
    }

    /// The current snapshot, for the last owner: no reader borrows it.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: the pointer came from a box and is not retired; `&mut self` excludes readers and writers.
        unsafe { &mut *self.current.load(Ordering::Acquire) }
    }

    /// Makes `next` the current snapshot, as part of `publish`, and gives back the one before.
    pub fn replace(&self, next: Box<T>, publish: &mut Publish<'_>) -> Retired<T> {
        assert!(std::ptr::eq(&*self.domain.shared, &*publish.domain.shared), "a publication of another domain");
        let before = self.current.swap(Box::into_raw(next), Ordering::AcqRel);
        // SAFETY: the pointer came from `Box::into_raw`, which is never null.
        Retired { thing: unsafe { NonNull::new_unchecked(before) }, target: publish.epoch(), owns: PhantomData }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::into_raw` and was not retired. No reader borrows it: `read` borrows
        // `self`.
        drop(unsafe { Box::from_raw(self.current.load(Ordering::Acquire)) });
    }
}

/// Something unlinked that workers may still use. Dropping it leaks the memory: only [`Retired::free`] may give it
/// back.
pub struct Retired<T> {
    thing: NonNull<T>,
    target: Epoch,
    owns: PhantomData<Box<T>>,
}

// SAFETY: it owns a `T` that threads may share, as `Arc<T>` does.
unsafe impl<T: Send + Sync> Send for Retired<T> {}

impl<T> Retired<T> {
    /// The epoch that every worker must have passed.
    #[must_use]
    pub fn target(&self) -> Epoch {
        self.target
    }

    /// The thing itself, once every worker has passed.
    ///
    /// # Errors
    /// Itself, where they have not.
    pub fn free(self, passed: Passed) -> Result<Box<T>, Retired<T>> {
        if !passed.covers(self.target) {
            return Err(self);
        }
        // SAFETY: the pointer came from `Box::into_raw` and is given back once, because `self` is consumed. No reader
        // uses it: `passed` proves that all have seen the epoch in which it was replaced (the module's race 2).
        Ok(unsafe { Box::from_raw(self.thing.as_ptr()) })
    }
}

/// Watches the workers' reports, to name one that has fallen silent. For the control core: it is told the time.
pub struct Watch {
    domain: Domain,
    /// For each worker the number of its reports when last looked at, and since when that has not changed.
    last: Vec<(u64, u64)>,
}

impl Watch {
    /// A watch over all workers of `domain`, which counts silence from `now_ns` on.
    #[must_use]
    pub fn new(domain: Domain, now_ns: u64) -> Watch {
        let last = (0..domain.workers()).map(|worker| (domain.report(worker).0, now_ns)).collect();
        Watch { domain, last }
    }

    /// The workers that are online and have not reported for [`STUCK_AFTER_NS`], lowest first.
    pub fn stuck(&mut self, now_ns: u64) -> Vec<usize> {
        let mut stuck = Vec::new();
        for (worker, (reports, since_ns)) in self.last.iter_mut().enumerate() {
            let (reports_now, online) = self.domain.report(worker);
            if reports_now != *reports || !online {
                (*reports, *since_ns) = (reports_now, now_ns);
            } else if now_ns.saturating_sub(*since_ns) >= STUCK_AFTER_NS {
                stuck.push(worker);
            }
        }
        stuck
    }
}
