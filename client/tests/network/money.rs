//! Credits, prices, receipts; and requests that are sent again, or in parts.

use crate::lab::{Lab, object, objects, succeeds, text, vinet_in};
use serde_json::Value;
use vinet_session::Tariff;
use vinet_session::payment::Bank;

const FIREWALL: [&str; 5] = ["firewall", "--block", "203.0.113.7", "--lifetime", "2m"];

/// A laboratory whose router is paid, and a credit of 1000 for its user.
fn paid() -> Lab {
    let lab = Lab::new();
    succeeds(&vinet_in(&lab, &["bank", "init", "--out", "mint"]));
    let issue = ["bank", "issue", "--bank", "mint", "--to", "me.key", "--amount", "1000", "--router", "router.key"];
    succeeds(&vinet_in(&lab, &[&issue[..], &["--out", "credit"]].concat()));
    {
        let mut books = lab.books();
        books.bank = Some(Bank::load(&lab.path("mint/bank.pub")).expect("the bank"));
        books.tariff = Tariff { install: 30, ..Tariff::FREE };
    }
    lab
}

#[track_caller]
fn refused(output: &std::process::Output, code: &str) {
    assert_eq!(output.status.code(), Some(1), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stderr).starts_with(&format!("vinet: {code}: ")), "{}", text(&output.stderr));
}

#[test]
fn a_credit_pays_for_programs_and_every_step_has_its_receipt() {
    let lab = paid();
    refused(&lab.run(&FIREWALL), "no-money");
    let deposited = object(&lab.run(&["deposit", "credit", "--json"]));
    assert_eq!((&deposited["given_back"], &deposited["balance"]), (&1000.into(), &1000.into()));
    assert_eq!(object(&lab.run(&["deposit", "credit", "--json"])), deposited, "once is enough");
    let dry = object(&lab.run(&[&FIREWALL[..], &["--dry-run", "--json"]].concat()));
    assert_eq!(dry["price"], 30);
    let receipt = object(&lab.run(&[&FIREWALL[..], &["--json"]].concat()));
    assert_eq!((&receipt["paid"], &receipt["balance"], &receipt["monitor"]), (&30.into(), &970.into(), &false.into()));
    let words = succeeds(&lab.run(&[&FIREWALL[..], &["--pay", "50", "--monitor"]].concat()));
    assert!(words.contains("for 2 minutes (counting only): ") && words.contains(", 50 credits paid"), "{words}");
    refused(&lab.run(&[&FIREWALL[..], &["--pay", "29"]].concat()), "price");
    refused(&lab.run(&[&FIREWALL[..], &["--pay", "921"]].concat()), "no-money");
    let renewed = object(&lab.run(&["renew", "8", "--json"]));
    assert_eq!(
        (&renewed["subject"], &renewed["instance"], &renewed["paid"]),
        (&"renewed".into(), &8.into(), &50.into())
    );
    refused(&lab.run(&["renew", "99"]), "not-found");
    let balance = object(&lab.run(&["balance", "--json"]));
    assert_eq!((&balance["balance"], &balance["held"], &balance["receipts"]), (&870.into(), &0.into(), &4.into()));
    let receipts = objects(&lab.run(&["receipts", "--json"]));
    let subjects: Vec<&str> = receipts.iter().filter_map(|receipt| receipt["subject"].as_str()).collect();
    assert_eq!(subjects, ["deposited", "installed", "installed", "renewed"]);
    assert_eq!(receipts.last().map(|receipt| &receipt["balance"]), Some(&Value::from(870)));
    assert!(succeeds(&lab.run(&["receipts"])).ends_with("4 receipts of router `edge1`, one chain, balance 870\n"));
}

#[test]
fn a_quote_holds_when_the_tariff_rises() {
    let lab = paid();
    succeeds(&lab.run(&["deposit", "credit"]));
    lab.write("f.vnp", &succeeds(&vinet_in(&lab, &[&FIREWALL[..], &["--emit"]].concat())));
    let quote = object(&lab.run(&["quote", "f.vnp", "-o", "quote", "--json"]));
    assert_eq!((&quote["price"], &quote["lifetime_s"]), (&30.into(), &120.into()));
    lab.books().tariff = Tariff { install: 500, ..Tariff::FREE };
    let receipt = object(&lab.run(&["upload", "f.vnp", "--quote", "quote", "--json"]));
    assert_eq!(receipt["paid"], 30);
    assert_eq!(object(&lab.run(&["upload", "f.vnp", "--json"]))["paid"], 500);
    refused(&lab.run(&["upload", "f.vnp", "--quote", "quote", "--rate", "7"]), "quote-differs");
}

