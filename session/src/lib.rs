//! The client-server protocol, sans-I/O, both ends.
