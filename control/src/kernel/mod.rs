//! The Linux side of the router: its slow path, and the truth about routes and neighbours.
//!
//! ```text
//!   worker ── ring ── control ── Twin (a TAP) ── the kernel: ARP and ND, ping to the router, TCP to the control port
//!                        │
//!                        ├── Mirror   reads what the kernel knows: links, addresses, routes, neighbours ──> FIB
//!                        ├── Resolver makes the kernel look for a neighbour that a worker needs
//!                        └── Beneath  keeps the kernel off the device beneath an af_packet or af_xdp port
//! ```
//!
//! The kernel is the one place where addresses, routes and neighbours are held, whoever put them there: the
//! configuration, an operator with `ip route`, or a routing daemon. Nothing here polls or waits, but for requests that
//! the kernel answers at once; every descriptor is non-blocking and made for edge-triggered readiness: call again while
//! there is more. What is opened belongs to the network namespace of the thread that opens it.

pub mod beneath;
pub mod device;
pub mod mirror;
pub mod netlink;
mod nft;
pub mod resolve;
mod routes;
mod state;
mod sysctl;
pub mod tap;

pub use sysctl::{Ip, SysctlError};

/// The number of a port: its place in the configuration.
pub type PortIndex = u16;
