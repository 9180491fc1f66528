//! Which sources are shut off for everyone, and how they come back.
//!
//! A source is shut off when the owners who vote against it reach a threshold, and comes back by one of three ways: the
//! votes fall below a lower threshold, its time is up, or the operator lets it back. After the last two it has a respite in
//! which it is not shut off again, whatever the votes are; then they count anew. What is decided here is carried out
//! elsewhere: [`ShutOffs::changes`] tells it, and [`ShutOffs::not_carried_out`] takes back what could not be.
//!
//! Everything is bounded: at most [`ShutOffLimits::sources_max`] are shut off at once and as many have a respite. One
//! more over the threshold waits its turn; those that wait are among the sources that are counted anyway.

use std::collections::BTreeSet;
use std::fmt;

use ahash::AHashMap;
use vinet_session::Now;
use vinet_trusted::addr::Addr;

/// How long a shut-off that could not be carried out waits for the next try.
const RETRY_MS: u64 = 5_000;

/// When sources are shut off, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutOffLimits {
    /// Distinct verified owners who have to discard a source; 0 shuts off nobody.
    pub owners: u32,
    /// Below so many a source comes back.
    pub back_below: u32,
    /// The longest time that a source is shut off, in seconds.
    pub time_s: u32,
    /// For how long a source that came back by time or by the operator is not shut off again, in seconds.
    pub respite_s: u32,
    /// Sources that are shut off at once.
    pub sources_max: usize,
}

/// Why a source came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Too few owners discard it by now.
    Votes,
    /// Its time was up.
    Time,
    /// The operator let it back.
    Operator,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Votes => "fewer owners discard it",
            Reason::Time => "its time is up",
            Reason::Operator => "the operator let it back",
        })
    }
}

/// What is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Discard everything from this source.
    ShutOff {
        /// The source.
        source: Addr,
        /// Distinct verified owners who discard it.
        owners: u32,
        /// The Unix second at which its time is up.
        until_s: u64,
    },
    /// Discard nothing more from it, but what programs discard.
    Back {
        /// The source.
        source: Addr,
        /// Why.
        reason: Reason,
    },
}

impl Change {
    /// The source that it is about.
    #[must_use]
    pub const fn source(&self) -> Addr {
        match self {
            Change::ShutOff { source, .. } | Change::Back { source, .. } => *source,
        }
    }
}

/// Where a source stands that is not as others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Shut off.
    Off,
    /// Back, and not shut off again yet.
    Respite,
}

/// A phase as it is kept over a restart, in wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutOffRecord {
    /// The source.
    pub source: Addr,
    /// Where it stands.
    pub phase: Phase,
    /// The Unix second at which that began.
    pub since_s: u64,
    /// The Unix second at which it ends.
    pub until_s: u64,
}

/// A phase as the operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutOffStatus {
    /// The source, its phase and times.
    pub record: ShutOffRecord,
    /// Distinct verified owners who discard it now.
    pub owners: u32,
}

/// The source is not shut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotShutOff(pub Addr);

impl fmt::Display for NotShutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the source {} is not shut off", self.0)
    }
}
impl std::error::Error for NotShutOff {}

/// What was decided so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ShutOffCounts {
    /// Times that a source was shut off.
    pub shut_off: u64,
    /// Times that one came back because of the votes.
    pub back_by_votes: u64,
    /// Times that one came back because its time was up.
    pub back_by_time: u64,
    /// Times that one came back by the operator.
    pub back_by_operator: u64,
}

#[derive(Clone, Copy)]
struct State {
    phase: Phase,
    since_s: u64,
    until_s: u64,
    until_ms: u64,
}

/// The register of sources that are shut off or were lately.
pub struct ShutOffs {
    limits: ShutOffLimits,
    states: AHashMap<Addr, State>,
    /// The votes of every source that has as many as keep one shut off; of others it does not matter how many.
    votes: AHashMap<Addr, u32>,
    /// Sources over the threshold that are to be shut off as soon as there is room.
    ready: BTreeSet<Addr>,
    /// Sources whose votes have fallen since [`ShutOffs::changes`].
    fallen: BTreeSet<Addr>,
    /// The ends of shut-offs and of respites, in milliseconds.
    off_ends: BTreeSet<(u64, Addr)>,
    respite_ends: BTreeSet<(u64, Addr)>,
    /// Decided from outside, to be told.
    decided: Vec<Change>,
    counts: ShutOffCounts,
}

