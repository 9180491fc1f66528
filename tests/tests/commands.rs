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

/// The shipped programs: path, owner, settings, as the line `# compile: …` of each says.
fn shipped() -> Vec<(PathBuf, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/programs");
    let entries = std::fs::read_dir(&folder).expect("configs/programs");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let described = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a program");
        let line = text.lines().find_map(|line| line.strip_prefix("# compile: --as "));
        let line = line.unwrap_or_else(|| panic!("{} says how it is compiled", path.display()));
        let (owner, settings) = line.split_once(' ').unwrap_or((line, ""));
        (path, owner.to_string(), settings.to_string())
    };
    paths.into_iter().map(described).collect()
}

#[test]
fn every_shipped_program_is_proven_and_checked_for_its_owner() {
    let folder = Folder::new();
    let all = shipped();
    assert!(all.len() >= 25, "{} programs", all.len());
    for (path, owner, settings) in all {
        let policy = if owner.contains('/') { "edge-router" } else { "end-user" };
        let policy = folder.policy.with_file_name(policy).with_extension("toml");
        let with = format!("--policy {} --as {owner}", policy.display());
        let path = path.display();
        folder.vinet(&format!("compile {path} --as {owner} {settings} -o @p.vnb")).expect();
        folder.vinet(&format!("prove @p.vnb {with} -o @p.proof")).expect();
        let verdict = json(&folder.vinet(&format!("check @p.vnb @p.proof {with} --json")).expect());
        assert_eq!(verdict["verdict"], "accept", "{path}: {verdict}");
        // A check takes what it is given, and no more.
        folder.vinet(&format!("check @p.vnb @p.vnb {with}")).expect_code(1);
    }
}

#[test]
fn a_shipped_program_goes_from_its_obligations_to_an_explained_proof() {
    let folder = Folder::new();
    let source = folder.policy.with_file_name("../programs/host-range-variant.vnp");
    let edge = folder.policy.with_file_name("edge-router.toml");
    let with = format!("--policy {} --as 192.0.2.1/24", edge.display());
    let compile = format!("compile {} --as 192.0.2.1/24 --set Attackers=203.0.113.0/24", source.display());
    folder.vinet(&format!("{compile} -o @p.vnb")).expect();
    let listed = folder.vinet(&format!("obligations @p.vnb {with}")).expect();
    // The source says how the loop goes; what of it the proof needs is listed with the rest.
    assert!(listed.contains("host-range-variant.vnp:12: DISCARD(ToHost)\nobligation "), "{listed}");
    let objects = folder.vinet(&format!("obligations @p.vnb {with} --json")).expect();
    let discards: Vec<Value> = objects.lines().map(json).filter(|object| object["line"] == 12).collect();
    assert_eq!(discards.len(), 1, "{objects}");
    assert_eq!(discards[0]["goal"], "dst(p) in {192.0.2.0/24}");
    folder.vinet(&format!("prove @p.vnb {with} -o @p.proof")).expect();
    folder.vinet(&format!("check @p.vnb @p.proof {with}")).expect();
    let told = folder.vinet(&format!("explain @p.proof {with}")).expect();
    for object in objects.lines().map(json) {
        let heading =
            format!("obligation {}, line {} (instruction {}): ", object["number"], object["line"], object["instr"]);
        assert!(told.contains(&heading), "{heading} in {told}");
    }
    assert!(told.contains("\ncomplexity: ") && told.contains("has 16 turns at most"), "{told}");
}

#[test]
fn one_obligation_is_shown_by_hand_and_the_others_by_the_prover() {
    let folder = Folder::new();
    folder.compiled();
    let script = "// The packets were taken from those to the owner.\n\
                  obligation 1 {\n  let taken = unfold(member);\n  right(unfold(left(taken)))\n}\n";
    std::fs::write(folder.dir.path().join("hand.vpf"), script).expect("a file in a temporary folder");
    folder.vinet("prove @firewall.vnb --script @hand.vpf --policy @@ --as 192.0.2.2 -o @hand.proof").expect();
    folder.vinet("check @firewall.vnb @hand.proof --policy @@ --as 192.0.2.2").expect();
    let bytes = |name: &str| std::fs::read(folder.dir.path().join(name)).expect("a proof");
    assert_ne!(bytes("hand.proof"), bytes("firewall.proof"), "the prover would have cited obligation 0");
    // A step that does not follow is told where it stands.
    std::fs::write(folder.dir.path().join("hand.vpf"), script.replace("left(taken)", "right(taken)")).expect("a file");
    let said =
        folder.vinet("prove @firewall.vnb --script @hand.vpf --policy @@ --as 192.0.2.2 -o @x.proof").expect_code(2);
    assert!(said.contains("hand.vpf:4:") && said.contains("right(unfold(right(taken)))"), "{said}");
    assert!(!folder.dir.path().join("x.proof").exists());
}

