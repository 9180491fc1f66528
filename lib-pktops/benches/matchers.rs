//! Ways to look for the words of a program, side by side: what the choice in `contains_string.rs` rests on.
//!
//! `cargo bench -p vinet-pktops --bench matchers`, on a machine that does nothing else. For some numbers of words and
//! payloads of 1,400 bytes (mail, noise, and two that are made to be slow) it prints the median nanoseconds of one
//! search, in which no word is found, and what the searchers hold in memory.

use aho_corasick::automaton::Automaton;
use aho_corasick::{Anchored, MatchKind, dfa, nfa, packed};
use memchr::memmem::Finder;
use std::hint::black_box;
use std::time::Instant;
use vinet_pktops::contains_string::Words;
use vinet_trusted::program::Word;

const PAYLOAD_LEN: usize = 1400;
const SAMPLES: usize = 101;
const SEARCHES: usize = 200;

const WORDS: &str = "lottery,winner,viagra,casino,mortgage,click here,unsubscribe,free money,guarantee,no obligation,act now,\
    limited time,credit card,weight loss,investment,million dollars,nigeria,prince,bank account,transfer,urgent,\
    confidential,pharmacy,prescription,replica,rolex,refinance,debt,loan approved,work from home,earn extra,cash bonus,\
    amazing,congratulations,dear friend,risk free,satisfaction,special promotion,this is not spam,xxx,adult,hot stocks,\
    penny stock,bulk email,opt in,remove me,cheap meds,online degree,university diploma,hidden assets,inheritance,\
    beneficiary,sweepstakes,prize,claim your,order now,bargain,discount,wholesale,herbal,enlargement,hair loss,toner,\
    cartridge";

const MAIL: &str = "Thanks for the notes from the meeting. I will go over the list this week and send you what is still open; \
    the other letter went out on Tuesday, as you asked. Could somebody look at the window on the second floor before \
    winter? It has been open since the storm.\r\n\r\n> When will the report be done?\r\nIn about ten days, if all goes well. ";

fn median_ns(mut search: impl FnMut() -> u64) -> f64 {
    let mut sample = |_| {
        let start = Instant::now();
        for _ in 0..SEARCHES {
            black_box(search());
        }
        start.elapsed().as_nanos() as f64 / SEARCHES as f64
    };
    sample(0);
    let mut samples: Vec<f64> = (0..SAMPLES).map(sample).collect();
    samples.sort_by(f64::total_cmp);
    samples[SAMPLES / 2]
}

/// Every word that an automaton finds.
fn walk(automaton: &impl Automaton, bytes: &[u8]) -> u64 {
    let mut found = 0;
    let mut state = automaton.start_state(Anchored::No).expect("it is not anchored");
    for byte in bytes {
        state = automaton.next_state(Anchored::No, state, *byte);
        if automaton.is_special(state) && automaton.is_match(state) {
            for number in 0..automaton.match_len(state) {
                found |= 1 << automaton.match_pattern(state, number).as_usize();
            }
        }
    }
    found
}

fn cycled(piece: &[u8]) -> Vec<u8> {
    piece.iter().copied().cycle().take(PAYLOAD_LEN).collect()
}

fn main() {
    let list: Vec<&[u8]> = WORDS.split(',').map(|word| word.trim().as_bytes()).collect();
    let mut noise = 1u64;
    let mut next = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (noise >> 56) as u8
    };
    let noise: Vec<u8> = (0..PAYLOAD_LEN).map(|_| next()).collect();
    for count in [1, 2, 3, 4, 5, 8, 16, 32, 64] {
        let list = &list[..count];
        let of = |fold| list.iter().map(|bytes| Word { fold, bytes: bytes.to_vec() }).collect::<Vec<_>>();
        let (plain, folded) = (Words::new(&of(false), 0), Words::new(&of(true), 0));
        let finders: Vec<Finder<'_>> = list.iter().map(Finder::new).collect();
        let mut builder = packed::Config::new().match_kind(packed::MatchKind::LeftmostFirst).builder();
        builder.extend(list);
        let packed = builder.build();
        let nfa = nfa::contiguous::Builder::new().match_kind(MatchKind::Standard).build(list).expect("an automaton");
        let dfa = dfa::Builder::new().match_kind(MatchKind::Standard).build(list).expect("an automaton");
        println!(
            "{count} words: ours {} B ({} B in any case), packed {} B, contiguous NFA {} B, DFA {} B",
            plain.memory_bytes(),
            folded.memory_bytes(),
            packed.as_ref().map_or(0, packed::Searcher::memory_usage),
            nfa.memory_usage(),
            dfa.memory_usage()
        );
        let nearly: Vec<u8> = list.iter().flat_map(|word| &word[..word.len() - 1]).copied().collect();
        let letters = &list[0][list[0].len() - 3..];
        for (name, payload) in [
            ("mail", cycled(MAIL.as_bytes())),
            ("noise", noise.clone()),
            ("nearly the words", cycled(&nearly)),
            ("three letters of one", cycled(letters)),
        ] {
            let bytes = || black_box(&payload[..]);
            let each = || finders.iter().filter(|finder| finder.find(bytes()).is_some()).count() as u64;
            println!(
                "  {name:<22} ours {:>6.0}  ours in any case {:>6.0}  memmem for each {:>6.0}  packed {:>6.0}  NFA {:>6.0}  DFA {:>6.0}",
                median_ns(|| plain.search(bytes(), plain.all())),
                median_ns(|| folded.search(bytes(), folded.all())),
                median_ns(each),
                median_ns(|| packed.as_ref().map_or(0, |packed| u64::from(packed.find(bytes()).is_some()))),
                median_ns(|| walk(&nfa, bytes())),
                median_ns(|| walk(&dfa, bytes())),
            );
        }
    }
}
