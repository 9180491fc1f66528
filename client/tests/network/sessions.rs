//! From a program to its receipt and back, and routers that are none.

use crate::lab::{Lab, UNSUPPORTED, object, succeeds, text, vinet, vinet_in};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::time::{Duration, Instant};

#[test]
fn a_firewall_goes_from_addresses_to_a_receipt_and_back() {
    let lab = Lab::new();
    let firewall = ["firewall", "--block", "203.0.113.7", "--block", "198.51.100.0/24", "--lifetime", "2m"];
    let receipt = object(&lab.run(&[&firewall[..], &["--json"]].concat()));
    assert_eq!(receipt["instance"], 7);
    assert_eq!(receipt["principal"], "192.0.2.2");
    assert_eq!(receipt["class"], "header");
    assert_eq!(receipt["lifetime_s"], 120);
    assert_eq!(receipt["ends_s"].as_u64(), receipt["installed_s"].as_u64().map(|s| s + 120));
    assert!(receipt["proof_bytes"].as_u64().is_some_and(|bytes| bytes > 0 && bytes < 100), "{receipt}");
    let words = succeeds(&lab.run(&firewall));
    assert!(words.starts_with("program 8 is installed at router `edge1` for 2 minutes: "), "{words}");
    let spam = object(&lab.run(&["spam", "--word", "lottery", "--word", "winner", "--lifetime", "1d", "--json"]));
    assert_eq!((&spam["instance"], &spam["class"]), (&Value::from(9), &Value::from("content")));

    let list = succeeds(&lab.run(&["list", "--json"]));
    let list: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(list.len(), 3);
    assert_eq!(list[0]["program"], receipt["program"]);
    assert_eq!(list[0], object(&lab.run(&["show", "7", "--json"])));
    assert_eq!(list[0]["packets_discarded"], 4);
    assert_eq!(object(&lab.run(&["withdraw", "7", "--json"])), list[0]);
    for command in ["withdraw", "show"] {
        let gone = lab.run(&[command, "7", "--json"]);
        assert_eq!(gone.status.code(), Some(1));
        assert_eq!(object(&gone)["reason"]["code"], "not-found");
        assert!(text(&gone.stderr).contains("not-found: there is no such program of yours"));
    }
    assert_eq!(succeeds(&lab.run(&["list"])).lines().count(), 2);
}

#[test]
fn verbose_tells_each_step_and_dry_run_uploads_nothing() {
    let lab = Lab::new();
    let tried = lab.run(&["firewall", "--block", "203.0.113.7", "--lifetime", "2d", "--dry-run", "-v", "--json"]);
    let told = text(&tried.stderr);
    let places: Vec<_> =
        ["connecting to", "the router is `edge1`", "policy `replay`", "BadPackets = ", "proven: proof of"]
            .iter()
            .map(|step| told.find(step).unwrap_or_else(|| panic!("{step} in {told}")))
            .collect();
    assert!(places.is_sorted(), "{told}");
    let object = object(&tried);
    assert_eq!(object["dry_run"], true);
    assert_eq!(object["cost"].as_u64(), object["complexity"].as_u64().map(|c| c * 172_800));
    assert_eq!(lab.books().uploads, 0);
    assert!(text(&lab.run(&["firewall", "--block", "203.0.113.7", "--lifetime", "2d"]).stderr).is_empty());
}

