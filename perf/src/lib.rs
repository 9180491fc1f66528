//! Load generators, benchmarks beside peers, capacity experiments.
