//! How the outcome of a command is told: a status, words on stderr, and words or JSON on stdout.

use super::script::ScriptFailure;
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use vinet_client::file::FileError;
use vinet_client::heads::HeadError;
use vinet_client::lang::{Errors, Place, SourceMap};
use vinet_client::link::LinkError;
use vinet_prover::counterexample::{Answer, Answered, Counterexample, NotFound, Offence};
use vinet_session::identity::IdentityError;
use vinet_trusted::packet::{Number, Packet};

/// What a command comes to.
pub(super) type Outcome = Result<(), Failure>;

/// Why a command has not done what it was asked.
pub(super) enum Failure {
    /// A lawful no: exit status 1.
    Refused(Box<Refusal>),
    /// Unusable arguments or files, or no way to the router: exit status 2.
    Unusable(String),
    /// A source text that does not compile: exit status 2, told with excerpts.
    Source(Errors),
    /// A text of lemmas and proofs that does not stand: the same.
    Script(Box<ScriptFailure>),
}

/// A lawful no, and where in the program it is about.
pub(super) struct Refusal {
    /// A stable short name.
    pub(super) code: String,
    /// The reason, in words.
    pub(super) text: String,
    /// The number of the instruction.
    pub(super) instr: Option<usize>,
    /// The source file and the place in it.
    pub(super) place: Option<(String, Place)>,
    /// The figures of a check, which go with the verdict.
    pub(super) figures: Option<Figures>,
    /// What had to be shown, in words.
    pub(super) goal: Option<String>,
    /// What is known there, in words.
    pub(super) known: Vec<String>,
    /// What came out of looking for packets on which the program does what it may not.
    pub(super) search: Option<Search>,
}

/// What a search for a counterexample came to.
pub(super) struct Search {
    pub(super) found: Result<Counterexample, NotFound>,
    /// The place of the instruction that does what is forbidden.
    pub(super) place: Option<Place>,
}

/// What a check measured.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Figures {
    pub(super) mode: &'static str,
    pub(super) complexity: Option<u64>,
    pub(super) cost: Option<u64>,
    pub(super) proof_bytes: usize,
    pub(super) check_ns: u64,
}

impl Refusal {
    /// A no about instruction `instr`, with its place in the source where a map is at hand.
    pub(super) fn new(code: &str, text: &dyn fmt::Display, instr: Option<usize>, map: Option<&SourceMap>) -> Refusal {
        let place = instr.zip(map).and_then(|(instr, map)| Some((map.source.clone(), map.place(instr)?.clone())));
        Refusal {
            code: code.to_string(),
            text: text.to_string(),
            instr,
            place,
            figures: None,
            goal: None,
            known: Vec::new(),
            search: None,
        }
    }

    /// The reason as an object: code, text, and what is known of the place.
    fn reason(&self) -> serde_json::Value {
        let mut reason = json!({ "code": self.code, "text": self.text, "instr": self.instr });
        if let Some((source, place)) = &self.place {
            reason["source"] = json!(source);
            reason["line"] = json!(place.line);
            reason["column"] = json!(place.column);
            reason["statement"] = json!(place.text);
        }
        if let Some(goal) = &self.goal {
            reason["goal"] = json!(goal);
            reason["known"] = json!(self.known);
        }
        if let Some(search) = &self.search {
            match &search.found {
                Ok(found) => reason["counterexample"] = search.json(found),
                Err(NotFound { runs }) => {
                    reason["counterexample"] = serde_json::Value::Null;
                    reason["runs"] = json!(runs);
                }
            }
        }
        reason
    }

    fn words(&self) -> String {
        let mut words = match &self.place {
            None => format!("vinet: {}: {}\n", self.code, self.text),
            Some((source, place)) => {
                let number = place.line.to_string();
                let gap = " ".repeat(number.len());
                format!(
                    "{source}:{}:{}: {}: {}\n {gap} |\n {number} | {}\n {gap} |\n",
                    place.line, place.column, self.code, self.text, place.text
                )
            }
        };
        if let Some(goal) = &self.goal {
            words += &format!("to show: {goal}\n");
            self.known.iter().for_each(|known| words += &format!("  known: {known}\n"));
        }
        if let Some(search) = &self.search {
            words += &search.words();
        }
        words
    }
}

impl Search {
    fn words(&self) -> String {
        let found = match &self.found {
            Ok(found) => found,
            Err(none) => return format!("{none}\n"),
        };
        let lines: String = self.told(found).lines().map(|line| format!("  {line}\n")).collect();
        format!("counterexample, as the reference interpreter runs it:\n{lines}")
    }

    /// The counterexample in words, with the line of the source where it is known.
    fn told(&self, found: &Counterexample) -> String {
        match (&self.place, found.instr) {
            (Some(place), Some(instr)) => {
                found.to_string().replace(&format!(" by instruction {instr};"), &format!(" by line {};", place.line))
            }
            _ => found.to_string(),
        }
    }

