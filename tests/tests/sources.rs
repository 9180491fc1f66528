//! Sources that many owners discard: shut off for everyone, told so, and let back.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use vinet_session::Now;
use vinet_session::alert::Alert;
use vinet_session::identity::Authority;
use vinet_session::limits::VFIREWALL_PORT;
use vinet_tests::client::Client;
use vinet_tests::lab::{ATTACKER, ATTACKER6, LAWFUL, LAWFUL6, Lab, VICTIM, VICTIM6};
use vinet_tests::process::eventually;
use vinet_tests::router::{Config, Router};
use vinet_tests::story;
use vinet_tests::traffic::{ping, reaches, send_datagrams};

const LEARN_LIMIT: Duration = Duration::from_secs(5);
/// How long a shut-off, or its end, may take from its cause.
const CHANGE_LIMIT: Duration = Duration::from_secs(5);

/// The hosts' addresses in one family, one more of the victim's, and the routers' for the owners and the attacker.
struct Family {
    lawful: IpAddr,
    attacker: IpAddr,
    victim: IpAddr,
    neighbour: &'static str,
    /// The router as the victim, the lawful host and the attacker reach it.
    routers: [&'static str; 3],
}

fn families() -> [Family; 2] {
    [
        Family {
            lawful: LAWFUL.into(),
            attacker: ATTACKER.into(),
            victim: VICTIM.into(),
            neighbour: "192.0.2.3",
            routers: ["192.0.2.1", "203.0.113.1", "198.51.100.1"],
        },
        Family {
            lawful: LAWFUL6.into(),
            attacker: ATTACKER6.into(),
            victim: VICTIM6.into(),
            neighbour: "2001:db8:c::3",
            routers: ["2001:db8:c::1", "2001:db8:a::1", "2001:db8:b::1"],
        },
    ]
}

fn control(router: &str) -> String {
    SocketAddr::new(router.parse().expect("an address"), 7400).to_string()
}

/// Two owners shut a source off, and it comes back when one is left.
fn config(more: &str) -> Config {
    let sources = format!("[sources]\nshut_off_owners = 2\nshut_off_back_below = 2\n{more}");
    Config { reach: "required", more: sources, ..Config::default() }
}

/// The code of the next alert to the attacker, which the router signed.
fn alert(lab: &Lab, socket: &UdpSocket, about: IpAddr) -> String {
    socket.set_read_timeout(Some(CHANGE_LIMIT)).expect("a socket takes a time limit");
    let mut bytes = [0; 2048];
    let (len, _) = socket.recv_from(&mut bytes).expect("an alert to the source");
    let authority = Authority::load(&lab.dir().join("authority.pub")).expect("the authority");
    let now_s = Now::read(std::time::Instant::now()).wall_s;
    let alert = Alert::decode(&bytes[..len]).expect("an alert");
    let (router, terms) = alert.verify(&authority, |addr| addr == about.into(), now_s).expect("the router's word");
    assert_eq!(router.name(), "lab");
    assert!(terms.text().contains(&about.to_string()), "{}", terms.text());
    terms.code().to_owned()
}

#[test]
fn a_source_that_enough_owners_discard_is_shut_off_for_everyone_and_comes_back() {
    let name = "a_source_that_enough_owners_discard_is_shut_off_for_everyone_and_comes_back";
    let Some(_story) = story::begin(name) else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &config(""));
    for family in families() {
        let width = if family.victim.is_ipv4() { 24 } else { 64 };
        lab.victim.address("eth0", &format!("{}/{width}", family.neighbour));
        let neighbour: IpAddr = family.neighbour.parse().expect("an address");
        for to in [family.victim, neighbour, family.lawful] {
            assert!(reaches(&lab.attacker, to, LEARN_LIMIT));
        }
        let ear = lab.attacker.udp(SocketAddr::new(family.attacker, VFIREWALL_PORT));
        let victim = Client::new(&lab, &lab.victim, &family.victim.to_string(), &control(family.routers[0]));
        let lawful = Client::new(&lab, &lab.lawful, &family.lawful.to_string(), &control(family.routers[1]));
        let block = format!("firewall --block {} --lifetime 10m", family.attacker);
        victim.install(&block);
        // Neither a second program of the same owner nor a flood is a second owner.
        victim.install(&block.replace("10m", "11m"));
        let flood = lab.attacker.udp(SocketAddr::new(family.attacker, 0));
        send_datagrams(&flood, SocketAddr::new(family.victim, 9000), 500);
        assert_eq!(ping(&lab.attacker, family.victim, 3, ""), 0);
        assert_eq!(ping(&lab.attacker, neighbour, 3, ""), 3, "one owner is not enough");

        let second = lawful.install(&block);
        assert!(eventually(CHANGE_LIMIT, || ping(&lab.attacker, neighbour, 1, "") == 0), "it is shut off");
        assert_eq!(ping(&lab.attacker, neighbour, 3, ""), 0, "for those as well who discard nothing");
        assert_eq!(alert(&lab, &ear, family.attacker), "shut-off");
        // The router itself can be asked why; others are not touched.
        let to_router: IpAddr = family.routers[2].parse().expect("an address");
        assert_eq!(ping(&lab.attacker, to_router, 3, ""), 3);
        let shut_off = Client::new(&lab, &lab.attacker, &family.attacker.to_string(), &control(family.routers[2]));
        assert!(shut_off.list().is_empty());
        assert_eq!(ping(&lab.lawful, neighbour, 3, ""), 3);

        lawful.json(&format!("withdraw {second}"));
        assert!(eventually(CHANGE_LIMIT, || ping(&lab.attacker, neighbour, 1, "") == 1), "it is let back");
        assert_eq!(alert(&lab, &ear, family.attacker), "let-back");
        assert_eq!(ping(&lab.attacker, family.victim, 3, ""), 0, "what the victim's own programs discard they discard");
    }
    assert_eq!(router.counters().unaccounted(), 0);
}

