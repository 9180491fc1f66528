//! The paper's two listings over real captures, with the real `vinet`: what is lost is what tcpdump, which knows nothing of this
//! project, predicts. Needs no root.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use vinet_tests::keys::vinet;
use vinet_tests::process::run;
use vinet_tests::story::skip;

/// The firewall of the paper's Section II-A, as printed there.
const FIREWALL: &str = "LIFETIME = 2 days
MyPackets = GROUP_BY_DESTINATION(AllPackets,THIS_IP);
BadPackets = GROUP_BY_SOURCE(MyPackets,SrcIP);
DISCARD(BadPackets);
";

/// The spam filter of the same section.
const SPAM_FILTER: &str = "LIFETIME = 5 days
MyPackets = GROUP_BY_DESTINATION(AllPackets,THIS_IP);
SourceIP(i),Packets(i) = GROUP_BY_SOURCE(MyPackets);
foreach i do
  if CONTAINS_STRING(Packets(i),Word1)
  and CONTAINS_STRING(Packets(i),Word2) then
    DISCARD(Packets(i));
";

/// The captures, or none with a message where they are absent.
fn captures(story: &str) -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/traces");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        skip(story, &format!("there are no captures in {}", folder.display()));
        return None;
    };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "pcap")).collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no captures", folder.display());
    Some(files)
}

/// The lines that tcpdump prints for the packets of a capture that a filter passes.
fn tcpdump(capture: &Path, filter: &str) -> Vec<String> {
    let mut command = Command::new("tcpdump");
    command.args(["-nn", "-q", "-t", "-r"]).arg(capture).arg(filter);
    let lines = run(command, Duration::from_secs(30)).expect();
    lines.lines().filter(|l| !l.starts_with(char::is_whitespace)).map(str::to_string).collect()
}

/// `IP 192.0.2.1.80 > 192.0.2.2.1024: …` names the pair of addresses, with or without ports.
fn pair(line: &str) -> Option<(IpAddr, IpAddr)> {
    let mut words = line.split_whitespace();
    let family = words.next()?;
    let (from, arrow, to) = (words.next()?, words.next()?, words.next()?.trim_end_matches(':'));
    let address = |text: &str| {
        let without_port = match family {
            "IP" if text.split('.').count() == 5 => text.rsplit_once('.')?.0,
            "IP6" if text.contains('.') => text.rsplit_once('.')?.0,
            _ => text,
        };
        without_port.parse().ok()
    };
    (arrow == ">").then_some(())?;
    Some((address(from)?, address(to)?))
}

/// The pairs of addresses in a capture, the busiest first.
fn pairs(capture: &Path) -> Vec<(IpAddr, IpAddr)> {
    let mut counts: BTreeMap<(IpAddr, IpAddr), usize> = BTreeMap::new();
    for line in tcpdump(capture, "ip or ip6") {
        if let Some(pair) = pair(&line) {
            *counts.entry(pair).or_default() += 1;
        }
    }
    let mut pairs: Vec<_> = counts.into_iter().collect();
    pairs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    pairs.into_iter().map(|(pair, _)| pair).collect()
}

fn replay(words: &str) -> Value {
    let printed = vinet(&format!("replay {words} --json")).expect();
    serde_json::from_str(&printed).unwrap_or_else(|e| panic!("vinet replay: {e}: {printed}"))
}

#[test]
fn the_firewall_loses_exactly_what_tcpdump_predicts() {
    let Some(captures) = captures("the_firewall_loses_exactly_what_tcpdump_predicts") else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let source = dir.path().join("firewall.vnp");
    std::fs::write(&source, FIREWALL).expect("a file in a temporary folder");
    let out = dir.path().join("out.pcap");
    let mut lost_packets = 0;
    for capture in captures {
        let all = tcpdump(&capture, "").len();
        for (attacker, victim) in pairs(&capture).into_iter().take(3) {
            let proto = if victim.is_ipv4() { "ip" } else { "ip6" };
            let filter = format!("{proto} and src host {attacker} and dst host {victim}");
            let predicted = tcpdump(&capture, &filter).len();
            for more in ["", "--reference", "--window 8"] {
                let counted = replay(&format!(
                    "{} --set SrcIP={attacker} --as {victim} --in {} --out {} {more}",
                    source.display(),
                    capture.display(),
                    out.display()
                ));
                let at = format!("{} {attacker} > {victim} {more}: {counted}", capture.display());
                assert_eq!(counted["in"].as_u64(), Some(all as u64), "{at}");
                assert_eq!(counted["discarded"].as_u64(), Some(predicted as u64), "{at}");
                assert_eq!(counted["forwarded"].as_u64(), Some((all - predicted) as u64), "{at}");
                assert_eq!(counted["generated"].as_u64(), Some(0), "{at}");
                // The packets that are left are the very ones that the filter does not pass, in their order.
                assert_eq!(tcpdump(&out, ""), tcpdump(&capture, &format!("not ({filter})")), "{at}");
            }
            lost_packets += predicted;
        }
    }
    assert!(lost_packets > 100, "the captures exercise the firewall: {lost_packets} packets lost");
}

#[test]
fn the_spam_filter_replays_every_capture_like_the_reference() {
    let Some(captures) = captures("the_spam_filter_replays_every_capture_like_the_reference") else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let source = dir.path().join("spam.vnp");
    std::fs::write(&source, SPAM_FILTER).expect("a file in a temporary folder");
    let mut lost_packets = 0;
    for capture in captures {
        let all = tcpdump(&capture, "").len();
        for (_, victim) in pairs(&capture).into_iter().take(2) {
            // Words that these protocols really speak, so that some of the streams match.
            for (word1, word2) in [("HTTP", "Content"), ("MAIL", "RCPT"), ("SSH-", "diffie"), ("USER", "PASS")] {
                let command = |name: &str, more: &str| {
                    let out = dir.path().join(name);
                    let words = format!(
                        "{} --set Word1={word1} --set Word2={word2} --as {victim} --in {} --out {} {more}",
                        source.display(),
                        capture.display(),
                        out.display()
                    );
                    (replay(&words), tcpdump(&out, ""))
                };
                let (executed, left) = command("executed.pcap", "");
                let (meant, left_by_reference) = command("meant.pcap", "--reference");
                let at = format!("{} as {victim}, {word1} and {word2}", capture.display());
                assert_eq!(executed["in"].as_u64(), Some(all as u64), "{at}");
                assert_eq!(executed["discarded"], meant["discarded"], "{at}");
                assert_eq!(left, left_by_reference, "{at}");
                lost_packets += executed["discarded"].as_u64().expect("a count");
            }
        }
    }
    assert!(lost_packets > 0, "some capture holds both words of some pair");
}
