//! Running a program as its tree, on a window of packets.
//!
//! A [`Walk`] lies on the stack: sets of packets are bits, slots are arrays, and what packets have in common is found
//! in tables of fixed size. So nothing is allocated, and nothing is kept from one window to the next but the streams.
//! Its sizes are constants of its type: `N` words of a set, `P` packets and `S` slots at most. It is a run of the
//! reference interpreter (`vinet_trusted::meaning`) step by step, without the trace.

use crate::contains_string::{WordMask, Words};
use crate::equals::Equals;
use crate::generate::{Data, Generated, Kind};
use crate::group_by_content::{self, Frames, Grouping};
use crate::packet_set::{PacketSet, minus, union};
use crate::parse::{Transport, transport};
use crate::select::passes;
use crate::stream::{FlowKey, Streams};
use crate::tree::{Check, Own, Step, Term, Tree};
use crate::{group_by_destination, group_by_source};
use ahash::RandomState;
use vinet_trusted::addr::Addr;
use vinet_trusted::check::Checked;
use vinet_trusted::gate::{self, GeneratePermit, ScanPermit};
use vinet_trusted::meaning::End;
use vinet_trusted::packet::{Field, Packet};
use vinet_trusted::program::{ALL_PACKETS, COUNT_MAX, Expr, Slot};

/// Who takes what is generated, with the leave to send it.
pub type Sink<'s> = &'s mut dyn FnMut(GeneratePermit, Generated<'_>);

/// What a walk needs of the executable.
#[derive(Clone, Copy)]
pub(crate) struct Program<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) own: &'a Own,
    pub(crate) words: &'a Words,
    pub(crate) hasher: &'a RandomState,
    pub(crate) checked: &'a Checked,
    /// Leave to look into every packet that the program is given, where the policy gives it as a whole.
    pub(crate) scan: Option<ScanPermit>,
}

