use super::*;
use crate::samples::{Random, addr, seed};
use std::collections::BTreeMap;
use vinet_trusted::cost::state_bytes;
use vinet_trusted::policy::{Limits, OverBudget};
use vinet_trusted::program::{Instr, Program, Word};

/// Streams for some words, and one flow to send on.
struct Bench {
    words: Words,
    wanted: WordMask,
    streams: Streams,
}

impl Bench {
    fn new(words: &[&[u8]], flows_max: usize, islands_max: usize) -> Bench {
        let words: Vec<Word> = words.iter().map(|w| Word { fold: false, bytes: w.to_vec() }).collect();
        let words = Words::new(&words, WordMask::MAX);
        let wanted = words.all();
        // Half of the words are counted, which changes nothing about whether they are there.
        let streams = Streams::new(flows_max, islands_max, words.longest(), wanted & 0x5555);
        Bench { streams, words, wanted }
    }
    fn key(port: u16) -> FlowKey {
        FlowKey::new(addr("192.0.2.1"), addr("10.0.0.5"), port, 25)
    }
    fn send(&mut self, port: u16, seq: u32, tcp_flags: u8, payload: &[u8]) -> WordMask {
        let key = Bench::key(port);
        let segment = Tcp { src_port: port, dst_port: 25, seq, flags: tcp_flags, payload: 0..payload.len() };
        self.streams.observe(&self.words, self.wanted, key, &segment, payload)
    }
    fn data(&mut self, seq: u32, payload: &[u8]) -> bool {
        self.send(1, seq, flags::ACK, payload) != 0
    }
}

#[test]
fn a_word_cut_in_three_is_found_with_its_last_piece_in_every_order() {
    let text = b"..needle..";
    for a in 0..=text.len() {
        for b in a..=text.len() {
            let pieces = [(0, a), (a, b), (b, text.len())];
            for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let mut bench = Bench::new(&[b"needle"], 8, 4);
                let mut there = [false; 10];
                for piece in order {
                    let (from, to) = pieces[piece];
                    there[from..to].fill(true);
                    // The numbers wrap inside the text.
                    let found = bench.data((u32::MAX - 4).wrapping_add(from as u32), &text[from..to]);
                    let expected = there[2..8] == [true; 6] && from < to;
                    assert!(found == expected || from == to, "cut at {a} and {b}, {order:?}, after {piece}");
                }
                assert!(bench.data(0, b""), "cut at {a} and {b}, {order:?}: a word once found stays");
            }
        }
    }
}

#[test]
fn streams_are_a_map_from_numbers_to_first_bytes() {
    let seed = seed("streams");
    let mut random = Random::new(seed);
    for round in 0..400 {
        let len = 1 + random.below(8);
        let word = random.bytes(len, b"ab");
        let mut bench = Bench::new(&[&word, b"abab"], 16, 64);
        let base = (random.next() as u32 % 100).wrapping_sub(50);
        let mut map: BTreeMap<u32, u8> = BTreeMap::new();
        let longest_segment = *random.pick(&[1, 3, 10, 60]);
        for packet in 0..50 {
            let at = random.below(120) as u32;
            let len = 1 + random.below(longest_segment);
            let payload = random.bytes(len, b"ab");
            for (i, byte) in (at..).zip(&payload) {
                map.entry(i).or_insert(*byte);
            }
            let found = bench.send(7, base.wrapping_add(at), 0, &payload);
            for (k, word) in [&word[..], b"abab"].iter().enumerate() {
                let expected = map.keys().any(|&i| (i..).zip(word.iter()).all(|(i, b)| map.get(&i) == Some(b)));
                assert_eq!(found >> k & 1 != 0, expected, "seed {seed}, round {round}, packet {packet}, word {k}");
            }
            let starts = map.keys().filter(|&&i| (i..).zip(word.iter()).all(|(i, b)| map.get(&i) == Some(b)));
            let counted = usize::from(bench.streams.count(Bench::key(7), 0));
            assert_eq!(counted, starts.count(), "seed {seed}, round {round}, packet {packet}");
        }
        assert_eq!(bench.streams.counters().islands_evicted, 0);
    }
}

#[test]
fn the_first_byte_seen_at_a_number_wins() {
    let mut bench = Bench::new(&[b"evil"], 8, 4);
    assert!(!bench.data(10, b"good"));
    assert!(!bench.data(8, b"..evil"), "the overlap is a retransmission that disagrees");
    assert!(bench.data(4, b"evil"), "these four are new");
}

