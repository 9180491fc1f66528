//! The judging of plain IPv4 packets eight at a time, with vector instructions.
//!
//! Of eight frames the first 32 bytes are read as eight words each and transposed, so that one vector holds the same
//! word of all; every question is then asked of eight packets at once, without a branch, and the answers become bits.
//! What is asked is what [`Lane::judge_plain_v4`](super::Lane) asks, and a test holds that both say the same. Each
//! packet stands for itself: one that is not plain costs its neighbours nothing.
//!
//! What it ought to cost: some 25 instructions a packet beside its route, which is found for one after the other. The
//! compiler makes some 65 of both, because it has fewer registers than eight packets have pointers.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_cmpgt_epi32,
    _mm256_loadu_si256, _mm256_max_epu32, _mm256_min_epu32, _mm256_movemask_ps, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set_epi32, _mm256_set1_epi32, _mm256_setr_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256, _mm256_sub_epi32,
    _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

use vinet_pktops::parse::{ETHERNET_LEN, IPV4_LEN};

use super::plain::{GROUP, Plain};
use crate::fib::Fib;
use crate::link::{FRAME_LEN_MIN, Face, PLAIN_LEN, Ranges};
use crate::port::{BURST_LEN_MAX, PacketBuf};

/// Leave to use the instructions that this needs: there is one only where the processor has them.
#[derive(Clone, Copy)]
pub(crate) struct Together(());

impl Together {
    /// Leave, where the processor has the instructions.
    pub(crate) fn get() -> Option<Together> {
        let has_all = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2");
        has_all.then_some(Together(()))
    }

    /// Judges the packets of a burst that came by a port, but for those that make no group of eight, and gives a bit for
    /// each that is plain: it goes on, to a station that is known, with nothing to be cut off. The addresses of those are
    /// put into `pairs`, sources in the high halves; at the numbers of others, any.
    #[inline]
    pub(crate) fn judge<B: PacketBuf>(
        self,
        packets: &[B],
        (face, fib): (&Face, &Fib),
        plain: &mut Plain,
        pairs: &mut [u64; BURST_LEN_MAX],
    ) -> u64 {
        // SAFETY: holding a `Together` proves that the processor has the instructions.
        unsafe { judge_groups(packets, (face, fib), plain, pairs) }
    }

