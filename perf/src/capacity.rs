//! `vinet-perf capacity`: how this router's rate and memory depend on the number and the kind of its programs.
//!
//! Each figure is a run of its own process over the standard set-up (a repeating capture in, nothing out, one worker core);
//! rounds go over all kinds and numbers in turn, and ratios are taken within a round, against the run without programs.

mod knee;

use crate::plot::{Axis, Plot, number};
use crate::progress::{Bar, Interrupt};
use crate::record::Record;
use crate::router::programs::Kind;
use crate::run::{self, PerfError};
use crate::table::{Spread, markdown};
use crate::{capture, machine};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The most programs of one run: the bound of the flow table.
const PROGRAMS_MAX: u32 = 1_000_000;
/// Programs a second that are made, checked and installed at the least.
const INSTALLS_PER_S_MIN: u64 = 2_000;

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// Kinds of programs; without it all.
    #[arg(long = "kind", value_enum, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Numbers of programs. The run without any is made in any case.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000])]
    numbers: Vec<u32>,
    /// Rounds: each runs every kind and number once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// The frame size, in bytes on the wire.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// The core of the router's worker.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The core of everything else.
    #[arg(long, default_value_t = 0)]
    control_core: usize,
    /// The policy that the programs are proven to keep to.
    #[arg(long, default_value = "configs/policy/end-user.toml")]
    policy: PathBuf,
    /// Ordinary pages instead of hugepages.
    #[arg(long)]
    no_huge: bool,
    /// The run's folder; without it one in target/perf/runs.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print one JSON object instead of the tables.
    #[arg(long)]
    json: bool,
}

/// What one run gave.
#[derive(Clone, Debug)]
struct Figure {
    /// Packets a second that were judged: received and brought to their end.
    pps: f64,
    table_bytes: u64,
    resident_bytes: u64,
    install_s: f64,
}

/// All runs of one kind and number.
struct Cell {
    kind: Kind,
    number: u32,
    figures: Vec<Figure>,
    /// Why there are none.
    refused: Option<String>,
}

