//! The packet manipulation routines, one in each file, and the executor of accepted programs.
//!
//! The way of a program: [`lower`] turns the checked bytes into a plan, [`exec`] runs the plan on packets that
//! [`parse`] has read. Nothing here has to be trusted: what a plan may do to a packet is asked of the gates of
//! `vinet_trusted` again. No input or output, no clock, no DPDK: the caller hands in frames and the time.
//!
//! A program on windows of one packet that looks at addresses, headers and words decides one thing, and runs as a
//! table or a lowered plan; every other program runs as it is written, on windows of up to 256 packets (`walk`).
//! What a program generates becomes packets in [`datagram`], and what it took together packets again in [`rebuild`].
#![forbid(unsafe_code)]

mod address_classes;
pub mod checksum;
pub mod contains_string;
mod count_string;
pub mod datagram;
mod decision;
pub mod discard;
pub mod equals;
pub mod exec;
mod few_words;
mod flow_index;
pub mod generate;
pub mod group_by_content;
pub mod group_by_destination;
pub mod group_by_source;
pub mod lower;
mod lowerings;
mod many_words;
pub mod packet;
pub mod packet_set;
pub mod parse;
pub mod rebuild;
pub mod reference;
#[cfg(test)]
mod samples;
pub mod select;
mod simplify;
pub mod stream;
mod tree;
mod walk;

pub use exec::{Executable, State, Verdict};
pub use lower::LowerError;
pub use lowerings::Lowerings;
