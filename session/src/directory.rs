//! The directory: which router controls which sources, signed by the authority.
//!
//! A client that is given one finds the routers that its programs belong on. Of two entries that hold an address the one
//! with the longer prefix counts, so that a testbed may name a router for a campus and another for one of its halls. A
//! [`SignedDirectory`] is only parsed; a [`Directory`] that [`SignedDirectory::verify`] gave out is the authority's word.
//! It says who is to be asked, no more: whether a router controls a source is that router's to know, and its certificate
//! is looked at when it is met.

use crate::cbor::{self, Canonical, Malformed, Reader, Writer};
use crate::certificate::is_name;
use crate::digest::{Digest, Domain};
use crate::identity::{Authority, AuthorityKey, PublicKey};
use crate::limits::{DIRECTORY_ENTRIES_MAX, ENDPOINTS_MAX, NAME_BYTES_MAX};
use crate::verify::RequestFault;
use std::fmt;
use std::net::SocketAddr;
use vinet_trusted::addr::{Addr, Prefix};

/// The router of one prefix of sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The sources.
    pub prefix: Prefix,
    /// The name in the router's certificate.
    pub router_name: String,
    /// Where its control port is, the best first: 1 to [`ENDPOINTS_MAX`].
    pub endpoints: Vec<SocketAddr>,
}

impl Canonical for DirectoryEntry {
    fn write(&self, w: &mut Writer) {
        w.array(3).item(&self.prefix).text(&self.router_name).array(self.endpoints.len());
        for endpoint in &self.endpoints {
            w.item(endpoint);
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<DirectoryEntry, Malformed> {
        const EXPECTED: &str = "an entry: [prefix, the router's name, 1 to 4 endpoints]";
        let malformed = r.malformed(EXPECTED);
        r.array(3, EXPECTED)?;
        let prefix = r.item()?;
        let router_name = r.text(NAME_BYTES_MAX, EXPECTED)?.to_owned();
        let count = r.array_up_to(ENDPOINTS_MAX, EXPECTED)?;
        let endpoints: Vec<SocketAddr> = (0..count).map(|_| r.item()).collect::<Result<_, _>>()?;
        if endpoints.is_empty() || !is_name(&router_name) {
            return Err(malformed);
        }
        Ok(DirectoryEntry { prefix, router_name, endpoints })
    }
}

/// Which router controls which sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    number: u64,
    issued_s: u64,
    entries: Vec<DirectoryEntry>,
}

/// Why entries make no directory. Whoever wrote them is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryError {
    /// More than [`DIRECTORY_ENTRIES_MAX`].
    TooMany(usize),
    /// Two entries are for one prefix.
    Twice(Prefix),
    /// An entry has no endpoint, or more than [`ENDPOINTS_MAX`].
    Endpoints(Prefix),
    /// A router's name is none.
    Name(String),
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::TooMany(count) => {
                write!(f, "{count} entries; a directory has at most {DIRECTORY_ENTRIES_MAX}")
            }
            DirectoryError::Twice(prefix) => {
                write!(f, "two routers for {prefix}; the sources of a prefix belong to one")
            }
            DirectoryError::Endpoints(prefix) => {
                write!(f, "the router of {prefix} needs 1 to {ENDPOINTS_MAX} endpoints (ADDRESS:PORT)")
            }
            DirectoryError::Name(name) => write!(
                f,
                "`{}` is no name of a router: expected 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`",
                name.escape_debug()
            ),
        }
    }
}

impl std::error::Error for DirectoryError {}

impl Directory {
    /// The directory of `entries`, in any order. `number` has to be above that of the one before; `issued_s` is the Unix
    /// second of its making.
    ///
    /// # Errors
    /// The first entry that cannot stand.
    pub fn new(number: u64, issued_s: u64, mut entries: Vec<DirectoryEntry>) -> Result<Directory, DirectoryError> {
        if entries.len() > DIRECTORY_ENTRIES_MAX {
            return Err(DirectoryError::TooMany(entries.len()));
        }
        for entry in &entries {
            if !is_name(&entry.router_name) {
                return Err(DirectoryError::Name(entry.router_name.chars().take(80).collect()));
            }
            if entry.endpoints.is_empty() || entry.endpoints.len() > ENDPOINTS_MAX {
                return Err(DirectoryError::Endpoints(entry.prefix));
            }
        }
        entries.sort_by_key(|entry| entry.prefix);
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].prefix == pair[1].prefix) {
            return Err(DirectoryError::Twice(pair[0].prefix));
        }
        Ok(Directory { number, issued_s, entries })
    }
    /// Its number: of two directories the one with the higher counts.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }
    /// The Unix second of its making.
    #[must_use]
    pub const fn issued_s(&self) -> u64 {
        self.issued_s
    }
    /// The entries, by rising prefix.
    #[must_use]
    pub fn entries(&self) -> &[DirectoryEntry] {
        &self.entries
    }
    /// The entry of the source `addr`: the one with the longest prefix that holds it.
    #[must_use]
    pub fn lookup(&self, addr: Addr) -> Option<&DirectoryEntry> {
        self.covering(Prefix::host(addr))
    }
    /// The entry with the longest prefix that holds all of `prefix`.
    #[must_use]
    pub fn covering(&self, prefix: Prefix) -> Option<&DirectoryEntry> {
        (0..=prefix.len()).rev().find_map(|len| {
            let wanted = Prefix::of(prefix.addr(), len)?;
            let at = self.entries.binary_search_by_key(&wanted, |entry| entry.prefix).ok()?;
            Some(&self.entries[at])
        })
    }
    /// Every entry that has to do with the sources of `prefix`: the one that holds all of it, if any, then those within it.
    pub fn routers_of(&self, prefix: Prefix) -> impl Iterator<Item = &DirectoryEntry> {
        let within = self.entries.iter().filter(move |e| prefix.covers(e.prefix) && e.prefix != prefix);
        self.covering(prefix).into_iter().chain(within)
    }
}

