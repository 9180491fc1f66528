//! How the outcome of a command is told: a status, words on stderr, and words or JSON on stdout.

use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use vinet_client::file::FileError;
use vinet_client::lang::{Errors, Place, SourceMap};
use vinet_client::link::LinkError;
use vinet_session::identity::IdentityError;

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
        Refusal { code: code.to_string(), text: text.to_string(), instr, place, figures: None }
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
        reason
    }

    fn words(&self) -> String {
        let Some((source, place)) = &self.place else {
            return format!("vinet: {}: {}\n", self.code, self.text);
        };
        let number = place.line.to_string();
        let gap = " ".repeat(number.len());
        format!(
            "{source}:{}:{}: {}: {}\n {gap} |\n {number} | {}\n {gap} |\n",
            place.line, place.column, self.code, self.text, place.text
        )
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
