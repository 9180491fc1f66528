//! What the operator of a running router is told and can do.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;

use super::*;
use crate::admin::{Pair, ReloadOrder, TraceRequest};

/// One page, as Prometheus fetches it.
fn scrape(testbed: &Testbed) -> String {
    let mut stream = TcpStream::connect(testbed.metrics).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: edge1\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

fn why(testbed: &Testbed, src: &str, dst: &str) -> serde_json::Value {
    testbed.operator(Command::Why(Pair { src: src.parse().unwrap(), dst: dst.parse().unwrap() }))
}

#[test]
fn why_names_the_programs_of_a_pair_in_the_order_in_which_they_run() {
    let testbed = Testbed::start("proof");
    let (user, other) = (testbed.user("198.51.100.7"), testbed.user("198.51.100.8"));
    let instance = install(&mut testbed.client(&user), &user, 60);
    install(&mut testbed.client(&other), &other, 60);
    let answer = why(&testbed, "192.0.2.66", "198.51.100.7");
    assert_eq!((&answer["source_port"], &answer["meets_programs"]), (&"edge".into(), &true.into()), "{answer}");
    let programs = answer["programs"].as_array().unwrap();
    assert_eq!(programs.len(), 1, "{answer}");
    assert_eq!((&programs[0]["instance"], &programs[0]["owner"]), (&instance.into(), &"198.51.100.7".into()));
    assert_eq!(programs[0]["packets_discarded"], 0);

    let answer = why(&testbed, "192.0.2.67", "198.51.100.7");
    assert_eq!(answer["programs"].as_array().unwrap().len(), 0, "another source: {answer}");
    let answer = why(&testbed, "203.0.113.1", "198.51.100.7");
    assert_eq!((&answer["source_port"], &answer["meets_programs"]), (&serde_json::Value::Null, &false.into()));
    let answer = why(&testbed, "192.0.2.66", "192.0.2.1");
    assert_eq!((&answer["router_itself"], &answer["meets_programs"]), (&true.into(), &false.into()));
    assert!(why(&testbed, "192.0.2.66", "2001:db8::1")["error"].as_str().unwrap().contains("two families"));
}

#[test]
fn prometheus_sees_programs_come_and_go() {
    let testbed = Testbed::start("proof");
    let user = testbed.user("198.51.100.7");
    let mut client = testbed.client(&user);
    let instance = install(&mut client, &user, 60);
    let until = |line: &str| {
        let start = Instant::now();
        while !scrape(&testbed).lines().any(|found| found == line) {
            assert!(start.elapsed() < PATIENCE, "no `{line}` in:\n{}", scrape(&testbed));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("vinet_programs{class=\"header\"} 1");
    assert!(!scrape(&testbed).contains("198.51.100.7"), "no owner is named");
    withdraw(&mut client, &user, instance);
    until("vinet_programs{class=\"header\"} 0");
    until("vinet_capacity_cycles_per_second_taken 0");
    until("vinet_admission_decisions_total{decision=\"withdrawn\"} 1");
}

/// Changes a file of the router; fails where `from` is not there.
fn edit(testbed: &Testbed, file: &str, from: &str, to: &str) {
    let path = testbed.place().dir.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no `{from}`:\n{text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn reload(testbed: &Testbed, confirm_within_s: Option<u32>) -> serde_json::Value {
    testbed.operator(Command::Reload(ReloadOrder { confirm_within_s, dry_run: false }))
}

fn cycles_max(testbed: &Testbed) -> u64 {
    testbed.operator(Command::Status)["capacity"]["cycles_per_second_max"].as_u64().unwrap()
}

const CAPACITY: &str = "cycles_per_second = 1_000_000_000";

#[test]
fn a_reload_is_undone_unless_it_is_confirmed() {
    let testbed = Testbed::start("proof");
    edit(&testbed, "router.toml", CAPACITY, "cycles_per_second = 2_000_000_000");
    let dry = testbed.operator(Command::Reload(ReloadOrder { confirm_within_s: None, dry_run: true }));
    assert_eq!((&dry["applied"], cycles_max(&testbed)), (&false.into(), 1_000_000_000), "{dry}");
    let answer = reload(&testbed, Some(1));
    assert_eq!(answer["changes"][0]["key"], "[capacity] cycles_per_second", "{answer}");
    assert_eq!(
        (answer["changes"][0]["before"].as_str(), answer["changes"][0]["after"].as_str()),
        (Some("1000000000"), Some("2000000000"))
    );
    assert_eq!((&answer["applied"], cycles_max(&testbed)), (&true.into(), 2_000_000_000), "{answer}");
    let again = reload(&testbed, None);
    assert!(again["error"].as_str().unwrap().contains("waits for its confirmation"), "{again}");
    let start = Instant::now();
    while cycles_max(&testbed) != 1_000_000_000 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    let none = testbed.operator(Command::Confirm);
    assert!(none["error"].as_str().unwrap().contains("no reload waits"), "{none}");

    assert_eq!(reload(&testbed, Some(3600))["applied"], true);
    assert!(testbed.operator(Command::Status)["reload_undone_in_s"].as_u64().unwrap() > 3000);
    assert_eq!(testbed.operator(Command::Confirm)["confirmed"], true);
    let status = testbed.operator(Command::Status);
    assert_eq!((&status["reload_undone_in_s"], cycles_max(&testbed)), (&serde_json::Value::Null, 2_000_000_000));
    assert_eq!(reload(&testbed, Some(1))["changes"], serde_json::json!([]), "nothing differs any more");

    edit(&testbed, "router.toml", "cycles_per_second = 2_000_000_000", "cycles_per_second = 3");
    assert_eq!(reload(&testbed, Some(3600))["applied"], true);
    let back = testbed.operator(Command::Rollback);
    assert_eq!(back["changes"][0]["after"], "2000000000", "{back}");
    assert_eq!(cycles_max(&testbed), 2_000_000_000);
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let testbed = Testbed::start("proof");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let good = std::fs::read_to_string(testbed.place().dir.path().join("router.toml")).unwrap();
    let metrics_taken = format!("listen = \"{}\"", taken.local_addr().unwrap());
    for (from, to, words) in [
        ("[metrics]", "[metrics", "router.toml"),
        ("[metrics]", "[metrisc]", "did you mean `metrics`?"),
        (
            "name = \"edge\"",
            "name = \"edge\"\n            mtu = 1400",
            "[[port]] `edge` mtu; take them back, or restart",
        ),
        ("verify = \"proof\"", "verify = \"static\"", "cannot be changed in a running router: [router] verify"),
        ("programs = 1000", "programs = 999", "[control.limits] programs"),
        ("\"policy.toml\"", "\"absent.toml\"", "absent.toml"),
        ("listen = \"127.0.0.1:0\"\n", &metrics_taken, "[metrics] listen"),
        ("programs = 1000", "idle_timeout_s = 0", "0 is not in 1 to 86400"),
    ] {
        std::fs::write(testbed.place().dir.path().join("router.toml"), &good).unwrap();
        edit(&testbed, "router.toml", CAPACITY, "cycles_per_second = 5");
        edit(&testbed, "router.toml", from, to);
        let answer = reload(&testbed, None);
        assert!(answer["error"].as_str().is_some_and(|said| said.contains(words)), "{to}: {answer}");
        assert_eq!(cycles_max(&testbed), 1_000_000_000, "{to}");
    }
    assert!(scrape(&testbed).contains("# EOF"), "the metrics are where they were");
}

#[test]
fn a_reload_reaches_policies_metrics_and_the_sockets_file() {
    use std::os::unix::fs::PermissionsExt;
    let testbed = Testbed::start("proof");
    let user = testbed.user("198.51.100.7");
    let mut client = testbed.client(&user);
    install(&mut client, &user, 60);
    let policy_name = |client: &mut BlockingClient| {
        let reply = client.ask(&Request::GetPolicy { kind: PrincipalKind::EndUser }).unwrap();
        let Reply::Policy(signed) = reply else { panic!("{reply:?}") };
        signed.verify(client.router(), &vinet_prover::library().root()).unwrap().name.clone()
    };
    let before = policy_name(&mut client);
    edit(&testbed, "policy.toml", &format!("name = \"{before}\""), "name = \"stricter\"");
    edit(&testbed, "router.toml", "[metrics]\n", "");
    edit(&testbed, "router.toml", "            listen = \"127.0.0.1:0\"\n", "");
    edit(&testbed, "router.toml", "[control]", "[control]\n            admin_mode = \"0640\"");
    let answer = reload(&testbed, Some(3600));
    assert_eq!(answer["applied"], true, "{answer}");
    let mode = || std::fs::metadata(&testbed.admin).unwrap().permissions().mode() & 0o777;
    assert_eq!((policy_name(&mut client).as_str(), mode()), ("stricter", 0o640));
    assert!(TcpStream::connect(testbed.metrics).is_err(), "nobody listens there any more");
    assert_eq!(list_len(&mut client), 1, "what runs goes on");
    install(&mut client, &user, 61);

    let answer = testbed.operator(Command::Rollback);
    assert_eq!(answer["applied"], true, "{answer}");
    assert_eq!((policy_name(&mut client), mode(), list_len(&mut client)), (before, 0o600, 2));
}

/// A connection to the admin socket that stays, and what it was answered.
fn told(testbed: &Testbed, command: &Command) -> (BufReader<UnixStream>, serde_json::Value) {
    let mut stream = UnixStream::connect(&testbed.admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{}\n", command.to_json()).as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    (reader, serde_json::from_str(&line).unwrap())
}

#[test]
fn one_operator_at_a_time_traces_and_going_ends_it() {
    let testbed = Testbed::start("proof");
    let trace = Command::Trace(TraceRequest::default());
    let (first, answer) = told(&testbed, &trace);
    assert_eq!(answer["tracing"]["ports"], serde_json::json!(["edge", "uplink"]), "{answer}");
    let (_, refused) = told(&testbed, &trace);
    assert!(refused["error"].as_str().unwrap().contains("another trace runs, by user "), "{refused}");
    // The first is still served otherwise.
    let mut again = first;
    again.get_mut().write_all(b"{\"cmd\":\"fib\"}\n").unwrap();
    let mut line = String::new();
    again.read_line(&mut line).unwrap();
    assert!(line.contains("routes"), "{line}");
    drop(again);
    let start = Instant::now();
    loop {
        let (_connection, answer) = told(&testbed, &trace);
        if answer.get("tracing").is_some() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_operator_sees_the_desk_and_cannot_let_back_what_is_not_shut_off() {
    let testbed = Testbed::start("proof");
    let shut_offs = testbed.operator(Command::ShutOffs);
    assert_eq!((&shut_offs["sources"], &shut_offs["counts"]["shut_off"]), (&serde_json::json!([]), &0.into()));
    let ledger = testbed.operator(Command::Ledger);
    assert_eq!((&ledger["issued"], &ledger["fault"]), (&0.into(), &serde_json::Value::Null), "{ledger}");
    let waiting = &testbed.operator(Command::Sessions)["waiting"];
    assert_eq!(
        (&waiting["for_capacity"], &waiting["store_failure"]),
        (&0.into(), &serde_json::Value::Null),
        "{waiting}"
    );
    let refused = testbed.operator(Command::LetBack("192.0.2.66".parse().unwrap()));
    assert!(refused["error"].as_str().unwrap().contains("192.0.2.66 is not shut off"), "{refused}");
}
