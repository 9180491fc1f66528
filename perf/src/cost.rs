//! `vinet-perf cost`: what every shipped program takes of the processor, held against what it declares.
//!
//! Each program of the folder is compiled, proven, checked and lowered as a router does, and run on traffic that is meant
//! to be hard for it: maximal packets from and to the addresses that it is about, with contents that nearly hold its
//! words or do hold them, in order and out of order, all alike; in windows of every size that it may have. A quick look
//! finds the hardest traffic and size; those are measured, and the 99th percentile counts. Complexity is a bound for every
//! packet and every window, so one program above it is a defect of the costs.

mod traffic;

use crate::calibrate::sampler::{self, Cycles, Sampler, Work};
use crate::machine;
use crate::run::PerfError;
use crate::verify::generate::Policies;
use crate::verify::inputs::{self, Subject};
use crate::verify::report::{Report, short};
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use traffic::{Hard, Traffic};
use vinet_pktops::Executable;
use vinet_pktops::datagram::Sender;
use vinet_pktops::parse::Headers;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::Limits;

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// What chance follows from: hosts, flows and noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The core to measure on.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The folder of policies and programs.
    #[arg(long, default_value = "configs")]
    configs: PathBuf,
    /// Only programs whose file's name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Print one JSON object a line instead of the table.
    #[arg(long)]
    json: bool,
}

/// The packets that a program is given in one go, in windows.
const PACKETS: usize = 96;
/// How many of the hardest kinds of traffic, as the quick look has them, are measured.
const HARDEST: usize = 3;

/// What one program costs.
struct Priced {
    name: String,
    declared: u64,
    measured: Cycles,
    hardest: Hard,
    window: usize,
}

impl Priced {
    fn ratio(&self) -> f64 {
        self.measured.p99 / self.declared as f64
    }
}

/// Measures every program, and says which exceed what they declare.
pub fn run(options: &Options) -> Result<(), PerfError> {
    let policies = Policies::load(&options.configs.join("policy"))?;
    let mut subjects = inputs::shipped(&options.configs.join("programs"), &policies)?;
    subjects.retain(|subject| options.only.as_ref().is_none_or(|part| subject.name.contains(part.as_str())));
    if subjects.is_empty() {
        return Err(PerfError::Option("no program has such a name".to_owned()));
    }
    let (machine, lemmas) = (machine::describe(), vinet_prover::library());
    vinet_fastpath::pinning::pin_current_thread(options.core).map_err(|e| PerfError::Option(e.to_string()))?;
    let mut sampler = Sampler::default();
    let mut priced = Vec::new();
    for subject in &subjects {
        let one = price(subject, &lemmas, options.seed, &mut sampler)
            .map_err(|words| PerfError::Failed { what: subject.name.clone(), words })?;
        eprintln!("{}: {:.0} of {} cycles", one.name, one.measured.p99, one.declared);
        priced.push(one);
    }
    if sampler.tally.share() > sampler::DISTURBED_SHARE_MAX {
        let (disturbed, batches) = (sampler.tally.disturbed, sampler.tally.batches);
        let why = format!("{disturbed} of {batches} samples were disturbed; let nothing else run");
        return Err(PerfError::Void { what: "cost".to_owned(), why });
    }
    priced.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));

    let report = Report::new(options.json);
    report.say(&format!(
        "{}; seed {}; {} of {} samples disturbed and left out.\n",
        machine,
        options.seed,
        short(sampler.tally.disturbed as f64),
        short(sampler.tally.batches as f64)
    ));
    let heads = ["program", "declared", "measured, p99", "ratio", "hardest traffic", "window", ""];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let mut missed = Vec::new();
    for one in &priced {
        let is_above = one.ratio() > 1.0;
        report.object(
            "program",
            json!({
                "name": one.name, "declared_cycles": one.declared, "p99_cycles": one.measured.p99,
                "median_cycles": one.measured.median, "ratio": one.ratio(), "traffic": one.hardest.name(),
                "window": one.window, "above": is_above,
            }),
        );
        rows.push(vec![
            one.name.clone(),
            short(one.declared as f64),
            short(one.measured.p99.round()),
            format!("{:.2}", one.ratio()),
            one.hardest.name(),
            one.window.to_string(),
            if is_above { "ABOVE" } else { "" }.to_owned(),
        ]);
        if is_above {
            missed.push(format!("{} takes {:.0} cycles and declares {}", one.name, one.measured.p99, one.declared));
        }
    }
    report.table(&rows);
    if missed.is_empty() { Ok(()) } else { Err(PerfError::Missed(missed)) }
}

