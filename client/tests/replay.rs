//! Replay of real captures: the executor against the reference interpreter, and the firewall against tcpdump.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use vinet_client::lang::{compile, word};
use vinet_client::pcap::{Capture, Packet, Writer};
use vinet_client::replay::{Counts, Engine, builtin_policy, checked, replay};
use vinet_pktops::parse::headers_snapped;
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::packet::Test;
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::{ALL_PACKETS, AddrExpr, AddrTerm, Field, Instr, Program};

const FIREWALL: &str = include_str!("../../configs/programs/firewall.vnp");
const SPAM: &str = include_str!("../../configs/programs/spam-filter.vnp");

/// The captures, or none with a message where their folder is missing.
fn captures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/traces");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is absent", folder.display());
        return Vec::new();
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pcap"));
    files.sort();
    assert!(!files.is_empty(), "{} holds no captures", folder.display());
    files
}

fn addrs(packet: &Packet<'_>) -> Option<(Addr, Addr)> {
    let headers = headers_snapped(packet.bytes, packet.wire_len as usize + 64).ok()?;
    Some((headers.src, headers.dst))
}

/// The pairs of addresses of a capture, the busiest first.
fn pairs(capture: &Capture<'_>) -> Vec<(Addr, Addr)> {
    let mut counts: BTreeMap<(Addr, Addr), usize> = BTreeMap::new();
    for pair in capture.packets().iter().filter_map(addrs) {
        *counts.entry(pair).or_default() += 1;
    }
    let mut pairs: Vec<_> = counts.into_iter().collect();
    pairs.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    pairs.into_iter().map(|(pair, _)| pair).collect()
}

fn program(text: &str, settings: &[(&str, &str)], owner: &Principal) -> Program {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    compile("p.vnp", text, &settings, owner).unwrap_or_else(|errors| panic!("{errors}")).program
}

fn policy(owner: &Principal) -> Arc<Policy> {
    Arc::new(builtin_policy(PrincipalKind::of(owner), 32))
}

