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
        "bad.vnp:3:3: not-proven: no proof was found that the policy allows every packet of slot 1 to be grouped\n",
    );
    assert!(!folder.path("bad.proof").exists());
    folder.write("no.proof", [0, 0xff]);
    let by_proof = ("bad.vnb no.proof", "proof", "not-proven");
    for (words, mode, code) in [by_proof, ("bad.vnb --mode static", "static", "not-analysed")] {
        let check = format!("check {words} --policy {policy} --as 192.0.2.2 --json");
        let no = folder.no(&check, &format!("bad.vnp:3:3: {code}: "));
        assert_eq!((&no["verdict"], &no["mode"]), (&Value::from("reject"), &Value::from(mode)));
        assert_eq!((&no["reason"]["code"], &no["reason"]["instr"]), (&Value::from(code), &Value::from(0)));
        assert_eq!(no["reason"]["goal"], "dst(p) in {192.0.2.2}");
        assert!(no["reason"]["counterexample"]["packets"].is_array(), "{no}");
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
        "vinet: lifetime-above-ceiling: the lifetime is 5443200 s; ",
    );
    // No packets are looked for where none can show it.
    assert!(no["reason"].get("counterexample").is_none(), "{no}");
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

/// A program that drops everything as soon as something is to its owner.
const GREEDY: &str = "LIFETIME = 1 hour
WINDOW = 2 packets
Mine = GROUP_BY_DESTINATION(AllPackets, THIS_IP);
if SIZE(Mine) > 0 then
  DISCARD(AllPackets);
";

