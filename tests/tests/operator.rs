//! What the operator of a running router sees and can do, and who cannot.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vinet_client::pcap::Capture;
use vinet_tests::client::Client;
use vinet_tests::lab::{ATTACKER, Lab, VICTIM};
use vinet_tests::process::{Finished, binary, eventually, run};
use vinet_tests::router::{Config, Router};
use vinet_tests::story;
use vinet_tests::traffic::{reaches, send_datagrams};

const LIMIT: Duration = Duration::from_secs(20);

/// Where the router's metrics are.
const METRICS: &str = "192.0.2.1:9477";

fn config() -> Config {
    Config { more: format!("[metrics]\nlisten = \"{METRICS}\"\n"), ..Config::default() }
}

/// `vinet` with the router's admin socket.
fn vinet(lab: &Lab, words: &str) -> Finished {
    let mut command = Command::new(binary("vinet"));
    command.args(words.split_whitespace()).arg("--socket").arg(lab.dir().join("lab.sock"));
    run(command, LIMIT)
}

/// One page of the metrics, fetched in the router's namespace.
fn metrics(lab: &Lab) -> String {
    let mut stream = lab.router.connect(METRICS.parse().expect("an address"), LIMIT).expect("the metrics' port");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: lab\r\n\r\n").expect("a request is sent");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("a page is read");
    page
}

#[test]
fn an_operator_sees_what_a_program_does() {
    let Some(_story) = story::begin("an_operator_sees_what_a_program_does") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &config());
    assert!(reaches(&lab.attacker, VICTIM.into(), LIMIT));
    let why = format!("why {ATTACKER} {VICTIM}");
    assert!(vinet(&lab, &why).expect_code(1).contains("no program here acts"));
    let victim = Client::new(&lab, &lab.victim, &VICTIM.to_string(), "192.0.2.1:7400");
    let instance = victim.install(&format!("firewall --block {ATTACKER} --lifetime 10m"));
    let to = SocketAddr::new(VICTIM.into(), 9000);
    send_datagrams(&lab.attacker.udp(SocketAddr::new(ATTACKER.into(), 0)), to, 50);

    let discarded = || vinet(&lab, &why).expect().contains("discarded 50 ");
    assert!(eventually(LIMIT, discarded), "{}", vinet(&lab, &why).expect());
    let told = vinet(&lab, &why).expect();
    assert!(
        told.contains("behind port attacker") && told.contains(&format!("program {instance} of {VICTIM}")),
        "{told}"
    );
    let top = vinet(&lab, "top --once --interval 100").expect();
    for words in ["lab", "attacker", "uplink", "core ", "program", "header", &VICTIM.to_string()] {
        assert!(top.contains(words), "`{words}` is missing in\n{top}");
    }
    let page = metrics(&lab);
    for line in ["vinet_drops_total{reason=\"program\"} 50", "vinet_programs{class=\"header\"} 1"] {
        assert!(page.lines().any(|found| found == line), "`{line}` is missing in\n{page}");
    }
    assert!(!page.contains(&VICTIM.to_string()), "no owner is named");
}

