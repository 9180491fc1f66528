//! The one unsafe thing that the structures of comparison need.

#![allow(unsafe_code)]

/// Asks for a place of a slice to be fetched; a place beyond it is not.
#[inline(always)]
pub fn prefetch<T>(of: &[T], place: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(place) = of.get(place) {
        // SAFETY: a prefetch reads nothing that a program could notice, and SSE is part of x86_64.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (of, place);
}
