//! Proofs against static analysis, on programs by chance: what each accepts, what each rejects though it is lawful, and
//! what both cost.
//!
//! A program is *lawful* if the checker accepts a certificate for it, whoever made the certificate, and *unlawful* if a
//! counterexample is confirmed by the reference interpreter. If neither is the case nobody knows, and it is counted as
//! such, whatever its family says. A program that is accepted and has a counterexample, or that is accepted and was made
//! to be unlawful, shows that the checker is wrong: the run fails.

use crate::table::Spread;
use crate::verify::clock;
use crate::verify::generate::{self, Case, FAMILIES, Policies};
use crate::verify::inputs::{NoCertificate, Sent, Subject};
use crate::verify::report::{Report, short};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use vinet_prover::counterexample::{self, Limits};
use vinet_trusted::lemma::LemmaStore;

/// How often each certificate is checked; the least time counts.
const CHECKS: usize = 3;

/// What one of the two makers did.
struct Attempt {
    /// How long it took, whatever came of it.
    make_ns: f64,
    /// How long the check of its certificate takes, and the certificate's bytes; nothing where it gave up.
    accepted: Option<(f64, usize)>,
}

/// What is known of one program.
struct Verdict {
    family: &'static str,
    proof: Attempt,
    analysis: Attempt,
    is_unlawful: bool,
}

impl Verdict {
    fn is_lawful(&self) -> bool {
        self.proof.accepted.is_some() || self.analysis.accepted.is_some()
    }
}

