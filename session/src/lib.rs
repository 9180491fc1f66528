//! The client-server protocol, sans-I/O, both ends.
//!
//! A [`Client`] and a [`Server`] are state machines: bytes and the time go in, bytes and events come out; they open no
//! socket and read no clock. What they speak is written down byte by byte in `docs/PROTOCOL.md`. Holding an
//! [`identity::Ownership`] proves that a testbed's authority bound a key to an address or prefix and that the
//! certificate was valid when it was looked at; a [`Server`] gives one out only after its peer has signed this very
//! handshake with that key.
//!
//! Beside the sessions the crate holds what both ends need to agree on: signed requests and replies ([`message`]), what
//! a router checks before it looks at a program ([`verify`]), the key of what a program generates ([`tag_key`]), and the
//! text form of policies ([`policy_file`]).
//!
//! Left out: return routability, sessions sealed and carried by the client, payment.

#![forbid(unsafe_code)]

mod cbor;
mod certificate;
mod digest;
mod frame;
mod hex;
mod signed;
#[cfg(test)]
mod testing;
mod text;
#[cfg(test)]
mod vectors;

pub mod ends;
pub mod error;
pub mod files;
pub mod formula;
pub mod handshake;
pub mod identity;
pub mod limits;
pub mod message;
pub mod policy_file;
pub mod tag_key;
pub mod verify;

pub use ends::{Client, ClientEvent, Now, Server, ServerEvent};
pub use error::SessionError;
pub use identity::{
    Authority, AuthorityKey, Certificate, CertificateFault, Identity, IdentityError, Ownership, PublicKey, RouterId,
    RouterPeer, Subject, Validity, parse_principal,
};
pub use message::{
    Class, LemmaPlace, NewLemma, ProgramStatus, Receipt, ReceiptTerms, Rejection, Reply, Request, SignedPolicy, Terms,
    Upload, Withdraw, fresh_nonce,
};
pub use verify::{AuthenticUpload, NonceCache, RequestFault, verify_upload, verify_withdraw};
