//! `vinet-perf report`: the measured parts of docs/BENCHMARKS.md, measured again.
//!
//! A measured part stands between a line `<!-- measured: NAME ARGUMENTS -->` and a line `<!-- end -->`. NAME is a
//! subcommand of this program; what it prints with those arguments takes the part's place, with a line that tells the
//! command, the commit and the day. A bar that is not met is printed like one that is, and told at the end; a measurement
//! that fails leaves its part as it was. The file is written after each part, so that none is lost to a later one.

use crate::machine;
use crate::run::PerfError;
use clap::Args;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// The page whose measured parts are measured again.
    #[arg(long, default_value = "docs/BENCHMARKS.md")]
    page: PathBuf,
    /// Only these parts, by the names of their subcommands.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Say what would be run, and run nothing.
    #[arg(long)]
    list: bool,
}

const BEGIN: &str = "<!-- measured: ";
const BEGIN_END: &str = " -->";
const END: &str = "<!-- end -->";
/// Headings of a part stand so much deeper on the page.
const DEEPER: &str = "##";

/// One measured part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The subcommand and its arguments.
    words: Vec<String>,
    /// The numbers of the lines of its marks, from 0.
    lines: (usize, usize),
}

/// Measures every part again.
pub fn run(options: &Options) -> Result<(), PerfError> {
    let file = |error| PerfError::File { path: options.page.clone(), error };
    let read = || std::fs::read_to_string(&options.page).map_err(file);
    let wrong = |words: String| PerfError::Option(format!("{}: {words}", options.page.display()));
    let all = parts(&read()?).map_err(wrong)?;
    if let Some(name) = options.only.iter().find(|name| !all.iter().any(|part| part.words[0] == **name)) {
        return Err(wrong(format!("no part is measured by {name}")));
    }
    let is_wanted = |part: &Part| options.only.is_empty() || options.only.contains(&part.words[0]);
    let (mut missed, commit) = (Vec::new(), commit());
    for (number, part) in all.iter().enumerate().filter(|(_, part)| is_wanted(part)) {
        let command = format!("vinet-perf {}", part.words.join(" "));
        eprintln!("{command}");
        if options.list {
            continue;
        }
        let (text, is_met) = measured(&part.words)?;
        if !is_met {
            missed.push(command.clone());
        }
        let told = format!("Measured by `{command}`, commit {commit}, {}.", machine::today());
        // Read again: the parts before this one have changed it.
        let page = read()?;
        let now = parts(&page).map_err(wrong)?;
        let Some(part) = now.get(number).filter(|now| now.words == part.words) else {
            return Err(wrong("somebody else changes it".to_owned()));
        };
        std::fs::write(&options.page, replaced(&page, part, &text, &told)).map_err(file)?;
    }
    if missed.is_empty() { Ok(()) } else { Err(PerfError::Missed(missed)) }
}

/// What a subcommand prints, and whether it meets its bars.
fn measured(words: &[String]) -> Result<(String, bool), PerfError> {
    let failed = |what: String| PerfError::Failed { what: words[0].clone(), words: what };
    let own = std::env::current_exe().map_err(|error| PerfError::File { path: "vinet-perf".into(), error })?;
    let mut command = Command::new(own);
    command.args(words).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|e| failed(e.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // What is not met ends with 1 and prints all the same; what went wrong prints nothing to the page.
    match output.status.code() {
        Some(0) if !text.is_empty() => Ok((text, true)),
        Some(1) if text.contains("|--") => Ok((text, false)),
        _ => Err(failed(format!("it ended with {} and printed {} bytes", output.status, text.len()))),
    }
}

/// The measured parts of a page, in order; or what is wrong with its marks.
fn parts(page: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut open: Option<(usize, Vec<String>)> = None;
    for (number, line) in page.lines().enumerate() {
        if let Some(words) = line.strip_prefix(BEGIN) {
            let words = words.strip_suffix(BEGIN_END).ok_or(format!("line {}: the mark has no end", number + 1))?;
            let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            if words.is_empty() {
                return Err(format!("line {}: the mark names no subcommand", number + 1));
            }
            if let Some((before, _)) = open.replace((number, words)) {
                return Err(format!("line {}: the part has no end", before + 1));
            }
        } else if line == END {
            let (first, words) = open.take().ok_or(format!("line {}: no part begins before", number + 1))?;
            parts.push(Part { words, lines: (first, number) });
        }
    }
    match open {
        Some((number, _)) => Err(format!("line {}: the part has no end", number + 1)),
        None => Ok(parts),
    }
}

/// The page with a part replaced.
fn replaced(page: &str, part: &Part, text: &str, told: &str) -> String {
    let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
    let deeper = |line: &str| if line.starts_with('#') { format!("{DEEPER}{line}") } else { line.to_owned() };
    let mut fresh = vec![String::new(), told.to_owned(), String::new()];
    fresh.extend(text.trim().lines().map(deeper));
    fresh.push(String::new());
    lines.splice(part.lines.0 + 1..part.lines.1, fresh);
    lines.join("\n") + "\n"
}

/// The commit of the sources, and whether they differ from it.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match git(&["rev-parse", "--short", "HEAD"]) {
        None => "unknown".to_owned(),
        // The page itself is changed by this very run.
        Some(commit) => match git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"]) {
            Some(changes) if !changes.is_empty() => format!("{commit} with changes"),
            _ => commit,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::path::Path;

    const PAGE: &str = "# A page\n<!-- measured: quiet --packets 5 -->\nold\n\nolder\n<!-- end -->\nafter\n";

    #[test]
    fn a_part_is_replaced_and_nothing_else() {
        let found = parts(PAGE).expect("one part");
        assert_eq!(found, [Part { words: ["quiet", "--packets", "5"].map(str::to_owned).to_vec(), lines: (1, 5) }]);
        let page = replaced(PAGE, &found[0], "## Head\n| a |\n\n", "Told.");
        assert_eq!(
            page,
            "# A page\n<!-- measured: quiet --packets 5 -->\n\nTold.\n\n#### Head\n| a |\n\n<!-- end -->\nafter\n"
        );
        // What was written is found again.
        assert_eq!(parts(&page).expect("one part").len(), 1);
    }

    #[test]
    fn marks_that_do_not_fit_are_told() {
        let told = |page: &str| parts(page).expect_err("wrong");
        assert_eq!(told("x\n<!-- measured: quiet -->\n"), "line 2: the part has no end");
        assert_eq!(told("<!-- end -->\n"), "line 1: no part begins before");
        assert_eq!(told("<!-- measured: a -->\n<!-- measured: b -->\n<!-- end -->\n"), "line 1: the part has no end");
        assert_eq!(told("<!-- measured:  -->\n"), "line 1: the mark names no subcommand");
        assert_eq!(told("<!-- measured: a\n"), "line 1: the mark has no end");
    }

    #[test]
    fn every_part_of_the_page_is_measured_by_a_command_that_there_is() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/BENCHMARKS.md");
        let found = parts(&std::fs::read_to_string(page).expect("the page")).expect("sound marks");
        assert!(found.len() >= 6, "{found:?}");
        for part in found {
            let words = std::iter::once("vinet-perf").chain(part.words.iter().map(String::as_str));
            if let Err(error) = crate::Cli::try_parse_from(words) {
                panic!("{:?}: {error}", part.words);
            }
            assert_ne!(part.words[0], "report", "the page would measure itself");
        }
    }
}
