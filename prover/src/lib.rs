//! Makers of certificates: untrusted.
