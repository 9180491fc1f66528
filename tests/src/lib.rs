//! End-to-end stories over the real binaries.
