//! Running a router under test, and what can go wrong with that.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Why a measurement was not made.
#[derive(Debug)]
pub enum PerfError {
    /// A file could not be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A program that is measured or needed is not on the machine.
    Missing {
        /// Which.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// A program ended badly or said something unexpected.
    Failed {
        /// Which.
        what: String,
        /// Its last words.
        words: String,
    },
    /// The counters contradict the traffic: the run measured something else.
    Void {
        /// Which router.
        what: String,
        /// How.
        why: String,
    },
    /// An option is out of range.
    Option(String),
    /// Everything was measured, and these bars are not met.
    Missed(Vec<String>),
    /// The user ended the run; what was measured is in this folder.
    Interrupted(String),
}

impl PerfError {
    /// 2 for options and files, 1 for what went wrong while measuring, 130 for an interrupt, as shells have it.
    pub fn exit_status(&self) -> u8 {
        match self {
            PerfError::Option(_) | PerfError::File { .. } | PerfError::Missing { .. } => 2,
            PerfError::Failed { .. } | PerfError::Void { .. } | PerfError::Missed(_) => 1,
            PerfError::Interrupted(_) => 130,
        }
    }
}

impl fmt::Display for PerfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PerfError::File { path, error } => write!(f, "{}: {error}", path.display()),
            PerfError::Missing { what, remedy } => write!(f, "{what} is not here; {remedy}"),
            PerfError::Failed { what, words } => write!(f, "{what} failed; its last words:\n{words}"),
            PerfError::Void { what, why } => write!(f, "the run of {what} is void: {why}"),
            PerfError::Option(words) => f.write_str(words),
            PerfError::Interrupted(dir) => write!(f, "interrupted; what was measured is in {dir}"),
            PerfError::Missed(bars) => write!(f, "not met: {}", bars.join("; ")),
        }
    }
}

/// A child that is ended when it goes out of scope, whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `command` for at most `limit` and returns all that it printed. It may end by itself; if not, it is ended.
pub fn output(what: &str, mut command: Command, limit: Duration) -> Result<String, PerfError> {
    let failed = |words: String| PerfError::Failed { what: what.to_owned(), words };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running(command.spawn().map_err(|e| failed(e.to_string()))?);
    let readers = [
        child.0.stdout.take().map(|pipe| read_all(Box::new(pipe))),
        child.0.stderr.take().map(|pipe| read_all(Box::new(pipe))),
    ];
    let end = Instant::now() + limit;
    let status = loop {
        match child.0.try_wait().map_err(|e| failed(e.to_string()))? {
            Some(status) => break Some(status),
            None if Instant::now() >= end => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    drop(child);
    let text: String = readers.into_iter().flatten().map(|reader| reader.join().unwrap_or_default()).collect();
    match status {
        Some(status) if !status.success() => Err(failed(last_lines(&text))),
        _ => Ok(text),
    }
}

fn read_all(mut pipe: Box<dyn Read + Send>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks leaves what was read so far, and the exit status tells the rest.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The last lines of what a program said.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
