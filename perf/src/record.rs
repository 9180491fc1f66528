//! The folder of a run: what was asked for, on what machine, and everything that was measured.
//!
//! | file | what it holds |
//! |---|---|
//! | `run.json` | command, options, seed, commit, machine, times; the results, and whether the run is complete |
//! | `samples.jsonl` | one JSON object a line, written as it is measured |
//! | `*.hlog` | histograms in the log format of HdrHistogram |
//! | `*.svg` | plots |
//!
//! `run.json` says `"state": "running"` from the start, so that a run that was killed is not taken for a whole one; one that was
//! interrupted or failed says `"incomplete"` and why. Each sample is in the file before the next is measured.

use crate::latency::Latencies;
use crate::plot::Plot;
use crate::run::PerfError;
use crate::{machine, run};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where runs are kept unless told.
const RUNS: &str = "target/perf/runs";
/// Runs of one name within one second, at most.
const SAME_SECOND_MAX: u32 = 100;

/// A run that is being recorded.
pub struct Record {
    dir: PathBuf,
    head: Value,
    samples: File,
    is_finished: bool,
}

impl Record {
    /// Makes the folder (`out`, which must be empty or absent, or one named by time and `name`) and writes what is known
    /// before the run.
    pub fn create(out: Option<&Path>, name: &str, options: Value, seed: u64) -> Result<Record, PerfError> {
        if cfg!(debug_assertions) {
            eprintln!("note: this is no release build: its rates say nothing");
        }
        if machine::load() > 0.5 {
            eprintln!(
                "note: the load average is {:.2}: other work makes these figures worse and unequal",
                machine::load()
            );
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let dir = match out {
            Some(dir) => empty(dir)?,
            None => fresh(&format!("{}-{name}", compact_time(now)))?,
        };
        let samples = dir.join("samples.jsonl");
        let samples = File::create(&samples).map_err(|error| PerfError::File { path: samples, error })?;
        let head = json!({
            "state": "running", "command": name, "arguments": std::env::args().collect::<Vec<_>>(), "options": options, "seed": seed, "started": compact_time(now),
            "machine": machine::describe(), "load_before": machine::load(), "commit": commit(),
            "version": env!("CARGO_PKG_VERSION"), "release": !cfg!(debug_assertions),
        });
        let record = Record { dir, head, samples, is_finished: false };
        record.write("run.json", &pretty(&record.head))?;
        Ok(record)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Adds a line to the samples.
    pub fn sample(&mut self, sample: &Value) -> Result<(), PerfError> {
        let line = format!("{sample}\n");
        let file = |error| PerfError::File { path: self.dir.join("samples.jsonl"), error };
        self.samples.write_all(line.as_bytes()).map_err(file)
    }

    /// Writes a histogram of a trial of `duration` that began `start` after the run.
    pub fn histogram(
        &self,
        name: &str,
        start: Duration,
        duration: Duration,
        latencies: &Latencies,
    ) -> Result<(), PerfError> {
        let failed = |words: String| PerfError::Failed { what: format!("writing the histogram `{name}`"), words };
        let mut bytes = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("latencies in nanoseconds, from the intended time of sending to the arrival")
            .begin_log_with(&mut bytes, &mut serializer)
            .map_err(|e| failed(e.to_string()))?;
        log.write_histogram(latencies.histogram(), start, duration, None).map_err(|e| failed(format!("{e:?}")))?;
        self.write(&format!("{name}.hlog"), &bytes)
    }

    /// Writes a plot.
    pub fn plot(&self, name: &str, plot: &Plot) -> Result<(), PerfError> {
        self.write(&format!("{name}.svg"), plot.svg().as_bytes())
    }

    /// Writes the results. `incomplete` says why the run has less than it was to have.
    pub fn finish(mut self, results: Value, incomplete: Option<&str>) -> Result<(), PerfError> {
        self.is_finished = true;
        self.close(Some(results), incomplete)
    }

    fn close(&mut self, results: Option<Value>, incomplete: Option<&str>) -> Result<(), PerfError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.head["state"] = json!(if incomplete.is_some() { "incomplete" } else { "complete" });
        self.head["incomplete_because"] = json!(incomplete);
        self.head["ended"] = json!(compact_time(now));
        self.head["load_after"] = json!(machine::load());
        if let Some(results) = results {
            self.head["results"] = results;
        }
        self.write("run.json", &pretty(&self.head))
    }

    /// Writes a file whole, or leaves the one that was there.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), PerfError> {
        let (path, part) = (self.dir.join(name), self.dir.join(format!("{name}.part")));
        let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, &path));
        written.map_err(|error| {
            // What is left of the part is of no use; if it cannot be removed either, the first error is the one to tell.
            let _ = std::fs::remove_file(&part);
            PerfError::File { path, error }
        })
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_finished {
            // The error that ended the run is being told already.
            let _ = self.close(None, Some("the run failed"));
        }
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// A folder that is there and holds nothing.
fn empty(dir: &Path) -> Result<PathBuf, PerfError> {
    let file = |error| PerfError::File { path: dir.to_owned(), error };
    std::fs::create_dir_all(dir).map_err(file)?;
    if std::fs::read_dir(dir).map_err(file)?.next().is_some() {
        return Err(PerfError::Option(format!("--out {}: the folder is not empty", dir.display())));
    }
    Ok(dir.to_owned())
}

