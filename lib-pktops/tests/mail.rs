//! Real mails in SMTP sessions, cut into segments as badly as can be: what streams find is what whole text holds.
//!
//! The mails are not part of the project ([`MAILS`] says where they are looked for); where they are absent the tests
//! say so and end. The oracle puts a session together as the receiver of the first byte at each number would, and
//! looks for words byte by byte.

use std::path::{Path, PathBuf};
use vinet_pktops::contains_string::{WordMask, Words};
use vinet_pktops::parse::{Tcp, flags};
use vinet_pktops::stream::{FlowKey, Streams};
use vinet_trusted::addr::Addr;
use vinet_trusted::program::Word;

/// Beside the project.
const MAILS: &str = "../../shared/data/mail";

/// A xorshift, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// The mails, in an order that does not change; none where the folder is absent.
fn mails() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(MAILS);
    let files = |kind: &str| std::fs::read_dir(folder.join(kind)).into_iter().flatten().flatten().map(|f| f.path());
    let mut paths: Vec<PathBuf> = files("ham").chain(files("spam")).collect();
    paths.sort();
    if paths.is_empty() {
        println!("skipped: there are no mails in {}", folder.display());
    }
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a mail that can be read"))).collect()
}

/// What a client sends in a session that delivers the mail: RFC 5321, with every dot that begins a line doubled.
fn session(mail: &[u8]) -> Vec<u8> {
    let mut sent = b"EHLO mx.example.net\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n".to_vec();
    for line in mail.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first() == Some(&b'.') {
            sent.push(b'.');
        }
        sent.extend(line);
        sent.extend(b"\r\n");
    }
    sent.extend(b".\r\nQUIT\r\n");
    sent
}

/// Words of mail filters: seldom and frequent ones, some in any case, of every length, more than a few.
fn words() -> Vec<Word> {
    let plain = ["lottery", "winner", "<html", "e", "Content-Type: text/html", "Received: from ", "http://www."];
    let folded = ["viagra", "free", "click here", "this is a multi-part message in mime format", "the"];
    let word = |fold| move |text: &&str| Word { fold, bytes: text.as_bytes().to_vec() };
    plain.iter().map(word(false)).chain(folded.iter().map(word(true))).collect()
}

/// How often each word is in `text`, byte by byte.
fn count(words: &[Word], text: &[u8]) -> Vec<u64> {
    let is = |word: &Word, there: &[u8]| match word.fold {
        true => there.eq_ignore_ascii_case(&word.bytes),
        false => there == word.bytes,
    };
    let count = |word: &Word| text.windows(word.bytes.len()).filter(|there| is(word, there)).count() as u64;
    words.iter().map(count).collect()
}

/// A way to cut `text` up: pieces as offset and bytes, in the order in which they are sent.
type Cut = fn(&[u8], &mut Random) -> Vec<(usize, Vec<u8>)>;

fn pieces(text: &[u8], mut len: impl FnMut() -> usize) -> Vec<(usize, Vec<u8>)> {
    let (mut at, mut pieces) = (0, Vec::new());
    while at < text.len() {
        let end = (at + len()).min(text.len());
        pieces.push((at, text[at..end].to_vec()));
        at = end;
    }
    pieces
}

fn whole_segments(text: &[u8], _: &mut Random) -> Vec<(usize, Vec<u8>)> {
    pieces(text, || 1448)
}

fn single_bytes(text: &[u8], _: &mut Random) -> Vec<(usize, Vec<u8>)> {
    pieces(text, || 1)
}

fn odd_sizes(text: &[u8], random: &mut Random) -> Vec<(usize, Vec<u8>)> {
    pieces(text, || 1 + random.below([3, 30, 300][random.0 as usize % 3]))
}

/// Every piece up to three places early or late, and some sent twice.
fn disorder(text: &[u8], random: &mut Random) -> Vec<(usize, Vec<u8>)> {
    let mut pieces = odd_sizes(text, random);
    for i in 0..pieces.len() {
        let other = (i + random.below(4)).min(pieces.len() - 1);
        pieces.swap(i, other);
    }
    let again: Vec<_> = (0..pieces.len() / 4).map(|_| pieces[random.below(pieces.len())].clone()).collect();
    pieces.extend(again);
    pieces
}

/// Retransmissions that reach over the end of what was sent before, and say something else about it.
fn liars(text: &[u8], random: &mut Random) -> Vec<(usize, Vec<u8>)> {
    let mut pieces = odd_sizes(text, random);
    for piece in pieces.iter_mut().skip(1) {
        let back = random.below(200).min(piece.0);
        let mut lie: Vec<u8> = b"free winner lottery viagra click here ".iter().copied().cycle().take(back).collect();
        lie.extend(&piece.1);
        *piece = (piece.0 - back, lie);
    }
    pieces
}

