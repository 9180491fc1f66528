//! The trusted base: bytecode, its reference meaning, policy, proof rules and the checker.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod addr;
pub mod program;
pub mod wire;
