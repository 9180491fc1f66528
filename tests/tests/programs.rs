//! Programs on a running router: what a victim can do, for how long, and what nobody can do to another.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vinet_client::link::Link;
use vinet_session::Now;
use vinet_session::identity::{Authority, Identity};
use vinet_session::message::{Class, Reply, Request, Terms, Upload, fresh_nonce};
use vinet_tests::client::Client;
use vinet_tests::host::Host;
use vinet_tests::keys;
use vinet_tests::lab::{ATTACKER, ATTACKER6, LAWFUL, LAWFUL6, Lab, VICTIM, VICTIM6};
use vinet_tests::process::{binary, eventually, run};
use vinet_tests::router::{Config, Driver, Router};
use vinet_tests::story;
use vinet_tests::traffic::{Sink, WebServer, ping, reaches, send_datagrams};
use vinet_trusted::policy::PrincipalKind;
use vinet_trusted::program::Program;

/// How long the first packet may wait for routes and neighbours to be learnt.
const LEARN_LIMIT: Duration = Duration::from_secs(5);

/// The senders' and the victim's addresses of one family, and the router's control port in it.
struct Family {
    lawful: IpAddr,
    attacker: IpAddr,
    victim: IpAddr,
    router: &'static str,
}

fn families() -> [Family; 2] {
    [
        Family { lawful: LAWFUL.into(), attacker: ATTACKER.into(), victim: VICTIM.into(), router: "192.0.2.1:7400" },
        Family {
            lawful: LAWFUL6.into(),
            attacker: ATTACKER6.into(),
            victim: VICTIM6.into(),
            router: "[2001:db8:c::1]:7400",
        },
    ]
}

fn learn(lab: &Lab, victim: IpAddr) {
    for sender in [&lab.lawful, &lab.attacker] {
        assert!(reaches(sender, victim, LEARN_LIMIT), "{} does not reach {victim}", sender.name());
    }
}

/// Sends datagrams from both senders and returns how many of each arrived.
fn arrivals(lab: &Lab, family: &Family, count: u64) -> (u64, u64) {
    let to = SocketAddr::new(family.victim, 9000);
    let sink = Sink::start(&lab.victim, to, &[family.lawful, family.attacker]);
    for (host, source) in [(&lab.lawful, family.lawful), (&lab.attacker, family.attacker)] {
        send_datagrams(&host.udp(SocketAddr::new(source, 0)), to, count);
    }
    sink.settle();
    (sink.count(family.lawful), sink.count(family.attacker))
}

fn a_victim_stops_an_attacker(driver: Driver) {
    let lab = Lab::new();
    let router = Router::start(&lab, &Config { driver, ..Config::default() });
    for family in families() {
        learn(&lab, family.victim);
        assert_eq!(arrivals(&lab, &family, 400), (400, 400), "before");
        let victim = Client::new(&lab, &lab.victim, &family.victim.to_string(), family.router);
        let dropped_before = router.counters().drops("program");
        let instance = victim.install(&format!("firewall --block {} --lifetime 10m", family.attacker));
        assert_eq!(arrivals(&lab, &family, 400), (400, 0), "while the firewall is installed");
        assert_eq!(ping(&lab.attacker, family.victim, 5, "-s 4000"), 0, "fragments are judged by their addresses");
        assert_eq!(ping(&lab.lawful, family.victim, 5, "-s 4000"), 5);

        let shown = victim.json(&format!("show {instance}"));
        let discarded = shown["packets_discarded"].as_u64().expect("a count");
        assert!(discarded >= 405, "400 datagrams and 5 pings, in fragments or put together again: {shown}");
        assert_eq!(discarded, router.counters().drops("program") - dropped_before, "both counters agree");
        let left = shown["seconds_left"].as_u64().expect("seconds");
        assert!((500..=600).contains(&left), "{shown}");
        let listed = victim.list();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0]["instance"].as_u64(), Some(instance));

        let last = victim.json(&format!("withdraw {instance}"));
        assert!(last["packets_discarded"].as_u64() >= Some(discarded), "{last}");
        assert!(victim.list().is_empty());
        assert_eq!(arrivals(&lab, &family, 400), (400, 400), "after the withdrawal");
        victim.run(&format!("show {instance}")).expect_code(1);
    }
    let counters = router.counters();
    assert_eq!(counters.unaccounted(), 0, "{:#}", counters.value());
}

