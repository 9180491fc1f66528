//! How much memory a piece of work takes at most, what is held now, and what a thread asks of the allocator: an allocator
//! that counts while it is asked to.
//!
//! When it does not count, an allocation costs two loads more than the system's, so that timings are those of the system's
//! allocator. It is Rust's allocator: what C code takes for itself is not seen.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The system's allocator, counting while [`peak`] runs.
pub struct Counting;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Calls of the allocator by watched threads.
static WATCHED_CALLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is watched. It has no destructor and no lazy start, so that the allocator may look at it.
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Counts the calls of the calling thread from now on.
pub fn watch_this_thread() {
    IS_WATCHED.set(true);
}

/// How often watched threads have called the allocator, for whatever.
pub fn watched_calls() -> u64 {
    WATCHED_CALLS.load(Relaxed)
}

/// Counts what is held from now on, from nothing.
pub fn count_held() {
    HELD.store(0, Relaxed);
    IS_COUNTING.store(true, Relaxed);
}

/// Leaves out of the count what is taken and given back until [`go_on_counting`], so that it costs nothing.
pub fn pause_counting() {
    IS_COUNTING.store(false, Relaxed);
}

/// Counts again, from what was held at the pause.
pub fn go_on_counting() {
    IS_COUNTING.store(true, Relaxed);
}

/// Bytes held by all threads, of those taken since [`count_held`].
pub fn held() -> usize {
    HELD.load(Relaxed)
}

fn called() {
    if IS_WATCHED.get() {
        WATCHED_CALLS.fetch_add(1, Relaxed);
    }
}

fn took(bytes: usize) {
    called();
    if IS_COUNTING.load(Relaxed) {
        PEAK.fetch_max(HELD.fetch_add(bytes, Relaxed).saturating_add(bytes), Relaxed);
    }
}

fn gave(bytes: usize) {
    called();
    if IS_COUNTING.load(Relaxed) {
        // What was taken before counting began may be given back now: the count stops at nothing.
        let _ = HELD.fetch_update(Relaxed, Relaxed, |held| Some(held.saturating_sub(bytes)));
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches atomics alone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old piece and the new one may be there at once.
        took(size);
        gave(layout.size());
        // SAFETY: the caller keeps the contract of `realloc`, which is the same.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// What `work` gives, and the most bytes that it held at once, whatever thread took them.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HELD.store(0, Relaxed);
    PEAK.store(0, Relaxed);
    IS_COUNTING.store(true, Relaxed);
    let result = work();
    IS_COUNTING.store(false, Relaxed);
    (result, PEAK.load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_a_watched_thread_are_counted_and_no_others() {
        let watched = std::thread::spawn(|| {
            watch_this_thread();
            let before = watched_calls();
            let others = std::thread::spawn(|| drop(std::hint::black_box(vec![0u8; 1000])));
            others.join().expect("it allocates, unwatched");
            let started = watched_calls();
            drop(std::hint::black_box(vec![0u8; 1000]));
            drop(std::hint::black_box(Vec::<u8>::new()));
            (started - before, watched_calls() - started)
        });
        let (spawning, one_vector) = watched.join().expect("it allocates");
        assert!(spawning > 0);
        assert_eq!(one_vector, 2, "one piece taken and given back");
    }
}
