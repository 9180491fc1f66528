//! Publication and reclamation under loom: every interleaving and every value that the memory orderings allow.
//!
//! The file under test is compiled here against loom's atomics, so no `--cfg loom` is needed and nothing else of the
//! crate is in the model. What is not covered: more than two workers, and the counters and rings, which have tests of
//! their own.

#![allow(dead_code, missing_docs)]

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
}
#[path = "../src/publication.rs"]
mod publication;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use publication::{Domain, Published};

/// Something that loom watches: a read that does not happen before the free is reported as a race.
struct Thing(UnsafeCell<u64>);

impl Thing {
    fn boxed(value: u64) -> Box<Thing> {
        Box::new(Thing(UnsafeCell::new(value)))
    }
    fn value(&self) -> u64 {
        // SAFETY: loom's cell checks what publication claims: nobody writes while this reads.
        self.0.with(|value| unsafe { *value })
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        // SAFETY: dropped by its owner; loom's cell checks that every read happened before.
        self.0.with_mut(|value| unsafe { *value = u64::MAX });
    }
}

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// Race 2, over online reports.
#[test]
fn a_replaced_thing_is_freed_only_after_every_reader_passed() {
    model(|| {
        let (domain, mut places) = Domain::new(1);
        let root = Arc::new(Published::new(domain.clone(), Thing::boxed(1)));
        let mut reader = places.remove(0).join();
        let worker = {
            let root = root.clone();
            thread::spawn(move || {
                assert!(root.read(&reader).value() <= 2);
                reader.quiescent();
                let seen = root.read(&reader).value();
                assert!(seen == 2 || reader.epoch() == 1);
                reader.quiescent();
                assert!(root.read(&reader).value() <= 2);
            })
        };
        let mut publish = domain.publish();
        let mut retired = Some(root.replace(Thing::boxed(2), &mut publish));
        publish.commit();
        for _ in 0..2 {
            let Some(thing) = retired.take() else { break };
            match thing.free(domain.passed()) {
                Ok(freed) => assert_eq!(freed.value(), 1),
                Err(thing) => retired = Some(thing),
            }
            thread::yield_now();
        }
        worker.join().expect("the worker does not panic");
        if let Some(thing) = retired {
            assert!(thing.free(domain.passed()).is_ok(), "a worker that is gone holds nothing back");
        }
    });
}

/// Race 3: the store-buffering pattern between coming online and collecting.
#[test]
fn a_worker_that_comes_online_never_meets_a_freed_thing() {
    model(|| {
        let (domain, mut places) = Domain::new(1);
        let root = Arc::new(Published::new(domain.clone(), Thing::boxed(1)));
        let mut reader = places.remove(0).join();
        let worker = {
            let root = root.clone();
            thread::spawn(move || {
                reader.while_offline(|| ());
                assert!(root.read(&reader).value() <= 2);
            })
        };
        let mut publish = domain.publish();
        let retired = root.replace(Thing::boxed(2), &mut publish);
        publish.commit();
        let left = retired.free(domain.passed()).err();
        worker.join().expect("the worker does not panic");
        if let Some(left) = left {
            assert!(left.free(domain.passed()).is_ok());
        }
    });
}

/// Race 3 at the start: a worker takes its place while the writer collects.
#[test]
fn a_worker_that_joins_never_meets_a_freed_thing() {
    model(|| {
        let (domain, mut places) = Domain::new(2);
        let root = Arc::new(Published::new(domain.clone(), Thing::boxed(1)));
        let place = places.remove(0);
        let worker = {
            let root = root.clone();
            thread::spawn(move || {
                let reader = place.join();
                assert!(root.read(&reader).value() <= 2);
            })
        };
        let mut publish = domain.publish();
        let retired = root.replace(Thing::boxed(2), &mut publish);
        publish.commit();
        drop(retired.free(domain.passed()));
        worker.join().expect("the worker does not panic");
    });
}

/// Race 1: both cells of a batch or neither, in the way of the flow table: entries carry their birth.
#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    model(|| {
        let (domain, mut places) = Domain::new(1);
        let cells = Arc::new([AtomicU64::new(1), AtomicU64::new(1)]);
        let mut reader = places.remove(0).join();
        let worker = {
            let cells = cells.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let sees = |cell: &AtomicU64| {
                        let birth = cell.load(Ordering::Acquire);
                        birth == 2 && birth <= reader.epoch()
                    };
                    let (first, second) = (sees(&cells[0]), sees(&cells[1]));
                    assert_eq!(first, second);
                    assert_eq!(first, reader.epoch() >= 2);
                    reader.quiescent();
                }
            })
        };
        let publish = domain.publish();
        for cell in cells.iter() {
            cell.store(publish.epoch(), Ordering::Release);
        }
        publish.commit();
        worker.join().expect("the worker does not panic");
    });
}

/// Race 3, in the way of the flow table: what was settled because every worker had passed an epoch is not met by one
/// that came online meanwhile and goes by an epoch before.
#[test]
fn a_worker_comes_online_in_no_epoch_before_what_was_passed() {
    model(|| {
        let (domain, mut places) = Domain::new(1);
        let settled = Arc::new(AtomicU64::new(0));
        let place = places.remove(0);
        let worker = {
            let settled = settled.clone();
            thread::spawn(move || {
                let reader = place.join();
                assert!(settled.load(Ordering::Relaxed) <= reader.epoch());
            })
        };
        let target = domain.publish().commit();
        if domain.passed().covers(target) {
            settled.store(target, Ordering::Relaxed);
        }
        worker.join().expect("the worker does not panic");
    });
}

/// Race 4: two writers, each with a root of its own, never share an epoch, and a reader is never shown half of one.
#[test]
fn two_writers_take_different_epochs() {
    model(|| {
        let (domain, _places) = Domain::new(1);
        let other = domain.clone();
        let writer = thread::spawn(move || other.publish().commit());
        let mine = domain.publish().commit();
        let theirs = writer.join().expect("the writer does not panic");
        assert_eq!(mine.max(theirs), 3);
        assert_ne!(mine, theirs);
    });
}
