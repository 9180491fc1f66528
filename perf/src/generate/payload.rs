//! What packets carry: bytes by chance, or mails, with words planted into a share of the packets.

use super::flows::unit;
use super::stamp::STAMP_LEN;
use crate::run::PerfError;
use crate::verify::chance::Chance;
use std::path::Path;
use std::str::FromStr;

/// The most bytes of a corpus.
pub const CORPUS_BYTES_MAX: u64 = 256 << 20;
/// Bytes by chance that payloads are cut from.
const RANDOM_LEN: usize = 1 << 16;

/// A word and the share of packets that it is planted into.
#[derive(Clone, Debug, PartialEq)]
pub struct Planted {
    /// The word.
    pub word: Vec<u8>,
    /// From 0 to 1.
    pub share: f64,
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(text: &str) -> Result<Planted, String> {
        let expected =
            || format!("`{text}` plants nothing; expected WORD=SHARE with a share from 0 to 1, e.g. lottery=0.05");
        let (word, share) = text.rsplit_once('=').ok_or_else(expected)?;
        let share: f64 = share.parse().map_err(|_| expected())?;
        if word.is_empty() || !(0.0..=1.0).contains(&share) {
            return Err(expected());
        }
        Ok(Planted { word: word.as_bytes().to_vec(), share })
    }
}

/// The bytes that payloads are cut from: one text behind the other, each gone through from its beginning.
pub struct Source {
    bytes: Vec<u8>,
    /// Where each text begins and ends.
    texts: Vec<(usize, usize)>,
    /// The text that is being cut, and how far.
    text: usize,
    at: usize,
}

impl Source {
    /// Bytes by chance.
    pub fn random(chance: &mut Chance) -> Source {
        let bytes: Vec<u8> = (0..RANDOM_LEN / 8).flat_map(|_| chance.bits().to_le_bytes()).collect();
        Source { texts: vec![(0, bytes.len())], bytes, text: 0, at: 0 }
    }

    /// The mails of a folder (each file is one, in the order of their names) or of an mbox file (RFC 4155: each begins with
    /// a line that starts with `From `).
    pub fn corpus(path: &Path) -> Result<Source, PerfError> {
        let file = |path: &Path, error| PerfError::File { path: path.to_owned(), error };
        let too_large = || PerfError::Option(format!("{}: more than {CORPUS_BYTES_MAX} bytes of mail", path.display()));
        let mut source = Source { bytes: Vec::new(), texts: Vec::new(), text: 0, at: 0 };
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|e| file(path, e))?;
            let mut paths = Vec::new();
            for entry in entries {
                let path = entry.map_err(|e| file(path, e))?.path();
                if path.is_file() {
                    paths.push(path);
                }
            }
            paths.sort();
            for path in paths {
                let text = std::fs::read(&path).map_err(|e| file(&path, e))?;
                if (source.bytes.len() + text.len()) as u64 > CORPUS_BYTES_MAX {
                    return Err(too_large());
                }
                source.push(&text);
            }
        } else {
            let len = std::fs::metadata(path).map_err(|e| file(path, e))?.len();
            if len > CORPUS_BYTES_MAX {
                return Err(too_large());
            }
            let bytes = std::fs::read(path).map_err(|e| file(path, e))?;
            for text in mails(&bytes) {
                source.push(text);
            }
        }
        if source.texts.is_empty() {
            return Err(PerfError::Option(format!("{}: there is no mail in it", path.display())));
        }
        Ok(source)
    }

    fn push(&mut self, text: &[u8]) {
        if !text.is_empty() {
            let start = self.bytes.len();
            self.bytes.extend(text);
            self.texts.push((start, self.bytes.len()));
            self.at = self.texts[0].0;
        }
    }

    /// Appends the next `len` bytes: the next piece of a text; what lacks at its end is filled with the next text's.
    pub fn cut(&mut self, len: usize, into: &mut Vec<u8>) {
        let mut left = len;
        while left > 0 {
            let (_, end) = self.texts[self.text];
            let take = left.min(end - self.at);
            into.extend_from_slice(&self.bytes[self.at..self.at + take]);
            self.at += take;
            left -= take;
            if self.at == end {
                self.text = (self.text + 1) % self.texts.len();
                self.at = self.texts[self.text].0;
            }
        }
    }
}

