//! The standard benchmark: every router under test in turn, in rounds, the ratios within each round, and the bars.

mod bars;
mod hugepages;

use crate::capture::{self, Capture};
use crate::peers::l3fwd::{AclRules, Lookup};
use crate::progress::Interrupt;
use crate::run::{self, PerfError};
use crate::table::{Spread, markdown};
use crate::{machine, peers};
use bars::Figure;
use clap::{Args, ValueEnum};
use hugepages::Hugepages;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Rules of l3fwd's access control list, and the firewalls that are held against them.
const ACL_RULES: u32 = 10_000;
/// Frames of the scenarios that have one size, in bytes on the wire.
const SMALL_FRAME_BYTES: usize = 64;
/// What a start of this router takes in seconds at the most; and so many firewalls more take one more.
const START_S: u64 = 60;
const FIREWALLS_PER_S: u64 = 10_000;

/// How the benchmark is run.
#[derive(Args)]
pub struct Options {
    /// What is measured.
    #[arg(long = "scenario", value_delimiter = ',', value_enum, default_values_t = Scenario::value_variants().to_vec())]
    scenarios: Vec<Scenario>,
    /// Rounds: each runs every router once for every size.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Frame sizes of the scenario lpm, in bytes on the wire.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 512, 1500])]
    sizes: Vec<usize>,
    /// The core that each router runs on.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The core of everything else.
    #[arg(long, default_value_t = 0)]
    control_core: usize,
    /// Numbers of firewalls that match no packet, of the scenario lpm.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 100_000])]
    firewalls: Vec<u32>,
    /// Flows, and firewalls, of the scenario random: a multiple of four.
    #[arg(long, default_value_t = 1_000_000)]
    flows: usize,
    /// The policy that the firewalls are proven to keep to.
    #[arg(long, default_value = "configs/policy/end-user.toml")]
    policy: PathBuf,
    /// Where captures and the built l3fwd are kept.
    #[arg(long, default_value = "target/perf")]
    dir: PathBuf,
    /// Print one JSON object with every figure instead of the tables.
    #[arg(long)]
    json: bool,
}

/// Which traffic and programs, and which peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// 2,048 flows, frames of several sizes, no programs and many that match nothing, beside l3fwd's longest-prefix match.
    Lpm,
    /// 2,048 flows, 64 B, 10,000 programs that match nothing, beside l3fwd's access control list with 10,000 rules.
    Acl,
    /// A million flows and as many programs by chance, 64 B, half of the packets matching: the net cost.
    Random,
}

/// A router under test.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Router {
    Testpmd,
    L3fwdLpm,
    L3fwdAcl,
    Vinet {
        firewalls: u32,
    },
    /// A firewall for each flow, half of which match.
    VinetMatching {
        firewalls: u32,
    },
    #[cfg(feature = "capsule")]
    Capsule,
}

impl Router {
    fn name(self) -> String {
        match self {
            Router::Testpmd => "testpmd io (the harness)".to_owned(),
            Router::L3fwdLpm => "l3fwd LPM".to_owned(),
            Router::L3fwdAcl => format!("l3fwd ACL, {ACL_RULES} rules, none matching"),
            #[cfg(feature = "capsule")]
            Router::Capsule => "vinet over capsule, no programs".to_owned(),
            Router::Vinet { firewalls: 0 } => "vinet, no programs".to_owned(),
            Router::Vinet { firewalls } => format!("vinet, {firewalls} firewalls, none matching"),
            Router::VinetMatching { firewalls } => format!("vinet, {firewalls} firewalls, half matching"),
        }
    }
    /// The programs of this router; none for a peer.
    fn programs(self) -> Option<u32> {
        match self {
            Router::Vinet { firewalls } | Router::VinetMatching { firewalls } => Some(firewalls),
            _ => None,
        }
    }
}

/// One table: routers under the same traffic. The first is testpmd.
struct Case {
    scenario: Scenario,
    frame_bytes: usize,
    capture: Capture,
    /// The second is the peer that the others' rates are divided by, unless a cost is what counts.
    routers: Vec<Router>,
}