    /// A bit for each of the first `len` places at which `port` stands.
    #[inline]
    pub(crate) fn places_of(self, port: u32, ports: &[u32; BURST_LEN_MAX], len: usize) -> u64 {
        // SAFETY: as above.
        unsafe { places_of(port, ports, len) }
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn judge_groups<B: PacketBuf>(
    packets: &[B],
    (face, fib): (&Face, &Fib),
    plain: &mut Plain,
    pairs: &mut [u64; BURST_LEN_MAX],
) -> u64 {
    let (groups, _) = packets.as_chunks::<GROUP>();
    let Plain { hops, ports, lifetimes } = plain;
    let places = hops.iter_mut().zip(ports).zip(lifetimes.iter_mut().zip(pairs.as_chunks_mut::<GROUP>().0));
    let mut mask = 0;
    for (number, (group, ((hops, ports), (lifetimes, pairs)))) in groups.iter().zip(places).enumerate() {
        let plain = judge_group(group, (face, fib), (hops, ports), (lifetimes, pairs));
        mask |= u64::from(plain) << (number * GROUP);
    }
    mask
}

/// A bit for each of the packets that is plain.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn judge_group<B: PacketBuf>(
    group: &[B; GROUP],
    (face, fib): (&Face, &Fib),
    (hops, ports): (&mut [u32; GROUP], &mut [u32; GROUP]),
    (lifetimes, pairs): (&mut [u32; GROUP], &mut [u64; GROUP]),
) -> u8 {
    let all = |value: u32| _mm256_set1_epi32(value.cast_signed());
    let both = |a, b| _mm256_and_si256(a, b);
    let high = |words| _mm256_srli_epi32::<16>(words);
    let low = |words| both(words, all(0xffff));

    // Loops, for what `std::array::from_fn` is given is not inlined: it may use instructions that the function may not.
    let mut fronts = [&[0; PLAIN_LEN]; GROUP];
    let (mut frame_lens, mut dsts) = ([0; GROUP], [0; GROUP]);
    for (i, packet) in group.iter().enumerate() {
        let frame = packet.bytes();
        fronts[i] = match frame.first_chunk() {
            Some(front) => front,
            None => of_short(),
        };
        frame_lens[i] = frame.len() as u32;
        dsts[i] = super::half_at(fronts[i], 30);
    }
    let first = transposed([load(fronts[0]), load(fronts[1]), load(fronts[2]), load(fronts[3])]);
    let last = transposed([load(fronts[4]), load(fronts[5]), load(fronts[6]), load(fronts[7])]);
    let of_front = |i: usize| _mm256_permute2x128_si256::<0x20>(first[i], last[i]);
    let of_rest = |i: usize| _mm256_permute2x128_si256::<0x31>(first[i], last[i]);
    // Bytes 0 to 3, 4 to 7, and 12 to 15; and from byte 16 to 31.
    let (to, to_from, kind) = (of_front(0), of_front(1), of_front(3));
    let (len_id, flags_ttl, sum_src, src_dst) = (of_rest(0), of_rest(1), of_rest(2), of_rest(3));
    let dst = from_words(dsts);

    // Addressed to this port, which has no tags; IPv4, with a header of 20 bytes.
    let [own, own_rest] = face.plain_front_words();
    let is_ours = both(_mm256_cmpeq_epi32(to, all(own)), _mm256_cmpeq_epi32(low(to_from), all(own_rest)));
    let is_kind = _mm256_cmpeq_epi32(both(kind, all(0x00ff_ffff)), all(0x0045_0008));
    let mut is_plain = both(is_ours, is_kind);

    // Whole, with nothing behind it but what the link had to add.
    let frame_len = from_words(frame_lens);
    let l3_len = _mm256_shuffle_epi8(len_id, first_half_swapped());
    let end = _mm256_add_epi32(l3_len, all(ETHERNET_LEN as u32));
    let is_padded =
        both(_mm256_cmpgt_epi32(frame_len, end), _mm256_cmpgt_epi32(all(FRAME_LEN_MIN as u32 + 1), frame_len));
    is_plain = both(is_plain, _mm256_or_si256(_mm256_cmpeq_epi32(frame_len, end), is_padded));
    is_plain = both(is_plain, _mm256_cmpgt_epi32(l3_len, all(IPV4_LEN as u32 - 1)));

    // The ten half words of a sound header sum up to 65,535 when what overflows is added again. They are not all zero, so
    // their sum is not, and once is enough: of less than eleven of them, no more than ten overflow.
    let sum = _mm256_add_epi32(_mm256_add_epi32(high(kind), low(len_id)), high(len_id));
    let sum = _mm256_add_epi32(_mm256_add_epi32(sum, low(flags_ttl)), high(flags_ttl));
    let sum = _mm256_add_epi32(_mm256_add_epi32(sum, low(sum_src)), high(sum_src));
    let sum = _mm256_add_epi32(_mm256_add_epi32(sum, low(src_dst)), high(src_dst));
    let sum = _mm256_add_epi32(sum, high(dst));
    is_plain = both(is_plain, _mm256_cmpeq_epi32(_mm256_add_epi32(low(sum), high(sum)), all(0xffff)));

    // From where this port's hosts are.
    let src = _mm256_or_si256(high(sum_src), _mm256_slli_epi32::<16>(src_dst));
    let src = _mm256_shuffle_epi8(src, words_swapped());
    let dst = _mm256_shuffle_epi8(dst, words_swapped());
    is_plain = both(is_plain, are_in(&face.plain_sources, src));

    // With a hop left. The lower half of a lifetime is above zero then, so that nothing is carried when one is taken off;
    // the sum rises by one (RFC 1624), and by one more where that makes it 65,535, which is zero.
    let ttl = both(high(flags_ttl), all(0xff));
    is_plain = both(is_plain, _mm256_cmpgt_epi32(ttl, all(1)));
    let lifetime = _mm256_or_si256(high(flags_ttl), _mm256_slli_epi32::<16>(sum_src));
    let carries = _mm256_cmpeq_epi32(_mm256_max_epu32(lifetime, all(0xfffe_0000)), lifetime);
    let counted = _mm256_add_epi32(_mm256_add_epi32(lifetime, all(0xffff)), both(carries, all(0x1_0000)));
    store(lifetimes, counted);

    // To a station that is known, by a port that takes it as it is.
    let mut stations = [0; GROUP];
    for ((hop, station), dst) in hops.iter_mut().zip(&mut stations).zip(dsts) {
        *hop = fib.hop_v4(u32::from_be(dst));
        *station = fib.station(*hop).port_and_len_max();
    }
    let station = from_words(stations);
    is_plain =
        both(is_plain, _mm256_cmpgt_epi32(_mm256_add_epi32(high(station), all(ETHERNET_LEN as u32 + 1)), frame_len));
    store(ports, low(station));

    let (pairs_low, pairs_high) = (_mm256_unpacklo_epi32(dst, src), _mm256_unpackhi_epi32(dst, src));
    let first = _mm256_permute2x128_si256::<0x20>(pairs_low, pairs_high);
    store_pairs(pairs, first, _mm256_permute2x128_si256::<0x31>(pairs_low, pairs_high));

    _mm256_movemask_ps(_mm256_castsi256_ps(is_plain)) as u8
}

/// What stands for a frame that is too short, and is not plain. So rare that a branch is cheaper than a choice.
#[cold]
fn of_short() -> &'static [u8; PLAIN_LEN] {
    &[0; PLAIN_LEN]
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn places_of(port: u32, ports: &[u32; BURST_LEN_MAX], len: usize) -> u64 {
    let port = _mm256_set1_epi32(port.cast_signed());
    let mut places = 0;
    for (number, group) in ports.as_chunks::<GROUP>().0.iter().take(len.div_ceil(GROUP)).enumerate() {
        let here = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(load_words(group), port)));
        places |= u64::from(here as u8) << (number * GROUP);
    }
    places
}

