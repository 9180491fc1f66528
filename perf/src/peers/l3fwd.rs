//! DPDK's own example router, `l3fwd`, built from the source in Debian's `dpdk-doc`, with its longest-prefix match.
//!
//! Two things are changed in the copy that is built: receive checksum offload is not asked for, because `net_pcap` has
//! none, and a thread prints each port's transmit counter once a second, because the example prints no counters.

use crate::run::{self, PerfError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOURCE: &str = "/usr/share/dpdk/examples";

/// What its start takes, in seconds, at the most.
const START_S: u64 = 5;

/// The thread that prints counters: placed before `main`.
const COUNTER_THREAD: &str = r#"
#include <pthread.h>
#include <unistd.h>
static void *print_counters(void *unused)
{
	struct rte_eth_stats stats;
	uint16_t port;
	(void)unused;
	for (;;) {
		sleep(1);
		RTE_ETH_FOREACH_DEV(port) {
			if (rte_eth_stats_get(port, &stats) == 0)
				fprintf(stderr, "counter %u %" PRIu64 "\n", port, stats.opackets);
		}
	}
	return NULL;
}
"#;

/// What starts it: placed before the workers are launched.
const COUNTER_START: &str = "\t{ pthread_t counters; pthread_create(&counters, NULL, print_counters, NULL); }\n";

/// The built program, made in `dir` if it is not there yet.
pub fn build(dir: &Path) -> Result<PathBuf, PerfError> {
    let binary = dir.join("l3fwd/build/l3fwd");
    if binary.exists() {
        return Ok(binary);
    }
    if !Path::new(SOURCE).join("l3fwd/main.c").exists() {
        let remedy = "as root: apt-get install dpdk-doc libdpdk-dev libsystemd-dev".to_owned();
        return Err(PerfError::Missing { what: format!("the source of l3fwd ({SOURCE})"), remedy });
    }
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(Path::new(SOURCE).join("l3fwd")).arg(Path::new(SOURCE).join("common")).arg(dir);
    run::output("copying l3fwd", copy, Duration::from_secs(10))?;
    let main = dir.join("l3fwd/main.c");
    let file = |error| PerfError::File { path: main.clone(), error };
    let source = std::fs::read_to_string(&main).map_err(file)?;
    let changes = [
        ("\t\t.offloads = RTE_ETH_RX_OFFLOAD_CHECKSUM,\n", "\t\t.offloads = 0,\n".to_owned()),
        ("int\nmain(int argc, char **argv)\n", format!("{COUNTER_THREAD}int\nmain(int argc, char **argv)\n")),
        (
            "\t/* launch per-lcore init on every lcore */\n",
            format!("{COUNTER_START}\t/* launch per-lcore init on every lcore */\n"),
        ),
    ];
    let mut changed = source;
    for (there, instead) in changes {
        if changed.matches(there).count() != 1 {
            let words = format!("its source is not the one of DPDK 22.11: {there:?} is not there once");
            return Err(PerfError::Failed { what: "building l3fwd".to_owned(), words });
        }
        changed = changed.replace(there, &instead);
    }
    std::fs::write(&main, changed).map_err(file)?;
    let mut make = Command::new("make");
    make.arg("-C").arg(dir.join("l3fwd")).arg("static");
    run::output("building l3fwd (make static)", make, Duration::from_secs(180))?;
    Ok(binary)
}

/// Packets a second that l3fwd sends, by port.
pub fn rates(binary: &Path, core: usize, seconds: u64, vdevs: [String; 2]) -> Result<[f64; 2], PerfError> {
    let dir = binary.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let mut words = vec!["-s".to_owned(), "INT".to_owned(), (seconds + START_S).to_string()];
    words.push(binary.display().to_string());
    words.extend(["-l", &core.to_string(), "--no-pci", "--in-memory", "-m", "512"].map(str::to_owned));
    words.extend(["--file-prefix", "vinet-perf-l3fwd"].map(str::to_owned));
    words.extend(vdevs.map(|vdev| format!("--vdev={vdev}")));
    words.extend(["--", "-p", "0x3", "-P", "--parse-ptype", "--lookup=lpm"].map(str::to_owned));
    words.push(format!("--config=(0,0,{core}),(1,0,{core})"));
    words.push(format!("--rule_ipv4={}", dir.join("lpm_default_v4.cfg").display()));
    words.push(format!("--rule_ipv6={}", dir.join("lpm_default_v6.cfg").display()));
    let quoted: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("timeout {} </dev/null; s=$?; [ $s = 124 ] || exit $s", quoted.join(" "))]);
    let text = run::output("l3fwd", shell, Duration::from_secs(seconds + 20))?;
    let counters = |port: usize| -> Vec<f64> {
        let start = format!("counter {port} ");
        text.lines().filter_map(|line| line.trim().strip_prefix(&start)?.parse().ok()).collect()
    };
    let rate = |port: usize| -> Option<f64> {
        let counters = counters(port);
        let (first, last) = (counters.get(1)?, counters.last()?);
        (counters.len() > 2).then(|| (last - first) / (counters.len() - 2) as f64)
    };
    match (rate(0), rate(1)) {
        (Some(a), Some(b)) => Ok([a, b]),
        _ => Err(PerfError::Failed { what: "l3fwd".to_owned(), words: run::last_lines(&text) }),
    }
}