fn executor(program: &Program, owner: &Principal) -> Engine {
    let policy = policy(owner);
    let checked = checked(program, owner, &policy, &[]).unwrap_or_else(|error| panic!("{error}"));
    Engine::executor(checked).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs both engines, with several sizes of bursts; they have to agree to the byte.
fn both(capture: &Capture<'_>, program: &Program, owner: &Principal, at: &str) -> (Vec<u8>, Counts) {
    let reference =
        replay(capture, &mut Engine::reference(program, owner, &policy(owner)), 32).expect("every name is set");
    for burst_len in [1, 32, 1000] {
        let mut engine = executor(program, owner);
        let executed = replay(capture, &mut engine, burst_len).expect("every name is set");
        assert!(executed == reference, "{at}: executor and reference differ at bursts of {burst_len}");
        assert_eq!(engine.evictions(), 0, "{at}");
    }
    assert_eq!(reference.1.packets, reference.1.forwarded + reference.1.discarded, "{at}");
    reference
}

/// What tcpdump leaves of a capture; the file is byte for byte what is compared.
fn tcpdump(capture: &Path, filter: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.pcap");
    let mut command = Command::new("tcpdump");
    command.args(["-Z", "root", "-r"]).arg(capture).arg("-w").arg(&out).arg(filter);
    let done = command.output().expect("tcpdump is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::read(out).expect("tcpdump's file")
}

#[test]
fn the_firewall_loses_exactly_what_tcpdump_predicts() {
    let mut lost = 0;
    for path in captures() {
        let bytes = std::fs::read(&path).expect("the capture");
        let capture = Capture::read(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for (attacker, victim) in pairs(&capture).into_iter().take(4) {
            let at = format!("{} {attacker} > {victim}", path.display());
            let owner = Principal::EndUser(victim);
            let program = program(FIREWALL, &[("SrcIP", &attacker.to_string())], &owner);
            let (out, counts) = both(&capture, &program, &owner, &at);
            let family = if matches!(victim, Addr::V4(_)) { "ip" } else { "ip6" };
            let left = tcpdump(&path, &format!("not ({family} src {attacker} and {family} dst {victim})"));
            let left = Capture::read(&left).expect("tcpdump writes captures");
            let out = Capture::read(&out).expect("replay writes captures");
            assert!(
                out.packets() == left.packets(),
                "{at}: {} left, {} predicted",
                out.packets().len(),
                left.packets().len()
            );
            assert_eq!(counts.forwarded as usize, left.packets().len(), "{at}");
            lost += counts.discarded;
        }
    }
    if !captures().is_empty() {
        assert!(lost > 1000, "{lost} packets were lost");
    }
}

#[test]
fn the_spam_filter_agrees_with_the_reference_on_every_capture() {
    let mut lost = 0;
    for path in captures() {
        let bytes = std::fs::read(&path).expect("the capture");
        let capture = Capture::read(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for (_, victim) in pairs(&capture).into_iter().take(3) {
            let owner = Principal::EndUser(victim);
            for (first, second) in [("HTTP", "\"\\r\\n\\r\\n\""), ("USER", "PASS"), ("MAIL", "RCPT"), ("SSH-", "e")] {
                let at = format!("{} to {victim}, {first} and {second}", path.display());
                let program = program(SPAM, &[("Word1", first), ("Word2", second)], &owner);
                let (_, counts) = both(&capture, &program, &owner, &at);
                lost += counts.discarded;
            }
        }
    }
    if !captures().is_empty() {
        assert!(lost > 100, "{lost} packets were lost");
    }
}

#[test]
fn a_replay_that_loses_nothing_gives_the_same_file() {
    for path in captures() {
        let bytes = std::fs::read(&path).expect("the capture");
        let capture = Capture::read(&bytes).expect("a capture");
        let owner = Principal::EndUser(Addr::V4(0x7f00_0001));
        let program = program(FIREWALL, &[("SrcIP", "127.0.0.2")], &owner);
        let (out, counts) = both(&capture, &program, &owner, &path.display().to_string());
        assert!(out == bytes, "{}", path.display());
        assert_eq!(counts.discarded, 0);
    }
}

/// A frame from 203.0.113.7 to 192.0.2.2, with `payload` of TCP at `seq`.
fn segment(seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 203, 0, 113, 7, 192, 0, 2, 2];
    ip[2..4].copy_from_slice(&(40 + payload.len() as u16).to_be_bytes());
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&folded.to_be_bytes());
    let mut tcp = vec![0x04, 0, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0];
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    frame.extend(ip);
    frame.extend(tcp);
    frame.extend(payload);
    frame
}

/// An empty capture with the given packets, each `(bytes captured, bytes on the wire)`.
fn capture_of(packets: &[(Vec<u8>, u32)]) -> Vec<u8> {
    let mut header = 0xa1b2_c3d4u32.to_le_bytes().to_vec();
    header.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
    let mut writer = Writer::new(Capture::read(&header).expect("a header").form());
    for (bytes, wire_len) in packets {
        writer.push(&Packet { seconds: 1, nanoseconds: 0, wire_len: *wire_len, bytes });
    }
    writer.finish()
}

fn spam_over(packets: &[(Vec<u8>, u32)]) -> Counts {
    let owner = Principal::EndUser(Addr::V4(0xc000_0202));
    let program = program(SPAM, &[("Word1", "lottery"), ("Word2", "winner")], &owner);
    let bytes = capture_of(packets);
    both(&Capture::read(&bytes).expect("a capture"), &program, &owner, "segments").1
}

fn whole(frame: Vec<u8>) -> (Vec<u8>, u32) {
    let len = frame.len() as u32;
    (frame, len)
}

#[test]
fn words_are_found_across_segments_in_any_order() {
    let text = b"you are a winner of the lottery today";
    let parts = [(0, 7), (7, 12), (12, 28), (28, text.len())];
    let part = |(from, to): (usize, usize)| whole(segment(1000 + from as u32, &text[from..to]));
    let orders: [&[usize]; 4] = [&[0, 1, 2, 3], &[3, 2, 1, 0], &[2, 0, 3, 1], &[0, 0, 1, 3, 2, 2]];
    for order in orders {
        let packets: Vec<_> = order.iter().map(|&i| part(parts[i])).collect();
        let counts = spam_over(&packets);
        assert!(counts.discarded >= 1, "{order:?}");
    }
    // With a hole in a word there is no word.
    let packets: Vec<_> = [0, 1, 3].map(|i| part(parts[i])).into();
    assert_eq!(spam_over(&packets).discarded, 0);
}

#[test]
fn bytes_that_the_capture_left_out_were_never_seen() {
    let text = b"a winner of the lottery";
    let full = segment(1, text);
    let len = full.len() as u32;
    assert_eq!(spam_over(&[(full.clone(), len)]).discarded, 1);
    let cut = (full[..full.len() - 4].to_vec(), len);
    let counts = spam_over(std::slice::from_ref(&cut));
    assert_eq!((counts.discarded, counts.cut), (0, 1));
    // What comes again fills the hole.
    assert_eq!(spam_over(&[cut, (full, len)]).discarded, 1);
}

#[test]
fn what_no_program_sees_is_forwarded() {
    let arp = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 8, 6], &[0; 28]].concat();
    let mut bad_sum = segment(1, b"winner lottery");
    bad_sum[24] ^= 1;
    let packets = [whole(arp), whole(bad_sum), whole(vec![]), whole(vec![1, 2, 3])];
    let counts = spam_over(&packets);
    assert_eq!((counts.forwarded, counts.discarded, counts.unseen), (4, 0, 4));
}