#[test]
fn a_tuple_that_is_used_again_is_the_same_flow() {
    let mut bench = Bench::new(&[b"spam", b"eggs"], 8, 4);
    assert_eq!(bench.send(1, 999, flags::SYN, b"eg"), 0);
    assert_eq!(bench.send(1, 1002, flags::RST, b""), 0);
    assert_eq!(bench.send(1, 70_000, flags::SYN, b"spam"), 0b01);
    assert_eq!(bench.send(1, 1002, flags::ACK, b"gs"), 0b11, "what the first connection sent is still there");
    assert_eq!(bench.send(1, 500_000, flags::SYN, b""), 0b11, "and what was found");
}

#[test]
fn a_source_without_end_of_flows_loses_its_own() {
    let mut bench = Bench::new(&[b"needle"], 64, 2);
    let (words, wanted) = (bench.words.clone(), bench.wanted);
    let mut send = |host: u32, port: u16, seq: u32, payload: &[u8]| {
        let segment = Tcp { src_port: port, dst_port: 25, seq, flags: 0, payload: 0..payload.len() };
        let key = FlowKey::new(Addr::V4(host), Addr::V4(1), port, 25);
        bench.streams.observe(&words, wanted, key, &segment, payload)
    };
    for host in 1..=10 {
        assert_eq!(send(host, 1, 1, b"need"), 0);
    }
    for port in 0..5000 {
        assert_eq!(send(99, port, 1, b"xxxx"), 0);
    }
    for host in 1..=10 {
        assert_eq!(send(host, 1, 5, b"le"), 1, "host {host} was forgotten");
    }
    assert_eq!(bench.streams.counters().flows_evicted, 4946);
}

#[test]
fn there_is_room_for_as_many_flows_as_are_named() {
    for flows in [1, 2, 7, 8, 100, 1024] {
        let mut bench = Bench::new(&[b"needle"], flows, 1);
        (0..flows).for_each(|port| assert_eq!(bench.send(port as u16, 1, 0, b"need"), 0));
        (0..flows).for_each(|port| assert_ne!(bench.send(port as u16, 5, 0, b"le"), 0));
        assert_eq!(bench.streams.counters(), Counters { flows: flows as u64, ..Counters::default() });
    }
}

#[test]
fn syn_and_fin_take_a_number_each() {
    let mut bench = Bench::new(&[b"word"], 8, 4);
    assert_eq!(bench.send(1, 99, flags::SYN, b"wo"), 0, "data of the SYN is at 100");
    assert_eq!(bench.send(1, 102, flags::FIN, b"r"), 0, "the FIN is at 103");
    assert_eq!(bench.send(1, 104, 0, b"d"), 0, "and leaves a hole before 104");
    assert_ne!(bench.send(1, 103, 0, b"d"), 0);
}

#[test]
fn numbers_that_wrap_are_not_taken_for_old_ones() {
    let mut bench = Bench::new(&[b"spam"], 8, 8);
    assert!(!bench.data(100, b"sp"));
    for quarter in 1..=4u32 {
        assert!(!bench.data(102u32.wrapping_add(quarter.wrapping_mul(1 << 30)), b"xx"));
    }
    // These are 4 GiB behind the first two, though their 32 bits follow on them.
    assert!(!bench.data(102, b"am"));
    assert!(!bench.data(98, b"sp"), "and these too");
    assert!(!bench.data(100, b"zz"));
}

#[test]
fn words_of_one_byte_need_no_ends() {
    let mut bench = Bench::new(&[b"x"], 8, 2);
    assert!(!bench.data(1, b"abc"));
    assert!(bench.data(500, b"x"));
    let streams = Bench::new(&[b"x"], 8, 2).streams;
    assert_eq!((streams.heads.len(), streams.tails.len()), (0, 0));
}

#[test]
fn the_island_that_grew_the_longest_ago_makes_room() {
    let mut bench = Bench::new(&[b"needle"], 8, 3);
    for (i, seq) in [100, 200, 300].into_iter().enumerate() {
        assert!(!bench.data(seq, b"nee"));
        assert_eq!(bench.streams.flows.iter().map(|f| f.islands).max(), Some(i as u8 + 1));
    }
    assert!(!bench.data(103, b"d"), "the first grows again");
    assert_eq!(bench.streams.counters().islands_evicted, 0);
    assert!(!bench.data(400, b"zzz"), "the second is forgotten");
    assert_eq!(bench.streams.counters().islands_evicted, 1);
    assert!(!bench.data(203, b"dle"), "and the third now");
    assert_eq!(bench.streams.counters().islands_evicted, 2);
    assert!(bench.data(104, b"le"));
}

