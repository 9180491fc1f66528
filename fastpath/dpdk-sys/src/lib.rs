//! Raw bindings to DPDK 22.11 and a shim for its inline functions.
