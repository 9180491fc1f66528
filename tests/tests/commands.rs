//! The offline commands of `vinet`, as other people's scripts call them: exit statuses, JSON, and errors that name the place.
//! 0 is yes or done, 1 a lawful no with the reason on standard error, 2 unusable arguments or files.

use std::path::{Path, PathBuf};

use serde_json::Value;
use vinet_tests::keys::vinet;
use vinet_tests::process::Finished;

/// A folder with the paper's firewall and a program that reaches for other people's packets.
struct Folder {
    dir: tempfile::TempDir,
    policy: PathBuf,
}

impl Folder {
    fn new() -> Folder {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let firewall = "LIFETIME = 2 days\nMyPackets = GROUP_BY_DESTINATION(AllPackets,THIS_IP);\n\
                        BadPackets = GROUP_BY_SOURCE(MyPackets,SrcIP);\nDISCARD(BadPackets);\n";
        std::fs::write(dir.path().join("firewall.vnp"), firewall).expect("a file in a temporary folder");
        let foul = "LIFETIME = 1 hrs\nTheirs = GROUP_BY_SOURCE(AllPackets,203.0.113.2);\nDISCARD(Theirs);\n";
        std::fs::write(dir.path().join("foul.vnp"), foul).expect("a file in a temporary folder");
        Folder { dir, policy: Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy/end-user.toml") }
    }

    /// Runs `vinet`; `@NAME` stands for that file in the folder, `@@` for the shipped policy of end users.
    fn vinet(&self, words: &str) -> Finished {
        let policy = self.policy.display().to_string();
        vinet(&words.replace("@@", &policy).replace('@', &format!("{}/", self.dir.path().display())))
    }

    fn compiled(&self) -> &Folder {
        self.vinet("compile @firewall.vnp --set SrcIP=198.51.100.2 --as 192.0.2.2 -o @firewall.vnb").expect();
        self.vinet("compile @foul.vnp --as 192.0.2.2 -o @foul.vnb").expect();
        self.vinet("prove @firewall.vnb --policy @@ --as 192.0.2.2 -o @firewall.proof").expect();
        self
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn what_is_compiled_and_proven_is_accepted() {
    let folder = Folder::new();
    let verdict = json(
        &folder.compiled().vinet("check @firewall.vnb @firewall.proof --policy @@ --as 192.0.2.2 --json").expect(),
    );
    assert_eq!((&verdict["verdict"], &verdict["mode"]), (&"accept".into(), &"proof".into()), "{verdict}");
    for key in ["complexity", "cost", "proof_bytes", "check_ns"] {
        assert!(verdict[key].is_u64(), "{key} of {verdict}");
    }
    // Two days of it.
    assert_eq!(verdict["cost"].as_u64(), verdict["complexity"].as_u64().map(|c| c * 172_800));
    let verdict = json(&folder.vinet("check @firewall.vnb --policy @@ --as 192.0.2.2 --mode static --json").expect());
    assert_eq!((&verdict["verdict"], &verdict["mode"]), (&"accept".into(), &"static".into()), "{verdict}");
}

#[test]
fn equal_programs_of_two_owners_have_equal_bytes() {
    let folder = Folder::new();
    for owner in ["192.0.2.2", "192.0.2.3", "2001:db8::2"] {
        let out = owner.replace(':', "_");
        folder.vinet(&format!("compile @firewall.vnp --set SrcIP=198.51.100.2 --as {owner} -o @{out}.vnb")).expect();
    }
    let bytes = |name: &str| std::fs::read(folder.dir.path().join(name)).expect("a compiled program");
    assert_eq!(bytes("192.0.2.2.vnb"), bytes("192.0.2.3.vnb"));
    assert_eq!(bytes("192.0.2.2.vnb"), bytes("2001_db8__2.vnb"));
}

#[test]
fn what_disasm_prints_compiles_to_the_same_bytes() {
    let folder = Folder::new();
    let listing = folder.compiled().vinet("disasm @firewall.vnb").expect();
    std::fs::write(folder.dir.path().join("again.vnp"), listing).expect("a file in a temporary folder");
    folder.vinet("compile @again.vnp --as 192.0.2.2 -o @again.vnb").expect();
    let bytes = |name: &str| std::fs::read(folder.dir.path().join(name)).expect("a compiled program");
    assert_eq!(bytes("firewall.vnb"), bytes("again.vnb"));
}

#[test]
fn a_lawful_no_is_status_1_with_the_reason_and_its_place() {
    let folder = Folder::new();
    folder.compiled();
    let said = folder.vinet("prove @foul.vnb --policy @@ --as 192.0.2.2 -o @foul.proof").expect_code(1);
    assert!(said.contains("foul.vnp:2:1"), "{said}");
    assert!(!folder.dir.path().join("foul.proof").exists());
    let finished = folder.vinet("check @foul.vnb --policy @@ --as 192.0.2.2 --mode static --json");
    assert_eq!(finished.code, Some(1), "{finished}");
    let verdict = json(&finished.stdout);
    assert_eq!(verdict["verdict"], "reject");
    assert_eq!(verdict["reason"]["line"], 2, "{verdict}");
    // A proof of another program, of another owner's kind of program, and no proof at all.
    folder.vinet("check @foul.vnb @firewall.proof --policy @@ --as 192.0.2.2").expect_code(1);
    let edge = folder.policy.with_file_name("edge-router.toml");
    folder
        .vinet(&format!("check @firewall.vnb @firewall.proof --policy {} --as 192.0.2.2", edge.display()))
        .expect_code(1);
    // One flipped bit of the proof at a time: most say nothing any more, and none may say yes to the foul program.
    let proof = std::fs::read(folder.dir.path().join("firewall.proof")).expect("a proof");
    for bit in 0..proof.len() * 8 {
        let mut broken = proof.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(folder.dir.path().join("broken.proof"), broken).expect("a file in a temporary folder");
        folder.vinet("check @foul.vnb @broken.proof --policy @@ --as 192.0.2.2").expect_code(1);
    }
}

#[test]
fn unusable_arguments_and_files_are_status_2_and_named() {
    let folder = Folder::new();
    folder.compiled();
    std::fs::write(folder.dir.path().join("rubbish.vnb"), [0xff; 100]).expect("a file in a temporary folder");
    std::fs::write(folder.dir.path().join("rubbish.toml"), "complexity_mx = 3\n")
        .expect("a file in a temporary folder");
    std::fs::write(folder.dir.path().join("rubbish.pcap"), b"not a capture at all")
        .expect("a file in a temporary folder");
    std::fs::write(folder.dir.path().join("typo.vnp"), "LIFETIME = 2 days\nDISCRAD(AllPackets);\n").expect("a file");
    for (words, named) in [
        ("compile @firewall.vnp --as 192.0.2.2 -o @x.vnb", "SrcIP"),
        ("compile @firewall.vnp --set SrcIp=198.51.100.2 --as 192.0.2.2 -o @x.vnb", "SrcIP"),
        ("compile @typo.vnp --as 192.0.2.2 -o @x.vnb", "DISCARD"),
        ("compile @nosuch.vnp --as 192.0.2.2 -o @x.vnb", "nosuch.vnp"),
        ("compile @firewall.vnp --set SrcIP=198.51.100.2 --as 192.0.2.256 -o @x.vnb", "192.0.2.256"),
        ("disasm @rubbish.vnb", "rubbish.vnb"),
        ("check @firewall.vnb @firewall.proof --policy @rubbish.toml --as 192.0.2.2", "rubbish.toml"),
        ("replay @firewall.vnb --as 192.0.2.2 --in @rubbish.pcap --out @x.pcap", "rubbish.pcap"),
        ("replay @firewall.vnb --as 192.0.2.2 --in @nosuch.pcap --out @x.pcap", "nosuch.pcap"),
        ("frobnicate", "frobnicate"),
    ] {
        let said = folder.vinet(words).expect_code(2);
        assert!(said.contains(named), "`vinet {words}` names {named}: {said}");
    }
    assert!(!folder.dir.path().join("x.vnb").exists() && !folder.dir.path().join("x.pcap").exists());
}

#[test]
fn what_firewall_emits_is_a_program() {
    let folder = Folder::new();
    let source =
        vinet("firewall --block 198.51.100.2 --block 2001:db8:bad::/48 --lifetime 2d --as 192.0.2.2 --emit").expect();
    std::fs::write(folder.dir.path().join("emitted.vnp"), source).expect("a file in a temporary folder");
    folder.vinet("compile @emitted.vnp --as 192.0.2.2 -o @emitted.vnb").expect();
    folder.vinet("check @emitted.vnb --policy @@ --as 192.0.2.2 --mode static").expect();
}

#[test]
fn completions_and_man_pages_are_generated() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(vinet(&format!("completions {shell}")).expect().contains("firewall"));
    }
    folder.vinet("man @man").expect();
    assert!(std::fs::read_dir(folder.dir.path().join("man")).expect("the folder of pages").count() > 5);
}
