//! `vinetd` as a daemon: how it starts, refuses to start, and ends; and what strangers at its control port cannot do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use vinet_tests::client::Client;
use vinet_tests::keys;
use vinet_tests::lab::{ATTACKER, Lab, VICTIM};
use vinet_tests::process::{Daemon, binary, eventually, run};
use vinet_tests::router::{Config, Driver, Router, check, vinetd};
use vinet_tests::story;
use vinet_tests::traffic::{ping, reaches};

/// How long the first packet may wait for routes and neighbours to be learnt.
const LEARN_LIMIT: Duration = Duration::from_secs(5);

/// What the daemon changes on a device beneath it.
fn beneath(lab: &Lab, leg: &str) -> [String; 3] {
    lab.router.inside(|| {
        [
            format!("ipv4/conf/{leg}/arp_ignore"),
            format!("ipv6/conf/{leg}/disable_ipv6"),
            format!("ipv6/conf/{leg}/accept_ra"),
        ]
        .map(|key| std::fs::read_to_string(format!("/proc/sys/net/{key}")).unwrap_or_default())
    })
}

#[test]
fn a_signal_ends_it_cleanly_and_it_can_start_again() {
    let Some(_story) = story::begin("a_signal_ends_it_cleanly_and_it_can_start_again") else { return };
    for driver in [Driver::AfPacket, Driver::AfXdp] {
        let lab = Lab::new();
        let before = beneath(&lab, "leg0");
        let config = Config { driver, ..Config::default() };
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM] {
            let mut router = Router::start(&lab, &config);
            assert!(reaches(&lab.lawful, VICTIM.into(), LEARN_LIMIT));
            assert_eq!(router.stop(signal), Some(0), "{signal}; its log:\n{}", router.daemon().log());
            assert_eq!(beneath(&lab, "leg0"), before, "the device beneath is as it was found");
            assert_eq!(ping(&lab.lawful, VICTIM.into(), 1, ""), 0, "and nothing forwards any more");
        }
    }
}

#[test]
fn it_starts_again_after_it_was_killed() {
    let Some(_story) = story::begin("it_starts_again_after_it_was_killed") else { return };
    for driver in [Driver::AfPacket, Driver::AfXdp] {
        let lab = Lab::new();
        let config = Config { driver, ..Config::default() };
        let mut router = Router::start(&lab, &config);
        assert!(reaches(&lab.lawful, VICTIM.into(), LEARN_LIMIT));
        router.stop(Signal::SIGKILL);
        let _router = Router::start(&lab, &config);
        assert!(reaches(&lab.lawful, VICTIM.into(), LEARN_LIMIT), "{driver:?}");
    }
}

#[test]
fn a_second_instance_is_refused_and_the_first_goes_on() {
    let Some(_story) = story::begin("a_second_instance_is_refused_and_the_first_goes_on") else { return };
    let lab = Lab::new();
    let mut router = Router::start(&lab, &Config::default());
    assert!(reaches(&lab.lawful, VICTIM.into(), LEARN_LIMIT));
    let second = run(vinetd(&lab.router, &lab.dir().join("router.toml")), Duration::from_secs(15));
    let said = second.expect_code(2);
    assert!(said.contains("lab"), "it says which router runs: {said}");
    assert!(router.daemon().is_running());
    assert_eq!(ping(&lab.lawful, VICTIM.into(), 10, ""), 10);
}

#[test]
fn an_unusable_configuration_is_refused_in_words() {
    let Some(_story) = story::begin("an_unusable_configuration_is_refused_in_words") else { return };
    let lab = Lab::new();
    let file = lab.dir().join("router.toml");
    keys::make(lab.dir());
    let good = Config::default().to_toml(lab.dir());
    std::fs::write(&file, &good).expect("a file of the laboratory");
    assert!(check(&file).ok());
    for (from, to, words) in [
        ("idle = \"backoff\"", "idel = \"backoff\"", &["router.toml", "idel", "idle"][..]),
        ("idle = \"backoff\"", "idle = \"sometimes\"", &["router.toml", "sometimes", "backoff"]),
        ("cores = [", "cores = [0, 0, ", &["router.toml", "core"]),
        ("mtu = 1500", "mtu = 15", &["router.toml", "mtu"]),
        ("203.0.113.1/24", "203.0.113.1/240", &["router.toml", "203.0.113.1/240"]),
        ("[workers]", "[workers", &["router.toml"]),
    ] {
        assert!(good.contains(from), "the good configuration has {from}");
        std::fs::write(&file, good.replacen(from, to, 1)).expect("a file of the laboratory");
        let said = check(&file).expect_code(2);
        for word in words {
            assert!(said.contains(word), "{to}: the message names {word}: {said}");
        }
    }
    // What only the machine can refuse.
    std::fs::write(&file, good.replacen("iface=leg1", "iface=nosuch", 1)).expect("a file of the laboratory");
    let said = run(vinetd(&lab.router, &file), Duration::from_secs(20)).expect_code(2);
    assert!(said.contains("nosuch"), "{said}");
    std::fs::write(&file, &good).expect("a file of the laboratory");
    lab.router.address("leg1", "198.51.100.1/24");
    let said = run(vinetd(&lab.router, &file), Duration::from_secs(20)).expect_code(2);
    assert!(said.contains("leg1"), "a device with addresses of its own: {said}");
    let said = check(&lab.dir().join("absent.toml")).expect_code(2);
    assert!(said.contains("absent.toml"), "{said}");
}

