//! The testbed of two processes: this router as a child, joined by memif, or by vhost and virtio-user.

use super::dpdk::{self, Environment};
use super::{Bench, Joint, ONE_MACHINE, Options, Testbed, Tester};
use crate::generate::engine::{Outcome, RingFull, Settings, Watch};
use crate::generate::packet::Link;
use crate::generate::plan::Plan;
use crate::run::{PerfError, last_lines};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;
use vinet_fastpath::eal::WorkerThread;
use vinet_fastpath::port::PortHandle;
use vinet_fastpath::port::dpdk::{DpdkHandle, DpdkRx, DpdkTx};
use vinet_fastpath::port::mbuf::MbufPool;

/// How long the child may take until it polls, beyond what its programs need.
const START_TIME_MAX: Duration = Duration::from_secs(20);
/// Programs a second that are installed at the least.
const INSTALLS_PER_S_MIN: u32 = 2_000;
/// How long it may take to end.
const END_TIME_MAX: Duration = Duration::from_secs(10);

const WHAT: &str = "the router under test";

/// A router in a process of its own, and what it prints.
struct Router {
    child: Child,
    /// Its lines, from a thread that reads them.
    lines: mpsc::Receiver<String>,
    dir: TempDir,
}

impl Drop for Router {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Router {
    /// Starts one between these two devices; `dir` has the sockets and gets its log.
    fn spawn(dir: TempDir, options: &Options, devices: &[String; 2]) -> Result<Router, PerfError> {
        let file = |path: &Path, error| PerfError::File { path: path.to_owned(), error };
        let own = std::env::current_exe().map_err(|e| file(Path::new("vinet-perf"), e))?;
        let log = dir.path().join("log");
        let log_file = File::create(&log).map_err(|e| file(&log, e))?;
        let mut command = Command::new(own);
        command.arg("router").args(["--edge", &devices[0], "--uplink", &devices[1]]);
        command.args(["--memory-mib", &options.memory_mib.to_string()]);
        command.args(["--file-prefix", &format!("vinet-perf-router-{}", std::process::id())]);
        command.args(["--programs", &options.router.programs.to_string(), "--kind", &options.router.kind.name()]);
        command.arg("--policy").arg(&options.router.policy);
        if let Some(core) = options.router_core {
            command.args(["--core", &core.to_string()]);
        }
        if !options.spin {
            command.arg("--backoff");
        }
        if options.no_huge {
            command.arg("--no-huge");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(log_file));
        // The interrupt key is for the generator, which then ends the child in good order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child =
            command.spawn().map_err(|e| PerfError::Failed { what: WHAT.to_owned(), words: e.to_string() })?;
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || forward(BufReader::new(stdout).lines(), &sender));
        }
        Ok(Router { child, lines, dir })
    }

    /// Its next JSON line.
    fn line(&self, limit: Duration) -> Result<Value, PerfError> {
        let failed = |why: &str| {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            PerfError::Failed { what: WHAT.to_owned(), words: format!("{}\n({why})", last_lines(&log)) }
        };
        match self.lines.recv_timeout(limit) {
            Ok(line) => serde_json::from_str(&line).map_err(|_| failed(&line)),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(failed("it took too long")),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(failed("it ended")),
        }
    }

    /// Ends it in good order and gives its last counts.
    fn end(mut self) -> Result<Value, PerfError> {
        drop(self.child.stdin.take());
        self.line(END_TIME_MAX)
    }
}

fn forward(lines: Lines<BufReader<ChildStdout>>, to: &mpsc::Sender<String>) {
    for line in lines.map_while(Result::ok).filter(|line| line.starts_with('{')) {
        if to.send(line).is_err() {
            return;
        }
    }
}

struct Joined<F> {
    // Before the router: its rings end while the other side still reads them.
    bench: Bench<DpdkRx, DpdkTx, MbufPool, F>,
    _handles: Vec<DpdkHandle>,
    router: Router,
    _environment: Environment,
}

impl<F: Fn() -> Result<WorkerThread, String> + Sync> Tester for Joined<F> {
    fn trial(
        &mut self,
        plan: &Plan,
        settings: &Settings,
        watch: &Watch,
        tick: &mut dyn FnMut(),
    ) -> Result<Outcome, PerfError> {
        if let Ok(Some(status)) = self.router.child.try_wait() {
            let words = format!("it ended between trials: {status}");
            return Err(PerfError::Failed { what: WHAT.to_owned(), words });
        }
        self.bench.trial(plan, settings, watch, tick)
    }
    fn end(self: Box<Self>) -> Result<Value, PerfError> {
        self.router.end()
    }
}

/// Starts the router and joins it.
pub fn start(options: &Options) -> Result<Testbed, PerfError> {
    let failed = |words: String| PerfError::Failed { what: WHAT.to_owned(), words };
    if options.joint == Joint::Vhost && options.no_huge {
        let words =
            "virtio-user shares its memory as files, which ordinary pages are not: take hugepages or --joint memif";
        return Err(PerfError::Option(words.to_owned()));
    }
    let environment = dpdk::environment(options, false)?;
    let dir = tempfile::tempdir().map_err(|e| failed(e.to_string()))?;
    let socket = |number: usize| dir.path().join(format!("joint{number}")).display().to_string();
    let own = [0, 1].map(|number| match options.joint {
        Joint::Memif => {
            format!("net_memif{number},role=server,id={number},socket-abstract=no,socket={}", socket(number))
        }
        Joint::Vhost => format!("net_vhost{number},iface={}", socket(number)),
    });
    let others = [0, 1].map(|number| match options.joint {
        Joint::Memif => {
            format!("net_memif{number},role=client,id={number},socket-abstract=no,socket={}", socket(number))
        }
        Joint::Vhost => format!("net_virtio_user{number},path={}", socket(number)),
    });
    let ports = dpdk::open(&environment, &own[0], &own[1])?;
    let router = Router::spawn(dir, options, &others)?;
    let limit = START_TIME_MAX + Duration::from_secs((options.router.programs / INSTALLS_PER_S_MIN).into());
    let ready = router.line(limit)?;
    if let Some(why) = ready["programs"]["refused"].as_str() {
        return Err(failed(why.to_owned()));
    }
    let dst: Option<[u8; 6]> = serde_json::from_value(ready["macs"][0].clone()).ok();
    let dst = dst.ok_or_else(|| failed(format!("it said {ready}")))?;
    dpdk::wait_for_links(&ports.handles)?;
    let link = Link { dst, src: ports.handles[0].mac() };
    let bench = dpdk::bench(&environment, (ports.rx, ports.tx), options.core);
    let joint = match options.joint {
        Joint::Memif => "memif",
        Joint::Vhost => "vhost and virtio-user",
    };
    Ok(Testbed {
        tester: Box::new(Joined { bench, _handles: ports.handles, router, _environment: environment }),
        link,
        line_mbps: None,
        ring_full: RingFull::Lose,
        name: format!("this router, a process of its own, over {joint}"),
        notes: vec![ONE_MACHINE.to_owned()],
    })
}