#[test]
fn a_victim_stops_an_attacker_over_af_packet() {
    let Some(_story) = story::begin("a_victim_stops_an_attacker_over_af_packet") else { return };
    a_victim_stops_an_attacker(Driver::AfPacket);
}

#[test]
fn a_victim_stops_an_attacker_over_af_xdp() {
    let Some(_story) = story::begin("a_victim_stops_an_attacker_over_af_xdp") else { return };
    a_victim_stops_an_attacker(Driver::AfXdp);
}

#[test]
fn a_lifetime_ends_by_itself() {
    let Some(_story) = story::begin("a_lifetime_ends_by_itself") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &Config::default());
    let family = &families()[0];
    learn(&lab, family.victim);
    let victim = Client::new(&lab, &lab.victim, &family.victim.to_string(), family.router);
    let at = Instant::now();
    victim.install(&format!("firewall --block {ATTACKER} --lifetime 5s"));
    assert_eq!(ping(&lab.attacker, family.victim, 3, ""), 0);
    assert!(
        eventually(Duration::from_secs(15), || ping(&lab.attacker, family.victim, 1, "") == 1),
        "the traffic is back"
    );
    let took = at.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(9)).contains(&took), "a lifetime of 5 s ended after {took:?}");
    assert!(victim.list().is_empty());
}

#[test]
fn a_blocked_prefix_blocks_every_address_in_it() {
    let Some(_story) = story::begin("a_blocked_prefix_blocks_every_address_in_it") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &Config::default());
    let family = &families()[0];
    learn(&lab, family.victim);
    lab.attacker.address("eth0", "198.51.100.9/24");
    let victim = Client::new(&lab, &lab.victim, &family.victim.to_string(), family.router);
    victim.install("firewall --block 198.51.100.0/28 --lifetime 10m");
    assert_eq!(ping(&lab.attacker, family.victim, 3, ""), 0);
    assert_eq!(ping(&lab.attacker, family.victim, 3, "-I 198.51.100.9"), 0);
    lab.attacker.address("eth0", "198.51.100.99/24");
    assert!(eventually(LEARN_LIMIT, || ping(&lab.attacker, family.victim, 1, "-I 198.51.100.99") == 1));
    assert_eq!(ping(&lab.lawful, family.victim, 3, ""), 3);
}

/// A POST of the body in pieces, each a TCP segment of its own; true when the server answered.
fn post_in_pieces(from: &Host, to: SocketAddr, pieces: &[&str]) -> bool {
    let Ok(mut stream) = from.connect(to, Duration::from_secs(2)) else { return false };
    let length: usize = pieces.iter().map(|p| p.len()).sum();
    let head = format!("POST / HTTP/1.0\r\nContent-Length: {length}\r\n");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket takes a time limit");
    for piece in std::iter::once(head.as_str()).chain(pieces.iter().copied()).chain(["\r\n\r\n"]) {
        if stream.write_all(piece.as_bytes()).is_err() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).is_ok() && answer.starts_with(b"HTTP/1.0 200")
}

#[test]
fn a_spam_filter_finds_words_that_are_split_over_segments() {
    let Some(_story) = story::begin("a_spam_filter_finds_words_that_are_split_over_segments") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config::default());
    for family in families() {
        learn(&lab, family.victim);
        let web = SocketAddr::new(family.victim, 80);
        let _server = WebServer::start(&lab.victim, web, b"received".to_vec());
        let spam: &[&str] = &["buy ch", "eap and good pil", "ls today"];
        let half: &[&str] = &["buy ch", "eap and good apples"];
        assert!(post_in_pieces(&lab.attacker, web, spam), "before the filter");
        let victim = Client::new(&lab, &lab.victim, &family.victim.to_string(), family.router);
        let instance = victim.install("spam --word cheap --word pills --lifetime 10m");
        assert!(!post_in_pieces(&lab.attacker, web, spam), "both words, split over segments");
        assert!(post_in_pieces(&lab.attacker, web, half), "one of the two words");
        assert!(post_in_pieces(&lab.lawful, web, &["nothing of the kind"]));
        let shown = victim.json(&format!("show {instance}"));
        assert!(shown["packets_discarded"].as_u64() > Some(0), "{shown}");
        victim.json(&format!("withdraw {instance}"));
        assert!(post_in_pieces(&lab.attacker, web, spam), "after the withdrawal");
    }
    assert_eq!(router.counters().unaccounted(), 0);
}

