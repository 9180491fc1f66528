//! Uploads that come in parts: what is there of them so far.
//!
//! A part counts where it follows on what is there, so a client that was cut off asks how much that is and goes on. What
//! is kept is bounded: so many objects and bytes of each owner, so many bytes in all, and each only for a while. Where an
//! owner begins one more than its most, its oldest gives way; where all have no room, the oldest that nobody has touched
//! lately. Nothing here is looked into before it is whole, and it counts only under its own name, a digest.

use std::collections::BTreeMap;

use ahash::AHashMap;
use vinet_session::message::{Part, Rejection, Upload, object_id};
use vinet_trusted::addr::Principal;

/// Objects of one owner.
pub const OBJECTS_PER_OWNER_MAX: usize = 2;
/// Bytes of all objects, as they announce them.
pub const STASH_BYTES_MAX: usize = 64 << 20;
/// For so long an object is kept after it was last touched, in milliseconds.
pub const OBJECT_TIME_MAX_MS: u64 = 600_000;
/// One that was touched so lately, in milliseconds, does not give way to another owner's.
const OBJECT_TIME_MIN_MS: u64 = 30_000;

type Name = (Principal, [u8; 32]);

#[derive(Debug)]
struct Object {
    len: usize,
    bytes: Vec<u8>,
    /// Its place among those that give way.
    touched: (u64, u64),
}

/// What is there.
#[derive(Debug)]
pub struct Stash {
    objects: AHashMap<Name, Object>,
    of_owner: AHashMap<Principal, Vec<[u8; 32]>>,
    /// By the time at which each was touched, and a number that makes it one of its kind.
    by_time: BTreeMap<(u64, u64), Name>,
    bytes: usize,
    bytes_max: usize,
    touches: u64,
}

fn rejected(code: &str, text: &str) -> Rejection {
    Rejection::new(code, text, None)
}