/// Compares the two on so many programs, and prints a row for each family. The programs that show the checker, or a
/// maker, to be wrong are given back in words.
pub fn compare(report: &Report, policies: &Policies, lemmas: &LemmaStore, seed: u64, programs: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let verdicts: Vec<Verdict> = (0..programs)
        .map(|number| {
            let case = generate::case(policies, seed, number);
            let (verdict, faults) = judge(&case, lemmas);
            let about = |fault| {
                format!(
                    "{fault}\n  family \"{}\", seed {seed}, number {number}, owner {:?}, policy \"{}\"\n  {:?}",
                    case.family.name, case.owner, case.policy.name, case.program
                )
            };
            wrong.extend(faults.into_iter().map(about));
            if (number + 1) % 200 == 0 {
                eprintln!("{} of {programs} programs are compared", number + 1);
            }
            verdict
        })
        .collect();
    let mut rows = vec![
        [
            "family",
            "programs",
            "accepted by proof",
            "by analysis",
            "unlawful",
            "unknown",
            "falsely rejected by proof",
            "by analysis",
            "making, µs, proof",
            "analysis",
            "check, µs, proof",
            "analysis",
            "bytes, proof",
            "analysis",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let families = FAMILIES.iter().map(|family| family.name).map(|name| (name, Some(name)));
    for (title, family) in families.chain([("all", None)]) {
        let of: Vec<&Verdict> = verdicts.iter().filter(|v| family.is_none_or(|name| v.family == name)).collect();
        if !of.is_empty() {
            rows.push(row(title, &of));
            report.object("compare", object(title, &of));
        }
    }
    report.table(&rows);
    report.say(
        "Times and bytes are medians, with the mean of making in brackets; of making over all programs, of checking and \
         bytes over those accepted.\n",
    );
    wrong
}

fn attempt(
    make: impl FnOnce() -> Result<Sent, NoCertificate>,
    lemmas: &LemmaStore,
) -> (Attempt, Option<NoCertificate>) {
    let start = Instant::now();
    let made = make();
    let make_ns = start.elapsed().as_nanos() as f64;
    match made {
        Ok(sent) => {
            let check_ns = clock::check_ns(&sent, lemmas, CHECKS).min;
            (Attempt { make_ns, accepted: Some((check_ns, sent.proof.len())) }, None)
        }
        Err(why) => (Attempt { make_ns, accepted: None }, Some(why)),
    }
}

/// How far a counterexample is searched for where the checker says that there is none: a search that finds none goes to
/// its limit.
fn short_search() -> Limits {
    Limits { packets_max: 2, runs_max: 1_000, steps_max: 200_000, ..Limits::default() }
}

/// What is known of it, and what that says against the checker and the makers.
fn judge(case: &Case, lemmas: &LemmaStore) -> (Verdict, Vec<String>) {
    let subject = Subject {
        name: case.family.name.to_owned(),
        program: case.program.clone(),
        hints: Vec::new(),
        owner: case.owner,
        policy: Arc::clone(&case.policy),
    };
    let (proof, no_proof) = attempt(|| subject.proven(lemmas), lemmas);
    let (analysis, no_analysis) = attempt(|| subject.analysed(lemmas), lemmas);
    let mut wrong = Vec::new();
    let refused = [no_proof, no_analysis].into_iter().flatten().filter(|why| matches!(why, NoCertificate::Refused(_)));
    wrong.extend(refused.map(|why| why.to_string()));
    let mut verdict = Verdict { family: case.family.name, proof, analysis, is_unlawful: false };
    let limits = if verdict.is_lawful() { short_search() } else { Limits::default() };
    let found = counterexample::find(&case.program, &case.owner, &case.policy, &limits);
    verdict.is_unlawful = found.is_ok();
    if let Ok(found) = &found
        && verdict.is_lawful()
    {
        wrong.push(format!("a program is accepted that has a counterexample:\n{found}"));
    } else if verdict.is_lawful() && !case.family.is_lawful {
        wrong.push("a program is accepted that was made to be unlawful:".to_owned());
    }
    if verdict.is_unlawful && case.family.is_lawful {
        wrong.push("a program that was made to be lawful has a counterexample:".to_owned());
    }
    (verdict, wrong)
}

/// How many of a family: accepted by each, unlawful, unknown, and falsely rejected by each.
fn counts(of: &[&Verdict]) -> [usize; 6] {
    let count = |is: &dyn Fn(&Verdict) -> bool| of.iter().filter(|v| is(v)).count();
    [
        count(&|v| v.proof.accepted.is_some()),
        count(&|v| v.analysis.accepted.is_some()),
        count(&|v| v.is_unlawful),
        count(&|v| !v.is_lawful() && !v.is_unlawful),
        count(&|v| v.is_lawful() && v.proof.accepted.is_none()),
        count(&|v| v.is_lawful() && v.analysis.accepted.is_none()),
    ]
}

/// The spread of a figure of the attempts, where there is one.
fn spread(of: &[&Verdict], figure: impl Fn(&Verdict) -> Option<f64>) -> Option<Spread> {
    let figures: Vec<f64> = of.iter().filter_map(|v| figure(v)).collect();
    (!figures.is_empty()).then(|| Spread::of(figures))
}

fn mean(of: &[&Verdict], figure: impl Fn(&Verdict) -> f64) -> f64 {
    of.iter().map(|v| figure(v)).sum::<f64>() / of.len() as f64
}

/// A maker's name, and what it did with a program.
type Maker = (&'static str, fn(&Verdict) -> &Attempt);

const MAKERS: [Maker; 2] = [("proof", |v| &v.proof), ("analysis", |v| &v.analysis)];

fn row(title: &str, of: &[&Verdict]) -> Vec<String> {
    let [by_proof, by_analysis, unlawful, unknown, false_proof, false_analysis] = counts(of);
    let mut cells = vec![title.to_owned(), of.len().to_string()];
    cells.extend([by_proof, by_analysis, unlawful, unknown, false_proof, false_analysis].map(|n| n.to_string()));
    let cell = |spread: Option<Spread>, unit: f64| spread.map_or("—".to_owned(), |s| short(s.median / unit));
    for (_, attempt) in MAKERS {
        let median = cell(spread(of, |v| Some(attempt(v).make_ns)), 1e3);
        cells.push(format!("{median} ({})", short(mean(of, |v| attempt(v).make_ns) / 1e3)));
    }
    cells.extend(MAKERS.map(|(_, attempt)| cell(spread(of, |v| attempt(v).accepted.map(|(ns, _)| ns)), 1e3)));
    cells.extend(MAKERS.map(|(_, attempt)| cell(spread(of, |v| attempt(v).accepted.map(|(_, len)| len as f64)), 1.0)));
    cells
}

fn object(title: &str, of: &[&Verdict]) -> Value {
    let [by_proof, by_analysis, unlawful, unknown, false_proof, false_analysis] = counts(of);
    let mut object = json!({
        "family": title, "programs": of.len(), "unlawful": unlawful, "unknown": unknown,
        "proof": {"accepted": by_proof, "falsely_rejected": false_proof},
        "analysis": {"accepted": by_analysis, "falsely_rejected": false_analysis},
    });
    for (name, attempt) in MAKERS {
        let maker = &mut object[name];
        maker["make_ns_mean"] = json!(mean(of, |v| attempt(v).make_ns));
        let mut set = |key: &str, spread: Option<Spread>| {
            maker[key] = json!(spread.map(|s| json!({"median": s.median, "min": s.min, "max": s.max})));
        };
        set("make_ns", spread(of, |v| Some(attempt(v).make_ns)));
        set("check_ns", spread(of, |v| attempt(v).accepted.map(|(ns, _)| ns)));
        set("bytes", spread(of, |v| attempt(v).accepted.map(|(_, len)| len as f64)));
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(proof: bool, analysis: bool, is_unlawful: bool) -> Verdict {
        let attempt = |accepted: bool| Attempt { make_ns: 2e3, accepted: accepted.then_some((1e3, 20)) };
        Verdict { family: "f", proof: attempt(proof), analysis: attempt(analysis), is_unlawful }
    }

    #[test]
    fn what_one_accepts_the_other_rejects_falsely_and_the_rest_is_unlawful_or_unknown() {
        let all = [
            verdict(true, true, false),
            verdict(true, false, false),
            verdict(false, true, false),
            verdict(false, false, true),
            verdict(false, false, false),
            verdict(false, false, false),
        ];
        let all: Vec<&Verdict> = all.iter().collect();
        assert_eq!(counts(&all), [2, 2, 1, 2, 1, 1]);
        let object = object("f", &all);
        assert_eq!(object["proof"]["falsely_rejected"], 1);
        assert_eq!(object["analysis"]["bytes"]["median"], 20.0);
        assert_eq!(row("f", &all).len(), 14);
    }
}
