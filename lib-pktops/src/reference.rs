//! The slow and obvious way to run a program, for comparison.
//!
//! [`Reference`] gives the reference interpreter of `vinet_trusted` one window after the other, and answers its
//! questions about content from a map with one entry for each sequence number of each flow. It forgets nothing, so its
//! memory grows with the traffic. The executor has to agree with it while no limit of the policy is met.

use crate::generate::{Data, Generated, Kind};
use crate::group_by_content::Content;
use crate::packet::packet;
use crate::parse::{Headers, Transport, flags, transport};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use vinet_trusted::addr::{Addr, Principal, Unset};
use vinet_trusted::meaning::{self, Answers, End, Event};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Program, Word};

/// A program of one owner, and all that it has seen.
#[derive(Debug)]
pub struct Reference {
    program: Program,
    owner: Principal,
    policy: Arc<Policy>,
    flows: HashMap<FlowName, Stream>,
    batches: u64,
}

/// Source, destination, and the two ports.
type FlowName = (Addr, Addr, u16, u16);

/// What a program did with a window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// For each packet whether it is discarded.
    pub discarded: Vec<bool>,
    /// What was generated, in order.
    pub generated: Vec<Sent>,
    /// How the run ended.
    pub end: End,
    /// What it cost by the policy's prices, in cycles.
    pub cost: u64,
}

/// One GENERATE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The source address.
    pub src: Addr,
    /// Where to.
    pub dst: Addr,
    /// See [`Generated::batch`].
    pub batch: u64,
    /// See [`Generated::item`].
    pub item: u16,
    /// What it tells.
    pub kind: Kind,
    /// It, as [`Generated::bytes`].
    pub bytes: Vec<u8>,
}

impl Sent {
    /// What was generated, to be sent.
    #[must_use]
    pub fn generated(&self) -> Generated<'_> {
        let Sent { src, dst, batch, item, kind, ref bytes } = *self;
        Generated { src, dst, batch, item, kind, data: Data::Bytes(bytes) }
    }
}

/// The content of a TCP flow.
#[derive(Debug, Default)]
struct Stream {
    /// The first byte seen at each sequence number, which starts at 2^40 with the first data.
    bytes: BTreeMap<u64, u8>,
    /// The 32-bit sequence number of 2^40.
    first: u32,
    /// Where the furthest byte ends.
    furthest: u64,
    /// Where each word is in the content.
    found: Vec<HashSet<u64>>,
}

const ORIGIN: u64 = 1 << 40;

impl Stream {
    /// Adds the data that starts at the 32-bit sequence number `seq`, and looks for the words with new bytes in them.
    fn add(&mut self, seq: u32, data: &[u8], words: &[Word]) {
        self.found.resize(words.len(), HashSet::new());
        if data.is_empty() {
            return;
        }
        if self.bytes.is_empty() {
            self.first = seq;
            self.furthest = ORIGIN;
        }
        // Of all the numbers that are `seq` modulo 2^32, the one nearest to the furthest byte; of two equally near, the
        // lower.
        let same = ORIGIN + u64::from(seq.wrapping_sub(self.first));
        let start = (-1..=i64::try_from(self.furthest >> 32).unwrap_or(i64::MAX - 1))
            .filter_map(|turn| same.checked_add_signed(turn << 32))
            .min_by_key(|at| (at.abs_diff(self.furthest), *at))
            .unwrap_or(same);
        let end = start + data.len() as u64;
        self.furthest = self.furthest.max(end);
        // The new bytes, as runs from the first to the last.
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (at, byte) in (start..).zip(data) {
            if self.bytes.contains_key(&at) {
                continue;
            }
            self.bytes.insert(at, *byte);
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == at => *last = at,
                _ => runs.push((at, at)),
            }
        }
        // An occurrence that was not there before has a new byte in it.
        for (k, word) in words.iter().enumerate() {
            let reach = word.bytes.len() as u64 - 1;
            for start in runs.iter().flat_map(|(first, last)| first - reach..=*last) {
                if self.holds(start, word) {
                    self.found[k].insert(start);
                }
            }
        }
    }

    fn holds(&self, start: u64, word: &Word) -> bool {
        (start..).zip(&word.bytes).all(|(at, byte)| self.bytes.get(&at).is_some_and(|there| equal(word, *there, *byte)))
    }
}

/// Whether `there` is the byte `byte` of a word.
fn equal(word: &Word, there: u8, byte: u8) -> bool {
    if word.fold { there.to_ascii_lowercase() == byte } else { there == byte }
}

/// How often the word is in `bytes`.
fn count(word: &Word, bytes: &[u8]) -> usize {
    let is_word = |part: &&[u8]| part.iter().zip(&word.bytes).all(|(there, byte)| equal(word, *there, *byte));
    bytes.windows(word.bytes.len()).filter(is_word).count()
}

