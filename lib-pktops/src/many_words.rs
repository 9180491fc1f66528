//! Many words at once: four bytes of each, looked for with vector instructions, and an automaton for all of them.
//!
//! Of every word four bytes in a row are chosen that are rare in mail (its *mark*). A pass looks for the marks of all words
//! together (the Teddy algorithm of Hyperscan, in the crate `aho-corasick`), in lower case where a word has no case,
//! and compares words where a mark is. A sender who knows the words could put their marks everywhere; so a pass
//! that finds more of them than ordinary bytes have gives up. Then there is an automaton (Aho and Corasick, "Efficient
//! String Matching", 1975), which takes a bounded number of steps for each byte, whatever it is, as long as each word is
//! told once; words that are counted, which may be everywhere, are for [`crate::count_string`].
//!
//! The automaton is kept in its compact form: it is for hostile bytes, and the table of all its transitions, a third
//! faster, takes five times the memory. 64 words of 64 bytes take less than [`MEMORY_MAX`].

use crate::contains_string::WordMask;
use crate::few_words::{Hit, Pass, frequency, is_at};
use aho_corasick::automaton::Automaton as _;
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::packed::{Config, MatchKind, Searcher};
use aho_corasick::{Anchored, Span};
use vinet_trusted::program::{WORD_LEN_MAX, Word};

/// The most memory of the searchers of one program, in bytes.
pub(crate) const MEMORY_MAX: usize = 256 << 10;
/// The bytes of a mark; a shorter word is its own.
const MARK_LEN: usize = 4;
/// Comparisons that any pass may make, and one more for every so many bytes.
const COMPARISONS_FREE: usize = 32;
const COMPARISONS_PER_BYTES: usize = 16;
/// The bytes that are put into lower case together.
const CHUNK_LEN: usize = 1536;

/// The words of a program.
#[derive(Clone, Debug)]
pub(crate) struct ManyWords {
    words: Vec<Word>,
    /// Where each word's mark stands in it.
    at: Vec<usize>,
    /// Finds marks; none where the processor has no instructions for it.
    marks: Option<Searcher>,
    /// For each mark the words that have it, or one that it begins with.
    marked: Vec<Vec<u8>>,
    folds: bool,
    /// For the words as they are, and for those that are the same in upper and lower case, each with its own.
    automata: [Option<(NFA, Vec<u8>)>; 2],
}

impl ManyWords {
    /// Prepares the searchers of `words`, none of which is empty.
    pub(crate) fn new(words: &[Word]) -> ManyWords {
        let folds = words.iter().any(|word| word.fold);
        let bytes_of = |word: &Word| if folds { word.bytes.to_ascii_lowercase() } else { word.bytes.clone() };
        let rarest = |word: &Word| -> (usize, Vec<u8>) {
            let bytes = bytes_of(word);
            let often = |mark: &[u8]| mark.iter().map(|byte| frequency(*byte)).product::<u64>();
            let marks = bytes.windows(MARK_LEN.min(bytes.len())).enumerate();
            marks.min_by_key(|(_, mark)| often(mark)).map_or((0, Vec::new()), |(at, mark)| (at, mark.to_vec()))
        };
        let (at, mark_of): (Vec<usize>, Vec<Vec<u8>>) = words.iter().map(rarest).unzip();
        let mut marks = mark_of.clone();
        marks.sort();
        marks.dedup();
        let with_mark = |mark: &Vec<u8>| -> Vec<u8> {
            (0..).zip(&mark_of).filter(|(_, own)| mark.starts_with(own)).map(|(word, _)| word).collect()
        };
        let marked = marks.iter().map(with_mark).collect();
        let mut builder = Config::new().match_kind(MatchKind::LeftmostLongest).builder();
        builder.extend(&marks);
        let automaton = |fold: bool| {
            let own: Vec<u8> = (0..).zip(words).filter(|(_, word)| word.fold == fold).map(|(w, _)| w).collect();
            let patterns = own.iter().map(|word| &words[usize::from(*word)].bytes);
            let nfa = NFA::builder().ascii_case_insensitive(fold).build(patterns);
            let nfa = nfa.expect("an automaton has room for 2^31 states, and the words of a program have 2^12 bytes");
            (!own.is_empty()).then_some((nfa, own))
        };
        let many = ManyWords {
            words: words.to_vec(),
            at,
            marks: builder.build(),
            marked,
            folds,
            automata: [automaton(false), automaton(true)],
        };
        assert!(many.memory_bytes() <= MEMORY_MAX, "{} bytes of searchers", many.memory_bytes());
        many
    }

