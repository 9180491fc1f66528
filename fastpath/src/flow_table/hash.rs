//! The hash that cells are found by: keyed with a secret, so that nobody outside can pick addresses that collide.
//!
//! Where the processor has AES instructions, a hash is four rounds of AES with secret, independent round keys on the
//! pair, between secret whitening of each use of its own ([`Tweak`]); the 32 bytes of an IPv6 pair are absorbed 16 at
//! a time, four rounds for each. Two different inputs meet in the whole state with a probability of at most 2^-113,
//! whatever an attacker picks without seeing hashes (L. Keliher, J. Sui, "Exact maximum expected differential and
//! linear probability for 2-round AES", 2007, for the bound on four rounds). Elsewhere it is a chain of 64-bit
//! multiplications by secret odd numbers, each folded to 64 bits; that has no such bound, but no structure that is
//! known to survive secret keys.
//!
//! The compiler's default target has no AES, so the look-up is compiled twice and chosen once a burst
//! ([`Hasher::Aes`] is only made where the processor has what it needs).

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_xor_si128,
};

use super::key::Key;
use super::slots::TagWords;
use super::wanted;

/// Random words behind one hasher.
const SECRET_WORDS: usize = 20;

/// What makes one use of a hash different from every other: secret, 128 bits.
#[derive(Clone, Copy)]
pub(super) struct Tweak([u64; 2]);

/// A way to hash, and to hold the hashes of a burst against tags, which is for the same instructions.
pub(super) trait Mix: Copy {
    /// Of 8 bytes.
    fn of_word(self, word: u64, tweak: Tweak) -> u64;
    /// Of 32 bytes.
    fn of_words(self, words: [u64; 4], tweak: Tweak) -> u64;
    /// What [`wanted::one_by_one`] says.
    #[inline(always)]
    fn wanted<K: Key>(self, tags: TagWords<'_>, pairs: &[K], shape: (K, Tweak), hashes: &mut [u64]) -> u64 {
        wanted::one_by_one(self, tags, pairs, shape, hashes)
    }
}

/// The way of this machine, with its secret.
#[derive(Clone, Copy)]
pub(super) enum Hasher {
    /// With AES instructions. Holding it proves that the processor has them, and AVX2, BMI1 and BMI2.
    #[cfg(target_arch = "x86_64")]
    Aes(Aes),
    /// With multiplications alone.
    Multiply(Multiply),
}

impl Hasher {
    /// The best way of this machine, with a new secret from the system's random source.
    pub(super) fn draw() -> Result<Hasher, getrandom::Error> {
        Ok(Hasher::of_this_machine(&draw_words()?))
    }

    /// The best way of this machine, with this secret.
    pub(super) fn of_this_machine(secret: &[u64; SECRET_WORDS]) -> Hasher {
        #[cfg(target_arch = "x86_64")]
        if Aes::is_possible() {
            return Hasher::Aes(Aes::new(secret));
        }
        Hasher::of_every_machine(secret)
    }

    /// The way that every machine has, with this secret.
    pub(super) fn of_every_machine(secret: &[u64; SECRET_WORDS]) -> Hasher {
        Hasher::Multiply(Multiply::new(secret))
    }

    /// The tweak of this number.
    pub(super) fn tweak(&self, number: u64) -> Tweak {
        let zero = Tweak([0; 2]);
        Tweak([self.of_words([number, 0, 0, 1], zero), self.of_words([number, 0, 0, 2], zero)])
    }
}

fn draw_words() -> Result<[u64; SECRET_WORDS], getrandom::Error> {
    let mut words = [0; SECRET_WORDS];
    for word in &mut words {
        *word = getrandom::u64()?;
    }
    Ok(words)
}

