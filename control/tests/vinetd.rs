//! The real `vinetd` over DPDK's null devices: how it starts, what it says when it cannot, and how it ends.
//!
//! Every daemon runs in a network namespace of its own, which ends with it; without root these tests are skipped.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vinet_control::admin::{self, Command as Ask};
use vinet_session::identity::{AuthorityKey, Subject, Validity, parse_principal};

const PATIENCE: Duration = Duration::from_secs(30);

/// Two daemons at a time would share two cores and the free hugepages.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Folder {
    dir: tempfile::TempDir,
    config: String,
}

impl Folder {
    fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let wall_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let validity = Validity::starting(wall_s - 10, 3600);
        let key = AuthorityKey::generate("bench").unwrap();
        let router = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
        key.issue_identity(router, validity).unwrap().save(&dir.path().join("router.key")).unwrap();
        let owner = Subject::Owner(parse_principal("192.0.2.7").unwrap());
        key.issue_identity(owner, validity).unwrap().save(&dir.path().join("owner.key")).unwrap();
        key.authority().save(&dir.path().join("authority.pub")).unwrap();
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy");
        let last_core = vinet_control::config::cores_online().pop().unwrap();
        let config = format!(
            r#"
            [router]
            name = "edge1"
            identity = "router.key"
            authority = "authority.pub"
            policies = ["{0}/end-user.toml", "{0}/edge-router.toml"]
            run_dir = "{1}"
            [eal]
            memory = "auto"
            memory_mb = 128
            [workers]
            cores = [{last_core}]
            [control]
            listen = ["192.0.2.1:7400", "[2001:db8:1::1]:7400"]
            [[port]]
            name = "edge"
            device = "net_null0"
            tap = "vi-edge"
            addresses = ["192.0.2.1/24", "2001:db8:1::1/64"]
            controlled = ["192.0.2.0/24"]
            [[port]]
            name = "uplink"
            device = "net_null1"
            tap = "vi-uplink"
            addresses = ["198.51.100.2/24"]
            [[route]]
            to = "0.0.0.0/0"
            via = "198.51.100.1"
            [capacity]
            cycles_per_second = 1_000_000_000
            memory_bytes = 1_000_000
            "#,
            policies.display(),
            dir.path().join("run").display()
        );
        Folder { dir, config }
    }

    fn with(from: &str, to: &str) -> Folder {
        let mut folder = Folder::new();
        assert!(folder.config.contains(from), "{from}");
        folder.config = folder.config.replacen(from, to, 1);
        folder
    }

    fn file(&self) -> PathBuf {
        let file = self.dir.path().join("router.toml");
        std::fs::write(&file, &self.config).unwrap();
        file
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/edge1.sock")
    }

    /// `vinetd --config` in a network namespace of its own.
    fn command(&self) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", env!("CARGO_BIN_EXE_vinetd"), "--config"]).arg(self.file());
        command
    }

    /// Runs it to its end, which must be a refusal, and returns what it said.
    fn refusal(&self) -> String {
        let Output { status, stderr, .. } = self.command().output().unwrap();
        let said = String::from_utf8_lossy(&stderr).into_owned();
        assert_eq!(status.code(), Some(2), "{said}");
        said
    }

    fn check(&self) -> (Option<i32>, String) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_vinetd")).arg("--check").arg("--config").arg(self.file()).output();
        let Output { status, stderr, .. } = output.unwrap();
        (status.code(), String::from_utf8_lossy(&stderr).into_owned())
    }

    /// `vinetd doctor --json`: its exit status, and its findings.
    fn doctor(&self) -> (Option<i32>, Vec<serde_json::Value>) {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", env!("CARGO_BIN_EXE_vinetd"), "doctor", "--json", "--config"]).arg(self.file());
        let Output { status, stdout, stderr } = command.output().unwrap();
        assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
        let findings = String::from_utf8_lossy(&stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        (status.code(), findings)
    }
}

/// A running daemon. `unshare` becomes the daemon, so the child's number is the daemon's.
struct Daemon {
    child: Child,
    said: std::sync::mpsc::Receiver<String>,
}

impl Daemon {
    fn start(mut command: Command) -> Daemon {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        Daemon { child, said }
    }

