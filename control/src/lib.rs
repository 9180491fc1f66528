//! The router daemon and its control core.

pub mod config;