#[test]
fn what_is_not_proven_is_told_with_the_packet_that_it_would_wrong() {
    let folder = Folder::new();
    let finished = folder.compiled().vinet("prove @foul.vnb --policy @@ --as 192.0.2.2 -o @foul.proof --json");
    assert_eq!(finished.code, Some(1), "{finished}");
    for line in [
        "to show: dst(p) in {192.0.2.2}\n",
        "  known: src(p) in {203.0.113.2}\n",
        "  packet 1 from 203.0.113.2 to 192.0.2.1\n",
        "  packet 1 from 203.0.113.2 to 192.0.2.1 is grouped by line 2; the policy allows that only where the destination ",
    ] {
        assert!(finished.stderr.contains(line), "{line} in {}", finished.stderr);
    }
    let found = &json(&finished.stdout)["reason"]["counterexample"];
    assert_eq!(found["packets"], json(r#"[{"src": "203.0.113.2", "dst": "192.0.2.1"}]"#));
    assert_eq!(found["offence"], json(r#"{"event": "grouped", "packet": 1}"#));
    // The packet is no invention: the reference interpreter drops it though it is someone else's.
    assert_ne!(found["packets"][0]["dst"], "192.0.2.2");
}

#[test]
fn a_proof_for_one_policy_does_not_pass_for_another() {
    let folder = Folder::new();
    // Lawful under the policy that stands first, and with that proof not under the others.
    let firewall = "LIFETIME = 2 hours\nMine = GROUP_BY_DESTINATION(AllPackets, THIS_IP);\nDISCARD(Mine);\n";
    let polite = "LIFETIME = 2 hours\nMine = GROUP_BY_DESTINATION(AllPackets, THIS_IP);\n\
                  Rest = SELECT(Mine, not protocol in {icmp, icmp6});\nDISCARD(Rest);\n";
    let relay = "LIFETIME = 2 hours\nOurs = GROUP_BY_DESTINATION(AllPackets, THIS_SUBNET_IP);\n\
                 if CONTAINS_STRING(Ours, \"worm\") then DISCARD(Ours);\n";
    let subnet = "LIFETIME = 2 hours\nOurs = GROUP_BY_DESTINATION(AllPackets, THIS_SUBNET_IP);\nDISCARD(Ours);\n";
    for (of, owner, text, others) in [
        ("end-user", "192.0.2.2", firewall, ["strict-operator", "edge-router", "quarantine"]),
        ("strict-operator", "192.0.2.2", polite, ["end-user", "edge-router", "quarantine"]),
        ("edge-router", "192.0.2.1/24", relay, ["end-user", "strict-operator", "quarantine"]),
        // What is shown for quarantine, which allows less, is shown for edge routers as well.
        ("quarantine", "192.0.2.1/24", subnet, ["end-user", "strict-operator", "strict-operator"]),
    ] {
        std::fs::write(folder.dir.path().join("p.vnp"), text).expect("a file in a temporary folder");
        let policy = |name: &str| folder.policy.with_file_name(name).with_extension("toml").display().to_string();
        folder.vinet(&format!("compile @p.vnp --as {owner} -o @p.vnb")).expect();
        folder.vinet(&format!("prove @p.vnb --policy {} --as {owner} -o @p.proof", policy(of))).expect();
        folder.vinet(&format!("check @p.vnb @p.proof --policy {} --as {owner}", policy(of))).expect();
        for other in others {
            folder.vinet(&format!("check @p.vnb @p.proof --policy {} --as {owner}", policy(other))).expect_code(1);
        }
    }
}

#[test]
fn the_shipped_programs_are_in_the_one_layout() {
    // The paper's three stand as they are printed there.
    let paper = ["firewall.vnp", "multicast.vnp", "spam-filter.vnp"];
    let (printed, ours): (Vec<_>, Vec<_>) =
        shipped().into_iter().map(|(path, ..)| path).partition(|path| paper.iter().any(|name| path.ends_with(name)));
    let words = |paths: &[PathBuf]| paths.iter().map(|path| format!(" {}", path.display())).collect::<String>();
    assert_eq!(printed.len(), paper.len());
    vinet(&format!("fmt --check{}", words(&ours))).expect();
    let said = vinet(&format!("fmt --check{}{}", words(&ours), words(&printed))).expect_code(1);
    for path in ours.iter().chain(&printed) {
        let name = format!("{}", path.display());
        assert_eq!(said.contains(&name), printed.contains(path), "{name}: {said}");
    }
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
