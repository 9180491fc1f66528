//! The standard benchmark: every router under test in turn, in rounds, and the ratios within each round.

use crate::run::{self, PerfError};
use crate::table::{Spread, markdown};
use crate::{capture, machine, peers};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How the benchmark is run.
#[derive(Args)]
pub struct Options {
    /// Rounds: each runs every router once for every size.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Frame sizes, in bytes on the wire.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 512, 1500])]
    sizes: Vec<usize>,
    /// The core that each router runs on.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The core of everything else.
    #[arg(long, default_value_t = 0)]
    control_core: usize,
    /// Numbers of firewalls that match no packet.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 100_000])]
    firewalls: Vec<u32>,
    /// The policy that the firewalls are proven to keep to.
    #[arg(long, default_value = "configs/policy/end-user.toml")]
    policy: PathBuf,
    /// Where captures and the built l3fwd are kept.
    #[arg(long, default_value = "target/perf")]
    dir: PathBuf,
    /// Print one JSON object with every figure instead of the table.
    #[arg(long)]
    json: bool,
}

/// A router under test.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Router {
    Testpmd,
    L3fwd,
    Vinet {
        firewalls: u32,
    },
    #[cfg(feature = "capsule")]
    Capsule,
}

impl Router {
    fn name(self) -> String {
        match self {
            Router::Testpmd => "testpmd io (the harness)".to_owned(),
            Router::L3fwd => "l3fwd LPM".to_owned(),
            #[cfg(feature = "capsule")]
            Router::Capsule => "vinet over capsule, no programs".to_owned(),
            Router::Vinet { firewalls: 0 } => "vinet, no programs".to_owned(),
            Router::Vinet { firewalls } => format!("vinet, {firewalls} firewalls, none matching"),
        }
    }
}

/// Runs the benchmark and prints its table.
pub fn run(options: &Options) -> Result<(), PerfError> {
    if options.rounds == 0 || options.seconds == 0 || options.sizes.is_empty() {
        return Err(PerfError::Option("--rounds and --seconds are at least 1, --sizes names at least one".to_owned()));
    }
    if let Some(size) = options.sizes.iter().find(|&&s| !(64..=1518).contains(&s)) {
        return Err(PerfError::Option(format!("--sizes: {size} is not a frame size; expected 64 to 1518 bytes")));
    }
    let file = |path: &Path, error| PerfError::File { path: path.to_owned(), error };
    std::fs::create_dir_all(&options.dir).map_err(|e| file(&options.dir, e))?;
    let dir = options.dir.canonicalize().map_err(|e| file(&options.dir, e))?;
    let l3fwd = peers::l3fwd::build(&dir)?;
    if machine::load() > 0.5 {
        eprintln!("note: the load average is {:.2}: other work makes these figures worse and unequal", machine::load());
    }

    let mut routers = vec![Router::Testpmd, Router::L3fwd];
    routers.extend(options.firewalls.iter().map(|&firewalls| Router::Vinet { firewalls }));
    #[cfg(feature = "capsule")]
    routers.push(Router::Capsule);
    // rates[size][router][round], in packets a second.
    let mut rates = vec![vec![Vec::new(); routers.len()]; options.sizes.len()];
    for (of_size, &size) in rates.iter_mut().zip(&options.sizes) {
        let pcap = dir.join(format!("{size}.pcap"));
        capture::write(&pcap, size, capture::FLOWS)?;
        for round in 1..=options.rounds {
            for (of_router, &router) in of_size.iter_mut().zip(&routers) {
                let rate = measure(router, options, &l3fwd, &pcap)?;
                eprintln!(
                    "{size:>4} B  round {round}/{}  {:<40} {:>7.2} Mpps",
                    options.rounds,
                    router.name(),
                    rate / 1e6
                );
                of_router.push(rate);
            }
        }
    }
    if options.json {
        println!("{}", as_json(options, &routers, &rates));
    } else {
        println!("{}", as_table(options, &routers, &rates));
    }
    Ok(())
}