#[test]
fn an_edge_router_programs_for_its_whole_subnet() {
    let Some(_story) = story::begin("an_edge_router_programs_for_its_whole_subnet") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &Config::default());
    lab.victim.address("eth0", "192.0.2.3/24");
    let neighbour: IpAddr = "192.0.2.3".parse().expect("an address");
    learn(&lab, VICTIM.into());
    assert!(reaches(&lab.attacker, neighbour, LEARN_LIMIT));
    let source = lab.dir().join("subnet.vnp");
    let text = "LIFETIME = 10 minutes\nOurs = GROUP_BY_DESTINATION(AllPackets,THIS_SUBNET_IP);\n\
                Bad = GROUP_BY_SOURCE(Ours,198.51.100.2);\nDISCARD(Bad);\n";
    std::fs::write(&source, text).expect("the laboratory's folder can be written");
    // An end user owns no subnet, so the same source is no program for it.
    let user = Client::new(&lab, &lab.victim, "192.0.2.2", "192.0.2.1:7400");
    assert_ne!(user.run(&format!("upload {}", source.display())).code, Some(0));
    let edge = Client::new(&lab, &lab.victim, "192.0.2.2/24", "192.0.2.1:7400");
    edge.install(&format!("upload {}", source.display()));
    assert_eq!(ping(&lab.attacker, VICTIM.into(), 3, ""), 0);
    assert_eq!(ping(&lab.attacker, neighbour, 3, ""), 0);
    assert_eq!(ping(&lab.lawful, neighbour, 3, ""), 3);
}

/// Uploads a program as it is, with figures made up, and gives the code of the router's rejection.
fn rejection(lab: &Lab, host: &Host, principal: &str, router: &str, program: &[u8], proof: Option<Vec<u8>>) -> String {
    let identity = Identity::load(&keys::identity(lab.dir(), principal)).expect("the client's identity");
    let authority = Authority::load(&lab.dir().join("authority.pub")).expect("the authority");
    let (identity, authority) = (Arc::new(identity), Arc::new(authority));
    let owner = identity.principal().expect("an owner's identity");
    let decoded = Program::decode(program).expect("a program");
    host.inside(|| {
        let limit = Duration::from_secs(20);
        let mut link = Link::open(router, Arc::clone(&identity), authority, None, limit).expect("a session");
        let kind = PrincipalKind::of(&owner);
        let reply = link.ask(&Request::GetPolicy { kind }, "fetching the policy").expect("an answer");
        let Reply::Policy(signed) = reply else { panic!("not a policy: {reply:?}") };
        let lemma_root = signed.lemma_root();
        let policy = signed.verify(link.router(), &lemma_root).expect("the router's policy");
        let terms = Terms {
            router: link.router().id(),
            policy_id: policy.id(),
            lemma_root,
            class: Class::of(&decoded),
            program: program.to_vec(),
            proof,
            principal: owner,
            complexity: 200,
            cost: 200 * u64::from(decoded.lifetime_s()),
            lifetime_s: decoded.lifetime_s(),
            packet_rate: policy.limits.packet_rate_default,
            payment: 0,
            quote: None,
            monitor: false,
            nonce: fresh_nonce().expect("random bytes"),
            expiry_s: Now::read(Instant::now()).wall_s + 60,
        };
        let request = Request::Upload(Box::new(Upload::sign(terms, &identity)));
        match link.ask(&request, "uploading the program").expect("an answer") {
            Reply::Rejected(rejection) => rejection.code().to_string(),
            reply => panic!("not a rejection: {reply:?}"),
        }
    })
}

