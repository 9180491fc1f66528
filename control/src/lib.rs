//! The router daemon and its control core.
