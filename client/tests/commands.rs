//! The commands that need no router: exit statuses, JSON, and clear words about bad files.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const FIREWALL: &str = include_str!("../../configs/programs/firewall.vnp");

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("a file in a temporary folder");
    }
    /// Runs `vinet` here with these words, split at blanks.
    fn run(&self, words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vinet"));
        command.args(words.split_whitespace()).current_dir(self.0.path()).output().expect("vinet runs")
    }
    /// It succeeds; its output.
    #[track_caller]
    fn yes(&self, words: &str) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "{words}: {}", text(&output.stderr));
        text(&output.stdout)
    }
    /// It says a lawful no, starting with `expected`; the object on stdout, where there is one.
    #[track_caller]
    fn no(&self, words: &str, expected: &str) -> Value {
        let output = self.run(words);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}: {told}");
        assert!(told.starts_with(expected), "{words}\ntold:     {told}\nexpected: {expected}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
    /// The arguments or files are unusable; what is told contains `expected`.
    #[track_caller]
    fn unusable(&self, words: &str, expected: &str) {
        let output = self.run(words);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {told}");
        assert!(told.contains(expected), "{words}\ntold:     {told}\nexpected: {expected}");
        assert!(output.stdout.is_empty(), "{words}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn policy(kind: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    root.join("configs/policy").join(format!("{kind}.toml")).display().to_string()
}

fn json(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[test]
fn a_program_goes_from_source_to_verdict() {
    let folder = Folder::new();
    folder.write("f.vnp", FIREWALL);
    let policy = policy("end-user");
    let compiled = json(&folder.yes("compile f.vnp --set SrcIP=203.0.113.7 --as 192.0.2.2 -o f.vnb --json"));
    assert_eq!(compiled["instructions"], 3);
    let listing = folder.yes("disasm f.vnb");
    assert!(listing.starts_with(&format!("# program {}\n", compiled["program"].as_str().expect("an id"))), "{listing}");
    folder.write("l.vnp", &listing);
    folder.yes("compile l.vnp --as 192.0.2.2 -o l.vnb");
    assert_eq!(std::fs::read(folder.path("f.vnb")).ok(), std::fs::read(folder.path("l.vnb")).ok());

    folder.yes(&format!("prove f.vnb --policy {policy} --as 192.0.2.2 -o f.proof"));
    let verdict = json(&folder.yes(&format!("check f.vnb f.proof --policy {policy} --as 192.0.2.2 --json")));
    assert_eq!((&verdict["verdict"], &verdict["mode"]), (&Value::from("accept"), &Value::from("proof")));
    assert_eq!(verdict["cost"].as_u64(), verdict["complexity"].as_u64().map(|c| c * 172_800));
    let proof_bytes = std::fs::metadata(folder.path("f.proof")).expect("the proof").len();
    assert_eq!(verdict["proof_bytes"].as_u64(), Some(proof_bytes));
    assert!(verdict["check_ns"].as_u64().is_some_and(|ns| ns > 0) && verdict["reason"].is_null());
    let analysed = json(&folder.yes(&format!("check f.vnb --mode static --policy {policy} --as 192.0.2.2 --json")));
    assert_eq!((&analysed["verdict"], &analysed["mode"]), (&Value::from("accept"), &Value::from("static")));
    assert_eq!(analysed["complexity"], verdict["complexity"]);
    let words = folder.yes(&format!("check f.vnb f.proof --policy {policy} --as 192.0.2.2"));
    assert!(words.starts_with("accepted: complexity "), "{words}");
    // The same proof is none for another kind of owner.
    let no =
        folder.no(&format!("check f.vnb f.proof --policy {policy} --as 192.0.2.2/24 --json"), "vinet: wrong-principal");
    assert_eq!(no["verdict"], "reject");
}

#[test]
fn a_no_names_the_line_and_the_obligation() {
    let folder = Folder::new();
    let policy = policy("end-user");
    folder.write(
        "bad.vnp",
        "LIFETIME = 2 days\n\n  Bad = GROUP_BY_SOURCE(AllPackets,\n     203.0.113.7);\nDISCARD(Bad);\n",
    );
    folder.yes("compile bad.vnp --as 192.0.2.2 -o bad.vnb");
    folder.no(
        &format!("prove bad.vnb --policy {policy} --as 192.0.2.2 -o bad.proof"),
        "bad.vnp:3:3: not-proven: packets are grouped here",
    );
    assert!(!folder.path("bad.proof").exists());
    for (words, mode) in [("bad.vnb no.proof", "proof"), ("bad.vnb --mode static", "static")] {
        folder.write("no.proof", "");
        let no =
            folder.no(&format!("check {words} --policy {policy} --as 192.0.2.2 --json"), "bad.vnp:3:3: not-proven: ");
        assert_eq!((&no["verdict"], &no["mode"]), (&Value::from("reject"), &Value::from(mode)));
        assert_eq!((&no["reason"]["code"], &no["reason"]["instr"]), (&Value::from("not-proven"), &Value::from(0)));
        assert_eq!((&no["reason"]["line"], &no["reason"]["column"]), (&Value::from(3), &Value::from(3)));
        assert_eq!(no["reason"]["statement"], "Bad = GROUP_BY_SOURCE(AllPackets, 203.0.113.7)");
    }
    // A map of another program is not believed.
    std::fs::copy(folder.path("bad.vnb.map"), folder.path("other.vnb.map")).expect("copies");
    folder.write("other.vnp", "LIFETIME = 1 day\nDISCARD(AllPackets);");
    folder.yes("compile other.vnp --as 192.0.2.2 -o other.vnb");
    std::fs::copy(folder.path("bad.vnb.map"), folder.path("other.vnb.map")).expect("copies");
    folder.no(&format!("prove other.vnb --policy {policy} --as 192.0.2.2 -o x"), "vinet: not-proven: ");
    let lasting = FIREWALL.replace("2 days", "9 weeks");
    folder.write("long.vnp", lasting);
    folder.yes("compile long.vnp --set SrcIP=203.0.113.7 --as 192.0.2.2 -o long.vnb");
    let no = folder.no(
        &format!("check long.vnb --mode static --policy {policy} --as 192.0.2.2 --json"),
        "vinet: lifetime-above-ceiling: ",
    );
    assert!(no["cost"].as_u64().is_some(), "{no}");
    folder.write("junk.vnb", [1, 2, 3]);
    folder.no(
        &format!("check junk.vnb no.proof --policy {policy} --as 192.0.2.2 --json"),
        "vinet: bad-program: not a program",
    );
}

#[test]
fn a_source_that_does_not_compile_is_shown_and_leaves_no_file() {
    let folder = Folder::new();
    folder.write("e.vnp", "LIFETIME = 2 days\nDISCARD(BadPackets);\n");
    folder.unusable("compile e.vnp --as 192.0.2.2 -o e.vnb", "e.vnp:2:9");
    folder.unusable("compile e.vnp --as 192.0.2.2 -o e.vnb", "DISCARD(BadPackets);");
    assert!(!folder.path("e.vnb").exists());
    folder.write("f.vnp", FIREWALL);
    folder.unusable("compile f.vnp --as 192.0.2.2 -o f.vnb", "set it with --set SrcIP=ADDRESS");
    folder.unusable("compile f.vnp --set SrcPI=203.0.113.7 --as 192.0.2.2 -o f.vnb", "did you mean SrcIP?");
    folder.unusable("compile f.vnp --set SrcIP --as 192.0.2.2 -o f.vnb", "a setting is written NAME=VALUE");
    folder.unusable("compile f.vnp --set SrcIP=203.0.113.7 --as 192.0.2.256 -o f.vnb", "192.0.2.256");
    folder.unusable("compile f.vnp --set SrcIP=203.0.113.7 --as 192.0.2.0/24 -o f.vnb", "THIS_IP has no value");
    folder.unusable("compile f.vnp --set SrcIP=203.0.113.7 --as 192.0.2.2", "--output");
}

#[test]
fn files_that_cannot_be_used_are_told() {
    let folder = Folder::new();
    let policy = policy("end-user");
    folder.write("f.vnp", FIREWALL);
    folder.yes("compile f.vnp --set SrcIP=203.0.113.7 --as 192.0.2.2 -o f.vnb");
    folder.unusable("compile none.vnp --as 192.0.2.2 -o x", "cannot read none.vnp: No such file or directory");
    folder.unusable("compile . --as 192.0.2.2 -o x", "cannot read .: Is a directory");
    folder.write("latin.vnp", b"# caf\xe9\n");
    folder.unusable("compile latin.vnp --as 192.0.2.2 -o x", "latin.vnp: byte 5 is no UTF-8");
    let compile = "compile f.vnp --set SrcIP=203.0.113.7 --as 192.0.2.2";
    folder.unusable(&format!("{compile} -o no/such/x"), "cannot write no/such/x: No such file or directory");
    folder.unusable(&format!("{compile} -o /dev/full"), "cannot write /dev/full: No space left on device");
    folder.unusable("disasm f.vnp", "f.vnp is no program: ");
    folder.unusable(&format!("check f.vnb --policy {policy} --as 192.0.2.2"), "a proof is needed");
    folder
        .unusable(&format!("check f.vnb f.vnb --mode static --policy {policy} --as 192.0.2.2"), "makes its own proof");
    folder.unusable(&format!("check f.vnb none --policy {policy} --as 192.0.2.2"), "cannot read none");
    folder.unusable("check f.vnb f.vnb --policy none.toml --as 192.0.2.2", "none.toml");
    folder.write("broken.toml", "name = \"x\"\nprincipls = 3\n");
    folder.unusable("check f.vnb f.vnb --policy broken.toml --as 192.0.2.2", "broken.toml:2");
    folder.unusable("nonsense", "unrecognized subcommand");
}

#[test]
fn replay_counts_and_tells_about_broken_captures() {
    let folder = Folder::new();
    folder.write("f.vnp", FIREWALL);
    let mut capture = 0xa1b2_c3d4u32.to_le_bytes().to_vec();
    capture.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
    for last in [7, 8] {
        capture.extend([0; 8]);
        capture.extend([34, 0, 0, 0, 34, 0, 0, 0]);
        capture.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        // From 203.0.113.7 or .8 to 192.0.2.2; protocol 253.
        let mut ip = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0, 203, 0, 113, last, 192, 0, 2, 2];
        let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let folded = !((sum & 0xffff) + (sum >> 16)) as u16;
        ip[10..12].copy_from_slice(&folded.to_be_bytes());
        capture.extend(ip);
    }
    folder.write("in.pcap", &capture);
    let replay = "replay f.vnp --set SrcIP=203.0.113.7 --as 192.0.2.2 --in in.pcap --out out.pcap";
    let policy = policy("end-user");
    for more in ["", "--reference", "--window 1", "--window 64 --reference", &format!("--policy {policy}")] {
        let counted = json(&folder.yes(&format!("{replay} --json {more}")));
        assert_eq!(counted, json(r#"{"in":2,"forwarded":1,"discarded":1,"generated":0}"#), "{more}");
        let out = std::fs::read(folder.path("out.pcap")).expect("the capture");
        assert_eq!(out, [&capture[..24], &capture[74..]].concat(), "{more}");
    }
    assert!(folder.yes(replay).starts_with("2 packets in, 1 forwarded, 1 discarded, 0 generated"));
    folder.yes("compile f.vnp --set SrcIP=203.0.113.8 --as 192.0.2.2 -o f.vnb");
    folder.yes("replay f.vnb --as 192.0.2.2 --in in.pcap --out out.pcap");
    folder.unusable("replay f.vnb --set SrcIP=203.0.113.8 --as 192.0.2.2 --in in.pcap --out x", "is compiled already");
    folder.unusable(&format!("{replay} --window 0"), "--window");

    let edge_router = self::policy("edge-router");
    folder.no(&format!("{replay} --policy {edge_router} --json"), "vinet: wrong-principal");
    folder.write("bad.vnp", "LIFETIME = 1 day\nDISCARD(AllPackets);");
    let bad = "replay bad.vnp --as 192.0.2.2 --in in.pcap --out bad.pcap";
    folder.no(bad, "bad.vnp:2:1: not-proven: ");
    assert!(!folder.path("bad.pcap").exists());
    let counted = json(&folder.yes(&format!("{bad} --reference --json")));
    assert_eq!(counted["discarded"], 2);

    folder.write("in.pcap", &capture[..60]);
    folder.unusable(replay, "in.pcap: at byte 40: the file ends inside of a packet: 34 bytes are needed, 20 are left");
    let mut raw = capture.clone();
    raw[20] = 101;
    folder.write("in.pcap", &raw);
    folder.unusable(replay, "in.pcap: at byte 20: the packets are of link type 101 (raw IP); Ethernet (1) is needed");
    folder.write("in.pcap", FIREWALL);
    folder.unusable(replay, "in.pcap: at byte 0: no packet capture");
    folder.write("in.pcap", "");
    folder.unusable(replay, "in.pcap: at byte 0: no packet capture");
}

#[test]
fn templates_are_printed_for_editing() {
    let folder = Folder::new();
    let firewall = folder.yes("firewall --block 203.0.113.7 --block 203.0.113.6 --lifetime 2d --emit");
    assert!(firewall.contains("LIFETIME = 2 days\n") && firewall.contains("203.0.113.6/31);"), "{firewall}");
    folder.write("f.vnp", &firewall);
    folder.yes("compile f.vnp --as 192.0.2.2 -o f.vnb");
    let spam = folder.yes("spam --word lottery --word winner --lifetime 90s --emit --as 192.0.2.1/24");
    folder.write("s.vnp", &spam);
    folder.yes("compile s.vnp --as 192.0.2.1/24 -o s.vnb");
    folder.unusable("firewall --block 203.0.113.7 --lifetime 2d", "--router");
    folder.unusable("firewall --lifetime 2d --emit", "--block");
    folder.unusable("firewall --block 203.0.113.7/24 --lifetime 2d --emit", "has bits set behind its prefix length");
    folder.unusable("firewall --block 203.0.113.7 --lifetime 0d --emit", "a lifetime of 0 d");
    folder.unusable("firewall --block 203.0.113.7 --lifetime soon --emit", "a number and a unit, like 2d");
    folder.unusable("spam --word= --lifetime 2d --emit", "the string is empty");
}

#[test]
fn keys_are_made_once_and_kept_secret() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    folder.yes("ca init --out ca");
    folder.unusable("ca init --out ca", "ca/authority.key is there already");
    folder.yes("ca issue --ca ca --principal 192.0.2.1/24 --valid 1d --out me.key");
    folder.yes("ca router --ca ca --name edge1 --address 192.0.2.1 --address 2001:db8::1 --out router.key");
    for secret in ["ca/authority.key", "me.key", "router.key"] {
        let mode = std::fs::metadata(folder.path(secret)).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    folder.unusable("ca issue --ca ca --principal 192.0.2.2 --out me.key", "me.key is there already");
    folder.unusable("ca issue --ca none --principal 192.0.2.2 --out x.key", "none/authority.key");
}

#[test]
fn completions_and_manual_pages_are_made() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(folder.yes(&format!("completions {shell}")).contains("withdraw"), "{shell}");
    }
    folder.yes("man pages");
    let page = std::fs::read_to_string(folder.path("pages/vinet-replay.1")).expect("a page");
    assert!(page.contains("reference interpreter"), "{page}");
}
