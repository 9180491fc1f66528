//! The commands that talk to a router, over loopback against a router of this test: a real session, the real checker,
//! a list in memory in place of a data path.

use serde_json::Value;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vinet_client::replay::builtin_policy;
use vinet_session::identity::{Authority, Identity, PublicKey};
use vinet_session::message::{
    Class, LemmaPlace, NewLemma, ProgramStatus, Receipt, Rejection, Reply, Request, SignedPolicy, Tariff,
};
use vinet_session::receipt::{ChainHead, Installed, ReceiptSubject};
use vinet_session::{NonceCache, Now, Server, ServerEvent, verify_upload, verify_withdraw};
use vinet_trusted::check::check;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::Instr;

/// Keys, a folder for files, and a router that serves one connection after the other.
struct Lab {
    dir: TempDir,
    addr: SocketAddr,
    installed: Arc<Mutex<Vec<ProgramStatus>>>,
    uploads: Arc<Mutex<usize>>,
}

fn vinet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vinet")).args(args).output().expect("vinet runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn object(output: &Output) -> Value {
    let printed = text(&output.stdout);
    serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed}{}", text(&output.stderr)))
}

fn keys(dir: &Path) {
    let ca = dir.to_str().expect("a plain path");
    succeeds(&vinet(&["ca", "init", "--out", ca]));
    let me = format!("{ca}/me.key");
    succeeds(&vinet(&["ca", "issue", "--ca", ca, "--principal", "192.0.2.2", "--out", &me]));
    let router = format!("{ca}/router.key");
    succeeds(&vinet(&["ca", "router", "--ca", ca, "--name", "edge1", "--address", "127.0.0.1", "--out", &router]));
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().expect("a temporary folder");
        keys(dir.path());
        let identity = Arc::new(Identity::load(&dir.path().join("router.key")).expect("the router's identity"));
        let authority = Arc::new(Authority::load(&dir.path().join("authority.pub")).expect("the authority"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("its address");
        let installed = Arc::new(Mutex::new(Vec::new()));
        let uploads = Arc::new(Mutex::new(0));
        let router = RouterState {
            identity,
            authority,
            policy: Arc::new(builtin_policy(PrincipalKind::EndUser, 32)),
            installed: Arc::clone(&installed),
            uploads: Arc::clone(&uploads),
            nonces: NonceCache::new(100, 100),
            chains: HashMap::new(),
            lemmas: LemmaStore::clone(&vinet_prover::library()),
            roots: vec![vinet_prover::library().root()],
        };
        std::thread::spawn(move || router.serve(&listener));
        Lab { dir, addr, installed, uploads }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run_at(&self, addr: SocketAddr, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vinet"));
        command.args(args).args(["--router", &addr.to_string()]);
        command.env("VINET_IDENTITY", self.path("me.key")).env("VINET_AUTHORITY", self.path("authority.pub"));
        command.current_dir(self.dir.path()).output().expect("vinet runs")
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_at(self.addr, args)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).expect("a file in a temporary folder");
    }
}

/// What the router of these tests says of programs that make packets.
const UNSUPPORTED: &str = "this router's workers make no packets";

struct RouterState {
    identity: Arc<Identity>,
    authority: Arc<Authority>,
    policy: Arc<Policy>,
    installed: Arc<Mutex<Vec<ProgramStatus>>>,
    uploads: Arc<Mutex<usize>>,
    nonces: NonceCache,
    chains: HashMap<PublicKey, ChainHead>,
    /// The library, and the owner's lemmas behind it.
    lemmas: LemmaStore,
    /// The roots that it has had.
    roots: Vec<[u8; 32]>,
}

impl RouterState {
    fn serve(mut self, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            // A client that goes away in the middle ends its own session only.
            let _ = self.session(stream);
        }
    }

    fn session(&mut self, mut stream: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
        let origin = Instant::now();
        let mut server = Server::new(Arc::clone(&self.identity), Arc::clone(&self.authority), Now::read(origin))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut buffer = [0; 4096];
        loop {
            loop {
                match server.poll(Now::read(origin)) {
                    Ok(None) => break,
                    Ok(Some(ServerEvent::Established(_))) => {}
                    Ok(Some(ServerEvent::Request { id, request })) => {
                        let reply = self.reply(&server, request);
                        server.reply(id, &reply, Now::read(origin))?;
                    }
                    Err(error) => {
                        stream.write_all(server.transmit())?;
                        return Err(error.into());
                    }
                }
            }
            stream.write_all(server.transmit())?;
            server.transmitted(server.transmit().len());
            let room = server.room().min(buffer.len());
            let read = stream.read(&mut buffer[..room])?;
            if read == 0 {
                return Ok(());
            }
            server.receive(&buffer[..read]);
        }
    }

    fn reply(&mut self, server: &Server, request: Request) -> Reply {
        let owner = server.peer().expect("an established session has an owner");
        let now_s = Now::read(Instant::now()).wall_s;
        let id = self.identity.public();
        match request {
            Request::GetPolicy { kind: PrincipalKind::EndUser } => Reply::Policy(SignedPolicy::sign(
                &self.policy,
                vinet_prover::library().root(),
                Tariff::FREE,
                &self.identity,
            )),
            Request::AddLemma(NewLemma { lemma, proof }) => match self.lemmas.add(&lemma, &proof) {
                Ok(number) => {
                    self.roots.push(self.lemmas.root());
                    Reply::Lemma(LemmaPlace { index: number as u32, root: self.lemmas.root() })
                }
                Err(error) => Reply::Rejected(Rejection::new("lemma-rejected", &error.to_string(), None)),
            },
            Request::GetPolicy { .. } => Reply::Rejected(Rejection::new("no-policy", "no policy for these", None)),
            Request::Upload(upload) => {
                *self.uploads.lock().expect("no panic") += 1;
                let roots = &self.roots;
                let knows_lemmas = |root: &[u8; 32]| roots.contains(root);
                let policy = self.policy.id();
                let verified = verify_upload(*upload, owner, &id, &policy, knows_lemmas, now_s, &mut self.nonces);
                let terms = match verified {
                    Ok(authentic) => authentic.into_terms(),
                    Err(fault) => return Reply::Rejected(fault.into()),
                };
                let proof = terms.proof.clone().unwrap_or_else(|| {
                    let program = vinet_trusted::program::Program::decode(&terms.program).expect("a program");
                    vinet_prover::analyse(&program, &terms.principal, &self.policy, &self.lemmas).unwrap_or_default()
                });
                let checked = match check(&terms.program, &proof, terms.principal, &self.policy, &self.lemmas) {
                    Ok(checked) => checked,
                    Err(reject) => {
                        let instr = reject.instr().map(|instr| instr as u32);
                        return Reply::Rejected(Rejection::new(reject.code(), &reject.to_string(), instr));
                    }
                };
                assert_eq!((checked.complexity(), checked.cost()), (terms.complexity, terms.cost), "as declared");
                let body = checked.program().body();
                if let Some(at) = body.iter().position(|instr| matches!(instr, Instr::Generate { .. })) {
                    return Reply::Rejected(Rejection::new("generate-unsupported", UNSUPPORTED, Some(at as u32)));
                }
                let mut installed = self.installed.lock().expect("no panic");
                let status = ProgramStatus {
                    instance: installed.len() as u64 + 7,
                    program_id: checked.program_id(),
                    class: Class::of(checked.program()),
                    complexity: checked.complexity(),
                    cost: checked.cost(),
                    packet_rate: terms.packet_rate,
                    seconds_left: terms.lifetime_s,
                    packets_seen: 10,
                    bytes_seen: 1000,
                    packets_discarded: 4,
                    bytes_discarded: 400,
                    packets_over_budget: 0,
                    monitor: terms.monitor,
                };
                installed.push(status.clone());
                let subject = ReceiptSubject::Installed(Box::new(Installed {
                    instance: status.instance,
                    program_id: status.program_id,
                    principal: terms.principal,
                    policy_id: terms.policy_id,
                    class: status.class,
                    complexity: status.complexity,
                    cost: status.cost,
                    packet_rate: status.packet_rate,
                    installed_s: now_s,
                    ends_s: now_s + u64::from(terms.lifetime_s),
                    nonce: terms.nonce,
                    monitor: terms.monitor,
                }));
                let head = self.chains.entry(owner.key()).or_insert(ChainHead::start(owner.key()));
                let receipt = Receipt::sign(head.next(now_s, 0, 0, subject).expect("no amounts"), &self.identity);
                head.push(&receipt).expect("the next");
                Reply::Receipt(receipt)
            }
            Request::List => Reply::List(self.installed.lock().expect("no panic").clone()),
            Request::Show { instance } => self.find(instance, false),
            Request::Withdraw(withdraw) => match verify_withdraw(&withdraw, owner, &id, now_s, &mut self.nonces) {
                Ok(instance) => self.find(instance, true),
                Err(fault) => Reply::Rejected(fault.into()),
            },
            _ => Reply::Rejected(Rejection::new("not-served", "this router does not answer this", None)),
        }
    }

    fn find(&self, instance: u64, withdraw: bool) -> Reply {
        let mut installed = self.installed.lock().expect("no panic");
        match installed.iter().position(|status| status.instance == instance) {
            Some(at) if withdraw => Reply::Withdrawn(installed.remove(at)),
            Some(at) => Reply::Status(installed[at].clone()),
            None => Reply::Rejected(Rejection::new("not-found", "there is no such program of yours", None)),
        }
    }
}