/// For the writer, one at a time.
impl Mix for &Hasher {
    fn of_word(self, word: u64, tweak: Tweak) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Aes` is only made where the processor has the instructions.
            Hasher::Aes(aes) => unsafe { aes_word(*aes, word, tweak) },
            Hasher::Multiply(multiply) => multiply.of_word(word, tweak),
        }
    }
    fn of_words(self, words: [u64; 4], tweak: Tweak) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Hasher::Aes(aes) => unsafe { aes_words(*aes, words, tweak) },
            Hasher::Multiply(multiply) => multiply.of_words(words, tweak),
        }
    }
}

/// Hashing with AES instructions: the round keys.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Aes {
    rounds: [__m128i; 8],
}

#[cfg(target_arch = "x86_64")]
impl Aes {
    /// Whether the processor has what the look-up is compiled for.
    fn is_possible() -> bool {
        std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
    }
    fn new(secret: &[u64; SECRET_WORDS]) -> Aes {
        let (pairs, _) = secret.as_chunks::<2>();
        Aes { rounds: std::array::from_fn(|i| block(pairs[i])) }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn block(words: [u64; 2]) -> __m128i {
    // SAFETY: SSE2 is part of x86_64.
    unsafe { _mm_set_epi64x(words[1] as i64, words[0] as i64) }
}

#[cfg(target_arch = "x86_64")]
impl Mix for Aes {
    #[inline(always)]
    fn of_word(self, word: u64, Tweak(tweak): Tweak) -> u64 {
        let [a, b, c, d, ..] = self.rounds;
        // SAFETY: an `Aes` is only made where the processor has AES instructions; SSE2 is part of x86_64.
        unsafe {
            let state = _mm_xor_si128(_mm_cvtsi64_si128(word.cast_signed()), block(tweak));
            let state = _mm_aesenc_si128(_mm_aesenc_si128(state, a), b);
            let state = _mm_aesenc_si128(_mm_aesenc_si128(state, c), d);
            _mm_cvtsi128_si64(state) as u64
        }
    }
    #[inline(always)]
    fn of_words(self, words: [u64; 4], Tweak(tweak): Tweak) -> u64 {
        let [a, b, c, d, e, f, g, h] = self.rounds;
        // SAFETY: as in `of_word`.
        unsafe {
            let state = _mm_xor_si128(block([words[0], words[1]]), block(tweak));
            let state = _mm_aesenc_si128(_mm_aesenc_si128(state, a), b);
            let state = _mm_aesenc_si128(_mm_aesenc_si128(state, c), d);
            let state = _mm_xor_si128(state, block([words[2], words[3]]));
            let state = _mm_aesenc_si128(_mm_aesenc_si128(state, e), f);
            let state = _mm_aesenc_si128(_mm_aesenc_si128(state, g), h);
            _mm_cvtsi128_si64(state) as u64
        }
    }
    #[inline(always)]
    fn wanted<K: Key>(self, tags: TagWords<'_>, pairs: &[K], shape: (K, Tweak), hashes: &mut [u64]) -> u64 {
        // SAFETY: an `Aes` is only made where the processor has what this is compiled for.
        unsafe { wanted::together(self, tags, pairs, shape, hashes) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "aes")]
fn aes_word(aes: Aes, word: u64, tweak: Tweak) -> u64 {
    aes.of_word(word, tweak)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "aes")]
fn aes_words(aes: Aes, words: [u64; 4], tweak: Tweak) -> u64 {
    aes.of_words(words, tweak)
}

/// Hashing with multiplications: secret odd numbers.
#[derive(Clone, Copy)]
pub(super) struct Multiply {
    factors: [u64; 5],
}

impl Multiply {
    fn new(secret: &[u64; SECRET_WORDS]) -> Multiply {
        Multiply { factors: std::array::from_fn(|i| secret[i] | 1) }
    }
}

/// The two halves of a product, added without carry.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Mix for Multiply {
    #[inline(always)]
    fn of_word(self, word: u64, Tweak(tweak): Tweak) -> u64 {
        let [a, b, ..] = self.factors;
        fold(fold(word ^ tweak[0], a) ^ tweak[1], b)
    }
    #[inline(always)]
    fn of_words(self, words: [u64; 4], Tweak(tweak): Tweak) -> u64 {
        let [a, b, c, d, e] = self.factors;
        let state = fold(words[0] ^ tweak[0], a);
        let state = fold(words[1] ^ state, b);
        let state = fold(words[2] ^ state, c);
        let state = fold(words[3] ^ state, d);
        fold(state ^ tweak[1], e)
    }
}
