//! The router daemon and its control core.
#![forbid(unsafe_code)]

pub mod config;
pub mod kernel;
