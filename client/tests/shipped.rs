//! What is shipped works: the programs of configs/programs, of docs/LANGUAGE.md and of the templates are proven, with
//! the library and without, the checker takes the proofs, and the programs can be run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vinet_client::lang::{Compiled, compile, setting};
use vinet_client::replay::{Engine, builtin_policy};
use vinet_client::template;
use vinet_prover::{library, prove};
use vinet_session::identity::parse_principal;
use vinet_session::policy_file;
use vinet_trusted::addr::Principal;
use vinet_trusted::check::check;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::{Policy, PrincipalKind};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn owner(text: &str) -> Principal {
    parse_principal(text).expect("a principal")
}

fn policy(name: &str) -> Arc<Policy> {
    let path = root().join("configs/policy").join(name).with_extension("toml");
    Arc::new(policy_file::load(&path).unwrap_or_else(|error| panic!("{error}")))
}

/// The shipped policy for owners of this kind.
fn own_policy(owner: &Principal) -> Arc<Policy> {
    policy(match PrincipalKind::of(owner) {
        PrincipalKind::EndUser => "end-user",
        PrincipalKind::EdgeRouter => "edge-router",
    })
}

/// The program of a text, as its options `--as … --set …` say.
fn compiled(name: &str, text: &str, options: &str) -> (Compiled, Principal) {
    let (mut principal, mut set) = (owner("192.0.2.2"), Vec::new());
    let mut words = options.split_whitespace();
    while let (Some(option), Some(value)) = (words.next(), words.next()) {
        match option {
            "--as" => principal = owner(value),
            "--set" => set.push(setting(value).expect("a setting")),
            other => panic!("{name}: {other}"),
        }
    }
    (compile(name, text, &set, &principal).unwrap_or_else(|errors| panic!("{errors}\n{text}")), principal)
}

/// The shipped programs with their names, as the line `# compile: …` of each says.
fn programs() -> Vec<(String, Compiled, Principal)> {
    let entries = std::fs::read_dir(root().join("configs/programs")).expect("configs/programs");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let program = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_str().expect("a plain name").to_string();
        let text = std::fs::read_to_string(&path).expect("the program");
        let options = text.lines().find_map(|line| line.strip_prefix("# compile: "));
        let options = options.unwrap_or_else(|| panic!("{name} says how it is compiled")).to_string();
        let (compiled, owner) = compiled(&name, &text, &options);
        (name, compiled, owner)
    };
    paths.into_iter().map(program).collect()
}

/// Proves the program, has the proof checked and the program lowered; the length of the proof.
fn runs(name: &str, compiled: &Compiled, owner: &Principal, policy: &Arc<Policy>, lemmas: &LemmaStore) -> usize {
    let Compiled { program, hints, .. } = compiled;
    let at = format!("{name} under {}", policy.name);
    let proof = prove(program, owner, policy, lemmas, hints).unwrap_or_else(|error| panic!("{at}: {error}"));
    let checked = check(&program.encode(), &proof, *owner, policy, lemmas);
    let checked = checked.unwrap_or_else(|reject| panic!("{at}: {reject}"));
    Engine::executor(Arc::new(checked)).unwrap_or_else(|error| panic!("{at}: {error}"));
    proof.len()
}

#[test]
fn every_shipped_program_is_proven_with_the_library_and_without() {
    let all = programs();
    assert!(all.len() >= 25, "{} programs", all.len());
    let (mut with, mut without) = (0, 0);
    for (name, compiled, owner) in &all {
        let policy = own_policy(owner);
        with += runs(name, compiled, owner, &policy, &library());
        without += runs(name, compiled, owner, &policy, &LemmaStore::default());
    }
    assert!(with < without, "the library makes proofs no shorter: {with} and {without} bytes");
}

/// Of any two of the four policies, there is a program whose proof for the one does not pass for the other; but for
/// quarantine, which is edge-router with less allowed, so that what is shown for it holds there as well.
#[test]
fn a_proof_for_one_policy_does_not_pass_for_another() {
    let policies = ["end-user", "strict-operator", "edge-router", "quarantine"].map(policy);
    let lemmas = library();
    let some = ["block-telnet.vnp", "firewall.vnp", "multicast.vnp", "subnet-firewall.vnp", "worm-port-quarantine.vnp"];
    let (mut proofs, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for (_, Compiled { program, hints, .. }, owner) in programs().iter().filter(|(name, ..)| some.contains(&&**name)) {
        for of in &policies {
            let Ok(proof) = prove(program, owner, of, &lemmas, hints) else { continue };
            *proofs.entry(of.name.as_str()).or_insert(0) += 1;
            for other in policies.iter().filter(|other| other.name != of.name) {
                match check(&program.encode(), &proof, *owner, other, &lemmas) {
                    // A verdict is about the policy that it was made for, and no other.
                    Ok(checked) => assert_eq!(checked.policy_id(), other.id()),
                    Err(_) => *refused.entry((of.name.as_str(), other.name.as_str())).or_insert(0) += 1,
                }
            }
        }
    }
    for of in &policies {
        assert!(proofs.contains_key(of.name.as_str()), "no proof under {}: {proofs:?}", of.name);
        for other in policies.iter().filter(|other| other.name != of.name) {
            let pair = (of.name.as_str(), other.name.as_str());
            assert_eq!(refused.contains_key(&pair), pair != ("quarantine", "edge-router"), "{pair:?}: {refused:?}");
        }
    }
}

#[test]
fn every_example_of_the_language_page_is_proven() {
    let page = std::fs::read_to_string(root().join("docs/LANGUAGE.md")).expect("the page");
    let mut programs = 0;
    for block in page.split("\n```").skip(1).step_by(2) {
        let (info, text) = block.split_once('\n').expect("a fence of its own line");
        if let Some(options) = info.strip_prefix("vnp ") {
            let (compiled, owner) = compiled("LANGUAGE.md", &format!("{text}\n"), options);
            runs(text, &compiled, &owner, &own_policy(&owner), &library());
            programs += 1;
        }
    }
    assert!(programs >= 5, "{programs} programs were found");
}

#[test]
fn written_programs_are_proven() {
    let prefixes: Vec<_> = ["203.0.113.7", "198.51.100.0/24", "2001:db8::/32"]
        .map(|p| vinet_client::lang::prefix(p).expect("a prefix"))
        .into();
    let words: Vec<Vec<u8>> = (0..12u8).map(|i| vec![b'w', i, b'"', b'\\', 0xff]).collect();
    for principal in ["192.0.2.2", "192.0.2.1/24", "192.0.2.0/24", "2001:db8::2"] {
        let owner = owner(principal);
        let mut texts = vec![
            template::firewall(&prefixes[..1], 120, &owner),
            template::firewall(&prefixes, 172_800, &owner),
            template::spam(&words[..1], 1, &owner),
            template::spam(&words, 90, &owner),
        ];
        // One without an address of its own cannot be sent what is collected.
        if principal != "192.0.2.0/24" {
            texts.push(template::multicast(prefixes[0].addr(), 120, &owner));
        }
        for text in texts {
            let (compiled, _) = compiled("w.vnp", &text, &format!("--as {principal}"));
            for policy in [own_policy(&owner), Arc::new(builtin_policy(PrincipalKind::of(&owner), 32))] {
                runs(&text, &compiled, &owner, &policy, &library());
            }
        }
    }
}