#[test]
fn what_cannot_be_proven_is_told_by_its_line_and_never_uploaded() {
    let lab = Lab::new();
    lab.write("bad.vnp", "LIFETIME = 1 hour\nBad = GROUP_BY_SOURCE(AllPackets, X);\nDISCARD(Bad);\n");
    let refused = lab.run(&["upload", "bad.vnp", "--set", "X=203.0.113.7", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    let reason = object(&refused)["reason"].clone();
    assert_eq!(reason["code"], "not-proven");
    assert_eq!((reason["line"].as_u64(), reason["column"].as_u64()), (Some(2), Some(1)));
    let told = text(&refused.stderr);
    assert!(told.starts_with("bad.vnp:2:1: not-proven: no proof was found that the policy allows"), "{told}");
    assert!(told.contains(" 2 | Bad = GROUP_BY_SOURCE(AllPackets, X)"), "{told}");
    assert!(
        told.contains("\ncounterexample, as the reference interpreter runs it:\n  packet 1 from 203.0.113.7"),
        "{told}"
    );
    assert_eq!(reason["counterexample"]["packets"][0]["src"], "203.0.113.7");
    assert_eq!(lab.books().uploads, 0);
}

#[test]
fn a_proof_that_shows_nothing_is_told_by_the_line_and_never_uploaded() {
    let lab = Lab::new();
    lab.write("bad.vnp", "LIFETIME = 1 hour\nBad = GROUP_BY_SOURCE(AllPackets, 203.0.113.7);\nDISCARD(Bad);\n");
    std::fs::write(lab.path("any.proof"), [0, 0xff]).expect("a file in a temporary folder");
    for (more, told) in [(&["any.proof"][..], "not-proven: obligation 0"), (&["--mode", "static"], "not-analysed: ")] {
        let refused = lab.run(&[&["upload", "bad.vnp"], more].concat());
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).starts_with(&format!("bad.vnp:2:1: {told}")), "{}", text(&refused.stderr));
    }
    // The same from bytecode with its map.
    succeeds(&vinet_in(&lab, &["compile", "bad.vnp", "--as", "192.0.2.2", "-o", "bad.vnb"]));
    let refused = lab.run(&["upload", "bad.vnb", "any.proof"]);
    assert!(text(&refused.stderr).starts_with("bad.vnp:2:1: not-proven"), "{}", text(&refused.stderr));
    std::fs::remove_file(lab.path("bad.vnb.map")).expect("the map");
    let refused = lab.run(&["upload", "bad.vnb", "any.proof"]);
    assert!(
        text(&refused.stderr).starts_with("vinet: not-proven: obligation 0 (instruction 0)"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(lab.books().uploads, 0);
}

#[test]
fn what_the_router_rejects_is_told_by_the_line_and_changes_nothing() {
    let lab = Lab::new();
    let multicast = ["multicast", "--from", "203.0.113.9", "--lifetime", "5h"];
    let tried = object(&lab.run(&[&multicast[..], &["--dry-run", "--json"]].concat()));
    assert_eq!(tried["dry_run"], true);
    assert_eq!(lab.books().uploads, 0);
    let refused = lab.run(&[&multicast[..], &["--json"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    let told = text(&refused.stderr);
    assert!(told.starts_with(&format!("multicast.vnp:6:1: generate-unsupported: {UNSUPPORTED}\n")), "{told}");
    assert!(told.contains(" 6 | GENERATE(203.0.113.9, THIS_IP, Destinations)"), "{told}");
    assert_eq!(object(&refused)["reason"]["code"], "generate-unsupported");
    assert_eq!(lab.books().uploads, 1);
    assert!(lab.books().installed.is_empty());
}

#[test]
fn ones_own_lemmas_are_sent_once_and_cited_by_later_proofs() {
    let lab = Lab::new();
    lab.write(
        "a.vpf",
        "module a\nlemma first-of (P Q : Prop)\ngiven both: P and Q\nshows P\nproof { left(both) }\n\
         lemma last-of (P Q : Prop)\ngiven both: P and Q\nshows Q\nproof { right(both) }\n",
    );
    lab.write(
        "b.vpf",
        "lemma last-of-three (P Q R : Prop)\ngiven all: P and (Q and R)\nshows R\n\
         proof { a.last-of(a.last-of(all)) }\n",
    );
    lab.write("c.vpf", "lemma twice (P : Prop)\ngiven it: P\nshows P and P\nproof { both(it, it) }\n");
    let shipped = vinet_prover::library().len();
    let added = succeeds(&lab.run(&["lemma", "add", "a.vpf", "--json"]));
    let added: Vec<Value> = added.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(added.len(), 2);
    for (place, (object, name)) in added.iter().zip(["a.first-of", "a.last-of"]).enumerate() {
        assert_eq!((&object["index"], &object["name"]), (&(shipped + place).into(), &name.into()));
    }
    // The same again changes nothing.
    let again = succeeds(&lab.run(&["lemma", "add", "a.vpf"]));
    let root = added[1]["root"].as_str().expect("a root");
    assert_eq!(again.lines().last(), Some(format!("lemma {} is a.last-of; root {root}", shipped + 1).as_str()));
    // What comes behind others says so; a router that has them in another order gives no numbers that would not fit.
    let order = lab.run(&["lemma", "add", "c.vpf", "--json"]);
    assert_eq!((order.status.code(), &object(&order)["reason"]["code"]), (Some(1), &"lemma-order".into()));

    // A proof that cites one of them passes where the router is told that it may.
    succeeds(&lab.run(&["policy", "--output", "policy.toml"]));
    lab.write("f.vnp", &succeeds(&vinet(&["firewall", "--block", "203.0.113.7", "--lifetime", "2m", "--emit"])));
    succeeds(&vinet_in(&lab, &["compile", "f.vnp", "--as", "192.0.2.2", "-o", "f.vnb"]));
    lab.write("f.vpf", "obligation 0 { a.last-of(unfold(member)) }\n");
    let prove =
        ["prove", "f.vnb", "--policy", "policy.toml", "--as", "192.0.2.2", "-o", "f.proof", "--lemmas", "a.vpf"];
    succeeds(&vinet_in(&lab, &[&prove[..], &["--script", "f.vpf"]].concat()));
    let receipt = object(&lab.run(&["upload", "f.vnb", "f.proof", "--lemmas", "a.vpf", "--json"]));
    assert_eq!(receipt["instance"], 7);
    let refused = lab.run(&["upload", "f.vnb", "f.proof"]);
    assert!(text(&refused.stderr).contains("not-proven: obligation 0"), "{}", text(&refused.stderr));
    // Lemmas that the router has not are no ground to stand on there.
    let missing = lab.run(&["upload", "f.vnb", "f.proof", "--lemmas", "a.vpf", "--lemmas", "b.vpf"]);
    assert!(text(&missing.stderr).starts_with("vinet: stale-manifest: "), "{}", text(&missing.stderr));
}

#[test]
fn a_fetched_policy_proves_and_an_own_proof_is_accepted() {
    let lab = Lab::new();
    succeeds(&lab.run(&["policy", "--output", "policy.toml"]));
    let object_of = object(&lab.run(&["policy", "--json"]));
    assert_eq!((&object_of["router"], &object_of["principals"]), (&Value::from("edge1"), &Value::from("end-user")));
    let toml = std::fs::read_to_string(lab.path("policy.toml")).expect("the policy");
    assert_eq!(object_of["toml"], toml);
    assert_eq!(succeeds(&lab.run(&["policy"])), toml);
    assert_eq!(lab.run(&["policy", "--kind", "edge-router"]).status.code(), Some(1));
    lab.write("f.vnp", &succeeds(&vinet(&["firewall", "--block", "203.0.113.7", "--lifetime", "2m", "--emit"])));
    succeeds(&vinet_in(&lab, &["compile", "f.vnp", "--as", "192.0.2.2", "-o", "f.vnb"]));
    succeeds(&vinet_in(&lab, &["prove", "f.vnb", "--policy", "policy.toml", "--as", "192.0.2.2", "-o", "f.proof"]));
    let receipt = object(&lab.run(&["upload", "f.vnb", "f.proof", "--rate", "1234", "--json"]));
    assert_eq!((&receipt["packet_rate"], &receipt["policy"]), (&Value::from(1234), &object_of["policy"]));
    let analysed = object(&lab.run(&["upload", "f.vnp", "--mode", "static", "--json"]));
    assert_eq!((&analysed["program"], &analysed["proof_bytes"]), (&receipt["program"], &Value::from(0)));
}

/// A listener that does something else than a router to its first connection.
fn impostor(act: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    std::thread::spawn(move || act(listener.accept().expect("a connection").0));
    addr
}

#[track_caller]
fn fails(output: &Output, expected: &str) {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.starts_with(&format!("vinet: {expected}")), "told: {told}\nexpected: {expected}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_router_that_hangs_speaks_rubbish_or_goes_away_is_told_in_time() {
    let lab = Lab::new();
    let start = Instant::now();
    let silent = impostor(|stream| {
        std::thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    fails(
        &lab.run_at(&silent.to_string(), &["list", "--timeout", "1"]),
        "no answer within 1 s while introducing ourselves",
    );
    assert!(start.elapsed() < Duration::from_secs(10));
    let closing = impostor(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
    });
    fails(&lab.run_at(&closing.to_string(), &["list"]), "");
    let rubbish = impostor(|mut stream| {
        let _ = stream.write_all(&[0x55; 4096]);
        let _ = stream.read(&mut [0; 4096]);
    });
    fails(&lab.run_at(&rubbish.to_string(), &["list"]), "the session ended: ");
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    fails(&lab.run_at(&nobody.to_string(), &["list"]), &format!("no connection to {nobody}: Connection refused"));
    fails(
        &vinet_in(&lab, &["list", "--router", "192.0.2.1", "--identity", "me.key", "--authority", "authority.pub"]),
        "192.0.2.1 has no address",
    );
}

#[test]
fn strangers_are_not_talked_to() {
    let lab = Lab::new();
    fails(&lab.run(&["list", "--router-name", "edge2"]), "the session ended: ");
    let other = Lab::new();
    let authority = other.path("authority.pub");
    let authority = authority.to_str().expect("a plain path");
    fails(&lab.run(&["list", "--authority", authority]), "the session ended: ");
    let identity = other.path("me.key");
    fails(&lab.run(&["list", "--identity", identity.to_str().expect("a plain path")]), "the session ended: ");
    fails(&lab.run(&["list", "--identity", "router.key"]), "this identity is a router's");
    fails(&lab.run(&["list", "--identity", "nowhere.key"]), "");
}