fn fresh(name: &str) -> Result<PathBuf, PerfError> {
    let file = |path: &Path, error| PerfError::File { path: path.to_owned(), error };
    std::fs::create_dir_all(RUNS).map_err(|e| file(Path::new(RUNS), e))?;
    let mut last = None;
    for number in 1..=SAME_SECOND_MAX {
        let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        let dir = Path::new(RUNS).join(name);
        match std::fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => last = Some(file(&dir, error)),
            Err(error) => return Err(file(&dir, error)),
        }
    }
    Err(last.unwrap_or_else(|| PerfError::Option("no name is left for the run's folder".to_owned())))
}

/// The commit of the tree that this is run in, with a mark if files differ from it; null outside of one.
fn commit() -> Value {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(args);
        run::output("git", command, Duration::from_secs(5)).ok()
    };
    let Some(head) = git(&["rev-parse", "HEAD"]) else { return Value::Null };
    let is_changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.trim().is_empty());
    json!({"id": head.trim(), "changed": is_changed})
}

/// UTC, as 20261126T163109Z.
fn compact_time(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (mut year, mut days) = (1970, seconds / 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lens = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lens[month] {
        days -= lens[month];
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{:02}{:02}T{hour:02}{minute:02}{second:02}Z", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dir: &Path) -> Value {
        let text = std::fs::read_to_string(dir.join("run.json")).expect("run.json");
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_799, "20000229T235959Z"),
            (1_798_761_599, "20261231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(compact_time(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_run_is_running_then_complete_and_one_that_is_dropped_is_incomplete() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("one");
        let mut record = Record::create(Some(&out), "test", json!({"rate": "1kpps"}), 7).expect("a record");
        assert_eq!(read(&out)["state"], "running");
        record.sample(&json!({"at": 1})).expect("a line");
        record.sample(&json!({"at": 2})).expect("a line");
        let text = std::fs::read_to_string(out.join("samples.jsonl")).expect("samples");
        assert_eq!(text, "{\"at\":1}\n{\"at\":2}\n", "each sample is there at once");
        record.finish(json!({"loss": 0}), None).expect("written");
        let run = read(&out);
        assert_eq!((&run["state"], &run["seed"], &run["results"]["loss"]), (&json!("complete"), &json!(7), &json!(0)));
        assert_eq!(run["options"]["rate"], "1kpps");
        assert!(run["machine"].is_string());

        assert!(matches!(Record::create(Some(&out), "test", json!({}), 7), Err(PerfError::Option(_))), "not empty");
        let out = dir.path().join("two");
        drop(Record::create(Some(&out), "test", json!({}), 7).expect("a record"));
        assert_eq!(read(&out)["state"], "incomplete");
    }

    #[test]
    fn a_histogram_is_read_back_from_its_log() {
        use hdrhistogram::serialization::Deserializer;
        use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("run");
        let record = Record::create(Some(&out), "test", json!({}), 7).expect("a record");
        let mut latencies = Latencies::new().expect("a histogram");
        (1..=1000).for_each(|n| latencies.record(n * 1_000));
        record.histogram("pdr-50", Duration::from_secs(2), Duration::from_secs(1), &latencies).expect("written");
        let bytes = std::fs::read(out.join("pdr-50.hlog")).expect("the log");
        let entries: Vec<LogEntry<'_>> =
            IntervalLogIterator::new(&bytes).map(|entry| entry.expect("an entry")).collect();
        let interval = entries.iter().find_map(|entry| match entry {
            LogEntry::Interval(interval) => Some(interval),
            _ => None,
        });
        let interval = interval.expect("an interval");
        assert_eq!(interval.duration(), Duration::from_secs(1));
        let compressed = hdrhistogram_base64(interval.encoded_histogram());
        let back: hdrhistogram::Histogram<u64> =
            Deserializer::new().deserialize(&mut compressed.as_slice()).expect("a histogram");
        assert_eq!((back.len(), back.value_at_percentile(50.0)), (1000, latencies.percentile(50.0)));
    }

    /// Base 64 (RFC 4648), read in the plainest way: another reader than the one that is tested with.
    fn hdrhistogram_base64(text: &str) -> Vec<u8> {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digits = text.bytes().filter(|&b| b != b'=').map(|b| DIGITS.iter().position(|&d| d == b).expect("a digit"));
        let bits: Vec<bool> = digits.flat_map(|d| (0..6).rev().map(move |bit| d >> bit & 1 == 1)).collect();
        bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |all, &bit| all << 1 | u8::from(bit))).collect()
    }

    #[test]
    fn a_full_disk_is_told_with_the_file() {
        // The kernel's device that is always full takes the place of the samples.
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("run");
        let mut record = Record::create(Some(&out), "test", json!({}), 7).expect("a record");
        record.samples = File::options().write(true).open("/dev/full").expect("/dev/full");
        let error = record.sample(&json!({"at": 1})).expect_err("nothing fits");
        let words = error.to_string();
        assert!(words.contains("samples.jsonl") && words.contains("No space left on device"), "{words}");
        assert_eq!(error.exit_status(), 2);
        drop(record);
        assert_eq!(read(&out)["state"], "incomplete");
    }
}