#[test]
fn what_cannot_be_proven_is_told_with_a_packet_that_shows_why() {
    let folder = Folder::new();
    let policy = policy("end-user");
    folder.write("g.vnp", "LIFETIME = 1 hrs\nTheirs = GROUP_BY_SOURCE(AllPackets, 203.0.113.2);\nDISCARD(Theirs);\n");
    folder.yes("compile g.vnp --as 192.0.2.2 -o g.vnb");
    let prove = format!("prove g.vnb --policy {policy} --as 192.0.2.2 -o g.proof");
    let packets = "packet 1 from 203.0.113.2 to 192.0.2.1\n";
    folder.no(
        &prove,
        &format!(
            "g.vnp:2:1: not-proven: no proof was found that the policy allows every packet of slot 1 to be grouped\n   \
             |\n 2 | Theirs = GROUP_BY_SOURCE(AllPackets, 203.0.113.2)\n   |\n\
             to show: dst(p) in {{192.0.2.2}}\n  known: src(p) in {{203.0.113.2}}\n\
             counterexample, as the reference interpreter runs it:\n  {packets}  \
             packet 1 from 203.0.113.2 to 192.0.2.1 is grouped by line 2; the policy allows that only where the destination "
        ),
    );
    let found = folder.no(&format!("{prove} --json"), "g.vnp:2:1: ")["reason"]["counterexample"].clone();
    assert_eq!(found["packets"], json(r#"[{"src":"203.0.113.2","dst":"192.0.2.1"}]"#));
    assert_eq!(found["offence"], json(r#"{"event":"grouped","packet":1}"#));
    assert_eq!((&found["instr"], &found["line"], &found["answers"]), (&0.into(), &2.into(), &json("[]")));
    assert!(found["text"].as_str().is_some_and(|text| text.starts_with(packets)), "{found}");
    // It takes two packets: one that is the owner's, and another's that is dropped with it.
    folder.write("greedy.vnp", GREEDY);
    folder.yes("compile greedy.vnp --as 192.0.2.2 -o greedy.vnb");
    let no = folder.no(&format!("prove greedy.vnb --policy {policy} --as 192.0.2.2 -o x --json"), "greedy.vnp:5:3: ");
    let found = &no["reason"]["counterexample"];
    assert_eq!(found["packets"].as_array().map(Vec::len), Some(2), "{no}");
    assert_eq!((&found["offence"]["event"], &found["line"]), (&"discarded".into(), &5.into()), "{no}");
    // Where a program keeps to the policy and only its proof is bad, there is none to find, and that is said.
    folder.write("f.vnp", FIREWALL);
    folder.yes("compile f.vnp --set SrcIP=203.0.113.7 --as 192.0.2.2 -o f.vnb");
    folder.write("bad.proof", [0, 0, 1]);
    let check = format!("check f.vnb bad.proof --policy {policy} --as 192.0.2.2 --json");
    let output = folder.run(&check);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let reason = &json(&text(&output.stdout))["reason"];
    let runs = reason["runs"].as_u64().expect("a number of runs");
    assert!((2..=60_000).contains(&runs), "{reason}");
    assert!(told.ends_with(&format!("no counterexample found ({runs} runs tried)\n")), "{told}");
    assert_eq!(reason.get("counterexample"), Some(&Value::Null), "{reason}");
}

#[test]
fn proofs_are_written_by_hand_and_explained() {
    let folder = Folder::new();
    let with = format!("--policy {} --as 192.0.2.2", policy("end-user"));
    folder.write("f.vnp", FIREWALL);
    folder.yes("compile f.vnp --set SrcIP=203.0.113.7 --as 192.0.2.2 -o f.vnb");
    let listed = folder.yes(&format!("obligations f.vnb {with}"));
    let second = "f.vnp:6: BadPackets = GROUP_BY_SOURCE(MyPackets,SrcIP)\n\
                  obligation 1 (instruction 1): the policy allows every packet of slot 2 to be grouped\n  \
                  member: p in $2\n";
    assert!(listed.contains(second) && listed.contains("\n  to show: dst(p) in {192.0.2.2}\n"), "{listed}");
    let objects: Vec<Value> = folder.yes(&format!("obligations f.vnb {with} --json")).lines().map(json).collect();
    assert_eq!(objects.len(), 3);
    assert_eq!((&objects[1]["number"], &objects[1]["line"]), (&1.into(), &6.into()));
    assert_eq!(
        (&objects[1]["given"]["member"], &objects[1]["goal"]),
        (&"p in $2".into(), &"dst(p) in {192.0.2.2}".into())
    );

    // One obligation by hand, not as the prover does it, with a lemma of one's own; the others are the prover's.
    folder.write(
        "own.vpf",
        "module own\nlemma first-of (P Q : Prop)\ngiven both: P and Q\nshows P\nproof { left(both) }\n",
    );
    folder.write("f.vpf", "obligation 1 { right(unfold(own.first-of(unfold(member)))) }\n");
    folder.yes(&format!("prove f.vnb --script f.vpf --lemmas own.vpf {with} -o f.proof"));
    folder.yes(&format!("check f.vnb f.proof --lemmas own.vpf {with}"));
    folder.no(&format!("check f.vnb f.proof {with}"), "f.vnp:6:1: not-proven: obligation 1");
    let told = folder.yes(&format!("explain f.vnb f.proof --lemmas own.vpf {with}"));
    assert!(told.contains("\nobligation 1, line 6 (instruction 1): "), "{told}");
    assert!(told.contains("by lemma "), "{told}");
    // The program is found beside its proof; what does not follow is told behind what does.
    assert_eq!(folder.yes(&format!("explain f.proof --lemmas own.vpf {with}")), told);
    let output = folder.run(&format!("explain f.proof {with}"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("vinet: not-proven: at byte "), "{}", text(&output.stderr));
    assert!(told.starts_with(text(&output.stdout).lines().next().expect("a beginning")));
    folder.write("alone.proof", "");
    folder.unusable(&format!("explain alone.proof {with}"), "no program alone.vnb is beside it");

    // A text that is wrong is shown as a source text is.
    let prove = format!("prove f.vnb --script f.vpf {with} -o x.proof");
    for (script, place, told) in [
        ("obligation 1 { rigt(member) }", "f.vpf:1:16", "did you mean right?"),
        ("obligation 1 { member }", "f.vpf:1:14", "shown is: p in $2"),
        ("\nobligation 7 { member }", "f.vpf:2:12", "the program has no obligation 7"),
        ("obligatoin 1 { member }", "f.vpf:1:1", "did you mean `obligation`?"),
        ("obligation 1 { own.first-of(unfold(member)) }", "f.vpf:1:16", "own.first-of"),
    ] {
        folder.write("f.vpf", script);
        folder.unusable(&prove, place);
        folder.unusable(&prove, told);
    }
    folder.unusable(&format!("{prove} --mode static"), "--mode static takes no proof");
    assert!(!folder.path("x.proof").exists());
}

#[test]
fn the_shipped_lemmas_are_listed_and_ones_own_behind_them() {
    let folder = Folder::new();
    let listed: Vec<Value> = folder.yes("lemma list --json").lines().map(json).collect();
    let shipped = listed.len();
    assert!(shipped >= 40, "{shipped}");
    assert_eq!((&listed[0]["index"], &listed[0]["name"]), (&0.into(), &"logic.modus-tollens".into()));
    assert_eq!(listed[0]["premises"], json(r#"["P -> Q","not Q"]"#));
    assert_eq!(listed[0]["conclusion"], "not P");
    assert!(listed.iter().all(|lemma| lemma["name"] != "-" && lemma["id"].as_str().is_some_and(|id| id.len() == 64)));
    let own =
        "lemma swapped (P Q : Prop)\ngiven both: P and Q\nshows Q and P\nproof { both(right(both), left(both)) }\n";
    folder.write("own.vpf", own);
    let words = folder.yes("lemma list --lemmas own.vpf");
    let last = "      for P : Prop, Q : Prop\n      given P and Q\n      shows Q and P\nroot  ";
    assert!(words.contains(&format!("\n{shipped:>4}  swapped  ")) && words.contains(last), "{words}");
    folder.write("own.vpf", own.replace("left(both)) }", "right(both)) }"));
    folder.unusable("lemma list --lemmas own.vpf", "own.vpf:4:");
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
    let multicast = folder.yes("multicast --from 203.0.113.9 --lifetime 5h --emit --as 192.0.2.1/24");
    assert!(multicast.contains("GENERATE(203.0.113.9, THIS_IP, Destinations);"), "{multicast}");
    folder.write("m.vnp", &multicast);
    folder.yes("compile m.vnp --as 192.0.2.1/24 -o m.vnb");
    folder.yes(&format!("prove m.vnb --policy {} --as 192.0.2.1/24 -o m.proof", policy("edge-router")));
    folder.unusable("multicast --from 203.0.113.0/24 --lifetime 5h --emit", "--from");
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

/// Every argument of every command says what it is.
#[test]
fn help_leaves_nothing_out() {
    let folder = Folder::new();
    let commands = folder.yes("--help");
    let commands = commands.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut seen = 0;
    for command in commands.map(|line| line.split_whitespace().next().expect("a name").to_string()) {
        let help = folder.yes(&format!("{command} -h"));
        for line in
            help.lines().filter(|line| line.starts_with("  -") || line.starts_with("  <") || line.starts_with("  ["))
        {
            let told = line.trim().split_once("  ").map(|(_, told)| told.trim());
            assert!(told.is_some_and(|told| told.len() > 5), "{command}: {line}");
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen}");
}

#[test]
fn completions_and_manual_pages_are_made() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let completions = folder.yes(&format!("completions {shell}"));
        for command in ["withdraw", "obligations", "explain", "multicast", "lemma", "fmt"] {
            assert!(completions.contains(command), "{shell}: {command}");
        }
    }
    folder.yes("man pages");
    for (name, word) in [
        ("replay", "reference interpreter"),
        ("obligations", "has to be shown"),
        ("explain", "readable steps"),
        ("prove", "script"),
        ("multicast", "one address"),
        ("lemma", "lemma"),
        ("lemma-add", "router"),
        ("lemma-list", "shipped"),
    ] {
        let page = std::fs::read_to_string(folder.path(&format!("pages/vinet-{name}.1"))).expect("a page");
        assert!(page.contains(word), "{name}: {page}");
    }
}
