//! The packet manipulation routines, one in each file, and the executor of accepted programs.
//!
//! No input or output, no clock, no DPDK: the caller hands in frames and the time.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod parse;