    /// The memory that the searchers hold, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let automata: usize = self.automata.iter().flatten().map(|(nfa, _)| nfa.memory_usage()).sum();
        automata + self.marks.as_ref().map_or(0, Searcher::memory_usage)
    }

    /// Where the first occurrence of a word may start that a pass did not tell, which gave up at `place`.
    pub(crate) fn resume(&self, word: usize, place: usize) -> usize {
        place.saturating_sub(self.at[word])
    }

    /// Tells `hit` every occurrence of the words in `wanted`, in any order, or those whose mark is before the byte at
    /// which it gives up.
    pub(crate) fn pass(&self, bytes: &[u8], wanted: WordMask, hit: Hit<'_>) -> Pass {
        let Some(marks) = &self.marks else { return Pass::GaveUp(0) };
        let mut comparisons_left = COMPARISONS_FREE + bytes.len() / COMPARISONS_PER_BYTES;
        let (mut wanted, mut lower) = (wanted, [0; CHUNK_LEN]);
        let mut start = 0;
        while start < bytes.len() {
            let whole = &bytes[start..];
            let chunk = match self.folds {
                true => {
                    let len = whole.len().min(CHUNK_LEN);
                    let lower = &mut lower[..len];
                    lower.iter_mut().zip(whole).for_each(|(lower, byte)| *lower = byte.to_ascii_lowercase());
                    &*lower
                }
                false => whole,
            };
            // Marks that the chunk's end may cut are the next one's.
            let (mut from, next) = (0, CHUNK_LEN - (MARK_LEN - 1));
            while let Some(found) = marks.find_in(chunk, Span { start: from, end: chunk.len() }) {
                if chunk.len() < whole.len() && found.start() >= next {
                    break;
                }
                let place = start + found.start();
                if comparisons_left == 0 {
                    return Pass::GaveUp(place);
                }
                for word in self.marked[found.pattern().as_usize()].iter().map(|word| usize::from(*word)) {
                    comparisons_left = comparisons_left.saturating_sub(1);
                    if wanted >> word & 1 == 0 {
                        continue;
                    }
                    let Some(at) = place.checked_sub(self.at[word]) else { continue };
                    if is_at(&self.words[word], bytes, at) {
                        wanted = hit(word, at, 1);
                        if wanted == 0 {
                            return Pass::Done;
                        }
                    }
                }
                from = found.start() + 1;
            }
            if chunk.len() == whole.len() {
                break;
            }
            start += next;
        }
        Pass::Done
    }

    /// Tells `hit` every occurrence whose mark is at `place` or behind, with the automata.
    #[inline(never)]
    pub(crate) fn walk(&self, bytes: &[u8], place: usize, mut wanted: WordMask, hit: Hit<'_>) {
        let start = place.saturating_sub(WORD_LEN_MAX - 1);
        for (nfa, own) in self.automata.iter().flatten() {
            let all = own.iter().fold(0, |mask, word| mask | 1 << word);
            if wanted & all == 0 {
                continue;
            }
            let Ok(mut state) = nfa.start_state(Anchored::No) else { continue };
            for (end, byte) in (start + 1..).zip(&bytes[start..]) {
                state = nfa.next_state(Anchored::No, state, *byte);
                if !nfa.is_special(state) || !nfa.is_match(state) {
                    continue;
                }
                for number in 0..nfa.match_len(state) {
                    let word = usize::from(own[nfa.match_pattern(state, number).as_usize()]);
                    let at = end - self.words[word].bytes.len();
                    if wanted >> word & 1 != 0 && at + self.at[word] >= place {
                        wanted &= hit(word, at, 1);
                    }
                }
                if wanted & all == 0 {
                    break;
                }
            }
        }
    }
}