    fn wait_for(&self, words: &str) -> String {
        let mut all = String::new();
        while let Ok(line) = self.said.recv_timeout(PATIENCE) {
            if line.contains(words) {
                return line;
            }
            all += &line;
            all.push('\n');
        }
        panic!("never said `{words}`, but:\n{all}");
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn end(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root() -> bool {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("skipped: vinetd over null devices: needs root");
    }
    root
}

#[test]
fn it_starts_answers_its_operator_refuses_a_twin_and_ends_cleanly() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !root() {
        return;
    }
    let folder = Folder::new();
    let ready = folder.dir.path().join("ready");
    let mut command = folder.command();
    command.arg("--ready-file").arg(&ready);
    let mut daemon = Daemon::start(command);
    let line = daemon.wait_for(" ready ");
    assert!(line.contains("name=edge1 listen=192.0.2.1:7400,[2001:db8:1::1]:7400 ports: edge ("), "{line}");
    let start = Instant::now();
    while !ready.exists() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(std::fs::read_to_string(&ready).unwrap(), "192.0.2.1:7400 [2001:db8:1::1]:7400\n");

    for ask in Ask::PLAIN {
        assert!(admin::ask(&folder.socket(), &ask).unwrap().get("error").is_none(), "{ask:?}");
    }
    let counters = admin::ask(&folder.socket(), &Ask::Counters).unwrap();
    assert_eq!(counters["balance"]["difference"], 0);
    let fib = admin::ask(&folder.socket(), &Ask::Fib).unwrap();
    let routes = fib["routes"].to_string();
    assert!(routes.contains("\"0.0.0.0/0\"") && routes.contains("\"2001:db8:1::1\""), "{routes}");

    let said = folder.refusal();
    assert!(said.contains("a router named `edge1` runs already (process "), "{said}");
    assert!(admin::ask(&folder.socket(), &Ask::Ports).is_ok(), "the first goes on");

    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end(), Some(0));
    assert!(!ready.exists() && !folder.socket().exists());
}

/// What a service manager hears within [`PATIENCE`].
fn heard(listener: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    let len = listener.recv(&mut buffer).expect("the daemon tells its service manager");
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

#[test]
fn a_service_manager_hears_of_it_and_can_have_it_reload() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !root() {
        return;
    }
    let mut folder = Folder::new();
    let socket = folder.socket();
    let notify = folder.dir.path().join("notify");
    let listener = UnixDatagram::bind(&notify).unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = folder.command();
    command.env("NOTIFY_SOCKET", &notify).stdin(Stdio::null());
    let mut daemon = Daemon::start(command);
    assert_eq!(heard(&listener), "READY=1\nSTATUS=2 ports, listening on 192.0.2.1:7400, [2001:db8:1::1]:7400");

    // A reload by signal, and one by the command, which says what differs.
    let route = |via: &str| {
        let start = Instant::now();
        loop {
            let fib = admin::ask(&socket, &Ask::Fib).unwrap();
            let routes = fib["routes"].as_array().unwrap();
            let default = routes.iter().find(|route| route["prefix"] == "0.0.0.0/0");
            if default.is_some_and(|route| route["target"].to_string().contains(via)) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "no default route via {via}: {fib}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    route("(198.51.100.1)");
    folder.config = folder.config.replacen("via = \"198.51.100.1\"", "via = \"198.51.100.9\"", 1);
    folder.file();
    daemon.signal(Signal::SIGHUP);
    assert!(heard(&listener).starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(heard(&listener), "READY=1\nSTATUS=reloaded");
    daemon.wait_for("reload: ~ [[route]] `0.0.0.0/0` via: \"198.51.100.1\" -> \"198.51.100.9\"");
    route("(198.51.100.9)");

    folder.config = folder.config.replacen("memory_bytes = 1_000_000", "memory_bytes = 2_000_000", 1);
    folder.file();
    let vinetd = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vinetd"));
        command.args(arguments).arg("--socket").arg(&socket);
        let Output { status, stdout, stderr } = command.output().unwrap();
        let said = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (status.code(), said(stdout), said(stderr))
    };
    let change = "~ [capacity] memory_bytes: 1000000 -> 2000000\n";
    assert_eq!(vinetd(&["reload", "--dry-run"]), (Some(0), format!("{change}nothing was changed\n"), String::new()));
    let applied = format!("{change}applied; undone in 300 s unless `vinetd ctl confirm` comes\n");
    assert_eq!(vinetd(&["reload", "--confirm-within", "300"]), (Some(0), applied, String::new()));
    assert_eq!(vinetd(&["ctl", "confirm"]).0, Some(0));
    let (status, _, said) = vinetd(&["ctl", "confirm"]);
    assert!(status == Some(1) && said.contains("no reload waits for a confirmation"), "{said}");
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    daemon.wait_for(&format!("admin: user {uid}, group "));

    daemon.signal(Signal::SIGTERM);
    let start = Instant::now();
    while heard(&listener) != "STOPPING=1" {
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(daemon.end(), Some(0));
}

#[test]
fn ordinary_pages_do_where_they_are_wanted_and_json_is_logged() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !root() {
        return;
    }
    let folder = Folder::with("memory = \"auto\"", "memory = \"no-huge\"");
    let mut command = folder.command();
    command.args(["--log-format", "json"]);
    let mut daemon = Daemon::start(command);
    let line = daemon.wait_for("ordinary pages");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((value["level"].as_str(), value["component"].as_str()), (Some("info"), Some("eal")));
    daemon.wait_for("ready name=edge1");
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.end(), Some(0));
}

#[test]
fn what_the_machine_cannot_give_is_named_with_what_to_do() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !root() {
        return;
    }
    for (from, to, words) in [
        ("device = \"net_null1\"", "device = \"net_nonesuch1\"", &["port uplink", "net_nonesuch1"][..]),
        ("device = \"net_null1\"", "device = \"net_af_packet1,iface=nosuch\"", &["port uplink", "nosuch"]),
        ("\"192.0.2.1:7400\"", "\"203.0.113.5:7400\"", &["203.0.113.5:7400", "[control] listen"]),
        (
            "memory = \"auto\"\n            memory_mb = 128",
            "memory = \"huge\"\n            memory_mb = 1000000",
            &["hugepages", "nr_hugepages"],
        ),
        ("tap = \"vi-edge\"", "tap = \"lo\"", &["lo"]),
    ] {
        let said = Folder::with(from, to).refusal();
        let last = said.lines().last().unwrap_or_default();
        for word in words {
            assert!(last.contains(word), "{to}: {said}");
        }
    }
}

