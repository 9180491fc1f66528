//! The fast path: ports, workers, flow table, forwarding, publication and counters.

pub mod port;