/// From the end to the start.
fn backwards(text: &[u8], _: &mut Random) -> Vec<(usize, Vec<u8>)> {
    let mut pieces = pieces(text, || text.len() / 7 + 1);
    pieces.reverse();
    pieces
}

const CUTS: [(&str, Cut); 6] = [
    ("whole segments", whole_segments),
    ("single bytes", single_bytes),
    ("odd sizes", odd_sizes),
    ("disorder", disorder),
    ("liars", liars),
    ("backwards", backwards),
];

#[test]
fn words_in_mails_are_found_and_counted_however_sessions_are_cut() {
    let mails = mails();
    let list = words();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut found_all, mut sessions) = (0u64, 0);
    // Some of the words are counted in one half of the sessions, none in the other.
    for (number, (path, mail)) in mails.iter().enumerate().filter(|(number, _)| number % 5 == 0) {
        let counted: WordMask = if number % 2 == 0 { 0b1010_1010_1010 } else { 0 };
        let words = Words::new(&list, counted);
        let text = session(&mail[..mail.len().min(40_000)]);
        let expected = count(&list, &text);
        for (name, cut) in CUTS {
            let mut streams = Streams::new(64, 16, words.longest(), counted);
            // The numbers wrap in the middle of the session, whose start or whose SYN may have been missed.
            let first_seq = (text.len() as u32 / 2).wrapping_neg();
            let key = FlowKey::new(Addr::V4(7), Addr::V4(8), sessions as u16, 25);
            let mut found = 0;
            let mut send = |seq: u32, flags: u8, bytes: &[u8]| {
                let segment = Tcp { src_port: sessions as u16, dst_port: 25, seq, flags, payload: 0..bytes.len() };
                found = streams.observe(&words, words.all(), key, &segment, bytes);
            };
            if sessions % 2 == 0 {
                send(first_seq.wrapping_sub(1), flags::SYN, b"");
            }
            for (at, bytes) in cut(&text, &mut random) {
                send(first_seq.wrapping_add(at as u32), flags::ACK, &bytes);
            }
            send(first_seq.wrapping_add(text.len() as u32), flags::FIN | flags::ACK, b"");
            assert_eq!(streams.counters().islands_evicted, 0, "{name} of {}", path.display());
            for (word, expected) in expected.iter().enumerate() {
                let place = || format!("{:?} in {name} of {}", list[word], path.display());
                assert_eq!(found >> word & 1 != 0, *expected > 0, "{}", place());
                if counted >> word & 1 != 0 {
                    assert_eq!(u64::from(streams.count(key, word as u8)), *expected, "{}", place());
                }
            }
            found_all += u64::from(found.count_ones());
            sessions += 1;
        }
    }
    println!("{sessions} sessions, {found_all} words found");
    assert!(mails.is_empty() || found_all > 500 && found_all < sessions * list.len() as u64);
}

#[test]
fn sessions_at_once_do_not_disturb_each_other() {
    let mails = mails();
    let list = words();
    let words = Words::new(&list, 0);
    let texts: Vec<Vec<u8>> = mails.iter().map(|(_, mail)| session(&mail[..mail.len().min(20_000)])).collect();
    let mut streams = Streams::new(texts.len(), 8, words.longest(), 0);
    let mut found = vec![0; texts.len()];
    let mut random = Random(42);
    let mut left: Vec<(usize, usize)> = texts.iter().map(|_| 0).enumerate().collect();
    while !left.is_empty() {
        let pick = random.below(left.len());
        let (flow, at) = left[pick];
        let end = (at + 1 + random.below(900)).min(texts[flow].len());
        let key = FlowKey::new(Addr::V4(flow as u32 / 3), Addr::V4(8), flow as u16, 25);
        let seq = (flow as u32).wrapping_mul(0x9e37_79b9).wrapping_add(at as u32);
        let segment = Tcp { src_port: flow as u16, dst_port: 25, seq, flags: flags::ACK, payload: 0..end - at };
        found[flow] = streams.observe(&words, words.all(), key, &segment, &texts[flow][at..end]);
        left[pick].1 = end;
        if end == texts[flow].len() {
            left.swap_remove(pick);
        }
    }
    for ((text, found), (path, _)) in texts.iter().zip(&found).zip(&mails) {
        let expected = count(&list, text).iter().zip(0..).fold(0, |mask, (n, w)| mask | u64::from(*n > 0) << w);
        assert_eq!(*found, expected, "{}", path.display());
    }
    assert_eq!((streams.counters().flows, streams.counters().flows_evicted), (texts.len() as u64, 0));
}
