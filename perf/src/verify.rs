//! `vinet-perf verify`: what proofs cost and what they buy, each figure against its bar.
//!
//! Sizes of proofs and times of checks for the paper's three programs and the hard corpus; how many firewalls a core
//! verifies in a second; the worst input that a search finds; the lines of the trusted base; what the lemma library
//! saves; and proofs beside static analysis on programs by chance. It needs no root, runs on one core, and says at the
//! end which bars are not met.

pub mod chance;
mod clock;
mod compare;
mod firewalls;
pub mod generate;
pub mod hunt;
pub mod inputs;
mod lines;
pub mod report;

use crate::machine;
use crate::run::PerfError;
use crate::table::Spread;
use chance::Chance;
use clap::Args;
use generate::Policies;
use inputs::{Sent, Subject};
use report::{Bar, Report, short};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vinet_trusted::lemma::LemmaStore;

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// How often each time is taken; the least counts against the bar.
    #[arg(long, default_value_t = 200)]
    repeats: usize,
    /// How many programs by chance proofs and static analysis are compared on.
    #[arg(long, default_value_t = 2_000)]
    programs: usize,
    /// What chance follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long is hunted for the worst input, in seconds.
    #[arg(long, default_value_t = 60)]
    hunt_seconds: u64,
    /// A folder for the worst inputs that the hunt finds.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// The folder of policies and programs.
    #[arg(long, default_value = "configs")]
    configs: PathBuf,
    /// The sources of the trusted base, whose lines are counted where they are there.
    #[arg(long, default_value = "trusted/src")]
    sources: PathBuf,
    /// Print one JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
}

/// The paper's listings: the file, the most bytes of its proof, and the most microseconds of its check.
const LISTINGS: [(&str, f64, f64); 3] =
    [("firewall.vnp", 64.0, 1.0), ("spam-filter.vnp", 200.0, 10.0), ("multicast.vnp", 200.0, 10.0)];
const CORPUS_BYTES_MAX: f64 = 512.0;
const CORPUS_US_MAX: f64 = 25.0;
const FIREWALLS_PER_S_MIN: f64 = 250_000.0;
const WORST_MS_MAX: f64 = 2.0;
const WORST_KIB_MAX: f64 = 1024.0;
const TRUSTED_LINES_MAX: f64 = 3_000.0;
const RULES_LINES_MAX: f64 = 900.0;
/// The rounds over all firewalls: each is thousands of checks.
const FIREWALL_ROUNDS: usize = 10;

/// Measures everything and prints it.
pub fn run(options: &Options) -> Result<(), PerfError> {
    if options.repeats == 0 || options.programs == 0 {
        return Err(PerfError::Option("--repeats and --programs are at least 1".to_owned()));
    }
    if cfg!(debug_assertions) {
        eprintln!("note: this is no release build: its times say nothing");
    }
    if machine::load() > 0.5 {
        eprintln!("note: the load average is {:.2}: other work makes these figures worse", machine::load());
    }
    let policies = Policies::load(&options.configs.join("policy"))?;
    let shipped = inputs::shipped(&options.configs.join("programs"), &policies)?;
    let lemmas = vinet_prover::library();
    let mut report = Report::new(options.json);
    report.say(&format!("{}; one core; seed {}\n", machine::describe(), options.seed));
    report.object("machine", json!({"machine": machine::describe(), "load": machine::load(), "seed": options.seed}));

    let mut seeds = listings(&mut report, &shipped, &lemmas, options.repeats);
    seeds.extend(corpus(&mut report, &lemmas, options.repeats));
    firewall_rate(&mut report, &policies, &lemmas);
    seeds.extend(library_savings(&mut report, &shipped, &lemmas));
    trusted_lines(&mut report, &options.sources)?;
    worst(&mut report, seeds, &policies, &lemmas, options)?;
    report.heading("Proof and static analysis, on programs by chance");
    let wrong = compare::compare(&report, &policies, &lemmas, options.seed, options.programs);
    for words in &wrong {
        report.object("wrong", json!({"words": words}));
        eprintln!("{words}\n");
    }

    let mut missed = report.missed().to_vec();
    if !wrong.is_empty() {
        missed.push(format!("{} programs show the checker or a maker of certificates to be wrong", wrong.len()));
    }
    if missed.is_empty() {
        report.say("All bars are met.");
        Ok(())
    } else {
        Err(PerfError::Missed(missed))
    }
}

