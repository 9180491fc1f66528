//! The middleware at the end user: the language and its compiler, replay over captures, and the way to a router.

#![forbid(unsafe_code)]

pub mod admin;
pub mod disasm;
pub mod file;
pub mod heads;
pub mod lang;
pub mod link;
pub mod pcap;
pub mod reach;
pub mod replay;
pub mod summary;
pub mod template;
pub mod tickets;
