use super::*;
use crate::few_words::is_at;
use crate::many_words::MEMORY_MAX;
use crate::samples::{Random, seed};
use std::collections::BTreeSet;
use vinet_trusted::program::{WORD_LEN_MAX, WORDS_MAX};

fn word(fold: bool, text: &str) -> Word {
    Word { fold, bytes: text.into() }
}

#[test]
fn a_mask_tells_each_word_apart_and_only_those_wanted() {
    let words = Words::new(&[word(false, "one"), word(false, "w"), word(true, "three")], 0);
    assert_eq!((words.longest(), words.all()), (5, 0b111));
    assert_eq!(words.search(b"two and one", 0b111), 0b011);
    assert_eq!(words.search(b"two and one", 0b110), 0b010);
    assert_eq!(words.search(b"on", 0b111), 0);
    assert_eq!(words.search(b"", 0b111), 0);
    assert_eq!(words.search(b"ThReE", WordMask::MAX), 0b100);
    assert_eq!(words.search(b"ThReE", 0b011), 0);
    assert_eq!(words.search(b"ONE TWO THREE", 0b111), 0b100);
    assert_eq!(Words::new(&[], 0).search(b"one", WordMask::MAX), 0);
}

#[test]
fn counts_are_of_the_words_that_are_counted_and_saturate() {
    let words = Words::new(&[word(false, "aa"), word(true, "b"), word(false, "c")], 0b011);
    assert_eq!(words.count(b"aaaa", 0), 3);
    assert_eq!(words.count(b"bBxB", 1), 3);
    assert_eq!(words.count(b"c", 2), 0);
    assert_eq!(words.count(&[b'a'; 70_000], 0), u16::MAX);
}

/// The places of which a hit told.
fn each(at: usize, starts: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |k| starts >> k & 1 != 0).map(move |k| at + k)
}

/// Where the words are, by looking everywhere.
fn slow(words: &[Word], bytes: &[u8]) -> BTreeSet<(usize, usize)> {
    let at = |w: usize| (0..bytes.len()).filter(move |&start| is_at(&words[w], bytes, start)).map(move |s| (w, s));
    (0..words.len()).flat_map(at).collect()
}

/// Words and bytes by chance: few letters, so that much is nearly there, or many.
fn chance(random: &mut Random) -> (Vec<Word>, Vec<u8>) {
    let alphabet: &[u8] = random.pick::<&[u8]>(&[b"a", b"ab", b"aAbB", b"abcdefgh XYZ", b"\x00\xff@`[{"]);
    let count_max = *random.pick(&[1, 3, 6, WORDS_MAX]);
    let count = 1 + random.below(count_max);
    let words = (0..count).map(|_| {
        let longest = *random.pick(&[2, 5, 20, WORD_LEN_MAX]);
        let (len, fold) = (1 + random.below(longest), random.one_in(2));
        let bytes = random.bytes(len, alphabet);
        Word { fold, bytes: if fold { bytes.to_ascii_lowercase() } else { bytes } }
    });
    let words: Vec<Word> = words.collect();
    let len_max = *random.pick(&[3, 40, 200, 5000]);
    let len = random.below(len_max);
    let mut bytes = random.bytes(len, alphabet);
    // Some of the words, whole or nearly, over what is there.
    for _ in 0..random.below(6) {
        let mut piece = random.pick(&words).bytes.clone();
        if random.one_in(2) {
            piece.make_ascii_uppercase();
        }
        if random.one_in(3) {
            piece.pop();
        }
        if let Some(last) = bytes.len().checked_sub(piece.len()) {
            let at = random.below(last + 1);
            bytes[at..at + piece.len()].copy_from_slice(&piece);
        }
    }
    (words, bytes)
}