impl Stash {
    /// An empty stash for `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Stash {
        let (objects, of_owner) = (AHashMap::new(), AHashMap::new());
        Stash { objects, of_owner, by_time: BTreeMap::new(), bytes: 0, bytes_max, touches: 0 }
    }

    /// Bytes that are promised to objects.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a part in, where it follows; says how many bytes are there then.
    ///
    /// # Errors
    /// The length differs from that of the parts before, or there is no room.
    pub fn part(&mut self, owner: &Principal, part: &Part, now_ms: u64) -> Result<u32, Rejection> {
        let name = (*owner, part.object);
        let len = part.len as usize;
        if !self.objects.contains_key(&name) {
            if part.bytes.is_empty() {
                return Ok(0);
            }
            self.make_room(owner, len, now_ms)?;
            self.objects.insert(name, Object { len, bytes: Vec::new(), touched: (0, 0) });
            self.of_owner.entry(*owner).or_default().push(part.object);
            self.bytes += len;
        }
        self.touch(&name, now_ms);
        let Some(object) = self.objects.get_mut(&name) else { return Ok(0) };
        if object.len != len {
            return Err(rejected("part-differs", "the parts of one upload must say the same length"));
        }
        if part.offset as usize == object.bytes.len() {
            object.bytes.extend_from_slice(&part.bytes);
        }
        // No longer than its length, which is 32 bits.
        Ok(object.bytes.len() as u32)
    }

    /// The upload that is there in all its parts under its name. It stays, for a client that loses the answer.
    ///
    /// # Errors
    /// It is not there, not whole, or not what its name says.
    pub fn upload(&mut self, owner: &Principal, name: &[u8; 32], now_ms: u64) -> Result<Upload, Rejection> {
        let key = (*owner, *name);
        let Some(object) = self.objects.get(&key) else {
            return Err(rejected("unknown-object", "no part of this upload is here (any more); send its parts"));
        };
        let (have, len) = (object.bytes.len(), object.len);
        if have < len {
            let text = format!("{have} of the upload's {len} bytes are here; send the parts from there on");
            return Err(rejected("incomplete-object", &text));
        }
        let upload = (object_id(&object.bytes) == *name).then(|| Upload::decode(&object.bytes));
        let Some(Ok(upload)) = upload else {
            self.remove(&key);
            return Err(rejected("broken-object", "the parts do not make an upload of this name; send them again"));
        };
        self.touch(&key, now_ms);
        Ok(upload)
    }

    fn touch(&mut self, name: &Name, now_ms: u64) {
        let Some(object) = self.objects.get_mut(name) else { return };
        self.by_time.remove(&object.touched);
        self.touches += 1;
        object.touched = (now_ms, self.touches);
        self.by_time.insert(object.touched, *name);
    }

    fn make_room(&mut self, owner: &Principal, len: usize, now_ms: u64) -> Result<(), Rejection> {
        while self.of_owner.get(owner).is_some_and(|own| own.len() >= OBJECTS_PER_OWNER_MAX) {
            let oldest =
                self.of_owner[owner].iter().min_by_key(|name| self.objects[&(*owner, **name)].touched).copied();
            let Some(oldest) = oldest else { break };
            self.remove(&(*owner, oldest));
        }
        while self.bytes + len > self.bytes_max {
            match self.by_time.first_key_value() {
                Some((&(touched_ms, _), &name)) if now_ms.saturating_sub(touched_ms) > OBJECT_TIME_MIN_MS => {
                    self.remove(&name);
                }
                _ => return Err(rejected("busy", "too many uploads come in parts now; try again in a moment")),
            }
        }
        Ok(())
    }

    fn remove(&mut self, name: &Name) {
        let Some(object) = self.objects.remove(name) else { return };
        self.by_time.remove(&object.touched);
        self.bytes -= object.len;
        if let Some(own) = self.of_owner.get_mut(&name.0) {
            own.retain(|object| *object != name.1);
            if own.is_empty() {
                self.of_owner.remove(&name.0);
            }
        }
    }

    /// Lets go of what nobody has touched for long.
    pub fn expire(&mut self, now_ms: u64) {
        while let Some((&(touched_ms, _), &name)) = self.by_time.first_key_value() {
            if now_ms.saturating_sub(touched_ms) <= OBJECT_TIME_MAX_MS {
                return;
            }
            self.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vinet_trusted::addr::Addr;

    fn owner(number: u32) -> Principal {
        Principal::EndUser(Addr::V4(number))
    }
    fn part(object: u8, len: u32, offset: u32, bytes: &[u8]) -> Part {
        Part { object: [object; 32], len, offset, bytes: bytes.to_vec() }
    }
    fn code<T: std::fmt::Debug>(result: Result<T, Rejection>) -> String {
        result.unwrap_err().code().to_owned()
    }

    #[test]
    fn parts_follow_on_each_other_and_a_client_that_was_cut_off_asks_how_far_it_came() {
        let mut stash = Stash::new(100);
        assert_eq!(stash.part(&owner(1), &part(1, 10, 0, b""), 0), Ok(0));
        assert_eq!(stash.bytes(), 0, "asking takes no room");
        assert_eq!(stash.part(&owner(1), &part(1, 10, 0, b"0123"), 0), Ok(4));
        assert_eq!(stash.part(&owner(1), &part(1, 10, 6, b"67"), 0), Ok(4), "a gap");
        assert_eq!(stash.part(&owner(1), &part(1, 10, 0, b"0123"), 0), Ok(4), "once more");
        assert_eq!(stash.part(&owner(2), &part(1, 10, 0, b""), 0), Ok(0), "another owner's is another");
        assert_eq!(code(stash.part(&owner(1), &part(1, 11, 4, b"4"), 0)), "part-differs");
        assert_eq!(code(stash.upload(&owner(1), &[1; 32], 0)), "incomplete-object");
        assert_eq!(stash.part(&owner(1), &part(1, 10, 4, b"456789"), 0), Ok(10));
        // It is whole, and not what its name says.
        assert_eq!(code(stash.upload(&owner(1), &[1; 32], 0)), "broken-object");
        assert_eq!(code(stash.upload(&owner(1), &[1; 32], 0)), "unknown-object");
        assert_eq!(stash.bytes(), 0);
    }

    #[test]
    fn bytes_under_their_name_are_an_upload_only_if_they_can_be_read() {
        let mut stash = Stash::new(100);
        let object = object_id(b"rubbish");
        let whole = Part { object, len: 7, offset: 0, bytes: b"rubbish".to_vec() };
        assert_eq!(stash.part(&owner(1), &whole, 0), Ok(7));
        assert_eq!(code(stash.upload(&owner(1), &object, 0)), "broken-object");
    }

    #[test]
    fn an_owner_has_so_many_and_all_have_so_much_and_for_so_long() {
        let mut stash = Stash::new(40);
        for object in 1..=3 {
            stash.part(&owner(1), &part(object, 10, 0, b"x"), u64::from(object)).unwrap();
        }
        assert_eq!(stash.bytes(), 20, "the first gave way to the third");
        assert_eq!(stash.part(&owner(1), &part(1, 10, 0, b""), 4), Ok(0));
        assert_eq!(stash.part(&owner(1), &part(2, 10, 1, b"y"), 5), Ok(2));
        stash.part(&owner(2), &part(1, 20, 0, b"x"), 6).unwrap();
        // Everything was touched just now.
        assert_eq!(code(stash.part(&owner(3), &part(1, 10, 0, b"x"), 7)), "busy");
        // Later what was touched longest ago gives way: the first owner's third.
        let later = OBJECT_TIME_MIN_MS + 10;
        stash.part(&owner(3), &part(1, 10, 0, b"x"), later).unwrap();
        assert_eq!(stash.part(&owner(1), &part(3, 10, 0, b""), later), Ok(0));
        assert_eq!(stash.part(&owner(1), &part(2, 10, 0, b""), later), Ok(2));
        stash.expire(later + OBJECT_TIME_MAX_MS);
        assert_eq!(stash.bytes(), 20, "what was asked for last is still there");
        stash.expire(later + OBJECT_TIME_MAX_MS + 1);
        assert_eq!((stash.bytes(), stash.by_time.len(), stash.of_owner.len()), (0, 0, 0));
        assert_eq!(code(stash.part(&owner(3), &part(1, 41, 0, b"x"), later)), "busy", "larger than all");
    }
}