#[test]
fn a_router_that_rewrites_its_receipts_is_caught() {
    let lab = paid();
    succeeds(&lab.run(&["deposit", "credit"]));
    succeeds(&lab.run(&FIREWALL));
    succeeds(&lab.run(&FIREWALL));
    succeeds(&lab.run(&["receipts"]));
    let forget = |lab: &Lab| lab.books().chains.values_mut().for_each(|chain| drop(chain.pop()));
    // It forgets one; then it tells another in its place.
    forget(&lab);
    refused(&lab.run(&["receipts"]), "history-rewritten");
    succeeds(&lab.run(&[&FIREWALL[..], &["--pay", "31"]].concat()));
    refused(&lab.run(&["receipts"]), "history-rewritten");
    // One from the middle is missed by the chain itself.
    lab.books().chains.values_mut().for_each(|chain| drop(chain.remove(1)));
    refused(&lab.run(&["receipts"]), "receipts-do-not-stand");
    // What is left of the user's memory is no state of this crate's making.
    let heads: Vec<_> = std::fs::read_dir(lab.path("state")).expect("a folder").flatten().collect();
    assert_eq!(heads.len(), 1);
}

#[test]
fn what_is_no_credit_for_here_is_refused_before_it_is_sent_or_by_the_router() {
    let lab = paid();
    let bad = vinet_in(
        &lab,
        &["bank", "issue", "--bank", "mint", "--to", "nobody", "--amount", "1", "--router", "router.key", "--out", "x"],
    );
    assert_eq!(bad.status.code(), Some(2));
    assert!(text(&bad.stderr).contains("`nobody` is neither a public key"), "{}", text(&bad.stderr));
    let to_router =
        ["bank", "issue", "--bank", "mint", "--to", "router.key", "--amount", "1", "--router", "router.key"];
    succeeds(&vinet_in(&lab, &[&to_router[..], &["--out", "not-mine"]].concat()));
    refused(&lab.run(&["deposit", "not-mine"]), "credit-not-yours");
    succeeds(&vinet_in(&lab, &["bank", "init", "--out", "other"]));
    let forged = ["bank", "issue", "--bank", "other", "--to", "me.key", "--amount", "1", "--router", "router.key"];
    succeeds(&vinet_in(&lab, &[&forged[..], &["--out", "forged"]].concat()));
    refused(&lab.run(&["deposit", "forged"]), "credit-forged");
    assert_eq!(lab.run(&["deposit", "me.key"]).status.code(), Some(2));
}

#[test]
fn a_lost_reply_is_asked_for_again_and_nothing_is_done_twice() {
    let lab = paid();
    lab.books().lose = 2;
    succeeds(&lab.run(&["deposit", "credit"]));
    assert_eq!(lab.books().lose, 0);
    let answer = object(&lab.run(&["balance", "--json"]));
    assert_eq!(answer["balance"], 1000);
    // The policy's reply and then the upload's: each is lost.
    for lose in [1, 2] {
        lab.books().lose = lose;
        succeeds(&lab.run(&FIREWALL));
    }
    lab.books().lose = 1;
    succeeds(&lab.run(&["renew", "7", "--pay", "5"]));
    let balance = object(&lab.run(&["balance", "--json"]));
    assert_eq!((&balance["balance"], &balance["receipts"]), (&(1000 - 30 - 30 - 5).into(), &4.into()));
    assert_eq!(lab.books().installed.len(), 2);
    // A router that always goes away is given up.
    lab.books().lose = 1000;
    let gone = lab.run(&["balance"]);
    assert_eq!(gone.status.code(), Some(2));
    let lost = 1000 - lab.books().lose;
    assert!((2..=6).contains(&lost), "{lost} times");
}

/// A firewall against so many senders that it is longer than a part.
fn long_firewall(lab: &Lab) {
    let scattered = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let senders: Vec<String> = (0..6000)
        .map(|i| std::net::Ipv6Addr::from(u128::from(scattered(i)) << 64 | u128::from(scattered(i + 6000))).to_string())
        .collect();
    let text = format!(
        "LIFETIME = 2 minutes\nMine = GROUP_BY_DESTINATION(AllPackets, THIS_IP);\n\
         Bad = GROUP_BY_SOURCE(Mine, {{{}}});\nDISCARD(Bad);\n",
        senders.join(", ")
    );
    lab.write("long.vnp", &text);
}

#[test]
fn a_long_upload_goes_in_parts_and_on_from_where_it_was() {
    let lab = Lab::new();
    long_firewall(&lab);
    let first = object(&lab.run(&["upload", "long.vnp", "--json"]));
    let parts = lab.books().parts;
    assert!(parts >= 3 && lab.books().uploads == 1, "{parts} parts");
    // The connection breaks on the first bytes' answer: they are not sent again.
    lab.books().parts = 0;
    lab.books().lose = 3;
    let second = object(&lab.run(&["upload", "long.vnp", "--json"]));
    assert_eq!((&first["program"], &second["instance"]), (&second["program"], &8.into()));
    assert!(lab.books().parts <= parts + 3, "{} parts", lab.books().parts);
    assert_eq!(lab.books().installed.len(), 2);
}