/// What goes to the owner is grouped by content, and told to the owner instead.
fn deduplicator() -> Program {
    let to_owner = AddrExpr { this_ip: true, ..AddrExpr::default() };
    let generate = |data| Instr::Generate { src: AddrTerm::ThisIp, dst: AddrTerm::ThisIp, data };
    let body = vec![
        Instr::Select { out: 1, arg: ALL_PACKETS, test: Test::In { field: Field::Dst, addrs: to_owner } },
        Instr::Content { dests: 2, contents: 3, arg: 1 },
        Instr::Discard { arg: 1 },
        generate(2),
        generate(3),
    ];
    Program::new(60, 0, Vec::new(), body).expect("well-formed")
}

#[test]
fn a_windowed_program_is_given_full_windows_and_what_it_makes_stands_behind_them() {
    let owner = Principal::EndUser(Addr::V4(0xc000_0202));
    let program = deduplicator();
    let strange = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 8, 6], &[0; 28]].concat();
    let mut packets: Vec<_> = (0..5).map(|_| whole(segment(1, b"the same"))).collect();
    packets.insert(2, whole(strange));
    let bytes = capture_of(&packets);
    let capture = Capture::read(&bytes).expect("a capture");
    for (window, windows) in [(2, 3), (5, 1), (32, 1), (1, 5)] {
        let reference = &mut Engine::reference(&program, &owner, &policy(&owner));
        let (out, counts) = replay(&capture, reference, window).expect("every name is set");
        let both = replay(&capture, &mut executor(&program, &owner), window).expect("every name is set");
        assert!(both == (out.clone(), counts), "executor and reference differ at windows of {window}");
        assert_eq!((counts.packets, counts.forwarded, counts.discarded), (6, 1, 5));
        // Two GENERATEs of each window, each in one packet.
        assert_eq!((counts.generated, counts.unsent), (2 * windows, 0), "windows of {window}");
        let out = Capture::read(&out).expect("replay writes captures");
        assert_eq!(out.packets().len() as u64, 1 + 2 * windows);
        // With windows of two, the first window ends before the strange packet, the others behind it.
        let strange_at = out.packets().iter().position(|packet| packet.bytes[..6] == [0xff; 6]);
        let before = if window <= 2 { 2 * 2 / window } else { 0 };
        assert_eq!(strange_at, Some(before), "windows of {window}");
        let made = out.packets().iter().filter_map(|packet| addrs(packet));
        assert!(made.clone().count() as u64 == 2 * windows && made.into_iter().all(|(src, dst)| src == dst));
    }
}

#[test]
fn words_of_a_command_line_are_text_or_literals() {
    assert_eq!(word("a b"), Ok(b"a b".to_vec()));
    assert_eq!(word("\"\\x00\\n\""), Ok(vec![0, b'\n']));
    assert!(word("").is_err() && word("\"\"").is_err() && word("\"a\"b").is_err() && word("\"a").is_err());
    assert!(word(&"x".repeat(65)).is_err());
}