/// Bytes of a small generator, the same in every run.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        // Xorshift, Marsaglia 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn strangers_at_the_control_port_stop_neither_service_nor_forwarding() {
    let Some(_story) = story::begin("strangers_at_the_control_port_stop_neither_service_nor_forwarding") else {
        return;
    };
    let lab = Lab::new();
    let mut router = Router::start(&lab, &Config::default());
    assert!(reaches(&lab.lawful, VICTIM.into(), LEARN_LIMIT) && reaches(&lab.attacker, VICTIM.into(), LEARN_LIMIT));
    let port: SocketAddr = "198.51.100.1:7400".parse().expect("an address");
    let connect = || lab.attacker.connect(port, Duration::from_secs(2));
    let mut pings = Daemon::start(lab.lawful.command_line(&format!("ping -n -q -i 0.02 -c 500 -W 2 {VICTIM}")));

    // Rubbish: the session ends, whatever the bytes and however they are cut.
    for seed in 1..=40 {
        let Ok(mut stream) = connect() else { continue };
        let bytes = noise(seed, 1 << (seed % 17));
        for piece in bytes.chunks(1 + usize::try_from(seed * 97 % 1500).expect("small")) {
            if stream.write_all(piece).is_err() {
                break;
            }
        }
    }
    // A length that promises more than is ever accepted.
    if let Ok(mut stream) = connect() {
        let _ = stream.write_all(&[0xff; 64]);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "the router hangs up");
    }
    // Silence: more peers than may be half open, each holding its connection.
    let silent: Vec<TcpStream> = (0..200).filter_map(|_| connect().ok()).collect();
    let victim = Client::new(&lab, &lab.victim, "192.0.2.2", "192.0.2.1:7400");
    let instance = victim.install("firewall --block 198.51.100.77 --lifetime 10m");
    // A flood of connections that come and go.
    for _ in 0..1000 {
        let _ = connect();
    }
    assert_eq!(victim.list().len(), 1);
    drop(silent);
    victim.json(&format!("withdraw {instance}"));
    assert!(router.daemon().is_running());
    pings.wait(Duration::from_secs(30));
    assert!(pings.log().contains("500 received"), "no ping was lost meanwhile: {}", pings.log());
    let counters = router.counters();
    assert_eq!(counters.unaccounted(), 0, "{:#}", counters.value());
}

#[test]
fn a_silent_peer_is_hung_up_on() {
    let Some(_story) = story::begin("a_silent_peer_is_hung_up_on") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &Config::default());
    assert!(reaches(&lab.attacker, VICTIM.into(), LEARN_LIMIT));
    let port: SocketAddr = "198.51.100.1:7400".parse().expect("an address");
    let mut stream = lab.attacker.connect(port, Duration::from_secs(2)).expect("the control port accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket takes a time limit");
    // One byte of a handshake, and then nothing: the time limit of a handshake is 5 s by default.
    stream.write_all(&[0]).expect("one byte");
    assert_eq!(stream.read(&mut [0; 1]).expect("an end of file, not a time limit"), 0);
}

#[test]
fn a_client_that_dies_in_the_middle_leaves_nothing() {
    let Some(_story) = story::begin("a_client_that_dies_in_the_middle_leaves_nothing") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config::default());
    assert!(reaches(&lab.victim, "192.0.2.1".parse().expect("an address"), LEARN_LIMIT));
    let victim = Client::new(&lab, &lab.victim, "192.0.2.2", "192.0.2.1:7400");
    assert!(victim.list().is_empty());
    for delay_ms in [1, 3, 5, 8, 12, 20] {
        let mut command = lab.victim.command(binary("vinet"));
        command.args(["firewall", "--block", &ATTACKER.to_string(), "--lifetime", "2s", "--router", "192.0.2.1:7400"]);
        command.arg("--identity").arg(keys::identity(lab.dir(), "192.0.2.2"));
        command.arg("--authority").arg(lab.dir().join("authority.pub"));
        let dying = Daemon::start(command);
        std::thread::sleep(Duration::from_millis(delay_ms));
        dying.signal(Signal::SIGKILL);
    }
    assert!(
        eventually(Duration::from_secs(10), || router.ctl("sessions")["sessions"]
            .as_array()
            .is_some_and(Vec::is_empty)),
        "no session is left: {:#}",
        router.ctl("sessions")
    );
    assert!(eventually(Duration::from_secs(10), || victim.list().is_empty()), "and no program outlives its lifetime");
}
