//! Two routers joined by the virtio driver: `net_vhost` in one process, `net_virtio_user` in the other, no guest and no kernel between.
//! (`make test-virtio-pci` runs the same driver over PCI, in an emulated machine.)
//!
//! ```text
//!   host 1  10.1.0.2 ── router 1 ══ virtio ══ router 2 ── host 2  10.2.0.2
//!           2001:db8:1::2                                 2001:db8:2::2
//! ```

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use vinet_tests::host::Host;
use vinet_tests::keys;
use vinet_tests::process::{Daemon, binary, eventually, run};
use vinet_tests::router::vinetd;
use vinet_tests::story;
use vinet_tests::traffic::{iperf3, iperf3_server, ping};

/// How long packets may wait for links, routes and neighbours to settle, over two routers that share one core.
const LEARN_LIMIT: Duration = Duration::from_secs(20);

/// One of the two: its number, and the device of its side of the joint.
fn start(dir: &Path, router: &Host, number: u8, joint: &str) -> Daemon {
    let other = 3 - number;
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy");
    let core = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let text = format!(
        "[router]\nname = \"pair{number}\"\nidentity = \"router.key\"\nauthority = \"authority.pub\"\n\
         policies = [\"{}/end-user.toml\"]\nrun_dir = \"{}\"\n\n\
         [eal]\nmemory = \"auto\"\nmemory_mb = 256\n\n[workers]\ncores = [{core}]\nidle = \"backoff\"\n\n\
         [control]\nreach = \"off\"\nlisten = [\"10.{number}.0.1:7400\", \"[2001:db8:{number}::1]:7400\"]\n\n\
         [[port]]\nname = \"edge\"\ndevice = \"net_af_packet0,iface=leg{number}\"\n\
         addresses = [\"10.{number}.0.1/24\", \"2001:db8:{number}::1/64\"]\n\
         controlled = [\"10.{number}.0.0/24\", \"2001:db8:{number}::/64\"]\n\n\
         [[port]]\nname = \"joint\"\ndevice = \"{joint}\"\naddresses = [\"10.9.0.{number}/24\", \"2001:db8:9::{number}/64\"]\n\n\
         [[route]]\nto = \"10.{other}.0.0/24\"\nvia = \"10.9.0.{other}\"\n\n\
         [[route]]\nto = \"2001:db8:{other}::/64\"\nvia = \"2001:db8:9::{other}\"\n\n\
         [capacity]\ncycles_per_second = 1_000_000_000\nmemory_bytes = 268_435_456\n",
        configs.display(),
        dir.display(),
    );
    let file = dir.join(format!("pair{number}.toml"));
    std::fs::write(&file, text).expect("a file in a temporary folder");
    let mut daemon = Daemon::start(vinetd(router, &file));
    daemon.wait_for(" ready ", Duration::from_secs(30));
    daemon
}

/// Both routers and a host behind each.
struct Pair {
    first: Daemon,
    second: Daemon,
    hosts: [Host; 2],
    _routers: [Host; 2],
    dir: TempDir,
}

impl Pair {
    fn new() -> Pair {
        let dir = tempfile::tempdir().expect("a temporary folder");
        keys::make(dir.path());
        let routers = [Host::new("router 1"), Host::new("router 2")];
        let hosts = [Host::new("host 1"), Host::new("host 2")];
        for (i, (host, router)) in hosts.iter().zip(&routers).enumerate() {
            let number = i + 1;
            host.join("eth0", router, &format!("leg{number}"));
            host.address("eth0", &format!("10.{number}.0.2/24"));
            host.address("eth0", &format!("2001:db8:{number}::2/64"));
            host.ok(&format!("ip route add default via 10.{number}.0.1"));
            host.ok(&format!("ip -6 route add default via 2001:db8:{number}::1"));
        }
        let socket = dir.path().join("joint.sock");
        let mut first = start(dir.path(), &routers[0], 1, &format!("net_vhost0,iface={}", socket.display()));
        // Its routes over the joint go when it sees that nobody is there, and come with the other router.
        first.wait_for("joint: the link is down", LEARN_LIMIT);
        let second = start(dir.path(), &routers[1], 2, &format!("net_virtio_user0,path={}", socket.display()));
        first.wait_for("joint: the link is up", LEARN_LIMIT);
        Pair { first, second, hosts, _routers: routers, dir }
    }

