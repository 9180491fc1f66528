//! The fast path: ports, workers, flow table, forwarding, publication and counters.
//!
//! One worker polls its receive queue of every port and runs each packet to completion (`worker.rs`, to be read top to
//! bottom). What workers read (the [`flow_table`] and the [`fib`]) is published by the control core as snapshots that
//! never change, and freed only when every worker has passed ([`publication`]). [`router`] starts it all.

pub mod eal;
pub mod port;

pub mod clock;
pub mod counters;
mod distributor;
pub mod drop_reason;
pub mod expander;
pub mod fib;
pub mod flow_table;
pub mod fragment;
pub mod hold;
pub mod icmp;
mod judge;
pub mod link;
pub mod pinning;
pub mod publication;
pub mod queue;
pub mod region;
pub mod router;
pub mod settings;
pub mod slow_path;
pub mod station;
pub(crate) mod sync;
pub mod trace;
mod window;
mod worker;