/// Measures, and reports.
pub fn run(options: &Options) -> Result<(), PerfError> {
    if options.rounds == 0 || options.seconds == 0 {
        return Err(PerfError::Option("--rounds and --seconds are at least 1".to_owned()));
    }
    if !(64..=1518).contains(&options.size) {
        return Err(PerfError::Option(format!(
            "--size: {} is not a frame size; expected 64 to 1518 bytes",
            options.size
        )));
    }
    let mut numbers: Vec<u32> = options.numbers.iter().copied().filter(|&number| number > 0).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if let Some(number) = numbers.iter().find(|&&number| number > PROGRAMS_MAX) {
        return Err(PerfError::Option(format!(
            "--numbers: {number} is above {PROGRAMS_MAX}, the bound of the flow table"
        )));
    }
    let kinds = if options.kinds.is_empty() { Kind::value_variants().to_vec() } else { options.kinds.clone() };
    let interrupt = Interrupt::listen()?;
    let described = json!({
        "kinds": kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>(), "numbers": numbers, "rounds": options.rounds,
        "seconds": options.seconds, "frame_bytes": options.size, "core": options.core,
        "control_core": options.control_core, "policy": options.policy, "flows": capture::FLOWS,
    });
    let mut record = Record::create(options.out.as_deref(), "capacity", described, 0)?;
    let pcap = record.dir().join(format!("{}.pcap", options.size));
    capture::write(&pcap, options.size, capture::FLOWS)?;
    let mut cells: Vec<Cell> = kinds
        .iter()
        .flat_map(|&kind| numbers.iter().map(move |&number| Cell { kind, number, figures: Vec::new(), refused: None }))
        .collect();
    let mut bare: Vec<Figure> = Vec::new();
    let measured = rounds(options, &pcap, &interrupt, &mut record, &mut bare, &mut cells);
    // What was measured is kept even where the rest failed.
    let results = results(&kinds, &bare, &cells);
    if !bare.is_empty() {
        record.plot("capacity", &plot(&kinds, &bare, &cells))?;
    }
    let dir = record.dir().display().to_string();
    let incomplete = match &measured {
        Ok(true) => None,
        Ok(false) => Some("it was interrupted".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    record.finish(results.clone(), incomplete.as_deref())?;
    if bare.is_empty() {
        // There is nothing to show; the error says why.
    } else if options.json {
        println!("{results}");
    } else {
        println!("{}\n\n{}\n{dir}", machine::describe(), tables(&kinds, &bare, &cells));
    }
    match measured {
        Ok(true) => Ok(()),
        Ok(false) => Err(PerfError::Interrupted(dir)),
        Err(error) => Err(error),
    }
}

/// All rounds; false where the user ended them.
fn rounds(
    options: &Options,
    pcap: &Path,
    interrupt: &Interrupt,
    record: &mut Record,
    bare: &mut Vec<Figure>,
    cells: &mut [Cell],
) -> Result<bool, PerfError> {
    let bar = Bar::new((options.rounds * (cells.len() + 1)) as u64);
    let started = Instant::now();
    for round in 1..=options.rounds {
        for place in 0..=cells.len() {
            // Place 0 is the run without programs.
            let (kind, number) = match place.checked_sub(1) {
                Some(place) if cells[place].refused.is_some() => continue,
                Some(place) => (cells[place].kind, cells[place].number),
                None => (Kind::Firewall, 0),
            };
            let name = format!("round {round}/{}: {number} × {}", options.rounds, kind.name());
            bar.show(((round - 1) * (cells.len() + 1) + place) as u64, name);
            let outcome = measure(options, pcap, kind, number);
            if interrupt.is_wanted() {
                return Ok(false);
            }
            let mut sample =
                json!({"round": round, "kind": kind.name(), "number": number, "at_s": started.elapsed().as_secs_f64()});
            match outcome? {
                Ok(figure) => {
                    sample["pps"] = json!(figure.pps);
                    sample["table_bytes"] = json!(figure.table_bytes);
                    sample["resident_bytes"] = json!(figure.resident_bytes);
                    sample["install_s"] = json!(figure.install_s);
                    match place.checked_sub(1) {
                        Some(place) => cells[place].figures.push(figure),
                        None => bare.push(figure),
                    }
                }
                Err(why) => {
                    sample["refused"] = json!(why);
                    if let Some(place) = place.checked_sub(1) {
                        cells[place].refused = Some(why);
                    }
                }
            }
            record.sample(&sample)?;
        }
    }
    Ok(true)
}

/// One run in a process of its own: its figure, or why the router refused the programs.
fn measure(options: &Options, pcap: &Path, kind: Kind, number: u32) -> Result<Result<Figure, String>, PerfError> {
    let what = format!("vinet with {number} × {}", kind.name());
    let own = std::env::current_exe().map_err(|error| PerfError::File { path: "vinet-perf".into(), error })?;
    let mut command = Command::new(own);
    command.arg("router");
    for (flag, value) in [
        ("--edge", format!("net_pcap0,rx_pcap={},infinite_rx=1", pcap.display())),
        ("--uplink", "net_null0,no-rx=1".to_owned()),
        ("--core", options.core.to_string()),
        ("--control-core", options.control_core.to_string()),
        ("--seconds", options.seconds.to_string()),
        ("--programs", number.to_string()),
        ("--kind", kind.name()),
        ("--policy", options.policy.display().to_string()),
        ("--flows-of", pcap.display().to_string()),
        ("--file-prefix", format!("vinet-perf-capacity-{}", std::process::id())),
    ] {
        command.args([flag, &value]);
    }
    if options.no_huge {
        command.arg("--no-huge");
    }
    let limit = Duration::from_secs(options.seconds + 30 + u64::from(number) / INSTALLS_PER_S_MIN);
    let text = run::output(&what, command, limit)?;
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (ready, counted) = (lines.next(), lines.next());
    let failed = || PerfError::Failed { what: what.clone(), words: run::last_lines(&text) };
    let (ready, counted) = (ready.ok_or_else(failed)?, counted.ok_or_else(failed)?);
    if let Some(why) = ready["programs"]["refused"].as_str() {
        return Ok(Err(why.to_owned()));
    }
    figure(kind, number, &ready["programs"], &counted).map(Ok).map_err(|why| PerfError::Void { what, why })
}

/// Reads a run's figures, after checking that they are of the run that was wanted: all programs there, every packet accounted
/// for, and none dropped but by programs that match.
fn figure(kind: Kind, number: u32, placed: &Value, counted: &Value) -> Result<Figure, String> {
    let pps =
        counted["received_pps"].as_f64().filter(|&pps| pps > 0.0).ok_or(format!("nothing was received: {counted}"))?;
    let by_program = u64::from(counted["drops"].as_object().is_some_and(|drops| !drops.is_empty()));
    let may_drop = kind == Kind::FirewallMatching && number > 0;
    if placed["programs"] != number || counted["difference"] != 0 || (by_program > 0 && !may_drop) {
        return Err(format!("it dropped packets, lost some, or lacks programs: {placed} {counted}"));
    }
    Ok(Figure {
        pps,
        table_bytes: placed["table_bytes"].as_u64().unwrap_or(0),
        resident_bytes: placed["resident_bytes"].as_u64().unwrap_or(0),
        install_s: placed["seconds"].as_f64().unwrap_or(0.0),
    })
}

/// The medians of one kind, from no programs on.
fn curve(kind: Kind, bare: &[Figure], cells: &[Cell]) -> Vec<(u32, f64)> {
    let median = |figures: &[Figure]| Spread::of(figures.iter().map(|figure| figure.pps)).median;
    let of_kind = cells.iter().filter(|cell| cell.kind == kind && !cell.figures.is_empty());
    std::iter::once((0, median(bare))).chain(of_kind.map(|cell| (cell.number, median(&cell.figures)))).collect()
}

/// What each program takes, in bytes of the table and of the process, at the largest number.
fn memory_each(kind: Kind, cells: &[Cell]) -> Option<(f64, f64)> {
    let cell = cells.iter().rfind(|cell| cell.kind == kind && !cell.figures.is_empty())?;
    let each = |bytes: fn(&Figure) -> u64| {
        Spread::of(cell.figures.iter().map(|figure| bytes(figure) as f64 / f64::from(cell.number))).median
    };
    Some((each(|figure| figure.table_bytes), each(|figure| figure.resident_bytes)))
}

fn results(kinds: &[Kind], bare: &[Figure], cells: &[Cell]) -> Value {
    if bare.is_empty() {
        return Value::Null;
    }
    let of_kinds = kinds.iter().map(|&kind| {
        let curve = curve(kind, bare, cells);
        let refused = cells.iter().find(|cell| cell.kind == kind && cell.refused.is_some());
        let memory = memory_each(kind, cells);
        json!({
            "kind": kind.name(), "median_pps": curve, "knee": knee::knee(&curve), "nine_tenths_up_to": knee::held(&curve, 0.9),
            "table_bytes_each": memory.map(|m| m.0), "resident_bytes_each": memory.map(|m| m.1),
            "refused_at": refused.map(|cell| cell.number), "refused_because": refused.and_then(|cell| cell.refused.clone()),
        })
    });
    json!(of_kinds.collect::<Vec<_>>())
}

fn tables(kinds: &[Kind], bare: &[Figure], cells: &[Cell]) -> String {
    let heads =
        ["kind", "programs", "Mpps judged", "ratio to none", "ns more a packet", "installed in, s", "process, B each"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let spread = |spread: Spread| format!("{:.2} [{:.2} … {:.2}]", spread.median, spread.min, spread.max);
    let none = Spread::of(bare.iter().map(|figure| figure.pps / 1e6));
    let dash = || "—".to_owned();
    rows.push(vec!["none".to_owned(), "0".to_owned(), spread(none), "1".to_owned(), "0".to_owned(), dash(), dash()]);
    for cell in cells {
        let (kind, count) = (cell.kind.name(), number(f64::from(cell.number)));
        if let Some(why) = &cell.refused {
            rows.push(vec![kind, count, format!("refused: {why}"), dash(), dash(), dash(), dash()]);
            continue;
        }
        let pairs = || cell.figures.iter().zip(bare);
        if cell.figures.is_empty() {
            continue;
        }
        rows.push(vec![
            kind,
            count,
            spread(Spread::of(cell.figures.iter().map(|figure| figure.pps / 1e6))),
            spread(Spread::of(pairs().map(|(a, b)| a.pps / b.pps))),
            format!("{:.1}", Spread::of(pairs().map(|(a, b)| 1e9 / a.pps - 1e9 / b.pps)).median),
            format!("{:.2}", Spread::of(cell.figures.iter().map(|figure| figure.install_s)).median),
            format!(
                "{:.0}",
                Spread::of(cell.figures.iter().map(|f| f.resident_bytes as f64 / f64::from(cell.number))).median
            ),
        ]);
    }
    let mut text = markdown(&rows);
    text +=
        "\nThe knee is the point furthest above the straight line between the ends, numbers by their logarithm.\n\n";
    let heads = ["kind", "knee at", "nine tenths of the rate up to", "table, B each", "process, B each"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for &kind in kinds {
        let curve = curve(kind, bare, cells);
        let memory = memory_each(kind, cells);
        let count = |value: Option<u32>| value.map_or("none".to_owned(), |value| number(f64::from(value)));
        rows.push(vec![
            kind.name(),
            count(knee::knee(&curve)),
            if curve.len() > 1 { count(knee::held(&curve, 0.9)) } else { dash() },
            memory.map_or_else(dash, |m| format!("{:.0}", m.0)),
            memory.map_or_else(dash, |m| format!("{:.0}", m.1)),
        ]);
    }
    text + &markdown(&rows)
}

fn plot(kinds: &[Kind], bare: &[Figure], cells: &[Cell]) -> Plot {
    let line = |&kind: &Kind| {
        let points = curve(kind, bare, cells).into_iter().map(|(number, pps)| (f64::from(number), pps / 1e6));
        (kind.name(), points.collect())
    };
    Plot {
        title: "Rate over the number of programs, by their kind".to_owned(),
        x: ("programs".to_owned(), Axis::Log),
        y: ("Mpps judged".to_owned(), Axis::Linear),
        lines: kinds.iter().map(line).collect(),
        marks: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_lost_dropped_or_lacks_something_is_void() {
        let placed = json!({"programs": 10, "table_bytes": 1000, "resident_bytes": 2000, "seconds": 0.1});
        let counted = json!({"received_pps": 1e6, "drops": {}, "difference": 0});
        assert_eq!(figure(Kind::Firewall, 10, &placed, &counted).expect("a figure").pps, 1e6);
        assert!(figure(Kind::Firewall, 11, &placed, &counted).is_err());
        for wrong in [
            json!({"received_pps": 0.0, "drops": {}, "difference": 0}),
            json!({"received_pps": 1e6, "drops": {}, "difference": 1}),
            json!({"received_pps": 1e6, "drops": {"Program": 5}, "difference": 0}),
            json!({}),
        ] {
            assert!(figure(Kind::Firewall, 10, &placed, &wrong).is_err(), "{wrong}");
        }
        let matching = json!({"received_pps": 1e6, "drops": {"Program": 5}, "difference": 0});
        assert!(figure(Kind::FirewallMatching, 10, &placed, &matching).is_ok());
    }

    #[test]
    fn tables_and_curves_leave_out_what_was_refused() {
        let figure = |pps| Figure { pps, table_bytes: 1_000, resident_bytes: 8_000, install_s: 0.5 };
        let cell = |kind, number, rates: &[f64]| Cell {
            kind,
            number,
            figures: rates.iter().map(|&pps| figure(pps)).collect(),
            refused: rates.is_empty().then(|| "it has windows".to_owned()),
        };
        let bare = [3e7, 3.2e7].map(figure);
        let cells = [cell(Kind::Firewall, 10, &[2e7, 2.2e7]), cell(Kind::Windowed, 10, &[])];
        let kinds = [Kind::Firewall, Kind::Windowed];
        assert_eq!(curve(Kind::Firewall, &bare, &cells), vec![(0, 3.1e7), (10, 2.1e7)]);
        let text = tables(&kinds, &bare, &cells);
        assert!(text.contains("refused: it has windows") && text.contains("| 800"), "{text}");
        let results = results(&kinds, &bare, &cells);
        assert_eq!((&results[1]["refused_at"], &results[0]["resident_bytes_each"]), (&json!(10), &json!(800.0)));
        assert!(plot(&kinds, &bare, &cells).svg().contains("windowed"));
    }
}
