//! Counterexamples: windows of packets on which a program does what the policy forbids.
//!
//! The search is bounded and deterministic. Packets are drawn from the addresses and numbers that program, owner and
//! policy speak of and from their neighbours; answers about content from those that the program tells apart. Every find
//! is what the reference interpreter did, asked once more; a search without a find shows nothing, and says how many runs
//! it tried.

mod mentioned;
mod trace;

use mentioned::Mentioned;
use std::fmt;
use trace::{Script, Trace};
use vinet_trusted::addr::{Addr, AddrExpr, Prefix, Principal};
use vinet_trusted::meaning::{Event, run};
use vinet_trusted::packet::{Field, Number, Packet, Test};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Program, Word};
use vinet_trusted::walk::{self, EventKind};

/// How far to search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The most packets of a window.
    pub packets_max: usize,
    /// The most runs of the program.
    pub runs_max: u64,
    /// The most steps of one run; one that takes more is looked at as far as that.
    pub run_steps_max: u64,
    /// The most steps of all runs together.
    pub steps_max: u64,
}

impl Default for Limits {
    /// Three packets, and less than a second.
    fn default() -> Self {
        Limits { packets_max: 3, runs_max: 60_000, run_steps_max: 200_000, steps_max: 10_000_000 }
    }
}

/// What a question about content was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    /// The packets whose content it was about, as indices into the window.
    pub packets: Vec<usize>,
    /// The word.
    pub word: Word,
    /// The answer.
    pub answer: Answer,
}

/// An answer about content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Of CONTAINS_STRING.
    Contains(bool),
    /// Of COUNT_STRING.
    Count(u64),
}

/// What the policy forbids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Offence {
    /// Something happens to a packet of the window.
    Packet {
        /// What.
        event: EventKind,
        /// The packet's index in the window.
        packet: usize,
    },
    /// Packets are sent.
    Generate {
        /// From where.
        src: Addr,
        /// To where.
        dst: Addr,
    },
    /// The run costs more than the policy allows for so many packets, in cycles.
    Cost {
        /// What it costs.
        cost: u64,
        /// What is allowed.
        allowed: u64,
    },
}

/// A window of packets, and answers about them, on which the program does what the policy forbids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counterexample {
    /// The packets.
    pub window: Vec<Packet>,
    /// The answers, in the order of the questions before the offence.
    pub answers: Vec<Answered>,
    /// What is forbidden.
    pub offence: Offence,
    /// The number of the instruction that does it; none where it is the cost of the whole run.
    pub instr: Option<usize>,
    /// What the policy does about it, in words.
    allowed: String,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, packet) in self.window.iter().enumerate() {
            write!(f, "packet {} from {} to {}", i + 1, packet.src, packet.dst)?;
            for number in Number::ALL {
                if let Some(value) = packet.number(number) {
                    write!(f, ", {} {value}", number_name(number))?;
                }
            }
            writeln!(f)?;
        }
        for Answered { packets, word, answer } in &self.answers {
            let numbers: Vec<String> = packets.iter().map(|p| (p + 1).to_string()).collect();
            let word = String::from_utf8_lossy(&word.bytes);
            let of =
                if numbers.is_empty() { "of no packet".into() } else { format!("of packet {}", numbers.join(", ")) };
            match answer {
                Answer::Contains(true) => writeln!(f, "the content {of} contains {word:?}")?,
                Answer::Contains(false) => writeln!(f, "the content {of} does not contain {word:?}")?,
                Answer::Count(1) => writeln!(f, "the content {of} contains {word:?} once")?,
                Answer::Count(n) => writeln!(f, "the content {of} contains {word:?} {n} times")?,
            }
        }
        match &self.offence {
            Offence::Packet { event, packet } => {
                let Packet { src, dst, .. } = self.window[*packet];
                write!(f, "packet {} from {src} to {dst} is {event}", packet + 1)?;
            }
            Offence::Generate { src, dst } => write!(f, "packets from {src} to {dst} are generated")?,
            Offence::Cost { cost, .. } => write!(f, "the run costs {cost} cycles")?,
        }
        if let Some(instr) = self.instr {
            write!(f, " by instruction {instr}")?;
        }
        write!(f, "; the policy {}", self.allowed)
    }
}

const fn number_name(number: Number) -> &'static str {
    match number {
        Number::Protocol => "protocol",
        Number::SrcPort => "source port",
        Number::DstPort => "destination port",
        Number::Length => "length",
        Number::Fin => "fin",
        Number::Syn => "syn",
        Number::Rst => "rst",
        Number::Psh => "psh",
        Number::Ack => "ack",
        Number::Urg => "urg",
    }
}

/// When a policy allows what it does not allow always.
fn allowed_where(test: &Test) -> String {
    match condition(test, true, false) {
        Ok(words) => format!("allows that only where {words}"),
        Err(_) => "never allows that".into(),
    }
}

