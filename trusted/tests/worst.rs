//! The worst that 4 KiB of program and proof can do: time is looked for by a search, memory is counted.
//!
//! Times are printed, and only a gross excess is an error: the bar is held by `vinet-perf verify` on a quiet machine.

mod common;
use common::nasty::{NASTY_BYTES_MAX, Nasty, families, random_steps};
use common::{Random, end_user, me, none, this_ip};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};
use vinet_trusted::check::{Reject, check};
use vinet_trusted::packet::Field;

/// Counts what the thread at hand has of the heap.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let _ = NOW.try_with(|now| {
        now.set(now.get() + change);
        MOST.with(|most| most.set(most.get().max(now.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MEMORY_MAX: isize = 1 << 20;

/// The time of the fastest of some checks, the most memory that one had, and its outcome.
fn measure(nasty: &Nasty, repeats: usize) -> (Duration, isize, Result<(), Reject>) {
    assert!(nasty.program.len() + nasty.proof.len() <= NASTY_BYTES_MAX);
    let (policy, store) = (end_user(), none());
    let (mut best, mut most) = (Duration::MAX, 0);
    let mut outcome = Ok(());
    for _ in 0..repeats {
        let before = NOW.with(Cell::get);
        MOST.with(|most| most.set(before));
        let started = Instant::now();
        outcome = check(black_box(&nasty.program), black_box(&nasty.proof), me(), &policy, &store).map(drop);
        best = best.min(started.elapsed());
        most = most.max(MOST.with(Cell::get) - before);
    }
    (best, most, outcome)
}

#[test]
fn four_kibibytes_take_little_time_and_memory() {
    let mut r = Random::seeded(0x5eed_0004);
    let mut all: Vec<(Duration, isize, String)> = Vec::new();
    for nasty in families() {
        let (time, memory, outcome) = measure(&nasty, 5);
        let outcome = outcome.err().map_or("accepted".into(), |e| e.to_string());
        all.push((time, memory, format!("{} ({}: {outcome})", nasty.name, nasty.program.len() + nasty.proof.len())));
    }
    assert!(all.len() > 20, "families are dropped for their length");
    // A search: the worst so far is changed and kept where it became worse.
    let program = common::program(&[], vec![common::select(1, 0, Field::Dst, this_ip())]).encode();
    let room = NASTY_BYTES_MAX - program.len();
    let mut worst = Nasty { name: "found by search", proof: random_steps(&mut r, room), program };
    let (mut time, mut memory, _) = measure(&worst, 1);
    for _ in 0..3000 {
        let mut changed = worst.clone();
        let at = r.below(room);
        let len = (1 + r.below(64)).min(room - at);
        let from = r.below(room - len);
        let steps = if r.one_in(2) { random_steps(&mut r, len) } else { worst.proof[from..from + len].to_vec() };
        changed.proof.splice(at..at + len, steps);
        changed.proof.truncate(room);
        let (new_time, new_memory, _) = measure(&changed, 2);
        if new_time > time {
            (worst, time, memory) = (changed, new_time, memory.max(new_memory));
        }
    }
    let (time, _, _) = measure(&worst, 5);
    all.push((time, memory, worst.name.into()));
    all.sort_unstable_by_key(|(time, ..)| std::cmp::Reverse(*time));
    for (time, memory, what) in &all {
        println!("{time:>12.1?} {memory:>9} B  {what}");
        assert!(*memory <= MEMORY_MAX, "{memory} bytes of memory: {what}");
        assert!(*time < Duration::from_millis(100), "{time:?}: {what}");
    }
}
