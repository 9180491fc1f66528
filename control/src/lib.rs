//! The router daemon and its control core.
//!
//! [`daemon`] starts and ends a router; [`core`] is its one event loop, around [`server`] (strangers' sessions),
//! [`admission`] (which programs run) with the [`judges`] (proof checks off the loop) and [`lemmas`] (what proofs may cite), [`plane`] (the workers' way to
//! the kernel and back, over [`kernel`]), [`admin`] (the operator's socket) and [`metrics`] (what Prometheus is told). [`doctor`] says what a node lacks before that. Workers and ports are
//! the kernel and back, over [`kernel`]) and [`admin`] (the operator's socket). [`ledger`] keeps accounts and
//! [`store`] what must outlive the process. [`doctor`] says what a node lacks before that. Workers and ports are
//! `vinet-fastpath`'s; the protocol itself is `vinet-session`'s.
//! [`office`] (what is done about their requests, stage by stage), [`plane`] (the workers' way to the kernel and back,
//! over [`kernel`]), [`admin`] (the operator's socket) and [`metrics`] (what Prometheus is told). The office has
//! [`admission`] (which programs run, and who pays), with the [`scheduler`] and the [`judges`] before it (whose check is
//! next; checks off the loop), [`lookahead`] and [`capacity`] beside it (who gets what there is), [`sources`] and
//! [`reach`] (against whom, and by whom really), and [`ledger`] and [`store`] behind it (what is paid, what is kept).
//! [`restore`] has everything back before a port opens. [`doctor`] says what a node lacks before that. Workers and ports
//! are `vinet-fastpath`'s; the protocol itself is `vinet-session`'s.
#![forbid(unsafe_code)]

pub mod admin;
pub mod admission;
pub mod alerts;
pub mod bucket;
pub mod capacity;
pub mod census;
pub mod config;
pub mod core;
pub mod daemon;
pub mod data_path;
pub mod doctor;
pub mod events;
pub mod judges;
pub mod kernel;
pub mod ledger;
pub mod lemmas;
pub mod lock;
pub mod log;
pub mod lookahead;
pub mod metrics;
pub mod notify;
pub mod office;
pub mod plane;
pub mod policies;
pub mod rate;
pub mod reach;
pub mod reload;
pub mod requests;
pub mod restore;
pub mod revoked;
pub mod scheduler;
pub mod server;
pub mod shut_off;
pub mod sources;
pub mod stash;
pub mod store;
pub mod wheel;