#[test]
fn a_firewall_goes_from_addresses_to_a_receipt_and_back() {
    let lab = Lab::new();
    let firewall = ["firewall", "--block", "203.0.113.7", "--block", "198.51.100.0/24", "--lifetime", "2m"];
    let receipt = object(&lab.run(&[&firewall[..], &["--json"]].concat()));
    assert_eq!(receipt["instance"], 7);
    assert_eq!(receipt["principal"], "192.0.2.2");
    assert_eq!(receipt["class"], "header");
    assert_eq!(receipt["lifetime_s"], 120);
    assert_eq!(receipt["ends_s"].as_u64(), receipt["installed_s"].as_u64().map(|s| s + 120));
    assert!(receipt["proof_bytes"].as_u64().is_some_and(|bytes| bytes > 0 && bytes < 100), "{receipt}");
    let words = succeeds(&lab.run(&firewall));
    assert!(words.starts_with("program 8 is installed at router `edge1` for 2 minutes: "), "{words}");
    let spam = object(&lab.run(&["spam", "--word", "lottery", "--word", "winner", "--lifetime", "1d", "--json"]));
    assert_eq!((&spam["instance"], &spam["class"]), (&Value::from(9), &Value::from("content")));

    let list = succeeds(&lab.run(&["list", "--json"]));
    let list: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(list.len(), 3);
    assert_eq!(list[0]["program"], receipt["program"]);
    assert_eq!(list[0], object(&lab.run(&["show", "7", "--json"])));
    assert_eq!(list[0]["packets_discarded"], 4);
    assert_eq!(object(&lab.run(&["withdraw", "7", "--json"])), list[0]);
    for command in ["withdraw", "show"] {
        let gone = lab.run(&[command, "7", "--json"]);
        assert_eq!(gone.status.code(), Some(1));
        assert_eq!(object(&gone)["reason"]["code"], "not-found");
        assert!(text(&gone.stderr).contains("not-found: there is no such program of yours"));
    }
    assert_eq!(succeeds(&lab.run(&["list"])).lines().count(), 2);
}

