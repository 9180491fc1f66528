//! The client-server protocol, sans-I/O, both ends.
//!
//! A [`Client`] and a [`Server`] are state machines: bytes and the time go in, bytes and events come out; they open no
//! socket and read no clock. What they speak is written down byte by byte in `docs/PROTOCOL.md`. Holding an
//! [`identity::Ownership`] proves that a testbed's authority bound a key to an address or prefix and that the
//! certificate was valid when it was looked at; a [`Server`] gives one out only after its peer has signed this very
//! handshake with that key.
//!
//! Beside the sessions the crate holds what both ends need to agree on: signed requests and replies ([`message`]), what
//! a router checks before it looks at a program ([`verify`]), money ([`payment`]) and what was done with it
//! ([`receipt`]), the authority's lists of revoked keys ([`revocation`]) and of routers ([`directory`]), return
//! routability ([`reach`]), alerts ([`alert`]), the plan of an experiment ([`topology`]), the key of what a program generates ([`tag_key`]), and the text form of
//! policies ([`policy_file`]).
//!
//! A session lasts as long as its connection, or is sealed into a [`Ticket`] that the client carries, so that the router
//! keeps nothing between two requests ([`Client::resume`]).
//!
//! Left out: the ledger, and every other memory that a router has to keep.

#![forbid(unsafe_code)]

mod cbor;
mod certificate;
mod claim;
mod digest;
mod door;
mod frame;
mod hex;
mod rejection;
mod sealed;
mod signed;
#[cfg(test)]
mod testing;
mod text;
mod ticket;
#[cfg(test)]
mod vectors;
mod window;

pub mod alert;
pub mod directory;
pub mod ends;
pub mod error;
pub mod files;
pub mod formula;
pub mod handshake;
pub mod identity;
pub mod limits;
pub mod message;
pub mod payment;
pub mod policy_file;
pub mod reach;
pub mod receipt;
pub mod revocation;
pub mod tag_key;
pub mod topology;
pub mod verify;

pub use alert::{Alert, AlertTerms};
pub use claim::{Claim, verify_all};
pub use directory::{Directory, DirectoryEntry, SignedDirectory};
pub use door::{Door, EPOCH_MS, SealedCounters, Standing};
pub use ends::{Client, ClientEvent, Now, Server, ServerEvent};
pub use error::{SealedFault, SessionError};
pub use identity::{
    Authority, AuthorityKey, Certificate, CertificateFault, Identity, IdentityError, Ownership, PublicKey, RouterId,
    RouterPeer, Subject, Validity, parse_principal,
};
pub use message::{
    Class, Event, LemmaPlace, NewLemma, Part, ProgramStatus, Rejection, Renew, Reply, Request, SignedPolicy, Terms,
    Upload, Withdraw, fresh_nonce, object_id,
};
pub use payment::{Bank, BankKey, Credit, CreditFault, CreditTerms, Quote, QuoteAsk, QuoteTerms, Tariff};
pub use reach::{ReachAnswer, ReachDatagram};
pub use receipt::{ChainFault, ChainHead, Ending, Installed, Receipt, ReceiptSubject, ReceiptTerms, verify_chain};
pub use revocation::RevocationList;
pub use ticket::{TICKET_BYTES, Ticket, TicketFault, TicketGrant};
pub use verify::{
    AuthenticUpload, NonceCache, RequestFault, check_expiry, check_renew, check_upload, check_withdraw, verify_renew,
    verify_upload, verify_withdraw,
};
pub use window::{FRESH_MS, WINDOW_LEN_MAX};