/// What a case gave.
struct Measured {
    case: Case,
    /// Packets a second, for each router and round.
    rates: Vec<Vec<f64>>,
}

/// Runs the benchmark, prints its tables, and holds the figures against their bars.
pub fn run(options: &Options) -> Result<(), PerfError> {
    check(options)?;
    let file = |path: &Path, error| PerfError::File { path: path.to_owned(), error };
    std::fs::create_dir_all(&options.dir).map_err(|e| file(&options.dir, e))?;
    let dir = options.dir.canonicalize().map_err(|e| file(&options.dir, e))?;
    let bench = Bench {
        options,
        interrupt: Interrupt::listen()?,
        l3fwd: peers::l3fwd::build(&dir)?,
        rules: AclRules::write(&dir, (0..ACL_RULES).map(capture::idle_pair))?,
    };
    if machine::load() > 0.5 {
        eprintln!("note: the load average is {:.2}: other work makes these figures worse and unequal", machine::load());
    }

    let mut measured = Vec::new();
    for case in cases(options) {
        let pcap = match case.capture {
            Capture::Standard => {
                let pcap = dir.join(format!("{}.pcap", case.frame_bytes));
                capture::write(&pcap, case.frame_bytes, capture::FLOWS)?;
                pcap
            }
            Capture::Random { flows } => {
                let pcap = dir.join("random.pcap");
                capture::random::write(&pcap, case.frame_bytes, &capture::random::flows(flows))?;
                pcap
            }
        };
        let _pages = Hugepages::reserve(case.capture.memory_mib())?;
        measured.push(bench.measure_all(case, &pcap)?);
    }

    let figures: Vec<Figure> = measured.iter().flat_map(Measured::figures).collect();
    let held = bars::held(&figures);
    if options.json {
        println!("{}", as_json(options, &measured, &held));
    } else {
        println!("{}", as_tables(options, &measured, &held));
    }
    let missed: Vec<String> = held.iter().filter(|held| !held.is_met()).map(bars::Held::missed).collect();
    if missed.is_empty() { Ok(()) } else { Err(PerfError::Missed(missed)) }
}

fn check(options: &Options) -> Result<(), PerfError> {
    let none = options.sizes.is_empty() || options.scenarios.is_empty();
    if options.rounds == 0 || options.seconds == 0 || none {
        let words = "--rounds and --seconds are at least 1, --sizes and --scenario name at least one";
        return Err(PerfError::Option(words.to_owned()));
    }
    if let Some(size) = options.sizes.iter().find(|&&s| !(64..=1518).contains(&s)) {
        return Err(PerfError::Option(format!("--sizes: {size} is not a frame size; expected 64 to 1518 bytes")));
    }
    let programs_max = vinet_fastpath::settings::TableLimits::default().programs_max as usize;
    let flows_max = programs_max.min(capture::random::FLOWS_MAX);
    if options.flows == 0 || !options.flows.is_multiple_of(4) || options.flows > flows_max {
        let words = format!("--flows: {} is not a multiple of four from 4 to {flows_max}", options.flows);
        return Err(PerfError::Option(words));
    }
    Ok(())
}

/// What is measured, in order.
fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    for &scenario in &options.scenarios {
        match scenario {
            Scenario::Lpm => cases.extend(options.sizes.iter().map(|&frame_bytes| {
                let mut routers = vec![Router::Testpmd, Router::L3fwdLpm];
                routers.extend(options.firewalls.iter().map(|&firewalls| Router::Vinet { firewalls }));
                #[cfg(feature = "capsule")]
                routers.push(Router::Capsule);
                Case { scenario, frame_bytes, capture: Capture::Standard, routers }
            })),
            Scenario::Acl => {
                let routers = vec![Router::Testpmd, Router::L3fwdAcl, Router::Vinet { firewalls: ACL_RULES }];
                cases.push(Case { scenario, frame_bytes: SMALL_FRAME_BYTES, capture: Capture::Standard, routers });
            }
            Scenario::Random => {
                let routers = vec![Router::Testpmd, Router::VinetMatching { firewalls: options.flows as u32 }];
                let capture = Capture::Random { flows: options.flows };
                cases.push(Case { scenario, frame_bytes: SMALL_FRAME_BYTES, capture, routers });
            }
        }
    }
    cases
}

