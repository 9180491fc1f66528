//! The programs of configs/programs: each says in its head how it is compiled, and is in the one layout.

use std::path::{Path, PathBuf};
use vinet_client::disasm::listing;
use vinet_client::lang::{compile, format, prefix};
use vinet_client::template;
use vinet_trusted::addr::{Addr, Principal};
use vinet_trusted::program::Program;

/// The listings of the paper stand as they are printed there.
const PAPER: [&str; 3] = ["firewall.vnp", "multicast.vnp", "spam-filter.vnp"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/programs")
}

pub(super) fn owner(text: &str) -> Principal {
    let addr = |text: &str| Addr::from(text.parse::<std::net::IpAddr>().expect("an address"));
    match text.split_once('/') {
        Some((ip, len)) => Principal::edge_router(addr(ip), len.parse().expect("a length")).expect("a prefix"),
        None => Principal::EndUser(addr(text)),
    }
}

/// The names and texts of all programs, in order.
pub(super) fn programs() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder()).expect("configs/programs");
    let mut all: Vec<(String, String)> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a plain name");
            (name, std::fs::read_to_string(entry.path()).expect("a text"))
        })
        .collect();
    all.sort();
    all
}

/// The program of a text that says in a line `# compile: --as … --set …` how it is compiled.
pub(super) fn compiled(name: &str, text: &str) -> (Program, Principal) {
    let line = text.lines().find_map(|line| line.strip_prefix("# compile: "));
    let mut words = line.unwrap_or_else(|| panic!("{name} says how it is compiled")).split(' ');
    let (mut principal, mut set) = (None, Vec::new());
    while let Some(option) = words.next() {
        let value = words.next().unwrap_or_else(|| panic!("{name}: a value behind {option}"));
        match option {
            "--as" => principal = Some(owner(value)),
            "--set" => set.push(value),
            other => panic!("{name}: {other}"),
        }
    }
    let owner = principal.unwrap_or_else(|| panic!("{name}: --as"));
    let compiled = compile(name, text, &super::settings(&set), &owner).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(compiled.map.hints(&compiled.program), compiled.hints, "{name}");
    (compiled.program, owner)
}

#[test]
fn every_shipped_program_compiles_and_its_listing_to_the_same_bytes() {
    let all = programs();
    assert!(all.len() >= 25, "{} programs", all.len());
    for (name, text) in &all {
        assert!(text.starts_with("# "), "{name} says what it is for");
        let (program, owner) = compiled(name, text);
        let text = listing(&program);
        let again = compile(name, &text, &[], &owner).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        assert_eq!(again.program.encode(), program.encode(), "{text}");
    }
}

#[test]
fn every_shipped_program_but_the_papers_is_in_the_one_layout() {
    for (name, text) in programs() {
        let tidy = format(&name, &text).unwrap_or_else(|errors| panic!("{errors}"));
        let (program, _) = compiled(&name, &text);
        assert_eq!(compiled(&name, &tidy).0, program, "{name}");
        assert!(PAPER.contains(&name.as_str()) || tidy == text, "{name} should be\n{tidy}");
    }
}

#[test]
fn written_programs_compile_and_are_in_the_one_layout() {
    let prefixes: Vec<_> =
        ["203.0.113.7", "198.51.100.0/24", "2001:db8::/32"].map(|text| prefix(text).expect("a prefix")).into();
    let words: Vec<Vec<u8>> = (0..12u8).map(|i| vec![b'w', i, b'"', b'\\', 0xff]).collect();
    let sender = prefixes[0].addr();
    for owner in ["192.0.2.2", "192.0.2.1/24", "2001:db8::2"].map(owner) {
        for text in [
            template::firewall(&prefixes[..1], 120, &owner),
            template::firewall(&prefixes, 172_800, &owner),
            template::spam(&words[..1], 1, &owner),
            template::spam(&words, 90, &owner),
            template::multicast(sender, 18_000, &owner),
        ] {
            compile("w.vnp", &text, &[], &owner).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
            assert_eq!(format("w.vnp", &text).expect("a program"), text);
        }
    }
    let paper = std::fs::read_to_string(folder().join("multicast.vnp")).expect("a text");
    let owner = owner("192.0.2.1/24");
    assert_eq!(
        compile("w.vnp", &template::multicast(Addr::V4(0xcb00_7109), 18_000, &owner), &[], &owner)
            .expect("compiles")
            .program,
        compiled("multicast.vnp", &paper).0
    );
}
