//! Return routability: an address counts as its owner's when packets to it reach the owner.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use vinet_client::link::Link;
use vinet_session::identity::{Authority, Identity};
use vinet_session::message::{Reply, Request};
use vinet_session::reach::{REACH_DATAGRAM_BYTES, ReachAnswer, ReachDatagram};
use vinet_tests::client::Client;
use vinet_tests::host::Host;
use vinet_tests::keys;
use vinet_tests::lab::{ATTACKER, ATTACKER6, Lab, VICTIM, VICTIM6, both};
use vinet_tests::router::{Config, Router};
use vinet_tests::story;
use vinet_tests::traffic::{ping, reaches};
use vinet_tests::wire::{Fate, Wire};

const LEARN_LIMIT: Duration = Duration::from_secs(5);
/// How long a datagram may take that is on its way.
const ARRIVE_LIMIT: Duration = Duration::from_secs(5);

fn required() -> Config {
    Config { reach: "required", ..Config::default() }
}

/// The router's control port, as the hosts of the victim's and of the attacker's network reach it.
fn routers(victim: IpAddr) -> [&'static str; 2] {
    match victim {
        IpAddr::V4(_) => ["192.0.2.1:7400", "198.51.100.1:7400"],
        IpAddr::V6(_) => ["[2001:db8:c::1]:7400", "[2001:db8:b::1]:7400"],
    }
}

/// A session at a host as the owner of that identity, whoever sits there.
fn link(lab: &Lab, host: &Host, principal: &str, router: &str) -> (Link, Identity) {
    let load = || Identity::load(&keys::identity(lab.dir(), principal)).expect("the identity");
    let authority = Arc::new(Authority::load(&lab.dir().join("authority.pub")).expect("the authority"));
    let identity = Arc::new(load());
    let link = host.inside(|| Link::open(router, identity, authority, None, Duration::from_secs(20)));
    (link.expect("a session"), load())
}

fn ask_for_datagram(link: &mut Link, port: u16) -> Reply {
    let ask = Request::ReachMe { port, padding: vec![0; REACH_DATAGRAM_BYTES] };
    link.ask(&ask, "asking for a datagram").expect("an answer")
}

fn heard(socket: &UdpSocket) -> Option<ReachDatagram> {
    socket.set_read_timeout(Some(ARRIVE_LIMIT)).expect("a socket takes a time limit");
    let mut bytes = [0; 1500];
    let len = socket.recv(&mut bytes).ok()?;
    Some(ReachDatagram::decode(&bytes[..len]).expect("only the router's datagrams come to this port"))
}

/// The code of what became of an answer.
fn answered(link: &mut Link, answer: ReachAnswer) -> Result<(), String> {
    match link.ask(&Request::Reached(answer), "answering").expect("an answer") {
        Reply::Reached { .. } => Ok(()),
        Reply::Rejected(why) => Err(why.code().to_owned()),
        reply => panic!("neither reached nor rejected: {reply:?}"),
    }
}

#[test]
fn an_end_user_shows_its_address_by_itself_before_its_program_is_admitted() {
    let Some(_story) = story::begin("an_end_user_shows_its_address_by_itself_before_its_program_is_admitted") else {
        return;
    };
    let lab = Lab::new();
    let router = Router::start(&lab, &required());
    for (victim, attacker) in both(VICTIM, VICTIM6).into_iter().zip(both(ATTACKER, ATTACKER6)) {
        assert!(reaches(&lab.attacker, victim, LEARN_LIMIT));
        let client = Client::new(&lab, &lab.victim, &victim.to_string(), routers(victim)[0]);
        let instance = client.install(&format!("firewall --block {attacker} --lifetime 10m"));
        assert_eq!(ping(&lab.attacker, victim, 3, ""), 0);
        // What is shown counts for a while: another program needs nothing more.
        client.install(&format!("firewall --block {attacker} --lifetime 11m"));
        client.json(&format!("withdraw {instance}"));
    }
    assert_eq!(router.counters().unaccounted(), 0);
}

#[test]
fn a_stolen_identity_without_the_address_installs_nothing() {
    let Some(_story) = story::begin("a_stolen_identity_without_the_address_installs_nothing") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &required());
    for victim in both(VICTIM, VICTIM6) {
        let [_, router] = routers(victim);
        assert!(reaches(&lab.attacker, victim, LEARN_LIMIT));
        // The attacker has the victim's very key file, and is where it is.
        let thief = Client::new(&lab, &lab.attacker, &victim.to_string(), router);
        let refused = thief.run("firewall --block 203.0.113.2 --lifetime 10m");
        let advice = format!("run this where packets to {victim} arrive");
        assert!(refused.code == Some(2) && refused.stderr.contains(&advice), "{refused}");

        // It asks for the datagram all the same, even under the victim's address: the datagram goes to the victim.
        let port = 5_555;
        let (mut link, identity) = link(&lab, &lab.attacker, &victim.to_string(), router);
        let width = if victim.is_ipv4() { 32 } else { 128 };
        lab.attacker.address("lo", &format!("{victim}/{width}"));
        let (at_victim, at_thief) =
            (lab.victim.udp(SocketAddr::new(victim, port)), lab.attacker.udp(SocketAddr::new(victim, port)));
        assert_eq!(ask_for_datagram(&mut link, port), Reply::ReachSent);
        let datagram = heard(&at_victim).expect("the datagram comes to the victim");
        assert_eq!((datagram.router, datagram.principal), (link.router().id(), identity.principal().unwrap()));
        at_thief.set_nonblocking(true).unwrap();
        assert!(at_thief.recv(&mut [0; 10]).is_err(), "it came to the thief");
        // The key alone can sign what it likes.
        let guess = ReachAnswer::sign(&datagram.router, &datagram.principal, [7; 32], &identity);
        assert_eq!(answered(&mut link, guess), Err("not-reached".to_owned()));
        lab.attacker.ok(&format!("ip address del {victim}/{width} dev lo"));
    }
    assert_eq!(ping(&lab.lawful, VICTIM.into(), 3, ""), 3, "nothing is installed");
}