/// One run: packets a second, after checking that they left where they should.
fn measure(router: Router, options: &Options, l3fwd: &Path, pcap: &Path) -> Result<f64, PerfError> {
    let vdevs = ["net_pcap0".to_owned(), "net_null0".to_owned()];
    let vdevs = [format!("{},rx_pcap={},infinite_rx=1", vdevs[0], pcap.display()), format!("{},no-rx=1", vdevs[1])];
    let sent = match router {
        Router::Testpmd => {
            return peers::testpmd::rate(options.core, options.control_core, options.seconds, vdevs);
        }
        Router::L3fwd => peers::l3fwd::rates(l3fwd, options.core, options.seconds, vdevs)?,
        Router::Vinet { firewalls } => vinet(options, router, firewalls, &vdevs)?,
        #[cfg(feature = "capsule")]
        Router::Capsule => vinet(options, router, 0, &vdevs)?,
    };
    let total = sent[0] + sent[1];
    if (sent[0] - sent[1]).abs() > total * 0.01 {
        let why =
            format!("half of the flows leave by each port, but it sent {:.0} and {:.0} a second", sent[0], sent[1]);
        return Err(PerfError::Void { what: router.name(), why });
    }
    Ok(total)
}

fn vinet(options: &Options, router: Router, firewalls: u32, vdevs: &[String; 2]) -> Result<[f64; 2], PerfError> {
    let what = router.name();
    let own = std::env::current_exe().map_err(|error| PerfError::File { path: "vinet-perf".into(), error })?;
    let mut command = Command::new(own);
    command.arg("dut");
    #[cfg(feature = "capsule")]
    if router == Router::Capsule {
        command.args(["--backend", "capsule"]);
    }
    for (flag, value) in [
        ("--core", options.core.to_string()),
        ("--control-core", options.control_core.to_string()),
        ("--seconds", options.seconds.to_string()),
        ("--firewalls", firewalls.to_string()),
        ("--policy", options.policy.display().to_string()),
        ("--receive", vdevs[0].clone()),
        ("--send", vdevs[1].clone()),
    ] {
        command.args([flag, &value]);
    }
    let text = run::output(&what, command, Duration::from_secs(options.seconds + 60))?;
    let failed = || PerfError::Failed { what: what.clone(), words: run::last_lines(&text) };
    let line = text.lines().find(|line| line.starts_with('{')).ok_or_else(failed)?;
    let figures: serde_json::Value = serde_json::from_str(line).map_err(|_| failed())?;
    if figures["dropped"] != 0 || figures["programs"] != firewalls {
        return Err(PerfError::Void { what, why: format!("it dropped packets or lacks programs: {figures}") });
    }
    match (figures["sent_pps"][0].as_f64(), figures["sent_pps"][1].as_f64()) {
        (Some(a), Some(b)) => Ok([a, b]),
        _ => Err(failed()),
    }
}

fn as_table(options: &Options, routers: &[Router], rates: &[Vec<Vec<f64>>]) -> String {
    let mut text = format!(
        "{}; one core, {} flows, {} rounds of {} s; medians [least … most]\n\n",
        machine::describe(),
        capture::FLOWS,
        options.rounds,
        options.seconds
    );
    for (of_size, size) in rates.iter().zip(&options.sizes) {
        let heads = [&format!("{size} B"), "Mpps", "ratio to l3fwd", "net cost, ns"].map(str::to_owned);
        let mut rows = vec![heads.to_vec()];
        for (of_router, &router) in of_size.iter().zip(routers) {
            let mpps = Spread::of(of_router.iter().map(|r| r / 1e6));
            let ratio = Spread::of(of_router.iter().zip(&of_size[1]).map(|(a, b)| a / b));
            // The harness itself costs 1/testpmd a packet: what is left is the router's own.
            let net = Spread::of(of_router.iter().zip(&of_size[0]).map(|(a, b)| 1e9 / a - 1e9 / b));
            rows.push(vec![
                router.name(),
                format!("{:.1} [{:.1} … {:.1}]", mpps.median, mpps.min, mpps.max),
                format!("{:.2} [{:.2} … {:.2}]", ratio.median, ratio.min, ratio.max),
                format!("{:.1} [{:.1} … {:.1}]", net.median, net.min, net.max),
            ]);
        }
        text += &markdown(&rows);
        text.push('\n');
    }
    text
}

fn as_json(options: &Options, routers: &[Router], rates: &[Vec<Vec<f64>>]) -> serde_json::Value {
    let sizes = rates.iter().zip(&options.sizes).map(|(of_size, size)| {
        let of_routers =
            of_size.iter().zip(routers).map(|(r, router)| serde_json::json!({"router": router.name(), "pps": r}));
        serde_json::json!({"frame_bytes": size, "routers": of_routers.collect::<Vec<_>>()})
    });
    serde_json::json!({
        "machine": machine::describe(),
        "flows": capture::FLOWS,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "sizes": sizes.collect::<Vec<_>>(),
    })
}
