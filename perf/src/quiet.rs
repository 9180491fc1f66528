//! `vinet-perf quiet`: the system calls that a polling worker makes, and its calls of the allocator. There should be none.
//!
//! The worker's thread is watched before it starts to poll: its system calls by [`syscalls`], its allocations by the
//! allocator of this binary. Two stretches are looked at, each over the packets asked for: with no program, and with
//! programs that match packets and others that do not, while programs come and go. What the thread did while it started
//! proves that both counts count. The kernel's own count of voluntary switches is a third witness.

mod syscalls;

use crate::pairs::Pairs;
use crate::rig::{self, Rig, RigOptions, RigSettings};
use crate::run::PerfError;
use crate::verify::report::{Bar, Report};
use crate::{capture, heap, machine};
use clap::Args;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};
use syscalls::SystemCalls;
use vinet_fastpath::flow_table::{Install, InstallId};
use vinet_fastpath::settings::TableLimits;
use vinet_trusted::addr::Addr;
use vinet_trusted::policy::OverBudget;

/// How it is run.
#[derive(Args)]
pub struct Options {
    /// How many packets each stretch is at least.
    #[arg(long, default_value_t = 10_000_000)]
    packets: u64,
    /// The core of the worker.
    #[arg(long, default_value_t = 1)]
    core: usize,
    #[command(flatten)]
    rig: RigOptions,
    /// Print one JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
}

/// Programs that match no packet.
const SILENT: u32 = 10_000;
/// Programs that match a flow each.
const MATCHING: usize = 64;
/// A worker that does not move a packet for so long is not measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a stretch of polling did.
struct Stretch {
    name: &'static str,
    packets: u64,
    turns: u64,
    system_calls: u64,
    allocations: u64,
    switches: u64,
}

/// Runs both stretches and prints what they did.
pub fn run(options: &Options) -> Result<(), PerfError> {
    let failed = |words: String| PerfError::Failed { what: "vinet".to_owned(), words };
    let pcap = options.rig.capture("quiet")?;
    capture::write(&pcap, 64, capture::FLOWS)?;
    let policy = options.rig.policy()?;

    let calls = SystemCalls::new().map_err(|e| failed(e.to_string()))?;
    let (watch, task) = (calls.watch(), Arc::new(AtomicI32::new(0)));
    let settings = RigSettings {
        name: "vinet-perf-quiet",
        cores: vec![options.core],
        control_core: options.rig.control_core,
        capture: capture::Capture::Standard,
        memory: options.rig.memory(),
        receive: rig::receive_device(&pcap, 1),
        send: rig::send_device(),
        table: TableLimits { programs_max: 1 << 16, cells_max: 1 << 17, ..TableLimits::default() },
    };
    let mut rig = Rig::start(settings, {
        let task = Arc::clone(&task);
        move |_| {
            task.store(own_task(), Ordering::Release);
            heap::watch_this_thread();
            watch.watch_this_thread().map_err(|e| format!("no filter for system calls: {e}"))
        }
    })?;
    let task = task.load(Ordering::Acquire);
    let started = (calls.total(), heap::watched_calls());
    if started.0 == 0 || started.1 == 0 {
        let why = format!(
            "the worker's start made {} system calls and {} allocations, so they are not counted",
            started.0, started.1
        );
        return Err(PerfError::Void { what: "vinet".to_owned(), why });
    }
    wait_for(&rig, 1)?;

    let empty = stretch("no programs", &mut rig, &calls, task, options.packets, &mut |_| Ok(()))?;

    let pairs = |source| Pairs::against(source, &policy).map_err(failed);
    let silent = pairs(Addr::V4(0xac10_0000))?;
    let install = |number: u64, executable| Install {
        id: InstallId(number),
        executable,
        packet_rate: 0,
        over_budget: OverBudget::Forward,
        generate_key: [0; 32],
        monitor: false,
    };
    let mut number = 0;
    let (first, mut churned) = (capture::pair(0).1, Vec::new());
    for owner in 0..SILENT {
        number += 1;
        let executable = silent.of(Addr::V4(0x0b00_0000 + owner)).map_err(failed)?;
        rig.table.install(install(number, executable)).map_err(|e| failed(e.to_string()))?;
    }
    for flow in 0..MATCHING {
        number += 1;
        let (src, dst) = capture::pair(flow * 17);
        let executable = pairs(src)?.of(dst).map_err(failed)?;
        rig.table.install(install(number, executable)).map_err(|e| failed(e.to_string()))?;
    }
    let coming = silent.of(first).map_err(failed)?;
    let busy = stretch("programs, and others that come and go", &mut rig, &calls, task, options.packets, &mut |rig| {
        number += 1;
        rig.table.install(install(number, Arc::clone(&coming))).map_err(|e| failed(e.to_string()))?;
        churned.push(InstallId(number));
        if churned.len() > 8 {
            rig.table.withdraw(churned.remove(0)).map_err(|e| failed(e.to_string()))?;
        }
        rig.table.reclaim();
        Ok(())
    })?;
    let changes = number - u64::from(SILENT) - MATCHING as u64;
    let discarded = rig.counters.snapshot().dropped();
    rig.stop()?;
    if discarded == 0 || changes == 0 {
        let why = format!("{discarded} packets met a program, {changes} programs came while packets were counted");
        return Err(PerfError::Void { what: "vinet".to_owned(), why });
    }
    report(options, started, changes, &[empty, busy])
}