#[test]
fn the_doctor_foresees_what_a_start_would_end_in() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !root() {
        return;
    }
    let failed = |findings: &[serde_json::Value]| -> Vec<String> {
        let bad = findings.iter().filter(|finding| finding["status"] == "fail");
        bad.map(|finding| finding["check"].as_str().unwrap().to_owned()).collect()
    };
    let folder = Folder::new();
    let (status, findings) = folder.doctor();
    assert_eq!((status, failed(&findings)), (Some(0), vec![]), "{findings:#?}");
    assert!(findings.len() > 15 && !folder.dir.path().join("run").exists());

    let daemon = Daemon::start(folder.command());
    daemon.wait_for("ready name=edge1");
    let (status, findings) = folder.doctor();
    assert_eq!((status, failed(&findings)), (Some(1), vec!["instance".to_owned()]), "{findings:#?}");
    let process = format!("as process {}", daemon.child.id());
    assert!(findings.iter().any(|finding| finding["found"].as_str().unwrap().ends_with(&process)), "{findings:#?}");
    assert!(admin::ask(&folder.socket(), &Ask::Ports).is_ok(), "the router goes on");
    drop(daemon);

    for (from, to, check) in [
        ("device = \"net_null1\"", "device = \"net_nonesuch1\"", "driver"),
        ("device = \"net_null1\"", "device = \"net_af_packet1,iface=nosuch\"", "interface"),
        ("device = \"net_null1\"", "device = \"ffff:1f:1f.7\"", "device"),
        ("\"192.0.2.1:7400\"", "\"203.0.113.5:7400\"", "listen"),
        (
            "memory = \"auto\"\n            memory_mb = 128",
            "memory = \"huge\"\n            memory_mb = 1000000",
            "hugepages",
        ),
        ("tap = \"vi-edge\"", "tap = \"lo\"", "twin"),
        ("identity = \"router.key\"", "identity = \"owner.key\"", "identity"),
        ("tap = \"vi-uplink\"", "mtu = 9001", "policies"),
    ] {
        let (status, findings) = Folder::with(from, to).doctor();
        assert!(status == Some(1) && failed(&findings).iter().any(|name| name == check), "{to}: {findings:#?}");
    }
}

#[test]
fn a_check_reads_everything_and_touches_nothing() {
    let folder = Folder::new();
    assert_eq!(folder.check(), (Some(0), String::new()));
    assert!(!folder.dir.path().join("run").exists());
    for (from, to, words) in [
        ("memory_mb", "memroy_mb", "router.toml:10: unknown key `memroy_mb`; did you mean `memory_mb`?"),
        ("identity = \"router.key\"", "identity = \"absent.key\"", "absent.key"),
        ("identity = \"router.key\"", "identity = \"owner.key\"", "vouches for as a router's"),
        ("end-user.toml", "absent.toml", "absent.toml"),
        ("/edge-router.toml", "/end-user.toml", "there is already a policy for EndUser"),
        ("authority = \"authority.pub\"", "authority = \"router.toml\"", "router.toml"),
        ("tap = \"vi-uplink\"", "mtu = 9001", "[[port]] `uplink` mtu: 9001 is above the "),
    ] {
        let (status, said) = Folder::with(from, to).check();
        assert_eq!(status, Some(2), "{to}: {said}");
        assert!(said.contains(words), "{to}: {said}");
    }
}

#[test]
fn unusable_arguments_exit_with_2() {
    let vinetd = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_vinetd")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (arguments, words) in [
        (&[][..], "--config FILE"),
        (&["--config", "/nonexistent/router.toml"], "/nonexistent/router.toml: cannot read the configuration"),
        (&["--frobnicate"], "--frobnicate"),
        (
            &["doctor", "--config", "/nonexistent/router.toml"],
            "/nonexistent/router.toml: cannot read the configuration",
        ),
        (&["doctor", "--frobnicate"], "--frobnicate"),
        (&["ctl", "--socket", "/nonexistent.sock", "counters"], "is the router running"),
        (&["ctl", "--socket", "/nonexistent.sock", "explode"], "unrecognized subcommand"),
    ] {
        let (status, said) = vinetd(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