/// The options with what was built for them.
struct Bench<'a> {
    options: &'a Options,
    interrupt: Interrupt,
    l3fwd: PathBuf,
    rules: AclRules,
}

impl Bench<'_> {
    /// All routers of a case, in rounds.
    fn measure_all(&self, case: Case, pcap: &Path) -> Result<Measured, PerfError> {
        let mut rates = vec![Vec::new(); case.routers.len()];
        for round in 1..=self.options.rounds {
            for (of_router, &router) in rates.iter_mut().zip(&case.routers) {
                let rate = self.measure(router, case.capture, pcap);
                // The key ends the router under test as well, which is no failure of it.
                if self.interrupt.is_wanted() {
                    return Err(PerfError::Interrupted("the lines above".to_owned()));
                }
                let rate = rate?;
                let (rounds, name) = (self.options.rounds, router.name());
                eprintln!("{:>4} B  round {round}/{rounds}  {name:<42} {:>7.2} Mpps", case.frame_bytes, rate / 1e6);
                of_router.push(rate);
            }
        }
        Ok(Measured { case, rates })
    }

    /// One run: packets a second, after checking that they ended where they should.
    fn measure(&self, router: Router, capture: Capture, pcap: &Path) -> Result<f64, PerfError> {
        let Options { core, control_core, seconds, .. } = *self.options;
        let vdevs = [crate::rig::receive_device(pcap, 1), crate::rig::send_device()];
        let lookup = match router {
            Router::Testpmd => return peers::testpmd::rate(core, control_core, seconds, capture, vdevs),
            Router::L3fwdLpm => Lookup::Lpm,
            Router::L3fwdAcl => Lookup::Acl(&self.rules),
            Router::Vinet { .. } | Router::VinetMatching { .. } => return self.vinet(router, &vdevs),
            #[cfg(feature = "capsule")]
            Router::Capsule => return self.vinet(router, &vdevs),
        };
        let sent = peers::l3fwd::rates(&self.l3fwd, core, seconds, lookup, vdevs)?;
        halves(&sent).map_err(|why| PerfError::Void { what: router.name(), why })?;
        Ok(sent[0] + sent[1])
    }

    fn vinet(&self, router: Router, vdevs: &[String; 2]) -> Result<f64, PerfError> {
        let (what, options) = (router.name(), self.options);
        let own = std::env::current_exe().map_err(|error| PerfError::File { path: "vinet-perf".into(), error })?;
        let mut command = Command::new(own);
        command.arg("dut");
        #[cfg(feature = "capsule")]
        if router == Router::Capsule {
            command.args(["--backend", "capsule"]);
        }
        let firewalls = router.programs().unwrap_or(0);
        let flag = if matches!(router, Router::VinetMatching { .. }) { "--random-flows" } else { "--firewalls" };
        for (flag, value) in [
            ("--core", options.core.to_string()),
            ("--control-core", options.control_core.to_string()),
            ("--seconds", options.seconds.to_string()),
            (flag, firewalls.to_string()),
            ("--policy", options.policy.display().to_string()),
            ("--receive", vdevs[0].clone()),
            ("--send", vdevs[1].clone()),
        ] {
            command.args([flag, &value]);
        }
        let limit_s = options.seconds + START_S + u64::from(firewalls) / FIREWALLS_PER_S;
        let text = run::output(&what, command, Duration::from_secs(limit_s))?;
        let failed = || PerfError::Failed { what: what.clone(), words: run::last_lines(&text) };
        let line = text.lines().find(|line| line.starts_with('{')).ok_or_else(failed)?;
        let figures: Figures = serde_json::from_str(line).map_err(|_| failed())?;
        if firewalls >= ACL_RULES {
            eprintln!("        {firewalls} firewalls were checked and installed within {:.1} s", figures.setup_s);
        }
        figures.is_sound(router).map_err(|why| PerfError::Void { what, why: format!("{why}: {line}") })?;
        Ok(figures.received_pps)
    }
}

