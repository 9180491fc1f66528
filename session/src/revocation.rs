//! Revocation: the authority's signed list of keys that no longer count.
//!
//! A list is whole, not a change: the one with the higher number stands in the place of the other. It may come by
//! anyone's hands, for its signature says what it is. A [`RevocationList`] is only parsed until
//! [`RevocationList::verify`] has looked at it.
//!
//! Left out: how fresh a list is. Who keeps newer ones from a router keeps revoked keys alive there until their
//! certificates expire.

use crate::cbor::{self, Canonical, Malformed, Reader, Writer};
use crate::digest::{Digest, Domain};
use crate::identity::{Authority, AuthorityKey, PublicKey};
use crate::limits::REVOKED_MAX;
use crate::verify::RequestFault;

/// The keys that an authority has revoked so far. The signature has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    authority: PublicKey,
    number: u64,
    issued_s: u64,
    keys: Vec<PublicKey>,
    signature: [u8; 64],
}

impl RevocationList {
    /// Signs the list of `keys`, in any order, with repetitions or not. `number` has to be above that of the list before;
    /// `issued_s` is the Unix second of its making. `None` where there are more than [`REVOKED_MAX`].
    #[must_use]
    pub fn sign(
        number: u64,
        issued_s: u64,
        mut keys: Vec<PublicKey>,
        authority: &AuthorityKey,
    ) -> Option<RevocationList> {
        keys.sort_unstable();
        keys.dedup();
        if keys.len() > REVOKED_MAX {
            return None;
        }
        let public = authority.authority().key();
        let mut list = RevocationList { authority: public, number, issued_s, keys, signature: [0; 64] };
        list.signature = authority.sign(&list.digest());
        Some(list)
    }
    fn digest(&self) -> [u8; 32] {
        Digest::new(Domain::Revocations)
            .field(&self.authority.0)
            .number(self.number)
            .number(self.issued_s)
            .field(&self.joined())
            .finish()
    }
    fn joined(&self) -> Vec<u8> {
        self.keys.iter().flat_map(|key| key.0).collect()
    }
    /// The authority that it names.
    #[must_use]
    pub const fn authority(&self) -> PublicKey {
        self.authority
    }
    /// Its number: of two lists the one with the higher counts.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }
    /// The Unix second of its making.
    #[must_use]
    pub const fn issued_s(&self) -> u64 {
        self.issued_s
    }
    /// The keys, rising.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }
    /// Whether `key` is on it.
    #[must_use]
    pub fn revokes(&self, key: &PublicKey) -> bool {
        self.keys.binary_search(key).is_ok()
    }
    /// The list, if `authority` signed it.
    ///
    /// # Errors
    /// [`RequestFault::WrongAuthority`] or [`RequestFault::BadSignature`].
    pub fn verify(&self, authority: &Authority) -> Result<&RevocationList, RequestFault> {
        if self.authority != authority.key() {
            return Err(RequestFault::WrongAuthority { found: self.authority });
        }
        if !self.authority.has_signed(&self.digest(), &self.signature) {
            return Err(RequestFault::BadSignature);
        }
        Ok(self)
    }
    /// The one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_bytes(self)
    }
    /// The list of these bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<RevocationList, Malformed> {
        cbor::from_bytes(bytes)
    }
}