/// The paper's three programs.
fn listings(report: &mut Report, shipped: &[Subject], lemmas: &LemmaStore, repeats: usize) -> Vec<(String, Sent)> {
    report.heading("The paper's listings");
    let mut rows =
        vec![["program", "program, B", "proof, B", "check, µs, least", "median"].map(str::to_owned).to_vec()];
    let mut proven = Vec::new();
    for (name, bytes_max, us_max) in LISTINGS {
        let subject = shipped.iter().find(|subject| subject.name == name);
        let sent = subject.ok_or("it is not shipped".to_owned());
        let sent = match sent.and_then(|subject| subject.proven(lemmas).map_err(|why| why.to_string())) {
            Ok(sent) => sent,
            Err(why) => {
                report.no_figure(name, &why);
                continue;
            }
        };
        let ns = clock::check_ns(&sent, lemmas, repeats);
        rows.push(vec![
            name.to_owned(),
            sent.program.len().to_string(),
            sent.proof.len().to_string(),
            short(ns.min / 1e3),
            short(ns.median / 1e3),
        ]);
        report.object("listing", described(name, &sent, ns));
        report.bar(&format!("{name}: proof"), sent.proof.len() as f64, "B", Bar::AtMost(bytes_max));
        report.bar(&format!("{name}: check"), ns.min / 1e3, "µs", Bar::AtMost(us_max));
        proven.push((name.to_owned(), sent));
    }
    report.table(&rows);
    report.bars();
    proven
}

fn described(name: &str, sent: &Sent, ns: Spread) -> serde_json::Value {
    json!({
        "name": name, "program_bytes": sent.program.len(), "proof_bytes": sent.proof.len(),
        "check_ns_min": ns.min, "check_ns_median": ns.median,
    })
}

