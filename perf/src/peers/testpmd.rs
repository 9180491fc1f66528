//! `dpdk-testpmd` in io mode: it only moves packets, so its rate is the cost of the harness itself.

use crate::capture::Capture;
use crate::run::{self, PerfError};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What its start takes, in seconds, at the most; and so much more for each GiB of packet memory.
const START_S: u64 = 30;
const START_PER_GIB_S: u64 = 10;

/// Packets a second that testpmd moves from the capture to nowhere.
pub fn rate(
    core: usize,
    control_core: usize,
    seconds: u64,
    capture: Capture,
    vdevs: [String; 2],
) -> Result<f64, PerfError> {
    if !Path::new("/usr/bin/dpdk-testpmd").exists() {
        let remedy = "as root: apt-get install dpdk-dev".to_owned();
        return Err(PerfError::Missing { what: "dpdk-testpmd".to_owned(), remedy });
    }
    let limit_s = seconds + START_S + START_PER_GIB_S * u64::from(capture.memory_mib() / 1024);
    let mut command = Command::new("timeout");
    command.args(["-s", "INT", &limit_s.to_string(), "dpdk-testpmd"]);
    command.args(["--lcores", &format!("0@{control_core},1@{core}")]);
    command.args([
        "--no-pci",
        "--in-memory",
        "-m",
        &capture.memory_mib().to_string(),
        "--file-prefix",
        "vinet-perf-testpmd",
    ]);
    for vdev in vdevs {
        command.arg(format!("--vdev={vdev}"));
    }
    command.args(["--", "--forward-mode=io", "--nb-cores=1", "--auto-start", "--stats-period=1"]);
    command.args(["--no-lsc-interrupt", &format!("--total-num-mbufs={}", capture.buffers())]);
    // It never ends by itself: when awk(1) has seen enough of its seconds, the next word that it says is its last.
    let mut shell = Command::new("sh");
    let words: Vec<String> = command.get_args().map(|a| format!("'{}'", a.to_string_lossy())).collect();
    let enough = format!("{{ print }} /Tx-pps:/ && $NF > 0 && ++n > {seconds} {{ exit }}");
    shell.args(["-c", &format!("timeout {} </dev/null 2>&1 | awk '{enough}'", words.join(" "))]);
    let text = run::output("dpdk-testpmd", shell, Duration::from_secs(limit_s + 10))?;
    // It prints for each port, each second: "Tx-pps:   83123456". The transmitting port is the last.
    let rates: Vec<f64> = text
        .lines()
        .filter_map(|line| line.split("Tx-pps:").nth(1))
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .filter(|&rate: &f64| rate > 0.0)
        .collect();
    // The first second begins in the middle.
    let steady = rates.get(1..).unwrap_or(&[]);
    if steady.is_empty() {
        return Err(PerfError::Failed { what: "dpdk-testpmd".to_owned(), words: run::last_lines(&text) });
    }
    Ok(steady.iter().sum::<f64>() / steady.len() as f64)
}
