//! The router daemon and its control core.
#![forbid(unsafe_code)]

pub mod admin;
pub mod admission;
pub mod capacity;
pub mod config;
pub mod judges;
pub mod kernel;
pub mod lock;
pub mod log;
pub mod plane;
pub mod policies;
pub mod server;
pub mod wheel;