#[test]
fn counts_are_of_one_flow_go_with_it_and_saturate() {
    let mut bench = Bench::new(&[b"a"], 8, 2);
    bench.send(1, 0, 0, b"aa.a");
    bench.send(2, 0, 0, b"a");
    assert_eq!([1, 2, 3].map(|port| bench.streams.count(Bench::key(port), 0)), [3, 1, 0]);
    for turn in 0..70 {
        bench.send(1, 4 + turn * 1000, 0, &[b'a'; 1000]);
    }
    assert_eq!(bench.streams.count(Bench::key(1), 0), u16::MAX);
    for port in 3..=10 {
        bench.send(port, 0, 0, b"aa");
    }
    let counts: Vec<u16> = (1..=10).map(|port| bench.streams.count(Bench::key(port), 0)).collect();
    assert_eq!(
        counts,
        [0, 0, 2, 2, 2, 2, 2, 2, 2, 2],
        "those that made room are forgotten, and nobody has their counts"
    );
    assert_eq!(bench.streams.count(Bench::key(3), 1), 0, "a word that is not counted");
}

#[test]
fn the_quietest_flow_makes_room_and_is_forgotten() {
    // As many flows as are looked at, or fewer: the quietest of all.
    let mut bench = Bench::new(&[b"needle"], 8, 2);
    for port in 1..=8 {
        assert_eq!(bench.send(port, 1, 0, b"need"), 0);
    }
    assert_eq!(bench.streams.counters(), Counters { flows: 8, ..Counters::default() });
    assert_eq!(bench.send(1, 50, 0, b""), 0, "a packet without data keeps its flow alive");
    assert_eq!(bench.send(9, 1, 0, b""), 0, "and makes no room for one without content");
    assert_eq!(bench.streams.counters().flows_evicted, 0);
    assert_eq!(bench.send(9, 1, 0, b"need"), 0);
    assert_eq!(bench.streams.counters(), Counters { flows: 8, flows_evicted: 1, islands_evicted: 0 });
    assert_ne!(bench.send(1, 5, 0, b"le"), 0, "still known");
    assert_eq!(bench.send(2, 5, 0, b"le"), 0, "forgotten");
}

#[test]
fn without_room_a_segment_is_its_own_content() {
    let mut bench = Bench::new(&[b"needle"], 0, 2);
    assert!(!bench.data(1, b"need"));
    assert!(!bench.data(5, b"le"));
    assert!(bench.data(7, b"a needle"));
    assert!(!bench.data(15, b""));
    assert_eq!(bench.streams.counters(), Counters::default());
}

#[test]
fn limits_that_are_met_at_every_turn_break_nothing() {
    let seed = seed("limits");
    let mut random = Random::new(seed);
    let mut bench = Bench::new(&[b"abba", b"baab"], 11, 2);
    for _ in 0..50_000 {
        let len = random.below(80);
        let payload = random.bytes(len, b"abc");
        let seq = random.next() as u32;
        let seq = if random.one_in(50) { seq } else { seq % 5000 };
        bench.send(random.below(20) as u16, seq, random.next() as u8, &payload);
        for (place, flow) in bench.streams.flows.iter().enumerate() {
            assert!(flow.islands <= 2, "seed {seed}, flow {place}");
        }
    }
    let counters = bench.streams.counters();
    assert!(counters.flows_evicted > 0 && counters.islands_evicted > 0 && counters.flows == 11);
}

#[test]
fn memory_is_within_what_the_checker_names() {
    for flows in [0, 1, 7, 8, 9, 1000, 4096] {
        for islands in [1u8, 4, 64] {
            for len in [1, 2, 9, 64] {
                let word = |i: u8| Word { fold: false, bytes: vec![i; len] };
                // Few words or many, all of them counted.
                let word_count = if len == 9 { 64 } else { 1 };
                let count = |word| Instr::Count { out: 1, arg: 0, word };
                let body = (0..word_count).map(count).collect();
                let program = Program::new(1, 1, (0..word_count).map(word).collect(), body).unwrap();
                let limits = Limits {
                    program_bytes_max: 0,
                    proof_bytes_max: 0,
                    lifetime_max_s: 0,
                    complexity_max: 0,
                    cost_max: 0,
                    packet_bytes_max: 0,
                    window_packets_max: 1,
                    window_us_max: 0,
                    generate_port: 0,
                    generate_rate_max: 0,
                    stream_flows_max: flows,
                    stream_islands_max: islands,
                    packet_rate_default: 0,
                    packet_rate_max: 0,
                    over_budget: OverBudget::Drop,
                };
                let counted = WordMask::MAX >> (64 - word_count);
                let held = Streams::new(flows as usize, usize::from(islands), len, counted).memory_bytes();
                let named = state_bytes(&program, 1, &limits).unwrap();
                assert!(held <= named, "{flows} flows, {islands} islands, {len} bytes: {held} above {named}");
            }
        }
    }
}