/// Finds the hardest traffic for a program and measures it.
fn price(subject: &Subject, lemmas: &LemmaStore, seed: u64, sampler: &mut Sampler) -> Result<Priced, String> {
    let sent = subject.proven(lemmas).map_err(|e| e.to_string())?;
    let checked = Arc::new(sent.check(lemmas).map_err(|e| e.to_string())?);
    let declared = checked.complexity();
    let executable = Arc::new(Executable::lower(checked).map_err(|e| e.to_string())?);
    let limits = subject.policy.limits;
    let work =
        |hard: Hard, window: usize| running(&executable, traffic(subject, &executable, hard, seed), window, &limits);
    // The hardest kinds and ports, in the smallest and the largest windows; then all windows on these.
    let ends: BTreeSet<usize> = [1, executable.window()].into_iter().collect();
    let mut looks = Vec::new();
    for hard in Hard::all(&subject.program) {
        for &window in &ends {
            looks.push((sampler.glance(&mut work(hard, window)), hard, window));
        }
    }
    looks.sort_by(|a, b| b.0.total_cmp(&a.0));
    let hardest: Vec<Hard> = looks.iter().take(HARDEST).map(|look| look.1).collect();
    for &hard in &hardest {
        for window in 2..executable.window() {
            looks.push((sampler.glance(&mut work(hard, window)), hard, window));
        }
    }
    looks.sort_by(|a, b| b.0.total_cmp(&a.0));
    let measured = looks.iter().take(HARDEST).map(|&(_, hard, window)| {
        let mut work = work(hard, window);
        (sampler.cost(&mut work), hard, window)
    });
    let worst = measured.max_by(|a, b| a.0.p99.total_cmp(&b.0.p99));
    let (measured, hardest, window) = worst.ok_or("no traffic was tried")?;
    Ok(Priced { name: subject.name.clone(), declared, measured, hardest, window })
}

fn traffic(subject: &Subject, executable: &Executable, hard: Hard, seed: u64) -> Traffic {
    let longest = subject.policy.limits.packet_bytes_max as usize;
    Traffic::for_program(&subject.program, executable, hard, longest, PACKETS, seed)
}

/// A program run on traffic in windows of so many packets.
fn running(executable: &Arc<Executable>, mut traffic: Traffic, window: usize, limits: &Limits) -> Work<'static> {
    let executable = Arc::clone(executable);
    let mut state = executable.state();
    let count = (PACKETS / window).max(1) * window;
    let mut verdicts = Vec::with_capacity(count);
    let port = limits.generate_port;
    let sender = Sender { program: [1; 32], key: [2; 32], port, first_batch: 0, mtu: limits.packet_bytes_max as u16 };
    Work::new(count, move || {
        traffic.go_on();
        let packets: Vec<(&[u8], &Headers)> = traffic.packets().take(count).collect();
        for some in packets.chunks(window) {
            verdicts.clear();
            executable.run_window(&mut state, black_box(some), 0, &mut verdicts, &mut |_leave, generated| {
                let sent = sender.send(&generated, &mut |packet| {
                    black_box(packet);
                });
                // What is too large to be sent was made all the same.
                let _ = black_box(sent);
            });
            black_box(&verdicts);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Every shipped program, ready to run.
    fn shipped() -> Vec<(Subject, Executable)> {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let policies = Policies::load(&configs.join("policy")).unwrap_or_else(|error| panic!("{error}"));
        let subjects = inputs::shipped(&configs.join("programs"), &policies).unwrap_or_else(|error| panic!("{error}"));
        let lemmas = vinet_prover::library();
        let lowered = |subject: Subject| {
            let sent = subject.proven(&lemmas).unwrap_or_else(|error| panic!("{}: {error}", subject.name));
            let checked = sent.check(&lemmas).unwrap_or_else(|error| panic!("{}: {error}", subject.name));
            let executable = Executable::lower(Arc::new(checked)).unwrap_or_else(|error| panic!("{error}"));
            (subject, executable)
        };
        subjects.into_iter().map(lowered).collect()
    }

    /// What came of some traffic.
    #[derive(Default)]
    struct Outcome {
        discarded: usize,
        generated: usize,
    }

    fn outcome(executable: &Executable, traffic: &mut Traffic) -> Outcome {
        let (mut state, mut verdicts, mut outcome) = (executable.state(), Vec::new(), Outcome::default());
        for _ in 0..2 {
            traffic.go_on();
            let packets: Vec<(&[u8], &Headers)> = traffic.packets().collect();
            executable.run_window(&mut state, &packets, 0, &mut verdicts, &mut |_, _| outcome.generated += 1);
        }
        outcome.discarded = verdicts.iter().filter(|verdict| **verdict != vinet_pktops::Verdict::Forward).count();
        outcome
    }

    #[test]
    fn all_traffic_meets_the_program_and_some_makes_it_do_what_it_is_for() {
        let mut idle = Vec::new();
        for (subject, executable) in shipped() {
            let mut sum = Outcome::default();
            // To each of the ports in turn, which is to all of them.
            for hard in Hard::all(&subject.program).into_iter().filter(|hard| hard.port.is_none()) {
                let mut traffic = traffic(&subject, &executable, hard, 1);
                let met = traffic.packets().filter(|(_, headers)| {
                    executable.cells().iter().any(|c| c.src().contains(headers.src) && c.dst().contains(headers.dst))
                });
                assert_eq!(met.count(), PACKETS, "{}: {}", subject.name, hard.name());
                let one = outcome(&executable, &mut traffic);
                sum.discarded += one.discarded;
                sum.generated += one.generated;
            }
            let does = if executable.generates() { sum.generated } else { sum.discarded };
            if does == 0 {
                idle.push(subject.name);
            }
        }
        assert_eq!(idle, Vec::<String>::new(), "they do nothing on any traffic");
    }
}
