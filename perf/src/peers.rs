//! The peers: DPDK programs that are run as they are, from Debian's packages.

pub mod l3fwd;
pub mod rte_hash;
pub mod testpmd;
