//! What is shipped works: the programs of configs/programs and of docs/LANGUAGE.md compile and are proven.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use vinet_client::lang::{compile, setting};
use vinet_client::replay::{Engine, builtin_policy, checked};
use vinet_client::{disasm, template};
use vinet_session::identity::parse_principal;
use vinet_session::policy_file;
use vinet_trusted::addr::Principal;
use vinet_trusted::policy::PrincipalKind;
use vinet_trusted::program::Program;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn settings(texts: &[&str]) -> Vec<(String, String)> {
    texts.iter().map(|text| setting(text).expect("a setting")).collect()
}

fn owner(text: &str) -> Principal {
    parse_principal(text).expect("a principal")
}

/// Each shipped program with an owner and values for its parameters.
const PROGRAMS: &[(&str, &str, &[&str])] = &[
    ("allow-list.vnp", "192.0.2.2", &["Friends={192.0.2.10,198.51.100.0/24}"]),
    ("firewall-ipv6.vnp", "2001:db8::2", &["Lawful=2001:db8::80"]),
    ("firewall-set.vnp", "192.0.2.2", &[]),
    ("firewall.vnp", "192.0.2.2", &["SrcIP=203.0.113.7"]),
    ("quarantine.vnp", "192.0.2.2", &["Home=192.0.2.0/24", "Helper=198.51.100.7", "Signature=\"\\xeb\\xfe\""]),
    ("spam-by-source.vnp", "192.0.2.2", &["Suspects=203.0.113.0/24"]),
    ("spam-filter.vnp", "192.0.2.2", &["Word1=lottery", "Word2=winner"]),
    ("subnet-firewall.vnp", "192.0.2.1/24", &["Attackers=203.0.113.0/24"]),
    ("subnet-two-rules.vnp", "192.0.2.1/24", &["Outside=198.51.100.0/24"]),
];

/// Proves the program, checks the proof and lowers the program, under the shipped policy of the owner's kind.
fn runs(name: &str, program: &Program, owner: &Principal) {
    let policy = match PrincipalKind::of(owner) {
        PrincipalKind::EndUser => "end-user.toml",
        PrincipalKind::EdgeRouter => "edge-router.toml",
    };
    let policy = policy_file::load(&root().join("configs/policy").join(policy)).expect("the shipped policy");
    for policy in [policy, builtin_policy(PrincipalKind::of(owner))] {
        let checked = checked(program, owner, &Arc::new(policy)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Engine::executor(checked).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn every_shipped_program_compiles_and_is_proven() {
    let folder = root().join("configs/programs");
    let mut found: Vec<String> = std::fs::read_dir(&folder)
        .expect("configs/programs")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .collect();
    found.sort();
    let known: Vec<&str> = PROGRAMS.iter().map(|&(name, ..)| name).collect();
    assert_eq!(found, known, "every program of configs/programs stands in PROGRAMS");
    for (name, principal, set) in PROGRAMS {
        let text = std::fs::read_to_string(folder.join(name)).expect("the program");
        assert!(text.starts_with('#'), "{name} says what it is for");
        let owner = owner(principal);
        let compiled = compile(name, &text, &settings(set), &owner).unwrap_or_else(|errors| panic!("{errors}"));
        runs(name, &compiled.program, &owner);
        let listing = disasm::listing(&compiled.program);
        let again = compile(name, &listing, &[], &owner).unwrap_or_else(|errors| panic!("{errors}\n{listing}"));
        assert_eq!(again.program, compiled.program, "{listing}");
    }
}

#[test]
fn the_papers_listings_stand_in_the_shipped_programs_as_printed() {
    let paper = root().join("../shared/paper.txt");
    let Ok(paper) = std::fs::read_to_string(&paper) else {
        println!("skipped: {} is absent", paper.display());
        return;
    };
    for name in ["firewall.vnp", "spam-filter.vnp"] {
        let text = std::fs::read_to_string(root().join("configs/programs").join(name)).expect("the program");
        let listing: String = text.lines().skip_while(|line| line.starts_with('#')).map(|l| format!("{l}\n")).collect();
        assert!(paper.contains(&format!("```\n{listing}```")), "{name}");
    }
}

#[test]
fn every_example_of_the_language_page_does_what_it_says() {
    let page = std::fs::read_to_string(root().join("docs/LANGUAGE.md")).expect("the page");
    let (mut programs, mut errors) = (0, 0);
    let mut blocks = page.split("\n```").skip(1).step_by(2);
    for block in &mut blocks {
        let (info, text) = block.split_once('\n').expect("a fence of its own line");
        let text = format!("{text}\n");
        let mut words = info.split_whitespace();
        match words.next() {
            Some("vnp") => {
                let (mut principal, mut set) = (owner("192.0.2.2"), Vec::new());
                while let (Some(option), Some(value)) = (words.next(), words.next()) {
                    match option {
                        "--as" => principal = owner(value),
                        "--set" => set.push(value),
                        other => panic!("{other} in {info}"),
                    }
                }
                let compiled = compile("LANGUAGE.md", &text, &settings(&set), &principal)
                    .unwrap_or_else(|e| panic!("{e}\n{text}"));
                runs("LANGUAGE.md", &compiled.program, &principal);
                programs += 1;
            }
            Some("vnp-error") => {
                let told = compile("F", &text, &[], &owner("192.0.2.2")).expect_err("an error").to_string();
                let (place, message) = info["vnp-error ".len()..].split_once(' ').expect("a place and a message");
                assert!(
                    told.starts_with(&format!("F:{place}: {message}")),
                    "told:     {told}\nexpected: {place} {message}"
                );
                errors += 1;
            }
            Some("text") => {}
            other => panic!("a block of unknown kind {other:?}"),
        }
    }
    assert!(programs >= 5 && errors >= 3, "{programs} programs and {errors} errors were found");
}

#[test]
fn written_programs_compile_and_are_proven() {
    let prefixes: Vec<_> = ["203.0.113.7", "198.51.100.0/24", "2001:db8::/32"]
        .map(|p| vinet_client::lang::prefix(p).expect("a prefix"))
        .into();
    let words: Vec<Vec<u8>> = (0..12u8).map(|i| vec![b'w', i, b'"', b'\\', 0xff]).collect();
    for principal in ["192.0.2.2", "192.0.2.1/24", "192.0.2.0/24", "2001:db8::2"] {
        let owner = owner(principal);
        for text in [
            template::firewall(&prefixes[..1], 120, &owner),
            template::firewall(&prefixes, 172_800, &owner),
            template::spam(&words[..1], 1, &owner),
            template::spam(&words, 90, &owner),
        ] {
            let compiled = compile("w.vnp", &text, &[], &owner).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
            runs(&text, &compiled.program, &owner);
        }
    }
}