impl fmt::Debug for ShutOffs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutOffs").field("off", &self.off_ends.len()).field("ready", &self.ready.len()).finish()
    }
}

impl ShutOffs {
    /// Nobody is shut off.
    #[must_use]
    pub fn new(limits: ShutOffLimits) -> ShutOffs {
        ShutOffs {
            limits,
            states: AHashMap::new(),
            votes: AHashMap::new(),
            ready: BTreeSet::new(),
            fallen: BTreeSet::new(),
            off_ends: BTreeSet::new(),
            respite_ends: BTreeSet::new(),
            decided: Vec::new(),
            counts: ShutOffCounts::default(),
        }
    }

    /// Other limits from now on, and the votes of every source, to be looked at by them. A source that is shut off keeps
    /// its time.
    pub fn set_limits(&mut self, limits: ShutOffLimits, votes: impl Iterator<Item = (Addr, u32)>) {
        self.limits = limits;
        self.votes.clear();
        self.ready.clear();
        for (source, votes) in votes {
            self.voted(source, votes);
        }
        self.fallen.extend(self.off_ends.iter().map(|(_, source)| *source));
    }

    fn is_over(&self, votes: u32) -> bool {
        self.limits.owners > 0 && votes >= self.limits.owners
    }

    /// Takes note of how many owners vote against `source` now.
    pub fn voted(&mut self, source: Addr, votes: u32) {
        if votes > 0 && votes >= self.limits.back_below.min(self.limits.owners) {
            self.votes.insert(source, votes);
        } else {
            self.votes.remove(&source);
        }
        let state = self.states.get(&source).map(|state| state.phase);
        if self.is_over(votes) {
            if state.is_none() {
                self.ready.insert(source);
            }
        } else {
            self.ready.remove(&source);
            if state == Some(Phase::Off) {
                self.fallen.insert(source);
            }
        }
    }

    fn votes_of(&self, source: Addr) -> u32 {
        self.votes.get(&source).copied().unwrap_or(0)
    }

    /// What is to be carried out at `now`, in this order.
    pub fn changes(&mut self, now: Now) -> Vec<Change> {
        for source in std::mem::take(&mut self.fallen) {
            let is_off = self.states.get(&source).is_some_and(|state| state.phase == Phase::Off);
            if is_off && (self.limits.owners == 0 || self.votes_of(source) < self.limits.back_below) {
                self.end(source);
                self.counts.back_by_votes += 1;
                self.decided.push(Change::Back { source, reason: Reason::Votes });
            }
        }
        while let Some(source) = due(&self.off_ends, now) {
            self.give_respite(source, now);
            self.counts.back_by_time += 1;
            self.decided.push(Change::Back { source, reason: Reason::Time });
        }
        while let Some(source) = due(&self.respite_ends, now) {
            self.end(source);
        }
        while self.off_ends.len() < self.limits.sources_max
            && let Some(source) = self.ready.pop_first()
        {
            let time_s = u64::from(self.limits.time_s);
            let until_s = now.wall_s + time_s;
            self.begin(
                source,
                State { phase: Phase::Off, since_s: now.wall_s, until_s, until_ms: now.mono_ms + time_s * 1_000 },
            );
            self.counts.shut_off += 1;
            self.decided.push(Change::ShutOff { source, owners: self.votes_of(source), until_s });
        }
        std::mem::take(&mut self.decided)
    }

    /// Lets a source back at the operator's wish.
    ///
    /// # Errors
    /// It is not shut off.
    pub fn let_back(&mut self, source: Addr, now: Now) -> Result<(), NotShutOff> {
        if self.states.get(&source).is_none_or(|state| state.phase != Phase::Off) {
            return Err(NotShutOff(source));
        }
        self.give_respite(source, now);
        self.counts.back_by_operator += 1;
        self.decided.push(Change::Back { source, reason: Reason::Operator });
        Ok(())
    }

    /// Takes back a shut-off that could not be carried out; it is tried again in a while.
    pub fn not_carried_out(&mut self, source: Addr, now: Now) {
        if self.states.get(&source).is_some_and(|state| state.phase == Phase::Off) {
            self.end(source);
            self.counts.shut_off -= 1;
            self.ready.remove(&source);
            self.begin_respite(source, now, RETRY_MS);
        }
    }