#[test]
fn a_shut_off_ends_with_its_time_and_begins_again_after_the_respite() {
    let name = "a_shut_off_ends_with_its_time_and_begins_again_after_the_respite";
    let Some(_story) = story::begin(name) else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &config("shut_off_time_s = 2\nshut_off_respite_s = 2\n"));
    let family = &families()[0];
    lab.victim.address("eth0", &format!("{}/24", family.neighbour));
    let neighbour: IpAddr = family.neighbour.parse().expect("an address");
    for to in [family.victim, neighbour, family.lawful] {
        assert!(reaches(&lab.attacker, to, LEARN_LIMIT));
    }
    for (host, own, at) in [(&lab.victim, family.victim, 0), (&lab.lawful, family.lawful, 1)] {
        let client = Client::new(&lab, host, &own.to_string(), &control(family.routers[at]));
        client.install(&format!("firewall --block {} --lifetime 10m", family.attacker));
    }
    for (answers, what) in
        [(0, "shut off"), (1, "its time is up"), (0, "the respite is over and both still discard it")]
    {
        assert!(eventually(CHANGE_LIMIT, || ping(&lab.attacker, neighbour, 1, "") == answers), "{what}");
    }
    assert_eq!(router.counters().unaccounted(), 0);
}

#[test]
fn an_operator_sees_who_is_shut_off_and_lets_them_back() {
    let Some(_story) = story::begin("an_operator_sees_who_is_shut_off_and_lets_them_back") else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &config(""));
    let family = &families()[0];
    for to in [family.victim, family.lawful] {
        assert!(reaches(&lab.attacker, to, LEARN_LIMIT));
    }
    for (host, own, at) in [(&lab.victim, family.victim, 0), (&lab.lawful, family.lawful, 1)] {
        let client = Client::new(&lab, host, &own.to_string(), &control(family.routers[at]));
        client.install(&format!("firewall --block {} --lifetime 10m", family.attacker));
    }
    let phase = || router.ctl("shut-offs")["sources"][0]["phase"].as_str().map(str::to_owned);
    assert!(eventually(CHANGE_LIMIT, || phase().as_deref() == Some("off")));
    let seen = router.ctl("shut-offs");
    assert_eq!(
        (&seen["sources"][0]["source"], &seen["sources"][0]["owners"]),
        (&ATTACKER.to_string().into(), &2.into())
    );
    let answer = router.ctl(&format!("let-back {ATTACKER}"));
    assert_eq!(answer["let_back"], ATTACKER.to_string());
    // Both owners still discard it; it is back for everybody else, and for the respite.
    lab.victim.address("eth0", &format!("{}/24", family.neighbour));
    let neighbour = family.neighbour.parse().expect("an address");
    assert!(eventually(CHANGE_LIMIT, || ping(&lab.attacker, neighbour, 1, "") == 1));
    assert_eq!(ping(&lab.attacker, family.victim, 3, ""), 0);
    assert_eq!(
        (phase().as_deref(), &router.ctl("shut-offs")["counts"]["back_by_operator"]),
        (Some("respite"), &1.into())
    );
}

/// What is promised to programs: cycles a second, and bytes of state.
fn promised(router: &Router) -> (u64, u64) {
    let capacity = &router.ctl("sessions")["capacity"];
    let number = |key: &str| capacity[key].as_u64().unwrap_or_else(|| panic!("no {key} in {capacity}"));
    (number("cycles_per_second"), number("memory_bytes"))
}

#[test]
fn a_program_that_two_owners_share_is_counted_once_and_outlives_its_first_owner() {
    let name = "a_program_that_two_owners_share_is_counted_once_and_outlives_its_first_owner";
    let Some(_story) = story::begin(name) else { return };
    let lab = Lab::new();
    let router = Router::start(&lab, &Config::default());
    for family in families() {
        for to in [family.victim, family.lawful] {
            assert!(reaches(&lab.attacker, to, LEARN_LIMIT));
        }
        let victim = Client::new(&lab, &lab.victim, &family.victim.to_string(), &control(family.routers[0]));
        let lawful = Client::new(&lab, &lab.lawful, &family.lawful.to_string(), &control(family.routers[1]));
        let at_rest = promised(&router);
        // THIS_IP is a name in the program, so what both send has the same bytes.
        let block = format!("firewall --block {} --lifetime 10m --rate", family.attacker);
        let first = victim.install(&format!("{block} 20000"));
        let (of_first, _) = promised(&router);
        assert!(of_first > at_rest.0);
        let second = lawful.install(&format!("{block} 10000"));
        assert_eq!(promised(&router).0, of_first, "the slower one needs nothing more");
        for to in [family.victim, family.lawful] {
            assert_eq!(ping(&lab.attacker, to, 3, ""), 0);
        }
        let programs = |client: &Client<'_>| client.list()[0]["program"].as_str().map(str::to_owned);
        assert_eq!(programs(&victim), programs(&lawful));

        victim.json(&format!("withdraw {first}"));
        assert_eq!(ping(&lab.attacker, family.victim, 3, ""), 3);
        assert_eq!(ping(&lab.attacker, family.lawful, 3, ""), 0, "the second owner's goes on");
        assert_eq!(promised(&router).0 - at_rest.0, (of_first - at_rest.0) / 2, "what the slower one needs");
        lawful.json(&format!("withdraw {second}"));
        assert_eq!(ping(&lab.attacker, family.lawful, 3, ""), 3);
        assert_eq!(promised(&router), at_rest);
    }
    assert_eq!(router.counters().unaccounted(), 0);
}
