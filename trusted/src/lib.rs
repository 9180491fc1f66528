//! The trusted base: all that has to be right for a router to be safe from the programs that it runs.
//!
//! A program ([`program`]) is canonical bytecode whose meaning is the reference interpreter ([`meaning`]). A policy
//! ([`policy`]) says which events are allowed. From the program's bytes, its owner and the policy the router computes
//! what has to be shown ([`walk`]); a certificate shows it by the rules of a small calculus ([`logic`]); the checker
//! ([`check`]) makes a `Checked` of nothing else; and only through the gates ([`gate`]) does a `Checked` have an effect.
//! No I/O, no unsafe code, no dependency but BLAKE3.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod addr;
pub mod check;
pub mod cost;
pub mod gate;
pub mod lemma;
pub mod logic;
pub mod meaning;
pub mod packet;
pub mod policy;
pub mod program;
pub mod proof;
pub mod term;
mod theory;
pub mod walk;
pub mod wire;
