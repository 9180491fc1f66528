//! DPDK's hash table, asked the same questions by a program of its own.

use super::{Measured, Options, Workload};
use crate::run::{self, PerfError};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Packet memory for so many entries, in MiB.
fn memory_mib(entries: usize) -> usize {
    64 + entries * 160 / (1 << 20)
}

/// One round: builds the table anew, asks everything, and adds the figures to `measured`.
pub fn round(
    peer: &Path,
    options: &Options,
    workload: &Workload,
    round: usize,
    measured: &mut Measured,
) -> Result<(), PerfError> {
    let path = options.dir.join("rte_hash.pairs");
    if round == 0 {
        let write = || -> std::io::Result<()> {
            let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
            let mut put = |numbers: &[u32]| numbers.iter().try_for_each(|number| file.write_all(&number.to_ne_bytes()));
            put(&[workload.pairs.len() as u32])?;
            workload.pairs.iter().try_for_each(|&(src, dst)| put(&[src, dst]))?;
            for kind in &workload.questions {
                put(&[kind.pairs.len() as u32, kind.hits as u32])?;
                kind.pairs.iter().try_for_each(|&(src, dst)| put(&[src, dst]))?;
            }
            file.flush()
        };
        write().map_err(|error| PerfError::File { path: path.clone(), error })?;
    }
    let mut command = Command::new(peer);
    command.args([
        "-l",
        &options.core.to_string(),
        "--no-pci",
        "--in-memory",
        "--no-telemetry",
        "--log-level",
        "lib.eal:3",
    ]);
    command.args(["-m", &memory_mib(workload.pairs.len()).to_string(), "--"]);
    command.arg(&path).arg(options.updates.to_string());
    let text = run::output("rte_hash", command, Duration::from_secs(300))?;
    let failed = || PerfError::Failed { what: "rte_hash".to_owned(), words: run::last_lines(&text) };
    let figures: Vec<f64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let [look_ups @ .., update, bytes] = &figures[..] else { return Err(failed()) };
    if look_ups.len() != measured.look_up_ns.len() {
        return Err(failed());
    }
    for (of_kind, &ns) in measured.look_up_ns.iter_mut().zip(look_ups) {
        of_kind.push(ns);
    }
    measured.update_ns.push(*update);
    measured.memory_bytes = *bytes as usize;
    Ok(())
}