#[test]
fn every_way_tells_every_occurrence_once() {
    let seed = seed("occurrences");
    let mut random = Random::new(seed);
    for round in 0..3000 {
        let (list, bytes) = chance(&mut random);
        let words = Words::new(&list, WordMask::MAX);
        let expected = slow(&list, &bytes);
        let told = |name: &str, wanted: WordMask, way: &dyn Fn(Hit<'_>)| {
            let mut told = BTreeSet::new();
            way(&mut |word, at, starts| {
                for start in each(at, starts) {
                    assert!(told.insert((word, start)), "seed {seed}, round {round}, {name}: told twice");
                }
                wanted
            });
            let expected: BTreeSet<_> = expected.iter().filter(|(w, _)| wanted >> w & 1 != 0).copied().collect();
            assert_eq!(told, expected, "seed {seed}, round {round}, {name}: {list:?} in {bytes:?}");
        };
        let some = random.next() & words.all();
        for wanted in [words.all(), some] {
            told("all", wanted, &|hit| words.occurrences(&bytes, wanted, hit));
            told("one by one", wanted, &|hit| words.one_by_one(&bytes, |_| 0, wanted, hit));
            told("all at once", wanted, &|hit| ManyWords::new(&list).walk(&bytes, 0, wanted, hit));
            told("many", wanted, &|hit| {
                let many = ManyWords::new(&list);
                if let Pass::GaveUp(place) = many.pass(&bytes, wanted, hit) {
                    words.one_by_one(&bytes, |word| many.resume(word, place), wanted, hit);
                }
            });
        }
        // Each word is asked for until it is found, which may end a pass in the middle.
        let found = expected.iter().fold(0, |mask: WordMask, (w, _)| mask | 1 << w);
        for counted in [0, random.next()] {
            let words = Words::new(&list, counted);
            assert_eq!(words.search(&bytes, some), found & some, "seed {seed}, round {round}: {list:?}");
        }
        let at = random.below(bytes.len() + 1);
        let (before, behind) = bytes.split_at(at);
        let crosses = |(w, start): &(usize, usize)| *start < at && start + list[*w].bytes.len() > at;
        let goes_on = words.goes_on(before, words.all());
        assert!(goes_on || !expected.iter().any(crosses), "seed {seed}, round {round}: {before:?} and {behind:?}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_pass_tells_the_same_with_all_instructions() {
    let seed = seed("levels");
    let mut random = Random::new(seed);
    let mut ended = [0, 0];
    for round in 0..1500 {
        let (mut list, bytes) = chance(&mut random);
        list.truncate(FEW_MAX);
        let expected = slow(&list, &bytes);
        let wanted = if random.one_in(2) { (1 << list.len()) - 1 } else { random.next() & ((1 << list.len()) - 1) };
        for few in FewWords::of_each_level(&list) {
            let mut told = BTreeSet::new();
            let pass = few.pass(&bytes, wanted, &mut |word, at, starts| {
                for start in each(at, starts) {
                    assert!(told.insert((word, start)), "seed {seed}, round {round}, {few:?}: told twice");
                }
                wanted
            });
            let until = |word: usize| match pass {
                Pass::Done => usize::MAX,
                Pass::GaveUp(place) => few.resume(word, place),
            };
            let is_due = |(word, at): &&(usize, usize)| wanted >> word & 1 != 0 && *at < until(*word);
            let due: BTreeSet<_> = expected.iter().filter(is_due).copied().collect();
            assert_eq!(told, due, "seed {seed}, round {round}, {pass:?}, {few:?} in {bytes:?}");
            ended[usize::from(pass == Pass::Done)] += 1;
        }
    }
    assert!(ended.iter().all(|times| *times > 100), "{ended:?}");
}

#[test]
fn a_word_goes_on_behind_its_first_bytes_only() {
    let words = Words::new(&[word(false, "lottery"), word(true, "winner")], 0);
    for (bytes, expected) in
        [("a lott", true), ("lottery", false), ("a lo ", false), ("WIN", true), ("LOT", false), ("", false)]
    {
        assert_eq!(words.goes_on(bytes.as_bytes(), 0b11), expected, "{bytes}");
    }
    assert!(!words.goes_on(b"WIN", 0b01));
}

#[test]
fn bytes_made_to_be_slow_are_left_to_the_steady_ways() {
    let list: Vec<Word> = (0..9).map(|last| word(false, &format!("aaaaaa{last}"))).collect();
    // The pairs and the marks of all words, and no word.
    let text: Vec<u8> = (0..4000).map(|i| if i % 4 == 3 { b'0' + (i / 4 % 9) as u8 } else { b'a' }).collect();
    let pass = FewWords::new(&list[..4]).pass(&text, 0b1111, &mut |_, _, _| 0b1111);
    assert!(matches!(pass, Pass::GaveUp(place) if place < 2000), "{pass:?}");
    for count in [3, 9] {
        let words = Words::new(&list[..count], 0);
        assert_eq!(words.search(&text, words.all()), 0);
        assert_eq!(words.search(&[&text[..], b"aaaaaa2"].concat(), words.all()), 1 << 2);
    }
}

#[test]
fn memory_is_bounded_whatever_the_words() {
    let mut random = Random::new(1);
    let bytes: Vec<u8> = (0..=255).collect();
    let mut new = |fold: bool| Word { fold, bytes: random.bytes(WORD_LEN_MAX, &bytes).to_ascii_lowercase() };
    let words: Vec<Word> = (0..WORDS_MAX).map(|i| new(i % 2 == 0)).collect();
    let words = Words::new(&words, WordMask::MAX);
    let many = words.many.as_ref().map(ManyWords::memory_bytes).unwrap();
    assert!((10_000..MEMORY_MAX).contains(&many), "{many}");
    assert!(words.memory_bytes() < 2 * MEMORY_MAX, "{}", words.memory_bytes());
}