#[test]
fn an_address_without_its_key_shows_nothing() {
    let Some(_story) = story::begin("an_address_without_its_key_shows_nothing") else { return };
    let lab = Lab::new();
    let _router = Router::start(&lab, &required());
    let victim = IpAddr::from(VICTIM);
    let [near, far] = routers(victim);
    assert!(reaches(&lab.attacker, victim, LEARN_LIMIT));
    // Whoever sits at the victim's address hears what is sent there, and has a key of its own only.
    let (mut honest, identity) = link(&lab, &lab.victim, &victim.to_string(), near);
    let (mut spy, own) = link(&lab, &lab.attacker, &ATTACKER.to_string(), far);
    let ear = lab.victim.udp(SocketAddr::new(victim, 0));
    assert_eq!(ask_for_datagram(&mut honest, ear.local_addr().unwrap().port()), Reply::ReachSent);
    let datagram = heard(&ear).expect("a datagram");
    let (router, principal) = (datagram.router, datagram.principal);
    let with = |principal: &_, identity: &_| ReachAnswer::sign(&router, principal, datagram.nonce, identity);
    for (who, answer) in [
        ("the spy for the victim", with(&principal, &own)),
        ("the spy for itself", with(&own.principal().unwrap(), &own)),
        ("the victim's own answer in another session", with(&principal, &identity)),
    ] {
        assert_eq!(answered(&mut spy, answer), Err("not-reached".to_owned()), "{who}");
    }
    assert_eq!(answered(&mut honest, with(&principal, &own)), Err("not-reached".to_owned()));
    assert_eq!(answered(&mut honest, with(&principal, &identity)), Ok(()));
}

#[test]
fn an_edge_router_shows_that_its_prefix_is_routed_to_it() {
    let Some(_story) = story::begin("an_edge_router_shows_that_its_prefix_is_routed_to_it") else { return };
    let lab = Lab::new();
    let more = "[[route]]\nto = \"192.0.3.0/24\"\nvia = \"192.0.2.2\"\n\n[[route]]\nto = \"2001:db8:d::/64\"\nvia = \
                \"2001:db8:c::2\"\n";
    let _router = Router::start(&lab, &Config { more: more.to_owned(), ..required() });
    assert!(reaches(&lab.attacker, VICTIM.into(), LEARN_LIMIT));
    assert!(reaches(&lab.attacker, VICTIM6.into(), LEARN_LIMIT));
    let source = lab.dir().join("subnet.vnp");
    let text = "LIFETIME = 10 minutes\nOurs = GROUP_BY_DESTINATION(AllPackets,THIS_SUBNET_IP);\nDISCARD(Ours);\n";
    std::fs::write(&source, text).expect("the laboratory's folder can be written");
    let upload = format!("upload {}", source.display());
    for (principal, inside, router) in [
        ("192.0.3.1/24", "192.0.3.77", "192.0.2.1:7400"),
        ("2001:db8:d::1/64", "2001:db8:d::77", "[2001:db8:c::1]:7400"),
    ] {
        let width = if inside.contains(':') { 128 } else { 32 };
        lab.victim.address("lo", &format!("{inside}/{width}"));
        let inside: IpAddr = inside.parse().unwrap();
        assert!(reaches(&lab.attacker, inside, LEARN_LIMIT));
        // None of its addresses is that of the machine that speaks for it; packets to them only come by there.
        let edge = Client::new(&lab, &lab.victim, principal, router);
        edge.install(&upload);
        assert_eq!(ping(&lab.attacker, inside, 3, ""), 0);
    }
}

#[test]
fn the_datagram_takes_the_data_path_though_the_session_came_by_the_management_network() {
    let name = "the_datagram_takes_the_data_path_though_the_session_came_by_the_management_network";
    let Some(_story) = story::begin(name) else { return };
    let lab = Lab::new();
    // A management network between the router and the victim, on which no UDP would arrive.
    let is_udp = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17);
    let wire =
        Wire::join(
            (&lab.router, "mgmt"),
            (&lab.victim, "mgmt"),
            move |frame| {
                if is_udp(frame) { Fate::Lose } else { Fate::Pass }
            },
        );
    lab.router.address("mgmt", "10.9.9.1/24");
    lab.victim.address("mgmt", "10.9.9.2/24");
    let _router = Router::start(&lab, &Config { listen: vec!["10.9.9.1:7400".to_owned()], ..required() });
    assert!(reaches(&lab.attacker, VICTIM.into(), LEARN_LIMIT));
    // For the kernel's own packets the management network is even the better way to the victim.
    lab.router.ok("ip route add 192.0.2.2/32 via 10.9.9.2 dev mgmt table 100");
    lab.router.ok("ip rule add iif lo to 192.0.2.2 lookup 100");
    let probe = lab.router.udp("0.0.0.0:0".parse().unwrap());
    probe.send_to(b"by the kernel's choice", (VICTIM, 9)).expect("the kernel knows a way");
    let client = Client::new(&lab, &lab.victim, &VICTIM.to_string(), "10.9.9.1:7400");
    client.install(&format!("firewall --block {ATTACKER} --lifetime 10m"));
    assert_eq!(ping(&lab.attacker, VICTIM.into(), 3, ""), 0);
    assert_eq!(
        wire.kept(Fate::Lose).len(),
        1,
        "the kernel's choice was the management network, and nothing of the router's"
    );
}