    /// Waits until host 1 reaches that address of host 2, and nothing is lost any more.
    fn learn(&self, to: IpAddr) {
        let reached = eventually(LEARN_LIMIT, || ping(&self.hosts[0], to, 10, "") == 10);
        assert!(reached, "{to}; the routers' logs:\n{}\n{}", self.first.log(), self.second.log());
    }

    fn counters(&self, number: u8) -> Value {
        let mut command = std::process::Command::new(binary("vinetd"));
        command.args(["ctl", "--socket"]).arg(self.dir.path().join(format!("pair{number}.sock"))).arg("counters");
        let answer = run(command, Duration::from_secs(5)).expect();
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("vinetd ctl counters: {e}: {answer}"))
    }

    /// Runs `vinet` at host 2, as the owner of that address, against that router; prints one JSON object.
    fn vinet(&self, owner: IpAddr, router: &str, words: &str) -> Value {
        let mut command = self.hosts[1].command(binary("vinet"));
        command.args(words.split_whitespace()).args(["--json", "--router", router, "--identity"]);
        command.arg(keys::identity(self.dir.path(), &owner.to_string()));
        command.arg("--authority").arg(self.dir.path().join("authority.pub"));
        let printed = run(command, Duration::from_secs(30)).expect();
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("vinet {words}: {e}: {printed}"))
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn two_routers_joined_by_virtio_forward() {
    let Some(_story) = story::begin("two_routers_joined_by_virtio_forward") else { return };
    let mut pair = Pair::new();
    for other in ["10.2.0.2", "2001:db8:2::2"].map(address) {
        pair.learn(other);
        assert_eq!(ping(&pair.hosts[0], other, 20, ""), 20);
        let _server = iperf3_server(&pair.hosts[1]);
        assert!(iperf3(&pair.hosts[0], other, "") > 1e6);
    }
    assert!(pair.first.is_running() && pair.second.is_running());
}

/// The program travels over the joint, through the far router's data path, and ends the traffic before it takes the joint.
#[test]
fn a_program_uploaded_over_virtio_stops_a_sender_at_the_far_router() {
    let Some(_story) = story::begin("a_program_uploaded_over_virtio_stops_a_sender_at_the_far_router") else { return };
    let mut pair = Pair::new();
    pair.hosts[0].address("eth0", "10.1.0.3/24");
    pair.hosts[0].address("eth0", "2001:db8:1::3/64");
    for (victim, attacker, lawful, router) in [
        ("10.2.0.2", "10.1.0.2", "10.1.0.3", "10.1.0.1:7400"),
        ("2001:db8:2::2", "2001:db8:1::2", "2001:db8:1::3", "[2001:db8:1::1]:7400"),
    ] {
        let victim = address(victim);
        let pings = |source: &str| ping(&pair.hosts[0], victim, 10, &format!("-I {source}"));
        pair.learn(victim);
        // The way back to the other source has a neighbour of its own.
        let is_learnt = eventually(LEARN_LIMIT, || pings(lawful) == 10);
        assert!(is_learnt, "{lawful}");
        assert_eq!((pings(attacker), pings(lawful)), (10, 10), "before");

        let before = pair.counters(1)["drops"]["program"].as_u64().expect("a count");
        let receipt = pair.vinet(victim, router, &format!("firewall --block {attacker} --lifetime 10m"));
        assert_eq!((pings(attacker), pings(lawful)), (0, 10), "while it is installed");
        let after = pair.counters(1)["drops"]["program"].as_u64().expect("a count");
        assert_eq!(after - before, 10, "each of the attacker's packets ended at the first router");
        assert_eq!(pair.counters(2)["drops"]["program"].as_u64(), Some(0));

        let instance = receipt["instance"].as_u64().expect("a number");
        pair.vinet(victim, router, &format!("withdraw {instance}"));
        assert_eq!((pings(attacker), pings(lawful)), (10, 10), "after the withdrawal");
    }
    for number in [1, 2] {
        let counters = pair.counters(number);
        assert_eq!(counters["balance"]["difference"].as_i64(), Some(0), "router {number}: {counters:#}");
    }
    assert!(pair.first.is_running() && pair.second.is_running());
}