/// Polls over at least so many packets, and says what the worker's thread did meanwhile.
fn stretch(
    name: &'static str,
    rig: &mut Rig,
    calls: &SystemCalls,
    task: i32,
    packets: u64,
    meanwhile: &mut dyn FnMut(&mut Rig) -> Result<(), PerfError>,
) -> Result<Stretch, PerfError> {
    let count = |rig: &Rig| (calls.total(), heap::watched_calls(), voluntary_switches(task), rig.counters.snapshot());
    let before = count(rig);
    let wanted = rig::received(&before.3) + packets;
    let end = Instant::now() + PATIENCE;
    while rig::received(&rig.counters.snapshot()) < wanted {
        if Instant::now() > end {
            let why = format!("it did not move {packets} packets in {} s", PATIENCE.as_secs());
            return Err(PerfError::Void { what: "vinet".to_owned(), why });
        }
        meanwhile(rig)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let after = count(rig);
    let (Some(switched), Some(switches)) = (before.2, after.2) else {
        return Err(PerfError::Void { what: "vinet".to_owned(), why: "the worker's thread is gone".to_owned() });
    };
    Ok(Stretch {
        name,
        packets: rig::received(&after.3) - rig::received(&before.3),
        turns: after.3.turns - before.3.turns,
        system_calls: after.0 - before.0,
        allocations: after.1 - before.1,
        switches: switches - switched,
    })
}

fn wait_for(rig: &Rig, packets: u64) -> Result<(), PerfError> {
    let end = Instant::now() + PATIENCE;
    while rig::received(&rig.counters.snapshot()) < packets {
        if Instant::now() > end {
            return Err(PerfError::Void { what: "vinet".to_owned(), why: "it receives nothing".to_owned() });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

#[allow(unsafe_code)]
fn own_task() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

/// How often the thread gave up its core by itself (proc(5)).
fn voluntary_switches(task: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{task}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
}

fn report(
    options: &Options,
    (calls, allocations): (u64, u64),
    changes: u64,
    stretches: &[Stretch],
) -> Result<(), PerfError> {
    let mut report = Report::new(options.json);
    report.say(&format!("{}; 64 B, one worker.\n", machine::describe()));
    report.object(
        "quiet",
        json!({"machine": machine::describe(), "start_system_calls": calls, "start_allocations": allocations}),
    );
    let heads = ["stretch", "packets", "turns", "system calls", "allocations", "voluntary switches"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for stretch in stretches {
        let figures = [stretch.packets, stretch.turns, stretch.system_calls, stretch.allocations, stretch.switches];
        let cells = figures.map(|figure| crate::verify::report::short(figure as f64));
        rows.push([vec![stretch.name.to_owned()], cells.to_vec()].concat());
        report.object(
            "stretch",
            json!({
                "name": stretch.name, "packets": stretch.packets, "turns": stretch.turns,
                "system_calls": stretch.system_calls, "allocations": stretch.allocations, "switches": stretch.switches,
            }),
        );
    }
    report.table(&rows);
    report.say(&format!(
        "Before it polled the same thread made {calls} system calls and called the allocator {allocations} times; in the \
         second stretch {changes} programs came.\n"
    ));
    let per_million = |count: fn(&Stretch) -> u64| {
        stretches.iter().map(|s| count(s) as f64 * 1e6 / s.packets as f64).fold(0.0, f64::max)
    };
    report.bar("system calls per million packets", per_million(|s| s.system_calls + s.switches), "", Bar::AtMost(0.0));
    report.bar("allocations per million packets", per_million(|s| s.allocations), "", Bar::AtMost(0.0));
    report.bars();
    match report.missed() {
        [] => Ok(()),
        missed => Err(PerfError::Missed(missed.to_vec())),
    }
}
