//! The digests that are signed.
//!
//! Every signature of the protocol is Ed25519 over the 32 bytes of one BLAKE3 digest in key derivation mode, whose
//! context string names what is signed. Two kinds of things never share a digest, and every field is preceded by its
//! length, so that no two lists of fields share one either.

/// What is signed: the context strings of BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Domain {
    Certificate,
    RouterHandshake,
    OwnerHandshake,
    Policy,
    Upload,
    Withdraw,
    Renew,
    Receipt,
    /// Not signed: what the next receipt names.
    ReceiptLink,
    Credit,
    Quote,
    Reach,
    Alert,
    Revocations,
    Directory,
    /// Not signed: the name of an upload that comes in parts.
    Object,
    /// Not signed: a key.
    TagKey,
    /// Not signed: the key of a ticket.
    TicketKey,
    /// Not signed: the key of a sealed request.
    SealedRequest,
    /// Not signed: the key of its reply.
    SealedReply,
    /// Not signed: a secret name in the memory of sealed requests.
    SealedWindow,
}

impl Domain {
    const fn context(self) -> &'static str {
        match self {
            Domain::Certificate => "VInet 2026 session 1 certificate",
            Domain::RouterHandshake => "VInet 2026 session 1 handshake of a router",
            Domain::OwnerHandshake => "VInet 2026 session 1 handshake of an owner",
            Domain::Policy => "VInet 2026 session 2 policy",
            Domain::Upload => "VInet 2026 session 2 upload",
            Domain::Withdraw => "VInet 2026 session 1 withdraw",
            Domain::Renew => "VInet 2026 session 2 renewal",
            Domain::Receipt => "VInet 2026 session 2 receipt",
            Domain::ReceiptLink => "VInet 2026 session 2 receipt before",
            Domain::Credit => "VInet 2026 session 2 credit",
            Domain::Quote => "VInet 2026 session 2 quote",
            Domain::Reach => "VInet 2026 session 2 reach",
            Domain::Alert => "VInet 2026 session 2 alert",
            Domain::Revocations => "VInet 2026 session 2 revocations",
            Domain::Directory => "VInet 2026 session 2 directory",
            Domain::Object => "VInet 2026 session 2 object",
            Domain::TagKey => "VInet 2026 session 1 key of generated packets",
            Domain::TicketKey => "VInet 2026 session 1 key of a ticket",
            Domain::SealedRequest => "VInet 2026 session 1 key of a sealed request",
            Domain::SealedReply => "VInet 2026 session 1 key of a sealed reply",
            Domain::SealedWindow => "VInet 2026 session 1 memory of sealed requests",
        }
    }
}

/// A digest in the making.
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    pub(crate) fn new(domain: Domain) -> Digest {
        Digest(blake3::Hasher::new_derive_key(domain.context()))
    }
    /// One field: its length as eight bytes, the highest first, then its bytes.
    pub(crate) fn field(mut self, bytes: &[u8]) -> Digest {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }
    /// A number as a field of eight bytes, the highest first.
    pub(crate) fn number(self, value: u64) -> Digest {
        self.field(&value.to_be_bytes())
    }
    pub(crate) fn finish(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let digest = |fields: &[&[u8]]| {
            fields.iter().fold(Digest::new(Domain::Upload), |digest, field| digest.field(field)).finish()
        };
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"", b"a"]), digest(&[b"a", b""]));
        assert_ne!(digest(&[b"a"]), digest(&[b"a", b""]));
        assert_ne!(Digest::new(Domain::Policy).finish(), Digest::new(Domain::Upload).finish());
    }
}
