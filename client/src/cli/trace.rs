//! `vinet trace`: sampled packets of a running router with what became of each, as lines, as JSON, or as a capture with
//! comments. The router samples while this runs, and stops when it goes.

use super::Trace;
use super::answer::{Failure, Outcome};
use super::operator::{number, plain, text};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vinet_client::admin::Came;
use vinet_client::pcap::{Annotated, AnnotatedWriter};
use vinet_client::summary::Summary;

/// The longest time until a signal is noticed.
const NOTICE: Duration = Duration::from_millis(100);

/// Where the packets go.
enum Sink {
    Lines,
    Json,
    Capture(AnnotatedWriter<BufWriter<File>>),
}

/// What was traced.
#[derive(Default)]
struct Tally {
    packets: u64,
    lost: u64,
}

pub(super) fn trace(args: &Trace) -> Outcome {
    let mut admin = args.socket.open()?;
    let prefix = |prefix: &Option<vinet_trusted::addr::Prefix>| prefix.map(|prefix| prefix.to_string());
    let head = admin.ask(&json!({
        "cmd": "trace", "src": prefix(&args.from), "dst": prefix(&args.to), "one_in": args.one_in, "bytes": args.bytes,
        "count": args.count,
    }))?;
    let ports: Vec<String> = head["tracing"]["ports"]
        .as_array()
        .ok_or_else(|| Failure::Unusable("the router's answer is no trace; is it of this version?".into()))?
        .iter()
        .map(|name| plain(name.as_str().unwrap_or_default()))
        .collect();
    let mut sink = match &args.write {
        Some(path) => Sink::Capture(capture(path, &ports)?),
        None if args.json.json => Sink::Json,
        None => Sink::Lines,
    };
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended))
            .map_err(|error| Failure::Unusable(error.to_string()))?;
    }
    admin.wait_at_most(NOTICE)?;
    let mut tally = Tally::default();
    // Relaxed: nothing is read on the strength of it but the wish to stop.
    while !ended.load(Ordering::Relaxed) {
        match admin.line()? {
            Came::Nothing => sink.flush().map_err(unwritable)?,
            Came::End => break,
            Came::Line(line) => {
                tally.lost = tally.lost.max(number(&line, "lost"));
                if line.get("ended").is_some() {
                    break;
                }
                tally.packets += 1;
                match sink.push(&line, &ports) {
                    // Who reads has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                    pushed => pushed.map_err(unwritable)?,
                }
            }
        }
    }
    if let Sink::Capture(writer) = sink {
        writer.finish().map_err(unwritable)?;
    }
    // Where stderr is closed there is no one left to tell.
    let _ = writeln!(io::stderr(), "{} packets traced, {} more had no room", tally.packets, tally.lost);
    Ok(())
}

fn unwritable(error: io::Error) -> Failure {
    Failure::Unusable(format!("cannot write what is traced: {error}"))
}

fn capture(path: &Path, ports: &[String]) -> Result<AnnotatedWriter<BufWriter<File>>, Failure> {
    let made = File::create(path).and_then(|file| AnnotatedWriter::new(BufWriter::new(file), "vinet trace", ports));
    made.map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))
}

impl Sink {
    fn push(&mut self, record: &Value, ports: &[String]) -> io::Result<()> {
        match self {
            Sink::Json => writeln!(io::stdout(), "{record}"),
            Sink::Lines => writeln!(io::stdout(), "{}", Told { record, ports }),
            Sink::Capture(writer) => {
                let bytes = bytes(record);
                writer.push(&Annotated {
                    interface: u32::try_from(number(record, "port")).unwrap_or(0),
                    at_ns: number(record, "at_ns"),
                    wire_len: u32::try_from(number(record, "len")).unwrap_or(u32::MAX),
                    bytes: &bytes,
                    comment: &Became { record, ports }.to_string(),
                })
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Lines | Sink::Json => io::stdout().flush(),
            Sink::Capture(writer) => writer.flush(),
        }
    }
}

/// The bytes of hexadecimal digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The frame's first bytes; none where what is told is no hexadecimal text.
fn bytes(record: &Value) -> Vec<u8> {
    record.get("bytes").and_then(Value::as_str).and_then(unhex).unwrap_or_default()
}

/// One packet as a line.
struct Told<'a> {
    record: &'a Value,
    ports: &'a [String],
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { record, ports } = self;
        let at_ns = number(record, "at_ns");
        let second = at_ns / 1_000_000_000;
        let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
        write!(f, "{hour:02}:{minute:02}:{second:02}.{:06} ", at_ns / 1_000 % 1_000_000)?;
        let bytes = bytes(record);
        write!(f, "{} {} length {}: ", port(ports, record, "port"), Summary(&bytes), number(record, "len"))?;
        write!(f, "{}", Became { record, ports })
    }
}

