//! What the operator of a running router is told and can do.

use std::io::Read;

use super::*;
use crate::admin::Pair;

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
