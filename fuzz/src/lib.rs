//! Randomised attacks on everything that reads a stranger's bytes.