#[test]
fn verbose_tells_each_step_and_dry_run_uploads_nothing() {
    let lab = Lab::new();
    let tried = lab.run(&["firewall", "--block", "203.0.113.7", "--lifetime", "2d", "--dry-run", "-v", "--json"]);
    let told = text(&tried.stderr);
    let places: Vec<_> =
        ["connecting to", "the router is `edge1`", "policy `replay`", "BadPackets = ", "proven: proof of"]
            .iter()
            .map(|step| told.find(step).unwrap_or_else(|| panic!("{step} in {told}")))
            .collect();
    assert!(places.is_sorted(), "{told}");
    let object = object(&tried);
    assert_eq!(object["dry_run"], true);
    assert_eq!(object["cost"].as_u64(), object["complexity"].as_u64().map(|c| c * 172_800));
    assert_eq!(*lab.uploads.lock().expect("no panic"), 0);
    assert!(text(&lab.run(&["firewall", "--block", "203.0.113.7", "--lifetime", "2d"]).stderr).is_empty());
}

#[test]
fn what_cannot_be_proven_is_told_by_its_line_and_never_uploaded() {
    let lab = Lab::new();
    lab.write("bad.vnp", "LIFETIME = 1 hour\nBad = GROUP_BY_SOURCE(AllPackets, X);\nDISCARD(Bad);\n");
    let refused = lab.run(&["upload", "bad.vnp", "--set", "X=203.0.113.7", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    let reason = object(&refused)["reason"].clone();
    assert_eq!(reason["code"], "not-proven");
    assert_eq!((reason["line"].as_u64(), reason["column"].as_u64()), (Some(2), Some(1)));
    let told = text(&refused.stderr);
    assert!(told.starts_with("bad.vnp:2:1: not-proven: no proof was found that the policy allows"), "{told}");
    assert!(told.contains(" 2 | Bad = GROUP_BY_SOURCE(AllPackets, X)"), "{told}");
    assert!(
        told.contains("\ncounterexample, as the reference interpreter runs it:\n  packet 1 from 203.0.113.7"),
        "{told}"
    );
    assert_eq!(reason["counterexample"]["packets"][0]["src"], "203.0.113.7");
    assert_eq!(*lab.uploads.lock().expect("no panic"), 0);
}

#[test]
fn a_proof_that_shows_nothing_is_told_by_the_line_and_never_uploaded() {
    let lab = Lab::new();
    lab.write("bad.vnp", "LIFETIME = 1 hour\nBad = GROUP_BY_SOURCE(AllPackets, 203.0.113.7);\nDISCARD(Bad);\n");
    std::fs::write(lab.path("any.proof"), [0, 0xff]).expect("a file in a temporary folder");
    for (more, told) in [(&["any.proof"][..], "not-proven: obligation 0"), (&["--mode", "static"], "not-analysed: ")] {
        let refused = lab.run(&[&["upload", "bad.vnp"], more].concat());
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).starts_with(&format!("bad.vnp:2:1: {told}")), "{}", text(&refused.stderr));
    }
    // The same from bytecode with its map.
    succeeds(&vinet_in(&lab, &["compile", "bad.vnp", "--as", "192.0.2.2", "-o", "bad.vnb"]));
    let refused = lab.run(&["upload", "bad.vnb", "any.proof"]);
    assert!(text(&refused.stderr).starts_with("bad.vnp:2:1: not-proven"), "{}", text(&refused.stderr));
    std::fs::remove_file(lab.path("bad.vnb.map")).expect("the map");
    let refused = lab.run(&["upload", "bad.vnb", "any.proof"]);
    assert!(
        text(&refused.stderr).starts_with("vinet: not-proven: obligation 0 (instruction 0)"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(*lab.uploads.lock().expect("no panic"), 0);
}

#[test]
fn what_the_router_rejects_is_told_by_the_line_and_changes_nothing() {
    let lab = Lab::new();
    let multicast = ["multicast", "--from", "203.0.113.9", "--lifetime", "5h"];
    let tried = object(&lab.run(&[&multicast[..], &["--dry-run", "--json"]].concat()));
    assert_eq!(tried["dry_run"], true);
    assert_eq!(*lab.uploads.lock().expect("no panic"), 0);
    let refused = lab.run(&[&multicast[..], &["--json"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    let told = text(&refused.stderr);
    assert!(told.starts_with(&format!("multicast.vnp:6:1: generate-unsupported: {UNSUPPORTED}\n")), "{told}");
    assert!(told.contains(" 6 | GENERATE(203.0.113.9, THIS_IP, Destinations)"), "{told}");
    assert_eq!(object(&refused)["reason"]["code"], "generate-unsupported");
    assert_eq!(*lab.uploads.lock().expect("no panic"), 1);
    assert!(lab.installed.lock().expect("no panic").is_empty());
}

#[test]
fn ones_own_lemmas_are_sent_once_and_cited_by_later_proofs() {
    let lab = Lab::new();
    lab.write(
        "a.vpf",
        "module a\nlemma first-of (P Q : Prop)\ngiven both: P and Q\nshows P\nproof { left(both) }\n\
         lemma last-of (P Q : Prop)\ngiven both: P and Q\nshows Q\nproof { right(both) }\n",
    );
    lab.write(
        "b.vpf",
        "lemma last-of-three (P Q R : Prop)\ngiven all: P and (Q and R)\nshows R\n\
         proof { a.last-of(a.last-of(all)) }\n",
    );
    lab.write("c.vpf", "lemma twice (P : Prop)\ngiven it: P\nshows P and P\nproof { both(it, it) }\n");
    let shipped = vinet_prover::library().len();
    let added = succeeds(&lab.run(&["lemma", "add", "a.vpf", "--json"]));
    let added: Vec<Value> = added.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(added.len(), 2);
    for (place, (object, name)) in added.iter().zip(["a.first-of", "a.last-of"]).enumerate() {
        assert_eq!((&object["index"], &object["name"]), (&(shipped + place).into(), &name.into()));
    }
    // The same again changes nothing.
    let again = succeeds(&lab.run(&["lemma", "add", "a.vpf"]));
    let root = added[1]["root"].as_str().expect("a root");
    assert_eq!(again.lines().last(), Some(format!("lemma {} is a.last-of; root {root}", shipped + 1).as_str()));
    // What comes behind others says so; a router that has them in another order gives no numbers that would not fit.
    let order = lab.run(&["lemma", "add", "c.vpf", "--json"]);
    assert_eq!((order.status.code(), &object(&order)["reason"]["code"]), (Some(1), &"lemma-order".into()));

    // A proof that cites one of them passes where the router is told that it may.
    succeeds(&lab.run(&["policy", "--output", "policy.toml"]));
    lab.write("f.vnp", &succeeds(&vinet(&["firewall", "--block", "203.0.113.7", "--lifetime", "2m", "--emit"])));
    succeeds(&vinet_in(&lab, &["compile", "f.vnp", "--as", "192.0.2.2", "-o", "f.vnb"]));
    lab.write("f.vpf", "obligation 0 { a.last-of(unfold(member)) }\n");
    let prove =
        ["prove", "f.vnb", "--policy", "policy.toml", "--as", "192.0.2.2", "-o", "f.proof", "--lemmas", "a.vpf"];
    succeeds(&vinet_in(&lab, &[&prove[..], &["--script", "f.vpf"]].concat()));
    let receipt = object(&lab.run(&["upload", "f.vnb", "f.proof", "--lemmas", "a.vpf", "--json"]));
    assert_eq!(receipt["instance"], 7);
    let refused = lab.run(&["upload", "f.vnb", "f.proof"]);
    assert!(text(&refused.stderr).contains("not-proven: obligation 0"), "{}", text(&refused.stderr));
    // Lemmas that the router has not are no ground to stand on there.
    let missing = lab.run(&["upload", "f.vnb", "f.proof", "--lemmas", "a.vpf", "--lemmas", "b.vpf"]);
    assert!(text(&missing.stderr).starts_with("vinet: stale-manifest: "), "{}", text(&missing.stderr));
}

fn vinet_in(lab: &Lab, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vinet")).args(args).current_dir(lab.dir.path()).output().expect("vinet runs")
}

#[test]
fn a_fetched_policy_proves_and_an_own_proof_is_accepted() {
    let lab = Lab::new();
    succeeds(&lab.run(&["policy", "--output", "policy.toml"]));
    let object_of = object(&lab.run(&["policy", "--json"]));
    assert_eq!((&object_of["router"], &object_of["principals"]), (&Value::from("edge1"), &Value::from("end-user")));
    let toml = std::fs::read_to_string(lab.path("policy.toml")).expect("the policy");
    assert_eq!(object_of["toml"], toml);
    assert_eq!(succeeds(&lab.run(&["policy"])), toml);
    assert_eq!(lab.run(&["policy", "--kind", "edge-router"]).status.code(), Some(1));
    lab.write("f.vnp", &succeeds(&vinet(&["firewall", "--block", "203.0.113.7", "--lifetime", "2m", "--emit"])));
    succeeds(&vinet_in(&lab, &["compile", "f.vnp", "--as", "192.0.2.2", "-o", "f.vnb"]));
    succeeds(&vinet_in(&lab, &["prove", "f.vnb", "--policy", "policy.toml", "--as", "192.0.2.2", "-o", "f.proof"]));
    let receipt = object(&lab.run(&["upload", "f.vnb", "f.proof", "--rate", "1234", "--json"]));
    assert_eq!((&receipt["packet_rate"], &receipt["policy"]), (&Value::from(1234), &object_of["policy"]));
    let analysed = object(&lab.run(&["upload", "f.vnp", "--mode", "static", "--json"]));
    assert_eq!((&analysed["program"], &analysed["proof_bytes"]), (&receipt["program"], &Value::from(0)));
}

/// A listener that does something else than a router to its first connection.
fn impostor(act: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    std::thread::spawn(move || act(listener.accept().expect("a connection").0));
    addr
}

#[track_caller]
fn fails(output: &Output, expected: &str) {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.starts_with(&format!("vinet: {expected}")), "told: {told}\nexpected: {expected}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_router_that_hangs_speaks_rubbish_or_goes_away_is_told_in_time() {
    let lab = Lab::new();
    let start = Instant::now();
    let silent = impostor(|stream| {
        std::thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    fails(&lab.run_at(silent, &["list", "--timeout", "1"]), "no answer within 1 s while introducing ourselves");
    assert!(start.elapsed() < Duration::from_secs(10));
    let closing = impostor(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
    });
    fails(&lab.run_at(closing, &["list"]), "");
    let rubbish = impostor(|mut stream| {
        let _ = stream.write_all(&[0x55; 4096]);
        let _ = stream.read(&mut [0; 4096]);
    });
    fails(&lab.run_at(rubbish, &["list"]), "the session ended: ");
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    fails(&lab.run_at(nobody, &["list"]), &format!("no connection to {nobody}: Connection refused"));
    fails(
        &vinet_in(&lab, &["list", "--router", "192.0.2.1", "--identity", "me.key", "--authority", "authority.pub"]),
        "192.0.2.1 has no address",
    );
}

#[test]
fn strangers_are_not_talked_to() {
    let lab = Lab::new();
    fails(&lab.run(&["list", "--router-name", "edge2"]), "the session ended: ");
    let other = Lab::new();
    let authority = other.path("authority.pub");
    let authority = authority.to_str().expect("a plain path");
    fails(&lab.run(&["list", "--authority", authority]), "the session ended: ");
    let identity = other.path("me.key");
    fails(&lab.run(&["list", "--identity", identity.to_str().expect("a plain path")]), "the session ended: ");
    fails(&lab.run(&["list", "--identity", "router.key"]), "this identity is a router's");
    fails(&lab.run(&["list", "--identity", "nowhere.key"]), "");
}