#[test]
fn a_client_cannot_discard_anothers_packets() {
    let Some(_story) = story::begin("a_client_cannot_discard_anothers_packets") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config { verify: "either", ..Config::default() });
    learn(&lab, VICTIM.into());
    let source = lab.dir().join("foul.vnp");
    let text = "LIFETIME = 1 hr\nAnybodys = GROUP_BY_SOURCE(AllPackets,203.0.113.2);\nDISCARD(Anybodys);\n";
    std::fs::write(&source, text).expect("the laboratory's folder can be written");
    let attacker = Client::new(&lab, &lab.attacker, "198.51.100.2", "198.51.100.1:7400");
    // The client finds no proof, no analysis shows it, and a proof of something else proves nothing.
    let compiled = lab.dir().join("foul.vnb");
    keys::vinet(&format!("compile {} --as 198.51.100.2 -o {}", source.display(), compiled.display())).expect();
    let proof = lab.dir().join("other.proof");
    std::fs::write(&proof, [0x03, 0x05, 0x01, 0x00]).expect("a file of the laboratory");
    let compiled_and_proof = format!("{} {}", compiled.display(), proof.display());
    for words in [
        format!("{} --mode proof", source.display()),
        format!("{} --mode static", source.display()),
        format!("{compiled_and_proof} --unchecked"),
        compiled_and_proof,
    ] {
        let said = attacker.run(&format!("upload {words}")).expect_code(1);
        assert!(
            said.contains("foul.vnp:2") && said.contains("GROUP_BY_SOURCE"),
            "the offence and its source line: {said}"
        );
    }
    // Nor does a client get further that asks nobody before it asks the router.
    let program = std::fs::read(&compiled).expect("the compiled program");
    for (proof, code) in
        [(Some(vec![0x00, 0x01, 0x00]), "not-proven"), (Some(Vec::new()), "not-proven"), (None, "not-analysed")]
    {
        assert_eq!(rejection(&lab, &lab.attacker, "198.51.100.2", "198.51.100.1:7400", &program, proof), code);
    }
    let counters = router.counters();
    assert!(counters.get(&["admission", "rejected"]) >= 4, "the router itself refused them: {:#}", counters.value());
    assert!(attacker.list().is_empty());
    assert_eq!(counters.drops("program"), 0);
    assert_eq!(ping(&lab.lawful, VICTIM.into(), 10, ""), 10);
}

#[test]
fn a_client_cannot_withdraw_or_see_anothers_program() {
    let Some(_story) = story::begin("a_client_cannot_withdraw_or_see_anothers_program") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &Config::default());
    learn(&lab, VICTIM.into());
    let victim = Client::new(&lab, &lab.victim, "192.0.2.2", "192.0.2.1:7400");
    let attacker = Client::new(&lab, &lab.attacker, "198.51.100.2", "198.51.100.1:7400");
    let instance = victim.install(&format!("firewall --block {ATTACKER} --lifetime 10m"));
    attacker.run(&format!("show {instance}")).expect_code(1);
    attacker.run(&format!("withdraw {instance}")).expect_code(1);
    assert!(attacker.list().is_empty());
    assert_eq!(victim.list().len(), 1);
    assert_eq!(ping(&lab.attacker, VICTIM.into(), 3, ""), 0);
}

#[test]
fn a_rejected_upload_changes_nothing() {
    let Some(_story) = story::begin("a_rejected_upload_changes_nothing") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &Config::default());
    learn(&lab, VICTIM.into());
    let victim = Client::new(&lab, &lab.victim, "192.0.2.2", "192.0.2.1:7400");
    let kept = victim.install("firewall --block 198.51.100.77 --lifetime 10m");
    let before = victim.list();

    let file = |name: &str| lab.dir().join(name).display().to_string();
    let write = |name: &str, text: &str| std::fs::write(lab.dir().join(name), text).expect("a file of the laboratory");
    let listing = |lifetime: &str| {
        format!(
            "LIFETIME = {lifetime}\nMyPackets = GROUP_BY_DESTINATION(AllPackets,THIS_IP);\n\
             BadPackets = GROUP_BY_SOURCE(MyPackets,SrcIP);\nDISCARD(BadPackets);\n"
        )
    };
    write("good.vnp", &listing("2 days"));
    write("eternal.vnp", &listing("3000 days"));
    let set = format!("--set SrcIP={ATTACKER}");

    // A lifetime beyond the policy.
    let said = victim.run(&format!("upload {} {set}", file("eternal.vnp"))).expect_code(1);
    assert!(said.to_lowercase().contains("lifetime"), "{said}");
    // A proof that does not fit its program.
    let compiled = file("good.vnb");
    keys::vinet(&format!("compile {} {set} --as 192.0.2.2 -o {compiled}", file("good.vnp"))).expect();
    std::fs::write(lab.dir().join("wrong.proof"), [0xff; 40]).expect("a file of the laboratory");
    victim.run(&format!("upload {compiled} {}", file("wrong.proof"))).expect_code(1);
    // No proof where the router wants one.
    victim.run(&format!("upload {compiled} --mode static")).expect_code(1);
    // An identity that another authority certified.
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    keys::make(elsewhere.path());
    let stranger = keys::identity(elsewhere.path(), "192.0.2.2");
    let mut command = lab.victim.command(binary("vinet"));
    command.args(["list", "--router", "192.0.2.1:7400", "--identity"]).arg(stranger);
    command.arg("--authority").arg(lab.dir().join("authority.pub"));
    assert_ne!(run(command, Duration::from_secs(20)).code, Some(0));

    let after = victim.list();
    assert_eq!(before.len(), after.len());
    assert_eq!(after[0]["instance"].as_u64(), Some(kept));
    assert_eq!(ping(&lab.attacker, VICTIM.into(), 3, ""), 3, "nothing was installed");
}