impl Canonical for RevocationList {
    fn write(&self, w: &mut Writer) {
        w.array(5).bytes(&self.authority.0).uint(self.number).uint(self.issued_s).bytes(&self.joined());
        w.bytes(&self.signature);
    }
    fn read(r: &mut Reader<'_>) -> Result<RevocationList, Malformed> {
        const EXPECTED: &str = "revoked keys of 32 bytes each, rising, within their limit";
        r.array(5, "a list of revoked keys of 5 items")?;
        let authority = PublicKey(r.fixed("the authority's key of 32 bytes")?);
        let number = r.u64("the number of a list")?;
        let issued_s = r.u64("the second of a list's making")?;
        let malformed = r.malformed(EXPECTED);
        let joined = r.bytes(32 * REVOKED_MAX, EXPECTED)?;
        let (keys, rest) = joined.as_chunks::<32>();
        let keys: Vec<PublicKey> = keys.iter().map(|key| PublicKey(*key)).collect();
        if !rest.is_empty() || !keys.is_sorted_by(|a, b| a < b) {
            return Err(malformed);
        }
        let signature = r.fixed("a signature of 64 bytes")?;
        Ok(RevocationList { authority, number, issued_s, keys, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MESSAGE_BYTES_MAX;
    use crate::testing::{NOW_S, Random, Testbed, every_bit, seed};

    #[test]
    fn a_list_names_the_keys_that_were_revoked_in_whatever_order() {
        let testbed = Testbed::new();
        let seed = seed();
        let mut random = Random::new(seed);
        let keys: Vec<PublicKey> = (0..200).map(|_| PublicKey(random.bytes(32).try_into().unwrap())).collect();
        let twice: Vec<PublicKey> = keys.iter().chain(keys.iter().rev()).copied().collect();
        let list = RevocationList::sign(3, NOW_S, twice, &testbed.authority_key).unwrap();
        assert_eq!((list.keys().len(), list.number(), list.issued_s()), (200, 3, NOW_S));
        assert!(keys.iter().all(|key| list.revokes(key)), "seed {seed}");
        assert!(!list.revokes(&testbed.owner.public()));
        assert_eq!(RevocationList::decode(&list.encode()), Ok(list.clone()));
        assert_eq!(list.verify(&testbed.authority), Ok(&list));
        let stranger = Testbed::new();
        assert_eq!(list.verify(&stranger.authority).unwrap_err().code(), "wrong-authority");
        let mut forged = RevocationList::sign(4, NOW_S, keys, &stranger.authority_key).unwrap();
        forged.authority = testbed.authority.key();
        assert_eq!(forged.verify(&testbed.authority), Err(RequestFault::BadSignature));
    }

    #[test]
    fn no_bit_of_a_list_can_be_changed() {
        let testbed = Testbed::new();
        let keys = vec![testbed.owner.public(), testbed.router.public()];
        let list = RevocationList::sign(1, NOW_S, keys, &testbed.authority_key).unwrap();
        every_bit(&list.encode(), |changed| {
            RevocationList::decode(changed).is_ok_and(|list| list.verify(&testbed.authority).is_ok())
        });
    }

    #[test]
    fn only_rising_keys_of_whole_length_are_read_and_a_full_list_fits_into_a_message() {
        let testbed = Testbed::new();
        let list = |keys: Vec<PublicKey>| RevocationList {
            authority: testbed.authority.key(),
            number: u64::MAX,
            issued_s: u64::MAX,
            keys,
            signature: [0; 64],
        };
        let key = |byte: u8| PublicKey([byte; 32]);
        assert!(RevocationList::decode(&list(vec![key(1), key(2)]).encode()).is_ok());
        assert!(RevocationList::decode(&list(vec![key(2), key(1)]).encode()).is_err());
        assert!(RevocationList::decode(&list(vec![key(1), key(1)]).encode()).is_err());
        let mut w = Writer::new();
        w.array(5).bytes(&[1; 32]).uint(1).uint(1).bytes(&[7; 33]).bytes(&[0; 64]);
        assert!(RevocationList::decode(&w.finish()).is_err());
        let many = |count: usize| {
            (0..count).map(|i| PublicKey(std::array::from_fn(|at| i.to_be_bytes().get(at).copied().unwrap_or(0))))
        };
        let full = list(many(REVOKED_MAX).collect());
        assert!(RevocationList::decode(&full.encode()).is_ok() && full.encode().len() + 64 <= MESSAGE_BYTES_MAX);
        let over: Vec<PublicKey> = many(REVOKED_MAX + 1).collect();
        assert!(RevocationList::decode(&list(over.clone()).encode()).is_err());
        assert!(RevocationList::sign(1, 1, over, &testbed.authority_key).is_none());
    }
}
