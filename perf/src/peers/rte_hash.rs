//! DPDK's hash table behind a small program of our own in C, `rte_hash.c`: its inner loop is inline code of DPDK's headers
//! and intrinsics, and the program is compiled as DPDK says.

use crate::run::{self, PerfError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOURCE: &str = include_str!("rte_hash.c");

/// The built program, made in `dir`.
pub fn build(dir: &Path) -> Result<PathBuf, PerfError> {
    let (source, binary) = (dir.join("rte_hash.c"), dir.join("rte_hash"));
    std::fs::write(&source, SOURCE).map_err(|error| PerfError::File { path: source.clone(), error })?;
    let missing = || PerfError::Missing {
        what: "DPDK's development files".to_owned(),
        remedy: "as root: apt-get install libdpdk-dev gcc pkg-config".to_owned(),
    };
    let flags = Command::new("pkg-config").args(["--cflags", "--libs", "libdpdk"]).output().map_err(|_| missing())?;
    if !flags.status.success() {
        return Err(missing());
    }
    let flags = String::from_utf8_lossy(&flags.stdout).into_owned();
    let mut compiler = Command::new("cc");
    compiler.args(["-O3", "-Wall", "-o"]).arg(&binary).arg(&source).args(flags.split_whitespace());
    run::output("compiling rte_hash.c", compiler, Duration::from_secs(60))?;
    Ok(binary)
}