/// What became of a packet, and by which programs.
struct Became<'a> {
    record: &'a Value,
    ports: &'a [String],
}

fn port<'a>(ports: &'a [String], record: &Value, key: &str) -> &'a str {
    usize::try_from(number(record, key)).ok().and_then(|index| ports.get(index)).map_or("?", String::as_str)
}

impl fmt::Display for Became<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Became { record, ports } = self;
        write!(f, "{}", text(record, "fate"))?;
        if record.get("to").is_some_and(Value::is_u64) {
            write!(f, " to {}", port(ports, record, "to"))?;
        }
        let reason = text(record, "reason");
        if !reason.is_empty() {
            write!(f, " ({reason})")?;
        }
        if let Some(program) = record.get("program").and_then(Value::as_u64) {
            write!(f, " of program {program}")?;
        }
        let programs = record.get("programs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (place, program) in programs.iter().enumerate() {
            let before = if place == 0 { "; " } else { ", " };
            write!(f, "{before}program {} {}", number(program, "instance"), text(program, "decision"))?;
        }
        match number(record, "programs_in_all").saturating_sub(programs.len() as u64) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Value {
        json!({
            "at_ns": 1_700_000_000_123_456_789u64, "worker": 0, "port": 0, "len": 60, "fate": "dropped",
            "reason": "program", "programs_in_all": 3,
            "programs": [{ "instance": 4, "decision": "pass" }, { "instance": 7, "decision": "discard" }],
            "bytes": "0000000000000000000000000800450000280000000040110000c0000242c633640700350036",
        })
    }

    #[test]
    fn a_packet_is_told_with_its_verdict_and_programs() {
        let ports = ["edge".to_owned(), "uplink".to_owned()];
        let told = Told { record: &record(), ports: &ports }.to_string();
        assert!(
            told.starts_with("22:13:20.123456 edge IP 192.0.2.66.53 > 198.51.100.7.54: udp length 60: dropped"),
            "{told}"
        );
        let expected = "length 60: dropped (program); program 4 pass, program 7 discard, and 1 more";
        assert!(told.ends_with(expected), "{told}");
        let sent = json!({ "fate": "sent", "to": 1, "programs": [] });
        assert_eq!(Became { record: &sent, ports: &ports }.to_string(), "sent to uplink");
        let waits = json!({ "fate": "window", "program": 9 });
        assert_eq!(Became { record: &waits, ports: &ports }.to_string(), "window of program 9");
        for odd in [json!(null), json!({ "bytes": "xyz", "programs": [1, {}], "port": u64::MAX, "to": 7 })] {
            let _ = Told { record: &odd, ports: &ports }.to_string();
        }
    }

    #[test]
    fn a_capture_has_the_verdicts_as_comments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.pcapng");
        let ports = ["edge".to_owned()];
        let mut sink = Sink::Capture(capture(&path, &ports).unwrap_or_else(|_| panic!("made")));
        sink.push(&record(), &ports).unwrap();
        sink.flush().unwrap();
        let file = std::fs::read(&path).unwrap();
        let read = vinet_client::pcap::Capture::read(&file).unwrap();
        assert_eq!((read.packets().len(), read.packets()[0].wire_len), (1, 60));
        let comment = b"dropped (program); program 4 pass";
        assert!(file.windows(comment.len()).any(|window| window == comment));
    }
}