impl Program<'_> {
    /// Leave to look into `packet`.
    #[inline]
    pub(crate) fn leave_to_scan(&self, packet: &Packet) -> Option<ScanPermit> {
        self.scan.or_else(|| gate::scan(self.checked, packet))
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome<const N: usize> {
    pub(crate) discarded: PacketSet<N>,
    pub(crate) end: End,
    /// How often GENERATE was run with leave, and without.
    pub(crate) generated: u16,
    pub(crate) generates_refused: u64,
    /// The packets whose content was to be looked at without leave.
    pub(crate) scans_refused: u64,
}

/// The content of one packet, as far as searches are asked about it.
#[derive(Clone, Copy)]
enum Searched<'a> {
    /// There is no leave to look into it.
    Hidden,
    /// Its payload.
    Own(&'a [u8]),
    /// That of its flow, with the words in it.
    Flow { key: FlowKey, found: WordMask },
}

/// One run.
pub(crate) struct Walk<'a, const N: usize, const P: usize, const S: usize> {
    program: Program<'a>,
    frames: Frames<'a>,
    packets: &'a [Packet],
    streams: Option<&'a Streams>,
    searched: [Searched<'a>; P],
    sets: [PacketSet<N>; S],
    addrs: [Addr; S],
    ints: [i64; S],
    by_source: Option<Equals<N, P>>,
    by_destination: Option<Equals<N, P>>,
    by_content: Option<Equals<N, P>>,
    by_flow: Option<Equals<N, P>>,
    batch: u64,
    outcome: Outcome<N>,
}

impl<'a, const N: usize, const P: usize, const S: usize> Walk<'a, N, P, S> {
    /// Runs the program on the packets of `frames`, at most `P`. `batch` is the number of what it may generate.
    pub(crate) fn run(
        program: Program<'a>,
        frames: Frames<'a>,
        packets: &'a [Packet],
        streams: Option<&'a mut Streams>,
        batch: u64,
        sink: Sink<'_>,
    ) -> Outcome<N> {
        assert!(frames.len() == packets.len() && packets.len() <= P && program.tree.slots <= S, "the window fits");
        let mut walk = Walk {
            program,
            frames,
            packets,
            streams: None,
            searched: [Searched::Hidden; P],
            sets: [PacketSet::EMPTY; S],
            addrs: [Addr::V4(0); S],
            ints: [0; S],
            by_source: None,
            by_destination: None,
            by_content: None,
            by_flow: None,
            batch,
            outcome: Outcome {
                discarded: PacketSet::EMPTY,
                end: End::Done,
                generated: 0,
                generates_refused: 0,
                scans_refused: 0,
            },
        };
        walk.sets[usize::from(ALL_PACKETS)] = PacketSet::first(packets.len());
        if let Some(streams) = streams {
            // The history needs every packet, so it is kept before anything is decided.
            walk.observe(streams);
            walk.streams = Some(streams);
        }
        if let Err(end) = walk.block(&program.tree.body, sink) {
            walk.outcome.end = end;
        }
        walk.outcome
    }

    /// Adds the packets of the window to the contents of their flows.
    fn observe(&mut self, streams: &mut Streams) {
        let words = self.program.words;
        let all = words.all();
        for (p, (frame, headers)) in self.frames.iter().enumerate() {
            let Some(_leave) = self.program.leave_to_scan(&self.packets[p]) else {
                self.outcome.scans_refused += 1;
                continue;
            };
            self.searched[p] = match transport(frame, headers) {
                Transport::Tcp(tcp) if streams.keeps_history() => {
                    let key = FlowKey::new(headers.src, headers.dst, tcp.src_port, tcp.dst_port);
                    let found = streams.observe(words, all, key, &tcp, &frame[tcp.payload.clone()]);
                    Searched::Flow { key, found }
                }
                other => Searched::Own(&frame[other.payload()]),
            };
        }
        if P > 1 {
            self.join_flows();
        }
    }

    /// Gives each packet of a flow what the last one of it found: the content so far is that of the whole window.
    fn join_flows(&mut self) {
        let searched = &self.searched;
        let flow = |p: usize| match &searched[p] {
            Searched::Flow { key, .. } => Some(*key),
            _ => None,
        };
        let mut flows = Equals::default();
        for p in (0..self.packets.len()).filter(|&p| flow(p).is_some()) {
            flows.insert(p, |p| self.program.hasher.hash_one(flow(p)), |a, b| flow(a) == flow(b));
        }
        let mut all_found = [0; P];
        for (p, searched) in self.searched.iter().enumerate() {
            if let Searched::Flow { found, .. } = searched {
                all_found[flows.class(p)] |= found;
            }
        }
        for (p, searched) in self.searched.iter_mut().enumerate() {
            if let Searched::Flow { found, .. } = searched {
                *found = all_found[flows.class(p)];
            }
        }
        self.by_flow = Some(flows);
    }

    fn packets(&self, slot: Slot) -> PacketSet<N> {
        self.sets[usize::from(slot)]
    }

    fn addr(&self, term: Term) -> Addr {
        match term {
            Term::Slot(slot) => self.addrs[usize::from(slot)],
            term => self.program.own.name(term),
        }
    }

    fn expr(&self, expr: &Expr) -> Result<i64, End> {
        let value = match expr {
            Expr::Const { value } => Some(*value),
            Expr::Slot { slot } => Some(self.ints[usize::from(*slot)]),
            Expr::Add { a, b } => self.expr(a)?.checked_add(self.expr(b)?),
            Expr::Sub { a, b } => self.expr(a)?.checked_sub(self.expr(b)?),
            Expr::Mul { a, b } => self.expr(a)?.checked_mul(self.expr(b)?),
        };
        value.ok_or(End::Overflow)
    }

    fn block(&mut self, block: &'a [Step], sink: Sink<'_>) -> Result<(), End> {
        for step in block {
            self.step(step, sink)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &'a Step, sink: Sink<'_>) -> Result<(), End> {
        match step {
            Step::Select { out, arg, test } => {
                let mut chosen = PacketSet::EMPTY;
                for p in self.packets(*arg).iter() {
                    if passes(self.program.tree, self.program.own, test, &self.packets[p], &self.addrs) {
                        chosen.insert(p);
                    }
                }
                self.sets[usize::from(*out)] = chosen;
            }
            // The groups of a set are made when they are gone through.
            Step::Partition { out, arg, field: _ } => self.sets[usize::from(*out)] = self.packets(*arg),
            Step::Content { dests, contents, arg } => {
                let grouped = self.group_by_content(self.packets(*arg));
                self.sets[usize::from(*dests)] = grouped;
                self.sets[usize::from(*contents)] = grouped;
            }
            Step::Union { out, a, b } => self.sets[usize::from(*out)] = union(&self.packets(*a), &self.packets(*b)),
            Step::Minus { out, a, b } => self.sets[usize::from(*out)] = minus(&self.packets(*a), &self.packets(*b)),
            Step::Count { out, arg, word } => self.ints[usize::from(*out)] = self.count(self.packets(*arg), *word),
            Step::Size { out, arg } => self.ints[usize::from(*out)] = self.packets(*arg).len() as i64,
            Step::Let { out, expr } => self.ints[usize::from(*out)] = self.expr(expr)?,
            Step::Offset { out, base, by } => {
                let addr = self.addr(*base).offset(self.expr(by)?).ok_or(End::Overflow)?;
                self.addrs[usize::from(*out)] = addr;
            }
            Step::Discard { arg } => {
                self.outcome.discarded = union(&self.outcome.discarded, &self.packets(*arg));
            }
            Step::Generate { src, dst, data, contents } => {
                let kind = if *contents { Kind::Contents } else { Kind::Dests };
                self.generate(self.addr(*src), self.addr(*dst), kind, *data, sink);
            }
            Step::If { cond, then, otherwise } => {
                let block = if self.check(cond)? { then } else { otherwise };
                self.block(block, sink)?;
            }
            Step::Foreach { groups, field, packets, key, body } => {
                let mut rest = self.packets(*groups);
                while let Some(first) = rest.earliest() {
                    let group = self.group_of(*field, first, &rest);
                    rest = minus(&rest, &group);
                    self.sets[usize::from(*packets)] = group;
                    self.addrs[usize::from(*key)] = self.packets[first].field(*field);
                    self.block(body, sink)?;
                }
            }
            Step::While { cond, turns, body } => {
                let mut turns_left = *turns;
                while self.check(cond)? {
                    turns_left = turns_left.checked_sub(1).ok_or(End::Exhausted)?;
                    self.block(body, sink)?;
                }
            }
        }
        Ok(())
    }

    /// The packets of `set` that have the address of `first`, one of them.
    fn group_of(&mut self, field: Field, first: usize, set: &PacketSet<N>) -> PacketSet<N> {
        if P == 1 {
            return *set;
        }
        let (packets, hasher) = (self.packets, self.program.hasher);
        match field {
            Field::Src => self.by_source.get_or_insert_with(|| group_by_source::partition(packets, hasher)),
            Field::Dst => self.by_destination.get_or_insert_with(|| group_by_destination::partition(packets, hasher)),
        }
        .equals(first, set)
    }

    /// Looks into the packets of `set`; returns those that there is leave for.
    fn group_by_content(&mut self, set: PacketSet<N>) -> PacketSet<N> {
        let classes = self.by_content.get_or_insert_default();
        let mut grouped = PacketSet::EMPTY;
        for p in set.iter() {
            match self.program.leave_to_scan(&self.packets[p]) {
                Some(leave) => {
                    group_by_content::insert(classes, leave, p, self.frames, self.packets, self.program.hasher);
                    grouped.insert(p);
                }
                None => self.outcome.scans_refused += 1,
            }
        }
        grouped
    }

    fn generate(&mut self, src: Addr, dst: Addr, kind: Kind, data: Slot, sink: Sink<'_>) {
        let Some(classes) = &self.by_content else { return };
        match gate::generate(self.program.checked, src, dst) {
            Some(leave) => {
                let set = &self.sets[usize::from(data)];
                let grouping = Grouping::new(self.frames, self.packets, set, classes);
                let (batch, item) = (self.batch, self.outcome.generated);
                // A run has fewer GENERATEs than would overflow this, or they are more than anyone reads.
                self.outcome.generated = self.outcome.generated.saturating_add(1);
                sink(leave, Generated { src, dst, batch, item, kind, data: Data::Grouping(grouping) });
            }
            None => self.outcome.generates_refused += 1,
        }
    }

    /// How often the word is in the contents of the flows of `set`.
    fn count(&self, set: PacketSet<N>, word: u8) -> i64 {
        let mut rest = set;
        let mut count = 0;
        while let Some(p) = rest.earliest() {
            let mut counted = PacketSet::EMPTY;
            counted.insert(p);
            count += i64::from(match &self.searched[p] {
                Searched::Hidden => 0,
                Searched::Own(payload) => self.program.words.count(payload, word),
                Searched::Flow { key, .. } => {
                    if let Some(flows) = &self.by_flow {
                        counted = flows.equals(p, &rest);
                    }
                    self.streams.map_or(0, |streams| streams.count(*key, word))
                }
            });
            rest = minus(&rest, &counted);
        }
        count.min(COUNT_MAX)
    }

    fn contains(&self, set: PacketSet<N>, word: u8) -> bool {
        set.iter().any(|p| match &self.searched[p] {
            Searched::Hidden => false,
            Searched::Own(payload) => self.program.words.contains(payload, word),
            Searched::Flow { found, .. } => found >> word & 1 != 0,
        })
    }

    fn check(&self, check: &Check) -> Result<bool, End> {
        Ok(match check {
            Check::True => true,
            Check::False => false,
            Check::Contains { arg, word } => self.contains(self.packets(*arg), *word),
            Check::Empty { arg } => self.packets(*arg).is_empty(),
            Check::In { slot, test, key: _ } => {
                self.program.own.set(self.program.tree, *test).contains(self.addrs[usize::from(*slot)])
            }
            Check::Is { slot, other } => self.addrs[usize::from(*slot)] == self.addrs[usize::from(*other)],
            Check::AtMost { a, b } => self.expr(a)? <= self.expr(b)?,
            Check::Equal { a, b } => self.expr(a)? == self.expr(b)?,
            Check::Not(a) => !self.check(a)?,
            Check::And(a, b) => self.check(a)? && self.check(b)?,
            Check::Or(a, b) => self.check(a)? || self.check(b)?,
        })
    }
}
