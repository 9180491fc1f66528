//! The packet manipulation routines and the executor of accepted programs.