#[test]
fn ones_own_lemmas_are_sent_once_and_belong_to_nobody_else() {
    let Some(_story) = story::begin("ones_own_lemmas_are_sent_once_and_belong_to_nobody_else") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &Config::default());
    learn(&lab, VICTIM.into());
    let victim = Client::new(&lab, &lab.victim, "192.0.2.2", "192.0.2.1:7400");
    let file = |name: &str| lab.dir().join(name).display().to_string();
    let write = |name: &str, text: &str| std::fs::write(lab.dir().join(name), text).expect("a file of the laboratory");
    write("own.vpf", "lemma last-of (P Q : Prop)\ngiven both: P and Q\nshows Q\nproof { right(both) }\n");
    write("hand.vpf", "obligation 0 { last-of(unfold(member)) }\n");
    let text = victim.run(&format!("firewall --block {ATTACKER} --lifetime 10m --emit")).expect();
    write("firewall.vnp", &text);
    let (compiled, proof, own) = (file("firewall.vnb"), file("firewall.proof"), file("own.vpf"));
    keys::vinet(&format!("compile {} --as 192.0.2.2 -o {compiled}", file("firewall.vnp"))).expect();
    let policy = file("policy.toml");
    victim.run(&format!("policy -o {policy}")).expect();
    let with = format!("--script {} --lemmas {own} --policy {policy}", file("hand.vpf"));
    keys::vinet(&format!("prove {compiled} {with} --as 192.0.2.2 -o {proof}")).expect();
    // Before the lemma is there, and for another owner, the proof stands on nothing.
    let upload = format!("upload {compiled} {proof} --lemmas {own}");
    let said = victim.run(&upload).expect_code(1);
    assert!(said.contains("stale-manifest"), "{said}");
    let added = victim.json(&format!("lemma add {own}"));
    assert_eq!(added["name"], "last-of", "{added}");
    assert_eq!(victim.json(&format!("lemma add {own}"))["index"], added["index"], "the same again");
    let neighbour = Client::new(&lab, &lab.attacker, "198.51.100.2", "198.51.100.1:7400");
    let said = neighbour.run(&upload).expect_code(1);
    assert!(said.contains("stale-manifest"), "{said}");
    victim.install(&upload);
    assert_eq!(ping(&lab.attacker, VICTIM.into(), 3, ""), 0);
}

#[test]
fn a_router_that_analyses_by_itself_needs_no_proof() {
    let Some(_story) = story::begin("a_router_that_analyses_by_itself_needs_no_proof") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &Config { verify: "static", ..Config::default() });
    learn(&lab, VICTIM.into());
    let victim = Client::new(&lab, &lab.victim, "192.0.2.2", "192.0.2.1:7400");
    let source = lab.dir().join("firewall.vnp");
    let text = victim.run(&format!("firewall --block {ATTACKER} --lifetime 10m --emit")).expect();
    std::fs::write(&source, text).expect("the laboratory's folder can be written");
    let instance = victim.install(&format!("upload {} --mode static", source.display()));
    assert_eq!(ping(&lab.attacker, VICTIM.into(), 3, ""), 0);
    victim.json(&format!("withdraw {instance}"));
    assert_eq!(ping(&lab.attacker, VICTIM.into(), 3, ""), 3);
    // A proof that comes nevertheless does no harm.
    victim.install(&format!("firewall --block {ATTACKER} --lifetime 10m"));
    assert_eq!(ping(&lab.attacker, VICTIM.into(), 3, ""), 0);
    assert_eq!(ping(&lab.lawful, VICTIM.into(), 3, ""), 3);
}
