//! The processor: its cores and who shares them, its clock, its speed.

use super::machine::Machine;
use super::{Report, to_do, to_type};
use crate::config::{Config, Idle, core_list};

const CPU: &str = "/sys/devices/system/cpu";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";

/// What Debian's DPDK is compiled for (`-march=corei7`), as far as virtual processors leave it out.
const FLAGS_NEEDED: [&str; 3] = ["ssse3", "sse4_2", "popcnt"];

/// Whether DPDK's code runs on the processor.
pub(super) fn processor(machine: &Machine, report: &mut Report) {
    let flags = machine.cpu_flags();
    if flags.is_empty() || !cfg!(target_arch = "x86_64") {
        return;
    }
    let missing: Vec<&str> =
        FLAGS_NEEDED.into_iter().filter(|wanted| !flags.iter().any(|flag| flag == wanted)).collect();
    if missing.is_empty() {
        return report.ok("processor", "", "has the instructions that DPDK is compiled for");
    }
    report.fail(
        "processor",
        "",
        format!("lacks {}, which DPDK is compiled for", missing.join(", ")),
        to_do("in a virtual machine, give it the host's processor (qemu: -cpu host, or -cpu max when emulating)"),
    );
}

/// Whether time is cheap to read. Without a constant counter a worker asks the kernel, once per burst.
pub(super) fn clock_source(machine: &Machine, report: &mut Report) {
    let Some(current) = machine.text(format!("{CLOCK}/current_clocksource")) else { return };
    let flags = machine.cpu_flags();
    let constant = ["constant_tsc", "nonstop_tsc"].iter().all(|wanted| flags.iter().any(|flag| flag == wanted));
    let available = machine.text(format!("{CLOCK}/available_clocksource")).unwrap_or_default();
    let found = format!("{current}, and the counter is {}", if constant { "constant" } else { "not constant" });
    if current == "tsc" && constant {
        report.ok("clock source", "", found);
    } else if available.split_whitespace().any(|source| source == "tsc") && constant {
        report.warn("clock source", "", found, to_type(format!("echo tsc > {CLOCK}/current_clocksource")));
    } else {
        let words = "nothing is wrong, but reading time costs more; in a virtual machine, give it the host's processor \
                     with an invariant counter (qemu: -cpu host,+invtsc)";
        report.warn("clock source", "", found, to_do(words));
    }
}

/// Whether the configured cores are there, and left to the router.
pub(super) fn placement(machine: &Machine, config: &Config, report: &mut Report) {
    let list = |file: &str| core_list(&machine.text(format!("{CPU}/{file}")).unwrap_or_default());
    let (online, isolated, tickless) = (list("online"), list("isolated"), list("nohz_full"));
    let workers = &config.workers.cores;
    for core in workers {
        let subject = format!("{core}");
        if !online.contains(core) {
            report.fail(
                "core",
                &subject,
                "is not there or off line",
                to_do(format!("name others in [workers] cores; on line are {}", ranges(&online))),
            );
            continue;
        }
        isolation(*core, &isolated, &tickless, config.workers.idle, report);
        sharing(machine, *core, config, report);
        governor(machine, *core, report);
    }
    let free: Vec<usize> = online.iter().copied().filter(|core| !workers.contains(core)).collect();
    match config.control.core {
        Some(core) if !online.contains(&core) => report.fail(
            "control core",
            "",
            format!("core {core} is not there or off line"),
            to_do(format!("name another in [control] core; free are {}", ranges(&free))),
        ),
        Some(core) if isolated.contains(&core) => report.warn(
            "control core",
            "",
            format!(
                "core {core} is isolated: the helper threads of proof checks get no time on the other cores either"
            ),
            to_do(format!("isolate only the workers' cores, {}", ranges(workers))),
        ),
        Some(core) => report.ok("control core", "", format!("core {core}, which no worker polls on")),
        None if free.is_empty() => report.warn(
            "control core",
            "",
            "every core polls for a worker, so control shares one with it",
            to_do("take a core out of [workers] cores"),
        ),
        None => report.ok("control core", "", format!("the kernel chooses among {}", ranges(&free))),
    }
}

fn isolation(core: usize, isolated: &[usize], tickless: &[usize], idle: Idle, report: &mut Report) {
    let subject = format!("{core}");
    let found = match (isolated.contains(&core), tickless.contains(&core)) {
        (true, true) => return report.ok("core", &subject, "isolated, without the timer tick"),
        (true, false) => "isolated, but with the timer tick",
        (false, _) => "not isolated: the kernel runs other threads on it",
    };
    match idle {
        Idle::Backoff => report.ok("core", &subject, format!("{found}; idle = \"backoff\" is meant for that")),
        Idle::Spin => report.warn(
            "core",
            &subject,
            found,
            to_do(format!(
                "add isolcpus={core} nohz_full={core} rcu_nocbs={core} (all workers' cores, with commas) to \
                 GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub, and start the machine anew"
            )),
        ),
    }
}

/// Whether another busy thread of the router runs on the same physical core.
fn sharing(machine: &Machine, core: usize, config: &Config, report: &mut Report) {
    let Some(text) = machine.text(format!("{CPU}/cpu{core}/topology/thread_siblings_list")) else { return };
    let busy = config.workers.cores.iter().chain(config.control.core.iter());
    let siblings: Vec<usize> = core_list(&text)
        .into_iter()
        .filter(|sibling| *sibling != core && busy.clone().any(|other| other == sibling))
        .collect();
    if siblings.is_empty() {
        return;
    }
    report.warn(
        "core",
        &format!("{core}"),
        format!(
            "is one physical core with {}, which the router uses too: both get about half of it",
            ranges(&siblings)
        ),
        to_do("name cores that are no siblings (lscpu -e shows who is)"),
    );
}

fn governor(machine: &Machine, core: usize, report: &mut Report) {
    let file = format!("{CPU}/cpu{core}/cpufreq/scaling_governor");
    match machine.text(&file) {
        Some(governor) if governor != "performance" => report.warn(
            "core",
            &format!("{core}"),
            format!("its frequency is governed by `{governor}`"),
            to_type(format!("echo performance > {file}")),
        ),
        _ => {}
    }
}

/// The memory node of a core; `None` on a machine with one.
pub(super) fn node_of(machine: &Machine, core: usize) -> Option<u32> {
    let names = machine.names(format!("{CPU}/cpu{core}"));
    names.iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
}

/// Cores as a person writes them: `core 1`, `cores 0-3, 7`.
pub(super) fn ranges(cores: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => parts.push((core, core)),
        }
    }
    let words: Vec<String> = parts
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    match cores.len() {
        0 => "no core".to_owned(),
        1 => format!("core {}", words[0]),
        _ => format!("cores {}", words.join(", ")),
    }
}
