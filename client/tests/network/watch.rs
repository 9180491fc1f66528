//! Watching a router, and the quarantine.

use crate::lab::{Lab, object, objects, succeeds, text};
use serde_json::Value;
use vinet_session::Event;

#[test]
fn what_happens_is_told_once_each() {
    let lab = Lab::new();
    succeeds(&lab.run(&["firewall", "--block", "203.0.113.7", "--lifetime", "2m"]));
    lab.books().events = vec![Event::new(1, 5, "shut-off", "198.51.100.9 is shut off"), Event::new(4, 6, "x", "y")];
    let told = objects(&lab.run(&["watch", "--every", "1", "--count", "2", "--json"]));
    let codes: Vec<&str> = told.iter().filter_map(|notice| notice["code"].as_str()).collect();
    assert_eq!(codes, ["shut-off", "x", "running"], "nothing is told twice");
    assert_eq!(
        (&told[0]["router"], &told[0]["at_s"], &told[0]["instance"]),
        (&"edge1".into(), &5.into(), &Value::Null)
    );
    assert_eq!(told[2]["instance"], 7);
    let words = succeeds(&lab.run(&["watch", "--count", "1"]));
    assert!(words.starts_with("5 edge1: 198.51.100.9 is shut off\n"), "{words}");
    let alone = lab.command(&["watch", "--count", "1"]).output().expect("vinet runs");
    assert_eq!(alone.status.code(), Some(2));
    assert!(text(&alone.stderr).contains("start `vinet vfirewall`, or name a router"), "{}", text(&alone.stderr));
}

#[test]
fn a_quarantine_is_one_command_by_signature_or_by_port() {
    let lab = Lab::new();
    let quarantine = ["quarantine", "--infected", "198.51.100.0/24", "--infected", "203.0.113.7", "--lifetime", "2h"];
    let by_port = ["--port", "445", "--spare", "192.0.2.2", "--json"];
    let by_port = object(&lab.run(&[&quarantine[..], &by_port].concat()));
    assert_eq!((&by_port["class"], &by_port["lifetime_s"]), (&"header".into(), &7200.into()));
    let by_signature = ["--signature", "\"\\xde\\xad\"", "--signature", "worm", "--json"];
    let by_signature = object(&lab.run(&[&quarantine[..], &by_signature].concat()));
    assert_eq!(by_signature["class"], "content");
    let source = succeeds(&lab.run(&[&quarantine[..], &["--port", "53", "--protocol", "udp", "--emit"]].concat()));
    assert!(source.contains("src in {198.51.100.0/24, 203.0.113.7} and protocol = udp and dstport = 53"), "{source}");
    assert_eq!(lab.run(&quarantine).status.code(), Some(2), "neither");
}
