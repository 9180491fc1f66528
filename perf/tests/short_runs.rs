//! The long measurements, run short: that they measure, and what they hold to whatever the machine does. Figures that depend
//! on the machine's speed are not judged here.

use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// Runs a subcommand, and gives the objects that it printed, and whether it met its bars.
fn run(words: &[&str]) -> (Vec<Value>, bool) {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO_BIN_EXE_vinet-perf"))
        .args(words)
        .arg("--json")
        .current_dir(top)
        .output()
        .expect("it is there");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{words:?}: {told}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let objects: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(!objects.is_empty(), "{words:?} printed no figure: {told}");
    (objects, output.status.success())
}

/// The core of a worker and that of the rest.
fn cores() -> [String; 2] {
    let allowed = vinet_fastpath::pinning::allowed_cores();
    [allowed.last(), allowed.first()].map(|core| core.copied().unwrap_or(0).to_string())
}

fn of<'a>(objects: &'a [Value], section: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["section"] == section)
}

#[test]
fn a_polling_worker_makes_no_system_call_and_no_allocation() {
    let dir = tempfile::tempdir().expect("a folder");
    let ([worker, rest], dir) = (cores(), dir.path().display().to_string());
    let (objects, is_met) =
        run(&["quiet", "--no-huge", "--packets", "300000", "--core", &worker, "--control-core", &rest, "--dir", &dir]);
    assert!(is_met, "{objects:?}");
    let stretches: Vec<&Value> = of(&objects, "stretch").collect();
    assert_eq!(stretches.len(), 2);
    for stretch in stretches {
        assert!(stretch["packets"].as_u64() >= Some(300_000), "{stretch}");
        let counts = ["system_calls", "allocations", "switches"].map(|key| stretch[key].as_u64());
        assert_eq!(counts, [Some(0); 3], "{stretch}");
    }
}

#[test]
fn five_seconds_of_soaking_lose_no_packet() {
    let (objects, is_met) = run(&["soak", "--minutes", "0.07", "--round-ms", "600", "--seed", "11"]);
    assert!(is_met, "{objects:?}");
    let soak = of(&objects, "soak").next().expect("what happened");
    let figures = ["received", "dropped", "installs", "batches", "quiet_points", "verified_packets"];
    for figure in figures {
        assert!(soak[figure].as_u64() > Some(0), "no {figure}: {soak}");
    }
    assert_eq!(soak["installs"], soak["withdrawals"], "{soak}");
    assert!(soak["hung_worker_named_after_ms"].as_u64() > Some(0), "{soak}");
}

#[test]
fn publication_times_what_it_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let ([worker, rest], dir) = (cores(), dir.path().display().to_string());
    let words = [
        "publication",
        "--no-huge",
        "--programs",
        "3000",
        "--installs",
        "100",
        "--batch",
        "500",
        "--batches",
        "2",
        "--pairs",
        "1",
        "--window-ms",
        "1500",
        "--churn",
        "40",
        "--cores",
        &worker,
        "--control-core",
        &rest,
        "--dir",
        &dir,
    ];
    let (objects, _) = run(&words);
    assert_eq!(of(&objects, "publication").next().map(|o| &o["programs"]), Some(&Value::from(3000)));
    let installs: Vec<f64> = of(&objects, "install").filter_map(|object| object["p50_us"].as_f64()).collect();
    // The call returns, then the workers have it, then it is used.
    assert!(installs.len() == 3 && installs.is_sorted() && installs[0] > 0.0, "{installs:?}");
    assert_eq!(of(&objects, "bar").count(), 4);
    let bytes = of(&objects, "bar").find(|bar| bar["unit"] == "B").expect("memory");
    assert_eq!(bytes["met"], true, "{bytes}");
}