/// What this router under test prints.
#[derive(serde::Deserialize)]
struct Figures {
    sent_pps: [f64; 2],
    received: u64,
    received_pps: f64,
    dropped: u64,
    discarded: u64,
    programs: u32,
    setup_s: f64,
}

/// By how much counts may differ that are not taken at the same moment.
const TOLERANCE: f64 = 0.01;

impl Figures {
    /// Whether all packets ended where they should; or where they did not.
    fn is_sound(&self, router: Router) -> Result<(), &'static str> {
        if self.programs != router.programs().unwrap_or(0) {
            return Err("it has another number of programs");
        }
        if self.dropped != self.discarded {
            return Err("it dropped packets that no program discarded");
        }
        let share = if matches!(router, Router::VinetMatching { .. }) { 0.5 } else { 0.0 };
        let discarded = self.discarded as f64 / (self.received as f64).max(1.0);
        if (discarded - share).abs() > TOLERANCE * share {
            return Err("its programs discarded another share of the packets than match");
        }
        let sent = self.sent_pps[0] + self.sent_pps[1];
        if (sent - self.received_pps * (1.0 - share)).abs() > self.received_pps * TOLERANCE {
            return Err("it did not send what it received and did not discard");
        }
        halves(&self.sent_pps).map_err(|_| "half of what is sent leaves by each port, but it did not")
    }
}

/// Whether each port sends half.
fn halves(sent: &[f64; 2]) -> Result<(), String> {
    let total = sent[0] + sent[1];
    if total > 0.0 && (sent[0] - sent[1]).abs() <= total * TOLERANCE {
        return Ok(());
    }
    Err(format!("half of the flows leave by each port, but it sent {:.0} and {:.0} a second", sent[0], sent[1]))
}

impl Measured {
    /// The ratios of a router's rates to the peer's.
    fn ratio(&self, router: usize) -> Option<Spread> {
        let peer = self.rates.get(1).filter(|_| self.case.scenario != Scenario::Random)?;
        Some(Spread::of(self.rates[router].iter().zip(peer).map(|(a, b)| a / b)))
    }

    /// What a packet costs a router beyond the harness, which costs 1/testpmd: what is left is the router's own.
    fn net_cost_ns(&self, router: usize) -> Spread {
        Spread::of(self.rates[router].iter().zip(&self.rates[0]).map(|(a, b)| 1e9 / a - 1e9 / b))
    }

    /// Those of this router.
    fn figures(&self) -> Vec<Figure> {
        let Case { scenario, frame_bytes, routers, .. } = &self.case;
        let figure = |(number, router): (usize, &Router)| {
            let spread = self.ratio(number).unwrap_or_else(|| self.net_cost_ns(number));
            Some(Figure { scenario: *scenario, frame_bytes: *frame_bytes, programs: router.programs()?, spread })
        };
        routers.iter().enumerate().filter_map(figure).collect()
    }

    fn head(&self) -> String {
        match self.case.capture {
            Capture::Standard => format!("{} B", self.case.frame_bytes),
            Capture::Random { flows } => format!("{} B, {flows} random flows", self.case.frame_bytes),
        }
    }

    fn as_table(&self) -> String {
        let ratio = match self.case.scenario {
            Scenario::Lpm => Some("ratio to l3fwd"),
            Scenario::Acl => Some("ratio to l3fwd ACL"),
            Scenario::Random => None,
        };
        let mut heads = vec![self.head(), "Mpps".to_owned()];
        heads.extend(ratio.map(str::to_owned));
        heads.push("net cost, ns".to_owned());
        let mut rows = vec![heads];
        for (number, (of_router, router)) in self.rates.iter().zip(&self.case.routers).enumerate() {
            let mpps = Spread::of(of_router.iter().map(|r| r / 1e6));
            let mut row = vec![router.name(), format!("{:.1} [{:.1} … {:.1}]", mpps.median, mpps.min, mpps.max)];
            row.extend(self.ratio(number).map(|r| format!("{:.2} [{:.2} … {:.2}]", r.median, r.min, r.max)));
            let net = self.net_cost_ns(number);
            row.push(format!("{:.1} [{:.1} … {:.1}]", net.median, net.min, net.max));
            rows.push(row);
        }
        markdown(&rows)
    }