/// Which of the addresses are in the set: all bits, or none.
#[inline]
#[target_feature(enable = "avx2")]
fn are_in(set: &Ranges, addrs: __m256i) -> __m256i {
    let Some(few) = set.few_v4() else { return are_in_many(set, addrs) };
    let mut are_in = _mm256_setzero_si256();
    for (first, more) in few {
        let beyond = _mm256_sub_epi32(addrs, _mm256_set1_epi32(first.cast_signed()));
        let is_in = _mm256_cmpeq_epi32(_mm256_min_epu32(beyond, _mm256_set1_epi32(more.cast_signed())), beyond);
        are_in = _mm256_or_si256(are_in, is_in);
    }
    are_in
}

/// The same, one by one.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn are_in_many(set: &Ranges, addrs: __m256i) -> __m256i {
    let mut each = [0; GROUP];
    store(&mut each, addrs);
    from_words(each.map(|addr| if set.contains_v4(addr) { u32::MAX } else { 0 }))
}

/// Of four rows of eight words the four columns of the first halves, in the low half, and those of the second halves.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
    let (ab_rest, cd_rest) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab, cd),
        _mm256_unpackhi_epi64(ab, cd),
        _mm256_unpacklo_epi64(ab_rest, cd_rest),
        _mm256_unpackhi_epi64(ab_rest, cd_rest),
    ]
}

/// The order that reverses the bytes of every word.
#[inline]
#[target_feature(enable = "avx2")]
fn words_swapped() -> __m256i {
    _mm256_setr_epi8(
        3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12,
    )
}

/// The order that makes of every word its first two bytes, as a number in network order.
#[inline]
#[target_feature(enable = "avx2")]
fn first_half_swapped() -> __m256i {
    _mm256_setr_epi8(
        1, 0, -1, -1, 5, 4, -1, -1, 9, 8, -1, -1, 13, 12, -1, -1, 1, 0, -1, -1, 5, 4, -1, -1, 9, 8, -1, -1, 13, 12, -1,
        -1,
    )
}

#[inline]
#[target_feature(enable = "avx2")]
fn from_words(words: [u32; GROUP]) -> __m256i {
    let [a, b, c, d, e, f, g, h] = words.map(u32::cast_signed);
    _mm256_set_epi32(h, g, f, e, d, c, b, a)
}

/// The first 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn load(front: &[u8; PLAIN_LEN]) -> __m256i {
    const { assert!(PLAIN_LEN >= 32) };
    // SAFETY: there are as many bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(front.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[u32; GROUP]) -> __m256i {
    // SAFETY: eight words are 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(words: &mut [u32; GROUP], values: __m256i) {
    // SAFETY: eight words are 32 bytes, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), values) };
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_pairs(words: &mut [u64; GROUP], first: __m256i, rest: __m256i) {
    let place = words.as_mut_ptr().cast::<__m256i>();
    // SAFETY: eight of these words are twice 32 bytes, and the store asks for no alignment.
    unsafe {
        _mm256_storeu_si256(place, first);
        _mm256_storeu_si256(place.add(1), rest);
    }
}
