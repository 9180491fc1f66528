//! Randomised attacks on everything that reads a stranger's bytes.
//!
//! Each target is a function of bytes that panics when what it looks at misbehaves, in a file of its own that opens by
//! saying what it does not cover. `cargo test -p vinet-fuzz` feeds each one with damaged inputs of its corpus for a
//! fixed number of runs; `VINET_FUZZ_SEED` repeats a run, `VINET_FUZZ_RUNS` multiplies its length. The damage knows the
//! corpus but not the code's coverage: a coverage-guided fuzzer finds more, and can call the same functions, because
//! `fuzz_target!(|data: &[u8]| { vinet_fuzz::bytecode::target(data); })` is all that it needs. What a target gives back is
//! whether the input got past the reader.

#![forbid(unsafe_code)]

pub mod bytecode;
pub mod capture;
pub mod message;
pub mod packet;
pub mod policy;
pub mod proof;
pub mod random;
pub mod sealed;
pub mod session;
pub mod worker;

mod frames;
mod programs;
mod runner;

pub use runner::run;