/// The words for a test that holds or does not; or, where it is the same for all packets, whether that is so.
///
/// Denials are moved to the innermost, where English has words for them. A part of something gets parentheses.
fn condition(test: &Test, holds: bool, is_part: bool) -> Result<String, bool> {
    let is = if holds { "is" } else { "is not" };
    let field = |field: &Field| if *field == Field::Src { "the source" } else { "the destination" };
    Ok(match test {
        Test::True => return Err(holds),
        Test::False => return Err(!holds),
        Test::Owns { field: of } => format!("{} {is} the owner's", field(of)),
        Test::In { field: of, addrs } => {
            let AddrExpr { this_ip, this_subnet, prefixes } = addrs;
            let names = [(*this_ip, "THIS_IP"), (*this_subnet, "THIS_SUBNET_IP")];
            let names = names.into_iter().filter(|(is_in, _)| *is_in).map(|(_, name)| name.to_string());
            let all: Vec<String> = names.chain(prefixes.prefixes().iter().map(Prefix::to_string)).collect();
            format!("{} {is} in {{{}}}", field(of), all.join(", "))
        }
        Test::Is { field: of, slot } => format!("{} {is} what slot {slot} holds", field(of)),
        Test::Number { number, ranges } => {
            let ranges = ranges.ranges().iter();
            let all: Vec<String> =
                ranges.map(|(a, b)| if a == b { a.to_string() } else { format!("{a}..{b}") }).collect();
            format!("the {} {is} in {{{}}}", number_name(*number), all.join(", "))
        }
        Test::Not { a } => return condition(a, !holds, is_part),
        Test::And { a, b } | Test::Or { a, b } => {
            let is_and = matches!(test, Test::And { .. }) == holds;
            match (condition(a, holds, true), condition(b, holds, true)) {
                (Err(always), other) | (other, Err(always)) => {
                    return if always == is_and { other } else { Err(always) };
                }
                (Ok(a), Ok(b)) => {
                    let both = format!("{a} {} {b}", if is_and { "and" } else { "or" });
                    if is_part { format!("({both})") } else { both }
                }
            }
        }
    })
}

/// No counterexample was found; there may be one all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotFound {
    /// How many runs of the program were tried.
    pub runs: u64,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = if self.runs == 1 { "run" } else { "runs" };
        write!(f, "no counterexample found ({} {runs} tried)", self.runs)
    }
}

impl std::error::Error for NotFound {}

/// Searches for a counterexample.
///
/// # Errors
/// [`NotFound`] where the program keeps to the policy, and perhaps where it does not.
pub fn find(
    program: &Program,
    owner: &Principal,
    policy: &Policy,
    limits: &Limits,
) -> Result<Counterexample, NotFound> {
    let mut mentioned = Mentioned::of(program, owner, policy);
    let counts = mentioned.counts();
    let mut search = Search { program, owner, policy, limits, counts, runs: 0, steps: 0, most_steps: 0 };
    search.all(&mut mentioned).ok_or(NotFound { runs: search.runs })
}

/// What the packets of windows of `count` are drawn from: all, or the first and some of the others, evenly, as many as
/// leave an end in sight.
fn drawn(packets: &[Packet], count: usize) -> Vec<Packet> {
    let most = match count {
        1 => return packets.to_vec(),
        2 => 80,
        _ => 16,
    };
    let (first, others) = packets.split_at(packets.len().min(most));
    first.iter().chain(others.iter().step_by(others.len().div_ceil(most / 4).max(1))).copied().collect()
}

/// The most ways to answer that are tried on one window.
const ANSWERS_MAX: usize = 256;

struct Search<'a> {
    program: &'a Program,
    owner: &'a Principal,
    policy: &'a Policy,
    limits: &'a Limits,
    /// The counts that are tried.
    counts: Vec<u64>,
    /// How many runs were tried.
    runs: u64,
    /// How many steps they took.
    steps: u64,
    /// The most steps that a run took so far.
    most_steps: u64,
}

