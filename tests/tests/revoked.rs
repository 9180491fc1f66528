//! Keys that the authority has revoked: whoever brings the list, nothing of theirs goes on.

use std::net::IpAddr;
use std::time::Duration;

use vinet_tests::client::Client;
use vinet_tests::keys;
use vinet_tests::lab::{ATTACKER, LAWFUL, Lab, VICTIM};
use vinet_tests::process::eventually;
use vinet_tests::router::{Config, Router};
use vinet_tests::story;
use vinet_tests::traffic::{ping, reaches};

const LEARN_LIMIT: Duration = Duration::from_secs(5);
const END_LIMIT: Duration = Duration::from_secs(5);

#[test]
fn a_revoked_key_loses_its_programs_and_is_not_heard_again() {
    let Some(_story) = story::begin("a_revoked_key_loses_its_programs_and_is_not_heard_again") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config::default());
    let (victim, lawful) = (IpAddr::from(VICTIM), IpAddr::from(LAWFUL));
    for to in [victim, lawful] {
        assert!(reaches(&lab.attacker, to, LEARN_LIMIT));
    }
    let owner = Client::new(&lab, &lab.victim, &victim.to_string(), "192.0.2.1:7400");
    let other = Client::new(&lab, &lab.lawful, &lawful.to_string(), "203.0.113.1:7400");
    for client in [&owner, &other] {
        client.install(&format!("firewall --block {ATTACKER} --lifetime 10m"));
    }
    assert_eq!((ping(&lab.attacker, victim, 3, ""), ping(&lab.attacker, lawful, 3, "")), (0, 0));

    // The other owner brings what the authority has signed.
    let (ca, key) = (lab.dir().display(), keys::identity(lab.dir(), &victim.to_string()));
    other.run(&format!("ca revoke --ca {ca} {}", key.display())).expect();
    assert!(eventually(END_LIMIT, || ping(&lab.attacker, victim, 1, "") == 1), "its program has ended");
    for words in ["list", "firewall --block 198.51.100.2 --lifetime 10m"] {
        let refused = owner.run(words);
        assert!(refused.code != Some(0) && refused.stderr.contains("revoked"), "{refused}");
    }
    // Nobody else's is touched, and an older list changes nothing.
    assert_eq!(ping(&lab.attacker, lawful, 3, ""), 0);
    std::fs::remove_file(lab.dir().join("revoked")).expect("the list that was signed");
    let older = other.run(&format!("ca revoke --ca {ca}"));
    assert!(older.ok() && older.stdout.contains("goes by list 1"), "{older}");
    assert!(!owner.run("list").ok());
    assert_eq!(other.list().len(), 1);
    assert_eq!(router.counters().unaccounted(), 0);
}
