//! The last resort: every page of a file that redb cannot open.
//!
//! A leaf of redb's trees (its design document, "Leaf page") begins with a one, a reserved byte and the number of its
//! entries, then the ends of values, the keys, the values. Which table a leaf belongs to follows from the width of its
//! keys and from whether its values can be read as that table's. Pages that were replaced are still in the file, so that a
//! record can come in several states; each state is written once.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use ahash::RandomState;
use serde_json::Value;
use vinet_session::identity::PublicKey;

use super::super::VALUE_BYTES_MAX;
use super::super::codec::AccountRow;
use super::super::keeper::HEAD_BYTES;
use super::{account, credit, program, put_at, receipt, request, state};

const PAGE_BYTES: u64 = 4096;
/// The most bytes of a leaf: one value, and what is around it.
const LEAF_BYTES_MAX: usize = VALUE_BYTES_MAX + PAGE_BYTES as usize;

/// Writes every record of every leaf in `file`.
pub(super) fn pages(file: &File, record: &mut dyn FnMut(Value) -> io::Result<()>) -> io::Result<()> {
    let mut scan = Scan { owners: Vec::new(), heads: Vec::new(), seen: HashSet::new(), hasher: RandomState::new() };
    // Programs name their owners and first bytes by number, so those come first.
    each_leaf(file, |leaf| {
        for (key, value) in leaf.entries(4) {
            let number = u32::from_le_bytes(key.try_into().unwrap_or_default());
            if let Some(row) = AccountRow::decode(value) {
                put_at(&mut scan.owners, number, row.key);
            } else if value.len() == HEAD_BYTES {
                put_at(&mut scan.heads, number, value.to_vec());
            }
        }
        Ok(())
    })?;
    let owners: Vec<PublicKey> = scan.owners.drain(..).map(|key| key.unwrap_or(PublicKey([0; 32]))).collect();
    let heads: Vec<Vec<u8>> = scan.heads.drain(..).map(Option::unwrap_or_default).collect();
    each_leaf(file, |leaf| {
        let mut best: Vec<Value> = Vec::new();
        let forms: [(usize, Form<'_>); 5] = [
            (4, &|key, value| Some(account(u32::from_le_bytes(key.try_into().ok()?), &AccountRow::decode(value)?))),
            (8, &|key, value| program(u64::from_le_bytes(key.try_into().ok()?), value, &owners, &heads)),
            (12, &|_, value| receipt(value)),
            (24, &|key, value| credit(key, value, &owners)),
            (28, &|key, value| request(key, value, &owners)),
        ];
        for (width, form) in forms {
            let found: Vec<Value> = leaf.entries(width).filter_map(|(key, value)| form(key, value)).collect();
            if found.len() > best.len() {
                best = found;
            }
        }
        if best.is_empty() {
            best = leaf.named("state").filter_map(state).collect();
        }
        for found in best {
            if scan.seen.insert(scan.hasher.hash_one(found.to_string())) {
                record(found)?;
            }
        }
        Ok(())
    })
}

/// What a key and its value are as a record of one table, if they are one.
type Form<'f> = &'f dyn Fn(&[u8], &[u8]) -> Option<Value>;

struct Scan {
    owners: Vec<Option<PublicKey>>,
    heads: Vec<Option<Vec<u8>>>,
    seen: HashSet<u64>,
    hasher: RandomState,
}

fn each_leaf(file: &File, mut with: impl FnMut(&Leaf<'_>) -> io::Result<()>) -> io::Result<()> {
    let len = file.metadata()?.len();
    let mut bytes = Vec::new();
    for at in (0..len).step_by(PAGE_BYTES as usize) {
        let mut head = [0; 4];
        if len - at < 4 {
            break;
        }
        file.read_exact_at(&mut head, at)?;
        let entries = usize::from(u16::from_le_bytes([head[2], head[3]]));
        if head[0] != 1 || entries == 0 {
            continue;
        }
        bytes.resize(LEAF_BYTES_MAX.min((len - at) as usize).min(PAGE_BYTES as usize), 0);
        file.read_exact_at(&mut bytes, at)?;
        // A leaf longer than a page holds one long value, whose end is at its front.
        let ends = Leaf { bytes: &bytes, entries }.end(entries - 1).unwrap_or(0);
        if ends > bytes.len() && ends <= LEAF_BYTES_MAX && ends as u64 <= len - at {
            bytes.resize(ends, 0);
            file.read_exact_at(&mut bytes, at)?;
        }
        with(&Leaf { bytes: &bytes, entries })?;
    }
    Ok(())
}

/// What may be a leaf.
struct Leaf<'b> {
    bytes: &'b [u8],
    entries: usize,
}

impl<'b> Leaf<'b> {
    /// The `n`-th of the ends at the front.
    fn end(&self, n: usize) -> Option<usize> {
        let at = 4 + 4 * n;
        let end = self.bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(end.try_into().ok()?) as usize)
    }

    /// The entries, if its keys have `width` bytes each and its values any number.
    fn entries(&self, width: usize) -> impl Iterator<Item = (&'b [u8], &'b [u8])> {
        let keys = 4 + 4 * self.entries;
        (0..self.entries).filter_map(move |n| {
            let key = self.bytes.get(keys + n * width..keys + (n + 1) * width)?;
            let begin = if n == 0 { keys + self.entries * width } else { self.end(n - 1)? };
            Some((key, self.bytes.get(begin..self.end(n)?)?))
        })
    }

    /// The value of the key `name`, if its keys have any number of bytes and it is the only one.
    fn named(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        let value = || {
            let (keys, key_end, end) = (4 + 8 * self.entries, self.end(0)?, self.end(self.entries)?);
            let key = self.bytes.get(keys..key_end)?;
            (self.entries == 1 && key == name.as_bytes()).then(|| self.bytes.get(key_end..end))?
        };
        value().into_iter()
    }
}