/// The programs that need a proof because the analysis is not enough.
fn corpus(report: &mut Report, lemmas: &LemmaStore, repeats: usize) -> Vec<(String, Sent)> {
    report.heading("The hard corpus");
    let heads =
        ["program", "program, B", "proof, B", "check, µs, least", "median", "the domain that it needs", "the analysis"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let (mut proven, mut bytes, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for (subject, domain) in inputs::corpus() {
        let analysis = match subject.analysed(lemmas) {
            Ok(_) => "accepts".to_owned(),
            Err(why) => format!("gives up: {why}"),
        };
        let sent = match subject.proven(lemmas) {
            Ok(sent) => sent,
            Err(why) => {
                report.no_figure(&format!("corpus: {}", subject.name), &why.to_string());
                continue;
            }
        };
        let ns = clock::check_ns(&sent, lemmas, repeats);
        let mut object = described(&subject.name, &sent, ns);
        object["domain"] = json!(domain);
        object["analysis"] = json!(analysis);
        report.object("corpus", object);
        rows.push(vec![
            subject.name.clone(),
            sent.program.len().to_string(),
            sent.proof.len().to_string(),
            short(ns.min / 1e3),
            short(ns.median / 1e3),
            domain.to_owned(),
            analysis,
        ]);
        bytes.push(sent.proof.len() as f64);
        times.push(ns.min / 1e3);
        proven.push((format!("corpus: {}", subject.name), sent));
    }
    report.table(&rows);
    if bytes.is_empty() {
        report.no_figure("the hard corpus", "nothing in it is proven");
    } else {
        report.bar("the hard corpus: proof, median", Spread::of(bytes).median, "B", Bar::AtMost(CORPUS_BYTES_MAX));
        report.bar("the hard corpus: check, median", Spread::of(times).median, "µs", Bar::AtMost(CORPUS_US_MAX));
    }
    report.bars();
    proven
}

fn firewall_rate(report: &mut Report, policies: &Policies, lemmas: &LemmaStore) {
    report.heading("Firewalls verified a second");
    let made = firewalls::make(&policies.end_user, lemmas);
    match made.and_then(|made| firewalls::rate(&made, lemmas, FIREWALL_ROUNDS)) {
        Ok(rate) => {
            let count = firewalls::FIREWALLS;
            report.object("firewalls", json!({"count": count, "per_s_max": rate.max, "per_s_median": rate.median}));
            report.say(&format!(
                "{count} different ones, {FIREWALL_ROUNDS} rounds: median {} a second\n",
                short(rate.median)
            ));
            report.bar("firewalls verified, the best round", rate.max, "/s", Bar::AtLeast(FIREWALLS_PER_S_MIN));
        }
        Err(why) => report.no_figure("firewalls verified", &why),
    }
    report.bars();
}

/// The shipped programs' proofs with the lemmas and without any.
fn library_savings(report: &mut Report, shipped: &[Subject], lemmas: &LemmaStore) -> Vec<(String, Sent)> {
    report.heading("Proof bytes of the shipped programs, with the lemma library and without");
    let without = LemmaStore::default();
    let mut rows = vec![["program", "with, B", "without, B"].map(str::to_owned).to_vec()];
    let (mut proven, mut totals, mut both) = (Vec::new(), [0, 0], 0);
    for subject in shipped {
        let (with, bare) = (subject.proven(lemmas), subject.proven(&without));
        let lens = [&with, &bare].map(|made| made.as_ref().ok().map(|sent| sent.proof.len()));
        let cell = |len: Option<usize>| len.map_or("no proof".to_owned(), |len| len.to_string());
        rows.push(vec![subject.name.clone(), cell(lens[0]), cell(lens[1])]);
        report.object("library", json!({"name": subject.name, "with": lens[0], "without": lens[1]}));
        if let [Some(with), Some(bare)] = lens {
            totals = [totals[0] + with, totals[1] + bare];
            both += 1;
        }
        match with {
            Ok(sent) => proven.push((subject.name.clone(), sent)),
            Err(why) => report.no_figure(&subject.name, &why.to_string()),
        }
    }
    rows.push(vec![format!("all {both} that have both"), totals[0].to_string(), totals[1].to_string()]);
    report.table(&rows);
    let saved = 100.0 * (1.0 - totals[0] as f64 / totals[1].max(1) as f64);
    report.bar("bytes that the library saves", saved, "%", Bar::AtLeast(1.0));
    report.bars();
    proven
}

fn trusted_lines(report: &mut Report, sources: &Path) -> Result<(), PerfError> {
    report.heading("Lines of the trusted base");
    let Some(lines) = lines::count(sources)? else {
        report.say(&format!("skipped: {} is not there\n", sources.display()));
        report.object("lines", json!({"skipped": sources.display().to_string()}));
        return Ok(());
    };
    let mut rows = vec![["file", "lines"].map(str::to_owned).to_vec()];
    rows.extend(lines.files.iter().map(|(name, lines)| vec![name.clone(), lines.to_string()]));
    report.table(&rows);
    report.object("lines", json!({"files": lines.files, "total": lines.total(), "rules": lines.rules}));
    let [total, rules] = [lines.total() as f64, lines.rules as f64];
    report.bar("the trusted base, without tests, comments and blanks", total, "lines", Bar::AtMost(TRUSTED_LINES_MAX));
    report.bar("the rules and substitution", rules, "lines", Bar::AtMost(RULES_LINES_MAX));
    report.bars();
    Ok(())
}

fn worst(
    report: &mut Report,
    seeds: Vec<(String, Sent)>,
    policies: &Policies,
    lemmas: &LemmaStore,
    options: &Options,
) -> Result<(), PerfError> {
    report.heading(&format!("The worst input of up to {} bytes", hunt::INPUT_BYTES_MAX));
    let time = Duration::from_secs(options.hunt_seconds);
    let hunt = hunt::hunt(seeds, policies, lemmas, &mut Chance::new(options.seed), time);
    let mut origins: Vec<(&String, &f64)> = hunt.origins.iter().collect();
    origins.sort_by(|a, b| b.1.total_cmp(a.1));
    let mut rows = vec![["what it descends from", "the worst, µs"].map(str::to_owned).to_vec()];
    rows.extend(origins.iter().take(30).map(|(origin, ns)| vec![(*origin).clone(), short(**ns / 1e3)]));
    report.table(&rows);
    report.say(&format!("{} inputs were tried in {} s.", hunt.tried, options.hunt_seconds));
    for (what, found) in [("slowest", &hunt.slowest), ("largest", &hunt.largest)] {
        let (program, proof) = (&found.sent.program, &found.sent.proof);
        report.say(&format!(
            "The {what}: {} µs, {} KiB; from \"{}\", {} + {} B; {}",
            short(found.ns / 1e3),
            short(found.heap as f64 / 1024.0),
            found.origin,
            program.len(),
            proof.len(),
            found.outcome
        ));
        report.object(
            "worst",
            json!({
                "what": what, "check_ns": found.ns, "heap_bytes": found.heap, "origin": found.origin,
                "program_bytes": program.len(), "proof_bytes": proof.len(), "outcome": found.outcome,
                "tried": hunt.tried,
            }),
        );
        if let Some(folder) = &options.keep {
            let keep = |path: PathBuf, bytes: &[u8]| {
                std::fs::write(&path, bytes).map_err(|error| PerfError::File { path, error })
            };
            std::fs::create_dir_all(folder).map_err(|error| PerfError::File { path: folder.clone(), error })?;
            keep(folder.join(format!("{what}.vnb")), program)?;
            keep(folder.join(format!("{what}.proof")), proof)?;
            keep(
                folder.join(format!("{what}.txt")),
                format!("owner {:?}, policy {}\n", found.sent.owner, found.sent.policy.name).as_bytes(),
            )?;
        }
    }
    report.say("");
    report.bar("the worst time", hunt.slowest.ns / 1e6, "ms", Bar::AtMost(WORST_MS_MAX));
    report.bar("the worst memory", hunt.largest.heap as f64 / 1024.0, "KiB", Bar::AtMost(WORST_KIB_MAX));
    report.bars();
    Ok(())
}
