//! Makers of certificates: the automatic prover, the static analyser, the text form of proofs, and the search for
//! counterexamples. None of it is trusted.
#![forbid(unsafe_code)]

pub mod analyse;
pub mod corpus;
pub mod counterexample;
pub mod explain;
mod figures;
mod guide;
pub mod hint;
pub mod library;
pub mod script;
mod search;
pub mod words;
pub mod write;

pub use analyse::{AnalysisFailed, analyse};
pub use figures::figures;
pub use guide::{NotProven, prove};
pub use library::library;
