//! The commands that talk to a router, over loopback against a router of this test: a real session, the real checker,
//! a list in memory in place of a data path.

mod lab;
mod money;
mod routers;
mod sealed;
mod sessions;
mod vfirewall;
mod watch;
