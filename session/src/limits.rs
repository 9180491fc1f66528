//! The limits of the protocol: sizes in bytes, times in seconds or milliseconds.
//!
//! Every one of them is part of the protocol: both ends hold them, and `docs/PROTOCOL.md` lists them.

/// The most bytes of a Noise message of the handshake.
pub const HANDSHAKE_BYTES_MAX: usize = 2048;
/// The most bytes of a certificate.
pub const CERTIFICATE_BYTES_MAX: usize = 1024;
/// The bytes of a message that one frame carries; only the last frame of a message may carry fewer.
pub const PIECE_BYTES_MAX: usize = 16 * 1024;
/// The most bytes of a request or reply.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The most bytes of a proof in a request.
pub const PROOF_BYTES_MAX: usize = 512 * 1024;
/// The backlog of bytes to send from which on an end reads no more.
pub const BACKLOG_BYTES_MAX: usize = 1024 * 1024;
/// The most programs that one list names.
pub const LIST_LEN_MAX: usize = 4096;
/// The most bytes of the text of a rejection.
pub const TEXT_BYTES_MAX: usize = 1024;
/// The most bytes of the code of a rejection.
pub const CODE_BYTES_MAX: usize = 64;
/// The most bytes of the name of a router or an authority.
pub const NAME_BYTES_MAX: usize = 64;
/// The most addresses of a router in its certificate.
pub const ROUTER_ADDRS_MAX: usize = 16;
/// How long a handshake may take, in milliseconds.
pub const HANDSHAKE_TIME_MAX_MS: u64 = 10_000;
/// How long a message that has begun may take to arrive in full, in milliseconds.
pub const MESSAGE_TIME_MAX_MS: u64 = 30_000;
/// How long a session may be silent, in milliseconds.
pub const IDLE_TIME_MAX_MS: u64 = 120_000;
/// How long the peer may take none of the bytes that wait for it, in milliseconds.
pub const STALL_TIME_MAX_MS: u64 = 30_000;
/// How far ahead the expiry of a signed request may be, in seconds.
pub const UPLOAD_EXPIRY_MAX_S: u64 = 300;
/// The most bytes of an identity or authority file.
pub const FILE_BYTES_MAX: u64 = 64 * 1024;