    fn give_respite(&mut self, source: Addr, now: Now) {
        self.end(source);
        self.ready.remove(&source);
        self.begin_respite(source, now, u64::from(self.limits.respite_s) * 1_000);
    }

    fn begin_respite(&mut self, source: Addr, now: Now, time_ms: u64) {
        // The one that would end first gives way, so that there are never more than may be shut off.
        while self.respite_ends.len() >= self.limits.sources_max.max(1)
            && let Some(&(_, first)) = self.respite_ends.first()
        {
            self.end(first);
        }
        self.begin(
            source,
            State {
                phase: Phase::Respite,
                since_s: now.wall_s,
                until_s: now.wall_s + time_ms.div_ceil(1_000),
                until_ms: now.mono_ms + time_ms,
            },
        );
    }

    fn begin(&mut self, source: Addr, state: State) {
        match state.phase {
            Phase::Off => self.off_ends.insert((state.until_ms, source)),
            Phase::Respite => self.respite_ends.insert((state.until_ms, source)),
        };
        self.states.insert(source, state);
    }

    /// Ends what a source is in; where it is over the threshold, it is ready to be shut off.
    fn end(&mut self, source: Addr) {
        if let Some(state) = self.states.remove(&source) {
            match state.phase {
                Phase::Off => self.off_ends.remove(&(state.until_ms, source)),
                Phase::Respite => self.respite_ends.remove(&(state.until_ms, source)),
            };
        }
        if self.is_over(self.votes_of(source)) {
            self.ready.insert(source);
        }
    }

    /// Takes up what was in force before a restart, once the programs are counted again. A source whose time is up, or
    /// that too few owners discard by now, is passed over.
    pub fn restore(&mut self, record: &ShutOffRecord, now: Now) {
        let source = record.source;
        let left_s = record.until_s.saturating_sub(now.wall_s);
        let is_off = record.phase == Phase::Off;
        let room = if is_off { self.off_ends.len() } else { self.respite_ends.len() };
        if left_s == 0
            || self.states.contains_key(&source)
            || room >= self.limits.sources_max
            || is_off && (self.limits.owners == 0 || self.votes_of(source) < self.limits.back_below)
        {
            return;
        }
        // A clock that was set back must not make it longer than it can be.
        let left_ms = left_s.min(u64::from(if is_off { self.limits.time_s } else { self.limits.respite_s })) * 1_000;
        self.ready.remove(&source);
        self.begin(
            source,
            State {
                phase: record.phase,
                since_s: record.since_s,
                until_s: record.until_s,
                until_ms: now.mono_ms + left_ms,
            },
        );
        if is_off {
            let owners = self.votes_of(source);
            self.decided.push(Change::ShutOff { source, owners, until_s: record.until_s });
        }
    }

    /// Whether `source` is shut off.
    #[must_use]
    pub fn is_off(&self, source: Addr) -> bool {
        self.states.get(&source).is_some_and(|state| state.phase == Phase::Off)
    }

    /// The record of one source, where it is shut off or has a respite: to be kept over a restart.
    #[must_use]
    pub fn record(&self, source: Addr) -> Option<ShutOffRecord> {
        self.states.get(&source).map(|state| ShutOffRecord {
            source,
            phase: state.phase,
            since_s: state.since_s,
            until_s: state.until_s,
        })
    }

    /// Every source that is shut off or has a respite, in no order.
    pub fn all(&self) -> impl Iterator<Item = ShutOffStatus> {
        self.states.iter().map(|(&source, state)| ShutOffStatus {
            record: ShutOffRecord { source, phase: state.phase, since_s: state.since_s, until_s: state.until_s },
            owners: self.votes_of(source),
        })
    }

    /// How many sources are shut off.
    #[must_use]
    pub fn len(&self) -> usize {
        self.off_ends.len()
    }
    /// Whether nobody is shut off.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.off_ends.is_empty()
    }
    /// Sources over the threshold for which there is no room.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }
    /// What was decided so far.
    #[must_use]
    pub fn counts(&self) -> ShutOffCounts {
        self.counts
    }
}

/// The first of `ends` that is due.
fn due(ends: &BTreeSet<(u64, Addr)>, now: Now) -> Option<Addr> {
    ends.first().filter(|(at, _)| *at <= now.mono_ms).map(|(_, source)| *source)
}
