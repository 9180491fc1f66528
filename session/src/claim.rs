//! Signatures that are still to be verified, one by one or many at once.
//!
//! A [`Claim`] is small and owns what it needs, so that whoever has read a request can have its signature looked at
//! elsewhere, later. [`verify_all`] verifies many together, which costs about two thirds for each (35 against 52 µs, eight
//! or more, on an EPYC with AVX2): one sum with
//! unpredictable factors takes the place of an equation for each (Bernstein, Duif, Lange, Schwabe, Yang, "High-speed
//! high-security signatures", section 5). Where the sum does not come out, they are verified one by one.
//!
//! Both refuse keys of small order. Of a key that is none, its holder, and nobody else, can make signatures that the sum
//! takes and [`Claim::verify`] does not; they bind the holder all the same.

use crate::identity::PublicKey;
use crate::verify::RequestFault;
use ed25519_dalek::{Signature, VerifyingKey};

/// The most signatures of one sum; beyond it the cost of each hardly falls.
const BATCH_LEN_MAX: usize = 128;
/// So many are verified one by one: a sum has costs of its own.
const BATCH_LEN_MIN: usize = 8;

/// That a key signed a digest. Nothing is known about it before it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub(crate) key: PublicKey,
    pub(crate) digest: [u8; 32],
    pub(crate) signature: [u8; 64],
}

impl Claim {
    /// Whose signature it is said to be.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }
    /// What is said to be signed: the BLAKE3 of all fields, so that equal digests are equal requests.
    #[must_use]
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }
    /// Whether the key signed the digest.
    ///
    /// # Errors
    /// [`RequestFault::BadSignature`].
    pub fn verify(&self) -> Result<(), RequestFault> {
        if self.key.has_signed(&self.digest, &self.signature) { Ok(()) } else { Err(RequestFault::BadSignature) }
    }
}

/// For each claim, in order, whether it holds.
#[must_use]
pub fn verify_all(claims: &[Claim]) -> Vec<bool> {
    claims.chunks(BATCH_LEN_MAX).flat_map(verify_batch).collect()
}

fn verify_batch(claims: &[Claim]) -> Vec<bool> {
    if claims.len() >= BATCH_LEN_MIN && sum_comes_out(claims) {
        return vec![true; claims.len()];
    }
    claims.iter().map(|claim| claim.verify().is_ok()).collect()
}

fn sum_comes_out(claims: &[Claim]) -> bool {
    let mut keys: Vec<VerifyingKey> = Vec::with_capacity(claims.len());
    for (i, claim) in claims.iter().enumerate() {
        // Requests of one owner come together, and reading a key costs a square root.
        let known = i.checked_sub(1).filter(|&before| claims[before].key == claim.key).map(|before| keys[before]);
        match known.map_or_else(|| VerifyingKey::from_bytes(&claim.key.0), Ok) {
            Ok(key) if !key.is_weak() => keys.push(key),
            _ => return false,
        }
    }
    let digests: Vec<&[u8]> = claims.iter().map(|claim| &claim.digest[..]).collect();
    let signatures: Vec<Signature> = claims.iter().map(|claim| Signature::from_bytes(&claim.signature)).collect();
    ed25519_dalek::verify_batch(&digests, &signatures, &keys).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Withdraw, fresh_nonce};
    use crate::testing::{NOW_S, Random, Testbed, seed};

    fn claims(testbed: &Testbed, count: usize) -> Vec<Claim> {
        let router = testbed.router.public();
        let sign = |number| {
            let identity = if number % 3 == 0 { &testbed.router } else { &testbed.owner };
            let withdraw = Withdraw::sign(router, number, fresh_nonce().unwrap(), NOW_S, identity);
            withdraw.claim(identity.public())
        };
        (0..count as u64).map(sign).collect()
    }

    #[test]
    fn many_together_are_as_each_alone_whichever_are_wrong() {
        let testbed = Testbed::new();
        let seed = seed();
        let mut random = Random::new(seed);
        for count in [0, 1, BATCH_LEN_MIN - 1, BATCH_LEN_MIN, 30, BATCH_LEN_MAX + 5] {
            let mut claims = claims(&testbed, count);
            assert_eq!(verify_all(&claims), vec![true; count]);
            let mut expected = vec![true; count];
            let first = random.next() as usize;
            for nth in 0..count.min(3) {
                let at = first.wrapping_add(nth) % count;
                match random.below(4) {
                    0 => claims[at].digest[0] ^= 1,
                    1 => claims[at].signature[random.below(64) as usize] ^= 1,
                    2 => claims[at].key = PublicKey([0; 32]),
                    _ => claims[at].key = PublicKey([0xff; 32]),
                }
                expected[at] = false;
            }
            let each: Vec<bool> = claims.iter().map(|claim| claim.verify().is_ok()).collect();
            assert_eq!((&verify_all(&claims), &each), (&expected, &expected), "seed {seed}");
        }
    }

    #[test]
    fn a_key_of_small_order_has_signed_nothing() {
        let testbed = Testbed::new();
        let mut claims = claims(&testbed, 8);
        // The neutral element as key and as R, and 0 as s: the equation holds for every message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        claims[3].key = PublicKey(neutral);
        claims[3].signature = [0; 64];
        claims[3].signature[..32].copy_from_slice(&neutral);
        let mut expected = vec![true; 8];
        expected[3] = false;
        assert_eq!(verify_all(&claims), expected);
    }
}