    fn json(&self, found: &Counterexample) -> serde_json::Value {
        let answer = |Answered { packets, word, answer }: &Answered| {
            let packets: Vec<usize> = packets.iter().map(|packet| packet + 1).collect();
            let mut object = json!({ "packets": packets, "word": String::from_utf8_lossy(&word.bytes) });
            match answer {
                Answer::Contains(is_there) => object["contains"] = json!(is_there),
                Answer::Count(count) => object["count"] = json!(count),
            }
            object
        };
        let offence = match &found.offence {
            Offence::Packet { event, packet } => json!({ "event": event.to_string(), "packet": packet + 1 }),
            Offence::Generate { src, dst } => {
                json!({ "event": "generated", "src": src.to_string(), "dst": dst.to_string() })
            }
            Offence::Cost { cost, allowed } => json!({ "event": "cost", "cost": cost, "allowed": allowed }),
        };
        json!({
            "packets": found.window.iter().map(packet).collect::<Vec<_>>(),
            "answers": found.answers.iter().map(answer).collect::<Vec<_>>(),
            "offence": offence,
            "instr": found.instr,
            "line": self.place.as_ref().map(|place| place.line),
            "text": self.told(found),
        })
    }
}

/// The keys of a packet's numbers, in the order of [`Number::ALL`]: as the language names them.
const NUMBERS: [&str; Number::ALL.len()] =
    ["protocol", "srcport", "dstport", "length", "fin", "syn", "rst", "psh", "ack", "urg"];

/// A packet with what it has of addresses and numbers.
fn packet(packet: &Packet) -> serde_json::Value {
    let mut object = json!({ "src": packet.src.to_string(), "dst": packet.dst.to_string() });
    for (number, key) in Number::ALL.into_iter().zip(NUMBERS) {
        if let Some(value) = packet.number(number) {
            object[key] = json!(value);
        }
    }
    object
}

impl From<Box<Refusal>> for Failure {
    fn from(refusal: Box<Refusal>) -> Self {
        Failure::Refused(refusal)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(Box::new(refusal))
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Failure::Unusable(error.to_string())
    }
}

impl From<HeadError> for Failure {
    fn from(error: HeadError) -> Self {
        Failure::Unusable(error.to_string())
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Failure::Unusable(error.to_string())
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Failure::Unusable(error.to_string())
    }
}

impl From<Box<ScriptFailure>> for Failure {
    fn from(error: Box<ScriptFailure>) -> Self {
        Failure::Script(error)
    }
}

impl From<Errors> for Failure {
    fn from(errors: Errors) -> Self {
        Failure::Source(errors)
    }
}

/// Tells the outcome and gives the exit status.
pub(super) fn tell(json: bool, outcome: Outcome) -> ExitCode {
    let (words, status) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Unusable(text)) => (format!("vinet: {text}\n"), 2),
        Err(Failure::Source(errors)) => (errors.report(color()), 2),
        Err(Failure::Script(error)) => (error.report(color()), 2),
        Err(Failure::Refused(refusal)) => {
            if json && print_json(&verdict(refusal.figures.as_ref(), Some(&refusal))).is_err() {
                return ExitCode::from(2);
            }
            (refusal.words(), 1)
        }
    };
    // Where stderr is closed there is no one left to tell.
    let _ = io::stderr().write_all(words.as_bytes());
    ExitCode::from(status)
}

/// The object of a verdict.
pub(super) fn verdict(figures: Option<&Figures>, refusal: Option<&Refusal>) -> serde_json::Value {
    let mut object = json!({ "verdict": if refusal.is_some() { "reject" } else { "accept" } });
    if let Some(figures) = figures {
        object["mode"] = json!(figures.mode);
        object["complexity"] = json!(figures.complexity);
        object["cost"] = json!(figures.cost);
        object["proof_bytes"] = json!(figures.proof_bytes);
        object["check_ns"] = json!(figures.check_ns);
    }
    object["reason"] = refusal.map_or(serde_json::Value::Null, Refusal::reason);
    object
}

/// Whether stderr takes colours.
fn color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints a line on stdout.
pub(super) fn print(text: &dyn fmt::Display) -> Outcome {
    print_bytes(format!("{text}\n").as_bytes())
}

/// Prints an object on a line of stdout.
pub(super) fn print_json(object: &serde_json::Value) -> Outcome {
    print(object)
}

/// Prints bytes on stdout. A reader that has gone away, as `head` does, has seen all that it wanted.
pub(super) fn print_bytes(bytes: &[u8]) -> Outcome {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Unusable(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Tells a step of long work, on a terminal or where it is asked for.
pub(super) struct Steps(bool);

impl Steps {
    pub(super) fn new(verbose: bool) -> Steps {
        Steps(verbose || io::stderr().is_terminal())
    }
    pub(super) fn tell(&self, step: &dyn fmt::Display) {
        if self.0 {
            let _ = writeln!(io::stderr(), "vinet: {step}");
        }
    }
}