/// The mails of an mbox, without their first lines.
fn mails(bytes: &[u8]) -> Vec<&[u8]> {
    let mut mails = Vec::new();
    let mut start = None;
    let mut at = 0;
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        if line.starts_with(b"From ") {
            if let Some(start) = start {
                mails.push(&bytes[start..at]);
            }
            start = Some(at + line.len());
        }
        at += line.len();
    }
    mails.extend(start.map(|start| &bytes[start..]));
    mails
}

/// Plants words into payloads, and counts where there was no room.
pub struct Planter {
    words: Vec<Planted>,
    /// By word: how many payloads have it now.
    pub planted: Vec<u64>,
    /// Payloads that had no room for a word behind the stamp and the words before.
    pub without_room: u64,
}

impl Planter {
    /// Of these words.
    pub fn new(words: Vec<Planted>) -> Planter {
        Planter { planted: vec![0; words.len()], words, without_room: 0 }
    }
    /// Plants into the share of payloads that each word has, at places by chance behind the stamp; words do not overlap.
    pub fn plant(&mut self, payload: &mut [u8], chance: &mut Chance) {
        let mut from = STAMP_LEN.min(payload.len());
        for (number, planted) in self.words.iter().enumerate() {
            if unit(chance) >= planted.share {
                continue;
            }
            let Some(spare) = (payload.len() - from).checked_sub(planted.word.len()) else {
                self.without_room += 1;
                continue;
            };
            // The later words need room too, so an early place is chosen where there are several.
            let spare = if number + 1 < self.words.len() { spare / 2 } else { spare };
            let at = from + chance.below(spare + 1);
            payload[at..at + planted.word.len()].copy_from_slice(&planted.word);
            from = at + planted.word.len();
            self.planted[number] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mails_of_an_mbox_and_of_a_folder_are_cut_in_order() {
        let dir = tempfile::tempdir().expect("a folder");
        let mbox = dir.path().join("mails");
        std::fs::write(&mbox, "From a@b Thu\nSubject: x\n\nFromage\nFrom c@d Fri\nsecond\n").expect("a file");
        let mut source = Source::corpus(&mbox).expect("two mails");
        let mut cut = Vec::new();
        source.cut(30, &mut cut);
        assert_eq!(cut, b"Subject: x\n\nFromage\nsecond\nSub");
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("2"), "two").expect("a file");
        std::fs::write(folder.join("1"), "one").expect("a file");
        let mut cut = Vec::new();
        Source::corpus(&folder).expect("two mails").cut(8, &mut cut);
        assert_eq!(cut, b"onetwoon");
    }

    #[test]
    fn a_corpus_without_mail_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(matches!(Source::corpus(dir.path()), Err(PerfError::Option(_))));
        let file = dir.path().join("no-mbox");
        std::fs::write(&file, "no line of an mbox\n").expect("a file");
        assert!(matches!(Source::corpus(&file), Err(PerfError::Option(_))));
        assert!(matches!(Source::corpus(&dir.path().join("nowhere")), Err(PerfError::File { .. })));
    }

    #[test]
    fn words_are_planted_into_their_share_behind_the_stamp() {
        let words = ["lottery=0.25", "winner=0.5"].map(|text| text.parse().expect("a word and a share"));
        let mut planter = Planter::new(words.to_vec());
        let mut chance = Chance::new(3);
        let (mut lottery, mut winner) = (0, 0);
        for _ in 0..4_000 {
            let mut payload = [b'.'; 80];
            planter.plant(&mut payload, &mut chance);
            assert_eq!(payload[..STAMP_LEN], [b'.'; STAMP_LEN]);
            lottery += u64::from(payload.windows(7).any(|w| w == b"lottery"));
            winner += u64::from(payload.windows(6).any(|w| w == b"winner"));
        }
        assert_eq!((planter.planted.clone(), planter.without_room), (vec![lottery, winner], 0));
        // Four standard deviations are 110 and 126 packets.
        assert!(lottery.abs_diff(1_000) < 110 && winner.abs_diff(2_000) < 126, "{lottery}, {winner}");
        planter.plant(&mut [0; STAMP_LEN], &mut Chance::new(1));
        for wrong in ["", "word", "=1", "word=2", "word=-0.1", "word=x"] {
            assert!(wrong.parse::<Planted>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_word_without_room_is_counted() {
        let mut planter = Planter::new(vec!["lottery=1".parse().expect("a word")]);
        planter.plant(&mut [0; STAMP_LEN + 6], &mut Chance::new(1));
        assert_eq!((planter.planted[0], planter.without_room), (0, 1));
    }
}
