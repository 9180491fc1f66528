//! Two routers joined by the virtio driver: `net_vhost` in one process, `net_virtio_user` in the other, no guest and no kernel between.

use std::path::Path;
use std::time::Duration;

use vinet_tests::host::Host;
use vinet_tests::keys;
use vinet_tests::process::Daemon;
use vinet_tests::router::vinetd;
use vinet_tests::story;
use vinet_tests::traffic::{iperf3, iperf3_server, ping, reaches};

/// One of the two: its number, and the device of its side of the joint.
fn start(dir: &Path, router: &Host, number: u8, joint: &str) -> Daemon {
    let other = 3 - number;
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy");
    let core = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let text = format!(
        "[router]\nname = \"pair{number}\"\nidentity = \"router.key\"\nauthority = \"authority.pub\"\n\
         policies = [\"{}/end-user.toml\"]\nrun_dir = \"{}\"\n\n\
         [eal]\nmemory = \"auto\"\nmemory_mb = 256\n\n[workers]\ncores = [{core}]\nidle = \"backoff\"\n\n\
         [control]\nlisten = [\"10.{number}.0.1:7400\"]\n\n\
         [[port]]\nname = \"edge\"\ndevice = \"net_af_packet0,iface=leg{number}\"\n\
         addresses = [\"10.{number}.0.1/24\", \"2001:db8:{number}::1/64\"]\n\n\
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

#[test]
fn two_routers_joined_by_virtio_forward() {
    let Some(_story) = story::begin("two_routers_joined_by_virtio_forward") else { return };
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
    let mut second = start(dir.path(), &routers[1], 2, &format!("net_virtio_user0,path={}", socket.display()));
    for other in ["10.2.0.2", "2001:db8:2::2"] {
        let other = other.parse().expect("an address");
        let reached = reaches(&hosts[0], other, Duration::from_secs(10));
        assert!(reached, "{other}; the routers' logs:\n{}\n{}", first.log(), second.log());
        assert_eq!(ping(&hosts[0], other, 20, ""), 20);
        let _server = iperf3_server(&hosts[1]);
        assert!(iperf3(&hosts[0], other, "") > 1e6);
    }
    assert!(first.is_running() && second.is_running());
}
