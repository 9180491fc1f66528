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
/// The most receipts of one answer.
pub const RECEIPTS_MAX: usize = 1024;
/// The most events of one answer.
pub const EVENTS_MAX: usize = 256;
/// The most bytes of an upload that comes in parts.
pub const OBJECT_BYTES_MAX: usize = MESSAGE_BYTES_MAX;
/// The most bytes of one part of it.
pub const PART_BYTES_MAX: usize = 64 * 1024;
/// The most keys of a list of revoked ones: what fits into a message.
pub const REVOKED_MAX: usize = 32_000;
/// The most entries of a directory.
pub const DIRECTORY_ENTRIES_MAX: usize = 4096;
/// The most endpoints of a router in a directory.
pub const ENDPOINTS_MAX: usize = 4;
/// The most bytes of the datagram of an alert.
pub const ALERT_BYTES_MAX: usize = 1200;
/// The most bytes of the text of an alert.
pub const ALERT_TEXT_BYTES_MAX: usize = 256;
/// The port of a user's firewall daemon: TCP for the machine's own applications, UDP for alerts.
pub const VFIREWALL_PORT: u16 = 7402;
/// The most bytes of the text of a rejection or an event.
pub const TEXT_BYTES_MAX: usize = 1024;
/// The most bytes of the code of a rejection, an event or an alert.
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
/// The most bytes of an identity, authority, bank or credit file.
pub const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The most bytes of a file with a list of revoked keys or a directory: a message in hexadecimal digits, and comments.
pub const LIST_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
