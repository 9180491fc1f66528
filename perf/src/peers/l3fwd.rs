//! DPDK's own example router, `l3fwd`, built from the source in Debian's `dpdk-doc`, with its longest-prefix match or its
//! access control list.
//!
//! Two things are changed in the copy that is built: receive checksum offload is not asked for, because `net_pcap` has
//! none, and a thread prints each port's transmit counter once a second, because the example prints no counters.

use crate::run::{self, PerfError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vinet_trusted::addr::Addr;

const SOURCE: &str = "/usr/share/dpdk/examples";

/// What its start takes, in seconds, at the most; the trie of 10,000 rules is built within one.
const START_S: u64 = 5;

/// How it looks packets up.
#[derive(Clone, Copy)]
pub enum Lookup<'a> {
    /// The longest prefix, among the routes of its own example.
    Lpm,
    /// The list that [`AclRules`] wrote.
    Acl(&'a AclRules),
}

/// Files with rules for its access control list.
pub struct AclRules {
    v4: PathBuf,
    v6: PathBuf,
    /// How many of the rules drop.
    drops: usize,
}

impl AclRules {
    /// Writes rules into `dir` that drop what goes from one IPv4 address to another, for every pair, and route the
    /// destinations of the standard capture. The rules that drop come first in priority, as they stand in the file.
    pub fn write(dir: &Path, drops: impl Iterator<Item = (Addr, Addr)>) -> Result<AclRules, PerfError> {
        let (mut v4, mut count) = (String::new(), 0);
        for (source, destination) in drops {
            v4 += &rule('@', &format!("{source}/32 {destination}/32"), "");
            count += 1;
        }
        v4 += &rule('R', "0.0.0.0/0 198.18.0.0/24", " 0");
        v4 += &rule('R', "0.0.0.0/0 198.18.1.0/24", " 1");
        // It wants one route of each family.
        let v6 = rule('R', "0:0:0:0:0:0:0:0/0 2001:200:0:0:0:0:0:0/64", " 0");
        let rules = AclRules { v4: dir.join("acl_v4.cfg"), v6: dir.join("acl_v6.cfg"), drops: count };
        for (path, text) in [(&rules.v4, v4), (&rules.v6, v6)] {
            std::fs::write(path, text).map_err(|error| PerfError::File { path: path.clone(), error })?;
        }
        Ok(rules)
    }
}

/// A line of such a file: any ports, any protocol.
fn rule(lead: char, prefixes: &str, port: &str) -> String {
    format!("{lead}{prefixes} 0 : 65535 0 : 65535 0x00/0x00{port}\n")
}

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
pub fn rates(
    binary: &Path,
    core: usize,
    seconds: u64,
    lookup: Lookup<'_>,
    vdevs: [String; 2],
) -> Result<[f64; 2], PerfError> {
    let dir = binary.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let (name, v4, v6) = match lookup {
        Lookup::Lpm => ("lpm", dir.join("lpm_default_v4.cfg"), dir.join("lpm_default_v6.cfg")),
        Lookup::Acl(rules) => ("acl", rules.v4.clone(), rules.v6.clone()),
    };
    let mut words = vec!["-s".to_owned(), "INT".to_owned(), (seconds + START_S).to_string()];
    words.push(binary.display().to_string());
    words.extend(["-l", &core.to_string(), "--no-pci", "--in-memory", "-m", "512"].map(str::to_owned));
    words.extend(["--file-prefix", "vinet-perf-l3fwd"].map(str::to_owned));
    words.extend(vdevs.map(|vdev| format!("--vdev={vdev}")));
    words.extend(["--", "-p", "0x3", "-P", "--parse-ptype"].map(str::to_owned));
    words.push(format!("--lookup={name}"));
    words.push(format!("--config=(0,0,{core}),(1,0,{core})"));
    words.push(format!("--rule_ipv4={}", v4.display()));
    words.push(format!("--rule_ipv6={}", v6.display()));
    let quoted: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("timeout {} </dev/null; s=$?; [ $s = 124 ] || exit $s", quoted.join(" "))]);
    let text = run::output("l3fwd", shell, Duration::from_secs(seconds + 20))?;
    if let Lookup::Acl(rules) = lookup
        && !text.contains(&format!("IPv4 ACL entries {}:", rules.drops))
    {
        let why = format!("it does not say that it has {} rules", rules.drops);
        return Err(PerfError::Void { what: "l3fwd ACL".to_owned(), why });
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture;

    #[test]
    fn each_pair_is_a_rule_that_drops_and_routes_come_last() {
        let dir = tempfile::tempdir().expect("a folder");
        let rules = AclRules::write(dir.path(), (0..1000).map(capture::idle_pair)).expect("files");
        assert_eq!(rules.drops, 1000);
        let text = std::fs::read_to_string(&rules.v4).expect("the rules");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1002);
        assert_eq!(lines[0], "@172.16.0.0/32 198.18.0.1/32 0 : 65535 0 : 65535 0x00/0x00");
        assert_eq!(lines[509], "@172.16.0.1/32 198.18.1.1/32 0 : 65535 0 : 65535 0x00/0x00");
        assert!(lines[..1000].iter().all(|line| line.starts_with("@172.16.0.")));
        assert_eq!(lines[1000], "R0.0.0.0/0 198.18.0.0/24 0 : 65535 0 : 65535 0x00/0x00 0");
        assert_eq!(lines[1001], "R0.0.0.0/0 198.18.1.0/24 0 : 65535 0 : 65535 0x00/0x00 1");
        let v6 = std::fs::read_to_string(&rules.v6).expect("the rules");
        assert!(v6.starts_with('R') && v6.lines().count() == 1);
    }
}