/// The contents of a window's packets.
struct Contents<'a> {
    words: &'a [Word],
    flows: &'a HashMap<FlowName, Stream>,
    /// For each packet its flow, or its own payload.
    packets: Vec<Result<FlowName, &'a [u8]>>,
}

impl Answers for Contents<'_> {
    fn contains(&mut self, packets: &[usize], word: &Word) -> bool {
        self.count(packets, word) > 0
    }
    fn count(&mut self, packets: &[usize], word: &Word) -> u64 {
        let k = self.words.iter().position(|w| w == word).expect("one of the program's words");
        let mut counted = HashSet::new();
        let counts = packets.iter().map(|&p| match &self.packets[p] {
            Ok(flow) if counted.insert(*flow) => self.flows[flow].found[k].len(),
            Ok(_) => 0,
            Err(payload) => count(word, payload),
        });
        counts.sum::<usize>() as u64
    }
}

impl Reference {
    /// Installs the program: what came before now was not seen.
    #[must_use]
    pub fn new(program: &Program, owner: &Principal, policy: &Arc<Policy>) -> Reference {
        let (program, policy) = (program.clone(), Arc::clone(policy));
        Reference { program, owner: *owner, policy, flows: HashMap::new(), batches: 0 }
    }

    /// How many packets the program looks at together, at most.
    #[must_use]
    pub fn window(&self) -> usize {
        usize::from(match self.program.window() {
            0 => self.policy.limits.window_packets_max,
            window => window,
        })
    }

    /// Runs the program on one window: frames and their headers, in order.
    ///
    /// # Errors
    /// [`Unset`] where the program uses a name that the owner has not.
    pub fn run(&mut self, frames: &[(&[u8], &Headers)]) -> Result<Outcome, Unset> {
        let words = self.program.words();
        let mut packets: Vec<Result<FlowName, &[u8]>> = Vec::new();
        for (frame, headers) in frames {
            packets.push(match transport(frame, headers) {
                Transport::Tcp(tcp) => {
                    let name = (headers.src, headers.dst, tcp.src_port, tcp.dst_port);
                    let syn = u32::from(tcp.flags & flags::SYN != 0);
                    let flow = self.flows.entry(name).or_default();
                    flow.add(tcp.seq.wrapping_add(syn), &frame[tcp.payload], words);
                    Ok(name)
                }
                other => Err(&frame[other.payload()]),
            });
        }
        // Contents are numbered in order of first arrival.
        let mut contents: Vec<Content<'_>> = Vec::new();
        let mut window = Vec::new();
        for (frame, headers) in frames {
            let mut packet = packet(frame, headers);
            let content = Content::of(frame, headers, &packet);
            let known = contents.iter().position(|known| *known == content);
            packet.content = known.unwrap_or(contents.len()) as u64;
            if known.is_none() {
                contents.push(content);
            }
            window.push(packet);
        }
        let mut answers = Contents { words, flows: &self.flows, packets };
        let run = meaning::run(&self.program, &self.owner, &self.policy, &window, &mut answers, &|_| None)?;
        let mut outcome =
            Outcome { discarded: vec![false; frames.len()], generated: Vec::new(), end: run.end, cost: run.cost };
        for event in run.events {
            match event {
                Event::Discard(p) => outcome.discarded[p] = true,
                Event::Generate { src, dst, data } => {
                    let item = u16::try_from(outcome.generated.len()).unwrap_or(u16::MAX);
                    let (kind, bytes) = encode(&data, &contents);
                    outcome.generated.push(Sent { src, dst, batch: self.batches, item, kind, bytes });
                }
                Event::Group(_) | Event::Scan(_) => {}
            }
        }
        self.batches += u64::from(!outcome.generated.is_empty());
        Ok(outcome)
    }
}

/// The bytes of data, as [`crate::generate`] defines them.
fn encode(data: &meaning::Data, contents: &[Content<'_>]) -> (Kind, Vec<u8>) {
    let mut bytes = Vec::new();
    match data {
        meaning::Data::Dests(all) => {
            for dests in all {
                bytes.extend((dests.len() as u16).to_be_bytes());
                for dest in dests {
                    match dest {
                        Addr::V4(a) => bytes.extend([&[4][..], &a.to_be_bytes()].concat()),
                        Addr::V6(a) => bytes.extend([&[6][..], &a.to_be_bytes()].concat()),
                    }
                }
            }
            (Kind::Dests, bytes)
        }
        meaning::Data::Contents(all) => {
            for content in all {
                let Content { protocol, ports, whole, payload } = contents[*content as usize];
                bytes.extend([protocol, u8::from(ports.is_some()) | u8::from(!whole) << 1]);
                bytes.extend(ports.iter().flat_map(|(src, dst)| [src.to_be_bytes(), dst.to_be_bytes()]).flatten());
                bytes.extend((payload.len() as u16).to_be_bytes());
                bytes.extend(payload);
            }
            (Kind::Contents, bytes)
        }
    }
}
