//! A small laboratory for the end-to-end stories: hosts in network namespaces, the real `vinetd` between them, the real `vinet`
//! and everybody's ping, curl and iperf3 at the ends.
//!
//! Nothing outlives a test. A host's namespace is held open by one process whose standard input is a pipe from the test, so it
//! goes when the test goes, however the test ends; programs started in it are killed by the kernel when the test's thread dies.
//! The stories need root, one lock on the machine, and the packages that `scripts/setup.sh run` installs.
#![forbid(unsafe_code)]

pub mod client;
pub mod frame;
pub mod host;
pub mod keys;
pub mod lab;
pub mod process;
pub mod router;
pub mod story;
pub mod traffic;
pub mod wire;