/// `vinet trace` of what the attacker sends, while it sends; what it printed.
fn traced(lab: &Lab, words: &str) -> String {
    let mut command = Command::new(binary("vinet"));
    command.arg("trace").args(words.split_whitespace()).args(["--from", &ATTACKER.to_string(), "--count", "20"]);
    command.arg("--socket").arg(lab.dir().join("lab.sock"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vinet");
    let socket = lab.attacker.udp(SocketAddr::new(ATTACKER.into(), 5000));
    let (ended, end) = std::sync::mpsc::channel();
    let output = std::thread::spawn(move || {
        let output = child.wait_with_output();
        let _ = ended.send(());
        output
    });
    let start = Instant::now();
    // Until it has seen as many as it wants: it may not trace yet when the first are sent.
    while end.try_recv().is_err() {
        assert!(start.elapsed() < LIMIT, "it does not end");
        send_datagrams(&socket, SocketAddr::new(VICTIM.into(), 9000), 10);
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = output.join().expect("the thread ends").expect("vinet ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("20 packets traced"), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_operator_watches_packets_with_what_became_of_them() {
    let Some(_story) = story::begin("an_operator_watches_packets_with_what_became_of_them") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config::default());
    assert!(reaches(&lab.attacker, VICTIM.into(), LIMIT));
    let pair = format!(" attacker IP {ATTACKER}.5000 > {VICTIM}.9000: udp length ");
    let lines = traced(&lab, "");
    assert!(
        lines.lines().count() == 20 && lines.lines().all(|l| l.contains(&pair) && l.contains(": sent to uplink")),
        "{lines}"
    );

    let victim = Client::new(&lab, &lab.victim, &VICTIM.to_string(), "192.0.2.1:7400");
    let instance = victim.install(&format!("firewall --block {ATTACKER} --lifetime 10m"));
    let discarded = format!("dropped (program); program {instance} discard");
    let lines = traced(&lab, "");
    assert!(lines.lines().all(|line| line.contains(&pair) && line.ends_with(&discarded)), "{lines}");
    let json = traced(&lab, "--json --bytes 34");
    for line in json.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("an object a line");
        assert_eq!((&record["fate"], &record["reason"]), (&"dropped".into(), &"program".into()), "{record}");
        assert_eq!(record["bytes"].as_str().map(str::len), Some(68), "{record}");
    }
    let file = lab.dir().join("watched.pcapng");
    traced(&lab, &format!("--write {}", file.display()));
    let bytes = std::fs::read(&file).expect("a capture was written");
    let capture = Capture::read(&bytes).expect("it is one");
    assert_eq!(capture.packets().len(), 20);
    let comments = bytes.windows(discarded.len()).filter(|window| *window == discarded.as_bytes()).count();
    assert_eq!(comments, 20, "each packet has its comment");
    assert!(capture.packets().iter().all(|packet| packet.bytes.get(26..30) == Some(&ATTACKER.octets()[..])));
    assert_eq!(router.counters().unaccounted(), 0);
}

/// Whether the router's name has been drawn.
fn drawn(written: &[u8]) -> bool {
    String::from_utf8_lossy(written).contains("vinetd lab up")
}

/// `vinet top` on a terminal of its own, until `end` ends it; what it wrote there, and its exit status.
fn top_on_a_terminal(lab: &Lab, end: impl FnOnce(&mut Child, Pid)) -> (String, Option<i32>) {
    let socket = lab.dir().join("lab.sock");
    let line = format!(
        "stty rows 40 cols 110; echo $$; exec {} top --interval 100 --socket {}",
        binary("vinet").display(),
        socket.display()
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1) of bsdutils");
    let mut stdout = child.stdout.take().expect("a pipe");
    let (mut written, mut buffer) = (Vec::new(), [0; 4096]);
    // It draws the router's name.
    while !drawn(&written) {
        let len = stdout.read(&mut buffer).expect("the terminal is read");
        assert!(len > 0, "it ended: {}", String::from_utf8_lossy(&written));
        written.extend_from_slice(&buffer[..len]);
    }
    let first = String::from_utf8_lossy(&written).lines().next().unwrap_or_default().trim().to_owned();
    end(&mut child, Pid::from_raw(first.parse().expect("the shell tells its number")));
    stdout.read_to_end(&mut written).expect("the terminal is read");
    let status = child.wait().expect("it has ended");
    (String::from_utf8_lossy(&written).into_owned(), status.code())
}

#[test]
fn top_leaves_the_terminal_as_it_was() {
    let Some(_story) = story::begin("top_leaves_the_terminal_as_it_was") else { return };
    let lab = Lab::new();
    let mut router = Router::start(&lab, &Config::default());
    let by_key = |child: &mut Child, _: Pid| {
        child.stdin.as_mut().expect("a pipe").write_all(b"q").expect("a key is pressed");
    };
    let by_signal = |_: &mut Child, pid: Pid| kill(pid, Signal::SIGTERM).expect("it runs");
    // Leaves the second screen, and shows the cursor.
    let restored = |written: &str| {
        let after = written.rsplit("vinetd lab up").next().unwrap_or_default().to_owned();
        after.contains("\u{1b}[?1049l") && after.contains("\u{1b}[?25h")
    };
    let (written, status) = top_on_a_terminal(&lab, by_key);
    assert!(restored(&written) && status == Some(0), "{status:?}: {written:?}");
    let (written, status) = top_on_a_terminal(&lab, by_signal);
    assert!(restored(&written) && status == Some(0), "{status:?}: {written:?}");
    // The router goes: an error, told on a terminal that is as it was.
    let (written, status) = top_on_a_terminal(&lab, |_, _| {
        router.stop(Signal::SIGTERM);
    });
    assert!(restored(&written) && status == Some(2) && written.contains("vinet: "), "{status:?}: {written:?}");
}

#[test]
fn who_may_not_open_the_admin_socket_cannot_command_the_router() {
    let Some(_story) = story::begin("who_may_not_open_the_admin_socket_cannot_command_the_router") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config::default());
    // The way to the socket is open to everybody, so that it is the socket's own mode that stands in the way.
    std::fs::set_permissions(lab.dir(), std::fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    for words in ["counters", "reload --now", "rollback"] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary("vinetd")).arg("ctl");
        command.args(words.split_whitespace()).arg("--socket").arg(lab.dir().join("lab.sock"));
        let said = run(command, LIMIT).expect_code(2);
        assert!(said.contains("Permission denied"), "{said}");
    }
    assert_eq!(router.counters().unaccounted(), 0, "who may still can");
}
