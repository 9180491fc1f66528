//! The daemon: local applications' programs are kept, and what happens is passed on.

use crate::lab::{Lab, succeeds};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};
use vinet_session::alert::{Alert, AlertTerms};
use vinet_session::identity::Identity;
use vinet_trusted::addr::Addr;

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon, ended with the value.
struct Daemon {
    child: Child,
    _out: BufReader<ChildStdout>,
    port: u16,
    token: String,
}

impl Daemon {
    fn start(lab: &Lab) -> Daemon {
        let mut command = lab.command(&["vfirewall", "--port", "0", "--every", "1", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("vinet runs");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut first = String::new();
        out.read_line(&mut first).expect("a line");
        let first: Value = serde_json::from_str(&first).unwrap_or_else(|error| panic!("{error}: {first:?}"));
        let file = first["file"].as_str().expect("a path");
        let mode = std::fs::metadata(file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "only the user can read the token");
        let door: Value = serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON");
        let port = first["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        Daemon { child, _out: out, port, token: door["token"].as_str().expect("a token").to_owned() }
    }

    fn connect(&self, token: &str) -> Local {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut local = Local(BufReader::new(stream));
        local.say(&json!({ "token": token }));
        local
    }

    fn local(&self) -> Local {
        self.connect(&self.token)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A local application.
struct Local(BufReader<TcpStream>);

impl Local {
    fn say(&mut self, line: &Value) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).expect("a line is taken");
    }
    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }
    fn ask(&mut self, request: &Value) -> Value {
        self.say(request);
        self.hear()
    }
    /// Waits for a notice with this code.
    fn notice(&mut self, code: &str) -> Value {
        let (start, mut others) = (Instant::now(), Vec::new());
        while start.elapsed() < PATIENCE {
            let told = self.hear();
            if told["code"] == code {
                return told;
            }
            others.push(told.to_string());
        }
        panic!("no notice `{code}` within {PATIENCE:?}; there were {others:#?}");
    }
}

fn firewall(lab: &Lab, lifetime: &str) -> Value {
    let router = lab.router.addr.to_string();
    json!({ "ask": "firewall", "block": ["203.0.113.7"], "lifetime": lifetime, "router": router })
}

#[test]
fn only_who_has_the_token_is_answered_and_requests_that_make_no_sense_change_nothing() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab);
    assert_eq!(daemon.connect("0123").hear()["code"], "token");
    assert_eq!(daemon.connect(&"0".repeat(daemon.token.len())).hear()["code"], "token");
    let mut local = daemon.local();
    assert_eq!(local.ask(&json!({ "ask": "list" })), json!({ "ok": true, "rules": [] }));
    for bad in [json!(7), json!({ "ask": "firewal" }), json!({ "ask": "firewall", "lifetime": "2m", "router": "x:1" })]
    {
        let answer = local.ask(&bad);
        assert_eq!((&answer["ok"], &answer["code"]), (&false.into(), &"unusable".into()), "{bad}: {answer}");
    }
    assert_eq!(local.ask(&json!({ "ask": "remove", "id": 9 }))["code"], "not-found");
    assert!(lab.books().installed.is_empty());
}

#[test]
fn what_an_application_asks_for_is_installed_kept_and_ended_with_the_rule() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab);
    let mut local = daemon.local();
    let done = local.ask(&firewall(&lab, "2m"));
    assert_eq!((&done["ok"], &done["id"], &done["programs"][0]["instance"]), (&true.into(), &1.into(), &7.into()));
    let mut watcher = daemon.local();
    assert_eq!(watcher.ask(&json!({ "ask": "watch" }))["ok"], true);
    // Its time is running out: the router's fake begins it anew at a renewal.
    lab.books().installed[0].seconds_left = 20;
    assert_eq!(watcher.notice("kept")["instance"], 7);
    assert_eq!(lab.books().installed[0].seconds_left, 120);
    // It is gone, whoever took it.
    lab.books().installed[0].instance = 99;
    let again = watcher.notice("kept");
    assert_eq!(again["text"], "in the place of program 7, which is gone");
    assert_eq!(again["instance"], 8);
    let listed = local.ask(&json!({ "ask": "list" }));
    assert_eq!(listed["rules"][0]["programs"][0]["instance"], 8, "{listed}");
    // Another start goes on with it.
    drop(daemon);
    let daemon = Daemon::start(&lab);
    let mut local = daemon.local();
    let listed = local.ask(&json!({ "ask": "list" }));
    assert_eq!(listed["rules"][0]["programs"][0]["instance"], 8, "{listed}");
    assert_eq!(local.ask(&json!({ "ask": "remove", "id": 1 }))["ok"], true);
    let left: Vec<u64> = lab.books().installed.iter().map(|status| status.instance).collect();
    assert_eq!(left, [99]);
    assert_eq!(local.ask(&json!({ "ask": "list" }))["rules"], json!([]));
}

#[test]
fn a_routers_alert_reaches_whoever_watches() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab);
    let mut local = daemon.local();
    assert_eq!(local.ask(&json!({ "ask": "watch" }))["ok"], true);
    let mut watching = lab.command(&["watch", "--count", "1", "--json"]);
    let watching = watching.stdout(Stdio::piped()).spawn().expect("vinet runs");
    let router = Identity::load(&lab.path("router.key")).expect("the router's identity");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let send = |addr: u32, number: u64, text: &str| {
        let alert = Alert::sign(AlertTerms::new(Addr::V4(addr), number, 5, "shut-off", text), &router);
        socket.send_to(&alert.encode(), ("127.0.0.1", daemon.port)).expect("a datagram is sent");
    };
    socket.send_to(b"VInetAlt and more", ("127.0.0.1", daemon.port)).expect("a datagram is sent");
    send(0xc000_0209, 1, "about another address");
    // `vinet watch` may not be there yet when the first comes; each is a new one.
    let (sender, done) = std::sync::mpsc::channel();
    let wait = std::thread::spawn(move || {
        let output = watching.wait_with_output().expect("it ends");
        sender.send(()).expect("somebody waits");
        output
    });
    let start = Instant::now();
    for number in 2.. {
        send(0xc000_0202, number, "enough of it");
        let told = local.notice("shut-off");
        assert_eq!((&told["router"], &told["text"]), (&"edge1".into(), &"192.0.2.2: enough of it".into()));
        if done.recv_timeout(Duration::from_millis(50)).is_ok() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "vinet watch heard nothing");
    }
    let told: Value = serde_json::from_str(&succeeds(&wait.join().expect("no panic"))).expect("an object");
    assert_eq!((&told["code"], &told["instance"]), (&"shut-off".into(), &Value::Null));
}