    fn as_json(&self) -> serde_json::Value {
        let of_routers = self.rates.iter().zip(&self.case.routers);
        let of_routers = of_routers.map(|(pps, router)| serde_json::json!({"router": router.name(), "pps": pps}));
        let scenario = self.case.scenario.to_possible_value();
        serde_json::json!({
            "scenario": scenario.as_ref().map(clap::builder::PossibleValue::get_name),
            "frame_bytes": self.case.frame_bytes,
            "flows": match self.case.capture {
                Capture::Standard => capture::FLOWS,
                Capture::Random { flows } => flows,
            },
            "routers": of_routers.collect::<Vec<_>>(),
        })
    }
}

fn as_tables(options: &Options, measured: &[Measured], held: &[bars::Held]) -> String {
    let mut text = format!(
        "{}; one core, {} flows unless told otherwise, {} rounds of {} s; medians [least … most]\n\n",
        machine::describe(),
        capture::FLOWS,
        options.rounds,
        options.seconds
    );
    for measured in measured {
        text += &measured.as_table();
        text.push('\n');
    }
    if !held.is_empty() {
        text += &bars::as_table(held);
    }
    text
}

fn as_json(options: &Options, measured: &[Measured], held: &[bars::Held]) -> serde_json::Value {
    serde_json::json!({
        "machine": machine::describe(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "cases": measured.iter().map(Measured::as_json).collect::<Vec<_>>(),
        "bars": held.iter().map(bars::Held::as_json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATCHING: Router = Router::VinetMatching { firewalls: 8 };

    fn figures() -> Figures {
        Figures {
            sent_pps: [2.5e6, 2.5e6],
            received: 10_000_000,
            received_pps: 1e7,
            dropped: 5_000_000,
            discarded: 5_000_000,
            programs: 8,
            setup_s: 0.1,
        }
    }

    #[test]
    fn a_run_is_void_where_packets_end_elsewhere() {
        let told = |figures: Figures| figures.is_sound(MATCHING).expect_err("it is void");
        assert_eq!(figures().is_sound(MATCHING), Ok(()));
        assert!(told(Figures { programs: 7, ..figures() }).contains("number of programs"));
        assert!(told(Figures { dropped: 5_000_001, ..figures() }).contains("no program discarded"));
        assert!(told(Figures { dropped: 5_100_000, discarded: 5_100_000, ..figures() }).contains("share"));
        assert!(told(Figures { sent_pps: [2.4e6, 2.4e6], ..figures() }).contains("did not send"));
        assert!(told(Figures { sent_pps: [2.6e6, 2.4e6], ..figures() }).contains("each port"));
    }

    #[test]
    fn a_run_without_matches_is_void_where_anything_is_dropped() {
        let none = Router::Vinet { firewalls: 8 };
        let all = Figures { sent_pps: [5e6, 5e6], dropped: 0, discarded: 0, ..figures() };
        assert_eq!(all.is_sound(none), Ok(()));
        assert!(Figures { dropped: 1, discarded: 1, ..all }.is_sound(none).is_err());
    }

    #[test]
    fn figures_are_ratios_within_a_round_or_costs_beyond_the_harness() {
        let measured = |scenario, routers: Vec<Router>, rates| Measured {
            case: Case { scenario, frame_bytes: 64, capture: Capture::Standard, routers },
            rates,
        };
        let vinet = Router::Vinet { firewalls: 10_000 };
        let rates = vec![vec![1e8, 5e7], vec![5e7, 2e7], vec![6e7, 1e7]];
        let acl = measured(Scenario::Acl, vec![Router::Testpmd, Router::L3fwdAcl, vinet], rates);
        let [figure] = acl.figures()[..] else { panic!("one of this router") };
        assert_eq!((figure.programs, figure.spread.min, figure.spread.max), (10_000, 0.5, 1.2));

        let random = measured(Scenario::Random, vec![Router::Testpmd, MATCHING], vec![vec![5e7], vec![2e7]]);
        let [figure] = random.figures()[..] else { panic!("one of this router") };
        assert!((figure.spread.median - 30.0).abs() < 1e-9);
        assert!(random.ratio(1).is_none());
    }
}
