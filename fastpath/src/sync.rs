//! The atomics that publication is written with.
//!
//! `publication.rs` names them through this module so that the loom test can compile the very same file against loom's.

pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
