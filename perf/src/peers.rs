//! The peers: programs of others that are run as they are, from Debian's packages.

pub mod hyperscan;
pub mod l3fwd;
pub mod rte_hash;
pub mod testpmd;