impl Canonical for Directory {
    fn write(&self, w: &mut Writer) {
        w.array(3).uint(self.number).uint(self.issued_s).array(self.entries.len());
        for entry in &self.entries {
            w.item(entry);
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Directory, Malformed> {
        const EXPECTED: &str = "a directory: [number, seconds, entries by rising prefix within their limit]";
        let malformed = r.malformed(EXPECTED);
        r.array(3, EXPECTED)?;
        let number = r.u64("the number of a directory")?;
        let issued_s = r.u64("the second of a directory's making")?;
        let count = r.array_up_to(DIRECTORY_ENTRIES_MAX, EXPECTED)?;
        let mut entries: Vec<DirectoryEntry> = Vec::new();
        for _ in 0..count {
            let entry: DirectoryEntry = r.item()?;
            if entries.last().is_some_and(|last| last.prefix >= entry.prefix) {
                return Err(malformed);
            }
            entries.push(entry);
        }
        Ok(Directory { number, issued_s, entries })
    }
}

/// A directory with its authority's signature, which has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDirectory {
    authority: PublicKey,
    directory: Directory,
    signature: [u8; 64],
}

impl SignedDirectory {
    /// Signs `directory`.
    #[must_use]
    pub fn sign(directory: Directory, authority: &AuthorityKey) -> SignedDirectory {
        let public = authority.authority().key();
        let signature = authority.sign(&SignedDirectory::digest(&public, &directory));
        SignedDirectory { authority: public, directory, signature }
    }
    fn digest(authority: &PublicKey, directory: &Directory) -> [u8; 32] {
        Digest::new(Domain::Directory).field(&authority.0).field(&cbor::to_bytes(directory)).finish()
    }
    /// What it says, unverified.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }
    /// What it says, if `authority` signed it.
    ///
    /// # Errors
    /// [`RequestFault::WrongAuthority`] or [`RequestFault::BadSignature`].
    pub fn verify(&self, authority: &Authority) -> Result<&Directory, RequestFault> {
        if self.authority != authority.key() {
            return Err(RequestFault::WrongAuthority { found: self.authority });
        }
        if !self.authority.has_signed(&SignedDirectory::digest(&self.authority, &self.directory), &self.signature) {
            return Err(RequestFault::BadSignature);
        }
        Ok(&self.directory)
    }
    /// The one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }
    /// The directory of these bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<SignedDirectory, Malformed> {
        cbor::from_bytes(bytes)
    }
}

