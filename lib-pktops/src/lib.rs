//! The packet manipulation routines, one in each file, and the executor of accepted programs.
//!
//! The way of a program: [`lower`] turns the checked bytes into a plan, [`exec`] runs the plan on packets that
//! [`parse`] has read. Nothing here has to be trusted: what a plan may do to a packet is asked of the gates of
//! `vinet_trusted` again. No input or output, no clock, no DPDK: the caller hands in frames and the time.
//!
//! Windows hold one packet, so a set of packets is either that packet or empty, and a program decides one thing:
//! whether the packet is dropped, by its two addresses and by which words its content has.
#![forbid(unsafe_code)]

mod address_classes;
pub mod checksum;
pub mod contains_string;
mod decision;
pub mod discard;
pub mod exec;
pub mod group_by_destination;
pub mod group_by_source;
pub mod lower;
pub mod parse;
pub mod reference;
#[cfg(test)]
mod samples;
pub mod stream;
mod tree;

pub use exec::{Executable, State, Verdict};
pub use lower::LowerError;
