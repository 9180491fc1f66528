//! Hyperscan, alone: the search for words in payloads and nothing else, from Debian's `libhyperscan-dev`.

use crate::run::{self, PerfError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The program that is measured: it reads a capture and searches its payloads in block mode.
const SOURCE: &str = include_str!("../../peers/hyperscan.c");

/// The built program, made in `dir`.
pub fn build(dir: &Path) -> Result<PathBuf, PerfError> {
    if !Path::new("/usr/include/hs/hs.h").exists() {
        let remedy = "as root: apt-get install libhyperscan-dev".to_owned();
        return Err(PerfError::Missing { what: "Hyperscan".to_owned(), remedy });
    }
    let (source, binary) = (dir.join("hyperscan.c"), dir.join("hyperscan"));
    std::fs::write(&source, SOURCE).map_err(|error| PerfError::File { path: source.clone(), error })?;
    let mut compile = Command::new("cc");
    compile.args(["-O2", "-Wall", "-o"]).arg(&binary).arg(&source).arg("-lhs");
    run::output("building the Hyperscan peer (cc)", compile, Duration::from_secs(60))?;
    Ok(binary)
}

/// Nanoseconds that one search of a payload for `words` takes on `core`; a payload is what is behind `headers_len`
/// bytes of a packet of `capture`, and none holds a word.
pub fn scan_ns(
    binary: &Path,
    core: usize,
    seconds: u64,
    capture: &Path,
    headers_len: usize,
    words: &[String],
) -> Result<f64, PerfError> {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(binary).arg(capture);
    command.args([seconds.to_string(), headers_len.to_string()]).args(words);
    let text = run::output("hyperscan", command, Duration::from_secs(seconds + 10))?;
    let figures: Vec<&str> = text.split_whitespace().collect();
    match figures[..] {
        ["hyperscan", _, ns, "0"] => ns.parse().ok(),
        _ => None,
    }
    .ok_or_else(|| PerfError::Failed { what: "hyperscan".to_owned(), words: run::last_lines(&text) })
}