impl Canonical for SignedDirectory {
    fn write(&self, w: &mut Writer) {
        w.array(3).bytes(&self.authority.0).item(&self.directory).bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<SignedDirectory, Malformed> {
        r.array(3, "a signed directory of 3 items")?;
        Ok(SignedDirectory {
            authority: PublicKey(r.fixed("the authority's key of 32 bytes")?),
            directory: r.item()?,
            signature: r.fixed("a signature of 64 bytes")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MESSAGE_BYTES_MAX;
    use crate::testing::{NOW_S, Random, Testbed, every_bit, seed};
    use std::net::IpAddr;

    fn prefix(text: &str) -> Prefix {
        let (addr, len) = text.split_once('/').unwrap();
        Prefix::new(addr.parse::<IpAddr>().unwrap().into(), len.parse().unwrap()).unwrap()
    }

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn entry(text: &str, name: &str) -> DirectoryEntry {
        let endpoints = vec!["203.0.113.1:7400".parse().unwrap(), "[2001:db8::1]:7400".parse().unwrap()];
        DirectoryEntry { prefix: prefix(text), router_name: name.to_owned(), endpoints }
    }

    fn directory() -> Directory {
        let entries = vec![
            entry("2001:db8::/32", "six"),
            entry("198.51.100.0/24", "campus"),
            entry("198.51.100.128/25", "hall"),
            entry("10.0.0.0/8", "inner"),
        ];
        Directory::new(2, NOW_S, entries).unwrap()
    }

    #[test]
    fn the_longest_prefix_names_the_router() {
        let directory = directory();
        let at = |text: &str| directory.lookup(addr(text)).map(|entry| entry.router_name.as_str());
        assert_eq!(at("198.51.100.5"), Some("campus"));
        assert_eq!(at("198.51.100.128"), Some("hall"));
        assert_eq!(at("10.255.0.1"), Some("inner"));
        assert_eq!(at("2001:db8:ffff::"), Some("six"));
        assert_eq!(at("11.0.0.1"), None);
        assert_eq!(at("::"), None);
        let of =
            |text: &str| directory.routers_of(prefix(text)).map(|entry| entry.router_name.as_str()).collect::<Vec<_>>();
        assert_eq!(of("198.51.100.0/24"), ["campus", "hall"]);
        assert_eq!(of("198.51.100.0/25"), ["campus"]);
        assert_eq!(of("198.51.100.192/26"), ["hall"]);
        assert_eq!(of("0.0.0.0/0"), ["inner", "campus", "hall"]);
        assert_eq!(of("192.0.2.0/24"), [] as [&str; 0]);
    }

    #[test]
    fn lookups_agree_with_a_search_through_all_entries() {
        let seed = seed();
        let mut random = Random::new(seed);
        for _ in 0..200 {
            let mut entries: Vec<DirectoryEntry> = (0..random.below(12))
                .map(|_| {
                    let bits = random.next() as u32 & 0x0300_0003;
                    let prefix = Prefix::of(Addr::V4(bits), random.below(33) as u8).unwrap();
                    DirectoryEntry { prefix, ..entry("10.0.0.0/8", "r") }
                })
                .collect();
            entries.sort_by_key(|e| e.prefix);
            entries.dedup_by_key(|e| e.prefix);
            let directory = Directory::new(1, 1, entries.clone()).unwrap();
            for _ in 0..20 {
                let source = Addr::V4(random.next() as u32 & 0x0300_0003);
                let plain = entries.iter().filter(|e| e.prefix.contains(source)).max_by_key(|e| e.prefix.len());
                assert_eq!(directory.lookup(source), plain, "seed {seed}");
            }
        }
    }

    #[test]
    fn directories_are_their_authoritys_word_to_the_bit() {
        let testbed = Testbed::new();
        let signed = SignedDirectory::sign(directory(), &testbed.authority_key);
        assert_eq!(SignedDirectory::decode(&signed.encode()), Ok(signed.clone()));
        assert_eq!(signed.verify(&testbed.authority), Ok(&directory()));
        assert_eq!(signed.verify(&Testbed::new().authority).unwrap_err().code(), "wrong-authority");
        every_bit(&signed.encode(), |changed| {
            SignedDirectory::decode(changed).is_ok_and(|signed| signed.verify(&testbed.authority).is_ok())
        });
    }

    #[test]
    fn entries_that_cannot_stand_are_named() {
        let new = |entries| Directory::new(1, 1, entries);
        let twice = vec![entry("10.0.0.0/8", "a"), entry("10.0.0.0/8", "b")];
        assert_eq!(new(twice.clone()), Err(DirectoryError::Twice(prefix("10.0.0.0/8"))));
        let nowhere = DirectoryEntry { endpoints: Vec::new(), ..entry("10.0.0.0/8", "a") };
        assert_eq!(new(vec![nowhere.clone()]), Err(DirectoryError::Endpoints(prefix("10.0.0.0/8"))));
        assert!(matches!(new(vec![entry("10.0.0.0/8", "a b")]), Err(DirectoryError::Name(_))));
        // Nor are they read.
        for entries in [twice, vec![nowhere], vec![entry("10.0.0.0/8", "a b")]] {
            let bytes = cbor::to_bytes(&Directory { number: 1, issued_s: 1, entries });
            assert!(cbor::from_bytes::<Directory>(&bytes).is_err());
        }
    }

    #[test]
    fn a_full_directory_fits_into_a_message() {
        let testbed = Testbed::new();
        let entries = |count: usize| -> Vec<DirectoryEntry> {
            let endpoint = SocketAddr::from((std::net::Ipv6Addr::from(u128::MAX), u16::MAX));
            let router_name = "n".repeat(NAME_BYTES_MAX);
            (0..count)
                .map(|i| DirectoryEntry {
                    prefix: Prefix::host(Addr::V6(i as u128)),
                    router_name: router_name.clone(),
                    endpoints: vec![endpoint; ENDPOINTS_MAX],
                })
                .collect()
        };
        let full = Directory::new(u64::MAX, u64::MAX, entries(DIRECTORY_ENTRIES_MAX)).unwrap();
        let signed = SignedDirectory::sign(full, &testbed.authority_key);
        assert!(signed.encode().len() + 64 <= MESSAGE_BYTES_MAX);
        let over = entries(DIRECTORY_ENTRIES_MAX + 1);
        assert_eq!(Directory::new(1, 1, over), Err(DirectoryError::TooMany(DIRECTORY_ENTRIES_MAX + 1)));
    }
}
