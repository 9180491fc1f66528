//! Commands that carry their session.

use crate::lab::{Lab, objects, succeeds, text};
use std::os::unix::fs::PermissionsExt;

fn tickets(lab: &Lab) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(lab.path("state")).expect("the state folder");
    folder.map(|entry| entry.expect("a file").path()).collect()
}

#[test]
fn the_second_command_needs_no_handshake() {
    let lab = Lab::new();
    let told = |args: &[&str]| {
        let output = lab.run(&[args, &["--sealed", "-v"]].concat());
        (succeeds(&output), text(&output.stderr))
    };
    let (_, how) = told(&["list"]);
    assert!(how.contains("no ticket: a handshake"), "{how}");
    let [ticket] = &tickets(&lab)[..] else { panic!("{:?}", tickets(&lab)) };
    assert_eq!(std::fs::metadata(ticket).expect("the ticket").permissions().mode() & 0o777, 0o600);
    for _ in 0..3 {
        let (_, how) = told(&["firewall", "--block", "203.0.113.7", "--lifetime", "2m"]);
        assert!(how.contains("asking with a ticket"), "{how}");
    }
    assert_eq!(lab.books().handshakes, 1);
    assert_eq!(objects(&lab.run(&["list", "--json", "--sealed"])).len(), 3);
    assert_eq!(lab.books().handshakes, 1);
    // Without the option nothing is carried, and the ticket stays.
    lab.run(&["list"]);
    assert_eq!((lab.books().handshakes, tickets(&lab).len()), (2, 1));
}

#[test]
fn a_ticket_that_is_refused_is_followed_by_a_handshake_and_another_ticket() {
    let lab = Lab::new();
    succeeds(&lab.run(&["list", "--sealed"]));
    lab.books().restarts = true;
    let firewall = ["firewall", "--block", "203.0.113.7", "--lifetime", "2m", "--sealed"];
    succeeds(&lab.run(&firewall));
    assert_eq!(lab.books().handshakes, 2);
    assert_eq!(objects(&lab.run(&["list", "--json", "--sealed"])).len(), 1, "asked twice, done once");
    assert_eq!(lab.books().handshakes, 2, "with the ticket of the second handshake");
    // A damaged one is as none.
    let [ticket] = &tickets(&lab)[..] else { panic!("{:?}", tickets(&lab)) };
    std::fs::write(ticket, b"rubbish").expect("the ticket");
    succeeds(&lab.run(&["list", "--sealed"]));
    assert_eq!(lab.books().handshakes, 3);
}

#[test]
fn copies_of_a_ticket_are_not_taken_twice() {
    let lab = Lab::new();
    succeeds(&lab.run(&["list", "--sealed"]));
    let [ticket] = &tickets(&lab)[..] else { panic!("{:?}", tickets(&lab)) };
    let copy = std::fs::read(ticket).expect("the ticket");
    succeeds(&lab.run(&["list", "--sealed"]));
    std::fs::write(ticket, copy).expect("the ticket");
    // Its request was counted already: the router refuses it, and the command goes on with a handshake.
    succeeds(&lab.run(&["list", "--sealed"]));
    assert_eq!(lab.books().handshakes, 2);
}