impl Search<'_> {
    const fn is_over(&self) -> bool {
        self.runs >= self.limits.runs_max || self.steps >= self.limits.steps_max
    }

    /// Tries windows until one is found or the limits are reached: few packets first, so that the first find has the
    /// fewest.
    fn all(&mut self, mentioned: &mut Mentioned) -> Option<Counterexample> {
        if let Some(found) = self.window(&[]) {
            return Some(found);
        }
        // What the program computes is as good as what it mentions.
        let first = mentioned.packets().first().copied();
        let mut script = Script::new(&self.counts, &[]);
        let window: Vec<Packet> = first.into_iter().collect();
        if let Ok(trace) = Trace::of(self.program, self.owner, &window, &mut script, 10_000) {
            mentioned.compute(&trace.computed);
        }
        let packets = mentioned.packets();
        let window_max = usize::from(walk::window(self.program, self.policy)).min(self.limits.packets_max);
        for count in 1..=window_max {
            let drawn = drawn(&packets, count);
            let windows = drawn.len().checked_pow(count as u32)?;
            for number in 0..windows {
                let mut rest = number;
                let window: Vec<Packet> = (0..count)
                    .map(|place| {
                        let packet = drawn[rest % drawn.len()];
                        rest /= drawn.len();
                        // Of three packets two have one content.
                        Packet { content: place as u64 / 2, ..packet }
                    })
                    .collect();
                if self.is_over() {
                    return None;
                }
                if let Some(found) = self.window(&window) {
                    return Some(self.smallest(found));
                }
            }
        }
        None
    }

    /// Tries one window with all answers that the program tells apart, as far as they are few.
    fn window(&mut self, window: &[Packet]) -> Option<Counterexample> {
        let mut choices: Vec<usize> = Vec::new();
        for _ in 0..ANSWERS_MAX {
            if self.is_over() {
                return None;
            }
            let (found, options) = self.run(window, &choices);
            if found.is_some() {
                return found;
            }
            // The next ones: the last that has another answer gets it, and those behind it start anew.
            choices.resize(options.len(), 0);
            while let Some(last) = choices.pop() {
                if last + 1 < options[choices.len()] {
                    choices.push(last + 1);
                    break;
                }
            }
            if choices.is_empty() {
                return None;
            }
        }
        None
    }

    /// One run; what it did that is forbidden, and how many answers each question had.
    fn run(&mut self, window: &[Packet], choices: &[usize]) -> (Option<Counterexample>, Vec<usize>) {
        let counts = self.counts.clone();
        let mut script = Script::new(&counts, choices);
        self.runs += 1;
        // On a way that uses a name which the owner has not, nothing is done.
        let Ok(trace) = Trace::of(self.program, self.owner, window, &mut script, self.limits.run_steps_max) else {
            return (None, script.options);
        };
        self.steps = self.steps.saturating_add(trace.steps);
        let forbidden = trace.events.iter().position(|done| self.offence(&done.event, window).is_some());
        let is_dearest = forbidden.is_none() && trace.steps > self.most_steps && !window.is_empty();
        if is_dearest {
            self.most_steps = trace.steps;
        }
        if forbidden.is_none() && !is_dearest {
            return (None, script.options);
        }
        // The reference has the last word.
        let turns = |instr: usize| trace.is_cut.then(|| trace.turns.get(&instr).copied().unwrap_or(0));
        let mut again = Script::new(&counts, choices);
        let Ok(real) = run(self.program, self.owner, self.policy, window, &mut again, &turns) else {
            return (None, script.options);
        };
        let found = |answers: usize, offence, instr, allowed| Counterexample {
            window: window.to_vec(),
            answers: script.asked[..answers].to_vec(),
            offence,
            instr,
            allowed,
        };
        if let Some(at) = forbidden {
            let done = &trace.events[at];
            let same = real
                .events
                .get(..=at)
                .is_some_and(|real| real.iter().zip(&trace.events).all(|(event, done)| *event == done.event));
            if let (true, Some((offence, test))) = (same, self.offence(&done.event, window)) {
                let found = found(done.asked, offence, Some(done.instr), allowed_where(test));
                return (Some(found), script.options);
            }
            return (None, script.options);
        }
        let allowed = self.policy.limits.complexity_max.saturating_mul(window.len() as u64);
        if real.cost > allowed {
            let offence = Offence::Cost { cost: real.cost, allowed };
            let found = found(script.asked.len(), offence, None, format!("allows at most {allowed}"));
            return (Some(found), script.options);
        }
        (None, script.options)
    }

    /// What is forbidden about an event, and what would be allowed.
    fn offence(&self, event: &Event, window: &[Packet]) -> Option<(Offence, &Test)> {
        let (test, packet, offence) = match event {
            Event::Discard(p) => {
                (&self.policy.discard, window[*p], Offence::Packet { event: EventKind::Discard, packet: *p })
            }
            Event::Group(p) => {
                (&self.policy.group, window[*p], Offence::Packet { event: EventKind::Group, packet: *p })
            }
            Event::Scan(p) => (&self.policy.scan, window[*p], Offence::Packet { event: EventKind::Scan, packet: *p }),
            Event::Generate { src, dst, data: _ } => {
                let (src, dst) = (*src, *dst);
                (&self.policy.generate, Packet::between(src, dst), Offence::Generate { src, dst })
            }
        };
        // A policy's formula has no slots.
        let allowed = test.eval(self.owner, &packet, &|_| packet.src);
        matches!(allowed, Ok(false)).then_some((offence, test))
    }

    /// The same offence with as few numbers in the packets' headers as there can be.
    fn smallest(&mut self, found: Counterexample) -> Counterexample {
        let mut best = found;
        for packet in 0..best.window.len() {
            for number in Number::ALL {
                let mut window = best.window.clone();
                if window[packet].numbers[number as usize] == Packet::ABSENT {
                    continue;
                }
                window[packet].numbers[number as usize] = Packet::ABSENT;
                if let Some(simpler) = self.window(&window).filter(|simpler| simpler.offence == best.offence) {
                    best = simpler;
                }
            }
        }
        best
    }
}
